//! Why a transport could not be opened or has ended.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use bytestring::ByteString;
use http::StatusCode;

use crate::engineio::{DecodeError, Details, Phase};

/// The reason in the words of socket.io-client, with what a person needs to know behind it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Settings that no attempt can work with, such as a TLS file that cannot be read. Trying again does not help.
    #[error("{0}")]
    Settings(String),
    /// A GET has failed.
    #[error("xhr poll error: {0}")]
    Poll(Failure),
    /// A POST has failed.
    #[error("xhr post error: {0}")]
    Post(Failure),
    /// The WebSocket could not be opened, or its peer broke the protocol.
    #[error("websocket error: {0}")]
    WebSocket(Failure),
    /// The server sent what is no Engine.IO packet.
    #[error("server error: {0}")]
    Decode(DecodeError),
    /// An open WebSocket has ended: closed by the peer, or its connection is lost.
    #[error("websocket connection closed (code {code}{}{reason})", if reason.is_empty() { "" } else { ": " })]
    Closed {
        /// The code of the close frame; 1005 for a frame without one, 1006 for an end without a frame.
        code: u16,
        /// The peer's words, or the system's for a lost connection; often empty.
        reason: ByteString,
    },
}

impl Error {
    /// What socket.io-client says for it.
    pub fn message(&self) -> &'static str {
        match self {
            Self::Settings(_) => "invalid settings",
            Self::Poll(_) => "xhr poll error",
            Self::Post(_) => "xhr post error",
            Self::WebSocket(_) => "websocket error",
            Self::Decode(_) => "server error",
            Self::Closed { .. } => "websocket connection closed",
        }
    }

    /// What lies beneath: the system's error, the start of an answer, the peer's words.
    pub fn description(&self) -> Option<String> {
        match self {
            Self::Settings(detail) => Some(detail.clone()),
            Self::Poll(failure) | Self::Post(failure) | Self::WebSocket(failure) => {
                Some(failure.detail.clone())
            }
            Self::Decode(error) => Some(error.to_string()),
            Self::Closed { reason, .. } => (!reason.is_empty()).then(|| reason.to_string()),
        }
    }

    /// The HTTP status of a refusal, or the code of a closed WebSocket.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Poll(failure) | Self::Post(failure) | Self::WebSocket(failure) => failure.status,
            Self::Closed { code, .. } => Some(*code),
            Self::Settings(_) | Self::Decode(_) => None,
        }
    }

    /// As the layers above pass it on.
    pub fn details(&self) -> Details {
        Details {
            message: self.message().to_owned(),
            code: self.code(),
            description: self.description(),
            phase: self.phase(),
            hint: None,
            retry_after: None,
        }
    }

    /// Whether it is the end of a WebSocket that was open, rather than something that went wrong.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Settings(_) | Self::Poll(_) | Self::Post(_) | Self::WebSocket(_) | Self::Decode(_) => false,
        }
    }

    /// How far the attempt got; unknown for settings.
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Self::Poll(failure) | Self::Post(failure) | Self::WebSocket(failure) => Some(failure.phase),
            Self::Decode(_) | Self::Closed { .. } => Some(Phase::Engine),
            Self::Settings(_) => None,
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

