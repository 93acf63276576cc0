//! Where a board or a replica keeps its records between two starts.
//!
//! A store knows nothing of seqs or epochs: it holds one record a name and a few named facts beside them ([`Meta`]), and
//! changes both in one step.

pub(crate) mod memory;
pub(crate) mod sqlite;

use crate::index::{Name, Record};
use std::collections::BTreeMap;
use std::path::PathBuf;
use thiserror::Error;

/// One record a name, and the facts beside them.
pub trait Store: Send {
    /// Gives every record, in any order, and returns the facts. Called once, before anything is committed.
    ///
    /// # Errors
    /// When the store cannot be read in full. What was given until then is not to be used.
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<Meta, StoreError>;

    /// Replaces the records of these names, forgets those of `forget` and, if given, replaces all facts: all of it or
    /// nothing, and as durable as the store promises when it returns. Facts are always written durably, but for those that
    /// move with the records ([`Meta::moves`]): these are as durable as the records. Facts that are as they were need not
    /// be written again.
    ///
    /// # Errors
    /// When it could not be written. The change may then be in the store or not, but never in part.
    fn commit(&mut self, records: &[Record], forget: &[Name], meta: Option<&Meta>) -> Result<(), StoreError>;

    /// Writes all that was committed into a file of its own at `path`, which is missing or empty: a store that can be
    /// opened there. The file is not synced.
    ///
    /// # Errors
    /// When the store cannot be copied, as one without a file, or the file cannot be written; what is in the file then is
    /// of no use.
    fn copy_to(&mut self, path: &std::path::Path) -> Result<(), StoreError> {
        Err(StoreError::Other(format!("it has no file that could be copied to {}", path.display())))
    }
}

/// Named facts kept beside the records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta(BTreeMap<String, Vec<u8>>);

impl Meta {
    /// What is kept under `key`.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }

    /// Keeps `value` under `key` in place of what was there.
    pub fn set(&mut self, key: impl Into<String>, value: Vec<u8>) {
        self.0.insert(key.into(), value);
    }

    /// Whether what is kept under `key` moves with the records, such as a cursor: its key ends with `~`. A power cut may
    /// take its newest value, but only together with every record written since.
    pub fn moves(key: &str) -> bool {
        key.ends_with('~')
    }

    /// Whether what does not move is the same in both.
    pub(crate) fn stands_as(&self, other: &Meta) -> bool {
        let standing = |(key, _): &(&String, &Vec<u8>)| !Meta::moves(key);
        self.0.iter().filter(standing).eq(other.0.iter().filter(standing))
    }

    /// Forgets what is kept under `key`.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// All facts, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    pub(crate) fn get_u64(&self, key: &'static str) -> Result<Option<u64>, StoreError> {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).map_err(|_| StoreError::meta(key));
        self.get(key).map(number).transpose()
    }

    pub(crate) fn get_u128(&self, key: &'static str) -> Result<Option<u128>, StoreError> {
        let number = |bytes: &[u8]| bytes.try_into().map(u128::from_le_bytes).map_err(|_| StoreError::meta(key));
        self.get(key).map(number).transpose()
    }
}

/// Why a store could not be opened, read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or directory of the store could not be made or opened.
    #[error("cannot open the store {}: {source}", path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the store open.
    #[error("the store {} is in use by another process; stop that one first", path.display())]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// The file was written by a later release.
    #[error(
        "the store {} has format {found}, this release knows up to {known}; use the release that wrote it, or a newer one",
        path.display()
    )]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// The format that the file names.
        found: i64,
        /// The newest format of this release.
        known: i64,
    },
    /// The file is not a store, or it is damaged.
    #[error("the store {} is damaged ({what}); put back a copy, or move it away to begin without it", path.display())]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// A read or write failed.
    #[error("cannot {step} the store {}: {source}", path.display())]
    Io {
        /// What was attempted.
        step: &'static str,
        /// The store's file.
        path: PathBuf,
        /// What the database said.
        source: rusqlite::Error,
    },
    /// A fact kept with the records cannot be read.
    #[error("the store's fact {key:?} is damaged; put back a copy of the store, or move it away to begin without it")]
    Meta {
        /// The name of the fact.
        key: String,
    },
    /// A store of another kind failed.
    #[error("the store failed: {0}")]
    Other(String),
}

impl StoreError {
    pub(crate) fn meta(key: &str) -> StoreError {
        StoreError::Meta { key: key.to_owned() }
    }
}
