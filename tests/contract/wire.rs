//! Lines: what counts as one, what is answered, and how.

use crate::common::transcript::compare;
use crate::common::{Chat, Daemon, QUICK, event, lifecycle, refusal};

const LIST: &str = r#"{"jsonrpc":"2.0","id":"end","result":{"connections":[]}}"#;

#[tokio::test]
async fn requests_are_answered_and_what_is_none_is_refused() {
    let invalid = |id: &str| refusal(id, -32600, "invalid_request");
    let unparsable = refusal("null", -32700, "parse_error");
    let listed = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"connections":[]}}}}"#);
    let rows: &[(&str, String)] = &[
        (r#"{"jsonrpc":"2.0","id":1,"method":"list","params":{}}"#, listed("1")),
        (r#"{"id":2,"method":"list"}"#, listed("2")),
        (r#" { "method" : "list" , "id" : 3 } "#, listed("3")),
        (r#"{"id":1.50,"method":"list"}"#, listed("1.50")),
        (r#"{"id":-0,"method":"list"}"#, listed("-0")),
        (
            r#"{"id":123456789012345678901234567890,"method":"list"}"#,
            listed("123456789012345678901234567890"),
        ),
        (r#"{"id":"a\u0041\/é","method":"list"}"#, listed(r#""a\u0041\/é""#)),
        (r#"{"id":"","method":"list"}"#, listed(r#""""#)),
        (r#"{"id":null,"method":"list"}"#, listed("null")),
        (r#"{"id":true,"method":"list"}"#, invalid("null")),
        (r#"{"id":[1],"method":"list"}"#, invalid("null")),
        (r#"{"id":{},"method":"list"}"#, invalid("null")),
        (r#"{"jsonrpc":"1.0","id":4,"method":"list"}"#, invalid("…")),
        (r#"{"jsonrpc":2.0,"id":4,"method":"list"}"#, invalid("…")),
        (r#"{"id":5}"#, invalid("…")),
        // Neither a request nor a notification.
        (r#"{"params":{}}"#, invalid("null")),
        (r#"{"method":5}"#, invalid("null")),
        (r#"{"id":6,"method":7}"#, invalid("…")),
        ("5", invalid("null")),
        (r#""list""#, invalid("null")),
        (r#"[{"id":1,"method":"list"}]"#, invalid("null")),
        ("[]", invalid("null")),
        (r#"["2.0",7,"list"]"#, invalid("null")),
        ("{", unparsable.clone()),
        ("list", unparsable.clone()),
        (r#"{"id":1,"method":"list"} {"id":2,"method":"list"}"#, unparsable.clone()),
        (r#"{"id":01,"method":"list"}"#, unparsable.clone()),
        (r#"{"id":8,"method":"lists"}"#, refusal("8", -32601, "unknown_method")),
        (r#"{"id":9,"method":""}"#, refusal("9", -32601, "unknown_method")),
        (r#"{"id":10,"method":"list","params":[]}"#, refusal("10", -32602, "invalid_params")),
        (r#"{"id":11,"method":"emit"}"#, refusal("11", -32602, "invalid_params")),
        (r#"{"id":12,"method":"emit","params":{"connection":"chat"}}"#, refusal("12", -32602, "invalid_params")),
        (
            r#"{"id":13,"method":"emit","params":{"connection":5,"event":"a"}}"#,
            refusal("13", -32602, "invalid_params"),
        ),
        (
            r#"{"id":14,"method":"subscribe","params":{"last":-1}}"#,
            refusal("14", -32602, "invalid_params"),
        ),
        (
            r#"{"id":15,"method":"subscribe","params":{"colour":"red"}}"#,
            r#"{"jsonrpc":"2.0","id":15,"error":{"code":-32602,"message":"…colour…","data":{"kind":"invalid_params","…":…}}}"#.into(),
        ),
        (
            r#"{"id":16,"method":"list","params":{"conection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":16,"error":{"code":-32602,"message":"…conection…","data":{"kind":"invalid_params","…":…}}}"#.into(),
        ),
    ];
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = daemon.attach().await;
    for (line, answer) in rows {
        consumer.send(line).await;
        consumer.expect(answer).await;
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused_and_the_consumer_stays() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = daemon.attach().await;
    for bytes in [
        &b"\xff\xfe\n"[..],
        b"{\"id\":\"\xc3\x28\",\"method\":\"list\"}\n",
        b"{\"id\":1,\"method\":\"list\x00\"}\n",
    ] {
        consumer.send_bytes(bytes).await;
        consumer.expect(&refusal("null", -32700, "parse_error")).await;
    }
    consumer.send(r#"{"id":"end","method":"list"}"#).await;
    consumer.expect(LIST).await;
}

#[tokio::test]
async fn crlf_ends_a_line_and_blank_lines_are_none() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = daemon.attach().await;
    consumer.send_bytes(b"\n\r\n\n{\"id\":\"end\",\"method\":\"list\"}\r\n\r\n\n").await;
    consumer.expect(LIST).await;
    consumer.expect_silence().await;
}

#[tokio::test]
async fn a_notification_is_never_answered_not_even_when_it_is_wrong() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = daemon.attach().await;
    for notification in [
        r#"{"method":"list"}"#,
        r#"{"jsonrpc":"2.0","method":"nonsense"}"#,
        r#"{"method":"emit","params":{}}"#,
        r#"{"method":"emit","params":{"connection":"nobody","event":"a"}}"#,
        r#"{"method":"unsubscribe","params":{"subscription":"none"}}"#,
    ] {
        consumer.send(notification).await;
    }
    consumer.send(r#"{"id":"end","method":"list"}"#).await;
    consumer.expect(LIST).await;
}

#[tokio::test]
async fn a_notification_is_carried_out() {
    let (mut chat, mut ws) = Chat::joined("").await;
    chat.consumer.send(r#"{"method":"emit","params":{"connection":"chat","event":"hi"}}"#).await;
    ws.expect(r#"42["hi"]"#).await;
}

#[tokio::test]
async fn a_line_that_is_too_long_is_thrown_away_up_to_its_end() {
    let daemon = Daemon::start("[api]\nmax_line = 1024\n").await;
    let mut consumer = daemon.attach().await;
    consumer
        .call(
            r#"{"id":1,"method":"hello"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"limits":{"max_line":1024,"…":…},"…":…}}"#,
        )
        .await;
    let padded = |length: usize| {
        let line = r#"{"id":"end","method":"list"}"#;
        format!("{}{line}", " ".repeat(length - line.len()))
    };
    for (length, answer) in [
        (1024, LIST.to_owned()),
        (1025, refusal("null", -32600, "too_large")),
        (5_000_000, refusal("null", -32600, "too_large")),
        (20, LIST.to_owned()),
    ] {
        consumer.send(&padded(length.max(28))).await;
        consumer.expect(&answer).await;
    }
}

#[tokio::test]
async fn nesting_ends_at_128_levels() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = daemon.attach().await;
    // The request, its params and its args are three of the levels.
    let request = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 3), "]".repeat(levels - 3));
        format!(
            r#"{{"id":1,"method":"emit","params":{{"connection":"nobody","event":"a","args":[{open}{close}]}}}}"#
        )
    };
    consumer.call(&request(128), &refusal("1", -32000, "unknown_connection")).await;
    consumer.call(&request(129), &refusal("…", -32600, "invalid_request")).await;
    consumer.call(&request(100_000), &refusal("…", -32600, "invalid_request")).await;
    consumer.call(r#"{"id":"end","method":"list"}"#, LIST).await;
}

#[tokio::test]
async fn the_daemon_closes_after_the_last_answer_to_a_consumer_that_has_stopped_writing() {
    let daemon = Daemon::start(QUICK).await;
    for request in ["{\"id\":\"end\",\"method\":\"list\"}\n", r#"{"id":"end","method":"list"}"#] {
        let mut consumer = daemon.attach().await;
        consumer.send_bytes(request.as_bytes()).await;
        consumer.shut_writing();
        consumer.expect(LIST).await;
        consumer.expect_end().await;
    }
    let mut silent = daemon.attach().await;
    silent.shut_writing();
    silent.expect_end().await;
}

#[tokio::test]
async fn a_consumer_that_has_stopped_writing_still_gets_an_answer_that_takes_long() {
    let (chat, mut ws) = Chat::joined("").await;
    let mut consumer = chat.daemon.attach().await;
    consumer
        .send_bytes(
            br#"{"id":1,"method":"emit","params":{"connection":"chat","event":"ask","ack":true}}"#.as_slice(),
        )
        .await;
    consumer.shut_writing();
    ws.expect(r#"420["ask"]"#).await;
    ws.send(r#"430["yes"]"#).await;
    consumer.expect(r#"{"jsonrpc":"2.0","id":1,"result":{"args":["yes"]}}"#).await;
    consumer.expect_end().await;
}

#[tokio::test]
async fn a_subscriber_that_has_stopped_writing_goes_on_hearing() {
    let (mut chat, mut ws) = Chat::joined("").await;
    chat.consumer.shut_writing();
    for i in 0..3 {
        ws.send(&format!(r#"42["tick",{i}]"#)).await;
        let event = format!(
            r#"{{"jsonrpc":"2.0","method":"event","params":{{"connection":"chat","seq":{},"event":"tick","args":[{i}]}}}}"#,
            i + 3
        );
        chat.consumer.expect(&event).await;
    }
}

#[tokio::test]
async fn a_half_closed_subscriber_that_goes_away_is_noticed() {
    let chat = Chat::idle("").await;
    let mut other = chat.daemon.attach().await;
    let open = r#"{"id":1,"method":"open","params":{"name":"mine","url":"http://127.0.0.1:1/","auto_connect":false}}"#;
    let mut owner = chat.daemon.attach().await;
    owner
        .call(
            open,
            r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"connection":{"name":"mine","…":…}}}"#,
        )
        .await;
    owner.send(r#"{"id":2,"method":"subscribe","params":{"connection":"mine"}}"#).await;
    owner.expect(r#"{"jsonrpc":"2.0","id":2,"result":{"…":…}}"#).await;
    owner.shut_writing();
    other
        .call(
            r#"{"id":1,"method":"subscribe","params":{"connection":"mine"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#,
        )
        .await;
    drop(owner);
    // What lives as long as the one who opened it ends with him.
    other
        .hear(
            r#"{"jsonrpc":"2.0","method":"lifecycle","params":{"connection":"mine","seq":2,"event":"closed","by":"consumer","active":false,"time":"…"}}"#,
        )
        .await;
}

#[tokio::test]
async fn a_notification_is_never_answered_whatever_is_wrong_with_it() {
    let daemon = Daemon::start("").await;
    let mut consumer = daemon.attach().await;
    let deep = format!(r#"{{"method":"list","params":{{"a":{}1{}}}}}"#, "[".repeat(130), "]".repeat(130));
    for line in [
        r#"{"method":"list"}"#,
        r#"{"method":"nonsense"}"#,
        r#"{"jsonrpc":"1.0","method":"list"}"#,
        r#"{"method":"subscribe","params":{"connection":"nobody"}}"#,
        r#"{"method":"emit","params":[1]}"#,
        &deep,
    ] {
        consumer.send(line).await;
        consumer.expect_silence().await;
    }
}

#[tokio::test]
async fn a_subscription_may_be_a_notification() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut quiet = chat.daemon.attach().await;
    quiet.send(r#"{"method":"subscribe","params":{"connection":"chat"}}"#).await;
    // Its own request has no answer to wait for, but a later one follows it.
    quiet.expect_silence().await;
    ws.send(r#"42["tick"]"#).await;
    quiet.hear(&event(r#""event":"tick","args":[]"#)).await;
    chat.consumer.hear(&event(r#""event":"tick","args":[]"#)).await;
    // Nor does anything else have to be on its way: alone on a fresh attachment, and never followed.
    let mut alone = chat.daemon.attach().await;
    alone.send(r#"{"method":"subscribe"}"#).await;
    let subscribed = r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"subscribers":3,"…":…}]}}"#;
    while compare(subscribed, &chat.consumer.request(r#"{"id":1,"method":"list"}"#).await).is_err() {}
    ws.send(r#"42["tock"]"#).await;
    alone.hear(&event(r#""event":"tock","args":[]"#)).await;
}

#[tokio::test]
async fn what_was_asked_by_one_that_reads_nothing_and_leaves_is_carried_out() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut hasty = chat.daemon.attach().await;
    let request = |i| {
        format!(r#"{{"id":{i},"method":"emit","params":{{"connection":"chat","event":"e","args":[{i}]}}}}"#)
    };
    let requests = (0..2000).map(request).collect::<Vec<_>>().join("\n");
    hasty.send_bytes(requests.as_bytes()).await;
    drop(hasty);
    for i in 0..2000 {
        ws.expect(&format!(r#"42["e",{i}]"#)).await;
    }
    chat.consumer.expect_silence().await;
}

#[tokio::test]
async fn nothing_comes_unasked() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut silent = chat.daemon.attach().await;
    for _ in 0..10 {
        ws.send(r#"42["tick"]"#).await;
        chat.consumer.hear(&event(r#""event":"tick","args":[]"#)).await;
    }
    silent.expect_silence().await;
}

#[tokio::test]
async fn no_message_has_a_newline_in_it() {
    let (mut chat, mut ws) = Chat::joined("on_connect_error = \"retry\"").await;
    ws.send("42[\n\"a\"\r\n,\n{\n\"b\"\n:\n[\n1\n]\n}\n]").await;
    chat.consumer.expect(&event(r#""event":"a","args":[{"b":[1]}]"#)).await;
    ws.send("451-[\n\"file\",\n{\n\"_placeholder\":\ntrue,\n\"num\":\n0\n}\n]").await;
    ws.send_binary(&[9]).await;
    chat.consumer.expect(&event(r#""event":"file","args":[{"$binary":"CQ=="}],"binary":true"#)).await;
    chat.consumer
        .send(r#"{"id":1,"method":"emit","params":{"connection":"chat","event":"ask","ack":true}}"#)
        .await;
    ws.expect(r#"420["ask"]"#).await;
    ws.send("430[\n1,\n\"two\\n\"\n]").await;
    chat.consumer.expect(r#"{"jsonrpc":"2.0","id":1,"result":{"args":[1,"two\n"]}}"#).await;
    ws.close(1001).await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(crate::common::upstream::OPEN).await;
    ws.expect("40").await;
    ws.send("44{\n\"message\":\n\"line one\\nline two\",\n\"data\":\n{\n\"a\":\n1\n}\n}").await;
    for name in ["disconnect", "reconnect_attempt", "reconnect"] {
        chat.consumer.hear(&lifecycle(&format!(r#""event":"{name}","…":…"#), true)).await;
    }
    let refused = r#""event":"connect_error","message":"line one\nline two","data":{"a":1},"…":…"#;
    chat.consumer.hear(&lifecycle(refused, true)).await;
}

#[tokio::test]
async fn every_method_refuses_a_member_that_it_does_not_know_and_names_it() {
    let mut chat = Chat::idle("").await;
    for (method, params) in [
        ("hello", ""),
        ("list", ""),
        ("status", ""),
        ("subscribe", ""),
        ("unsubscribe", r#""subscription":1,"#),
        ("emit", r#""connection":"chat","event":"a","#),
        ("ack", r#""connection":"chat","ack":1,"#),
        ("connect", r#""connection":"chat","#),
        ("disconnect", r#""connection":"chat","#),
        ("set_auth", r#""connection":"chat","auth":{},"#),
        ("open", r#""name":"mine","url":"http://localhost:1","#),
        ("close", r#""connection":"chat","#),
        ("reload", ""),
    ] {
        let request = format!(r#"{{"id":1,"method":"{method}","params":{{{params}"colour":1}}}}"#);
        let refusal = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"…colour…","data":{"kind":"invalid_params"}}}"#;
        chat.consumer.call(&request, refusal).await;
    }
    // Nothing of it was carried out.
    chat.consumer.expect_silence().await;
}

#[tokio::test]
async fn what_is_sent_at_once_takes_effect_in_order() {
    let mut chat = Chat::idle("").await;
    let mut requests = Vec::new();
    for (id, method, params) in [
        (1, "emit", r#""connection":"chat","event":"first""#),
        (2, "set_auth", r#""connection":"chat","auth":{"n":1}"#),
        (3, "open", r#""name":"mine","url":"http://localhost:1""#),
        (4, "emit", r#""connection":"mine","event":"a""#),
        (5, "emit", r#""connection":"chat","event":"second""#),
        (6, "list", ""),
        (7, "close", r#""connection":"mine""#),
        (8, "emit", r#""connection":"mine","event":"b""#),
        (9, "connect", r#""connection":"chat""#),
        (10, "list", ""),
    ] {
        requests.push(format!(r#"{{"id":{id},"method":"{method}","params":{{{params}}}}}"#));
    }
    chat.consumer.send(&requests.join("\n")).await;
    // The answers happen to come in order too, for none of these waits for the server.
    for answer in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"status":"buffered","active":false}}"#,
        r#"{"jsonrpc":"2.0","id":2,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":3,"result":{"created":true,"…":…}}"#,
        r#"{"jsonrpc":"2.0","id":4,"result":{"status":"buffered","active":false}}"#,
        r#"{"jsonrpc":"2.0","id":5,"result":{"status":"buffered","active":false}}"#,
        r#"{"jsonrpc":"2.0","id":6,"result":{"connections":[{"name":"chat","buffered":2,"…":…},{"name":"mine","buffered":1,"…":…}]}}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
        &refusal("8", -32000, "unknown_connection"),
        r#"{"jsonrpc":"2.0","id":9,"result":{"state":"connecting","…":…}}"#,
        r#"{"jsonrpc":"2.0","id":10,"result":{"connections":[{"name":"chat","state":"connecting","buffered":2,"…":…}]}}"#,
    ] {
        chat.consumer.expect_answer(answer).await;
    }
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(crate::common::upstream::OPEN).await;
    ws.expect(r#"40{"n":1}"#).await;
    ws.send(r#"40{"sid":"a"}"#).await;
    ws.expect(r#"42["first"]"#).await;
    ws.expect(r#"42["second"]"#).await;
}
