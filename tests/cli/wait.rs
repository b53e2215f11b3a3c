//! `siod wait`.

use crate::daemon::{Daemon, Peer, UNKNOWN, check, event, spawn, subscribe, within};

const HELLO: &str = r#""method":"hello","params":{"client":"siod wait"}"#;
const STATUS: &str = r#""method":"status","params":{"connection":"chat"}"#;

const UP: &str = r#""state":"connected","connected":true,"ready":true,"active":true"#;
const JOINED: &str = r#""state":"connected","connected":true,"ready":false,"active":true"#;
const COMING: &str = r#""state":"connecting","active":true"#;
const DOWN: &str = r#""state":"disconnected","active":false"#;

const IN_VAIN: &str =
    "siod: chat: not connected, and it does not come up by itself; run 'siod connect chat'\n";

/// Takes the subscription, and answers it with how the connection stands.
async fn subscribes(peer: &mut Peer, events: &str, standing: &str) {
    peer.expect(1, HELLO).await;
    peer.expect(2, &subscribe(&format!(r#""connection":"chat","events":[{events}]"#))).await;
    peer.answer(
        2,
        &format!(
            r#""result":{{"subscription":1,"stream":"s1","connections":[{{"name":"chat","seq":5,{standing}}}],"replayed":0,"missed":0}}"#
        ),
    )
    .await;
}

async fn changes(peer: &mut Peer, seq: u64, event: &str) {
    peer.say(&format!(
        r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"chat","seq":{seq},"event":"{event}"}}}}"#
    ))
    .await;
}

