//! Each test is a transcript: what comes in, and everything that comes out: events first, then packets (`>`).

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::engineio::CloseReason;
use crate::engineio::{Frame, Message};
use crate::socketio::Decoder;
use crate::socketio::Parser;

mod emits;
mod joining;
mod limits;
mod recovery;
mod retries;

/// What a test begins with.
type Scene = fn() -> Peer;

const NOTHING: [&str; 0] = [];
const JOINED: &str = r#"0/chat,{"sid":"A"}"#;

/// A socket for `/chat` between its Manager and its server; tickets are the names of the events.
struct Peer {
    start: Instant,
    now: Instant,
    socket: Socket<String>,
}

impl Peer {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let start = Instant::now();
        Self { start, now: start, socket: Socket::new(settings, 1, None) }
    }

    fn joining() -> Self {
        let mut peer = Self::new();
        peer.socket.connect();
        assert_eq!(peer.join(None), ["> 0/chat,"]);
        peer
    }

    fn joined() -> Self {
        let mut peer = Self::joining();
        assert_eq!(peer.hears(JOINED), ["connect A"]);
        peer
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// The clock stands at this second, and deadlines are looked at.
    fn clock(&mut self, seconds: u64) -> Vec<String> {
        self.now = self.at(seconds);
        self.socket.handle_timeout(self.now);
        self.out()
    }

    fn join(&mut self, auth: Option<&str>) -> Vec<String> {
        self.socket.join(self.now, auth).unwrap();
        self.out()
    }

    fn join_and_answer(&mut self) -> Vec<String> {
        self.socket.connect();
        self.join(None);
        self.hears(JOINED)
    }

    fn decode(&self, text: &str) -> Body {
        let message = Message::Text(text.into());
        let packet = Decoder::new(Parser::Json, 10, usize::MAX).decode(message).unwrap().unwrap();
        assert_eq!(packet.namespace, *self.socket.namespace());
        packet.body
    }

    fn hears(&mut self, text: &str) -> Vec<String> {
        let body = self.decode(text);
        self.socket.handle_packet(self.now, body).unwrap();
        self.out()
    }

    fn loses(&mut self, reason: CloseReason) -> Vec<String> {
        self.socket.handle_closed(DisconnectReason::Closed(reason), Some(&Details::new("lost")));
        self.out()
    }

    fn emit(&mut self, emit: Emit) -> String {
        self.emit_writable(emit, true)
    }

    fn emit_writable(&mut self, emit: Emit, writable: bool) -> String {
        let ticket = emit.name.decoded().into_owned();
        let (outcome, ticket) = self.socket.emit(self.now, emit, ticket, writable);
        let outcome = match outcome {
            Ok(sent) => format!("{sent:?}").to_lowercase(),
            Err(error) => error.to_string(),
        };
        if ticket.is_some() { format!("{outcome}, ticket back") } else { outcome }
    }

    fn answer(&mut self, number: u64, args: &str) -> Vec<String> {
        match self.socket.answer(number, Args::from_array(args.into()).unwrap()) {
            Ok(()) => self.out(),
            Err(AnswerError::Unknown) => vec!["unknown".into()],
            Err(AnswerError::TooLarge(error)) => vec![error.to_string()],
        }
    }

    fn out(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(event) = self.socket.poll_event() {
            out.push(line(event));
        }
        while let Some(transmit) = self.socket.poll_transmit() {
            let mut messages = Vec::new();
            match transmit {
                Transmit::Packet(packet) => packet.encode(Parser::Json, &mut messages),
                Transmit::Message(message) => messages.push(message),
            }
            for message in messages {
                match crate::engineio::Packet::Message(message).encode() {
                    Frame::Text(text) => out.push(format!("> {}", &text[1..])),
                    Frame::Binary(bytes) => out.push(format!("> {:?}", &bytes[..])),
                }
            }
        }
        out
    }
}

fn line(event: Event<String>) -> String {
    match event {
        Event::ReadArgs(path) => format!("read {}", path.display()),
        Event::Ready => "ready".into(),
        Event::SetupFailed { step, message, answer } => {
            let answer = answer.map(|answer| format!(" [{}]", answer.json())).unwrap_or_default();
            format!("setup failed at {step}: {message}{answer}")
        }
        Event::Connect { id, recovered } => {
            format!("connect {id}{}", if recovered { " recovered" } else { "" })
        }
        Event::Refused { message, data } => {
            format!("refused {message}{}", data.map(|data| format!(" {data}")).unwrap_or_default())
        }
        Event::JoinFailed(details) => format!("join failed {}", details.message),
        Event::Disconnect { reason, details } => {
            let details = details.map(|details| format!(": {}", details.message));
            format!("disconnect {}{}", reason.as_str(), details.unwrap_or_default())
        }
        Event::Event { name, args, ack } => {
            let ack = ack.map(|ack| format!(" ?{ack}")).unwrap_or_default();
            format!("event {}({}){ack}", name.as_json(), args.json())
        }
        Event::Answer { ticket, result: Ok(args) } => format!("answer {ticket}: {}", args.json()),
        Event::Answer { ticket, result: Err(error) } => {
            format!("answer {ticket}: {}", format!("{error:?}").to_lowercase())
        }
        Event::Lost { name, loss } => format!("lost {}: {loss}", name.as_json()),
        Event::Outgoing { name, sender, .. } => format!("outgoing {} by {sender}", name.as_json()),
    }
}

fn settings() -> Settings {
    Settings {
        namespace: "/chat".into(),
        parser: Parser::Json,
        timeout: Duration::from_secs(20),
        ack_timeout: None,
        retries: 0,
        send_buffer: 1 << 20,
        script: Arc::default(),
    }
}

fn event(name: &str) -> Emit {
    Emit { name: Name::new(name), args: Args::default(), ack: None, volatile: false, sender: 9 }
}

/// An emit with an ack, and its timeout in seconds where it has one of its own.
fn asking(name: &str, timeout: Option<u64>) -> Emit {
    Emit { ack: Some(timeout.map(Duration::from_secs)), ..event(name) }
}
