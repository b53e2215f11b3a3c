//! Each test is a transcript: what comes in, and everything that comes out: events first, then packets (`>`).

use super::*;
use crate::engineio::{Frame, Message};
use crate::socketio::Decoder;

/// What a test begins with.
type Scene = fn() -> Peer;
/// Something that befalls the socket, and what it says then.
type Blow = fn(&mut Peer) -> Vec<String>;

const NOTHING: [&str; 0] = [];
const JOINED: &str = r#"0/chat,{"sid":"A"}"#;

#[test]
fn connect_is_sent_once_a_session_whoever_asks() {
    let mut peer = Peer::new();
    assert!(!peer.socket.is_active());
    peer.socket.join(peer.start, None);
    assert_eq!(peer.out(), NOTHING, "nobody wants it connected");

    assert!(peer.socket.connect());
    assert!(!peer.socket.connect());
    assert!(peer.socket.is_waiting());
    assert_eq!(peer.join(None), ["> 0/chat,"]);
    assert!(!peer.socket.connect());
    assert_eq!(peer.join(None), NOTHING);
    assert_eq!(peer.hears(JOINED), ["connect A"]);
    assert!(!peer.socket.connect());
    assert_eq!(peer.join(None), NOTHING);

    assert_eq!(peer.loses(CloseReason::TransportClose), ["disconnect transport close: lost"]);
    assert!(peer.socket.is_waiting());
    assert_eq!(peer.join(None), ["> 0/chat,"], "once each session");
}

