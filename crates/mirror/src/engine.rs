//! The one engine: makes a destination what a [`Source`] says it should be, wherever a [`Dirty`] says to look.
//!
//! The first pass, an event, an overflow, the periodic check and the repair of a changed destination differ only in
//! what they mark dirty. One pass lists, compares and stages; switches what was staged; deletes; and sets the modes
//! and times of directories last. It waits for nothing: content that is not here yet is told and left for later.

use crate::backup::Backup;
use crate::dirty::Dirty;
use crate::fold::Folding;
use crate::grain::Grain;
use crate::guard::{DeleteLimit, Held};
use crate::keep::{Keep, Keeping, UnkeptByWhat};
use crate::links::Links;
use crate::pass;
use crate::policy::{Left, Policy};
use crate::problem::Problem;
use crate::source::Source;
use crate::stage::{Scratch, Writing};
use rustix::fd::OwnedFd;
use std::collections::{BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tree::at::{ListBuffer, TempNames};
use tree::{Dir, Kind, RelPath};

/// Fewest and most staged files that wait for their switch; each may hold two descriptors.
const PORTION: std::ops::RangeInclusive<u64> = 32..=1_024;
/// Descriptors that are not for staging: a directory a level on both sides, and what the process has besides.
const DESCRIPTORS_RESERVED: u64 = 600;

/// How an [`Engine`] works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
    /// Deletions need no permission, however many.
    pub allow_mass_delete: bool,
    /// What is kept beside content, mode, time and target, as far as the source tells it.
    pub keep: Keep,
    /// The destination's lock is held, so temporaries of others are left over and are removed.
    pub sweep: bool,
    /// What may be done at all.
    pub policy: Policy,
    /// The most deletions found by listing that need no permission, where the operator says so.
    pub delete_limit: Option<DeleteLimit>,
    /// Where what is overwritten or deleted is put first.
    pub backup: Option<Arc<Backup>>,
    /// A directory of the destination that is none of a mirror's business.
    pub left_alone: Option<RelPath>,
    /// How content is written.
    pub writing: Writing,
    /// Files and directories that are our own (device, inode): at the destination they are neither replaced nor deleted.
    pub own: HashSet<(u64, u64)>,
    /// How many staged files wait for their switch at most, of all threads.
    pub portion: usize,
    /// How many threads work on a pass, where its source can be asked by several.
    pub threads: NonZeroUsize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dry_run: false,
            allow_mass_delete: false,
            sweep: false,
            policy: Policy::default(),
            delete_limit: None,
            backup: None,
            left_alone: None,
            writing: Writing::default(),
            keep: Keep::NOTHING,
            own: HashSet::new(),
            portion: portion(),
            threads: NonZeroUsize::MIN,
        }
    }
}

/// What became of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It was not there and is now.
    Copied,
    /// It was there and is now what it should be.
    Updated,
    /// It was what it should be.
    Skipped,
    /// It was extra and is gone.
    Deleted,
    /// It is extra, and a guard kept it.
    Held,
    /// Its content is not here yet.
    Waiting,
    /// It differs, and stays as it is.
    Left(Left),
    /// It keeps changing while it is read; the copy stays as it was, and it is looked at again.
    Unsettled,
    /// It could not be done; the error says why.
    Failed,
}

/// One result, as it happens.
#[derive(Debug)]
pub struct Event<'a> {
    /// What became of it.
    pub action: Action,
    /// Which entry.
    pub path: &'a RelPath,
    /// Its kind, if known.
    pub kind: Option<Kind>,
    /// Bytes of content written.
    pub bytes: u64,
    /// Why it failed.
    pub error: Option<&'a Problem>,
}

