//! A server that sends as fast as it can, to so many programs.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Depth, Measured, Rig, Scenario, count_for};
use crate::load::Audience;
use crate::peers::{Bridge, Peer, Server};

/// Bytes of the text, and programs, of which the goals are.
const OF_GOALS: [(usize, usize); 6] =
    [(100, 1), (100, 10), (100, 100), (100, 1000), (1024, 100), (16 * 1024, 10)];

pub(super) fn scenarios(depth: Depth) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for size in [100, 1024, 16 * 1024] {
        for programs in [1, 10, 100, 1000] {
            if depth != Depth::Full && !OF_GOALS.contains(&(size, programs)) {
                continue;
            }
            let work = move |rig: &Rig, peer| flood(rig, peer, size, programs);
            scenarios.push(Scenario::new(format!("flood/{size}x{programs}"), &Peer::BRIDGES, work));
        }
    }
    scenarios
}

fn flood(rig: &Rig, peer: Peer, size: usize, programs: usize) -> Result<Measured> {
    let mut server = Server::fast(&rig.programs)?;
    let bridge = Bridge::start(peer, &rig.programs, server.port)?;
    let mut audience = Audience::subscribe(bridge.socket(), programs)?;
    let mut pour = |count: u64| {
        let (start, cpu) = (Instant::now(), bridge.process.cpu()?);
        server.command(&format!("flood {count} {size}"))?;
        let heard = audience.hear(start, count, size, false)?;
        anyhow::Ok((heard, bridge.process.cpu()? - cpu))
    };
    let count = warm_up(rig.depth.time(), |count| pour(count).map(|(heard, _)| heard.taken))?;
    let (heard, cpu) = pour(count)?;
    let deliveries = heard.deliveries as f64;
    Ok(vec![
        ("deliveries/s", deliveries / heard.taken.as_secs_f64()),
        ("CPU s per million", cpu.as_secs_f64() / deliveries * 1e6),
    ])
}

/// Does more and more until it takes a fourth of `time`, and then half of it, by when compilers at run time have done
/// their work; gives how many take all of it.
pub(super) fn warm_up(time: Duration, mut pour: impl FnMut(u64) -> Result<Duration>) -> Result<u64> {
    let mut count = 16;
    loop {
        let taken = pour(count)?;
        if taken >= time / 4 {
            let half = count_for(time / 2, count, taken);
            return Ok(count_for(time, half, pour(half)?));
        }
        count *= 4;
    }
}
