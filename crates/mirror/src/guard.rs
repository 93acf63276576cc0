//! What holds deletions back: a source that was emptied or is half gone, and a root that is no longer itself.
//!
//! Pure: it judges numbers and identities that others have read.

use std::collections::BTreeMap;
use tree::{RelPath, Stat};

/// Up to so many deletions found by listing need no permission, whatever their share.
pub const DELETES_FREE: u64 = 1_000;

/// What a pass found, by listing alone: removals the kernel reported are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The source's root was listed and has nothing in it.
    pub source_empty: bool,
    /// Entries the destination has.
    pub dest_entries: u64,
    /// What the operator permits, instead of [`DELETES_FREE`] and half.
    pub limit: Option<DeleteLimit>,
    /// Entries of it that would be deleted, those below deleted directories included.
    pub deletes: u64,
}

/// How many deletions an operator permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteLimit {
    /// So many entries.
    Entries(u64),
    /// So much of what the destination has, in percent.
    Percent(u64),
}

/// Deletions that were not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How many entries would go.
    pub deletes: u64,
    /// Of how many.
    pub dest_entries: u64,
    /// Why.
    pub why: HeldWhy,
}

/// Which rule held deletions back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldWhy {
    /// The source is empty while the destination is not.
    SourceEmpty,
    /// More than [`DELETES_FREE`] entries, and more than half of all.
    MoreThanHalf,
    /// More than the operator permits.
    Limit(DeleteLimit),
}

/// Whether the deletions of `tally` have to wait for permission.
pub fn hold(tally: &Tally) -> Option<Held> {
    let Tally { source_empty, dest_entries, limit, deletes } = *tally;
    let why = if deletes == 0 {
        return None;
    } else if source_empty {
        HeldWhy::SourceEmpty
    } else if let Some(limit) = limit {
        if !limit.is_passed(dest_entries, deletes) {
            return None;
        }
        HeldWhy::Limit(limit)
    } else if deletes > DELETES_FREE && deletes.saturating_mul(2) > dest_entries {
        HeldWhy::MoreThanHalf
    } else {
        return None;
    };
    Some(Held { deletes, dest_entries, why })
}

impl DeleteLimit {
    fn is_passed(self, dest_entries: u64, deletes: u64) -> bool {
        match self {
            DeleteLimit::Entries(most) => deletes > most,
            DeleteLimit::Percent(most) => deletes.saturating_mul(100) > dest_entries.saturating_mul(most),
        }
    }
}

impl std::fmt::Display for DeleteLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeleteLimit::Entries(most) => write!(f, "{most}"),
            DeleteLimit::Percent(most) => write!(f, "{most}%"),
        }
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Held { deletes, dest_entries, .. } = self;
        match self.why {
            HeldWhy::SourceEmpty => write!(
                f,
                "the source is empty (or all of it is left out), but the destination holds {deletes} entries"
            )?,
            HeldWhy::MoreThanHalf => write!(f, "{deletes} of the destination's {dest_entries} entries would go")?,
            HeldWhy::Limit(limit) => {
                write!(
                    f,
                    "{deletes} of the destination's {dest_entries} entries would go, and --max-delete is {limit}"
                )?;
                return f.write_str("; nothing of it was deleted. If that is what you want, raise it");
            }
        }
        f.write_str("; nothing of it was deleted. If that is what you want: --allow-mass-delete")
    }
}

/// What a tree was when it was first seen: its root, its file system, and which directories are mount points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Identifier of the root's file system; 0 where the system tells none.
    pub file_system: u64,
    /// Device and inode of the root.
    pub root: (u64, u64),
    /// Device and inode of each directory below it that something was mounted on.
    pub mounts: BTreeMap<RelPath, (u64, u64)>,
}

