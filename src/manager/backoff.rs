//! The delay before the next attempt.

use std::time::Duration;

/// Delay of attempt n (from 0): `min * 2^n`, at most `max`, spread by `jitter`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The first delay.
    pub min: Duration,
    /// The largest.
    pub max: Duration,
    /// Part of the delay that is random, 0 to 1.
    pub jitter: f64,
}
