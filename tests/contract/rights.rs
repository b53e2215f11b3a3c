//! Who may do what: rules for our own user everywhere, and as root for others too.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{Signal, getegid, geteuid};

use crate::common::daemon::Folder;
use crate::common::{Consumer, Daemon, QUICK, Upstream, refusal, transcript, within};
use crate::load::{descriptors, limit_descriptors};

const FORBIDDEN: &str = r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"forbidden"}}"#;

/// Every method of each role, with params that are fine.
const READ: [(&str, &str); 5] = [
    ("hello", ""),
    ("list", ""),
    ("status", ""),
    ("subscribe", r#""connection":"chat""#),
    ("unsubscribe", r#""subscription":1"#),
];
const WRITE: [(&str, &str); 2] =
    [("emit", r#""connection":"chat","event":"a""#), ("ack", r#""connection":"chat","ack":1"#)];
const CONTROL: [(&str, &str); 6] = [
    ("disconnect", r#""connection":"chat""#),
    ("set_auth", r#""connection":"chat","auth":{}"#),
    ("open", r#""name":"mine","url":"http://localhost:1""#),
    ("close", r#""connection":"mine""#),
    ("connect", r#""connection":"chat""#),
    ("reload", ""),
];

/// `[[access]]` for whoever runs the test, with these further lines.
fn own(lines: &str) -> String {
    format!("[[access]]\nuid = {}\n{lines}\n", geteuid().as_raw())
}

/// Connections of these names that nobody starts.
fn idle(names: &[&str]) -> String {
    let connection = |name: &&str| format!("[connections.{name}]\nurl = \"http://localhost:1\"\n");
    QUICK.to_owned() + &names.iter().map(connection).collect::<String>()
}

fn request(method: &str, members: &str) -> String {
    format!(r#"{{"id":1,"method":"{method}","params":{{{members}}}}}"#)
}

async fn role(consumer: &mut Consumer) -> String {
    let hello = r#"{"jsonrpc":"2.0","id":1,"result":{"role":…role,"…":…}}"#;
    consumer.call(&request("hello", ""), hello).await["role"].trim_matches('"').to_owned()
}

/// The names in the answer to `list`.
async fn listed(consumer: &mut Consumer) -> Vec<String> {
    let answer = consumer.request(&request("list", "")).await;
    names(&answer)
}

fn names(answer: &str) -> Vec<String> {
    let answer: serde_json::Value = serde_json::from_str(answer).expect("an answer is JSON");
    let connections = answer["result"]["connections"].as_array().expect("it has connections").iter();
    connections.map(|snapshot| snapshot["name"].as_str().expect("it has a name").to_owned()).collect()
}

async fn is_forbidden(consumer: &mut Consumer) {
    consumer.expect(FORBIDDEN).await;
    consumer.expect_end().await;
}

#[tokio::test]
async fn a_role_permits_its_methods_and_refuses_those_above_it_which_is_logged() {
    for (role, permitted, refused) in [
        ("read", &[&READ[..]][..], &[&WRITE[..], &CONTROL][..]),
        ("write", &[&READ, &WRITE], &[&CONTROL]),
        ("control", &[&READ, &WRITE, &CONTROL], &[]),
    ] {
        let daemon = Daemon::start(&(idle(&["chat"]) + &own(&format!("role = {role:?}")))).await;
        let mut consumer = daemon.attach().await;
        assert_eq!(self::role(&mut consumer).await, role);
        for (method, members) in permitted.iter().copied().flatten() {
            let answer = consumer.request(&request(method, members)).await;
            assert!(!answer.contains("forbidden"), "{role} {method}: {answer}");
            // Who else is attached is for those who may do everything.
            assert_eq!(
                *method == "status" && role == "control",
                answer.contains(r#""consumers":["#),
                "{answer}"
            );
        }
        let refused: Vec<_> = refused.iter().copied().flatten().collect();
        for (method, members) in &refused {
            let message = format!("the method {method} needs the role …; this consumer has {role}");
            let refusal = format!(
                r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32006,"message":"{message}","data":{{"kind":"forbidden"}}}}}}"#
            );
            consumer.call(&request(method, members), &refusal).await;
        }
        let log = daemon.into_log().await;
        for (method, _) in refused {
            let who = format!("uid={} pid={} method={method:?}", geteuid().as_raw(), std::process::id());
            assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&who)), "{who} in\n{log}");
        }
    }
}

#[tokio::test]
async fn who_has_the_role_none_is_told_so_at_once_which_is_logged() {
    let daemon = Daemon::start(&own("role = \"none\"")).await;
    is_forbidden(&mut daemon.attach().await).await;

    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_siod"));
    command.args(["call", "list", "--socket"]).arg(daemon.folder().socket());
    let output = within("siod call", command.output()).await.expect("the binary can be started");
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (
            Some(1),
            "siod: the daemon ended the attachment: forbidden; \
             the [[access]] rules of its configuration give you no role\n"
        )
    );
    let log = daemon.into_log().await;
    let who = format!("uid={} pid={}", geteuid().as_raw(), std::process::id());
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&who)), "{who} in\n{log}");
}

