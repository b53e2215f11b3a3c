//! A joined socket plays its script, before anybody else may speak.

use std::sync::Arc;
use std::time::Instant;

use super::{DisconnectReason, Event, Socket, State, Transmit};
use crate::socketio::{Args, Body, Step, StepArgs};

/// Where the script of a joined socket is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// Not joined.
    Idle,
    /// This step's file is being read.
    Reading(usize),
    /// This step's answer is awaited under this id.
    Waiting { step: usize, id: u64, deadline: Instant },
    /// Through: others may speak.
    Done,
}

impl<T> Socket<T> {
    /// Plays the script from this step on, until something has to be waited for.
    pub(super) fn run_script(&mut self, now: Instant, from: usize) {
        let script = Arc::clone(&self.settings.script);
        for (number, step) in script.iter().enumerate().skip(from) {
            match &step.args {
                StepArgs::File(path) => {
                    self.setup = Setup::Reading(number);
                    return self.events.push_back(Event::ReadArgs(path.clone()));
                }
                StepArgs::Fixed(args) => {
                    if !self.send_step(now, number, step, args.clone()) {
                        return;
                    }
                }
            }
        }
        self.was_set_up = true;
        self.events.push_back(Event::Ready);
        self.flow(now);
    }

    /// The arguments of the step that waits for its file, or why there are none.
    pub fn handle_step_args(&mut self, now: Instant, args: Result<Args, String>) {
        let Setup::Reading(number) = self.setup else { return };
        let script = Arc::clone(&self.settings.script);
        match (args, script.get(number)) {
            (Ok(args), Some(step)) => {
                if self.send_step(now, number, step, args) {
                    self.run_script(now, number + 1);
                }
            }
            (Err(message), _) => self.fail_setup(number, message, None),
            (Ok(_), None) => {}
        }
    }

    /// Sends a step's emit; true if the next one may follow at once.
    pub(super) fn send_step(&mut self, now: Instant, number: usize, step: &Step, args: Args) -> bool {
        let id = step.expect.as_ref().map(|_| self.pending.take_id());
        let messages = self.encode(Body::Event { id, name: step.event.clone(), args });
        if let Err(too_large) = self.limit.check(&messages) {
            self.fail_setup(number, too_large.to_string(), None);
            return false;
        }
        self.sent += 1;
        self.outbox.extend(messages.into_iter().map(Transmit::Message));
        if let Some(id) = id {
            self.setup = Setup::Waiting { step: number, id, deadline: self.read_until(now) + step.timeout };
        }
        id.is_none()
    }

    pub(super) fn step_answered(&mut self, now: Instant, number: usize, answer: Args) {
        let verdict = self.settings.script.get(number).map_or(Ok(()), |step| step.accepts(&answer));
        match verdict {
            Ok(()) => self.run_script(now, number + 1),
            Err(message) => self.fail_setup(number, message.to_owned(), Some(answer)),
        }
    }

    /// Whoever depends on the script must not speak without it: the namespace is left.
    pub(super) fn fail_setup(&mut self, step: usize, message: String, answer: Option<Args>) {
        self.events.push_back(Event::SetupFailed { step, message, answer });
        self.transmit(Body::Disconnect);
        self.leave(DisconnectReason::ClientDisconnect, None);
        self.state = State::Inactive;
        self.setup_failed = true;
    }
}
