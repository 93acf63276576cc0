//! One pass of the engine: walk and compare, directories before what is in them.
//!
//! What it finds becomes staged [`Step`]s, which are switched in portions, and deletions and directories, which
//! [`finish`] does at the end. [`compare`] looks, [`put`] stages and switches; new directories are [`fresh`]'s.
//!
//! Several threads may work on a pass, each with a [`Pass`] of its own ([`team`]). Everything they find comes together in that
//! of the first, which alone holds what is left for the end against the guards, and alone knows of hard links.

mod compare;
mod crew;
mod finish;
mod fold;
mod fresh;
mod keep;
mod links;
mod open;
mod put;
mod team;

use crate::dirty::{self, Dirty, Hint};
use crate::engine::{Action, Engine, Event, Outcome, Sink};
use crate::problem::Problem;
use crate::source::{Source, Want};
use crate::switch::Step;
use crew::Crew;
use finish::Delete;
use links::Groups;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use team::{Job, Manner, Told};
use tree::{Dir, Kind, Name, RelPath, Stat};

/// How often a file that changes while it is read is read in one pass. The last time, one that only grew is taken as it was when that
/// read began: a log that never rests would never be copied.
const READS_MAX: usize = 3;

/// Replaced contents that are held for their freeing later.
const REPLACED_MAX: usize = 64;

/// A directory of the destination, held, and its path.
#[derive(Clone, Debug)]
struct At {
    path: RelPath,
    dir: Arc<Dir>,
}

/// Why a directory's own mode and times are set at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// We changed what is in it.
    Touched,
    /// They were not what they should be.
    Differed,
    /// It is new.
    Made,
}

pub(crate) struct Pass<'a, 't, S> {
    engine: &'a mut Engine,
    source: &'a mut S,
    dirty: &'a Dirty,
    crew: &'a Crew<'t, Job>,
    manner: Manner,
    /// Results that wait to be told.
    told: Vec<Told>,
    found: Found,
    groups: Groups,
}

/// What one thread has found and done.
#[derive(Default)]
struct Found {
    out: Outcome,
    steps: Vec<Step>,
    deletes: Vec<Delete>,
    /// Directories whose mode and times are set last.
    finals: BTreeMap<RelPath, Why>,
    /// Those of them that this thread saw to be able to change what is in them.
    writable: BTreeSet<RelPath>,
    /// Directories this pass has dealt with, with all that is below them.
    covered: BTreeSet<RelPath>,
    /// Names of files with several, which one thread alone deals with once all else was looked at.
    linked: BTreeSet<RelPath>,
    /// Names that were spelt otherwise, and were given their own.
    respelt: BTreeSet<RelPath>,
    /// What could not be reached, for a directory above it is none.
    blocked: Vec<Job>,
    tally: Tally,
}

/// What was counted on the way.
#[derive(Debug, Default)]
struct Tally {
    source_empty: bool,
    /// All of the destination was walked.
    whole: bool,
    /// Entries of the destination that were listed.
    dest_entries: u64,
    /// What was deleted with the directory it was in, which was not listed.
    deleted_below: u64,
}

/// Makes the destination what `source` says, wherever `dirty` says to look.
pub(crate) fn run<S: Source>(engine: &mut Engine, source: &mut S, dirty: &Dirty, sink: Sink<'_>) -> Outcome {
    source.begin();
    let threads = team::threads(engine, dirty);
    let crew = Crew::new(threads, sink);
    Pass::new(engine, source, dirty, &crew, Manner::Alone { put_off: Vec::new() }).run()
}

impl<'a, 't, S: Source> Pass<'a, 't, S> {
    fn new(
        engine: &'a mut Engine,
        source: &'a mut S,
        dirty: &'a Dirty,
        crew: &'a Crew<'t, Job>,
        manner: Manner,
    ) -> Self {
        let (told, found, groups) = (Vec::new(), Found::default(), Groups::default());
        Self { engine, source, dirty, crew, manner, told, found, groups }
    }

