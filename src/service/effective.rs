//! What `siod check` prints: the configuration that the daemon would run with, as TOML.
//!
//! Every option of every connection is there, defaults included; without `proxy` and `unix_socket` the environment of the
//! daemon says whether there is a proxy. Secrets print as `***`: auth objects, the values of headers, values of the query
//! whose names sound secret, and the user and password of a proxy. Without secrets the text loads as the same
//! configuration.

use std::fmt::{Display, Write as _};
use std::path::Path;

use crate::engineio::TransportKind;
use crate::hub::options::ConnectionSettings;
use crate::hub::quantity::{Duration, Size};
use crate::hub::subscription::Pattern;
use crate::manager::Auth;
use crate::secret::{MASK, is_secret_name};
use crate::service::config::{AccessRule, Config};
use crate::service::layers::{quoted, quoted_key};
use crate::socketio::{Step, StepArgs};
use crate::transport::Via;

impl Config {
    /// The configuration as TOML, secrets masked.
    pub fn effective(&self) -> String {
        let mut text = Toml::default();
        text.table("log");
        text.string("level", &self.log.level);
        text.string("format", self.log.format.name());
        text.table("api");
        text.path("socket", &self.api.socket);
        text.string("mode", &format!("{:04o}", self.api.mode));
        if let Some(group) = &self.api.group {
            text.string("group", group);
        }
        text.plain("max_consumers", self.api.max_consumers);
        text.size("max_line", self.api.max_line);
        text.string("lag", self.api.lag.name());
        text.duration("stall", self.api.stall);
        for rule in &self.access {
            text.access(rule);
        }
        if let Some(dir) = &self.state_dir {
            text.table("state");
            text.path("dir", dir);
        }
        for (name, settings) in &self.connections {
            text.table(&format!("connections.{}", quoted_key(name)));
            text.connection(settings);
        }
        text.0
    }
}

#[derive(Default)]
struct Toml(String);

