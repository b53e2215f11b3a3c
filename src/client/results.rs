//! What the methods give.
//!
//! Members that this client does not know are passed over, and those that a daemon may leave out have a default, so that
//! the two need not be of one version.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::Error;

/// What `hello` gives: the daemon, and this program as the daemon sees it.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Welcome {
    /// The daemon's version.
    pub version: String,
    /// The version of the API; this client speaks 1.
    pub api: u32,
    /// The numbering that `seq` belongs to.
    pub stream: String,
    /// The daemon's process.
    pub pid: u32,
    /// What the daemon calls this attachment.
    pub consumer: String,
    /// What this program may do.
    pub role: Role,
    /// What it has to keep to.
    pub limits: Limits,
}

/// Limits of one attachment.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request's line.
    pub max_line: usize,
}

/// What a program may do; each may what the one before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Listen.
    Read,
    /// Emit and answer.
    Write,
    /// Connect, disconnect, open and close.
    Control,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

impl Role {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Control => "control",
            Self::Other => "other",
        }
    }
}

/// A connection at one moment.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Where to, without user info.
    #[serde(default)]
    pub url: String,
    /// The namespace.
    #[serde(default)]
    pub namespace: String,
    /// How it stands.
    pub state: State,
    /// It is joined.
    #[serde(default)]
    pub connected: bool,
    /// It is joined, and its script has gone through where it has one.
    #[serde(default)]
    pub ready: bool,
    /// It is up, or will come up by itself.
    #[serde(default)]
    pub active: bool,
    /// The socket's id, while it is connected.
    #[serde(default)]
    pub id: Option<String>,
    /// The server gave the earlier session back.
    #[serde(default)]
    pub recovered: bool,
    /// What carries it, if anything does.
    #[serde(default)]
    pub transport: Option<Transport>,
    /// The reconnection attempt that is going on or waited for.
    #[serde(default)]
    pub attempt: u64,
    /// When it begins.
    #[serde(default, rename = "next_attempt_ms", deserialize_with = "maybe_milliseconds")]
    pub next_attempt: Option<Duration>,
    /// When `state` last changed.
    #[serde(default, deserialize_with = "maybe_time")]
    pub since: Option<SystemTime>,
    /// The newest notification's number.
    #[serde(default)]
    pub seq: u64,
    /// The oldest that is retained; `seq` + 1 where none is.
    #[serde(default)]
    pub oldest_seq: u64,
    /// The numbering that these belong to.
    #[serde(default)]
    pub stream: String,
    /// Events that wait to be sent.
    #[serde(default)]
    pub buffered: u64,
    /// Answers of the server that are waited for.
    #[serde(default)]
    pub pending_acks: u64,
    /// Programs that listen.
    #[serde(default)]
    pub subscribers: u64,
    /// The last `connect_error`.
    #[serde(default)]
    pub last_error: Option<LastError>,
    /// The last `disconnect`.
    #[serde(default)]
    pub last_disconnect: Option<LastDisconnect>,
    /// Events from the server.
    #[serde(default)]
    pub received: u64,
    /// Events to the server.
    #[serde(default)]
    pub sent: u64,
    /// How often it came back.
    #[serde(default)]
    pub reconnects: u64,
    /// Any certificate of the server is taken.
    #[serde(default)]
    pub insecure: bool,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// The first attempt goes on, or the server has yet to let it in.
    Connecting,
    /// Joined.
    Connected,
    /// From a failure or a loss until it is connected again.
    Reconnecting,
    /// Neither up nor on its way.
    Disconnected,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

impl State {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Disconnected => "disconnected",
            Self::Other => "other",
        }
    }
}

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// A WebSocket.
    Websocket,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

impl Transport {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Websocket => "websocket",
            Self::Other => "other",
        }
    }
}

/// A connection's last failure to connect.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct LastError {
    /// What the official client says in this case.
    pub message: String,
    /// The step that failed.
    pub phase: Option<String>,
    /// What really happened.
    pub description: Option<String>,
    /// What to try.
    pub hint: Option<String>,
    /// When.
    #[serde(default, deserialize_with = "maybe_time")]
    pub time: Option<SystemTime>,
}

/// A connection's last loss.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct LastDisconnect {
    /// The official client's word.
    pub reason: String,
    /// More about it.
    pub message: Option<String>,
    /// What really happened.
    pub description: Option<String>,
    /// When.
    #[serde(default, deserialize_with = "maybe_time")]
    pub time: Option<SystemTime>,
}

/// What `status` gives.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The daemon itself.
    pub daemon: Daemon,
    /// The connections.
    pub connections: Vec<Snapshot>,
    /// The attached programs; only for whoever may control the daemon.
    #[serde(default)]
    pub consumers: Option<Vec<Consumer>>,
}

