//! The splice relay, which is the yardstick: what sharing a connection costs at the least.
//!
//! It reads the upstream WebSocket, cuts the frames, pastes the envelope around them and writes the lines to the Unix
//! sockets. It parses and checks nothing: what it reads must be exactly what the fast server, the official server and
//! the load generator write. There are no reconnection, filters, replay or limits. Whoever falls behind holds
//! everybody up.
//!
//! One thread and one epoll. All that one read of the WebSocket brings becomes one buffer, which is written to every
//! program with one call and is copied for nobody; all that programs emit in one turn goes out with one write.

use std::collections::VecDeque;
use std::io::{IoSlice, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;

use crate::wire::{self, CLOSE, Inbox, NOTICE, Outbox, push_frame, push_number};

const UPSTREAM: u64 = 0;
const LISTENER: u64 = 1;
const FIRST_PROGRAM: u64 = 16;

/// Bytes that may wait for one program before the WebSocket is not read any more.
const BEHIND: usize = 4 * 1024 * 1024;

/// Any key is as good as another to a server; what counts is that the bytes are masked.
const KEY: [u8; 4] = [0x51, 0x0d, 0xb3, 0x7e];

const NAME: &[u8] = br#","event":""#;
const ARGS: &[u8] = br#"","args":["#;

pub(crate) fn run(port: u16, socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    listener.set_nonblocking(true)?;
    let mut upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    upstream.set_nodelay(true)?;
    let inbox = join(&mut upstream, port)?;
    upstream.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&upstream, EpollEvent::new(EpollFlags::EPOLLIN, UPSTREAM))?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut relay = Relay {
        epoll,
        listener,
        upstream,
        inbox,
        outbox: Outbox::default(),
        interest: EpollFlags::EPOLLIN,
        programs: Slab::new(),
        lives: 0,
        seq: 0,
        questions: Vec::new(),
        unused: Vec::new(),
        lines: Rc::default(),
        spare: None,
        behind: 0,
    };
    relay.serve()
}

/// The handshakes of all three protocols; gives what was read beyond them.
fn join(upstream: &mut TcpStream, port: u16) -> Result<Inbox> {
    let head = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    upstream.write_all(head.as_bytes())?;
    let mut inbox = Inbox::new(wire::READ);
    let end = loop {
        match memchr::memmem::find(inbox.bytes(), b"\r\n\r\n") {
            Some(end) => break end,
            None if inbox.fill(upstream)? == Some(0) => bail!("the server has hung up"),
            None => {}
        }
    };
    inbox.take(end + 4);
    expect(upstream, &mut inbox, b"0{")?;
    let mut out = Vec::new();
    push_frame(&mut out, Some(KEY), &[b"40"]);
    upstream.write_all(&out)?;
    expect(upstream, &mut inbox, b"40{")?;
    Ok(inbox)
}

fn expect(upstream: &mut TcpStream, inbox: &mut Inbox, start: &[u8]) -> Result<()> {
    loop {
        if let Some((_, packet)) = inbox.next_frame() {
            ensure!(packet.starts_with(start), "the server said {:?}", String::from_utf8_lossy(packet));
            return Ok(());
        }
        if inbox.fill(upstream)? == Some(0) {
            bail!("the server has hung up");
        }
    }
}

fn token_of(key: usize) -> u64 {
    FIRST_PROGRAM + key as u64
}

fn key_of(token: u64) -> Result<usize> {
    Ok(usize::try_from(token - FIRST_PROGRAM)?)
}

struct Program {
    life: u64,
    stream: UnixStream,
    /// Only while part of a line is in it.
    inbox: Option<Inbox>,
    subscribed: bool,
    /// Answers of this turn.
    answers: Vec<u8>,
    /// What the socket did not take, and how much of the first is out.
    waiting: VecDeque<Rc<Vec<u8>>>,
    sent: usize,
    waiting_bytes: usize,
}

/// Who asked, and under which id.
struct Question {
    program: usize,
    /// A new one for each, so that no answer goes to whoever came to the place of one that left.
    life: u64,
    id: Vec<u8>,
}

struct Relay {
    epoll: Epoll,
    listener: UnixListener,
    upstream: TcpStream,
    inbox: Inbox,
    outbox: Outbox,
    interest: EpollFlags,
    programs: Slab<Program>,
    lives: u64,
    seq: u64,
    /// By their number upstream, which is used again.
    questions: Vec<Question>,
    unused: Vec<usize>,
    /// The lines of this turn, made in a buffer that nobody else holds any more.
    lines: Rc<Vec<u8>>,
    /// For the next program that says something.
    spare: Option<Inbox>,
    /// Programs that are too far behind.
    behind: usize,
}

