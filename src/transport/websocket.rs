//! Packets over one WebSocket: one packet, one message.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tracing::debug;

use super::dial::Stream;
use super::error::Failure;
use super::frames::{Frames, Front, Incoming};
use super::{Arrival, Error, Received};
use crate::engineio::{DecodeError, Frame, Packet, Phase, Revision};

/// How long a close frame's answer is waited for.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Smallest header of a masked frame, counted for each packet so that even an empty one weighs something.
const FRAME_HEADER: usize = 6;

/// The WebSocket transport. `S` is the connection underneath.
pub struct WebSocket<S = Stream> {
    frames: Frames<S>,
    revision: Revision,
    queue: VecDeque<Packet>,
    /// Weight of `queue`, and of what `frames` has taken since it was last flushed.
    queued: usize,
    unflushed: usize,
    /// The last write stopped because the peer took no more.
    blocked: bool,
    /// Writing has failed; the peer's last words may still be there to read.
    unsendable: Option<Error>,
    failed: Option<Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    pub(super) fn new(frames: Frames<S>, revision: Revision) -> Self {
        Self {
            frames,
            revision,
            queue: VecDeque::new(),
            queued: 0,
            unflushed: 0,
            blocked: false,
            unsendable: None,
            failed: None,
        }
    }

    pub(super) fn send(&mut self, packet: Packet) {
        if matches!(packet, Packet::Pong(_)) && Packet::ends_in_pong(&self.queue) {
            return;
        }
        self.queued += weight(&packet);
        self.queue.push_back(packet);
    }

    pub(super) fn take_queued(&mut self) -> Vec<Packet> {
        self.queued = 0;
        self.queue.drain(..).collect()
    }

    pub(super) fn queued(&self) -> usize {
        self.queued + self.unflushed
    }

    pub(super) fn is_writable(&self) -> bool {
        !self.blocked
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Error>> {
        loop {
            match ready!(self.poll_arrival(cx))? {
                Arrival::Received(received) => return Poll::Ready(Ok(received)),
                Arrival::Texts => {
                    if let Some(message) = self.frames.take() {
                        return Poll::Ready(self.received(message));
                    }
                }
            }
        }
    }

    pub(super) fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrival, Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        if (self.queued() > 0 || self.unsendable.is_some())
            && let Poll::Ready(Err(error)) = self.poll_flush(cx)
            && !error.is_closed()
        {
            return Poll::Ready(self.fail(error));
        }
        Poll::Ready(match ready!(self.frames.poll_front(cx)) {
            Ok(Front::Texts) => Ok(Arrival::Texts),
            Ok(Front::Message(message)) => self.received(message).map(Arrival::Received),
            Err(error) => self.fail(error),
        })
    }

    /// The texts of message packets, for as long as `take` wants them.
    pub(super) fn take_messages(&mut self, take: &mut dyn FnMut(&str) -> bool) {
        if self.failed.is_some() {
            return;
        }
        let revision = self.revision;
        self.frames.take_texts(&mut |packet| revision.message_text(packet).is_some_and(&mut *take));
    }

    fn received(&mut self, message: Incoming) -> Result<Received, Error> {
        let packet = match message {
            Incoming::Text(text) => self.revision.decode_bytes(text),
            Incoming::Binary(bytes) => self.revision.decode_frame(Frame::Binary(bytes)),
        };
        match packet {
            Ok(packet) => Ok(Received::Packet(packet)),
            // It is the WebSocket's rule that is broken.
            Err(error @ DecodeError::Utf8) => {
                let detail = format!("UTF-8 encoding error: {error}");
                self.fail(Error::WebSocket(Failure::new(Phase::Engine, detail)))
            }
            Err(error) => self.fail(error.into()),
        }
    }

    /// Hands packets over as long as they are taken, then flushes once. A failure is kept: a lost connection can have
    /// brought a close frame that `poll_recv` has yet to read.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = self.failed.as_ref().or(self.unsendable.as_ref()) {
            return Poll::Ready(Err(error.clone()));
        }
        let flushed = self.poll_hand_over(cx);
        self.blocked = flushed.is_pending();
        if let Poll::Ready(Err(error)) = &flushed {
            debug!(%error, "cannot write");
            self.unsendable = Some(error.clone());
        }
        flushed
    }

    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.queue.is_empty() {
            ready!(self.frames.poll_ready(cx))?;
            let Some(packet) = self.queue.pop_front() else {
                break;
            };
            let weight = weight(&packet);
            self.queued -= weight;
            self.unflushed += weight;
            self.frames.start_send(cx, self.revision.encode_frame(&packet))?;
        }
        if self.unflushed > 0 {
            ready!(self.frames.poll_flush(cx))?;
            self.unflushed = 0;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) async fn close(mut self) {
        let flushed = poll_fn(|cx| {
            // A peer that answers what it reads takes no more once its answers are not read.
            while let Poll::Ready(received) = self.poll_recv(cx) {
                received?;
            }
            self.poll_flush(cx)
        });
        if let Err(error) = flushed.await {
            debug!(%error, "closing without farewell");
            return;
        }
        let farewell = poll_fn(|cx| {
            ready!(self.frames.poll_close(cx))?;
            loop {
                ready!(self.frames.poll_next(cx))?;
            }
        });
        let answer: Result<Result<(), Error>, _> = timeout(CLOSE_WAIT, farewell).await;
        debug!(answered = answer.is_ok(), "closed");
    }

    fn fail<T>(&mut self, error: Error) -> Result<T, Error> {
        self.failed = Some(error.clone());
        Err(error)
    }
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("queued", &(self.queued + self.unflushed))
            .field("blocked", &self.blocked)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

fn weight(packet: &Packet) -> usize {
    FRAME_HEADER + packet.payload_size()
}
