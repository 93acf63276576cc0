//! Watching a directory tree: what the kernel reports, until it may be looked at.
//!
//! A [`Watcher`] owns one thread. The thread drains the kernel's queue (inotify) and puts what it read into a
//! [`Settle`]; the consumer, a thread of its own, is woken and takes what is [due](Watcher::due). An event only
//! says where to look; the listing decides.
//!
//! What it promises:
//! - every change of a name in a watched directory makes the name due, and a directory that is new to the watch
//!   is watched first and listed then, so what was made before its watch is due as well;
//! - lost events ([`News::Overflow`]) make everything due, and count as possible removals by the user;
//! - a directory that cannot be watched is named by [`Watcher::unwatched`], to be polled;
//! - the path of an event is the one the directory has by all events before it. When in doubt, watches are
//!   dropped and made again, never kept under an old path.
//!
//! It promises nothing for stores through a memory map and for changes made on another machine: the kernel reports
//! neither. It reads no content and changes nothing on the disk.

mod drain;
mod limits;
mod nodes;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::EventfdFlags;
use rustix::fd::OwnedFd;
use rustix::fs::inotify;
use rustix::io::Errno;
use tree::{Dir, Kind, Name, RelPath, fsx};

use crate::dirty::{All, Dirty};
use crate::settle::{Mark, Seen, Settle};
use drain::Drainer;

/// Most created names whose kind is asked for before their close; for the others their grace has to do.
const CREATED_ASKED_MAX: usize = 4_096;
/// What one watches without hurry is drained so long after the first event: its own writer's next calls come in one
/// batch, instead of waking the thread one by one while they are made.
const UNHURRIED: Duration = Duration::from_millis(2);
/// Most pieces of news kept for a consumer that does not come; they repeat themselves.
const NEWS_MAX: usize = 1_024;

/// Called, mostly from the watcher's thread, when something has become due or news has come, once until
/// [`Watcher::due`] is called. It must return at once.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Names that are nobody's entry, by directory and name. Temporaries of ours are left out without it.
pub type Ignore = Arc<dyn Fn(&RelPath, &Name) -> bool + Send + Sync>;

/// A watched tree. Dropping it ends its thread and its watches.
pub struct Watcher {
    shared: Arc<Shared>,
    inotify: Arc<OwnedFd>,
    root: Dir,
    thread: Option<JoinHandle<()>>,
}

/// What [`Watcher::due`] hands out.
#[derive(Debug, Default)]
pub struct Due {
    /// Where to look now.
    pub dirty: Dirty,
    /// What else happened, in order.
    pub news: Vec<News>,
}

/// Something about the watch itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The kernel's queue was full and events are lost. Everything becomes due once the watches are verified.
    Overflow,
    /// The root is no longer what is watched. Nothing more comes; a consumer stops deleting and says so.
    RootGone(RootGone),
    /// A file system was unmounted from this directory of the tree.
    Unmounted(RelPath),
    /// No watch is left for this directory, nor for others after it: see [`Watcher::unwatched`].
    WatchesUsedUp {
        /// The first directory that got no watch.
        dir: RelPath,
        /// What to do about it, for a person.
        hint: String,
    },
    /// The kernel's queue cannot be read. Nothing more comes.
    Broken(String),
}

/// How the root went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootGone {
    /// It was deleted.
    Deleted,
    /// It was renamed.
    Moved,
    /// Its file system was unmounted.
    Unmounted,
}

