//! The local mirror: one directory on disk kept equal to another, once or live.
//!
//! Nothing is touched before both directories are known to be what they have to be: the source a directory that can
//! be read, the destination another one, neither inside the other, and nobody else writing to it.

use crate::backup::Backup;
use crate::choose::Choice;
use crate::dirty::Dirty;
use crate::disk::{DiskOptions, DiskSource};
use crate::engine::{Action, Engine, Event, Options, Outcome, Sink};
use crate::guard::DeleteLimit;
use crate::keep::Keep;
use crate::memory::{self, Memory, Unfit};
use crate::policy::Policy;
use crate::problem::Problem;
use crate::source::Source;
use crate::stage::Writing;
use rustix::io::Errno;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tree::premises::Claim;
use tree::{Dir, RelPath, fsx};

/// What the default destination's name ends with.
pub const DEFAULT_SUFFIX: &str = "-mirror";
/// How often what failed only for the moment (a file that changed, a full disk that was then emptied) is tried
/// again within one run.
const ROUNDS_MAX: u32 = 3;
/// Threads on a pass where nobody says how many: by more, a disk and its journal hardly become faster.
pub const THREADS_DEFAULT_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("it is not zero");
/// Threads on a pass, whatever is asked for: each may hold a directory for every level it goes down.
pub const THREADS_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("it is not zero");

/// What to mirror, and how.
#[derive(Clone, Debug, Default)]
pub struct MirrorOptions {
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
    /// Deletions need no permission, however many.
    pub allow_mass_delete: bool,
    /// Compare contents also where size, time and mode are equal.
    pub checksum: bool,
    /// Copy again what changed in any way since the destination's time.
    pub ctime: bool,
    /// Which entries of the source there are.
    pub choice: Choice,
    /// What may be done at all.
    pub policy: Policy,
    /// The most deletions found by listing that need no permission.
    pub delete_limit: Option<DeleteLimit>,
    /// Where what is overwritten or deleted is put first.
    pub backup_dir: Option<PathBuf>,
    /// How content is written.
    pub writing: Writing,
    /// A file for what one run leaves for the next; see [`Mirror::once`].
    pub state: Option<PathBuf>,
    /// Live, everything is compared again this often; [`CHECK_EVERY`](crate::live::CHECK_EVERY) if it is not said.
    pub check_every: Option<Duration>,
    /// What is kept beside content, mode, time and link targets.
    pub keep: Keep,
    /// Files that are our own (device, inode), as the log: neither copied, nor replaced, nor deleted.
    pub own: HashSet<(u64, u64)>,
    /// How many threads work on a pass; if it is not said, as many as there are processors, up to [`THREADS_DEFAULT_MAX`].
    pub threads: Option<NonZeroUsize>,
}

