//! Every kind of error, with its code and words for people.

use rustix::process::Signal;

use crate::common::{Chat, lifecycle, refusal, transcript};

/// The answer to request 1 has this code and kind, and a message that says more than the kind does.
fn check(answer: &str, code: i32, kind: &str) {
    let literal = format!(
        r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":…message,"data":{{"kind":"{kind}","…":…}}}}}}"#
    );
    let found = transcript::compare(&literal, answer).unwrap_or_else(|error| panic!("{kind}: {error}"));
    assert!(found["message"].split(' ').count() > 3, "{kind}: {}", &found["message"]);
}

#[tokio::test]
async fn each_kind_has_its_code_and_says_what_was_wrong() {
    let (mut chat, mut ws) = Chat::joined("send_buffer = 100\n[api]\nmax_line = 10000\n").await;
    for (method, params, code, kind) in [
        ("lsit", "", -32601, "unknown_method"),
        ("list", r#""colour":1"#, -32602, "invalid_params"),
        ("emit", r#""connection":"nobody","event":"a""#, -32000, "unknown_connection"),
        ("unsubscribe", r#""subscription":9"#, -32001, "unknown_subscription"),
        ("emit", r#""connection":"chat","event":"a","ack":true,"timeout":1"#, -32003, "ack_timeout"),
        ("emit", r#""connection":"chat","event":"connect""#, -32005, "reserved_event"),
        ("open", r#""name":"chat","url":"http://localhost:1""#, -32007, "connection_exists"),
        ("ack", r#""connection":"chat","ack":99"#, -32008, "unknown_ack"),
    ] {
        let request = format!(r#"{{"id":1,"method":"{method}","params":{{{params}}}}}"#);
        check(&chat.consumer.request(&request).await, code, kind);
    }
    for (line, code, kind) in [
        ("{".to_owned(), -32700, "parse_error"),
        ("[]".to_owned(), -32600, "invalid_request"),
        ("x".repeat(20_000), -32600, "too_large"),
    ] {
        let answer = chat.consumer.request(&line).await;
        check(&answer.replace(r#""id":null"#, r#""id":1"#), code, kind);
    }
    ws.expect(r#"420["a"]"#).await;
    chat.consumer
        .send(r#"{"id":1,"method":"emit","params":{"connection":"chat","event":"fate","ack":true}}"#)
        .await;
    ws.expect(r#"421["fate"]"#).await;
    ws.send("41").await;
    chat.consumer
        .hear(&lifecycle(r#""event":"disconnect","reason":"io server disconnect","details":null"#, false))
        .await;
    chat.consumer.expect_answer(&refusal("1", -32004, "disconnected")).await;
    let large = format!(
        r#"{{"id":1,"method":"emit","params":{{"connection":"chat","event":"a","args":["{}"]}}}}"#,
        "x".repeat(200)
    );
    check(&chat.consumer.request(&large).await, -32002, "buffer_full");
    chat.consumer.send(r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":20000}}"#).await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(crate::common::upstream::OPEN).await;
    ws.expect("40").await;
    ws.send(r#"44{"message":"no"}"#).await;
    let refused = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32009,"message":"…no","data":{"kind":"connect_failed"}}}"#;
    chat.consumer.expect_answer(refused).await;
    chat.daemon.folder().configure("colour = 1\n");
    let reload = r#"{"id":1,"method":"reload"}"#;
    check(&chat.consumer.request(reload).await, -32011, "invalid_config");
}

#[tokio::test]
async fn what_is_asked_while_the_daemon_ends_is_answered_as_such() {
    // A program that has yet to take a full ring keeps the end waiting for a moment.
    let (mut chat, mut ws) = Chat::joined("history = { events = 16 }\n[api]\nstall = \"1h\"\n").await;
    let text = "x".repeat(8 * 1024);
    let pouring = async {
        loop {
            ws.send(&format!(r#"42["big","{text}"]"#)).await;
        }
    };
    let mut asking = chat.daemon.attach().await;
    let (mut before, mut rounds) = (0, 0);
    let asked = async {
        loop {
            let answer = asking.request(r#"{"id":1,"method":"list"}"#).await;
            let literal =
                r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"received":…received,"…":…}]}}"#;
            let Ok(found) = transcript::compare(literal, &answer) else { return answer };
            // It is full once nothing has been received for a hundred rounds.
            let received = found.number("received");
            rounds = if received > 16 && received == before { rounds + 1 } else { 0 };
            before = received;
            if rounds == 100 {
                chat.daemon.signal(Signal::TERM);
            }
        }
    };
    let answer = tokio::select! {
        () = pouring => unreachable!("it goes on for ever"),
        answer = asked => answer,
    };
    check(&answer, -32010, "shutting_down");
    asking.expect(r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"shutdown"}}"#).await;
    asking.expect_end().await;
    drop(chat.consumer);
    assert!(chat.daemon.exit().await.success());
}

#[tokio::test]
async fn what_a_program_may_write_has_its_limits() {
    let (chat, mut ws) = Chat::joined("").await;
    let mut consumer = chat.daemon.attach().await;
    let a = |count| "a".repeat(count);
    let invalid = refusal("1", -32602, "invalid_params");
    let taken = r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#;

    let list = |id: &str| format!(r#"{{"id":"{id}","method":"list"}}"#);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{"…":…}}}}"#, a(1022));
    consumer.call(&list(&a(1022)), &answer).await;
    consumer.call(&list(&a(1023)), &refusal("null", -32600, "invalid_request")).await;

    let hello = |client| format!(r#"{{"id":1,"method":"hello","params":{{"client":"{client}"}}}}"#);
    consumer.call(&hello(a(256)), taken).await;
    consumer.call(&hello(a(257)), &invalid).await;

    // The second goes the way of those that follow each other.
    for _ in 0..2 {
        let emit = |event| {
            format!(r#"{{"id":1,"method":"emit","params":{{"connection":"chat","event":"{event}"}}}}"#)
        };
        consumer.call(&emit(a(4096)), taken).await;
        ws.expect(&format!(r#"42["{}"]"#, a(4096))).await;
        consumer.call(&emit(a(4097)), &invalid).await;
    }

    let subscribe =
        |params: &str| format!(r#"{{"id":1,"method":"subscribe","params":{{"connection":{params}}}}}"#);
    let patterns = |count, length| vec![format!("{:?}", a(length)); count].join(",");
    for (params, answer) in [
        (format!(r#""{}*""#, a(256)), invalid.as_str()),
        (format!(r#""{}*""#, a(255)), taken),
        (format!(r#""chat","events":[{}]"#, patterns(1, 257)), &invalid),
        (format!(r#""chat","events":[{}]"#, patterns(257, 1)), &invalid),
        (format!(r#""chat","events":[{}]"#, patterns(256, 1)), taken),
        // All of its patterns count, each with 16 bytes more.
        (format!(r#""chat","events":[{}]"#, patterns(223, 256)), taken),
        (format!(r#""chat","events":[{}]"#, patterns(1, 256)), &invalid),
        (format!(r#""chat","events":[{}]"#, patterns(13, 0)), &invalid),
        (format!(r#""chat","events":[{}]"#, patterns(1, 100)), taken),
    ] {
        consumer.call(&subscribe(&params), answer).await;
    }
    let end = r#"{"id":1,"method":"unsubscribe","params":{"subscription":3}}"#;
    consumer.call(end, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
    consumer.call(&subscribe(&format!(r#""chat","events":[{}]"#, patterns(223, 256))), taken).await;
}
