//! What the state machine wants done, done.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tracing::debug;

use super::link::Link;
use super::{Asked, BoxFuture, Driver, Wanted};
use crate::engineio::{Packet, TransportKind};
use crate::manager::auth::{self, Auth};
use crate::manager::state::{Action, Key};
use crate::transport::{self, Transport};

/// How long a transport may take to send its last words.
const FAREWELL: Duration = Duration::from_secs(5);

impl Driver {
    pub(super) fn act(&mut self) {
        while let Some(action) = self.state.poll_action() {
            match action {
                Action::Open(kind) => self.link = Link::Dialling(self.dial(kind, None)),
                Action::Opened(handshake) => {
                    if let Some(transport) = self.link.transport() {
                        transport.set_session(&handshake.sid, handshake.max_payload);
                    }
                    if let Some(witness) = &self.witness {
                        witness.opened(&handshake);
                    }
                }
                Action::Probe { sid } => {
                    self.probe = Link::Dialling(self.dial(TransportKind::WebSocket, Some(sid)));
                }
                Action::Pause => {
                    if let Some(transport) = self.link.transport() {
                        transport.pause();
                    }
                }
                Action::Switch => self.switch(),
                Action::AbandonProbe => {
                    self.probe = Link::Down;
                    if let Some(transport) = self.link.transport() {
                        transport.resume();
                    }
                }
                Action::Close { graceful, last } => self.close(graceful, last),
                Action::Authenticate { key, question } => self.authenticate(key, question),
                Action::ReadArgs { key, question, path } => self.read_args(key, question, path),
            }
        }
        if let Some(transport) = self.probe.transport() {
            while let Some(packet) = self.state.poll_probe_transmit() {
                transport.send(packet);
            }
        }
        if let Some(transport) = self.link.transport() {
            while let Some(packet) = self.state.poll_transmit() {
                transport.send(packet);
            }
        }
    }

    fn dial(
        &self,
        kind: TransportKind,
        sid: Option<String>,
    ) -> BoxFuture<Result<Transport, transport::Error>> {
        let (connector, turn) = (self.connector.clone(), Arc::clone(&self.turn));
        Box::pin(async move {
            let mut opening = pin!(connector.open(kind, sid.as_deref()));
            // Only the beginning takes the turn: nobody waits for another one's server.
            let turn = turn.acquire().await;
            let begun = poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx))).await;
            drop(turn);
            match begun {
                Poll::Ready(opened) => opened,
                Poll::Pending => opening.await,
            }
        })
    }

    fn switch(&mut self) {
        let polling = std::mem::replace(&mut self.link, std::mem::replace(&mut self.probe, Link::Down));
        if let (Link::Up(mut polling), Link::Up(websocket)) = (polling, &mut self.link) {
            websocket.send(Packet::Upgrade);
            for packet in polling.take_queued() {
                websocket.send(packet);
            }
        }
    }

    fn close(&mut self, graceful: bool, last: Vec<Packet>) {
        self.probe = Link::Down;
        if let Link::Up(mut transport) = std::mem::replace(&mut self.link, Link::Down)
            && graceful
        {
            transport.resume();
            for packet in last {
                transport.send(packet);
            }
            self.tasks.spawn(async move {
                if tokio::time::timeout(FAREWELL, transport.close()).await.is_err() {
                    debug!("the transport did not close in time");
                }
            });
        }
    }

    /// An earlier question of this socket is void, and whatever was to answer it is given up.
    fn authenticate(&mut self, key: Key, question: u64) {
        let now = self.clock.now();
        self.asked.remove(&key);
        let client = self.clients.get(&key);
        let source: BoxFuture<auth::Outcome> = match client.map(|client| &client.auth) {
            Some(Auth::Fixed(auth)) => {
                let auth = auth.clone();
                self.tell(key, Some(auth.expose()));
                return self.state.handle_auth(now, key, question, Ok(Some(auth.expose())));
            }
            Some(Auth::None) | None => {
                self.tell(key, None);
                return self.state.handle_auth(now, key, question, Ok(None));
            }
            Some(Auth::File(path)) => Box::pin(auth::from_file(path.clone())),
            Some(Auth::Command(argv)) => {
                let (argv, observer) = (argv.clone(), client.map(|client| Arc::clone(&client.observer)));
                let program = argv.first().cloned().unwrap_or_default();
                Box::pin(auth::from_command(argv, move |line| {
                    if let Some(observer) = &observer {
                        observer.said(&program, line);
                    }
                }))
            }
        };
        self.asked.insert(key, Asked { question, wanted: Wanted::Auth, source });
    }

    fn read_args(&mut self, key: Key, question: u64, path: std::path::PathBuf) {
        let source = Box::pin(auth::args_from_file(path));
        self.asked.insert(key, Asked { question, wanted: Wanted::Args, source });
    }
}
