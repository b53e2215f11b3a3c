//! What the methods take. Nothing is checked here that the daemon checks, save what could not be written as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::positions::Position;

/// Params of `hello`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Hello {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<Lag>,
}

impl Hello {
    /// Introduces the program by this name, which `siod status` shows.
    pub fn new(client: impl Into<String>) -> Self {
        Self { client: Some(client.into()), lag: None }
    }

    /// What is to happen when this program is too slow; else the daemon's configuration says it.
    #[must_use]
    pub fn lag(self, lag: Lag) -> Self {
        Self { lag: Some(lag), ..self }
    }
}

/// What happens to a program that is too slow to hear everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lag {
    /// It is told how much it missed, and goes on.
    Skip,
    /// It is told `goodbye`.
    Disconnect,
}

/// Params of `subscribe`: what a program wants to hear. Everything, unless it is narrowed down.
#[derive(Clone, Debug, Serialize)]
pub struct Subscribe {
    pub(super) connection: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifecycle: Option<LifecycleFilter>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    outgoing: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) sticky: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Position>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum LifecycleFilter {
    All(bool),
    Names(Vec<String>),
}

impl Subscribe {
    /// To a connection, or to all whose names match a pattern with `*` and `?`.
    pub fn to(connection: impl Into<String>) -> Self {
        Self {
            connection: connection.into(),
            events: None,
            lifecycle: None,
            outgoing: false,
            sticky: false,
            last: None,
            after: None,
        }
    }

    /// Only these events: names, or patterns. None if there are none.
    #[must_use]
    pub fn events<S: Into<String>>(self, patterns: impl IntoIterator<Item = S>) -> Self {
        Self { events: Some(patterns.into_iter().map(Into::into).collect()), ..self }
    }

    /// Only these lifecycle events.
    #[must_use]
    pub fn lifecycle<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self { lifecycle: Some(LifecycleFilter::Names(names)), ..self }
    }

    /// Only events, not what happens to the connection.
    #[must_use]
    pub fn without_lifecycle(self) -> Self {
        Self { lifecycle: Some(LifecycleFilter::All(false)), ..self }
    }

    /// Also what programs emit.
    #[must_use]
    pub fn outgoing(self) -> Self {
        Self { outgoing: true, ..self }
    }

    /// First the last line of each event that the connection's option `sticky` names.
    #[must_use]
    pub fn sticky(self) -> Self {
        Self { sticky: true, ..self }
    }

    /// First up to so many retained notifications of each connection.
    #[must_use]
    pub fn last(self, count: u64) -> Self {
        Self { last: Some(count), ..self }
    }

    /// First everything retained after this place; needs one plain name as connection.
    #[must_use]
    pub fn after(self, position: Position) -> Self {
        Self { after: Some(position), ..self }
    }

    /// Whether this is one name rather than a pattern.
    pub(super) fn is_plain(&self) -> bool {
        !self.connection.contains(['*', '?'])
    }
}

/// Params of `emit`.
///
/// Arguments are anything that becomes a JSON array: a tuple `("hi", 1)`, an array, a slice, a `Vec`; raw JSON of
/// `serde_json` goes out to the byte.
#[derive(Clone, Debug, Serialize)]
pub struct Emit<'a> {
    connection: &'a str,
    event: &'a str,
    args: Json,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ack: bool,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    timeout: Option<Duration>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    volatile: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    binary: bool,
}

impl<'a> Emit<'a> {
    /// An event without arguments.
    pub fn new(connection: &'a str, event: &'a str) -> Self {
        let args = Json::args(&());
        Self { connection, event, args, ack: false, timeout: None, volatile: false, binary: false }
    }

    /// With these arguments.
    #[must_use]
    pub fn args(self, args: impl Serialize) -> Self {
        Self { args: Json::args(&args), ..self }
    }

    /// How long the server may take to answer; else the connection's `ack_timeout` holds. Only for
    /// [`Client::ask`](super::Client::ask), and for connections with `retries`.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Drops it rather than lets it wait.
    #[must_use]
    pub fn volatile(self) -> Self {
        Self { volatile: true, ..self }
    }

    /// Each `{"$binary":"<base64>"}` in the arguments is an attachment.
    #[must_use]
    pub fn binary(self) -> Self {
        Self { binary: true, ..self }
    }

    /// Asks for the server's answer. For [`Client::request`](super::Client::request);
    /// [`Client::ask`](super::Client::ask) does so by itself.
    #[must_use]
    pub fn ack(self) -> Self {
        Self { ack: true, ..self }
    }

    pub(super) fn without_ack(self) -> Self {
        Self { ack: false, ..self }
    }
}

/// Params of `ack`: the answer to an event that wants one. [`Event::answer`](super::Event::answer) begins it.
#[derive(Clone, Debug, Serialize)]
pub struct Ack<'a> {
    connection: &'a str,
    #[serde(rename = "ack")]
    number: u64,
    args: Json,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    binary: bool,
}

impl<'a> Ack<'a> {
    /// The answer, without arguments, to the event that came with this number as `ack`.
    pub fn new(connection: &'a str, number: u64) -> Self {
        Self { connection, number, args: Json::args(&()), binary: false }
    }

    /// With these arguments, as for [`Emit`].
    #[must_use]
    pub fn args(self, args: impl Serialize) -> Self {
        Self { args: Json::args(&args), ..self }
    }

    /// Each `{"$binary":"<base64>"}` in the arguments is an attachment.
    #[must_use]
    pub fn binary(self) -> Self {
        Self { binary: true, ..self }
    }
}

/// Params of `connect`.
#[derive(Clone, Debug, Serialize)]
pub struct Connect<'a> {
    connection: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    wait: Option<Duration>,
}

