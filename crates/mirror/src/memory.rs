//! What one run leaves for the next: which inode and ctime each file had on both sides when it was the same.
//!
//! Size and time can stay what they were while the content changes; ctime cannot be set by anybody. A file whose inode
//! or ctime is another one than was remembered is read. What is remembered of a file is 32 bytes, hashes of its path and
//! of what both disks said, so a file of them is small, is searched where it lies, and tells nobody any names. Beside them stands
//! what was mounted below the source, with its paths: whatever is to be deleted is asked for mount points in it.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tree::at::{Identity, TempNames};
use tree::path::PATH_BYTES_MAX;
use tree::{Dir, Name, RelPath, Stat, fsx};

/// What such a file begins with.
const MAGIC: &[u8; 16] = b"lockstep state 2";
/// What it begins with in any version.
const MAGIC_OF_ALL: &[u8] = b"lockstep state ";
/// The most files that are remembered; the others are compared by size and time, as all are without memory.
const FILES_MAX: usize = 1 << 21;
/// The most mount points that are remembered.
const MOUNTS_MAX: usize = 4_096;
const ENTRY: usize = 32;
/// Of a mount point, before its path: the length of that, and what is mounted there.
const MOUNT: usize = 2 + 3 * 8;
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
    /// What is, or should be, mounted below the source.
    mounts: BTreeMap<RelPath, Identity>,
    /// More files than are remembered.
    full: bool,
}

/// Why a run with this state cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The last run into this destination was from another directory: perhaps one that is not mounted now.
    #[error("it was made with another source")]
    AnotherSource,
    /// The directories cannot be looked at.
    #[error(transparent)]
    Fs(#[from] fsx::Error),
}

/// Why what is in a file is not used.
#[derive(Debug, thiserror::Error)]
enum Unused {
    #[error("cannot be read ({0})")]
    Unread(std::io::Error),
    #[error("is no state, or one of another version")]
    Version,
    #[error("is torn")]
    Torn,
    #[error("is of another source")]
    AnotherSource,
    #[error("is of another pair of directories")]
    AnotherPair,
}

/// What a file of them holds.
#[derive(Debug, Default)]
struct Kept {
    files: Vec<Entry>,
    mounts: BTreeMap<RelPath, Identity>,
}

