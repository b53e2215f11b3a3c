//! The URL of a connection, read as `io(url)` reads it: the path is the namespace, the query goes to the server
//! with every request, the user info becomes an `Authorization` header.
//!
//! Path and query are taken as written and not normalised, for a namespace is a name and not a place.
//! No message quotes the user info or the query: both can hold secrets.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::secret::is_secret_name;
use crate::transport::Scheme;

/// What a URL says.
#[derive(Debug)]
pub(super) struct Target {
    /// The URL as it may be shown: no user info, no fragment, and `***` for values of the query that are secret.
    pub(super) shown: String,
    pub(super) scheme: Scheme,
    /// An IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) namespace: String,
    /// Decoded; of a name given twice the last value.
    pub(super) query: BTreeMap<String, String>,
    pub(super) authorization: Option<HeaderValue>,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(character) = text.chars().find(|it| it.is_control() || it.is_whitespace()) {
            return Err(format!("has the character {character:?}, which no URL may have; percent-encode it"));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("has no scheme; begin it with https:// (or http://, wss://, ws://)".to_owned());
        };
        let name = scheme.to_ascii_lowercase();
        let scheme = match name.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            _ => {
                return Err(format!("has the scheme {name:?}; expected https, http, wss or ws"));
            }
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));

        let url =
            Url::parse(&format!("{name}://{authority}/")).map_err(|error| format!("is no URL: {error}"))?;
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => return Err("has no host".to_owned()),
        };
        if url.path() != "/" {
            return Err("has a backslash in its host".to_owned());
        }
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or("has port 0")?;
        if path.contains(',') {
            return Err("has a comma in its path, which is the namespace and may have none".to_owned());
        }

        let bare_authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let shown_query = query.map(|query| format!("?{}", masked(query))).unwrap_or_default();
        Ok(Self {
            shown: format!("{name}://{bare_authority}{path}{shown_query}"),
            scheme,
            host,
            port,
            namespace: if path.is_empty() { "/" } else { path }.to_owned(),
            query: query.map(decode_query).transpose()?.unwrap_or_default(),
            authorization: authorization(&url)?,
        })
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn masked(query: &str) -> String {
    let mask = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_secret_name(&decoded_or_raw(name)) => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    query.split('&').map(mask).collect::<Vec<_>>().join("&")
}

fn decoded_or_raw(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn decode_query(query: &str) -> Result<BTreeMap<String, String>, String> {
    let decode = |text| percent_decode_str(text).decode_utf8().map(String::from);
    pairs(query)
        .map(|(name, value)| Ok((decode(name)?, decode(value)?)))
        .collect::<Result<_, std::str::Utf8Error>>()
        .map_err(|_| "has a query that is not UTF-8 once percent-decoded".to_owned())
}

fn authorization(url: &Url) -> Result<Option<HeaderValue>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let mut credentials: Vec<u8> = percent_decode_str(url.username()).collect();
    if credentials.contains(&b':') {
        return Err("has a colon in its user name, which HTTP authentication cannot carry".to_owned());
    }
    credentials.push(b':');
    credentials.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(credentials)))
        .map_err(|_| "has user info that fits no header".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, scheme, host, port, namespace) in [
            ("http://h", Scheme::Http, "h", 80, "/"),
            ("http://h/", Scheme::Http, "h", 80, "/"),
            ("https://h", Scheme::Https, "h", 443, "/"),
            ("ws://h", Scheme::Ws, "h", 80, "/"),
            ("wss://h", Scheme::Wss, "h", 443, "/"),
            ("HTTPS://Chat.Example.COM", Scheme::Https, "chat.example.com", 443, "/"),
            ("http://h:3000/room", Scheme::Http, "h", 3000, "/room"),
            ("http://h/a/", Scheme::Http, "h", 80, "/a/"),
            ("http://h/a/../b%20c", Scheme::Http, "h", 80, "/a/../b%20c"),
            ("http://h?x=/y", Scheme::Http, "h", 80, "/"),
            ("http://h/room#part", Scheme::Http, "h", 80, "/room"),
            ("http://[::1]:8080/n", Scheme::Http, "::1", 8080, "/n"),
            ("http://127.0.0.1:1/n", Scheme::Http, "127.0.0.1", 1, "/n"),
            ("http://bücher.example", Scheme::Http, "xn--bcher-kva.example", 80, "/"),
        ] {
            let target = Target::parse(url).unwrap();
            let found = (target.scheme, target.host.as_str(), target.port, target.namespace.as_str());
            assert_eq!(found, (scheme, host, port, namespace), "{url}");
        }
    }

    #[test]
    fn queries() {
        for (url, expected) in [
            ("http://h/?", &[][..]),
            ("http://h/?x=1&y", &[("x", "1"), ("y", "")]),
            ("http://h/?x=1&x=2", &[("x", "2")]),
            ("http://h/?a=b=c&&d=%26%3D%20+", &[("a", "b=c"), ("d", "&= +")]),
        ] {
            let query = Target::parse(url).unwrap().query;
            let found: Vec<_> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let target = Target::parse("https://me:p%40ss@h:9/n?x=1&Access%54oken=abc#f").unwrap();
        assert_eq!(target.shown, "https://h:9/n?x=1&Access%54oken=***");
        assert_eq!(
            target.authorization.as_ref().map(HeaderValue::as_bytes),
            Some(&b"Basic bWU6cEBzcw=="[..])
        );
        assert!(!format!("{target:?}").contains("bWU6"));
        assert_eq!(Target::parse("http://h").unwrap().authorization, None);
        assert_eq!(Target::parse("http://h:3000").unwrap().shown, "http://h:3000");
    }

    #[test]
    fn refusals() {
        for (url, message) in [
            ("", "has no scheme; begin it with https:// (or http://, wss://, ws://)"),
            ("localhost:3000", "has no scheme; begin it with https:// (or http://, wss://, ws://)"),
            ("ftp://h", "has the scheme \"ftp\"; expected https, http, wss or ws"),
            ("http://", "is no URL: empty host"),
            ("http://h:0", "has port 0"),
            ("http://h:70000", "is no URL: invalid port number"),
            ("http://h\\x", "has a backslash in its host"),
            ("http://h/a b", "has the character ' ', which no URL may have; percent-encode it"),
            ("http://h/a\r\nX: y", "has the character '\\r', which no URL may have; percent-encode it"),
            ("http://h/a,b", "has a comma in its path, which is the namespace and may have none"),
            ("http://a%3Ab:c@h", "has a colon in its user name, which HTTP authentication cannot carry"),
            ("http://h?x=%ff", "has a query that is not UTF-8 once percent-decoded"),
        ] {
            assert_eq!(Target::parse(url).map(|target| target.shown), Err(message.to_owned()), "{url}");
        }
    }
}
