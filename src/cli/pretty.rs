//! One notification as one line for people; pure.

use std::fmt::{Display, Write as _};

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::text::{columns, failure, fit};
use crate::client::{Change, Lifecycle, Notice, Notification, Transport};

const DIM: Style = Style::new().dimmed();
const NAME: Style = AnsiColor::Cyan.on_default();
const EVENT: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const CHANGE: Style = AnsiColor::Yellow.on_default();

/// The line for a notification that came at `now`; a replayed event came at a time that nobody knows.
///
/// Fits the columns if there are at least some forty of them.
pub(super) fn render(
    notification: &Notification,
    now: Option<Timestamp>,
    zone: &TimeZone,
    width: usize,
) -> String {
    let mut line = Line { text: String::new(), left: width };
    let name = notification.connection().unwrap_or("siod");
    let notice = notification.notice();
    let time = match &notice {
        Ok(Notice::Lifecycle(Lifecycle { time: Some(time), .. })) => Timestamp::try_from(*time).ok().or(now),
        _ => now,
    };
    line.time(time, zone);
    line.part(NAME, name);
    match &notice {
        Ok(Notice::Event(said)) => event(&mut line, &said.event, said.args, said.ack),
        Ok(Notice::Outgoing(said)) => {
            line.part(DIM, "->");
            event(&mut line, &said.event, said.args, None);
        }
        Ok(Notice::Lifecycle(lifecycle)) => {
            line.part(style(&lifecycle.change), &lifecycle.event);
            line.rest(&words(lifecycle));
        }
        Ok(Notice::Lagged(lagged)) => {
            line.part(BAD, "lagged");
            line.rest(&format!("{} missed", lagged.missed));
        }
        Ok(Notice::Goodbye(reason)) => {
            line.part(CHANGE, "goodbye");
            line.rest(reason);
        }
        Ok(_) => line.rest(notification.line()),
        Err(_) => line.rest(notification.params()),
    }
    line.text
}

fn event(line: &mut Line, name: &str, args: &RawValue, ack: Option<u64>) {
    line.part(EVENT, name);
    if let Some(ack) = ack {
        line.part(DIM, &format!("ack={ack}"));
    }
    let args = args.get();
    line.rest(args.strip_prefix('[').and_then(|args| args.strip_suffix(']')).unwrap_or(args));
}

fn style(change: &Change) -> Style {
    match change {
        Change::Connect { .. } | Change::Reconnect { .. } | Change::Ready | Change::Upgrade { .. } => GOOD,
        Change::Disconnect { .. } | Change::Opened { .. } | Change::Closed { .. } => CHANGE,
        Change::ReconnectAttempt { .. } => DIM,
        _ => BAD,
    }
}

fn words(lifecycle: &Lifecycle) -> String {
    let mut words = Vec::new();
    let mut say = |label: &str, value: Option<&dyn Display>| {
        if let Some(value) = value {
            words.push(if label.is_empty() { value.to_string() } else { format!("{label} {value}") });
        }
    };
    let mut falls = lifecycle.active;
    match &lifecycle.change {
        Change::Connect { id, recovered, transport } => {
            say("over", transport.map(Transport::name).as_ref().map(|name| name as _));
            say("id", Some(id));
            say("", recovered.then_some(&"recovered"));
        }
        Change::ConnectError { message, source, description, hint, code, data, .. } => {
            say("code", code.as_ref().map(|code| code as _));
            say("", Some(&failure(message)));
            say("", description.as_ref().map(|description| description as _));
            say("hint:", hint.as_ref().map(|hint| hint as _));
            say("from", Some(source));
            say("data", data.as_ref().map(|data| data as _));
        }
        Change::Disconnect { reason, details } => {
            say("", Some(reason));
            say("", details.as_ref().map(|details| &details.message as _));
            say("code", details.as_ref().and_then(|details| details.code.as_ref()).map(|code| code as _));
        }
        Change::ReconnectAttempt { attempt } | Change::Reconnect { attempt } => say("attempt", Some(attempt)),
        Change::ReconnectError { attempt, message } => {
            say("attempt", Some(attempt));
            say("", Some(message));
        }
        Change::ReconnectFailed { attempts } => say("after attempts:", Some(attempts)),
        Change::Upgrade { transport } => {
            say("to", transport.map(Transport::name).as_ref().map(|name| name as _));
        }
        Change::SetupFailed { step, message, answer } => {
            say("step", Some(step));
            say("", Some(message));
            say("answer", answer.as_ref().map(|answer| answer as _));
        }
        Change::Opened { by } | Change::Closed { by } => {
            say("by", Some(by));
            falls = true;
        }
        Change::Ready | Change::Other => {}
    }
    let text = words.join(", ");
    // Short, since it says what to do and stands at the end, where a narrow terminal cuts.
    if falls { text } else { format!("{text} (down until 'siod connect')").trim_start().to_owned() }
}

