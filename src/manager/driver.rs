//! The task of one Manager: it carries out what the state machine says, and is the only reader of the clock.
//!
//! While an observer has no room, nothing is read from the server, so that TCP pushes back; commands and what is
//! queued for the server go on.

use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use super::auth::{self, Auth};
use super::clock::Clock;
use super::state::{Action, Key, Output, State};
use super::ticket::{Asker, Ticket};
use super::{
    Command, Common, Counters, Done, Observer, Room, Sessions, Settings, SocketSettings, Status, Witness,
    queue,
};
use crate::engineio::{Details, Packet, TransportKind};
use crate::secret::Secrets;
use crate::socketio::{Args, Emit, EmitError, Recoverable, Step, StepArgs};
use crate::transport::{self, Arrival, Connector, Received, Transport};

/// How long a transport may take to send its last words.
const FAREWELL: Duration = Duration::from_secs(5);

/// Between a panic and the new beginning.
const AFTER_PANIC: Duration = Duration::from_millis(100);

/// Packets or commands taken in a row before everybody else has a turn.
const BATCH: usize = 128;

/// An event that is passed on as it lies costs that much less than another packet, until its bytes weigh more.
const PLAIN: usize = 4;
const PLAIN_BYTES: usize = 256;

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

/// What came of a transport.
enum Heard {
    Opened,
    /// Texts are there to be taken.
    Texts,
    Received(Received),
    Lost(transport::Error),
}

enum Link {
    Down,
    Dialling(BoxFuture<Result<Transport, transport::Error>>),
    Up(Box<Transport>),
}

impl Link {
    /// Opens, sends what is queued and receives, all at once. Nothing is lost when it is not polled to the end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        self.poll_by(cx, |transport, cx| {
            transport.poll_arrival(cx).map_ok(|arrival| match arrival {
                Arrival::Texts => Heard::Texts,
                Arrival::Received(received) => Heard::Received(received),
            })
        })
    }

    /// The same, save that texts are received as well.
    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        self.poll_by(cx, |transport, cx| transport.poll_recv(cx).map_ok(Heard::Received))
    }

    fn poll_by(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Transport, &mut Context<'_>) -> Poll<Result<Heard, transport::Error>>,
    ) -> Poll<Heard> {
        let heard = match self {
            Self::Down => return Poll::Pending,
            Self::Dialling(dialling) => match std::task::ready!(dialling.as_mut().poll(cx)) {
                Ok(transport) => {
                    *self = Self::Up(Box::new(transport));
                    return Poll::Ready(Heard::Opened);
                }
                Err(error) => Heard::Lost(error),
            },
            Self::Up(transport) => match std::task::ready!(poll(transport, cx)) {
                Ok(heard) => return Poll::Ready(heard),
                Err(error) => Heard::Lost(error),
            },
        };
        *self = Self::Down;
        Poll::Ready(heard)
    }

    /// Only sends; ends when all is sent, or the transport is lost.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Up(transport) => match std::task::ready!(transport.poll_flush(cx)) {
                Ok(()) => Poll::Ready(()),
                // The failure shows again when the transport is read.
                Err(_) => Poll::Pending,
            },
            Self::Down | Self::Dialling(_) => Poll::Ready(()),
        }
    }

    fn transport(&mut self) -> Option<&mut Transport> {
        match self {
            Self::Up(transport) => Some(transport),
            Self::Down | Self::Dialling(_) => None,
        }
    }

    fn queued(&mut self) -> usize {
        self.transport().map_or(0, |transport| transport.queued())
    }
}

