use std::future::poll_fn;

use http::header::HeaderValue;
use tokio::net::{TcpListener, TcpSocket};

use super::server::{Request, Server};
use super::*;
use crate::engineio::Phase;

const HANDSHAKE: &str = r#"{"sid":"S"}"#;

/// A transport whose session is open; its next GET has not started.
async fn session(change: impl FnOnce(&mut Settings), max_payload: Option<usize>) -> (Server, Transport) {
    let mut server = Server::start().await;
    let mut settings = at(server.address);
    change(&mut settings);
    let mut transport = open(settings, TransportKind::Polling, None).await.expect("nothing to fail yet");
    during(&mut transport, server.request()).await.ok(&format!("0{HANDSHAKE}"));
    assert_eq!(packet(&mut transport).await, Packet::Open(HANDSHAKE.into()));
    transport.set_session("S", max_payload);
    (server, transport)
}

/// The next two requests, which must be a GET and a POST, in this order.
async fn get_and_post(server: &mut Server, transport: &mut Transport) -> (Request, Request) {
    let (a, b) = (during(transport, server.request()).await, during(transport, server.request()).await);
    let (get, post) = if a.is("GET") { (a, b) } else { (b, a) };
    assert!(get.is("GET") && post.is("POST"), "{} and {}", get.line, post.line);
    (get, post)
}

async fn flushed(transport: &mut Transport) -> Result<(), Error> {
    poll_fn(|cx| transport.poll_flush(cx)).await
}

#[tokio::test]
async fn exchanges_packets() {
    let mut server = Server::start().await;
    let mut settings = at(server.address);
    settings.query = vec![("token".to_owned(), "a b".to_owned())];
    settings.headers.insert("x-key", HeaderValue::from_static("1"));
    let mut transport = open(settings, TransportKind::Polling, None).await.expect("nothing to fail yet");
    assert_eq!(transport.kind(), TransportKind::Polling);
    assert_eq!(server.connections(), 0, "opening prepares only");

    // A packet that is queued before the session is known waits.
    transport.send(text("early"));
    let get = during(&mut transport, server.request()).await;
    let (target, stamp) = get.line.split_once("&t=").expect("a stamp");
    assert_eq!(target, "GET /socket.io/?token=a%20b&EIO=4&transport=polling");
    assert!(!stamp.is_empty());
    assert_eq!(get.header("accept"), Some("*/*"));
    assert_eq!(get.header("x-key"), Some("1"));
    assert_eq!(get.header("host"), Some(server.address.to_string().as_str()));
    assert_eq!(get.header("accept-encoding"), None);
    get.ok(&format!("0{HANDSHAKE}\u{1e}40{{}}"));
    assert_eq!(packet(&mut transport).await, Packet::Open(HANDSHAKE.into()));
    assert!(!transport.is_writable());
    transport.set_session("S", None);
    assert_eq!(packet(&mut transport).await, text("0{}"), "packets of one body come one by one");

    let (get, post) = get_and_post(&mut server, &mut transport).await;
    assert!(
        get.line.starts_with("GET /socket.io/?token=a%20b&EIO=4&transport=polling&sid=S&t="),
        "{}",
        get.line
    );
    assert!(
        post.line.starts_with("POST /socket.io/?token=a%20b&EIO=4&transport=polling&sid=S&t="),
        "{}",
        post.line
    );
    assert_eq!(post.header("content-type"), Some("text/plain;charset=UTF-8"));
    assert_eq!(post.header("accept"), Some("*/*"));
    assert_eq!(post.header("x-key"), Some("1"));
    assert_eq!(post.body, "4early");
    assert_eq!(transport.queued(), "4early".len());
    post.ok("ok");
    get.ok("bAQID\u{1e}2");
    assert_eq!(packet(&mut transport).await, binary(&b"\x01\x02\x03"[..]));
    assert_eq!(packet(&mut transport).await, Packet::Ping("".into()));
    transport.send(Packet::Pong("".into()));
    transport.send(binary(&b"\xff\xfe"[..]));
    let (_get, post) = get_and_post(&mut server, &mut transport).await;
    assert_eq!(post.body, "3\u{1e}b//4=");
    post.ok("ok");
    flushed(&mut transport).await.expect("the POST was answered");
    assert_eq!(transport.queued(), 0);
    assert!(transport.is_writable());
    assert_eq!(server.connections(), 2, "one for GET, one for POST, each used again");
}

