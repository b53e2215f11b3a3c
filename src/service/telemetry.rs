//! Where log lines go: standard error as text or JSON, or the journal with its fields.
//!
//! Writing a line never waits and never fails the daemon: lines go through a queue of bounded size to a thread of
//! their own, and what the queue cannot take is counted and told of later. What is not seen, or would talk to a
//! terminal, is written out as JSON would escape it.
//!
//! Frames and headers can hold secrets. So `siod::wire` is off, and the libraries that print them are quiet, whatever
//! the level, until a directive names them.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{FormatFields, Writer};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::journal::{self, Journal, Records};
use super::visible::{visible, visible_in_colour};

/// Bytes of lines that may wait for standard error.
const QUEUE_BYTES: usize = 1 << 20;

/// Bytes of one line; the rest is cut off.
const LINE_BYTES: usize = 64 << 10;

/// How long the end of the daemon waits for standard error to take what is left.
const FLUSH: Duration = Duration::from_millis(500);

/// Libraries that print headers, frames or keys below `warn`.
const LOUD: [&str; 7] =
    ["cookie_store", "hyper", "hyper_util", "rustls", "tokio_tungstenite", "tungstenite", "want"];

/// What is silent until a directive names it: frames, and a library that calls every certificate an error that we
/// report ourselves.
const OFF: [&str; 2] = ["siod::wire", "rustls_platform_verifier"];

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A level or directives of tracing, like `siod=debug,tungstenite=warn`. Default `info`.
    pub level: String,
    /// How lines look. Default [`Format::Auto`].
    pub format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto }
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The journal where standard error leads there, else text.
    Auto,
    /// For people, in colour on a terminal.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal, with fields; while there is none, standard error as text.
    Journald,
}

impl Format {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is none; [`check_level`] finds this earlier.
    #[error("log.level: {0}")]
    Level(String),
    /// The writing thread could not be started, or no socket be made.
    #[error("the log cannot be started: {0}")]
    Thread(io::Error),
    /// Something else in this process has set up its logs.
    #[error("logging is set up already")]
    Taken,
}

/// Whether `level` can be a `log.level`.
pub fn check_level(level: &str) -> Result<(), String> {
    filter(level).map(drop)
}

/// What decides which lines there are; the level can be changed while the log is written.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// Logs what `level` says from now on; nothing changes where it is none.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let filter = filter(level)?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Keeps the log alive. Dropping it waits half a second at the most for lines that are still to be written.
#[derive(Debug)]
pub struct Telemetry {
    queue: Arc<Queue>,
    level: Level,
}

impl Telemetry {
    /// To change the level with.
    pub fn level(&self) -> Level {
        self.level.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.queue.flush(FLUSH);
    }
}

/// Sends what `tracing` and `log` say from here on where `settings` want it. Once in a process.
pub fn init(settings: &Settings) -> Result<Telemetry, Error> {
    let (filter, handle) = reload::Layer::new(filter(&settings.level).map_err(Error::Level)?);
    let level = Level(handle);
    let to_journal = match settings.format {
        Format::Journald => true,
        Format::Auto => stderr_is_the_journal(),
        Format::Text | Format::Json => false,
    };
    let queue = if to_journal {
        let records = Records::new(Path::new(journal::SOCKET), io::stderr()).map_err(Error::Thread)?;
        let queue = Queue::start(records, Look::Journal).map_err(Error::Thread)?;
        let journal = Journal::new(Arc::clone(&queue)).with_filter(filter);
        tracing_subscriber::registry().with(journal).try_init().map_err(|_| Error::Taken)?;
        queue
    } else {
        let colour =
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let look = match settings.format {
            Format::Json => Look::Json,
            Format::Auto | Format::Text | Format::Journald if colour => Look::Colour,
            Format::Auto | Format::Text | Format::Journald => Look::Text,
        };
        let queue = Queue::start(io::stderr(), look).map_err(Error::Thread)?;
        subscriber(filter, look, Arc::clone(&queue)).try_init().map_err(|_| Error::Taken)?;
        queue
    };
    std::panic::set_hook(Box::new(log_panic));
    Ok(Telemetry { queue, level })
}

/// A panic is a line like any other: it neither breaks the log's form nor waits for who reads it. Words that were put
/// together quote what the program worked on, so only those of the source are shown.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    let words = panic.payload().downcast_ref::<&'static str>().copied();
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    error!(target: "siod", place, words, thread = thread.name(), trace, "panic, which is a defect of siod");
}

