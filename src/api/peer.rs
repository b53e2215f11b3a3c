//! One attached program: its lines in, our lines out, until it leaves or is told goodbye.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tracing::debug;

use super::dispatch::{Context, Dispatcher};
use super::lines::Lines;
use super::socket::{Room, Socket};
use crate::hub::{Consumer, Goodbye, Inbox, Outlet};

/// How long a program has to read what was written before its goodbye.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// Serves one program. Returns when it is gone, or has been told goodbye.
///
/// Of the future's states only those lie in it in which a program rests; what is longer and done now and then (to carry
/// requests out, to wait for a socket that is full, the end) has a box meanwhile.
pub(super) async fn serve(stream: UnixStream, context: Arc<Context>, consumer: Arc<Consumer>) {
    if let Err(error) = converse(stream, &context, &consumer).await {
        debug!(%error, "a consumer's socket failed");
    }
    consumer.write_no_more();
}

async fn converse(stream: UnixStream, context: &Arc<Context>, consumer: &Arc<Consumer>) -> io::Result<()> {
    let socket = Arc::new(Socket::new(stream.into_std()?, Arc::clone(consumer.inbox()))?);
    consumer.write_to(Arc::clone(&socket) as Arc<_>);
    let inbox = consumer.inbox();
    let done_reading = AtomicBool::new(false);
    let requests = async {
        let read = read_requests(&socket, context, consumer).await;
        done_reading.store(true, Ordering::Relaxed);
        consumer.write_nothing_at_once();
        inbox.ring();
        // The other direction may still be wanted, so this half waits for the whole to end.
        read?;
        Box::pin(socket.hung_up()).await
    };
    let lines = write_lines(&socket, consumer, &done_reading, context.hub.stall());
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

async fn read_requests(socket: &Socket, context: &Arc<Context>, consumer: &Arc<Consumer>) -> io::Result<()> {
    let max_line = context.settings().max_line;
    let mut dispatcher = Dispatcher::new(Arc::clone(context), Arc::clone(consumer), max_line);
    let mut lines = Lines::new(max_line);
    loop {
        match socket.read(&mut lines).await {
            Ok(0) => break,
            Ok(_) => {}
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
    socket: &Socket,
    consumer: &Consumer,
    done_reading: &AtomicBool,
    stall: Duration,
) -> io::Result<()> {
    let inbox = consumer.inbox();
    let retry = (stall / 8).clamp(Duration::from_millis(10), Duration::from_millis(250));
    let (mut batch, mut room) = (Vec::new(), None);
    loop {
        // Asked before what is there is taken: an answer that comes in between is taken with the next round.
        let is_over = done_reading.load(Ordering::Relaxed) && !inbox.expects_answers();
        consumer.take(&mut batch);
        if !batch.is_empty() {
            socket.write(&mut batch)?;
            if !batch.is_empty()
                && let Some(goodbye) =
                    Box::pin(write_or_part(socket, &mut batch, &mut room, inbox, retry)).await?
            {
                return Box::pin(say_goodbye(socket, consumer, batch, goodbye, retry)).await;
            }
        } else if let Some(goodbye) = inbox.goodbye() {
            return Box::pin(say_goodbye(socket, consumer, batch, goodbye, retry)).await;
        } else if is_over && !consumer.is_subscribed() {
            return socket.end();
        } else {
            // A program that rests has no memory for what is to be written, and is not waited for.
            (batch, room) = (Vec::new(), None);
            inbox.wait().await;
        }
    }
}

/// Writes what a full socket did not take, unless a goodbye comes first.
async fn write_or_part(
    socket: &Socket,
    batch: &mut Vec<Bytes>,
    room: &mut Option<Room>,
    inbox: &Inbox,
    retry: Duration,
) -> io::Result<Option<Goodbye>> {
    tokio::select! {
        written = socket.write_rest(batch, room, retry) => written.map(|()| None),
        goodbye = inbox.farewell() => Ok(Some(goodbye)),
    }
}

/// The last lines: what is there already, then the goodbye, in the time there is.
async fn say_goodbye(
    socket: &Socket,
    consumer: &Consumer,
    mut batch: Vec<Bytes>,
    goodbye: Goodbye,
    retry: Duration,
) -> io::Result<()> {
    batch.append(&mut consumer.write_no_more());
    let write = async {
        socket.write_all(&mut batch, retry).await?;
        // One that is cut off for being slow gets no more of what it was too slow for.
        if goodbye == Goodbye::Shutdown {
            consumer.take(&mut batch);
            while !batch.is_empty() {
                socket.write_all(&mut batch, retry).await?;
                consumer.take(&mut batch);
            }
        }
        batch.push(goodbye.line());
        socket.write_all(&mut batch, retry).await?;
        socket.end()
    };
    tokio::time::timeout(FAREWELL, write).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}
