//! HTTP CONNECT (RFC 9110, section 9.3.6): a way through an HTTP proxy, for encrypted and plain servers alike.

use bytes::Bytes;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Method, Request};
use http_body_util::Full;

use super::Stream;
use crate::engineio::Phase;
use crate::transport::error::Failure;
use crate::transport::http1::HttpConnection;
use crate::transport::proxy::Credentials;
use crate::transport::request::AGENT;

/// Asks the proxy at the other end of `stream` to connect to `target`, which is `host:port`.
pub(super) async fn open(
    stream: Stream,
    target: &str,
    credentials: Option<&Credentials>,
) -> Result<Stream, Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::new(Phase::Proxy, error.to_string());
    let mut request = Request::new(Full::<Bytes>::default());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target.parse().map_err(|error| broken(&error))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(target).map_err(|error| broken(&error))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    if let Some(value) = credentials.and_then(Credentials::basic) {
        headers.insert(PROXY_AUTHORIZATION, value);
    }
    let connection = HttpConnection::over(stream).await?;
    let switched = connection.switch(request, |status, _| status.is_success()).await;
    // What is known of Socket.IO servers does not help against a proxy.
    let (_, stream, read) = switched.map_err(|failure| Failure {
        hint: failure.status.and_then(|status| hint(status, credentials.is_some())).map(Into::into),
        ..failure
    })?;
    if read.is_empty() {
        Ok(stream)
    } else {
        Err(broken(&"it sends something before the server can have been asked"))
    }
}

/// What helps against this status of the proxy.
fn hint(status: u16, has_credentials: bool) -> Option<&'static str> {
    match status {
        407 if has_credentials => Some("the proxy does not take the user and password of the option proxy"),
        407 => Some("the proxy wants a user and password: proxy = \"http://USER:PASSWORD@HOST:PORT\""),
        403 | 405 => Some("many proxies allow CONNECT to few ports, often 443 alone: ask who runs it"),
        502..=504 => Some("the proxy works, but cannot reach the server"),
        400 | 404 | 501 => Some("what listens there may be no proxy"),
        _ => None,
    }
}
