//! The start and the end of the daemon: its socket, its signals, its exit codes.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::{Duration, Instant};

use common::daemon::Folder;
use common::transcript::compare;
use common::{Chat, Daemon, QUICK, Upstream, refusal, within};
use rustix::process::Signal;

const GOODBYE: &str = r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"shutdown"}}"#;

#[tokio::test]
async fn a_signal_ends_it_with_a_goodbye_on_both_sides() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut chat, mut ws) = Chat::joined("").await;
        let mut idle = chat.daemon.attach().await;
        idle.expect_silence().await;
        chat.daemon.signal(signal);
        // The lifecycle line of the end, where there is one, comes before the goodbye.
        let mut line = chat.consumer.next_line().await.expect("a goodbye comes before the end");
        if line.contains(r#""method":"lifecycle""#) {
            line = chat.consumer.next_line().await.expect("a goodbye comes before the end");
        }
        compare(GOODBYE, &line).expect("the last line is the goodbye");
        chat.consumer.expect_end().await;
        idle.expect(GOODBYE).await;
        idle.expect_end().await;
        ws.expect("41").await;
        ws.expect_closed().await;
        let status = chat.daemon.exit().await;
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert!(!chat.daemon.folder().socket().exists(), "the socket is removed");
    }
}

#[tokio::test]
async fn what_was_asked_before_the_end_is_answered() {
    let mut chat = Chat::idle("").await;
    // It waits in the buffer, and the shutdown is the end of its waiting.
    chat.consumer
        .send(r#"{"id":1,"method":"emit","params":{"connection":"chat","event":"ask","ack":true}}"#)
        .await;
    chat.consumer.request(r#"{"id":2,"method":"list"}"#).await;
    chat.daemon.signal(Signal::TERM);
    chat.consumer.expect_answer(&refusal("1", -32004, "disconnected")).await;
    assert_eq!(chat.daemon.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_server_that_does_not_answer_holds_nothing_up() {
    let mut chat = Chat::idle("").await;
    chat.start().await;
    let _held = chat.upstream.handshake().await;
    assert_eq!(chat.daemon.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut stuck = chat.daemon.attach().await;
    stuck
        .call(
            r#"{"id":1,"method":"subscribe","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#,
        )
        .await;
    // More than the kernel takes for a consumer that does not read, so that a flush has to wait.
    let text = "x".repeat(64 * 1024);
    for _ in 0..32 {
        ws.send(&format!(r#"42["big","{text}"]"#)).await;
        chat.consumer.next_notification().await;
    }
    let first = Instant::now();
    chat.daemon.signal(Signal::TERM);
    while chat.consumer.next_line().await.is_some_and(|line| !line.contains("goodbye")) {}
    chat.daemon.signal(Signal::TERM);
    chat.daemon.exit().await;
    assert!(first.elapsed() < Duration::from_millis(4500), "flushing alone may take 5 s");
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_harms_nothing() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = daemon.attach().await;
    let (status, log) = daemon.folder().run_to_end().await;
    assert_eq!(status.code(), Some(1), "{log}");
    let socket = daemon.folder().socket();
    assert!(log.contains(&*socket.to_string_lossy()), "the message names the socket: {log}");
    consumer.expect_silence().await;
    daemon.attach().await.expect_silence().await;
}

#[tokio::test]
async fn a_stale_socket_is_taken_over() {
    let folder = Folder::new(QUICK);
    common::stale_socket(&folder.socket());
    assert!(folder.socket().exists(), "the file outlives its socket");
    let daemon = Daemon::start_in(folder).await;
    daemon.attach().await.expect_silence().await;
}

#[tokio::test]
async fn a_daemon_that_was_killed_leaves_nothing_in_the_way() {
    let mut daemon = Daemon::start(QUICK).await;
    daemon.signal(Signal::KILL);
    daemon.exit().await;
    let folder = daemon.into_folder();
    assert!(folder.socket().exists(), "a killed daemon removes nothing");
    let daemon = Daemon::start_in(folder).await;
    daemon.attach().await.expect_silence().await;
}

#[tokio::test]
async fn who_waits_for_a_connection_is_answered_before_the_goodbye() {
    let mut chat = Chat::idle("").await;
    chat.consumer.send(r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":20000}}"#).await;
    let _handshake = chat.upstream.handshake().await;
    chat.daemon.signal(Signal::TERM);
    chat.consumer.expect(&refusal("1", -32009, "connect_failed")).await;
    chat.consumer.expect(r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"shutdown"}}"#).await;
    assert!(chat.daemon.exit().await.success());
}

#[tokio::test]
async fn a_reload_that_waits_for_a_program_does_not_hold_the_end_up() {
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let config = |events: u32| {
        let api = "[api]\nstall = \"1h\"";
        format!("{QUICK}\n{api}\n[connections.chat]\nurl = \"{url}\"\nhistory.events = {events}\n")
    };
    let daemon = Daemon::start(&config(8)).await;
    let mut stuck = Chat::with(upstream, daemon).await;
    stuck.start().await;
    let mut ws = stuck.join().await;
    let mut other = stuck.daemon.attach().await;
    let text = "x".repeat(64 * 1024);
    for _ in 0..32 {
        ws.feed(&format!(r#"42["n","{text}"]"#)).await;
    }
    ws.flush().await;
    let mut behind = 0;
    while behind < 8 {
        let status = r#"{"jsonrpc":"2.0","id":1,"result":{"consumers":[{"lag":…lag,"…":…},…],"…":…}}"#;
        behind = other.call(r#"{"id":1,"method":"status"}"#, status).await.number("lag");
    }
    // What the connection has yet to say has no room until the one that is stuck moves on.
    stuck.daemon.folder().configure(&config(9));
    other.send(r#"{"id":2,"method":"reload"}"#).await;
    assert!(stuck.daemon.told().await.starts_with("RELOADING=1"));
    let mut watcher = stuck.daemon.attach().await;
    let gone = r#"{"jsonrpc":"2.0","id":3,"result":{"connections":[]}}"#;
    within("the connection to leave", async {
        while compare(gone, &watcher.request(r#"{"id":3,"method":"list"}"#).await).is_err() {}
    })
    .await;
    assert_eq!(stuck.daemon.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_plain_file_is_never_taken_for_a_socket() {
    let folder = Folder::new(QUICK);
    fs::write(folder.socket(), "precious").expect("a file in the test's own folder");
    let (status, log) = folder.run_to_end().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert_eq!(fs::read_to_string(folder.socket()).expect("it is still there"), "precious");
}

#[tokio::test]
async fn a_socket_that_cannot_be_bound_is_exit_1() {
    let folder = Folder::new(QUICK);
    fs::create_dir(folder.socket()).expect("a folder in the test's own folder");
    let (status, log) = folder.run_to_end().await;
    assert_eq!(status.code(), Some(1), "{log}");
}

#[tokio::test]
async fn the_socket_is_for_whom_the_configuration_says() {
    for (api, mode) in [("", 0o600), ("[api]\nmode = \"0660\"\n", 0o660)] {
        let daemon = Daemon::start(api).await;
        let socket = fs::metadata(daemon.folder().socket()).expect("the socket is there");
        assert!(socket.file_type().is_socket());
        assert_eq!(socket.permissions().mode() & 0o777, mode, "{api}");
    }
}

#[tokio::test]
async fn a_configuration_that_does_not_load_is_exit_78() {
    for config in ["[api]\nsockt = \"x\"\n", "[connections.chat]\nurl = \"not an url\"\n", "]["] {
        let (status, log) = Folder::new(config).run_to_end().await;
        assert_eq!(status.code(), Some(78), "{config}: {log}");
    }
}

#[tokio::test]
async fn it_takes_as_many_descriptors_as_it_may_have() {
    let daemon = Daemon::start(QUICK).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).expect("it runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("there is such a limit");
    let [soft, hard] = [3, 4].map(|column| line.split_whitespace().nth(column));
    assert_eq!(soft, hard, "{line}");
}
