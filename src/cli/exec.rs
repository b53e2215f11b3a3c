//! `siod listen --exec`: a program for each event, so many at once.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use futures_util::StreamExt;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::task::{JoinError, JoinSet};

use super::exit::{Exit, Failure};
use super::listen::is_last;
use super::output::note;
use super::printer::heard;
use crate::client::{Kind, Listener, Notice, Notification};

/// The programs that run.
pub(super) struct Jobs {
    program: OsString,
    arguments: Vec<OsString>,
    limit: NonZeroUsize,
    running: JoinSet<(String, io::Result<ExitStatus>)>,
    failed: bool,
}

impl Jobs {
    /// None where there is nothing to run. What cannot be run is told now rather than at the first event.
    pub(super) fn new(command: Vec<OsString>, limit: NonZeroUsize) -> Result<Option<Self>, Failure> {
        let mut command = command.into_iter();
        let Some(program) = command.next() else { return Ok(None) };
        find(&program).map_err(|source| Failure::Exec { program: program.clone(), source })?;
        let running = JoinSet::new();
        Ok(Some(Self { program, arguments: command.collect(), limit, running, failed: false }))
    }

    /// Runs the program for each event until the count is reached or a signal ends it, and waits for those that run.
    pub(super) async fn run(
        mut self,
        mut listener: Listener,
        mut count: Option<u64>,
    ) -> Result<Exit, Failure> {
        let mut signals =
            signal_hook_tokio::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Failure::Runtime)?;
        let ended = loop {
            tokio::select! {
                biased;
                _ = signals.next() => break Ok(()),
                Some(ended) = self.running.join_next() => self.ended(ended),
                news = listener.next(), if self.running.len() < self.limit.get() => match news {
                    Ok(news) => {
                        let Some((notification, _)) = heard(news) else { continue };
                        if let Err(failure) = self.start(&notification) {
                            break Err(failure);
                        }
                        if is_last(&notification, &mut count) {
                            break Ok(());
                        }
                    }
                    Err(error) => break Err(error.into()),
                },
            }
        };
        drop(listener);
        while !self.running.is_empty() {
            tokio::select! {
                biased;
                Some(signal) = signals.next() => {
                    // Whoever asks twice does not wait; the programs are killed with their tasks.
                    self.running.shutdown().await;
                    std::process::exit(128 + signal);
                }
                Some(ended) = self.running.join_next() => self.ended(ended),
            }
        }
        ended.map(|()| if self.failed { Exit::Refused } else { Exit::Done })
    }

    fn start(&mut self, notification: &Notification) -> Result<(), Failure> {
        match notification.kind() {
            Kind::Event => {}
            Kind::Lagged => {
                if let Ok(Notice::Lagged(lagged)) = notification.notice() {
                    note(format_args!(
                        "{}: {} notifications were missed; the programs take too long",
                        lagged.connection, lagged.missed
                    ));
                }
                return Ok(());
            }
            _ => return Ok(()),
        }
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Failure::Exec { program: self.program.clone(), source })?;
        let name = format!(
            "{} for {} {}",
            self.program.to_string_lossy(),
            notification.connection().unwrap_or_default(),
            notification.seq().unwrap_or_default()
        );
        let notification = notification.clone();
        self.running.spawn(async move { (name, feed(child, &notification).await) });
        Ok(())
    }

    fn ended(&mut self, ended: Result<(String, io::Result<ExitStatus>), JoinError>) {
        let (name, why) = match ended {
            Ok((_, Ok(status))) if status.success() => return,
            Ok((name, Ok(status))) => (name, status.to_string()),
            Ok((name, Err(error))) => (name, error.to_string()),
            Err(error) => (self.program.to_string_lossy().into_owned(), error.to_string()),
        };
        note(format_args!("{name}: {why}"));
        self.failed = true;
    }
}

/// Gives the line to the program, as far as it reads, and waits for its end.
async fn feed(mut child: Child, notification: &Notification) -> io::Result<ExitStatus> {
    let stdin = child.stdin.take();
    let feeding = async {
        if let Some(mut stdin) = stdin {
            // A program need not read its stdin.
            let _ = stdin.write_all(format!("{}\n", notification.line()).as_bytes()).await;
        }
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        status = child.wait() => status,
        never = feeding => match never {},
    }
}

/// Looks where the system will look.
fn find(program: &OsStr) -> io::Result<()> {
    if program.as_encoded_bytes().contains(&b'/') {
        return Ok(access(Path::new(program), Access::EXEC_OK)?);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| {
        let file = folder.join(program);
        file.is_file() && access(&file, Access::EXEC_OK).is_ok()
    });
    if found || path.is_empty() { Ok(()) } else { Err(Errno::NOENT.into()) }
}
