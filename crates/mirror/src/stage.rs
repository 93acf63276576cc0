//! Staging: content gets to the destination's disk, verified and with its final metadata, before it has a name
//! anybody looks at.
//!
//! Guarded by `bench/` (first copy). Up to [`SMALL_BYTES`] a copy is one read and one write; past that the kernel
//! copies, or the file system shares the blocks.

mod pace;
mod sparse;
mod verify;

use crate::engine::Options;
use crate::keep::{Keeping, Kept, Lack, What};
use crate::live::Pulse;
use crate::problem::Problem;
use crate::source::{Supply, WantFile};
use pace::Pace;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tree::at::{Attributes, Grip, TempNames, let_changes_finish, set_mode, set_times, stat_of};
use tree::{ContentId, Dir, Name, RelPath, Stat, fsx};

/// Below this, setting up a copy inside the kernel costs more than it saves (guessed from others' measurements).
const SMALL_BYTES: u64 = 64 * 1024;
/// A file of no more than one block has no holes.
const BLOCK_BYTES: u64 = 4096;
/// The buffer of copies through user space.
const BUFFER_BYTES: usize = 256 * 1024;
/// Asked of `copy_file_range` at once, so that a stop is noticed.
const RANGE_BYTES: u64 = 64 << 20;

/// How content is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writing {
    /// It is read back and compared before it gets its name.
    pub verify: bool,
    /// It reaches the disk before it gets its name, and a directory that changed before the pass ends.
    pub fsync: bool,
    /// No faster than this. Blocks that a file system shares instead of copying cost nothing.
    pub bytes_per_s: Option<NonZeroU64>,
}

/// Where a file is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Under its own name, in a directory that nobody sees yet.
    Hidden,
    /// Beside its name, for a name that is free.
    New,
    /// Beside its name, for a name that is taken.
    Over,
}

/// A file that is complete but for its name.
#[derive(Debug)]
pub(crate) enum Staged {
    /// It has its name already, in a hidden directory.
    There(Stat),
    /// It has no name.
    Unnamed(File),
    /// It has a temporary one.
    Temp(Name),
}

/// Why a file could not be staged. Nothing of it is left.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The source changed while it was read.
    Changed,
    /// What came does not have the announced hash or length.
    Mismatch,
    /// What was read back is not what was written.
    NotVerified,
    /// The pass is to end.
    Stopped,
    /// The content is not here, or will never be.
    Not(Supply),
    /// The disk said no.
    Fs(fsx::Error),
}

/// What is kept from file to file.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    buffer: Vec<u8>,
    writing: Writing,
    pace: Option<Pace>,
    /// The file system refused to share blocks, so it is not asked again.
    no_clone: bool,
    /// It cannot have files without names.
    no_unnamed: bool,
    /// A file that only grew while it was read is taken as it was before.
    pub(crate) takes_grown: bool,
    /// What is kept beside content, mode and time.
    pub(crate) keeping: Keeping,
    /// What of the last entry could not be kept, until somebody counts it.
    pub(crate) lacks: Vec<Lack>,
    /// Beats with each piece that is written or read back.
    pub(crate) pulse: Pulse,
}

impl Scratch {
    pub(crate) fn new(keeping: Keeping, writing: Writing, stop: Arc<AtomicBool>) -> Self {
        let pace = writing.bytes_per_s.map(|rate| Pace::new(rate, stop));
        Self { writing, pace, keeping, ..Self::default() }
    }

    /// For another file system, of which nothing is known yet.
    pub(crate) fn anew(&self, options: &Options, stop: Arc<AtomicBool>) -> Self {
        Self { pulse: self.pulse.clone(), ..Self::new(Keeping::new(options.keep), options.writing, stop) }
    }

    /// Has a wait end when `stop` is set.
    pub(crate) fn stop_on(&mut self, stop: Arc<AtomicBool>) {
        self.pace = self.writing.bytes_per_s.map(|rate| Pace::new(rate, stop));
    }

    /// How content is written.
    #[cfg(test)]
    pub(crate) fn writing(&self) -> Writing {
        self.writing
    }

