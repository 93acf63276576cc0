//! Several threads on one pass: who does what, and how all they found comes together.
//!
//! One thread is there anyway and begins alone. The directories it meets are put off, and only when there are several are
//! others called in: a change of a few files wakes nobody. Each works with an engine and a source of its own, which
//! share what is held; what has to be one thing for all of a pass (guards, hard links, the times of directories) is left to
//! the first thread.

use super::finish::Delete;
use super::fresh::Filling;
use super::open::Opened;
use super::{At, Found, Pass};
use crate::dirty::Dirty;
use crate::engine::{Action, Engine, Event};
use crate::keep::What;
use crate::problem::Problem;
use crate::source::{Source, WantDir, WantFile};
use std::sync::Arc;
use tree::{Kind, Name, RelPath, Stat};

/// Single names, or deletions, that are worth another thread.
const WORTH: usize = 64;
/// A file of this size is copied by whoever is free: a directory of large ones is no work for one thread.
pub(super) const LARGE_BYTES: u64 = 4 << 20;
/// Levels a thread goes down by itself; below, a directory waits until a thread is free. Each level holds a descriptor, and
/// room on the stack.
const LEVELS_MAX: usize = 64;
/// Room on the stack of another thread; see [`LEVELS_MAX`].
const STACK_BYTES: usize = 4 << 20;
/// Results a thread keeps while another one is telling its own.
const TOLD_MAX: usize = 64;

/// A piece of work: what one thread does without the others.
pub(super) enum Job {
    /// What is marked in a directory.
    Look(RelPath),
    /// Everything in and below a directory that both sides have.
    Walk(RelPath),
    /// A directory that is not there, or takes the place of what was found.
    Build { at: At, name: Name, path: RelPath, want: WantDir, found: Option<Stat> },
    /// One in a new directory that nobody sees yet.
    Fill { above: Arc<Filling>, name: Name, path: RelPath, want: WantDir },
    /// A large file, of which several may be in one directory.
    Put { at: At, name: Name, path: RelPath, want: WantFile, found: Option<Stat> },
    /// One in a new directory that nobody sees yet.
    PutIn { above: Arc<Filling>, name: Name, path: RelPath, want: WantFile },
    /// Deletions in one directory.
    Delete(Vec<Delete>),
}

/// How a thread goes about the directories it meets.
pub(super) enum Manner {
    /// Nobody else works now. Where there are others to call in, directories are put off until they are.
    Alone { put_off: Vec<Job> },
    /// Others work on the same pass; so many levels are gone down without them.
    Together { levels: usize },
}

/// A result on its way to the sink.
pub(super) struct Told {
    action: Action,
    path: RelPath,
    kind: Option<Kind>,
    bytes: u64,
    error: Option<Problem>,
}

/// How many threads work on a pass. Which names are one file is only known for certain where everything is walked.
pub(super) fn threads(engine: &Engine, dirty: &Dirty) -> usize {
    let links = engine.options.keep.has(What::HardLinks) && !dirty.is_whole();
    if links { 1 } else { engine.options.threads.get() }
}

impl<S: Source> Pass<'_, '_, S> {
    /// Whether others work on this pass right now.
    pub(super) fn is_together(&self) -> bool {
        matches!(self.manner, Manner::Together { .. })
    }

    /// Does all of it, with others where that is worth it.
    pub(super) fn do_all(&mut self, jobs: Vec<Job>) {
        if self.crew.threads > 1 && self.is_worth_it(&jobs) {
            return self.call_in(jobs);
        }
        let mut jobs = jobs;
        loop {
            for job in jobs {
                self.do_unless_stopped(job);
            }
            let Manner::Alone { put_off } = &mut self.manner else { return };
            jobs = std::mem::take(put_off);
            match jobs.len() {
                0 => return,
                1 => {}
                _ => return self.call_in(jobs),
            }
        }
    }

    /// Deals with the directories that were put off; whether there were any.
    pub(super) fn do_put_off(&mut self) -> bool {
        let any = matches!(&self.manner, Manner::Alone { put_off } if !put_off.is_empty());
        if any {
            self.do_all(Vec::new());
        }
        any
    }

    fn is_worth_it(&self, jobs: &[Job]) -> bool {
        let names: usize = jobs.iter().map(|job| self.weight(job)).sum();
        jobs.len() > 1 && names >= WORTH
    }

    /// How many entries a piece of work is about, at least.
    fn weight(&self, job: &Job) -> usize {
        match job {
            Job::Look(path) => self.dirty.get(path).map_or(0, |look| match look.all {
                Some(_) => WORTH,
                None => look.names.len(),
            }),
            Job::Walk(_) | Job::Build { .. } | Job::Fill { .. } | Job::Put { .. } | Job::PutIn { .. } => WORTH,
            Job::Delete(deletes) if deletes.iter().any(|delete| delete.found.kind == Kind::Dir) => WORTH,
            Job::Delete(deletes) => deletes.len(),
        }
    }

    /// Has a directory dealt with: now, or by whoever is free first.
    pub(super) fn hand_on(&mut self, job: Job) {
        match &mut self.manner {
            Manner::Alone { put_off } if self.crew.threads > 1 => put_off.push(job),
            Manner::Alone { .. } => self.do_job(job),
            Manner::Together { levels } if *levels >= LEVELS_MAX || self.crew.is_hungry() => self.crew.push([job]),
            Manner::Together { levels } => {
                *levels += 1;
                self.do_job(job);
                if let Manner::Together { levels } = &mut self.manner {
                    *levels -= 1;
                }
            }
        }
    }

