//! What is too large for the server.

use super::*;

/// The largest of these is `2/chat,0["big",12345678]`, with the digit of Engine.IO 25 bytes.
const NUMBER: &str = "[12345678]";

fn big(ack: bool) -> Emit {
    Emit { args: Args::from_array(NUMBER.into()).unwrap(), ack: ack.then_some(None), ..event("big") }
}

fn refused(size: usize, max: usize) -> String {
    format!("a packet of {size} bytes is more than the server takes: {max} (its maxPayload); it was not sent")
}

fn limit(max: usize) -> Limit {
    Limit { max_payload: Some(max), base64: false }
}

#[test]
fn an_emit_too_large_for_the_server_is_refused_and_costs_nothing() {
    for scene in [Peer::new as Scene, Peer::joining, Peer::joined] {
        let mut peer = scene();
        peer.socket.set_limit(limit(24));
        assert_eq!(peer.emit(big(true)), format!("{}, ticket back", refused(25, 24)));
        assert_eq!((peer.socket.buffered(), peer.socket.pending_acks()), (0, 0));
        assert_eq!(peer.out(), NOTHING);
        // Without the ack's id it is a byte shorter.
        assert!(!peer.emit(big(false)).contains("bytes"));
        peer.socket.set_limit(limit(25));
        assert!(!peer.emit(big(true)).contains("bytes"), "its id was not used up");
    }
}

#[test]
fn a_volatile_emit_that_would_be_dropped_is_dropped() {
    let mut peer = Peer::joined();
    peer.socket.set_limit(limit(10));
    let volatile = || Emit { volatile: true, ..big(false) };
    assert_eq!(peer.emit_writable(volatile(), false), "dropped, ticket back");
    assert_eq!(peer.emit(volatile()), format!("{}, ticket back", refused(24, 10)));
}

#[test]
fn bytes_count_as_they_travel() {
    let bytes = || Emit {
        args: Args::from_consumer(&format!(r#"[{{"$binary":"{}"}}]"#, "AAAA".repeat(30)), true, 10).unwrap(),
        ..event("b")
    };
    let mut peer = Peer::joined();
    for (base64, size) in [(false, 90), (true, 121)] {
        peer.socket.set_limit(Limit { max_payload: Some(size - 1), base64 });
        assert_eq!(peer.emit(bytes()), format!("{}, ticket back", refused(size, size - 1)));
        peer.socket.set_limit(Limit { max_payload: Some(size), base64 });
        assert_eq!(peer.emit(bytes()), "sent, ticket back");
    }
    peer.loses(CloseReason::TransportClose);
    peer.socket.set_limit(Limit { max_payload: Some(100), base64: true });
    assert_eq!(peer.emit(bytes()), "buffered, ticket back", "the next transport may be another");
}

#[test]
fn what_waited_and_is_too_large_after_all_is_given_up_and_said() {
    let mut peer = Peer::new();
    peer.emit(event("first"));
    peer.emit(big(true));
    peer.emit(big(false));
    peer.emit(asking("last", None));
    peer.socket.set_limit(limit(20));
    let error = refused(25, 20);
    let too_large = "answer big: toolarge(toolarge { size: 25, max: 20 })";
    assert_eq!(
        peer.join_and_answer(),
        [
            too_large,
            &format!(r#"lost "big": {error}"#),
            &format!(r#"lost "big": {}"#, refused(24, 20)),
            "connect A",
            r#"> 2/chat,["first"]"#,
            r#"> 2/chat,1["last"]"#,
        ]
    );
    assert_eq!((peer.socket.buffered(), peer.socket.pending_acks(), peer.socket.sent()), (0, 1, 2));
    assert_eq!(peer.loses(CloseReason::TransportClose).len(), 2, "the disconnect, and the answer to `last`");
    let room = peer.emit(event("room"));
    assert_eq!(room, "buffered, ticket back");
}

#[test]
fn an_answer_too_large_for_the_server_may_be_given_again() {
    let mut peer = Peer::joined();
    peer.socket.set_limit(limit(20));
    peer.hears(r#"2/chat,7["ask"]"#);
    assert_eq!(peer.answer(1, "[12345678901]"), [refused(22, 20)]);
    assert_eq!(peer.answer(1, "[1]"), ["> 3/chat,7[1]"]);
    assert_eq!(peer.answer(1, "[1]"), ["unknown"]);
}

#[test]
fn an_auth_object_too_large_for_the_server_is_not_sent() {
    let mut peer = Peer::new();
    peer.socket.connect();
    peer.socket.set_limit(limit(20));
    let error = peer.socket.join(peer.start, Some(r#"{"token":"12345"}"#)).unwrap_err();
    assert_eq!(error, TooLarge { size: 25, max: 20 });
    assert_eq!(peer.out(), NOTHING);
    assert_eq!(peer.join(Some(r#"{"t":1}"#)), [r#"> 0/chat,{"t":1}"#]);
}
