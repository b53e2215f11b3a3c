//! Connection state recovery: what the server needs to give a session back.

use bytestring::ByteString;
use serde_json::value::RawValue;

use crate::socketio::Args;

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
    pub(super) fn note(&mut self, args: &Args) {
        if self.private_id.is_some()
            && let Some(last) = args.last_string()
        {
            self.offset = Some(last);
        }
    }
}
