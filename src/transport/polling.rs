//! Packets over HTTP long-polling: a GET that waits for packets and a POST that carries them.
//!
//! At most one of each is under way, each on a connection of its own that is kept for the next. The session decides
//! what packets mean; this only keeps the two requests going.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_ENCODING;
use tracing::debug;

use super::connect::Shared;
use super::error::Failure;
use super::http1::{HttpConnection, exchange};
use super::request::HttpRequest;
use super::{Error, Received};
use crate::engineio::{DecodeError, Packet, Packets, Phase, Revision};

/// Bytes a body of packets may have beyond the largest message: type digits, separators, small packets around it.
const BODY_SLACK: usize = 64 * 1024;
/// Largest answer to a POST; it says `ok`, and nobody looks.
const POST_ANSWER: usize = 64 * 1024;

/// The polling transport.
pub struct Polling {
    shared: Arc<Shared>,
    sid: Option<String>,
    max_payload: Option<usize>,
    /// Waiting for a POST, and the size of these packets.
    queue: VecDeque<Packet>,
    queued: usize,
    /// Size of the body under way.
    posting: usize,
    get: Lane,
    post: Lane,
    /// What the last GET brought and has not been yielded.
    inbox: Packets,
    pause: Pause,
    opened: bool,
    /// A POST has failed; packets that are here already, or with the GET under way, come first.
    post_failed: Option<Error>,
    failed: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pause {
    No,
    /// Asked for, and not yet said to be complete.
    Asked,
    /// `Received::Paused` has been yielded.
    Told,
}

impl Polling {
    pub(super) fn new(shared: Arc<Shared>, sid: Option<&str>) -> Self {
        Self {
            shared,
            sid: sid.map(str::to_owned),
            max_payload: None,
            queue: VecDeque::new(),
            queued: 0,
            posting: 0,
            get: Lane::default(),
            post: Lane::default(),
            inbox: Packets::default(),
            pause: Pause::No,
            opened: false,
            post_failed: None,
            failed: None,
        }
    }

    pub(super) fn send(&mut self, packet: Packet) {
        if matches!(packet, Packet::Pong(_)) && Packet::ends_in_pong(&self.queue) {
            return;
        }
        self.queued += self.shared.revision.size_in_body(&packet);
        self.queue.push_back(packet);
    }

    pub(super) fn set_session(&mut self, sid: &str, max_payload: Option<usize>) {
        self.sid = Some(sid.to_owned());
        self.max_payload = max_payload;
    }

    pub(super) fn take_queued(&mut self) -> Vec<Packet> {
        self.queued = 0;
        self.queue.drain(..).collect()
    }

    pub(super) fn queued(&self) -> usize {
        self.queued + self.posting
    }

    pub(super) fn is_writable(&self) -> bool {
        self.queue.is_empty() && !self.post.is_busy()
    }

    pub(super) fn pause(&mut self) {
        if self.pause == Pause::No {
            self.pause = Pause::Asked;
        }
    }

