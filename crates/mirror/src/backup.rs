//! Keeping what is overwritten or deleted, under its relative path in a directory of the operator's.
//!
//! A content that goes is given a second name there before its first one is taken, so it is never without one; where
//! that cannot be done (another file system) it is copied. What is there already is never replaced: the next free of
//! `NAME.~1~`, `NAME.~2~` and so on is taken.

use crate::problem::Problem;
use rustix::io::Errno;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tree::at::{TempNames, set_mode, set_times, stat_of};
use tree::{Dir, Kind, Name, RelPath, Stat, fsx};

/// Versions of one name.
const NUMBERS_MAX: u32 = 10_000;

/// A directory for what is overwritten or deleted.
#[derive(Debug)]
pub struct Backup {
    root: Dir,
    /// Where the originals are.
    dest: Arc<Dir>,
    temps: TempNames,
    /// What it is called, for messages.
    path: PathBuf,
}

/// What [`Backup::save`] made; taken back if what it was for did not happen.
#[derive(Debug)]
pub(crate) struct Saved {
    dir: Dir,
    name: Name,
}

impl Backup {
    /// A backup of `dest` in `root`, which the operator calls `path`.
    pub fn new(root: Dir, dest: Arc<Dir>, path: &Path) -> Self {
        Self { root, dest, temps: TempNames::new(), path: path.to_owned() }
    }

