//! Each test is a transcript: what we or the server say, and everything that comes of it. What goes to the server
//! begins with `>`, what our sockets hear with `<`.

use super::*;
use crate::engineio::{Message, Revision};
use crate::socketio::{Decoder, Parser};

const NOTHING: [&str; 0] = [];

struct Peer(OldServer);

impl Peer {
    fn new() -> Self {
        Self::with("")
    }

    fn with(query: &str) -> Self {
        let mut old = OldServer::new(query.to_owned());
        old.begin("S");
        Self(old)
    }

    /// In `/`, as the server said unasked.
    fn in_root() -> Self {
        let mut peer = Self::new();
        assert_eq!(peer.hears("0"), NOTHING);
        peer
    }

    fn says(&mut self, text: &str) -> Vec<String> {
        let packet = decode(text, Revision::V4);
        let namespace = packet.namespace.clone();
        let mut out = Vec::new();
        if let Some(body) = self.0.send(packet) {
            out.push(format!("< {}", written(&Packet { namespace, body })));
        }
        self.out(out)
    }

    fn hears(&mut self, text: &str) -> Vec<String> {
        self.0.handle_packet(decode(text, Revision::V3));
        self.out(Vec::new())
    }

    fn out(&mut self, mut out: Vec<String>) -> Vec<String> {
        while let Some(packet) = self.0.poll_transmit() {
            out.push(format!("> {}", written(&packet)));
        }
        while let Some(packet) = self.0.poll_packet() {
            out.push(format!("< {}", written(&packet)));
        }
        out
    }
}

fn decode(text: &str, revision: Revision) -> Packet {
    let mut decoder = Decoder::new(Parser::Json, 10, usize::MAX).with_revision(revision);
    decoder.decode(Message::Text(text.into())).unwrap().unwrap()
}

fn written(packet: &Packet) -> String {
    let mut messages = Vec::new();
    packet.encode(Parser::Json, &mut messages);
    match messages.swap_remove(0) {
        Message::Text(text) => text.to_string(),
        Message::Binary(_) => panic!("a packet begins with its text"),
    }
}

