//! siod holds persistent Socket.IO client connections and shares them with local programs over a Unix socket.
//!
//! Layers, lowest first; a layer imports only what stands before it (`tests/layers.rs` checks this):
//!
//! - [`json`]: JSON text without a tree; pure.
//! - [`secret`]: text that is not shown; pure.
//! - [`engineio`]: the Engine.IO session layer; pure.
//! - [`socketio`]: the Socket.IO message layer; pure.
//! - [`transport`]: moves Engine.IO packets over HTTP polling and WebSocket.
//! - [`manager`]: one upstream connection, kept alive.
//! - [`hub`]: which local program hears what.
//! - [`api`]: newline-delimited JSON on the Unix socket.
//! - [`client`]: what programs, the command line among them, use to talk to the daemon; knows none of its code.
//! - [`service`]: the daemon around it.
//! - [`cli`]: the command line.

#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod client;
pub mod engineio;
pub mod hub;
pub mod json;
pub mod manager;
pub mod secret;
pub mod service;
pub mod socketio;
pub mod transport;
