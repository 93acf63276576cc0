//! Where a log is: its name, links in its place, locks that tell its writers of each other.

use std::{
    ffi::OsString,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, FlockOperation, Mode, OFlags, Stat},
    io::Errno,
};

use super::LogError;

/// How many links are followed from the name given to the file.
const LINKS_MAX: usize = 8;

/// The mode of a log that is for its owner alone.
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens LOG, following links that belong to root or to us; returns where it is. A `private` one is closed to others.
pub(super) fn open_file(path: &Path, private: bool) -> Result<(PathBuf, OwnedFd), LogError> {
    let mut path = path.to_owned();
    // NONBLOCK: a FIFO in the place of LOG is to be refused, not waited for.
    let flags = OFlags::RDWR
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NOCTTY
        | OFlags::NONBLOCK;
    for _ in 0..=LINKS_MAX {
        match rustix::fs::open(&path, flags, if private { PRIVATE } else { PRIVATE | Mode::RGRP }) {
            Ok(file) => {
                let stat = rustix::fs::fstat(&file).map_err(|error| LogError::open(&path, error))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(LogError::NotAFile { path });
                }
                if private {
                    keep_private(&path, &file, &stat)?;
                }
                lock_shared(&file);
                return Ok((path, file));
            }
            Err(Errno::LOOP) => path = follow(&path)?,
            Err(error) => return Err(LogError::open(&path, error)),
        }
    }
    Err(LogError::open(&path, Errno::LOOP))
}

/// Closes an older part to others, where there is one.
pub(super) fn close_to_others(path: &Path) -> Result<(), LogError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => {
            let stat = rustix::fs::fstat(&file).map_err(|error| LogError::open(path, error))?;
            keep_private(path, &file, &stat)
        }
        // What is a link is none of ours.
        Err(Errno::NOENT | Errno::LOOP) => Ok(()),
        Err(error) => Err(LogError::open(path, error)),
    }
}

fn keep_private(path: &Path, file: &OwnedFd, stat: &Stat) -> Result<(), LogError> {
    if Mode::from_raw_mode(stat.st_mode) == PRIVATE {
        return Ok(());
    }
    let failed =
        |error: Errno| LogError::Failed { step: "close to others", path: path.to_owned(), source: error.into() };
    rustix::fs::fchmod(file, PRIVATE).map_err(failed)
}

/// Where the link at `path` points to. Owner and target are read from one held inode, so that the link cannot be exchanged
/// between the two.
fn follow(path: &Path) -> Result<PathBuf, LogError> {
    let failed = |error| LogError::open(path, error);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let link = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let owner = rustix::fs::fstat(&link).map_err(failed)?.st_uid;
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(LogError::ForeignLink { path: path.to_owned(), owner });
    }
    let target = rustix::fs::readlinkat(&link, "", Vec::new()).map_err(failed)?;
    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
    Ok(path.parent().unwrap_or(Path::new("")).join(target))
}

/// Says to others that LOG has a living writer. Where files cannot be locked nothing is said.
pub(super) fn lock_shared(file: &OwnedFd) {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockShared).unwrap_or(());
}

/// Keeps other processes from moving the parts as long as the descriptor lives. `None`: another one is at it.
pub(super) fn lock_directory(log: &Path) -> Option<Option<OwnedFd>> {
    let directory = match log.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // A directory that cannot be opened or locked is no reason to log nothing.
    let Ok(directory) = rustix::fs::open(directory, flags, Mode::empty()) else { return Some(None) };
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => None,
        _ => Some(Some(directory)),
    }
}

/// The name of a part: LOG itself for 0.
pub(super) fn part(log: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return log.to_owned();
    }
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}