fn subscriber(
    filter: reload::Layer<EnvFilter, Registry>,
    look: Look,
    queue: Arc<Queue>,
) -> impl Subscriber + Send + Sync {
    let lines = tracing_subscriber::fmt::layer::<Registry>()
        .with_writer(Lines(queue))
        .with_ansi(look == Look::Colour)
        // Printing that printing failed would panic on the same full disk.
        .log_internal_errors(false);
    let lines = match look {
        Look::Json => lines.json().flatten_event(true).boxed(),
        Look::Colour => lines.fmt_fields(Coloured).boxed(),
        Look::Text | Look::Journal => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter))
}

/// Prints fields for a terminal. What was there before is made visible, so that of all colours only ours stay.
struct Coloured;

impl<'a> FormatFields<'a> for Coloured {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut printed = ColouredFields { writer, is_first: true, result: Ok(()) };
        fields.record(&mut printed);
        printed.result
    }
}

struct ColouredFields<'a> {
    writer: Writer<'a>,
    is_first: bool,
    result: fmt::Result,
}

impl Visit for ColouredFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // What the log crate's records are told apart by.
        if field.name().starts_with("log.") {
            return;
        }
        let space = if std::mem::replace(&mut self.is_first, false) { "" } else { " " };
        let value = format!("{value:?}").replace('\n', " ");
        let value = visible(&value);
        let written = match field.name() {
            "message" => write!(self.writer, "{space}{value}"),
            name => write!(self.writer, "{space}\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
        };
        self.result = self.result.and(written);
    }
}

/// What lines look like that wait to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Text,
    Colour,
    Json,
    Journal,
}

impl Look {
    /// What was printed, made one line that nothing in it can leave.
    fn line(self, printed: &[u8]) -> String {
        let text = String::from_utf8_lossy(printed);
        let text = text.trim_end_matches('\n');
        let cut = &text[..text.floor_char_boundary(LINE_BYTES)];
        let shown = match self {
            Self::Colour => visible_in_colour(&cut.replace('\n', " ")),
            Self::Text => visible(&cut.replace('\n', " ")).into_owned(),
            // Half an object would be none.
            Self::Json if cut.len() < text.len() => {
                let cut = serde_json::Value::from(cut).to_string();
                let message = "a line was too long; its beginning is in cut";
                format!(r#"{{"level":"WARN","message":"{message}","cut":{},"target":"siod"}}"#, visible(&cut))
            }
            Self::Json | Self::Journal => visible(text).into_owned(),
        };
        shown + "\n"
    }

    /// Says that lines were dropped.
    fn dropped(self, lines: u64) -> Vec<u8> {
        let text = "log lines dropped, because nobody took them in time";
        match self {
            Self::Json => format!(
                "{{\"level\":\"WARN\",\"message\":\"{text}\",\"dropped\":{lines},\"target\":\"siod\"}}\n"
            )
            .into_bytes(),
            Self::Text | Self::Colour => format!("WARN siod: {text} dropped={lines}\n").into_bytes(),
            Self::Journal => journal::dropped(text, lines),
        }
    }
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    let refused = |what: &str| {
        format!(
            "found {what:?}, expected a level (off, error, warn, info, debug, trace) or directives like \"siod=debug,tungstenite=warn\""
        )
    };
    let (mut overall, mut directives) = (None, Vec::new());
    for directive in level.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        // A bare word that is no level would be taken for a target and switch everything else off.
        if !directive.contains(['=', '[', ':']) {
            overall = Some(directive.parse::<LevelFilter>().map_err(|_| refused(directive))?);
        }
        directives.push(
            directive.parse::<tracing_subscriber::filter::Directive>().map_err(|_| refused(directive))?,
        );
    }
    if directives.is_empty() {
        return Err(refused(level));
    }
    let quiet = overall.map_or(LevelFilter::WARN, |overall| overall.min(LevelFilter::WARN));
    let caps = LOUD
        .iter()
        .map(|target| format!("{target}={quiet}"))
        .chain(OFF.iter().map(|target| format!("{target}=off")));
    let caps = caps.filter_map(|cap| cap.parse().ok());
    // Of two directives for one target the later counts.
    Ok(caps.chain(directives).fold(EnvFilter::default(), EnvFilter::add_directive))
}

/// Whether standard error leads to the journal: systemd says which device and inode the journal's stream is.
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    rustix::fs::fstat(io::stderr()).is_ok_and(|stat| format!("{}:{}", stat.st_dev, stat.st_ino) == stream)
}

/// Lines on their way to a writer that may be slow, full or gone.
#[derive(Debug)]
pub(super) struct Queue {
    look: Look,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    /// A line has been taken out and is being written.
    writing: bool,
}

