//! Whoever waits for what becomes of an emit.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::Room;
use crate::socketio::{AckError, ArgsView, EmitError, Sent};

/// Whoever emits: one for all emits that a program makes on a connection. It tells them apart by the ids it gave them.
pub trait Asker: Send + Sync {
    /// So many more emits have taken effect, and whoever looks sees it.
    fn taken(&self, emits: usize);
    /// Nothing more comes for this one: no ack was asked for, or the emit was dropped or refused. True where
    /// [`Asker::publish`] is wanted that was not wanted before.
    fn settled(&self, id: &Id, result: Result<Sent, EmitError>, active: bool) -> bool;
    /// The answer to an emit with an ack; true as above.
    fn answered(&self, id: &Id, result: Result<ArgsView<'_>, AckError>) -> bool;
    /// Nothing will be heard of this one: the Manager is gone, or something broke.
    fn forgotten(&self, id: &Id);
    /// Whether nobody is left who would hear an answer.
    fn is_gone(&self) -> bool;
    /// All answers of this moment are said, and whoever looks sees what they tell of.
    fn publish(&self);
    /// Whether more of the server's answers can be taken.
    fn room(&self, now: Instant) -> Room;
    /// All who wait here are notified when there may be room again. It is the same for all whose room is one.
    fn room_changed(&self) -> &Notify;
}

/// One emit's claim to hear what becomes of it. It can be dropped unused, when the Manager is gone.
pub struct Ticket {
    asker: Arc<dyn Asker>,
    id: Id,
    /// Nobody has taken the emit from the queue yet.
    under_way: bool,
    open: bool,
}

impl Ticket {
    /// The claim of the emit that its asker calls `id`.
    pub fn new(asker: Arc<dyn Asker>, id: Id) -> Self {
        Self { asker, id, under_way: true, open: true }
    }

    /// The emit is taken from the queue: whoever does that tells of its effect. Gives whom.
    pub(super) fn arrive(&mut self) -> &Arc<dyn Asker> {
        self.under_way = false;
        &self.asker
    }

    /// See [`Asker::is_gone`].
    pub(super) fn is_void(&self) -> bool {
        self.asker.is_gone()
    }

    /// See [`Asker::settled`]; gives who is to publish it.
    pub(super) fn settled(mut self, result: Result<Sent, EmitError>, active: bool) -> Option<Arc<dyn Asker>> {
        self.open = false;
        self.asker.settled(&self.id, result, active).then(|| Arc::clone(&self.asker))
    }

    /// See [`Asker::answered`]; gives who is to publish it.
    pub(super) fn answered(mut self, result: Result<ArgsView<'_>, AckError>) -> Option<Arc<dyn Asker>> {
        self.open = false;
        self.asker.answered(&self.id, result).then(|| Arc::clone(&self.asker))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            self.asker.forgotten(&self.id);
        }
        if self.under_way {
            self.asker.taken(1);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The longest text that takes no memory of its own; a number of 64 bits has 20 digits.
const SHORT: usize = 22;

/// What an asker calls one of its emits; it can be nothing. Mostly a short text, which is kept in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Id(Text);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Text {
    #[default]
    None,
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Id {
    /// This text, to the byte.
    pub fn new(text: Option<&str>) -> Self {
        let Some(text) = text.map(str::as_bytes) else { return Self(Text::None) };
        let mut short = [0; SHORT];
        Self(match (u8::try_from(text.len()), short.get_mut(..text.len())) {
            (Ok(length), Some(place)) => {
                place.copy_from_slice(text);
                Text::Short(length, short)
            }
            _ => Text::Long(text.into()),
        })
    }

    /// The text.
    pub fn get(&self) -> Option<&[u8]> {
        match &self.0 {
            Text::None => None,
            Text::Short(length, short) => short.get(..usize::from(*length)),
            Text::Long(text) => Some(text),
        }
    }

    /// Whether it is a text at all.
    pub fn is_some(&self) -> bool {
        !matches!(self.0, Text::None)
    }

    /// It, and nothing from now on.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_to_the_byte() {
        for length in [0, 1, 21, 22, 23, 255, 256, 70_000] {
            let text = "é7".repeat(length).chars().take(length).collect::<String>();
            assert_eq!(Id::new(Some(&text)).get(), Some(text.as_bytes()));
        }
        assert_eq!(Id::new(None).get(), None);
        assert!(Id::new(Some("")).is_some() && !Id::new(None).is_some());
    }
}
