//! The notification lines that the ring holds and consumers read, encoded.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::engineio::{Details, Phase, TransportKind};
use crate::json;
use crate::manager::{Lifecycle, Source};
use crate::socketio::{Args, ArgsView, Name, NameView};

/// A moment as consumers read it: RFC 3339, UTC, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Time(Timestamp);

impl Time {
    /// The wall clock's time.
    pub fn now() -> Self {
        Self(Timestamp::now())
    }
}

impl<'de> serde::Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Timestamp::deserialize(deserializer).map(Self)
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

/// Who added or removed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// What a [`Head`] holds on to, in bytes.
const USUAL_HEAD: usize = 256;

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
    pub fn event_size(&self, name: NameView<'_>, args: ArgsView<'_>) -> usize {
        self.event_prefix.len()
            + name.as_json().len()
            + args.size()
            + args.size() / 2 * usize::from(args.has_binary())
            + 96
    }

    /// Adds an event's line; gives the place of its name. `head` is for this alone, from one line to the next.
    pub fn event(
        &self,
        head: &mut Head,
        out: &mut BytesMut,
        seq: u64,
        name: NameView<'_>,
        args: ArgsView<'_>,
        ack: Option<u64>,
    ) -> Range<usize> {
        if !head.advance(seq, name) {
            head.begin(&self.event_prefix, seq, name);
        }
        let start = out.len();
        out.put_slice(&head.text);
        put_args(out, args);
        if let Some(ack) = ack {
            out.put_slice(br#","ack":"#);
            put_number(out, ack);
        }
        out.put_slice(b"}}\n");
        start + head.name.start..start + head.name.end
    }

    /// An event's line under another number, and how much longer it is. `None` for a line that this has not made.
    pub fn renumbered(&self, line: &[u8], seq: u64) -> Option<(Vec<u8>, isize)> {
        let rest = line.strip_prefix(self.event_prefix.as_slice())?;
        let rest = rest.get(rest.iter().take_while(|byte| byte.is_ascii_digit()).count()..)?;
        let mut text = self.event_prefix.clone();
        text.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        text.extend_from_slice(rest);
        let longer = text.len().checked_signed_diff(line.len())?;
        Some((text, longer))
    }

    /// An `outgoing` line, which has no number.
    pub fn outgoing(&self, out: &mut BytesMut, name: &Name, args: &Args, consumer: &str) -> Range<usize> {
        out.put_slice(br#"{"jsonrpc":"2.0","method":"outgoing","params":{"connection":"#);
        out.put_slice(self.connection.as_bytes());
        out.put_slice(br#","event":"#);
        let name = put_event(out, name.view(), args.view());
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
        out.put_u8(b',');
        let name = put_members(out, change);
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

/// How the line of the last event began. Mostly the next one differs in a digit, and copying is cheaper than writing.
#[derive(Debug, Default)]
pub struct Head {
    /// Up to the arguments.
    text: Vec<u8>,
    seq: u64,
    digits: Range<usize>,
    name: Range<usize>,
}

impl Head {
    /// Makes it that of the next line, if it has the same name and as many digits.
    fn advance(&mut self, seq: u64, name: NameView<'_>) -> bool {
        if seq.checked_sub(1) != Some(self.seq)
            || self.text.get(self.name.clone()) != Some(name.as_json().as_bytes())
        {
            return false;
        }
        let digits = self.text.get_mut(self.digits.clone()).unwrap_or_default();
        for digit in digits.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                self.seq = seq;
                return true;
            }
            *digit = b'0';
        }
        false
    }

    fn begin(&mut self, prefix: &[u8], seq: u64, name: NameView<'_>) {
        self.text.clear();
        // A name can be as long as a message, which is not to be kept.
        self.text.shrink_to(USUAL_HEAD);
        self.text.put_slice(prefix);
        let digits = self.text.len();
        put_number(&mut self.text, seq);
        (self.seq, self.digits) = (seq, digits..self.text.len());
        self.text.put_slice(br#","event":"#);
        let start = self.text.len();
        name.write_string(&mut self.text);
        self.name = start..self.text.len();
    }
}

/// What a lifecycle event says beside `connection`, `seq`, `active` and `time`, beginning with its name.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Members<'a> {
    /// The namespace is joined, at first and after each reconnection.
    Connect {
        /// The socket's id, which the server gave.
        id: &'a str,
        /// The server gave the earlier session back, with what was missed meanwhile.
        recovered: bool,
        /// What the session travels on.
        transport: TransportKind,
    },
    /// The namespace could not be joined.
    ConnectError {
        /// What the official client says in the same case: `websocket error`, `xhr poll error`, `timeout`, or the
        /// server's own words.
        message: &'a str,
        /// The step that failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<Phase>,
        /// What really happened.
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        /// What to try.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'a str>,
        /// The status of the HTTP answer, or the code of the WebSocket's close.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<u16>,
        /// What the server's middleware gave beside its message.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, schemars(with = "serde_json::Value"))]
        data: Option<&'a RawValue>,
        /// Who is to blame, and with that whether it is tried again.
        source: Source,
    },
    /// The connection was joined and is no longer.
    Disconnect {
        /// Why, in the words of the official client.
        #[cfg_attr(test, schemars(with = "schema::Reason"))]
        reason: &'a str,
        /// What more is known.
        details: Option<DetailsView<'a>>,
    },
    /// Just before an attempt.
    ReconnectAttempt {
        /// Which one, from 1.
        #[cfg_attr(test, schemars(range(min = 1)))]
        attempt: u32,
    },
    /// That attempt failed.
    ReconnectError {
        /// Which one, from 1.
        #[cfg_attr(test, schemars(range(min = 1)))]
        attempt: u32,
        /// Why.
        message: &'a str,
    },
    /// The transport is up again; `connect` follows.
    Reconnect {
        /// The attempt that did it, from 1.
        #[cfg_attr(test, schemars(range(min = 1)))]
        attempt: u32,
    },
    /// No attempt of `reconnection_attempts` is left.
    ReconnectFailed {
        /// How many there were.
        attempts: u32,
    },
    /// The session moved from polling to WebSocket.
    Upgrade {
        /// The new transport.
        transport: TransportKind,
    },
    /// The script of `on_connect` went through.
    Ready {},
    /// A step of the script of `on_connect` failed; the connection leaves.
    SetupFailed {
        /// Which one, from 0.
        step: usize,
        /// Why.
        message: &'a str,
        /// The arguments of the server's answer, where that was the wrong one.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, schemars(with = "Vec<serde_json::Value>"))]
        answer: Option<Box<RawValue>>,
    },
    /// The connection was added to the daemon.
    Opened {
        /// By whom.
        by: By,
    },
    /// The connection was removed from the daemon.
    Closed {
        /// By whom.
        by: By,
    },
}

/// A [`Details`] as consumers read it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Details"))]
pub(crate) struct DetailsView<'a> {
    /// What happened, for people.
    message: &'a str,
    /// The code of the WebSocket's close, or the status of the HTTP answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

impl<'a> From<&'a Details> for DetailsView<'a> {
    fn from(details: &'a Details) -> Self {
        Self { message: &details.message, code: details.code }
    }
}

impl Change<'_> {
    /// As consumers read it.
    fn name(&self) -> &'static str {
        match self {
            Self::Upstream(lifecycle) => lifecycle.name(),
            Self::Opened(_) => "opened",
            Self::Closed(_) => "closed",
        }
    }
}

