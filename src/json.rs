//! JSON text without a tree: what can be learnt and changed in one pass over the bytes.
//!
//! A relay must hand values on as they were written: number spelling, key order, duplicate keys and escapes
//! included. So nothing here builds a value. [`validate`] says whether a text is JSON; everything else relies on
//! that, and gives some answer, never a panic, on text that is not.

use std::borrow::Cow;

use bytes::BufMut;
use bytestring::ByteString;
use memchr::{memchr, memchr2, memchr2_iter};
use serde_json::value::RawValue;

mod reader;
mod scan;

pub use reader::Reader;

/// Most arrays and objects that may stand within one another; common parsers go no deeper.
pub const MAX_DEPTH: usize = 128;

/// Why a text is not the JSON that was needed. Columns count bytes, from 1. The text itself is never quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not RFC 8259; says what was expected, with line and column.
    #[error("{0}")]
    Syntax(String),
    /// More than [`MAX_DEPTH`] arrays and objects within one another.
    #[error("more than {MAX_DEPTH} nested arrays and objects at byte {at}")]
    TooDeep {
        /// The first bracket or brace too many, counted from 1.
        at: usize,
    },
    /// Good JSON, of another type.
    #[error("not an array")]
    NotAnArray,
}

/// Whether `text` is one JSON value as RFC 8259 has it, not deeper than [`MAX_DEPTH`].
///
/// Numbers of any size, duplicate keys and escapes of lone surrogates are good JSON.
pub fn validate(text: &str) -> Result<(), Error> {
    inspect(text).map(drop)
}

/// [`validate`], and what the same pass over the text has found besides.
pub fn inspect(text: &str) -> Result<Seen, Error> {
    match scan::scan(text.as_bytes()) {
        Some(seen) => Ok(seen),
        None => explain(text).map(|()| Seen { line_breaks: true }),
    }
}

/// The first value of a JSON array, and the others, as [`split_first`] gives them, from the one pass that [`inspect`]
/// makes. `None` for what is no valid array, or an empty one; [`inspect`] says what it is then.
pub fn inspect_array(text: &str) -> Option<(&str, &str, Seen)> {
    let (scan::Places { first, others }, seen) = scan::scan_array(text.as_bytes())?;
    Some((&text[first], &text[others], seen))
}

/// What [`inspect`] has found in a valid text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether line breaks may stand between tokens; where none do, there is nothing to [`minify`].
    pub line_breaks: bool,
}

/// What is wrong with a text that the quick pass refuses. Its verdict is the one that counts.
#[cold]
fn explain(text: &str) -> Result<(), Error> {
    serde_json::from_str::<&RawValue>(text).map_err(|error| Error::Syntax(error.to_string()))?;
    match first_too_deep(text.as_bytes()) {
        None => Ok(()),
        Some(offset) => Err(Error::TooDeep { at: offset + 1 }),
    }
}

/// Whether more than [`MAX_DEPTH`] arrays and objects are open at once anywhere in `text`, which need not be JSON.
pub fn too_deep(text: &[u8]) -> bool {
    first_too_deep(text).is_some()
}

fn first_too_deep(text: &[u8]) -> Option<usize> {
    // Most texts have too few brackets altogether, and counting those takes a fraction of the time.
    memchr2_iter(b'[', b'{', text).nth(MAX_DEPTH)?;
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at);
                continue;
            }
            b'[' | b'{' if depth == MAX_DEPTH => return Some(at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Valid JSON on one line. White space between tokens goes only if it includes a line break; otherwise the text
/// comes back as it is, spaces and all. Strings are never touched.
pub fn minify(text: &str) -> Cow<'_, str> {
    // Within a string a line break is always escaped, so a raw one stands between tokens.
    if memchr2(b'\n', b'\r', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len());
    line.extend(Tokens::new(text).map(|token| token.text));
    Cow::Owned(line)
}

/// [`minify`] for shared text: no copy where nothing changes.
pub fn minify_shared(text: ByteString) -> ByteString {
    let line = match minify(&text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(line) => Some(line),
    };
    line.map_or(text, ByteString::from)
}

