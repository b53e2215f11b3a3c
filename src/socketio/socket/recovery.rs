//! Connection state recovery: what the server needs to give a session back.

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::socketio::ArgsView;

/// Bytes of an id or an offset that is worth keeping: what is longer was some text of an event.
const LONGEST: usize = 1024;

/// A session that the server may give back to another process than the one that had it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recoverable {
    private_id: String,
    offset: String,
    /// Its script has gone through.
    was_set_up: bool,
}

/// Whoever knows the id can have the session.
impl std::fmt::Debug for Recoverable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recoverable").field("was_set_up", &self.was_set_up).finish_non_exhaustive()
    }
}

/// What the server needs to give a session back.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    private_id: Option<String>,
    offset: Option<String>,
}

impl Recovery {
    /// The CONNECT payload: what the server needs to recover, under the auth object, whose members win.
    pub(super) fn payload(&self, auth: Option<&str>) -> Option<ByteString> {
        let Some(private_id) = &self.private_id else { return auth.map(ByteString::from) };
        let auth = auth.unwrap_or("{}");
        let taken: std::collections::HashMap<String, &RawValue> =
            serde_json::from_str(auth).unwrap_or_default();
        let mut payload = vec![b'{'];
        let mut member = |key: &str, value: &str| {
            if !taken.contains_key(key) {
                if payload.len() > 1 {
                    payload.push(b',');
                }
                crate::json::push_string(&mut payload, key);
                payload.push(b':');
                crate::json::push_string(&mut payload, value);
            }
        };
        member("pid", private_id);
        if let Some(offset) = &self.offset {
            member("offset", offset);
        }
        let rest = auth.trim().trim_start_matches('{').trim_start();
        if payload.len() > 1 && !rest.starts_with('}') {
            payload.push(b',');
        }
        payload.extend_from_slice(rest.as_bytes());
        ByteString::try_from(payload).ok()
    }

    /// What another process needs to go on with the session. Without an offset no server gives one back.
    pub(super) fn recoverable(&self, was_set_up: bool) -> Option<Recoverable> {
        let short = |text: &&String| text.len() <= LONGEST;
        let private_id = self.private_id.as_ref().filter(short)?.clone();
        let offset = self.offset.as_ref().filter(short)?.clone();
        Some(Recoverable { private_id, offset, was_set_up })
    }

    /// Goes on where another process was; gives whether the script had gone through.
    pub(super) fn resume(&mut self, session: Recoverable) -> bool {
        let Recoverable { private_id, offset, was_set_up } = session;
        (self.private_id, self.offset) = (Some(private_id), Some(offset));
        was_set_up
    }

    /// A session begins under `private_id`; true if it is the earlier one, given back.
    pub(super) fn begin(&mut self, private_id: Option<String>) -> bool {
        let recovered = private_id.is_some() && private_id == self.private_id;
        if !recovered {
            self.offset = None;
        }
        self.private_id = private_id;
        recovered
    }

    /// An event without an ack was delivered: a text as its last argument is the offset.
    pub(super) fn note(&mut self, args: ArgsView<'_>) {
        if self.private_id.is_some()
            && let Some(last) = args.last_string()
        {
            self.offset = Some(last);
        }
    }
}
