//! One notification: its line as it came, the few members that every reader needs, and its types.

use std::borrow::Cow;
use std::time::SystemTime;

use bytestring::ByteString;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::Lost;
use super::params::Ack;
use super::results::{Transport, maybe_time};

/// What kind of thing happened: the notification's `method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The server emitted an event.
    Event,
    /// The connection itself changed.
    Lifecycle,
    /// Notifications were lost because this program was too slow.
    Lagged,
    /// Some program emitted an event.
    Outgoing,
    /// The daemon is about to close the attachment.
    Goodbye,
    /// A method that this client does not know.
    Other,
}

impl Kind {
    pub(super) fn of(method: &str) -> Self {
        match method {
            "event" => Self::Event,
            "lifecycle" => Self::Lifecycle,
            "lagged" => Self::Lagged,
            "outgoing" => Self::Outgoing,
            "goodbye" => Self::Goodbye,
            _ => Self::Other,
        }
    }
}

/// One notification of the daemon. Cheap to clone: the text is shared.
#[derive(Clone, Debug)]
pub struct Notification {
    line: ByteString,
    params: ByteString,
    kind: Kind,
    connection: Option<String>,
    seq: Option<u64>,
}

impl Notification {
    pub(super) fn new(line: ByteString, kind: Kind, params: ByteString) -> Result<Self, Lost> {
        #[derive(Default, Deserialize)]
        struct Head {
            connection: Option<String>,
            seq: Option<u64>,
        }
        let Head { connection, seq } = match kind {
            Kind::Other => Head::default(),
            _ => serde_json::from_str(&params).map_err(|error| Lost::Protocol(error.to_string()))?,
        };
        Ok(Self { line, params, kind, connection, seq })
    }

    /// What kind of thing happened.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole message as the daemon wrote it, to the byte, without the newline.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The `params` as the daemon wrote them.
    pub fn params(&self) -> &str {
        &self.params
    }

    /// The `params` as a type of the caller's, which can borrow from this notification.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> serde_json::Result<T> {
        serde_json::from_str(&self.params)
    }

    /// What it says, by kind. Borrows from this notification.
    pub fn notice(&self) -> serde_json::Result<Notice<'_>> {
        Ok(match self.kind {
            Kind::Event => Notice::Event(self.read()?),
            Kind::Lifecycle => Notice::Lifecycle(self.read()?),
            Kind::Lagged => Notice::Lagged(self.read()?),
            Kind::Outgoing => Notice::Outgoing(self.read()?),
            Kind::Goodbye => Notice::Goodbye(self.goodbye().unwrap_or_default()),
            Kind::Other => Notice::Other,
        })
    }

    /// The connection it belongs to; `goodbye` belongs to none.
    pub fn connection(&self) -> Option<&str> {
        self.connection.as_deref()
    }

    /// Its place in the connection's sequence. Events and lifecycle notifications have one; it only means something
    /// together with the `stream` that the daemon names when it answers `subscribe`.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// The reason, where this is a `goodbye`.
    pub fn goodbye(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Goodbye<'a> {
            #[serde(borrow, default)]
            reason: Cow<'a, str>,
        }
        match self.kind {
            Kind::Goodbye => {
                Some(self.read().map_or_else(|_| String::new(), |Goodbye { reason }| reason.into()))
            }
            _ => None,
        }
    }
}