impl<'a> Members<'a> {
    fn of(change: &'a Change<'a>) -> Self {
        let lifecycle = match change {
            Change::Opened(by) => return Self::Opened { by: *by },
            Change::Closed(by) => return Self::Closed { by: *by },
            Change::Upstream(lifecycle) => lifecycle,
        };
        match lifecycle {
            Lifecycle::Connect { id, recovered, transport } => {
                Self::Connect { id, recovered: *recovered, transport: *transport }
            }
            Lifecycle::ConnectError { details, data, source } => Self::ConnectError {
                message: &details.message,
                phase: details.phase,
                description: details.description.as_deref(),
                hint: details.hint.as_deref(),
                code: details.code,
                data: data.as_deref().and_then(|data| serde_json::from_str(data).ok()),
                source: *source,
            },
            Lifecycle::Ready => Self::Ready {},
            Lifecycle::SetupFailed { step, message, answer } => {
                Self::SetupFailed { step: *step, message, answer: answer.as_ref().and_then(array) }
            }
            Lifecycle::Disconnect { reason, details } => {
                Self::Disconnect { reason: reason.as_str(), details: details.as_ref().map(DetailsView::from) }
            }
            Lifecycle::ReconnectAttempt { attempt } => Self::ReconnectAttempt { attempt: *attempt },
            Lifecycle::Reconnect { attempt } => Self::Reconnect { attempt: *attempt },
            Lifecycle::ReconnectError { attempt, message } => {
                Self::ReconnectError { attempt: *attempt, message }
            }
            Lifecycle::ReconnectFailed { attempts } => Self::ReconnectFailed { attempts: *attempts },
            Lifecycle::Upgrade { transport } => Self::Upgrade { transport: *transport },
        }
    }
}

