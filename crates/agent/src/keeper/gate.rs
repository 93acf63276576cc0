//! The first join: whether a directory may become the share's copy, or that of values.

use super::{KeeperError, Work};
use crate::kept::Kept;
use mirror::{Action, Dirty, Engine, Options};
use std::path::PathBuf;
use thiserror::Error;
use tree::{RelPath, path::escape};

/// How many paths are named.
const SAMPLE_MAX: usize = 10;

/// Whether the destination may be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It may.
    Open,
    /// It holds something else: once the whole list is there, what would become of that is told, and that is all.
    Shut {
        /// It is on another file system than the copy was.
        elsewhere: bool,
    },
}

impl Gate {
    pub(super) fn is_open(self) -> bool {
        self == Gate::Open
    }
}

/// A directory that is not empty and not what is to be kept there. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{} is not empty and {}: {same} entries in it would stay, {changed} would be changed \
     and {deleted} deleted{}; nothing was touched. {}If that is what you want: --adopt, else join into another directory",
    escape(directory.as_os_str().as_encoded_bytes()),
    match of {
        Kept::Share(share) => format!("is not a copy of the share {share}"),
        Kept::Values(pattern) => format!("does not hold the values {pattern}"),
    },
    if sample.is_empty() { String::new() } else { format!(" (such as {})", sample.join(", ")) },
    if *elsewhere { "The copy was on another file system: perhaps its disk is not mounted. " } else { "" }
)]
pub struct NotEmpty {
    /// What was to be kept there.
    pub of: Kept,
    /// The directory.
    pub directory: PathBuf,
    /// Entries that would stay as they are.
    pub same: u64,
    /// Entries that would be changed.
    pub changed: u64,
    /// Entries that would be deleted.
    pub deleted: u64,
    /// Some of those that would be changed or deleted.
    pub sample: Vec<String>,
    /// It is on another file system than the copy that was kept there.
    pub elsewhere: bool,
}

impl Work {
    /// Once the whole list is there: what would become of a directory that is not the share's copy.
    ///
    /// # Errors
    /// Always then, also if nothing would be lost: whether it is to be the copy is for people to say.
    pub(super) fn decide_gate(&mut self) -> Result<(), KeeperError> {
        let Gate::Shut { elsewhere } = self.gate else { return Ok(()) };
        if !self.holding.replica().is_current() {
            return Ok(());
        }
        let mut found = NotEmpty {
            of: self.config.kept.clone(),
            directory: self.config.directory.clone(),
            same: 0,
            changed: 0,
            deleted: 0,
            sample: Vec::new(),
            elsewhere,
        };
        let dest = self.engine.dest().walk(&RelPath::root())?;
        let options =
            Options { dry_run: true, allow_mass_delete: true, own: self.config.own.clone(), ..Options::default() };
        self.holding.allow_deletes(true);
        Engine::new(dest, options).reconcile(&mut self.holding, &Dirty::everything(), &mut |event| {
            // Whether it is there now: in a dry run what is updated was there, what is copied was not.
            let count = match event.action {
                _ if event.path.is_root() => return,
                Action::Skipped => return found.same += 1,
                Action::Updated => &mut found.changed,
                Action::Deleted => &mut found.deleted,
                _ => return,
            };
            *count += 1;
            if found.sample.len() < SAMPLE_MAX {
                found.sample.push(event.path.to_string());
            }
        });
        Err(KeeperError::NotEmpty(Box::new(found)))
    }
}

#[cfg(test)]
mod tests;
