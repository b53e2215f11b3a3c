//! Random histories against a model that forgets nothing.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An event, if there is room for it.
    Event {
        name: u8,
        padding: usize,
    },
    /// A lifecycle event, which does not wait.
    Lifecycle {
        name: u8,
        padding: usize,
    },
    /// The clock goes on by so many milliseconds.
    Pass(u64),
    /// A cursor so many lines behind the head, as far as they are retained.
    Attach(u64),
    Detach(prop::sample::Index),
    Read {
        which: prop::sample::Index,
        max_bytes: usize,
        ahead: u64,
        names: u8,
    },
    Count {
        behind: u64,
        n: u8,
        names: u8,
    },
    Seal,
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let padding = prop_oneof![8 => 0..40_usize, 1 => 0..6000_usize];
    prop_oneof![
        8 => (0..3_u8, padding.clone()).prop_map(|(name, padding)| Step::Event { name, padding }),
        1 => (0..3_u8, padding).prop_map(|(name, padding)| Step::Lifecycle { name, padding }),
        2 => (0..600_u64).prop_map(Step::Pass),
        1 => (0..30_u64).prop_map(Step::Attach),
        1 => any::<prop::sample::Index>().prop_map(Step::Detach),
        6 => (any::<prop::sample::Index>(), 1..400_usize, 0..20_u64, 0..8_u8).prop_map(
            |(which, max_bytes, ahead, names)| Step::Read { which, max_bytes, ahead, names }
        ),
        1 => (0..40_u64, 0..10_u8, 0..8_u8).prop_map(|(behind, n, names)| Step::Count { behind, n, names }),
        2 => Just(Step::Seal),
        1 => Just(Step::Forget),
    ]
}

