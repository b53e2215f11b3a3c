//! `on_connect`: a login for everybody who shares the connection.

use crate::common::upstream::OPEN;
use crate::common::{CONNECT, Chat, QUICK, event, lifecycle, refusal};

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
    // Whoever looks later sees why, too: the reason is that of any disconnect of ours.
    let why = "step 0 of on_connect failed: the server's answer does not contain what is expected";
    let last = format!(r#"{{"reason":"io client disconnect","message":"{why}","time":"…"}}"#);
    let snapshot = format!(r#"{{"name":"chat","last_disconnect":{last},"…":…}}"#);
    chat.consumer
        .call(
            r#"{"id":2,"method":"list"}"#,
            &format!(r#"{{"jsonrpc":"2.0","id":2,"result":{{"connections":[{snapshot}]}}}}"#),
        )
        .await;
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

#[tokio::test]
async fn a_session_that_is_given_back_is_not_logged_in_again_unless_its_script_had_not_gone_through() {
    let mut chat = Chat::idle("[[connections.chat.on_connect]]\nevent = \"login\"\nexpect = true\n").await;
    chat.start().await;
    let recovered = CONNECT.replace("false", "true");
    for (round, ack) in [Some(0), Some(1), None].into_iter().enumerate() {
        let mut ws = chat.upstream.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect(if round == 0 { "40" } else { r#"40{"pid":"P","offset":"o"}"# }).await;
        ws.send(r#"40{"sid":"S","pid":"P"}"#).await;
        if round > 0 {
            chat.consumer.hear(&lifecycle(r#""event":"reconnect","…":…"#, true)).await;
        }
        chat.consumer.hear(if round == 0 { CONNECT } else { &recovered }).await;
        if let Some(ack) = ack {
            ws.expect(&format!(r#"42{ack}["login"]"#)).await;
        }
        if round == 0 {
            ws.send(r#"42["a","o"]"#).await;
            chat.consumer.next_notification().await;
        } else {
            if let Some(ack) = ack {
                ws.send(&format!("43{ack}[true]")).await;
            }
            chat.consumer.hear(&lifecycle(r#""event":"ready""#, true)).await;
        }
        let ready = round > 0;
        let snapshot = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"connections":[{{"connected":true,"ready":{ready},"…":…}}]}}}}"#
        );
        chat.consumer.call(r#"{"id":1,"method":"list"}"#, &snapshot).await;
        if round == 2 {
            // The next thing that the server hears is what somebody emits.
            chat.consumer.send(r#"{"method":"emit","params":{"connection":"chat","event":"next"}}"#).await;
            ws.expect(r#"42["next"]"#).await;
        }
        ws.reset();
        if round < 2 {
            for name in ["disconnect", "reconnect_attempt"] {
                chat.consumer.hear(&lifecycle(&format!(r#""event":"{name}","…":…"#), true)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_reload_that_changes_the_script_or_what_is_kept_makes_the_connection_anew() {
    let mut chat = Chat::idle("sticky = [\"list\"]\n").await;
    chat.start().await;
    let mut ws = chat.join().await;
    ws.send(r#"42["list",1]"#).await;
    chat.consumer.hear(&event(r#""event":"list","args":[1]"#)).await;
    let changed = |more: &str| {
        format!("{QUICK}\n[connections.chat]\nurl = \"{}\"\nauto_connect = true\n{more}", chat.upstream.url())
    };
    for (config, login) in [
        (changed("sticky = [\"list\"]\n[[connections.chat.on_connect]]\nevent = \"login\"\n"), Some("login")),
        (changed("sticky = [\"list\"]\n[[connections.chat.on_connect]]\nevent = \"enter\"\n"), Some("enter")),
        (changed("sticky = []\n"), None),
    ] {
        chat.daemon.folder().configure(&config);
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"added":[],"removed":[],"changed":["chat"],"unchanged":[]}}"#;
        chat.consumer.call(r#"{"id":1,"method":"reload"}"#, answer).await;
        ws.expect("41").await;
        ws = chat.upstream.joined().await;
        if let Some(login) = login {
            ws.expect(&format!(r#"42["{login}"]"#)).await;
        }
        let last = if login.is_some() { "ready" } else { "connect" };
        while !chat.consumer.next_notification().await.contains(&format!(r#""event":"{last}""#)) {}
        // What the connection before had kept went with it.
        let mut late = chat.daemon.attach().await;
        let subscribed = r#"{"jsonrpc":"2.0","id":1,"result":{"replayed":0,"…":…}}"#;
        let subscribe = r#"{"id":1,"method":"subscribe","params":{"sticky":true}}"#;
        late.call(subscribe, subscribed).await;
        ws.send(r#"42["list",2]"#).await;
        chat.consumer.hear(&event(r#""event":"list","args":[2]"#)).await;
        let kept = u32::from(login.is_some());
        let subscribed = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"replayed":{kept},"…":…}}}}"#);
        chat.daemon.attach().await.call(subscribe, &subscribed).await;
    }
}
