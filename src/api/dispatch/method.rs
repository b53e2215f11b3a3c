//! The methods by name, and what it takes to call them.

use crate::hub::Role;

/// A method, and what it takes to call it.
#[derive(Clone, Copy)]
pub(in crate::api) enum Method {
    Hello,
    List,
    Status,
    Subscribe,
    Unsubscribe,
    Emit,
    Ack,
    Connect,
    Disconnect,
    SetAuth,
    Open,
    Close,
    Reload,
}

impl Method {
    pub(in crate::api) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "hello" => Self::Hello,
            "list" => Self::List,
            "status" => Self::Status,
            "subscribe" => Self::Subscribe,
            "unsubscribe" => Self::Unsubscribe,
            "emit" => Self::Emit,
            "ack" => Self::Ack,
            "connect" => Self::Connect,
            "disconnect" => Self::Disconnect,
            "set_auth" => Self::SetAuth,
            "open" => Self::Open,
            "close" => Self::Close,
            "reload" => Self::Reload,
            _ => return None,
        })
    }

    /// Whether it does nothing that anybody would notice without the answer.
    pub(super) fn only_answers(self) -> bool {
        matches!(self, Self::Hello | Self::List | Self::Status | Self::Subscribe | Self::Unsubscribe)
    }

    pub(in crate::api) fn role(self) -> Role {
        match self {
            Self::Hello | Self::List | Self::Status | Self::Subscribe | Self::Unsubscribe => Role::Read,
            Self::Emit | Self::Ack => Role::Write,
            Self::Connect | Self::Disconnect | Self::SetAuth | Self::Open | Self::Close | Self::Reload => {
                Role::Control
            }
        }
    }
}
