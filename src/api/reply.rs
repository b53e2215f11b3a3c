//! The one answer that a request gets.

use std::io::Write;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::message::{Error, ErrorKind};
use crate::hub::Inbox;
use crate::manager::Id;

/// The answer owed to one request; nothing is written for a notification. Dropped unanswered, it says that
/// something broke, so that nobody waits for ever.
#[derive(Debug)]
pub(super) struct Reply {
    inbox: Arc<Inbox>,
    /// The id to the byte, until the answer is written.
    id: Id,
}

impl Reply {
    /// The answer to the request `id`; none for a notification.
    pub(super) fn new(inbox: &Arc<Inbox>, id: Option<&str>) -> Self {
        if id.is_some() {
            inbox.expect_answer();
        }
        Self { inbox: Arc::clone(inbox), id: Id::new(id) }
    }

    /// Answers with a result.
    pub(super) fn ok(mut self, result: &impl Serialize) {
        self.write(|id, out| put_result(out, id, result));
    }

    /// Answers with an error.
    pub(super) fn error(mut self, error: &Error) {
        self.write(|id, out| put_error(out, id, error));
    }

    /// Leaves the answer to somebody who puts it in line under this id.
    pub(super) fn into_id(mut self) -> Id {
        self.id.take()
    }

    fn write(&mut self, write: impl FnOnce(&[u8], &mut BytesMut)) {
        if let Some(id) = self.id.take().get() {
            self.inbox.answer(|out| write(id, out));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.write(|id, out| put_error(out, id, &broken()));
    }
}

/// What is said where nobody is left to answer.
pub(super) fn broken() -> Error {
    let message = "the connection broke before this was answered; whether it was carried out is not known";
    Error::new(ErrorKind::Internal, message)
}

/// The line up to the result.
pub(super) fn begin(out: &mut BytesMut, id: &[u8]) {
    out.put_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.put_slice(id);
}

/// Adds a value; what it is made of cannot fail, nor can writing into memory.
pub(super) fn put_json(out: &mut BytesMut, value: &impl Serialize) {
    let mut writer = out.writer();
    let _ = serde_json::to_writer(&mut writer, value);
    let _ = writer.flush();
}

/// The line of a result.
pub(super) fn put_result(out: &mut BytesMut, id: &[u8], result: &impl Serialize) {
    begin(out, id);
    out.put_slice(br#","result":"#);
    put_json(out, result);
    out.put_slice(b"}\n");
}

/// The line of an error.
pub(super) fn put_error(out: &mut BytesMut, id: &[u8], error: &Error) {
    begin(out, id);
    out.put_slice(br#","error":"#);
    put_json(out, error);
    out.put_slice(b"}\n");
}
