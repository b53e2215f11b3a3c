//! Both transports against servers on loopback that speak literal bytes.

mod input;
mod polling;
mod server;
mod tls;
mod websocket;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use super::{Connector, Error, Received, Scheme, Settings, TlsSettings, Transport, Via};
use crate::engineio::{Message, Packet, Revision, TransportKind};

/// Settings of a server that does not exist, to be changed by each test.
pub(super) fn settings() -> Settings {
    Settings {
        revision: Revision::V4,
        scheme: Scheme::Http,
        host: "server.test".to_owned(),
        port: 80,
        path: "/socket.io/".to_owned(),
        query: Vec::new(),
        headers: http::HeaderMap::new(),
        with_credentials: false,
        protocols: Vec::new(),
        max_payload: 1 << 20,
        tls: TlsSettings::default(),
        via: Via::Direct,
    }
}

fn at(address: SocketAddr) -> Settings {
    Settings { host: address.ip().to_string(), port: address.port(), ..settings() }
}

async fn open(settings: Settings, kind: TransportKind, sid: Option<&str>) -> Result<Transport, Error> {
    let connector = Connector::new(settings).expect("settings that can be used");
    movable(connector.open(kind, sid)).await
}

/// Compiles only for what can move between the runtime's threads.
fn movable<T: Send>(value: T) -> T {
    value
}

fn text(text: &str) -> Packet {
    Packet::Message(Message::Text(text.into()))
}

fn binary(bytes: impl Into<bytes::Bytes>) -> Packet {
    Packet::decode_binary(bytes.into())
}

/// The next packet; anything else fails the test.
async fn packet(transport: &mut Transport) -> Packet {
    match transport.recv().await {
        Ok(Received::Packet(packet)) => packet,
        other => panic!("a packet was expected, not {other:?}"),
    }
}

/// The error that ends the transport, which it must go on repeating.
async fn failure(transport: &mut Transport) -> Error {
    let error = transport.recv().await.expect_err("the transport should have ended");
    assert_eq!(transport.recv().await.expect_err("an error is final"), error);
    error
}

/// Waits for `server` while the transport works; the transport must have nothing to say meanwhile.
async fn during<T>(transport: &mut Transport, server: impl Future<Output = T>) -> T {
    let mut server = pin!(server);
    poll_fn(|cx| {
        if let Poll::Ready(output) = server.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        match transport.poll_recv(cx) {
            Poll::Ready(received) => panic!("nothing was expected, not {received:?}"),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
