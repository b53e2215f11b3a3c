//! What a Manager tells of its sockets, and to whom.

use std::time::Instant;

use bytestring::ByteString;
use tokio::sync::Notify;

use crate::engineio::{Details, Handshake, TransportKind};
use crate::socketio::{Args, ArgsView, DisconnectReason, Loss, Name, NameView};
use crate::transport;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    /// The first attempt is going on, or CONNECT is unanswered.
    Connecting,
    /// Joined.
    Connected,
    /// Failed or lost, and to come back.
    Reconnecting,
    /// Not active.
    #[default]
    Disconnected,
}

impl ConnectionState {
    /// As consumers read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Disconnected => "disconnected",
        }
    }
}

/// A connection at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Where it stands.
    pub state: ConnectionState,
    /// Joined, and its script has gone through, if it has one.
    pub ready: bool,
    /// It is up, or will come up by itself.
    pub active: bool,
    /// The socket's id while connected.
    pub id: Option<ByteString>,
    /// The session was given back by the server.
    pub recovered: bool,
    /// What the session travels on.
    pub transport: Option<TransportKind>,
    /// The reconnection attempt going on or waited for; 0 for none.
    pub attempt: u32,
    /// When the next attempt begins.
    pub next_attempt: Option<Instant>,
}

/// Numbers that change with the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that wait for the connection.
    pub buffered: usize,
    /// Acks that are waited for.
    pub pending_acks: usize,
    /// Events handed to the transport.
    pub sent: u64,
}

/// Who is to blame for a `connect_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The connection below could not be made; it is tried again.
    Transport,
    /// The server refused; it takes a `connect`.
    Server,
    /// The auth object could not be had; it is tried again.
    Auth,
}

impl Source {
    /// As consumers read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Server => "server",
            Self::Auth => "auth",
        }
    }
}

/// What happens to a connection, beside its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// The namespace is joined.
    Connect {
        /// The socket's id.
        id: ByteString,
        /// The server gave the earlier session back.
        recovered: bool,
        /// What the session travels on.
        transport: TransportKind,
    },
    /// It could not be joined.
    ConnectError {
        /// The failure.
        details: Details,
        /// What the server's middleware added, JSON text.
        data: Option<ByteString>,
        /// Who is to blame.
        source: Source,
    },
    /// The script went through.
    Ready,
    /// A step of the script failed; the connection leaves.
    SetupFailed {
        /// Which, from 0.
        step: usize,
        /// Why.
        message: String,
        /// The server's answer, where it was the wrong one.
        answer: Option<Args>,
    },
    /// It was joined and is no longer.
    Disconnect {
        /// Why.
        reason: DisconnectReason,
        /// What more is known.
        details: Option<Details>,
    },
    /// An attempt begins.
    ReconnectAttempt {
        /// From 1.
        attempt: u32,
    },
    /// That attempt failed.
    ReconnectError {
        /// From 1.
        attempt: u32,
        /// Why.
        message: String,
    },
    /// The session is open again.
    Reconnect {
        /// The attempt that did it.
        attempt: u32,
    },
    /// No attempt is left.
    ReconnectFailed {
        /// How many there were.
        attempts: u32,
    },
    /// The session moved to another transport.
    Upgrade {
        /// The new one.
        transport: TransportKind,
    },
}

impl Lifecycle {
    /// As consumers read it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::ConnectError { .. } => "connect_error",
            Self::Ready => "ready",
            Self::SetupFailed { .. } => "setup_failed",
            Self::Disconnect { .. } => "disconnect",
            Self::ReconnectAttempt { .. } => "reconnect_attempt",
            Self::ReconnectError { .. } => "reconnect_error",
            Self::Reconnect { .. } => "reconnect",
            Self::ReconnectFailed { .. } => "reconnect_failed",
            Self::Upgrade { .. } => "upgrade",
        }
    }
}

/// Whether an event, or an answer, can be passed on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Yes.
    Free,
    /// No; ask again when `room_changed` says so, or at this time.
    Full {
        /// When to ask at the latest.
        until: Instant,
    },
}

/// [`Observer::event`], for one of several.
pub type Hear<'a> = dyn FnMut(NameView<'_>, ArgsView<'_>, Option<u64>) -> bool + 'a;

/// Who hears what happens on a socket. Called from the Manager's task, so nothing here may wait.
pub trait Observer: Send + Sync {
    /// The server's event; [`Observer::room`] was free. True where it is known to be free for another one.
    fn event(&self, name: NameView<'_>, args: ArgsView<'_>, ack: Option<u64>) -> bool;
    /// Several events in one go: `speak` gets what is otherwise [`Observer::event`], and calls nothing else of this.
    fn events(&self, speak: &mut dyn FnMut(&mut Hear<'_>)) {
        speak(&mut |name, args, ack| self.event(name, args, ack));
    }

    /// A lifecycle event, and where the connection stands after it.
    fn lifecycle(&self, event: &Lifecycle, status: &Status);
    /// What [`Observer::is_watched`] asked for.
    fn outgoing(&self, name: &Name, args: &Args, sender: u64);
    /// An emit that was taken is given up.
    fn lost(&self, name: &Name, loss: Loss);

    /// Its auth command wrote a line to its standard error.
    fn said(&self, program: &str, line: &str);
    /// Whether [`Observer::outgoing`] is wanted.
    fn is_watched(&self) -> bool;
    /// Where the connection stands, whenever that or a counter changed.
    fn update(&self, status: &Status, counters: Counters);
    /// Whether an event can be taken.
    fn room(&self, now: Instant) -> Room;
    /// Notified when there may be room again.
    fn room_changed(&self) -> &Notify;
    /// Everything of this moment has been said: wake who listens.
    fn publish(&self);
}

/// Who hears how sessions come about: each step to the server, and what it says of itself.
pub trait Witness: transport::Watch {
    /// The handshake is done.
    fn opened(&self, handshake: &Handshake);
}
