//! What one run leaves for the next: which inode and ctime each file had on both sides when it was the same.
//!
//! Size and time can stay what they were while the content changes; ctime cannot be set by anybody. A file whose inode
//! or ctime is another one than was remembered is read. What is remembered of a file is 32 bytes, hashes of its path and
//! of what both disks said, so a file of them is small, is searched where it lies, and tells nobody any names.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tree::at::TempNames;
use tree::{Dir, Name, RelPath, Stat, fsx};

/// What such a file begins with.
const MAGIC: &[u8; 16] = b"lockstep state 1";
/// The most files that are remembered; the others are compared by size and time, as all are without memory.
const FILES_MAX: usize = 1 << 21;
const ENTRY: usize = 32;
const KEY: usize = 16;
const HEAD: usize = 16 + 32 + 8;
const HASH: usize = 32;
/// A file that changed so short a time ago could change again under the same ctime: it is read once more.
const SETTLED_NS: i64 = 2_000_000_000;

type Entry = [u8; ENTRY];

/// What is known of a file from the last run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recall {
    /// It is what it was, on both sides.
    Unchanged,
    /// One side changed, or may have.
    Changed,
    /// Nothing.
    Unknown,
}

/// The memory of one pair of directories.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    /// Says which pair of directories it is about.
    pair: [u8; 32],
    /// Of the last run, sorted.
    before: Arc<Vec<Entry>>,
    /// Of this run, as it came.
    now: Vec<Entry>,
    /// What was deleted by this run.
    gone: HashSet<[u8; KEY]>,
    /// More files than are remembered.
    full: bool,
}

impl Memory {
    /// Reads what is in `path`. What is there but cannot be used is told as a note, and is not used.
    pub(crate) fn open(path: &Path, source: &Dir, dest: &Dir) -> Result<(Self, Option<String>), fsx::Error> {
        let pair = pair(source, dest)?;
        let (before, note) = match read(path, &pair) {
            Ok(before) => (Arc::new(before), None),
            Err(why) => {
                let shown = tree::path::escape(path.as_os_str().as_encoded_bytes());
                let note = format!("the state in {shown} {why}, so it is not used: this run reads every file");
                (Arc::default(), Some(note))
            }
        };
        Ok((Self { path: path.to_owned(), pair, before, now: Vec::new(), gone: HashSet::new(), full: false }, note))
    }

    /// What is known of a file that the disks now describe so.
    pub(crate) fn recall(&self, path: &RelPath, source: &Stat, dest: &Stat) -> Recall {
        let key = key(path);
        match self.before.binary_search_by(|entry| entry[..KEY].cmp(&key)) {
            Ok(at) if self.before[at][KEY..] == value(source, dest) => Recall::Unchanged,
            Ok(_) => Recall::Changed,
            Err(_) => Recall::Unknown,
        }
    }

    /// Whether files that are not known are read, and so become known. Of more than are remembered all those beyond would be
    /// read by every run.
    pub(crate) fn reads_unknown(&self) -> bool {
        self.before.len() < FILES_MAX
    }

    /// Forgets what is no longer at the destination.
    pub(crate) fn forget(&mut self, path: &RelPath) {
        self.gone.insert(key(path));
    }

    /// Remembers a file that is the same on both sides.
    pub(crate) fn remember(&mut self, path: &RelPath, source: &Stat, dest: &Stat) {
        if self.now.len() >= FILES_MAX {
            self.full = true;
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_nanos());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let settled = source.ctime_ns < now.saturating_sub(SETTLED_NS);
        let mut entry = [0; ENTRY];
        entry[..KEY].copy_from_slice(&key(path));
        // One that may change unseen is remembered as what it never is.
        if settled {
            entry[KEY..].copy_from_slice(&value(source, dest));
        }
        self.now.push(entry);
    }

    /// One for another thread: it knows the same of the last run, and what it remembers comes back by [`Memory::join`].
    pub(crate) fn fork(&self) -> Self {
        let (path, before) = (self.path.clone(), Arc::clone(&self.before));
        Self { path, pair: self.pair, before, now: Vec::new(), gone: HashSet::new(), full: false }
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.gone.extend(other.gone);
        self.full |= other.full || self.now.len() + other.now.len() > FILES_MAX;
        self.now.extend(other.now.into_iter().take(FILES_MAX - self.now.len()));
    }

