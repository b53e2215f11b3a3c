//! siod in a few seconds: a Socket.IO server, the daemon in front of it, and two programs that share its connection.
//!
//! `cargo run --release --example demo` tells the story and ends; with `-- --stay` everything stays up for tries by
//! hand. All of it is real: the server is socketioxide on a port of loopback, the daemon is the one that `siod run`
//! runs, and the programs attach to its socket. Nothing waits for a fixed time; each step waits for what it says.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::ready;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anstream::println;
use anstyle::{AnsiColor, Style};
use anyhow::{Context, anyhow, bail, ensure};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use siod::client::{
    Change, Client, Emit, EmitStatus, Event, Hello, Lifecycle, Notice, Notification, Snapshot, Subscribe,
    Transport,
};
use siod::service::config::{self, Sources};
use siod::service::environment::Environment;
use siod::service::listener::Listener;
use siod::service::{self, signals::Signals};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long anything may take that the story waits for; reached only when it does not come.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let stay = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--stay"] => true,
        _ => {
            eprintln!("usage: demo [--stay]");
            return ExitCode::from(2);
        }
    };
    match run(stay) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(stay: bool) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("siod-demo-").tempdir().context("a temporary folder")?;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(perform(folder.path(), stay))
}

/// Raises everything, plays, and takes everything down in order.
async fn perform(folder: &Path, stay: bool) -> anyhow::Result<()> {
    let (socket, file) = (folder.join("siod.sock"), folder.join("siod.toml"));
    let (server, seen) = Server::start(([127, 0, 0, 1], 0).into()).await?;
    SERVER.says(format_args!("listens on http://{}", server.address));

    let chat = format!(
        "[connections.chat]\nurl = \"http://{}\"\nreconnection_delay = \"250ms\"\nproxy = \"none\"\n",
        server.address
    );
    std::fs::write(&file, chat).context("the daemon's configuration")?;
    let sources = Sources { files: vec![file], socket: Some(socket.clone()) };
    let config = config::load(&sources, &Environment::default())?;
    let listener = Listener::bind(&socket, config.api.mode, None)?;
    let (mut signals, stop) = (Signals::new()?, CancellationToken::new());
    let daemon = service::serve(config, listener, stop.clone());
    tokio::pin!(daemon);
    DAEMON.says("holds one connection to it, named chat, and waits for programs");

    let play = async {
        let (cast, server) = story(&socket, server, seen).await?;
        if stay {
            drop(cast);
            match linger(&socket, server).await? {}
        }
        Ok::<_, anyhow::Error>(Some((cast, server)))
    };
    let played = tokio::select! {
        ended = &mut daemon => return ended.map_err(Into::into).and_then(|()| bail!("the daemon ended too early")),
        _ = signals.shutdown() => None,
        played = play => played?,
    };
    stop.cancel();
    let farewell = async {
        let Some((mut cast, mut server)) = played else { return Ok(()) };
        cast.both_hear("goodbye").await?;
        server.sees("the client left").await
    };
    let (ended, farewell) = tokio::join!(daemon, farewell);
    DAEMON.says("ends, and its socket is gone");
    farewell.and(ended.map_err(Into::into))
}

async fn story(socket: &Path, server: Server, seen: Seen) -> anyhow::Result<(Cast, Running)> {
    act("two programs, one connection");
    let mut server = Running { server, seen };
    server.sees("a client joined").await?;
    let mut cast = Cast { alice: attach(ALICE, socket).await?, bob: attach(BOB, socket).await? };
    cast.both_hear("connect").await?;
    server.emits("news", "hello, everyone").await?;
    cast.both_hear("news").await?;

    act("one asks, and the answer is its own");
    BOB.says("emits add 2, 3 and wants an answer");
    let question = Emit::new("chat", "add").args([2, 3]);
    let answer = within("the server's answer", cast.bob.ask(question)).await??;
    server.sees("add 2, 3; it answers 5").await?;
    BOB.says(format_args!("has its answer: {}", answer.json()));
    ensure!(answer.read::<(i64,)>()? == (5,), "the sum is wrong");

    act("the server goes away and comes back");
    let address = server.server.address;
    SERVER.says("dies");
    drop(server);
    cast.both_hear("reconnect_error").await?;
    ALICE.says("emits say, while nobody is there");
    let emitted = cast.alice.emit(Emit::new("chat", "say").args(["are you back?"])).await?;
    ensure!(emitted.status == EmitStatus::Buffered && emitted.active, "it is not buffered");
    DAEMON.says("answers alice: buffered");
    let (server, seen) = Server::start(address).await?;
    SERVER.says("is back");
    let mut server = Running { server, seen };
    cast.both_hear("connect").await?;
    server.sees("a client joined").await?;
    server.sees("say \"are you back?\"").await?;
    server.emits("news", "I am").await?;
    cast.both_hear("news").await?;

    act("what it took");
    for Snapshot { name, subscribers, received, sent, reconnects, .. } in cast.alice.list().await? {
        DAEMON.says(format_args!(
            "{name}: {subscribers} programs on one upstream connection; events in {received}, out {sent}; reconnects {reconnects}"
        ));
    }
    Ok((cast, server))
}

