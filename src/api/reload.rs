//! Asking for the configuration to be read again: programs ask, the service does it, one after the other.

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::hub::Changes;

/// Who may wait to be heard; whoever comes then waits with its other requests.
const QUEUE: usize = 16;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reloaded {
    /// The connections of the configuration.
    #[serde(flatten)]
    pub changes: Changes,
    /// Keys that have changed and whose new value takes a restart; only there when there are some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub needs_restart: Vec<&'static str>,
}

/// What came of it, or everything that is wrong with the configuration, one line each.
pub type Outcome = Result<Reloaded, String>;

/// A request to read the configuration again. Dropped, it says that the daemon ends.
#[derive(Debug)]
pub struct Request(oneshot::Sender<Outcome>);

impl Request {
    /// Tells whoever asked.
    pub fn answer(self, outcome: Outcome) {
        // It may have left meanwhile.
        let _ = self.0.send(outcome);
    }
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Reloader(mpsc::Sender<Request>);

impl Reloader {
    /// And where the requests arrive.
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(QUEUE);
        (Self(sender), requests)
    }

    /// Asks, and waits until it is done; none when the daemon ends.
    pub async fn reload(&self) -> Option<Outcome> {
        let (sender, outcome) = oneshot::channel();
        self.0.send(Request(sender)).await.ok()?;
        outcome.await.ok()
    }
}