    /// Device and inode of the directory.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn id(&self) -> Result<(u64, u64), fsx::Error> {
        Ok(self.root.stat_self()?.id())
    }

    /// Saves the file, link or special file `name` of `dir`, which is `found`. It keeps its name, too.
    pub(crate) fn save(&self, dir: &Dir, name: &Name, path: &RelPath, found: &Stat) -> Result<Saved, Problem> {
        self.try_save(dir, name, path, found).map_err(|e| self.not_saved(path, e))
    }

    /// Saves a directory with everything in it. It stays where it is.
    pub(crate) fn save_tree(&self, dir: &Dir, name: &Name, path: &RelPath) -> Result<(), Problem> {
        let Some(stat) = dir.look(name)? else { return Ok(()) };
        if stat.kind != Kind::Dir {
            return self.save(dir, name, path, &stat).map(|_| ());
        }
        let (inner, _) = dir.open_forced(name)?;
        for entry in inner.list(&mut tree::at::ListBuffer::default())? {
            let child = path.join(&entry.name).map_err(|_| Problem::TooDeep(path.clone()))?;
            self.save_tree(&inner, &entry.name, &child)?;
        }
        self.save_dir(path, &stat)
    }

    /// Saves that there was the directory `path`, with the mode and time of `found`.
    pub(crate) fn save_dir(&self, path: &RelPath, found: &Stat) -> Result<(), Problem> {
        let done = self.directory(path).and_then(|dir| {
            set_mode(&dir, found.mode | 0o700, dir.path())?;
            set_times(&dir, found.mtime_ns, dir.path())
        });
        done.map_err(|e| self.not_saved(path, e))
    }

    fn not_saved(&self, path: &RelPath, error: fsx::Error) -> Problem {
        let backup = tree::path::escape(self.path.as_os_str().as_encoded_bytes());
        Problem::NotSaved { path: path.clone(), backup, error }
    }

    fn try_save(&self, dir: &Dir, name: &Name, path: &RelPath, found: &Stat) -> Result<Saved, fsx::Error> {
        let above = self.directory(&path.parent().unwrap_or_default())?;
        // A content of several names would go on changing through the others.
        let shared = found.kind == Kind::File && found.nlink > 1;
        if !shared {
            match free_name(&above, name, |free| dir.link_to(name, &above, free)) {
                Ok(free) if above.stat(&free)?.id() == found.id() => return Ok(Saved { dir: above, name: free }),
                Ok(free) => {
                    above.remove_file(&free)?;
                    return Err(fsx::Error::new("back up", dir.path_of(name), Errno::STALE));
                }
                Err(e) if !is_no_link(e.errno) => return Err(e),
                Err(_) => {}
            }
        }
        let temp = self.copy(dir, name, found, &above)?;
        let named = free_name(&above, name, |free| above.rename_no_replace(&temp, free));
        if named.is_err() {
            above.remove_file(&temp)?;
        }
        Ok(Saved { name: named?, dir: above })
    }

    /// A copy of what stands at `name` of `dir`, under a temporary name in `above`.
    fn copy(&self, dir: &Dir, name: &Name, found: &Stat, above: &Dir) -> Result<Name, fsx::Error> {
        let stale = || fsx::Error::new("back up", dir.path_of(name), Errno::STALE);
        match found.kind {
            Kind::File => {
                let (mut from, now) = dir.open_file(name)?;
                if !found.is_unchanged(&now) {
                    return Err(stale());
                }
                let (temp, mut to) = above.create_temp(&self.temps)?;
                let path = above.path_of(&temp);
                let copied = std::io::copy(&mut from, &mut to)
                    .and_then(|_| to.flush())
                    .map_err(|e| fsx::Error::from_io("write", &path, &e))
                    .and_then(|()| set_mode(&to, found.mode, &path))
                    .and_then(|()| set_times(&to, found.mtime_ns, &path))
                    .and_then(|()| stat_of(&from, &path));
                match copied {
                    Ok(after) if found.is_unchanged(&after) => Ok(temp),
                    done => {
                        above.remove_file(&temp)?;
                        done.and_then(|_| Err(stale()))
                    }
                }
            }
            Kind::Link => {
                let temp = above.make_temp_link(&self.temps, &dir.read_link(name)?)?;
                above.set_times_of(&temp, found.mtime_ns)?;
                Ok(temp)
            }
            Kind::Dir | Kind::Special => Err(fsx::Error::new("back up", dir.path_of(name), Errno::XDEV)),
        }
    }

    /// The directory that stands for `path` of the destination, made if it is missing. Where something else has its
    /// name, the next free one is taken.
    fn directory(&self, path: &RelPath) -> Result<Dir, fsx::Error> {
        let mut held = self.root.walk(&RelPath::root())?;
        let mut original = RelPath::root();
        for component in path.components() {
            let too_long = |_| fsx::Error::new("back up", held.path(), Errno::NAMETOOLONG);
            let name = Name::new(component).map_err(too_long)?;
            original = original.join(&name).map_err(too_long)?;
            let mut next = None;
            free_name(&held, &name, |free| {
                match held.make_dir(free) {
                    Ok(()) => {
                        let dir = held.open(free)?;
                        // Who may not look into the original may not look in here.
                        let stat = self.dest.walk(&original).and_then(|dir| dir.stat_self());
                        let mode = stat.map_or(0o700, |stat| stat.mode | 0o700);
                        set_mode(&dir, mode, dir.path())?;
                        next = Some(dir);
                        Ok(())
                    }
                    Err(e) if e.errno == Errno::EXIST => match held.open(free) {
                        Ok(dir) => {
                            next = Some(dir);
                            Ok(())
                        }
                        Err(other) if matches!(other.errno, Errno::NOTDIR | Errno::LOOP) => Err(e),
                        Err(other) => Err(other),
                    },
                    Err(e) => Err(e),
                }
            })?;
            held = next.ok_or_else(|| fsx::Error::new("back up", held.path(), Errno::NOENT))?;
        }
        Ok(held)
    }
}

impl Saved {
    /// Takes it back: what was saved was not overwritten after all.
    pub(crate) fn undo(self) {
        if let Err(e) = self.dir.remove_file(&self.name) {
            tracing::debug!("{e}");
        }
    }
}

/// Tries `make` with `name`, then with a number behind it, until nothing stands there.
fn free_name(
    dir: &Dir,
    name: &Name,
    mut make: impl FnMut(&Name) -> Result<(), fsx::Error>,
) -> Result<Name, fsx::Error> {
    let taken = || fsx::Error::new("back up", dir.path_of(name), Errno::EXIST);
    for number in 0..NUMBERS_MAX {
        let mut bytes = name.as_bytes().to_vec();
        if number > 0 {
            bytes.extend_from_slice(format!(".~{number}~").as_bytes());
        }
        let free = Name::new(bytes).map_err(|_| fsx::Error::new("back up", dir.path_of(name), Errno::NAMETOOLONG))?;
        match make(&free) {
            Ok(()) => return Ok(free),
            Err(e) if e.errno == Errno::EXIST => {}
            Err(e) => return Err(e),
        }
    }
    Err(taken())
}

