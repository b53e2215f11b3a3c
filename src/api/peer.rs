//! One attached program: its lines in, our lines out, until it leaves or is told goodbye.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tracing::debug;

use super::dispatch::{Context, Dispatcher};
use super::lines::Lines;
use crate::hub::{Consumer, Goodbye, Inbox};

/// How long a program has to read what was written before its goodbye.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// What is read in one go; longer lines take more.
const READ_BYTES: usize = 16 * 1024;

/// Slices that one write takes.
const MAX_SLICES: usize = 256;

/// Serves one program. Returns when it is gone, or has been told goodbye.
pub(super) async fn serve(mut stream: UnixStream, context: Arc<Context>, consumer: Arc<Consumer>) {
    let watch = stream.as_fd().try_clone_to_owned();
    let (reader, writer) = stream.split();
    let inbox = Arc::clone(consumer.inbox());
    let done_reading = AtomicBool::new(false);
    let requests = async {
        let dispatcher = Dispatcher::new(Arc::clone(&context), Arc::clone(&consumer));
        let read = read_requests(reader, dispatcher, &inbox, context.settings.max_line).await;
        done_reading.store(true, Ordering::Relaxed);
        inbox.ring();
        // The other direction may still be wanted, so this half waits for the whole to end.
        match (read, watch) {
            (Ok(()), Ok(fd)) => hung_up(fd).await,
            (Ok(()), Err(error)) | (Err(error), _) => Err(error),
        }
    };
    let lines = write_lines(writer, &consumer, &done_reading);
    let ended = tokio::select! {
        ended = requests => ended,
        ended = lines => ended,
    };
    if let Err(error) = ended {
        debug!(%error, "a consumer's socket failed");
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
    reader: ReadHalf<'_>,
    mut dispatcher: Dispatcher,
    inbox: &Inbox,
    max_line: usize,
) -> io::Result<()> {
    let mut lines = Lines::new(max_line);
    loop {
        while let Some(line) = lines.next() {
            // Whoever does not read its answers is not read from either.
            inbox.answers_have_room().await;
            dispatcher.handle(line).await;
        }
        lines.shrink();
        // An idle consumer has no buffer.
        reader.readable().await?;
        let buffer = lines.buffer();
        buffer.reserve(READ_BYTES);
        match reader.try_read_buf(buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(line) = lines.finish() {
        inbox.answers_have_room().await;
        dispatcher.handle(line).await;
    }
    Ok(())
}

async fn write_lines(
    mut writer: WriteHalf<'_>,
    consumer: &Consumer,
    done_reading: &AtomicBool,
) -> io::Result<()> {
    let inbox = consumer.inbox();
    let mut batch = Vec::new();
    loop {
        consumer.take(&mut batch);
        if !batch.is_empty() {
            tokio::select! {
                written = write_all(&mut writer, &mut batch) => written?,
                goodbye = inbox.farewell() => return say_goodbye(&mut writer, consumer, batch, goodbye).await,
            }
        } else if let Some(goodbye) = inbox.goodbye() {
            return say_goodbye(&mut writer, consumer, batch, goodbye).await;
        } else if done_reading.load(Ordering::Relaxed)
            && !inbox.expects_answers()
            && !consumer.is_subscribed()
        {
            return writer.shutdown().await;
        } else {
            inbox.wait().await;
        }
    }
}

/// Writes all slices, and leaves in `batch` what was not written if it is dropped before the end.
async fn write_all(writer: &mut WriteHalf<'_>, batch: &mut Vec<Bytes>) -> io::Result<()> {
    let mut at = 0;
    let mut done = 0;
    // What was written has to be known when this is dropped, so it is noted before every wait.
    let result = loop {
        let Some(first) = batch.get(at) else { break Ok(()) };
        let written = if batch.len() - at == 1 {
            writer.write(first).await
        } else {
            let slices: Vec<_> =
                batch[at..].iter().take(MAX_SLICES).map(|bytes| io::IoSlice::new(bytes)).collect();
            writer.write_vectored(&slices).await
        };
        match written {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(mut count) => {
                while count > 0 {
                    let step = count.min(batch[at].len());
                    batch[at].advance(step);
                    count -= step;
                    if batch[at].is_empty() {
                        at += 1;
                        done += 1;
                    }
                }
            }
            Err(error) => break Err(error),
        }
    };
    batch.drain(..done);
    result
}

/// The last lines: what is there already, then the goodbye, in the time there is.
async fn say_goodbye(
    writer: &mut WriteHalf<'_>,
    consumer: &Consumer,
    mut batch: Vec<Bytes>,
    goodbye: Goodbye,
) -> io::Result<()> {
    let write = async {
        batch.retain(|bytes| !bytes.is_empty());
        write_all(writer, &mut batch).await?;
        // One that is cut off for being slow gets no more of what it was too slow for.
        if goodbye == Goodbye::Shutdown {
            consumer.take(&mut batch);
            while !batch.is_empty() {
                write_all(writer, &mut batch).await?;
                consumer.take(&mut batch);
            }
        }
        writer.write_all(&goodbye.line()).await?;
        writer.shutdown().await
    };
    tokio::time::timeout(FAREWELL, write).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
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
