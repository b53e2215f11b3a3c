//! What outlives a session, and what shares one.

use crate::common::upstream::OPEN;
use crate::common::{CONNECT, Chat, Upstream, event, lifecycle};
use crate::lost;

#[tokio::test]
async fn what_is_emitted_while_the_connection_is_away_follows_in_order() {
    let (mut chat, ws) = Chat::joined("").await;
    ws.close(1001).await;
    chat.hears(&[(&lost(1001), true)]).await;
    let handshake = chat.upstream.handshake().await;
    for i in 0..3 {
        chat.consumer
            .call(
                &format!(
                    r#"{{"id":1,"method":"emit","params":{{"connection":"chat","event":"away","args":[{i}]}}}}"#
                ),
                r#"{"jsonrpc":"2.0","id":1,"result":{"status":"buffered","active":true}}"#,
            )
            .await;
    }
    // One attempt fails, and nothing of it is lost.
    handshake.refuse(503).await;
    let mut ws = chat.upstream.joined().await;
    for i in 0..3 {
        ws.expect(&format!(r#"42["away",{i}]"#)).await;
    }
}

#[tokio::test]
async fn two_namespaces_share_one_websocket_and_one_may_be_kicked() {
    let mut upstream = Upstream::start().await;
    let url = upstream.url();
    let mut chat = Chat::idle(&format!(
        "[connections.a]\nurl = \"{url}\"\n[connections.b]\nurl = \"{url}/b\"\n[connections.alone]\nurl = \"{url}/b\"\nforce_new = true\n"
    ))
    .await;
    chat.consumer
        .call(
            r#"{"id":1,"method":"subscribe","params":{"connection":"?"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#,
        )
        .await;
    let connect = |name: &str| format!(r#"{{"id":1,"method":"connect","params":{{"connection":"{name}"}}}}"#);
    let of = |name: &str, members: &str, active: bool| {
        lifecycle(members, active).replace(r#""connection":"chat""#, &format!(r#""connection":"{name}""#))
    };
    chat.consumer.request(&connect("a")).await;
    let mut ws = upstream.joined().await;
    chat.consumer.hear(CONNECT).await;
    chat.consumer.request(&connect("b")).await;
    ws.expect("40/b,").await;
    ws.send(r#"40/b,{"sid":"b"}"#).await;
    chat.consumer
        .hear(&of("b", r#""event":"connect","id":"b","recovered":false,"transport":"websocket""#, true))
        .await;
    ws.send(r#"42/b,["for b"]"#).await;
    chat.consumer.hear(&event(r#""event":"for b","args":[]"#).replace("chat", "b")).await;
    ws.send("41/b,").await;
    chat.consumer
        .hear(&of("b", r#""event":"disconnect","reason":"io server disconnect","details":null"#, false))
        .await;
    ws.send(r#"42["for a"]"#).await;
    chat.consumer.hear(&event(r#""event":"for a","args":[]"#).replace("chat", "a")).await;
    chat.consumer.request(&connect("b")).await;
    ws.expect("40/b,").await;
    ws.send(r#"44/b,{"message":"no"}"#).await;
    chat.consumer
        .hear(&of(
            "b",
            r#""event":"connect_error","message":"no","phase":"namespace","source":"server""#,
            false,
        ))
        .await;
    chat.consumer.request(&connect("alone")).await;
    let mut other = upstream.accept_ws().await;
    other.send(OPEN).await;
    other.expect("40/b,").await;
    // The manager's events go to every active connection on it: `b` is not.
    ws.close(1001).await;
    chat.consumer
        .hear(&of("a", r#""event":"disconnect","reason":"transport close","details":…"#, true))
        .await;
    chat.consumer.hear(&of("a", r#""event":"reconnect_attempt","attempt":1"#, true)).await;
}

#[tokio::test]
async fn a_session_that_the_server_recovers_keeps_its_id_and_gets_what_it_missed() {
    let mut chat = Chat::idle("").await;
    chat.start().await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40").await;
    ws.send(r#"40{"sid":"S","pid":"P"}"#).await;
    chat.consumer.hear(CONNECT).await;
    for packet in [r#"42["a",1,"offset-1"]"#, r#"421["asked","no offset"]"#] {
        ws.send(packet).await;
        chat.consumer.next_notification().await;
    }
    ws.reset();
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"pid":"P","offset":"offset-1"}"#).await;
    ws.send(r#"42["missed","offset-2"]"#).await;
    ws.send(r#"40{"sid":"S","pid":"P"}"#).await;
    for name in ["disconnect", "reconnect_attempt", "reconnect"] {
        chat.consumer.hear(&lifecycle(&format!(r#""event":"{name}","…":…"#), true)).await;
    }
    chat.consumer.hear(&event(r#""event":"missed","args":["offset-2"]"#)).await;
    chat.consumer.hear(&CONNECT.replace("false", "true").replace(r#""id":"…""#, r#""id":"S""#)).await;
    // A new session is not recovered, and its first CONNECT has no offset of the old one.
    ws.reset();
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"pid":"P","offset":"offset-2"}"#).await;
    ws.send(r#"40{"sid":"T","pid":"Q"}"#).await;
    for name in ["disconnect", "reconnect_attempt", "reconnect"] {
        chat.consumer.hear(&lifecycle(&format!(r#""event":"{name}","…":…"#), true)).await;
    }
    chat.consumer.hear(CONNECT).await;
    ws.reset();
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"pid":"Q"}"#).await;
}
