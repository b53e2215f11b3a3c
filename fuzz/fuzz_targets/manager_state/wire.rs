//! What a server gets to read, and what it must not get.

use std::collections::BTreeMap;

use siod::engineio::{Handshake, Message, Packet, Revision};
use siod::socketio::{self, Body, Decoder, Parser};

/// The server's end of one session.
pub(crate) struct Wire {
    parser: Parser,
    revision: Revision,
    decoder: Decoder,
    /// What it takes in one packet.
    max_payload: Option<usize>,
    /// Binary data comes as base64.
    base64: bool,
    /// How often each namespace was asked for, less how often it was left.
    joined: BTreeMap<String, usize>,
    /// Of the last event that wants to be answered.
    last_id: u64,
}

impl Wire {
    pub(crate) fn new(parser: Parser, revision: Revision) -> Self {
        let decoder = Decoder::new(parser, usize::MAX, usize::MAX).with_revision(revision);
        Self {
            parser,
            revision,
            decoder,
            max_payload: None,
            base64: false,
            joined: BTreeMap::new(),
            last_id: 0,
        }
    }

    /// A session begins.
    pub(crate) fn open(&mut self, handshake: &Handshake, base64: bool) {
        let last_id = self.last_id;
        *self = Self {
            last_id,
            max_payload: handshake.max_payload,
            base64,
            ..Self::new(self.parser, self.revision)
        };
    }

    /// It goes on over a WebSocket.
    pub(crate) fn switch(&mut self) {
        self.base64 = false;
    }

    /// The id of the last event that wants to be answered.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Reads a packet.
    pub(crate) fn read(&mut self, packet: &Packet) {
        let Packet::Message(message) = packet else {
            assert!(!self.decoder.is_waiting(), "{packet:?} stands between a packet and its attachments");
            return;
        };
        let is_continued = self.decoder.is_waiting();
        let decoded =
            self.decoder.decode(message.clone()).unwrap_or_else(|error| panic!("{error}: {message:?}"));
        if let Some(socketio::Packet { body: Body::Event { id: Some(id), .. }, .. }) = &decoded {
            self.last_id = *id;
        }
        match decoded.map(|packet| (packet.namespace.to_string(), packet.body)) {
            Some((namespace, Body::Connect(_))) => *self.joined.entry(namespace).or_default() += 1,
            Some((namespace, Body::Disconnect)) => self.leave(&namespace),
            Some((_, Body::Event { .. } | Body::Ack { .. })) | None => self.takes(message),
            Some((_, Body::ConnectError(_))) => panic!("only servers refuse"),
        }
        assert!(!is_continued || matches!(message, Message::Binary(_)));
    }

    /// Nobody leaves what nobody asked for, or the server could decide how much it is sent. Old servers let everybody into
    /// `/` unasked, and know namespaces with a query.
    fn leave(&mut self, namespace: &str) {
        if self.revision == Revision::V4 {
            let joined = self.joined.get_mut(namespace).filter(|joined| **joined > 0);
            *joined.unwrap_or_else(|| panic!("{namespace} is left and was not asked for")) -= 1;
        }
    }

    /// More than it takes would end the session.
    fn takes(&self, message: &Message) {
        let packet = Packet::Message(message.clone());
        let size = match message {
            Message::Binary(bytes) if !self.base64 => bytes.len(),
            Message::Text(_) | Message::Binary(_) => packet.payload_size(),
        };
        assert!(self.max_payload.is_none_or(|max| size <= max), "{size} bytes for {:?}", self.max_payload);
    }
}