/// A tree that is not what was pinned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinBroken {
    /// The root is another directory, or gone.
    #[error("{}, so nothing is deleted", not_itself(path))]
    Root {
        /// The root, as the operator named it.
        path: String,
    },
    /// What was mounted there is not mounted any more, or something else is.
    #[error(
        "{0} was a mount point and is not what was mounted there, so nothing below it is touched; \
         mount it again, or start lockstep anew if that is what you want"
    )]
    Mount(RelPath),
    /// The same, and it was mounted there at an earlier run.
    #[error(
        "{0} was a mount point at the last run with this --state and is not what was mounted there, so nothing at or below \
         it is touched; mount it again, or run once with --allow-mass-delete if its copy is to go"
    )]
    Remembered(RelPath),
}

/// What to tell of a root that is another directory.
pub(crate) fn not_itself(path: &str) -> String {
    format!("{path} is not the directory it was (renamed, replaced or unmounted)")
}

/// Device and inode of no directory: what stands for a mount point of an earlier run that is not mounted.
const AWAY: (u64, u64) = (u64::MAX, u64::MAX);

impl Pin {
    /// Pins a root as it is now.
    pub fn new(file_system: u64, root: &Stat) -> Self {
        Self { file_system, root: root.id(), mounts: BTreeMap::new() }
    }

    /// Whether `now` is a pin of the very same directory, perhaps mounted anew: its file system may then have another
    /// device number.
    pub fn is_same_tree(&self, now: &Pin) -> bool {
        let named = self.file_system != 0 && self.root.1 == now.root.1;
        self.file_system == now.file_system && (named || self.root == now.root)
    }

    /// Whether the root is still itself. `now` is what its path leads to, `path` what to call it.
    ///
    /// # Errors
    /// When it is another directory, on another file system, or gone.
    pub fn check_root(&self, file_system: u64, now: Option<&Stat>, path: &str) -> Result<(), PinBroken> {
        match now {
            Some(now) if now.id() == self.root && file_system == self.file_system && now.nlink > 0 => Ok(()),
            _ => Err(PinBroken::Root { path: path.to_owned() }),
        }
    }

    /// Pins a mount point of an earlier run; `now` is what is mounted there if that is the same.
    pub fn recall(&mut self, path: &RelPath, now: Option<(u64, u64)>) {
        self.mounts.insert(path.clone(), now.unwrap_or(AWAY));
    }

    /// Whether `path` was mounted at an earlier run, and is not.
    pub fn is_away(&self, path: &RelPath) -> bool {
        self.mounts.get(path) == Some(&AWAY)
    }

    /// What to tell of the mount point `path`, which is not what it was.
    pub fn broken(&self, path: &RelPath) -> PinBroken {
        if self.is_away(path) { PinBroken::Remembered(path.clone()) } else { PinBroken::Mount(path.clone()) }
    }

    /// The mount points that `path` lies below or is, from the root on.
    pub fn mounts_above(&self, path: &RelPath) -> Vec<RelPath> {
        if self.mounts.is_empty() {
            return Vec::new();
        }
        let mut above: Vec<RelPath> = std::iter::successors(Some(path.clone()), RelPath::parent).collect();
        above.retain(|path| self.mounts.contains_key(path));
        above.reverse();
        above
    }

