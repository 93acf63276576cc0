//! Which times a destination keeps: how fine, and from when until when. A disk with whole seconds, or one whose years end in 2038, gives
//! back another time than it was given, and what is compared to the nanosecond would be set, or copied, anew for ever.

use std::sync::OnceLock;
use tree::Dir;
use tree::at::{TempNames, set_times, stat_of};

/// What file systems keep, in nanoseconds: all; NTFS and SMB; older networks; exFAT; ext4 with small inodes, ext3 and HFS+; FAT.
const GRAINS_NS: [i64; 7] = [1, 100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, COARSEST_NS];
/// No time that is kept differs by as much from the one that was set.
const COARSEST_NS: i64 = 2_000_000_000;
/// What every time but the finest is a multiple of.
const FINEST_COARSE_NS: i64 = GRAINS_NS[1];
/// An odd second, and the last nanosecond of it: each grain makes another time of it.
const PROBE_NS: i64 = 1_000_000_001_999_999_999;

/// Every disk keeps what lies between: those of FAT begin in 1980, those with seconds in 31 bits end on 19 January 2038. In nanoseconds, with
/// days to spare for who counts in local time.
const KEPT_EVERYWHERE_NS: std::ops::Range<i64> = 315_792_000_000_000_000..2_147_299_200_000_000_000;
/// Before and after what any disk keeps that does not keep all.
const FARTHEST_NS: [i64; 2] = [i64::MIN, i64::MAX];

/// The times one destination keeps, found out when it first matters.
#[derive(Debug, Default)]
pub(crate) struct Grain {
    grain_ns: OnceLock<i64>,
    /// The first and the last.
    range_ns: OnceLock<[i64; 2]>,
}

impl Grain {
    /// The time that `root`'s disk makes of `wanted_ns`, if that is `found_ns`; else `wanted_ns`.
    pub(crate) fn kept_ns(&self, root: &Dir, temps: &TempNames, wanted_ns: i64, found_ns: i64) -> i64 {
        let nearest_ns = self.nearest_ns(root, temps, wanted_ns, found_ns);
        if !may_be_kept(nearest_ns, found_ns) {
            return if nearest_ns == found_ns { nearest_ns } else { wanted_ns };
        }
        let grain_ns = *self.grain_ns.get_or_init(|| {
            // Who cannot find out compares exactly: at worst something equal is copied.
            probe(root, temps, [PROBE_NS]).map_or_else(unknown(1), |[read_ns]| grain_of(read_ns))
        });
        let kept_ns = round(nearest_ns, grain_ns);
        if kept_ns == found_ns { kept_ns } else { wanted_ns }
    }

    /// `wanted_ns`, or what a disk that has no such time takes instead, if `found_ns` can be that.
    fn nearest_ns(&self, root: &Dir, temps: &TempNames, wanted_ns: i64, found_ns: i64) -> i64 {
        let (early, late) = (wanted_ns < KEPT_EVERYWHERE_NS.start, wanted_ns >= KEPT_EVERYWHERE_NS.end);
        if !(early && found_ns > wanted_ns || late && found_ns < wanted_ns) {
            return wanted_ns;
        }
        let [first_ns, last_ns] =
            *self.range_ns.get_or_init(|| probe(root, temps, FARTHEST_NS).unwrap_or_else(unknown(FARTHEST_NS)));
        if early { wanted_ns.max(first_ns) } else { wanted_ns.min(last_ns) }
    }
}

/// Whether a coarse disk could have made the one of the other. Nearly never on one that is not.
fn may_be_kept(wanted_ns: i64, found_ns: i64) -> bool {
    let lost_ns = wanted_ns.saturating_sub(found_ns);
    lost_ns > 0 && lost_ns < COARSEST_NS && found_ns % FINEST_COARSE_NS == 0
}

/// Whether `kept_ns` stands for others that lie beyond what a disk keeps, so that two that are equal need not have been.
pub(crate) fn is_stand_in(wanted_ns: i64, kept_ns: i64) -> bool {
    wanted_ns.abs_diff(kept_ns) >= COARSEST_NS.unsigned_abs()
}

fn round(ns: i64, grain_ns: i64) -> i64 {
    ns.saturating_sub(ns.rem_euclid(grain_ns))
}

