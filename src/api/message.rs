//! Requests as they are read, errors and answers as they are written. Pure.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::hub::Lag;
use crate::json;

/// The version of the contract.
pub const API_VERSION: u32 = 1;

/// Bytes of a request's id as it is written; it is kept as long as its answer is waited for.
pub const MAX_ID: usize = 1024;

/// What went wrong, for programs (JSON-RPC 2.0 section 5.1, and our own from -32000 on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Deserialize, schemars::JsonSchema), serde(rename_all = "snake_case"))]
pub enum ErrorKind {
    /// Not JSON, or not UTF-8.
    ParseError,
    /// JSON that is no request.
    InvalidRequest,
    /// A line beyond `max_line`.
    TooLarge,
    /// No such method.
    UnknownMethod,
    /// Parameters that the method does not take.
    InvalidParams,
    /// A defect of the daemon.
    Internal,
    /// No connection of that name.
    UnknownConnection,
    /// No subscription of that number.
    UnknownSubscription,
    /// No room for one more that waits; no event was sent.
    BufferFull,
    /// The answer did not come in time.
    AckTimeout,
    /// The answer will not come.
    Disconnected,
    /// A name that applications may not emit.
    ReservedEvent,
    /// Not with this role.
    Forbidden,
    /// Another connection has this name.
    ConnectionExists,
    /// Nobody waits for this answer.
    UnknownAck,
    /// It did not come to be connected.
    ConnectFailed,
    /// The daemon ends.
    ShuttingDown,
    /// A configuration that does not load.
    InvalidConfig,
    /// The answer came, and the program was too slow for it.
    AnswerLost,
}

impl ErrorKind {
    /// The number and the word.
    pub fn code(self) -> (i32, &'static str) {
        match self {
            Self::ParseError => (-32700, "parse_error"),
            Self::InvalidRequest => (-32600, "invalid_request"),
            Self::TooLarge => (-32600, "too_large"),
            Self::UnknownMethod => (-32601, "unknown_method"),
            Self::InvalidParams => (-32602, "invalid_params"),
            Self::Internal => (-32603, "internal"),
            Self::UnknownConnection => (-32000, "unknown_connection"),
            Self::UnknownSubscription => (-32001, "unknown_subscription"),
            Self::BufferFull => (-32002, "buffer_full"),
            Self::AckTimeout => (-32003, "ack_timeout"),
            Self::Disconnected => (-32004, "disconnected"),
            Self::ReservedEvent => (-32005, "reserved_event"),
            Self::Forbidden => (-32006, "forbidden"),
            Self::ConnectionExists => (-32007, "connection_exists"),
            Self::UnknownAck => (-32008, "unknown_ack"),
            Self::ConnectFailed => (-32009, "connect_failed"),
            Self::ShuttingDown => (-32010, "shutting_down"),
            Self::InvalidConfig => (-32011, "invalid_config"),
            Self::AnswerLost => (-32012, "answer_lost"),
        }
    }
}

/// An error as it is answered.
#[derive(Debug, Clone)]
pub struct Error {
    /// For programs.
    pub kind: ErrorKind,
    /// For people: what was wrong and what to do.
    pub message: String,
    /// What the server said, JSON text.
    pub data: Option<Box<RawValue>>,
}

impl Error {
    /// An error without the server's words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), data: None }
    }
}

impl Serialize for Error {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Data<'a> {
            kind: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a RawValue>,
        }
        #[derive(Serialize)]
        struct View<'a> {
            code: i32,
            message: &'a str,
            data: Data<'a>,
        }
        let (code, kind) = self.kind.code();
        View { code, message: &self.message, data: Data { kind, data: self.data.as_deref() } }
            .serialize(serializer)
    }
}

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    /// The id to the byte; none for a notification.
    pub id: Option<&'a RawValue>,
    /// What is wanted.
    pub method: String,
    /// With what.
    pub params: Option<&'a RawValue>,
}

/// A line that is no request, and the id it had, if one could be read.
#[derive(Debug)]
pub struct Malformed<'a> {
    /// None where the answer has the id null.
    pub id: Option<&'a RawValue>,
    /// It is a notification, and gets no answer.
    pub is_notification: bool,
    /// Why.
    pub error: Error,
}