/// Why a mirror cannot run. Nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The source is missing, not a directory, or may not be read.
    #[error("the source {} {why}; nothing was done", shown(path))]
    Source {
        /// The source, as given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The destination is not a directory, or cannot be made or read.
    #[error("the destination {} {why}; nothing was done", shown(path))]
    Destination {
        /// The destination, as given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Both are one directory, or one is inside the other.
    #[error(
        "the destination {} {why} the source {}; choose another destination, nothing was done",
        shown(dest),
        shown(source_path)
    )]
    Overlap {
        /// The source, as given.
        source_path: PathBuf,
        /// The destination, as given or by default.
        dest: PathBuf,
        /// `is`, `is inside` or `contains`.
        why: &'static str,
    },
    /// The directory for backups cannot be one.
    #[error("the backup directory {} {why}; nothing was done", shown(path))]
    Backup {
        /// The directory, as given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file of `--state` has no place.
    #[error("the state cannot be kept in {}: {why}; nothing was done", shown(path))]
    State {
        /// The file, as given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The state was made with another source.
    #[error(
        "the source {} is not the directory with which the state in {} was made: perhaps its disk is not mounted; nothing was done. If it \
         is the right one, run once with --allow-mass-delete",
        shown(source_path),
        shown(path)
    )]
    AnotherSource {
        /// The file of the state.
        path: PathBuf,
        /// The source, as given.
        source_path: PathBuf,
    },
    /// Another process keeps this destination.
    #[error("another lockstep is writing to {}; wait for it or stop it, nothing was done", shown(_0))]
    Busy(PathBuf),
    /// Two live mirrors of which one would delete what the other copies.
    #[error(
        "{} {why}; choose another destination, or exclude the inner one from the outer one by its path or name, without special letters, \
         as in --exclude /its/path; nothing was done",
        shown(path)
    )]
    Nested {
        /// The destination, as given.
        path: PathBuf,
        /// How it lies to the other one.
        why: &'static str,
    },
    /// The watch could not be started.
    #[error(transparent)]
    Watch(#[from] crate::watch::WatchError),
    /// A call that has nothing to do with one entry failed.
    #[error(transparent)]
    Fs(#[from] fsx::Error),
}

/// A source and a destination, both held.
#[derive(Debug)]
pub struct Mirror {
    pub(crate) source: DiskSource,
    pub(crate) engine: Engine,
    pub(crate) dest_path: PathBuf,
    pub(crate) check_every: Duration,
    pub(crate) choice: Choice,
    notes: Vec<String>,
    /// Tells other mirrors that this one writes there, while it is live.
    pub(crate) claim: Option<Claim>,
    /// Stands in for a destination that a dry run must not make.
    _stand_in: Option<StandIn>,
}

impl Mirror {
    /// Opens, checks and locks both directories. A destination that is missing is made, unless it is a dry run.
    ///
    /// # Errors
    /// When the two cannot be mirrored; nothing was touched.
    pub fn open(source: &Path, dest: &Path, options: MirrorOptions) -> Result<Self, MirrorError> {
        let MirrorOptions { dry_run, allow_mass_delete, checksum, ctime, choice, policy, keep, .. } = options;
        let mut own = options.own;
        let refuse = |e: &fsx::Error| MirrorError::Source { path: source.to_owned(), why: why(e, "create it first") };
        let disk = DiskOptions { checksum, ctime, choice: choice.clone(), keep, own: own.clone() };
        let mut disk = DiskSource::open(source, disk).map_err(|e| refuse(&e))?;
        // A directory that opens may still not be listed.
        disk.root().list(&mut tree::at::ListBuffer::default()).map_err(|e| refuse(&e))?;
        options.state.as_deref().map_or(Ok(()), check_state)?;
        let (dir, stand_in) = open_dest(disk.root(), source, dest, dry_run)?;
        disk.others.dest = Some(dir.stat_self()?.id());
        if !dry_run && !dir.try_lock()? {
            return Err(MirrorError::Busy(dest.to_owned()));
        }
        let mut notes = Vec::new();
        let backup = match &options.backup_dir {
            Some(path) => open_backup(path, disk.root(), &dir, dry_run)?,
            None => Opened { backup: None, inside: None },
        };
        if let Some(path) = &options.state {
            let opened = Memory::open(path, disk.root(), &dir, allow_mass_delete).map_err(|unfit| match unfit {
                Unfit::Fs(error) => error.into(),
                Unfit::AnotherSource => {
                    MirrorError::AnotherSource { path: path.clone(), source_path: source.to_owned() }
                }
            });
            let (memory, note) = opened?;
            disk.memory = Some(memory);
            disk.recall_mounts(allow_mass_delete);
            notes.extend(note);
        }
        disk.others.backup = backup.backup.as_ref().map(|(_, id)| *id);
        own.extend(disk.others.backup);
        let engine = Engine::new(
            dir,
            Options {
                dry_run,
                allow_mass_delete,
                keep,
                sweep: !dry_run,
                policy,
                delete_limit: options.delete_limit,
                writing: options.writing,
                backup: backup.backup.map(|(backup, _)| backup),
                left_alone: backup.inside,
                own,
                threads: options.threads.unwrap_or_else(threads).min(THREADS_MAX),
                ..Options::default()
            },
        );
        let check_every = options.check_every.unwrap_or(crate::live::CHECK_EVERY);
        let dest_path = dest.to_owned();
        Ok(Self { source: disk, engine, dest_path, check_every, choice, notes, claim: None, _stand_in: stand_in })
    }

    /// Where the mirror goes when nobody says where: beside the source, with [`DEFAULT_SUFFIX`].
    ///
    /// # Errors
    /// When the source is no directory, or has no place beside it.
    pub fn default_dest(source: &Path) -> Result<PathBuf, MirrorError> {
        let refuse = |why: String| MirrorError::Source { path: source.to_owned(), why };
        // `.`, `dir/` and links get the name of what they lead to.
        let full = std::fs::canonicalize(source)
            .map_err(|e| refuse(why(&fsx::Error::from_io("open", source, &e), "create it first")))?;
        let (Some(parent), Some(name)) = (full.parent(), full.file_name()) else {
            return Err(refuse("has no directory beside it; name a destination".into()));
        };
        let mut name = OsString::from(name);
        name.push(DEFAULT_SUFFIX);
        Ok(parent.join(name))
    }

    /// What a person should know: before it begins, and, after [`Mirror::once`], of what was met.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What to set to end a running pass soon.
    pub fn stop_on(&mut self, flag: Arc<AtomicBool>) {
        self.engine.stop_on(flag);
    }

    /// What beats while a pass goes on.
    pub(crate) fn beat_on(&mut self, pulse: &crate::Pulse) {
        self.source.pulse = pulse.clone();
        self.engine.beat_on(pulse);
    }

    /// Makes the destination equal to the source, wherever they differ; each result goes to `sink`.
    ///
    /// What changed while it was copied, or had no room before something was deleted, is tried again. With
    /// [`MirrorOptions::state`], a file whose inode or ctime is not what the last run left is read.
    pub fn once(&mut self, sink: Sink<'_>) -> Outcome {
        let neighbours = self.note_neighbours().filter(|note| !self.notes.contains(note));
        self.notes.extend(neighbours);
        let mut outcome = self.pass(&Dirty::everything(), sink);
        let mut rounds = 1;
        while rounds < ROUNDS_MAX && !self.engine.is_stopped() && worth_another(&outcome) {
            rounds += 1;
            // What is tried again is counted by its last result.
            let again = outcome.again.take();
            let known = failures(&outcome);
            let next = self.pass(&again, &mut |event| {
                if event.error.is_none_or(|problem| !known.contains(&(event.path.clone(), problem.to_string()))) {
                    sink(event);
                }
            });
            let deleted = next.counts.deleted;
            add(&mut outcome, next);
            if deleted == 0 && outcome.problems.iter().all(|(_, p)| p.is_no_space()) && !outcome.problems.is_empty() {
                break;
            }
        }
        self.tell_unsettled(&mut outcome, sink);
        self.remember(&mut outcome, sink);
        outcome
    }

    /// What is unsettled and not tried again any more has failed: the two sides are not the same there.
    pub(crate) fn tell_unsettled(&mut self, outcome: &mut Outcome, sink: Sink<'_>) {
        let unsettled = std::mem::take(&mut outcome.unsettled);
        if outcome.stopped {
            return;
        }
        let told: BTreeSet<RelPath> = outcome.problems.iter().map(|(path, _)| path.clone()).collect();
        for path in unsettled.difference(&told).filter(|path| !self.is_nowhere(path)) {
            failed(outcome, path.clone(), Problem::Unsettled(path.clone()), sink);
        }
    }

    /// Writes the state of a run that changed something but the report.
    fn remember(&mut self, outcome: &mut Outcome, sink: Sink<'_>) {
        let Some(memory) = self.source.memory.as_mut().filter(|_| !self.engine.options.dry_run) else { return };
        let everything = self.choice.is_everything() && outcome.counts.left == 0;
        let whole = !outcome.stopped && outcome.problems.is_empty() && everything;
        match memory.save(whole) {
            Ok(note) => self.notes.extend(note),
            Err(error) => failed(outcome, RelPath::root(), Problem::Fs(error), sink),
        }
    }

    /// Whether neither side has anything there.
    fn is_nowhere(&mut self, path: &RelPath) -> bool {
        let Some((parent, name)) = path.split() else { return false };
        let dest = self.engine.dest().walk(&parent).and_then(|dir| dir.look(&name));
        let dest_has = match dest {
            Ok(found) => found.is_some(),
            Err(e) => !e.is_missing(),
        };
        !dest_has && matches!(self.source.entry(path), Ok(None))
    }

    /// One pass over what `dirty` marks.
    pub fn pass(&mut self, dirty: &Dirty, sink: Sink<'_>) -> Outcome {
        let mut wider = None;
        if self.choice.gitignore {
            self.choice.widen(wider.insert(dirty.clone()));
        }
        let outcome = self.engine.reconcile(&mut self.source, wider.as_ref().unwrap_or(dirty), sink);
        self.source.let_go();
        outcome
    }

    /// Whether a running pass was told to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.engine.stop.load(Ordering::Relaxed)
    }
}

