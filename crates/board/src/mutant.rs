//! Known-bad variants of this crate and small limits, for its model test alone.
//!
//! Outside of this crate's own tests [`is`] is a constant `false` and every branch on it is compiled away.

/// One deliberate mistake, each of a kind that a real change could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Batches leave out tombstones.
    FollowerForgetsTombstones,
    /// Tombstones are purged without a look at who still needs them.
    PurgePastFollowers,
    /// The horizon is not looked at when a cursor comes back.
    HorizonIgnored,
    /// A cursor is valid if its seq is not above the head, whatever its run.
    NoRunList,
    /// A cursor is judged by its seq alone, not by the newest entry its client was sent.
    SeenIgnored,
    /// A client does not note from how new a view its batches were made.
    ViewUnnoted,
    /// A walk that ended goes on from the present head instead of the head it began with.
    WalkEndsAtPresentHead,
    /// A walk from zero leaves out the tombstones above its head as well.
    WalkHidesRemovals,
    /// What is held goes on counting as newer after a reset.
    ReplicaIgnoresReset,
    /// An older entry replaces a newer one.
    ReplicaTakesOlder,
    /// Tombstones above the cursor are not remembered.
    ReplicaForgetsTombstones,
    /// The end of what a reset was sent does not drop the rest.
    ReplicaKeepsUnsent,
    /// A board that is not complete has things dropped for it.
    DropsWhileIncomplete,
    /// Nobody is told that it is current but at the very head, though nothing but foreign seqs is before it.
    CurrentOnlyAtTheHead,
    /// A board that is not complete says `current`.
    CurrentWhileIncomplete,
    /// A board counts as complete because its epoch stayed, though its first scan never ended.
    CompleteByEpochAlone,
    /// A commit is shown although the store refused it.
    ShownUnstored,
}

#[cfg(test)]
pub(crate) use switch::{is, set};

/// Whether this build is to make that mistake. It is not.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn is(_mutant: Mutant) -> bool {
    false
}

/// A limit as it is, and for this crate's own tests one that a model of a dozen names runs into.
pub(crate) const fn small_in_tests(limit: usize, in_tests: usize) -> usize {
    if cfg!(test) { in_tests } else { limit }
}

#[cfg(test)]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Makes `mutant` the mistake of this thread, or none.
    pub(crate) fn set(mutant: Option<Mutant>) {
        ACTIVE.with(|active| active.set(mutant));
    }

    pub(crate) fn is(mutant: Mutant) -> bool {
        ACTIVE.with(|active| active.get() == Some(mutant))
    }
}
