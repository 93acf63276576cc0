//! Metadata: read as one value, written through descriptors.

use crate::Kind;
use crate::entry::MODE_MASK;
use crate::fsx::Error;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Mode, Statx, StatxAttributes, StatxFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::path::Path;

const NS_PER_S: i64 = 1_000_000_000;

/// What a disk says about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, set-id bits included; see [`Stat::kept_mode`].
    pub mode: u32,
    /// Device of the file system it is on.
    pub dev: u64,
    /// Inode number there.
    pub ino: u64,
    /// How many names it has.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Last modification, nanoseconds since the Unix epoch; one before 1677 or after 2262 is the nearest that fits, see
    /// [`is_beyond`].
    pub mtime_ns: i64,
    /// Last change of content or metadata, nanoseconds since the Unix epoch; nobody can set it.
    pub ctime_ns: i64,
    /// Whether something is mounted here. False too where the kernel does not say (before Linux 5.8).
    pub mount_point: bool,
}

impl Stat {
    /// The permission bits a mirror keeps ([`MODE_MASK`]).
    pub fn kept_mode(&self) -> u32 {
        self.mode & MODE_MASK
    }

    /// Device and inode: what stays the same however it is renamed.
    pub fn id(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// Whether `now` is the very thing `self` was, not changed since: for a directory the same inode, for anything
    /// else also no change of content or metadata.
    pub fn is_unchanged(&self, now: &Stat) -> bool {
        self.id() == now.id()
            && self.kind == now.kind
            && (self.kind == Kind::Dir
                || (self.size_bytes == now.size_bytes
                    && self.mtime_ns == now.mtime_ns
                    && self.ctime_ns == now.ctime_ns))
    }

    /// Like [`Stat::is_unchanged`], for a copy that is about to be replaced or deleted: where it has several names, one of
    /// the others may have gone meanwhile, which is no change of this one.
    pub fn is_still(&self, now: &Stat) -> bool {
        let now = Stat { ctime_ns: if self.nlink > 1 { self.ctime_ns } else { now.ctime_ns }, ..*now };
        self.is_unchanged(&now)
    }

    pub(super) fn read(fd: impl AsFd, name: &[u8]) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        match rustix::fs::statx(&fd, name, flags, StatxFlags::BASIC_STATS) {
            Ok(stat) => Ok(Self::from_statx(&stat)),
            // A kernel or a seccomp profile that does not know statx.
            Err(Errno::NOSYS) => {
                let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
                rustix::fs::statat(&fd, name, flags).map(|stat| Self::from_stat(&stat))
            }
            Err(errno) => Err(errno),
        }
    }

    fn from_statx(stat: &Statx) -> Self {
        let mode = u32::from(stat.stx_mode);
        Self {
            kind: kind_of(FileType::from_raw_mode(mode)),
            mode: mode & 0o7777,
            dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            nlink: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size_bytes: stat.stx_size,
            mtime_ns: join_ns(stat.stx_mtime.tv_sec, i64::from(stat.stx_mtime.tv_nsec)),
            ctime_ns: join_ns(stat.stx_ctime.tv_sec, i64::from(stat.stx_ctime.tv_nsec)),
            mount_point: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::unnecessary_cast,
        reason = "the widths of these fields differ between architectures, their values fit on all"
    )]
    fn from_stat(stat: &rustix::fs::Stat) -> Self {
        Self {
            kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
            mode: stat.st_mode & 0o7777,
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            nlink: stat.st_nlink as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size_bytes: stat.st_size as u64,
            mtime_ns: join_ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime_ns: join_ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            mount_point: false,
        }
    }
}

/// What an open descriptor stands for now; `path` is for the error.
///
/// # Errors
/// When the system refuses, as a dead network file system does.
pub fn stat_of(fd: impl AsFd, path: &Path) -> Result<Stat, Error> {
    Stat::read(fd, b"").map_err(|e| Error::new("read the metadata of", path, e))
}

/// Returns once the kernel has ended what it was doing to the file when this was called: a truncation shows before it is
/// reported to watches, and only what is reported can be asked for.
///
/// On file systems that do not lock a file for it (XFS) reading it has waited already.
pub fn let_changes_finish(fd: impl AsFd) {
    // Looking for data takes the file's lock. There is none so far out, so the position stays where it is.
    let _ = rustix::fs::seek(fd, rustix::fs::SeekFrom::Data(i64::MAX.unsigned_abs()));
}

/// Sets the permission bits through a descriptor.
///
/// # Errors
/// When it is not ours, or the file system is read-only.
pub fn set_mode(fd: impl AsFd, mode: u32, path: &Path) -> Result<(), Error> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(mode & 0o7777)).map_err(|e| Error::new("set the mode of", path, e))
}

/// Sets the time of last modification through a descriptor; that of last access stays.
///
/// # Errors
/// When it is not ours, or the file system is read-only.
pub fn set_times(fd: impl AsFd, mtime_ns: i64, path: &Path) -> Result<(), Error> {
    rustix::fs::futimens(fd, &timestamps(mtime_ns)).map_err(|e| Error::new("set the time of", path, e))
}

pub(super) fn timestamps(mtime_ns: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime_ns.div_euclid(NS_PER_S), tv_nsec: mtime_ns.rem_euclid(NS_PER_S) },
    }
}

pub(super) fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::Directory => Kind::Dir,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    }
}

/// Whether a time stands for all that lie beyond it, so that two that are equal need not have been: see [`Stat::mtime_ns`].
pub fn is_beyond(ns: i64) -> bool {
    ns == i64::MIN || ns == i64::MAX
}

/// Times outside 1677 to 2262 do not fit and are moved to the nearest that does.
fn join_ns(s: i64, ns: i64) -> i64 {
    let nearest = if s < 0 { i64::MIN } else { i64::MAX };
    s.checked_mul(NS_PER_S).and_then(|whole| whole.checked_add(ns)).unwrap_or(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_does_not_fit_is_the_nearest_that_does_and_known_for_it() {
        assert_eq!((join_ns(1, 2), join_ns(-1, 999_999_999)), (1_000_000_002, -1));
        for (s, nearest) in
            [(9_223_372_037, i64::MAX), (i64::MAX, i64::MAX), (-9_223_372_038, i64::MIN), (i64::MIN, i64::MIN)]
        {
            assert_eq!(join_ns(s, 5), nearest, "{s}");
        }
        assert_eq!(join_ns(9_223_372_036, 854_775_806), i64::MAX - 1);
        assert!(is_beyond(i64::MAX) && is_beyond(i64::MIN) && !is_beyond(i64::MAX - 1));
    }
}