/// As many as there are processors for this process.
fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(THREADS_DEFAULT_MAX))
}

fn worth_another(outcome: &Outcome) -> bool {
    let room = outcome.counts.deleted > 0 && outcome.problems.iter().any(|(_, p)| p.is_no_space());
    let moved = outcome.problems.iter().any(|(_, p)| matches!(p, Problem::Moved(_)));
    !outcome.stopped && (room || moved || !outcome.unsettled.is_empty())
}

/// What failed, and what was told of it.
fn failures(outcome: &Outcome) -> HashSet<(RelPath, String)> {
    outcome.problems.iter().map(|(path, problem)| (path.clone(), problem.to_string())).collect()
}

/// Tells and counts a failure after the passes.
fn failed(outcome: &mut Outcome, path: RelPath, problem: Problem, sink: Sink<'_>) {
    sink(&Event { action: Action::Failed, path: &path, kind: None, bytes: 0, error: Some(&problem) });
    outcome.counts.failed += 1;
    outcome.problems.push((path, problem));
}

/// Adds a later round's result: its problems are the ones that count.
fn add(outcome: &mut Outcome, next: Outcome) {
    let (total, counts) = (&mut outcome.counts, next.counts);
    total.copied += counts.copied;
    total.updated += counts.updated;
    total.deleted += counts.deleted;
    total.left = total.left.max(counts.left);
    total.dirs = total.dirs.max(counts.dirs);
    total.files_copied += counts.files_copied;
    total.files_updated += counts.files_updated;
    total.files_deleted += counts.files_deleted;
    total.bytes += counts.bytes;
    total.failed = counts.failed;
    outcome.problems = next.problems;
    outcome.again = next.again;
    outcome.unsettled = next.unsettled;
    outcome.waiting.extend(next.waiting);
    for (what, unkept) in next.unkept {
        outcome.unkept.entry(what).or_insert(unkept);
    }
    outcome.held = next.held.or(outcome.held);
    outcome.stopped |= next.stopped;
}

