//! The task of one Manager: it carries out what the state machine says, and is the only reader of the clock.
//!
//! While an observer has no room, or an asker none for more answers, nothing is read from the server, so that TCP pushes
//! back; commands and what is queued for the server go on.

mod acting;
mod askers;
mod commands;
mod discretion;
mod link;
mod receiving;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use self::askers::Departures;
use self::link::Link;
use self::waiting::{Alarm, Wake, waking};
use super::auth::{self, Auth};
use super::clock::Clock;
use super::state::{Key, Output, State};
use super::ticket::{Asker, Ticket};
use super::{Common, Counters, Done, Observer, Room, Settings, SocketSettings, Status, Witness, queue};
use crate::engineio::Details;
use crate::secret::Secrets;
use crate::socketio::{Args, Recoverable};
use crate::transport::Connector;

/// Between a panic and the new beginning.
const AFTER_PANIC: Duration = Duration::from_millis(100);

/// Packets or commands taken in a row before everybody else has a turn.
const BATCH: usize = 128;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Whoever waits for a command or an emit.
enum Waiter {
    Emit(Ticket),
    Done(Done),
    /// The socket's observer is let go with it.
    Removed(Key, Done),
    Session(Option<Recoverable>, Done<Option<Recoverable>>),
}

struct Client {
    observer: Arc<dyn Observer>,
    settings: SocketSettings,
    auth: Auth,
    /// What the server was told that nobody else may see.
    told: Secrets,
    /// The number of the server's last question for an ack.
    last_ack: u64,
    status: Status,
    counters: Counters,
    /// The observer takes one more event without being asked.
    has_room: bool,
    unpublished: bool,
}

/// A file or a command that is to say something.
struct Asked {
    question: u64,
    wanted: Wanted,
    source: BoxFuture<auth::Outcome>,
}

#[derive(Clone, Copy)]
enum Wanted {
    Auth,
    Args,
}

