//! The retry queue: in order, one at a time, until it is answered.

use super::*;

/// Two retries, 5 s for each try.
fn peer() -> Peer {
    Peer::with(Settings { retries: 2, ack_timeout: Some(Duration::from_secs(5)), ..settings() })
}

fn joined() -> Peer {
    let mut peer = peer();
    peer.join_and_answer();
    peer
}

#[test]
fn only_the_first_is_on_its_way() {
    let mut peer = joined();
    assert_eq!(peer.emit(event("a")), "sent, ticket back");
    assert_eq!(peer.emit(asking("b", None)), "buffered");
    assert_eq!(peer.emit(event("c")), "buffered, ticket back");
    assert_eq!(peer.out(), [r#"> 2/chat,0["a"]"#]);
    assert_eq!((peer.socket.buffered(), peer.socket.pending_acks(), peer.socket.sent()), (3, 2, 1));
    assert_eq!(peer.hears("3/chat,0[]"), [r#"> 2/chat,1["b"]"#], "an answer without arguments is one");
    assert_eq!(
        peer.hears(r#"3/chat,1["an error?",1]"#),
        [r#"answer b: "an error?",1"#, r#"> 2/chat,2["c"]"#]
    );
    assert_eq!(peer.hears("3/chat,2[null]"), NOTHING);
    assert_eq!((peer.socket.buffered(), peer.socket.pending_acks(), peer.socket.sent()), (0, 0, 3));
    assert_eq!(peer.emit(event("d")), "sent, ticket back");
}

#[test]
fn what_is_not_answered_in_time_is_sent_again_under_another_id() {
    let mut peer = joined();
    peer.socket.set_watched(true);
    peer.emit(asking("a", None));
    peer.emit(event("b"));
    peer.out();
    let sent =
        |name: &str, id: u64| [format!(r#"outgoing "{name}" by 9"#), format!(r#"> 2/chat,{id}["{name}"]"#)];
    assert_eq!(peer.clock(4), NOTHING);
    assert_eq!(peer.clock(5), sent("a", 1));
    assert_eq!(peer.hears("3/chat,0[]"), NOTHING, "the answer to an earlier try comes too late");
    assert_eq!(peer.clock(10), sent("a", 2));
    assert_eq!(peer.clock(14), NOTHING);
    let [outgoing, packet] = sent("b", 3);
    assert_eq!(peer.clock(15), ["answer a: timeout", &outgoing, &packet]);
    for (second, id) in [(20, 4), (25, 5)] {
        assert_eq!(peer.clock(second), sent("b", id));
    }
    assert_eq!(
        peer.clock(30),
        [r#"lost "b": the server answered none of 3 tries; it may have got the event"#],
        "nobody waits for it"
    );
    assert_eq!(peer.socket.poll_timeout(), None);
    assert_eq!(peer.socket.buffered(), 0);
}

#[test]
fn what_may_lie_unread_is_not_late() {
    let mut peer = joined();
    peer.emit(asking("a", None));
    peer.out();
    peer.socket.hold(peer.at(4));
    assert_eq!((peer.clock(20), peer.socket.poll_timeout()), (Vec::new(), None));
    peer.socket.hold(peer.at(20));
    peer.socket.release(peer.at(24));
    assert_eq!(peer.socket.poll_timeout(), Some(peer.at(25)), "a second was left");
    assert_eq!(peer.clock(25), [r#"> 2/chat,1["a"]"#]);
    peer.socket.release(peer.at(29));
    assert_eq!(peer.clock(30), [r#"> 2/chat,2["a"]"#], "it was not held");
    assert_eq!(peer.hears("3/chat,2[]"), ["answer a: "]);
    // What begins meanwhile has its whole time from the end on.
    peer.socket.hold(peer.at(30));
    peer.now = peer.at(130);
    peer.emit(asking("b", None));
    peer.out();
    peer.socket.release(peer.at(131));
    assert_eq!(peer.socket.poll_timeout(), Some(peer.at(136)));
}

#[test]
fn a_timeout_of_its_own_is_that_of_each_try() {
    let mut peer = joined();
    peer.emit(asking("a", Some(1)));
    peer.out();
    assert_eq!(peer.clock(1), [r#"> 2/chat,1["a"]"#]);
    assert_eq!(peer.clock(2), [r#"> 2/chat,2["a"]"#]);
    assert_eq!(peer.clock(3), ["answer a: timeout"]);
    peer.emit(asking("at once", Some(0)));
    peer.out();
    assert_eq!(peer.clock(3), [r#"> 2/chat,4["at once"]"#], "a try each time the clock is looked at");
    assert_eq!(peer.clock(3), [r#"> 2/chat,5["at once"]"#]);
    assert_eq!(peer.clock(3), ["answer at once: timeout"]);
}

#[test]
fn nothing_is_lost_in_an_outage() {
    let mut peer = joined();
    peer.emit(asking("a", None));
    peer.emit(event("b"));
    peer.out();
    assert_eq!(peer.loses(CloseReason::TransportClose), ["disconnect transport close: lost"]);
    assert_eq!(peer.emit(event("c")), "buffered, ticket back");
    assert_eq!(peer.socket.poll_timeout(), None, "no try is on its way");
    assert_eq!(peer.clock(1000), NOTHING);
    assert_eq!((peer.socket.buffered(), peer.socket.pending_acks()), (3, 1));

    peer.join(None);
    assert_eq!(peer.hears(r#"2/chat,["early"]"#), NOTHING);
    assert_eq!(peer.hears(JOINED), [r#"event "early"()"#, "connect A", r#"> 2/chat,1["a"]"#]);
    assert_eq!(peer.hears("3/chat,1[7]"), ["answer a: 7", r#"> 2/chat,2["b"]"#]);
    assert_eq!(peer.hears("3/chat,2[]"), [r#"> 2/chat,3["c"]"#]);

    // Also over a goodbye of this side.
    peer.socket.disconnect();
    assert_eq!(peer.out(), ["disconnect io client disconnect", "> 1/chat,"]);
    assert_eq!(peer.join_and_answer(), ["connect A", r#"> 2/chat,4["c"]"#]);
}

#[test]
fn a_disconnection_is_a_failed_try() {
    let mut peer = joined();
    peer.emit(asking("a", None));
    peer.emit(event("b"));
    assert_eq!(peer.out(), [r#"> 2/chat,0["a"]"#]);
    for id in [1, 2] {
        peer.loses(CloseReason::TransportClose);
        assert_eq!(peer.join_and_answer(), ["connect A".to_owned(), format!(r#"> 2/chat,{id}["a"]"#)]);
    }
    assert_eq!(
        peer.loses(CloseReason::TransportClose),
        ["disconnect transport close: lost", "answer a: disconnected"]
    );
    assert_eq!(peer.join_and_answer(), ["connect A", r#"> 2/chat,3["b"]"#]);
}

#[test]
fn without_a_timeout_the_answer_or_the_disconnection_is_waited_for() {
    let mut peer = Peer::with(Settings { retries: 1, ..settings() });
    peer.join_and_answer();
    peer.emit(asking("a", None));
    assert_eq!(peer.out(), [r#"> 2/chat,0["a"]"#]);
    assert_eq!(peer.socket.poll_timeout(), None);
    assert_eq!(peer.clock(1_000_000), NOTHING);
    peer.loses(CloseReason::PingTimeout);
    assert_eq!(peer.join_and_answer(), ["connect A", r#"> 2/chat,1["a"]"#]);
    assert_eq!(
        peer.loses(CloseReason::PingTimeout),
        ["disconnect ping timeout: lost", "answer a: disconnected"]
    );
}

#[test]
fn volatile_emits_are_not_queued() {
    let mut peer = joined();
    peer.emit(event("a"));
    assert_eq!(peer.emit(Emit { volatile: true, ..event("v") }), "sent, ticket back");
    assert_eq!(peer.emit(Emit { volatile: true, ..asking("w", None) }), "sent");
    assert_eq!(peer.out(), [r#"> 2/chat,0["a"]"#, r#"> 2/chat,["v"]"#, r#"> 2/chat,1["w"]"#]);
    assert_eq!(peer.hears("3/chat,1[]"), ["answer w: "]);
    peer.loses(CloseReason::TransportClose);
    assert_eq!(peer.emit(Emit { volatile: true, ..event("v") }), "dropped, ticket back");
}

#[test]
fn the_queue_has_the_room_of_the_send_buffer() {
    const ROOM_FOR_TWO: usize = 2 * (3 + 64);
    let full = format!(
        "the send buffer is full ({ROOM_FOR_TWO} bytes); nothing was dropped, try again when some of it is sent, ticket back"
    );
    let mut peer = Peer::with(Settings { retries: 1, send_buffer: ROOM_FOR_TWO, ..settings() });
    peer.emit(event("a"));
    peer.emit(event("b"));
    assert_eq!(peer.emit(event("c")), full);
    assert_eq!(peer.join_and_answer(), ["connect A", r#"> 2/chat,0["a"]"#]);
    assert_eq!(peer.emit(event("c")), full, "what is on its way still counts");
    peer.hears("3/chat,0[]");
    assert_eq!(peer.emit(event("c")), "buffered, ticket back");
    for id in [1, 2] {
        peer.hears(&format!("3/chat,{id}[]"));
    }
    let large = event(&"x".repeat(ROOM_FOR_TWO));
    assert_eq!(peer.emit(large), "sent, ticket back", "what goes out at once needs none");
    assert_eq!(peer.emit(event("d")), full);
}

#[test]
fn who_waits_hears_when_it_is_all_over() {
    let mut peer = joined();
    peer.emit(event("x"));
    for name in ["a", "b"] {
        peer.emit(asking(name, None));
    }
    peer.emit(event("c"));
    peer.out();
    peer.socket.abandon_acks();
    assert_eq!(
        peer.out(),
        [
            r#"lost "x": the end came before the server's answer (tries: 1)"#,
            "answer a: disconnected",
            "answer b: disconnected",
            r#"lost "c": the end came before the server's answer (tries: 0)"#,
        ]
    );
    assert_eq!((peer.socket.buffered(), peer.socket.pending_acks()), (0, 0));
    assert_eq!(peer.hears("3/chat,0[]"), NOTHING);
}

#[test]
fn what_the_next_server_does_not_take_makes_way() {
    let mut peer = peer();
    peer.emit(asking("large name", None));
    peer.emit(event("b"));
    peer.socket.set_limit(Limit { max_payload: Some(15), base64: false });
    let error = "a packet of 23 bytes is more than the server takes: 15 (its maxPayload); it was not sent";
    assert_eq!(
        peer.join_and_answer(),
        [
            "answer large name: toolarge(toolarge { size: 23, max: 15 })",
            &format!(r#"lost "large name": {error}"#),
            "connect A",
            r#"> 2/chat,1["b"]"#,
        ]
    );
    assert!(peer.emit(event("larger name")).ends_with("it was not sent, ticket back"));
}
