//! What a mirror may do, and how: the flags of its modes.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use mirror::mirror::THREADS_MAX;
use mirror::{DeleteLimit, Policy, Writing};

use crate::args::{parse_duration, parse_rate};

const LEAVING: &str = "Leaving things alone";
const SURE: &str = "Being sure, and gentle";

/// How to mirror.
#[derive(Debug, clap::Args)]
pub(super) struct Modes {
    /// Deletes nothing
    #[arg(long, help_heading = LEAVING)]
    no_delete: bool,

    /// Only makes equal what both sides have: makes nothing and deletes nothing
    #[arg(long, help_heading = LEAVING, conflicts_with_all = ["delete_excluded", "allow_mass_delete", "max_delete"])]
    existing: bool,

    /// Leaves files and links alone that are newer at the destination
    #[arg(long, help_heading = LEAVING)]
    update: bool,

    /// Moves what would be overwritten or deleted into DIR, under its path; DIR may be in DST, not in SRC
    #[arg(long, value_name = "DIR", help_heading = LEAVING)]
    pub(super) backup_dir: Option<PathBuf>,

    /// Deletes nothing, and exits with 4, when more than N entries, or P% of them, would go
    #[arg(long, value_name = "N|P%", value_parser = limit, help_heading = LEAVING,
        conflicts_with_all = ["allow_mass_delete", "no_delete"])]
    pub(super) max_delete: Option<DeleteLimit>,

    /// Copies again what changed in any way (mode, name) after the time the destination's has, as dirsync does
    #[arg(long, help_heading = SURE)]
    pub(super) ctime: bool,

    /// Keeps in FILE what each file's inode and ctime were, so that the next run also finds changes that left size and
    /// time as they were
    #[arg(long, value_name = "FILE", conflicts_with_all = ["watch", "diff"], help_heading = SURE)]
    pub(super) state: Option<PathBuf>,

    /// Reads each content back and compares it before it gets its name
    #[arg(long, help_heading = SURE)]
    verify: bool,

    /// Has each file reach the disk before it gets its name, and each directory before the pass ends
    #[arg(long, help_heading = SURE)]
    fsync: bool,

    /// Writes no more than so much a second: 10M, 1.5MiB/s
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = SURE)]
    bwlimit: Option<std::num::NonZeroU64>,

    /// Works with N threads; with 1, in the order of the paths [default: as many as there are processors, up to 8]
    #[arg(long, value_name = "N", value_parser = threads, help_heading = SURE)]
    pub(super) threads: Option<NonZeroUsize>,

    /// With --watch: how often everything is compared again, whatever was reported [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = interval, requires = "watch", help_heading = SURE)]
    pub(super) interval: Option<Duration>,
}

impl Modes {
    /// What may be done at all.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            create: !self.existing,
            delete: !(self.existing || self.no_delete),
            keep_newer: self.update,
            by_ctime: self.ctime,
        }
    }

    /// How content is written.
    pub(super) fn writing(&self) -> Writing {
        Writing { verify: self.verify, fsync: self.fsync, bytes_per_s: self.bwlimit }
    }
}

fn limit(text: &str) -> Result<DeleteLimit, String> {
    let wrong = || "a number of entries (100) or a share of them (10%)".to_owned();
    match text.strip_suffix('%') {
        Some(share) => match share.trim().parse() {
            Ok(share @ 0..=100) => Ok(DeleteLimit::Percent(share)),
            _ => Err(wrong()),
        },
        None => text.parse().map(DeleteLimit::Entries).map_err(|_| wrong()),
    }
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    match text.parse() {
        Ok(threads) if threads <= THREADS_MAX => Ok(threads),
        _ => Err(format!("a number from 1 to {THREADS_MAX}")),
    }
}

/// Comparing everything takes a while by itself; more often than this nothing else would be done.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

fn interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        span if span < INTERVAL_MIN => Err("at least 1s".into()),
        span => Ok(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_some_and_not_too_many() {
        assert_eq!(threads("1"), Ok(NonZeroUsize::MIN));
        assert_eq!(threads(&THREADS_MAX.to_string()), Ok(THREADS_MAX));
        for wrong in ["0", "-1", "x", &(THREADS_MAX.get() + 1).to_string()] {
            assert!(threads(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_a_number_or_a_share() {
        assert_eq!(limit("0"), Ok(DeleteLimit::Entries(0)));
        assert_eq!(limit("15%"), Ok(DeleteLimit::Percent(15)));
        for wrong in ["", "-1", "1.5", "101%", "%", "ten"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