/// What woke the task.
enum Wake {
    Command(Option<Command>),
    Link(Heard),
    Probe(Heard),
    Asked { key: Key, question: u64, outcome: auth::Outcome },
    Awake,
    Time,
    Flushed,
    Room,
    Stop,
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
    /// More has come than one turn takes.
    is_pressed: bool,
    /// The daemon ends: nothing is connected any more, and what is left to say does not wait for room.
    suspended: bool,
    alarm: Alarm,
    awake: BoxFuture<watch::Receiver<()>>,
    turn: Arc<Semaphore>,
    clock: Clock,
    /// What is in every request that nobody else may see.
    secrets: Secrets,
    tasks: TaskTracker,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The wait for the next deadline, which outlives the turns of the loop: few of them move it.
#[derive(Default)]
struct Alarm(Option<Pin<Box<tokio::time::Sleep>>>);

impl Alarm {
    fn set(&mut self, at: Option<Instant>) {
        match (at.map(Into::into), &mut self.0) {
            (None, sleep) => *sleep = None,
            (Some(at), Some(sleep)) if sleep.deadline() == at => {}
            (Some(at), Some(sleep)) => sleep.as_mut().reset(at),
            (Some(at), sleep @ None) => *sleep = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
    }
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
            is_pressed: false,
            suspended: false,
            alarm: Alarm::default(),
            awake: waking(common.awake.subscribe()),
            turn: Arc::clone(&common.turn),
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

    /// Takes what has come, for one turn.
    async fn receive(&mut self, first: Heard) {
        let now = self.clock.now();
        let (mut left, mut heard) = (BATCH * PLAIN, first);
        loop {
            if let Heard::Texts = heard {
                if !self.pass_texts_on(now, &mut left) {
                    let whole = poll_fn(|cx| Poll::Ready(self.link.poll_whole(cx))).await;
                    if let Poll::Ready(whole) = whole {
                        self.heard(now, whole);
                    }
                    left = left.saturating_sub(PLAIN);
                }
            } else {
                self.heard(now, heard);
                left = left.saturating_sub(PLAIN);
            }
            // More only when the state has taken this one in whole: it may want another transport now.
            self.deliver(now);
            self.act();
            self.is_pressed = left == 0;
            if self.blocked.is_some() || self.is_pressed {
                return;
            }
            let Poll::Ready(next) = poll_fn(|cx| Poll::Ready(self.link.poll(cx))).await else { return };
            heard = next;
        }
    }

    /// Passes on what comes next, events and answers, and needs nothing else to be done; false where there was none.
    fn pass_texts_on(&mut self, now: Instant, left: &mut usize) -> bool {
        let mut any = false;
        while *left > 0 && (self.pass_events_on(now, left) || self.pass_answers_on(left)) {
            any = true;
        }
        any
    }

    /// The answers that come next and are for one socket. They need no room; and an observer may be asked where it stands
    /// before each of them.
    fn pass_answers_on(&mut self, left: &mut usize) -> bool {
        let Self { link, state, answered, suspended, .. } = self;
        let Some(transport) = link.transport().filter(|_| !*suspended) else { return false };
        let mut key = None;
        transport.peek_message(&mut |text| key = state.addressee(text));
        let Some(mut shortcut) = key.and_then(|key| state.shortcut(key)) else { return false };
        let mut any = false;
        transport.take_messages(&mut |text| {
            if *left == 0 {
                return false;
            }
            let Some((waiter, answer)) = shortcut.answer(text) else { return false };
            if let Waiter::Emit(ticket) = waiter {
                answered.extend(ticket.answered(Ok(answer.args())));
            }
            *left = left.saturating_sub(1 + text.len() / PLAIN_BYTES);
            any = true;
            true
        });
        any
    }

    /// The events that come next and are for one socket.
    fn pass_events_on(&mut self, now: Instant, left: &mut usize) -> bool {
        let Self { link, state, clients, suspended, .. } = self;
        let Some(transport) = link.transport().filter(|_| !*suspended) else { return false };
        let mut key = None;
        transport.peek_message(&mut |text| key = state.addressee(text));
        let Some(key) = key else { return false };
        let (Some(client), Some(mut shortcut)) = (clients.get_mut(&key), state.shortcut(key)) else {
            return false;
        };
        if !client.finds_room(now) {
            return false;
        }
        let mut any = false;
        let observer = Arc::clone(&client.observer);
        observer.events(&mut |pass_on| {
            transport.take_messages(&mut |text| {
                if *left == 0 || !client.has_room {
                    return false;
                }
                let is_event = shortcut.receive(text, |event, ack| {
                    client.passed_on(ack, pass_on(event.name, event.args(), ack));
                });
                *left = left.saturating_sub(usize::from(is_event) * (1 + text.len() / PLAIN_BYTES));
                any |= is_event;
                is_event
            });
        });
        any
    }

    async fn wait(&mut self) -> Wake {
        let Self {
            commands,
            link,
            probe,
            asked,
            state,
            blocked,
            alarm,
            awake,
            clock,
            stop,
            in_flight,
            gate,
            ..
        } = self;
        alarm.set(state.poll_timeout().map(|at| clock.timer(at)));
        let reading = blocked.is_none();
        let held_back = state.queued();
        let traffic = poll_fn(|cx| {
            // What is being dialled has nothing to read yet.
            let dialling = matches!(link, Link::Dialling(_));
            let wake = match (reading || dialling, link.queued()) {
                (true, _) => link.poll(cx).map(Wake::Link),
                (false, 0) => Poll::Pending,
                (false, _) => link.poll_flush(cx).map(|()| Wake::Flushed),
            };
            release_gate(gate, in_flight, held_back + link.queued());
            wake
        });
        tokio::select! {
            () = stop => Wake::Stop,
            wake = traffic => wake,
            () = room(blocked.as_ref(), clock), if !reading => Wake::Room,
            heard = poll_fn(|cx| probe.poll_whole(cx)) => Wake::Probe(heard),
            wake = poll_fn(|cx| poll_asked(asked, cx)) => wake,
            receiver = &mut *awake => {
                *awake = waking(receiver);
                Wake::Awake
            }
            command = poll_fn(|cx| commands.poll(cx)) => Wake::Command(command),
            () = poll_fn(|cx| alarm.poll(cx)) => Wake::Time,
        }
    }

    /// Carries out everything that the state machine wants now, then lets the observers know.
    fn settle(&mut self) {
        self.deliver(self.clock.now());
        self.act();
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
        for client in self.clients.values_mut() {
            if std::mem::take(&mut client.unpublished) {
                client.observer.publish();
            }
        }
    }

    fn tell_askers(&mut self) {
        self.answered.drain(..).for_each(|asker| asker.publish());
        self.taken.drain(..).for_each(|(asker, emits)| asker.taken(emits));
    }

    /// Passes on what happened, as far as there is room for it.
    fn deliver(&mut self, now: Instant) {
        while let Some((key, output)) = self.state.peek_output() {
            if let (Output::Event { .. }, Some(client)) = (output, self.clients.get(key))
                && !client.has_room
                && !self.suspended
                && let Room::Full { until } = client.observer.room(now)
            {
                if self.blocked.is_none() {
                    debug!("a consumer is behind: reading from the server rests");
                    self.state.hold(now);
                }
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
        if self.blocked.take().is_some() {
            self.state.release(now);
        }
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

    fn act(&mut self) {
        while let Some(action) = self.state.poll_action() {
            match action {
                Action::Open(kind) => self.link = Link::Dialling(self.dial(kind, None)),
                Action::Opened(handshake) => {
                    if let Some(transport) = self.link.transport() {
                        transport.set_session(&handshake.sid, handshake.max_payload);
                    }
                    if let Some(witness) = &self.witness {
                        witness.opened(&handshake);
                    }
                }
                Action::Probe { sid } => {
                    self.probe = Link::Dialling(self.dial(TransportKind::WebSocket, Some(sid)));
                }
                Action::Pause => {
                    if let Some(transport) = self.link.transport() {
                        transport.pause();
                    }
                }
                Action::Switch => self.switch(),
                Action::AbandonProbe => {
                    self.probe = Link::Down;
                    if let Some(transport) = self.link.transport() {
                        transport.resume();
                    }
                }
                Action::Close { graceful, last } => self.close(graceful, last),
                Action::Authenticate { key, question } => self.authenticate(key, question),
                Action::ReadArgs { key, question, path } => self.read_args(key, question, path),
            }
        }
        if let Some(transport) = self.probe.transport() {
            while let Some(packet) = self.state.poll_probe_transmit() {
                transport.send(packet);
            }
        }
        if let Some(transport) = self.link.transport() {
            while let Some(packet) = self.state.poll_transmit() {
                transport.send(packet);
            }
        }
    }

    fn dial(
        &self,
        kind: TransportKind,
        sid: Option<String>,
    ) -> BoxFuture<Result<Transport, transport::Error>> {
        let (connector, turn) = (self.connector.clone(), Arc::clone(&self.turn));
        Box::pin(async move {
            let mut opening = pin!(connector.open(kind, sid.as_deref()));
            // Only the beginning takes the turn: nobody waits for another one's server.
            let turn = turn.acquire().await;
            let begun = poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx))).await;
            drop(turn);
            match begun {
                Poll::Ready(opened) => opened,
                Poll::Pending => opening.await,
            }
        })
    }

    fn switch(&mut self) {
        let polling = std::mem::replace(&mut self.link, std::mem::replace(&mut self.probe, Link::Down));
        if let (Link::Up(mut polling), Link::Up(websocket)) = (polling, &mut self.link) {
            websocket.send(Packet::Upgrade);
            for packet in polling.take_queued() {
                websocket.send(packet);
            }
        }
    }

    fn close(&mut self, graceful: bool, last: Vec<Packet>) {
        self.probe = Link::Down;
        if let Link::Up(mut transport) = std::mem::replace(&mut self.link, Link::Down)
            && graceful
        {
            transport.resume();
            for packet in last {
                transport.send(packet);
            }
            self.tasks.spawn(async move {
                if tokio::time::timeout(FAREWELL, transport.close()).await.is_err() {
                    debug!("the transport did not close in time");
                }
            });
        }
    }

    /// An earlier question of this socket is void, and whatever was to answer it is given up.
    fn authenticate(&mut self, key: Key, question: u64) {
        let now = self.clock.now();
        self.asked.remove(&key);
        let client = self.clients.get(&key);
        let source: BoxFuture<auth::Outcome> = match client.map(|client| &client.auth) {
            Some(Auth::Fixed(auth)) => {
                let auth = auth.clone();
                self.tell(key, Some(auth.expose()));
                return self.state.handle_auth(now, key, question, Ok(Some(auth.expose())));
            }
            Some(Auth::None) | None => {
                self.tell(key, None);
                return self.state.handle_auth(now, key, question, Ok(None));
            }
            Some(Auth::File(path)) => Box::pin(auth::from_file(path.clone())),
            Some(Auth::Command(argv)) => {
                let (argv, observer) = (argv.clone(), client.map(|client| Arc::clone(&client.observer)));
                let program = argv.first().cloned().unwrap_or_default();
                Box::pin(auth::from_command(argv, move |line| {
                    if let Some(observer) = &observer {
                        observer.said(&program, line);
                    }
                }))
            }
        };
        self.asked.insert(key, Asked { question, wanted: Wanted::Auth, source });
    }

    fn read_args(&mut self, key: Key, question: u64, path: std::path::PathBuf) {
        let source = Box::pin(auth::args_from_file(path));
        self.asked.insert(key, Asked { question, wanted: Wanted::Args, source });
    }

    fn heard(&mut self, now: Instant, heard: Heard) {
        match heard {
            Heard::Opened | Heard::Texts => {}
            Heard::Received(Received::Packet(packet)) => self.state.handle_packet(now, packet),
            Heard::Received(Received::Paused) => self.state.handle_paused(now),
            Heard::Lost(error) => {
                let details = self.discreet(error.details());
                debug!(error = details.message, description = details.description, "transport lost");
                self.state.handle_lost(now, error.is_closed(), details);
            }
        }
    }

    /// The server is about to be told this auth object. What it was told before is void, save what the script always
    /// says.
    fn tell(&mut self, key: Key, auth: Option<&str>) {
        if let Some(client) = self.clients.get_mut(&key) {
            client.told = Secrets::default();
            client.told.add_strings(auth.unwrap_or_default());
            client.told.extend(&script_secrets(&client.settings.script));
        }
    }

    /// And this, which a file says.
    fn tell_more(&mut self, key: Key, args: &str) {
        if let Some(client) = self.clients.get_mut(&key) {
            let mut secrets = Secrets::default();
            secrets.add_strings(args);
            client.told.extend(&secrets);
        }
    }

    /// All that the server or a proxy was told and nobody else may see.
    fn told(&self) -> Secrets {
        let mut secrets = self.secrets.clone();
        self.clients.values().for_each(|client| secrets.extend(&client.told));
        secrets
    }

    /// A failure of a transport as it may be shown: a page that quotes what it was asked, for one, tells it to nobody. The
    /// message is always one of our own.
    fn discreet(&self, details: Details) -> Details {
        let secrets = self.told();
        let mask = |text: &str| secrets.mask(text).into_owned();
        Details {
            description: details.description.as_deref().map(mask),
            hint: details.hint.map(|hint| mask(&hint).into()),
            ..details
        }
    }

    fn probe_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Opened => self.state.handle_probe_opened(),
            Heard::Received(Received::Packet(packet)) => {
                self.state.handle_probe_packet(self.clock.now(), &packet);
            }
            Heard::Texts | Heard::Received(Received::Paused) => {}
            Heard::Lost(error) => {
                let message = self.told().mask(&error.to_string()).into_owned();
                self.state.handle_probe_failed(self.clock.now(), &message);
            }
        }
    }

