//! A connection at one moment.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Channel, Inner};
use crate::engineio::{Details, Phase, TransportKind};
use crate::hub::notice::Time;
use crate::manager::{ConnectionState, Status};
use crate::socketio::DisconnectReason;

/// How much of a failure's words a snapshot and the log show, in bytes; the event's own line has them all.
const BRIEF: usize = 4096;

/// A connection at one moment, as `list` and `subscribe` show it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Its name.
    name: String,
    /// The server, without user info.
    url: String,
    /// The namespace there.
    namespace: String,
    /// Where it stands.
    state: ConnectionState,
    /// The namespace is joined.
    connected: bool,
    /// Joined, and the script of `on_connect` has gone through, where there is one.
    ready: bool,
    /// Up, or to come up by itself; where it is false, that takes the method `connect`.
    active: bool,
    /// The socket's id; null unless connected.
    id: Option<String>,
    /// The server gave the earlier session back.
    recovered: bool,
    /// What the session travels on; null without one.
    transport: Option<TransportKind>,
    /// The reconnection attempt that is going on or waited for, from 1; else 0.
    attempt: u32,
    /// In how many milliseconds that attempt begins; null unless it is waited for.
    next_attempt_ms: Option<u64>,
    /// When `state` last changed.
    since: Time,
    /// The number of the newest line; 0 before the first.
    seq: u64,
    /// The number of the oldest retained line; `seq` + 1 with none retained.
    #[cfg_attr(test, schemars(range(min = 1)))]
    oldest_seq: u64,
    /// The run of the daemon that these numbers belong to.
    stream: String,
    /// Events that wait to be sent; with `retries`, to be answered.
    buffered: usize,
    /// Answers of the server that are waited for.
    pending_acks: usize,
    /// Programs that listen.
    subscribers: usize,
    /// The last `connect_error`.
    last_error: Option<LastError>,
    /// The last `disconnect`.
    last_disconnect: Option<LastDisconnect>,
    /// Events from the server in this stream.
    received: u64,
    /// Events to the server in this stream.
    sent: u64,
    /// Reconnections in this stream.
    reconnects: u64,
    /// There, and true, where any certificate of the server is taken.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, schemars(extend("const" = true)))]
    insecure: bool,
}

/// A failure to connect; of long texts the first 4 KiB and `…`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::hub) struct LastError {
    /// What the official client says in the same case.
    pub(super) message: String,
    /// The step that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    /// What really happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    /// What to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<Cow<'static, str>>,
    /// When.
    time: Time,
}

/// A loss of the connection; of long texts the first 4 KiB and `…`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::hub) struct LastDisconnect {
    /// Why, in the words of the official client.
    #[cfg_attr(test, schemars(with = "crate::hub::notice::schema::Reason"))]
    reason: Cow<'static, str>,
    /// What more is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// What really happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// When.
    time: Time,
}

impl LastError {
    pub(super) fn new(details: &Details) -> Self {
        let Details { message, phase, description, hint, .. } = details;
        Self {
            message: brief(message).into_owned(),
            phase: *phase,
            description: description.as_deref().map(|text| brief(text).into_owned()),
            hint: hint.clone(),
            time: Time::now(),
        }
    }
}

impl LastDisconnect {
    pub(super) fn new(reason: DisconnectReason, details: Option<&Details>) -> Self {
        let description = details.and_then(|details| details.description.as_deref());
        Self {
            reason: reason.as_str().into(),
            message: details.map(|details| brief(&details.message).into_owned()),
            description: description.map(|text| brief(text).into_owned()),
            time: Time::now(),
        }
    }

    /// Says what made us leave; the reason alone is the same for whoever asked.
    pub(super) fn explain(&mut self, why: &str) {
        self.message.get_or_insert_with(|| brief(why).into_owned());
    }
}

impl Channel {
    /// The state now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_of(&self.lock())
    }

    pub(super) fn snapshot_of(&self, inner: &Inner) -> Snapshot {
        let Status { state, ready, active, id, recovered, transport, attempt, next_attempt } = &inner.status;
        let connected = *state == ConnectionState::Connected;
        let now = tokio::time::Instant::now().into_std();
        Snapshot {
            name: self.name.clone(),
            url: inner.url.clone(),
            namespace: inner.namespace.clone(),
            state: *state,
            connected,
            ready: *ready,
            active: *active,
            id: id.as_ref().map(ToString::to_string),
            recovered: *recovered,
            transport: *transport,
            attempt: *attempt,
            next_attempt_ms: next_attempt
                .map(|at| u64::try_from(at.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX)),
            since: inner.since,
            seq: inner.log.head(),
            oldest_seq: inner.log.oldest(),
            stream: self.stream.to_string(),
            buffered: inner.counters.buffered,
            pending_acks: inner.counters.pending_acks,
            subscribers: inner.readers.len(),
            last_error: inner.last_error.clone(),
            last_disconnect: inner.last_disconnect.clone(),
            received: inner.received,
            sent: inner.sent_before + inner.counters.sent,
            reconnects: inner.reconnects,
            insecure: inner.insecure,
        }
    }
}

/// A text, or its beginning and an ellipsis.
pub(super) fn brief(text: &str) -> Cow<'_, str> {
    match text.floor_char_boundary(BRIEF) {
        end if end < text.len() => Cow::Owned(format!("{}…", &text[..end])),
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::hub::log;
    use crate::manager::{Lifecycle, Observer as _, Source};

    #[test]
    fn of_a_failure_without_end_the_beginning_is_kept() {
        let history = log::Settings { events: 10, bytes: 1024 * 1024 };
        let channel = Channel::new("chat", "stream".into(), history, Duration::from_secs(1), Arc::default());
        for (said, kept) in [
            ("no".to_owned(), "no".to_owned()),
            ("x".repeat(BRIEF), "x".repeat(BRIEF)),
            ("x".repeat(100_000), "x".repeat(BRIEF) + "…"),
            (format!("x{}", "é".repeat(50_000)), format!("x{}…", "é".repeat(BRIEF / 2 - 1))),
        ] {
            let details = Details { description: Some(said.clone()), ..Details::new(said) };
            let lost = Lifecycle::Disconnect {
                reason: DisconnectReason::ParseError,
                details: Some(details.clone()),
            };
            let refused = Lifecycle::ConnectError { details, data: None, source: Source::Server };
            for event in [lost, refused] {
                channel.lifecycle(&event, &Status::default());
            }
            let Snapshot { last_error, last_disconnect, .. } = channel.snapshot();
            let (error, disconnect) = (last_error.unwrap(), last_disconnect.unwrap());
            assert_eq!((&error.message, error.description.as_ref()), (&kept, Some(&kept)));
            assert_eq!(
                (disconnect.message.as_ref(), disconnect.description.as_ref()),
                (Some(&kept), Some(&kept))
            );
        }
    }
}