    /// One for another thread: what all write keeps to one rate.
    pub(crate) fn fork(&self) -> Self {
        Self {
            buffer: Vec::new(),
            writing: self.writing,
            pace: self.pace.clone(),
            no_clone: self.no_clone,
            no_unnamed: self.no_unnamed,
            takes_grown: false,
            keeping: self.keeping.clone(),
            lacks: Vec::new(),
            pulse: self.pulse.clone(),
        }
    }

    /// How much is written at once.
    fn piece(&self, most: u64) -> u64 {
        self.pace.as_ref().map_or(most, |pace| pace.piece().min(most))
    }

    /// Waits after `bytes` were written, if there is a rate to keep.
    fn wrote(&mut self, bytes: u64) -> Result<(), Failed> {
        self.pulse.beat();
        let pulse = &self.pulse;
        let go_on = self.pace.as_ref().is_none_or(|pace| pace.wait(bytes, pulse));
        if go_on { Ok(()) } else { Err(Failed::Stopped) }
    }
}

/// Stages the content of `supply` for `name` in `dir`.
pub(crate) fn stage(
    dir: &Dir,
    name: &Name,
    want: &WantFile,
    supply: Supply,
    place: Place,
    temps: &TempNames,
    scratch: &mut Scratch,
) -> Result<Staged, Failed> {
    scratch.lacks.clear();
    let supply = match supply {
        Supply::Staged(file) => return name_staged(dir, name, want, file, place, temps),
        Supply::Bytes(_) | Supply::File { .. } => supply,
        not => return Err(Failed::Not(not)),
    };
    let (mut file, mut staged) = create(dir, name, want, place, temps, scratch)?;
    let path = dir.path_of(name);
    let mut kept = scratch.keeping.owner(want.found.as_ref(), scratch.keeping.own(), &mut scratch.lacks);
    let filled = fill(&mut file, want, supply, scratch, &path).and_then(|attributes| {
        kept.attributes = attributes;
        let stat = finish(&file, want, place, &mut kept, &mut scratch.lacks, &path)?;
        if scratch.writing.fsync {
            rustix::fs::fsync(&file).map_err(|e| fsx::Error::new("write to disk", &path, e))?;
        }
        if let Staged::There(there) = &mut staged {
            *there = stat;
        }
        Ok(())
    });
    match (filled, staged) {
        (Ok(()), Staged::Unnamed(_)) => Ok(Staged::Unnamed(file)),
        (Ok(()), staged) => Ok(staged),
        (Err(failed), staged) => {
            discard(dir, name, &staged);
            Err(failed)
        }
    }
}

/// Removes what was staged; a failure leaves a temporary, which the next sweep removes.
pub(crate) fn discard(dir: &Dir, name: &Name, staged: &Staged) {
    let removed = match staged {
        Staged::There(_) => dir.remove_file(name),
        Staged::Temp(temp) => dir.remove_file(temp),
        Staged::Unnamed(_) => Ok(()),
    };
    if let Err(e) = removed {
        tracing::debug!("{e}");
    }
}

fn create(
    dir: &Dir,
    name: &Name,
    want: &WantFile,
    place: Place,
    temps: &TempNames,
    scratch: &mut Scratch,
) -> Result<(File, Staged), Failed> {
    match place {
        // Nobody sees it yet, so it may have its final rights at once; umask takes some, `finish` gives them back.
        Place::Hidden => {
            let file = dir.create(name, want.mode)?;
            Ok((file, Staged::There(UNKNOWN)))
        }
        Place::New if !scratch.no_unnamed => match dir.create_unnamed() {
            Ok(file) => {
                let handle = file.try_clone().map_err(|e| fsx::Error::from_io("create", dir.path_of(name), &e))?;
                Ok((file, Staged::Unnamed(handle)))
            }
            Err(e) if matches!(e.errno, Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                scratch.no_unnamed = true;
                create(dir, name, want, place, temps, scratch)
            }
            Err(e) => Err(e.into()),
        },
        Place::New | Place::Over => {
            let (temp, file) = dir.create_temp(temps)?;
            Ok((file, Staged::Temp(temp)))
        }
    }
}

