//! How large a packet the server takes. A larger one would end the session, for everybody who shares it.

use crate::engineio::Message;

/// What the server takes in one Engine.IO packet. The default knows of no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// The handshake's `maxPayload`, in bytes; absent on older servers.
    pub max_payload: Option<usize>,
    /// Binary travels as base64, as polling demands.
    pub base64: bool,
}

/// A packet that the server does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of {size} bytes is more than the server takes: {max} (its maxPayload); it was not sent")]
pub struct TooLarge {
    /// Its bytes as they would travel.
    pub size: usize,
    /// The server's limit.
    pub max: usize,
}

impl Limit {
    /// Whether the server takes each of these messages.
    pub fn check(self, messages: &[Message]) -> Result<(), TooLarge> {
        let Some(max) = self.max_payload else { return Ok(()) };
        match messages.iter().map(|message| self.size(message)).max() {
            Some(size) if size > max => Err(TooLarge { size, max }),
            Some(_) | None => Ok(()),
        }
    }

    fn size(self, message: &Message) -> usize {
        match message {
            Message::Text(text) => 1 + text.len(),
            Message::Binary(bytes) if self.base64 => 1 + 4 * bytes.len().div_ceil(3),
            Message::Binary(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_message_decides_as_it_travels() {
        let text = |length| Message::Text("x".repeat(length).into());
        let bytes = |length| Message::Binary(vec![0; length].into());
        for (messages, plain, base64) in [
            (vec![], 0, 0),
            (vec![text(0)], 1, 1),
            (vec![text(99)], 100, 100),
            (vec![bytes(0)], 0, 1),
            (vec![bytes(98), text(9)], 98, 133),
            (vec![text(9), bytes(75), bytes(1)], 75, 101),
        ] {
            for (base64, size) in [(false, plain), (true, base64)] {
                let check = |max| Limit { max_payload: Some(max), base64 }.check(&messages);
                assert_eq!(check(size), Ok(()), "{messages:?}");
                if size > 0 {
                    assert_eq!(check(size - 1), Err(TooLarge { size, max: size - 1 }), "{messages:?}");
                }
            }
        }
        assert_eq!(Limit::default().check(&[text(1 << 20)]), Ok(()));
    }
}
