//! What was measured, as it is kept and as it is shown.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::packages;
use crate::peers::Peer;
use crate::scenarios::{Measured, Rig};

/// All of one call of the program.
#[derive(Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) date: String,
    pub(crate) command: String,
    /// What was measured: the commit.
    pub(crate) siod: String,
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) scenarios: Vec<ScenarioResults>,
    /// Runs that lost something, and do not count.
    pub(crate) void: Vec<Void>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    /// Before anything was started: 1, 5 and 15 minutes.
    pub(crate) load: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ScenarioResults {
    pub(crate) name: String,
    pub(crate) peers: Vec<PeerResults>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct PeerResults {
    pub(crate) peer: String,
    pub(crate) metrics: Vec<Metric>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Metric {
    pub(crate) name: String,
    /// One of each round.
    pub(crate) values: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Void {
    pub(crate) scenario: String,
    pub(crate) peer: String,
    pub(crate) round: usize,
    pub(crate) why: String,
}

impl Metric {
    pub(crate) fn median(&self) -> f64 {
        median(&self.values)
    }
}

/// The middle one, or what is between both.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

impl Results {
    pub(crate) fn new(rig: &Rig, rounds: usize) -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            command: format!("just compare {}", arguments.join(" ")).trim_end().to_owned(),
            siod: version(rig),
            machine: Machine::this(),
            rounds,
            scenarios: Vec::new(),
            void: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, scenario: &str, peer: Peer, round: usize, outcome: Result<Measured>) {
        let measured = match outcome {
            Ok(measured) => measured,
            Err(error) => {
                let why = format!("{error:#}");
                eprintln!("\nVOID: {scenario} · {peer} · round {round}: {why}");
                let (scenario, peer) = (scenario.to_owned(), peer.to_string());
                return self.void.push(Void { scenario, peer, round, why });
            }
        };
        let results = find_or_add(
            &mut self.scenarios,
            |results| results.name == scenario,
            || ScenarioResults { name: scenario.to_owned(), peers: Vec::new() },
        );
        let results = find_or_add(
            &mut results.peers,
            |results| results.peer == peer.name(),
            || PeerResults { peer: peer.to_string(), metrics: Vec::new() },
        );
        for (name, value) in measured {
            let metric = find_or_add(
                &mut results.metrics,
                |metric| metric.name == name,
                || Metric { name: name.to_owned(), values: Vec::new() },
            );
            metric.values.push(value);
        }
    }

    /// The median of a metric, if it was measured.
    pub(crate) fn median(&self, scenario: &str, peer: Peer, metric: &str) -> Option<f64> {
        let scenario = self.scenarios.iter().find(|results| results.name == scenario)?;
        let peer = scenario.peers.iter().find(|results| results.peer == peer.name())?;
        peer.metrics.iter().find(|results| results.name == metric).map(Metric::median)
    }

    /// The medians of one scenario, with how often siod has the relay's in brackets.
    pub(crate) fn table_of(&self, scenario: &str) -> String {
        let Some(results) = self.scenarios.iter().find(|results| results.name == scenario) else {
            return format!("{scenario}\n  nothing that counts\n");
        };
        let mut out = format!("{scenario}\n");
        for peer in &results.peers {
            let _infallible = write!(out, "  {:<8}", peer.peer);
            for metric in &peer.metrics {
                let value = metric.median();
                let relay = self.median(scenario, Peer::Relay, &metric.name);
                let ratio = relay.filter(|_| peer.peer != Peer::Relay.name());
                let ratio = ratio.map_or(String::new(), |relay| format!(" ({:.2})", value / relay));
                let cell = format!("{}{ratio}", number(value));
                let _infallible = write!(out, "  {cell:>18} {:<18}", metric.name);
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        out
    }
}

/// Three digits that mean something, with thousands set apart.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let decimals = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), ""), |(whole, fraction)| (whole, fraction));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn find_or_add<T>(list: &mut Vec<T>, is: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &mut T {
    let index = list.iter().position(is).unwrap_or_else(|| {
        list.push(make());
        list.len() - 1
    });
    &mut list[index]
}

fn version(rig: &Rig) -> String {
    let said = |command: &mut Command| {
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let version =
        said(Command::new(&rig.programs.siod).arg("--version")).unwrap_or_else(|| "siod".to_owned());
    let git = ["describe", "--always", "--dirty"];
    match said(Command::new("git").args(git).current_dir(packages::repository())) {
        Some(commit) => format!("{version}, {commit}"),
        None => version,
    }
}

impl Machine {
    fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let member = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_owned()
        };
        Self {
            processor: member(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory: member(&read("/proc/meminfo"), "MemTotal"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        for (value, text) in [
            (1_234_567.0, "1 234 567"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.0123, "0.012"),
            (-1234.0, "-1 234"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(f64::NAN), "–");
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
