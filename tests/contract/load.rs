//! Many programs, and bad ones among them.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::common::daemon::Folder;
use crate::common::transcript::compare;
use crate::common::{Chat, Consumer, DEADLINE, Daemon, QUICK, Upstream, Ws, event, refusal, within};

const SUBSCRIBE: &[u8] = b"{\"id\":1,\"method\":\"subscribe\",\"params\":{\"connection\":\"chat\"}}\n";

/// A program that reads many lines and looks at little of them.
struct Program {
    stream: BufReader<UnixStream>,
    line: String,
}

impl Program {
    async fn attach(daemon: &Daemon) -> Self {
        let stream = within("the daemon", UnixStream::connect(daemon.folder().socket())).await;
        Self { stream: BufReader::new(stream.expect("the daemon takes programs")), line: String::new() }
    }

    async fn write(&mut self, bytes: &[u8]) {
        within("the daemon to read", self.stream.write_all(bytes)).await.expect("the daemon reads");
    }

    async fn line(&mut self) -> &str {
        self.line.clear();
        within("a line", self.stream.read_line(&mut self.line)).await.expect("the daemon writes");
        &self.line
    }

    async fn subscribe(&mut self) {
        self.write(SUBSCRIBE).await;
        let line = self.line().await;
        assert!(line.contains(r#""result":{"subscription":"#), "{line}");
    }

    /// The next lines are the notifications of these numbers, none left out and none doubled.
    async fn hear(&mut self, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            let numbered = format!(r#""params":{{"connection":"chat","seq":{seq},"#);
            let line = self.line().await;
            assert!(line.contains(&numbered), "{numbered} expected, {line} found");
        }
    }
}

/// This process holds the other ends.
fn raise_own_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
}

pub(crate) fn descriptors(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("it runs").count()
}

/// Waits until only `consumer` is attached: what the daemon takes then, in descriptors and bytes.
async fn alone(daemon: &Daemon, consumer: &mut Consumer) -> (usize, u64) {
    let status = |consumers: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"alone","result":{{"daemon":{{"consumers":{consumers},"rss_bytes":…rss,"…":…}},"…":…}}}}"#
        )
    };
    let gone = async {
        loop {
            let answer = consumer.request(r#"{"id":"alone","method":"status"}"#).await;
            if let Ok(found) = compare(&status("1"), &answer) {
                return found.number("rss");
            }
        }
    };
    let rss = within("the others to be gone", gone).await;
    (descriptors(daemon), rss)
}

/// Waits until the daemon, with `consumer` alone, takes no more than `before` again, but for a tenth of the memory: what
/// those took who left together is given back a moment after they have left.
async fn is_back(daemon: &Daemon, consumer: &mut Consumer, before: (usize, u64)) {
    let mut least = u64::MAX;
    let back = async {
        loop {
            let (descriptors, bytes) = alone(daemon, consumer).await;
            assert_eq!(descriptors, before.0, "descriptors");
            least = least.min(bytes);
            if bytes * 10 <= before.1 * 11 {
                return;
            }
        }
    };
    let over = tokio::time::timeout(DEADLINE, back).await;
    assert!(over.is_ok(), "{} bytes of memory became {least}", before.1);
}

