//! A daemon that the test itself is, and what it says.

use std::future::Future;
use std::io::ErrorKind;
use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

use crate::common::{schema, transcript};

pub(crate) const SENT: &str = r#""result":{"status":"sent","active":true}"#;
pub(crate) const UNKNOWN: &str =
    r#""error":{"code":-32000,"message":"no connection \u001b[31mx","data":{"kind":"unknown_connection"}}"#;
pub(crate) const HELLO: &str = r#""method":"hello","params":{"client":"siod listen"}"#;
pub(crate) const GOODBYE: &str = r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"shutdown"}}"#;
pub(crate) const AGAIN: &str = "siod: attached again\n";

pub(crate) fn event(connection: &str, seq: u64) -> String {
    let params = format!(r#"{{"connection":"{connection}","seq":{seq},"event":"e","args":[1.50, 2]}}"#);
    format!(r#"{{"jsonrpc":"2.0","method":"event","params":{params}}}"#)
}

pub(crate) fn subscribe(params: &str) -> String {
    format!(r#""method":"subscribe","params":{{{params}}}"#)
}

pub(crate) fn resume(connection: &str, more: &str, stream: &str, seq: u64) -> String {
    subscribe(&format!(r#""connection":"{connection}",{more}"after":{{"stream":"{stream}","seq":{seq}}}"#))
}

/// The answer to a subscription.
pub(crate) fn subscribed(stream: &str, snapshots: &[(&str, u64)], replayed: u64, missed: &str) -> String {
    let snapshots: Vec<_> = snapshots
        .iter()
        .map(|(name, seq)| format!(r#"{{"name":"{name}","state":"connected","seq":{seq}}}"#))
        .collect();
    let snapshots = snapshots.join(",");
    format!(
        r#""result":{{"subscription":1,"stream":"{stream}","connections":[{snapshots}],"replayed":{replayed},"missed":{missed}}}"#
    )
}

/// A socket on which the test itself is the daemon.
pub(crate) struct Daemon {
    listener: UnixListener,
    dir: TempDir,
}

/// One program attached to it.
pub(crate) struct Peer(pub(crate) BufReader<UnixStream>);

impl Daemon {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { listener: UnixListener::bind(dir.path().join("siod.sock")).unwrap(), dir }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.dir.path()
    }

    pub(crate) fn siod(&self, args: &[&str]) -> Command {
        let mut siod = Command::new(env!("CARGO_BIN_EXE_siod"));
        siod.args(args).env("SIOD_SOCKET", self.dir.path().join("siod.sock"));
        siod
    }

    pub(crate) async fn accept(&self) -> Peer {
        Peer(BufReader::new(within(self.listener.accept()).await.unwrap().0))
    }

    /// Runs the program to its end, with the test's half of the talk.
    pub(crate) async fn serve(&self, siod: Command, talk: impl AsyncFnOnce(&mut Peer)) -> Output {
        let child = spawn(siod);
        let mut peer = self.accept().await;
        talk(&mut peer).await;
        drop(peer);
        within(child.wait_with_output()).await.unwrap()
    }

    /// Runs a program that asks for one thing.
    pub(crate) async fn answers(
        self,
        args: &[&str],
        request: &str,
        answer: &str,
        code: i32,
        stdout: &str,
        stderr: &str,
    ) {
        let output = self
            .serve(self.siod(args), async |peer| {
                peer.expect(1, request).await;
                peer.answer(1, answer).await;
                peer.gone().await;
            })
            .await;
        check(&output, code, stdout, stderr);
    }
}

impl Peer {
    /// Reads one request of a great many that are alike.
    pub(crate) async fn expect_another(&mut self, id: u64, request: &str) -> String {
        let mut line = String::new();
        within(self.0.read_line(&mut line)).await.unwrap();
        assert_eq!(line, format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{request}}}\n"));
        line
    }

    /// Reads one request, which has to be one of the schema.
    pub(crate) async fn expect(&mut self, id: u64, request: &str) {
        let line = self.expect_another(id, request).await;
        let value = transcript::value(line.trim_end()).unwrap();
        let (method, params) = (value["method"].as_str().unwrap(), &value["params"]);
        schema::check_params(method, params).and_then(|()| schema::check("Request", &value)).unwrap();
    }

    pub(crate) async fn answer(&mut self, id: u64, answer: &str) {
        self.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#)).await;
    }

    pub(crate) async fn say(&mut self, line: &str) {
        within(self.0.write_all(format!("{line}\n").as_bytes())).await.unwrap();
    }

    /// Waits until the program closes.
    pub(crate) async fn gone(&mut self) {
        let mut rest = Vec::new();
        let end = within(self.0.read_to_end(&mut rest)).await;
        // A program that leaves something unread resets; it is gone all the same.
        assert!(!end.is_err_and(|error| error.kind() != ErrorKind::ConnectionReset));
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    /// Closes, as a daemon that ends.
    pub(crate) fn leave(&mut self) {
        self.0 = BufReader::new(UnixStream::pair().unwrap().0);
    }
}

pub(crate) fn spawn(mut siod: Command) -> Child {
    siod.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    siod.kill_on_drop(true).spawn().unwrap()
}

#[track_caller]
pub(crate) fn check(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(found, (Some(code), stdout.to_owned(), stderr.to_owned()));
}

/// What hangs fails instead.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("took longer than 30 s")
}
