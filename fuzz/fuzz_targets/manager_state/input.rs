//! What may befall a Manager, and how it is set up.

use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::Bytes;
use bytestring::ByteString;
use siod::engineio::{Frame, Message, Packet, Revision, TransportKind};
use siod::manager::state::Returns;
use siod::manager::{self, backoff};
use siod::socketio::{self, Args, Body, Name, Parser, Step, StepArgs, socket};
use siod::transport;

/// The namespaces that a Manager may have sockets for; the server knows another one.
pub(crate) const NAMESPACES: [&str; 3] = ["/", "/a", "/b"];
const STRANGE: &str = "/strange";

#[derive(Arbitrary, Debug)]
pub(crate) struct Input {
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Happening>,
}

#[derive(Arbitrary, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are the options of a connection")]
pub(crate) struct Setup {
    old: bool,
    msgpack: bool,
    transports: Transports,
    try_all_transports: bool,
    upgrade: bool,
    remember_upgrade: bool,
    reconnection: bool,
    attempts: Option<u8>,
    jitter: bool,
    ack_timeout: Option<u8>,
    retries: u8,
    send_buffer: u8,
    script: Vec<Line>,
    refused: bool,
    kicked: bool,
    /// Whoever is asked for an auth object has none, and says so at once.
    pub(crate) anonymous: bool,
    pub(crate) seed: u64,
}

#[derive(Arbitrary, Debug)]
enum Transports {
    WebSocket,
    Polling,
    WebSocketFirst,
    PollingFirst,
}

/// A step of the script.
#[derive(Arbitrary, Debug)]
struct Line {
    from_file: bool,
    expects: bool,
}

/// A socket, by its namespace.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) enum Which {
    Root,
    A,
    B,
}

#[derive(Arbitrary, Debug)]
pub(crate) enum Happening {
    /// Whatever is still to happen until this socket is connected.
    GoesWell { socket: Which, max_payload: Option<u8> },
    /// A program, or the daemon, wants something.
    Wants(Want),
    /// The driver sees something, or does.
    Sees(Sight),
    /// The server says something of a namespace.
    HearsOf { namespace: Option<Which>, what: Said },
    /// It says something else.
    Hears(Word),
}

#[derive(Arbitrary, Debug)]
pub(crate) enum Want {
    Add {
        socket: Which,
        resumes: bool,
    },
    Connect(Which),
    Disconnect(Which),
    Remove(Which),
    Emit {
        socket: Which,
        emit: Emitted,
    },
    /// The last question of the server, or one that many before it.
    Answer {
        socket: Which,
        back: u8,
        size: u8,
    },
    Watch {
        socket: Which,
        watched: bool,
    },
    AbandonAcks,
    Suspend,
}

#[derive(Arbitrary, Debug)]
pub(crate) enum Sight {
    Time {
        milliseconds: u16,
    },
    Deadline,
    Full,
    Room,
    Auth {
        socket: Which,
        auth: Auth,
    },
    Args {
        socket: Which,
        args: FromFile,
    },
    Breaks,
    Lost {
        closed: bool,
        retry_after: Option<u8>,
    },
    Paused,
    ProbeOpened,
    ProbePong,
    ProbeHears(Engine),
    ProbeFails,
    /// Everything of the probe, to the end.
    Upgrade,
}

#[derive(Arbitrary, Debug)]
pub(crate) enum Word {
    Handshake { upgrades: bool, interval: u8, max_payload: Option<u8> },
    Engine(Engine),
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
pub(crate) struct Emitted {
    size: u8,
    ack: Ack,
    volatile: bool,
    binary: bool,
    pub(crate) writable: bool,
}

/// Whether an answer is wanted, and when.
#[derive(Arbitrary, Debug)]
enum Ack {
    None,
    AtAnyTime,
    Within { tenths: u8 },
}

#[derive(Arbitrary, Debug)]
pub(crate) enum Auth {
    None,
    Some { size: u8 },
    Fails,
}

#[derive(Arbitrary, Debug)]
pub(crate) enum FromFile {
    Some,
    NoArray,
    Fails,
}

/// A packet that is no message.
#[derive(Arbitrary, Debug)]
pub(crate) enum Engine {
    Open,
    Close,
    Ping,
    Pong,
    Upgrade,
    Noop,
}

/// What the server says of a namespace: mostly what changes nothing, as servers do.
#[derive(Arbitrary, Debug)]
pub(crate) enum Said {
    Event {
        id: Option<u8>,
        size: u8,
        binary: bool,
        offset: bool,
    },
    /// The last emit that wants to be answered, or one that many before it.
    Answers {
        back: Option<u8>,
        good: bool,
    },
    Turn(Turn),
}

/// What changes whether a socket is connected.
#[derive(Arbitrary, Debug)]
pub(crate) enum Turn {
    LetsIn { private: Option<bool> },
    LetsInAsOfOld,
    Refuses,
    RefusesWithText,
    RefusesWithObject,
    SendsAway,
}

impl Setup {
    pub(crate) fn revision(&self) -> Revision {
        if self.old { Revision::V3 } else { Revision::V4 }
    }

