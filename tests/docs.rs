//! The documentation is true: every example of `docs/api.md` is played against the real daemon, and the programs and
//! commands of the README and of `examples/` are run as they stand.

mod common;
mod docs {
    pub(crate) mod markdown;
    pub(crate) mod play;
    pub(crate) mod stage;
}

use docs::markdown::{blocks, headings};
use docs::play::Play;
use docs::stage::{Stage, is_there};

const API: &str = include_str!("../docs/api.md");
const README: &str = include_str!("../README.md");

#[tokio::test]
async fn every_example_of_the_api_happens() {
    let examples: Vec<_> = blocks(API).filter(|block| block.language == "text").collect();
    assert!(examples.len() > 15, "the examples of docs/api.md were not found");
    for example in examples {
        // Shown where the test fails.
        println!("docs/api.md:{}", example.line);
        Play::start(example.rest).await.run(&example.text).await;
    }
}

#[test]
fn every_method_has_an_example() {
    for method in headings(API).filter_map(|heading| heading.strip_prefix("### `")?.strip_suffix('`')) {
        let request = format!(r#""method":"{method}""#);
        assert!(blocks(API).any(|block| block.text.contains(&request)), "no example of {method}");
    }
}

#[tokio::test]
async fn the_configuration_of_the_readme_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("siod.toml");
    let block = blocks(README).find(|block| block.language == "toml").expect("a configuration");
    std::fs::write(&file, block.text).expect("a file");
    let siod = std::process::Command::new(env!("CARGO_BIN_EXE_siod"))
        .args([std::ffi::OsStr::new("check"), "--config".as_ref(), file.as_os_str()])
        .output()
        .expect("siod starts");
    assert!(siod.status.success(), "{}", String::from_utf8_lossy(&siod.stderr));
}

/// Commands of these programs are run; the rest of the README's are cargo's.
const RUN: [&str; 4] = ["siod", "export", "echo", "while"];

#[tokio::test]
async fn the_commands_of_the_readme_work() {
    let mut stage = Stage::set().await;
    stage.server_sends(r#"42["message","hi"]"#).await;
    let scripts: Vec<_> = blocks(README)
        .filter(|block| block.language == "sh" && RUN.iter().any(|program| block.text.starts_with(program)))
        .collect();
    assert_eq!(scripts.len(), 3, "the commands of the README were not found");
    let mut printed = String::new();
    for script in scripts {
        let missing = |line: &&str| {
            ["nc", "socat"].iter().any(|tool| line.contains(&format!("| {tool} ")) && !is_there(tool))
        };
        let text = script.text.lines().filter(|line| !missing(line)).collect::<Vec<_>>().join("\n");
        printed += &stage.run("sh", &["-euc", &text]).await;
    }
    for expected in [
        "chat connected websocket",
        "\n[5]\n",
        r#"{"connections":[{"name":"chat","#,
        r#"heard: {"jsonrpc":"2.0","method":"event","params":{"connection":"chat","seq":3,"event":"message","args":["hi"]}}"#,
    ] {
        assert!(printed.contains(expected), "{expected} in\n{printed}");
    }
}

#[tokio::test]
async fn the_programs_of_the_readme_and_of_the_examples_listen() {
    if !is_there("python3") {
        return;
    }
    let readme = blocks(README).find(|block| block.language == "python").expect("a program").text;
    for (program, arguments, expected) in [
        ("python3", vec!["-c", &readme], &["message ['hi', {'n': 1}]"][..]),
        (
            "python3",
            vec!["examples/listen.py", "chat"],
            &["chat 1 (opened)", "chat 2 (connect)", "chat 3 message hi {'n': 1}"],
        ),
        ("sh", vec!["examples/listen.sh", "chat", "mess*"], &[r#" heard ["hi",{"n":1}]"#]),
    ] {
        let mut stage = Stage::set().await;
        let mut listening = stage.listen(program, &arguments).await;
        stage.server_sends(r#"42["message","hi",{"n":1}]"#).await;
        for expected in expected {
            let line = listening.line().await;
            assert!(line.ends_with(expected), "{arguments:?}: {line} instead of {expected}");
        }
    }
}

#[tokio::test]
async fn the_example_that_emits_prints_the_answer() {
    if !is_there("python3") {
        return;
    }
    let stage = Stage::set().await;
    assert_eq!(stage.run("python3", &["examples/emit.py", "chat", "add", "2", "3"]).await, "[5]\n");
}
