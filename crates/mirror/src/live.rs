//! The live mirror: both directories watched, every change followed, every drift of the destination repaired.
//!
//! An event only says where to look; the same engine looks. What fails is looked at again, with growing pauses;
//! what cannot be watched is polled; everything is checked once in a while, whatever the events said.

use crate::dirty::{All, Dirty};
use crate::engine::{Event, Outcome};
use crate::mirror::{Mirror, MirrorError};
use crate::watch::{News, Waker, Watcher};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tree::{Dir, RelPath};

/// Everything is compared again this often, in case something was never reported (a store through a memory map, a
/// change made on another machine).
pub const CHECK_EVERY: Duration = Duration::from_secs(600);
/// Directories without a watch are compared this often.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// And tried to be watched this often.
const REWATCH_EVERY: Duration = Duration::from_secs(60);
/// The pause before the first and before the last retry of what failed; it doubles in between.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(30)];
/// A root that is gone is looked for this often.
const LOST_EVERY: Duration = Duration::from_secs(1);

/// What a live mirror tells while it runs.
#[derive(Debug)]
pub enum Report<'a> {
    /// One result.
    Event(&'a Event<'a>),
    /// A pass is over.
    Pass(&'a Outcome),
    /// All that was marked at start-up is done, and changes are followed from now on.
    Watching,
    /// Something about the watch or the roots, for a person.
    Note(String),
}

/// Ends a live mirror from another thread.
#[derive(Clone, Debug, Default)]
pub struct Stopper {
    flag: Arc<AtomicBool>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

struct Live<'a> {
    mirror: &'a mut Mirror,
    stopper: Stopper,
    report: &'a mut dyn FnMut(Report<'_>),
    source: Option<Arc<Watcher>>,
    dest: Option<Watcher>,
    retry: Dirty,
    retry_gap: Duration,
    times: Times,
    lost: bool,
}

/// When to do what comes by time.
#[derive(Clone, Copy, Debug)]
struct Times {
    check: Duration,
    poll: Duration,
    rewatch: Duration,
    retry: Duration,
    lost: Duration,
}

impl Stopper {
    /// Asks for the end: what is staged is still switched.
    pub fn stop(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// The flag that [`Stopper::stop`] sets.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }
}

impl Mirror {
    /// Keeps the destination equal to the source until `stopper` says otherwise. Returns the last outcome that was
    /// not quiet.
    ///
    /// # Errors
    /// When one of the directories cannot be watched at all.
    pub fn watch(&mut self, stopper: Stopper, report: &mut dyn FnMut(Report<'_>)) -> Result<Outcome, MirrorError> {
        self.stop_on(stopper.flag());
        let now = crate::watch::now();
        let times = Times {
            check: now + self.check_every,
            poll: now + POLL_EVERY,
            rewatch: now + REWATCH_EVERY,
            retry: Duration::MAX,
            lost: now,
        };
        let mut live = Live {
            mirror: self,
            stopper,
            report,
            source: None,
            dest: None,
            retry: Dirty::new(),
            retry_gap: RETRY[0],
            times,
            lost: false,
        };
        live.start()?;
        Ok(live.run())
    }
}

impl Live<'_> {
    /// Watch first, then list: what changes in between is seen by both.
    fn start(&mut self) -> Result<(), MirrorError> {
        let bell = Arc::clone(&self.stopper.bell);
        let waker: Waker = Arc::new(move || bell.ring());
        let root = self.mirror.source.root().walk(&RelPath::root())?;
        let source = Arc::new(Watcher::start(root, Arc::clone(&waker), None)?);
        self.mirror.source.set_watcher(Arc::clone(&source));
        let dest = Watcher::start_unhurried(self.mirror.engine.dest().walk(&RelPath::root())?, waker, None)?;
        source.add_tree(&RelPath::root());
        dest.add_tree(&RelPath::root());
        self.source = Some(source);
        self.dest = Some(dest);
        Ok(())
    }

    fn run(&mut self) -> Outcome {
        let mut last = self.pass(&Dirty::everything(), true);
        (self.report)(Report::Watching);
        while !self.mirror.is_stopped() {
            self.wait();
            let now = crate::watch::now();
            if self.lost {
                self.look_for_roots(now);
                continue;
            }
            let (dirty, asked) = self.due(now);
            if self.lost || dirty.is_empty() {
                continue;
            }
            let outcome = self.pass(&dirty, asked);
            if !outcome.is_quiet() {
                last = outcome;
            }
        }
        last
    }