/// Whether an error says that a second name cannot be given there, but a copy can be made.
fn is_no_link(errno: Errno) -> bool {
    matches!(errno, Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn name(s: &str) -> Name {
        Name::new(s.as_bytes()).unwrap()
    }

    fn path(s: &str) -> RelPath {
        RelPath::new(s.as_bytes()).unwrap()
    }

    fn scene() -> (tempfile::TempDir, Arc<Dir>, Backup) {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(scratch.path().join("dest/sub")).unwrap();
        std::fs::create_dir(scratch.path().join("backup")).unwrap();
        let dest = Arc::new(Dir::open_root(&scratch.path().join("dest")).unwrap());
        let at = scratch.path().join("backup");
        let backup = Backup::new(Dir::open_root(&at).unwrap(), Arc::clone(&dest), &at);
        (scratch, dest, backup)
    }

    #[test]
    fn what_is_saved_is_the_content_itself_and_each_version_has_a_name() {
        let (scratch, dest, backup) = scene();
        let at = |s: &str| scratch.path().join(s);
        std::fs::set_permissions(at("dest/sub"), std::fs::Permissions::from_mode(0o750)).unwrap();
        let sub = dest.open(&name("sub")).unwrap();
        for content in ["one", "two", "three"] {
            std::fs::write(at("dest/sub/f"), content).unwrap();
            let stat = sub.stat(&name("f")).unwrap();
            backup.save(&sub, &name("f"), &path("sub/f"), &stat).unwrap();
            std::fs::remove_file(at("dest/sub/f")).unwrap();
        }
        let read = |s: &str| std::fs::read_to_string(at(s)).unwrap();
        assert_eq!(read("backup/sub/f"), "one");
        assert_eq!(read("backup/sub/f.~1~"), "two");
        assert_eq!(read("backup/sub/f.~2~"), "three");
        assert_eq!(std::fs::metadata(at("backup/sub")).unwrap().mode() & 0o777, 0o750);
    }

    #[test]
    fn a_content_with_other_names_is_copied_so_that_they_cannot_change_it() {
        let (scratch, dest, backup) = scene();
        let at = |s: &str| scratch.path().join(s);
        std::fs::write(at("dest/f"), "saved").unwrap();
        std::fs::hard_link(at("dest/f"), at("outside")).unwrap();
        let stat = dest.stat(&name("f")).unwrap();
        let saved = backup.save(&dest, &name("f"), &path("f"), &stat).unwrap();
        std::fs::write(at("outside"), "changed").unwrap();
        assert_eq!(std::fs::read_to_string(at("backup/f")).unwrap(), "saved");
        assert_eq!(backup.root.stat(&name("f")).unwrap().mtime_ns, stat.mtime_ns);
        saved.undo();
        assert!(!at("backup/f").exists());
    }

    #[test]
    fn something_else_than_what_was_looked_at_is_not_saved() {
        let (scratch, dest, backup) = scene();
        std::fs::write(scratch.path().join("dest/f"), "one").unwrap();
        let stat = dest.stat(&name("f")).unwrap();
        let before = std::fs::File::open(scratch.path().join("dest/f")).unwrap();
        std::fs::remove_file(scratch.path().join("dest/f")).unwrap();
        std::fs::write(scratch.path().join("dest/f"), "another").unwrap();
        assert!(backup.save(&dest, &name("f"), &path("f"), &stat).is_err());
        assert_eq!(std::fs::read_dir(scratch.path().join("backup")).unwrap().count(), 0);
        drop(before);
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_gives_it_another_name() {
        let (scratch, dest, backup) = scene();
        std::fs::write(scratch.path().join("backup/sub"), "a file once").unwrap();
        std::fs::write(scratch.path().join("dest/sub/f"), "x").unwrap();
        backup.save_tree(&dest, &name("sub"), &path("sub")).unwrap();
        assert!(scratch.path().join("backup/sub.~1~/f").exists() && scratch.path().join("dest/sub/f").exists());
    }
}
