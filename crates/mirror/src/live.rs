//! The live mirror: both directories watched, every change followed, every drift of the destination repaired.
//!
//! An event only says where to look; the same engine looks. What fails is looked at again, with growing pauses, and told
//! once; what cannot be watched is polled; everything is checked once in a while, whatever the events said. While a root
//! is away nothing is copied or deleted, and once it is back everything is compared.

mod neighbours;
mod pulse;
mod roots;
mod standing;
mod stopper;
mod told;

use std::sync::Arc;
use std::time::Duration;

use tree::RelPath;

use crate::dirty::{All, Dirty};
use crate::engine::{Action, Event, Outcome};
use crate::guard::Pin;
use crate::mirror::{Mirror, MirrorError};
use crate::problem::Problem;
use crate::watch::{News, Waker, Watcher};
pub use pulse::Pulse;
use roots::Return;
pub use standing::{Standing, State};
pub use stopper::Stopper;
use told::Told;

/// Everything is compared again this often, in case something was never reported (a store through a memory map, a
/// change made on another machine).
pub const CHECK_EVERY: Duration = Duration::from_secs(600);
/// Directories without a watch are compared this often, or with pauses of [`POLL_SHARE`] times what that takes.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// See [`POLL_EVERY`]: polling takes no more than a tenth of a processor, however much is polled.
const POLL_SHARE: u32 = 9;
/// And tried to be watched this often.
const REWATCH_EVERY: Duration = Duration::from_secs(60);
/// The pause before the first and before the last retry of what failed; it doubles in between.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(30)];
/// The paths of the roots, and the room on a disk that was full, are asked for this often.
const ROOTS_EVERY: Duration = Duration::from_secs(1);
/// However little there is to do, the loop goes round this often.
pub const ROUND_MAX: Duration = ROOTS_EVERY;
/// The longest wait for what is in the middle of a change, when the end in order was asked for.
const DRAIN: Duration = Duration::from_secs(2);

/// What a live mirror tells while it runs.
#[derive(Debug)]
pub enum Report<'a> {
    /// One result. A failure that repeats itself is told once.
    Event(&'a Event<'a>),
    /// A pass is over.
    Pass(&'a Outcome),
    /// All that was marked at start-up is done, and changes are followed from now on.
    Watching,
    /// Something about the watch or the roots, for a person.
    Note(String),
    /// Where it stands now, after all that was told before.
    Standing(&'a Standing),
}

struct Live<'a> {
    mirror: &'a mut Mirror,
    stopper: Stopper,
    report: &'a mut (dyn FnMut(Report<'_>) + Send),
    source: Option<Arc<Watcher>>,
    dest: Option<Watcher>,
    dest_pin: Pin,
    retry: Dirty,
    retry_gap: Duration,
    times: Times,
    told: Told,
    standing: Standing,
    /// How many passes were told of.
    passes_told: u64,
    /// What is told of a root that is away, so that it is told once.
    away: Option<Return>,
    /// Bytes that were free when something had no room.
    room: Option<u64>,
    /// One of the directories turned out to be in the other: that is the end.
    overlap: bool,
    /// This pass is the last one: nothing is tried again.
    ending: bool,
}

/// When to do what comes by time.
#[derive(Clone, Copy, Debug)]
struct Times {
    check: Duration,
    poll: Duration,
    rewatch: Duration,
    retry: Duration,
    roots: Duration,
}

/// Why a pass is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The first one, the one of the interval, or after lost events: also a quiet one is told.
    Asked,
    /// The kernel reported something of the source.
    Reported,
    /// By time, or over our own writes: a quiet one is not worth a word.
    Again,
}

