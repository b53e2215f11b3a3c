//! The tables of `siod status`; pure.
//!
//! A line is one connection or one program, whatever their names and numbers: the column that is for people to recognise
//! them is cut to what is left. What is wrong with a connection stands beneath it.

use std::fmt::Write as _;
use std::time::SystemTime;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use jiff::Timestamp;

use super::text::{columns, failure, fit, visible};
use crate::client::{Consumer, Daemon, LastDisconnect, Snapshot, Status, Transport};

/// Columns of an error's text before it is cut.
const ERROR: usize = 160;

/// Columns that a name has at least.
const NAME: usize = 8;

/// Columns of numbers.
const NUMBERS: [&str; 9] = ["IN", "OUT", "WAIT", "PID", "UID", "SUBS", "LAG", "SENT", "MISSED"];

/// The tables, in so many columns, each line ended.
pub(super) fn render(status: &Status, now: Timestamp, width: usize) -> String {
    let mut text = fit(&line(&status.daemon), width);
    text += "\n\n";
    text += &complaint(&status.daemon);
    if status.connections.is_empty() {
        text += "no connections; see 'siod open --help'\n";
    } else {
        let rows = status.connections.iter().map(|connection| connection_row(connection, now)).collect();
        let mut lines =
            table(["NAME", "STATE", "VIA", "SINCE", "IN", "OUT", "WAIT"], rows, 0, width).into_iter();
        text.extend(lines.next());
        for (line, connection) in lines.zip(&status.connections) {
            text += &line;
            text += &notes(connection, width);
        }
    }
    if let Some(consumers) = &status.consumers {
        let headers = ["CONSUMER", "CLIENT", "PID", "UID", "ROLE", "SINCE", "SUBS", "LAG", "SENT", "MISSED"];
        let rows = consumers.iter().map(|consumer| consumer_row(consumer, now)).collect();
        text += "\n";
        text.extend(table(headers, rows, 1, width));
    }
    text
}

fn line(daemon: &Daemon) -> String {
    let Daemon { version, pid, uptime, rss_bytes, .. } = daemon;
    let (mebibytes, tenths) = (rss_bytes >> 20, ((rss_bytes & 0xf_ffff) * 10) >> 20);
    format!("siod {version}, pid {pid}, up {}, {mebibytes}.{tenths} MiB", elapsed(uptime.as_secs()))
}

/// What is wrong with the configuration since it was last right. It has to be read whole, so it is not cut.
fn complaint(daemon: &Daemon) -> String {
    let Some(problems) = &daemon.config_error else { return String::new() };
    let mut text = "The configuration does not load; the last one that did is in effect:\n".to_owned();
    for problem in problems.lines() {
        let _ = writeln!(text, "  {}", visible(problem));
    }
    text + "\n"
}

fn connection_row(connection: &Snapshot, now: Timestamp) -> [String; 7] {
    [
        visible(&connection.name).into_owned(),
        connection.state.name().to_owned(),
        connection.transport.map_or("-", Transport::name).to_owned(),
        since(connection.since, now),
        count(connection.received),
        count(connection.sent),
        count(connection.buffered),
    ]
}

/// What a person should know about a connection, beneath its line.
fn notes(connection: &Snapshot, width: usize) -> String {
    let mut notes = String::new();
    let trouble = [next_attempt(connection), trouble(connection)];
    let trouble = trouble.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    if !trouble.is_empty() {
        notes += &paragraph(&trouble, width);
    }
    if connection.insecure {
        notes += &paragraph("insecure: any certificate of the server is taken", width);
    }
    notes
}

/// Text on as many indented lines as it takes.
fn paragraph(text: &str, width: usize) -> String {
    let mut table = blank();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.add_row([visible(text)]);
    if let Some(column) = table.column_mut(0) {
        column.set_padding((4, 0));
    }
    table.lines().map(|line| fit(line.trim_end(), width) + "\n").collect()
}

/// Why it is not connected: what came last.
fn trouble(connection: &Snapshot) -> String {
    if connection.connected {
        return String::new();
    }
    let (error, disconnect) = (&connection.last_error, &connection.last_disconnect);
    let times = (error.as_ref().and_then(|e| e.time), disconnect.as_ref().and_then(|d| d.time));
    let said = match (error, disconnect) {
        (Some(error), None) => words(failure(&error.message), None, error.description.as_deref()),
        (Some(error), Some(_)) if times.0 > times.1 => {
            words(failure(&error.message), None, error.description.as_deref())
        }
        (_, Some(LastDisconnect { reason, message, description, .. })) => {
            words(reason, message.as_deref(), description.as_deref())
        }
        (None, None) => String::new(),
    };
    fit(&said, ERROR)
}

