//! The one error of file system calls: what was tried, where, and what the system said.

use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// A file system call that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{}", self.plain(), cure(*errno))]
pub struct Error {
    /// What was tried, as a verb: `open`, `rename`.
    pub op: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the system said.
    pub errno: Errno,
}

impl Error {
    /// An error of `op` at `path`.
    pub fn new(op: &'static str, path: impl Into<PathBuf>, errno: Errno) -> Self {
        Self { op, path: path.into(), errno }
    }

    /// [`Error::new`] from an error of std; one without a number becomes `EIO`.
    pub fn from_io(op: &'static str, path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        Self::new(op, path.as_ref(), Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// What was tried, where, and what the system said, without what to do about it.
    pub fn plain(&self) -> String {
        let path = crate::path::escape(std::os::unix::ffi::OsStrExt::as_bytes(self.path.as_os_str()));
        // std's text without its "(os error n)", which helps nobody.
        let text = std::io::Error::from(self.errno).to_string();
        format!("cannot {} {path}: {}", self.op, text.split(" (os error").next().unwrap_or_default())
    }

    /// Whether nothing stands there.
    pub fn is_missing(&self) -> bool {
        self.errno == Errno::NOENT
    }

    /// Whether the disk, or the user's share of it, is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self.errno, Errno::NOSPC | Errno::DQUOT)
    }
}

/// For what a person can cure, how.
fn cure(errno: Errno) -> &'static str {
    match errno {
        Errno::NOSPC => "; free some space there",
        Errno::DQUOT => "; free some space there or raise the quota",
        Errno::ACCESS | Errno::PERM => "; give the user that lockstep runs as the right to it",
        Errno::ROFS => "; mount it writable",
        Errno::NAMETOOLONG => "; the file system there cannot hold this name, shorten it at the source",
        Errno::MFILE | Errno::NFILE => "; raise the limit of open files (ulimit -n)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_step_the_path_and_the_cure() {
        let text = Error::new("create", "/a\nb", Errno::NOSPC).to_string();
        assert_eq!(text, "cannot create /a\\x0ab: No space left on device; free some space there");
    }
}
