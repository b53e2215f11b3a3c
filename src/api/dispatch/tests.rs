//! A consumer's requests against a hub whose Managers reach nobody.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::hub::options::ConnectionOptions;
use crate::hub::subscription::Pattern;
use crate::hub::{Identity, Lag, Opener, Rights, Role, Rules};

/// A consumer with the role `control` on a hub with the connection `chat`.
async fn attached() -> (Arc<Hub>, Arc<Consumer>, Dispatcher) {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let limits = hub::Settings { stall: Duration::from_secs(1), max_consumers: 10 };
    let hub = Arc::new(Hub::new(limits, tasks.clone(), stop));
    let options: ConnectionOptions =
        serde_json::from_str(r#"{"url":"http://127.0.0.1:1","auto_connect":false}"#).unwrap();
    let settings = options.resolve(&ConnectionOptions::default()).unwrap();
    hub.open(hub.turn().await, "chat", settings, Opener::Config).await.unwrap();
    let defaults = ConnectionOptions::default();
    let settings = super::super::Settings {
        max_line: 1000,
        lag: Lag::Skip,
        defaults,
        rules: Rules::new(Vec::new(), 900),
    };
    let context = Context {
        hub: Arc::clone(&hub),
        settings: Mutex::new(Arc::new(settings)),
        config_error: Mutex::default(),
        reloader: Reloader::new().0,
        started: Instant::now(),
        started_at: Time::now(),
        tasks,
    };
    let identity = Identity { pid: None, uid: 1000, gid: 1000 };
    let consumer = hub.attach(identity, Rights::everywhere(Role::Control), Lag::Skip).unwrap();
    let dispatcher = Dispatcher::new(Arc::new(context), Arc::clone(&consumer), 1000);
    (hub, consumer, dispatcher)
}

/// What a consumer gets that asks for this; after that other rights hold, and only then has it its turn.
async fn after_losing_its_rights(request: &str, rights: Rights) -> String {
    let (hub, consumer, mut dispatcher) = attached().await;
    let turn = hub.turn().await;
    let changing = async {
        // The other half waits for the turn by now.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        hub.set_rights(&consumer, rights);
        drop(turn);
    };
    tokio::join!(biased; dispatcher.handle(Line::Text(request.as_bytes())), changing);
    assert_eq!(hub.connection_count(), 1, "{request}");
    let mut out = Vec::new();
    consumer.take(&mut out);
    String::from_utf8(out.concat()).unwrap()
}

#[tokio::test]
async fn an_emit_goes_the_way_of_the_one_before_until_something_is_withdrawn() {
    const EMIT: &[u8] = br#"{"id":7,"method":"emit","params":{"connection":"chat","event":"e"}}"#;
    async fn emit(consumer: &Consumer, dispatcher: &mut Dispatcher) -> (bool, String) {
        let at_once = dispatcher.emit_at_once(EMIT).is_some();
        if !at_once {
            dispatcher.handle(Line::Text(EMIT)).await;
        }
        consumer.inbox().all_answered().await;
        let mut out = Vec::new();
        consumer.take(&mut out);
        let answer = String::from_utf8(out.concat()).unwrap();
        let word = ["buffered", "forbidden", "unknown_connection", "shutting_down"]
            .into_iter()
            .find(|word| answer.contains(word));
        (at_once, word.unwrap_or(&answer).to_owned())
    }
    let (hub, consumer, mut dispatcher) = attached().await;
    let mut expect = async |at_once, word: &str| {
        assert_eq!(emit(&consumer, &mut dispatcher).await, (at_once, word.to_owned()));
    };
    expect(false, "buffered").await;
    expect(true, "buffered").await;
    let others = Rights { role: Role::Control, connections: [Pattern::new("other*")].into() };
    for (rights, word) in [(Rights::everywhere(Role::Read), "forbidden"), (others, "unknown_connection")] {
        hub.set_rights(&consumer, rights);
        expect(false, word).await;
        expect(false, word).await;
        hub.set_rights(&consumer, Rights::everywhere(Role::Write));
        expect(false, "buffered").await;
        expect(true, "buffered").await;
    }
    hub.close(hub.turn().await, "chat").await.unwrap();
    expect(false, "unknown_connection").await;
    hub.settle().await;
    expect(false, "shutting_down").await;
}

#[tokio::test]
async fn rights_that_are_lost_while_waiting_for_the_turn_are_lost() {
    let open = r#"{"id":1,"method":"open","params":{"name":"lobby","url":"http://127.0.0.1:1"}}"#;
    let close = r#"{"id":1,"method":"close","params":{"connection":"chat"}}"#;
    let others = |role| Rights { role, connections: [Pattern::new("other*")].into() };
    for (request, rights, kind) in [
        (open, Rights::everywhere(Role::Write), "forbidden"),
        (open, others(Role::Control), "forbidden"),
        (close, Rights::everywhere(Role::Write), "forbidden"),
        (close, others(Role::Control), "unknown_connection"),
    ] {
        let said = after_losing_its_rights(request, rights.clone()).await;
        assert!(said.contains(&format!(r#"{{"kind":"{kind}"}}"#)), "{request} {rights:?}: {said}");
    }
}
