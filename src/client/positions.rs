//! How far each connection has been heard, so that listening can go on there after the daemon went away; pure.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::notification::{Kind, Notification};
use super::results::{Snapshot, Subscribed};

/// Connections remembered at the most: each takes a subscription of its own to go on, and a program may have 1,024.
/// Those beyond are heard from the moment of attaching again.
const REMEMBERED: usize = 1000;

/// A place in a connection's sequence: what the API calls `after`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The numbering in which `seq` has a meaning.
    pub stream: String,
    /// The last seq heard.
    pub seq: u64,
}

impl Position {
    /// This place of this numbering.
    pub fn new(stream: impl Into<String>, seq: u64) -> Self {
        Self { stream: stream.into(), seq }
    }
}

/// One connection as far as it was heard.
#[derive(Debug)]
struct Place {
    /// Everything up to here was heard.
    position: Position,
    /// Lines up to this one are replayed.
    replay: u64,
    /// So many lines of the replay are still to come. More than will, where the daemon did not say it of this connection
    /// alone, or has lost some of them since.
    due: u64,
    /// The replay that goes on began with sticky lines, which are out of order.
    sticky: bool,
    /// Lines up to here were heard before that replay.
    before: u64,
    /// What was heard beyond `position` in such a replay.
    ahead: BTreeSet<u64>,
    /// A replay from the beginning was asked for, which will bring again whatever comes before it.
    held: bool,
    /// A subscription of its own has gone on here. What it brought may come live again, where the live lines stood
    /// further back; nothing new has a seq up to `position`.
    resumed: bool,
}

impl Place {
    fn at(position: Position) -> Self {
        Self {
            position,
            replay: 0,
            due: 0,
            sticky: false,
            before: 0,
            ahead: BTreeSet::new(),
            held: false,
            resumed: false,
        }
    }

    /// The replay is over: it had all that there is up to its end.
    fn end_replay(&mut self) {
        self.position.seq = self.position.seq.max(self.replay);
        self.due = 0;
        self.sticky = false;
        self.ahead.clear();
    }

    /// What the replay had still to bring up to this seq is gone; what it brings beyond is as it was.
    fn lose(&mut self, lost: u64) {
        self.position.seq = self.position.seq.max(lost);
        self.before = self.before.max(lost);
        self.ahead = self.ahead.split_off(&lost);
    }

    /// Everything up to this seq was heard in a replay, or since.
    fn has_brought(&self, seq: u64) -> bool {
        self.resumed && !self.sticky && seq <= self.position.seq
    }
}

/// What becomes of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is heard for the first time.
    Fresh {
        /// It was retained, rather than said now.
        replayed: bool,
    },
    /// It was heard before, or will be heard again.
    Double,
}

/// What is lost where listening goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    None,
    /// So many lines.
    Count(u64),
    /// Another numbering begins, so nobody knows.
    Unknown,
}

/// The place of each connection.
#[derive(Debug, Default)]
pub(super) struct Positions(HashMap<String, Place>);

impl Positions {
    pub(super) fn of(&self, name: &str) -> Option<&Position> {
        self.0.get(name).map(|place| &place.position)
    }

