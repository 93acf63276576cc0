//! A program's own data directory: for its user alone.

use crate::fsx;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Makes `path` a directory that its owner alone can enter, parents included. One that is there and that others may
/// enter is closed to them, if it is this user's and nothing lies in it but what was put beside `mark`, the file that
/// every directory made by this program holds.
///
/// # Errors
/// When it is another user's, or used for other things too: nothing was changed then.
pub fn make(path: &Path, mark: &str) -> Result<(), PrivateError> {
    let failed = |op: &'static str| move |errno| fsx::Error::new(op, path, errno);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| fsx::Error::from_io("create the directory", path, &e))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open"))?;
    let stat = rustix::fs::fstat(&dir).map_err(failed("look at"))?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(PrivateError::NotOurs { path: path.to_owned(), uid: stat.st_uid });
    }
    if stat.st_mode & 0o077 == 0 {
        return Ok(());
    }
    let marked = || rustix::fs::statat(&dir, mark, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_file(stat.st_mode));
    let empty = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    // One that is sticky is everybody's, such as /tmp.
    if stat.st_mode & 0o1000 != 0 || !(marked() || empty()) {
        return Err(PrivateError::Common { path: path.to_owned() });
    }
    Ok(rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o700)).map_err(failed("set the mode of"))?)
}

fn is_file(mode: u32) -> bool {
    FileType::from_raw_mode(mode).is_file()
}

/// Why a directory cannot be a program's own.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PrivateError {
    /// It belongs to somebody else.
    #[error(
        "{} belongs to another user (uid {uid}), who could read or replace the keys in it; run as that user, or name another directory with --data DIR",
        path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Others may enter it, and it holds more than this program's files.
    #[error(
        "others may enter {}, and it is used for other things too; name a directory of its own with --data DIR, or take their rights away: chmod go= {}",
        path.display(),
        path.display()
    )]
    Common {
        /// The directory.
        path: PathBuf,
    },
    /// A file call failed.
    #[error(transparent)]
    Failed(#[from] fsx::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn loose(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("data");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
        (scratch, dir)
    }

    #[test]
    fn a_new_one_and_an_empty_one_and_an_old_one_of_ours_are_for_us_alone() {
        let (scratch, dir) = loose(0o755);
        make(&dir, "lock").unwrap();
        assert_eq!(mode(&dir), 0o700);
        fs::write(dir.join("lock"), "").unwrap();
        fs::write(dir.join("key"), "").unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        make(&dir, "lock").unwrap();
        assert_eq!(mode(&dir), 0o700);
        make(&scratch.path().join("a/b"), "lock").unwrap();
        assert_eq!(mode(&scratch.path().join("a/b")), 0o700);
    }

    #[test]
    fn one_that_is_used_for_other_things_is_left_as_it_is() {
        for (with, bits) in [("notes.txt", 0o755), ("lock", 0o1777)] {
            let (_scratch, dir) = loose(bits);
            fs::write(dir.join(with), "").unwrap();
            let refused = make(&dir, "lock").unwrap_err().to_string();
            assert!(refused.contains("--data DIR"), "{refused}");
            assert_eq!(mode(&dir), bits);
        }
    }

    #[test]
    fn one_that_nobody_else_can_enter_may_hold_anything() {
        let (_scratch, dir) = loose(0o700);
        fs::write(dir.join("notes.txt"), "").unwrap();
        make(&dir, "lock").unwrap();
    }
}
