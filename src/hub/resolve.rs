//! From options as written to settings with nothing left to check.
//!
//! An option is looked for in the connection, then in `[defaults]`, then among the built-in defaults, which are those
//! of socket.io-client save where the configuration's documentation says otherwise.

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::engineio::{Revision, TransportKind};
use crate::hub::log;
use crate::hub::options::{
    self, ConnectionOptions, ConnectionSettings, HistoryOptions, OnConnectError, OnServerDisconnect,
    TlsOptions,
};
use crate::hub::quantity::Duration;
use crate::hub::target::Target;
use crate::manager::{self, Auth, backoff};
use crate::socketio::{Args, Name, Parser, Step, StepArgs};
use crate::transport::{self, Proxy, Via};

/// An option that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct OptionError {
    /// The option, with a dot before each level: `tls.ca_file`.
    pub key: String,
    /// What is wrong with it and what to do.
    pub message: String,
}

impl OptionError {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// Why an auth object cannot be used with revision 3, and what can.
pub const NO_AUTH: &str = "there is no auth object with engine = 3; put what the server asks for into query";

/// Headers that make a request what it is; another value would break it.
const OWN_HEADERS: [HeaderName; 12] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
];

impl ConnectionOptions {
    /// The settings of this connection, with `defaults` under its own options.
    ///
    /// `query` and `extra_headers` are merged by name; a connection with an auth source of its own takes none from
    /// `defaults`, and one with `proxy` or `unix_socket` neither of the two. The error is the first of those that
    /// [`ConnectionOptions::resolve_all`] finds.
    pub fn resolve(self, defaults: &ConnectionOptions) -> Result<ConnectionSettings, OptionError> {
        self.resolve_all(defaults).map_err(|mut errors| errors.swap_remove(0))
    }

    /// As [`ConnectionOptions::resolve`], with every error instead of the first. There is at least one.
    pub fn resolve_all(self, defaults: &ConnectionOptions) -> Result<ConnectionSettings, Vec<OptionError>> {
        let mut check = Check::default();
        let options = self.over(defaults);
        let script = options.script(&mut check);

        let target = match options.url.as_deref().map(Target::parse) {
            Some(Ok(target)) => Some(target),
            Some(Err(message)) => check.refuse("url", message),
            None => check
                .refuse("url", "missing; a connection needs a URL like https://chat.example.com/namespace"),
        };
        let headers = options.headers(target.as_ref(), &mut check);
        let path = options.request_path(&mut check);
        let tls = options.tls(&mut check);
        let via = options.via(&mut check);
        let transports = options.transports(&mut check);
        let protocols = options.protocols(&mut check);
        let revision = options.revision(&mut check);
        let auth = options.auth_source(&mut check);
        let backoff = options.backoff(&mut check);
        let history = options.history(&mut check);
        let timeout = or_default(options.timeout, 20);
        check.that(!timeout.is_zero(), "timeout", "0 leaves an attempt no time; expected more, like \"20s\"");
        let max_payload = options.max_payload.map_or(16 << 20, |size| size.0);
        check.that(
            max_payload > 0,
            "max_payload",
            "0 would refuse every message; expected a size like \"16MiB\"",
        );

        let (Some(target), []) = (target, check.errors.as_slice()) else {
            return Err(check.errors);
        };
        let mut query: BTreeMap<_, _> = options.query.into_iter().flatten().map(|(k, v)| (k, v.0)).collect();
        query.extend(target.query);
        let transport = transport::Settings {
            revision,
            scheme: target.scheme,
            host: target.host,
            port: target.port,
            path,
            query: query.into_iter().collect(),
            headers,
            with_credentials: options.with_credentials.unwrap_or(true),
            protocols,
            max_payload,
            tls,
            via,
        };
        let parser = options.parser.unwrap_or(Parser::Json);
        let manager = manager::Settings {
            transport,
            transports,
            try_all_transports: options.try_all_transports.unwrap_or(true),
            upgrade: options.upgrade.unwrap_or(true),
            remember_upgrade: options.remember_upgrade.unwrap_or(false),
            parser,
            reconnection: options.reconnection.unwrap_or(true),
            reconnection_attempts: options.reconnection_attempts.filter(|attempts| *attempts > 0),
            backoff,
            timeout,
            stable_after: or_default(options.stable_after, 10),
        };
        let socket = manager::SocketSettings {
            script: script.into(),
            namespace: target.namespace.into(),
            auth,
            ack_timeout: options.ack_timeout.map(|timeout| timeout.0),
            retries: options.retries.unwrap_or(0),
            send_buffer: options.send_buffer.map_or(4 << 20, |size| size.0),
            max_attachments: options.max_attachments.or((parser == Parser::Json).then_some(10)),
            returns: manager::Returns {
                refused: options.on_connect_error == Some(OnConnectError::Retry),
                kicked: options.on_server_disconnect == Some(OnServerDisconnect::Reconnect),
            },
        };
        Ok(ConnectionSettings {
            url: target.shown,
            manager,
            socket,
            history,
            sticky: options.sticky.unwrap_or_default(),
            auto_connect: options.auto_connect.unwrap_or(true),
            force_new: options.force_new.unwrap_or(false) || !options.multiplex.unwrap_or(true),
        })
    }

