//! One program by itself, and what it takes of a channel.

use std::io;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::FutureExt;

use super::writing::BATCH_BYTES;
use super::*;
use crate::hub::channel::Start;
use crate::hub::inbox::MAX_ANSWER_BYTES;
use crate::hub::log;
use crate::hub::subscription::{LifecycleFilter, Pattern};
use crate::manager::{Lifecycle, Observer, Status};
use crate::socketio::{Args, Name};

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
pub(super) struct Socket {
    pub(super) room: Mutex<usize>,
    pub(super) taken: Mutex<Vec<u8>>,
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
    consumer.stop_listening();
}

pub(super) fn consumer() -> Arc<Consumer> {
    let identity = Identity { pid: None, uid: 0, gid: 0 };
    Arc::new(Consumer::new(1, identity, Rights::everywhere(Role::Read), Lag::Skip))
}

fn channel(name: &str) -> Arc<Channel> {
    channel_of(name, log::Settings { events: 100, bytes: 100_000 })
}

pub(super) fn channel_of(name: &str, history: log::Settings) -> Arc<Channel> {
    Arc::new(Channel::new(name, "stream".into(), history, Duration::from_secs(1), Arc::default()))
}

/// Subscribes to a channel; the answer reads `subscribed`.
pub(super) fn subscribe(consumer: &Arc<Consumer>, channel: &Arc<Channel>, start: Start) {
    let filter = Arc::new(Filter { events: None, lifecycle: LifecycleFilter::All, outgoing: false });
    let subscription = Subscription { connections: Pattern::new(channel.name()), filter, sticky: false };
    let answer = |_: &Subscribed, out: &mut BytesMut| out.put_slice(b"subscribed\n");
    consumer.inbox.expect_answer();
    assert!(consumer.subscribe(subscription, start, vec![Arc::clone(channel)], answer).is_some());
}

/// One more line of a channel.
fn say(channel: &Channel) {
    channel.lifecycle(&Lifecycle::Ready, &Status::default());
    channel.publish();
}

pub(super) fn answer(consumer: &Consumer, text: &str) {
    consumer.inbox.expect_answer();
    consumer.inbox.answer(|out| out.put_slice(format!("{text}\n").as_bytes()));
}

/// All that there is to take: answers as they are (the first letter of long ones), notifications as `connection seq`.
fn taken(consumer: &Consumer) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let mut out = Vec::new();
        consumer.take(&mut out);
        if out.is_empty() {
            break;
        }
        all.extend(out);
    }
    let said = |line: &str| match line.split_once(r#""connection":""#) {
        Some((_, rest)) => {
            let (name, rest) = rest.split_once(r#"","seq":"#).unwrap();
            format!("{name} {}", rest.split(',').next().unwrap())
        }
        None if line.len() > 100 => line[..1].to_owned(),
        None => line.to_owned(),
    };
    String::from_utf8(all.concat()).unwrap().lines().map(said).collect()
}

#[test]
fn what_stood_in_line_for_a_connection_is_nothing_for_the_next_one_in_its_place() {
    let (consumer, chat, lobby) = (consumer(), channel("chat"), channel("lobby"));
    subscribe(&consumer, &chat, Start::Live);
    assert_eq!(taken(&consumer), ["subscribed"]);
    for _ in 0..3 {
        say(&chat);
    }
    consumer.hear_first("chat");
    answer(&consumer, "answer");
    assert!(consumer.unsubscribe(1));
    answer(&consumer, "unsubscribed");
    subscribe(&consumer, &lobby, Start::Live);
    say(&lobby);
    assert_eq!(taken(&consumer), ["answer", "unsubscribed", "subscribed", "lobby 1"]);
}

