//! How far each connection has been heard, so that listening can go on there after the daemon went away; pure.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::client::{Kind, Notification};

/// Connections remembered at the most. Those beyond are heard from the moment of attaching again.
const REMEMBERED: usize = 4096;

/// A place in a connection's sequence: what the API calls `after`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Position {
    /// The run of the daemon in which `seq` has a meaning.
    pub(super) stream: String,
    /// The last seq heard.
    pub(super) seq: u64,
}

/// What `subscribe` is answered, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Subscribed {
    pub(super) stream: String,
    pub(super) connections: Vec<Snapshot>,
    pub(super) replayed: u64,
    /// Absent where the position belonged to another run.
    pub(super) missed: Option<u64>,
}

/// A connection's snapshot, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Snapshot {
    pub(super) name: String,
    pub(super) seq: u64,
}

/// The last heard position of each connection.
#[derive(Debug, Default)]
pub(super) struct Positions(HashMap<String, Position>);

impl Positions {
    pub(super) fn of(&self, name: &str) -> Option<&Position> {
        self.0.get(name)
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
        if self.0.len() < REMEMBERED || self.0.contains_key(name) {
            self.0.insert(name.to_owned(), position);
        }
    }

    /// Takes the answer to a subscription that named no position.
    pub(super) fn started(&mut self, answer: Subscribed) {
        for Snapshot { name, seq } in answer.connections {
            // One that is known is being resumed by a subscription of its own.
            if !self.0.contains_key(&name) {
                self.set(&name, Position { stream: answer.stream.clone(), seq });
            }
        }
    }

    /// Takes the answer to a subscription that went on from a position.
    pub(super) fn resumed(&mut self, answer: Subscribed) {
        for Snapshot { name, seq } in answer.connections {
            let same_run = self.of(&name).is_some_and(|position| position.stream == answer.stream);
            let seq = match (answer.replayed, same_run) {
                (0, _) => seq,
                // The replay's own lines move it, so that losing the daemon meanwhile loses none of them.
                (_, true) => continue,
                (_, false) => 0,
            };
            self.set(&name, Position { stream: answer.stream.clone(), seq });
        }
    }

    /// Takes a notification that was printed, in the run `stream`.
    pub(super) fn heard(&mut self, notification: &Notification, stream: &str) {
        #[derive(Deserialize)]
        struct Lagged {
            next_seq: u64,
        }
        let seq = match notification.kind() {
            Kind::Event | Kind::Lifecycle => notification.seq(),
            Kind::Lagged => {
                notification.read().ok().and_then(|Lagged { next_seq }: Lagged| next_seq.checked_sub(1))
            }
            Kind::Outgoing | Kind::Goodbye | Kind::Other => None,
        };
        let (Some(name), Some(seq)) = (notification.connection(), seq) else {
            return;
        };
        match self.0.get_mut(name) {
            Some(position) if position.stream == stream => position.seq = seq,
            _ => self.set(name, Position { stream: stream.to_owned(), seq }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(stream: &str, replayed: u64, snapshots: &[(&str, u64)]) -> Subscribed {
        let connections = snapshots.iter().map(|&(name, seq)| Snapshot { name: name.into(), seq }).collect();
        Subscribed { stream: stream.into(), connections, replayed, missed: Some(0) }
    }

    fn at(positions: &Positions, name: &str) -> Option<(String, u64)> {
        positions.of(name).map(|position| (position.stream.clone(), position.seq))
    }

    #[test]
    fn starts_where_the_snapshot_stands() {
        let mut positions = Positions::default();
        positions.started(answer("s1", 0, &[("a", 5), ("b", 0)]));
        assert_eq!(positions.names(), ["a", "b"]);
        assert_eq!(at(&positions, "a"), Some(("s1".into(), 5)));
        positions.started(answer("s1", 0, &[("a", 9), ("c", 2)]));
        assert_eq!(at(&positions, "a"), Some(("s1".into(), 5)), "a is resumed by itself");
        assert_eq!(at(&positions, "c"), Some(("s1".into(), 2)));
        positions.forget("a");
        assert_eq!(positions.names(), ["b", "c"]);
    }

    #[test]
    fn a_resumption_stands_at_the_head_or_where_its_replay_has_come_to() {
        for (stream, replayed, expected) in
            [("s1", 0, ("s1", 20)), ("s1", 3, ("s1", 5)), ("s2", 0, ("s2", 20)), ("s2", 3, ("s2", 0))]
        {
            let mut positions = Positions::default();
            positions.started(answer("s1", 0, &[("a", 5)]));
            positions.resumed(answer(stream, replayed, &[("a", 20)]));
            assert_eq!(at(&positions, "a"), Some((expected.0.into(), expected.1)), "{stream} {replayed}");
        }
    }

    #[test]
    fn remembers_only_so_many() {
        let mut positions = Positions::default();
        for number in 0..=REMEMBERED {
            positions.started(answer("s1", 0, &[(&format!("c{number}"), 1)]));
        }
        assert_eq!(positions.names().len(), REMEMBERED);
        positions.set("c0", Position { stream: "s1".into(), seq: 7 });
        assert_eq!(at(&positions, "c0"), Some(("s1".into(), 7)));
    }
}
