//! The directory of a history, and its files by number.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::error::HistoryError;

/// Held by whoever writes. It is empty and stays.
const LOCK: &str = "lock";

/// A directory with a history in it.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    fd: OwnedFd,
}

/// Which file of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The schema and the blocks.
    Segment,
    /// The rows that are in no block yet.
    Rows,
}

/// Whether a file may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// It must not.
    New,
    /// It must.
    Existing,
    /// It may.
    Either,
}

/// How large the files of one segment are; 0 for one that is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) segment: u64,
    pub(super) rows: u64,
}

impl Sizes {
    pub(super) fn sum(self) -> u64 {
        self.segment + self.rows
    }
}

impl Dir {
    /// Opens it; with `create`, makes it and the directories above it.
    pub(super) fn open(path: &Path, create: bool) -> Result<Self, HistoryError> {
        if create {
            let made = DirBuilder::new().recursive(true).mode(0o750).create(path);
            made.map_err(|source| HistoryError::Failed {
                step: "make the directory of the history",
                path: path.to_owned(),
                source,
            })?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { path: path.to_owned(), fd }),
            Err(Errno::NOENT) => Err(HistoryError::None { path: path.to_owned() }),
            Err(error) => Err(HistoryError::failed("open the directory of the history", path, error)),
        }
    }

    /// Makes the caller its only writer, as long as the descriptor lives.
    pub(super) fn lock(&self) -> Result<OwnedFd, HistoryError> {
        let path = self.path.join(LOCK);
        let failed = |error| HistoryError::failed("lock the history with", &path, error);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let lock = rustix::fs::openat(&self.fd, LOCK, flags, Mode::from_raw_mode(0o640)).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(lock),
            Err(Errno::WOULDBLOCK) => Err(HistoryError::InUse { path: self.path.clone() }),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether this lock is the one of the directory.
    pub(super) fn is_locked_by(&self, lock: &OwnedFd) -> bool {
        let there = rustix::fs::statat(&self.fd, LOCK, AtFlags::SYMLINK_NOFOLLOW);
        let held = rustix::fs::fstat(lock);
        matches!((there, held), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    /// Whether there was ever a writer here.
    pub(super) fn was_written(&self) -> bool {
        rustix::fs::statat(&self.fd, LOCK, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The segments with the sizes of their files, by number. What is not ours is not seen.
    pub(super) fn list(&self) -> Result<BTreeMap<u64, Sizes>, HistoryError> {
        let failed = |error| HistoryError::failed("list the history in", &self.path, error);
        let mut found = BTreeMap::<u64, Sizes>::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some((number, part)) = entry.file_name().to_str().ok().and_then(number_of) else { continue };
            let stat = match rustix::fs::statat(&self.fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Its writer made room meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                let sizes = found.entry(number).or_default();
                *sizes.of(part) = u64::try_from(stat.st_size).unwrap_or(0);
            }
        }
        Ok(found)
    }

    /// Opens a file to be read; `None` where there is none.
    pub(super) fn read(&self, number: u64, part: Part) -> Result<Option<OwnedFd>, HistoryError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat(&self.fd, name_of(number, part), flags, Mode::empty()) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(HistoryError::failed("open", &self.file(number, part), error)),
        }
    }

    /// Opens a file to be appended to.
    pub(super) fn append(&self, number: u64, part: Part, opened: Opened) -> Result<OwnedFd, HistoryError> {
        let how = match opened {
            Opened::New => OFlags::CREATE | OFlags::EXCL,
            Opened::Existing => OFlags::empty(),
            Opened::Either => OFlags::CREATE,
        };
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | how;
        let opened = rustix::fs::openat(&self.fd, name_of(number, part), flags, Mode::from_raw_mode(0o640));
        opened.map_err(|error| HistoryError::failed("open", &self.file(number, part), error))
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, number: u64, part: Part) -> Result<(), HistoryError> {
        match rustix::fs::unlinkat(&self.fd, name_of(number, part), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(HistoryError::failed("remove", &self.file(number, part), error)),
        }
    }

    /// Where a file is, to be named.
    pub(super) fn file(&self, number: u64, part: Part) -> PathBuf {
        self.path.join(name_of(number, part))
    }
}

impl Sizes {
    fn of(&mut self, part: Part) -> &mut u64 {
        match part {
            Part::Segment => &mut self.segment,
            Part::Rows => &mut self.rows,
        }
    }
}

fn name_of(number: u64, part: Part) -> String {
    match part {
        Part::Segment => format!("{number:012}.seg"),
        Part::Rows => format!("{number:012}.rows"),
    }
}

fn number_of(name: &str) -> Option<(u64, Part)> {
    let (number, extension) = name.split_once('.')?;
    let part = match extension {
        "seg" => Part::Segment,
        "rows" => Part::Rows,
        _ => return None,
    };
    let ours = number.len() >= 12 && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| ours)?, part))
}

/// Fills `buffer` from `offset`, as far as the file goes; returns how much that is.
pub(super) fn read_at(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers_of_twelve_digits_and_more() {
        for number in [1, 999_999_999_999, 1_000_000_000_000, u64::MAX] {
            for part in [Part::Segment, Part::Rows] {
                assert_eq!(number_of(&name_of(number, part)), Some((number, part)));
            }
        }
        for other in ["lock", "1.seg", "000000000001.txt", "+00000000001.seg", "000000000001", ".seg"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
