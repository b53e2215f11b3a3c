//! Which commands of one consumer have yet to take effect, so that its next one can wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Shared {
    open: AtomicUsize,
    none_open: Notify,
}

/// The commands of one consumer on their way.
#[derive(Debug, Default)]
pub struct Effects(Arc<Shared>);

/// One command on its way; dropped when it has taken effect.
#[derive(Debug)]
pub struct Effect(Arc<Shared>);

impl Effects {
    /// A command sets out.
    pub fn begin(&self) -> Effect {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Effect(Arc::clone(&self.0))
    }

    /// All commands so far have taken effect.
    pub fn is_settled(&self) -> bool {
        self.0.open.load(Ordering::Acquire) == 0
    }

    /// Waits until they have. One waiter at a time.
    pub async fn settled(&self) {
        while !self.is_settled() {
            self.0.none_open.notified().await;
        }
    }
}

impl Drop for Effect {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_open.notify_one();
        }
    }
}
