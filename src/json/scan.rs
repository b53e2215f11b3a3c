//! The quick pass: whether a text is JSON, and nothing about why it is not.

use std::ops::Range;

use memchr::memchr2;

use super::{MAX_DEPTH, Seen};

/// Bytes of a string that are looked at together.
const BLOCK: usize = 32;

/// A string that goes on so far is long, in bytes.
const LONG: usize = 256;

// One bit for each open array or object.
const _: () = assert!(MAX_DEPTH == u128::BITS as usize);

/// What there is to see in a text that is one JSON value, not deeper than [`MAX_DEPTH`]; `None` for any other.
pub(super) fn scan(text: &[u8]) -> Option<Seen> {
    let mut scanner = Scanner::new(text);
    scanner.value(0)?;
    scanner.end()?;
    Some(Seen { line_breaks: scanner.line_breaks })
}

/// [`scan`] for an array that is not empty: where its first value ends and the others begin as well.
pub(super) fn scan_array(text: &[u8]) -> Option<(Places, Seen)> {
    let mut scanner = Scanner::new(text);
    let place = |scanner: &Scanner<'_>| text.len() - scanner.rest.len();
    if scanner.token()? != b'[' {
        return None;
    }
    scanner.space();
    let start = place(&scanner);
    scanner.value(1)?;
    let first = start..place(&scanner);
    let mut others = first.end..first.end;
    let mut token = scanner.token()?;
    if token == b',' {
        scanner.space();
        others.start = place(&scanner);
        while token == b',' {
            scanner.value(1)?;
            others.end = place(&scanner);
            token = scanner.token()?;
        }
    }
    if token != b']' {
        return None;
    }
    scanner.end()?;
    Some((Places { first, others }, Seen { line_breaks: scanner.line_breaks }))
}

/// Where the values of an array stand, without the white space around them.
pub(super) struct Places {
    pub(super) first: Range<usize>,
    /// With their commas; empty where there is no other.
    pub(super) others: Range<usize>,
}

pub(super) struct Scanner<'a> {
    rest: &'a [u8],
    line_breaks: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { rest: text, line_breaks: false }
    }

    /// How many bytes have not been looked at.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// A value around which this many arrays and objects are open.
    pub(super) fn value(&mut self, around: usize) -> Option<()> {
        // The lowest bit is set where the innermost of what is open is an object.
        let (mut objects, mut depth) = (0_u128, around);
        loop {
            match self.token()? {
                b'"' => self.string()?,
                b'-' => {
                    let digit = self.next()?;
                    self.number(digit)?;
                }
                digit @ b'0'..=b'9' => self.number(digit)?,
                open @ (b'[' | b'{') => {
                    if depth == MAX_DEPTH {
                        return None;
                    }
                    let is_object = open == b'{';
                    self.space();
                    // In ASCII the closing one is two behind the opening one.
                    if self.rest.first() != Some(&(open + 2)) {
                        depth += 1;
                        objects = objects << 1 | u128::from(is_object);
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                    self.next()?;
                }
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                _ => return None,
            }
            loop {
                if depth == around {
                    return Some(());
                }
                let in_object = objects & 1 == 1;
                match self.token()? {
                    b',' => {
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return None,
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// Nothing but white space may follow.
    fn end(&mut self) -> Option<()> {
        self.space();
        self.rest.is_empty().then_some(())
    }

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    /// The next byte that is no white space.
    pub(super) fn token(&mut self) -> Option<u8> {
        self.space();
        self.next()
    }

    pub(super) fn space(&mut self) {
        while let [byte @ (b' ' | b'\t' | b'\n' | b'\r'), rest @ ..] = self.rest {
            self.line_breaks |= matches!(byte, b'\n' | b'\r');
            self.rest = rest;
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    /// A name of a member with its colon.
    fn key(&mut self) -> Option<()> {
        if self.token()? != b'"' {
            return None;
        }
        self.string()?;
        (self.token()? == b':').then_some(())
    }

    /// A number whose first digit has been taken.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' if self.rest.first().is_some_and(u8::is_ascii_digit) => return None,
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            self.some_digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest.strip_prefix(b"+").or_else(|| rest.strip_prefix(b"-")).unwrap_or(rest);
            self.some_digits()?;
        }
        Some(())
    }

    fn some_digits(&mut self) -> Option<()> {
        self.next().filter(u8::is_ascii_digit)?;
        self.digits();
        Some(())
    }

    fn digits(&mut self) {
        while let [b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// A string whose opening quote has been taken.
    pub(super) fn string(&mut self) -> Option<()> {
        loop {
            self.rest = &self.rest[plain(self.rest)..];
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let (unit, rest) = self.rest.split_first_chunk::<4>()?;
                        if !unit.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.rest = rest;
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
    }
}

/// How many bytes stand in a string before the first that means something: a quote, a backslash, a control character.
fn plain(text: &[u8]) -> usize {
    let (start, others) = text.split_at(text.len().min(LONG));
    let at = plain_start(start);
    if at < LONG || others.is_empty() {
        return at;
    }
    // A long string: two passes, each with a loop that has less to do, take half the time of one.
    let end = memchr2(b'"', b'\\', others).unwrap_or(others.len());
    let least = others[..end].iter().fold(u8::MAX, |least, byte| least.min(*byte));
    if least < 0x20 { at + plain_start(others) } else { at + end }
}

/// [`plain`] for what is not long.
fn plain_start(text: &[u8]) -> usize {
    // Names and most strings end soon, and a look at a whole block would be work for nothing.
    let mut at = 0;
    if let Some(word) = text.first_chunk() {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return found.trailing_zeros() as usize / 8;
        }
        at = 8;
    }
    let (blocks, _) = text[at..].as_chunks::<BLOCK>();
    for block in blocks {
        // No early exit within, so that the compiler looks at all bytes at once.
        if block.iter().fold(false, |any, byte| any | is_special(*byte)) {
            break;
        }
        at += BLOCK;
    }
    let (words, _) = text[at..].as_chunks::<8>();
    for word in words {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &text[at..];
    at + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// [`is_special`] of eight bytes. The lowest bit that is set belongs to the first such byte; others may be wrong.
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // Subtraction sets the high bit of a byte that is less, and borrows from those above it only.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | equal(b'"') | equal(b'\\')) & HIGH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_plain_up_to_what_a_look_at_each_byte_finds(
            plain_bytes in proptest::collection::vec(prop_oneof![Just(b'x'), Just(b' '), Just(b'!'), Just(b'#'), Just(b'['), Just(b']'), 0x7f..=0xff_u8], 0..80),
            others in any::<Vec<u8>>(),
        ) {
            for before in [0, LONG - 40, 2 * LONG] {
                let text = [vec![b'x'; before], plain_bytes.clone(), others.clone()].concat();
                let expected = text.iter().position(|byte| is_special(*byte)).unwrap_or(text.len());
                prop_assert_eq!(plain(&text), expected);
            }
        }
    }
}
