//! A program's socket: read when there is something, written to by whoever has something, waited for only when it is full.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::lines::Lines;
use crate::hub::{Inbox, Outlet};

/// What is read in one go; longer lines take more.
const READ_BYTES: usize = 16 * 1024;

/// Slices that one write takes.
const MAX_SLICES: usize = 128;

/// How often a full socket is tried again that there is no descriptor left to be told of.
const BLIND: Duration = Duration::from_millis(10);

/// How often one is asked for by which to be told that a program is gone.
const NO_DESCRIPTOR: Duration = Duration::from_secs(1);

thread_local! {
    /// What has just been read, of whichever program: none has a buffer of its own but for the line that is yet to be whole.
    static JUST_READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The socket of one program.
///
/// The system tells of what can be read from it, but not of room: that would be an event for each time that the program
/// reads, while hardly ever somebody waits for it.
#[derive(Debug)]
pub(super) struct Socket {
    fd: AsyncFd<UnixStream>,
    /// Hears how much the program takes.
    inbox: Arc<Inbox>,
}

/// Tells of room in a socket. A second descriptor of it, for those have events of their own.
#[derive(Debug)]
pub(super) struct Room(AsyncFd<OwnedFd>);

impl Socket {
    /// Of a stream that does not block, and whose program this is.
    pub(super) fn new(stream: UnixStream, inbox: Arc<Inbox>) -> io::Result<Self> {
        Ok(Self { fd: events_of(stream, Interest::READABLE)?, inbox })
    }

    /// Waits for something to read, and reads it, up to a bound: how much that was, 0 at the end.
    pub(super) async fn read(&self, lines: &mut Lines) -> io::Result<usize> {
        loop {
            let mut ready = self.fd.readable().await?;
            let read = JUST_READ.with_borrow_mut(|buffer| {
                let count = rustix::io::read(&self.fd, buffer.as_mut_slice())?;
                lines.add(&buffer[..count]);
                Ok(count)
            });
            match read {
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(count) => {
                    // With less than there is room for all has been read, and the system need not be asked a second time.
                    if count < READ_BYTES {
                        ready.clear_ready();
                    }
                    return Ok(count);
                }
            }
        }
    }

    /// Writes all slices, and leaves in `batch` what was not written if it is dropped before the end.
    pub(super) async fn write_all(&self, batch: &mut Vec<Bytes>, retry: Duration) -> io::Result<()> {
        self.write(batch)?;
        if batch.is_empty() { Ok(()) } else { self.write_rest(batch, &mut None, retry).await }
    }

    /// Writes what a full socket did not take, likewise. `room` is for the next time.
    ///
    /// A Unix socket that was full is called writable only once three quarters of it are read, which can take a slow
    /// program longer than it takes to count as stalled. So it is tried again every `retry`.
    pub(super) async fn write_rest(
        &self,
        batch: &mut Vec<Bytes>,
        room: &mut Option<Room>,
        retry: Duration,
    ) -> io::Result<()> {
        while !batch.is_empty() {
            if room.is_none() {
                *room = self.room().ok();
            }
            match room {
                Some(room) => tokio::select! {
                    ready = room.0.writable() => ready?.clear_ready(),
                    () = tokio::time::sleep(retry) => {}
                },
                None => tokio::time::sleep(BLIND.min(retry)).await,
            }
            self.write(batch)?;
        }
        Ok(())
    }

    /// Nothing more is written.
    pub(super) fn end(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Write)?)
    }

    /// Waits until a program that has shut its writing side is gone altogether.
    pub(super) async fn hung_up(&self) -> io::Result<()> {
        let room = loop {
            match self.room() {
                Ok(room) => break room,
                // It still hears what is written to it; that it has left is seen once somebody else has.
                Err(_) => tokio::time::sleep(NO_DESCRIPTOR).await,
            }
        };
        loop {
            let mut ready = room.0.writable().await?;
            if ready.ready().is_write_closed() {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    fn room(&self) -> io::Result<Room> {
        let second = self.fd.as_fd().try_clone_to_owned()?;
        Ok(Room(events_of(second, Interest::WRITABLE)?))
    }

    fn write_slices(&self, batch: &[Bytes]) -> rustix::io::Result<usize> {
        if let [slice] = batch {
            return rustix::io::write(&self.fd, slice);
        }
        let mut slices = [io::IoSlice::new(&[]); MAX_SLICES];
        let count =
            slices.iter_mut().zip(batch).map(|(slice, bytes)| *slice = io::IoSlice::new(bytes)).count();
        rustix::io::writev(&self.fd, &slices[..count])
    }
}

/// What the system says of a descriptor.
#[expect(
    deprecated,
    reason = "for types that do not own what they name; these do, and what replaces it is unsafe to call"
)]
fn events_of<T: AsRawFd + Into<OwnedFd>>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, interest)
}

impl Outlet for Socket {
    fn write(&self, batch: &mut Vec<Bytes>) -> io::Result<()> {
        let mut at = 0;
        let result = loop {
            if at == batch.len() {
                break Ok(());
            }
            match self.write_slices(&batch[at..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(mut written) => {
                    self.inbox.took(written);
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::hub::Lag;

    fn pair() -> (Socket, tokio::net::UnixStream) {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let inbox = Arc::new(Inbox::new(Lag::Skip));
        (Socket::new(ours.into_std().unwrap(), inbox).unwrap(), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_a_little_is_given_a_little() {
        const LINE: usize = 512;
        let retry = Duration::from_millis(50);
        let (ours, mut theirs) = pair();
        let line = Bytes::from_static(&[b'x'; LINE]);
        let mut written = 0;
        while tokio::time::timeout(retry / 2, ours.write_all(&mut vec![line.clone()], retry)).await.is_ok() {
            written += LINE;
        }
        assert!(written > 8 * LINE, "{written} bytes fit");
        // Far less than the three quarters after which the system would call the socket writable.
        let mut taken = vec![0; written / 16];
        theirs.read_exact(&mut taken).await.unwrap();
        ours.write_all(&mut vec![line], retry).await.unwrap();
    }

    #[tokio::test]
    async fn a_batch_that_is_cut_short_leaves_the_rest() {
        let (ours, mut theirs) = pair();
        let piece = Bytes::from(vec![b'y'; 100_000]);
        let mut batch = vec![piece.clone(), piece.clone(), piece.clone(), piece];
        let retry = Duration::from_millis(10);
        tokio::select! {
            written = ours.write_all(&mut batch, retry) => panic!("it all fit: {written:?}"),
            read = theirs.readable() => read.unwrap(),
        }
        let left: usize = batch.iter().map(Bytes::len).sum();
        let mut read = vec![0; 400_000 - left];
        theirs.read_exact(&mut read).await.unwrap();
        let mut rest = vec![0; left];
        let (written, ()) = tokio::join!(ours.write_all(&mut batch, retry), async {
            theirs.read_exact(&mut rest).await.map(drop).unwrap();
        });
        written.unwrap();
        assert_eq!(ours.inbox.taken(), 400_000, "it hears what the program takes");
        assert!(batch.is_empty() && read.iter().chain(&rest).all(|byte| *byte == b'y'));
    }
}
