//! A daemon with the connection `chat`, whose server answers what the README asks, for programs that are run.

use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::common::tap::Tap;
use crate::common::{Consumer, Daemon, QUICK, Upstream, Ws, within};

pub(crate) struct Stage {
    /// Where programs attach.
    tap: Tap,
    _daemon: Daemon,
    watcher: Consumer,
    to_server: mpsc::Sender<&'static str>,
    _server: JoinSet<()>,
    _upstream: Upstream,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let mut upstream = Upstream::start().await;
        let daemon =
            Daemon::start(&format!("{QUICK}[connections.chat]\nurl = \"{}\"\n", upstream.url())).await;
        let mut watcher = daemon.attach().await;
        watcher.send(r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":20000}}"#).await;
        let ws = upstream.joined().await;
        watcher.expect(r#"{"jsonrpc":"2.0","id":1,"result":{"connected":true,"…":…}}"#).await;
        watcher
            .call(r#"{"id":2,"method":"subscribe"}"#, r#"{"jsonrpc":"2.0","id":2,"result":{"…":…}}"#)
            .await;
        let (to_server, packets) = mpsc::channel(1);
        let mut server = JoinSet::new();
        server.spawn(serve(ws, packets));
        let tap = Tap::on(&daemon.folder().socket());
        Self { tap, _daemon: daemon, watcher, to_server, _server: server, _upstream: upstream }
    }

    /// The server sends this, and the daemon has it when this returns.
    pub(crate) async fn server_sends(&mut self, packet: &'static str) {
        self.to_server.send(packet).await.expect("the server runs");
        self.watcher.next_notification().await;
    }

    /// Runs a program to its end, which must be a good one; gives what it printed.
    pub(crate) async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output: Output = within(program, command(&self.tap.socket(), program, arguments).output())
            .await
            .expect("it starts");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success(), "{program} {arguments:?}: {}\n{text}", output.status);
        text
    }
}

/// A command that finds this crate's `siod`, and this socket in its environment.
fn command(socket: &Path, program: &str, arguments: &[&str]) -> Command {
    let bin = Path::new(env!("CARGO_BIN_EXE_siod")).parent().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("SIOD_SOCKET", socket)
        // With it a line is several writes, and those of several programs mix.
        .env_remove("PYTHONUNBUFFERED")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    command
}

/// A program that runs; killed when dropped, with those it has started. What they hear is held against the schema.
pub(crate) struct Listening {
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    group: Option<Pid>,
    _child: Child,
    _tap: Tap,
}

impl Listening {
    /// Runs a script of a shell in `folder`; it may leave others behind that go on.
    pub(crate) fn start(daemon: &Daemon, folder: &Path, script: &str) -> Self {
        let tap = Tap::on(&daemon.folder().socket());
        let mut command = command(&tap.socket(), "sh", &["-euc", script]);
        let mut child = command.current_dir(folder).process_group(0).spawn().expect("a shell");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Self {
            group: child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw),
            lines,
            _child: child,
            _tap: tap,
        }
    }

    pub(crate) async fn line(&mut self) -> String {
        let line = within("a line of the program", self.lines.next_line()).await;
        line.expect("UTF-8").expect("the program goes on")
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // One that has ended meanwhile needs nothing more.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Sends what it is told, and answers every question with 5.
async fn serve(mut ws: Ws, mut packets: mpsc::Receiver<&'static str>) {
    loop {
        tokio::select! {
            Some(packet) = packets.recv() => ws.send(packet).await,
            text = ws.next_text_or_end() => {
                let Some(text) = text else { return };
                let id = text.trim_start_matches("42").split('[').next().unwrap_or_default();
                if !id.is_empty() {
                    ws.send(&format!("43{id}[5]")).await;
                }
            }
        }
    }
}

/// Whether a program is installed; a test that cannot do without it says that it was left out.
pub(crate) fn is_there(program: &str) -> bool {
    let there = std::process::Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        eprintln!("{program} is not installed: what needs it is left out");
    }
    there
}