/// One thing that went wrong; displayed as its detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The step.
    pub phase: Phase,
    /// The answer's status, where there was an answer and it was the wrong one.
    pub status: Option<u16>,
    /// In words. Quotes at most the first 200 bytes of an answer, without control characters.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Failure {
    pub(super) fn new(phase: Phase, detail: impl Into<String>) -> Self {
        Self { phase, status: None, detail: detail.into() }
    }

    /// No connection to `host`.
    pub(super) fn dial(host: &str, error: &(dyn StdError + 'static)) -> Self {
        let cause = root_cause(error);
        if cause.is::<rustls::Error>() {
            return Self::new(Phase::Tls, cause.to_string());
        }
        // The connector's own error type is private; its words are all there is to tell the two apart.
        if error.to_string() == "dns error" {
            return Self::new(Phase::Dns, format!("cannot resolve {host}: {cause}"));
        }
        let phase = if error.is::<io::Error>() { Phase::Tls } else { Phase::Tcp };
        Self::new(phase, lower_first(&cause.to_string()))
    }

    /// A request that got no usable answer.
    pub(super) fn http(error: &hyper::Error) -> Self {
        let cause = root_cause(error).to_string();
        let own = error.to_string();
        let detail = if cause == own { own } else { format!("{own}: {}", lower_first(&cause)) };
        Self::new(Phase::Http, detail)
    }

    /// An answer with the wrong status; `excerpt` is the beginning of its body.
    pub(super) fn status(status: StatusCode, location: Option<&[u8]>, excerpt: &[u8]) -> Self {
        let mut detail = format!("HTTP {}", status.as_u16());
        if let Some(location) = location {
            detail.push_str(" (moved to ");
            push_printable(&mut detail, location);
            detail.push(')');
        }
        if !excerpt.is_empty() {
            detail.push_str(": ");
            push_printable(&mut detail, excerpt);
        }
        Self { phase: Phase::Http, status: Some(status.as_u16()), detail }
    }
}

/// Appends bytes of a peer so that they can stand in a log line.
fn push_printable(text: &mut String, bytes: &[u8]) {
    let words = String::from_utf8_lossy(bytes);
    text.extend(words.trim().chars().map(|c| if c.is_control() { ' ' } else { c }));
}

/// The innermost error. `io::Error` hides what it wraps from `source`, so it is unwrapped here.
fn root_cause<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut cause = error;
    loop {
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let next = match wrapped {
            Some(wrapped) => Some(wrapped as &'a (dyn StdError + 'static)),
            None => cause.source(),
        };
        match next {
            Some(next) => cause = next,
            None => return cause,
        }
    }
}

/// "Connection refused" as the rest of a sentence; "TLS alert" stays.
pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_it_in_the_words_of_socket_io_client() {
        let failure = Failure::status(StatusCode::BAD_GATEWAY, None, b"<html>\r\n502\x1b[31m");
        let closed = |code, reason: &str| Error::Closed { code, reason: reason.into() };
        for (error, message, display, code, phase) in [
            (
                Error::Poll(failure.clone()),
                "xhr poll error",
                "xhr poll error: HTTP 502: <html>  502 [31m",
                Some(502),
                Some(Phase::Http),
            ),
            (
                Error::Post(failure),
                "xhr post error",
                "xhr post error: HTTP 502: <html>  502 [31m",
                Some(502),
                Some(Phase::Http),
            ),
            (
                Error::WebSocket(Failure::new(Phase::Tcp, "connection refused")),
                "websocket error",
                "websocket error: connection refused",
                None,
                Some(Phase::Tcp),
            ),
            (
                Error::Decode(DecodeError::UnknownType('<')),
                "server error",
                "server error: unknown packet type '<'",
                None,
                Some(Phase::Engine),
            ),
            (
                closed(1005, ""),
                "websocket connection closed",
                "websocket connection closed (code 1005)",
                Some(1005),
                Some(Phase::Engine),
            ),
            (
                closed(1001, "restart"),
                "websocket connection closed",
                "websocket connection closed (code 1001: restart)",
                Some(1001),
                Some(Phase::Engine),
            ),
            (Error::Settings("no".to_owned()), "invalid settings", "no", None, None),
        ] {
            assert_eq!(error.message(), message);
            assert_eq!(error.to_string(), display);
            assert_eq!(error.code(), code, "{error}");
            assert_eq!(error.phase(), phase, "{error}");
            assert_eq!(error.is_closed(), message == "websocket connection closed", "{error}");
        }
    }

    #[test]
    fn a_redirect_says_where_to() {
        let failure = Failure::status(StatusCode::FOUND, Some(b"https://b.example/\nx"), b"");
        assert_eq!(failure.to_string(), "HTTP 302 (moved to https://b.example/ x)");
    }

    #[test]
    fn the_system_speaks_in_lower_case() {
        for (text, lowered) in [
            ("Connection refused (os error 111)", "connection refused (os error 111)"),
            ("A thing", "a thing"),
            ("TLS alert", "TLS alert"),
            ("", ""),
            ("Ä", "Ä"),
        ] {
            assert_eq!(lower_first(text), lowered);
        }
    }
}
