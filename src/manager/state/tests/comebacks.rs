//! Sockets that come back by themselves after the server sent them away.

use super::*;

fn world(returns: Returns) -> World {
    let mut world = World::new();
    world.state.add(3, socket_settings("/loyal"), returns, 1);
    world
}

const REFUSED: Returns = Returns { refused: true, kicked: false };
const KICKED: Returns = Returns { refused: false, kicked: true };

#[test]
fn one_that_was_refused_comes_back_after_the_longest_delay() {
    let mut world = world(REFUSED);
    world.connect(3);
    assert_eq!(world.opens(), ["[opened S]", "> 40/loyal,"]);
    assert_eq!(
        world.hears(r#"44/loyal,{"message":"no"}"#),
        ["/loyal connect_error (server) no", "[close the transport after nothing]"]
    );
    let status = world.state.status(3);
    assert_eq!((status.state, status.active), (ConnectionState::Reconnecting, true));
    assert_eq!(status.next_attempt, Some(world.start + Duration::from_secs(5)));
    assert_eq!(world.due(), Some(5000));
    assert_eq!(world.at(4), NOTHING);
    assert_eq!(world.at(5), ["[open websocket]"]);
    assert_eq!(world.opens(), ["[opened S]", "> 40/loyal,"]);
    world.hears(r#"44/loyal,{"message":"no"}"#);
    assert_eq!(world.due(), Some(10_000), "never faster");
    world.at(10);
    world.opens();
    assert_eq!(world.hears(r#"40/loyal,{"sid":"L"}"#), ["/loyal connect L websocket"]);
    // A kick is another matter.
    assert_eq!(
        world.hears("41/loyal,"),
        ["/loyal disconnect io server disconnect, inactive", "[close the transport after nothing]"]
    );
    assert_eq!(world.due(), None);
}

#[test]
fn one_that_was_kicked_comes_back_while_others_go_on() {
    let mut world = world(KICKED);
    world.connect(ROOT);
    world.connect(3);
    world.opens();
    world.hears(r#"40{"sid":"A"}"#);
    world.hears(r#"40/loyal,{"sid":"L"}"#);
    assert_eq!(world.hears("41/loyal,"), ["/loyal disconnect io server disconnect"]);
    assert_eq!(world.state.status(3).state, ConnectionState::Reconnecting);
    assert_eq!(world.emit(3, "later"), Sent::Buffered);
    assert_eq!(world.at(5), ["> 40/loyal,"]);
    assert_eq!(
        world.hears(r#"40/loyal,{"sid":"M"}"#),
        ["/loyal connect M websocket", r#"> 42/loyal,["later"]"#]
    );
    // A refusal is final for this one.
    world.disconnect(3);
    world.connect(3);
    assert_eq!(world.hears(r#"44/loyal,{"message":"no"}"#), ["/loyal connect_error (server) no, inactive"]);
    assert_eq!(world.state.status(3).next_attempt, None);
}

#[test]
fn the_wait_ends_with_a_connect_or_a_disconnect() {
    let mut world = world(REFUSED);
    world.connect(3);
    world.opens();
    world.hears(r#"44/loyal,{"message":"no"}"#);
    world.at(1);
    assert_eq!(world.connect(3), ["[open websocket]"], "whoever asks need not wait");
    assert_eq!(world.state.status(3).state, ConnectionState::Connecting);
    world.opens();
    world.hears(r#"44/loyal,{"message":"no"}"#);
    assert_eq!(world.due(), Some(6000));
    assert_eq!(world.disconnect(3), NOTHING);
    assert_eq!((world.due(), world.state.status(3).active), (None, false));

    world.connect(3);
    world.opens();
    world.hears(r#"44/loyal,{"message":"no"}"#);
    assert_eq!(world.remove(3), NOTHING);
    assert_eq!(world.due(), None);
}

#[test]
fn a_comeback_to_a_server_that_is_gone_goes_the_usual_way() {
    let mut world = world(REFUSED);
    world.connect(3);
    world.opens();
    world.hears(r#"44/loyal,{"message":"no"}"#);
    world.at(5);
    assert_eq!(
        world.fails("websocket error"),
        ["/loyal connect_error (transport) websocket error", "[drop the transport]"]
    );
    assert_eq!(world.due(), Some(6000));
    assert_eq!(world.at(6), ["/loyal reconnect_attempt 1", "[open websocket]"]);
}

#[test]
fn delays_are_never_shorter_than_the_longest_and_spread_upwards() {
    let settings =
        backoff::Settings { min: Duration::from_secs(1), max: Duration::from_secs(4), jitter: 0.5 };
    for (r, ms) in [(0.0, 4000), (0.5, 5000), (0.999, 5998), (7.0, 6000)] {
        assert_eq!(settings.patient(r).as_millis(), ms, "{r}");
    }
    let endless = backoff::Settings { min: Duration::MAX, max: Duration::MAX, jitter: 1.0 };
    assert_eq!(endless.patient(0.9), Duration::MAX);
}
