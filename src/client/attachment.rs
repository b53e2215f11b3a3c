//! One attachment: requests go out, answers and notifications come in.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use bytes::{Buf, BytesMut};
use bytestring::ByteString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::error::{Error, Lost, Refusal};
use super::lines::Lines;
use super::notification::{Kind, Notification};
use super::results::{Args, Asked};

/// Bytes of messages that [`Client::call`] keeps for later while it waits for its answer.
const HELD: usize = 16 << 20;

/// One attachment to the daemon, with one owner.
///
/// Nothing runs behind it: bytes move only while one of its futures is awaited, in both directions at once, so neither
/// side can block the other. All methods are cancel safe: a future that is dropped loses no message. A request whose
/// future was dropped may be carried out all the same, and its answer is passed over.
///
/// There is a method for each method of the API, which sends and waits. To have many requests under way at once, use
/// [`request`](Self::request) and [`next`](Self::next), or several clients. It does not attach again when the daemon goes
/// away; [`Listener`](super::Listener) does.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    input: Lines,
    /// Requests not yet taken by the socket.
    output: BytesMut,
    last_id: u64,
    /// What `call` met before its answer.
    held: VecDeque<Incoming>,
    held_bytes: usize,
    /// The reason of the daemon's `goodbye`, which is the last line before it closes.
    goodbye: Option<String>,
}

/// Names a request of one [`Client`]; the answer bears the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

/// A message from the daemon.
#[derive(Debug)]
pub enum Incoming {
    /// The answer to a request. Answers may come in any order.
    Answer(Answer),
    /// Something that happened.
    Notification(Notification),
}

/// The answer to one request.
#[derive(Debug)]
pub struct Answer {
    /// The request; absent when the daemon could not read which one (`parse_error`, `too_large`).
    pub id: Option<RequestId>,
    /// The result as the daemon wrote it, or its refusal.
    pub result: Result<Box<RawValue>, Refusal>,
}

impl Answer {
    /// The result as a type of the caller's, or why there is none.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_str(self.result?.get()).map_err(Error::Answer)
    }

    /// The server's answer, where this is the answer to an [`Emit`](super::Emit) that asked for it.
    pub fn into_args(self) -> Result<Args, Error> {
        self.read::<Asked>()?.into_args()
    }
}

