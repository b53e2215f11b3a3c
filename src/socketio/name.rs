//! The name of an event.

use std::borrow::Cow;

use bytes::BufMut;
use bytestring::ByteString;

use crate::engineio::Revision;
use crate::json;

/// Names that no application may emit or receive.
pub const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// What socket.io-client 2 keeps to itself besides; a server of its time can be brought down by an `error` event.
pub const RESERVED_V4: [&str; 10] = [
    "connect_timeout",
    "connecting",
    "error",
    "ping",
    "pong",
    "reconnect",
    "reconnect_attempt",
    "reconnect_error",
    "reconnect_failed",
    "reconnecting",
];

/// An event's name as JSON text: a string with its quotes and escapes as upstream wrote them, or a number.
///
/// Two spellings of one name are not equal; compare what [`Name::decoded`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(ByteString);

impl Name {
    /// The event called `name`.
    pub fn new(name: &str) -> Self {
        let mut text = Vec::new();
        json::push_string(&mut text, name);
        Self(String::from_utf8_lossy(&text).as_ref().into())
    }

    /// A name as JSON text; `None` where that is neither a string nor a number.
    pub fn from_json(text: &str) -> Option<Self> {
        json::validate(text).ok()?;
        Self::from_valid(text.trim_ascii().into())
    }

    /// The event of this name, which is a JSON string in the spelling of [`Name::new`]: without escapes, for one.
    pub fn from_plain(text: &str) -> Self {
        debug_assert!(json::validate(text).is_ok() && text.starts_with('"') && !text.contains('\\'));
        Self(text.into())
    }

    /// [`Name::from_json`] for valid JSON without white space around it.
    pub(super) fn from_valid(text: ByteString) -> Option<Self> {
        NameView::from_valid(&text)?;
        Some(Self(text))
    }

    /// One that stands in `text`.
    pub(super) fn shared(text: &ByteString, name: NameView<'_>) -> Self {
        Self(text.slice_ref(name.0))
    }

    /// The name as it stands on the wire.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The name where it lies.
    pub fn view(&self) -> NameView<'_> {
        NameView(&self.0)
    }

    /// The name itself; see [`NameView::decoded`].
    pub fn decoded(&self) -> Cow<'_, str> {
        self.view().decoded()
    }

    /// Whether it is one of [`RESERVED`], however it is written.
    pub fn is_reserved(&self) -> bool {
        self.view().is_reserved()
    }

    /// Whether no program may emit it to a server of this revision: [`RESERVED`], and [`RESERVED_V4`] in protocol 4.
    pub fn is_reserved_in(&self, revision: Revision) -> bool {
        let old = revision == Revision::V3 && self.view().is_string();
        self.is_reserved() || (old && RESERVED_V4.contains(&self.decoded().as_ref()))
    }

    /// In a buffer of its own, where it was a slice of a message.
    pub(super) fn detached(&self) -> Self {
        Self(self.as_json().into())
    }
}

/// A [`Name`] that lies in somebody else's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameView<'a>(&'a str);

impl<'a> NameView<'a> {
    /// A name as valid JSON text without white space around it; `None` where that is neither a string nor a number.
    pub(super) fn from_valid(text: &'a str) -> Option<Self> {
        matches!(text.as_bytes().first()?, b'"' | b'-' | b'0'..=b'9').then_some(Self(text))
    }

    /// The name as it stands on the wire.
    pub fn as_json(self) -> &'a str {
        self.0
    }

    /// The name itself, without quotes and escapes; a lone surrogate reads U+FFFD.
    ///
    /// A number reads as JavaScript's `String()` would give it (`1.0` is `1`, `1e3` is `1000`), but an integer keeps
    /// all its digits.
    pub fn decoded(self) -> Cow<'a, str> {
        json::unquote(self.0).unwrap_or_else(|| decimal(self.0))
    }

    /// Appends the name as a JSON string: the bytes of the wire, a number in quotes.
    pub fn write_string(self, out: &mut impl BufMut) {
        if self.is_string() {
            out.put_slice(self.0.as_bytes());
        } else {
            json::push_string(out, &decimal(self.0));
        }
    }

    /// Whether it is one of [`RESERVED`], however it is written.
    pub fn is_reserved(self) -> bool {
        // Most names cannot be one already by how they begin.
        let may_be = match self.0.as_bytes()[..] {
            [b'"', b'\\', ..] => true,
            [b'"', first, second, ..] => {
                matches!((first, second), (b'c', b'o') | (b'd', b'i') | (b'n' | b'r', b'e'))
                    || second == b'\\'
            }
            _ => false,
        };
        may_be && RESERVED.contains(&self.decoded().as_ref())
    }

    fn is_string(self) -> bool {
        self.0.as_bytes().first() == Some(&b'"')
    }
}

