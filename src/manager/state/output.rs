//! What the state machine wants done, and what it has to say.

use std::path::PathBuf;

use super::Key;
use crate::engineio::{self, TransportKind};
use crate::manager::{Lifecycle, Status};
use crate::socketio::{AckError, Args, Loss, Name};

/// What the driver has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a transport for a new session; then `handle_packet`, or `handle_lost`.
    Open(TransportKind),
    /// Tell the transport what the handshake said.
    Opened(engineio::Handshake),
    /// Open a WebSocket beside the polling transport, joining the session.
    Probe {
        /// The session's id.
        sid: String,
    },
    /// Bring the polling transport to rest, then `handle_paused`.
    Pause,
    /// Use the probe from now on.
    Switch,
    /// Drop the probe and let polling go on.
    AbandonProbe,
    /// Let the transport go.
    Close {
        /// The session ends from this side: send what is queued and `last`, tell the server, then close.
        graceful: bool,
        /// What the session still wanted sent.
        last: Vec<engineio::Packet>,
    },
    /// Get this socket's auth object, then `handle_auth`.
    Authenticate {
        /// The socket.
        key: Key,
        /// Goes back with the answer: a later question makes an earlier one void.
        question: u64,
    },
    /// Read the JSON array in this file, then `handle_step_args`.
    ReadArgs {
        /// The socket.
        key: Key,
        /// Goes back with the answer.
        question: u64,
        /// Where it is.
        path: PathBuf,
    },
}

/// Which of the server's ways to send a socket away are not taken for final. The official client takes both for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returns {
    /// After `CONNECT_ERROR`.
    pub refused: bool,
    /// After DISCONNECT.
    pub kicked: bool,
}

/// What the socket's owner is to hear, in order.
#[derive(Debug)]
pub enum Output<T> {
    /// A lifecycle event.
    Lifecycle {
        /// What happened.
        event: Lifecycle,
        /// The socket right after it.
        status: Status,
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
    /// A consumer's event is handed to the transport.
    Outgoing {
        /// Its name.
        name: Name,
        /// Its arguments.
        args: Args,
        /// Who emitted it.
        sender: u64,
    },
    /// The answer to an emit.
    Answer {
        /// Who waits.
        ticket: T,
        /// What came.
        result: Result<Args, AckError>,
    },
    /// An emit that was taken is given up: it was not sent, or was not answered.
    Lost {
        /// Its name.
        name: Name,
        /// Why.
        loss: Loss,
    },
    /// Everything before the command that left this ticket has been passed on.
    Done(T),
}
