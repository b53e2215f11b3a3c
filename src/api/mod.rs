//! The local API: newline-delimited JSON-RPC 2.0 on a Unix socket.

mod asking;
mod dispatch;
mod emit;
mod lines;
pub mod message;
mod peer;
pub mod reload;
mod reply;
mod results;
pub mod schema;
pub mod server;
mod socket;

use crate::hub::options::ConnectionOptions;
use crate::hub::{Lag, Rules};

/// What consumers may use. Those who are attached keep what they came with, save `defaults`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Bytes of one line.
    pub max_line: usize,
    /// What happens to a consumer that is overrun and has not chosen.
    pub lag: Lag,
    /// `[defaults]` of the configuration, for `open`.
    pub defaults: ConnectionOptions,
    /// Who may do what.
    pub rules: Rules,
}
