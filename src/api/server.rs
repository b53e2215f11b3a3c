//! The accept loop.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, info, warn};

use super::dispatch::{Context, lock};
use super::peer;
use super::reload::Reloader;
use crate::hub::notice::Time;
use crate::hub::{Consumer, Goodbye, Hub, Identity, Lag, Rights, Rules, Verdict, accounts};

/// How long accepting rests when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Descriptors that are not for programs but for what serves them: the system's list of groups, what is said to
/// servers, the state. Of few descriptors it is a quarter of them.
const RESERVE: u64 = 16;

/// Programs that may wait to have their groups looked up.
const UNDECIDED: usize = 1024;

/// Look-ups of groups at once. They share threads with others, who must not starve when the system's answer hangs.
const LOOKUPS: usize = 4;

/// How long a look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it waits for its turn at the most: others that hang give theirs back when the system answers, maybe never.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks the accept loop for a sign of life.
#[derive(Clone, Debug)]
pub struct Pulse(mpsc::Sender<oneshot::Sender<()>>);

/// What the accept loop answers to.
#[derive(Debug)]
pub struct Pulses(mpsc::Receiver<oneshot::Sender<()>>);

impl Pulse {
    /// Both ends.
    pub fn new() -> (Self, Pulses) {
        let (ask, asked) = mpsc::channel(1);
        (Self(ask), Pulses(asked))
    }

    /// Waits until the loop comes by; false when it has ended.
    pub async fn beats(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.is_ok() && answered.await.is_ok()
    }
}

/// What consumers are served with.
#[derive(Clone, Debug)]
pub struct Server {
    context: Arc<Context>,
    /// Places for programs whose groups are being looked up.
    undecided: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
}

impl Server {
    /// `reloader` is asked by the method `reload`; consumers' tasks go to `tasks`.
    pub fn new(hub: Arc<Hub>, settings: super::Settings, reloader: Reloader, tasks: TaskTracker) -> Self {
        let (settings, config_error) = (Mutex::new(Arc::new(settings)), Mutex::default());
        let (started, started_at) = (Instant::now(), Time::now());
        let context = Context { hub, settings, config_error, reloader, started, started_at, tasks };
        let (undecided, lookups) = (Arc::new(Semaphore::new(UNDECIDED)), Arc::new(Semaphore::new(LOOKUPS)));
        Self { context: Arc::new(context), undecided, lookups }
    }

    /// Serves with other settings from now on, and settles anew what those may do who are attached; after `stop` nobody's
    /// groups are waited for.
    pub async fn set_settings(&self, settings: super::Settings, stop: &CancellationToken) {
        let settings = Arc::new(settings);
        let before = std::mem::replace(&mut *lock(&self.context.settings), Arc::clone(&settings));
        if before.rules != settings.rules {
            tokio::select! {
                biased;
                () = self.settle_rights(&settings.rules) => {}
                // Whoever is undecided still is about to be told to go in any case.
                () = stop.cancelled() => {}
            }
        }
    }

    /// Where the system's database answers, this takes as long as it takes; where it does not, twice the time of one look-up.
    async fn settle_rights(&self, rules: &Rules) {
        let mut undecided: HashMap<u32, Vec<Arc<Consumer>>> = HashMap::new();
        for consumer in self.context.hub.consumers() {
            let Identity { uid, gid, .. } = *consumer.identity();
            match rules.judge(uid, gid, None) {
                Verdict::NeedsGroups => undecided.entry(uid).or_default().push(consumer),
                verdict => self.grant(&consumer, verdict),
            }
        }
        // Nobody's rights wait for somebody else's groups.
        let mut looking: FuturesUnordered<_> =
            undecided.keys().map(async |uid| (*uid, self.groups_of(*uid).await)).collect();
        let mut known = HashSet::new();
        while let Ok(Some((uid, groups))) = tokio::time::timeout(LOOKUP_TIMEOUT, looking.next()).await {
            if let Err(error) = &groups {
                warn!(uid, %error, "its groups could not be looked up");
            }
            for consumer in undecided.get(&uid).into_iter().flatten() {
                let gid = consumer.identity().gid;
                // As where a program attaches: a rule that would keep it out may be among those that cannot be looked at.
                let verdict =
                    groups.as_ref().map_or(Verdict::Refused, |groups| rules.judge(uid, gid, Some(groups)));
                self.grant(consumer, verdict);
            }
            known.insert(uid);
        }
        drop(looking);
        undecided.retain(|uid, _| !known.contains(uid));
        for (uid, consumers) in undecided {
            warn!(uid, "its groups could not be looked up: the system's database does not answer");
            for consumer in consumers {
                self.grant(&consumer, Verdict::Refused);
            }
        }
    }

