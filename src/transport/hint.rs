//! What a person can do about a failure, where that is known.

use std::borrow::Cow;

use http::StatusCode;
use serde::Deserialize;

use super::error::Failure;
use crate::engineio::DecodeError;

pub(super) const MAX_PAYLOAD: &str = "the option max_payload is the largest message taken";
pub(super) const TLS_PORT: &str = "this port is for TLS: begin the URL with https:// (or wss://)";
pub(super) const NOT_TLS: &str =
    "if the server speaks plain http on this port, begin the URL with http:// (or ws://)";
/// The server closed the connection instead of answering, as Socket.IO servers do with a WebSocket at another path.
pub(super) const SILENCE: &str =
    "is the request path right (option path)? Servers close without a word what they do not know";
pub(super) const SILENCE_PLAIN: &str = "is the request path right (option path)? Servers close without a word what they do not know; so do \
                                        TLS ports, which need https:// in the URL";

/// Closed before anything was asked, or something was said that nobody asked for.
pub(super) const NOT_SERVED: &str =
    "is it a Socket.IO server that listens there, and may this machine reach it? See the URL's host and port";

const PATH: &str =
    "nothing is at this request path: is it the server's (option path)? The URL's path is the namespace";
pub(super) const NO_SERVER: &str =
    "what answers is no Socket.IO server: see the URL's host and port, and the option path";
const NO_WEBSOCKET: &str =
    "what answers does not take WebSockets there: see the option path, or try transports = [\"polling\"]";

/// The body that Engine.IO servers send with a refusal.
#[derive(Deserialize)]
struct Refusal {
    code: u8,
}

/// What helps against an answer with this status. `moved_to` is empty where it is no redirect.
pub(super) fn for_answer(status: StatusCode, moved_to: &str, excerpt: &[u8]) -> Option<Cow<'static, str>> {
    if !moved_to.is_empty() {
        return Some(Cow::Owned(redirect(moved_to)));
    }
    let hint = match status.as_u16() {
        400 => return for_bad_request(excerpt).map(Cow::Borrowed),
        401 => {
            "the server wants to know who asks before the connection: user:password@ in the URL, or extra_headers; auth \
             goes to the namespace, later"
        }
        403 => {
            "the server may want an Origin that it knows: extra_headers = { Origin = \"https://…\" }; or a token in the \
             query"
        }
        404 => PATH,
        407 => "a proxy on the way wants a user and password: see the option proxy",
        413 => "the server takes no message as large as this",
        502 | 504 => "what answers is a gateway, which cannot reach the server behind it",
        _ => return None,
    };
    Some(Cow::Borrowed(hint))
}

fn redirect(moved_to: &str) -> String {
    match moved_to.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or(rest);
            format!("the server has moved: use {scheme}://{host} in the URL")
        }
        None => format!("the server has moved: use path = \"{moved_to}\""),
    }
}

fn for_bad_request(excerpt: &[u8]) -> Option<&'static str> {
    if let Ok(Refusal { code }) = serde_json::from_slice(excerpt) {
        return match code {
            0 => Some("the server does not offer this transport: see the option transports"),
            1 => Some(
                "the server does not know the session. It has restarted, or the requests of one session reach several \
                 servers: that needs sticky sessions, or transports = [\"websocket\"]",
            ),
            5 => Some(
                "the server does not speak this revision of Engine.IO: see the option engine (4, or 3 for old servers)",
            ),
            _ => None,
        };
    }
    // Each server has its own words for it, and all name one of the two.
    let words = String::from_utf8_lossy(excerpt);
    ["HTTPS", "SSL", "TLS"].iter().any(|word| words.contains(word)).then_some(TLS_PORT)
}

/// What more helps where a WebSocket was asked for.
pub(super) fn for_websocket(failure: &Failure) -> Option<Cow<'static, str>> {
    match failure.status {
        Some(200 | 400 | 405 | 426 | 501) => Some(Cow::Borrowed(NO_WEBSOCKET)),
        _ => None,
    }
}

/// What helps where an answer is no packet.
pub(super) fn for_undecodable(error: &DecodeError) -> Option<Cow<'static, str>> {
    match error {
        // A page, for a browser.
        DecodeError::UnknownType('<') => Some(Cow::Borrowed(NO_SERVER)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (status, excerpt, word) in [
            (400, &br#"{"code":0,"message":"Transport unknown"}"#[..], Some("option transports")),
            (400, br#"{"code":1,"message":"Session ID unknown"}"#, Some("sticky sessions")),
            (400, br#"{"code":5,"message":"Unsupported protocol version"}"#, Some("option engine")),
            (400, br#"{"code":3,"message":"Bad request"}"#, None),
            (400, b"<center>The plain HTTP request was sent to HTTPS port</center>", Some("https://")),
            (400, b"Client sent an HTTP request to an HTTPS server.", Some("https://")),
            (400, b"You're speaking plain HTTP to an SSL-enabled server port.", Some("https://")),
            (400, b"", None),
            (401, b"", Some("user:password@")),
            (403, br#"{"code":4,"message":"Forbidden"}"#, Some("Origin")),
            (404, b"", Some("option path")),
            (407, b"", Some("option proxy")),
            (413, b"", Some("large")),
            (502, b"", Some("gateway")),
            (500, b"", None),
            (503, b"", None),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let hint = for_answer(status, "", excerpt);
            match (&hint, word) {
                (Some(hint), Some(word)) => assert!(hint.contains(word), "{status}: {hint}"),
                (None, None) => {}
                _ => panic!("{status}: {hint:?}"),
            }
        }
    }
}
