//! Listening over as many attachments as it takes.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Instant, sleep_until};

use super::attachment::{Answer, Client, Incoming, RequestId};
use super::error::{Error, ErrorKind, Refusal};
use super::notification::Notification;
use super::params::{Hello, Open, Subscribe};
use super::positions::{Gap, Position, Positions, Verdict};
use super::results::{Opened, Snapshot, Subscribed};

/// The first and the longest wait before attaching again.
const DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Hears what a [`Subscribe`] names, and goes on where it was when the daemon went away and came back.
///
/// Of each connection it has heard of, nothing is left out that the daemon still has, and nothing comes twice, in the
/// order of `seq`. This holds where the daemon goes on with its numbering (the same `stream`) and where it begins a new
/// one; what is gone is told by [`News::Missed`]. With a pattern, a connection that was first opened while the daemon was
/// away from here is heard from its beginning. Up to 1,000 connections are remembered; those beyond are heard from the
/// moment of attaching again. What `last` and `sticky` were still to bring when the daemon went away in the midst of it
/// may be left out.
///
/// There is no task behind it: everything happens while [`next`](Self::next) is awaited, which is cancel safe. Who does
/// not call it leaves what comes in the daemon's history, and is slow in the daemon's eyes.
///
/// It only listens. To emit, or to answer an event, attach a [`Client`] beside it.
#[derive(Debug)]
pub struct Listener {
    socket: PathBuf,
    hello: Option<Hello>,
    /// The connection that every attachment has to open first.
    open: Option<Open>,
    subscribe: Subscribe,
    patient: bool,
    positions: Positions,
    /// The numbering of the daemon that we are attached to.
    stream: String,
    line: Line,
    /// The subscription has stood at least once.
    begun: bool,
    /// It does not stand, and that was told.
    away: bool,
    delay: Duration,
    /// What was learnt from one answer and is still to be told.
    pending: VecDeque<News>,
}

/// What [`Listener::next`] gives.
#[derive(Debug)]
pub enum News {
    /// The subscription stands. It comes before what it brings.
    Attached {
        /// The connections that match, as they are at this point. For a pattern these are all; what is replayed of those
        /// known before comes before or after this.
        connections: Vec<Snapshot>,
        /// It stood before.
        again: bool,
    },
    /// Something that happened.
    Heard {
        /// What.
        notification: Notification,
        /// It was retained, rather than said now.
        replayed: bool,
    },
    /// Some notifications of a connection are gone.
    Missed(Missed),
    /// The daemon is away for this reason; the next call attaches again. Told once, however long it lasts.
    Away(Error),
}

/// Notifications that were said while the daemon was away from here and that it does not have any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Of which connection.
    pub connection: String,
    /// How many of them, matching the subscription or not; none where that is not known, since the daemon began a new
    /// numbering.
    pub count: Option<u64>,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connection = &self.connection;
        match self.count {
            Some(count) => write!(f, "{connection}: up to {count} notifications were lost meanwhile"),
            None => {
                write!(f, "{connection}: the daemon began a new numbering; it is not known what was lost")
            }
        }
    }
}

#[derive(Debug)]
enum Line {
    /// Nothing is attached, and it is not tried before this moment.
    Down(Option<Instant>),
    /// On its way, also while nobody awaits it: a daemon would see each start as one more program.
    Attaching(Attaching),
    Up(Box<Up>),
}

struct Attaching(Pin<Box<dyn Future<Output = Result<Client, Error>> + Send>>);

impl fmt::Debug for Attaching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attaching")
    }
}

#[derive(Debug)]
struct Up {
    client: Client,
    asked: HashMap<RequestId, Asked>,
}

/// A request that is on its way.
#[derive(Debug)]
enum Asked {
    Hello,
    Open(String),
    /// Go on with this connection where we were. `only`: nothing else is listened to.
    Resume {
        name: String,
        only: bool,
    },
    /// Everything that matches, from now on or with the last few.
    Start,
}

impl Listener {
    /// Will listen to the daemon at this socket. Nothing happens before [`next`](Self::next).
    ///
    /// With [`Subscribe::after`] it goes on where another listener was; see [`position`](Self::position).
    pub fn new(socket: impl Into<PathBuf>, mut subscribe: Subscribe) -> Self {
        let mut positions = Positions::default();
        if let Some(position) = subscribe.after.take() {
            positions.set(&subscribe.connection, position);
        }
        Self {
            socket: socket.into(),
            hello: None,
            open: None,
            subscribe,
            patient: false,
            positions,
            stream: String::new(),
            line: Line::Down(None),
            begun: false,
            away: false,
            delay: DELAY.0,
            pending: VecDeque::new(),
        }
    }