impl Client {
    /// Attaches to the daemon that listens on `path`; see [`default_socket`](super::default_socket).
    pub async fn attach(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path).await;
        let stream = stream.map_err(|source| Error::Attach { socket: path.to_owned(), source })?;
        Ok(Self::from_stream(stream))
    }

    /// Speaks on a stream that is connected already.
    pub fn from_stream(stream: UnixStream) -> Self {
        Self {
            stream,
            input: Lines::default(),
            output: BytesMut::new(),
            last_id: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            goodbye: None,
        }
    }

    /// Calls any method and waits for its result. Other messages that come before it are kept for
    /// [`next`](Self::next), 16 MiB at the most.
    ///
    /// `params` must become a JSON object. For a result to the byte take `Box<RawValue>` of `serde_json`.
    pub async fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: impl Serialize,
    ) -> Result<T, Error> {
        let id = self.request(method, params)?;
        loop {
            let (incoming, bytes) = self.receive().await?;
            match incoming {
                // An answer without id is a refusal of what could not be read, and this is what was sent last.
                Incoming::Answer(answer) if answer.id.is_none_or(|of| of == id) => return answer.read(),
                other => {
                    self.held.push_back(other);
                    self.held_bytes += bytes;
                    if self.held_bytes > HELD {
                        return Err(Error::Flooded);
                    }
                }
            }
        }
    }

    /// Queues a request; it goes out while [`Client::next`] is awaited. Any number may be on their way at once, and
    /// they take effect in this order. How much is queued is the caller's to bound, by [`Client::unsent`].
    ///
    /// `params` must become a JSON object: the params of the typed methods do, as does any struct of the caller's. Fails
    /// only where that cannot be written ([`Error::Params`]), and then sends nothing.
    pub fn request(&mut self, method: &str, params: impl Serialize) -> Result<RequestId, Error> {
        #[derive(Serialize)]
        struct Request<'a, P> {
            jsonrpc: &'static str,
            id: u64,
            method: &'a str,
            params: P,
        }
        let request = Request { jsonrpc: "2.0", id: self.last_id + 1, method, params };
        let mut line = serde_json::to_vec(&request).map_err(Error::Params)?;
        // JSON knows these bytes as white space between tokens only: raw values may bring them, a line may not.
        for byte in &mut line {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        line.push(b'\n');
        self.output.extend_from_slice(&line);
        self.last_id += 1;
        Ok(RequestId(self.last_id))
    }

    /// Bytes of requests that the socket has not taken yet.
    pub fn unsent(&self) -> usize {
        self.output.len()
    }

    /// Whether [`Client::next`] has something to give without waiting.
    pub fn has_next(&mut self) -> bool {
        !self.held.is_empty() || self.input.has_next()
    }

    /// The next message, in the order in which the daemon wrote them. Sends what is queued meanwhile.
    ///
    /// `goodbye` comes as a notification like any other; the error after it repeats its reason.
    pub async fn next(&mut self) -> Result<Incoming, Lost> {
        match self.held.pop_front() {
            Some(incoming) => {
                if self.held.is_empty() {
                    self.held_bytes = 0;
                }
                Ok(incoming)
            }
            None => self.receive().await.map(|(incoming, _)| incoming),
        }
    }

    /// The next notification; answers that nobody waits for any more are passed over. See [`Notification::read`].
    pub async fn next_notification(&mut self) -> Result<Notification, Lost> {
        loop {
            if let Incoming::Notification(notification) = self.next().await? {
                return Ok(notification);
            }
        }
    }

    /// One message off the wire, and how long its line was.
    async fn receive(&mut self) -> Result<(Incoming, usize), Lost> {
        loop {
            if let Some(line) = self.input.next()? {
                let bytes = line.len();
                let incoming = read(line)?;
                if let Incoming::Notification(notification) = &incoming
                    && let Some(reason) = notification.goodbye()
                {
                    self.goodbye = Some(reason);
                }
                return Ok((incoming, bytes));
            }
            self.exchange().await?;
        }
    }

    /// Waits until the socket takes or gives bytes, and moves them.
    async fn exchange(&mut self) -> Result<(), Lost> {
        let both = Interest::READABLE | Interest::WRITABLE;
        let ready = self.stream.ready(if self.output.is_empty() { Interest::READABLE } else { both }).await?;
        if ready.is_writable() && !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(written) => self.output.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The daemon's last words are still to be read; reading will find the end after them.
                Err(_) => self.output.clear(),
            }
        }
        if ready.is_readable() {
            match self.stream.try_read_buf(self.input.spare()) {
                Ok(0) => return Err(self.end()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(self.end()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn end(&self) -> Lost {
        self.goodbye.clone().map_or(Lost::Closed, Lost::Goodbye)
    }
}

/// What a line says.
fn read(line: ByteString) -> Result<Incoming, Lost> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        method: Option<std::borrow::Cow<'a, str>>,
        #[serde(borrow)]
        params: Option<&'a RawValue>,
        id: Option<u64>,
        result: Option<Box<RawValue>>,
        error: Option<Refusal>,
    }
    let message: Message = serde_json::from_str(&line).map_err(|error| Lost::Protocol(error.to_string()))?;
    Ok(match message {
        Message { method: Some(method), params, .. } => {
            let kind = Kind::of(&method);
            let params = params.map_or(ByteString::from_static("{}"), |params| line.slice_ref(params.get()));
            Incoming::Notification(Notification::new(line, kind, params)?)
        }
        Message { error: Some(refusal), id, .. } => {
            Incoming::Answer(Answer { id: id.map(RequestId), result: Err(refusal) })
        }
        Message { id: Some(id), result, .. } => {
            // A result that is `null` reads as an absent one.
            let result = result.unwrap_or_else(|| RawValue::NULL.to_owned());
            Incoming::Answer(Answer { id: Some(RequestId(id)), result: Ok(result) })
        }
        Message { .. } => return Err(Lost::Protocol("neither a notification nor an answer".into())),
    })
}