/// A line that grows until it is full.
struct Line {
    text: String,
    left: usize,
}

impl Line {
    fn time(&mut self, time: Option<Timestamp>, zone: &TimeZone) {
        let text = match time {
            Some(time) => time.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string(),
            None => "earlier     ".to_owned(),
        };
        self.part(DIM, &text);
    }

    /// A short part, which takes no more than a third of what is left.
    fn part(&mut self, style: Style, text: &str) {
        if text.is_empty() || self.left < 2 {
            return;
        }
        let text = fit(text, (self.left / 3).max(12).min(self.left - 1));
        let _ = write!(self.text, "{style}{text}{style:#} ");
        self.left = self.left.saturating_sub(columns(&text) + 1);
    }

    /// What comes last has all that is left.
    fn rest(&mut self, text: &str) {
        self.text.push_str(&fit(text, self.left));
    }
}

/// A notification's text without styles, for where those would be counted.
#[cfg(test)]
fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;
    use crate::client::Client;

    async fn notification(method: &str, params: &str) -> Notification {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let line = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params}}}\n");
        let mut client = Client::from_stream(ours);
        let (taken, written) = tokio::join!(client.next_notification(), theirs.write_all(line.as_bytes()));
        written.unwrap();
        taken.unwrap()
    }

    #[tokio::test]
    async fn one_line_each() {
        let now = Some("2026-01-02T03:04:05.678Z".parse().unwrap());
        for (method, params, now, expected) in [
            (
                "event",
                r#"{"connection":"chat","seq":41,"event":"message","args":["hi",{"n":1.50}]}"#,
                now,
                r#"03:04:05.678 chat message "hi",{"n":1.50}"#,
            ),
            (
                "event",
                r#"{"connection":"chat","seq":42,"event":"question","args":["ready?"],"ack":7}"#,
                None,
                r#"earlier      chat question ack=7 "ready?""#,
            ),
            (
                "event",
                r#"{"connection":"chat","seq":2,"event":"\u001b[2J\n","args":[]}"#,
                now,
                "03:04:05.678 chat \\u001b[2J\\u000a ",
            ),
            (
                "lifecycle",
                r#"{"connection":"chat","seq":1,"event":"disconnect","reason":"transport close","details":{"message":"gone","code":1006},"active":true,"time":"2026-01-02T23:59:59.001Z"}"#,
                now,
                "23:59:59.001 chat disconnect transport close, gone, code 1006",
            ),
            (
                "lifecycle",
                r#"{"connection":"chat","seq":1,"event":"connect_error","message":"no\nway","data":{"a":1},"source":"server","active":false,"time":"x"}"#,
                now,
                "03:04:05.678 chat connect_error no\\u000away, from server, data {\"a\":1} (down until …",
            ),
            (
                "lifecycle",
                r#"{"connection":"chat","seq":1,"event":"connect_error","message":"","source":"server","active":true,"time":"x"}"#,
                now,
                "03:04:05.678 chat connect_error refused without a reason, from server",
            ),
            (
                "lifecycle",
                r#"{"connection":"chat","seq":1,"event":"connect","id":"abc","recovered":true,"transport":"websocket","active":true}"#,
                now,
                "03:04:05.678 chat connect over websocket, id abc, recovered",
            ),
            (
                "lifecycle",
                r#"{"connection":"chat","seq":1,"event":5}"#,
                now,
                r#"03:04:05.678 chat {"connection":"chat","seq":1,"event":5}"#,
            ),
            (
                "lifecycle",
                r#"{"connection":"chat","seq":1,"event":"disconnect","reason":"io client disconnect","details":null,"active":false,"time":"2026-01-02T23:59:59.001Z"}"#,
                now,
                "23:59:59.001 chat disconnect io client disconnect (down until 'siod connect')",
            ),
            (
                "lagged",
                r#"{"connection":"chat","missed":3,"next_seq":9}"#,
                now,
                "03:04:05.678 chat lagged 3 missed",
            ),
            ("goodbye", r#"{"reason":"shutdown"}"#, now, "03:04:05.678 siod goodbye shutdown"),
        ] {
            let shown = plain(&render(&notification(method, params).await, now, &TimeZone::UTC, 84));
            assert_eq!(shown, expected);
        }
    }

    #[tokio::test]
    async fn never_wider_than_the_terminal() {
        let long = "漢".repeat(64);
        let params =
            format!(r#"{{"connection":"{long}","seq":1,"event":"{long}","args":["{long}\u001b"],"ack":1}}"#);
        let event = notification("event", &params).await;
        for width in [40, 57, 80, 200] {
            let shown = plain(&render(&event, None, &TimeZone::UTC, width));
            assert!(columns(&shown) <= width, "{width}: {shown}");
            assert!(!shown.contains(char::is_control));
        }
    }
}
