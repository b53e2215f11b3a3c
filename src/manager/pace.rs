//! Attempts at one server kept apart, so that the connections of an outage do not all come back in one instant.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two attempts at one server that follow a failure.
const GAP: Duration = Duration::from_millis(50);

/// Attempts that may be planned at one server; what comes beyond is not kept apart.
const MOST: usize = 4096;

/// A server: host and port.
type Origin = (String, u16);

/// The planned attempts of all Managers of a daemon.
#[derive(Debug, Default)]
pub struct Pace {
    planned: Mutex<HashMap<Origin, BTreeSet<Instant>>>,
}

impl Pace {
    /// When an attempt at this server that would begin at `at` shall begin: then, or as soon after as no other one is
    /// near. The place is kept until it is over.
    pub fn claim(&self, host: &str, port: u16, now: Instant, at: Instant) -> Instant {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.retain(|_, attempts| {
            *attempts = attempts.split_off(&now);
            !attempts.is_empty()
        });
        let attempts = planned.entry((host.to_owned(), port)).or_default();
        if attempts.len() >= MOST {
            return at;
        }
        let mut free = at;
        for taken in attempts.iter() {
            if *taken >= free + GAP {
                break;
            }
            if free < *taken + GAP {
                free = *taken + GAP;
            }
        }
        attempts.insert(free);
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_at_one_server_are_never_nearer_than_the_gap() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let claimed =
            |host: &str, now, wanted| (pace.claim(host, 80, at(now), at(wanted)) - start).as_millis();
        for (host, now, wanted, expected) in [
            ("a", 0, 1000, 1000),
            ("a", 0, 1000, 1050),
            ("b", 0, 1000, 1000),
            ("a", 0, 1049, 1100),
            ("a", 0, 950, 950),
            ("a", 0, 940, 1150),
            ("a", 0, 2000, 2000),
            ("a", 0, 1190, 1200),
            // What is over is forgotten.
            ("a", 1500, 1500, 1500),
            ("a", 1500, 2010, 2050),
            ("b", 1500, 1510, 1510),
        ] {
            assert_eq!(claimed(host, now, wanted), expected, "{host} at {now} for {wanted}");
        }
    }

    #[test]
    fn its_memory_is_bounded() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = start + Duration::from_hours(1);
        for _ in 0..MOST {
            pace.claim("a", 80, start, at);
        }
        assert_eq!(pace.claim("a", 80, start, at), at);
        pace.claim("b", 80, at + 2 * GAP * u32::try_from(MOST).unwrap(), at);
        assert_eq!(pace.planned.lock().unwrap().len(), 1);
    }
}