impl Queue {
    pub(super) fn start(mut to: impl Write + Send + 'static, look: Look) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self { look, state: Mutex::default(), changed: Condvar::new() });
        let source = Arc::clone(&queue);
        let run = move || {
            let mut lost = 0;
            let mut torn = false;
            loop {
                let (line, dropped) = source.next();
                lost += dropped;
                // One that cannot be written has nowhere left to be complained about but behind the next that can.
                if !write(&mut to, &line, &mut torn) {
                    lost += 1;
                } else if lost > 0 && write(&mut to, &look.dropped(lost), &mut torn) {
                    lost = 0;
                }
                let _ = to.flush();
            }
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(run)?;
        Ok(queue)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, line: Vec<u8>) {
        let mut state = self.state();
        if state.bytes + line.len() > QUEUE_BYTES {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        self.changed.notify_all();
    }

    /// Waits for a line; also gives how many were dropped since the last time.
    fn next(&self) -> (Vec<u8>, u64) {
        let mut state = self.state();
        state.writing = false;
        self.changed.notify_all();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writing = true;
                return (line, std::mem::take(&mut state.dropped));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything is written, or until `limit` is over; says which.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.state();
        while state.writing || !state.lines.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Writes a line, after the end of the one before if that was torn; says whether it was taken as a whole.
fn write(to: &mut impl Write, line: &[u8], torn: &mut bool) -> bool {
    if *torn && to.write_all(b"\n").is_err() {
        return false;
    }
    *torn = false;
    let mut left = line;
    while !left.is_empty() {
        match to.write(left) {
            Ok(written @ 1..) => left = &left[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => {
                *torn = left.len() < line.len();
                return false;
            }
        }
    }
    true
}

struct Lines(Arc<Queue>);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: &self.0, bytes: Vec::new() }
    }
}

/// One event being printed; on its way when dropped.
struct Line<'a> {
    queue: &'a Queue,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A byte more, so that it shows that something is missing.
        let room = (LINE_BYTES + 1).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.queue.push(self.queue.look.line(&self.bytes).into_bytes());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc;

    use tracing::{debug, info, trace, warn};

    use super::*;

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    pub(in crate::service) struct Sink(pub(in crate::service) Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, look: Look, say: impl FnOnce()) -> String {
        let sink = Sink::default();
        let queue = Queue::start(sink.clone(), look).unwrap();
        let (filter, _) = reload::Layer::new(filter(level).unwrap());
        let subscriber = subscriber(filter, look, Arc::clone(&queue));
        tracing::subscriber::with_default(subscriber, say);
        assert!(queue.flush(Duration::from_secs(10)));
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn levels() {
        for level in [
            "off",
            "info",
            "TRACE",
            "siod=debug",
            "warn,siod::wire=trace",
            "info, hyper=debug",
            "[span]=info",
        ] {
            assert_eq!(check_level(level), Ok(()), "{level}");
        }
        for level in ["", " , ", "loud", "siod=loud", "info,siod", "siod=debug=x"] {
            let message = check_level(level).expect_err(level);
            assert!(message.contains("expected a level"), "{message}");
        }
    }

    #[test]
    fn secrets_stay_off_until_named() {
        let say = || {
            trace!(target: "siod::wire", "frame");
            trace!(target: "tungstenite::protocol", "frame");
            debug!(target: "hyper::proto", "header");
            warn!(target: "rustls", "warning");
            debug!(target: "siod", "decision");
        };
        let lines = logged("trace", Look::Text, say);
        assert!(lines.contains("warning") && lines.contains("decision"), "{lines}");
        assert!(!lines.contains("frame") && !lines.contains("header"), "{lines}");
        assert!(!logged("siod=trace", Look::Text, say).contains("frame"));
        assert!(!logged("error", Look::Text, say).contains("warning"));
        assert_eq!(
            logged("info,siod::wire=trace,tungstenite=trace", Look::Text, say).matches("frame").count(),
            2
        );
    }

    #[test]
    fn the_level_can_be_changed() {
        let sink = Sink::default();
        let queue = Queue::start(sink.clone(), Look::Text).unwrap();
        let (filter, handle) = reload::Layer::new(filter("info").unwrap());
        let level = Level(handle);
        let say = |text: &str| debug!(target: "siod", "{text}");
        tracing::subscriber::with_default(subscriber(filter, Look::Text, Arc::clone(&queue)), || {
            say("before");
            level.set("siod=debug").unwrap();
            say("between");
            level.set("loud").unwrap_err();
            say("still");
            level.set("warn").unwrap();
            say("after");
        });
        assert!(queue.flush(Duration::from_secs(10)));
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let said = ["before", "between", "still", "after"].map(|word| text.contains(word));
        assert_eq!(said, [false, true, true, false], "{text}");
    }

    #[test]
    fn one_event_is_one_line() {
        let text = logged("info", Look::Text, || info!(field = "c\x1b[31md\ne", "a\nb"));
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(text.contains("a b") && !text.contains('\x1b'), "{text:?}");
        let json = logged("info", Look::Json, || info!(number = 7, "a\nb"));
        let line: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&line["message"], &line["number"], &line["level"]),
            (&"a\nb".into(), &7.into(), &"INFO".into())
        );
    }

