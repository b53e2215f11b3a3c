//! Attachments out of and back into JSON placeholders.
//!
//! Three forms of one value: `{"$binary":"<base64>"}` towards local programs, `{"_placeholder":true,"num":N}` beside
//! numbered attachments towards upstream, and the bytes themselves.

use std::convert::Infallible;
use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{BufMut, Bytes};

use crate::json::{self, Tokens};

/// Why arguments that a local program gave cannot be sent. Numbers count `$binary` objects from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BinaryError {
    /// The arguments as a whole.
    #[error("args must be an array")]
    NotAnArray,
    /// `{"$binary":5}` and the like.
    #[error("\"$binary\" number {number} must be a string of base64")]
    NotAString {
        /// Which one.
        number: usize,
    },
    /// A string of something else: not padded, URL-safe, white space within.
    #[error("\"$binary\" number {number} is not standard base64 with padding: {error}")]
    NotBase64 {
        /// Which one.
        number: usize,
        /// What is wrong with it.
        error: base64::DecodeError,
    },
    /// More than the server would take.
    #[error("more than {max} binary values: spread them over several events")]
    TooMany {
        /// How many are allowed.
        max: usize,
    },
    /// Plain data that the server would mistake for an attachment.
    #[error(
        "an object with \"_placeholder\":true cannot be sent beside binary values: the server would replace it"
    )]
    Placeholder,
}

/// Takes the `$binary` objects out of comma-separated values: the values with placeholders instead, and the bytes.
pub(super) fn detach(items: &str, max: usize) -> Result<(String, Vec<Bytes>), BinaryError> {
    let mut attachments = Vec::new();
    let mut detached = String::with_capacity(items.len());
    let mut copied = 0;
    each_object(items, ["$binary"], |span, members, [value]| {
        let (1, Some(value)) = (members, value) else {
            return Ok(());
        };
        let number = attachments.len() + 1;
        if number > max {
            return Err(BinaryError::TooMany { max });
        }
        let base64 = json::unquote(value).ok_or(BinaryError::NotAString { number })?;
        let bytes = BASE64_STANDARD
            .decode(base64.as_bytes())
            .map_err(|error| BinaryError::NotBase64 { number, error })?;
        detached.push_str(&items[copied..span.start]);
        detached.push_str("{\"_placeholder\":true,\"num\":");
        detached.push_str(itoa::Buffer::new().format(attachments.len()));
        detached.push('}');
        copied = span.end;
        attachments.push(bytes.into());
        Ok(())
    })?;
    detached.push_str(&items[copied..]);
    if !attachments.is_empty() && !placeholders(items).is_empty() {
        return Err(BinaryError::Placeholder);
    }
    Ok((detached, attachments))
}

/// Appends comma-separated values with a `$binary` object for every placeholder of an attachment.
pub(super) fn attach(items: &str, attachments: &[Bytes], out: &mut impl BufMut) {
    let mut copied = 0;
    for Placeholder { span, num } in placeholders(items) {
        let Some(bytes) = num.and_then(|num| attachments.get(num)) else {
            continue;
        };
        out.put_slice(&items.as_bytes()[copied..span.start]);
        out.put_slice(b"{\"$binary\":\"");
        push_base64(out, bytes);
        out.put_slice(b"\"}");
        copied = span.end;
    }
    out.put_slice(&items.as_bytes()[copied..]);
}

fn push_base64(out: &mut impl BufMut, bytes: &[u8]) {
    let mut text = [0; 4096];
    for part in bytes.chunks(text.len() / 4 * 3) {
        let length =
            BASE64_STANDARD.encode_slice(part, &mut text).expect("four characters for every three bytes");
        out.put_slice(&text[..length]);
    }
}

/// An object that stands for an attachment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    pub(super) span: Range<usize>,
    /// Which attachment; `None` where `num` is missing or anything but a plain integer from 0.
    pub(super) num: Option<usize>,
}

/// The objects with `"_placeholder":true` in comma-separated values, in order. One within another is none: the outer
/// one is replaced as a whole.
pub(super) fn placeholders(items: &str) -> Vec<Placeholder> {
    let mut found: Vec<Placeholder> = Vec::new();
    let Ok(()) = each_object::<_, Infallible>(items, ["_placeholder", "num"], |span, _, [mark, num]| {
        if mark == Some("true") {
            while found.last().is_some_and(|last| last.span.start > span.start) {
                found.pop();
            }
            found.push(Placeholder { span, num: num.and_then(|num| num.parse().ok()) });
        }
        Ok(())
    });
    found
}

