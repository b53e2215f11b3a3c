//! The retry queue as programs see it.

use crate::common::{CONNECT, Chat, event, lifecycle, refusal};

fn emit(id: u32, members: &str) -> String {
    format!(r#"{{"id":{id},"method":"emit","params":{{"connection":"chat",{members}}}}}"#)
}

fn status(id: u32, status: &str, active: bool) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"status":"{status}","active":{active}}}}}"#)
}

const LIST: &str = r#"{"id":0,"method":"list"}"#;

fn listed(buffered: usize, pending: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"result":{{"connections":[{{"buffered":{buffered},"pending_acks":{pending},"…":…}}]}}}}"#
    )
}

#[tokio::test]
async fn one_goes_out_at_once_and_the_others_wait_their_turn() {
    let mut chat = Chat::idle("retries = 1").await;
    chat.consumer.call(&emit(1, r#""event":"early""#), &status(1, "buffered", false)).await;
    chat.start().await;
    let mut ws = chat.upstream.joined().await;
    ws.expect(r#"420["early"]"#).await;
    chat.consumer.hear(CONNECT).await;
    ws.send("430[]").await;
    chat.consumer.send(&emit(1, r#""event":"turn","ack":true"#)).await;
    ws.expect(r#"421["turn"]"#).await;
    ws.send("431[1]").await;
    chat.consumer.expect_answer(r#"{"jsonrpc":"2.0","id":1,"result":{"args":[1]}}"#).await;

    chat.consumer.call(&emit(1, r#""event":"a""#), &status(1, "sent", true)).await;
    chat.consumer.call(&emit(2, r#""event":"b""#), &status(2, "buffered", true)).await;
    chat.consumer.send(&emit(3, r#""event":"c","ack":true"#)).await;
    chat.consumer.call(&emit(4, r#""event":"now","volatile":true"#), &status(4, "sent", true)).await;
    ws.expect(r#"422["a"]"#).await;
    ws.expect(r#"42["now"]"#).await;
    chat.consumer.call(LIST, &listed(3, 2)).await;
    ws.send(r#"432["no error"]"#).await;
    ws.expect(r#"423["b"]"#).await;
    ws.send("433").await;
    ws.expect(r#"424["c"]"#).await;
    ws.send("434[7]").await;
    chat.consumer.expect_answer(r#"{"jsonrpc":"2.0","id":3,"result":{"args":[7]}}"#).await;
    chat.consumer.call(LIST, &listed(0, 0)).await;
}

#[tokio::test]
async fn the_first_goes_again_after_a_loss_before_anything_newer() {
    let (mut chat, mut ws) = Chat::joined("retries = 1").await;
    chat.consumer.call(&emit(1, r#""event":"a""#), &status(1, "sent", true)).await;
    ws.expect(r#"420["a"]"#).await;
    ws.reset();
    chat.consumer
        .hear(&lifecycle(r#""event":"disconnect","reason":"transport close","details":…"#, true))
        .await;
    chat.consumer.call(&emit(2, r#""event":"b""#), &status(2, "buffered", true)).await;
    let mut ws = chat.upstream.joined().await;
    ws.expect(r#"421["a"]"#).await;
    ws.send("431[]").await;
    ws.expect(r#"422["b"]"#).await;
}

#[tokio::test]
async fn what_is_never_answered_is_given_up_and_said() {
    let (mut chat, mut ws) = Chat::joined("retries = 1\nack_timeout = \"20ms\"").await;
    chat.consumer.call(&emit(1, r#""event":"unheard""#), &status(1, "sent", true)).await;
    chat.consumer.call(&emit(2, r#""event":"asked","ack":true"#), &refusal("2", -32003, "ack_timeout")).await;
    for (id, name) in [(0, "unheard"), (1, "unheard"), (2, "asked"), (3, "asked")] {
        ws.expect(&format!(r#"42{id}["{name}"]"#)).await;
    }
    chat.daemon.terminate().await;
    let log = chat.daemon.log().await;
    let warning =
        "an emit was given up connection=\"chat\" event=\"unheard\" loss=the server answered none of 2 tries";
    assert!(log.contains(warning), "{log}");
    assert!(!log.contains("event=\"asked\""), "who waited was told: {log}");
}

#[tokio::test]
async fn the_queue_is_bounded_and_a_close_answers_who_waits() {
    let (mut chat, mut ws) = Chat::joined("retries = 1\nsend_buffer = 100").await;
    chat.consumer.call(&emit(1, r#""event":"a""#), &status(1, "sent", true)).await;
    ws.expect(r#"420["a"]"#).await;
    chat.consumer.call(&emit(2, r#""event":"b""#), &refusal("2", -32002, "buffer_full")).await;
    ws.send("430[]").await;
    ws.send(r#"42["read so far"]"#).await;
    chat.consumer.hear(&event(r#""event":"read so far","args":[]"#)).await;
    chat.consumer.send(&emit(3, r#""event":"c","ack":true"#)).await;
    ws.expect(r#"421["c"]"#).await;
    chat.consumer.send(r#"{"id":4,"method":"close","params":{"connection":"chat"}}"#).await;
    chat.consumer.expect_answer(&refusal("3", -32004, "disconnected")).await;
    chat.consumer.expect_answer(r#"{"jsonrpc":"2.0","id":4,"result":{}}"#).await;
}

#[tokio::test]
async fn the_end_of_the_daemon_answers_who_waits() {
    let (mut chat, mut ws) = Chat::joined("retries = 9").await;
    for (id, name) in [(1, "a"), (2, "b")] {
        chat.consumer.send(&emit(id, &format!(r#""event":"{name}","ack":true"#))).await;
    }
    ws.expect(r#"420["a"]"#).await;
    chat.consumer.call(LIST, &listed(2, 2)).await;
    chat.daemon.terminate().await;
    for id in ["1", "2"] {
        chat.consumer.expect_answer(&refusal(id, -32004, "disconnected")).await;
    }
}
