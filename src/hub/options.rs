//! One connection as a file or `open` writes it, and as the program uses it.
//!
//! [`ConnectionOptions`] mirrors what is written: every option may be absent. [`ConnectionOptions::resolve`] lays it
//! over `[defaults]` and the built-in defaults, checks all of it and gives [`ConnectionSettings`], which has nothing
//! left to check. Files that options name are not opened here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

use crate::engineio::TransportKind;
use crate::hub::log;
use crate::hub::quantity::{Duration, Size};
use crate::manager;
use crate::secret::Secret;
use crate::socketio::Parser;
#[cfg(test)]
use crate::socketio::RESERVED;

pub use crate::hub::resolve::{NO_AUTH, OptionError};

/// Everything about one connection; equal settings are the same connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionSettings {
    /// The URL as it may be shown: without user info.
    pub url: String,
    /// The upstream side.
    pub manager: manager::Settings,
    /// The namespace on it.
    pub socket: manager::SocketSettings,
    /// The ring.
    pub history: log::Settings,
    /// Patterns of event names whose last line is kept for late comers.
    pub sticky: Vec<String>,
    /// Connect when the connection is opened.
    pub auto_connect: bool,
    /// Never share the Manager (`force_new`, or `multiplex = false`).
    pub force_new: bool,
}

/// The options of one connection as written, or those of `[defaults]`.
///
/// Names, meaning and defaults are those of socket.io-client, in `snake_case`; an unknown name is an error.
/// `Debug` shows no option, because several can hold secrets.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionOptions {
    /// Where to: `https://host/namespace?query`. The one option that has no default.
    #[cfg_attr(test, schemars(regex(pattern = r"^([Hh][Tt][Tt][Pp]|[Ww][Ss])[Ss]?://")))]
    pub url: Option<String>,
    /// The request path on the server. Default `/socket.io/`.
    #[cfg_attr(test, schemars(regex(pattern = "^/[^?#]*$")))]
    pub path: Option<String>,
    /// End the request path with a slash. Default true.
    pub add_trailing_slash: Option<bool>,
    /// Query parameters of every request; merged by name over `[defaults]`, the URL's own win over both.
    pub query: Option<BTreeMap<String, QueryValue>>,
    /// Headers of every request; merged by name over `[defaults]`.
    pub extra_headers: Option<BTreeMap<String, String>>,
    /// Keep cookies and send them. Default true.
    pub with_credentials: Option<bool>,
    /// Transports in the order in which they are tried. Default WebSocket, then polling.
    #[cfg_attr(test, schemars(length(min = 1), extend("uniqueItems" = true)))]
    pub transports: Option<Vec<TransportKind>>,
    /// Try the next transport when one cannot be opened. Default true.
    pub try_all_transports: Option<bool>,
    /// Move from polling to WebSocket. Default true.
    pub upgrade: Option<bool>,
    /// Start on WebSocket when the last one worked. Default false.
    pub remember_upgrade: Option<bool>,
    /// WebSocket sub-protocols to offer. Default none.
    #[cfg_attr(test, schemars(extend("uniqueItems" = true)))]
    pub protocols: Option<Vec<String>>,
    /// The Engine.IO revision, 4 or 3. Default 4; 3 is for servers before Socket.IO 3.
    #[cfg_attr(test, schemars(extend("enum" = [3, 4, null])))]
    pub engine: Option<u32>,
    /// How packets are written. Default `json`.
    pub parser: Option<Parser>,
    /// Come back after a failure or loss. Default true.
    pub reconnection: Option<bool>,
    /// Attempts before giving up. Default, and 0: no limit.
    pub reconnection_attempts: Option<u32>,
    /// The first delay before an attempt. Default, and 0: 1s.
    pub reconnection_delay: Option<Duration>,
    /// The longest delay before an attempt. Default, and 0: 5s.
    pub reconnection_delay_max: Option<Duration>,
    /// The part of the delay that is random, 0 to 1. Default 0.5.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 1.0)))]
    pub randomization_factor: Option<f64>,
    /// One connection attempt. Default 20s.
    #[cfg_attr(test, schemars(extend("not" = { "const": 0 })))]
    pub timeout: Option<Duration>,
    /// Connect at once. Default true.
    pub auto_connect: Option<bool>,
    /// Never share the Manager. Default false.
    pub force_new: Option<bool>,
    /// Share the Manager where possible. Default true; false says the same as `force_new`.
    pub multiplex: Option<bool>,
    /// Timeout of emits that wait for an answer and name none. Default: none.
    pub ack_timeout: Option<Duration>,
    /// Times that an emit is sent again until it is answered, in strict order. Default 0.
    pub retries: Option<u32>,
    /// After a refusal by the server. Default `manual`.
    pub on_connect_error: Option<OnConnectError>,
    /// After a disconnect by the server. Default `manual`.
    pub on_server_disconnect: Option<OnServerDisconnect>,
    /// Up this long, a connection lets the delay's exponent start over. Default 10s.
    pub stable_after: Option<Duration>,
    /// What may wait while not connected. Default 4MiB.
    pub send_buffer: Option<Size>,
    /// What is remembered for replay.
    pub history: Option<HistoryOptions>,
    /// The largest message taken. Default 16MiB.
    #[cfg_attr(test, schemars(extend("not" = { "const": 0 })))]
    pub max_payload: Option<Size>,
    /// Attachments an emit may have. Default 10, with `msgpack` no limit.
    pub max_attachments: Option<usize>,
    /// TLS to the server.
    pub tls: Option<TlsOptions>,
    /// `http://`, `https://`, `socks5://` (names resolved here) or `socks5h://` (by the proxy), with
    /// `user:password@` where it wants them; or `none`. Default: what the environment says.
    pub proxy: Option<String>,
    /// Reach the server through this Unix socket instead of TCP. Default none.
    pub unix_socket: Option<PathBuf>,
    /// Who we are: an object sent with every CONNECT.
    pub auth: Option<AuthObject>,
    /// Who we are: a file with a JSON object, read at every CONNECT.
    pub auth_file: Option<PathBuf>,
    /// Who we are: a command that prints a JSON object, run at every CONNECT; the program, then its arguments.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub auth_command: Option<Vec<String>>,
    /// A script of emits after every CONNECT, before anything else goes out.
    pub on_connect: Option<Vec<Step>>,
    /// Patterns of event names whose last notification is kept for `subscribe` with `sticky`.
    pub sticky: Option<Vec<String>>,
}

