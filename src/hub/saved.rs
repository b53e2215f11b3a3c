//! What outlives the process, and how it lies in a file: per connection the counter, the ring, the kept lines, and what
//! the server needs to give the session back.
//!
//! A file is the line that says what it is, the head, a block for each connection, an empty block, and a checksum of it
//! all. Texts of JSON have their lengths before them; numbers are little-endian. Nothing is taken from a file that is
//! not whole to the last byte.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::channel::{LastDisconnect, LastError};
use super::log::{self, Kind, Log, Run};
use super::options::ConnectionSettings;
use crate::manager::Auth;
use crate::socketio::Recoverable;
use crate::transport::Via;

/// How a file begins, before the number of its version.
const MAGIC: &[u8] = b"siod state ";

/// The version that is written, and the only one that is read.
const VERSION: &[u8] = b"1\n";

/// Bytes of a head or a connection's facts at the most; a failure's words are the largest part of them.
const MAX_FACTS: u64 = 256 * 1024;

/// No count gets this far, and every one can go on from there.
const MOST: u64 = 1 << 60;

/// Bytes of the checksum.
const SUM: u64 = 4;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The stream to which its numbers belong.
    pub stream: String,
    /// The stream ended here, so that it can go on. Otherwise numbers may have been given out that are not in the file.
    pub whole: bool,
    /// Where the counters of names begin that the file does not know.
    #[serde(default)]
    pub beyond: Beyond,
}

/// The greatest counters of names that were forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    /// The number of a line.
    pub seq: u64,
    /// The number of a question for an ack.
    pub ack: u64,
}

/// A connection without its lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// The number of its newest line.
    pub seq: u64,
    /// The number of the server's last question for an ack.
    pub last_ack: u64,
    /// The last line of the session before.
    pub session_began: u64,
    /// Events received.
    pub received: u64,
    /// Events sent.
    pub sent: u64,
    /// How often it was connected again.
    pub reconnects: u64,
    /// Which server it is, and who we are there; see [`identity`]. Absent where nothing but the counters is kept.
    pub identity: Option<String>,
    /// What the server may give back.
    pub session: Option<Recoverable>,
    /// The last failure.
    pub(super) last_error: Option<LastError>,
    /// The last loss.
    pub(super) last_disconnect: Option<LastDisconnect>,
}

/// A line with its number and the place of its event's name.
pub type NumberedLine = (u64, Bytes, Range<usize>);

/// A connection as it was written.
#[derive(Debug)]
pub struct SavedConnection {
    /// All but the lines.
    pub facts: Facts,
    /// The ring, where it was wanted.
    pub log: Option<Log>,
    /// Lines that `sticky` keeps.
    pub sticky: Vec<NumberedLine>,
}

/// What a file holds.
#[derive(Debug)]
pub struct Saved {
    /// What it says of itself.
    pub head: Head,
    /// The connections.
    pub connections: Vec<SavedConnection>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is no state of siod")]
    Foreign,
    /// Another version of siod wrote it.
    #[error("another version of siod wrote it, in a format that this one does not know")]
    Version,
    /// It ends too early.
    #[error("it is cut off")]
    CutOff,
    /// What it says does not fit together.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// Who a connection is, over restarts: where the server is, what requests to it say, and who we are there, as a hash that
/// means something only beside `stream`. Whatever else is set may change without that it becomes another connection.
pub fn identity(settings: &ConnectionSettings, stream: &str) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let mut add = |part: &[u8]| {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    let transport = &settings.manager.transport;
    add(stream.as_bytes());
    add(if transport.scheme.is_secure() { b"secure" } else { b"plain" });
    add(transport.host.as_bytes());
    add(&transport.port.to_le_bytes());
    add(transport.path.as_bytes());
    add(settings.socket.namespace.as_bytes());
    let unix = match &transport.via {
        Via::Unix(path) => path.as_os_str().as_encoded_bytes(),
        Via::Environment | Via::Direct | Via::Proxy(_) => b"",
    };
    add(unix);
    for (name, value) in &transport.query {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    add(b"headers");
    for (name, value) in &transport.headers {
        add(name.as_str().as_bytes());
        add(value.as_bytes());
    }
    let (kind, parts): (&str, Vec<&[u8]>) = match &settings.socket.auth {
        Auth::None => ("none", Vec::new()),
        Auth::Fixed(auth) => ("auth", vec![auth.expose().as_ref()]),
        Auth::File(path) => ("file", vec![path.as_os_str().as_encoded_bytes()]),
        Auth::Command(argv) => ("command", argv.iter().map(String::as_bytes).collect()),
    };
    add(kind.as_bytes());
    parts.into_iter().for_each(add);
    BASE64_STANDARD_NO_PAD.encode(hash.finish())
}

/// Writes a file, connection by connection.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    sum: crc32fast::Hasher,
}

impl<W: Write> Writer<W> {
    /// Begins it.
    pub fn new(out: W, head: &Head) -> io::Result<Self> {
        let mut writer = Self { out, sum: crc32fast::Hasher::new() };
        writer.put(MAGIC)?;
        writer.put(VERSION)?;
        writer.json(head)?;
        Ok(writer)
    }