#[tokio::test]
async fn one_post_at_a_time_and_in_order() {
    let (mut server, mut transport) = session(|_| {}, None).await;
    for n in 0..500 {
        transport.send(text(&n.to_string()));
    }
    let (_get, post) = get_and_post(&mut server, &mut transport).await;
    for n in 500..1000 {
        transport.send(text(&n.to_string()));
    }
    // The second POST cannot start before the first is answered, however often the transport is polled.
    for _ in 0..50 {
        during(&mut transport, tokio::task::yield_now()).await;
    }
    server.assert_quiet();
    assert!(!transport.is_writable());
    let mut bodies = post.body.clone();
    post.ok("ok");
    let post = during(&mut transport, server.request()).await;
    bodies = format!("{bodies}\u{1e}{}", post.body);
    post.ok("ok");
    flushed(&mut transport).await.expect("both POSTs were answered");
    let expected: Vec<_> = (0..1000).map(|n| format!("4{n}")).collect();
    assert_eq!(bodies, expected.join("\u{1e}"));
    server.assert_quiet();
}

#[tokio::test]
async fn bodies_are_split_at_the_servers_limit() {
    let (mut server, mut transport) = session(|_| {}, Some(10)).await;
    for data in ["aaa", "bbb", "c", "this one is longer than ten bytes", "d"] {
        transport.send(text(data));
    }
    let (_get, mut post) = get_and_post(&mut server, &mut transport).await;
    let mut bodies = vec![post.body.clone()];
    let mut queued = vec![transport.queued()];
    while transport.queued() > post.body.len() {
        post.ok("ok");
        post = during(&mut transport, server.request()).await;
        bodies.push(post.body.clone());
        queued.push(transport.queued());
    }
    post.ok("ok");
    flushed(&mut transport).await.expect("all POSTs were answered");
    assert_eq!(bodies, ["4aaa\u{1e}4bbb", "4c", "4this one is longer than ten bytes", "4d"]);
    assert_eq!(queued, [9 + 2 + 34 + 2, 2 + 34 + 2, 34 + 2, 2]);
    assert_eq!(transport.queued(), 0);
}

#[tokio::test]
async fn one_pong_stands_for_all_that_would_follow_it() {
    let (_server, mut transport) = session(|_| {}, None).await;
    for _ in 0..1000 {
        transport.send(Packet::Pong("".into()));
    }
    assert_eq!(transport.queued(), 1);
    transport.send(text("a"));
    transport.send(Packet::Pong("".into()));
    let expected = [Packet::Pong("".into()), text("a"), Packet::Pong("".into())];
    assert_eq!(transport.take_queued(), expected);
}

#[tokio::test]
async fn large_packets_pass_in_both_directions_at_once() {
    let (mut server, mut transport) = session(|settings| settings.max_payload = 8 << 20, None).await;
    let large = "x".repeat(5 << 20);
    transport.send(text(&large));
    let (get, post) = get_and_post(&mut server, &mut transport).await;
    assert_eq!(post.body.len(), 1 + large.len());
    get.ok(&format!("4{large}"));
    assert_eq!(packet(&mut transport).await, text(&large));
    post.ok("ok");
    flushed(&mut transport).await.expect("the POST was answered");
}

#[tokio::test]
async fn a_pause_waits_for_what_is_under_way() {
    let (mut server, mut transport) = session(|_| {}, None).await;
    transport.send(text("a"));
    let (get, post) = get_and_post(&mut server, &mut transport).await;
    transport.pause();
    transport.send(text("b"));
    transport.send(text("c"));
    post.ok("ok");
    for _ in 0..50 {
        during(&mut transport, tokio::task::yield_now()).await;
    }
    get.ok("4last\u{1e}6");
    assert_eq!(packet(&mut transport).await, text("last"));
    assert_eq!(packet(&mut transport).await, Packet::Noop);
    assert_eq!(transport.recv().await, Ok(Received::Paused));
    for _ in 0..50 {
        during(&mut transport, tokio::task::yield_now()).await;
    }
    server.assert_quiet();
    assert_eq!(transport.queued(), 4, "the queue is kept");

    transport.resume();
    let (get, post) = get_and_post(&mut server, &mut transport).await;
    assert_eq!(post.body, "4b\u{1e}4c");
    transport.pause();
    get.ok("6");
    assert_eq!(packet(&mut transport).await, Packet::Noop);
    transport.send(text("d"));
    // Ended before it was complete: nothing is said of it.
    transport.resume();
    post.ok("ok");
    let (get, post) = get_and_post(&mut server, &mut transport).await;
    assert_eq!(post.body, "4d");

    transport.pause();
    transport.send(text("e"));
    transport.send(text("f"));
    get.ok("6");
    post.ok("ok");
    assert_eq!(packet(&mut transport).await, Packet::Noop);
    assert_eq!(transport.recv().await, Ok(Received::Paused));
    assert_eq!(transport.take_queued(), [text("e"), text("f")]);
    assert_eq!(transport.queued(), 0);
}