fn open_dest(
    source: &Dir,
    source_path: &Path,
    dest: &Path,
    dry_run: bool,
) -> Result<(Dir, Option<StandIn>), MirrorError> {
    let refuse = |e: &fsx::Error| MirrorError::Destination { path: dest.to_owned(), why: why(e, "create it first") };
    let overlap = |why| MirrorError::Overlap { source_path: source_path.to_owned(), dest: dest.to_owned(), why };
    let source_line = source.lineages()?;
    match Dir::open_root(dest) {
        Ok(dir) => {
            let dest_line = dir.lineages()?;
            if source_line.first() == dest_line.first() {
                return Err(overlap("is"));
            }
            if dest_line.iter().any(|id| Some(id) == source_line.first()) {
                return Err(overlap("is inside"));
            }
            if source_line.iter().any(|id| Some(id) == dest_line.first()) {
                return Err(overlap("contains"));
            }
            Ok((dir, None))
        }
        Err(e) if e.is_missing() => {
            let parent = Dir::open_root(above(dest)).map_err(|e| MirrorError::Destination {
                path: dest.to_owned(),
                why: format!("cannot be made: {} {}", shown(above(dest)), why(&e, "create it first")),
            })?;
            if parent.lineages()?.iter().any(|id| Some(id) == source_line.first()) {
                return Err(overlap("is inside"));
            }
            if dry_run {
                let (dir, stand_in) = StandIn::make()?;
                return Ok((dir, Some(stand_in)));
            }
            Ok((Dir::make_root(dest).map_err(|e| refuse(&e))?, None))
        }
        Err(e) => Err(refuse(&e)),
    }
}

