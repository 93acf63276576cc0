//! The agent's own small files: replaced as a whole, private, on disk when said so; every error names its path.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A file call that failed.
#[derive(Debug, Error)]
#[error("cannot {op} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried, as a verb.
    pub op: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

impl DiskError {
    /// An error of `op` at `path`.
    pub fn new(op: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> DiskError {
        DiskError { op, path: path.into(), source: source.into() }
    }
}

/// Replaces `directory/name` by what `content` gives for the new file's inode: mode 0600, never half, on disk when
/// this returns.
pub(crate) fn replace_private(
    directory: &Path,
    name: &str,
    content: impl FnOnce(u64) -> Vec<u8>,
) -> Result<(), DiskError> {
    let path = directory.join(name);
    let staged = directory.join(format!(".{name}.new"));
    // Left by a crash; the data directory's lock says that nobody else is writing it.
    match std::fs::remove_file(&staged) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(DiskError::new("replace", staged, error));
        }
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&staged)
        .map_err(|e| DiskError::new("create", &staged, e))?;
    let inode = file.metadata().map_err(|e| DiskError::new("create", &staged, e))?.ino();
    file.write_all(&content(inode)).and_then(|()| file.sync_all()).map_err(|e| DiskError::new("write", &staged, e))?;
    std::fs::rename(&staged, &path).map_err(|e| DiskError::new("replace", &path, e))?;
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(|e| DiskError::new("sync", directory, e))
}

/// Takes everybody else's rights on `file` away.
pub(crate) fn set_private(file: &File, path: &Path) -> Result<(), DiskError> {
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(|e| DiskError::new("set the mode of", path, e))
}