#[test]
fn the_connect_answer_decides() {
    let old = format!("refused {OLD_SERVER}");
    for (answer, heard, active) in [
        (r#"0/chat,{"sid":"A"}"#, "connect A", true),
        (r#"0/chat,{"sid":"A","pid":"P","more":[1]}"#, "connect A", true),
        (r#"0/chat,{"sid":"\u0041"}"#, "connect A", true),
        ("0/chat,", &*old, false),
        ("0/chat,{}", &*old, false),
        (r#"0/chat,{"sid":""}"#, &*old, false),
        (r#"0/chat,{"sid":null}"#, &*old, false),
        (r#"0/chat,{"sid":7}"#, &*old, false),
        (r#"4/chat,{"message":"no"}"#, "refused no", false),
        (r#"4/chat,{"message":"no","data":{"code":1.50}}"#, r#"refused no {"code":1.50}"#, false),
        (r#"4/chat,{"data":[1]}"#, "refused  [1]", false),
        (r#"4/chat,{"message":7}"#, "refused ", false),
        (r#"4/chat,"Unable to connect""#, "refused Unable to connect", false),
        ("4/chat,{}", "refused ", false),
        ("4/chat,", "refused ", false),
        ("1/chat,", "refused the server closed the namespace before it was joined", false),
    ] {
        let mut peer = Peer::joining();
        assert_eq!(peer.hears(answer), [heard], "{answer}");
        assert_eq!(peer.socket.is_active(), active, "{answer}");
        assert_eq!(peer.socket.is_connected(), active, "{answer}");
        assert_eq!(peer.socket.id().map(|id| &**id), active.then_some("A"), "{answer}");
        assert_eq!(peer.socket.poll_timeout(), None, "{answer}");

        // A second answer is no answer.
        assert_eq!(peer.hears(r#"4/chat,"no""#), NOTHING, "{answer}");
        if active {
            assert_eq!(peer.hears(r#"0/chat,{"sid":"B"}"#), NOTHING, "{answer}");
        } else {
            assert!(peer.socket.connect());
            assert_eq!(peer.join(None), ["> 0/chat,"], "{answer}: it may be tried again");
        }
    }
}

#[test]
fn events_before_the_answer_come_in_order_and_before_connect() {
    let mut peer = Peer::joining();
    for early in [r#"2/chat,["a",1]"#, r#"2/chat,5["b"]"#, r#"2/chat,["c"]"#] {
        assert_eq!(peer.hears(early), NOTHING);
    }
    assert_eq!(peer.hears(JOINED), [r#"event "a"(1)"#, r#"event "b"() ?1"#, r#"event "c"()"#, "connect A"]);
    assert_eq!(peer.answer(1, "[true]"), ["> 3/chat,5[true]"], "an early question can be answered");
}

#[test]
fn events_before_the_answer_go_with_the_session() {
    let close: fn(&mut Peer) = |peer| drop(peer.loses(CloseReason::TransportClose));
    let leave: fn(&mut Peer) = |peer| peer.socket.disconnect();
    let give_up: fn(&mut Peer) = |peer| peer.socket.deactivate();
    let refuse: fn(&mut Peer) = |peer| drop(peer.hears(r#"4/chat,"no""#));
    for (end, needs_connect) in [(close, false), (leave, true), (give_up, true), (refuse, true)] {
        let mut peer = Peer::joining();
        peer.hears(r#"2/chat,["old"]"#);
        end(&mut peer);
        peer.loses(CloseReason::TransportClose);
        assert_eq!(peer.socket.connect(), needs_connect);
        peer.join(None);
        peer.hears(r#"2/chat,["new"]"#);
        assert_eq!(peer.hears(JOINED), [r#"event "new"()"#, "connect A"]);
    }
}

#[test]
fn events_before_the_answer_have_a_limit() {
    for (event, at_most) in [
        (format!(r#"2/chat,["big","{}"]"#, "x".repeat(MAX_EARLY / 4)), 4),
        // Many small ones cost more than their text.
        (r#"2/chat,[""]"#.to_owned(), MAX_EARLY / 64),
    ] {
        let mut peer = Peer::joining();
        let body = peer.decode(&event);
        let taken = (0..=at_most).take_while(|_| peer.socket.handle_packet(body.clone()).is_ok()).count();
        assert!(taken > 0 && taken <= at_most, "{taken} events of {} bytes", event.len());
    }
}

#[test]
fn events_outside_a_joined_namespace_are_not_heard() {
    let mut peer = Peer::new();
    assert_eq!(peer.hears(r#"2/chat,["a"]"#), NOTHING);
    peer.socket.connect();
    assert_eq!(peer.hears(r#"2/chat,["a"]"#), NOTHING);
    peer.join(None);
    peer.hears(JOINED);
    peer.socket.disconnect();
    assert_eq!(peer.out(), ["disconnect io client disconnect", "> 1/chat,"]);
    for late in [r#"2/chat,["a"]"#, "3/chat,0[]", "1/chat,", r#"4/chat,"no""#] {
        assert_eq!(peer.hears(late), NOTHING, "{late}");
    }
}

#[test]
fn leaving_before_the_answer_is_made_good_when_it_comes() {
    let mut peer = Peer::joining();
    peer.socket.disconnect();
    assert_eq!(peer.out(), NOTHING, "there is nothing to leave yet, and no disconnect without a connect");
    assert_eq!(peer.hears(JOINED), ["> 1/chat,"]);
    assert!(!peer.socket.is_active());

    peer.socket.connect();
    assert_eq!(peer.join(None), ["> 0/chat,"], "that answer is spent");
}

#[test]
fn coming_back_before_the_answer_waits_for_it() {
    for (answer, heard) in [(JOINED, "connect A"), (r#"4/chat,"no""#, "refused no")] {
        let mut peer = Peer::new();
        peer.socket.connect();
        assert_eq!(peer.join(Some(r#"{"token":1}"#)), [r#"> 0/chat,{"token":1}"#]);
        peer.socket.disconnect();
        peer.socket.connect();
        assert_eq!(peer.join(Some(r#"{"token":1}"#)), NOTHING);
        assert_eq!(peer.hears(answer), [heard]);
    }
}

#[test]
fn an_answer_to_another_auth_object_is_not_taken() {
    for (answer, then) in [
        (JOINED, &["> 1/chat,", r#"> 0/chat,{"token":2}"#][..]),
        (r#"4/chat,"bad token""#, &[r#"> 0/chat,{"token":2}"#]),
    ] {
        let mut peer = Peer::new();
        peer.socket.connect();
        peer.join(Some(r#"{"token":1}"#));
        peer.socket.disconnect();
        peer.socket.connect();
        assert_eq!(peer.join(Some(r#"{"token":2}"#)), NOTHING, "one CONNECT at a time");
        assert_eq!(peer.hears(r#"2/chat,["for token 1"]"#), NOTHING);
        assert_eq!(peer.hears(answer), then);
        assert!(peer.socket.is_joining());
        assert_eq!(peer.hears(r#"0/chat,{"sid":"B"}"#), ["connect B"]);
    }
}

#[test]
fn a_namespace_closed_before_the_answer_owes_none() {
    let mut peer = Peer::joining();
    peer.hears("1/chat,");
    peer.socket.connect();
    assert_eq!(peer.join(None), ["> 0/chat,"]);
    assert_eq!(peer.hears(JOINED), ["connect A"]);
}

#[test]
fn the_answer_has_its_time() {
    let mut peer = Peer::joining();
    assert_eq!(peer.socket.poll_timeout(), Some(peer.at(20)));
    assert!(!peer.socket.handle_timeout(peer.at(19)));
    assert!(peer.socket.handle_timeout(peer.at(20)));
    assert_eq!(peer.socket.poll_timeout(), Some(peer.at(40)), "the wait begins anew");
    assert_eq!(peer.hears(JOINED), ["connect A"], "a late answer is an answer");
    assert_eq!(peer.socket.poll_timeout(), None);
}

#[test]
fn a_session_that_ends_before_the_answer_is_no_disconnect() {
    for joins in [false, true] {
        let mut peer = Peer::new();
        peer.socket.connect();
        if joins {
            peer.join(None);
        }
        assert_eq!(peer.loses(CloseReason::TransportError), ["join failed lost"]);
        assert!(peer.socket.is_waiting());
        peer.socket.handle_closed(DisconnectReason::Closed(CloseReason::PingTimeout), None);
        assert_eq!(peer.out(), ["join failed ping timeout"]);
    }
    let mut peer = Peer::new();
    assert_eq!(peer.loses(CloseReason::TransportError), NOTHING, "an inactive one is not concerned");
    assert!(!peer.socket.is_active());
}

#[test]
fn every_end_of_a_joined_namespace_has_its_reason() {
    let leave: Blow = |peer| {
        peer.socket.disconnect();
        peer.out()
    };
    let confuse: Blow = |peer| {
        peer.socket.handle_closed(DisconnectReason::ParseError, None);
        peer.out()
    };
    let rows: [(Blow, &[&str], bool); 6] = [
        (|peer| peer.hears("1/chat,"), &["disconnect io server disconnect"], false),
        (leave, &["disconnect io client disconnect", "> 1/chat,"], false),
        (|peer| peer.loses(CloseReason::PingTimeout), &["disconnect ping timeout: lost"], true),
        (|peer| peer.loses(CloseReason::TransportClose), &["disconnect transport close: lost"], true),
        (|peer| peer.loses(CloseReason::TransportError), &["disconnect transport error: lost"], true),
        (confuse, &["disconnect parse error"], true),
    ];
    for (end, heard, active) in rows {
        let mut peer = Peer::joined();
        assert_eq!(end(&mut peer), heard);
        assert_eq!(peer.socket.is_active(), active, "{heard:?}");
        assert!(!peer.socket.is_connected(), "{heard:?}");
        assert_eq!(peer.socket.id(), None, "{heard:?}");
        peer.socket.disconnect();
        assert_eq!(peer.out(), NOTHING, "{heard:?}: one end is enough");
    }
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
        "the send buffer is full ({ROOM_FOR_TWO} bytes); nothing was dropped, try again once connected, ticket back"
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

#[test]
fn recovery_sends_what_the_server_gave() {
    let mut peer = Peer::new();
    peer.socket.connect();
    assert_eq!(peer.join(None), ["> 0/chat,"]);
    assert_eq!(peer.hears(r#"0/chat,{"sid":"A","pid":"P"}"#), ["connect A"]);
    peer.hears(r#"2/chat,["init","x","offset 1"]"#);
    peer.loses(CloseReason::TransportClose);
    assert_eq!(peer.join(None), [r#"> 0/chat,{"pid":"P","offset":"offset 1"}"#]);
    assert_eq!(peer.hears(r#"2/chat,["missed",1,"offset 2"]"#), NOTHING);
    assert_eq!(
        peer.hears(r#"0/chat,{"sid":"A","pid":"P"}"#),
        [r#"event "missed"(1,"offset 2")"#, "connect A recovered"]
    );
    peer.loses(CloseReason::TransportClose);
    assert_eq!(peer.join(None), [r#"> 0/chat,{"pid":"P","offset":"offset 2"}"#], "early events count");

    assert_eq!(peer.hears(r#"0/chat,{"sid":"B","pid":"Q"}"#), ["connect B"], "not recovered");
    peer.loses(CloseReason::TransportClose);
    assert_eq!(peer.join(None), [r#"> 0/chat,{"pid":"Q"}"#], "an offset belongs to its pid");
    assert_eq!(peer.hears(r#"0/chat,{"sid":"C"}"#), ["connect C"]);
    peer.loses(CloseReason::TransportClose);
    assert_eq!(peer.join(None), ["> 0/chat,"], "a server without recovery is not asked for it");
}

#[test]
fn recovery_outlives_a_disconnect() {
    let mut peer = Peer::new();
    peer.socket.connect();
    peer.join(None);
    peer.hears(r#"0/chat,{"sid":"A","pid":"P"}"#);
    peer.socket.disconnect();
    peer.out();
    peer.socket.connect();
    assert_eq!(peer.join(None), [r#"> 0/chat,{"pid":"P"}"#]);
}

#[test]
fn only_a_text_at_the_end_of_an_event_without_ack_is_an_offset() {
    for (event, offset) in [
        (r#"2/chat,["a","o1"]"#, "o1"),
        (r#"2/chat,["a",{},"o\u0031\""]"#, r#"o1\""#),
        (r#"2/chat,["a","o1",1]"#, "before"),
        (r#"2/chat,["a",["o1"]]"#, "before"),
        (r#"2/chat,["a",null]"#, "before"),
        (r#"2/chat,4["a","o1"]"#, "before"),
        // The official client takes the name for an offset here, and fails to recover.
        (r#"2/chat,["a"]"#, "before"),
    ] {
        let mut peer = Peer::new();
        peer.socket.connect();
        peer.join(None);
        peer.hears(r#"0/chat,{"sid":"A","pid":"P"}"#);
        peer.hears(r#"2/chat,["e","before"]"#);
        peer.hears(event);
        peer.loses(CloseReason::TransportClose);
        assert_eq!(peer.join(None), [format!(r#"> 0/chat,{{"pid":"P","offset":"{offset}"}}"#)], "{event}");
    }
}

#[test]
fn the_auth_object_wins_over_recovery() {
    for (auth, payload) in [
        (None, r#"{"pid":"P","offset":"O"}"#),
        (Some("{}"), r#"{"pid":"P","offset":"O"}"#),
        (Some(r#"{"token":1.50,"b":{"pid":1}}"#), r#"{"pid":"P","offset":"O","token":1.50,"b":{"pid":1}}"#),
        (Some(r#"{"pid":"mine"}"#), r#"{"offset":"O","pid":"mine"}"#),
        (Some(r#"{"\u0070id":null,"offset":2}"#), r#"{"\u0070id":null,"offset":2}"#),
        (Some(r#"{"offset":"}"}"#), r#"{"pid":"P","offset":"}"}"#),
    ] {
        let mut peer = Peer::new();
        peer.socket.connect();
        peer.join(None);
        peer.hears(r#"0/chat,{"sid":"A","pid":"P"}"#);
        peer.hears(r#"2/chat,["e","O"]"#);
        peer.loses(CloseReason::TransportClose);
        assert_eq!(peer.join(auth), [format!("> 0/chat,{payload}")], "{auth:?}");
    }
}

/// A socket for `/chat` between its Manager and its server; tickets are the names of the events.
struct Peer {
    start: Instant,
    socket: Socket<String>,
}

impl Peer {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        Self { start: Instant::now(), socket: Socket::new(settings, 1, None) }
    }

    fn joining() -> Self {
        let mut peer = Self::new();
        peer.socket.connect();
        assert_eq!(peer.join(None), ["> 0/chat,"]);
        peer
    }

    fn joined() -> Self {
        let mut peer = Self::joining();
        assert_eq!(peer.hears(JOINED), ["connect A"]);
        peer
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn join(&mut self, auth: Option<&str>) -> Vec<String> {
        self.socket.join(self.start, auth);
        self.out()
    }

    fn join_and_answer(&mut self) -> Vec<String> {
        self.socket.connect();
        self.join(None);
        self.hears(JOINED)
    }

    fn decode(&self, text: &str) -> Body {
        let message = Message::Text(text.into());
        let packet = Decoder::new(10, usize::MAX).decode(message).unwrap().unwrap();
        assert_eq!(packet.namespace, *self.socket.namespace());
        packet.body
    }

    fn hears(&mut self, text: &str) -> Vec<String> {
        let body = self.decode(text);
        self.socket.handle_packet(body).unwrap();
        self.out()
    }

    fn loses(&mut self, reason: CloseReason) -> Vec<String> {
        self.socket.handle_closed(DisconnectReason::Closed(reason), Some(&Details::new("lost")));
        self.out()
    }

    fn emit(&mut self, emit: Emit) -> String {
        self.emit_writable(emit, true)
    }

    fn emit_writable(&mut self, emit: Emit, writable: bool) -> String {
        let ticket = emit.name.decoded().into_owned();
        let (outcome, ticket) = self.socket.emit(self.start, emit, ticket, writable);
        let outcome = match outcome {
            Ok(sent) => format!("{sent:?}").to_lowercase(),
            Err(error) => error.to_string(),
        };
        if ticket.is_some() { format!("{outcome}, ticket back") } else { outcome }
    }

    fn answer(&mut self, number: u64, args: &str) -> Vec<String> {
        if self.socket.answer(number, Args::from_array(args.into()).unwrap()) {
            self.out()
        } else {
            vec!["unknown".into()]
        }
    }

    fn out(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(event) = self.socket.poll_event() {
            out.push(line(event));
        }
        let mut messages = Vec::new();
        while let Some(packet) = self.socket.poll_transmit() {
            packet.encode(&mut messages);
        }
        for message in messages {
            match crate::engineio::Packet::Message(message).encode() {
                Frame::Text(text) => out.push(format!("> {}", &text[1..])),
                Frame::Binary(bytes) => out.push(format!("> {:?}", &bytes[..])),
            }
        }
        out
    }
}

fn line(event: Event<String>) -> String {
    match event {
        Event::Connect { id, recovered } => {
            format!("connect {id}{}", if recovered { " recovered" } else { "" })
        }
        Event::Refused { message, data } => {
            format!("refused {message}{}", data.map(|data| format!(" {data}")).unwrap_or_default())
        }
        Event::JoinFailed(details) => format!("join failed {}", details.message),
        Event::Disconnect { reason, details } => {
            let details = details.map(|details| format!(": {}", details.message));
            format!("disconnect {}{}", reason.as_str(), details.unwrap_or_default())
        }
        Event::Event { name, args, ack } => {
            let ack = ack.map(|ack| format!(" ?{ack}")).unwrap_or_default();
            format!("event {}({}){ack}", name.as_json(), args.json())
        }
        Event::Answer { ticket, result: Ok(args) } => format!("answer {ticket}: {}", args.json()),
        Event::Answer { ticket, result: Err(error) } => {
            format!("answer {ticket}: {}", format!("{error:?}").to_lowercase())
        }
        Event::Outgoing { name, sender, .. } => format!("outgoing {} by {sender}", name.as_json()),
    }
}

fn settings() -> Settings {
    Settings {
        namespace: "/chat".into(),
        timeout: Duration::from_secs(20),
        ack_timeout: None,
        send_buffer: 1 << 20,
    }
}

fn event(name: &str) -> Emit {
    Emit { name: Name::new(name), args: Args::default(), ack: None, volatile: false, sender: 9 }
}

/// An emit with an ack, and its timeout in seconds where it has one of its own.
fn asking(name: &str, timeout: Option<u64>) -> Emit {
    Emit { ack: Some(timeout.map(Duration::from_secs)), ..event(name) }
}
