//! One connection as a file or `open` writes it, and as the program uses it.

use crate::hub::log;
use crate::manager;

/// Everything about one connection; equal settings are the same connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionSettings {
    /// The URL as it may be shown: without user info.
    pub url: String,
    /// The upstream side.
    pub manager: manager::Settings,
    /// The namespace on it.
    pub socket: manager::SocketSettings,
    /// The ring.
    pub history: log::Settings,
    /// Connect when the connection is opened.
    pub auto_connect: bool,
    /// Never share the Manager (`force_new`, or `multiplex = false`).
    pub force_new: bool,
}