    /// Adds a connection; `ring` are its newest lines without a hole.
    pub fn connection(&mut self, facts: &Facts, ring: &[Run], sticky: &[NumberedLine]) -> io::Result<()> {
        self.json(facts)?;
        let lines = || ring.iter().flat_map(Run::lines);
        self.extent(lines().map(|(text, ..)| text))?;
        for (text, kind, name) in lines() {
            self.line(text, kind, &name)?;
        }
        self.extent(sticky.iter().map(|(_, text, _)| &text[..]))?;
        for (seq, text, name) in sticky {
            self.put(&seq.to_le_bytes())?;
            self.line(text, Kind::Event, name)?;
        }
        Ok(())
    }

    /// Ends it. What it was written to is still to be flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(&0_u32.to_le_bytes())?;
        let sum = self.sum.clone().finalize();
        self.out.write_all(&sum.to_le_bytes())?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }

    fn number(&mut self, number: usize) -> io::Result<()> {
        let number = u32::try_from(number).map_err(io::Error::other)?;
        self.put(&number.to_le_bytes())
    }

    fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(value)?;
        self.number(text.len())?;
        self.put(&text)
    }

    /// How many lines follow, and of how many bytes.
    fn extent<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let (lines, bytes) = lines.fold((0_u64, 0), |(lines, bytes), text| (lines + 1, bytes + text.len()));
        self.put(&lines.to_le_bytes())?;
        self.put(&(bytes as u64).to_le_bytes())
    }

    fn line(&mut self, text: &[u8], kind: Kind, name: &Range<usize>) -> io::Result<()> {
        self.number(text.len())?;
        self.number(name.start)?;
        self.number(name.len())?;
        self.put(match kind {
            Kind::Event => b"e",
            Kind::Lifecycle => b"l",
        })?;
        self.put(text)
    }
}

/// Reads a file of `size` bytes. `wants` is asked for each connection how much of its lines to keep, if anything; the
/// newest are. What is not wanted takes no memory.
pub fn read(
    input: impl Read,
    size: u64,
    mut wants: impl FnMut(&Head, &Facts) -> Option<log::Settings>,
) -> Result<Saved, ReadError> {
    let left = size.checked_sub(SUM).ok_or(ReadError::CutOff)?;
    let mut reader = Reader { input, left, sum: crc32fast::Hasher::new() };
    if left < MAGIC.len() as u64 || reader.array::<{ MAGIC.len() }>()? != MAGIC {
        return Err(ReadError::Foreign);
    }
    if reader.array::<{ VERSION.len() }>()? != VERSION {
        return Err(ReadError::Version);
    }
    let head: Head = reader.json()?.ok_or(ReadError::Damaged("it has no head"))?;
    let mut connections = Vec::new();
    while let Some(facts) = reader.json::<Facts>()? {
        let history = wants(&head, &facts);
        connections.push(reader.connection(facts, history)?);
    }
    if reader.left > 0 {
        return Err(ReadError::Damaged("it goes on after its end"));
    }
    reader.check()?;
    Ok(Saved { head, connections })
}

struct Reader<R> {
    input: R,
    /// Bytes until the checksum. Nothing is made room for that cannot be there.
    left: u64,
    sum: crc32fast::Hasher,
}

struct Place {
    len: u64,
    name: Range<usize>,
    kind: Kind,
}

impl<R: Read> Reader<R> {
    fn connection(
        &mut self,
        facts: Facts,
        history: Option<log::Settings>,
    ) -> Result<SavedConnection, ReadError> {
        if [facts.seq, facts.last_ack, facts.received, facts.sent].iter().any(|count| *count > MOST) {
            return Err(ReadError::Damaged("a count is too large"));
        }
        let limit = history.clone().unwrap_or(log::Settings { events: 0, bytes: 0 });
        let (lines, mut bytes) = self.extent()?;
        let mut seq = facts.seq.checked_sub(lines).ok_or(ReadError::Damaged("it has too many lines"))?;
        let mut log: Option<Log> = None;
        let mut text = Vec::new();
        while seq < facts.seq {
            seq += 1;
            let place = self.place(&mut bytes)?;
            let is_last = seq == facts.seq;
            let fits =
                facts.seq - seq < limit.events as u64 && (is_last || bytes + place.len <= limit.bytes as u64);
            let Some(history) = history.as_ref().filter(|_| fits) else {
                self.skip(place.len)?;
                continue;
            };
            self.text(&mut text, &place)?;
            let log = log.get_or_insert_with(|| Log::new(history.clone(), Duration::ZERO).starting_at(seq));
            log.push(&text, place.kind, place.name);
        }
        let log = match history {
            Some(history) if log.is_none() => {
                Some(Log::new(history, Duration::ZERO).starting_at(facts.seq + 1))
            }
            _ => log,
        };
        if bytes > 0 {
            return Err(ReadError::Damaged("its lines are too short"));
        }
        let sticky = self.sticky(&facts, limit.bytes as u64)?;
        Ok(SavedConnection { facts, log, sticky })
    }

