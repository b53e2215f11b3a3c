//! Objects member by member, in the same pass that checks them.

use super::MAX_DEPTH;
use super::scan::Scanner;

/// A text whose members are looked at one after the other. Everything gives `None` where the text is no JSON, or none of
/// the form that is asked for; which of both, [`validate`](super::validate) tells.
pub struct Reader<'a> {
    text: &'a str,
    scanner: Scanner<'a>,
    /// Objects that are open.
    depth: usize,
    /// Nothing of the innermost one has been read.
    fresh: bool,
}

impl<'a> Reader<'a> {
    /// Begins at the beginning.
    pub fn new(text: &'a str) -> Self {
        Self { text, scanner: Scanner::new(text.as_bytes()), depth: 0, fresh: false }
    }

    /// Opens the object that comes next.
    pub fn enter(&mut self) -> Option<()> {
        if self.scanner.token()? != b'{' || self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        self.fresh = true;
        Some(())
    }

    /// The next member's name as it is written, without its quotes; its value has to be read next. `Some(None)` at the end
    /// of the object, which is left then.
    pub fn name(&mut self) -> Option<Option<&'a str>> {
        match (self.scanner.token()?, std::mem::take(&mut self.fresh)) {
            (b'}', _) => {
                self.depth -= 1;
                return Some(None);
            }
            (b',', false) => {
                if self.scanner.token()? != b'"' {
                    return None;
                }
            }
            (b'"', true) => {}
            _ => return None,
        }
        let start = self.at();
        self.scanner.string()?;
        let name = self.text.get(start..self.at() - 1)?;
        (self.scanner.token()? == b':').then_some(Some(name))
    }

    /// The value that comes next, whatever it is, without the white space around it.
    pub fn value(&mut self) -> Option<&'a str> {
        self.scanner.space();
        let start = self.at();
        self.scanner.value(self.depth)?;
        self.text.get(start..self.at())
    }

    /// Whether this is the end of the text.
    pub fn end(mut self) -> Option<()> {
        self.scanner.space();
        (self.at() == self.text.len()).then_some(())
    }

    fn at(&self) -> usize {
        self.text.len() - self.scanner.left()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::super::validate;
    use super::*;

    /// All members, and of those that are called `o` the members within.
    fn members<'a>(reader: &mut Reader<'a>, found: &mut Vec<(&'a str, &'a str)>) -> Option<()> {
        reader.enter()?;
        while let Some(name) = reader.name()? {
            if name == "o" {
                found.push((name, ""));
                members(reader, found)?;
            } else {
                found.push((name, reader.value()?));
            }
        }
        Some(())
    }

    fn read(text: &str) -> Option<Vec<(&str, &str)>> {
        let mut found = Vec::new();
        let mut reader = Reader::new(text);
        members(&mut reader, &mut found)?;
        reader.end().map(|()| found)
    }

    #[test]
    fn members_come_as_they_are_written() {
        for (text, found) in [
            ("{}", Some(&[][..])),
            (" { } ", Some(&[])),
            (r#"{"a":1}"#, Some(&[("a", "1")])),
            (
                " {\"a\" : [1 ,\n{}] , \"\":\"x\\\"\",\"é\\u0041\":-1e5 }\n",
                Some(&[("a", "[1 ,\n{}]"), ("", "\"x\\\"\""), ("é\\u0041", "-1e5")]),
            ),
            (r#"{"o":{"a":null},"b":true}"#, Some(&[("o", ""), ("a", "null"), ("b", "true")])),
            (r#"{"o":{}}"#, Some(&[("o", "")])),
            (r#"{"o":1}"#, None),
            ("", None),
            ("{", None),
            ("[]", None),
            (r#"{"a"}"#, None),
            (r#"{"a":}"#, None),
            (r#"{"a":1,}"#, None),
            (r#"{,"a":1}"#, None),
            (r#"{"a":1 "b":2}"#, None),
            (r#"{"a":1}}"#, None),
            (r#"{"a":1]"#, None),
        ] {
            assert_eq!(read(text).as_deref(), found, "{text}");
        }
        for depth in [MAX_DEPTH - 1, MAX_DEPTH] {
            let text = format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
            assert_eq!(read(&text).is_some(), depth < MAX_DEPTH);
            assert_eq!(validate(&text).is_ok(), depth < MAX_DEPTH);
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_json(
            text in r#"\{(" ?[a-z"]{0,3}"|[ :,{}\[\]]|"a":|-?[0-9]{1,2}|"\\u12|true|null){0,9}\}"#,
        ) {
            if let Some(found) = read(&text) {
                prop_assert!(validate(&text).is_ok(), "{}", text);
                for (name, value) in found {
                    prop_assert!(validate(&format!("\"{name}\"")).is_ok(), "{}", text);
                    prop_assert!(name == "o" || serde_json::from_str::<&RawValue>(value).unwrap().get() == value, "{}", text);
                }
            }
        }
    }
}
