//! Tests of the hub by itself: what programs see in moments that only a runtime which stands still can show.

use std::fs;

use futures_util::FutureExt as _;

use super::options::ConnectionOptions;
use super::subscription::{Filter, LifecycleFilter, Pattern};
use super::*;
use crate::engineio::Details;
use crate::manager::{Lifecycle, Observer as _, Source, Status};
use crate::socketio::DisconnectReason;

/// A hub whose Managers' tasks run when a test awaits something.
fn hub() -> Arc<Hub> {
    let settings = Settings { stall: Duration::from_secs(1), max_consumers: 10 };
    Arc::new(Hub::new(settings, TaskTracker::new(), CancellationToken::new()))
}

/// A place where nobody listens.
fn nowhere(auto_connect: bool) -> ConnectionSettings {
    let members = format!(r#"{{"url":"http://127.0.0.1:1","auto_connect":{auto_connect}}}"#);
    let options: ConnectionOptions = serde_json::from_str(&members).unwrap();
    options.resolve(&ConnectionOptions::default()).unwrap()
}

fn shown(hub: &Hub, member: &str) -> String {
    let snapshots = hub.snapshots(&Rights::everywhere(Role::Read));
    let snapshots = serde_json::to_value(snapshots).unwrap();
    snapshots[0][member].to_string()
}

#[tokio::test]
async fn what_connects_by_itself_is_never_seen_inactive() {
    let hub = hub();
    {
        let turn = hub.turn().await;
        // The Manager's task has not had a turn yet.
        let opening = hub.open(turn, "chat", nowhere(true), Opener::Config);
        assert!(opening.now_or_never().is_none());
    }
    assert_eq!(["state", "active", "seq"].map(|member| shown(&hub, member)), ["\"connecting\"", "true", "1"]);

    let hub = self::hub();
    let turn = hub.turn().await;
    hub.open(turn, "chat", nowhere(false), Opener::Config).await.unwrap();
    assert_eq!(["state", "active"].map(|member| shown(&hub, member)), ["\"disconnected\"", "false"]);
}

#[tokio::test]
async fn who_has_the_name_next_has_not_failed_yet() {
    let hub = hub();
    let (_, before) = hub.open(hub.turn().await, "chat", nowhere(false), Opener::Config).await.unwrap();
    let details = Details::new("timeout");
    let lost = Lifecycle::Disconnect { reason: DisconnectReason::ParseError, details: None };
    let failed = Lifecycle::ConnectError { details, data: None, source: Source::Transport };
    for event in [lost, failed] {
        before.channel.lifecycle(&event, &Status::default());
    }
    let failures = || ["last_disconnect", "last_error"].map(|member| shown(&hub, member));
    assert!(failures().iter().all(|failure| failure.starts_with('{')));
    hub.close(hub.turn().await, "chat").await.unwrap();
    hub.open(hub.turn().await, "chat", nowhere(false), Opener::Config).await.unwrap();
    assert_eq!(failures(), ["null", "null"]);
}

/// Settings of a connection that trusts this file.
fn trusting(ca_file: &std::path::Path) -> ConnectionSettings {
    let members =
        format!(r#"{{"url":"https://127.0.0.1:1","auto_connect":false,"tls":{{"ca_file":{ca_file:?}}}}}"#);
    let options: ConnectionOptions = serde_json::from_str(&members).unwrap();
    options.resolve(&ConnectionOptions::default()).unwrap()
}

fn names(hub: &Hub) -> Vec<String> {
    hub.lock().connections.keys().cloned().collect()
}

#[tokio::test]
async fn what_is_prepared_cannot_fail_any_more() {
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    let (ca, missing) = (folder.path().join("ca"), folder.path().join("missing"));
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&ca, key.cert.pem()).unwrap();
    let turn = hub.turn().await;
    hub.open(turn, "old", nowhere(false), Opener::Config).await.unwrap();

    let wanted = BTreeMap::from([("a", trusting(&ca)), ("b", trusting(&missing))]);
    let wanted: BTreeMap<_, _> = wanted.into_iter().map(|(name, it)| (name.to_owned(), it)).collect();
    let failed = hub.prepare(wanted.clone()).await.unwrap_err();
    assert_eq!(failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(names(&hub), ["old"]);

    // Two that cannot share a Manager, of one reading.
    let wanted = ["a", "b"].map(|name| (name.to_owned(), trusting(&ca)));
    let prepared = hub.prepare(wanted.into()).await.unwrap();
    fs::remove_file(&ca).unwrap();
    let changes = hub.reconfigure(prepared).await.unwrap();
    assert_eq!((changes.added, changes.removed), (vec!["a".to_owned(), "b".into()], vec!["old".to_owned()]));
    assert_eq!(names(&hub), ["a", "b"]);
}

#[test]
fn files_are_read_by_another_thread_while_nothing_is_locked() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.unwrap().block_on(async {
        let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
        // The only thread that may wait has something else to do.
        let (release, released) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || released.recv());
        let turn = hub.turn().await;
        let missing = trusting(&folder.path().join("missing"));
        let mut opening = std::pin::pin!(hub.open(turn, "chat", missing, Opener::Config));
        assert!(opening.as_mut().now_or_never().is_none());
        assert_eq!(names(&hub), [""; 0]);
        release.send(()).unwrap();
        busy.await.unwrap().unwrap();
        assert!(matches!(opening.await, Err(Error::Tls(_))));
    });
}