/// A JSON number in the spelling of JavaScript's `String()`, integers with all their digits.
fn decimal(number: &str) -> Cow<'_, str> {
    let digits = number.strip_prefix('-').unwrap_or(number);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) && number != "-0" {
        return Cow::Borrowed(number);
    }
    let Ok(value) = number.parse::<f64>() else {
        return Cow::Borrowed(number);
    };
    let size = value.abs();
    Cow::Owned(if size.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if size >= 1e21 {
        format!("{value:e}").replace('e', "e+")
    } else if size > 0.0 && size < 1e-6 {
        format!("{value:e}")
    } else if size == 0.0 {
        "0".to_owned()
    } else {
        value.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_strings_and_numbers() {
        for (text, decoded, written) in [
            (r#""chat""#, "chat", r#""chat""#),
            (r#""""#, "", r#""""#),
            (r#""\u0041\/\"\n""#, "A/\"\n", r#""\u0041\/\"\n""#),
            (r#""\ud83d\ude00 \ud83d""#, "😀 \u{fffd}", r#""\ud83d\ude00 \ud83d""#),
            (" 7 ", "7", r#""7""#),
            ("-12", "-12", r#""-12""#),
            ("-0", "0", r#""0""#),
            ("0.0", "0", r#""0""#),
            ("1.50", "1.5", r#""1.5""#),
            ("1e3", "1000", r#""1000""#),
            ("100000000000000000000.0", "100000000000000000000", r#""100000000000000000000""#),
            ("12345678901234567890123", "12345678901234567890123", r#""12345678901234567890123""#),
            ("1.5e21", "1.5e+21", r#""1.5e+21""#),
            ("0.000001", "0.000001", r#""0.000001""#),
            ("0.0000001", "1e-7", r#""1e-7""#),
            ("-1e999", "-Infinity", r#""-Infinity""#),
        ] {
            let name = Name::from_json(text).unwrap();
            assert_eq!(name.as_json(), text.trim());
            assert_eq!(name.decoded(), decoded, "{text}");
            let mut out = Vec::new();
            name.view().write_string(&mut out);
            assert_eq!(out, written.as_bytes(), "{text}");
        }
    }

    #[test]
    fn takes_nothing_else() {
        for text in ["", "null", "true", "[1]", "{}", "\"", "\"a\" 1", "\"\n\"", "1x", "- 1"] {
            assert_eq!(Name::from_json(text), None, "{text}");
        }
    }

    #[test]
    fn new_names_are_escaped() {
        assert_eq!(Name::new("say \"hi\"\n").as_json(), r#""say \"hi\"\n""#);
        assert_eq!(Name::new("é😀").decoded(), "é😀");
    }

    #[test]
    fn reserved_names_are_known_in_any_spelling() {
        for name in RESERVED {
            assert!(Name::new(name).is_reserved(), "{name}");
        }
        assert!(Name::from_json(r#""\u0063onnect""#).unwrap().is_reserved());
        for name in RESERVED.iter().chain(&RESERVED_V4) {
            assert!(Name::new(name).is_reserved_in(Revision::V3), "{name}");
            assert_eq!(Name::new(name).is_reserved_in(Revision::V4), RESERVED.contains(name), "{name}");
        }
        assert!(!Name::from_json("7").unwrap().is_reserved_in(Revision::V3));
        for text in [r#""error""#, r#""Connect""#, r#""connect ""#, r#""""#, "0"] {
            assert!(!Name::from_json(text).unwrap().is_reserved(), "{text}");
        }
    }
}
