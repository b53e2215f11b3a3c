//! What is to be written to a program next.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Consumer, Replaying, State};
use crate::hub::Lag;
use crate::hub::channel::Channel;
use crate::hub::inbox::{Goodbye, Item};
use crate::hub::log::{LineView, Read};

/// What is given to the socket in one go, roughly.
pub(super) const BATCH_BYTES: usize = 256 * 1024;

/// Where the lines of a consumer go.
pub trait Outlet: Send + Sync {
    /// Writes what it takes now, and leaves the rest in `batch`.
    fn write(&self, batch: &mut Vec<Bytes>) -> io::Result<()>;
}

/// What a reading of live lines took, and whether there are more.
struct Live {
    bytes: usize,
    more: bool,
}

impl Consumer {
    /// From now on lines may be written to this at once where nothing else is being written.
    pub fn write_to(&self, outlet: Arc<dyn Outlet>) {
        self.lock().outlet = Some(outlet);
    }

    /// Nothing is written any more but by the caller. Gives what is still to be written of the lines that were begun.
    pub fn write_no_more(&self) -> Vec<Bytes> {
        let mut state = self.lock();
        (state.outlet, state.resting) = (None, false);
        std::mem::take(&mut state.unwritten)
    }

    /// From now on only the task that has the socket writes to it, for it has to see when all is said.
    pub fn write_nothing_at_once(&self) {
        self.lock().outlet = None;
    }

    /// Answers were put in line, and maybe more: they are written at once where nothing else is being written.
    pub fn write_at_once(&self) {
        let mut state = self.lock();
        let may = state.resting && self.inbox.goodbye().is_none();
        let Some(outlet) = state.outlet.clone().filter(|_| may) else { return self.inbox.ring() };
        let mut batch = std::mem::take(&mut state.unwritten);
        self.take_new(&state, 0, &mut batch);
        // A failure shows again when the rest is written.
        if outlet.write(&mut batch).is_err() || !batch.is_empty() || !self.inbox.is_idle() {
            state.resting = false;
            self.inbox.ring();
        }
        state.unwritten = batch;
    }

    /// There is something to read in a channel: if nothing else is to be written, it is written at once, by way of `batch`,
    /// which is empty before and after. Gives how many bytes that was.
    pub(in crate::hub) fn hear(&self, channel: usize, batch: &mut Vec<Bytes>) -> usize {
        let mut state = self.lock();
        let outlet = state.outlet.as_ref().filter(|_| state.resting && self.inbox.is_idle());
        let Some(outlet) = outlet else {
            self.inbox.news(channel);
            return 0;
        };
        let bytes = self.read_live(&state, channel, u64::MAX, batch).bytes;
        // A failure shows again when the rest is written.
        if outlet.write(batch).is_err() || !batch.is_empty() {
            state.resting = false;
            state.unwritten.append(batch);
            self.inbox.ring();
        }
        bytes
    }

    /// What to write next: what was begun, answers and replays in their order, then live lines, all in slices that hold
    /// whole lines. Empty when there is nothing for now.
    pub fn take(&self, out: &mut Vec<Bytes>) {
        let mut state = self.lock();
        let begun = state.unwritten.iter().map(Bytes::len).sum();
        out.append(&mut state.unwritten);
        self.take_new(&state, begun, out);
        state.resting = out.is_empty() && self.inbox.is_idle();
    }

