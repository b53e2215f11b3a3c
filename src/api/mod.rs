//! The local API: newline-delimited JSON-RPC 2.0 on a Unix socket.

pub mod client;
mod dispatch;
mod lines;
pub mod message;
mod peer;
mod reply;
pub mod server;

use crate::hub::Lag;

/// What consumers may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Consumers attached at once.
    pub max_consumers: usize,
    /// Bytes of one line.
    pub max_line: usize,
    /// What happens to a consumer that is overrun and has not chosen.
    pub lag: Lag,
}
