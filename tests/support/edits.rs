//! Random edits of every kind a person, an editor or a program makes, repeatable by seed.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::seed::Rng;

/// The modes given to files. The owner can always read, so that a run without root stays meaningful; set-id bits are
/// not among them, since they are not copied unless asked for.
const FILE_MODES: [u32; 6] = [0o644, 0o600, 0o755, 0o700, 0o640, 0o664];
/// The modes given to directories.
const DIR_MODES: [u32; 4] = [0o755, 0o700, 0o750, 0o775];
/// An edit that finds nothing to work on is drawn again, this often.
const DRAWS_MAX: usize = 1_000;

/// A kind of edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Edit {
    /// A file is created or rewritten in place.
    Write,
    /// Bytes are added at the end of a file.
    Append,
    /// A file is cut.
    Truncate,
    /// A new version is written beside a file and renamed over it, as many editors do.
    RenameOver,
    /// A file gets another name, perhaps in another directory.
    RenameFile,
    /// A directory gets another name, perhaps elsewhere.
    RenameDir,
    /// Directories are made, and at once a file in the deepest.
    MakeDeep,
    /// A file goes.
    Remove,
    /// A directory goes with all in it.
    RemoveAll,
    /// A symbolic link is made.
    Link,
    /// A symbolic link is replaced by one to elsewhere.
    Retarget,
    /// The mode of a file or directory changes.
    Chmod,
    /// The modification time of a file, directory or link is set, to the nanosecond.
    Touch,
    /// A file is replaced by a directory of its name, or a directory by a file.
    SwapKind,
    /// A file gets a name that is not UTF-8.
    OddName,
    /// The old version is kept as a hard link while the new one is renamed over, then dropped.
    HardLinkSave,
    /// A file gets other content with its old size and its old mtime. Only who watches, or looks at ctime or content,
    /// can see it.
    SameStat,
}

impl Edit {
    /// All kinds.
    pub const ALL: [Self; 17] = [
        Self::Write,
        Self::Append,
        Self::Truncate,
        Self::RenameOver,
        Self::RenameFile,
        Self::RenameDir,
        Self::MakeDeep,
        Self::Remove,
        Self::RemoveAll,
        Self::Link,
        Self::Retarget,
        Self::Chmod,
        Self::Touch,
        Self::SwapKind,
        Self::OddName,
        Self::HardLinkSave,
        Self::SameStat,
    ];
}

/// Edits a directory. What it knows of the directory is a memory that may be stale; every edit looks before it acts.
#[derive(Debug)]
pub struct Edits {
    root: PathBuf,
    rng: Rng,
    kinds: Vec<Edit>,
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
    links: Vec<PathBuf>,
    made: usize,
}

impl Edits {
    /// An editor of the existing directory `root`.
    ///
    /// # Panics
    /// When `root` cannot be listed.
    pub fn new(root: impl AsRef<Path>, seed: u64) -> Self {
        let root = root.as_ref().to_owned();
        let mut edits = Self {
            root: root.clone(),
            rng: Rng::new(seed),
            kinds: Edit::ALL.to_vec(),
            dirs: vec![root.clone()],
            files: Vec::new(),
            links: Vec::new(),
            made: 0,
        };
        edits.learn(&root).expect("the directory can be listed");
        edits
    }

    /// The same, never doing `edit`.
    #[must_use]
    pub fn without(mut self, edit: Edit) -> Self {
        self.kinds.retain(|kind| *kind != edit);
        self
    }

    /// Makes `count` edits of random kinds, and tells each.
    ///
    /// # Panics
    /// As [`Edits::step`].
    pub fn run(&mut self, count: usize) -> Vec<(Edit, String)> {
        (0..count).map(|_| self.step()).collect()
    }

    /// Makes one edit of a random kind, and tells it.
    ///
    /// # Panics
    /// When nothing can be edited any more.
    pub fn step(&mut self) -> (Edit, String) {
        for _ in 0..DRAWS_MAX {
            let kind = *self.rng.choose(&self.kinds).expect("some kinds are left");
            if let Ok(Some(told)) = self.attempt(kind) {
                return (kind, told);
            }
        }
        panic!("{} cannot be edited any more", self.root.display());
    }

