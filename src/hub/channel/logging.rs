//! What the log says of a connection: what is new, and sums of what repeats itself.

use std::time::Instant;

use tracing::{debug, info, warn};

use super::snapshot::brief;
use super::{Channel, Inner};
use crate::engineio::{Details, Phase};
use crate::hub::now;
use crate::hub::ration::{Ration, Sum};
use crate::manager::{ConnectionState, Lifecycle};

/// Lines of the log, by what they say.
const CONNECTED: &str = "connected";

const CANNOT_CONNECT: &str = "cannot connect";

const DISCONNECTED: &str = "disconnected";

const READY: &str = "ready";

const SETUP_FAILED: &str = "the on_connect script failed";

const GAVE_UP: &str = "gave up; it takes the method connect to try again";

pub(super) const EMIT_LOST: &str = "an emit was given up";

pub(super) const SAID: &str = "auth_command";

impl Channel {
    /// What somebody who looks for it in the log a day later wants to find: every change, of failures that repeat
    /// themselves the first, and of what does not stop a sum.
    pub(super) fn log(&self, inner: &mut Inner, event: &Lifecycle) {
        let (connection, now) = (self.name.as_str(), now());
        match event {
            Lifecycle::Connect { id, recovered, transport } => {
                let (transport, failed) = (transport.name(), std::mem::take(&mut inner.failures));
                if !self.takes(&mut inner.ration, now, CONNECTED) {
                    debug!(connection, %id, recovered, transport, "{CONNECTED}");
                } else if failed > 0 {
                    inner.ration.told(CANNOT_CONNECT);
                    info!(connection, %id, recovered, transport, failed, "connected, after attempts that failed");
                } else {
                    info!(connection, %id, recovered, transport, "{CONNECTED}");
                }
            }
            Lifecycle::ConnectError { details, source, .. } => {
                inner.failures += 1;
                let Details { message, description, hint, phase, .. } = details;
                let (message, description) = (&*brief(message), description.as_deref().map(brief));
                let description = description.as_deref();
                let known = inner.last_error.as_ref().is_some_and(|last| {
                    inner.status.state == ConnectionState::Reconnecting
                        && last.message == message
                        && last.description.as_deref() == description
                });
                let (phase, source, hint) = (phase.map(Phase::name), source.name(), hint.as_deref());
                if known {
                    self.leave_out(&mut inner.ration, now, CANNOT_CONNECT);
                }
                if known || !self.takes(&mut inner.ration, now, CANNOT_CONNECT) {
                    debug!(connection, error = message, description, source, phase, "still cannot connect");
                } else {
                    warn!(connection, error = message, description, source, phase, hint, "{CANNOT_CONNECT}");
                }
            }
            Lifecycle::Ready if self.takes(&mut inner.ration, now, READY) => info!(connection, "{READY}"),
            Lifecycle::Ready => debug!(connection, "{READY}"),
            Lifecycle::SetupFailed { step, message, .. } => {
                if self.takes(&mut inner.ration, now, SETUP_FAILED) {
                    warn!(connection, step, error = message, "{SETUP_FAILED}");
                } else {
                    debug!(connection, step, error = message, "{SETUP_FAILED}");
                }
            }
            Lifecycle::Disconnect { reason, details } => {
                let message = details.as_ref().map(|details| brief(&details.message));
                let description = details.as_ref().and_then(|details| details.description.as_deref());
                let (description, code) =
                    (description.map(brief), details.as_ref().and_then(|details| details.code));
                let (reason, message) = (reason.as_str(), message.as_deref());
                let description = description.as_deref();
                if self.takes(&mut inner.ration, now, DISCONNECTED) {
                    info!(connection, reason, error = message, description, code, "{DISCONNECTED}");
                } else {
                    debug!(connection, reason, error = message, description, code, "{DISCONNECTED}");
                }
            }
            Lifecycle::ReconnectFailed { attempts } => {
                if self.takes(&mut inner.ration, now, GAVE_UP) {
                    warn!(connection, attempts, "{GAVE_UP}");
                } else {
                    debug!(connection, attempts, "{GAVE_UP}");
                }
            }
            Lifecycle::ReconnectAttempt { .. }
            | Lifecycle::ReconnectError { .. }
            | Lifecycle::Reconnect { .. }
            | Lifecycle::Upgrade { .. } => debug!(connection, event = event.name()),
        }
    }

    pub(super) fn takes(&self, ration: &mut Ration, now: Instant, what: &'static str) -> bool {
        let counting = ration.is_counting();
        let takes = ration.takes(now, what);
        if !takes && !counting {
            self.left_out.notify_one();
        }
        takes
    }

    pub(super) fn leave_out(&self, ration: &mut Ration, now: Instant, what: &'static str) {
        let counting = ration.is_counting();
        ration.leave_out(now, what);
        if !counting {
            self.left_out.notify_one();
        }
    }

    /// Logs what was left out: what is due, or at the end `all`. Gives when there is more to say.
    pub(in crate::hub) fn sum_up(&self, now: Instant, all: bool) -> Option<Instant> {
        let mut inner = self.lock();
        let Inner { ration, said, status, .. } = &mut *inner;
        let state = status.state.name();
        let mut next = None;
        for ration in [ration, said] {
            let sum = if all { ration.sum_up_now(now) } else { ration.sum_up(now) };
            if let Some(Sum { lines, what, during }) = sum {
                let seconds = during.as_secs();
                warn!(connection = self.name, left_out = lines, what, seconds, state, "more of the same");
            }
            next = next.into_iter().chain(ration.due()).min();
        }
        next
    }
}
