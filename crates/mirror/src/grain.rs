//! How fine the times are that a destination keeps. A disk with whole seconds gives back another time than it was given, and
//! what is compared to the nanosecond would be set, or copied, anew for ever.

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

/// The grain of one destination, found out when it first matters.
#[derive(Debug, Default)]
pub(crate) struct Grain(OnceLock<i64>);

impl Grain {
    /// The time that `root`'s disk makes of `wanted_ns`, if that is `found_ns`; else `wanted_ns`.
    pub(crate) fn kept_ns(&self, root: &Dir, temps: &TempNames, wanted_ns: i64, found_ns: i64) -> i64 {
        if !may_be_kept(wanted_ns, found_ns) {
            return wanted_ns;
        }
        let grain_ns = *self.0.get_or_init(|| {
            // Who cannot find out compares exactly: at worst something equal is copied.
            probe(root, temps).unwrap_or_else(|e| {
                tracing::debug!("{e}");
                1
            })
        });
        let kept_ns = round(wanted_ns, grain_ns);
        if kept_ns == found_ns { kept_ns } else { wanted_ns }
    }
}

/// Whether a coarse disk could have made the one of the other. Nearly never on one that is not.
fn may_be_kept(wanted_ns: i64, found_ns: i64) -> bool {
    let lost_ns = wanted_ns.saturating_sub(found_ns);
    lost_ns > 0 && lost_ns < COARSEST_NS && found_ns % FINEST_COARSE_NS == 0
}

fn round(ns: i64, grain_ns: i64) -> i64 {
    ns.saturating_sub(ns.rem_euclid(grain_ns))
}

/// The finest grain that makes `read_ns` of [`PROBE_NS`]; a disk with another idea of time is compared exactly.
fn grain_of(read_ns: i64) -> i64 {
    GRAINS_NS.into_iter().find(|grain_ns| round(PROBE_NS, *grain_ns) == read_ns).unwrap_or(1)
}

/// Sets the time of a temporary file, and reads it back. The directory's own time is put back.
fn probe(root: &Dir, temps: &TempNames) -> Result<i64, tree::fsx::Error> {
    let before = root.stat_self()?;
    let (name, file) = root.create_temp(temps)?;
    let path = root.path_of(&name);
    let read = set_times(&file, PROBE_NS, &path).and_then(|()| stat_of(&file, &path));
    root.remove_file(&name)?;
    set_times(root, before.mtime_ns, root.path())?;
    Ok(grain_of(read?.mtime_ns))
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
        let coarse = Grain(OnceLock::from(1_000_000_000));
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
        assert_eq!(grain.0.get(), None, "no coarse disk makes a 4 of a 5");
        grain.kept_ns(&root, &temps, 5_000_000_001, 5_000_000_000);
        assert!(grain.0.get().is_some());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
