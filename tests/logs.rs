//! The log says what matters, whatever becomes of who reads it, and whatever peers say.

mod common;

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use common::daemon::Folder;
use common::upstream::OPEN;
use common::{Chat, Daemon, QUICK, Upstream};
use siod::service::telemetry;

/// The daemon answers, and ends in order.
async fn serves_and_ends(mut daemon: Daemon) {
    let mut consumer = daemon.attach().await;
    // Each makes a line at this level, or several.
    for _ in 0..2000 {
        consumer.send(r#"{"id":1,"method":"open","params":{"name":"x","url":"http://127.0.0.1:1"}}"#).await;
        consumer.send(r#"{"id":2,"method":"close","params":{"connection":"x"}}"#).await;
        for id in 1..=2 {
            consumer.expect_answer(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"…":…}}}}"#)).await;
        }
    }
    assert_eq!(daemon.terminate().await.code(), Some(0));
}

fn talkative(format: &str) -> Folder {
    Folder::new("").variable("SIOD__LOG__LEVEL", "trace").variable("SIOD__LOG__FORMAT", format)
}

#[tokio::test]
async fn a_full_disk_is_no_reason_to_end() {
    for format in ["text", "json"] {
        let folder = talkative(format);
        let mut command = folder.command();
        command.stderr(File::options().write(true).open("/dev/full").unwrap());
        serves_and_ends(Daemon::start_with(folder, command).await).await;
    }
}

#[tokio::test]
async fn nor_is_a_reader_that_has_left() {
    let folder = talkative("text");
    let mut command = folder.command();
    let (reader, writer) = std::io::pipe().unwrap();
    command.stderr(writer);
    drop(reader);
    serves_and_ends(Daemon::start_with(folder, command).await).await;
}

#[tokio::test]
async fn nor_one_that_does_not_read() {
    let folder = talkative("text");
    let mut command = folder.command();
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.stderr(writer);
    let daemon = Daemon::start_with(folder, command).await;
    serves_and_ends(daemon).await;
    // All writers are gone, so what the pipe took has an end: far less than was said.
    let mut taken = Vec::new();
    reader.read_to_end(&mut taken).unwrap();
    assert!((32 << 10..4 << 20).contains(&taken.len()), "{}", taken.len());
}

/// A journal that the test plays, where the daemon looks for it: in a mount namespace of its own its `/run` is a folder
/// of the test's. None without root.
fn journal(test: &str, folder: &Folder) -> Option<(UnixDatagram, tokio::process::Command)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {test}: only root can have a /run of its own");
        return None;
    }
    let run = folder.path().join("run");
    fs::create_dir_all(run.join("systemd/journal")).unwrap();
    let script = format!("mount --bind '{}' /run && exec \"$@\"", run.display());
    let siod = env!("CARGO_BIN_EXE_siod");
    let mut command = folder.command_as(&[
        "/usr/bin/unshare",
        "--mount",
        "--propagation",
        "private",
        "/bin/sh",
        "-c",
        &script,
        "sh",
        siod,
    ]);
    command.env("PATH", "/usr/bin:/bin");
    let journal = UnixDatagram::bind(run.join("systemd/journal/socket")).unwrap();
    journal.set_read_timeout(Some(common::DEADLINE)).unwrap();
    Some((journal, command))
}

#[tokio::test]
async fn the_journal_gets_fields() {
    let mut upstream = Upstream::start().await;
    let config = format!(
        "{QUICK}\n[connections.chat]\nurl = '{}'\n[[access]]\nuid = 0\nrole = 'write'\n",
        upstream.url()
    );
    let folder = Folder::new(&config)
        .variable("SIOD__LOG__LEVEL", "info")
        .variable("SIOD__LOG__FORMAT", "journald")
        .variable("SIOD__CONNECTIONS__chat__AUTO_CONNECT", "true");
    let Some((journal, command)) = journal("the_journal_gets_fields", &folder) else { return };
    let daemon = Daemon::start_with(folder, command).await;
    let _ws = upstream.joined().await;
    let mut consumer = daemon.attach().await;
    let pid = std::process::id();
    let fields_of = |message: &str| {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let length = journal.recv(&mut bytes).unwrap_or_else(|error| panic!("no {message}: {error}"));
            let record = String::from_utf8(bytes[..length].to_vec()).unwrap();
            if record.starts_with(&format!("MESSAGE={message}")) {
                return record;
            }
        }
    };
    let connected = fields_of("connected");
    for field in [
        "MESSAGE=connected connection=\"chat\" id=socket-1 recovered=false transport=\"websocket\"",
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=siod",
        "CONNECTION=chat",
        "ID=socket-1",
        "TRANSPORT=websocket",
    ] {
        assert!(connected.lines().any(|line| line == field), "{field} in {connected}");
    }
    assert!(connected.lines().any(|line| line.starts_with("TARGET=siod::hub::")), "{connected}");
    consumer.request(r#"{"id":1,"method":"reload"}"#).await;
    let refused = fields_of("refused: above the consumer's role");
    let expected = ["PRIORITY=4", "CONSUMER=c1", "UID=0", &format!("PID={pid}"), "METHOD=reload"];
    for field in expected {
        assert!(refused.lines().any(|line| line == field), "{field} in {refused}");
    }
    assert_eq!(refused.matches("UID=0").count(), 1, "{refused}");
    assert_eq!(daemon.into_log().await, "", "nothing goes to stderr as well");
}

