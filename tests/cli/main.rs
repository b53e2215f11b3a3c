//! The built binary against a daemon that speaks literal lines.

#[path = "../common/mod.rs"]
mod common;
mod daemon;
mod exec;
mod listen;
mod terminal;
mod wait;

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use daemon::{Daemon, SENT, UNKNOWN, check, spawn, within};

#[tokio::test]
async fn a_call_prints_its_result_to_the_byte() {
    let daemon = Daemon::start();
    let siod = daemon.siod(&["call", "status", "{\n \"connection\": \"chat\"}"]);
    let output = daemon
        .serve(siod, async |peer| {
            peer.expect(1, r#""method":"status","params":{  "connection": "chat"}"#).await;
            peer.answer(1, r#""result":{"n":1.0e400, "n":12345678901234567890123}"#).await;
        })
        .await;
    check(&output, 0, "{\"n\":1.0e400, \"n\":12345678901234567890123}\n", "");
}

#[tokio::test]
async fn connections_are_managed() {
    const SNAPSHOT: &str = r#""result":{"name":"chat","state":"connecting","connected":false}"#;
    const FAILED: &str =
        r#""error":{"code":-32009,"message":"not admitted","data":{"kind":"connect_failed"}}"#;
    for (args, request, answer, code, stdout, stderr) in [
        (
            &["connect", "chat"][..],
            r#""method":"connect","params":{"connection":"chat"}"#,
            SNAPSHOT,
            0,
            "chat: connecting\n",
            "",
        ),
        (
            &["connect", "chat", "--auth", r#"{"token": "x"}"#, "--wait", "1.5s"],
            r#""method":"connect","params":{"connection":"chat","auth":{"token": "x"},"wait":1500}"#,
            FAILED,
            3,
            "",
            "siod: not admitted\n",
        ),
        (
            &["disconnect", "x"],
            r#""method":"disconnect","params":{"connection":"x"}"#,
            UNKNOWN,
            1,
            "",
            "siod: no connection \\u001b[31mx\n",
        ),
        (
            &["close", "chat"],
            r#""method":"close","params":{"connection":"chat"}"#,
            r#""result":{}"#,
            0,
            "chat: closed\n",
            "",
        ),
        (
            &["open", "chat", "http://h/", "--set", "tls.insecure=true", "--set", "path=/x/"],
            r#""method":"open","params":{"name":"chat","path":"/x/","persist":true,"tls":{"insecure":true},"url":"http://h/"}"#,
            r#""result":{"created":true,"connection":{"name":"chat","state":"connecting"}}"#,
            0,
            "chat: connecting\n",
            "",
        ),
    ] {
        Daemon::start().answers(args, request, answer, code, stdout, stderr).await;
    }
}

#[tokio::test]
async fn a_reload_says_what_has_changed() {
    const INVALID: &str = r#""error":{"code":-32011,"message":"it does not load:\n/etc/siod/siod.toml:3:1: log.levl","data":{"kind":"invalid_config"}}"#;
    for (answer, code, stdout, stderr) in [
        (
            r#""result":{"added":["a","b"],"removed":["\u001bc"],"changed":["d"],"unchanged":["e"]}"#,
            0,
            "a: added\nb: added\n\\u001bc: removed\nd: changed\n",
            "",
        ),
        (
            r#""result":{"added":[],"removed":[],"changed":[],"unchanged":["e"],"needs_restart":["api.socket"]}"#,
            0,
            "",
            "siod: api.socket: the new value takes effect with a restart\n",
        ),
        (INVALID, 1, "", "siod: it does not load:\n      /etc/siod/siod.toml:3:1: log.levl\n"),
    ] {
        let request = r#""method":"reload","params":{}"#;
        Daemon::start().answers(&["reload"], request, answer, code, stdout, stderr).await;
    }
}

#[tokio::test]
async fn completions_and_the_manual_are_printed_and_name_every_command() {
    let commands = [
        "run",
        "check",
        "doctor",
        "status",
        "listen",
        "wait",
        "emit",
        "connect",
        "disconnect",
        "open",
        "close",
    ];
    let commands = commands.iter().chain(&["call", "reload", "schema", "completions", "man"]);
    for (args, start) in [
        (&["completions", "bash"][..], "_siod() {"),
        (&["completions", "zsh"], "#compdef siod"),
        (&["completions", "fish"], "# Print an optspec"),
        (&["man"], r".ie \n(.g .ds Aq \(aq"),
    ] {
        // Neither needs a daemon or a configuration.
        let mut siod = Command::new(env!("CARGO_BIN_EXE_siod"));
        let output = within(siod.args(args).env_clear().output()).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{args:?}");
        assert!(text.starts_with(start), "{args:?}: {text}");
        for command in commands.clone() {
            let named = match args {
                ["man"] => text.contains(&format!("\n.SS \"siod {command}\"\n\\fBsiod {command}\\fR")),
                _ => text.contains(command),
            };
            assert!(named, "{command} in {args:?}: {text}");
        }
    }
}

#[tokio::test]
async fn the_manual_page_is_one_that_groff_takes() {
    let manual = within(Command::new(env!("CARGO_BIN_EXE_siod")).arg("man").output()).await.unwrap().stdout;
    let groff = Command::new("groff")
        .args(["-man", "-Tutf8", "-ww"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut groff) = groff else {
        return eprintln!("LEFT OUT: groff is not installed");
    };
    groff.stdin.take().unwrap().write_all(&manual).await.unwrap();
    let output = within(groff.wait_with_output()).await.unwrap();
    let (text, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
    assert!(text.contains("siod reload"), "{text}");
}

#[tokio::test]
async fn an_event_is_emitted_and_what_becomes_of_it_is_told() {
    for (args, request, answer, stdout, stderr) in [
        (
            &["move", "-5", "1.50", "hello", r#"{"a": 1}"#][..],
            r#""event":"move","args":[-5,1.50,"hello",{"a": 1}]"#,
            SENT,
            "",
            "",
        ),
        (
            &["ask", "--ack", "--timeout", "2m"],
            r#""event":"ask","args":[],"ack":true,"timeout":120000"#,
            r#""result":{"args":[{"$binary":"AAEC"},1.50],"binary":true}"#,
            "[{\"$binary\":\"AAEC\"},1.50]\n",
            "",
        ),
        (
            &["m", "--volatile"],
            r#""event":"m","args":[],"volatile":true"#,
            r#""result":{"status":"dropped","active":true}"#,
            "",
            "siod: the event was dropped: chat is not connected\n",
        ),
        (
            &["m"],
            r#""event":"m","args":[]"#,
            r#""result":{"status":"buffered","active":false}"#,
            "",
            "siod: the event was buffered: chat is not connected and does not come up by itself; run 'siod connect chat'\n",
        ),
    ] {
        let args = [&["emit", "chat"], args].concat();
        let request = format!(r#""method":"emit","params":{{"connection":"chat",{request}}}"#);
        Daemon::start().answers(&args, &request, answer, 0, stdout, stderr).await;
    }
}

#[tokio::test]
async fn status_says_whether_all_are_connected() {
    for (args, answer, code, stdout) in [
        (
            &["status", "--json"][..],
            r#"{"daemon":{"version":"1"},"connections":[{"name":"a","state":"connected","connected":true}], "x":1}"#,
            0,
            "{\"daemon\":{\"version\":\"1\"},\"connections\":[{\"name\":\"a\",\"state\":\"connected\",\"connected\":true}], \"x\":1}\n",
        ),
        (
            &["status"],
            r#"{"daemon":{"version":"1","pid":7},"connections":[{"name":"a","state":"disconnected","connected":false}]}"#,
            3,
            "siod 1, pid 7, up 0s, 0.0 MiB\n\nNAME STATE        VIA SINCE IN OUT WAIT\na    disconnected -   -      0   0    0\n",
        ),
        (
            &["status"],
            r#"{"daemon":{"version":"1","pid":7},"connections":[]}"#,
            0,
            "siod 1, pid 7, up 0s, 0.0 MiB\n\nno connections; see 'siod open --help'\n",
        ),
    ] {
        let request = r#""method":"status","params":{}"#;
        Daemon::start().answers(args, request, &format!(r#""result":{answer}"#), code, stdout, "").await;
    }
}

#[tokio::test]
async fn usage_errors_exit_2_and_reach_no_daemon() {
    for args in [
        &[][..],
        &["nonsense"],
        &["call", "list", "{"],
        &["connect", "chat", "--auth", "x"],
        &["connect", "chat", "--wait", "soon"],
        &["emit", "chat"],
        &["emit", "chat", "m", "x", "--stdin"],
        &["listen", "--count", "0"],
        &["listen", "--jobs", "2"],
        &["listen", "--jobs", "0", "--exec", "true"],
        &["listen", "--raw", "--exec", "true"],
        &["wait"],
        &["wait", "chat*"],
        &["wait", "chat", "--timeout", "soon"],
        &["completions"],
        &["completions", "cmd.exe"],
        &["open", "chat", "http://h/", "--set", "tls"],
        &["open", "chat", "http://h/", "--set", "persist=true"],
        &["open", "chat", "http://h/", "--set", "tls=1", "--set", "tls.insecure=true"],
    ] {
        // A daemon that never answers: reaching it would take forever.
        let output = within(Daemon::start().siod(args).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[tokio::test]
async fn no_daemon_is_69() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let reason = "(No such file or directory); start one with 'siod run'";
    let expected = format!("siod: no daemon at {} {reason}\n", socket.display());
    for args in [&["status"][..], &["listen"], &["emit", "a", "b"], &["call", "list"], &["status", "--watch"]]
    {
        let mut siod = Command::new(env!("CARGO_BIN_EXE_siod"));
        let output = within(siod.args(args).env("SIOD_SOCKET", &socket).output()).await.unwrap();
        check(&output, 69, "", &expected);
    }
}

#[tokio::test]
async fn a_daemon_that_goes_away_is_69_and_one_that_turns_us_away_is_1() {
    let turned_away = r#"{"jsonrpc":"2.0","method":"goodbye","params":{"reason":"too_many_consumers"}}"#;
    for (last_words, code, stderr) in [
        ("", 69, "siod: the daemon closed the attachment\n"),
        (
            turned_away,
            1,
            "siod: the daemon ended the attachment: too_many_consumers; raise api.max_consumers, and send the daemon a SIGHUP\n",
        ),
    ] {
        for args in [&["status"][..], &["listen"]] {
            let daemon = Daemon::start();
            let output = daemon.serve(daemon.siod(args), async |peer| peer.say(last_words).await).await;
            assert_eq!(output.status.code(), Some(code), "{args:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), stderr, "{args:?}");
        }
    }
}

fn emit(args: &str) -> String {
    format!(r#""method":"emit","params":{{"connection":"chat","event":"n","args":{args}}}"#)
}

#[tokio::test]
async fn stdin_is_one_event_a_line() {
    let daemon = Daemon::start();
    let mut child = spawn(daemon.siod(&["emit", "chat", "n", "--stdin", "--ack"]));
    child.stdin.take().unwrap().write_all(b"[1,2]\n\n{\"a\": 1}\n\"x\"\n").await.unwrap();
    let mut peer = daemon.accept().await;
    for (id, args) in [(1, "[1,2]"), (2, r#"[{"a": 1}]"#), (3, r#"["x"]"#)] {
        peer.expect(id, &emit(&format!(r#"{args},"ack":true"#))).await;
    }
    // The answers are printed in the order of the lines.
    for id in [3, 1, 2] {
        peer.answer(id, &format!(r#""result":{{"args":[{id}]}}"#)).await;
    }
    check(&within(child.wait_with_output()).await.unwrap(), 0, "[1]\n[2]\n[3]\n", "");
}

#[tokio::test]
async fn a_line_that_is_no_json_ends_stdin_after_what_came_before() {
    let daemon = Daemon::start();
    let mut child = spawn(daemon.siod(&["emit", "chat", "n", "--stdin"]));
    child.stdin.take().unwrap().write_all(b"1\nhello\n2\n").await.unwrap();
    let mut peer = daemon.accept().await;
    peer.expect(1, &emit("[1]")).await;
    peer.answer(1, SENT).await;
    peer.gone().await;
    let output = within(child.wait_with_output()).await.unwrap();
    check(&output, 2, "", "siod: line 2 of stdin is no JSON: expected value at column 1\n");
}

#[tokio::test]
async fn a_refused_line_is_named() {
    let daemon = Daemon::start();
    let mut child = spawn(daemon.siod(&["emit", "chat", "n", "--stdin"]));
    child.stdin.take().unwrap().write_all(b"1\n\n2\n").await.unwrap();
    let mut peer = daemon.accept().await;
    peer.expect(1, &emit("[1]")).await;
    peer.expect(2, &emit("[2]")).await;
    peer.answer(1, r#""result":{"status":"buffered","active":true}"#).await;
    peer.answer(2, r#""error":{"code":-32002,"message":"the buffer is full","data":{"kind":"buffer_full"}}"#)
        .await;
    let output = within(child.wait_with_output()).await.unwrap();
    let note = "siod: the event was buffered: chat is not connected, and it goes out on the next connect\n";
    check(&output, 1, "", &format!("{note}siod: line 3: the buffer is full\n"));
}

#[tokio::test]
async fn as_many_lines_as_there_are_take_no_more_memory_than_a_few() {
    const FIRST: u64 = 5_000;
    const LINES: u64 = 200_000;
    let daemon = Daemon::start();
    let mut child = spawn(daemon.siod(&["emit", "chat", "n", "--stdin"]));
    let pid = child.id().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = "x".repeat(100);
    let mut peer = daemon.accept().await;
    let feed = async {
        let chunk = format!("\"{text}\"\n").repeat(1000);
        for _ in 0..LINES / 1000 {
            stdin.write_all(chunk.as_bytes()).await.unwrap();
        }
        drop(stdin);
    };
    let serve = async {
        let expected = emit(&format!("[\"{text}\"]"));
        let mut first = 0;
        for id in 1..=LINES {
            peer.expect_another(id, &expected).await;
            if id == FIRST {
                first = peak_memory(pid);
            }
            if id == LINES {
                break;
            }
            peer.answer(id, SENT).await;
        }
        // It still waits for the last answer, so it is there to be asked.
        let grown = peak_memory(pid) - first;
        peer.answer(LINES, SENT).await;
        grown
    };
    let ((), grown) = tokio::join!(feed, serve);
    check(&within(child.wait_with_output()).await.unwrap(), 0, "", "");
    // The lines alone are 20 MiB.
    assert!(grown < 2 << 20, "{grown} bytes more for {LINES} lines than for {FIRST}");
}

/// The most memory that a process has had at once, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn stdin_waits_for_a_daemon_that_does_not_answer() {
    const LINES: u64 = 20_000;
    const IN_FLIGHT: u64 = 256;
    let daemon = Daemon::start();
    let mut child = spawn(daemon.siod(&["emit", "chat", "n", "--stdin"]));
    let mut stdin = child.stdin.take().unwrap();
    let mut peer = daemon.accept().await;
    let feed = async {
        stdin.write_all("1\n".repeat(20_000).as_bytes()).await.unwrap();
        drop(stdin);
    };
    let serve = async {
        for id in 1..=IN_FLIGHT {
            peer.expect(id, &emit("[1]")).await;
        }
        for id in 1..=LINES {
            // Each further one needs an answer to one before it.
            assert!(peer.0.buffer().is_empty(), "more than {IN_FLIGHT} on their way");
            peer.answer(id, SENT).await;
            if id + IN_FLIGHT <= LINES {
                peer.expect_another(id + IN_FLIGHT, &emit("[1]")).await;
            }
        }
    };
    tokio::join!(feed, serve);
    check(&within(child.wait_with_output()).await.unwrap(), 0, "", "");
}
