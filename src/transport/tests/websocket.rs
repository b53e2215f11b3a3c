use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use futures_util::{SinkExt, StreamExt, poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message as WsMessage, handshake::derive_accept_key};

use super::server::read_request;
use super::*;
use crate::engineio::Phase;
use crate::transport::frames::Frames;
use crate::transport::{Arrival, WebSocket};

const MAX_PAYLOAD: usize = 8 << 20;

/// A listener, and settings that point to it.
async fn listen() -> (TcpListener, Settings) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, Settings { max_payload: MAX_PAYLOAD, ..at(address) })
}

/// Accepts one WebSocket with literal bytes: `head` after the accept key's line, then `rest`.
async fn accept(listener: &TcpListener, head: &str, rest: &[u8]) -> (String, Vec<String>, TcpStream) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let (line, headers, _) = read_request(&mut stream).await.expect("a request");
    let key = headers.iter().find_map(|line| line.strip_prefix("sec-websocket-key: ")).expect("a key");
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{head}\r\n",
        derive_accept_key(key.as_bytes())
    )
    .into_bytes();
    answer.extend_from_slice(rest);
    stream.write_all(&answer).await.expect("the client listens");
    (line, headers, stream)
}

/// A connected transport, and the server's end.
async fn connected() -> (Transport, WebSocketStream<TcpStream>) {
    let (listener, settings) = listen().await;
    let (transport, (_, _, stream)) =
        tokio::join!(open(settings, TransportKind::WebSocket, None), accept(&listener, "", b""));
    (transport.expect("a WebSocket"), server_end(stream).await)
}

async fn server_end<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocketStream<S> {
    WebSocketStream::from_raw_socket(stream, Role::Server, None).await
}

/// A transport over memory with `buffer` bytes in each direction.
async fn in_memory(buffer: usize) -> (WebSocket<Counted>, WebSocketStream<DuplexStream>, Arc<Counts>) {
    let (client, server) = duplex(buffer);
    let counts = Arc::new(Counts::default());
    let client = Counted { stream: client, counts: counts.clone() };
    (WebSocket::new(Frames::new(client, b"", MAX_PAYLOAD), Revision::V4), server_end(server).await, counts)
}

