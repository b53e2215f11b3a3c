//! What the task waits for, all at once.

use std::collections::HashMap;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::watch;

use super::link::{Heard, Link};
use super::{Asked, BoxFuture, Driver, release_gate};
use crate::manager::auth;
use crate::manager::clock::Clock;
use crate::manager::state::Key;
use crate::manager::{Asker, Command, Observer, Room};

/// What woke the task.
pub(super) enum Wake {
    Command(Option<Command>),
    Link(Heard),
    Probe(Heard),
    Asked { key: Key, question: u64, outcome: auth::Outcome },
    Awake,
    Time,
    Flushed,
    Room,
    Stop,
}

/// The wait for the next deadline, which outlives the turns of the loop: few of them move it.
#[derive(Default)]
pub(super) struct Alarm(Option<Pin<Box<tokio::time::Sleep>>>);

impl Alarm {
    fn set(&mut self, at: Option<Instant>) {
        match (at.map(Into::into), &mut self.0) {
            (None, sleep) => *sleep = None,
            (Some(at), Some(sleep)) if sleep.deadline() == at => {}
            (Some(at), Some(sleep)) => sleep.as_mut().reset(at),
            (Some(at), sleep @ None) => *sleep = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
    }
}

impl Driver {
    pub(super) async fn wait(&mut self) -> Wake {
        let reading = self.is_reading();
        let Self {
            commands,
            link,
            probe,
            asked,
            state,
            blocked,
            behind,
            alarm,
            awake,
            clock,
            stop,
            in_flight,
            gate,
            ..
        } = self;
        alarm.set(state.poll_timeout().map(|at| clock.timer(at)));
        let held_back = state.queued();
        let traffic = poll_fn(|cx| {
            // What is being dialled has nothing to read yet.
            let dialling = matches!(link, Link::Dialling(_));
            let wake = match (reading || dialling, link.queued()) {
                (true, _) => link.poll(cx).map(Wake::Link),
                (false, 0) => Poll::Pending,
                (false, _) => link.poll_flush(cx).map(|()| Wake::Flushed),
            };
            release_gate(gate, in_flight, held_back + link.queued());
            wake
        });
        tokio::select! {
            () = stop => Wake::Stop,
            wake = traffic => wake,
            () = room(blocked.as_ref(), behind.first(), clock), if !reading => Wake::Room,
            heard = poll_fn(|cx| probe.poll_whole(cx)) => Wake::Probe(heard),
            wake = poll_fn(|cx| poll_asked(asked, cx)) => wake,
            receiver = &mut *awake => {
                *awake = waking(receiver);
                Wake::Awake
            }
            command = poll_fn(|cx| commands.poll(cx)) => Wake::Command(command),
            () = poll_fn(|cx| alarm.poll(cx)) => Wake::Time,
        }
    }
}

fn poll_asked(asked: &mut HashMap<Key, Asked>, cx: &mut Context<'_>) -> Poll<Wake> {
    for (key, Asked { question, source, .. }) in asked {
        if let Poll::Ready(outcome) = source.as_mut().poll(cx) {
            return Poll::Ready(Wake::Asked { key: *key, question: *question, outcome });
        }
    }
    Poll::Pending
}

/// Ends when the machine is said to have woken up; never once nobody is left to say so.
pub(super) fn waking(mut awake: watch::Receiver<()>) -> BoxFuture<watch::Receiver<()>> {
    Box::pin(async {
        if awake.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        awake
    })
}

/// Waits for one who has no room: all need to have some, so that the others can wait their turn.
async fn room(
    blocked: Option<&(Arc<dyn Observer>, Instant)>,
    behind: Option<&(Arc<dyn Asker>, Instant)>,
    clock: &Clock,
) {
    let (changed, until) = match (blocked, behind) {
        (Some((observer, until)), _) => (observer.room_changed().notified(), until),
        (None, Some((asker, until))) => {
            let changed = asker.room_changed().notified();
            // From here on it is heard; what came before is seen.
            if asker.room(clock.now()) == Room::Free {
                return;
            }
            (changed, until)
        }
        (None, None) => return std::future::pending().await,
    };
    tokio::select! {
        () = changed => {}
        () = tokio::time::sleep_until(clock.timer(*until).into()) => {}
    }
}
