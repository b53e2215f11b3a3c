//! `siod listen` and `siod open --listen`.

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::daemon::{
    AGAIN, Daemon, GOODBYE, HELLO, UNKNOWN, check, event, resume, spawn, subscribe, subscribed, within,
};

#[tokio::test]
async fn listen_prints_the_lines_of_the_api_and_counts() {
    let daemon = Daemon::start();
    let filter = ["--event", "e*", "--event", "f", "--no-lifecycle", "--last", "2", "--count", "2"];
    let siod = daemon.siod(&[&["listen", "chat"], &filter[..]].concat());
    let lagged =
        r#"{"jsonrpc":"2.0","method":"lagged","params":{"connection":"chat","missed":3,"next_seq":9}}"#;
    let output = daemon
        .serve(siod, async |peer| {
            peer.expect(1, HELLO).await;
            let params = r#""connection":"chat","events":["e*","f"],"lifecycle":false,"last":2"#;
            peer.expect(2, &subscribe(params)).await;
            peer.answer(1, r#""result":{}"#).await;
            peer.answer(2, &subscribed("s1", &[("chat", 5)], 1, "0")).await;
            for line in [&event("chat", 5), lagged, &event("chat", 9)] {
                peer.say(line).await;
            }
            peer.gone().await;
        })
        .await;
    check(&output, 0, &format!("{}\n{lagged}\n{}\n", event("chat", 5), event("chat", 9)), "");
}

#[tokio::test]
async fn listen_goes_on_where_it_was_when_the_daemon_comes_back() {
    let daemon = Daemon::start();
    let siod = daemon.siod(&["listen", "chat", "--count", "4"]);
    let output = daemon
        .serve(siod, async |peer| {
            peer.expect(1, HELLO).await;
            peer.expect(2, &subscribe(r#""connection":"chat""#)).await;
            peer.answer(2, &subscribed("s1", &[("chat", 5)], 0, "0")).await;
            peer.say(&event("chat", 7)).await;
            peer.say(GOODBYE).await;
            peer.leave();

            // Lost in the middle of the replay: the rest is asked for again.
            *peer = daemon.accept().await;
            peer.expect(1, HELLO).await;
            peer.expect(2, &resume("chat", "", "s1", 7)).await;
            peer.answer(2, &subscribed("s1", &[("chat", 9)], 2, "1")).await;
            peer.say(&event("chat", 8)).await;
            peer.leave();

            // Another run of the daemon, which has not opened it yet.
            *peer = daemon.accept().await;
            peer.expect(1, HELLO).await;
            peer.expect(2, &resume("chat", "", "s1", 8)).await;
            peer.answer(2, UNKNOWN).await;
            peer.gone().await;

            *peer = daemon.accept().await;
            peer.expect(1, HELLO).await;
            peer.expect(2, &resume("chat", "", "s1", 8)).await;
            peer.answer(2, &subscribed("s2", &[("chat", 2)], 2, "null")).await;
            peer.say(&event("chat", 1)).await;
            peer.say(&event("chat", 2)).await;
            peer.gone().await;
        })
        .await;
    let lines = [
        event("chat", 7),
        GOODBYE.into(),
        event("chat", 8),
        event("chat", 1),
        event("chat", 2),
        String::new(),
    ];
    let notes = [
        "siod: the daemon ended the attachment: shutdown; attaching again\n",
        "siod: chat: up to 1 notifications were lost meanwhile\n",
        AGAIN,
        "siod: the daemon closed the attachment; attaching again\n",
        AGAIN,
    ];
    check(&output, 0, &lines.join("\n"), &notes.concat());
}

#[tokio::test]
async fn listening_to_a_pattern_resumes_each_connection_it_knows() {
    const FILTER: &str = r#""lifecycle":false,"#;
    let daemon = Daemon::start();
    let siod = daemon.siod(&["listen", "--no-lifecycle", "--count", "3"]);
    let everything = subscribe(r#""connection":"*","lifecycle":false"#);
    let output = daemon
        .serve(siod, async |peer| {
            peer.expect(1, HELLO).await;
            peer.expect(2, &everything).await;
            peer.answer(2, &subscribed("s1", &[("a", 5), ("gone", 1)], 0, "0")).await;
            peer.say(&event("late", 3)).await;
            peer.leave();

            *peer = daemon.accept().await;
            peer.expect(1, HELLO).await;
            for (id, name, seq) in [(2, "a", 5), (3, "gone", 1), (4, "late", 3)] {
                peer.expect(id, &resume(name, FILTER, "s1", seq)).await;
            }
            peer.expect(5, &everything).await;
            peer.answer(2, &subscribed("s1", &[("a", 6)], 1, "0")).await;
            peer.say(&event("a", 6)).await;
            peer.answer(3, UNKNOWN).await;
            peer.answer(4, &subscribed("s1", &[("late", 4)], 0, "0")).await;
            peer.answer(5, &subscribed("s1", &[("a", 6), ("late", 4), ("new", 0)], 0, "0")).await;
            peer.leave();

            *peer = daemon.accept().await;
            peer.expect(1, HELLO).await;
            for (id, name, seq) in [(2, "a", 6), (3, "late", 4), (4, "new", 0)] {
                peer.expect(id, &resume(name, FILTER, "s1", seq)).await;
            }
            peer.expect(5, &everything).await;
            peer.answer(2, &subscribed("s1", &[("a", 7)], 1, "0")).await;
            peer.say(&event("a", 7)).await;
            peer.gone().await;
        })
        .await;
    let lines = [event("late", 3), event("a", 6), event("a", 7), String::new()].join("\n");
    let note = "siod: the daemon closed the attachment; attaching again\n";
    check(&output, 0, &lines, &format!("{note}{AGAIN}{note}"));
}

#[tokio::test]
async fn an_unknown_connection_is_refused_at_first() {
    let daemon = Daemon::start();
    let output = daemon
        .serve(daemon.siod(&["listen", "x"]), async |peer| {
            peer.expect(1, HELLO).await;
            peer.expect(2, &subscribe(r#""connection":"x""#)).await;
            peer.answer(2, UNKNOWN).await;
            peer.gone().await;
        })
        .await;
    check(&output, 1, "", "siod: no connection \\u001b[31mx\n");
}

#[tokio::test]
async fn what_is_opened_to_listen_is_opened_again() {
    const OPEN: &str = r#""method":"open","params":{"auth":{"t":1},"name":"chat","url":"http://h/"}"#;
    let daemon = Daemon::start();
    let mut child = spawn(daemon.siod(&["open", "chat", "http://h/", "--auth", r#"{"t":1}"#, "--listen"]));
    let opened = |stream| {
        let snapshot =
            format!(r#"{{"name":"chat","state":"connecting","seq":1,"oldest_seq":1,"stream":"{stream}"}}"#);
        format!(r#""result":{{"created":true,"connection":{snapshot}}}"#)
    };
    let mut peer = daemon.accept().await;
    peer.expect(1, HELLO).await;
    peer.expect(2, OPEN).await;
    peer.answer(2, &opened("s1")).await;
    peer.expect(3, &resume("chat", "", "s1", 0)).await;
    peer.answer(3, &subscribed("s1", &[("chat", 1)], 1, "0")).await;
    peer.say(&event("chat", 1)).await;
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(within(stdout.next_line()).await.unwrap(), Some(event("chat", 1)));
    peer.leave();

    peer = daemon.accept().await;
    peer.expect(1, HELLO).await;
    peer.expect(2, OPEN).await;
    peer.answer(2, &opened("s2")).await;
    peer.expect(3, &resume("chat", "", "s1", 1)).await;
}

#[tokio::test]
async fn a_reader_that_has_had_enough_ends_it_quietly() {
    let daemon = Daemon::start();
    let mut child = spawn(daemon.siod(&["listen"]));
    let mut peer = daemon.accept().await;
    peer.expect(1, HELLO).await;
    peer.expect(2, &subscribe(r#""connection":"*""#)).await;
    peer.answer(2, &subscribed("s1", &[], 0, "0")).await;
    // No further line: there is nothing to write that could fail.
    drop(child.stdout.take());
    peer.gone().await;
    check(&within(child.wait_with_output()).await.unwrap(), 0, "", "");

    let mut child = spawn(daemon.siod(&["call", "list"]));
    drop(child.stdout.take());
    let mut peer = daemon.accept().await;
    peer.expect(1, r#""method":"list","params":{}"#).await;
    peer.answer(1, r#""result":{}"#).await;
    check(&within(child.wait_with_output()).await.unwrap(), 0, "", "");
}
