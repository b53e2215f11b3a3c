//! Each test is a transcript: what comes in at which time, and everything that comes out.

use super::*;
use crate::engineio::Frame;

mod our_pings;

const OPEN: &str = r#"0{"sid":"S","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000}"#;
const OPEN_WITHOUT_UPGRADES: &str = r#"0{"sid":"S","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
const NOTHING: [&str; 0] = [];

#[test]
fn the_handshake_opens_the_session_and_messages_flow() {
    let mut peer = Peer::new(TransportKind::WebSocket);
    peer.session.send(text("too early"));
    assert_eq!(peer.session.poll_timeout(), None);
    assert_eq!(peer.out(), NOTHING);

    assert_eq!(peer.hears(0, OPEN), ["opened S"]);
    assert!(peer.session.is_open());
    peer.session.send(text("a"));
    peer.session.send(Message::Binary(b"\x01".as_slice().into()));
    assert_eq!(peer.out(), ["> 4a", "> bytes [1]"]);
    assert_eq!(peer.hears(1, "4"), ["message "]);
    assert_eq!(peer.hears(1, "bAQI="), ["message [1, 2]"]);
}

#[test]
fn what_cannot_open_a_session_fails_at_once() {
    for (packet, description) in [
        ("0", "bad handshake: not a JSON object"),
        ("0[]", "bad handshake: not a JSON object"),
        (r#"0{"sid":"","pingInterval":1,"pingTimeout":1}"#, "bad handshake: sid is empty"),
        (
            r#"0{"sid":"S","pingInterval":1}"#,
            "bad handshake: missing field `pingTimeout` at line 1 column 28",
        ),
        ("1", "expected the handshake, got a packet of type close"),
        ("2", "expected the handshake, got a packet of type ping"),
        ("3probe", "expected the handshake, got a packet of type pong"),
        ("40", "expected the handshake, got a packet of type message"),
        ("5", "expected the handshake, got a packet of type upgrade"),
        ("6", "expected the handshake, got a packet of type noop"),
    ] {
        let mut peer = Peer::new(TransportKind::WebSocket);
        let closed = format!("closed transport error: server error ({description})");
        assert_eq!(peer.hears(0, packet), [closed], "{packet}");
        assert_eq!(peer.hears(0, OPEN), NOTHING, "{packet}");
    }
}

#[test]
fn only_pings_move_the_deadline() {
    // At the last second before the deadline each packet comes; when does the session end then?
    for (packet, answer, end) in [
        ("2", &["> 3"][..], 89),
        ("2abc", &["> 3"], 89),
        ("4hello", &["message hello"], 45),
        ("3", &[], 45),
        ("3probe", &[], 45),
        ("5", &[], 45),
        ("6", &[], 45),
        (OPEN, &[], 45),
        (r#"0{"sid":"T","pingInterval":9000,"pingTimeout":9000}"#, &[], 45),
    ] {
        let mut peer = Peer::open(TransportKind::WebSocket);
        assert_eq!(peer.hears(44, packet), answer, "{packet}");
        assert_eq!(peer.session.poll_timeout(), Some(peer.at(end)), "{packet}");
        assert_eq!(peer.waits_until(end - 1), NOTHING, "{packet}");
        assert_eq!(peer.waits_until(end), ["closed ping timeout"], "{packet}");
    }
}

#[test]
fn one_pong_answers_all_pings_that_came_meanwhile() {
    let mut peer = Peer::upgrading(Stage::Pausing);
    for second in 0..5 {
        assert_eq!(peer.hears(second, "2"), NOTHING);
    }
    peer.session.send(text("a"));
    peer.hears(5, "2");
    peer.session.handle_paused();
    assert_eq!(peer.out(), ["switch", "> 3", "> 4a", "> 3"]);
    assert_eq!(peer.hears(6, "2"), ["> 3"]);
}

#[test]
fn a_late_wake_up_finds_the_session_dead() {
    let mut peer = Peer::open(TransportKind::WebSocket);
    peer.session.send(text("never sent"));
    assert_eq!(peer.waits_until(3600), ["closed ping timeout"]);
    assert_eq!(peer.session.poll_timeout(), None);
}

#[test]
fn the_deadline_rests_while_nothing_is_read() {
    let mut peer = Peer::open(TransportKind::WebSocket);
    let at = |seconds| peer.start + Duration::from_secs(seconds);
    peer.session.hold(at(40));
    peer.session.hold(at(60));
    assert_eq!(peer.session.poll_timeout(), None);
    peer.session.handle_timeout(at(100));
    assert!(peer.session.is_open());

    peer.session.release(at(140));
    assert_eq!(peer.session.poll_timeout(), Some(at(145)));
    peer.session.release(at(144));
    assert_eq!(peer.session.poll_timeout(), Some(at(145)), "a second release changes nothing");
    assert_eq!(peer.waits_until(145), ["closed ping timeout"]);
}

#[test]
fn a_deadline_set_during_a_hold_rests_from_then_on() {
    let mut peer = Peer::new(TransportKind::WebSocket);
    peer.session.hold(peer.at(0));
    peer.hears(30, OPEN);
    peer.session.release(peer.at(40));
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(85)), "45 s from the handshake, 10 s on hold");

    peer.session.hold(peer.at(50));
    peer.hears(60, "2");
    peer.session.release(peer.at(61));
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(106)), "45 s from the ping, 1 s on hold");
}