#[tokio::test]
async fn a_failed_get_tells_why() {
    let no_status = |answer: &'static str, detail: &'static str| (answer.to_owned(), None, detail.to_owned());
    let refused = |status: u16, rest: &str, detail: &str| {
        (format!("HTTP/1.1 {status} X\r\n{rest}"), Some(status), detail.to_owned())
    };
    let long = "y".repeat(5000);
    for (answer, status, detail) in [
        refused(
            400,
            "Content-Length: 41\r\n\r\n{\"code\":1,\"message\":\"Session ID unknown\"}",
            r#"HTTP 400: {"code":1,"message":"Session ID unknown"}"#,
        ),
        refused(502, &format!("Content-Length: 5000\r\n\r\n{long}"), &format!("HTTP 502: {}", &long[..200])),
        refused(503, "Content-Length: 0\r\n\r\n", "HTTP 503"),
        refused(204, "\r\n", "HTTP 204"),
        refused(301, "Location: /x\r\nContent-Length: 0\r\n\r\n", "HTTP 301 (moved to /x)"),
        // A body that breaks off still says something.
        refused(500, "Content-Length: 50\r\nConnection: close\r\n\r\nhalf", "HTTP 500: half"),
        no_status("", "connection closed before message completed"),
        no_status("junk\r\n\r\n", "the answer is no HTTP: invalid HTTP version parsed"),
        no_status(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
            "the answer has Content-Encoding \"gzip\", though none was asked for",
        ),
        no_status(
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n4half",
            "error reading a body from connection: end of file before message length reached",
        ),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", u64::MAX / 2),
            None,
            "answer larger than 1463640 bytes".to_owned(),
        ),
    ] {
        let (mut server, mut transport) = session(|_| {}, None).await;
        during(&mut transport, server.request()).await.raw(answer.clone());
        let failed = failure(&mut transport).await;
        assert_eq!((failed.message(), failed.phase()), ("xhr poll error", Some(Phase::Http)), "{answer:?}");
        let is_too_large = detail.contains("larger than");
        assert_eq!((failed.code(), failed.description()), (status, Some(detail)), "{answer:?}");
        assert_eq!(
            failed.hint().is_some_and(|hint| hint.contains("max_payload")),
            is_too_large,
            "{answer:?}"
        );
        server.assert_quiet();
    }
}

#[tokio::test]
async fn a_failed_post_tells_why_after_what_was_received() {
    let (mut server, mut transport) = session(|_| {}, None).await;
    transport.send(text("a"));
    let (get, post) = get_and_post(&mut server, &mut transport).await;
    get.ok("4b\u{1e}4c");
    assert_eq!(packet(&mut transport).await, text("b"));
    post.raw("HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n");
    let refusal = flushed(&mut transport).await.expect_err("the POST was refused");
    assert_eq!(refusal.to_string(), "xhr post error: HTTP 413");
    assert_eq!(packet(&mut transport).await, text("c"));
    assert_eq!(failure(&mut transport).await, refusal);
    assert_eq!((refusal.message(), refusal.code()), ("xhr post error", Some(413)));
    server.assert_quiet();
}

#[tokio::test]
async fn packets_before_a_bad_one_are_delivered() {
    for (body, error) in [
        ("4a\u{1e}9", "server error: unknown packet type '9'"),
        ("4a\u{1e}", "server error: empty packet"),
        ("4a\u{1e}b%", "server error: binary packet is not base64"),
    ] {
        let (mut server, mut transport) = session(|_| {}, None).await;
        during(&mut transport, server.request()).await.ok(body);
        assert_eq!(packet(&mut transport).await, text("a"));
        let failed = failure(&mut transport).await;
        assert_eq!(
            (failed.to_string().as_str(), failed.message(), failed.code()),
            (error, "server error", None)
        );
    }
    let (mut server, mut transport) = session(|_| {}, None).await;
    during(&mut transport, server.request()).await.ok("<html>");
    assert_eq!(failure(&mut transport).await.to_string(), "server error: unknown packet type '<'");
}

#[tokio::test]
async fn an_endless_answer_is_given_up() {
    for start in ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let settings = Settings { max_payload: 1000, ..at(address) };
        let mut transport = open(settings, TransportKind::Polling, None).await.expect("nothing to fail yet");
        let endless = async {
            use tokio::io::AsyncWriteExt as _;
            let (mut stream, _) = listener.accept().await.expect("a connection");
            super::server::read_request(&mut stream).await.expect("a request");
            stream.write_all(start.as_bytes()).await.expect("the client listens");
            let piece = if start.contains("chunked") {
                format!("400\r\n{}\r\n", "4".repeat(0x400))
            } else {
                format!("x-filler: {}\r\n", "y".repeat(0x400))
            };
            let mut written = 0_usize;
            while stream.write_all(piece.as_bytes()).await.is_ok() {
                written += piece.len();
            }
            written
        };
        let (written, error) = tokio::join!(endless, failure(&mut transport));
        assert!(written < 64 << 20, "{written} bytes were taken");
        assert_eq!(error.message(), "xhr poll error");
        let detail = error.to_string();
        assert!(detail.contains("larger than") || detail.contains("too large"), "{detail}");
    }
}

