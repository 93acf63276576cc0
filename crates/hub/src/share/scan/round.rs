//! What a round of looking comes to: what is put, what goes, and the commit of both at once.

use super::{ScanError, Scanner};
use crate::share::facts::Facts;
use crate::share::guard::Held;
use board::{Name as Key, Record, Write};
use bytes::Bytes;
use std::ops::Bound;
use std::sync::atomic::Ordering;
use tree::at::Dir;
use tree::{Entry, Kind, Name, RelPath};

/// Entries of one commit: small enough that the first clients get something early, large enough to cost nothing.
const COMMIT_ENTRIES: usize = 512;

impl Scanner {
    pub(super) fn put(
        &mut self,
        path: RelPath,
        entry: &Entry,
        facts: Facts,
        record: Option<Record>,
    ) -> Result<(), ScanError> {
        self.put_with(path, entry, Some(facts), record)
    }

    pub(super) fn put_with(
        &mut self,
        path: RelPath,
        entry: &Entry,
        facts: Option<Facts>,
        record: Option<Record>,
    ) -> Result<(), ScanError> {
        let name = Key::copy_from_slice(path.as_bytes());
        let aside = Bytes::from(facts.map(Facts::to_bytes).unwrap_or_default());
        let value = Bytes::from(entry.to_bytes());
        self.removals.keep(&path);
        self.passed_over.remove(&path);
        if !self.unlisted.contains(&path) {
            self.problems.remove(&path);
        }
        match record {
            Some(r) if r.value.as_ref() == Some(&value) => {
                if r.aside != aside {
                    self.round.insert(name.clone(), Write::Aside { name, aside });
                }
            }
            _ => {
                self.round.insert(name.clone(), Write::Put { name, value, aside });
            }
        }
        if self.round.len() >= COMMIT_ENTRIES && !self.uncut { self.commit() } else { Ok(()) }
    }

    /// Tells that something stands at `path` of which nothing is known, unless the index knows it from before.
    pub(super) fn put_unknown(&mut self, path: &RelPath) -> Result<(), ScanError> {
        if path.is_root() || self.known(path).is_some() || self.unknown_above(path).is_some() {
            return Ok(());
        }
        let name = Key::copy_from_slice(path.as_bytes());
        let value = Bytes::from(Entry::Unknown.to_bytes());
        self.round.insert(name.clone(), Write::Put { name, value, aside: Bytes::new() });
        if self.round.len() >= COMMIT_ENTRIES && !self.uncut { self.commit() } else { Ok(()) }
    }

    /// Something is there that cannot be put now. Should the first scan end before it can be, that is told.
    pub(super) fn pass_over(&mut self, path: &RelPath) {
        if !self.board.complete() {
            self.passed_over.insert(path.clone());
        }
    }

    /// What is told as unknown and `path` is or lies below.
    pub(super) fn unknown_above(&self, path: &RelPath) -> Option<RelPath> {
        std::iter::successors(Some(path.clone()), RelPath::parent)
            .find(|path| self.known(path).as_ref().and_then(entry_of) == Some(Entry::Unknown))
    }

    /// Marks an entry, and all below it, for removal.
    pub(super) fn gone(&mut self, path: &RelPath, by_event: bool) {
        self.problems.remove(path);
        self.restless.remove(path);
        self.unlisted.remove(path);
        if let Some(record) = self.known(path) {
            self.removals.add(path.clone(), by_event);
            // What was mounted went away with the directory that it was mounted on, as a stick's does.
            let mounted = Facts::from_bytes(&record.aside).is_some_and(|facts| facts.mount_point());
            if mounted && !self.removals.root_is_accepted() {
                self.removals.shield(path.clone());
            }
        }
        self.gone_below(path, by_event);
    }

    /// A directory is a file or a link now: what was in it goes in the same commit.
    pub(super) fn became_something_else(&mut self, path: &RelPath) {
        self.uncut = true;
        self.gone_below(path, true);
    }

    pub(super) fn gone_below(&mut self, path: &RelPath, by_event: bool) {
        let mut prefix = path.as_bytes().to_vec();
        if !path.is_root() {
            prefix.push(b'/');
        }
        self.passed_over.retain(|passed| passed == path || !passed.starts_with(path));
        // What could not be read there is no problem any more.
        let end: Vec<u8> = [path.as_bytes(), b"0"].concat();
        let bounds = (Bound::Included(&prefix[..]), Bound::Excluded(&end[..]));
        if !path.is_root() && !self.problems.is_empty() {
            let gone: Vec<RelPath> = self.problems.range::<[u8], _>(bounds).map(|(path, _)| path.clone()).collect();
            for path in gone {
                self.problems.remove(&path);
                self.unlisted.remove(&path);
            }
        }
        let below: Vec<Key> = self.board.read(|index| {
            let names = index.iter_from(&prefix).take_while(|r| r.name.starts_with(&prefix));
            names.filter(|r| !r.name.is_empty()).map(|r| r.name.clone()).collect()
        });
        for name in below {
            if let Ok(path) = RelPath::new(name.to_vec()) {
                self.removals.add(path, by_event);
            }
        }
    }

