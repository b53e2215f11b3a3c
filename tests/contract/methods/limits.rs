//! What would make the server end the session that everybody shares.

use crate::common::{CONNECT, Chat, event, refusal};

const SENT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"status":"sent","active":true}}"#;
const OPEN: &str =
    r#"0{"sid":"engine-1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100}"#;

fn emit(members: &str) -> String {
    format!(r#"{{"id":1,"method":"emit","params":{{"connection":"chat",{members}}}}}"#)
}

fn too_large(size: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32602,"message":"a packet of {size} bytes is more than the server takes: 100 (its maxPayload); it was not sent","data":{{"kind":"invalid_params"}}}}}}"#
    )
}

#[tokio::test]
async fn what_the_server_does_not_take_is_refused_and_the_session_goes_on() {
    let mut chat = Chat::idle("").await;
    chat.start().await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40").await;
    ws.send(r#"40{"sid":"A"}"#).await;
    chat.consumer.hear(CONNECT).await;

    // `42["e",""]` takes 10 bytes, and 11 with an ack's id.
    let text =
        |length: usize, more: &str| emit(&format!(r#""event":"e","args":["{}"]{more}"#, "x".repeat(length)));
    chat.consumer.call(&text(91, ""), &too_large(101)).await;
    chat.consumer.call(&text(90, r#","ack":true"#), &too_large(101)).await;
    chat.consumer.call(&text(90, ""), SENT).await;
    ws.expect(&format!(r#"42["e","{}"]"#, "x".repeat(90))).await;

    let eleven = [r#"{"$binary":""}"#; 11].join(",");
    let many = emit(&format!(r#""event":"e","binary":true,"args":[{eleven}]"#));
    chat.consumer.call(&many, &refusal("1", -32602, "invalid_params")).await;

    ws.send(r#"427["ask"]"#).await;
    chat.consumer.hear(&event(r#""event":"ask","args":[],"ack":1"#)).await;
    let answer = |length: usize| {
        let text = "x".repeat(length);
        format!(r#"{{"id":1,"method":"ack","params":{{"connection":"chat","ack":1,"args":["{text}"]}}}}"#)
    };
    chat.consumer.call(&answer(94), &too_large(101)).await;
    chat.consumer.call(&answer(93), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
    ws.expect(&format!(r#"437["{}"]"#, "x".repeat(93))).await;
}

#[tokio::test]
async fn what_waited_and_turns_out_too_large_is_answered_and_logged() {
    let mut chat = Chat::idle("").await;
    let large = "x".repeat(100);
    let args = format!(r#""args":["{large}"]"#);
    let buffered = r#"{"jsonrpc":"2.0","id":1,"result":{"status":"buffered","active":false}}"#;
    chat.consumer.call(&emit(&format!(r#""event":"silent",{args}"#)), buffered).await;
    chat.consumer.send(&emit(&format!(r#""event":"asking","ack":true,{args}"#))).await;
    chat.consumer.call(&emit(r#""event":"small""#), buffered).await;
    chat.start().await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40").await;
    ws.send(r#"40{"sid":"A"}"#).await;
    chat.consumer.expect_answer(&too_large(116)).await;
    ws.expect(r#"42["small"]"#).await;
    chat.consumer.hear(CONNECT).await;
    chat.daemon.terminate().await;
    let log = chat.daemon.log().await;
    for name in ["silent", "asking"] {
        let told = log.lines().any(|line| {
            line.contains("WARN")
                && line.contains("connection=\"chat\"")
                && line.contains(&format!("event={name:?}"))
        });
        assert!(told, "{name} in\n{log}");
    }
}