    /// Everything that is to be looked at now; and whether a quiet pass over it is worth a word, which one over our
    /// own writes is not.
    fn due(&mut self, now: Duration) -> (Dirty, bool) {
        let mut dirty = Dirty::new();
        let mut asked = false;
        let mut news = Vec::new();
        if let Some(watcher) = &self.source {
            let due = watcher.due();
            asked |= !due.dirty.is_empty();
            dirty.merge(due.dirty);
            news.extend(due.news.into_iter().map(|news| ("source", news)));
        }
        if let Some(watcher) = &self.dest {
            let due = watcher.due();
            // A removal at the destination is a drift, not a wish.
            merge_places(&mut dirty, &due.dirty);
            news.extend(due.news.into_iter().map(|news| ("destination", news)));
        }
        for (side, news) in news {
            self.hear(side, news);
        }
        if now >= self.times.retry {
            self.times.retry = Duration::MAX;
            dirty.merge(self.retry.take());
        }
        if now >= self.times.check {
            self.times.check = now + self.mirror.check_every;
            dirty.merge(Dirty::everything());
            asked = true;
        }
        self.poll(&mut dirty, now);
        (dirty, asked)
    }

    fn poll(&mut self, dirty: &mut Dirty, now: Duration) {
        if now >= self.times.poll {
            self.times.poll = now + POLL_EVERY;
            let source = self.source.iter().flat_map(|w| w.unwatched());
            for dir in source.chain(self.dest.iter().flat_map(Watcher::unwatched)) {
                dirty.insert_all(&dir, All { recursive: true, content: false });
            }
        }
        if now >= self.times.rewatch {
            self.times.rewatch = now + REWATCH_EVERY;
            for watcher in self.source.iter().map(AsRef::as_ref).chain(&self.dest) {
                if !watcher.unwatched().is_empty() {
                    watcher.retry_unwatched();
                }
            }
        }
    }

    fn hear(&mut self, side: &str, news: News) {
        let note = match news {
            News::Overflow => format!("the {side} changed faster than the kernel could report; everything is compared"),
            News::RootGone(how) => {
                self.lost = true;
                format!("the {side} was {how}; nothing is deleted, and it is followed again once it is back")
            }
            News::Unmounted(dir) => format!("a file system was unmounted from {dir} of the {side}"),
            News::WatchesUsedUp { dir, hint } => {
                format!("{dir} of the {side} and others are polled every second: {hint}")
            }
            News::Broken(why) => {
                self.lost = true;
                format!("the watch of the {side} broke and is started again: {why}")
            }
        };
        (self.report)(Report::Note(note));
    }

    /// Starts again once both roots are where they were.
    fn look_for_roots(&mut self, now: Duration) {
        if now < self.times.lost {
            return;
        }
        self.times.lost = now + LOST_EVERY;
        let source = self.mirror.source.check_root().is_ok();
        if source && is_at(self.mirror.engine.dest(), &self.mirror.dest_path) {
            match self.start() {
                Ok(()) => {
                    self.lost = false;
                    (self.report)(Report::Note("source and destination are there again".into()));
                    self.pass(&Dirty::everything(), true);
                }
                Err(e) => (self.report)(Report::Note(e.to_string())),
            }
        }
    }

    fn pass(&mut self, dirty: &Dirty, asked: bool) -> Outcome {
        let Self { mirror, report, .. } = self;
        let mut outcome = mirror.pass(dirty, &mut |event| report(Report::Event(event)));
        if asked || !outcome.is_quiet() {
            report(Report::Pass(&outcome));
        }
        if outcome.again.is_empty() {
            if self.retry.is_empty() {
                self.retry_gap = RETRY[0];
            }
        } else {
            self.retry.merge(outcome.again.take());
            self.times.retry = self.times.retry.min(crate::watch::now() + self.retry_gap);
            self.retry_gap = (self.retry_gap * 2).min(RETRY[1]);
        }
        outcome.replaced.clear();
        outcome
    }

    fn wait(&self) {
        let now = crate::watch::now();
        let Times { check, poll, rewatch, retry, lost } = self.times;
        let mut until = check.min(retry).min(rewatch).saturating_sub(now);
        if self.lost {
            until = lost.saturating_sub(now);
        }
        for watcher in self.source.iter().map(AsRef::as_ref).chain(&self.dest) {
            if !watcher.unwatched().is_empty() {
                until = until.min(poll.saturating_sub(now));
            }
            until = until.min(watcher.next_deadline().unwrap_or(Duration::MAX));
        }
        self.stopper.bell.wait(until);
    }
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn wait(&self, span: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, span, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

/// Adds the places of `other`, but not what it says about removals.
fn merge_places(dirty: &mut Dirty, other: &Dirty) {
    for (dir, look) in other.iter() {
        if let Some(all) = look.all {
            dirty.insert_all(dir, all);
        }
        for (name, hint) in &look.names {
            dirty.insert(dir, name, *hint);
        }
    }
    if other.root_entry() {
        dirty.insert_root_entry();
    }
}

/// Whether `path` leads to the directory `dir`.
fn is_at(dir: &Dir, path: &Path) -> bool {
    let now = Dir::open_root(path).and_then(|dir| dir.stat_self());
    matches!((dir.stat_self(), now), (Ok(held), Ok(now)) if held.id() == now.id())
}
