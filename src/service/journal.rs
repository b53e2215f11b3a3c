//! Lines for the journal, in its own protocol: a datagram of fields for each.
//!
//! Sending waits while the journal does not read, so it is done by the log's thread; a record that the journal does not
//! take, as it is not there or starts again, goes to standard error as text.

use std::fmt::{Debug, Write as _};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::telemetry::Queue;
use super::visible::visible;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Bytes of one field's value; a record with several of that length still fits into a datagram.
const VALUE_BYTES: usize = 16 << 10;

/// Makes records of events, and puts them into the log's queue.
pub(super) struct Journal {
    queue: Arc<Queue>,
}

impl Journal {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }
}

/// The fields of a span, kept with it.
struct OfSpan(Fields);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(OfSpan(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(OfSpan(fields)) = span.extensions_mut().get_mut()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        // An event's own word counts where a span around it has one of the same name.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(OfSpan(of_span)) = span.extensions().get() {
                fields.add(of_span);
            }
        }
        self.queue.push(fields.record(*metadata.level(), metadata.target()));
    }
}

/// What an event says: its message, and its fields as text.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

#[derive(Clone)]
struct Value {
    text: String,
    quoted: bool,
}

impl Fields {
    fn put(&mut self, field: &Field, text: String, quoted: bool) {
        match field.name() {
            "message" => self.message = text,
            // What the log crate's records are told apart by.
            name if name.starts_with("log.") => {}
            name => {
                self.others.retain(|(known, _)| *known != name);
                self.others.push((name, Value { text, quoted }));
            }
        }
    }

    fn add(&mut self, others: &Self) {
        for (name, value) in &others.others {
            if !self.others.iter().any(|(known, _)| known == name) {
                self.others.push((name, value.clone()));
            }
        }
    }

    /// `MESSAGE` has all of it, for `journalctl` shows nothing else; each field stands by itself as well, to look for.
    fn record(&self, level: Level, target: &str) -> Vec<u8> {
        let mut message = cut(&self.message, VALUE_BYTES).to_owned();
        for (name, Value { text, quoted }) in &self.others {
            // Writing to a String cannot fail.
            let _ = match (quoted, cut(text, VALUE_BYTES)) {
                (true, text) => write!(message, " {name}={text:?}"),
                (false, text) => write!(message, " {name}={text}"),
            };
        }
        let mut record = Vec::with_capacity(message.len() + 256);
        // First, so that it can be told from the rest when it has to go elsewhere.
        field(&mut record, "MESSAGE", &message, 4 * VALUE_BYTES);
        let facts = [("PRIORITY", priority(level)), ("SYSLOG_IDENTIFIER", "siod"), ("TARGET", target)];
        for (name, value) in facts {
            field(&mut record, name, value, VALUE_BYTES);
        }
        for (name, value) in &self.others {
            field(&mut record, &journal_name(name), &value.text, VALUE_BYTES);
        }
        record
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned(), true);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}"), false);
    }
}

/// The number of syslog.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// Capital letters, digits and underscores, a letter first.
fn journal_name(name: &str) -> String {
    let letter = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_uppercase() } else { '_' };
    let name: String = name.chars().map(letter).collect();
    name.trim_start_matches(|it: char| !it.is_ascii_uppercase()).to_owned()
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// No value has a line break once it is visible, so the simple form of a field does.
fn field(record: &mut Vec<u8>, name: &str, value: &str, most: usize) {
    record.extend_from_slice(name.as_bytes());
    record.push(b'=');
    record.extend_from_slice(cut(&visible(cut(value, most)), most).as_bytes());
    record.push(b'\n');
}

/// The journal's socket as something to write records to, one at a time.
pub(super) struct Records<W> {
    socket: UnixDatagram,
    path: PathBuf,
    /// Where a record's message goes that the journal does not take.
    otherwise: W,
}

impl<W: Write> Records<W> {
    pub(super) fn new(path: &Path, otherwise: W) -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::unbound()?, path: path.to_owned(), otherwise })
    }
}

impl<W: Write> Write for Records<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        // The path is looked up each time: a journal that was started again has a new socket there.
        if self.socket.send_to(record, &self.path).is_err() {
            let message = record.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            self.otherwise.write_all(message.strip_prefix(b"MESSAGE=").unwrap_or(message))?;
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.otherwise.flush()
    }
}

