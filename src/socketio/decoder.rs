//! Messages back into packets, whose attachments come one by one.
//!
//! What a valid packet means is for the layers above.

use bytes::Bytes;
use bytestring::ByteString;

use super::text::{self, Header, PlainAnswer, PlainEvent};
use super::{Args, Packet, Parser, binary, msgpack};
use crate::engineio::{Message, Revision};
use crate::json;

/// A message that no Socket.IO peer may send. The session cannot go on after one.
///
/// The texts are those of the official decoder, for which people search; [`DecodeError::detail`] says more. Payloads are
/// never quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first character is none of `0` to `6`.
    #[error("unknown packet type {}", number(*.0))]
    UnknownType(char),
    /// The payload is not JSON that can be taken. Lines and columns count from the payload's start.
    #[error("invalid payload")]
    Json(#[from] json::Error),
    /// The payload, or the id before it, is not what the packet's type demands.
    #[error("invalid payload")]
    Payload(&'static str),
    /// No count of attachments where there must be one.
    #[error("Illegal attachments")]
    Count,
    /// More attachments than the decoder takes.
    #[error("too many attachments")]
    TooManyAttachments {
        /// The decoder's limit.
        max: usize,
    },
    /// Not MessagePack, where that is the parser.
    #[error("invalid MessagePack")]
    Msgpack(&'static str),
    /// A member of a MessagePack packet that is missing or of the wrong type.
    #[error("invalid {0}")]
    Member(&'static str),
    /// A placeholder that refers to no attachment, or plain data beside attachments that looks like one.
    #[error("illegal attachments")]
    Placeholder,
    /// A text message while attachments are outstanding.
    #[error("got plaintext data when reconstructing a packet")]
    UnexpectedText,
    /// A binary message while none is outstanding.
    #[error("got binary data when not reconstructing a packet")]
    UnexpectedBinary,
    /// The text and its attachments, each as often as it is used, exceed the limit.
    #[error("packet too large: text and attachments exceed {max} bytes")]
    TooLarge {
        /// The decoder's limit in bytes.
        max: usize,
    },
}

impl DecodeError {
    /// What is wrong in particular, where the text does not say all of it.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::UnknownType('0'..='9')
            | Self::Member(_)
            | Self::UnexpectedText
            | Self::UnexpectedBinary
            | Self::TooLarge { .. } => None,
            Self::UnknownType(kind) => Some(format!("the packet starts with '{}'", kind.escape_default())),
            Self::Json(error) => Some(error.to_string()),
            Self::Payload(detail) | Self::Msgpack(detail) => Some((*detail).to_owned()),
            Self::Count => Some("their number, at least 1, and '-' must follow the packet type".to_owned()),
            Self::TooManyAttachments { max } => Some(format!("at most {max} are taken")),
            Self::Placeholder => Some("a placeholder refers to none of them".to_owned()),
        }
    }

    /// All that is known, on one line.
    #[cfg(test)]
    pub(super) fn explained(&self) -> String {
        self.detail().map_or_else(|| self.to_string(), |detail| format!("{self}: {detail}"))
    }
}

/// Puts packets together from the messages of one session.
#[derive(Debug)]
pub struct Decoder {
    parser: Parser,
    max_attachments: usize,
    max_payload: usize,
    revision: Revision,
    lenient: bool,
    unfinished: Option<Unfinished>,
}

/// A packet some of whose attachments are still to come.
#[derive(Debug)]
struct Unfinished {
    packet: Packet,
    missing: usize,
    /// Bytes so far.
    size: usize,
}

impl Decoder {
    /// Takes packets with at most `max_attachments` (the official decoder: 10; as JSON only) and `max_payload` bytes,
    /// text and attachments together.
    pub fn new(parser: Parser, max_attachments: usize, max_payload: usize) -> Self {
        Self {
            parser,
            max_attachments,
            max_payload,
            revision: Revision::V4,
            lenient: false,
            unfinished: None,
        }
    }

    /// The rules of the Socket.IO protocol that goes with this revision: 4 with Engine.IO 3, where servers may use any
    /// event name and say more in CONNECT and ERROR, else 5.
    #[must_use]
    pub fn with_revision(self, revision: Revision) -> Self {
        Self { revision, ..self }
    }

    /// Lets a payload on DISCONNECT pass, which servers in Python may send and the official decoder refuses. It means
    /// nothing and is left out.
    #[must_use]
    pub fn with_payload_on_disconnect(self) -> Self {
        Self { lenient: true, ..self }
    }

    /// Takes the next message; gives a packet once it is complete.
    ///
    /// After an error the unfinished packet, if there was one, is gone.
    pub fn decode(&mut self, message: Message) -> Result<Option<Packet>, DecodeError> {
        if self.parser == Parser::Msgpack {
            return match message {
                Message::Binary(bytes) => msgpack::decode(&bytes, self.max_payload, self.lenient).map(Some),
                Message::Text(_) => Err(DecodeError::Msgpack("got a text message")),
            };
        }
        match (message, self.unfinished.take()) {
            (Message::Text(text), None) => self.text(&text),
            (Message::Binary(bytes), Some(unfinished)) => self.attachment(bytes, unfinished),
            (Message::Text(_), Some(_)) => Err(DecodeError::UnexpectedText),
            (Message::Binary(_), None) => Err(DecodeError::UnexpectedBinary),
        }
    }

    /// The beginning of `text`, if it is that of an event which [`Decoder::plain_event`] may take as it lies there.
    #[inline]
    pub fn plain_header<'a>(&self, text: &'a str) -> Option<Header<'a>> {
        if self.takes_plain(text) { Header::of_plain_event(text) } else { None }
    }

    /// The event that goes on behind this beginning, which is then done with; an error is what [`Decoder::decode`] says.
    #[inline]
    pub fn plain_event<'a>(&self, header: &Header<'a>) -> Result<PlainEvent<'a>, DecodeError> {
        header.event(self.revision)
    }

    /// The beginning of `text`, if it is that of an answer which [`Decoder::plain_answer`] may take as it lies there.
    #[inline]
    pub fn plain_answer_header<'a>(&self, text: &'a str) -> Option<Header<'a>> {
        if self.takes_plain(text) { Header::of_plain_answer(text) } else { None }
    }

    /// The answer that goes on behind this beginning, and the id of its event. `None` for whatever [`Decoder::decode`] has
    /// more to say about.
    #[inline]
    pub fn plain_answer<'a>(&self, header: &Header<'a>) -> Option<(u64, PlainAnswer<'a>)> {
        Some((header.id()?, PlainAnswer(header.answer().ok()?)))
    }

    /// Whether a text may be looked at where it lies: a packet of the JSON parser can begin with it.
    #[inline]
    fn takes_plain(&self, text: &str) -> bool {
        self.parser == Parser::Json && self.unfinished.is_none() && self.check_size(text.len()).is_ok()
    }

    /// Whether a packet lacks attachments, so that the next message must be one.
    pub fn is_waiting(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Forgets an unfinished packet; to be called when the session ends.
    pub fn reset(&mut self) {
        self.unfinished = None;
    }

    fn text(&mut self, text: &ByteString) -> Result<Option<Packet>, DecodeError> {
        self.check_size(text.len())?;
        let (packet, missing) = text::parse(text, self.max_attachments, self.revision, self.lenient)?;
        if missing == 0 {
            return Ok(Some(packet));
        }
        self.unfinished = Some(Unfinished { packet, missing, size: text.len() });
        Ok(None)
    }

    fn attachment(
        &mut self,
        bytes: Bytes,
        mut unfinished: Unfinished,
    ) -> Result<Option<Packet>, DecodeError> {
        unfinished.size = unfinished.size.saturating_add(bytes.len());
        self.check_size(unfinished.size)?;
        unfinished.missing -= 1;
        let args = unfinished.packet.body.args_mut().ok_or(DecodeError::UnexpectedBinary)?;
        args.attachments.push(bytes);
        if unfinished.missing > 0 {
            self.unfinished = Some(unfinished);
            return Ok(None);
        }
        self.check_placeholders(args)?;
        Ok(Some(unfinished.packet))
    }

    fn check_placeholders(&self, args: &mut Args) -> Result<(), DecodeError> {
        let placeholders = binary::placeholders(&args.json);
        // One attachment may be used many times over, so its bytes count each time.
        let mut size = args.json.len();
        for placeholder in &placeholders {
            let bytes = placeholder.num.and_then(|num| args.attachments.get(num));
            size = size.saturating_add(bytes.ok_or(DecodeError::Placeholder)?.len());
        }
        if placeholders.is_empty() {
            args.attachments.clear();
        }
        self.check_size(size)
    }

    fn check_size(&self, size: usize) -> Result<(), DecodeError> {
        let max = self.max_payload;
        if size > max { Err(DecodeError::TooLarge { max }) } else { Ok(()) }
    }
}

