//! A transport on its way up, up, or down.

use std::task::{Context, Poll};

use super::BoxFuture;
use crate::transport::{self, Arrival, Received, Transport};

/// What came of a transport.
pub(super) enum Heard {
    Opened,
    /// Texts are there to be taken.
    Texts,
    Received(Received),
    Lost(transport::Error),
}

pub(super) enum Link {
    Down,
    Dialling(BoxFuture<Result<Transport, transport::Error>>),
    Up(Box<Transport>),
}

impl Link {
    /// Opens, sends what is queued and receives, all at once. Nothing is lost when it is not polled to the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        self.poll_by(cx, |transport, cx| {
            transport.poll_arrival(cx).map_ok(|arrival| match arrival {
                Arrival::Texts => Heard::Texts,
                Arrival::Received(received) => Heard::Received(received),
            })
        })
    }

    /// The same, save that texts are received as well.
    pub(super) fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        self.poll_by(cx, |transport, cx| transport.poll_recv(cx).map_ok(Heard::Received))
    }

    fn poll_by(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Transport, &mut Context<'_>) -> Poll<Result<Heard, transport::Error>>,
    ) -> Poll<Heard> {
        let heard = match self {
            Self::Down => return Poll::Pending,
            Self::Dialling(dialling) => match std::task::ready!(dialling.as_mut().poll(cx)) {
                Ok(transport) => {
                    *self = Self::Up(Box::new(transport));
                    return Poll::Ready(Heard::Opened);
                }
                Err(error) => Heard::Lost(error),
            },
            Self::Up(transport) => match std::task::ready!(poll(transport, cx)) {
                Ok(heard) => return Poll::Ready(heard),
                Err(error) => Heard::Lost(error),
            },
        };
        *self = Self::Down;
        Poll::Ready(heard)
    }

    /// Only sends; ends when all is sent, or the transport is lost.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Up(transport) => match std::task::ready!(transport.poll_flush(cx)) {
                Ok(()) => Poll::Ready(()),
                // The failure shows again when the transport is read.
                Err(_) => Poll::Pending,
            },
            Self::Down | Self::Dialling(_) => Poll::Ready(()),
        }
    }

    pub(super) fn transport(&mut self) -> Option<&mut Transport> {
        match self {
            Self::Up(transport) => Some(transport),
            Self::Down | Self::Dialling(_) => None,
        }
    }

    pub(super) fn queued(&mut self) -> usize {
        self.transport().map_or(0, |transport| transport.queued())
    }
}
