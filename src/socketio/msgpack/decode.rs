//! From the bytes to a packet. Nothing that a length promises is made room for before it is there.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use rmp::Marker;

use super::{ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT};
use crate::json;
use crate::socketio::{Args, Body, DecodeError, Name, Packet, binary};

/// The packet in `message`; its JSON text and its binary values may have `max` bytes together.
/// `lenient`: DISCONNECT may have a payload.
pub(in crate::socketio) fn decode(message: &Bytes, max: usize, lenient: bool) -> Result<Packet, DecodeError> {
    let mut reader = Reader { rest: message };
    let Value::Map(members) = reader.value()? else {
        return Err(DecodeError::Msgpack("a packet must be a map"));
    };
    let (mut kind, mut namespace, mut id) = (Value::Undefined, Value::Undefined, Value::Undefined);
    let mut data = Reader { rest: &UNDEFINED };
    for _ in 0..members {
        let (mut key, mut value) = (reader.whole()?, reader.whole()?);
        match key.value()? {
            Value::Text(b"type") => kind = value.value()?,
            Value::Text(b"nsp") => namespace = value.value()?,
            Value::Text(b"id") => id = value.value()?,
            Value::Text(b"data") => data = value,
            _ => {}
        }
    }
    if !reader.rest.is_empty() {
        return Err(DecodeError::Msgpack("bytes follow the packet"));
    }
    let Value::Text(namespace) = namespace else { return Err(DecodeError::Member("namespace")) };
    let id = match id {
        Value::Undefined => None,
        id => Some(id.unsigned().ok_or(DecodeError::Member("packet id"))?),
    };
    let first = data.value()?;
    let mut text = Text { message, json: Vec::new(), attachments: Vec::new(), attached: 0, max };
    let body = match kind.unsigned() {
        // Servers in Python say nil where JavaScript says nothing.
        Some(CONNECT) => match first {
            Value::Undefined | Value::Nil => Body::Connect(None),
            Value::Map(_) => Body::Connect(Some(text.payload(&mut data, first)?)),
            _ => return Err(DecodeError::Payload("CONNECT takes an object")),
        },
        Some(DISCONNECT) => match first {
            Value::Undefined | Value::Nil => Body::Disconnect,
            _ if lenient => Body::Disconnect,
            _ => return Err(DecodeError::Payload("DISCONNECT takes none")),
        },
        Some(EVENT) => {
            let Value::Array(length) = first else {
                return Err(DecodeError::Payload("an event takes an array"));
            };
            let others = length.checked_sub(1).ok_or(DecodeError::Payload("an event needs a name"))?;
            let name = text.name(&mut data)?;
            Body::Event { id, name, args: text.args(&mut data, others)? }
        }
        Some(ACK) => {
            let Value::Array(length) = first else {
                return Err(DecodeError::Payload("an ack takes an array"));
            };
            Body::Ack { id, args: text.args(&mut data, length)? }
        }
        Some(CONNECT_ERROR) => match first {
            Value::Map(_) | Value::Text(_) => Body::ConnectError(Some(text.payload(&mut data, first)?)),
            _ => return Err(DecodeError::Payload("CONNECT_ERROR takes an object or a string")),
        },
        _ => return Err(DecodeError::Member("packet type")),
    };
    Ok(Packet { namespace: String::from_utf8_lossy(namespace).as_ref().into(), body })
}

/// As the official encoder writes a value that is not there.
const UNDEFINED: [u8; 3] = [0xd4, 0, 0];

/// One value; arrays and maps are followed by what they hold.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    Undefined,
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// Below 0.
    Negative(i64),
    Float(f64),
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Array(usize),
    Map(usize),
    /// Milliseconds since 1970, where they fit.
    Date(Option<i64>),
    Extension(i8, &'a [u8]),
}

impl Value<'_> {
    fn signed(number: i64) -> Self {
        u64::try_from(number).map_or(Self::Negative(number), Self::Unsigned)
    }

    fn unsigned(self) -> Option<u64> {
        if let Self::Unsigned(number) = self { Some(number) } else { None }
    }
}

