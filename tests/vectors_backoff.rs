//! The reconnection delay against values recorded from socket.io-client.
//!
//! Below the largest delay every value is the same. At the largest the official client has no jitter left; ours has, so
//! there only the range is checked. `SIOD_VECTORS` names another folder with files of the same format.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use siod::manager::backoff::{Backoff, Settings};

#[derive(Deserialize)]
struct Vectors {
    bounds: Vec<Bounds>,
    exact: Vec<Exact>,
}

#[derive(Deserialize)]
struct Options {
    min: u64,
    max: u64,
    jitter: f64,
}

#[derive(Deserialize)]
struct Bounds {
    options: Options,
    attempt: u32,
    delay_max: f64,
    symmetric_min: f64,
}

#[derive(Deserialize)]
struct Exact {
    options: Options,
    attempt: u32,
    rand: f64,
    delay: f64,
}

#[test]
fn delays_below_the_largest_are_those_of_the_official_client() {
    let below: Vec<_> =
        vectors().exact.into_iter().filter(|row| !row.options.at_largest(row.attempt)).collect();
    assert!(!below.is_empty());
    for Exact { options, attempt, rand, delay } in below {
        let ours = options.delay(attempt, rand);
        assert!(
            same(ours, delay),
            "{ours} instead of {delay}, attempt {attempt}, r = {rand}, {}",
            options.text()
        );
    }
}

#[test]
fn every_delay_lies_within_the_bounds() {
    let rows = vectors().bounds;
    assert!(!rows.is_empty());
    for Bounds { options, attempt, delay_max, symmetric_min } in rows {
        let largest = Duration::from_millis(options.max).as_secs_f64() * 1000.0;
        let smallest =
            if options.at_largest(attempt) { largest * (1.0 - options.jitter) } else { symmetric_min };
        for step in 0..1000 {
            let ours = options.delay(attempt, f64::from(step) / 1000.0);
            assert!(
                (smallest.floor()..=delay_max).contains(&ours),
                "{ours} outside {smallest}..={delay_max}, attempt {attempt}, {}",
                options.text()
            );
        }
    }
}

impl Options {
    fn at_largest(&self, attempt: u32) -> bool {
        2_u64
            .checked_pow(attempt)
            .and_then(|factor| factor.checked_mul(self.min))
            .is_none_or(|base| base >= self.max)
    }

    /// The delay in milliseconds after `attempt` others.
    fn delay(&self, attempt: u32, rand: f64) -> f64 {
        let mut backoff = Backoff::new(Settings {
            min: Duration::from_millis(self.min),
            max: Duration::from_millis(self.max),
            jitter: self.jitter,
        });
        for _ in 0..attempt {
            backoff.next(rand);
        }
        backoff.next(rand).as_secs_f64() * 1000.0
    }

    fn text(&self) -> String {
        format!("{} to {} ms, jitter {}", self.min, self.max, self.jitter)
    }
}

/// Milliseconds are whole numbers; only their way through seconds is inexact.
fn same(left: f64, right: f64) -> bool {
    (left - right).abs() < 0.001
}

fn vectors() -> Vectors {
    let folder = std::env::var_os("SIOD_VECTORS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"), PathBuf::from);
    let path = folder.join("backoff.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}
