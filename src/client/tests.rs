//! The client against a daemon that speaks literal lines on the other end of a socket pair.

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::*;

#[derive(Serialize)]
struct Nothing {}

fn pair() -> (Client, BufReader<UnixStream>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Client::from_stream(ours), BufReader::new(theirs))
}

async fn line(daemon: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    daemon.read_line(&mut line).await.unwrap();
    line
}

async fn say(daemon: &mut BufReader<UnixStream>, text: &str) {
    daemon.write_all(text.as_bytes()).await.unwrap();
}

const EVENT: &str = r#"{"jsonrpc":"2.0","method":"event","params":{"connection":"chat","seq":41,"event":"n","args":[1.50, {"a":1,"a":2}]}}"#;
const GOODBYE: &str = r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"shutdown"}}"#;

#[tokio::test]
async fn a_call_is_one_line_even_if_its_params_were_several() {
    let (mut client, mut daemon) = pair();
    let params =
        RawValue::from_string("{\n  \"a\": \"x\\n\",\r\n  \"b\": 10000000000000000000000\n}".into()).unwrap();
    let (result, request) = tokio::join!(client.call::<Box<RawValue>>("list", &params), async {
        let request = line(&mut daemon).await;
        say(&mut daemon, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"n\":1.0e400}}\n").await;
        request
    });
    assert_eq!(
        request,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"list\",\"params\":{   \"a\": \"x\\n\",    \"b\": 10000000000000000000000 }}\n"
    );
    assert_eq!(result.unwrap().get(), r#"{"n":1.0e400}"#);
}

#[tokio::test]
async fn a_refusal_has_code_kind_and_message() {
    let (mut client, mut daemon) = pair();
    say(&mut daemon, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no such connection: chat","data":{"kind":"unknown_connection","near":["chap"]}}}"#).await;
    say(&mut daemon, "\n").await;
    let Error::Refused(refusal) = client.call::<Box<RawValue>>("status", Nothing {}).await.unwrap_err()
    else {
        panic!("not refused")
    };
    assert_eq!((refusal.code(), refusal.kind()), (-32000, ErrorKind::UnknownConnection));
    assert_eq!(refusal.to_string(), "no such connection: chat");
    assert!(refusal.data().unwrap().get().contains("near"));
}

#[tokio::test]
async fn a_refusal_without_id_ends_the_call() {
    let (mut client, mut daemon) = pair();
    say(
        &mut daemon,
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":\"too long\"}}\n",
    )
    .await;
    let error = client.call::<Box<RawValue>>("emit", Nothing {}).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(refusal) if refusal.kind_name().is_empty()), "{error:?}");
}

#[tokio::test]
async fn answers_come_in_any_order_and_what_comes_between_is_kept() {
    let (mut client, mut daemon) = pair();
    let first = client.request("list", Nothing {}).unwrap();
    say(&mut daemon, &format!("{EVENT}\n")).await;
    say(&mut daemon, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":null}\n").await;
    say(&mut daemon, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"first\"}\n").await;
    assert_eq!(client.call::<Box<RawValue>>("hello", Nothing {}).await.unwrap().get(), "null");

    assert!(client.has_next());
    let Incoming::Notification(event) = client.next().await.unwrap() else { panic!("no notification") };
    assert_eq!((event.kind(), event.connection(), event.seq()), (Kind::Event, Some("chat"), Some(41)));
    assert_eq!(event.line(), EVENT);
    assert_eq!(event.params(), &EVENT[EVENT.find("params").unwrap() + 8..EVENT.len() - 1]);

    let Incoming::Answer(answer) = client.next().await.unwrap() else { panic!("no answer") };
    assert_eq!((answer.id, answer.result.unwrap().get()), (Some(first), "\"first\""));
    assert!(!client.has_next());
}

#[tokio::test]
async fn the_end_says_why() {
    for (text, expected) in [
        (String::new(), "the daemon closed the attachment"),
        ("{\"jsonrpc\":\"2.0\",\"meth".into(), "the daemon closed the attachment"),
        (format!("{EVENT}\n{GOODBYE}\n"), "the daemon ended the attachment: shutdown"),
        ("HTTP/1.1 400 Bad Request\n".into(), "what came from the socket is no message of siod"),
        ("{\"jsonrpc\":\"2.0\"}\n".into(), "what came from the socket is no message of siod: neither"),
        ("[1]\n".into(), "what came from the socket is no message of siod"),
    ] {
        let (mut client, mut daemon) = pair();
        say(&mut daemon, &text).await;
        drop(daemon);
        let error = client.call::<Box<RawValue>>("list", Nothing {}).await.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{text:?}: {error}");
    }
}

