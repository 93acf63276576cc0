//! A directory of the test's own.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

/// A directory that is gone when this is dropped, whatever modes the test left behind in it. `LOCKSTEP_TEST_KEEP=1`
/// keeps it and prints where it is.
#[derive(Debug)]
pub struct Scratch(Option<TempDir>);

/// A new, empty directory.
///
/// # Panics
/// When the system gives none.
pub fn scratch() -> Scratch {
    let dir = tempfile::Builder::new().prefix("lockstep-test-").tempdir().expect("a temporary directory can be made");
    Scratch(Some(dir))
}

/// A new, empty directory in `parent`.
///
/// # Panics
/// When the system gives none.
pub fn scratch_in(parent: impl AsRef<Path>) -> Scratch {
    let dir = tempfile::Builder::new().prefix("lockstep-test-").tempdir_in(parent);
    Scratch(Some(dir.expect("a temporary directory can be made")))
}

impl Deref for Scratch {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.0.as_ref().expect("the directory is there until dropped").path()
    }
}

impl AsRef<Path> for Scratch {
    fn as_ref(&self) -> &Path {
        self
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(dir) = self.0.take() else { return };
        if std::env::var_os("LOCKSTEP_TEST_KEEP").is_some() {
            eprintln!("kept {}", dir.keep().display());
            return;
        }
        open_up(dir.path());
        // What is left behind is left in the system's temporary directory; no test depends on it.
        dir.close().ok();
    }
}

/// Gives the owner all rights on every directory, so that what is in it can be removed.
fn open_up(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).ok();
    let Ok(listing) = fs::read_dir(dir) else { return };
    for entry in listing.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