async fn say(ws: &mut Ws, count: u64, text: &str) {
    for i in 0..count {
        ws.send(&format!(r#"42["say",{i},"{text}"]"#)).await;
    }
}

#[tokio::test]
async fn a_thousand_programs_at_once_hear_everything_and_leave_nothing_behind() {
    const PROGRAMS: usize = 1000;
    const EVENTS: u64 = 20;
    raise_own_descriptors();
    // At the daemon's own level of the log: at `debug`, as other tests have it, tracing keeps a piece of a span for each
    // program of the greatest crowd so far, and each lies on a page that cannot be given back.
    let upstream = Upstream::start().await;
    let config = format!("{QUICK}\n[connections.chat]\nurl = \"{}\"\n", upstream.url());
    let daemon = Daemon::start_in(Folder::new(&config).variable("SIOD__LOG__LEVEL", "info")).await;
    let mut chat = Chat::with(upstream, daemon).await;
    chat.start().await;
    let mut ws = chat.join().await;
    let text = "x".repeat(200);
    let mut next = 3;
    // What traffic takes at first is not what programs leave behind.
    say(&mut ws, EVENTS, &text).await;
    for _ in 0..EVENTS {
        chat.consumer.next_notification().await;
    }
    next += EVENTS;
    let before = alone(&chat.daemon, &mut chat.consumer).await;
    for _round in 0..3 {
        let mut programs = Vec::new();
        for _ in 0..PROGRAMS {
            programs.push(Program::attach(&chat.daemon).await);
        }
        for program in &mut programs {
            program.subscribe().await;
        }
        say(&mut ws, EVENTS, &text).await;
        for program in &mut programs {
            program.hear(next..next + EVENTS).await;
        }
        for _ in 0..EVENTS {
            chat.consumer.next_notification().await;
        }
        next += EVENTS;
        drop(programs);
        is_back(&chat.daemon, &mut chat.consumer, before).await;
    }
}

#[tokio::test]
async fn ten_thousand_programs_one_after_the_other_leave_nothing_behind() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let before = alone(&chat.daemon, &mut chat.consumer).await;
    for thousand in 0..10 {
        for _ in 0..1000 {
            let mut program = Program::attach(&chat.daemon).await;
            program.subscribe().await;
        }
        ws.send(&format!(r#"42["still",{thousand}]"#)).await;
        chat.consumer.hear(&event(&format!(r#""event":"still","args":[{thousand}]"#))).await;
        is_back(&chat.daemon, &mut chat.consumer, before).await;
    }
}

/// Programs that do what none should, over and over. Each says once when it is at it.
fn misbehave(daemon: &Daemon, at_it: &UnboundedSender<&'static str>) -> JoinSet<()> {
    let socket = daemon.folder().socket();
    let mut tasks = JoinSet::new();
    let mut start = |what: &'static str, once: fn(UnixStream) -> BoxFuture<'static, ()>| {
        let (socket, at_it) = (socket.clone(), at_it.clone());
        tasks.spawn(async move {
            loop {
                match UnixStream::connect(&socket).await {
                    Ok(stream) => once(stream).await,
                    // The queue before the daemon's door is full of their like.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Err(error) => panic!("the daemon takes programs: {error}"),
                }
                // Nobody listens any more after the first of each.
                let _over = at_it.send(what);
            }
        });
    };
    start("garbage", |mut stream| {
        async move {
            let garbage: Vec<u8> =
                (0..20_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
            stream.write_all(&garbage).await.expect("the daemon reads on");
            stream.shutdown().await.expect("it is there");
            // Without waiting for the end, the queue before the daemon's door would be full of these alone.
            let mut answers = String::new();
            stream.read_to_string(&mut answers).await.expect("the daemon answers");
            assert!(answers.lines().all(|line| line.contains("error")), "{answers}");
        }
        .boxed()
    });
    start("an endless line", |mut stream| {
        async move {
            let piece = vec![b'x'; 64 * 1024];
            for _ in 0..100 {
                stream.write_all(&piece).await.expect("the daemon reads on");
            }
            stream.write_all(b"\n{\"id\":1,\"method\":\"list\"}\n").await.expect("the daemon reads on");
            let mut lines = BufReader::new(stream).lines();
            for part in ["too_large", "result"] {
                let line = lines.next_line().await.expect("the daemon answers").expect("it stays");
                assert!(line.contains(part), "{part} expected, {line} found");
            }
        }
        .boxed()
    });
    start("half a request", |mut stream| {
        async move {
            stream.write_all(b"{\"id\":1,\"method\":\"li").await.expect("the daemon reads");
            stream.shutdown().await.expect("it is there");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("the daemon answers");
            assert!(answer.contains("parse_error"), "{answer}");
        }
        .boxed()
    });
    start("requests of one that does not read", |mut stream| {
        async move {
            let requests = b"{\"id\":1,\"method\":\"status\"}\n".repeat(1000);
            let fill = async { while stream.write_all(&requests).await.is_ok() {} };
            let over = tokio::time::timeout(Duration::from_millis(500), fill).await;
            assert!(over.is_err(), "the daemon takes requests without end");
        }
        .boxed()
    });
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_programs_leave_the_streams_of_all_others_whole() {
    const PROGRAMS: usize = 99;
    const EVENTS: u64 = 1000;
    let (mut chat, mut ws) = Chat::joined("history = { events = 256 }\n[api]\nstall = \"2s\"\n").await;
    let mut programs = JoinSet::new();
    for _ in 0..PROGRAMS {
        let mut program = Program::attach(&chat.daemon).await;
        program.subscribe().await;
        programs.spawn(async move { program.hear(3..3 + EVENTS).await });
    }
    // This one stops in the middle of a line, and holds the others up until it counts as stalled.
    let mut stopped = Program::attach(&chat.daemon).await;
    stopped.write(SUBSCRIBE).await;
    within("an answer", stopped.stream.read_exact(&mut [0; 300])).await.expect("the daemon answers");
    let (at_it, mut heard) = unbounded_channel();
    let bad = misbehave(&chat.daemon, &at_it);
    let mut kinds = HashSet::new();
    let text = "x".repeat(1000);
    let flood = async {
        for i in 0..EVENTS {
            ws.send(&format!(r#"42["say",{i},"{text}"]"#)).await;
            // In the midst of it all of them are at it.
            while i == EVENTS / 2 && kinds.len() < 4 {
                kinds.insert(heard.recv().await.expect("they go on"));
            }
        }
    };
    let read = async {
        for _ in 0..EVENTS {
            chat.consumer.next_notification().await;
        }
    };
    tokio::join!(flood, read);
    while let Some(program) = programs.join_next().await {
        program.expect("it hears everything");
    }
    drop((bad, stopped));
    alone(&chat.daemon, &mut chat.consumer).await;
}

/// Lets the daemon have so many descriptors at the most; those that it has stay.
pub(crate) fn limit_descriptors(daemon: &Daemon, current: u64) {
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw).expect("a process id");
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(current), maximum })
        .expect("it is our child");
}

#[tokio::test]
async fn without_descriptors_nobody_is_harmed_and_who_came_meanwhile_is_served_later() {
    const LIST: &[u8] = b"{\"id\":1,\"method\":\"list\"}\n";
    // The daemon has to ask the system for the groups of each, which takes a descriptor as well.
    let (mut chat, mut ws) = Chat::joined("[[access]]\ngid = 4242\nrole = \"read\"\n").await;
    let before = descriptors(&chat.daemon);
    limit_descriptors(&chat.daemon, before as u64 + 40);
    let mut programs = Vec::new();
    for _ in 0..60 {
        let mut program = Program::attach(&chat.daemon).await;
        program.write(LIST).await;
        programs.push(program);
    }
    within("the daemon to run out of them", chat.daemon.logged("no consumer can be accepted for now")).await;
    for i in 0..10 {
        ws.send(&format!(r#"42["tick",{i}]"#)).await;
        chat.consumer.hear(&event(&format!(r#""event":"tick","args":[{i}]"#))).await;
        chat.consumer.send(r#"{"method":"emit","params":{"connection":"chat","event":"tock"}}"#).await;
        ws.expect(r#"42["tock"]"#).await;
    }
    for program in &mut programs[..10] {
        assert!(program.line().await.contains("result"));
        program.write(LIST).await;
    }
    // Who left makes room for who waits, one after the other.
    for mut program in programs {
        let line = program.line().await;
        assert!(line.contains("result"), "{line}");
    }
    limit_descriptors(&chat.daemon, 1024);
    let (after, _) = alone(&chat.daemon, &mut chat.consumer).await;
    assert_eq!(after, before);
}

#[tokio::test]
async fn without_descriptors_those_who_have_stopped_writing_go_on_hearing() {
    const PROGRAMS: usize = 24;
    let (mut chat, mut ws) = Chat::joined("").await;
    let before = descriptors(&chat.daemon);
    let mut programs = Vec::new();
    for _ in 0..PROGRAMS {
        let mut program = Program::attach(&chat.daemon).await;
        program.subscribe().await;
        programs.push(program);
    }
    // There is one for half of them by which the daemon would notice that they are gone.
    limit_descriptors(&chat.daemon, (before + PROGRAMS + PROGRAMS / 2) as u64);
    for program in &mut programs {
        program.write(b"{\"id\":2,\"method\":\"list\"}\n").await;
        program.stream.get_mut().shutdown().await.expect("it is there");
    }
    for program in &mut programs {
        assert!(program.line().await.contains("result"));
    }
    for i in 0..10 {
        ws.send(&format!(r#"42["tick",{i}]"#)).await;
        chat.consumer.hear(&event(&format!(r#""event":"tick","args":[{i}]"#))).await;
        for program in &mut programs {
            let line = program.line().await;
            assert!(line.contains(&format!(r#""args":[{i}]"#)), "{line:?}");
        }
    }
    drop(programs);
    limit_descriptors(&chat.daemon, 1024);
    let (after, _) = alone(&chat.daemon, &mut chat.consumer).await;
    assert_eq!(after, before);
}

#[tokio::test]
async fn one_program_too_many_is_turned_away_and_harms_nobody() {
    let (mut chat, mut ws) = Chat::joined("[api]\nmax_consumers = 10\n").await;
    let mut programs = Vec::new();
    for _ in 0..9 {
        let mut program = Program::attach(&chat.daemon).await;
        program.subscribe().await;
        programs.push(program);
    }
    for round in 0..50 {
        let mut one_more = Program::attach(&chat.daemon).await;
        let goodbye = r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"too_many_consumers"}}"#;
        assert_eq!(one_more.line().await.trim_end(), goodbye);
        assert_eq!(one_more.line().await, "", "the end");
        ws.send(r#"42["tick"]"#).await;
        for program in &mut programs {
            program.hear([3 + round]).await;
        }
        chat.consumer.next_notification().await;
    }
    // Each who leaves makes room for one.
    drop(programs);
    alone(&chat.daemon, &mut chat.consumer).await;
    Program::attach(&chat.daemon).await.subscribe().await;
}

#[tokio::test]
async fn a_subscription_or_a_connection_too_many_is_refused_and_harms_nothing() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut greedy = chat.daemon.attach().await;
    let narrow = |id| {
        format!(
            r#"{{"id":{id},"method":"subscribe","params":{{"connection":"chat","events":["e{id}"],"lifecycle":false}}}}"#
        )
    };
    for id in 1..=1024 {
        let subscribed = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"subscription":{id},"…":…}}}}"#);
        greedy.call(&narrow(id), &subscribed).await;
    }
    greedy.call(&narrow(1025), &refusal("1025", -32602, "invalid_params")).await;
    ws.send(r#"42["e1024"]"#).await;
    greedy.expect(&event(r#""event":"e1024","args":[]"#)).await;
    let end = r#"{"id":1,"method":"unsubscribe","params":{"subscription":7}}"#;
    greedy.call(end, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
    greedy.call(&narrow(1026), r#"{"jsonrpc":"2.0","id":1026,"result":{"…":…}}"#).await;

    let open = |id: u32| {
        format!(r#"{{"id":{id},"method":"open","params":{{"name":"mine-{id}","url":"http://localhost:1"}}}}"#)
    };
    for id in 1..=1024 {
        greedy.send(&open(id)).await;
    }
    for id in 1..=1024 {
        let opened = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"created":true,"…":…}}}}"#);
        greedy.expect_answer(&opened).await;
    }
    let full = r#"{"jsonrpc":"2.0","id":1025,"error":{"code":-32002,"message":"consumers have opened 1024 connections, which is the most; close one first","data":{"kind":"buffer_full"}}}"#;
    greedy.call(&open(1025), full).await;
    chat.consumer.call(&open(1025), full).await;
    // One that is there can be attached to, and one that is closed makes room.
    let attached = r#"{"jsonrpc":"2.0","id":1,"result":{"created":false,"…":…}}"#;
    chat.consumer.call(&open(1), attached).await;
    let close = r#"{"id":1,"method":"close","params":{"connection":"mine-2"}}"#;
    chat.consumer.call(close, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
    chat.consumer.call(&open(1025), r#"{"jsonrpc":"2.0","id":1025,"result":{"created":true,"…":…}}"#).await;
    ws.send(r#"42["still"]"#).await;
    chat.consumer.hear(&event(r#""event":"e1024","args":[]"#)).await;
    chat.consumer.hear(&event(r#""event":"still","args":[]"#)).await;
}
