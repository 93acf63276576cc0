//! Why a keeper ends, or does not begin.

use super::NotEmpty;
use std::path::PathBuf;
use thiserror::Error;

/// Why a share, or values, are not kept.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// The directory is not empty and is not what is kept. Nothing was touched.
    #[error(transparent)]
    NotEmpty(Box<NotEmpty>),
    /// Another process keeps it.
    #[error("{} is already kept by another agent or mirror; stop that one or take another directory", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The destination cannot be used.
    #[error(transparent)]
    Disk(#[from] tree::fsx::Error),
    /// What was stored of it cannot be read.
    #[error("what is stored of it cannot be used: {0}; move that file away to have it fetched anew")]
    Store(Box<board::StoreError>),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A fault of the program.
    #[error("its keeper failed by a fault of its own; the log says more")]
    Panicked,
}

impl From<board::StoreError> for KeeperError {
    fn from(error: board::StoreError) -> KeeperError {
        KeeperError::Store(Box::new(error))
    }
}