    /// Introduces itself at each attachment.
    #[must_use]
    pub fn hello(self, hello: Hello) -> Self {
        Self { hello: Some(hello), ..self }
    }

    /// Opens a connection first at each attachment, so that it is there as long as this listens.
    #[must_use]
    pub fn open(self, open: Open) -> Self {
        Self { open: Some(open), ..self }
    }

    /// Waits for a daemon that is not there yet, too. Else the first call fails where there is none.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    /// How far a connection has been heard. Kept on disk and given to [`Subscribe::after`], it lets a program go on after
    /// its own restart.
    pub fn position(&self, connection: &str) -> Option<&Position> {
        self.positions.of(connection)
    }

    /// What comes next. Cancel safe.
    ///
    /// Fails where the daemon is not there at first, refuses what is wanted, or does not want this program at all. What
    /// may pass is no failure but [`News::Away`]: after the subscription has stood once, also that the daemon does not
    /// know the connection, which it may yet have to open. To call it again after a failure is to try again.
    pub async fn next(&mut self) -> Result<News, Error> {
        loop {
            if let Some(news) = self.pending.pop_front() {
                return Ok(news);
            }
            match &mut self.line {
                Line::Down(until) => {
                    if let Some(until) = *until {
                        sleep_until(until).await;
                    }
                    let socket = self.socket.clone();
                    let attaching = Box::pin(async move { Client::attach(socket).await });
                    self.line = Line::Attaching(Attaching(attaching));
                }
                Line::Attaching(Attaching(attaching)) => match attaching.await {
                    Ok(client) => {
                        if let Err(error) = self.begin(client) {
                            self.leave(error, false)?;
                        }
                    }
                    Err(error) => {
                        let passes = self.has_patience();
                        self.leave(error, passes)?;
                    }
                },
                Line::Up(up) => match up.client.next().await {
                    Ok(Incoming::Answer(answer)) => {
                        if let Err(error) = self.answered(answer) {
                            self.leave(error, false)?;
                        }
                    }
                    Ok(Incoming::Notification(notification)) => {
                        if let Verdict::Fresh { replayed } = self.positions.heard(&notification, &self.stream)
                        {
                            return Ok(News::Heard { notification, replayed });
                        }
                    }
                    Err(lost) => {
                        let passes = self.has_patience() && !lost.is_final();
                        self.leave(lost.into(), passes)?;
                    }
                },
            }
        }
    }

    /// The same as a stream, which ends after a failure.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/stage.rs"));
    /// # fn main() { run(async |default_socket| {
    /// # use siod::client::{Listener, News, Subscribe};
    /// use std::pin::pin;
    ///
    /// use futures_util::TryStreamExt;
    ///
    /// let mut news = pin!(Listener::new(default_socket(), Subscribe::to("chat")).into_stream());
    /// while let Some(news) = news.try_next().await? {
    ///     if let News::Attached { connections, .. } = news {
    ///         assert!(connections[0].ready);
    ///         break;
    ///     }
    /// }
    /// # Ok(()) }) }
    /// ```
    pub fn into_stream(self) -> impl Stream<Item = Result<News, Error>> {
        futures_util::stream::unfold(Some(self), |listener| async {
            let mut listener = listener?;
            let news = listener.next().await;
            let go_on = news.is_ok().then_some(listener);
            Some((news, go_on))
        })
    }

    fn has_patience(&self) -> bool {
        self.begun || self.patient
    }

    /// What was lost comes back by itself, or it is a failure.
    fn leave(&mut self, why: Error, passes: bool) -> Result<(), Error> {
        self.line = Line::Down(Some(Instant::now() + self.delay));
        self.delay = (self.delay * 2).min(DELAY.1);
        if !passes {
            return Err(why);
        }
        if !std::mem::replace(&mut self.away, true) {
            self.pending.push_back(News::Away(why));
        }
        Ok(())
    }

    fn begin(&mut self, mut client: Client) -> Result<(), Error> {
        let mut asked = HashMap::new();
        if let Some(hello) = &self.hello {
            asked.insert(client.request("hello", hello)?, Asked::Hello);
        }
        let mut up = Up { client, asked };
        match &self.open {
            Some(open) => {
                let id = up.client.request("open", open)?;
                up.asked.insert(id, Asked::Open(open.name().to_owned()));
            }
            None => self.ask(&mut up)?,
        }
        self.line = Line::Up(Box::new(up));
        Ok(())
    }

