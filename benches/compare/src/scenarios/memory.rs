//! Resident memory: with one connection, with a thousand programs that hear nothing, after they left, and with a hundred
//! more connections.

use std::time::Instant;

use anyhow::Result;

use super::{Depth, Measured, Rig, Scenario};
use crate::load::Audience;
use crate::peers::{Bridge, Peer, Program, Server};

/// Heard before anything is measured, so that what traffic takes at first is not counted for programs.
const TRAFFIC: u64 = 1000;
const SIZE: usize = 100;

pub(super) fn scenarios(depth: Depth) -> Vec<Scenario> {
    let (programs, connections) = (depth.choose(1000, 1000, 50), depth.choose(100, 100, 10));
    vec![
        Scenario::new("memory/programs", &Peer::ALL, move |rig, peer| of_programs(rig, peer, programs)),
        Scenario::new("memory/connections", &[Peer::Siod], move |rig, peer| {
            of_connections(rig, peer, connections)
        }),
    ]
}

fn of_programs(rig: &Rig, peer: Peer, count: usize) -> Result<Measured> {
    let mut server = Server::fast(&rig.programs)?;
    if peer == Peer::Direct {
        let mut program = Program::direct(&rig.programs, server.port)?;
        program.ready()?;
        return Ok(vec![("idle KiB", program.process.settled_rss()? as f64)]);
    }
    let bridge = Bridge::start(peer, &rig.programs, server.port)?;
    let fresh = bridge.process.settled_rss()? as f64;
    let mut one = Audience::subscribe(bridge.socket(), 1)?;
    let start = Instant::now();
    server.command(&format!("flood {TRAFFIC} {SIZE}"))?;
    one.hear(start, TRAFFIC, SIZE, false)?;
    let idle = bridge.process.settled_rss()? as f64;
    let many = Audience::subscribe(bridge.socket(), count)?;
    let full = bridge.process.settled_rss()? as f64;
    drop(many);
    let after = bridge.process.settled_rss()? as f64;
    Ok(vec![
        ("idle KiB", fresh),
        ("idle after traffic KiB", idle),
        ("KiB a program", (full - idle) / count as f64),
        ("left to idle", after / idle),
    ])
}

fn of_connections(rig: &Rig, peer: Peer, count: usize) -> Result<Measured> {
    let mut server = Server::fast(&rig.programs)?;
    let bridge = Bridge::start(peer, &rig.programs, server.port)?;
    let mut client = bridge.client()?;
    let idle = bridge.process.settled_rss()? as f64;
    for index in 0..count {
        let params = format!(
            r#"{{"name":"more{index}","url":"http://127.0.0.1:{}","force_new":true,"transports":["websocket"]}}"#,
            server.port
        );
        client.ask(format!("{{\"id\":{index},\"method\":\"open\",\"params\":{params}}}\n").as_bytes())?;
    }
    server.command(&format!("wait {}", count + 1))?;
    let full = bridge.process.settled_rss()? as f64;
    Ok(vec![("KiB a connection", (full - idle) / count as f64)])
}