/// Who is told of each result, by one thread at a time.
pub type Sink<'a> = &'a mut (dyn FnMut(&Event<'_>) + Send);

/// How many entries had which result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries that were not there before.
    pub copied: u64,
    /// Entries that were changed.
    pub updated: u64,
    /// Entries that were right.
    pub skipped: u64,
    /// Entries that were extra.
    pub deleted: u64,
    /// Entries that failed.
    pub failed: u64,
    /// Entries that differ and were left as they are.
    pub left: u64,
    /// Directories of the source that were listed.
    pub dirs: u64,
    /// What of `copied` are regular files.
    pub files_copied: u64,
    /// What of `updated` are regular files.
    pub files_updated: u64,
    /// What of `deleted` are regular files.
    pub files_deleted: u64,
    /// Bytes of content written.
    pub bytes: u64,
}

impl Counts {
    fn take_in(&mut self, other: Counts) {
        let Counts {
            copied,
            updated,
            skipped,
            deleted,
            failed,
            left,
            dirs,
            files_copied,
            files_updated,
            files_deleted,
            bytes,
        } = other;
        self.copied += copied;
        self.updated += updated;
        self.skipped += skipped;
        self.deleted += deleted;
        self.failed += failed;
        self.left += left;
        self.dirs += dirs;
        self.files_copied += files_copied;
        self.files_updated += files_updated;
        self.files_deleted += files_deleted;
        self.bytes += bytes;
    }
}

/// What a pass did, and what is left.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many entries had which result.
    pub counts: Counts,
    /// What failed, in the order met.
    pub problems: Vec<(RelPath, Problem)>,
    /// Files whose content is not here yet ([`Supply::Pending`](crate::source::Supply::Pending)). They are not in
    /// `again`: whoever brings the content marks them.
    pub waiting: Vec<RelPath>,
    /// Where to look again later: everything that failed, changed underneath, or was not reached.
    pub again: Dirty,
    /// What changed while it was looked at, and so is not known to be the same: it is in `again`, or whoever said that it is
    /// in the middle of a change brings it back.
    pub unsettled: BTreeSet<RelPath>,
    /// Deletions a guard held back; all else was done.
    pub held: Option<Held>,
    /// What could not be kept, of how many entries. That is no failure: all else of them is done.
    pub unkept: UnkeptByWhat,
    /// Some of what was replaced, held. Freeing a content may take the disk longer than all the rest: whoever has somebody
    /// waiting drops this afterwards.
    pub replaced: Vec<OwnedFd>,
    /// The pass was told to stop and did not reach everything.
    pub stopped: bool,
}

impl Outcome {
    /// Adds what another thread did in the same pass.
    pub(crate) fn take_in(&mut self, other: Outcome) {
        let Outcome { counts, problems, waiting, again, unsettled, held, unkept, replaced, stopped } = other;
        self.counts.take_in(counts);
        self.problems.extend(problems);
        self.waiting.extend(waiting);
        self.again.merge(again);
        self.unsettled.extend(unsettled);
        self.held = self.held.or(held);
        for (what, more) in unkept {
            match self.unkept.get_mut(&what) {
                Some(held) => held.entries += more.entries,
                None => drop(self.unkept.insert(what, more)),
            }
        }
        self.replaced.extend(replaced);
        self.stopped |= stopped;
    }

    /// Whether nothing had to be done and nothing failed.
    pub fn is_quiet(&self) -> bool {
        let Counts { copied, updated, deleted, failed, .. } = self.counts;
        copied + updated + deleted + failed == 0 && self.waiting.is_empty() && self.held.is_none()
    }
}

