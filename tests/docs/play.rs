//! Plays an example of `docs/api.md`: programs, the daemon, and a server that says what the example says.
//!
//! | line | |
//! | --- | --- |
//! | `→ …`, `name → …` | a program sends a line; it attaches with its first |
//! | `← …`, `name ← …` | the next line it reads (see `common::transcript`) |
//! | `⇒ …` | the next packet that the server gets, `<00 01>` for bytes |
//! | `⇐ …` | a packet of the server |
//! | `(…)` | a stage direction, listed in [`Play::direct`] |
//!
//! An indented line goes on with the one before. `http://chat.example.com` is the server. `…name` as a value is
//! captured by the first `←` that has it and put into every `→` that follows.

use std::collections::HashMap;

use rustix::process::Signal;

use crate::common::upstream::OPEN;
use crate::common::{Consumer, Daemon, QUICK, Upstream, Ws};

const SERVER: &str = "http://chat.example.com";

pub(crate) struct Play {
    programs: HashMap<String, Consumer>,
    daemon: Daemon,
    upstream: Upstream,
    ws: Option<Ws>,
    captured: HashMap<String, String>,
    config: String,
}

impl Play {
    /// `scene` is `alone` (no connection), `idle` (`chat`, not started) or `connected`.
    pub(crate) async fn start(scene: &str) -> Self {
        let mut upstream = Upstream::start().await;
        let chat = format!("[connections.chat]\nurl = \"{}\"\n", upstream.url());
        let config = if scene == "alone" { QUICK.to_owned() } else { format!("{QUICK}{chat}") };
        let daemon = Daemon::start(&config).await;
        let mut program = daemon.attach().await;
        let ws = match scene {
            "alone" | "idle" => None,
            "connected" => {
                program
                    .send(r#"{"id":0,"method":"connect","params":{"connection":"chat","wait":20000}}"#)
                    .await;
                let ws = upstream.joined().await;
                program.expect(r#"{"jsonrpc":"2.0","id":0,"result":{"connected":true,"…":…}}"#).await;
                Some(ws)
            }
            other => panic!("there is no scene {other:?}"),
        };
        let programs = HashMap::from([(String::new(), program)]);
        Self { programs, daemon, upstream, ws, captured: HashMap::new(), config }
    }

    pub(crate) async fn run(mut self, example: &str) {
        for line in joined(example) {
            if let Some(packet) = line.strip_prefix("⇒ ") {
                let ws = self.ws.as_mut().expect("a WebSocket is open");
                match bytes(packet) {
                    Some(bytes) => ws.expect_binary(&bytes).await,
                    None => ws.expect(packet).await,
                }
            } else if let Some(packet) = line.strip_prefix("⇐ ") {
                let ws = self.ws.as_mut().expect("a WebSocket is open");
                match bytes(packet) {
                    Some(bytes) => ws.send_binary(&bytes).await,
                    None => ws.send(packet).await,
                }
            } else if let Some(direction) = line.strip_prefix('(') {
                self.direct(direction.trim_end_matches(')')).await;
            } else if let Some((name, request)) = line.split_once("→ ") {
                let request = self.filled(request);
                self.program(name).await.send(&request).await;
            } else if let Some((name, expected)) = line.split_once("← ") {
                self.hear(name, expected).await;
            } else {
                panic!("this line says nothing: {line}");
            }
        }
    }

    async fn direct(&mut self, direction: &str) {
        match direction {
            "siod opens a WebSocket" => {
                let mut ws = self.upstream.accept_ws().await;
                ws.send(OPEN).await;
                self.ws = Some(ws);
            }
            "the server refuses the WebSocket with 503" => self.upstream.handshake().await.refuse(503).await,
            "the server goes away" => self.ws.take().expect("a WebSocket is open").hang_up().await,
            "the program shuts its writing side" => self.program("").await.shut_writing(),
            "siod is told to end" => self.daemon.signal(Signal::TERM),
            "the configuration gets a connection lobby" => {
                self.configure("[connections.lobby]\nurl = \"http://chat.example.com/lobby\"\n");
            }
            "the configuration gets a line with a mistake" => self.configure("colour = \"red\"\n"),
            "siod closes" => self.program("").await.expect_end().await,
            other => panic!("there is no stage direction {other:?}"),
        }
    }

    fn configure(&mut self, more: &str) {
        self.config.push_str(&more.replace(SERVER, &self.upstream.url()));
        self.daemon.folder().configure(&self.config);
    }

    async fn program(&mut self, name: &str) -> &mut Consumer {
        let name = name.trim();
        if !self.programs.contains_key(name) {
            let program = self.daemon.attach().await;
            self.programs.insert(name.to_owned(), program);
        }
        self.programs.get_mut(name).expect("it was just put there")
    }

    async fn hear(&mut self, name: &str, expected: &str) {
        let expected = self.filled(expected);
        let captures = self.program(name).await.expect(&expected).await;
        for hole in holes(&expected) {
            self.captured.insert(hole.to_owned(), captures[hole].to_owned());
        }
    }

    /// The line with what was captured and with the server's real address.
    fn filled(&self, line: &str) -> String {
        let line = line.replace(SERVER, &self.upstream.url());
        self.captured
            .iter()
            .fold(line, |line, (name, value)| line.replace(&format!(":…{name}"), &format!(":{value}")))
    }
}

/// The names of holes that stand as a member's value.
fn holes(line: &str) -> impl Iterator<Item = &str> {
    let name = |rest: &str| rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
    line.split(":…").skip(1).map(move |rest| &rest[..name(rest)]).filter(|name| !name.is_empty())
}

fn joined(example: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in example.lines() {
        match lines.last_mut() {
            Some(last) if line.starts_with(' ') => last.push_str(line.trim_start()),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// Bytes written as `<00 01>`.
fn bytes(packet: &str) -> Option<Vec<u8>> {
    let hex = packet.strip_prefix('<')?.strip_suffix('>')?;
    Some(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect())
}
