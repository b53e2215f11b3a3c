//! What the process is asked to do from outside: SIGTERM and SIGINT end it, SIGHUP lets it read its configuration again.
//!
//! What that means is decided by whoever waits for it; nothing here ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::{Handle, SignalsInfo};
use tokio::sync::Notify;
use tracing::info;

/// Remembers a SIGHUP that comes before [`Signals`] are there. Of itself the system would end the process for it.
#[derive(Clone, Debug)]
pub struct EarlyHangup(Arc<AtomicBool>);

impl EarlyHangup {
    /// Starts to listen, for as long as the process lives; needs no runtime.
    pub fn new() -> io::Result<Self> {
        let came = Arc::default();
        signal_hook::flag::register(SIGHUP, Arc::clone(&came))?;
        Ok(Self(came))
    }
}

/// The signals that came, in order. While this lives none of them ends the process by itself.
pub struct Signals {
    stream: SignalsInfo,
    handle: Handle,
    hangups: Arc<Notify>,
}

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// SIGTERM, as service managers send it.
    Terminate,
    /// SIGINT, as Ctrl-C sends it.
    Interrupt,
}

impl Shutdown {
    /// What a process that a signal ended at once exits with, by the shell's custom: 128 and the signal's number.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Terminate => 143,
            Self::Interrupt => 130,
        }
    }
}

impl Signals {
    /// Starts to listen; needs a tokio runtime around it.
    pub fn new() -> io::Result<Self> {
        Self::after(&EarlyHangup(Arc::default()))
    }

    /// The same, and a SIGHUP that came earlier counts as well.
    pub fn after(early: &EarlyHangup) -> io::Result<Self> {
        let stream = signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let hangups = Arc::new(Notify::new());
        if early.0.load(Ordering::Acquire) {
            hangups.notify_one();
        }
        Ok(Self { handle: stream.handle(), stream, hangups })
    }

    /// Notified of each SIGHUP while somebody waits in [`Signals::shutdown`]. Those that come before the one before was
    /// taken up are one.
    pub fn hangups(&self) -> Arc<Notify> {
        Arc::clone(&self.hangups)
    }

    /// Waits for SIGTERM or SIGINT.
    ///
    /// The first call's answer asks for an orderly end. Call it again and wait beside that end: a second answer asks
    /// to leave at once. Safe to cancel: no signal is lost.
    pub async fn shutdown(&mut self) -> Shutdown {
        loop {
            match self.stream.next().await {
                Some(SIGTERM) => return Shutdown::Terminate,
                Some(SIGINT) => return Shutdown::Interrupt,
                Some(SIGHUP) => self.hangups.notify_one(),
                Some(other) => info!(signal = other, "signal ignored"),
                // The stream ends only with the handle, which is ours.
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn each_signal_counts_and_a_hangup_ends_nothing() {
        let mut signals = Signals::new().unwrap();
        let hangups = signals.hangups();
        kill_process(getpid(), Signal::HUP).unwrap();
        // Two signals that are under way at once may overtake each other.
        tokio::select! {
            () = hangups.notified() => {}
            asked = signals.shutdown() => panic!("a hangup is no {asked:?}"),
        }
        for (signal, shutdown) in [(Signal::TERM, Shutdown::Terminate), (Signal::INT, Shutdown::Interrupt)] {
            kill_process(getpid(), signal).unwrap();
            assert_eq!(signals.shutdown().await, shutdown);
        }
    }

    #[tokio::test]
    async fn a_hangup_before_anybody_waits_for_it_counts() {
        let early = EarlyHangup::new().unwrap();
        kill_process(getpid(), Signal::HUP).unwrap();
        while !early.0.load(Ordering::Acquire) {}
        let signals = Signals::after(&early).unwrap();
        signals.hangups().notified().await;
    }
}
