//! Text that only its receiver may see.

use std::borrow::Cow;
use std::fmt;

use bytestring::ByteString;
use serde::{Serialize, Serializer};

use crate::json;

/// What stands where a secret would.
pub const MASK: &str = "***";

/// A text that every way of printing it shows as `***`; it takes [`expose`](Self::expose) to have it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(ByteString);

impl Secret {
    /// The text, for whoever sends it.
    pub fn expose(&self) -> &ByteString {
        &self.0
    }
}

impl<T: Into<ByteString>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Whether the value under this name must not be shown, as far as a name can tell.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "key", "secret", "password", "passwd", "auth", "credential", "jwt", "session", "cookie"]
        .iter()
        .any(|word| name.contains(word))
}

/// Secrets that others were told, to be masked where these quote them.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    known: Vec<Secret>,
    /// There were more than are kept.
    too_many: bool,
}

/// Bytes that a secret has at the least: shorter ones occur in other words.
const SHORTEST: usize = 6;

/// Bytes of a secret's beginning that are not shown where a quotation is cut off within it.
const BEGINNING: usize = 4;

/// Secrets of one source, an auth object for one. With more of them nothing that is quoted is shown.
const MOST: usize = 256;

impl Secrets {
    /// One more, also as a page of HTML has it.
    pub fn add(&mut self, secret: &str) {
        self.add_form(secret);
        if secret.contains(['&', '<', '>', '"', '\'']) {
            let amp = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            self.add_form(&amp.replace('"', "&quot;").replace('\'', "&#39;"));
        }
    }

    fn add_form(&mut self, secret: &str) {
        if self.too_many || secret.len() < SHORTEST || self.known.iter().any(|known| known.expose() == secret)
        {
            return;
        }
        if self.known.len() < MOST {
            self.known.push(secret.into());
        } else {
            self.too_many = true;
        }
    }

    /// All strings of a JSON text, save the names of members; each as it is meant and as it is written.
    pub fn add_strings(&mut self, json: &str) {
        let mut tokens = json::Tokens::new(json).map(|token| token.text).peekable();
        while let Some(token) = tokens.next() {
            if tokens.peek() != Some(&":")
                && let Some(text) = json::unquote(token)
            {
                self.add(&text);
                self.add(&token[1..token.len() - 1]);
            }
        }
    }

    /// Those of `others` too, all of them: each source has its own bound.
    pub fn extend(&mut self, others: &Self) {
        self.known.extend_from_slice(&others.known);
        self.too_many |= others.too_many;
    }

    /// What others said with `***` for every secret in it, and for all of it where there are too many to look for.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.too_many && !text.is_empty() {
            return Cow::Borrowed(MASK);
        }
        let mut masked = Cow::Borrowed(text);
        // A longer one first, for a shorter one may be within.
        let mut secrets: Vec<&str> = self.known.iter().map(|secret| &**secret.expose()).collect();
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse((secret.len(), *secret)));
        secrets.dedup();
        for secret in secrets {
            if masked.contains(secret) {
                masked = Cow::Owned(masked.replace(secret, MASK));
            }
            let mut beginnings = (BEGINNING..secret.len()).rev().filter_map(|length| secret.get(..length));
            if let Some(kept) = beginnings.find_map(|beginning| masked.strip_suffix(beginning)) {
                masked = Cow::Owned(format!("{kept}{MASK}"));
            }
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_quote_is_masked() {
        let mut secrets = Secrets::default();
        secrets.add("short");
        secrets.add_strings(r#"{"password":"p\"ssw0rd","n":[1,"abcdefgh","abcdefghij"],"user":"al"}"#);
        for (text, expected) in [
            ("nothing", "nothing"),
            (r#"no p"ssw0rd, no"#, "no ***, no"),
            (r#"no {"password":"p\"ssw0rd"}"#, r#"no {"password":"***"}"#),
            (
                "no {&quot;password&quot;:&quot;p\\&quot;ssw0rd&quot;}",
                "no {&quot;password&quot;:&quot;***&quot;}",
            ),
            ("<b>p&quot;ssw0rd</b>", "<b>***</b>"),
            ("abcdefghabcdefghij-abcdefgh", "******-***"),
            ("password of al: short", "password of al: short"),
            ("cut off: abcdef", "cut off: ***"),
            ("cut off: abc", "cut off: abc"),
        ] {
            assert_eq!(secrets.mask(text), expected);
        }
    }

    #[test]
    fn none_of_many_is_left_out() {
        let many = |of: &str, count| {
            let mut secrets = Secrets::default();
            (0..count).for_each(|number| secrets.add(&format!("{of}-secret-{number:04}")));
            secrets
        };
        let mut all = Secrets::default();
        (0..20).for_each(|socket| all.extend(&many(&format!("{socket:02}"), MOST)));
        for socket in 0..20 {
            assert_eq!(all.mask(&format!("no {socket:02}-secret-{:04}!", MOST - 1)), "no ***!");
        }
        // One that is there twice is no further one.
        let mut full = many("a", MOST);
        full.add("a-secret-0000");
        assert_eq!(full.mask("harmless"), "harmless");
        full.add("one more");
        all.extend(&full);
        assert_eq!((all.mask("says one more"), all.mask("")), ("***".into(), "".into()));
    }

    #[test]
    fn nothing_prints_it() {
        #[derive(Debug, Serialize)]
        struct Login {
            token: Option<Secret>,
        }
        let token = Secret::from("s3cret");
        assert_eq!((format!("{token}"), format!("{token:?}")), ("***".into(), "***".into()));
        let login = Login { token: Some(token) };
        assert_eq!(format!("{login:?}"), "Login { token: Some(***) }");
        assert_eq!(serde_json::to_string(&login).unwrap(), r#"{"token":"***"}"#);
        assert_eq!(login.token.unwrap().expose(), "s3cret");
    }
}