/// Keeps one destination; see the module.
#[derive(Debug)]
pub struct Engine {
    pub(crate) dest: Arc<Dir>,
    pub(crate) options: Options,
    pub(crate) temps: Arc<TempNames>,
    pub(crate) grain: Arc<Grain>,
    /// Which names its disk takes for one.
    pub(crate) folding: Arc<Folding>,
    pub(crate) scratch: Scratch,
    /// Which names are one file, on both sides.
    pub(crate) links: Links,
    pub(crate) list_buffer: ListBuffer,
    /// Entries the destination has, since a walk of all of it.
    pub(crate) entries_known: Option<u64>,
    /// What a guard held back, until a walk of all of the destination finds nothing to hold.
    pub(crate) held: Option<Held>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Engine {
    /// An engine for the destination `dest`, which it holds from now on.
    pub fn new(dest: Dir, options: Options) -> Self {
        let stop = Arc::default();
        let scratch = Scratch::new(Keeping::new(options.keep), options.writing, Arc::clone(&stop));
        Self {
            dest: Arc::new(dest),
            options,
            temps: Arc::new(TempNames::new()),
            grain: Arc::default(),
            folding: Arc::default(),
            scratch,
            links: Links::default(),
            list_buffer: ListBuffer::default(),
            entries_known: None,
            held: None,
            stop,
        }
    }

    /// The destination's root.
    pub fn dest(&self) -> &Dir {
        &self.dest
    }

    /// Holds `dest` from now on. What was believed of the old one is forgotten.
    pub(crate) fn hold_dest(&mut self, dest: Dir) {
        self.dest = Arc::new(dest);
        self.grain = Arc::default();
        self.folding = Arc::default();
        self.entries_known = None;
        self.scratch = self.scratch.anew(&self.options, Arc::clone(&self.stop));
    }

    /// What to set to end a running pass soon: what is staged is switched, the rest is told in
    /// [`Outcome::again`].
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Has [`Engine::stop_flag`] be `flag`.
    pub fn stop_on(&mut self, flag: Arc<AtomicBool>) {
        self.stop = Arc::clone(&flag);
        self.scratch.stop_on(flag);
    }

    /// Has `pulse` beat while content is written.
    pub(crate) fn beat_on(&mut self, pulse: &crate::Pulse) {
        self.scratch.pulse = pulse.clone();
    }

    /// Permits (or no longer permits) deletions that the guard would hold.
    pub fn set_allow_mass_delete(&mut self, allow: bool) {
        self.options.allow_mass_delete = allow;
    }

    /// Makes the destination what `source` says, wherever `dirty` says to look; each result goes to `sink`.
    ///
    /// It never fails as a whole: what could not be done is in the outcome.
    pub fn reconcile<S: Source>(&mut self, source: &mut S, dirty: &Dirty, sink: Sink<'_>) -> Outcome {
        pass::run(self, source, dirty, sink)
    }

    /// One for another thread on the same pass: it shares what is held, and knows nothing of hard links and guards.
    pub(crate) fn fork(&self) -> Self {
        Self {
            dest: Arc::clone(&self.dest),
            options: self.options.clone(),
            temps: Arc::clone(&self.temps),
            grain: Arc::clone(&self.grain),
            folding: Arc::clone(&self.folding),
            scratch: self.scratch.fork(),
            links: Links::default(),
            list_buffer: ListBuffer::default(),
            entries_known: None,
            held: None,
            stop: Arc::clone(&self.stop),
        }
    }

    /// Has what is in `dir` by now outlast a power cut, where that is wanted.
    pub(crate) fn sync_dir(&self, dir: &Dir) -> Result<(), tree::fsx::Error> {
        if !self.options.writing.fsync {
            return Ok(());
        }
        rustix::fs::fsync(dir).map_err(|e| tree::fsx::Error::new("write to disk", dir.path(), e))
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What the limit of open files leaves for staging.
fn portion() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let portion = (limit.saturating_sub(DESCRIPTORS_RESERVED) / 2).clamp(*PORTION.start(), *PORTION.end());
    usize::try_from(portion).unwrap_or(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_that_returned_is_written_as_the_one_before() {
        let scratch = tempfile::tempdir().unwrap();
        let open = || Dir::open_root(scratch.path()).unwrap();
        let writing = Writing { verify: true, fsync: true, bytes_per_s: std::num::NonZeroU64::new(7) };
        let mut engine = Engine::new(open(), Options { keep: Keep::ARCHIVE, writing, ..Options::default() });
        let how = |engine: &Engine| format!("{:?}", (engine.scratch.keeping.keep, engine.scratch.writing()));
        let before = how(&engine);
        engine.hold_dest(open());
        assert_eq!(how(&engine), before);
        assert!(before.contains("fsync: true"), "{before}");
    }
}
