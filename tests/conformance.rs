//! The official server, over each transport.
//!
//! What it answers is what decides here; which packets go over the wire is the business of the other tests.

mod common;

use common::node::{NodeServer, WAYS};
use common::transcript::compare;
use common::{Consumer, Daemon, event, lifecycle};

struct Session {
    consumer: Consumer,
    _daemon: Daemon,
    server: NodeServer,
}

impl Session {
    /// A connection `chat` to `namespace`, joined, and on its last transport.
    async fn start(way: &(&str, &str), namespace: &str, more: &str) -> Self {
        Self::start_with("{}", way, namespace, more).await
    }

    /// As [`start`](Self::start), with options for the server.
    async fn start_with(server: &str, way: &(&str, &str), namespace: &str, more: &str) -> Self {
        let server = NodeServer::start(server).await;
        let url = server.url();
        let (options, transport) = way;
        let daemon = Daemon::start(&format!(
            "[defaults]\n{options}\nreconnection_delay = \"20ms\"\nreconnection_delay_max = \"100ms\"\nauto_connect = false\n[connections.chat]\nurl = \"{url}{namespace}\"\n{more}"
        ))
        .await;
        let consumer = daemon.attach().await;
        let mut session = Self { consumer, _daemon: daemon, server };
        session.subscribe().await;
        session.send(r#"{"method":"connect","params":{"connection":"chat"}}"#).await;
        session.joins(options, transport).await;
        session
    }

    async fn subscribe(&mut self) {
        self.consumer
            .call(
                r#"{"id":0,"method":"subscribe","params":{"connection":"chat"}}"#,
                r#"{"jsonrpc":"2.0","id":0,"result":{"…":…}}"#,
            )
            .await;
    }

    async fn send(&mut self, request: &str) {
        self.consumer.send(request).await;
    }

    /// Hears `connect`, and `upgrade` where both transports are allowed.
    async fn joins(&mut self, options: &str, transport: &str) {
        let mut connected = false;
        let mut upgraded = !(options.contains("polling") && options.contains("websocket"));
        while !(connected && upgraded) {
            let line = self.consumer.next_notification().await;
            connected |= line.contains(r#""event":"connect""#);
            upgraded |= line.contains(r#""event":"upgrade""#);
        }
        let transport = format!(
            r#"{{"jsonrpc":"2.0","id":0,"result":{{"connections":[{{"connected":true,"transport":"{transport}","…":…}}]}}}}"#
        );
        self.consumer.call(r#"{"id":0,"method":"list"}"#, &transport).await;
    }

    async fn emit(&mut self, members: &str) {
        self.send(&format!(r#"{{"method":"emit","params":{{"connection":"chat",{members}}}}}"#)).await;
    }

    /// Emits with `ack`; the answer must have these args.
    async fn ask(&mut self, members: &str, answer: &str) {
        self.consumer
            .call(
                &format!(
                    r#"{{"id":1,"method":"emit","params":{{"connection":"chat","ack":true,{members}}}}}"#
                ),
                &format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{answer}}}}}"#),
            )
            .await;
    }

    async fn id(&mut self) -> String {
        let list = r#"{"jsonrpc":"2.0","id":0,"result":{"connections":[{"id":…id,"…":…}]}}"#;
        self.consumer.call(r#"{"id":0,"method":"list"}"#, list).await["id"].trim_matches('"').to_owned()
    }

    /// All notifications up to the next `connect`. They are numbered without a hole, from `next` on if that is not 0.
    async fn until_connected(&mut self, next: &mut u64) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.consumer.next_notification().await;
            let numbered = r#"{"jsonrpc":"2.0","method":"…","params":{"seq":…seq,"…":…}}"#;
            let seq = compare(numbered, &line).unwrap().number("seq");
            assert!(*next == 0 || *next == seq, "expected {next}, found {line}");
            *next = seq + 1;
            let connected = line.contains(r#""event":"connect""#);
            lines.push(line);
            if connected {
                return lines;
            }
        }
    }

    /// As [`hear`](Self::hear), where an upgrade may be told in between.
    async fn hear_beside_upgrade(&mut self, members: &str) {
        let mut line = self.consumer.next_notification().await;
        if line.contains(r#""event":"upgrade""#) {
            line = self.consumer.next_notification().await;
        }
        compare(&event(members), &line).unwrap();
    }

    async fn hear(&mut self, members: &str) -> common::transcript::Captures {
        self.consumer.hear(&event(members)).await
    }
}

#[tokio::test]
async fn events_and_acks_go_both_ways() {
    for way in WAYS {
        let mut session = Session::start(way, "", "").await;
        events_and_acks(&mut session, way.1).await;
        bytes(&mut session).await;
    }
}

/// The options of the server and of the connection that make both speak MessagePack.
const MSGPACK: (&str, &str) = (r#"{"parser":"socket.io-msgpack-parser"}"#, "parser = \"msgpack\"");

#[tokio::test]
async fn msgpack_carries_it_all_too() {
    for way in WAYS {
        let mut session = Session::start_with(MSGPACK.0, way, "", MSGPACK.1).await;
        events_and_acks(&mut session, way.1).await;
        bytes(&mut session).await;
        session
            .ask(
                r#""event":"echo","args":[-1,9007199254740991,{"deep":[[[{"k":"v"}]]]}]"#,
                r#""args":[-1,9007199254740991,{"deep":[[[{"k":"v"}]]]}]"#,
            )
            .await;
        session.emit(r#""event":"oddities""#).await;
        session
            .hear(
                r#""event":"oddities","args":[{"out":[null,null]},"2026-01-02T03:04:05.678Z",{"$binary":"AQI="},1099511627776,-0.5],"binary":true"#,
            )
            .await;
        // Binary is in place, so no attachments are counted.
        let many = [r#"{"$binary":"AQ=="}"#; 11].join(",");
        session
            .ask(
                &format!(r#""event":"echo","args":[{many}],"binary":true"#),
                &format!(r#""args":[{many}],"binary":true"#),
            )
            .await;
    }
}

#[tokio::test]
async fn json_and_msgpack_do_not_understand_each_other() {
    let server = NodeServer::start("{}").await;
    let daemon = Daemon::start(&format!(
        "[connections.chat]\nurl = \"{}\"\nparser = \"msgpack\"\nauto_connect = false\nreconnection = false\n",
        server.url()
    ))
    .await;
    let mut consumer = daemon.attach().await;
    let request = r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":20000}}"#;
    consumer.call(request, &common::refusal("1", -32009, "connect_failed")).await;
}

async fn events_and_acks(session: &mut Session, transport: &str) {
    session.emit(r#""event":"echo","args":["é😀",1.5,null,[{"a":{}}]]"#).await;
    session.hear(r#""event":"echo","args":["é😀",1.5,null,[{"a":{}}]]"#).await;
    session.ask(r#""event":"echo","args":[1,"two"]"#, r#""args":[1,"two"]"#).await;
    session.ask(r#""event":"echo""#, r#""args":[]"#).await;
    session.ask(r#""event":"who""#, &format!(r#""args":["/",{{}},"{transport}"]"#)).await;
    session.emit(r#""event":"ask","args":["ready?"]"#).await;
    let asked = session.hear(r#""event":"question","args":["ready?"],"ack":…ack"#).await;
    let answer = format!(
        r#"{{"method":"ack","params":{{"connection":"chat","ack":{},"args":["yes",2]}}}}"#,
        &asked["ack"]
    );
    session.send(&answer).await;
    session.hear(r#""event":"answered","args":["yes",2]"#).await;
}

async fn bytes(session: &mut Session) {
    session
        .emit(r#""event":"binary","args":[{"nested":[{"bytes":{"$binary":"AAEC/w=="}}]}],"binary":true"#)
        .await;
    session
        .hear(
            r#""event":"binary","args":[true,{"nested":[{"bytes":{"$binary":"AAEC/w=="}},{"$binary":"AP8="}]}],"binary":true"#,
        )
        .await;
    session
        .ask(
            r#""event":"echo","args":[{"a":{"$binary":"CQ=="}},"x",{"$binary":"Cg=="}],"binary":true"#,
            r#""args":[{"a":{"$binary":"CQ=="}},"x",{"$binary":"Cg=="}],"binary":true"#,
        )
        .await;
    // Larger than one frame of any size that libraries like to use.
    let large = "A".repeat(400_000);
    session
        .ask(
            &format!(r#""event":"echo","args":[{{"$binary":"{large}"}}],"binary":true"#),
            &format!(r#""args":[{{"$binary":"{large}"}}],"binary":true"#),
        )
        .await;
}

#[tokio::test]
async fn the_server_takes_what_is_let_through_and_no_more_is() {
    for way in &WAYS[..2] {
        let mut session = Session::start_with(r#"{"maxHttpBufferSize":1000}"#, way, "", "").await;
        // `421["echo",""]` and `4` before base64 are what travels beside it.
        let largest = format!(r#""event":"echo","args":["{}"]"#, "x".repeat(1000 - 14));
        session.ask(r#""event":"echo""#, r#""args":[]"#).await;
        session.ask(&largest, &largest[r#""event":"echo","#.len()..]).await;
        let bytes = |length: usize| {
            let base64 = "AAAA".repeat(length / 3);
            format!(r#""binary":true,"event":"echo","args":[{{"$binary":"{base64}"}}]"#)
        };
        let most = if way.1 == "polling" { 747 } else { 999 };
        session.ask(&bytes(most), r#""args":[{"…":…}],"binary":true"#).await;
        for too_large in [largest.replace("xxx", "xxxx"), bytes(most + 3)] {
            let request = format!(
                r#"{{"id":1,"method":"emit","params":{{"connection":"chat","ack":true,{too_large}}}}}"#
            );
            session.consumer.call(&request, &common::refusal("1", -32602, "invalid_params")).await;
        }
        session.ask(r#""event":"who""#, r#""args":[…]"#).await;
    }
}

#[tokio::test]
async fn a_flood_arrives_whole_and_in_order() {
    for way in WAYS {
        let mut session = Session::start(way, "", "").await;
        session.emit(r#""event":"flood","args":[2000]"#).await;
        for i in 0..2000 {
            session.hear(&format!(r#""event":"n","args":[{i}]"#)).await;
        }
    }
}

#[tokio::test]
async fn rooms_and_namespaces_are_the_server_s_to_tell_apart() {
    for way in WAYS {
        let mut session = Session::start(way, "/room", "").await;
        session.ask(r#""event":"who""#, &format!(r#""args":["/room",{{}},"{}"]"#, way.1)).await;
        let mut session = Session::start(way, "", "").await;
        session.ask(r#""event":"join","args":["blue"]"#, r#""args":[]"#).await;
        session.server.command(r#"{"do":"emit","to":"red","event":"all","args":["red"]}"#).await;
        session.server.command(r#"{"do":"emit","to":"blue","event":"all","args":["blue"]}"#).await;
        session.server.command(r#"{"do":"emit","event":"all","args":["everyone"]}"#).await;
        session.hear(r#""event":"all","args":["blue"]"#).await;
        session.hear(r#""event":"all","args":["everyone"]"#).await;
    }
}

#[tokio::test]
async fn a_middleware_refuses_and_lets_in_whom_it_likes() {
    for (way, (server, parser)) in WAYS.iter().map(|way| (way, ("{}", ""))).chain([(&WAYS[0], MSGPACK)]) {
        let server = NodeServer::start(server).await;
        let url = server.url();
        let daemon = Daemon::start(&format!(
            "[defaults]\nauto_connect = false\n{}\n{parser}\n[connections.chat]\nurl = \"{url}/private\"\nauth = {{ token = \"wrong\" }}\n[connections.none]\nurl = \"{url}/nowhere\"\n",
            way.0
        ))
        .await;
        let mut consumer = daemon.attach().await;
        consumer
            .call(
                r#"{"id":1,"method":"connect","params":{"connection":"none","wait":20000}}"#,
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32009,"message":"…Invalid namespace…","data":{"kind":"connect_failed","…":…}}}"#,
            )
            .await;
        consumer
            .call(
                r#"{"id":2,"method":"connect","params":{"connection":"chat","wait":20000}}"#,
                r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32009,"message":"…not authorized…","data":{"kind":"connect_failed","data":{"code":"E1"},"…":…}}}"#,
            )
            .await;
        consumer
            .call(
                r#"{"id":3,"method":"connect","params":{"connection":"chat","wait":20000,"auth":{"token":"secret"}}}"#,
                r#"{"jsonrpc":"2.0","id":3,"result":{"name":"chat","namespace":"/private","connected":true,"…":…}}"#,
            )
            .await;
        consumer
            .call(
                r#"{"id":4,"method":"emit","params":{"connection":"chat","event":"who","ack":true}}"#,
                r#"{"jsonrpc":"2.0","id":4,"result":{"args":["/private",{"token":"secret"},"…"]}}"#,
            )
            .await;
    }
}

#[tokio::test]
async fn emits_are_sent_again_until_they_are_answered() {
    for way in WAYS {
        // What is answered at its second try has a third, should the machine be slow.
        let mut session = Session::start(way, "", "retries = 2\nack_timeout = \"500ms\"").await;
        session.emit(r#""event":"insist","args":["first",2]"#).await;
        session.emit(r#""event":"insist","args":["never",9]"#).await;
        session
            .ask(r#""event":"insist","args":["last",2]"#, r#""args":[["first",…],["never",3],["last",…]]"#)
            .await;
        session
            .consumer
            .call(
                r#"{"id":1,"method":"emit","params":{"connection":"chat","event":"insist","args":["too often",4],"ack":true}}"#,
                &common::refusal("1", -32003, "ack_timeout"),
            )
            .await;
    }
}

#[tokio::test]
async fn emits_survive_a_lost_connection_in_order() {
    for way in WAYS {
        let mut session = Session::start(way, "", "retries = 1").await;
        session.emit(r#""event":"insist","args":["a",2]"#).await;
        session.emit(r#""event":"insist","args":["b",1]"#).await;
        session.send(r#"{"id":1,"method":"emit","params":{"connection":"chat","event":"insist","args":["c",1],"ack":true}}"#).await;
        session.server.command(r#"{"do":"hear","what":"a"}"#).await;
        session.server.command(r#"{"do":"drop"}"#).await;
        session.consumer.hear(&lifecycle(r#""event":"disconnect","…":…"#, true)).await;
        session
            .consumer
            .expect_answer(r#"{"jsonrpc":"2.0","id":1,"result":{"args":[["a",2],["b",1],["c",1]]}}"#)
            .await;
        let list =
            r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"buffered":0,"pending_acks":0,"…":…}]}}"#;
        session.consumer.call(r#"{"id":1,"method":"list"}"#, list).await;
    }
}

#[tokio::test]
async fn a_kick_is_final_and_a_lost_or_restarted_server_is_not() {
    for way in WAYS {
        let mut session = Session::start(way, "", "").await;
        for loss in [r#"{"do":"drop"}"#, r#"{"do":"restart"}"#] {
            session.server.command(loss).await;
            session.consumer.hear(&lifecycle(r#""event":"disconnect","…":…"#, true)).await;
            session.joins(way.0, way.1).await;
            session.ask(r#""event":"echo","args":["back"]"#, r#""args":["back"]"#).await;
        }
        session.server.command(r#"{"do":"kick"}"#).await;
        let kicked = r#""event":"disconnect","reason":"io server disconnect","details":null"#;
        session.consumer.hear(&lifecycle(kicked, false)).await;
        session.send(r#"{"method":"connect","params":{"connection":"chat"}}"#).await;
        // The next that is heard is that it is up again: nobody had tried in between.
        session.consumer.hear(&lifecycle(r#""event":"connect","…":…"#, true)).await;
    }
}

/// Servers and connections that recover a session, with both parsers.
const RECOVERY: [(&str, &str); 2] = [
    (r#"{"connectionStateRecovery":{}}"#, ""),
    (r#"{"connectionStateRecovery":{},"parser":"socket.io-msgpack-parser"}"#, MSGPACK.1),
];

#[tokio::test]
async fn what_was_missed_in_an_outage_comes_once_and_before_connect() {
    for way in WAYS {
        for (server, parser) in RECOVERY {
            // A WebSocket can just be cut. With polling, the server might not notice between two requests.
            let by = if way.1 == "websocket" { "cut" } else { "drop" };
            let mut session = Session::start_with(server, way, "", parser).await;
            let id = session.id().await;
            session.server.command(r#"{"do":"emit","event":"first"}"#).await;
            let first = event(r#""event":"first","args":["…"]"#).replace(r#""seq":…"#, r#""seq":…seq"#);
            let seq = session.consumer.hear(&first).await.number("seq");
            let mut expected = seq + 1;
            if by == "cut" {
                // The official client would take this name for an offset, and lose what follows. Between two requests of
                // polling the server would drop it.
                session.server.command(r#"{"do":"tick"}"#).await;
                session.hear(r#""event":"tick","args":[]"#).await;
                expected += 1;
            }
            session.server.command(&format!(r#"{{"do":"outage","by":"{by}","count":3}}"#)).await;
            let missed = session.until_connected(&mut expected).await;
            let [before @ .., zero, one, two, connect] = missed.as_slice() else { panic!("{missed:?}") };
            assert!(before.iter().all(|line| line.contains(r#""method":"lifecycle""#)), "{before:?}");
            for (line, args) in [
                (zero, r#"[0,{"$binary":""},"…"],"binary":true"#),
                (one, r#"[1,{"$binary":"AA=="},"…"],"binary":true"#),
                (two, r#"[2,{"$binary":"AAA="},"…"],"binary":true"#),
            ] {
                compare(&event(&format!(r#""event":"missed","args":{args}"#)), line).unwrap();
            }
            let recovered = format!(r#""event":"connect","id":"{id}","recovered":true,"transport":"…""#);
            compare(&lifecycle(&recovered, true), connect).unwrap();

            session.server.command(r#"{"do":"emit","event":"next"}"#).await;
            session.hear_beside_upgrade(r#""event":"next","args":["…"]"#).await;
            session.ask(r#""event":"echo","args":[1]"#, r#""args":[1]"#).await;
        }
    }
}

#[tokio::test]
async fn a_session_that_the_server_forgot_begins_anew() {
    for way in WAYS {
        for (server, parser) in RECOVERY {
            let mut session = Session::start_with(server, way, "", parser).await;
            let id = session.id().await;
            session.server.command(r#"{"do":"emit","event":"first"}"#).await;
            session.hear(r#""event":"first","args":["…"]"#).await;
            session.server.command(r#"{"do":"restart"}"#).await;
            let heard = session.until_connected(&mut 0).await;
            assert!(heard.iter().all(|line| line.contains(r#""method":"lifecycle""#)), "{heard:?}");
            let connect = heard.last().expect("there is the connect");
            assert!(connect.contains(r#""recovered":false"#) && !connect.contains(&id), "{connect}");

            // The new session can be recovered in turn.
            session.server.command(r#"{"do":"emit","event":"second"}"#).await;
            session.hear_beside_upgrade(r#""event":"second","args":["…"]"#).await;
            session.server.command(r#"{"do":"outage","by":"drop","count":1}"#).await;
            let heard = session.until_connected(&mut 0).await;
            let [.., missed, connect] = heard.as_slice() else { panic!("{heard:?}") };
            assert!(missed.contains(r#""event":"missed""#), "{missed}");
            assert!(connect.contains(r#""recovered":true"#), "{connect}");
        }
    }
}
