//! The daemon is the official client: scenarios are played by socket.io-client and by a program at the local API that
//! takes each `open` for an `io()`, against servers of the same kind, and what the two write down must be equal.
//!
//! A scenario, in `tests/node/official`, lists where they differ, each time with the rows of `docs/compatibility.md`
//! that explain it. A difference that is not listed fails, and so does a listed one that does not occur.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use common::Daemon;
use common::node::Script;
use common::tap::Tap;
use serde::Deserialize;

const COMPATIBILITY: &str = include_str!("../docs/compatibility.md");

/// The files with scenarios; each is a test below.
const GROUPS: &[&str] = &["connecting", "losses", "events", "acks", "retries", "namespaces", "transports"];

#[tokio::test]
async fn connecting_or_not() {
    play("connecting").await;
}

#[tokio::test]
async fn losses_and_what_follows() {
    play("losses").await;
}

#[tokio::test]
async fn events_both_ways() {
    play("events").await;
}

#[tokio::test]
async fn acks_both_ways() {
    play("acks").await;
}

#[tokio::test]
async fn retries_one_after_the_other() {
    play("retries").await;
}

#[tokio::test]
async fn namespaces_that_share() {
    play("namespaces").await;
}

#[tokio::test]
async fn transports_and_requests() {
    play("transports").await;
}

/// What became of a scenario, as `tests/node/official/run.mjs` tells it.
#[derive(Deserialize)]
struct Played {
    name: String,
    official: Transcripts,
    siod: Transcripts,
    differences: Vec<Difference>,
    error: Option<String>,
}

/// Lines by what wrote them: a socket, a part of it, or the server.
type Transcripts = BTreeMap<String, Vec<String>>;

/// In the transcript `of`, the lines `siod` stand where the official client has `official`.
#[derive(Deserialize)]
struct Difference {
    rows: Vec<u32>,
    of: String,
    official: Vec<String>,
    siod: Vec<String>,
}

