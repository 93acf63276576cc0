//! Which names are one file: what was seen of files with several names, on both sides.
//!
//! The kernel reports a change under the name it was made through, and that name may be gone before anybody looks, so it
//! has to be known which others the file has, or had. Looking at a place once more is never wrong.

use std::collections::{BTreeSet, HashMap};
use tree::RelPath;

/// Device and inode.
pub(crate) type Id = (u64, u64);

/// Most names remembered of each side. Above, a change of a file with several names has everything compared.
const NAMES_MAX: usize = 262_144;

/// What is remembered from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) source: Names,
    pub(crate) dest: Names,
    /// Files some names of which a walk of everything did not find, and how many names they had then: the others are
    /// outside, and nobody looks for them again.
    outside: HashMap<Id, u32>,
}

/// The names of the files of one side, of those that have several.
#[derive(Debug, Default)]
pub(crate) struct Names {
    groups: HashMap<Id, Group>,
    ids: HashMap<RelPath, Id>,
}

#[derive(Debug, Default)]
struct Group {
    names: BTreeSet<RelPath>,
    nlink: u32,
}

impl Names {
    /// `path` is a name of the file `id`, which has `nlink`.
    pub(crate) fn add(&mut self, id: Id, nlink: u32, path: &RelPath) {
        if self.of(path) == Some(id) {
            self.groups.entry(id).or_default().nlink = nlink;
            return;
        }
        self.remove(path);
        if self.ids.len() >= NAMES_MAX {
            *self = Self::default();
        }
        self.ids.insert(path.clone(), id);
        let group = self.groups.entry(id).or_default();
        group.nlink = nlink;
        group.names.insert(path.clone());
    }

    /// `path` is no name of a file with several any more.
    pub(crate) fn remove(&mut self, path: &RelPath) {
        let Some(id) = self.ids.remove(path) else { return };
        if let Some(group) = self.groups.get_mut(&id) {
            group.names.remove(path);
            if group.names.is_empty() {
                self.groups.remove(&id);
            }
        }
    }

    /// The file that `path` was a name of when it was last met.
    pub(crate) fn of(&self, path: &RelPath) -> Option<Id> {
        self.ids.get(path).copied()
    }

    /// The known names of the file `id` other than `path`.
    pub(crate) fn others(&self, id: Id, path: &RelPath) -> Vec<RelPath> {
        let names = self.groups.get(&id).map(|group| &group.names);
        names.into_iter().flatten().filter(|name| *name != path).cloned().collect()
    }

    /// Whether names of the file `id` are not known.
    fn is_incomplete(&self, id: Id) -> Option<u32> {
        let group = self.groups.get(&id)?;
        (group.names.len() < usize::try_from(group.nlink).unwrap_or(usize::MAX)).then_some(group.nlink)
    }
}

impl Links {
    /// A walk of everything begins, which finds all names again.
    pub(crate) fn begin_walk(&mut self) {
        (self.source, self.dest) = (Names::default(), Names::default());
    }

    /// And it ended: what it did not find is not there.
    pub(crate) fn end_walk(&mut self) {
        let incomplete = |id: &Id| Some((*id, self.source.is_incomplete(*id)?));
        self.outside = self.source.groups.keys().filter_map(incomplete).collect();
    }

    /// Whether a name of the source's file `id` may be somewhere in the source and is not known.
    pub(crate) fn is_wanting(&self, id: Id) -> bool {
        self.source.is_incomplete(id).is_some_and(|nlink| self.outside.get(&id) != Some(&nlink))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(s: &str) -> RelPath {
        RelPath::new(s.as_bytes()).unwrap()
    }

    #[test]
    fn a_name_that_a_walk_did_not_find_is_searched_again_only_once_there_are_more() {
        let mut links = Links::default();
        links.source.add((1, 1), 2, &path("a"));
        assert!(links.is_wanting((1, 1)));
        links.end_walk();
        assert!(!links.is_wanting((1, 1)), "it is outside");
        links.source.add((1, 1), 3, &path("a"));
        assert!(links.is_wanting((1, 1)), "one more name was given");
        links.source.add((1, 1), 2, &path("b"));
        assert!(!links.is_wanting((1, 1)));
        assert_eq!(links.source.others((1, 1), &path("b")), [path("a")]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut names = Names::default();
        for n in 0..NAMES_MAX as u64 + 10 {
            names.add((1, n), 2, &path(&n.to_string()));
        }
        assert!(names.ids.len() <= NAMES_MAX && names.groups.len() == names.ids.len());
    }

    #[test]
    fn a_name_belongs_to_the_file_it_was_last_met_as() {
        let mut names = Names::default();
        names.add((1, 1), 2, &path("a"));
        names.add((1, 1), 2, &path("b"));
        names.add((1, 2), 2, &path("a"));
        assert_eq!((names.of(&path("a")), names.others((1, 1), &path("b")).len()), (Some((1, 2)), 0));
        names.remove(&path("a"));
        names.remove(&path("b"));
        assert!(names.groups.is_empty() && names.ids.is_empty());
    }
}
