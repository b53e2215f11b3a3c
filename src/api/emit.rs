//! The emit that nearly all emits are, read in one pass. Pure.
//!
//! What has anything else in it, what is wrong, and what is only written in an unusual way, is left to
//! [`Request`](super::message::Request), whose verdict is the one that counts.

use super::message::MAX_ID;
use crate::json::Reader;

/// A request `emit`, all of it checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PlainEmit<'a> {
    /// The request's id to the byte; none for a notification.
    pub(super) id: Option<&'a str>,
    /// The connection's name.
    pub(super) connection: &'a str,
    /// The event's name, a JSON string without escapes.
    pub(super) event: &'a str,
    /// The arguments, a JSON array.
    pub(super) args: &'a str,
    /// The server's answer is waited for.
    pub(super) ack: bool,
    /// For so many milliseconds.
    pub(super) timeout: Option<u64>,
}

impl<'a> PlainEmit<'a> {
    /// Reads a line; `None` for any other.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(std::str::from_utf8(line).ok()?);
        let (mut version, mut id, mut method, mut params) = (None, None, None, None);
        reader.enter()?;
        while let Some(name) = reader.name()? {
            match name {
                "jsonrpc" => once(&mut version, reader.value().filter(|version| *version == "\"2.0\""))?,
                "id" => once(&mut id, reader.value().filter(|id| is_id(id)))?,
                "method" => once(&mut method, reader.value().filter(|method| *method == "\"emit\""))?,
                "params" => once(&mut params, Params::read(&mut reader))?,
                _ => return None,
            }
        }
        reader.end()?;
        method?;
        let Params { connection, event, args, ack, timeout, .. } = params?;
        let (connection, event) = (connection?, event?);
        let connection = &connection[1..connection.len() - 1];
        let args = args.unwrap_or("[]");
        Some(Self { id, connection, event, args, ack: ack.unwrap_or_default(), timeout })
    }
}

#[derive(Default)]
struct Params<'a> {
    connection: Option<&'a str>,
    event: Option<&'a str>,
    args: Option<&'a str>,
    ack: Option<bool>,
    timeout: Option<u64>,
    volatile: Option<bool>,
    binary: Option<bool>,
}

impl<'a> Params<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        let mut params = Self::default();
        reader.enter()?;
        while let Some(name) = reader.name()? {
            let value = reader.value()?;
            match name {
                "connection" => once(&mut params.connection, plain_string(value))?,
                "event" => once(&mut params.event, plain_string(value))?,
                "args" => once(&mut params.args, Some(value).filter(|args| args.starts_with('[')))?,
                "ack" => once(&mut params.ack, boolean(value))?,
                "timeout" => once(&mut params.timeout, number(value))?,
                "volatile" => once(&mut params.volatile, boolean(value).filter(|volatile| !volatile))?,
                "binary" => once(&mut params.binary, boolean(value).filter(|binary| !binary))?,
                _ => return None,
            }
        }
        Some(params)
    }
}

/// A member that is there once, with such a value.
fn once<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    let value = value?;
    place.replace(value).is_none().then_some(())
}

fn is_id(value: &str) -> bool {
    value.len() <= MAX_ID && matches!(value.as_bytes(), [b'"' | b'-' | b'0'..=b'9', ..])
}

