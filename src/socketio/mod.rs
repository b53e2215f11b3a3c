//! The message layer, Socket.IO protocols 5 and 4: packets as JSON or MessagePack, attachments, acks and one namespace's
//! life.
//!
//! Nothing here does IO or reads a clock.

pub mod acks;
mod args;
mod binary;
mod decoder;
mod limit;
mod msgpack;
mod name;
mod old_server;
mod packet;
mod retry;
mod script;
pub mod socket;
mod text;

pub use acks::AckError;
pub use args::{Args, ArgsView};
pub use binary::BinaryError;
pub use decoder::{DecodeError, Decoder};
pub use limit::{Limit, TooLarge};
pub use name::{Name, NameView, RESERVED, RESERVED_V4};
pub use old_server::OldServer;
pub use packet::{Body, Packet, Parser};
pub use script::{Step, StepArgs};
pub use socket::{AnswerError, DisconnectReason, Emit, EmitError, Loss, Recoverable, Sent, Socket};
pub use text::{Header, PlainAnswer, PlainEvent};
