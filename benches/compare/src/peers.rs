//! The processes that are measured, and the servers above them.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::load::{Client, Trip};
use crate::packages;

/// How long a process may take until it is there.
const START: Duration = Duration::from_secs(20);

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// The daemon.
    Siod,
    /// The splice relay.
    Relay,
    /// A bridge as one would write it for Node.
    Node,
    /// The same, made fast.
    Tuned,
    /// A bridge with python-socketio and asyncio.
    Python,
    /// No sharing: each Node process has a connection of its own.
    Direct,
}

impl Peer {
    pub(crate) const ALL: [Self; 6] =
        [Self::Siod, Self::Relay, Self::Node, Self::Tuned, Self::Python, Self::Direct];
    /// Those that share one connection.
    pub(crate) const BRIDGES: [Self; 5] = [Self::Siod, Self::Relay, Self::Node, Self::Tuned, Self::Python];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Siod => "siod",
            Self::Relay => "relay",
            Self::Node => "node",
            Self::Tuned => "tuned",
            Self::Python => "python",
            Self::Direct => "direct",
        }
    }

    /// What it is called where people read.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Siod => "siod",
            Self::Relay => "splice relay",
            Self::Node => "Node bridge",
            Self::Tuned => "Node bridge, tuned",
            Self::Python => "Python bridge",
            Self::Direct => "no sharing",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where the programs are.
pub(crate) struct Programs {
    pub(crate) siod: PathBuf,
    pub(crate) own: PathBuf,
    /// The folder with `node_modules`.
    pub(crate) modules: PathBuf,
    /// The interpreter that has python-socketio; none where it could not be installed.
    pub(crate) python: Option<PathBuf>,
    /// `api.stall` of the daemon.
    pub(crate) stall: Duration,
}

