//! The thread that waits until there is something to run for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use tree::{Kind, RelPath};

use super::batch::Batch;
use super::pace::Pace;
use super::run::{self, GRACE};
use super::{After, AfterError, Ran};

/// After a kill the kernel needs a moment; what takes longer (it waits for a disk that does not answer) is not waited for.
const KILLED: Duration = Duration::from_secs(1);

/// Runs one command again and again, as [`After`] says, in a thread of its own.
#[derive(Debug)]
pub struct Runner {
    after: After,
    shared: Arc<Shared>,
}

/// Ends a run from another thread, and has no other begin.
#[derive(Clone, Debug)]
pub struct Killer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Can be read once the command that runs is to end.
    kill: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    /// Both sides are the same, by all that is known.
    same: bool,
    running: bool,
    /// No run begins after this one and what can run now.
    ending: bool,
    /// No run begins any more.
    killed: bool,
    /// The thread is gone.
    over: bool,
}

impl Runner {
    /// Starts the thread; `tell` hears of each run when it is over, from that thread.
    ///
    /// # Errors
    /// When there is no such program, or no thread.
    pub fn start(after: After, mut tell: impl FnMut(&Ran) + Send + 'static) -> Result<Self, AfterError> {
        after.check()?;
        let failed = |error: std::io::Error| AfterError::Thread { program: after.shown(), error };
        let kill = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), kill });
        let (theirs, command) = (Arc::clone(&shared), after.clone());
        let work = move || {
            theirs.work(&command, &mut tell);
            theirs.lock().over = true;
            theirs.changed.notify_all();
        };
        std::thread::Builder::new().name("after".into()).spawn(work).map_err(failed)?;
        Ok(Self { after, shared })
    }

    /// `path` was changed. Until [`Runner::same`] says otherwise, the sides are not the same.
    pub fn changed(&self, path: &RelPath, kind: Option<Kind>) {
        let mut state = self.shared.lock();
        state.same = false;
        if self.after.is_about(path, kind) {
            state.batch.insert(path);
        }
    }

    /// Whether both sides are the same now.
    pub fn same(&self, same: bool) {
        let mut state = self.shared.lock();
        if state.same != same {
            state.same = same;
            if same && !state.batch.is_empty() {
                self.shared.changed.notify_all();
            }
        }
    }

    /// How many changed paths no run was told of yet.
    pub fn waiting(&self) -> u64 {
        self.shared.lock().batch.len()
    }

    /// Whether it runs at this moment.
    pub fn is_running(&self) -> bool {
        self.shared.lock().running
    }

    /// What ends a run from elsewhere.
    pub fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.shared))
    }

    /// Ends it: what runs, and what may run as both sides are the same, has `within` for it, then it is killed with all
    /// that it started. Returns how many changed paths no run was told of.
    pub fn finish(&self, within: Duration) -> u64 {
        let mut state = self.shared.lock();
        state.ending = true;
        self.shared.changed.notify_all();
        let state = self.shared.wait_until_over(state, within);
        if state.over {
            return state.batch.len();
        }
        drop(state);
        self.killer().kill();
        self.shared.wait_until_over(self.shared.lock(), GRACE + KILLED).batch.len()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.finish(Duration::ZERO);
    }
}

impl Killer {
    /// Ends what runs: it is asked to (SIGTERM), and soon killed. Returns at once.
    pub fn kill(&self) {
        self.0.lock().killed = true;
        self.0.changed.notify_all();
        if let Err(error) = rustix::io::write(&self.0.kill, &[1; 8]) {
            tracing::error!("cannot have the command of --after end: {error}");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_over<'s>(&self, state: MutexGuard<'s, State>, within: Duration) -> MutexGuard<'s, State> {
        let waited = self.changed.wait_timeout_while(state, within, |state| !state.over);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn work(&self, after: &After, tell: &mut dyn FnMut(&Ran)) {
        let mut pace = Pace::default();
        while let Some(batch) = self.next(&pace) {
            let began = Instant::now();
            let ran = run::run(after, &batch, &self.kill);
            pace.ended(began, Instant::now());
            // Told before it counts as over: who waits for the end has heard of it.
            tell(&ran);
            self.lock().running = false;
        }
    }

    /// Waits for the next batch; `None` once there will be none.
    fn next(&self, pace: &Pace) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            if state.killed {
                return None;
            }
            let ready = state.same && !state.batch.is_empty();
            let now = Instant::now();
            let begin = pace.begin(now);
            // Who ends does not wait for the sake of peace.
            if ready && (begin <= now || state.ending) {
                state.running = true;
                return Some(std::mem::take(&mut state.batch));
            }
            if !ready && state.ending {
                return None;
            }
            let span = if ready { begin - now } else { Duration::MAX };
            state = match span {
                Duration::MAX => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                span => self.changed.wait_timeout(state, span).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}
