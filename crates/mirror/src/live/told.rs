//! What fails at present, so that each failure is told once, however often it is tried again. Plain values.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;
use tree::RelPath;

use crate::dirty::Dirty;
use crate::problem::Problem;

/// Most failures that are kept apart. Of those beyond, tried again, nothing is told.
const TOLD_MAX: usize = 10_000;

/// The entries that failed when they were last looked at.
#[derive(Debug, Default)]
pub(super) struct Told {
    failing: BTreeMap<RelPath, Failing>,
    /// How many more there are.
    beyond: u64,
}

#[derive(Debug)]
struct Failing {
    why: Why,
    text: String,
}

/// What makes two failures of an entry the same one: words may hold the name of a temporary.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    System(Errno),
    Other(String),
}

impl Told {
    /// Whether this failure was told already. `again` says that it was looked for only because it had failed before.
    pub(super) fn is_known(&self, path: &RelPath, problem: &Problem, again: bool) -> bool {
        match self.failing.get(path) {
            Some(failing) => failing.why == Why::of(problem),
            None => again && self.failing.len() >= TOLD_MAX,
        }
    }

    /// Takes in what a pass over `dirty` found. Returns whether an entry fails that did not, or for another reason.
    pub(super) fn take(&mut self, dirty: &Dirty, stopped: bool, problems: &[(RelPath, Problem)]) -> bool {
        let now: BTreeSet<&RelPath> = problems.iter().map(|(path, _)| path).collect();
        if !stopped {
            self.failing.retain(|path, _| now.contains(path) || !is_covered(dirty, path));
        }
        self.beyond = 0;
        let mut news = false;
        for (path, problem) in problems {
            let why = Why::of(problem);
            match self.failing.get(path) {
                Some(failing) if failing.why == why => {}
                None if self.failing.len() >= TOLD_MAX => self.beyond += 1,
                _ => {
                    news = true;
                    self.failing.insert(path.clone(), Failing { why, text: problem.to_string() });
                }
            }
        }
        news
    }

    /// How many entries fail.
    pub(super) fn len(&self) -> u64 {
        self.failing.len() as u64 + self.beyond
    }

    /// The first `most` of them by path, and what is told of each.
    pub(super) fn first(&self, most: usize) -> Vec<(RelPath, String)> {
        self.failing.iter().take(most).map(|(path, failing)| (path.clone(), failing.text.clone())).collect()
    }

    /// Whether some failed because the disk was full.
    pub(super) fn lacks_room(&self) -> bool {
        self.failing.values().any(|failing| matches!(failing.why, Why::System(Errno::NOSPC | Errno::DQUOT)))
    }
}

impl Why {
    fn of(problem: &Problem) -> Self {
        match problem {
            Problem::Fs(error) => Why::System(error.errno),
            other => Why::Other(other.to_string()),
        }
    }
}

fn is_covered(dirty: &Dirty, path: &RelPath) -> bool {
    match path.split() {
        Some((dir, name)) => dirty.covers(&dir, &name),
        None => dirty.root_entry() || dirty.is_whole(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dirty::{All, Hint};
    use tree::{Name, fsx};

    fn path(s: &str) -> RelPath {
        RelPath::new(s.as_bytes()).unwrap()
    }

    fn full(s: &str) -> (RelPath, Problem) {
        (path(s), Problem::Fs(fsx::Error::new("write", s, Errno::NOSPC)))
    }

    fn name(dir: &str, name: &str) -> Dirty {
        let mut dirty = Dirty::new();
        dirty.insert(&path(dir), &Name::new(name.as_bytes()).unwrap(), Hint::LISTED);
        dirty
    }

    #[test]
    fn a_failure_is_known_until_it_is_another_one_or_none() {
        let mut told = Told::default();
        let (at, problem) = full("d/a");
        assert!(!told.is_known(&at, &problem, true));
        assert!(told.take(&Dirty::everything(), false, &[full("d/a"), full("d/b")]));
        assert!(told.is_known(&at, &problem, false) && told.lacks_room());
        assert!(!told.take(&name("d", "a"), false, &[full("d/a")]), "the same once more is no news");
        let denied = (at.clone(), Problem::Fs(fsx::Error::new("write", "d/.lockstep-tmp-1", Errno::ACCESS)));
        assert!(!told.is_known(&at, &denied.1, true) && told.take(&name("d", "a"), false, &[denied]));
        assert_eq!(told.len(), 2);
        assert!(!told.take(&name("d", "a"), false, &[]));
        assert_eq!(told.first(9).into_iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>(), ["d/b"]);
        let mut all = Dirty::new();
        all.insert_all(&path("d"), All::default());
        told.take(&all, true, &[]);
        assert_eq!(told.len(), 1, "a pass that was stopped proves nothing");
        told.take(&all, false, &[]);
        assert!(told.len() == 0 && !told.lacks_room());
    }

    #[test]
    fn of_too_many_failures_those_beyond_are_counted_and_told_once() {
        let mut told = Told::default();
        let many: Vec<_> = (0..=TOLD_MAX).map(|n| full(&format!("{n:05}"))).collect();
        assert!(told.take(&Dirty::everything(), false, &many));
        assert_eq!(told.len(), TOLD_MAX as u64 + 1);
        let (path, problem) = &many[TOLD_MAX];
        assert!(told.is_known(path, problem, true) && !told.is_known(path, problem, false));
    }
}
