//! From a board's commit to the sessions that follow it: a permit each, nothing per message.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Notify;

/// Who is to be woken when a board's head moves.
#[derive(Default)]
pub(crate) struct Wakers {
    sleepers: Mutex<Vec<Weak<Notify>>>,
}

impl Wakers {
    /// Adds a sleeper; it is forgotten when dropped.
    pub(crate) fn add(&self, sleeper: &Arc<Notify>) {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        let sleeper = Arc::downgrade(sleeper);
        // Once, however often somebody begins to follow.
        sleepers.retain(|s| s.strong_count() > 0 && !s.ptr_eq(&sleeper));
        sleepers.push(sleeper);
    }

    /// Wakes all. A permit is kept for who is not asleep yet, so no change is missed.
    pub(crate) fn wake(&self) {
        let sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        for sleeper in sleepers.iter().filter_map(Weak::upgrade) {
            sleeper.notify_one();
        }
    }
}
