//! What siod is to reach, as ratios in one run on the same machine, and whether it does.

use std::fmt::Write;

use crate::peers::Peer;
use crate::results::{Results, number};

/// The daemon's default of `history.bytes`, in KiB.
const RING: f64 = 8.0 * 1024.0;

/// What a value must not be above, or not below.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

struct Goal {
    work: String,
    scenario: String,
    metric: &'static str,
    /// Beside whom; none for a value of its own.
    beside: Option<Peer>,
    bound: Bound,
}

/// A goal and what came of it.
pub(crate) struct Outcome {
    pub(crate) work: String,
    pub(crate) goal: String,
    /// None when it was not measured.
    pub(crate) value: Option<f64>,
    pub(crate) met: Option<bool>,
}

const TRIP: &str = "p50 µs";
const RATE: &str = "deliveries/s";
const CPU: &str = "CPU s per million";

/// Of these, from ten programs on, the CPU time is a goal of its own.
const FLOODS: [(&str, &str); 9] = [
    ("flood/100x10", "100 B to 10"),
    ("flood/100x100", "100 B to 100"),
    ("flood/100x1000", "100 B to 1000"),
    ("flood/1024x10", "1 KiB to 10"),
    ("flood/1024x100", "1 KiB to 100"),
    ("flood/1024x1000", "1 KiB to 1000"),
    ("flood/16384x10", "16 KiB to 10"),
    ("flood/16384x100", "16 KiB to 100"),
    ("flood/16384x1000", "16 KiB to 1000"),
];

fn goals() -> Vec<Goal> {
    use Bound::{AtLeast, AtMost};
    use Peer::{Direct, Node, Relay, Tuned};
    let beside = |work: &str, scenario: &str, metric, peer, bound| Goal {
        work: work.to_owned(),
        scenario: scenario.to_owned(),
        metric,
        beside: Some(peer),
        bound,
    };
    let alone = |work: &str, scenario: &str, metric, bound| Goal {
        work: work.to_owned(),
        scenario: scenario.to_owned(),
        metric,
        beside: None,
        bound,
    };
    let mut goals = vec![
        beside("round trip 64 B, one core, p50", "trip/64/one core", TRIP, Relay, AtMost(1.15)),
        beside("round trip 64 B, one core, p50", "trip/64/one core", TRIP, Direct, AtMost(1.0)),
        beside("round trip 4 KiB, one core, p50", "trip/4096/one core", TRIP, Relay, AtMost(1.25)),
        beside("flood 100 B to 1", "flood/100x1", RATE, Relay, AtLeast(0.7)),
        beside("flood 100 B to 1", "flood/100x1", RATE, Tuned, AtLeast(12.0)),
        beside("flood 100 B to 10", "flood/100x10", RATE, Relay, AtLeast(0.8)),
        beside("flood 100 B to 10", "flood/100x10", RATE, Tuned, AtLeast(5.0)),
        beside("flood 100 B to 100", "flood/100x100", RATE, Relay, AtLeast(0.8)),
        beside("flood 100 B to 100", "flood/100x100", RATE, Tuned, AtLeast(1.3)),
        beside("flood 100 B to 1000, CPU", "flood/100x1000", CPU, Tuned, AtMost(1.0)),
        beside("flood 1 KiB to 100", "flood/1024x100", RATE, Relay, AtLeast(0.8)),
        beside("flood 16 KiB to 10", "flood/16384x10", RATE, Relay, AtLeast(0.8)),
    ];
    goals
        .extend(FLOODS.map(|(scenario, what)| {
            beside(&format!("flood {what}, CPU"), scenario, CPU, Relay, AtMost(1.3))
        }));
    let paced = "paced/1000 a second to 100";
    goals.extend([
        beside("paced, 1000 a second to 100, p50", paced, TRIP, Relay, AtMost(1.15)),
        beside("paced, 1000 a second to 100, p50", paced, TRIP, Node, AtMost(1.0)),
        beside("paced, 1000 a second to 100, CPU", paced, "CPU µs an event", Relay, AtMost(1.15)),
        beside("paced, 1000 a second to 100, CPU", paced, "CPU µs an event", Node, AtMost(1.0)),
        beside("official server, 1 program, CPU", "official/100x1", "CPU µs an event", Relay, AtMost(1.2)),
        beside("100 emitters × 16 acks in flight", "acks/100x16", "acks/s", Relay, AtLeast(0.75)),
        beside("100 emitters × 16 acks in flight", "acks/100x16", "acks/s", Tuned, AtLeast(10.0)),
        beside("ten Node programs that parse 1 KiB, CPU of all", "parse/1024x10", CPU, Direct, AtMost(0.8)),
        alone("memory with one connection, KiB", "memory/programs", "idle KiB", AtMost(8.0 * 1024.0)),
        alone("memory for an idle program, KiB", "memory/programs", "KiB a program", AtMost(6.0)),
        alone("memory for an idle connection, KiB", "memory/connections", "KiB a connection", AtMost(32.0)),
        alone("memory after 1000 programs left, to idle", "memory/programs", "left to idle", AtMost(1.25)),
        beside("start to first ack", "start/first ack", "ms", Relay, AtMost(3.0)),
        alone("start to first ack, ms", "start/first ack", "ms", AtMost(10.0)),
        alone(
            "one stalled of ten, growth, KiB",
            "stall/one of ten",
            "growth KiB",
            AtMost(RING + 8.0 * 1024.0),
        ),
        alone(
            "one stalled of ten, rate of the nine",
            "stall/one of ten",
            "rate to that without",
            AtLeast(0.9),
        ),
        alone("server back up, first event, ms", "recovery/restart", "ms to the first event", AtMost(10.0)),
    ]);
    goals
}