    fn grant(&self, consumer: &Arc<Consumer>, verdict: Verdict) {
        let Identity { uid, pid, .. } = *consumer.identity();
        if let Verdict::Granted(rights) = verdict {
            if rights != consumer.rights() {
                info!(
                    consumer = consumer.name(),
                    uid,
                    pid,
                    role = rights.role.name(),
                    "other access rules hold"
                );
                self.context.hub.set_rights(consumer, rights);
            }
        } else {
            warn!(consumer = consumer.name(), uid, pid, "let go: the access rules give it no role any more");
            self.context.hub.set_rights(consumer, Rights::none());
            consumer.inbox().say_goodbye(Goodbye::Forbidden);
        }
    }

    /// Why the configuration could not be loaded the last time, for `status`; none when it could.
    pub fn set_config_error(&self, error: Option<String>) {
        *lock(&self.context.config_error) = error;
    }

    /// What [`set_config_error`](Self::set_config_error) was told last.
    pub fn config_error(&self) -> Option<String> {
        lock(&self.context.config_error).clone()
    }

    /// Takes consumers until `stop`, and answers to `pulses` meanwhile.
    pub async fn accept(self, listener: UnixListener, mut pulses: Pulses, stop: CancellationToken) {
        let (mut complained, mut resting) = (false, false);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                Some(answer) = pulses.0.recv() => {
                    // Nobody has to wait for it.
                    let _ = answer.send(());
                    continue;
                }
                () = tokio::time::sleep(ACCEPT_PAUSE), if resting => {
                    resting = !has_room(&listener);
                    continue;
                }
                accepted = listener.accept(), if !resting => accepted,
            };
            let refusal = match accepted {
                Ok((stream, _)) => {
                    let number = stream.as_raw_fd();
                    self.attach(stream, &stop);
                    (!is_for_programs(number)).then(|| Errno::MFILE.into())
                }
                Err(error) => Some(error),
            };
            resting = refusal.is_some();
            match refusal {
                // Those who are attached go on meanwhile, and who comes now waits.
                Some(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        warn!(%error, "no consumer can be accepted for now");
                    }
                }
                None => {
                    if std::mem::take(&mut complained) {
                        info!("consumers are accepted again");
                    }
                }
            }
        }
    }

    /// Lets a program in as far as the rules say. Nothing here waits: where its groups have to be looked up, a task does.
    fn attach(&self, stream: UnixStream, stop: &CancellationToken) {
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => return debug!(%error, "a consumer was gone before it was asked who it is"),
        };
        // Held until the program is among those whose rights are settled anew when the rules change.
        let settings = lock(&self.context.settings);
        match settings.rules.judge(peer.uid, peer.gid, None) {
            Verdict::Granted(rights) => self.admit(stream, peer, rights, settings.lag),
            Verdict::Refused => self.refuse(stream, peer),
            Verdict::NeedsGroups => {
                let Ok(place) = Arc::clone(&self.undecided).try_acquire_owned() else {
                    return self.turn_away(stream, Goodbye::TooManyConsumers);
                };
                let (server, stop) = (self.clone(), stop.clone());
                self.context.tasks.spawn(async move {
                    let _place = place;
                    tokio::select! {
                        () = stop.cancelled() => server.turn_away(stream, Goodbye::Shutdown),
                        groups = server.groups_of(peer.uid) => server.decide(stream, peer, groups),
                    }
                });
            }
        }
    }

    fn decide(&self, stream: UnixStream, peer: Peer, groups: io::Result<Vec<u32>>) {
        let settings = lock(&self.context.settings);
        match groups.map(|groups| settings.rules.judge(peer.uid, peer.gid, Some(&groups))) {
            Ok(Verdict::Granted(rights)) => self.admit(stream, peer, rights, settings.lag),
            Ok(Verdict::Refused | Verdict::NeedsGroups) => self.refuse(stream, peer),
            Err(error) => {
                // A rule that would have kept it out may be among those that cannot be looked at.
                let complaint = "refused: its groups could not be looked up";
                if self.context.hub.takes_complaint(Some(peer.uid), complaint) {
                    warn!(uid = peer.uid, pid = peer.pid, %error, "{complaint}");
                }
                self.turn_away(stream, Goodbye::Forbidden);
            }
        }
    }

    /// The groups of a user, by the system's database.
    async fn groups_of(&self, uid: u32) -> io::Result<Vec<u32>> {
        // Not part of the look-up's own time: with many users the last ones wait for the first, and nothing is wrong.
        let turn = tokio::time::timeout(TURN_TIMEOUT, Arc::clone(&self.lookups).acquire_owned());
        let turn = turn.await?.map_err(io::Error::other)?;
        let groups = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            accounts::groups_of(uid)
        });
        tokio::time::timeout(LOOKUP_TIMEOUT, groups).await?.map_err(io::Error::other)?
    }

    fn admit(&self, stream: UnixStream, peer: Peer, rights: Rights, lag: Lag) {
        let context = &self.context;
        let Peer { pid, uid, gid } = peer;
        let Some(consumer) = context.hub.attach(Identity { pid, uid, gid }, rights, lag) else {
            let goodbye = if context.hub.is_ending() { Goodbye::Shutdown } else { Goodbye::TooManyConsumers };
            return self.turn_away(stream, goodbye);
        };
        // What is logged above this level says itself whom it is about: a span costs every program half a KiB, with an
        // allocation that is never returned and pins a page, and each poll of its task two visits to the registry.
        let span = debug_span!("consumer", consumer = consumer.name(), uid, pid);
        let context = Arc::clone(context);
        let serve = async move {
            debug!("attached");
            let hub = Arc::clone(&context.hub);
            attended(&hub, &consumer, peer::serve(stream, context, Arc::clone(&consumer))).await;
            debug!("gone");
        };
        self.context.tasks.spawn(serve.instrument(span));
    }

    fn refuse(&self, stream: UnixStream, peer: Peer) {
        let complaint = "refused: the access rules give it no role";
        if self.context.hub.takes_complaint(Some(peer.uid), complaint) {
            warn!(uid = peer.uid, pid = peer.pid, "{complaint}");
        }
        self.turn_away(stream, Goodbye::Forbidden);
    }

    fn turn_away(&self, stream: UnixStream, goodbye: Goodbye) {
        self.context.tasks.spawn(peer::turn_away(stream, goodbye));
    }
}

