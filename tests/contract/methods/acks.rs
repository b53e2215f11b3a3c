//! Acknowledgements in both directions.

use crate::common::{Chat, event, lifecycle, refusal};

fn ask(members: &str) -> String {
    format!(
        r#"{{"id":1,"method":"emit","params":{{"connection":"chat","event":"ask","ack":true{members}}}}}"#
    )
}

#[tokio::test]
async fn the_server_s_answer_is_the_result() {
    let (mut chat, mut ws) = Chat::joined("").await;
    for (id, answer, args) in [(0, r#"["yes",1.0]"#, r#"["yes",1.0]"#), (1, "[]", "[]"), (2, "", "[]")] {
        chat.consumer.send(&ask(r#","args":["ready?"]"#)).await;
        ws.expect(&format!(r#"42{id}["ask","ready?"]"#)).await;
        ws.send(&format!("43{id}{answer}")).await;
        chat.consumer.expect(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"args":{args}}}}}"#)).await;
    }
    chat.consumer.send(&ask("")).await;
    ws.expect(r#"423["ask"]"#).await;
    ws.send(r#"461-3[{"a":{"_placeholder":true,"num":0}}]"#).await;
    ws.send_binary(&[9]).await;
    chat.consumer
        .expect(r#"{"jsonrpc":"2.0","id":1,"result":{"args":[{"a":{"$binary":"CQ=="}}],"binary":true}}"#)
        .await;
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let (mut chat, mut ws) = Chat::joined("").await;
    for id in 0..3 {
        chat.consumer.send(&ask("").replace(r#""id":1"#, &format!(r#""id":"q{id}""#))).await;
        ws.expect(&format!(r#"42{id}["ask"]"#)).await;
    }
    for id in [1, 2, 0] {
        // Answers to nothing, and second answers, are nobody's.
        ws.send(r#"4399["stray"]"#).await;
        ws.send(&format!("43{id}[{id}]")).await;
        ws.send(&format!(r#"43{id}["again"]"#)).await;
        chat.consumer
            .expect(&format!(r#"{{"jsonrpc":"2.0","id":"q{id}","result":{{"args":[{id}]}}}}"#))
            .await;
    }
    chat.consumer.expect_silence().await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_an_error() {
    let (mut chat, mut ws) = Chat::joined("ack_timeout = \"15ms\"").await;
    let timed_out = refusal("1", -32003, "ack_timeout");
    for (id, timeout) in [(0, r#","timeout":10"#), (1, r#","timeout":0"#), (2, "")] {
        chat.consumer.call(&ask(timeout), &timed_out).await;
        ws.expect(&format!(r#"42{id}["ask"]"#)).await;
        ws.send(&format!(r#"43{id}["too late"]"#)).await;
    }
    chat.consumer.expect_silence().await;
}

#[tokio::test]
async fn what_times_out_in_the_buffer_is_never_sent() {
    let mut chat = Chat::idle("").await;
    chat.consumer.call(&ask(r#","timeout":10"#), &refusal("1", -32003, "ack_timeout")).await;
    chat.consumer
        .call(
            r#"{"id":2,"method":"emit","params":{"connection":"chat","event":"kept"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"status":"buffered","active":false}}"#,
        )
        .await;
    chat.start().await;
    chat.join().await.expect(r#"42["kept"]"#).await;
}

#[tokio::test]
async fn an_answer_lost_with_the_connection_is_an_error_and_a_buffered_question_is_not_lost() {
    let (mut chat, mut ws) = Chat::joined("").await;
    chat.consumer.send(&ask("")).await;
    ws.expect(r#"420["ask"]"#).await;
    ws.close(1001).await;
    chat.consumer.expect_answer(&refusal("1", -32004, "disconnected")).await;
    chat.consumer
        .hear(&lifecycle(r#""event":"disconnect","reason":"transport close","details":…"#, true))
        .await;
    let handshake = chat.upstream.handshake().await;
    chat.consumer.send(&ask("")).await;
    // The list is answered after the question has taken effect, which is still before the connection.
    chat.consumer.request(r#"{"id":2,"method":"list"}"#).await;
    let mut ws = handshake.accept().await;
    ws.send(crate::common::upstream::OPEN).await;
    ws.expect("40").await;
    ws.send(r#"40{"sid":"b"}"#).await;
    ws.expect(r#"421["ask"]"#).await;
    ws.send("431[true]").await;
    chat.consumer.expect_answer(r#"{"jsonrpc":"2.0","id":1,"result":{"args":[true]}}"#).await;
}

#[tokio::test]
async fn a_question_still_buffered_at_close_is_an_error() {
    let mut chat = Chat::idle("").await;
    chat.consumer.send(&ask("")).await;
    let mut other = chat.daemon.attach().await;
    chat.consumer.request(r#"{"id":2,"method":"list"}"#).await;
    other
        .call(
            r#"{"id":1,"method":"close","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        )
        .await;
    chat.consumer.expect_answer(&refusal("1", -32004, "disconnected")).await;
}

#[tokio::test]
async fn the_first_answer_to_the_server_wins() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut other = chat.daemon.attach().await;
    let mut numbers = Vec::new();
    // Upstream's ids may repeat, the daemon's never do.
    for id in [7, 7, 0] {
        ws.send(&format!(r#"42{id}["question"]"#)).await;
        let asked = chat.consumer.hear(&event(r#""event":"question","args":[],"ack":…ack"#)).await;
        let number = asked.number("ack");
        assert!(!numbers.contains(&number), "{number} was given before");
        numbers.push(number);
        let answer = |text: &str| {
            format!(
                r#"{{"id":1,"method":"ack","params":{{"connection":"chat","ack":{number},"args":["{text}"]}}}}"#
            )
        };
        other.call(&answer("first"), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
        chat.consumer.call(&answer("second"), &refusal("1", -32008, "unknown_ack")).await;
        ws.expect(&format!(r#"43{id}["first"]"#)).await;
    }
    chat.consumer
        .call(
            r#"{"id":1,"method":"ack","params":{"connection":"chat","ack":123456}}"#,
            &refusal("1", -32008, "unknown_ack"),
        )
        .await;
}

#[tokio::test]
async fn an_answer_to_the_server_may_be_empty_or_binary() {
    let (mut chat, mut ws) = Chat::joined("").await;
    for (members, packet) in [
        ("", "434[]"),
        (r#","args":[1.50,{"b":1,"a":2}]"#, r#"434[1.50,{"b":1,"a":2}]"#),
        (r#","args":[{"$binary":"CQ=="}],"binary":true"#, r#"461-4[{"_placeholder":true,"num":0}]"#),
    ] {
        ws.send(r#"424["question"]"#).await;
        let asked = chat.consumer.hear(&event(r#""event":"question","args":[],"ack":…ack"#)).await;
        chat.consumer
            .call(
                &format!(
                    r#"{{"id":1,"method":"ack","params":{{"connection":"chat","ack":{}{members}}}}}"#,
                    &asked["ack"]
                ),
                r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            )
            .await;
        ws.expect(packet).await;
    }
    ws.expect_binary(&[9]).await;
}

#[tokio::test]
async fn an_answer_for_a_session_that_is_gone_goes_nowhere() {
    let (mut chat, mut ws) = Chat::joined("").await;
    ws.send(r#"420["question"]"#).await;
    let asked = chat.consumer.hear(&event(r#""event":"question","args":[],"ack":…ack"#)).await;
    ws.close(1001).await;
    let mut ws = chat.upstream.joined().await;
    for name in ["disconnect", "reconnect_attempt", "reconnect", "connect"] {
        chat.consumer.hear(&lifecycle(&format!(r#""event":"{name}","…":…"#), true)).await;
    }
    let late =
        format!(r#"{{"id":1,"method":"ack","params":{{"connection":"chat","ack":{}}}}}"#, &asked["ack"]);
    chat.consumer.call(&late, &refusal("1", -32008, "unknown_ack")).await;
    chat.consumer.send(r#"{"method":"emit","params":{"connection":"chat","event":"end"}}"#).await;
    ws.expect(r#"42["end"]"#).await;
}

#[tokio::test]
async fn what_the_server_said_before_its_answer_is_heard_before_it() {
    let (mut chat, mut ws) = Chat::joined("").await;
    for round in 0..50 {
        chat.consumer.send(&ask("")).await;
        ws.expect(&format!(r#"42{round}["ask"]"#)).await;
        ws.send(r#"42["before"]"#).await;
        ws.send(&format!(r#"43{round}["answer"]"#)).await;
        ws.send(r#"42["after"]"#).await;
        for line in [
            &event(r#""event":"before","args":[]"#),
            r#"{"jsonrpc":"2.0","id":1,"result":{"args":["answer"]}}"#,
            &event(r#""event":"after","args":[]"#),
        ] {
            chat.consumer.expect(line).await;
        }
    }
    // Nor is the end of the connection heard after what it took along.
    chat.consumer.send(&ask("")).await;
    ws.expect(r#"4250["ask"]"#).await;
    ws.close(1001).await;
    chat.consumer
        .expect(&lifecycle(r#""event":"disconnect","reason":"transport close","details":…"#, true))
        .await;
    chat.consumer.expect(&refusal("1", -32004, "disconnected")).await;
}

#[tokio::test]
async fn who_leaves_without_an_answer_that_it_owes_or_is_owed_harms_nobody() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let question = event(r#""event":"question","args":[],"ack":…ack"#);
    let mut leaving = chat.daemon.attach().await;
    leaving
        .call(
            r#"{"id":1,"method":"subscribe","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#,
        )
        .await;
    leaving.send(&ask("")).await;
    ws.expect(r#"420["ask"]"#).await;
    ws.send(r#"427["question"]"#).await;
    leaving.hear(&question).await;
    drop(leaving);
    // The question is anybody's still.
    let asked = chat.consumer.hear(&question).await;
    let answer = format!(
        r#"{{"id":1,"method":"ack","params":{{"connection":"chat","ack":{},"args":["late"]}}}}"#,
        &asked["ack"]
    );
    chat.consumer.call(&answer, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
    ws.expect(r#"437["late"]"#).await;
    // The server's answer to who is gone is nobody's, and the next one finds its way.
    ws.send(r#"430["for nobody"]"#).await;
    chat.consumer.send(&ask("")).await;
    ws.expect(r#"421["ask"]"#).await;
    ws.send(r#"431["yes"]"#).await;
    chat.consumer.expect_answer(r#"{"jsonrpc":"2.0","id":1,"result":{"args":["yes"]}}"#).await;
    chat.consumer
        .call(
            r#"{"id":1,"method":"list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"pending_acks":0,"…":…}]}}"#,
        )
        .await;
}
