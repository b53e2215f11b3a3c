//! The task of a Manager against a server that speaks literal packets.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::askers::FORGETTING;
use super::link::Heard;
use super::receiving::{PLAIN, cost};
use super::*;
use crate::engineio::{self, Packet};
use crate::manager::state::tests as state_tests;
use crate::manager::{self, Command, Id, Lifecycle, Returns};
use crate::socketio::{AckError, Args, ArgsView, Emit, EmitError, Loss, Name, NameView, Sent};
use crate::transport::Received;

const OPEN: &str = r#"0{"sid":"S","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;

/// Tells the test what it hears, and breaks at an event called `boom`.
#[derive(Debug)]
struct Ear {
    heard: mpsc::UnboundedSender<String>,
    /// It has no room, and watches what is emitted.
    full: AtomicBool,
    room_changed: Notify,
}

impl Observer for Ear {
    fn event(&self, name: NameView<'_>, _: ArgsView<'_>, ack: Option<u64>) -> bool {
        assert!(name.decoded() != "boom", "a defect that the test made");
        let _ = self.heard.send(format!("{} {ack:?}", name.decoded()));
        !self.full.load(Ordering::Relaxed)
    }

    fn lifecycle(&self, event: &Lifecycle, status: &Status) {
        let what = match event {
            Lifecycle::Disconnect { reason, .. } => reason.as_str(),
            Lifecycle::Connect { id, .. } => id,
            _ => "",
        };
        let _ = self.heard.send(format!("{} {what} {}", event.name(), status.active));
    }

    fn outgoing(&self, name: &Name, _: &Args, _: u64) {
        let _ = self.heard.send(format!("outgoing {}", name.decoded()));
    }

    fn lost(&self, _: &Name, _: Loss) {}

    fn said(&self, _: &str, _: &str) {}

    fn is_watched(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn update(&self, _: &Status, _: Counters) {}

    fn room(&self, now: Instant) -> Room {
        let is_full = self.full.load(Ordering::Relaxed);
        if is_full { Room::Full { until: now + Duration::from_hours(1) } } else { Room::Free }
    }

    fn room_changed(&self) -> &Notify {
        &self.room_changed
    }

    fn publish(&self) {}
}

/// Says that it was forgotten.
#[derive(Clone)]
struct Lost {
    heard: mpsc::UnboundedSender<String>,
    gone: Arc<AtomicBool>,
}

impl Asker for Lost {
    fn taken(&self, _: usize) {}

    fn settled(&self, id: &Id, result: Result<Sent, EmitError>, _: bool) -> bool {
        if let Err(error) = result {
            let _ = self.heard.send(format!("{id:?}: {error}"));
        }
        false
    }

    fn answered(&self, _: &Id, _: Result<ArgsView<'_>, AckError>) -> bool {
        false
    }

    fn forgotten(&self, id: &Id) {
        let _ = self.heard.send(format!("{id:?} forgotten"));
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn publish(&self) {}

    fn room(&self, _: Instant) -> Room {
        Room::Free
    }

    fn room_changed(&self) -> &Notify {
        unreachable!("it has room")
    }
}

fn plain(name: &str) -> Emit {
    Emit { name: Name::new(name), args: Args::default(), ack: None, volatile: false, sender: 1 }
}

/// A Manager's task with one socket, and all around it.
struct World {
    listener: TcpListener,
    commands: queue::Sender,
    heard: mpsc::UnboundedReceiver<String>,
    tell: mpsc::UnboundedSender<String>,
    ear: Arc<Ear>,
    common: Common,
    slept: Arc<Mutex<Duration>>,
    _task: JoinSet<()>,
}

impl World {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = state_tests::settings();
        "127.0.0.1".clone_into(&mut settings.transport.host);
        settings.transport.port = listener.local_addr().unwrap().port();
        settings.backoff.min = Duration::from_millis(1);
        let slept = Arc::new(Mutex::new(Duration::ZERO));
        let source = Arc::clone(&slept);
        let clock = Clock::with(Arc::new(move || (*source.lock().unwrap(), Duration::ZERO)));
        let common = Common { clock, ..Common::default() };
        let (commands, receiver) = queue::channel();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let connector = Connector::new(settings.transport.clone()).unwrap();
        let driver = Driver::new(settings, connector, None, receiver, &common, tasks, stop);
        let mut task = JoinSet::new();
        task.spawn(driver.run());
        let (tell, heard) = mpsc::unbounded_channel();
        let ear = Ear { heard: tell.clone(), full: AtomicBool::new(false), room_changed: Notify::new() };
        let ear = Arc::new(ear);
        let observer = Arc::clone(&ear) as Arc<_>;
        let settings = SocketSettings {
            namespace: "/".into(),
            auth: Auth::None,
            ack_timeout: None,
            retries: 0,
            send_buffer: 1 << 20,
            script: Arc::default(),
            max_attachments: Some(10),
            returns: Returns::default(),
        };
        let world = Self { listener, commands, heard, tell, ear, common, slept, _task: task };
        let settings = Box::new(settings);
        world.command(Command::Add { key: 1, settings, first_ack: 7, session: None, observer });
        world.command(Command::Connect { key: 1, done: Box::new(|()| {}) });
        world
    }

