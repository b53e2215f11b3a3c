//! One upstream connection, kept alive: [`Manager`] as the official client knows it, with one Socket a namespace.
//!
//! `state` decides, `driver` carries out. What happens goes to each socket's [`Observer`]; what is wanted comes
//! through [`SocketHandle`].

mod auth;
pub mod backoff;
mod clock;
mod driver;
mod effects;
pub mod pace;
mod queue;
pub mod state;
mod ticket;
#[cfg(target_os = "linux")]
mod wakeup;

pub use auth::Auth;
pub use effects::{Effect, Effects};
pub use state::Returns;
pub use ticket::{Asker, Id, Ticket};

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug_span};

use crate::engineio::{Details, Handshake, TransportKind};
use crate::socketio::{
    AnswerError, Args, ArgsView, DisconnectReason, Emit, Loss, Name, NameView, Parser, Recoverable, Step,
    socket,
};
use crate::transport::{self, Connector};

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
}

impl Default for Common {
    fn default() -> Self {
        Self {
            pace: Arc::default(),
            awake: watch::Sender::default(),
            clock: clock::Clock::system(),
            turn: Arc::new(Semaphore::new(1)),
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

    /// Watches, until `stop`, for the end of the machine's sleep, so that links are judged at once then.
    pub fn watch_for_sleep(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        #[cfg(target_os = "linux")]
        let watch = wakeup::watch_for_sleep(self.awake.clone(), stop);
        #[cfg(not(target_os = "linux"))]
        let watch = stop.cancelled_owned();
        watch
    }
}

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

/// Whether an event can be passed on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Yes.
    Free,
    /// No; ask again when [`Observer::room_changed`] says so, or at this time.
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

/// Called once a command has taken effect and everything it caused has been passed on.
pub type Done<R = ()> = Box<dyn FnOnce(R) + Send>;

/// A [`Done`], and the wait for it; the wait ends too, with the default, when the Manager is gone.
pub fn done<R: Default + Send + 'static>() -> (Done<R>, impl Future<Output = R> + Send) {
    let (sender, receiver) = oneshot::channel();
    let done = Box::new(move |result| {
        // Nobody may be waiting any more.
        let _ = sender.send(result);
    });
    (done, async { receiver.await.unwrap_or_default() })
}

enum Command {
    Add {
        key: u64,
        /// Boxed, for it is large, and there is room for more than one command.
        settings: Box<SocketSettings>,
        first_ack: u64,
        session: Option<Recoverable>,
        observer: Arc<dyn Observer>,
    },
    Session {
        key: u64,
        done: Done<Option<Recoverable>>,
    },
    Remove {
        key: u64,
        done: Done,
    },
    Connect {
        key: u64,
        done: Done,
    },
    Disconnect {
        key: u64,
        done: Done,
    },
    SetAuth {
        key: u64,
        auth: Auth,
        done: Done,
    },
    Emit {
        key: u64,
        emit: Emit,
        /// Its share of the gate.
        share: u32,
        ticket: Ticket,
    },
    Answer {
        key: u64,
        number: u64,
        args: Args,
        share: u32,
        done: Done<Result<(), AnswerError>>,
    },
    AbandonAcks {
        done: Done,
    },
    Suspend {
        done: Done<Sessions>,
    },
}

/// The sessions of a Manager's sockets that the server may give back, by [`SocketHandle::key`].
pub type Sessions = HashMap<u64, Recoverable>;

/// The handle of one Manager; its task ends with the last handle.
#[derive(Debug)]
pub struct Manager {
    commands: queue::Sender,
    next_key: AtomicU64,
}

impl Manager {
    /// Starts the Manager's task, which `stop` ends: its sockets then leave, and what is queued is sent. `connector` is
    /// its own, and has been made with the settings' transport.
    pub fn spawn(
        settings: Settings,
        connector: Connector,
        common: &Common,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Self::start(settings, connector, None, common, tasks, stop)
    }