/// A stream that counts the calls made to write.
struct Counted {
    stream: DuplexStream,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    writes: AtomicUsize,
    flushes: AtomicUsize,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.counts.flushes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn closed(code: u16, reason: &str) -> Error {
    Error::Closed { code, reason: reason.into() }
}

#[tokio::test]
async fn texts_are_taken_as_they_lie_up_to_what_nobody_wants() {
    let (mut transport, mut server) = connected().await;
    let messages = ["4a", "4b", "2", "4\u{e9}", "4unwanted", "4", "4c"].map(WsMessage::text);
    for message in messages.into_iter().chain([WsMessage::binary(b"x".to_vec()), WsMessage::text("4d")]) {
        server.feed(message).await.expect("it is taken");
    }
    server.flush().await.expect("it is sent");
    let mut seen = Vec::new();
    while seen.len() < 9 {
        match poll_fn(|cx| transport.poll_arrival(cx)).await.expect("something comes") {
            Arrival::Received(received) => seen.push(format!("{received:?}")),
            Arrival::Texts => {
                let before = seen.len();
                transport.take_messages(&mut |text| {
                    let wanted = text != "unwanted";
                    seen.extend(wanted.then(|| format!("as it lies: {text}")));
                    wanted
                });
                if seen.len() == before {
                    seen.push(format!("{:?}", packet(&mut transport).await));
                }
            }
        }
    }
    let received = |packet| format!("{:?}", Received::Packet(packet));
    assert_eq!(
        seen,
        [
            "as it lies: a",
            "as it lies: b",
            &format!("{:?}", Packet::Ping("".into())),
            "as it lies: \u{e9}",
            &format!("{:?}", text("unwanted")),
            "as it lies: ",
            "as it lies: c",
            &received(binary(&b"x"[..])),
            "as it lies: d",
        ]
    );
}

#[tokio::test]
async fn text_that_is_none_is_not_taken_and_ends_the_transport() {
    let (mut transport, server) = connected().await;
    let mut stream = server.into_inner();
    stream.write_all(b"\x81\x024a\x81\x024\xff\x81\x024b").await.expect("the client listens");
    assert!(matches!(poll_fn(|cx| transport.poll_arrival(cx)).await, Ok(Arrival::Texts)));
    let mut taken = Vec::new();
    while taken.is_empty() {
        transport.take_messages(&mut |text| {
            taken.push(text.to_owned());
            true
        });
    }
    assert_eq!(taken, ["a"]);
    assert!(failure(&mut transport).await.to_string().contains("websocket error"));
    transport.take_messages(&mut |text| panic!("nothing comes after an error, not {text}"));
}

#[tokio::test]
async fn exchanges_packets() {
    let (mut transport, mut server) = connected().await;
    assert_eq!(transport.kind(), TransportKind::WebSocket);
    for packet in [Packet::Ping("probe".into()), text("a\u{1e}b"), binary(&b"\x04\x1e"[..]), Packet::Upgrade]
    {
        transport.send(packet);
    }
    assert!(transport.queued() > 0);
    poll_fn(|cx| transport.poll_flush(cx)).await.expect("the server listens");
    assert_eq!(transport.queued(), 0);
    for expected in [
        WsMessage::text("2probe"),
        WsMessage::text("4a\u{1e}b"),
        WsMessage::binary(&b"\x04\x1e"[..]),
        WsMessage::text("5"),
    ] {
        assert_eq!(server.next().await.expect("a message").expect("a valid one"), expected);
    }
    for message in [
        WsMessage::text("3probe"),
        WsMessage::text("4x\u{1e}4y"),
        WsMessage::binary(&b"4"[..]),
        WsMessage::text("4"),
    ] {
        server.send(message).await.expect("the client listens");
    }
    for expected in [Packet::Pong("probe".into()), text("x\u{1e}4y"), binary(&b"4"[..]), text("")] {
        assert_eq!(packet(&mut transport).await, expected);
    }
}

#[tokio::test]
async fn the_handshake_is_as_the_server_expects_it() {
    let (listener, mut settings) = listen().await;
    settings.query = vec![("room".to_owned(), "1&2".to_owned())];
    settings.protocols = vec!["one".to_owned()];
    settings.headers.insert("x-key", http::HeaderValue::from_static("1"));
    settings.headers.insert("sec-websocket-version", http::HeaderValue::from_static("8"));
    settings.with_credentials = true;
    let connector = Connector::new(settings).expect("settings that can be used");
    let head = "Sec-WebSocket-Protocol: one\r\nSet-Cookie: route=a\r\n";
    // The server's first message comes in one piece with the answer.
    let (opened, (line, headers, _stream)) = tokio::join!(
        connector.open(TransportKind::WebSocket, Some("S/1")),
        accept(&listener, head, b"\x81\x024a")
    );
    assert_eq!(packet(&mut opened.expect("a WebSocket")).await, text("a"));
    assert_eq!(line, "GET /socket.io/?room=1%262&EIO=4&transport=websocket&sid=S%2F1");
    for expected in [
        "x-key: 1",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: one",
        "connection: Upgrade",
        "upgrade: websocket",
    ] {
        assert!(headers.iter().any(|line| line == expected), "{expected} is not among {headers:?}");
    }
    for absent in ["cookie:", "sec-websocket-extensions:", "accept-encoding:", "content-length:"] {
        assert!(!headers.iter().any(|line| line.starts_with(absent)), "{absent} is among {headers:?}");
    }
    let (_, (_, headers, _stream)) =
        tokio::join!(connector.open(TransportKind::WebSocket, None), accept(&listener, head, b""));
    assert!(headers.iter().any(|line| line == "cookie: route=a"), "{headers:?}");
}

#[tokio::test]
async fn a_refused_handshake_tells_why() {
    let refused = |status, detail: &str| (Some(status), detail.to_owned());
    let wrong = |detail: &str| (None, detail.to_owned());
    let endless = (0..4000).fold("HTTP/1.1 101 X\r\n".to_owned(), |mut head, n| {
        write!(head, "x-{n}: {}\r\n", "y".repeat(50)).expect("memory");
        head
    });
    let switch = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    for (answer, (status, detail)) in [
        (
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 18\r\n\r\nSession ID unknown"
                .to_owned(),
            refused(400, "websocket error: HTTP 400: Session ID unknown"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
            refused(200, "websocket error: HTTP 200: ok"),
        ),
        (String::new(), wrong("websocket error: connection closed before message completed")),
        (
            "SSH-2.0-x\r\n\r\n".to_owned(),
            wrong("websocket error: the answer is no HTTP: invalid HTTP version parsed"),
        ),
        (endless, wrong("websocket error: message head is too large")),
        (
            format!("{switch}Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
            wrong("websocket error: the server's Sec-WebSocket-Accept does not belong to our key"),
        ),
        (
            format!("{switch}\r\n"),
            wrong("websocket error: the server's Sec-WebSocket-Accept does not belong to our key"),
        ),
    ] {
        let (listener, settings) = listen().await;
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            read_request(&mut stream).await.expect("a request");
            // A client that has seen enough may have gone.
            let _ = stream.write_all(answer.as_bytes()).await;
        };
        let (opened, ()) = tokio::join!(open(settings, TransportKind::WebSocket, None), server);
        let error = opened.expect_err("no WebSocket");
        assert_eq!((error.to_string(), error.code()), (detail, status));
        assert_eq!((error.message(), error.is_closed()), ("websocket error", false));
        assert_eq!(error.phase(), Some(Phase::Http));
    }
}

#[tokio::test]
async fn a_claimed_extension_is_refused() {
    let (listener, settings) = listen().await;
    let (opened, _) = tokio::join!(
        open(settings, TransportKind::WebSocket, None),
        accept(&listener, "Sec-WebSocket-Extensions: permessage-deflate\r\n", b"")
    );
    assert_eq!(
        opened.expect_err("an extension nobody offered").to_string(),
        "websocket error: the server claims a WebSocket extension that was not offered"
    );
}

#[tokio::test]
async fn nobody_listens() {
    let (listener, settings) = listen().await;
    drop(listener);
    let error = open(settings, TransportKind::WebSocket, None).await.expect_err("no server");
    assert_eq!(error.to_string(), "websocket error: connection refused (os error 111)");
    assert_eq!(error.phase(), Some(Phase::Tcp));
}

#[tokio::test]
async fn a_thousand_packets_go_out_in_order_with_one_flush() {
    let (mut websocket, mut server, counts) = in_memory(1 << 20).await;
    for n in 0..1000 {
        websocket.send(text(&n.to_string()));
    }
    assert!(poll_fn(|cx| Poll::Ready(websocket.poll_recv(cx))).await.is_pending());
    assert_eq!(websocket.queued(), 0);
    assert_eq!(counts.flushes.load(Ordering::Relaxed), 1);
    assert_eq!(counts.writes.load(Ordering::Relaxed), 1, "10 kB fit into one write");
    for n in 0..1000 {
        let message = server.next().await.expect("a message").expect("a valid one");
        assert_eq!(message, WsMessage::text(format!("4{n}")));
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_shows() {
    let (mut websocket, mut server, _) = in_memory(64).await;
    websocket.send(binary(vec![7; 100_000]));
    websocket.send(text("after"));
    assert!(websocket.is_writable(), "nothing has been tried yet");
    assert!(poll_fn(|cx| Poll::Ready(websocket.poll_recv(cx))).await.is_pending());
    assert!(!websocket.is_writable());
    assert!(websocket.queued() > 100_000);
    let reading = async {
        assert_eq!(server.next().await.expect("a message").expect("a valid one").len(), 100_000);
        server.next().await.expect("a message").expect("a valid one")
    };
    let (flushed, message) = tokio::join!(poll_fn(|cx| websocket.poll_flush(cx)), reading);
    flushed.expect("the server reads");
    assert_eq!(message, WsMessage::text("4after"));
    assert!(websocket.is_writable());
    assert_eq!(websocket.queued(), 0);
}

#[tokio::test]
async fn pongs_do_not_pile_up_for_a_peer_that_does_not_read() {
    let (mut transport, _server, _) = in_memory(64).await;
    transport.send(text(&"x".repeat(100_000)));
    let mut queued = poll_fn(|cx| {
        assert!(transport.poll_flush(cx).is_pending());
        Poll::Ready(transport.queued())
    })
    .await;
    transport.send(Packet::Pong("".into()));
    queued += 7;
    for _ in 0..1000 {
        transport.send(Packet::Pong("".into()));
        assert_eq!(transport.queued(), queued);
    }
    transport.send(text("a"));
    transport.send(Packet::Pong("".into()));
    let expected = [Packet::Pong("".into()), text("a"), Packet::Pong("".into())];
    assert_eq!(transport.take_queued(), expected);
}

#[tokio::test]
async fn large_messages_in_both_directions_do_not_deadlock() {
    let (mut websocket, mut server, _) = in_memory(1024).await;
    let large = vec![7_u8; 5 << 20];
    websocket.send(binary(large.clone()));
    // The server reads nothing before all of its own message has been taken.
    let server = async {
        server.send(WsMessage::binary(large.clone())).await.expect("the client reads");
        server.next().await.expect("a message").expect("a valid one")
    };
    let client = async {
        let received = poll_fn(|cx| websocket.poll_recv(cx)).await;
        poll_fn(|cx| websocket.poll_flush(cx)).await.expect("the server reads");
        received
    };
    let (received, message) = tokio::join!(client, server);
    assert!(received == Ok(Received::Packet(binary(large.clone()))));
    assert!(message == WsMessage::binary(large));
}

#[tokio::test]
async fn what_was_never_sent_can_be_taken_back() {
    let (mut websocket, _server, _) = in_memory(64).await;
    websocket.send(text("a"));
    websocket.send(text("b"));
    assert_eq!(websocket.take_queued(), [text("a"), text("b")]);
    assert_eq!(websocket.queued(), 0);
}

#[tokio::test]
async fn pings_are_answered_by_the_way() {
    let (mut transport, mut server) = connected().await;
    server.send(WsMessage::Ping("hello".into())).await.expect("the client listens");
    let pong = during(&mut transport, server.next()).await.expect("a message").expect("a valid one");
    assert_eq!(pong, WsMessage::Pong("hello".into()));
}

#[tokio::test]
async fn messages_are_the_same_however_their_bytes_come() {
    let long = "x".repeat(300);
    let large = vec![7; 70_000];
    let bytes = [
        &b"\x81\x024a"[..],
        // In three fragments, the first cut within a character, with a ping and a pong between them.
        b"\x01\x024\xc3\x89\x02hi\x00\x01\xa9\x8a\x00\x80\x01!",
        b"\x82\x01\x04\x81\x014\x89\x00\x02\x01a\x80\x00",
        b"\x81\x7e\x01\x2d4",
        long.as_bytes(),
        b"\x82\x7f\0\0\0\0\0\x01\x11\x70",
        &large,
        b"\x81\x024b\x88\x05\x03\xe9end",
    ]
    .concat();
    for (read, at_a_time) in [(0, 1), (0, 2), (1, 3), (3, 100), (9, 5000), (600, 1 << 20), (bytes.len(), 1)] {
        // Nobody reads the answer to the ping, which must keep nothing from being read.
        let (client, mut server) = duplex(at_a_time);
        let (read, rest) = bytes.split_at(read);
        let mut websocket = WebSocket::new(Frames::new(client, read, MAX_PAYLOAD), Revision::V4);
        let receiving = async {
            let mut received = Vec::new();
            loop {
                match poll_fn(|cx| websocket.poll_recv(cx)).await {
                    Ok(packet) => received.push(packet),
                    Err(error) => break (received, error),
                }
            }
        };
        let (written, (received, error)) = tokio::join!(server.write_all(rest), receiving);
        written.expect("the client reads all");
        let expected = [
            text("a"),
            text("\u{e9}!"),
            binary(&b"\x04"[..]),
            text(""),
            binary(&b"a"[..]),
            text(&long),
            binary(large.clone()),
            text("b"),
        ];
        assert!(received == expected.map(Received::Packet), "{} bytes, then {at_a_time}", read.len());
        assert_eq!(error, closed(1001, "end"));
    }
}

#[tokio::test]
async fn a_ping_is_answered_as_soon_as_the_peer_reads() {
    let (mut websocket, mut server, _) = in_memory(16).await;
    let words = "y".repeat(100);
    let sending = async {
        server.send(WsMessage::Ping(words.clone().into())).await.expect("the client reads");
        server.send(WsMessage::text("4a")).await.expect("the client reads");
    };
    let (received, ()) = tokio::join!(poll_fn(|cx| websocket.poll_recv(cx)), sending);
    assert_eq!(received, Ok(Received::Packet(text("a"))));
    let receiving = poll_fn(|cx| websocket.poll_recv(cx));
    tokio::select! {
        received = receiving => panic!("nothing was expected, not {received:?}"),
        pong = server.next() => assert_eq!(pong.expect("a message").expect("a valid one"), WsMessage::Pong(words.into())),
    }
}

#[tokio::test]
async fn of_pings_without_end_the_last_is_answered_and_few_others() {
    let (mut websocket, mut server, _) = in_memory(64).await;
    let words = |n: usize| format!("{n:0>100}");
    let flood = async {
        for n in 0..2000 {
            server.feed(WsMessage::Ping(words(n).into())).await.expect("the client reads");
        }
        server.send(WsMessage::text("4a")).await.expect("the client reads");
    };
    let (received, ()) = tokio::join!(poll_fn(|cx| websocket.poll_recv(cx)), flood);
    assert_eq!(received, Ok(Received::Packet(text("a"))));
    // A message has to find room behind the pongs, however long it is.
    websocket.send(binary(vec![7; 100_000]));
    let reading = async {
        let mut answered = Vec::new();
        loop {
            match server.next().await.expect("a message").expect("a valid one") {
                WsMessage::Pong(data) => answered.push(data),
                message => break (answered, message),
            }
        }
    };
    let receiving = poll_fn(|cx| websocket.poll_recv(cx));
    let (mut answered, message) = tokio::select! {
        received = receiving => panic!("nothing was expected, not {received:?}"),
        read = reading => read,
    };
    assert_eq!(message.len(), 100_000);
    assert!(answered.len() < 400, "{} pongs", answered.len());
    if answered.last().is_none_or(|last| *last != words(1999)) {
        let receiving = poll_fn(|cx| websocket.poll_recv(cx));
        tokio::select! {
            received = receiving => panic!("nothing was expected, not {received:?}"),
            pong = server.next() => answered.push(pong.expect("a message").expect("a valid one").into_data()),
        }
    }
    assert_eq!(answered.last().expect("an answer"), words(1999).as_bytes());
}

#[tokio::test]
async fn the_peers_end_is_told_with_its_code() {
    let frame =
        |code: u16, reason: &'static str| Some(CloseFrame { code: code.into(), reason: reason.into() });
    for (sent, expected) in [
        (frame(1000, ""), closed(1000, "")),
        (frame(1001, "restart"), closed(1001, "restart")),
        (frame(4000, "go"), closed(4000, "go")),
        (None, closed(1005, "")),
    ] {
        let (mut transport, mut server) = connected().await;
        server.send(WsMessage::text("4last")).await.expect("the client listens");
        server.send(WsMessage::Close(sent.clone())).await.expect("the client listens");
        assert_eq!(packet(&mut transport).await, text("last"));
        let error = failure(&mut transport).await;
        assert_eq!(error, expected);
        assert!(error.is_closed());
        let answer = server.next().await.expect("an answer").expect("a valid one");
        assert_eq!(answer, WsMessage::Close(sent), "the close frame is answered");
    }
}

#[tokio::test]
async fn an_end_without_close_frame_is_1006() {
    let (mut transport, server) = connected().await;
    drop(server);
    assert_eq!(failure(&mut transport).await, closed(1006, ""));

    let (mut transport, server) = connected().await;
    server.get_ref().set_zero_linger().expect("a TCP socket");
    drop(server);
    assert_eq!(failure(&mut transport).await, closed(1006, "connection reset by peer (os error 104)"));
}

#[tokio::test]
async fn the_last_words_are_read_even_if_writing_fails() {
    let (mut websocket, mut server, _) = in_memory(1 << 16).await;
    server.send(WsMessage::text("4bye")).await.expect("room for it");
    server
        .send(WsMessage::Close(Some(CloseFrame { code: 1001.into(), reason: "".into() })))
        .await
        .expect("room");
    drop(server);
    websocket.send(text("into the void"));
    let lost = poll_fn(|cx| websocket.poll_flush(cx)).await.expect_err("nobody takes it");
    assert_eq!(lost.code(), Some(1006));
    assert_eq!(poll_fn(|cx| websocket.poll_recv(cx)).await, Ok(Received::Packet(text("bye"))));
    assert_eq!(poll_fn(|cx| websocket.poll_recv(cx)).await, Err(closed(1001, "")));
}

#[tokio::test]
async fn what_breaks_the_protocol_is_an_error() {
    let long_ping = [&b"\x89\x7e\x00\x7e"[..], &[0; 126]].concat();
    let too_long = [&b"\x82\x7f"[..], &(MAX_PAYLOAD as u64 + 1).to_be_bytes()].concat();
    for (bytes, expected) in [
        // What an official server writes into the stream when it does not like the EIO version.
        (
            &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-type: text/html\r\n\
               Content-Length: 28\r\n\r\nUnsupported protocol version"[..],
            "websocket error: reserved bits are non-zero",
        ),
        (b"\xc1\x014", "websocket error: reserved bits are non-zero"),
        (b"\x81\x81\0\0\0\x004", "websocket error: received a masked frame from server"),
        (b"\x80\x014", "websocket error: continue frame but nothing to continue"),
        (b"\x81\x024\xff", "websocket error: UTF-8 encoding error: "),
        (b"\x81\x029\xff", "websocket error: UTF-8 encoding error: "),
        (b"\x01\x024\xff\x80\x00", "websocket error: UTF-8 encoding error: "),
        (b"\x01\x014\x81\x014", "websocket error: "),
        (b"\x09\x00", "websocket error: fragmented control frame"),
        (&long_ping, "websocket error: control frame too big"),
        (b"\x83\x00", "websocket error: "),
        (&too_long, "websocket error: message of 8388609 bytes, but max_payload is 8388608"),
        (b"\x81\x00", "server error: empty packet"),
        (b"\x81\x01x", "server error: unknown packet type 'x'"),
    ] {
        let (listener, settings) = listen().await;
        let (opened, (_, _, _stream)) =
            tokio::join!(open(settings, TransportKind::WebSocket, None), accept(&listener, "", bytes));
        let error = failure(&mut opened.expect("a WebSocket")).await;
        assert!(error.to_string().starts_with(expected), "{}: {error}", bytes.escape_ascii());
        assert!(!error.is_closed(), "{error}");
        assert_eq!(error.phase(), Some(Phase::Engine));
    }
}

#[tokio::test]
async fn closing_flushes_and_says_goodbye() {
    let (mut transport, mut server) = connected().await;
    transport.send(text("last"));
    let server = async {
        // The client must not wait with its farewell for a peer that goes on talking.
        server.send(WsMessage::text("4unheard")).await.expect("the client listens");
        assert_eq!(server.next().await.expect("a message").expect("a valid one"), WsMessage::text("4last"));
        assert_eq!(server.next().await.expect("a message").expect("a valid one"), WsMessage::Close(None));
        assert!(server.next().await.is_none(), "the connection ends");
    };
    tokio::join!(movable(transport.close()), server);
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_ever() {
    let (websocket, _server, _) = in_memory(1 << 16).await;
    let start = tokio::time::Instant::now();
    websocket.close().await;
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test]
async fn frames_that_complete_no_message_let_others_have_a_turn() {
    for (frame, end) in
        [(&b"\x8a\x00"[..], &b"\x81\x014"[..]), (b"\x89\x00", b"\x81\x014"), (b"\x00\x00", b"\x80\x00")]
    {
        let (mut websocket, mut server, _) = in_memory(1 << 16).await;
        let begin = if frame == b"\x00\x00" { &b"\x01\x014"[..] } else { b"" };
        let bytes = [begin, &frame.repeat(1000), end].concat();
        server.get_mut().write_all(&bytes).await.expect("room for it");
        let mut turns = 0;
        while poll!(poll_fn(|cx| websocket.poll_recv(cx))).is_pending() {
            turns += 1;
        }
        assert_eq!(turns, 3, "of 256 frames each: {frame:?}");
    }
}
