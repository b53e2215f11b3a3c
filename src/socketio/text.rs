//! The text message of a packet: `51-/chat,7["name",...]`.
//!
//! As strict as the official decoder, and stricter where that one takes numbers loosely: spaces, signs, hexadecimal and
//! exponents are no digits here. What placeholders stand for is not looked at.

use std::borrow::Cow;

use bytestring::ByteString;

use super::{Args, ArgsView, Body, DecodeError, Name, NameView, Packet};
use crate::engineio::Revision;
use crate::json::{self, Seen};

/// An event as it stands in the text of its message: looked at, and not copied.
#[derive(Debug)]
pub struct PlainEvent<'a> {
    /// The ack's id, where one is asked for.
    pub id: Option<u64>,
    /// Its name.
    pub name: NameView<'a>,
    json: Cow<'a, str>,
}

impl PlainEvent<'_> {
    /// All other arguments.
    pub fn args(&self) -> ArgsView<'_> {
        ArgsView { json: &self.json, attachments: &[] }
    }
}

/// What stands before a packet's payload, which has not been looked at yet.
#[derive(Debug)]
pub struct Header<'a> {
    kind: char,
    attachments: usize,
    namespace: Option<&'a str>,
    id: Option<u64>,
    payload: &'a str,
}

impl<'a> Header<'a> {
    fn parse(text: &'a str, max_attachments: usize) -> Result<Self, DecodeError> {
        let kind = text.chars().next().ok_or(DecodeError::Payload("the packet is empty"))?;
        let rest = &text[kind.len_utf8()..];
        let (attachments, rest) = match kind {
            '0'..='4' => (0, rest),
            '5' | '6' => split_count(rest, max_attachments)?,
            _ => return Err(DecodeError::UnknownType(kind)),
        };
        Self::behind(kind, attachments, rest)
    }

    #[inline]
    fn behind(kind: char, attachments: usize, rest: &'a str) -> Result<Self, DecodeError> {
        let (namespace, rest) = split_namespace(rest);
        let (id, payload) = split_id(rest)?;
        Ok(Self { kind, attachments, namespace, id, payload })
    }

    /// That of an event without attachments; `None` for anything else.
    #[inline]
    pub(super) fn of_plain_event(text: &'a str) -> Option<Self> {
        // Matched as a byte, since a comparison of characters is a call into the C library.
        if text.as_bytes().first() == Some(&b'2') { Self::behind('2', 0, &text[1..]).ok() } else { None }
    }

    /// That of an answer without attachments; `None` for anything else.
    #[inline]
    pub(super) fn of_plain_answer(text: &'a str) -> Option<Self> {
        if text.as_bytes().first() == Some(&b'3') { Self::behind('3', 0, &text[1..]).ok() } else { None }
    }

    /// The namespace it belongs to.
    pub fn namespace(&self) -> &'a str {
        self.namespace.unwrap_or("/")
    }

    /// The event whose payload this is.
    pub(super) fn event(&self, revision: Revision) -> Result<PlainEvent<'a>, DecodeError> {
        let Some((first, others, seen)) =
            json::inspect_array(self.payload).filter(|_| self.payload.starts_with('['))
        else {
            return Err(no_event(self.payload));
        };
        let name = NameView::from_valid(first)
            .ok_or(DecodeError::Payload("an event's name must be a string or a number"))?;
        if revision == Revision::V4 && name.is_reserved() {
            return Err(DecodeError::Payload("an event must not have a reserved name"));
        }
        let json = if seen.line_breaks { json::minify(others) } else { Cow::Borrowed(others) };
        Ok(PlainEvent { id: self.id, name, json })
    }
}

impl<'a> Header<'a> {
    /// The id of the event that is answered.
    pub(super) fn id(&self) -> Option<u64> {
        self.id
    }

    /// The arguments of the answer whose payload this is.
    pub(super) fn answer(&self) -> Result<Cow<'a, str>, DecodeError> {
        if self.payload.is_empty() {
            return Ok(Cow::Borrowed(""));
        }
        let (items, seen) = array_items(self.payload, "an ack takes an array")?;
        Ok(if seen.line_breaks { json::minify(items) } else { Cow::Borrowed(items) })
    }
}

/// An answer as it stands in the text of its message: looked at, and not copied.
#[derive(Debug)]
pub struct PlainAnswer<'a>(pub(super) Cow<'a, str>);

impl PlainAnswer<'_> {
    /// Its arguments.
    pub fn args(&self) -> ArgsView<'_> {
        ArgsView { json: &self.0, attachments: &[] }
    }
}

