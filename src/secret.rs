//! Text that only its receiver may see.

use std::fmt;

use bytestring::ByteString;
use serde::{Serialize, Serializer};

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

#[cfg(test)]
mod tests {
    use super::*;

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