/// Everything stays up, with something to hear every second, until the future is dropped.
async fn linger(socket: &Path, mut server: Running) -> anyhow::Result<Infallible> {
    let path = socket.display();
    act("your turn (Ctrl-C ends)");
    println!(
        "
    In another terminal, here:

      export SIOD_SOCKET={path}
      cargo run --release -- listen
      cargo run --release -- emit chat say '\"hello\"'
      cargo run --release -- emit chat add 2 3 --ack

    Or without siod, with netcat; type {{\"id\":1,\"method\":\"list\"}} or {{\"id\":2,\"method\":\"subscribe\"}}:

      nc -U {path}
"
    );
    let (mut seconds, mut tick) = (tokio::time::interval(Duration::from_secs(1)), 0_u64);
    loop {
        tokio::select! {
            _ = seconds.tick() => {
                tick += 1;
                server.server.emit("tick", &tick).await?;
            }
            seen = server.seen.recv() => SERVER.says(format_args!("sees {}", seen.context("the server is gone")?)),
        }
    }
}

/// A Socket.IO server on a runtime of its own, so that it can die with all it has under way.
struct Server {
    io: SocketIo,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

/// What the server sees its clients do, in words.
type Seen = mpsc::Receiver<String>;

impl Server {
    async fn start(address: SocketAddr) -> anyhow::Result<(Self, Seen)> {
        let (tell, seen) = mpsc::channel(64);
        let (service, io) = SocketIo::new_svc();
        io.ns("/", move |socket: SocketRef| {
            welcome(&socket, &tell);
            ready(())
        });
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listening = runtime.spawn(bind(address));
        let mut server = Self { io, address, runtime: Some(runtime) };
        let listener = within("the server's port", listening).await??;
        server.address = listener.local_addr()?;
        let serve = async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let http = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
                connections.spawn(http.with_upgrades());
            }
        };
        if let Some(runtime) = &server.runtime {
            runtime.spawn(serve);
        }
        Ok((server, seen))
    }

    /// To all clients.
    async fn emit<T: Serialize + ?Sized>(&self, event: &str, value: &T) -> anyhow::Result<()> {
        self.io.emit(event, value).await.map_err(|error| anyhow!("the server cannot emit: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The port of a server that has just died is free when its runtime gets to it, so one may have to ask again.
async fn bind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn welcome(socket: &SocketRef, tell: &mpsc::Sender<String>) {
    let (left, adds, says) = (tell.clone(), tell.clone(), tell.clone());
    socket.on("add", move |ack: AckSender, Data((a, b)): Data<(i64, i64)>| {
        let sum = a.saturating_add(b);
        // Whoever is not there any more misses nothing, here and below.
        let _ = ack.send(&sum);
        let _ = adds.try_send(format!("add {a}, {b}; it answers {sum}"));
        ready(())
    });
    socket.on("say", move |Data(text): Data<String>| {
        let _ = says.try_send(format!("say {text:?}"));
        ready(())
    });
    socket.on_disconnect(move || {
        let _ = left.try_send("the client left".to_owned());
        ready(())
    });
    let _ = tell.try_send("a client joined".to_owned());
}

/// The server, and the story's ear to it.
struct Running {
    server: Server,
    seen: Seen,
}

impl Running {
    /// Waits until the server has seen `what`, and nothing else before.
    async fn sees(&mut self, what: &str) -> anyhow::Result<()> {
        let seen = within(what, self.seen.recv()).await?.context("the server is gone")?;
        SERVER.says(format_args!("sees {seen}"));
        ensure!(seen == what, "expected the server to see {what:?}");
        Ok(())
    }

    async fn emits(&self, event: &str, text: &str) -> anyhow::Result<()> {
        SERVER.says(format_args!("emits {event} {text:?}, once"));
        self.server.emit(event, text).await
    }
}

/// The two programs.
struct Cast {
    alice: Client,
    bob: Client,
}

impl Cast {
    /// Reads on until both have heard `event`, each line the same for both.
    async fn both_hear(&mut self, event: &str) -> anyhow::Result<()> {
        loop {
            let alice = within(event, self.alice.next_notification()).await??;
            let bob = within(event, self.bob.next_notification()).await??;
            ensure!(alice.line() == bob.line(), "alice and bob do not hear the same");
            let name = hear(&alice)?;
            if name == event {
                return Ok(());
            }
        }
    }
}

async fn attach(name: Name, socket: &Path) -> anyhow::Result<Client> {
    let mut client = Client::attach(socket).await?;
    client.hello(Hello::new(name.0)).await?;
    // The daemon may have been quicker than we are, so what has happened is asked for too.
    client.subscribe(Subscribe::to("chat").last(100)).await?;
    name.says("attaches and subscribes to chat");
    Ok(client)
}

/// Shows what both have heard; gives the event's name.
fn hear(notification: &Notification) -> anyhow::Result<String> {
    let seq = notification.seq().unwrap_or(0);
    let (event, words) = match notification.notice()? {
        Notice::Goodbye(reason) => {
            BOTH.says(format_args!("hear goodbye: {reason}"));
            return Ok("goodbye".to_owned());
        }
        Notice::Event(Event { event, args, .. }) => {
            for name in [ALICE, BOB] {
                name.says(format_args!("hears {event} {args}  {FAINT}seq {seq}{FAINT:#}"));
            }
            return Ok(event.into_owned());
        }
        Notice::Lifecycle(Lifecycle { event, change, .. }) => (event.into_owned(), in_words(&change)),
        _ => bail!("a notification of another kind"),
    };
    BOTH.says(format_args!("hear {CHANGE}{event}{CHANGE:#} {words}  {FAINT}seq {seq}{FAINT:#}"));
    Ok(event)
}

fn in_words(change: &Change) -> String {
    match change {
        Change::Connect { transport, .. } | Change::Upgrade { transport } => {
            format!("over {}", transport.map_or("?", Transport::name))
        }
        Change::ConnectError { message, description, .. } => match description {
            Some(description) => format!("{message}, {description}"),
            None => message.to_string(),
        },
        Change::Disconnect { reason, .. } => reason.to_string(),
        Change::ReconnectAttempt { attempt } | Change::Reconnect { attempt } => format!("attempt {attempt}"),
        Change::ReconnectError { attempt, message } => format!("attempt {attempt}, {message}"),
        Change::Opened { by } | Change::Closed { by } => format!("by {by}"),
        _ => String::new(),
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> anyhow::Result<T> {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.with_context(|| format!("waited {} s in vain: {what}", PATIENCE.as_secs()))
}

/// Somebody in the story, and the colour of what he says.
#[derive(Clone, Copy)]
struct Name(&'static str, AnsiColor);

const SERVER: Name = Name("server", AnsiColor::Magenta);
const DAEMON: Name = Name("siod", AnsiColor::Blue);
const ALICE: Name = Name("alice", AnsiColor::Cyan);
const BOB: Name = Name("bob", AnsiColor::Green);
const BOTH: Name = Name("both", AnsiColor::White);
const CHANGE: Style = AnsiColor::Yellow.on_default();
const FAINT: Style = Style::new().dimmed();
const TITLE: Style = Style::new().bold();

impl Name {
    fn says(self, words: impl Display) {
        let Self(name, colour) = self;
        let style = colour.on_default().bold();
        println!("{style}{name:>8}{style:#}  {words}");
    }
}

fn act(title: &str) {
    println!("\n{TITLE}{title}{TITLE:#}");
}
