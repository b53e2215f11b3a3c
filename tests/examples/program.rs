//! One of the programs: built, started, and held to what it prints.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;

use crate::common::within;

/// How a program is dealt with; each but `file` is a line for a shell.
pub(crate) struct Language {
    pub(crate) file: &'static str,
    pub(crate) needs: &'static str,
    pub(crate) build: &'static str,
    pub(crate) run: &'static str,
}

/// One that can be started.
pub(crate) struct Built {
    language: Language,
    out: TempDir,
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn shell(line: &str, out: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(examples()).env("OUT", out).stdin(Stdio::null());
    command
}

impl Language {
    pub(crate) fn path(&self) -> PathBuf {
        examples().join(self.file)
    }

    /// None where this machine does not have what it takes, which is said also where the output of tests is kept back.
    pub(crate) async fn build(self) -> Option<Built> {
        let out = tempfile::tempdir().expect("a folder");
        let there = shell(self.needs, out.path()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        if !there.expect("a shell").success() {
            let words = format!("\nSKIPPED: examples/{}, for want of `{}`\n", self.file, self.needs);
            std::io::stderr().write_all(words.as_bytes()).expect("somebody reads");
            return None;
        }
        // Compilers take the time they take.
        let built = shell(self.build, out.path()).output().await.expect("a shell");
        assert!(built.status.success(), "{}: {}", self.build, String::from_utf8_lossy(&built.stderr));
        Some(Built { language: self, out })
    }
}

impl Built {
    /// Starts it in the plainest of environments.
    pub(crate) fn start(&self, socket: &Path, connection: &str) -> Program {
        let mut child = shell(&format!("{} {connection}", self.language.run), self.out.path())
            .env("LC_ALL", "C")
            .env("SIOD_SOCKET", socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let mut said = JoinSet::new();
        said.spawn(async move {
            let mut said = String::new();
            stderr.read_to_string(&mut said).await.expect("UTF-8");
            said
        });
        Program { file: self.language.file, lines: Some(lines), said, child }
    }
}

/// One that runs; killed when dropped, with those it has started.
pub(crate) struct Program {
    file: &'static str,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    said: JoinSet<String>,
    child: Child,
}

impl Program {
    /// The next line must be this one.
    pub(crate) async fn prints(&mut self, expected: &str) {
        let lines = self.lines.as_mut().expect("it has a reader");
        let line = within(&format!("{} to print {expected}", self.file), lines.next_line()).await;
        assert_eq!(line.expect("UTF-8").as_deref(), Some(expected), "the next line of {}", self.file);
    }

    pub(crate) async fn prints_all(&mut self, expected: &[String]) {
        for line in expected {
            self.prints(line).await;
        }
    }

    /// It must end by itself, as a failure and without a word on stdout; what it says on stderr.
    pub(crate) async fn fails(mut self) -> String {
        let line = self.lines.as_mut().expect("it has a reader").next_line();
        assert_eq!(within("the end of its output", line).await.expect("UTF-8"), None, "{} prints", self.file);
        let status = within("its end", self.child.wait()).await.expect("it can be waited for");
        assert!(!status.success(), "{} succeeds", self.file);
        self.rest().await
    }

    pub(crate) fn loses_its_reader(&mut self) {
        self.lines = None;
    }

    /// It must end by itself; what it has said on stderr.
    pub(crate) async fn ends(mut self) -> String {
        within(&format!("{} to end", self.file), self.child.wait()).await.expect("it can be waited for");
        self.rest().await
    }

    /// Ends it; what it has said on stderr.
    pub(crate) async fn killed(mut self) -> String {
        self.kill();
        self.rest().await
    }

    async fn rest(mut self) -> String {
        let said = within("the end of its stderr", self.said.join_next()).await;
        said.expect("it is read once").expect("the reader does not panic")
    }

    fn kill(&mut self) {
        let group = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // One that has ended meanwhile needs nothing more.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
