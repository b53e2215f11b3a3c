//! The rules of the architecture: which layer may import which, and what a pure file may not touch.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers and what each may import, besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("json", &[]),
    ("secret", &["json"]),
    ("engineio", &["json"]),
    ("socketio", &["secret", "json", "engineio"]),
    ("transport", &["secret", "json", "engineio"]),
    ("manager", &["secret", "json", "engineio", "socketio", "transport"]),
    ("hub", &["secret", "json", "engineio", "socketio", "transport", "manager"]),
    ("api", &["secret", "json", "engineio", "socketio", "transport", "manager", "hub"]),
    ("client", &[]),
    ("service", &["secret", "json", "engineio", "socketio", "transport", "manager", "hub", "api"]),
    (
        "cli",
        &[
            "secret",
            "json",
            "engineio",
            "socketio",
            "transport",
            "manager",
            "hub",
            "api",
            "client",
            "service",
        ],
    ),
];

/// Files and folders that do no IO and read no clock.
const PURE: &[&str] = &[
    "json.rs",
    "secret.rs",
    "engineio/",
    "socketio/",
    "manager/backoff.rs",
    "manager/pace.rs",
    "manager/state.rs",
    "manager/state/",
    "hub/access.rs",
    "hub/log.rs",
    "hub/log/",
    "hub/ration.rs",
    "hub/saved.rs",
    "hub/sticky.rs",
    "hub/subscription.rs",
    "hub/notice.rs",
    "hub/options.rs",
    "hub/quantity.rs",
    "hub/resolve.rs",
    "hub/standing.rs",
    "hub/target.rs",
    "service/visible.rs",
    "api/message.rs",
    "api/results.rs",
    "api/schema.rs",
    "client/params.rs",
    "client/positions.rs",
    "client/results.rs",
];

/// What only files with IO may name.
const IMPURE: &[&str] = &["tokio", "std::net", "Instant::now", "SystemTime::now"];

#[test]
fn no_layer_imports_one_above_it_and_pure_files_stay_pure() {
    let files = sources();
    let violations: Vec<_> = files.iter().flat_map(|(path, text)| violations(path, text)).collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn every_rule_is_about_something_that_exists() {
    let files = sources();
    for (layer, _) in LAYERS {
        assert!(files.iter().any(|(path, _)| layer_of(path) == Some(layer)), "no layer `{layer}` in src/");
    }
    for pure in PURE {
        assert!(files.iter().any(|(path, _)| path.starts_with(pure)), "no `{pure}` in src/");
    }
    for (path, _) in &files {
        let known = layer_of(path).is_some() || path == "lib.rs" || path == "main.rs";
        assert!(known, "src/{path} belongs to no layer: add it to the list above");
    }
}

#[test]
fn a_violation_is_found_wherever_it_hides() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("manager/driver.rs", "use crate::transport;\nuse crate::manager::state::State;", &[]),
        (
            "manager/driver.rs",
            "use crate::hub::Hub;",
            &["src/manager/driver.rs:1: `manager` may not import `hub`"],
        ),
        (
            "transport/mod.rs",
            "fn f(p: crate::socketio::Packet) {}",
            &["src/transport/mod.rs:1: `transport` may not import `socketio`"],
        ),
        (
            "hub/mod.rs",
            "use crate::{\n    json,\n    manager::{Event, api},\n    service::{self},\n};",
            &["src/hub/mod.rs:1: `hub` may not import `service`"],
        ),
        (
            "engineio/mod.rs",
            "use super::transport;",
            &["src/engineio/mod.rs:1: `engineio` may not import `transport`"],
        ),
        (
            "engineio/packet.rs",
            "use super::super::cli;",
            &["src/engineio/packet.rs:1: `engineio` may not import `cli`"],
        ),
        ("engineio/packet.rs", "use super::transport;", &[]),
        ("hub/log.rs", "//! Unlike tokio, this waits for nothing.\n// crate::api\nfn f() {}", &[]),
        ("hub/log.rs", "fn f() {\n    tokio::spawn(g());\n}", &["src/hub/log.rs:2: `tokio` in a pure file"]),
        ("hub/mod.rs", "use tokio::sync::mpsc;", &[]),
        (
            "socketio/acks.rs",
            "let now = Instant::now();",
            &["src/socketio/acks.rs:1: `Instant::now` in a pure file"],
        ),
        ("json.rs", "use std::net::IpAddr;", &["src/json.rs:1: `std::net` in a pure file"]),
        (
            "json.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    use tokio::test;\n    use crate::api;\n}",
            &[],
        ),
    ];
    for (path, text, expected) in rows {
        assert_eq!(violations(path, text), *expected, "{path}: {text}");
    }
}

/// What in this file breaks the rules, a line for each; `path` is relative to `src`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_tests(text);
    let mut found = Vec::new();
    let mut add = |at: usize, what: String| {
        let line = code[..at].matches('\n').count() + 1;
        found.push(format!("src/{path}:{line}: {what}"));
    };
    if let Some(layer) = layer_of(path) {
        let allowed = LAYERS.iter().find(|(name, _)| *name == layer).map_or(&[][..], |(_, allowed)| allowed);
        for (at, imported) in imports(path, &code) {
            let known = LAYERS.iter().any(|(name, _)| *name == imported);
            if known && imported != layer && !allowed.contains(&imported) {
                add(at, format!("`{layer}` may not import `{imported}`"));
            }
        }
    }
    if PURE.iter().any(|pure| path.starts_with(pure)) {
        for word in IMPURE {
            for (at, _) in code.match_indices(word) {
                let before = code[..at].chars().next_back();
                if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    add(at, format!("`{word}` in a pure file"));
                }
            }
        }
    }
    found
}

/// The first segments of all paths from the crate's root, with the place of each path.
fn imports<'a>(path: &str, code: &'a str) -> Vec<(usize, &'a str)> {
    let root = match path.split_once('/') {
        Some((_, "mod.rs")) | None => "super::",
        Some(_) => "super::super::",
    };
    let paths = |prefix: &'static str| code.match_indices(prefix).map(move |(at, _)| (at, at + prefix.len()));
    paths("crate::")
        .chain(paths(root))
        .flat_map(|(at, end)| first_segments(&code[end..]).into_iter().map(move |name| (at, name)))
        .collect()
}

/// `a` of `a::b`, and `a`, `c` of `{a::b, c::{d, e}}`.
fn first_segments(path: &str) -> Vec<&str> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![identifier(path)];
    };
    let mut segments = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                segments.push(identifier(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    segments
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The code with its line numbers kept: comments are blanked, the tests at the end of a file cut off.
fn without_comments_and_tests(text: &str) -> String {
    let code = text.find("#[cfg(test)]\nmod tests").map_or(text, |end| &text[..end]);
    code.lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n")
}

fn layer_of(path: &str) -> Option<&'static str> {
    let name = path.split_once('/').map_or_else(|| path.strip_suffix(".rs"), |(folder, _)| Some(folder))?;
    LAYERS.iter().map(|(layer, _)| *layer).find(|layer| *layer == name)
}

/// All files under `src`, with their paths relative to it.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be read") {
            let path: PathBuf = entry.expect("src can be read").path();
            // Tests drive the pure machines with whatever clock and runtime they like.
            if path.file_stem().is_some_and(|stem| stem == "tests") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let relative = path.strip_prefix(&root).expect("it is under src");
                files.push((relative.to_string_lossy().replace('\\', "/"), text));
            }
        }
    }
    files
}