    /// One edit of this kind; `None` when there is nothing it could work on just now.
    fn attempt(&mut self, kind: Edit) -> io::Result<Option<String>> {
        match kind {
            Edit::Write => self.write(),
            Edit::Append => self.append(),
            Edit::Truncate => self.truncate(),
            Edit::RenameOver => self.rename_over(),
            Edit::RenameFile => self.rename_file(),
            Edit::RenameDir => self.rename_dir(),
            Edit::MakeDeep => self.make_deep(),
            Edit::Remove => self.remove(),
            Edit::RemoveAll => self.remove_all(),
            Edit::Link => self.link(),
            Edit::Retarget => self.retarget(),
            Edit::Chmod => self.chmod(),
            Edit::Touch => self.touch(),
            Edit::SwapKind => self.swap_kind(),
            Edit::OddName => self.odd_name(),
            Edit::HardLinkSave => self.hard_link_save(),
            Edit::SameStat => self.same_stat(),
        }
    }

    fn write(&mut self) -> io::Result<Option<String>> {
        let path = if self.rng.one_in(2) { self.new_place("f") } else { self.file() };
        let Some(path) = path else { return Ok(None) };
        let content = self.content();
        fs::write(&path, &content)?;
        self.files.push(path.clone());
        Ok(Some(format!("write {} bytes to {path:?}", content.len())))
    }

    fn append(&mut self) -> io::Result<Option<String>> {
        let Some(path) = self.file() else { return Ok(None) };
        let content = self.content();
        OpenOptions::new().append(true).open(&path)?.write_all(&content)?;
        Ok(Some(format!("append {} bytes to {path:?}", content.len())))
    }

    fn truncate(&mut self) -> io::Result<Option<String>> {
        let Some(path) = self.file() else { return Ok(None) };
        let size = path.metadata()?.len();
        let size = self.rng.number() % (size + 1);
        OpenOptions::new().write(true).open(&path)?.set_len(size)?;
        Ok(Some(format!("cut {path:?} to {size} bytes")))
    }

    fn rename_over(&mut self) -> io::Result<Option<String>> {
        let Some(path) = self.file() else { return Ok(None) };
        let beside = path.with_file_name(format!(".{}.new", self.next_number()));
        fs::write(&beside, self.content())?;
        fs::rename(&beside, &path)?;
        Ok(Some(format!("rename a new version over {path:?}")))
    }

    fn rename_file(&mut self) -> io::Result<Option<String>> {
        let (Some(from), Some(to)) = (self.file(), self.new_place("moved")) else { return Ok(None) };
        fs::rename(&from, &to)?;
        self.files.push(to.clone());
        Ok(Some(format!("rename {from:?} to {to:?}")))
    }

    fn rename_dir(&mut self) -> io::Result<Option<String>> {
        let (Some(from), Some(to)) = (self.dir_below(), self.new_place("moved-dir")) else { return Ok(None) };
        if to.starts_with(&from) {
            return Ok(None);
        }
        fs::rename(&from, &to)?;
        self.dirs.push(to.clone());
        self.learn(&to)?;
        Ok(Some(format!("rename directory {from:?} to {to:?}")))
    }

    fn make_deep(&mut self) -> io::Result<Option<String>> {
        let Some(top) = self.new_place("deep") else { return Ok(None) };
        let mut dir = top.clone();
        for depth in 0..self.rng.below(4) {
            self.dirs.push(dir.clone());
            dir = dir.join(format!("d{depth}"));
        }
        fs::create_dir_all(&dir)?;
        self.dirs.push(dir.clone());
        if !self.rng.one_in(5) {
            let file = dir.join("file");
            fs::write(&file, self.content())?;
            self.files.push(file);
        }
        Ok(Some(format!("make {dir:?} and fill it")))
    }

    fn remove(&mut self) -> io::Result<Option<String>> {
        let Some(path) = self.file() else { return Ok(None) };
        fs::remove_file(&path)?;
        Ok(Some(format!("remove {path:?}")))
    }

    fn remove_all(&mut self) -> io::Result<Option<String>> {
        // Seldom something large: a run of edits shall not end in an empty directory.
        let Some(path) = self.dir_below() else { return Ok(None) };
        if fs::read_dir(&path)?.count() > 20 {
            return Ok(None);
        }
        fs::remove_dir_all(&path)?;
        Ok(Some(format!("remove {path:?} with all in it")))
    }

