//! Which local program hears what.

pub mod log;
pub mod options;
pub mod quantity;
mod resolve;
mod target;

/// What happens to a consumer that the ring has overrun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lag {
    /// It is told how much it missed and goes on with the oldest retained line.
    #[default]
    Skip,
    /// It is detached.
    Disconnect,
}

impl Lag {
    /// As it is written in the configuration and in `hello`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Disconnect => "disconnect",
        }
    }
}
