//! When a session counts as lost, and whose turn it is to ping.

use std::time::{Duration, Instant};

use super::{Handshake, Packet, Revision};

/// The heartbeat of one open session.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// The session is lost when nothing that counts is heard until then.
    deadline: Instant,
    /// From a sign of life to the deadline.
    silence: Duration,
    ours: Option<OurPings>,
}

/// Revision 3: the client pings, and the server answers.
#[derive(Debug)]
struct OurPings {
    /// From the handshake, or from an answer, to the next ping.
    interval: Duration,
    /// From a ping to the deadline.
    timeout: Duration,
    /// When to ping; none while a ping is unanswered.
    next: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn new(revision: Revision, handshake: &Handshake, now: Instant) -> Self {
        let (interval, timeout) = (handshake.ping_interval, handshake.ping_timeout);
        let ours = match revision {
            Revision::V3 => Some(OurPings { interval, timeout, next: Some(now + interval) }),
            Revision::V4 => None,
        };
        Self { deadline: now + interval + timeout, silence: interval + timeout, ours }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When [`Heartbeat::ping`] wants to be called.
    pub(super) fn next_ping(&self) -> Option<Instant> {
        self.ours.as_ref()?.next
    }

    /// A packet came. True if it moved the deadline: where the server pings only its pings do, else everything.
    pub(super) fn hear(&mut self, now: Instant, packet: &Packet) -> bool {
        let counts = match &mut self.ours {
            None => matches!(packet, Packet::Ping(_)),
            Some(ours) => {
                if let Packet::Pong(_) = packet {
                    ours.next = Some(now + ours.interval);
                }
                true
            }
        };
        if counts {
            self.deadline = now + self.silence;
        }
        counts
    }

    /// Whether it is time to send a ping; if so, the answer has its own deadline.
    pub(super) fn ping(&mut self, now: Instant) -> bool {
        let Some(ours) = &mut self.ours else { return false };
        if ours.next.is_none_or(|next| now < next) {
            return false;
        }
        ours.next = None;
        self.deadline = now + ours.timeout;
        true
    }

    /// Nothing was read for this long, which is nobody's fault.
    pub(super) fn rested(&mut self, time: Duration) {
        self.deadline += time;
    }
}
