//! Starting, stopping and opening by hand.

use crate::common::upstream::OPEN;
use crate::common::{CONNECT, Chat, Daemon, QUICK, lifecycle, refusal, transcript, within};

#[tokio::test]
async fn a_connection_that_does_not_exist_is_unknown_to_every_method() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = daemon.attach().await;
    for (method, more) in [
        ("emit", r#","event":"a""#),
        ("ack", r#","ack":1"#),
        ("connect", ""),
        ("disconnect", ""),
        ("set_auth", r#","auth":{}"#),
        ("close", ""),
        ("status", ""),
        ("subscribe", ""),
    ] {
        consumer
            .call(
                &format!(r#"{{"id":1,"method":"{method}","params":{{"connection":"nobody"{more}}}}}"#),
                &refusal("1", -32000, "unknown_connection"),
            )
            .await;
    }
}

#[tokio::test]
async fn connect_that_waits_is_answered_when_the_connection_is_up() {
    let mut chat = Chat::idle("").await;
    chat.consumer.send(r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":20000}}"#).await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40").await;
    // Nothing has been answered yet, or this would not be the first answer.
    chat.consumer
        .call(
            r#"{"id":2,"method":"list"}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"connections":[{"state":"connecting","…":…}]}}"#,
        )
        .await;
    ws.send(r#"40{"sid":"a"}"#).await;
    chat.consumer
        .expect_answer(
            r#"{"jsonrpc":"2.0","id":1,"result":{"name":"chat","state":"connected","id":"a","…":…}}"#,
        )
        .await;
    // Harmless on one that is up: no second CONNECT, no second session.
    chat.consumer
        .call(
            r#"{"id":3,"method":"connect","params":{"connection":"chat","wait":20000}}"#,
            r#"{"jsonrpc":"2.0","id":3,"result":{"state":"connected","id":"a","…":…}}"#,
        )
        .await;
    chat.consumer.send(r#"{"method":"emit","params":{"connection":"chat","event":"end"}}"#).await;
    ws.expect(r#"42["end"]"#).await;
}

#[tokio::test]
async fn so_many_may_wait_for_a_connection_and_those_who_left_do_not_count() {
    let mut chat = Chat::idle("").await;
    let wait = |id: &str, wait| {
        format!(r#"{{"id":{id},"method":"connect","params":{{"connection":"chat","wait":{wait}}}}}"#)
    };
    for id in 0..1024 {
        chat.consumer.send(&wait(&id.to_string(), u64::MAX)).await;
    }
    let full = refusal("\"more\"", -32002, "buffer_full");
    chat.consumer.call(&wait("\"more\"", u64::MAX), &full).await;
    let mut other = chat.daemon.attach().await;
    other.call(&wait("\"more\"", u64::MAX), &full).await;
    // Without a wait it is answered as ever.
    let connecting = r#"{"jsonrpc":"2.0","id":1,"result":{"state":"connecting","…":…}}"#;
    other.call(r#"{"id":1,"method":"connect","params":{"connection":"chat"}}"#, connecting).await;
    drop(chat.consumer);
    within("the first to be gone", async {
        while transcript::compare(&full, &other.request(&wait("\"more\"", 10)).await).is_ok() {}
    })
    .await;
    other.call(&wait("2", 10), &refusal("2", -32009, "connect_failed")).await;
}

#[tokio::test]
async fn connect_that_waits_in_vain_says_why() {
    let wait = r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":20000}}"#;

    let mut refused = Chat::idle("").await;
    refused.consumer.send(wait).await;
    let mut ws = refused.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40").await;
    ws.send(r#"44{"message":"not authorized","data":{"code":"E1"}}"#).await;
    refused
        .consumer
        .expect_answer(
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32009,"message":"…not authorized…","data":{"kind":"connect_failed","data":{"code":"E1"},"…":…}}}"#,
        )
        .await;

    let mut silent = Chat::idle("").await;
    silent.consumer.send(wait).await;
    let mut ws = silent.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40").await;
    ws.send(r#"44{"message":""}"#).await;
    silent
        .consumer
        .expect_answer(
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32009,"message":"…gave no reason","data":{"kind":"connect_failed"}}}"#,
        )
        .await;

    let mut slow = Chat::idle("").await;
    slow.consumer
        .call(
            r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":10}}"#,
            &refusal("1", -32009, "connect_failed"),
        )
        .await;
    slow.join().await; // The attempts go on.

    let mut stopped = Chat::idle("").await;
    stopped.consumer.send(wait).await;
    let _held = stopped.upstream.handshake().await;
    let mut other = stopped.daemon.attach().await;
    other
        .call(
            r#"{"id":2,"method":"disconnect","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"state":"disconnected","active":false,"…":…}}"#,
        )
        .await;
    let because = |reason: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32009,"message":"…{reason}","data":{{"kind":"connect_failed"}}}}}}"#
        )
    };
    stopped.consumer.expect_answer(&because("it was disconnected")).await;
    stopped.consumer.send(wait).await;
    let _held_again = stopped.upstream.handshake().await;
    other
        .call(
            r#"{"id":3,"method":"close","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":3,"result":{}}"#,
        )
        .await;
    stopped.consumer.expect_answer(&because("it was closed")).await;

    let mut lost = Chat::idle("reconnection = false").await;
    lost.consumer.send(wait).await;
    lost.upstream.handshake().await.refuse(503).await;
    lost.consumer.expect_answer(&refusal("1", -32009, "connect_failed")).await;
}

#[tokio::test]
async fn disconnect_leaves_before_it_is_answered_and_nothing_comes_back_by_itself() {
    let (mut chat, mut ws) = Chat::joined("").await;
    chat.consumer.send(r#"{"id":1,"method":"disconnect","params":{"connection":"chat"}}"#).await;
    chat.consumer
        .expect(&lifecycle(r#""event":"disconnect","reason":"io client disconnect","details":null"#, false))
        .await;
    chat.consumer
        .expect(r#"{"jsonrpc":"2.0","id":1,"result":{"state":"disconnected","connected":false,"active":false,"id":null,"seq":3,"…":…}}"#)
        .await;
    ws.expect("41").await;
    ws.expect_closed().await;
    // A second one finds nothing to leave and says nothing.
    chat.consumer
        .call(
            r#"{"id":2,"method":"disconnect","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"state":"disconnected","seq":3,"…":…}}"#,
        )
        .await;
    chat.start().await;
    chat.join().await;
}

#[tokio::test]
async fn disconnect_ends_the_attempts_too() {
    let mut chat = Chat::idle("").await;
    chat.start().await;
    chat.upstream.handshake().await.refuse(503).await;
    chat.consumer.hear(&lifecycle(r#""event":"connect_error","…":…"#, true)).await;
    chat.consumer.hear(&lifecycle(r#""event":"reconnect_attempt","attempt":1"#, true)).await;
    let _held = chat.upstream.handshake().await;
    chat.consumer
        .call(
            r#"{"id":1,"method":"disconnect","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"state":"disconnected","active":false,"seq":3,"…":…}}"#,
        )
        .await;
    chat.start().await;
    chat.join().await;
}

#[tokio::test]
async fn auth_is_what_was_configured_or_set_last() {
    let mut chat = Chat::idle(r#"auth = { token = "configured" }"#).await;
    for (request, connect) in [
        (r#"{"id":0,"method":"list"}"#, r#"40{"token":"configured"}"#),
        (
            r#"{"id":0,"method":"set_auth","params":{"connection":"chat","auth":{"token":"set","n":1.50}}}"#,
            r#"40{"token":"set","n":1.50}"#,
        ),
        (r#"{"id":0,"method":"list"}"#, r#"40{"token":"set","n":1.50}"#),
        (
            r#"{"id":0,"method":"connect","params":{"connection":"chat","auth":{"token":"with connect"}}}"#,
            r#"40{"token":"with connect"}"#,
        ),
    ] {
        let answer = chat.consumer.request(request).await;
        assert!(answer.contains(r#""result""#), "{answer}");
        chat.start().await;
        let mut ws = chat.upstream.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect(connect).await;
        ws.send(r#"40{"sid":"a"}"#).await;
        chat.consumer.hear(CONNECT).await;
        ws.send("41").await;
        chat.consumer
            .hear(&lifecycle(r#""event":"disconnect","reason":"io server disconnect","details":null"#, false))
            .await;
    }
    for auth in ["5", "[]", r#""token""#] {
        chat.consumer
            .call(
                &format!(r#"{{"id":1,"method":"set_auth","params":{{"connection":"chat","auth":{auth}}}}}"#),
                &refusal("1", -32602, "invalid_params"),
            )
            .await;
    }
    let status = chat.consumer.request(r#"{"id":1,"method":"status"}"#).await;
    assert!(!status.contains("with connect") && !status.contains("configured"), "{status}");
}