#[tokio::test]
async fn goodbye_is_a_notification_too() {
    let (mut client, mut daemon) = pair();
    say(&mut daemon, &format!("{GOODBYE}\n")).await;
    drop(daemon);
    let goodbye = client.next_notification().await.unwrap();
    assert_eq!((goodbye.kind(), goodbye.goodbye().as_deref()), (Kind::Goodbye, Some("shutdown")));
    assert!(matches!(client.next_notification().await, Err(Lost::Goodbye(reason)) if reason == "shutdown"));
}

#[tokio::test]
async fn a_line_of_tens_of_mebibytes_comes_whole() {
    let (mut client, mut daemon) = pair();
    let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"{}\"}}\n", "x".repeat(40 << 20));
    let (result, ()) =
        tokio::join!(client.call::<Box<RawValue>>("list", Nothing {}), say(&mut daemon, &text));
    assert_eq!(result.unwrap().get().len(), (40 << 20) + 2);
}

#[tokio::test]
async fn both_sides_can_write_much_at_once() {
    let (mut client, mut daemon) = pair();
    let much = "x".repeat(4 << 20);
    client.request("emit", &much).unwrap();
    let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"{much}\"}}\n");
    // A daemon that reads nothing until all it has to say is written.
    let (incoming, ()) = tokio::join!(client.next(), say(&mut daemon, &answer));
    assert!(matches!(incoming, Ok(Incoming::Answer(_))));
    tokio::select! {
        lost = client.next() => panic!("{lost:?}"),
        request = line(&mut daemon) => assert!(request.len() > much.len()),
    }
    assert_eq!(client.unsent(), 0);
}

