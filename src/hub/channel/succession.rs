//! What a channel leaves to the next process, and how it goes on there.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::{Channel, Log, NOTHING, Sticky};
use crate::hub::saved::{self, Facts, SavedConnection};
use crate::socketio::Recoverable;

impl Channel {
    /// One that goes on where the process before has left it, in the same stream.
    pub fn restored(
        saved: SavedConnection,
        stream: Arc<str>,
        stall: Duration,
        left_out: Arc<Notify>,
    ) -> Self {
        let SavedConnection { facts, log, sticky } = saved;
        let channel = Self::new(&facts.name, stream, NOTHING, stall, left_out);
        let mut inner = channel.lock();
        // Without lines it is another connection than it was: only the counters go on.
        if log.is_some() {
            (inner.last_error, inner.last_disconnect) = (facts.last_error, facts.last_disconnect);
        }
        inner.log = log.unwrap_or_else(|| Log::new(NOTHING, stall).starting_at(facts.seq + 1)).in_portions();
        inner.log.set_stall(stall);
        inner.session_began = facts.session_began;
        inner.last_ack = facts.last_ack;
        inner.received = facts.received;
        inner.sent_before = facts.sent;
        inner.reconnects = facts.reconnects;
        inner.sticky = Sticky::of(sticky);
        drop(inner);
        channel
    }

    /// One in a new stream, for a session that may go on: the lines that were kept are all that is left of it. They get
    /// the first numbers.
    pub fn remembering(
        saved: SavedConnection,
        stream: Arc<str>,
        stall: Duration,
        left_out: Arc<Notify>,
    ) -> Self {
        let channel = Self::new(&saved.facts.name, stream, NOTHING, stall, left_out);
        let mut sticky = Vec::new();
        for (_, line, name) in saved.sticky {
            let seq = sticky.len() as u64 + 1;
            if let Some((line, longer)) = channel.encoder.renumbered(&line, seq)
                && let (Some(start), Some(end)) =
                    (name.start.checked_add_signed(longer), name.end.checked_add_signed(longer))
            {
                sticky.push((seq, line.into(), start..end));
            }
        }
        let kept = sticky.len() as u64;
        let mut inner = channel.lock();
        inner.log = Log::new(NOTHING, stall).starting_at(kept + 1).in_portions();
        inner.session_began = kept;
        inner.sticky = Sticky::of(sticky);
        drop(inner);
        channel
    }

    /// Writes what outlives the process: the counters, and with an `identity` also the lines, the session and the last
    /// failures. Of a stream that does not go on the ring means nothing.
    pub fn save<W: Write>(
        &self,
        whole: bool,
        identity: Option<String>,
        session: Option<Recoverable>,
        out: &mut saved::Writer<W>,
    ) -> io::Result<()> {
        let mut inner = self.lock();
        let facts = Facts {
            name: self.name.clone(),
            seq: inner.log.head(),
            last_ack: inner.last_ack,
            session_began: inner.session_began,
            received: inner.received,
            sent: inner.sent_before + inner.counters.sent,
            reconnects: inner.reconnects,
            last_error: inner.last_error.clone().filter(|_| identity.is_some()),
            last_disconnect: inner.last_disconnect.clone().filter(|_| identity.is_some()),
            session,
            identity,
        };
        let (mut ring, mut sticky) = (Vec::new(), Vec::new());
        if facts.identity.is_some() {
            sticky = inner.sticky.all();
            if whole {
                ring = inner.log.runs();
            }
        }
        // The lines are shared, so nobody waits while they are written.
        drop(inner);
        out.connection(&facts, &ring, &sticky)
    }

    /// The number of the newest line that `sticky` keeps.
    pub fn newest_kept(&self) -> u64 {
        self.lock().sticky.newest()
    }
}
