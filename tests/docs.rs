//! The documentation is true: every example of `docs/api.md` is played against the real daemon, and the story and the
//! commands of the README are run as they stand.

mod common;
mod docs {
    pub(crate) mod markdown;
    pub(crate) mod play;
    pub(crate) mod stage;
}

use std::ffi::OsStr;
use std::path::Path;

use common::Daemon;
use common::node::Script;
use docs::markdown::{blocks, headings};
use docs::play::Play;
use docs::stage::{Listening, Stage, is_there};

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

#[test]
fn the_configurations_of_the_readme_are_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("siod.toml");
    let configurations: Vec<_> = blocks(README).filter(|block| block.language == "toml").collect();
    assert_eq!(configurations.len(), 2, "the configurations of the README were not found");
    for block in configurations {
        std::fs::write(&file, with_the_login(&block.text, folder.path())).expect("a file");
        let siod = std::process::Command::new(env!("CARGO_BIN_EXE_siod"))
            .args([OsStr::new("check"), "--config".as_ref(), file.as_os_str()])
            .output()
            .expect("siod starts");
        assert!(siod.status.success(), "{}", String::from_utf8_lossy(&siod.stderr));
    }
}

/// The configuration, where it names the README's file with a login with one that has it.
fn with_the_login(configuration: &str, folder: &Path) -> String {
    let login = folder.join("kuma.json");
    let block = blocks(README).find(|block| block.language == "json").expect("a login");
    std::fs::write(&login, block.text).expect("a file");
    configuration.replace("/etc/siod/kuma.json", login.to_str().expect("UTF-8"))
}

#[tokio::test]
async fn the_story_of_the_readme_is_true() {
    const SCRIPTS: usize = 10;
    if !is_there("python3") {
        return;
    }
    let block =
        |language: &str| blocks(README).find(|block| block.language == language).expect("it is there").text;
    // As many logins as siod needs below, and far fewer than there are scripts.
    let mut server = Script::start("monitor.mjs", &["2"]).await;
    let url = format!("http://127.0.0.1:{}", server.line().await);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("watch.py"), block("python")).expect("a file");
    let configuration =
        with_the_login(&block("toml"), folder.path()).replace("https://status.example.com", &url);
    assert!(configuration.contains(&url), "{configuration}");
    let daemon = Daemon::start(&format!("[defaults]\nreconnection_delay = \"10ms\"\n{configuration}")).await;

    let list = r#"{"jsonrpc":"2.0","method":"event","params":{"connection":"kuma","seq":…,"event":"monitorList","args":[…]}}"#;
    let subscribe =
        r#"{"id":1,"method":"subscribe","params":{"connection":"kuma","sticky":true,"lifecycle":false}}"#;
    let subscribed = r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#;
    let mut watcher = daemon.attach().await;
    watcher.call(subscribe, subscribed).await;
    watcher.hear(list).await;
    let script = blocks(README).find(|block| block.text.contains("watch.py &")).expect("a command").text;
    // All of them come late, and have the list all the same.
    let mut scripts = Listening::start(&daemon, folder.path(), &script);
    for _ in 0..SCRIPTS {
        assert_eq!(scripts.line().await, "watching website, mail");
    }
    server.write("beat").await;
    for _ in 0..SCRIPTS {
        assert_eq!(scripts.line().await, "mail is down");
    }
    server.write("logins").await;
    assert_eq!(server.line().await, "1");

    server.write("drop").await;
    for _ in 0..SCRIPTS {
        assert_eq!(scripts.line().await, "watching website, mail");
    }
    let mut late = Listening::start(&daemon, folder.path(), "exec python3 watch.py");
    assert_eq!(late.line().await, "watching website, mail");
    server.write("logins").await;
    assert_eq!(server.line().await, "2");
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
