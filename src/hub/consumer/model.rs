//! Random histories of one program, whose socket takes as much as it likes: what it reads is in order.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};
use proptest::prelude::*;

use super::tests::{Socket, answer, channel_of, consumer, subscribe};
use super::*;
use crate::hub::channel::Start;
use crate::hub::log;
use crate::manager::Observer;
use crate::socketio::{Args, Name};

const NAMES: [&str; 3] = ["chat", "lobby", "news"];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A connection says something of so many bytes, and it is told to whoever listens or not yet.
    Say { which: usize, bytes: usize, publishes: bool },
    /// An answer of so many bytes that stands behind what was said.
    Answer { which: usize, bytes: usize, at_once: bool },
    /// To the last so many lines and what comes; or no more.
    Turn { which: usize, last: u64 },
    /// The program's task has its turn.
    Task,
    /// The socket takes so many bytes more.
    Room(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop_oneof![6 => Just(0), 2 => Just(5000), 1 => Just(100_000), 1 => Just(300_000)];
    prop_oneof![
        6 => (0..3_usize, bytes(), any::<bool>())
            .prop_map(|(which, bytes, publishes)| Step::Say { which, bytes, publishes }),
        4 => (0..3_usize, bytes(), any::<bool>())
            .prop_map(|(which, bytes, at_once)| Step::Answer { which, bytes, at_once }),
        3 => (0..3_usize, prop_oneof![Just(0), 0..9_u64, Just(100)]).prop_map(|(which, last)| Step::Turn { which, last }),
        5 => Just(Step::Task),
        3 => prop_oneof![0..500_usize, 0..50_000_usize, Just(1 << 20)].prop_map(Step::Room),
    ]
}

/// What is to be read of one subscription: its lines, of which those up to a number have to come before an answer.
struct Hearing {
    which: usize,
    lines: Vec<u64>,
    ended: bool,
}

struct World {
    consumer: Arc<Consumer>,
    channels: Vec<Arc<Channel>>,
    said: [u64; 3],
    /// The subscription of each channel: its number, and where it is in `hearings`.
    open: [Option<(u64, usize)>; 3],
    hearings: Vec<Hearing>,
    subscriptions: u64,
    /// All answers in order, and what each has to stand behind: of this hearing so many lines.
    answers: Vec<(String, Option<(usize, usize)>)>,
    socket: Arc<Socket>,
    /// What the task has taken and not yet written.
    batch: Vec<Bytes>,
    rests: bool,
}

impl World {
    fn new() -> Self {
        let consumer = consumer();
        let history = log::Settings { events: 320, bytes: 100 << 20 };
        let channels = NAMES.map(|name| channel_of(name, history.clone())).to_vec();
        let socket = Arc::new(Socket { room: Mutex::new(0), taken: Mutex::default() });
        consumer.write_to(Arc::clone(&socket) as Arc<_>);
        Self {
            consumer,
            channels,
            said: [0; 3],
            open: [None; 3],
            hearings: Vec::new(),
            subscriptions: 0,
            answers: Vec::new(),
            socket,
            batch: Vec::new(),
            rests: false,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Say { which, bytes, publishes } => {
                let args = Args::from_array(format!("[\"{}\"]", "x".repeat(bytes)).into()).unwrap();
                self.channels[which].event(Name::new("e").view(), args.view(), None);
                self.said[which] += 1;
                if let Some((_, hearing)) = self.open[which] {
                    self.hearings[hearing].lines.push(self.said[which]);
                }
                if publishes {
                    self.channels[which].publish();
                }
            }
            Step::Answer { which, bytes, at_once } => {
                let text = format!("answer {} {}", self.answers.len(), "y".repeat(bytes));
                self.consumer.hear_first(NAMES[which]);
                self.consumer.inbox.expect_answer();
                self.consumer.inbox.put_answer(|out, _| out.put_slice(format!("{text}\n").as_bytes()));
                let before =
                    self.open[which].map(|(_, hearing)| (hearing, self.hearings[hearing].lines.len()));
                self.answers.push((text, before));
                if at_once { self.consumer.write_at_once() } else { self.consumer.inbox.ring() }
            }
            Step::Turn { which, last } => match self.open[which].take() {
                None => {
                    let start = if last == 0 { Start::Live } else { Start::Last(last) };
                    subscribe(&self.consumer, &self.channels[which], start);
                    self.subscriptions += 1;
                    let head = self.said[which];
                    let lines = (head.saturating_sub(last) + 1..=head).collect();
                    self.open[which] = Some((self.subscriptions, self.hearings.len()));
                    self.answers.push((format!("subscribed {which}"), None));
                    self.hearings.push(Hearing { which, lines, ended: false });
                }
                Some((number, hearing)) => {
                    assert!(self.consumer.unsubscribe(number));
                    answer(&self.consumer, "unsubscribed");
                    self.answers.push((format!("unsubscribed {which}"), None));
                    self.hearings[hearing].ended = true;
                }
            },
            Step::Task => self.task(),
            Step::Room(bytes) => *self.socket.room.lock().unwrap() += bytes,
        }
    }

    /// As the task does it: what was taken is written before anything else is taken.
    fn task(&mut self) {
        if self.batch.is_empty() {
            self.consumer.take(&mut self.batch);
            self.rests = self.batch.is_empty();
        }
        self.socket.write(&mut self.batch).unwrap();
    }

    /// Everything is written, and then looked at.
    fn end(mut self) {
        *self.socket.room.lock().unwrap() = usize::MAX;
        for channel in &self.channels {
            channel.publish();
        }
        loop {
            self.task();
            if self.rests && self.consumer.inbox.is_idle() {
                break;
            }
        }
        let bytes = std::mem::take(&mut *self.socket.taken.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let mut answers: VecDeque<_> = std::mem::take(&mut self.answers).into();
        let mut hearings = std::mem::take(&mut self.hearings).into_iter();
        let mut open: [Option<(usize, Hearing, usize)>; 3] = [None, None, None];
        let mut begun = 0;
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once(r#""connection":""#) {
                let (name, rest) = rest.split_once(r#"","seq":"#).unwrap();
                let seq: u64 = rest.split(',').next().unwrap().parse().unwrap();
                let which = NAMES.iter().position(|known| *known == name).unwrap();
                let (_, hearing, heard) = open[which].as_mut().expect("nobody listens to it");
                assert_eq!(hearing.lines.get(*heard), Some(&seq), "{name}");
                *heard += 1;
                continue;
            }
            let (expected, before) = answers.pop_front().unwrap();
            let (word, which) = expected.split_once(' ').unwrap();
            match word {
                "subscribed" => {
                    assert_eq!(line, "subscribed");
                    let hearing = hearings.next().unwrap();
                    let which: usize = which.parse().unwrap();
                    assert_eq!(hearing.which, which);
                    open[which] = Some((begun, hearing, 0));
                    begun += 1;
                }
                "unsubscribed" => {
                    assert_eq!(line, "unsubscribed");
                    open[which.parse::<usize>().unwrap()] = None;
                }
                _ => assert_eq!(line, expected),
            }
            for (number, hearing, heard) in open.iter().flatten() {
                if let Some((behind, lines)) = before
                    && behind == *number
                    && !hearing.ended
                {
                    assert!(*heard >= lines, "{heard} of {lines} lines before an answer");
                }
            }
        }
        assert_eq!(answers.len(), 0);
        for (_, hearing, heard) in open.iter().flatten() {
            assert_eq!(*heard, hearing.lines.len(), "all is heard in the end");
        }
    }
}

proptest! {
    #[test]
    fn what_a_program_reads_is_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.end();
    }
}
