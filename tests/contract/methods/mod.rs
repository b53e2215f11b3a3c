//! A file for each method, or for what several have in common.

mod acks;
mod control;
mod emit;
mod limits;
mod open;
mod replay;
mod retries;
mod subscribe;
