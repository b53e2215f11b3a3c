//! Polling, WebSocket and the way from one to the other, against a scripted upstream.

mod common;

use common::upstream::{Exchange, OPEN, OPEN_WITH_UPGRADE};
use common::{CONNECT, Chat, Upstream, Ws, event, lifecycle};

const POLLING: &str = r#"transports = ["polling"]"#;
const BOTH: &str = r#"transports = ["polling", "websocket"]"#;

impl Chat {
    /// Opens a session over polling with this handshake and joins it to `/`.
    async fn poll(&mut self, open: &str) {
        self.upstream.get().await.reply(200, open);
        self.upstream.expect_posted("40").await;
        self.upstream.get().await.reply(200, r#"40{"sid":"a"}"#);
        self.consumer.hear(&CONNECT.replace("websocket", "polling")).await;
    }

    /// A daemon that polls, and the GET that waits.
    async fn polling(options: &str) -> (Self, Exchange) {
        let mut chat = Self::idle(&format!("{POLLING}\n{options}")).await;
        chat.start().await;
        chat.poll(OPEN).await;
        let get = chat.upstream.get().await;
        (chat, get)
    }

    /// A daemon that polls and has asked whether it may move to this WebSocket, and the GET that waits.
    async fn probing(options: &str) -> (Self, Exchange, Ws) {
        let mut chat = Self::idle(&format!("{BOTH}\n{options}")).await;
        chat.start().await;
        chat.poll(OPEN_WITH_UPGRADE).await;
        let mut ws = chat.upstream.accept_ws().await;
        ws.request.expect_path("/socket.io/?EIO=4&transport=websocket&sid=engine-1");
        ws.expect("2probe").await;
        let get = chat.upstream.get().await;
        (chat, get, ws)
    }

    /// Emits without waiting for an answer.
    async fn emit(&mut self, name: &str) {
        self.consumer
            .send(&format!(r#"{{"method":"emit","params":{{"connection":"chat","event":"{name}"}}}}"#))
            .await;
    }

    /// Returns when everything the consumer asked for so far has taken effect.
    async fn settle(&mut self) {
        self.consumer.request(r#"{"id":"settled","method":"list"}"#).await;
    }

    async fn hears(&mut self, members: &str) {
        self.consumer.hear(&lifecycle(members, true)).await;
    }
}

#[tokio::test]
async fn polling_asks_again_at_once_and_carries_several_packets_in_a_body() {
    let mut chat = Chat::idle(POLLING).await;
    chat.start().await;
    let get = chat.upstream.get().await;
    get.request.expect_path("/socket.io/?EIO=4&transport=polling");
    get.reply(200, &format!("{OPEN}\x1e2"));
    let get = chat.upstream.get().await;
    get.request.expect_path("/socket.io/?EIO=4&transport=polling&sid=engine-1");
    // A ping in the first body is answered, and so is CONNECT asked for, in whichever order.
    let mut posted = Vec::new();
    while posted.len() < 2 {
        let post = chat.upstream.post().await;
        post.request.expect_path("/socket.io/?EIO=4&transport=polling&sid=engine-1");
        let media = post.request.header("content-type").unwrap_or_default().to_lowercase();
        assert!(media.replace(' ', "").starts_with("text/plain;charset=utf-8"), "{media}");
        posted.extend(post.packets());
        post.ok();
    }
    posted.sort();
    assert_eq!(posted, ["3", "40"]);
    get.reply(200, "40{\"sid\":\"a\"}\x1e42[\"é\",1]\x1e451-[\"file\",{\"_placeholder\":true,\"num\":0}]");
    chat.consumer.hear(&CONNECT.replace("websocket", "polling")).await;
    chat.consumer.hear(&event(r#""event":"é","args":[1]"#)).await;
    // An attachment may come in a body of its own.
    chat.upstream.get().await.reply(200, "bAAEC\x1e42[\"next\"]");
    chat.consumer.hear(&event(r#""event":"file","args":[{"$binary":"AAEC"}],"binary":true"#)).await;
    chat.consumer.hear(&event(r#""event":"next","args":[]"#)).await;
    chat.consumer
        .call(
            r#"{"id":1,"method":"emit","params":{"connection":"chat","event":"file","args":[{"$binary":"/w=="}],"binary":true}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"status":"sent","active":true}}"#,
        )
        .await;
    chat.upstream.expect_posted(r#"451-["file",{"_placeholder":true,"num":0}]"#).await;
    chat.upstream.expect_posted("b/w==").await;
    let get = chat.upstream.get().await;
    chat.consumer.send(r#"{"method":"disconnect","params":{"connection":"chat"}}"#).await;
    chat.upstream.expect_posted("41").await;
    chat.upstream.expect_posted("1").await;
    get.reply(200, "6");
}

#[tokio::test]
async fn one_post_is_under_way_at_a_time_and_bodies_keep_to_max_payload() {
    let mut chat = Chat::idle(POLLING).await;
    chat.start().await;
    chat.poll(&OPEN.replace("1000000", "100")).await;
    let _waiting = chat.upstream.get().await;
    chat.emit("first").await;
    let first = chat.upstream.post().await;
    assert_eq!(first.body(), r#"42["first"]"#);
    let names: Vec<_> = (0..9).map(|i| format!("{i}{}", "x".repeat(20))).collect();
    for name in &names {
        chat.emit(name).await;
    }
    chat.emit(&"y".repeat(80)).await;
    chat.settle().await;
    assert!(!chat.upstream.has_unanswered_polling(), "a second POST while one is under way");
    first.ok();
    let mut posted = Vec::new();
    let mut bodies = Vec::new();
    while posted.len() < 10 {
        let post = chat.upstream.post().await;
        let body = post.body().to_owned();
        assert!(body.len() <= 100, "{} bytes: {body:?}", body.len());
        posted.extend(post.packets());
        bodies.push(body);
        post.ok();
    }
    let expected: Vec<_> =
        names.iter().cloned().chain(["y".repeat(80)]).map(|name| format!("42[\"{name}\"]")).collect();
    assert_eq!(posted, expected);
    assert!(bodies.len() < 10, "packets that fit share a body: {bodies:?}");
}

#[tokio::test]
async fn a_failed_poll_or_post_is_a_transport_error_with_its_status() {
    for (status, on_get) in [(400, true), (502, true), (413, false), (500, false)] {
        let (mut chat, get) = Chat::polling("").await;
        let _held = if on_get {
            get.reply(status, r#"{"code":1,"message":"Session ID unknown"}"#);
            None
        } else {
            chat.emit("a").await;
            chat.upstream.post().await.reply(status, "");
            Some(get)
        };
        chat.hears(&format!(
            r#""event":"disconnect","reason":"transport error","details":{{"message":"…","code":{status}}}"#
        ))
        .await;
        chat.hears(r#""event":"reconnect_attempt","attempt":1"#).await;
    }
}

#[tokio::test]
async fn a_body_that_is_no_payload_is_a_transport_error() {
    for body in ["", "\x1e42[\"a\"]", "42[\"a\"]\x1e", "42[\"a\"]\x1e\x1e2", "97:0{}", "b!", "x"] {
        let (mut chat, get) = Chat::polling("").await;
        get.reply(200, body);
        let heard = chat.consumer.next_notification().await;
        // Packets before the bad one count.
        let heard = if heard.contains(r#""method":"event""#) {
            chat.consumer.next_notification().await
        } else {
            heard
        };
        common::transcript::compare(
            &lifecycle(
                r#""event":"disconnect","reason":"transport error","details":{"message":"…","…":…}"#,
                true,
            ),
            &heard,
        )
        .unwrap_or_else(|difference| panic!("{body:?}: {difference}"));
    }
}

#[tokio::test]
async fn a_body_larger_than_max_payload_is_not_waited_for() {
    let (mut chat, get) = Chat::polling("max_payload = \"64KiB\"").await;
    get.reply_without_end();
    chat.hears(r#""event":"disconnect","reason":"transport error","details":{"message":"…","…":…}"#).await;
    chat.hears(r#""event":"reconnect_attempt","attempt":1"#).await;
}

#[tokio::test]
async fn a_message_larger_than_max_payload_is_a_transport_error_and_one_as_large_is_not() {
    let (mut chat, mut ws) = Chat::joined("max_payload = 1000").await;
    // All around the text is ten bytes.
    let fitting = "x".repeat(990);
    ws.send(&format!(r#"42["a","{fitting}"]"#)).await;
    chat.consumer.hear(&event(&format!(r#""event":"a","args":["{fitting}"]"#))).await;
    ws.send(&format!(r#"42["a","{fitting}x"]"#)).await;
    chat.hears(r#""event":"disconnect","reason":"transport error","details":{"message":"…","…":…}"#).await;
}

#[tokio::test]
async fn a_close_packet_or_a_lost_poll_ends_the_session() {
    let (mut chat, get) = Chat::polling("").await;
    get.reply(200, "42[\"last\"]\x1e1");
    chat.consumer.hear(&event(r#""event":"last","args":[]"#)).await;
    chat.hears(r#""event":"disconnect","reason":"transport close","details":{"message":"…","…":…}"#).await;

    let (mut chat, get) = Chat::polling("").await;
    get.hang_up();
    chat.hears(r#""event":"disconnect","reason":"transport error","details":{"message":"…","…":…}"#).await;
}

#[tokio::test]
async fn the_upgrade_probes_pauses_polling_and_only_then_moves() {
    let (mut chat, get, mut ws) = Chat::probing("").await;
    chat.emit("over polling").await;
    chat.upstream.expect_posted(r#"42["over polling"]"#).await;
    ws.send("3probe").await;
    // The last poll may still bring something.
    get.reply(200, r#"42["last"]"#);
    chat.consumer.hear(&event(r#""event":"last","args":[]"#)).await;
    chat.emit("late").await;
    moves(&mut chat, &mut ws).await;
    chat.hears(r#""event":"upgrade","transport":"websocket""#).await;
    ws.send("2").await;
    ws.expect("3").await;
    assert!(!chat.upstream.has_unanswered_polling(), "polling went on after the upgrade");
    chat.consumer
        .call(
            r#"{"id":1,"method":"list"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"transport":"websocket","…":…}]}}"#,
        )
        .await;
    // There is no way back.
    ws.close(1001).await;
    chat.hears(r#""event":"disconnect","reason":"transport close","details":{"message":"…","code":1001}"#)
        .await;
}

#[tokio::test]
async fn an_upgrade_waits_for_the_post_that_is_under_way() {
    let (mut chat, get, mut ws) = Chat::probing("").await;
    chat.emit("slow").await;
    let post = chat.upstream.post().await;
    ws.send("3probe").await;
    get.reply(200, "6");
    chat.emit("late").await;
    chat.settle().await;
    post.ok();
    moves(&mut chat, &mut ws).await;
    assert!(!chat.upstream.has_unanswered_polling(), "polling went on after the upgrade");
}

/// Sees the daemon through the pause, `3probe` having been sent, up to `5`, and finds the event `late` once: by
/// POST where it was emitted before the pause had begun, else behind `5`.
async fn moves(chat: &mut Chat, ws: &mut Ws) {
    let mut posted = Vec::new();
    loop {
        tokio::select! {
            packet = ws.next_text_or_end() => {
                assert_eq!(packet.as_deref(), Some("5"), "the first packet after the pause");
                break;
            }
            exchange = chat.upstream.exchange() => {
                if exchange.is_post() {
                    posted.extend(exchange.packets());
                    exchange.ok();
                } else {
                    exchange.reply(200, "6");
                }
            }
        }
    }
    if posted.is_empty() {
        ws.expect(r#"42["late"]"#).await;
    } else {
        assert_eq!(posted, [r#"42["late"]"#]);
    }
}

#[tokio::test]
async fn a_refused_upgrade_leaves_polling_as_it_is() {
    let mut chat = Chat::idle(BOTH).await;
    chat.start().await;
    chat.poll(OPEN_WITH_UPGRADE).await;
    chat.upstream.handshake().await.refuse(400).await;
    goes_on_polling(&mut chat, None).await;
}

#[tokio::test]
async fn a_wrong_answer_to_the_probe_leaves_polling_as_it_is() {
    for answer in ["3wrong", "6", "42[\"a\"]", "x"] {
        let (mut chat, get, mut ws) = Chat::probing("").await;
        ws.send(answer).await;
        ws.expect_closed().await;
        goes_on_polling(&mut chat, Some(get)).await;
    }
}

#[tokio::test]
async fn a_websocket_that_dies_within_the_upgrade_leaves_polling_as_it_is() {
    let (mut chat, get, ws) = Chat::probing("").await;
    ws.reset();
    goes_on_polling(&mut chat, Some(get)).await;

    let (mut chat, get, mut ws) = Chat::probing("").await;
    ws.send("3probe").await;
    chat.emit("within").await;
    ws.close(1001).await; // The daemon's answer to the close has been read when this returns.
    get.reply(200, "6");
    chat.upstream.expect_posted(r#"42["within"]"#).await;
    goes_on_polling(&mut chat, None).await;
}

#[tokio::test]
async fn no_upgrade_is_tried_where_it_is_not_wanted_or_not_offered() {
    for (options, open) in [
        (format!("{BOTH}\nupgrade = false"), OPEN_WITH_UPGRADE),
        (BOTH.to_owned(), OPEN),
        (POLLING.to_owned(), OPEN_WITH_UPGRADE),
    ] {
        let mut chat = Chat::idle(&options).await;
        chat.start().await;
        chat.poll(open).await;
        goes_on_polling(&mut chat, None).await;
        assert!(!chat.upstream.has_handshake(), "{options} against {open}");
    }
}

#[tokio::test]
async fn every_transport_is_tried_within_an_attempt_where_that_is_wanted() {
    let mut chat = Chat::idle(r#"transports = ["websocket", "polling"]"#).await;
    chat.start().await;
    chat.upstream.handshake().await.refuse(503).await;
    chat.poll(OPEN).await; // The connection is the first that is heard: no failure came before.
    let mut chat = Chat::idle("transports = [\"websocket\", \"polling\"]\ntry_all_transports = false").await;
    chat.start().await;
    chat.upstream.handshake().await.refuse(503).await;
    chat.hears(r#""event":"connect_error","message":"…","…":…,"source":"transport""#).await;
    chat.hears(r#""event":"reconnect_attempt","attempt":1"#).await;
    chat.upstream.joined().await;
    assert!(!chat.upstream.has_unanswered_polling());
}

#[tokio::test]
async fn requests_carry_what_the_options_say() {
    let options = r#"path = "/chat/io"
query = { room = "a b&c", EIO = "9" }
extra_headers = { "X-Client" = "siod", "Origin" = "http://example.org" }
protocols = ["one", "two"]
"#;
    let mut chat = Chat::idle(&format!("{BOTH}\n{options}")).await;
    chat.start().await;
    let get = chat.upstream.get().await;
    get.request.expect_path("/chat/io/?room=a%20b%26c&EIO=4&transport=polling");
    assert_eq!(get.request.header("x-client"), Some("siod"));
    get.reply_with(200, "Set-Cookie: node=7; Path=/; HttpOnly\r\n", OPEN_WITH_UPGRADE);
    let post = chat.upstream.post().await;
    let get = chat.upstream.get().await;
    let upgrade = chat.upstream.handshake().await;
    upgrade.request.expect_path("/chat/io/?room=a%20b%26c&EIO=4&transport=websocket&sid=engine-1");
    let offered = upgrade.request.header("sec-websocket-protocol").unwrap_or_default();
    assert_eq!(offered.split(',').map(str::trim).collect::<Vec<_>>(), ["one", "two"]);
    for request in [&post.request, &get.request, &upgrade.request] {
        assert_eq!(request.header("x-client"), Some("siod"), "{}", request.target);
        assert_eq!(request.header("origin"), Some("http://example.org"), "{}", request.target);
        assert_eq!(request.header("cookie"), Some("node=7"), "{}", request.target);
    }
}

#[tokio::test]
async fn the_request_path_ends_as_it_is_asked_to() {
    for (options, path) in [
        ("add_trailing_slash = false", "/socket.io"),
        ("path = \"/chat/io/\"\nadd_trailing_slash = false", "/chat/io"),
        ("path = \"/chat/io\"\nadd_trailing_slash = true", "/chat/io/"),
        ("path = \"/\"\nadd_trailing_slash = false", "/"),
    ] {
        let mut chat = Chat::idle(&format!("{BOTH}\n{options}")).await;
        chat.start().await;
        let get = chat.upstream.get().await;
        get.request.expect_path(&format!("{path}?EIO=4&transport=polling"));
        get.reply(200, OPEN_WITH_UPGRADE);
        let post = chat.upstream.post().await;
        post.request.expect_path(&format!("{path}?EIO=4&transport=polling&sid=engine-1"));
        let upgrade = chat.upstream.handshake().await;
        upgrade.request.expect_path(&format!("{path}?EIO=4&transport=websocket&sid=engine-1"));
    }
}

#[tokio::test]
async fn cookies_come_from_both_transports_and_survive_reconnection() {
    let mut chat = Chat::idle(BOTH).await;
    chat.start().await;
    let get = chat.upstream.get().await;
    assert_eq!(get.request.header("cookie"), None);
    get.reply_with(
        200,
        "Set-Cookie: node=7; Path=/; HttpOnly\r\nSet-Cookie: old=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT\r\n\
         Set-Cookie: gone=1; Max-Age=0\r\nSet-Cookie: elsewhere=1; Path=/elsewhere\r\n\
         Set-Cookie: kept=1; Max-Age=3600; Path=/socket.io\r\n",
        OPEN_WITH_UPGRADE,
    );
    let upgrade = chat.upstream.handshake().await;
    assert_eq!(cookies(upgrade.request.header("cookie")), ["kept=1", "node=7"]);
    let mut ws = upgrade.accept_with("Set-Cookie: node=8; Path=/\r\nSet-Cookie: ws=1; Path=/\r\n").await;
    let post = chat.upstream.post().await;
    post.ok();
    ws.expect("2probe").await;
    ws.send("3probe").await;
    // Whatever polling still asks for is sent before or after the answer to the handshake was read.
    chat.upstream.get().await.reply(200, r#"40{"sid":"a"}"#);
    moves_without_more(&mut chat, &mut ws).await;
    chat.consumer.hear(&CONNECT.replace(r#""transport":"websocket""#, r#""transport":"…""#)).await;

    // The next session finds the same node of the server, on either transport.
    ws.close(1001).await;
    let get = chat.upstream.get().await;
    assert_eq!(cookies(get.request.header("cookie")), ["kept=1", "node=8", "ws=1"]);
    get.reply_with(200, "Set-Cookie: ws=; Max-Age=0; Path=/\r\n", OPEN_WITH_UPGRADE);
    let upgrade = chat.upstream.handshake().await;
    assert_eq!(cookies(upgrade.request.header("cookie")), ["kept=1", "node=8"]);
}

/// The pairs of a Cookie header, by name.
fn cookies(header: Option<&str>) -> Vec<&str> {
    let mut pairs: Vec<_> = header.unwrap_or_default().split("; ").collect();
    pairs.sort_unstable();
    pairs
}

/// Sees the daemon through the pause up to `5`, with whatever polling still asks for.
async fn moves_without_more(chat: &mut Chat, ws: &mut Ws) {
    loop {
        tokio::select! {
            packet = ws.next_text_or_end() => {
                assert_eq!(packet.as_deref(), Some("5"), "the first packet after the pause");
                return;
            }
            exchange = chat.upstream.exchange() => {
                if exchange.is_post() { exchange.ok() } else { exchange.reply(200, "6") }
            }
        }
    }
}

#[tokio::test]
async fn a_websocket_that_worked_is_remembered_where_that_is_wanted() {
    for remember in [false, true] {
        let (mut chat, get, mut ws) = Chat::probing(&format!("remember_upgrade = {remember}")).await;
        ws.send("3probe").await;
        get.reply(200, "6");
        moves_without_more(&mut chat, &mut ws).await;
        chat.hears(r#""event":"upgrade","transport":"websocket""#).await;
        ws.close(1001).await;
        if remember {
            let handshake = chat.upstream.handshake().await;
            handshake.request.expect_path("/socket.io/?EIO=4&transport=websocket");
            assert!(!chat.upstream.has_unanswered_polling(), "no polling before the WebSocket");
        } else {
            chat.upstream.get().await.request.expect_path("/socket.io/?EIO=4&transport=polling");
        }
    }
}

#[tokio::test]
async fn a_session_is_shared_unless_that_is_unwanted() {
    for (scheme, option, shared) in [
        ("http", "", true),
        ("ws", "", false),
        ("http", "force_new = true", false),
        ("http", "multiplex = false", false),
    ] {
        let mut upstream = Upstream::start().await;
        let url = upstream.url();
        let other = url.replacen("http", scheme, 1);
        let mut chat = Chat::idle(&format!(
            "[connections.a]\nurl = \"{url}/a\"\n[connections.b]\nurl = \"{other}/b\"\n{option}"
        ))
        .await;
        let connect =
            |name: &str| format!(r#"{{"id":1,"method":"connect","params":{{"connection":"{name}"}}}}"#);
        chat.consumer.request(&connect("a")).await;
        let mut first = upstream.accept_ws().await;
        first.send(OPEN).await;
        first.expect("40/a,").await;
        chat.consumer.request(&connect("b")).await;
        if shared {
            first.expect("40/b,").await;
            assert!(!upstream.has_handshake(), "one WebSocket for both");
        } else {
            let mut second = upstream.accept_ws().await;
            second.send(OPEN).await;
            second.expect("40/b,").await;
        }
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    for (status, headers, body, more, hint) in [
        (
            404,
            "",
            "Cannot GET /socket.io/",
            r#""HTTP 404: Cannot GET /socket.io/","code":404"#,
            "option path",
        ),
        (
            400,
            "",
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
            r#""HTTP 400: {\"code\":5,\"message\":\"Unsupported protocol version\"}","code":400"#,
            "option engine",
        ),
        (403, "", "no", r#""HTTP 403: no","code":403"#, "Origin"),
        (
            302,
            "Location: https://other.test/socket.io/?EIO=4&secret=1\r\n",
            "",
            r#""HTTP 302 (moved to https://other.test/socket.io/)","code":302"#,
            "use https://other.test in the URL",
        ),
    ] {
        let mut chat = Chat::idle(POLLING).await;
        chat.start().await;
        chat.upstream.get().await.reply_with(status, headers, body);
        let heard = chat
            .consumer
            .hear(&lifecycle(
                &format!(
                    r#""event":"connect_error","message":"xhr poll error","phase":"http","description":{more},"hint":…hint,"source":"transport""#
                ),
                true,
            ))
            .await;
        assert!(heard["hint"].contains(hint), "{status}: {}", &heard["hint"]);
    }
    // A server that does not know the session of its own handshake is several servers.
    let mut chat = Chat::idle(POLLING).await;
    chat.start().await;
    chat.upstream.get().await.reply(200, OPEN);
    chat.upstream.get().await.reply(400, r#"{"code":1,"message":"Session ID unknown"}"#);
    let heard = chat.consumer.next_notification().await;
    assert!(heard.contains("sticky sessions"), "{heard}");
    // Servers close WebSockets at another path without a word.
    let mut chat = Chat::idle("").await;
    chat.start().await;
    chat.upstream.handshake().await.reset();
    let heard = chat.consumer.next_notification().await;
    assert!(heard.contains(r#""phase":"http""#), "{heard}");
    chat.upstream.handshake().await.hang_up().await;
    let heard = loop {
        let line = chat.consumer.next_notification().await;
        if line.contains("closed before") {
            break line;
        }
    };
    assert!(heard.contains("option path"), "{heard}");
}

#[tokio::test]
async fn cookies_are_kept_only_where_they_are_wanted_and_user_info_becomes_a_header() {
    let (mut chat, get) = Chat::polling("with_credentials = false").await;
    get.reply_with(200, "Set-Cookie: node=7\r\n", "6");
    assert_eq!(chat.upstream.get().await.request.header("cookie"), None);

    let url = chat.upstream.url().replace("http://", "http://user:pass%20word@");
    let request =
        format!(r#"{{"id":1,"method":"open","params":{{"name":"mine","url":"{url}","auto_connect":true}}}}"#);
    let answer = chat.consumer.request(&request).await;
    assert!(
        answer.contains(r#""created":true"#) && !answer.contains("word") && !answer.contains("user"),
        "{answer}"
    );
    let handshake = chat.upstream.handshake().await;
    assert_eq!(handshake.request.header("authorization"), Some("Basic dXNlcjpwYXNzIHdvcmQ="));
}

/// Events pass in both directions over polling. `get` is the one that waits, where the test has taken it.
async fn goes_on_polling(chat: &mut Chat, get: Option<Exchange>) {
    let get = match get {
        Some(get) => get,
        None => chat.upstream.get().await,
    };
    get.reply(200, r#"42["still"]"#);
    chat.consumer.hear(&event(r#""event":"still","args":[]"#)).await;
    chat.emit("polling").await;
    chat.upstream.expect_posted(r#"42["polling"]"#).await;
    let get = chat.upstream.get().await;
    get.reply(200, r#"42["again"]"#);
    chat.consumer.hear(&event(r#""event":"again","args":[]"#)).await;
}
