//! The configuration: all its sources, checked, as what each layer needs.
//!
//! Everything that is wrong is found in one go, and nothing is started with a configuration that has an error.

mod access;
mod files;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration as StdDuration;

use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::Segment;

use self::access::Access;
pub use self::access::AccessRule;
use crate::hub::Lag;
use crate::hub::options::{self, ConnectionOptions, ConnectionSettings};
use crate::hub::quantity::{Duration, Size};
use crate::service::environment::Environment;
use crate::service::exposure::Exposed;
use crate::service::layers::{self, Key, Layers, Place, Places, shown};
use crate::service::listener;
use crate::service::telemetry;

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`, in order; all must exist. Empty: the default file, which may be absent.
    pub files: Vec<PathBuf>,
    /// `--socket`.
    pub socket: Option<PathBuf>,
}

/// What the daemon runs with. Nothing in it is left to check, save whether files keep what they hold.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
    /// `[log]`.
    pub log: telemetry::Settings,
    /// `[api]`.
    pub api: ApiSettings,
    /// `[[access]]`, in order.
    pub access: Vec<AccessRule>,
    /// `state.dir`: where what outlives the process is kept; absent: nowhere.
    pub state_dir: Option<PathBuf>,
    /// `[defaults]`, for connections that `open` adds.
    pub defaults: ConnectionOptions,
    /// `[connections]` by name.
    pub connections: BTreeMap<String, ConnectionSettings>,
    /// Files whose secrets everybody can read.
    exposed: Vec<Exposed>,
}

/// The local socket and what its consumers may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// Where it is, after flags and environment.
    pub socket: PathBuf,
    /// Its file mode; default 0600, or 0660 for the system's service.
    pub mode: u32,
    /// Its group; default the daemon's own.
    pub group: Option<String>,
    /// Consumers attached at once; default 1024.
    pub max_consumers: usize,
    /// Bytes of one line of a consumer; default 4 MiB.
    pub max_line: usize,
    /// For consumers that do not choose.
    pub lag: Lag,
    /// How long a consumer may hold the ring's tail; default 1 s.
    pub stall: StdDuration,
}

impl Config {
    /// What is allowed and should be said at every start, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let insecure =
            self.connections.iter().filter(|(_, settings)| settings.manager.transport.tls.insecure);
        let warning = |name: &str| {
            let key = shown(&key(["connections", name, "tls", "insecure"]));
            format!("{key}: any certificate is taken, so anyone on the way can read and change what is sent")
        };
        let insecure = insecure.map(|(name, _)| warning(name));
        insecure.chain(self.exposed.iter().map(Exposed::warning)).collect()
    }
}

/// Everything that is wrong, one line each: `file:line:column: key: what is wrong`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The lines; at least one.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// The file as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    log: Log,
    api: Api,
    access: Vec<Access>,
    state: State,
    defaults: ConnectionOptions,
    connections: BTreeMap<String, ConnectionOptions>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Log {
    level: Option<String>,
    format: Option<telemetry::Format>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Api {
    socket: Option<String>,
    mode: Option<String>,
    group: Option<String>,
    max_consumers: Option<usize>,
    max_line: Option<Size>,
    lag: Option<Lag>,
    stall: Option<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct State {
    dir: Option<PathBuf>,
}

/// Reads, merges and checks everything the configuration comes from.
///
/// Later wins: the built-in defaults, the files in order, `conf.d/*.toml` beside the first in order of their names,
/// variables like `SIOD__API__SOCKET`, `SIOD_SOCKET`, and `--socket`.
///
/// In a variable `__` stands between levels. The text takes the first form that its key accepts: a string, a TOML
/// value, a JSON value; arrays are given whole. Variables cannot reach names that contain `__`, and few shells can
/// set one with a dot or a dash.
pub fn load(sources: &Sources, environment: &Environment) -> Result<Config, ConfigError> {
    let layers = read(sources, environment)?;
    let Layers { tree, places, files, exposed } = layers;
    Loader { environment, places, exposed, problems: Vec::new() }.load(sources, tree, files)
}

/// The path of the local socket, for the daemon and for whoever wants to reach it.
///
/// `--socket`, else `SIOD_SOCKET`, else `api.socket`, else `$XDG_RUNTIME_DIR/siod.sock`, else `/run/siod/siod.sock`
/// (always for root). Of the configuration only `api.socket` must be right, and nothing is read where the first two
/// answer.
pub fn socket_path(sources: &Sources, environment: &Environment) -> Result<PathBuf, ConfigError> {
    if let Some(socket) = outright(sources, environment) {
        return Ok(socket);
    }
    let layers = read(sources, environment)?;
    let (places, exposed) = (layers.places, Vec::new());
    let mut loader = Loader { environment, places, exposed, problems: Vec::new() };
    let written = match layers.tree.pointer("/api/socket") {
        Some(Value::String(text)) => Some(text.clone()),
        None | Some(Value::Null) => None,
        Some(_) => {
            loader.problem(&key(["api", "socket"]), "expected a string, the path of the socket");
            None
        }
    };
    let socket = loader.socket(sources, written);
    loader.finish(socket)
}

/// The socket where neither the configuration nor the defaults are asked.
fn outright(sources: &Sources, environment: &Environment) -> Option<PathBuf> {
    sources.socket.clone().or_else(|| environment.variable("SIOD_SOCKET").map(PathBuf::from))
}

fn read(sources: &Sources, environment: &Environment) -> Result<Layers, ConfigError> {
    let fits = |tree: &Value| File::deserialize(tree).is_ok();
    layers::read(&sources.files, environment, fits).map_err(|problems| ConfigError { problems })
}

fn key<const N: usize>(parts: [&str; N]) -> Key {
    parts.map(str::to_owned).to_vec()
}

struct Loader<'a> {
    environment: &'a Environment,
    places: Places,
    exposed: Vec<Exposed>,
    problems: Vec<(Option<Place>, String)>,
}

impl Loader<'_> {
    fn load(mut self, sources: &Sources, tree: Value, files: Vec<PathBuf>) -> Result<Config, ConfigError> {
        let (file, mistyped) = self.typed(tree);
        let log = self.log(file.log);
        let api = self.api(sources, file.api);
        let access = self.access(file.access);
        let state_dir = file.state.dir.and_then(|dir| self.folder(&key(["state", "dir"]), dir));
        let mut defaults = file.defaults;
        self.named_files(&key(["defaults"]), &mut defaults);
        self.check_defaults(&defaults);
        let mut connections = BTreeMap::new();
        for (name, options) in file.connections {
            let key = key(["connections", &name]);
            if let Err(message) = options::check_name(&name) {
                self.problem(&key, &message);
            }
            if let Some(settings) = self.connection(&key, options, &defaults, &mistyped) {
                connections.insert(name, settings);
            }
        }
        let exposed = std::mem::take(&mut self.exposed);
        self.finish(Config { files, log, api, access, state_dir, defaults, connections, exposed })
    }

    fn finish<T>(self, value: T) -> Result<T, ConfigError> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        let mut problems = self.problems;
        problems.sort_by(|(one, _), (other, _)| one.cmp(other));
        let line = |(place, problem): (Option<Place>, String)| match place {
            Some(place) => format!("{place}: {problem}"),
            None => problem,
        };
        Err(ConfigError { problems: problems.into_iter().map(line).collect() })
    }

    fn problem(&mut self, key: &[String], message: &str) {
        let problem = (self.places.nearest(key).cloned(), format!("{}: {message}", shown(key)));
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The tree as types say it, and the keys that had to be left out for that.
    fn typed(&mut self, mut tree: Value) -> (File, Vec<Key>) {
        let mut mistyped = Vec::new();
        loop {
            match serde_path_to_error::deserialize::<_, File>(&tree) {
                Ok(file) => return (file, mistyped),
                Err(error) => {
                    let key: Key = error.path().iter().filter_map(part).collect();
                    let message = options::explain(&error.path().to_string(), &error.inner().to_string());
                    self.problem(&key, &message);
                    if !remove(&mut tree, &key) {
                        return (File::default(), mistyped);
                    }
                    mistyped.push(key);
                }
            }
        }
    }

    fn log(&mut self, log: Log) -> telemetry::Settings {
        let mut settings = telemetry::Settings::default();
        if let Some(level) = log.level {
            if let Err(message) = telemetry::check_level(&level) {
                self.problem(&key(["log", "level"]), &message);
            }
            settings.level = level;
        }
        settings.format = log.format.unwrap_or(settings.format);
        settings
    }

    fn api(&mut self, sources: &Sources, api: Api) -> ApiSettings {
        let mode = api.mode.as_deref().map(|text| {
            let octal = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let mode = octal.and_then(|text| u32::from_str_radix(text, 8).ok()).filter(|mode| *mode <= 0o777);
            mode.unwrap_or_else(|| {
                self.problem(
                    &key(["api", "mode"]),
                    &format!("found {text:?}, expected an octal mode like \"0660\""),
                );
                0
            })
        });
        let settings = ApiSettings {
            socket: self.socket(sources, api.socket),
            mode: mode.unwrap_or(if self.environment.is_system_service() { 0o660 } else { 0o600 }),
            group: api.group,
            max_consumers: api.max_consumers.unwrap_or(1024),
            max_line: api.max_line.map_or(4 << 20, |size| size.0),
            lag: api.lag.unwrap_or_default(),
            stall: api.stall.map_or(StdDuration::from_secs(1), |stall| stall.0),
        };
        for (option, wrong, message) in [
            ("group", settings.group.as_deref() == Some(""), "is empty; expected the name of a group"),
            ("max_consumers", settings.max_consumers == 0, "0 would let nobody in; expected 1 or more"),
            (
                "max_line",
                settings.max_line < 64,
                "expected at least 64 bytes, which the shortest requests need",
            ),
            ("max_line", settings.max_line > 1 << 30, "expected at most 1GiB"),
            ("stall", settings.stall.is_zero(), "0 leaves a consumer no time; expected more, like \"1s\""),
        ] {
            if wrong {
                self.problem(&key(["api", option]), message);
            }
        }
        settings
    }

    fn socket(&mut self, sources: &Sources, written: Option<String>) -> PathBuf {
        let key = key(["api", "socket"]);
        let written = written.and_then(|text| match self.environment.expand(&text) {
            Ok(path) if !path.starts_with('/') => {
                self.problem(&key, &format!("found {path:?}, expected a path that begins with /"));
                None
            }
            Ok(path) if path.len() > listener::LONGEST_PATH => {
                self.problem(&key, &format!("a socket's path has at most {} bytes", listener::LONGEST_PATH));
                None
            }
            Ok(path) => Some(PathBuf::from(path)),
            Err(message) => {
                self.problem(&key, &message);
                None
            }
        });
        outright(sources, self.environment).or(written).unwrap_or_else(|| self.environment.default_socket())
    }

    fn connection(
        &mut self,
        at: &[String],
        mut options: ConnectionOptions,
        defaults: &ConnectionOptions,
        mistyped: &[Key],
    ) -> Option<ConnectionSettings> {
        self.named_files(at, &mut options);
        // What a mistyped option leaves open would be reported a second time, as missing.
        if mistyped.iter().any(|key| key.starts_with(at)) {
            return None;
        }
        match options.resolve_all(defaults) {
            Ok(settings) => Some(settings),
            Err(errors) => {
                for error in errors {
                    let key = self.written_at(at, &error.key);
                    self.problem(&key, &error.message);
                }
                None
            }
        }
    }

    /// `[defaults]` alone, so that a mistake shows even where no connection has it.
    fn check_defaults(&mut self, defaults: &ConnectionOptions) {
        let url = defaults.url.clone().or_else(|| Some("http://localhost".to_owned()));
        let probe = ConnectionOptions { url, ..ConnectionOptions::default() };
        for error in probe.resolve_all(defaults).err().into_iter().flatten() {
            let key = below(&key(["defaults"]), &error.key);
            self.problem(&key, &error.message);
        }
    }

    /// The key of an option where it was written: in its connection or in `[defaults]`.
    fn written_at(&self, connection: &[String], option: &str) -> Key {
        let own = below(connection, option);
        let default = below(&key(["defaults"]), option);
        let is_default = self.places.exactly(&own).is_none() && self.places.exactly(&default).is_some();
        if is_default { default } else { own }
    }
}

/// The key of an option in its table.
fn below(table: &[String], option: &str) -> Key {
    // A header's name may contain dots; everything else that has them is a path.
    let parts: Vec<&str> = match option.split_once('.') {
        Some((first @ "extra_headers", name)) => vec![first, name],
        _ => option.split('.').collect(),
    };
    // `on_connect[1]` is an element of a list.
    let levels = parts.into_iter().flat_map(|part| {
        let (name, element) = part.split_at(part.find('[').unwrap_or(part.len()));
        [name, element].into_iter().filter(|level| !level.is_empty()).map(str::to_owned)
    });
    table.iter().cloned().chain(levels).collect()
}

fn part(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Seq { index } => Some(format!("[{index}]")),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    }
}

/// Takes a key out of the tree; the whole array, where it is in one.
fn remove(tree: &mut Value, key: &[String]) -> bool {
    let end = key.iter().position(|part| part.starts_with('[')).unwrap_or(key.len());
    let Some((last, path)) = key[..end].split_last() else {
        return false;
    };
    let table = path.iter().try_fold(tree, |table, part| table.get_mut(part));
    table.and_then(Value::as_object_mut).is_some_and(|table| table.remove(last).is_some())
}
