//! `siod doctor`: reaches a server step by step, and says where it stops and why.
//!
//! It is the daemon's own Manager that connects, with somebody who watches, so what is found here holds for the daemon.

mod certificate;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use http::header::SET_COOKIE;
use jiff::Timestamp;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::text::{self, visible};
use super::values::{self, Json, Object, Setting};
use super::{Global, daemon};
use crate::engineio::{Details, Handshake, TransportKind};
use crate::hub::options::{ConnectionOptions, ConnectionSettings};
use crate::manager::{self, Counters, Lifecycle, Manager, Observer, Room, Settings, Source, Status, Witness};
use crate::socketio::{Args as EventArgs, ArgsView, Loss, Name, NameView};
use crate::transport::{Step, Watch};

/// How long the end of an examination may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Examines the way to a server, step by step
#[derive(Debug, Args)]
#[command(after_help = "\
Resolves, connects, shakes hands and joins the namespace over each transport, and says how long each step took, what \
the server is like, and where it stops and why. No daemon is needed or disturbed. Exits 3 if siod could not connect.

Examples:
  siod doctor https://chat.example.com/room
  siod doctor https://chat.example.com --auth '{\"token\":\"abc\"}' --set proxy=none
  siod doctor chat")]
pub(super) struct Doctor {
    /// Where to connect, as in io(url), or the name of a connection in the configuration
    #[arg(value_name = "URL")]
    target: String,
    /// Who we are, a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::json)]
    auth: Option<Json>,
    /// Any option of a connection in the configuration, as for 'siod open'; only with a URL
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = values::setting)]
    set: Vec<Setting>,
}

impl Doctor {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let settings = self.settings(global)?;
        let mut output = Output::styled();
        let shown = visible(&settings.url).into_owned();
        output.line(&format!("{shown}, namespace {}", visible(&settings.socket.namespace)))?;
        let mut works = Vec::new();
        for kind in &settings.manager.transports {
            output.line(&format!("\n{}", kind.name()))?;
            if examine(&settings, *kind, &mut output).await? {
                works.push(*kind);
            }
        }
        output.line("")?;
        let tried = settings.manager.transports.iter().take(if settings.manager.try_all_transports {
            usize::MAX
        } else {
            1
        });
        let first = tried.copied().find(|kind| works.contains(kind));
        match first {
            Some(kind) => output.line(&format!("siod connects over {}", kind.name()))?,
            None => output.line("siod cannot connect")?,
        }
        output.flush()?;
        Ok(if first.is_some() { Exit::Done } else { Exit::NotConnected })
    }

    fn settings(self, global: &Global) -> Result<ConnectionSettings, Failure> {
        if !self.target.contains("://") {
            return self.configured(global);
        }
        let mut members = Object::default();
        for setting in self.set {
            members.set(setting).map_err(|error| Failure::Usage(format!("--set {error}")))?;
        }
        for (key, instead) in [("url", "give it as URL"), ("auth", "use --auth")] {
            if members.contains(key) {
                return Err(Failure::Usage(format!("--set {key}: {instead}")));
            }
        }
        members = members.with("url", to_raw_value(&self.target).map_err(Failure::Answer)?);
        if let Some(auth) = self.auth {
            members = members.with("auth", auth);
        }
        let text = to_raw_value(&members).map_err(Failure::Answer)?;
        let members: std::collections::BTreeMap<String, &RawValue> =
            serde_json::from_str(text.get()).map_err(Failure::Answer)?;
        let members = members.iter().map(|(name, value)| (name.as_str(), *value));
        ConnectionOptions::from_members(members)
            .and_then(|options| options.resolve(&ConnectionOptions::default()))
            .map_err(|error| Failure::Usage(error.to_string()))
    }

    fn configured(self, global: &Global) -> Result<ConnectionSettings, Failure> {
        if self.auth.is_some() || !self.set.is_empty() {
            let message = "--auth and --set go with a URL; a connection's options are in the configuration";
            return Err(Failure::Usage(message.to_owned()));
        }
        let mut config = daemon::load(global)?;
        config.connections.remove(&self.target).ok_or_else(|| {
            let name = self.target;
            Failure::Usage(format!(
                "{name:?} is neither a URL (with ://) nor the name of a connection in the configuration"
            ))
        })
    }
}

/// What happens on the way, and when.
enum News {
    Seen { phase: &'static str, text: String },
    Joined(String),
    Failed { details: Details, source: Source },
}

/// Hears everything and passes it on.
struct Stethoscope {
    news: mpsc::UnboundedSender<(Instant, News)>,
    room_changed: Notify,
    engine: u8,
    /// The session is open; how its further requests get there is no news.
    is_open: AtomicBool,
}

impl Stethoscope {
    fn tell(&self, news: News) {
        // Nobody listens any more once the examination is over.
        let _ = self.news.send((Instant::now(), news));
    }

