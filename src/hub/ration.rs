//! How much of what repeats itself is logged: the first few lines in full, then a sum now and then. Pure.
//!
//! What goes wrong once is worth a line; what goes wrong a thousand times an hour is worth the first lines and a count.
//! The count comes a minute after the first line that was left out, then after twice as long each time, up to an hour;
//! and a minute after things have calmed down, when lines are written in full again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Lines written in full before they are counted.
const FULL: u32 = 10;

/// The same of what somebody says who was told to speak.
const FULL_OF_WORDS: u32 = 40;

/// How long it has to be quiet for lines to be written in full again.
const CALM: Duration = Duration::from_mins(1);

/// From the first line left out to the first sum.
const FIRST: Duration = Duration::from_mins(1);

/// Between two sums at the most.
const LONGEST: Duration = Duration::from_hours(1);

/// What may be logged of one source.
#[derive(Debug)]
pub(super) struct Ration {
    full: u32,
    left: u32,
    /// When something happened last, logged or not.
    last: Option<Instant>,
    /// What was left out since the last sum, and how often.
    unsaid: BTreeMap<&'static str, u64>,
    since: Option<Instant>,
    /// When the next sum is due while it goes on.
    due: Option<Instant>,
    wait: Duration,
}

/// What was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    /// How many lines.
    pub(super) lines: u64,
    /// Which, like `connected (18), disconnected (19)`.
    pub(super) what: String,
    /// Since when.
    pub(super) during: Duration,
}

impl Default for Ration {
    fn default() -> Self {
        Self::of(FULL)
    }
}

impl Ration {
    /// For the words of a command.
    pub(super) fn of_words() -> Self {
        Self::of(FULL_OF_WORDS)
    }

    fn of(full: u32) -> Self {
        Self { full, left: full, last: None, unsaid: BTreeMap::new(), since: None, due: None, wait: FIRST }
    }

    /// Whether a line is to be written in full; where not, it is counted.
    pub(super) fn takes(&mut self, now: Instant, what: &'static str) -> bool {
        if self.due.is_none() && self.calm_at().is_some_and(|calm| calm <= now) {
            self.renew();
        }
        self.last = Some(now);
        if self.left == 0 {
            self.leave_out(now, what);
            return false;
        }
        self.left -= 1;
        true
    }

    /// Counts a line that need not be written, as it says nothing new.
    pub(super) fn leave_out(&mut self, now: Instant, what: &'static str) {
        self.last = Some(now);
        *self.unsaid.entry(what).or_default() += 1;
        self.since.get_or_insert(now);
        self.due.get_or_insert(now + self.wait);
    }

    /// Another line tells how often this was left out, so the sum need not.
    pub(super) fn told(&mut self, what: &'static str) -> u64 {
        self.unsaid.remove(what).unwrap_or(0)
    }

    /// Whether a sum is to come, of which whoever keeps the log knows.
    pub(super) fn is_counting(&self) -> bool {
        self.due.is_some()
    }

    /// When [`sum_up`](Self::sum_up) is to be called; none while nothing was left out.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.due?.min(self.calm_at()?))
    }

    /// What was left out, once it is due.
    pub(super) fn sum_up(&mut self, now: Instant) -> Option<Sum> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let sum = self.sum_up_now(now);
        if self.calm_at().is_some_and(|calm| calm <= now) {
            self.renew();
        } else {
            self.wait = (self.wait * 2).min(LONGEST);
            self.due = Some(now + self.wait);
        }
        sum
    }

    /// What was left out so far.
    pub(super) fn sum_up_now(&mut self, now: Instant) -> Option<Sum> {
        let during = now.saturating_duration_since(self.since.take()?);
        let unsaid = std::mem::take(&mut self.unsaid);
        let what: Vec<_> = unsaid.iter().map(|(what, count)| format!("{what} ({count})")).collect();
        let lines = unsaid.values().sum();
        (lines > 0).then(|| Sum { lines, what: what.join(", "), during })
    }

    /// Whether nothing is known of its source that a new one would not know.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.due.is_none() && self.calm_at().is_none_or(|calm| calm <= now)
    }

    fn calm_at(&self) -> Option<Instant> {
        self.last.map(|last| last + CALM)
    }

    fn renew(&mut self) {
        (self.left, self.due, self.wait) = (self.full, None, FIRST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Something happens every `period`, `count` times: when lines were written in full, and the sums.
    fn play(
        ration: &mut Ration,
        start: Instant,
        period: Duration,
        count: u32,
    ) -> (Vec<u32>, Vec<(u64, u64)>) {
        let (mut full, mut sums) = (Vec::new(), Vec::new());
        for number in 0..count {
            let now = start + period * number;
            if let Some(sum) = ration.sum_up(now) {
                sums.push(((now - start).as_secs(), sum.lines));
            }
            if ration.takes(now, "failed") {
                full.push(number);
            }
        }
        (full, sums)
    }

    #[test]
    fn what_does_not_stop_is_summed_up_ever_more_seldom() {
        let (mut ration, start) = (Ration::default(), Instant::now());
        let (full, sums) = play(&mut ration, start, SECOND, 24 * 3600);
        assert_eq!(full, (0..10).collect::<Vec<_>>());
        assert_eq!(sums[..3], [(70, 60), (190, 120), (430, 240)]);
        assert_eq!(sums.last().map(|(_, lines)| *lines), Some(3600));
        assert!(sums.len() < 32, "{sums:?}");
        let end = start + SECOND * 24 * 3600;
        let told: u64 = sums.iter().map(|(_, lines)| lines).sum();
        let rest = ration.sum_up_now(end).map_or(0, |sum| sum.lines);
        assert_eq!(full.len() as u64 + told + rest, 24 * 3600, "none is lost");
    }

    #[test]
    fn calm_brings_the_sum_and_a_new_ration() {
        let (mut ration, start) = (Ration::default(), Instant::now());
        play(&mut ration, start, SECOND / 10, 25);
        let last = start + SECOND / 10 * 24;
        assert_eq!(ration.due(), Some(last.min(start + SECOND) + CALM));
        ration.leave_out(last, "still failed");
        let late = last + CALM;
        let sum = ration.sum_up(late).unwrap();
        assert_eq!((sum.lines, sum.what.as_str()), (16, "failed (15), still failed (1)"));
        assert_eq!((ration.due(), ration.sum_up(late + CALM)), (None, None));
        assert_eq!(play(&mut ration, late, SECOND, 12).0.len(), 10);
    }

    #[test]
    fn what_is_seldom_is_never_left_out() {
        let (mut ration, start) = (Ration::default(), Instant::now());
        let (full, sums) = play(&mut ration, start, CALM, 1000);
        assert_eq!((full.len(), sums.len()), (1000, 0));
    }

    #[test]
    fn what_another_line_told_is_not_told_again() {
        let (mut ration, start) = (Ration::default(), Instant::now());
        for _ in 0..5 {
            ration.leave_out(start, "failed");
        }
        assert_eq!((ration.told("failed"), ration.told("failed")), (5, 0));
        assert_eq!(ration.sum_up(start + CALM), None);
        assert!(ration.is_fresh(start + CALM));
    }
}