#[test]
fn an_upgrade_probes_pauses_and_switches() {
    let mut peer = Peer::new(TransportKind::Polling);
    assert_eq!(peer.hears(0, OPEN), ["opened S", "probe"]);
    peer.session.send(text("0"));
    assert_eq!(peer.out(), ["> 40"], "polling goes on meanwhile");

    peer.session.handle_probe_opened();
    assert_eq!(peer.out(), ["ws> 2probe"]);
    peer.session.send(text("1"));
    assert_eq!(peer.out(), ["> 41"]);
    assert_eq!(peer.probe_hears("3probe"), ["pause"]);
    assert!(peer.session.is_paused());

    peer.session.send(text("2"));
    assert_eq!(peer.hears(1, "4from the last poll"), ["message from the last poll"]);
    assert_eq!(peer.hears(1, "2"), NOTHING, "the pong waits too");
    assert_eq!(peer.session.transport(), TransportKind::Polling);

    peer.session.handle_paused();
    assert_eq!(peer.out(), ["switch", "> 42", "> 3"]);
    assert_eq!(peer.session.transport(), TransportKind::WebSocket);
    assert!(!peer.session.is_paused());
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(46)), "the upgrade has no deadline any more");
}

#[test]
fn an_upgrade_is_tried_only_where_it_can_work() {
    for (transport, may_upgrade, open) in [
        (TransportKind::Polling, false, OPEN),
        (TransportKind::WebSocket, true, OPEN),
        (TransportKind::Polling, true, OPEN_WITHOUT_UPGRADES),
        (
            TransportKind::Polling,
            true,
            r#"0{"sid":"S","upgrades":["webtransport"],"pingInterval":1,"pingTimeout":1}"#,
        ),
    ] {
        let mut peer = Peer::new(transport);
        peer.session = Session::new(Revision::V4, transport, may_upgrade);
        assert_eq!(peer.hears(0, open), ["opened S"], "{transport:?} {may_upgrade} {open}");
    }
}

/// What befalls an upgrade, how far it has come by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Opening,
    Probing,
    Pausing,
}

