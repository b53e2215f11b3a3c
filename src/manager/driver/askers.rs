//! Whoever asks for something: told what became of it, waited for, and forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Driver, Waiter};
use crate::manager::Room;

/// Between two looks at what is kept for programs that are gone.
pub(super) const FORGETTING: Duration = Duration::from_secs(1);

/// Programs that left, of all Managers.
pub(super) struct Departures {
    left: Arc<AtomicU64>,
    /// How many had left when what was kept for them was dropped.
    seen: u64,
    looked: Instant,
}

impl Departures {
    /// Of those who are counted there.
    pub(super) fn new(left: Arc<AtomicU64>, now: Instant) -> Self {
        Self { left, seen: 0, looked: now }
    }
}

impl Driver {
    /// Drops what is kept for programs that are gone; the server may never answer them.
    pub(super) fn forget_the_gone(&mut self) {
        let left = self.departures.left.load(Ordering::Relaxed);
        if left == self.departures.seen {
            return;
        }
        let now = self.clock.now();
        if now.saturating_duration_since(self.departures.looked) >= FORGETTING {
            self.departures.looked = now;
            // What they had asked for last may still be on its way.
            if self.commands.is_empty() {
                self.departures.seen = left;
            }
            self.state.forget_acks(|waiter| matches!(waiter, Waiter::Emit(ticket) if ticket.is_void()));
        }
    }

    /// All that was said to them in this turn is to be seen now.
    pub(super) fn tell_askers(&mut self) {
        for asker in &self.answered {
            asker.publish();
        }
        if !self.answered.is_empty() || !self.behind.is_empty() {
            self.look_who_is_behind();
        }
        self.taken.drain(..).for_each(|(asker, emits)| asker.taken(emits));
    }

    /// Of the many that a program may be, one is enough.
    fn look_who_is_behind(&mut self) {
        let now = self.clock.now();
        let before = std::mem::take(&mut self.behind).into_iter().map(|(asker, _)| asker);
        for asker in before.chain(self.answered.drain(..)) {
            if let Room::Full { until } = asker.room(now)
                && !self.suspended
                && !self
                    .behind
                    .iter()
                    .any(|(known, _)| std::ptr::eq(known.room_changed(), asker.room_changed()))
            {
                self.behind.push((asker, until));
            }
        }
    }
}
