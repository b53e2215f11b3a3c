//! How a command ends: exit codes, and what stderr says.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output::note;
use super::text::visible;
use crate::client::{Error, ErrorKind, Lost, Refusal};
use crate::service;

/// Where the daemon of the system has its socket, and the unit that makes it.
const OF_THE_SYSTEM: &str = "/run/siod/siod.sock";
const SOCKET_UNIT: &str = "siod.socket";

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    Done = 0,
    /// The daemon answered with an error.
    Refused = 1,
    Usage = 2,
    NotConnected = 3,
    /// `EX_UNAVAILABLE` of sysexits.h.
    NoDaemon = 69,
    /// `EX_CONFIG` of sysexits.h.
    BadConfig = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended before it was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no daemon at {} ({}); {}", .socket.display(), reason(.source), advice(.socket, .source))]
    NoDaemon { socket: PathBuf, source: io::Error },
    #[error("{}{}", .0, farewell(.0))]
    Lost(#[from] Lost),
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An error answer to one of many lines of input.
    #[error("line {line}: {refusal}")]
    RefusedLine { line: u64, refusal: Refusal },
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Config(String),
    #[error("the daemon's answer is not understood: {0}; is it of another version?")]
    Answer(serde_json::Error),
    #[error("{0}")]
    Call(Error),
    #[error("cannot write to stdout: {}", reason(.0))]
    Output(#[from] io::Error),
    #[error("cannot read from stdin: {}", reason(.0))]
    Input(io::Error),
    #[error("cannot start: {}", reason(.0))]
    Runtime(io::Error),
    /// A program of the user's.
    #[error("cannot run {}: {}", .program.display(), reason(.source))]
    Exec { program: OsString, source: io::Error },
    #[error(transparent)]
    Service(#[from] service::Error),
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Refused(refusal) | Self::RefusedLine { refusal, .. } => match refusal.kind() {
                ErrorKind::ConnectFailed => Exit::NotConnected,
                _ => Exit::Refused,
            },
            // A reader that has had enough is no error.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Service(error) if error.is_configuration() => Exit::BadConfig,
            Self::Answer(_)
            | Self::Call(_)
            | Self::Input(_)
            | Self::Output(_)
            | Self::Runtime(_)
            | Self::Exec { .. }
            | Self::Service(_) => Exit::Refused,
            Self::Usage(_) => Exit::Usage,
            Self::NoDaemon { .. } => Exit::NoDaemon,
            Self::Lost(lost) => match lost {
                // The daemon is there and does not want this program.
                Lost::Goodbye(reason) if reason != "shutdown" => Exit::Refused,
                Lost::Goodbye(_) | Lost::Closed | Lost::Io(_) | Lost::Protocol(_) => Exit::NoDaemon,
            },
            Self::Config(_) => Exit::BadConfig,
        }
    }

    /// Says on stderr what went wrong, where there is something to say.
    pub(super) fn report(&self) -> Exit {
        let exit = self.exit();
        if exit != Exit::Done {
            note(self);
        }
        exit
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Attach { socket, source } => Self::NoDaemon { socket, source },
            Error::Refused(refusal) => Self::Refused(refusal),
            Error::Lost(lost) => Self::Lost(lost),
            Error::Answer(error) => Self::Answer(error),
            other => Self::Call(other),
        }
    }
}

/// The system's words without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error ").map_or(text.clone(), |(words, _)| words.to_owned())
}

fn advice(socket: &Path, error: &io::Error) -> Cow<'static, str> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => admits(socket),
        io::ErrorKind::WouldBlock => "it takes no more programs at the moment: try again".into(),
        _ if socket == Path::new(OF_THE_SYSTEM) => {
            format!("start one with 'systemctl start {SOCKET_UNIT}' or 'siod run'").into()
        }
        _ if is_of_the_user(socket) && Path::new(OF_THE_SYSTEM).exists() => {
            format!("for the system's: export SIOD_SOCKET={OF_THE_SYSTEM}; for your own: 'siod run'").into()
        }
        _ => "start one with 'siod run'".into(),
    }
}