impl Memory {
    /// Reads what is in `path`. What is there but cannot be used is told as a note, and is not used. `adopt`: another source than
    /// that of the last run is meant.
    pub(crate) fn open(path: &Path, source: &Dir, dest: &Dir, adopt: bool) -> Result<(Self, Option<String>), Unfit> {
        let pair = pair(source, dest)?;
        let (kept, note) = match read(path, &pair) {
            Ok(kept) => (kept, None),
            // What is new at each start of the machine is another one for that alone.
            Err(Unused::AnotherSource) if !adopt && source.identity()?.lasts() => return Err(Unfit::AnotherSource),
            Err(why) => {
                let shown = tree::path::escape(path.as_os_str().as_encoded_bytes());
                let note = format!(
                    "the state in {shown} {why}, so it is not used: this run reads every file, and knows of nothing that was \
                     mounted below the source"
                );
                (Kept::default(), Some(note))
            }
        };
        let (path, before, mounts) = (path.to_owned(), Arc::new(kept.files), kept.mounts);
        Ok((Self { path, pair, before, now: Vec::new(), gone: HashSet::new(), mounts, full: false }, note))
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

    /// What is mounted where, as far as it is remembered.
    pub(crate) fn mounts(&self) -> &BTreeMap<RelPath, Identity> {
        &self.mounts
    }

    /// What is mounted, or should be, at `path`.
    pub(crate) fn mounted(&self, path: &RelPath) -> Option<Identity> {
        self.mounts.get(path).copied()
    }

    /// Remembers what is mounted at `path`.
    pub(crate) fn remember_mount(&mut self, path: &RelPath, identity: Identity) {
        if self.mounts.len() < MOUNTS_MAX {
            self.mounts.insert(path.clone(), identity);
        } else {
            self.full = true;
        }
    }

    /// Nothing has to be mounted there any more.
    pub(crate) fn forget_mount(&mut self, path: &RelPath) {
        self.mounts.remove(path);
    }

    /// One for another thread: it knows the same of the last run, and what it remembers comes back by [`Memory::join`].
    pub(crate) fn fork(&self) -> Self {
        let (path, before) = (self.path.clone(), Arc::clone(&self.before));
        let mounts = self.mounts.clone();
        Self { path, pair: self.pair, before, now: Vec::new(), gone: HashSet::new(), mounts, full: false }
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.gone.extend(other.gone);
        other.mounts.iter().for_each(|(path, identity)| self.remember_mount(path, *identity));
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
        for (path, Identity { kind, id, ino }) in &self.mounts {
            let len = u16::try_from(path.as_bytes().len()).unwrap_or_default();
            bytes.extend_from_slice(&len.to_le_bytes());
            [kind, id, ino].iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
            bytes.extend_from_slice(path.as_bytes());
        }
        bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
        write(&self.path, &bytes)?;
        self.before = Arc::new(std::mem::take(&mut self.now));
        Ok(self.full.then(|| {
            format!("only {FILES_MAX} files and {MOUNTS_MAX} mount points are remembered; the others are not")
        }))
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

/// Which source and which destination, one half each.
fn pair(source: &Dir, dest: &Dir) -> Result<[u8; 32], fsx::Error> {
    let mut pair = [0; 32];
    for (half, dir) in pair.chunks_exact_mut(KEY).zip([source, dest]) {
        let Identity { kind, id, ino } = dir.identity()?;
        let mut hasher = blake3::Hasher::new();
        for number in [kind, id, ino] {
            hasher.update(&number.to_le_bytes());
        }
        half.copy_from_slice(&short(&hasher.finalize()));
    }
    Ok(pair)
}

/// Whether a state may be written to `path`: nothing is there, or an empty file, or a state.
///
/// # Errors
/// What is there instead, in words.
pub(crate) fn check_place(path: &Path) -> Result<(), String> {
    // A pipe would be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::LOOP) => return Err("it is a symbolic link; name what it leads to".into()),
        Err(errno) => return Err(format!("it cannot be read: {errno}")),
    };
    let looked = file.metadata().and_then(|metadata| {
        let mut head = Vec::new();
        if metadata.is_file() {
            Read::by_ref(&mut file).take(MAGIC_OF_ALL.len() as u64).read_to_end(&mut head)?;
        }
        Ok((metadata.file_type(), head))
    });
    match looked {
        Err(e) => Err(format!("it cannot be read: {e}")),
        Ok((kind, _)) if kind.is_dir() => Err("it is a directory".into()),
        Ok((kind, _)) if !kind.is_file() => Err("it is no regular file".into()),
        Ok((_, head)) if head.is_empty() || head == MAGIC_OF_ALL => Ok(()),
        Ok(_) => Err("it holds something else, which is not overwritten; name another file".into()),
    }
}

/// Reads a state, or says why it is none.
fn read(path: &Path, pair: &[u8; 32]) -> Result<Kept, Unused> {
    let mut bytes = Vec::new();
    let most = (HEAD + FILES_MAX * ENTRY + MOUNTS_MAX * (MOUNT + PATH_BYTES_MAX) + HASH) as u64;
    match File::open(path) {
        Ok(file) => file.take(most + 1).read_to_end(&mut bytes).map_err(Unused::Unread)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(e) => return Err(Unused::Unread(e)),
    };
    parse(&bytes, pair)
}

fn parse(bytes: &[u8], pair: &[u8; 32]) -> Result<Kept, Unused> {
    let Some((content, hash)) = bytes.split_last_chunk::<HASH>() else { return Err(Unused::Torn) };
    if !content.starts_with(MAGIC) {
        return Err(Unused::Version);
    }
    if blake3::hash(content) != *hash || content.len() < HEAD {
        return Err(Unused::Torn);
    }
    let (head, rest) = content.split_at(HEAD);
    let (kept_of, of) = (head[16..48].split_at(KEY), pair.split_at(KEY));
    match (kept_of.0 == of.0, kept_of.1 == of.1) {
        (true, true) => {}
        (false, true) => return Err(Unused::AnotherSource),
        (_, false) => return Err(Unused::AnotherPair),
    }
    let (chunks, _) = rest.as_chunks::<ENTRY>();
    let count = head[48..].first_chunk().and_then(|count| usize::try_from(u64::from_le_bytes(*count)).ok());
    let files = count.and_then(|count| chunks.get(..count)).ok_or(Unused::Torn)?.to_vec();
    let mounts = parse_mounts(&rest[files.len() * ENTRY..]).ok_or(Unused::Torn)?;
    Ok(Kept { files, mounts })
}

fn parse_mounts(mut bytes: &[u8]) -> Option<BTreeMap<RelPath, Identity>> {
    let mut mounts = BTreeMap::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk()?;
        let (numbers, rest) = rest.split_at_checked(MOUNT - len.len())?;
        let (path, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        let ([kind, id, ino], []) = numbers.as_chunks() else { return None };
        let identity =
            Identity { kind: u64::from_le_bytes(*kind), id: u64::from_le_bytes(*id), ino: u64::from_le_bytes(*ino) };
        mounts.insert(RelPath::new(path).ok()?, identity);
        bytes = rest;
    }
    (mounts.len() <= MOUNTS_MAX).then_some(mounts)
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

        fn dir(&self, name: &str) -> Dir {
            Dir::open_root(&self.0.path().join(name)).unwrap()
        }

        fn open(&self) -> (Memory, Option<String>) {
            Memory::open(&self.file(), &self.dir("a"), &self.dir("b"), false).unwrap()
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
    fn what_is_mounted_is_known_to_the_next_run_until_it_is_forgotten() {
        let scene = Scene::new();
        let (mut memory, _) = scene.open();
        memory.remember(&path("f"), &stat(1, 1), &stat(2, 2));
        let (deep, identity) = (path("p/m"), Identity { kind: 1, id: 2, ino: 3 });
        memory.remember_mount(&deep, identity);
        memory.remember_mount(&path("m"), Identity { ino: 4, ..identity });
        memory.save(true).unwrap();
        let (mut memory, note) = scene.open();
        assert_eq!((note, memory.mounts().len(), memory.mounted(&deep)), (None, 2, Some(identity)));
        assert_eq!(memory.recall(&path("f"), &stat(1, 1), &stat(2, 2)), Recall::Unchanged);
        memory.forget_mount(&deep);
        memory.save(true).unwrap();
        let (mut memory, _) = scene.open();
        assert_eq!((memory.mounts().len(), memory.mounted(&deep)), (1, None));
        for n in 0..MOUNTS_MAX {
            memory.remember_mount(&path(&format!("m{n}")), identity);
        }
        assert!(memory.save(true).unwrap().is_some());
        assert_eq!((scene.open().1, scene.open().0.mounts().len()), (None, MOUNTS_MAX));
    }

    #[test]
    fn a_state_with_any_byte_changed_or_missing_is_not_used_and_said_to_be_torn() {
        let scene = Scene::new();
        let (mut memory, _) = scene.open();
        memory.remember(&path("f"), &stat(1, 1), &stat(2, 2));
        memory.remember_mount(&path("m"), Identity { kind: 1, id: 2, ino: 3 });
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
        let replace = |name: &str| {
            std::fs::rename(scene.0.path().join(name), scene.0.path().join(format!("{name} before"))).unwrap();
            std::fs::create_dir(scene.0.path().join(name)).unwrap();
        };
        // Another source is a matter for people, unless nothing of its disk lasts.
        replace("a");
        let (a, b) = (scene.dir("a"), scene.dir("b"));
        let refused = Memory::open(&scene.file(), &a, &b, false);
        assert_eq!(matches!(refused, Err(Unfit::AnotherSource)), a.identity().unwrap().lasts());
        let (memory, note) = Memory::open(&scene.file(), &a, &b, true).unwrap();
        assert!(note.unwrap().contains("another source") && memory.before.is_empty());
        replace("b");
        assert!(scene.open().1.unwrap().contains("another pair"));
    }
}