    fn command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Add { key, settings, first_ack, session, observer } => {
                self.add(key, *settings, first_ack, observer);
                if let Some(session) = session {
                    self.state.resume_session(key, session);
                }
            }
            Command::Session { key, done } => {
                let session = self.session_of(key);
                self.state.fence(key, Waiter::Session(session, done));
            }
            Command::Remove { key, done } => {
                self.asked.remove(&key);
                self.state.remove(self.clock.now(), key);
                self.state.fence(key, Waiter::Removed(key, done));
            }
            Command::Connect { key, done } => {
                if !self.suspended {
                    self.state.connect(self.clock.now(), key);
                }
                self.state.fence(key, Waiter::Done(done));
            }
            Command::Disconnect { key, done } => {
                self.asked.remove(&key);
                self.state.disconnect(self.clock.now(), key);
                self.state.fence(key, Waiter::Done(done));
            }
            Command::SetAuth { key, auth, done } => {
                if let Some(client) = self.clients.get_mut(&key) {
                    client.auth = auth;
                }
                done(());
            }
            Command::Emit { key, emit, share, ticket } => self.emit(now, key, emit, share, ticket),
            Command::Answer { key, number, args, share, done } => {
                self.in_flight += share as usize;
                done(self.state.answer(now, key, number, args));
            }
            Command::AbandonAcks { done } => {
                self.state.abandon_acks(self.clock.now());
                let keys = self.state.keys();
                self.state.fence(keys.first().copied().unwrap_or_default(), Waiter::Done(done));
            }
            Command::Suspend { done } => done(self.suspend()),
        }
        // Later commands of this batch may depend on what this one did, a transport's queue above all.
        self.act();
    }

    fn add(&mut self, key: Key, settings: SocketSettings, first_ack: u64, observer: Arc<dyn Observer>) {
        self.state.add(key, settings.for_socket(&self.settings), settings.returns, first_ack);
        let client = Client {
            observer,
            auth: settings.auth.clone(),
            told: script_secrets(&settings.script),
            last_ack: first_ack.saturating_sub(1),
            settings,
            status: Status::default(),
            counters: Counters::default(),
            has_room: false,
            unpublished: false,
        };
        self.clients.insert(key, Box::new(client));
    }

    fn emit(&mut self, now: Instant, key: Key, emit: Emit, share: u32, mut ticket: Ticket) {
        // The end of the turn gives back what is not on its way then.
        self.in_flight += share as usize;
        let asker = ticket.arrive();
        match self.taken.last_mut() {
            Some((last, emits)) if Arc::ptr_eq(last, asker) => *emits += 1,
            _ => self.taken.push((Arc::clone(asker), 1)),
        }
        // It may have waited at the gate when the connection was closed.
        let Some(client) = self.clients.get(&key).filter(|_| self.state.contains(key)) else {
            return self.answered.extend(ticket.settled(Err(EmitError::Closed), false));
        };
        self.state.set_watched(key, client.observer.is_watched());
        let writable = self.link.transport().is_some_and(|transport| transport.is_writable());
        let Some((outcome, ticket)) = self.state.emit(now, key, emit, Waiter::Emit(ticket), writable) else {
            return;
        };
        if let Some(Waiter::Emit(ticket)) = ticket {
            self.answered.extend(ticket.settled(outcome, self.state.status(key).active));
        }
    }

    fn suspend(&mut self) -> Sessions {
        self.asked.clear();
        self.suspended = true;
        let now = self.clock.now();
        for (key, _) in self.clients.iter().filter(|(_, client)| !client.is_as_configured()) {
            self.state.disconnect(now, *key);
        }
        self.state.suspend(now);
        self.settle();
        let keys = self.state.keys().into_iter();
        keys.filter_map(|key| Some((key, self.session_of(key)?))).collect()
    }

    /// The session that another process may go on with. One of somebody else, as `set_auth` can have made it, is not
    /// what that process is configured to be.
    fn session_of(&self, key: Key) -> Option<Recoverable> {
        let client = self.clients.get(&key).filter(|client| client.is_as_configured());
        client.and_then(|_| self.state.session_of(key))
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
    fn finds_room(&mut self, now: Instant) -> bool {
        self.has_room = self.has_room || self.observer.room(now) == Room::Free;
        self.has_room
    }

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

/// What a script always says.
fn script_secrets(script: &[Step]) -> Secrets {
    let mut secrets = Secrets::default();
    for step in script {
        if let StepArgs::Fixed(args) = &step.args {
            let mut array = Vec::new();
            args.write_array(&mut array);
            secrets.add_strings(&String::from_utf8_lossy(&array));
        }
    }
    secrets
}

fn poll_asked(asked: &mut HashMap<Key, Asked>, cx: &mut Context<'_>) -> Poll<Wake> {
    for (key, Asked { question, source, .. }) in asked {
        if let Poll::Ready(outcome) = source.as_mut().poll(cx) {
            return Poll::Ready(Wake::Asked { key: *key, question: *question, outcome });
        }
    }
    Poll::Pending
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

/// Ends when the machine is said to have woken up; never once nobody is left to say so.
fn waking(mut awake: watch::Receiver<()>) -> BoxFuture<watch::Receiver<()>> {
    Box::pin(async {
        if awake.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        awake
    })
}

async fn room(blocked: Option<&(Arc<dyn Observer>, Instant)>, clock: &Clock) {
    let Some((observer, until)) = blocked else { return std::future::pending().await };
    tokio::select! {
        () = observer.room_changed().notified() => {}
        () = tokio::time::sleep_until(clock.timer(*until).into()) => {}
    }
}

#[cfg(test)]
mod tests;
