//! The configuration from files to what the daemon runs with: `tests/config/valid/NAME.toml` beside the text that
//! `siod check` prints for it, `tests/config/invalid/NAME.toml` beside all that is wrong with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use siod::hub::options::ConnectionOptions;
use siod::service::config::{Config, ConfigError, Sources, load, socket_path};
use siod::service::environment::Environment;
use tempfile::TempDir;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config");

/// What the files of the tables may rely on.
fn environment() -> Environment {
    Environment::new([("TESTS", FOLDER), ("XDG_RUNTIME_DIR", "/run/user/1000")], false)
}

fn sources(files: &[&Path]) -> Sources {
    Sources { files: files.iter().map(|&file| file.to_owned()).collect(), socket: None }
}

/// Every file of a folder that is no `.txt`, with the text beside it.
fn table(folder: &str) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(Path::new(FOLDER).join(folder)).unwrap();
    let files: BTreeSet<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let inputs =
        files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension != "txt"));
    let rows: Vec<_> =
        inputs.map(|path| (path.clone(), fs::read_to_string(path.with_extension("txt")).unwrap())).collect();
    assert!(rows.len() > 3, "{folder} has too few files to be the table");
    rows
}

#[test]
fn valid_files() {
    for (path, expected) in table("valid") {
        let config = load(&sources(&[&path]), &environment()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.effective().replace(FOLDER, "TESTS"), expected, "{}", path.display());
    }
}

#[test]
fn invalid_files() {
    for (path, expected) in table("invalid") {
        let error = load(&sources(&[&path]), &environment()).err();
        let found = error.map(|error| error.to_string().replace(FOLDER, "TESTS")).unwrap_or_default();
        assert_eq!(found + "\n", expected, "{}", path.display());
    }
}

#[test]
fn effective_output_loads_as_the_same_configuration() {
    let folder = Folder::new();
    for name in ["valid/everything.toml", "valid/access.toml"] {
        let config = config_of(name);
        let again = folder.file("again.toml", &config.effective());
        let again = load(&sources(&[&again]), &environment()).unwrap();
        assert_eq!(again.effective(), config.effective());
        assert!(again.connections == config.connections && again.log == config.log);
        assert_eq!((again.api, again.access, again.state_dir), (config.api, config.access, config.state_dir));
    }
}

#[test]
fn secrets_do_not_show() {
    let folder = Folder::new();
    let file = folder.file(
        "siod.toml",
        r#"
        [defaults.extra_headers]
        Cookie = "canary"
        [connections.a]
        url = "https://canary:canary@h/n?token=canary&x=1"
        auth = { token = "canary" }
        query = { apiKey = "canary" }
        proxy = "socks5h://canary:canary@p"
        extra_headers = { Authorization = "canary", X-Any = "canary" }
        "#,
    );
    let config = load(&sources(&[&file]), &environment()).unwrap();
    let text = config.effective() + &format!("{:?}{:?}", config.defaults, config.connections["a"]);
    assert!(!text.contains("canary"), "{text}");
    for bad in [
        "url = 'canary@h'",
        "url = 'ftp://canary@h'",
        "url = 'http://canary:canary@h:0'",
        "auth = 'canary'",
        "query = 'canary'",
        "query = { a = ['canary'] }",
        "extra_headers = 'canary'",
        "proxy = 'canary'",
        "proxy = 'http://canary:canary@h/canary'",
        "proxy = 'canary://canary:canary@h'",
        "proxy = ['canary']",
        "extra_headers = { a = \"canary\\n\" }",
    ] {
        let file = folder.file("bad.toml", &format!("[connections.a]\n{bad}"));
        let error = load(&sources(&[&file]), &environment()).err().unwrap();
        assert!(!error.to_string().contains("canary"), "{bad}: {error}");
    }
}