    #[test]
    fn nothing_from_elsewhere_talks_to_the_terminal() {
        let foreign = "a\x1b[8m\x1b[2J\x1b]0;t\x07\u{9b}31m\u{202e}b\u{2066}\u{2028}\r\u{8}";
        let say = || {
            let span = tracing::info_span!("consumer", client = foreign, shown = %foreign);
            let _entered = span.enter();
            info!(event = foreign, error = %foreign, "said {foreign}");
        };
        for look in [Look::Text, Look::Colour, Look::Json] {
            let text = logged("info", look, say);
            let line = text.strip_suffix('\n').unwrap();
            let colourless = anstream::adapter::strip_str(line).to_string();
            assert!(look == Look::Colour || colourless == line, "{look:?}: {line:?}");
            assert!(!colourless.contains(crate::service::visible::is_hidden), "{look:?}: {line:?}");
            for code in ["\x1b[2J", "\x1b]", "\x1b[8m"] {
                assert!(!line.contains(code), "{look:?}: {line:?}");
            }
        }
        let json: serde_json::Value = serde_json::from_str(&logged("info", Look::Json, say)).unwrap();
        assert_eq!(json["event"], foreign, "JSON says it all the same");
    }

    #[test]
    fn json_that_is_cut_is_json() {
        let text = logged("info", Look::Json, || info!("{}", "\u{202e}\"é".repeat(LINE_BYTES)));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(line["cut"].as_str().unwrap().contains("\"message\":\"\u{202e}"), "{}", &text[..300]);
    }

    #[test]
    fn long_lines_are_cut() {
        let text = logged("info", Look::Text, || info!("{}", "x".repeat(2 * LINE_BYTES)));
        assert_eq!(text.len(), LINE_BYTES + 1);
    }

    /// Takes its first line only when told to.
    struct Stalled(mpsc::Receiver<()>, Sink);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_holds_nobody_up() {
        let (release, stall) = mpsc::channel();
        let sink = Sink::default();
        let queue = Queue::start(Stalled(stall, sink.clone()), Look::Text).unwrap();
        let line = vec![b'x'; 1 << 16];
        let pushed = 3 * QUEUE_BYTES / line.len();
        for _ in 0..pushed {
            queue.push(line.clone());
        }
        assert!(queue.state().bytes <= QUEUE_BYTES);
        assert!(!queue.flush(Duration::from_millis(1)));
        drop(release);
        assert!(queue.flush(Duration::from_secs(10)));
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let arrived = written.matches('x').count() / line.len();
        let told: usize = written
            .split("dropped=")
            .skip(1)
            .filter_map(|rest| rest.lines().next()?.parse::<usize>().ok())
            .sum();
        assert_eq!(arrived + told, pushed);
        assert!(told >= 2 * QUEUE_BYTES / line.len() - 1, "{told}");
    }

    /// A disk that has no room, until it has.
    struct Full {
        room: mpsc::Receiver<usize>,
        sink: Sink,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.room.recv().unwrap_or(usize::MAX).min(bytes.len()) {
                0 => Err(io::ErrorKind::StorageFull.into()),
                room => self.sink.write(&bytes[..room]),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_torn_breaks_no_other_and_is_counted() {
        let (has, room) = mpsc::channel();
        let sink = Sink::default();
        let queue = Queue::start(Full { room, sink: sink.clone() }, Look::Text).unwrap();
        // The first line finds room for a part of it, the second for nothing, not even the end of the first.
        for room in [4, 0, 0] {
            has.send(room).unwrap();
        }
        drop(has);
        for line in ["first\n", "second\n", "third\n", "fourth\n"] {
            queue.push(line.as_bytes().to_vec());
        }
        assert!(queue.flush(Duration::from_secs(10)));
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let told = "WARN siod: log lines dropped, because nobody took them in time dropped=2";
        assert_eq!(written.lines().collect::<Vec<_>>(), ["firs", "third", told, "fourth"]);
    }

    #[test]
    fn a_broken_reader_is_no_error() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let queue = Queue::start(Broken, Look::Text).unwrap();
        queue.push(b"one\n".to_vec());
        queue.push(b"two\n".to_vec());
        assert!(queue.flush(Duration::from_secs(10)));
    }
}
