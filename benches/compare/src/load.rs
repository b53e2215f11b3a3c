//! The load generator: programs at the local socket that listen and emit, and check all that they get.
//!
//! A line of an event must be the next one, of the form that every peer writes, with the text that was sent; an answer
//! must belong to a question that is open, with its arguments. Anything else makes the run void.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::wire::{self, NOTICE, Outbox, now_ns, push_number, split_number};

/// After this long without anything new a run counts as stuck.
const STUCK: Duration = Duration::from_secs(30);

/// Every so many lines the whole text is compared, else its length.
const COMPARE: u64 = 16;

const SUBSCRIBE: &[u8] =
    b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"subscribe\",\"params\":{\"connection\":\"c\",\"lifecycle\":false}}\n";

const EVENT: &[u8] = br#","event":"n","args":["#;
const EVENT_END: &[u8] = b"\"]}}\n";

pub(crate) fn text(size: usize) -> Vec<u8> {
    vec![b'x'; size]
}

/// A program with whom one line follows the other.
pub(crate) struct Client {
    stream: UnixStream,
    rest: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("attaching to {}", socket.display()))?;
        stream.set_read_timeout(Some(STUCK))?;
        stream.set_write_timeout(Some(STUCK))?;
        Ok(Self { stream, rest: Vec::new() })
    }

    pub(crate) fn write(&mut self, line: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(line)?)
    }

    /// The next line, with its newline.
    pub(crate) fn line(&mut self) -> Result<Vec<u8>> {
        let mut buffer = [0; 16 * 1024];
        let mut searched = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest[searched..]) {
                let following = self.rest.split_off(searched + end + 1);
                return Ok(std::mem::replace(&mut self.rest, following));
            }
            searched = self.rest.len();
            let count = self.stream.read(&mut buffer).context("waiting for a line")?;
            ensure!(count > 0, "the socket was closed where a line was expected");
            self.rest.extend_from_slice(&buffer[..count]);
        }
    }

    /// Asks, and gives the answer, which must not be an error.
    pub(crate) fn ask(&mut self, line: &[u8]) -> Result<Vec<u8>> {
        self.write(line)?;
        let answer = self.line()?;
        let is_answer = memchr::memmem::find(&answer, br#""result""#).is_some();
        ensure!(is_answer, "asked {:?}, got {:?}", shown(line), shown(&answer));
        Ok(answer)
    }

    pub(crate) fn subscribe(&mut self) -> Result<()> {
        self.ask(SUBSCRIBE).map(drop)
    }

    /// One emit and its answer.
    pub(crate) fn trip(&mut self, trip: &mut Trip) -> Result<Duration> {
        let (question, answer) = trip.next();
        let start = Instant::now();
        self.write(question)?;
        let line = self.line()?;
        let taken = start.elapsed();
        ensure!(line == answer, "asked {:?}, got {:?}", shown(question), shown(&line));
        Ok(taken)
    }
}

/// Questions that follow each other, and the answer that each must get.
pub(crate) struct Trip {
    id: u64,
    text: Vec<u8>,
    question: Vec<u8>,
    answer: Vec<u8>,
}

impl Trip {
    pub(crate) fn new(size: usize) -> Self {
        Self { id: 0, text: text(size), question: Vec::new(), answer: Vec::new() }
    }

    fn next(&mut self) -> (&[u8], &[u8]) {
        self.id += 1;
        self.question.clear();
        self.answer.clear();
        push_question(&mut self.question, self.id, &self.text);
        push_answer(&mut self.answer, self.id, &self.text);
        (&self.question, &self.answer)
    }
}

