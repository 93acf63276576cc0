//! Where to look: the one thing that start-up, events, overflows, polls and repairs have in common.
//!
//! A [`Dirty`] says for each directory which names, or that all of them, must be compared again. It holds no
//! facts about the disk, only places; looking at a place once more is never wrong. Too much of it widens
//! (names become their directory, directories become the tree) and is never forgotten.
//!
//! Beside the places it remembers which removals the kernel itself reported: these are the user's wish, so the
//! guard against mass deletion lets them pass. Everything here is plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use tree::{Name, RelPath};

/// Most names looked at one by one in a directory; from there on the directory is listed.
pub const NAMES_PER_DIR_MAX: usize = 1_024;
/// Most directories looked at one by one; from there on the tree is walked from its root.
pub const DIRS_MAX: usize = 4_096;
/// Most names kept in all, so that memory stays bounded. Above [`NAMES_PER_DIR_MAX`] and [`DIRS_MAX`] a name is
/// kept only for what its [`Hint`] says.
pub const NAMES_MAX: usize = 65_536;

/// A set of places to compare again. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    dirs: BTreeMap<RelPath, Look>,
    names: usize,
    root_entry: bool,
    removed: Removed,
}

/// What to compare again in one directory: everything if `all` is set, else the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The whole directory is to be listed. The names, if any, still add what their hints say.
    pub all: Option<All>,
    /// Single names, and why.
    pub names: BTreeMap<Name, Hint>,
}

/// How a whole directory is to be listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct All {
    /// With everything below it, not only what is directly in it.
    pub recursive: bool,
    /// Events named the content of files in here, too many to say which. A side that does not know a file's
    /// ctime has to read the files whose stat is equal, too.
    pub content: bool,
}

/// Why a name is to be compared again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// An event named the file's content: read it even if its stat is equal.
    pub content: bool,
    /// An event named it, rather than a listing.
    pub by_event: bool,
}

/// Removals that the kernel reported, or that an overflow hid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Removed {
    everywhere: bool,
    /// An empty set means every name of the directory.
    dirs: BTreeMap<RelPath, BTreeSet<Name>>,
    names: usize,
}

impl Dirty {
    /// Nothing to look at.
    pub fn new() -> Self {
        Self::default()
    }

    /// The whole tree by stat, as at start-up, in a periodic check, and in a poll.
    pub fn everything() -> Self {
        let mut dirty = Self { root_entry: true, ..Self::default() };
        dirty.insert_all(&RelPath::root(), All { recursive: true, content: false });
        dirty
    }