/// Options under `history`.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct HistoryOptions {
    /// Lines at the most. Default 16384.
    #[cfg_attr(test, schemars(range(min = 1, max = 16_777_216)))]
    pub events: Option<usize>,
    /// Bytes at the most. Default 8MiB.
    #[cfg_attr(test, schemars(extend("not" = { "const": 0 })))]
    pub bytes: Option<Size>,
}

/// Options under `tls`.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TlsOptions {
    /// PEM file with authorities trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate chain; goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with our private key; goes with `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Name to ask for and to verify instead of the URL's host.
    pub server_name: Option<String>,
    /// Take any certificate. Default false.
    pub insecure: Option<bool>,
}

/// One step of an `on_connect` script.
#[derive(Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The name of the event to emit.
    #[cfg_attr(test, schemars(extend("not" = { "enum": RESERVED })))]
    pub event: String,
    /// Its arguments. Default none.
    #[serde(default)]
    pub args: Option<Vec<JsonText>>,
    /// A file with its arguments instead, a JSON array, read anew each time.
    #[serde(default)]
    pub args_file: Option<PathBuf>,
    /// What the first argument of the answer must contain: of an object every member named, recursively; all else
    /// must be equal. Default: the answer is not waited for.
    #[serde(default)]
    pub expect: Option<JsonText>,
    /// How long to wait for the answer. Default 10s.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("not" = { "const": 0 })))]
    pub timeout: Option<Duration>,
}

/// What follows a refusal by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnConnectError {
    /// Nothing, until the method `connect`.
    Manual,
    /// Another attempt, no sooner than `reconnection_delay_max` later.
    Retry,
}

/// What follows a disconnect by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnServerDisconnect {
    /// Nothing, until the method `connect`.
    Manual,
    /// Another attempt, no sooner than `reconnection_delay_max` later.
    Reconnect,
}

/// The value of a query parameter as text; whole numbers and booleans may stand without quotes.
#[derive(Clone, PartialEq, Eq)]
pub struct QueryValue(pub String);

