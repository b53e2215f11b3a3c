//! The socket that local programs attach to: handed over by the service manager, or bound to a path.
//!
//! Who holds `<socket>.lock` may replace and remove the socket's file; a probe of the socket alone could not tell a
//! daemon that is about to listen from one that has died. Accepting is left to the caller.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode};
#[cfg(not(target_vendor = "apple"))]
use rustix::net::SocketFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::hub::accounts;
use crate::service::lock::{Lock, LockError, holder};

/// Bytes of the longest path a Unix socket can have.
pub const LONGEST_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// As many connections may wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon lives there.
    #[error("{} is in use{}; stop the other daemon or choose another socket", .path.display(), holder(.pid.as_deref()))]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The other one's process id, where it is known.
        pid: Option<String>,
    },
    /// There is something that siod did not put there.
    #[error("{} {what}; remove it or choose another socket", .path.display())]
    NotOurs {
        /// What is in the way.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The path does not fit into a socket's address.
    #[error("{} is too long for a socket: {} bytes, at most {LONGEST_PATH}", .0.display(), .0.as_os_str().len())]
    TooLong(PathBuf),
    /// Anyone could replace the socket.
    #[error("{} can be written by everybody; take that right away (chmod o-w) or choose another folder", .0.display())]
    OpenFolder(PathBuf),
    /// `api.group` names no group of this system.
    #[error("api.group: there is no group {0:?}")]
    NoGroup(String),
    /// The system does not say whether there is such a group.
    #[error("api.group: the group {name:?} cannot be looked up: {source}")]
    GroupLookup {
        /// What `api.group` says.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// What the service manager handed over cannot be used.
    #[error("the socket handed over by the service manager cannot be used: {0}")]
    Inherited(String),
    /// The system refused a step.
    #[error("{}: cannot {step}: {source}", .path.display())]
    Io {
        /// What was to be done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it was refused.
        source: io::Error,
    },
}

/// A listening socket. Dropped, it takes its file away, if the file is its own.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    file: Option<SocketFile>,
}

/// The file of a socket that was bound here. Dropped, it is removed, unless another has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    _lock: Lock,
}

impl Listener {
    /// The service manager's socket, or else one bound to `path` with exactly `mode` and, where given, `group`.
    ///
    /// To be called once and before other threads start, because it takes `LISTEN_FDS` and `LISTEN_PID` out of the
    /// environment. The folder must exist, save a folder directly below `$XDG_RUNTIME_DIR` and `/run/siod`, which
    /// are created.
    pub fn bind(path: &Path, mode: u32, group: Option<&str>) -> Result<Self, ListenError> {
        if let Some(socket) = inherited()? {
            return Ok(Self { socket, file: None });
        }
        let runtime =
            std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        Self::bind_own(path, mode, group, runtime.as_deref())
    }

    /// The path it listens on; none where it has no name.
    pub fn path(&self) -> Option<PathBuf> {
        self.socket.local_addr().ok()?.as_pathname().map(Path::to_owned)
    }

    /// Whether the socket came from the service manager, which then also owns its file.
    pub fn is_inherited(&self) -> bool {
        self.file.is_none()
    }

    /// The socket, non-blocking, and the guard of its file; keep the guard until the last consumer is served.
    pub fn into_parts(self) -> (UnixListener, Option<SocketFile>) {
        (self.socket, self.file)
    }

    fn bind_own(
        path: &Path,
        mode: u32,
        group: Option<&str>,
        runtime: Option<&Path>,
    ) -> Result<Self, ListenError> {
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(ListenError::TooLong(path.to_owned()));
        }
        let group = group.map(group_id).transpose()?;
        prepare_folder(path, runtime)?;
        let lock = lock(path)?;
        clear(path)?;
        let failed = |step| move |source: rustix::io::Errno| io_error(step, path, source.into());

        let socket = new_socket().map_err(failed("create the socket"))?;
        let address = SocketAddrUnix::new(path).map_err(failed("use that path"))?;
        bind_narrowly(&socket, &address, mode).map_err(failed("bind the socket"))?;
        let metadata =
            fs::symlink_metadata(path).map_err(|error| io_error("read the socket's state", path, error))?;
        // From here on an error takes the file away again.
        let file =
            SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()), _lock: lock };
        if let Some(group) = group {
            rustix::fs::chownat(CWD, path, None, Some(group), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("give the socket to api.group"))?;
        }
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(|error| io_error("set the socket's mode", path, error))?;
        rustix::net::listen(&socket, BACKLOG).map_err(failed("listen"))?;
        Ok(Self { socket: socket.into(), file: Some(file) })
    }
}

