//! Each test is a transcript: what comes in at which second, and everything that comes out.
//!
//! A [`World`] is the driver, the server and the consumers in one. Lifecycle events read `NAMESPACE EVENT …` and end in
//! `inactive` where the connection will not come up by itself; what the driver is to do stands in brackets; packets
//! begin with `>`, those of the probe with `ws>`.

use std::time::Duration;

use super::*;
use crate::engineio::{Frame, Handshake, Packet};
use crate::manager::{ConnectionState, backoff};
use crate::socketio::socket::{Emit, EmitError, Sent};
use crate::socketio::{AnswerError, Name, socket};

mod attempts;
mod comebacks;
mod losses;
mod namespaces;
mod old_servers;
mod scripts;
mod shortcuts;
mod upgrades;

/// Something that befalls the world, and what it says then.
type Blow = fn(&mut World) -> Vec<String>;
/// What brings the world to where a test begins.
type Scene = fn(&mut World);

const NOTHING: [&str; 0] = [];
const OPEN: &str = r#"0{"sid":"S","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000}"#;
/// The keys of the sockets for `/` and `/chat`.
const ROOT: Key = 1;
const CHAT: Key = 2;

struct World {
    start: Instant,
    now: Instant,
    state: State<String>,
    /// What each [`Action::Authenticate`] is answered at once; none to leave it open.
    auth: Option<Result<Option<&'static str>, &'static str>>,
    /// The last one that was asked.
    question: u64,
}