    fn link(&mut self) -> io::Result<Option<String>> {
        let Some(path) = self.new_place("link") else { return Ok(None) };
        let target = self.target();
        symlink(&target, &path)?;
        self.links.push(path.clone());
        Ok(Some(format!("link {path:?} to {target:?}")))
    }

    fn retarget(&mut self) -> io::Result<Option<String>> {
        let Some(path) = pick(&mut self.rng, &self.root, &mut self.links, |meta| meta.is_symlink()) else {
            return Ok(None);
        };
        let target = self.target();
        if self.rng.one_in(2) {
            fs::remove_file(&path)?;
            symlink(&target, &path)?;
        } else {
            let beside = path.with_file_name(format!(".{}.link", self.next_number()));
            symlink(&target, &beside)?;
            fs::rename(&beside, &path)?;
        }
        Ok(Some(format!("link {path:?} to {target:?} instead")))
    }

    fn chmod(&mut self) -> io::Result<Option<String>> {
        let (path, modes): (_, &[u32]) =
            if self.rng.one_in(3) { (self.dir_below(), &DIR_MODES) } else { (self.file(), &FILE_MODES) };
        let Some(path) = path else { return Ok(None) };
        let mode = *self.rng.choose(modes).expect("there are modes");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(Some(format!("chmod {mode:o} {path:?}")))
    }

    fn touch(&mut self) -> io::Result<Option<String>> {
        let path = match self.rng.below(4) {
            0 => self.dir_below(),
            1 => pick(&mut self.rng, &self.root, &mut self.links, |meta| meta.is_symlink()),
            _ => self.file(),
        };
        let Some(path) = path else { return Ok(None) };
        let seconds = i64::try_from(1_000_000_000 + self.rng.below(700_000_000)).expect("it fits");
        let nanoseconds = i64::try_from(self.rng.below(1_000_000_000)).expect("it fits");
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        utimensat(CWD, &path, &Timestamps { last_access: time, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Some(format!("touch {path:?} at {seconds}.{nanoseconds:09}")))
    }

    fn swap_kind(&mut self) -> io::Result<Option<String>> {
        if self.rng.one_in(2) {
            let Some(path) = self.file() else { return Ok(None) };
            fs::remove_file(&path)?;
            fs::create_dir(&path)?;
            let inside = path.join("was a file");
            fs::write(&inside, self.content())?;
            self.dirs.push(path.clone());
            self.files.push(inside);
            return Ok(Some(format!("make {path:?} a directory")));
        }
        let Some(path) = self.dir_below() else { return Ok(None) };
        if fs::read_dir(&path)?.count() > 20 {
            return Ok(None);
        }
        fs::remove_dir_all(&path)?;
        fs::write(&path, self.content())?;
        self.files.push(path.clone());
        Ok(Some(format!("make {path:?} a file")))
    }

    fn odd_name(&mut self) -> io::Result<Option<String>> {
        let Some(path) = self.new_place("odd") else { return Ok(None) };
        let mut name = path.into_os_string().into_vec();
        name.extend_from_slice([&b"-\xff\xfe"[..], b"\xc3\x28", b" \t\n", b"\x1b[0m"][self.rng.below(4)]);
        let path = PathBuf::from(OsString::from_vec(name));
        fs::write(&path, self.content())?;
        self.files.push(path.clone());
        Ok(Some(format!("write {path:?}")))
    }

    fn hard_link_save(&mut self) -> io::Result<Option<String>> {
        let Some(path) = self.file() else { return Ok(None) };
        let number = self.next_number();
        let (backup, beside) =
            (path.with_file_name(format!("{number}~")), path.with_file_name(format!(".{number}.tmp")));
        fs::hard_link(&path, &backup)?;
        fs::write(&beside, self.content())?;
        fs::rename(&beside, &path)?;
        if self.rng.one_in(2) {
            fs::remove_file(&backup)?;
        } else {
            self.files.push(backup);
        }
        Ok(Some(format!("save {path:?} with a hard link as backup")))
    }

    fn same_stat(&mut self) -> io::Result<Option<String>> {
        let Some(path) = self.file() else { return Ok(None) };
        let meta = path.metadata()?;
        let mut content = fs::read(&path)?;
        if content.is_empty() {
            return Ok(None);
        }
        let place = self.rng.below(content.len());
        content[place] ^= 0x55;
        fs::write(&path, &content)?;
        let time = Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() };
        utimensat(CWD, &path, &Timestamps { last_access: time, last_modification: time }, AtFlags::empty())?;
        Ok(Some(format!("change byte {place} of {path:?} under the same size and mtime")))
    }