/// The record that says how much was dropped.
pub(super) fn dropped(text: &str, lines: u64) -> Vec<u8> {
    let fields = [
        ("MESSAGE", format!("{text} dropped={lines}")),
        ("PRIORITY", priority(Level::WARN).to_owned()),
        ("SYSLOG_IDENTIFIER", "siod".to_owned()),
        ("TARGET", "siod".to_owned()),
        ("DROPPED", lines.to_string()),
    ];
    let mut record = Vec::new();
    for (name, value) in fields {
        field(&mut record, name, &value, VALUE_BYTES);
    }
    record
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing::{error_span, info, warn};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::telemetry::{Look, tests::Sink};
    use super::*;

    fn say(queue: &Arc<Queue>, say: impl FnOnce()) {
        let subscriber = tracing_subscriber::registry().with(Journal::new(Arc::clone(queue)));
        tracing::subscriber::with_default(subscriber, say);
    }

    #[test]
    fn a_record_has_its_fields_and_those_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let queue = Queue::start(Records::new(&path, Sink::default()).unwrap(), Look::Journal).unwrap();
        say(&queue, || {
            let span = error_span!("consumer", consumer = "c1", uid = 1000, pid = Some(77));
            let _entered = span.enter();
            warn!(uid = 5, connection = "a\nb\u{202e}", hint = None::<&str>, "two\nlines\x1b[31m");
        });
        let mut record = [0; 4096];
        let length = journal.recv(&mut record).unwrap();
        let record = std::str::from_utf8(&record[..length]).unwrap();
        let expected = [
            r#"MESSAGE=two\u000alines\u001b[31m uid=5 connection="a\nb\u{202e}" consumer="c1" pid=77"#,
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=siod",
            "TARGET=siod::service::journal::tests",
            "UID=5",
            r"CONNECTION=a\u000ab\u202e",
            "CONSUMER=c1",
            "PID=77",
        ];
        assert_eq!(record.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn without_a_journal_the_message_goes_elsewhere_until_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, sink) = (folder.path().join("journal"), Sink::default());
        let queue = Queue::start(Records::new(&path, sink.clone()).unwrap(), Look::Journal).unwrap();
        say(&queue, || info!(connection = "chat", "connected"));
        assert!(queue.flush(Duration::from_secs(10)));
        assert_eq!(sink.0.lock().unwrap().as_slice(), b"connected connection=\"chat\"\n");
        let journal = UnixDatagram::bind(&path).unwrap();
        say(&queue, || info!("ready"));
        let mut record = [0; 4096];
        let length = journal.recv(&mut record).unwrap();
        assert!(record[..length].starts_with(b"MESSAGE=ready\nPRIORITY=6\n"));
    }

    #[test]
    fn a_journal_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let queue = Queue::start(Records::new(&path, Sink::default()).unwrap(), Look::Journal).unwrap();
        // More than the socket takes and the queue keeps.
        let text = "x".repeat(VALUE_BYTES - 100);
        let said = 2000;
        say(&queue, || (0..said).for_each(|_| info!("{text}")));
        assert!(!queue.flush(Duration::from_millis(1)), "the rest waits for the journal");
        // Once it reads again everything arrives that was kept, and how much was not.
        let (mut arrived, mut dropped, mut record) = (0, 0, vec![0; 1 << 17]);
        while arrived + dropped < said {
            let length = journal.recv(&mut record).unwrap();
            let record = std::str::from_utf8(&record[..length]).unwrap();
            match record.lines().find_map(|line| line.strip_prefix("DROPPED=")) {
                Some(lines) => dropped += lines.parse::<usize>().unwrap(),
                None => arrived += 1,
            }
        }
        assert_eq!(arrived + dropped, said);
        assert!(dropped > 0, "all {arrived} fit");
    }

    #[test]
    fn names_of_fields() {
        for (name, expected) in
            [("uid", "UID"), ("log.target", "LOG_TARGET"), ("_x1", "X1"), ("rss-max", "RSS_MAX")]
        {
            assert_eq!(journal_name(name), expected);
        }
    }

    #[test]
    fn the_longest_record_fits_into_a_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let sink = Sink::default();
        let queue = Queue::start(Records::new(&path, sink.clone()).unwrap(), Look::Journal).unwrap();
        let long = "é".repeat(1 << 20);
        say(&queue, || warn!(connection = long, error = long, description = long, "{long}"));
        let mut record = vec![0; 1 << 20];
        let length = journal.recv(&mut record).unwrap();
        let record = std::str::from_utf8(&record[..length]).unwrap();
        assert_eq!(record.lines().count(), 7);
        assert!(sink.0.lock().unwrap().is_empty());
    }
}
