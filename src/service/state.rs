//! The state directory: what outlives the process, written at the end, and at intervals as much of it as can be of use
//! after an end that was none.
//!
//! The file of an orderly end is whole, and its stream goes on. Before anybody can see a number of the new run, another
//! one takes its place that is not: whoever finds that one knows that numbers may have been given out that it does not
//! have, and begins a new stream.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::lock::{Lock, LockError, holder};
use crate::hub::saved::{self, ReadError, Saved};
use crate::hub::{ConnectionSettings, Hub, Sessions, Suspended};

/// The first look for sessions, when those of the start have come about; and how long it is between others.
const FIRST: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(10);

/// What is written or read in one go.
const BUFFER: usize = 256 * 1024;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another daemon has it.
    #[error("state.dir: {} is in use{}; each daemon needs a folder of its own", .dir.display(), holder(.pid.as_deref()))]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The other one's process id, where it is known.
        pid: Option<String>,
    },
    /// It is not one to which secrets can be entrusted.
    #[error("state.dir: {} {what}", .dir.display())]
    Unfit {
        /// The folder.
        dir: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The system refused a step.
    #[error("state.dir: {}: cannot {step}: {source}", .path.display())]
    Io {
        /// What was to be done.
        step: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it was refused.
        source: io::Error,
    },
}

impl StateError {
    /// Whether it takes another configuration, or other rights, rather than another time.
    pub fn is_configuration(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
        match self {
            Self::InUse { .. } => false,
            Self::Unfit { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem)
            }
        }
    }
}

/// The folder, which no other daemon uses while this is there.
#[derive(Debug)]
struct StateDir {
    dir: PathBuf,
    handle: File,
    _lock: Lock,
    /// Nothing is written any more.
    ended: Mutex<bool>,
}

impl StateDir {
    /// Creates the folder where it is not there yet, but its parent.
    fn open(dir: &Path) -> Result<Self, StateError> {
        let io = |step| move |source| StateError::Io { step, path: dir.to_owned(), source };
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io("create this folder")(error));
            }
            Ok(()) | Err(_) => {}
        }
        // A pipe in its place would keep us for ever.
        let handle = OpenOptions::new().read(true).custom_flags(flags(OFlags::NONBLOCK)).open(dir);
        let handle = handle.map_err(io("open this folder"))?;
        let metadata = handle.metadata().map_err(io("look at this folder"))?;
        let unfit = |what: String| Err(StateError::Unfit { dir: dir.to_owned(), what });
        let user = rustix::process::geteuid().as_raw();
        if !metadata.is_dir() {
            return unfit("is no folder".to_owned());
        }
        if metadata.uid() != user {
            let (owner, dir) = (metadata.uid(), dir.display());
            return unfit(format!("belongs to user {owner}, and siod runs as {user}; chown {user} {dir}"));
        }
        if metadata.mode() & 0o022 != 0 {
            return unfit(format!("can be written by others; chmod go-w {}", dir.display()));
        }
        let path = dir.join("lock");
        let lock = Lock::take(path.clone()).map_err(|error| match error {
            LockError::Held(pid) => StateError::InUse { dir: dir.to_owned(), pid },
            LockError::Io(step, source) => StateError::Io { step, path, source },
        })?;
        Ok(Self { dir: dir.to_owned(), handle, _lock: lock, ended: Mutex::default() })
    }

    fn file(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// What the last run has left of these connections. A file that cannot be used is as good as none.
    fn read(&self, connections: &BTreeMap<String, ConnectionSettings>) -> Option<Saved> {
        let path = self.file();
        let wants = |head: &saved::Head, facts: &saved::Facts| {
            let settings = connections.get(&facts.name)?;
            let same = facts.identity.as_deref() == Some(&*saved::identity(settings, &head.stream));
            if !same {
                debug!(connection = facts.name, "it is another connection than in the last run");
            }
            same.then(|| settings.history.clone())
        };
        let read = open_own(&path).and_then(|opened| {
            let Some((file, size)) = opened else { return Ok(None) };
            saved::read(BufReader::with_capacity(BUFFER, file), size, wants)
                .map(Some)
                .map_err(|error| error.to_string())
        });
        match read {
            Ok(Some(saved)) if saved.head.whole => {
                info!(stream = saved.head.stream, "the stream of the last run goes on");
                Some(saved)
            }
            Ok(Some(saved)) => {
                warn!("the last run did not end in order, so a new stream begins");
                Some(saved)
            }
            Ok(None) => None,
            Err(reason) => {
                warn!(file = %path.display(), "the state of the last run is not used, so a new stream begins: {reason}");
                None
            }
        }
    }

    /// Puts a file in place of the one that is there, at once and for good.
    fn write(&self, hub: &Hub, whole: bool, sessions: &Sessions) -> io::Result<()> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Ok(());
        }
        *ended = whole;
        let new = self.dir.join("state.new");
        let written = create(&new).and_then(|file| {
            let buffer = hub.save(whole, sessions, BufWriter::with_capacity(BUFFER, file))?;
            buffer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&new, self.file())?;
            self.handle.sync_all()
        });
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// Takes away a file that is not true any more.
    fn clear(&self) -> io::Result<()> {
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => self.handle.sync_all(),
        }
    }
}

