//! Making directories for tests, with plain file calls.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A directory being filled. Each call makes one entry, and the directories above it.
///
/// All of them panic when the file system refuses: a scene that cannot be built is no result.
#[derive(Clone, Debug)]
pub struct Tree(PathBuf);

impl Tree {
    /// Makes `dir`, if it is not there.
    pub fn at(dir: impl AsRef<Path>) -> Self {
        fs::create_dir_all(&dir).expect("the directory can be made");
        Self(dir.as_ref().to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A regular file with this content; an older one is rewritten in place.
    pub fn file(self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.place(name), content).expect("the file can be written");
        self
    }

    /// A directory.
    pub fn dir(self, name: impl AsRef<OsStr>) -> Self {
        fs::create_dir_all(self.place(name)).expect("the directory can be made");
        self
    }

    /// A symbolic link.
    pub fn link(self, name: impl AsRef<OsStr>, target: impl AsRef<OsStr>) -> Self {
        symlink(Path::new(target.as_ref()), self.place(name)).expect("the link can be made");
        self
    }

    /// The mode of a file or directory.
    pub fn mode(self, name: impl AsRef<OsStr>, mode: u32) -> Self {
        fs::set_permissions(self.place(name), fs::Permissions::from_mode(mode)).expect("the mode can be set");
        self
    }

    /// The modification time, in nanoseconds since 1970, of a file or directory.
    pub fn mtime(self, name: impl AsRef<OsStr>, ns: u64) -> Self {
        set_mtime(&self.place(name), SystemTime::UNIX_EPOCH + Duration::from_nanos(ns));
        self
    }

    /// Removes whatever has this name.
    pub fn remove(self, name: impl AsRef<OsStr>) -> Self {
        let path = self.place(name);
        let gone = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        gone.expect("the entry can be removed");
        self
    }

    /// One of every kind and trap: empty and large files, modes, old and odd times, an empty directory, links (to a
    /// file, a directory, nothing, outside), deep and long names, and names that are not UTF-8.
    pub fn every_kind(self) -> Self {
        let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        self.file("empty", "")
            .file("text", "hello\n")
            .file("large", large)
            .file("run.sh", "#!/bin/sh\n")
            .mode("run.sh", 0o755)
            .file("private", "secret")
            .mode("private", 0o600)
            .file("read only", "no")
            .mode("read only", 0o444)
            .file("old", "1970")
            .mtime("old", 1)
            .file("odd", "time")
            .mtime("odd", 1_600_000_000_123_456_789)
            .file(OsStr::from_bytes(b"not-utf8-\xff\xfe"), "bytes")
            .file("new\nline and \u{1b}[31mred", "name")
            .file("ü/ø/日本", "deep")
            .file("n".repeat(255), "long")
            .file("d/e/f/g/h/i/j/k", "deeper")
            .dir("nothing in here")
            .dir("closed")
            .mode("closed", 0o700)
            .link("to-text", "text")
            .link("to-dir", "d/e")
            .link("to-nothing", "nowhere/at all")
            .link("to-outside", "/etc/hostname")
            .link(OsStr::from_bytes(b"d/\xc3\x28"), OsStr::from_bytes(b"../\xff"))
            .file("-rf", "a name like a flag")
            .mtime("d/e", 1_500_000_000_000_000_001)
    }

    fn place(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.0.join(Path::new(name.as_ref()));
        let above = path.parent().expect("a name below a directory");
        fs::create_dir_all(above).expect("the directories above can be made");
        path
    }
}

/// Sets the modification time of a file or directory; links are not followed into anything else here.
pub(crate) fn set_mtime(path: &Path, time: SystemTime) {
    fs::File::open(path).and_then(|file| file.set_modified(time)).expect("the time can be set");
}