fn push_question(out: &mut Vec<u8>, id: u64, text: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    push_number(out, id);
    out.extend_from_slice(br#","method":"emit","params":{"connection":"c","event":"echo","args":["#);
    push_number(out, id);
    out.extend_from_slice(b",\"");
    out.extend_from_slice(text);
    out.extend_from_slice(b"\"],\"ack\":true}}\n");
}

fn push_answer(out: &mut Vec<u8>, id: u64, text: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    push_number(out, id);
    out.extend_from_slice(br#","result":{"args":["#);
    push_number(out, id);
    out.extend_from_slice(b",\"");
    out.extend_from_slice(text);
    out.extend_from_slice(EVENT_END);
}

/// A program that listens.
struct Listener {
    stream: UnixStream,
    rest: Vec<u8>,
    /// The number of the next event, and its seq where that is known.
    next: u64,
    seq: Option<u64>,
}

impl Listener {
    /// Takes all whole lines of `bytes`; gives what it has not taken.
    fn take<'a>(&mut self, mut bytes: &'a [u8], text: &[u8], late: &mut Option<Late>) -> Result<&'a [u8]> {
        let shortest = NOTICE.len() + EVENT.len() + br#"1001,""#.len() + text.len();
        loop {
            ensure!(bytes.starts_with(NOTICE) || NOTICE.starts_with(bytes), "not an event: {}", shown(bytes));
            let newline = bytes.get(shortest..).and_then(|rest| memchr::memchr(b'\n', rest));
            let Some(end) = newline else { return Ok(bytes) };
            let (line, following) = bytes.split_at(shortest + end + 1);
            let (seq, rest) = split_number(&line[NOTICE.len()..]);
            let rest = rest.strip_prefix(EVENT).with_context(|| format!("not the event: {}", shown(line)))?;
            let (number, rest) = split_number(rest);
            let rest = rest.strip_prefix(b",").with_context(|| format!("not the event: {}", shown(line)))?;
            let (time, rest) = split_number(rest);
            let is_whole = rest.starts_with(b",\"")
                && rest.len() == 2 + text.len() + EVENT_END.len()
                && rest.ends_with(EVENT_END)
                && (!number.is_multiple_of(COMPARE) || rest[2..].starts_with(text));
            ensure!(is_whole, "not the text that was sent: {}", shown(line));
            ensure!(number == self.next, "event {} was expected, {number} came", self.next);
            if let Some(expected) = self.seq {
                ensure!(seq == expected, "seq {expected} was expected, {seq} came");
            }
            self.next += 1;
            self.seq = Some(seq + 1);
            if let Some(late) = late {
                late.times.push(late.now.saturating_sub(time));
            }
            bytes = following;
        }
    }
}

/// How late events came, in nanoseconds.
struct Late {
    now: u64,
    times: Vec<u64>,
}

/// What came of waiting for events.
pub(crate) struct Heard {
    /// Until the last event.
    pub(crate) taken: Duration,
    pub(crate) deliveries: u64,
    /// How late each was, where that was asked for, in nanoseconds and in order of size.
    pub(crate) late: Vec<u64>,
    /// The longest time in which nothing came, before any and after.
    pub(crate) pause: Pause,
}

/// A time in which nothing came.
#[derive(Default)]
pub(crate) struct Pause {
    pub(crate) length: Duration,
    /// When it was over, and what had come before.
    pub(crate) end: Duration,
    pub(crate) deliveries: u64,
}

/// Programs that listen, and hear the same.
pub(crate) struct Audience {
    epoll: Epoll,
    listeners: Vec<Listener>,
    scratch: Vec<u8>,
}

impl Audience {
    pub(crate) fn subscribe(socket: &Path, count: usize) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut listeners = Vec::with_capacity(count);
        for index in 0..count {
            let mut client = Client::connect(socket)?;
            client.subscribe()?;
            let Client { stream, rest } = client;
            stream.set_nonblocking(true)?;
            epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
            listeners.push(Listener { stream, rest, next: 0, seq: None });
        }
        Ok(Self { epoll, listeners, scratch: vec![0; wire::READ] })
    }

    /// Waits until everybody has had `count` events of `size`, numbered from 0, which were asked for at `start`.
    pub(crate) fn hear(&mut self, start: Instant, count: u64, size: usize, how_late: bool) -> Result<Heard> {
        let text = text(size);
        let mut late = how_late.then(|| Late { now: 0, times: Vec::new() });
        let mut left = self.listeners.len();
        let mut events = vec![EpollEvent::empty(); 1024];
        let (mut last, mut deliveries, mut pause) = (Duration::ZERO, 0, Pause::default());
        self.listeners.iter_mut().for_each(|listener| listener.next = 0);
        while left > 0 {
            let timeout = EpollTimeout::try_from(STUCK)?;
            let ready = match self.epoll.wait(&mut events, timeout) {
                Ok(ready) => ready,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if ready == 0 {
                let slowest = self.listeners.iter().map(|listener| listener.next).min().unwrap_or_default();
                bail!(
                    "stuck: {left} of {} programs wait, one has {slowest} of {count} events",
                    self.listeners.len()
                );
            }
            let now = start.elapsed();
            if now - last > pause.length {
                pause = Pause { length: now - last, end: now, deliveries };
            }
            for event in &events[..ready] {
                let index = usize::try_from(event.data())?;
                let listener = &mut self.listeners[index];
                let kept = listener.rest.len();
                self.scratch.resize(self.scratch.len().max(kept + wire::READ), 0);
                self.scratch[..kept].copy_from_slice(&listener.rest);
                let read = match listener.stream.read(&mut self.scratch[kept..]) {
                    Ok(0) => bail!("program {index} was left after {} events", listener.next),
                    Ok(read) => read,
                    Err(error) if wire::is_later(&error) => continue,
                    Err(error) => return Err(error.into()),
                };
                if let Some(late) = &mut late {
                    late.now = now_ns();
                }
                let before = listener.next;
                let rest = listener.take(&self.scratch[..kept + read], &text, &mut late)?;
                listener.rest.clear();
                listener.rest.extend_from_slice(rest);
                deliveries += listener.next - before;
                ensure!(
                    listener.next <= count,
                    "program {index} got more than the {count} events there were"
                );
                if listener.next == count && before < count {
                    left -= 1;
                }
            }
            last = start.elapsed();
        }
        let mut late = late.map_or(Vec::new(), |late| late.times);
        late.sort_unstable();
        Ok(Heard { taken: last, deliveries, late, pause })
    }
}

