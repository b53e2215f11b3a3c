//! One HTTP/1.1 connection and one request on it, with every length bounded.
//!
//! The connection is driven by whoever waits for its answer, so that nothing runs in the background and dropping the
//! future closes the socket. Redirects, compression and HTTP/2 are not supported.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, Connection, Parts, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connect::Shared;
use super::dial::Stream;
use super::error::{EXCERPT, Failure};
use super::hint;
use super::input::rest;
use super::request::HttpRequest;
use crate::engineio::Phase;

/// Largest head of an answer, in bytes, and the most header lines in it.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// How a TLS alert begins: the record's type, and a version's first byte.
const TLS_ALERT: &[u8; 2] = b"\x15\x03";

/// A connection that can carry one request at a time.
pub(super) struct HttpConnection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    is_plain: bool,
    /// When the server said it will hang up on an idle connection.
    reuse_until: Option<Instant>,
}

/// Sends a request and reads the whole answer, on `idle` if it still works and on a new connection otherwise.
///
/// Only status 200 with at most `limit` bytes of body is a success. A request is sent again only if nothing of it had
/// been written. Yields the connection for the next request.
pub(super) async fn exchange(
    shared: &Shared,
    idle: Option<HttpConnection>,
    request: HttpRequest,
    limit: usize,
) -> Result<(Response<Bytes>, HttpConnection), Failure> {
    let mut request = request;
    if let Some(connection) = idle.filter(|idle| idle.reuse_until.is_none_or(|end| Instant::now() < end)) {
        shared.tell_request(&request);
        match connection.send(request).await {
            Ok((answer, connection)) => return connection.finish(shared, answer, limit).await,
            Err(Unanswered { unsent: Some(unsent), .. }) => request = *unsent,
            Err(Unanswered { unsent: None, failure }) => return Err(failure),
        }
    }
    let connection = HttpConnection::over(shared.dialler.dial().await?).await?;
    shared.tell_request(&request);
    match connection.send(request).await {
        Ok((answer, connection)) => connection.finish(shared, answer, limit).await,
        Err(unanswered) => Err(unanswered.failure),
    }
}

/// A request that got no answer, and the request itself if nothing of it was written.
struct Unanswered {
    failure: Failure,
    unsent: Option<Box<HttpRequest>>,
}

impl HttpConnection {
    /// Takes a connection that is fresh.
    pub(super) async fn over(stream: Stream) -> Result<Self, Failure> {
        let is_plain = !matches!(stream, Stream::Tls(_));
        let (sender, connection) = Builder::new()
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .title_case_headers(true)
            .handshake(TokioIo::new(Fair { stream, in_a_row: 0 }))
            .await
            .map_err(|error| Failure::http(&error))?;
        Ok(Self { sender, driver: Driver { connection, ended: false }, is_plain, reuse_until: None })
    }

