//! The message layer, Socket.IO protocol 5: packets, attachments, acks and one namespace's life.
//!
//! Nothing here does IO or reads a clock.

pub mod acks;
mod binary;
mod packet;
pub mod socket;

pub use acks::AckError;
pub use binary::BinaryError;
pub use packet::{Args, Body, DecodeError, Decoder, Name, Packet, RESERVED};
pub use socket::{DisconnectReason, Emit, EmitError, Sent, Socket};