impl<'de> Deserialize<'de> for QueryValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl de::Visitor<'_> for Scalar {
            type Value = QueryValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a whole number or a boolean")
            }

            fn visit_str<E>(self, text: &str) -> Result<QueryValue, E> {
                Ok(QueryValue(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<QueryValue, E> {
                Ok(QueryValue(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<QueryValue, E> {
                Ok(QueryValue(number.to_string()))
            }

            fn visit_bool<E>(self, boolean: bool) -> Result<QueryValue, E> {
                Ok(QueryValue(boolean.to_string()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

/// Any JSON value as text without white space between tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonText(pub Secret);

/// A JSON object as text without white space between tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthObject(pub Secret);

impl AuthObject {
    /// From one JSON value, kept to the byte save white space between tokens; none if it is no object.
    pub fn from_json(value: &RawValue) -> Option<Self> {
        value.get().starts_with('{').then(|| Self(without_space(value.get())))
    }
}

#[cfg(test)]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{AuthObject, JsonText, QueryValue};

    impl JsonSchema for QueryValue {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "QueryValue".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "type": ["string", "integer", "boolean"] })
        }
    }

    impl JsonSchema for JsonText {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "JsonText".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            true.into()
        }
    }

    impl JsonSchema for AuthObject {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "AuthObject".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "type": "object" })
        }
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(without_space(value.get())))
    }
}

impl<'de> Deserialize<'de> for AuthObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> de::Visitor<'de> for Object {
            type Value = AuthObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table or JSON object like { token = \"…\" }")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<AuthObject, A::Error> {
                // A table of a file has no text of its own to keep; that of a request does, see `from_json`.
                let map = serde_json::Map::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(AuthObject(serde_json::Value::Object(map).to_string().into()))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl fmt::Debug for ConnectionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionOptions").finish_non_exhaustive()
    }
}

impl ConnectionOptions {
    /// Reads the options that came as members of a JSON object, `auth` kept to the byte.
    ///
    /// Members that are no options must be taken out before; any left is refused.
    pub fn from_members<'a>(
        members: impl IntoIterator<Item = (&'a str, &'a RawValue)>,
    ) -> Result<Self, OptionError> {
        let mut auth = None;
        let mut rest = Vec::new();
        for (name, value) in members {
            match name {
                "auth" if value.get() == "null" => {}
                "auth" => {
                    let object = AuthObject::from_json(value)
                        .ok_or_else(|| OptionError::new("auth", "expected a JSON object"))?;
                    auth = Some(object);
                }
                _ => rest.push((name, value)),
            }
        }
        let members = MapDeserializer::<_, serde_json::Error>::new(rest.into_iter());
        let options: Self = serde_path_to_error::deserialize(members).map_err(|error| {
            let key = error.path().to_string();
            OptionError { message: explain(&key, &error.into_inner().to_string()), key }
        })?;
        Ok(Self { auth, ..options })
    }

    /// An option, if there is one, that lets the daemon run a program, read a file or reach a socket of its own system, and
    /// which of these it does.
    pub fn uses_system(&self) -> Option<(&'static str, &'static str)> {
        const FILE: &str = "reads a file";
        let tls = self.tls.as_ref();
        let steps = self.on_connect.iter().flatten();
        [
            ("auth_command", "runs a program", self.auth_command.is_some()),
            ("auth_file", FILE, self.auth_file.is_some()),
            ("on_connect.args_file", FILE, steps.into_iter().any(|step| step.args_file.is_some())),
            ("tls.ca_file", FILE, tls.is_some_and(|tls| tls.ca_file.is_some())),
            ("tls.cert_file", FILE, tls.is_some_and(|tls| tls.cert_file.is_some())),
            ("tls.key_file", FILE, tls.is_some_and(|tls| tls.key_file.is_some())),
            ("unix_socket", "reaches a local socket", self.unix_socket.is_some()),
        ]
        .into_iter()
        .find_map(|(key, does, named)| named.then_some((key, does)))
    }

    /// Every option that holds a path, with its key, for expansion of variables and for checks.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let tls = self.tls.as_mut().into_iter().flat_map(|tls| {
            [
                ("tls.ca_file", tls.ca_file.as_mut()),
                ("tls.cert_file", tls.cert_file.as_mut()),
                ("tls.key_file", tls.key_file.as_mut()),
            ]
        });
        [("auth_file", self.auth_file.as_mut()), ("unix_socket", self.unix_socket.as_mut())]
            .into_iter()
            .chain(tls)
            .filter_map(|(key, path)| Some((key, path?)))
    }
}