    /// Lets an idle connection notice that it was closed; false once it is of no more use.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> bool {
        self.driver.poll(cx);
        !self.driver.ended
    }

    /// Asks for another protocol: the answer's head, the raw connection, and what was read beyond that head.
    ///
    /// `wanted` sees the head of the answer and says whether it is the one that switches; any other is a failure.
    pub(super) async fn switch(
        self,
        request: HttpRequest,
        wanted: impl FnOnce(StatusCode, &HeaderMap) -> bool,
    ) -> Result<(HeaderMap, Stream, Bytes), Failure> {
        let (answer, mut this) = self.send(request).await.map_err(|unanswered| unanswered.failure)?;
        if !wanted(answer.status(), answer.headers()) {
            return Err(this.refusal(answer).await);
        }
        poll_fn(|cx| {
            this.driver.poll(cx);
            if this.driver.ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let Parts { io, read_buf, .. } = this.driver.connection.into_parts();
        Ok((answer.into_parts().0.headers, io.into_inner().stream, read_buf))
    }

    async fn send(mut self, request: HttpRequest) -> Result<(Response<Incoming>, Self), Unanswered> {
        if let Err(error) = self.driver.drive(self.sender.ready()).await {
            return Err(Unanswered { failure: Failure::http(&error), unsent: Some(Box::new(request)) });
        }
        match self.driver.drive(self.sender.try_send_request(request)).await {
            Ok(answer) => Ok((answer, self)),
            Err(mut error) => Err(Unanswered {
                unsent: error.take_message().map(Box::new),
                failure: self.unanswered(&error.into_error()),
            }),
        }
    }

    /// Why there is no answer, or none that is HTTP.
    fn unanswered(self, error: &hyper::Error) -> Failure {
        let read = self.driver.connection.into_parts().read_buf;
        match read.first_chunk() {
            Some(TLS_ALERT) if self.is_plain => {
                Failure::new(Phase::Http, "the server answers with a TLS alert: this port is for TLS")
                    .with_hint(hint::TLS_PORT)
            }
            _ if error.is_incomplete_message() => {
                let hint = if self.is_plain { hint::SILENCE_PLAIN } else { hint::SILENCE };
                Failure::http(error).with_hint(hint)
            }
            _ => Failure::http(error),
        }
    }

    async fn finish(
        mut self,
        shared: &Shared,
        answer: Response<Incoming>,
        limit: usize,
    ) -> Result<(Response<Bytes>, Self), Failure> {
        shared.take_head(answer.status(), answer.headers());
        if answer.status() != StatusCode::OK {
            return Err(self.refusal(answer).await);
        }
        self.reuse_until = keep_alive(answer.headers()).and_then(|time| Instant::now().checked_add(time));
        let (head, mut body) = answer.into_parts();
        let body = self.driver.read(&mut body, limit).await?;
        Ok((Response::from_parts(head, body), self))
    }

    async fn refusal(mut self, answer: Response<Incoming>) -> Failure {
        let (head, mut body) = answer.into_parts();
        let mut excerpt = self.driver.read_start(&mut body).await;
        excerpt.truncate(EXCERPT);
        Failure::status(head.status, &head.headers, &excerpt)
    }
}

/// Bytes read in a row before everybody else has a turn: an answer can be in pieces of a byte, and hyper takes all there is.
const IN_A_ROW: usize = 16 * 1024;

/// A stream that has nothing to read now and then.
struct Fair<S> {
    stream: S,
    /// Bytes read since there was nothing.
    in_a_row: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Fair<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.in_a_row >= IN_A_ROW {
            self.in_a_row = 0;
            return rest(cx);
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.in_a_row = if read.is_pending() { 0 } else { self.in_a_row + buffer.filled().len() - before };
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fair<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Moves the connection's bytes while something else waits for their effect.
struct Driver {
    connection: Connection<TokioIo<Fair<Stream>>, Full<Bytes>>,
    ended: bool,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        // A failure reaches the request or the body under way too, where it is reported.
        if !self.ended && self.connection.poll_without_shutdown(cx).is_ready() {
            self.ended = true;
        }
    }

    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    async fn read(&mut self, body: &mut Incoming, limit: usize) -> Result<Bytes, Failure> {
        let too_large = || {
            Failure::new(Phase::Http, format!("answer larger than {limit} bytes"))
                .with_hint(hint::MAX_PAYLOAD)
        };
        if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
            return Err(too_large());
        }
        let (mut read, mut pieces) = (BytesMut::new(), 0_u8);
        while let Some(frame) = self.drive(body.frame()).await {
            // Pieces can be of a byte each, and all of those that are here come without a wait.
            pieces = pieces.wrapping_add(1);
            if pieces.is_multiple_of(32) {
                tokio::task::yield_now().await;
            }
            let Ok(data) = frame.map_err(|error| Failure::http(&error))?.into_data() else {
                continue;
            };
            if data.len() > limit - read.len() {
                return Err(too_large());
            }
            read.extend_from_slice(&data);
        }
        Ok(read.freeze())
    }

    /// The beginning of a body: an excerpt's worth if there is so much, or what comes before it ends or breaks.
    async fn read_start(&mut self, body: &mut Incoming) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < EXCERPT
            && let Some(Ok(frame)) = self.drive(body.frame()).await
        {
            if let Some(data) = frame.data_ref() {
                read.extend_from_slice(&data[..data.len().min(EXCERPT)]);
            }
        }
        read
    }
}

/// How long an idle connection can be used: what the server grants, less a second, so that a request and the server's
/// hanging up do not cross.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(HeaderName::from_static("keep-alive"))?.to_str().ok()?;
    let seconds =
        value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?.parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_never_ends_lets_others_have_a_turn() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (ours, mut theirs) = tokio::io::duplex(4 * IN_A_ROW);
        theirs.write_all(&vec![0; 2 * IN_A_ROW]).await.unwrap();
        let mut fair = Fair { stream: ours, in_a_row: 0 };
        let mut piece = [0; 1000];
        for _ in 0..IN_A_ROW.div_ceil(piece.len()) {
            assert!(futures_util::poll!(pin!(fair.read(&mut piece))).is_ready());
        }
        assert!(futures_util::poll!(pin!(fair.read(&mut piece))).is_pending(), "though there is more");
        assert!(futures_util::poll!(pin!(fair.read(&mut piece))).is_ready());
    }

    #[test]
    fn the_server_tells_how_long_it_waits() {
        for (value, expected) in [
            ("timeout=5", Some(4)),
            ("max=10, timeout=60", Some(59)),
            ("timeout=0", Some(0)),
            ("timeout=x", None),
            ("max=10", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("keep-alive", HeaderValue::from_static(value));
            assert_eq!(keep_alive(&headers), expected.map(Duration::from_secs), "{value}");
        }
        assert_eq!(keep_alive(&HeaderMap::new()), None);
    }
}
