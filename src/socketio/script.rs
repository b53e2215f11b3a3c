//! What a connection says by itself after each CONNECT, before anybody else may speak: a login, a subscription.
//!
//! The [`Socket`](super::Socket) plays it; here is what a step is, and whether an answer is the expected one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::value::RawValue;

use super::{Args, Name};
use crate::json;
use crate::secret::Secret;

/// One emit of a script.
#[derive(Clone, PartialEq)]
pub struct Step {
    /// The event.
    pub event: Name,
    /// Its arguments.
    pub args: StepArgs,
    /// What the answer's first argument must contain, JSON text; without it no answer is asked for.
    pub expect: Option<Secret>,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// Where a step's arguments come from.
#[derive(Clone, PartialEq)]
pub enum StepArgs {
    /// They are always these.
    Fixed(Args),
    /// A file with a JSON array, read anew each time.
    File(PathBuf),
}

impl fmt::Debug for Step {
    /// Arguments and expectations can be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("event", &self.event)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Step {
    /// Whether these arguments of an answer are what is expected; says what is wrong, and quotes nothing.
    pub(super) fn accepts(&self, answer: &Args) -> Result<(), &'static str> {
        let Some(expect) = &self.expect else { return Ok(()) };
        let mut array = Vec::new();
        answer.write_array(&mut array);
        let first =
            serde_json::from_slice::<Vec<&RawValue>>(&array).ok().and_then(|args| args.first().copied());
        match first {
            None => Err("the server answered with nothing"),
            Some(first) if contains(first.get(), expect.expose()) => Ok(()),
            Some(_) => Err("the server's answer does not contain what is expected"),
        }
    }
}

/// Whether the JSON value `found` has everything that `expected` names: of objects every member, recursively; all else
/// must be equal.
fn contains(found: &str, expected: &str) -> bool {
    match (object(found), object(expected)) {
        (Some(found), Some(expected)) => expected.iter().all(|(name, expected)| {
            found.get(name).is_some_and(|found| contains(found.get(), expected.get()))
        }),
        (None, None) => equal(found, expected),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn equal(one: &str, other: &str) -> bool {
    if let (Some(one), Some(other)) = (object(one), object(other)) {
        return one.len() == other.len()
            && one
                .iter()
                .all(|(name, value)| other.get(name).is_some_and(|other| equal(value.get(), other.get())));
    }
    if let (Some(one), Some(other)) = (array(one), array(other)) {
        return one.len() == other.len()
            && one.iter().zip(&other).all(|(one, other)| equal(one.get(), other.get()));
    }
    if let (Some(one), Some(other)) = (json::unquote(one), json::unquote(other)) {
        return one == other;
    }
    // Words, and numbers in whatever spelling.
    one == other
        || matches!((number(one), number(other)), (Some(one), Some(other)) if one.total_cmp(&other).is_eq())
}

fn object(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}

fn array(text: &str) -> Option<Vec<&RawValue>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// Integers that a double cannot tell apart are equal only to the letter.
fn number(text: &str) -> Option<f64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    text.parse::<f64>().ok().filter(|number| number.abs() < EXACT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_contains_what_is_expected_or_not() {
        for (found, expected, contained) in [
            (r#"{"ok":true,"token":"x"}"#, r#"{"ok":true}"#, true),
            (r#"{"ok":false}"#, r#"{"ok":true}"#, false),
            (r#"{"ok":true}"#, "{}", true),
            (r#"{"a":{"b":1.0,"c":2}}"#, r#"{"a":{"b":1}}"#, true),
            (r#"{"a":{"c":2}}"#, r#"{"a":{"b":1}}"#, false),
            (r#"{"a":[{"b":1,"c":2}]}"#, r#"{"a":[{"b":1}]}"#, false),
            (r#"{"a":[{"b":1}, 2]}"#, r#"{"a":[{"b":1},2]}"#, true),
            (r#"[{"b":1}]"#, "{}", false),
            ("true", "true", true),
            ("null", "null", true),
            ("null", "{}", false),
            (r#""\u0061b""#, r#""ab""#, true),
            (r#""1""#, "1", false),
            ("1e2", "100", true),
            ("9007199254740993", "9007199254740992", false),
            ("12345678901234567890", "12345678901234567890", true),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#, true),
        ] {
            assert_eq!(contains(found, expected), contained, "{found} for {expected}");
        }
    }

    #[test]
    fn the_first_argument_decides() {
        let step = Step {
            event: Name::new("login"),
            args: StepArgs::Fixed(Args::default()),
            expect: Some(r#"{"ok":true}"#.into()),
            timeout: Duration::from_secs(10),
        };
        let answer = |array: &str| step.accepts(&Args::from_array(array.into()).unwrap());
        assert_eq!(answer(r#"[{"ok":true,"secret":1},2]"#), Ok(()));
        assert_eq!(
            answer(r#"[1,{"ok":true}]"#),
            Err("the server's answer does not contain what is expected")
        );
        assert_eq!(answer("[]"), Err("the server answered with nothing"));
        assert!(!format!("{step:?}").contains("ok"));
    }
}