    /// Asks for everything known from where it was, then for the rest. In this order nothing live comes twice: a new
    /// subscription replays what another one has had, but a live notification is written once.
    fn ask(&self, up: &mut Up) -> Result<(), Error> {
        let plain = self.subscribe.is_plain();
        for name in self.positions.names() {
            self.ask_from(up, name, plain)?;
        }
        if !plain || self.positions.of(&self.subscribe.connection).is_none() {
            let mut params = self.subscribe.clone();
            if self.begun {
                (params.last, params.sticky) = (None, false);
            }
            up.asked.insert(up.client.request("subscribe", params)?, Asked::Start);
        }
        Ok(())
    }

    fn ask_from(&self, up: &mut Up, name: String, only: bool) -> Result<(), Error> {
        let after = self.positions.of(&name).cloned();
        let mut params = self.subscribe.clone();
        (params.connection, params.last, params.after) = (name.clone(), None, after);
        up.asked.insert(up.client.request("subscribe", params)?, Asked::Resume { name, only });
        Ok(())
    }

    fn answered(&mut self, Answer { id, result }: Answer) -> Result<(), Error> {
        let Line::Up(up) = &mut self.line else { return Ok(()) };
        let asked = id.and_then(|id| up.asked.remove(&id));
        match (asked, result) {
            (Some(Asked::Hello), _) | (None, Ok(_)) => Ok(()),
            (Some(Asked::Open(name)), Ok(result)) => {
                let opened = serde_json::from_str(result.get()).map_err(Error::Answer)?;
                self.opened(&name, opened)
            }
            (Some(asked), Ok(result)) => {
                self.subscribed(asked, serde_json::from_str(result.get()).map_err(Error::Answer)?)
            }
            (Some(Asked::Resume { name, only: false }), Err(refusal))
                if refusal.kind() == ErrorKind::UnknownConnection =>
            {
                self.positions.forget(&name);
                Ok(())
            }
            (Some(_) | None, Err(refusal)) if self.passes(&refusal) => self.leave(refusal.into(), true),
            (Some(_) | None, Err(refusal)) => Err(refusal.into()),
        }
    }

    /// Whether a refusal may be another one a little later, while a restarted daemon is still being set up.
    fn passes(&self, refusal: &Refusal) -> bool {
        match refusal.kind() {
            ErrorKind::UnknownConnection => self.begun,
            ErrorKind::ShuttingDown => self.has_patience(),
            _ => false,
        }
    }

    /// Remembers from where an opened connection is to be heard.
    fn opened(&mut self, name: &str, Opened { created, connection }: Opened) -> Result<(), Error> {
        if self.positions.of(name).is_none() {
            // All that the ring of a new connection holds is about this opening.
            let seq = if created { connection.oldest_seq.saturating_sub(1) } else { connection.seq };
            self.positions.set(name, Position { stream: connection.stream, seq });
        }
        self.with_line(Self::ask)
    }

    fn subscribed(&mut self, asked: Asked, answer: Subscribed) -> Result<(), Error> {
        self.stream.clone_from(&answer.stream);
        let sticky = self.subscribe.sticky;
        match asked {
            Asked::Resume { name, only } => {
                let gap = self.positions.resumed(&name, &answer, sticky);
                if gap != Gap::None {
                    let count = if let Gap::Count(count) = gap { Some(count) } else { None };
                    self.pending.push_back(News::Missed(Missed { connection: name, count }));
                }
                if !only {
                    return Ok(());
                }
            }
            Asked::Start => {
                let met = self.positions.started(&answer, sticky);
                if self.begun {
                    // They were opened while nobody listened.
                    for name in met {
                        self.positions.rewind(&name);
                        self.with_line(|listener, up| listener.ask_from(up, name, false))?;
                    }
                }
            }
            Asked::Hello | Asked::Open(_) => return Ok(()),
        }
        self.pending.push_back(News::Attached { connections: answer.connections, again: self.begun });
        (self.begun, self.away, self.delay) = (true, false, DELAY.0);
        Ok(())
    }

    fn with_line(&mut self, ask: impl FnOnce(&Self, &mut Up) -> Result<(), Error>) -> Result<(), Error> {
        let mut line = std::mem::replace(&mut self.line, Line::Down(None));
        let asked = match &mut line {
            Line::Up(up) => ask(self, up),
            Line::Down(_) | Line::Attaching(_) => Ok(()),
        };
        self.line = line;
        asked
    }
}
