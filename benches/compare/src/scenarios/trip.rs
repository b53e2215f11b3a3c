//! One emit and its answer, one after the other: all processes on one core, so that a trip is the sum of the work on its
//! way, and placed freely.

use std::time::Instant;

use anyhow::Result;

use super::{Measured, OneCore, Rig, Scenario, micros, quantile};
use crate::load::Trip;
use crate::peers::{Bridge, Peer, Program, Server};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for size in [64, 4096] {
        for (place, on_one_core) in [("one core", true), ("free", false)] {
            let work = move |rig: &Rig, peer| trip(rig, peer, size, on_one_core);
            scenarios.push(Scenario::new(format!("trip/{size}/{place}"), &Peer::ALL, work));
        }
    }
    scenarios
}

fn trip(rig: &Rig, peer: Peer, size: usize, on_one_core: bool) -> Result<Measured> {
    let _core = on_one_core.then(OneCore::hold).transpose()?;
    let server = Server::fast(&rig.programs)?;
    let time = rig.depth.time();
    let (mut times, cpu) = if peer == Peer::Direct {
        let mut program = Program::direct(&rig.programs, server.port)?;
        program.ready()?;
        let mut ask = |time: std::time::Duration| {
            program.process.write(&format!("trip {size} {}", time.as_millis()))?;
            let cpu = program.process.cpu()?;
            let times: Vec<f64> = serde_json::from_str(&program.process.line()?)?;
            anyhow::Ok((times, program.process.cpu()? - cpu))
        };
        ask(time / 2)?;
        let (times, cpu) = ask(time)?;
        (times.into_iter().map(|nanoseconds| nanoseconds / 1e3).collect(), cpu)
    } else {
        let bridge = Bridge::start(peer, &rig.programs, server.port)?;
        let (mut client, mut trip) = (bridge.client()?, Trip::new(size));
        let warm = Instant::now();
        while warm.elapsed() < time / 2 {
            client.trip(&mut trip)?;
        }
        let (start, cpu) = (Instant::now(), bridge.process.cpu()?);
        let mut times = Vec::new();
        while start.elapsed() < time {
            times.push(micros(client.trip(&mut trip)?));
        }
        (times, bridge.process.cpu()? - cpu)
    };
    times.sort_unstable_by(f64::total_cmp);
    Ok(vec![
        ("p50 µs", quantile(&times, 0.5)),
        ("p99 µs", quantile(&times, 0.99)),
        ("CPU µs a trip", micros(cpu) / times.len() as f64),
    ])
}
