//! The tables of `siod status`; pure.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::{fit, visible};

/// Columns of an error's text before it is cut.
const ERROR: usize = 160;

/// The result of `status`, as far as people read it.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    daemon: Option<Daemon>,
    connections: Vec<Connection>,
    consumers: Option<Vec<Consumer>>,
}

#[derive(Debug, Deserialize)]
struct Daemon {
    version: String,
    pid: Option<u64>,
    uptime_ms: Option<u64>,
    rss_bytes: Option<u64>,
    config_error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Connection {
    name: String,
    state: String,
    connected: bool,
    #[serde(default)]
    active: bool,
    transport: Option<String>,
    attempt: Option<u64>,
    next_attempt_ms: Option<u64>,
    since: Option<Box<RawValue>>,
    #[serde(default)]
    received: u64,
    #[serde(default)]
    sent: u64,
    #[serde(default)]
    buffered: u64,
    last_error: Option<Box<RawValue>>,
    last_disconnect: Option<Box<RawValue>>,
    #[serde(default)]
    insecure: bool,
}

#[derive(Debug, Deserialize)]
struct Consumer {
    #[serde(rename = "consumer")]
    id: String,
    client: Option<String>,
    pid: Option<i64>,
    uid: Option<u64>,
    role: Option<String>,
    attached: Option<Box<RawValue>>,
    #[serde(default)]
    subscriptions: Option<Box<RawValue>>,
    lag: Option<Box<RawValue>>,
    #[serde(default)]
    delivered: u64,
    #[serde(default)]
    missed: u64,
}

impl Status {
    pub(super) fn all_connected(&self) -> bool {
        self.connections.iter().all(|connection| connection.connected)
    }

    /// The tables, in so many columns, each line ended.
    pub(super) fn render(&self, now: Timestamp, width: usize) -> String {
        let mut text = String::new();
        if let Some(daemon) = &self.daemon {
            text += &fit(&daemon.line(), width);
            text += "\n\n";
            text += &daemon.complaint();
        }
        if self.connections.is_empty() {
            text += "no connections; see 'siod open --help'\n";
        } else {
            let mut connections = table(width);
            connections.set_header(["NAME", "STATE", "VIA", "SINCE", "IN", "OUT", "WAIT", "TROUBLE"]);
            connections.add_rows(self.connections.iter().map(|connection| connection.row(now)));
            text += &lines(connections);
        }
        if let Some(consumers) = &self.consumers {
            let mut table = table(width);
            table.set_header([
                "CONSUMER", "CLIENT", "PID", "UID", "ROLE", "SINCE", "SUBS", "LAG", "SENT", "MISSED",
            ]);
            table.add_rows(consumers.iter().map(|consumer| consumer.row(now)));
            text += "\n";
            text += &lines(table);
        }
        text
    }
}

impl Daemon {
    fn line(&self) -> String {
        let mut line = format!("siod {}", self.version);
        if let Some(pid) = self.pid {
            let _ = write!(line, ", pid {pid}");
        }
        if let Some(uptime) = self.uptime_ms {
            let _ = write!(line, ", up {}", elapsed(uptime / 1000));
        }
        if let Some(rss) = self.rss_bytes {
            let _ = write!(line, ", {}.{} MiB", rss >> 20, ((rss & 0xf_ffff) * 10) >> 20);
        }
        line
    }

    /// What is wrong with the configuration since it was last right. It has to be read whole, so it is not cut.
    fn complaint(&self) -> String {
        let Some(problems) = &self.config_error else { return String::new() };
        let mut text = "The configuration does not load; the last one that did is in effect:\n".to_owned();
        for problem in problems.lines() {
            let _ = writeln!(text, "  {}", visible(problem));
        }
        text + "\n"
    }
}

impl Connection {
    fn row(&self, now: Timestamp) -> [String; 8] {
        [
            visible(&self.name).into_owned(),
            visible(&self.state).into_owned() + if self.insecure { ", insecure" } else { "" },
            self.transport.as_deref().map_or("-".into(), |transport| visible(transport).into_owned()),
            self.since(now),
            self.received.to_string(),
            self.sent.to_string(),
            self.buffered.to_string(),
            self.trouble(),
        ]
    }

