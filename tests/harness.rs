//! The means of the other tests, tested: the transcript matcher, the scripted upstream against the official
//! client, and the official server against a client that speaks literal packets.

mod common;

use common::node::{NodeServer, Script};
use common::transcript::compare;
use common::upstream::{OPEN, OPEN_WITH_UPGRADE};
use common::{Upstream, within};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

#[test]
fn a_literal_matches_what_it_says_and_nothing_else() {
    let rows = [
        (r#"{"a":1,"b":[true,null]}"#, r#"{"b":[true,null],"a":1}"#, Ok(())),
        (r#"{"a":1}"#, r#"{"a":1.0}"#, Err("at `.a`: expected 1, found 1.0")),
        (r#"{"a":1}"#, r"{}", Err("at `.a`: expected 1, found no such member")),
        (r"{}", r#"{"a":1}"#, Err(r#"at ``: unexpected member "a": 1"#)),
        (r#"{"a":1}"#, r#"{"a":1,"a":2}"#, Err("at ``: a member comes twice")),
        (r#"{"…":…}"#, r#"{"a":1,"a":2}"#, Ok(())),
        (r#"{"a":…}"#, r#"{"a":{"b":[]}}"#, Ok(())),
        (r#"{"a":"…"}"#, r#"{"a":"x"}"#, Ok(())),
        (r#"{"a":"…"}"#, r#"{"a":5}"#, Err(r#"at `.a`: expected "…", found 5"#)),
        (r#""…no…key""#, r#""there is no such key""#, Ok(())),
        (r#""…no…key""#, r#""no keys""#, Err(r#"at ``: expected "…no…key", found "no keys""#)),
        (r"[1,2]", r"[1]", Err("at ``: expected [1,2], found [1]")),
        (r"[…]", r"[1,2,3]", Ok(())),
        (r"[1,…]", r"[1,{}]", Ok(())),
        (r#"[{"a":1}]"#, r#"[{"a":2}]"#, Err("at `[0].a`: expected 1, found 2")),
        (
            r#"{"args":[{"a":1,"b":2}]}"#,
            r#"{"args":[{"b":2,"a":1}]}"#,
            Err(r#"at `.args`: expected [{"a":1,"b":2}], found [{"b":2,"a":1}]"#),
        ),
        (r"1", r"1 2", Err("not JSON at byte 2 (expected the end): 1 2")),
        (
            r#""a"#,
            r#""a""#,
            Err(r#"the expectation itself is wrong: not JSON at byte 0 (expected a closing quote): "a"#),
        ),
    ];
    for (literal, line, expected) in rows {
        let found = compare(literal, line).map(drop);
        assert_eq!(found, expected.map_err(str::to_owned), "{literal} against {line}");
    }
}

#[test]
fn holes_with_a_name_capture_text() {
    let captures = compare(r#"{"seq":…seq,"id":…id}"#, r#"{"id":"x","seq":12}"#).expect("they match");
    assert_eq!((&captures["id"], captures.number("seq")), (r#""x""#, 12));
}

#[tokio::test]
async fn the_official_client_takes_the_scripted_websocket_for_a_server() {
    let mut upstream = Upstream::start().await;
    let mut client = Script::start("client.mjs", &[&upstream.url(), r#"{"transports":["websocket"]}"#]).await;
    let mut ws = upstream.accept_ws().await;
    ws.request.expect_path("/socket.io/?EIO=4&transport=websocket");
    ws.send(OPEN).await;
    ws.expect("40").await;
    ws.send(r#"40{"sid":"a"}"#).await;
    assert_eq!(client.line().await, r#"["connect","websocket"]"#);
    ws.send(r#"427["ask",1]"#).await;
    ws.expect(r#"437["heard"]"#).await;
    assert_eq!(client.line().await, r#"["event","ask",1]"#);
    client.write(r#"["hi",{"n":1}]"#).await;
    ws.expect(r#"42["hi",{"n":1}]"#).await;
    ws.reset();
    assert_eq!(client.line().await, r#"["disconnect","transport close"]"#);
    upstream.handshake().await.refuse(503).await;
    assert_eq!(client.line().await, r#"["connect_error","websocket error"]"#);
    let mut ws = upstream.joined().await;
    assert_eq!(client.line().await, r#"["connect","websocket"]"#);
    client.write("null").await;
    ws.expect("41").await;
    ws.expect_closed().await;
}

#[tokio::test]
async fn the_official_client_takes_scripted_polling_for_a_server_and_upgrades() {
    let mut upstream = Upstream::start().await;
    let mut client = Script::start("client.mjs", &[&upstream.url(), "{}"]).await;
    let get = upstream.get().await;
    get.request.expect_path("/socket.io/?EIO=4&transport=polling");
    get.reply(200, OPEN_WITH_UPGRADE);
    upstream.expect_posted("40").await;
    upstream.get().await.reply(200, "40{\"sid\":\"a\"}\x1e42[\"early\"]");
    assert_eq!(client.line().await, r#"["connect","polling"]"#);
    assert_eq!(client.line().await, r#"["event","early"]"#);
    let mut ws = upstream.accept_ws().await;
    ws.request.expect_path("/socket.io/?EIO=4&transport=websocket&sid=engine-1");
    ws.expect("2probe").await;
    ws.send("3probe").await;
    upstream.get().await.reply(200, "6");
    ws.expect("5").await;
    assert_eq!(client.line().await, r#"["upgrade","websocket"]"#);
    client.write(r#"["late"]"#).await;
    ws.expect(r#"42["late"]"#).await;
}

#[tokio::test]
async fn the_official_server_answers_literal_packets_and_obeys_its_commands() {
    let mut server = NodeServer::start("{}").await;
    let mut ws = raw_client(&server.url()).await;
    assert!(receive(&mut ws).await.starts_with(r#"0{"sid":"#));
    for (sent, received) in [
        ("40", r#"40{"sid":"#),
        (r#"42["echo",1]"#, r#"42["echo",1]"#),
        (r#"420["echo","a",2]"#, r#"430["a",2]"#),
        (r#"42["ask","ready?"]"#, r#"420["question","ready?"]"#),
        (r#"430["yes"]"#, r#"42["answered","yes"]"#),
        ("40/private,", r#"44/private,{"message":"not authorized","data":{"code":"E1"}}"#),
        (r#"40/private,{"token":"secret"}"#, r#"40/private,{"sid":"#),
        (r#"421["join","blue"]"#, "431[]"),
    ] {
        ws.send(Message::text(sent)).await.expect("the server reads");
        let found = receive(&mut ws).await;
        assert!(found.starts_with(received), "{found} in answer to {sent}");
    }
    server.command(r#"{"do":"emit","to":"blue","event":"all","args":[1]}"#).await;
    assert_eq!(receive(&mut ws).await, r#"42["all",1]"#);
    server.command(r#"{"do":"kick"}"#).await;
    assert_eq!(receive(&mut ws).await, "41");
    server.command(r#"{"do":"restart"}"#).await;
    let mut ws = raw_client(&server.url()).await;
    assert!(receive(&mut ws).await.starts_with(r#"0{"sid":"#));
    server.command(r#"{"do":"drop"}"#).await;
    while let Some(Ok(message)) = within("the server's close", ws.next()).await {
        assert!(message.is_close(), "{message:?} from a server that drops its sessions");
    }
    server.command(r#"{"do":"stop"}"#).await;
    TcpStream::connect(server.url().trim_start_matches("http://"))
        .await
        .expect_err("nobody listens any more");
}

async fn raw_client(url: &str) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(url.trim_start_matches("http://")).await.expect("the server listens");
    let request = format!("{}/socket.io/?EIO=4&transport=websocket", url.replace("http", "ws"))
        .into_client_request()
        .expect("a proper URL");
    tokio_tungstenite::client_async(request, stream).await.expect("the server takes WebSockets").0
}

async fn receive(ws: &mut WebSocketStream<TcpStream>) -> String {
    let message = within("a packet of the server", ws.next()).await.expect("the server has not closed");
    message.expect("a WebSocket message").to_text().expect("a text packet").to_owned()
}
