//! Consumers that do not read.

use std::cell::Cell;
use std::collections::BTreeSet;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::common::transcript::compare;
use crate::common::{Chat, Consumer, Ws, event, refusal, within};

/// A ring of 16 lines, and little patience with those who do not take from it; enough for a busy machine, which may let
/// a healthy program wait for more than a second.
const SHORT: &str = "history = { events = 16 }\n[api]\nstall = \"2s\"\n";

/// Each event is large, so that few of them fill what the kernel holds for a socket that is not read.
const EVENTS: usize = 400;
const SIZE: usize = 8 * 1024;

/// Sends [`EVENTS`] events while the first consumer reads them all. Here as elsewhere each step has a deadline, and not
/// all of them together, which are many.
async fn flood(ws: &mut Ws, healthy: &mut Consumer) {
    flood_counted(ws, healthy, &Cell::new(0)).await;
}

/// The same; how many it has read is in `heard`.
async fn flood_counted(ws: &mut Ws, healthy: &mut Consumer, heard: &Cell<usize>) {
    let text = "x".repeat(SIZE);
    let literal = event(&format!(r#""event":"big","args":[…,"{text}"]"#));
    let send = async {
        for i in 0..EVENTS {
            ws.send(&format!(r#"42["big",{i},"{text}"]"#)).await;
        }
    };
    let read = async {
        for _ in 0..EVENTS {
            healthy.hear(&literal).await;
            heard.set(heard.get() + 1);
        }
    };
    tokio::join!(send, read);
}

async fn stalled(chat: &Chat, lag: &str) -> Consumer {
    let mut consumer = chat.daemon.attach().await;
    consumer
        .call(
            &format!(r#"{{"id":1,"method":"hello","params":{{"lag":"{lag}"}}}}"#),
            r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#,
        )
        .await;
    consumer
        .call(
            r#"{"id":2,"method":"subscribe","params":{"connection":"chat"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"…":…}}"#,
        )
        .await;
    consumer
}

#[tokio::test]
async fn a_stalled_consumer_holds_nobody_up_and_is_told_exactly_what_it_missed() {
    let (mut chat, mut ws) = Chat::joined(SHORT).await;
    let mut lagging = stalled(&chat, "skip").await;
    flood(&mut ws, &mut chat.consumer).await;

    let last = 2 + EVENTS as u64;
    let (mut next, mut lagged) = (3, 0);
    while next <= last {
        let line = lagging.next_notification().await;
        if let Ok(notice) = compare(
            r#"{"jsonrpc":"2.0","method":"lagged","params":{"connection":"chat","missed":…missed,"next_seq":…next}}"#,
            &line,
        ) {
            assert_eq!(notice.number("next"), next + notice.number("missed"));
            assert!(notice.number("missed") > 0);
            next = notice.number("next");
            lagged += 1;
        } else {
            let seq =
                compare(&event(r#""…":…"#).replace(r#""seq":…"#, r#""seq":…seq"#), &line).expect("an event");
            assert_eq!(seq.number("seq"), next);
            next += 1;
        }
    }
    assert!(lagged > 0, "{EVENTS} events of {SIZE} bytes went by a consumer that did not read");
    // It has caught up and goes on as everybody else.
    ws.send(r#"42["end"]"#).await;
    lagging.expect(&event(r#""event":"end","args":[]"#)).await;
}

#[tokio::test]
async fn a_stalled_consumer_that_would_rather_leave_is_let_go() {
    let (mut chat, mut ws) = Chat::joined(SHORT).await;
    let mut lagging = stalled(&chat, "disconnect").await;
    let mut watcher = chat.daemon.attach().await;
    let heard = Cell::new(0);
    // The rest waits for it only for some seconds: until it has held the others up, and they go on without it.
    let let_go = async {
        let (mut seen, mut rounds) = (0, 0);
        while rounds < 50 && heard.get() < EVENTS {
            watcher.expect_silence().await;
            rounds = if heard.get() == seen && seen > 0 { rounds + 1 } else { 0 };
            seen = heard.get();
        }
        while heard.get() == seen && seen < EVENTS {
            watcher.expect_silence().await;
        }
        farewell(&mut lagging).await
    };
    let ((), next) = tokio::join!(flood_counted(&mut ws, &mut chat.consumer, &heard), let_go);
    assert!(next <= 2 + EVENTS as u64, "it was let go before the end");
}

/// Reads events without a hole, a goodbye and the end; gives the number of the event that would have been next.
async fn farewell(lagging: &mut Consumer) -> u64 {
    let mut next = 3;
    loop {
        let line = lagging.next_line().await.expect("a goodbye comes before the end");
        let Ok(seq) = compare(&event(r#""…":…"#).replace(r#""seq":…"#, r#""seq":…seq"#), &line)
        else {
            compare(r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"lagged"}}"#, &line)
                .expect("nothing else comes");
            break;
        };
        assert_eq!(seq.number("seq"), next, "lines before the goodbye leave nothing out");
        next += 1;
    }
    lagging.expect_end().await;
    next
}

#[tokio::test]
async fn one_that_is_overrun_in_the_middle_of_a_replay_is_told_once_of_every_line() {
    let (mut chat, mut ws) = Chat::joined("history = { events = 200 }\n[api]\nstall = \"2s\"\n").await;
    let text = "x".repeat(SIZE);
    for i in 0..200 {
        ws.send(&format!(r#"42["big",{i},"{text}"]"#)).await;
        chat.consumer.next_notification().await;
    }
    let mut lagging = chat.daemon.attach().await;
    lagging
        .call(
            r#"{"id":1,"method":"subscribe","params":{"connection":"chat","last":200}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"replayed":200,"…":…}}"#,
        )
        .await;
    flood(&mut ws, &mut chat.consumer).await;
    let (mut seen, mut missed, mut last) = (0, 0, 0);
    while last < 2 + 200 + EVENTS as u64 {
        let line = lagging.next_notification().await;
        if let Ok(notice) = compare(
            r#"{"jsonrpc":"2.0","method":"lagged","params":{"connection":"chat","missed":…missed,"next_seq":…}}"#,
            &line,
        ) {
            missed += notice.number("missed");
        } else {
            let seq =
                compare(&event(r#""…":…"#).replace(r#""seq":…"#, r#""seq":…seq"#), &line).expect("an event");
            last = seq.number("seq");
            seen += 1;
        }
    }
    assert!(missed > 0, "it was overrun");
    assert_eq!(seen + missed, 200 + EVENTS as u64);
    chat.consumer
        .call(
            r#"{"id":2,"method":"status"}"#,
            &format!(r#"{{"jsonrpc":"2.0","id":2,"result":{{"daemon":…,"connections":[…],"consumers":[{{"missed":0,"…":…}},{{"missed":{missed},"…":…}}]}}}}"#),
        )
        .await;
}

#[tokio::test]
async fn a_consumer_that_does_not_read_its_answers_is_not_read_from() {
    let (mut chat, mut ws) = Chat::joined("").await;
    let mut greedy = chat.daemon.attach().await;
    let requests = "{\"id\":1,\"method\":\"list\"}\n".repeat(100);
    let written = Cell::new(0);
    let filling = async {
        while written.get() < 64 << 20 {
            greedy.send_bytes(requests.as_bytes()).await;
            written.set(written.get() + requests.len());
        }
        panic!("the daemon took {} bytes of requests from a consumer that read no answer", written.get());
    };
    // Others are served meanwhile, and go on until a hundred rounds have brought the greedy one no further.
    let others = async {
        let (mut seen, mut rounds) = (0, 0);
        while rounds < 100 {
            ws.send(r#"42["tick"]"#).await;
            chat.consumer.hear(&event(r#""event":"tick","args":[]"#)).await;
            chat.consumer.expect_silence().await;
            rounds = if written.get() == seen { rounds + 1 } else { 0 };
            seen = written.get();
        }
    };
    tokio::select! {
        () = filling => {}
        () = others => {}
    }
    assert!(written.get() > 0);
}

#[tokio::test]
async fn one_more_than_max_consumers_is_told_so() {
    let chat = Chat::idle("[api]\nmax_consumers = 2\n").await;
    let mut second = chat.daemon.attach().await;
    second.call(r#"{"id":1,"method":"nonsense"}"#, &refusal("1", -32601, "unknown_method")).await;
    let mut third = chat.daemon.attach().await;
    third.expect(r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"too_many_consumers"}}"#).await;
    third.expect_end().await;
    second.expect_silence().await;
}

/// Sends events of [`SIZE`] bytes until `end`, with their number as first argument; how many were sent is in `sent`.
async fn pour(ws: &mut Ws, sent: &Cell<u64>, end: u64) {
    let text = "x".repeat(SIZE);
    while sent.get() < end {
        ws.send(&format!(r#"42["big",{},"{text}"]"#, sent.get())).await;
        sent.set(sent.get() + 1);
    }
}

#[tokio::test]
async fn while_a_healthy_consumer_holds_a_full_ring_nothing_is_read_from_the_server() {
    const MANY: u64 = 100_000;
    // Nobody counts as stalled here, however long it takes.
    let options = "history = { events = 16 }\n[api]\nstall = \"1h\"\n\
                   [connections.other]\nurl = \"http://localhost:1\"\n";
    let (mut chat, mut ws) = Chat::joined(options).await;
    let mut others = chat.daemon.attach().await;
    let sent = Cell::new(0);
    let pouring = async {
        pour(&mut ws, &sent, MANY).await;
        panic!("the daemon took {MANY} events that nobody has read");
    };
    // Others are served meanwhile, and go on until a hundred rounds have brought the server no further.
    let meanwhile = async {
        let (mut seen, mut rounds) = (0, 0);
        while rounds < 100 {
            others.expect_silence().await;
            rounds = if sent.get() == seen { rounds + 1 } else { 0 };
            seen = sent.get();
        }
    };
    tokio::select! {
        () = pouring => {}
        () = meanwhile => {}
    }
    let paused = sent.get();
    assert!(paused > 16, "it fills the ring and what lies between: {paused}");
    // It takes all, none is lost, and the server goes on.
    let end = paused + 1000;
    let read = async {
        // The one that was being sent when it was given up counts too, if it went out after all.
        let mut last = None;
        while last.is_none_or(|last| last + 1 < end) {
            let line = chat.consumer.next_notification().await;
            let found = compare(
                &event(r#""event":"big","args":…args"#).replace(r#""seq":…"#, r#""seq":…seq"#),
                &line,
            )
            .expect("an event");
            let number: u64 =
                found["args"][1..].split(',').next().and_then(|n| n.parse().ok()).expect("a number");
            let again = last == Some(number) && number == paused;
            assert!(again || number == last.map_or(0, |last| last + 1), "{number} after {last:?}");
            last = Some(number);
        }
    };
    tokio::join!(pour(&mut ws, &sent, end), read);
}

#[tokio::test]
async fn a_replay_under_full_load_leaves_nothing_out_and_doubles_nothing() {
    const ROUNDS: u64 = 12;
    let (mut chat, mut ws) = Chat::joined("history = { events = 200 }").await;
    let hello = r#"{"jsonrpc":"2.0","id":1,"result":{"stream":…stream,"…":…}}"#;
    let stream = chat.consumer.call(r#"{"id":1,"method":"hello"}"#, hello).await["stream"].to_owned();
    // Events so far, who comes late and has heard enough, and how many events there are once all have.
    let (sent, content, all) = (Cell::new(0_u64), Cell::new(0), Cell::new(None));
    let seq_of = |line: &str| {
        let literal = r#"{"jsonrpc":"2.0","method":"…","params":{"connection":"chat","seq":…seq,"…":…}}"#;
        compare(literal, line).expect("a notification with a number").number("seq")
    };
    let flood = async {
        while all.get().is_none() {
            if content.get() == 3 {
                all.set(Some(sent.get() + 1));
            }
            ws.send(&format!(r#"42["n",{}]"#, sent.get())).await;
            sent.set(sent.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    let first = async {
        let mut heard = 0;
        while all.get() != Some(heard) {
            heard += 1;
            assert_eq!(seq_of(&chat.consumer.next_notification().await), 2 + heard);
        }
    };
    let late = async |kind: usize| {
        for round in 0..ROUNDS {
            let mut consumer = Consumer::attach(&chat.daemon.folder().socket()).await;
            let asked = sent.get().saturating_sub(round * 40 % 400);
            let params = match kind {
                0 => r#""last":50"#.to_owned(),
                1 => format!(r#""after":{{"stream":{stream},"seq":{asked}}}"#),
                _ => format!(r#""after":{{"stream":{stream},"seq":{asked}}},"last":20"#),
            };
            let answer = consumer
                .call(
                    &format!(r#"{{"id":1,"method":"subscribe","params":{{"connection":"chat",{params}}}}}"#),
                    r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"seq":…head,"oldest_seq":…oldest,"…":…}],"replayed":…replayed,"missed":…missed,"…":…}}"#,
                )
                .await;
            let (head, oldest) = (answer.number("head"), answer.number("oldest"));
            let retained = head + 1 - oldest;
            let from = match kind {
                0 => head + 1 - retained.min(50),
                1 => (asked + 1).max(oldest).min(head + 1),
                _ => (asked + 1).max(oldest).max(head + 1 - retained.min(20)).min(head + 1),
            };
            let missed = if kind == 0 { 0 } else { oldest.saturating_sub(asked + 1) };
            let told = (answer.number("replayed"), answer.number("missed"));
            assert_eq!(told, (head + 1 - from, missed), "after {asked} of {oldest} to {head}");
            for seq in from..head + 30 {
                assert_eq!(
                    seq_of(&consumer.next_notification().await),
                    seq,
                    "from {from}, live after {head}"
                );
            }
        }
        content.set(content.get() + 1);
    };
    tokio::join!(flood, first, late(0), late(1), late(2));
}

/// Questions to the server, each with an answer of 1 MiB: more than may wait, in siod and in its sockets.
const QUESTIONS: usize = 64;

/// Answers that siod has to have taken before it lets the server wait.
const LATE: usize = 16;

/// A program that asks, and reads with no more than a look at each line, for they are long.
struct Asking {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Asking {
    async fn start(chat: &Chat, ws: &mut Ws, lag: &str) -> Self {
        let socket = chat.daemon.folder().socket();
        let stream = UnixStream::connect(socket).await.expect("the daemon accepts programs");
        let (reader, writer) = stream.into_split();
        let mut program = Self { reader: BufReader::new(reader), writer };
        program.write(&format!(r#"{{"method":"hello","params":{{"lag":"{lag}"}}}}"#)).await;
        for id in 0..QUESTIONS {
            program.ask(ws, id).await;
        }
        program
    }

    async fn write(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\n").as_bytes()).await.expect("the daemon reads it");
    }

    async fn ask(&mut self, ws: &mut Ws, id: usize) {
        let params = r#"{"connection":"chat","event":"q","ack":true}"#;
        self.write(&format!(r#"{{"id":{id},"method":"emit","params":{params}}}"#)).await;
        ws.expect(&format!(r#"42{id}["q"]"#)).await;
    }

    /// The next line; empty at the end.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        within("a line", self.reader.read_line(&mut line)).await.expect("UTF-8");
        line
    }

    /// The ids of the answers until all are here, and of those that are lost.
    async fn answers(&mut self) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let (mut read, mut lost) = (BTreeSet::new(), BTreeSet::new());
        while read.len() + lost.len() < QUESTIONS {
            let line = self.line().await;
            let (id, rest) = line
                .strip_prefix(r#"{"jsonrpc":"2.0","id":"#)
                .and_then(|rest| rest.split_once(','))
                .unwrap_or_else(|| panic!("no answer: {line:.100}"));
            let is_read = rest.starts_with(r#""result":{"args":["xxx"#);
            if !is_read {
                compare(&refusal(id, -32012, "answer_lost"), &line).expect("an answer or its loss");
            }
            let of = if is_read { &mut read } else { &mut lost };
            assert!(of.insert(id.parse().expect("a number")), "{id} twice");
        }
        (read, lost)
    }
}

/// The server answers all questions, and counts them.
async fn answer(ws: &mut Ws, answered: &Cell<usize>) {
    let text = "x".repeat(1 << 20);
    for id in 0..QUESTIONS {
        ws.send(&format!(r#"43{id}["{text}"]"#)).await;
        answered.set(id + 1);
    }
    ws.send(r#"42["end"]"#).await;
}

#[tokio::test]
async fn answers_that_a_slow_program_has_yet_to_read_hold_the_server_up() {
    let (mut chat, mut ws) = Chat::joined("[api]\nstall = \"1h\"\n").await;
    let mut slow = Asking::start(&chat, &mut ws, "disconnect").await;
    let answered = Cell::new(0);
    // It begins to read when the server has come no further for a hundred rounds.
    let reading = async {
        let (mut seen, mut rounds) = (0, 0);
        while rounds < 100 {
            let list = r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"…":…}]}}"#;
            chat.consumer.call(r#"{"id":1,"method":"list"}"#, list).await;
            rounds = if answered.get() == seen && seen >= LATE { rounds + 1 } else { 0 };
            seen = answered.get();
        }
        assert!(seen < QUESTIONS, "the server was not held up");
        slow.answers().await
    };
    let ((), (read, lost)) = tokio::join!(answer(&mut ws, &answered), reading);
    assert_eq!((read.len(), lost.len()), (QUESTIONS, 0));
    chat.consumer.hear(&event(r#""event":"end","args":[]"#)).await;
}

#[tokio::test]
async fn what_a_stalled_program_does_not_take_is_lost_on_it_alone() {
    let (mut chat, mut ws) = Chat::joined(SHORT).await;
    let mut stalled = Asking::start(&chat, &mut ws, "skip").await;
    answer(&mut ws, &Cell::new(0)).await;
    chat.consumer.hear(&event(r#""event":"end","args":[]"#)).await;
    let (read, lost) = stalled.answers().await;
    // What waited is whole, and what was lost came after it.
    assert!(read.len() >= LATE && !lost.is_empty(), "{read:?} {lost:?}");
    assert!(read.last() < lost.first(), "{read:?} {lost:?}");
    // It has caught up and is answered as everybody else.
    stalled.ask(&mut ws, QUESTIONS).await;
    ws.send(&format!(r#"43{QUESTIONS}["here"]"#)).await;
    let here = format!(r#"{{"jsonrpc":"2.0","id":{QUESTIONS},"result":{{"args":["here"]}}}}"#);
    assert_eq!(stalled.line().await, here + "\n");
}

#[tokio::test]
async fn a_stalled_program_that_would_rather_leave_gets_no_more_answers() {
    let (mut chat, mut ws) = Chat::joined(SHORT).await;
    let mut stalled = Asking::start(&chat, &mut ws, "disconnect").await;
    let answered = Cell::new(0);
    // The server could not have answered so many before siod went on without this program.
    let leaving = async {
        while answered.get() < QUESTIONS - 8 {
            chat.consumer.request(r#"{"id":1,"method":"list"}"#).await;
        }
        let mut lines = 0;
        loop {
            let line = stalled.line().await;
            if line.starts_with(r#"{"jsonrpc":"2.0","method":"goodbye""#) {
                compare(r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"lagged"}}"#, &line)
                    .expect("the reason");
                break;
            }
            assert!(line.starts_with(r#"{"jsonrpc":"2.0","id":"#), "{line:.100}");
            lines += 1;
        }
        assert!(lines < QUESTIONS);
        assert_eq!(stalled.line().await, "");
    };
    tokio::join!(answer(&mut ws, &answered), leaving);
    chat.consumer.hear(&event(r#""event":"end","args":[]"#)).await;
}