    pub(crate) fn parser(&self) -> Parser {
        // Protocol 4 knows only JSON here.
        if self.msgpack && !self.old { Parser::Msgpack } else { Parser::Json }
    }

    pub(crate) fn returns(&self) -> Returns {
        Returns { refused: self.refused, kicked: self.kicked }
    }

    pub(crate) fn retries(&self) -> u32 {
        u32::from(self.retries % 3)
    }

    pub(crate) fn send_buffer(&self) -> usize {
        usize::from(self.send_buffer) * 8
    }

    pub(crate) fn manager(&self) -> manager::Settings {
        manager::Settings {
            transport: transport::Settings {
                revision: self.revision(),
                scheme: transport::Scheme::Http,
                host: "localhost".into(),
                port: 1,
                path: "/socket.io/".into(),
                query: Vec::new(),
                headers: http::HeaderMap::new(),
                with_credentials: true,
                protocols: Vec::new(),
                max_payload: 2000,
                tls: transport::TlsSettings::default(),
                via: transport::Via::Direct,
            },
            transports: match self.transports {
                Transports::WebSocket => vec![TransportKind::WebSocket],
                Transports::Polling => vec![TransportKind::Polling],
                Transports::WebSocketFirst => vec![TransportKind::WebSocket, TransportKind::Polling],
                Transports::PollingFirst => vec![TransportKind::Polling, TransportKind::WebSocket],
            },
            try_all_transports: self.try_all_transports,
            upgrade: self.upgrade,
            remember_upgrade: self.remember_upgrade,
            parser: self.parser(),
            reconnection: self.reconnection,
            reconnection_attempts: self.attempts.map(u32::from),
            backoff: backoff::Settings {
                min: Duration::from_secs(1),
                max: Duration::from_secs(5),
                jitter: if self.jitter { 1.0 } else { 0.0 },
            },
            timeout: Duration::from_secs(20),
            stable_after: Duration::from_secs(10),
        }
    }

    pub(crate) fn socket(&self, namespace: &'static str) -> socket::Settings {
        socket::Settings {
            namespace: namespace.into(),
            parser: self.parser(),
            timeout: Duration::from_secs(20),
            ack_timeout: self.ack_timeout.map(|seconds| Duration::from_secs(seconds.into())),
            retries: self.retries(),
            send_buffer: self.send_buffer(),
            script: self.script.iter().take(3).map(Line::step).collect(),
        }
    }
}

impl Line {
    fn step(&self) -> Step {
        Step {
            event: Name::new("step"),
            args: if self.from_file {
                StepArgs::File("args.json".into())
            } else {
                StepArgs::Fixed(Args::default())
            },
            expect: self.expects.then(|| r#"{"ok":true}"#.into()),
            timeout: Duration::from_secs(7),
        }
    }
}

impl Which {
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Root => 0,
            Self::A => 1,
            Self::B => 2,
        }
    }
}

impl Emitted {
    pub(crate) fn emit(&self) -> socket::Emit {
        socket::Emit {
            name: Name::new("emitted"),
            args: args(self.size, self.binary),
            ack: match self.ack {
                Ack::None => None,
                Ack::AtAnyTime => Some(None),
                Ack::Within { tenths } => Some(Some(Duration::from_millis(100 * u64::from(tenths)))),
            },
            volatile: self.volatile,
            sender: 9,
        }
    }

    /// Whether somebody waits for the answer.
    pub(crate) fn waits(&self) -> bool {
        !matches!(self.ack, Ack::None)
    }
}

