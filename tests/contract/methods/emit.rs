//! From a consumer to the server and back: text, bytes, buffers.

use crate::common::{Chat, Consumer, event, refusal};

const SENT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"status":"sent","active":true}}"#;

fn emit(members: &str) -> String {
    format!(r#"{{"id":1,"method":"emit","params":{{"connection":"chat",{members}}}}}"#)
}

async fn buffer(consumer: &mut Consumer, members: &str) {
    consumer
        .call(&emit(members), r#"{"jsonrpc":"2.0","id":1,"result":{"status":"buffered","active":false}}"#)
        .await;
}

/// JSON that a reader with numbers, trees or its own spelling would change.
const VERBATIM: &[&str] = &[
    "",
    "1",
    "1.0,1.50,-0,1e400,1E+2,0.1e-7",
    "9007199254740993,123456789012345678901234567890",
    r#"{"b":1,"a":2,"b":3}"#,
    r#""a\u0041\/\n\"\\","é€😀""#,
    r#""\ud800","\udc00\ud800""#,
    r"[],{},[[]],[{}],null,true,false",
    r#"{"$binary":"AAEC"}"#,
    r#"{"_placeholder":true,"num":0}"#,
    r#"" two  spaces ",{" k ":" v "}"#,
];

#[tokio::test]
async fn arguments_go_out_as_they_were_written() {
    let (mut chat, mut ws) = Chat::joined("").await;
    for args in VERBATIM {
        chat.consumer.call(&emit(&format!(r#""event":"e","args":[{args}]"#)), SENT).await;
        let comma = if args.is_empty() { "" } else { "," };
        ws.expect(&format!(r#"42["e"{comma}{args}]"#)).await;
    }
    // White space between tokens is as good as none, and is left alone.
    chat.consumer.call(&emit(r#""event":"e","args" : [ 1 , { "a" : [ ] } ]"#), SENT).await;
    ws.expect(r#"42["e",1 , { "a" : [ ] }]"#).await;
}

#[tokio::test]
async fn arguments_come_in_as_they_were_written() {
    let (mut chat, mut ws) = Chat::joined("").await;
    for args in VERBATIM {
        let comma = if args.is_empty() { "" } else { "," };
        ws.send(&format!(r#"42["e"{comma}{args}]"#)).await;
        chat.consumer.expect(&event(&format!(r#""event":"e","args":[{args}]"#))).await;
    }
    ws.send("42[\"e\" ,\n 1,\r\n{ \"a\":\t[ \n] }\n]").await;
    chat.consumer.expect(&event(r#""event":"e","args":[1,{"a":[]}]"#)).await;
    ws.send("42[7,\"x\"]").await;
    chat.consumer.expect(&event(r#""event":"7","args":["x"]"#)).await;
}

#[tokio::test]
async fn any_event_name_can_be_emitted_but_the_reserved_ones() {
    let (mut chat, mut ws) = Chat::joined("").await;
    for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        for name in [name.to_owned(), format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..])] {
            chat.consumer
                .call(&emit(&format!(r#""event":"{name}""#)), &refusal("1", -32005, "reserved_event"))
                .await;
        }
    }
    for name in ["", "error", "message", "ping", "reconnect", "connection", r#"\"quoted\""#, "é"] {
        chat.consumer.call(&emit(&format!(r#""event":"{name}""#)), SENT).await;
        ws.expect(&format!(r#"42["{name}"]"#)).await;
    }
}

#[tokio::test]
async fn bytes_go_out_as_attachments_and_come_in_as_base64() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let args = r#"{"a":[{"$binary":"AAEC"},1],"z":{"$binary":"/w=="}},{"$binary":""}"#;
    chat.consumer.call(&emit(&format!(r#""event":"file","binary":true,"args":[{args}]"#)), SENT).await;
    let placed = r#"{"a":[{"_placeholder":true,"num":0},1],"z":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":2}"#;
    ws.expect(&format!(r#"453-["file",{placed}]"#)).await;
    for bytes in [&[0, 1, 2][..], &[255], &[]] {
        ws.expect_binary(bytes).await;
    }
    ws.send(&format!(r#"453-["file",{placed}]"#)).await;
    for bytes in [&[0, 1, 2][..], &[255], &[]] {
        ws.send_binary(bytes).await;
    }
    chat.consumer.expect(&event(&format!(r#""event":"file","args":[{args}],"binary":true"#))).await;
    // Without the flag such an object is plain data, and with the flag nothing need be binary.
    chat.consumer.call(&emit(r#""event":"file","args":[{"$binary":"no base64"}]"#), SENT).await;
    ws.expect(r#"42["file",{"$binary":"no base64"}]"#).await;
    chat.consumer.call(&emit(r#""event":"file","args":[1],"binary":true"#), SENT).await;
    ws.expect(r#"42["file",1]"#).await;
}

#[tokio::test]
async fn what_is_no_base64_or_too_many_attachments_is_refused() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let eleven = [r#"{"$binary":"AA=="}"#; 11].join(",");
    for args in [
        r#"{"$binary":"AA"}"#,
        r#"{"$binary":"A"}"#,
        r#"{"$binary":"_w=="}"#,
        r#"{"$binary":"AA==\n"}"#,
        r#"{"a":[{"$binary":"é"}]}"#,
        &eleven,
    ] {
        chat.consumer
            .call(
                &emit(&format!(r#""event":"file","binary":true,"args":[{args}]"#)),
                &refusal("1", -32602, "invalid_params"),
            )
            .await;
    }
    chat.consumer.call(&emit(r#""event":"end""#), SENT).await;
    ws.expect(r#"42["end"]"#).await;
}

#[tokio::test]
async fn one_consumer_s_emits_reach_the_server_in_order() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut lines = String::new();
    for i in 0..1000 {
        lines += &emit(&format!(r#""event":"n","args":[{i}]"#)).replace(r#""id":1,"#, "");
        lines += "\n";
    }
    chat.consumer.send_bytes(lines.as_bytes()).await;
    for i in 0..1000 {
        ws.expect(&format!(r#"42["n",{i}]"#)).await;
    }
}

#[tokio::test]
async fn what_is_emitted_before_the_connection_is_up_waits_and_goes_out_in_order() {
    let mut chat = Chat::idle("").await;
    for i in 0..3 {
        buffer(&mut chat.consumer, &format!(r#""event":"early","args":[{i}]"#)).await;
    }
    chat.consumer
        .call(
            r#"{"id":2,"method":"list"}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"connections":[{"buffered":3,"sent":0,"…":…}]}}"#,
        )
        .await;
    chat.start().await;
    let handshake = chat.upstream.handshake().await;
    chat.consumer
        .call(
            &emit(r#""event":"early","args":[3]"#),
            r#"{"jsonrpc":"2.0","id":1,"result":{"status":"buffered","active":true}}"#,
        )
        .await;
    let mut ws = handshake.accept().await;
    ws.send(crate::common::upstream::OPEN).await;
    ws.expect("40").await;
    chat.consumer
        .call(
            &emit(r#""event":"early","args":[4]"#),
            r#"{"jsonrpc":"2.0","id":1,"result":{"status":"buffered","active":true}}"#,
        )
        .await;
    // Nothing may be sent before the answer to CONNECT.
    ws.send(r#"40{"sid":"a"}"#).await;
    for i in 0..5 {
        ws.expect(&format!(r#"42["early",{i}]"#)).await;
    }
    chat.consumer.call(&emit(r#""event":"late""#), SENT).await;
    ws.expect(r#"42["late"]"#).await;
}

#[tokio::test]
async fn a_full_buffer_refuses_and_keeps_what_it_has() {
    let mut chat = Chat::idle("send_buffer = 2048").await;
    let large = "x".repeat(3000);
    buffer(&mut chat.consumer, r#""event":"small","args":[1]"#).await;
    chat.consumer
        .call(&emit(&format!(r#""event":"large","args":["{large}"]"#)), &refusal("1", -32002, "buffer_full"))
        .await;
    buffer(&mut chat.consumer, r#""event":"small","args":[2]"#).await;
    chat.start().await;
    let mut ws = chat.join().await;
    ws.expect(r#"42["small",1]"#).await;
    ws.expect(r#"42["small",2]"#).await;
    // The limit is that of waiting, not of sending.
    chat.consumer.call(&emit(&format!(r#""event":"large","args":["{large}"]"#)), SENT).await;
    ws.expect(&format!(r#"42["large","{large}"]"#)).await;
}

#[tokio::test]
async fn a_volatile_emit_goes_out_now_or_never() {
    let mut chat = Chat::idle("").await;
    let dropped = r#"{"jsonrpc":"2.0","id":1,"result":{"status":"dropped","active":false}}"#;
    chat.consumer.call(&emit(r#""event":"now","volatile":true"#), dropped).await;
    chat.consumer.call(&emit(r#""event":"now","volatile":true,"ack":true"#), dropped).await;
    chat.start().await;
    let mut ws = chat.join().await;
    chat.consumer.call(&emit(r#""event":"then","volatile":true"#), SENT).await;
    ws.expect(r#"42["then"]"#).await;
}

#[tokio::test]
async fn the_send_buffer_outlives_a_disconnect() {
    let (mut chat, mut ws) = Chat::joined("").await;
    chat.consumer
        .call(
            r#"{"id":2,"method":"disconnect","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"state":"disconnected","…":…}}"#,
        )
        .await;
    ws.expect("41").await;
    buffer(&mut chat.consumer, r#""event":"kept""#).await;
    chat.start().await;
    chat.upstream.joined().await.expect(r#"42["kept"]"#).await;
}

#[tokio::test]
async fn a_transport_that_cannot_keep_up_holds_only_those_up_who_emit_on_it() {
    const MANY: usize = 512 << 20;
    let (mut chat, mut ws) = Chat::joined("[connections.other]\nurl = \"http://localhost:1\"\n").await;
    let mut eager = chat.daemon.attach().await;
    let text = "x".repeat(32 * 1024);
    let line = emit(&format!(r#""event":"e","args":["{text}"]"#)).replace(r#""id":1,"#, "") + "\n";
    let written = std::cell::Cell::new(0);
    // The server reads nothing.
    let pouring = async {
        while written.get() < MANY {
            eager.send_bytes(line.as_bytes()).await;
            written.set(written.get() + line.len());
        }
        panic!("the daemon took {MANY} bytes for a server that read none");
    };
    // Others are served meanwhile, until a hundred rounds have brought this one no further.
    let meanwhile = async {
        let (mut seen, mut rounds) = (0, 0);
        let elsewhere =
            r#"{"id":1,"method":"emit","params":{"connection":"other","event":"e","volatile":true}}"#;
        let dropped = r#"{"jsonrpc":"2.0","id":1,"result":{"status":"dropped","active":false}}"#;
        while rounds < 100 {
            chat.consumer.expect_silence().await;
            chat.consumer.call(elsewhere, dropped).await;
            rounds = if written.get() == seen { rounds + 1 } else { 0 };
            seen = written.get();
        }
    };
    tokio::select! {
        () = pouring => {}
        () = meanwhile => {}
    }
    // Everything follows, in order, once the server reads.
    let packets = written.get() / line.len();
    assert!(packets > 0);
    for _ in 0..packets {
        ws.expect(&format!(r#"42["e","{text}"]"#)).await;
    }
}

#[tokio::test]
async fn compress_is_taken_and_changes_nothing() {
    let (mut chat, mut ws) = Chat::joined("").await;
    for compress in [r#","compress":true"#, r#","compress":false"#, ""] {
        chat.consumer.call(&emit(&format!(r#""event":"e","args":["x"]{compress}"#)), SENT).await;
        ws.expect(r#"42["e","x"]"#).await;
    }
    chat.consumer.call(&emit(r#""event":"e","compress":1"#), &refusal("1", -32602, "invalid_params")).await;
}