/// A program that emits, with several questions open at a time.
struct Emitter {
    stream: UnixStream,
    rest: Vec<u8>,
    out: Outbox,
    interest: EpollFlags,
    /// Open questions.
    open: Vec<u64>,
    asked: u64,
    answered: u64,
}

/// Programs that emit at the same time.
pub(crate) struct Emitters {
    epoll: Epoll,
    all: Vec<Emitter>,
    scratch: Vec<u8>,
    text: Vec<u8>,
}

impl Emitters {
    pub(crate) fn attach(socket: &Path, count: usize, size: usize) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut emitters = Vec::with_capacity(count);
        for index in 0..count {
            let Client { stream, rest } = Client::connect(socket)?;
            stream.set_nonblocking(true)?;
            let interest = EpollFlags::EPOLLIN;
            epoll.add(&stream, EpollEvent::new(interest, index as u64))?;
            let (out, open) = (Outbox::default(), Vec::new());
            emitters.push(Emitter { stream, rest, out, interest, open, asked: 0, answered: 0 });
        }
        Ok(Self { epoll, all: emitters, scratch: vec![0; wire::READ], text: text(size) })
    }

    /// Everybody emits `count` events and keeps up to `in_flight` of them unanswered; gives the time until all
    /// answers are there.
    pub(crate) fn run(&mut self, count: u64, in_flight: usize) -> Result<Duration> {
        let start = Instant::now();
        let mut left = self.all.len();
        for (index, emitter) in self.all.iter_mut().enumerate() {
            (emitter.asked, emitter.answered) = (0, 0);
            emitter.ask(count, in_flight, &self.text);
            emitter.send(&self.epoll, index)?;
        }
        let mut events = vec![EpollEvent::empty(); 1024];
        while left > 0 {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::try_from(STUCK)?) {
                Ok(ready) => ready,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            ensure!(ready > 0, "stuck: {left} programs wait for answers");
            for event in &events[..ready] {
                let index = usize::try_from(event.data())?;
                let emitter = &mut self.all[index];
                let kept = emitter.rest.len();
                self.scratch[..kept].copy_from_slice(&emitter.rest);
                match emitter.stream.read(&mut self.scratch[kept..]) {
                    Ok(0) => bail!("emitter {index} was left with {} questions open", emitter.open.len()),
                    Ok(read) => {
                        emitter.take(&self.scratch[..kept + read], &self.text)?;
                        emitter.ask(count, in_flight, &self.text);
                        if emitter.answered == count && emitter.open.is_empty() {
                            left -= 1;
                        }
                    }
                    Err(error) if wire::is_later(&error) => {}
                    Err(error) => return Err(error.into()),
                }
                emitter.send(&self.epoll, index)?;
            }
        }
        Ok(start.elapsed())
    }
}

impl Emitter {
    fn ask(&mut self, count: u64, in_flight: usize, text: &[u8]) {
        while self.open.len() < in_flight && self.asked < count {
            self.asked += 1;
            self.open.push(self.asked);
            push_question(&mut self.out.bytes, self.asked, text);
        }
    }