/// Arguments as JSON text.
fn array(args: &Args) -> Option<Box<RawValue>> {
    let mut text = Vec::new();
    args.write_array(&mut text);
    RawValue::from_string(String::from_utf8(text).ok()?).ok()
}

/// Adds `"event":"…"` and the other members; gives the place of the name.
fn put_members(out: &mut BytesMut, change: &Change<'_>) -> Range<usize> {
    const EVENT: &str = r#""event":"#;
    let text = serde_json::to_vec(&Members::of(change)).unwrap_or_default();
    let start = out.len() + EVENT.len();
    out.put_slice(text.get(1..text.len().saturating_sub(1)).unwrap_or_default());
    // None of the names has a character that JSON escapes.
    start..start + change.name().len() + 2
}

fn put_event(out: &mut BytesMut, name: NameView<'_>, args: ArgsView<'_>) -> Range<usize> {
    let start = out.len();
    name.write_string(out);
    let range = start..out.len();
    put_args(out, args);
    range
}

fn put_args(out: &mut BytesMut, args: ArgsView<'_>) {
    out.put_slice(br#","args":"#);
    args.write_array(out);
    if args.has_binary() {
        out.put_slice(br#","binary":true"#);
    }
}

fn put_json(out: &mut BytesMut, value: impl Serialize) {
    // Writing into memory cannot fail, nor can what is written here.
    let _ = serde_json::to_writer(out.writer(), &value);
}

fn put_number(out: &mut impl BufMut, number: u64) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The lines that are put together by hand, described for the JSON Schema. What describes them here is compared with
/// what is written wherever a test reads a line of the daemon.
#[cfg(test)]
#[allow(dead_code, reason = "types that nobody makes")]
pub(crate) mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde_json::Value;

    use super::Time;
    use crate::engineio::CloseReason;
    use crate::socketio::DisconnectReason;

    /// The server emitted an event.
    #[derive(JsonSchema)]
    pub(crate) struct EventParams {
        /// The connection's name.
        connection: String,
        /// The line's number: one more than that of the connection's line before, events and lifecycle together. From 1,
        /// and with a meaning only beside `stream`.
        #[schemars(range(min = 1))]
        seq: u64,
        /// The event's name.
        event: String,
        /// Its arguments, the server's to the byte save white space between tokens. Where `binary` is true, attachments
        /// stand in them as `{"$binary":"<standard base64, padded>"}`.
        args: Vec<Value>,
        /// There when `args` has attachments.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(extend("const" = true))]
        binary: Option<bool>,
        /// There when the server wants an answer: the number that the method `ack` takes. Never used twice for one
        /// connection.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1))]
        ack: Option<u64>,
    }

    /// A program emitted an event. For subscriptions with `outgoing`; it has no number and is never replayed.
    #[derive(JsonSchema)]
    pub(crate) struct OutgoingParams {
        /// The connection's name.
        connection: String,
        /// The event's name.
        event: String,
        /// Its arguments as they go to the server.
        args: Vec<Value>,
        /// There when `args` has attachments.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(extend("const" = true))]
        binary: Option<bool>,
        /// The name of who emitted it, as `hello` and `status` give it.
        consumer: String,
    }

    /// What all lifecycle events have.
    #[derive(JsonSchema)]
    pub(crate) struct Common {
        /// The connection's name.
        connection: String,
        /// The line's number, one more than that of the connection's line before, events and lifecycle together. From 1.
        #[schemars(range(min = 1))]
        seq: u64,
        /// The connection is up, or will come up by itself; where it is false, that takes the method `connect`.
        active: bool,
        /// When it happened.
        time: Time,
    }

    /// This program was too slow, and lines are gone.
    #[derive(JsonSchema)]
    pub(crate) struct LaggedParams {
        /// The connection's name.
        connection: String,
        /// How many lines are gone, whether they would have matched or not.
        #[schemars(range(min = 1))]
        missed: u64,
        /// The oldest line that is still there, with which it goes on.
        #[schemars(range(min = 1))]
        next_seq: u64,
    }

    impl JsonSchema for Time {
        fn schema_name() -> Cow<'static, str> {
            "Time".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "A moment: RFC 3339, UTC, milliseconds.",
                "type": "string",
                "format": "date-time",
                "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
            })
        }
    }

    /// A [`DisconnectReason`] as it is written.
    pub(crate) struct Reason;

    impl JsonSchema for Reason {
        fn schema_name() -> Cow<'static, str> {
            "DisconnectReason".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            let reasons = [
                DisconnectReason::ServerDisconnect,
                DisconnectReason::ClientDisconnect,
                DisconnectReason::ParseError,
                DisconnectReason::Closed(CloseReason::PingTimeout),
                DisconnectReason::Closed(CloseReason::TransportClose),
                DisconnectReason::Closed(CloseReason::TransportError),
            ];
            json_schema!({
                "description": "Why a connection is no longer joined, in the words of the official client.",
                "type": "string",
                "enum": reasons.map(DisconnectReason::as_str),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_line_is_the_same_whatever_came_before() {
        let encoder = Encoder::new("a");
        let args = Args::from_array("[1]".into()).unwrap();
        let long = Name::new(&"n".repeat(100_000));
        let names = [r#""b""#, r#""b""#, "7", "7", "1e3", r#""7""#, r#""7""#, r#""\u0062""#, r#""\u0062""#];
        let names: Vec<Name> =
            names.into_iter().map(|name| Name::from_json(name).unwrap()).chain([long]).collect();
        let mut head = Head::default();
        for seq in
            [1, 2, 3, 8, 9, 10, 11, 98, 99, 100, 199, 200, 1999, 2000, 2000, 2001, 5, u64::MAX - 1, u64::MAX]
        {
            for name in names.iter().chain(&names[..2]) {
                for seq in [seq, seq.saturating_add(1)] {
                    let mut out = BytesMut::from("before\n");
                    let place = encoder.event(&mut head, &mut out, seq, name.view(), args.view(), None);
                    let mut fresh = BytesMut::from("before\n");
                    encoder.event(&mut Head::default(), &mut fresh, seq, name.view(), args.view(), None);
                    let mut string = Vec::new();
                    name.view().write_string(&mut string);
                    let line = format!(
                        r#"{{"jsonrpc":"2.0","method":"event","params":{{"connection":"a","seq":{seq},"event":{},"args":[1]}}}}"#,
                        String::from_utf8_lossy(&string)
                    );
                    assert_eq!(String::from_utf8_lossy(&out), format!("before\n{line}\n"));
                    assert_eq!(out, fresh);
                    assert_eq!(out[place], string);
                }
            }
        }
        assert!(head.text.capacity() <= 2 * USUAL_HEAD);
    }

    #[test]
    fn a_lifecycle_line_knows_the_place_of_its_name() {
        let encoder = Encoder::new("a \"b\"");
        let lifecycle = |attempt| Lifecycle::Reconnect { attempt };
        let upstream = [lifecycle(7), Lifecycle::Ready, Lifecycle::ReconnectFailed { attempts: 2 }];
        let changes = upstream.iter().map(Change::Upstream);
        for (change, members) in
            changes.chain([Change::Opened(By::Config), Change::Closed(By::Consumer)]).zip([
                r#""event":"reconnect","attempt":7"#,
                r#""event":"ready""#,
                r#""event":"reconnect_failed","attempts":2"#,
                r#""event":"opened","by":"config""#,
                r#""event":"closed","by":"consumer""#,
            ])
        {
            let mut out = BytesMut::from("before\n");
            let name = encoder.lifecycle(&mut out, 5, &change, true, Time::now());
            let line = std::str::from_utf8(&out).unwrap();
            let start = r#"{"jsonrpc":"2.0","method":"lifecycle","params":{"connection":"a \"b\"","seq":5,"#;
            assert!(line.contains(&format!("\n{start}{members},\"active\":true,\"time\":\"")), "{line}");
            assert_eq!(line[name], format!("{:?}", change.name()));
        }
    }
}
