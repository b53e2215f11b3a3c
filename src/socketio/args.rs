//! The arguments of an event or an ack: JSON text and the attachments that belong in it.

use bytes::{BufMut, Bytes};
use bytestring::ByteString;

use super::binary::{self, BinaryError};
use crate::json;

/// Arguments of an event or an ack: comma-separated JSON values (no brackets around them), never a raw newline.
///
/// Binary leaves stand as `{"_placeholder":true,"num":N}` and index `attachments`; without attachments such an
/// object is plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    pub(super) json: ByteString,
    pub(super) attachments: Vec<Bytes>,
}

impl Args {
    /// Plain arguments from a JSON array, without a copy unless line breaks have to go.
    ///
    /// Fails on what is no JSON, nested too deep, or no array.
    pub fn from_array(array: ByteString) -> Result<Self, json::Error> {
        let seen = json::inspect(&array)?;
        let array = if seen.line_breaks { json::minify_shared(array) } else { array };
        let items = json::array_items(&array).ok_or(json::Error::NotAnArray)?;
        Ok(Self { json: array.slice_ref(items), attachments: Vec::new() })
    }

    /// Arguments as a local program gives them: `array` is a JSON array that has passed [`json::validate`].
    ///
    /// With `binary`, each object whose one member is `$binary` becomes an attachment, at most `max_attachments`; the
    /// member must be a string of padded standard base64. Without it, everything is plain data.
    pub fn from_consumer(array: &str, binary: bool, max_attachments: usize) -> Result<Self, BinaryError> {
        let array = json::minify(array);
        let items = json::array_items(&array).ok_or(BinaryError::NotAnArray)?;
        if binary {
            let (json, attachments) = binary::detach(items, max_attachments)?;
            Ok(Self { json: json.into(), attachments })
        } else {
            Ok(Self { json: items.into(), attachments: Vec::new() })
        }
    }

    /// The values as comma-separated JSON, placeholders for binary ones; see [`json::values`].
    pub fn json(&self) -> &str {
        &self.json
    }

    /// What the placeholders' numbers refer to.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// The arguments where they lie.
    pub fn view(&self) -> ArgsView<'_> {
        ArgsView { json: &self.json, attachments: &self.attachments }
    }

    /// Whether there are no arguments.
    pub fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// Whether some argument is, or holds, a binary value.
    pub fn has_binary(&self) -> bool {
        !self.attachments.is_empty()
    }

    /// Bytes of the JSON and the attachments together.
    pub fn size(&self) -> usize {
        self.view().size()
    }

    /// In buffers of their own, where they were slices of messages.
    pub(super) fn detached(&self) -> Self {
        let attachments = self.attachments.iter().map(|bytes| Bytes::copy_from_slice(bytes)).collect();
        Self { json: self.json().into(), attachments }
    }

    /// Appends the arguments as one JSON array; see [`ArgsView::write_array`].
    pub fn write_array(&self, out: &mut impl BufMut) {
        self.view().write_array(out);
    }
}

/// [`Args`] that lie in somebody else's text.
#[derive(Clone, Copy, Debug)]
pub struct ArgsView<'a> {
    pub(super) json: &'a str,
    pub(super) attachments: &'a [Bytes],
}

impl ArgsView<'_> {
    /// Whether some argument is, or holds, a binary value.
    pub fn has_binary(self) -> bool {
        !self.attachments.is_empty()
    }

    /// Bytes of the JSON and the attachments together.
    pub fn size(self) -> usize {
        self.json.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }

    /// The last argument, if it is a text.
    pub fn last_string(self) -> Option<String> {
        // Most events end in something else, which one byte tells.
        if !self.json.trim_end().ends_with('"') {
            return None;
        }
        json::values(self.json).last().and_then(json::unquote).map(std::borrow::Cow::into_owned)
    }

    /// Appends the arguments as one JSON array, binary values as `{"$binary":"<padded standard base64>"}`. All other
    /// bytes stay as they are.
    pub fn write_array(self, out: &mut impl BufMut) {
        out.put_u8(b'[');
        if self.has_binary() {
            binary::attach(self.json, self.attachments, out);
        } else {
            out.put_slice(self.json.as_bytes());
        }
        out.put_u8(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_lose_their_brackets_and_line_breaks() {
        for (array, items) in [
            ("[]", ""),
            (" [ ] ", ""),
            ("[1, 2]", "1, 2"),
            ("[ \"a\" ]", "\"a\""),
            ("[1,\r\n 2]", "1,2"),
            (r#"[1.50,"\u0041",{"a":1,"a":2}]"#, r#"1.50,"\u0041",{"a":1,"a":2}"#),
            (r#"[{"_placeholder":true,"num":0}]"#, r#"{"_placeholder":true,"num":0}"#),
        ] {
            let args = Args::from_array(array.into()).unwrap();
            assert_eq!(args.json(), items, "{array}");
            assert_eq!(args.is_empty(), items.is_empty());
            assert_eq!(args.size(), items.len());
            assert!(!args.has_binary());
            assert_eq!(written(&args), format!("[{items}]"));
            assert_eq!(Args::from_consumer(array, false, 0), Ok(args), "{array}");
        }
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for (text, message) in [
            ("{}", "not an array"),
            ("1", "not an array"),
            ("[1", "EOF while parsing a list at line 1 column 2"),
            ("", "EOF while parsing a value at line 1 column 0"),
        ] {
            assert_eq!(Args::from_array(text.into()).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn an_array_is_not_copied() {
        let array = ByteString::from("[1, 2]");
        let args = Args::from_array(array.clone()).unwrap();
        assert_eq!(args.json().as_ptr(), array[1..].as_ptr());
    }

    fn written(args: &Args) -> String {
        let mut out = Vec::new();
        args.write_array(&mut out);
        String::from_utf8(out).unwrap()
    }
}
