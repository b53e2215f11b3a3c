//! The states of one upstream connection: stopped, waiting, opening, open; and the rules that lead from one to the
//! next.
//!
//! Nothing here does IO or reads a clock: packets, losses and time come in through `handle_*`, the driver carries
//! out what [`State::poll_action`] says, sends what the `poll_*transmit` give and passes on [`State::poll_output`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytestring::ByteString;

use super::backoff::Backoff;
use super::pace::Pace;
use super::{ConnectionState, Lifecycle, Settings, Source, Status};
use crate::engineio::{self, CloseReason, Details, Message, Revision, SET_ENGINE_3, Session, TransportKind};
use crate::socketio::socket::{self, DisconnectReason, Emit, EmitError, Sent, Socket, Transmit};
use crate::socketio::{
    self, AckError, AnswerError, Args, Body, DecodeError, Decoder, Limit, Loss, Name, OldServer, Parser,
};
use crate::transport::{self, encode_query};

/// Attachments taken in one incoming packet, as the official decoder does.
const MAX_INCOMING_ATTACHMENTS: usize = 10;

/// Which socket of the Manager.
pub type Key = u64;

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
    sockets: BTreeMap<Key, Entry<T>>,
    by_namespace: HashMap<ByteString, Key>,
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
            by_namespace: HashMap::new(),
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
        self.sockets.insert(key, entry);
    }

    /// Disconnects a socket and forgets it; whoever waits for an ack hears `Disconnected`.
    pub fn remove(&mut self, now: Instant, key: Key) {
        self.disconnect(now, key);
        if let Some(entry) = self.sockets.get_mut(&key) {
            entry.socket.abandon_acks();
            self.pump(now, key);
        }
        if let Some(Entry { socket, .. }) = self.sockets.remove(&key) {
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
        entry.comeback = None;
        entry.reconnecting = false;
        entry.auth = AuthState::Idle;
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
        if let Some(session) = self.session_mut() {
            session.handle_packet(now, packet);
            self.pump_session(now);
        }
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

    fn begin_attempt(&mut self, now: Instant) {
        let mut untried: VecDeque<TransportKind> = self.settings.transports.iter().copied().collect();
        if self.settings.remember_upgrade && self.websocket_worked {
            untried.retain(|kind| *kind != TransportKind::WebSocket);
            untried.push_front(TransportKind::WebSocket);
        }
        self.try_next(now + self.settings.timeout, untried);
    }

    fn try_next(&mut self, deadline: Instant, mut untried: VecDeque<TransportKind>) {
        // The configuration has at least one transport.
        let kind = untried.pop_front().unwrap_or(TransportKind::WebSocket);
        // One that has just failed in this attempt is not asked for again in its session.
        let may_upgrade = self.settings.upgrade && untried.contains(&TransportKind::WebSocket);
        let session = Session::new(self.settings.transport.revision, kind, may_upgrade);
        self.phase = Phase::Opening { session, deadline, untried, progress: None };
        self.actions.push_back(Action::Open(kind));
    }

    fn attempt_failed(&mut self, now: Instant, mut details: Details) {
        if let Some(hint) = self.settings.transport.revision.mismatch(&details) {
            details.hint = Some(hint.into());
        }
        self.phase = Phase::Stopped;
        self.websocket_worked = false;
        let message = details.message.clone();
        for key in self.active_keys() {
            if let Some(entry) = self.sockets.get_mut(&key) {
                entry.reconnecting = true;
            }
            self.connect_error(key, Source::Transport, details.clone(), None);
        }
        let attempt = self.attempt;
        if attempt > 0 {
            self.broadcast(&Lifecycle::ReconnectError { attempt, message });
        }
        self.schedule(now, details.retry_after);
    }

    /// Decides what follows a failure or loss: another attempt, or none. `earliest`: how long the server asked for rest.
    fn schedule(&mut self, now: Instant, earliest: Option<Duration>) {
        if self.active_keys().is_empty() {
            self.stop();
        } else if !self.settings.reconnection {
            self.give_up();
        } else if self.settings.reconnection_attempts.is_some_and(|limit| self.attempt >= limit) {
            let attempts = self.attempt;
            let active = self.active_keys();
            self.give_up();
            for key in active {
                self.lifecycle(key, Lifecycle::ReconnectFailed { attempts });
            }
        } else {
            let delay = self.backoff.next(self.random.f64()).max(earliest.unwrap_or_default());
            let transport::Settings { host, port, .. } = &self.settings.transport;
            let until = self.pace.claim(host, *port, now, now + delay);
            self.attempt += 1;
            self.phase = Phase::Waiting { until };
        }
    }

    fn give_up(&mut self) {
        for key in self.active_keys() {
            if let Some(entry) = self.sockets.get_mut(&key) {
                entry.socket.deactivate();
                entry.reconnecting = false;
            }
        }
        self.stop();
    }

    fn stop(&mut self) {
        self.phase = Phase::Stopped;
        self.attempt = 0;
        self.backoff.reset();
    }

    fn stop_when_idle(&mut self, now: Instant) {
        if !self.active_keys().is_empty() {
            return;
        }
        match &mut self.phase {
            Phase::Stopped => {}
            Phase::Waiting { .. } => self.stop(),
            Phase::Opening { .. } => {
                self.actions.push_back(Action::Close { graceful: false, last: Vec::new() });
                self.stop();
            }
            Phase::Open { .. } => {
                let reason = DisconnectReason::ClientDisconnect;
                self.close_session(now, reason, None, true);
            }
        }
    }

    fn active_keys(&self) -> Vec<Key> {
        self.sockets.iter().filter(|(_, entry)| entry.socket.is_active()).map(|(key, _)| *key).collect()
    }

    fn authenticate(&mut self, key: Key) {
        if let Some(entry) = self.sockets.get_mut(&key)
            && !matches!(entry.auth, AuthState::Asked(_))
            && entry.socket.is_waiting()
        {
            self.questions += 1;
            let question = self.questions;
            entry.auth = AuthState::Asked(question);
            self.actions.push_back(Action::Authenticate { key, question });
        }
    }

    /// A machine that slept finds the deadline passed before its timer says so.
    fn end_expired_session(&mut self, now: Instant) {
        if let Phase::Open { session, .. } = &mut self.phase {
            session.handle_timeout(now);
            self.pump_session(now);
        }
    }

    /// A session on which nothing is joined is of no use, and a new one may fare better; one that serves others goes
    /// on, and a late answer is still welcome.
    fn joins_timed_out(&mut self, now: Instant, late: &[Key]) {
        let description = "the server did not answer CONNECT in time".into();
        let details = Details {
            description: Some(description),
            phase: Some(engineio::Phase::Namespace),
            ..Details::new("timeout")
        };
        if self.sockets.values().any(|entry| entry.socket.is_connected()) {
            for key in late {
                if let Some(entry) = self.sockets.get_mut(key) {
                    entry.reconnecting = true;
                }
                self.connect_error(*key, Source::Transport, details.clone(), None);
            }
        } else {
            let reason = DisconnectReason::Closed(CloseReason::TransportError);
            self.close_session(now, reason, Some(&details), true);
        }
    }

    /// Carries out what the session says.
    fn pump_session(&mut self, now: Instant) {
        while let Some(event) = self.session_mut().and_then(Session::poll_event) {
            match event {
                engineio::Event::Opened(handshake) => self.opened(now, handshake),
                engineio::Event::Message(message) => self.handle_message(now, message),
                engineio::Event::Probe => {
                    if let Phase::Open { sid, .. } = &self.phase {
                        self.actions.push_back(Action::Probe { sid: sid.clone() });
                    }
                }
                engineio::Event::Pause => self.actions.push_back(Action::Pause),
                engineio::Event::Switch => {
                    self.websocket_worked = true;
                    self.set_limit(Limit { base64: false, ..self.limit });
                    self.actions.push_back(Action::Switch);
                    self.broadcast(&Lifecycle::Upgrade { transport: TransportKind::WebSocket });
                }
                engineio::Event::AbandonUpgrade(message) => {
                    tracing::debug!(message, "upgrade failed, staying on polling");
                    self.actions.push_back(Action::AbandonProbe);
                }
                engineio::Event::Closed(reason, details) => self.session_ended(now, reason, details),
            }
        }
    }

    fn opened(&mut self, now: Instant, handshake: engineio::Handshake) {
        let Phase::Opening { session, .. } = std::mem::replace(&mut self.phase, Phase::Stopped) else {
            return;
        };
        self.websocket_worked |= session.transport() == TransportKind::WebSocket;
        let base64 = session.transport() == TransportKind::Polling;
        self.set_limit(Limit { max_payload: handshake.max_payload, base64 });
        self.phase = Phase::Open { session, sid: handshake.sid.clone(), since: now };
        self.decoder.reset();
        self.is_outdated = false;
        if let Some(old_server) = &mut self.old_server {
            old_server.begin(&handshake.sid);
        }
        self.actions.push_back(Action::Opened(handshake));
        for key in self.active_keys() {
            self.authenticate(key);
        }
        let attempt = std::mem::take(&mut self.attempt);
        if attempt > 0 {
            self.broadcast(&Lifecycle::Reconnect { attempt });
        }
    }

    fn set_limit(&mut self, limit: Limit) {
        self.limit = limit;
        for entry in self.sockets.values_mut() {
            entry.socket.set_limit(limit);
        }
    }

    fn handle_message(&mut self, now: Instant, message: Message) {
        let packet = match self.decoder.decode(message) {
            Ok(Some(packet)) => packet,
            Ok(None) => return,
            Err(error) => {
                let reason = match error {
                    // As for one message that is too large, which the transport does not even take.
                    DecodeError::TooLarge { .. } => DisconnectReason::Closed(CloseReason::TransportError),
                    _ => DisconnectReason::ParseError,
                };
                let details = Details { description: error.detail(), ..Details::new(error.to_string()) };
                return self.close_session(now, reason, Some(&details), true);
            }
        };
        let Some(old_server) = &mut self.old_server else {
            self.is_outdated |= matches!(packet.body, Body::Connect(None));
            return self.handle_socket_packet(now, packet);
        };
        old_server.handle_packet(packet);
        transmit(&mut self.phase, self.settings.parser, &mut self.encoded, old_server);
        while let Some(packet) = self.old_server.as_mut().and_then(OldServer::poll_packet) {
            self.handle_socket_packet(now, packet);
        }
    }

    fn handle_socket_packet(&mut self, now: Instant, packet: socketio::Packet) {
        let Some(key) = self.by_namespace.get(&packet.namespace).copied() else {
            return self.handle_orphan(packet);
        };
        let mut ends = matches!(packet.body, Body::Disconnect | Body::Connect(_) | Body::ConnectError(_));
        let Some(entry) = self.sockets.get_mut(&key) else { return };
        let (was_active, was_connected) = (entry.socket.is_active(), entry.socket.is_connected());
        let result = entry.socket.handle_packet(now, packet.body);
        let failed = entry.socket.take_setup_failed();
        let sent_away = was_active && !entry.socket.is_active();
        ends |= failed;
        let returns = if was_connected && !failed { entry.returns.kicked } else { entry.returns.refused };
        if sent_away && returns {
            self.come_back(now, key);
        }
        self.pump(now, key);
        if let Err(details) = result {
            self.close_session(now, DisconnectReason::ParseError, Some(&details), true);
        } else if ends {
            self.stop_when_idle(now);
        }
    }

    /// What belongs to no socket is ignored, but a namespace joined for one that is gone has to be left: a later
    /// CONNECT would otherwise be the second one and end the session.
    fn handle_orphan(&mut self, packet: socketio::Packet) {
        let answers = matches!(packet.body, Body::Connect(_) | Body::ConnectError(_) | Body::Disconnect);
        if answers
            && self.orphans.remove(&packet.namespace).is_some()
            && matches!(packet.body, Body::Connect(_))
        {
            let leave = socketio::Packet { body: Body::Disconnect, ..packet };
            self.send(leave);
        } else {
            tracing::debug!("packet for a namespace without a socket ignored");
        }
    }

    fn session_ended(&mut self, now: Instant, reason: CloseReason, details: Option<Details>) {
        if let Phase::Opening { untried, deadline, .. } = &mut self.phase {
            let (untried, deadline) = (std::mem::take(untried), *deadline);
            self.websocket_worked = false;
            self.actions.push_back(Action::Close { graceful: false, last: Vec::new() });
            if self.settings.try_all_transports && !untried.is_empty() {
                return self.try_next(deadline, untried);
            }
            let details = details.unwrap_or_else(|| Details::new(reason.as_str()));
            return self.attempt_failed(now, details);
        }
        self.websocket_worked &= reason != CloseReason::TransportError;
        // The transport may still be there, and then the server need not find out by itself.
        let graceful = reason == CloseReason::PingTimeout;
        self.close_session(now, DisconnectReason::Closed(reason), details.as_ref(), graceful);
    }

    /// A new session takes the place of the open one, for the sake of the sockets that wait. To them it is no failure.
    fn begin_anew(&mut self, now: Instant) {
        let mut waiting = self.active_keys();
        waiting.retain(|key| self.sockets.get(key).is_some_and(|entry| !entry.socket.is_connected()));
        for key in &waiting {
            if let Some(entry) = self.sockets.get_mut(key) {
                entry.socket.deactivate();
            }
        }
        let details =
            Details::new("an old server lets nobody back into / on the same session; a new one begins");
        let reason = DisconnectReason::Closed(CloseReason::TransportClose);
        self.end_session(now, reason, Some(&details), true, Phase::Waiting { until: now });
        for key in &waiting {
            if let Some(entry) = self.sockets.get_mut(key) {
                entry.socket.connect();
            }
        }
        self.begin_attempt(now);
    }

    /// The open session is over, and what follows is decided.
    fn close_session(
        &mut self,
        now: Instant,
        reason: DisconnectReason,
        details: Option<&Details>,
        graceful: bool,
    ) {
        if let Phase::Open { .. } = self.phase {
            self.end_session(now, reason, details, graceful, Phase::Stopped);
            self.schedule(now, details.and_then(|details| details.retry_after));
        }
    }

    /// The open session is over; what its sockets owe and wait for is settled.
    fn end_session(
        &mut self,
        now: Instant,
        reason: DisconnectReason,
        details: Option<&Details>,
        graceful: bool,
        next: Phase,
    ) {
        let Phase::Open { session, since, .. } = &mut self.phase else { return };
        if now.saturating_duration_since(*since) >= self.settings.stable_after {
            self.backoff.reset();
        }
        session.close();
        let last = std::iter::from_fn(|| session.poll_transmit()).collect();
        self.actions.push_back(Action::Close { graceful, last });
        self.phase = next;
        self.decoder.reset();
        self.orphans.clear();
        for key in self.keys() {
            if let Some(entry) = self.sockets.get_mut(&key) {
                entry.socket.handle_closed(reason, details);
                entry.reconnecting |= entry.socket.is_active();
                entry.auth = AuthState::Idle;
                self.pump(now, key);
            }
        }
    }

    /// Takes what the socket wants sent and said.
    fn pump(&mut self, now: Instant, key: Key) {
        let failed = self.sockets.get_mut(&key).is_some_and(|entry| entry.socket.take_setup_failed());
        if failed && self.sockets.get(&key).is_some_and(|entry| entry.returns.refused) {
            self.come_back(now, key);
        }
        while let Some(transmit) = self.sockets.get_mut(&key).and_then(|entry| entry.socket.poll_transmit()) {
            let answer = match transmit {
                Transmit::Packet(packet) => self.send(packet),
                Transmit::Message(message) => {
                    if let Phase::Open { session, .. } = &mut self.phase {
                        session.send(message);
                    }
                    None
                }
            };
            if let Some(answer) = answer
                && let Some(entry) = self.sockets.get_mut(&key)
                && let Err(details) = entry.socket.handle_packet(now, answer)
            {
                tracing::debug!(details.message, "answer refused");
            }
        }
        while let Some(event) = self.sockets.get_mut(&key).and_then(|entry| entry.socket.poll_event()) {
            self.socket_event(key, event);
        }
        if failed {
            self.stop_when_idle(now);
        }
    }

    /// A socket that was sent away connects again by itself, after the longest delay or more.
    fn come_back(&mut self, now: Instant, key: Key) {
        let delay = self.settings.backoff.patient(self.random.f64());
        if let Some(entry) = self.sockets.get_mut(&key) {
            entry.comeback = Some(now + delay);
            entry.reconnecting = true;
        }
    }

    /// The server's answer, where an old one has given it before.
    fn send(&mut self, packet: socketio::Packet) -> Option<Body> {
        let Some(old_server) = &mut self.old_server else {
            send(&mut self.phase, self.settings.parser, &mut self.encoded, &packet);
            return None;
        };
        let answer = old_server.send(packet);
        transmit(&mut self.phase, self.settings.parser, &mut self.encoded, old_server);
        answer
    }

    fn socket_event(&mut self, key: Key, event: socket::Event<T>) {
        let output = match event {
            socket::Event::Event { name, args, ack } => Output::Event { name, args, ack },
            socket::Event::Answer { ticket, result } => Output::Answer { ticket, result },
            socket::Event::Outgoing { name, args, sender } => Output::Outgoing { name, args, sender },
            socket::Event::Lost { name, loss } => Output::Lost { name, loss },
            socket::Event::Connect { id, recovered } => {
                if let Some(entry) = self.sockets.get_mut(&key) {
                    entry.reconnecting = false;
                    entry.recovered = recovered;
                }
                let transport = self.session().map_or(TransportKind::WebSocket, Session::transport);
                return self.lifecycle(key, Lifecycle::Connect { id, recovered, transport });
            }
            socket::Event::ReadArgs(path) => {
                self.questions += 1;
                let question = self.questions;
                if let Some(entry) = self.sockets.get_mut(&key) {
                    entry.reading = Some(question);
                }
                return self.actions.push_back(Action::ReadArgs { key, question, path });
            }
            socket::Event::Ready => return self.lifecycle(key, Lifecycle::Ready),
            socket::Event::SetupFailed { step, message, answer } => {
                return self.lifecycle(key, Lifecycle::SetupFailed { step, message, answer });
            }
            socket::Event::Refused { message, data } => {
                let outdated = self.is_outdated || message == socket::OLD_SERVER;
                let details = Details {
                    phase: Some(engineio::Phase::Namespace),
                    hint: outdated.then_some(SET_ENGINE_3.into()),
                    ..Details::new(message)
                };
                return self.connect_error(key, Source::Server, details, data);
            }
            socket::Event::JoinFailed(details) => {
                return self.connect_error(key, Source::Transport, details, None);
            }
            socket::Event::Disconnect { reason, details } => {
                return self.lifecycle(key, Lifecycle::Disconnect { reason, details });
            }
        };
        self.outputs.push_back((key, output));
    }

    fn connect_error(&mut self, key: Key, source: Source, details: Details, data: Option<ByteString>) {
        self.lifecycle(key, Lifecycle::ConnectError { details, data, source });
    }

    fn broadcast(&mut self, event: &Lifecycle) {
        for key in self.active_keys() {
            self.lifecycle(key, event.clone());
        }
    }

    fn lifecycle(&mut self, key: Key, event: Lifecycle) {
        let mut status = self.status(key);
        // Sockets are deactivated only after the word of the failure that did it.
        let lost = matches!(
            event,
            Lifecycle::ConnectError { source: Source::Transport, .. } | Lifecycle::Disconnect { .. }
        );
        if lost && !self.settings.reconnection && matches!(self.phase, Phase::Stopped) {
            status.active = false;
            status.state = ConnectionState::Disconnected;
        }
        self.outputs.push_back((key, Output::Lifecycle { event, status }));
    }
}

/// Sends what is to go to an old server.
fn transmit(phase: &mut Phase, parser: Parser, encoded: &mut Vec<Message>, old_server: &mut OldServer) {
    while let Some(packet) = old_server.poll_transmit() {
        send(phase, parser, encoded, &packet);
    }
}

fn send(phase: &mut Phase, parser: Parser, encoded: &mut Vec<Message>, packet: &socketio::Packet) {
    if let Phase::Open { session, .. } = phase {
        packet.encode(parser, encoded);
        for message in encoded.drain(..) {
            session.send(message);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
