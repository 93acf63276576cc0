//! Backups: a copy of all that a hub knows, made while it runs, in one file; and putting one back.
//!
//! Held in it: the hub's keys, its roster, its values, and the index of each share. Not the files of the shares, which are
//! where they are, nor what is made anew at each start. Each store is copied as of one moment, by whoever has it open, so
//! nothing is torn; nobody waits but who would write that very store meanwhile.
//!
//! What was put back is an older state under the same name: each board begins a new epoch, so clients drop what belongs to
//! the lost history once they know that they hold all of this one, and nothing before.

mod archive;
mod restore;

pub use archive::{Member, Packed, pack};
pub use restore::{Restored, restore};

use crate::core::Hub;
use crate::state::{DataDir, StateError};
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How directories of copies are called, in the data directory.
const STAGED: &str = "backup-";
/// Copies that nobody took away for so long are left by a command that was killed.
const STAGED_MAX: Duration = Duration::from_hours(1);
/// What a backup holds is called so: databases, and what proves the hub.
const ENDINGS: [&str; 3] = ["db", "der", "pem"];

/// Why there is no backup, or none was put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The data directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file could not be read or written.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A store could not be copied.
    #[error("{path} cannot be copied: {why}; there is no backup")]
    Copy {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is nothing that could be copied.
    #[error("no hub ever ran on {path}: there is nothing to back up")]
    Nothing {
        /// The data directory.
        path: PathBuf,
    },
    /// The file is no backup, or not what was written.
    #[error("{path} is no whole backup: {why}; nothing was changed")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        why: String,
    },
    /// Something is there that would go.
    #[error(
        "{path} is not empty: what is there would be replaced; name an empty or a new directory with --data DIR, or add \
         --replace, which keeps what is there under before-restore-*"
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// What was put back cannot be used.
    #[error("{path} in the backup cannot be used: {why}; nothing was changed")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

fn io(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::Io { verb, path, source }
}

/// Copies all of a hub that runs; gives the directory of the copies, for its user alone, which is to be taken away.
pub(crate) async fn stage(hub: &Arc<Hub>) -> Result<PathBuf, BackupError> {
    let data = hub.data_dir.clone();
    let staged = new_staged(&data)?;
    let copied = copy_running(hub, &data, &staged).await;
    if copied.is_err() {
        remove(&staged);
    }
    copied.map(|()| staged)
}

async fn copy_running(hub: &Arc<Hub>, data: &Path, staged: &Path) -> Result<(), BackupError> {
    let mut held = std::collections::BTreeSet::new();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |why| BackupError::Copy { path, why }
    };
    // Whoever has a store open for itself alone copies it.
    let path = data.join("data.db");
    hub.data.copy_to(staged.join("data.db")).await.map_err(failed(&path))?;
    held.insert("data.db".to_owned());
    for share in hub.shares.values() {
        let name = crate::state::share_file_name(&share.name);
        // One that has stopped has closed its index.
        if let Some(copied) = share.copy_to(staged.join(&name)).await {
            copied.map_err(failed(&data.join(&name)))?;
            held.insert(name);
        }
    }
    let (data, staged) = (data.to_owned(), staged.to_owned());
    let rest = tokio::task::spawn_blocking(move || copy_rest(&data, &staged, &|name| held.contains(name)));
    rest.await.map_err(|e| BackupError::Copy { path: hub.data_dir.clone(), why: e.to_string() })?
}

/// Copies all of a hub that does not run; gives the directory of the copies, for its user alone, which [`pack`] takes away.
///
/// # Errors
/// When there is none, it runs, or something cannot be copied.
pub fn stage_stopped(data: &Path) -> Result<PathBuf, BackupError> {
    if !data.join("roster.db").exists() {
        return Err(BackupError::Nothing { path: data.to_owned() });
    }
    let directory = DataDir::open(data)?;
    let staged = new_staged(directory.path())?;
    let copied = copy_rest(directory.path(), &staged, &|_| false);
    if copied.is_err() {
        remove(&staged);
    }
    copied.map(|()| staged)
}

/// Copies what nobody has open for itself alone, but what is `held`.
fn copy_rest(data: &Path, staged: &Path, held: &dyn Fn(&str) -> bool) -> Result<(), BackupError> {
    for entry in fs::read_dir(data).map_err(io("list", data))? {
        let entry = entry.map_err(io("list", data))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str().filter(|name| is_kept(name) && !held(name)) else { continue };
        if !entry.file_type().map_err(io("look at", &path))?.is_file() {
            continue;
        }
        let to = staged.join(name);
        if name.ends_with(".db") {
            copy_database(&path, &to)?;
        } else {
            crate::state::write_secret(&to, &fs::read(&path).map_err(io("read", &path))?)?;
        }
    }
    Ok(())
}

/// Whether a file of this name belongs into a backup. It is also all that a name in one may be.
fn is_kept(name: &str) -> bool {
    let Some((stem, ending)) = name.rsplit_once('.') else { return false };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    !stem.is_empty() && !stem.starts_with('.') && stem.bytes().all(plain) && ENDINGS.contains(&ending)
}

/// Whether a file of this name in a data directory is a store.
pub(crate) fn is_store(name: &str) -> bool {
    is_kept(name) && name.ends_with(".db")
}

/// Copies a database that others may be writing, as of one moment.
fn copy_database(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |why: String| BackupError::Copy { path: from.to_owned(), why };
    let target = to.to_str().ok_or_else(|| failed("its directory's path is no UTF-8".into()))?;
    // Not before: SQLite would make it readable for others.
    new_file(to)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copied = Connection::open_with_flags(from, flags).and_then(|db| {
        db.busy_timeout(Duration::from_secs(10))?;
        db.execute("VACUUM INTO ?1", [target])
    });
    copied.map(drop).map_err(|e| failed(e.to_string()))
}

fn new_file(path: &Path) -> Result<fs::File, BackupError> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(io("make", path))
}

/// A new directory for copies; what was left of others is taken away.
fn new_staged(data: &Path) -> Result<PathBuf, BackupError> {
    sweep(data, STAGED_MAX);
    let staged = data.join(format!("{STAGED}{:016x}", getrandom::u64().unwrap_or_default()));
    fs::DirBuilder::new().mode(0o700).create(&staged).map_err(io("make", &staged))?;
    Ok(staged)
}

/// Takes away copies that are older than `age`.
pub(crate) fn sweep(data: &Path, age: Duration) {
    let Ok(entries) = fs::read_dir(data) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| {
            let number = name.strip_prefix(STAGED).unwrap_or_default();
            number.len() == 16 && number.bytes().all(|b| b.is_ascii_hexdigit())
        });
        let made = entry.metadata().and_then(|metadata| metadata.modified());
        let old = made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|past| past >= age));
        if ours && old {
            remove(&entry.path());
        }
    }
}

/// Takes copies away.
fn remove(staged: &Path) {
    if let Err(error) = fs::remove_dir_all(staged) {
        tracing::warn!(path = %staged.display(), %error, "copies for a backup were left");
    }
}

#[cfg(test)]
mod tests;
