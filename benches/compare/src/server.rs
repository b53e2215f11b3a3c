//! A fast Socket.IO server that can do only what the measurements need: WebSocket, one namespace, answers to every
//! event that asks for one, and floods that put many frames into a write.
//!
//! It is steered by lines on its stdin, each answered by a line: `flood COUNT SIZE` sends everybody COUNT events with a
//! text of SIZE bytes; `pace RATE COUNT SIZE` sends them at RATE a second, with the time; `greet COUNT SIZE` floods
//! whoever joins from then on, with the time at which it came; `wait N` answers once N have joined; `restart MS` sends
//! what is still to be sent, says goodbye, and listens again on the same port MS later. The end of stdin ends it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::wire::{self, CLOSE, EVENT, EVENT_END, Inbox, Outbox, now_ns, push_frame};

const STDIN: u64 = 0;
const LISTENER: u64 = 1;
const PACE: u64 = 2;
const REOPEN: u64 = 3;
const FIRST_CONNECTION: u64 = 16;

/// Bytes that are made ahead of a write.
const AHEAD: usize = 256 * 1024;

/// Far longer than a measurement: pings would be noise.
const OPEN: &str =
    r#"0{"sid":"s","upgrades":[],"pingInterval":300000,"pingTimeout":300000,"maxPayload":100000000}"#;

pub(crate) fn run() -> Result<()> {
    let mut server = Server::start()?;
    println!("{}", server.address.port());
    server.serve()
}

#[derive(Clone, Copy)]
struct Flood {
    next: u64,
    count: u64,
    size: usize,
    time: u64,
}

impl Flood {
    fn new(count: u64, size: usize) -> Self {
        Self { next: 0, count, size, time: 0 }
    }

    fn is_over(&self) -> bool {
        self.next == self.count
    }

    fn push(&mut self, out: &mut Vec<u8>, text: &[u8]) {
        let (mut number, mut time) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (number, time) = (number.format(self.next), time.format(self.time));
        let parts = [EVENT, number.as_bytes(), b",", time.as_bytes(), b",\"", &text[..self.size], EVENT_END];
        push_frame(out, None, &parts);
        self.next += 1;
    }
}

struct Connection {
    stream: TcpStream,
    came: u64,
    inbox: Inbox,
    outbox: Outbox,
    interest: EpollFlags,
    upgraded: bool,
    joined: bool,
    flood: Flood,
    /// It is told goodbye once all is sent.
    leaving: bool,
}

struct Server {
    epoll: Epoll,
    address: SocketAddr,
    listener: Option<TcpListener>,
    pace_timer: TimerFd,
    reopen_timer: TimerFd,
    connections: BTreeMap<u64, Connection>,
    next_token: u64,
    /// The events that are paced.
    pace: Flood,
    greeting: Option<(u64, usize)>,
    awaited: Option<usize>,
    text: Vec<u8>,
    commands: Vec<u8>,
}

