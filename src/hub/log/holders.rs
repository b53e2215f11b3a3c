//! Cursors, and which of them hold the ring up.

use std::time::Instant;

use super::{CursorId, Log};

/// A stalled consumer takes less than this part of the ring in the time it has.
const STALL_PART: u64 = 16;

#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) next: u64,
    stalled: bool,
    /// Since when it holds the ring up, and where it stood then.
    holds: Option<(Instant, u64, u64)>,
}

impl Log {
    /// A new cursor, which takes line `next` first.
    pub fn attach(&mut self, next: u64) -> CursorId {
        if next < self.floor {
            (self.floor, self.holders) = (next, 0);
        }
        self.holders += usize::from(next == self.floor);
        self.cursors.insert(Cursor { next, stalled: false, holds: None })
    }

    /// The cursor is gone.
    pub fn detach(&mut self, id: CursorId) {
        if let Some(cursor) = self.cursors.try_remove(id) {
            self.holders -= usize::from(!cursor.stalled && cursor.next == self.floor);
        }
        self.evict();
    }

    /// Lines that the cursor has yet to take.
    pub fn behind(&self, id: CursorId) -> u64 {
        self.cursors.get(id).map_or(0, |cursor| self.next.saturating_sub(cursor.next))
    }

    /// Where the cursor stands.
    pub fn position(&self, id: CursorId) -> u64 {
        self.cursors.get(id).map_or(self.next, |cursor| cursor.next)
    }

    /// The cursor has been overrun and will miss lines.
    pub fn is_overrun(&self, id: CursorId) -> bool {
        self.cursors.get(id).is_some_and(|cursor| cursor.next < self.first)
    }

    /// The cursor moves on to this line, and where that is the end has caught up.
    pub(super) fn advance(&mut self, id: CursorId, next: u64) {
        let Some(cursor) = self.cursors.get_mut(id) else { return };
        let held = !cursor.stalled && cursor.next == self.floor;
        cursor.next = next;
        if next >= self.next {
            cursor.stalled = false;
            cursor.holds = None;
        }
        let holds = !cursor.stalled && next == self.floor;
        self.holders = self.holders + usize::from(holds) - usize::from(held);
    }

    /// Whether a line can be appended without overrunning a healthy cursor; else when to ask again at the latest.
    /// The asking is what makes a cursor count as stalled.
    pub fn room(&mut self, now: Instant) -> Option<Instant> {
        loop {
            self.evict();
            if self.is_full() {
                self.raise_floor();
            }
            // The next line may push the oldest out, if that is one that nobody needs.
            if self.has_room() {
                return None;
            }
            let (until, stalled) = self.judge_holders(now);
            if !stalled {
                return until;
            }
        }
    }

    /// Whether [`Log::room`] is known to find room. Where this says no, it may yet.
    pub fn has_room(&self) -> bool {
        self.lossy || !self.is_full() || self.first < self.floor
    }

    /// Whether those for whom [`Log::room`] found none have moved on.
    pub fn may_have_room(&self) -> bool {
        self.holders == 0 || self.has_room()
    }

    /// Cursors that have come to count as stalled since this was last asked.
    pub fn take_newly_stalled(&mut self) -> Vec<CursorId> {
        std::mem::take(&mut self.newly_stalled)
    }

    fn judge_holders(&mut self, now: Instant) -> (Option<Instant>, bool) {
        let (mut until, mut any_stalled) = (None, false);
        let (events, bytes) = (self.settings.events as u64, self.settings.bytes as u64);
        for at in 0..self.cursors.capacity() {
            let Some(cursor) = self.cursors.get(at) else { continue };
            if cursor.stalled || cursor.next > self.first {
                continue;
            }
            let offset = self.start_of(cursor.next);
            let next = cursor.next;
            let holds = match cursor.holds {
                Some((since, line, start)) if now.saturating_duration_since(since) >= self.stall => {
                    let lines = next.saturating_sub(line);
                    let taken = offset.saturating_sub(start);
                    let moves = lines * STALL_PART >= events || taken * STALL_PART >= bytes;
                    moves.then_some((now, next, offset))
                }
                Some(holds) => Some(holds),
                None => Some((now, next, offset)),
            };
            if let Some(cursor) = self.cursors.get_mut(at) {
                cursor.holds = holds;
                cursor.stalled = holds.is_none();
                self.holders -= usize::from(cursor.stalled && next == self.floor);
            }
            if let Some((since, ..)) = holds {
                let ends = since + self.stall;
                until = Some(until.map_or(ends, |until: Instant| until.min(ends)));
            } else {
                any_stalled = true;
                self.newly_stalled.push(at);
            }
        }
        (until, any_stalled)
    }

    /// Finds out where the floor is, when nobody stands there any more.
    pub(super) fn raise_floor(&mut self) {
        if self.holders > 0 || self.first < self.floor {
            return;
        }
        self.floor = self.next;
        for (_, cursor) in self.cursors.iter().filter(|(_, cursor)| !cursor.stalled) {
            if cursor.next < self.floor {
                (self.floor, self.holders) = (cursor.next, 0);
            }
            self.holders += usize::from(cursor.next == self.floor);
        }
    }
}