    /// Mostly small, sometimes empty, seldom large enough to travel in chunks.
    fn content(&mut self) -> Vec<u8> {
        let size = match self.rng.below(200) {
            0..20 => 0,
            20..190 => self.rng.below(8 << 10),
            190..199 => self.rng.below(300 << 10),
            _ => self.rng.below(3 << 20),
        };
        self.rng.bytes(size)
    }

    fn target(&mut self) -> PathBuf {
        match self.rng.below(3) {
            0 => PathBuf::from("nowhere"),
            1 => PathBuf::from(format!("../up/{}", self.rng.below(100))),
            _ => self.file().and_then(|file| file.file_name().map(PathBuf::from)).unwrap_or_else(|| "x".into()),
        }
    }

    /// A name that is not taken, in some directory.
    fn new_place(&mut self, stem: &str) -> Option<PathBuf> {
        let dir = pick(&mut self.rng, &self.root, &mut self.dirs, |meta| meta.is_dir())?;
        Some(dir.join(format!("{stem}-{}", self.next_number())))
    }

    fn next_number(&mut self) -> usize {
        self.made += 1;
        self.made
    }

    fn file(&mut self) -> Option<PathBuf> {
        pick(&mut self.rng, &self.root, &mut self.files, |meta| meta.is_file())
    }

    /// A directory other than the root.
    fn dir_below(&mut self) -> Option<PathBuf> {
        let dir = pick(&mut self.rng, &self.root, &mut self.dirs, |meta| meta.is_dir())?;
        (dir != self.root).then_some(dir)
    }

    /// Remembers what is below `dir`, sorted, so that a seed means the same edits wherever the tree is the same.
    fn learn(&mut self, dir: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (kind, path) = (entry.file_type()?, entry.path());
            if kind.is_dir() {
                self.learn(&path)?;
                self.dirs.push(path);
            } else if kind.is_symlink() {
                self.links.push(path);
            } else {
                self.files.push(path);
            }
        }
        Ok(())
    }
}

/// One remembered path that is still what it was and is reached without a symbolic link; the stale ones drawn on the
/// way are forgotten.
fn pick(rng: &mut Rng, root: &Path, from: &mut Vec<PathBuf>, is: impl Fn(&fs::Metadata) -> bool) -> Option<PathBuf> {
    while !from.is_empty() {
        let index = rng.below(from.len());
        let path = &from[index];
        let above = path.ancestors().skip(1).take_while(|above| above.starts_with(root));
        let real = path == root || above.into_iter().all(|dir| dir.symlink_metadata().is_ok_and(|meta| meta.is_dir()));
        if real && path.symlink_metadata().is_ok_and(|meta| is(&meta)) {
            return Some(path.clone());
        }
        from.swap_remove(index);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::scratch::scratch;
    use crate::tree::Tree;

    #[test]
    fn a_thousand_edits_are_of_all_kinds_and_stay_inside() {
        let dir = scratch();
        Tree::at(dir.join("outside")).file("untouched", "same");
        let tree = Tree::at(dir.join("t")).every_kind().link("out", "../outside");
        let done = Edits::new(tree.path(), 1).run(1_000);
        let kinds: HashSet<Edit> = done.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds.len(), Edit::ALL.len(), "{kinds:?}");
        assert_eq!(fs::read_dir(dir.join("outside")).unwrap().count(), 1);
        assert_eq!(fs::read(dir.join("outside/untouched")).unwrap(), b"same");
    }

    #[test]
    fn a_seed_means_the_same_edits() {
        let dir = scratch();
        let tell = |name: &str| {
            let tree = Tree::at(dir.join(name)).every_kind();
            let done = Edits::new(tree.path(), 7).run(200);
            let place = tree.path().to_str().unwrap().to_owned();
            done.into_iter().map(|(_, told)| told.replace(&place, "")).collect::<Vec<_>>()
        };
        assert_eq!(tell("a"), tell("b"));
    }
}