impl Relay {
    fn serve(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 1024];
        let mut answered: Vec<usize> = Vec::new();
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                match event.data() {
                    UPSTREAM if event.events().contains(EpollFlags::EPOLLIN) => {
                        if self.inbox.fill(&mut self.upstream)? == Some(0) {
                            bail!("the server has hung up");
                        }
                        self.splice(&mut answered)?;
                        self.hand_out(&mut answered)?;
                    }
                    UPSTREAM => {}
                    LISTENER => self.accept()?,
                    token => self.serve_program(key_of(token)?, event.events())?,
                }
            }
            self.outbox.flush(&mut self.upstream)?;
            self.follow_upstream()?;
        }
    }

    /// Makes lines of all whole frames.
    fn splice(&mut self, answered: &mut Vec<usize>) -> Result<()> {
        if Rc::get_mut(&mut self.lines).is_none() {
            self.lines = Rc::new(Vec::with_capacity(2 * wire::READ));
        }
        let lines = Rc::get_mut(&mut self.lines).context("a new buffer is nobody else's")?;
        lines.clear();
        while let Some((opcode, packet)) = self.inbox.next_frame() {
            match packet {
                _ if opcode == CLOSE => bail!("the server has said goodbye"),
                [b'4', b'2', b'[', b'"', event @ ..] => {
                    let end = memchr::memchr(b'"', event).context("a name without an end")?;
                    self.seq += 1;
                    lines.extend_from_slice(NOTICE);
                    push_number(lines, self.seq);
                    lines.extend_from_slice(NAME);
                    lines.extend_from_slice(&event[..end]);
                    lines.extend_from_slice(ARGS);
                    lines.extend_from_slice(event.get(end + 2..event.len() - 1).unwrap_or_default());
                    lines.extend_from_slice(b"]}}\n");
                }
                [b'4', b'3', rest @ ..] => {
                    let (number, args) = wire::split_number(rest);
                    let number = usize::try_from(number)?;
                    let question = self.questions.get(number).context("an answer to nothing")?;
                    self.unused.push(number);
                    let Some(program) = self.programs.get_mut(question.program) else { continue };
                    if program.life != question.life {
                        continue;
                    }
                    if program.answers.is_empty() {
                        answered.push(question.program);
                    }
                    let out = &mut program.answers;
                    for part in [
                        br#"{"jsonrpc":"2.0","id":"#,
                        &question.id[..],
                        br#","result":{"args":"#,
                        args,
                        b"}}\n",
                    ] {
                        out.extend_from_slice(part);
                    }
                }
                [b'2', rest @ ..] => push_frame(&mut self.outbox.bytes, Some(KEY), &[b"3", rest]),
                other => bail!("the relay does not understand {:?}", String::from_utf8_lossy(other)),
            }
        }
        Ok(())
    }

    fn hand_out(&mut self, answered: &mut Vec<usize>) -> Result<()> {
        for key in answered.drain(..) {
            if let Some(program) = self.programs.get_mut(key) {
                let answers = Rc::new(std::mem::take(&mut program.answers));
                program.write(&answers, &self.epoll, token_of(key), &mut self.behind)?;
            }
        }
        if !self.lines.is_empty() {
            for (key, program) in &mut self.programs {
                if program.subscribed {
                    program.write(&self.lines, &self.epoll, token_of(key), &mut self.behind)?;
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if wire::is_later(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nonblocking(true)?;
            let place = self.programs.vacant_entry();
            self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, token_of(place.key())))?;
            self.lives += 1;
            place.insert(Program {
                life: self.lives,
                stream,
                inbox: None,
                subscribed: false,
                answers: Vec::new(),
                waiting: VecDeque::new(),
                sent: 0,
                waiting_bytes: 0,
            });
        }
    }

    fn serve_program(&mut self, key: usize, ready: EpollFlags) -> Result<()> {
        let token = token_of(key);
        let Some(program) = self.programs.get_mut(key) else { return Ok(()) };
        if ready.contains(EpollFlags::EPOLLOUT) {
            program.go_on(&self.epoll, token, &mut self.behind)?;
        }
        if !ready.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP) {
            return Ok(());
        }
        let inbox = program.inbox.take().or_else(|| self.spare.take());
        let mut inbox = inbox.unwrap_or_else(|| Inbox::new(wire::READ_REQUESTS));
        let read = inbox.fill(&mut program.stream);
        if matches!(read, Ok(Some(0)) | Err(_)) {
            if program.waiting_bytes > BEHIND {
                self.behind -= 1;
            }
            self.epoll.delete(&program.stream)?;
            self.programs.remove(key);
            return Ok(());
        }
        while let Some(end) = memchr::memchr(b'\n', inbox.bytes()) {
            let line = &inbox.bytes()[..end];
            if let Some(emit) = Emit::cut(line) {
                let question = Question { program: key, life: program.life, id: emit.id.to_vec() };
                let number = match self.unused.pop() {
                    Some(number) => {
                        self.questions[number] = question;
                        number
                    }
                    None => {
                        self.questions.push(question);
                        self.questions.len() - 1
                    }
                };
                let mut digits = itoa::Buffer::new();
                let number = digits.format(number).as_bytes();
                let comma: &[u8] = if emit.args.is_empty() { b"" } else { b"," };
                let parts = [b"42", number, b"[", emit.name, comma, emit.args, b"]"];
                push_frame(&mut self.outbox.bytes, Some(KEY), &parts);
            } else {
                // All else that the load generator says is that it wants to hear.
                let id = line.strip_prefix(ID).and_then(|rest| rest.split(|byte| *byte == b',').next());
                let id =
                    id.with_context(|| format!("not for the relay: {:?}", String::from_utf8_lossy(line)))?;
                let answer = [br#"{"jsonrpc":"2.0","id":"#, id, b",\"result\":{}}\n"].concat();
                program.subscribed = true;
                program.write(&Rc::new(answer), &self.epoll, token, &mut self.behind)?;
            }
            inbox.take(end + 1);
        }
        if inbox.bytes().is_empty() {
            self.spare = Some(inbox);
        } else {
            program.inbox = Some(inbox);
        }
        Ok(())
    }

    fn follow_upstream(&mut self) -> Result<()> {
        let mut interest = self.outbox.interest();
        if self.behind > 0 {
            interest.remove(EpollFlags::EPOLLIN);
        }
        if interest != self.interest {
            self.interest = interest;
            self.epoll.modify(&self.upstream, &mut EpollEvent::new(interest, UPSTREAM))?;
        }
        Ok(())
    }
}

