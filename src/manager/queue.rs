//! What is asked of a Manager, on its way to the Manager's task.
//!
//! The queue has no bound of its own: an emit takes its share of the gate, and of everything else each consumer has one
//! on the way at most.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Semaphore;

use super::{Command, IN_FLIGHT};

/// Commands for which there is room without asking for it; what a burst took is given back after it.
const FEW: usize = 16;

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// Whoever takes commands waits.
    waiting: Option<Waker>,
    /// Nobody gives commands any more.
    closed: bool,
    /// Nobody takes them any more.
    gone: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    gate: Semaphore,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives commands; the queue is closed with it.
pub(super) struct Sender(Arc<Shared>);

/// Takes them. With it the gate is open for ever, for what passes it goes nowhere.
pub(super) struct Receiver {
    shared: Arc<Shared>,
    taken: VecDeque<Command>,
    /// How often nothing was there since the room was last looked at.
    calm: u8,
}

/// What bounds the emits in the queue and behind it.
pub(super) struct Gate(Arc<Shared>);

/// An empty queue.
pub(super) fn channel() -> (Sender, Receiver) {
    let shared = Arc::new(Shared { queue: Mutex::default(), gate: Semaphore::new(IN_FLIGHT) });
    (Sender(Arc::clone(&shared)), Receiver { shared, taken: VecDeque::new(), calm: 0 })
}

impl Sender {
    /// Puts a command in line. One that nobody will take is dropped.
    pub(super) fn send(&self, command: Command) {
        let mut queue = self.0.lock();
        if queue.gone {
            // Whoever hears of it may want the lock.
            drop(queue);
            return drop(command);
        }
        queue.commands.push_back(command);
        let waiting = queue.waiting.take();
        drop(queue);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Waits until a share of the gate is to be had, and takes it; none once nobody takes commands any more.
    pub(super) async fn share(&self, share: u32) -> u32 {
        match self.0.gate.acquire_many(share).await {
            Ok(permit) => {
                permit.forget();
                share
            }
            Err(_) => 0,
        }
    }

    /// Takes a share of the gate if it is to be had now.
    pub(super) fn try_share(&self, share: u32) -> Option<u32> {
        let permit = self.0.gate.try_acquire_many(share).ok()?;
        permit.forget();
        Some(share)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        let waiting = queue.waiting.take();
        drop(queue);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Receiver {
    /// The next command; none when no more will come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Command>> {
        if let Some(command) = self.taken.pop_front() {
            return Poll::Ready(Some(command));
        }
        let mut queue = self.shared.lock();
        if queue.commands.is_empty() {
            if queue.closed {
                return Poll::Ready(None);
            }
            match &mut queue.waiting {
                Some(waker) => waker.clone_from(cx.waker()),
                waiting @ None => *waiting = Some(cx.waker().clone()),
            }
            // By and by, for another burst may follow.
            self.calm = self.calm.wrapping_add(1);
            if self.calm.is_multiple_of(16) {
                let half =
                    |commands: &mut VecDeque<_>| commands.shrink_to((commands.capacity() / 2).max(FEW));
                half(&mut queue.commands);
                half(&mut self.taken);
            }
            return Poll::Pending;
        }
        std::mem::swap(&mut queue.commands, &mut self.taken);
        drop(queue);
        Poll::Ready(self.taken.pop_front())
    }

    /// The next command, if there is one.
    pub(super) fn take(&mut self) -> Option<Command> {
        if self.taken.is_empty() {
            std::mem::swap(&mut self.shared.lock().commands, &mut self.taken);
        }
        self.taken.pop_front()
    }

    /// The gate that emits pass.
    pub(super) fn gate(&self) -> Gate {
        Gate(Arc::clone(&self.shared))
    }
}

impl Gate {
    /// Gives a share back.
    pub(super) fn give_back(&self, share: usize) {
        if share > 0 {
            self.0.gate.add_permits(share);
        }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.0.gate.available_permits()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.gate.close();
        let mut queue = self.shared.lock();
        queue.gone = true;
        let left = std::mem::take(&mut queue.commands);
        drop(queue);
        drop(left);
    }
}
