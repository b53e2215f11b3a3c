//! Acks: the answers this side waits for, and those it owes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use super::TooLarge;

/// Answers owed to the server at the most; beyond it the oldest question can no longer be answered. The official
/// client keeps them all, which a daemon cannot.
pub const MAX_OWED: usize = 65_536;

/// Why an ack did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckError {
    /// Not in time.
    Timeout,
    /// The connection was lost, or closed, before.
    Disconnected,
    /// Its event waited for the connection, and this server does not take one so large.
    TooLarge(TooLarge),
}

/// Pending answers of the server, each with whoever waits for it. The ids count from 0 and are never used twice,
/// over reconnections too.
#[derive(Debug)]
pub struct Pending<T> {
    next_id: u64,
    waiting: HashMap<u64, (T, Option<Instant>), BuildHasherDefault<Count>>,
    deadlines: BTreeSet<(Instant, u64)>,
}

/// The hash of numbers that count up, and that nobody else chooses: they are spread as they are.
#[derive(Debug, Default)]
struct Count(u64);

impl Hasher for Count {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        // Odd, so that neighbours keep places of their own, and large, for a part of the highest bits is looked at first.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { next_id: 0, waiting: HashMap::default(), deadlines: BTreeSet::new() }
    }
}

impl<T> Pending<T> {
    /// How many are waited for.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The id that [`Pending::insert`] will give next.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// An id for what is waited for elsewhere.
    pub fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Waits for an answer, until `deadline` if there is one; gives the id to send.
    pub fn insert(&mut self, ticket: T, deadline: Option<Instant>) -> u64 {
        let id = self.take_id();
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        self.waiting.insert(id, (ticket, deadline));
        id
    }

    /// The answer to `id` came, or nobody waits any longer: who waited. None for ids unknown or answered.
    pub fn remove(&mut self, id: u64) -> Option<T> {
        let (ticket, deadline) = self.waiting.remove(&id)?;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(ticket)
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The next one whose deadline has come, with its id.
    pub fn pop_expired(&mut self, now: Instant) -> Option<(u64, T)> {
        let (deadline, id) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.remove(id).map(|ticket| (id, ticket))
    }

    /// Forgets those whose ticket is void, save where their deadline may yet have to take back the event with this id.
    pub fn forget(&mut self, is_void: impl Fn(&T) -> bool, may_come_back: impl Fn(u64) -> bool) {
        let deadlines = &mut self.deadlines;
        self.waiting.retain(|id, (ticket, deadline)| match deadline {
            _ if !is_void(ticket) => true,
            Some(_) if may_come_back(*id) => true,
            Some(deadline) => !deadlines.remove(&(*deadline, *id)),
            None => false,
        });
    }

    /// Removes all whose id `keep` does not want, in the order of their ids.
    pub fn drain_except(&mut self, keep: impl Fn(u64) -> bool) -> Vec<T> {
        let mut gone: Vec<u64> = self.waiting.keys().copied().filter(|id| !keep(*id)).collect();
        gone.sort_unstable();
        gone.into_iter().filter_map(|id| self.remove(id)).collect()
    }
}

/// Questions of the server that may still be answered, under numbers of our own.
#[derive(Debug)]
pub struct Owed {
    next: u64,
    wire_ids: BTreeMap<u64, u64>,
}

impl Owed {
    /// Numbers start at `first`.
    pub fn new(first: u64) -> Self {
        Self { next: first, wire_ids: BTreeMap::new() }
    }

    /// The server asked under `wire_id`; gives our number for it.
    pub fn ask(&mut self, wire_id: u64) -> u64 {
        if self.wire_ids.len() == MAX_OWED {
            self.wire_ids.pop_first();
        }
        let number = self.next;
        self.next += 1;
        self.wire_ids.insert(number, wire_id);
        number
    }

    /// The wire id under which to answer `number`, while it may be answered.
    pub fn wire_id(&self, number: u64) -> Option<u64> {
        self.wire_ids.get(&number).copied()
    }