    /// Whether there is nothing to look at. A remembered removal alone does not count: its name is a place, too.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty() && !self.root_entry
    }

    /// How many directories and names are held.
    pub fn len(&self) -> usize {
        self.dirs.len() + self.names
    }

    /// Adds one name of `dir`. A hint given once stays.
    pub fn insert(&mut self, dir: &RelPath, name: &Name, hint: Hint) {
        // Where the tree is walked anyway, only what the walk would not do by itself is worth a place.
        if !hint.content && self.is_whole() && self.dirs.len() >= DIRS_MAX {
            return;
        }
        let look = match self.dirs.get_mut(dir) {
            Some(look) => look,
            None => self.dirs.entry(dir.clone()).or_default(),
        };
        match look.names.get_mut(name) {
            Some(held) => held.add(hint),
            None => {
                look.names.insert(name.clone(), hint);
                self.names += 1;
            }
        }
        if look.names.len() > NAMES_PER_DIR_MAX {
            look.all.get_or_insert_default();
        }
        if self.names > NAMES_MAX {
            let content = look.names.values().any(|h| h.content);
            look.all.get_or_insert_default().content |= content;
            self.names -= look.names.len();
            look.names.clear();
        }
        self.bound_dirs();
    }

    /// Adds the whole of `dir`.
    pub fn insert_all(&mut self, dir: &RelPath, all: All) {
        if !all.content && !dir.is_root() && self.is_whole() && self.dirs.len() >= DIRS_MAX {
            return;
        }
        let held = self.dirs.entry(dir.clone()).or_default().all.get_or_insert_default();
        held.recursive |= all.recursive;
        held.content |= all.content;
        self.bound_dirs();
    }

    /// Adds the root directory's own mode and times, which no name stands for.
    pub fn insert_root_entry(&mut self) {
        self.root_entry = true;
    }

    /// Whether the root directory's own mode and times are to be compared.
    pub fn root_entry(&self) -> bool {
        self.root_entry
    }

    /// Remembers that the kernel reported `name` of `dir` as removed, while the root was the pinned one.
    ///
    /// The caller inserts the name as a place, too.
    pub fn insert_removed(&mut self, dir: &RelPath, name: &Name) {
        self.removed.insert(dir, name);
    }

    /// Remembers that an overflow may have hidden removals anywhere.
    pub fn insert_removed_everywhere(&mut self) {
        self.removed = Removed { everywhere: true, ..Removed::default() };
    }

    /// Whether the removal of `path`, or of a directory it was in, was reported or may have been hidden by an
    /// overflow. Never true for the root.
    pub fn removed_by_event(&self, path: &RelPath) -> bool {
        self.removed.covers(path)
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: Dirty) {
        if self.is_empty() && self.removed == Removed::default() {
            *self = other;
            return;
        }
        self.root_entry |= other.root_entry;
        for (dir, look) in other.dirs {
            if let Some(all) = look.all {
                self.insert_all(&dir, all);
            }
            for (name, hint) in look.names {
                self.insert(&dir, &name, hint);
            }
        }
        self.removed.merge(other.removed);
    }

    /// Hands out everything and leaves nothing.
    #[must_use = "what is taken is no longer held"]
    pub fn take(&mut self) -> Dirty {
        std::mem::take(self)
    }

    /// The directories in path order, so a directory comes before those in it.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Look)> {
        self.dirs.iter()
    }

    /// What is to be compared in `dir` itself, not through one above it.
    pub fn get(&self, dir: &RelPath) -> Option<&Look> {
        self.dirs.get(dir)
    }

    /// Whether `name` of `dir` is to be compared: by itself, with its directory, or with a tree above it.
    pub fn covers(&self, dir: &RelPath, name: &Name) -> bool {
        let here = self.dirs.get(dir).is_some_and(|look| look.all.is_some() || look.names.contains_key(name));
        here || self.walks(dir)
    }

    /// What an event said of `name` of `dir`, or of too many names to keep apart.
    pub fn hint(&self, dir: &RelPath, name: &Name) -> Hint {
        let Some(look) = self.dirs.get(dir) else { return Hint::default() };
        let mut hint = look.names.get(name).copied().unwrap_or_default();
        if look.all.is_some_and(|all| all.content) {
            hint.add(Hint { content: true, by_event: true });
        }
        hint
    }

    /// Whether `dir` lies in a tree that is walked whole.
    fn walks(&self, dir: &RelPath) -> bool {
        let mut at = Some(dir.clone());
        while let Some(dir) = at {
            if self.dirs.get(&dir).is_some_and(|look| look.all.is_some_and(|all| all.recursive)) {
                return true;
            }
            at = dir.parent();
        }
        false
    }

    /// Gives what lies in or below the directory `old` the place it has after a rename to `new`.
    ///
    /// Paths that would become too long are left where they are: nothing is found there, and the renamed
    /// directory is listed anyway.
    pub fn rename(&mut self, old: &RelPath, new: &RelPath) {
        let moved: Vec<RelPath> = below(&self.dirs, old).collect();
        for dir in moved {
            let Some(target) = rebase(&dir, old, new) else { continue };
            let Some(look) = self.dirs.remove(&dir) else { continue };
            self.names -= look.names.len();
            if let Some(all) = look.all {
                self.insert_all(&target, all);
            }
            for (name, hint) in look.names {
                self.insert(&target, &name, hint);
            }
        }
    }

    /// Whether the whole tree is to be walked.
    pub fn is_whole(&self) -> bool {
        self.dirs.get(&[][..]).is_some_and(|root| root.all.is_some_and(|all| all.recursive))
    }

    fn bound_dirs(&mut self) {
        if self.dirs.len() <= DIRS_MAX || self.is_whole() {
            return;
        }
        self.dirs.entry(RelPath::root()).or_default().all.get_or_insert_default().recursive = true;
        // What the walk does by itself needs no place of its own; what only a hint says stays.
        for look in self.dirs.values_mut() {
            let before = look.names.len();
            look.names.retain(|_, hint| hint.content);
            self.names -= before - look.names.len();
        }
        self.dirs.retain(|dir, look| dir.is_root() || !look.names.is_empty() || look.all.is_some_and(|a| a.content));
    }
}

impl Hint {
    /// A listing led here.
    pub const LISTED: Hint = Hint { content: false, by_event: false };

