//! The one answer that a request gets.

use std::io::Write;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::message::{Error, ErrorKind};
use crate::hub::Inbox;

/// The answer owed to one request; nothing is written for a notification. Dropped unanswered, it says that
/// something broke, so that nobody waits for ever.
#[derive(Debug)]
pub(super) struct Reply {
    inbox: Arc<Inbox>,
    /// The id to the byte, until the answer is written.
    id: Option<Box<str>>,
}

impl Reply {
    /// The answer to the request `id`; none for a notification.
    pub(super) fn new(inbox: &Arc<Inbox>, id: Option<&str>) -> Self {
        if id.is_some() {
            inbox.expect_answer();
        }
        Self { inbox: Arc::clone(inbox), id: id.map(Into::into) }
    }

    /// Whether anything will be written at all.
    pub(super) fn is_expected(&self) -> bool {
        self.id.is_some()
    }

    /// Answers with a result.
    pub(super) fn ok(self, result: &impl Serialize) {
        self.write(|out| put_json(out, result));
    }

    /// Answers with a result that `write` adds.
    pub(super) fn write(mut self, write: impl FnOnce(&mut BytesMut)) {
        if let Some(id) = self.id.take() {
            self.inbox.answer(|out| {
                begin(out, &id);
                out.put_slice(br#","result":"#);
                write(out);
                out.put_slice(b"}\n");
            });
        }
    }

    /// Answers with an error.
    pub(super) fn error(mut self, error: &Error) {
        if let Some(id) = self.id.take() {
            put_error(&self.inbox, &id, error);
        }
    }

    /// Hands the answer over to `write`, which puts it in line itself.
    pub(super) fn into_id(mut self) -> Option<Box<str>> {
        self.id.take()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let message =
                "the connection broke before this was answered; whether it was carried out is not known";
            put_error(&self.inbox, &id, &Error::new(ErrorKind::Internal, message));
        }
    }
}

/// The line up to the result.
pub(super) fn begin(out: &mut BytesMut, id: &str) {
    out.put_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.put_slice(id.as_bytes());
}

/// Adds a value; what it is made of cannot fail, nor can writing into memory.
pub(super) fn put_json(out: &mut BytesMut, value: &impl Serialize) {
    let mut writer = out.writer();
    let _ = serde_json::to_writer(&mut writer, value);
    let _ = writer.flush();
}

fn put_error(inbox: &Inbox, id: &str, error: &Error) {
    inbox.answer(|out| {
        begin(out, id);
        out.put_slice(br#","error":"#);
        put_json(out, error);
        out.put_slice(b"}\n");
    });
}