/// Why a tree cannot be watched at all.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel gives no more queues to this user.
    #[error("{hint}")]
    InstancesUsedUp {
        /// What to do about it.
        hint: String,
    },
    /// Not even the root can be watched.
    #[error("{hint}")]
    WatchesUsedUp {
        /// What to do about it.
        hint: String,
    },
    /// A system call failed.
    #[error(transparent)]
    System(#[from] fsx::Error),
    /// The thread cannot be started.
    #[error("cannot start the thread that watches {path}: {source}")]
    Thread {
        /// The root.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What the thread and its owner share. Locks are held for moments only, and never while the waker runs.
struct Shared {
    state: Mutex<State>,
    answered: Condvar,
    /// Interrupts the thread's wait.
    bell: OwnedFd,
    waker: Waker,
    ignore: Option<Ignore>,
    #[cfg(test)]
    hooks: tests::Hooks,
}

#[derive(Default)]
struct State {
    settle: Settle,
    news: Vec<News>,
    /// Created names whose kind was not asked for yet.
    created: Vec<(RelPath, Name)>,
    unwatched: Vec<RelPath>,
    /// How many directories have a watch.
    watches: u64,
    requests: Vec<Request>,
    /// The consumer was woken and has not come yet.
    rung: bool,
    /// Directories are known that have no watch yet, so that not everything in them is reported.
    growing: bool,
    /// The last barrier asked for, and the last one reached.
    asked: u64,
    reached: u64,
    stop: bool,
    /// The thread has ended.
    ended: bool,
}

/// What the owner wants from the thread.
enum Request {
    /// Watch this directory and everything below it.
    Tree(RelPath),
    /// Try all unwatched directories again.
    Retry,
}

impl Watcher {
    /// Watches the directory `root` itself; [`Watcher::add_tree`] adds what is below it.
    ///
    /// # Errors
    /// When the kernel gives no queue or no watch for the root; each says what to do.
    pub fn start(root: Dir, waker: Waker, ignore: Option<Ignore>) -> Result<Self, WatchError> {
        Self::start_with(root, waker, ignore, Duration::ZERO)
    }

    /// [`Watcher::start`] for a directory that mostly the caller itself changes: nobody waits for what is reported.
    ///
    /// # Errors
    /// As [`Watcher::start`].
    pub fn start_unhurried(root: Dir, waker: Waker, ignore: Option<Ignore>) -> Result<Self, WatchError> {
        Self::start_with(root, waker, ignore, UNHURRIED)
    }

    fn start_with(root: Dir, waker: Waker, ignore: Option<Ignore>, patience: Duration) -> Result<Self, WatchError> {
        let inotify =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(|e| match e {
                Errno::MFILE => WatchError::InstancesUsedUp { hint: limits::instances_hint() },
                e => fsx::Error::new("watch", root.path(), e).into(),
            })?;
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| fsx::Error::new("watch", root.path(), e))?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            answered: Condvar::new(),
            bell,
            waker,
            ignore,
            #[cfg(test)]
            hooks: tests::Hooks::default(),
        });
        let held = root.walk(&RelPath::root())?;
        let inotify = Arc::new(inotify);
        let drainer = Drainer::new(held, Arc::clone(&inotify), Arc::clone(&shared), patience)?;
        let thread =
            std::thread::Builder::new().name("watch".into()).spawn(move || drainer.run()).map_err(|source| {
                WatchError::Thread { path: tree::path::escape(root.path().as_os_str().as_encoded_bytes()), source }
            })?;
        Ok(Self { shared, inotify, root, thread: Some(thread) })
    }

    /// Watches `dir` and everything below it, and returns when that is done or proven impossible.
    ///
    /// Nothing that stands there becomes due by it, only what changes from now on: the caller looks at all of it
    /// after this, once.
    pub fn add_tree(&self, dir: &RelPath) {
        self.shared.lock().requests.push(Request::Tree(dir.clone()));
        self.barrier();
    }

    /// What may be looked at now, and what else happened. Called when woken, and at [`Watcher::next_deadline`].
    pub fn due(&self) -> Due {
        self.ask_created();
        let mut state = self.shared.lock();
        state.rung = false;
        Due { dirty: state.settle.due(now()), news: std::mem::take(&mut state.news) }
    }

    /// How long the consumer may wait for its waker before it has to call [`Watcher::due`]; `None` is for ever.
    pub fn next_deadline(&self) -> Option<Duration> {
        let state = self.shared.lock();
        if !state.news.is_empty() {
            return Some(Duration::ZERO);
        }
        state.settle.next_deadline().map(|at| at.saturating_sub(now()))
    }

    /// Whether `path` is held back: a listing leaves it alone, as it becomes due by itself.
    pub fn is_unsettled(&self, path: &RelPath) -> bool {
        self.shared.lock().settle.is_unsettled(path)
    }

    /// [`Watcher::is_unsettled`] by all that the kernel has reported up to now, also what is still in its queue.
    ///
    /// Who has read a file and is told `false` has read it whole, if it was whole at the begin: no change that was
    /// reported to anybody when the reading ended is left out. It costs a system call, and where something is queued a
    /// [barrier](Watcher::barrier).
    pub fn is_unsettled_by_now(&self, path: &RelPath) -> bool {
        let state = self.shared.lock();
        if state.settle.is_unsettled(path) {
            return true;
        }
        // The lock keeps the thread from having read events that it has not noted.
        let nothing_queued = rustix::io::ioctl_fionread(&self.inotify).is_ok_and(|bytes| bytes == 0);
        if nothing_queued && !state.growing {
            return false;
        }
        drop(state);
        self.barrier();
        self.is_unsettled(path)
    }

    /// The names directly in `dir` that are held back; see [`Watcher::is_unsettled`]. One lock for a whole listing.
    pub fn unsettled_in(&self, dir: &RelPath) -> Vec<Name> {
        self.shared.lock().settle.unsettled_in(dir)
    }

    /// The topmost directories that have no watch, so that they and all below them must be polled.
    pub fn unwatched(&self) -> Vec<RelPath> {
        self.shared.lock().unwatched.clone()
    }

    /// How many directories have a watch.
    pub fn watches(&self) -> u64 {
        self.shared.lock().watches
    }

    /// Tries to watch what is [unwatched](Watcher::unwatched). What gets its watch becomes due.
    pub fn retry_unwatched(&self) {
        self.shared.lock().requests.push(Request::Retry);
        self.ring();
    }

    /// Returns when everything the kernel queued before the call is held, or was handed out, by this watcher.
    ///
    /// The mark tells when all of it was handed out: ask [`Watcher::passed`] after each [`Watcher::due`].
    pub fn barrier(&self) -> Mark {
        let mut state = self.shared.lock();
        state.asked += 1;
        let ticket = state.asked;
        drop(state);
        self.ring();
        let mut state = self.shared.lock();
        while state.reached < ticket && !state.ended {
            state = self.shared.answered.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.settle.mark()
    }

    /// Whether everything before `mark` was handed out by [`Watcher::due`].
    pub fn passed(&self, mark: Mark) -> bool {
        self.shared.lock().settle.passed(mark)
    }

    /// Makes all of `dir` due, as a poll or a repair does.
    pub fn push_all(&self, dir: &RelPath, all: All) {
        let mut state = self.shared.lock();
        state.settle.push_all(dir, all);
        self.shared.wake_if_due(state);
    }

    fn ring(&self) {
        ring(&self.shared.bell);
    }

    /// A link, or a file with other links, is complete when it is created; the event does not say so.
    fn ask_created(&self) {
        let mut state = self.shared.lock();
        let mut created = std::mem::take(&mut state.created);
        created.retain(|(dir, name)| state.settle.awaits_close(dir, name));
        drop(state);
        let mut held: Option<(RelPath, Dir)> = None;
        created.retain(|(dir, name)| {
            if held.as_ref().is_none_or(|(at, _)| at != dir) {
                held = self.root.walk(dir).ok().map(|opened| (dir.clone(), opened));
            }
            // What cannot be asked now keeps its grace; its directory's own event is on the way.
            let Some(stat) = held.as_ref().and_then(|(_, opened)| opened.stat(name).ok()) else { return false };
            stat.kind != Kind::File || stat.nlink > 1
        });
        if created.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        let now = now();
        for (dir, name) in created {
            // It may have been written, or removed, meanwhile; then that decides.
            if state.settle.awaits_close(&dir, &name) {
                state.settle.push(&dir, &name, Seen::Complete, now);
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the watching thread had panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves places to look at, at worst too few of them, and the panic itself is told.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the consumer, if there is something for it and it was not woken already.
    fn wake_if_due(&self, mut state: MutexGuard<'_, State>) {
        let wakes = !state.rung && state.has_something(now());
        state.rung |= wakes;
        drop(state);
        if wakes {
            (self.waker)();
        }
    }
}

impl State {
    /// Whether [`Watcher::due`] has something to do or to hand out.
    fn has_something(&self, now: Duration) -> bool {
        let due = self.settle.next_deadline().is_some_and(|at| at <= now);
        due || !self.news.is_empty() || !self.created.is_empty()
    }

    fn tell(&mut self, news: News) {
        if self.news.len() < NEWS_MAX {
            self.news.push(news);
        }
    }

    fn push(&mut self, dir: &RelPath, name: &Name, seen: Seen, now: Duration) {
        self.settle.push(dir, name, seen, now);
        if seen == Seen::Created && self.created.len() < CREATED_ASKED_MAX {
            self.created.push((dir.clone(), name.clone()));
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("root", &self.root).finish_non_exhaustive()
    }
}

impl fmt::Display for RootGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RootGone::Deleted => "deleted",
            RootGone::Moved => "renamed",
            RootGone::Unmounted => "unmounted",
        })
    }
}

/// The watcher's clock: monotonic, since some fixed start. The times of [`Settle`] are read here alone.
pub fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // The kernel's clock gives neither negative seconds nor a full second of nanoseconds.
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

fn ring(bell: &OwnedFd) {
    // Any number but zero rings, whatever the byte order. The only refusal is a full counter: it rings already.
    let _ = rustix::io::write(bell, &[1; 8]);
}
