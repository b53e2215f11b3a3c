// A real Socket.IO server and a daemon in front of it, whose connection `chat` is up, for the examples of
// `siod::client`. Documentation tests include this file, hidden from whoever reads them.

type Failure = Box<dyn std::error::Error>;

/// Runs an example, which is given the daemon's socket; a failure of it fails the test.
fn run(example: impl AsyncFnOnce(&dyn Fn() -> std::path::PathBuf) -> Result<(), Failure>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let result = runtime.expect("a runtime").block_on(async {
        let folder = tempfile::tempdir()?;
        let (socket, file) = (folder.path().join("siod.sock"), folder.path().join("siod.toml"));
        let mut serving = tokio::task::JoinSet::new();
        let url = serve(&mut serving).await?;
        std::fs::write(&file, format!("[connections.chat]\nurl = \"{url}\"\nproxy = \"none\"\n"))?;
        let sources =
            siod::service::config::Sources { files: vec![file], socket: Some(socket.clone()) };
        let config = siod::service::config::load(&sources, &Default::default())?;
        let listener = siod::service::listener::Listener::bind(&socket, config.api.mode, None)?;
        let stop = tokio_util::sync::CancellationToken::new();
        let daemon = siod::service::serve(config, listener, stop.clone());
        let play = async {
            until_greeted(&socket).await?;
            let played = example(&|| socket.clone()).await;
            stop.cancel();
            played
        };
        let (daemon, played) = tokio::time::timeout(std::time::Duration::from_secs(60), async {
            tokio::join!(daemon, play)
        })
        .await?;
        daemon?;
        played
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// The server greets with the event `greeting`, answers `add` with the sum, sends `echo` back as it came, and on `ask me`
/// asks the event that it is given, whose answer it sends as `answered`.
async fn serve(serving: &mut tokio::task::JoinSet<()>) -> Result<String, Failure> {
    use socketioxide::extract::{AckSender, Data, SocketRef};

    let (service, io) = socketioxide::SocketIo::new_svc();
    io.ns("/", async |socket: SocketRef| {
        socket.on("add", async |ack: AckSender, Data((a, b)): Data<(i64, i64)>| {
            let _left = ack.send(&(a + b));
        });
        socket.on("echo", async |socket: SocketRef, Data(args): Data<(String, i64)>| {
            let _left = socket.emit("echo", &args);
        });
        socket.on("ask me", async |socket: SocketRef, Data(question): Data<String>| {
            let Ok(answer) = socket.emit_with_ack::<_, String>(question, &()) else { return };
            if let Ok(word) = answer.await {
                let _left = socket.emit("answered", &word);
            }
        });
        let _left = socket.emit("greeting", "welcome");
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    serving.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let stream = hyper_util::rt::TokioIo::new(stream);
            let http = hyper::server::conn::http1::Builder::new().serve_connection(stream, service.clone());
            connections.spawn(http.with_upgrades());
        }
    });
    Ok(url)
}

/// Waits until the connection has moved to a WebSocket and the greeting is there.
async fn until_greeted(socket: &std::path::Path) -> Result<(), Failure> {
    use siod::client::{Client, Subscribe};

    let mut siod = Client::attach(socket).await?;
    siod.subscribe(Subscribe::to("chat").last(100)).await?;
    let (mut greeted, mut upgraded) = (false, false);
    while !(greeted && upgraded) {
        let notification = siod.next_notification().await?;
        greeted |= notification.line().contains(r#""event":"greeting""#);
        upgraded |= notification.line().contains(r#""transport":"websocket""#);
    }
    Ok(())
}
