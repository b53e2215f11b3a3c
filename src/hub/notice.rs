//! The notification lines that the ring holds and consumers read, encoded.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::engineio::{Details, Phase, TransportKind};
use crate::json;
use crate::manager::{Lifecycle, Source};
use crate::socketio::{Args, Name};

/// A moment as consumers read it: RFC 3339, UTC, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Time(Timestamp);

impl Time {
    /// The wall clock's time.
    pub fn now() -> Self {
        Self(Timestamp::now())
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

/// Who added or removed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The configuration.
    Config,
    /// A consumer.
    Consumer,
}

/// What can happen to a connection as consumers see it.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// Something upstream.
    Upstream(&'a Lifecycle),
    /// Added to the daemon.
    Opened(By),
    /// Removed from it.
    Closed(By),
}

/// The constant parts of one connection's lines.
#[derive(Debug)]
pub struct Encoder {
    /// The connection's name, a JSON string.
    connection: String,
    event_prefix: Vec<u8>,
}

impl Encoder {
    /// For the connection of this name.
    pub fn new(connection: &str) -> Self {
        let mut name = Vec::new();
        json::push_string(&mut name, connection);
        let connection = String::from_utf8_lossy(&name).into_owned();
        let event_prefix =
            format!(r#"{{"jsonrpc":"2.0","method":"event","params":{{"connection":{connection},"seq":"#);
        Self { connection, event_prefix: event_prefix.into_bytes() }
    }

    /// About how long an event's line will be; never too little by much.
    pub fn event_size(&self, name: &Name, args: &Args) -> usize {
        self.event_prefix.len()
            + name.as_json().len()
            + args.size()
            + args.size() / 2 * usize::from(args.has_binary())
            + 96
    }

    /// Adds an event's line; gives the place of its name.
    pub fn event(
        &self,
        out: &mut BytesMut,
        seq: u64,
        name: &Name,
        args: &Args,
        ack: Option<u64>,
    ) -> Range<usize> {
        out.put_slice(&self.event_prefix);
        put_number(out, seq);
        out.put_slice(br#","event":"#);
        let name = put_event(out, name, args);
        if let Some(ack) = ack {
            out.put_slice(br#","ack":"#);
            put_number(out, ack);
        }
        out.put_slice(b"}}\n");
        name
    }

    /// An `outgoing` line, which has no number.
    pub fn outgoing(&self, out: &mut BytesMut, name: &Name, args: &Args, consumer: &str) -> Range<usize> {
        out.put_slice(br#"{"jsonrpc":"2.0","method":"outgoing","params":{"connection":"#);
        out.put_slice(self.connection.as_bytes());
        out.put_slice(br#","event":"#);
        let name = put_event(out, name, args);
        out.put_slice(br#","consumer":"#);
        let mut text = Vec::new();
        json::push_string(&mut text, consumer);
        out.put_slice(&text);
        out.put_slice(b"}}\n");
        name
    }

    /// Adds a lifecycle event's line; gives the place of its name.
    pub fn lifecycle(
        &self,
        out: &mut BytesMut,
        seq: u64,
        change: &Change<'_>,
        active: bool,
        time: Time,
    ) -> Range<usize> {
        out.put_slice(br#"{"jsonrpc":"2.0","method":"lifecycle","params":{"connection":"#);
        out.put_slice(self.connection.as_bytes());
        out.put_slice(br#","seq":"#);
        put_number(out, seq);
        out.put_slice(br#","event":"#);
        let start = out.len();
        let members = Members::of(change);
        put_json(out, members.name);
        let name = start..out.len();
        put_members(out, &members);
        out.put_slice(br#","active":"#);
        put_json(out, active);
        out.put_slice(br#","time":"#);
        put_json(out, time);
        out.put_slice(b"}}\n");
        name
    }

    /// A `lagged` line.
    pub fn lagged(&self, missed: u64, next_seq: u64) -> Vec<u8> {
        let connection = &self.connection;
        format!(
            r#"{{"jsonrpc":"2.0","method":"lagged","params":{{"connection":{connection},"missed":{missed},"next_seq":{next_seq}}}}}"#
        )
        .into_bytes()
    }
}

/// The members of a lifecycle event that not all have; absent ones are left out.
#[derive(Default, Serialize)]
struct Members<'a> {
    #[serde(skip)]
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<TransportKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Nullable<DetailsView<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<By>,
}

/// A member that is there and may be null.
#[derive(Serialize)]
struct Nullable<T>(Option<T>);

/// A [`Details`] as consumers read it.
#[derive(Clone, Debug, Serialize)]
pub struct DetailsView<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

impl<'a> From<&'a Details> for DetailsView<'a> {
    fn from(details: &'a Details) -> Self {
        Self { message: &details.message, code: details.code }
    }
}

impl<'a> Members<'a> {
    fn of(change: &'a Change<'a>) -> Self {
        let lifecycle = match change {
            Change::Opened(by) => return Self { name: "opened", by: Some(*by), ..Self::default() },
            Change::Closed(by) => return Self { name: "closed", by: Some(*by), ..Self::default() },
            Change::Upstream(lifecycle) => lifecycle,
        };
        let name = lifecycle.name();
        match lifecycle {
            Lifecycle::Connect { id, recovered, transport } => Self {
                name,
                id: Some(id),
                recovered: Some(*recovered),
                transport: Some(*transport),
                ..Self::default()
            },
            Lifecycle::ConnectError { details, data, source } => Self {
                name,
                message: Some(&details.message),
                phase: details.phase,
                description: details.description.as_deref(),
                hint: details.hint.as_deref(),
                code: details.code,
                data: data.as_deref().and_then(|data| serde_json::from_str(data).ok()),
                source: Some(*source),
                ..Self::default()
            },
            Lifecycle::Ready => Self { name, ..Self::default() },
            Lifecycle::SetupFailed { step, message, answer } => Self {
                name,
                step: Some(*step),
                message: Some(message),
                answer: answer.as_ref().and_then(array),
                ..Self::default()
            },
            Lifecycle::Disconnect { reason, details } => Self {
                name,
                reason: Some(reason.as_str()),
                details: Some(Nullable(details.as_ref().map(DetailsView::from))),
                ..Self::default()
            },
            Lifecycle::ReconnectAttempt { attempt } | Lifecycle::Reconnect { attempt } => {
                Self { name, attempt: Some(*attempt), ..Self::default() }
            }
            Lifecycle::ReconnectError { attempt, message } => {
                Self { name, attempt: Some(*attempt), message: Some(message), ..Self::default() }
            }
            Lifecycle::ReconnectFailed { attempts } => {
                Self { name, attempts: Some(*attempts), ..Self::default() }
            }
            Lifecycle::Upgrade { transport } => Self { name, transport: Some(*transport), ..Self::default() },
        }
    }
}

/// Arguments as JSON text.
fn array(args: &Args) -> Option<Box<RawValue>> {
    let mut text = Vec::new();
    args.write_array(&mut text);
    RawValue::from_string(String::from_utf8(text).ok()?).ok()
}

/// Adds `,"member":value` for each member that is there.
fn put_members(out: &mut BytesMut, members: &Members<'_>) {
    let text = serde_json::to_vec(members).unwrap_or_default();
    let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    if !inside.is_empty() {
        out.put_u8(b',');
        out.put_slice(inside);
    }
}

fn put_event(out: &mut BytesMut, name: &Name, args: &Args) -> Range<usize> {
    let start = out.len();
    name.write_string(out);
    let range = start..out.len();
    out.put_slice(br#","args":"#);
    args.write_array(out);
    if args.has_binary() {
        out.put_slice(br#","binary":true"#);
    }
    range
}

fn put_json(out: &mut BytesMut, value: impl Serialize) {
    // Writing into memory cannot fail, nor can what is written here.
    let _ = serde_json::to_writer(out.writer(), &value);
}

fn put_number(out: &mut BytesMut, number: u64) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}
