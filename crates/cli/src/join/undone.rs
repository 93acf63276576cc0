//! How local changes that were undone are told: the first few by name where people look, the others counted, and each in
//! the log.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent::Kept;

/// So many are told by name until all is in place again.
const NAMED_MAX: u64 = 10;

/// How many there were since all was in place.
#[derive(Debug, Default)]
pub(super) struct Undone(Mutex<HashMap<Kept, u64>>);

impl Undone {
    /// One more; whether it is told by name.
    pub(super) fn is_named(&self, of: &Kept) -> bool {
        let mut counts = self.counts();
        let count = counts.entry(of.clone()).or_default();
        *count += 1;
        *count <= NAMED_MAX
    }

    /// All is in place: how many there were that were not told by name.
    pub(super) fn settled(&self, of: &Kept) -> Option<u64> {
        let count = self.counts().remove(of)?;
        count.checked_sub(NAMED_MAX).filter(|others| *others > 0)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Kept, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named_and_the_others_counted_until_all_is_in_place() {
        let (undone, of, other) = (Undone::default(), Kept::Share("a".into()), Kept::Share("b".into()));
        assert_eq!(undone.settled(&of), None);
        let named = (0..NAMED_MAX + 7).filter(|_| undone.is_named(&of)).count() as u64;
        assert!(undone.is_named(&other));
        assert_eq!((named, undone.settled(&of), undone.settled(&other)), (NAMED_MAX, Some(7), None));
        assert!(undone.is_named(&of), "they are counted anew");
    }
}
