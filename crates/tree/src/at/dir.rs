//! A held directory, and everything that is done to the names in it.

use super::meta::{self, Stat};
use crate::fsx::Error;
use crate::path::{Name, RelPath};
use crate::{Kind, at::TempNames};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes asked for in one `getdents` call: a directory of a few hundred names in one.
const LIST_BUFFER_BYTES: usize = 64 * 1024;
/// Tries to find a free temporary name; with random names one is enough.
const TEMP_TRIES: u32 = 8;

const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Set once `openat2` was refused as unknown (Linux before 5.6, some seccomp profiles).
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// A directory held open by its descriptor: it stays itself whatever happens to its path.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Where it was found; for messages only.
    path: PathBuf,
    /// It was listed before, so the next listing has to go back to its begin.
    listed: AtomicBool,
}

/// A name in a directory and, where the file system tells, its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Name,
    /// `None` where the file system does not tell without a `stat`.
    pub kind: Option<Kind>,
}

/// The buffer of [`Dir::list`], reused from directory to directory.
pub struct ListBuffer(Vec<u8>);

impl Default for ListBuffer {
    fn default() -> Self {
        Self(Vec::with_capacity(LIST_BUFFER_BYTES))
    }
}

impl std::fmt::Debug for ListBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ListBuffer")
    }
}

