//! The server restarts in the middle of a flood, and floods whoever comes back.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{Measured, Rig, Scenario};
use crate::load::{Client, shown};
use crate::peers::{Bridge, Peer, Server};
use crate::wire::now_ns;

const BEFORE: u64 = 20_000;
const AFTER: u64 = 20_000;
const SIZE: usize = 100;
/// How long the server is away.
const AWAY_MS: u64 = 120;

const SUBSCRIBE: &[u8] =
    b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"subscribe\",\"params\":{\"connection\":\"c\"}}\n";

pub(super) fn scenarios() -> Vec<Scenario> {
    let peers = [Peer::Siod, Peer::Node, Peer::Tuned, Peer::Python];
    vec![Scenario::new("recovery/restart", &peers, recover)]
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
struct Params<'a> {
    seq: u64,
    event: &'a str,
    /// Of an event of the server: its number, its time and its text.
    args: Option<(u64, u64, &'a str)>,
}

fn recover(rig: &Rig, peer: Peer) -> Result<Measured> {
    let mut server = Server::fast(&rig.programs)?;
    let bridge = Bridge::start(peer, &rig.programs, server.port)?;
    let mut program = bridge.client()?;
    program.ask(SUBSCRIBE)?;
    server.command(&format!("greet {AFTER} {SIZE}"))?;
    server.command(&format!("flood {BEFORE} {SIZE}"))?;
    server.command(&format!("restart {AWAY_MS}"))?;
    let mut last = None;
    hear(&mut program, BEFORE, &mut last).context("before the server went")?;
    let (came, first) = hear(&mut program, AFTER, &mut last).context("when the server was back")?;
    Ok(vec![("ms to the first event", first.saturating_sub(came) as f64 / 1e6)])
}

/// All events of one session; gives the time in them, and when the first came.
fn hear(program: &mut Client, count: u64, last: &mut Option<u64>) -> Result<(u64, u64)> {
    let (mut next, mut times) = (0, (0, 0));
    while next < count {
        let line = program.line()?;
        let now = now_ns();
        let parsed: Line<'_> = serde_json::from_slice(&line).with_context(|| shown(&line))?;
        let Params { seq, event, args } = parsed.params;
        ensure!(last.is_none_or(|last| seq == last + 1), "seq {seq} came after {last:?}");
        *last = Some(seq);
        // All else is what the bridge says of the connection.
        let Some((number, time, text)) = args else { continue };
        ensure!(
            event == "n" && number == next && text.len() == SIZE,
            "event {next} was expected: {}",
            shown(&line)
        );
        if next == 0 {
            times = (time, now);
        }
        next += 1;
    }
    Ok(times)
}