impl Server {
    fn start() -> Result<Self> {
        let timer = || TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut server = Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            address: listener.local_addr()?,
            listener: None,
            pace_timer: timer()?,
            reopen_timer: timer()?,
            connections: BTreeMap::new(),
            next_token: FIRST_CONNECTION,
            pace: Flood::new(0, 0),
            greeting: None,
            awaited: None,
            text: Vec::new(),
            commands: Vec::new(),
        };
        server.watch(&io::stdin(), STDIN)?;
        server.watch(&server.pace_timer, PACE)?;
        server.watch(&server.reopen_timer, REOPEN)?;
        server.listen(listener)?;
        Ok(server)
    }

    fn watch(&self, what: &impl AsFd, token: u64) -> Result<()> {
        Ok(self.epoll.add(what, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    fn listen(&mut self, listener: TcpListener) -> Result<()> {
        listener.set_nonblocking(true)?;
        self.watch(&listener, LISTENER)?;
        self.listener = Some(listener);
        Ok(())
    }

    fn serve(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                match event.data() {
                    STDIN if !self.read_commands()? => return Ok(()),
                    STDIN => {}
                    LISTENER => self.accept()?,
                    PACE => self.keep_pace()?,
                    REOPEN => self.reopen()?,
                    token => self.serve_connection(token, event.events())?,
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        while let Some(listener) = &self.listener {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if wire::is_later(&error) => break,
                Err(error) => return Err(error.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let token = self.next_token;
            self.next_token += 1;
            self.watch(&stream, token)?;
            let connection = Connection {
                stream,
                came: now_ns(),
                inbox: Inbox::new(wire::READ_REQUESTS),
                outbox: Outbox::default(),
                interest: EpollFlags::EPOLLIN,
                upgraded: false,
                joined: false,
                flood: Flood::new(0, 0),
                leaving: false,
            };
            self.connections.insert(token, connection);
        }
        Ok(())
    }

    fn serve_connection(&mut self, token: u64, ready: EpollFlags) -> Result<()> {
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        let mut is_over = false;
        if ready.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            match connection.inbox.fill(&mut connection.stream) {
                Ok(Some(0)) | Err(_) => is_over = true,
                Ok(None) => {}
                Ok(Some(_)) => is_over = !connection.take(self.greeting)?,
            }
        }
        let has_to_go = is_over || !connection.send(&self.text);
        if !has_to_go {
            connection.follow(&self.epoll, token)?;
        } else if let Some(connection) = self.connections.remove(&token) {
            self.epoll.delete(&connection.stream)?;
        }
        self.answer_wait();
        Ok(())
    }

    /// False at the end of stdin.
    fn read_commands(&mut self) -> Result<bool> {
        // As large as the buffer of stdin at least, so that nothing stays behind in that.
        let mut buffer = [0; 16 * 1024];
        let count = io::stdin().lock().read(&mut buffer)?;
        self.commands.extend_from_slice(&buffer[..count]);
        while let Some(end) = memchr::memchr(b'\n', &self.commands) {
            let line: Vec<u8> = self.commands.drain(..=end).collect();
            self.command(std::str::from_utf8(&line)?.trim_end())?;
        }
        Ok(count > 0)
    }

    fn command(&mut self, line: &str) -> Result<()> {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("in the command {line:?}"))?;
        match (name, &numbers[..]) {
            ("flood", &[count, size]) => {
                let size = self.need_text(size)?;
                self.start_floods(Flood::new(count, size))?;
            }
            ("pace", &[rate, count, size]) => {
                self.pace = Flood::new(count, self.need_text(size)?);
                let interval = TimeSpec::from_duration(Duration::from_nanos(1_000_000_000 / rate.max(1)));
                self.pace_timer.set(Expiration::Interval(interval), TimerSetTimeFlags::empty())?;
            }
            ("greet", &[count, size]) => self.greeting = Some((count, self.need_text(size)?)),
            ("wait", &[count]) => {
                self.awaited = Some(usize::try_from(count)?);
                self.answer_wait();
                return Ok(());
            }
            ("restart", &[pause]) => self.restart(Duration::from_millis(pause))?,
            _ => bail!("there is no command {line:?}"),
        }
        say(name)
    }

    fn need_text(&mut self, size: u64) -> Result<usize> {
        let size = usize::try_from(size)?;
        if self.text.len() < size {
            self.text.resize(size, b'x');
        }
        Ok(size)
    }

    fn answer_wait(&mut self) {
        let joined = self.connections.values().filter(|connection| connection.joined).count();
        if self.awaited.is_some_and(|awaited| awaited <= joined) {
            self.awaited = None;
            // Whoever waited is gone if nobody reads it.
            let _gone = say("wait");
        }
    }

    fn start_floods(&mut self, flood: Flood) -> Result<()> {
        self.connections
            .values_mut()
            .filter(|connection| connection.joined)
            .for_each(|connection| connection.flood = flood);
        self.send_all()
    }

    fn send_all(&mut self) -> Result<()> {
        let tokens: Vec<u64> = self.connections.keys().copied().collect();
        tokens.into_iter().try_for_each(|token| self.serve_connection(token, EpollFlags::empty()))
    }

    fn keep_pace(&mut self) -> Result<()> {
        let mut expired = [0; 8];
        match nix::unistd::read(&self.pace_timer, &mut expired) {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for _ in 0..u64::from_ne_bytes(expired).min(self.pace.count - self.pace.next) {
            self.pace.time = now_ns();
            let mut event = Vec::with_capacity(self.pace.size + 64);
            self.pace.push(&mut event, &self.text);
            for connection in self.connections.values_mut().filter(|connection| connection.joined) {
                connection.outbox.bytes.extend_from_slice(&event);
            }
            self.send_all()?;
        }
        if self.pace.is_over() {
            self.pace_timer.unset()?;
        }
        Ok(())
    }

    fn restart(&mut self, pause: Duration) -> Result<()> {
        if let Some(listener) = self.listener.take() {
            self.epoll.delete(&listener)?;
        }
        self.connections.values_mut().for_each(|connection| {
            connection.leaving = true;
            connection.joined = false;
        });
        let pause = TimeSpec::from_duration(pause.max(Duration::from_nanos(1)));
        self.reopen_timer.set(Expiration::OneShot(pause), TimerSetTimeFlags::empty())?;
        self.send_all()
    }

    fn reopen(&mut self) -> Result<()> {
        self.reopen_timer.unset()?;
        self.listen(TcpListener::bind(self.address)?)
    }
}

impl Connection {
    /// Takes what was read; false when the peer says goodbye.
    fn take(&mut self, greeting: Option<(u64, usize)>) -> Result<bool> {
        if !self.upgraded {
            let Some(end) = memchr::memmem::find(self.inbox.bytes(), b"\r\n\r\n") else { return Ok(true) };
            let answer = upgrade(&self.inbox.bytes()[..end + 2])?;
            self.inbox.take(end + 4);
            self.outbox.bytes.extend_from_slice(answer.as_bytes());
            push_frame(&mut self.outbox.bytes, None, &[OPEN.as_bytes()]);
            self.upgraded = true;
        }
        while let Some((opcode, payload)) = self.inbox.next_frame() {
            match payload {
                _ if opcode == CLOSE => return Ok(false),
                b"1" | b"41" => return Ok(false),
                [b'4', b'0', ..] => {
                    push_frame(&mut self.outbox.bytes, None, &[br#"40{"sid":"n"}"#]);
                    self.joined = true;
                    if let Some((count, size)) = greeting {
                        self.flood = Flood { time: self.came, ..Flood::new(count, size) };
                    }
                }
                [b'4', b'2', event @ ..] => answer(event, &mut self.outbox.bytes)?,
                [b'2', rest @ ..] => push_frame(&mut self.outbox.bytes, None, &[b"3", rest]),
                [b'3', ..] => {}
                other => bail!("the server does not understand {:?}", String::from_utf8_lossy(other)),
            }
        }
        Ok(true)
    }

    /// Makes and writes until the peer takes no more; false when the connection has failed.
    fn send(&mut self, text: &[u8]) -> bool {
        loop {
            while !self.flood.is_over() && self.outbox.len() < AHEAD {
                self.flood.push(&mut self.outbox.bytes, text);
            }
            if self.outbox.flush(&mut self.stream).is_err() {
                return false;
            }
            if self.flood.is_over() || !self.outbox.is_empty() {
                break;
            }
        }
        if self.leaving && self.outbox.is_empty() {
            // The peer's end is still waited for, or what it has yet to read might be thrown away.
            let _gone = self.stream.shutdown(Shutdown::Write);
            self.leaving = false;
        }
        true
    }

    /// Waits for what it has to wait for.
    fn follow(&mut self, epoll: &Epoll, token: u64) -> Result<()> {
        let interest = self.outbox.interest();
        if interest != self.interest {
            self.interest = interest;
            epoll.modify(&self.stream, &mut EpollEvent::new(interest, token))?;
        }
        Ok(())
    }
}

/// `7["echo",…]`, the rest of an event: whatever asks for an answer gets its arguments back.
fn answer(event: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let (_, array) = wire::split_number(event);
    let id = &event[..event.len() - array.len()];
    if id.is_empty() {
        return Ok(());
    }
    let name = array.strip_prefix(b"[\"").and_then(|rest| Some((rest, memchr::memchr(b'"', rest)?)));
    let (rest, end) = name.context("an event without a name")?;
    let args = rest[end + 1..].strip_prefix(b",").unwrap_or(&rest[end + 1..]);
    push_frame(out, None, &[b"43", id, b"[", args]);
    Ok(())
}

fn upgrade(head: &[u8]) -> Result<String> {
    let head = std::str::from_utf8(head)?;
    let key = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .map(|(_, value)| value.trim())
        .with_context(|| format!("this is no WebSocket's handshake: {head}"))?;
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(key)
    ))
}

fn accept_key(key: &str) -> String {
    let mut sha = sha1_smol::Sha1::new();
    sha.update(key.as_bytes());
    sha.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(sha.digest().bytes())
}

fn say(word: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{word}")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_that_of_the_standard() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn events_that_ask_are_answered() {
        for (event, packet) in [
            (r#"7["echo",1,"x"]"#, Some(r#"437[1,"x"]"#)),
            (r#"0["echo"]"#, Some("430[]")),
            (r#"["echo",1]"#, None),
        ] {
            let (mut out, mut expected) = (Vec::new(), Vec::new());
            answer(event.as_bytes(), &mut out).unwrap();
            if let Some(packet) = packet {
                push_frame(&mut expected, None, &[packet.as_bytes()]);
            }
            assert_eq!(out, expected, "{event}");
        }
    }
}
