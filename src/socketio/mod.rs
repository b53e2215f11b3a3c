//! The message layer, Socket.IO protocols 5 and 4: packets, attachments, acks and one namespace's life.
//!
//! Nothing here does IO or reads a clock.

pub mod acks;
mod args;
mod binary;
mod decoder;
mod name;
mod old_server;
mod packet;
pub mod socket;
mod text;

pub use acks::AckError;
pub use args::Args;
pub use binary::BinaryError;
pub use decoder::{DecodeError, Decoder};
pub use name::{Name, RESERVED, RESERVED_V4};
pub use old_server::OldServer;
pub use packet::{Body, Packet, encode_ack, encode_event};
pub use socket::{DisconnectReason, Emit, EmitError, Sent, Socket};
