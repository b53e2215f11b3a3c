//! From CONNECT to the end of a joined namespace.

use super::*;

/// Something that befalls the socket, and what it says then.
type Blow = fn(&mut Peer) -> Vec<String>;

#[test]
fn connect_is_sent_once_a_session_whoever_asks() {
    let mut peer = Peer::new();
    assert!(!peer.socket.is_active());
    peer.socket.join(peer.start, None).unwrap();
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
        (r#"4/chat,{"message":7}"#, "refused 7", false),
        (r#"4/chat,{"message":true}"#, "refused true", false),
        (r#"4/chat,{"message":null}"#, "refused null", false),
        (r#"4/chat,{"message":["no"]}"#, r#"refused ["no"]"#, false),
        (r#"4/chat,{"message":"\u006eo","data":null}"#, "refused no null", false),
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
        let taken =
            (0..=at_most).take_while(|_| peer.socket.handle_packet(peer.start, body.clone()).is_ok()).count();
        assert!(taken > 0 && taken <= at_most, "{taken} events of {} bytes", event.len());
    }
}

#[test]
fn events_before_the_answer_do_not_keep_their_messages() {
    let mut peer = Peer::joining();
    let message = ByteString::from(r#"51-/chat,["a",{"_placeholder":true,"num":0}]"#);
    let attachment = bytes::Bytes::from(vec![1; 100]);
    let mut decoder = Decoder::new(Parser::Json, 10, usize::MAX);
    assert_eq!(decoder.decode(Message::Text(message.clone())), Ok(None));
    let body = decoder.decode(Message::Binary(attachment.slice(..10))).unwrap().unwrap().body;
    peer.socket.handle_packet(peer.start, body).unwrap();
    assert!(message.into_bytes().is_unique());
    assert!(attachment.is_unique());
    assert_eq!(peer.hears(JOINED).len(), 2);
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
fn who_is_let_in_unasked_says_nothing() {
    let mut peer = Peer::new();
    assert_eq!(peer.hears(JOINED), NOTHING);
    peer.join_and_answer();
    peer.hears("1/chat,");
    assert_eq!(peer.hears(JOINED), NOTHING, "the CONNECT was answered");

    // A DISCONNECT that crosses a CONNECT is no answer to it.
    peer.socket.connect();
    assert_eq!(peer.join(None), ["> 0/chat,"]);
    assert_eq!(peer.hears("1/chat,").len(), 1);
    assert_eq!(peer.hears(JOINED), ["> 1/chat,"]);
    assert_eq!(peer.hears(JOINED), NOTHING);
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
fn an_id_that_no_server_gives_is_refused() {
    let (longest, longer) = ("i".repeat(1024), "i".repeat(1025));
    let mut peer = Peer::joining();
    let message = "the socket's id has 1025 bytes, more than 1024";
    assert_eq!(peer.hears(&format!(r#"0/chat,{{"sid":"{longer}"}}"#)), [format!("refused {message}")]);
    let mut peer = Peer::joining();
    assert_eq!(peer.hears(&format!(r#"0/chat,{{"sid":"{longest}"}}"#)), [format!("connect {longest}")]);
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
