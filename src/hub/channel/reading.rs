//! The places of consumers in a channel: where each goes on, and who is told when there is more.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, Weak};

use bytes::Bytes;

use super::{Channel, Inner, Snapshot};
use crate::hub::Consumer;
use crate::hub::log::{self, CursorId, Kind, LineView, Read, Want};
use crate::hub::subscription::Filter;

#[derive(Debug)]
pub(super) struct Reader {
    consumer: Weak<Consumer>,
    channel: usize,
    live: CursorId,
    /// Its place among those who wait for something to read.
    parked: Option<usize>,
}

/// A consumer's place in a channel.
#[derive(Debug)]
pub struct Seat {
    reader: usize,
    live: CursorId,
    outgoing: CursorId,
}

/// A replay's place in a channel.
#[derive(Debug)]
pub struct Replay {
    cursor: CursorId,
    until: u64,
}

/// From where a new subscription wants to hear.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// From now on.
    Live,
    /// The last so many that match.
    Last(u64),
    /// Everything retained after this line, the last so many of it if a number is given.
    After(u64, Option<u64>),
}

/// What a new subscription found.
#[derive(Debug)]
pub struct Joined {
    /// The state at that point.
    pub snapshot: Snapshot,
    /// Lines before this one are not live for it.
    pub head: u64,
    /// Kept lines, with their numbers, that come before all others.
    pub sticky: Vec<(u64, Bytes)>,
    /// What is to be replayed then, without those.
    pub replay: Option<Replay>,
    /// How many lines both will be.
    pub replayed: u64,
    /// How many it asked for and can no longer have.
    pub missed: u64,
}

impl Channel {
    /// A consumer begins to listen, from the next line on; `key` is what it calls this channel.
    pub fn attach(&self, consumer: Weak<Consumer>, key: usize) -> Seat {
        let mut inner = self.lock();
        let (next, next_outgoing) = (inner.log.head() + 1, inner.outgoing.head() + 1);
        let live = inner.log.attach(next);
        let reader = Reader { consumer, channel: key, live, parked: None };
        Seat { reader: inner.readers.insert(reader), live, outgoing: inner.outgoing.attach(next_outgoing) }
    }

    /// It listens no more.
    pub fn detach(&self, seat: &Seat) {
        let mut inner = self.lock();
        inner.leave(seat.reader);
        inner.log.detach(seat.live);
        inner.outgoing.detach(seat.outgoing);
        self.tell_room(inner);
    }

    /// Gives the memory back that many consumers took who listen no more.
    pub fn tidy(&self) {
        let mut inner = self.lock();
        inner.log.tidy();
        inner.outgoing.tidy();
        if log::is_sparse(inner.readers.len(), inner.readers.capacity()) {
            inner.readers.shrink_to_fit();
        }
        if log::is_sparse(inner.parked.len(), inner.parked.capacity()) {
            inner.parked.shrink_to_fit();
        }
    }

