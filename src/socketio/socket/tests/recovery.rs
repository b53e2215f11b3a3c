//! Getting an earlier session back.

use super::*;
use crate::socketio::{Step, StepArgs};

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

#[test]
fn what_cannot_be_an_offset_does_not_keep_the_connection_away() {
    let mut peer = Peer::new();
    peer.socket.connect();
    peer.join(None);
    peer.socket.set_limit(Limit { max_payload: Some(100), base64: false });
    peer.hears(r#"0/chat,{"sid":"A","pid":"P"}"#);
    peer.hears(&format!(r#"2/chat,["e","{}"]"#, "x".repeat(100)));
    peer.loses(CloseReason::TransportClose);
    assert_eq!(peer.join(Some(r#"{"t":1}"#)), [r#"> 0/chat,{"t":1}"#]);
    assert_eq!(peer.hears(r#"0/chat,{"sid":"B","pid":"Q"}"#), ["connect B"]);
}

#[test]
fn another_process_goes_on_with_a_session() {
    let mut peer = Peer::new();
    peer.socket.connect();
    peer.join(None);
    peer.hears(r#"0/chat,{"sid":"A","pid":"P"}"#);
    assert_eq!(peer.socket.recoverable(), None, "without an offset no server gives it back");
    peer.hears(r#"2/chat,["e","O"]"#);
    let session = peer.socket.recoverable().unwrap();
    assert!(!format!("{session:?}").contains('P'), "whoever knows the id can have the session");
    peer.socket.suspend();
    assert_eq!(peer.out(), ["disconnect io client disconnect"], "a DISCONNECT would end the session");
    assert!(!peer.socket.is_active());

    let mut next = Peer::new();
    next.socket.resume(session.clone());
    assert_eq!(next.socket.recoverable(), Some(session));
    next.socket.connect();
    assert_eq!(next.join(None), [r#"> 0/chat,{"pid":"P","offset":"O"}"#]);
    assert_eq!(next.hears(r#"0/chat,{"sid":"A","pid":"P"}"#), ["connect A recovered"]);
}

#[test]
fn a_session_that_cannot_be_given_back_is_left() {
    for (joined, event, left) in [
        (r#"0/chat,{"sid":"A"}"#, r#"2/chat,["e","O"]"#.to_owned(), true),
        (r#"0/chat,{"sid":"A","pid":"P"}"#, r#"2/chat,["e",1]"#.to_owned(), true),
        (r#"0/chat,{"sid":"A","pid":"P"}"#, format!(r#"2/chat,["e","{}"]"#, "x".repeat(2000)), true),
        (r#"0/chat,{"sid":"A","pid":"P"}"#, r#"2/chat,["e","O"]"#.to_owned(), false),
    ] {
        let mut peer = Peer::new();
        peer.socket.connect();
        peer.join(None);
        peer.hears(joined);
        peer.hears(&event);
        peer.socket.suspend();
        let goes = peer.out().contains(&"> 1/chat,".to_owned());
        assert_eq!(goes, left, "{joined} {}", &event[..20.min(event.len())]);
    }
}

#[test]
fn a_script_that_went_through_in_another_process_is_not_run_again() {
    let scripted = || {
        let step = Step {
            event: Name::new("login"),
            args: StepArgs::Fixed(Args::default()),
            expect: None,
            timeout: Duration::from_secs(10),
        };
        Peer::with(Settings { script: vec![step].into(), ..settings() })
    };
    let mut peer = scripted();
    peer.socket.connect();
    peer.join(None);
    peer.hears(r#"0/chat,{"sid":"A","pid":"P"}"#);
    peer.hears(r#"2/chat,["e","O"]"#);
    let session = peer.socket.recoverable().unwrap();
    let mut next = scripted();
    next.socket.resume(session);
    next.socket.connect();
    next.join(None);
    assert_eq!(next.hears(r#"0/chat,{"sid":"A","pid":"P"}"#), ["connect A recovered", "ready"]);
}
