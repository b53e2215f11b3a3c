//! A connection that nobody watches, and that is told to come back after the server sent it away.

use crate::common::upstream::OPEN;
use crate::common::{CONNECT, Chat};

const REFUSED: &str = r#""event":"connect_error","message":"not yet","phase":"namespace","source":"server""#;

#[tokio::test]
async fn after_a_refusal() {
    let mut chat = Chat::idle("on_connect_error = \"retry\"").await;
    chat.start().await;
    for _ in 0..3 {
        let mut ws = chat.upstream.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect("40").await;
        ws.send(r#"44{"message":"not yet"}"#).await;
        chat.hears(&[(REFUSED, true)]).await;
        ws.expect_closed().await;
    }
    chat.upstream.joined().await;
    chat.consumer.hear(CONNECT).await;
}

#[tokio::test]
async fn after_a_kick_and_not_after_a_disconnect_of_ours() {
    let (mut chat, mut ws) = Chat::joined("on_server_disconnect = \"reconnect\"").await;
    for _ in 0..2 {
        ws.send("41").await;
        chat.hears(&[(r#""event":"disconnect","reason":"io server disconnect","details":null"#, true)]).await;
        ws = chat.upstream.joined().await;
        chat.consumer.hear(CONNECT).await;
    }
    chat.consumer
        .call(
            r#"{"id":1,"method":"disconnect","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"state":"disconnected","active":false,"next_attempt_ms":null,"…":…}}"#,
        )
        .await;
    chat.hears(&[(r#""event":"disconnect","reason":"io client disconnect","details":null"#, false)]).await;
}

#[tokio::test]
async fn whoever_waits_for_the_connection_hears_of_the_refusal_all_the_same() {
    let mut chat = Chat::idle("on_connect_error = \"retry\"\nreconnection_delay_max = \"1h\"").await;
    chat.consumer.send(r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":20000}}"#).await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40").await;
    ws.send(r#"44{"message":"not yet"}"#).await;
    chat.hears(&[(REFUSED, true)]).await;
    chat.consumer
        .expect_answer(
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32009,"message":"…not yet…","data":{"kind":"connect_failed","…":…}}}"#,
        )
        .await;
    ws.expect_closed().await;
    let listed = chat
        .consumer
        .call(
            r#"{"id":2,"method":"list"}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"connections":[{"state":"reconnecting","active":true,"attempt":0,"next_attempt_ms":…ms,"…":…}]}}"#,
        )
        .await;
    assert!(listed.number("ms") > 3_000_000, "{} ms", &listed["ms"]);
    // Whoever asks for it does not have to wait that long.
    chat.start().await;
    chat.join().await;
}
