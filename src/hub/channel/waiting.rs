//! Those who wait for a connection to be up.

use tokio::sync::oneshot;

use super::snapshot::brief;
use super::{Channel, Inner};
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
pub type ConnectOutcome = Result<(), ConnectFailure>;

impl Channel {
    /// Told when the connection is joined and its script through, or will not be by itself.
    pub fn wait_connected(&self) -> oneshot::Receiver<ConnectOutcome> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.lock();
        if inner.status.ready {
            let _ = sender.send(Ok(()));
        } else if inner.status.active {
            inner.waiting.retain(|waiting| !waiting.is_closed());
            inner.waiting.push(sender);
        } else {
            let message =
                inner.last_error.as_ref().map_or("it is not active".into(), |error| error.message.clone());
            let _ = sender.send(Err(ConnectFailure { message, data: None }));
        }
        receiver
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
            let _ = waiting.send(Err(ConnectFailure { message: message.to_owned(), data: None }));
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
            let _ = waiting.send(failure.clone().map_or(Ok(()), Err));
        }
    }
}

fn is_refusal(event: &Lifecycle) -> bool {
    matches!(event, Lifecycle::ConnectError { source: Source::Server, .. })
}
