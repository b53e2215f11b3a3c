//! What is wanted of the sockets, and where they stand.

use std::time::Instant;

use super::{AuthState, Entry, Key, Output, Phase, Returns, State};
use crate::engineio::Session;
use crate::manager::backoff::Backoff;
use crate::manager::{ConnectionState, Status};
use crate::socketio::socket::{self, Emit, EmitError, Sent, Socket};
use crate::socketio::{AnswerError, Args, Recoverable};

impl<T> State<T> {
    /// Adds an inactive socket. The namespace must not be taken.
    pub fn add(&mut self, key: Key, settings: socket::Settings, returns: Returns, first_ack: u64) {
        self.by_namespace.insert(settings.namespace.clone(), key);
        let unanswered = self.orphans.remove(&settings.namespace);
        let mut socket = Socket::new(settings, first_ack, unanswered);
        if let Some(since) = self.held {
            socket.hold(since);
        }
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

    pub(super) fn start(&mut self, now: Instant, key: Key) {
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

    pub(super) fn active_keys(&self) -> Vec<Key> {
        self.sockets.iter().filter(|(_, entry)| entry.socket.is_active()).map(|(key, _)| *key).collect()
    }
}