/// As JavaScript's `Number()` reads the character, since users search for the official text.
fn number(kind: char) -> String {
    if kind.is_ascii_digit() { kind.to_string() } else { "NaN".to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::socketio::{Body, Name};

    const MIB: usize = 1 << 20;

    #[test]
    fn attachments_complete_a_packet() {
        for (text, attachments, array) in [
            (r#"51-["a",{"_placeholder":true,"num":0}]"#, &["x"][..], r#"[{"$binary":"eA=="}]"#),
            (
                r#"502-/n,3["a",{"num":1,"_placeholder":true},[{"_placeholder":true,"num":0}]]"#,
                &["x", ""],
                r#"[{"$binary":""},[{"$binary":"eA=="}]]"#,
            ),
            (r#"62-7[{"_placeholder":true,"num":1}]"#, &["x", "y"], r#"[{"$binary":"eQ=="}]"#),
        ] {
            let mut decoder = Decoder::new(Parser::Json, 10, MIB);
            assert_eq!(decoder.decode(Message::Text(text.into())), Ok(None));
            let (last, others) = attachments.split_last().unwrap();
            for bytes in others {
                assert_eq!(decoder.decode(Message::Binary(bytes.as_bytes().into())), Ok(None));
                assert!(decoder.is_waiting());
            }
            let packet = decoder.decode(Message::Binary(last.as_bytes().into())).unwrap().unwrap();
            assert!(!decoder.is_waiting());
            let (Body::Event { args, .. } | Body::Ack { args, .. }) = packet.body else {
                panic!("neither an event nor an ack: {text}");
            };
            let mut out = Vec::new();
            args.write_array(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), array);
            assert!(args.has_binary());
        }
    }

    #[test]
    fn attachments_that_nothing_refers_to_are_dropped() {
        for text in [r#"51-["a",{"$binary":"data"}]"#, "61-5", r#"61-5[{"_placeholder":false}]"#] {
            let mut decoder = Decoder::new(Parser::Json, 10, MIB);
            assert_eq!(decoder.decode(Message::Text(text.into())), Ok(None));
            let packet = decoder.decode(Message::Binary(Bytes::from_static(b"x"))).unwrap().unwrap();
            let (Body::Event { args, .. } | Body::Ack { args, .. }) = packet.body else {
                panic!("neither an event nor an ack: {text}");
            };
            assert!(!args.has_binary(), "{text}");
        }
    }

    #[test]
    fn bad_placeholders_show_when_the_last_attachment_is_there() {
        for object in [
            r#"{"_placeholder":true}"#,
            r#"{"_placeholder":true,"num":2}"#,
            r#"{"_placeholder":true,"num":-1}"#,
            r#"{"_placeholder":true,"num":0.5}"#,
            r#"{"_placeholder":true,"num":"0"}"#,
            r#"{"_placeholder":true,"num":0,"num":2}"#,
        ] {
            let mut decoder = Decoder::new(Parser::Json, 10, MIB);
            assert_eq!(decoder.decode(Message::Text(format!("52-[1,{object}]").into())), Ok(None));
            assert_eq!(decoder.decode(Message::Binary(Bytes::new())), Ok(None));
            assert_eq!(
                decoder.decode(Message::Binary(Bytes::new())),
                Err(DecodeError::Placeholder),
                "{object}"
            );
        }
    }

    #[test]
    fn messages_out_of_turn_are_refused_and_forgotten() {
        let header = || Message::Text(r#"51-["a",{"_placeholder":true,"num":0}]"#.into());
        let bytes = || Message::Binary(Bytes::from_static(b"x"));
        let mut decoder = Decoder::new(Parser::Json, 10, MIB);
        assert_eq!(decoder.decode(bytes()), Err(DecodeError::UnexpectedBinary));
        assert_eq!(decoder.decode(header()), Ok(None));
        assert_eq!(decoder.decode(Message::Text("2[1]".into())), Err(DecodeError::UnexpectedText));
        assert_eq!(decoder.decode(bytes()), Err(DecodeError::UnexpectedBinary));
        assert_eq!(decoder.decode(header()), Ok(None));
        decoder.reset();
        assert!(!decoder.is_waiting());
        assert_eq!(decoder.decode(header()), Ok(None));
        assert!(matches!(decoder.decode(bytes()), Ok(Some(_))));
    }

    #[test]
    fn size_counts_text_and_attachments_as_often_as_they_are_used() {
        let once = r#"51-[1,{"_placeholder":true,"num":0}]"#;
        let thrice = format!("51-[1{}]", r#",{"_placeholder":true,"num":0}"#.repeat(3));
        let taken = |text: &str, attachment: usize, max: usize| {
            let mut decoder = Decoder::new(Parser::Json, 10, max);
            decoder.decode(Message::Text(text.into()))?;
            decoder.decode(Message::Binary(vec![0; attachment].into()))
        };
        assert!(taken(once, 100, once.len() + 100).is_ok());
        assert_eq!(taken(once, 0, once.len() - 1), Err(DecodeError::TooLarge { max: once.len() - 1 }));
        assert_eq!(taken(once, 101, once.len() + 100), Err(DecodeError::TooLarge { max: once.len() + 100 }));
        assert!(taken(&thrice, 1000, thrice.len() + 3000).is_ok());
        assert_eq!(taken(&thrice, 1000, 2500), Err(DecodeError::TooLarge { max: 2500 }));
    }

    #[test]
    fn a_payload_on_disconnect_passes_where_that_is_wanted() {
        let lenient = |parser| Decoder::new(parser, 10, MIB).with_payload_on_disconnect();
        let disconnect = |namespace: &'static str| {
            Ok(Some(Packet { namespace: namespace.into(), body: Body::Disconnect }))
        };
        for (text, namespace) in [
            ("1", "/"),
            (r#"1{"why":"late"}"#, "/"),
            (r#"1"bye""#, "/"),
            ("1/a,[1]", "/a"),
            ("1/a,7{}", "/a"),
        ] {
            let message = || Message::Text(text.into());
            assert_eq!(lenient(Parser::Json).decode(message()), disconnect(namespace), "{text}");
            let strict = Decoder::new(Parser::Json, 10, MIB).decode(message());
            assert_eq!(strict.is_ok(), text == "1", "{text}");
        }
        for text in ["1{", "1nonsense", "1/a,{}{}"] {
            assert!(lenient(Parser::Json).decode(Message::Text(text.into())).is_err(), "{text}");
        }

        // {"type": 1, "nsp": "/", "data": "bye"}
        let message = || Message::Binary(Bytes::from_static(b"\x83\xa4type\x01\xa3nsp\xa1/\xa4data\xa3bye"));
        assert_eq!(lenient(Parser::Msgpack).decode(message()), disconnect("/"));
        assert!(Decoder::new(Parser::Msgpack, 10, MIB).decode(message()).is_err());
    }

    proptest! {
        #[test]
        fn no_messages_make_it_panic(
            old in any::<bool>(),
            messages in proptest::collection::vec(any_message(), 0..12),
        ) {
            let revision = if old { Revision::V3 } else { Revision::V4 };
            let mut decoder = Decoder::new(Parser::Json, 3, 200).with_revision(revision);
            for message in messages {
                if let Ok(Some(packet)) = decoder.decode(message) {
                    packet.encode(Parser::Json, &mut Vec::new());
                    if let Body::Event { args, .. } | Body::Ack { args, .. } = packet.body {
                        args.write_array(&mut Vec::new());
                    }
                }
            }
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same(
            namespace in "/([a-z?é-][a-z/]{0,5})?",
            id in any::<Option<u64>>(),
            name in any::<String>().prop_filter("reserved", |name| !Name::new(name).is_reserved()),
            leaves in proptest::collection::vec(any_leaf(), 0..5),
            is_ack in any::<bool>(),
        ) {
            let args = Args::from_consumer(&format!("[{}]", leaves.join(", ")), true, 10).unwrap();
            let name = Name::new(&name);
            let body = if is_ack { Body::Ack { id, args } } else { Body::Event { id, name, args } };
            let packet = Packet { namespace: namespace.into(), body };
            let mut messages = Vec::new();
            packet.encode(Parser::Json, &mut messages);
            let mut decoder = Decoder::new(Parser::Json, 10, MIB);
            let last = messages.pop().unwrap();
            for message in messages {
                prop_assert_eq!(decoder.decode(message), Ok(None));
            }
            prop_assert_eq!(decoder.decode(last), Ok(Some(packet)));
        }
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let pieces = r#"[0-6]?[0-3]?-?(/[a-z]{0,2},)?[0-9]?\[?("a"|\{"_placeholder":true,"num":[0-3]\}|[,\[\]{}"\\:]){0,6}\]?"#;
        let placeholders = r#"[56][1-3]-\["a"(,\{"_placeholder":true,"num":[0-2]\}){0,3}\]"#;
        prop_oneof![
            pieces.prop_map(|text| Message::Text(text.into())),
            placeholders.prop_map(|text| Message::Text(text.into())),
            any::<String>().prop_map(|text| Message::Text(text.into())),
            proptest::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| Message::Binary(bytes.into())),
        ]
    }

    fn any_leaf() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
            Just(r#"{"a":[{"$binary":"AQID"},null]}"#.to_owned()),
            Just(r#"{"$binary":""}"#.to_owned()),
        ]
    }
}