    fn run(mut self) -> Outcome {
        let dirty = self.dirty;
        if dirty.is_whole() {
            self.engine.folding.forget();
        }
        if dirty.root_entry() {
            self.compare_root();
        }
        self.bring_siblings_of_named();
        // By depth, since what was done above may have dealt with what is below.
        let mut marked: Vec<&RelPath> = dirty.iter().map(|(path, _)| path).collect();
        marked.sort_by_key(|path| path.depth());
        for level in marked.chunk_by(|a, b| a.depth() == b.depth()) {
            let left = level.iter().filter(|path| !self.is_covered(path));
            self.do_all(left.map(|path| Job::Look((*path).clone())).collect());
        }
        self.finish_links();
        self.finish()
    }

    /// Has a directory's mode and times set at the end.
    fn finish_later(&mut self, path: &RelPath, why: Why) {
        let held = self.found.finals.entry(path.clone()).or_insert(why);
        *held = why.max(*held);
    }

    fn join(&mut self, at: &At, name: &Name) -> Option<RelPath> {
        at.path.join(name).map_err(|e| self.fail(&at.path, Problem::Path(at.path.clone(), e))).ok()
    }

    /// Whether `path` was dealt with as part of a directory above it.
    fn is_covered(&self, path: &RelPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if self.found.covered.contains(&path) {
                return true;
            }
            at = path.parent();
        }
        false
    }

    fn stopped(&mut self) -> bool {
        self.found.out.stopped |= self.engine.is_stopped();
        self.found.out.stopped
    }

    fn keep(&mut self, path: &RelPath, want: &Want, found: &Stat) {
        self.source.kept(path, want, found);
        let respelt = !self.found.respelt.is_empty() && self.found.respelt.remove(path);
        self.tell(if respelt { Action::Updated } else { Action::Skipped }, path, want.kind(), 0);
    }

    /// What changed underneath is looked at again; until then it is not known to be the same.
    fn look_again(&mut self, path: &RelPath) {
        self.found.out.unsettled.insert(path.clone());
        self.mark_again(path);
    }

    fn mark_again(&mut self, path: &RelPath) {
        match path.split() {
            Some((dir, name)) => self.found.out.again.insert(&dir, &name, Hint { content: true, by_event: false }),
            None => self.found.out.again.insert_root_entry(),
        }
        if self.dirty.removed_by_event(path)
            && let Some((dir, name)) = path.split()
        {
            self.found.out.again.insert_removed(&dir, &name);
        }
    }

    fn fail_in(&mut self, at: &At, name: &Name, problem: Problem) {
        if let Some(path) = self.join(at, name) {
            self.fail(&path, problem);
        }
    }

    /// Tells a problem, counts it, and has it looked at again.
    fn fail(&mut self, path: &RelPath, problem: Problem) {
        self.mark_again(path);
        if let Ok(Some(Want::Dir(_) | Want::Unknown(Problem::Pin(_)))) = self.source.entry(path) {
            // What is in it was not looked at, either.
            self.found.out.again.insert_all(path, dirty::All { recursive: true, content: false });
        }
        self.found.out.counts.failed += 1;
        self.pass_on(Event { action: Action::Failed, path, kind: None, bytes: 0, error: Some(&problem) });
        self.found.out.problems.push((path.clone(), problem));
    }

    fn tell(&mut self, action: Action, path: &RelPath, kind: Option<Kind>, bytes: u64) {
        let counts = &mut self.found.out.counts;
        counts.bytes += bytes;
        let file = u64::from(kind == Some(Kind::File));
        match action {
            Action::Copied => {
                counts.copied += 1;
                counts.files_copied += file;
            }
            Action::Updated => {
                counts.updated += 1;
                counts.files_updated += file;
            }
            Action::Skipped => counts.skipped += 1,
            Action::Deleted => {
                counts.deleted += 1;
                counts.files_deleted += file;
            }
            Action::Left(_) => counts.left += 1,
            Action::Unsettled => drop(self.found.out.unsettled.insert(path.clone())),
            Action::Failed | Action::Held | Action::Waiting => {}
        }
        self.pass_on(Event { action, path, kind, bytes, error: None });
    }
}
