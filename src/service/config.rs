//! The configuration: all its sources, checked, as what each layer needs.
//!
//! Everything that is wrong is found in one go, and nothing is started with a configuration that has an error.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration as StdDuration;

use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::hub::options::{self, ConnectionOptions, ConnectionSettings};
use crate::hub::quantity::{Duration, Size};
use crate::hub::subscription::Pattern;
use crate::hub::{self, Lag, Rights, Rule, accounts};
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

/// Who may do what: a rule as it was written, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// The name of the user, whose number is in the rule.
    pub user: Option<String>,
    /// The name of the group, whose number is the first in the rule.
    pub group: Option<String>,
    /// With the numbers that the names had when the configuration was loaded.
    pub rule: Rule,
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
struct Access {
    user: Option<String>,
    uid: Option<u32>,
    group: Option<String>,
    gid: Option<u32>,
    role: Option<Role>,
    connections: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    None,
    Read,
    Write,
    Control,
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

    fn access(&mut self, rules: Vec<Access>) -> Vec<AccessRule> {
        let rules = rules.into_iter().enumerate();
        // A rule that is left out here is a problem, with which nothing is started.
        rules.filter_map(|(index, access)| self.access_rule(&format!("[{index}]"), access)).collect()
    }

    fn access_rule(&mut self, index: &str, access: Access) -> Option<AccessRule> {
        let at = |option| key(["access", index, option]);
        let Access { user, uid, group, gid, role, connections } = access;
        if user.is_none() && uid.is_none() && group.is_none() && gid.is_none() {
            self.problem(
                &key(["access", index]),
                "says nobody whom it is for; add user, uid, group or gid (several: all must fit)",
            );
        }
        let user_id =
            user.as_ref().and_then(|name| self.account(&at("user"), name, accounts::user, ("user", "uid")));
        let group_id = group
            .as_ref()
            .and_then(|name| self.account(&at("group"), name, accounts::group, ("group", "gid")));
        if let (Some(named), Some(uid)) = (user_id, uid)
            && named != uid
        {
            self.problem(&at("uid"), &format!("found {uid}, but user is {named}; keep one of uid and user"));
        }
        let Some(role) = role else {
            self.problem(&at("role"), "missing; expected \"none\", \"read\", \"write\" or \"control\"");
            return None;
        };
        if matches!(role, Role::None) && connections.is_some() {
            self.problem(
                &at("connections"),
                "says nothing where the role is none, which lets nobody attach at all; leave it out",
            );
        }
        let connections = connections.unwrap_or_else(|| vec!["*".to_owned()]);
        if connections.is_empty() {
            let message = "is empty; leave it out for every connection, or let the role be none";
            self.problem(&at("connections"), message);
        }
        for pattern in &connections {
            if let Err(message) = options::check_pattern(pattern) {
                self.problem(&at("connections"), &message);
            }
        }
        let rights = |role| Rights { role, connections: connections.into_iter().map(Pattern::new).collect() };
        let role = match role {
            Role::None => None,
            Role::Read => Some(hub::Role::Read),
            Role::Write => Some(hub::Role::Write),
            Role::Control => Some(hub::Role::Control),
        };
        let gids = group_id.into_iter().chain(gid).collect();
        Some(AccessRule { user, group, rule: Rule { uid: user_id.or(uid), gids, rights: role.map(rights) } })
    }

    /// The number of a user or a group by its name.
    fn account(
        &mut self,
        key: &[String],
        name: &str,
        look_up: fn(&str) -> io::Result<Option<u32>>,
        (kind, number): (&str, &str),
    ) -> Option<u32> {
        match look_up(name) {
            Ok(Some(found)) => return Some(found),
            Ok(None) => {
                let message =
                    format!("there is no {kind} {name:?} on this system; a number goes into {number}");
                self.problem(key, &message);
            }
            Err(error) => self.problem(key, &format!("the {kind} {name:?} cannot be looked up: {error}")),
        }
        None
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

    /// Replaces variables in a path; false if that cannot be done.
    fn expand(&mut self, key: &[String], path: &mut PathBuf) -> bool {
        match self.environment.expand(&path.to_string_lossy()) {
            Ok(expanded) => *path = PathBuf::from(expanded),
            Err(message) => {
                self.problem(key, &message);
                return false;
            }
        }
        true
    }

    /// Sees that a file is there, and that one which is secret does not let everybody read it.
    fn named_file(&mut self, key: &[String], path: &Path, secret: bool) {
        if let Err(message) = readable(path) {
            self.problem(key, &format!("{}: {message}", path.display()));
        } else if secret {
            let exposed = Exposed::whole(path).filter(|exposed| !self.exposed.contains(exposed));
            self.exposed.extend(exposed);
        }
    }

    /// A folder that need not be there yet.
    fn folder(&mut self, key: &[String], mut path: PathBuf) -> Option<PathBuf> {
        if !self.expand(key, &mut path) {
            return None;
        }
        if !path.is_absolute() {
            self.problem(key, &format!("found {:?}, expected a path that begins with /", path.display()));
            return None;
        }
        Some(path)
    }

    /// Replaces variables in the paths that options name and sees that the files are there.
    fn named_files(&mut self, table: &[String], options: &mut ConnectionOptions) {
        for (option, path) in options.paths_mut() {
            let key = below(table, option);
            // An empty path is refused with the other options, with a better word.
            if path.as_os_str().is_empty() {
                continue;
            }
            // A server may bind its socket later.
            if self.expand(&key, path) && option != "unix_socket" {
                self.named_file(&key, path, matches!(option, "auth_file" | "tls.key_file"));
            }
        }
        for (number, step) in options.on_connect.iter_mut().flatten().enumerate() {
            let Some(path) = step.args_file.as_mut().filter(|path| !path.as_os_str().is_empty()) else {
                continue;
            };
            let key = below(table, &format!("on_connect[{number}].args_file"));
            if self.expand(&key, path) {
                self.named_file(&key, path, true);
            }
        }
        if let Some(program) = options.auth_command.as_mut().and_then(|argv| argv.first_mut()) {
            let key = below(table, "auth_command");
            match self.environment.expand(program) {
                Ok(expanded) => *program = expanded,
                Err(message) => return self.problem(&key, &message),
            }
            // A bare name is looked for when it is run, in the PATH of that time.
            if program.contains('/')
                && let Err(message) = executable(Path::new(program))
            {
                self.problem(&key, &format!("{program}: {message}"));
            }
        }
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

fn readable(path: &Path) -> Result<(), String> {
    let cannot = |error| format!("cannot be read: {error}");
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is no regular file".to_owned());
    }
    std::fs::File::open(path).map(drop).map_err(cannot)
}

fn executable(path: &Path) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot be run: {error}");
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is no regular file".to_owned());
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(|error| cannot(error.into()))
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
