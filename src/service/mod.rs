//! The daemon around the layers below: its configuration, its socket, its logs and its signals.

pub mod config;
mod effective;
pub mod environment;
mod layers;
pub mod listener;
pub mod signals;
pub mod telemetry;