/// Where to look when a daemon is expected at this socket and does not answer.
pub(super) fn where_to_look(socket: &Path) -> &'static str {
    if socket == Path::new(OF_THE_SYSTEM) {
        "'systemctl status siod' says whether it runs"
    } else if is_of_the_user(socket) {
        "'systemctl --user status siod' says whether it runs"
    } else {
        "look whether it runs, or what else listens there"
    }
}

/// Whether it is where a user's daemon has its socket when nobody says otherwise.
fn is_of_the_user(socket: &Path) -> bool {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    folder.is_some_and(|folder| socket == Path::new(&folder).join("siod.sock"))
}

/// Whom a socket lets in that does not let us in.
fn admits(socket: &Path) -> Cow<'static, str> {
    let group = socket.metadata().ok().filter(|socket| socket.mode() & 0o020 != 0).and_then(|socket| {
        let group = nix::unistd::Group::from_gid(socket.gid().into()).ok().flatten();
        group.map(|group| group.name)
    });
    match group {
        Some(name) => format!(
            "it admits its owner and the group {}; who has come into the group has to log in again",
            visible(&name)
        )
        .into(),
        None => "it admits only its owner and group: see api.mode and api.group".into(),
    }
}

fn farewell(lost: &Lost) -> &'static str {
    match lost {
        Lost::Goodbye(reason) => match reason.as_str() {
            "too_many_consumers" => "; raise api.max_consumers, and send the daemon a SIGHUP",
            "forbidden" => "; the [[access]] rules of its configuration give you no role",
            "lagged" => "; this program did not read fast enough",
            _ => "",
        },
        Lost::Protocol(_) => "; is another program listening there?",
        Lost::Closed | Lost::Io(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: &str) -> Refusal {
        let json = format!(r#"{{"code":-32000,"message":"says the daemon","data":{{"kind":"{kind}"}}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn failures_say_what_to_do_and_have_their_code() {
        let missing = io::Error::from_raw_os_error(2);
        let denied = io::Error::from_raw_os_error(13);
        let folder = tempfile::tempdir().unwrap();
        let nobodys = folder.path().join("siod.sock");
        let closed = format!(
            "no daemon at {} (Permission denied); it admits only its owner and group: see api.mode and api.group",
            nobodys.display()
        );
        let socket = PathBuf::from("/run/siod/siod.sock");
        for (failure, exit, text) in [
            (
                Failure::NoDaemon { socket, source: missing },
                69,
                "no daemon at /run/siod/siod.sock (No such file or directory); \
                 start one with 'systemctl start siod.socket' or 'siod run'",
            ),
            (Failure::NoDaemon { socket: nobodys, source: denied }, 69, &closed),
            (Failure::Refused(refusal("unknown_connection")), 1, "says the daemon"),
            (Failure::Refused(refusal("connect_failed")), 3, "says the daemon"),
            (Failure::RefusedLine { line: 7, refusal: refusal("buffer_full") }, 1, "line 7: says the daemon"),
            (Failure::Lost(Lost::Closed), 69, "the daemon closed the attachment"),
            (
                Failure::Lost(Lost::Goodbye("shutdown".into())),
                69,
                "the daemon ended the attachment: shutdown",
            ),
            (
                Failure::Lost(Lost::Goodbye("too_many_consumers".into())),
                1,
                "the daemon ended the attachment: too_many_consumers; \
                 raise api.max_consumers, and send the daemon a SIGHUP",
            ),
            (Failure::Usage("wrong".into()), 2, "wrong"),
            (
                Failure::Output(io::Error::from_raw_os_error(28)),
                1,
                "cannot write to stdout: No space left on device",
            ),
        ] {
            assert_eq!((failure.exit() as u8, failure.to_string().as_str()), (exit, text));
        }
        assert_eq!(Failure::Output(io::Error::from_raw_os_error(32)).exit(), Exit::Done);
    }
}
