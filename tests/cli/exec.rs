//! `siod listen --exec`.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::Child;

use crate::daemon::{Daemon, HELLO, Peer, check, event, spawn, subscribe, subscribed, within};

/// Takes the subscription, which is to events alone.
async fn subscribes(peer: &mut Peer) {
    peer.expect(1, HELLO).await;
    peer.expect(2, &subscribe(r#""connection":"chat","lifecycle":false"#)).await;
    peer.answer(2, &subscribed("s1", &[("chat", 0)], 0, "0")).await;
}

/// A pipe in the daemon's folder: the program that reads from it waits until [`let_go`].
fn gate(daemon: &Daemon, name: &str) -> PathBuf {
    let path = daemon.folder().join(name);
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    path
}

/// Lets the program go on that waits at the gate, or is about to.
async fn let_go(gate: &Path) {
    let opened = async {
        loop {
            match pipe::OpenOptions::new().open_sender(gate) {
                Ok(sender) => return sender,
                // Nobody reads yet.
                Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    within(within(opened).await.write_all(b"go\n")).await.unwrap();
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[tokio::test]
async fn each_event_is_the_stdin_of_a_program() {
    let daemon = Daemon::start();
    let siod = daemon.siod(&["listen", "chat", "--count", "3", "--exec", "sh", "-c", "cat; echo --$0", "x"]);
    let lagged =
        r#"{"jsonrpc":"2.0","method":"lagged","params":{"connection":"chat","missed":3,"next_seq":9}}"#;
    let output = daemon
        .serve(siod, async |peer| {
            subscribes(peer).await;
            for line in [&event("chat", 4), &event("chat", 5), lagged, &event("chat", 9)] {
                peer.say(line).await;
            }
            peer.gone().await;
        })
        .await;
    let lines: Vec<_> = [4, 5, 9].iter().map(|seq| format!("{}\n--x\n", event("chat", *seq))).collect();
    let note = "siod: chat: 3 notifications were missed; the programs take too long\n";
    check(&output, 0, &lines.concat(), note);
}

#[tokio::test]
async fn so_many_run_at_once_and_no_more_is_read_meanwhile() {
    const EVENTS: u64 = 40_000;
    let daemon = Daemon::start();
    let gates: Vec<_> = (1..=4).map(|seq| gate(&daemon, &format!("gate{seq}"))).collect();
    let running = daemon.folder().join("running");
    std::fs::create_dir(&running).unwrap();
    // Says how many run, and which this is.
    let script = r#"mkdir "$1/$$"; seq=$(sed 's/.*"seq":\([0-9]*\).*/\1/'); set -- "$1" "$2" "$1"/*
        echo "$(($# - 2)) $seq"; [ "$seq" -gt 4 ] || read -r go <"$2/gate$seq"; rmdir "$1/$$""#;
    let [running, folder] = [running.as_path(), daemon.folder()].map(|path| path.to_str().unwrap());
    let mut child = spawn(daemon.siod(&[
        "listen", "chat", "--count", "6", "--jobs", "2", "--exec", "sh", "-c", script, "sh", running, folder,
    ]));
    let mut peer = daemon.accept().await;
    subscribes(&mut peer).await;
    peer.say(&event("chat", 1)).await;
    peer.say(&event("chat", 2)).await;
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut started = Vec::new();
    for _ in 0..2 {
        started.push(within(stdout.next_line()).await.unwrap().unwrap());
    }
    // Both are busy: what the daemon says now stays in the socket, which takes only so much.
    let mut taken = 0;
    let mut lines = (3..EVENTS).map(|seq| event("chat", seq) + "\n").collect::<String>();
    loop {
        match peer.0.get_ref().try_write(&lines.as_bytes()[taken..]) {
            Ok(written) => taken += written,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(taken < 1 << 20 && taken < lines.len(), "{taken} bytes were taken");
    lines.clear();
    for gate in &gates {
        let_go(gate).await;
    }
    while let Some(line) = within(stdout.next_line()).await.unwrap() {
        started.push(line);
    }
    assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
    let (counts, seqs): (Vec<_>, Vec<_>) = started.iter().filter_map(|line| line.split_once(' ')).unzip();
    assert!(counts.iter().all(|count| ["1", "2"].contains(count)), "{started:?}");
    let mut sorted = seqs.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["1", "2", "3", "4", "5", "6"], "{started:?}");
}

#[tokio::test]
async fn what_fails_is_told_and_the_next_is_started() {
    let daemon = Daemon::start();
    let script = r#"read -r line; case $line in *'"seq":1,'*) exit 3 ;; *'"seq":2,'*) kill -9 $$ ;; *) echo ok ;; esac"#;
    let siod = daemon.siod(&["listen", "chat", "--count", "3", "--exec", "sh", "-c", script]);
    let output = daemon
        .serve(siod, async |peer| {
            subscribes(peer).await;
            for seq in 1..=3 {
                peer.say(&event("chat", seq)).await;
            }
            peer.gone().await;
        })
        .await;
    let notes = "siod: sh for chat 1: exit status: 3\nsiod: sh for chat 2: signal: 9 (SIGKILL)\n";
    check(&output, 1, "ok\n", notes);
}

#[tokio::test]
async fn what_cannot_be_run_is_told_before_anything_is_heard() {
    for program in ["no-such-program", "./no-such-program", "/etc/passwd"] {
        // A daemon that never answers: reaching it would take forever.
        let output =
            within(Daemon::start().siod(&["listen", "--exec", program, "--x"]).output()).await.unwrap();
        let why = if program == "/etc/passwd" { "Permission denied" } else { "No such file or directory" };
        check(&output, 1, "", &format!("siod: cannot run {program}: {why}\n"));
    }
}

#[tokio::test]
async fn a_program_need_not_read_its_stdin() {
    let daemon = Daemon::start();
    let output = daemon
        .serve(daemon.siod(&["listen", "chat", "--count", "1", "--exec", "true"]), async |peer| {
            subscribes(peer).await;
            let long = "x".repeat(4 << 20);
            let params = format!(r#"{{"connection":"chat","seq":1,"event":"e","args":["{long}"]}}"#);
            peer.say(&format!(r#"{{"jsonrpc":"2.0","method":"event","params":{params}}}"#)).await;
            peer.gone().await;
        })
        .await;
    check(&output, 0, "", "");
}

#[tokio::test]
async fn a_signal_lets_those_that_run_finish_and_a_second_one_ends_them() {
    for (name, second) in [(Signal::TERM, None), (Signal::INT, Some(130)), (Signal::TERM, Some(143))] {
        let daemon = Daemon::start();
        let gate = gate(&daemon, "gate");
        let script = r#"echo begun; read -r go <"$0"; echo done"#;
        let mut child =
            spawn(daemon.siod(&["listen", "chat", "--exec", "sh", "-c", script, gate.to_str().unwrap()]));
        let mut peer = daemon.accept().await;
        subscribes(&mut peer).await;
        peer.say(&event("chat", 1)).await;
        peer.say(&event("chat", 2)).await;
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        within(stdout.read_line(&mut line)).await.unwrap();
        signal(&child, name);
        // It leaves, so it has heard the signal.
        let mut rest = Vec::new();
        let _reset = within(peer.0.read_to_end(&mut rest)).await;
        if second.is_some() {
            signal(&child, name);
        } else {
            let_go(&gate).await;
        }
        // The program has its stdout from siod: the end of it is that of both.
        within(stdout.read_to_string(&mut line)).await.unwrap();
        assert_eq!(line, if second.is_some() { "begun\n" } else { "begun\ndone\n" });
        assert_eq!(within(child.wait()).await.unwrap().code(), Some(second.unwrap_or(0)));
    }
}