async fn open_and_close(hub: &Hub, name: &str) {
    let opener = Opener::Consumer { id: 0, persist: true };
    hub.open(hub.turn().await, name, nowhere(false), opener).await.unwrap();
    hub.close(hub.turn().await, name).await.unwrap();
}

#[tokio::test]
async fn of_closed_connections_only_so_many_names_are_kept() {
    let hub = hub();
    let identity = Identity { pid: None, uid: 0, gid: 0 };
    let attach = || hub.attach(identity.clone(), Rights::everywhere(Role::Read), Lag::Skip).unwrap();
    let (reader, stalled) = (attach(), attach());
    for consumer in [&reader, &stalled] {
        let filter = Filter { events: None, lifecycle: LifecycleFilter::All, outgoing: true };
        let (connections, filter) = (Pattern::new("*"), Arc::new(filter));
        let subscription = Subscription { connections, filter, sticky: false };
        hub.subscribe(consumer, subscription, Start::Live, |_, _| {}).unwrap();
    }
    let read = |consumer: &Consumer| {
        let mut out = Vec::new();
        consumer.take(&mut out);
        String::from_utf8(out.concat()).unwrap().lines().count()
    };
    read(&reader);
    open_and_close(&hub, "often").await;
    open_and_close(&hub, "often").await;
    for number in 0..2 * MAX_CLOSED {
        open_and_close(&hub, &format!("c{number}")).await;
        assert_eq!(read(&reader), if number == 0 { 6 } else { 2 }, "{number}");
    }
    // One that has read nothing keeps the names that it has yet to hear of, up to a limit.
    assert_eq!(hub.lock().channels.len(), 2 * MAX_CLOSED);
    assert_eq!(stalled.inbox().farewell().now_or_never(), Some(Goodbye::Lagged));
    hub.detach(&stalled).await;
    open_and_close(&hub, "c0").await;
    assert_eq!((hub.lock().channels.len(), read(&reader)), (MAX_CLOSED, 2));

    // No number is given out twice, neither of a name that was forgotten nor of one that may have been.
    for (name, seq) in [("c2047", 3), ("often", 5), ("new", 5)] {
        let opener = Opener::Consumer { id: 0, persist: true };
        let (_, connection) = hub.open(hub.turn().await, name, nowhere(false), opener).await.unwrap();
        assert_eq!(connection.channel.head(), seq, "{name}");
    }
    assert_eq!(read(&reader), 3, "who listens to all hears of them again");
}