fn words(first: &str, second: Option<&str>, third: Option<&str>) -> String {
    [Some(first), second, third].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// When the next attempt is made, where one will be.
fn next_attempt(connection: &Snapshot) -> String {
    let next =
        connection.next_attempt.map(|wait| elapsed(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
    match (connection.connected, connection.active, connection.attempt, next) {
        (false, true, attempt @ 1.., Some(wait)) => format!("try {attempt} in {wait}"),
        (false, true, attempt @ 1.., None) => format!("try {attempt} now"),
        (false, true, 0, Some(wait)) => format!("again in {wait}"),
        _ => String::new(),
    }
}

fn consumer_row(consumer: &Consumer, now: Timestamp) -> [String; 10] {
    let number = |number: Option<i64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    [
        visible(&consumer.consumer).into_owned(),
        consumer.client.as_deref().map_or_else(|| "-".into(), |client| visible(client).into_owned()),
        number(consumer.pid.map(i64::from)),
        number(consumer.uid.map(i64::from)),
        consumer.role.name().to_owned(),
        since(consumer.attached, now),
        count(consumer.subscriptions),
        count(consumer.lag),
        count(consumer.delivered),
        count(consumer.missed),
    ]
}

fn blank() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// One line a row, headers first; the column `flexible` has what the others leave.
fn table<const N: usize>(
    headers: [&str; N],
    mut rows: Vec<[String; N]>,
    flexible: usize,
    width: usize,
) -> Vec<String> {
    rows.insert(0, headers.map(str::to_owned));
    let widest = |column: usize| rows.iter().map(|row| columns(&row[column])).max().unwrap_or(0);
    let others: usize = (0..N).filter(|column| *column != flexible).map(|column| widest(column) + 1).sum();
    let room = width.saturating_sub(others).max(NAME);
    let mut table = blank();
    table.set_content_arrangement(ContentArrangement::Disabled);
    for mut row in rows {
        row[flexible] = fit(&row[flexible], room);
        table.add_row(row);
    }
    for (column, header) in table.column_iter_mut().zip(headers) {
        column.set_padding((0, 1));
        if NUMBERS.contains(&header) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| fit(line.trim_end(), width) + "\n").collect()
}

/// Exact as long as it is short: `9999999`, `12.3M`.
fn count(number: u64) -> String {
    if number < 10_000_000 {
        return number.to_string();
    }
    let (mut tenths, mut units) = (number / 100_000, "MGTPE".chars());
    let mut unit = units.next().unwrap_or_default();
    while tenths >= 10_000 {
        tenths /= 1000;
        unit = units.next().unwrap_or_default();
    }
    format!("{}.{}{unit}", tenths / 10, tenths % 10)
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

/// How long ago a time was.
fn since(time: Option<SystemTime>, now: Timestamp) -> String {
    let time = time.and_then(|time| Timestamp::try_from(time).ok());
    time.map_or_else(
        || "-".into(),
        |time| elapsed(now.duration_since(time).as_secs().try_into().unwrap_or(0)),
    )
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
            {"name":"off","state":"disconnected","connected":false,"active":false,"transport":null,"attempt":0,"next_attempt_ms":null,"since":null,"buffered":0,"received":0,"sent":0,"last_error":{"message":"gone"},"insecure":true}
        ],
        "consumers":[{"consumer":"c1","client":"siod listen","pid":77,"uid":1000,"gid":1000,"role":"control","attached":"2026-01-02T02:02:00.000Z","subscriptions":1,"lag":0,"delivered":5,"missed":0}]
    }"#;

    fn status(json: &str) -> Status {
        serde_json::from_str(json).unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-02T02:03:04Z".parse().unwrap()
    }

    #[test]
    fn what_matters_is_seen_at_a_glance() {
        let shown = render(&status(STATUS), now(), 80);
        assert_eq!(
            shown,
            r"siod 0.1.0, pid 123, up 2h 5m, 9.5 MiB

NAME STATE        VIA       SINCE     IN OUT WAIT
chat connected    websocket 2h 3m 123456   7    0
lab  reconnecting -         3m 4s      0   0   12
    try 3 in 2s: connection\u000arefused \u001b[31m
off  disconnected -         -          0   0    0
    gone
    insecure: any certificate of the server is taken

CONSUMER CLIENT      PID  UID ROLE    SINCE SUBS LAG SENT MISSED
c1       siod listen  77 1000 control 1m 4s    1   0    5      0
"
        );
    }

    #[test]
    fn eighty_columns_are_enough_whatever_the_names_and_numbers() {
        let error = r#"{"message":"websocket error","description":"cannot connect to https://a-very-long-host-name.of.some.company.example.com:8443/with/a/path?and=query: Connection refused"}"#;
        let names = ["a", "a-name-that-is-rather-long-for-a-connection", &"x".repeat(64), &"漢".repeat(64)];
        let connections: Vec<_> = (0..200)
            .map(|n| {
                let (name, up) = (names[n % 4], n % 3 == 0);
                let (state, error) = if up { ("connected", "null") } else { ("reconnecting", error) };
                format!(
                    r#"{{"name":"{name}","state":"{state}","connected":{up},"active":true,"transport":"websocket","attempt":{},"next_attempt_ms":123456,"since":"2020-01-02T02:00:00.000Z","received":{},"sent":{n},"buffered":123456789,"last_error":{error},"insecure":true}}"#,
                    u64::MAX,
                    u64::MAX >> (n % 64)
                )
            })
            .collect();
        let consumers: Vec<_> = (0..200)
            .map(|n| {
                format!(
                    r#"{{"consumer":"c{n}","client":"{}","pid":4194304,"uid":4294967295,"role":"control","attached":"2020-01-02T02:02:00.000Z","subscriptions":1024,"lag":16384,"delivered":{},"missed":{}}}"#,
                    "my client".repeat(n),
                    u64::MAX >> (n % 64),
                    u64::MAX
                )
            })
            .collect();
        let (connections, consumers) = (connections.join(","), consumers.join(","));
        let json = format!(
            r#"{{"daemon":{{"version":"1"}},"connections":[{connections}],"consumers":[{consumers}]}}"#
        );
        for width in [80, 40, 200] {
            let shown = render(&status(&json), now(), width);
            assert!(shown.lines().all(|line| columns(line) <= width), "{width}: {shown}");
            let rows = shown.lines().filter(|line| line.starts_with(['a', 'x', '漢'])).count();
            assert_eq!(rows, 200, "a line each: {shown}");
            assert_eq!(shown.lines().filter(|line| line.starts_with('c')).count(), 200, "{shown}");
        }
        let shown = render(&status(&json), now(), 80);
        assert!(shown.contains("Connection refused") && shown.contains("a-very-long-host-name"), "{shown}");
        let line = shown.lines().find(|line| line.starts_with("c199")).unwrap();
        assert!(line.ends_with("18.4E") && line.contains("1024"), "{line}");
    }

    #[test]
    fn counts_stay_short() {
        for (number, expected) in [
            (0, "0"),
            (9_999_999, "9999999"),
            (10_000_000, "10.0M"),
            (999_999_999, "999.9M"),
            (1_000_000_000, "1.0G"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(number), expected);
        }
    }

    #[test]
    fn a_configuration_that_does_not_load_is_shown_whole() {
        let long = "x".repeat(100);
        let json = format!(
            r#"{{"daemon":{{"version":"1","config_error":"a:1: b\n{long}\u001b"}},"connections":[]}}"#
        );
        let shown = render(&status(&json), now(), 40);
        assert!(
            shown.contains("\n  a:1: b\n") && shown.contains(&format!("\n  {long}\\u001b\n\n")),
            "{shown}"
        );
    }

    #[test]
    fn the_newer_of_both_troubles_is_shown() {
        let trouble = |error: &str, disconnect: &str| {
            let json = format!(
                r#"{{"name":"a","state":"reconnecting","connected":false,"active":true,"next_attempt_ms":4100,"last_error":{error},"last_disconnect":{disconnect}}}"#
            );
            notes(&serde_json::from_str(&json).unwrap(), 80)
        };
        let error =
            r#"{"message":"websocket error","description":"refused","time":"2026-01-02T02:03:01.000Z"}"#;
        let earlier = r#"{"reason":"transport close","message":"x","time":"2026-01-02T02:03:00.000Z"}"#;
        let later = r#"{"reason":"transport close","message":"gone","time":"2026-01-02T02:03:02.000Z"}"#;
        for (error, disconnect, expected) in [
            (error, "null", ": websocket error: refused"),
            (r#"{"message":""}"#, "null", ": refused without a reason"),
            (error, earlier, ": websocket error: refused"),
            (error, later, ": transport close: gone"),
            ("null", later, ": transport close: gone"),
            ("null", "null", ""),
        ] {
            assert_eq!(trouble(error, disconnect), format!("    again in 5s{expected}\n"));
        }
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
