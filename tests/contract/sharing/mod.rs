//! What makes a shared connection as good as an own one.

mod setup;
mod sticky;
