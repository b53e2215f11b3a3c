//! What is written is read again, and nothing else is.

use proptest::prelude::*;

use super::*;
use crate::hub::log::Settings;

const HUGE: Settings = Settings { events: 1 << 20, bytes: 1 << 30 };

/// A line: an event or not, its name, how much more there is.
type Line = (bool, String, usize);

/// Connections with the lines that were evicted before, those of the ring, and those that are kept.
type Connections = Vec<(u64, Vec<Line>, Vec<Line>)>;

fn text((_, name, more): &Line) -> (Vec<u8>, Range<usize>) {
    let text = format!("{{\"{name}\",{}}}\n", ".".repeat(*more));
    (text.into_bytes(), 1..name.len() + 3)
}

fn facts(number: usize, seq: u64) -> Facts {
    let failure = r#"{"message":"no","phase":"tcp","hint":"try","time":"2026-01-02T03:04:05.678Z"}"#;
    let session = r#"{"private_id":"P","offset":"O","was_set_up":true}"#;
    Facts {
        name: format!("chat {number} \"é\""),
        seq,
        last_ack: 7,
        session_began: 3,
        received: 1 << 40,
        sent: 2,
        reconnects: 1,
        identity: Some("who".to_owned()),
        session: Some(serde_json::from_str(session).unwrap()),
        last_error: Some(serde_json::from_str(failure).unwrap()),
        last_disconnect: None,
    }
}

fn head() -> Head {
    Head { stream: "s1".to_owned(), whole: true, beyond: Beyond { seq: 7, ack: 3 } }
}

fn written(connections: &Connections) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &head()).unwrap();
    for (number, (before, ring, kept)) in connections.iter().enumerate() {
        let mut log = Log::new(HUGE, Duration::ZERO).starting_at(before + 1);
        for line in ring {
            let (text, name) = text(line);
            log.push(&text, if line.0 { Kind::Event } else { Kind::Lifecycle }, name);
        }
        // Its number is higher than any other's where there are more kept lines than lines.
        let seq = log.head().max(kept.len() as u64);
        let sticky = kept.iter().zip(1..).map(|(line, seq)| {
            let (text, name) = text(line);
            (seq, text.into(), name)
        });
        let sticky: Vec<NumberedLine> = sticky.collect();
        writer.connection(&facts(number, seq), &log.runs(), &sticky).unwrap();
    }
    writer.finish().unwrap()
}

fn read_all(file: &[u8], settings: &Settings) -> Result<Saved, ReadError> {
    read(file, file.len() as u64, |_, _| Some(settings.clone()))
}

/// All lines of a ring: whether it is an event, the name and the text; and the number of the first.
fn content(log: &mut Log) -> (u64, Vec<(bool, String, String)>) {
    let mut lines = Vec::new();
    let utf8 = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap();
    for run in log.runs() {
        lines.extend(
            run.lines().map(|(text, kind, name)| (kind == Kind::Event, utf8(&text[name]), utf8(text))),
        );
    }
    (log.oldest(), lines)
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let size = prop_oneof![9 => 0..200_usize, 1 => 0..40_000_usize];
    prop::collection::vec((any::<bool>(), "[a-zé]{0,8}", size), 0..20)
}

