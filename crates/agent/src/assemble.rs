//! Puts large contents together from chunks: those that stand in an older file at the same place are taken from there,
//! the others come from the hub. A thread of its own, because it waits for the disk.
//!
//! A content is verified as a whole before it leaves. It is put into a file without a name in the destination's file
//! system, so nothing of it is ever seen half-done and nothing is left after a crash.

use crate::holding::Arrived;
use bytes::Bytes;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use tokio::sync::mpsc as tasks;
use tree::at::{TempNames, stat_of};
use tree::hash::Hashed;
use tree::{ContentId, Dir, RelPath, chunk, fsx, hash_file};
use wire::message::Hash;

/// Contents in the making; more than are ever asked for at once.
const MAKING_MAX: usize = 64;

/// What the thread is told.
pub(crate) enum Chore {
    /// A recipe came: take what is here, and say what is missing.
    Begin { content: ContentId, size_bytes: u64, path: RelPath, recipe: Vec<(Hash, u32)> },
    /// A chunk came.
    Chunk { content: ContentId, index: u32, bytes: Bytes },
    /// Nobody needs it any more.
    Drop(ContentId),
}

/// What the thread tells.
pub(crate) enum Report {
    /// These chunks have to come from the hub, each once.
    Missing { content: ContentId, chunks: Vec<u32> },
    /// So many bytes of a chunk are on disk.
    Written { content: ContentId, bytes: u64 },
    /// It is complete and verified.
    Done { content: ContentId, arrived: Arrived },
    /// It came to nothing.
    Failed { content: ContentId, why: String },
}

/// The way to the thread, which ends when this is dropped.
pub(crate) struct Assembler {
    chores: mpsc::Sender<Chore>,
}

impl Assembler {
    /// Starts the thread for the destination `dest`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(dest: Dir) -> std::io::Result<(Assembler, tasks::UnboundedReceiver<Report>)> {
        let (chores, receive) = mpsc::channel();
        let (reports, reported) = tasks::unbounded_channel();
        let mut bench = Bench { dest, temps: TempNames::new(), making: HashMap::new(), buffer: Vec::new(), reports };
        std::thread::Builder::new().name("assemble".into()).spawn(move || {
            for chore in receive {
                bench.do_chore(chore);
            }
        })?;
        Ok((Assembler { chores }, reported))
    }

    pub(crate) fn give(&self, chore: Chore) {
        // The thread ends only when this is dropped.
        let _taken = self.chores.send(chore);
    }
}

/// A content in the making.
struct Making {
    file: File,
    /// Without a name, to be given one; else to be copied from.
    unnamed: bool,
    size_bytes: u64,
    /// Where each chunk that is missing goes: by its first index, all offsets, length and hash.
    missing: BTreeMap<u32, Hole>,
}

struct Hole {
    offsets: Vec<u64>,
    len: u32,
    hash: Hash,
}

struct Bench {
    dest: Dir,
    temps: TempNames,
    making: HashMap<ContentId, Making>,
    buffer: Vec<u8>,
    reports: tasks::UnboundedSender<Report>,
}

impl Bench {
    fn do_chore(&mut self, chore: Chore) {
        let (content, done) = match chore {
            Chore::Drop(content) => return drop(self.making.remove(&content)),
            Chore::Begin { content, size_bytes, path, recipe } => {
                (content, self.begin(content, size_bytes, &path, &recipe))
            }
            Chore::Chunk { content, index, bytes } => (content, self.chunk(content, index, &bytes)),
        };
        if let Err(why) = done.and_then(|()| self.finish(content)) {
            self.making.remove(&content);
            self.report(Report::Failed { content, why });
        }
    }

    fn begin(
        &mut self,
        content: ContentId,
        size_bytes: u64,
        path: &RelPath,
        recipe: &[(Hash, u32)],
    ) -> Result<(), String> {
        if self.making.len() >= MAKING_MAX {
            return Err("too many large files at once".into());
        }
        let (file, unnamed) = self.create(path).map_err(|e| e.to_string())?;
        // Space is asked for at once: a full disk is told before anything travels. Where that is not known, so be it.
        if let Err(errno @ (Errno::NOSPC | Errno::DQUOT)) = make_room(&file, size_bytes) {
            return Err(fsx::Error::new("make room for", self.path_of(path), errno).to_string());
        }
        let mut missing: BTreeMap<u32, Hole> = BTreeMap::new();
        let mut first: HashMap<(Hash, u32), u32> = HashMap::new();
        let mut offset = 0;
        for (index, &(hash, len)) in recipe.iter().enumerate() {
            let index = u32::try_from(index).map_err(|_| "too many chunks".to_owned())?;
            let first = *first.entry((hash, len)).or_insert(index);
            missing.entry(first).or_insert_with(|| Hole { offsets: Vec::new(), len, hash }).offsets.push(offset);
            offset += u64::from(len);
        }
        let mut making = Making { file, unnamed, size_bytes, missing };
        self.take_local(&mut making, path, size_bytes)?;
        let chunks: Vec<u32> = making.missing.keys().copied().collect();
        self.making.insert(content, making);
        self.report(Report::Missing { content, chunks });
        Ok(())
    }

