//! The way to a server, and how a proxy is written.

use std::fmt;

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// How the server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// Through the proxy that the process's environment names for it, if any.
    #[default]
    Environment,
    /// Directly, whatever the environment says.
    Direct,
    /// Through this proxy.
    Proxy(Proxy),
    /// Over a Unix socket. The URL's host still gives the `Host` header and the name that TLS verifies.
    Unix(std::path::PathBuf),
}

/// A proxy, with the user and password it wants. `Display` and `Debug` do not show those.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// What is spoken with it.
    pub scheme: ProxyScheme,
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Where a URL names none: 80 for `http`, 443 for `https`, 1080 for SOCKS.
    pub port: u16,
    pub(super) credentials: Option<Credentials>,
}

/// What is spoken with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyScheme {
    /// HTTP CONNECT.
    Http,
    /// HTTP CONNECT within TLS.
    Https,
    /// SOCKS 5; names are resolved here, as curl does.
    Socks5,
    /// SOCKS 5; names are resolved by the proxy.
    Socks5h,
}

/// A user and password, percent-decoded.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: Vec<u8>,
    pub(super) password: Vec<u8>,
}

impl ProxyScheme {
    const ALL: [Self; 4] = [Self::Http, Self::Https, Self::Socks5, Self::Socks5h];

    /// As in a URL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 | Self::Socks5h => 1080,
        }
    }
}

impl Proxy {
    /// Reads `SCHEME://[USER[:PASSWORD]@]HOST[:PORT]`. No message quotes the text, which can hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected http://, https://, socks5:// or socks5h:// and a host";
        let Some((scheme, _)) = text.split_once("://") else {
            return Err(format!("has no scheme; {EXPECTED}"));
        };
        let scheme = ProxyScheme::ALL
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(scheme))
            .ok_or_else(|| format!("has a scheme that is not supported; {EXPECTED}"))?;
        let url = Url::parse(text).map_err(|error| {
            format!("is no URL ({error}); what is special in a user or password is percent-encoded")
        })?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("has more than a host and a port; percent-encode what is special in a user or \
                        password, and leave out the rest"
                .to_owned());
        }
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => return Err(format!("has no host; {EXPECTED}")),
        };
        let port = url.port().unwrap_or(scheme.default_port());
        if port == 0 {
            return Err("has port 0".to_owned());
        }
        Ok(Self { scheme, host, port, credentials: Credentials::of(&url, scheme)? })
    }
}

impl Credentials {
    fn of(url: &Url, scheme: ProxyScheme) -> Result<Option<Self>, String> {
        if url.username().is_empty() && url.password().is_none() {
            return Ok(None);
        }
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        match scheme {
            ProxyScheme::Http | ProxyScheme::Https if user.contains(&b':') => {
                Err("has a colon in its user, which HTTP authentication cannot carry".to_owned())
            }
            ProxyScheme::Socks5 | ProxyScheme::Socks5h
                if user.is_empty() || user.len() > 255 || password.len() > 255 =>
            {
                Err("has a user or password that SOCKS cannot carry: it takes 1 to 255 bytes".to_owned())
            }
            _ => Ok(Some(Self { user, password })),
        }
    }

    /// For `Proxy-Authorization`.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        use base64::Engine as _;
        let pair = [&self.user[..], b":", &self.password].concat();
        let text = format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair));
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.credentials.is_some() { "***@" } else { "" };
        write!(f, "{}://{user}{}", self.scheme.name(), authority(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, shown, credentials) in [
            ("http://p", "http://p:80", None),
            ("https://p/", "https://p:443", None),
            ("socks5://p", "socks5://p:1080", None),
            ("SOCKS5H://[::1]:9", "socks5h://[::1]:9", None),
            ("http://127.0.0.1:3128", "http://127.0.0.1:3128", None),
            ("http://me:p%40ss@p:1", "http://***@p:1", Some(("me", "p@ss"))),
            ("socks5://me@p", "socks5://***@p:1080", Some(("me", ""))),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!(proxy.to_string(), shown);
            assert_eq!(format!("{proxy:?}"), format!("Proxy({shown})"));
            let found = proxy.credentials.map(|it| (it.user, it.password));
            assert_eq!(found, credentials.map(|(user, password)| (user.into(), password.into())), "{text}");
        }
    }

    #[test]
    fn refusals_quote_nothing() {
        let long = format!("socks5://{}:s3cret@p", "u".repeat(256));
        for (text, message) in [
            ("s3cret", "has no scheme; expected http://, https://, socks5:// or socks5h:// and a host"),
            (
                "socks4://s3cret@p",
                "has a scheme that is not supported; expected http://, https://, socks5:// or socks5h:// and a host",
            ),
            (
                "http://me:s3cret@",
                "is no URL (empty host); what is special in a user or password is percent-encoded",
            ),
            (
                "http://me:s3c/ret@p",
                "is no URL (invalid port number); what is special in a user or password is percent-encoded",
            ),
            (
                "http://p/s3cret",
                "has more than a host and a port; percent-encode what is special in a user or password, and leave out the rest",
            ),
            ("http://p:0", "has port 0"),
            ("socks5:///", "has no host; expected http://, https://, socks5:// or socks5h:// and a host"),
            ("http://a%3Ab:s3cret@p", "has a colon in its user, which HTTP authentication cannot carry"),
            (&long, "has a user or password that SOCKS cannot carry: it takes 1 to 255 bytes"),
        ] {
            assert_eq!(Proxy::parse(text), Err(message.to_owned()), "{text}");
        }
    }
}