/// Opens the directory for backups, and tells its path in the destination, should it be in there. Without one to make
/// (a dry run makes none) there is no backup.
fn open_backup(path: &Path, source: &Dir, dest: &Dir, dry_run: bool) -> Result<Opened, MirrorError> {
    let refuse = |why: String| MirrorError::Backup { path: path.to_owned(), why };
    let failed = |e: &fsx::Error| refuse(why(e, "create what is above it first"));
    let dir = match Dir::open_root(path) {
        Err(e) if e.is_missing() && !dry_run => {
            // Not made where it may not be.
            check_backup(&Dir::open_root(above(path)).map_err(|e| failed(&e))?, source).map_err(&refuse)?;
            Dir::make_root(path).map_err(|e| failed(&e))?
        }
        Err(e) if e.is_missing() => return Ok(Opened { backup: None, inside: None }),
        opened => opened.map_err(|e| failed(&e))?,
    };
    check_backup(&dir, source).map_err(&refuse)?;
    let (id, dest_id) = (dir.stat_self()?.id(), dest.stat_self()?.id());
    if dest.lineages()?.contains(&id) || source.lineages()?.contains(&id) {
        return Err(refuse("is, or contains, the destination or the source; name another one".into()));
    }
    let mut inside = None;
    if dir.lineages()?.contains(&dest_id) {
        let full =
            |path: &Path| std::fs::canonicalize(path).map_err(|e| failed(&fsx::Error::from_io("open", path, &e)));
        let (full_backup, full_dest) = (full(path)?, full(dest.path())?);
        let below = full_backup.strip_prefix(&full_dest).ok();
        let below = below.and_then(|below| RelPath::new(below.as_os_str().as_encoded_bytes()).ok());
        inside = Some(below.ok_or_else(|| refuse("is in the destination by a way that cannot be followed".into()))?);
    }
    let backup = Backup::new(dir, Arc::new(dest.walk(&RelPath::root())?), path);
    Ok(Opened { backup: Some((Arc::new(backup), id)), inside })
}

/// What [`open_backup`] found.
struct Opened {
    backup: Option<(Arc<Backup>, (u64, u64))>,
    inside: Option<RelPath>,
}

fn check_backup(dir: &Dir, source: &Dir) -> Result<(), String> {
    let line = dir.lineages().map_err(|e| e.to_string())?;
    match source.stat_self() {
        Ok(source) if line.contains(&source.id()) => Err("is inside the source; name another one".into()),
        Ok(_) => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}

/// Whether the state can be where it is to be, found out before and not when all is done.
fn check_state(path: &Path) -> Result<(), MirrorError> {
    let refuse = |why| MirrorError::State { path: path.to_owned(), why };
    Dir::open_root(above(path)).map_err(|e| refuse(format!("its directory {}", why(&e, "create it first"))))?;
    memory::check_place(path).map_err(refuse)
}

/// The directory that `path` is in.
fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// An empty directory of our own, gone with this value.
#[derive(Debug)]
struct StandIn(PathBuf);

impl StandIn {
    fn make() -> Result<(Dir, Self), fsx::Error> {
        let name = tree::at::TempNames::new().next_name();
        let path = std::env::temp_dir().join(std::ffi::OsStr::new(&name.to_string()));
        Ok((Dir::make_root(&path)?, Self(path)))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // Left over it is an empty directory among the temporary ones.
        if let Err(e) = std::fs::remove_dir(&self.0) {
            tracing::debug!("cannot delete {}: {e}", self.0.display());
        }
    }
}

fn why(e: &fsx::Error, cure: &str) -> String {
    match e.errno {
        Errno::NOENT => format!("does not exist ({cure})"),
        Errno::NOTDIR => "is not a directory".into(),
        Errno::ACCESS | Errno::PERM => {
            "may not be read or written by this user (change its rights, or the user)".into()
        }
        errno => format!("cannot be used: {errno}"),
    }
}

fn shown(path: &Path) -> String {
    tree::path::escape(path.as_os_str().as_encoded_bytes())
}