#[tokio::test]
async fn a_journal_that_does_not_read_or_is_gone_is_no_reason_to_end() {
    let folder = talkative("journald");
    let name = "a_journal_that_does_not_read_or_is_gone_is_no_reason_to_end";
    let Some((stalled, mut command)) = journal(name, &folder) else { return };
    command.stderr(Stdio::null());
    serves_and_ends(Daemon::start_with(folder, command).await).await;
    drop(stalled);

    let folder = talkative("journald");
    let Some((gone, command)) = journal(name, &folder) else { return };
    drop(gone);
    let daemon = Daemon::start_with(folder, command).await;
    daemon.attach().await.expect_silence().await;
    let log = daemon.into_log().await;
    assert!(log.contains("ready socket=") && log.contains("\nended"), "it is on stderr instead: {log}");
}

/// What a peer may try: to end the line, to talk to the terminal, to turn the text around.
const FOREIGN: &str =
    r"a\n2026-01-01 ERROR forged\u001b[2J\u001b]0;t\u0007\u009b31m\u202eb\u2066\u2028\u0085\r";

#[tokio::test]
async fn nothing_that_peers_say_breaks_a_line_or_talks_to_the_terminal() {
    for format in ["text", "json"] {
        let upstream = Upstream::start().await;
        let config = format!(
            "{QUICK}\n[connections.chat]\nurl = '{}'\nretries = 1\nack_timeout = '10ms'\n",
            upstream.url()
        );
        let folder = Folder::new(&config).variable("SIOD__LOG__LEVEL", "trace,siod::wire=trace");
        let daemon = Daemon::start_in(folder.variable("SIOD__LOG__FORMAT", format)).await;
        let consumer = daemon.attach().await;
        let mut chat = Chat { consumer, daemon, upstream };
        let foreign = FOREIGN;
        chat.consumer
            .request(&format!(r#"{{"id":1,"method":"hello","params":{{"client":"{foreign}"}}}}"#))
            .await;
        chat.consumer.request(r#"{"id":2,"method":"subscribe","params":{}}"#).await;
        chat.start().await;
        let mut ws = chat.upstream.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect("40").await;
        ws.send(&format!(r#"44{{"message":"{foreign}","data":"{foreign}"}}"#)).await;
        while ws.next_text_or_end().await.is_some() {}
        chat.start().await;
        let mut ws = chat.upstream.accept_ws().await;
        ws.send(OPEN).await;
        ws.expect("40").await;
        ws.send(&format!(r#"40{{"sid":"{foreign}"}}"#)).await;
        ws.send(&format!(r#"42["{foreign}","{foreign}"]"#)).await;
        let emit =
            format!(r#"{{"id":3,"method":"emit","params":{{"connection":"chat","event":"{foreign}"}}}}"#);
        // Nobody answers it, so it is given up.
        chat.consumer.request(&emit).await;
        let list = r#"{"id":7,"method":"list"}"#;
        while !chat.consumer.request(list).await.contains(r#""buffered":0,"#) {}
        // A close frame whose reason is no better.
        let reason: String = serde_json::from_str(&format!("\"{foreign}\"")).unwrap();
        let mut frame = vec![0x88, u8::try_from(reason.len() + 2).unwrap(), 0x03, 0xf0];
        frame.extend_from_slice(reason.as_bytes());
        ws.write_raw(&frame).await;
        // And a page that is none.
        let mut handshake = chat.upstream.handshake().await;
        handshake
            .write(&format!(
                "HTTP/1.1 403 no\r\nX-A: \u{9b}\u{202e}\r\nContent-Length: {}\r\n\r\n{reason}",
                reason.len()
            ))
            .await;
        handshake.hang_up().await;
        let _next = chat.upstream.handshake().await;
        let name = format!(r#"{{"id":4,"method":"open","params":{{"name":"{foreign}","url":"http://h"}}}}"#);
        chat.consumer.request(&name).await;
        chat.consumer.request(&format!(r#"{{"method":"{foreign}","params":5,"id":[]}}"#)).await;
        chat.daemon
            .folder()
            .configure(&format!("[connections.x]\nurl = \"{foreign}\"\n\"{foreign}\" = \"{foreign}\""));
        chat.consumer.request(r#"{"id":5,"method":"reload"}"#).await;
        let log = chat.daemon.into_log().await;
        for word in ["forged", "cannot connect", "disconnected", "given up", "does not load", "ended"] {
            assert!(log.contains(word), "{word} in {log}");
        }
        for line in log.lines() {
            let seen = |it: char| it.is_control() || "\u{202e}\u{2066}\u{2028}".contains(it);
            assert!(!line.contains(seen), "{line:?}");
            match format {
                "json" => assert!(line.starts_with("{\"") && line.ends_with('}'), "{line}"),
                _ => assert!(line.starts_with("20") && !line.starts_with("2026-01-01 ERROR"), "{line}"),
            }
        }
    }
}

#[tokio::test]
async fn floods_are_summed_up() {
    const ROUNDS: usize = 50;
    const GARBAGE: usize = 500;
    let config = format!("{QUICK}\n[[access]]\nuid = 0\nrole = 'write'");
    let upstream = Upstream::start().await;
    let config = format!("{config}\n[connections.chat]\nurl = '{}'\nauto_connect = true", upstream.url());
    let folder = Folder::new(&config).variable("SIOD__LOG__LEVEL", "info");
    let daemon = Daemon::start_in(folder).await;
    let mut upstream = upstream;
    for _ in 0..ROUNDS {
        upstream.joined().await.hang_up().await;
    }
    let ws = upstream.joined().await;
    let mut bad = daemon.attach().await;
    for _ in 0..GARBAGE {
        bad.request("garbage").await;
    }
    bad.expect_silence().await;
    let log = daemon.into_log().await;
    drop(ws);
    let count = |message: &str, kind: &str| -> (usize, usize) {
        let lines = log.lines().filter(|line| line.contains(message) && !line.contains("left_out"));
        let sums =
            log.lines().filter_map(|line| line.split_once("left_out=")?.1.split_once(&format!("{kind} (")));
        let told = sums.map(|(_, rest)| rest.split(')').next().unwrap_or_default().parse::<usize>().unwrap());
        (lines.count(), told.sum())
    };
    let (lines, told) = count(": a line was no request", "a line was no request");
    assert_eq!((lines, told), (10, GARBAGE - 10), "{log}");
    let (connected, more_connected) = count(": connected", "\"connected");
    let (lost, more_lost) = count(": disconnected", " disconnected");
    assert_eq!(connected + more_connected, ROUNDS + 1, "{log}");
    assert!(connected + lost <= 10 && more_lost >= ROUNDS - 5, "{log}");
}

/// A panic in a process of its own, whose log is set up as the daemon's.
#[test]
fn a_panic_is_one_line_and_quotes_nothing() {
    if std::env::var_os("SIOD_TEST_PANIC").is_some() {
        let format = if std::env::var("SIOD_TEST_PANIC").is_ok_and(|format| format == "json") {
            telemetry::Format::Json
        } else {
            telemetry::Format::Text
        };
        let settings = telemetry::Settings { level: "info".to_owned(), format };
        let log = telemetry::init(&settings).unwrap();
        let quoting = std::thread::spawn(|| {
            let secret = String::from("c4n4ry\nforged");
            let _end = secret.parse::<u64>().unwrap_or_else(|error| panic!("{error} in {secret}"));
        });
        assert!(quoting.join().is_err());
        assert!(std::thread::spawn(|| panic!("words of the source")).join().is_err());
        drop(log);
        return;
    }
    for format in ["text", "json"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_panic_is_one_line_and_quotes_nothing", "--nocapture"])
            .env("SIOD_TEST_PANIC", format)
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        let lines: Vec<_> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
        assert_eq!(lines.len(), 2, "{stderr}");
        assert!(!stderr.contains("c4n4ry"), "{stderr}");
        assert!(
            lines.iter().all(|line| line.contains("tests/logs.rs:") && line.contains("ERROR")),
            "{stderr}"
        );
        assert!(!lines[0].contains("words") && lines[1].contains("words of the source"), "{stderr}");
    }
}
