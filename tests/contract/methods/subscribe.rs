//! Who hears what, and the snapshots.

use crate::common::{Chat, Daemon, QUICK, event, lifecycle, refusal};

#[tokio::test]
async fn hello_tells_who_the_daemon_is_and_what_it_allows() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = daemon.attach().await;
    let hello = consumer
        .call(
            r#"{"id":1,"method":"hello","params":{"client":"tests/1","lag":"skip"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"server":"siod","version":…version,"api":1,"stream":…stream,"pid":…pid,"consumer":"…","role":"control","limits":{"max_line":4194304,"…":…}}}"#,
        )
        .await;
    assert_eq!(&hello["version"], concat!('"', env!("CARGO_PKG_VERSION"), '"'));
    assert_eq!(hello.number("pid"), u64::from(daemon.pid()));
    let status = consumer
        .call(
            r#"{"id":2,"method":"status"}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{
                "daemon":{"version":"…","pid":…,"stream":…stream,"started":"…Z","uptime_ms":…,"consumers":1,"connections":0,"rss_bytes":…rss},
                "connections":[],
                "consumers":[{"consumer":"…","client":"tests/1","pid":…pid,"uid":…,"gid":…,"role":"control","attached":"…Z","subscriptions":0,"lag":…,"delivered":…,"missed":0}]}}"#,
        )
        .await;
    assert_eq!(&status["stream"], &hello["stream"]);
    assert_eq!(status.number("pid"), u64::from(std::process::id()));
    assert!(status.number("rss") > 0);
}