/// Serves a program and lets it go. A panic costs the program its attachment, and the daemon nothing.
async fn attended(hub: &Hub, consumer: &Consumer, serve: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(serve).catch_unwind().await {
        // The log has where it was; its words can quote what was worked on.
        drop(panic);
        consumer.write_no_more();
    }
    hub.detach(consumer).await;
}

/// Whether a program may have the descriptor of this number. The system gives the lowest that is free, so that a high one
/// says that all below are in use.
fn is_for_programs(number: RawFd) -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return true };
    u64::try_from(number).is_ok_and(|number| number < limit - RESERVE.min(limit / 4))
}

/// Whether one more program could have a descriptor.
fn has_room(listener: &UnixListener) -> bool {
    listener.as_fd().try_clone_to_owned().is_ok_and(|next| is_for_programs(next.as_raw_fd()))
}

/// Who is at the other end, by the kernel's word.
#[derive(Clone, Copy, Debug)]
struct Peer {
    pid: Option<i32>,
    uid: u32,
    gid: u32,
}

impl Peer {
    fn of(stream: &UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        Ok(Self { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::options::ConnectionOptions;
    use crate::hub::{Role, Rule};

    fn server() -> Server {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let limits = crate::hub::Settings { stall: Duration::from_secs(1), max_consumers: 10 };
        let hub = Arc::new(Hub::new(limits, tasks.clone(), stop));
        Server::new(hub, settings(Vec::new()), Reloader::new().0, tasks)
    }

    fn settings(rules: Vec<Rule>) -> crate::api::Settings {
        let (lag, defaults, rules) = (Lag::Skip, ConnectionOptions::default(), Rules::new(rules, 900));
        crate::api::Settings { max_line: 1000, lag, defaults, rules }
    }

    #[tokio::test(start_paused = true)]
    async fn to_wait_for_a_turn_takes_no_time_from_a_look_up() {
        let server = server();
        let turns = Arc::clone(&server.lookups);
        let held = turns.acquire_many(4).await.unwrap();
        let later = async {
            tokio::time::sleep(LOOKUP_TIMEOUT * 3).await;
            drop(held);
        };
        let (groups, ()) = tokio::join!(server.groups_of(0), later);
        assert!(groups.unwrap().contains(&0));
        // Four that hang for ever keep nobody for ever.
        let _held = server.lookups.acquire_many(4).await.unwrap();
        assert_eq!(server.groups_of(0).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_at_the_end_waits_for_no_groups() {
        let server = server();
        let _held = server.lookups.acquire_many(4).await.unwrap();
        let rights = Rights::everywhere(Role::Write);
        let identity = Identity { pid: None, uid: 1000, gid: 1000 };
        let consumer = server.context.hub.attach(identity, rights.clone(), Lag::Skip).unwrap();
        let rule = Rule { uid: None, gids: vec![7], rights: None };
        let stop = CancellationToken::new();
        stop.cancel();
        let start = tokio::time::Instant::now();
        server.set_settings(settings(vec![rule]), &stop).await;
        assert_eq!((start.elapsed(), consumer.rights() == rights), (Duration::ZERO, true));
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_system_does_not_answer_a_reload_waits_for_the_first_look_up_only() {
        let server = server();
        let _held = server.lookups.acquire_many(4).await.unwrap();
        let consumers = [1000, 1001].map(|uid| {
            let identity = Identity { pid: None, uid, gid: uid };
            server.context.hub.attach(identity, Rights::everywhere(Role::Write), Lag::Skip).unwrap()
        });
        let rule = Rule { uid: None, gids: vec![7], rights: None };
        let start = tokio::time::Instant::now();
        server.set_settings(settings(vec![rule]), &CancellationToken::new()).await;
        assert_eq!(start.elapsed(), LOOKUP_TIMEOUT);
        for consumer in consumers {
            assert_eq!(consumer.rights(), Rights::none());
            assert_eq!(consumer.inbox().farewell().now_or_never(), Some(Goodbye::Forbidden));
        }
    }

    #[tokio::test]
    async fn a_panic_keeps_no_place() {
        let server = server();
        let hub = &server.context.hub;
        let identity = Identity { pid: None, uid: 1000, gid: 1000 };
        let consumer = hub.attach(identity, Rights::everywhere(Role::Write), Lag::Skip).unwrap();
        assert_eq!(hub.consumers().len(), 1);
        attended(hub, &consumer, async { panic!("a defect") }).await;
        assert!(hub.consumers().is_empty());
    }

    #[test]
    fn a_loop_that_does_not_come_by_gives_no_sign() {
        let (pulse, mut pulses) = Pulse::new();
        let mut beats = std::pin::pin!(pulse.beats());
        assert_eq!(beats.as_mut().now_or_never(), None);
        pulses.0.try_recv().unwrap().send(()).unwrap();
        assert_eq!(beats.now_or_never(), Some(true));
        drop(pulses);
        assert_eq!(pulse.beats().now_or_never(), Some(false));
    }
}
