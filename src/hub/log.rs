//! The ring of encoded lines.

/// How much one connection remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Lines at the most.
    pub events: usize,
    /// Bytes of lines at the most.
    pub bytes: usize,
}
