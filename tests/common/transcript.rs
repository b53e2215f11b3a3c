//! Compares a line of the daemon with literal JSON text that may have holes.
//!
//! | in the literal | stands for |
//! | --- | --- |
//! | `…` | any value |
//! | `…name` | any value, captured under that name as the text it was |
//! | `[…]` | any array |
//! | `"… seconds…"` | a string; each `…` in it is any characters |
//! | `"…":…` as a member | any further members |
//!
//! Members of objects may come in any order, as JSON has none, with two exceptions: `args` and `id` without a hole
//! are compared as text, since the daemon hands them on to the byte.

use std::collections::HashMap;

/// What the named holes of a literal stood for, as JSON text.
#[derive(Debug, Default)]
pub struct Captures(HashMap<String, String>);

impl Captures {
    /// A captured number.
    pub fn number(&self, name: &str) -> u64 {
        self[name].parse().unwrap_or_else(|_| panic!("{name} is {}, no whole number", &self[name]))
    }
}

impl std::ops::Index<&str> for Captures {
    type Output = str;

    fn index(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("the literal has no hole named {name}"))
    }
}

/// Compares `actual` with the literal `expected`; the error says where they part.
pub fn compare(expected: &str, actual: &str) -> Result<Captures, String> {
    let expected = parse(expected).map_err(|error| format!("the expectation itself is wrong: {error}"))?;
    let actual = parse(actual)?;
    let mut captures = Captures::default();
    expected.matches(&actual, "", &mut captures)?;
    Ok(captures)
}

/// A line as a value. What no such value can hold, like 1e400 and the escape of half a character, is another value of
/// its kind.
pub fn value(line: &str) -> Result<serde_json::Value, String> {
    Ok(parse(line)?.to_json())
}

/// A JSON value and the text it was read from.
struct Value<'a> {
    text: &'a str,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// A hole, with its name.
    Hole(&'a str),
    /// A string (with its quotes), a number, or a word.
    Scalar,
    Array(Vec<Value<'a>>),
    Object(Vec<(&'a str, Value<'a>)>),
}

impl Value<'_> {
    fn to_json(&self) -> serde_json::Value {
        let name = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| text.to_owned());
        match &self.kind {
            Kind::Array(items) => items.iter().map(Self::to_json).collect(),
            Kind::Object(members) => {
                members.iter().map(|(text, value)| (name(text), value.to_json())).collect()
            }
            Kind::Scalar | Kind::Hole(_) => serde_json::from_str(self.text).unwrap_or_else(|_| {
                let is_number = self.text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
                if is_number { f64::MAX.into() } else { self.text.into() }
            }),
        }
    }

    fn has_hole(&self) -> bool {
        self.text.contains('…')
    }

    fn matches(&self, actual: &Value<'_>, at: &str, captures: &mut Captures) -> Result<(), String> {
        let differs = || Err(format!("at `{at}`: expected {}, found {}", self.text, actual.text));
        match (&self.kind, &actual.kind) {
            (Kind::Hole(name), _) => {
                if !name.is_empty() {
                    captures.0.insert((*name).to_owned(), actual.text.to_owned());
                }
                Ok(())
            }
            (Kind::Scalar, Kind::Scalar) if fits(self.text, actual.text) => Ok(()),
            (Kind::Array(expected), Kind::Array(found)) => {
                if let [Value { kind: Kind::Hole(_), .. }] = expected[..] {
                    return Ok(());
                }
                if expected.len() != found.len() {
                    return differs();
                }
                expected
                    .iter()
                    .zip(found)
                    .enumerate()
                    .try_for_each(|(i, (value, found))| value.matches(found, &format!("{at}[{i}]"), captures))
            }
            (Kind::Object(expected), Kind::Object(found)) => members_match(expected, found, at, captures),
            _ => differs(),
        }
    }
}

fn members_match(
    expected: &[(&str, Value<'_>)],
    found: &[(&str, Value<'_>)],
    at: &str,
    captures: &mut Captures,
) -> Result<(), String> {
    const REST: &str = r#""…""#;
    for (name, value) in expected.iter().filter(|(name, _)| *name != REST) {
        let at = format!("{at}.{}", name.trim_matches('"'));
        let Some((_, found)) = found.iter().find(|(other, _)| other == name) else {
            return Err(format!("at `{at}`: expected {}, found no such member", value.text));
        };
        let to_the_byte = matches!(*name, r#""args""# | r#""id""#) && !value.has_hole();
        if to_the_byte && value.text != found.text {
            return Err(format!("at `{at}`: expected {}, found {}", value.text, found.text));
        }
        if !to_the_byte {
            value.matches(found, &at, captures)?;
        }
    }
    if expected.iter().any(|(name, _)| *name == REST) {
        return Ok(());
    }
    match found.iter().find(|(name, _)| expected.iter().all(|(other, _)| other != name)) {
        Some((name, value)) => Err(format!("at `{at}`: unexpected member {name}: {}", value.text)),
        None if found.len() > expected.len() => Err(format!("at `{at}`: a member comes twice")),
        None => Ok(()),
    }
}

/// Whether `text` is `pattern`, in which each `…` stands for any characters.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('…') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| fits(rest, &text[at..]))
}

fn parse(text: &str) -> Result<Value<'_>, String> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value()?;
    parser.skip_space();
    if parser.at < text.len() { Err(parser.error("the end")) } else { Ok(value) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, expected: &str) -> String {
        format!("not JSON at byte {} (expected {expected}): {}", self.at, self.text)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\n', '\r', '\t']).len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let here = self.rest().starts_with(token);
        self.at += if here { token.len() } else { 0 };
        here
    }

    fn value(&mut self) -> Result<Value<'a>, String> {
        self.skip_space();
        let start = self.at;
        let kind = if self.take("…") {
            let length = self.rest().find(|c: char| !c.is_ascii_lowercase()).unwrap_or(self.rest().len());
            let name = &self.rest()[..length];
            self.at += length;
            Kind::Hole(name)
        } else if self.take("[") {
            Kind::Array(self.list("]", Self::value)?)
        } else if self.take("{") {
            Kind::Object(self.list("}", Self::member)?)
        } else if self.rest().starts_with('"') {
            self.string()?;
            Kind::Scalar
        } else {
            let word = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            let length = self.rest().find(|c| !word(c)).unwrap_or(self.rest().len());
            if length == 0 {
                return Err(self.error("a value"));
            }
            self.at += length;
            Kind::Scalar
        };
        Ok(Value { text: &self.text[start..self.at], kind })
    }

    fn list<T>(
        &mut self,
        end: &str,
        item: impl Fn(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let mut items = Vec::new();
        if self.take(end) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take(end) {
                return Ok(items);
            }
            if !self.take(",") {
                return Err(self.error(end));
            }
        }
    }

    fn member(&mut self) -> Result<(&'a str, Value<'a>), String> {
        self.skip_space();
        let name = self.string()?;
        if !self.take(":") {
            return Err(self.error("a colon"));
        }
        Ok((name, self.value()?))
    }

    /// A string with its quotes.
    fn string(&mut self) -> Result<&'a str, String> {
        let start = self.at;
        let mut characters = self.rest().char_indices();
        if characters.next().is_none_or(|(_, c)| c != '"') {
            return Err(self.error("a string"));
        }
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(&self.text[start..self.at]);
                }
                '\\' => drop(characters.next()),
                _ => {}
            }
        }
        Err(self.error("a closing quote"))
    }
}