#[test]
fn a_failed_upgrade_leaves_the_session_on_polling() {
    type Blow = fn(&mut Peer) -> Vec<String>;
    let timeout: Blow = |peer| peer.waits_until(10);
    let lost: Blow = |peer| {
        peer.session.handle_probe_failed("websocket error");
        peer.out()
    };
    let rows: [(Stage, Blow, &str); 13] = [
        (Stage::Opening, lost, "websocket error"),
        (Stage::Opening, timeout, "timeout"),
        (Stage::Probing, lost, "websocket error"),
        (Stage::Probing, timeout, "timeout"),
        (Stage::Probing, |peer| peer.probe_hears("3"), "unexpected packet of type pong"),
        (Stage::Probing, |peer| peer.probe_hears("3prob"), "unexpected packet of type pong"),
        (Stage::Probing, |peer| peer.probe_hears("2probe"), "unexpected packet of type ping"),
        (Stage::Probing, |peer| peer.probe_hears(OPEN), "unexpected packet of type open"),
        (Stage::Probing, |peer| peer.probe_hears("42[]"), "unexpected packet of type message"),
        (Stage::Probing, |peer| peer.probe_hears("1"), "unexpected packet of type close"),
        (Stage::Pausing, lost, "websocket error"),
        (Stage::Pausing, timeout, "timeout"),
        (Stage::Pausing, |peer| peer.probe_hears("3probe"), "unexpected packet of type pong"),
    ];
    for (stage, blow, why) in rows {
        let mut peer = Peer::upgrading(stage);
        peer.session.send(text("kept"));
        let kept = if stage == Stage::Pausing { vec![] } else { vec!["> 4kept"] };
        assert_eq!(peer.out(), kept, "{stage:?} {why}");

        let mut expected = vec![format!("stay on polling: probe error: {why}")];
        if stage == Stage::Pausing {
            expected.push("> 4kept".into());
        }
        assert_eq!(blow(&mut peer), expected, "{stage:?}");

        // Nothing that comes late revives it, and there is no second try.
        peer.session.handle_probe_opened();
        assert_eq!(peer.probe_hears("3probe"), NOTHING, "{stage:?} {why}");
        peer.session.handle_paused();
        peer.session.handle_probe_failed("again");
        assert_eq!(peer.out(), NOTHING, "{stage:?} {why}");
        assert_eq!(peer.session.transport(), TransportKind::Polling);
        assert_eq!(peer.hears(11, "4still here"), ["message still here"]);
        assert_eq!(peer.session.poll_timeout(), Some(peer.at(45)));
    }
}

#[test]
fn both_phases_of_an_upgrade_share_one_deadline() {
    let mut peer = Peer::upgrading(Stage::Probing);
    assert_eq!(peer.waits_until(9), NOTHING);
    peer.probe_hears("3probe");
    assert_eq!(peer.session.poll_timeout(), Some(peer.at(10)));
    assert_eq!(peer.waits_until(10), ["stay on polling: probe error: timeout"]);
}

#[test]
fn the_end_of_the_session_ends_an_upgrade() {
    for stage in [Stage::Opening, Stage::Probing, Stage::Pausing] {
        let mut peer = Peer::upgrading(stage);
        peer.session.send(text("lost"));
        peer.session.handle_transport_lost(false, Details::new("xhr poll error"));
        assert_eq!(peer.out(), ["closed transport error: xhr poll error"], "{stage:?}");
        peer.session.handle_probe_opened();
        peer.session.handle_paused();
        peer.session.handle_probe_failed("gone");
        assert_eq!(peer.probe_hears("3probe"), NOTHING, "{stage:?}");
    }
}

#[test]
fn closing_during_an_upgrade_still_sends_what_was_held_back() {
    for stage in [Stage::Opening, Stage::Probing, Stage::Pausing] {
        let mut peer = Peer::upgrading(stage);
        peer.session.send(text("1"));
        peer.session.close();
        assert_eq!(peer.out(), ["> 41"], "{stage:?}");
        peer.session.handle_paused();
        assert_eq!(peer.probe_hears("3probe"), NOTHING, "{stage:?}");
    }
}

#[test]
fn every_end_says_why() {
    type Blow = fn(&mut Peer) -> Vec<String>;
    let rows: [(Blow, &str); 4] = [
        (|peer| peer.hears(1, "1"), "closed transport close: transport closed by the server"),
        (|peer| peer.waits_until(45), "closed ping timeout"),
        (
            |peer| {
                let details = Details { code: Some(1006), ..Details::new("websocket connection closed") };
                peer.session.handle_transport_lost(true, details);
                peer.out()
            },
            "closed transport close: websocket connection closed 1006",
        ),
        (
            |peer| {
                let details = Details { code: Some(400), ..Details::new("xhr poll error") };
                peer.session.handle_transport_lost(false, details);
                peer.out()
            },
            "closed transport error: xhr poll error 400",
        ),
    ];
    for (blow, closed) in rows {
        let mut peer = Peer::open(TransportKind::WebSocket);
        peer.session.send(text("never sent"));
        assert_eq!(blow(&mut peer), [closed]);
        assert!(!peer.session.is_open());

        // Over is over: nothing is sent, nothing is heard, nothing is waited for.
        peer.session.send(text("never sent"));
        for packet in ["1", "2", "4late", OPEN] {
            assert_eq!(peer.hears(46, packet), NOTHING, "{closed}: {packet}");
        }
        peer.session.handle_transport_lost(true, Details::new("again"));
        peer.session.close();
        assert_eq!(peer.waits_until(100), NOTHING, "{closed}");
        assert_eq!(peer.session.poll_timeout(), None);
    }
}