/// Takes values off the front of a message.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self) -> Result<Value<'a>, DecodeError> {
        let [marker] = self.array()?;
        Ok(match Marker::from_u8(marker) {
            Marker::Null => Value::Nil,
            Marker::False => Value::Bool(false),
            Marker::True => Value::Bool(true),
            Marker::FixPos(number) => Value::Unsigned(number.into()),
            Marker::U8 => Value::Unsigned(u8::from_be_bytes(self.array()?).into()),
            Marker::U16 => Value::Unsigned(u16::from_be_bytes(self.array()?).into()),
            Marker::U32 => Value::Unsigned(u32::from_be_bytes(self.array()?).into()),
            Marker::U64 => Value::Unsigned(u64::from_be_bytes(self.array()?)),
            Marker::FixNeg(number) => Value::signed(number.into()),
            Marker::I8 => Value::signed(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => Value::signed(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => Value::signed(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => Value::signed(i64::from_be_bytes(self.array()?)),
            Marker::F32 => Value::Float(f32::from_be_bytes(self.array()?).into()),
            Marker::F64 => Value::Float(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(length) => Value::Text(self.take(length.into())?),
            Marker::Str8 => Value::Text(self.take_after_length(1)?),
            Marker::Str16 => Value::Text(self.take_after_length(2)?),
            Marker::Str32 => Value::Text(self.take_after_length(4)?),
            Marker::Bin8 => Value::Binary(self.take_after_length(1)?),
            Marker::Bin16 => Value::Binary(self.take_after_length(2)?),
            Marker::Bin32 => Value::Binary(self.take_after_length(4)?),
            Marker::FixArray(length) => Value::Array(length.into()),
            Marker::Array16 => Value::Array(self.length(2)?),
            Marker::Array32 => Value::Array(self.length(4)?),
            Marker::FixMap(length) => Value::Map(length.into()),
            Marker::Map16 => Value::Map(self.length(2)?),
            Marker::Map32 => Value::Map(self.length(4)?),
            Marker::FixExt1 => self.fixed_extension(1)?,
            Marker::FixExt2 => self.fixed_extension(2)?,
            Marker::FixExt4 => self.fixed_extension(4)?,
            Marker::FixExt8 => self.fixed_extension(8)?,
            Marker::FixExt16 => self.fixed_extension(16)?,
            Marker::Ext8 => self.extension(1)?,
            Marker::Ext16 => self.extension(2)?,
            Marker::Ext32 => self.extension(4)?,
            Marker::Reserved => return Err(DecodeError::Msgpack("there is a byte that it never uses")),
        })
    }

    /// The next value with all that it holds. However deep that is, it costs no stack.
    fn whole(&mut self) -> Result<Self, DecodeError> {
        let start = self.rest;
        let mut missing = 1_usize;
        while missing > 0 {
            missing -= 1;
            missing = missing.saturating_add(match self.value()? {
                Value::Array(length) => length,
                Value::Map(length) => length.saturating_mul(2),
                _ => 0,
            });
        }
        Ok(Self { rest: &start[..start.len() - self.rest.len()] })
    }

    fn fixed_extension(&mut self, length: usize) -> Result<Value<'a>, DecodeError> {
        let [kind] = self.array()?;
        let bytes = self.take(length)?;
        Ok(match (kind.cast_signed(), length) {
            (0, 1) => Value::Undefined,
            (0, 8) => Value::Date(Some(big_endian(bytes).cast_signed())),
            (-1, 4) => Value::Date(i64::try_from(big_endian(bytes) * 1000).ok()),
            (-1, 8) => {
                let (nanoseconds, seconds) = (big_endian(bytes) >> 34, big_endian(bytes) & ((1 << 34) - 1));
                Value::Date(i64::try_from(seconds * 1000 + nanoseconds / 1_000_000).ok())
            }
            (kind, _) => Value::Extension(kind, bytes),
        })
    }

    /// One whose length is written in `width` bytes.
    fn extension(&mut self, width: usize) -> Result<Value<'a>, DecodeError> {
        let length = self.length(width)?;
        let [kind] = self.array()?;
        let bytes = self.take(length)?;
        Ok(match (kind.cast_signed(), length) {
            (0, _) => Value::Binary(bytes),
            (-1, 12) => {
                let (nanoseconds, seconds) = bytes.split_at(4);
                let milliseconds = (big_endian(nanoseconds) / 1_000_000).cast_signed();
                let seconds = big_endian(seconds).cast_signed();
                Value::Date(seconds.checked_mul(1000).and_then(|date| date.checked_add(milliseconds)))
            }
            (kind, _) => Value::Extension(kind, bytes),
        })
    }

    fn take_after_length(&mut self, width: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.length(width)?;
        self.take(length)
    }

    fn length(&mut self, width: usize) -> Result<usize, DecodeError> {
        Ok(usize::try_from(big_endian(self.take(width)?)).unwrap_or(usize::MAX))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

const CUT_OFF: DecodeError = DecodeError::Msgpack("it is cut off");

/// JSON text made of values, and the binary ones that its placeholders stand for.
#[derive(Debug)]
struct Text<'a> {
    message: &'a Bytes,
    json: Vec<u8>,
    attachments: Vec<Bytes>,
    /// Bytes of the attachments.
    attached: usize,
    max: usize,
}

impl Text<'_> {
    fn name(&mut self, reader: &mut Reader<'_>) -> Result<Name, DecodeError> {
        let first = reader.value()?;
        self.value(reader, first, 1)?;
        let name = Name::from_valid(self.finish()?)
            .ok_or(DecodeError::Payload("an event's name must be a string or a number"))?;
        if name.is_reserved() {
            return Err(DecodeError::Payload("an event must not have a reserved name"));
        }
        Ok(name)
    }

    fn args(mut self, reader: &mut Reader<'_>, count: usize) -> Result<Args, DecodeError> {
        for at in 0..count {
            if at > 0 {
                self.json.push(b',');
            }
            let value = reader.value()?;
            self.value(reader, value, 1)?;
        }
        let json = self.finish()?;
        let attachments = self.attachments;
        // An object that looks like a placeholder could not be told from one.
        let ours = || (0..attachments.len()).map(Some);
        if !attachments.is_empty() && !binary::placeholders(&json).iter().map(|found| found.num).eq(ours()) {
            return Err(DecodeError::Placeholder);
        }
        Ok(Args { json, attachments })
    }

    /// A payload that is no arguments; what is binary in it stands there as for local programs.
    fn payload(mut self, reader: &mut Reader<'_>, value: Value<'_>) -> Result<ByteString, DecodeError> {
        self.value(reader, value, 0)?;
        let json = self.finish()?;
        if self.attachments.is_empty() {
            return Ok(json);
        }
        binary::attach(&json, &self.attachments, &mut self.json);
        self.finish()
    }

    fn finish(&mut self) -> Result<ByteString, DecodeError> {
        let json = Bytes::from(std::mem::take(&mut self.json));
        ByteString::try_from(json).map_err(|_| DecodeError::Msgpack("it has text that is no UTF-8"))
    }

    /// Appends a value within `depth` arrays and maps.
    fn value(&mut self, reader: &mut Reader<'_>, value: Value<'_>, depth: usize) -> Result<(), DecodeError> {
        if depth == json::MAX_DEPTH && matches!(value, Value::Array(_) | Value::Map(_) | Value::Extension(..))
        {
            return Err(DecodeError::Payload("too many arrays and objects within one another"));
        }
        match value {
            Value::Undefined | Value::Nil => self.word("null"),
            Value::Bool(value) => self.word(if value { "true" } else { "false" }),
            Value::Unsigned(number) => self.word(itoa::Buffer::new().format(number)),
            Value::Negative(number) => self.word(itoa::Buffer::new().format(number)),
            Value::Float(number) => match serde_json::Number::from_f64(number) {
                Some(number) => self.word(&number.to_string()),
                None => self.word("null"),
            },
            Value::Text(text) => json::push_string(&mut self.json, &String::from_utf8_lossy(text)),
            Value::Binary(bytes) => self.binary(bytes),
            Value::Array(length) => {
                self.json.push(b'[');
                for at in 0..length {
                    if at > 0 {
                        self.json.push(b',');
                    }
                    let value = reader.value()?;
                    self.value(reader, value, depth + 1)?;
                }
                self.json.push(b']');
            }
            Value::Map(length) => self.map(reader, length, depth)?,
            Value::Date(milliseconds) => {
                match milliseconds.and_then(|date| jiff::Timestamp::from_millisecond(date).ok()) {
                    Some(date) => json::push_string(&mut self.json, &format!("{date:.3}")),
                    None => self.word("null"),
                }
            }
            Value::Extension(kind, bytes) => {
                self.json.push(b'[');
                self.word(itoa::Buffer::new().format(kind));
                self.json.push(b',');
                self.binary(bytes);
                self.json.push(b']');
            }
        }
        let max = self.max;
        if self.json.len() + self.attached > max { Err(DecodeError::TooLarge { max }) } else { Ok(()) }
    }

    fn map(&mut self, reader: &mut Reader<'_>, length: usize, depth: usize) -> Result<(), DecodeError> {
        self.json.push(b'{');
        let mut first = true;
        for _ in 0..length {
            let key = key(reader.value()?)?;
            let value = reader.value()?;
            if value == Value::Undefined {
                continue;
            }
            if !std::mem::take(&mut first) {
                self.json.push(b',');
            }
            json::push_string(&mut self.json, &key);
            self.json.push(b':');
            self.value(reader, value, depth + 1)?;
        }
        self.json.push(b'}');
        Ok(())
    }

    fn binary(&mut self, bytes: &[u8]) {
        self.word("{\"_placeholder\":true,\"num\":");
        self.word(itoa::Buffer::new().format(self.attachments.len()));
        self.word("}");
        self.attached += bytes.len();
        self.attachments.push(self.message.slice_ref(bytes));
    }

    fn word(&mut self, word: &str) {
        self.json.extend_from_slice(word.as_bytes());
    }
}

/// As JavaScript would spell a key that is no string.
fn key(value: Value<'_>) -> Result<Cow<'_, str>, DecodeError> {
    Ok(match value {
        Value::Text(text) | Value::Binary(text) => String::from_utf8_lossy(text),
        Value::Unsigned(number) => number.to_string().into(),
        Value::Negative(number) => number.to_string().into(),
        Value::Float(number) => number.to_string().into(),
        Value::Bool(value) => value.to_string().into(),
        Value::Nil => "null".into(),
        Value::Undefined => "undefined".into(),
        Value::Array(_) | Value::Map(_) | Value::Date(_) | Value::Extension(..) => {
            return Err(DecodeError::Payload("an object has a key that is neither text nor a number"));
        }
    })
}
