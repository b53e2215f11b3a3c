//! `siod doctor`: where the way to a server ends, step by step.

mod common;

use common::node::NodeServer;
use common::{Upstream, within};
use tokio::process::Command;

/// The exit code and what was printed, times left out.
async fn doctor(arguments: &[&str]) -> (i32, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_siod"))
        .arg("doctor")
        .args(arguments)
        .env_clear()
        .kill_on_drop(true)
        .output();
    let output = within("the doctor", run).await.expect("the binary can be started");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let words = |line: &str| match line.split_once(" ms  ") {
        Some((before, rest)) => {
            let phase = before.split_whitespace().next().unwrap_or_default();
            format!("{phase}: {rest}")
        }
        None => line.trim().to_owned(),
    };
    let text = text.lines().map(words).collect::<Vec<_>>().join("\n");
    let code = output.status.code().expect("an exit code");
    (code, text + &String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_healthy_server_is_described_over_each_transport() {
    let server = NodeServer::start(r#"{"cookie":true}"#).await;
    let (code, text) =
        doctor(&[&format!("{}/private", server.url()), "--auth", r#"{"token":"secret"}"#]).await;
    assert_eq!(code, 0, "{text}");
    let address = server.url().replace("http://", "");
    let (websocket, polling) = text.split_once("\npolling\n").expect("both transports");
    for line in [
        "namespace /private",
        &format!("tcp: connected to {address}"),
        "http: answered with 101",
        "engine: Engine.IO 4 session open: heartbeat every 25s, given up after 45s; upgrades: none; largest message: 1000000 bytes",
        "namespace: joined /private as ",
    ] {
        assert!(websocket.contains(line), "{line} in {text}");
    }
    for line in [
        "http: answered with 200, sets the cookies io",
        "upgrades: websocket",
        "namespace: joined /private as ",
        "siod connects over websocket",
    ] {
        assert!(polling.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_refusal_names_its_phase_and_exits_3() {
    let server = NodeServer::start("{}").await;
    let (code, text) = doctor(&[&format!("{}/private", server.url()), "--set", "timeout=5s"]).await;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("namespace: FAILED: not authorized"), "{text}");
    assert!(text.contains("siod cannot connect"), "{text}");

    let (code, text) = doctor(&[&server.url().replace("http:", "https:")]).await;
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("tls: FAILED: websocket error\nwhat the server sends is not TLS\nhint: "),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_fails_where_it_is_silent() {
    let mut upstream = Upstream::start().await;
    let url = upstream.url();
    let arguments = [&*url, "--set", "timeout=300ms", "--set", "transports=[\"websocket\"]"];
    let run = doctor(&arguments);
    let silent = async {
        let handshake = upstream.handshake().await;
        std::future::pending::<()>().await;
        drop(handshake);
    };
    let (code, text) = tokio::select! {
        outcome = run => outcome,
        () = silent => unreachable!("it waits for ever"),
    };
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("http: FAILED: timeout\nno end of: GET /socket.io/"), "{text}");
}

#[tokio::test]
async fn arguments_that_say_nothing_are_usage_errors() {
    for (arguments, message) in [
        (&["nowhere"][..], "\"nowhere\" is neither a URL"),
        (&["ftp://h"], "url: has the scheme \"ftp\""),
        (&["http://h", "--set", "timeout=soon"], "timeout"),
        (&["http://h", "--set", "url=http://other"], "--set url: give it as URL"),
        (&["name", "--set", "timeout=1s"], "--auth and --set go with a URL"),
    ] {
        let (code, text) = doctor(arguments).await;
        assert_eq!(code, 2, "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
    }
}
