//! The official server and client, run by Node.
//!
//! The packages are installed once, by `npm ci`, into the target folder; test processes that run at the same time
//! wait for the one that installs. Without Node or npm the tests that need them fail and say so.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::within;

const PACKAGE: &str = include_str!("../node/package.json");
const LOCK: &str = include_str!("../node/package-lock.json");

/// Ways to the server: the daemon's options, and the transport it ends up on.
pub const WAYS: &[(&str, &str)] = &[
    (r#"transports = ["websocket"]"#, "websocket"),
    (r#"transports = ["polling"]"#, "polling"),
    (r#"transports = ["polling", "websocket"]"#, "websocket"),
];

/// The official server on a port of loopback.
pub struct NodeServer {
    script: Script,
    port: u16,
}

impl NodeServer {
    /// `options` is the JSON object that `tests/node/server.mjs` describes.
    pub async fn start(options: &str) -> Self {
        let mut script = Script::start("server.mjs", &[options]).await;
        let port = script.line().await.parse().expect("the server prints its port first");
        Self { script, port }
    }

    /// `http://127.0.0.1:port`, without a path.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Carries out a command, a JSON object whose first member is `do`, and waits until it has taken effect.
    pub async fn command(&mut self, command: &str) {
        self.script.write(command).await;
        let done = self.script.line().await;
        assert!(command.contains(&format!(r#""do":"{done}""#)), "the server answered {done} to {command}");
    }
}

/// A running script of `tests/node`, killed when dropped.
pub struct Script {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Script {
    /// Runs `name` with the folder of the installed packages and then `arguments`.
    pub async fn start(name: &str, arguments: &[&str]) -> Self {
        let modules =
            tokio::task::spawn_blocking(modules).await.expect("Node's packages are installed by now");
        let mut child = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node").join(name))
            .arg(modules)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("these tests need Node, and `node` cannot be started: {error}"));
        let input = child.stdin.take().expect("stdin is piped");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Self { input, output, _child: child }
    }

    pub async fn write(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("the script reads");
    }

    pub async fn line(&mut self) -> String {
        let line = within("a line of the script", self.output.next_line()).await;
        line.expect("the script writes UTF-8").expect("the script has not ended")
    }
}

/// The folder that holds `node_modules`, filled on first use.
fn modules() -> PathBuf {
    let mut hash = DefaultHasher::new();
    (PACKAGE, LOCK).hash(&mut hash);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is inside the target folder");
    let folder = target.join(format!("siod-node-{:016x}", hash.finish()));
    install(&folder).unwrap_or_else(|error| {
        panic!(
            "these tests need Node's packages, and installing them in {} failed: {error}",
            folder.display()
        )
    });
    folder
}

/// The marker is written last, so a folder that has it is complete.
fn install(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let lock = File::create(folder.join("installing"))?;
    lock.lock()?;
    let marker = folder.join("complete");
    if marker.exists() {
        return Ok(());
    }
    fs::write(folder.join("package.json"), PACKAGE)?;
    fs::write(folder.join("package-lock.json"), LOCK)?;
    let npm = std::process::Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(folder)
        .output()
        .map_err(|error| io::Error::other(format!("`npm` cannot be started: {error}")))?;
    if !npm.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&npm.stderr).into_owned()));
    }
    fs::write(marker, "")
}