    /// These options where they are given, those of `defaults` where not.
    fn over(self, defaults: &Self) -> Self {
        let below = defaults.clone();
        let own_auth = self.auth.is_some() || self.auth_file.is_some() || self.auth_command.is_some();
        let auth = if own_auth { &self } else { &below };
        let (auth, auth_file, auth_command) =
            (auth.auth.clone(), auth.auth_file.clone(), auth.auth_command.clone());
        let own_way = self.proxy.is_some() || self.unix_socket.is_some();
        let way = if own_way { &self } else { &below };
        let (proxy, unix_socket) = (way.proxy.clone(), way.unix_socket.clone());
        Self {
            url: self.url.or(below.url),
            path: self.path.or(below.path),
            add_trailing_slash: self.add_trailing_slash.or(below.add_trailing_slash),
            query: merged(below.query, self.query),
            extra_headers: merged_headers(below.extra_headers, self.extra_headers),
            with_credentials: self.with_credentials.or(below.with_credentials),
            transports: self.transports.or(below.transports),
            try_all_transports: self.try_all_transports.or(below.try_all_transports),
            upgrade: self.upgrade.or(below.upgrade),
            remember_upgrade: self.remember_upgrade.or(below.remember_upgrade),
            protocols: self.protocols.or(below.protocols),
            engine: self.engine.or(below.engine),
            parser: self.parser.or(below.parser),
            reconnection: self.reconnection.or(below.reconnection),
            reconnection_attempts: self.reconnection_attempts.or(below.reconnection_attempts),
            reconnection_delay: self.reconnection_delay.or(below.reconnection_delay),
            reconnection_delay_max: self.reconnection_delay_max.or(below.reconnection_delay_max),
            randomization_factor: self.randomization_factor.or(below.randomization_factor),
            timeout: self.timeout.or(below.timeout),
            auto_connect: self.auto_connect.or(below.auto_connect),
            force_new: self.force_new.or(below.force_new),
            multiplex: self.multiplex.or(below.multiplex),
            ack_timeout: self.ack_timeout.or(below.ack_timeout),
            retries: self.retries.or(below.retries),
            on_connect_error: self.on_connect_error.or(below.on_connect_error),
            on_server_disconnect: self.on_server_disconnect.or(below.on_server_disconnect),
            stable_after: self.stable_after.or(below.stable_after),
            send_buffer: self.send_buffer.or(below.send_buffer),
            history: over_history(self.history, below.history),
            max_payload: self.max_payload.or(below.max_payload),
            max_attachments: self.max_attachments.or(below.max_attachments),
            tls: over_tls(self.tls, below.tls),
            proxy,
            unix_socket,
            auth,
            auth_file,
            auth_command,
            on_connect: self.on_connect.or(below.on_connect),
            sticky: self.sticky.or(below.sticky),
        }
    }

    fn script(&self, check: &mut Check) -> Vec<Step> {
        let steps = self.on_connect.iter().flatten().enumerate();
        steps.filter_map(|(number, step)| self.step(number, step, check)).collect()
    }

