//! The states of one upstream connection: stopped, waiting, opening, open; and the rules that lead from one to the
//! next.
//!
//! Nothing here does IO or reads a clock: packets, losses and time come in through `handle_*`, the driver carries
//! out what [`State::poll_action`] says, sends what the `poll_*transmit` give and passes on [`State::poll_output`].

mod output;
mod session;
mod traffic;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytestring::ByteString;

pub use self::output::{Action, Output, Returns};
use super::backoff::Backoff;
use super::pace::Pace;
use super::{ConnectionState, Lifecycle, Settings, Source, Status};
use crate::engineio::{self, CloseReason, Details, Message, Revision, Session, TransportKind};
use crate::socketio::socket::{self, DisconnectReason, Emit, EmitError, Sent, Socket};
use crate::socketio::{AnswerError, Args, Decoder, Limit, OldServer, PlainAnswer, PlainEvent, Recoverable};
use crate::transport::encode_query;

/// Attachments taken in one incoming packet, as the official decoder does.
const MAX_INCOMING_ATTACHMENTS: usize = 10;

/// Which socket of the Manager.
pub type Key = u64;

/// How far an attempt is.
type Progress = Option<(engineio::Phase, String)>;

#[derive(Debug)]
enum Phase {
    /// No socket is active.
    Stopped,
    /// The next attempt begins at `until`.
    Waiting { until: Instant },
    /// An attempt: a session is being opened on the first of several transports.
    Opening { session: Session, deadline: Instant, untried: VecDeque<TransportKind>, progress: Progress },
    /// The session `sid` is open.
    Open { session: Session, sid: String, since: Instant },
}

#[derive(Debug)]
struct Entry<T> {
    socket: Socket<T>,
    /// Failed or lost since it was last connected, and still to come back.
    reconnecting: bool,
    recovered: bool,
    auth: AuthState,
    auth_backoff: Backoff,
    returns: Returns,
    /// The server sent it away, and then it connects again by itself.
    comeback: Option<Instant>,
    /// The file that a step of its script waits for is read under this question.
    reading: Option<u64>,
}

impl<T> Entry<T> {
    /// It is up, or will come up by itself.
    fn is_active(&self) -> bool {
        self.socket.is_active() || self.comeback.is_some()
    }

    /// Its socket has left, and nothing is to bring it back.
    fn leave(&mut self) {
        self.comeback = None;
        self.reconnecting = false;
        self.auth = AuthState::Idle;
    }
}

/// Takes the events and answers of one socket, which its owner hears of at once.
#[derive(Debug)]
pub struct Shortcut<'a, T> {
    decoder: &'a Decoder,
    socket: &'a mut Socket<T>,
}