/// The daemon at one moment.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// Its process.
    #[serde(default)]
    pub pid: u32,
    /// The numbering that `seq` belongs to.
    #[serde(default)]
    pub stream: String,
    /// When it started.
    #[serde(default, deserialize_with = "maybe_time")]
    pub started: Option<SystemTime>,
    /// How long it has run.
    #[serde(default, rename = "uptime_ms", deserialize_with = "milliseconds")]
    pub uptime: Duration,
    /// How many programs are attached.
    #[serde(default)]
    pub consumers: u64,
    /// How many connections this program may see.
    #[serde(default)]
    pub connections: u64,
    /// Memory in use.
    #[serde(default)]
    pub rss_bytes: u64,
    /// Why the configuration could not be read again; only for whoever may control the daemon.
    #[serde(default)]
    pub config_error: Option<String>,
}

/// An attached program.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Consumer {
    /// The daemon's name for it.
    pub consumer: String,
    /// What it calls itself.
    #[serde(default)]
    pub client: Option<String>,
    /// Its process, where the kernel says so.
    #[serde(default)]
    pub pid: Option<i32>,
    /// Its user.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Its primary group.
    #[serde(default)]
    pub gid: Option<u32>,
    /// What it may do.
    pub role: Role,
    /// Since when it is there.
    #[serde(default, deserialize_with = "maybe_time")]
    pub attached: Option<SystemTime>,
    /// How many subscriptions it has.
    #[serde(default)]
    pub subscriptions: u64,
    /// Notifications it has yet to take.
    #[serde(default)]
    pub lag: u64,
    /// Notifications it has taken.
    #[serde(default)]
    pub delivered: u64,
    /// Notifications it was told it missed.
    #[serde(default)]
    pub missed: u64,
}

/// What `subscribe` gives.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Subscribed {
    /// For `unsubscribe`.
    pub subscription: u64,
    /// The numbering that `seq` belongs to.
    pub stream: String,
    /// The connections that match, at the very point from which they are heard.
    pub connections: Vec<Snapshot>,
    /// How many retained notifications come first.
    pub replayed: u64,
    /// How many after the place that was named are no longer retained; none where that place was of another numbering.
    pub missed: Option<u64>,
}

/// What `emit` gives without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Emitted {
    /// What became of the event.
    pub status: EmitStatus,
    /// The connection is up, or will come up by itself.
    #[serde(default)]
    pub active: bool,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EmitStatus {
    /// Handed to the transport.
    Sent,
    /// It goes out when the connection is up.
    Buffered,
    /// It was volatile, and could not go out at once.
    Dropped,
    /// One that this client does not know.
    #[serde(other)]
    Other,
}

/// The arguments of the server's answer.
#[derive(Clone, Debug)]
pub struct Args {
    json: Box<RawValue>,
    binary: bool,
}

impl Args {
    /// A JSON array, as the server wrote it.
    pub fn json(&self) -> &str {
        self.json.get()
    }

    /// `{"$binary":"<base64>"}` in it are attachments.
    pub fn binary(&self) -> bool {
        self.binary
    }

    /// The arguments as a type of the caller's: a tuple, or a `Vec`.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> serde_json::Result<T> {
        serde_json::from_str(self.json.get())
    }
}

/// All that `emit` may give.
#[derive(Deserialize)]
pub(super) struct Asked {
    args: Option<Box<RawValue>>,
    #[serde(default)]
    binary: bool,
    #[serde(default)]
    active: bool,
}

impl Asked {
    /// The server's answer, unless the event was dropped.
    pub(super) fn into_args(self) -> Result<Args, Error> {
        let Self { args, binary, active } = self;
        args.map(|json| Args { json, binary }).ok_or(Error::Dropped { active })
    }
}

/// What `open` gives.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Opened {
    /// It was not there before.
    pub created: bool,
    /// The connection.
    pub connection: Snapshot,
}

/// What `reload` gives: the connections of the configuration, by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Reloaded {
    /// Opened.
    pub added: Vec<String>,
    /// Closed.
    pub removed: Vec<String>,
    /// Closed, and opened again.
    pub changed: Vec<String>,
    /// Not touched.
    #[serde(default)]
    pub unchanged: Vec<String>,
    /// Keys whose new value takes a restart.
    #[serde(default)]
    pub needs_restart: Vec<String>,
}

/// What `list` gives.
#[derive(Deserialize)]
pub(super) struct List {
    pub(super) connections: Vec<Snapshot>,
}

/// RFC 3339; anything else says nothing.
pub(super) fn maybe_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(SystemTime::from))
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

fn maybe_milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
}

/// A result without anything to tell.
pub(super) type Empty = serde::de::IgnoredAny;
