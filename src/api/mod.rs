//! The local API: newline-delimited JSON-RPC 2.0 on a Unix socket.

pub mod client;
