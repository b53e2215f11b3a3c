//! Durations and sizes as people write them: `"1m 30s"` or whole milliseconds, `"4MiB"` or whole bytes.
//!
//! Nothing is guessed: a fraction, a negative number or an unknown unit is refused.

use std::fmt;
use std::str::FromStr;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use jiff::fmt::friendly::{Designator, Spacing, SpanParser, SpanPrinter};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time of at most 365 days.
///
/// In files and in JSON a string with units (`"500ms"`, `"5s"`, `"1m 30s"`) or whole milliseconds. Displayed with
/// units, as it can be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub std::time::Duration);

/// A number of bytes.
///
/// In files and in JSON a string with a unit (`"4MiB"`, `"64KiB"`, `"10MB"`, `"512B"`) or whole bytes.
/// `KiB`, `MiB`, `GiB` count in 1024s; `kB`, `MB`, `GB` in 1000s. Displayed in the largest binary unit that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

/// A text that is no quantity; says what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct ParseError(&'static str);

const A_DURATION: &str = "a duration like \"5s\" or whole milliseconds, at most 365 days";
const A_SIZE: &str = "a size like \"4MiB\" or whole bytes";

/// So long that nobody means more, so short that adding it to any clock is safe.
const LONGEST: std::time::Duration = std::time::Duration::from_hours(365 * 24);

const UNITS: [(&str, usize); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for Duration {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // A number in quotes could be meant as seconds; `SpanParser` wants a unit.
        let duration = SpanParser::new().parse_unsigned_duration(text).map_err(|_| ParseError(A_DURATION))?;
        if duration > LONGEST || duration.subsec_nanos() % 1_000_000 != 0 {
            return Err(ParseError(A_DURATION));
        }
        Ok(Self(duration))
    }
}

impl Duration {
    fn from_millis(millis: u64) -> Result<Self, ParseError> {
        let duration = std::time::Duration::from_millis(millis);
        if duration > LONGEST { Err(ParseError(A_DURATION)) } else { Ok(Self(duration)) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printer = SpanPrinter::new().designator(Designator::Compact).spacing(Spacing::BetweenUnits);
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        f.write_str(&printer.unsigned_duration_to_string(&self.0))
    }
}

impl FromStr for Size {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (number, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?.trim_end(), *factor)))
            .ok_or(ParseError(A_SIZE))?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let bytes =
            number.parse::<usize>().ok().filter(|_| digits).and_then(|number| number.checked_mul(factor));
        bytes.map(Self).ok_or(ParseError(A_SIZE))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = UNITS.iter().take(3).find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        let (unit, factor) = binary.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity {
            expected: A_DURATION,
            of_text: str::parse,
            of_number: Self::from_millis,
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity {
            expected: A_SIZE,
            of_text: str::parse,
            of_number: |bytes| usize::try_from(bytes).map(Self).map_err(|_| ParseError(A_SIZE)),
        })
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A span of time of at most 365 days: text with units, like \"500ms\", \"5s\" or \"1m 30s\", or \
                            whole milliseconds.",
            "type": ["string", "integer"],
            "pattern": "^[+]?[0-9].*[a-zA-Zµ:]",
            "minimum": 0,
            "maximum": u64::try_from(LONGEST.as_millis()).expect("days"),
        })
    }
}

#[cfg(test)]
impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let units = UNITS.map(|(unit, _)| unit).join("|");
        json_schema!({
            "description": "A number of bytes: text with a unit, like \"64KiB\", \"4MiB\" or \"10MB\", or whole bytes. KiB, \
                            MiB and GiB count in 1024s, kB, MB and GB in 1000s.",
            "type": ["string", "integer"],
            "pattern": format!("^[0-9]+ *({units})$"),
            "minimum": 0,
        })
    }
}

/// Takes a string or a whole number and nothing else.
struct Quantity<T> {
    expected: &'static str,
    of_text: fn(&str) -> Result<T, ParseError>,
    of_number: fn(u64) -> Result<T, ParseError>,
}