    fn take(&mut self, bytes: &[u8], text: &[u8]) -> Result<()> {
        let (mut start, mut expected) = (0, Vec::with_capacity(text.len() + 96));
        while let Some(end) = memchr::memchr(b'\n', &bytes[start..]) {
            let line = &bytes[start..=start + end];
            let id = line.strip_prefix(br#"{"jsonrpc":"2.0","id":"#).map(split_number);
            let (id, _) = id.with_context(|| format!("no answer: {}", shown(line)))?;
            let open = self.open.iter().position(|open| *open == id);
            let open = open.with_context(|| format!("an answer to nothing that is open: {}", shown(line)))?;
            self.open.swap_remove(open);
            expected.clear();
            push_answer(&mut expected, id, text);
            ensure!(line == expected, "not the answer to {id}: {}", shown(line));
            self.answered += 1;
            start += end + 1;
        }
        self.rest.clear();
        self.rest.extend_from_slice(&bytes[start..]);
        Ok(())
    }

    fn send(&mut self, epoll: &Epoll, index: usize) -> Result<()> {
        self.out.flush(&mut self.stream)?;
        let interest = self.out.interest();
        if interest != self.interest {
            self.interest = interest;
            epoll.modify(&self.stream, &mut EpollEvent::new(interest, index as u64))?;
        }
        Ok(())
    }
}

/// The begin of a line, for people.
pub(crate) fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(200)]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64, number: u64, text: &str) -> String {
        let notice = String::from_utf8_lossy(NOTICE);
        format!("{notice}{seq},\"event\":\"n\",\"args\":[{number},0,\"{text}\"]}}}}\n")
    }

    fn hear(lines: &str) -> Result<(u64, usize)> {
        let (stream, _other) = UnixStream::pair()?;
        let mut listener = Listener { stream, rest: Vec::new(), next: 0, seq: None };
        let rest = listener.take(lines.as_bytes(), b"xxxx", &mut None)?.len();
        Ok((listener.next, rest))
    }

    #[test]
    fn all_that_is_wrong_is_found() {
        let right = line(3, 0, "xxxx") + &line(4, 1, "xxxx");
        assert_eq!(hear(&right).unwrap(), (2, 0));
        for cut in 1..line(4, 1, "xxxx").len() {
            let first = line(3, 0, "xxxx").len();
            assert_eq!(hear(&right[..right.len() - cut]).unwrap().0, 1, "{cut} bytes are missing");
            assert_eq!(hear(&right[..right.len() - cut]).unwrap().1, right.len() - cut - first);
        }
        for (wrong, why) in [
            (line(3, 1, "xxxx"), "event 0 was expected, 1 came"),
            (line(3, 0, "xxxx") + &line(3, 1, "xxxx"), "seq 4 was expected, 3 came"),
            (line(3, 0, "xxxx") + &line(4, 0, "xxxx"), "event 1 was expected, 0 came"),
            (line(3, 0, "xxxy"), "not the text that was sent"),
            (line(3, 0, "xxxxx"), "not the text that was sent"),
            (line(3, 0, "xxx"), "not the text that was sent"),
            ("{\"jsonrpc\":\"2.0\",\"method\":\"lagged\"}\n".into(), "not an event"),
        ] {
            let error = hear(&wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn an_answer_belongs_to_an_open_question() {
        let answer = |id| {
            let mut line = Vec::new();
            push_answer(&mut line, id, b"xx");
            line
        };
        let take = |bytes: &[u8]| {
            let (stream, _other) = UnixStream::pair()?;
            let (out, interest) = (Outbox::default(), EpollFlags::EPOLLIN);
            let open = vec![1, 2];
            let mut emitter =
                Emitter { stream, rest: Vec::new(), out, interest, open, asked: 2, answered: 0 };
            emitter.take(bytes, b"xx").map(|()| emitter.answered)
        };
        assert_eq!(take(&[answer(2), answer(1)].concat()).unwrap(), 2);
        assert_eq!(take(&answer(1)[..5]).unwrap(), 0);
        for wrong in [answer(3), [answer(1), answer(1)].concat(), answer(11), b"{}\n".to_vec()] {
            take(&wrong).unwrap_err();
        }
        let swapped = String::from_utf8(answer(1)).unwrap().replace("[1,", "[2,");
        take(swapped.as_bytes()).unwrap_err();
    }
}
