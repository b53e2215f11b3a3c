//! Patterns, and what a consumer hears.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::log::{Kind, LineView, Whole};
use crate::json;

/// Bytes that a program's pattern may have.
pub const MAX_PATTERN: usize = 256;

/// Patterns that one of its subscriptions may have for the names of events.
pub const MAX_PATTERNS: usize = 256;

/// A shell glob over a whole name: `*` is any text, `?` any one character; nothing else is special.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

impl Pattern {
    /// Any text is a pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether every text fits it.
    pub fn fits_all(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|symbol| symbol == b'*')
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one name it matches, if it has neither `*` nor `?`.
    pub fn as_plain(&self) -> Option<&str> {
        (!self.0.contains(['*', '?'])).then_some(self.0.as_str())
    }

    /// Whether the whole of `name` fits. The time is at worst the product of both lengths.
    pub fn matches(&self, name: &str) -> bool {
        if self.0 == "*" {
            return true;
        }
        let (mut pattern, mut rest) = (self.0.as_str(), name);
        // Where to go on when what follows the last star does not fit.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let mut symbols = pattern.chars();
            let mut text = rest.chars();
            match (symbols.next(), text.next()) {
                (Some('*'), _) => {
                    pattern = symbols.as_str();
                    if !pattern.contains('*') {
                        return fits_end(pattern, rest);
                    }
                    retry = Some((pattern, rest));
                    continue;
                }
                (None, None) => return true,
                (Some(symbol), Some(c)) if symbol == '?' || symbol == c => {
                    (pattern, rest) = (symbols.as_str(), text.as_str());
                    continue;
                }
                _ => {}
            }
            let Some((after_star, from)) = retry else { return false };
            let mut skipped = from.chars();
            if skipped.next().is_none() {
                return false;
            }
            (pattern, rest) = (after_star, skipped.as_str());
            retry = Some((after_star, rest));
        }
    }
}

/// Whether the end of `text` is what `pattern`, without stars, says.
fn fits_end(pattern: &str, text: &str) -> bool {
    let mut text = text.chars().rev();
    pattern.chars().rev().all(|symbol| text.next().is_some_and(|c| symbol == '?' || symbol == c))
}

/// Which lifecycle events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifecycleFilter {
    /// None.
    None,
    /// All.
    All,
    /// These.
    Names(BTreeSet<String>),
}

/// What one subscription hears of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Names of events; absent: all.
    pub events: Option<Vec<Pattern>>,
    /// Lifecycle events.
    pub lifecycle: LifecycleFilter,
    /// What consumers emit, filtered by `events` too.
    pub outgoing: bool,
}

impl Filter {
    /// Which lines of the ring it hears, whatever their names.
    pub fn whole(&self) -> Whole {
        match (&self.events, &self.lifecycle) {
            (None, LifecycleFilter::All) => Whole::Everything,
            (None, LifecycleFilter::None | LifecycleFilter::Names(_)) => Whole::Events,
            (Some(_), _) => Whole::Nothing,
        }
    }

    /// Whether it hears this line.
    pub fn wants(&self, line: LineView<'_>) -> bool {
        match line.kind {
            Kind::Event => self.wants_event(line.name),
            Kind::Lifecycle => match &self.lifecycle {
                LifecycleFilter::None => false,
                LifecycleFilter::All => true,
                LifecycleFilter::Names(names) => names.contains(&*decode(line.name)),
            },
        }
    }

    /// Whether it hears events of this name, a JSON string.
    pub fn wants_event(&self, name: &[u8]) -> bool {
        match &self.events {
            None => true,
            Some(patterns) => {
                let name = decode(name);
                patterns.iter().any(|pattern| pattern.matches(&name))
            }
        }
    }
}

/// The text of a JSON string; lone surrogates become U+FFFD, as for whoever asks a name.
fn decode(json: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(json).ok().and_then(json::unquote).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, matches) in [
            ("*", "", true),
            ("*", "anything", true),
            ("chat", "chat", true),
            ("chat", "chats", false),
            ("chat*", "chat", true),
            ("chat*", "chats", true),
            ("*chat", "my chat", true),
            ("c?t", "cat", true),
            ("c?t", "ct", false),
            ("?", "é", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**", "", true),
            ("a**?", "a", false),
            ("a*a", "a", false),
            ("a*?é", "aaé", true),
            ("*?é", "é", false),
            ("*a*b?", "xaybab", false),
            ("*a*b?", "xaybabé", true),
            ("[ab]", "a", false),
            ("[ab]", "[ab]", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), matches, "{pattern:?} on {name:?}");
        }
    }

    #[test]
    fn names_are_compared_without_their_escapes() {
        let filter = Filter {
            events: Some(vec![Pattern::new("é\"x"), Pattern::new("a\u{fffd}*")]),
            lifecycle: LifecycleFilter::None,
            outgoing: false,
        };
        assert!(filter.wants_event(br#""\u00e9\"x""#));
        assert!(filter.wants_event("\"é\\\"x\"".as_bytes()));
        assert!(filter.wants_event(br#""a\ud800""#));
        assert!(!filter.wants_event(br#""b""#));
        for name in [r#""a\ud800""#, r#""\udfff\u00e9""#, r#""\ud83d\ude00\"""#] {
            let events = Some(vec![Pattern::new("??")]);
            let one_each = Filter { events, ..filter.clone() };
            assert!(one_each.wants_event(name.as_bytes()), "{name}");
        }
    }
}