/// Calls `visit` at the end of every object with where it stands, how many members it has, and for each of `keys` the
/// value: the token where it is a string, number or word, the opening bracket or brace otherwise.
///
/// Of members with the same key the last one counts, as in `JSON.parse`.
fn each_object<'a, const N: usize, E>(
    json: &'a str,
    keys: [&str; N],
    mut visit: impl FnMut(Range<usize>, usize, [Option<&'a str>; N]) -> Result<(), E>,
) -> Result<(), E> {
    let mut open: Vec<Container<'a, N>> = Vec::new();
    let mut string = "";
    for token in Tokens::new(json) {
        match token.kind() {
            b':' => {
                if let Some(object) = open.last_mut() {
                    object.members += 1;
                    object.key =
                        json::unquote(string).and_then(|said| keys.iter().position(|key| *key == said));
                }
            }
            b',' => {}
            end @ (b'}' | b']') => {
                if let (Some(object), b'}') = (open.pop(), end) {
                    visit(object.start..token.start + 1, object.members, object.values)?;
                }
            }
            kind => {
                if let Some(object) = open.last_mut()
                    && let Some(key) = object.key.take()
                {
                    object.values[key] = Some(token.text);
                }
                match kind {
                    b'"' => string = token.text,
                    b'{' | b'[' => {
                        open.push(Container { start: token.start, members: 0, key: None, values: [None; N] });
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// An array or object that is not at its end yet; an array has no members.
struct Container<'a, const N: usize> {
    start: usize,
    members: usize,
    /// The key that waits for its value, where it is one that is asked for.
    key: Option<usize>,
    values: [Option<&'a str>; N],
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::socketio::Args;

    #[test]
    fn binary_objects_become_attachments_in_order() {
        let zero = r#"{"_placeholder":true,"num":0}"#;
        for (array, json, attachments) in [
            (r#"[{"$binary":"AQID"}]"#.to_owned(), zero.to_owned(), &[&[1, 2, 3][..]][..]),
            (r#"[{"$binary":""}]"#.into(), zero.into(), &[&[]]),
            (r#"[ { "\u0024binary" : "\/w==" } ]"#.into(), zero.into(), &[&[255]]),
            (
                r#"[1,{"a":[{"$binary":"AQ=="}, "é"],"b":{"c":{"$binary":"Ag=="}}},{"$binary":"Aw=="}]"#
                    .into(),
                format!(
                    r#"1,{{"a":[{zero}, "é"],"b":{{"c":{}}}}},{}"#,
                    zero.replace('0', "1"),
                    zero.replace('0', "2")
                ),
                &[&[1], &[2], &[3]],
            ),
            // Not exactly that one member: plain data.
            (
                r#"[{"$binary":"AQ==","a":1},{"$Binary":"AQ=="},{"a":1},["$binary","AQ=="],{}]"#.into(),
                r#"{"$binary":"AQ==","a":1},{"$Binary":"AQ=="},{"a":1},["$binary","AQ=="],{}"#.into(),
                &[],
            ),
            (r#"[{"$binary":"AQ==","$binary":5}]"#.into(), r#"{"$binary":"AQ==","$binary":5}"#.into(), &[]),
            // Without attachments a placeholder is plain data.
            (format!("[{zero}]"), zero.into(), &[]),
        ] {
            let args = Args::from_consumer(&array, true, 3).unwrap();
            assert_eq!(args.json(), json, "{array}");
            assert_eq!(args.attachments(), attachments, "{array}");
            assert_eq!(args.has_binary(), !attachments.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_sent_is_explained() {
        for (array, message) in [
            ("5", "args must be an array"),
            ("[", "args must be an array"),
            (r#"[{"$binary":5}]"#, "\"$binary\" number 1 must be a string of base64"),
            (r#"[{"$binary":"AQ=="},{"$binary":{}}]"#, "\"$binary\" number 2 must be a string of base64"),
            (r#"[{"$binary":{"$binary":"AQ=="}}]"#, "\"$binary\" number 2 must be a string of base64"),
            (
                r#"[{"$binary":"AQ"}]"#,
                "\"$binary\" number 1 is not standard base64 with padding: Invalid padding",
            ),
            (
                r#"[{"$binary":"-w=="}]"#,
                "\"$binary\" number 1 is not standard base64 with padding: Invalid symbol 45, offset 0.",
            ),
            (
                r#"[{"$binary":"AQ==\n"}]"#,
                "\"$binary\" number 1 is not standard base64 with padding: Invalid symbol 10, offset 4.",
            ),
            (
                r#"[{"$binary":"AQ=="},{"$binary":"AQ=="},{"$binary":"AQ=="}]"#,
                "more than 2 binary values: spread them over several events",
            ),
            (
                r#"[{"$binary":"AQ=="},{"num":9,"_placeholder":true}]"#,
                "an object with \"_placeholder\":true cannot be sent beside binary values: the server would replace it",
            ),
            (
                r#"[{"_placeholder":true,"num":9,"x":{"$binary":"AQ=="}}]"#,
                "an object with \"_placeholder\":true cannot be sent beside binary values: the server would replace it",
            ),
        ] {
            let refused = Args::from_consumer(array, true, 2).unwrap_err();
            assert_eq!(refused.to_string(), message, "{array}");
        }
    }

    #[test]
    fn placeholders_are_found_however_they_are_written() {
        for (items, nums) in [
            (r#"{"_placeholder":true,"num":0}"#, &[Some(0)][..]),
            (r#"{ "num" : 12 , "x":[{}], "_placeholder" : true }"#, &[Some(12)]),
            (r#"{"\u005fplaceholder":true,"nu\u006d":1}"#, &[Some(1)]),
            (r#"[{"a":{"_placeholder":true,"num":1}}],{"_placeholder":true,"num":0}"#, &[Some(1), Some(0)]),
            (r#"{"_placeholder":false,"_placeholder":true,"num":7,"num":3}"#, &[Some(3)]),
            (r#"{"_placeholder":true,"_placeholder":false,"num":0}"#, &[]),
            (r#"{"_placeholder":true,"num":0,"num":"0"}"#, &[None]),
            (r#"{"_placeholder":true}"#, &[None]),
            (r#"{"_placeholder":true,"num":-1}"#, &[None]),
            (r#"{"_placeholder":true,"num":1.0}"#, &[None]),
            (r#"{"_placeholder":true,"num":[0]}"#, &[None]),
            (r#"{"_placeholder":true,"num":99999999999999999999}"#, &[None]),
            (r#"{"_placeholder":"true","num":0}"#, &[]),
            (r#"{"_placeholder":1,"num":0}"#, &[]),
            (r#"{"_placeholder":[true],"num":0}"#, &[]),
            (r#"["_placeholder",true,"num",0]"#, &[]),
            (r#""{\"_placeholder\":true,\"num\":0}""#, &[]),
            (r#"{"_placeholder":true,"num":2,"x":{"_placeholder":true,"num":1}}"#, &[Some(2)]),
            (
                r#"{"x":{"_placeholder":true},"_placeholder":true,"num":2},{"_placeholder":true}"#,
                &[Some(2), None],
            ),
        ] {
            let found: Vec<_> = placeholders(items).into_iter().map(|placeholder| placeholder.num).collect();
            assert_eq!(found, nums, "{items}");
        }
    }

    #[test]
    fn attachments_go_back_where_their_placeholders_stand() {
        let attachments = [Bytes::from_static(&[1, 2, 3]), Bytes::new(), Bytes::from_static(&[255])];
        for (items, written) in [
            (r#"{"_placeholder":true,"num":0}"#, r#"{"$binary":"AQID"}"#),
            (
                r#"1.50, {"num":2,"_placeholder":true,"x":{}} ,[{"_placeholder":true,"num":1}]"#,
                r#"1.50, {"$binary":"/w=="} ,[{"$binary":""}]"#,
            ),
            (
                r#"{"_placeholder":true,"num":2},{"_placeholder":true,"num":2}"#,
                r#"{"$binary":"/w=="},{"$binary":"/w=="}"#,
            ),
            (r#"{"_placeholder":true,"num":3}"#, r#"{"_placeholder":true,"num":3}"#),
            (r#"{"_placeholder":false,"num":0}"#, r#"{"_placeholder":false,"num":0}"#),
        ] {
            let mut out = Vec::new();
            attach(items, &attachments, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), written, "{items}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(Args::from_consumer(&deep, true, 10).unwrap().size(), deep.len() - 2);
    }

    proptest! {
        #[test]
        fn what_goes_out_comes_back(leaves in proptest::collection::vec(any::<(Option<Vec<u8>>, String)>(), 0..8)) {
            let items: Vec<_> = leaves
                .iter()
                .map(|(bytes, text)| match bytes {
                    Some(bytes) => format!(r#"{{"$binary":"{}"}}"#, BASE64_STANDARD.encode(bytes)),
                    None => format!(r#"{{"$binary" : {0}, "b" : [ {0} ]}}"#, serde_json::to_string(text).unwrap()),
                })
                .collect();
            let array = format!("[{}]", items.join(" , "));
            let args = Args::from_consumer(&array, true, 8).unwrap();
            let bytes: Vec<_> = leaves.iter().filter_map(|(bytes, _)| bytes.clone()).collect();
            prop_assert_eq!(args.attachments(), &bytes);
            let mut out = Vec::new();
            args.write_array(&mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), array);
        }

        #[test]
        fn no_text_makes_it_panic(
            text in r#"(\{"\$binary":"AQ=="\}|\{"_placeholder":true|,"num":|[0-9]|["\\\[\]{}:, ]|true|é){0,30}"#,
        ) {
            let array = format!("[{text}]");
            if let Ok(args) = Args::from_consumer(&array, true, 5) {
                args.write_array(&mut Vec::new());
            }
            attach(&text, &[Bytes::from_static(b"x")], &mut Vec::new());
        }
    }
}