    fn do_job(&mut self, job: Job) {
        match job {
            Job::Look(path) => {
                if let Some(look) = self.dirty.get(&path) {
                    self.visit(&path, look);
                }
            }
            Job::Walk(path) => match self.open(&path) {
                Ok(Opened::Dir(at)) => self.list(&at, true),
                Ok(Opened::Blocked(at, name)) => self.blocked(Job::Walk(path), &at, &name),
                Err(problem) => self.fail(&path, problem),
            },
            Job::Build { at, name, path, want, found } => self.build(&at, name, path, want, found),
            Job::Fill { above, name, path, want } => self.fill_dir(&above, &name, path, want),
            Job::Put { at, name, path, want, found } => self.put_file(&at, name, path, want, found),
            Job::PutIn { above, name, path, want } => self.fill_large(&above, name, path, want),
            Job::Delete(deletes) => self.delete_in_one(deletes),
        }
    }

    /// An entry implies that its ancestors are directories: the first that is none is looked at instead of what `job` is
    /// about. Several threads may meet it at once, so one of them does it, once it is alone.
    pub(super) fn blocked(&mut self, job: Job, at: &At, name: &Name) {
        if self.is_together() {
            self.found.blocked.push(job);
        } else {
            self.compare(at, name, true);
        }
    }

    /// Does `jobs` together with others, and takes in what they found.
    fn call_in(&mut self, jobs: Vec<Job>) {
        self.crew.push(jobs);
        let (crew, dirty) = (self.crew, self.dirty);
        let helpers: Vec<(Engine, S)> =
            (1..crew.threads).filter_map(|_| Some((self.engine.fork(), self.source.fork()?))).collect();
        self.manner = Manner::Together { levels: 0 };
        let joined = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (mut engine, mut source) in helpers {
                let thread = std::thread::Builder::new().name("mirror".into()).stack_size(STACK_BYTES);
                let work = move || {
                    let manner = Manner::Together { levels: 0 };
                    let mut pass = Pass::new(&mut engine, &mut source, dirty, crew, manner);
                    pass.work();
                    let found = std::mem::take(&mut pass.found);
                    (found, source)
                };
                match thread.spawn_scoped(scope, work) {
                    Ok(thread) => threads.push(thread),
                    // No more threads to be had: those there are do all of it.
                    Err(e) => tracing::debug!("cannot start a thread: {e}"),
                }
            }
            self.work();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        self.manner = Manner::Alone { put_off: Vec::new() };
        for joined in joined {
            match joined {
                Ok((found, source)) => {
                    self.found.take_in(found);
                    self.source.join(source);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        for job in std::mem::take(&mut self.found.blocked) {
            let (Job::Look(path) | Job::Walk(path)) = &job else { continue };
            if !self.is_covered(path) {
                self.do_all(vec![job]);
            }
        }
    }

    /// Calls `each` for all of `items`, in parts at once where that is worth it, and gives what came of each in their order.
    pub(super) fn in_parts<T: Sync, R: Send>(&self, items: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let part = items.len().div_ceil(self.crew.threads).max(WORTH);
        if self.is_together() || items.len() <= part {
            return items.iter().map(each).collect();
        }
        let all = |part: &[T]| part.iter().map(&each).collect::<Vec<_>>();
        let (first, others) = items.split_at(part);
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for part in others.chunks(part) {
                let thread = std::thread::Builder::new().name("mirror".into()).stack_size(STACK_BYTES);
                threads.push((part, thread.spawn_scoped(scope, || all(part))));
            }
            let mut done = all(first);
            for (part, thread) in threads {
                done.extend(match thread.map(std::thread::ScopedJoinHandle::join) {
                    Ok(Ok(done)) => done,
                    Ok(Err(panic)) => std::panic::resume_unwind(panic),
                    // No more threads to be had.
                    Err(_) => all(part),
                });
            }
            done
        })
    }

    fn work(&mut self) {
        let crew = self.crew;
        crew.work(|job| self.do_unless_stopped(job));
        self.flush();
    }

    fn do_unless_stopped(&mut self, job: Job) {
        // What was begun is finished: a new directory gets its name, with what it has by then.
        if !self.stopped() || matches!(job, Job::Fill { .. } | Job::PutIn { .. }) {
            self.do_job(job);
        }
    }

    /// Tells a result, after those that wait; or keeps it, while another thread tells.
    pub(super) fn pass_on(&mut self, event: Event<'_>) {
        if let Some(mut sink) = self.crew.try_sink() {
            tell_all(&mut self.told, *sink);
            return sink(&event);
        }
        let Event { action, path, kind, bytes, error } = event;
        self.told.push(Told { action, path: path.clone(), kind, bytes, error: error.cloned() });
        if self.told.len() >= TOLD_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.told.is_empty() {
            let mut sink = self.crew.sink();
            tell_all(&mut self.told, *sink);
        }
    }
}

fn tell_all(told: &mut Vec<Told>, sink: &mut dyn FnMut(&Event<'_>)) {
    for Told { action, path, kind, bytes, error } in told.drain(..) {
        sink(&Event { action, path: &path, kind, bytes, error: error.as_ref() });
    }
}

impl Found {
    /// Adds what another thread found.
    fn take_in(&mut self, other: Found) {
        let Found { out, steps, deletes, finals, writable, covered, linked, respelt, blocked, tally } = other;
        self.out.take_in(out);
        self.steps.extend(steps);
        self.deletes.extend(deletes);
        for (path, why) in finals {
            let held = self.finals.entry(path).or_insert(why);
            *held = why.max(*held);
        }
        self.writable.extend(writable);
        self.covered.extend(covered);
        self.linked.extend(linked);
        self.respelt.extend(respelt);
        self.blocked.extend(blocked);
        self.tally.source_empty |= tally.source_empty;
        self.tally.whole |= tally.whole;
        self.tally.dest_entries += tally.dest_entries;
        self.tally.deleted_below += tally.deleted_below;
    }
}