    fn sticky(&mut self, facts: &Facts, limit: u64) -> Result<Vec<NumberedLine>, ReadError> {
        let (lines, mut bytes) = self.extent()?;
        let (mut sticky, mut before) = (Vec::new(), 0);
        for _ in 0..lines {
            let seq = u64::from_le_bytes(self.array()?);
            if seq <= before || seq > facts.seq {
                return Err(ReadError::Damaged("its kept lines are not in order"));
            }
            before = seq;
            let place = self.place(&mut bytes)?;
            if bytes + place.len > limit {
                self.skip(place.len)?;
                continue;
            }
            let mut text = Vec::new();
            self.text(&mut text, &place)?;
            sticky.push((seq, text.into(), place.name));
        }
        if bytes > 0 {
            return Err(ReadError::Damaged("its kept lines are too short"));
        }
        Ok(sticky)
    }

    /// Where a line is, whose bytes are part of `bytes`.
    fn place(&mut self, bytes: &mut u64) -> Result<Place, ReadError> {
        let [len, start, name] = [self.number()?, self.number()?, self.number()?];
        let kind = match &self.array()? {
            b"e" => Kind::Event,
            b"l" => Kind::Lifecycle,
            _ => return Err(ReadError::Damaged("a line is of no known kind")),
        };
        *bytes = bytes.checked_sub(len).ok_or(ReadError::Damaged("its lines are too long"))?;
        if start + name > len {
            return Err(ReadError::Damaged("a name is not in its line"));
        }
        let in_line =
            |place: u64| usize::try_from(place).map_err(|_| ReadError::Damaged("a line is too long"));
        Ok(Place { len, name: in_line(start)?..in_line(start + name)?, kind })
    }

    fn text(&mut self, text: &mut Vec<u8>, place: &Place) -> Result<(), ReadError> {
        self.bytes(text, place.len)?;
        let is_line = text.last() == Some(&b'\n') && memchr::memchr(b'\n', text) == Some(text.len() - 1);
        if is_line { Ok(()) } else { Err(ReadError::Damaged("a line is none")) }
    }

    fn extent(&mut self) -> Result<(u64, u64), ReadError> {
        Ok((u64::from_le_bytes(self.array()?), u64::from_le_bytes(self.array()?)))
    }

    fn number(&mut self) -> Result<u64, ReadError> {
        Ok(u32::from_le_bytes(self.array()?).into())
    }

    /// A text of JSON; none where its length is 0.
    fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ReadError> {
        let len = self.number()?;
        if len == 0 {
            return Ok(None);
        }
        if len > MAX_FACTS {
            return Err(ReadError::Damaged("a part is too large"));
        }
        let mut text = Vec::new();
        self.bytes(&mut text, len)?;
        serde_json::from_slice(&text).map(Some).map_err(|_| ReadError::Damaged("a part cannot be understood"))
    }

    fn bytes(&mut self, out: &mut Vec<u8>, len: u64) -> Result<(), ReadError> {
        self.take(len)?;
        out.clear();
        out.resize(usize::try_from(len).map_err(|_| ReadError::CutOff)?, 0);
        self.input.read_exact(out).map_err(cut_off)?;
        self.sum.update(out);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        self.take(N as u64)?;
        let mut array = [0; N];
        self.input.read_exact(&mut array).map_err(cut_off)?;
        self.sum.update(&array);
        Ok(array)
    }

    fn skip(&mut self, mut len: u64) -> Result<(), ReadError> {
        let mut part = Vec::new();
        while len > 0 {
            let next = len.min(16 * 1024);
            self.bytes(&mut part, next)?;
            len -= next;
        }
        Ok(())
    }

    fn take(&mut self, len: u64) -> Result<(), ReadError> {
        self.left = self.left.checked_sub(len).ok_or(ReadError::CutOff)?;
        Ok(())
    }

    fn check(mut self) -> Result<(), ReadError> {
        let mut sum = 0_u32.to_le_bytes();
        self.input.read_exact(&mut sum).map_err(cut_off)?;
        if u32::from_le_bytes(sum) == self.sum.finalize() {
            Ok(())
        } else {
            Err(ReadError::Damaged("its checksum is another"))
        }
    }
}

fn cut_off(error: io::Error) -> ReadError {
    if error.kind() == io::ErrorKind::UnexpectedEof { ReadError::CutOff } else { ReadError::Io(error) }
}

#[cfg(test)]
mod tests;