/// What a [`Notification`] says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// The server emitted an event.
    Event(Event<'a>),
    /// The connection itself changed.
    Lifecycle(Lifecycle<'a>),
    /// Notifications were lost because this program was too slow.
    Lagged(Lagged<'a>),
    /// Some program emitted an event.
    Outgoing(Outgoing<'a>),
    /// The daemon is about to close the attachment, for this reason.
    Goodbye(String),
    /// A method that this client does not know.
    Other,
}

/// An event of the server.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Event<'a> {
    /// On which connection.
    #[serde(borrow)]
    pub connection: Cow<'a, str>,
    /// Its place in the connection's sequence.
    pub seq: u64,
    /// Its name.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Its arguments, a JSON array, as the server wrote them.
    #[serde(borrow)]
    pub args: &'a RawValue,
    /// The server wants an answer to this number.
    #[serde(default)]
    pub ack: Option<u64>,
    /// `{"$binary":"<base64>"}` in the arguments are attachments.
    #[serde(default)]
    pub binary: bool,
}

impl<'a> Event<'a> {
    /// The arguments as a type of the caller's: a tuple, or a `Vec`.
    pub fn read<T: Deserialize<'a>>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.args.get())
    }

    /// An answer to be filled in, where the server wants one.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/stage.rs"));
    /// # fn main() { run(async |default_socket| {
    /// # use siod::client::{Client, Emit, Notice, Subscribe};
    /// # let mut siod = Client::attach(default_socket()).await?;
    /// # siod.subscribe(Subscribe::to("chat").events(["ready?"])).await?;
    /// # siod.emit(Emit::new("chat", "ask me").args(["ready?"])).await?;
    /// # loop {
    /// let notification = siod.next_notification().await?;
    /// if let Notice::Event(event) = notification.notice()?
    ///     && let Some(answer) = event.answer()
    /// {
    ///     siod.ack(answer.args(["yes"])).await?;
    /// #   break;
    /// }
    /// # }
    /// # siod.subscribe(Subscribe::to("chat").events(["answered"]).without_lifecycle().last(1)).await?;
    /// # let heard = siod.next_notification().await?;
    /// # let Notice::Event(event) = heard.notice()? else { unreachable!() };
    /// # assert_eq!(event.read::<(&str,)>()?, ("yes",));
    /// # Ok(()) }) }
    /// ```
    pub fn answer(&self) -> Option<Ack<'_>> {
        self.ack.map(|ack| Ack::new(&self.connection, ack))
    }
}

/// An event that some program emitted.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// On which connection.
    #[serde(borrow)]
    pub connection: Cow<'a, str>,
    /// Its name.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Its arguments, a JSON array, as the program wrote them.
    #[serde(borrow)]
    pub args: &'a RawValue,
    /// `{"$binary":"<base64>"}` in the arguments are attachments.
    #[serde(default)]
    pub binary: bool,
    /// Which program.
    #[serde(borrow)]
    pub consumer: Cow<'a, str>,
}

/// Notifications that are gone because this program was too slow.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Lagged<'a> {
    /// Of which connection.
    #[serde(borrow)]
    pub connection: Cow<'a, str>,
    /// How many.
    pub missed: u64,
    /// With which it goes on.
    pub next_seq: u64,
}

/// A change of a connection.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Members<'a>", bound(deserialize = "'de: 'a"))]
#[non_exhaustive]
pub struct Lifecycle<'a> {
    /// Of which.
    pub connection: Cow<'a, str>,
    /// Its place in the connection's sequence.
    pub seq: u64,
    /// The name of what happened.
    pub event: Cow<'a, str>,
    /// What happened.
    pub change: Change<'a>,
    /// The connection is up, or will come up by itself.
    pub active: bool,
    /// When, where the daemon says so.
    pub time: Option<SystemTime>,
}