/// Why a payload is not that of an event.
#[cold]
fn no_event(payload: &str) -> DecodeError {
    match array_items(payload, "an event takes an array") {
        Ok(_) => DecodeError::Payload("an event needs a name"),
        Err(error) => error,
    }
}

/// The packet that `text` begins, and how many attachments are to follow. `lenient`: DISCONNECT may have a payload.
pub(super) fn parse(
    text: &ByteString,
    max_attachments: usize,
    revision: Revision,
    lenient: bool,
) -> Result<(Packet, usize), DecodeError> {
    let header = Header::parse(text, max_attachments)?;
    let Header { kind, attachments, namespace, id, payload } = header;
    let body = match kind {
        '0' => {
            let (starts, demand) = match revision {
                Revision::V3 => (&b"{[n"[..], "CONNECT takes an object, an array or null"),
                Revision::V4 => (&b"{"[..], "CONNECT takes an object"),
            };
            Body::Connect(optional(text, payload, starts, demand)?)
        }
        '1' if payload.is_empty() => Body::Disconnect,
        '1' if lenient => {
            json::validate(payload)?;
            Body::Disconnect
        }
        '1' => return Err(DecodeError::Payload("DISCONNECT takes none")),
        '2' | '5' => {
            let PlainEvent { id, name, json } = header.event(revision)?;
            let args = Args { json: slice_of(text, json), attachments: Vec::new() };
            Body::Event { id, name: Name::shared(text, name), args }
        }
        '3' | '6' => {
            Body::Ack { id, args: Args { json: slice_of(text, header.answer()?), attachments: Vec::new() } }
        }
        _ => {
            let (starts, demand) = match revision {
                Revision::V3 => (&b"{\"[n"[..], "ERROR takes an object, a string, an array or null"),
                Revision::V4 => (&b"{\""[..], "CONNECT_ERROR takes an object or a string"),
            };
            Body::ConnectError(optional(text, payload, starts, demand)?)
        }
    };
    let namespace = namespace.map_or(ByteString::from_static("/"), |name| text.slice_ref(name));
    Ok((Packet { namespace, body }, attachments))
}

/// A part of the message, where it was not changed.
fn slice_of(text: &ByteString, part: Cow<'_, str>) -> ByteString {
    match part {
        Cow::Borrowed(part) => text.slice_ref(part),
        Cow::Owned(part) => part.into(),
    }
}

/// The number of attachments, and what follows its `-`.
fn split_count(rest: &str, max: usize) -> Result<(usize, &str), DecodeError> {
    let (digits, rest) = split_digits(rest);
    let rest = rest.strip_prefix('-').filter(|_| !digits.is_empty()).ok_or(DecodeError::Count)?;
    // A number that does not fit is too large for certain.
    match digits.parse().unwrap_or(usize::MAX) {
        0 => Err(DecodeError::Count),
        count if count > max => Err(DecodeError::TooManyAttachments { max }),
        count => Ok((count, rest)),
    }
}

/// `/name` up to its comma, or to the end where there is none; no `/`, no namespace.
#[inline]
fn split_namespace(rest: &str) -> (Option<&str>, &str) {
    if rest.as_bytes().first() == Some(&b'/') { split_name(rest) } else { (None, rest) }
}

#[inline(never)]
fn split_name(rest: &str) -> (Option<&str>, &str) {
    match memchr::memchr(b',', rest.as_bytes()) {
        Some(comma) => (Some(&rest[..comma]), &rest[comma + 1..]),
        None => (Some(rest), ""),
    }
}

#[inline]
fn split_id(rest: &str) -> Result<(Option<u64>, &str), DecodeError> {
    if rest.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        split_number(rest)
    } else {
        Ok((None, rest))
    }
}

#[inline(never)]
fn split_number(rest: &str) -> Result<(Option<u64>, &str), DecodeError> {
    let (digits, rest) = split_digits(rest);
    let id = digits.parse().map_err(|_| DecodeError::Payload("the ack id exceeds 64 bits"))?;
    Ok((Some(id), rest))
}

fn split_digits(rest: &str) -> (&str, &str) {
    rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count())
}

/// A payload that may be absent, otherwise JSON whose first byte is one of `starts`.
fn optional(
    text: &ByteString,
    payload: &str,
    starts: &[u8],
    demand: &'static str,
) -> Result<Option<ByteString>, DecodeError> {
    let Some(start) = payload.as_bytes().first() else {
        return Ok(None);
    };
    if !starts.contains(start) {
        return Err(DecodeError::Payload(demand));
    }
    let seen = json::inspect(payload)?;
    Ok(Some(shared(text, payload.trim_ascii_end(), seen)))
}

