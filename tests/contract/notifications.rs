//! What every notification has in common: numbers, the run they belong to, and what programs emit.

use crate::common::{CONNECT, Chat, Daemon, QUICK, event};

const SENT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"status":"sent","active":true}}"#;

fn emit(members: &str) -> String {
    format!(r#"{{"id":1,"method":"emit","params":{{"connection":"chat",{members}}}}}"#)
}

#[tokio::test]
async fn a_stream_is_the_same_wherever_it_is_told_and_another_in_the_next_run() {
    let config = format!("{QUICK}\n[connections.chat]\nurl = \"http://localhost:1\"\n");
    let mut streams = Vec::new();
    for _run in 0..2 {
        let mut daemon = Daemon::start(&config).await;
        let mut consumer = daemon.attach().await;
        let mut told = Vec::new();
        for (request, result) in [
            (r#""hello""#, r#""stream":…stream"#),
            (r#""list""#, r#""connections":[{"stream":…stream,"…":…}]"#),
            (r#""status""#, r#""daemon":{"stream":…stream,"…":…}"#),
            (r#""subscribe""#, r#""stream":…stream"#),
            (r#""subscribe""#, r#""connections":[{"stream":…stream,"…":…}]"#),
        ] {
            let answer = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{result},"…":…}}}}"#);
            let found = consumer.call(&format!(r#"{{"id":1,"method":{request}}}"#), &answer).await;
            told.push(found["stream"].to_owned());
        }
        assert!(told.iter().all(|stream| *stream == told[0]), "{told:?}");
        streams.push(told.remove(0));
        daemon.terminate().await;
    }
    assert_ne!(streams[0], streams[1]);
}

#[tokio::test]
async fn an_ack_number_is_never_given_twice_whatever_the_servers_ids_are() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let question = event(r#""event":"question","args":[],"ack":…ack"#);
    let mut given = Vec::new();
    for life in 0..3 {
        for id in [0, 1] {
            ws.send(&format!(r#"42{id}["question"]"#)).await;
            given.push(chat.consumer.hear(&question).await.number("ack"));
        }
        if life == 0 {
            ws.close(1001).await;
            for _disconnect_attempt in 0..2 {
                chat.consumer.next_notification().await;
            }
            ws = chat.upstream.joined().await;
            chat.consumer.next_notification().await;
            chat.consumer.hear(CONNECT).await;
        } else if life == 1 {
            let url = chat.upstream.url();
            let close = r#"{"id":1,"method":"close","params":{"connection":"chat"}}"#;
            chat.consumer.call(close, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
            let open = format!(
                r#"{{"id":1,"method":"open","params":{{"name":"chat","url":"{url}","auto_connect":true}}}}"#
            );
            let opened = r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"…":…}}"#;
            chat.consumer.call(&open, opened).await;
            ws = chat.upstream.joined().await;
            for _disconnect_closed_opened in 0..3 {
                chat.consumer.next_notification().await;
            }
            chat.consumer.hear(CONNECT).await;
        }
    }
    let mut sorted = given.clone();
    sorted.dedup();
    assert!(given.is_sorted() && sorted.len() == 6, "{given:?}");
}

#[tokio::test]
async fn outgoing_comes_when_it_is_handed_to_the_transport_and_never_again() {
    let mut chat = Chat::idle("").await;
    let mut watcher = chat.daemon.attach().await;
    let subscribe = |last: u32| {
        format!(
            r#"{{"id":1,"method":"subscribe","params":{{"connection":"chat","outgoing":true,"lifecycle":false,"last":{last}}}}}"#
        )
    };
    let subscribed = r#"{"jsonrpc":"2.0","id":1,"result":{"replayed":0,"…":…}}"#;
    watcher.call(&subscribe(0), subscribed).await;
    for i in 0..3 {
        let buffered = r#"{"jsonrpc":"2.0","id":1,"result":{"status":"buffered","active":false}}"#;
        chat.consumer.call(&emit(&format!(r#""event":"e","args":[{i}]"#)), buffered).await;
    }
    // What is dropped is never handed over.
    let dropped = r#"{"jsonrpc":"2.0","id":1,"result":{"status":"dropped","active":false}}"#;
    chat.consumer.call(&emit(r#""event":"dropped","volatile":true"#), dropped).await;
    watcher.expect_silence().await;
    chat.start().await;
    let mut ws = chat.join().await;
    for i in 0..3 {
        ws.expect(&format!(r#"42["e",{i}]"#)).await;
        let line = format!(
            r#"{{"jsonrpc":"2.0","method":"outgoing","params":{{"connection":"chat","event":"e","args":[{i}],"consumer":"c1"}}}}"#
        );
        watcher.expect(&line).await;
    }
    // Of one that emits and watches, too; and nothing of it is replayed.
    watcher.call(&emit(r#""event":"own""#), SENT).await;
    watcher
        .hear(r#"{"jsonrpc":"2.0","method":"outgoing","params":{"connection":"chat","event":"own","args":[],"consumer":"c2"}}"#)
        .await;
    let mut late = chat.daemon.attach().await;
    late.call(&subscribe(100), subscribed).await;
    late.expect_silence().await;
}

#[tokio::test]
async fn members_stand_in_their_order_without_white_space() {
    let (mut chat, mut ws) = Chat::joined("").await;
    ws.send(r#"451-7["q", {"_placeholder":true,"num":0} ]"#).await;
    ws.send_binary(&[9]).await;
    ws.send("41").await;
    let found = chat.consumer.next_notification().await;
    let event = r#"{"jsonrpc":"2.0","method":"event","params":{"connection":"chat","seq":3,"event":"q","args":[{"$binary":"CQ=="}],"binary":true,"ack":1}}"#;
    assert_eq!(found, event);
    let found = chat.consumer.next_notification().await;
    let lifecycle = r#"{"jsonrpc":"2.0","method":"lifecycle","params":{"connection":"chat","seq":4,"event":"disconnect","reason":"io server disconnect","details":null,"active":false,"time":""#;
    assert!(found.starts_with(lifecycle), "{found}");
    let found =
        chat.consumer.request(r#"{"method": "unsubscribe", "params": {"subscription": 1}, "id": 1}"#).await;
    assert_eq!(found, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let found = chat.consumer.request(r#"{"id":1,"method":"unsubscribe","params":{"subscription":1}}"#).await;
    assert!(found.starts_with(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":""#), "{found}");
}