/// Takes the question how the connection stands, which comes on an attachment of its own.
async fn says(daemon: &Daemon, standing: &str) {
    let mut peer = daemon.accept().await;
    peer.expect(1, STATUS).await;
    let standing = format!(r#"{{"name":"chat",{standing}}}"#);
    peer.answer(1, &format!(r#""result":{{"daemon":{{"version":"1"}},"connections":[{standing}]}}"#)).await;
}

#[tokio::test]
async fn what_is_ready_or_lost_is_told_at_once() {
    for (args, standing, code, stderr) in [
        (&["wait", "chat"][..], UP, 0, ""),
        (&["wait", "chat", "--timeout", "0"], UP, 0, ""),
        (&["wait", "chat", "--timeout", "0"], COMING, 3, "siod: chat: not connected\n"),
        (&["wait", "chat", "--timeout", "0"], JOINED, 3, "siod: chat: not connected\n"),
        (&["wait", "chat"], DOWN, 3, IN_VAIN),
        (&["wait", "chat", "--timeout", "1m"], DOWN, 3, IN_VAIN),
    ] {
        let daemon = Daemon::start();
        let output = daemon
            .serve(daemon.siod(args), async |peer| {
                subscribes(peer, "", standing).await;
                peer.gone().await;
            })
            .await;
        check(&output, code, "", stderr);
    }
}

#[tokio::test]
async fn it_waits_for_the_script_too() {
    let daemon = Daemon::start();
    let output = daemon
        .serve(daemon.siod(&["wait", "chat"]), async |peer| {
            subscribes(peer, "", COMING).await;
            changes(peer, 6, "connect").await;
            says(&daemon, JOINED).await;
            changes(peer, 7, "ready").await;
            says(&daemon, UP).await;
            peer.gone().await;
        })
        .await;
    check(&output, 0, "", "");
}

/// Takes the question how the connection stands, and does not know it.
async fn does_not_know(daemon: &Daemon) {
    let mut peer = daemon.accept().await;
    peer.expect(1, STATUS).await;
    peer.answer(1, UNKNOWN).await;
}

#[tokio::test]
async fn it_gives_up_when_nothing_will_come() {
    let gone = "siod: chat: there is no such connection any more\n";
    for (event, then, stderr) in [("connect_error", Some(DOWN), IN_VAIN), ("closed", None, gone)] {
        let daemon = Daemon::start();
        let output = daemon
            .serve(daemon.siod(&["wait", "chat", "--event", "x"]), async |peer| {
                subscribes(peer, r#""x""#, COMING).await;
                changes(peer, 6, event).await;
                match then {
                    Some(standing) => says(&daemon, standing).await,
                    None => does_not_know(&daemon).await,
                }
                peer.gone().await;
            })
            .await;
        check(&output, 3, "", stderr);
    }
}

/// A reload that changes the connection closes it before it opens it.
#[tokio::test]
async fn a_connection_that_is_closed_and_opened_again_is_waited_for() {
    let daemon = Daemon::start();
    let output = daemon
        .serve(daemon.siod(&["wait", "chat"]), async |peer| {
            subscribes(peer, "", COMING).await;
            changes(peer, 6, "closed").await;
            does_not_know(&daemon).await;
            changes(peer, 7, "opened").await;
            says(&daemon, COMING).await;
            changes(peer, 8, "connect").await;
            says(&daemon, UP).await;
            peer.gone().await;
        })
        .await;
    check(&output, 0, "", "");
}

#[tokio::test]
async fn the_first_event_is_printed() {
    let daemon = Daemon::start();
    let output = daemon
        .serve(daemon.siod(&["wait", "chat", "--event", "e", "--event", "f*"]), async |peer| {
            subscribes(peer, r#""e","f*""#, COMING).await;
            peer.say(&event("chat", 6)).await;
            peer.say(&event("chat", 7)).await;
            peer.gone().await;
        })
        .await;
    check(&output, 0, &format!("{}\n", event("chat", 6)), "");
}

#[tokio::test]
async fn time_is_over_at_some_time() {
    for (args, standing, stderr) in [
        (&["wait", "chat"][..], COMING, "siod: chat: not connected within 10ms\n"),
        (&["wait", "chat", "--event", "x"], UP, "siod: chat: no such event within 10ms\n"),
    ] {
        let daemon = Daemon::start();
        let args = [args, &["--timeout", "10ms"]].concat();
        let events = if args.contains(&"x") { r#""x""# } else { "" };
        let output = daemon
            .serve(daemon.siod(&args), async |peer| {
                subscribes(peer, events, standing).await;
                peer.gone().await;
            })
            .await;
        check(&output, 3, "", stderr);
    }
}

#[tokio::test]
async fn an_unknown_connection_is_refused_at_first_and_waited_for_after_a_restart() {
    let daemon = Daemon::start();
    let output = daemon
        .serve(daemon.siod(&["wait", "chat"]), async |peer| {
            peer.expect(1, HELLO).await;
            peer.expect(2, &subscribe(r#""connection":"chat","events":[]"#)).await;
            peer.answer(2, UNKNOWN).await;
            peer.gone().await;
        })
        .await;
    check(&output, 1, "", "siod: no connection \\u001b[31mx\n");

    let child = spawn(daemon.siod(&["wait", "chat"]));
    let mut peer = daemon.accept().await;
    subscribes(&mut peer, "", COMING).await;
    peer.leave();
    for answer in [UNKNOWN, ""] {
        peer = daemon.accept().await;
        peer.expect(1, HELLO).await;
        let after = r#""after":{"stream":"s1","seq":5}"#;
        peer.expect(2, &subscribe(&format!(r#""connection":"chat","events":[],{after}"#))).await;
        if answer.is_empty() {
            let snapshot = format!(r#"{{"name":"chat","seq":3,{UP}}}"#);
            let answer = format!(
                r#""subscription":1,"stream":"s2","connections":[{snapshot}],"replayed":0,"missed":null"#
            );
            peer.answer(2, &format!(r#""result":{{{answer}}}"#)).await;
        } else {
            peer.answer(2, answer).await;
        }
        peer.gone().await;
    }
    let stderr = "siod: the daemon closed the attachment; attaching again\nsiod: attached again\n";
    check(&within(child.wait_with_output()).await.unwrap(), 0, "", stderr);
}
