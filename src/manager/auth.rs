//! Where the CONNECT packet's auth object comes from, and how it is had; and the files of a script's arguments.
//!
//! What a source holds or prints is never quoted, neither in messages nor in the log; a command's standard error is its
//! own word to the log.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::json;
use crate::secret::{MASK, Secret};

/// How long having the auth object may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes an auth object may have.
const MAX_BYTES: u64 = 1024 * 1024;

/// Files of all connections that may be read at once.
const MAX_READERS: usize = 4;

/// One permit a file. One that hangs keeps a thread, and others need theirs: without names and the state nothing goes on.
static READERS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_READERS)));

/// Bytes of a command's standard error that reach the log; the rest is read and dropped.
const MAX_SAID: u64 = 16 * 1024;

/// With which variables of the daemon's configuration begin: they can hold secrets of other connections.
const CONFIGURATION: &str = "SIOD__";

/// What the service manager tells the daemon and nobody else.
const NOT_THEIRS: [&str; 6] =
    ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// Where the CONNECT packet's auth object comes from.
#[derive(Clone, PartialEq)]
pub enum Auth {
    /// No auth.
    None,
    /// A JSON object, minified.
    Fixed(Secret),
    /// A file holding a JSON object of 1 MiB at the most, read again at every CONNECT.
    File(PathBuf),
    /// A program and its arguments, run at every CONNECT without a shell; it has 10 s to print a JSON object of 1 MiB at
    /// the most and to succeed.
    Command(Vec<String>),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Fixed(object) => write!(f, "Fixed({object})"),
            Self::File(path) => write!(f, "File({})", path.display()),
            // Arguments can be secrets.
            Self::Command(argv) => write!(f, "Command({} {MASK})", program(argv)),
        }
    }
}

/// The auth object as JSON text, or why there is none.
pub(super) type Outcome = Result<Option<String>, String>;

/// Reads the file's object.
pub(super) async fn from_file(path: PathBuf) -> Outcome {
    let what = format!("auth_file {}", path.display());
    let bytes = read_in_time(&what, path).await?;
    checked(&what, bytes, '{').map(Some)
}

/// Reads a file's array, for a step of a script.
pub(super) async fn args_from_file(path: PathBuf) -> Outcome {
    let what = format!("args_file {}", path.display());
    let bytes = read_in_time(&what, path).await?;
    checked(&what, bytes, '[').map(Some)
}

async fn read_in_time(what: &str, path: PathBuf) -> Result<Vec<u8>, String> {
    // A file on a network that is gone must not hold the connection up for ever.
    match tokio::time::timeout(TIMEOUT, in_a_thread(&READERS, move || read_file(&path))).await {
        Err(_) => Err(format!("{what}: reading took longer than {} s", TIMEOUT.as_secs())),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// Reads in a thread that may wait, and has one of the permits until it is through, also when nobody waits for it any more.
async fn in_a_thread<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let reading = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        read()
    });
    reading.await.map_err(io::Error::other)?
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe that nobody writes to would keep a thread for ever, whatever the limit of time.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs the command and takes what it prints. Dropped before its end, it kills the command and all that it started.
///
/// `say` hears the lines of its standard error.
pub(super) async fn from_command(argv: Vec<String>, say: impl Fn(&str)) -> Outcome {
    let what = format!("auth_command {}", program(&argv));
    let running = match Running::start(&argv) {
        Ok(running) => running,
        Err(error) => return Err(format!("{what}: cannot be started: {error}")),
    };
    match tokio::time::timeout(TIMEOUT, running.finish(say)).await {
        Err(_) => Err(format!("{what}: did not end within {} s and was killed", TIMEOUT.as_secs())),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Ok(Ok((status, printed))) if !status.success() && printed.len() as u64 <= MAX_BYTES => {
            Err(format!("{what}: failed ({status}); what it said is in the log"))
        }
        Ok(Ok((_, printed))) => checked(&what, printed, '{').map(Some),
    }
}

fn program(argv: &[String]) -> &str {
    argv.first().map_or("", String::as_str)
}

