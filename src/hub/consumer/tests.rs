//! One program by itself, and what it takes of a channel.

use std::io;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::FutureExt;

use super::*;
use crate::hub::channel::Start;
use crate::hub::inbox::MAX_ANSWER_BYTES;
use crate::hub::log;
use crate::hub::subscription::{LifecycleFilter, Pattern};
use crate::manager::{Lifecycle, Observer, Status};

#[test]
fn a_replay_ends_where_the_rights_end() {
    let identity = Identity { pid: None, uid: 0, gid: 0 };
    let consumer = Consumer::new(1, identity, Rights::everywhere(Role::Read), Lag::Skip);
    let history = log::Settings { events: 10, bytes: 1024 };
    for name in ["chat", "secret"] {
        let channel =
            Channel::new(name, "stream".into(), history.clone(), Duration::from_secs(1), Arc::default());
        consumer.inbox.push_replay(Replaying {
            subscription: 1,
            channel: Arc::new(channel),
            sticky: VecDeque::from([Bytes::from(name)]),
            sticky_seqs: vec![1],
            replay: None,
            filter: Arc::new(Filter { events: None, lifecycle: LifecycleFilter::All, outgoing: false }),
        });
    }
    consumer.set_rights(Rights { role: Role::Read, connections: [Pattern::new("ch*")].into() });
    let mut out = Vec::new();
    consumer.take(&mut out);
    assert_eq!(out, ["chat"]);
}

/// A socket that takes so many bytes.
struct Socket {
    room: Mutex<usize>,
    taken: Mutex<Vec<u8>>,
}

impl Outlet for Socket {
    fn write(&self, batch: &mut Vec<Bytes>) -> io::Result<()> {
        let (mut room, mut taken) = (self.room.lock().unwrap(), self.taken.lock().unwrap());
        for bytes in &mut *batch {
            let part = bytes.split_to(bytes.len().min(*room));
            *room -= part.len();
            taken.extend_from_slice(&part);
        }
        batch.retain(|bytes| !bytes.is_empty());
        Ok(())
    }
}

#[test]
fn what_a_resting_consumer_hears_is_written_at_once_and_in_order() {
    let identity = Identity { pid: None, uid: 0, gid: 0 };
    let consumer = Arc::new(Consumer::new(1, identity, Rights::everywhere(Role::Read), Lag::Skip));
    let history = log::Settings { events: 100, bytes: 100_000 };
    let channel =
        Arc::new(Channel::new("chat", "stream".into(), history, Duration::from_secs(1), Arc::default()));
    let filter = Arc::new(Filter { events: None, lifecycle: LifecycleFilter::All, outgoing: false });
    let subscription = Subscription { connections: Pattern::new("chat"), filter, sticky: false };
    let answer = |_: &Subscribed, out: &mut BytesMut| out.put_slice(b"answer\n");
    let subscribed = consumer.subscribe(subscription, Start::Live, vec![Arc::clone(&channel)], answer);
    assert!(subscribed.is_some());
    let socket = Arc::new(Socket { room: Mutex::new(usize::MAX), taken: Mutex::default() });
    consumer.write_to(Arc::clone(&socket) as Arc<_>);
    let seqs = |bytes: &[u8]| -> String {
        let text = std::str::from_utf8(bytes).unwrap().lines();
        let seq = |line: &str| match line.split_once("\"seq\":") {
            Some((_, rest)) => rest.split(',').next().unwrap().to_owned(),
            None => line.to_owned(),
        };
        text.map(seq).collect::<Vec<_>>().join(" ")
    };
    let say = || {
        channel.lifecycle(&Lifecycle::Ready, &Status::default());
        channel.publish();
    };
    let take = || {
        let mut out = Vec::new();
        consumer.take(&mut out);
        seqs(&out.concat())
    };
    let written = || seqs(&std::mem::take(&mut *socket.taken.lock().unwrap()));

    say();
    assert_eq!((written(), take()), (String::new(), "answer 1".to_owned()), "its task is yet to begin");
    say();
    assert_eq!((written(), take()), (String::new(), "2".to_owned()), "its task is at the line before");
    assert_eq!(take(), "");
    say();
    say();
    assert_eq!((written(), take()), ("3 4".to_owned(), String::new()), "its task rests");
    consumer.inbox.expect_answer();
    consumer.inbox.answer(|out| out.put_slice(b"answer\n"));
    say();
    assert_eq!((written(), take()), (String::new(), "answer 5".to_owned()), "an answer stands in line");
    assert_eq!(take(), "");

    // Of one line the socket takes the beginning, and its task writes the rest before anything else.
    *socket.room.lock().unwrap() = 10;
    say();
    say();
    *socket.room.lock().unwrap() = usize::MAX;
    let begun = std::mem::take(&mut *socket.taken.lock().unwrap());
    let mut out = Vec::new();
    consumer.take(&mut out);
    assert_eq!((begun.len(), seqs(&[begun, out.concat()].concat())), (10, "6 7".to_owned()));
    assert_eq!(take(), "");

    *socket.room.lock().unwrap() = 10;
    say();
    let rest = consumer.write_no_more().concat();
    assert_eq!(seqs(&[std::mem::take(&mut *socket.taken.lock().unwrap()), rest].concat()), "8");
    *socket.room.lock().unwrap() = usize::MAX;
    say();
    assert_eq!(written(), "", "it was told goodbye");
    consumer.detach();
}

#[test]
fn kept_lines_that_are_not_read_count_as_answers() {
    let identity = Identity { pid: None, uid: 0, gid: 0 };
    let consumer = Consumer::new(1, identity, Rights::everywhere(Role::Read), Lag::Skip);
    let history = log::Settings { events: 10, bytes: 1024 };
    let channel =
        Arc::new(Channel::new("chat", "stream".into(), history, Duration::from_secs(1), Arc::default()));
    let filter = Arc::new(Filter { events: None, lifecycle: LifecycleFilter::All, outgoing: false });
    let line = Bytes::from(vec![b'x'; MAX_ANSWER_BYTES / 4]);
    let subscribe = |subscription| {
        consumer.inbox.push_replay(Replaying {
            subscription,
            channel: Arc::clone(&channel),
            sticky: VecDeque::from([line.clone(), line.clone(), line.clone()]),
            sticky_seqs: vec![1, 2, 3],
            replay: None,
            filter: Arc::clone(&filter),
        });
    };
    let has_room = || consumer.inbox.answers_have_room().now_or_never().is_some();
    subscribe(1);
    assert!(has_room());
    subscribe(2);
    assert!(!has_room());
    assert_eq!(consumer.inbox.take_replays(|replaying| replaying.subscription == 1).len(), 1);
    assert!(has_room());
    subscribe(3);
    // Five lines are left, then four, which are as much as may wait, then fewer.
    for (written, room) in [(1, false), (2, false), (3, true), (6, true)] {
        let mut out = Vec::new();
        while consumer.delivered.load(Ordering::Relaxed) < written {
            consumer.take(&mut out);
        }
        assert_eq!(has_room(), room, "{written}");
        assert!(out.iter().all(|slice| slice.len() == line.len()));
    }
}
