//! How all connections stand together, in one line for people.

use std::fmt;

use crate::manager::ConnectionState;

/// How many connections are in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    connected: usize,
    connecting: usize,
    reconnecting: usize,
    disconnected: usize,
    /// The highest attempt of those that reconnect.
    attempt: u32,
}

impl FromIterator<(ConnectionState, u32)> for Standing {
    fn from_iter<T: IntoIterator<Item = (ConnectionState, u32)>>(connections: T) -> Self {
        let mut standing = Self::default();
        for (state, attempt) in connections {
            match state {
                ConnectionState::Connected => standing.connected += 1,
                ConnectionState::Connecting => standing.connecting += 1,
                ConnectionState::Reconnecting => {
                    standing.reconnecting += 1;
                    standing.attempt = standing.attempt.max(attempt);
                }
                ConnectionState::Disconnected => standing.disconnected += 1,
            }
        }
        standing
    }
}

/// `3 connections: 2 connected, 1 reconnecting (attempt 4)`; states that none is in are left out.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connected, connecting, reconnecting, disconnected, attempt } = self;
        let all = connected + connecting + reconnecting + disconnected;
        write!(f, "{all} {}", if all == 1 { "connection" } else { "connections" })?;
        let mut separator = ": ";
        for (count, state) in [
            (connected, "connected"),
            (connecting, "connecting"),
            (reconnecting, "reconnecting"),
            (disconnected, "disconnected"),
        ] {
            if *count > 0 {
                write!(f, "{separator}{count} {state}")?;
                separator = ", ";
                if state == "reconnecting" && *attempt > 0 {
                    write!(f, " (attempt {attempt})")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConnectionState::{Connected, Connecting, Disconnected, Reconnecting};

    #[test]
    fn in_words() {
        for (connections, expected) in [
            (&[][..], "0 connections"),
            (&[(Connected, 0)], "1 connection: 1 connected"),
            (
                &[(Connected, 0), (Reconnecting, 4), (Connected, 0)],
                "3 connections: 2 connected, 1 reconnecting (attempt 4)",
            ),
            // Lost, and the first attempt is not yet planned.
            (&[(Reconnecting, 0)], "1 connection: 1 reconnecting"),
            (
                &[(Reconnecting, 2), (Disconnected, 0), (Reconnecting, 17), (Connecting, 0)],
                "4 connections: 1 connecting, 2 reconnecting (attempt 17), 1 disconnected",
            ),
        ] {
            let standing: Standing = connections.iter().copied().collect();
            assert_eq!(standing.to_string(), expected);
        }
    }
}
