//! What outlives the daemon: with `state.dir` a restart goes on where the run before has ended.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use common::daemon::Folder;
use common::node::{NodeServer, WAYS};
use common::transcript::{Captures, compare};
use common::upstream::OPEN;
use common::{Consumer, Daemon, QUICK, Upstream, Ws, within};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};

const STATE: &str = "[state]\ndir = \"${STATE_DIRECTORY}\"\n";

/// What a server with connection state recovery answers.
const JOINED: &str = r#"40{"sid":"socket-1","pid":"P"}"#;

/// A folder whose daemon keeps its state in `state` below it.
fn folder(config: &str) -> Folder {
    let folder = Folder::new(&format!("{STATE}{config}"));
    let dir = folder.path().join("state");
    folder.variable("STATE_DIRECTORY", dir.to_str().expect("a path of UTF-8"))
}

/// A connection `chat` that begins by itself.
fn chat(url: &str, more: &str) -> String {
    format!("{QUICK}\n[connections.chat]\nurl = \"{url}\"\nauto_connect = true\n{more}\n")
}

fn state_file(folder: &Folder) -> PathBuf {
    folder.path().join("state/state")
}

/// Lets the daemon join, which must say `connect`; `before` comes ahead of the answer.
async fn join(upstream: &mut Upstream, connect: &str, before: &[String]) -> Ws {
    let mut ws = upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(connect).await;
    for packet in before {
        ws.send(packet).await;
    }
    ws.send(JOINED).await;
    ws
}

/// Subscribes to `chat`; gives the answer's stream.
async fn subscribe(consumer: &mut Consumer, more: &str, answer: &str) -> (Captures, String) {
    let request = format!(r#"{{"id":0,"method":"subscribe","params":{{"connection":"chat"{more}}}}}"#);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":0,"result":{{"stream":…stream,{answer},"…":…}}}}"#);
    let captures = consumer.call(&request, &answer).await;
    let stream = captures["stream"].trim_matches('"').to_owned();
    (captures, stream)
}

fn after(stream: &str, seq: u64) -> String {
    format!(r#","after":{{"stream":"{stream}","seq":{seq}}}"#)
}

fn seq_of(line: &str) -> u64 {
    compare(r#"{"jsonrpc":"2.0","method":"…","params":{"seq":…seq,"…":…}}"#, line).unwrap().number("seq")
}

fn event(seq: u64, name: &str, args: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"event","params":{{"connection":"chat","seq":{seq},"event":"{name}","args":{args}}}}}"#
    )
}

fn lifecycle(seq: u64, members: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"chat","seq":{seq},{members},"time":"…"}}}}"#
    )
}

