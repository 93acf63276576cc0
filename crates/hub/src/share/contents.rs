//! The contents of a share, by their hash. The share itself is the store.
//!
//! A content is read from a file whose entry names it, and only while the disk still says of that file what it said
//! when it was hashed; so a byte is hashed once, however many clients there are. What no longer matches is gone: a
//! newer entry is on its way. Small contents that were just published are kept for a while, since everybody wants them.

use super::facts::Facts;
use board::{Board, Name};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tree::at::{Dir, Stat, stat_of};
use tree::chunk::{Chunk, chunks};
use tree::fsx;
use tree::hash::Stable;
use tree::{ContentId, Entry, RelPath};
use wire::limits::CONTENT_WHOLE_BYTES_MAX;
use wire::message::Hash;

/// Small contents kept in memory.
const CACHE_BYTES_MAX: usize = 32 << 20;
/// Recipes of large contents kept in memory; 40 bytes a chunk.
const RECIPES_BYTES_MAX: usize = 64 << 20;
/// Copies kept of files that are never still.
const SPOOL_BYTES_MAX: usize = 256 << 20;
/// Of the names that have a content, so many are tried: thousands may, as all empty files do.
const HOLDERS_TRIED_MAX: usize = 64;

/// Finds and reads the contents of one share.
pub(crate) struct Contents {
    root: Dir,
    spool_dir: Dir,
    board: Board,
    names: Mutex<BTreeSet<(Hash, Name)>>,
    recent: Mutex<Kept<Bytes>>,
    recipes: Mutex<Kept<Arc<Vec<Chunk>>>>,
    spooled: Mutex<Kept<Arc<File>>>,
    /// Held while a large content is cut: who wants the same meanwhile finds it cut.
    cutting: Mutex<()>,
}

/// A file that holds a content.
struct Holder {
    file: Arc<File>,
    size_bytes: u64,
    /// What the disk must still say after reading; `None` for a copy of ours, which nobody changes.
    facts: Option<Facts>,
}

/// A content, ready to be sent.
pub(crate) enum Supply {
    /// All of it.
    Whole(Bytes),
    /// Too large for one frame: its chunks.
    Recipe(Arc<Vec<Chunk>>),
    /// Not here any more.
    Gone,
}

impl Contents {
    /// `spool_dir` takes copies of files that are never still; they have no names and vanish with the hub.
    pub(crate) fn new(root: Dir, spool_dir: Dir, board: Board) -> Self {
        Self {
            root,
            spool_dir,
            board,
            names: Mutex::default(),
            recent: Mutex::new(Kept::new(CACHE_BYTES_MAX)),
            recipes: Mutex::new(Kept::new(RECIPES_BYTES_MAX)),
            spooled: Mutex::new(Kept::new(SPOOL_BYTES_MAX)),
            cutting: Mutex::default(),
        }
    }

    /// Notes that the entry `name` has this content.
    pub(crate) fn add(&self, name: &Name, content: &Hash) {
        lock(&self.names).insert((*content, name.clone()));
    }

    /// Notes that it no longer has.
    pub(crate) fn remove(&self, name: &Name, content: &Hash) {
        lock(&self.names).remove(&(*content, name.clone()));
    }

    /// Keeps a small content that was just read, for the clients that are about to want it.
    pub(crate) fn keep(&self, content: Hash, bytes: Bytes) {
        let size = bytes.len();
        lock(&self.recent).put(content, bytes, size);
    }

    /// A small content that was just published.
    pub(crate) fn recent(&self, content: &Hash) -> Option<Bytes> {
        lock(&self.recent).get(content)
    }

    /// The content, whole or as chunks. Reads files: not for an asynchronous task.
    pub(crate) fn get(&self, content: &Hash) -> Supply {
        if let Some(bytes) = self.recent(content) {
            return Supply::Whole(bytes);
        }
        if let Some(recipe) = lock(&self.recipes).get(content) {
            return Supply::Recipe(recipe);
        }
        let Some(holder) = self.open(content) else { return Supply::Gone };
        let read = if holder.size_bytes <= CONTENT_WHOLE_BYTES_MAX as u64 {
            holder.read_whole().map(|bytes| Supply::Whole(bytes.into()))
        } else {
            let _cutting = lock(&self.cutting);
            if let Some(recipe) = lock(&self.recipes).get(content) {
                return Supply::Recipe(recipe);
            }
            let recipe = chunks(holder.reader(), holder.size_bytes).map(Arc::new);
            if let Ok(recipe) = &recipe
                && holder.is_unchanged()
            {
                lock(&self.recipes).put(*content, Arc::clone(recipe), recipe.len() * size_of::<Chunk>());
            }
            recipe.map(Supply::Recipe)
        };
        match read {
            Ok(supply) if holder.is_unchanged() => supply,
            Ok(_) => Supply::Gone,
            Err(error) => {
                tracing::warn!(path = %self.root.path().display(), %error, "a content could not be read");
                Supply::Gone
            }
        }
    }

    /// Some chunks of a large content, each with its index; fewer than asked for where it is gone.
    pub(crate) fn chunks(&self, content: &Hash, wanted: &[u32]) -> Vec<(u32, Bytes)> {
        let recipe = match self.get(content) {
            Supply::Recipe(recipe) => recipe,
            Supply::Whole(_) | Supply::Gone => return Vec::new(),
        };
        let Some(holder) = self.open(content) else { return Vec::new() };
        let mut found = Vec::with_capacity(wanted.len());
        for index in wanted {
            let Some(chunk) = recipe.get(*index as usize) else { break };
            let mut bytes = vec![0; chunk.len as usize];
            if holder.file.read_exact_at(&mut bytes, chunk.offset).is_err() {
                break;
            }
            found.push((*index, Bytes::from(bytes)));
        }
        if holder.is_unchanged() { found } else { Vec::new() }
    }

