//! A hundred programs that emit, each with sixteen answers to come.

use anyhow::Result;

use super::flood::warm_up;
use super::{Depth, Measured, Rig, Scenario};
use crate::load::Emitters;
use crate::peers::{Bridge, Peer, Server};

const IN_FLIGHT: usize = 16;
const SIZE: usize = 64;

pub(super) fn scenarios(depth: Depth) -> Vec<Scenario> {
    let programs = depth.choose(100, 100, 10);
    vec![Scenario::new("acks/100x16", &Peer::BRIDGES, move |rig, peer| acks(rig, peer, programs))]
}

fn acks(rig: &Rig, peer: Peer, programs: usize) -> Result<Measured> {
    let server = Server::fast(&rig.programs)?;
    let bridge = Bridge::start(peer, &rig.programs, server.port)?;
    let mut emitters = Emitters::attach(bridge.socket(), programs, SIZE)?;
    let count = warm_up(rig.depth.time(), |count| emitters.run(count, IN_FLIGHT))?;
    let cpu = bridge.process.cpu()?;
    let taken = emitters.run(count, IN_FLIGHT)?;
    let cpu = bridge.process.cpu()? - cpu;
    let answers = count as f64 * programs as f64;
    Ok(vec![("acks/s", answers / taken.as_secs_f64()), ("CPU µs an ack", cpu.as_secs_f64() * 1e6 / answers)])
}