#[test]
fn closing_gives_what_is_queued_and_no_event() {
    let mut peer = Peer::new(TransportKind::Polling);
    peer.session.handle_packet(peer.start, packet(OPEN));
    peer.session.send(text("1"));
    peer.session.close();
    peer.session.send(text("too late"));
    peer.session.handle_transport_lost(true, Details::new("gone"));
    assert_eq!(peer.out(), ["> 41"]);
}

/// A session, and what its driver and its server do.
struct Peer {
    start: Instant,
    session: Session,
}

impl Peer {
    fn new(transport: TransportKind) -> Self {
        Self::of(Revision::V4, transport)
    }

    fn of(revision: Revision, transport: TransportKind) -> Self {
        Self { start: Instant::now(), session: Session::new(revision, transport, true) }
    }

    /// Opened at 0 s; pings are due every 25 s and may be 20 s late.
    fn open(transport: TransportKind) -> Self {
        let mut peer = Self::new(transport);
        assert_eq!(peer.hears(0, OPEN_WITHOUT_UPGRADES), ["opened S"]);
        peer
    }

    /// The same on polling, with an upgrade that has come to `stage`.
    fn upgrading(stage: Stage) -> Self {
        let mut peer = Self::new(TransportKind::Polling);
        peer.hears(0, OPEN);
        if stage >= Stage::Probing {
            peer.session.handle_probe_opened();
            assert_eq!(peer.out(), ["ws> 2probe"]);
        }
        if stage == Stage::Pausing {
            assert_eq!(peer.probe_hears("3probe"), ["pause"]);
        }
        peer
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn hears(&mut self, seconds: u64, text: &str) -> Vec<String> {
        let message = self.session.handle_packet(self.at(seconds), packet(text));
        let message = message.map(|message| match message {
            Message::Text(text) => format!("message {text}"),
            Message::Binary(bytes) => format!("message {:?}", &bytes[..]),
        });
        message.into_iter().chain(self.out()).collect()
    }

    fn probe_hears(&mut self, text: &str) -> Vec<String> {
        self.session.handle_probe_packet(&packet(text));
        self.out()
    }

    fn waits_until(&mut self, seconds: u64) -> Vec<String> {
        self.session.handle_timeout(self.at(seconds));
        self.out()
    }

    /// Events, then what goes to the probe, then what goes to the transport, as a driver takes them.
    fn out(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(event) = self.session.poll_event() {
            out.push(match event {
                Event::Opened(handshake) => format!("opened {}", handshake.sid),
                Event::Probe => "probe".into(),
                Event::Pause => "pause".into(),
                Event::Switch => "switch".into(),
                Event::AbandonUpgrade(message) => format!("stay on polling: {message}"),
                Event::Closed(reason, details) => closed(reason, details),
            });
        }
        while let Some(packet) = self.session.poll_probe_transmit() {
            out.push(format!("ws> {}", wire(&packet)));
        }
        while let Some(packet) = self.session.poll_transmit() {
            out.push(format!("> {}", wire(&packet)));
        }
        out
    }
}

fn closed(reason: CloseReason, details: Option<Details>) -> String {
    let reason = reason.as_str();
    let Some(Details { message, code, description, .. }) = details else { return format!("closed {reason}") };
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    let description = description.map(|description| format!(" ({description})")).unwrap_or_default();
    format!("closed {reason}: {message}{code}{description}")
}

fn wire(packet: &Packet) -> String {
    match packet.encode() {
        Frame::Text(text) => text.to_string(),
        Frame::Binary(bytes) => format!("bytes {:?}", &bytes[..]),
    }
}

fn packet(text: &str) -> Packet {
    Packet::decode_text(text.into()).unwrap()
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}
