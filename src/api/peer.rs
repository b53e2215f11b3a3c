//! One attached program: its lines in, our lines out, until it leaves or is told goodbye.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::io::Errno;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tracing::debug;

use super::dispatch::{Context, Dispatcher};
use super::lines::Lines;
use crate::hub::{Consumer, Goodbye, Inbox, Outlet};

/// How long a program has to read what was written before its goodbye.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// What is read in one go; longer lines take more.
const READ_BYTES: usize = 16 * 1024;

/// Slices that one write takes.
const MAX_SLICES: usize = 128;

thread_local! {
    /// What has just been read, of whichever program: none has a buffer of its own but for the line that is yet to be whole.
    static JUST_READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Serves one program. Returns when it is gone, or has been told goodbye.
///
/// Of the future's states only those lie in it in which a program rests; what is longer and done now and then (to carry
/// requests out, to wait for a socket that is full, the end) has a box meanwhile.
pub(super) async fn serve(stream: UnixStream, context: Arc<Context>, consumer: Arc<Consumer>) {
    let stream = Arc::new(stream);
    consumer.write_to(Arc::clone(&stream) as Arc<_>);
    if let Err(error) = converse(&stream, &context, &consumer).await {
        debug!(%error, "a consumer's socket failed");
    }
    consumer.write_no_more();
}

async fn converse(stream: &UnixStream, context: &Arc<Context>, consumer: &Arc<Consumer>) -> io::Result<()> {
    let inbox = consumer.inbox();
    let done_reading = AtomicBool::new(false);
    let requests = async {
        let read = read_requests(stream, context, consumer).await;
        done_reading.store(true, Ordering::Relaxed);
        consumer.write_nothing_at_once();
        inbox.ring();
        // The other direction may still be wanted, so this half waits for the whole to end.
        read?;
        Box::pin(hung_up(stream.as_fd().try_clone_to_owned()?)).await
    };
    let lines = write_lines(stream, consumer, &done_reading, context.hub.stall());
    let (mut requests, mut lines) = (pin!(requests), pin!(lines));
    tokio::select! {
        ended = &mut requests => ended,
        ended = &mut lines => match ended {
            // It is gone, and what it asked for before is still carried out.
            Err(error) if inbox.goodbye().is_none() => {
                debug!(%error, "a consumer does not read any more");
                consumer.stop_listening();
                tokio::select! {
                    ended = requests => ended,
                    _goodbye = inbox.farewell() => Ok(()),
                }
            }
            ended => ended,
        },
    }
}

/// Says why there is no place for one more.
pub(super) async fn turn_away(mut stream: UnixStream, goodbye: Goodbye) {
    let write = async {
        stream.write_all(&goodbye.line()).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(FAREWELL, write).await {
        debug!(%error, "a consumer that was turned away did not listen");
    }
}

async fn read_requests(
    stream: &UnixStream,
    context: &Arc<Context>,
    consumer: &Arc<Consumer>,
) -> io::Result<()> {
    let max_line = context.settings().max_line;
    let mut dispatcher = Dispatcher::new(Arc::clone(context), Arc::clone(consumer), max_line);
    let mut lines = Lines::new(max_line);
    loop {
        stream.readable().await?;
        match read(stream, &mut lines) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            // The end of one that left answers unread; all that it wrote has been read by then.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        }
        Box::pin(carry_out(&mut dispatcher, &mut lines, consumer.inbox())).await;
        lines.shrink();
    }
    if let Some(line) = lines.finish() {
        let last = async {
            consumer.inbox().answers_have_room().await;
            dispatcher.handle(line).await;
        };
        Box::pin(last).await;
    }
    Ok(())
}

/// Reads what is there, up to a bound; gives how much that was.
fn read(stream: &UnixStream, lines: &mut Lines) -> io::Result<usize> {
    let mut count = 0;
    let all = JUST_READ.with_borrow_mut(|buffer| {
        stream.try_io(Interest::READABLE, || {
            count = rustix::io::read(stream, buffer.as_mut_slice())?;
            lines.add(&buffer[..count]);
            // With less than there is room for all has been read, and the runtime need not ask the system a second time.
            if count == 0 || count == READ_BYTES { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        })
    });
    if count > 0 { Ok(count) } else { all.map(|()| 0) }
}

/// Carries out what has been read whole.
async fn carry_out(dispatcher: &mut Dispatcher, lines: &mut Lines, inbox: &Inbox) {
    while let Some(line) = lines.next() {
        // Whoever does not read its answers is not read from either.
        inbox.answers_have_room().await;
        dispatcher.handle(line).await;
        // Nor does one that writes much keep the others waiting.
        tokio::task::coop::consume_budget().await;
    }
}

async fn write_lines(
    stream: &UnixStream,
    consumer: &Consumer,
    done_reading: &AtomicBool,
    stall: Duration,
) -> io::Result<()> {
    let inbox = consumer.inbox();
    let retry = (stall / 8).clamp(Duration::from_millis(10), Duration::from_millis(250));
    let mut batch = Vec::new();
    loop {
        // Asked before what is there is taken: an answer that comes in between is taken with the next round.
        let is_over = done_reading.load(Ordering::Relaxed) && !inbox.expects_answers();
        consumer.take(&mut batch);
        if !batch.is_empty() {
            stream.write(&mut batch)?;
            if !batch.is_empty()
                && let Some(goodbye) = Box::pin(write_or_part(stream, &mut batch, inbox, retry)).await?
            {
                return Box::pin(say_goodbye(stream, consumer, batch, goodbye, retry)).await;
            }
        } else if let Some(goodbye) = inbox.goodbye() {
            return Box::pin(say_goodbye(stream, consumer, batch, goodbye, retry)).await;
        } else if is_over && !consumer.is_subscribed() {
            return end(stream);
        } else {
            // A program that rests has no memory for what is to be written.
            batch = Vec::new();
            inbox.wait().await;
        }
    }
}

/// Writes what a full socket did not take, unless a goodbye comes first.
async fn write_or_part(
    stream: &UnixStream,
    batch: &mut Vec<Bytes>,
    inbox: &Inbox,
    retry: Duration,
) -> io::Result<Option<Goodbye>> {
    tokio::select! {
        written = write_rest(stream, batch, retry) => written.map(|()| None),
        goodbye = inbox.farewell() => Ok(Some(goodbye)),
    }
}

impl Outlet for UnixStream {
    fn write(&self, batch: &mut Vec<Bytes>) -> io::Result<()> {
        let mut at = 0;
        let result = loop {
            let mut slices = [io::IoSlice::new(&[]); MAX_SLICES];
            let count = slices
                .iter_mut()
                .zip(&batch[at..])
                .map(|(slice, bytes)| *slice = io::IoSlice::new(bytes))
                .count();
            if count == 0 {
                break Ok(());
            }
            match rustix::io::writev(self, &slices[..count]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(mut written) => {
                    while written > 0 {
                        let step = written.min(batch[at].len());
                        batch[at].advance(step);
                        written -= step;
                        at += usize::from(batch[at].is_empty());
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        batch.drain(..at);
        result
    }
}

/// Writes all slices, and leaves in `batch` what was not written if it is dropped before the end.
async fn write_all(stream: &UnixStream, batch: &mut Vec<Bytes>, retry: Duration) -> io::Result<()> {
    stream.write(batch)?;
    if batch.is_empty() { Ok(()) } else { write_rest(stream, batch, retry).await }
}

/// Writes what a full socket did not take, likewise.
///
/// A Unix socket that was full is called writable only once three quarters of it are read, which can take a slow
/// program longer than it takes to count as stalled. So it is tried again every `retry`.
async fn write_rest(stream: &UnixStream, batch: &mut Vec<Bytes>, retry: Duration) -> io::Result<()> {
    while !batch.is_empty() {
        // Once more for the runtime, which has to see that the socket is full.
        let again = stream.try_io(Interest::WRITABLE, || {
            stream.write(batch)?;
            if batch.is_empty() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        match again {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return written,
        }
        tokio::select! {
            ready = stream.writable() => ready?,
            () = tokio::time::sleep(retry) => {}
        }
        stream.write(batch)?;
    }
    Ok(())
}

/// The last lines: what is there already, then the goodbye, in the time there is.
async fn say_goodbye(
    stream: &UnixStream,
    consumer: &Consumer,
    mut batch: Vec<Bytes>,
    goodbye: Goodbye,
    retry: Duration,
) -> io::Result<()> {
    batch.append(&mut consumer.write_no_more());
    let write = async {
        write_all(stream, &mut batch, retry).await?;
        // One that is cut off for being slow gets no more of what it was too slow for.
        if goodbye == Goodbye::Shutdown {
            consumer.take(&mut batch);
            while !batch.is_empty() {
                write_all(stream, &mut batch, retry).await?;
                consumer.take(&mut batch);
            }
        }
        batch.push(goodbye.line());
        write_all(stream, &mut batch, retry).await?;
        end(stream)
    };
    tokio::time::timeout(FAREWELL, write).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}

/// Nothing more is written.
fn end(stream: &UnixStream) -> io::Result<()> {
    Ok(rustix::net::shutdown(stream, rustix::net::Shutdown::Write)?)
}

/// Waits until a program that has shut its writing side is gone altogether.
///
/// The stream's own readiness cannot say so without being cleared, which a writer in wait would never notice; a
/// second descriptor has readiness of its own.
async fn hung_up(fd: OwnedFd) -> io::Result<()> {
    let stream = UnixStream::from_std(fd.into())?;
    loop {
        if stream.ready(Interest::WRITABLE).await?.is_write_closed() {
            return Ok(());
        }
        let cleared: io::Result<()> =
            stream.try_io(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into()));
        debug_assert!(cleared.is_err());
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_a_little_is_given_a_little() {
        const LINE: usize = 512;
        let retry = Duration::from_millis(50);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let line = Bytes::from_static(&[b'x'; LINE]);
        let mut written = 0;
        while tokio::time::timeout(retry / 2, write_all(&ours, &mut vec![line.clone()], retry)).await.is_ok()
        {
            written += LINE;
        }
        assert!(written > 8 * LINE, "{written} bytes fit");
        // Far less than the three quarters after which the system would call the socket writable.
        let mut taken = vec![0; written / 16];
        theirs.read_exact(&mut taken).await.unwrap();
        write_all(&ours, &mut vec![line], retry).await.unwrap();
    }

    #[tokio::test]
    async fn a_batch_that_is_cut_short_leaves_the_rest() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let piece = Bytes::from(vec![b'y'; 100_000]);
        let mut batch = vec![piece.clone(), piece.clone(), piece.clone(), piece];
        let retry = Duration::from_millis(10);
        tokio::select! {
            written = write_all(&ours, &mut batch, retry) => panic!("it all fit: {written:?}"),
            read = theirs.readable() => read.unwrap(),
        }
        let left: usize = batch.iter().map(Bytes::len).sum();
        let mut read = vec![0; 400_000 - left];
        theirs.read_exact(&mut read).await.unwrap();
        let mut rest = vec![0; left];
        let (written, ()) = tokio::join!(write_all(&ours, &mut batch, retry), async {
            theirs.read_exact(&mut rest).await.map(drop).unwrap();
        });
        written.unwrap();
        assert!(batch.is_empty() && read.iter().chain(&rest).all(|byte| *byte == b'y'));
    }
}
