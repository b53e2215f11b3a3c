//! The life of a connection, as its lifecycle events tell it, against a scripted upstream.

mod common;

use common::upstream::OPEN;
use common::{CONNECT, Chat, Upstream, Ws, event, lifecycle};

const LOST: &str = r#""event":"disconnect","reason":"transport close","details":{"message":"…","code":"#;

impl Chat {
    /// The next notifications of `chat` must be these lifecycle events.
    async fn hears(&mut self, events: &[(&str, bool)]) {
        for (members, active) in events {
            self.consumer.hear(&lifecycle(members, *active)).await;
        }
    }

    /// What comes between a loss and being joined again at the first attempt.
    async fn rejoins(&mut self) -> Ws {
        let ws = self.upstream.joined().await;
        self.hears(&[
            (r#""event":"reconnect_attempt","attempt":1"#, true),
            (r#""event":"reconnect","attempt":1"#, true),
        ])
        .await;
        self.consumer.hear(CONNECT).await;
        ws
    }
}

#[tokio::test]
async fn a_first_connection_that_fails_is_tried_again() {
    let mut chat = Chat::idle("").await;
    chat.start().await;
    chat.upstream.handshake().await.refuse(503).await;
    chat.upstream.handshake().await.refuse(404).await;
    let mut ws = chat.upstream.joined().await;
    chat.hears(&[
        (
            r#""event":"connect_error","message":"…","source":"transport""#,
            true,
        ),
        (r#""event":"reconnect_attempt","attempt":1"#, true),
        (
            r#""event":"connect_error","message":"…","source":"transport""#,
            true,
        ),
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
    chat.hears(&[(&format!("{LOST}1001}}"), true)]).await;
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
            (
                r#""event":"connect_error","message":"…","source":"transport""#,
                true,
            ),
            (r#""event":"reconnect_attempt","attempt":1"#, true),
            (
                r#""event":"connect_error","message":"…","source":"transport""#,
                true,
            ),
            (r#""event":"reconnect_error","attempt":1,"message":"…""#, true),
            (r#""event":"reconnect_attempt","attempt":2"#, true),
        ])
        .await;
        // Whether the last attempt's failure already counts as the end is left open; what follows is the end.
        for last in [
            r#""event":"connect_error","message":"…","source":"transport""#,
            r#""event":"reconnect_error","attempt":2,"message":"…""#,
        ] {
            chat.consumer
                .hear(&format!(
                    r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"chat","seq":…,{last},"active":…,"time":"…"}}}}"#
                ))
                .await;
        }
        chat.hears(&[(r#""event":"reconnect_failed","attempts":2"#, false)])
            .await;
    }
    chat.start().await;
    chat.join().await;
}

/// Every way in which an attempt can fail before the Engine.IO session is open.
#[tokio::test]
async fn a_server_that_does_not_open_a_session_fails_the_attempt() {
    let mut chat = Chat::idle("timeout = \"500ms\"").await;
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
        chat.hears(&[(
            r#""event":"connect_error","message":"…","source":"transport""#,
            true,
        )])
        .await;
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
    let mut chat = Chat::idle("timeout = \"500ms\"").await;
    chat.start().await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40").await;
    chat.hears(&[
        (
            r#""event":"connect_error","message":"…","source":"transport""#,
            true,
        ),
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
            r#""message":"not authorized","data":{"code":"E1","n":1.50}"#,
        ),
        (
            r#"44{"message":"Invalid namespace"}"#,
            r#""message":"Invalid namespace""#,
        ),
        (r#"44"Unable to connect""#, r#""message":"Unable to connect""#),
        ("44{}", r#""message":"""#),
    ] {
        chat.start().await;
        let mut ws = chat.upstream.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect("40").await;
        ws.send(packet).await;
        // No attempt and no `disconnect` comes between one refusal and the next.
        chat.hears(&[(
            &format!(r#""event":"connect_error",{members},"source":"server""#),
            false,
        )])
        .await;
        ws.expect_closed().await;
    }
    chat.start().await;
    chat.join().await;
}

#[tokio::test]
async fn a_kick_is_final_until_connect_is_called() {
    let (mut chat, mut ws) = Chat::joined("").await;
    ws.send("41").await;
    chat.hears(&[(
        r#""event":"disconnect","reason":"io server disconnect","details":null"#,
        false,
    )])
    .await;
    ws.expect_closed().await;
    chat.start().await;
    chat.join().await;
}

#[tokio::test]
async fn a_lost_transport_comes_back() {
    let (mut chat, ws) = Chat::joined("").await;
    ws.close(1001).await;
    chat.hears(&[(&format!("{LOST}1001}}"), true)]).await;
    let ws = chat.rejoins().await;
    ws.hang_up().await;
    chat.hears(&[(&format!("{LOST}1006}}"), true)]).await;
    let ws = chat.rejoins().await;
    ws.reset();
    chat.hears(&[(&format!("{LOST}1006}}"), true)]).await;
    let mut ws = chat.rejoins().await;
    ws.send("1").await;
    chat.hears(&[(
        r#""event":"disconnect","reason":"transport close","details":…"#,
        true,
    )])
    .await;
    chat.rejoins().await;
}

#[tokio::test]
async fn what_is_no_websocket_or_no_packet_is_a_transport_error() {
    let (mut chat, mut ws) = Chat::joined("max_payload = \"64KiB\"").await;
    let error = r#""event":"disconnect","reason":"transport error","details":{"message":"…","…":…}"#;
    ws.write_raw(b"\xf1\x00").await; // Reserved bits set.
    chat.hears(&[(error, true)]).await;
    let mut ws = chat.rejoins().await;
    ws.write_raw(b"\x81\x02\xff\xff").await; // A text that is no UTF-8.
    chat.hears(&[(error, true)]).await;
    let mut ws = chat.rejoins().await;
    ws.write_raw(b"\x81\x7f\x00\x00\x00\x7f\xff\xff\xff\xff").await; // A text of half a terabyte.
    chat.hears(&[(error, true)]).await;
    for packet in ["", "x", "7", "é"] {
        let mut ws = chat.rejoins().await;
        ws.send(packet).await;
        chat.hears(&[(error, true)]).await;
    }
    chat.rejoins().await;
}

#[tokio::test]
async fn what_is_no_socket_io_is_a_parse_error() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let deep = format!(r#"42["a",{}{}]"#, "[".repeat(200), "]".repeat(200));
    for packets in [
        &["4nonsense"][..],
        &["49"],
        &["42[]"],
        &["42{}"],
        &["42[null]"],
        &[r#"42["a""#],
        &[r#"42["a"]x"#],
        &[r#"42["a",NaN]"#],
        &[r#"42["connect"]"#],
        &[r#"42["\u0063onnect"]"#],
        &["431{}"],
        &[r#"450-["a"]"#],
        &[r#"4511-["a"]"#],
        &[r#"45["a"]"#],
        &[r#"451-["a",{"_placeholder":true,"num":0}]"#, r#"42["between"]"#],
        &[r#"451-["a",{"_placeholder":true,"num":1}]"#, "(binary)"],
        &["(binary)"],
        &[&deep],
    ] {
        for packet in packets {
            if *packet == "(binary)" {
                ws.send_binary(&[1]).await;
            } else {
                ws.send(packet).await;
            }
        }
        let error = r#""event":"disconnect","reason":"parse error","details":{"message":"…","…":…}"#;
        println!("{packets:?}");
        chat.hears(&[(error, true)]).await;
        ws = chat.rejoins().await;
    }
}

#[tokio::test]
async fn packets_that_mean_nothing_here_are_let_pass() {
    let (mut chat, mut ws) = Chat::joined("").await;
    for packet in [
        r#"42/elsewhere,["a"]"#,
        "439[]",
        "44/elsewhere,{}",
        "41/elsewhere,",
        "3",
        "6",
        r#"0{"sid":"x"}"#,
    ] {
        ws.send(packet).await;
    }
    ws.send(r#"42["end"]"#).await;
    chat.consumer.hear(&event(r#""event":"end","args":[]"#)).await;
}

#[tokio::test]
async fn pings_are_answered_and_their_absence_ends_the_session() {
    let mut chat = Chat::idle("").await;
    chat.start().await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(
        r#"0{"sid":"a","upgrades":[],"pingInterval":500,"pingTimeout":500,"maxPayload":1000000,"more":[1]}"#,
    )
    .await;
    ws.expect("40").await;
    ws.send(r#"40{"sid":"a","more":{}}"#).await;
    chat.consumer.hear(CONNECT).await;
    for ping in ["2", "2abc", "2"] {
        ws.send(ping).await;
        ws.expect("3").await;
    }
    chat.hears(&[(
        r#""event":"disconnect","reason":"ping timeout","details":null"#,
        true,
    )])
    .await;
    chat.rejoins().await;
}

#[tokio::test]
async fn without_reconnection_a_loss_is_final_until_connect_is_called() {
    let mut chat = Chat::idle("reconnection = false").await;
    chat.start().await;
    chat.upstream.handshake().await.refuse(503).await;
    chat.hears(&[(
        r#""event":"connect_error","message":"…","source":"transport""#,
        false,
    )])
    .await;
    for _ in 0..2 {
        chat.start().await;
        let ws = chat.join().await;
        ws.close(1001).await;
        chat.hears(&[(&format!("{LOST}1001}}"), false)]).await;
    }
}

#[tokio::test]
async fn what_is_emitted_while_the_connection_is_away_follows_in_order() {
    let (mut chat, ws) = Chat::joined("").await;
    ws.close(1001).await;
    chat.hears(&[(&format!("{LOST}1001}}"), true)]).await;
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
        .hear(&of(
            "b",
            r#""event":"connect","id":"b","recovered":false,"transport":"websocket""#,
            true,
        ))
        .await;
    ws.send(r#"42/b,["for b"]"#).await;
    chat.consumer
        .hear(&event(r#""event":"for b","args":[]"#).replace("chat", "b"))
        .await;
    ws.send("41/b,").await;
    chat.consumer
        .hear(&of(
            "b",
            r#""event":"disconnect","reason":"io server disconnect","details":null"#,
            false,
        ))
        .await;
    ws.send(r#"42["for a"]"#).await;
    chat.consumer
        .hear(&event(r#""event":"for a","args":[]"#).replace("chat", "a"))
        .await;
    chat.consumer.request(&connect("b")).await;
    ws.expect("40/b,").await;
    ws.send(r#"44/b,{"message":"no"}"#).await;
    chat.consumer
        .hear(&of(
            "b",
            r#""event":"connect_error","message":"no","source":"server""#,
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
        .hear(&of(
            "a",
            r#""event":"disconnect","reason":"transport close","details":…"#,
            true,
        ))
        .await;
    chat.consumer
        .hear(&of("a", r#""event":"reconnect_attempt","attempt":1"#, true))
        .await;
}

#[tokio::test]
async fn the_auth_file_is_read_at_every_connect_and_never_quoted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("auth.json");
    std::fs::write(&file, r#"{"token":"first"}"#).expect("a file of the test's own");
    let mut chat = Chat::idle(&format!("auth_file = \"{}\"", file.display())).await;
    chat.start().await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"token":"first"}"#).await;
    ws.send(r#"40{"sid":"a"}"#).await;
    chat.consumer.hear(CONNECT).await;
    std::fs::write(&file, "\"secret-that-is-no-object").expect("a file of the test's own");
    ws.close(1001).await;
    chat.hears(&[(&format!("{LOST}1001}}"), true)]).await;
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    loop {
        let line = chat.consumer.next_notification().await;
        assert!(!line.contains("secret-that"), "{line}");
        if line.contains(r#""connect_error""#) {
            assert!(line.contains(r#""source":"auth""#), "{line}");
            break;
        }
    }
    std::fs::write(&file, r#"{"token":"second"}"#).expect("a file of the test's own");
    // Attempts that read the file before it was whole again are refused like the first.
    let opened = async {
        loop {
            let mut ws = chat.upstream.accept_ws().await;
            ws.send(OPEN).await;
            if let Some(connect) = ws.next_text_or_end().await {
                return connect;
            }
        }
    };
    let retried = common::within("a CONNECT after the file is whole", async {
        tokio::select! {
            connect = ws.next_text_or_end() => match connect {
                Some(connect) => connect,
                None => std::future::pending().await,
            },
            connect = opened => connect,
        }
    })
    .await;
    assert_eq!(retried, r#"40{"token":"second"}"#);
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
        chat.consumer
            .hear(&lifecycle(&format!(r#""event":"{name}","…":…"#), true))
            .await;
    }
    chat.consumer
        .hear(&event(r#""event":"missed","args":["offset-2"]"#))
        .await;
    chat.consumer
        .hear(
            &CONNECT
                .replace("false", "true")
                .replace(r#""id":"…""#, r#""id":"S""#),
        )
        .await;
    // A new session is not recovered, and its first CONNECT has no offset of the old one.
    ws.reset();
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"pid":"P","offset":"offset-2"}"#).await;
    ws.send(r#"40{"sid":"T","pid":"Q"}"#).await;
    for name in ["disconnect", "reconnect_attempt", "reconnect"] {
        chat.consumer
            .hear(&lifecycle(&format!(r#""event":"{name}","…":…"#), true))
            .await;
    }
    chat.consumer.hear(CONNECT).await;
    ws.reset();
    let mut ws = chat.upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"pid":"Q"}"#).await;
}