/// What happened to a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change<'a> {
    /// It joined its namespace.
    Connect {
        /// The socket's id.
        id: Cow<'a, str>,
        /// The server gave the earlier session back.
        recovered: bool,
        /// What carries it.
        transport: Option<Transport>,
    },
    /// It could not connect.
    ConnectError {
        /// What the official client says in this case.
        message: Cow<'a, str>,
        /// `transport`, `server` or `auth`.
        source: Cow<'a, str>,
        /// The step that failed.
        phase: Option<Cow<'a, str>>,
        /// What really happened.
        description: Option<Cow<'a, str>>,
        /// What to try.
        hint: Option<Cow<'a, str>>,
        /// The status of an HTTP answer.
        code: Option<i64>,
        /// What the server's middleware gave.
        data: Option<&'a RawValue>,
    },
    /// It was connected and is no longer.
    Disconnect {
        /// The official client's word.
        reason: Cow<'a, str>,
        /// More about it.
        details: Option<Details<'a>>,
    },
    /// An attempt begins.
    ReconnectAttempt {
        /// Which, from 1.
        attempt: u64,
    },
    /// An attempt failed.
    ReconnectError {
        /// Which, from 1.
        attempt: u64,
        /// Why.
        message: Cow<'a, str>,
    },
    /// The transport is up again; `Connect` follows.
    Reconnect {
        /// With which attempt.
        attempt: u64,
    },
    /// No attempt is left.
    ReconnectFailed {
        /// How many were made.
        attempts: u64,
    },
    /// The session moved to another transport.
    Upgrade {
        /// To which.
        transport: Option<Transport>,
    },
    /// The script of the connection went through.
    Ready,
    /// A step of the script did not.
    SetupFailed {
        /// Which, from 0.
        step: u64,
        /// Why.
        message: Cow<'a, str>,
        /// The server's answer, a JSON array, where that was the wrong one.
        answer: Option<&'a RawValue>,
    },
    /// It was added to the daemon.
    Opened {
        /// `config` or `consumer`.
        by: Cow<'a, str>,
    },
    /// It was removed from the daemon.
    Closed {
        /// `config` or `consumer`.
        by: Cow<'a, str>,
    },
    /// Something that this client does not know.
    Other,
}

/// More about a `disconnect`.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Details<'a> {
    /// What happened.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// Of the WebSocket's close, or the HTTP status.
    #[serde(default)]
    pub code: Option<i64>,
}

/// All members of lifecycle notifications.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    connection: Cow<'a, str>,
    seq: u64,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(default)]
    active: bool,
    #[serde(default, deserialize_with = "maybe_time")]
    time: Option<SystemTime>,
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(default)]
    recovered: bool,
    transport: Option<Transport>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    phase: Option<Cow<'a, str>>,
    #[serde(borrow)]
    description: Option<Cow<'a, str>>,
    #[serde(borrow)]
    hint: Option<Cow<'a, str>>,
    code: Option<i64>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    details: Option<Details<'a>>,
    #[serde(default)]
    attempt: u64,
    #[serde(default)]
    attempts: u64,
    #[serde(default)]
    step: u64,
    #[serde(borrow)]
    answer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    by: Cow<'a, str>,
}

impl<'a> From<Members<'a>> for Lifecycle<'a> {
    fn from(members: Members<'a>) -> Self {
        let Members { connection, seq, event, active, time, .. } = members;
        let change = match &*event {
            "connect" => {
                Change::Connect { id: members.id, recovered: members.recovered, transport: members.transport }
            }
            "connect_error" => Change::ConnectError {
                message: members.message,
                source: members.source,
                phase: members.phase,
                description: members.description,
                hint: members.hint,
                code: members.code,
                data: members.data,
            },
            "disconnect" => Change::Disconnect { reason: members.reason, details: members.details },
            "reconnect_attempt" => Change::ReconnectAttempt { attempt: members.attempt },
            "reconnect_error" => {
                Change::ReconnectError { attempt: members.attempt, message: members.message }
            }
            "reconnect" => Change::Reconnect { attempt: members.attempt },
            "reconnect_failed" => Change::ReconnectFailed { attempts: members.attempts },
            "upgrade" => Change::Upgrade { transport: members.transport },
            "ready" => Change::Ready,
            "setup_failed" => {
                Change::SetupFailed { step: members.step, message: members.message, answer: members.answer }
            }
            "opened" => Change::Opened { by: members.by },
            "closed" => Change::Closed { by: members.by },
            _ => Change::Other,
        };
        Self { connection, seq, event, change, active, time }
    }
}
