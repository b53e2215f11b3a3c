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

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.shared.lock().commands.is_empty()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt;
    use futures_util::task::noop_waker_ref;

    use super::*;

    fn command(key: u64, told: &Arc<AtomicBool>) -> Command {
        let told = Arc::clone(told);
        Command::Connect { key, done: Box::new(move |()| told.store(true, Ordering::Relaxed)) }
    }

    fn key(command: Option<Command>) -> Option<u64> {
        match command {
            Some(Command::Connect { key, .. }) => Some(key),
            _ => None,
        }
    }

    #[test]
    fn commands_come_in_order_and_end_with_the_sender() {
        let (sender, mut receiver) = channel();
        let (mut cx, told) = (Context::from_waker(noop_waker_ref()), Arc::default());
        assert!(receiver.poll(&mut cx).is_pending());
        for number in 0..3 {
            sender.send(command(number, &told));
        }
        assert_eq!(key(receiver.take()), Some(0));
        sender.send(command(3, &told));
        for number in 1..4 {
            assert_eq!(receiver.poll(&mut cx).map(key), Poll::Ready(Some(number)));
        }
        assert!(receiver.take().is_none() && receiver.poll(&mut cx).is_pending());
        sender.send(command(4, &told));
        drop(sender);
        assert_eq!(receiver.poll(&mut cx).map(key), Poll::Ready(Some(4)));
        assert!(matches!(receiver.poll(&mut cx), Poll::Ready(None)));
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_nobody_waits_at_the_gate() {
        let (sender, receiver) = channel();
        let told: Arc<AtomicBool> = Arc::default();
        sender.send(command(0, &told));
        assert_eq!(
            sender.try_share(u32::try_from(IN_FLIGHT).unwrap()),
            Some(u32::try_from(IN_FLIGHT).unwrap())
        );
        assert_eq!(sender.try_share(1), None);
        assert_eq!(sender.share(1).now_or_never(), None);
        receiver.gate().give_back(1);
        assert_eq!(sender.share(1).now_or_never(), Some(1));
        let waiting = sender.share(1);
        drop(receiver);
        assert_eq!(waiting.now_or_never(), Some(0));
        sender.send(command(1, &told));
        assert_eq!(Arc::strong_count(&told), 1, "both are gone");
        assert!(!told.load(Ordering::Relaxed));
    }

    #[test]
    fn what_a_burst_took_is_given_back() {
        let (sender, mut receiver) = channel();
        let (mut cx, told) = (Context::from_waker(noop_waker_ref()), Arc::default());
        (0..1000).for_each(|number| sender.send(command(number, &told)));
        while receiver.poll(&mut cx).is_ready() {}
        for _ in 0..1000 {
            assert!(receiver.poll(&mut cx).is_pending());
        }
        assert!(
            receiver.taken.capacity() <= 2 * FEW && receiver.shared.lock().commands.capacity() <= 2 * FEW
        );
    }
}
