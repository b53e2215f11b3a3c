//! Connections that consumers bring along.

use crate::common::{Chat, Consumer, Upstream, refusal};

fn open(name: &str, url: &str, more: &str) -> String {
    format!(r#"{{"id":1,"method":"open","params":{{"name":"{name}","url":"{url}"{more}}}}}"#)
}

fn opened(created: bool, more: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"created":{created},"connection":{{{more},"…":…}}}}}}"#)
}

fn of_mine(seq: u64, members: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"mine","seq":{seq},{members},"active":…,"time":"…"}}}}"#
    )
}

/// A consumer that hears everything of every connection.
async fn listener(chat: &Chat) -> Consumer {
    let mut consumer = chat.daemon.attach().await;
    consumer
        .call(
            r#"{"id":0,"method":"subscribe","params":{"connection":"m*"}}"#,
            r#"{"jsonrpc":"2.0","id":0,"result":{"…":…}}"#,
        )
        .await;
    consumer
}

#[tokio::test]
async fn what_is_opened_connects_and_can_be_attached_to_with_the_same_options() {
    let mut upstream = Upstream::start().await;
    let chat = Chat::idle("").await;
    let mut consumer = listener(&chat).await;
    let url = format!("{}/room?x=1", upstream.url());
    let options = r#","auth":{"token":"t"},"auto_connect":true,"reconnection_delay":"50ms","extra_headers":{"x-a":"b"}"#;
    consumer
        .call(
            &open("mine", &url, options),
            &opened(true, r#""name":"mine","namespace":"/room","active":true"#),
        )
        .await;
    let mut ws = upstream.accept_ws().await;
    ws.request.expect_path("/socket.io/?x=1&EIO=4&transport=websocket");
    assert_eq!(ws.request.header("x-a"), Some("b"));
    ws.send(crate::common::upstream::OPEN).await;
    ws.expect(r#"40/room,{"token":"t"}"#).await;
    ws.send(r#"40/room,{"sid":"a"}"#).await;
    consumer.hear(&of_mine(1, r#""event":"opened","by":"consumer""#)).await;
    consumer
        .hear(&of_mine(2, r#""event":"connect","id":"a","recovered":false,"transport":"websocket""#))
        .await;
    let mut other = chat.daemon.attach().await;
    // Compared are the options, not their spelling: a delay in milliseconds, defaults written out.
    for same in [
        options.to_owned(),
        options.replace(r#""50ms""#, "50"),
        format!(r#"{options},"reconnection":true,"persist":true"#),
    ] {
        other
            .call(&open("mine", &url, &same), &opened(false, r#""name":"mine","state":"connected","id":"a""#))
            .await;
    }
    for (url, different) in [
        (url.as_str(), String::new()),
        (&url, options.replace("50ms", "51ms")),
        (&url, options.replace(r#""t""#, r#""u""#)),
        (&url.replace("x=1", "x=2"), options.to_owned()),
        (&url.replace("/room", "/other"), options.to_owned()),
    ] {
        other.call(&open("mine", url, &different), &refusal("1", -32007, "connection_exists")).await;
    }
}

#[tokio::test]
async fn what_is_opened_ends_with_the_last_consumer_that_opened_it() {
    let mut upstream = Upstream::start().await;
    let chat = Chat::idle("").await;
    let mut listener = listener(&chat).await;
    let request = open("mine", &upstream.url(), r#","auto_connect":true"#);
    let mut first = chat.daemon.attach().await;
    first.call(&request, &opened(true, r#""name":"mine""#)).await;
    let mut second = chat.daemon.attach().await;
    second.call(&request, &opened(false, r#""name":"mine""#)).await;
    let mut ws = upstream.joined().await;
    listener.hear(&of_mine(1, r#""event":"opened","by":"consumer""#)).await;
    listener.hear(&of_mine(2, r#""event":"connect","…":…"#)).await;
    drop(first);
    ws.send(r#"42["still"]"#).await;
    second
        .call(
            r#"{"id":2,"method":"emit","params":{"connection":"mine","event":"here"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"status":"sent","active":true}}"#,
        )
        .await;
    ws.expect(r#"42["here"]"#).await;
    listener.hear(r#"{"jsonrpc":"2.0","method":"event","params":{"connection":"mine","seq":3,"event":"still","args":[]}}"#).await;
    drop(second);
    ws.expect("41").await;
    ws.expect_closed().await;
    listener
        .hear(&of_mine(4, r#""event":"disconnect","reason":"io client disconnect","details":null"#))
        .await;
    listener.hear(&of_mine(5, r#""event":"closed","by":"consumer""#)).await;
    listener
        .call(
            r#"{"id":3,"method":"emit","params":{"connection":"mine","event":"a"}}"#,
            &refusal("3", -32000, "unknown_connection"),
        )
        .await;
}

#[tokio::test]
async fn what_persists_outlives_the_consumer_that_opened_it() {
    let chat = Chat::idle("").await;
    let mut listener = listener(&chat).await;
    let request = open("mine", "http://127.0.0.1:1", r#","auto_connect":false"#);
    let mut owner = chat.daemon.attach().await;
    owner.call(&request, &opened(true, r#""name":"mine""#)).await;
    // Attaching with `persist` makes it lasting, also afterwards.
    owner.call(&request.replace("}}", r#","persist":true}}"#), &opened(false, r#""name":"mine""#)).await;
    drop(owner);
    let mut ephemeral = chat.daemon.attach().await;
    ephemeral
        .call(
            &open("marker", "http://127.0.0.1:1", r#","auto_connect":false"#),
            &opened(true, r#""name":"marker""#),
        )
        .await;
    drop(ephemeral);
    listener.hear(&of_mine(1, r#""event":"opened","by":"consumer""#)).await;
    for event in ["opened", "closed"] {
        listener
            .hear(
                &of_mine(
                    if event == "opened" { 1 } else { 2 },
                    &format!(r#""event":"{event}","by":"consumer""#),
                )
                .replace("mine", "marker"),
            )
            .await;
    }
    listener
        .call(
            r#"{"id":2,"method":"status","params":{"connection":"mine"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"connections":[{"name":"mine","seq":1,"…":…}],"…":…}}"#,
        )
        .await;
}

#[tokio::test]
async fn one_of_the_configuration_outlives_the_consumers_that_opened_it() {
    let mut chat = Chat::idle("").await;
    let mut owner = chat.daemon.attach().await;
    // The daemon's defaults hold for what is opened too, so the url alone names the same connection.
    owner.call(&open("chat", &chat.upstream.url(), ""), &opened(false, r#""name":"chat""#)).await;
    drop(owner);
    let mut marker = chat.daemon.attach().await;
    marker.call(&open("marker", "http://127.0.0.1:1", ""), &opened(true, r#""name":"marker""#)).await;
    let mut listener = listener(&chat).await;
    drop(marker);
    listener
        .hear(r#"{"jsonrpc":"2.0","method":"lifecycle","params":{"connection":"marker","seq":2,"event":"closed","…":…}}"#)
        .await;
    chat.start().await;
    chat.join().await;
}

#[tokio::test]
async fn close_forgets_the_connection_but_not_its_counter() {
    let chat = Chat::idle("").await;
    let mut consumer = listener(&chat).await;
    let request = open("mine", "http://127.0.0.1:1", r#","auto_connect":false"#);
    consumer.call(&request, &opened(true, r#""seq":1,"oldest_seq":1"#)).await;
    consumer.expect(&of_mine(1, r#""event":"opened","by":"consumer""#)).await;
    consumer.send(r#"{"id":2,"method":"close","params":{"connection":"mine"}}"#).await;
    consumer.expect(&of_mine(2, r#""event":"closed","by":"consumer""#)).await;
    consumer.expect(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#).await;
    consumer
        .call(
            r#"{"id":3,"method":"close","params":{"connection":"mine"}}"#,
            &refusal("3", -32000, "unknown_connection"),
        )
        .await;
    let again = consumer
        .call(
            &request,
            r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"connection":{"seq":3,"oldest_seq":3,"stream":…stream,"…":…}}}"#,
        )
        .await;
    consumer.hear(&of_mine(3, r#""event":"opened","by":"consumer""#)).await;
    // What was before the close counts as missed.
    consumer
        .call(
            &format!(r#"{{"id":4,"method":"subscribe","params":{{"connection":"mine","after":{{"stream":{},"seq":1}}}}}}"#, &again["stream"]),
            r#"{"jsonrpc":"2.0","id":4,"result":{"replayed":1,"missed":1,"…":…}}"#,
        )
        .await;
    consumer.hear(&of_mine(3, r#""event":"opened","by":"consumer""#)).await;
}

#[tokio::test]
async fn a_name_an_url_or_an_option_that_cannot_be_is_refused_by_name() {
    let mut chat = Chat::idle("").await;
    let good = "http://127.0.0.1:1";
    let long = "n".repeat(65);
    for (name, url, more, named) in [
        ("", good, "", "name"),
        (&long, good, "", "name"),
        ("a*", good, "", "name"),
        ("a?", good, "", "name"),
        ("[a]", good, "", "name"),
        ("a\\n", good, "", "name"),
        ("ok", "not an url", "", "url"),
        ("ok", "127.0.0.1:1", "", "url"),
        ("ok", "ftp://127.0.0.1", "", "url"),
        ("ok", good, r#","colour":"red""#, "colour"),
        ("ok", good, r#","reconnection":"yes""#, "reconnection"),
        ("ok", good, r#","reconnection_attempts":5.7"#, "reconnection_attempts"),
        ("ok", good, r#","timeout":"soon""#, "timeout"),
        ("ok", good, r#","transports":["pigeon"]"#, "transports"),
        ("ok", good, r#","auth":5"#, "auth"),
        ("ok", good, r#","history":{"colour":1}"#, "colour"),
        ("\\ud800", good, "", "name"),
        ("ok", good, r#","name":"other""#, "name"),
        ("ok", good, r#","timeout":1000,"timeout":1000"#, "timeout"),
    ] {
        chat.consumer
            .call(
                &open(name, url, more),
                &format!(
                    r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32602,"message":"…{named}…","data":{{"kind":"invalid_params","…":…}}}}}}"#
                ),
            )
            .await;
    }
    chat.consumer.expect_silence().await;
}
