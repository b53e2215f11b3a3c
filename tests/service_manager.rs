//! What the service manager hears: how the connections stand, and that the work goes on.

mod common;

use common::daemon::Folder;
use common::{Chat, Daemon, QUICK};

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
