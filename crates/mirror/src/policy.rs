//! Deciding by the operator's modes: what is done with a name, by which sides have it and how old they are.
//!
//! Pure. The default does everything, so that the destination becomes the source; each mode only leaves more alone.

use crate::plan::{self, Meeting};
use crate::source::Want;
use tree::{Kind, Stat};

/// Times that differ by less are the same to dirsync, whose rule `--ctime` is.
const CTIME_STEP_NS: i64 = 1_000_000;

/// What may be done to the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What only the source has is made.
    pub create: bool,
    /// What only the destination has is deleted.
    pub delete: bool,
    /// What is newer at the destination is not overwritten.
    pub keep_newer: bool,
    /// A file of the source is as new as its last change of anything, by its ctime.
    pub by_ctime: bool,
}

/// Why something that differs is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Left {
    /// The destination's is newer.
    Newer,
    /// Only the destination has it, and nothing is deleted.
    Extra,
    /// Only the source has it, and nothing is made.
    Missing,
    /// An extra directory in which something is that stays.
    HoldsExcluded,
}

/// What is to be done with a name that both sides have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Both {
    /// They are compared, and made equal.
    Compare,
    /// It stays as it is.
    Leave(Left),
    /// It would have to be emptied, and nothing may be deleted: that is a problem to tell.
    InTheWay,
}

impl Default for Policy {
    fn default() -> Self {
        Self { create: true, delete: true, keep_newer: false, by_ctime: false }
    }
}

impl Policy {
    /// A name that only the source has: why it is not made.
    pub fn new_entry(&self) -> Option<Left> {
        (!self.create).then_some(Left::Missing)
    }

    /// A name that only the destination has: why it is not deleted.
    pub fn extra(&self) -> Option<Left> {
        (!self.delete).then_some(Left::Extra)
    }

    /// How new a file, link or special file of the source is, in nanoseconds since the Unix epoch; `None` for what has no time.
    pub fn age_ns(&self, want: &Want) -> Option<i64> {
        let mtime_ns = want.mtime_ns()?;
        match want {
            Want::File(file) if self.by_ctime => Some(file.found.map_or(mtime_ns, |stat| mtime_ns.max(stat.ctime_ns))),
            _ => Some(mtime_ns),
        }
    }

    /// A name that both have, the source's as new as [`Policy::age_ns`] says. Directories are no content that could be newer, so their times decide nothing.
    pub fn both(&self, wanted: Kind, wanted_ns: i64, found: Kind, found_mtime_ns: i64) -> Both {
        let meeting = plan::meet(wanted, found);
        if self.keep_newer && meeting != Meeting::Dirs && found_mtime_ns > wanted_ns {
            return Both::Leave(Left::Newer);
        }
        match meeting {
            // As different things as these two are not the same name twice.
            Meeting::IntoDir | Meeting::FromDir if !self.create => Both::Leave(Left::Missing),
            Meeting::FromDir if !self.delete => Both::InTheWay,
            _ => Both::Compare,
        }
    }
}

/// Whether the source changed (content, mode or name) after what the destination's time says, by dirsync's rule.
pub fn is_changed_since(source: &Stat, dest: &Stat) -> bool {
    source.ctime_ns.saturating_sub(dest.mtime_ns) >= CTIME_STEP_NS
}

impl Left {
    /// The word for it in results.
    pub fn word(self) -> &'static str {
        match self {
            Left::Newer => "newer",
            Left::Extra => "extra",
            Left::Missing => "missing",
            Left::HoldsExcluded => "holds-excluded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 4] = [Kind::Dir, Kind::File, Kind::Link, Kind::Special];

    #[test]
    fn without_a_mode_everything_is_made_equal() {
        let policy = Policy::default();
        assert_eq!((policy.new_entry(), policy.extra()), (None, None));
        for (wanted, found) in KINDS.iter().flat_map(|a| KINDS.map(|b| (*a, b))) {
            assert_eq!(policy.both(wanted, 0, found, 9), Both::Compare);
        }
    }

    #[test]
    fn newer_is_by_any_nanosecond_and_says_nothing_of_directories() {
        let policy = Policy { keep_newer: true, ..Policy::default() };
        assert_eq!(policy.both(Kind::File, 5, Kind::File, 6), Both::Leave(Left::Newer));
        assert_eq!(policy.both(Kind::Dir, 5, Kind::File, 6), Both::Leave(Left::Newer));
        for (wanted, found, mtime_ns) in
            [(Kind::File, Kind::File, 5), (Kind::Link, Kind::File, 4), (Kind::Dir, Kind::Dir, 9)]
        {
            assert_eq!(policy.both(wanted, 5, found, mtime_ns), Both::Compare);
        }
    }

    #[test]
    fn where_nothing_is_deleted_no_directory_is_emptied() {
        let policy = Policy { delete: false, ..Policy::default() };
        assert_eq!(policy.extra(), Some(Left::Extra));
        assert_eq!(policy.both(Kind::File, 0, Kind::Dir, 0), Both::InTheWay);
        assert_eq!(policy.both(Kind::Dir, 0, Kind::File, 0), Both::Compare);
    }

    #[test]
    fn where_only_what_both_have_counts_nothing_is_made() {
        let policy = Policy { create: false, delete: false, ..Policy::default() };
        assert_eq!(policy.new_entry(), Some(Left::Missing));
        assert_eq!(policy.both(Kind::Dir, 0, Kind::File, 0), Both::Leave(Left::Missing));
        assert_eq!(policy.both(Kind::File, 0, Kind::Dir, 0), Both::Leave(Left::Missing));
        assert_eq!(policy.both(Kind::File, 0, Kind::Link, 0), Both::Compare);
    }
}
