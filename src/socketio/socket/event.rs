//! What goes into a socket and what comes out of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;

use super::MAX_PENDING;
use crate::engineio::{CloseReason, Details, Message};
use crate::socketio::{AckError, Args, Name, Packet, Parser, Step, TooLarge};

/// Limits of one socket.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `/` or `/name`.
    pub namespace: ByteString,
    /// How packets are written.
    pub parser: Parser,
    /// How long the CONNECT answer may take.
    pub timeout: Duration,
    /// Timeout of emits with an ack that name none.
    pub ack_timeout: Option<Duration>,
    /// How often an emit is sent again that is not answered in time; 0: emits are sent once, and none waits for the
    /// answer to another.
    pub retries: u32,
    /// Bytes that may wait: for the connection, or with `retries` for an answer.
    pub send_buffer: usize,
    /// What is said after each CONNECT, before anybody else may speak.
    pub script: Arc<[Step]>,
}

/// Why a connected socket is no longer. The words are those of the official client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The server said so; it takes a `connect` to come back.
    ServerDisconnect,
    /// This side said so; it takes a `connect` to come back.
    ClientDisconnect,
    /// The server sent something that is no Socket.IO packet.
    ParseError,
    /// The session below ended.
    Closed(CloseReason),
}

impl DisconnectReason {
    /// As consumers read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerDisconnect => "io server disconnect",
            Self::ClientDisconnect => "io client disconnect",
            Self::ParseError => "parse error",
            Self::Closed(reason) => reason.as_str(),
        }
    }
}

/// What happened on the socket, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// Joined.
    Connect {
        /// The socket's id, new at every connection that is not recovered.
        id: ByteString,
        /// The server gave the earlier session back, missed events included.
        recovered: bool,
    },
    /// A step of the script wants the arguments that this file holds; then [`Socket::handle_step_args`](super::Socket::handle_step_args).
    ReadArgs(PathBuf),
    /// The script went through: what waited goes out.
    Ready,
    /// A step of the script failed, and the socket leaves.
    SetupFailed {
        /// Which, from 0.
        step: usize,
        /// Why; quotes neither what was sent nor what is expected.
        message: String,
        /// The server's answer, where it was the wrong one.
        answer: Option<Args>,
    },
    /// The server refused the namespace.
    Refused {
        /// The server's message; may be empty.
        message: String,
        /// The server's data, JSON text.
        data: Option<ByteString>,
    },
    /// Could not join because of the connection below; told by the Manager's rules of reconnection.
    JoinFailed(Details),
    /// Was joined, is no longer.
    Disconnect {
        /// Why.
        reason: DisconnectReason,
        /// What more is known.
        details: Option<Details>,
    },
    /// The server's event.
    Event {
        /// Its name.
        name: Name,
        /// Its arguments.
        args: Args,
        /// Our number for the ack it asks for.
        ack: Option<u64>,
    },
    /// The answer to an emit with an ack.
    Answer {
        /// Who waits.
        ticket: T,
        /// What came.
        result: Result<Args, AckError>,
    },
    /// A consumer's event is handed to the transport.
    Outgoing {
        /// Its name.
        name: Name,
        /// Its arguments.
        args: Args,
        /// The `sender` of the emit.
        sender: u64,
    },
    /// An emit that was taken is given up: it was not sent, or was not answered.
    Lost {
        /// Its name.
        name: Name,
        /// Why.
        loss: Loss,
    },
}

/// What goes to the server next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// CONNECT or DISCONNECT, still to be encoded: old servers want them otherwise.
    Packet(Packet),
    /// A message of an event or an answer. A packet's messages follow each other, with nothing between them.
    Message(Message),
}

/// One emit.
#[derive(Debug)]
pub struct Emit {
    /// The event's name.
    pub name: Name,
    /// Its arguments.
    pub args: Args,
    /// Answer wanted; the inner timeout falls back to the socket's.
    pub ack: Option<Option<Duration>>,
    /// Drop it rather than let it wait.
    pub volatile: bool,
    /// Whoever emits, for those who watch.
    pub sender: u64,
}

/// What became of an emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Handed to the transport.
    Sent,
    /// Waits for the connection.
    Buffered,
    /// Volatile and not writable now.
    Dropped,
}

/// Why an emit that was taken is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// It waited for the connection, and then the server did not take one so large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// All its tries went by without an answer, which nobody waits for.
    #[error("the server answered none of {tries} tries; it may have got the event")]
    Unanswered {
        /// How many there were.
        tries: u32,
    },
    /// It waited in the retry queue when the connection was closed for good, or the daemon ended.
    #[error("the end came before the server's answer (tries: {tries})")]
    Abandoned {
        /// How many there were; none if it was not sent.
        tries: u32,
    },
}

/// Why an emit was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// The send buffer has no room for it.
    #[error("the send buffer is full ({0} bytes); nothing was dropped, try again when some of it is sent")]
    BufferFull(usize),
    /// Too many acks are waited for.
    #[error("too many acks are pending ({MAX_PENDING}); wait for some, or give them a timeout")]
    TooManyPending,
    /// The server would end the session.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// There is no socket any more.
    #[error("the connection was closed; nothing was sent")]
    Closed,
}

/// Why a question of the server was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It was answered before, or its session is gone.
    #[error("it was answered, or its session is gone")]
    Unknown,
    /// The server would end the session. The question stays open.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}