    fn step(&self, number: usize, step: &options::Step, check: &mut Check) -> Option<Step> {
        let key = |member: &str| format!("on_connect[{number}]{member}");
        let event = Name::new(&step.event);
        let revision = if self.engine == Some(3) { Revision::V3 } else { Revision::V4 };
        let reserved = event.is_reserved_in(revision);
        check.that(!reserved, &key(".event"), "is a reserved event name, which cannot be emitted");
        let timeout = or_default(step.timeout, 10);
        check.that(
            !timeout.is_zero(),
            &key(".timeout"),
            "0 leaves the answer no time; expected more, like \"10s\"",
        );
        let args = match (&step.args, &step.args_file) {
            (Some(_), Some(_)) => {
                return check
                    .refuse(&key(".args_file"), "args and args_file both say what to send; keep one");
            }
            (None, Some(path)) if path.as_os_str().is_empty() => {
                return check.refuse(&key(".args_file"), "is empty; expected the path of a JSON file");
            }
            (None, Some(path)) => StepArgs::File(path.clone()),
            (args, None) => {
                let items: Vec<_> = args.iter().flatten().map(|item| &**item.0.expose()).collect();
                match Args::from_array(format!("[{}]", items.join(",")).into()) {
                    Ok(args) => StepArgs::Fixed(args),
                    Err(error) => return check.refuse(&key(".args"), format!("cannot be sent: {error}")),
                }
            }
        };
        let expect = step.expect.as_ref().map(|expect| expect.0.clone());
        Some(Step { event, args, expect, timeout })
    }

    fn revision(&self, check: &mut Check) -> Revision {
        match self.engine {
            None | Some(4) => Revision::V4,
            Some(3) => {
                for (key, given) in [
                    ("auth", self.auth.is_some()),
                    ("auth_file", self.auth_file.is_some()),
                    ("auth_command", self.auth_command.is_some()),
                ] {
                    check.that(!given, key, NO_AUTH);
                }
                let json = self.parser != Some(Parser::Msgpack);
                check.that(
                    json,
                    "parser",
                    "msgpack goes with engine = 4; servers of revision 3 are spoken to in JSON",
                );
                Revision::V3
            }
            Some(other) => {
                let message = format!("found {other}, expected 3 or 4, the revision of Engine.IO");
                check.refuse::<()>("engine", message);
                Revision::V4
            }
        }
    }

