//! What is wanted of a Manager and its sockets, from wherever.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug_span};

use super::auth::Auth;
use super::ticket::Ticket;
use super::{Common, IN_FLIGHT, Observer, Settings, SocketSettings, Witness, driver, queue};
use crate::socketio::{AnswerError, Args, Emit, Recoverable};
use crate::transport::{self, Connector};

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

pub(super) enum Command {
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
