//! Events at a steady pace to a hundred programs, as a busy evening would be: how late each comes, and what it costs.

use std::time::Instant;

use anyhow::Result;

use super::{Depth, Measured, Rig, Scenario, quantile};
use crate::load::Audience;
use crate::peers::{Bridge, Peer, Server};

const RATE: u64 = 1000;
const SIZE: usize = 100;

pub(super) fn scenarios(depth: Depth) -> Vec<Scenario> {
    let programs = depth.choose(100, 100, 10);
    vec![Scenario::new("paced/1000 a second to 100", &Peer::BRIDGES, move |rig, peer| {
        pace(rig, peer, programs)
    })]
}

fn pace(rig: &Rig, peer: Peer, programs: usize) -> Result<Measured> {
    let mut server = Server::fast(&rig.programs)?;
    let bridge = Bridge::start(peer, &rig.programs, server.port)?;
    let mut audience = Audience::subscribe(bridge.socket(), programs)?;
    let mut pace = |count: u64| {
        let (start, cpu) = (Instant::now(), bridge.process.cpu()?);
        server.command(&format!("pace {RATE} {count} {SIZE}"))?;
        let heard = audience.hear(start, count, SIZE, true)?;
        anyhow::Ok((heard, bridge.process.cpu()? - cpu))
    };
    let count = rig.depth.choose(2 * RATE, RATE, 20);
    pace(count / 2)?;
    let (heard, cpu) = pace(count)?;
    let late: Vec<f64> = heard.late.iter().map(|nanoseconds| *nanoseconds as f64 / 1e3).collect();
    Ok(vec![
        ("p50 µs", quantile(&late, 0.5)),
        ("p99 µs", quantile(&late, 0.99)),
        ("CPU µs an event", cpu.as_secs_f64() * 1e6 / count as f64),
    ])
}