/// A command in a process group of its own.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn start(argv: &[String]) -> io::Result<Self> {
        let mut command = Command::new(program(argv));
        command.args(argv.get(1..).unwrap_or_default());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        for name in NOT_THEIRS {
            command.env_remove(name);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(CONFIGURATION) {
                command.env_remove(name);
            }
        }
        let child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child, group })
    }

    async fn finish(mut self, say: impl Fn(&str)) -> io::Result<(ExitStatus, Vec<u8>)> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let printed = async {
            match stdout {
                // Whoever prints more than is taken is cut off, as by a reader that leaves.
                Some(stdout) => read_up_to(stdout, MAX_BYTES + 1).await,
                None => Ok(Vec::new()),
            }
        };
        let said = async {
            if let Some(mut stderr) = stderr {
                let said = read_up_to(&mut stderr, MAX_SAID).await?;
                for line in String::from_utf8_lossy(&said).lines() {
                    say(line);
                }
                tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
            }
            Ok(())
        };
        let (printed, ()) = tokio::try_join!(printed, said)?;
        Ok((self.child.wait().await?, printed))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its number is still its own as long as nobody has waited for it.
        if let (Some(group), Some(_)) = (self.group, self.child.id()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn read_up_to(reader: impl AsyncRead + Unpin, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// A JSON object or array, as its first character says, minified.
fn checked(what: &str, bytes: Vec<u8>, opening: char) -> Result<String, String> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{what}: gives more than {MAX_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{what}: gives what is not UTF-8"))?;
    let text = text.trim();
    match json::validate(text) {
        Ok(()) if text.starts_with(opening) => Ok(json::minify(text).into_owned()),
        Ok(()) | Err(_) => {
            let wanted = if opening == '{' { "object" } else { "array" };
            Err(format!("{what}: gives no JSON {wanted}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str) -> Outcome {
        from_command(["/bin/sh", "-c", script].map(str::to_owned).to_vec(), |_| {}).await
    }

    #[tokio::test]
    async fn a_command_s_output_is_the_object() {
        let told =
            run(r#"printf '{\n  "token" : "a b",\n  "n": 1.50\n}\n'; echo a word to the log >&2"#).await;
        assert_eq!(told, Ok(Some(r#"{"token":"a b","n":1.50}"#.to_owned())));
        let much = "head -c 300000 /dev/zero >&2; echo '{}'";
        assert_eq!(run(much).await, Ok(Some("{}".to_owned())), "a talkative one is heard out");
        let env = r#"echo "{\"notify\":\"$NOTIFY_SOCKET\"}"; test ! -t 0; cat"#;
        assert_eq!(run(env).await, Ok(Some(r#"{"notify":""}"#.to_owned())));
    }

    #[tokio::test]
    async fn what_a_command_does_wrong_is_said_without_quoting_it() {
        for (script, expected) in [
            ("echo '{\"s\":\"secret\"}'; exit 3", "failed (exit status: 3); what it said is in the log"),
            ("kill -9 $$", "failed (signal: 9 (SIGKILL)); what it said is in the log"),
            ("echo secret", "gives no JSON object"),
            ("echo '[\"secret\"]'", "gives no JSON object"),
            ("true", "gives no JSON object"),
            (r"printf '\377'", "gives what is not UTF-8"),
            ("exec yes '{'", "gives more than 1048576 bytes"),
        ] {
            assert_eq!(run(script).await, Err(format!("auth_command /bin/sh: {expected}")), "{script}");
        }
        let missing = from_command(vec!["/nonexistent/token".to_owned(), "secret".to_owned()], |_| {}).await;
        assert_eq!(
            missing.unwrap_err(),
            "auth_command /nonexistent/token: cannot be started: No such file or directory (os error 2)"
        );
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_dies_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // The grandchild holds the pipe open for writing as long as it lives.
        let script = format!("sleep 1000 > '{0}' & echo started > '{0}'; wait", pipe.display());
        let mut running = tokio::task::JoinSet::new();
        running.spawn(async move { run(&script).await });
        let mut reader = tokio::fs::File::open(&pipe).await.unwrap();
        let mut word = [0; 8];
        reader.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"started\n");
        running.abort_all();
        // The end of the file comes only when nobody holds it any more.
        assert_eq!(reader.read(&mut word).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let message = from_file(pipe.clone()).await.unwrap_err();
        assert_eq!(message, format!("auth_file {}: is no regular file", pipe.display()));
    }

    #[tokio::test]
    async fn files_that_hang_leave_threads_to_others() {
        let permits = Arc::new(Semaphore::new(2));
        let read = |has: std::sync::mpsc::Receiver<()>| in_a_thread(&permits, move || Ok(has.recv().is_ok()));
        let (mut hanging, mut given_up) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (release, has) = std::sync::mpsc::channel();
            hanging.push(release);
            given_up.push(Box::pin(read(has)));
            assert!(futures_util::poll!(given_up.last_mut().expect("it was pushed")).is_pending());
        }
        // Nobody waits for them any more.
        drop(given_up);
        let (_release, has) = std::sync::mpsc::channel();
        let mut waits = Box::pin(read(has));
        assert!(futures_util::poll!(&mut waits).is_pending());
        assert_eq!(permits.available_permits(), 0);
        drop(waits);
        drop(hanging);
        assert_eq!(in_a_thread(&permits, || Ok(7)).await.expect("there is a thread"), 7);
    }

    #[tokio::test]
    async fn a_file_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let read = || from_file(path.clone());
        let missing = read().await.unwrap_err();
        assert_eq!(missing, format!("auth_file {}: No such file or directory (os error 2)", path.display()));
        for (text, expected) in
            [("{\n\"a\": 1}\n", Some(r#"{"a":1}"#)), ("{}", Some("{}")), ("secret", None), ("", None)]
        {
            std::fs::write(&path, text).unwrap();
            match (read().await, expected) {
                (Ok(object), expected) => assert_eq!(object.as_deref(), expected),
                (Err(message), None) => assert!(message.ends_with(": gives no JSON object"), "{message}"),
                (Err(message), Some(_)) => panic!("{message}"),
            }
        }
    }
}