/// A socket that no child inherits and no call waits on.
#[cfg(not(target_vendor = "apple"))]
fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// The same in three steps, as Apple's systems want it. No other thread is there yet that could start a child in between.
#[cfg(target_vendor = "apple")]
fn new_socket() -> rustix::io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Binds it so that its file is never open wider than `mode`, and for its owner alone until somebody says more.
#[cfg(target_os = "linux")]
fn bind_narrowly(socket: &OwnedFd, address: &SocketAddrUnix, mode: u32) -> rustix::io::Result<()> {
    // The file takes its mode from the socket, less the umask.
    rustix::fs::fchmod(socket, Mode::from_raw_mode(mode & 0o700))?;
    rustix::net::bind(socket, address)
}

/// The same where a socket has no mode before it has a file. The umask is the whole process's, which has one thread yet.
#[cfg(not(target_os = "linux"))]
fn bind_narrowly(socket: &OwnedFd, address: &SocketAddrUnix, mode: u32) -> rustix::io::Result<()> {
    let owner_s = Mode::from_bits_truncate((mode & 0o700) as rustix::fs::RawMode);
    let before = rustix::process::umask(owner_s.complement());
    let bound = rustix::net::bind(socket, address);
    rustix::process::umask(before);
    bound
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let still_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if still_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn io_error(step: &'static str, path: &Path, source: io::Error) -> ListenError {
    ListenError::Io { step, path: path.to_owned(), source }
}

/// The socket that the service manager opened for this very process, if it did.
fn inherited() -> Result<Option<UnixListener>, ListenError> {
    let variable = |name| std::env::var(name).ok();
    let Some(count) = variable("LISTEN_FDS") else {
        return Ok(None);
    };
    // What was meant for a parent is not ours.
    if variable("LISTEN_PID").as_deref() != Some(&std::process::id().to_string()) {
        return Ok(None);
    }
    let unusable = |what: String| ListenError::Inherited(what);
    match count.parse::<u16>() {
        Ok(0) => return Ok(None),
        Ok(1) => {}
        Ok(count) => return Err(unusable(format!("LISTEN_FDS={count}, expected one socket"))),
        Err(_) => return Err(unusable(format!("LISTEN_FDS={count:?} is no number"))),
    }
    let socket =
        listenfd::ListenFd::from_env().take_unix_listener(0).map_err(|error| unusable(error.to_string()))?;
    let socket = socket.ok_or_else(|| unusable("it is gone".to_owned()))?;
    // Apple's systems do not say whether a socket listens; there accepting fails then.
    #[cfg(not(target_vendor = "apple"))]
    if !rustix::net::sockopt::socket_acceptconn(&socket).map_err(|error| unusable(error.to_string()))? {
        return Err(unusable("it does not listen (Accept=no and ListenStream= are needed)".to_owned()));
    }
    socket.set_nonblocking(true).map_err(|error| unusable(error.to_string()))?;
    Ok(Some(socket))
}

fn prepare_folder(path: &Path, runtime: Option<&Path>) -> Result<(), ListenError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mode = match folder.parent() {
        Some(parent) if Some(parent) == runtime => Some(0o700),
        _ if folder == Path::new("/run/siod") => Some(0o755),
        Some(parent) if parent == Path::new("/run/siod") => Some(0o755),
        _ => None,
    };
    if let Some(mode) = mode.filter(|_| !folder.exists()) {
        let created = fs::DirBuilder::new().mode(mode).create(folder);
        // Another daemon may have been faster.
        created
            .or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
            .map_err(|error| io_error("create this folder", folder, error))?;
    }
    let metadata = fs::metadata(folder).map_err(|error| io_error("use this folder", folder, error))?;
    let (others_write, sticky) = (metadata.mode() & 0o002 != 0, metadata.mode() & 0o1000 != 0);
    if others_write && !sticky { Err(ListenError::OpenFolder(folder.to_owned())) } else { Ok(()) }
}

/// Holds `<socket>.lock`, which says whose the socket's file is.
fn lock(socket: &Path) -> Result<Lock, ListenError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    Lock::take(path.clone()).map_err(|error| match error {
        LockError::Held(pid) => ListenError::InUse { path: socket.to_owned(), pid },
        LockError::Io(step, source) => io_error(step, &path, source),
    })
}

