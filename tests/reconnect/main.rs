//! The life of a connection, as its lifecycle events tell it, against a scripted upstream.

#[path = "../common/mod.rs"]
mod common;

mod attempts;
mod auth;
mod comebacks;
mod losses;
mod sessions;

use common::{CONNECT, Chat, Ws, lifecycle};

/// The members of the `disconnect` that follows the end of a WebSocket, with the code of its close.
fn lost(code: u16) -> String {
    format!(r#""event":"disconnect","reason":"transport close","details":{{"message":"…","code":{code}}}"#)
}

impl Chat {
    /// The next notifications of `chat` must be these lifecycle events.
    async fn hears(&mut self, events: &[(&str, bool)]) {
        for (members, active) in events {
            self.consumer.hear(&lifecycle(members, *active)).await;
        }
    }

    /// What comes between a loss and being joined again at the first attempt.
    async fn rejoins(&mut self) -> Ws {
        let ws = self.upstream.joined().await;
        self.hears(&[
            (r#""event":"reconnect_attempt","attempt":1"#, true),
            (r#""event":"reconnect","attempt":1"#, true),
        ])
        .await;
        self.consumer.hear(CONNECT).await;
        ws
    }
}
