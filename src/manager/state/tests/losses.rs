//! From connected to lost: reasons, what they settle, what follows.

use super::*;

#[test]
fn every_disconnect_has_its_reason_and_its_sequel() {
    let rows: [(Blow, &str, &str, bool); 12] = [
        (
            |world| world.hears("41"),
            "/ disconnect io server disconnect, inactive",
            "[close the transport after nothing]",
            false,
        ),
        (
            |world| world.disconnect(ROOT),
            "/ disconnect io client disconnect, inactive",
            "[close the transport after 41]",
            false,
        ),
        (|world| world.at(45), "/ disconnect ping timeout", "[close the transport after nothing]", true),
        (
            World::is_closed,
            "/ disconnect transport close: websocket connection closed",
            "[drop the transport]",
            true,
        ),
        (
            |world| {
                let details = Details { code: Some(1001), ..Details::new("websocket connection closed") };
                world.state.handle_lost(world.now, true, details);
                world.out()
            },
            "/ disconnect transport close: websocket connection closed 1001",
            "[drop the transport]",
            true,
        ),
        (
            |world| world.hears("1"),
            "/ disconnect transport close: transport closed by the server",
            "[drop the transport]",
            true,
        ),
        (
            |world| world.fails("websocket error"),
            "/ disconnect transport error: websocket error",
            "[drop the transport]",
            true,
        ),
        (
            |world| {
                let details = Details { code: Some(400), ..Details::new("xhr poll error") };
                world.state.handle_lost(world.now, false, details);
                world.out()
            },
            "/ disconnect transport error: xhr poll error 400",
            "[drop the transport]",
            true,
        ),
        (
            |world| world.hears("49"),
            "/ disconnect parse error: unknown packet type 9",
            "[close the transport after nothing]",
            true,
        ),
        (
            |world| world.hears("bAQ=="),
            "/ disconnect parse error: got binary data when not reconstructing a packet",
            "[close the transport after nothing]",
            true,
        ),
        (
            |world| {
                world.hears(r#"451-["e",{"_placeholder":true,"num":0}]"#);
                world.hears(r#"42["e"]"#)
            },
            "/ disconnect parse error: got plaintext data when reconstructing a packet",
            "[close the transport after nothing]",
            true,
        ),
        (
            |world| world.hears(r#"4511-["e"]"#),
            "/ disconnect parse error: too many attachments",
            "[close the transport after nothing]",
            true,
        ),
    ];
    for (cause, reason, sequel, again) in rows {
        let mut world = World::connected();
        world.emit(ROOT, "ask?");
        assert_eq!(world.out(), [r#"> 420["ask?"]"#]);
        assert_eq!(cause(&mut world), [reason, "ask? failed: Disconnected", sequel]);

        let status = world.state.status(ROOT);
        assert_eq!((status.active, status.id, status.transport), (again, None, None), "{reason}");
        if again {
            assert_eq!(status.state, ConnectionState::Reconnecting, "{reason}");
            assert_eq!(world.state.poll_timeout(), Some(world.now + Duration::from_secs(1)), "{reason}");
            let next = world.now - world.start + Duration::from_secs(1);
            assert_eq!(world.at(next.as_secs()), ["/ reconnect_attempt 1", "[open websocket]"]);
            assert_eq!(world.opens(), ["/ reconnect 1", "[opened S]", "> 40"], "{reason}");
            assert_eq!(world.hears(r#"40{"sid":"B"}"#), ["/ connect B websocket"], "{reason}");
        } else {
            assert_eq!(status.state, ConnectionState::Disconnected, "{reason}");
            assert_eq!(world.at(10_000), NOTHING, "{reason}");
        }
    }
}

#[test]
fn half_a_packet_does_not_outlive_its_session() {
    let mut world = World::connected();
    assert_eq!(world.hears(r#"451-["e",{"_placeholder":true,"num":0}]"#), NOTHING);
    world.is_closed();
    world.at(1);
    world.opens();
    assert_eq!(world.hears(r#"40{"sid":"B"}"#), ["/ connect B websocket"]);
    assert_eq!(world.hears(r#"42["whole"]"#), [r#"/ event "whole"()"#]);
}

#[test]
fn events_come_in_order_with_their_attachments() {
    let mut world = World::connected();
    assert_eq!(world.hears(r#"451-7["a",{"_placeholder":true,"num":0}]"#), NOTHING);
    assert_eq!(world.hears("bAQI="), [r#"/ event "a"({"_placeholder":true,"num":0}) ?1"#]);
    assert_eq!(world.hears(r#"42["b",1.50]"#), [r#"/ event "b"(1.50)"#]);
    world.state.answer(world.now, ROOT, 1, Args::from_array("[1]".into()).unwrap()).unwrap();
    assert_eq!(world.out(), ["> 437[1]"]);
    assert_eq!(world.state.answer(world.now, ROOT, 1, Args::default()), Err(AnswerError::Unknown));
    assert_eq!(
        world.state.answer(world.now, 9, 1, Args::default()),
        Err(AnswerError::Unknown),
        "no such socket"
    );
}

#[test]
fn what_was_emitted_meanwhile_follows_the_next_connect() {
    let mut world = World::connected();
    assert_eq!(world.emit(ROOT, "1"), Sent::Sent);
    world.out();
    world.is_closed();
    assert_eq!(world.emit(ROOT, "2"), Sent::Buffered);
    world.at(1);
    assert_eq!(world.emit(ROOT, "3?"), Sent::Buffered);
    world.opens();
    assert_eq!(world.emit(ROOT, "4"), Sent::Buffered);
    assert_eq!(
        world.hears(r#"40{"sid":"B"}"#),
        ["/ connect B websocket", r#"> 42["2"]"#, r#"> 420["3?"]"#, r#"> 42["4"]"#]
    );
    assert_eq!(world.emit(ROOT, "5"), Sent::Sent);
    assert_eq!(world.out(), [r#"> 42["5"]"#]);
}

#[test]
fn an_emit_after_the_heartbeats_deadline_is_buffered() {
    let mut world = World::connected();
    // The machine slept: no timer has fired yet.
    world.now = world.start + Duration::from_secs(45);
    assert_eq!(world.emit(ROOT, "e"), Sent::Buffered);
    assert_eq!(world.out(), ["/ disconnect ping timeout", "[close the transport after nothing]"]);
}

#[test]
fn acks_time_out_in_every_phase() {
    let asking = || Emit { ack: Some(Some(Duration::from_secs(2))), ..event("ask?") };
    let mut world = World::connected();
    world.emit_as(ROOT, asking()).unwrap();
    world.out();
    assert_eq!(world.due(), Some(2000));
    assert_eq!(world.at(2), ["ask? failed: Timeout"]);

    world.is_closed();
    world.at(3);
    world.emit_as(ROOT, asking()).unwrap();
    assert_eq!(world.at(5), ["ask? failed: Timeout"], "while an attempt goes on");
    world.fails("websocket error");
    world.emit_as(ROOT, asking()).unwrap();
    assert_eq!(world.at(7), ["/ reconnect_attempt 2", "ask? failed: Timeout", "[open websocket]"]);
    world.disconnect(ROOT);
    world.emit_as(ROOT, asking()).unwrap();
    assert_eq!(world.at(9), ["ask? failed: Timeout"], "while nothing goes on");
    assert_eq!(world.state.socket(ROOT).unwrap().buffered(), 0);
}

#[test]
fn the_heartbeat_rests_while_the_driver_does_not_read() {
    let mut world = World::connected();
    world.at(40);
    world.state.hold(world.now);
    assert_eq!(world.at(300), NOTHING);
    world.state.release(world.now);
    assert_eq!(world.at(304), NOTHING);
    assert_eq!(world.at(305), ["/ disconnect ping timeout", "[close the transport after nothing]"]);
}

#[test]
fn a_recovered_session_says_so() {
    let mut world = World::new();
    world.connect(ROOT);
    world.opens();
    world.hears(r#"40{"sid":"A","pid":"P"}"#);
    world.hears(r#"42["e","offset"]"#);
    world.is_closed();
    world.at(1);
    assert_eq!(world.opens(), ["/ reconnect 1", "[opened S]", r#"> 40{"pid":"P","offset":"offset"}"#]);
    assert_eq!(world.hears(r#"42["missed","offset 2"]"#), NOTHING);
    assert_eq!(
        world.hears(r#"40{"sid":"A","pid":"P"}"#),
        [r#"/ event "missed"("offset 2")"#, "/ connect A websocket recovered"]
    );
    assert!(world.state.status(ROOT).recovered);
    world.is_closed();
    assert!(!world.state.status(ROOT).recovered, "only while connected");
}

#[test]
fn a_fence_comes_after_what_was_said_before_it() {
    let mut world = World::connected();
    world.state.disconnect(world.now, ROOT);
    world.state.fence(ROOT, "disconnect".into());
    world.state.connect(world.now, ROOT);
    assert_eq!(
        world.out(),
        [
            "/ disconnect io client disconnect, inactive",
            "done disconnect",
            "[close the transport after 41]",
            "[open websocket]",
        ]
    );
}

#[test]
fn nothing_is_heard_or_sent_after_the_end() {
    let mut world = World::connected();
    world.disconnect(ROOT);
    for packet in [OPEN, "2", r#"42["late"]"#, r#"40{"sid":"C"}"#, "1"] {
        assert_eq!(world.hears(packet), NOTHING, "{packet}");
    }
    assert_eq!(world.fails("late"), NOTHING);
    assert_eq!(world.emit(ROOT, "e"), Sent::Buffered);
    assert_eq!(world.out(), NOTHING);
}

#[test]
fn what_no_server_may_send_ends_the_session() {
    let half = "1".repeat(800_000);
    let placeholders = format!(r#"451-["e"{}]"#, r#",{"_placeholder":true,"num":0}"#.repeat(3));
    let large = "packet too large: text and attachments exceed 1048576 bytes";
    for (messages, told) in [
        (vec!["459999-[\"e\"]".into()], "parse error: too many attachments"),
        (vec!["4599999999999999999999999-[\"e\"]".into()], "parse error: too many attachments"),
        (
            vec![r#"451-["e",{"_placeholder":true,"num":0}]"#.into(), "bAA==".into(), "bAA==".into()],
            "parse error: got binary data when not reconstructing a packet",
        ),
        // Two halves of what is too large, and one part that is used three times over.
        (vec![r#"452-["e"]"#.into(), format!("b{half}"), format!("b{half}")], large),
        (vec![placeholders, format!("b{half}")], large),
    ] {
        let mut world = World::connected();
        let told = if told == large { format!("transport error: {large}") } else { told.to_owned() };
        let mut out = Vec::new();
        for message in &messages {
            out = world.hears(message);
        }
        assert_eq!(out, [format!("/ disconnect {told}").as_str(), "[close the transport after nothing]"]);
    }
}

#[test]
fn what_the_server_takes_is_what_its_latest_session_takes() {
    let open = |max: usize| {
        format!(r#"0{{"sid":"S","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":{max}}}"#)
    };
    let mut world = World::new();
    world.connect(ROOT);
    world.hears(&open(12));
    world.hears(r#"40{"sid":"A"}"#);
    assert!(matches!(world.emit_as(ROOT, event("1234567")), Err(EmitError::TooLarge(_))), "13 bytes");
    assert_eq!(world.emit(ROOT, "123456"), Sent::Sent);
    world.out();
    world.is_closed();
    assert!(
        matches!(world.emit_as(ROOT, event("1234567")), Err(EmitError::TooLarge(_))),
        "nothing newer is known"
    );
    assert_eq!(world.emit(ROOT, "123456"), Sent::Buffered);
    assert_eq!(world.emit(ROOT, "1"), Sent::Buffered);
    world.at(1);
    world.hears(&open(11));
    let lost = "/ lost \"123456\": a packet of 12 bytes is more than the server takes: 11 (its maxPayload); it was not sent";
    assert_eq!(world.hears(r#"40{"sid":"B"}"#), [lost, "/ connect B websocket", r#"> 42["1"]"#]);
    // A socket that comes later knows it too, and a server that names no limit has none.
    assert_eq!(world.connect(CHAT), ["> 40/chat,"]);
    world.remove(CHAT);
    world.state.add(CHAT, socket_settings("/chat"), Returns::default(), 1);
    assert!(matches!(world.emit_as(CHAT, event("1")), Err(EmitError::TooLarge(_))), "with the namespace");
    world.is_closed();
    world.at(3);
    world.opens();
    assert_eq!(world.emit(CHAT, "1"), Sent::Buffered);
}

#[test]
fn an_auth_object_too_large_for_the_server_is_a_failure_of_the_source() {
    let mut world = World::new();
    world.auth = None;
    world.connect(ROOT);
    world.hears(r#"0{"sid":"S","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":10}"#);
    let error = "the auth object is too large: a packet of 15 bytes is more than the server takes: 10 (its maxPayload); it was not sent";
    assert_eq!(world.auth(ROOT, Ok(Some(r#"{"token":"1"}"#))), [format!("/ connect_error (auth) {error}")]);
    assert_eq!(world.at(1), ["[authenticate 1]"]);
    assert_eq!(world.auth(ROOT, Ok(Some("{}"))), ["> 40{}"]);
}