    /// Whether the directory `path`, whose metadata is `now`, may be believed; a mount point seen for the first time
    /// is pinned.
    ///
    /// # Errors
    /// When something else was mounted there before.
    pub fn check_dir(&mut self, path: &RelPath, now: &Stat) -> Result<(), PinBroken> {
        match self.mounts.get(path) {
            Some(pinned) if *pinned != now.id() => Err(self.broken(path)),
            None if now.mount_point => {
                self.mounts.insert(path.clone(), now.id());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::Kind;

    fn dir(dev: u64, ino: u64) -> Stat {
        Stat {
            kind: Kind::Dir,
            mode: 0o755,
            dev,
            ino,
            nlink: 2,
            uid: 0,
            gid: 0,
            size_bytes: 0,
            mtime_ns: 0,
            ctime_ns: 0,
            mount_point: false,
        }
    }

    fn held(source_empty: bool, dest_entries: u64, deletes: u64) -> Option<HeldWhy> {
        hold(&Tally { source_empty, dest_entries, limit: None, deletes }).map(|held| held.why)
    }

    #[test]
    fn few_deletions_are_done_whatever_their_share() {
        assert_eq!(held(false, 13, 10), None);
        assert_eq!(held(false, DELETES_FREE, DELETES_FREE), None);
    }

    #[test]
    fn an_emptied_source_deletes_nothing() {
        assert_eq!(held(true, 1, 1), Some(HeldWhy::SourceEmpty));
        assert_eq!(held(true, 0, 0), None);
    }

    #[test]
    fn more_than_a_thousand_and_more_than_half_is_held() {
        let n = DELETES_FREE + 1;
        assert_eq!(held(false, 2 * n, n), None, "exactly half");
        assert_eq!(held(false, 2 * n - 1, n), Some(HeldWhy::MoreThanHalf));
    }

    #[test]
    fn a_limit_of_the_operators_replaces_the_thousand_and_the_half_but_not_the_empty_source() {
        let held = |limit, source_empty, dest_entries, deletes| {
            hold(&Tally { source_empty, dest_entries, limit: Some(limit), deletes }).map(|held| held.why)
        };
        let (five, half) = (DeleteLimit::Entries(5), DeleteLimit::Percent(50));
        assert_eq!(held(five, false, 1_000, 5), None);
        assert_eq!(held(five, false, 1_000, 6), Some(HeldWhy::Limit(five)));
        assert_eq!(held(DeleteLimit::Entries(5_000), false, 5_000, 5_000), None);
        assert_eq!(held(half, false, 10, 5), None);
        assert_eq!(held(half, false, 10, 6), Some(HeldWhy::Limit(half)));
        assert_eq!(held(DeleteLimit::Entries(0), false, 10, 0), None);
        assert_eq!(held(five, true, 10, 1), Some(HeldWhy::SourceEmpty));
    }

    #[test]
    fn another_root_is_noticed() {
        let pin = Pin::new(7, &dir(1, 2));
        assert!(pin.check_root(7, Some(&dir(1, 2)), "s").is_ok());
        assert!(pin.check_root(7, Some(&dir(1, 3)), "s").is_err());
        assert!(pin.check_root(8, Some(&dir(1, 2)), "s").is_err());
        assert!(pin.check_root(7, None, "s").is_err());
        assert!(pin.check_root(7, Some(&Stat { nlink: 0, ..dir(1, 2) }), "s").is_err(), "removed, but still held");
    }

    #[test]
    fn a_file_system_that_is_mounted_again_is_known_by_its_id_not_by_its_device() {
        let pin = |id, dev, ino| Pin::new(id, &dir(dev, ino));
        assert!(pin(7, 1, 2).is_same_tree(&pin(7, 9, 2)));
        assert!(!pin(7, 1, 2).is_same_tree(&pin(8, 1, 2)) && !pin(7, 1, 2).is_same_tree(&pin(7, 1, 3)));
        assert!(pin(0, 1, 2).is_same_tree(&pin(0, 1, 2)));
        assert!(!pin(0, 1, 2).is_same_tree(&pin(0, 9, 2)), "without an id only the device tells");
    }

    #[test]
    fn an_unmounted_directory_is_noticed() {
        let path = RelPath::new(*b"m").unwrap();
        let mut pin = Pin::new(7, &dir(1, 2));
        let mounted = Stat { mount_point: true, ..dir(9, 2) };
        assert!(pin.check_dir(&path, &mounted).is_ok());
        assert!(pin.check_dir(&path, &mounted).is_ok());
        assert_eq!(pin.check_dir(&path, &dir(1, 5)), Err(PinBroken::Mount(path.clone())));
        pin.recall(&path, None);
        assert_eq!(pin.check_dir(&path, &mounted), Err(PinBroken::Remembered(path)));
    }
}
