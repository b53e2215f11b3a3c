//! Tickets, and who still waits.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use siod::manager::state::Key;

/// Whoever waits for what becomes of something.
pub(super) struct Ticket {
    number: u64,
    book: Rc<RefCell<Book>>,
}

/// Who still waits: the socket of each ticket.
#[derive(Default)]
pub(super) struct Book {
    tickets: u64,
    waiting: BTreeMap<u64, Key>,
    /// Dropped without a word.
    lost: Vec<u64>,
}

impl Ticket {
    /// Waits for something of this socket.
    pub(super) fn new(book: &Rc<RefCell<Book>>, key: Key) -> Self {
        let mut entries = book.borrow_mut();
        entries.tickets += 1;
        let number = entries.tickets;
        entries.waiting.insert(number, key);
        Self { number, book: Rc::clone(book) }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whoever waits has heard.
    pub(super) fn settle(self, key: Key) -> u64 {
        let settled = self.book.borrow_mut().waiting.remove(&self.number);
        assert_eq!(settled, Some(key), "ticket {}", self.number);
        self.number
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut book = self.book.borrow_mut();
        if book.waiting.remove(&self.number).is_some() {
            book.lost.push(self.number);
        }
    }
}

impl Book {
    /// Who was dropped without a word.
    pub(super) fn lost(&self) -> &[u64] {
        &self.lost
    }

    /// The sockets of all who wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Key> {
        self.waiting.values().copied()
    }

    /// Whoever waited hears in another way.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.lost.clear();
    }
}