impl Toml {
    fn table(&mut self, name: &str) {
        let space = if self.0.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.0, "{space}[{name}]");
    }

    fn plain(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn string(&mut self, key: &str, value: &str) {
        self.plain(key, quoted(value));
    }

    fn path(&mut self, key: &str, value: &Path) {
        self.string(key, &value.to_string_lossy());
    }

    fn duration(&mut self, key: &str, value: std::time::Duration) {
        self.string(key, &Duration(value).to_string());
    }

    fn size(&mut self, key: &str, value: usize) {
        self.string(key, &Size(value).to_string());
    }

    fn strings<'a>(&mut self, key: &str, values: impl Iterator<Item = &'a str>) {
        self.plain(key, format_args!("[{}]", values.map(quoted).collect::<Vec<_>>().join(", ")));
    }

    fn pairs<'a>(&mut self, key: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
        let pairs = pairs.map(|(name, value)| format!("{} = {}", quoted_key(name), quoted(value)));
        match pairs.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => self.plain(key, "{}"),
            pairs => self.plain(key, format_args!("{{ {pairs} }}")),
        }
    }

    /// What is sent and expected can be secret.
    fn script(&mut self, script: &[Step]) {
        let step = |step: &Step| {
            let args = match &step.args {
                StepArgs::Fixed(args) if args.is_empty() => "args = []".to_owned(),
                StepArgs::Fixed(_) => "args = [\"***\"]".to_owned(),
                StepArgs::File(path) => format!("args_file = {}", quoted(&path.to_string_lossy())),
            };
            let expect = step.expect.as_ref().map(|_| ", expect = \"***\"").unwrap_or_default();
            let (event, timeout) = (quoted(&step.event.decoded()), Duration(step.timeout));
            format!("{{ event = {event}, {args}{expect}, timeout = \"{timeout}\" }}")
        };
        if !script.is_empty() {
            let steps: Vec<_> = script.iter().map(step).collect();
            self.plain("on_connect", format_args!("[{}]", steps.join(", ")));
        }
    }

    /// The number of a name stands beside it, for whoever doubts it.
    fn access(&mut self, AccessRule { user, group, rule }: &AccessRule) {
        let _ = writeln!(self.0, "\n[[access]]");
        match (user, rule.uid) {
            (Some(user), Some(uid)) => self.plain("user", format_args!("{} # uid {uid}", quoted(user))),
            (None, Some(uid)) => self.plain("uid", uid),
            (_, None) => {}
        }
        let mut gids = rule.gids.iter();
        if let Some(group) = group
            && let Some(gid) = gids.next()
        {
            self.plain("group", format_args!("{} # gid {gid}", quoted(group)));
        }
        for gid in gids {
            self.plain("gid", gid);
        }
        self.string("role", rule.rights.as_ref().map_or("none", |rights| rights.role.name()));
        if let Some(rights) = &rule.rights {
            self.strings("connections", rights.connections.iter().map(Pattern::as_str));
        }
    }

    fn connection(&mut self, settings: &ConnectionSettings) {
        let (manager, socket) = (&settings.manager, &settings.socket);
        let (transport, tls) = (&manager.transport, &manager.transport.tls);
        self.string("url", &settings.url);
        self.string("path", &transport.path);
        self.plain("add_trailing_slash", transport.path.ends_with('/'));
        let masked = |name: &str| is_secret_name(name);
        let query = transport.query.iter();
        self.pairs(
            "query",
            query.map(|(name, value)| (name.as_str(), if masked(name) { MASK } else { value })),
        );
        self.pairs("extra_headers", transport.headers.keys().map(|name| (name.as_str(), MASK)));
        self.plain("with_credentials", transport.with_credentials);
        self.strings("transports", manager.transports.iter().copied().map(TransportKind::name));
        self.plain("try_all_transports", manager.try_all_transports);
        self.plain("upgrade", manager.upgrade);
        self.plain("remember_upgrade", manager.remember_upgrade);
        self.strings("protocols", transport.protocols.iter().map(String::as_str));
        self.plain("engine", transport.revision.number());
        self.string("parser", manager.parser.name());
        self.plain("reconnection", manager.reconnection);
        if let Some(attempts) = manager.reconnection_attempts {
            self.plain("reconnection_attempts", attempts);
        }
        self.duration("reconnection_delay", manager.backoff.min);
        self.duration("reconnection_delay_max", manager.backoff.max);
        self.plain("randomization_factor", format_args!("{:?}", manager.backoff.jitter));
        self.duration("timeout", manager.timeout);
        self.duration("stable_after", manager.stable_after);
        self.plain("auto_connect", settings.auto_connect);
        self.plain("force_new", settings.force_new);
        if let Some(timeout) = socket.ack_timeout {
            self.duration("ack_timeout", timeout);
        }
        self.plain("retries", socket.retries);
        let returns = socket.returns;
        self.string("on_connect_error", if returns.refused { "retry" } else { "manual" });
        self.string("on_server_disconnect", if returns.kicked { "reconnect" } else { "manual" });
        self.size("send_buffer", socket.send_buffer);
        self.plain("history.events", settings.history.events);
        self.size("history.bytes", settings.history.bytes);
        self.strings("sticky", settings.sticky.iter().map(String::as_str));
        self.script(&socket.script);
        self.size("max_payload", transport.max_payload);
        if let Some(most) = socket.max_attachments {
            self.plain("max_attachments", most);
        }
        for (key, path) in [
            ("tls.ca_file", &tls.ca_file),
            ("tls.cert_file", &tls.cert_file),
            ("tls.key_file", &tls.key_file),
        ] {
            if let Some(path) = path {
                self.path(key, path);
            }
        }
        if let Some(name) = &tls.server_name {
            self.string("tls.server_name", name);
        }
        self.plain("tls.insecure", tls.insecure);
        match &transport.via {
            Via::Environment => {}
            Via::Direct => self.string("proxy", "none"),
            Via::Proxy(proxy) => self.string("proxy", &proxy.to_string()),
            Via::Unix(path) => self.path("unix_socket", path),
        }
        match &socket.auth {
            Auth::None => {}
            Auth::Fixed(_) => self.string("auth", MASK),
            Auth::File(path) => self.path("auth_file", path),
            Auth::Command(argv) => {
                // Arguments can be secrets.
                let hidden = argv.iter().skip(1).map(|_| MASK);
                self.strings("auth_command", argv.iter().take(1).map(String::as_str).chain(hidden));
            }
        }
    }
}
