//! One of ten programs does not read: what that costs in memory, and the nine others.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Measured, Rig, Scenario};
use crate::load::{Audience, Client, Heard};
use crate::peers::{Bridge, Peer, Server};

const SIZE: usize = 1024;
const HEALTHY: usize = 9;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("stall/one of ten", &[Peer::Siod], stall)]
}

fn stall(rig: &Rig, peer: Peer) -> Result<Measured> {
    // Less would fit into the ring and the sockets, and nobody would be stalled.
    let count = rig.depth.choose(200_000, 200_000, 20_000);
    let (without, _) = pour(rig, peer, count, false)?;
    let (with, growth) = pour(rig, peer, count, true)?;
    let pause = &with.pause;
    ensure!(
        pause.length > rig.programs.stall / 2,
        "nobody was waited for: the longest pause was {:?}",
        pause.length
    );
    let after = (with.deliveries - pause.deliveries) as f64 / (with.taken - pause.end).as_secs_f64();
    let healthy = without.deliveries as f64 / without.taken.as_secs_f64();
    Ok(vec![
        ("growth KiB", growth),
        ("rate to that without", after / healthy),
        ("deliveries/s", after),
        ("pause s", pause.length.as_secs_f64()),
    ])
}

fn pour(rig: &Rig, peer: Peer, count: u64, with_stalled: bool) -> Result<(Heard, f64)> {
    let mut server = Server::fast(&rig.programs)?;
    let bridge = Bridge::start(peer, &rig.programs, server.port)?;
    let mut audience = Audience::subscribe(bridge.socket(), HEALTHY)?;
    let mut last: Client = bridge.client()?;
    if with_stalled {
        last.subscribe()?;
    }
    let before = bridge.process.settled_rss()? as f64;
    bridge.process.forget_peak()?;
    let start = Instant::now();
    server.command(&format!("flood {count} {SIZE}"))?;
    let heard = audience.hear(start, count, SIZE, false)?;
    Ok((heard, bridge.process.peak()? as f64 - before))
}
