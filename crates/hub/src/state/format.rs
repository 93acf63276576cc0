//! The data directory's format: which releases can use it. Each store in it has a format of its own beside this, and is
//! migrated by whoever opens it.

use super::{StateError, write_secret};
use crate::roster;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// What lies in the directory, how it is called, and the formats of the stores in it: greater whenever one of them is. A
/// directory of before this file existed counts as this one, too.
pub(crate) const FORMAT: i64 = LAYOUT + board::FORMAT + roster::FORMAT;
/// What lies in the directory and how it is called.
const LAYOUT: i64 = 0;
/// The file that says so.
pub(crate) const FILE_NAME: &str = "format";
/// It is two short lines.
const FILE_BYTES_MAX: u64 = 1024;
/// Program and version, as it goes into the file.
const SOFTWARE: &str = concat!("lockstep ", env!("CARGO_PKG_VERSION"));

/// What a data directory says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) number: i64,
    /// The release that wrote it last.
    pub(crate) software: String,
}

impl Format {
    /// Of the directory `path`; `None` where it says nothing.
    pub(crate) fn read(path: &Path) -> Result<Option<Format>, StateError> {
        let path = path.join(FILE_NAME);
        let mut text = String::new();
        let read = fs::File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => Format::parse(&text).map(Some).ok_or(StateError::Format { path }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(StateError::Format { path }),
            Err(source) => Err(StateError::Io { verb: "read", path, source }),
        }
    }

    fn parse(text: &str) -> Option<Format> {
        let mut lines = text.lines();
        let number = lines.next()?.strip_prefix("format ")?.parse().ok()?;
        let software = lines.next()?.strip_prefix("written by ")?;
        let shown = !software.is_empty() && software.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        shown.then(|| Format { number, software: software.to_owned() })
    }

    fn text(&self) -> String {
        format!("format {}\nwritten by {}\n", self.number, self.software)
    }

    /// What this release writes.
    pub(crate) fn ours() -> Format {
        Format { number: FORMAT, software: SOFTWARE.to_owned() }
    }

    /// Whether this release can use what is of this format.
    ///
    /// # Errors
    /// When it is newer: the text says which release to install. `path` is what is of it.
    pub(crate) fn usable(&self, path: &Path) -> Result<(), StateError> {
        if self.number <= FORMAT {
            return Ok(());
        }
        Err(StateError::Newer { path: path.to_owned(), found: self.number, software: self.software.clone() })
    }
}

/// Refuses a directory of a newer format before anything in it is touched; of an older one, notes that it is now of ours.
pub(crate) fn settle(path: &Path) -> Result<(), StateError> {
    let found = Format::read(path)?;
    if let Some(found) = &found {
        found.usable(path)?;
    }
    let ours = Format::ours();
    if found.as_ref() == Some(&ours) {
        return Ok(());
    }
    if let Some(found) = found.filter(|found| found.number < FORMAT) {
        tracing::info!(from = found.number, to = FORMAT, "the data directory is migrated");
    }
    write_secret(&path.join(FILE_NAME), ours.text().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(directory: &Path) -> std::path::PathBuf {
        directory.join(FILE_NAME)
    }

    #[test]
    fn a_directory_says_its_format_and_one_that_says_nothing_is_taken_over() {
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(Format::read(scratch.path()).unwrap(), None);
        settle(scratch.path()).unwrap();
        assert_eq!(Format::read(scratch.path()).unwrap(), Some(Format::ours()));
        settle(scratch.path()).unwrap();
    }

    #[test]
    fn one_that_another_release_of_the_same_format_wrote_is_ours_from_now_on() {
        let scratch = tempfile::tempdir().unwrap();
        for number in 0..=FORMAT {
            let theirs = Format { number, software: "lockstep 0.0.9".into() };
            fs::write(file(scratch.path()), theirs.text()).unwrap();
            settle(scratch.path()).unwrap();
            assert_eq!(Format::read(scratch.path()).unwrap(), Some(Format::ours()));
        }
    }

    #[test]
    fn a_newer_one_is_refused_as_it_is_and_names_the_release_to_install() {
        let scratch = tempfile::tempdir().unwrap();
        let theirs = Format { number: FORMAT + 1, software: "lockstep 7.8.9".into() };
        fs::write(file(scratch.path()), theirs.text()).unwrap();
        let told = settle(scratch.path()).unwrap_err().to_string();
        assert!(told.contains("install lockstep 7.8.9 or newer"), "{told}");
        assert_eq!(fs::read_to_string(file(scratch.path())).unwrap(), theirs.text());
    }

    #[test]
    fn what_says_nothing_that_is_understood_is_refused_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        for damaged in ["", "format\n", "format 1\n", "format x\nwritten by y\n", "format 1\nwritten by \u{7}\n"] {
            fs::write(file(scratch.path()), damaged).unwrap();
            assert!(matches!(settle(scratch.path()), Err(StateError::Format { .. })), "{damaged:?}");
            assert_eq!(fs::read_to_string(file(scratch.path())).unwrap(), damaged);
        }
        fs::write(file(scratch.path()), b"\xff\xfe").unwrap();
        assert!(matches!(settle(scratch.path()), Err(StateError::Format { .. })));
    }
}