#[tokio::test]
async fn nobody_listens() {
    // The port is taken, so that nobody else listens there.
    let nobody = TcpSocket::new_v4().expect("a socket");
    nobody.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = nobody.local_addr().expect("an address");
    let mut transport = open(at(address), TransportKind::Polling, None).await.expect("nothing to fail yet");
    let error = failure(&mut transport).await;
    assert_eq!(error.to_string(), "xhr poll error: connection refused (os error 111)");
    assert_eq!((error.phase(), error.code()), (Some(Phase::Tcp), None));

    // A label of more than 63 bytes fails in the resolver without a question to any server.
    let settings = Settings { host: format!("{}.test", "x".repeat(64)), ..at(address) };
    let mut transport = open(settings, TransportKind::Polling, None).await.expect("nothing to fail yet");
    let error = failure(&mut transport).await;
    assert_eq!(error.phase(), Some(Phase::Dns), "{error}");
    assert!(error.to_string().starts_with("xhr poll error: cannot resolve xxx"), "{error}");
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let (mut server, mut transport) = session(|_| {}, None).await;
    transport.send(text("a"));
    let (_get, post) = get_and_post(&mut server, &mut transport).await;
    post.raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    during(&mut transport, tokio::task::yield_now()).await;
    flushed(&mut transport).await.expect("the POST was answered");
    transport.send(text("b"));
    let post = during(&mut transport, server.request()).await;
    assert_eq!((post.body.as_str(), server.connections()), ("4b", 3));

    // Less than a second of the time that the server grants is left: the next POST cannot be sure to be in time.
    post.raw("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok");
    flushed(&mut transport).await.expect("the POST was answered");
    transport.send(text("c"));
    let post = during(&mut transport, server.request()).await;
    assert_eq!((post.body.as_str(), server.connections()), ("4c", 4));

    // Closed without a word, while nothing was under way: the next POST is not lost on it.
    post.ok_then_hang_up("ok");
    flushed(&mut transport).await.expect("the POST was answered");
    server.hung_up().await;
    transport.send(text("d"));
    let post = during(&mut transport, server.request()).await;
    assert_eq!((post.body.as_str(), server.connections()), ("4d", 5));
}

#[tokio::test]
async fn cookies_go_back_and_survive_the_transport() {
    let mut server = Server::start().await;
    let settings = Settings { with_credentials: true, ..at(server.address) };
    let connector = Connector::new(settings).expect("settings that can be used");
    let mut transport = connector.open(TransportKind::Polling, None).await.expect("nothing to fail yet");
    let get = during(&mut transport, server.request()).await;
    assert_eq!(get.header("cookie"), None);
    get.raw("HTTP/1.1 200 OK\r\nSet-Cookie: route=a; Path=/; HttpOnly\r\nContent-Length: 3\r\n\r\n0{}");
    assert_eq!(packet(&mut transport).await, Packet::Open("{}".into()));
    transport.set_session("S", None);
    transport.send(text("a"));
    let (get, post) = get_and_post(&mut server, &mut transport).await;
    assert_eq!((get.header("cookie"), post.header("cookie")), (Some("route=a"), Some("route=a")));
    post.raw("HTTP/1.1 200 OK\r\nSet-Cookie: route=b; Path=/\r\nContent-Length: 2\r\n\r\nok");
    flushed(&mut transport).await.expect("the POST was answered");
    drop(transport);

    let mut transport = connector.open(TransportKind::Polling, None).await.expect("nothing to fail yet");
    let get = during(&mut transport, server.request()).await;
    assert_eq!(get.header("cookie"), Some("route=b"));
}

#[tokio::test]
async fn closing_flushes_and_says_goodbye_before_it_hangs_up() {
    let (mut server, mut transport) = session(|_| {}, None).await;
    let _get = during(&mut transport, server.request()).await;
    transport.send(text("last"));
    transport.pause();
    let server = async {
        let post = server.request().await;
        assert_eq!(post.body, "4last");
        post.ok("ok");
        let post = server.request().await;
        assert_eq!(post.body, "1");
        server.assert_quiet();
        post.ok("ok");
    };
    tokio::join!(movable(transport.close()), server);

    // Nothing to take leave of: no session.
    let mut server = Server::start().await;
    let transport =
        open(at(server.address), TransportKind::Polling, None).await.expect("nothing to fail yet");
    transport.close().await;
    server.assert_quiet();
}