    /// The same with somebody who hears how its sessions come about. Fails when a file that the TLS settings name cannot
    /// be used.
    pub fn spawn_watched(
        settings: Settings,
        witness: Arc<dyn Witness>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, transport::Error> {
        let connector = Connector::watched(settings.transport.clone(), Arc::clone(&witness) as Arc<_>)?;
        Ok(Self::start(settings, connector, Some(witness), &Common::default(), tasks, stop))
    }

    fn start(
        settings: Settings,
        connector: Connector,
        witness: Option<Arc<dyn Witness>>,
        common: &Common,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (commands, receiver) = queue::channel();
        let transport::Settings { host, port, .. } = &settings.transport;
        let span = debug_span!("manager", host, port);
        let driver = driver::Driver::new(settings, connector, witness, receiver, common, tasks.clone(), stop);
        tasks.spawn(driver.run().instrument(span));
        Arc::new(Self { commands, next_key: AtomicU64::new(0) })
    }

    /// Adds an inactive socket for a namespace that is not taken. `first_ack`: where our numbers for the server's
    /// questions go on; `session`: what another process had, and the server may give back.
    pub fn add(
        self: &Arc<Self>,
        settings: SocketSettings,
        first_ack: u64,
        session: Option<Recoverable>,
        observer: Arc<dyn Observer>,
    ) -> SocketHandle {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        self.send(Command::Add { key, settings: Box::new(settings), first_ack, session, observer });
        SocketHandle { manager: Arc::clone(self), key }
    }

    /// Whoever waits for an ack on any socket hears that none will come.
    pub fn abandon_acks(&self, done: Done) {
        self.send(Command::AbandonAcks { done });
    }

    /// All sockets leave for good, but so that the server may give their sessions back to the next process. `done` gets
    /// those sessions when everything that was said on them has been passed on, also beyond the room that observers have.
    pub fn suspend(&self, done: Done<Sessions>) {
        self.send(Command::Suspend { done });
    }

    fn send(&self, command: Command) {
        // A task that is gone drops the command, and with it the ticket, whose owner notices.
        self.commands.send(command);
    }
}

/// What [`SocketHandle::admit`] has admitted, until it is emitted.
#[must_use]
#[derive(Debug)]
pub struct Admission(u32);

/// One socket of a Manager. Commands take effect in the order in which they are given.
#[derive(Clone, Debug)]
pub struct SocketHandle {
    manager: Arc<Manager>,
    key: u64,
}

impl SocketHandle {
    /// Whether the transport takes this one now; then it has to be given to [`SocketHandle::emit_admitted`].
    pub fn admit(&self, emit: &Emit) -> Option<Admission> {
        self.manager.commands.try_share(share_of(emit)).map(Admission)
    }

    /// Emits what was admitted.
    pub fn emit_admitted(&self, emit: Emit, Admission(share): Admission, ticket: Ticket) {
        self.manager.send(Command::Emit { key: self.key, emit, share, ticket });
    }

    /// Waits until the transport takes more, then emits. A volatile emit does not wait.
    pub async fn emit(&self, emit: Emit, ticket: Ticket) {
        let (wanted, commands) = (share_of(&emit), &self.manager.commands);
        let share = if emit.volatile {
            commands.try_share(wanted).unwrap_or(0)
        } else {
            commands.share(wanted).await
        };
        self.manager.send(Command::Emit { key: self.key, emit, share, ticket });
    }

    /// Waits until the transport takes more, then answers the server's question; `done` hears what became of it.
    pub async fn answer(&self, number: u64, args: Args, done: Done<Result<(), AnswerError>>) {
        let share = self.manager.commands.share(share(args.size())).await;
        self.manager.send(Command::Answer { key: self.key, number, args, share, done });
    }

    /// Connects the socket if it is not active.
    pub fn connect(&self, done: Done) {
        self.manager.send(Command::Connect { key: self.key, done });
    }

    /// Disconnects it.
    pub fn disconnect(&self, done: Done) {
        self.manager.send(Command::Disconnect { key: self.key, done });
    }

    /// Uses another auth object from the next CONNECT on.
    pub fn set_auth(&self, auth: Auth, done: Done) {
        self.manager.send(Command::SetAuth { key: self.key, auth, done });
    }

    /// Disconnects and forgets it; nothing of it is heard after `done`.
    pub fn remove(&self, done: Done) {
        self.manager.send(Command::Remove { key: self.key, done });
    }

    /// The session that the server may give back to another process; `done` hears it when everything that came on it up
    /// to its offset has been passed on.
    pub fn session(&self, done: Done<Option<Recoverable>>) {
        self.manager.send(Command::Session { key: self.key, done });
    }

    /// Which socket of the Manager it is.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The Manager it lives on.
    pub fn manager(&self) -> &Arc<Manager> {
        &self.manager
    }
}

fn share_of(emit: &Emit) -> u32 {
    share(emit.name.as_json().len() + emit.args.size())
}

/// What an emit takes of the gate. The least bounds how many small ones can be on the way; one that is larger than
/// the gate goes when it has it to itself.
fn share(size: usize) -> u32 {
    const LEAST: usize = 256;
    u32::try_from(size.clamp(LEAST, IN_FLIGHT)).unwrap_or(u32::MAX)
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
