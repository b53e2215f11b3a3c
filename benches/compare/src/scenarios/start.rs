//! From the start of the process to the first answer that comes back through it.

use anyhow::Result;

use super::{Measured, Rig, Scenario};
use crate::peers::{Bridge, Peer, Server};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("start/first ack", &Peer::BRIDGES, start)]
}

fn start(rig: &Rig, peer: Peer) -> Result<Measured> {
    let server = Server::fast(&rig.programs)?;
    let mut times = Vec::new();
    for _ in 0..rig.depth.choose(5, 3, 1) {
        let (_bridge, taken) = Bridge::start_timed(peer, &rig.programs, server.port)?;
        times.push(taken.as_secs_f64() * 1e3);
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(vec![("ms", super::quantile(&times, 0.5))])
}
