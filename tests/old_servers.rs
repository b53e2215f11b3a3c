//! The official servers of the years before: version 2, and later ones that still let its clients in.
//!
//! What they answer is what decides here; which packets go over the wire is the business of the other tests.

mod common;

use common::node::{NodeServer, WAYS};
use common::transcript::Captures;
use common::{Consumer, Daemon, event, lifecycle};

/// Servers that take revision 3, and options that make them.
const SERVERS: &[&str] = &[
    r#""package":"socket.io-2""#,
    r#""package":"socket.io-3","allowEIO3":true"#,
    r#""package":"socket.io-4","allowEIO3":true"#,
];

struct Session {
    consumer: Consumer,
    _daemon: Daemon,
    server: NodeServer,
    way: (&'static str, &'static str),
}

impl Session {
    /// A connection `chat` to `place`, a namespace and perhaps a query; it has not been started.
    async fn idle(server: &str, way: &(&'static str, &'static str), engine: u8, place: &str) -> Self {
        let server = NodeServer::start(&format!("{{{server}}}")).await;
        let daemon = Daemon::start(&format!(
            "[defaults]\nengine = {engine}\n{}\nreconnection_delay = \"20ms\"\nreconnection_delay_max = \"100ms\"\nauto_connect = false\n[connections.chat]\nurl = \"{url}{place}\"\n[connections.root]\nurl = \"{url}/?token=secret\"\n",
            way.0,
            url = server.url(),
        ))
        .await;
        let mut consumer = daemon.attach().await;
        consumer
            .call(
                r#"{"id":0,"method":"subscribe","params":{"connection":"chat"}}"#,
                r#"{"jsonrpc":"2.0","id":0,"result":{"…":…}}"#,
            )
            .await;
        Self { consumer, _daemon: daemon, server, way: *way }
    }

    /// The same, joined with revision 3 and on its last transport.
    async fn start(server: &str, way: &(&'static str, &'static str), place: &str) -> Self {
        let mut session = Self::idle(server, way, 3, place).await;
        session.connect("chat").await;
        session.joins().await;
        session
    }

