//! What a new subscription is given of the past.

use crate::common::{Chat, Consumer, Daemon, QUICK, Ws, refusal};

/// A subscription to `chat` with further params, and the answer's last two members.
async fn subscribe(consumer: &mut Consumer, params: &str, replayed: &str) {
    consumer
        .send(&format!(r#"{{"id":1,"method":"subscribe","params":{{"connection":"chat",{params}}}}}"#))
        .await;
    // The answer comes first, before anything it brings.
    consumer
        .expect(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"subscription":…,"stream":"…","connections":[{{"name":"chat","…":…}}],{replayed}}}}}"#
        ))
        .await;
}

fn tick(seq: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"event","params":{{"connection":"chat","seq":{seq},"event":"tick","args":[{seq}]}}}}"#
    )
}

/// Events whose argument is their seq, each read by the first consumer before this returns.
async fn ticks(chat: &mut Chat, ws: &mut Ws, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        ws.send(&format!(r#"42["tick",{seq}]"#)).await;
        chat.consumer.hear(&tick(seq)).await;
    }
}

#[tokio::test]
async fn last_gives_the_most_recent_lines_and_then_what_is_live() {
    let (mut chat, mut ws) = Chat::joined("").await;
    ticks(&mut chat, &mut ws, 3..=6).await;
    let mut consumer = chat.daemon.attach().await;
    subscribe(&mut consumer, r#""last":2"#, r#""replayed":2,"missed":0"#).await;
    ticks(&mut chat, &mut ws, 7..=7).await;
    for seq in 5..=7 {
        consumer.expect(&tick(seq)).await;
    }
    // A second subscription replays what the first has had; what is live comes once.
    subscribe(&mut consumer, r#""last":1"#, r#""replayed":1,"missed":0"#).await;
    consumer.expect(&tick(7)).await;
    ticks(&mut chat, &mut ws, 8..=9).await;
    consumer.expect(&tick(8)).await;
    consumer.expect(&tick(9)).await;
}

#[tokio::test]
async fn last_counts_only_what_matches() {
    let (mut chat, mut ws) = Chat::joined("").await;
    ticks(&mut chat, &mut ws, 3..=5).await;
    ws.send("41").await;
    chat.consumer.next_notification().await;
    let mut consumer = chat.daemon.attach().await;
    subscribe(&mut consumer, r#""last":2,"lifecycle":false"#, r#""replayed":2,"missed":0"#).await;
    consumer.expect(&tick(4)).await;
    consumer.expect(&tick(5)).await;
    subscribe(&mut consumer, r#""last":100,"events":[]"#, r#""replayed":3,"missed":0"#).await;
    for (seq, event) in [(1, "opened"), (2, "connect"), (6, "disconnect")] {
        consumer
            .expect(&format!(
                r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"chat","seq":{seq},"event":"{event}","…":…}}}}"#
            ))
            .await;
    }
}

#[tokio::test]
async fn after_goes_on_where_a_consumer_was() {
    let (mut chat, mut ws) = Chat::joined("history = { events = 4 }").await;
    ticks(&mut chat, &mut ws, 3..=12).await;
    let list = chat
        .consumer
        .call(
            r#"{"id":1,"method":"list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"seq":12,"oldest_seq":9,"stream":…stream,"…":…}]}}"#,
        )
        .await;
    let here = &list["stream"];
    for (stream, seq, missed, first) in [
        (here, 10, "0", 11),
        (here, 12, "0", 13),
        (here, 8, "0", 9),
        (here, 5, "3", 9),
        (r#""elsewhere""#, 11, "null", 9),
    ] {
        let mut consumer = chat.daemon.attach().await;
        subscribe(
            &mut consumer,
            &format!(r#""after":{{"stream":{stream},"seq":{seq}}}"#),
            &format!(r#""replayed":{},"missed":{missed}"#, 13 - first),
        )
        .await;
        for seq in first..=12 {
            consumer.expect(&tick(seq)).await;
        }
        consumer.expect_silence().await;
    }
}

#[tokio::test]
async fn after_is_an_object() {
    let daemon = Daemon::start(&format!("{QUICK}\n[connections.chat]\nurl = \"http://127.0.0.1:1\"\n")).await;
    let mut consumer = daemon.attach().await;
    for after in [r#"["x",1]"#, "1", r#"{"stream":"x"}"#, r#"{"stream":"x","seq":1,"more":2}"#] {
        let request =
            format!(r#"{{"id":1,"method":"subscribe","params":{{"connection":"chat","after":{after}}}}}"#);
        consumer.call(&request, &refusal("1", -32602, "invalid_params")).await;
    }
}

#[tokio::test]
async fn after_needs_one_plain_name() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = daemon.attach().await;
    for connection in [r#""connection":"*","#, ""] {
        consumer
            .call(
                &format!(
                    r#"{{"id":1,"method":"subscribe","params":{{{connection}"after":{{"stream":"x","seq":1}}}}}}"#
                ),
                &crate::common::refusal("1", -32602, "invalid_params"),
            )
            .await;
    }
}

#[tokio::test]
async fn history_is_bounded_in_bytes_too() {
    let (mut chat, mut ws) = Chat::joined("history = { bytes = 4096 }").await;
    let text = "x".repeat(1000);
    for _ in 0..10 {
        ws.send(&format!(r#"42["long","{text}"]"#)).await;
        chat.consumer.next_notification().await;
    }
    let list = chat
        .consumer
        .call(
            r#"{"id":1,"method":"list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"seq":12,"oldest_seq":…oldest,"…":…}]}}"#,
        )
        .await;
    assert!((10..=12).contains(&list.number("oldest")), "4 KiB hold at most three lines of 1 kB");
}