    /// Copies a file that is never still, so that something of it can be sent whole. `before` gives mode and time.
    ///
    /// Returns `None` where it is too large to be kept.
    pub(crate) fn spool(&self, file: &mut File, before: &Stat, path: &Path) -> Result<Option<Stable>, fsx::Error> {
        let error = |e: &std::io::Error| fsx::Error::from_io("copy", path, e);
        let mut copy = self.spool_dir.create_unnamed()?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        let mut size = 0;
        // From its beginning, and not beyond what it held when this began: it may grow faster than it is read.
        while size < before.size_bytes {
            let n = file.read_at(&mut buffer, size).map_err(|e| error(&e))?;
            if n == 0 || size + n as u64 > SPOOL_BYTES_MAX as u64 {
                break;
            }
            hasher.update(&buffer[..n]);
            copy.write_all(&buffer[..n]).map_err(|e| error(&e))?;
            size += n as u64;
        }
        if size < before.size_bytes && size + buffer.len() as u64 > SPOOL_BYTES_MAX as u64 {
            return Ok(None);
        }
        let content = ContentId(hasher.finalize().into());
        lock(&self.spooled).put(content.0, Arc::new(copy), usize::try_from(size).unwrap_or(usize::MAX));
        Ok(Some(Stable { content, stat: Stat { size_bytes: size, ..*before }, bytes: None }))
    }

    /// A file that holds the content, by what the index and the disk both say.
    fn open(&self, content: &Hash) -> Option<Holder> {
        if let Some(file) = lock(&self.spooled).get(content) {
            let size_bytes = file.metadata().ok()?.len();
            return Some(Holder { file, size_bytes, facts: None });
        }
        let names: Vec<Name> = {
            let all = lock(&self.names);
            let from = all.range((*content, Name::new())..).take_while(|(hash, _)| hash == content);
            from.take(HOLDERS_TRIED_MAX).map(|(_, name)| name.clone()).collect()
        };
        names.iter().find_map(|name| {
            let record = self.board.get(name)?;
            let known = Facts::from_bytes(&record.aside)?;
            let entry = Entry::decode(&record.value?).ok()?;
            if entry.content()?.0.0 != *content {
                return None;
            }
            let (parent, name) = RelPath::new(name.to_vec()).ok()?.split()?;
            let (file, stat) = self.root.walk(&parent).ok()?.open_file(&name).ok()?;
            (Facts::of(&stat) == known).then(|| Holder {
                file: Arc::new(file),
                size_bytes: stat.size_bytes,
                facts: Some(known),
            })
        })
    }
}

impl Holder {
    fn read_whole(&self) -> std::io::Result<Vec<u8>> {
        let size = usize::try_from(self.size_bytes).map_err(std::io::Error::other)?;
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Reads from the beginning, however often the file is shared.
    fn reader(&self) -> impl Read {
        Positioned { file: Arc::clone(&self.file), at: 0 }
    }

    fn is_unchanged(&self) -> bool {
        self.facts.is_none_or(|facts| stat_of(&*self.file, Path::new("")).is_ok_and(|now| Facts::of(&now) == facts))
    }
}

struct Positioned {
    file: Arc<File>,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Values by hash, the least recently used dropped first.
struct Kept<T> {
    values: HashMap<Hash, (T, usize, u64)>,
    order: BTreeMap<u64, Hash>,
    tick: u64,
    bytes: usize,
    bytes_max: usize,
}

impl<T: Clone> Kept<T> {
    fn new(bytes_max: usize) -> Self {
        Self { values: HashMap::new(), order: BTreeMap::new(), tick: 0, bytes: 0, bytes_max }
    }

    fn put(&mut self, key: Hash, value: T, size: usize) {
        if size > self.bytes_max {
            return;
        }
        self.drop_key(&key);
        self.tick += 1;
        self.values.insert(key, (value, size, self.tick));
        self.order.insert(self.tick, key);
        self.bytes += size;
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.drop_key(&oldest);
        }
    }

    fn get(&mut self, key: &Hash) -> Option<T> {
        let (value, _, tick) = self.values.get_mut(key)?;
        self.order.remove(tick);
        self.tick += 1;
        *tick = self.tick;
        self.order.insert(self.tick, *key);
        Some(value.clone())
    }

    fn drop_key(&mut self, key: &Hash) {
        if let Some((_, size, tick)) = self.values.remove(key) {
            self.order.remove(&tick);
            self.bytes -= size;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_bytes_stay_bounded() {
        let mut kept = Kept::new(10);
        kept.put([1; 32], "a", 4);
        kept.put([2; 32], "b", 4);
        assert_eq!(kept.get(&[1; 32]), Some("a"));
        kept.put([3; 32], "c", 4);
        assert_eq!((kept.get(&[1; 32]), kept.get(&[2; 32]), kept.get(&[3; 32])), (Some("a"), None, Some("c")));
        kept.put([4; 32], "too large", 11);
        assert_eq!((kept.get(&[4; 32]), kept.bytes), (None, 8));
    }
}