    fn headers(&self, target: Option<&Target>, check: &mut Check) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in self.extra_headers.iter().flatten() {
            let key = format!("extra_headers.{name}");
            let Ok(name) = HeaderName::try_from(name) else {
                check.refuse::<()>(&key, "is no header name; expected letters, digits and dashes");
                continue;
            };
            let Ok(mut value) = HeaderValue::try_from(value) else {
                check.refuse::<()>(&key, "has a character that no header may have, like a line break");
                continue;
            };
            check.that(!OWN_HEADERS.contains(&name), &key, "is set by siod itself; leave it out");
            value.set_sensitive(true);
            if headers.insert(name, value).is_some() {
                check.refuse::<()>(&key, "is given twice, in other letter case; keep one");
            }
        }
        if let Some(value) = target.and_then(|target| target.authorization.clone()) {
            headers.insert(header::AUTHORIZATION, value);
        }
        headers
    }

    fn request_path(&self, check: &mut Check) -> String {
        let path = self.path.as_deref().unwrap_or("/socket.io/");
        let fits = path.starts_with('/')
            && !path.contains(['?', '#'])
            && path.bytes().all(|byte| byte.is_ascii_graphic())
            && path.parse::<http::uri::PathAndQuery>().is_ok();
        check.that(
            fits,
            "path",
            "expected a path that begins with / and is percent-encoded, like \"/socket.io/\"",
        );
        let slash = if self.add_trailing_slash.unwrap_or(true) { "/" } else { "" };
        // A path that is only a slash would otherwise leave a request without any.
        match path.strip_suffix('/').unwrap_or(path) {
            "" => "/".to_owned(),
            path => format!("{path}{slash}"),
        }
    }

    fn tls(&self, check: &mut Check) -> transport::TlsSettings {
        let tls = self.tls.clone().unwrap_or_default();
        check.that(
            tls.key_file.is_some() || tls.cert_file.is_none(),
            "tls.cert_file",
            "needs tls.key_file beside it",
        );
        check.that(
            tls.cert_file.is_some() || tls.key_file.is_none(),
            "tls.key_file",
            "needs tls.cert_file beside it",
        );
        let name = tls.server_name.as_deref();
        let named = name.is_none_or(|name| rustls_pki_types::ServerName::try_from(name).is_ok());
        check.that(named, "tls.server_name", "is no host name or address");
        transport::TlsSettings {
            ca_file: tls.ca_file,
            cert_file: tls.cert_file,
            key_file: tls.key_file,
            server_name: tls.server_name,
            insecure: tls.insecure.unwrap_or(false),
        }
    }

    fn via(&self, check: &mut Check) -> Via {
        match (&self.unix_socket, self.proxy.as_deref()) {
            (None, None) => Via::Environment,
            (None, Some("none")) => Via::Direct,
            (None, Some(proxy)) => match Proxy::parse(proxy) {
                Ok(proxy) => Via::Proxy(proxy),
                Err(message) => {
                    check.refuse::<()>("proxy", message);
                    Via::Direct
                }
            },
            (Some(path), None | Some("none")) => {
                check.that(
                    !path.as_os_str().is_empty(),
                    "unix_socket",
                    "is empty; expected the path of the server's socket",
                );
                Via::Unix(path.clone())
            }
            (Some(_), Some(_)) => {
                check.refuse::<()>("unix_socket", "unix_socket and proxy both say the way; keep one");
                Via::Direct
            }
        }
    }

    fn transports(&self, check: &mut Check) -> Vec<TransportKind> {
        let both = || vec![TransportKind::WebSocket, TransportKind::Polling];
        let transports = self.transports.clone().unwrap_or_else(both);
        check.that(
            !transports.is_empty(),
            "transports",
            "is empty; expected \"websocket\", \"polling\" or both",
        );
        check.that(!has_double(&transports), "transports", "names a transport twice; keep one");
        transports
    }

    fn protocols(&self, check: &mut Check) -> Vec<String> {
        let protocols = self.protocols.clone().unwrap_or_default();
        // A sub-protocol and a header name are both tokens of HTTP.
        let tokens = protocols.iter().all(|name| HeaderName::try_from(name).is_ok());
        check.that(
            tokens,
            "protocols",
            "has a name that is no HTTP token; expected letters, digits, dashes and dots",
        );
        check.that(!has_double(&protocols), "protocols", "names a sub-protocol twice; keep one");
        protocols
    }

    fn auth_source(&self, check: &mut Check) -> Auth {
        match (&self.auth, &self.auth_file, &self.auth_command) {
            (None, None, None) => Auth::None,
            (Some(object), None, None) => Auth::Fixed(object.0.clone()),
            (None, None, Some(argv)) => {
                check.that(
                    argv.first().is_some_and(|program| !program.is_empty())
                        && !argv.iter().any(|argument| argument.contains('\0')),
                    "auth_command",
                    "expected a program and its arguments, like [\"/usr/local/bin/token\", \"chat\"]",
                );
                Auth::Command(argv.clone())
            }
            (None, Some(file), None) => {
                check.that(
                    !file.as_os_str().is_empty(),
                    "auth_file",
                    "is empty; expected the path of a JSON file",
                );
                Auth::File(file.clone())
            }
            (Some(_), Some(_), _) => {
                check.refuse::<()>("auth_file", "auth and auth_file both say who we are; keep one");
                Auth::None
            }
            (_, _, Some(_)) => {
                let other = if self.auth.is_some() { "auth" } else { "auth_file" };
                let message = format!("{other} and auth_command both say who we are; keep one");
                check.refuse::<()>("auth_command", message);
                Auth::None
            }
        }
    }

    fn backoff(&self, check: &mut Check) -> backoff::Settings {
        let jitter = self.randomization_factor.unwrap_or(0.5);
        check.that(
            (0.0..=1.0).contains(&jitter),
            "randomization_factor",
            format!("found {jitter}, expected 0 to 1"),
        );
        backoff::Settings {
            min: or_default(self.reconnection_delay.filter(|delay| !delay.0.is_zero()), 1),
            max: or_default(self.reconnection_delay_max.filter(|delay| !delay.0.is_zero()), 5),
            jitter,
        }
    }

    fn history(&self, check: &mut Check) -> log::Settings {
        const MOST: usize = 1 << 24;
        let history = self.history.clone().unwrap_or_default();
        let events = history.events.unwrap_or(16_384);
        let bytes = history.bytes.map_or(8 << 20, |size| size.0);
        check.that(
            (1..=MOST).contains(&events),
            "history.events",
            format!("found {events}, expected 1 to {MOST}"),
        );
        check.that(
            bytes > 0,
            "history.bytes",
            "0 would keep nothing to hand on; expected a size like \"8MiB\"",
        );
        log::Settings { events, bytes }
    }
}

