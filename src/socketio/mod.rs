//! The message layer, Socket.IO protocol 5: packets, attachments, acks and one namespace's life.
//!
//! Nothing here does IO or reads a clock.

mod binary;
mod packet;

pub use binary::BinaryError;
pub use packet::{Args, Body, DecodeError, Decoder, Name, Packet, RESERVED};