    fn seen(&self, phase: &'static str, text: String) {
        self.tell(News::Seen { phase, text });
    }
}

impl Watch for Stethoscope {
    fn step(&self, step: &Step<'_>) {
        if self.is_open.load(Ordering::Relaxed) {
            return;
        }
        let text = match step {
            Step::Resolving { .. }
            | Step::Connecting { .. }
            | Step::Shaking { .. }
            | Step::Requesting { .. } => return,
            Step::Resolved { host, addresses: [address] } if *host == address.ip().to_string() => return,
            Step::Secured { certificates, .. } => {
                let facts = certificates.first().map(|first| certificate::facts(first, Timestamp::now()));
                format!("{step}; {}", facts.unwrap_or_else(|| "no certificate".to_owned()))
            }
            Step::Answered { headers, .. } => {
                let cookies: Vec<_> = headers
                    .get_all(SET_COOKIE)
                    .iter()
                    .filter_map(|cookie| cookie.to_str().ok()?.split_once('='))
                    .map(|(name, _)| name.trim())
                    .collect();
                let server = headers.get("server").and_then(|server| server.to_str().ok());
                let server = server.map(|server| format!(", by {server}")).unwrap_or_default();
                let cookies = match cookies.as_slice() {
                    [] => String::new(),
                    names => format!(", sets the cookies {}", names.join(", ")),
                };
                format!("{step}{server}{cookies}")
            }
            step => step.to_string(),
        };
        self.seen(step.phase().name(), text);
    }
}

impl Witness for Stethoscope {
    fn opened(&self, handshake: &Handshake) {
        self.is_open.store(true, Ordering::Relaxed);
        let Handshake { upgrades, ping_interval, ping_timeout, max_payload, .. } = handshake;
        let upgrades = if upgrades.is_empty() { "none".to_owned() } else { upgrades.join(", ") };
        let limit = max_payload.map_or("none said".to_owned(), |bytes| format!("{bytes} bytes"));
        self.seen(
            "engine",
            format!(
                "Engine.IO {} session open: heartbeat every {ping_interval:?}, given up after {:?}; upgrades: \
                 {upgrades}; largest message: {limit}",
                self.engine,
                *ping_interval + *ping_timeout,
            ),
        );
    }
}

impl Observer for Stethoscope {
    fn event(&self, _: NameView<'_>, _: ArgsView<'_>, _: Option<u64>) -> bool {
        true
    }

    fn lifecycle(&self, event: &Lifecycle, _: &Status) {
        match event {
            Lifecycle::Connect { id, .. } => self.tell(News::Joined(id.to_string())),
            Lifecycle::ConnectError { details, source, .. } => {
                self.tell(News::Failed { details: details.clone(), source: *source });
            }
            Lifecycle::Disconnect { reason, details } => {
                let details = details.clone().unwrap_or_else(|| Details::new(reason.as_str()));
                self.tell(News::Failed { details, source: Source::Transport });
            }
            _ => {}
        }
    }

    fn lost(&self, _: &Name, _: Loss) {}

    fn said(&self, _: &str, _: &str) {}

    fn outgoing(&self, _: &Name, _: &EventArgs, _: u64) {}

    fn is_watched(&self) -> bool {
        false
    }

    fn update(&self, _: &Status, _: Counters) {}

    fn room(&self, _: Instant) -> Room {
        Room::Free
    }

    fn room_changed(&self) -> &Notify {
        &self.room_changed
    }

    fn publish(&self) {}
}

/// One transport, once; true if the namespace was joined.
async fn examine(
    settings: &ConnectionSettings,
    kind: TransportKind,
    output: &mut Output,
) -> Result<bool, Failure> {
    let manager =
        Settings { transports: vec![kind], upgrade: false, reconnection: false, ..settings.manager.clone() };
    let (news, mut heard) = mpsc::unbounded_channel();
    let engine = manager.transport.revision.number();
    let is_open = AtomicBool::new(false);
    let stethoscope = Arc::new(Stethoscope { news, room_changed: Notify::new(), engine, is_open });
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let begun = Instant::now();
    let witness = Arc::clone(&stethoscope) as Arc<dyn Witness>;
    let manager = Manager::spawn_watched(manager, witness, &tasks, stop.clone())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let socket = manager.add(settings.socket.clone(), 1, None, stethoscope);
    let (done, _) = manager::done();
    socket.connect(done);
    let joined = loop {
        let Some((at, news)) = heard.recv().await else { break false };
        let took = at.saturating_duration_since(begun);
        match news {
            News::Seen { phase, text } => line(output, phase, took, &text)?,
            News::Joined(id) => {
                let namespace = &settings.socket.namespace;
                line(output, "namespace", took, &format!("joined {namespace} as {id}"))?;
                break true;
            }
            News::Failed { details, source } => {
                failure(output, took, &details, source)?;
                break false;
            }
        }
    };
    stop.cancel();
    tasks.close();
    // A server that does not let go has said all that it had to say.
    let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    Ok(joined)
}

fn line(output: &mut Output, phase: &str, took: Duration, text: &str) -> io::Result<()> {
    output.line(&format!("  {phase:<10}{:>6} ms  {}", took.as_millis(), visible(text)))?;
    output.flush()
}

fn failure(output: &mut Output, took: Duration, details: &Details, source: Source) -> io::Result<()> {
    let phase = details.phase.map_or(source.name(), |phase| phase.name());
    line(output, phase, took, &format!("FAILED: {}", text::failure(&details.message)))?;
    let more = |what: &str| format!("{:22}{}", "", visible(what));
    if let Some(description) = &details.description {
        output.line(&more(description))?;
    }
    if let Some(hint) = &details.hint {
        output.line(&more(&format!("hint: {hint}")))?;
    }
    output.flush()
}
