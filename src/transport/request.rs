//! What requests to one server look like: URL, query, headers, cookies.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cookie_store::CookieStore;
use http::header::{
    self, ACCEPT, CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SET_COOKIE,
    UPGRADE, USER_AGENT,
};
use http::{Method, Request, Uri};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tracing::debug;
use url::Url;

use super::error::Failure;
use super::{Error, Settings};
use crate::engineio::{Phase, Revision, TransportKind};

/// A request as hyper takes it.
pub(super) type HttpRequest = Request<Full<Bytes>>;

/// What JavaScript's `encodeURIComponent` escapes.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Who asks, unless the user says otherwise.
pub(super) const AGENT: &str = concat!("siod/", env!("CARGO_PKG_VERSION"));

/// Query parameters that the user cannot set.
const OURS: [&str; 5] = ["EIO", "transport", "sid", "t", "b64"];

/// Headers that the user cannot set: they describe the connection, the body or the WebSocket handshake, or would ask for
/// a compressed answer.
const RESERVED: [HeaderName; 14] = [
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Cookies kept per server, and bytes of one; browsers keep as much.
const MAX_COOKIES: usize = 180;
const MAX_COOKIE: usize = 4096;

/// The server, and everything of a request that does not change.
pub(super) struct Requests {
    revision: Revision,
    /// Scheme, host and port, for whoever wants to know.
    origin: String,
    /// The same with the path, for judging cookies.
    url: Url,
    path: String,
    /// The user's parameters, encoded; `&` ends them if there are some.
    query: String,
    headers: HeaderMap,
    protocols: Option<HeaderValue>,
    cookies: Option<Mutex<CookieStore>>,
    stamp: AtomicU64,
}

impl Requests {
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        let (scheme, default_port) = if settings.scheme.is_secure() { ("https", 443) } else { ("http", 80) };
        let is_ipv6 = settings.host.contains(':');
        let mut host = if is_ipv6 { format!("[{}]", settings.host) } else { settings.host.clone() };
        if settings.port != default_port {
            // Writing to a String cannot fail.
            let _ = write!(host, ":{}", settings.port);
        }
        let bad = |what: &str, value: &str, error: &dyn std::fmt::Display| {
            Error::Settings(format!("{what} {value:?} cannot be used in a request: {error}"))
        };
        let base = format!("{scheme}://{host}{}", settings.path);
        let origin = format!("{scheme}://{host}");
        Url::parse(&origin).map_err(|error| bad("host", &host, &error))?;
        let url = Url::parse(&base).map_err(|error| bad("URL", &base, &error))?;

        let mut headers = settings.headers.clone();
        for name in RESERVED {
            headers.remove(name);
        }
        if !headers.contains_key(HOST) {
            let value = HeaderValue::from_str(&host).map_err(|error| bad("host", &host, &error))?;
            headers.insert(HOST, value);
        }
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));

        let protocols = match settings.protocols.join(", ") {
            none if none.is_empty() => None,
            list => Some(HeaderValue::from_str(&list).map_err(|error| bad("protocols", &list, &error))?),
        };
        let users = settings.query.iter().filter(|(name, _)| !OURS.contains(&name.as_str()));
        let mut query = encode_query(users);
        if !query.is_empty() {
            query.push('&');
        }
        let requests = Self {
            revision: settings.revision,
            origin,
            url,
            path: settings.path.clone(),
            query,
            headers,
            protocols,
            cookies: settings.with_credentials.then(Mutex::default),
            stamp: new_stamp(),
        };
        let longest = "x".repeat(1024);
        requests
            .uri(TransportKind::Polling, Some(&longest))
            .map_err(|failure| bad("path or query", &settings.path, &failure))?;
        Ok(requests)
    }

    /// The same requests for somebody else, who has no cookies yet.
    pub(super) fn afresh(&self) -> Self {
        Self {
            revision: self.revision,
            origin: self.origin.clone(),
            url: self.url.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            protocols: self.protocols.clone(),
            cookies: self.cookies.is_some().then(Mutex::default),
            stamp: new_stamp(),
        }
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// A GET that asks for packets; without `sid` it opens a session.
    pub(super) fn get(&self, sid: Option<&str>) -> Result<HttpRequest, Failure> {
        self.polling(Method::GET, sid, Bytes::new())
    }

    /// A POST that carries packets.
    pub(super) fn post(&self, sid: Option<&str>, body: String) -> Result<HttpRequest, Failure> {
        let mut request = self.polling(Method::POST, sid, body.into())?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8"));
        Ok(request)
    }

    /// The WebSocket handshake. With `sid` it joins that session.
    pub(super) fn upgrade(&self, sid: Option<&str>, key: &str) -> Result<HttpRequest, Failure> {
        let uri = self.uri(TransportKind::WebSocket, sid)?;
        let mut request = self.request(Method::GET, uri, Bytes::new());
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let key = HeaderValue::from_str(key).map_err(|error| Failure::new(Phase::Http, error.to_string()))?;
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
        if let Some(protocols) = &self.protocols {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols.clone());
        }
        Ok(request)
    }

    /// Keeps the cookies that an answer sets, if cookies are kept at all.
    pub(super) fn keep_cookies(&self, answer: &HeaderMap) {
        let Some(mut cookies) = self.cookies() else { return };
        for value in answer.get_all(SET_COOKIE) {
            let Ok(text) = value.to_str() else { continue };
            if text.len() > MAX_COOKIE || !has_room(&mut cookies) {
                debug!(bytes = text.len(), "cookie dropped: it is too large, or there are too many");
                continue;
            }
            if cookies.parse(text, &self.url).is_err() {
                debug!("cookie dropped: it is malformed, expired, or for another host");
            }
        }
    }

    fn polling(&self, method: Method, sid: Option<&str>, body: Bytes) -> Result<HttpRequest, Failure> {
        let uri = self.uri(TransportKind::Polling, sid)?;
        let mut request = self.request(method, uri, body);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
        Ok(request)
    }

    fn request(&self, method: Method, uri: Uri, body: Bytes) -> HttpRequest {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        self.add_cookies(request.headers_mut());
        request
    }

    /// Path and query, as they stand in the request line.
    fn uri(&self, kind: TransportKind, sid: Option<&str>) -> Result<Uri, Failure> {
        let eio = self.revision.number();
        let mut text = format!("{}?{}EIO={eio}&transport={}", self.path, self.query, kind.name());
        match sid {
            Some(sid) => {
                text.push_str("&sid=");
                text.extend(utf8_percent_encode(sid, COMPONENT));
            }
            // Binary data is to come as text, as it always does in revision 4.
            None if self.revision == Revision::V3 && kind == TransportKind::Polling => {
                text.push_str("&b64=1");
            }
            None => {}
        }
        if kind == TransportKind::Polling {
            // Every URL is new, so no cache on the way answers for the server.
            let _ = write!(text, "&t={:x}", self.stamp.fetch_add(1, Ordering::Relaxed));
        }
        text.parse().map_err(|error: http::uri::InvalidUri| Failure::new(Phase::Http, error.to_string()))
    }

    /// One Cookie header: the user's first, then the kept ones that the user has not set.
    fn add_cookies(&self, headers: &mut HeaderMap) {
        let Some(cookies) = self.cookies() else { return };
        let mut pairs: Vec<String> = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        let own = pairs.join("; ");
        let set_by_user = |name: &str| {
            own.split(';')
                .any(|pair| pair.trim_start().split('=').next().is_some_and(|n| n.trim_end() == name))
        };
        pairs.extend(
            cookies
                .get_request_values(&self.url)
                .filter(|(name, _)| !set_by_user(name))
                .map(|(name, value)| format!("{name}={value}")),
        );
        if let Ok(value) = HeaderValue::from_str(&pairs.join("; "))
            && !value.is_empty()
        {
            headers.insert(COOKIE, value);
        }
    }

    fn cookies(&self) -> Option<MutexGuard<'_, CookieStore>> {
        let cookies = self.cookies.as_ref()?;
        Some(cookies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether another cookie may come in. The store keeps what has expired: it is thrown out when the room is needed.
fn has_room(cookies: &mut CookieStore) -> bool {
    if cookies.iter_any().count() >= MAX_COOKIES {
        let living: Vec<_> = cookies.iter_unexpired().cloned().map(Ok::<_, Infallible>).collect();
        let Ok(store) = CookieStore::from_cookies(living, false);
        *cookies = store;
    }
    cookies.iter_any().count() < MAX_COOKIES
}

/// A name or a value of a query as it goes out.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// Where the numbers begin that keep requests from being answered out of a cache.
fn new_stamp() -> AtomicU64 {
    AtomicU64::new(fastrand::u64(..1 << 40))
}

/// Parameters as a query string, keys and values written as `encodeURIComponent` does, without a `?`.
pub fn encode_query<'a>(parameters: impl IntoIterator<Item = &'a (String, String)>) -> String {
    let mut query = String::new();
    for (name, value) in parameters {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&encode(name));
        query.push('=');
        query.push_str(&encode(value));
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Scheme;
    use crate::transport::tests::settings;

    fn requests(change: impl FnOnce(&mut Settings)) -> Requests {
        let mut settings = settings();
        change(&mut settings);
        Requests::new(&settings).expect("settings that can be used")
    }

    fn target(request: Result<HttpRequest, Failure>) -> String {
        request.expect("a request").uri().to_string()
    }

    #[test]
    fn the_query_is_encoded_and_ours_wins() {
        let requests = requests(|settings| {
            settings.path = "/a%20b/".to_owned();
            settings.query = [
                ("token", "a b&c=d+\u{e9}"),
                ("EIO", "3"),
                ("t", "0"),
                ("sid", "x"),
                ("transport", "y"),
                ("b64", "1"),
                ("k y", "-_.!~*'()"),
                ("empty", ""),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        });
        let user = "/a%20b/?token=a%20b%26c%3Dd%2B%C3%A9&k%20y=-_.!~*'()&empty=&EIO=4";
        assert_eq!(target(requests.upgrade(None, "k")), format!("{user}&transport=websocket"));
        assert_eq!(
            target(requests.upgrade(Some("a/b="), "k")),
            format!("{user}&transport=websocket&sid=a%2Fb%3D")
        );
        let first = target(requests.get(Some("s")));
        assert!(first.starts_with(&format!("{user}&transport=polling&sid=s&t=")), "{first}");
        assert_ne!(first, target(requests.get(Some("s"))), "t differs between requests");
    }

    #[test]
    fn revision_3_asks_for_text_when_a_polling_session_opens() {
        let requests = requests(|settings| settings.revision = Revision::V3);
        assert_eq!(target(requests.upgrade(None, "k")), "/socket.io/?EIO=3&transport=websocket");
        assert!(target(requests.get(None)).starts_with("/socket.io/?EIO=3&transport=polling&b64=1&t="));
        assert!(target(requests.get(Some("s"))).starts_with("/socket.io/?EIO=3&transport=polling&sid=s&t="));
    }

    #[test]
    fn the_host_is_written_as_in_a_url() {
        for (scheme, host, port, origin, header) in [
            (Scheme::Http, "a.test", 80, "http://a.test", "a.test"),
            (Scheme::Http, "a.test", 443, "http://a.test:443", "a.test:443"),
            (Scheme::Https, "a.test", 443, "https://a.test", "a.test"),
            (Scheme::Wss, "a.test", 80, "https://a.test:80", "a.test:80"),
            (Scheme::Ws, "::1", 3000, "http://[::1]:3000", "[::1]:3000"),
            (Scheme::Wss, "::1", 443, "https://[::1]", "[::1]"),
        ] {
            let requests = requests(|settings| {
                (settings.scheme, settings.host, settings.port) = (scheme, host.to_owned(), port);
            });
            assert_eq!(requests.origin(), origin);
            assert_eq!(requests.get(None).expect("a request").headers()[HOST], header);
        }
    }

    #[test]
    fn headers_of_the_user_go_along_unless_they_are_ours() {
        let requests = requests(|settings| {
            for (name, value) in [
                ("x-token", "1"),
                ("x-token", "2"),
                ("host", "b.test"),
                ("accept", "text/html"),
                ("content-type", "text/html"),
                ("content-length", "7"),
                ("accept-encoding", "gzip"),
                ("connection", "close"),
                ("sec-websocket-key", "x"),
                ("sec-websocket-extensions", "permessage-deflate"),
                ("sec-websocket-protocol", "x"),
            ] {
                settings.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            settings.protocols = vec!["one".to_owned(), "two".to_owned()];
        });
        let listed = |request: Result<HttpRequest, Failure>| {
            let mut lines: Vec<_> = request
                .expect("a request")
                .headers()
                .iter()
                .filter(|(name, _)| *name != USER_AGENT)
                .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
                .collect();
            lines.sort();
            lines
        };
        let common = ["host: b.test", "x-token: 1", "x-token: 2"];
        let get = [&["accept: */*", "content-type: text/html"][..], &common].concat();
        assert_eq!(listed(requests.get(None)), get);
        let post = [&["accept: */*", "content-type: text/plain;charset=UTF-8"][..], &common].concat();
        assert_eq!(listed(requests.post(None, String::new())), post);
        let upgrade = [
            "accept: text/html",
            "connection: Upgrade",
            "content-type: text/html",
            "host: b.test",
            "sec-websocket-key: KEY",
            "sec-websocket-protocol: one, two",
            "sec-websocket-version: 13",
            "upgrade: websocket",
            "x-token: 1",
            "x-token: 2",
        ];
        assert_eq!(listed(requests.upgrade(None, "KEY")), upgrade);
    }

    #[test]
    fn cookies_are_kept_only_with_credentials() {
        let answer = |cookies: &[&str]| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(SET_COOKIE, HeaderValue::from_str(cookie).expect("a header"));
            }
            headers
        };
        let sent = |requests: &Requests| {
            let request = requests.upgrade(None, "k").expect("a request");
            let mut sent: Vec<_> = request
                .headers()
                .get(COOKIE)
                .map(|value| value.to_str().expect("ASCII").split("; ").map(str::to_owned).collect())
                .unwrap_or_default();
            sent.sort();
            sent
        };
        let large = format!("large={}", "x".repeat(MAX_COOKIE));
        let cookies = answer(&[
            "io=1; Path=/; HttpOnly",
            "route=a; Max-Age=60",
            "user=server",
            "odd",
            "x=1; Domain=b.test",
            &large,
        ]);

        let without = requests(|settings| settings.with_credentials = false);
        without.keep_cookies(&cookies);
        assert_eq!(sent(&without), [""; 0]);

        let with = requests(|settings| {
            settings.with_credentials = true;
            settings.headers.insert(COOKIE, HeaderValue::from_static("user=mine"));
        });
        assert_eq!(sent(&with), ["user=mine"]);
        with.keep_cookies(&cookies);
        assert_eq!(sent(&with), ["io=1", "route=a", "user=mine"]);
        with.keep_cookies(&answer(&["io=2; Path=/", "route=; Max-Age=0"]));
        assert_eq!(sent(&with), ["io=2", "user=mine"]);

        let many: Vec<_> = (0..1000).map(|n| format!("c{n}=1")).collect();
        with.keep_cookies(&answer(&many.iter().map(String::as_str).collect::<Vec<_>>()));
        assert!(sent(&with).len() <= MAX_COOKIES + 1, "the jar is bounded");
    }

    #[test]
    fn what_has_expired_makes_room() {
        let url = Url::parse("http://server.test/").expect("a URL");
        let dead = (0..MAX_COOKIES).map(|n| {
            // The store takes what it has read from a file as it is, however old.
            let old = format!("c{n}=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
            Ok::<_, Infallible>(cookie_store::Cookie::parse(old, &url).expect("a cookie").into_owned())
        });
        let Ok(mut cookies) = CookieStore::from_cookies(dead, true);
        assert_eq!(cookies.iter_any().count(), MAX_COOKIES);
        assert!(has_room(&mut cookies));
        assert_eq!(cookies.iter_any().count(), 0);
    }

    #[test]
    fn what_cannot_stand_in_a_request_is_refused() {
        for (change, named) in [
            ((|settings| settings.path = "/a b/".to_owned()) as fn(&mut Settings), "path or query"),
            (|settings| settings.host = "a b".to_owned(), "host"),
            (|settings| settings.protocols = vec!["a\nb".to_owned()], "protocols"),
            (|settings| settings.query = vec![("a".to_owned(), "x".repeat(70_000))], "path or query"),
        ] {
            let mut settings = settings();
            change(&mut settings);
            match Requests::new(&settings) {
                Err(Error::Settings(text)) => assert!(text.starts_with(named), "{text}"),
                Err(other) => panic!("{other:?}"),
                Ok(_) => panic!("{named} was taken"),
            }
        }
    }
}