#[tokio::test]
async fn a_snapshot_follows_the_connection() {
    let mut chat = Chat::idle("").await;
    let list = r#"{"id":1,"method":"list"}"#;
    let url = chat.upstream.url();
    let found = chat
        .consumer
        .call(
            list,
            r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"name":"chat","url":…url,"namespace":"/",
                "state":"disconnected","connected":false,"ready":false,"active":false,"id":null,"recovered":false,
                "transport":null,"attempt":0,"next_attempt_ms":null,"since":…,"seq":1,"oldest_seq":1,"stream":"…",
                "buffered":0,"pending_acks":0,"subscribers":1,"last_error":null,"last_disconnect":null,
                "received":0,"sent":0,"reconnects":0}]}}"#,
        )
        .await;
    assert!(found["url"].starts_with(&format!("\"{url}")), "{} for {url}", &found["url"]);

    chat.start().await;
    let handshake = chat.upstream.handshake().await;
    let state = |state: &str, active: bool, more: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"connections":[{{"state":"{state}","active":{active},{more},"…":…}}]}}}}"#
        )
    };
    chat.consumer.call(list, &state("connecting", true, r#""connected":false"#)).await;
    handshake.refuse(503).await;
    chat.consumer
        .hear(&lifecycle(r#""event":"connect_error","message":"…","…":…,"source":"transport""#, true))
        .await;
    chat.consumer.hear(&lifecycle(r#""event":"reconnect_attempt","attempt":1"#, true)).await;
    let handshake = chat.upstream.handshake().await;
    chat.consumer.call(list, &state("reconnecting", true, r#""connected":false,"attempt":1"#)).await;
    let mut ws = handshake.accept().await;
    ws.send(crate::common::upstream::OPEN).await;
    ws.expect("40").await;
    ws.send(r#"40{"sid":"S1"}"#).await;
    chat.consumer.hear(&lifecycle(r#""event":"reconnect","attempt":1"#, true)).await;
    chat.consumer.hear(crate::common::CONNECT).await;
    ws.send(r#"42["tick"]"#).await;
    chat.consumer.hear(&event(r#""event":"tick","args":[]"#)).await;
    chat.consumer
        .call(
            r#"{"id":2,"method":"emit","params":{"connection":"chat","event":"hi"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"status":"sent","active":true}}"#,
        )
        .await;
    chat.consumer
        .call(
            list,
            &state(
                "connected",
                true,
                r#""connected":true,"ready":true,"id":"S1","transport":"websocket","attempt":0,"seq":6,"received":1,"sent":1"#,
            ),
        )
        .await;
    ws.close(1001).await;
    chat.consumer
        .hear(&lifecycle(r#""event":"disconnect","reason":"transport close","details":…"#, true))
        .await;
    chat.consumer.call(list, &state("reconnecting", true, r#""connected":false,"id":null,"reconnects":1,
                "last_error":{"message":"websocket error","phase":"http","description":"…503…","time":"…Z","…":…},
                "last_disconnect":{"reason":"transport close","message":"…","time":"…Z","…":…}"#)).await;
}

#[tokio::test]
async fn status_shows_one_connection_or_all() {
    let mut chat = Chat::idle("[connections.other]\nurl = \"http://127.0.0.1:1/\"").await;
    for (params, names) in [
        ("{}", r#"[{"name":"chat","…":…},{"name":"other","…":…}]"#),
        (r#"{"connection":"other"}"#, r#"[{"name":"other","…":…}]"#),
    ] {
        chat.consumer
            .call(
                &format!(r#"{{"id":1,"method":"status","params":{params}}}"#),
                &format!(
                    r#"{{"jsonrpc":"2.0","id":1,"result":{{"daemon":…,"connections":{names},"consumers":[{{"…":…}}]}}}}"#
                ),
            )
            .await;
    }
}

#[tokio::test]
async fn seq_counts_events_and_lifecycle_together_and_leaves_nothing_out() {
    let (mut chat, mut ws) = Chat::joined("").await;
    ws.send(r#"42["a",1]"#).await;
    ws.send(r#"42["b",{"n":[2]},"x"]"#).await;
    ws.send("41").await;
    for line in [
        r#"{"jsonrpc":"2.0","method":"event","params":{"connection":"chat","seq":3,"event":"a","args":[1]}}"#,
        r#"{"jsonrpc":"2.0","method":"event","params":{"connection":"chat","seq":4,"event":"b","args":[{"n":[2]},"x"]}}"#,
        r#"{"jsonrpc":"2.0","method":"lifecycle","params":{"connection":"chat","seq":5,"event":"disconnect","reason":"io server disconnect","details":null,"active":false,"time":"20…-…-…T…:…:….…Z"}}"#,
    ] {
        chat.consumer.expect(line).await;
    }
}

#[tokio::test]
async fn filters_choose_what_is_heard_and_a_line_comes_once() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut picky = chat.daemon.attach().await;
    for params in [
        r#"{"connection":"ch*","events":["info*","n?"],"lifecycle":["disconnect"]}"#,
        r#"{"connection":"chat","events":["information"],"lifecycle":false}"#,
    ] {
        picky
            .call(
                &format!(r#"{{"id":1,"method":"subscribe","params":{params}}}"#),
                r#"{"jsonrpc":"2.0","id":1,"result":{"subscription":…,"stream":"…","connections":[{"name":"chat","seq":2,"…":…}],"replayed":0,"missed":0}}"#,
            )
            .await;
    }
    for packet in
        [r#"42["other"]"#, r#"42["information"]"#, r#"42["n12"]"#, r#"42["n1"]"#, r#"42["inf"]"#, "41"]
    {
        ws.send(packet).await;
    }
    picky.expect(&event(r#""event":"information","args":[]"#)).await;
    picky.expect(&event(r#""event":"n1","args":[]"#)).await;
    picky
        .expect(&lifecycle(r#""event":"disconnect","reason":"io server disconnect","details":null"#, false))
        .await;
    chat.start().await;
    chat.upstream.joined().await.send(r#"42["info"]"#).await;
    picky.expect(&event(r#""event":"info","args":[]"#)).await;
}

#[tokio::test]
async fn the_old_spelling_of_an_attempt_is_taken_in_a_filter() {
    let mut chat = Chat::idle("").await;
    let mut listener = chat.daemon.attach().await;
    listener
        .call(
            r#"{"id":1,"method":"subscribe","params":{"events":[],"lifecycle":["reconnection_attempt"]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#,
        )
        .await;
    chat.start().await;
    chat.upstream.handshake().await.refuse(503).await;
    listener.expect(&lifecycle(r#""event":"reconnect_attempt","attempt":1"#, true)).await;
}

#[tokio::test]
async fn after_the_answer_to_unsubscribe_nothing_comes() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut consumer = chat.daemon.attach().await;
    let subscribed = consumer
        .call(
            r#"{"id":1,"method":"subscribe","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"subscription":…subscription,"…":…}}"#,
        )
        .await;
    ws.send(r#"42["before"]"#).await;
    consumer.expect(&event(r#""event":"before","args":[]"#)).await;
    let unsubscribe = format!(
        r#"{{"id":2,"method":"unsubscribe","params":{{"subscription":{}}}}}"#,
        &subscribed["subscription"]
    );
    consumer.call(&unsubscribe, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#).await;
    ws.send(r#"42["after"]"#).await;
    chat.consumer.hear(&event(r#""event":"before","args":[]"#)).await;
    chat.consumer.hear(&event(r#""event":"after","args":[]"#)).await;
    consumer.expect_silence().await;
    consumer.call(&unsubscribe, &refusal("2", -32001, "unknown_subscription")).await;
}

#[tokio::test]
async fn a_pattern_takes_in_what_is_opened_later_and_a_plain_name_must_exist() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = daemon.attach().await;
    consumer
        .call(
            r#"{"id":1,"method":"subscribe","params":{"connection":"later"}}"#,
            &refusal("1", -32000, "unknown_connection"),
        )
        .await;
    consumer
        .call(
            r#"{"id":2,"method":"subscribe","params":{"connection":"late?"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"subscription":…,"stream":"…","connections":[],"replayed":0,"missed":0}}"#,
        )
        .await;
    consumer
        .call(
            r#"{"id":3,"method":"open","params":{"name":"later","url":"http://127.0.0.1:1/"}}"#,
            r#"{"jsonrpc":"2.0","id":3,"result":{"created":true,"connection":{"name":"later","…":…}}}"#,
        )
        .await;
    consumer
        .hear(r#"{"jsonrpc":"2.0","method":"lifecycle","params":{"connection":"later","seq":1,"event":"opened","by":"consumer","active":…,"time":"…"}}"#)
        .await;
}

#[tokio::test]
async fn outgoing_shows_what_any_consumer_emits_to_those_who_ask() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut observer = chat.daemon.attach().await;
    observer
        .call(
            r#"{"id":1,"method":"subscribe","params":{"connection":"chat","outgoing":true,"events":["say*"],"lifecycle":false}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#,
        )
        .await;
    let hello = chat
        .consumer
        .call(
            r#"{"id":1,"method":"hello"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"consumer":…consumer,"…":…}}"#,
        )
        .await;
    for event in [r#""event":"hidden""#, r#""event":"say","args":[1.0,{"$binary":"AAEC"}],"binary":true"#] {
        chat.consumer
            .call(
                &format!(r#"{{"id":2,"method":"emit","params":{{"connection":"chat",{event}}}}}"#),
                r#"{"jsonrpc":"2.0","id":2,"result":{"status":"sent","active":true}}"#,
            )
            .await;
    }
    let seen = observer
        .expect(
            r#"{"jsonrpc":"2.0","method":"outgoing","params":{"connection":"chat","event":"say","args":[1.0,{"$binary":"AAEC"}],"binary":true,"consumer":…consumer}}"#,
        )
        .await;
    assert_eq!(&seen["consumer"], &hello["consumer"]);
    ws.expect(r#"42["hidden"]"#).await;
    chat.consumer.expect_silence().await;
}