#[derive(Deserialize)]
struct RawRequest<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
}

/// Keeps `null` apart from what is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Request<'a> {
    /// Reads a line.
    pub fn parse(line: &'a [u8]) -> Result<Self, Malformed<'a>> {
        let anonymous = |kind, message: String| Malformed {
            id: None,
            is_notification: false,
            error: Error::new(kind, message),
        };
        let text = std::str::from_utf8(line)
            .map_err(|error| anonymous(ErrorKind::ParseError, format!("the line is not UTF-8: {error}")))?;
        // Members would also be taken from an array, by their places.
        let is_object = text.trim_ascii_start().starts_with('{');
        let read =
            if is_object { serde_json::from_str::<RawRequest<'_>>(text).map_err(Some) } else { Err(None) };
        let raw = read.map_err(|error| {
            // A line that is JSON after all is a wrong request rather than a wrong line.
            let invalid = |message: String| anonymous(ErrorKind::InvalidRequest, message);
            match (serde_json::from_str::<&RawValue>(text), error) {
                (Err(syntax), _) => {
                    anonymous(ErrorKind::ParseError, format!("the line is not JSON: {syntax}"))
                }
                (Ok(value), _) if value.get().starts_with('[') => invalid(
                    "batches are not taken; send one request a line, as many as you like without waiting"
                        .into(),
                ),
                (Ok(_), None) => invalid("a request is a JSON object".into()),
                (Ok(_), Some(error)) => invalid(error.to_string()),
            }
        })?;
        let id = match raw.id {
            Some(id) if !is_id(id) => {
                let message = "id must be a string, a number or null".to_owned();
                return Err(anonymous(ErrorKind::InvalidRequest, message));
            }
            Some(id) if id.get().len() > MAX_ID => {
                let message = format!("id may have {MAX_ID} bytes at the most, as it is written");
                return Err(anonymous(ErrorKind::InvalidRequest, message));
            }
            id => id,
        };
        let method = raw.method.and_then(|method| json::unquote(method.get()));
        let refuse = |message: String| Malformed {
            id,
            is_notification: id.is_none() && method.is_some(),
            error: Error::new(ErrorKind::InvalidRequest, message),
        };
        if json::too_deep(line) {
            let message = format!("the request is nested deeper than {} levels", json::MAX_DEPTH);
            return Err(refuse(message));
        }
        if raw.jsonrpc.is_some_and(|version| json::unquote(version.get()).as_deref() != Some("2.0")) {
            return Err(refuse("jsonrpc must be \"2.0\", or be left out".into()));
        }
        match (&method, raw.method) {
            (Some(method), _) => Ok(Self { id, method: method.to_string(), params: raw.params }),
            (None, Some(_)) => Err(refuse("method must be a string".into())),
            (None, None) => Err(refuse("method is missing".into())),
        }
    }

    /// Its parameters as the method takes them; a member that it does not know is an error that names it.
    pub fn params<T: Deserialize<'a>>(&self) -> Result<T, Error> {
        let text = self.params.map_or("{}", RawValue::get);
        if !text.starts_with('{') {
            return Err(Error::new(ErrorKind::InvalidParams, "params must be an object"));
        }
        serde_json::from_str(text).map_err(|error| invalid_params(self.method.as_str(), text, &error))
    }
}

/// The members of an object as they stand there, also those that are there twice.
pub struct Members<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Taken;
        impl<'de> Visitor<'de> for Taken {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Taken)
    }
}

/// The member of these params in whose value this many bytes from the start lie.
fn member_at(params: &str, at: usize) -> Option<String> {
    let Members(members) = serde_json::from_str(params).ok()?;
    let holds = |value: &RawValue| {
        let start = value.get().as_ptr().addr() - params.as_ptr().addr();
        (start..=start + value.get().len()).contains(&at)
    };
    members.into_iter().find(|(_, value)| holds(value)).map(|(name, _)| name)
}

