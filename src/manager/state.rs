//! The states of one upstream connection: stopped, waiting, opening, open; and the rules that lead from one to the
//! next.
//!
//! Nothing here does IO or reads a clock: packets, losses and time come in through `handle_*`, the driver carries
//! out what [`State::poll_action`] says, sends what the `poll_*transmit` give and passes on [`State::poll_output`].

mod output;
mod session;
mod shortcut;
mod sockets;
mod time;
mod traffic;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytestring::ByteString;

pub use self::output::{Action, Output, Returns};
pub use self::shortcut::Shortcut;
use super::backoff::Backoff;
use super::pace::Pace;
use super::{Lifecycle, Settings, Source};
use crate::engineio::{self, CloseReason, Details, Message, Revision, Session, TransportKind};
use crate::socketio::socket::{self, DisconnectReason, Socket};
use crate::socketio::{Args, Decoder, Limit, OldServer};
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
    /// Since when the driver does not read, so that what seems late may be here already.
    held: Option<Instant>,
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
            held: None,
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
}

#[cfg(test)]
pub(super) mod tests;
