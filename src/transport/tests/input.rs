//! Whatever the peer writes, and in whatever pieces it comes, it is read as the library would read it alone.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::task::noop_waker_ref;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::transport::Error;
use crate::transport::frames::{Frames, Front, Incoming};

/// Longest message that is taken.
const MAX: usize = 300;

/// Gives its pieces one by one, with a pause before each, and takes whatever is written.
struct Pieces(VecDeque<Vec<u8>>, bool);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.1 = !self.1;
        if self.1 {
            return Poll::Pending;
        }
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// All at once, for the library.
struct Whole(io::Cursor<Vec<u8>>);

impl Read for Whole {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is read up to the end, and how that comes: `closed`, `broken`.
fn read_by_library(bytes: &[u8]) -> Vec<String> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
    let stream = Whole(io::Cursor::new(bytes.to_vec()));
    let mut library = tungstenite::WebSocket::from_raw_socket(stream, Role::Client, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match library.read() {
            Ok(Message::Text(text)) => format!("text {:?}", text.as_bytes()),
            Ok(Message::Binary(bytes)) => format!("binary {:?}", &bytes[..]),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Ok(Message::Close(_))
            | Err(
                tungstenite::Error::Io(_)
                | tungstenite::Error::ConnectionClosed
                | tungstenite::Error::Protocol(
                    tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                ),
            ) => "closed".to_owned(),
            Err(_) => "broken".to_owned(),
        });
        if matches!(seen.last().map(String::as_str), Some("closed" | "broken")) {
            return seen;
        }
    }
}

/// The same by ours; `taking`: how many texts are taken at a time where they lie, 0 for none.
fn read_in_pieces(pieces: Vec<Vec<u8>>, before: &[u8], taking: &[usize]) -> Vec<String> {
    let mut frames = Frames::new(Pieces(pieces.into(), false), before, MAX);
    let mut cx = Context::from_waker(noop_waker_ref());
    let mut seen = Vec::new();
    let mut taking = taking.iter().cycle();
    let note = |seen: &mut Vec<String>, bytes: &[u8]| {
        let is_text = std::str::from_utf8(bytes).is_ok();
        seen.push(if is_text { format!("text {bytes:?}") } else { "broken".to_owned() });
        is_text
    };
    loop {
        let front = match frames.poll_front(&mut cx) {
            Poll::Pending => continue,
            Poll::Ready(front) => front,
        };
        let message = match front {
            Ok(Front::Texts) => {
                let mut left = *taking.next().unwrap();
                let before = seen.len();
                frames.take_texts(&mut |bytes| {
                    let is_broken = seen.last().is_some_and(|last| last == "broken");
                    let takes = left > 0 && !is_broken;
                    if takes {
                        left -= 1;
                        note(&mut seen, bytes);
                    }
                    takes
                });
                if seen.last().is_some_and(|last| last == "broken") {
                    return seen;
                }
                if seen.len() > before {
                    continue;
                }
                frames.take().expect("it was said to be there")
            }
            Ok(Front::Message(message)) => message,
            Err(Error::Closed { .. }) => {
                seen.push("closed".to_owned());
                return seen;
            }
            Err(_) => {
                seen.push("broken".to_owned());
                return seen;
            }
        };
        match message {
            Incoming::Text(bytes) => {
                if !note(&mut seen, &bytes) {
                    return seen;
                }
            }
            Incoming::Binary(bytes) => seen.push(format!("binary {:?}", &bytes[..])),
        }
    }
}

/// A frame, mostly of those that servers send; `wide`: with a longer length than it needs.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        10 => Just(0x81_u8),
        3 => Just(0x82),
        2 => prop::sample::select(vec![0x01_u8, 0x02, 0x00, 0x80]),
        2 => prop::sample::select(vec![0x89_u8, 0x8a]),
        1 => prop::sample::select(vec![0x88_u8, 0x09, 0xc1, 0x83, 0x8b, 0xf1]),
    ];
    let payload = prop_oneof![
        6 => "4[a-zé😀]{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..10),
        1 => (100..310_usize).prop_map(|length| vec![b'4'; length]),
    ];
    let masked = prop::bool::weighted(0.02);
    let wide = prop_oneof![12 => Just(0), 1 => 1..3_u8];
    (first, payload, masked, wide).prop_map(|(first, payload, masked, wide)| {
        let bit = u8::from(masked) << 7;
        let mut bytes = vec![first];
        match (wide, payload.len()) {
            (0, length @ ..126) => bytes.push(bit | u8::try_from(length).unwrap()),
            (0 | 1, length) => {
                bytes.push(bit | 0x7e);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            (_, length) => {
                bytes.push(bit | 0x7f);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend([0; 4]);
        }
        bytes.extend(payload);
        bytes
    })
}

proptest! {
    #[test]
    fn what_comes_is_read_as_the_library_reads_it(
        frames in prop::collection::vec(frame(), 0..12),
        cut in any::<prop::sample::Index>(),
        is_cut in prop::bool::weighted(0.2),
        sizes in prop::collection::vec(prop_oneof![1..4_usize, 1..40_usize, 1..700_usize], 1..8),
        before in 0..30_usize,
        taking in prop::collection::vec(0..4_usize, 1..5),
    ) {
        let mut bytes = frames.concat();
        if is_cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let expected = read_by_library(&bytes);
        let (before, rest) = bytes.split_at(before.min(bytes.len()));
        let (mut pieces, mut rest, mut sizes) = (Vec::new(), rest, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, left) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = left;
        }
        prop_assert_eq!(read_in_pieces(pieces, before, &taking), expected, "{:?}", frames);
    }
}
