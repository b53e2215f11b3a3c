//! The time that deadlines are judged by. It goes on while the machine sleeps, as timers do not.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What is taken for sleep. Less is the time that passes between two readings of a busy machine.
const SLEEP: Duration = Duration::from_millis(500);

/// The clock that goes on while the machine sleeps.
#[cfg(target_os = "linux")]
const WITH_SLEEP: ClockId = ClockId::Boottime;

/// Where there is none, sleep is not noticed: the next heartbeat that does not come ends what it has cut off.
#[cfg(not(target_os = "linux"))]
const WITH_SLEEP: ClockId = ClockId::Monotonic;

/// The time since boot, in two readings: with the time that the machine slept, and without.
pub(super) type Reading = (Duration, Duration);

/// A clock whose moments are comparable with those of the runtime, and lie ahead of them by the time slept since it was
/// made.
#[derive(Clone)]
pub(super) struct Clock {
    read: Arc<dyn Fn() -> Reading + Send + Sync>,
    awake_first: Duration,
    slept: Duration,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("slept", &self.slept).finish_non_exhaustive()
    }
}

impl Clock {
    /// The system's.
    pub(super) fn system() -> Self {
        Self::with(Arc::new(|| {
            // In this order no pause between the two can look like sleep.
            let with_sleep = since_boot(WITH_SLEEP);
            (with_sleep, since_boot(ClockId::Monotonic))
        }))
    }

    /// One that `read` drives.
    pub(super) fn with(read: Arc<dyn Fn() -> Reading + Send + Sync>) -> Self {
        let (with_sleep, without) = read();
        Self { read, awake_first: with_sleep.saturating_sub(without), slept: Duration::ZERO }
    }

    /// Looks whether the machine slept; true if it did since the last look.
    pub(super) fn look(&mut self) -> bool {
        let (with_sleep, without) = (self.read)();
        let slept = with_sleep.saturating_sub(without).saturating_sub(self.awake_first);
        let woke = slept >= self.slept + SLEEP;
        if woke {
            self.slept = slept;
        }
        woke
    }

    /// Now, as far as the last look knows of sleep.
    pub(super) fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std() + self.slept
    }

    /// A moment of this clock as one of the runtime's timers.
    pub(super) fn timer(&self, at: Instant) -> Instant {
        // A moment before the machine was started is long over, and so is now.
        at.checked_sub(self.slept).unwrap_or_else(|| tokio::time::Instant::now().into_std())
    }
}

fn since_boot(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn sleep_counts_and_a_busy_machine_is_not_asleep() {
        let seconds = Duration::from_secs_f64;
        let reading = Arc::new(Mutex::new((seconds(1000.0), seconds(900.0))));
        let source = Arc::clone(&reading);
        let mut clock = Clock::with(Arc::new(move || *source.lock().unwrap()));
        for (with_sleep, without, woke, slept) in [
            (1010.0, 910.0, false, 0.0),
            (1010.0, 910.4, false, 0.0),
            (1020.3, 920.0, false, 0.0),
            (4620.0, 920.0, true, 3600.0),
            (4630.0, 930.0, false, 3600.0),
            (4632.0, 930.0, true, 3602.0),
        ] {
            *reading.lock().unwrap() = (seconds(with_sleep), seconds(without));
            assert_eq!(clock.look(), woke, "{with_sleep}");
            assert_eq!(clock.slept, seconds(slept), "{with_sleep}");
        }
        let now = clock.now();
        assert!(clock.timer(now) <= Instant::now());
        assert_eq!(clock.timer(now) + clock.slept, now);
    }

    #[test]
    fn the_system_s_clock_runs() {
        let mut clock = Clock::system();
        let before = clock.now();
        assert!(!clock.look());
        assert!(clock.now() >= before);
    }
}
