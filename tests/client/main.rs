//! `siod::client` against the real daemon, which goes away and comes back.

#[path = "../common/mod.rs"]
mod common;

use common::{Daemon, QUICK, Upstream, Ws, within};
use siod::client::{
    Change, Client, Connect, Emit, Error, ErrorKind, Kind, Listener, Missed, News, Notice, Open, Subscribe,
};

/// What is heard next, passing over what `pass` says is of no interest; everything else is an error of the test.
async fn next(listener: &mut Listener) -> News {
    within("news", listener.next()).await.expect("nothing is wrong")
}

/// The next notification and its number.
async fn heard(listener: &mut Listener) -> (String, u64) {
    loop {
        if let News::Heard { notification, .. } = next(listener).await
            && matches!(notification.kind(), Kind::Event | Kind::Lifecycle)
        {
            let name = match notification.notice().expect("it has its type") {
                Notice::Event(event) => event.event.into_owned(),
                Notice::Lifecycle(change) => change.event.into_owned(),
                other => panic!("{other:?}"),
            };
            return (name, notification.seq().expect("it has a number"));
        }
    }
}

fn config(upstream: &Upstream) -> String {
    format!("{QUICK}[connections.chat]\nurl = \"{}\"\n", upstream.url())
}

/// Connects `chat`; the last thing said is `connect`.
async fn connect(daemon: &Daemon, upstream: &mut Upstream) -> Ws {
    let mut client = Client::attach(daemon.folder().socket()).await.expect("the daemon listens");
    client.connect(Connect::new("chat")).await.expect("it may");
    upstream.joined().await
}

