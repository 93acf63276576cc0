//! What is wrong with a share as a whole, each until it is over.

use std::collections::BTreeMap;

/// A kind of fault; of each, the newest is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Concern {
    /// A guard keeps deletions back.
    Deletions,
    /// The hub does not give the share.
    Hub,
    /// The hub says what cannot be.
    Nonsense,
    /// The copy is not the share, though all was applied.
    Root,
    /// The copy is not watched, or is not where it was.
    Watch,
    /// Some directories are not watched.
    Watches,
    /// What was received cannot be noted.
    Save,
    /// The file system cannot be synced.
    Sync,
}

/// The faults there are.
#[derive(Debug, Default)]
pub(super) struct Concerns(BTreeMap<Concern, String>);

impl Concerns {
    /// Whether that is news.
    pub(super) fn raise(&mut self, concern: Concern, text: String) -> bool {
        self.0.insert(concern, text.clone()).as_ref() != Some(&text)
    }

    /// It is over.
    pub(super) fn clear(&mut self, concern: Concern) {
        self.0.remove(&concern);
    }

    pub(super) fn has(&self, concern: Concern) -> bool {
        self.0.contains_key(&concern)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &String> {
        self.0.values()
    }
}