/// A process that ends with its owner.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Process {
    fn spawn(command: &mut Command, steered: bool) -> Result<Self> {
        let piped = |piped| if piped { Stdio::piped() } else { Stdio::null() };
        command.stdin(piped(steered)).stdout(piped(steered));
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Ok(Self { child, input, output })
    }

    /// CPU time so far, of all its threads.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let clock = nix::time::clock_getcpuclockid(self.pid())?;
        Ok(nix::time::clock_gettime(clock)?.into())
    }

    /// Resident memory in KiB.
    pub(crate) fn rss(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most resident memory since `forget_peak`, in KiB.
    pub(crate) fn peak(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    /// Resident memory once it does not change any more, in KiB. What a peer does not keep it may give back a little later,
    /// the daemon after a second and Node when it collects, so that long it has to have stayed what it is.
    pub(crate) fn settled_rss(&self) -> Result<u64> {
        const STEP: Duration = Duration::from_millis(50);
        const QUIET: Duration = Duration::from_millis(1750);
        const PATIENCE: Duration = Duration::from_secs(10);
        let (begin, mut last, mut since) = (Instant::now(), self.rss()?, Instant::now());
        while since.elapsed() < QUIET && begin.elapsed() < PATIENCE {
            std::thread::sleep(STEP);
            let now = self.rss()?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }

    fn memory(&self, member: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(member));
        let value = line.with_context(|| format!("no {member} in its status"))?;
        Ok(value.trim().trim_end_matches(" kB").parse()?)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn ended(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended with {status}");
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("nobody steers it")?;
        Ok(input.write_all(format!("{line}\n").as_bytes())?)
    }

    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let count = self.output.as_mut().context("nobody hears it")?.read_line(&mut line)?;
        ensure!(count > 0, "a process ended where a line was expected");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A server, which is steered by lines.
pub(crate) struct Server {
    process: Process,
    pub(crate) port: u16,
}

impl Server {
    /// The fast one.
    pub(crate) fn fast(programs: &Programs) -> Result<Self> {
        Self::start(Command::new(&programs.own).arg("server"))
    }

    /// The official one, on Node.
    pub(crate) fn official(programs: &Programs) -> Result<Self> {
        Self::start(Command::new("node").arg(script("official.mjs")).arg(&programs.modules))
    }

    fn start(command: &mut Command) -> Result<Self> {
        let mut process = Process::spawn(command, true)?;
        let port = process.line()?.parse().context("a server prints its port first")?;
        Ok(Self { process, port })
    }

    /// Carries a command out.
    pub(crate) fn command(&mut self, command: &str) -> Result<()> {
        self.begin(command)?;
        self.done(command)
    }

    /// Only tells it.
    pub(crate) fn begin(&mut self, command: &str) -> Result<()> {
        self.process.write(command)
    }

    /// Waits until it has done what it was told last.
    pub(crate) fn done(&mut self, command: &str) -> Result<()> {
        let done = self.process.line()?;
        ensure!(command.starts_with(&done), "told {command:?}, the server answered {done:?}");
        Ok(())
    }
}

/// What shares a connection: a process with a local socket.
pub(crate) struct Bridge {
    pub(crate) process: Process,
    socket: PathBuf,
    /// Removed when dropped.
    _folder: TempDir,
}

impl Bridge {
    /// Starts it and waits until a question comes back through it.
    pub(crate) fn start(peer: Peer, programs: &Programs, port: u16) -> Result<Self> {
        let (bridge, _) = Self::start_timed(peer, programs, port)?;
        Ok(bridge)
    }

    /// As `start`, with the time that it took.
    pub(crate) fn start_timed(peer: Peer, programs: &Programs, port: u16) -> Result<(Self, Duration)> {
        let folder = tempfile::Builder::new().prefix("siod-compare-").tempdir()?;
        let socket = folder.path().join("socket");
        let mut command = command(peer, programs, port, folder.path(), &socket)?;
        let begin = Instant::now();
        let process = Process::spawn(&mut command, false)?;
        let mut bridge = Self { process, socket, _folder: folder };
        while UnixStream::connect(&bridge.socket).is_err() {
            bridge.process.ended().with_context(|| format!("{peer} did not come up"))?;
            ensure!(begin.elapsed() < START, "{peer} has no socket after {START:?}");
            std::thread::sleep(Duration::from_micros(100));
        }
        bridge
            .client()?
            .trip(&mut Trip::new(1))
            .with_context(|| format!("the first answer through {peer}"))?;
        Ok((bridge, begin.elapsed()))
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(&self.socket)
    }
}

fn command(peer: Peer, programs: &Programs, port: u16, folder: &Path, socket: &Path) -> Result<Command> {
    let node = |name: &str| {
        let mut command = Command::new("node");
        command.arg(script(name)).arg(&programs.modules).arg(port.to_string()).arg(socket);
        command
    };
    Ok(match peer {
        Peer::Siod => {
            let config = folder.join("siod.toml");
            fs::write(&config, siod_config(port, programs.stall))?;
            let mut command = Command::new(&programs.siod);
            command
                .env_remove("NOTIFY_SOCKET")
                .arg("run")
                .arg("--config")
                .arg(config)
                .arg("--socket")
                .arg(socket);
            command
        }
        Peer::Relay => {
            let mut command = Command::new(&programs.own);
            command.arg("relay").arg(port.to_string()).arg(socket);
            command
        }
        Peer::Node => node("bridge.mjs"),
        Peer::Tuned => node("tuned.mjs"),
        Peer::Python => {
            let python = programs.python.as_ref().context("python-socketio is not installed")?;
            let mut command = Command::new(python);
            let bridge = packages::folder().join("python/bridge.py");
            command.arg(bridge).arg(port.to_string()).arg(socket);
            command
        }
        Peer::Direct => bail!("nothing is shared where each has its own"),
    })
}

/// The delays are those that all peers use in the test of a server's restart; all else is as it comes.
fn siod_config(port: u16, stall: Duration) -> String {
    format!(
        r#"[log]
level = "error"

[api]
stall = {}

[connections.c]
url = "http://127.0.0.1:{port}"
transports = ["websocket"]
reconnection_delay = 50
reconnection_delay_max = 50
randomization_factor = 0.0
"#,
        stall.as_millis()
    )
}

/// A Node process that listens, through a bridge or with a connection of its own.
pub(crate) struct Program {
    pub(crate) process: Process,
}

impl Program {
    pub(crate) fn attached(programs: &Programs, socket: &Path) -> Result<Self> {
        Self::start(
            Command::new("node").arg(script("listener.mjs")).arg(&programs.modules).arg("api").arg(socket),
        )
    }

    pub(crate) fn direct(programs: &Programs, port: u16) -> Result<Self> {
        let mut command = Command::new("node");
        command.arg(script("listener.mjs")).arg(&programs.modules).arg("direct").arg(port.to_string());
        Self::start(&mut command)
    }

    /// It is not connected yet; see `ready`.
    fn start(command: &mut Command) -> Result<Self> {
        Ok(Self { process: Process::spawn(command, true)? })
    }

    /// Waits until it listens.
    pub(crate) fn ready(&mut self) -> Result<()> {
        let line = self.process.line()?;
        ensure!(line == "ready", "a listener said {line:?}");
        Ok(())
    }

    /// It is going to hear so many events.
    pub(crate) fn expect(&mut self, count: u64) -> Result<()> {
        self.process.write(&format!("hear {count}"))?;
        self.ready()
    }

    /// Waits until it has heard them, in order.
    pub(crate) fn heard(&mut self) -> Result<()> {
        let line = self.process.line()?;
        ensure!(line == "heard", "a listener said {line:?}");
        Ok(())
    }
}

fn script(name: &str) -> PathBuf {
    packages::folder().join("node").join(name)
}