/// Stands in until the file is finished.
pub(crate) const UNKNOWN: Stat = Stat {
    kind: tree::Kind::File,
    mode: 0,
    dev: 0,
    ino: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    size_bytes: 0,
    mtime_ns: 0,
    ctime_ns: 0,
    mount_point: false,
};

fn name_staged(
    dir: &Dir,
    name: &Name,
    want: &WantFile,
    file: File,
    place: Place,
    temps: &TempNames,
) -> Result<Staged, Failed> {
    let path = dir.path_of(name);
    let stat = finish(&file, want, place, &mut Kept::default(), &mut Vec::new(), &path)?;
    if stat.size_bytes != want.size_bytes {
        return Err(Failed::Mismatch);
    }
    match place {
        Place::New => Ok(Staged::Unnamed(file)),
        Place::Hidden => {
            dir.link_in(&file, name)?;
            Ok(Staged::There(stat_of(&file, &path)?))
        }
        Place::Over => {
            let temp = temps.next_name();
            dir.link_in(&file, &temp)?;
            Ok(Staged::Temp(temp))
        }
    }
}

/// Gives the file its content, and returns the attributes it should have: those that its source has together with it.
fn fill(
    to: &mut File,
    want: &WantFile,
    supply: Supply,
    scratch: &mut Scratch,
    path: &Path,
) -> Result<Option<Attributes>, Failed> {
    match supply {
        Supply::Bytes(bytes) => {
            let known = want.content.is_none_or(|content| content == ContentId::of(&bytes));
            if !known || bytes.len() as u64 != want.size_bytes {
                return Err(Failed::Mismatch);
            }
            to.write_all(&bytes).map_err(|e| fsx::Error::from_io("write", path, &e))?;
            if scratch.writing.verify && !verify::holds(&bytes, to, path, &scratch.pulse)? {
                return Err(Failed::NotVerified);
            }
            scratch.wrote(bytes.len() as u64)?;
            Ok(None)
        }
        Supply::File { mut file, before } => {
            copy(&mut file, to, before.size_bytes, want.content, scratch, path)?;
            let verified = !scratch.writing.verify || verify::is_same(&mut file, to, path, &scratch.pulse)?;
            let keeping = &scratch.keeping;
            let attributes = match keeping.keep.has_attributes() {
                true => Some(attributes_of(Grip::Open(file.as_fd()), keeping, path)?),
                false => None,
            };
            let_changes_finish(&file);
            let now = stat_of(&file, path)?;
            if !before.is_unchanged(&now) {
                let grew = now.id() == before.id() && now.size_bytes > before.size_bytes;
                if !(scratch.takes_grown && want.content.is_none() && grew) {
                    return Err(Failed::Changed);
                }
                // Where blocks are shared, all of it came.
                to.set_len(before.size_bytes).map_err(|e| fsx::Error::from_io("write", path, &e))?;
                let as_before = verify::is_begin(&mut file, to, path, &scratch.pulse)?;
                return if as_before { Ok(attributes) } else { Err(Failed::Changed) };
            }
            if verified { Ok(attributes) } else { Err(Failed::NotVerified) }
        }
        not => Err(Failed::Not(not)),
    }
}

/// The attributes a source has and that are kept; none where its file system has none.
pub(crate) fn attributes_of(grip: Grip<'_>, keeping: &Keeping, path: &Path) -> Result<Attributes, fsx::Error> {
    match grip.attributes(&|name| keeping.takes(name), path) {
        Err(e) if e.errno == Errno::OPNOTSUPP => Ok(Attributes::default()),
        read => read,
    }
}

