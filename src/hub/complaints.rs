//! What is logged about programs that do what they may not, or send what nobody understands: some of it for each user,
//! and sums of the rest.

use std::collections::BTreeMap;
use std::time::Instant;

use tracing::warn;

use super::ration::{Ration, Sum};

/// Users told apart; all further ones share what is logged.
const USERS: usize = 64;

/// Complaints by user; those about nobody, or about more users than are told apart, have the key none.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<Option<u32>, Ration>);

impl Complaints {
    /// Whether one is to be logged; where not, it is counted. And whether it is the first that is counted, so that a sum
    /// is to come.
    pub(super) fn takes(&mut self, now: Instant, uid: Option<u32>, what: &'static str) -> (bool, bool) {
        if !self.0.contains_key(&uid) && self.0.len() >= USERS {
            self.0.retain(|_, ration| !ration.is_fresh(now));
        }
        let known = self.0.contains_key(&uid) || self.0.len() < USERS;
        let ration = self.0.entry(uid.filter(|_| known)).or_default();
        let counting = ration.is_counting();
        let takes = ration.takes(now, what);
        (takes, !takes && !counting)
    }

    /// Logs what was left out: what is due, or `all`. Gives when there is more to say.
    pub(super) fn sum_up(&mut self, now: Instant, all: bool) -> Option<Instant> {
        for (uid, ration) in &mut self.0 {
            let sum = if all { ration.sum_up_now(now) } else { ration.sum_up(now) };
            if let Some(Sum { lines, what, during }) = sum {
                warn!(uid, left_out = lines, what, seconds = during.as_secs(), "more of the same");
            }
        }
        self.0.values().filter_map(Ration::due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_users_takes_more_memory_or_more_of_the_log() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        let logged = (0..10_000).filter(|uid| complaints.takes(now, Some(*uid), "refused").0).count();
        assert_eq!((complaints.0.len(), logged), (USERS + 1, USERS + 10));
        assert!(complaints.takes(now, Some(0), "refused").0, "those who came first are still told apart");
    }
}
