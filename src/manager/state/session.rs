//! From one session to the next: attempts, their failures, losses, and the waits between them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Action, AuthState, Key, Phase, State};
use crate::engineio::{self, CloseReason, Details, Session, TransportKind};
use crate::manager::{Lifecycle, Source};
use crate::socketio::{DisconnectReason, Limit};
use crate::transport;

impl<T> State<T> {
    pub(super) fn begin_attempt(&mut self, now: Instant) {
        let mut untried: VecDeque<TransportKind> = self.settings.transports.iter().copied().collect();
        if self.settings.remember_upgrade && self.websocket_worked {
            untried.retain(|kind| *kind != TransportKind::WebSocket);
            untried.push_front(TransportKind::WebSocket);
        }
        // What is left of a hold is given back at its end.
        self.try_next(self.held.unwrap_or(now) + self.settings.timeout, untried);
    }

    pub(super) fn try_next(&mut self, deadline: Instant, mut untried: VecDeque<TransportKind>) {
        // The configuration has at least one transport.
        let kind = untried.pop_front().unwrap_or(TransportKind::WebSocket);
        // One that has just failed in this attempt is not asked for again in its session.
        let may_upgrade = self.settings.upgrade && untried.contains(&TransportKind::WebSocket);
        let session = Session::new(self.settings.transport.revision, kind, may_upgrade);
        self.phase = Phase::Opening { session, deadline, untried, progress: None };
        self.actions.push_back(Action::Open(kind));
    }

    pub(super) fn attempt_failed(&mut self, now: Instant, mut details: Details) {
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
    pub(super) fn schedule(&mut self, now: Instant, earliest: Option<Duration>) {
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

    pub(super) fn give_up(&mut self) {
        for key in self.active_keys() {
            if let Some(entry) = self.sockets.get_mut(&key) {
                entry.socket.deactivate();
                entry.reconnecting = false;
            }
        }
        self.stop();
    }

    pub(super) fn stop(&mut self) {
        self.phase = Phase::Stopped;
        self.attempt = 0;
        self.backoff.reset();
    }

    pub(super) fn stop_when_idle(&mut self, now: Instant) {
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

    /// A machine that slept finds the deadline passed before its timer says so.
    pub(super) fn end_expired_session(&mut self, now: Instant) {
        if let Phase::Open { session, .. } = &mut self.phase {
            session.handle_timeout(now);
            self.pump_session(now);
        }
    }

    /// A session on which nothing is joined is of no use, and a new one may fare better; one that serves others goes
    /// on, and a late answer is still welcome.
    pub(super) fn joins_timed_out(&mut self, now: Instant, late: &[Key]) {
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
    pub(super) fn pump_session(&mut self, now: Instant) {
        while let Some(event) = self.session_mut().and_then(Session::poll_event) {
            match event {
                engineio::Event::Opened(handshake) => self.opened(now, handshake),
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

    pub(super) fn opened(&mut self, now: Instant, handshake: engineio::Handshake) {
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

    pub(super) fn set_limit(&mut self, limit: Limit) {
        self.limit = limit;
        for entry in self.sockets.values_mut() {
            entry.socket.set_limit(limit);
        }
    }

    pub(super) fn session_ended(&mut self, now: Instant, reason: CloseReason, details: Option<Details>) {
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
    pub(super) fn begin_anew(&mut self, now: Instant) {
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
    pub(super) fn close_session(
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
    pub(super) fn end_session(
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
}
