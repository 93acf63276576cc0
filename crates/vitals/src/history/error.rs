//! Why a history cannot be opened, read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use thiserror::Error;

/// Why a history cannot be opened, read or written.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// Another process holds the lock.
    #[error(
        "another process writes the history in {path}; stop it, or name another directory. Nothing was written here"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// There is no history in the directory.
    #[error("there is no history in {path}: lockstep monitor --history DIR makes one")]
    None {
        /// The directory.
        path: PathBuf,
    },
    /// One block alone is larger than a segment may be.
    #[error("a history of {columns} columns does not fit below {bytes_max} bytes; give it more with --history-max")]
    TooSmall {
        /// How many columns there are to keep.
        columns: usize,
        /// The cap.
        bytes_max: u64,
    },
    /// More columns than any schema has.
    #[error("a history has at most {max} columns, not {columns}", max = super::COLUMNS_MAX)]
    TooManyColumns {
        /// How many were to be kept.
        columns: usize,
    },
    /// A step on a file or directory failed.
    #[error("cannot {step} {path}")]
    Failed {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl HistoryError {
    pub(super) fn failed(step: &'static str, path: &Path, error: Errno) -> Self {
        Self::Failed { step, path: path.to_owned(), source: error.into() }
    }
}
