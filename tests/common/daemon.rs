//! Starts the real binary in a folder of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{Consumer, within};

/// A running daemon; killed when dropped. When a test fails, its log is printed.
pub struct Daemon {
    child: Child,
    told: UnboundedReceiver<String>,
    _ear: JoinSet<()>,
    log: Log,
    folder: Arc<Folder>,
}

impl Daemon {
    /// Starts a daemon with this configuration (TOML) and waits until it is ready.
    pub async fn start(config: &str) -> Self {
        Self::start_in(Folder::new(config)).await
    }

    /// As [`start`](Self::start), in a folder that the test has prepared.
    pub async fn start_in(folder: impl Into<Arc<Folder>>) -> Self {
        let folder = folder.into();
        let command = folder.command();
        Self::start_with(folder, command).await
    }

    /// As [`start_in`](Self::start_in), by a command that the test has changed; without a piped stderr there is no log.
    pub async fn start_with(folder: impl Into<Arc<Folder>>, command: Command) -> Self {
        let folder = folder.into();
        // A former daemon's may still be there, and nobody listens to it.
        let _none = std::fs::remove_file(folder.notify_socket());
        let notify = UnixDatagram::bind(folder.notify_socket()).expect("a socket in the test's own folder");
        // The daemon may run as somebody else.
        std::fs::set_permissions(folder.notify_socket(), std::fs::Permissions::from_mode(0o777))
            .expect("it is the test's own");
        let (mut child, mut log) = spawn(command);
        let started = tokio::select! {
            () = within("READY=1 from the daemon", until_ready(&notify)) => None,
            status = child.wait() => Some(status.expect("the daemon can be waited for")),
        };
        if let Some(status) = started {
            let log = log.whole().await;
            panic!("the daemon ended with {status} before it was ready:\n{log}");
        }
        let (told, mut ear) = (unbounded_channel(), JoinSet::new());
        ear.spawn(listen(notify, told.0));
        Self { child, told: told.1, _ear: ear, log, folder }
    }

    pub async fn attach(&self) -> Consumer {
        Consumer::attach(&self.folder.socket()).await
    }

    /// The next message to the service manager, after the first READY=1, that is more than a status or a sign of life.
    pub async fn told(&mut self) -> String {
        loop {
            let told = self.told_anything().await;
            let more =
                told.lines().filter(|line| !line.starts_with("STATUS=")).collect::<Vec<_>>().join("\n");
            if !more.is_empty() && more != "WATCHDOG=1" {
                return more;
            }
        }
    }

    /// Waits until the service manager is told this status; `…` at its end stands for anything.
    pub async fn told_status(&mut self, status: &str) {
        let line = format!("STATUS={status}");
        let mut heard = Vec::new();
        let told = async {
            loop {
                let told = self.told.recv().await.expect("somebody listens");
                let as_expected = |told: &str| match line.strip_suffix('…') {
                    Some(start) => told.starts_with(start),
                    None => told == line,
                };
                if told.lines().any(as_expected) {
                    return;
                }
                heard.push(told);
            }
        };
        let in_time = tokio::time::timeout(super::DEADLINE, told).await.is_ok();
        assert!(in_time, "never heard {line}, only {heard:#?}");
    }

    /// The next message to the service manager, whatever it is.
    pub async fn told_anything(&mut self) -> String {
        within("a word to the service manager", self.told.recv()).await.expect("somebody listens")
    }

    /// Waits until it has logged a line with this text.
    pub async fn logged(&self, text: &str) {
        let mut grown = self.log.grown.subscribe();
        while !self.log.so_far().contains(text) {
            grown.changed().await.expect("the daemon goes on");
        }
    }

