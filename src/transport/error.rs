//! Why a transport could not be opened or has ended.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io;
use std::time::Duration;

use bytestring::ByteString;
use http::StatusCode;
use http::header::{HeaderMap, LOCATION, RETRY_AFTER};
use jiff::Timestamp;

use super::proxy::Proxy;
use super::{certificate, hint};
use crate::engineio::{DecodeError, Details, Phase};

/// How much is quoted of an answer's body, or of where it says that the server has moved, in bytes.
pub(super) const EXCERPT: usize = 200;

/// The longest pause that a server is granted.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

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
            hint: self.hint(),
            retry_after: self.retry_after(),
        }
    }

    /// Whether it is the end of a WebSocket that was open, rather than something that went wrong.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Settings(_) | Self::Poll(_) | Self::Post(_) | Self::WebSocket(_) | Self::Decode(_) => false,
        }
    }

    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Poll(failure) | Self::Post(failure) => failure.hint.clone(),
            Self::WebSocket(failure) => failure.hint.clone().or_else(|| hint::for_websocket(failure)),
            Self::Decode(error) => hint::for_undecodable(error),
            Self::Settings(_) | Self::Closed { .. } => None,
        }
    }

    /// The server asked for this pause before the next attempt; at most an hour.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Poll(failure) | Self::Post(failure) | Self::WebSocket(failure) => failure.retry_after,
            Self::Settings(_) | Self::Decode(_) | Self::Closed { .. } => None,
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
    /// What a person can do about it.
    pub hint: Option<Cow<'static, str>>,
    /// The pause that an answer with status 429 or 503 asks for; at most an hour.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Failure {
    pub(super) fn new(phase: Phase, detail: impl Into<String>) -> Self {
        Self { phase, status: None, detail: detail.into(), hint: None, retry_after: None }
    }

    pub(super) fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What went wrong on the way to a proxy, or with it.
    pub(super) fn of_proxy(self, proxy: &Proxy) -> Self {
        Self { phase: Phase::Proxy, detail: format!("proxy {proxy}: {}", self.detail), ..self }
    }

    /// What rustls says, in plain words.
    pub(super) fn tls(error: &rustls::Error) -> Self {
        let refusal = certificate::explain(error);
        Self { hint: refusal.hint.map(Cow::Borrowed), ..Self::new(Phase::Tls, refusal.detail) }
    }

    /// The TLS handshake did not come to its end.
    pub(super) fn handshake(error: &io::Error) -> Self {
        if let Some(error) = root_cause(error).downcast_ref() {
            return Self::tls(error);
        }
        let detail = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server hung up during the TLS handshake".to_owned(),
            _ => format!("{} during the TLS handshake", lower_first(&error.to_string())),
        };
        Self::new(Phase::Tls, detail).with_hint(hint::NOT_TLS)
    }

    /// A request that got no usable answer.
    pub(super) fn http(error: &hyper::Error) -> Self {
        let cause = root_cause(error);
        // In TLS 1.3 a client learns only with the first answer what the server thinks of its certificate.
        if let Some(error) = cause.downcast_ref() {
            return Self::tls(error);
        }
        if error.is_closed() {
            return Self::new(Phase::Http, "the connection ended before anything was asked")
                .with_hint(hint::NOT_SERVED);
        }
        let (cause, own) = (cause.to_string(), error.to_string());
        let detail = if cause == own { own } else { format!("{own}: {}", lower_first(&cause)) };
        // Too long a head is HTTP all the same; which error that is the library tells servers only.
        if error.is_parse() && detail != "message head is too large" {
            return Self::new(Phase::Http, format!("the answer is no HTTP: {detail}"))
                .with_hint(hint::NO_SERVER);
        }
        Self::new(Phase::Http, detail)
    }

    /// An answer with the wrong status; `excerpt` is the beginning of its body.
    pub(super) fn status(status: StatusCode, headers: &HeaderMap, excerpt: &[u8]) -> Self {
        let mut detail = format!("HTTP {}", status.as_u16());
        let mut moved_to = String::new();
        if let Some(location) = headers.get(LOCATION).filter(|_| status.is_redirection()) {
            // It may repeat our query, and with it secrets.
            let place = location.as_bytes().split(|byte| matches!(byte, b'?' | b'#')).next();
            let place = place.unwrap_or_default();
            push_printable(&mut moved_to, place.get(..EXCERPT).unwrap_or(place));
            let cut = place.len() > EXCERPT;
            // Writing to a String cannot fail.
            let _ = write!(detail, " (moved to {moved_to}{})", if cut { "…" } else { "" });
            if cut {
                moved_to.clear();
            }
        }
        if !excerpt.is_empty() {
            detail.push_str(": ");
            push_printable(&mut detail, excerpt);
        }
        Self {
            phase: Phase::Http,
            status: Some(status.as_u16()),
            detail,
            hint: hint::for_answer(status, &moved_to, excerpt),
            retry_after: retry_after(status, headers, Timestamp::now()),
        }
    }
}

/// The pause of `Retry-After` (RFC 9110, section 10.2.3): seconds or a date.
fn retry_after(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() => LONGEST_PAUSE,
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
            Duration::try_from(date.duration_since(now)).unwrap_or_default()
        }
    };
    Some(pause.min(LONGEST_PAUSE))
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
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn says_it_in_the_words_of_socket_io_client() {
        let failure = Failure::status(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>\r\n502\x1b[31m");
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

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_redirect_says_where_to_and_no_secret() {
        for (location, detail, hint) in [
            (
                "https://b.example/socket.io/?EIO=4&token=s3cret",
                "HTTP 302 (moved to https://b.example/socket.io/)",
                "the server has moved: use https://b.example in the URL",
            ),
            ("/io/#x", "HTTP 302 (moved to /io/)", "the server has moved: use path = \"/io/\""),
        ] {
            let failure = Failure::status(StatusCode::FOUND, &headers(LOCATION, location), b"");
            assert_eq!((failure.detail.as_str(), failure.hint.as_deref()), (detail, Some(hint)));
        }
        let long = format!("/{}", "x".repeat(1000));
        let location = HeaderMap::from_iter([(LOCATION, HeaderValue::from_str(&long).expect("a header"))]);
        let failure = Failure::status(StatusCode::FOUND, &location, b"");
        assert_eq!(failure.detail, format!("HTTP 302 (moved to {}…)", &long[..EXCERPT]));
        assert_eq!(failure.hint, None, "half a place is none");
    }

    #[test]
    fn a_busy_server_is_left_alone_for_a_while() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        for (status, value, expected) in [
            (503, "7", Some(7)),
            (429, "0", Some(0)),
            (503, " 120 ", Some(120)),
            (503, "99999", Some(3600)),
            (503, "99999999999999999999999", Some(3600)),
            (503, "Fri, 02 Jan 2026 03:05:05 GMT", Some(60)),
            (503, "Fri, 02 Jan 2026 03:04:00 GMT", Some(0)),
            (503, "Sat, 03 Jan 2026 03:04:05 GMT", Some(3600)),
            (503, "", None),
            (503, "-1", None),
            (503, "soon", None),
            (500, "7", None),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let found = retry_after(status, &headers(RETRY_AFTER, value), now);
            assert_eq!(found, expected.map(Duration::from_secs), "{value:?}");
        }
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