/// Appends `text` as a JSON string, with the escapes that JSON demands and no others.
pub fn push_string(out: &mut impl BufMut, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    while let Some(plain) = rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')) {
        out.put_slice(&rest[..plain]);
        match rest[plain] {
            b'\x08' => out.put_slice(b"\\b"),
            b'\t' => out.put_slice(b"\\t"),
            b'\n' => out.put_slice(b"\\n"),
            b'\x0c' => out.put_slice(b"\\f"),
            b'\r' => out.put_slice(b"\\r"),
            mark @ (b'"' | b'\\') => out.put_slice(&[b'\\', mark]),
            control => {
                out.put_slice(b"\\u00");
                out.put_slice(&[control >> 4, control & 15].map(|digit| HEX[usize::from(digit)]));
            }
        }
        rest = &rest[plain + 1..];
    }
    out.put_slice(rest);
    out.put_u8(b'"');
}

/// What a JSON string (with its quotes) says; `None` where `text` is no string. A lone surrogate, which UTF-8 cannot
/// hold, becomes U+FFFD.
pub fn unquote(text: &str) -> Option<Cow<'_, str>> {
    let [b'"', .., b'"'] = text.as_bytes() else { return None };
    let inside = &text[1..text.len() - 1];
    if memchr(b'\\', inside.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inside));
    }
    let mut said = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some((plain, escape)) = rest.split_once('\\') {
        said.push_str(plain);
        let (character, length) = unescape(escape);
        said.push(character);
        rest = &escape[length..];
    }
    said.push_str(rest);
    Some(Cow::Owned(said))
}

/// The inside of an array without the white space around it, for [`split_first`] and [`values`]; `None` where `text`
/// is no array.
pub fn array_items(text: &str) -> Option<&str> {
    // Matched as bytes, here and below, since a comparison of characters is a call into the C library.
    let text = text.trim_ascii();
    matches!(text.as_bytes(), [b'[', .., b']']).then(|| text[1..text.len() - 1].trim_ascii())
}

/// The first of several comma-separated values, and the others; `None` where there is none.
pub fn split_first(items: &str) -> Option<(&str, &str)> {
    if let [b'"', ..] = items.as_bytes() {
        // The usual case, a name: there is no depth to keep.
        let (first, others) = items.split_at(string_end(items.as_bytes(), 0));
        return Some((first, behind_comma(others)));
    }
    let mut tokens = Tokens::new(items);
    let start = tokens.next()?.start;
    tokens.at = start;
    let mut depth = 0_usize;
    for token in tokens.by_ref() {
        match token.kind() {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    let (first, others) = items.split_at(tokens.at);
    Some((&first[start..], behind_comma(others)))
}

fn behind_comma(others: &str) -> &str {
    let others = others.trim_ascii_start();
    match others.as_bytes() {
        [b',', ..] => others[1..].trim_ascii_start(),
        _ => others,
    }
}

/// Comma-separated values one by one, each without the white space around it.
pub fn values(items: &str) -> impl Iterator<Item = &str> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let (first, others) = split_first(rest)?;
        rest = others;
        Some(first)
    })
}

/// One token of a JSON text: a bracket, brace, comma or colon, a string with its quotes, or a number or word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Where it starts, in bytes from the start of the text.
    pub start: usize,
    /// How it is written; never empty.
    pub text: &'a str,
}

impl Token<'_> {
    /// The first byte, which tells what it is: `"` for every string.
    pub fn kind(&self) -> u8 {
        self.text.as_bytes()[0]
    }
}

/// The tokens of a JSON text in order. Joined, they are the text without the white space between them.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    /// Starts at the beginning of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.text.as_bytes();
        let start = self.at + bytes[self.at..].iter().position(|byte| !is_space(*byte))?;
        self.at = match bytes[start] {
            b'"' => string_end(bytes, start),
            mark if is_mark(mark) => start + 1,
            _ => {
                let word = &bytes[start..];
                start + word.iter().position(|byte| ends_word(*byte)).unwrap_or(word.len())
            }
        };
        Some(Token { start, text: &self.text[start..self.at] })
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_mark(byte: u8) -> bool {
    matches!(byte, b'[' | b']' | b'{' | b'}' | b',' | b':')
}

fn ends_word(byte: u8) -> bool {
    is_space(byte) || is_mark(byte) || byte == b'"'
}

/// Behind the closing quote of the string that opens at `start`, or the end of the text.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(length) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += length;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// The character that an escape (without its backslash) stands for, and how many bytes it takes.
fn unescape(escape: &str) -> (char, usize) {
    match escape.as_bytes().first() {
        Some(b'b') => ('\x08', 1),
        Some(b't') => ('\t', 1),
        Some(b'n') => ('\n', 1),
        Some(b'f') => ('\x0c', 1),
        Some(b'r') => ('\r', 1),
        Some(mark @ (b'"' | b'\\' | b'/')) => (char::from(*mark), 1),
        Some(b'u') => unescape_unit(escape),
        _ => (char::REPLACEMENT_CHARACTER, 0),
    }
}

