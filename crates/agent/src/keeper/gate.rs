//! The first join: whether a directory may become the share's copy, or that of values.

use super::{KeeperConfig, KeeperError, NOTE_ROOT, Work};
use crate::kept::Kept;
use board::Replica;
use mirror::{Action, Dirty, Engine, Options};
use std::path::PathBuf;
use thiserror::Error;
use tree::at::{ListBuffer, is_temp_name};
use tree::{Dir, RelPath, path::escape};

/// How many paths are named.
const SAMPLE_MAX: usize = 10;

/// Whether the destination may be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It may.
    Open,
    /// It holds something else: once the whole list is there, what would become of that is told, and that is all.
    Shut,
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
     and {deleted} deleted{}; nothing was touched. If that is what you want: --adopt, else join into another directory",
    escape(directory.as_os_str().as_encoded_bytes()),
    match of {
        Kept::Share(share) => format!("is not a copy of the share {share}"),
        Kept::Values(pattern) => format!("does not hold the values {pattern}"),
    },
    if sample.is_empty() { String::new() } else { format!(" (such as {})", sample.join(", ")) }
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
}

impl Gate {
    /// What may be done before anything is known of the hub. A directory that is the share's copy from here on is noted
    /// in `replica`; save it before anything is put there, lest a crash leave a directory that is nobody's.
    pub(super) fn first(config: &KeeperConfig, dest: &Dir, replica: &mut Replica) -> Result<Gate, KeeperError> {
        let root = [dest.file_system_id()?.to_le_bytes(), dest.stat_self()?.ino.to_le_bytes()].concat();
        if replica.note(NOTE_ROOT) == Some(&root[..]) {
            return Ok(Gate::Open);
        }
        if config.adopt || is_empty(dest, config)? {
            replica.set_note(NOTE_ROOT, root);
            return Ok(Gate::Open);
        }
        Ok(Gate::Shut)
    }
}

impl Work {
    /// Once the whole list is there: what would become of a directory that is not the share's copy.
    ///
    /// # Errors
    /// Always then, also if nothing would be lost: whether it is to be the copy is for people to say.
    pub(super) fn decide_gate(&mut self) -> Result<(), KeeperError> {
        if self.gate.is_open() || !self.holding.replica().is_current() {
            return Ok(());
        }
        let mut found = NotEmpty {
            of: self.config.kept.clone(),
            directory: self.config.directory.clone(),
            same: 0,
            changed: 0,
            deleted: 0,
            sample: Vec::new(),
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

fn is_empty(dest: &Dir, config: &KeeperConfig) -> Result<bool, KeeperError> {
    for entry in dest.list(&mut ListBuffer::default())? {
        let ours =
            is_temp_name(&entry.name) || dest.look(&entry.name)?.is_some_and(|stat| config.own.contains(&stat.id()));
        if !ours {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