#[tokio::test]
async fn a_connection_that_may_not_be_seen_does_not_exist() {
    let rule = own("role = \"control\"\nconnections = [\"chat*\", \"t?cks\"]");
    let daemon = Daemon::start(&(idle(&["chat", "ticks", "secret"]) + &rule)).await;
    let mut consumer = daemon.attach().await;
    assert_eq!(listed(&mut consumer).await, ["chat", "ticks"]);
    let status = consumer.request(&request("status", "")).await;
    assert_eq!(names(&status), ["chat", "ticks"]);
    assert!(status.contains(r#""connections":2"#), "how many there are is no secret kept: {status}");
    for pattern in ["*", "?*", "s*", "secre?"] {
        let subscribed =
            consumer.request(&request("subscribe", &format!(r#""connection":{pattern:?}"#))).await;
        let matching = if pattern.starts_with('s') { &[][..] } else { &["chat", "ticks"] };
        assert_eq!(names(&subscribed), matching, "{pattern}");
    }

    for (method, more) in [
        ("status", ""),
        ("subscribe", ""),
        ("subscribe", r#","after":{"stream":"x","seq":0}"#),
        ("emit", r#","event":"a""#),
        ("emit", r#","event":"connect""#),
        ("ack", r#","ack":1"#),
        ("connect", ""),
        ("connect", r#","wait":1"#),
        ("disconnect", ""),
        ("set_auth", r#","auth":{}"#),
        ("close", ""),
    ] {
        let mut answers = Vec::new();
        for name in ["secret", "absent"] {
            let call = request(method, &format!(r#""connection":"{name}"{more}"#));
            answers.push(consumer.request(&call).await.replace(name, "NAME"));
        }
        assert!(answers[0].contains(r#""kind":"unknown_connection""#), "{method}: {}", answers[0]);
        assert_eq!(answers[0], answers[1], "{method} tells one that is hidden from one that is not there");
    }
    let untouched = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    consumer.call(&request("close", r#""connection":"ticks""#), untouched).await;
}

#[tokio::test]
async fn names_that_a_rule_does_not_give_cannot_be_opened_whether_they_exist_or_not() {
    let rule = own("role = \"control\"\nconnections = [\"chat*\"]");
    let daemon = Daemon::start(&(idle(&["secret"]) + &rule)).await;
    let mut consumer = daemon.attach().await;
    let open = |name: &str, url: &str| request("open", &format!(r#""name":"{name}","url":"{url}""#));
    // The same url and options would attach to it, others would say that it exists.
    for (name, url) in
        [("secret", "http://localhost:1"), ("secret", "http://localhost:2"), ("absent", "http://localhost:1")]
    {
        let refusal = format!(
            r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32006,"message":"the daemon's access rules do not give this consumer the name \"{name}\"","data":{{"kind":"forbidden"}}}}}}"#
        );
        consumer.call(&open(name, url), &refusal).await;
    }
    let opened = r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"connection":{"name":"chat-2","…":…}}}"#;
    consumer.call(&open("chat-2", "http://localhost:1"), opened).await;
    assert_eq!(listed(&mut consumer).await, ["chat-2"]);
    let log = daemon.into_log().await;
    let who = format!("uid={} pid={} name=\"secret\"", geteuid().as_raw(), std::process::id());
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&who)), "{who} in\n{log}");
}

#[tokio::test]
async fn a_reload_tells_of_hidden_connections_nothing() {
    let rule = own("role = \"control\"\nconnections = [\"chat*\"]");
    let daemon = Daemon::start(&(idle(&["chat", "secret"]) + &rule)).await;
    let mut consumer = daemon.attach().await;
    let everything = r#"{"jsonrpc":"2.0","id":1,"result":{"subscription":1,"…":…}}"#;
    consumer.call(&request("subscribe", ""), everything).await;

    let file = daemon.folder().path().join("siod.toml");
    let write = |text: String| std::fs::write(&file, text).expect("the folder is the test's own");
    write(idle(&["chat", "chat-2", "hidden"]) + &rule);
    let reload = request("reload", "");
    let changes = r#"{"jsonrpc":"2.0","id":1,"result":{"added":["chat-2"],"removed":[],"changed":[],"unchanged":["chat"]}}"#;
    consumer.call(&reload, changes).await;
    consumer.hear(r#"{"jsonrpc":"2.0","method":"lifecycle","params":{"connection":"chat-2","event":"opened","…":…}}"#).await;
    consumer.expect_silence().await;

    write(idle(&["chat", "chat-2"]) + &rule + "[connections.hidden]\nurl = 5\n");
    let refusal = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32011,"message":"the configuration does not load, and nothing was changed; the daemon's log says why","data":{"kind":"invalid_config"}}}"#;
    consumer.call(&reload, refusal).await;
    let status = consumer.request(&request("status", "")).await;
    assert!(!status.contains("hidden"), "{status}");

    write(idle(&["chat", "chat-2"]) + &own("role = \"read\"\nconnections = [\"chat-2\"]"));
    // By the rights that hold now.
    let changes =
        r#"{"jsonrpc":"2.0","id":1,"result":{"added":[],"removed":[],"changed":[],"unchanged":["chat-2"]}}"#;
    consumer.call(&reload, changes).await;
    for consumer in [&mut consumer, &mut daemon.attach().await] {
        assert_eq!(
            (role(consumer).await.as_str(), listed(consumer).await),
            ("read", vec!["chat-2".to_owned()])
        );
    }
}

/// Lets the daemon read another configuration, and waits until it holds.
async fn reconfigure(daemon: &mut Daemon, config: &str) {
    daemon.folder().configure(config);
    daemon.signal(Signal::HUP);
    while daemon.told().await.trim() != "READY=1" {}
}

#[tokio::test]
async fn other_rules_hold_for_who_is_attached() {
    let (mut upstream, mut hidden) = (Upstream::start().await, Upstream::start().await);
    let connections = format!(
        "{QUICK}\n[connections.chat]\nurl = \"{}\"\n[connections.secret]\nurl = \"{}\"\n",
        upstream.url(),
        hidden.url()
    );
    let mut daemon = Daemon::start(&connections).await;
    let mut consumer = daemon.attach().await;
    let everything = r#""lifecycle":false,"outgoing":true"#;
    consumer
        .call(
            &request("subscribe", everything),
            r#"{"jsonrpc":"2.0","id":1,"result":{"subscription":1,"…":…}}"#,
        )
        .await;
    let connected = r#"{"jsonrpc":"2.0","id":1,"result":{"connected":true,"…":…}}"#;
    consumer.send(&request("connect", r#""connection":"chat","wait":20000"#)).await;
    let mut ws = upstream.joined().await;
    consumer.expect_answer(connected).await;
    consumer.send(&request("connect", r#""connection":"secret","wait":20000"#)).await;
    let mut hidden_ws = hidden.joined().await;
    consumer.expect_answer(connected).await;
    let said = |connection: &str, seq: u64, event: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"event","params":{{"connection":"{connection}","seq":{seq},"event":"{event}","args":[]}}}}"#
        )
    };
    hidden_ws.send(r#"42["seen"]"#).await;
    consumer.hear(&said("secret", 3, "seen")).await;

    reconfigure(&mut daemon, &(connections.clone() + &own("role = \"write\"\nconnections = [\"ch*\"]")))
        .await;
    assert_eq!(
        (role(&mut consumer).await.as_str(), listed(&mut consumer).await),
        ("write", vec!["chat".to_owned()])
    );
    let gone = refusal("1", -32000, "unknown_connection");
    consumer.call(&request("emit", r#""connection":"secret","event":"a""#), &gone).await;
    consumer.call(&request("subscribe", r#""connection":"secret","last":9"#), &gone).await;
    let forbidden = refusal("1", -32006, "forbidden");
    consumer.call(&request("disconnect", r#""connection":"chat""#), &forbidden).await;
    hidden_ws.send(r#"42["hidden"]"#).await;
    // It is in the ring by the time when the server is answered.
    hidden_ws.send(r#"427["ping"]"#).await;
    ws.send(r#"42["heard"]"#).await;
    consumer.expect(&said("chat", 3, "heard")).await;

    reconfigure(&mut daemon, &connections).await;
    assert_eq!(role(&mut consumer).await, "control");
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"name":"secret","seq":5,"subscribers":1,"…":…}],"…":…}}"#;
    let status = request("status", r#""connection":"secret""#);
    while transcript::compare(answer, &consumer.request(&status).await).is_err() {}
    hidden_ws.send(r#"42["again"]"#).await;
    consumer.expect(&said("secret", 6, "again")).await;
    // It is one subscription still.
    consumer
        .call(&request("unsubscribe", r#""subscription":1"#), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#)
        .await;
    let silent = r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"subscribers":0,"…":…},{"subscribers":0,"…":…}]}}"#;
    consumer.call(&request("list", ""), silent).await;
}

#[tokio::test]
async fn nobody_hears_of_a_connection_that_comes_together_with_the_rule_that_hides_it() {
    let mut daemon = Daemon::start(&idle(&["chat"])).await;
    let mut consumer = daemon.attach().await;
    consumer
        .call(&request("subscribe", ""), r#"{"jsonrpc":"2.0","id":1,"result":{"subscription":1,"…":…}}"#)
        .await;
    let rule = own("role = \"control\"\nconnections = [\"ch*\"]");
    reconfigure(&mut daemon, &(idle(&["chat", "secret"]) + &rule)).await;
    consumer.expect_silence().await;
    assert_eq!(listed(&mut consumer).await, ["chat"]);
}

#[tokio::test]
async fn who_loses_every_role_is_let_go_with_what_it_had_opened() {
    let mut daemon = Daemon::start(&idle(&["chat"])).await;
    let mut consumer = daemon.attach().await;
    let opened = r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"…":…}}"#;
    consumer.call(&request("open", r#""name":"mine","url":"http://localhost:1""#), opened).await;
    reconfigure(&mut daemon, &(idle(&["chat"]) + &own("role = \"none\""))).await;
    is_forbidden(&mut consumer).await;
    is_forbidden(&mut daemon.attach().await).await;
    reconfigure(&mut daemon, &idle(&["chat"])).await;
    let mut next = daemon.attach().await;
    while listed(&mut next).await != ["chat"] {}
    let log = daemon.into_log().await;
    let who = format!("uid={} pid={}", geteuid().as_raw(), std::process::id());
    let told = |line: &str| line.contains("WARN") && line.contains("let go") && line.contains(&who);
    assert!(log.lines().any(told), "{who} in\n{log}");
}

#[tokio::test]
async fn the_first_rule_that_holds_decides() {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let rules = format!(
        "[[access]]\nuid = {uid}\ngid = {}\nrole = \"none\"\n\
         [[access]]\ngid = {gid}\nrole = \"read\"\nconnections = [\"chat\"]\n\
         [[access]]\nuid = {uid}\nrole = \"control\"\n",
        u32::MAX - 1
    );
    let daemon = Daemon::start(&(idle(&["chat", "secret"]) + &rules)).await;
    let mut consumer = daemon.attach().await;
    assert_eq!(role(&mut consumer).await, "read");
    // Patterns of later rules do not add to it.
    assert_eq!(listed(&mut consumer).await, ["chat"]);
}

/// A daemon whose socket lets everybody in, or none where the test cannot become others.
async fn for_everybody(test: &str, config: &str) -> Option<Daemon> {
    if !geteuid().is_root() {
        // Not by a macro of the library, which the harness would hide.
        let line = format!("SKIPPED rights::{test}: only root can attach as other users\n");
        std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
        return None;
    }
    let folder = Folder::new(&format!("[api]\nmode = \"0666\"\n{config}"));
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).expect("the folder is ours");
    Some(Daemon::start_in(folder).await)
}

fn attach_as(daemon: &Daemon, uid: u32, gid: u32) -> Consumer {
    Consumer::attach_as(uid, gid, &daemon.folder().socket())
}

/// Numbers that no account of the system has.
const ALICE: u32 = 1_987_654_301;
const BOB: u32 = 1_987_654_302;
const EVE: u32 = 1_987_654_303;
const OPS: u32 = 1_987_654_400;
const OTHERS: u32 = 1_987_654_401;

#[tokio::test]
async fn users_and_groups_have_the_roles_that_the_rules_give_them() {
    let rules = format!(
        "[[access]]\nuid = {ALICE}\nrole = \"read\"\nconnections = [\"chat*\"]\n\
         [[access]]\nuid = {EVE}\nrole = \"none\"\n\
         [[access]]\ngid = {OPS}\nrole = \"control\"\n"
    );
    let config = idle(&["chat", "secret"]) + &rules;
    let test = "users_and_groups_have_the_roles_that_the_rules_give_them";
    let Some(daemon) = for_everybody(test, &config).await else { return };
    let mut root = daemon.attach().await;
    for (uid, gid, expected, connections) in [
        (ALICE, OTHERS, "read", &["chat"][..]),
        (ALICE, OPS, "read", &["chat"]),
        (BOB, OPS, "control", &["chat", "secret"]),
        (BOB, OTHERS, "write", &["chat", "secret"]),
        (0, OTHERS, "control", &["chat", "secret"]),
    ] {
        let mut consumer = attach_as(&daemon, uid, gid);
        assert_eq!(role(&mut consumer).await, expected, "{uid} {gid}");
        assert_eq!(listed(&mut consumer).await, connections, "{uid} {gid}");
        let report = format!(r#""pid":{},"uid":{uid},"gid":{gid},"role":"{expected}""#, std::process::id());
        let status = root.request(&request("status", "")).await;
        assert!(status.contains(&report), "{report} in {status}");
    }
    is_forbidden(&mut attach_as(&daemon, EVE, OPS)).await;
    let log = daemon.into_log().await;
    let who = format!("uid={EVE} pid={}", std::process::id());
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&who)), "{who} in\n{log}");
}

#[tokio::test]
async fn other_rules_are_settled_for_each_user_and_group() {
    let test = "other_rules_are_settled_for_each_user_and_group";
    let config = "[api]\nmode = \"0666\"\n".to_owned() + &idle(&["chat", "secret"]);
    let Some(mut daemon) = for_everybody(test, &idle(&["chat", "secret"])).await else { return };
    let (uid, gid) = account();
    let mut root = daemon.attach().await;
    let mut alice = attach_as(&daemon, ALICE, OTHERS);
    let mut bob = attach_as(&daemon, BOB, OTHERS);
    let mut eve = attach_as(&daemon, EVE, OTHERS);
    let mut member = attach_as(&daemon, uid, OTHERS);
    for consumer in [&mut alice, &mut bob, &mut eve, &mut member] {
        assert_eq!(role(consumer).await, "write");
    }
    let rules = format!(
        "[[access]]\nuid = {ALICE}\nrole = \"control\"\nconnections = [\"ch*\"]\n\
         [[access]]\nuid = {EVE}\nrole = \"none\"\n\
         [[access]]\ngid = {gid}\nrole = \"read\"\n"
    );
    reconfigure(&mut daemon, &(config + &rules)).await;
    is_forbidden(&mut eve).await;
    for (consumer, expected, connections) in [
        (&mut root, "control", &["chat", "secret"][..]),
        (&mut alice, "control", &["chat"]),
        (&mut bob, "write", &["chat", "secret"]),
        (&mut member, "read", &["chat", "secret"]),
    ] {
        assert_eq!(role(consumer).await, expected);
        assert_eq!(listed(consumer).await, connections);
    }
    let log = daemon.into_log().await;
    let who = format!("uid={EVE} pid={}", std::process::id());
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&who)), "{who} in\n{log}");
}

/// Options of `open` with which the daemon does something on its own system.
const ON_THE_SYSTEM: [(&str, &str); 7] = [
    ("auth_command", r#""auth_command":["/bin/false"]"#),
    ("auth_file", r#""auth_file":"/etc/passwd""#),
    ("on_connect.args_file", r#""on_connect":[{"event":"a"},{"event":"b","args_file":"/etc/passwd"}]"#),
    ("tls.ca_file", r#""tls":{"ca_file":"/etc/passwd"}"#),
    ("tls.cert_file", r#""tls":{"cert_file":"/etc/passwd","key_file":"/etc/passwd"}"#),
    ("tls.key_file", r#""tls":{"key_file":"/etc/passwd"}"#),
    ("unix_socket", r#""unix_socket":"/run/other.sock""#),
];

#[tokio::test]
async fn what_the_daemon_would_do_on_its_system_is_for_root_and_its_own_user() {
    let test = "what_the_daemon_would_do_on_its_system_is_for_root_and_its_own_user";
    let rule = format!("[[access]]\nuid = {ALICE}\nrole = \"control\"\n");
    let Some(daemon) = for_everybody(test, &(QUICK.to_owned() + &rule)).await else { return };
    let (mut root, mut alice) = (daemon.attach().await, attach_as(&daemon, ALICE, OTHERS));
    let open =
        |option: &str| request("open", &format!(r#""name":"mine","url":"http://localhost:1",{option}"#));
    for (option, given) in ON_THE_SYSTEM {
        let refusal = format!(
            r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32006,"message":"{option} …","data":{{"kind":"forbidden"}}}}}}"#
        );
        alice.call(&open(given), &refusal).await;
        let answer = root.request(&open(given)).await;
        assert!(!answer.contains("forbidden"), "{option}: {answer}");
        if answer.contains("result") {
            let closed = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
            root.call(&request("close", r#""connection":"mine""#), closed).await;
        }
    }
    let opened = r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"…":…}}"#;
    alice.call(&open(r#""tls":{"insecure":true},"on_connect":[{"event":"a","args":[1]}]"#), opened).await;
    let log = daemon.into_log().await;
    for (option, _) in ON_THE_SYSTEM {
        let who = format!("uid={ALICE} pid={} option={option:?}", std::process::id());
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&who)), "{who} in\n{log}");
    }
}

#[tokio::test]
async fn what_others_open_later_and_say_is_heard_only_where_the_rules_reach() {
    let mut upstream = Upstream::start().await;
    let rule = format!("[[access]]\nuid = {ALICE}\nrole = \"read\"\nconnections = [\"chat*\"]\n");
    let test = "what_others_open_later_and_say_is_heard_only_where_the_rules_reach";
    let Some(daemon) = for_everybody(test, &(QUICK.to_owned() + &rule)).await else { return };
    let mut root = daemon.attach().await;
    let mut alice = attach_as(&daemon, ALICE, OTHERS);
    let everything = r#""outgoing":true,"connection":"#;
    for (consumer, pattern) in [(&mut alice, "*"), (&mut root, "*")] {
        let subscribed = r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[],"…":…}}"#;
        consumer.call(&request("subscribe", &format!(r#"{everything}"{pattern}""#)), subscribed).await;
    }
    for name in ["secret", "chat"] {
        let open =
            request("open", &format!(r#""name":"{name}","url":"{}","auto_connect":true"#, upstream.url()));
        root.call(&open, r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"…":…}}"#).await;
        let mut ws = upstream.joined().await;
        ws.send(&format!(r#"42["of","{name}"]"#)).await;
        let of = |name: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"event","params":{{"connection":"{name}","seq":3,"event":"of","args":["{name}"]}}}}"#
            )
        };
        for _opened_connect in 0..2 {
            root.next_notification().await;
        }
        root.hear(&of(name)).await;
        if name == "chat" {
            for event in ["opened", "connect"] {
                let line = format!(
                    r#"{{"jsonrpc":"2.0","method":"lifecycle","params":{{"connection":"chat","event":"{event}","…":…}}}}"#
                );
                alice.expect(&line).await;
            }
            alice.expect(&of(name)).await;
        }
        let emit = request("emit", &format!(r#""connection":"{name}","event":"back""#));
        root.call(&emit, r#"{"jsonrpc":"2.0","id":1,"result":{"status":"sent","active":true}}"#).await;
        ws.expect(r#"42["back"]"#).await;
        let close = request("close", &format!(r#""connection":"{name}""#));
        root.call(&close, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await;
        for _outgoing_disconnect_closed in 0..3 {
            let line = root.next_notification().await;
            if name == "chat" {
                assert_eq!(alice.next_notification().await, line);
            }
        }
    }
    alice.expect_silence().await;
    // A name that was seen stays one that is not there, once it is closed.
    let gone = refusal("1", -32000, "unknown_connection");
    alice.call(&request("subscribe", r#""connection":"secret","last":9"#), &gone).await;
    root.call(&request("subscribe", r#""connection":"secret","last":9"#), &gone).await;
}

/// A user of this system that is not root, its group among those of the system's database.
fn account() -> (u32, u32) {
    let accounts = std::fs::read_to_string("/etc/passwd").expect("the system has accounts");
    let account = accounts.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let number = |at: usize| fields.get(at)?.parse().ok().filter(|number: &u32| *number != 0);
        number(2).zip(number(3))
    });
    account.expect("the system has a user besides root")
}

#[tokio::test]
async fn groups_of_the_system_count_beside_the_primary_one() {
    let (uid, gid) = account();
    let rule = format!("[[access]]\ngid = {gid}\nrole = \"read\"\n");
    let test = "groups_of_the_system_count_beside_the_primary_one";
    let Some(daemon) = for_everybody(test, &rule).await else { return };
    for (uid, gid, expected) in [(uid, OTHERS, "read"), (BOB, gid, "read"), (BOB, OTHERS, "write")] {
        assert_eq!(role(&mut attach_as(&daemon, uid, gid)).await, expected, "{uid} {gid}");
    }
}

#[tokio::test]
async fn groups_count_where_descriptors_run_out() {
    let (uid, gid) = account();
    let rule = format!("[[access]]\ngid = {gid}\nrole = \"read\"\n");
    let Some(daemon) = for_everybody("groups_count_where_descriptors_run_out", &rule).await else { return };
    limit_descriptors(&daemon, descriptors(&daemon) as u64 + 40);
    // The system's list of groups takes one as well, and without it nobody is in any.
    let programs: Vec<_> = (0..60).map(|_| attach_as(&daemon, uid, OTHERS)).collect();
    for mut program in programs {
        assert_eq!(role(&mut program).await, "read");
    }
}