/// Copies `size_bytes`, and if the hash is known, only what has it.
fn copy(
    from: &mut File,
    to: &mut File,
    size_bytes: u64,
    content: Option<ContentId>,
    scratch: &mut Scratch,
    path: &Path,
) -> Result<(), Failed> {
    let may_have_holes = content.is_none() && size_bytes > BLOCK_BYTES && scratch.keeping.keep.has(What::Sparse);
    if may_have_holes && sparse::copy_sparse(from, to, size_bytes, scratch, path)? {
        return Ok(());
    }
    if content.is_none() && size_bytes > SMALL_BYTES {
        if !scratch.no_clone {
            match rustix::fs::ioctl_ficlone(&*to, &*from) {
                Ok(()) => return Ok(()),
                Err(_) => scratch.no_clone = true,
            }
        }
        if copy_in_kernel(from, to, size_bytes, scratch, path)? {
            return Ok(());
        }
    }
    let mut hasher = content.map(|_| blake3::Hasher::new());
    scratch.buffer.resize(BUFFER_BYTES, 0);
    let mut left = size_bytes;
    while left > 0 {
        let want = usize::try_from(scratch.piece(left)).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let n = from.read(&mut scratch.buffer[..want]).map_err(|e| fsx::Error::from_io("read", path, &e))?;
        if n == 0 {
            return Err(Failed::Changed);
        }
        let bytes = &scratch.buffer[..n];
        if let Some(hasher) = &mut hasher {
            hasher.update(bytes);
        }
        to.write_all(bytes).map_err(|e| fsx::Error::from_io("write", path, &e))?;
        left -= n as u64;
        scratch.wrote(n as u64)?;
    }
    let hash = hasher.map(|h| ContentId(h.finalize().into()));
    if hash == content { Ok(()) } else { Err(Failed::Mismatch) }
}

/// Whether the kernel could do it. Nothing is written if it could not.
fn copy_in_kernel(from: &File, to: &File, size_bytes: u64, scratch: &mut Scratch, path: &Path) -> Result<bool, Failed> {
    copy_range(from, to, 0..size_bytes, scratch, path)
}

/// [`copy_in_kernel`] of a part.
fn copy_range(from: &File, to: &File, range: Range<u64>, scratch: &mut Scratch, path: &Path) -> Result<bool, Failed> {
    let (mut read_at, mut write_at) = (range.start, range.start);
    while read_at < range.end {
        let len = usize::try_from(scratch.piece(RANGE_BYTES.min(range.end - read_at))).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), len) {
            Ok(0) => return Err(Failed::Changed),
            Ok(n) => scratch.wrote(n as u64)?,
            Err(Errno::NOSYS | Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM)
                if read_at == range.start =>
            {
                return Ok(false);
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(fsx::Error::new("write", path, e).into()),
        }
    }
    Ok(true)
}

/// Gives the file its owner, attributes, mode and time, and reads back what it has now.
fn finish(
    file: &File,
    want: &WantFile,
    place: Place,
    kept: &mut Kept,
    lacks: &mut Vec<Lack>,
    path: &Path,
) -> Result<Stat, Failed> {
    let grip = Grip::Open(file.as_fd());
    kept.give(grip, path, lacks)?;
    if place != Place::Hidden {
        set_mode(file, kept.mode(want.mode), path)?;
    }
    set_times(file, want.mtime_ns, path)?;
    let stat = stat_of(file, path)?;
    // Some directories give their group to what is made in them.
    let given = kept.is_foreign(&stat) && kept.give_owner(grip, (stat.uid, stat.gid), path, lacks)?;
    if stat.mode == kept.mode(want.mode) && !given {
        return Ok(stat);
    }
    set_mode(file, kept.mode(want.mode), path)?;
    Ok(stat_of(file, path)?)
}

impl From<fsx::Error> for Failed {
    fn from(error: fsx::Error) -> Self {
        Failed::Fs(error)
    }
}

impl Failed {
    /// What to tell of it; `path` is the entry's.
    pub(crate) fn into_problem(self, path: &RelPath) -> Problem {
        match self {
            Failed::Fs(error) => Problem::Fs(error),
            Failed::Not(Supply::Problem(problem)) => problem,
            Failed::Mismatch => Problem::Mismatch(path.clone()),
            Failed::NotVerified => Problem::NotVerified(path.clone()),
            Failed::Changed | Failed::Stopped | Failed::Not(_) => Problem::Unsettled(path.clone()),
        }
    }
}