    /// Why it is not connected: what came last.
    fn trouble(&self) -> String {
        if self.connected {
            return String::new();
        }
        let (error, disconnect) = (self.last_error.as_deref(), self.last_disconnect.as_deref());
        let time = |value| Fault::read(value).and_then(|fault| fault.time);
        match (error, disconnect) {
            (Some(error), Some(disconnect)) if time(error) > time(disconnect) => fault(error),
            (_, Some(disconnect)) => fault(disconnect),
            (error, None) => error.map(fault).unwrap_or_default(),
        }
    }

    /// How long its state has lasted, or when the next attempt is made.
    fn since(&self, now: Timestamp) -> String {
        let since = since(self.since.as_deref(), now);
        match (self.connected, self.active, self.attempt) {
            (false, true, Some(attempt)) if attempt > 0 => match self.next_attempt_ms {
                Some(wait) => format!("try {attempt} in {}", elapsed(wait.div_ceil(1000))),
                None => format!("try {attempt} now"),
            },
            (false, true, _) => match self.next_attempt_ms {
                Some(wait) => format!("again in {}", elapsed(wait.div_ceil(1000))),
                None => since,
            },
            _ => since,
        }
    }
}

impl Consumer {
    fn row(&self, now: Timestamp) -> [String; 10] {
        let number = |number: Option<String>| number.unwrap_or_else(|| "-".into());
        [
            visible(&self.id).into_owned(),
            self.client.as_deref().map_or_else(|| "-".into(), |client| visible(client).into_owned()),
            number(self.pid.map(|pid| pid.to_string())),
            number(self.uid.map(|uid| uid.to_string())),
            self.role.as_deref().map_or_else(|| "-".into(), |role| visible(role).into_owned()),
            since(self.attached.as_deref(), now),
            self.subscriptions.as_deref().map(count).unwrap_or_default(),
            self.lag.as_deref().map(words).unwrap_or_default(),
            self.delivered.to_string(),
            self.missed.to_string(),
        ]
    }
}

fn table(width: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table
}

fn lines(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// `12s`, `3m 4s`, `2h 5m`, `3d 4h`.
fn elapsed(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// How long ago a time was; what is no time is shown as it is.
fn since(time: Option<&RawValue>, now: Timestamp) -> String {
    let Some(time) = time else { return "-".into() };
    let seconds =
        serde_json::from_str::<Timestamp>(time.get()).map(|time| now.duration_since(time).as_secs());
    seconds.map_or_else(|_| words(time), |seconds| elapsed(seconds.try_into().unwrap_or(0)))
}

/// An array's length, or whatever else it is.
fn count(value: &RawValue) -> String {
    serde_json::from_str::<Vec<serde::de::IgnoredAny>>(value.get())
        .map_or_else(|_| words(value), |items| items.len().to_string())
}

/// What a `last_error` or a `last_disconnect` says.
#[derive(Deserialize)]
struct Fault<'a> {
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    description: Option<&'a RawValue>,
    time: Option<Timestamp>,
}

impl<'a> Fault<'a> {
    fn read(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }
}

/// The words of a failure, which is an object or a string.
fn fault(value: &RawValue) -> String {
    let Some(Fault { reason, message, description, .. }) = Fault::read(value) else {
        return fit(&words(value), ERROR);
    };
    let said: Vec<_> = [reason, message, description].into_iter().flatten().map(words).collect();
    fit(&said.join(": "), ERROR)
}

/// A string's text, or JSON as it is.
fn words(value: &RawValue) -> String {
    let text = serde_json::from_str::<String>(value.get());
    visible(text.as_deref().unwrap_or(value.get())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::text::columns;
    use super::*;

    const STATUS: &str = r#"{
        "daemon":{"version":"0.1.0","pid":123,"stream":"s","started":"2026-01-02T00:00:00.000Z","uptime_ms":7500000,"consumers":1,"connections":3,"rss_bytes":9961472},
        "connections":[
            {"name":"chat","url":"https://h/","namespace":"/","state":"connected","connected":true,"active":true,"transport":"websocket","attempt":0,"next_attempt_ms":null,"since":"2026-01-02T00:00:00.000Z","seq":4,"buffered":0,"received":123456,"sent":7,"last_error":{"message":"timeout"}},
            {"name":"lab","state":"reconnecting","connected":false,"active":true,"transport":null,"attempt":3,"next_attempt_ms":1700,"since":"2026-01-02T02:00:00.000Z","buffered":12,"received":0,"sent":0,"last_error":{"message":"connection\nrefused \u001b[31m","source":"transport"}},
            {"name":"off","state":"disconnected","connected":false,"active":false,"transport":null,"attempt":0,"next_attempt_ms":null,"since":null,"buffered":0,"received":0,"sent":0,"last_error":"gone","insecure":true}
        ],
        "consumers":[{"consumer":"c1","client":"siod listen","pid":77,"uid":1000,"gid":1000,"role":"control","attached":"2026-01-02T02:02:00.000Z","subscriptions":1,"lag":"skip","delivered":5,"missed":0}]
    }"#;

    fn status(json: &str) -> Status {
        serde_json::from_str(json).unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-02T02:03:04Z".parse().unwrap()
    }

    #[test]
    fn fits_eighty_columns_and_shows_what_matters() {
        let shown = status(STATUS).render(now(), 80);
        assert!(shown.lines().all(|line| columns(line) <= 80), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
        let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or("").to_owned();
        assert_eq!(line("siod"), "siod 0.1.0, pid 123, up 2h 5m, 9.5 MiB");
        for part in ["connected", "websocket", "2h 3m", "123456", "7"] {
            assert!(line("chat").contains(part), "{part} in {shown}");
        }
        assert!(!line("chat").contains("timeout"), "what is over is no trouble: {shown}");
        assert!(line("off").contains("gone") && shown.contains("insecure"), "{shown}");
        assert!(line("c1").contains("siod"), "{shown}");
        for part in ["try 3 in 2s", "\\u000a", "\\u001b"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    #[test]
    fn a_configuration_that_does_not_load_is_shown_whole() {
        let long = "x".repeat(100);
        let json = format!(
            r#"{{"daemon":{{"version":"1","config_error":"a:1: b\n{long}\u001b"}},"connections":[]}}"#
        );
        let shown = status(&json).render(now(), 40);
        assert!(
            shown.contains("\n  a:1: b\n") && shown.contains(&format!("\n  {long}\\u001b\n\n")),
            "{shown}"
        );
    }

    #[test]
    fn the_newer_of_both_troubles_is_shown() {
        let trouble = |error: &str, disconnect: &str| {
            let json = format!(
                r#"{{"connections":[{{"name":"a","state":"reconnecting","connected":false,"active":true,"next_attempt_ms":4100,"last_error":{error},"last_disconnect":{disconnect}}}]}}"#
            );
            status(&json).connections[0].row(now())
        };
        let error =
            r#"{"message":"websocket error","description":"refused","time":"2026-01-02T02:03:01.000Z"}"#;
        let earlier = r#"{"reason":"transport close","message":"x","time":"2026-01-02T02:03:00.000Z"}"#;
        let later = r#"{"reason":"transport close","message":"gone","time":"2026-01-02T02:03:02.000Z"}"#;
        for (error, disconnect, expected) in [
            (error, "null", "websocket error: refused"),
            (error, earlier, "websocket error: refused"),
            (error, later, "transport close: gone"),
            ("null", later, "transport close: gone"),
            ("null", "null", ""),
        ] {
            let row = trouble(error, disconnect);
            assert_eq!(row[7], expected);
            assert_eq!(row[3], "again in 5s");
        }
    }

    #[test]
    fn all_connected() {
        assert!(!status(STATUS).all_connected());
        assert!(status(r#"{"connections":[]}"#).all_connected());
        assert!(
            status(r#"{"connections":[{"name":"a","state":"connected","connected":true}]}"#).all_connected()
        );
    }

    #[test]
    fn durations() {
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (184, "3m 4s"), (7500, "2h 5m"), (273_600, "3d 4h")]
        {
            assert_eq!(elapsed(seconds), expected);
        }
    }
}
