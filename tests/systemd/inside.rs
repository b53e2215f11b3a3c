//! One administrator's day with the package, from its installation to its purge.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Output;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::common::upstream::{Handshake, OPEN};
use crate::common::{Consumer, Upstream, Ws, within};
use crate::{EXPOSURE, assert_silent, assert_success};

const SOCKET: &str = "/run/siod/siod.sock";
const CONFIGURATION: &str = "/etc/siod/siod.toml";
const DROP_IN: &str = "/etc/systemd/system/siod.service.d/test.conf";
const SOCKET_DROP_IN: &str = "/etc/systemd/system/siod.socket.d/test.conf";

/// The drop-in's line that hands the secret over.
const CREDENTIAL: &str = "LoadCredential=chat:/etc/siod/chat.json";

/// The status while `chat` is up and `secret` is not asked for.
const WELL: &str = "2 connections: 1 connected, 1 disconnected";

/// What a program asks to see that it is served.
const LIST: &str = r#"{"id":1,"method":"list"}"#;

/// Users without an account; both are let into the group of the socket when they connect.
const READER: u32 = 20001;
const KEEPER: u32 = 20002;

/// How long a command may take; dpkg reads and writes much.
const COMMAND: Duration = Duration::from_mins(2);

/// Times that the service is restarted, and killed.
const TIMES: usize = 10;

/// How long a local program may have to wait for an answer while the service is restarted: three times what the longest
/// takes, that after a kill.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often that may be tried, for a machine that is busy with something else.
const ROUNDS: usize = 3;

#[tokio::test]
#[ignore = "for a system of its own, see boot.sh"]
async fn play() {
    assert!(Path::new("/siod-test/siod.deb").exists(), "this changes the system that it runs on");
    let upstream = Upstream::start().await;
    installation().await;
    let url = upstream.url();
    configure(&url, "");
    credential().await;
    let (ws, keeper, upstream) = start_by_first_connect(upstream).await;
    reloads(&url, keeper).await;
    // From here on the server lets everybody in by itself.
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let _ws = ws;
        serve(upstream).await;
    });
    watchdog().await;
    restarts_and_kills().await;
    upgrade().await;
    stop().await;
    broken_at_start(&url).await;
    service_of_a_user().await;
    troubles(&url).await;
    the_end().await;
    rpm().await;
    from_source().await;
}

async fn installation() {
    step("installation enables and starts nothing");
    ok("dpkg --install /siod-test/siod.deb").await;
    installed("/lib/systemd/system").await;

    step("the installed units are sound");
    assert_silent(&run("systemd-analyze verify siod.socket siod.service").await);
    ok(&format!("systemd-analyze security --no-pager {EXPOSURE} siod.service")).await;
    ok("siod check").await;
}

/// What the configuration is in the whole play, and what its drop-in adds to the service.
fn configure(url: &str, more: &str) {
    let text = format!(
        r#"
[state]
dir = "${{STATE_DIRECTORY}}"
[defaults]
transports = ["websocket"]
[connections.chat]
url = "{url}"
auth_file = "${{CREDENTIALS_DIRECTORY}}/chat"
[connections.secret]
url = "{url}/secret"
auto_connect = false
[[access]]
uid = {READER}
role = "read"
connections = ["chat"]
[[access]]
uid = {KEEPER}
role = "control"
[[access]]
group = "siod"
role = "read"
{more}"#
    );
    std::fs::write(CONFIGURATION, text).expect("root may");
}