/// The inside of a payload that must be an array. White space before it is none of the header's grammar.
fn array_items<'a>(payload: &'a str, demand: &'static str) -> Result<(&'a str, Seen), DecodeError> {
    if payload.as_bytes().first() != Some(&b'[') {
        return Err(DecodeError::Payload(demand));
    }
    let seen = json::inspect(payload)?;
    Ok((json::array_items(payload).ok_or(DecodeError::Payload(demand))?, seen))
}

/// A part of the message, on one line.
fn shared(text: &ByteString, part: &str, seen: Seen) -> ByteString {
    let part = text.slice_ref(part);
    if seen.line_breaks { json::minify_shared(part) } else { part }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &ByteString, max_attachments: usize) -> Result<(Packet, usize), DecodeError> {
        super::parse(text, max_attachments, Revision::V4, false)
    }

    #[test]
    fn decodes_headers() {
        let event = |namespace: &str, id, name: &str, array: &str| Packet {
            namespace: namespace.into(),
            body: Body::Event {
                id,
                name: Name::from_json(name).unwrap(),
                args: Args::from_array(array.into()).unwrap(),
            },
        };
        let ack = |namespace: &str, id, array: &str| Packet {
            namespace: namespace.into(),
            body: Body::Ack { id, args: Args::from_array(array.into()).unwrap() },
        };
        let plain = |namespace: &str, body| Packet { namespace: namespace.into(), body };
        for (text, packet) in [
            ("0", plain("/", Body::Connect(None))),
            (r#"0{"sid":"x"}"#, plain("/", Body::Connect(Some(r#"{"sid":"x"}"#.into())))),
            ("0/a,{\n\"sid\": 1} ", plain("/a", Body::Connect(Some(r#"{"sid":1}"#.into())))),
            ("0/a", plain("/a", Body::Connect(None))),
            ("0/a?b=1,", plain("/a?b=1", Body::Connect(None))),
            ("1", plain("/", Body::Disconnect)),
            ("15", plain("/", Body::Disconnect)),
            ("1/a/,", plain("/a/", Body::Disconnect)),
            ("4", plain("/", Body::ConnectError(None))),
            ("4123", plain("/", Body::ConnectError(None))),
            (r#"4/a,"no""#, plain("/a", Body::ConnectError(Some(r#""no""#.into())))),
            (r#"2["a"]"#, event("/", None, "\"a\"", "[]")),
            (r#"2[ 1 , {"k":[]} ] "#, event("/", None, "1", r#"[{"k":[]}]"#)),
            ("2[\"a\",\r\n[1,\n2] ]", event("/", None, "\"a\"", "[[1,2]]")),
            (r#"2/,7["",1e999,1.50]"#, event("/", Some(7), "\"\"", "[1e999,1.50]")),
            (
                r#"2/a,007["\ud800",{"_placeholder":true}]"#,
                event("/a", Some(7), r#""\ud800""#, r#"[{"_placeholder":true}]"#),
            ),
            (r#"218446744073709551615["a"]"#, event("/", Some(u64::MAX), "\"a\"", "[]")),
            ("35", ack("/", Some(5), "[]")),
            ("3[1, 2]", ack("/", None, "[1, 2]")),
            (r#"3/a,9007199254740993["connect"]"#, ack("/a", Some(9_007_199_254_740_993), r#"["connect"]"#)),
        ] {
            assert_eq!(parse(&text.into(), 10), Ok((packet, 0)), "{text}");
        }
    }

    #[test]
    fn invalid_text_is_explained() {
        for (text, message) in [
            ("", "invalid payload: the packet is empty"),
            ("7", "unknown packet type 7"),
            (" [\"a\"]", "unknown packet type NaN: the packet starts with ' '"),
            ("é", "unknown packet type NaN: the packet starts with '\\u{e9}'"),
            ("0x", "invalid payload: CONNECT takes an object"),
            ("0null", "invalid payload: CONNECT takes an object"),
            ("1{}", "invalid payload: DISCONNECT takes none"),
            ("4[\"a\"]", "invalid payload: CONNECT_ERROR takes an object or a string"),
            ("2", "invalid payload: an event takes an array"),
            ("25", "invalid payload: an event takes an array"),
            ("2 [\"a\"]", "invalid payload: an event takes an array"),
            ("2[]", "invalid payload: an event needs a name"),
            ("2[null]", "invalid payload: an event's name must be a string or a number"),
            (r#"2["\u0063onnect"]"#, "invalid payload: an event must not have a reserved name"),
            (r#"2["a",]"#, "invalid payload: expected value at line 1 column 6"),
            (r#"2["a"]x"#, "invalid payload: trailing characters at line 1 column 6"),
            ("218446744073709551616[\"a\"]", "invalid payload: the ack id exceeds 64 bits"),
            ("2-1[\"a\"]", "invalid payload: an event takes an array"),
            ("35{}", "invalid payload: an ack takes an array"),
            ("51-", "invalid payload: an event takes an array"),
        ] {
            assert_eq!(parse(&text.into(), 10).unwrap_err().explained(), message, "{text}");
        }
    }

    #[test]
    fn protocol_4_takes_more_in_some_places() {
        let plain = |body| Packet { namespace: "/a".into(), body };
        let json = |text: &'static str| Some(ByteString::from_static(text));
        let event = |name: &str| Body::Event { id: None, name: Name::new(name), args: Args::default() };
        for (text, body) in [
            ("0/a,", Body::Connect(None)),
            ("0/a,[1]", Body::Connect(json("[1]"))),
            ("0/a,null", Body::Connect(json("null"))),
            ("4/a,{}", Body::ConnectError(json("{}"))),
            ("4/a,[\"a\", 1]", Body::ConnectError(json("[\"a\", 1]"))),
            ("4/a,null", Body::ConnectError(json("null"))),
            (r#"2/a,["connect"]"#, event("connect")),
            (r#"2/a,["disconnect"]"#, event("disconnect")),
        ] {
            let text = ByteString::from(text);
            assert_eq!(super::parse(&text, 10, Revision::V3, false), Ok((plain(body.clone()), 0)), "{text}");
            let differs = !matches!(body, Body::Connect(None)) && text != "4/a,{}";
            assert_eq!(parse(&text, 10).is_err(), differs, "{text}");
        }
        for (text, message) in [
            ("0\"x\"", "invalid payload: CONNECT takes an object, an array or null"),
            ("0no", "invalid payload: expected ident at line 1 column 2"),
            ("4/a,true", "invalid payload: ERROR takes an object, a string, an array or null"),
            ("1{}", "invalid payload: DISCONNECT takes none"),
        ] {
            let refused = super::parse(&text.into(), 10, Revision::V3, false).unwrap_err();
            assert_eq!(refused.explained(), message, "{text}");
        }
    }

    #[test]
    fn payloads_are_as_deep_as_json_may_be_and_no_deeper() {
        let nested =
            |depth| ByteString::from("2[1,".to_owned() + &"[".repeat(depth) + &"]".repeat(depth) + "]");
        assert!(parse(&nested(json::MAX_DEPTH - 1), 10).is_ok());
        let refused = parse(&nested(json::MAX_DEPTH), 10).unwrap_err();
        assert_eq!(refused, DecodeError::Json(json::Error::TooDeep { at: 3 + json::MAX_DEPTH }));
    }

    #[test]
    fn counts_are_plain_numbers_up_to_the_limit() {
        let payload = r#"["a"]"#;
        for (count, expected) in [("1", 1), ("001", 1), ("10", 10)] {
            let (_, attachments) = parse(&format!("5{count}-{payload}").into(), 10).unwrap();
            assert_eq!(attachments, expected, "{count}");
        }
        for count in ["", "0", "000", "-1", "+1", " 1", "1 ", "1.0", "1e0", "0x1", "x"] {
            assert_eq!(parse(&format!("5{count}-{payload}").into(), 10), Err(DecodeError::Count), "{count}");
        }
        for text in ["5", "6", "51", "51[\"a\"]", "5[1-2]"] {
            assert_eq!(parse(&text.into(), 10), Err(DecodeError::Count), "{text}");
        }
        for count in ["11", "99999999999999999999999"] {
            let refused = parse(&format!("6{count}-[]").into(), 10);
            assert_eq!(refused, Err(DecodeError::TooManyAttachments { max: 10 }), "{count}");
        }
    }

    #[test]
    fn arguments_share_the_message() {
        let text = ByteString::from(r#"2/a,["name",[1, 2]]"#);
        let Packet { namespace, body: Body::Event { name, args, .. } } = parse(&text, 10).unwrap().0 else {
            panic!("no event");
        };
        assert_eq!(namespace.as_ptr(), text[1..].as_ptr());
        assert_eq!(name.as_json().as_ptr(), text[5..].as_ptr());
        assert_eq!(args.json().as_ptr(), text[12..].as_ptr());
    }
}
