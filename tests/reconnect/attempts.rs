//! Coming up: attempts that fail, refusals, giving up.

use crate::common::upstream::OPEN;
use crate::common::{CONNECT, Chat, event};
use crate::lost;

#[tokio::test]
async fn a_first_connection_that_fails_is_tried_again() {
    let mut chat = Chat::idle("").await;
    chat.start().await;
    chat.upstream.handshake().await.refuse(503).await;
    chat.upstream.handshake().await.refuse(404).await;
    let mut ws = chat.upstream.joined().await;
    chat.hears(&[
        (r#""event":"connect_error","message":"…","…":…,"source":"transport""#, true),
        (r#""event":"reconnect_attempt","attempt":1"#, true),
        (r#""event":"connect_error","message":"…","…":…,"source":"transport""#, true),
        (r#""event":"reconnect_error","attempt":1,"message":"…""#, true),
        (r#""event":"reconnect_attempt","attempt":2"#, true),
        (r#""event":"reconnect","attempt":2"#, true),
    ])
    .await;
    chat.consumer.hear(CONNECT).await;
    // The attempts start over at every success.
    ws.send(r#"42["up"]"#).await;
    chat.consumer.hear(&event(r#""event":"up","args":[]"#)).await;
    ws.close(1001).await;
    chat.hears(&[(&lost(1001), true)]).await;
    chat.rejoins().await;
}

#[tokio::test]
async fn giving_up_comes_last_and_connect_starts_over() {
    let mut chat = Chat::idle("reconnection_attempts = 2").await;
    for _ in 0..2 {
        chat.start().await;
        for _ in 0..3 {
            chat.upstream.handshake().await.refuse(503).await;
        }
        chat.hears(&[
            (r#""event":"connect_error","message":"…","…":…,"source":"transport""#, true),
            (r#""event":"reconnect_attempt","attempt":1"#, true),
            (r#""event":"connect_error","message":"…","…":…,"source":"transport""#, true),
            (r#""event":"reconnect_error","attempt":1,"message":"…""#, true),
            (r#""event":"reconnect_attempt","attempt":2"#, true),
        ])
        .await;
        // Whether the last attempt's failure already counts as the end is left open; what follows is the end.
        for last in [
            r#""event":"connect_error","message":"…","…":…,"source":"transport""#,
            r#""event":"reconnect_error","attempt":2,"message":"…""#,
        ] {
            chat.consumer
                .hear(&format!(
                    r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"chat","seq":…,{last},"active":…,"time":"…"}}}}"#
                ))
                .await;
        }
        chat.hears(&[(r#""event":"reconnect_failed","attempts":2"#, false)]).await;
    }
    chat.start().await;
    chat.join().await;
}

/// Every way in which an attempt can fail before the Engine.IO session is open.
#[tokio::test]
async fn a_server_that_does_not_open_a_session_fails_the_attempt() {
    let mut chat = Chat::idle("timeout = \"2s\"").await;
    chat.start().await;
    for (number, name) in [
        "reset",
        "silence",
        "half a handshake",
        "no WebSocket",
        "a WebSocket and silence",
        "a WebSocket and its end",
        "an event first",
        "a handshake that is no JSON",
        "a handshake without a sid",
        "no packet at all",
    ]
    .into_iter()
    .enumerate()
    {
        println!("attempt {number}: {name}");
        let mut handshake = chat.upstream.handshake().await;
        let mut held = (None, None);
        match name {
            "reset" => handshake.reset(),
            "silence" => held.0 = Some(handshake),
            "half a handshake" => {
                handshake.write("HTTP/1.1 101 Switching Protocols\r\nUpgr").await;
                held.0 = Some(handshake);
            }
            "no WebSocket" => {
                handshake.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bm9uc2Vuc2U=\r\n\r\n").await;
                held.0 = Some(handshake);
            }
            "a WebSocket and silence" => held.1 = Some(handshake.accept().await),
            "a WebSocket and its end" => handshake.accept().await.close(1000).await,
            other => {
                let mut ws = handshake.accept().await;
                ws.send(match other {
                    "an event first" => r#"42["early"]"#,
                    "a handshake that is no JSON" => "0{",
                    "a handshake without a sid" => r#"0{"upgrades":[],"pingInterval":1,"pingTimeout":1}"#,
                    _ => "nonsense",
                })
                .await;
                held.1 = Some(ws);
            }
        }
        chat.hears(&[(r#""event":"connect_error","message":"…","…":…,"source":"transport""#, true)]).await;
        if number > 0 {
            let failed = format!(r#""event":"reconnect_error","attempt":{number},"message":"…""#);
            chat.hears(&[(&failed, true)]).await;
        }
        let next = format!(r#""event":"reconnect_attempt","attempt":{}"#, number + 1);
        chat.hears(&[(&next, true)]).await;
    }
    chat.upstream.joined().await;
    chat.hears(&[(r#""event":"reconnect","attempt":10"#, true)]).await;
    chat.consumer.hear(CONNECT).await;
}

#[tokio::test]
async fn a_connect_that_is_never_answered_fails_in_the_end() {
    let mut chat = Chat::idle("timeout = \"2s\"").await;
    chat.start().await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40").await;
    chat.hears(&[
        (r#""event":"connect_error","message":"…","…":…,"source":"transport""#, true),
        (r#""event":"reconnect_attempt","attempt":1"#, true),
    ])
    .await;
    ws.expect_closed().await;
    chat.upstream.joined().await;
    chat.hears(&[(r#""event":"reconnect","attempt":1"#, true)]).await;
    chat.consumer.hear(CONNECT).await;
}

#[tokio::test]
async fn a_server_s_refusal_is_final_until_connect_is_called() {
    let mut chat = Chat::idle("").await;
    for (packet, members) in [
        (
            r#"44{"message":"not authorized","data":{"code":"E1","n":1.50}}"#,
            r#""message":"not authorized","phase":"namespace","data":{"code":"E1","n":1.50}"#,
        ),
        (r#"44{"message":"Invalid namespace"}"#, r#""message":"Invalid namespace","phase":"namespace""#),
        (r#"44"Unable to connect""#, r#""message":"Unable to connect","phase":"namespace""#),
        (r#"44{"message":"no","data":null}"#, r#""message":"no","phase":"namespace","data":null"#),
        (r#"44{"message":7}"#, r#""message":"7","phase":"namespace""#),
        ("44{}", r#""message":"","phase":"namespace""#),
        ("44", r#""message":"","phase":"namespace""#),
    ] {
        chat.start().await;
        let mut ws = chat.upstream.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect("40").await;
        ws.send(packet).await;
        // No attempt and no `disconnect` comes between one refusal and the next.
        chat.hears(&[(&format!(r#""event":"connect_error",{members},"source":"server""#), false)]).await;
        ws.expect_closed().await;
    }
    chat.start().await;
    chat.join().await;
}