impl World {
    /// WebSocket only, delays of 1, 2, 4, 5, 5 … seconds, 20 s for an attempt; sockets for `/` and `/chat`.
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let start = Instant::now();
        let mut state = State::new(settings, Arc::default(), 7);
        state.add(ROOT, socket_settings("/"), Returns::default(), 1);
        state.add(CHAT, socket_settings("/chat"), Returns::default(), 1);
        Self { start, now: start, state, auth: Some(Ok(None)), question: 0 }
    }

    /// `/` is connected.
    fn connected() -> Self {
        Self::connected_with(settings())
    }

    fn connected_with(settings: Settings) -> Self {
        let mut world = Self::with(settings);
        world.connect(ROOT);
        world.opens();
        world.hears(r#"40{"sid":"A"}"#);
        assert!(world.state.status(ROOT).id.is_some());
        world
    }

    /// `/` and `/chat` are connected.
    fn both_connected() -> Self {
        let mut world = Self::connected();
        assert_eq!(world.connect(CHAT), ["> 40/chat,"]);
        assert_eq!(world.hears(r#"40/chat,{"sid":"B"}"#), ["/chat connect B websocket"]);
        world
    }

    /// The clock stands at this second, and deadlines are looked at.
    fn at(&mut self, seconds: u64) -> Vec<String> {
        self.now = self.start + Duration::from_secs(seconds);
        self.state.handle_timeout(self.now);
        self.out()
    }

    /// When the machine wants to be woken, in milliseconds from the start.
    fn due(&self) -> Option<u128> {
        self.state.poll_timeout().map(|at| (at - self.start).as_millis())
    }

    fn connect(&mut self, key: Key) -> Vec<String> {
        self.state.connect(self.now, key);
        self.out()
    }

    fn disconnect(&mut self, key: Key) -> Vec<String> {
        self.state.disconnect(self.now, key);
        self.out()
    }

    fn remove(&mut self, key: Key) -> Vec<String> {
        self.state.remove(self.now, key);
        self.out()
    }

    fn opens(&mut self) -> Vec<String> {
        self.hears(OPEN)
    }

    fn hears(&mut self, text: &str) -> Vec<String> {
        self.state.handle_packet(self.now, packet(text));
        self.out()
    }

    /// The transport fails with this message.
    fn fails(&mut self, message: &str) -> Vec<String> {
        self.state.handle_lost(self.now, false, Details::new(message));
        self.out()
    }

    /// The server closes the transport in order.
    fn is_closed(&mut self) -> Vec<String> {
        self.state.handle_lost(self.now, true, Details::new("websocket connection closed"));
        self.out()
    }

    /// Emits `name`; with an ack if it ends in `?`.
    fn emit(&mut self, key: Key, name: &str) -> Sent {
        let ack = name.ends_with('?').then_some(None);
        self.emit_as(key, Emit { ack, ..event(name) }).unwrap()
    }

    fn emit_as(&mut self, key: Key, emit: Emit) -> Result<Sent, EmitError> {
        let ticket = emit.name.decoded().into_owned();
        self.state.emit(self.now, key, emit, ticket, true).unwrap().0
    }

    /// Answers the last question for an auth object.
    fn auth(&mut self, key: Key, auth: Result<Option<&str>, &str>) -> Vec<String> {
        self.answer(self.question, key, auth)
    }

    /// Answers that question for an auth object.
    fn answer(&mut self, question: u64, key: Key, auth: Result<Option<&str>, &str>) -> Vec<String> {
        self.state.handle_auth(self.now, key, question, auth.map_err(str::to_owned));
        self.out()
    }

    /// Everything the machine wants, in the order in which a driver takes it.
    fn out(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        loop {
            let before = out.len();
            while let Some((key, output)) = self.state.poll_output() {
                out.push(self.output(key, output));
            }
            while let Some(action) = self.state.poll_action() {
                if let Action::Authenticate { question, .. } | Action::ReadArgs { question, .. } = &action {
                    self.question = *question;
                }
                if let (Action::Authenticate { key, question }, Some(auth)) = (&action, self.auth) {
                    self.state.handle_auth(self.now, *key, *question, auth.map_err(str::to_owned));
                } else {
                    out.push(format!("[{}]", doing(action)));
                }
            }
            while let Some(packet) = self.state.poll_probe_transmit() {
                out.push(format!("ws> {}", wire(&packet)));
            }
            while let Some(packet) = self.state.poll_transmit() {
                out.push(format!("> {}", wire(&packet)));
            }
            if out.len() == before && self.state.peek_output().is_none() {
                return out;
            }
        }
    }

    fn output(&self, key: Key, output: Output<String>) -> String {
        let namespace = self.state.socket(key).map_or("gone", |socket| socket.namespace());
        match output {
            Output::Lifecycle { event, status } => {
                assert_eq!(status.active, status.state != ConnectionState::Disconnected, "{event:?}");
                let inactive = if status.active { "" } else { ", inactive" };
                format!("{namespace} {}{inactive}", told(&event))
            }
            Output::Event { name, args, ack } => {
                let ack = ack.map(|ack| format!(" ?{ack}")).unwrap_or_default();
                format!("{namespace} event {}({}){ack}", name.as_json(), args.json())
            }
            Output::Outgoing { name, .. } => format!("{namespace} outgoing {}", name.as_json()),
            Output::Answer { ticket, result: Ok(args) } => format!("{ticket} answered {}", args.json()),
            Output::Answer { ticket, result: Err(error) } => format!("{ticket} failed: {error:?}"),
            Output::Lost { name, loss } => format!("{namespace} lost {}: {loss}", name.as_json()),
            Output::Done(ticket) => format!("done {ticket}"),
        }
    }
}

fn told(event: &Lifecycle) -> String {
    let name = event.name();
    match event {
        Lifecycle::Connect { id, recovered, transport } => {
            format!("{name} {id} {}{}", transport.name(), if *recovered { " recovered" } else { "" })
        }
        Lifecycle::ConnectError { details, data, source } => {
            let data = data.as_ref().map(|data| format!(" {data}")).unwrap_or_default();
            let source = format!("{source:?}").to_lowercase();
            format!("{name} ({source}) {}{data}", described(details))
        }
        Lifecycle::Ready => name.to_owned(),
        Lifecycle::SetupFailed { step, message, answer } => {
            let answer = answer.as_ref().map(|answer| format!(" [{}]", answer.json())).unwrap_or_default();
            format!("{name} {step} {message}{answer}")
        }
        Lifecycle::Disconnect { reason, details } => {
            let details = details.as_ref().map(|details| format!(": {}", described(details)));
            format!("{name} {}{}", reason.as_str(), details.unwrap_or_default())
        }
        Lifecycle::ReconnectAttempt { attempt } | Lifecycle::Reconnect { attempt } => {
            format!("{name} {attempt}")
        }
        Lifecycle::ReconnectError { attempt, message } => format!("{name} {attempt} {message}"),
        Lifecycle::ReconnectFailed { attempts } => format!("{name} {attempts}"),
        Lifecycle::Upgrade { transport } => format!("{name} {}", transport.name()),
    }
}

fn described(Details { message, code, .. }: &Details) -> String {
    format!("{message}{}", code.map(|code| format!(" {code}")).unwrap_or_default())
}

fn doing(action: Action) -> String {
    match action {
        Action::Open(kind) => format!("open {}", kind.name()),
        Action::Opened(Handshake { sid, max_payload, .. }) => {
            format!("opened {sid}{}", max_payload.map(|max| format!(" {max}")).unwrap_or_default())
        }
        Action::Probe { sid } => format!("probe {sid}"),
        Action::Pause => "pause".into(),
        Action::Switch => "switch".into(),
        Action::AbandonProbe => "abandon the probe".into(),
        Action::Close { graceful: false, last } => {
            assert_eq!(last, [], "what is dropped has no last words");
            "drop the transport".into()
        }
        Action::Close { graceful: true, last } => {
            let last: Vec<String> = last.iter().map(wire).collect();
            format!(
                "close the transport after {}",
                if last.is_empty() { "nothing".into() } else { last.join(" ") }
            )
        }
        Action::Authenticate { key, .. } => format!("authenticate {key}"),
        Action::ReadArgs { key, path, .. } => format!("read {} for {key}", path.display()),
    }
}

fn wire(packet: &Packet) -> String {
    match packet.encode() {
        Frame::Text(text) => text.to_string(),
        Frame::Binary(bytes) => format!("bytes {:?}", &bytes[..]),
    }
}

fn packet(text: &str) -> Packet {
    Packet::decode_text(text.into()).unwrap()
}

fn event(name: &str) -> Emit {
    Emit { name: Name::new(name), args: Args::default(), ack: None, volatile: false, sender: 9 }
}

/// Those of [`World::new`].
pub(in crate::manager) fn settings() -> Settings {
    Settings {
        transport: crate::transport::Settings {
            revision: Revision::V4,
            scheme: crate::transport::Scheme::Http,
            host: "localhost".into(),
            port: 1,
            path: "/socket.io/".into(),
            query: Vec::new(),
            headers: http::HeaderMap::new(),
            with_credentials: true,
            protocols: Vec::new(),
            max_payload: 1 << 20,
            tls: crate::transport::TlsSettings::default(),
            via: crate::transport::Via::Direct,
        },
        transports: vec![TransportKind::WebSocket],
        try_all_transports: true,
        upgrade: true,
        remember_upgrade: false,
        parser: crate::socketio::Parser::Json,
        reconnection: true,
        reconnection_attempts: None,
        backoff: backoff::Settings { min: Duration::from_secs(1), max: Duration::from_secs(5), jitter: 0.0 },
        timeout: Duration::from_secs(20),
        stable_after: Duration::from_secs(10),
    }
}

fn socket_settings(namespace: &'static str) -> socket::Settings {
    socket::Settings {
        namespace: namespace.into(),
        parser: crate::socketio::Parser::Json,
        timeout: Duration::from_secs(20),
        ack_timeout: None,
        retries: 0,
        send_buffer: 1 << 20,
        script: Arc::default(),
    }
}
