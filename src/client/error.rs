//! What can go wrong, by kind.

use std::io;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens at the socket, or this program may not attach to it.
    #[error("no daemon at {}: {source}", .socket.display())]
    Attach {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon answered with an error.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The attachment ended before the answer came; whether the request was carried out is not known.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The params cannot be written as JSON of the right shape; nothing was sent.
    #[error("the request cannot be written: {0}")]
    Params(serde_json::Error),
    /// The result is not what this client expects of the method.
    #[error("the daemon's answer is not understood: {0}; is it of another version?")]
    Answer(serde_json::Error),
    /// A volatile emit with an acknowledgement was dropped, so that no answer will come.
    #[error("the event was dropped, since it could not be written at once")]
    Dropped {
        /// The connection is up, or will come up by itself.
        active: bool,
    },
    /// More than 16 MiB of notifications came before the answer. Nothing of them is lost; the answer will come too, and
    /// nobody waits for it any more. Use [`Client::request`](super::Client::request) where that can be.
    #[error("too many notifications came before the answer")]
    Flooded,
}

impl Error {
    /// Which refusal of the daemon this is, where it is one.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Refused(refusal) => Some(refusal.kind()),
            Self::Attach { .. }
            | Self::Lost(_)
            | Self::Params(_)
            | Self::Answer(_)
            | Self::Dropped { .. }
            | Self::Flooded => None,
        }
    }
}

/// The attachment is over; the client is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The daemon said why: `shutdown`, `too_many_consumers`, `lagged`, `forbidden`, `protocol_error`.
    #[error("the daemon ended the attachment: {0}")]
    Goodbye(String),
    /// The daemon went away without a word.
    #[error("the daemon closed the attachment")]
    Closed,
    /// The socket failed.
    #[error("the attachment to the daemon failed: {0}")]
    Io(#[from] io::Error),
    /// What came is no message of the API. Is this socket siod's?
    #[error("what came from the socket is no message of siod: {0}")]
    Protocol(String),
}

impl Lost {
    /// Whether attaching again would end the same way.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Goodbye(reason) => reason == "forbidden" || reason == "protocol_error",
            Self::Protocol(_) => true,
            Self::Closed | Self::Io(_) => false,
        }
    }
}

/// An error answer of the daemon.
#[derive(Clone, Debug, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    code: i64,
    message: String,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl Refusal {
    /// The kind of error.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::of(&self.members().kind)
    }

    /// The kind as the daemon wrote it, which may be one that this client does not know. Empty if it named none.
    pub fn kind_name(&self) -> String {
        self.members().kind.into_owned()
    }

    /// The JSON-RPC error code.
    pub fn code(&self) -> i64 {
        self.code
    }

    /// What was wrong and what to do, for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the server said, where it refused a `connect`.
    pub fn server_data(&self) -> Option<&RawValue> {
        self.members().data
    }

    /// All that the daemon says about it beside the message, an object.
    pub fn data(&self) -> Option<&RawValue> {
        self.data.as_deref()
    }

    fn members(&self) -> Data<'_> {
        let data = self.data.as_deref().map_or("", RawValue::get);
        serde_json::from_str(data).unwrap_or_default()
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// Why the daemon refused a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $kind,)*
            /// One that this client does not know; [`Refusal::kind_name`] has its name.
            Other,
        }

        impl ErrorKind {
            /// All that have a name.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            fn of(name: &str) -> Self {
                match name {
                    $($name => Self::$kind,)*
                    _ => Self::Other,
                }
            }

            /// Its name on the wire; `other` for [`ErrorKind::Other`].
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                    Self::Other => "other",
                }
            }
        }
    };
}

kinds! {
    /// The line was no JSON.
    ParseError = "parse_error",
    /// The line was no request.
    InvalidRequest = "invalid_request",
    /// The line was longer than `limits.max_line` of [`Welcome`](super::Welcome).
    TooLarge = "too_large",
    /// The daemon has no such method; it may be older than this client.
    UnknownMethod = "unknown_method",
    /// The params are not what the method takes.
    InvalidParams = "invalid_params",
    /// Something broke in the daemon.
    Internal = "internal",
    /// There is no connection of this name that this program may see.
    UnknownConnection = "unknown_connection",
    /// There is no such subscription of this program.
    UnknownSubscription = "unknown_subscription",
    /// As many wait already as may, or as many connections are open; no event was sent.
    BufferFull = "buffer_full",
    /// The server did not answer in time.
    AckTimeout = "ack_timeout",
    /// The connection was lost before the server answered.
    Disconnected = "disconnected",
    /// The event's name means something to Socket.IO itself.
    ReservedEvent = "reserved_event",
    /// This program may not do that.
    Forbidden = "forbidden",
    /// A connection of this name exists with other settings.
    ConnectionExists = "connection_exists",
    /// Nobody waits for this acknowledgement any more.
    UnknownAck = "unknown_ack",
    /// The connection did not come up; [`Refusal::server_data`] is what the server said.
    ConnectFailed = "connect_failed",
    /// The daemon is about to end.
    ShuttingDown = "shutting_down",
    /// The configuration does not load; nothing was changed.
    InvalidConfig = "invalid_config",
    /// The server has answered, and this program was too slow to take the answer.
    AnswerLost = "answer_lost",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_those_that_the_api_names() {
        // Of the table of errors in the documentation: `| -32600 | `invalid_request`, `too_large` | … |`.
        let api = include_str!("../../docs/api.md");
        let rows = api.lines().filter(|line| line.starts_with("| -32"));
        let named: Vec<_> = rows
            .flat_map(|row| row.split('|').filter(|cell| cell.trim().starts_with('`')).take(1))
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        let known: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(known, named);
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::of(kind.name()), *kind);
        }
        assert_eq!(ErrorKind::of("new_in_a_later_version"), ErrorKind::Other);
    }

    #[test]
    fn a_refusal_tells_what_the_server_said() {
        let refusal: Refusal = serde_json::from_str(
            r#"{"code":-32009,"message":"no","data":{"kind":"connect_failed","data":{"why":1.50}}}"#,
        )
        .unwrap();
        assert_eq!(refusal.kind(), ErrorKind::ConnectFailed);
        assert_eq!(refusal.server_data().map(RawValue::get), Some(r#"{"why":1.50}"#));
        let bare: Refusal = serde_json::from_str(r#"{"code":1,"message":"no"}"#).unwrap();
        assert_eq!((bare.kind(), bare.kind_name().as_str()), (ErrorKind::Other, ""));
    }
}
