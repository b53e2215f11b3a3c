//! Going down: kicks, lost transports, broken packets, silence.

use crate::common::{CONNECT, Chat, event};
use crate::lost;

#[tokio::test]
async fn a_kick_is_final_until_connect_is_called() {
    let (mut chat, mut ws) = Chat::joined("").await;
    ws.send("41").await;
    chat.hears(&[(r#""event":"disconnect","reason":"io server disconnect","details":null"#, false)]).await;
    ws.expect_closed().await;
    chat.start().await;
    chat.join().await;
}

#[tokio::test]
async fn a_lost_transport_comes_back() {
    let (mut chat, ws) = Chat::joined("").await;
    ws.close(1001).await;
    chat.hears(&[(&lost(1001), true)]).await;
    let ws = chat.rejoins().await;
    ws.hang_up().await;
    chat.hears(&[(&lost(1006), true)]).await;
    let ws = chat.rejoins().await;
    ws.reset();
    chat.hears(&[(&lost(1006), true)]).await;
    let mut ws = chat.rejoins().await;
    ws.send("1").await;
    chat.hears(&[(r#""event":"disconnect","reason":"transport close","details":…"#, true)]).await;
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
        &["42"],
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
        let error = r#""event":"disconnect","reason":"parse error","details":{"message":"…"}"#;
        println!("{packets:?}");
        chat.hears(&[(error, true)]).await;
        ws = chat.rejoins().await;
    }
    // What is wrong in particular stands in the snapshot and in the log.
    let detail = "more than 128 nested arrays and objects at byte 133";
    let last = format!(
        r#"{{"reason":"parse error","message":"invalid payload","description":"{detail}","time":"…"}}"#
    );
    chat.consumer
        .call(
            r#"{"id":7,"method":"list"}"#,
            &format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"connections":[{{"last_disconnect":{last},"…":…}}]}}}}"#),
        )
        .await;
}

#[tokio::test]
async fn packets_that_mean_nothing_here_are_let_pass() {
    let (mut chat, mut ws) = Chat::joined("").await;
    for packet in
        [r#"42/elsewhere,["a"]"#, "439[]", "44/elsewhere,{}", "41/elsewhere,", "3", "6", r#"0{"sid":"x"}"#]
    {
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
        r#"0{"sid":"a","upgrades":[],"pingInterval":1500,"pingTimeout":1500,"maxPayload":1000000,"more":[1]}"#,
    )
    .await;
    ws.expect("40").await;
    ws.send(r#"40{"sid":"a","more":{}}"#).await;
    chat.consumer.hear(CONNECT).await;
    for ping in ["2", "2abc", "2"] {
        ws.send(ping).await;
        ws.expect("3").await;
    }
    chat.hears(&[(r#""event":"disconnect","reason":"ping timeout","details":null"#, true)]).await;
    ws.expect_closed().await;
    chat.rejoins().await;
}

#[tokio::test]
async fn without_reconnection_a_loss_is_final_until_connect_is_called() {
    let mut chat = Chat::idle("reconnection = false").await;
    chat.start().await;
    chat.upstream.handshake().await.refuse(503).await;
    chat.hears(&[(r#""event":"connect_error","message":"…","…":…,"source":"transport""#, false)]).await;
    for _ in 0..2 {
        chat.start().await;
        let ws = chat.join().await;
        ws.close(1001).await;
        chat.hears(&[(&lost(1001), false)]).await;
    }
}
