//! The programs of `examples/`, one a language: each does all that `examples/README.md` says, against the real daemon
//! over two restarts, and against a siod that is scripted here, which cuts lines, knows more than they do, and refuses.

mod common;
mod examples {
    pub(crate) mod program;
    pub(crate) mod scripted;
}

use common::daemon::Folder;
use common::tap::Tap;
use common::{Consumer, Daemon, QUICK, Upstream, Ws};
use examples::program::{Built, Language, Program};
use examples::scripted::Siod;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A test for each language: its file, what has to be there (for a shell to try), and how it is built and run. Both are
/// lines for a shell in `examples/`, with an empty folder `$OUT`.
macro_rules! languages {
    ($($name:ident: $file:literal, $needs:literal, $build:literal, $run:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let language = Language { file: $file, needs: $needs, build: $build, run: $run };
                attends(language).await;
            }
        )*
    };
}

languages! {
    python: "attach.py", "command -v python3", "", "exec python3 attach.py";
    node: "attach.mjs", "command -v node", "", "exec node attach.mjs";
    go: "attach.go", "command -v go", "GOCACHE=$OUT/cache GO111MODULE=off go build -o $OUT/attach attach.go", "exec $OUT/attach";
    ruby: "attach.rb", "command -v ruby", "", "exec ruby attach.rb";
    php: "attach.php", "command -v php", "", "exec php attach.php";
    perl: "attach.pl", "command -v perl && perl -MJSON::PP -e 1", "", "exec perl attach.pl";
    java: "Attach.java", "command -v javac", "javac -d $OUT Attach.java", "exec java -cp $OUT Attach";
    c: "attach.c", "command -v cc", "cc -Wall -Wextra -Werror -o $OUT/attach attach.c", "exec $OUT/attach";
    bash_with_socat: "attach.sh", "command -v bash && command -v socat", "", "exec bash attach.sh";
    bash_with_netcat: "attach.sh", "command -v bash && nc -h 2>&1 | grep -e -U",
        "for tool in bash cat nc sleep; do ln -s $(command -v $tool) $OUT/$tool; done", "PATH=$OUT exec bash attach.sh";
}

async fn attends(language: Language) {
    let text = std::fs::read_to_string(language.path()).expect("the program is there");
    assert!(text.lines().count() < 80, "{} is too long for an example", language.file);
    assert!(
        include_str!("../examples/README.md").contains(&format!("]({})", language.file)),
        "{}",
        language.file
    );
    let Some(built) = language.build().await else { return };
    without_siod(&built).await;
    with_a_scripted_siod(&built).await;
    with_the_daemon(&built).await;
}

/// Whoever has forgotten to start it is told where it was looked for and what to do.
async fn without_siod(built: &Built) {
    let folder = tempfile::tempdir().expect("a folder");
    let stale = folder.path().join("stale.sock");
    common::stale_socket(&stale);
    for socket in [folder.path().join("none.sock"), stale] {
        let said = built.start(&socket, "chat").fails().await;
        for words in [socket.to_str().expect("UTF-8"), "siod run", "SIOD_SOCKET"] {
            assert!(said.contains(words), "{words} in {said}");
        }
    }
}