#[tokio::test]
async fn a_call_keeps_only_so_much() {
    let (mut client, mut daemon) = pair();
    let event = format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{{\"connection\":\"chat\",\"args\":[\"{}\"]}}}}\n",
        "x".repeat(1 << 20)
    );
    let flood = async {
        for _ in 0..17 {
            say(&mut daemon, &event).await;
        }
    };
    let calls = async {
        let result = client.call::<Box<RawValue>>("list", Nothing {}).await;
        assert!(matches!(result, Err(Error::Flooded)), "{result:?}");
        // Nothing was lost by that.
        for _ in 0..17 {
            assert_eq!(client.next_notification().await.unwrap().line().len(), event.len() - 1);
        }
    };
    tokio::join!(calls, flood);
}

/// A daemon that the test is, at a socket.
mod listening {
    use std::io;
    use std::time::Duration;

    use tokio::net::UnixListener;

    use super::*;
    use crate::client::{Listener, News, Position, Subscribe};

    struct Daemon {
        listener: UnixListener,
        folder: tempfile::TempDir,
    }

    impl Daemon {
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { listener: UnixListener::bind(folder.path().join("s")).unwrap(), folder }
        }

        fn listener(&self, wanted: Subscribe) -> Listener {
            Listener::new(self.folder.path().join("s"), wanted)
        }

        async fn accept(&self) -> BufReader<UnixStream> {
            BufReader::new(self.listener.accept().await.unwrap().0)
        }
    }

    fn event(connection: &str, seq: u64) -> String {
        let params = format!(r#"{{"connection":"{connection}","seq":{seq},"event":"e","args":[]}}"#);
        format!("{{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{params}}}\n")
    }

    fn answer(id: u64, replayed: u64, snapshots: &[(&str, u64)]) -> String {
        let snapshots: Vec<_> = snapshots
            .iter()
            .map(|(name, seq)| format!(r#"{{"name":"{name}","state":"connected","seq":{seq}}}"#))
            .collect();
        let connections = snapshots.join(",");
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"subscription\":1,\"stream\":\"s1\",\"connections\":[{connections}],\"replayed\":{replayed},\"missed\":0}}}}\n"
        )
    }

    /// What is heard, in order, until the listener waits.
    async fn heard(listener: &mut Listener, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        while all.len() < count {
            if let News::Heard { notification, .. } = listener.next().await.unwrap() {
                all.push(format!("{} {}", notification.connection().unwrap(), notification.seq().unwrap()));
            }
        }
        all
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_loses_nothing() {
        let daemon = Daemon::start();
        let mut listener = daemon.listener(Subscribe::to("a"));
        let listen = async {
            let mut all = Vec::new();
            while all.len() < 20 {
                tokio::select! {
                    biased;
                    news = listener.next() => if let News::Heard { notification, .. } = news.unwrap() {
                        all.push(notification.seq().unwrap());
                    },
                    // Whatever it waits for, it is dropped in the midst of it.
                    () = tokio::task::yield_now() => {}
                }
            }
            all
        };
        let talk = async {
            let mut peer = daemon.accept().await;
            line(&mut peer).await;
            say(&mut peer, &answer(1, 0, &[("a", 0)])).await;
            for seq in 1..=10 {
                for piece in event("a", seq).as_bytes().chunks(20) {
                    peer.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
            drop(peer);
            let mut peer = daemon.accept().await;
            assert!(line(&mut peer).await.contains(r#""after":{"stream":"s1","seq":10}"#));
            say(&mut peer, &answer(1, 10, &[("a", 20)])).await;
            for seq in 11..=20 {
                say(&mut peer, &event("a", seq)).await;
            }
            peer
        };
        let (all, peer) = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(listen, talk) })
            .await
            .unwrap();
        assert_eq!(all, (1..=20).collect::<Vec<_>>());
        drop(peer);
        let more = daemon.listener.into_std().unwrap().accept();
        assert!(
            more.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock),
            "one attachment each time"
        );
    }

    #[tokio::test]
    async fn a_connection_that_was_opened_meanwhile_comes_whole_and_once() {
        let daemon = Daemon::start();
        let mut listener = daemon.listener(Subscribe::to("*"));
        let talk = async {
            let mut peer = daemon.accept().await;
            line(&mut peer).await;
            say(&mut peer, &answer(1, 0, &[("a", 3)])).await;
            drop(peer);
            let mut peer = daemon.accept().await;
            assert!(line(&mut peer).await.contains(r#""connection":"a","after":{"stream":"s1","seq":3}"#));
            assert!(line(&mut peer).await.contains(r#""connection":"*"}"#));
            say(&mut peer, &answer(1, 0, &[("a", 3)])).await;
            // `new` has said two things already, and says a third before its replay is asked for.
            say(&mut peer, &answer(2, 0, &[("a", 3), ("new", 2), ("silent", 0)])).await;
            say(&mut peer, &event("new", 3)).await;
            say(&mut peer, &event("a", 4)).await;
            assert!(line(&mut peer).await.contains(r#""connection":"new","after":{"stream":"s1","seq":0}"#));
            say(&mut peer, &answer(3, 3, &[("new", 3)])).await;
            for seq in 1..=4 {
                say(&mut peer, &event("new", seq)).await;
            }
            say(&mut peer, &event("silent", 1)).await;
            peer
        };
        let (all, _peer) = tokio::join!(heard(&mut listener, 6), talk);
        assert_eq!(all, ["a 4", "new 1", "new 2", "new 3", "new 4", "silent 1"]);
        assert_eq!(listener.position("new"), Some(&Position::new("s1", 4)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_tries_again_ever_more_slowly_and_says_once_that_it_is_away() {
        let daemon = Daemon::start();
        let mut listener = daemon.listener(Subscribe::to("a"));
        let talk = async {
            let mut peer = daemon.accept().await;
            line(&mut peer).await;
            say(&mut peer, &answer(1, 0, &[("a", 3)])).await;
            let begun = tokio::time::Instant::now();
            let mut waits = Vec::new();
            for _ in 0..7 {
                drop(peer);
                peer = daemon.accept().await;
                waits.push(begun.elapsed().as_millis());
            }
            line(&mut peer).await;
            say(&mut peer, &answer(1, 0, &[("a", 3)])).await;
            (waits, peer)
        };
        let listen = async {
            let mut told = Vec::new();
            for _ in 0..3 {
                told.push(match listener.next().await.unwrap() {
                    News::Attached { again, .. } => format!("attached {again}"),
                    News::Away(why) => why.to_string(),
                    other => panic!("{other:?}"),
                });
            }
            told
        };
        let ((waits, _peer), told) = tokio::join!(talk, listen);
        assert_eq!(told, ["attached false", "the daemon closed the attachment", "attached true"]);
        assert_eq!(waits, [100, 300, 700, 1500, 3100, 5100, 7100]);
    }
}
