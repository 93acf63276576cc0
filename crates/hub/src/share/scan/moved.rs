//! Directories that were renamed: what is below them was hashed under another name, and is not read again.
//!
//! A rename leaves the files below as they are, down to their change time. So a file that is, in all of its [`Facts`],
//! what the index knows at the directory's former name has the content that the index says. One that changed lately is
//! read all the same: the event that named its content may still have borne the old name.

use super::Scanner;
use super::round::{content_of, is_dir};
use crate::clock;
use crate::share::facts::Facts;
use board::{Name as Key, Record};
use mirror::dirty::Dirty;
use std::collections::HashMap;
use tree::{Name, RelPath};

/// By then every event of a change was acted upon: the longest that one is held back while it settles, and as much again.
const CHANGED_BEFORE_NS: i64 = 2_000_000_000;

/// The names of the index's directories, by device and inode.
#[derive(Debug, Default)]
pub(super) struct Dirs(HashMap<(u64, u64), Key>);

impl Dirs {
    /// Takes in what the index says of a name now.
    pub(super) fn note(&mut self, record: &Record) {
        if let Some(place) = dir_place(record) {
            self.0.insert(place, record.name.clone());
        }
    }

    /// Forgets what it said before.
    pub(super) fn forget(&mut self, record: &Record) {
        if let Some(place) = dir_place(record).filter(|place| self.0.get(place) == Some(&record.name)) {
            self.0.remove(&place);
        }
    }
}

impl Scanner {
    /// A directory that is new to the index, under this name: it may have another there.
    pub(super) fn note_move(&mut self, path: &RelPath, facts: &Facts) {
        let was = self.dirs.0.get(&facts.place()).and_then(|name| RelPath::new(name.to_vec()).ok());
        if let Some(was) = was.filter(|was| was != path) {
            self.moved.insert(path.clone(), was);
        }
    }

    /// Content and length of a file, if the index knows it under the name that it had before its directory was renamed.
    pub(super) fn content_before_move(
        &self,
        (dir, name): (&RelPath, &Name),
        facts: &Facts,
        dirty: &Dirty,
    ) -> Option<([u8; 32], u64)> {
        let was = self.moved.get(dir)?.join(name).ok()?;
        let named = dirty.get(dir).and_then(|look| look.names.get(name)).is_some_and(|hint| hint.content);
        let age_ns = clock::file_ns().saturating_sub(facts.ctime_ns());
        if named || age_ns < CHANGED_BEFORE_NS {
            return None;
        }
        let record = self.known(&was).filter(|record| Facts::from_bytes(&record.aside) == Some(*facts))?;
        content_of(record.value.as_ref()?)
    }
}

fn dir_place(record: &Record) -> Option<(u64, u64)> {
    Facts::from_bytes(&record.aside).filter(|_| is_dir(Some(record))).map(|facts| facts.place())
}