    async fn connect(&mut self, name: &str) {
        self.consumer.send(&format!(r#"{{"method":"connect","params":{{"connection":"{name}"}}}}"#)).await;
    }

    /// Hears `connect`, and `upgrade` where both transports are allowed.
    async fn joins(&mut self) {
        let (options, transport) = self.way;
        let mut connected = false;
        let mut upgraded = !(options.contains("polling") && options.contains("websocket"));
        while !(connected && upgraded) {
            let line = self.consumer.next_notification().await;
            connected |= line.contains(r#""event":"connect""#);
            upgraded |= line.contains(r#""event":"upgrade""#);
        }
        let snapshot = format!(r#"{{"name":"chat","connected":true,"transport":"{transport}","…":…}}"#);
        self.consumer
            .call(
                r#"{"id":0,"method":"list"}"#,
                &format!(r#"{{"jsonrpc":"2.0","id":0,"result":{{"connections":[{snapshot},…]}}}}"#),
            )
            .await;
    }

    async fn emit(&mut self, members: &str) {
        let emit = format!(r#"{{"method":"emit","params":{{"connection":"chat",{members}}}}}"#);
        self.consumer.send(&emit).await;
    }

    /// Emits with `ack`; the answer must have these members.
    async fn ask(&mut self, members: &str, answer: &str) -> Captures {
        let emit =
            format!(r#"{{"id":1,"method":"emit","params":{{"connection":"chat","ack":true,{members}}}}}"#);
        self.consumer.call(&emit, &format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{answer}}}}}"#)).await
    }

    async fn hear(&mut self, members: &str) -> Captures {
        self.consumer.hear(&event(members)).await
    }

    async fn hear_lifecycle(&mut self, members: &str, active: bool) {
        self.consumer.hear(&lifecycle(members, active)).await;
    }
}

#[tokio::test]
async fn events_acks_and_bytes_go_both_ways() {
    for server in SERVERS {
        for way in WAYS {
            let mut session = Session::start(server, way, "").await;
            session.emit(r#""event":"echo","args":["é😀",1.5,null,[{"a":{}}]]"#).await;
            session.hear(r#""event":"echo","args":["é😀",1.5,null,[{"a":{}}]]"#).await;
            session.ask(r#""event":"echo","args":[1,"zwei€"]"#, r#""args":[1,"zwei€"]"#).await;
            session.ask(r#""event":"echo""#, r#""args":[]"#).await;
            session.emit(r#""event":"ask","args":["ready?"]"#).await;
            let asked = session.hear(r#""event":"question","args":["ready?"],"ack":…ack"#).await;
            let answer = format!(
                r#"{{"method":"ack","params":{{"connection":"chat","ack":{},"args":["yes",2]}}}}"#,
                &asked["ack"]
            );
            session.consumer.send(&answer).await;
            session.hear(r#""event":"answered","args":["yes",2]"#).await;

            let nested =
                r#""event":"binary","args":[{"nested":[{"bytes":{"$binary":"AAEC/w=="}}]}],"binary":true"#;
            session.emit(nested).await;
            session
                .hear(
                    r#""event":"binary","args":[true,{"nested":[{"bytes":{"$binary":"AAEC/w=="}},{"$binary":"AP8="}]}],"binary":true"#,
                )
                .await;
            let large = "A".repeat(400_000);
            session
                .ask(
                    &format!(r#""event":"echo","args":["é",{{"$binary":"{large}"}}],"binary":true"#),
                    &format!(r#""args":["é",{{"$binary":"{large}"}}],"binary":true"#),
                )
                .await;
            session.emit(r#""event":"flood","args":[500]"#).await;
            for i in 0..500 {
                session.hear(&format!(r#""event":"n","args":[{i}]"#)).await;
            }
        }
    }
}

#[tokio::test]
async fn ids_are_made_of_the_session_s() {
    for server in SERVERS {
        for way in WAYS {
            for (place, before) in [("", ""), ("/room", "/room#")] {
                let mut session = Session::start(server, way, place).await;
                let id = session.ask(r#""event":"self""#, r#""args":[…id,…]"#).await["id"].to_owned();
                assert!(id.starts_with(&format!("\"{before}")), "{id}");
                let snapshot = format!(r#"{{"name":"chat","id":{id},"…":…}}"#);
                session
                    .consumer
                    .call(
                        r#"{"id":2,"method":"list"}"#,
                        &format!(r#"{{"jsonrpc":"2.0","id":2,"result":{{"connections":[{snapshot},…]}}}}"#),
                    )
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn a_namespace_is_told_the_query() {
    for server in SERVERS {
        for way in WAYS {
            let mut session = Session::start(server, way, "/private?token=secret&x=a%20b%2C").await;
            session.ask(r#""event":"self""#, r#""args":["…","secret"]"#).await;
            let mut session = Session::idle(server, way, 3, "/private?token=wrong").await;
            session.connect("chat").await;
            // Old clients are told the data alone.
            let refused = r#""event":"connect_error","message":"…","phase":"namespace","data":{"code":"E1"},"source":"server""#;
            session.hear_lifecycle(refused, false).await;
        }
    }
}

#[tokio::test]
async fn who_is_not_let_in_hears_why() {
    for server in SERVERS {
        for (place, refuse, message) in [("/nowhere", false, "Invalid namespace"), ("", true, "not today")] {
            let server = format!(r#"{server},"refuse":{refuse}"#);
            let mut session = Session::idle(&server, &WAYS[0], 3, place).await;
            session.connect("chat").await;
            let refused = format!(
                r#""event":"connect_error","message":"{message}","phase":"namespace","source":"server""#
            );
            session.hear_lifecycle(&refused, false).await;
        }
    }
}

#[tokio::test]
async fn the_root_can_be_left_and_joined_again_beside_another_namespace() {
    for server in SERVERS {
        let mut session = Session::start(server, &WAYS[0], "").await;
        // The other namespace keeps the session open.
        let open = format!(
            r#"{{"id":5,"method":"open","params":{{"name":"room","url":"{}/room","engine":3,"transports":["websocket"],"reconnection_delay":"20ms","reconnection_delay_max":"100ms","auto_connect":false}}}}"#,
            session.server.url()
        );
        session
            .consumer
            .call(&open, r#"{"jsonrpc":"2.0","id":5,"result":{"created":true,"connection":{"…":…}}}"#)
            .await;
        let connect = r#"{"id":6,"method":"connect","params":{"connection":"room","wait":20000}}"#;
        session.consumer.call(connect, r#"{"jsonrpc":"2.0","id":6,"result":{"connected":true,"…":…}}"#).await;
        for _ in 0..2 {
            session.consumer.send(r#"{"method":"disconnect","params":{"connection":"chat"}}"#).await;
            session
                .hear_lifecycle(
                    r#""event":"disconnect","reason":"io client disconnect","details":null"#,
                    false,
                )
                .await;
            session.connect("chat").await;
            session.hear_lifecycle(r#""event":"connect","…":…"#, true).await;
            session.ask(r#""event":"echo","args":["back"]"#, r#""args":["back"]"#).await;
            session
                .consumer
                .call(connect, r#"{"jsonrpc":"2.0","id":6,"result":{"connected":true,"…":…}}"#)
                .await;
            let ask = r#"{"id":7,"method":"emit","params":{"connection":"room","event":"echo","args":[1],"ack":true}}"#;
            session.consumer.call(ask, r#"{"jsonrpc":"2.0","id":7,"result":{"args":[1]}}"#).await;
        }
    }
}

#[tokio::test]
async fn a_kick_is_final_and_a_lost_or_restarted_server_is_not() {
    for server in SERVERS {
        for way in WAYS {
            let mut session = Session::start(server, way, "").await;
            for loss in [r#"{"do":"drop"}"#, r#"{"do":"restart"}"#] {
                session.server.command(loss).await;
                session.hear_lifecycle(r#""event":"disconnect","…":…"#, true).await;
                session.joins().await;
                session.ask(r#""event":"echo","args":["back"]"#, r#""args":["back"]"#).await;
            }
            session.server.command(r#"{"do":"kick"}"#).await;
            session
                .hear_lifecycle(
                    r#""event":"disconnect","reason":"io server disconnect","details":null"#,
                    false,
                )
                .await;
            session.connect("chat").await;
            session.hear_lifecycle(r#""event":"connect","…":…"#, true).await;
        }
    }
}

#[tokio::test]
async fn our_pings_are_answered() {
    for server in SERVERS {
        for way in WAYS {
            let server = format!(r#"{server},"pingInterval":30,"pingTimeout":15000"#);
            let mut session = Session::start(&server, way, "").await;
            session.emit(r#""event":"beats""#).await;
            for _ in 0..3 {
                session.hear(r#""event":"beat","args":[]"#).await;
            }
        }
    }
}

#[tokio::test]
async fn an_error_of_the_server_is_an_event_to_who_is_connected() {
    for way in WAYS {
        let mut session = Session::start(SERVERS[0], way, "/room").await;
        session.emit(r#""event":"complain","args":[{"code":7}]"#).await;
        session.hear(r#""event":"error","args":[{"code":7}]"#).await;
        session.ask(r#""event":"echo","args":[1]"#, r#""args":[1]"#).await;
    }
}

#[tokio::test]
async fn what_an_old_server_does_not_have_is_refused() {
    let mut session = Session::start(SERVERS[0], &WAYS[0], "").await;
    for name in ["connect", "error", "ping", "reconnecting"] {
        let emit = format!(r#"{{"id":1,"method":"emit","params":{{"connection":"chat","event":"{name}"}}}}"#);
        session.consumer.call(&emit, &common::refusal("1", -32005, "reserved_event")).await;
    }
    for method in ["set_auth", "connect"] {
        let request = format!(
            r#"{{"id":2,"method":"{method}","params":{{"connection":"chat","auth":{{"token":"x"}}}}}}"#
        );
        let refused = r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"…query","data":{"kind":"invalid_params","…":…}}}"#;
        session.consumer.call(&request, refused).await;
    }
}

#[tokio::test]
async fn version_3_is_a_server_of_today() {
    for way in WAYS {
        let mut session = Session::idle(r#""package":"socket.io-3""#, way, 4, "").await;
        session.connect("chat").await;
        session.joins().await;
        session.ask(r#""event":"echo","args":["é"]"#, r#""args":["é"]"#).await;
        session
            .ask(
                r#""event":"echo","args":[{"$binary":"AAEC/w=="}],"binary":true"#,
                r#""args":[{"$binary":"AAEC/w=="}],"binary":true"#,
            )
            .await;
        session.server.command(r#"{"do":"restart"}"#).await;
        session.hear_lifecycle(r#""event":"disconnect","…":…"#, true).await;
        session.joins().await;
    }
}

#[tokio::test]
async fn the_wrong_revision_is_told_which_one_to_set() {
    const OLD: &str = r#""package":"socket.io-2""#;
    const THREE: &str = r#""package":"socket.io-3""#;
    const NEW: &str = r#""package":"socket.io-4""#;
    let official = "It seems you are trying to reach a Socket.IO server in v2.x with a v3.x client, but they are not compatible (more information here: https://socket.io/docs/v3/migrating-from-2-x-to-3-0/)";
    for (server, engine, way, place, message, source) in [
        (OLD, 4, &WAYS[0], "", official, "server"),
        (OLD, 4, &WAYS[0], "/room", official, "server"),
        (OLD, 4, &WAYS[0], "/nowhere", "Invalid namespace", "server"),
        (OLD, 4, &WAYS[1], "", "server error", "transport"),
        (OLD, 4, &WAYS[2], "/room", official, "server"),
        (NEW, 3, &WAYS[0], "", "websocket error", "transport"),
        (NEW, 3, &WAYS[1], "", "xhr poll error", "transport"),
        // It accepts the WebSocket and never says a word.
        (THREE, 3, &("transports = [\"websocket\"]\ntimeout = \"2s\"", ""), "", "timeout", "transport"),
        (THREE, 3, &WAYS[1], "", "xhr poll error", "transport"),
    ] {
        let mut session = Session::idle(server, way, engine, place).await;
        session.connect("chat").await;
        let line = session.consumer.next_notification().await;
        let other = if engine == 4 { 3 } else { 4 };
        for part in [
            r#""event":"connect_error""#.to_owned(),
            format!(r#""message":"{message}""#),
            format!("set engine = {other}"),
            format!(r#""source":"{source}""#),
            format!(r#""active":{}"#, source == "transport"),
        ] {
            assert!(line.contains(&part), "{part} is not in {line}");
        }
    }
}