proptest! {
    #[test]
    fn every_history_reads_like_the_model(
        events in 1..40_usize,
        bytes in 0..3000_usize,
        lossy in any::<bool>(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let settings = Settings { events, bytes };
        let log = if lossy { Log::lossy(settings) } else { Log::new(settings, STALL) };
        let mut model = Model::new(log);
        for step in steps {
            model.take(step);
            model.check();
        }
    }

    #[test]
    fn the_healthy_miss_nothing_while_events_wait_for_room(
        events in 1..40_usize,
        bytes in 0..3000_usize,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut model = Model::new(ring(events, bytes));
        for step in steps {
            if matches!(step, Step::Lifecycle { .. }) {
                continue;
            }
            model.take(step);
            model.check();
            prop_assert_eq!(model.healthy_missed, 0);
            prop_assert!(model.log.count_retained() <= events.max(1) || model.forgotten);
            prop_assert!(model.log.retained_bytes() <= bytes as u64 + model.largest || model.forgotten);
        }
    }
}

/// Every line there ever was, and where each cursor stands in it.
struct Model {
    log: Log,
    now: Instant,
    /// Line `seq` is at `seq - 1`: its text and its name's number.
    lines: Vec<(String, u8)>,
    largest: u64,
    cursors: Vec<(CursorId, u64)>,
    stalled: Vec<CursorId>,
    forgotten: bool,
    healthy_missed: u64,
}

impl Model {
    fn new(log: Log) -> Self {
        Self {
            log,
            now: Instant::now(),
            lines: Vec::new(),
            largest: 0,
            cursors: Vec::new(),
            stalled: Vec::new(),
            forgotten: false,
            healthy_missed: 0,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Event { name, padding } => {
                let room = self.log.room(self.now);
                self.stalled.extend(self.log.take_newly_stalled());
                match room {
                    None => self.append(Kind::Event, name, padding),
                    Some(until) => {
                        assert!(until > self.now && until <= self.now + STALL);
                        assert!(self.cursors.iter().any(|(id, _)| !self.stalled.contains(id)));
                    }
                }
            }
            Step::Lifecycle { name, padding } => self.append(Kind::Lifecycle, name, padding),
            Step::Pass(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Step::Attach(behind) => {
                let next = (self.log.head() + 1).saturating_sub(behind).max(self.log.oldest());
                self.cursors.push((self.log.attach(next), next));
            }
            Step::Detach(which) if !self.cursors.is_empty() => {
                let (id, _) = self.cursors.swap_remove(which.index(self.cursors.len()));
                self.stalled.retain(|stalled| *stalled != id);
                self.log.detach(id);
            }
            Step::Read { which, max_bytes, ahead, names } if !self.cursors.is_empty() => {
                self.read(which.index(self.cursors.len()), max_bytes, ahead, names);
            }
            Step::Count { behind, n, names } => {
                let start = (self.log.head() + 1).saturating_sub(behind);
                let retained = self.log.oldest().max(start)..=self.log.head();
                let wanted: Vec<u64> = retained.filter(|seq| self.wants(*seq, names)).collect();
                assert_eq!(self.log.count(start, |line| named(line, names)), wanted.len() as u64);
                let all = self.log.oldest()..=self.log.head();
                let last = all.rev().filter(|seq| self.wants(*seq, names)).take(n.into()).last();
                assert_eq!(self.log.last(n.into(), |line| named(line, names)), last.unwrap_or(self.log.next));
            }
            Step::Seal => self.log.seal(),
            Step::Forget => {
                self.forgotten = true;
                self.log.forget();
                assert_eq!(self.log.oldest(), self.log.head() + 1);
            }
            Step::Detach(_) | Step::Read { .. } => {}
        }
    }

    fn append(&mut self, kind: Kind, name: u8, padding: usize) {
        let line = put(&mut self.log, kind, &name.to_string(), padding);
        self.largest = self.largest.max(line.len() as u64);
        self.lines.push((line, name));
        assert_eq!(self.log.head(), self.lines.len() as u64, "no number is left out");
    }

    fn read(&mut self, at: usize, max_bytes: usize, ahead: u64, names: u8) {
        let (id, next) = self.cursors[at];
        assert_eq!(self.log.position(id), next);
        let first = self.log.first;
        let until = next + ahead;
        let mut out = Vec::new();
        let read = self.log.read(id, until, max_bytes, |line: LineView<'_>| named(line, names), &mut out);
        for slice in &out {
            assert_eq!(slice.last(), Some(&b'\n'), "whole lines");
        }
        let text: String = out.iter().map(|slice| std::str::from_utf8(slice).unwrap()).collect();
        let wanted = first.min(until + 1);
        if next < wanted {
            assert_eq!(read, Read::Missed { count: wanted - next, next: first });
            assert_eq!(text, "");
            if !self.stalled.contains(&id) {
                self.healthy_missed += wanted - next;
            }
            self.stands(at, wanted);
            return;
        }
        let (mut seq, mut expected, mut taken) = (next, String::new(), 0);
        let last = until.min(self.lines.len() as u64);
        while seq <= last && expected.len() < max_bytes {
            if self.wants(seq, names) {
                expected.push_str(&self.lines[place(seq)].0);
                taken += 1;
            }
            seq += 1;
        }
        assert_eq!(text, expected);
        assert_eq!(read, if seq > last { Read::AtHead(taken) } else { Read::Lines(taken) });
        self.stands(at, seq);
    }

    /// The cursor has moved on, and where that is the end it has caught up.
    fn stands(&mut self, at: usize, next: u64) {
        let id = self.cursors[at].0;
        self.cursors[at].1 = next;
        if next > self.lines.len() as u64 {
            self.stalled.retain(|stalled| *stalled != id);
        }
    }

    fn wants(&self, seq: u64, names: u8) -> bool {
        names & 1 << self.lines[place(seq)].1 != 0
    }

    fn size(&self, first: u64) -> u64 {
        self.lines[place(first)..].iter().map(|(line, _)| line.len() as u64).sum()
    }

    /// What holds whatever happened.
    fn check(&self) {
        let Log { settings, first, next, visible, lossy, .. } = &self.log;
        let (events, bytes) = (settings.events as u64, settings.bytes as u64);
        assert_eq!(self.log.retained_bytes(), self.size(*first));

        let was_needless =
            |first: u64| first >= *visible && next - first <= events && self.size(first) <= bytes;
        assert!(*first == 1 || !was_needless(first - 1), "line {} was dropped without need", first - 1);

        let held =
            !lossy && self.cursors.iter().any(|(id, next)| next <= first && !self.stalled.contains(id));
        let small = next - first <= events && self.size(*first) <= bytes;
        assert!(held || small || next - first == 1, "{} lines are kept for nobody", next - first);
        assert!(next - first <= events + events / 16 + RESERVE as u64);
        assert!(self.size(*first) <= 2 * bytes + 2 * self.largest);
    }
}

/// Where a line lies in [`Model::lines`].
fn place(seq: u64) -> usize {
    usize::try_from(seq - 1).unwrap()
}

fn named(line: LineView<'_>, names: u8) -> bool {
    let name = std::str::from_utf8(line.name).unwrap().trim_matches('"');
    names & 1 << name.parse::<u8>().unwrap() != 0
}