    /// A subscription begins here.
    pub fn join(&self, start: Start, sticky: bool, filter: &Filter) -> Joined {
        let mut inner = self.lock();
        let sticky = if sticky { inner.sticky.lines(|line| filter.wants(line)) } else { Vec::new() };
        let log = &mut inner.log;
        log.seal();
        let (head, oldest) = (log.head(), log.oldest());
        let is_sticky = |seq| sticky.binary_search_by_key(&seq, |(seq, _)| *seq).is_ok();
        // Of the many lines few have a name of their own, and patterns can take long.
        let verdicts = RefCell::new(HashMap::new());
        let want = |line: LineView<'_>| {
            if line.kind != Kind::Event || filter.events.is_none() {
                return filter.wants(line);
            }
            let mut verdicts = verdicts.borrow_mut();
            if let Some(verdict) = verdicts.get(line.name) {
                return *verdict;
            }
            let verdict = filter.wants(line);
            verdicts.insert(line.name.to_vec(), verdict);
            verdict
        };
        let (from, missed) = match start {
            Start::Live => (head + 1, 0),
            Start::Last(n) => (log.last(n, want), 0),
            Start::After(seq, limit) => {
                let from = seq.saturating_add(1);
                let missed = oldest.saturating_sub(from);
                let from = from.max(oldest).min(head + 1);
                (limit.map_or(from, |n| from.max(log.last(n, want))), missed)
            }
        };
        let not_yet = |line: LineView<'_>| want(line) && !is_sticky(line.seq);
        let from_ring = if from > head { 0 } else { log.count(from, not_yet) };
        let replay = (from_ring > 0).then(|| Replay { cursor: log.attach(from), until: head });
        let replayed = from_ring + sticky.len() as u64;
        Joined { snapshot: self.snapshot_of(&inner), head, sticky, replay, replayed, missed }
    }

    /// A replay's next lines, whether it is over, and whether lines were lost.
    pub fn read_replay(
        &self,
        replay: &Replay,
        want: impl Fn(LineView<'_>) -> bool,
        max_bytes: usize,
        out: &mut Vec<Bytes>,
    ) -> Read {
        let mut inner = self.lock();
        let read = inner.log.read(replay.cursor, replay.until, max_bytes, want, out);
        self.tell_room(inner);
        read
    }

    /// The replay is over or no longer wanted.
    pub fn end_replay(&self, replay: &Replay) {
        let mut inner = self.lock();
        inner.log.detach(replay.cursor);
        self.tell_room(inner);
    }

    /// Lets a Manager that waits for room look again, once those who stood in its way have moved on.
    pub(super) fn tell_room(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.full && inner.log.may_have_room() {
            inner.full = false;
            drop(inner);
            self.room_changed.notify_one();
        }
    }

    /// A consumer's next live lines, up to line `until`. At the head its inbox is told when there are more.
    pub fn read(
        &self,
        seat: &Seat,
        until: u64,
        max_bytes: usize,
        want: impl Want,
        out: &mut Vec<Bytes>,
    ) -> Read {
        let mut inner = self.lock();
        // What is gone is told in one go, also of what comes after `until`.
        let until = until.max(inner.log.first().saturating_sub(1));
        let read = inner.log.read(seat.live, until, max_bytes, want, out);
        if let Read::AtHead(_) = read
            && inner.log.position(seat.live) > inner.log.head()
        {
            inner.park(seat.reader);
        }
        self.tell_room(inner);
        read
    }

    /// A consumer's next `outgoing` lines; what it was too slow for is skipped.
    pub fn read_outgoing(
        &self,
        seat: &Seat,
        max_bytes: usize,
        want: impl Fn(LineView<'_>) -> bool,
        out: &mut Vec<Bytes>,
    ) -> Read {
        let mut inner = self.lock();
        loop {
            let read = inner.outgoing.read(seat.outgoing, u64::MAX, max_bytes, &want, out);
            if !matches!(read, Read::Missed { .. }) {
                return read;
            }
        }
    }

    /// Whether all lines that a consumer has yet to take come after `seq`.
    pub fn stands_after(&self, seat: &Seat, seq: u64) -> bool {
        self.lock().log.position(seat.live) > seq
    }

    /// How many lines a consumer has yet to take.
    pub fn behind(&self, seat: &Seat) -> u64 {
        self.lock().log.behind(seat.live)
    }

    /// A subscription with `outgoing` came or went.
    pub fn watch(&self, watches: bool) {
        if watches {
            self.watchers.fetch_add(1, Ordering::Relaxed);
        } else {
            self.watchers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The line that says how many were lost.
    pub fn lagged(&self, missed: u64, next_seq: u64) -> Vec<u8> {
        self.encoder.lagged(missed, next_seq)
    }
}

impl Inner {
    fn park(&mut self, reader: usize) {
        if let Some(entry) = self.readers.get_mut(reader)
            && entry.parked.is_none()
        {
            entry.parked = Some(self.parked.len());
            self.parked.push(reader);
        }
    }

    /// A reader is gone. Many may go at once, each from among many who wait.
    fn leave(&mut self, reader: usize) {
        let Some(place) = self.readers.try_remove(reader).and_then(|gone| gone.parked) else { return };
        self.parked.swap_remove(place);
        if let Some(moved) = self.parked.get(place).and_then(|moved| self.readers.get_mut(*moved)) {
            moved.parked = Some(place);
        }
    }

    /// Lets everybody know of what there is to read.
    pub(super) fn wake(&mut self) {
        for (consumer, channel) in self.unpark() {
            consumer.inbox().news(channel);
        }
    }

    /// Tells those who have held the ring up for too long since this was asked last.
    pub(super) fn tell_stalled(&mut self) {
        for cursor in self.log.take_newly_stalled() {
            let reader = self.readers.iter().find(|(_, reader)| reader.live == cursor);
            if let Some(consumer) = reader.and_then(|(_, reader)| reader.consumer.upgrade()) {
                consumer.inbox().stalled();
            }
        }
    }

    /// Whoever waits for something to read, and what each calls this channel.
    pub(super) fn unpark(&mut self) -> Vec<(Arc<Consumer>, usize)> {
        self.log.seal();
        self.outgoing.seal();
        let Self { parked, readers, .. } = self;
        let unparked = parked.drain(..).filter_map(|reader| {
            let reader = readers.get_mut(reader)?;
            reader.parked = None;
            Some((reader.consumer.upgrade()?, reader.channel))
        });
        unparked.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::hub::consumer::Identity;
    use crate::hub::{Lag, Rights, Role};

    proptest! {
        #[test]
        fn who_waits_is_told_once_whoever_has_left(steps in proptest::collection::vec((0..8_usize, 0..4), 0..60)) {
            let history = log::Settings { events: 10, bytes: 1024 };
            let channel = Channel::new("chat", "stream".into(), history, Duration::from_secs(1), Arc::default());
            let identity = Identity { pid: None, uid: 0, gid: 0 };
            let consumer = Arc::new(Consumer::new(1, identity, Rights::everywhere(Role::Read), Lag::Skip));
            let mut seats: Vec<Option<Seat>> = std::iter::repeat_with(|| None).take(8).collect();
            let mut waiting = [false; 8];
            for (which, step) in steps {
                match (step, &seats[which]) {
                    (0, None) => seats[which] = Some(channel.attach(Arc::downgrade(&consumer), which)),
                    (1, Some(seat)) => {
                        channel.lock().park(seat.reader);
                        waiting[which] = true;
                    }
                    (2, Some(_)) => {
                        channel.detach(&seats[which].take().unwrap());
                        waiting[which] = false;
                    }
                    (3, _) => {
                        let mut told: Vec<_> = channel.lock().unpark().into_iter().map(|(_, key)| key).collect();
                        told.sort_unstable();
                        let expected: Vec<_> = (0..8).filter(|which| waiting[*which]).collect();
                        prop_assert_eq!(told, expected);
                        waiting = [false; 8];
                    }
                    _ => {}
                }
            }
        }
    }
}
