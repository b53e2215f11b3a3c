//! What a program asks of a connection, and how it gets its answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use tokio::sync::Notify;

use super::message::{Error, ErrorKind};
use super::reply;
use super::results::{EmitResult, EmitStatus};
use crate::hub::{Consumer, Inbox};
use crate::manager::{Asker, Effects, Id, Room};
use crate::socketio::{AckError, ArgsView, EmitError, Sent};

/// One program that emits on one connection.
pub(super) struct Asking {
    inbox: Arc<Inbox>,
    consumer: Arc<Consumer>,
    connection: String,
    effects: Effects,
    /// Answers are in line, and [`Asker::publish`] is to come.
    unpublished: AtomicBool,
}

impl Asking {
    pub(super) fn new(consumer: &Arc<Consumer>, connection: &str, effects: &Effects) -> Self {
        Self {
            inbox: Arc::clone(consumer.inbox()),
            consumer: Arc::clone(consumer),
            connection: connection.to_owned(),
            effects: effects.clone(),
            unpublished: AtomicBool::new(false),
        }
    }

    fn answer(&self, id: &Id, write: impl FnOnce(&[u8], &mut BytesMut, bool)) -> bool {
        let Some(id) = id.get() else { return false };
        self.inbox.put_answer(|out, follow| write(id, out, follow));
        !self.unpublished.swap(true, Ordering::Relaxed)
    }

    fn refuse(&self, id: &Id, kind: ErrorKind, message: String) -> bool {
        self.answer(id, |id, out, _| reply::put_error(out, id, &Error::new(kind, message)))
    }
}

impl Asker for Asking {
    fn taken(&self, emits: usize) {
        self.effects.end(emits);
    }

    fn settled(&self, id: &Id, result: Result<Sent, EmitError>, active: bool) -> bool {
        let status = match result {
            Ok(Sent::Sent) => EmitStatus::Sent,
            Ok(Sent::Buffered) => EmitStatus::Buffered,
            Ok(Sent::Dropped) => EmitStatus::Dropped,
            Err(error @ (EmitError::BufferFull(_) | EmitError::TooManyPending)) => {
                return self.refuse(id, ErrorKind::BufferFull, error.to_string());
            }
            Err(EmitError::TooLarge(error)) => {
                return self.refuse(id, ErrorKind::InvalidParams, error.to_string());
            }
            Err(error @ EmitError::Closed) => {
                return self.refuse(id, ErrorKind::Disconnected, error.to_string());
            }
        };
        self.answer(id, |id, out, _| reply::put_result(out, id, &EmitResult { status, active }))
    }

    fn answered(&self, id: &Id, result: Result<ArgsView<'_>, AckError>) -> bool {
        let name = &self.connection;
        // As in the official client, what the server said before its answer is heard before it.
        if id.is_some() {
            self.consumer.hear_first(name);
        }
        match result {
            Ok(_) if self.inbox.is_overrun() => {
                let message = format!(
                    "the server of {name:?} has answered, but the answer is lost: too many others wait to be read, and too \
                     few were read in time (api.stall)"
                );
                self.refuse(id, ErrorKind::AnswerLost, message)
            }
            Ok(args) => {
                // Others are likely to follow in the same turn.
                let answers = self.inbox.expected().clamp(1, TOGETHER);
                self.answer(id, |id, out, follow| put_answer(out, id, args, if follow { answers } else { 1 }))
            }
            Err(AckError::Timeout) => {
                let message = format!("the server of {name:?} did not answer in time");
                self.refuse(id, ErrorKind::AckTimeout, message)
            }
            Err(AckError::TooLarge(error)) => self.refuse(id, ErrorKind::InvalidParams, error.to_string()),
            Err(AckError::Disconnected) => {
                let message = format!(
                    "{name:?} was disconnected before the server answered; it may have got the event"
                );
                self.refuse(id, ErrorKind::Disconnected, message)
            }
        }
    }

    fn forgotten(&self, id: &Id) {
        if let Some(id) = id.get() {
            self.inbox.answer(|out| reply::put_error(out, id, &reply::broken()));
        }
    }

    fn is_gone(&self) -> bool {
        self.inbox.is_deaf()
    }

    fn publish(&self) {
        self.unpublished.store(false, Ordering::Relaxed);
        self.consumer.write_at_once();
    }

    fn room(&self, now: Instant) -> Room {
        self.inbox.room_for_acks(now)
    }

    fn room_changed(&self) -> &Notify {
        self.inbox.acks_have_room()
    }
}

/// Answers for which room is made at once, and the bytes that it has at the most if one does not need more.
const TOGETHER: usize = 16;
const MOST: usize = 4 * 1024;

/// The server's answer, the first of so many.
fn put_answer(out: &mut BytesMut, id: &[u8], args: ArgsView<'_>, answers: usize) {
    const AROUND: usize = 96;
    let size = AROUND + id.len() + args.size() * if args.has_binary() { 2 } else { 1 };
    if out.capacity() - out.len() < size {
        out.reserve((size * answers).min(MOST).max(size));
    }
    reply::begin(out, id);
    out.put_slice(br#","result":{"args":"#);
    args.write_array(out);
    if args.has_binary() {
        out.put_slice(br#","binary":true"#);
    }
    out.put_slice(b"}}\n");
}