impl<T> Shortcut<'_, T> {
    /// Gives the event that this message is to `pass_on`, with our number for the ack it asks for; false for anything
    /// else, of which nothing has been taken.
    pub fn receive(&mut self, message: &str, pass_on: impl FnOnce(&PlainEvent<'_>, Option<u64>)) -> bool {
        // Each is looked at where it was made: to move what has just been written means to wait for the writing.
        let header = self.decoder.plain_header(message);
        let Some(header) = header.as_ref().filter(|header| *header.namespace() == **self.socket.namespace())
        else {
            return false;
        };
        let event = self.decoder.plain_event(header);
        let Ok(event) = &event else { return false };
        let ack = self.socket.receive(event.id, event.args());
        pass_on(event, ack);
        true
    }

    /// The answer that this message is, and whoever waits for it. `None` for anything else, of which nothing has been
    /// taken.
    pub fn answer<'a>(&mut self, message: &'a str) -> Option<(T, PlainAnswer<'a>)> {
        let header = self.decoder.plain_answer_header(message)?;
        if *header.namespace() != **self.socket.namespace() {
            return None;
        }
        let (id, answer) = self.decoder.plain_answer(&header)?;
        Some((self.socket.take_answered(id)?, answer))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum AuthState {
    Idle,
    /// This question is being answered.
    Asked(u64),
    RetryAt(Instant),
}

/// One Manager.
#[derive(Debug)]
pub struct State<T> {
    settings: Settings,
    phase: Phase,
    /// Large, and mostly there is one: a node of the map has room for eleven.
    sockets: BTreeMap<Key, Box<Entry<T>>>,
    by_namespace: BTreeMap<ByteString, Key>,
    /// The CONNECTs of removed sockets that the server has yet to answer on this session.
    orphans: HashMap<ByteString, socket::Joining>,
    backoff: Backoff,
    pace: Arc<Pace>,
    questions: u64,
    /// The driver does not read, so that what seems late may be here already.
    held: bool,
    /// The attempt waited for or going on since the last success; 0 for the first one ever.
    attempt: u32,
    /// The last WebSocket came to be and nothing has failed since.
    websocket_worked: bool,
    /// What the server takes on this session; after it, what it took.
    limit: Limit,
    random: fastrand::Rng,
    decoder: Decoder,
    /// With revision 3, the server's ways put as those of a server of today.
    old_server: Option<OldServer>,
    /// With revision 4, the server has joined us to a namespace as only one that is too old for it does.
    is_outdated: bool,
    encoded: Vec<Message>,
    actions: VecDeque<Action>,
    outputs: VecDeque<(Key, Output<T>)>,
}

impl<T> State<T> {
    /// A stopped Manager without sockets; `seed` for the jitter, `pace` for the distance to other Managers' attempts.
    pub fn new(settings: Settings, pace: Arc<Pace>, seed: u64) -> Self {
        let revision = settings.transport.revision;
        let old_server = match revision {
            Revision::V3 => Some(OldServer::new(encode_query(&settings.transport.query))),
            Revision::V4 => None,
        };
        Self {
            backoff: Backoff::new(settings.backoff.clone()),
            pace,
            questions: 0,
            held: false,
            decoder: Decoder::new(settings.parser, MAX_INCOMING_ATTACHMENTS, settings.transport.max_payload)
                .with_revision(revision)
                .with_payload_on_disconnect(),
            old_server,
            is_outdated: false,
            settings,
            phase: Phase::Stopped,
            sockets: BTreeMap::new(),
            by_namespace: BTreeMap::new(),
            orphans: HashMap::new(),
            attempt: 0,
            websocket_worked: false,
            limit: Limit::default(),
            random: fastrand::Rng::with_seed(seed),
            encoded: Vec::new(),
            actions: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// One with these settings and without sockets, whose delays go on where these stood.
    #[must_use]
    pub fn afresh(&self) -> Self {
        let seed = self.random.clone().u64(..);
        Self {
            backoff: self.backoff.clone(),
            ..Self::new(self.settings.clone(), Arc::clone(&self.pace), seed)
        }
    }

    /// These sockets were active, and joined or not, on a Manager whose session is gone for this reason.
    pub fn resume(&mut self, now: Instant, sockets: &[(Key, bool)], details: &Details) {
        let reason = DisconnectReason::Closed(CloseReason::TransportError);
        for (key, _) in sockets {
            if let Some(entry) = self.sockets.get_mut(key) {
                entry.socket.connect();
                entry.reconnecting = true;
            }
        }
        for (key, joined) in sockets {
            if *joined {
                self.lifecycle(*key, Lifecycle::Disconnect { reason, details: Some(details.clone()) });
            } else {
                self.connect_error(*key, Source::Transport, details.clone(), None);
            }
        }
        self.schedule(now, None);
    }

    /// Adds an inactive socket. The namespace must not be taken.
    pub fn add(&mut self, key: Key, settings: socket::Settings, returns: Returns, first_ack: u64) {
        self.by_namespace.insert(settings.namespace.clone(), key);
        let unanswered = self.orphans.remove(&settings.namespace);
        let mut socket = Socket::new(settings, first_ack, unanswered);
        socket.set_limit(self.limit);
        let entry = Entry {
            socket,
            reconnecting: false,
            recovered: false,
            auth: AuthState::Idle,
            auth_backoff: Backoff::new(self.settings.backoff.clone()),
            returns,
            comeback: None,
            reading: None,
        };
        self.sockets.insert(key, Box::new(entry));
    }

    /// Lets a socket that was just added go on with the session that another process had.
    pub fn resume_session(&mut self, key: Key, session: Recoverable) {
        if let Some(entry) = self.sockets.get_mut(&key) {
            entry.socket.resume(session);
        }
    }

    /// The session that the server may give back to another process, when all outputs until now are taken.
    pub fn session_of(&self, key: Key) -> Option<Recoverable> {
        self.sockets.get(&key)?.socket.recoverable()
    }

    /// All sockets leave, and the session with them, but without a word that would keep the server from giving their
    /// sessions back.
    pub fn suspend(&mut self, now: Instant) {
        for key in self.keys() {
            if let Some(entry) = self.sockets.get_mut(&key) {
                entry.socket.suspend();
                entry.leave();
                entry.socket.abandon_acks();
            }
            self.pump(now, key);
        }
        self.stop_when_idle(now);
    }

    /// Disconnects a socket and forgets it; whoever waits for an ack hears `Disconnected`.
    pub fn remove(&mut self, now: Instant, key: Key) {
        self.disconnect(now, key);
        if let Some(entry) = self.sockets.get_mut(&key) {
            entry.socket.abandon_acks();
            self.pump(now, key);
        }
        if let Some(entry) = self.sockets.remove(&key) {
            let socket = entry.socket;
            self.by_namespace.remove(socket.namespace());
            if let Some(unanswered) = socket.unanswered() {
                self.orphans.insert(socket.namespace().clone(), unanswered.clone());
            }
        }
    }

    /// Whether this socket is there.
    pub fn contains(&self, key: Key) -> bool {
        self.sockets.contains_key(&key)
    }

    /// Wants a socket connected, now rather than when it would come back by itself; no effect on one that is connected or
    /// on its way.
    pub fn connect(&mut self, now: Instant, key: Key) {
        if let Some(entry) = self.sockets.get_mut(&key)
            && !entry.socket.is_active()
        {
            entry.reconnecting = false;
            self.start(now, key);
        }
    }

    fn start(&mut self, now: Instant, key: Key) {
        let Some(entry) = self.sockets.get_mut(&key) else { return };
        entry.comeback = None;
        entry.socket.connect();
        match self.phase {
            Phase::Stopped => self.begin_attempt(now),
            Phase::Open { .. } => self.authenticate(key),
            Phase::Waiting { .. } | Phase::Opening { .. } => {}
        }
    }

    /// Leaves the namespace until [`State::connect`]; the session ends with its last active socket.
    pub fn disconnect(&mut self, now: Instant, key: Key) {
        let Some(entry) = self.sockets.get_mut(&key) else { return };
        entry.socket.disconnect();
        entry.leave();
        self.pump(now, key);
        self.stop_when_idle(now);
    }

    /// Emits on a socket; see [`Socket::emit`]. `None` for a socket that is gone.
    pub fn emit(
        &mut self,
        now: Instant,
        key: Key,
        emit: Emit,
        ticket: T,
        writable: bool,
    ) -> Option<(Result<Sent, EmitError>, Option<T>)> {
        self.end_expired_session(now);
        let writable = writable && self.session().is_some_and(|session| !session.is_paused());
        let answer = self.sockets.get_mut(&key)?.socket.emit(now, emit, ticket, writable);
        self.pump(now, key);
        Some(answer)
    }

    /// Answers a question of the server; see [`Socket::answer`].
    pub fn answer(&mut self, now: Instant, key: Key, number: u64, args: Args) -> Result<(), AnswerError> {
        let entry = self.sockets.get_mut(&key).ok_or(AnswerError::Unknown)?;
        let answered = entry.socket.answer(number, args);
        self.pump(now, key);
        answered
    }

    /// Puts a ticket behind everything that this socket's owner is still to hear.
    pub fn fence(&mut self, key: Key, ticket: T) {
        self.outputs.push_back((key, Output::Done(ticket)));
    }

    /// See [`Socket::forget_acks`].
    pub fn forget_acks(&mut self, is_void: impl Fn(&T) -> bool) {
        for entry in self.sockets.values_mut() {
            entry.socket.forget_acks(&is_void);
        }
    }

    /// Tells all who wait for acks that none will come: the daemon ends.
    pub fn abandon_acks(&mut self, now: Instant) {
        for key in self.keys() {
            if let Some(entry) = self.sockets.get_mut(&key) {
                entry.socket.abandon_acks();
                self.pump(now, key);
            }
        }
    }

    /// Whether [`Output::Outgoing`] is wanted for this socket.
    pub fn set_watched(&mut self, key: Key, watched: bool) {
        if let Some(entry) = self.sockets.get_mut(&key) {
            entry.socket.set_watched(watched);
        }
    }

    /// The socket, to read its counters.
    pub fn socket(&self, key: Key) -> Option<&Socket<T>> {
        self.sockets.get(&key).map(|entry| &entry.socket)
    }

    /// All sockets.
    pub fn keys(&self) -> Vec<Key> {
        self.sockets.keys().copied().collect()
    }

    /// A socket as a snapshot shows it.
    pub fn status(&self, key: Key) -> Status {
        let Some(entry) = self.sockets.get(&key) else { return Status::default() };
        let connected = entry.socket.is_connected();
        let active = entry.is_active();
        let state = match (connected, active, entry.reconnecting) {
            (true, _, _) => ConnectionState::Connected,
            (false, true, false) => ConnectionState::Connecting,
            (false, true, true) => ConnectionState::Reconnecting,
            (false, false, _) => ConnectionState::Disconnected,
        };
        let on_manager = entry.socket.is_active();
        Status {
            state,
            ready: entry.socket.is_ready(),
            active,
            id: entry.socket.id().cloned(),
            recovered: connected && entry.recovered,
            transport: self.session().filter(|_| on_manager).map(Session::transport),
            attempt: if on_manager { self.attempt } else { 0 },
            next_attempt: match (&self.phase, &entry.auth) {
                (Phase::Waiting { until }, _) if on_manager => Some(*until),
                (_, AuthState::RetryAt(until)) => Some(*until),
                _ => entry.comeback,
            },
        }
    }

    /// How far the transport of [`Action::Open`] is, for the case that time runs out: the step that goes on, and in words.
    pub fn handle_progress(&mut self, step: engineio::Phase, words: String) {
        if let Phase::Opening { progress, .. } = &mut self.phase {
            *progress = Some((step, words));
        }
    }

    /// A packet came on the session's transport.
    pub fn handle_packet(&mut self, now: Instant, packet: engineio::Packet) {
        let Some(session) = self.session_mut() else { return };
        match session.handle_packet(now, packet) {
            Some(message) => self.handle_message(now, message),
            None => self.pump_session(now),
        }
    }

    /// The socket that this message is for, if [`State::shortcut`] may have it. `None` for whatever
    /// [`State::handle_packet`] has to see.
    pub fn addressee(&self, message: &str) -> Option<Key> {
        let Phase::Open { session, .. } = &self.phase else { return None };
        let is_free = self.old_server.is_none() && self.outputs.is_empty();
        if !is_free || !session.lets_messages_pass() {
            return None;
        }
        let plain = |message| {
            self.decoder.plain_header(message).or_else(|| self.decoder.plain_answer_header(message))
        };
        let key = *self.by_namespace.get(plain(message)?.namespace())?;
        self.sockets.get(&key).is_some_and(|entry| entry.socket.is_connected()).then_some(key)
    }

    /// The way past everything else for the events and answers of the socket that [`State::addressee`] has found, as
    /// long as nothing else is done.
    pub fn shortcut(&mut self, key: Key) -> Option<Shortcut<'_, T>> {
        let socket = &mut self.sockets.get_mut(&key)?.socket;
        Some(Shortcut { decoder: &self.decoder, socket })
    }

    /// The transport could not be opened, or is lost; `closed` when the peer ended it in order.
    pub fn handle_lost(&mut self, now: Instant, closed: bool, details: Details) {
        if let Some(session) = self.session_mut() {
            session.handle_transport_lost(closed, details);
            self.pump_session(now);
        }
    }

    /// The WebSocket of [`Action::Probe`] is open.
    pub fn handle_probe_opened(&mut self) {
        if let Some(session) = self.session_mut() {
            session.handle_probe_opened();
        }
    }

    /// A packet came on the probe.
    pub fn handle_probe_packet(&mut self, now: Instant, packet: &engineio::Packet) {
        if let Some(session) = self.session_mut() {
            session.handle_probe_packet(packet);
            self.pump_session(now);
        }
    }

    /// The probe could not be opened, or is lost.
    pub fn handle_probe_failed(&mut self, now: Instant, message: &str) {
        if let Some(session) = self.session_mut() {
            session.handle_probe_failed(message);
            self.pump_session(now);
        }
    }

    /// The polling transport has come to rest.
    pub fn handle_paused(&mut self, now: Instant) {
        if let Some(session) = self.session_mut() {
            session.handle_paused();
            self.pump_session(now);
        }
    }

    /// The auth object asked for by [`Action::Authenticate`], or why there is none.
    pub fn handle_auth(&mut self, now: Instant, key: Key, question: u64, auth: Result<Option<&str>, String>) {
        let open = matches!(self.phase, Phase::Open { .. });
        let Some(entry) = self.sockets.get_mut(&key) else { return };
        if entry.auth != AuthState::Asked(question) {
            return;
        }
        entry.auth = AuthState::Idle;
        if !open || !entry.socket.is_waiting() {
            return;
        }
        if auth.is_ok() && self.old_server.as_ref().is_some_and(OldServer::is_spent) {
            return self.begin_anew(now);
        }
        let joined = auth.and_then(|auth| {
            entry.socket.join(now, auth).map_err(|error| format!("the auth object is too large: {error}"))
        });
        match joined {
            Ok(()) => {
                entry.auth_backoff.reset();
                self.pump(now, key);
            }
            Err(message) => {
                let delay = entry.auth_backoff.next(self.random.f64());
                entry.auth = AuthState::RetryAt(now + delay);
                entry.reconnecting = true;
                let details = Details { phase: Some(engineio::Phase::Auth), ..Details::new(message) };
                self.connect_error(key, Source::Auth, details, None);
            }
        }
    }

    /// The arguments asked for by [`Action::ReadArgs`], a JSON array, or why there are none.
    pub fn handle_step_args(&mut self, now: Instant, key: Key, question: u64, args: Result<&str, String>) {
        let Some(entry) = self.sockets.get_mut(&key) else { return };
        if entry.reading == Some(question) {
            entry.reading = None;
            let args = args.and_then(|array| {
                Args::from_array(array.into()).map_err(|_| "the file holds no array".to_owned())
            });
            entry.socket.handle_step_args(now, args);
            self.pump(now, key);
        }
    }

    /// The driver reads no packets for a while: the heartbeat's deadline rests.
    pub fn hold(&mut self, now: Instant) {
        self.held = true;
        if let Some(session) = self.session_mut() {
            session.hold(now);
        }
    }

    /// Whether [`State::hold`] was the last that was said of it.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// The driver reads again.
    pub fn release(&mut self, now: Instant) {
        self.held = false;
        if let Some(session) = self.session_mut() {
            session.release(now);
        }
    }

    /// When [`State::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Stopped => None,
            Phase::Waiting { until } => Some(*until),
            Phase::Opening { deadline, .. } => Some(*deadline),
            Phase::Open { session, .. } => session.poll_timeout(),
        };
        let sockets = self.sockets.values().flat_map(|entry| {
            let retry = match entry.auth {
                AuthState::RetryAt(until) => Some(until),
                AuthState::Idle | AuthState::Asked(_) => None,
            };
            [entry.socket.poll_timeout(), retry, entry.comeback]
        });
        sockets.chain([phase]).flatten().min()
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Waiting { until } if now >= *until => {
                let attempt = self.attempt;
                self.broadcast(&Lifecycle::ReconnectAttempt { attempt });
                self.begin_attempt(now);
            }
            // What the server said may be here, and unread; the wait begins anew.
            Phase::Opening { deadline, .. } if now >= *deadline && self.held => {
                *deadline = now + self.settings.timeout;
            }
            Phase::Opening { deadline, progress, .. } if now >= *deadline => {
                let (phase, description) = progress.take().unzip();
                let details = Details { description, phase, ..Details::new("timeout") };
                self.actions.push_back(Action::Close { graceful: false, last: Vec::new() });
                self.attempt_failed(now, details);
            }
            Phase::Open { session, .. } => {
                session.handle_timeout(now);
                self.pump_session(now);
            }
            Phase::Stopped | Phase::Waiting { .. } | Phase::Opening { .. } => {}
        }
        let mut late = Vec::new();
        for key in self.keys() {
            let Some(entry) = self.sockets.get_mut(&key) else { continue };
            if entry.socket.handle_timeout(now) && !self.held {
                late.push(key);
            }
            if entry.comeback.is_some_and(|at| now >= at) {
                self.start(now, key);
            }
            let Some(entry) = self.sockets.get_mut(&key) else { continue };
            if matches!(entry.auth, AuthState::RetryAt(until) if now >= until) {
                entry.auth = AuthState::Idle;
                self.authenticate(key);
            }
            self.pump(now, key);
        }
        if !late.is_empty() {
            self.joins_timed_out(now, &late);
        }
    }

    /// The next packet for the session's transport.
    pub fn poll_transmit(&mut self) -> Option<engineio::Packet> {
        self.session_mut()?.poll_transmit()
    }

    /// Bytes that [`State::poll_transmit`] is still to give.
    pub fn queued(&self) -> usize {
        self.session().map_or(0, Session::queued)
    }

    /// The next packet for the probe.
    pub fn poll_probe_transmit(&mut self) -> Option<engineio::Packet> {
        self.session_mut()?.poll_probe_transmit()
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What to pass on next, and to whose owner; it stays until [`State::poll_output`].
    pub fn peek_output(&self) -> Option<&(Key, Output<T>)> {
        self.outputs.front()
    }

    /// What to pass on next, and to whose owner.
    pub fn poll_output(&mut self) -> Option<(Key, Output<T>)> {
        self.outputs.pop_front()
    }

    /// All [`Output::Outgoing`], past whatever else is to be passed on.
    pub fn take_outgoing(&mut self) -> VecDeque<(Key, Output<T>)> {
        let is_outgoing = |(_, output): &(Key, Output<T>)| matches!(output, Output::Outgoing { .. });
        if !self.outputs.iter().any(is_outgoing) {
            return VecDeque::new();
        }
        let (outgoing, others) = std::mem::take(&mut self.outputs).into_iter().partition(is_outgoing);
        self.outputs = others;
        outgoing
    }

    fn session(&self) -> Option<&Session> {
        match &self.phase {
            Phase::Open { session, .. } => Some(session),
            Phase::Stopped | Phase::Waiting { .. } | Phase::Opening { .. } => None,
        }
    }

    fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Opening { session, .. } | Phase::Open { session, .. } => Some(session),
            Phase::Stopped | Phase::Waiting { .. } => None,
        }
    }

    fn active_keys(&self) -> Vec<Key> {
        self.sockets.iter().filter(|(_, entry)| entry.socket.is_active()).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
pub(super) mod tests;