    /// Writes what is known now in place of the file. `whole`: everything was looked at, so what was not met is gone.
    ///
    /// Returns a note if not everything could be remembered.
    pub(crate) fn save(&mut self, whole: bool) -> Result<Option<String>, fsx::Error> {
        // Of a path met twice the last counts: stable, and the search of duplicates keeps the first.
        self.now.reverse();
        self.now.sort_by(|a, b| a[..KEY].cmp(&b[..KEY]));
        self.now.dedup_by(|a, b| a[..KEY] == b[..KEY]);
        if !whole {
            let met: HashSet<[u8; KEY]> = self.now.iter().map(first).collect();
            let missed =
                self.before.iter().filter(|entry| !met.contains(&first(entry)) && !self.gone.contains(&first(entry)));
            self.now.extend(missed.take(FILES_MAX.saturating_sub(met.len())));
            self.now.sort_by(|a, b| a[..KEY].cmp(&b[..KEY]));
        }
        let mut bytes = Vec::with_capacity(HEAD + self.now.len() * ENTRY + HASH);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.pair);
        bytes.extend_from_slice(&(self.now.len() as u64).to_le_bytes());
        self.now.iter().for_each(|entry| bytes.extend_from_slice(entry));
        bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
        write(&self.path, &bytes)?;
        self.before = Arc::new(std::mem::take(&mut self.now));
        Ok(self
            .full
            .then(|| format!("only {FILES_MAX} files are remembered; the others are compared by size and time")))
    }
}

fn first(entry: &Entry) -> [u8; KEY] {
    let mut key = [0; KEY];
    key.copy_from_slice(&entry[..KEY]);
    key
}

fn key(path: &RelPath) -> [u8; KEY] {
    short(&blake3::hash(path.as_bytes()))
}

/// What the disks say of a file. Not the device: its number may be another one after a boot.
fn value(source: &Stat, dest: &Stat) -> [u8; ENTRY - KEY] {
    let mut hasher = blake3::Hasher::new();
    for stat in [source, dest] {
        hasher.update(&stat.ino.to_le_bytes());
        hasher.update(&stat.ctime_ns.to_le_bytes());
    }
    short(&hasher.finalize())
}

fn short(hash: &blake3::Hash) -> [u8; KEY] {
    let mut short = [0; KEY];
    short.copy_from_slice(&hash.as_bytes()[..KEY]);
    short
}

fn pair(source: &Dir, dest: &Dir) -> Result<[u8; 32], fsx::Error> {
    let mut hasher = blake3::Hasher::new();
    for dir in [source, dest] {
        hasher.update(&dir.file_system_id()?.to_le_bytes());
        hasher.update(&dir.stat_self()?.ino.to_le_bytes());
    }
    Ok(hasher.finalize().into())
}

/// Reads a state, or says why it is none.
fn read(path: &Path, pair: &[u8; 32]) -> Result<Vec<Entry>, String> {
    let mut bytes = Vec::new();
    let most = (HEAD + FILES_MAX * ENTRY + HASH) as u64;
    match File::open(path) {
        Ok(file) => {
            file.take(most + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read ({e})"))?;
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("cannot be read ({e})")),
    }
    parse(&bytes, pair).map_err(str::to_owned)
}

fn parse(bytes: &[u8], pair: &[u8; 32]) -> Result<Vec<Entry>, &'static str> {
    let Some((content, hash)) = bytes.split_last_chunk::<HASH>() else { return Err("is torn") };
    if !content.starts_with(MAGIC) {
        return Err("is no state, or one of another version");
    }
    if blake3::hash(content) != *hash || content.len() < HEAD {
        return Err("is torn");
    }
    let (head, entries) = content.split_at(HEAD);
    if head[16..48] != pair[..] {
        return Err("is of another pair of directories");
    }
    let (entries, rest) = entries.as_chunks::<ENTRY>();
    if !rest.is_empty() || head[48..] != (entries.len() as u64).to_le_bytes() {
        return Err("is torn");
    }
    Ok(entries.to_vec())
}