impl Dir {
    /// Opens the directory an operator named. A symlink is followed here, and only here: it is the operator's own.
    ///
    /// # Errors
    /// When nothing is there, it is not a directory, or it may not be read.
    pub fn open_root(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| Error::new("open", path, e))?;
        Ok(Self::new(fd, path.to_owned()))
    }

    /// Makes the directory an operator named, mode 0700, and opens it. What is above it must exist.
    ///
    /// # Errors
    /// When something stands there, or nothing above it.
    pub fn make_root(path: &Path) -> Result<Self, Error> {
        let made = rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o700));
        made.map_err(|e| Error::new("create the directory", path, e))?;
        Self::open_root(path)
    }

    /// Device and inode of this directory and of all above it, up to the root of the file system tree.
    ///
    /// # Errors
    /// When one above may not be searched.
    pub fn lineage(&self) -> Result<Vec<(u64, u64)>, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut ids = vec![self.stat_self()?.id()];
        let mut held: Option<OwnedFd> = None;
        loop {
            let below = held.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            let above = rustix::fs::openat(below, "..", flags, Mode::empty())
                .map_err(|e| Error::new("open what is above", &self.path, e))?;
            let id = meta::stat_of(&above, &self.path)?.id();
            // Only the root is its own parent.
            if ids.last() == Some(&id) {
                return Ok(ids);
            }
            ids.push(id);
            held = Some(above);
        }
    }

    /// Opens the directory `name` in this one.
    ///
    /// # Errors
    /// When it is missing, not a directory (a symlink is none), or may not be read.
    pub fn open(&self, name: &Name) -> Result<Self, Error> {
        // One component and O_NOFOLLOW cannot leave the directory: openat2 would add nothing but a failure mode.
        let fd = rustix::fs::openat(&self.fd, name.as_bytes(), OPEN_DIR, Mode::empty())
            .map_err(|e| self.error("open", name, e))?;
        Ok(Self::new(fd, self.path_of(name)))
    }

    /// Opens the directory that this one is in, if that is `above`, by device and inode.
    ///
    /// # Errors
    /// When it may not be read.
    pub fn open_above(&self, above: (u64, u64)) -> Result<Option<Self>, Error> {
        let path = self.path.parent().unwrap_or(&self.path).to_owned();
        let opened = rustix::fs::openat(&self.fd, "..", OPEN_DIR, Mode::empty());
        let dir = Self::new(opened.map_err(|e| Error::new("open", &path, e))?, path);
        Ok((dir.stat_self()?.id() == above).then_some(dir))
    }

    /// Like [`Dir::open`], for a directory we must work in: where its mode keeps us out and it is ours, the owner's
    /// rights are given first. Returns whether they were; the caller puts the wanted mode there in the end.
    ///
    /// # Errors
    /// As [`Dir::open`], and when the mode cannot be changed.
    pub fn open_forced(&self, name: &Name) -> Result<(Self, bool), Error> {
        match self.open(name) {
            Err(e) if e.errno == Errno::ACCESS => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(&self.fd, name.as_bytes(), flags, Mode::empty())
                    .map_err(|e| self.error("open", name, e))?;
                let stat = meta::stat_of(&fd, &self.path_of(name))?;
                let mode = Mode::from_raw_mode(stat.mode | 0o700);
                // A descriptor without read rights cannot be changed itself, but by its name in /proc, which leads
                // to exactly this directory.
                rustix::fs::chmodat(CWD, proc_path(&fd), mode, AtFlags::empty())
                    .map_err(|e| self.error("set the mode of", name, e))?;
                Ok((self.open(name)?, true))
            }
            opened => Ok((opened?, false)),
        }
    }

    /// Opens the directory at `path` below this one; the root gives a second descriptor of this directory.
    ///
    /// # Errors
    /// As [`Dir::open`], for any component.
    pub fn walk(&self, path: &RelPath) -> Result<Self, Error> {
        let full = self.path.join(OsStr::from_bytes(path.as_bytes()));
        if path.is_root() {
            let fd = rustix::fs::openat(&self.fd, ".", OPEN_DIR, Mode::empty());
            return Ok(Self::new(fd.map_err(|e| Error::new("open", &self.path, e))?, self.path.clone()));
        }
        if !NO_OPENAT2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&self.fd, path.as_bytes(), OPEN_DIR, Mode::empty(), resolve) {
                Ok(fd) => return Ok(Self::new(fd, full)),
                Err(Errno::NOSYS | Errno::PERM) => NO_OPENAT2.store(true, Ordering::Relaxed),
                // Somebody renamed something on the way; the walk by components looks again.
                Err(Errno::AGAIN) => {}
                Err(e) => return Err(Error::new("open", full, e)),
            }
        }
        self.walk_by_components(path)
    }

    fn walk_by_components(&self, path: &RelPath) -> Result<Self, Error> {
        let mut held: Option<Dir> = None;
        for component in path.components() {
            let name = Name::new(component).expect("the components of a checked path are names");
            held = Some(held.as_ref().unwrap_or(self).open(&name)?);
        }
        match held {
            Some(dir) => Ok(dir),
            None => self.walk(&RelPath::root()),
        }
    }

    /// Where this directory was found; for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `name` in it is; for messages only.
    pub fn path_of(&self, name: &Name) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.as_bytes()))
    }

    /// All names in it, sorted by their bytes, without `.` and `..`.
    ///
    /// # Errors
    /// When it cannot be read to its end: then nothing is returned, for half a listing would look like deletions.
    pub fn list(&self, buffer: &mut ListBuffer) -> Result<Vec<DirEntry>, Error> {
        let error = |e| Error::new("list", &self.path, e);
        if self.listed.swap(true, Ordering::Relaxed) {
            rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Start(0)).map_err(error)?;
        }
        let mut entries = Vec::new();
        let mut raw = RawDir::new(&self.fd, buffer.0.spare_capacity_mut());
        while let Some(entry) = raw.next() {
            let entry = entry.map_err(error)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => None,
                known => Some(meta::kind_of(known)),
            };
            // A file system with longer names than Linux allows does not exist for us.
            let name = Name::new(name).map_err(|_| error(Errno::NAMETOOLONG))?;
            entries.push(DirEntry { name, kind });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// What the disk says about `name`.
    ///
    /// # Errors
    /// When it is missing or the directory may not be searched.
    pub fn stat(&self, name: &Name) -> Result<Stat, Error> {
        Stat::read(&self.fd, name.as_bytes()).map_err(|e| self.error("read the metadata of", name, e))
    }

    /// [`Dir::stat`], with `None` where nothing stands.
    ///
    /// # Errors
    /// When the directory may not be searched.
    pub fn look(&self, name: &Name) -> Result<Option<Stat>, Error> {
        match self.stat(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(e) if e.is_missing() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What the disk says about this directory itself.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn stat_self(&self) -> Result<Stat, Error> {
        meta::stat_of(&self.fd, &self.path)
    }

    /// Where the link `name` points, as found.
    ///
    /// # Errors
    /// When it is missing or not a link.
    pub fn read_link(&self, name: &Name) -> Result<Box<[u8]>, Error> {
        rustix::fs::readlinkat(&self.fd, name.as_bytes(), Vec::new())
            .map(|target| target.into_bytes().into_boxed_slice())
            .map_err(|e| self.error("read the link", name, e))
    }

    /// Opens the regular file `name` for reading.
    ///
    /// Opening never waits, and anything but a regular file is refused, so a fifo put in its place cannot hold us up.
    ///
    /// # Errors
    /// When it is missing, may not be read, or is not a regular file (`ELOOP`, `EINVAL`).
    pub fn open_file(&self, name: &Name) -> Result<(File, Stat), Error> {
        let fd = self.open_bare(name)?;
        let stat = Stat::read(&fd, b"").map_err(|e| self.error("read the metadata of", name, e))?;
        if stat.kind != Kind::File {
            return Err(self.error("read as a file", name, Errno::INVAL));
        }
        Ok((fd, stat))
    }

    /// [`Dir::open_file`] without looking at what was opened: the caller compares a later [`stat_of`](meta::stat_of)
    /// with what it listed.
    ///
    /// # Errors
    /// When it is missing, a symlink, or may not be read.
    pub fn open_bare(&self, name: &Name) -> Result<File, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::openat(&self.fd, name.as_bytes(), flags, Mode::empty())
            .map(File::from)
            .map_err(|e| self.error("open", name, e))
    }

    /// Holds what stands at `name`, whatever it is, and what it is. It can be neither read nor written through this; while
    /// it is held its content is not freed when its last name goes.
    ///
    /// # Errors
    /// When it is missing or the directory may not be searched.
    pub fn hold(&self, name: &Name) -> Result<(OwnedFd, Stat), Error> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name.as_bytes(), flags, Mode::empty())
            .map_err(|e| self.error("open", name, e))?;
        let stat = Stat::read(&fd, b"").map_err(|e| self.error("read the metadata of", name, e))?;
        Ok((fd, stat))
    }

    /// A new file here without any name, mode 0600: gone by itself unless [`Dir::link_in`] names it.
    ///
    /// # Errors
    /// `EOPNOTSUPP` (or `EISDIR`, `EINVAL`) where the file system cannot do that; else as any creation.
    pub fn create_unnamed(&self) -> Result<File, Error> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, ".", flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|e| Error::new("create a file in", &self.path, e))
    }

    /// Gives an unnamed file its name. Never replaces: `EEXIST` where something stands.
    ///
    /// # Errors
    /// When something stands there, the file is on another file system, or the directory may not be written.
    pub fn link_in(&self, file: impl AsFd, name: &Name) -> Result<(), Error> {
        let direct = rustix::fs::linkat(&file, "", &self.fd, name.as_bytes(), AtFlags::EMPTY_PATH);
        match direct {
            // How a kernel before 6.10 says that this is for privileged users.
            Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
                rustix::fs::linkat(CWD, proc_path(&file), &self.fd, name.as_bytes(), AtFlags::SYMLINK_FOLLOW)
            }
            done => done,
        }
        .map_err(|e| self.error("create", name, e))
    }

    /// Gives what stands at `name` a second name in the directory `to`; a link itself, not what it leads to. Never
    /// replaces: `EEXIST` where something stands.
    ///
    /// # Errors
    /// `EXDEV` when it is another file system; else when it is a directory, not ours, or `to` may not be written.
    pub fn link_to(&self, name: &Name, to: &Dir, to_name: &Name) -> Result<(), Error> {
        rustix::fs::linkat(&self.fd, name.as_bytes(), &to.fd, to_name.as_bytes(), AtFlags::empty())
            .map_err(|e| to.error("create", to_name, e))
    }

    /// A new file `name`, for reading and writing, with `mode` as far as the umask lets it. Never replaces.
    ///
    /// # Errors
    /// When something stands there or the directory may not be written.
    pub fn create(&self, name: &Name, mode: u32) -> Result<File, Error> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name.as_bytes(), flags, Mode::from_raw_mode(mode & 0o777))
            .map(File::from)
            .map_err(|e| self.error("create", name, e))
    }

    /// A new file under a name of `names`, mode 0600.
    ///
    /// # Errors
    /// When the directory may not be written or the disk is full.
    pub fn create_temp(&self, names: &TempNames) -> Result<(Name, File), Error> {
        self.with_temp_name(names, |dir, name| dir.create(name, 0o600))
    }

    /// A new directory under a name of `names`, mode 0700, held.
    ///
    /// # Errors
    /// When the directory may not be written or the disk is full.
    pub fn make_temp_dir(&self, names: &TempNames) -> Result<(Name, Dir), Error> {
        self.with_temp_name(names, |dir, name| {
            dir.make_dir(name)?;
            // One that cannot be opened is nobody's.
            dir.open(name).or_else(|e| dir.remove_dir(name).and(Err(e)))
        })
    }

    /// A new symlink to `target` under a name of `names`.
    ///
    /// # Errors
    /// When the directory may not be written or the disk is full.
    pub fn make_temp_link(&self, names: &TempNames, target: &[u8]) -> Result<Name, Error> {
        self.with_temp_name(names, |dir, name| dir.make_link(name, target)).map(|(name, ())| name)
    }

    pub(super) fn with_temp_name<T>(
        &self,
        names: &TempNames,
        make: impl Fn(&Self, &Name) -> Result<T, Error>,
    ) -> Result<(Name, T), Error> {
        let mut tries = 0;
        loop {
            let name = names.next_name();
            match make(self, &name) {
                Err(e) if e.errno == Errno::EXIST && tries < TEMP_TRIES => tries += 1,
                made => return made.map(|made| (name, made)),
            }
        }
    }

    /// Renames `from` to `to` in this directory, replacing what stands there at once.
    ///
    /// # Errors
    /// As rename(2): a directory replaces only an empty one.
    pub fn rename(&self, from: &Name, to: &Name) -> Result<(), Error> {
        rustix::fs::renameat(&self.fd, from.as_bytes(), &self.fd, to.as_bytes())
            .map_err(|e| self.error("replace", to, e))
    }

    /// Renames `from` to `to`; `EEXIST` where something stands.
    ///
    /// # Errors
    /// When something stands there or the directory may not be written.
    pub fn rename_no_replace(&self, from: &Name, to: &Name) -> Result<(), Error> {
        match self.rename_with(from, to, RenameFlags::NOREPLACE) {
            // The file system does not know the flag: look, then rename. What comes in between and is not an empty
            // directory or a file fails the rename; one of those two would be replaced, as rename(2) does.
            Err(Errno::INVAL | Errno::NOSYS) => match Stat::read(&self.fd, to.as_bytes()) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(&self.fd, from.as_bytes(), &self.fd, to.as_bytes()),
                Err(e) => Err(e),
            },
            done => done,
        }
        .map_err(|e| self.error("create", to, e))
    }

    /// Renames `name` to `to_name` in the directory `to`, where nothing of that name must stand.
    ///
    /// # Errors
    /// As rename(2), and `EEXIST`.
    pub fn move_to(&self, name: &Name, to: &Dir, to_name: &Name) -> Result<(), Error> {
        let (from, to_fd, flags) = (name.as_bytes(), &to.fd, RenameFlags::NOREPLACE);
        match rustix::fs::renameat_with(&self.fd, from, to_fd, to_name.as_bytes(), flags) {
            Err(Errno::INVAL | Errno::NOSYS) => match Stat::read(to_fd, to_name.as_bytes()) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(&self.fd, from, to_fd, to_name.as_bytes()),
                Err(e) => Err(e),
            },
            done => done,
        }
        .map_err(|e| self.error("move", name, e))
    }

    /// Exchanges `a` and `b` at once, whatever their kinds.
    ///
    /// # Errors
    /// `EINVAL` where the file system cannot; else when one is missing or the directory may not be written.
    pub fn exchange(&self, a: &Name, b: &Name) -> Result<(), Error> {
        self.rename_with(a, b, RenameFlags::EXCHANGE).map_err(|e| self.error("replace", b, e))
    }

    fn rename_with(&self, from: &Name, to: &Name, flags: RenameFlags) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.fd, from.as_bytes(), &self.fd, to.as_bytes(), flags)
    }

    /// A new directory, mode 0700. Never replaces.
    ///
    /// # Errors
    /// When something stands there or the directory may not be written.
    pub fn make_dir(&self, name: &Name) -> Result<(), Error> {
        rustix::fs::mkdirat(&self.fd, name.as_bytes(), Mode::from_raw_mode(0o700))
            .map_err(|e| self.error("create the directory", name, e))
    }

    /// A new symlink. Never replaces.
    ///
    /// # Errors
    /// When something stands there or the directory may not be written.
    pub fn make_link(&self, name: &Name, target: &[u8]) -> Result<(), Error> {
        rustix::fs::symlinkat(target, &self.fd, name.as_bytes()).map_err(|e| self.error("create the link", name, e))
    }

    /// Removes anything but a directory.
    ///
    /// # Errors
    /// When it is missing, a directory, or the directory may not be written.
    pub fn remove_file(&self, name: &Name) -> Result<(), Error> {
        rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::empty()).map_err(|e| self.error("delete", name, e))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// When it is missing, not a directory, not empty, or the directory may not be written.
    pub fn remove_dir(&self, name: &Name) -> Result<(), Error> {
        rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::REMOVEDIR).map_err(|e| self.error("delete", name, e))
    }

    /// Sets the time of last modification of `name` itself; a link is not followed.
    ///
    /// # Errors
    /// When it is missing or not ours.
    pub fn set_times_of(&self, name: &Name, mtime_ns: i64) -> Result<(), Error> {
        rustix::fs::utimensat(&self.fd, name.as_bytes(), &meta::timestamps(mtime_ns), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.error("set the time of", name, e))
    }

    /// Takes the one writer's lock of this directory without waiting; it lasts as long as this descriptor, or a
    /// copy of it. Returns whether it was free. Keyed by the inode, so no path leads around it.
    ///
    /// # Errors
    /// Where the file system has no locks.
    pub fn try_lock(&self) -> Result<bool, Error> {
        match rustix::fs::flock(&self.fd, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(e) => Err(Error::new("lock", &self.path, e)),
        }
    }

    /// Has everything written to this file system so far reach the disk.
    ///
    /// # Errors
    /// When a write could not be done, now or since the last call.
    pub fn sync_file_system(&self) -> Result<(), Error> {
        rustix::fs::syncfs(&self.fd).map_err(|e| Error::new("write to disk", &self.path, e))
    }

    fn new(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path, listed: AtomicBool::new(false) }
    }

    fn error(&self, op: &'static str, name: &Name, errno: Errno) -> Error {
        Error::new(op, self.path_of(name), errno)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn proc_path(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    fn name(s: &str) -> Name {
        Name::new(s.as_bytes()).unwrap()
    }

    fn scratch() -> (tempfile::TempDir, Dir) {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(scratch.path().join("in/a/b")).unwrap();
        std::fs::write(scratch.path().join("secret"), "outside").unwrap();
        let dir = Dir::open_root(&scratch.path().join("in")).unwrap();
        (scratch, dir)
    }

    #[test]
    fn no_link_is_followed_on_any_way_in() {
        let (scratch, dir) = scratch();
        symlink(scratch.path(), scratch.path().join("in/up")).unwrap();
        symlink("../secret", scratch.path().join("in/leaf")).unwrap();
        symlink("../../..", scratch.path().join("in/a/out")).unwrap();
        assert!(dir.open(&name("up")).is_err() && dir.open_forced(&name("up")).is_err());
        assert!(dir.open_file(&name("leaf")).is_err() && dir.open_bare(&name("leaf")).is_err());
        for path in ["up/in", "a/out/in", "a/out"] {
            let path = RelPath::new(path.as_bytes()).unwrap();
            assert!(dir.walk(&path).is_err() && dir.walk_by_components(&path).is_err(), "{path}");
        }
        assert_eq!(dir.stat(&name("leaf")).unwrap().kind, Kind::Link);
        let before = std::fs::metadata(scratch.path().join("secret")).unwrap().modified().unwrap();
        dir.set_times_of(&name("leaf"), 5).unwrap();
        assert_eq!(dir.stat(&name("leaf")).unwrap().mtime_ns, 5);
        assert_eq!(std::fs::metadata(scratch.path().join("secret")).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn both_walks_lead_to_the_same_directory() {
        let (_scratch, dir) = scratch();
        let path = RelPath::new(*b"a/b").unwrap();
        let id = |dir: Dir| dir.stat_self().unwrap().id();
        assert_eq!(id(dir.walk(&path).unwrap()), id(dir.walk_by_components(&path).unwrap()));
        assert_eq!(id(dir.walk(&RelPath::root()).unwrap()), dir.stat_self().unwrap().id());
    }

    #[test]
    fn opening_a_fifo_as_a_file_neither_waits_nor_succeeds() {
        let (_scratch, dir) = scratch();
        rustix::fs::mknodat(&dir, "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(dir.open_file(&name("fifo")).unwrap_err().errno, Errno::INVAL);
    }

    #[test]
    fn a_file_without_a_name_gets_one_and_never_replaces() {
        let (_scratch, dir) = scratch();
        let mut file = dir.create_unnamed().unwrap();
        file.write_all(b"content").unwrap();
        let before = dir.list(&mut ListBuffer::default()).unwrap().len();
        dir.link_in(&file, &name("new")).unwrap();
        assert_eq!(dir.list(&mut ListBuffer::default()).unwrap().len(), before + 1);
        let mut read = String::new();
        dir.open_file(&name("new")).unwrap().0.read_to_string(&mut read).unwrap();
        assert_eq!(read, "content");
        let other = dir.create_unnamed().unwrap();
        assert_eq!(dir.link_in(&other, &name("new")).unwrap_err().errno, Errno::EXIST);
        let (temp, _) = dir.create_temp(&TempNames::new()).unwrap();
        assert_eq!(dir.rename_no_replace(&temp, &name("new")).unwrap_err().errno, Errno::EXIST);
        dir.exchange(&name("a"), &name("new")).unwrap();
        assert_eq!(dir.stat(&name("new")).unwrap().kind, Kind::Dir);
    }

    #[test]
    fn a_listing_is_sorted_whole_and_can_be_repeated() {
        let (scratch, dir) = scratch();
        for n in 0..3_000 {
            std::fs::write(scratch.path().join(format!("in/a/b/file with a longer name {n}")), "").unwrap();
        }
        let inner = dir.walk(&RelPath::new(*b"a/b").unwrap()).unwrap();
        let mut buffer = ListBuffer::default();
        let first = inner.list(&mut buffer).unwrap();
        assert_eq!(first.len(), 3_000);
        assert!(first.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(first, inner.list(&mut buffer).unwrap());
    }

    #[test]
    fn the_lock_is_the_directorys_own() {
        let (scratch, dir) = scratch();
        assert!(dir.try_lock().unwrap());
        symlink("in", scratch.path().join("alias")).unwrap();
        let other = Dir::open_root(&scratch.path().join("alias")).unwrap();
        assert!(!other.try_lock().unwrap(), "no path leads around it");
        drop(dir);
        assert!(other.try_lock().unwrap());
    }

    #[test]
    fn a_lineage_leads_to_the_root() {
        let (scratch, dir) = scratch();
        let line = dir.lineage().unwrap();
        let above = Dir::open_root(scratch.path()).unwrap().lineage().unwrap();
        assert_eq!(line[1..], above[..]);
    }
}
