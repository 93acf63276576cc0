//! One inode held by a descriptor, to set its metadata: whatever happens to its name, nothing else is touched.

use super::dir::proc_path;
use super::meta::{self, Stat};
use crate::fsx::Error;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};
use std::path::Path;

/// How an inode is held. Paths given to its calls are for errors only.
#[derive(Clone, Copy, Debug)]
pub enum Grip<'a> {
    /// By a descriptor that was opened for reading or writing.
    Open(BorrowedFd<'a>),
    /// By one of [`Dir::hold`](super::Dir::hold), which opens nothing: it works for links, fifos and devices, and for
    /// what may not be read. It is changed by its name in /proc, which leads to exactly this inode.
    Bare(BorrowedFd<'a>),
}

impl Grip<'_> {
    /// What is held, now.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn stat(&self, path: &Path) -> Result<Stat, Error> {
        let (Grip::Open(fd) | Grip::Bare(fd)) = self;
        meta::stat_of(fd, path)
    }

    /// Sets owner and group; `None` leaves what is. The kernel takes set-id bits and capabilities of a file away with it.
    ///
    /// # Errors
    /// When we may not give it away, or the file system knows no owners.
    pub fn set_owner(&self, uid: Option<u32>, gid: Option<u32>, path: &Path) -> Result<(), Error> {
        let (Grip::Open(fd) | Grip::Bare(fd)) = self;
        rustix::fs::chownat(fd, "", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
            .map_err(|e| Error::new("set the owner of", path, e))
    }

    /// Sets the permission bits. Not for links, which have none.
    ///
    /// # Errors
    /// When it is not ours, or the file system is read-only.
    pub fn set_mode(&self, mode: u32, path: &Path) -> Result<(), Error> {
        match self {
            Grip::Open(fd) => meta::set_mode(fd, mode, path),
            Grip::Bare(fd) => {
                rustix::fs::chmodat(CWD, proc_path(fd), Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
                    .map_err(|e| Error::new("set the mode of", path, e))
            }
        }
    }

    /// Sets the time of last modification; that of last access stays.
    ///
    /// # Errors
    /// When it is not ours, or the file system is read-only.
    pub fn set_times(&self, mtime_ns: i64, path: &Path) -> Result<(), Error> {
        match self {
            Grip::Open(fd) => meta::set_times(fd, mtime_ns, path),
            Grip::Bare(fd) => rustix::fs::utimensat(CWD, proc_path(fd), &meta::timestamps(mtime_ns), AtFlags::empty())
                .map_err(|e| Error::new("set the time of", path, e)),
        }
    }
}