    /// Takes what the old file at `path` has. It may change meanwhile: each chunk is verified by its hash.
    fn take_local(&mut self, making: &mut Making, path: &RelPath, size_bytes: u64) -> Result<(), String> {
        let Some((dir, name)) = path.split() else { return Ok(()) };
        let Ok((old, _)) = self.dest.walk(&dir).and_then(|dir| dir.open_file(&name)) else { return Ok(()) };
        let mut wanted: HashMap<(Hash, u32), u32> =
            making.missing.iter().map(|(index, hole)| ((hole.hash, hole.len), *index)).collect();
        let mut failed = None;
        // The new file's size chooses the size of the chunks, so that they are cut as the hub cuts them.
        let read = chunk::each_chunk(old, size_bytes, |chunk, bytes| {
            if failed.is_none()
                && let Some(index) = wanted.remove(&(chunk.hash.0, chunk.len))
                && let Some(hole) = making.missing.remove(&index)
            {
                failed = hole.offsets.iter().find_map(|offset| making.file.write_all_at(bytes, *offset).err());
            }
        });
        if let Err(error) = read {
            tracing::debug!(path = %path, "an old version could not be read to its end: {error}");
        }
        match failed {
            Some(error) => Err(fsx::Error::from_io("write", self.path_of(path), &error).to_string()),
            None => Ok(()),
        }
    }

    fn chunk(&mut self, content: ContentId, index: u32, bytes: &Bytes) -> Result<(), String> {
        let Some(making) = self.making.get_mut(&content) else { return Ok(()) };
        let Some(hole) = making.missing.remove(&index) else { return Ok(()) };
        if bytes.len() as u64 != u64::from(hole.len) || ContentId::of(bytes).0 != hole.hash {
            return Err("a chunk came that is not what its hash says".into());
        }
        for offset in hole.offsets {
            making
                .file
                .write_all_at(bytes, offset)
                .map_err(|e| fsx::Error::from_io("write in", self.dest.path(), &e).to_string())?;
        }
        self.report(Report::Written { content, bytes: bytes.len() as u64 });
        Ok(())
    }

    /// Verifies and hands over a content of which nothing is missing.
    fn finish(&mut self, content: ContentId) -> Result<(), String> {
        if self.making.get(&content).is_none_or(|making| !making.missing.is_empty()) {
            return Ok(());
        }
        let Some(mut making) = self.making.remove(&content) else { return Ok(()) };
        let path = self.dest.path().to_owned();
        let arrived = verify(&mut making, content, &mut self.buffer, &path)?;
        self.report(Report::Done { content, arrived });
        Ok(())
    }

    /// A file without a name beside where the content is to stand, or, where nothing stands there yet, in the root.
    fn create(&mut self, path: &RelPath) -> Result<(File, bool), fsx::Error> {
        let beside = path.parent().and_then(|parent| self.dest.walk(&parent).ok());
        let dir = beside.as_ref().unwrap_or(&self.dest);
        match dir.create_unnamed() {
            Ok(file) => Ok((file, true)),
            Err(e) if e.is_no_space() => Err(e),
            // The file system has none, or the directory lets nobody in: a file that loses its name at once can at
            // least be copied from.
            Err(_) => {
                let (name, file) = self.dest.create_temp(&self.temps)?;
                self.dest.remove_file(&name)?;
                Ok((file, false))
            }
        }
    }

    fn path_of(&self, path: &RelPath) -> std::path::PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.dest.path().join(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    fn report(&self, report: Report) {
        // Nobody listens any more: then nobody needs it.
        let _heard = self.reports.send(report);
    }
}

/// Has the file system set space aside. It is looked at first how much there is: some fill the disk to the brim before
/// they say that it is too small.
fn make_room(file: &File, size_bytes: u64) -> Result<(), Errno> {
    if let Ok(disk) = rustix::fs::fstatvfs(file)
        && disk.f_bavail.saturating_mul(disk.f_frsize) < size_bytes
    {
        return Err(Errno::NOSPC);
    }
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size_bytes.max(1))
}

fn verify(making: &mut Making, content: ContentId, buffer: &mut Vec<u8>, path: &Path) -> Result<Arrived, String> {
    let told = |e: fsx::Error| e.to_string();
    making.file.set_len(making.size_bytes).map_err(|e| told(fsx::Error::from_io("write in", path, &e)))?;
    let rewind = |file: &mut File| {
        file.seek(SeekFrom::Start(0)).map(drop).map_err(|e| told(fsx::Error::from_io("read in", path, &e)))
    };
    rewind(&mut making.file)?;
    let before = stat_of(&making.file, path).map_err(told)?;
    match hash_file(&mut making.file, &before, 0, buffer, path).map_err(told)? {
        Hashed::Stable(stable) if stable.content == content => {}
        _ => return Err("the whole is not what its hash says".into()),
    }
    rewind(&mut making.file)?;
    let file = making.file.try_clone().map_err(|e| told(fsx::Error::from_io("open in", path, &e)))?;
    Ok(if making.unnamed { Arrived::Unnamed(file) } else { Arrived::Copy(file, before) })
}