impl Program {
    fn write(&mut self, bytes: &Rc<Vec<u8>>, epoll: &Epoll, token: u64, behind: &mut usize) -> Result<()> {
        let mut sent = 0;
        if self.waiting.is_empty() {
            while sent < bytes.len() {
                match self.stream.write(&bytes[sent..]) {
                    Ok(count) => sent += count,
                    Err(error) if wire::is_later(&error) => break,
                    // Reading shows that it is gone.
                    Err(_) => return Ok(()),
                }
            }
            if sent == bytes.len() {
                return Ok(());
            }
            self.sent = sent;
            epoll.modify(
                &self.stream,
                &mut EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT, token),
            )?;
        }
        let was_behind = self.waiting_bytes > BEHIND;
        self.waiting_bytes += bytes.len() - sent;
        self.waiting.push_back(Rc::clone(bytes));
        *behind += usize::from(!was_behind && self.waiting_bytes > BEHIND);
        Ok(())
    }

    fn go_on(&mut self, epoll: &Epoll, token: u64, behind: &mut usize) -> Result<()> {
        let was_behind = self.waiting_bytes > BEHIND;
        while !self.waiting.is_empty() {
            let mut slices = [IoSlice::new(&[]); 64];
            let mut skip = self.sent;
            let count = slices.len().min(self.waiting.len());
            for (slice, bytes) in slices.iter_mut().zip(&self.waiting) {
                *slice = IoSlice::new(&bytes[skip..]);
                skip = 0;
            }
            match self.stream.write_vectored(&slices[..count]) {
                Ok(written) => self.forget(written),
                Err(error) if wire::is_later(&error) => break,
                Err(_) => return Ok(()),
            }
        }
        if self.waiting.is_empty() {
            epoll.modify(&self.stream, &mut EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        }
        *behind -= usize::from(was_behind && self.waiting_bytes <= BEHIND);
        Ok(())
    }

    fn forget(&mut self, mut written: usize) {
        self.waiting_bytes -= written;
        while let Some(first) = self.waiting.front() {
            let left = first.len() - self.sent;
            if written < left {
                self.sent += written;
                return;
            }
            written -= left;
            self.sent = 0;
            self.waiting.pop_front();
        }
    }
}

const ID: &[u8] = br#"{"jsonrpc":"2.0","id":"#;
const EMIT: &[u8] = br#","method":"emit","params":{"connection":"c","event":"#;
const EMIT_ARGS: &[u8] = br#","args":["#;
const EMIT_END: &[u8] = br#"],"ack":true}}"#;

/// The parts of a line of the load generator, which has always the same form.
struct Emit<'a> {
    id: &'a [u8],
    name: &'a [u8],
    args: &'a [u8],
}

impl<'a> Emit<'a> {
    fn cut(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(ID)?;
        let (id, rest) = rest.split_at(memchr::memchr(b',', rest)?);
        let rest = rest.strip_prefix(EMIT)?;
        let (name, rest) = rest.split_at(memchr::memchr(b',', rest)?);
        let args = rest.strip_prefix(EMIT_ARGS)?.strip_suffix(EMIT_END)?;
        Some(Self { id, name, args })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emit_is_cut() {
        let line = br#"{"jsonrpc":"2.0","id":41,"method":"emit","params":{"connection":"c","event":"echo","args":[1,"x"],"ack":true}}"#;
        let emit = Emit::cut(line).unwrap();
        assert_eq!((emit.id, emit.name, emit.args), (&b"41"[..], &b"\"echo\""[..], &b"1,\"x\""[..]));
        assert!(Emit::cut(br#"{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{}}"#).is_none());
    }
}
