//! Which commands of one consumer have yet to take effect, so that its next one can wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Shared {
    open: AtomicUsize,
    none_open: Notify,
}

/// The commands of one consumer on their way; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Effects(Arc<Shared>);

/// One command on its way; dropped when it has taken effect.
#[derive(Debug)]
pub struct Effect(Arc<Shared>);

impl Effects {
    /// A command sets out.
    pub fn begin(&self) -> Effect {
        self.set_out();
        Effect(Arc::clone(&self.0))
    }

    /// A command sets out of which [`Effects::end`] will tell.
    pub fn set_out(&self) {
        self.0.open.fetch_add(1, Ordering::Relaxed);
    }

    /// So many that [`Effects::set_out`] told of have taken effect.
    pub fn end(&self, commands: usize) {
        self.0.end(commands);
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

impl Shared {
    fn end(&self, commands: usize) {
        if self.open.fetch_sub(commands, Ordering::AcqRel) == commands {
            self.none_open.notify_one();
        }
    }
}

impl Drop for Effect {
    fn drop(&mut self) {
        self.0.end(1);
    }
}
