//! What was changed here, so that people are told of that and of nothing else as undone.
//!
//! A look of the keeper's own finds more than local changes: what could not be put in place before, what was still on its way
//! when the agent ended, what stands in a directory that is new. A local change is what stood here as it should, and does
//! not any more; and what stands here and never should have.

use super::Holding;
use mirror::Action;
use std::collections::HashSet;
use tree::RelPath;

/// Names of which that was seen.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// They stood as they should, and do not, until that is undone or something else is wanted there.
    changed: HashSet<board::Name>,
    /// They went, and were to go.
    left: HashSet<board::Name>,
}

impl Edits {
    /// `name` stood as it should, and does not.
    pub(super) fn changed(&mut self, name: &[u8]) {
        if !self.changed.contains(name) {
            self.changed.insert(board::Name::copy_from_slice(name));
        }
    }

    /// `name` is gone, as the hub wanted.
    pub(super) fn left(&mut self, name: &board::Name) {
        self.left.insert(name.clone());
    }

    /// Something else is wanted at `name` from now on.
    pub(super) fn forget(&mut self, name: &[u8]) {
        self.changed.remove(name);
    }

    /// Whether what was done at `path` undid a local change; asked once.
    pub(crate) fn was_undone(&mut self, path: &RelPath, action: Action) -> bool {
        match action {
            Action::Deleted => !self.left.remove(path.as_bytes()),
            _ => self.changed.remove(path.as_bytes()),
        }
    }
}

impl Holding {
    /// Before a round for the hub: the local changes that wait for their content, of which the round may undo some.
    pub(crate) fn take_edits(&mut self) -> Edits {
        std::mem::take(&mut self.edits)
    }

    /// After it: those that were not undone yet.
    pub(crate) fn put_back_edits(&mut self, edits: Edits) {
        self.edits.changed.extend(edits.changed);
    }

    /// What was seen of local changes in a round of the keeper's own.
    pub(crate) fn edits(&mut self) -> &mut Edits {
        &mut self.edits
    }

    /// After a round: only what waits for its content is still to be undone.
    pub(crate) fn end_edits(&mut self) {
        let Holding { edits, awaiting, .. } = self;
        edits.changed.retain(|name| awaiting.is_waiting(name));
        edits.left.clear();
    }
}
