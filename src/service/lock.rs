//! A file that one process at a time can hold.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// How often a lock file that somebody removes meanwhile is opened anew.
const TRIES: usize = 10;

/// Why it is not held.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process has it: the one of this id, where that is known.
    Held(Option<String>),
    /// The system refused this step.
    Io(&'static str, io::Error),
}

/// A locked file, with our process id, where there is room for it, for whoever finds it locked. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    pub(super) fn take(path: PathBuf) -> Result<Self, LockError> {
        for _ in 0..TRIES {
            let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
            let mut file = options.open(&path).map_err(|error| LockError::Io("open the lock file", error))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Held(written_pid(&mut file))),
                Err(TryLockError::Error(error)) => return Err(LockError::Io("lock the lock file", error)),
            }
            // A file that its last holder has removed meanwhile keeps nobody else out.
            if !is_still(&path, &file) {
                continue;
            }
            // The lock holds without it, also where the disk is full.
            let _named =
                file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
            return Ok(Self { path, file });
        }
        Err(LockError::Held(None))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if is_still(&self.path, &self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// How a refusal names the one who holds it.
pub(super) fn holder(pid: Option<&str>) -> String {
    pid.map(|pid| format!(" by process {pid}")).unwrap_or_default()
}

fn is_still(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(held)) => (there.dev(), there.ino()) == (held.dev(), held.ino()),
        _ => false,
    }
}

fn written_pid(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.take(32).read_to_string(&mut text)).ok()?;
    Some(text.trim().to_owned())
        .filter(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
}
