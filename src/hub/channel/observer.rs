//! What a Manager says of its socket becomes lines.

use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::logging::{EMIT_LOST, SAID};
use super::snapshot::{LastDisconnect, LastError};
use super::{Channel, Inner};
use crate::hub::log::Kind;
use crate::hub::notice::{Change, Encoder};
use crate::hub::{consumer_name, now};
use crate::manager::{Counters, Hear, Lifecycle, Observer, Room, Status};
use crate::socketio::{Args, ArgsView, Loss, Name, NameView};

/// Bytes: so little is written to consumers on the spot when it is published, for to wake their tasks would cost more than
/// the writing. Where there is more, their tasks find still more together when it is their turn, and write less often.
const LITTLE: u64 = 4 * 1024;

/// Bytes that are written on the spot to all consumers together; the others write for themselves.
const AT_ONCE: usize = 256 * 1024;

impl Observer for Channel {
    fn event(&self, name: NameView<'_>, args: ArgsView<'_>, ack: Option<u64>) -> bool {
        self.lock().event(&self.encoder, name, args, ack)
    }

    /// With one lock for all: each is a fence, which waits until the line before has reached memory.
    fn events(&self, speak: &mut dyn FnMut(&mut Hear<'_>)) {
        let mut inner = self.lock();
        speak(&mut |name, args, ack| inner.event(&self.encoder, name, args, ack));
    }

    fn lifecycle(&self, event: &Lifecycle, status: &Status) {
        let mut inner = self.lock();
        self.log(&mut inner, event);
        inner.set_status(status);
        match event {
            Lifecycle::ConnectError { details, .. } => {
                inner.last_error = Some(LastError::new(details));
            }
            Lifecycle::Disconnect { reason, details } => {
                let mut last = LastDisconnect::new(*reason, details.as_ref());
                if let Some(failed) = inner.failed_step.take() {
                    last.explain(&failed);
                }
                inner.last_disconnect = Some(last);
            }
            Lifecycle::SetupFailed { step, message, .. } => {
                inner.failed_step = Some(format!("step {step} of on_connect failed: {message}"));
            }
            Lifecycle::Reconnect { .. } => inner.reconnects += 1,
            Lifecycle::Connect { recovered: false, .. } => {
                // Some servers push before they answer CONNECT; that is of this session.
                let before = inner.session_began;
                inner.sticky.forget_until(before);
            }
            _ => {}
        }
        self.append(&mut inner, &Change::Upstream(event), status.active);
        if matches!(event, Lifecycle::Disconnect { .. }) {
            inner.session_began = inner.log.head();
        }
        inner.settle_waiting(event);
    }

    fn outgoing(&self, name: &Name, args: &Args, sender: u64) {
        let size = self.encoder.event_size(name.view(), args.view());
        let consumer = consumer_name(sender);
        let mut inner = self.lock();
        inner.outgoing.append(Kind::Event, size, |_, out: &mut BytesMut| {
            self.encoder.outgoing(out, name, args, &consumer)
        });
    }

    fn lost(&self, name: &Name, loss: Loss) {
        let takes = self.takes(&mut self.lock().ration, now(), EMIT_LOST);
        let (connection, event) = (self.name.as_str(), name.decoded());
        if takes {
            warn!(connection, ?event, %loss, "{EMIT_LOST}");
        } else {
            debug!(connection, ?event, %loss, "{EMIT_LOST}");
        }
    }

    fn said(&self, program: &str, line: &str) {
        let takes = self.takes(&mut self.lock().said, now(), SAID);
        let connection = self.name.as_str();
        if takes {
            info!(connection, program, said = line, "{SAID}");
        } else {
            debug!(connection, program, said = line, "{SAID}");
        }
    }

    fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    fn update(&self, status: &Status, counters: Counters) {
        let mut inner = self.lock();
        inner.set_status(status);
        inner.counters = counters;
        if !status.active {
            // One that was not connected yet leaves without a lifecycle event.
            inner.fail_waiting("it was disconnected");
        }
    }

    fn room(&self, now: Instant) -> Room {
        let mut inner = self.lock();
        let room = inner.log.room(now);
        inner.full = room.is_some();
        inner.tell_stalled();
        match room {
            None => Room::Free,
            Some(until) => {
                // Whoever holds the ring up may be asleep, with lines that nobody told it of yet.
                inner.wake();
                Room::Full { until }
            }
        }
    }

    fn room_changed(&self) -> &Notify {
        &self.room_changed
    }

    fn publish(&self) {
        let (unparked, fresh) = {
            let mut inner = self.lock();
            let written = inner.log.written();
            let fresh = written - std::mem::replace(&mut inner.published, written);
            (inner.unpark(), fresh)
        };
        let (mut written, mut batch) = (0, Vec::new());
        for (consumer, channel) in unparked {
            if fresh <= LITTLE && written < AT_ONCE {
                written += consumer.hear(channel, &mut batch);
            } else {
                consumer.inbox().news(channel);
            }
        }
    }
}

impl Inner {
    /// The server's event is a line now. True where there is room for another one.
    fn event(&mut self, encoder: &Encoder, name: NameView<'_>, args: ArgsView<'_>, ack: Option<u64>) -> bool {
        let Self { log, head, sticky, received, last_ack, .. } = self;
        *received += 1;
        *last_ack = (*last_ack).max(ack.unwrap_or(0));
        log.append(Kind::Event, encoder.event_size(name, args), |seq, out| {
            let start = out.len();
            let place = encoder.event(head, out, seq, name, args, ack);
            if !sticky.is_idle() {
                let event = name.decoded();
                if sticky.wants(&event) {
                    // A copy, since a slice would keep all lines around it in memory.
                    let line = Bytes::copy_from_slice(&out[start..]);
                    sticky.keep(seq, &event, line, place.start - start..place.end - start);
                }
            }
            place
        });
        log.has_room()
    }
}
