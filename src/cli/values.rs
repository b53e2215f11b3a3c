//! Values as people type them.

use std::collections::BTreeMap;
use std::str::FromStr;

use jiff::fmt::friendly::SpanParser;
use serde::Serialize;
use serde_json::value::RawValue;

/// JSON, kept as it was typed.
pub(super) type Json = Box<RawValue>;

/// Text that must be JSON.
pub(super) fn json(text: &str) -> Result<Json, String> {
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))
}

/// JSON where it parses, else the text itself as a JSON string.
pub(super) fn json_or_string(text: &str) -> Json {
    json(text).unwrap_or_else(|_| {
        // Text is always a JSON string.
        serde_json::value::to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
    })
}

/// `500ms`, `5s`, `2m`, or whole milliseconds; what is less than a millisecond counts as one.
pub(super) fn milliseconds(text: &str) -> Result<u64, String> {
    if let Ok(milliseconds) = text.parse() {
        return Ok(milliseconds);
    }
    let wrong = |_| "expected a duration like 500ms, 5s or 2m, or whole milliseconds".to_owned();
    let duration = SpanParser::new().parse_unsigned_duration(text).map_err(wrong)?;
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).map_err(|_| "too long".to_owned())
}

/// A number of what there has to be one of; `N` is one of Rust's types without a 0.
pub(super) fn at_least_one<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.parse().map_err(|_| "expected a whole number, 1 or more")
}

/// `KEY=VALUE`, the key perhaps dotted, the value JSON where it parses.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    key: String,
    value: Json,
}

/// Reads a [`Setting`].
pub(super) fn setting(text: &str) -> Result<Setting, String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.split('.').any(str::is_empty) {
        return Err("expected KEY=VALUE with a key like tls.insecure".into());
    }
    Ok(Setting { key: key.to_owned(), value: json_or_string(value) })
}

/// A JSON object put together from [`Setting`]s.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Object(BTreeMap<String, Member>);

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Member {
    Value(Json),
    Object(Object),
}

impl Object {
    /// Puts a member in; a dotted key goes into an object of that name.
    ///
    /// The error says which key stands in the way.
    pub(super) fn set(&mut self, Setting { key, value }: Setting) -> Result<(), String> {
        let taken = |at: &str| format!("{key}: {at} is given twice");
        let (path, last) = key.rsplit_once('.').unwrap_or(("", &key));
        let mut object = self;
        for name in path.split_terminator('.') {
            let member = object.0.entry(name.to_owned()).or_insert_with(|| Member::Object(Self::default()));
            match member {
                Member::Object(inner) => object = inner,
                Member::Value(_) => return Err(taken(name)),
            }
        }
        if object.0.contains_key(last) {
            return Err(taken(last));
        }
        object.0.insert(last.to_owned(), Member::Value(value));
        Ok(())
    }

    /// Puts a plain member in.
    pub(super) fn with(mut self, key: &str, value: Json) -> Self {
        self.0.insert(key.to_owned(), Member::Value(value));
        self
    }

    /// The members by name, each a value or an object.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &(impl Serialize + use<>))> {
        self.0.iter().map(|(key, member)| (key.as_str(), member))
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_where_they_parse() {
        for (text, expected) in [
            ("5", "5"),
            ("1.50", "1.50"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            (r#"{"a":1, "a":2}"#, r#"{"a":1, "a":2}"#),
            ("null", "null"),
            ("\"x\"", "\"x\""),
            (" [1] ", "[1]"),
            ("hello", "\"hello\""),
            ("", "\"\""),
            ("01", "\"01\""),
            ("NaN", "\"NaN\""),
            ("{", "\"{\""),
            ("a\n\u{1b}\"", r#""a\n\u001b\"""#),
        ] {
            assert_eq!(json_or_string(text).get(), expected, "{text:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1500", Some(1500)),
            ("500ms", Some(500)),
            ("5s", Some(5_000)),
            ("1.5s", Some(1_500)),
            ("2m", Some(120_000)),
            ("1m 30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("10us", Some(1)),
            ("", None),
            ("5 parsecs", None),
            ("-1", None),
            ("-5s", None),
            ("1.5", None),
        ] {
            assert_eq!(milliseconds(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn settings_become_one_object() {
        for (settings, expected) in [
            (&["timeout=5s", "upgrade=false"][..], Ok(r#"{"timeout":"5s","upgrade":false}"#)),
            (
                &["tls.insecure=true", "tls.server_name=x=y", "a.b.c=1"],
                Ok(r#"{"a":{"b":{"c":1}},"tls":{"insecure":true,"server_name":"x=y"}}"#),
            ),
            (&["transports=[\"polling\"]"], Ok(r#"{"transports":["polling"]}"#)),
            (&["query.x="], Ok(r#"{"query":{"x":""}}"#)),
            (&["tls=5", "tls.insecure=true"], Err("tls.insecure: tls is given twice")),
            (&["tls.insecure=true", "tls=5"], Err("tls: tls is given twice")),
            (&["a.b=1", "a.b=2"], Err("a.b: b is given twice")),
        ] {
            let mut object = Object::default();
            let result = settings.iter().try_for_each(|text| object.set(setting(text).unwrap()));
            let json = serde_json::to_string(&object).unwrap();
            assert_eq!(result.as_ref().map(|()| json.as_str()).map_err(String::as_str), expected);
        }
    }

    #[test]
    fn settings_that_are_none() {
        for text in ["", "timeout", "=5", "tls.=5", ".tls=5", "a..b=5"] {
            assert!(setting(text).is_err(), "{text:?}");
        }
    }
}
