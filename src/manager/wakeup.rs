//! The end of a sleep, noticed as soon as the machine wakes up. Only Linux says so.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Touches `awake` whenever the machine wakes up, until `stop`: timers that ran before it slept do not notice.
pub(super) async fn watch_for_sleep(awake: watch::Sender<()>, stop: CancellationToken) {
    match alarm() {
        Ok(alarm) => {
            tokio::select! {
                () = stop.cancelled() => {}
                Err(error) = ring(alarm, &awake) => {
                    warn!(%error, "from now on the end of a sleep will be noticed late");
                }
            }
        }
        Err(error) => warn!(%error, "the end of a sleep will be noticed late"),
    }
}

/// A timer that never fires, but ends its wait when the wall clock is set, as it is at the end of a sleep.
fn alarm() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let alarm = timerfd_create(TimerfdClockId::Realtime, flags)?;
    set(&alarm)?;
    Ok(alarm)
}

fn set(alarm: impl AsFd) -> io::Result<()> {
    const NEVER: Timespec = Timespec { tv_sec: i64::MAX / 1_000_000_000, tv_nsec: 0 };
    const ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(alarm, flags, &Itimerspec { it_interval: ONCE, it_value: NEVER })?;
    Ok(())
}

async fn ring(alarm: OwnedFd, awake: &watch::Sender<()>) -> io::Result<Infallible> {
    // To the runtime it is a descriptor that can be read, like the end of a pipe.
    let alarm = pipe::Receiver::from_owned_fd_unchecked(alarm)?;
    loop {
        alarm.readable().await?;
        match alarm.try_read(&mut [0; 8]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => {
                debug!("the wall clock was set");
                awake.send_replace(());
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        set(&alarm)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_watch_ends_when_it_is_told_to() {
        let stop = CancellationToken::new();
        let mut watching = tokio::task::JoinSet::new();
        watching.spawn(watch_for_sleep(watch::Sender::new(()), stop.clone()));
        stop.cancel();
        watching.join_next().await.unwrap().unwrap();
        alarm().expect("the system has such timers");
    }
}
