//! What we wrote ourselves: whether what both sides' disks say of a file is what they said then.
//!
//! Paths and metadata are kept as hashes with keys of this process, 24 bytes a file; a mirror that has just copied everything
//! knows all of it. Two paths with one hash cost a comparison, nothing else. Forgetting costs no more.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use tree::{RelPath, Stat};

/// How many are remembered.
const WRITES_MAX: usize = 65_536;

/// Hashes of what the source's and the destination's disk said.
type Both = (u64, u64);

#[derive(Debug, Default)]
pub(crate) struct Writes {
    keys: RandomState,
    /// What all threads of a pass read.
    before: Arc<HashMap<u64, Both>>,
    /// What this one adds.
    new: HashMap<u64, Both>,
}

impl Writes {
    /// What a file was when it was written, or found to be the same.
    pub(crate) fn insert(&mut self, path: &RelPath, source: &Stat, dest: &Stat) {
        if self.new.len() >= WRITES_MAX {
            self.new.clear();
        }
        self.new.insert(self.key(path), (self.of(source), self.of(dest)));
    }

    /// Whether it is known, and its source is another version by now.
    pub(crate) fn is_outdated(&self, path: &RelPath, source: &Stat) -> bool {
        self.get(path).is_some_and(|(written, _)| written != self.of(source))
    }

    /// Whether both are what they were.
    pub(crate) fn is_same(&self, path: &RelPath, source: &Stat, dest: &Stat) -> bool {
        self.get(path) == Some((self.of(source), self.of(dest)))
    }

    /// Whether anything is known of it.
    pub(crate) fn contains(&self, path: &RelPath) -> bool {
        self.get(path).is_some()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What another thread reads; what it adds comes back by [`Writes::join`].
    pub(crate) fn fork(&self) -> Self {
        Self { keys: self.keys.clone(), before: Arc::clone(&self.before), new: HashMap::new() }
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.new.extend(other.new);
    }

    /// What this one added is read by all from now on.
    pub(crate) fn share(&mut self) {
        if self.new.is_empty() {
            return;
        }
        let before = Arc::make_mut(&mut self.before);
        if before.len() + self.new.len() > WRITES_MAX {
            before.clear();
        }
        before.extend(self.new.drain().take(WRITES_MAX));
        self.new.shrink_to(WRITES_MAX / 64);
    }

    fn get(&self, path: &RelPath) -> Option<Both> {
        if self.new.is_empty() && self.before.is_empty() {
            return None;
        }
        let key = self.key(path);
        self.new.get(&key).or_else(|| self.before.get(&key)).copied()
    }

    fn key(&self, path: &RelPath) -> u64 {
        self.keys.hash_one(path.as_bytes())
    }

    /// All that [`Stat::is_unchanged`] compares.
    fn of(&self, stat: &Stat) -> u64 {
        let Stat { dev, ino, size_bytes, mtime_ns, ctime_ns, .. } = *stat;
        self.keys.hash_one((dev, ino, size_bytes, mtime_ns, ctime_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(s: &str) -> RelPath {
        RelPath::new(s.as_bytes()).unwrap()
    }

    fn stat(ino: u64, ctime_ns: i64) -> Stat {
        Stat { ino, ctime_ns, ..crate::stage::UNKNOWN }
    }

    #[test]
    fn a_change_on_either_side_shows_and_an_unknown_file_is_neither() {
        let mut writes = Writes::default();
        assert!(!writes.contains(&path("f")) && !writes.is_outdated(&path("f"), &stat(1, 1)));
        writes.insert(&path("f"), &stat(1, 1), &stat(2, 2));
        for shared in [false, true] {
            assert!(writes.contains(&path("f")) && !writes.contains(&path("g")), "shared {shared}");
            assert!(writes.is_same(&path("f"), &stat(1, 1), &stat(2, 2)));
            assert!(!writes.is_same(&path("f"), &stat(1, 2), &stat(2, 2)));
            assert!(!writes.is_same(&path("f"), &stat(1, 1), &stat(2, 3)));
            assert!(writes.is_outdated(&path("f"), &stat(1, 2)) && !writes.is_outdated(&path("f"), &stat(1, 1)));
            writes.share();
        }
    }

    #[test]
    fn what_threads_add_is_known_to_all_afterwards_and_stays_bounded() {
        let mut writes = Writes::default();
        writes.insert(&path("a"), &stat(1, 1), &stat(1, 1));
        writes.share();
        let mut other = writes.fork();
        assert!(other.contains(&path("a")));
        other.insert(&path("a"), &stat(2, 2), &stat(2, 2));
        other.insert(&path("b"), &stat(1, 1), &stat(1, 1));
        writes.join(other);
        writes.share();
        assert!(writes.is_same(&path("a"), &stat(2, 2), &stat(2, 2)) && writes.contains(&path("b")));
        for n in 0..2 * WRITES_MAX {
            writes.insert(&path(&n.to_string()), &stat(1, 1), &stat(1, 1));
        }
        writes.share();
        assert!(writes.before.len() <= WRITES_MAX && writes.new.is_empty());
    }
}