impl<T> de::Visitor<'_> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.of_text)(text).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.of_number)(number).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(json: &str) -> Result<u128, String> {
        serde_json::from_str::<Duration>(json).map(|it| it.0.as_millis()).map_err(|error| error.to_string())
    }

    fn size(json: &str) -> Result<usize, String> {
        serde_json::from_str::<Size>(json).map(|it| it.0).map_err(|error| error.to_string())
    }

    #[test]
    fn durations() {
        for (json, millis) in [
            ("0", 0),
            ("1500", 1_500),
            (r#""0s""#, 0),
            (r#""500ms""#, 500),
            (r#""5s""#, 5_000),
            (r#""2m""#, 120_000),
            (r#""1m 30s""#, 90_000),
            (r#""1m30s""#, 90_000),
            (r#""1.5s""#, 1_500),
            (r#""2h""#, 7_200_000),
        ] {
            assert_eq!(duration(json), Ok(millis), "{json}");
        }
        for json in [
            "-1",
            "1.5",
            "true",
            "null",
            "[]",
            r#""""#,
            r#""0""#,
            r#""250""#,
            r#""5 parsecs""#,
            r#""-5s""#,
            r#""1us""#,
            r#""366d""#,
            "31536000001",
        ] {
            let error = duration(json).unwrap_err();
            assert!(
                error.contains(r#"expected a duration like "5s" or whole milliseconds"#),
                "{json}: {error}"
            );
        }
    }

    #[test]
    fn sizes() {
        for (json, bytes) in [
            ("0", 0),
            ("1000", 1_000),
            (r#""512B""#, 512),
            (r#""64KiB""#, 65_536),
            (r#""4MiB""#, 4_194_304),
            (r#""4 MiB""#, 4_194_304),
            (r#""1GiB""#, 1_073_741_824),
            (r#""10MB""#, 10_000_000),
            (r#""5kB""#, 5_000),
        ] {
            assert_eq!(size(json), Ok(bytes), "{json}");
        }
        for json in [
            "-1",
            "1.5",
            "false",
            r#""""#,
            r#""1000""#,
            r#""MiB""#,
            r#""+1""#,
            r#""4 mib""#,
            r#""1.5MiB""#,
            r#""99999999999GiB""#,
        ] {
            let error = size(json).unwrap_err();
            assert!(error.contains(r#"expected a size like "4MiB" or whole bytes"#), "{json}: {error}");
        }
    }

    #[test]
    fn shown_as_they_can_be_read() {
        for text in ["0s", "1ms", "500ms", "5s", "1m 30s", "2h"] {
            assert_eq!(text.parse::<Duration>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        for text in ["0B", "1000B", "64KiB", "4MiB", "1025KiB", "2GiB"] {
            assert_eq!(text.parse::<Size>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
    }

    /// What is read has to be what the schema takes; where that cannot say all, like the units of time, it takes more.
    #[test]
    fn what_is_read_is_in_the_schema() {
        let taken = |schema: Schema, json: &str| {
            let value = serde_json::from_str(json).unwrap();
            jsonschema::is_valid(schema.as_value(), &value)
        };
        let mut generator = SchemaGenerator::default();
        for (json, only_the_schema) in [
            ("0", false),
            ("1500", false),
            ("31536000000", false),
            (r#""0s""#, false),
            (r#""500ms""#, false),
            (r#""1m 30s""#, false),
            (r#""1.5s""#, false),
            (r#""2 hours, 5 minutes""#, false),
            (r#""2h 00:30:00""#, true),
            (r#""00:01:30""#, false),
            (r#""1d""#, true),
            (r#""5 parsecs""#, true),
            (r#""1us""#, true),
            (r#"" 5s""#, false),
            (r#""+5s""#, false),
            (r#""-5s""#, false),
            (r#""5s ago""#, true),
            (r#""5000000µs""#, false),
            (r#""5 s""#, false),
            (r#""PT5S""#, false),
            (r#""soon""#, false),
            (r#""250""#, false),
            (r#""""#, false),
            ("-1", false),
            ("1.5", false),
            ("null", false),
            ("31536000001", false),
        ] {
            let read = duration(json).is_ok();
            let found = taken(Duration::json_schema(&mut generator), json);
            assert_eq!(found, read || only_the_schema, "{json}: read {read}");
            assert!(!(read && only_the_schema), "{json} is read after all");
        }
        for json in [
            "0",
            "1000",
            r#""512B""#,
            r#""4 MiB""#,
            r#""5kB""#,
            "-1",
            "1.5",
            r#""1000""#,
            r#""MiB""#,
            r#""4 mib""#,
            r#"" 4MiB""#,
            r#""4MiB ""#,
            r#""1.5MiB""#,
        ] {
            let read = size(json).is_ok();
            assert_eq!(taken(Size::json_schema(&mut generator), json), read, "{json}: read {read}");
        }
    }
}