    /// `number` was answered and cannot be again.
    pub fn answered(&mut self, number: u64) {
        self.wire_ids.remove(&number);
    }

    /// The session is gone and its questions with it.
    pub fn forget(&mut self) {
        self.wire_ids.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_count_from_0_and_never_come_again() {
        let mut pending = Pending::default();
        assert_eq!([pending.insert("a", None), pending.insert("b", None)], [0, 1]);
        assert_eq!(pending.remove(1), Some("b"));
        assert_eq!(pending.remove(1), None);
        assert_eq!(pending.drain_except(|_| false), ["a"]);
        assert!(pending.is_empty());
        assert_eq!(pending.insert("c", None), 2);
    }

    #[test]
    fn deadlines_come_in_their_order_and_go_with_the_answer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pending = Pending::default();
        for (ticket, deadline) in
            [("late", Some(9)), ("never", None), ("soon", Some(3)), ("too", Some(3)), ("answered", Some(1))]
        {
            pending.insert(ticket, deadline.map(at));
        }
        pending.remove(4);
        assert_eq!(pending.next_deadline(), Some(at(3)));
        assert_eq!(pending.pop_expired(at(2)), None);
        assert_eq!(pending.pop_expired(at(3)), Some((2, "soon")));
        assert_eq!(pending.pop_expired(at(3)), Some((3, "too")));
        assert_eq!(pending.pop_expired(at(8)), None);
        assert_eq!(pending.pop_expired(at(100)), Some((0, "late")));
        assert_eq!((pending.next_deadline(), pending.len()), (None, 1));
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten_unless_it_may_be_taken_back() {
        let start = Instant::now();
        let mut pending = Pending::default();
        for (ticket, deadline) in [(0, None), (1, Some(start)), (2, None), (3, Some(start)), (4, Some(start))]
        {
            pending.insert(ticket, deadline);
        }
        pending.forget(|ticket| *ticket != 4, |id| id <= 1);
        assert_eq!([0, 2, 3].map(|id| pending.remove(id)), [None; 3]);
        let left: Vec<_> = std::iter::from_fn(|| pending.pop_expired(start)).collect();
        assert_eq!(left, [(1, 1), (4, 4)]);
        assert!(pending.is_empty() && pending.next_deadline().is_none());
    }

    #[test]
    fn draining_keeps_what_is_wanted_with_its_deadline() {
        let start = Instant::now();
        let mut pending = Pending::default();
        for ticket in 0..6 {
            pending.insert(ticket, Some(start));
        }
        assert_eq!(pending.drain_except(|id| id % 3 == 1), [0, 2, 3, 5]);
        let left: Vec<_> = std::iter::from_fn(|| pending.pop_expired(start)).collect();
        assert_eq!(left, [(1, 1), (4, 4)]);
    }

    #[test]
    fn a_question_is_answered_once_under_the_servers_id() {
        let mut owed = Owed::new(10);
        assert_eq!([owed.ask(0), owed.ask(7), owed.ask(0)], [10, 11, 12]);
        for (number, wire_id) in [(11, Some(7)), (11, None), (9, None), (13, None), (12, Some(0))] {
            assert_eq!(owed.wire_id(number), wire_id, "{number}");
            owed.answered(number);
        }
        owed.forget();
        assert_eq!(owed.wire_id(10), None);
        assert_eq!(owed.ask(0), 13, "numbers go on");
    }

    #[test]
    fn beyond_the_limit_the_oldest_question_is_given_up() {
        let mut owed = Owed::new(0);
        for wire_id in 0..=MAX_OWED as u64 {
            owed.ask(wire_id);
        }
        assert_eq!(owed.wire_ids.len(), MAX_OWED);
        assert_eq!(owed.wire_id(0), None);
        assert_eq!(owed.wire_id(1), Some(1));
        assert_eq!(owed.wire_id(MAX_OWED as u64), Some(MAX_OWED as u64));
    }
}
