//! One upstream connection, kept alive: [`Manager`] as the official client knows it, with one Socket a namespace.
//!
//! `state` decides, `driver` carries out. What happens goes to each socket's [`Observer`]; what is wanted comes
//! through [`SocketHandle`].

mod auth;
pub mod backoff;
mod clock;
mod driver;
mod effects;
mod handle;
mod observer;
pub mod pace;
mod queue;
pub mod state;
mod ticket;
#[cfg(target_os = "linux")]
mod wakeup;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytestring::ByteString;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use self::auth::Auth;
pub use self::effects::{Effect, Effects};
use self::handle::Command;
pub use self::handle::{Admission, Done, Manager, Sessions, SocketHandle, done};
pub use self::observer::{
    ConnectionState, Counters, Hear, Lifecycle, Observer, Room, Source, Status, Witness,
};
pub use self::state::Returns;
pub use self::ticket::{Asker, Id, Ticket};
use crate::engineio::TransportKind;
use crate::socketio::{Parser, Step, socket};
use crate::transport;

/// Bytes of emits on their way to the transport of one Manager; whoever brings more waits.
pub const IN_FLIGHT: usize = 1024 * 1024;

/// What makes a Manager: connections whose settings are equal can share one.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where and how to connect.
    pub transport: transport::Settings,
    /// Transports in the order in which they are tried; the first opens the session.
    pub transports: Vec<TransportKind>,
    /// Try the next transport within the same attempt when one cannot be opened.
    pub try_all_transports: bool,
    /// Move from polling to WebSocket when the server offers it.
    pub upgrade: bool,
    /// Start on WebSocket when the last one in this process worked.
    pub remember_upgrade: bool,
    /// How packets are written.
    pub parser: Parser,
    /// Come back after a failure or loss.
    pub reconnection: bool,
    /// Attempts before giving up; absent: no limit.
    pub reconnection_attempts: Option<u32>,
    /// The delay between attempts.
    pub backoff: backoff::Settings,
    /// One connection attempt, from the first packet to the Engine.IO handshake; also the wait for a CONNECT answer.
    pub timeout: Duration,
    /// Up this long, a connection lets the delay's exponent start over.
    pub stable_after: Duration,
}

/// What makes one Socket on a Manager.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketSettings {
    /// `/` or `/name`, with the trailing slash the URL had.
    pub namespace: ByteString,
    /// Who we are.
    pub auth: Auth,
    /// Timeout of emits with ack that name none.
    pub ack_timeout: Option<Duration>,
    /// Times that an unanswered emit is sent again; 0: emits do not wait for each other's answers.
    pub retries: u32,
    /// Bytes of events that may wait: for the connection, or with `retries` for an answer.
    pub send_buffer: usize,
    /// Attachments an emit may have; absent: no limit, since the parser has none.
    pub max_attachments: Option<usize>,
    /// Which words of the server are not taken for final.
    pub returns: Returns,
    /// What is said after each CONNECT, before anybody else may speak.
    pub script: Arc<[Step]>,
}

/// What the Managers of one daemon have in common.
#[derive(Debug)]
pub struct Common {
    pace: Arc<pace::Pace>,
    awake: watch::Sender<()>,
    /// Moments of all Managers are comparable.
    clock: clock::Clock,
    /// One turn for all: attempts begin one after the other, and whoever waits for something else has a turn in between.
    turn: Arc<Semaphore>,
    /// How many have left of those who had asked for something.
    askers_left: Arc<AtomicU64>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            pace: Arc::default(),
            awake: watch::Sender::default(),
            clock: clock::Clock::system(),
            turn: Arc::new(Semaphore::new(1)),
            askers_left: Arc::default(),
        }
    }
}

impl Common {
    /// From here on no attempt begins, until [`Common::release_attempts`]. What is to connect is connecting all the same.
    pub fn hold_attempts(&self) {
        self.turn.forget_permits(1);
    }

    /// Ends [`Common::hold_attempts`].
    pub fn release_attempts(&self) {
        self.turn.add_permits(1);
    }

    /// Somebody who waited for answers is gone. What is kept for it is dropped before long.
    pub fn asker_left(&self) {
        self.askers_left.fetch_add(1, Ordering::Relaxed);
    }

    /// Watches, until `stop`, for the end of the machine's sleep, so that links are judged at once then.
    pub fn watch_for_sleep(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        #[cfg(target_os = "linux")]
        let watch = wakeup::watch_for_sleep(self.awake.clone(), stop);
        #[cfg(not(target_os = "linux"))]
        let watch = stop.cancelled_owned();
        watch
    }
}

impl SocketSettings {
    fn for_socket(&self, manager: &Settings) -> socket::Settings {
        socket::Settings {
            namespace: self.namespace.clone(),
            parser: manager.parser,
            timeout: manager.timeout,
            ack_timeout: self.ack_timeout,
            retries: self.retries,
            send_buffer: self.send_buffer,
            script: Arc::clone(&self.script),
        }
    }
}
