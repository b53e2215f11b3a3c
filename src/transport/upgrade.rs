//! The WebSocket handshake (RFC 6455, section 4.1), made by our own HTTP client.
//!
//! So a refusal comes with its status and text, cookies work as for polling, and the head of the answer is bounded.

use http::StatusCode;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};

use super::connect::Shared;
use super::dial::Stream;
use super::error::Failure;
use super::frames::{self, Frames};
use super::http1::HttpConnection;
use crate::engineio::Phase;

/// Connects and shakes hands.
pub(super) async fn open(shared: &Shared, sid: Option<&str>) -> Result<Frames<Stream>, Failure> {
    let key = frames::generate_key();
    let request = shared.requests.upgrade(sid, &key)?;
    let connection = HttpConnection::over(shared.dialler.dial().await?).await?;
    shared.tell_request(&request);
    let switched = connection.switch(request, |status, headers| {
        shared.take_head(status, headers);
        status == StatusCode::SWITCHING_PROTOCOLS
    });
    let (answer, stream, read) = switched.await?;
    check(&answer, &frames::accept_key(&key), &shared.protocols)
        .map_err(|text| Failure::new(Phase::Http, text))?;
    Ok(Frames::new(stream, &read, shared.max_payload))
}

/// Judges the head of a 101 answer.
fn check(answer: &HeaderMap, accept: &str, offered: &[String]) -> Result<(), String> {
    if !lists(answer, &UPGRADE, "websocket") {
        return Err("the server switched to another protocol than WebSocket (header Upgrade)".to_owned());
    }
    if !lists(answer, &CONNECTION, "upgrade") {
        return Err("the server's answer lacks the header Connection: Upgrade".to_owned());
    }
    if answer.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value != accept) {
        return Err("the server's Sec-WebSocket-Accept does not belong to our key".to_owned());
    }
    if answer.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err("the server claims a WebSocket extension that was not offered".to_owned());
    }
    match answer.get(SEC_WEBSOCKET_PROTOCOL) {
        None if offered.is_empty() => Ok(()),
        None => Err(format!("the server took none of the sub-protocols {}", offered.join(", "))),
        Some(taken) if offered.iter().any(|protocol| taken == protocol) => Ok(()),
        Some(_) => Err("the server chose a sub-protocol that was not offered".to_owned()),
    }
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let mut tokens =
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    tokens.any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_answer_must_be_the_one_asked_for() {
        let good = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", "A")];
        let lenient =
            [("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade"), ("sec-websocket-accept", "A")];
        let with = |more: &[(&'static str, &'static str)]| [&good[..], more].concat();
        let one = ["one".to_owned(), "two".to_owned()];
        for (answer, offered, fault) in [
            (good.to_vec(), &[][..], None),
            (lenient.to_vec(), &[], None),
            (good[1..].to_vec(), &[], Some("Upgrade")),
            (vec![good[0], good[2]], &[], Some("Connection")),
            (good[..2].to_vec(), &[], Some("Accept")),
            (vec![good[0], good[1], ("sec-websocket-accept", "B")], &[], Some("Accept")),
            (with(&[("sec-websocket-extensions", "permessage-deflate")]), &[], Some("extension")),
            (with(&[("sec-websocket-protocol", "two")]), &one, None),
            (with(&[("sec-websocket-protocol", "three")]), &one, Some("not offered")),
            (with(&[("sec-websocket-protocol", "one")]), &[], Some("not offered")),
            (good.to_vec(), &one, Some("took none of the sub-protocols one, two")),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in &answer {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            match (check(&headers, "A", offered), fault) {
                (Ok(()), None) => {}
                (Err(text), Some(fault)) => assert!(text.contains(fault), "{text}"),
                (result, _) => panic!("{answer:?}: {result:?}"),
            }
        }
    }
}
