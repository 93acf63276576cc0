//! What must not be taken for the share: another directory in its place, another file system mounted in it or none any
//! more, and what is the hub's own.
//!
//! The pins are kept with the index. While they differ the index keeps the old ones, so that neither the next look nor a
//! restart forgets. Of a directory in which something else is mounted nothing is removed; where the root is another, nothing
//! of it goes out at all: files of the same names in it are no newer versions of those that were shared.

use super::round::is_dir;
use super::{Concern, ScanError, Scanner};
use crate::share::facts::Facts;
use board::Record;
use std::path::Path;
use tree::at::{Dir, Stat};
use tree::fsx;
use tree::listing::Listing;
use tree::path::escape;
use tree::{Entry, RelPath};

impl Scanner {
    /// A directory's own mode and times change with what is in it, and no event names it for that.
    pub(super) fn look_at_dir_itself(&mut self, held: &Dir, dir: &RelPath) -> Result<(), ScanError> {
        let stat = held.stat_self()?;
        let record = self.known(dir);
        let facts = if dir.is_root() { root_facts(held, &stat)? } else { dir_facts(held, &stat)? };
        if !dir.is_root() && (!is_dir(record.as_ref()) || self.mount_differs(record.as_ref(), &facts)) {
            // Not an entry yet: its parent's listing will say what it is.
            return Ok(());
        }
        let entry = Entry::Dir { mode: stat.kept_mode(), mtime_ns: stat.mtime_ns };
        self.put(dir.clone(), &entry, facts, record)
    }

    /// Why nothing of the root goes out, where it is another directory than the one that the index was made from.
    pub(super) fn another_root(&mut self) -> Option<String> {
        if self.removals.root_is_accepted() {
            return None;
        }
        let pinned = self.known(&RelPath::root()).and_then(|r| Facts::from_bytes(&r.aside))?;
        let path = escape(self.path.as_os_str().as_encoded_bytes());
        let now = match self.root.stat_self().and_then(|stat| root_facts(&self.root, &stat)) {
            Ok(now) => now,
            Err(e) => return Some(format!("whether it is the directory that was shared before is not known: {e}")),
        };
        if pinned.same_directory(&now) || now.follows(&pinned) {
            return None;
        }
        let holds = match Listing::read(&self.root, &mut self.list).map(|listing| listing.0.len()) {
            Ok(0) => "is empty".to_owned(),
            Ok(1) => "holds 1 entry".to_owned(),
            Ok(many) => format!("holds {many} entries"),
            Err(_) => "cannot be listed".to_owned(),
        };
        Some(if pinned.place().0 == now.place().0 {
            format!("{path} is not the directory that was shared before: it is another one, and {holds}")
        } else {
            format!(
                "{path} is not the directory that was shared before: it is on another file system, and {holds}; if its disk is \
                 not mounted, mount it and restart the hub"
            )
        })
    }

    /// Whether something else is mounted on this directory than the index says, or nothing any more.
    pub(super) fn mount_differs(&self, record: Option<&Record>, now: &Facts) -> bool {
        let was = record.and_then(|r| Facts::from_bytes(&r.aside));
        was.is_some_and(|was| was.mount_point() != now.mount_point() || was.mount_point() && !was.same_directory(now))
            && !self.removals.root_is_accepted()
    }

    /// Shields what lies below `dir` if something else is mounted on it than the index says.
    pub(super) fn shield_mount(&mut self, dir: &RelPath, held: &Dir) {
        let now = held.stat_self().and_then(|stat| dir_facts(held, &stat));
        if !dir.is_root() && now.is_ok_and(|now| self.mount_differs(self.known(dir).as_ref(), &now)) {
            self.shield(dir.clone());
        }
    }

    /// The same for the mount points that `dir` lies in: an event below them is looked at without them.
    pub(super) fn shield_mounts_above(&mut self, dir: &RelPath) {
        let mut above = dir.parent();
        while let Some(at) = above.filter(|at| !at.is_root()) {
            let pinned = self.known(&at).and_then(|r| Facts::from_bytes(&r.aside)).is_some_and(|f| f.mount_point());
            if pinned {
                match self.root.walk(&at) {
                    Ok(held) => self.shield_mount(&at, &held),
                    Err(_) => self.shield(at.clone()),
                }
            }
            above = at.parent();
        }
    }

    pub(super) fn shield(&mut self, path: RelPath) {
        let why = "what is mounted here is not what was; nothing below is deleted";
        self.problems.insert(path.clone(), Concern::Unread(why.into()));
        self.removals.shield(path);
    }

    /// Whether `dir` is something of ours, or lies in it.
    pub(super) fn is_ours(&self, dir: &RelPath) -> bool {
        self.ours_at.iter().any(|ours| dir.starts_with(ours))
    }
}

/// The root is pinned by its file system's own id, which stays when devices are numbered anew at a boot.
pub(super) fn root_facts(root: &Dir, stat: &Stat) -> Result<Facts, fsx::Error> {
    Ok(Facts::of_root(&Stat { dev: root.file_system_id()?, ..*stat }, root.fleeting_kind()?))
}

/// A directory's facts; where something is mounted it is pinned as the root is.
pub(super) fn dir_facts(dir: &Dir, stat: &Stat) -> Result<Facts, fsx::Error> {
    if stat.mount_point { root_facts(dir, stat) } else { Ok(Facts::of(stat)) }
}

/// Device and inode, by which our own files are known under whatever name.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}
