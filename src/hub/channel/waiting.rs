//! Those who wait for a connection to be up.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::snapshot::brief;
use super::{Channel, Inner};
use crate::hub::inbox::Inbox;
use crate::manager::{Lifecycle, Source};

/// Why a wait for `connected` ended without it.
#[derive(Clone, Debug)]
pub struct ConnectFailure {
    /// For people.
    pub message: String,
    /// What the server added, JSON text.
    pub data: Option<bytestring::ByteString>,
}

/// What happens to a wait for `connected`.
pub(super) type ConnectOutcome = Result<(), ConnectFailure>;

/// How many may wait for one connection.
pub const MAX_WAITING: usize = 1024;

/// As many wait for the connection as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyWaiting;

#[derive(Debug)]
pub(super) struct Waiting {
    outcome: oneshot::Sender<ConnectOutcome>,
    /// Of whoever is to hear it.
    inbox: Arc<Inbox>,
}

impl Waiting {
    /// Somebody is left who waits.
    fn is_wanted(&self) -> bool {
        !self.outcome.is_closed() && !self.inbox.is_deaf()
    }
}

impl Channel {
    /// Told when the connection is joined and its script through, or will not be by itself. `inbox` is that of who waits.
    pub fn wait_connected(
        &self,
        inbox: &Arc<Inbox>,
    ) -> Result<oneshot::Receiver<ConnectOutcome>, TooManyWaiting> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.lock();
        if inner.status.ready {
            let _ = sender.send(Ok(()));
        } else if inner.status.active {
            inner.waiting.retain(Waiting::is_wanted);
            if inner.waiting.len() >= MAX_WAITING {
                return Err(TooManyWaiting);
            }
            inner.waiting.push(Waiting { outcome: sender, inbox: Arc::clone(inbox) });
        } else {
            let message =
                inner.last_error.as_ref().map_or("it is not active".into(), |error| error.message.clone());
            let _ = sender.send(Err(ConnectFailure { message, data: None }));
        }
        Ok(receiver)
    }

    /// Nobody waits for the connection any longer: the daemon ends.
    pub fn give_up_waiting(&self) {
        self.lock().fail_waiting("the daemon is shutting down");
    }
}

impl Inner {
    /// Tells who waits for `connected` that nothing will come of it.
    pub(super) fn fail_waiting(&mut self, message: &str) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.outcome.send(Err(ConnectFailure { message: message.to_owned(), data: None }));
        }
    }

    /// Tells who waits for `connected` what came of it.
    pub(super) fn settle_waiting(&mut self, event: &Lifecycle) {
        let failure = match event {
            Lifecycle::Connect { .. } | Lifecycle::Ready if self.status.ready => None,
            Lifecycle::SetupFailed { message, .. } => {
                Some(ConnectFailure { message: message.clone(), data: None })
            }
            // A refusal is an answer, even where another attempt follows by itself.
            _ if self.status.active && !is_refusal(event) => return,
            Lifecycle::ConnectError { details, data, .. } => {
                let message = brief(&details.message).into_owned();
                Some(ConnectFailure { message, data: data.clone() })
            }
            Lifecycle::Disconnect { reason, .. } => {
                Some(ConnectFailure { message: reason.as_str().into(), data: None })
            }
            _ => Some(ConnectFailure { message: "gave up reconnecting".into(), data: None }),
        };
        for waiting in self.waiting.drain(..) {
            let _ = waiting.outcome.send(failure.clone().map_or(Ok(()), Err));
        }
    }
}

fn is_refusal(event: &Lifecycle) -> bool {
    matches!(event, Lifecycle::ConnectError { source: Source::Server, .. })
}
