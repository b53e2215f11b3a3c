//! `on_connect`: a login for everybody who shares the connection.

use crate::common::upstream::OPEN;
use crate::common::{CONNECT, Chat, event, lifecycle, refusal};

const LOGIN: &str = r#"[[connections.chat.on_connect]]
event = "login"
args = ["me", { password = "secret" }]
expect = { ok = true }
[[connections.chat.on_connect]]
event = "subscribe"
"#;

#[tokio::test]
async fn the_script_goes_first_and_ready_tells_when_it_is_through() {
    let mut chat = Chat::idle(LOGIN).await;
    chat.consumer
        .call(
            r#"{"id":1,"method":"emit","params":{"connection":"chat","event":"early"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"status":"buffered","active":false}}"#,
        )
        .await;
    chat.consumer.send(r#"{"id":2,"method":"connect","params":{"connection":"chat","wait":20000}}"#).await;
    let mut ws = chat.upstream.joined().await;
    chat.consumer.hear(CONNECT).await;
    ws.expect(r#"420["login","me",{"password":"secret"}]"#).await;
    chat.consumer
        .call(
            r#"{"id":3,"method":"emit","params":{"connection":"chat","event":"later"}}"#,
            r#"{"jsonrpc":"2.0","id":3,"result":{"status":"buffered","active":true}}"#,
        )
        .await;
    chat.consumer
        .call(
            r#"{"id":4,"method":"emit","params":{"connection":"chat","event":"now","volatile":true}}"#,
            r#"{"jsonrpc":"2.0","id":4,"result":{"status":"dropped","active":true}}"#,
        )
        .await;
    chat.consumer
        .call(
            r#"{"id":5,"method":"list"}"#,
            r#"{"jsonrpc":"2.0","id":5,"result":{"connections":[{"connected":true,"ready":false,"buffered":2,"…":…}]}}"#,
        )
        .await;
    ws.send(r#"430[{"ok":true,"token":"x"}]"#).await;
    for packet in [r#"42["subscribe"]"#, r#"42["early"]"#, r#"42["later"]"#] {
        ws.expect(packet).await;
    }
    chat.consumer.hear(&lifecycle(r#""event":"ready""#, true)).await;
    chat.consumer
        .expect_answer(
            r#"{"jsonrpc":"2.0","id":2,"result":{"name":"chat","connected":true,"ready":true,"…":…}}"#,
        )
        .await;
    // After every CONNECT.
    ws.close(1001).await;
    let mut ws = chat.upstream.joined().await;
    ws.expect(r#"421["login","me",{"password":"secret"}]"#).await;
}

#[tokio::test]
async fn a_login_that_fails_is_told_and_ends_the_connection() {
    let mut chat = Chat::idle(LOGIN).await;
    chat.consumer.send(r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":20000}}"#).await;
    let mut ws = chat.upstream.joined().await;
    chat.consumer.hear(CONNECT).await;
    ws.expect(r#"420["login","me",{"password":"secret"}]"#).await;
    ws.send(r#"430[{"ok":false,"msg":"no"},1.50]"#).await;
    chat.consumer
        .hear(&lifecycle(
            r#""event":"setup_failed","step":0,"message":"…","answer":[{"ok":false,"msg":"no"},1.50]"#,
            false,
        ))
        .await;
    chat.consumer
        .hear(&lifecycle(r#""event":"disconnect","reason":"io client disconnect","details":null"#, false))
        .await;
    chat.consumer.expect_answer(&refusal("1", -32009, "connect_failed")).await;
    ws.expect("41").await;
    ws.expect_closed().await;
}

#[tokio::test]
async fn a_step_s_file_is_read_anew_and_never_quoted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("login.json");
    std::fs::write(&file, r#"["me","first secret"]"#).expect("a file of the test's own");
    let script = format!(
        "on_connect_error = \"retry\"\n[[connections.chat.on_connect]]\nevent = \"login\"\nargs_file = \"{}\"\n",
        file.display()
    );
    let mut chat = Chat::idle(&script).await;
    chat.start().await;
    let mut ws = chat.upstream.joined().await;
    ws.expect(r#"42["login","me","first secret"]"#).await;
    chat.consumer.hear(CONNECT).await;
    chat.consumer.hear(&lifecycle(r#""event":"ready""#, true)).await;
    std::fs::write(&file, r#""a secret that is no array"#).expect("a file of the test's own");
    ws.close(1001).await;
    for name in ["disconnect", "reconnect_attempt", "reconnect", "connect"] {
        if name == "reconnect" {
            ws = chat.upstream.accept_ws().await;
            ws.send(OPEN).await;
            ws.expect("40").await;
            ws.send(r#"40{"sid":"again"}"#).await;
        }
        chat.consumer.hear(&lifecycle(&format!(r#""event":"{name}","…":…"#), true)).await;
    }
    let line = chat.consumer.next_notification().await;
    assert!(line.contains(r#""event":"setup_failed","step":0"#) && !line.contains("secret that"), "{line}");
    chat.consumer.hear(&lifecycle(r#""event":"disconnect","…":…"#, true)).await;
    // Told to come back after a refusal, it does so after this one.
    std::fs::write(&file, r#"["me","second secret"]"#).expect("a file of the test's own");
    let mut ws = loop {
        let mut ws = chat.upstream.joined().await;
        if ws.next_text_or_end().await.is_some_and(|text| text == r#"42["login","me","second secret"]"#) {
            break ws;
        }
    };
    while !chat.consumer.next_notification().await.contains(r#""event":"ready""#) {}
    ws.send(r#"42["hello"]"#).await;
    chat.consumer.hear(&event(r#""event":"hello","args":[]"#)).await;
    chat.daemon.terminate().await;
    assert!(!chat.daemon.log().await.contains("secret"));
}

#[tokio::test]
async fn a_script_may_come_with_open() {
    let mut chat = Chat::idle("").await;
    let url = chat.upstream.url();
    chat.consumer
        .call(
            &format!(
                r#"{{"id":1,"method":"open","params":{{"name":"mine","url":"{url}/room","transports":["websocket"],"auto_connect":true,"on_connect":[{{"event":"hello","args":[12345678901234567890123]}}]}}}}"#
            ),
            r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"connection":{"…":…}}}"#,
        )
        .await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40/room,").await;
    ws.send(r#"40/room,{"sid":"r"}"#).await;
    ws.expect(r#"42/room,["hello",12345678901234567890123]"#).await;
}
