//! How local changes that were undone are told: a few of them by name where people look, the others counted, and each in
//! the log.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent::Kept;

/// So many are told by name until all is in place again,
const NAMED_MAX: u64 = 10;
/// or, where something never is, within so long.
const NAMED_WITHIN: Duration = Duration::from_secs(60);

/// How many there were since all was in place.
#[derive(Debug, Default)]
pub(super) struct Undone(Mutex<HashMap<Kept, Count>>);

#[derive(Debug)]
struct Count {
    named: u64,
    since: Instant,
    others: u64,
}

impl Undone {
    /// One more; whether it is told by name.
    pub(super) fn is_named(&self, of: &Kept, now: Instant) -> bool {
        let mut counts = self.counts();
        let count = counts.entry(of.clone()).or_insert(Count { named: 0, since: now, others: 0 });
        if now.saturating_duration_since(count.since) >= NAMED_WITHIN {
            (count.named, count.since) = (0, now);
        }
        let named = count.named < NAMED_MAX;
        *(if named { &mut count.named } else { &mut count.others }) += 1;
        named
    }

    /// All is in place: how many there were that were not told by name.
    pub(super) fn settled(&self, of: &Kept) -> Option<u64> {
        self.counts().remove(of).map(|count| count.others).filter(|others| *others > 0)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Kept, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named_and_the_others_counted_until_all_is_in_place() {
        let (undone, of, other) = (Undone::default(), Kept::Share("a".into()), Kept::Share("b".into()));
        let now = Instant::now();
        assert_eq!(undone.settled(&of), None);
        let named = (0..NAMED_MAX + 7).filter(|_| undone.is_named(&of, now)).count() as u64;
        assert!(undone.is_named(&other, now));
        assert_eq!((named, undone.settled(&of), undone.settled(&other)), (NAMED_MAX, Some(7), None));
        assert!(undone.is_named(&of, now), "they are counted anew");
        // Where something is never in place, later ones are named as well.
        while undone.is_named(&of, now) {}
        assert!(undone.is_named(&of, now + NAMED_WITHIN));
        assert_eq!(undone.settled(&of), Some(1));
    }
}