/// Says what serde's message says in this project's words: what was found, what is expected, the nearest known key.
///
/// `key` is the path of the value; what was found under `auth`, `query` and `extra_headers` is not quoted.
pub(crate) fn explain(key: &str, message: &str) -> String {
    // A position within one member of a request means nothing to who wrote the request.
    let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("{} is missing", name.trim_matches('`'));
    }
    let Some((found, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    if let Some(name) = found.strip_prefix("unknown field ") {
        return unknown_key(name.trim_matches('`'), expected);
    }
    let found = found
        .strip_prefix("invalid type: ")
        .or_else(|| found.strip_prefix("invalid value: "))
        .or_else(|| found.strip_prefix("unknown variant "))
        .unwrap_or(found);
    let secret = ["auth", "auth_command", "on_connect", "proxy", "query", "extra_headers", "url"];
    let names_secret = |part: &str| secret.contains(&part.split('[').next().unwrap_or_default());
    let found = match found.split_once(" \"") {
        Some(("string", _)) if key.split('.').any(names_secret) => "a string",
        _ => found,
    };
    let found = match found {
        "sequence" => "an array",
        "map" => "a table",
        _ => found,
    };
    let expected = match expected {
        "u16" | "u32" | "u64" | "usize" | "i64" => "a whole number",
        "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "a table",
        "string or map" => "a string",
        // serde calls a struct's table by the struct's name.
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    };
    format!(
        "found {}, expected {}",
        found.replace('`', ""),
        expected.replace('`', "\"").replace("one of ", "")
    )
}

fn unknown_key(name: &str, known: &str) -> String {
    const FEW: usize = 8;
    // The distance takes the product of both lengths, and whoever writes so much meant none of these.
    const LONGEST: usize = 64;
    let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&name.to_lowercase(), candidate);
    let nearest = known.iter().filter(|_| name.len() <= LONGEST).min_by_key(|candidate| distance(candidate));
    match nearest {
        None if !known.is_empty() => format!("unknown key; known here: {}", known.join(", ")),
        None => "unknown key; none is known here".to_owned(),
        Some(nearest) if distance(nearest) <= 1 + nearest.len() / 4 => {
            format!("unknown key; did you mean {nearest}?")
        }
        Some(_) if known.len() <= FEW => format!("unknown key; known here: {}", known.join(", ")),
        Some(nearest) => format!("unknown key; the nearest known one is {nearest}"),
    }
}

fn without_space(json: &str) -> Secret {
    let (mut quoted, mut escaped) = (false, false);
    let keep = |character: &char| {
        if quoted {
            (quoted, escaped) = match character {
                _ if escaped => (true, false),
                '"' => (false, false),
                '\\' => (true, true),
                _ => (true, false),
            };
            return true;
        }
        quoted = *character == '"';
        !matches!(character, ' ' | '\t' | '\n' | '\r')
    };
    json.chars().filter(keep).collect::<String>().into()
}

/// Whether a connection's name can fit `pattern`, where `*` is any text and `?` any character.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("has an empty pattern, which fits no connection; expected names with * and ?".to_owned());
    }
    match pattern.chars().find(|it| it.is_control() || matches!(it, '[' | ']')) {
        None => Ok(()),
        Some(character) => Err(format!(
            "{pattern:?} fits no connection: only * and ? are special, and no name has {character:?}"
        )),
    }
}