/// A `u` with its four hexadecimal digits, or two of these, with a `\` between them, that are a high and a low surrogate.
fn unescape_unit(escape: &str) -> (char, usize) {
    let Some(unit) = hex_unit(escape) else {
        return (char::REPLACEMENT_CHARACTER, 1);
    };
    let pair = escape.get(5..).and_then(|rest| rest.strip_prefix('\\')).and_then(hex_unit);
    match (char::from_u32(unit), pair) {
        (Some(character), _) => (character, 5),
        (None, Some(low @ 0xDC00..0xE000)) if unit < 0xDC00 => {
            let code = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11)
        }
        (None, _) => (char::REPLACEMENT_CHARACTER, 5),
    }
}

fn hex_unit(escape: &str) -> Option<u32> {
    let digits = escape.strip_prefix('u')?.as_bytes().get(..4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;
    use serde_json::Value;

    use super::*;

    #[test]
    fn validates_syntax_and_depth() {
        for text in [
            "0",
            " [1, 2]\r\n",
            r#"{"a":1,"a":2}"#,
            "1e999",
            "123456789012345678901234567890.10",
            r#""\ud800""#,
            &nested(MAX_DEPTH),
        ] {
            assert_eq!(validate(text), Ok(()), "{text}");
        }
        for (text, message) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("[1,]", "expected value at line 1 column 4"),
            ("[1]x", "trailing characters at line 1 column 4"),
            (
                "[\n\"a\x01\"]",
                "control character (\\u0000-\\u001F) found while parsing a string at line 2 column 2",
            ),
            ("NaN", "expected value at line 1 column 1"),
            ("01", "invalid number at line 1 column 2"),
            ("\u{feff}1", "expected value at line 1 column 1"),
            (&nested(MAX_DEPTH + 1), "more than 128 nested arrays and objects at byte 129"),
        ] {
            assert_eq!(validate(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn the_quick_pass_knows_the_corners() {
        for text in [
            "-0",
            "0.0",
            "1E+9",
            "-1e-999",
            " \t\r\n7\n",
            "[]",
            "{}",
            "[ ]",
            "{\n}",
            r#""\ud800\uDFFF\/""#,
            "\"\x7fé😀\"",
            "{\"\":{\"\":[]},\"\":null}",
            "[true,false,null]",
        ] {
            assert!(scan::scan(text.as_bytes()).is_some(), "{text}");
            assert_eq!(explain(text), Ok(()), "{text}");
        }
        for text in [
            "-",
            "+1",
            "01",
            "-01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x1",
            "1 2",
            "tru",
            "truefalse",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{1:2}",
            "[1}",
            "{\"a\":1]",
            "]",
            "\"\t\"",
            r#""\x""#,
            r#""\u12g4""#,
            r#""\u123"#,
            "\x0c1",
            "\u{a0}1",
            "\u{feff}1",
            "[",
            "",
            " ",
        ] {
            assert_eq!(scan::scan(text.as_bytes()), None, "{text}");
            assert!(explain(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_texts_take_no_stack() {
        let text = nested(1_000_000);
        assert_eq!(validate(&text), Err(Error::TooDeep { at: MAX_DEPTH + 1 }));
        assert_eq!(split_first(&text), Some((&text[..], "")));
    }

    #[test]
    fn brackets_in_strings_have_no_depth() {
        assert!(!too_deep(format!(r#"["\"{}"]"#, "[".repeat(1000)).as_bytes()));
        assert!(too_deep("[".repeat(129).as_bytes()));
        assert!(!too_deep("[".repeat(128).as_bytes()));
        assert!(too_deep(format!(r#"["\\",{}"#, "{".repeat(128)).as_bytes()));
    }

    #[test]
    fn minifies_only_what_has_line_breaks() {
        for (text, line) in [
            ("[1, 2]", "[1, 2]"),
            ("[ 1,\n\t2 ]\r\n", "[1,2]"),
            ("{\"a b\" :\r\"\\n \\\" \" }", "{\"a b\":\"\\n \\\" \"}"),
            ("\n\"x\"", "\"x\""),
            ("[true,\nfalse , null]", "[true,false,null]"),
            ("[\n]", "[]"),
        ] {
            assert_eq!(minify(text), line);
            assert_eq!(minify_shared(text.into()), line);
        }
        let text = ByteString::from("[1, 2]");
        assert_eq!(minify_shared(text.clone()).as_bytes().as_ptr(), text.as_bytes().as_ptr());
    }

    #[test]
    fn unquotes_strings() {
        for (text, said) in [
            (r#""""#, Some("")),
            (r#""a b""#, Some("a b")),
            (r#""\"\\\/\b\f\n\r\t""#, Some("\"\\/\x08\x0c\n\r\t")),
            (r#""\u00e9\uD83D\ude00é\u0000""#, Some("é😀é\0")),
            (r#""\ud800""#, Some("\u{fffd}")),
            (r#""\udc00\ud83d""#, Some("\u{fffd}\u{fffd}")),
            (r#""\ud800\ud83d\ude00""#, Some("\u{fffd}😀")),
            (r#""\ud800\u0041""#, Some("\u{fffd}A")),
            (r#""\x\u12""#, Some("\u{fffd}x\u{fffd}12")),
            (r#""\u+041""#, Some("\u{fffd}+041")),
            (r#"""#, None),
            ("12", None),
            ("", None),
        ] {
            assert_eq!(unquote(text).as_deref(), said, "{text}");
        }
    }

    #[test]
    fn splits_values() {
        for (items, expected) in [
            ("", &[][..]),
            ("  ", &[]),
            ("1", &["1"]),
            (r#""a,b" , [1,[2]] ,{"k":"]"},null "#, &[r#""a,b""#, "[1,[2]]", r#"{"k":"]"}"#, "null"]),
            (r#""\\","\"""#, &[r#""\\""#, r#""\"""#]),
        ] {
            assert_eq!(values(items).collect::<Vec<_>>(), expected, "{items}");
        }
        for (text, items) in
            [("[]", Some("")), (" [ 1 ] ", Some("1")), ("[", None), ("{}", None), ("[1", None), ("", None)]
        {
            assert_eq!(array_items(text), items);
        }
    }

    proptest! {
        #[test]
        fn minified_text_keeps_its_value(text in spaced_json()) {
            let line = minify(&text);
            prop_assert!(!line.contains(['\n', '\r']));
            prop_assert_eq!(
                serde_json::from_str::<Value>(&text).unwrap(),
                serde_json::from_str::<Value>(&line).unwrap()
            );
        }

        #[test]
        fn strings_are_written_as_serde_json_does_and_read_back(text in any::<String>()) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            let written = String::from_utf8(out).unwrap();
            prop_assert_eq!(&written, &serde_json::to_string(&text).unwrap());
            prop_assert_eq!(unquote(&written).unwrap(), text);
        }

        #[test]
        fn the_quick_pass_takes_what_serde_json_takes(
            text in spaced_json(),
            edits in proptest::collection::vec((any::<Index>(), 0..3_u8, edit()), 0..4),
        ) {
            agrees(&text)?;
            let mut bytes = text.into_bytes();
            for (index, kind, byte) in edits {
                let at = index.index(bytes.len() + 1);
                match kind {
                    0 => bytes.insert(at, byte),
                    1 => drop(bytes.drain(at..bytes.len().min(at + 1))),
                    _ => bytes.get_mut(at).into_iter().for_each(|old| *old = byte),
                }
            }
            agrees(&String::from_utf8_lossy(&bytes))?;
        }

        #[test]
        fn the_quick_pass_agrees_on_numbers_strings_and_soup(
            number in "-?[0-9]{0,3}[.eE+-]{0,2}[0-9]{0,2}[eE]?[+-]?[0-9]{0,2}",
            inside in r#"([ -~é]{0,40}|\\["\\/bfnrtux]|\\u[0-9a-fA-F]{3,4}|[\x00-\x20\x7f]?){0,6}"#,
            soup in r#"([\[\]{}:, \n]|"a"|true|false|null|nul|-?[0-9]){0,12}"#,
        ) {
            for text in [&number, &soup, &format!("\"{inside}\""), &format!("[{number},\"{inside}\",{soup}]")] {
                agrees(text)?;
            }
        }

        #[test]
        fn the_quick_pass_is_as_deep(objects in proptest::collection::vec(any::<bool>(), 120..136)) {
            let opened: String = objects.iter().map(|object| if *object { "{\"k\":" } else { "[" }).collect();
            let closed: String = objects.iter().rev().map(|object| if *object { '}' } else { ']' }).collect();
            let empty = |object| if object { "{}" } else { "[]" };
            for inside in ["7", empty(objects[0])] {
                let text = opened.clone() + inside + &closed;
                agrees(&text)?;
                let depth = objects.len() + usize::from(inside != "7");
                prop_assert_eq!(validate(&text).is_ok(), depth <= MAX_DEPTH);
                agrees(&(text + &closed[..1]))?;
            }
        }

        #[test]
        fn the_first_value_is_what_its_tokens_say(
            items in proptest::collection::vec(spaced_json(), 0..4),
            soup in r#"(["\\\[\]{}:,u \n]|[a-zé😀]){0,20}"#,
        ) {
            for text in [items.join(","), items.join(" , "), soup.clone(), format!("\"{soup}")] {
                prop_assert_eq!(split_first(&text), first_by_tokens(&text), "{}", text);
            }
        }

        #[test]
        fn depth_is_what_a_plain_count_says(
            opened in 0..140_usize,
            text in r#"([\[{]{0,9}|[\]}]|"([^"\\]|\\.){0,4}"|\\|"|é){0,40}"#,
        ) {
            let text = "[".repeat(opened) + &text;
            prop_assert_eq!(too_deep(text.as_bytes()), plain_depth(&text) > MAX_DEPTH);
        }

        #[test]
        fn nothing_panics_on_text_that_is_not_json(text in r#"(["\\\[\]{}:,u0dDcC \n]|[a-zé😀]){0,40}"#) {
            let _ = (validate(&text), minify(&text), unquote(&text), array_items(&text));
            prop_assert!(values(&text).count() <= text.len());
        }

        #[test]
        fn values_are_those_of_the_array(array in proptest::collection::vec(spaced_json(), 0..5)) {
            let items = array.join(",");
            let found: Vec<Value> = values(&items).map(|value| serde_json::from_str(value).unwrap()).collect();
            prop_assert_eq!(found, serde_json::from_str::<Vec<Value>>(&format!("[{items}]")).unwrap());
        }
    }

    /// The quick pass and the parser with the messages have one verdict, and arrays are cut where their tokens say.
    fn agrees(text: &str) -> Result<(), TestCaseError> {
        let cut = inspect(text).ok().and_then(|seen| {
            let (first, others) = split_first(array_items(text)?)?;
            Some((first, others, seen))
        });
        prop_assert_eq!(inspect_array(text), cut, "{:?}", text);
        let seen = scan::scan(text.as_bytes());
        prop_assert_eq!(seen.is_some(), explain(text).is_ok(), "{:?}", text);
        if let Some(seen) = seen {
            prop_assert_eq!(seen.line_breaks, text.contains(['\n', '\r']), "{:?}", text);
        }
        Ok(())
    }

    /// A byte that matters to JSON, more often than not.
    fn edit() -> impl Strategy<Value = u8> {
        let marks: &[u8] = b"\"\\[]{},:0123456789.eE+-truefalsn/bu \t\r\n\x00\x0c\x1f\x7f";
        prop_oneof![4 => proptest::sample::select(marks), 1 => any::<u8>()]
    }

    /// [`split_first`] token by token, whatever the value is.
    fn first_by_tokens(items: &str) -> Option<(&str, &str)> {
        let (mut depth, mut start, mut end) = (0_usize, None, 0);
        for token in Tokens::new(items) {
            start.get_or_insert(token.start);
            end = token.start + token.text.len();
            match token.kind() {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        let others = items[end..].trim_ascii_start();
        let others = others.strip_prefix(',').map_or(others, str::trim_ascii_start);
        Some((&items[start?..end], others))
    }

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    fn plain_depth(text: &str) -> usize {
        let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
        for character in text.chars() {
            match character {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                '[' | '{' if !in_string => depth += 1,
                ']' | '}' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(depth);
        }
        deepest
    }

    /// Any JSON value, with white space wherever there may be some.
    fn spaced_json() -> impl Strategy<Value = String> {
        let space = || "[ \t\r\n]{0,2}";
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|value| value.to_string()),
            any::<i64>().prop_map(|value| value.to_string()),
            "-?[1-9][0-9]{0,3}(\\.[0-9]{1,3})?([eE][+-]?[0-9])?",
            any::<String>().prop_map(|value| serde_json::to_string(&value).unwrap()),
        ];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            let spaced =
                (space(), inner, space()).prop_map(|(before, value, after)| before + &value + &after);
            let member =
                (space(), any::<String>(), space(), spaced.clone()).prop_map(|(a, key, b, value)| {
                    format!("{a}{}{b}:{value}", serde_json::to_string(&key).unwrap())
                });
            prop_oneof![
                proptest::collection::vec(spaced, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
                proptest::collection::vec(member, 0..4).prop_map(|items| format!("{{{}}}", items.join(","))),
            ]
        })
    }
}