/// Replaces the file at once, or leaves it as it is.
fn write(path: &Path, bytes: &[u8]) -> Result<(), fsx::Error> {
    let above = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let wrong = || fsx::Error::new("write the state to", path, rustix::io::Errno::INVAL);
    let name = path.file_name().ok_or_else(wrong)?;
    let name = Name::new(name.as_encoded_bytes()).map_err(|_| wrong())?;
    let dir = Dir::open_root(above)?;
    let (temp, mut file) = dir.create_temp(&TempNames::new())?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|e| fsx::Error::from_io("write the state to", path, &e))
        .and_then(|()| dir.rename(&temp, &name));
    if written.is_err() {
        dir.remove_file(&temp)?;
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use tree::Kind;

    fn stat(ino: u64, ctime_ns: i64) -> Stat {
        Stat {
            kind: Kind::File,
            mode: 0o644,
            dev: 1,
            ino,
            nlink: 1,
            uid: 0,
            gid: 0,
            size_bytes: 1,
            mtime_ns: 0,
            ctime_ns,
            mount_point: false,
        }
    }

    fn path(s: &str) -> RelPath {
        RelPath::new(s.as_bytes()).unwrap()
    }

    struct Scene(tempfile::TempDir);

    impl Scene {
        fn new() -> Self {
            let scene = Self(tempfile::tempdir().unwrap());
            ["a", "b"].iter().for_each(|name| std::fs::create_dir(scene.0.path().join(name)).unwrap());
            scene
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("state")
        }

        fn open(&self) -> (Memory, Option<String>) {
            let dir = |name| Dir::open_root(&self.0.path().join(name)).unwrap();
            Memory::open(&self.file(), &dir("a"), &dir("b")).unwrap()
        }
    }

    #[test]
    fn what_changed_on_either_side_is_noticed_by_the_next_run() {
        let scene = Scene::new();
        let (mut memory, note) = scene.open();
        assert_eq!((note, memory.recall(&path("f"), &stat(1, 1), &stat(2, 2))), (None, Recall::Unknown));
        memory.remember(&path("f"), &stat(9, 9), &stat(9, 9));
        memory.remember(&path("f"), &stat(1, 1), &stat(2, 2));
        memory.remember(&path("fresh"), &stat(1, i64::MAX), &stat(2, 2));
        assert_eq!(memory.save(true).unwrap(), None);
        let (memory, note) = scene.open();
        assert_eq!(note, None);
        let says = |source, dest| memory.recall(&path("f"), &source, &dest);
        assert_eq!(says(stat(1, 1), stat(2, 2)), Recall::Unchanged);
        for (source, dest) in [
            (stat(3, 1), stat(2, 2)),
            (stat(1, 3), stat(2, 2)),
            (stat(1, 1), stat(3, 2)),
            (stat(1, 1), stat(2, 3)),
            (stat(2, 2), stat(1, 1)),
        ] {
            assert_eq!(says(source, dest), Recall::Changed, "{source:?} {dest:?}");
        }
        let fresh = memory.recall(&path("fresh"), &stat(1, i64::MAX), &stat(2, 2));
        assert_eq!(fresh, Recall::Changed, "it could change again within the same tick");
    }

    #[test]
    fn what_was_not_met_is_kept_only_where_not_everything_was_looked_at() {
        let scene = Scene::new();
        for (whole, expected) in [(false, Recall::Unchanged), (true, Recall::Unknown)] {
            let (mut memory, _) = scene.open();
            memory.remember(&path("f"), &stat(1, 1), &stat(2, 2));
            memory.save(true).unwrap();
            let (mut memory, _) = scene.open();
            memory.remember(&path("other"), &stat(1, 1), &stat(2, 2));
            memory.save(whole).unwrap();
            assert_eq!(scene.open().0.recall(&path("f"), &stat(1, 1), &stat(2, 2)), expected);
        }
    }

    #[test]
    fn a_state_with_any_byte_changed_or_missing_is_not_used_and_said_to_be_torn() {
        let scene = Scene::new();
        let (mut memory, _) = scene.open();
        memory.remember(&path("f"), &stat(1, 1), &stat(2, 2));
        memory.save(true).unwrap();
        let whole = std::fs::read(scene.file()).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            for bytes in [&changed[..], &whole[..at]] {
                std::fs::write(scene.file(), bytes).unwrap();
                let (memory, note) = scene.open();
                assert!(note.is_some() && memory.before.is_empty(), "byte {at}: {note:?}");
            }
        }
        std::fs::write(scene.file(), [&whole[..], b"x"].concat()).unwrap();
        assert!(scene.open().1.is_some());
        std::fs::write(scene.file(), &whole).unwrap();
        std::fs::rename(scene.0.path().join("a"), scene.0.path().join("c")).unwrap();
        std::fs::create_dir(scene.0.path().join("a")).unwrap();
        assert!(scene.open().1.unwrap().contains("another pair"));
    }
}
