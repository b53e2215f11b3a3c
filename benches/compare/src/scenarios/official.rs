//! The official server upstream. It writes each event by itself, so that nothing comes in batches unless the bridge falls
//! behind; it is slower than every bridge, and the CPU time for an event is what tells them apart.

use std::time::Instant;

use anyhow::Result;

use super::flood::warm_up;
use super::{Measured, Rig, Scenario};
use crate::load::Audience;
use crate::peers::{Bridge, Peer, Server};

const SIZE: usize = 100;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("official/100x1", &Peer::BRIDGES, official)]
}

fn official(rig: &Rig, peer: Peer) -> Result<Measured> {
    let mut server = Server::official(&rig.programs)?;
    let bridge = Bridge::start(peer, &rig.programs, server.port)?;
    let mut audience = Audience::subscribe(bridge.socket(), 1)?;
    let mut pour = |count: u64| {
        let (start, cpu) = (Instant::now(), bridge.process.cpu()?);
        let flood = format!("flood {count} {SIZE}");
        server.begin(&flood)?;
        let heard = audience.hear(start, count, SIZE, false)?;
        server.done(&flood)?;
        anyhow::Ok((heard, bridge.process.cpu()? - cpu))
    };
    let count = warm_up(rig.depth.time(), |count| pour(count).map(|(heard, _)| heard.taken))?;
    let (heard, cpu) = pour(count)?;
    Ok(vec![
        ("CPU µs an event", cpu.as_secs_f64() * 1e6 / count as f64),
        ("events/s", count as f64 / heard.taken.as_secs_f64()),
    ])
}