fn is_id(id: &RawValue) -> bool {
    matches!(id.get().as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')) || id.get() == "null"
}

fn invalid_params(method: &str, params: &str, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    // The place is one within params, which tells a person less than the member's name.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    // Who reads this need not know the names of Rust's types.
    let text = match text.strip_suffix("expected u64") {
        Some(found) => format!("{found}expected a whole number"),
        None => text.to_owned(),
    };
    let member = member_at(params, error.column()).map(|name| format!("{name}: ")).unwrap_or_default();
    Error::new(ErrorKind::InvalidParams, format!("params of {method}: {member}{text}"))
}

/// `hello`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// What the program calls itself, for `status` to show. Default nothing.
    pub client: Option<String>,
    /// What is to happen when it is too slow. Default `api.lag` of the configuration.
    pub lag: Option<Lag>,
}

/// Methods without parameters.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// `status`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The name of the one connection to show. Default all.
    pub connection: Option<String>,
}

/// `subscribe`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// A name or a pattern, in which `*` is any text and `?` any character. Default `*`.
    pub connection: Option<String>,
    /// Patterns of event names; an empty array for none. Default all.
    pub events: Option<Vec<String>>,
    /// Which lifecycle events. Default all.
    pub lifecycle: Option<Lifecycle>,
    /// Also what programs emit, filtered by `events`.
    #[serde(default)]
    pub outgoing: bool,
    /// First the last line of each event that the connection's option `sticky` names.
    #[serde(default)]
    pub sticky: bool,
    /// First the last so many retained lines of each connection that match. Default 0.
    pub last: Option<u64>,
    /// First everything retained after this place; `connection` has to be one plain name.
    #[serde(default, deserialize_with = "object")]
    pub after: Option<After>,
}

/// The filter of lifecycle events.
#[derive(Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// All or none.
    All(bool),
    /// These.
    Names(Vec<String>),
}

/// As the official client's page spells one of them in one place, and its name.
pub const OTHER_SPELLING: (&str, &str) = ("reconnection_attempt", "reconnect_attempt");

/// All lifecycle events.
pub const LIFECYCLE: [&str; 12] = [
    "connect",
    "connect_error",
    "disconnect",
    "reconnect_attempt",
    "reconnect_error",
    "reconnect",
    "reconnect_failed",
    "upgrade",
    "ready",
    "setup_failed",
    "opened",
    "closed",
];

impl<'de> Deserialize<'de> for Lifecycle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Lifecycle;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("lifecycle as true, false or an array of names")
            }
            fn visit_bool<E>(self, all: bool) -> Result<Lifecycle, E> {
                Ok(Lifecycle::All(all))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Lifecycle, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Lifecycle::Names(names))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A JSON object, or null for none; members would also be taken from an array, by their places.
fn object<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    use serde::de::Error as _;
    let text = Option::<&RawValue>::deserialize(deserializer)?;
    let Some(text) = text else { return Ok(None) };
    if !text.get().starts_with('{') {
        return Err(D::Error::custom("after must be an object like {\"stream\":\"…\",\"seq\":41}"));
    }
    serde_json::from_str(text.get()).map(Some).map_err(D::Error::custom)
}

/// A place in a connection's notifications.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct After {
    /// The run of the daemon that gave the number, as `hello`, `subscribe` and snapshots name it.
    pub stream: String,
    /// The number of the last line that is known.
    pub seq: u64,
}

/// `unsubscribe`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe {
    /// The number that `subscribe` gave.
    pub subscription: u64,
}

/// `emit`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Emit<'a> {
    /// The connection's name.
    pub connection: String,
    /// The event's name; the reserved ones cannot be emitted.
    #[cfg_attr(test, schemars(extend("not" = { "enum": crate::socketio::RESERVED })))]
    pub event: String,
    /// Its arguments, which go out to the byte save white space between tokens. Default none.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<Vec<serde_json::Value>>"))]
    pub args: Option<&'a RawValue>,
    /// Wait for the server's answer, which is the result.
    #[serde(default)]
    pub ack: bool,
    /// How many milliseconds to wait for it; 0 is at once. Default `ack_timeout` of the connection, else no limit.
    pub timeout: Option<u64>,
    /// Drop it rather than let it wait.
    #[serde(default)]
    pub volatile: bool,
    /// Each `{"$binary":"<standard base64, padded>"}` in `args` becomes an attachment.
    #[serde(default)]
    pub binary: bool,
    /// Without effect while no transport compresses; taken as the official client takes it. Default true.
    pub compress: Option<bool>,
}

