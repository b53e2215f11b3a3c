//! The methods of the API, with their types.

use serde::Serialize;

use super::attachment::Client;
use super::error::Error;
use super::params::{Ack, Connect, Emit, Hello, Named, Nothing, Open, SetAuth, Subscribe};
use super::results::{
    Args, Asked, Emitted, Empty, List, Opened, Reloaded, Snapshot, Status, Subscribed, Welcome,
};

impl Client {
    /// Introduces this program. Optional, and at any time.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/stage.rs"));
    /// # fn main() { run(async |default_socket| {
    /// # use siod::client::{Client, Hello, Role};
    /// # let mut siod = Client::attach(default_socket()).await?;
    /// let daemon = siod.hello(Hello::new("door-bell/2")).await?;
    /// assert_eq!((daemon.api, daemon.role), (1, Role::Control));
    /// # Ok(()) }) }
    /// ```
    pub async fn hello(&mut self, hello: Hello) -> Result<Welcome, Error> {
        self.call("hello", hello).await
    }

    /// All connections that this program may see, by name.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/stage.rs"));
    /// # fn main() { run(async |default_socket| {
    /// # use siod::client::{Client, State, Transport};
    /// # let mut siod = Client::attach(default_socket()).await?;
    /// for connection in siod.list().await? {
    ///     println!("{} to {}: {}", connection.name, connection.url, connection.state.name());
    /// #   assert_eq!((connection.state, connection.transport), (State::Connected, Some(Transport::Websocket)));
    /// }
    /// # Ok(()) }) }
    /// ```
    pub async fn list(&mut self) -> Result<Vec<Snapshot>, Error> {
        let List { connections } = self.call("list", Nothing {}).await?;
        Ok(connections)
    }

    /// The daemon, the connections, and for whoever may control the daemon the attached programs.
    pub async fn status(&mut self) -> Result<Status, Error> {
        self.call("status", Nothing {}).await
    }

    /// As [`status`](Self::status), with one connection only.
    pub async fn status_of(&mut self, connection: &str) -> Result<Status, Error> {
        self.call("status", Named { connection }).await
    }

    /// Subscribes for as long as this client is attached; what comes is read with
    /// [`next_notification`](Self::next_notification).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/stage.rs"));
    /// # fn main() { run(async |default_socket| {
    /// # use siod::client::{Client, Emit, Notice, Subscribe};
    /// # let mut siod = Client::attach(default_socket()).await?;
    /// siod.subscribe(Subscribe::to("chat").without_lifecycle()).await?;
    /// siod.emit(Emit::new("chat", "echo").args(("hello", 1))).await?;
    ///
    /// let notification = siod.next_notification().await?;
    /// let Notice::Event(event) = notification.notice()? else { unreachable!() };
    /// assert_eq!((&*event.event, event.read()?), ("echo", ("hello", 1)));
    /// # Ok(()) }) }
    /// ```
    pub async fn subscribe(&mut self, subscribe: Subscribe) -> Result<Subscribed, Error> {
        self.call("subscribe", subscribe).await
    }

    /// Ends a subscription of this client. What came of it before the answer is still read.
    pub async fn unsubscribe(&mut self, subscription: u64) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Params {
            subscription: u64,
        }
        self.call::<Empty>("unsubscribe", Params { subscription }).await.map(|_| ())
    }

    /// Emits an event, and says what became of it. Where the transport cannot keep up, this waits.
    pub async fn emit(&mut self, emit: Emit<'_>) -> Result<Emitted, Error> {
        self.call("emit", emit.without_ack()).await
    }

    /// Emits an event and waits for the server's answer, as long as [`Emit::timeout`] or the connection's `ack_timeout`
    /// says; without both until it answers or the connection is lost.
    ///
    /// Fails with [`AckTimeout`](super::ErrorKind::AckTimeout) or [`Disconnected`](super::ErrorKind::Disconnected) where
    /// no answer came, and with [`Dropped`](Error::Dropped) where a volatile event did not go out.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/stage.rs"));
    /// # fn main() { run(async |default_socket| {
    /// # use std::time::Duration;
    /// # use siod::client::{Client, Emit, ErrorKind};
    /// # let mut siod = Client::attach(default_socket()).await?;
    /// let question = Emit::new("chat", "a question that nobody answers").timeout(Duration::from_millis(10));
    /// let error = siod.ask(question).await.unwrap_err();
    /// assert_eq!(error.kind(), Some(ErrorKind::AckTimeout));
    /// # Ok(()) }) }
    /// ```
    pub async fn ask(&mut self, emit: Emit<'_>) -> Result<Args, Error> {
        let asked: Asked = self.call("emit", emit.ack()).await?;
        asked.into_args()
    }

    /// Answers an event that wants an answer. The first answer of any program counts.
    pub async fn ack(&mut self, ack: Ack<'_>) -> Result<(), Error> {
        self.call::<Empty>("ack", ack).await.map(|_| ())
    }

    /// Starts a connection that is not active; harmless on one that is.
    ///
    /// With [`Connect::wait`] it fails with [`ConnectFailed`](super::ErrorKind::ConnectFailed) where the connection does
    /// not come up.
    pub async fn connect(&mut self, connect: Connect<'_>) -> Result<Snapshot, Error> {
        self.call("connect", connect).await
    }

    /// Disconnects a connection; it stays known and does not come back by itself.
    pub async fn disconnect(&mut self, connection: &str) -> Result<Snapshot, Error> {
        self.call("disconnect", Named { connection }).await
    }

    /// Says who we are from the next CONNECT on: what becomes a JSON object, or null for nobody.
    pub async fn set_auth(&mut self, connection: &str, auth: impl Serialize) -> Result<(), Error> {
        self.call::<Empty>("set_auth", SetAuth::new(connection, auth)).await.map(|_| ())
    }

    /// Adds a connection. Without [`Open::persist`] it lasts as long as this client is attached.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/stage.rs"));
    /// # fn main() { run(async |default_socket| {
    /// # use std::time::Duration;
    /// # use siod::client::{Client, Connect, Open};
    /// # let mut siod = Client::attach(default_socket()).await?;
    /// # let url = siod.list().await?[0].url.clone();
    /// let lobby = Open::new("lobby", &url).option("transports", ["polling"]);
    /// assert!(siod.open(lobby).await?.created);
    /// let lobby = siod.connect(Connect::new("lobby").wait(Duration::from_secs(20))).await?;
    /// assert!(lobby.ready);
    /// siod.close("lobby").await?;
    /// # Ok(()) }) }
    /// ```
    pub async fn open(&mut self, open: Open) -> Result<Opened, Error> {
        self.call("open", open).await
    }

    /// Disconnects a connection and forgets it.
    pub async fn close(&mut self, connection: &str) -> Result<(), Error> {
        self.call::<Empty>("close", Named { connection }).await.map(|_| ())
    }

    /// Lets the daemon read its configuration again.
    pub async fn reload(&mut self) -> Result<Reloaded, Error> {
        self.call("reload", Nothing {}).await
    }
}