/// What no daemon does twice alike: a line that is cut off, members and messages of a newer one, a refusal.
async fn with_a_scripted_siod(built: &Built) {
    let mut siod = Siod::bind();
    let mut program = built.start(&siod.path(), "chat");

    siod.attached(r#"{"stream":"","seq":0}"#).await;
    siod.writes(&subscribed("s1")).await;
    siod.reads(r#"{"id":2,"method":"emit","params":{"connection":"chat","event":"add","args":[2,3],"ack":true,"…":…}}"#)
        .await;
    siod.writes(r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32003,"message":"no answer came","data":{"kind":"ack_timeout"}}}"#)
        .await;
    siod.writes(&lifecycle(1, r#""event":"opened","by":"config""#)).await;
    siod.writes(
        r#"{"jsonrpc":"2.0","method":"news","params":{"connection":"chat","seq":7,"event":"new","args":[]}}"#,
    )
    .await;
    siod.writes(r#"{"jsonrpc":"2.0","id":77,"result":{"args":["new"]}}"#).await;
    siod.writes(&event(2, r#""event":"file","args":[{"$binary":"AAEC"}],"binary":true,"ack":7"#)).await;
    siod.reads(r#"{"method":"ack","params":{"connection":"chat","ack":7,"args":["yes"]},"…":…}"#).await;
    siod.writes(&event(3, r#""event":"newer","args":[{"ack":1}],"ack":8,"colour":"red""#)).await;
    siod.reads(r#"{"method":"ack","params":{"connection":"chat","ack":8,"args":["yes"]},"…":…}"#).await;
    // So far it is the text of a whole line, but for its newline.
    siod.ends_within(&event(4, r#""event":"cut","args":["]}}"#)).await;
    for line in ["1 opened", r#"2 file [{"$binary":"AAEC"}]"#, r#"3 newer [{"ack":1}]"#] {
        program.prints(line).await;
    }

    siod.attached(r#"{"stream":"s1","seq":3}"#).await;
    siod.writes(&subscribed("s1")).await;
    siod.writes(&event(4, r#""event":"cut","args":["]}}, whole"]"#)).await;
    siod.writes(
        r#"{"jsonrpc":"2.0","method":"lagged","params":{"connection":"chat","missed":3,"next_seq":8}}"#,
    )
    .await;
    siod.writes(&event(8, r#""event":"later","args":[]"#)).await;
    siod.writes(r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"shutdown"}}"#).await;
    siod.ends_within("").await;
    program.prints(r#"4 cut ["]}}, whole"]"#).await;
    program.prints("8 later []").await;

    // A new run begins anew, also for a program that loses it before it has heard anything of it.
    siod.attached(r#"{"stream":"s1","seq":8}"#).await;
    siod.writes(&subscribed("s2")).await;
    siod.ends_within(r#"{"jsonrpc":"2.0","met"#).await;
    siod.attached(r#"{"stream":"s2","seq":0}"#).await;
    siod.writes(&subscribed("s2")).await;
    siod.writes(&event(1, r#""event":"anew","args":[1]"#)).await;
    siod.ends_within("").await;
    program.prints("1 anew [1]").await;

    // A daemon that is about to end may refuse; the next one does not. Meanwhile there is none at all.
    siod.attached(r#"{"stream":"s2","seq":1}"#).await;
    siod.writes(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32010,"message":"siod ends","data":{"kind":"shutting_down"}}}"#)
        .await;
    let mut siod = siod.moves_away();
    siod.attached(r#"{"stream":"s2","seq":1}"#).await;
    siod.writes(&subscribed("s2")).await;
    siod.writes(&event(2, r#""event":"back","args":["ä"]"#)).await;
    program.prints(r#"2 back ["ä"]"#).await;

    let said = program.killed().await;
    for words in ["no answer came", "missed 3 before 8", "siod says goodbye: shutdown", "siod ends"] {
        assert!(said.contains(words), "{words} in {said}");
    }
}

/// Two restarts with events before, between and after them; in the end the program is where the server is.
async fn with_the_daemon(built: &Built) {
    let mut upstream = Upstream::start().await;
    let url = upstream.url();
    // One that ends in order goes on in the same stream, one that is killed does not.
    let folder = Folder::new(&format!(
        "[state]\ndir = \"${{STATE_DIRECTORY}}\"\n{QUICK}[connections.chat]\nurl = \"{url}\"\nauto_connect = true\n"
    ));
    let dir = folder.path().join("state");
    let daemon = Daemon::start_in(folder.variable("STATE_DIRECTORY", dir.to_str().expect("UTF-8"))).await;
    // Between the two, over all restarts; it holds every line against the schema.
    let tap = Tap::on(&daemon.folder().socket());
    let said = built.start(&tap.socket(), "nobody").fails().await;
    assert!(said.contains("there is no connection"), "{said}");

    let mut stage =
        Stage { ws: upstream.joined().await, watcher: Watcher::attach(&daemon, None).await, daemon };
    let mut program = built.start(&tap.socket(), "chat");
    stage.ws.expect(r#"420["add",2,3]"#).await;
    // `opened` and `connect` may have come before it did.
    stage.both_hear(2, &mut program).await;
    for packet in [
        r#"42["message","hi",{"n":1}]"#,
        r#"42["nothing"]"#,
        r#"42["Grüße",{},[],"\"],\"ack\":9}}","\\"]"#,
        // Members in alphabetical order, since some languages know no other.
        r#"42["seq",{"ack":98,"seq":99},{"args":[],"event":"none"}]"#,
        r#"427["question","ready?"]"#,
    ] {
        stage.ws.send(packet).await;
        stage.both_hear(1, &mut program).await;
    }
    stage.ws.expect(r#"437["yes"]"#).await;
    stage.ws.send("430[5]").await;
    program.prints("answer [5]").await;

    for signal in [Signal::TERM, Signal::KILL] {
        for number in 0..5 {
            stage.ws.send(&format!(r#"42["before",{number}]"#)).await;
        }
        // One that is told to end writes what it has; of one that is killed, only this is known to have been written.
        let stream = stage.watcher.stream.clone();
        if signal == Signal::KILL {
            stage.both_hear(5, &mut program).await;
            stage = stage.restarted(signal, &mut upstream).await;
            assert_ne!(stage.watcher.stream, stream);
        } else {
            let heard = stage.watcher.hears(5).await;
            stage = stage.restarted(signal, &mut upstream).await;
            assert_eq!(stage.watcher.stream, stream);
            program.prints_all(&heard).await;
        }
        for number in 0..5 {
            stage.ws.send(&format!(r#"42["after",{number}]"#)).await;
        }
        // In a new run that is `opened` and `connect`, perhaps more, and the five.
        stage.both_hear_until("after [4]", &mut program).await;
        // Nothing has been asked again, or this would not be next.
        stage.ws.send(r#"423["question","and now?"]"#).await;
        stage.ws.expect(r#"433["yes"]"#).await;
        stage.both_hear(1, &mut program).await;
    }

    // As in `attach | head`: who has no reader any more ends.
    program.loses_its_reader();
    for number in 0..3 {
        stage.ws.send(&format!(r#"42["unheard",{number}]"#)).await;
        stage.watcher.hears(1).await;
    }
    let said = program.ends().await;
    assert!(said.contains("siod says goodbye: shutdown"), "{said}");
    assert!(!said.contains("missed"), "{said}");
}

/// A daemon, its server, and who hears for comparison what the program should hear.
struct Stage {
    daemon: Daemon,
    ws: Ws,
    watcher: Watcher,
}

impl Stage {
    async fn both_hear(&mut self, count: usize, program: &mut Program) {
        let heard = self.watcher.hears(count).await;
        program.prints_all(&heard).await;
    }

    async fn both_hear_until(&mut self, end: &str, program: &mut Program) {
        loop {
            let [heard] = &self.watcher.hears(1).await[..] else { unreachable!("one was asked for") };
            program.prints(heard).await;
            if heard.ends_with(end) {
                return;
            }
        }
    }

    async fn restarted(mut self, signal: Signal, upstream: &mut Upstream) -> Self {
        self.daemon.signal(signal);
        self.daemon.exit().await;
        let daemon = Daemon::start_in(self.daemon.into_folder()).await;
        let ws = upstream.joined().await;
        let watcher = Watcher::attach(&daemon, Some(self.watcher)).await;
        Self { daemon, ws, watcher }
    }
}

/// Knows what a program that goes on from here has to print.
struct Watcher {
    consumer: Consumer,
    stream: String,
    seq: u64,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    params: Numbered<'a>,
}

#[derive(Deserialize)]
struct Numbered<'a> {
    seq: u64,
    event: &'a str,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

impl Watcher {
    /// `before` is who heard the last daemon: it depends on the new one whether it can go on with what that one had.
    async fn attach(daemon: &Daemon, before: Option<Self>) -> Self {
        let (stream, seq) = before.map_or((r#""""#.to_owned(), 0), |before| (before.stream, before.seq));
        let mut consumer = daemon.attach().await;
        let answer = consumer
            .call(
                &format!(r#"{{"id":1,"method":"subscribe","params":{{"connection":"chat","after":{{"stream":{stream},"seq":{seq}}}}}}}"#),
                r#"{"jsonrpc":"2.0","id":1,"result":{"stream":…stream,"missed":…missed,"…":…}}"#,
            )
            .await;
        let same = answer["stream"] == stream;
        assert_eq!(&answer["missed"], if same { "0" } else { "null" }, "what the daemon says of {stream}");
        Self { consumer, stream: answer["stream"].to_owned(), seq: if same { seq } else { 0 } }
    }

    async fn hears(&mut self, count: usize) -> Vec<String> {
        let mut heard = Vec::new();
        for _ in 0..count {
            let line = self.consumer.next_notification().await;
            let Line { params: Numbered { seq, event, args } } =
                serde_json::from_str(&line).expect("a numbered line");
            self.seq += 1;
            assert_eq!(seq, self.seq, "the daemon's own numbers");
            let args = args.map(|args| format!(" {args}")).unwrap_or_default();
            heard.push(format!("{seq} {event}{args}"));
        }
        heard
    }
}

fn subscribed(stream: &str) -> String {
    let snapshot = r#"{"name":"chat","url":"http://chat.example.com/","seq":9,"stream":"a snapshot's"}"#;
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"subscription":1,"stream":"{stream}","connections":[{snapshot}],"replayed":0,"missed":0}}}}"#
    )
}

fn event(seq: u64, members: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"event","params":{{"connection":"chat","seq":{seq},{members}}}}}"#)
}

fn lifecycle(seq: u64, members: &str) -> String {
    let time = r#""active":true,"time":"2026-01-02T03:04:05.678Z""#;
    format!(
        r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"chat","seq":{seq},{members},{time}}}}}"#
    )
}