    /// Ends it: all that it has logged.
    pub async fn into_log(mut self) -> String {
        self.terminate().await;
        within("the end of the log", &mut self.log.reader).await.expect("the reader does not panic");
        self.log.so_far()
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The folder of a daemon that has ended, for the next one.
    pub fn into_folder(self) -> Arc<Folder> {
        Arc::clone(&self.folder)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("the daemon runs")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the daemon runs");
    }

    /// Waits for the end of the process.
    pub async fn exit(&mut self) -> ExitStatus {
        within("the daemon to end", self.child.wait()).await.expect("the daemon can be waited for")
    }

    /// All that it logged; to be called after its end.
    pub async fn log(&mut self) -> String {
        self.log.whole().await
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exit().await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- daemon\n{}", self.log.so_far());
        }
    }
}

/// What a daemon finds on disk: a configuration and a place for its socket; and in its environment.
pub struct Folder {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Folder {
    pub fn new(config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("siod-").tempdir().expect("a temporary folder");
        let folder = Self { folder, environment: Vec::new() };
        folder.configure(config);
        folder
    }

    /// A variable that the daemon is started with, beside its own few.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes another configuration, which the daemon has yet to read.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.path().join("siod.toml"), config).expect("a file in the test's own folder");
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("siod.sock")
    }

    /// Runs a second daemon here, which is expected to give up: its exit status and its log.
    pub async fn run_to_end(&self) -> (ExitStatus, String) {
        let (mut child, mut log) = spawn(self.command());
        let status = within("the daemon to give up", child.wait()).await.expect("it can be waited for");
        (status, log.whole().await)
    }

    fn notify_socket(&self) -> PathBuf {
        self.folder.path().join("notify.sock")
    }

    /// What starts a daemon here.
    pub fn command(&self) -> Command {
        self.command_as(&[env!("CARGO_BIN_EXE_siod")])
    }

    /// As [`command`](Self::command), with the program's path, and what starts it, given.
    pub fn command_as(&self, program: &[&str]) -> Command {
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .arg("run")
            .arg("--config")
            .arg(self.folder.path().join("siod.toml"))
            .arg("--socket")
            .arg(self.socket())
            .env_clear()
            .env("NOTIFY_SOCKET", self.notify_socket())
            .env("RUST_BACKTRACE", "1")
            .env("SIOD__LOG__LEVEL", "siod=debug")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

fn spawn(mut command: Command) -> (Child, Log) {
    let mut child = command.spawn().expect("the daemon's binary can be started");
    let log = Log::read(child.stderr.take());
    (child, log)
}

/// What a process writes to its stderr.
struct Log {
    lines: Arc<Mutex<String>>,
    grown: watch::Sender<()>,
    reader: JoinHandle<()>,
}

impl Log {
    fn read(stderr: Option<tokio::process::ChildStderr>) -> Self {
        let lines = Arc::new(Mutex::new(String::new()));
        let (written, grown) = (Arc::clone(&lines), watch::Sender::new(()));
        let growing = grown.clone();
        let reader = tokio::spawn(async move {
            let Some(stderr) = stderr else { return };
            let mut reader = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                let mut lines = written.lock().expect("no holder panics");
                lines.push_str(&line);
                lines.push('\n');
                growing.send_replace(());
            }
        });
        Self { lines, grown, reader }
    }

    fn so_far(&self) -> String {
        self.lines.lock().map(|lines| lines.clone()).unwrap_or_default()
    }

    /// All of it, once the process has ended.
    async fn whole(&mut self) -> String {
        within("the end of the log", &mut self.reader).await.expect("the reader does not panic");
        self.so_far()
    }
}

/// Hands on what comes as it comes, as a service manager does.
async fn listen(socket: UnixDatagram, told: UnboundedSender<String>) {
    let mut message = [0; 1024];
    while let Ok(length) = socket.recv(&mut message).await {
        // A test need not ask for it.
        let _unheard = told.send(String::from_utf8_lossy(&message[..length]).into_owned());
    }
}

async fn until_ready(socket: &UnixDatagram) {
    let mut message = [0; 1024];
    loop {
        let length = socket.recv(&mut message).await.expect("the test's own socket can be read");
        if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            return;
        }
    }
}
