//! The client of the daemon, for Rust programs.
//!
//! - [`Client`] is one attachment: it lists, emits, answers, connects, opens, and hears what it has subscribed to.
//! - [`Listener`] listens for as long as you like: when the daemon restarts it attaches again by itself, and goes on
//!   where it was.
//!
//! Neither has a task behind it. A program that does not read is one that the daemon knows to be slow: what it has yet to
//! take stays in the daemon's history, so nothing grows here. Both need a tokio runtime with IO and time enabled.
//!
//! Emitting, with and without the server's answer:
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/stage.rs"));
//! # fn main() { run(async |default_socket| {
//! use std::time::Duration;
//!
//! use siod::client::{Client, Emit, EmitStatus};
//!
//! let mut siod = Client::attach(default_socket()).await?;
//!
//! let sent = siod.emit(Emit::new("chat", "say").args(("hello", 1.5))).await?;
//! assert_eq!(sent.status, EmitStatus::Sent);
//!
//! let answer = siod.ask(Emit::new("chat", "add").args([2, 3]).timeout(Duration::from_secs(5))).await?;
//! assert_eq!(answer.read::<(i64,)>()?, (5,));
//! # Ok(()) }) }
//! ```
//!
//! Listening, across restarts of the daemon:
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/stage.rs"));
//! # fn main() { run(async |default_socket| {
//! use siod::client::{Listener, News, Notice, Subscribe};
//!
//! let wanted = Subscribe::to("chat").events(["greeting"]).without_lifecycle().last(1);
//! let mut chat = Listener::new(default_socket(), wanted);
//! loop {
//!     match chat.next().await? {
//!         News::Heard { notification, .. } => {
//!             if let Notice::Event(event) = notification.notice()? {
//!                 let (text,): (String,) = event.read()?;
//!                 println!("{}: {text}", event.event);
//! #               assert_eq!((&*event.event, text.as_str()), ("greeting", "welcome"));
//! #               break;
//!             }
//!         }
//!         News::Missed(missed) => eprintln!("{missed}"),
//!         News::Away(why) => eprintln!("{why}; attaching again"),
//!         News::Attached { .. } => {}
//!     }
//! }
//! # Ok(()) }) }
//! ```
//!
//! Whatever has no type here is reached with [`Client::call`]: params and results are then the caller's.

mod attachment;
mod error;
mod lines;
mod listener;
mod methods;
mod notification;
mod params;
mod positions;
mod results;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use attachment::{Answer, Client, Incoming, RequestId};
pub use error::{Error, ErrorKind, Lost, Refusal};
pub use listener::{Listener, Missed, News};
pub use notification::{Change, Details, Event, Kind, Lagged, Lifecycle, Notice, Notification, Outgoing};
pub use params::{Ack, Connect, Emit, Hello, Lag, Open, Subscribe};
pub use positions::Position;
pub use results::{
    Args, Consumer, Daemon, EmitStatus, Emitted, LastDisconnect, LastError, Limits, Opened, Reloaded, Role,
    Snapshot, State, Status, Subscribed, Transport, Welcome,
};

/// Where the daemon listens unless its configuration says otherwise: `$SIOD_SOCKET`, else `$XDG_RUNTIME_DIR/siod.sock`,
/// else (and always for root) `/run/siod/siod.sock`.
pub fn default_socket() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let users = || {
        let folder = variable("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
        folder.map(|folder| folder.join("siod.sock"))
    };
    variable("SIOD_SOCKET").or_else(users).unwrap_or_else(|| PathBuf::from("/run/siod/siod.sock"))
}
