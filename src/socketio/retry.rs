//! Emits that are sent until they are answered: in strict order, one at a time, over reconnections too.
//!
//! The server may get such an event more than once. When to send is the [`Socket`](super::Socket)'s to say; this is
//! what it sends and how often.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::socket::Outgoing;

/// One emit of the queue.
#[derive(Debug)]
pub(super) struct Entry<T> {
    /// Its `id` is that of the try whose answer is awaited; none between two tries.
    pub(super) outgoing: Outgoing,
    /// Whoever waits for the answer.
    pub(super) ticket: Option<T>,
    /// How long each try waits for it.
    pub(super) timeout: Option<Duration>,
    /// How often it was sent.
    pub(super) tries: u32,
}

/// Only the first entry is ever on its way.
#[derive(Debug)]
pub(super) struct Queue<T> {
    retries: u32,
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    tickets: usize,
    /// When the try that is on its way has failed.
    deadline: Option<Instant>,
}

impl<T> Queue<T> {
    /// Each emit is sent once and then up to `retries` times again; with 0 the queue is not in use.
    pub(super) fn new(retries: u32) -> Self {
        Self { retries, entries: VecDeque::new(), bytes: 0, tickets: 0, deadline: None }
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.retries > 0
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What the entries count in the send buffer.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Answers that are waited for: by somebody, or by the next entry.
    pub(super) fn pending(&self) -> usize {
        let awaited_by_nobody =
            self.entries.front().is_some_and(|head| head.outgoing.id.is_some() && head.ticket.is_none());
        self.tickets + usize::from(awaited_by_nobody)
    }

    pub(super) fn push(&mut self, entry: Entry<T>) {
        self.count(&entry);
        self.entries.push_back(entry);
    }

    /// The first entry, if it is to be sent now: it comes back by [`Queue::sent`], or is given up.
    pub(super) fn next_try(&mut self) -> Option<Entry<T>> {
        self.entries.front().filter(|head| head.outgoing.id.is_none())?;
        self.pop()
    }

    /// A try of this entry is on its way under the id it has now.
    pub(super) fn sent(&mut self, now: Instant, mut entry: Entry<T>) {
        entry.tries = entry.tries.saturating_add(1);
        self.deadline = entry.timeout.and_then(|timeout| now.checked_add(timeout));
        self.put_back(entry);
    }

    /// The answer to `id` came: the entry that waited for it.
    pub(super) fn answered(&mut self, id: u64) -> Option<Entry<T>> {
        self.entries.front().filter(|head| head.outgoing.id == Some(id))?;
        self.pop()
    }

    /// The try that is on its way has failed. The entry waits for the next one; if that was the last it is given back.
    pub(super) fn failed(&mut self) -> Option<Entry<T>> {
        self.entries.front().filter(|head| head.outgoing.id.is_some())?;
        let mut entry = self.pop()?;
        entry.outgoing.id = None;
        if entry.tries > self.retries {
            return Some(entry);
        }
        self.put_back(entry);
        None
    }

    /// The try that is on its way has so much more time.
    pub(super) fn rested(&mut self, rested: Duration) {
        self.deadline = self.deadline.and_then(|deadline| deadline.checked_add(rested));
    }

    /// When the try that is on its way has failed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Gives up all entries.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry<T>> {
        std::iter::from_fn(|| self.pop())
    }

    fn put_back(&mut self, entry: Entry<T>) {
        self.count(&entry);
        self.entries.push_front(entry);
    }

    fn count(&mut self, entry: &Entry<T>) {
        self.bytes += entry.outgoing.size();
        self.tickets += usize::from(entry.ticket.is_some());
    }

    fn pop(&mut self) -> Option<Entry<T>> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.outgoing.size();
        self.tickets -= usize::from(entry.ticket.is_some());
        self.deadline = None;
        Some(entry)
    }
}