/// Removes a socket that nobody listens on. The lock is held, so no daemon is about to.
fn clear(path: &Path) -> Result<(), ListenError> {
    let not_ours = |what| ListenError::NotOurs { path: path.to_owned(), what };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at what is there", path, error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(not_ours("is there and is no socket"));
    }
    let user = rustix::process::geteuid();
    if metadata.uid() != user.as_raw() && !user.is_root() {
        return Err(not_ours("is another user's socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Whoever listens there holds no lock, or is another program; a full backlog refuses too.
        Ok(_) => {
            return Err(ListenError::InUse { path: path.to_owned(), pid: None });
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(ListenError::InUse { path: path.to_owned(), pid: None });
        }
        Err(error) => return Err(io_error("find out whether anyone listens there", path, error)),
    }
    fs::remove_file(path).map_err(|error| io_error("remove the socket of a daemon that is gone", path, error))
}

/// The group of this name, or of this number.
fn group_id(name: &str) -> Result<Gid, ListenError> {
    let failed = |source| ListenError::GroupLookup { name: name.to_owned(), source };
    let named = accounts::group(name).map_err(failed)?;
    // The highest number means no change.
    let number = named.or_else(|| name.parse::<u32>().ok()).filter(|number| *number != u32::MAX);
    number.map(Gid::from_raw).ok_or_else(|| ListenError::NoGroup(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::{Command, Stdio};

    use tempfile::TempDir;

    use super::*;

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        (folder, path)
    }

    fn bind(path: &Path) -> Result<Listener, ListenError> {
        Listener::bind_own(path, 0o600, None, None)
    }

    fn error(path: &Path) -> String {
        bind(path).unwrap_err().to_string()
    }

    #[test]
    fn comes_and_goes() {
        let (folder, path) = folder();
        let listener = bind(&path).unwrap();
        assert!(!listener.is_inherited());
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        bind(&path).unwrap();
    }

    #[test]
    fn has_exactly_the_mode_asked_for() {
        for mode in [0o600, 0o660, 0o666, 0o400] {
            let (_folder, path) = folder();
            let _listener = Listener::bind_own(&path, mode, None, None).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{mode:o}");
        }
    }

    #[test]
    fn groups() {
        let (_folder, path) = folder();
        let own = rustix::process::getegid().as_raw();
        let _listener = Listener::bind_own(&path, 0o660, Some(&own.to_string()), None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().gid(), own);
        assert_eq!(group_id("root").unwrap().as_raw(), 0);
        assert_eq!(
            group_id("no such group").unwrap_err().to_string(),
            "api.group: there is no group \"no such group\""
        );
    }

    #[test]
    fn a_second_daemon_is_refused() {
        let (_folder, path) = folder();
        let first = bind(&path).unwrap();
        let expected = format!(
            "{} is in use by process {}; stop the other daemon or choose another socket",
            path.display(),
            std::process::id()
        );
        assert_eq!(error(&path), expected);
        UnixStream::connect(&path).unwrap();
        drop(first);
        bind(&path).unwrap();
    }

    #[test]
    fn a_live_socket_without_a_lock_is_left_alone() {
        let (_folder, path) = folder();
        let _other = UnixListener::bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(ListenError::InUse { pid: None, .. })));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_stale_socket_is_taken_over() {
        let (folder, path) = folder();
        // Never listened on: a child that another test starts just now has a copy until it runs its program.
        rustix::net::bind(new_socket().unwrap(), &SocketAddrUnix::new(&path).unwrap()).unwrap();
        fs::write(folder.path().join("s.lock"), "1\n").unwrap();
        let _listener = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn other_files_are_left_alone() {
        let (folder, path) = folder();
        let elsewhere = folder.path().join("elsewhere");
        let expected =
            format!("{} is there and is no socket; remove it or choose another socket", path.display());
        fs::write(&path, "mine").unwrap();
        assert_eq!(error(&path), expected);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        fs::remove_file(&path).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert_eq!(error(&path), expected);
        assert!(!elsewhere.exists());
        fs::remove_file(&path).unwrap();
        symlink(&elsewhere, folder.path().join("s.lock")).unwrap();
        assert!(error(&path).contains("cannot open the lock file"));
        assert!(!elsewhere.exists());
    }

    #[test]
    fn only_the_own_file_is_removed() {
        let (_folder, path) = folder();
        let listener = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(listener);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
    }

    #[test]
    fn long_paths() {
        let (folder, _) = folder();
        let room = LONGEST_PATH - folder.path().as_os_str().len() - 1;
        bind(&folder.path().join("x".repeat(room))).unwrap();
        let path = folder.path().join("x".repeat(room + 1));
        assert_eq!(
            error(&path),
            format!("{} is too long for a socket: 108 bytes, at most 107", path.display())
        );
    }

    #[test]
    fn folders() {
        let (folder, _) = folder();
        let runtime = folder.path();
        let path = runtime.join("new/s");
        assert!(error(&path).contains("cannot use this folder"), "{}", error(&path));
        let _listener = Listener::bind_own(&path, 0o600, None, Some(runtime)).unwrap();
        assert_eq!(fs::metadata(runtime.join("new")).unwrap().mode() & 0o777, 0o700);
        let deep = Listener::bind_own(&runtime.join("a/b/s"), 0o600, None, Some(runtime));
        assert!(matches!(deep, Err(ListenError::Io { step: "use this folder", .. })));
        fs::set_permissions(runtime, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(bind(&runtime.join("s")), Err(ListenError::OpenFolder(_))));
        fs::set_permissions(runtime, Permissions::from_mode(0o1777)).unwrap();
        bind(&runtime.join("s")).unwrap();
    }

    /// What the child of `handed_over` runs; does nothing otherwise.
    #[test]
    fn handed_over_child() {
        let Some(path) = std::env::var_os("SIOD_TEST_SOCKET") else {
            return;
        };
        match Listener::bind(Path::new(&path), 0o600, None) {
            Ok(listener) => {
                println!("inherited: {} {}", listener.is_inherited(), listener.path().unwrap().display());
            }
            Err(error) => println!("error: {error}"),
        }
    }

    /// Starts `handed_over_child` with `fd` as its descriptor 3 and the variables of socket activation.
    fn child(fd: OwnedFd, variables: &str, path: &Path) -> String {
        let script = format!("exec 3<&0 0</dev/null; {variables} exec \"$0\" --exact --nocapture \"$1\"");
        let test = "service::listener::tests::handed_over_child";
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .env("SIOD_TEST_SOCKET", path)
            .stdin(Stdio::from(fd))
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = printed
            .lines()
            .find_map(|line| line.find("inherited: ").or(line.find("error: ")).map(|at| &line[at..]));
        line.unwrap_or_else(|| panic!("{output:?}")).to_owned()
    }

    #[test]
    fn handed_over() {
        let (folder, path) = folder();
        let given = folder.path().join("given");
        let listener = UnixListener::bind(&given).unwrap();
        let listening = || OwnedFd::from(listener.try_clone().unwrap());
        let (inherited, own) =
            (format!("inherited: true {}", given.display()), format!("inherited: false {}", path.display()));
        assert_eq!(child(listening(), "LISTEN_PID=$$ LISTEN_FDS=1", &path), inherited);
        assert!(given.exists(), "its file belongs to who bound it");
        assert_eq!(child(listening(), "LISTEN_PID=1 LISTEN_FDS=1", &path), own);
        assert_eq!(child(listening(), "LISTEN_FDS=1", &path), own);
        assert_eq!(child(listening(), "LISTEN_PID=$$ LISTEN_FDS=0", &path), own);
        let refusal = "error: the socket handed over by the service manager cannot be used: ";
        for (variables, what) in [
            ("LISTEN_PID=$$ LISTEN_FDS=2", "LISTEN_FDS=2, expected one socket"),
            ("LISTEN_PID=$$ LISTEN_FDS=999999", "LISTEN_FDS=\"999999\" is no number"),
            ("LISTEN_PID=$$ LISTEN_FDS=x", "LISTEN_FDS=\"x\" is no number"),
        ] {
            assert_eq!(child(listening(), variables, &path), format!("{refusal}{what}"));
        }
        let connected = OwnedFd::from(UnixStream::pair().unwrap().0);
        assert!(child(connected, "LISTEN_PID=$$ LISTEN_FDS=1", &path).contains("it does not listen"));
        let file = OwnedFd::from(fs::File::open("/dev/null").unwrap());
        assert!(child(file, "LISTEN_PID=$$ LISTEN_FDS=1", &path).contains("fd 3 is not a socket"));
    }
}