#[tokio::test]
async fn a_listener_goes_on_after_a_restart_of_the_daemon() {
    let mut upstream = Upstream::start().await;
    let mut daemon = Daemon::start(&config(&upstream)).await;
    let socket = daemon.folder().socket();
    let mut listener = Listener::new(&socket, Subscribe::to("chat"));
    let News::Attached { connections, again: false } = next(&mut listener).await else {
        panic!("not attached")
    };
    assert_eq!((connections.len(), connections[0].seq, connections[0].active), (1, 1, false));
    let mut ws = connect(&daemon, &mut upstream).await;
    ws.send(r#"42["one",1]"#).await;
    assert_eq!(heard(&mut listener).await, ("connect".into(), 2));
    assert_eq!(heard(&mut listener).await, ("one".into(), 3));
    let before = listener.position("chat").cloned().expect("it was heard");
    assert_eq!(before.seq, 3);

    assert!(daemon.terminate().await.success());
    let folder = daemon.into_folder();
    let news = next(&mut listener).await;
    assert!(
        matches!(&news, News::Heard { notification, .. } if notification.goodbye().as_deref() == Some("shutdown")),
        "{news:?}"
    );
    let away = next(&mut listener).await;
    assert!(matches!(away, News::Away(Error::Lost(_))), "{away:?}");

    let daemon = Daemon::start_in(folder).await;
    let mut ws = connect(&daemon, &mut upstream).await;
    ws.send(r#"42["two",2]"#).await;
    // Whatever the numbering, each thing comes once and in order, and the position is that of the daemon.
    let mut names = Vec::new();
    let mut last = 0;
    while names.last().is_none_or(|name| name != "two") {
        match next(&mut listener).await {
            News::Heard { notification, .. } => {
                let seq = notification.seq().expect("it has a number");
                assert!(seq > last, "{seq} after {last}");
                last = seq;
                names.push(match notification.notice().expect("it has its type") {
                    Notice::Event(event) => event.event.into_owned(),
                    Notice::Lifecycle(change) => change.event.into_owned(),
                    other => panic!("{other:?}"),
                });
            }
            News::Missed(Missed { connection, count }) => {
                assert_eq!((connection.as_str(), count), ("chat", None), "of one numbering nothing is lost");
            }
            News::Attached { again, .. } => assert!(again),
            News::Away(why) => panic!("{why}"),
        }
    }
    assert_eq!(names.iter().filter(|name| *name == "two" || *name == "connect").count(), 2, "{names:?}");
    assert!(!names.contains(&"one".to_owned()), "{names:?}");
    let mut client = Client::attach(&socket).await.expect("the daemon listens");
    let position = listener.position("chat").cloned().expect("it was heard");
    let snapshot = client.list().await.expect("it may").remove(0);
    assert_eq!((position.stream, position.seq), (snapshot.stream, snapshot.seq));
}

#[tokio::test]
async fn a_program_goes_on_after_its_own_restart() {
    let mut upstream = Upstream::start().await;
    let daemon = Daemon::start(&config(&upstream)).await;
    let socket = daemon.folder().socket();
    let mut listener = Listener::new(&socket, Subscribe::to("chat").without_lifecycle());
    assert!(matches!(next(&mut listener).await, News::Attached { .. }));
    let mut ws = connect(&daemon, &mut upstream).await;
    ws.send(r#"42["one"]"#).await;
    assert_eq!(heard(&mut listener).await, ("one".into(), 3));
    let position = listener.position("chat").cloned().expect("it was heard");
    let kept = serde_json::to_string(&position).expect("it can be kept");
    drop(listener);
    ws.send(r#"42["two"]"#).await;
    ws.send(r#"42["three"]"#).await;

    let position = serde_json::from_str(&kept).expect("it was kept");
    let mut listener = Listener::new(&socket, Subscribe::to("chat").without_lifecycle().after(position));
    assert_eq!(heard(&mut listener).await, ("two".into(), 4));
    assert_eq!(heard(&mut listener).await, ("three".into(), 5));
}

#[tokio::test]
async fn what_was_opened_meanwhile_is_heard_from_its_beginning() {
    let upstream = Upstream::start().await;
    let mut daemon = Daemon::start(&config(&upstream)).await;
    let socket = daemon.folder().socket();
    let mut listener = Listener::new(&socket, Subscribe::to("*"));
    assert!(matches!(next(&mut listener).await, News::Attached { .. }));
    assert!(daemon.terminate().await.success());
    let daemon = Daemon::start_in(daemon.into_folder()).await;
    let mut client = Client::attach(&socket).await.expect("the daemon listens");
    let lobby = client.open(Open::new("lobby", &upstream.url()).persist()).await.expect("it may");
    assert!(lobby.created);
    // Only now does the listener look.
    loop {
        if let News::Heard { notification, .. } = next(&mut listener).await
            && notification.connection() == Some("lobby")
        {
            let Ok(Notice::Lifecycle(change)) = notification.notice() else { panic!("{notification:?}") };
            assert!(matches!(change.change, Change::Opened { .. }) && change.seq == 1, "{change:?}");
            break;
        }
    }
    drop(daemon);
}

#[tokio::test]
async fn patience_waits_for_the_first_daemon() {
    let upstream = Upstream::start().await;
    let folder = common::daemon::Folder::new(&config(&upstream));
    let mut hasty = Listener::new(folder.socket(), Subscribe::to("chat"));
    let error = hasty.next().await.expect_err("nobody is there");
    assert!(matches!(error, Error::Attach { .. }), "{error}");
    let mut listener = Listener::new(folder.socket(), Subscribe::to("chat")).patient();
    let away = next(&mut listener).await;
    assert!(matches!(away, News::Away(Error::Attach { .. })), "{away:?}");
    let daemon = Daemon::start_in(folder).await;
    let attached = next(&mut listener).await;
    assert!(matches!(attached, News::Attached { again: false, .. }), "{attached:?}");

    let mut stranger = Listener::new(daemon.folder().socket(), Subscribe::to("cat")).patient();
    let error = within("a refusal", stranger.next()).await.expect_err("there is none");
    assert_eq!(error.kind(), Some(ErrorKind::UnknownConnection));
}

#[tokio::test]
async fn refusals_have_their_kind() {
    let upstream = Upstream::start().await;
    let daemon = Daemon::start(&config(&upstream)).await;
    let mut siod = Client::attach(daemon.folder().socket()).await.expect("the daemon listens");
    let kind = |error: Error| error.kind();
    let no_array = siod.emit(Emit::new("chat", "say").args("hi")).await;
    assert!(matches!(no_array, Err(Error::Params(_))), "{no_array:?}");
    let dropped = siod.ask(Emit::new("chat", "say").volatile()).await;
    assert!(matches!(dropped, Err(Error::Dropped { active: false })), "{dropped:?}");
    for (result, expected) in [
        (siod.emit(Emit::new("cat", "say")).await.map(drop), ErrorKind::UnknownConnection),
        (siod.emit(Emit::new("chat", "connect")).await.map(drop), ErrorKind::ReservedEvent),
        (siod.unsubscribe(7).await, ErrorKind::UnknownSubscription),
        (siod.set_auth("chat", 5).await, ErrorKind::InvalidParams),
        (siod.open(Open::new("chat", "http://other/")).await.map(drop), ErrorKind::ConnectionExists),
        (siod.call("no such method", Empty {}).await.map(|(): ()| ()), ErrorKind::UnknownMethod),
    ] {
        assert_eq!(result.map_err(kind), Err(Some(expected)));
    }
    siod.set_auth("chat", serde_json::json!({"token": "abc"})).await.expect("an object");
    let snapshot = siod.disconnect("chat").await.expect("it is one already");
    assert!(!snapshot.active);
    let subscribed = siod.subscribe(Subscribe::to("chat")).await.expect("it may");
    siod.unsubscribe(subscribed.subscription).await.expect("it was there");
    let status = siod.status_of("chat").await.expect("it may");
    assert_eq!((status.connections.len(), status.consumers.expect("for control").len()), (1, 1));
    let reloaded = siod.reload().await.expect("it loads");
    assert_eq!(reloaded.unchanged, ["chat"]);
    siod.close("chat").await.expect("it was there");
    assert!(siod.list().await.expect("it may").is_empty());
}

#[derive(serde::Serialize)]
struct Empty {}