/// `ack`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Ack<'a> {
    /// The connection's name.
    pub connection: String,
    /// The number that came with the event.
    pub ack: u64,
    /// The arguments of the answer. Default none.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<Vec<serde_json::Value>>"))]
    pub args: Option<&'a RawValue>,
    /// Each `{"$binary":"<standard base64, padded>"}` in `args` becomes an attachment.
    #[serde(default)]
    pub binary: bool,
}

/// `connect`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Connect<'a> {
    /// The connection's name.
    pub connection: String,
    /// The auth object from now on, as with `set_auth`. Default: it stays as it is.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Map<String, serde_json::Value>>"))]
    pub auth: Option<&'a RawValue>,
    /// Answer when it is connected, or after so many milliseconds. Default at once.
    pub wait: Option<u64>,
}

/// `disconnect` and `close`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// The connection's name.
    pub connection: String,
}

/// `set_auth`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetAuth<'a> {
    /// The connection's name.
    pub connection: String,
    /// The auth object from the next CONNECT on, instead of what is configured; null for none.
    #[serde(borrow)]
    #[cfg_attr(test, schemars(with = "serde_json::Map<String, serde_json::Value>", extend("type" = ["object", "null"])))]
    pub auth: &'a RawValue,
}

/// What is read by hand, described for the JSON Schema.
#[cfg(test)]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{LIFECYCLE, Lifecycle, OTHER_SPELLING};

    impl JsonSchema for Lifecycle {
        fn schema_name() -> Cow<'static, str> {
            "LifecycleFilter".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            let names: Vec<_> = LIFECYCLE.iter().chain([&OTHER_SPELLING.0]).collect();
            json_schema!({
                "description": "All lifecycle events (true), none (false), or those that are named; \
                                reconnection_attempt is taken for reconnect_attempt.",
                "type": ["boolean", "array"],
                "items": { "type": "string", "enum": names },
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: for<'a> Deserialize<'a>>(params: &str) -> String {
        let line = format!(r#"{{"id":1,"method":"m","params":{params}}}"#);
        let request = Request::parse(line.as_bytes()).unwrap_or_else(|_| panic!("no request: {line}"));
        request.params::<T>().err().map(|error| error.message).unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_with_a_member_is_said_with_its_name() {
        for (params, message) in [
            (r#"{"connection":5}"#, "connection: invalid type: integer `5`, expected a string"),
            (r#"{"last":1, "connection" : [1] }"#, "connection: invalid type: sequence, expected a string"),
            (r#"{"connection":"a","last":-1}"#, "last: invalid value: integer `-1`, expected a whole number"),
            (
                r#"{"last":1.5,"connection":"a"}"#,
                "last: invalid type: floating point `1.5`, expected a whole number",
            ),
            (r#"{"sticky":null}"#, "sticky: invalid type: null, expected a boolean"),
            (r#"{"events":["a",1]}"#, "events: invalid type: integer `1`, expected a string"),
            (r#"{"after":{"stream":"s"}}"#, "after: missing field `seq`"),
            (
                r#"{"after":{"stream":"s","seq":1,"x":1}}"#,
                "after: unknown field `x`, expected `stream` or `seq`",
            ),
        ] {
            assert_eq!(said::<Subscribe>(params), format!("params of m: {message}"), "{params}");
        }
        // These are about no value.
        assert_eq!(said::<Named>("{}"), "params of m: missing field `connection`");
        let unknown = "params of m: unknown field `x`, expected `connection`";
        assert_eq!(said::<Named>(r#"{"connection":"a","x":1}"#), unknown);
        let twice = "params of m: duplicate field `connection`";
        assert_eq!(said::<Named>(r#"{"connection":"a","connection":"b"}"#), twice);
    }
}