fn connections() -> impl Strategy<Value = Connections> {
    // Numbers of kept lines are not above the ring's where there are as many before it.
    prop::collection::vec((20..1000_u64, lines(), lines()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(connections in connections()) {
        let file = written(&connections);
        let saved = read_all(&file, &HUGE).unwrap();
        prop_assert_eq!(&saved.head, &head());
        prop_assert_eq!(saved.connections.len(), connections.len());
        for (number, (mut read, (before, ring, kept))) in saved.connections.into_iter().zip(&connections).enumerate() {
            let expected = facts(number, before + ring.len() as u64);
            prop_assert_eq!(
                serde_json::to_string(&read.facts).unwrap(), serde_json::to_string(&expected).unwrap()
            );
            prop_assert_eq!(&read.facts.session, &expected.session);
            let of = |line: &Line| {
                let (text, name) = text(line);
                let (name, text) = (text[name].to_vec(), text);
                (line.0, String::from_utf8(name).unwrap(), String::from_utf8(text).unwrap())
            };
            let (first, lines) = content(read.log.as_mut().unwrap());
            prop_assert_eq!(first, before + 1);
            prop_assert_eq!(lines, ring.iter().map(of).collect::<Vec<_>>());
            let kept: Vec<_> = kept.iter().map(of).map(|(_, name, text)| (name, text)).collect();
            let found = read.sticky.iter().map(|(_, line, name)| {
                let text = String::from_utf8(line.to_vec()).unwrap();
                (text[name.clone()].to_owned(), text)
            });
            prop_assert_eq!(found.collect::<Vec<_>>(), kept);
            prop_assert!(read.sticky.iter().map(|(seq, ..)| *seq).eq(1..=read.sticky.len() as u64));
        }
    }

    #[test]
    fn a_smaller_ring_keeps_the_newest(
        before in 0..1000_u64, ring in lines(), events in 1..25_usize, bytes in 1..10_000_usize,
    ) {
        let file = written(&vec![(before, ring.clone(), Vec::new())]);
        let mut saved = read_all(&file, &Settings { events, bytes }).unwrap();
        let mut expected: Vec<usize> = ring.iter().map(|line| text(line).0.len()).collect();
        while expected.len() > 1 && (expected.len() > events || expected.iter().sum::<usize>() > bytes) {
            expected.remove(0);
        }
        let log = saved.connections[0].log.as_mut().unwrap();
        prop_assert_eq!(log.head(), before + ring.len() as u64);
        let (first, lines) = content(log);
        prop_assert_eq!(lines.iter().map(|(.., text)| text.len()).collect::<Vec<_>>(), expected);
        prop_assert_eq!(first + lines.len() as u64, log.head() + 1);
    }

    #[test]
    fn anything_else_is_refused(mut file in prop::collection::vec(any::<u8>(), 0..300), cut in any::<bool>()) {
        if cut {
            let mut start = [MAGIC, VERSION].concat();
            start.append(&mut file);
            file = start;
        }
        prop_assert!(read_all(&file, &HUGE).is_err());
    }
}

fn example() -> Vec<u8> {
    let line = |kind, name: &str, more| (kind, name.to_owned(), more);
    let ring = vec![line(true, "a", 3), line(false, "connect", 0), line(true, "b", 40)];
    written(&vec![(5, ring, vec![line(true, "a", 3)]), (20, Vec::new(), Vec::new())])
}

#[test]
fn every_piece_of_a_file_is_refused() {
    let file = example();
    assert!(read_all(&file, &HUGE).is_ok());
    for end in 0..file.len() {
        assert!(read_all(&file[..end], &HUGE).is_err(), "{end} bytes");
        // Also where the file was longer when it was looked at.
        assert!(read(&file[..end], file.len() as u64, |_, _| Some(HUGE)).is_err(), "{end} bytes");
    }
    let mut longer = file.clone();
    longer.push(0);
    assert!(read_all(&longer, &HUGE).is_err());
}

#[test]
fn every_change_of_a_file_is_refused() {
    let file = example();
    for at in 0..file.len() {
        for bit in [0, 3, 7] {
            let mut changed = file.clone();
            changed[at] ^= 1 << bit;
            assert!(read_all(&changed, &HUGE).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn what_is_not_wanted_is_left_out_and_checked_all_the_same() {
    let file = example();
    let saved = read(&file[..], file.len() as u64, |_, _| None).unwrap();
    for connection in &saved.connections {
        assert!(connection.log.is_none() && connection.sticky.is_empty());
    }
    assert_eq!(saved.connections.iter().map(|kept| kept.facts.seq).collect::<Vec<_>>(), [8, 20]);
    let mut changed = file.clone();
    let dot = changed.iter().rposition(|byte| *byte == b'.').unwrap();
    changed[dot] = b',';
    assert!(read(&changed[..], changed.len() as u64, |_, _| None).is_err());
}

#[test]
fn lengths_are_not_believed() {
    // A head of as much as there can be, in a file that is short.
    for len in [MAX_FACTS, MAX_FACTS + 1, u64::from(u32::MAX)] {
        let len = u32::try_from(len).unwrap().to_le_bytes();
        let file = [MAGIC, VERSION, &len, b"{}    "].concat();
        assert!(matches!(read_all(&file, &HUGE), Err(ReadError::CutOff | ReadError::Damaged(_))));
    }
}

#[test]
fn counts_can_go_on() {
    let mut facts = facts(0, 0);
    for count in [MOST, MOST + 1, u64::MAX] {
        facts.last_ack = count;
        let mut writer = Writer::new(Vec::new(), &head()).unwrap();
        writer.connection(&facts, &[], &[]).unwrap();
        let file = writer.finish().unwrap();
        assert_eq!(read_all(&file, &HUGE).is_ok(), count == MOST);
    }
}

#[test]
fn other_versions_and_other_files_are_told_apart() {
    for (file, reason) in [
        (&b""[..], "it is cut off"),
        (b"x", "it is cut off"),
        (b"#!/bin/sh\necho this is no state\n", "it is no state of siod"),
        (
            b"siod state 2\n\0\0\0\0....",
            "another version of siod wrote it, in a format that this one does not know",
        ),
        (b"siod state 1\n\0\0\0\0....", "it is damaged: it has no head"),
    ] {
        assert_eq!(read_all(file, &HUGE).unwrap_err().to_string(), reason);
    }
}

#[test]
fn identity_is_where_and_who() {
    use crate::hub::options::ConnectionOptions;
    let identity_of = |json: &str, stream: &str| {
        let options: ConnectionOptions = serde_json::from_str(json).unwrap();
        let Ok(settings) = options.resolve_all(&ConnectionOptions::default()) else { panic!("{json}") };
        identity(&settings, stream)
    };
    let first = r#"{"url":"http://h/n?a=1","auth":{"token":"secret"}}"#;
    let same = [
        first,
        r#"{"url":"http://h:80/n?a=1","auth":{"token":"secret"},"reconnection_delay":7}"#,
        r#"{"url":"ws://h/n","query":{"a":"1"},"auth":{"token":"secret"},"history":{"events":9},"sticky":["x"]}"#,
    ];
    let others = [
        r#"{"url":"http://h/n?a=1"}"#,
        r#"{"url":"http://h/n?a=1","auth":{"token":"other"}}"#,
        r#"{"url":"http://h/n?a=1","auth_command":["secret"]}"#,
        r#"{"url":"http://h/n?a=2","auth":{"token":"secret"}}"#,
        r#"{"url":"http://h/m?a=1","auth":{"token":"secret"}}"#,
        r#"{"url":"http://i/n?a=1","auth":{"token":"secret"}}"#,
        r#"{"url":"http://h:81/n?a=1","auth":{"token":"secret"}}"#,
        r#"{"url":"https://h:80/n?a=1","auth":{"token":"secret"}}"#,
        r#"{"url":"http://u:p@h/n?a=1","auth":{"token":"secret"}}"#,
        r#"{"url":"http://h/n?a=1","auth":{"token":"secret"},"path":"/other"}"#,
        r#"{"url":"http://h/n?a=1","auth":{"token":"secret"},"unix_socket":"/run/s"}"#,
    ];
    for json in same {
        assert_eq!(identity_of(json, "s"), identity_of(first, "s"), "{json}");
    }
    for json in others {
        assert_ne!(identity_of(json, "s"), identity_of(first, "s"), "{json}");
    }
    assert_ne!(identity_of(first, "s"), identity_of(first, "t"));
    assert_eq!(
        identity_of(first, "s"),
        "qqOb4ZNkNWq8B4AyWXKYqzoia/gaLHdtwuZKQDK+rZM",
        "an upgrade of siod must not make it another connection"
    );
}