#[test]
fn the_way_to_a_server_is_printed_without_its_password() {
    let folder = Folder::new();
    let file = folder.file(
        "siod.toml",
        r#"
        [defaults]
        url = "http://h"
        proxy = "http://proxy.example.com:3128"
        [connections.a]
        [connections.b]
        proxy = "none"
        [connections.c]
        proxy = "SOCKS5://me:s3cret@127.0.0.1"
        [connections.d]
        unix_socket = "${XDG_RUNTIME_DIR}/not-there-yet.sock"
        "#,
    );
    let text = load(&sources(&[&file]), &environment()).unwrap().effective();
    let ways: Vec<_> = text
        .lines()
        .filter(|line| ["[connections", "proxy", "unix_socket"].iter().any(|start| line.starts_with(start)))
        .collect();
    let expected = [
        "[connections.a]",
        r#"proxy = "http://proxy.example.com:3128""#,
        "[connections.b]",
        r#"proxy = "none""#,
        "[connections.c]",
        r#"proxy = "socks5://***@127.0.0.1:1080""#,
        "[connections.d]",
        r#"unix_socket = "/run/user/1000/not-there-yet.sock""#,
    ];
    assert_eq!(ways, expected);
}

#[test]
fn insecure_connections_are_warned_of() {
    let mut insecure = config_of("valid/everything.toml").warnings();
    // Whether everybody can read the files depends on where the tests are.
    insecure.retain(|warning| warning.contains("insecure"));
    let expected = "connections.Ticks.tls.insecure: any certificate is taken, so anyone on the way can read and change what is sent";
    assert_eq!(insecure, [expected]);
    assert!(config_of("valid/smallest.toml").warnings().is_empty());
}

fn config_of(name: &str) -> Config {
    let path = Path::new(FOLDER).join(name);
    load(&sources(&[&path]), &environment()).unwrap_or_else(|error| panic!("{error}"))
}

/// A folder for the files of one test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

fn config(files: &[&Path], variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load(&sources(files), &Environment::new(variables.iter().copied(), false))
}

