//! Another implementation of the server, in this process, and many consumers of one connection.

mod common;

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use common::{Consumer, Daemon, QUICK, within};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// A server on a runtime of its own, so that it can be killed with all it has under way.
struct Server {
    runtime: Runtime,
    address: SocketAddr,
}

impl Server {
    async fn start(address: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let address = runtime.spawn(listen(address)).await.expect("the server starts");
        Self { runtime, address }
    }

    /// Ends it without a word to its clients.
    fn kill(self) -> SocketAddr {
        self.runtime.shutdown_background();
        self.address
    }
}

async fn listen(address: SocketAddr) -> SocketAddr {
    let (service, io) = SocketIo::builder().max_buffer_size(20_000).build_svc();
    io.ns("/", serve);
    let listener = bind(address).await;
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone()).with_upgrades();
            connections.spawn(connection);
        }
    });
    address
}

/// A killed server's listener is closed when its runtime gets to it, so a restart may have to ask again.
async fn bind(address: SocketAddr) -> TcpListener {
    let bound = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    within("the server's port to be free", bound).await
}

async fn serve(socket: SocketRef) {
    socket.on("echo", async |ack: AckSender, Data(value): Data<String>| {
        ack.send(&value).expect("the client is there");
    });
    socket.on("flood", async |socket: SocketRef, Data((first, end)): Data<(u64, u64)>| {
        for n in first..end {
            socket.emit("n", &n).expect("the buffer holds a whole flood");
        }
    });
}

async fn daemon(address: SocketAddr, transport: &str) -> Daemon {
    let config = format!(
        "{}\n[connections.chat]\nurl = \"http://{address}\"\n",
        QUICK.replace("websocket", transport).replace("10ms", "20ms")
    );
    Daemon::start(&config).await
}

#[tokio::test]
async fn events_and_acks_pass_over_both_transports() {
    let server = Server::start(([127, 0, 0, 1], 0).into()).await;
    for transport in ["websocket", "polling"] {
        let daemon = daemon(server.address, transport).await;
        let mut consumer = daemon.attach().await;
        consumer
            .call(
                r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":20000}}"#,
                &format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"connected":true,"transport":"{transport}","…":…}}}}"#),
            )
            .await;
        consumer
            .call(
                r#"{"id":2,"method":"emit","params":{"connection":"chat","event":"echo","args":["é"],"ack":true}}"#,
                r#"{"jsonrpc":"2.0","id":2,"result":{"args":["é"]}}"#,
            )
            .await;
    }
    server.kill();
}

const CONSUMERS: usize = 50;
const EVENTS: u64 = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_consumers_get_ten_thousand_events_each_over_a_restart_of_the_server() {
    let server = Server::start(([127, 0, 0, 1], 0).into()).await;
    let daemon = daemon(server.address, "websocket").await;
    // Everyone stops at the same points: subscribed, half of it read, connected again, all read.
    let barrier = Arc::new(Barrier::new(CONSUMERS + 1));
    let mut readers = JoinSet::new();
    for _ in 0..CONSUMERS {
        readers.spawn(read_everything(daemon.attach().await, Arc::clone(&barrier)));
    }
    let mut steering = daemon.attach().await;

    reach(&barrier).await;
    steering
        .call(
            r#"{"id":1,"method":"connect","params":{"connection":"chat","wait":20000}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"connected":true,"…":…}}"#,
        )
        .await;
    flood(&mut steering, 0..EVENTS / 2).await;
    reach(&barrier).await;
    let address = server.kill();
    let server = Server::start(address).await;
    reach(&barrier).await;
    flood(&mut steering, EVENTS / 2..EVENTS).await;
    reach(&barrier).await;
    let seqs = readers.join_all().await;
    assert!(seqs.iter().all(|seq| *seq == seqs[0]), "all have heard the same: {seqs:?}");
    server.kill();
}

async fn flood(consumer: &mut Consumer, numbers: Range<u64>) {
    let request = format!(
        r#"{{"id":2,"method":"emit","params":{{"connection":"chat","event":"flood","args":[{},{}]}}}}"#,
        numbers.start, numbers.end
    );
    consumer.call(&request, r#"{"jsonrpc":"2.0","id":2,"result":{"status":"sent","active":true}}"#).await;
}

/// The seq of the last line, all lines before it having been there without a hole.
async fn read_everything(mut consumer: Consumer, barrier: Arc<Barrier>) -> u64 {
    consumer
        .call(
            r#"{"id":1,"method":"subscribe","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#,
        )
        .await;
    reach(&barrier).await;
    let mut seq = 1;
    until_connected(&mut consumer, &mut seq).await;
    read_events(&mut consumer, &mut seq, 0..EVENTS / 2).await;
    reach(&barrier).await;
    until_connected(&mut consumer, &mut seq).await;
    reach(&barrier).await;
    read_events(&mut consumer, &mut seq, EVENTS / 2..EVENTS).await;
    reach(&barrier).await;
    seq
}

async fn read_events(consumer: &mut Consumer, seq: &mut u64, numbers: Range<u64>) {
    for n in numbers {
        *seq += 1;
        let expected = format!(
            r#"{{"jsonrpc":"2.0","method":"event","params":{{"connection":"chat","seq":{seq},"event":"n","args":[{n}]}}}}"#
        );
        assert_eq!(consumer.next_line().await, Some(expected));
    }
}

async fn until_connected(consumer: &mut Consumer, seq: &mut u64) {
    loop {
        *seq += 1;
        let line = consumer.next_notification().await;
        let lifecycle = format!(
            r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"chat","seq":{seq},"event":"#
        );
        assert!(line.starts_with(&lifecycle), "{line} instead of seq {seq}");
        if line[lifecycle.len()..].starts_with(r#""connect""#) {
            return;
        }
    }
}

async fn reach(barrier: &Barrier) {
    // Far more than the rest of a test may take: all the work of the slowest consumer is behind one of these.
    tokio::time::timeout(3 * common::DEADLINE, barrier.wait()).await.expect("every consumer gets here");
}
