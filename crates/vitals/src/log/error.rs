//! What can go wrong with a log, and what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use thiserror::Error;

/// Why a log cannot be opened, or a line not be written.
#[derive(Debug, Error)]
pub enum LogError {
    /// The directory of the log cannot be made.
    #[error(
        "cannot make the directory {path} for the log; name another place with --log FILE, or none with --log none"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The log cannot be opened.
    #[error("cannot open the log {path}; name another place with --log FILE, or none with --log none")]
    Open {
        /// The log.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The log is a directory, a device or a FIFO.
    #[error("the log {path} is not a regular file; name another place with --log FILE, or none with --log none")]
    NotAFile {
        /// What was to be the log.
        path: PathBuf,
    },
    /// The log is a link that somebody else put there.
    #[error("the log {path} is a link made by user {owner}, which is not followed; remove it, or use --log FILE")]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// A part of the log could not be moved to its next name, so there is no room below the cap.
    #[error("cannot move the log {from} to {to} to make room for more")]
    Rotate {
        /// The part.
        from: PathBuf,
        /// Its next name.
        to: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A line is longer than a part of the log may be.
    #[error(
        "a line of {bytes} bytes, header included, does not fit in a part of the log {path}, which may have {bytes_max}"
    )]
    LineTooLong {
        /// The log.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// What a part may have.
        bytes_max: u64,
    },
    /// A step on the open log failed.
    #[error("cannot {step} the log {path}")]
    Failed {
        /// What was tried.
        step: &'static str,
        /// The log.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl LogError {
    pub(super) fn open(path: &Path, error: Errno) -> Self {
        Self::Open { path: path.to_owned(), source: error.into() }
    }
}
