//! Events whose last line late comers get at once.

use crate::common::upstream::OPEN;
use crate::common::{CONNECT, Chat, event, lifecycle};

fn numbered(seq: u64, members: &str) -> String {
    event(members).replacen("…", &seq.to_string(), 1)
}

fn subscribe(members: &str) -> String {
    format!(r#"{{"id":9,"method":"subscribe","params":{{"connection":"chat","sticky":true{members}}}}}"#)
}

fn subscribed(replayed: u64, missed: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":9,"result":{{"subscription":…,"stream":"…","connections":[…],"replayed":{replayed},"missed":{missed}}}}}"#
    )
}

#[tokio::test]
async fn the_last_of_each_comes_first_with_its_number_and_only_once() {
    let (mut chat, mut ws) = Chat::joined("sticky = [\"monitorList\", \"info*\"]").await;
    // Seqs 1 to 3 are opened, connect and so on; the first event's is taken from what is heard.
    for packet in [
        r#"42["monitorList",{"a":1}]"#,
        r#"42["infoA",1]"#,
        r#"42["beat",1]"#,
        r#"42["monitorList",{"a":2}]"#,
        r#"42["beat",2]"#,
    ] {
        ws.send(packet).await;
    }
    let first = chat
        .consumer
        .hear(&event(r#""event":"monitorList","args":[{"a":1}]"#).replacen("…", "…seq", 1))
        .await;
    let first = first.number("seq");
    for _ in 0..4 {
        chat.consumer.next_notification().await;
    }
    let info = numbered(first + 1, r#""event":"infoA","args":[1]"#);
    let beat = numbered(first + 2, r#""event":"beat","args":[1]"#);
    let list = numbered(first + 3, r#""event":"monitorList","args":[{"a":2}]"#);
    let newest = numbered(first + 4, r#""event":"beat","args":[2]"#);
    for (members, expected) in [
        ("", vec![&info, &list]),
        (r#","last":3"#, vec![&info, &list, &beat, &newest]),
        (r#","last":1"#, vec![&info, &list, &newest]),
        (r#","events":["mon*","beat"],"last":2,"lifecycle":false"#, vec![&list, &newest]),
        (r#","events":["beat"]"#, vec![]),
    ] {
        let mut late = chat.daemon.attach().await;
        late.call(&subscribe(members), &subscribed(expected.len() as u64, 0)).await;
        for line in expected {
            late.hear(line).await;
        }
        late.expect_silence().await;
    }
    // They come whatever `after` says, and what `after` replays comes once.
    let mut late = chat.daemon.attach().await;
    let stream = late
        .call(r#"{"id":1,"method":"hello"}"#, r#"{"jsonrpc":"2.0","id":1,"result":{"stream":…stream,"…":…}}"#)
        .await;
    let after = format!(r#","after":{{"stream":{},"seq":{}}}"#, &stream["stream"], first + 2);
    late.call(&subscribe(&after), &subscribed(3, 0)).await;
    for line in [&info, &list, &newest] {
        late.hear(line).await;
    }
    // Live lines follow.
    ws.send(r#"42["infoA",2]"#).await;
    late.hear(&numbered(first + 5, r#""event":"infoA","args":[2]"#)).await;
}

#[tokio::test]
async fn they_outlive_the_ring_and_not_the_session() {
    let (mut chat, mut ws) = Chat::joined("sticky = [\"list\"]\nhistory.events = 4").await;
    ws.send(r#"42["list",1]"#).await;
    chat.consumer.hear(&event(r#""event":"list","args":[1]"#)).await;
    for i in 0..20 {
        ws.send(&format!(r#"42["n",{i}]"#)).await;
        chat.consumer.hear(&event(&format!(r#""event":"n","args":[{i}]"#))).await;
    }
    let mut late = chat.daemon.attach().await;
    late.call(&subscribe(r#","lifecycle":false"#), &subscribed(1, 0)).await;
    late.hear(&event(r#""event":"list","args":[1]"#)).await;
    // As long as the connection is away, the last word stands.
    ws.close(1001).await;
    chat.consumer.hear(&lifecycle(r#""event":"disconnect","…":…"#, true)).await;
    let mut late = chat.daemon.attach().await;
    late.call(&subscribe(r#","lifecycle":false"#), &subscribed(1, 0)).await;
    let _ws = chat.upstream.joined().await;
    for name in ["reconnect_attempt", "reconnect"] {
        chat.consumer.hear(&lifecycle(&format!(r#""event":"{name}","…":…"#), true)).await;
    }
    chat.consumer.hear(CONNECT).await;
    let mut late = chat.daemon.attach().await;
    late.call(&subscribe(r#","lifecycle":false"#), &subscribed(0, 0)).await;
    late.expect_silence().await;
}

#[tokio::test]
async fn what_the_server_pushes_before_it_answers_connect_is_of_the_new_session() {
    let mut chat = Chat::idle("sticky = [\"list\"]").await;
    for round in 0..2 {
        if round == 0 {
            chat.start().await;
        }
        let mut ws = chat.upstream.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect("40").await;
        if round == 1 {
            chat.consumer.hear(&lifecycle(r#""event":"reconnect","…":…"#, true)).await;
        }
        ws.send(&format!(r#"42["list",{round}]"#)).await;
        ws.send(r#"40{"sid":"a"}"#).await;
        chat.consumer.hear(&event(&format!(r#""event":"list","args":[{round}]"#))).await;
        chat.consumer.hear(CONNECT).await;
        let mut late = chat.daemon.attach().await;
        late.call(&subscribe(r#","lifecycle":false"#), &subscribed(1, 0)).await;
        late.hear(&event(&format!(r#""event":"list","args":[{round}]"#))).await;
        ws.close(1001).await;
        for name in ["disconnect", "reconnect_attempt"] {
            chat.consumer.hear(&lifecycle(&format!(r#""event":"{name}","…":…"#), true)).await;
        }
    }
}