#[test]
fn live_lines_wait_for_what_stands_in_line_however_much_that_is() {
    let (consumer, chat) = (consumer(), channel("chat"));
    say(&chat);
    say(&chat);
    answer(&consumer, &"x".repeat(BATCH_BYTES));
    subscribe(&consumer, &chat, Start::Last(2));
    say(&chat);
    assert_eq!(taken(&consumer), ["x", "subscribed", "chat 1", "chat 2", "chat 3"]);

    say(&chat);
    consumer.hear_first("chat");
    answer(&consumer, &"y".repeat(BATCH_BYTES));
    say(&chat);
    consumer.hear_first("chat");
    answer(&consumer, "z");
    say(&chat);
    assert_eq!(taken(&consumer), ["chat 4", "y", "chat 5", "z", "chat 6"]);
}

#[test]
fn answers_with_nothing_new_between_them_lie_in_one_piece() {
    let (consumer, chat) = (consumer(), channel("chat"));
    subscribe(&consumer, &chat, Start::Live);
    say(&chat);
    let answered = |count| {
        for number in 0..count {
            consumer.hear_first("chat");
            answer(&consumer, &number.to_string());
        }
    };
    answered(3);
    say(&chat);
    answered(2);
    let mut out = Vec::new();
    consumer.take(&mut out);
    assert_eq!(out.len(), 5);
    answered(1);
    consumer.take(&mut out);
    let text = String::from_utf8(out.concat()).unwrap();
    let said: Vec<_> = text.lines().map(|line| if line.len() > 100 { "line" } else { line }).collect();
    assert_eq!(said, ["subscribed", "line", "0", "1", "2", "line", "0", "1", "0"]);
}

#[test]
fn no_connection_waits_for_ever_for_the_lines_of_another() {
    let history = log::Settings { events: 1000, bytes: 64 * BATCH_BYTES };
    let (consumer, busy, quiet) =
        (consumer(), channel_of("busy", history.clone()), channel_of("quiet", history));
    subscribe(&consumer, &busy, Start::Live);
    subscribe(&consumer, &quiet, Start::Live);
    assert_eq!(taken(&consumer), ["subscribed", "subscribed"]);
    let args = Args::from_array(format!("[\"{}\"]", "x".repeat(BATCH_BYTES)).into()).unwrap();
    let speak = || {
        for _ in 0..2 {
            busy.event(Name::new("e").view(), args.view(), None);
        }
        busy.publish();
    };
    speak();
    say(&quiet);
    for round in 0..4 {
        let mut out = Vec::new();
        consumer.take(&mut out);
        if out.iter().any(|slice| slice.windows(5).any(|word| word == b"quiet")) {
            assert!(round < 2);
            return;
        }
        // As much as it has taken comes again.
        speak();
    }
    panic!("it was not heard");
}

#[test]
fn no_connection_waits_for_ever_for_the_answers_of_another() {
    let (consumer, chat, lobby) = (consumer(), channel("chat"), channel("lobby"));
    subscribe(&consumer, &chat, Start::Live);
    subscribe(&consumer, &lobby, Start::Live);
    assert_eq!(taken(&consumer), ["subscribed", "subscribed"]);
    say(&lobby);
    let mut out = Vec::new();
    for round in 0..8 {
        // Before what was taken is written, as much stands in line again.
        for _ in 0..2 {
            say(&chat);
            consumer.hear_first("chat");
            answer(&consumer, &"x".repeat(BATCH_BYTES));
        }
        consumer.take(&mut out);
        if out.iter().any(|slice| slice.windows(5).any(|word| word == b"lobby")) {
            assert!(round < 4);
            return;
        }
    }
    panic!("it was not heard");
}

#[test]
fn nothing_is_kept_for_one_that_left() {
    let consumer = consumer();
    let answer = || consumer.inbox.answer(|out| out.put_slice(b"answer\n"));
    consumer.inbox.expect_answer();
    consumer.inbox.expect_answer();
    answer();
    consumer.stop_listening();
    answer();
    let mut out = Vec::new();
    consumer.take(&mut out);
    assert!(out.is_empty() && !consumer.inbox.expects_answers());
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
