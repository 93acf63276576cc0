//! Changed paths: what a run of `--after` is told. Plain values.

use std::collections::BTreeSet;
use std::io::Write;

use tree::RelPath;
use tree::path::escape;

use super::{Batch, Ends};

/// Most changed paths that are kept apart. Beyond them it is told that anything may have changed.
pub(super) const PATHS_MAX: usize = 50_000;
/// What stands for the directory itself, and for all that is in it.
const ALL: &[u8] = b".";

/// Changed paths, each once, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Paths {
    paths: BTreeSet<RelPath>,
    /// How many changes there were, also of the same path.
    changes: u64,
    /// They were too many to be kept apart.
    all: bool,
    ends: Ends,
}

impl Paths {
    pub(super) fn new(ends: Ends) -> Self {
        Self { ends, ..Self::default() }
    }

    pub(super) fn insert(&mut self, path: &RelPath) {
        self.changes += 1;
        if self.all || self.paths.contains(path) {
            return;
        }
        if self.paths.len() == PATHS_MAX {
            self.all = true;
            self.paths = BTreeSet::new();
            return;
        }
        self.paths.insert(path.clone());
    }
}

impl Batch for Paths {
    fn take(&mut self) -> Self {
        let next = Self::new(self.ends);
        std::mem::replace(self, next)
    }

    fn is_empty(&self) -> bool {
        !self.all && self.paths.is_empty()
    }

    /// How many paths are told; those that were too many count as the changes they were.
    fn len(&self) -> u64 {
        if self.all { self.changes } else { self.paths.len() as u64 }
    }

    fn lines(&self) -> Box<dyn Iterator<Item = Vec<u8>> + '_> {
        let all = self.all.then(|| line(ALL, self.ends));
        Box::new(all.into_iter().chain(self.paths.iter().map(|path| match path.is_root() {
            true => line(ALL, self.ends),
            false => line(path.as_bytes(), self.ends),
        })))
    }
}

fn line(path: &[u8], ends: Ends) -> Vec<u8> {
    match ends {
        Ends::Zero => [path, &[0]].concat(),
        Ends::Newline => {
            let mut line = Vec::with_capacity(path.len() + 1);
            // Writing to memory does not fail.
            writeln!(line, "{}", escape(path)).ok();
            line
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(bytes: &[u8]) -> RelPath {
        RelPath::new(bytes).unwrap()
    }

    fn told(paths: &Paths, ends: Ends) -> Vec<u8> {
        Paths { ends, ..paths.clone() }.lines().collect::<Vec<_>>().concat()
    }

    #[test]
    fn each_path_is_told_once_and_no_name_ends_a_line() {
        let mut batch = Paths::default();
        assert!(batch.is_empty());
        for changed in [&b"b"[..], b"a\nb", b"b", b"", b"\xff"] {
            batch.insert(&path(changed));
        }
        assert_eq!(told(&batch, Ends::Newline), b".\na\\x0ab\nb\n\\xff\n");
        assert_eq!(told(&batch, Ends::Zero), b".\0a\nb\0b\0\xff\0");
        assert_eq!(batch.len(), 4);
        let mut zero = Paths { ends: Ends::Zero, ..batch };
        assert_eq!((zero.take().len(), zero), (4, Paths::new(Ends::Zero)), "how they end stays");
    }

    #[test]
    fn too_many_paths_become_all_of_them() {
        let mut batch = Paths::default();
        for n in 0..PATHS_MAX {
            batch.insert(&path(n.to_string().as_bytes()));
        }
        batch.insert(&path(b"0"));
        assert_eq!(batch.len(), PATHS_MAX as u64, "one that is known is none too many");
        batch.insert(&path(b"one too many"));
        batch.insert(&path(b"and another"));
        assert_eq!((told(&batch, Ends::Newline), batch.is_empty()), (b".\n".to_vec(), false));
        assert_eq!(batch.len(), PATHS_MAX as u64 + 3);
    }
}
