//! Emits, the send buffer, and acks in both directions.

use super::*;

#[test]
fn while_what_came_lies_unread_a_timeout_runs_on() {
    let mut peer = Peer::joined();
    peer.emit(asking("a", Some(5)));
    peer.out();
    peer.socket.hold(peer.at(0));
    assert_eq!(peer.clock(5), ["answer a: timeout"]);
}

#[test]
fn the_send_buffer_goes_first_and_in_order() {
    let mut peer = Peer::new();
    peer.socket.set_watched(true);
    assert_eq!(peer.emit(event("1")), "buffered, ticket back");
    peer.socket.connect();
    assert_eq!(peer.emit(asking("2", None)), "buffered");
    peer.join(None);
    assert_eq!(peer.emit(event("3")), "buffered, ticket back");
    assert_eq!(peer.out(), NOTHING);
    assert_eq!(peer.socket.buffered(), 3);

    let connected = peer.hears(JOINED);
    assert_eq!(peer.emit(event("4")), "sent, ticket back");
    assert_eq!(
        connected,
        [
            r#"outgoing "1" by 9"#,
            r#"outgoing "2" by 9"#,
            r#"outgoing "3" by 9"#,
            "connect A",
            r#"> 2/chat,["1"]"#,
            r#"> 2/chat,0["2"]"#,
            r#"> 2/chat,["3"]"#,
        ]
    );
    assert_eq!(peer.out(), [r#"outgoing "4" by 9"#, r#"> 2/chat,["4"]"#]);
    assert_eq!((peer.socket.buffered(), peer.socket.sent()), (0, 4));
}

#[test]
fn the_send_buffer_survives_everything_but_being_sent() {
    let mut peer = Peer::new();
    peer.emit(event("kept"));
    peer.socket.connect();
    peer.join(None);
    peer.loses(CloseReason::TransportClose);
    peer.join(None);
    peer.hears(r#"4/chat,"no""#);
    peer.socket.connect();
    peer.socket.disconnect();
    peer.socket.connect();
    peer.socket.deactivate();
    assert_eq!(peer.socket.buffered(), 1);
    peer.socket.connect();
    peer.join(None);
    assert_eq!(peer.hears(JOINED), ["connect A", r#"> 2/chat,["kept"]"#]);
    peer.loses(CloseReason::TransportClose);
    peer.join(None);
    assert_eq!(peer.hears(JOINED), ["connect A"], "sent once");
}

#[test]
fn a_full_send_buffer_refuses_and_drops_nothing() {
    const ROOM_FOR_TWO: usize = 2 * (3 + 64);
    let mut peer = Peer::with(Settings { send_buffer: ROOM_FOR_TWO, ..settings() });
    assert_eq!(peer.emit(event("a")), "buffered, ticket back");
    assert_eq!(peer.emit(asking("b", None)), "buffered");
    let full = format!(
        "the send buffer is full ({ROOM_FOR_TWO} bytes); nothing was dropped, try again when some of it is sent, ticket back"
    );
    assert_eq!(peer.emit(event("c")), full);
    assert_eq!(peer.emit(asking("c", None)), full);
    assert_eq!((peer.socket.buffered(), peer.socket.pending_acks()), (2, 1));
    assert_eq!(peer.join_and_answer(), ["connect A", r#"> 2/chat,["a"]"#, r#"> 2/chat,0["b"]"#]);

    // What was sent has left its place.
    peer.loses(CloseReason::TransportClose);
    assert_eq!(peer.emit(event("d")), "buffered, ticket back");
    assert_eq!(peer.emit(event("e")), "buffered, ticket back");
    assert_eq!(peer.emit(event("f")), full);
}

#[test]
fn a_timed_out_emit_leaves_its_place_in_the_send_buffer() {
    let mut peer = Peer::with(Settings { send_buffer: 2 * (3 + 64), ..settings() });
    peer.emit(asking("a", Some(5)));
    peer.emit(event("b"));
    peer.socket.handle_timeout(peer.at(5));
    assert_eq!(peer.out(), ["answer a: timeout"]);
    assert_eq!(peer.socket.buffered(), 1);
    assert_eq!(peer.emit(event("c")), "buffered, ticket back");
    assert_eq!(peer.join_and_answer(), ["connect A", r#"> 2/chat,["b"]"#, r#"> 2/chat,["c"]"#]);
}

#[test]
fn volatile_emits_go_now_or_not_at_all() {
    let volatile = || Emit { volatile: true, ..event("v") };
    let volatile_asking = || Emit { volatile: true, ..asking("v", None) };
    let states: [(&str, Scene); 3] =
        [("inactive", Peer::new), ("joining", Peer::joining), ("joined", Peer::joined)];
    for (state, peer) in states {
        for writable in [false, true] {
            let mut peer = peer();
            let goes = state == "joined" && writable;
            let (plain, with_ack) = if goes {
                ("sent, ticket back", "sent")
            } else {
                ("dropped, ticket back", "dropped, ticket back")
            };
            assert_eq!(peer.emit_writable(volatile(), writable), plain, "{state}, writable: {writable}");
            assert_eq!(peer.emit_writable(volatile_asking(), writable), with_ack, "{state}, {writable}");
            assert_eq!(peer.socket.buffered(), 0);
            assert_eq!(peer.socket.pending_acks(), usize::from(goes));
        }
    }
    let mut peer = Peer::joined();
    assert_eq!(peer.emit_writable(event("e"), false), "sent, ticket back", "others do not mind");
}

#[test]
fn ack_ids_count_from_0_and_are_never_used_twice() {
    let mut peer = Peer::joined();
    peer.emit(asking("a", None));
    peer.emit(event("no id"));
    peer.emit(asking("b", None));
    assert_eq!(peer.out(), [r#"> 2/chat,0["a"]"#, r#"> 2/chat,["no id"]"#, r#"> 2/chat,1["b"]"#]);
    peer.loses(CloseReason::TransportClose);
    peer.join_and_answer();
    peer.emit(asking("c", None));
    assert_eq!(peer.out(), [r#"> 2/chat,2["c"]"#]);
    peer.socket.disconnect();
    peer.out();
    peer.emit(asking("d", None));
    peer.socket.connect();
    assert_eq!(peer.join_and_answer(), ["connect A", r#"> 2/chat,3["d"]"#]);
}

#[test]
fn an_answer_reaches_who_asked_once() {
    let mut peer = Peer::joined();
    for name in ["a", "b", "c"] {
        peer.emit(asking(name, Some(5)));
    }
    peer.out();
    assert_eq!(peer.hears("3/chat,1[1.50,null]"), ["answer b: 1.50,null"]);
    assert_eq!(peer.hears("3/chat,0"), ["answer a: "]);
    for unknown in ["3/chat,1[]", "3/chat,0[]", "3/chat,7[]", "3/chat,[]"] {
        assert_eq!(peer.hears(unknown), NOTHING, "{unknown}");
    }
    assert_eq!(peer.socket.pending_acks(), 1);
    peer.socket.handle_timeout(peer.at(5));
    assert_eq!(peer.out(), ["answer c: timeout"]);
    assert_eq!(peer.hears("3/chat,2[]"), NOTHING, "too late");
}

#[test]
fn acks_time_out_each_at_its_time() {
    let mut peer = Peer::with(Settings { ack_timeout: Some(Duration::from_secs(3)), ..settings() });
    peer.join_and_answer();
    peer.emit(asking("late", Some(9)));
    peer.emit(asking("at once", Some(0)));
    peer.emit(asking("by default", None));
    peer.out();
    let mut at = |seconds| {
        let due = peer.socket.poll_timeout();
        peer.socket.handle_timeout(peer.at(seconds));
        (due.map(|due| (due - peer.start).as_secs()), peer.out())
    };
    assert_eq!(at(0), (Some(0), vec!["answer at once: timeout".into()]));
    assert_eq!(at(2), (Some(3), vec![]));
    assert_eq!(at(3), (Some(3), vec!["answer by default: timeout".into()]));
    assert_eq!(at(9), (Some(9), vec!["answer late: timeout".into()]));
    assert_eq!(at(99), (None, vec![]));
}

#[test]
fn a_timeout_beyond_the_clock_is_none() {
    let mut peer = Peer::joined();
    let emit = Emit { ack: Some(Some(Duration::MAX)), ..event("a") };
    assert_eq!(peer.emit(emit), "sent");
    assert_eq!(peer.socket.poll_timeout(), None);
    assert_eq!(peer.hears("3/chat,0[1]"), ["answer a: 1", r#"> 2/chat,0["a"]"#]);
}

#[test]
fn a_disconnect_fails_the_acks_of_what_was_sent_and_only_those() {
    let mut peer = Peer::joined();
    peer.emit(asking("sent 1", None));
    peer.emit(asking("sent 2", Some(60)));
    peer.out();
    assert_eq!(
        peer.loses(CloseReason::PingTimeout),
        ["disconnect ping timeout: lost", "answer sent 1: disconnected", "answer sent 2: disconnected"]
    );
    peer.emit(asking("buffered", None));
    peer.join(None);
    assert_eq!(peer.loses(CloseReason::PingTimeout), ["join failed lost"]);
    peer.socket.disconnect();
    assert_eq!(peer.out(), NOTHING);
    assert_eq!(peer.socket.pending_acks(), 1);

    peer.socket.abandon_acks();
    assert_eq!(peer.out(), ["answer buffered: disconnected"]);
}

#[test]
fn pending_acks_have_a_limit() {
    let mut peer = Peer::joined();
    for _ in 0..MAX_PENDING {
        peer.emit(asking("a", None));
        peer.socket.poll_transmit();
    }
    assert_eq!(
        peer.emit(asking("b", None)),
        "too many acks are pending (65536); wait for some, or give them a timeout, ticket back"
    );
    assert_eq!(peer.emit(event("c")), "sent, ticket back");
    peer.hears("3/chat,0[]");
    assert_eq!(peer.emit(asking("d", None)), "sent");
}

#[test]
fn the_server_is_answered_once_and_in_its_own_session() {
    let mut peer = Peer::joined();
    assert_eq!(peer.hears(r#"2/chat,0["ask"]"#), [r#"event "ask"() ?1"#]);
    assert_eq!(peer.hears(r#"2/chat,0["ask"]"#), [r#"event "ask"() ?2"#], "its ids are its own affair");
    assert_eq!(peer.answer(2, "[]"), ["> 3/chat,0[]"]);
    assert_eq!(peer.answer(2, "[1]"), ["unknown"]);
    assert_eq!(peer.answer(3, "[1]"), ["unknown"]);
    peer.loses(CloseReason::TransportClose);
    assert_eq!(peer.answer(1, "[1]"), ["unknown"]);
    peer.join_and_answer();
    assert_eq!(peer.answer(1, "[1]"), ["unknown"], "nor in the next session");
    assert_eq!(peer.hears(r#"2/chat,0["ask"]"#), [r#"event "ask"() ?3"#], "numbers go on");
    peer.socket.disconnect();
    peer.out();
    assert_eq!(peer.answer(3, "[1]"), ["unknown"]);
}
