//! The local API of the real daemon, line by line, with a scripted upstream behind it.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod acks;
mod control;
mod emit;
mod lag;
mod limits;
mod open;
mod replay;
mod retries;
mod setup;
mod sticky;
mod subscribe;
mod wire;