    pub(super) fn resume(&mut self) {
        self.pause = Pause::No;
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Error>> {
        // A failure is told further down, after the packets that are here already: a `1` among them can say why.
        let _ = self.poll_posts(cx);
        loop {
            match self.inbox.next() {
                Some(Ok(packet)) => return Poll::Ready(Ok(Received::Packet(packet))),
                Some(Err(error)) => return Poll::Ready(Err(self.fail(error.into()))),
                None => {}
            }
            if let Some(error) = &self.failed {
                return Poll::Ready(Err(error.clone()));
            }
            if !self.get.is_busy() && self.may_get() {
                match self.shared.requests.get(self.sid.as_deref()) {
                    Ok(request) => self.get.start(self.shared.clone(), request, self.body_limit()),
                    Err(failure) => return Poll::Ready(Err(self.fail(Error::Poll(failure)))),
                }
                self.opened = true;
            }
            match self.get.poll(cx) {
                Poll::Ready(answer) => match answer.and_then(readable) {
                    Ok(body) => {
                        if let Err(error) = self.check_revision(&body) {
                            return Poll::Ready(Err(self.fail(error.into())));
                        }
                        self.inbox = self.shared.revision.decode_body(body);
                    }
                    Err(failure) => return Poll::Ready(Err(self.fail(Error::Poll(failure)))),
                },
                Poll::Pending => break,
            }
        }
        if let Some(error) = self.post_failed.take() {
            return Poll::Ready(Err(self.fail(error)));
        }
        if self.pause == Pause::Asked && !self.get.is_busy() && !self.post.is_busy() {
            self.pause = Pause::Told;
            return Poll::Ready(Ok(Received::Paused));
        }
        Poll::Pending
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        self.poll_posts(cx)
    }

    /// Ready when nothing is queued and nothing under way, or when a POST has failed.
    fn poll_posts(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if let Some(error) = &self.post_failed {
                return Poll::Ready(Err(error.clone()));
            }
            if !self.post.is_busy()
                && self.may_post()
                && let Err(failure) = self.start_post()
            {
                self.post_failed = Some(Error::Post(failure));
                continue;
            }
            match self.post.poll(cx) {
                Poll::Ready(Ok(_)) => self.posting = 0,
                Poll::Ready(Err(failure)) => self.post_failed = Some(Error::Post(failure)),
                Poll::Pending if self.is_writable() => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The answer that opens a session says in which revision; servers before Socket.IO 3 know only theirs.
    fn check_revision(&self, body: &[u8]) -> Result<(), DecodeError> {
        match Revision::of_handshake(body) {
            Some(other) if self.sid.is_none() && other != self.shared.revision => {
                Err(DecodeError::OtherRevision(other))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn start_post(&mut self) -> Result<(), Failure> {
        let waiting = self.queue.len();
        let revision = self.shared.revision;
        let Some(body) = revision.take_body(&mut self.queue, self.max_payload) else {
            return Ok(());
        };
        self.queued -= body.len() - revision.separators(waiting - self.queue.len());
        self.posting = body.len();
        let request = self.shared.requests.post(self.sid.as_deref(), body)?;
        self.post.start(self.shared.clone(), request, POST_ANSWER);
        Ok(())
    }

    fn may_post(&self) -> bool {
        self.pause == Pause::No && self.sid.is_some()
    }

    /// The first GET opens the session, all later ones need its id.
    fn may_get(&self) -> bool {
        self.pause == Pause::No && self.post_failed.is_none() && (self.sid.is_some() || !self.opened)
    }

    /// The largest message, as base64, and some room.
    fn body_limit(&self) -> usize {
        self.shared.max_payload.div_ceil(3).saturating_mul(4).saturating_add(BODY_SLACK)
    }

    pub(super) async fn close(mut self) {
        if self.failed.is_some() || self.sid.is_none() {
            return;
        }
        self.resume();
        // The GET under way is kept until the end, since hanging up on it would look like a loss to the server.
        let flushed = poll_fn(|cx| self.poll_flush_reading(cx)).await;
        self.send(Packet::Close);
        let flushed = match flushed {
            Ok(()) => poll_fn(|cx| self.poll_flush_reading(cx)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = flushed {
            debug!(%error, "closing without farewell");
        }
    }

    /// `poll_flush`, with an eye on the GET under way, whose answer is dropped.
    fn poll_flush_reading(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Poll::Ready(Err(failure)) = self.get.poll(cx) {
            return Poll::Ready(Err(self.fail(Error::Poll(failure))));
        }
        self.poll_flush(cx)
    }

    fn fail(&mut self, error: Error) -> Error {
        self.failed = Some(error.clone());
        self.get = Lane::default();
        self.post = Lane::default();
        error
    }
}

impl fmt::Debug for Polling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polling")
            .field("queued", &self.queued())
            .field("getting", &self.get.is_busy())
            .field("posting", &self.post.is_busy())
            .field("pause", &self.pause)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// One request at a time, and the connection that is left from the last one.
#[derive(Default)]
struct Lane {
    idle: Option<HttpConnection>,
    busy: Option<Pin<Box<Exchange>>>,
}

type Exchange = dyn Future<Output = Result<(Response<Bytes>, HttpConnection), Failure>> + Send;

impl Lane {
    fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    fn start(&mut self, shared: Arc<Shared>, request: HttpRequest, limit: usize) {
        let idle = self.idle.take();
        self.busy = Some(Box::pin(async move { exchange(&shared, idle, request, limit).await }));
    }

    /// The answer of the request under way; pending for ever without one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Bytes>, Failure>> {
        let Some(busy) = &mut self.busy else {
            // A connection that the server has closed is let go at once, not at the next request.
            self.idle.take_if(|idle| !idle.poll_idle(cx));
            return Poll::Pending;
        };
        let exchanged = ready!(busy.as_mut().poll(cx));
        self.busy = None;
        let (answer, connection) = exchanged?;
        self.idle = Some(connection);
        Poll::Ready(Ok(answer))
    }
}

/// The body, unless it is compressed, which nobody asked for.
fn readable(answer: Response<Bytes>) -> Result<Bytes, Failure> {
    match answer.headers().get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(Failure::new(
            Phase::Http,
            format!("the answer has Content-Encoding {encoding:?}, though none was asked for"),
        )),
        _ => Ok(answer.into_body()),
    }
}