/// The finest grain that makes `read_ns` of [`PROBE_NS`]; a disk with another idea of time is compared exactly.
fn grain_of(read_ns: i64) -> i64 {
    GRAINS_NS.into_iter().find(|grain_ns| round(PROBE_NS, *grain_ns) == read_ns).unwrap_or(1)
}

/// Sets times of a temporary file, and reads each back. The directory's own time is put back.
fn probe<const N: usize>(root: &Dir, temps: &TempNames, times_ns: [i64; N]) -> Result<[i64; N], tree::fsx::Error> {
    let before = root.stat_self()?;
    let (name, file) = root.create_temp(temps)?;
    let path = root.path_of(&name);
    let mut read = Ok(times_ns);
    for (n, time_ns) in times_ns.into_iter().enumerate() {
        let now = set_times(&file, time_ns, &path).and_then(|()| stat_of(&file, &path));
        read = read.and_then(|mut read_ns| {
            read_ns[n] = now?.mtime_ns;
            Ok(read_ns)
        });
    }
    root.remove_file(&name)?;
    set_times(root, before.mtime_ns, root.path())?;
    read
}

/// What is taken where it could not be found out.
fn unknown<T>(instead: T) -> impl FnOnce(tree::fsx::Error) -> T {
    |e| {
        tracing::debug!("{e}");
        instead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grain_is_known_by_what_it_makes_of_one_time() {
        for grain_ns in GRAINS_NS {
            assert_eq!(grain_of(round(PROBE_NS, grain_ns)), grain_ns);
        }
        assert_eq!(grain_of(0), 1);
        assert_eq!(round(-1, 1_000_000_000), -1_000_000_000);
    }

    #[test]
    fn only_a_time_that_the_disk_would_make_of_the_other_is_taken_for_it() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, temps) = (Dir::open_root(scratch.path()).unwrap(), TempNames::new());
        let coarse = Grain { grain_ns: OnceLock::from(1_000_000_000), ..Grain::default() };
        let kept = |wanted_ns, found_ns| coarse.kept_ns(&root, &temps, wanted_ns, found_ns);
        assert_eq!(kept(5_000_000_001, 5_000_000_000), 5_000_000_000);
        for found_ns in [4_000_000_000, 6_000_000_000, 5_000_000_100, 3_000_000_000, 5_000_000_007] {
            assert_eq!(kept(5_000_000_001, found_ns), 5_000_000_001, "{found_ns}");
        }
    }

    #[test]
    fn a_disk_is_asked_once_and_nothing_is_left_of_it() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, temps) = (Dir::open_root(scratch.path()).unwrap(), TempNames::new());
        set_times(&root, 7, root.path()).unwrap();
        let grain = Grain::default();
        assert_eq!(grain.kept_ns(&root, &temps, 5, 4), 5);
        assert_eq!(grain.grain_ns.get(), None, "no coarse disk makes a 4 of a 5");
        grain.kept_ns(&root, &temps, 5_000_000_001, 5_000_000_000);
        assert!(grain.grain_ns.get().is_some());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_time_that_the_disk_has_not_is_taken_for_its_first_or_last_and_no_other_is() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, temps) = (Dir::open_root(scratch.path()).unwrap(), TempNames::new());
        let second_ns = 1_000_000_000;
        let [first_ns, last_ns] = [-2_147_483_648 * second_ns, 2_147_483_647 * second_ns];
        let small = Grain { grain_ns: OnceLock::from(second_ns), range_ns: OnceLock::from([first_ns, last_ns]) };
        let kept = |wanted_ns, found_ns| small.kept_ns(&root, &temps, wanted_ns, found_ns);
        for (wanted_ns, kept_ns) in [(i64::MAX, last_ns), (last_ns + 1, last_ns), (i64::MIN, first_ns), (7, 0)] {
            assert_eq!(kept(wanted_ns, kept_ns), kept_ns);
        }
        for (wanted_ns, other_ns) in [(last_ns, first_ns), (i64::MAX, last_ns - second_ns), (i64::MAX, 0), (1, last_ns)]
        {
            assert_eq!(kept(wanted_ns, other_ns), wanted_ns);
        }
        let unasked = Grain::default();
        assert_eq!(unasked.kept_ns(&root, &temps, 1_700_000_000 * second_ns, last_ns), 1_700_000_000 * second_ns);
        assert_eq!(unasked.range_ns.get(), None, "every disk has that one");
    }
}
