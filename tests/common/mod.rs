//! What the tests that start the real daemon share.
//!
//! - [`daemon`]: starts the binary in a folder of its own and waits until it says that it is ready.
//! - [`consumer`]: a local program that speaks literal lines.
//! - [`schema`]: holds what the two say against `docs/schema`, wherever a test reads it.
//! - [`tap`]: the same for programs that are not ours.
//! - [`transcript`]: compares such a line with literal JSON text that may have holes.
//! - [`upstream`]: a scripted Socket.IO server that speaks literal packets and knows none of our code.
//! - [`relay`]: proxies, and what else can stand between the daemon and a server.
//! - [`node`]: the official server, run by Node.
//!
//! Nothing waits by sleeping. Whatever is waited for has one generous [`DEADLINE`], so that a test that hangs says
//! what it was waiting for, and a busy machine fails nothing.

#![allow(dead_code, unreachable_pub, reason = "each file of tests uses a part of this")]
#![allow(clippy::disallowed_methods, reason = "a task of a test ends with the test's runtime")]

pub mod consumer;
pub mod daemon;
pub mod node;
pub mod relay;
pub mod schema;
pub mod tap;
pub mod transcript;
pub mod upstream;

use std::path::Path;
use std::time::Duration;

pub use consumer::Consumer;
pub use daemon::Daemon;
pub use upstream::{Upstream, Ws};

/// How long anything may take that is expected to happen; reached only when it does not.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Connections that a test starts by itself, with one transport and next to no delay between attempts.
pub const QUICK: &str = r#"
[defaults]
transports = ["websocket"]
auto_connect = false
reconnection_delay = "10ms"
reconnection_delay_max = "20ms"
randomization_factor = 0.0
"#;

/// Waits for `future` until [`DEADLINE`]; the panic names `what` was waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let finished = tokio::time::timeout(DEADLINE, future).await;
    finished.unwrap_or_else(|_elapsed| panic!("waited {} s in vain for {what}", DEADLINE.as_secs()))
}

/// Leaves the file of a socket on which nobody listens, nor ever has: a child that another test starts at this moment has
/// a copy of all that is open until it runs its program, and would go on to listen.
pub fn stale_socket(path: &Path) {
    let socket = tokio::net::UnixSocket::new_stream().expect("a socket");
    socket.bind(path).expect("a socket in the test's own folder");
}

/// A daemon with one connection, `chat`, that has not been started, and a consumer that hears all of it.
pub struct Chat {
    pub consumer: Consumer,
    pub daemon: Daemon,
    pub upstream: Upstream,
}

impl Chat {
    /// `options` are lines of `[connections.chat]`, and may go on with further tables.
    pub async fn idle(options: &str) -> Self {
        let upstream = Upstream::start().await;
        let config = format!("{QUICK}\n[connections.chat]\nurl = \"{}\"\n{options}", upstream.url());
        Self::with(upstream, Daemon::start(&config).await).await
    }

    /// The same for a daemon that has such a connection already.
    pub async fn with(upstream: Upstream, daemon: Daemon) -> Self {
        let mut consumer = daemon.attach().await;
        consumer
            .call(
                r#"{"id":0,"method":"subscribe","params":{"connection":"chat"}}"#,
                r#"{"jsonrpc":"2.0","id":0,"result":{"subscription":…,"stream":"…","connections":[…],"replayed":0,"missed":0}}"#,
            )
            .await;
        Self { consumer, daemon, upstream }
    }

    /// As [`idle`](Self::idle), then connected over a WebSocket; the next notification has seq 3.
    pub async fn joined(options: &str) -> (Self, Ws) {
        let mut chat = Self::idle(options).await;
        chat.start().await;
        let ws = chat.join().await;
        (chat, ws)
    }

    /// Calls the method `connect`.
    pub async fn start(&mut self) {
        self.consumer
            .call(
                r#"{"id":0,"method":"connect","params":{"connection":"chat"}}"#,
                r#"{"jsonrpc":"2.0","id":0,"result":{"name":"chat","…":…}}"#,
            )
            .await;
    }

    /// Takes the daemon's WebSocket, lets it join `/`, and reads the `connect`.
    pub async fn join(&mut self) -> Ws {
        let ws = self.upstream.joined().await;
        self.consumer.hear(CONNECT).await;
        ws
    }
}

/// The notification of a WebSocket connection that has joined its namespace.
pub const CONNECT: &str = r#"{"jsonrpc":"2.0","method":"lifecycle","params":{"connection":"…","seq":…,"event":"connect",
    "id":"…","recovered":false,"transport":"websocket","active":true,"time":"…"}}"#;

/// The lifecycle notification of `chat` whose members after `seq` are `members`; `active` and `time` are added.
pub fn lifecycle(members: &str, active: bool) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"chat","seq":…,{members},"active":{active},"time":"…"}}}}"#
    )
}

/// The notification of an event of `chat`, its params after `seq` being `members`.
pub fn event(members: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"event","params":{{"connection":"chat","seq":…,{members}}}}}"#)
}

/// The answer to request `id` that refuses it.
pub fn refusal(id: &str, code: i32, kind: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"…","data":{{"kind":"{kind}","…":…}}}}}}"#
    )
}