async fn play(group: &str) {
    let daemon = Daemon::start("").await;
    let tap = Tap::on(&daemon.folder().socket());
    let socket = tap.socket();
    let mut script =
        Script::start("official/run.mjs", &[socket.to_str().expect("a path in UTF-8"), group]).await;
    let count: usize = script.line().await.parse().expect("the script prints a number first");
    let mut failures = String::new();
    for _ in 0..count {
        let played: Played = serde_json::from_str(&script.line().await).expect("the script prints JSON");
        if let Err(failure) = played.check() {
            let _ = writeln!(failures, "{}: {failure}", played.name);
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

impl Played {
    fn check(&self) -> Result<(), String> {
        if let Some(error) = &self.error {
            return Err(format!("{error}\n{}", self.whole()));
        }
        let names: BTreeSet<_> = self.official.keys().chain(self.siod.keys()).collect();
        if let Some(difference) = self.differences.iter().find(|it| !names.contains(&it.of)) {
            return Err(format!("there is no transcript {:?}", difference.of));
        }
        for name in names {
            self.compare(name)?;
        }
        Ok(())
    }

    fn compare(&self, name: &str) -> Result<(), String> {
        let (Some(official), Some(siod)) = (self.official.get(name), self.siod.get(name)) else {
            return Err(format!("only one of the two has a transcript {name:?}"));
        };
        let mut expected = official.clone();
        let mut from = 0;
        for difference in self.differences.iter().filter(|it| it.of == name) {
            if let Some(row) = difference.rows.iter().find(|row| !rows().contains_key(row)) {
                return Err(format!("docs/compatibility.md has no row {row}"));
            }
            let length = difference.official.len();
            let at = (from..=expected.len().saturating_sub(length))
                .find(|at| expected[*at..].starts_with(&difference.official))
                .filter(|_| difference.official != difference.siod)
                .ok_or_else(|| {
                    format!("the official client does not write {:?}\n{}", difference.official, self.whole())
                })?;
            expected.splice(at..at + length, difference.siod.iter().cloned());
            from = at + difference.siod.len();
        }
        if expected == *siod {
            return Ok(());
        }
        let at = expected.iter().zip(siod).take_while(|(left, right)| left == right).count();
        Err(format!(
            "{name} differs from line {}: expected {:?}, found {:?}\n{}",
            at + 1,
            expected.get(at),
            siod.get(at),
            self.whole()
        ))
    }

    /// Both sides, for whoever reads a failure.
    fn whole(&self) -> String {
        let mut text = String::new();
        for (side, transcripts) in [("official", &self.official), ("siod", &self.siod)] {
            for (name, lines) in transcripts.iter().filter(|(_, lines)| !lines.is_empty()) {
                let _ = writeln!(text, "    {side}, {name}:\n        {}", lines.join("\n        "));
            }
        }
        text
    }
}

#[test]
fn a_difference_must_be_listed_and_must_occur() {
    let played = |official: &str, siod: &str, listed: &[(&str, &str)]| {
        let transcripts = |text: &str| {
            Transcripts::from([("chat".to_owned(), text.split_whitespace().map(str::to_owned).collect())])
        };
        let lines = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let differences = listed.iter().map(|(official, siod)| Difference {
            rows: vec![1],
            of: "chat".to_owned(),
            official: lines(official),
            siod: lines(siod),
        });
        Played {
            name: "a_scenario".to_owned(),
            official: transcripts(official),
            siod: transcripts(siod),
            differences: differences.collect(),
            error: None,
        }
        .check()
        .is_ok()
    };
    assert!(played("a b c", "a b c", &[]));
    assert!(!played("a b c", "a c", &[]));
    assert!(played("a b c", "a c", &[("b", "")]));
    assert!(played("a b b", "a x b y", &[("b", "x b"), ("b", "y")]));
    assert!(!played("a b c", "a b c", &[("b", "")]), "it does not occur");
    assert!(!played("a b c", "a b c", &[("b", "b")]), "it is none");
    assert!(!played("a b c", "a b c", &[("x", "b")]), "the official client does not write it");
    assert!(!played("a b", "b a", &[("b", "a"), ("a", "b")]), "they are listed in order");
}

/// The numbered differences of `docs/compatibility.md`, each with its line.
fn rows() -> BTreeMap<u32, &'static str> {
    COMPATIBILITY
        .lines()
        .filter_map(|line| {
            let number = line.strip_prefix("| ")?.split(" |").next()?;
            Some((number.parse().ok()?, line))
        })
        .collect()
}

#[test]
fn every_option_has_a_row() {
    let (_, options) =
        include_str!("../config/siod.toml").split_once("\n[defaults]\n").expect("a table of options");
    let keys: BTreeSet<_> = options
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once(" = "))
        .map(|(key, _)| key)
        .filter(|key| *key != "url" && !key.contains(' '))
        .collect();
    assert!(keys.len() > 30, "the options of config/siod.toml were not found: {keys:?}");
    let rows: Vec<_> = COMPATIBILITY.lines().filter(|line| line.starts_with("| ")).collect();
    for key in keys {
        let named = format!("`{key}`");
        assert!(rows.iter().any(|row| row.contains(&named)), "docs/compatibility.md has no row for {key}");
    }
}

#[test]
fn every_test_that_the_document_names_exists() {
    let mut named = 0;
    for name in COMPATIBILITY.split('`').skip(1).step_by(2) {
        let Some((file, test)) = name.split_once("::") else { continue };
        named += 1;
        let there = if file == "official" {
            scenarios().iter().any(|(_, text)| text.contains(&format!("\n  {test}: {{")))
        } else {
            rust_files(file).iter().any(|text| text.contains(&format!("fn {test}(")))
        };
        assert!(there, "docs/compatibility.md names `{name}`, which is no test");
    }
    assert!(named > 50, "the tests that docs/compatibility.md names were not found");
}

#[test]
fn every_difference_is_numbered_once_and_shown_by_a_test() {
    let rows = rows();
    let numbers: Vec<u32> = rows.keys().copied().collect();
    assert_eq!(numbers, (1..=u32::try_from(rows.len()).expect("few")).collect::<Vec<_>>());
    for (number, line) in rows {
        assert!(line.contains("::"), "row {number} names no test");
        for scenario in line.split('`').filter_map(|part| part.strip_prefix("official::")) {
            let (_, text) = scenarios()
                .into_iter()
                .find(|(_, text)| text.contains(&format!("\n  {scenario}: {{")))
                .unwrap_or_else(|| panic!("row {number} names {scenario}, which is no scenario"));
            let lists = text.split(&format!("\n  {scenario}: {{")).nth(1).unwrap_or_default();
            let lists = lists.split("\n  },\n").next().unwrap_or_default();
            assert!(
                lists.contains("differences:"),
                "row {number} names {scenario}, which lists no difference"
            );
        }
    }
}

#[test]
fn every_file_with_scenarios_is_played() {
    let files: BTreeSet<String> = scenarios().into_iter().map(|(name, _)| name).collect();
    assert_eq!(files, GROUPS.iter().map(|group| (*group).to_owned()).collect());
}

/// The files of `tests/node/official` that hold scenarios, by name.
fn scenarios() -> Vec<(String, String)> {
    texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/official"))
        .into_iter()
        .filter(|(_, text)| text.contains("\nexport default {"))
        .collect()
}

/// The text of a file of `tests` or `src`, or of all files of a folder of `tests`.
fn rust_files(name: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files =
        ["tests", "src"].map(|folder| fs::read_to_string(root.join(folder).join(format!("{name}.rs"))));
    let folder = texts(&root.join("tests").join(name)).into_iter().map(|(_, text)| text);
    files.into_iter().flatten().chain(folder).collect()
}

/// Each file of a folder, by its name without the extension.
fn texts(folder: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("a file of tests can be read"))
        })
        .collect()
}
