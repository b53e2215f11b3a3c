//! Revision 3: this side pings, and everything heard is a sign of life.

use super::*;

/// Opened at 0 s; our pings are due every 25 s, and an answer within 20 s.
fn open(transport: TransportKind) -> Peer {
    let mut peer = Peer::of(Revision::V3, transport);
    assert_eq!(peer.hears(0, OPEN_WITHOUT_UPGRADES), ["opened S"]);
    peer
}

#[test]
fn a_ping_is_due_an_interval_after_the_handshake_and_after_each_answer() {
    let mut peer = open(TransportKind::WebSocket);
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(25)));
    assert_eq!(peer.waits_until(24), NOTHING);
    assert_eq!(peer.waits_until(25), ["> 2"]);
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(45)), "one ping at a time, and its deadline");
    assert_eq!(peer.waits_until(44), NOTHING);
    assert_eq!(peer.hears(44, "3"), NOTHING);
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(69)));
    assert_eq!(peer.waits_until(69), ["> 2"]);
    assert_eq!(peer.hears(69, "3"), NOTHING);
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(94)));
}

#[test]
fn a_ping_without_an_answer_ends_the_session() {
    let mut peer = open(TransportKind::WebSocket);
    assert_eq!(peer.waits_until(30), ["> 2"], "a late timer makes a late ping");
    assert_eq!(peer.waits_until(49), NOTHING);
    assert_eq!(peer.waits_until(50), ["closed ping timeout"]);
    assert_eq!(peer.session.poll_timeout(), None);
}

#[test]
fn everything_heard_moves_the_deadline_and_only_a_pong_brings_the_next_ping() {
    for (packet, heard) in
        [("4hello", &["message hello"][..]), ("6", &[]), ("2", &[]), ("0{}", &[]), ("5", &[])]
    {
        let mut peer = open(TransportKind::WebSocket);
        assert_eq!(peer.waits_until(25), ["> 2"]);
        assert_eq!(peer.hears(44, packet), heard, "{packet}: and no answer to a ping");
        assert_eq!(peer.session.poll_timeout(), Some(peer.at(89)), "{packet}");
        assert_eq!(peer.waits_until(88), NOTHING, "{packet}");
        assert_eq!(peer.waits_until(89), ["closed ping timeout"], "{packet}");
    }
}

#[test]
fn a_machine_that_slept_through_the_deadline_pings_no_more() {
    let mut peer = open(TransportKind::WebSocket);
    assert_eq!(peer.waits_until(45), ["closed ping timeout"]);
}

#[test]
fn while_nothing_is_read_pings_go_on_and_deadlines_rest() {
    let mut peer = open(TransportKind::WebSocket);
    peer.session.hold(peer.at(10));
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(25)));
    assert_eq!(peer.waits_until(25), ["> 2"]);
    assert_eq!(peer.session.poll_timeout(), None);
    assert_eq!(peer.waits_until(1000), NOTHING);
    peer.session.release(peer.at(1000));
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(1020)), "the answer has its 20 s from now on");
    assert_eq!(peer.hears(1000, "3"), NOTHING);
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(1025)));
}

#[test]
fn a_ping_waits_while_an_upgrade_pauses() {
    let mut peer = Peer::of(Revision::V3, TransportKind::Polling);
    assert_eq!(peer.hears(0, &OPEN.replace("25000", "5000")), ["opened S", "probe"]);
    peer.session.handle_probe_opened();
    assert_eq!(peer.out(), ["ws> 2probe"]);
    assert_eq!(peer.probe_hears("3probe"), ["pause"]);
    assert_eq!(peer.waits_until(5), NOTHING);
    assert_eq!(peer.hears(6, "6"), NOTHING);
    peer.session.handle_paused();
    assert_eq!(peer.out(), ["switch", "> 2"]);
}