fn opened(seq: u64) -> String {
    lifecycle(seq, r#""event":"opened","by":"config","active":true"#)
}

fn connected(seq: u64, recovered: bool) -> String {
    lifecycle(
        seq,
        &format!(
            r#""event":"connect","id":"socket-1","recovered":{recovered},"transport":"websocket","active":true"#
        ),
    )
}

fn left(seq: u64) -> String {
    lifecycle(seq, r#""event":"disconnect","reason":"io client disconnect","details":null,"active":false"#)
}

/// Ends the daemon in order, or at once; what it logged is checked by who wants to.
async fn end(mut daemon: Daemon, signal: Signal) -> (Arc<Folder>, String) {
    daemon.signal(signal);
    let status = daemon.exit().await;
    assert_eq!(status.success(), signal == Signal::TERM, "{status}");
    let log = daemon.log().await;
    (daemon.into_folder(), log)
}

/// Waits until the file of the interval says `text`.
async fn kept(folder: &Folder, text: &str) {
    let says = async {
        loop {
            let file = fs::read(state_file(folder)).unwrap_or_default();
            if String::from_utf8_lossy(&file).contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the state to be written", says).await;
}

#[tokio::test]
async fn a_restart_in_a_stream_of_events_leaves_no_hole() {
    let mut upstream = Upstream::start().await;
    let daemon = Daemon::start_in(folder(&chat(&upstream.url(), ""))).await;
    let mut consumer = daemon.attach().await;
    let mut ws = join(&mut upstream, "40", &[]).await;
    let (_, stream) = subscribe(&mut consumer, r#","last":9"#, r#""missed":0"#).await;

    // The server goes on while the daemon ends; what it has sent last may not have been taken.
    let mut lines = Vec::new();
    let (first, last) = (50, 250);
    for n in 1..=first {
        ws.send(&format!(r#"42["n",{n},"{n}"]"#)).await;
    }
    while !lines.last().is_some_and(|line: &String| line.contains(&format!(r#""args":[{first},"#))) {
        lines.push(consumer.next_notification().await);
    }
    daemon.signal(Signal::TERM);
    for n in first + 1..=last {
        ws.feed(&format!(r#"42["n",{n},"{n}"]"#)).await;
    }
    ws.flush().await;
    while let Some(line) = consumer.next_line().await {
        lines.push(line);
    }
    assert_eq!(ws.next_text_or_end().await, None, "a DISCONNECT would end the session");
    let goodbye = lines.pop().expect("there is a goodbye");
    assert!(goodbye.contains("goodbye"), "{goodbye}");
    let (folder, _) = end_of(daemon).await;

    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    let heard = lines.last().map(|line| seq_of(line)).expect("something was heard");
    let (_, again) = subscribe(&mut consumer, &after(&stream, heard), r#""missed":0"#).await;
    assert_eq!(again, stream, "the stream goes on");

    // The server replays what came after the offset, and goes on.
    let mut ws = upstream.accept_ws().await;
    ws.send(OPEN).await;
    let connect = ws.next_text_or_end().await.expect("a CONNECT");
    let offset: u64 = connect
        .strip_prefix(r#"40{"pid":"P","offset":""#)
        .and_then(|rest| rest.strip_suffix(r#""}"#))
        .and_then(|offset| offset.parse().ok())
        .unwrap_or_else(|| panic!("{connect} does not ask for the session"));
    for n in offset + 1..=last {
        ws.send(&format!(r#"42["n",{n},"{n}"]"#)).await;
    }
    ws.send(JOINED).await;
    ws.send(r#"42["n",0,"end"]"#).await;
    while !lines.last().is_some_and(|line| line.contains(r#""args":[0,"end"]"#)) {
        lines.push(consumer.next_notification().await);
    }

    let seqs: Vec<u64> = lines.iter().map(|line| seq_of(line)).collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "every number once: {seqs:?}");
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    for n in 1..=last {
        assert_eq!(count(&format!(r#""args":[{n},"{n}"]"#)), 1, "event {n}");
    }
    for (what, times) in [(r#""opened""#, 2), (r#""disconnect""#, 1), (r#""recovered":true"#, 1)] {
        assert_eq!(count(what), times, "{what}");
    }
}

/// The end of one that was told to.
async fn end_of(mut daemon: Daemon) -> (Arc<Folder>, String) {
    assert_eq!(daemon.exit().await.code(), Some(0));
    let log = daemon.log().await;
    (daemon.into_folder(), log)
}

#[tokio::test]
async fn what_waited_for_room_in_the_ring_is_in_it_or_is_asked_for_again() {
    let mut upstream = Upstream::start().await;
    let config = format!("[api]\nstall = \"1h\"\n{}", chat(&upstream.url(), "history.events = 8"));
    let daemon = Daemon::start_in(folder(&config)).await;
    let mut ws = join(&mut upstream, "40", &[]).await;
    // It holds the ring up: it takes nothing, and does not count as stalled.
    let mut stuck = daemon.attach().await;
    let (_, stream) = subscribe(&mut stuck, "", r#""missed":0"#).await;
    let text = "x".repeat(64 * 1024);
    for n in 1..=32 {
        ws.send(&format!(r#"42["n",{n},"{text}","{n}"]"#)).await;
    }
    let mut consumer = daemon.attach().await;
    let mut behind = 0;
    while behind < 8 {
        let status =
            r#"{"jsonrpc":"2.0","id":1,"result":{"consumers":[{"consumer":"c1","lag":…lag,"…":…},…],"…":…}}"#;
        behind = consumer.call(r#"{"id":1,"method":"status"}"#, status).await.number("lag");
    }
    let (folder, _) = end(daemon, Signal::TERM).await;

    let daemon = Daemon::start_in(folder).await;
    let mut ws = upstream.accept_ws().await;
    ws.send(OPEN).await;
    let connect = ws.next_text_or_end().await.expect("a CONNECT");
    let mut consumer = daemon.attach().await;
    let last = r#"{"id":1,"method":"subscribe","params":{"connection":"chat","events":["n"],"lifecycle":false,"last":1}}"#;
    let answer = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"stream":"{stream}","replayed":1,"…":…}}}}"#);
    consumer.call(last, &answer).await;
    let line = consumer.next_notification().await;
    let newest = r#"{"jsonrpc":"2.0","method":"event","params":{"args":[…n,"…","…"],"…":…}}"#;
    let n = compare(newest, &line).unwrap().number("n");
    assert_eq!(connect, format!(r#"40{{"pid":"P","offset":"{n}"}}"#));
}

#[tokio::test]
async fn the_official_server_gives_the_session_back() {
    for (options, transport) in WAYS {
        let mut server = NodeServer::start(r#"{"connectionStateRecovery":{}}"#).await;
        let config = format!("[connections.chat]\nurl = \"{}\"\n{options}\n", server.url());
        let daemon = Daemon::start_in(folder(&config)).await;
        let mut consumer = daemon.attach().await;
        let (_, stream) = subscribe(&mut consumer, r#","last":9"#, r#""missed":0"#).await;
        let mut heard = Vec::new();
        while !heard.iter().any(|line: &String| line.contains(r#""event":"connect""#)) {
            heard.push(consumer.next_notification().await);
        }
        if options.contains("polling") && *transport == "websocket" {
            heard.push(consumer.next_notification().await);
            assert!(heard.last().is_some_and(|line| line.contains(r#""upgrade""#)), "{heard:?}");
        }
        server.command(r#"{"do":"emit","event":"first"}"#).await;
        heard.push(consumer.next_notification().await);
        assert!(heard.last().is_some_and(|line| line.contains(r#""event":"first""#)), "{heard:?}");
        let (folder, _) = end(daemon, Signal::TERM).await;

        // Nobody is there to hear it.
        server.command(r#"{"do":"emit","event":"second"}"#).await;
        server.command(r#"{"do":"emit","event":"third"}"#).await;

        let daemon = Daemon::start_in(folder).await;
        let mut consumer = daemon.attach().await;
        let seq = heard.last().map(|line| seq_of(line)).expect("something was heard");
        subscribe(&mut consumer, &after(&stream, seq), r#""missed":0"#).await;
        consumer.hear(&left(seq + 1)).await;
        consumer.hear(&opened(seq + 2)).await;
        consumer.hear(&event(seq + 3, "second", r#"["…"]"#)).await;
        consumer.hear(&event(seq + 4, "third", r#"["…"]"#)).await;
        let line = consumer.next_notification().await;
        let id = heard.iter().find_map(|line| {
            compare(
                r#"{"jsonrpc":"2.0","method":"lifecycle","params":{"event":"connect","id":…id,"…":…}}"#,
                line,
            )
            .ok()
        });
        let id = id.expect("there was a connect")["id"].to_owned();
        let recovered =
            format!(r#""event":"connect","id":{id},"recovered":true,"transport":"…","active":true"#);
        compare(&lifecycle(seq + 5, &recovered), &line).unwrap_or_else(|error| panic!("{options}: {error}"));
    }
}

#[tokio::test]
async fn after_a_kill_a_new_stream_says_so_and_the_session_is_recovered() {
    let mut upstream = Upstream::start().await;
    let config = chat(&upstream.url(), r#"sticky = ["list", "info*"]"#);
    let daemon = Daemon::start_in(folder(&config)).await;
    let mut ws = join(&mut upstream, "40", &[]).await;
    let mut consumer = daemon.attach().await;
    let (_, stream) = subscribe(&mut consumer, r#","last":9"#, r#""missed":0"#).await;
    for (name, offset) in [("list", "o1"), ("other", "o2"), ("info1", "o3")] {
        ws.send(&format!(r#"42["{name}","{offset}"]"#)).await;
    }
    for seq in 1..=5 {
        assert_eq!(seq_of(&consumer.next_notification().await), seq);
    }
    kept(daemon.folder(), r#""offset":"o3""#).await;
    // This one is in nothing that was written.
    ws.send(r#"42["late","o4"]"#).await;
    consumer.hear(&event(6, "late", r#"["o4"]"#)).await;
    let (folder, _) = end(daemon, Signal::KILL).await;

    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    let late = [r#"42["late","o4"]"#.to_owned()];
    let _ws = join(&mut upstream, r#"40{"pid":"P","offset":"o3"}"#, &late).await;
    let more = format!(r#"{},"sticky":true"#, after(&stream, 6));
    let (_, new) = subscribe(&mut consumer, &more, r#""missed":null"#).await;
    assert_ne!(new, stream, "numbers of the stream were given out that nobody has");
    // What the server will not say again is still known, and everything else begins behind it.
    consumer.hear(&event(1, "list", r#"["o1"]"#)).await;
    consumer.hear(&event(2, "info1", r#"["o3"]"#)).await;
    consumer.hear(&opened(3)).await;
    consumer.hear(&event(4, "late", r#"["o4"]"#)).await;
    consumer.hear(&connected(5, true)).await;
    let mut daemon = daemon;
    daemon.terminate().await;
    let log = daemon.log().await;
    assert!(log.contains("WARN") && log.contains("did not end in order"), "{log}");
}

#[tokio::test]
async fn a_kill_after_an_orderly_end_does_not_give_numbers_out_twice() {
    let mut upstream = Upstream::start().await;
    let daemon = Daemon::start_in(folder(&chat(&upstream.url(), ""))).await;
    let mut consumer = daemon.attach().await;
    let mut ws = join(&mut upstream, "40", &[]).await;
    ws.send(r#"42["a","o1"]"#).await;
    let (_, stream) = subscribe(&mut consumer, r#","last":9"#, r#""missed":0"#).await;
    for line in [opened(1), connected(2, false), event(3, "a", r#"["o1"]"#)] {
        consumer.hear(&line).await;
    }
    let (folder, _) = end(daemon, Signal::TERM).await;

    let daemon = Daemon::start_in(folder).await;
    let _ws = join(&mut upstream, r#"40{"pid":"P","offset":"o1"}"#, &[]).await;
    let mut consumer = daemon.attach().await;
    let (_, again) = subscribe(&mut consumer, r#","last":9"#, r#""missed":0"#).await;
    assert_eq!(again, stream);
    for line in
        [opened(1), connected(2, false), event(3, "a", r#"["o1"]"#), left(4), opened(5), connected(6, true)]
    {
        consumer.hear(&line).await;
    }
    let (folder, _) = end(daemon, Signal::KILL).await;

    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    let (_, new) = subscribe(&mut consumer, &after(&stream, 6), r#""missed":null"#).await;
    assert_ne!(new, stream);
    consumer.hear(&opened(1)).await;
    // What was known at the start is good for the session all the same.
    let _ws = join(&mut upstream, r#"40{"pid":"P","offset":"o1"}"#, &[]).await;
    consumer.hear(&connected(2, true)).await;
}

#[tokio::test]
async fn what_the_server_cannot_give_back_is_left_and_the_numbers_go_on() {
    let mut upstream = Upstream::start().await;
    let daemon = Daemon::start_in(folder(&chat(&upstream.url(), "sticky = [\"s\"]"))).await;
    let mut consumer = daemon.attach().await;
    let mut ws = upstream.joined().await;
    ws.send(r#"42["s",1]"#).await;
    ws.send(r#"421["ask"]"#).await;
    let (_, stream) = subscribe(&mut consumer, r#","last":9"#, r#""missed":0"#).await;
    let asked = |seq, ack| event(seq, "ask", &format!(r#"[],"ack":{ack}"#));
    for line in [opened(1), connected(2, false), event(3, "s", "[1]"), asked(4, 1)] {
        consumer.hear(&line).await;
    }
    daemon.signal(Signal::TERM);
    // Everybody hears the last line before the goodbye.
    consumer.hear(&left(5)).await;
    consumer.hear(r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"shutdown"}}"#).await;
    ws.expect("41").await;
    ws.expect_closed().await;
    let (folder, _) = end_of(daemon).await;

    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    let mut ws = upstream.joined().await;
    ws.send(r#"421["ask"]"#).await;
    subscribe(&mut consumer, &after(&stream, 5), r#""missed":0"#).await;
    consumer.hear(&opened(6)).await;
    consumer.hear(&connected(7, false)).await;
    consumer.hear(&asked(8, 2)).await;
    let snapshot = r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"name":"chat","seq":8,"oldest_seq":1,"received":3,
        "last_disconnect":{"reason":"io client disconnect","…":…},"…":…}]}}"#;
    consumer.call(r#"{"id":1,"method":"list"}"#, snapshot).await;
    // A session that was not recovered says anew what holds.
    let sticky = r#"{"id":2,"method":"subscribe","params":{"connection":"chat","sticky":true}}"#;
    consumer.call(sticky, r#"{"jsonrpc":"2.0","id":2,"result":{"replayed":0,"…":…}}"#).await;
    // The question of the run before is not this run's first.
    let ack = |ack| format!(r#"{{"id":3,"method":"ack","params":{{"connection":"chat","ack":{ack}}}}}"#);
    consumer.call(&ack(1), &common::refusal("3", -32008, "unknown_ack")).await;
    consumer.call(&ack(2), r#"{"jsonrpc":"2.0","id":3,"result":{}}"#).await;
    ws.expect("431[]").await;
}

#[tokio::test]
async fn kept_lines_and_a_script_that_went_through_outlive_it_with_their_session() {
    let mut upstream = Upstream::start().await;
    let script = "sticky = [\"s\"]\n[[connections.chat.on_connect]]\nevent = \"login\"\nexpect = true";
    let daemon = Daemon::start_in(folder(&chat(&upstream.url(), script))).await;
    let mut consumer = daemon.attach().await;
    let mut ws = join(&mut upstream, "40", &[]).await;
    ws.expect(r#"420["login"]"#).await;
    ws.send("430[true]").await;
    ws.send(r#"42["s","o1"]"#).await;
    let (_, stream) = subscribe(&mut consumer, r#","last":9"#, r#""missed":0"#).await;
    let ready = |seq| lifecycle(seq, r#""event":"ready","active":true"#);
    for line in [opened(1), connected(2, false), ready(3), event(4, "s", r#"["o1"]"#)] {
        consumer.hear(&line).await;
    }
    let (folder, _) = end(daemon, Signal::TERM).await;

    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    let mut ws = join(&mut upstream, r#"40{"pid":"P","offset":"o1"}"#, &[]).await;
    let more = format!(r#"{},"sticky":true"#, after(&stream, 4));
    subscribe(&mut consumer, &more, r#""missed":0"#).await;
    for line in [event(4, "s", r#"["o1"]"#), left(5), opened(6), connected(7, true), ready(8)] {
        consumer.hear(&line).await;
    }
    consumer.send(r#"{"method":"emit","params":{"connection":"chat","event":"now"}}"#).await;
    ws.expect(r#"42["now"]"#).await;
}

#[tokio::test]
async fn another_server_or_somebody_else_gets_neither_the_ring_nor_the_session() {
    let mut upstream = Upstream::start().await;
    let url = upstream.url();
    let daemon = Daemon::start_in(folder(&chat(&url, ""))).await;
    let mut ws = join(&mut upstream, "40", &[]).await;
    ws.send(r#"42["a","o1"]"#).await;
    let mut consumer = daemon.attach().await;
    let (_, stream) = subscribe(&mut consumer, r#","last":9"#, r#""missed":0"#).await;
    for line in [opened(1), connected(2, false), event(3, "a", r#"["o1"]"#)] {
        consumer.hear(&line).await;
    }
    let (folder, _) = end(daemon, Signal::TERM).await;

    // Options that change neither let it go on.
    folder.configure(&format!("{STATE}{}", chat(&url, "reconnection_delay = 15\nhistory.events = 2")));
    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    let _ws = join(&mut upstream, r#"40{"pid":"P","offset":"o1"}"#, &[]).await;
    subscribe(&mut consumer, &after(&stream, 5), r#""missed":0"#).await;
    consumer.hear(&connected(6, true)).await;
    let (folder, _) = end(daemon, Signal::TERM).await;

    folder.configure(&format!("{STATE}{}", chat(&url, "auth = { token = \"other\" }")));
    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    let _ws = join(&mut upstream, r#"40{"token":"other"}"#, &[]).await;
    let (_, again) = subscribe(&mut consumer, &after(&stream, 3), r#""missed":4"#).await;
    assert_eq!(again, stream);
    consumer.hear(&opened(8)).await;
    consumer.hear(&connected(9, false)).await;
}

#[tokio::test]
async fn a_session_of_somebody_else_is_left_for_good() {
    let mut upstream = Upstream::start().await;
    let daemon = Daemon::start_in(folder(&chat(&upstream.url(), ""))).await;
    let mut consumer = daemon.attach().await;
    let mut ws = join(&mut upstream, "40", &[]).await;
    subscribe(&mut consumer, r#","events":["a"]"#, r#""missed":0"#).await;
    ws.send(r#"42["a","o1"]"#).await;
    consumer.hear(&event(3, "a", r#"["o1"]"#)).await;
    let auth = r#"{"id":2,"method":"set_auth","params":{"connection":"chat","auth":{"token":"t"}}}"#;
    consumer.call(auth, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#).await;
    daemon.signal(Signal::TERM);
    ws.expect("41").await;
    ws.expect_closed().await;
    let (folder, _) = end_of(daemon).await;

    let _daemon = Daemon::start_in(folder).await;
    let _ws = join(&mut upstream, "40", &[]).await;
}

#[tokio::test]
async fn of_a_connection_that_a_program_opened_the_counter_is_kept() {
    let mut upstream = Upstream::start().await;
    let mut daemon = Daemon::start_in(folder(QUICK)).await;
    let open = format!(
        r#"{{"id":1,"method":"open","params":{{"name":"chat","url":"{}","persist":true,"auto_connect":true}}}}"#,
        upstream.url()
    );
    let mut stream = String::new();
    for (seq, missed) in [(1, 0), (5, 4), (9, 4)] {
        let mut consumer = daemon.attach().await;
        let list = r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[]}}"#;
        consumer.call(r#"{"id":1,"method":"list"}"#, list).await;
        consumer.call(&open, r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"…":…}}"#).await;
        // A CONNECT that asks for nothing: whoever opens the name now may be somebody else.
        let mut ws = join(&mut upstream, "40", &[]).await;
        ws.send(r#"42["a","o1"]"#).await;
        let more = if missed == 0 { r#","last":9"#.to_owned() } else { after(&stream, seq - 5) };
        let (_, again) = subscribe(&mut consumer, &more, &format!(r#""missed":{missed}"#)).await;
        assert!(stream.is_empty() || again == stream);
        stream = again;
        consumer.hear(&lifecycle(seq, r#""event":"opened","by":"consumer","active":true"#)).await;
        consumer.hear(&connected(seq + 1, false)).await;
        consumer.hear(&event(seq + 2, "a", r#"["o1"]"#)).await;
        consumer.send(r#"{"method":"disconnect","params":{"connection":"chat"}}"#).await;
        consumer.hear(&left(seq + 3)).await;
        drop(consumer);
        let (folder, _) = end(daemon, Signal::TERM).await;
        daemon = Daemon::start_in(folder).await;
    }
}

#[tokio::test]
async fn another_connection_of_the_same_name_has_no_failures_of_the_first() {
    let open = |url: &str| {
        let options = r#""persist":true,"reconnection":false"#;
        format!(r#"{{"id":1,"method":"open","params":{{"name":"chat","url":"{url}",{options}}}}}"#)
    };
    let daemon = Daemon::start_in(folder(QUICK)).await;
    let mut consumer = daemon.attach().await;
    consumer.call(&open("http://127.0.0.1:1"), r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#).await;
    let connect = r#"{"id":2,"method":"connect","params":{"connection":"chat","wait":20000}}"#;
    consumer.call(connect, &common::refusal("2", -32009, "connect_failed")).await;
    let failed = r#"{"jsonrpc":"2.0","id":3,"result":{"connections":[{"last_error":{"…":…},"…":…}]}}"#;
    consumer.call(r#"{"id":3,"method":"list"}"#, failed).await;
    let (folder, _) = end(daemon, Signal::TERM).await;

    let daemon = Daemon::start_in(folder).await;
    let other = r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"connection":{"last_error":null,"last_disconnect":null,"…":…}}}"#;
    daemon.attach().await.call(&open("http://127.0.0.1:2"), other).await;
}

#[tokio::test]
async fn what_was_to_be_sent_and_who_it_was_to_be_is_not_kept() {
    let mut upstream = Upstream::start().await;
    let daemon = Daemon::start_in(folder(&chat(&upstream.url(), ""))).await;
    let mut consumer = daemon.attach().await;
    let _ws = upstream.joined().await;
    let disconnect = r#"{"id":1,"method":"disconnect","params":{"connection":"chat"}}"#;
    consumer.call(disconnect, r#"{"jsonrpc":"2.0","id":1,"result":{"active":false,"…":…}}"#).await;
    let auth = r#"{"id":2,"method":"set_auth","params":{"connection":"chat","auth":{"token":"t"}}}"#;
    consumer.call(auth, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#).await;
    let early = r#"{"id":3,"method":"emit","params":{"connection":"chat","event":"early"}}"#;
    let buffered = r#"{"jsonrpc":"2.0","id":3,"result":{"status":"buffered","active":false}}"#;
    consumer.call(early, buffered).await;
    let (folder, _) = end(daemon, Signal::TERM).await;

    let daemon = Daemon::start_in(folder).await;
    let mut ws = join(&mut upstream, "40", &[]).await;
    let mut consumer = daemon.attach().await;
    let late = r#"{"id":4,"method":"emit","params":{"connection":"chat","event":"late","ack":true}}"#;
    consumer.send(late).await;
    ws.expect(r#"420["late"]"#).await;
    ws.send("430[]").await;
    consumer.expect_answer(r#"{"jsonrpc":"2.0","id":4,"result":{"args":[]}}"#).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_and_a_new_stream_begins() {
    type Harm = fn(&Path);
    let rows: [(Harm, &str); 7] = [
        (|file| fs::write(file, "").unwrap(), "it is cut off"),
        (|file| fs::write(file, "siod state 9\n…………").unwrap(), "another version of siod"),
        (
            |file| fs::write(file, "[connections]\nnothing\nof\nthe\nkind\n").unwrap(),
            "it is no state of siod",
        ),
        (
            |file| {
                let mut state = fs::read(file).unwrap();
                let at = state.len() - 9;
                state[at] ^= 1;
                fs::write(file, state).unwrap();
            },
            "it is damaged",
        ),
        (|file| fs::set_permissions(file, fs::Permissions::from_mode(0o622)).unwrap(), "others can write it"),
        (
            |file| {
                fs::rename(file, file.with_extension("else")).unwrap();
                std::os::unix::fs::symlink(file.with_extension("else"), file).unwrap();
            },
            "it cannot be read",
        ),
        (
            |file| {
                fs::remove_file(file).unwrap();
                rustix::fs::mkfifoat(rustix::fs::CWD, file, rustix::fs::Mode::RWXU).unwrap();
            },
            "it is no regular file",
        ),
    ];
    let mut daemon =
        Daemon::start_in(folder(&format!("{QUICK}[connections.chat]\nurl = \"http://127.0.0.1:1\"\n"))).await;
    let mut before = String::new();
    for (harm, reason) in rows {
        let mut consumer = daemon.attach().await;
        let (_, stream) = subscribe(&mut consumer, "", r#""connections":[{"seq":1,"…":…}]"#).await;
        assert_ne!(stream, before, "{reason}");
        before = stream;
        let (folder, _) = end(daemon, Signal::TERM).await;
        let file = state_file(&folder);
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        harm(&file);
        let mut broken = Daemon::start_in(folder).await;
        broken.terminate().await;
        let log = broken.log().await;
        let said = log.lines().find(|line| line.contains("WARN") && line.contains(&*file.to_string_lossy()));
        assert!(said.is_some_and(|line| line.contains(reason)), "{reason}: {log}");
        let folder = broken.into_folder();
        // Its own file, written at its end, is in order again; the next row starts without.
        fs::remove_file(&file).unwrap();
        daemon = Daemon::start_in(folder).await;
    }
}

#[tokio::test]
async fn where_nothing_can_be_written_it_serves_on_and_says_so() {
    let stream_of = async |daemon: &Daemon| {
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"stream":…stream,"…":…}}"#;
        daemon.attach().await.call(r#"{"id":1,"method":"hello"}"#, answer).await["stream"].to_owned()
    };
    let daemon = Daemon::start_in(folder(QUICK)).await;
    let first = stream_of(&daemon).await;
    let (folder, _) = end(daemon, Signal::TERM).await;
    let in_the_way = folder.path().join("state/state.new");
    fs::create_dir(&in_the_way).unwrap();
    let daemon = Daemon::start_in(folder).await;
    assert_eq!(stream_of(&daemon).await, first);
    assert!(
        !state_file(daemon.folder()).exists(),
        "a file that is not true any more would give numbers out twice"
    );
    let (folder, log) = end(daemon, Signal::TERM).await;
    for words in ["the state cannot be written", "the state cannot be kept"] {
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(words)), "{words}: {log}");
    }
    fs::remove_dir(in_the_way).unwrap();
    assert_ne!(stream_of(&Daemon::start_in(folder).await).await, first);
}

#[tokio::test]
async fn where_there_is_no_room_it_starts_all_the_same() {
    // No file can grow, as on a disk that is full.
    let full = "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"";
    let folder = folder(QUICK);
    let command = folder.command_as(&["sh", "-c", full, env!("CARGO_BIN_EXE_siod")]);
    let mut daemon = Daemon::start_with(folder, command).await;
    daemon.attach().await.expect_silence().await;
    assert!(daemon.terminate().await.success());
    let log = daemon.log().await;
    for words in ["the state cannot be written", "the state cannot be kept"] {
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(words)), "{words}: {log}");
    }
    // Two that have no room for their names keep each other out as well.
    let command = daemon.folder().command_as(&["sh", "-c", full, env!("CARGO_BIN_EXE_siod")]);
    let daemon = Daemon::start_with(daemon.into_folder(), command).await;
    let (status, log) = daemon.folder().run_to_end().await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("is in use; stop the other daemon"), "{log}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_refused() {
    let refused = async |folder: &Folder, code: i32, reason: &str| {
        let (status, log) = folder.run_to_end().await;
        assert_eq!(status.code(), Some(code), "{reason}: {log}");
        assert!(log.contains("state.dir: ") && log.contains(reason), "{reason}: {log}");
    };
    let taken = folder(QUICK);
    let dir = taken.path().join("state");
    let other = Folder::new(&format!("{STATE}{QUICK}")).variable("STATE_DIRECTORY", dir.to_str().unwrap());
    let daemon = Daemon::start_in(taken).await;
    refused(&other, 1, &format!("{} is in use by process {}", dir.display(), daemon.pid())).await;
    drop(daemon);

    let open = folder(QUICK);
    let dir = open.path().join("state");
    fs::write(&dir, "").unwrap();
    refused(&open, 78, "is no folder").await;
    fs::remove_file(&dir).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &dir, rustix::fs::Mode::RWXU).unwrap();
    refused(&open, 78, "is no folder").await;
    fs::remove_file(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o775)).unwrap();
    refused(&open, 78, "chmod go-w").await;

    let open = folder(QUICK);
    let deep = open.path().join("missing/below");
    let deep = open.variable("STATE_DIRECTORY", deep.to_str().unwrap());
    refused(&deep, 78, "missing/below: cannot create this folder").await;
}

#[tokio::test]
async fn another_folder_takes_a_restart() {
    let folder = folder(QUICK);
    let other = folder.path().join("other");
    let daemon = Daemon::start_in(folder).await;
    daemon.folder().configure(&format!("[state]\ndir = \"{}\"\n{QUICK}", other.display()));
    let mut consumer = daemon.attach().await;
    let answer = r#"{"jsonrpc":"2.0","id":9,"result":{"needs_restart":["state.dir"],"…":…}}"#;
    consumer.call(r#"{"id":9,"method":"reload"}"#, answer).await;
    let (folder, _) = end(daemon, Signal::TERM).await;
    assert!(state_file(&folder).exists() && !other.exists());
}

#[tokio::test]
async fn listening_goes_on_over_a_restart_and_prints_every_event_once() {
    let mut upstream = Upstream::start().await;
    let daemon = Daemon::start_in(folder(&chat(&upstream.url(), ""))).await;
    let mut ws = join(&mut upstream, "40", &[]).await;
    let mut listen = tokio::process::Command::new(env!("CARGO_BIN_EXE_siod"))
        .args(["listen", "chat", "--last", "9", "--socket"])
        .arg(daemon.folder().socket())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("siod can be started");
    let mut printed = BufReader::new(listen.stdout.take().expect("stdout is piped")).lines();
    let mut next = async || {
        let line =
            within("a line of siod listen", printed.next_line()).await.expect("siod listen writes UTF-8");
        line.expect("siod listen goes on")
    };
    ws.send(r#"42["n",1,"1"]"#).await;
    for line in [opened(1), connected(2, false), event(3, "n", r#"[1,"1"]"#)] {
        compare(&line, &next().await).unwrap();
    }
    let (folder, _) = end(daemon, Signal::TERM).await;
    let _daemon = Daemon::start_in(folder).await;
    let missed = [r#"42["n",2,"2"]"#.to_owned()];
    let mut ws = join(&mut upstream, r#"40{"pid":"P","offset":"1"}"#, &missed).await;
    ws.send(r#"42["n",3,"3"]"#).await;
    for line in
        [left(4), opened(5), event(6, "n", r#"[2,"2"]"#), connected(7, true), event(8, "n", r#"[3,"3"]"#)]
    {
        let mut printed = next().await;
        while printed.contains("goodbye") {
            printed = next().await;
        }
        compare(&line, &printed).unwrap();
    }
}

#[tokio::test]
async fn without_a_folder_nothing_is_kept() {
    let folder = Folder::new(QUICK).variable("STATE_DIRECTORY", "/nonexistent");
    let daemon = Daemon::start_in(folder).await;
    let mut streams = Vec::new();
    let stream = r#"{"jsonrpc":"2.0","id":1,"result":{"stream":…stream,"…":…}}"#;
    streams
        .push(daemon.attach().await.call(r#"{"id":1,"method":"hello"}"#, stream).await["stream"].to_owned());
    let (folder, _) = end(daemon, Signal::TERM).await;
    let daemon = Daemon::start_in(folder).await;
    streams
        .push(daemon.attach().await.call(r#"{"id":1,"method":"hello"}"#, stream).await["stream"].to_owned());
    assert_ne!(streams[0], streams[1]);
}
