//! The delay before the next attempt: socket.io-client's formula, with two changes.
//!
//! The delay is capped before it is spread, so that an outage that many clients share does not end with all of them
//! coming back at once; and it never overflows, however long the outage. What starts the count over, and where the
//! randomness comes from, is the caller's business.

use std::time::Duration;

/// Delay of attempt n (from 0): `min * 2^n`, at most `max`, spread by `jitter`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The first delay. Whole milliseconds count, at least one.
    pub min: Duration,
    /// The largest.
    pub max: Duration,
    /// Part of the delay that is random, 0 to 1; anything else counts as 0.
    pub jitter: f64,
}

impl Settings {
    /// The delay of whoever was sent away and comes back all the same: never less than `max`, spread upwards; `r` is a
    /// random number in [0, 1).
    pub fn patient(&self, r: f64) -> Duration {
        let jitter = if self.jitter > 0.0 && self.jitter <= 1.0 { self.jitter } else { 0.0 };
        self.max
            .saturating_add(self.max.min(Duration::from_millis(LONGEST)).mul_f64(jitter * r.clamp(0.0, 1.0)))
    }
}

/// Delays that grow from one failure to the next.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: u64,
    max: u64,
    jitter: f64,
    exponent: u32,
}

impl Backoff {
    /// Starts at the smallest delay.
    #[expect(clippy::needless_pass_by_value, reason = "the three values become this one's own")]
    pub fn new(settings: Settings) -> Self {
        Self {
            min: milliseconds(settings.min).max(1),
            max: milliseconds(settings.max),
            jitter: if settings.jitter > 0.0 && settings.jitter <= 1.0 { settings.jitter } else { 0.0 },
            exponent: 0,
        }
    }

    /// The delay before the next attempt, in whole milliseconds; `r` is a random number in [0, 1).
    ///
    /// Below `max` the first decimal of `r` says whether the delay is shortened (even) or lengthened (odd), by at most
    /// `jitter` times itself. From `max` on it is only shortened: delays lie evenly between `max * (1 - jitter)` and
    /// `max`.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no delay has 2^53 milliseconds, and none is negative"
    )]
    pub fn next(&mut self, r: f64) -> Duration {
        let base = self.min.saturating_mul(2_u64.saturating_pow(self.exponent)).min(self.max);
        self.exponent = self.exponent.saturating_add(1);

        let r = r.clamp(0.0, 1.0);
        let spread = ((r * self.jitter * base as f64).floor() as u64).min(base);
        let shorter = base == self.max || ((r * 10.0).floor() as u64).is_multiple_of(2);
        let delay = if shorter { base - spread } else { (base + spread).min(self.max) };
        Duration::from_millis(delay)
    }

    /// Starts over at the smallest delay.
    pub fn reset(&mut self) {
        self.exponent = 0;
    }
}

/// Far above any setting, and low enough that doubling cannot overflow.
const LONGEST: u64 = u64::MAX >> 12;

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(LONGEST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(min: u64, max: u64, jitter: f64) -> Backoff {
        Backoff::new(Settings { min: Duration::from_millis(min), max: Duration::from_millis(max), jitter })
    }

    fn delays<const N: usize>(backoff: &mut Backoff, r: f64) -> [u128; N] {
        std::array::from_fn(|_| backoff.next(r).as_millis())
    }

    #[test]
    fn doubles_up_to_the_largest() {
        for (min, max, expected) in [
            (1000, 5000, [1000, 2000, 4000, 5000, 5000]),
            (1, 100, [1, 2, 4, 8, 16]),
            (6000, 5000, [5000; 5]),
            (0, 5, [1, 2, 4, 5, 5]),
            (0, 0, [0; 5]),
        ] {
            assert_eq!(delays(&mut backoff(min, max, 0.0), 0.95), expected, "{min} to {max}");
        }
    }

    #[test]
    fn is_spread_at_the_largest_too() {
        for (r, expected) in [
            (0.0, [1000, 2000, 4000, 5000, 5000]),
            (0.15, [1075, 2150, 4300, 4625, 4625]),
            (0.25, [875, 1750, 3500, 4375, 4375]),
            (0.95, [1475, 2950, 5000, 2625, 2625]),
        ] {
            assert_eq!(delays(&mut backoff(1000, 5000, 0.5), r), expected, "r = {r}");
        }
    }

    #[test]
    fn jitter_and_r_out_of_range_do_no_harm() {
        for jitter in [0.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
            assert_eq!(delays(&mut backoff(1000, 5000, jitter), 0.95), [1000, 2000, 4000], "jitter {jitter}");
        }
        for r in [-1.0, 1.0, 7.0, f64::NAN, f64::INFINITY] {
            for delay in delays::<5>(&mut backoff(1000, 5000, 1.0), r) {
                assert!(delay <= 5000, "r = {r}");
            }
        }
    }

    #[test]
    fn an_outage_of_years_changes_nothing() {
        let mut backoff = backoff(1000, 5000, 0.5);
        for _ in 0..100_000 {
            backoff.next(0.5);
        }
        assert_eq!(backoff.next(0.999).as_millis(), 2503);
        backoff.exponent = u32::MAX;
        assert_eq!(delays(&mut backoff, 0.0), [5000, 5000]);
    }

    #[test]
    fn settings_of_any_size_do_not_overflow() {
        let endless = Settings { min: Duration::MAX, max: Duration::MAX, jitter: 1.0 };
        let mut backoff = Backoff::new(endless);
        assert_eq!(backoff.next(0.0), Duration::from_millis(LONGEST));
        assert!(backoff.next(0.95) < Duration::from_millis(LONGEST));
    }

    #[test]
    fn starts_over() {
        let mut backoff = backoff(1000, 5000, 0.0);
        assert_eq!(delays(&mut backoff, 0.0), [1000, 2000]);
        backoff.reset();
        assert_eq!(delays(&mut backoff, 0.0), [1000]);
    }
}