/// Whether `name` may name a connection: 1 to 64 characters, no control characters, none of `* ? [ ]`.
pub fn check_name(name: &str) -> Result<(), String> {
    match name.chars().count() {
        0 => return Err("a connection's name may not be empty".to_owned()),
        1..=64 => {}
        count => {
            return Err(format!("a connection's name has at most 64 characters, this one has {count}"));
        }
    }
    match name.chars().find(|it| it.is_control() || matches!(it, '*' | '?' | '[' | ']')) {
        None => Ok(()),
        Some(character) => Err(format!("a connection's name may not contain {character:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(json: &str) -> Result<ConnectionOptions, String> {
        let members: BTreeMap<&str, &RawValue> = serde_json::from_str(json).unwrap();
        ConnectionOptions::from_members(members).map_err(|error| error.to_string())
    }

    #[test]
    fn names() {
        for name in ["chat", "Ticks", "a.b", "sp ace", "ü", &"x".repeat(64)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for (name, message) in [
            ("", "a connection's name may not be empty"),
            ("a*", "a connection's name may not contain '*'"),
            ("a?", "a connection's name may not contain '?'"),
            ("[a", "a connection's name may not contain '['"),
            ("a]", "a connection's name may not contain ']'"),
            ("a\n", "a connection's name may not contain '\\n'"),
            (&"x".repeat(65), "a connection's name has at most 64 characters, this one has 65"),
        ] {
            assert_eq!(check_name(name), Err(message.to_owned()));
        }
    }

    #[test]
    fn patterns() {
        for pattern in ["*", "chat", "c?t*", "sp ace"] {
            assert_eq!(check_pattern(pattern), Ok(()), "{pattern}");
        }
        for pattern in ["", "chat[12]", "a]", "a\n*"] {
            assert!(check_pattern(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn members_of_a_request() {
        let options =
            members(r#"{"url":"http://h","timeout":"3s","history":{"events":5},"query":{"a":1,"b":"x"}}"#);
        let options = options.unwrap();
        assert_eq!(options.timeout, Some(Duration(std::time::Duration::from_secs(3))));
        assert_eq!(options.history.and_then(|history| history.events), Some(5));
        assert_eq!(options.query.unwrap()["a"].0, "1");
    }

    #[test]
    fn auth_is_kept_to_the_byte() {
        let options =
            members("{\"auth\": { \"n\" : 12345678901234567890123,\n \"s\":\"a \\\" b\", \"f\":1.50 } }");
        let auth = options.unwrap().auth.unwrap();
        assert_eq!(auth.0.expose(), r#"{"n":12345678901234567890123,"s":"a \" b","f":1.50}"#);
    }

    #[test]
    fn members_that_are_refused() {
        for (json, message) in [
            (
                r#"{"reconnection_dleay":1}"#,
                "reconnection_dleay: unknown key; did you mean reconnection_delay?",
            ),
            (r#"{"tls":{"insecur":true}}"#, "tls.insecur: unknown key; did you mean insecure?"),
            (r#"{"history":{"zzz":1}}"#, "history.zzz: unknown key; known here: events, bytes"),
            (r#"{"reconnection":1}"#, "reconnection: found integer 1, expected a boolean"),
            (
                r#"{"reconnection_attempts":5.7}"#,
                "reconnection_attempts: found floating point 5.7, expected a whole number",
            ),
            (
                r#"{"reconnection_attempts":"5"}"#,
                "reconnection_attempts: found string \"5\", expected a whole number",
            ),
            (
                r#"{"reconnection_attempts":-1}"#,
                "reconnection_attempts: found integer -1, expected a whole number",
            ),
            (r#"{"url":5}"#, "url: found integer 5, expected a string"),
            (
                r#"{"transports":["webtransport"]}"#,
                "transports[0]: found webtransport, expected \"polling\" or \"websocket\"",
            ),
            (
                r#"{"query":{"k":["s3cret"]}}"#,
                "query.k: found an array, expected a string, a whole number or a boolean",
            ),
            (r#"{"extra_headers":"s3cret"}"#, "extra_headers: found a string, expected a table"),
            (r#"{"auth":"s3cret"}"#, "auth: expected a JSON object"),
            (r#"{"auth_command":"curl -u me:s3cret"}"#, "auth_command: found a string, expected an array"),
            (
                r#"{"on_connect":[{"event":"login","args":"s3cret"}]}"#,
                "on_connect[0].args: found a string, expected an array",
            ),
            (
                r#"{"timeout":"soon"}"#,
                "timeout: found string \"soon\", expected a duration like \"5s\" or whole milliseconds, at most 365 days",
            ),
        ] {
            assert_eq!(members(json).err(), Some(message.to_owned()), "{json}");
        }
        // To one that nobody can have meant, no nearest is looked for.
        let error = members(&format!(r#"{{"{}":1}}"#, "x".repeat(65))).unwrap_err();
        assert!(
            error.contains("unknown key; known here: ") && error.contains(", reconnection_delay, "),
            "{error}"
        );
    }

    #[test]
    fn debug_shows_nothing() {
        let options = members(r#"{"auth":{"token":"s3cret"},"url":"http://a:s3cret@h"}"#).unwrap();
        assert_eq!(format!("{options:?}"), "ConnectionOptions { .. }");
    }
}
