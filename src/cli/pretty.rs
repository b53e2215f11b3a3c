//! One notification as one line for people; pure.

use std::borrow::Cow;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::{columns, fit};
use crate::client::{Kind, Notification};

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
    match notification.kind() {
        Kind::Event | Kind::Outgoing => event(&mut line, notification, name, now, zone),
        Kind::Lifecycle => lifecycle(&mut line, notification, name, now, zone),
        Kind::Lagged | Kind::Goodbye | Kind::Other => {
            line.time(now, zone);
            line.part(NAME, name);
            ending(&mut line, notification);
        }
    }
    line.text
}

fn ending(line: &mut Line, notification: &Notification) {
    #[derive(Deserialize)]
    struct Lagged {
        missed: u64,
    }
    match (notification.kind(), notification.goodbye(), notification.read()) {
        (Kind::Lagged, _, Ok(Lagged { missed })) => {
            line.part(BAD, "lagged");
            line.rest(&format!("{missed} missed"));
        }
        (_, Some(reason), _) => {
            line.part(CHANGE, "goodbye");
            line.rest(&reason);
        }
        _ => line.rest(notification.line()),
    }
}

fn event(line: &mut Line, notification: &Notification, name: &str, now: Option<Timestamp>, zone: &TimeZone) {
    #[derive(Deserialize)]
    struct Emitted<'a> {
        #[serde(borrow)]
        event: Cow<'a, str>,
        #[serde(borrow)]
        args: Option<&'a RawValue>,
        ack: Option<u64>,
    }
    line.time(now, zone);
    line.part(NAME, name);
    let Ok(Emitted { event, args, ack }) = notification.read() else {
        return line.rest(notification.params());
    };
    if notification.kind() == Kind::Outgoing {
        line.part(DIM, "->");
    }
    line.part(EVENT, &event);
    if let Some(ack) = ack {
        line.part(DIM, &format!("ack={ack}"));
    }
    let args = args.map_or("", RawValue::get);
    line.rest(args.strip_prefix('[').and_then(|args| args.strip_suffix(']')).unwrap_or(args));
}

fn lifecycle(
    line: &mut Line,
    notification: &Notification,
    name: &str,
    now: Option<Timestamp>,
    zone: &TimeZone,
) {
    let Ok(change) = notification.read::<Change>() else {
        line.time(now, zone);
        line.part(NAME, name);
        return line.rest(notification.params());
    };
    line.time(change.time.as_deref().and_then(|time| time.parse().ok()).or(now), zone);
    line.part(NAME, name);
    line.part(style(&change.event), &change.event);
    line.rest(&change.words());
}

fn style(event: &str) -> Style {
    match event {
        "connect" | "reconnect" | "ready" | "upgrade" => GOOD,
        "disconnect" | "opened" | "closed" => CHANGE,
        "reconnect_attempt" => DIM,
        _ => BAD,
    }
}

/// The members of a lifecycle notification that people read.
#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    time: Option<String>,
    active: Option<bool>,
    id: Option<String>,
    recovered: Option<bool>,
    transport: Option<String>,
    message: Option<String>,
    description: Option<String>,
    hint: Option<String>,
    source: Option<String>,
    reason: Option<String>,
    details: Option<Details>,
    attempt: Option<u64>,
    attempts: Option<u64>,
    step: Option<u64>,
    by: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    answer: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Details {
    message: Option<String>,
    code: Option<i64>,
}

impl Change<'_> {
    fn words(&self) -> String {
        let details = self.details.as_ref();
        let mut words = Vec::new();
        let mut say = |label: &str, value: Option<Cow<str>>| {
            if let Some(value) = value {
                words.push(if label.is_empty() { value.into_owned() } else { format!("{label} {value}") });
            }
        };
        let number = |number: Option<u64>| number.map(|number| Cow::Owned(number.to_string()));
        let raw = |value: Option<&RawValue>| value.map(|value| Cow::Owned(value.get().to_owned()));
        say("over", self.transport.as_deref().map(Cow::Borrowed));
        say("id", self.id.as_deref().map(Cow::Borrowed));
        say("", self.recovered.unwrap_or(false).then_some(Cow::Borrowed("recovered")));
        say("attempt", number(self.attempt));
        say("after attempts:", number(self.attempts));
        say("step", number(self.step));
        say("", self.reason.as_deref().map(Cow::Borrowed));
        say("", details.and_then(|details| details.message.as_deref()).map(Cow::Borrowed));
        say("code", details.and_then(|details| details.code).map(|code| Cow::Owned(code.to_string())));
        say("", self.message.as_deref().map(Cow::Borrowed));
        say("", self.description.as_deref().map(Cow::Borrowed));
        say("hint:", self.hint.as_deref().map(Cow::Borrowed));
        say("from", self.source.as_deref().map(Cow::Borrowed));
        say("by", self.by.as_deref().map(Cow::Borrowed));
        say("data", raw(self.data));
        say("answer", raw(self.answer));
        let fallen = self.active == Some(false) && !matches!(&*self.event, "opened" | "closed");
        say("", fallen.then_some(Cow::Borrowed("(stays down until 'siod connect')")));
        words.join(", ")
    }
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
                r#"{"connection":"chat","event":"\u001b[2J\n","args":[]}"#,
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
                "03:04:05.678 chat connect_error no\\u000away, from server, data {\"a\":1}, (stays down…",
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