    fn add(&mut self, other: Hint) {
        self.content |= other.content;
        self.by_event |= other.by_event;
    }
}

impl Removed {
    fn insert(&mut self, dir: &RelPath, name: &Name) {
        if self.everywhere {
            return;
        }
        let names = match self.dirs.get_mut(dir) {
            // A whole directory already.
            Some(names) if names.is_empty() => return,
            Some(names) => names,
            None => self.dirs.entry(dir.clone()).or_default(),
        };
        if names.insert(name.clone()) {
            self.names += 1;
        }
        if names.len() > NAMES_PER_DIR_MAX {
            self.names -= names.len();
            names.clear();
        }
        self.bound();
    }

    fn bound(&mut self) {
        if self.dirs.len() > DIRS_MAX || self.names > NAMES_MAX {
            *self = Removed { everywhere: true, ..Removed::default() };
        }
    }

    fn covers(&self, path: &RelPath) -> bool {
        let mut at = path.split();
        while let Some((dir, name)) = at {
            if self.everywhere || self.dirs.get(&dir).is_some_and(|names| names.is_empty() || names.contains(&name)) {
                return true;
            }
            at = dir.split();
        }
        false
    }

    fn merge(&mut self, other: Removed) {
        if other.everywhere {
            *self = other;
            return;
        }
        for (dir, names) in other.dirs {
            if names.is_empty() && !self.everywhere {
                let held = self.dirs.entry(dir).or_default();
                self.names -= held.len();
                held.clear();
                self.bound();
                continue;
            }
            for name in names {
                self.insert(&dir, &name);
            }
        }
    }
}

