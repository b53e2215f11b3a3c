//! From nothing to connected: attempts, their failures, and the waits between them.

use super::*;

#[test]
fn the_first_attempt_connects() {
    let mut world = World::new();
    assert_eq!(world.state.status(ROOT).state, ConnectionState::Disconnected);
    assert_eq!(world.connect(ROOT), ["[open websocket]"]);
    assert_eq!(world.state.status(ROOT).state, ConnectionState::Connecting);
    assert_eq!(world.due(), Some(20_000));
    assert_eq!(world.connect(ROOT), NOTHING, "it is active already");
    assert_eq!(world.opens(), ["[opened S]", "> 40"]);
    assert_eq!(world.hears(r#"40{"sid":"A"}"#), ["/ connect A websocket"]);

    let status = world.state.status(ROOT);
    assert_eq!((status.state, status.attempt), (ConnectionState::Connected, 0));
    assert_eq!(status.id.as_deref(), Some("A"));
    assert_eq!(status.transport, Some(TransportKind::WebSocket));
    assert_eq!(world.connect(ROOT), NOTHING);
}

#[test]
fn every_failure_to_connect_has_its_message_and_its_sequel() {
    let old = format!("/ connect_error (server) {}, inactive", socket::OLD_SERVER);
    let retried = |message: &str| vec![format!("/ connect_error (transport) {message}")];
    let dropped = |message: &str| [retried(message), vec!["[drop the transport]".to_owned()]].concat();
    let refused = |line: &str| vec![line.to_owned(), "[close the transport after nothing]".to_owned()];
    let opened: Scene = |world| drop(world.opens());
    let unopened: Scene = |_| {};
    let rows: Vec<(Scene, Blow, Vec<String>, bool)> = vec![
        (unopened, |world| world.fails("xhr poll error"), dropped("xhr poll error"), true),
        (unopened, |world| world.fails("xhr post error"), dropped("xhr post error"), true),
        (unopened, |world| world.fails("websocket error"), dropped("websocket error"), true),
        (unopened, World::is_closed, dropped("websocket connection closed"), true),
        (unopened, |world| world.at(20), dropped("timeout"), true),
        (unopened, |world| world.hears("2"), dropped("server error"), true),
        (unopened, |world| world.hears("0{}"), dropped("server error"), true),
        (opened, |world| world.fails("xhr post error"), dropped("xhr post error"), true),
        (opened, World::is_closed, dropped("websocket connection closed"), true),
        (opened, |world| world.hears("1"), dropped("transport closed by the server"), true),
        (
            opened,
            |world| world.hears(r#"44{"message":"no","data":{"code":1}}"#),
            refused(r#"/ connect_error (server) no {"code":1}, inactive"#),
            false,
        ),
        (
            opened,
            |world| world.hears(r#"44"Unable to connect""#),
            refused("/ connect_error (server) Unable to connect, inactive"),
            false,
        ),
        (opened, |world| world.hears("44"), refused("/ connect_error (server) , inactive"), false),
        (opened, |world| world.hears("40{}"), refused(&old), false),
        (
            opened,
            |world| world.hears("49"),
            [retried("unknown packet type 9"), vec!["[close the transport after nothing]".to_owned()]]
                .concat(),
            true,
        ),
    ];
    for (before, cause, heard, again) in rows {
        let mut world = World::new();
        world.connect(ROOT);
        before(&mut world);
        assert_eq!(cause(&mut world), heard);
        let status = world.state.status(ROOT);
        assert_eq!(status.active, again, "{heard:?}");
        if again {
            assert_eq!((status.state, status.attempt), (ConnectionState::Reconnecting, 1), "{heard:?}");
            assert_eq!(status.next_attempt, Some(world.now + Duration::from_secs(1)), "{heard:?}");
        } else {
            assert_eq!((status.state, status.attempt), (ConnectionState::Disconnected, 0), "{heard:?}");
            assert_eq!(world.due(), None, "{heard:?}");
            assert_eq!(world.connect(ROOT), ["[open websocket]"], "{heard:?}");
        }
    }
}

#[test]
fn attempts_go_on_until_one_succeeds() {
    let mut world = World::new();
    world.connect(ROOT);
    assert_eq!(
        world.fails("websocket error"),
        ["/ connect_error (transport) websocket error", "[drop the transport]"]
    );
    assert_eq!(world.due(), Some(1000));
    assert_eq!(world.at(1), ["/ reconnect_attempt 1", "[open websocket]"]);
    assert_eq!(
        world.fails("websocket error"),
        [
            "/ connect_error (transport) websocket error",
            "/ reconnect_error 1 websocket error",
            "[drop the transport]",
        ]
    );
    assert_eq!(world.due(), Some(3000));
    assert_eq!(world.at(3), ["/ reconnect_attempt 2", "[open websocket]"]);
    assert_eq!(world.opens(), ["/ reconnect 2", "[opened S]", "> 40"]);
    assert_eq!(world.state.status(ROOT).attempt, 0);
    assert_eq!(world.state.status(ROOT).state, ConnectionState::Reconnecting);
    assert_eq!(world.hears(r#"40{"sid":"A"}"#), ["/ connect A websocket"]);
}

#[test]
fn the_last_attempt_says_so() {
    let mut world = World::with(Settings { reconnection_attempts: Some(2), ..settings() });
    world.connect(ROOT);
    world.fails("websocket error");
    world.at(1);
    world.fails("websocket error");
    world.at(3);
    assert_eq!(
        world.fails("websocket error"),
        [
            "/ connect_error (transport) websocket error",
            "/ reconnect_error 2 websocket error",
            "/ reconnect_failed 2, inactive",
            "[drop the transport]",
        ]
    );
    assert_eq!(world.due(), None);
    assert_eq!(world.connect(ROOT), ["[open websocket]"], "connect starts over");
    world.fails("websocket error");
    assert_eq!(world.due(), Some(4000), "with the first delay");
    assert_eq!(world.at(4), ["/ reconnect_attempt 1", "[open websocket]"]);
}

#[test]
fn without_reconnection_the_first_failure_is_the_last() {
    let without = || Settings { reconnection: false, ..settings() };
    let mut world = World::with(without());
    world.connect(ROOT);
    assert_eq!(
        world.fails("websocket error"),
        ["/ connect_error (transport) websocket error, inactive", "[drop the transport]"]
    );
    assert_eq!(world.due(), None);
    assert_eq!(world.connect(ROOT), ["[open websocket]"]);
    world.opens();
    assert_eq!(
        world.is_closed(),
        ["/ connect_error (transport) websocket connection closed, inactive", "[drop the transport]"]
    );

    // The auth object is still being fetched.
    world.auth = None;
    world.connect(ROOT);
    assert_eq!(world.opens(), ["[opened S]", "[authenticate 1]"]);
    assert_eq!(
        world.is_closed(),
        ["/ connect_error (transport) websocket connection closed, inactive", "[drop the transport]"]
    );

    let mut world = World::connected_with(without());
    world.emit(ROOT, "ask?");
    world.out();
    assert_eq!(
        world.is_closed(),
        [
            "/ disconnect transport close: websocket connection closed, inactive",
            "ask? failed: Disconnected",
            "[drop the transport]",
        ]
    );
    assert_eq!((world.due(), world.state.status(ROOT).active), (None, false));
}

#[test]
fn an_outage_of_any_length_is_sat_out() {
    const HOUR: Duration = Duration::from_hours(1);
    for (outage, max) in [(HOUR, 5), (365 * 24 * HOUR, 600)] {
        let max = Duration::from_secs(max);
        let min = Duration::from_secs(1);
        let mut world =
            World::with(Settings { backoff: backoff::Settings { min, max, jitter: 0.5 }, ..settings() });
        let mut attempt = 0;
        world.connect(ROOT);
        world.fails("websocket error");
        while world.now < world.start + outage {
            attempt += 1;
            let status = world.state.status(ROOT);
            assert_eq!((status.state, status.attempt), (ConnectionState::Reconnecting, attempt));
            let until = world.state.poll_timeout().unwrap();
            assert_eq!(status.next_attempt, Some(until));
            let base = min.saturating_mul(1 << (attempt - 1).min(20)).min(max);
            let delay = until - world.now;
            assert!(delay >= base / 2 && delay <= (base * 3 / 2).min(max), "{delay:?} before {attempt}");

            world.now = until;
            world.state.handle_timeout(until);
            assert_eq!(world.out(), [format!("/ reconnect_attempt {attempt}"), "[open websocket]".into()]);
            world.fails("websocket error");
        }
        world.now = world.state.poll_timeout().unwrap();
        world.state.handle_timeout(world.now);
        world.out();
        assert_eq!(world.opens()[0], format!("/ reconnect {}", attempt + 1));
        assert_eq!(world.hears(r#"40{"sid":"A"}"#), ["/ connect A websocket"]);
    }
}

#[test]
fn delays_differ_from_one_manager_to_the_next() {
    let delays = |seed| {
        let backoff = backoff::Settings { jitter: 0.5, ..settings().backoff };
        let mut world = World::new();
        world.state = State::new(Settings { backoff, ..settings() }, Arc::default(), seed);
        world.state.add(ROOT, socket_settings("/"), Returns::default(), 1);
        world.connect(ROOT);
        world.fails("websocket error");
        world.due()
    };
    assert_eq!(delays(1), delays(1));
    assert!((2..10).any(|seed| delays(seed) != delays(1)));
}

#[test]
fn the_delay_starts_over_only_after_a_stable_while() {
    for (up, next) in [(0, 4000), (9, 4000), (10, 1000), (30, 1000)] {
        let mut world = World::new();
        world.connect(ROOT);
        world.fails("websocket error");
        world.at(1);
        world.fails("websocket error");
        world.at(3);
        world.opens();
        world.hears(r#"40{"sid":"A"}"#);
        world.at(3 + up);
        assert_eq!(
            world.is_closed(),
            ["/ disconnect transport close: websocket connection closed", "[drop the transport]"]
        );
        assert_eq!(world.due(), Some(u128::from(3 + up) * 1000 + next), "up for {up} s");
        assert_eq!(world.state.status(ROOT).attempt, 1, "attempts start over at every success");
    }
}

#[test]
fn connecting_during_a_wait_does_not_hurry() {
    let mut world = World::new();
    world.connect(ROOT);
    world.fails("websocket error");
    assert_eq!(world.connect(ROOT), NOTHING);
    assert_eq!(world.connect(CHAT), NOTHING);
    assert_eq!(world.due(), Some(1000));
    assert_eq!(world.at(1), ["/ reconnect_attempt 1", "/chat reconnect_attempt 1", "[open websocket]"]);
    assert_eq!(world.opens(), ["/ reconnect 1", "/chat reconnect 1", "[opened S]", "> 40", "> 40/chat,"]);
}

#[test]
fn every_transport_is_tried_within_one_attempt() {
    let settings =
        || Settings { transports: vec![TransportKind::WebSocket, TransportKind::Polling], ..settings() };
    let mut world = World::with(settings());
    assert_eq!(world.connect(ROOT), ["[open websocket]"]);
    world.at(5);
    assert_eq!(world.fails("websocket error"), ["[drop the transport]", "[open polling]"]);
    assert_eq!(world.due(), Some(20_000), "one time limit for both");
    assert_eq!(
        world.fails("xhr poll error"),
        ["/ connect_error (transport) xhr poll error", "[drop the transport]"]
    );
    assert_eq!(world.at(6), ["/ reconnect_attempt 1", "[open websocket]"], "the next one begins afresh");
    assert_eq!(
        world.at(26),
        ["/ connect_error (transport) timeout", "/ reconnect_error 1 timeout", "[drop the transport]"],
        "no time is left for another"
    );

    let mut world = World::with(Settings { try_all_transports: false, ..settings() });
    world.connect(ROOT);
    assert_eq!(
        world.fails("websocket error"),
        ["/ connect_error (transport) websocket error", "[drop the transport]"]
    );
}

#[test]
fn an_unanswered_connect_ends_a_session_that_serves_nobody_else() {
    let mut world = World::new();
    world.connect(ROOT);
    world.at(3);
    world.opens();
    assert_eq!(world.due(), Some(23_000));
    assert_eq!(world.at(23), ["/ connect_error (transport) timeout", "[close the transport after nothing]"]);
    assert_eq!(world.due(), Some(24_000));
    assert_eq!(world.at(24), ["/ reconnect_attempt 1", "[open websocket]"]);
    assert_eq!(world.opens(), ["/ reconnect 1", "[opened S]", "> 40"]);
}

#[test]
fn an_unanswered_connect_leaves_a_session_that_serves_others() {
    for reconnection in [true, false] {
        let mut world = World::connected_with(Settings { reconnection, ..settings() });
        world.connect(CHAT);
        assert_eq!(world.at(20), ["/chat connect_error (transport) timeout"]);
        assert_eq!(world.state.status(CHAT).state, ConnectionState::Reconnecting);
        assert_eq!(world.at(40), ["/chat connect_error (transport) timeout"], "CONNECT is not repeated");
        world.hears("2");
        assert_eq!(world.hears(r#"40/chat,{"sid":"B"}"#), ["/chat connect B websocket"]);
        assert_eq!(world.state.status(ROOT).state, ConnectionState::Connected);
    }
}

#[test]
fn the_auth_object_goes_into_each_connect() {
    let mut world = World::new();
    world.auth = Some(Ok(Some(r#"{"token":1}"#)));
    world.connect(ROOT);
    assert_eq!(world.opens(), ["[opened S]", r#"> 40{"token":1}"#]);
    world.hears(r#"40{"sid":"A"}"#);
    world.auth = Some(Ok(Some(r#"{"token":2}"#)));
    world.is_closed();
    world.at(1);
    assert_eq!(world.opens(), ["/ reconnect 1", "[opened S]", r#"> 40{"token":2}"#]);
}

#[test]
fn auth_that_fails_is_tried_again_with_growing_delays() {
    let mut world = World::new();
    world.auth = Some(Err("auth_file /a: not there"));
    world.connect(ROOT);
    assert_eq!(world.opens(), ["[opened S]", "/ connect_error (auth) auth_file /a: not there"]);
    assert_eq!(world.state.status(ROOT).state, ConnectionState::Reconnecting);
    assert_eq!(world.state.status(ROOT).next_attempt, Some(world.start + Duration::from_secs(1)));
    for (seconds, due) in [(1, 3000), (3, 7000), (7, 12_000), (12, 17_000)] {
        assert_eq!(world.at(seconds), ["/ connect_error (auth) auth_file /a: not there"]);
        assert_eq!(world.due(), Some(due));
    }
    world.auth = Some(Ok(None));
    assert_eq!(world.at(17), ["> 40"]);
    assert_eq!(world.hears(r#"40{"sid":"A"}"#), ["/ connect A websocket"]);

    // Success starts the delays over.
    world.is_closed();
    world.at(18);
    world.auth = Some(Err("gone again"));
    world.opens();
    assert_eq!(world.due(), Some(19_000));
}

#[test]
fn auth_that_comes_too_late_is_not_used() {
    let mut world = World::new();
    world.auth = None;
    world.connect(ROOT);
    assert_eq!(world.opens(), ["[opened S]", "[authenticate 1]"]);
    world.disconnect(ROOT);
    assert_eq!(world.auth(ROOT, Ok(Some("{}"))), NOTHING, "it left");

    world.connect(ROOT);
    world.opens();
    world.is_closed();
    assert_eq!(world.auth(ROOT, Err("slow")), NOTHING, "the session is gone");
    world.at(1);
    assert_eq!(world.opens(), ["/ reconnect 1", "[opened S]", "[authenticate 1]"], "asked once each session");
    assert_eq!(world.auth(ROOT, Ok(None)), ["> 40"]);
    assert_eq!(world.auth(ROOT, Ok(None)), NOTHING);
}

#[test]
fn an_answer_to_an_earlier_question_for_auth_is_void() {
    let mut world = World::new();
    world.auth = None;
    world.connect(ROOT);
    world.opens();
    let first = world.question;
    world.is_closed();
    world.at(1);
    assert_eq!(world.opens(), ["/ reconnect 1", "[opened S]", "[authenticate 1]"]);
    assert_eq!(world.answer(first, ROOT, Ok(Some(r#"{"token":"old"}"#))), NOTHING);
    assert_eq!(world.auth(ROOT, Ok(Some(r#"{"token":"new"}"#))), [r#"> 40{"token":"new"}"#]);
}

#[test]
fn disconnecting_ends_every_phase_without_a_word_too_many() {
    let phases: [(&str, Scene, &[&str]); 7] = [
        ("stopped", |_| {}, &[]),
        ("opening", |world| drop(world.connect(ROOT)), &["[drop the transport]"]),
        (
            "waiting",
            |world| {
                world.connect(ROOT);
                world.fails("websocket error");
            },
            &[],
        ),
        (
            "authenticating",
            |world| {
                world.auth = None;
                world.connect(ROOT);
                world.opens();
            },
            &["[close the transport after nothing]"],
        ),
        (
            "waiting for auth",
            |world| {
                world.auth = Some(Err("no"));
                world.connect(ROOT);
                world.opens();
            },
            &["[close the transport after nothing]"],
        ),
        (
            "joining",
            |world| {
                world.connect(ROOT);
                world.opens();
            },
            &["[close the transport after nothing]"],
        ),
        (
            "connected",
            |world| {
                world.connect(ROOT);
                world.opens();
                world.hears(r#"40{"sid":"A"}"#);
            },
            &["/ disconnect io client disconnect, inactive", "[close the transport after 41]"],
        ),
    ];
    for (phase, enter, said) in phases {
        let mut world = World::new();
        enter(&mut world);
        assert_eq!(world.disconnect(ROOT), said, "{phase}");
        assert_eq!(world.state.status(ROOT).state, ConnectionState::Disconnected, "{phase}");
        assert_eq!(world.due(), None, "{phase}");
        assert_eq!(world.disconnect(ROOT), NOTHING, "{phase}");
        assert_eq!(world.at(1000), NOTHING, "{phase}");
        world.auth = Some(Ok(None));
        assert_eq!(world.connect(ROOT), ["[open websocket]"], "{phase}");
        assert_eq!(world.opens(), ["[opened S]", "> 40"], "{phase}");
    }
}

#[test]
fn a_server_that_asks_for_rest_gets_it() {
    let mut world = World::new();
    world.connect(ROOT);
    let busy = Details { retry_after: Some(Duration::from_secs(30)), ..Details::new("websocket error") };
    world.state.handle_lost(world.now, false, busy);
    world.out();
    assert_eq!(world.due(), Some(30_000));
    world.at(30);
    let soon = Details { retry_after: Some(Duration::from_secs(1)), ..Details::new("websocket error") };
    world.state.handle_lost(world.now, false, soon);
    world.out();
    assert_eq!(world.due(), Some(32_000), "the longer of both");
}

#[test]
fn managers_of_one_server_do_not_come_back_in_one_instant() {
    let pace = Arc::<Pace>::default();
    let start = Instant::now();
    let due = |port| {
        let mut settings = settings();
        settings.transport.port = port;
        let mut state = State::<String>::new(settings, Arc::clone(&pace), 7);
        state.add(ROOT, socket_settings("/"), Returns::default(), 1);
        state.connect(start, ROOT);
        state.handle_lost(start, false, Details::new("websocket error"));
        (state.poll_timeout().unwrap() - start).as_millis()
    };
    assert_eq!([due(1), due(1), due(2), due(1)], [1000, 1050, 1000, 1100]);
}

#[test]
fn while_the_driver_does_not_read_no_answer_is_late() {
    let mut world = World::new();
    world.connect(ROOT);
    world.state.hold(world.now);
    assert_eq!(world.at(20), NOTHING);
    assert_eq!(world.at(39), NOTHING);
    world.state.release(world.now);
    assert_eq!(world.due(), Some(59_000), "all of the wait is left");
    world.opens();
    world.state.hold(world.now);
    assert_eq!(world.at(59), NOTHING, "nor is the answer to CONNECT");
    world.state.release(world.now);
    assert_eq!(world.hears(r#"40{"sid":"A"}"#), ["/ connect A websocket"]);
}

#[test]
fn a_manager_that_broke_starts_afresh_and_says_so() {
    let mut world = World::both_connected();
    world.emit(ROOT, "ask?");
    world.out();
    world.state = world.state.afresh();
    world.state.add(ROOT, socket_settings("/"), Returns::default(), 5);
    world.state.add(CHAT, socket_settings("/chat"), Returns::default(), 5);
    world.state.resume(world.now, &[(ROOT, true), (CHAT, false)], &Details::new("internal error"));
    assert_eq!(
        world.out(),
        ["/ disconnect transport error: internal error", "/chat connect_error (transport) internal error",]
    );
    assert_eq!(world.due(), Some(1000));
    assert_eq!(world.at(1), ["/ reconnect_attempt 1", "/chat reconnect_attempt 1", "[open websocket]"]);
    assert_eq!(world.opens(), ["/ reconnect 1", "/chat reconnect 1", "[opened S]", "> 40", "> 40/chat,"]);
    world.hears(r#"40{"sid":"A"}"#);
    assert_eq!(world.hears(r#"420["q"]"#), [r#"/ event "q"() ?5"#], "numbers go on");

    // The delay goes on where it stood, so that a defect that shows at once is not met a thousand times a second.
    world.state = world.state.afresh();
    world.state.add(ROOT, socket_settings("/"), Returns::default(), 6);
    world.state.resume(world.now, &[(ROOT, true)], &Details::new("internal error"));
    world.out();
    assert_eq!(world.due(), Some(3000));
}