pub(super) struct Driver {
    settings: Settings,
    state: State<Waiter>,
    connector: Connector,
    witness: Option<Arc<dyn Witness>>,
    clients: BTreeMap<Key, Box<Client>>,
    commands: queue::Receiver,
    gate: queue::Gate,
    link: Link,
    probe: Link,
    /// What is being read or run for a socket: one thing at a time, for a later question makes an earlier one void.
    asked: HashMap<Key, Asked>,
    /// The gate's share of what the transport has not sent yet, or does not have yet: an upgrade may pause it.
    in_flight: usize,
    /// Whose emits have taken effect in this turn, and how many.
    taken: Vec<(Arc<dyn Asker>, usize)>,
    /// Who is to publish answers at its end.
    answered: Vec<Arc<dyn Asker>>,
    /// The observer without room, and when to ask it again.
    blocked: Option<(Arc<dyn Observer>, Instant)>,
    /// The askers without room, likewise.
    behind: Vec<(Arc<dyn Asker>, Instant)>,
    /// More has come than one turn takes.
    is_pressed: bool,
    /// The daemon ends: nothing is connected any more, and what is left to say does not wait for room.
    suspended: bool,
    alarm: Alarm,
    awake: BoxFuture<watch::Receiver<()>>,
    turn: Arc<Semaphore>,
    departures: Departures,
    clock: Clock,
    /// What is in every request that nobody else may see.
    secrets: Secrets,
    tasks: TaskTracker,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Driver {
    /// `connector` is one with the transport's settings; `witness`: somebody who hears how its sessions come about.
    pub(super) fn new(
        settings: Settings,
        connector: Connector,
        witness: Option<Arc<dyn Witness>>,
        commands: queue::Receiver,
        common: &Common,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let mut clock = common.clock.clone();
        clock.look();
        Self {
            secrets: connector.secrets().clone(),
            connector,
            witness,
            state: State::new(settings.clone(), Arc::clone(&common.pace), fastrand::u64(..)),
            settings,
            clients: BTreeMap::new(),
            gate: commands.gate(),
            commands,
            link: Link::Down,
            probe: Link::Down,
            asked: HashMap::new(),
            in_flight: 0,
            taken: Vec::new(),
            answered: Vec::new(),
            blocked: None,
            behind: Vec::new(),
            is_pressed: false,
            suspended: false,
            alarm: Alarm::default(),
            awake: waking(common.awake.subscribe()),
            turn: Arc::clone(&common.turn),
            departures: Departures::new(Arc::clone(&common.askers_left), clock.now()),
            clock,
            tasks,
            stop: Box::pin(stop.cancelled_owned()),
        }
    }

    /// Ends with the last handle, or when it is told to. A panic costs the session, not the Manager.
    pub(super) async fn run(mut self) {
        while let Err(panic) = AssertUnwindSafe(self.work()).catch_unwind().await {
            // The log has where it was; its words can quote what was worked on.
            drop(panic);
            self.start_over();
            // One that breaks again at once must not keep the others from running, nor fill the log.
            tokio::time::sleep(AFTER_PANIC).await;
        }
        self.leave();
    }

    async fn work(&mut self) {
        loop {
            // Traffic without end must not keep a deadline from being seen.
            let now = self.clock.now();
            if self.state.poll_timeout().is_some_and(|deadline| deadline <= now) {
                if let Some((step, words)) = self.connector.progress() {
                    self.state.handle_progress(step, words);
                }
                self.state.handle_timeout(now);
            }
            self.settle();
            if std::mem::take(&mut self.is_pressed) {
                // Whoever listens takes what has come while it is in the processor's caches, and the ring stays short.
                tokio::task::yield_now().await;
            }
            let wake = self.wait().await;
            // It sleeps, if it does, during the wait; what comes first afterwards must not be taken for earlier.
            if self.clock.look() {
                debug!("the machine slept");
            }
            match wake {
                Wake::Command(None) | Wake::Stop => return,
                Wake::Command(Some(command)) => {
                    let now = self.clock.now();
                    self.command(now, command);
                    for _ in 1..BATCH {
                        let Some(command) = self.commands.take() else { break };
                        self.command(now, command);
                    }
                }
                Wake::Link(heard) => self.receive(heard).await,
                Wake::Probe(heard) => self.probe_heard(heard),
                Wake::Asked { key, question, outcome } => {
                    let now = self.clock.now();
                    let wanted = self.asked.remove(&key).map(|asked| asked.wanted);
                    let outcome = outcome.as_ref().map(Option::as_deref).map_err(Clone::clone);
                    match wanted {
                        Some(Wanted::Auth) => {
                            self.tell(key, outcome.as_ref().ok().copied().flatten());
                            self.state.handle_auth(now, key, question, outcome);
                        }
                        Some(Wanted::Args) => {
                            let args = outcome.map(|array| array.unwrap_or("[]"));
                            self.tell_more(key, args.as_deref().unwrap_or_default());
                            self.state.handle_step_args(now, key, question, args);
                        }
                        None => {}
                    }
                }
                // Looked at before the next wait, as is whether there is room again.
                Wake::Awake | Wake::Time | Wake::Flushed | Wake::Room => {}
            }
        }
    }

    /// Carries out everything that the state machine wants now, then lets the observers know.
    fn settle(&mut self) {
        let now = self.clock.now();
        self.deliver(now);
        self.act();
        self.forget_the_gone();
        release_gate(&self.gate, &mut self.in_flight, self.state.queued() + self.link.queued());
        for (key, client) in &mut self.clients {
            let Some(socket) = self.state.socket(*key) else { continue };
            let (status, counters) = (self.clock.shown(self.state.status(*key)), counters(socket));
            if status != client.status || counters != client.counters {
                client.observer.update(&status, counters);
                (client.status, client.counters) = (status, counters);
            }
        }
        // Now that all is to be seen, it is told.
        self.tell_askers();
        self.rest(now);
        for client in self.clients.values_mut() {
            if std::mem::take(&mut client.unpublished) {
                client.observer.publish();
            }
        }
    }

    /// Reading rests while somebody has no room, and with it the deadline of the heartbeat.
    fn rest(&mut self, now: Instant) {
        match (self.is_reading(), self.state.is_held()) {
            (false, false) => {
                debug!("a consumer is behind: reading from the server rests");
                self.state.hold(now);
            }
            (true, true) => self.state.release(now),
            _ => {}
        }
    }

    fn is_reading(&self) -> bool {
        self.blocked.is_none() && self.behind.is_empty()
    }

    /// Passes on what happened, as far as there is room for it.
    fn deliver(&mut self, now: Instant) {
        while let Some((key, output)) = self.state.peek_output() {
            if let (Output::Event { .. }, Some(client)) = (output, self.clients.get(key))
                && !client.has_room
                && !self.suspended
                && let Room::Full { until } = client.observer.room(now)
            {
                self.blocked = Some((Arc::clone(&client.observer), until));
                // It takes no room, and there may be much of it meanwhile.
                for (key, output) in self.state.take_outgoing() {
                    self.pass_on(key, output);
                }
                return;
            }
            if let Some((key, output)) = self.state.poll_output() {
                self.pass_on(key, output);
            }
        }
        self.blocked = None;
    }

    fn pass_on(&mut self, key: Key, output: Output<Waiter>) {
        let client = self.clients.get_mut(&key);
        match (output, client) {
            (Output::Event { name, args, ack }, Some(client)) => {
                client.passed_on(ack, client.observer.event(name.view(), args.view(), ack));
            }
            (Output::Lifecycle { event, status }, Some(client)) => {
                let status = self.clock.shown(status);
                client.observer.lifecycle(&event, &status);
                client.status = status;
                client.unpublished = true;
            }
            (Output::Outgoing { name, args, sender }, Some(client)) => {
                client.observer.outgoing(&name, &args, sender);
                client.unpublished = true;
            }
            (Output::Lost { name, loss }, Some(client)) => client.observer.lost(&name, loss),
            (Output::Answer { ticket: Waiter::Emit(ticket), result }, _) => {
                let result = result.as_ref().map(Args::view).map_err(|error| *error);
                self.answered.extend(ticket.answered(result));
            }
            (Output::Done(Waiter::Done(done)), _) => {
                self.update(key);
                done(());
            }
            (Output::Done(Waiter::Removed(key, done)), _) => {
                if let Some(client) = self.clients.remove(&key) {
                    client.observer.publish();
                }
                done(());
            }
            (Output::Done(Waiter::Session(session, done)), _) => done(session),
            (
                Output::Event { .. }
                | Output::Lifecycle { .. }
                | Output::Outgoing { .. }
                | Output::Lost { .. },
                None,
            )
            | (Output::Answer { .. } | Output::Done(_), _) => {}
        }
    }

    /// Before anybody is told that a command took effect, a snapshot shows it.
    fn update(&mut self, key: Key) {
        if let (Some(client), Some(socket)) = (self.clients.get_mut(&key), self.state.socket(key)) {
            client.status = self.clock.shown(self.state.status(key));
            client.counters = counters(socket);
            client.observer.update(&client.status, client.counters);
        }
    }

    /// The daemon ends, or nobody needs this Manager any more.
    fn leave(mut self) {
        for key in self.state.keys() {
            self.state.remove(self.clock.now(), key);
        }
        self.clients.clear();
        self.deliver(self.clock.now());
        self.act();
        self.tell_askers();
    }

    /// After a panic nothing that it may have left half done is used again. Whoever waits for an answer hears, as its
    /// ticket is dropped, that something broke.
    fn start_over(&mut self) {
        error!("a connection's task broke, which is a defect of siod; it starts afresh");
        let now = self.clock.now();
        let state = self.state.afresh();
        drop(std::mem::replace(&mut self.state, state));
        (self.link, self.probe) = (Link::Down, Link::Down);
        self.asked.clear();
        self.gate.give_back(std::mem::take(&mut self.in_flight));
        self.blocked = None;
        self.behind.clear();
        self.tell_askers();
        let details = Details {
            description: Some("the connection's task broke; the log says more".to_owned()),
            ..Details::new("internal error")
        };
        let mut active = Vec::new();
        for (key, client) in &mut self.clients {
            let Client { settings, status, last_ack, .. } = &mut **client;
            self.state.add(*key, settings.for_socket(&self.settings), settings.returns, *last_ack + 1);
            if status.active {
                let joined = status.id.is_some();
                active.push((*key, joined));
            }
        }
        if self.suspended {
            active.clear();
        }
        self.state.resume(now, &active, &details);
    }
}

impl Client {
    /// The observer has heard an event.
    fn passed_on(&mut self, ack: Option<u64>, has_room: bool) {
        self.last_ack = self.last_ack.max(ack.unwrap_or_default());
        self.has_room = has_room;
        self.unpublished = true;
    }

    /// Whether it says the auth of the configuration.
    fn is_as_configured(&self) -> bool {
        self.auth == self.settings.auth
    }
}

impl Clock {
    /// A status whose moment is one of the runtime, as observers know no other.
    fn shown(&self, status: Status) -> Status {
        Status { next_attempt: status.next_attempt.map(|at| self.timer(at)), ..status }
    }
}

fn counters(socket: &crate::socketio::Socket<Waiter>) -> Counters {
    Counters { buffered: socket.buffered(), pending_acks: socket.pending_acks(), sent: socket.sent() }
}

/// Gives the gate back what is sent, or will never be.
fn release_gate(gate: &queue::Gate, in_flight: &mut usize, unsent: usize) {
    let gone = in_flight.saturating_sub(unsent);
    *in_flight -= gone;
    gate.give_back(gone);
}

#[cfg(test)]
mod tests;
