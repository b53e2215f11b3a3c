//! Text from elsewhere, made safe to show: it can neither leave its line nor talk to the terminal.

use unicode_width::UnicodeWidthChar;

use crate::service::visible::push;
pub(super) use crate::service::visible::visible;

/// What came of an attempt, in words: a server that refuses may say nothing.
pub(super) fn failure(message: &str) -> &str {
    if message.is_empty() { "refused without a reason" } else { message }
}

/// Like [`visible`], and cut to so many columns; what is cut off leaves an ellipsis.
///
/// Looks at no more of the text than it shows.
pub(super) fn fit(text: &str, columns: usize) -> String {
    let mut shown = String::new();
    let mut used = 0;
    // Where to cut if it turns out that not all fits: one column is the ellipsis.
    let mut cut = 0;
    for character in text.chars() {
        let before = shown.len();
        push(&mut shown, character);
        used += shown[before..].chars().map(|character| character.width().unwrap_or(0)).sum::<usize>();
        if used > columns {
            shown.truncate(cut);
            if columns > 0 {
                shown.push('…');
            }
            break;
        }
        if used < columns {
            cut = shown.len();
        }
    }
    shown
}

/// How many columns a text takes that has been made visible.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_talks_to_the_terminal() {
        for (text, expected) in [
            ("plain ünï 漢字", "plain ünï 漢字"),
            ("\x1b[31mred\x07", "\\u001b[31mred\\u0007"),
            ("two\r\nlines\u{2028}\u{85}", "two\\u000d\\u000alines\\u2028\\u0085"),
            ("\u{9b}2J\u{7f}", "\\u009b2J\\u007f"),
            ("a\u{202e}b\u{2066}", "a\\u202eb\\u2066"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(visible(text), expected);
            assert_eq!(fit(text, 1000), expected);
        }
    }

    #[test]
    fn fits_the_columns() {
        for (text, width, expected) in [
            ("hello", 5, "hello"),
            ("hello!", 5, "hell…"),
            ("漢字漢字", 8, "漢字漢字"),
            ("漢字漢字", 7, "漢字漢…"),
            ("漢字漢字", 6, "漢字…"),
            ("a\u{1b}b", 6, "a…"),
            ("a\u{1b}b", 8, "a\\u001bb"),
            ("x", 0, ""),
            ("", 0, ""),
        ] {
            let shown = fit(text, width);
            assert_eq!(shown, expected, "{text:?} in {width}");
            assert!(columns(&shown) <= width);
        }
    }
}
