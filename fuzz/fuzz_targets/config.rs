//! A configuration: what loads prints as one that loads as the same, and what does not says where each mistake is.
//!
//! An input is a file, of JSON where it begins with a brace and else of TOML; behind a byte 0x1E a variable of the
//! environment may stand on each line. Files that it names are looked at as always.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use siod::service::config::{Config, ConfigError, Sources, load};
use siod::service::environment::Environment;
use tempfile::TempDir;

static BEGINNINGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let folder = |name: &str| fs::read_dir(Path::new(siod_fuzz::ROOT).join(name)).expect("a folder");
    let tables = ["tests/config/valid", "tests/config/invalid"].into_iter().flat_map(folder);
    let files = tables.map(|entry| entry.expect("a file").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it != "txt")).collect();
    files.sort();
    files.iter().map(|path| fs::read(path).expect("a file")).collect()
});

/// Where configurations are written, for there is no other way to load one.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a folder"));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    siod_fuzz::mutate(data, size, max_size, seed, &BEGINNINGS)
});

fuzz_target!(|data: &[u8]| {
    let (file, variables) = match data.iter().position(|byte| *byte == 0x1e) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[][..]),
    };
    let variables = String::from_utf8_lossy(variables);
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let fixed = [("TESTS", "/nowhere"), ("XDG_RUNTIME_DIR", "/run/user/1000")];
    let environment = Environment::new(fixed.into_iter().chain(variables), false);
    let path = write(if file.starts_with(b"{") { "fuzz.json" } else { "fuzz.toml" }, file);
    match loaded(&path, &environment) {
        Ok(config) => loads_as_the_same(&config),
        Err(error) => says_where(&error, &path),
    }
});

fn write(name: &str, text: &[u8]) -> PathBuf {
    let path = FOLDER.path().join(name);
    fs::write(&path, text).expect("room for a file");
    path
}

fn loaded(path: &Path, environment: &Environment) -> Result<Config, ConfigError> {
    load(&Sources { files: vec![path.to_owned()], socket: None }, environment)
}

fn loads_as_the_same(config: &Config) {
    let text = config.effective();
    assert!(!text.chars().any(|it| it.is_control() && it != '\n'), "{text:?}");
    for warning in config.warnings() {
        assert!(!warning.contains('\n'), "{warning:?}");
    }
    // What is masked is lost, and what is expanded would be once more.
    if text.contains("***") || text.contains("${") {
        return;
    }
    let again = loaded(&write("effective.toml", text.as_bytes()), &Environment::default());
    let again = again.unwrap_or_else(|error| panic!("{error}\nin\n{text}"));
    assert_eq!(again.effective(), text);
}

fn says_where(error: &ConfigError, path: &Path) {
    assert!(!error.problems.is_empty());
    for problem in &error.problems {
        let is_placed = problem.starts_with(path.to_str().expect("UTF-8")) || problem.starts_with("$SIOD_");
        assert!(is_placed, "no place: {problem:?}");
        assert!(!problem.contains('\n'), "{problem:?}");
    }
}
