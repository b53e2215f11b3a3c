//! The configuration is read again: by SIGHUP, by the method `reload`, by `siod reload`.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::daemon::Folder;
use common::transcript::compare;
use common::upstream::OPEN;
use common::{Chat, Consumer, Daemon, QUICK, Upstream, Ws, refusal};
use rustix::process::Signal;

const RELOAD: &str = r#"{"id":9,"method":"reload"}"#;

/// A place where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1";

fn config(connections: &str) -> String {
    format!("{QUICK}\n{connections}")
}

fn connection(name: &str, url: &str, more: &str) -> String {
    format!("[connections.{name}]\nurl = \"{url}\"\n{more}\n")
}

fn reloaded(added: &str, removed: &str, changed: &str, unchanged: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":9,"result":{{"added":[{added}],"removed":[{removed}],"changed":[{changed}],"unchanged":[{unchanged}]}}}}"#
    )
}

fn lifecycle(name: &str, seq: u64, members: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"{name}","seq":{seq},{members},"active":…,"time":"…"}}}}"#
    )
}

fn opened(name: &str, seq: u64, by: &str) -> String {
    lifecycle(name, seq, &format!(r#""event":"opened","by":"{by}""#))
}

fn closed(name: &str, seq: u64, by: &str) -> String {
    lifecycle(name, seq, &format!(r#""event":"closed","by":"{by}""#))
}

/// A consumer that hears everything from now on.
async fn listener(daemon: &Daemon) -> Consumer {
    let mut consumer = daemon.attach().await;
    consumer.call(r#"{"id":0,"method":"subscribe"}"#, r#"{"jsonrpc":"2.0","id":0,"result":{"…":…}}"#).await;
    consumer
}

/// The next lines are these; the order between connections is free.
async fn expect_all(consumer: &mut Consumer, literals: &[String]) {
    let mut left: Vec<&String> = literals.iter().collect();
    while !left.is_empty() {
        let line = consumer.next_line().await.expect("the daemon goes on");
        let known = left.iter().position(|literal| compare(literal, &line).is_ok());
        left.remove(known.unwrap_or_else(|| panic!("{line} is none of {left:#?}")));
    }
}

async fn connect(consumer: &mut Consumer, name: &str) {
    consumer
        .send(&format!(r#"{{"id":1,"method":"connect","params":{{"connection":"{name}","wait":20000}}}}"#))
        .await;
}

async fn connected(consumer: &mut Consumer, name: &str, id: &str) {
    consumer
        .expect_answer(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"name":"{name}","connected":true,"id":"{id}","…":…}}}}"#
        ))
        .await;
}

async fn expect_snapshot(consumer: &mut Consumer, name: &str, members: &str) {
    consumer
        .call(
            &format!(r#"{{"id":2,"method":"status","params":{{"connection":"{name}"}}}}"#),
            &format!(
                r#"{{"jsonrpc":"2.0","id":2,"result":{{"connections":[{{"name":"{name}",{members},"…":…}}],"…":…}}}}"#
            ),
        )
        .await;
}

/// A daemon with `lobby` and `room` joined on one WebSocket, and a consumer that asked for it.
async fn lobby_and_room(upstream: &mut Upstream, more: &str) -> (Daemon, Consumer, Ws) {
    let url = upstream.url();
    let both = connection("lobby", &url, "") + &connection("room", &format!("{url}/room"), "");
    let daemon = Daemon::start(&config(&(both + more))).await;
    let mut consumer = daemon.attach().await;
    connect(&mut consumer, "lobby").await;
    let mut ws = upstream.joined().await;
    connected(&mut consumer, "lobby", "socket-1").await;
    connect(&mut consumer, "room").await;
    ws.expect("40/room,").await;
    ws.send(r#"40/room,{"sid":"socket-2"}"#).await;
    connected(&mut consumer, "room", "socket-2").await;
    (daemon, consumer, ws)
}

#[tokio::test]
async fn only_what_changed_is_touched() {
    let mut upstream = Upstream::start().await;
    let (old, idle) = (connection("old", NOWHERE, ""), connection("idle", NOWHERE, ""));
    let (daemon, _, mut ws) = lobby_and_room(&mut upstream, &(old + &idle)).await;
    let mut consumer = listener(&daemon).await;
    let url = upstream.url();
    daemon.folder().configure(&config(
        &[
            // The same in other words.
            connection("lobby", &url, "reconnection_delay = 10\nreconnection = true"),
            connection("room", &format!("{url}/room"), "ack_timeout = \"7s\""),
            connection("new", NOWHERE, ""),
            idle,
        ]
        .concat(),
    ));
    consumer.send(RELOAD).await;
    let left = r#""event":"disconnect","reason":"io client disconnect","details":null"#;
    expect_all(
        &mut consumer,
        &[
            closed("old", 2, "config"),
            lifecycle("room", 3, left),
            closed("room", 4, "config"),
            opened("room", 5, "config"),
            opened("new", 1, "config"),
        ],
    )
    .await;
    consumer.expect(&reloaded(r#""new""#, r#""old""#, r#""room""#, r#""idle","lobby""#)).await;

    // They shared a WebSocket, and the one that is the same still has it.
    ws.expect("41/room,").await;
    ws.send(r#"42["still"]"#).await;
    consumer
        .expect(r#"{"jsonrpc":"2.0","method":"event","params":{"connection":"lobby","seq":3,"event":"still","args":[]}}"#)
        .await;
    expect_snapshot(&mut consumer, "lobby", r#""id":"socket-1","connected":true,"reconnects":0"#).await;
    expect_snapshot(&mut consumer, "room", r#""state":"disconnected","seq":5,"oldest_seq":5"#).await;
    connect(&mut consumer, "room").await;
    ws.expect("40/room,").await;
    consumer.call(RELOAD, &reloaded("", "", "", r#""idle","lobby","new","room""#)).await;
}

#[tokio::test]
async fn one_of_two_hundred_changes_and_the_others_do_not_notice() {
    let mut upstream = Upstream::start().await;
    let mut many = String::new();
    for n in 0..200 {
        many += &connection(&format!("c{n:03}"), NOWHERE, "");
    }
    let (daemon, mut consumer, _ws) = lobby_and_room(&mut upstream, &many).await;
    let changed = std::fs::read_to_string(daemon.folder().path().join("siod.toml")).expect("it is there");
    daemon
        .folder()
        .configure(&changed.replace("[connections.c117]\n", "[connections.c117]\nsend_buffer = \"1MiB\"\n"));
    let unchanged = (0..200)
        .filter(|n| *n != 117)
        .map(|n| format!("\"c{n:03}\""))
        .chain([r#""lobby""#.to_owned(), r#""room""#.to_owned()])
        .collect::<Vec<_>>()
        .join(",");
    consumer.call(RELOAD, &reloaded("", "", r#""c117""#, &unchanged)).await;
    for (name, members) in [
        ("c117", r#""seq":3"#),
        ("c116", r#""seq":1"#),
        ("lobby", r#""id":"socket-1","seq":2"#),
        ("room", r#""id":"socket-2","seq":2"#),
    ] {
        expect_snapshot(&mut consumer, name, members).await;
    }
}

#[tokio::test]
async fn one_of_a_thousand_changes_and_the_others_keep_their_sessions() {
    const COUNT: usize = 1000;
    raise_descriptors();
    let mut upstream = Upstream::start().await;
    let url = upstream.url();
    let configuration = |more: &str| {
        let one = |n| {
            let more = if n == 617 { more } else { "" };
            connection(&format!("c{n:03}"), &url, &format!("auto_connect = true\nforce_new = true\n{more}"))
        };
        config(&(0..COUNT).map(one).collect::<String>())
    };
    let daemon = Daemon::start(&configuration("")).await;
    let mut sessions = Vec::new();
    for n in 0..COUNT {
        sessions.push(join(&mut upstream, n).await);
    }
    let before = sessions_when_connected(&daemon, COUNT).await;
    daemon.folder().configure(&configuration("send_buffer = \"1MiB\""));
    let mut consumer = daemon.attach().await;
    let answer = consumer.request(RELOAD).await;
    assert!(
        answer.contains(r#""added":[],"removed":[],"changed":["c617"],"unchanged":["c000","#),
        "{answer}"
    );
    sessions.push(join(&mut upstream, COUNT).await);
    let after = sessions_when_connected(&daemon, COUNT).await;
    let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    let [(old, new)] = changed[..] else { panic!("{changed:?}") };
    assert!(old.0 == "c617" && new.0 == "c617", "{changed:?}");
    assert_eq!(new.1, format!("socket-{COUNT}"));
    assert!(!upstream.has_handshake(), "nobody else came back");
}

/// The next WebSocket, with an own id for its socket.
async fn join(upstream: &mut Upstream, n: usize) -> Ws {
    let mut ws = upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect("40").await;
    ws.send(&format!(r#"40{{"sid":"socket-{n}"}}"#)).await;
    ws
}

/// Names and ids, once so many connections are joined.
async fn sessions_when_connected(daemon: &Daemon, count: usize) -> Vec<(String, String)> {
    let mut consumer = daemon.attach().await;
    common::within("all connections to be joined", async {
        loop {
            let list = consumer.request(r#"{"id":1,"method":"list"}"#).await;
            let sessions: Vec<_> = list.split(r#"{"name":""#).skip(1).filter_map(session).collect();
            if sessions.len() == count {
                return sessions;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Name and id out of the rest of a snapshot.
fn session(snapshot: &str) -> Option<(String, String)> {
    let (name, rest) = snapshot.split_once('"')?;
    let (_, rest) = rest.split_once(r#""id":""#)?;
    let (id, _) = rest.split_once('"')?;
    Some((name.to_owned(), id.to_owned()))
}

/// A thousand servers' ends in one process are more than the usual limit.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
}

#[tokio::test]
async fn what_is_added_or_changed_connects_as_at_a_start() {
    let mut upstream = Upstream::start().await;
    let url = upstream.url();
    let chat =
        |token: &str| connection("chat", &url, &format!("auto_connect = true\nauth.token = \"{token}\""));
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = listener(&daemon).await;
    daemon.folder().configure(&config(&chat("old")));
    consumer.call(RELOAD, &reloaded(r#""chat""#, "", "", "")).await;
    let mut ws = upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"token":"old"}"#).await;
    daemon.folder().configure(&config(&chat("new")));
    consumer.call(RELOAD, &reloaded("", "", r#""chat""#, "")).await;
    ws.expect_closed().await;
    let mut ws = upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"token":"new"}"#).await;
}

#[tokio::test]
async fn a_configuration_that_does_not_load_changes_nothing_and_says_why() {
    let mut upstream = Upstream::start().await;
    let (daemon, mut consumer, mut ws) = lobby_and_room(&mut upstream, "").await;
    let file = daemon.folder().path().join("siod.toml");
    let good = std::fs::read_to_string(&file).expect("it is there");
    let garbage = daemon.folder().path().join("ca.pem");
    std::fs::write(&garbage, "no certificate").expect("a file in the test's own folder");
    let mut others = listener(&daemon).await;
    let secure = connection("safe", "https://127.0.0.1:1", &format!("tls.ca_file = {garbage:?}"));
    for (broken, named) in [
        // The file is cut off in the middle of a line.
        ("[connections.lobby]\nurl = \"http".to_owned(), vec!["siod.toml:2:"]),
        (
            "[api]\nstall = 0\n[connections.lobby]\nurl = \"http://a\"\ncolour = 1\n".to_owned(),
            vec!["siod.toml:2:", "api.stall", "siod.toml:5:", "connections.lobby.colour"],
        ),
        // What only shows when it is used: the good part is not carried out either.
        (config(&secure), vec!["connections.safe", "ca.pem"]),
    ] {
        daemon.folder().configure(&broken);
        let answer = consumer.request(RELOAD).await;
        compare(&refusal("9", -32011, "invalid_config"), &answer).expect("it is refused");
        let status = consumer.request(r#"{"id":3,"method":"status"}"#).await;
        for named in named {
            assert!(answer.contains(named), "{named} in {answer}");
            assert!(status.contains(named) && status.contains("config_error"), "{named} in {status}");
        }
        others.expect_silence().await;
    }
    ws.send(r#"42["still"]"#).await;
    let still = r#"{"jsonrpc":"2.0","method":"event","params":{"connection":"lobby","seq":3,"event":"still","args":[]}}"#;
    others.expect(still).await;
    daemon.folder().configure(&good);
    consumer.call(RELOAD, &reloaded("", "", "", r#""lobby","room""#)).await;
    let status = consumer.request(r#"{"id":3,"method":"status"}"#).await;
    assert!(!status.contains("config_error"), "{status}");
    let log = daemon.into_log().await;
    for named in ["api.stall", "connections.lobby.colour", "ca.pem"] {
        assert!(log.lines().any(|line| line.contains("ERROR") && line.contains(named)), "{named} in {log}");
    }
}

#[tokio::test]
async fn a_hangup_reloads_and_the_service_manager_hears_of_it() {
    let mut daemon = Daemon::start(QUICK).await;
    let mut consumer = listener(&daemon).await;
    for (config, event) in [
        (config(&connection("chat", NOWHERE, "")), Some(opened("chat", 1, "config"))),
        ("]".to_owned(), None),
        (QUICK.to_owned(), Some(closed("chat", 2, "config"))),
    ] {
        daemon.folder().configure(&config);
        daemon.signal(Signal::HUP);
        let told = daemon.told().await;
        let time = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("what systemd wants to read");
        assert!(time.trim_end().parse::<u64>().is_ok_and(|time| time > 0), "{told}");
        assert_eq!(daemon.told().await, "READY=1");
        match event {
            Some(event) => drop(consumer.expect(&event).await),
            None => consumer.expect_silence().await,
        }
    }
}

#[tokio::test]
async fn many_hangups_end_with_the_last_configuration() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumer = listener(&daemon).await;
    for n in 0..50 {
        daemon.folder().configure(&config(&connection("chat", NOWHERE, &format!("retries = {n}"))));
        daemon.signal(Signal::HUP);
    }
    daemon.folder().configure(&config(&connection("last", NOWHERE, "")));
    daemon.signal(Signal::HUP);
    while !consumer.next_notification().await.contains(r#""connection":"last""#) {}
    consumer.call(RELOAD, &reloaded("", "", "", r#""last""#)).await;
}

#[tokio::test]
async fn what_was_asked_at_the_same_time_is_done_one_after_the_other() {
    let daemon = Daemon::start(QUICK).await;
    let mut consumers = Vec::new();
    for _ in 0..5 {
        consumers.push(daemon.attach().await);
    }
    daemon.folder().configure(&config(&connection("chat", NOWHERE, "")));
    for consumer in &mut consumers {
        consumer.send(RELOAD).await;
    }
    let mut added = 0;
    for consumer in &mut consumers {
        let answer = consumer.request(r#"{"id":1,"method":"list"}"#).await;
        added += usize::from(answer.contains(r#""added":["chat"]"#));
        consumer
            .expect_answer(
                r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"name":"chat","seq":1,"…":…}]}}"#,
            )
            .await;
    }
    assert_eq!(added, 1, "each but the first finds nothing to do");
}

#[tokio::test]
async fn what_consumers_closed_comes_back_and_what_they_opened_becomes_the_configurations() {
    let (same, other) = (connection("same", NOWHERE, ""), connection("other", NOWHERE, ""));
    let gone = connection("gone", NOWHERE, "");
    let daemon = Daemon::start(&config(&gone)).await;
    let mut consumer = listener(&daemon).await;
    let mut owner = daemon.attach().await;
    owner
        .call(
            r#"{"id":1,"method":"close","params":{"connection":"gone"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        )
        .await;
    consumer.expect(&closed("gone", 2, "consumer")).await;
    for (name, more) in
        [("same", ""), ("other", r#","retries":1"#), ("mine", r#","persist":true"#), ("brief", "")]
    {
        owner
            .call(
                &format!(
                    r#"{{"id":1,"method":"open","params":{{"name":"{name}","url":"{NOWHERE}"{more}}}}}"#
                ),
                r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"…":…}}"#,
            )
            .await;
        consumer.expect(&opened(name, 1, "consumer")).await;
    }
    daemon.folder().configure(&config(&[gone.as_str(), &same, &other].concat()));
    consumer.send(RELOAD).await;
    expect_all(
        &mut consumer,
        &[closed("other", 2, "config"), opened("other", 3, "config"), opened("gone", 3, "config")],
    )
    .await;
    consumer.expect(&reloaded(r#""gone""#, "", r#""other""#, r#""same""#)).await;
    // What is the configuration's now outlives whoever opened it.
    drop(owner);
    consumer.expect(&closed("brief", 2, "consumer")).await;
    // And what it never had is none of its business.
    daemon.folder().configure(QUICK);
    consumer.send(RELOAD).await;
    expect_all(
        &mut consumer,
        &[closed("gone", 4, "config"), closed("other", 4, "config"), closed("same", 2, "config")],
    )
    .await;
    consumer.expect(&reloaded("", r#""gone","other","same""#, "", "")).await;
    expect_snapshot(&mut consumer, "mine", r#""seq":1"#).await;
}

#[tokio::test]
async fn other_settings_hold_for_whoever_comes_next() {
    let daemon = Daemon::start(QUICK).await;
    let mut early = daemon.attach().await;
    early.expect_silence().await;
    let api = "[api]\nmax_line = 200\nmax_consumers = 2\nlag = \"disconnect\"\nstall = \"2s\"\n";
    daemon.folder().configure(&format!("{QUICK}retries = 3\n{api}"));
    early.call(RELOAD, &reloaded("", "", "", "")).await;
    let open =
        |more: &str| format!(r#"{{"id":1,"method":"open","params":{{"name":"a","url":"{NOWHERE}"{more}}}}}"#);
    early.call(&open(""), r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"…":…}}"#).await;
    // The new default is the same as the option, and the default of before is another.
    early
        .call(&open(r#","retries":3"#), r#"{"jsonrpc":"2.0","id":1,"result":{"created":false,"…":…}}"#)
        .await;
    early.call(&open(r#","retries":0"#), &refusal("1", -32007, "connection_exists")).await;

    let mut late = daemon.attach().await;
    let long = format!(r#"{{"id":1,"method":"list"{}}}"#, " ".repeat(200));
    late.call(&long, &refusal("null", -32600, "too_large")).await;
    late.call(
        r#"{"id":1,"method":"hello"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"limits":{"max_line":200,"…":…},"…":…}}"#,
    )
    .await;
    early.call(&long, r#"{"jsonrpc":"2.0","id":1,"result":{"…":…}}"#).await;
    let mut third = daemon.attach().await;
    third.expect(r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"too_many_consumers"}}"#).await;
}

#[tokio::test]
async fn what_takes_a_restart_is_named() {
    let folder = Folder::new(QUICK);
    let daemon = Daemon::start_in(folder).await;
    let mut consumer = daemon.attach().await;
    daemon
        .folder()
        .configure(&format!("{QUICK}[api]\nmode = \"0666\"\ngroup = \"daemon\"\n[log]\nformat = \"json\"\n"));
    consumer
        .call(
            RELOAD,
            r#"{"jsonrpc":"2.0","id":9,"result":{"added":[],"removed":[],"changed":[],"unchanged":[],
                "needs_restart":["log.format","api.mode","api.group"]}}"#,
        )
        .await;
    let socket = std::fs::metadata(daemon.folder().socket()).expect("the socket is there");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let log = daemon.into_log().await;
    for key in ["log.format", "api.mode", "api.group"] {
        let named = log.lines().any(|line| line.contains("restart") && line.contains(key));
        assert!(named, "{key} in {log}");
    }
}

#[tokio::test]
async fn the_method_takes_no_params() {
    let mut chat = Chat::idle("").await;
    chat.consumer
        .call(
            r#"{"id":1,"method":"reload","params":{"connection":"chat"}}"#,
            &refusal("1", -32602, "invalid_params"),
        )
        .await;
    chat.consumer.call(r#"{"id":9,"method":"reload","params":{}}"#, &reloaded("", "", "", r#""chat""#)).await;
}

#[tokio::test]
async fn the_command_says_what_changed_and_fails_when_nothing_can() {
    let daemon = Daemon::start(&config(&connection("chat", NOWHERE, ""))).await;
    let siod = |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_siod"));
        command.args(arguments).arg("--socket").arg(daemon.folder().socket()).env_clear();
        async move {
            let output = common::within("the command", command.output()).await.expect("it starts");
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
            (output.status.code(), text(output.stdout), text(output.stderr))
        }
    };
    daemon.folder().configure(&config(&connection("news", NOWHERE, "")));
    let (code, out, _) = siod(&["reload"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "news: added\nchat: removed\n"));
    daemon.folder().configure("[api]\nstall = true\n");
    let (code, out, error) = siod(&["reload"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("siod.toml:2:") && error.contains("api.stall"), "{error}");
    let (_, status, _) = siod(&["status"]).await;
    assert!(status.contains("siod.toml:2:") && status.contains("api.stall"), "{status}");
}

#[tokio::test]
async fn who_may_only_write_can_neither_reload_nor_see_what_is_wrong() {
    use std::os::unix::process::CommandExt;
    let daemon = Daemon::start(&format!("{QUICK}[api]\nmode = \"0666\"\n")).await;
    let folder = daemon.folder().path();
    let as_somebody = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siod"));
        command.args(arguments).arg("--socket").arg(daemon.folder().socket()).uid(54321).gid(54321);
        command.output()
    };
    // Only root can be somebody else, and not everybody may read a folder where a build happens to be.
    if !as_somebody(&["--version"]).is_ok_and(|output| output.status.success()) {
        return eprintln!("LEFT OUT: a role below control, which takes root and a readable build");
    }
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).expect("the test's own folder");
    let mut consumer = daemon.attach().await;
    daemon.folder().configure("]");
    consumer.call(RELOAD, &refusal("9", -32011, "invalid_config")).await;
    let refused = as_somebody(&["call", "reload"]).expect("it ran before");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("control") && !message.contains("siod.toml"), "{message}");
    let status = as_somebody(&["call", "status"]).expect("it ran before");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("uptime_ms") && !status.contains("config_error"), "{status}");
}