    /// All names, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(super) fn set(&mut self, name: &str, position: Position) {
        if let Some(place) = self.0.get_mut(name) {
            place.position = position;
        } else if self.0.len() < REMEMBERED {
            self.0.insert(name.to_owned(), Place::at(position));
        }
    }

    /// Takes the answer to a subscription that named no position. Gives the names that are new and of which something
    /// was said already.
    pub(super) fn started(&mut self, answer: &Subscribed, sticky: bool) -> Vec<String> {
        let mut begun = Vec::new();
        for Snapshot { name, seq, .. } in &answer.connections {
            // One that is known is being resumed by a subscription of its own.
            if self.0.contains_key(name) || self.0.len() >= REMEMBERED {
                continue;
            }
            let mut place = Place::at(Position::new(&answer.stream, *seq));
            if answer.replayed > 0 {
                (place.replay, place.sticky, place.due) = (*seq, sticky, u64::MAX);
            }
            self.0.insert(name.clone(), place);
            if *seq > 0 {
                begun.push(name.clone());
            }
        }
        begun
    }

    /// Goes back to the beginning of a connection, of which everything retained will be asked for. Until that is
    /// answered its lines are [`Verdict::Double`].
    pub(super) fn rewind(&mut self, name: &str) {
        if let Some(place) = self.0.get_mut(name) {
            place.position.seq = 0;
            place.held = true;
        }
    }

    /// Takes the answer to a subscription to `name` that went on from its position.
    pub(super) fn resumed(&mut self, name: &str, answer: &Subscribed, sticky: bool) -> Gap {
        let snapshot = answer.connections.iter().find(|snapshot| snapshot.name == name);
        let (Some(place), Some(snapshot)) = (self.0.get_mut(name), snapshot) else { return Gap::None };
        let head = snapshot.seq;
        (place.held, place.resumed) = (false, true);
        let same = place.position.stream == answer.stream;
        // A numbering that ends before what was heard is another one, whatever it is called.
        let goes_on = same && head >= place.position.seq;
        if !goes_on {
            place.ahead.clear();
        }
        (place.replay, place.sticky) =
            (if answer.replayed > 0 { head } else { 0 }, sticky && answer.replayed > 0);
        place.due = answer.replayed;
        let seq = match answer.replayed {
            0 => head,
            // The replay's own lines move it, so that losing the daemon meanwhile loses none of them.
            _ if goes_on => place.position.seq,
            _ => 0,
        };
        place.before = if goes_on { place.position.seq } else { 0 };
        place.position = Position::new(&answer.stream, seq);
        match answer.missed {
            Some(0) if goes_on => Gap::None,
            Some(missed) if goes_on => Gap::Count(missed),
            _ => Gap::Unknown,
        }
    }

    /// Takes a notification of the numbering `stream`.
    pub(super) fn heard(&mut self, notification: &Notification, stream: &str) -> Verdict {
        let fresh = Verdict::Fresh { replayed: false };
        let Some(name) = notification.connection() else { return fresh };
        match notification.kind() {
            Kind::Event | Kind::Lifecycle => {
                let Some(seq) = notification.seq() else { return fresh };
                self.line(name, stream, seq)
            }
            Kind::Lagged => {
                #[derive(Deserialize)]
                struct Lagged {
                    next_seq: u64,
                }
                let Ok(Lagged { next_seq }) = notification.read() else { return fresh };
                let lost = next_seq.saturating_sub(1);
                match self.0.get_mut(name).filter(|place| place.position.stream == stream) {
                    Some(place) if place.held || place.has_brought(lost) => return Verdict::Double,
                    // Live lines come when the replay is over, so this is of the replay itself.
                    Some(place) if place.due > 0 && lost < place.replay => place.lose(lost),
                    Some(place) => {
                        let resumed = place.resumed;
                        *place = Place { resumed, ..Place::at(Position::new(stream, lost)) };
                    }
                    None => self.move_to(name, stream, lost),
                }
                fresh
            }
            Kind::Outgoing | Kind::Goodbye | Kind::Other => fresh,
        }
    }

    fn line(&mut self, name: &str, stream: &str, seq: u64) -> Verdict {
        let Some(place) = self.0.get_mut(name).filter(|place| place.position.stream == stream) else {
            self.move_to(name, stream, seq);
            return Verdict::Fresh { replayed: false };
        };
        if place.held {
            return Verdict::Double;
        }
        let replayed = seq <= place.replay;
        let verdict = if replayed && place.sticky {
            let known = seq <= place.before || !place.ahead.insert(seq);
            if known { Verdict::Double } else { Verdict::Fresh { replayed } }
        } else if place.has_brought(seq) {
            Verdict::Double
        } else {
            place.position.seq = seq;
            Verdict::Fresh { replayed }
        };
        if replayed && place.due > 1 {
            place.due -= 1;
        } else if !replayed || place.due == 1 {
            place.end_replay();
        }
        verdict
    }

    fn move_to(&mut self, name: &str, stream: &str, seq: u64) {
        let position = Position::new(stream, seq);
        match self.0.get_mut(name) {
            Some(place) => *place = Place::at(position),
            None => self.set(name, position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "s1";

    fn answer(stream: &str, replayed: u64, missed: Option<u64>, snapshots: &[(&str, u64)]) -> Subscribed {
        let snapshots: Vec<_> = snapshots
            .iter()
            .map(|(name, seq)| format!(r#"{{"name":"{name}","state":"connected","seq":{seq}}}"#))
            .collect();
        let missed = missed.map_or("null".into(), |missed| missed.to_string());
        serde_json::from_str(&format!(
            r#"{{"subscription":1,"stream":"{stream}","connections":[{}],"replayed":{replayed},"missed":{missed}}}"#,
            snapshots.join(",")
        ))
        .unwrap()
    }

    fn at(positions: &Positions, name: &str) -> Option<(String, u64)> {
        positions.of(name).map(|position| (position.stream.clone(), position.seq))
    }

    fn started_at(seq: u64) -> Positions {
        let mut positions = Positions::default();
        positions.started(&answer(STREAM, 0, Some(0), &[("a", seq)]), false);
        positions
    }

    fn lagged(next_seq: u64) -> Notification {
        let params = format!(r#"{{"connection":"a","missed":1,"next_seq":{next_seq}}}"#);
        let line = format!(r#"{{"jsonrpc":"2.0","method":"lagged","params":{params}}}"#);
        Notification::new(line.into(), Kind::Lagged, params.into()).unwrap()
    }

    /// Which of these lines are heard.
    fn heard(positions: &mut Positions, lines: &[u64]) -> Vec<u64> {
        let fresh = |seq: &&u64| positions.line("a", STREAM, **seq) != Verdict::Double;
        lines.iter().filter(fresh).copied().collect()
    }

    #[test]
    fn starts_where_the_snapshot_stands() {
        let mut positions = Positions::default();
        assert_eq!(positions.started(&answer("s1", 0, Some(0), &[("a", 5), ("b", 0)]), false), ["a"]);
        assert_eq!(positions.names(), ["a", "b"]);
        assert_eq!(at(&positions, "a"), Some(("s1".into(), 5)));
        positions.started(&answer("s1", 0, Some(0), &[("a", 9), ("c", 2)]), false);
        assert_eq!(at(&positions, "a"), Some(("s1".into(), 5)), "a is resumed by itself");
        assert_eq!(at(&positions, "c"), Some(("s1".into(), 2)));
        positions.forget("a");
        assert_eq!(positions.names(), ["b", "c"]);
    }

    #[test]
    fn a_resumption_stands_at_the_head_or_where_its_replay_has_come_to() {
        for (stream, head, replayed, missed, expected, told) in [
            ("s1", 20, 0, Some(0), ("s1", 20), Gap::None),
            ("s1", 20, 3, Some(0), ("s1", 5), Gap::None),
            ("s1", 20, 3, Some(12), ("s1", 5), Gap::Count(12)),
            ("s2", 20, 0, None, ("s2", 20), Gap::Unknown),
            ("s2", 20, 3, None, ("s2", 0), Gap::Unknown),
            // A daemon that lost the end of its own numbering.
            ("s1", 3, 0, Some(0), ("s1", 3), Gap::Unknown),
        ] {
            let mut positions = started_at(5);
            let answer = answer(stream, replayed, missed, &[("a", head)]);
            assert_eq!(positions.resumed("a", &answer, false), told, "{stream} {head} {replayed}");
            assert_eq!(
                at(&positions, "a"),
                Some((expected.0.into(), expected.1)),
                "{stream} {head} {replayed}"
            );
        }
    }

    #[test]
    fn what_is_replayed_is_told_from_what_is_said_now() {
        let mut positions = started_at(5);
        positions.resumed("a", &answer(STREAM, 2, Some(0), &[("a", 8)]), false);
        for (seq, replayed) in [(6, true), (8, true), (9, false)] {
            assert_eq!(positions.line("a", STREAM, seq), Verdict::Fresh { replayed }, "{seq}");
            assert_eq!(at(&positions, "a"), Some((STREAM.into(), seq)));
        }
    }

    #[test]
    fn sticky_lines_come_once_and_leave_no_hole() {
        let mut positions = Positions::default();
        positions.started(&answer(STREAM, 2, Some(0), &[("a", 5)]), true);
        assert_eq!(heard(&mut positions, &[1, 4, 6, 7]), [1, 4, 6, 7]);

        // 3 and 7 are old, 10 is kept beside the ring and so comes before 8; the daemon is lost behind that.
        positions.resumed("a", &answer(STREAM, 6, Some(0), &[("a", 12)]), true);
        assert_eq!(heard(&mut positions, &[3, 7, 10, 8]), [10, 8]);
        assert_eq!(at(&positions, "a"), Some((STREAM.into(), 7)), "9 has not been heard");
        positions.resumed("a", &answer(STREAM, 8, Some(0), &[("a", 13)]), true);
        assert_eq!(heard(&mut positions, &[3, 7, 10, 8, 9, 11, 12, 13, 14]), [9, 11, 12, 13, 14]);
        assert_eq!(at(&positions, "a"), Some((STREAM.into(), 14)));
    }

    #[test]
    fn a_connection_met_on_the_way_is_heard_from_its_beginning() {
        let mut positions = started_at(4);
        positions.rewind("a");
        assert!(heard(&mut positions, &[5, 6]).is_empty(), "these come again");
        positions.resumed("a", &answer(STREAM, 6, Some(0), &[("a", 6)]), false);
        assert_eq!(heard(&mut positions, &[1, 2, 3, 4, 5, 6, 7]), [1, 2, 3, 4, 5, 6, 7]);
    }

    /// The live lines stand where the first subscription found the connection, and may still have to bring what the
    /// replay has brought since.
    #[test]
    fn what_a_replay_has_brought_is_not_heard_live_again() {
        let mut positions = started_at(4);
        positions.rewind("a");
        positions.resumed("a", &answer(STREAM, 7, Some(0), &[("a", 7)]), false);
        assert_eq!(heard(&mut positions, &[1, 2, 3, 4, 5, 6, 7]), [1, 2, 3, 4, 5, 6, 7]);
        assert!(heard(&mut positions, &[5, 6]).is_empty());
        assert_eq!(at(&positions, "a"), Some((STREAM.into(), 7)));
        assert_eq!(heard(&mut positions, &[7, 8, 9]), [8, 9]);
    }

    #[test]
    fn a_gap_in_what_was_heard_is_none_and_one_beyond_it_brings_nothing_twice() {
        let mut positions = started_at(4);
        positions.rewind("a");
        positions.resumed("a", &answer(STREAM, 7, Some(0), &[("a", 9)]), false);
        assert_eq!(heard(&mut positions, &[1, 2]), [1, 2]);
        // The ring moved on while the replay was read, and then again before the live lines were.
        assert_ne!(positions.heard(&lagged(5), STREAM), Verdict::Double);
        assert_eq!(heard(&mut positions, &[5, 6, 7, 8, 9]), [5, 6, 7, 8, 9]);
        assert_eq!(positions.heard(&lagged(7), STREAM), Verdict::Double);
        assert_eq!(at(&positions, "a"), Some((STREAM.into(), 9)));
        assert_eq!(heard(&mut positions, &[7, 8, 9, 10]), [10]);
        assert_ne!(positions.heard(&lagged(13), STREAM), Verdict::Double);
        assert_eq!(at(&positions, "a"), Some((STREAM.into(), 12)));
    }

    #[test]
    fn a_gap_behind_a_replay_with_sticky_lines_brings_nothing_twice() {
        let mut positions = started_at(4);
        positions.rewind("a");
        // 3 and 8 are kept; of the ring 5 and 7 match.
        positions.resumed("a", &answer(STREAM, 4, Some(0), &[("a", 9)]), true);
        assert_eq!(heard(&mut positions, &[3, 8, 5, 7]), [3, 8, 5, 7]);
        assert_eq!(at(&positions, "a"), Some((STREAM.into(), 9)), "that was all");
        // The live lines stood at 5, and the ring moved on.
        assert_eq!(positions.heard(&lagged(7), STREAM), Verdict::Double);
        assert_eq!(heard(&mut positions, &[7, 8, 10]), [10]);
    }

    #[test]
    fn a_gap_within_a_replay_with_sticky_lines_brings_nothing_twice() {
        let mut positions = started_at(4);
        positions.resumed("a", &answer(STREAM, 6, Some(0), &[("a", 12)]), true);
        assert_eq!(heard(&mut positions, &[3, 10, 5]), [10, 5]);
        assert_ne!(positions.heard(&lagged(9), STREAM), Verdict::Double);
        assert_eq!(at(&positions, "a"), Some((STREAM.into(), 8)));
        assert_eq!(heard(&mut positions, &[9, 11]), [9, 11]);
        assert_eq!(heard(&mut positions, &[10, 13]), [13]);
        assert_eq!(at(&positions, "a"), Some((STREAM.into(), 13)));
    }

    #[test]
    fn remembers_only_so_many() {
        let mut positions = Positions::default();
        for number in 0..=REMEMBERED {
            positions.started(&answer("s1", 0, Some(0), &[(&format!("c{number}"), 1)]), false);
        }
        assert_eq!(positions.names().len(), REMEMBERED);
        positions.set("c0", Position::new("s1", 7));
        assert_eq!(at(&positions, "c0"), Some(("s1".into(), 7)));
    }
}