fn plain_string(value: &str) -> Option<&str> {
    let is_plain = value.starts_with('"') && memchr::memchr(b'\\', value.as_bytes()).is_none();
    is_plain.then_some(value)
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn number(value: &str) -> Option<u64> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::api::message::{self, Request};

    /// What the parser with the messages makes of it.
    fn slowly(line: &str) -> Option<(Option<String>, message::Emit<'_>)> {
        let request = Request::parse(line.as_bytes()).ok()?;
        let emit = request.params::<message::Emit<'_>>().ok().filter(|_| request.method == "emit")?;
        Some((request.id.map(|id| id.get().to_owned()), emit))
    }

    /// Whatever is read is what the other parser reads. Gives whether it is read.
    fn agrees(line: &str) -> bool {
        let Some(quick) = PlainEmit::read(line.as_bytes()) else { return false };
        let (id, emit) = slowly(line).unwrap_or_else(|| panic!("no emit: {line}"));
        assert_eq!(quick.id.map(str::to_owned), id, "{line}");
        assert_eq!(quick.connection, emit.connection, "{line}");
        assert_eq!(quick.event, serde_json::to_string(&emit.event).unwrap(), "{line}");
        assert_eq!(quick.args, emit.args.map_or("[]", RawValue::get), "{line}");
        assert_eq!((quick.ack, quick.timeout), (emit.ack, emit.timeout), "{line}");
        assert!(!emit.volatile && !emit.binary, "{line}");
        true
    }

    #[test]
    fn the_usual_emit_is_read() {
        for line in [
            r#"{"jsonrpc":"2.0","id":7,"method":"emit","params":{"connection":"c","event":"e","args":[1, "x"],"ack":true}}"#,
            r#"{"method":"emit","params":{"event":"","connection":""}}"#,
            r#" { "params" : { "timeout" : 18446744073709551615 , "ack" : false , "connection" : "é" , "event" : "/" } , "method" : "emit" , "id" : "\ud800" } "#,
            r#"{"id":-1.50,"method":"emit","params":{"connection":"c","event":"e","volatile":false,"binary":false}}"#,
        ] {
            assert!(agrees(line), "{line}");
        }
    }

    #[test]
    fn anything_else_is_left() {
        for line in [
            "",
            "[]",
            r#"{"method":"emit"}"#,
            r#"{"method":"emit","params":{}}"#,
            r#"{"method":"ack","params":{"connection":"c","event":"e"}}"#,
            r#"{"id":null,"method":"emit","params":{"connection":"c","event":"e"}}"#,
            r#"{"id":[],"method":"emit","params":{"connection":"c","event":"e"}}"#,
            r#"{"jsonrpc":"1.0","method":"emit","params":{"connection":"c","event":"e"}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"e"},"x":1}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"e","x":1}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"e","event":"f"}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"\u0065"}}"#,
            r#"{"method":"emit","params":{"connection":"\u0063","event":"e"}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":1}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"e","args":{}}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"e","volatile":true}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"e","binary":true}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"e","timeout":-1}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"e","timeout":1.0}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"e","timeout":18446744073709551616}}"#,
            r#"{"method":"emit","params":{"connection":"c","event":"e"}}}"#,
            r#"{"method":"emit","method":"emit","params":{"connection":"c","event":"e"}}"#,
        ] {
            assert!(!agrees(line), "{line}");
        }
        let mut line = br#"{"method":"emit","params":{"connection":"c","event":"?"}}"#.to_vec();
        line.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xff);
        assert_eq!(PlainEmit::read(&line), None);
    }

    #[test]
    fn it_is_nested_as_deep_as_any_request() {
        let line = |depth| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"method":"emit","params":{{"connection":"c","event":"e","args":{open}{close}}}}}"#)
        };
        assert!(agrees(&line(126)));
        assert!(!agrees(&line(127)));
        assert!(slowly(&line(127)).is_none());
    }

    proptest! {
        #[test]
        fn it_is_read_as_any_request(
            members in proptest::sample::subsequence(vec![
                r#""connection":"c""#,
                r#""connection":"\u0063""#,
                r#""event":"e""#,
                r#""event": "a\/b""#,
                r#""args":[1,{"a":[]}]"#,
                r#""args": null"#,
                r#""ack":true"#,
                r#""timeout": 5"#,
                r#""timeout":null"#,
                r#""volatile":false"#,
                r#""compress":true"#,
            ], 2..6),
            id in prop_oneof![Just(String::new()), "\"id\" ?: ?(1|\"a\"|null|-0\\.5|1e5|0x|\\[\\]),"],
            edits in proptest::collection::vec((any::<proptest::sample::Index>(), r#"[ {}\[\]:,"\\a1]"#), 0..2),
        ) {
            let mut line = format!(r#"{{{id}"method":"emit","params":{{{}}}}}"#, members.join(","));
            for (index, text) in edits {
                line.insert_str(index.index(line.len()), &text);
            }
            agrees(&line);
        }
    }
}
