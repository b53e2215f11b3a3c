//! What people see: the binary with a terminal as its stdout.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::Command;

use crate::daemon::{Daemon, HELLO, event, subscribe, subscribed, within};

/// A terminal of so many columns: our end, and that of the program.
fn terminal(columns: u16) -> (File, Stdio) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    tcsetwinsize(&ours, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs: OwnedFd = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap().into();
    (ours.into(), theirs.into())
}

/// Runs a command on a terminal to its end; gives the lines that are seen there.
async fn seen(
    daemon: &Daemon,
    mut siod: Command,
    columns: u16,
    talk: impl AsyncFnOnce(&mut crate::daemon::Peer),
) -> Vec<String> {
    let (mut ours, theirs) = terminal(columns);
    siod.stdin(Stdio::null()).stdout(theirs).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = siod.spawn().unwrap();
    // The program's end is closed with the program alone.
    drop(siod);
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        // Linux ends a terminal that nobody holds any more with an error.
        let _end = ours.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    });
    let mut peer = daemon.accept().await;
    talk(&mut peer).await;
    drop(peer);
    within(child.wait()).await.unwrap();
    let text = within(reading).await.unwrap();
    text.lines().map(str::to_owned).collect()
}

fn on_xterm(mut siod: Command) -> Command {
    siod.env("TERM", "xterm").env("TZ", "UTC").env_remove("NO_COLOR").env_remove("CLICOLOR");
    siod
}

const LIFECYCLE: &str = r#"{"jsonrpc":"2.0","method":"lifecycle","params":{"connection":"chat","seq":6,"event":"disconnect","reason":"transport close","details":null,"active":true,"time":"2026-01-02T03:04:05.678Z"}}"#;

async fn says_four_things(peer: &mut crate::daemon::Peer) {
    peer.expect(1, HELLO).await;
    peer.expect(2, &subscribe(r#""connection":"*","last":1"#)).await;
    peer.answer(2, &subscribed("s1", &[("chat", 5)], 1, "0")).await;
    peer.say(&event("chat", 5)).await;
    peer.say(LIFECYCLE).await;
    let long = "漢".repeat(100);
    peer.say(&event("chat", 7).replace("1.50, 2", &format!("\"{long}\""))).await;
    peer.say(&event("chat", 8)).await;
    peer.gone().await;
}

const LISTEN: [&str; 5] = ["listen", "--last", "1", "--count", "4"];

#[tokio::test]
async fn a_terminal_shows_what_happened_at_a_glance() {
    let daemon = Daemon::start();
    let lines = seen(&daemon, on_xterm(daemon.siod(&LISTEN)), 60, says_four_things).await;
    let plain: Vec<_> = lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
    assert_eq!(plain[0], "earlier      chat e 1.50, 2", "what was retained has no time");
    assert_eq!(plain[1], "03:04:05.678 chat disconnect transport close");
    assert!(plain[2].contains(" chat e \"漢漢") && plain[2].ends_with('…'), "{plain:?}");
    assert!(plain[3].ends_with(" chat e 1.50, 2"), "{plain:?}");
    for line in &plain[2..] {
        let time: Vec<_> = line.split(' ').next().unwrap().split([':', '.']).map(str::len).collect();
        assert_eq!(time, [2, 2, 2, 3], "{line}");
    }
    assert!(lines[1].contains("\u{1b}[33mdisconnect"), "in colour: {lines:?}");
    // Characters of two columns each, between some of one.
    assert!(plain[2].chars().count() < 60 && plain[2].chars().count() > 35, "{plain:?}");
}

#[tokio::test]
async fn who_wants_no_colour_gets_none() {
    let daemon = Daemon::start();
    let mut siod = on_xterm(daemon.siod(&LISTEN));
    siod.env("NO_COLOR", "1");
    let lines = seen(&daemon, siod, 80, says_four_things).await;
    assert_eq!(lines[1], "03:04:05.678 chat disconnect transport close");
    assert!(!lines.concat().contains('\u{1b}'), "{lines:?}");
}

#[tokio::test]
async fn the_lines_as_they_are_come_to_a_terminal_that_wants_them_or_knows_nothing_else() {
    for raw in [true, false] {
        let daemon = Daemon::start();
        let args = [&LISTEN[..], if raw { &["--raw"] } else { &[] }].concat();
        let mut siod = on_xterm(daemon.siod(&args));
        if !raw {
            siod.env("TERM", "dumb");
        }
        let lines = seen(&daemon, siod, 80, says_four_things).await;
        assert_eq!(lines[..2], [event("chat", 5), LIFECYCLE.to_owned()], "{raw}");
    }
}

#[tokio::test]
async fn the_table_has_the_columns_of_the_terminal() {
    for columns in [80, 50] {
        let daemon = Daemon::start();
        let lines = seen(&daemon, on_xterm(daemon.siod(&["status"])), columns, async |peer| {
            peer.expect(1, r#""method":"status","params":{}"#).await;
            let name = "n".repeat(64);
            let chat = format!(r#"{{"name":"{name}","state":"connected","connected":true}}"#);
            peer.answer(1, &format!(r#""result":{{"daemon":{{"version":"1"}},"connections":[{chat}]}}"#))
                .await;
            peer.gone().await;
        })
        .await;
        let row = lines.iter().find(|line| line.starts_with('n')).unwrap();
        assert_eq!(row.chars().count(), usize::from(columns), "{lines:?}");
    }
}
