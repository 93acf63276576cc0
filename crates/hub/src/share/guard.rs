//! Which removals go out, and which are held.
//!
//! What the kernel reported under an intact pin is the user's wish. What only a listing found goes out too, unless it
//! looks like an accident ([`mirror::guard`]); and nothing goes out while the shared directory is not in its place. Where
//! another directory stands in its place, that is not for removals alone: nothing of it goes out ([`Holds::Everything`]).

use mirror::guard::Tally;
use std::collections::BTreeMap;
use std::path::Path;
use tree::RelPath;
use wire::answer::NOTHING_GOES_OUT;

/// What a guard keeps from going out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Deletions.
    Deletions,
    /// All there is: it was not even looked at.
    Everything,
}

/// Deletions that are held, or everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) holds: Holds,
    /// How many entries would go, as far as that is known.
    pub(crate) count: usize,
    /// Why they do not.
    pub(crate) why: String,
    /// Whether `lockstep allow-deletes` lets them go.
    pub(crate) releasable: bool,
}

impl Held {
    /// Everything is.
    pub(crate) fn everything(why: String) -> Held {
        Held { holds: Holds::Everything, count: 0, why, releasable: true }
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.holds == Holds::Everything
    }

    /// What is held and why, in one sentence.
    pub(crate) fn text(&self) -> String {
        match self.holds {
            Holds::Deletions => format!("deletions are held: {}", self.why),
            Holds::Everything => format!("{NOTHING_GOES_OUT}: {}", self.why),
        }
    }
}

/// The removals of one round.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    /// Path, and whether an event reported it.
    found: BTreeMap<RelPath, bool>,
    shielded: Vec<RelPath>,
    accepted: bool,
}

impl Removals {
    pub(crate) fn add(&mut self, path: RelPath, by_event: bool) {
        *self.found.entry(path).or_default() |= by_event;
    }

    /// It is there after all.
    pub(crate) fn keep(&mut self, path: &RelPath) {
        self.found.remove(path);
    }

    /// Nothing at or below `path` goes in this round.
    pub(crate) fn shield(&mut self, path: RelPath) {
        self.shielded.push(path);
    }

    /// Whether, in this round, the directory that is found in place is to be taken for the one that was shared.
    pub(crate) fn accept_root(&mut self, accept: bool) {
        self.accepted = accept;
    }

    pub(crate) fn root_is_accepted(&self) -> bool {
        self.accepted
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Takes the round's removals: those that go, deepest first is not needed since the board has no directories.
    pub(crate) fn decide(
        &mut self,
        entries: usize,
        in_place: bool,
        allow: bool,
        path: &Path,
    ) -> (Vec<RelPath>, Option<Held>) {
        let found = std::mem::take(&mut self.found);
        let shielded = std::mem::take(&mut self.shielded);
        let count = found.len();
        let held = |count: usize, why: String| Some(Held { holds: Holds::Deletions, count, why, releasable: in_place });
        if !in_place {
            let why = format!("{} is no longer where it was; put it back, or restart the hub", path.display());
            return (Vec::new(), held(count, why));
        }
        let (open, closed): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(path, _)| !shielded.iter().any(|s| path.starts_with(s)));
        let listed = open.iter().filter(|(_, by_event)| !by_event).count();
        // The root's own entry is not one of those that could go.
        let all = entries.saturating_sub(1);
        // Empty is what nothing would be left of, whoever saw the other entries go.
        let (dest_entries, deletes) = (all as u64, listed as u64);
        let tally = Tally { source_empty: count == all, dest_entries, limit: None, deletes };
        if !allow && mirror::guard::hold(&tally).is_some() {
            let (go, stay): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, by_event)| *by_event);
            let why = format!("{listed} of {all} entries are gone from {} and nobody saw them go", path.display());
            return (paths(go), held(stay.len() + closed.len(), why));
        }
        let note = if closed.is_empty() {
            None
        } else {
            held(closed.len(), "a directory lost what was mounted on it; mount it again".into())
        };
        (paths(open), note)
    }
}

fn paths(found: Vec<(RelPath, bool)>) -> Vec<RelPath> {
    found.into_iter().map(|(path, _)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The removals of `unseen` entries that only a listing found and of `reported` ones, out of `all`.
    fn decided(unseen: usize, reported: usize, all: usize) -> (usize, Option<usize>) {
        let mut removals = Removals::default();
        for n in 0..unseen + reported {
            removals.add(RelPath::new(format!("f{n}").into_bytes()).unwrap(), n >= unseen);
        }
        let (go, held) = removals.decide(all + 1, true, false, Path::new("share"));
        (go.len(), held.map(|held| held.count))
    }

    #[test]
    fn one_reported_removal_does_not_let_an_emptied_share_go() {
        assert_eq!(decided(3, 0, 3), (0, Some(3)));
        assert_eq!(decided(2, 1, 3), (1, Some(2)), "the reported one goes, the others are held");
        assert_eq!(decided(0, 3, 3), (3, None), "all were seen to go");
        assert_eq!(decided(2, 0, 3), (2, None), "something is left");
    }
}
