//! Which proxy the environment names for a server, in the variables that curl and others read.
//!
//! As for curl, a server on this machine is no exception by itself: `NO_PROXY` has to name it.

use std::net::{IpAddr, Ipv6Addr};

use super::proxy::Proxy;

/// What it says about all servers.
#[derive(Default)]
pub(super) struct Environment {
    http: Option<Variable>,
    https: Option<Variable>,
    all: Option<Variable>,
    except: Option<Variable>,
}

struct Variable {
    name: String,
    value: String,
}

/// What the environment says about one server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Advice {
    Proxy(Proxy),
    /// This variable would name a proxy, but `NO_PROXY` takes the server out.
    Excepted(String),
    /// There is a proxy, in this variable, but for the other scheme.
    OtherScheme(String),
    Nothing,
}

impl Environment {
    /// The environment of this process.
    pub(super) fn read() -> Self {
        Self::from(|name| std::env::var(name).ok())
    }

    /// Lower case wins, and what is empty counts as absent, as for curl.
    fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        let find = |name: &str| {
            [name.to_ascii_lowercase(), name.to_owned()].into_iter().find_map(|name| {
                let value = variable(&name).filter(|value| !value.trim().is_empty())?;
                Some(Variable { value: value.trim().to_owned(), name })
            })
        };
        Self {
            http: find("HTTP_PROXY"),
            https: find("HTTPS_PROXY"),
            all: find("ALL_PROXY"),
            except: find("NO_PROXY"),
        }
    }

    /// The error names the variable, not its value.
    pub(super) fn advice(&self, secure: bool, host: &str, port: u16) -> Result<Advice, String> {
        let (own, other) = if secure { (&self.https, &self.http) } else { (&self.http, &self.https) };
        let Some(variable) = own.as_ref().or(self.all.as_ref()) else {
            return Ok(match other {
                Some(other) => Advice::OtherScheme(other.name.clone()),
                None => Advice::Nothing,
            });
        };
        if self.except.as_ref().is_some_and(|list| is_excepted(&list.value, host, port)) {
            return Ok(Advice::Excepted(variable.name.clone()));
        }
        // Many write it without a scheme there.
        let url = match &variable.value {
            url if url.contains("://") => url.clone(),
            bare => format!("http://{bare}"),
        };
        match Proxy::parse(&url) {
            Ok(proxy) => Ok(Advice::Proxy(proxy)),
            Err(message) => Err(format!("the variable {} {message}", variable.name)),
        }
    }
}

/// Whether a list like `NO_PROXY` names this server: `*`, a domain with all that is below it, an address or a network
/// like `10.0.0.0/8`; each but the first two may have a port.
fn is_excepted(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.');
    let address: Option<IpAddr> = host.parse().ok();
    let named = |entry: &str| {
        if entry == "*" {
            return true;
        }
        let (entry, only) = split_port(entry);
        if only.is_some_and(|only| only != port) {
            return false;
        }
        match address {
            Some(address) => contains(entry, address),
            None => {
                let domain = entry.trim_start_matches("*.").trim_matches('.');
                let below = || {
                    let start = host.len().checked_sub(domain.len() + 1)?;
                    let (_, end) = host.split_at_checked(start)?;
                    Some(end.strip_prefix('.')?.eq_ignore_ascii_case(domain))
                };
                !domain.is_empty() && (host.eq_ignore_ascii_case(domain) || below().unwrap_or(false))
            }
        }
    };
    list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).any(named)
}

/// `host:port` and `[address]:port` taken apart; a bare IPv6 address has no port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[') {
        let (address, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (address, port.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

/// Whether an entry is this address, or a network that holds it.
fn contains(entry: &str, address: IpAddr) -> bool {
    let (network, length) = match entry.split_once('/') {
        Some((network, length)) => (network, length.parse::<u32>().ok()),
        None => (entry, Some(128)),
    };
    let (Ok(network), Some(length)) = (network.parse::<IpAddr>(), length) else {
        return false;
    };
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (u128::from(network.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (Ipv6Addr::to_bits(network), address.to_bits(), 128),
        _ => return false,
    };
    let ignored = width - length.min(width);
    (network ^ address).checked_shr(ignored).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &'static [(&str, &str)]) -> Environment {
        Environment::from(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_advises() {
        let proxy = |text| Advice::Proxy(Proxy::parse(text).unwrap());
        for (variables, secure, expected) in [
            (&[][..], true, Advice::Nothing),
            (&[("HTTPS_PROXY", "http://s"), ("HTTP_PROXY", "http://p")], true, proxy("http://s")),
            (&[("HTTPS_PROXY", "http://s"), ("HTTP_PROXY", "http://p")], false, proxy("http://p")),
            (&[("HTTP_PROXY", "http://upper"), ("http_proxy", "http://lower")], false, proxy("http://lower")),
            (&[("http_proxy", ""), ("HTTP_PROXY", "http://upper")], false, proxy("http://upper")),
            (&[("ALL_PROXY", "socks5h://a")], true, proxy("socks5h://a")),
            (&[("all_proxy", "socks5h://a"), ("https_proxy", "http://s")], true, proxy("http://s")),
            (&[("HTTPS_PROXY", "p:3128")], true, proxy("http://p:3128")),
            (&[("HTTP_PROXY", "http://p")], true, Advice::OtherScheme("HTTP_PROXY".into())),
            (
                &[("ALL_PROXY", "http://p"), ("no_proxy", "server.test")],
                true,
                Advice::Excepted("ALL_PROXY".into()),
            ),
        ] {
            let advice = environment(variables).advice(secure, "server.test", 443);
            assert_eq!(advice, Ok(expected), "{variables:?}");
        }
        let wrong = environment(&[("ALL_PROXY", "socks4://me:s3cret@p")]).advice(true, "h", 443);
        let message = wrong.unwrap_err();
        assert!(message.starts_with("the variable ALL_PROXY has a scheme"), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }

    #[test]
    fn exceptions() {
        for (list, host, expected) in [
            ("", "a.test", false),
            ("*", "a.test", true),
            ("a.test", "a.test", true),
            ("A.Test", "a.tesT.", true),
            ("a.test", "b.a.test", true),
            (".a.test", "b.a.test", true),
            (".a.test", "a.test", true),
            ("*.a.test", "b.a.test", true),
            ("a.test", "ba.test", false),
            ("a.test", "test", false),
            ("x, ,a.test", "a.test", true),
            ("x a.test", "a.test", true),
            ("a.test:3000", "a.test", true),
            ("a.test:3001", "a.test", false),
            (".", "a.test", false),
            ("é", "a\u{301}é", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1:3000", "127.0.0.1", true),
            ("127.0.0.1:1", "127.0.0.1", false),
            ("127.0.0.0/8", "127.9.9.9", true),
            ("10.0.0.0/8", "127.9.9.9", false),
            ("0.0.0.0/0", "127.9.9.9", true),
            ("1.2.3.4/x", "1.2.3.4", false),
            ("::1", "::1", true),
            ("[::1]:3000", "::1", true),
            ("[::1]:1", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::/0", "fe00::1", true),
        ] {
            assert_eq!(is_excepted(list, host, 3000), expected, "{host} in {list:?}");
        }
    }
}