    /// As much as makes a batch of these `bytes`.
    fn take_new(&self, state: &State, mut bytes: usize, out: &mut Vec<Bytes>) {
        while bytes < BATCH_BYTES {
            match self.inbox.pop() {
                None => break,
                Some(Item::Answers { lines, .. }) => {
                    bytes += lines.len();
                    out.push(lines.freeze());
                }
                Some(Item::Replay(mut replaying)) => {
                    // Live lines wait for the replay, so nothing else is read before it is over.
                    let over = self.replay(&mut replaying, out);
                    if over {
                        replaying.end();
                    } else {
                        self.inbox.put_back(Item::Replay(replaying));
                        self.inbox.ring();
                        return;
                    }
                }
                Some(Item::Live { channel, until }) => {
                    let live = self.read_live(state, channel, until, out);
                    bytes += live.bytes;
                    // What came later has its turn after what stands in line.
                    self.inbox.news(channel);
                    if live.more && !state.stands_after(channel, until) {
                        self.inbox.put_back(Item::Live { channel, until });
                        self.inbox.ring();
                        return;
                    }
                }
            }
        }
        if bytes >= BATCH_BYTES {
            self.inbox.ring();
            if self.inbox.has_line() {
                // Live lines come neither before what stands there nor after all that is yet to: the next batches may be
                // as large.
                for key in self.inbox.take_ready() {
                    if let Some(view) = state.views.get(key) {
                        self.inbox.push_live(key, view.channel.head());
                    }
                }
                return;
            }
        }
        let mut live = 0;
        let mut ready = self.inbox.take_ready().into_iter();
        for key in ready.by_ref() {
            live += self.read_live(state, key, u64::MAX, out).bytes;
            if live >= BATCH_BYTES {
                break;
            }
        }
        // Those that were read and have more are behind those that were not.
        let again = if ready.len() > 0 { self.inbox.take_ready() } else { Vec::new() };
        for key in ready.chain(again) {
            self.inbox.news(key);
        }
    }

    fn replay(&self, replaying: &mut Replaying, out: &mut Vec<Bytes>) -> bool {
        let Replaying { channel, sticky, sticky_seqs, replay, filter, .. } = replaying;
        let mut bytes = 0;
        while let Some(line) = sticky.pop_front() {
            bytes += line.len();
            out.push(line);
            self.delivered.fetch_add(1, Ordering::Relaxed);
            if bytes >= BATCH_BYTES {
                return sticky.is_empty() && replay.is_none();
            }
        }
        let Some(replay) = replay else { return true };
        let is_sticky = |seq| sticky_seqs.binary_search(&seq).is_ok();
        let want = |line: LineView<'_>| filter.wants(line) && !is_sticky(line.seq);
        match channel.read_replay(replay, want, BATCH_BYTES, out) {
            Read::AtHead(lines) => {
                self.delivered.fetch_add(lines as u64, Ordering::Relaxed);
                true
            }
            Read::Lines(lines) => {
                self.delivered.fetch_add(lines as u64, Ordering::Relaxed);
                false
            }
            Read::Missed { count, next } => {
                self.overrun(channel, count, next, out);
                false
            }
        }
    }

    fn read_live(&self, state: &State, key: usize, until: u64, out: &mut Vec<Bytes>) -> Live {
        let from = out.len();
        let Some(view) = state.views.get(key) else { return Live { bytes: 0, more: false } };
        let channel = &view.channel;
        let watches = view.heard.iter().any(|heard| heard.filter.outgoing);
        let mut more = false;
        if watches {
            let read = channel.read_outgoing(&view.seat, BATCH_BYTES, |line| view.wants_outgoing(line), out);
            if let Read::Lines(lines) | Read::AtHead(lines) = read {
                self.delivered.fetch_add(lines as u64, Ordering::Relaxed);
            }
            more = matches!(read, Read::Lines(_));
        }
        let read = channel.read(&view.seat, until, BATCH_BYTES, view, out);
        match read {
            Read::AtHead(lines) | Read::Lines(lines) => {
                self.delivered.fetch_add(lines as u64, Ordering::Relaxed);
                more |= matches!(read, Read::Lines(_));
            }
            Read::Missed { count, next } => {
                self.overrun(channel, count, next, out);
                more = true;
            }
        }
        if more {
            self.inbox.news(key);
        }
        Live { bytes: out[from..].iter().map(Bytes::len).sum(), more }
    }

    fn overrun(&self, channel: &Channel, count: u64, next: u64, out: &mut Vec<Bytes>) {
        self.missed.fetch_add(count, Ordering::Relaxed);
        match self.inbox.lag() {
            Lag::Skip => {
                let mut line = BytesMut::from(&channel.lagged(count, next)[..]);
                line.put_u8(b'\n');
                out.push(line.freeze());
            }
            Lag::Disconnect => self.inbox.say_goodbye(Goodbye::Lagged),
        }
    }
}
