//! Tests of the hub by itself: what programs see in moments that only a runtime which stands still can show.

use futures_util::FutureExt as _;

use super::options::ConnectionOptions;
use super::*;

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
        // The Manager's task has not had a turn yet.
        let opening = hub.open("chat", nowhere(true), Opener::Config);
        assert!(opening.now_or_never().is_none());
    }
    assert_eq!(["state", "active", "seq"].map(|member| shown(&hub, member)), ["\"connecting\"", "true", "1"]);

    let hub = self::hub();
    hub.open("chat", nowhere(false), Opener::Config).await.unwrap();
    assert_eq!(["state", "active"].map(|member| shown(&hub, member)), ["\"disconnected\"", "false"]);
}