    fn command(&self, command: Command) {
        self.commands.send(command);
    }

    fn emit(&self, asker: Lost, emit: Emit) {
        let ticket = Ticket::new(Arc::new(asker), Id::default());
        self.command(Command::Emit { key: 1, emit, share: 0, ticket });
    }

    /// One that is there.
    fn lost(&self) -> Lost {
        Lost { heard: self.tell.clone(), gone: Arc::default() }
    }

    /// Accepts the Manager's WebSocket and joins its socket.
    async fn join(&mut self, id: &str) -> WebSocketStream<TcpStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut server = tokio_tungstenite::accept_async(stream).await.unwrap();
        server.send(Message::text(OPEN)).await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), Message::text("40"));
        server.send(Message::text(format!(r#"40{{"sid":"{id}"}}"#))).await.unwrap();
        server
    }

    async fn hears(&mut self, expected: &[&str]) {
        for line in expected {
            assert_eq!(self.heard.recv().await.unwrap(), *line);
        }
    }
}

#[tokio::test]
async fn a_panic_costs_the_session_and_nothing_else() {
    let mut world = World::start().await;
    let mut server = world.join("A").await;
    server.send(Message::text(r#"420["q"]"#)).await.unwrap();
    world.hears(&["connect A true", "q Some(7)"]).await;
    world.emit(world.lost(), Emit { ack: Some(None), ..plain("ask") });
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text(r#"420["ask"]"#));
    server.send(Message::text(r#"42["boom"]"#)).await.unwrap();
    world.hears(&["Id(None) forgotten", "disconnect transport error true", "reconnect_attempt  true"]).await;
    let mut server = world.join("B").await;
    server.send(Message::text(r#"420["q"]"#)).await.unwrap();
    world.hears(&["reconnect  true", "connect B true", "q Some(8)"]).await;
    // It breaks again before it was up for long, and once more it comes back.
    server.send(Message::text(r#"42["boom"]"#)).await.unwrap();
    world.hears(&["disconnect transport error true", "reconnect_attempt  true"]).await;
    let _server = world.join("C").await;
    world.hears(&["reconnect  true", "connect C true"]).await;
}

#[tokio::test]
async fn an_emit_whose_turn_comes_after_the_close_is_told_so() {
    let mut world = World::start().await;
    let _server = world.join("A").await;
    world.hears(&["connect A true"]).await;
    let (done, removed) = manager::done();
    world.command(Command::Remove { key: 1, done });
    world.emit(world.lost(), plain("e"));
    removed.await;
    world.emit(world.lost(), plain("e"));
    let refused = "Id(None): the connection was closed; nothing was sent";
    world.hears(&[refused, "disconnect io client disconnect false", refused]).await;
}

#[tokio::test]
async fn what_is_emitted_is_shown_while_events_wait_for_room() {
    let mut world = World::start().await;
    let mut server = world.join("A").await;
    world.hears(&["connect A true"]).await;
    world.ear.full.store(true, Ordering::Relaxed);
    server.send(Message::text(r#"42["late"]"#)).await.unwrap();
    for name in ["x", "y", "z"] {
        world.emit(world.lost(), plain(name));
        assert_eq!(server.next().await.unwrap().unwrap(), Message::text(format!(r#"42["{name}"]"#)));
        world.hears(&[&format!("outgoing {name}")]).await;
    }
    world.ear.full.store(false, Ordering::Relaxed);
    world.ear.room_changed.notify_one();
    world.hears(&["late None"]).await;
}

#[tokio::test]
async fn what_comes_in_one_piece_is_heard_in_order() {
    let mut world = World::start().await;
    let mut server = world.join("A").await;
    for message in [
        Message::text(r#"42["a"]"#),
        Message::text(r#"421["b",1]"#),
        Message::text(r#"42/other,["nobody's"]"#),
        Message::text("2"),
        Message::text(r#"42["c"]"#),
        Message::text(r#"451-["d",{"_placeholder":true,"num":0}]"#),
        Message::binary(b"x".to_vec()),
        Message::text("42[\"e\",\n1]"),
        Message::text(r#"422["f"]"#),
        Message::text("41"),
        Message::text(r#"42["late"]"#),
    ] {
        server.feed(message).await.unwrap();
    }
    server.flush().await.unwrap();
    let events = ["a None", "b Some(7)", "c None", "d None", "e None", "f Some(8)"];
    world.hears(&["connect A true"]).await;
    world.hears(&events).await;
    world.hears(&["disconnect io server disconnect false"]).await;
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("3"));
}

#[tokio::test]
async fn more_events_than_one_turn_takes_are_all_heard() {
    let mut world = World::start().await;
    let mut server = world.join("A").await;
    world.hears(&["connect A true"]).await;
    let count = 3 * BATCH * PLAIN;
    for number in 0..count {
        server.feed(Message::text(format!(r#"42["{number}"]"#))).await.unwrap();
    }
    server.flush().await.unwrap();
    for number in 0..count {
        world.hears(&[&format!("{number} None")]).await;
    }
}

#[tokio::test]
async fn an_attempt_that_is_held_begins_when_it_is_released() {
    let mut world = World::start().await;
    // The task has not had its first turn yet.
    world.common.hold_attempts();
    let (done, connecting) = manager::done();
    world.command(Command::Connect { key: 1, done });
    connecting.await;
    tokio::time::pause();
    let early = tokio::time::timeout(Duration::from_secs(1), world.listener.accept()).await;
    assert!(early.is_err(), "it does not wait");
    tokio::time::resume();
    world.common.release_attempts();
    let _server = world.join("A").await;
    world.hears(&["connect A true"]).await;
}

#[tokio::test]
async fn what_is_kept_for_those_who_left_is_forgotten() {
    let mut world = World::start().await;
    let mut server = world.join("A").await;
    world.hears(&["connect A true"]).await;
    let leaver = world.lost();
    for (asker, name, timeout) in [
        (leaver.clone(), "ask", None),
        (leaver.clone(), "soon", Some(Duration::from_hours(2))),
        (world.lost(), "stays", None),
    ] {
        world.emit(asker, Emit { ack: Some(timeout), ..plain(name) });
        assert!(server.next().await.unwrap().unwrap().to_text().unwrap().contains(name));
    }
    leaver.gone.store(true, Ordering::Relaxed);
    world.common.asker_left();
    *world.slept.lock().unwrap() = FORGETTING;
    world.emit(world.lost(), plain("x"));
    world.hears(&["Id(None) forgotten"; 2]).await;
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text(r#"42["x"]"#));
    // An answer that comes all the same is nobody's.
    server.send(Message::text("430[]")).await.unwrap();
    server.send(Message::text(r#"42["e"]"#)).await.unwrap();
    world.hears(&["e None"]).await;
}

#[tokio::test]
async fn what_those_who_left_had_asked_for_last_is_forgotten_too() {
    let mut world = World::start().await;
    let mut server = world.join("A").await;
    world.hears(&["connect A true"]).await;
    let leaver = world.lost();
    leaver.gone.store(true, Ordering::Relaxed);
    world.common.asker_left();
    *world.slept.lock().unwrap() = FORGETTING;
    // More than one turn takes: some are still on their way when it is looked at first.
    let count = BATCH + 5;
    for _ in 0..count {
        world.emit(leaver.clone(), Emit { ack: Some(None), ..plain("ask") });
    }
    for _ in 0..count {
        server.next().await.unwrap().unwrap();
    }
    *world.slept.lock().unwrap() = 2 * FORGETTING;
    server.send(Message::text(r#"42["e"]"#)).await.unwrap();
    let mut forgotten = 0;
    while world.heard.recv().await.unwrap() != "e None" {
        forgotten += 1;
    }
    while forgotten < count {
        world.hears(&["Id(None) forgotten"]).await;
        forgotten += 1;
    }
}

#[test]
fn what_is_large_takes_much_of_a_turn() {
    let message = |message| Heard::Received(Received::Packet(Packet::Message(message)));
    let large = 1 << 20;
    assert_eq!(cost(&message(engineio::Message::Text("x".into()))), PLAIN);
    assert!(cost(&message(engineio::Message::Text("x".repeat(large).into()))) > BATCH * PLAIN);
    assert!(cost(&message(engineio::Message::Binary(vec![0; large].into()))) > BATCH * PLAIN);
}

/// One of the many that a program without room can be.
struct Full(Arc<Notify>);

impl Asker for Full {
    fn taken(&self, _: usize) {}

    fn settled(&self, _: &Id, _: Result<Sent, EmitError>, _: bool) -> bool {
        false
    }

    fn answered(&self, _: &Id, _: Result<ArgsView<'_>, AckError>) -> bool {
        false
    }

    fn forgotten(&self, _: &Id) {}

    fn is_gone(&self) -> bool {
        false
    }

    fn publish(&self) {}

    fn room(&self, now: Instant) -> Room {
        Room::Full { until: now + Duration::from_hours(1) }
    }

    fn room_changed(&self) -> &Notify {
        &self.0
    }
}

#[tokio::test]
async fn of_the_many_askers_that_a_program_can_be_one_is_looked_at() {
    let settings = state_tests::settings();
    let connector = Connector::new(settings.transport.clone()).unwrap();
    let (_commands, receiver) = queue::channel();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut driver = Driver::new(settings, connector, None, receiver, &Common::default(), tasks, stop);
    let programs = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    for _ in 0..3 {
        for program in [&programs[0], &programs[1], &programs[0]] {
            driver.answered.push(Arc::new(Full(Arc::clone(program))));
        }
        driver.tell_askers();
        assert_eq!(driver.behind.len(), 2);
    }
    assert!(!driver.is_reading());
}

#[tokio::test]
async fn the_gate_gets_back_what_has_left() {
    let (commands, receiver) = queue::channel();
    let gate = receiver.gate();
    let mut in_flight = commands.share(100).await as usize;
    let others = gate.free();
    for (unsent, free) in [(500, 0), (100, 0), (60, 40), (70, 40), (1, 99), (0, 100)] {
        release_gate(&gate, &mut in_flight, unsent);
        assert_eq!(gate.free() - others, free, "{unsent}");
    }
    assert_eq!(in_flight, 0);
}

#[tokio::test]
async fn a_link_is_judged_as_soon_as_the_machine_wakes_up() {
    let mut world = World::start().await;
    let _server = world.join("A").await;
    world.hears(&["connect A true"]).await;
    *world.slept.lock().unwrap() = Duration::from_hours(1);
    world.common.awake.send_replace(());
    world.hears(&["disconnect ping timeout true", "reconnect_attempt  true"]).await;
    let _server = world.join("B").await;
    world.hears(&["reconnect  true", "connect B true"]).await;
    // From now on the hour counts as passed, and the new link has all its time.
    world.common.awake.send_replace(());
    world.command(Command::Disconnect { key: 1, done: Box::new(|()| {}) });
    world.hears(&["disconnect io client disconnect false"]).await;
}
