//! What the service manager hears: how the connections stand, and that the work goes on.

mod common;

use std::os::unix::net::UnixDatagram;

use common::daemon::Folder;
use common::{Chat, Consumer, Daemon, QUICK, within};
use tokio::io::AsyncReadExt as _;

#[tokio::test]
async fn the_status_follows_the_connections() {
    let mut chat = Chat::idle("").await;
    chat.start().await;
    let ws = chat.join().await;
    chat.daemon.told_status("1 connection: 1 connected").await;
    chat.upstream.refuse_connections(true);
    drop(ws);
    chat.daemon.told_status("1 connection: 1 reconnecting (attempt …").await;
    chat.upstream.refuse_connections(false);
    let _ws = chat.upstream.joined().await;
    chat.daemon.told_status("1 connection: 1 connected").await;
    let open = r#"{"id":1,"method":"open","params":{"name":"other","url":"http://127.0.0.1:1","auto_connect":false}}"#;
    chat.consumer.send(open).await;
    chat.daemon.told_status("2 connections: 1 connected, 1 disconnected").await;
    chat.consumer.send(r#"{"id":2,"method":"close","params":{"connection":"other"}}"#).await;
    chat.daemon.told_status("1 connection: 1 connected").await;
}

#[tokio::test]
async fn the_status_says_that_a_reload_did_not_load_but_not_what_is_in_the_file() {
    let mut daemon = Daemon::start(QUICK).await;
    daemon.folder().configure("[api]\nmax_line = \"hunter2\"\n");
    let mut consumer = daemon.attach().await;
    consumer.request(r#"{"id":1,"method":"reload"}"#).await;
    daemon.told_status("0 connections; the configuration does not load, siod status says why").await;
    daemon.folder().configure(QUICK);
    consumer.request(r#"{"id":2,"method":"reload"}"#).await;
    daemon.told_status("0 connections").await;
}

#[tokio::test]
async fn the_end_is_told() {
    let mut daemon = Daemon::start_in(Folder::new(QUICK)).await;
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.told_anything().await, "STOPPING=1\nSTATUS=stopping\n");
    assert!(daemon.exit().await.success());
}

#[tokio::test]
async fn signs_of_life_come_as_often_as_they_are_wanted() {
    let folder = Folder::new(QUICK).variable("WATCHDOG_USEC", "60000");
    let mut daemon = Daemon::start_in(folder).await;
    for _ in 0..5 {
        assert_eq!(daemon.told_anything().await, "WATCHDOG=1\n");
    }
}

#[tokio::test]
async fn without_being_wanted_there_are_none() {
    for wanted in ["", "0", "soon"] {
        let folder = Folder::new(QUICK).variable("WATCHDOG_USEC", wanted);
        let mut daemon = Daemon::start_in(folder).await;
        // Whatever was to be said at the start is said before a program is served.
        daemon.attach().await.expect_silence().await;
        daemon.signal(rustix::process::Signal::TERM);
        assert_eq!(daemon.told_anything().await, "STOPPING=1\nSTATUS=stopping\n", "{wanted:?}");
    }
}

#[tokio::test]
async fn one_that_takes_nothing_holds_nothing_up_and_hears_it_all_later() {
    let folder = Folder::new(QUICK);
    let place = folder.path().join("own.sock");
    let manager = UnixDatagram::bind(&place).expect("a socket in the test's own folder");
    manager.set_read_timeout(Some(common::DEADLINE)).expect("it can be set");
    let mut daemon = folder.command().env("NOTIFY_SOCKET", &place).spawn().expect("it can be started");
    let mut heard = [0; 1024];
    let length = manager.recv(&mut heard).expect("it can be read");
    assert!(heard[..length].starts_with(b"READY=1\n"));
    // Somebody else has filled it.
    let other = UnixDatagram::unbound().expect("a socket");
    other.set_nonblocking(true).expect("it can be set");
    while other.send_to(b"other", &place).is_ok() {}

    let mut consumer = Consumer::attach(&folder.socket()).await;
    let open = r#"{"id":1,"method":"open","params":{"name":"NAME","url":"http://127.0.0.1:1","auto_connect":false}}"#;
    for name in ["a", "b"] {
        let created = r#"{"jsonrpc":"2.0","id":1,"result":{"created":true,"…":…}}"#;
        consumer.call(&open.replace("NAME", name), created).await;
        let reloaded = r#"{"jsonrpc":"2.0","id":2,"result":{"added":[],"…":…}}"#;
        consumer.call(r#"{"id":2,"method":"reload"}"#, reloaded).await;
    }

    let hear = tokio::task::spawn_blocking(move || {
        let mut lines: Vec<String> = Vec::new();
        let is_status = |line: &&String| line.starts_with("STATUS=");
        // The status may be told before the reload or with its end; that it is the last one is what counts.
        while lines.iter().rfind(is_status).is_none_or(|last| last != "STATUS=2 connections: 2 disconnected")
            || lines.iter().filter(|line| !is_status(line)).count() < 4
        {
            let length = manager.recv(&mut heard).expect("it can be read");
            let told = String::from_utf8_lossy(&heard[..length]);
            let lines_told =
                told.lines().filter(|line| *line != "other" && !line.starts_with("MONOTONIC_USEC="));
            lines.extend(lines_told.map(str::to_owned));
        }
        lines
    });
    let mut heard = within("the last status and the reloads", hear).await.expect("it does not panic");
    heard.retain(|line| !line.starts_with("STATUS="));
    assert_eq!(heard, ["RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]);

    let pid = daemon.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())).expect("it runs");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert!(within("the end", daemon.wait()).await.expect("it can be waited for").success());
    let mut log = String::new();
    daemon.stderr.take().expect("it is piped").read_to_string(&mut log).await.expect("it can be read");
    // Whoever heard it all is gone by the end, which is said as well.
    let full = log.lines().filter(|line| line.contains("could not be told") && line.contains("unavailable"));
    assert_eq!(full.count(), 1, "{log}");
}