impl<'a> Connect<'a> {
    /// Starts it, and waits for nothing.
    pub fn new(connection: &'a str) -> Self {
        Self { connection, auth: None, wait: None }
    }

    /// Who we are from now on: what becomes a JSON object, or null for nobody.
    #[must_use]
    pub fn auth(self, auth: impl Serialize) -> Self {
        Self { auth: Some(Json::of(&auth)), ..self }
    }

    /// Waits so long until it is up.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }
}

/// Params of `open`.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Open {
    #[serde(skip)]
    name: String,
    options: BTreeMap<String, Json>,
}

impl Open {
    /// A connection of this name to this URL, whose path is the namespace.
    pub fn new(name: &str, url: &str) -> Self {
        Self { name: name.to_owned(), options: BTreeMap::new() }.option("name", name).option("url", url)
    }

    /// The connection's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Any option that a connection has in the configuration, spelt the same; an object for a table.
    #[must_use]
    pub fn option(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        self.options.insert(key.into(), Json::of(&value));
        self
    }

    /// Who we are: what becomes a JSON object.
    #[must_use]
    pub fn auth(self, auth: impl Serialize) -> Self {
        self.option("auth", auth)
    }

    /// It lasts until it is closed, rather than as long as this attachment.
    #[must_use]
    pub fn persist(self) -> Self {
        self.option("persist", true)
    }
}

/// Params that name a connection and nothing else.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Named<'a> {
    pub(super) connection: &'a str,
}

/// Params of `set_auth`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SetAuth<'a> {
    connection: &'a str,
    auth: Json,
}

impl<'a> SetAuth<'a> {
    pub(super) fn new(connection: &'a str, auth: impl Serialize) -> Self {
        Self { connection, auth: Json::of(&auth) }
    }
}

/// Params of methods that take none.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Nothing {}

/// JSON text, or why there is none, which comes to light when the request is written.
#[derive(Clone)]
struct Json(Result<Box<RawValue>, String>);

impl Json {
    fn of(value: &(impl Serialize + ?Sized)) -> Self {
        Self(to_raw_value(value).map_err(|error| error.to_string()))
    }

    /// An array; nothing is an empty one.
    fn args(value: &(impl Serialize + ?Sized)) -> Self {
        let Self(written) = Self::of(value);
        Self(written.and_then(|json| match json.get().as_bytes().first() {
            Some(b'[') => Ok(json),
            Some(b'n') => RawValue::from_string("[]".into()).map_err(|error| error.to_string()),
            _ => Err("arguments are an array: give a tuple, an array or a slice".into()),
        }))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// It may be a secret.
impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Whole milliseconds; what is less than one counts as one, so that only zero is zero.
#[expect(clippy::ref_option, reason = "serde calls it so")]
fn milliseconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let milliseconds = duration.unwrap_or_default().as_nanos().div_ceil(1_000_000);
    serializer.serialize_u64(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(params: impl Serialize, expected: Result<&str, &str>) {
        let written = serde_json::to_string(&params).map_err(|error| error.to_string());
        assert_eq!(written.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn params_are_what_the_api_names() {
        check(Hello::new("door").lag(Lag::Disconnect), Ok(r#"{"client":"door","lag":"disconnect"}"#));
        check(Subscribe::to("chat"), Ok(r#"{"connection":"chat"}"#));
        check(
            Subscribe::to("c*").events(["a", "b?"]).lifecycle(["connect"]).outgoing().sticky().last(3),
            Ok(
                r#"{"connection":"c*","events":["a","b?"],"lifecycle":["connect"],"outgoing":true,"sticky":true,"last":3}"#,
            ),
        );
        check(
            Subscribe::to("chat").without_lifecycle().after(Position::new("s", 4)),
            Ok(r#"{"connection":"chat","lifecycle":false,"after":{"stream":"s","seq":4}}"#),
        );
        check(Emit::new("chat", "m"), Ok(r#"{"connection":"chat","event":"m","args":[]}"#));
        let exact = RawValue::from_string("[1.50]".into()).unwrap();
        check(
            Emit::new("chat", "m")
                .args(&exact)
                .ack()
                .timeout(Duration::from_micros(1500))
                .volatile()
                .binary(),
            Ok(
                r#"{"connection":"chat","event":"m","args":[1.50],"ack":true,"timeout":2,"volatile":true,"binary":true}"#,
            ),
        );
        check(Ack::new("chat", 7).args(("a", 1)), Ok(r#"{"connection":"chat","ack":7,"args":["a",1]}"#));
        check(
            Connect::new("chat").auth(BTreeMap::from([("t", 1)])).wait(Duration::MAX),
            Ok(r#"{"connection":"chat","auth":{"t":1},"wait":18446744073709551615}"#),
        );
        check(
            Open::new("lab", "http://h/").persist().option("upgrade", false),
            Ok(r#"{"name":"lab","persist":true,"upgrade":false,"url":"http://h/"}"#),
        );
        check(SetAuth::new("chat", ()), Ok(r#"{"connection":"chat","auth":null}"#));
    }

    #[test]
    fn what_is_no_json_or_no_array_is_told_when_it_is_written() {
        check(
            Emit::new("chat", "m").args("hi"),
            Err("arguments are an array: give a tuple, an array or a slice"),
        );
        check(Connect::new("chat").auth(BTreeMap::from([((1, 2), 1)])), Err("key must be a string"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let params = format!("{:?}{:?}", Connect::new("c").auth(["abc"]), Open::new("n", "u").auth(["abc"]));
        assert!(!params.contains("abc"), "{params}");
    }
}
