//! Ten Node programs that read what they hear: at the local socket, or each with a connection of its own. What counts is
//! the CPU time of all of them and of what they share.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::flood::warm_up;
use super::{Measured, Rig, Scenario};
use crate::peers::{Bridge, Peer, Program, Server};

const PROGRAMS: u64 = 10;
const SIZE: usize = 1024;

pub(super) fn scenarios() -> Vec<Scenario> {
    let peers = [Peer::Siod, Peer::Relay, Peer::Tuned, Peer::Direct];
    vec![Scenario::new("parse/1024x10", &peers, parse)]
}

fn parse(rig: &Rig, peer: Peer) -> Result<Measured> {
    let mut server = Server::fast(&rig.programs)?;
    let bridge = match peer {
        Peer::Direct => None,
        shared => Some(Bridge::start(shared, &rig.programs, server.port)?),
    };
    let mut programs = Vec::new();
    for _ in 0..PROGRAMS {
        programs.push(match &bridge {
            Some(bridge) => Program::attached(&rig.programs, bridge.socket())?,
            None => Program::direct(&rig.programs, server.port)?,
        });
    }
    programs.iter_mut().try_for_each(Program::ready)?;
    server.command(&format!("wait {}", if bridge.is_some() { 1 } else { PROGRAMS }))?;
    let cpu = |programs: &[Program]| {
        let mut all: Duration = programs.iter().map(|program| program.process.cpu()).sum::<Result<_>>()?;
        if let Some(bridge) = &bridge {
            all += bridge.process.cpu()?;
        }
        anyhow::Ok(all)
    };
    let mut pour = |count: u64| {
        programs.iter_mut().try_for_each(|program| program.expect(count))?;
        let (start, before) = (Instant::now(), cpu(&programs)?);
        server.command(&format!("flood {count} {SIZE}"))?;
        programs.iter_mut().try_for_each(Program::heard)?;
        anyhow::Ok((start.elapsed(), cpu(&programs)? - before))
    };
    let count = warm_up(rig.depth.time(), |count| pour(count).map(|(taken, _)| taken))?;
    let (taken, cpu) = pour(count)?;
    let deliveries = (count * PROGRAMS) as f64;
    Ok(vec![
        ("CPU s per million", cpu.as_secs_f64() / deliveries * 1e6),
        ("deliveries/s", deliveries / taken.as_secs_f64()),
    ])
}
