//! Tests: how much is logged of what does not stop, counted by a clock that does not run by itself.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::{Channel, Hub, Settings, log};
use crate::engineio::{Details, TransportKind};
use crate::manager::{ConnectionState, Lifecycle, Observer, Source, Status};
use crate::socketio::DisconnectReason;

/// The lines that the default level shows, each with the minute it came in.
#[derive(Clone)]
struct Lines {
    start: tokio::time::Instant,
    lines: Arc<Mutex<Vec<(u64, String)>>>,
}

impl Lines {
    fn new() -> Self {
        Self { start: tokio::time::Instant::now(), lines: Arc::default() }
    }

    fn take(&self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                let _ = write!(self.0, " {}={value:?}", field.name());
            }
        }
        if *event.metadata().level() <= Level::INFO {
            let mut text = Text(String::new());
            event.record(&mut text);
            self.lines.lock().unwrap().push((self.start.elapsed().as_secs() / 60, text.0));
        }
    }
}

/// A hub that keeps its log, and a connection of it that a test plays the Manager of.
fn flooded() -> (Arc<Hub>, Arc<Channel>, TaskTracker, CancellationToken) {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let settings = Settings { stall: Duration::from_secs(1), max_consumers: 10 };
    let hub = Arc::new(Hub::new(settings, tasks.clone(), stop.clone()));
    let history = log::Settings { events: 10, bytes: 1024 * 1024 };
    let left_out = Arc::clone(&hub.left_out);
    let channel = Channel::new("chat", "stream".into(), history, Duration::from_secs(1), left_out);
    let channel = Arc::new(channel);
    hub.lock().channels.insert("chat".to_owned(), Arc::clone(&channel));
    tasks.spawn(Arc::clone(&hub).keep_log(stop.clone()));
    (hub, channel, tasks, stop)
}

fn connect() -> Lifecycle {
    Lifecycle::Connect { id: "id".into(), recovered: false, transport: TransportKind::WebSocket }
}

fn lost() -> Lifecycle {
    Lifecycle::Disconnect { reason: DisconnectReason::ParseError, details: None }
}

fn refused(words: &str) -> Lifecycle {
    let details = Details { description: Some(words.to_owned()), ..Details::new("websocket error") };
    Lifecycle::ConnectError { details, data: None, source: Source::Transport }
}

fn reconnecting() -> Status {
    Status { state: ConnectionState::Reconnecting, active: true, ..Status::default() }
}

/// No more than so many lines in any minute.
fn most_in_a_minute(lines: &[(u64, String)]) -> usize {
    let minutes = lines.iter().map(|(minute, _)| *minute);
    minutes.clone().map(|one| minutes.clone().filter(|other| *other == one).count()).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_drops_at_once() {
    let lines = Lines::new();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
    let (hub, channel, ..) = flooded();
    let rounds = 4 * 3600;
    for _ in 0..rounds {
        channel.lifecycle(&connect(), &Status { state: ConnectionState::Connected, ..reconnecting() });
        channel.lifecycle(&lost(), &reconnecting());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    hub.finish_log();
    let lines = lines.take();
    assert!(most_in_a_minute(&lines) <= 11, "{lines:?}");
    assert!(lines.len() < 10 + 40, "{lines:?}");
    let told = lines.iter().filter_map(|(_, line)| line.split("left_out=").nth(1)?.split(' ').next());
    let told: u64 = told.map(|count| count.parse::<u64>().unwrap()).sum();
    let full = lines.iter().filter(|(_, line)| !line.contains("left_out")).count() as u64;
    assert_eq!(told + full, 2 * rounds, "every one is logged or counted");
    let sum = lines.iter().find(|(_, line)| line.contains("left_out")).unwrap();
    assert!(sum.1.contains(r#"what="connected (61), disconnected (61)""#), "{sum:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_for_a_day_and_comes_back() {
    let lines = Lines::new();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
    let (_hub, channel, ..) = flooded();
    let attempts = 24 * 720;
    channel.lifecycle(&lost(), &reconnecting());
    for _ in 0..attempts {
        channel.lifecycle(&refused("connection refused"), &reconnecting());
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let during = lines.take();
    assert!(during.len() < 40, "{during:?}");
    assert!(during[0].1.contains("disconnected") && during[1].1.contains("connection refused"), "{during:?}");
    assert_eq!(during.iter().filter(|(_, line)| line.contains("connection refused")).count(), 1);
    channel.lifecycle(&connect(), &Status { state: ConnectionState::Connected, ..reconnecting() });
    // Long enough for every sum that might still be due.
    tokio::time::sleep(Duration::from_hours(2)).await;
    let [(_, back)] = lines.take().try_into().expect("one line");
    assert!(back.contains("connected, after attempts that failed"), "{back}");
    assert!(back.contains(&format!("failed={attempts}")), "{back}");
}

#[tokio::test(start_paused = true)]
async fn failures_that_are_never_the_same() {
    let lines = Lines::new();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
    let (_hub, channel, ..) = flooded();
    for number in 0..100_000 {
        channel.lifecycle(&refused(&number.to_string()), &reconnecting());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let lines = lines.take();
    assert!(most_in_a_minute(&lines) <= 11, "{lines:?}");
    assert_eq!(lines.len(), 11, "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn what_users_and_commands_do_for_ever() {
    let lines = Lines::new();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
    let (hub, channel, ..) = flooded();
    let mut complained = 0;
    for _ in 0..100_000 {
        complained += usize::from(hub.takes_complaint(Some(1000), "a line was no request"));
        channel.said("/bin/token", "a word");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(complained, 10);
    tokio::time::sleep(Duration::from_hours(2)).await;
    let (commands, users): (Vec<_>, Vec<_>) =
        lines.take().into_iter().partition(|(_, line)| line.contains("chat"));
    // What is logged of complaints is their sums only: who makes one writes its line.
    assert_eq!((commands.len(), users.len()), (40 + 2, 2), "{commands:?} {users:?}");
    assert!(users[0].1.contains("uid=1000") && users[0].1.contains("a line was no request ("), "{users:?}");
}

/// How often whoever keeps the log, who looks at every connection then, is woken.
#[tokio::test(start_paused = true)]
async fn only_the_first_that_is_left_out_wakes_whoever_keeps_the_log() {
    let (hub, channel, tasks, stop) = flooded();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let woken = || hub.left_out.notified().now_or_never().is_some();
    let say: [(usize, &dyn Fn()); 2] = [
        (10, &|| {
            hub.takes_complaint(Some(1000), "refused");
        }),
        (40, &|| channel.said("/bin/token", "a word")),
    ];
    for (full, say) in say {
        (0..full).for_each(|_| say());
        assert!(!woken());
        say();
        assert!(woken());
        (0..1000).for_each(|_| say());
        assert!(!woken());
        // A sum is written, and one more is to come, at a time that was said.
        tokio::time::sleep(Duration::from_mins(1)).await;
        say();
        assert!(hub.sum_up(false).is_some());
        say();
        assert!(!woken());
    }
}