impl Mirror {
    /// Keeps the destination equal to the source until `stopper` says otherwise. Returns the outcome of the last
    /// comparison of everything where the end was asked for in order, else the last one that was not quiet.
    ///
    /// # Errors
    /// When one of the directories cannot be watched at all, or another live mirror writes to where the destination lies, or in it.
    pub fn watch(
        &mut self,
        stopper: Stopper,
        report: &mut (dyn FnMut(Report<'_>) + Send),
    ) -> Result<Outcome, MirrorError> {
        self.settle_in()?;
        if let Some(note) = self.note_neighbours() {
            report(Report::Note(note));
        }
        self.stop_on(stopper.flag());
        self.beat_on(stopper.pulse());
        let dest_pin = roots::pin_of(self.engine.dest())?;
        let now = crate::watch::now();
        let times = Times {
            check: now + self.check_every,
            poll: now + POLL_EVERY,
            rewatch: now + REWATCH_EVERY,
            retry: Duration::MAX,
            roots: now + ROOTS_EVERY,
        };
        let mut live = Live {
            mirror: self,
            stopper,
            report,
            source: None,
            dest: None,
            dest_pin,
            retry: Dirty::new(),
            retry_gap: RETRY[0],
            times,
            told: Told::default(),
            standing: Standing::default(),
            passes_told: 0,
            away: None,
            room: None,
            overlap: false,
            ending: false,
        };
        live.start()?;
        let outcome = live.run();
        self.claim = None;
        Ok(outcome)
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
        (self.report)(Report::Standing(&self.standing));
        let mut last = self.pass(&Dirty::everything(), Why::Asked);
        if !self.is_over() {
            // First: who is told that changes are followed may ask for the end in order at once.
            self.stopper.follows();
            (self.report)(Report::Watching);
        }
        self.tell_standing();
        while !self.is_over() && !self.stopper.is_draining() {
            self.wait();
            self.stopper.pulse().beat();
            let now = crate::watch::now();
            if self.is_lost() {
                self.look_for_roots(now);
                continue;
            }
            let (dirty, why) = self.due(now);
            if !self.is_lost() && !dirty.is_empty() {
                let outcome = self.pass(&dirty, why);
                if !outcome.is_quiet() {
                    last = outcome;
                }
            }
            self.tell_standing();
        }
        if self.stopper.is_draining() && !self.is_over() {
            last = self.drain();
        }
        last
    }

    /// The end in order: everything reported by now is followed, and then everything is compared.
    fn drain(&mut self) -> Outcome {
        let until = crate::watch::now() + DRAIN;
        while !self.is_lost() && !self.mirror.is_stopped() {
            let watchers = self.source.iter().map(AsRef::as_ref).chain(&self.dest);
            for watcher in watchers {
                watcher.barrier();
            }
            let now = crate::watch::now();
            let (dirty, why) = self.due(now);
            if !dirty.is_empty() && !self.is_lost() {
                self.pass(&dirty, why);
                continue;
            }
            match self.source.as_ref().and_then(|source| source.next_deadline()) {
                Some(wait) if now < until => self.stopper.bell.wait(wait.min(until - now)),
                _ => break,
            }
        }
        if let Some(lost) = &self.standing.lost {
            let problem = Problem::Source(lost.clone());
            return Outcome { problems: vec![(RelPath::root(), problem)], ..Outcome::default() };
        }
        self.ending = true;
        let mut everything = self.retry.take();
        everything.merge(Dirty::everything());
        let outcome = self.pass(&everything, Why::Asked);
        self.tell_standing();
        outcome
    }

    /// Everything that is to be looked at now, and why.
    fn due(&mut self, now: Duration) -> (Dirty, Why) {
        let mut dirty = Dirty::new();
        let mut why = Why::Again;
        let mut news = Vec::new();
        if let Some(watcher) = &self.source {
            let due = watcher.due();
            if !due.dirty.is_empty() {
                why = Why::Reported;
            }
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
        if now >= self.times.roots {
            self.times.roots = now + ROOTS_EVERY;
            if let Some(what) = roots::broken(self.mirror, &self.dest_pin).filter(|_| !self.is_lost()) {
                self.lose(what);
            }
            self.look_for_room();
        }
        if now >= self.times.retry {
            self.times.retry = Duration::MAX;
            dirty.merge(self.retry.take());
        }
        if now >= self.times.check {
            self.times.check = now + self.mirror.check_every;
            dirty.merge(Dirty::everything());
            why = Why::Asked;
        }
        self.poll(&mut dirty, now);
        (dirty, why)
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
            News::Overflow => {
                self.standing.overflows += 1;
                format!("the {side} changed faster than the kernel could report; everything is compared")
            }
            News::RootGone(how) => return self.lose(format!("the {side} was {how}")),
            News::Unmounted(dir) => format!("a file system was unmounted from {dir} of the {side}"),
            News::WatchesUsedUp { dir, hint } => {
                format!("{dir} of the {side} and others are polled: {hint}")
            }
            News::Broken(why) => return self.lose(format!("the watch of the {side} broke: {why}")),
        };
        (self.report)(Report::Note(note));
    }

    fn is_over(&self) -> bool {
        self.overlap || self.mirror.is_stopped()
    }

    fn is_lost(&self) -> bool {
        self.standing.lost.is_some()
    }

    /// From now on nothing is touched until both roots are where they were.
    fn lose(&mut self, what: String) {
        if self.is_lost() {
            return;
        }
        (self.report)(Report::Note(format!(
            "{what}; nothing is copied and nothing is deleted, and it is followed again once it is back"
        )));
        self.standing.lost = Some(what);
        self.mirror.source.forget_watcher();
        self.source = None;
        self.dest = None;
        self.times.roots = crate::watch::now();
        self.tell_standing();
    }

    /// Starts again once both roots are where they were.
    fn look_for_roots(&mut self, now: Duration) {
        if now < self.times.roots {
            return;
        }
        self.times.roots = now + ROOTS_EVERY;
        let both = match roots::return_source(self.mirror) {
            Return::Back => roots::return_dest(self.mirror, &mut self.dest_pin),
            not => not,
        };
        if both != Return::Back {
            if let Return::Other(what) = &both
                && self.away.as_ref() != Some(&both)
            {
                (self.report)(Report::Note(what.clone()));
                self.standing.lost = Some(what.clone());
                self.tell_standing();
            }
            self.away = Some(both);
            return;
        }
        self.away = None;
        if let Err(e) = self.start() {
            (self.report)(Report::Note(e.to_string()));
            return;
        }
        self.standing.lost = None;
        (self.report)(Report::Note("source and destination are there again; everything is compared".into()));
        self.pass(&Dirty::everything(), Why::Asked);
        self.tell_standing();
    }

    fn pass(&mut self, dirty: &Dirty, why: Why) -> Outcome {
        let began = crate::watch::now();
        if why != Why::Again && self.standing.state != State::Scanning {
            self.standing.settle(true);
            (self.report)(Report::Standing(&self.standing));
        }
        let Self { mirror, report, told, stopper, .. } = self;
        let mut outcome = mirror.pass(dirty, &mut |event| {
            stopper.pulse().beat();
            let known = event.action == Action::Failed
                && event.error.is_some_and(|problem| told.is_known(event.path, problem, why == Why::Again));
            if !known {
                report(Report::Event(event));
            }
        });
        if self.ending {
            mirror.tell_unsettled(&mut outcome, &mut |event| report(Report::Event(event)));
        }
        self.overlap |= outcome.problems.iter().any(|(_, problem)| problem.is_overlap());
        let failing = told.take(dirty, outcome.stopped, &outcome.problems);
        let held = outcome.held != self.standing.held && outcome.held.is_some();
        self.standing.passes += 1;
        self.standing.walks += u64::from(dirty.is_whole());
        self.standing.held = self.mirror.engine.held;
        if why == Why::Asked || failing || held || changed(&outcome) {
            (self.report)(Report::Pass(&outcome));
        }
        self.note_room();
        if outcome.again.is_empty() {
            if self.retry.is_empty() {
                self.retry_gap = RETRY[0];
            }
        } else {
            if why != Why::Again {
                self.retry_gap = RETRY[0];
            }
            self.retry.merge(outcome.again.take());
            let now = crate::watch::now();
            self.times.retry = self.times.retry.min(now + self.retry_gap);
            self.retry_gap = (self.retry_gap * 2).min(RETRY[1]);
        }
        outcome.replaced.clear();
        let now = crate::watch::now();
        self.times.poll = self.times.poll.max(now + (now - began) * POLL_SHARE);
        outcome
    }

    /// Remembers how much room there was when there was too little.
    fn note_room(&mut self) {
        self.room = if self.told.lacks_room() { roots::room(self.mirror.engine.dest()) } else { None };
    }

    /// What had no room is tried again as soon as there is more.
    fn look_for_room(&mut self) {
        let Some(room) = self.room else { return };
        if roots::room(self.mirror.engine.dest()).is_some_and(|now| now > room) {
            self.times.retry = Duration::ZERO;
        }
    }

    /// Tells where it stands, if that is news.
    fn tell_standing(&mut self) {
        let watchers = || self.source.iter().map(AsRef::as_ref).chain(&self.dest);
        let mut now = self.standing.clone();
        now.entries = self.mirror.engine.entries_known;
        now.watches = watchers().map(Watcher::watches).sum();
        now.polled = watchers().map(|watcher| watcher.unwatched().len() as u64).sum();
        now.problems = self.told.len();
        now.named = self.told.first(standing::NAMED_MAX);
        now.lacks_room = self.told.lacks_room();
        let unsettled = self.source.as_ref().is_some_and(|source| source.next_deadline().is_some());
        // What fails is tried again as well, but that is another matter.
        let unfinished = !self.retry.is_empty() && self.told.len() == 0;
        now.settle(unsettled || unfinished);
        if now != self.standing || now.passes != self.passes_told {
            self.passes_told = now.passes;
            self.standing = now;
            (self.report)(Report::Standing(&self.standing));
        }
    }

    fn wait(&self) {
        let now = crate::watch::now();
        let Times { check, poll, rewatch, retry, roots } = self.times;
        let mut until = check.min(retry).min(rewatch).min(roots).saturating_sub(now);
        if self.is_lost() {
            until = roots.saturating_sub(now);
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

/// Whether a pass changed anything.
fn changed(outcome: &Outcome) -> bool {
    let counts = &outcome.counts;
    counts.copied + counts.updated + counts.deleted > 0 || !outcome.waiting.is_empty()
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
