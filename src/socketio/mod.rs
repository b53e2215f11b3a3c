//! The message layer, Socket.IO protocol 5: packets, attachments, acks and one namespace's life.
//!
//! Nothing here does IO or reads a clock.

mod args;
mod binary;
mod decoder;
mod name;
mod packet;
mod text;

pub use args::Args;
pub use binary::BinaryError;
pub use decoder::{DecodeError, Decoder};
pub use name::{Name, RESERVED};
pub use packet::{Body, Packet, encode_ack, encode_event};