fn or_default(duration: Option<Duration>, seconds: u64) -> StdDuration {
    duration.map_or(StdDuration::from_secs(seconds), |duration| duration.0)
}

fn has_double<T: PartialEq>(list: &[T]) -> bool {
    list.iter().enumerate().any(|(index, item)| list[..index].contains(item))
}

fn merged<T>(
    below: Option<BTreeMap<String, T>>,
    own: Option<BTreeMap<String, T>>,
) -> Option<BTreeMap<String, T>> {
    match (below, own) {
        (Some(mut below), Some(own)) => {
            below.extend(own);
            Some(below)
        }
        (below, own) => own.or(below),
    }
}

type Headers = Option<BTreeMap<String, String>>;

/// As [`merged`]; the same header in another letter case is the same name.
fn merged_headers(below: Headers, own: Headers) -> Headers {
    let own_names = own.clone().unwrap_or_default();
    let other = |name: &str| !own_names.keys().any(|own| own.eq_ignore_ascii_case(name));
    let below = below.map(|below| below.into_iter().filter(|(name, _)| other(name)).collect());
    merged(below, own)
}

fn over_history(own: Option<HistoryOptions>, below: Option<HistoryOptions>) -> Option<HistoryOptions> {
    let (Some(own), Some(below)) = (&own, &below) else {
        return own.or(below);
    };
    Some(HistoryOptions { events: own.events.or(below.events), bytes: own.bytes.or(below.bytes) })
}

fn over_tls(own: Option<TlsOptions>, below: Option<TlsOptions>) -> Option<TlsOptions> {
    match (own, below) {
        (Some(own), Some(below)) => Some(TlsOptions {
            ca_file: own.ca_file.or(below.ca_file),
            cert_file: own.cert_file.or(below.cert_file),
            key_file: own.key_file.or(below.key_file),
            server_name: own.server_name.or(below.server_name),
            insecure: own.insecure.or(below.insecure),
        }),
        (own, below) => own.or(below),
    }
}

/// Collects what is wrong, so that all of it is said at once.
#[derive(Default)]
struct Check {
    errors: Vec<OptionError>,
}

impl Check {
    fn that(&mut self, fine: bool, key: &str, message: impl Into<String>) {
        if !fine {
            self.refuse::<()>(key, message);
        }
    }