fn problems(files: &[&Path], variables: &[(&str, &str)]) -> String {
    config(files, variables).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn no_file_at_all_is_fine() {
    let folder = Folder::new();
    let config = config(&[], &[("XDG_CONFIG_HOME", folder.path())]).unwrap();
    assert!(config.files.is_empty() && config.connections.is_empty());
    assert!(config.defaults == ConnectionOptions::default());
    assert_eq!(config.api.mode, 0o600);
}

#[test]
fn a_named_file_must_exist() {
    let folder = Folder::new();
    let absent = folder.0.path().join("absent.toml");
    let expected = format!("{}: cannot be read: No such file or directory (os error 2)", absent.display());
    assert_eq!(problems(&[&absent], &[]), expected);
    let folder_itself = format!("{}: is no regular file; expected a configuration file", folder.path());
    assert_eq!(problems(&[folder.0.path()], &[]), folder_itself);
}

#[test]
fn later_sources_win() {
    let folder = Folder::new();
    let home = ("XDG_CONFIG_HOME", folder.path());
    let level = |variables: &[(&str, &str)]| config(&[], variables).unwrap().log.level;
    let url = "[connections.a]\nurl = 'http://h'\ntimeout = '1s'\n";
    let main = folder.file("siod/siod.toml", &format!("[log]\nlevel = 'error'\n{url}"));
    assert_eq!(level(&[home]), "error");
    folder.file("siod/conf.d/20.toml", "[log]\nlevel = 'debug'\n[connections.a]\ntimeout = '2s'");
    folder.file("siod/conf.d/10.toml", "[log]\nlevel = 'trace'\n[connections.b]\nurl = 'http://i'");
    folder.file("siod/conf.d/30.txt", "not ours");
    folder.file("siod/conf.d/.40.toml", "not finished");
    assert_eq!(level(&[home]), "debug");
    assert_eq!(level(&[home, ("SIOD__LOG__LEVEL", "off")]), "off");
    let merged = config(&[], &[home]).unwrap();
    let names: Vec<_> = merged.files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["siod.toml", "10.toml", "20.toml"]);
    assert_eq!(merged.connections["a"].manager.timeout, Duration::from_secs(2));
    assert_eq!(merged.connections["b"].url, "http://i");
    let json = folder.file("last.json", r#"{"log":{"level":"warn"},"connections":{"a":{"timeout":3000}}}"#);
    let merged = config(&[&main, &json], &[]).unwrap();
    assert_eq!(
        (merged.log.level.as_str(), merged.files.len()),
        ("debug", 4),
        "conf.d comes after every file named"
    );
    assert_eq!(
        config(&[&json, &main], &[]).unwrap().log.level,
        "error",
        "conf.d stands beside the first file named"
    );
}

#[test]
fn variables_have_the_type_of_their_key() {
    let folder = Folder::new();
    let file = folder
        .file("siod.toml", "[connections.Ticks]\nurl = 'http://h'\n[connections.'a.b']\nurl = 'http://h'");
    let with = |variable: &str, text: &str| {
        config(&[&file], &[(variable, text)]).unwrap_or_else(|error| panic!("{error}"))
    };
    let ticks = |option: &str, text: &str| {
        with(&format!("SIOD__CONNECTIONS__Ticks__{option}"), text).connections["Ticks"].clone()
    };

    assert_eq!(with("SIOD__API__MAX_CONSUMERS", "7").api.max_consumers, 7);
    assert_eq!(with("SIOD__API__MAX_LINE", "64KiB").api.max_line, 65_536);
    assert_eq!(with("SIOD__API__MODE", "0660").api.mode, 0o660);
    assert_eq!(with("SIOD__API__GROUP", "007").api.group.as_deref(), Some("007"));
    assert_eq!(with("SIOD__API__STALL", "1500").api.stall, Duration::from_millis(1500));
    assert!(!ticks("RECONNECTION", "false").manager.reconnection);
    assert!((ticks("RANDOMIZATION_FACTOR", "0.25").manager.backoff.jitter - 0.25).abs() < f64::EPSILON);
    assert_eq!(ticks("RECONNECTION_ATTEMPTS", "4").manager.reconnection_attempts, Some(4));
    assert_eq!(ticks("TIMEOUT", "1m 30s").manager.timeout, Duration::from_secs(90));
    assert_eq!(ticks("TIMEOUT", "250").manager.timeout, Duration::from_millis(250));
    assert_eq!(ticks("TRANSPORTS", r#"["polling"]"#).manager.transports.len(), 1);
    assert_eq!(ticks("QUERY__Room", "007").manager.transport.query, [("Room".to_owned(), "007".to_owned())]);
    assert_eq!(ticks("HISTORY__EVENTS", "9").history.events, 9);
    for object in [r#"{ token = "abc" }"#, r#"{"token":"abc"}"#] {
        let auth = siod::manager::Auth::Fixed(r#"{"token":"abc"}"#.into());
        assert!(ticks("AUTH", object).socket.auth == auth, "{object}");
    }
    let names = |variable, text| with(variable, text).connections.into_keys().collect::<Vec<_>>();
    assert_eq!(names("SIOD__CONNECTIONS__TICKS__URL", "http://i"), ["Ticks", "a.b"]);
    assert_eq!(names("SIOD__CONNECTIONS__News__URL", "http://i"), ["News", "Ticks", "a.b"]);
    assert_eq!(names("SIOD__CONNECTIONS__a.b__URL", "http://i"), ["Ticks", "a.b"]);
    assert_eq!(names("SIOD_CONNECTIONS__X__URL", "not ours"), ["Ticks", "a.b"]);
}

#[test]
fn errors_name_the_variable() {
    for (variable, text, problem) in [
        (
            "SIOD__API__MAX_CONSUMERS",
            "many",
            "api.max_consumers: found string \"many\", expected a whole number",
        ),
        (
            "SIOD__API__MAX_CONSUMERS",
            "5.7",
            "api.max_consumers: found string \"5.7\", expected a whole number",
        ),
        ("SIOD__API__SOKET", "/s", "api.soket: unknown key; did you mean socket?"),
        (
            "SIOD__DEFAULTS__RECONNECTION",
            "1",
            "defaults.reconnection: found string \"1\", expected a boolean",
        ),
        ("SIOD__LOG__LEVEL__X", "1", "log.level: found map, expected a string"),
        ("SIOD__API____SOCKET", "/s", "has an empty level between two double underscores"),
    ] {
        assert_eq!(problems(&[], &[(variable, text)]), format!("${variable}: {problem}"));
    }
}

#[test]
fn every_layer_names_its_own_place() {
    let folder = Folder::new();
    let first = folder.file("first.toml", "[api]\nmax_consumers = 'x'\nstall = 'x'");
    let second = folder.file("second.toml", "api.max_consumers = 1.5");
    let json = folder.file("third.json", r#"{"api":{"lag":"wait"}}"#);
    let whole = "expected a whole number";
    let duration = "expected a duration like \"5s\" or whole milliseconds, at most 365 days";
    let expected = [
        format!("{}:3:1: api.stall: found string \"x\", {duration}", first.display()),
        format!("{}:1:5: api.max_consumers: found floating point 1.5, {whole}", second.display()),
        format!("{}: api.lag: found wait, expected \"skip\" or \"disconnect\"", json.display()),
    ];
    assert_eq!(problems(&[&first, &second, &json], &[]), expected.join("\n"));
}

#[test]
fn broken_json_says_where() {
    let folder = Folder::new();
    for (text, problem) in [
        ("{\n \"log\": }", "2:9: expected value"),
        ("[]", " expected a JSON object"),
        (r#"{"connections":{"a":{},"a":{}}}"#, "1:26: the key \"a\" is there twice; keep one"),
    ] {
        let file = folder.file("broken.json", text);
        assert_eq!(problems(&[&file], &[]), format!("{}:{problem}", file.display()), "{text}");
    }
}

#[test]
fn files_that_keys_name_must_be_there() {
    let folder = Folder::new();
    folder.file("chat", "{}");
    let file = folder
        .file("siod.toml", "[connections.a]\nurl = 'http://h'\nauth_file = '${CREDENTIALS_DIRECTORY}/chat'");
    let found = config(&[&file], &[("CREDENTIALS_DIRECTORY", folder.path())]).unwrap();
    let expected = siod::manager::Auth::File(folder.0.path().join("chat"));
    assert!(found.connections["a"].socket.auth == expected);

    let at = format!("{}:3:1: connections.a.auth_file", file.display());
    assert_eq!(
        problems(&[&file], &[]),
        format!("{at}: the environment has no variable CREDENTIALS_DIRECTORY")
    );
    let absent = "/nowhere/chat: cannot be read: No such file or directory (os error 2)";
    assert_eq!(problems(&[&file], &[("CREDENTIALS_DIRECTORY", "/nowhere")]), format!("{at}: {absent}"));
}

#[test]
fn the_socket() {
    let folder = Folder::new();
    let file = folder.file("siod.toml", "[api]\nsocket = '${XDG_RUNTIME_DIR}/own.sock'");
    let (run, named) = (("XDG_RUNTIME_DIR", "/r"), ("SIOD_SOCKET", "/named"));
    let level = ("SIOD__API__SOCKET", "/level");
    for (flag, files, variables, root, expected) in [
        (Some("/flag"), &[&*file][..], &[run, named, level][..], false, "/flag"),
        (None, &[&*file], &[run, named, level], false, "/named"),
        (None, &[&*file], &[run, level], false, "/level"),
        (None, &[&*file], &[run], false, "/r/own.sock"),
        (None, &[], &[run], false, "/r/siod.sock"),
        (None, &[], &[run], true, "/run/siod/siod.sock"),
        (None, &[], &[], false, "/run/siod/siod.sock"),
    ] {
        let sources = Sources { socket: flag.map(PathBuf::from), ..sources(files) };
        let environment = Environment::new(variables.iter().copied(), root);
        assert_eq!(
            socket_path(&sources, &environment).unwrap(),
            Path::new(expected),
            "{flag:?} {variables:?}"
        );
        assert_eq!(
            load(&sources, &environment).unwrap().api.socket,
            Path::new(expected),
            "{flag:?} {variables:?}"
        );
    }
}

#[test]
fn a_broken_configuration_stops_nobody_who_names_the_socket() {
    let folder = Folder::new();
    let broken = folder.file("broken.toml", "[api");
    let elsewhere = folder.file("elsewhere.toml", "[api]\nsocket = '/s'\n[connections.a]\nurl = 5");
    let path = |file: &Path, variables: &[(&str, &str)]| {
        socket_path(&sources(&[file]), &Environment::new(variables.iter().copied(), false))
    };
    assert_eq!(path(&broken, &[("SIOD_SOCKET", "/named")]), Ok("/named".into()));
    assert!(path(&broken, &[]).is_err());
    assert_eq!(path(&elsewhere, &[]), Ok("/s".into()));
    let mistyped = folder.file("mistyped.toml", "[api]\nsocket = 5");
    let expected =
        format!("{}:2:1: api.socket: expected a string, the path of the socket", mistyped.display());
    assert_eq!(path(&mistyped, &[]).unwrap_err().to_string(), expected);
}

#[test]
fn the_mode_of_a_system_service() {
    let own = std::process::id().to_string();
    for (variables, root, mode) in [
        (&[("SYSTEMD_EXEC_PID", own.as_str())][..], true, 0o660),
        (&[], true, 0o600),
        (&[("SYSTEMD_EXEC_PID", own.as_str()), ("XDG_RUNTIME_DIR", "/r")], false, 0o600),
    ] {
        let folder = Folder::new();
        let file = folder.file("siod.toml", "");
        let config = load(&sources(&[&file]), &Environment::new(variables.iter().copied(), root)).unwrap();
        assert_eq!(config.api.mode, mode, "{variables:?} {root}");
    }
}

/// The file that is shipped: as it is, and with every key that is commented out because it is the default.
#[test]
fn the_shipped_file_shows_the_defaults() {
    let shipped = fs::read_to_string(Path::new(FOLDER).join("../../config/siod.toml")).unwrap();
    let folder = Folder::new();
    let as_it_is = config(&[&folder.file("as_it_is.toml", &shipped)], &[]).unwrap();
    let without = config(&[&folder.file("empty.toml", "")], &[]).unwrap();
    assert!(as_it_is.connections.is_empty());
    assert_eq!(as_it_is.effective(), without.effective());

    // Keys whose default is that they are absent; the file shows an example.
    let absent = [
        "group",
        "dir",
        "user",
        "role",
        "connections",
        "ack_timeout",
        "tls.ca_file",
        "tls.cert_file",
        "tls.key_file",
        "tls.server_name",
        "proxy",
        "unix_socket",
    ];
    let is_example = |line: &str| absent.iter().any(|key| line.starts_with(&format!("{key} = ")));
    let key_of = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|it| it.is_ascii_lowercase() || b"._".contains(&it)))
    };
    let (general, _) = shipped.split_once("#[connections.chat]").unwrap();
    let written = general.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key_of(key) => (if is_example(key) { "" } else { key }).to_owned(),
        _ => line.to_owned(),
    });
    let connection = "[connections.c]\nurl = \"http://h\"\n";
    let written = written.collect::<Vec<_>>().join("\n") + "\n" + connection;
    assert!(written.matches(" = ").count() > 35, "{written}");
    let written =
        config(&[&folder.file("written.toml", &written)], &[]).unwrap_or_else(|error| panic!("{error}"));
    let plain = config(&[&folder.file("plain.toml", connection)], &[]).unwrap();
    assert_eq!(written.effective(), plain.effective());

    for line in plain.effective().lines().filter(|line| !line.starts_with("url")) {
        let key = line.split(" = ").next().unwrap();
        let named = shipped.lines().any(|line| line.trim_start_matches('#').split(" = ").next() == Some(key));
        assert!(
            named || line.starts_with("[connections") || line.is_empty(),
            "{key} is not in config/siod.toml"
        );
    }
}
