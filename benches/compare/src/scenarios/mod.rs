//! What is measured: each file one kind of work, each scenario one size of it.

mod acks;
mod flood;
mod memory;
mod official;
mod paced;
mod parse;
mod recovery;
mod stall;
mod start;
mod trip;

use std::time::Duration;

use anyhow::Result;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::peers::{Peer, Programs};

/// How much is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// As in docs/performance.md.
    Full,
    /// What the goals are about, shorter.
    Quick,
    /// Everything once, as little as shows that it works.
    Smoke,
}

impl Depth {
    /// About how long one run takes.
    pub(crate) fn time(self) -> Duration {
        Duration::from_millis(match self {
            Self::Full => 1000,
            Self::Quick => 300,
            Self::Smoke => 20,
        })
    }

    /// `api.stall` of the daemon: its default, save where nobody may be overrun because a machine is busy with tests.
    pub(crate) fn stall(self) -> Duration {
        self.choose(Duration::from_secs(1), Duration::from_secs(1), Duration::from_secs(5))
    }

    /// One of three, in the order of the depths.
    pub(crate) fn choose<T>(self, full: T, quick: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Smoke => smoke,
        }
    }
}

/// What scenarios run with.
pub(crate) struct Rig {
    pub(crate) programs: Programs,
    pub(crate) depth: Depth,
}

/// A value and what it is of.
pub(crate) type Measured = Vec<(&'static str, f64)>;

/// The work of one run.
type Work = Box<dyn Fn(&Rig, Peer) -> Result<Measured>>;

/// Something to measure.
pub(crate) struct Scenario {
    /// Its kind, then its sizes: `flood/100x10`.
    pub(crate) name: String,
    pub(crate) peers: Vec<Peer>,
    work: Work,
}

impl Scenario {
    fn new(
        name: impl Into<String>,
        peers: &[Peer],
        work: impl Fn(&Rig, Peer) -> Result<Measured> + 'static,
    ) -> Self {
        Self { name: name.into(), peers: peers.to_vec(), work: Box::new(work) }
    }

    /// One run.
    pub(crate) fn run(&self, rig: &Rig, peer: Peer) -> Result<Measured> {
        (self.work)(rig, peer)
    }
}

/// All of them, in the order in which they run.
pub(crate) fn all(depth: Depth) -> Vec<Scenario> {
    [
        trip::scenarios(),
        flood::scenarios(depth),
        paced::scenarios(depth),
        official::scenarios(),
        acks::scenarios(depth),
        parse::scenarios(),
        memory::scenarios(depth),
        start::scenarios(),
        stall::scenarios(),
        recovery::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// While it lives, this thread and all that it starts run on one core.
pub(crate) struct OneCore {
    before: CpuSet,
}

impl OneCore {
    pub(crate) fn hold() -> Result<Self> {
        let before = sched_getaffinity(Pid::from_raw(0))?;
        let mut one = CpuSet::new();
        // The first core is where interrupts tend to be.
        let last = (0..CpuSet::count()).rev().find(|core| before.is_set(*core).unwrap_or(false));
        one.set(last.unwrap_or_default())?;
        sched_setaffinity(Pid::from_raw(0), &one)?;
        Ok(Self { before })
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        // Cannot fail: it was allowed before.
        let _kept = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

/// The value that so large a part of all is not above; `sorted` is not empty.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the slice")]
    let index = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len()) - 1;
    sorted[index]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// How many to do in `time`, when `count` took `taken`.
fn count_for(time: Duration, count: u64, taken: Duration) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count that is far from the limits"
    )]
    let scaled = (count as f64 * time.as_secs_f64() / taken.as_secs_f64().max(1e-9)) as u64;
    scaled.max(1)
}