/// The keys of `map` that are `dir` or lie below it.
pub(crate) fn below<V>(map: &BTreeMap<RelPath, V>, dir: &RelPath) -> impl Iterator<Item = RelPath> {
    // In byte order a directory and what is below it are not neighbours: `a`, `a-b`, `a/b`. The slash and the
    // byte behind it bound what is below.
    let (from, to) = if dir.is_root() {
        (Bound::Unbounded, Bound::Unbounded)
    } else {
        let mut from = dir.as_bytes().to_vec();
        let mut to = from.clone();
        from.push(b'/');
        to.push(b'/' + 1);
        (Bound::Included(from), Bound::Excluded(to))
    };
    let itself = if dir.is_root() { None } else { map.get_key_value(dir).map(|(dir, _)| dir.clone()) };
    let range = (as_slice(&from), as_slice(&to));
    let rest: Vec<RelPath> = map.range::<[u8], _>(range).map(|(dir, _)| dir.clone()).collect();
    itself.into_iter().chain(rest)
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(bytes) => Bound::Included(bytes),
        Bound::Excluded(bytes) => Bound::Excluded(bytes),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// Where `path`, which is `old` or below it, lies after `old` became `new`; `None` where that is no path.
pub(crate) fn rebase(path: &RelPath, old: &RelPath, new: &RelPath) -> Option<RelPath> {
    let rest = path.as_bytes().strip_prefix(old.as_bytes())?;
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    let mut bytes = new.as_bytes().to_vec();
    if !bytes.is_empty() && !rest.is_empty() {
        bytes.push(b'/');
    }
    bytes.extend_from_slice(rest);
    RelPath::new(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTENT: Hint = Hint { content: true, by_event: true };

    fn path(s: &str) -> RelPath {
        RelPath::new(s.as_bytes()).unwrap()
    }

    fn name(s: &str) -> Name {
        Name::new(s.as_bytes()).unwrap()
    }

    #[test]
    fn too_many_names_become_their_directory_and_keep_their_hints() {
        let mut dirty = Dirty::new();
        for i in 0..NAMES_PER_DIR_MAX {
            dirty.insert(&path("d"), &name(&i.to_string()), CONTENT);
        }
        assert_eq!(dirty.get(&path("d")).unwrap().all, None);
        dirty.insert(&path("d"), &name("more"), Hint::LISTED);
        assert_eq!(dirty.get(&path("d")).unwrap().all, Some(All { recursive: false, content: false }));
        assert!(dirty.hint(&path("d"), &name("7")).content && !dirty.hint(&path("d"), &name("more")).content);
        assert!(dirty.covers(&path("d"), &name("never named")) && !dirty.covers(&path("d/e"), &name("x")));
    }

    #[test]
    fn too_many_names_in_all_become_their_directories_content() {
        let mut dirty = Dirty::new();
        for i in 0..=NAMES_MAX {
            dirty.insert(&path(&format!("d{}", i % 2)), &name(&i.to_string()), CONTENT);
        }
        assert!(dirty.len() <= NAMES_MAX);
        for i in 0..=NAMES_MAX {
            assert!(dirty.hint(&path(&format!("d{}", i % 2)), &name(&i.to_string())).content);
        }
    }

    #[test]
    fn too_many_directories_become_the_tree() {
        let mut dirty = Dirty::new();
        dirty.insert(&path("hot"), &name("f"), CONTENT);
        for i in 0..3 * DIRS_MAX {
            dirty.insert(&path(&format!("d{i}")), &name("f"), Hint { content: false, by_event: true });
        }
        assert!(dirty.len() <= 2 * DIRS_MAX + 2);
        assert!(dirty.covers(&path("any/where"), &name("f")));
        assert!(dirty.hint(&path("hot"), &name("f")).content);
    }

    #[test]
    fn a_directory_comes_before_what_is_in_it() {
        let mut dirty = Dirty::new();
        for dir in ["a/b", "a-", "a", ""] {
            dirty.insert_all(&path(dir), All::default());
        }
        let order: Vec<_> = dirty.iter().map(|(dir, _)| dir.clone()).collect();
        assert_eq!(order, ["", "a", "a-", "a/b"].map(path));
    }

    #[test]
    fn a_reported_removal_covers_what_was_below_and_survives_widening() {
        let mut dirty = Dirty::new();
        dirty.insert_removed(&path("a"), &name("b"));
        assert!(dirty.removed_by_event(&path("a/b/c")) && !dirty.removed_by_event(&path("a/c")));
        assert!(!dirty.removed_by_event(&RelPath::root()));
        for i in 0..=NAMES_PER_DIR_MAX {
            dirty.insert_removed(&path("many"), &name(&i.to_string()));
        }
        assert!(dirty.removed_by_event(&path("many/any")) && !dirty.removed_by_event(&path("many")));
        let mut other = Dirty::new();
        other.merge(dirty.clone());
        assert_eq!(other, dirty);
        for i in 0..=DIRS_MAX {
            dirty.insert_removed(&path(&format!("d{i}")), &name("f"));
        }
        assert!(dirty.removed_by_event(&path("d0/f")) && dirty.removed_by_event(&path("a/b")));
    }

    #[test]
    fn a_rename_moves_what_is_below_and_nothing_beside() {
        let mut dirty = Dirty::new();
        for dir in ["a", "a/x", "a-b", "ab"] {
            dirty.insert(&path(dir), &name("f"), CONTENT);
        }
        dirty.rename(&path("a"), &path("z/y"));
        let dirs: Vec<_> = dirty.iter().map(|(dir, _)| dir.clone()).collect();
        assert_eq!(dirs, ["a-b", "ab", "z/y", "z/y/x"].map(path));
        assert!(dirty.hint(&path("z/y/x"), &name("f")).content);
    }

    #[test]
    fn what_is_taken_is_gone() {
        let mut dirty = Dirty::everything();
        assert!(dirty.root_entry() && dirty.covers(&path("a"), &name("b")));
        assert!(!dirty.take().is_empty() && dirty.is_empty() && !dirty.root_entry());
    }

    proptest! {
        #[test]
        fn nothing_inserted_is_ever_lost(
            places in prop::collection::vec(("[ab]{1}(/[ab]){0,3}", "[a-d]", any::<bool>(), 0..6u8), 1..60),
            cut in 0..60usize,
        ) {
            let (mut dirty, mut other) = (Dirty::new(), Dirty::new());
            for (i, (dir, file, content, how)) in places.iter().enumerate() {
                let into = if i < cut { &mut dirty } else { &mut other };
                match how {
                    0 => into.insert_all(&path(dir), All { recursive: *content, content: false }),
                    1 => into.insert_removed(&path(dir), &name(file)),
                    _ => into.insert(&path(dir), &name(file), Hint { content: *content, by_event: true }),
                }
            }
            dirty.merge(other);
            for (dir, file, content, how) in &places {
                let (dir, file) = (path(dir), name(file));
                match how {
                    0 => prop_assert!(dirty.covers(&dir, &name("any"))),
                    1 => prop_assert!(dirty.removed_by_event(&dir.join(&file).unwrap())),
                    _ => {
                        prop_assert!(dirty.covers(&dir, &file));
                        prop_assert!(!content || dirty.hint(&dir, &file).content);
                    }
                }
            }
        }
    }
}
