//! Deadlines: of attempts and heartbeats, of sockets, and of what is tried again.

use std::time::Instant;

use super::{Action, AuthState, Phase, State};
use crate::engineio::Details;
use crate::manager::Lifecycle;

impl<T> State<T> {
    /// The driver reads no packets for a while: whatever the server has a deadline for rests.
    pub fn hold(&mut self, now: Instant) {
        self.held = Some(now);
        if let Some(session) = self.session_mut() {
            session.hold(now);
        }
        for entry in self.sockets.values_mut() {
            entry.socket.hold(now);
        }
    }

    /// Whether [`State::hold`] was the last that was said of it.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The driver reads again.
    pub fn release(&mut self, now: Instant) {
        let Some(since) = self.held.take() else { return };
        if let Phase::Opening { deadline, .. } = &mut self.phase {
            *deadline += now.saturating_duration_since(since);
        }
        if let Some(session) = self.session_mut() {
            session.release(now);
        }
        for entry in self.sockets.values_mut() {
            entry.socket.release(now);
        }
    }

    /// When [`State::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Stopped => None,
            Phase::Waiting { until } => Some(*until),
            Phase::Opening { deadline, .. } => Some(*deadline).filter(|_| self.held.is_none()),
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
            Phase::Opening { deadline, progress, .. } if now >= *deadline && self.held.is_none() => {
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
            if entry.socket.handle_timeout(now) {
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
}