async fn credential() {
    step("a credential that only root can read");
    std::fs::write("/etc/siod/chat.json", r#"{"token":"of the credential"}"#).expect("root may");
    std::fs::set_permissions("/etc/siod/chat.json", PermissionsExt::from_mode(0o600)).expect("root may");
    std::fs::create_dir_all(Path::new(DROP_IN).parent().expect("a folder")).expect("root may");
    drop_in(CREDENTIAL).await;
}

/// What the drop-in adds to the service from its next start on.
async fn drop_in(settings: &str) {
    std::fs::write(DROP_IN, format!("[Service]\n{settings}\n")).expect("root may");
    ok("systemctl daemon-reload").await;
}

async fn start_by_first_connect(mut upstream: Upstream) -> (Ws, Consumer, Upstream) {
    step("start by the first connect");
    ok("systemctl enable --now siod.socket").await;
    assert_eq!(says("systemctl is-active siod.service").await, "inactive");
    let mut keeper = Consumer::attach_as(KEEPER, group(), Path::new(SOCKET));
    keeper
        .call(r#"{"id":1,"method":"hello"}"#, r#"{"jsonrpc":"2.0","id":1,"result":{"role":"control","…":…}}"#)
        .await;
    assert_eq!(says("systemctl is-active siod.service").await, "active");

    step("the credential reaches the server");
    let mut ws = upstream.accept_ws().await;
    ws.send(OPEN).await;
    ws.expect(r#"40{"token":"of the credential"}"#).await;
    ws.send(r#"40{"sid":"socket-1"}"#).await;

    step("the status text");
    until("StatusText", WELL).await;

    step("two users with different rights");
    let mut reader = Consumer::attach_as(READER, group(), Path::new(SOCKET));
    reader
        .call(
            LIST,
            r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[{"name":"chat","id":"socket-1","…":…}]}}"#,
        )
        .await;
    for (request, code, kind) in [
        (r#"{"id":2,"method":"emit","params":{"connection":"chat","event":"x"}}"#, -32006, "forbidden"),
        (r#"{"id":2,"method":"reload"}"#, -32006, "forbidden"),
        (r#"{"id":2,"method":"subscribe","params":{"connection":"secret"}}"#, -32000, "unknown_connection"),
    ] {
        reader.call(request, &crate::common::refusal("2", code, kind)).await;
    }
    let answer = keeper.request(LIST).await;
    assert!(answer.contains(r#""name":"secret""#), "{answer}");
    keeper
        .call(
            r#"{"id":3,"method":"emit","params":{"connection":"chat","event":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":3,"result":{"status":"sent","active":true}}"#,
        )
        .await;
    ws.expect(r#"42["x"]"#).await;
    let outside = run(&format!(
        "setpriv --reuid={READER} --regid={READER} --clear-groups siod --socket {SOCKET} status"
    ))
    .await;
    assert_eq!(outside.status.code(), Some(69), "who is not in the group cannot even connect: {outside:?}");
    (ws, keeper, upstream)
}

async fn reloads(url: &str, mut keeper: Consumer) {
    step("a good reload keeps the session");
    configure(url, "[connections.third]\nurl = \"http://127.0.0.1:1\"\nauto_connect = false\n");
    ok("systemctl reload siod").await;
    until("StatusText", "3 connections: 1 connected, 2 disconnected").await;
    keep_session(&mut keeper).await;

    step("a broken reload fails, says where, and changes nothing");
    configure(url, "[connections.fourth]\nurl = \"http://127.0.0.1:1\"\ncolour = 1\n");
    let reload = run("systemctl reload siod").await;
    assert!(!reload.status.success(), "{reload:?}");
    let status = says("siod status").await;
    for named in ["/etc/siod/siod.toml:", "connections.fourth.colour"] {
        assert!(status.contains(named), "{named} in {status}");
        until_says(&journal("siod"), named).await;
    }
    until(
        "StatusText",
        "3 connections: 1 connected, 2 disconnected; the configuration does not load, siod status says why",
    )
    .await;
    keep_session(&mut keeper).await;
    configure(url, "");
    ok("systemctl reload siod").await;
    until("StatusText", WELL).await;
    keep_session(&mut keeper).await;
    assert_eq!(property("NRestarts").await, "0", "nothing has ended it so far");
}

async fn watchdog() {
    step("a process that stands still is ended and replaced");
    // So short only here: elsewhere it would end a daemon that a busy machine lets wait for two seconds. Of one that runs
    // it would be wanted at once, before that one knows.
    ok("systemctl stop siod.service").await;
    drop_in(&format!("{CREDENTIAL}\nWatchdogSec=2s")).await;
    starts().await;
    let mut keeper = Consumer::attach_as(KEEPER, group(), Path::new(SOCKET));
    keeper.request(LIST).await;
    let pid = property("MainPID").await;
    ok(&format!("kill -STOP {pid}")).await;
    until("NRestarts", "1").await;
    within("the end of a consumer's daemon", async { while keeper.next_line().await.is_some() {} }).await;
    let mut keeper = Consumer::attach_as(KEEPER, group(), Path::new(SOCKET));
    keeper.request(LIST).await;
    assert_ne!(property("MainPID").await, pid);
    until_says(&journal("siod"), "Watchdog timeout").await;
    drop_in(CREDENTIAL).await;
}

async fn restarts_and_kills() {
    step("no connect is refused over restarts, and the numbers go on");
    let before = stream().await;
    while_somebody_knocks("restarts", async |knocking: &mut Knocking| {
        for _ in 0..TIMES {
            ok("systemctl restart siod").await;
            knocking.several().await;
        }
    })
    .await;
    assert_eq!(stream().await, before);

    step("nor over kill -9, which begins a new stream");
    while_somebody_knocks("kills", async |knocking: &mut Knocking| {
        for _ in 0..TIMES {
            let pid = property("MainPID").await;
            ok(&format!("kill -KILL {pid}")).await;
            within("the next process", async {
                while [&pid, "0"].contains(&property("MainPID").await.as_str()) {}
            })
            .await;
            until("ActiveState", "active").await;
            knocking.several().await;
        }
    })
    .await;
    assert_ne!(stream().await, before);
}

/// To what the numbers of this run belong.
async fn stream() -> String {
    let hello = says("siod call hello").await;
    let (_, stream) = hello.split_once(r#""stream":""#).unwrap_or_else(|| panic!("{hello}"));
    stream.split_once('"').expect("it is a string").0.to_owned()
}

async fn upgrade() {
    step("nor over an upgrade of the package");
    while_somebody_knocks("an upgrade", async |knocking: &mut Knocking| {
        let pid = property("MainPID").await;
        ok("dpkg --install /siod-test/siod.deb").await;
        assert_ne!(property("MainPID").await, pid, "an upgrade restarts what runs");
        knocking.several().await;
    })
    .await;
    assert_eq!(says("systemctl is-enabled siod.socket").await, "enabled");
    assert_eq!(says("systemctl is-enabled siod.service").await, "disabled");
    assert!(std::fs::read_to_string(CONFIGURATION).expect("it is there").contains("connections.secret"));
}

async fn stop() {
    step("stop: a goodbye, and the socket is gone");
    let mut consumer = Consumer::attach(Path::new(SOCKET)).await;
    consumer.request(LIST).await;
    ok("systemctl stop siod.socket siod.service").await;
    consumer.expect(r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"shutdown"}}"#).await;
    consumer.expect_end().await;
    assert!(!Path::new(SOCKET).exists());
    assert_eq!(property("Result").await, "success");
}

async fn keep_session(consumer: &mut Consumer) {
    let answer = consumer.request(LIST).await;
    assert!(answer.contains(r#""id":"socket-1""#), "{answer}");
}

async fn broken_at_start(url: &str) {
    step("a configuration that does not load at the start");
    configure(url, "colour = 1\n");
    let interval = "systemctl show --property TriggerLimitIntervalUSec --value siod.socket";
    assert_eq!(says(interval).await, "10s");
    // A busy machine does not get to so many tries in that time.
    std::fs::create_dir_all(Path::new(SOCKET_DROP_IN).parent().expect("a folder")).expect("root may");
    std::fs::write(SOCKET_DROP_IN, "[Socket]\nTriggerLimitIntervalSec=10min\n").expect("root may");
    ok("systemctl daemon-reload").await;
    let start = run("systemctl start siod").await;
    assert!(!start.status.success(), "{start:?}");
    assert_eq!((property("ExecMainStatus").await, property("NRestarts").await), ("78".into(), "0".into()));
    // Whoever connects lets systemd try again, and that has an end.
    let mut waiting = UnixStream::connect(SOCKET).await.expect("the socket takes it");
    let given_up = tokio::time::timeout(COMMAND, waiting.readable()).await;
    given_up.expect("the socket is given up").expect("it can be waited for");
    drop(waiting.shutdown().await);
    within("the socket to have failed", async {
        while says("systemctl show --property Result --value siod.socket").await != "trigger-limit-hit" {}
    })
    .await;
    std::fs::remove_file(SOCKET_DROP_IN).expect("root may");
    ok("systemctl daemon-reload").await;
    configure(url, "");
    ok("systemctl restart siod").await;
    Consumer::attach(Path::new(SOCKET)).await.request(LIST).await;
}

async fn service_of_a_user() {
    step("the service of a user");
    ok("useradd --create-home alice").await;
    let uid = says("id --user alice").await;
    ok(&format!("systemctl start user@{uid}.service")).await;
    let as_alice = |command: &str| as_alice(&uid, command);
    ok(&as_alice("systemctl --user enable --now siod.socket")).await;
    let socket = format!("/run/user/{uid}/siod.sock");
    assert_eq!(std::fs::metadata(&socket).expect("it is there").mode() & 0o777, 0o600);
    assert_eq!(says(&as_alice("systemctl --user is-active siod.service")).await, "inactive");
    let status = run(&as_alice("siod status --json")).await;
    assert_success(&status);
    assert_eq!(says(&as_alice("systemctl --user is-active siod.service")).await, "active");
    ok(&as_alice("systemctl --user reload siod")).await;
    ok(&as_alice("systemctl --user stop siod.socket siod.service")).await;
    assert!(!Path::new(&socket).exists());
    ok(&format!("systemctl stop user@{uid}.service user-runtime-dir@{uid}.service")).await;
}

/// A command of hers, with the groups that she has by now.
fn as_alice(uid: &str, command: &str) -> String {
    format!(
        "setpriv --reuid={uid} --regid={uid} --init-groups env HOME=/home/alice XDG_RUNTIME_DIR=/run/user/{uid} {command}"
    )
}

/// The table in docs/operations.md: each symptom is made, its words are looked for, and its cure is tried.
async fn troubles(url: &str) {
    a_program_without_a_daemon().await;
    no_credential(url).await;
    a_server_that_is_not_there(url).await;
    a_command_in_the_sandbox(url).await;
    too_many_consumers(url).await;
    too_few_descriptors().await;
    no_user().await;
}

async fn a_program_without_a_daemon() {
    step("no daemon of one's own, and one of the system that lets in only its group");
    let uid = says("id --user alice").await;
    let own = format!("no daemon at /run/user/{uid}/siod.sock (No such file or directory)");
    let command = as_alice(&uid, "siod status");
    fails(&command, 69, &[&own, "export SIOD_SOCKET=/run/siod/siod.sock"]).await;
    let ask = as_alice(&uid, &format!("env SIOD_SOCKET={SOCKET} siod call hello"));
    let denied = "no daemon at /run/siod/siod.sock (Permission denied)";
    fails(&ask, 69, &[denied, "its owner and the group siod"]).await;
    ok("usermod --append --groups siod alice").await;
    let hello = says(&ask).await;
    assert!(hello.contains(r#""role":"read""#), "{hello}");
    let emit = as_alice(&uid, &format!("siod --socket {SOCKET} emit chat x"));
    fails(&emit, 1, &["the method emit needs the role write; this consumer has read"]).await;

    step("no socket");
    ok("systemctl stop siod.socket siod.service").await;
    let missing = "no daemon at /run/siod/siod.sock (No such file or directory)";
    fails("siod status", 69, &[missing, "systemctl start siod.socket"]).await;
    // The service too: the socket has just started it in vain so often that it would be given up again.
    ok("systemctl start siod.socket siod.service").await;
    ok("siod call hello").await;
}

async fn no_credential(url: &str) {
    const ENCRYPT: &str = "systemd-creds encrypt /etc/siod/chat.json /etc/siod/chat.cred";
    step("a credential that is not there");
    ok("mv /etc/siod/chat.json /etc/siod/elsewhere").await;
    start_fails("243", "status=243/CREDENTIALS").await;
    ok("mv /etc/siod/elsewhere /etc/siod/chat.json").await;
    starts().await;

    step("an encrypted one, first under another name");
    drop_in("LoadCredentialEncrypted=chat:/etc/siod/chat.cred").await;
    ok(&format!("{ENCRYPT} --name=other")).await;
    start_fails("243", "status=243/CREDENTIALS").await;
    // Processes of systemd say why, and are often gone before the journal has found out to which unit they belonged.
    let errors = "journalctl --boot --priority err --output cat --no-pager";
    for why in
        ["Embedded credential name 'other' does not match", "Failed to set up credentials: Protocol error"]
    {
        until_says(errors, why).await;
    }
    ok("rm /etc/siod/chat.cred").await;
    ok(&format!("{ENCRYPT} --name=chat")).await;
    starts().await;
    ok("rm /etc/siod/chat.cred").await;

    step("one that nobody hands over");
    drop_in("").await;
    let missing = "the environment has no variable CREDENTIALS_DIRECTORY";
    start_fails("78", missing).await;
    let check = "env STATE_DIRECTORY=/var/lib/siod siod check";
    fails(check, 78, &["/etc/siod/siod.toml:", missing]).await;
    ok("install -D -m 600 /etc/siod/chat.json /root/credentials/chat").await;
    ok(&check.replace("siod check", "CREDENTIALS_DIRECTORY=/root/credentials siod check")).await;
    drop_in(CREDENTIAL).await;
    configure(url, "");
    starts().await;
}

async fn a_server_that_is_not_there(url: &str) {
    step("a server that is not there");
    configure(url, "[connections.nowhere]\nurl = \"http://127.0.0.1:1\"\n");
    ok("systemctl reload siod").await;
    until_says("siod status", "onnection refused").await;
    assert_eq!(run("siod status").await.status.code(), Some(3));
    let doctor = run("siod doctor http://127.0.0.1:1").await;
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.code() == Some(3) && said.contains("cannot connect to 127.0.0.1:1"), "{said}");
}

async fn a_command_in_the_sandbox(url: &str) {
    const PROGRAM: &str = "/usr/local/bin/chat-token";
    step("an auth_command that the sandbox stops");
    let write = |file: &str| {
        std::fs::write(PROGRAM, format!("#!/bin/sh\ncat {file}\n")).expect("root may");
        std::fs::set_permissions(PROGRAM, PermissionsExt::from_mode(0o755)).expect("root may");
    };
    write("/root/token.json");
    std::fs::write("/root/token.json", r#"{"token":"of the command"}"#).expect("root may");
    ok(PROGRAM).await;
    let quick = "reconnection_delay = \"100ms\"\nreconnection_delay_max = \"200ms\"";
    let helped = format!("[connections.helped]\nurl = \"{url}\"\nauth_command = [\"{PROGRAM}\"]\n{quick}\n");
    configure(url, &helped);
    ok("systemctl reload siod").await;
    until_says(&format!("{} CONNECTION=helped", journal("siod")), "cat: /root/token.json: Permission denied")
        .await;
    until_says("siod status", "what it said is in the log").await;
    ok("install -m 640 -g siod /root/token.json /etc/siod/token.json").await;
    write("/etc/siod/token.json");
    until("StatusText", "3 connections: 2 connected, 1 disconnected").await;
    ok("rm /etc/siod/token.json").await;
}

async fn too_many_consumers(url: &str) {
    step("too many consumers");
    configure(url, "[api]\nmax_consumers = 2\n");
    ok("systemctl reload siod").await;
    let mut first = Consumer::attach(Path::new(SOCKET)).await;
    within("the command that reloads to be gone", async {
        while !first.request(r#"{"id":1,"method":"status"}"#).await.contains(r#""consumers":1,"#) {}
    })
    .await;
    let mut second = Consumer::attach(Path::new(SOCKET)).await;
    second.request(LIST).await;
    fails("siod status", 1, &["too_many_consumers; raise api.max_consumers, and send the daemon a SIGHUP"])
        .await;
    configure(url, "[api]\nmax_consumers = 20\n");
    assert!(!run("systemctl reload siod").await.status.success(), "the command is turned away like others");
    ok("systemctl kill --kill-whom=main --signal=HUP siod").await;
    until_says("siod status --json", &format!(r#""pid":{},"#, std::process::id())).await;
    first.request(LIST).await;
    configure(url, "");
    ok("systemctl reload siod").await;
}

async fn too_few_descriptors() {
    const LIMIT: usize = 64;
    step("fewer descriptors than programs");
    drop_in(&format!("{CREDENTIAL}\nLimitNOFILE={LIMIT}\nWatchdogSec=5s")).await;
    starts().await;
    let restarts = property("NRestarts").await;
    let mut consumers = Vec::new();
    for _ in 0..LIMIT + 10 {
        let mut consumer = Consumer::attach(Path::new(SOCKET)).await;
        consumer.send(LIST).await;
        consumers.push(consumer);
    }
    until_says(&journal("siod"), "Too many open files").await;
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"connections":[…]}}"#;
    consumers[0].expect(answer).await;
    consumers[0].call(LIST, answer).await;
    // Signs of life take no descriptor.
    for _ in 0..3 {
        let sign = property("WatchdogTimestampMonotonic").await;
        within("a sign of life", async { while property("WatchdogTimestampMonotonic").await == sign {} })
            .await;
    }
    let mut waiting = consumers.pop().expect("there are some");
    drop(consumers);
    waiting.expect(answer).await;
    assert_eq!(property("NRestarts").await, restarts, "the watchdog saw it work");
    drop_in(CREDENTIAL).await;
    starts().await;
}

async fn no_user() {
    step("no user and no group");
    ok("systemctl stop siod.socket siod.service").await;
    ok("userdel siod").await;
    // With alice in it, the group stays.
    ok("groupdel siod").await;
    assert!(!run("systemctl start siod").await.status.success());
    until_says(&journal("siod.socket"), "status=216/GROUP").await;
    ok("systemd-sysusers").await;
    starts().await;
}

/// The command that prints what the journal has of a unit: what its processes print, and what systemd says of it.
///
/// An entry is there a moment after the command that caused it has ended, so it is waited for.
fn journal(unit: &str) -> String {
    format!("journalctl --unit {unit} --output cat --no-pager")
}

/// The service does not start, with this status, and the journal says why.
async fn start_fails(status: &str, why: &str) {
    let restart = run("systemctl restart siod").await;
    assert!(!restart.status.success(), "{restart:?}");
    until("ActiveState", "failed").await;
    assert_eq!(property("ExecMainStatus").await, status);
    until_says(&journal("siod"), why).await;
}

async fn starts() {
    ok("systemctl restart siod").await;
    until("StatusText", WELL).await;
}

async fn rpm() {
    step("the rpm, where the presets enable nothing");
    std::fs::create_dir_all("/etc/systemd/system-preset").expect("root may");
    std::fs::write("/etc/systemd/system-preset/99-default.preset", "disable *\n").expect("root may");
    // rpm knows nothing of what dpkg has installed.
    ok("rpm --install --nodeps /siod-test/siod.rpm").await;
    installed("/lib/systemd/system").await;

    step("its upgrade restarts what runs");
    ok("systemctl enable --now siod").await;
    ok("siod call hello").await;
    let pid = property("MainPID").await;
    ok("rpm --upgrade --replacepkgs --nodeps /siod-test/siod.rpm").await;
    assert_ne!(property("MainPID").await, pid);
    // A configuration that nobody has edited was written anew, and can be read all the same.
    ok("siod call hello").await;
    let pid = property("MainPID").await;
    std::fs::write(CONFIGURATION, "[connections]\n").expect("root may");
    ok("rpm --upgrade --replacepkgs --nodeps /siod-test/siod.rpm").await;
    assert_ne!(property("MainPID").await, pid);
    assert_eq!(std::fs::read_to_string(CONFIGURATION).expect("it is there"), "[connections]\n");
    ok("siod call hello").await;

    step("its removal stops it");
    ok("rpm --erase siod").await;
    assert_eq!(says("systemctl is-active siod.service").await, "inactive");
    for path in ["/usr/bin/siod", SOCKET, "/etc/systemd/system/multi-user.target.wants/siod.service"] {
        assert!(std::fs::symlink_metadata(path).is_err(), "{path} is still there");
    }
    assert!(Path::new("/etc/siod/siod.toml.rpmsave").exists(), "what was edited is kept");
    ok("rm -r /etc/siod").await;
}

async fn from_source() {
    const INSTALL: &str = "/siod-test/source/packaging/install";
    step("from source, below /usr/local");
    fails(&format!("{INSTALL} --help"), 2, &["usage: packaging/install"]).await;
    ok(INSTALL).await;
    installed("/usr/local/lib/systemd/system").await;
    ok("systemctl enable --now siod").await;
    ok("/usr/local/bin/siod call hello").await;
    ok(INSTALL).await;
    ok("systemctl restart siod").await;
    ok("systemctl reload siod").await;
    ok("systemctl disable --now siod.socket siod.service").await;
    ok(&format!("{INSTALL} --remove")).await;
    assert!(!Path::new("/usr/local/bin/siod").exists());
    assert!(Path::new(CONFIGURATION).exists());
}

/// It is there, and nothing of it runs.
async fn installed(units: &str) {
    for unit in ["siod.socket", "siod.service"] {
        assert_eq!(says(&format!("systemctl is-enabled {unit}")).await, "disabled");
        assert_eq!(says(&format!("systemctl is-active {unit}")).await, "inactive");
        let path = says(&format!("systemctl show --property FragmentPath --value {unit}")).await;
        // Where /lib is /usr/lib, systemd says either.
        assert!([format!("{units}/{unit}"), format!("/usr{units}/{unit}")].contains(&path), "{path}");
    }
    for (path, mode) in [("/etc/siod", 0o750), (CONFIGURATION, 0o640)] {
        let found = std::fs::metadata(path).expect("it was installed");
        assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (mode, 0, group()), "{path}");
    }
}

async fn the_end() {
    step("removal stops it and leaves what the administrator has written");
    assert_eq!(says("systemctl is-active siod.service").await, "active");
    ok("dpkg --remove siod").await;
    assert_eq!(says("systemctl is-active siod.service").await, "inactive");
    assert!(!Path::new(SOCKET).exists());
    assert!(Path::new(CONFIGURATION).exists());
    assert!(Path::new("/var/lib/siod").exists());

    step("installed again, it is as it was");
    ok("dpkg --install /siod-test/siod.deb").await;
    assert_eq!(says("systemctl is-enabled siod.socket").await, "enabled");
    ok("systemctl start siod.socket").await;
    Consumer::attach(Path::new(SOCKET)).await.request(LIST).await;

    step("purge takes away what is ours");
    for path in ["/etc/siod/chat.json", DROP_IN] {
        std::fs::remove_file(path).expect("it is the administrator's");
    }
    ok("dpkg --purge siod").await;
    for path in [
        "/etc/siod",
        "/run/siod",
        "/var/lib/siod",
        "/usr/bin/siod",
        "/etc/systemd/system/sockets.target.wants/siod.socket",
        "/etc/systemd/system/siod.socket",
        "/etc/systemd/system/siod.service",
        "/var/lib/systemd/deb-systemd-helper-enabled/siod.socket.dsh-also",
    ] {
        assert!(std::fs::symlink_metadata(path).is_err(), "{path} is still there");
    }
    assert_eq!(says("systemctl show --property LoadState --value siod.service").await, "not-found");
    assert!(says("dpkg-query --show siod").await.is_empty());
}

/// A server like any other: everybody may join.
async fn serve(mut upstream: Upstream) {
    let mut sessions = JoinSet::new();
    loop {
        let handshake = upstream.handshake_in_time().await;
        sessions.spawn(session(handshake));
    }
}

async fn session(handshake: Handshake) {
    let mut ws = handshake.accept().await;
    ws.send(OPEN).await;
    // A daemon that is killed in the middle says nothing more.
    if ws.next_text_or_end().await.is_some() {
        ws.send(r#"40{"sid":"socket-n"}"#).await;
        while ws.next_text_or_end().await.is_some() {}
    }
}

/// A program that connects, asks and leaves, over and over.
struct Knocking {
    stop: CancellationToken,
    answered: tokio::sync::watch::Receiver<usize>,
    work: JoinSet<Duration>,
}

impl Knocking {
    fn start() -> Self {
        let stop = CancellationToken::new();
        let (told, answered) = tokio::sync::watch::channel(0);
        let mut work = JoinSet::new();
        let stopped = stop.clone();
        work.spawn(async move {
            let mut worst = Duration::ZERO;
            while !stopped.is_cancelled() {
                let began = Instant::now();
                // A daemon that ends in the middle closes; that is no refusal, and the next one answers.
                while !ask().await {}
                worst = worst.max(began.elapsed());
                told.send_modify(|answered| *answered += 1);
            }
            worst
        });
        Self { stop, answered, work }
    }

    /// Waits for a few answers more.
    async fn several(&mut self) {
        let enough = *self.answered.borrow() + 5;
        let answered = self.answered.wait_for(|answered| *answered >= enough);
        drop(within("answers", answered).await.expect("no connect is refused"));
    }

    /// The longest that an answer took.
    async fn end(mut self, over: &str) -> Duration {
        self.stop.cancel();
        let worst = within("the last answer", self.work.join_next()).await.expect("it worked");
        let (worst, answers) = (worst.expect("no connect is refused"), *self.answered.borrow());
        println!("   {answers} connects over {over}, none refused, the longest answer took {worst:?}");
        worst
    }
}

/// No connect is refused meanwhile, and none has to wait for long.
async fn while_somebody_knocks(what: &str, mut happens: impl AsyncFnMut(&mut Knocking)) {
    for round in 1.. {
        let mut knocking = Knocking::start();
        happens(&mut knocking).await;
        let worst = knocking.end(what).await;
        if worst < PATIENCE {
            return;
        }
        assert!(round < ROUNDS, "{worst:?} over {what}, and no less before");
    }
}

/// Connects and asks; false where the daemon ends before it answers.
async fn ask() -> bool {
    let mut stream = UnixStream::connect(SOCKET).await.expect("no connect is refused");
    let mut line = String::new();
    if stream.write_all(b"{\"id\":1,\"method\":\"list\"}\n").await.is_err() {
        return false;
    }
    let read = within("an answer or the end", BufReader::new(stream).read_line(&mut line)).await;
    read.is_ok() && line.contains("\"result\"")
}

fn step(what: &str) {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    println!("-- {:4.1} s: {what}", BEGAN.elapsed().as_secs_f32());
}

async fn run(command: &str) -> Output {
    let words: Vec<_> = command.split(' ').collect();
    let child = Command::new(words[0]).args(&words[1..]).kill_on_drop(true).output();
    let ended =
        tokio::time::timeout(COMMAND, child).await.unwrap_or_else(|_| panic!("{command} does not end"));
    ended.unwrap_or_else(|error| panic!("{command}: {error}"))
}

#[track_caller]
fn ok(command: &str) -> impl Future<Output = ()> {
    let command = command.to_owned();
    async move {
        let output = run(&command).await;
        if !output.status.success() {
            let journal = says("journalctl --unit siod --unit siod.socket --lines 60 --no-pager").await;
            panic!("{command}: {output:?}\n{journal}");
        }
    }
}

/// It ends with this code, and says this on standard error.
async fn fails(command: &str, code: i32, words: &[&str]) {
    let output = run(command).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command}: {error}");
    for words in words {
        assert!(error.contains(words), "{command}: {words} in {error}");
    }
}

/// Waits until it prints this.
async fn until_says(command: &str, words: &str) {
    let mut last = String::new();
    let wait = async {
        while !last.contains(words) {
            last = says(command).await;
        }
    };
    let in_time = tokio::time::timeout(crate::common::DEADLINE, wait).await.is_ok();
    assert!(in_time, "{command} never said {words}, but {last}");
}

/// What it prints, however it ends.
async fn says(command: &str) -> String {
    String::from_utf8_lossy(&run(command).await.stdout).trim_end().to_owned()
}

async fn property(name: &str) -> String {
    says(&format!("systemctl show --property {name} --value siod.service")).await
}

/// Waits until systemd shows this of the service.
async fn until(name: &str, value: &str) {
    let mut last = String::new();
    let wait = async {
        while last != value {
            last = property(name).await;
        }
    };
    let in_time = tokio::time::timeout(crate::common::DEADLINE, wait).await.is_ok();
    assert!(in_time, "{name} never was {value:?}, but {last:?}");
}

/// The number of the group siod.
fn group() -> u32 {
    let groups = std::fs::read_to_string("/etc/group").expect("it is there");
    let number = groups.lines().find_map(|line| line.strip_prefix("siod:")?.split(':').nth(1)?.parse().ok());
    number.expect("the package made it")
}
