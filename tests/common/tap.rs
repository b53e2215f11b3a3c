//! Stands between the daemon and programs that are not a [`Consumer`](super::Consumer), and holds what they say to each
//! other against the schema.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::schema::Talk;

/// A socket that hands everything on to the daemon's and back. Dropped, it fails the test if a line was not one of the
/// schema.
pub struct Tap {
    folder: TempDir,
    departures: Arc<Mutex<Vec<String>>>,
    _listening: JoinSet<()>,
}

impl Tap {
    /// In front of the daemon's socket.
    pub fn on(daemon: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join("tap.sock")).expect("a socket in it");
        let departures = Arc::default();
        let mut listening = JoinSet::new();
        listening.spawn(listen(listener, daemon.to_owned(), Arc::clone(&departures)));
        Self { folder, departures, _listening: listening }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("tap.sock")
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let departures = self.departures.lock().expect("no holder panics");
        let report = departures.join("\n");
        if std::thread::panicking() {
            eprintln!("{report}");
        } else {
            assert!(departures.is_empty(), "{report}");
        }
    }
}

async fn listen(listener: UnixListener, daemon: PathBuf, departures: Arc<Mutex<Vec<String>>>) {
    let mut programs = JoinSet::new();
    while let Ok((program, _)) = listener.accept().await {
        // A program whose daemon is not there, or not there yet, finds its attachment ended at once.
        let Ok(daemon) = UnixStream::connect(&daemon).await else { continue };
        let (talk, departures) = (Arc::<Mutex<Talk>>::default(), Arc::clone(&departures));
        let ((from_program, to_program), (from_daemon, to_daemon)) =
            (program.into_split(), daemon.into_split());
        programs.spawn(async move {
            let requests = async {
                hand_on_requests(from_program, to_daemon, Arc::clone(&talk)).await;
                std::future::pending::<()>().await;
            };
            // A program that has asked its last still hears. A daemon that is gone is gone for both directions.
            tokio::select! {
                () = requests => {}
                () = hand_on_lines(from_daemon, to_program, Arc::clone(&talk), departures) => {}
            }
        });
    }
}

/// Until one of the two is gone.
async fn hand_on_requests(mut program: OwnedReadHalf, mut daemon: OwnedWriteHalf, talk: Arc<Mutex<Talk>>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = program.read(&mut bytes).await {
        talk.lock().expect("no holder panics").sent(&bytes[..length]);
        if daemon.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
    talk.lock().expect("no holder panics").sent_all();
}

async fn hand_on_lines(
    daemon: OwnedReadHalf,
    mut program: OwnedWriteHalf,
    talk: Arc<Mutex<Talk>>,
    departures: Arc<Mutex<Vec<String>>>,
) {
    let mut daemon = BufReader::new(daemon);
    let mut line = Vec::new();
    while let Ok(1..) = daemon.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        // A daemon that is killed may leave one half written, which is no line.
        if let Some(text) = text.strip_suffix('\n')
            && let Err(departure) = talk.lock().expect("no holder panics").read(text)
        {
            departures.lock().expect("no holder panics").push(departure);
        }
        if program.write_all(&line).await.is_err() {
            return;
        }
        line.clear();
    }
}
