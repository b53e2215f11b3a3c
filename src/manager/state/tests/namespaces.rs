//! Several namespaces on one session, and their coming and going.

use super::*;

#[test]
fn namespaces_join_independently() {
    let mut world = World::new();
    world.connect(ROOT);
    assert_eq!(world.connect(CHAT), NOTHING, "one session for both");
    assert_eq!(world.opens(), ["[opened S]", "> 40", "> 40/chat,"]);
    assert_eq!(world.hears(r#"40/chat,{"sid":"B"}"#), ["/chat connect B websocket"]);
    assert_eq!(world.hears(r#"42/chat,["e"]"#), [r#"/chat event "e"()"#]);
    assert_eq!(world.emit(ROOT, "e"), Sent::Buffered);
    assert_eq!(world.emit(CHAT, "e"), Sent::Sent);
    assert_eq!(world.out(), [r#"> 42/chat,["e"]"#]);
    assert_eq!(world.hears(r#"40{"sid":"A"}"#), ["/ connect A websocket", r#"> 42["e"]"#]);
}

#[test]
fn one_that_ends_leaves_the_other_alone() {
    let rows: [(Blow, &[&str]); 3] = [
        (|world| world.hears("41/chat,"), &["/chat disconnect io server disconnect, inactive"]),
        (|world| world.disconnect(CHAT), &["/chat disconnect io client disconnect, inactive", "> 41/chat,"]),
        (
            |world| {
                world.disconnect(CHAT);
                world.connect(CHAT);
                world.hears(r#"44/chat,{"message":"no"}"#)
            },
            &["/chat connect_error (server) no, inactive"],
        ),
    ];
    for (end, said) in rows {
        let mut world = World::both_connected();
        world.emit(ROOT, "ask?");
        world.out();
        assert_eq!(end(&mut world), said);
        assert_eq!(world.state.status(CHAT).state, ConnectionState::Disconnected, "{said:?}");
        assert_eq!(world.hears("430[1]"), ["ask? answered 1"], "{said:?}");
        assert_eq!(world.hears("2"), ["> 3"], "{said:?}");
        assert_eq!(world.connect(CHAT), ["> 40/chat,"], "{said:?}: CONNECT on the same session");
        assert_eq!(world.hears(r#"40/chat,{"sid":"C"}"#), ["/chat connect C websocket"], "{said:?}");
    }
}

#[test]
fn a_loss_concerns_all_active_ones() {
    let mut world = World::both_connected();
    assert_eq!(
        world.fails("websocket error"),
        [
            "/ disconnect transport error: websocket error",
            "/chat disconnect transport error: websocket error",
            "[drop the transport]",
        ]
    );
    world.disconnect(CHAT);
    assert_eq!(world.at(1), ["/ reconnect_attempt 1", "[open websocket]"], "one left meanwhile");
    assert_eq!(world.opens(), ["/ reconnect 1", "[opened S]", "> 40"]);
}

#[test]
fn the_session_ends_with_the_last_one() {
    let mut world = World::both_connected();
    assert_eq!(world.disconnect(ROOT), ["/ disconnect io client disconnect, inactive", "> 41"]);
    assert_eq!(
        world.disconnect(CHAT),
        ["/chat disconnect io client disconnect, inactive", "[close the transport after 41/chat,]"]
    );

    let mut world = World::both_connected();
    world.hears("41");
    assert_eq!(
        world.hears("41/chat,"),
        ["/chat disconnect io server disconnect, inactive", "[close the transport after nothing]"]
    );
    assert_eq!(world.due(), None);
}

#[test]
fn what_is_queued_goes_before_the_last_goodbye() {
    let mut world = World::connected();
    world.emit(ROOT, "a");
    world.emit(ROOT, "b");
    world.state.disconnect(world.now, ROOT);
    assert_eq!(
        world.out(),
        ["/ disconnect io client disconnect, inactive", r#"[close the transport after 42["a"] 42["b"] 41]"#]
    );
}

#[test]
fn leaving_and_coming_back_asks_for_the_auth_object_anew() {
    let mut world = World::connected();
    world.auth = None;
    assert_eq!(world.connect(CHAT), ["[authenticate 2]"]);
    world.disconnect(CHAT);
    assert_eq!(world.auth(CHAT, Ok(None)), NOTHING);
    assert_eq!(world.connect(CHAT), ["[authenticate 2]"]);
    world.auth(CHAT, Err("no"));
    assert_eq!(world.due(), Some(1000));
    world.disconnect(CHAT);
    assert_eq!(world.due(), Some(45_000), "nobody wants it any more");
    assert_eq!(world.connect(CHAT), ["[authenticate 2]"], "at once");
    world.disconnect(CHAT);
    assert_eq!(world.connect(CHAT), ["[authenticate 2]"], "set_auth may have come in between");
}

#[test]
fn the_last_one_leaving_ends_the_wait() {
    let mut world = World::both_connected();
    world.is_closed();
    assert_eq!(world.disconnect(ROOT), NOTHING);
    assert_eq!(world.due(), Some(1000));
    assert_eq!(world.disconnect(CHAT), NOTHING);
    assert_eq!(world.due(), None);
}

#[test]
fn packets_for_nobody_are_ignored() {
    let mut world = World::connected();
    for packet in [
        r#"42/unknown,["e"]"#,
        "43/unknown,0[]",
        "41/unknown,",
        r#"44/unknown,"no""#,
        r#"40/unknown,{"sid":"X"}"#,
        r#"42/chat,["e"]"#,
        "41/chat,",
        r#"44/chat,"no""#,
        "430[]",
        r#"40{"sid":"X"}"#,
        r#"44"no""#,
    ] {
        assert_eq!(world.hears(packet), NOTHING, "{packet}");
    }
    assert_eq!(world.state.status(ROOT).id.as_deref(), Some("A"));
}

#[test]
fn removing_settles_whatever_is_open() {
    let mut world = World::both_connected();
    world.emit(ROOT, "sent?");
    world.out();
    assert_eq!(
        world.remove(ROOT),
        ["gone disconnect io client disconnect, inactive", "sent? failed: Disconnected", "> 41"]
    );
    assert!(!world.state.contains(ROOT));
    world.is_closed();
    world.emit(CHAT, "buffered?");
    assert_eq!(world.remove(CHAT), ["buffered? failed: Disconnected"]);
    assert_eq!((world.due(), world.state.keys()), (None, vec![]));
    world.state.connect(world.now, ROOT);
    world.state.disconnect(world.now, ROOT);
    world.state.remove(world.now, ROOT);
    assert_eq!(world.out(), NOTHING);
}

#[test]
fn one_removed_before_its_answer_is_left_when_it_comes() {
    for (answer, said) in
        [(r#"40/chat,{"sid":"B"}"#, &["> 41/chat,"][..]), (r#"44/chat,"no""#, &[]), ("41/chat,", &[])]
    {
        let mut world = World::connected();
        world.connect(CHAT);
        assert_eq!(world.remove(CHAT), NOTHING);
        assert_eq!(world.hears(answer), said);
        assert_eq!(world.hears(r#"40/chat,{"sid":"C"}"#), NOTHING, "only what was asked for is left");

        // The namespace is free again.
        world.state.add(3, socket_settings("/chat"), Returns::default(), 1);
        assert_eq!(world.connect(3), ["> 40/chat,"]);
        assert_eq!(world.hears(r#"40/chat,{"sid":"D"}"#), ["/chat connect D websocket"]);
    }
}

#[test]
fn one_added_before_its_forerunners_answer_waits_for_it() {
    // A second CONNECT for one namespace would end the session for all.
    let mut world = World::connected();
    world.connect(CHAT);
    world.remove(CHAT);
    world.state.add(3, socket_settings("/chat"), Returns::default(), 1);
    assert_eq!(world.connect(3), NOTHING);
    assert_eq!(world.hears(r#"40/chat,{"sid":"B"}"#), ["/chat connect B websocket"], "the same auth object");

    world.remove(3);
    world.state.add(4, socket_settings("/chat"), Returns::default(), 1);
    world.auth = Some(Ok(Some(r#"{"token":1}"#)));
    world.connect(4);
    world.remove(4);
    world.state.add(5, socket_settings("/chat"), Returns::default(), 1);
    world.auth = Some(Ok(Some(r#"{"token":2}"#)));
    assert_eq!(world.connect(5), NOTHING);
    assert_eq!(world.hears(r#"40/chat,{"sid":"C"}"#), ["> 41/chat,", r#"> 40/chat,{"token":2}"#]);

    // With the session, such debts are gone.
    world.remove(5);
    world.is_closed();
    world.state.add(6, socket_settings("/chat"), Returns::default(), 1);
    world.connect(6);
    world.at(1);
    assert_eq!(
        world.opens(),
        [
            "/ reconnect 1",
            "/chat reconnect 1",
            "[opened S]",
            r#"> 40{"token":2}"#,
            r#"> 40/chat,{"token":2}"#
        ]
    );
}

#[test]
fn nobody_is_answered_when_the_daemon_ends() {
    let mut world = World::both_connected();
    world.emit(ROOT, "a?");
    world.emit(CHAT, "b?");
    world.out();
    world.disconnect(CHAT);
    world.emit(CHAT, "c?");
    world.state.abandon_acks(world.now);
    assert_eq!(world.out(), ["a? failed: Disconnected", "c? failed: Disconnected"]);
}

#[test]
fn outgoing_events_are_told_where_somebody_watches() {
    let mut world = World::both_connected();
    world.state.set_watched(ROOT, true);
    world.emit(ROOT, "a");
    world.emit(CHAT, "b");
    assert_eq!(world.out(), [r#"/ outgoing "a""#, r#"> 42["a"]"#, r#"> 42/chat,["b"]"#]);
    world.is_closed();
    world.emit(ROOT, "c");
    assert_eq!(world.out(), NOTHING, "it is not handed over yet");
    world.at(1);
    world.opens();
    assert_eq!(
        world.hears(r#"40{"sid":"C"}"#),
        [r#"/ outgoing "c""#, "/ connect C websocket", r#"> 42["c"]"#]
    );
}

#[test]
fn what_is_plain_and_for_a_joined_socket_may_go_past_the_rest() {
    let mut world = World::both_connected();
    for (message, key) in [
        (r#"2["e"]"#, Some(ROOT)),
        (r#"2/,7["e",1]"#, Some(ROOT)),
        (r#"2/chat,["e"]"#, Some(CHAT)),
        (r#"2/other,["e"]"#, None),
        (r#"3/chat,7["e"]"#, Some(CHAT)),
        (r#"3/other,7["e"]"#, None),
        ("1/chat,", None),
        (r#"51-["e",{"_placeholder":true,"num":0}]"#, None),
        ("", None),
    ] {
        assert_eq!(world.state.addressee(message), key, "{message}");
    }
    let mut shortcut = world.state.shortcut(CHAT).unwrap();
    for (message, event) in [
        (r#"2/chat,["e"]"#, Some(r#""e"() None"#)),
        (r#"2/chat,5["e",1, 2]"#, Some(r#""e"(1, 2) Some(1)"#)),
        ("2/chat,6[ 1 ,\n[2,\n3] ]", Some("1([2,3]) Some(2)")),
        (r#"2["e"]"#, None),
        (r#"2/chat,["connect"]"#, None),
        (r#"2/chat,["e""#, None),
        ("2/chat,[]", None),
        (r#"2/chat, ["e"]"#, None),
    ] {
        let mut heard = None;
        let is_event = shortcut.receive(message, |event, ack| {
            let mut array = Vec::new();
            event.args().write_array(&mut array);
            let args = String::from_utf8(array[1..array.len() - 1].to_vec()).unwrap();
            heard = Some(format!("{}({args}) {ack:?}", event.name.as_json()));
        });
        assert_eq!(heard.as_deref(), event, "{message}");
        assert_eq!(is_event, event.is_some(), "{message}");
    }
}

#[test]
fn nothing_goes_past_what_has_yet_to_be_passed_on_or_told() {
    let event = r#"2["e"]"#;
    let mut world = World::connected();
    assert_eq!(world.state.addressee(event), Some(ROOT));
    world.state.handle_packet(world.now, packet(r#"42["before"]"#));
    assert_eq!(world.state.addressee(event), None, "an output waits");
    world.out();
    world.hears(r#"451-["e",{"_placeholder":true,"num":0}]"#);
    assert_eq!(world.state.addressee(event), None, "an attachment is missing");
    world.hears("41");
    assert_eq!(world.state.addressee(event), None, "there is no session");
    let mut world = World::new();
    world.connect(ROOT);
    world.opens();
    assert_eq!(world.state.addressee(event), None, "CONNECT is not answered");
    let mut settings = settings();
    settings.transport.revision = Revision::V3;
    let mut world = World::with(settings);
    world.connect(ROOT);
    world.opens();
    world.hears("40");
    assert_eq!(world.state.addressee(event), None, "messages are signs of life");
}