#[test]
fn the_root_is_joined_without_being_asked_for() {
    let mut peer = Peer::new();
    assert_eq!(peer.says("0"), NOTHING);
    assert_eq!(peer.hears("0"), [r#"< 0{"sid":"S"}"#]);
    assert_eq!(peer.says(r#"20["a",1]"#), [r#"> 20["a",1]"#]);
    assert_eq!(peer.hears("30[2]"), ["< 30[2]"]);
    assert_eq!(peer.hears(r#"2["connect"]"#).len(), 1);
}

#[test]
fn who_comes_after_the_servers_word_is_in_at_once() {
    let mut peer = Peer::in_root();
    assert_eq!(peer.says("0"), [r#"< 0{"sid":"S"}"#]);
}

#[test]
fn other_namespaces_wait_for_the_root_and_take_the_query() {
    let mut peer = Peer::with("token=a%20b&x=1");
    assert_eq!(peer.says("0/admin,"), NOTHING);
    assert_eq!(peer.says("0/chat,"), NOTHING);
    assert_eq!(peer.hears("0"), ["> 0/admin?token=a%20b&x=1,", "> 0/chat?token=a%20b&x=1,"]);
    assert_eq!(peer.hears("0/admin,"), [r#"< 0/admin,{"sid":"/admin#S"}"#]);
    assert_eq!(peer.says("0/later,"), ["> 0/later?token=a%20b&x=1,"]);
}

#[test]
fn namespaces_that_nobody_asked_for_are_not_joined() {
    let mut peer = Peer::in_root();
    assert_eq!(peer.hears("0/a,"), NOTHING);
    peer.says("0/b,");
    assert_eq!(peer.hears("0/b,"), [r#"< 0/b,{"sid":"/b#S"}"#]);
    assert_eq!(peer.hears("0/b,"), NOTHING);
    peer.says("0/c,");
    peer.hears(r#"4/c,"no""#);
    assert_eq!(peer.hears("0/c,"), NOTHING);
    assert_eq!(peer.hears(r#"4"what is for all""#), [r#"< 2/b,["error","what is for all"]"#]);
}

#[test]
fn out_of_the_root_the_session_is_spent() {
    let leave: fn(&mut Peer) = |peer| assert_eq!(peer.says("1"), ["> 1"]);
    let kick: fn(&mut Peer) = |peer| assert_eq!(peer.hears("1"), ["< 1"]);
    for end in [leave, kick] {
        let mut peer = Peer::in_root();
        peer.says("0");
        peer.says("0/admin,");
        peer.hears("0/admin,");
        assert!(!peer.0.is_spent());
        end(&mut peer);
        assert!(peer.0.is_spent());
        assert_eq!(peer.says(r#"2/admin,["a"]"#), [r#"> 2/admin,["a"]"#], "who is in stays in");
        peer.0.begin("T");
        assert!(!peer.0.is_spent());
    }
}

#[test]
fn an_error_refuses_who_has_asked() {
    for (payload, refusal) in [
        (r#""not authorized""#, r#""not authorized""#),
        ("", ""),
        (r#"{"code":"E1"}"#, r#"{"message":"","data":{"code":"E1"}}"#),
        (r#"{"message":"no","n":1.50}"#, r#"{"message":"no","data":{"message":"no","n":1.50}}"#),
        (r#"{"message":"Invalid namespace"}"#, r#"{"message":"Invalid namespace"}"#),
        (r#"{"message":7}"#, r#"{"message":7,"data":{"message":7}}"#),
        (r#"["a"]"#, r#"{"message":"","data":["a"]}"#),
        ("null", r#"{"message":"","data":null}"#),
    ] {
        let mut peer = Peer::in_root();
        peer.says("0/admin,");
        assert_eq!(peer.hears(&format!("4/admin,{payload}")), [format!("< 4/admin,{refusal}")], "{payload}");

        let mut peer = Peer::new();
        peer.says("0/admin,");
        peer.says("0");
        let both = [format!("< 4{refusal}"), format!("< 4/admin,{refusal}")];
        assert_eq!(peer.hears(&format!("4{payload}")), both, "{payload}: without / nothing is joined");
        assert!(peer.0.is_spent(), "{payload}");
    }
}

#[test]
fn an_error_is_an_event_to_who_has_joined() {
    let mut peer = Peer::in_root();
    for namespace in ["/admin", "/chat"] {
        peer.says(&format!("0{namespace},"));
        peer.hears(&format!("0{namespace},"));
    }
    peer.says("0/late,");
    assert_eq!(peer.hears(r#"4/admin,"no""#), [r#"< 2/admin,["error","no"]"#]);
    assert_eq!(peer.hears("4/admin,"), [r#"< 2/admin,["error"]"#]);
    let everybody = [r#"< 2/admin,["error",{"a":1}]"#, r#"< 2/chat,["error",{"a":1}]"#];
    assert_eq!(peer.hears(r#"4{"a":1}"#), everybody, "of / it is for all who are in");
    peer.says("1/admin,");
    peer.hears("1/chat,");
    assert_eq!(peer.hears(r#"4"no""#), NOTHING);
    assert_eq!(peer.hears(r#"4/late,"no""#), [r#"< 4/late,"no""#]);
}

#[test]
fn a_new_session_begins_anew() {
    let mut peer = Peer::with("a=1");
    peer.says("0/admin,");
    peer.hears("0");
    peer.hears("0/admin,");
    peer.0.begin("T");
    assert_eq!(peer.says("0/admin,"), NOTHING);
    assert_eq!(peer.hears("0"), ["> 0/admin?a=1,"]);
    assert_eq!(peer.hears("0/admin,"), [r#"< 0/admin,{"sid":"/admin#T"}"#]);
}