/// All goals. A gap or a loss is none of them: it makes a run void.
pub(crate) fn judge(results: &Results) -> Vec<Outcome> {
    goals().into_iter().map(|goal| goal.judge(results)).collect()
}

/// Goals whose scenario ran for all whom it takes, and brought no value of that name.
pub(crate) fn misnamed(results: &Results) -> Vec<String> {
    let ran = |goal: &Goal, peer: Peer| {
        let scenario = results.scenarios.iter().find(|scenario| scenario.name == goal.scenario);
        scenario.is_some_and(|scenario| scenario.peers.iter().any(|results| results.peer == peer.name()))
    };
    let misnamed = |goal: &Goal| {
        let ran = ran(goal, Peer::Siod) && goal.beside.is_none_or(|peer| ran(goal, peer));
        ran && results.median(&goal.scenario, Peer::Siod, goal.metric).is_none()
    };
    goals().into_iter().filter(misnamed).map(|goal| goal.work).collect()
}

impl Goal {
    fn judge(self, results: &Results) -> Outcome {
        let siod = results.median(&self.scenario, Peer::Siod, self.metric);
        let value = match self.beside {
            None => siod,
            Some(peer) => {
                siod.zip(results.median(&self.scenario, peer, self.metric)).map(|(siod, other)| siod / other)
            }
        };
        let beside = self.beside.map_or(String::new(), |peer| format!(" × {}", peer.title()));
        let (sign, limit) = match self.bound {
            Bound::AtMost(limit) => ('≤', limit),
            Bound::AtLeast(limit) => ('≥', limit),
        };
        let met = value.map(|value| match self.bound {
            Bound::AtMost(limit) => value <= limit,
            Bound::AtLeast(limit) => value >= limit,
        });
        Outcome { work: self.work, goal: format!("{sign} {}{beside}", number(limit)), value, met }
    }
}

impl Outcome {
    pub(crate) fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "not measured",
        }
    }

    pub(crate) fn shown(&self) -> String {
        self.value.map_or("–".to_owned(), number)
    }
}

pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut out = String::from("\ngoals\n");
    for outcome in outcomes {
        let _infallible = writeln!(
            out,
            "  {:<48} {:>10}  {:<30} {}",
            outcome.work,
            outcome.shown(),
            outcome.goal,
            outcome.verdict()
        );
    }
    let met = outcomes.iter().filter(|outcome| outcome.met == Some(true)).count();
    let judged = outcomes.iter().filter(|outcome| outcome.met.is_some()).count();
    let _infallible = writeln!(out, "  {met} of {judged} that were measured are met");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::{Depth, all};

    #[test]
    fn every_goal_is_about_something_that_is_measured() {
        let scenarios = all(Depth::Full);
        for goal in goals() {
            let scenario = scenarios.iter().find(|scenario| scenario.name == goal.scenario);
            let scenario = scenario.unwrap_or_else(|| panic!("no scenario {}", goal.scenario));
            assert!(goal.beside.is_none_or(|peer| scenario.peers.contains(&peer)), "{}", goal.work);
        }
    }
}
