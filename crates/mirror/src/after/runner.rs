//! The thread that waits until there is something to run for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

use super::pace::Pace;
use super::run::{self, GRACE};
use super::{AfterError, Batch, Command, Ran};

/// After a kill the kernel needs a moment; what takes longer (it waits for a disk that does not answer) is not waited for.
const KILLED: Duration = Duration::from_secs(1);

/// Runs one command again and again, never two at a time, in a thread of its own: each run is told what gathered since the
/// one before began.
#[derive(Debug)]
pub struct Runs<B: Batch> {
    shared: Arc<Shared<B>>,
}

/// Ends a run from another thread, and has no other begin.
#[derive(Clone)]
pub struct Killer(Arc<dyn Kill>);

trait Kill: Send + Sync {
    fn kill(&self);
}

#[derive(Debug)]
struct Shared<B> {
    state: Mutex<State<B>>,
    changed: Condvar,
    /// Can be read once the command that runs is to end.
    kill: OwnedFd,
}

#[derive(Debug)]
struct State<B> {
    batch: B,
    /// It may run, if there is something to tell.
    ready: bool,
    running: bool,
    /// No run begins after this one and what can run now.
    ending: bool,
    /// No run begins any more.
    killed: bool,
    /// The thread is gone.
    over: bool,
}

impl<B: Batch> Runs<B> {
    /// Starts the thread, which tells nothing yet, with `empty` to gather in; `tell` hears of each run when it is over, from
    /// that thread.
    ///
    /// # Errors
    /// When there is no such program, or no thread.
    pub fn start(command: Command, empty: B, mut tell: impl FnMut(&Ran) + Send + 'static) -> Result<Self, AfterError> {
        command.check()?;
        let shown = command.shown();
        let failed = |error: std::io::Error| AfterError::Thread { program: shown.clone(), error };
        let kill = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let state = State { batch: empty, ready: false, running: false, ending: false, killed: false, over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), kill });
        let theirs = Arc::clone(&shared);
        let work = move || {
            theirs.work(&command, &mut tell);
            theirs.lock().over = true;
            theirs.changed.notify_all();
        };
        std::thread::Builder::new().name("after".into()).spawn(work).map_err(failed)?;
        Ok(Self { shared })
    }

    /// Adds to what the next run is told, and says whether it may begin.
    pub fn gather(&self, ready: bool, add: impl FnOnce(&mut B)) {
        let mut state = self.shared.lock();
        add(&mut state.batch);
        state.ready = ready;
        if ready && !state.batch.is_empty() {
            self.shared.changed.notify_all();
        }
    }

    /// How much no run was told of yet.
    pub fn waiting(&self) -> u64 {
        self.shared.lock().batch.len()
    }

    /// Whether it runs at this moment.
    pub fn is_running(&self) -> bool {
        self.shared.lock().running
    }

    /// What ends a run from elsewhere.
    pub fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.shared) as Arc<dyn Kill>)
    }

    /// Ends it: what runs, and what may run by now, has `within` for it, then it is killed with all that it started. Returns
    /// how much no run was told of.
    pub fn finish(&self, within: Duration) -> u64 {
        let mut state = self.shared.lock();
        state.ending = true;
        self.shared.changed.notify_all();
        let state = self.shared.wait_until_over(state, within);
        if state.over {
            return state.batch.len();
        }
        drop(state);
        self.shared.kill();
        self.shared.wait_until_over(self.shared.lock(), GRACE + KILLED).batch.len()
    }
}

impl<B: Batch> Drop for Runs<B> {
    fn drop(&mut self) {
        self.finish(Duration::ZERO);
    }
}

impl Killer {
    /// Ends what runs: it is asked to (SIGTERM), and soon killed. Returns at once.
    pub fn kill(&self) {
        self.0.kill();
    }
}

impl std::fmt::Debug for Killer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Killer")
    }
}

impl<B: Batch> Kill for Shared<B> {
    fn kill(&self) {
        self.lock().killed = true;
        self.changed.notify_all();
        if let Err(error) = rustix::io::write(&self.kill, &[1; 8]) {
            tracing::error!("cannot have a command end: {error}");
        }
    }
}

impl<B: Batch> Shared<B> {
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_over<'s>(&self, state: MutexGuard<'s, State<B>>, within: Duration) -> MutexGuard<'s, State<B>> {
        let waited = self.changed.wait_timeout_while(state, within, |state| !state.over);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn work(&self, command: &Command, tell: &mut dyn FnMut(&Ran)) {
        let mut pace = Pace::default();
        while let Some(batch) = self.next(&pace) {
            let began = Instant::now();
            let ran = run::run(command, &batch, &self.kill);
            pace.ended(began, Instant::now());
            // Told before it counts as over: who waits for the end has heard of it.
            tell(&ran);
            self.lock().running = false;
        }
    }

    /// Waits for the next batch; `None` once there will be none.
    fn next(&self, pace: &Pace) -> Option<B> {
        let mut state = self.lock();
        loop {
            if state.killed {
                return None;
            }
            let ready = state.ready && !state.batch.is_empty();
            let now = Instant::now();
            let begin = pace.begin(now);
            // Who ends does not wait for the sake of peace.
            if ready && (begin <= now || state.ending) {
                state.running = true;
                return Some(state.batch.take());
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