impl Auth {
    pub(crate) fn said(&self) -> Result<Option<String>, String> {
        match self {
            Self::None => Ok(None),
            Self::Some { size } => Ok(Some(format!(r#"{{"token":"{}"}}"#, "t".repeat(usize::from(*size))))),
            Self::Fails => Err("no auth object".to_owned()),
        }
    }
}

impl FromFile {
    pub(crate) fn said(&self) -> Result<&str, String> {
        match self {
            Self::Some => Ok("[1, {}]"),
            Self::NoArray => Ok("{}"),
            Self::Fails => Err("no file".to_owned()),
        }
    }
}

impl Engine {
    pub(crate) fn packet(&self) -> Packet {
        match self {
            Self::Open => Packet::Open("{}".into()),
            Self::Close => Packet::Close,
            Self::Ping => Packet::Ping("".into()),
            Self::Pong => Packet::Pong("".into()),
            Self::Upgrade => Packet::Upgrade,
            Self::Noop => Packet::Noop,
        }
    }
}

/// The handshake, as a packet.
pub(crate) fn handshake(upgrades: bool, interval: u8, max_payload: Option<u8>) -> Packet {
    let upgrades = if upgrades { r#"["websocket"]"# } else { "[]" };
    let max_payload = max_payload.map(|max| format!(r#","maxPayload":{}"#, usize::from(max) * 4));
    let interval = u32::from(interval) * 100 + 1;
    let max_payload = max_payload.unwrap_or_default();
    Packet::Open(
        format!(
            r#"{{"sid":"S","upgrades":{upgrades},"pingInterval":{interval},"pingTimeout":5000{max_payload}}}"#
        )
        .into(),
    )
}

/// The messages in which the server says it.
pub(crate) fn messages(namespace: Option<Which>, what: &Said, last_id: u64, parser: Parser) -> Vec<Message> {
    let json = |text: &'static str| Some(ByteString::from_static(text));
    let body = match what {
        Said::Turn(Turn::LetsIn { private: None }) => Body::Connect(json(r#"{"sid":"I"}"#)),
        Said::Turn(Turn::LetsIn { private: Some(true) }) => Body::Connect(json(r#"{"sid":"I","pid":"P"}"#)),
        Said::Turn(Turn::LetsIn { private: Some(false) }) => Body::Connect(json(r#"{"sid":"J","pid":"Q"}"#)),
        Said::Turn(Turn::LetsInAsOfOld) => Body::Connect(None),
        Said::Turn(Turn::Refuses) => Body::ConnectError(None),
        Said::Turn(Turn::RefusesWithText) => Body::ConnectError(json(r#""no""#)),
        Said::Turn(Turn::RefusesWithObject) => {
            Body::ConnectError(json(r#"{"message":"no","data":{"code":7}}"#))
        }
        Said::Turn(Turn::SendsAway) => Body::Disconnect,
        Said::Event { id, size, binary, offset } => Body::Event {
            id: id.map(u64::from),
            name: Name::new("said"),
            args: if *offset {
                Args::from_array(r#"[1,"offset"]"#.into()).expect("an array")
            } else {
                args(*size, *binary)
            },
        },
        Said::Answers { back, good } => {
            let array = if *good { r#"[{"ok":true}]"# } else { "[0]" };
            let id = back.map(|back| last_id.wrapping_sub(u64::from(back % 4)));
            Body::Ack { id, args: Args::from_array(array.into()).expect("an array") }
        }
    };
    let namespace = namespace.map_or(STRANGE, |which| NAMESPACES[which.index()]);
    let mut messages = Vec::new();
    socketio::Packet { namespace: namespace.into(), body }.encode(parser, &mut messages);
    messages
}

/// A message as it travels, for those who look at it there.
pub(crate) fn frame(message: &Message) -> Frame {
    Packet::Message(message.clone()).encode()
}

/// One argument of about this size.
pub(crate) fn args(size: u8, binary: bool) -> Args {
    let size = usize::from(size);
    let array = if binary {
        // Three bytes each.
        format!(r#"[{{"$binary":"{}"}},{{"$binary":"AQID"}}]"#, "AAAA".repeat(size / 3))
    } else {
        format!(r#"["{}"]"#, "x".repeat(size))
    };
    Args::from_consumer(&array, binary, 2).expect("an array")
}

/// Bytes that are what the server sent instead of a packet.
pub(crate) fn garbage(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}
