//! Text from elsewhere, made safe to show: it can neither leave its line nor talk to the terminal. Pure.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything invisible written as JSON would escape it, so JSON stays the JSON it was.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        push(&mut shown, character);
    }
    Cow::Owned(shown)
}

/// Like [`visible`], save that sequences that choose a colour stay.
pub(crate) fn visible_in_colour(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        shown.push_str(&visible(&rest[..at]));
        let after = &rest[at + 1..];
        let numbers = after.strip_prefix('[').map_or(0, |codes| {
            codes.len() - codes.trim_start_matches(|it: char| it.is_ascii_digit() || it == ';').len()
        });
        let colour = after.starts_with('[') && after[1 + numbers..].starts_with('m');
        if colour {
            shown.push('\x1b');
        } else {
            push(&mut shown, '\x1b');
        }
        rest = after;
    }
    shown.push_str(&visible(rest));
    shown
}

/// One character, as [`visible`] writes it.
pub(crate) fn push(shown: &mut String, character: char) {
    if is_hidden(character) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    } else {
        shown.push(character);
    }
}

/// Control characters, line separators, and what changes the direction of text or is not seen at all. The joiners are
/// left alone: scripts and emoji need them.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_pass() {
        for (text, expected) in [
            ("\x1b[2m2026\x1b[0m \x1b[1;31mx\x1b[m", "\x1b[2m2026\x1b[0m \x1b[1;31mx\x1b[m"),
            ("\x1b[2J\x1b]0;title\x07\x1b", "\\u001b[2J\\u001b]0;title\\u0007\\u001b"),
            ("\x1b[31\x1b[31mred\u{202e}", "\\u001b[31\x1b[31mred\\u202e"),
            ("plain", "plain"),
        ] {
            assert_eq!(visible_in_colour(text), expected);
        }
    }
}