    /// Lets the removals pass that may, and holds the others.
    pub(super) fn settle_removals(&mut self, allow: bool) -> Result<Option<Held>, ScanError> {
        if self.removals.is_empty() {
            return Ok(None);
        }
        let here = Dir::open_root(&self.path).and_then(|now| now.stat_self()).map(|s| s.id());
        let in_place = here.is_ok_and(|id| self.root.stat_self().is_ok_and(|root| root.id() == id));
        // What was renamed while nobody looked is not gone: it came under its new name in this very round.
        let is_new = |write: &&Write| matches!(write, Write::Put { name, .. } if self.board.get(name).is_none_or(|r| r.value.is_none()));
        let entries = self.board.len() + self.round.values().filter(is_new).count();
        let (go, held) = self.removals.decide(entries, in_place, allow, &self.path);
        for path in go {
            let name = Key::copy_from_slice(path.as_bytes());
            // Put in the same round: it is back already.
            if !matches!(self.round.get(&name), Some(Write::Put { .. })) {
                self.round.insert(name.clone(), Write::Remove { name });
            }
        }
        Ok(held)
    }

    /// Commits what has gathered; puts and removals of one round go out together, so a client finds what moved.
    pub(super) fn commit(&mut self) -> Result<(), ScanError> {
        if self.round.is_empty() {
            return Ok(());
        }
        let writes: Vec<Write> = std::mem::take(&mut self.round).into_values().collect();
        let mut head = self.writer.next_seq() - 1;
        let mut root = self.root_hash;
        let mut changes = Vec::with_capacity(writes.len());
        for write in &writes {
            let (name, new) = match write {
                Write::Put { name, value, .. } => (name, Some(value.clone())),
                Write::Remove { name } => (name, None),
                Write::Aside { .. } => continue,
            };
            let old = self.board.get(name).and_then(|r| r.value);
            if old.is_none() && new.is_none() {
                continue;
            }
            head += 1;
            let Ok(path) = RelPath::new(name.to_vec()) else { continue };
            if let Some(old) = &old {
                root.remove(&path, old);
            }
            if let Some(new) = &new {
                root.add(&path, new);
            }
            let content = |value: &Option<Bytes>| value.as_ref().and_then(|value| content_of(value));
            changes.push((name.clone(), content(&old), content(&new)));
        }
        // Before the head is seen, so that whoever sees it finds its root, and its contents.
        if !changes.is_empty() {
            self.roots.note(head, root);
        }
        for (name, _, new) in &changes {
            if let Some((content, _)) = new {
                self.contents.add(name, content);
            }
        }
        let names: Vec<Key> = writes.iter().map(|write| name_of(write).clone()).collect();
        let dirs_before: Vec<Record> =
            names.iter().filter_map(|name| self.board.get(name)).filter(|record| is_dir(Some(record))).collect();
        self.writer.commit(writes)?;
        // And after it, what is no more: had the commit failed, all would be as before.
        self.root_hash = root;
        dirs_before.iter().for_each(|record| self.dirs.forget(record));
        names.iter().filter_map(|name| self.board.get(name)).for_each(|record| self.dirs.note(&record));
        let mut bytes = self.counts.bytes.load(Ordering::Relaxed);
        for (name, old, new) in &changes {
            bytes = bytes.saturating_sub(old.map_or(0, |o| o.1)) + new.map_or(0, |n| n.1);
            if let Some((content, _)) = old.filter(|old| new.is_none_or(|new| new.0 != old.0)) {
                self.contents.remove(name, &content);
            }
        }
        self.counts.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// What the index says, or is about to say.
    pub(super) fn known(&self, path: &RelPath) -> Option<Record> {
        self.board.get(path.as_bytes()).filter(|r| r.value.is_some())
    }

    /// The names that the index has directly in `dir`, sorted.
    pub(super) fn children(&self, dir: &RelPath) -> Vec<Name> {
        let mut prefix = dir.as_bytes().to_vec();
        if !dir.is_root() {
            prefix.push(b'/');
        }
        self.board.read(|index| {
            let mut names = Vec::new();
            let mut from = prefix.clone();
            'seek: loop {
                for record in index.iter_from(&from) {
                    let Some(rest) = record.name.strip_prefix(&*prefix) else { break 'seek };
                    if rest.is_empty() {
                        continue;
                    }
                    match rest.iter().position(|b| *b == b'/') {
                        None => names.extend(Name::new(rest).ok()),
                        // Inside a child: jump behind all of it ('0' follows '/').
                        Some(slash) => {
                            from = [&prefix, &rest[..slash], b"0"].concat();
                            continue 'seek;
                        }
                    }
                }
                break;
            }
            names
        })
    }
}

fn name_of(write: &Write) -> &Key {
    let (Write::Put { name, .. } | Write::Remove { name } | Write::Aside { name, .. }) = write;
    name
}

pub(super) fn is_dir(record: Option<&Record>) -> bool {
    record.and_then(entry_of).is_some_and(|entry| entry.kind() == Some(Kind::Dir))
}

pub(super) fn entry_of(record: &Record) -> Option<Entry> {
    Entry::decode(record.value.as_ref()?).ok()
}

pub(super) fn content_of(value: &[u8]) -> Option<([u8; 32], u64)> {
    Entry::decode(value).ok()?.content().map(|(id, size)| (id.0, size))
}