    fn refuse<T>(&mut self, key: &str, message: impl Into<String>) -> Option<T> {
        self.errors.push(OptionError::new(key, message));
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn options(json: &str) -> ConnectionOptions {
        serde_json::from_str(json).unwrap()
    }

    fn settings(json: &str) -> ConnectionSettings {
        options(json).resolve(&ConnectionOptions::default()).unwrap()
    }

    fn over(json: &str, defaults: &str) -> ConnectionSettings {
        options(json).resolve(&options(defaults)).unwrap()
    }

    const SECOND: StdDuration = StdDuration::from_secs(1);

    #[test]
    fn built_in_defaults() {
        let expected = ConnectionSettings {
            url: "http://h".into(),
            manager: manager::Settings {
                transport: transport::Settings {
                    revision: Revision::V4,
                    scheme: transport::Scheme::Http,
                    host: "h".into(),
                    port: 80,
                    path: "/socket.io/".into(),
                    query: vec![],
                    headers: HeaderMap::new(),
                    with_credentials: true,
                    protocols: vec![],
                    max_payload: 16 * 1024 * 1024,
                    tls: transport::TlsSettings::default(),
                    via: Via::Environment,
                },
                transports: vec![TransportKind::WebSocket, TransportKind::Polling],
                try_all_transports: true,
                upgrade: true,
                remember_upgrade: false,
                parser: Parser::Json,
                reconnection: true,
                reconnection_attempts: None,
                backoff: backoff::Settings { min: SECOND, max: 5 * SECOND, jitter: 0.5 },
                timeout: 20 * SECOND,
                stable_after: 10 * SECOND,
            },
            socket: manager::SocketSettings {
                script: std::sync::Arc::default(),
                namespace: "/".into(),
                auth: Auth::None,
                ack_timeout: None,
                retries: 0,
                send_buffer: 4 * 1024 * 1024,
                max_attachments: Some(10),
                returns: manager::Returns::default(),
            },
            history: log::Settings { events: 16_384, bytes: 8 * 1024 * 1024 },
            sticky: Vec::new(),
            auto_connect: true,
            force_new: false,
        };
        assert_eq!(settings(r#"{"url":"http://h"}"#), expected);
    }

    #[test]
    fn zeros() {
        let zeros = r#"{"url":"http://h","reconnection_attempts":0,"reconnection_delay":0,
            "reconnection_delay_max":"0s","randomization_factor":0,"ack_timeout":0,"stable_after":0,"send_buffer":0}"#;
        let settings = settings(zeros);
        assert_eq!(settings.manager.reconnection_attempts, None);
        assert_eq!(settings.manager.backoff, backoff::Settings { min: SECOND, max: 5 * SECOND, jitter: 0.0 });
        assert_eq!(settings.manager.stable_after, StdDuration::ZERO);
        assert_eq!(settings.socket.ack_timeout, Some(StdDuration::ZERO));
        assert_eq!(settings.socket.send_buffer, 0);
    }

    #[test]
    fn trailing_slashes() {
        for (path, slash, expected) in [
            ("/socket.io", true, "/socket.io/"),
            ("/socket.io/", true, "/socket.io/"),
            ("/socket.io/", false, "/socket.io"),
            ("/socket.io//", true, "/socket.io//"),
            ("/a/b", false, "/a/b"),
            ("/", true, "/"),
            ("/", false, "/"),
        ] {
            let json = format!(r#"{{"url":"http://h","path":"{path}","add_trailing_slash":{slash}}}"#);
            assert_eq!(settings(&json).manager.transport.path, expected, "{path} {slash}");
        }
    }

    #[test]
    fn defaults_lie_below() {
        let defaults = r#"{"timeout":"3s","query":{"a":1,"b":"below"},"extra_headers":{"X-A":"1","x-b":"below"},
            "history":{"events":7},"tls":{"ca_file":"/ca"},"auth":{"below":true},"transports":["polling"]}"#;
        let own = r#"{"url":"https://h/?b=url&c=3","query":{"b":"own","c":"own","d":true},
            "extra_headers":{"X-B":"own"},"history":{"bytes":9},"tls":{"insecure":true},"auth_file":"/own"}"#;
        let settings = over(own, defaults);
        let transport = &settings.manager.transport;
        let query: Vec<_> =
            transport.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(query, [("a", "1"), ("b", "url"), ("c", "3"), ("d", "true")]);
        assert_eq!(
            (&transport.headers["x-a"], &transport.headers["x-b"]),
            (&"1".parse().unwrap(), &"own".parse().unwrap())
        );
        assert_eq!(transport.headers.len(), 2);
        assert_eq!(settings.history, log::Settings { events: 7, bytes: 9 });
        assert_eq!(
            (transport.tls.ca_file.clone(), transport.tls.insecure),
            (Some(PathBuf::from("/ca")), true)
        );
        assert_eq!(settings.socket.auth, Auth::File("/own".into()));
        assert_eq!(settings.manager.timeout, 3 * SECOND);
        assert_eq!(settings.manager.transports, [TransportKind::Polling]);
        assert_eq!(
            over(r#"{"url":"http://h"}"#, defaults).socket.auth,
            Auth::Fixed(r#"{"below":true}"#.into())
        );
    }

    #[test]
    fn the_way_to_the_server() {
        let proxy = |text| Via::Proxy(Proxy::parse(text).unwrap());
        for (own, defaults, expected) in [
            ("", "{}", Via::Environment),
            (r#","proxy":"none""#, "{}", Via::Direct),
            (r#","proxy":"socks5://u:p@h""#, "{}", proxy("socks5://u:p@h")),
            (r#","unix_socket":"/s""#, "{}", Via::Unix("/s".into())),
            (r#","unix_socket":"/s","proxy":"none""#, "{}", Via::Unix("/s".into())),
            ("", r#"{"proxy":"http://h"}"#, proxy("http://h")),
            (r#","proxy":"none""#, r#"{"proxy":"http://h"}"#, Via::Direct),
            (r#","unix_socket":"/s""#, r#"{"proxy":"http://h"}"#, Via::Unix("/s".into())),
            (r#","proxy":"http://h""#, r#"{"unix_socket":"/s"}"#, proxy("http://h")),
        ] {
            let settings = over(&format!(r#"{{"url":"http://h"{own}}}"#), defaults);
            assert_eq!(settings.manager.transport.via, expected, "{own} over {defaults}");
            assert!(!format!("{settings:?}").contains("u:p"));
        }
    }

    #[test]
    fn user_info_wins_over_a_header() {
        let settings = settings(r#"{"url":"http://a:b@h","extra_headers":{"authorization":"Bearer x"}}"#);
        let headers = &settings.manager.transport.headers;
        assert_eq!(headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Basic YTpi"]);
        assert_eq!(settings.url, "http://h");
        let debug = format!("{settings:?}");
        assert!(!debug.contains("YTpi") && !debug.contains("Bearer"), "{debug}");
    }

    #[test]
    fn unshared() {
        for (json, expected) in [
            (r#"{"url":"http://h"}"#, false),
            (r#"{"url":"http://h","force_new":true}"#, true),
            (r#"{"url":"http://h","multiplex":false}"#, true),
            (r#"{"url":"http://h","force_new":false,"multiplex":true}"#, false),
        ] {
            assert_eq!(settings(json).force_new, expected, "{json}");
        }
    }

    #[test]
    fn attachments_are_counted_where_the_parser_has_them() {
        for (options, most) in [
            ("", Some(10)),
            (r#","max_attachments":3"#, Some(3)),
            (r#","parser":"msgpack""#, None),
            (r#","parser":"msgpack","max_attachments":3"#, Some(3)),
        ] {
            let settings = settings(&format!(r#"{{"url":"http://h"{options}}}"#));
            assert_eq!(settings.socket.max_attachments, most, "{options}");
        }
    }

    #[test]
    fn refusals() {
        for (member, message) in [
            (r#""timeout":0"#, "timeout: 0 leaves an attempt no time; expected more, like \"20s\""),
            (
                r#""max_payload":0"#,
                "max_payload: 0 would refuse every message; expected a size like \"16MiB\"",
            ),
            (r#""randomization_factor":1.5"#, "randomization_factor: found 1.5, expected 0 to 1"),
            (r#""randomization_factor":-0.1"#, "randomization_factor: found -0.1, expected 0 to 1"),
            (r#""history":{"events":0}"#, "history.events: found 0, expected 1 to 16777216"),
            (
                r#""history":{"bytes":0}"#,
                "history.bytes: 0 would keep nothing to hand on; expected a size like \"8MiB\"",
            ),
            (r#""transports":[]"#, "transports: is empty; expected \"websocket\", \"polling\" or both"),
            (r#""transports":["polling","polling"]"#, "transports: names a transport twice; keep one"),
            (r#""protocols":["a","a"]"#, "protocols: names a sub-protocol twice; keep one"),
            (
                r#""protocols":["a b"]"#,
                "protocols: has a name that is no HTTP token; expected letters, digits, dashes and dots",
            ),
            (
                r#""path":"socket.io""#,
                "path: expected a path that begins with / and is percent-encoded, like \"/socket.io/\"",
            ),
            (
                r#""path":"/a?b""#,
                "path: expected a path that begins with / and is percent-encoded, like \"/socket.io/\"",
            ),
            (
                r#""path":"/a\r\nX: y""#,
                "path: expected a path that begins with / and is percent-encoded, like \"/socket.io/\"",
            ),
            (
                r#""extra_headers":{"X-A":"a\r\nX-B: b"}"#,
                "extra_headers.X-A: has a character that no header may have, like a line break",
            ),
            (
                r#""extra_headers":{"X A":"a"}"#,
                "extra_headers.X A: is no header name; expected letters, digits and dashes",
            ),
            (
                r#""extra_headers":{"Upgrade":"a"}"#,
                "extra_headers.Upgrade: is set by siod itself; leave it out",
            ),
            (
                r#""extra_headers":{"X-A":"a","x-a":"b"}"#,
                "extra_headers.x-a: is given twice, in other letter case; keep one",
            ),
            (r#""tls":{"cert_file":"/c"}"#, "tls.cert_file: needs tls.key_file beside it"),
            (r#""tls":{"key_file":"/k"}"#, "tls.key_file: needs tls.cert_file beside it"),
            (r#""tls":{"server_name":"a b"}"#, "tls.server_name: is no host name or address"),
            (
                r#""proxy":"proxy.example.com:3128""#,
                "proxy: has no scheme; expected http://, https://, socks5:// or socks5h:// and a host",
            ),
            (
                r#""proxy":"http://h","unix_socket":"/s""#,
                "unix_socket: unix_socket and proxy both say the way; keep one",
            ),
            (r#""unix_socket":"""#, "unix_socket: is empty; expected the path of the server's socket"),
            (r#""auth":{},"auth_file":"/a""#, "auth_file: auth and auth_file both say who we are; keep one"),
            (r#""auth_file":"""#, "auth_file: is empty; expected the path of a JSON file"),
            (
                r#""auth_command":[]"#,
                "auth_command: expected a program and its arguments, like [\"/usr/local/bin/token\", \"chat\"]",
            ),
            (
                r#""auth_command":["/a"],"auth":{}"#,
                "auth_command: auth and auth_command both say who we are; keep one",
            ),
            (
                r#""auth_command":["/a"],"auth_file":"/b""#,
                "auth_command: auth_file and auth_command both say who we are; keep one",
            ),
            (
                r#""engine":3,"parser":"msgpack""#,
                "parser: msgpack goes with engine = 4; servers of revision 3 are spoken to in JSON",
            ),
            (r#""engine":5"#, "engine: found 5, expected 3 or 4, the revision of Engine.IO"),
            (
                r#""engine":3,"auth":{}"#,
                "auth: there is no auth object with engine = 3; put what the server asks for into query",
            ),
            (
                r#""engine":3,"auth_file":"/a""#,
                "auth_file: there is no auth object with engine = 3; put what the server asks for into query",
            ),
        ] {
            let json = format!(r#"{{"url":"http://h",{member}}}"#);
            let error = options(&json).resolve(&ConnectionOptions::default()).unwrap_err();
            assert_eq!(error.to_string(), message, "{json}");
        }
    }

    #[test]
    fn scripts() {
        let json = r#"{"url":"http://h","on_connect":[
            {"event":"login","args":[1.50,{"a" : 12345678901234567890123}],"expect":{ "ok": true },"timeout":"2s"},
            {"event":"list"},{"event":"more","args_file":"/run/more"}]}"#;
        let args = |array: &str| StepArgs::Fixed(Args::from_array(array.into()).unwrap());
        let step = |event, args, expect: Option<&str>, seconds| Step {
            event: Name::new(event),
            args,
            expect: expect.map(Into::into),
            timeout: seconds * SECOND,
        };
        assert_eq!(
            settings(json).socket.script[..],
            [
                step("login", args(r#"[1.50,{"a":12345678901234567890123}]"#), Some(r#"{"ok":true}"#), 2),
                step("list", args("[]"), None, 10),
                step("more", StepArgs::File("/run/more".into()), None, 10),
            ]
        );
        for (script, message) in [
            (
                r#"[{"event":"a"},{"event":"connect"}]"#,
                "on_connect[1].event: is a reserved event name, which cannot be emitted",
            ),
            (
                r#"[{"event":"a","args":[],"args_file":"/a"}]"#,
                "on_connect[0].args_file: args and args_file both say what to send; keep one",
            ),
            (
                r#"[{"event":"a","args_file":""}]"#,
                "on_connect[0].args_file: is empty; expected the path of a JSON file",
            ),
            (
                r#"[{"event":"a","timeout":0}]"#,
                "on_connect[0].timeout: 0 leaves the answer no time; expected more, like \"10s\"",
            ),
        ] {
            let json = format!(r#"{{"url":"http://h","on_connect":{script}}}"#);
            let error = options(&json).resolve(&ConnectionOptions::default()).unwrap_err();
            assert_eq!(error.to_string(), message, "{json}");
        }
    }

    #[test]
    fn defaults_may_be_written_out() {
        let defaults = r#"{"url":"http://h","engine":4,"on_connect":[],"on_connect_error":"manual",
            "on_server_disconnect":"manual","parser":"json","retries":0,"sticky":[]}"#;
        assert_eq!(settings(defaults), settings(r#"{"url":"http://h"}"#));
    }

    #[test]
    fn every_error_at_once() {
        let errors = options(r#"{"timeout":0,"transports":[]}"#).resolve_all(&ConnectionOptions::default());
        let keys: Vec<_> = errors.unwrap_err().into_iter().map(|error| error.key).collect();
        assert_eq!(keys, ["url", "transports", "timeout"]);
    }
}