/// A new file that nobody else can read.
fn create(path: &Path) -> io::Result<File> {
    // One may be left of a run that was cut off while it wrote.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A file that only we can have written, and its size.
fn open_own(path: &Path) -> Result<Option<(File, u64)>, String> {
    let flags = flags(OFlags::NOFOLLOW | OFlags::NONBLOCK);
    let cannot = |error| ReadError::Io(error).to_string();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(cannot)?,
    };
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("it belongs to user {}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err("others can write it".to_owned());
    }
    Ok(Some((file, metadata.len())))
}

fn flags(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).unwrap_or_default()
}

/// Keeps what is to outlive the process.
#[derive(Debug)]
pub(super) struct Keeper {
    dir: Arc<StateDir>,
    known: Sessions,
    /// The last writing failed, and that was said.
    failing: bool,
}

impl Keeper {
    /// Takes the folder, and what the last run has left in it of these connections.
    pub(super) fn open(
        dir: &Path,
        connections: &BTreeMap<String, ConnectionSettings>,
    ) -> Result<(Self, Option<Saved>), StateError> {
        let dir = StateDir::open(dir)?;
        let saved = dir.read(connections);
        Ok((Self { dir: Arc::new(dir), known: Sessions::new(), failing: false }, saved))
    }

    /// To be called when the connections are open, and before anybody can see a number: from here on the file of the last
    /// run says less than was.
    pub(super) async fn begin(&mut self, hub: &Arc<Hub>) -> Result<(), StateError> {
        self.known = hub.sessions(&self.known).await;
        if let Err(error) = self.write(hub, false).await {
            self.complain(&error);
            let path = self.dir.file();
            let cleared = self.dir.clear();
            cleared.map_err(|source| StateError::Io { step: "remove the last run's file", path, source })?;
        }
        Ok(())
    }

    /// Writes at intervals, where something has changed, until `stop`.
    pub(super) async fn run(&mut self, hub: &Arc<Hub>, stop: &CancellationToken) {
        let mut wait = FIRST;
        while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            wait = INTERVAL;
            let Some(sessions) = stop.run_until_cancelled(hub.sessions(&self.known)).await else { return };
            if sessions == self.known && !self.failing {
                continue;
            }
            self.known = sessions;
            // One that is cut short here is waited for by the last.
            match stop.run_until_cancelled(self.write(hub, false)).await {
                Some(Ok(())) => self.failing = false,
                Some(Err(error)) => self.complain(&error),
                None => return,
            }
        }
    }

    /// Writes everything, once, where the stream can go on; else as at an interval.
    pub(super) async fn end(mut self, hub: &Arc<Hub>, suspended: Suspended) {
        self.known = suspended.sessions;
        match self.write(hub, suspended.whole).await {
            Ok(()) if suspended.whole => info!("the state is kept for the next run"),
            Ok(()) => warn!(
                "a connection did not come to rest in time, or there are too many; the next run begins a new stream"
            ),
            Err(error) => warn!(dir = %self.dir.dir.display(), %error, "the state cannot be kept"),
        }
    }

    async fn write(&self, hub: &Arc<Hub>, whole: bool) -> io::Result<()> {
        let (dir, hub, sessions) = (Arc::clone(&self.dir), Arc::clone(hub), self.known.clone());
        tokio::task::spawn_blocking(move || dir.write(&hub, whole, &sessions)).await?
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let dir = self.dir.dir.display();
            warn!(%dir, %error, "the state cannot be written; a restart would begin a new stream");
        }
    }
}
