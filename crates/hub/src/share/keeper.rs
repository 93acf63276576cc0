//! The thread of a share: it knows when to look, [`super::scan`] how.
//!
//! The first scan, an event, an overflow, a poll and a retry differ only in where they look ([`mirror::dirty::Dirty`]).
//! The kernel's queue is drained by the watcher's own thread, so no event waits for a scan.

use super::guard::Held;
use super::scan::{Asked, ScanError, Scanner};
use super::{State, lock};
use crate::clock;
use crate::wake::Wakers;
use board::{Board, BoardError};
use mirror::dirty::{All, Dirty, Hint};
use mirror::settle::Mark;
use mirror::watch::{Due, News, Watcher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tree::RelPath;
use tree::at::Dir;

/// What changed while it was read is read again after this,
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// or after so many times what the look took, so that a large file that grows all the time costs a fifth of a CPU at most,
const AGAIN_PER_LOOK: u32 = 4;
/// but not later than this.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);
/// What the kernel does not watch is looked at this often.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// What could not be read, or is held, is tried again this often.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// A barrier does not wait longer than this for a file that is never still.
const BARRIER_MAX: Duration = Duration::from_secs(2);
/// Tombstones kept at least; beyond it, as many as half the live entries.
const TOMBSTONES_MIN: usize = 100_000;
/// How often old tombstones are purged.
const PURGE_EVERY: Duration = Duration::from_secs(600);
/// Problems that are told; the log has all.
const PROBLEMS_TOLD: usize = 20;

/// What the thread is asked for.
pub(super) enum Command {
    /// The watcher has something.
    Look,
    /// To answer with the head once everything that happened before is on the board.
    Barrier(oneshot::Sender<u64>),
    /// To let the deletions go that are held; answered with how many entries went.
    AllowDeletes(oneshot::Sender<u64>),
    /// To copy the index into a file.
    Copy(PathBuf, oneshot::Sender<Result<(), BoardError>>),
    /// To end.
    Stop,
}

/// Somebody waits until everything that happened before is on the board.
struct Barrier {
    /// Behind the events of before; `None` where nothing is watched.
    mark: Option<Mark>,
    /// When all of them had been looked at. From then on a file that is never still is waited for a while longer.
    passed: Option<Instant>,
    answer: oneshot::Sender<u64>,
}

/// The thread's own state.
pub(super) struct Keeper {
    name: String,
    scanner: Scanner,
    board: Board,
    wakers: Arc<Wakers>,
    state: Arc<Mutex<State>>,
    watched: Dir,
    commands: Sender<Command>,
    again: Dirty,
    again_at: Option<Instant>,
    poll_at: Option<Instant>,
    retry_at: Option<Instant>,
    purge_at: Instant,
    barriers: Vec<Barrier>,
    /// The watch ended by itself: nothing is reported any more.
    broken: bool,
    notices: Vec<String>,
    /// Why the last look could not be finished.
    trouble: Option<String>,
    /// The path of the share leads elsewhere; for good once the kernel said so, as nothing is reported then.
    away: Option<String>,
    gone: bool,
}

impl Keeper {
    pub(super) fn new(
        name: String,
        scanner: Scanner,
        board: Board,
        wakers: Arc<Wakers>,
        state: Arc<Mutex<State>>,
        watched: Dir,
        commands: Sender<Command>,
    ) -> Self {
        Self {
            name,
            scanner,
            board,
            wakers,
            state,
            watched,
            commands,
            again: Dirty::new(),
            again_at: None,
            poll_at: None,
            retry_at: None,
            purge_at: clock::now() + PURGE_EVERY,
            barriers: Vec::new(),
            broken: false,
            notices: Vec::new(),
            trouble: None,
            away: None,
            gone: false,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Command>) -> Result<(), ScanError> {
        let rung = Arc::new(AtomicBool::new(false));
        let watcher = self.watch(&rung).map(Arc::new);
        self.look(&Dirty::everything(), watcher.as_ref(), false)?;
        loop {
            let command = match self.wait(watcher.as_deref()) {
                Some(wait) => match inbox.recv_timeout(wait) {
                    Ok(command) => Some(command),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                },
                None => match inbox.recv() {
                    Ok(command) => Some(command),
                    Err(_) => break,
                },
            };
            rung.store(false, Ordering::Release);
            match command {
                Some(Command::Stop) => break,
                Some(Command::Barrier(answer)) => {
                    self.look_at_place();
                    let mark = watcher.as_ref().map(|watcher| watcher.barrier());
                    // No event tells of what is not watched.
                    let unwatched = self.unwatched(watcher.as_deref());
                    if self.trouble.is_none() {
                        self.again.merge(unwatched);
                    }
                    if !self.again.is_empty() && self.trouble.is_none() {
                        self.again_at = Some(clock::now());
                    }
                    self.barriers.push(Barrier { mark, passed: None, answer });
                }
                Some(Command::AllowDeletes(answer)) => {
                    let before = self.board.len();
                    self.look(&Dirty::everything(), watcher.as_ref(), true)?;
                    if answer.send(before.saturating_sub(self.board.len()) as u64).is_err() {
                        tracing::debug!("who allowed deletions did not wait for the answer");
                    }
                }
                Some(Command::Copy(to, answer)) => {
                    if answer.send(self.scanner.copy_to(&to)).is_err() {
                        tracing::debug!("who wanted a copy of the index did not wait for it");
                    }
                }
                Some(Command::Look) | None => {}
            }
            let dirty = self.due(watcher.as_deref());
            if !dirty.is_empty() {
                self.look(&dirty, watcher.as_ref(), false)?;
            }
            self.answer_barriers(watcher.as_deref());
            self.purge()?;
        }
        self.scanner.close()?;
        Ok(())
    }

    /// Watches the tree. Where that is not possible it is polled, and that is said.
    fn watch(&mut self, rung: &Arc<AtomicBool>) -> Option<Watcher> {
        let (commands, rung) = (self.commands.clone(), Arc::clone(rung));
        let waker = Arc::new(move || {
            // One command waits at most: more would only grow the queue during a long scan.
            if !rung.swap(true, Ordering::AcqRel) && commands.send(Command::Look).is_err() {
                rung.store(false, Ordering::Release);
            }
        });
        let started =
            self.watched.walk(&RelPath::root()).map_err(Into::into).and_then(|root| Watcher::start(root, waker, None));
        match started {
            Ok(watcher) => {
                watcher.add_tree(&RelPath::root());
                Some(watcher)
            }
            Err(error) => {
                tracing::error!(share = self.name, %error, "not watched, looked at every second instead");
                self.notices.push(format!("not watched, looked at every second instead: {error}"));
                self.poll_at = Some(clock::now() + POLL_EVERY);
                None
            }
        }
    }

    /// How long nothing is to be done without a command.
    fn wait(&self, watcher: Option<&Watcher>) -> Option<Duration> {
        let now = clock::now();
        let timers = [self.again_at, self.poll_at, self.retry_at, Some(self.purge_at)];
        let own = timers.into_iter().flatten().map(|at| at.saturating_duration_since(now));
        // While there is trouble nothing is answered, so nothing is to be hurried for.
        let passed = self.barriers.iter().filter(|_| self.trouble.is_none()).filter_map(|barrier| barrier.passed);
        let barrier = passed.min().map(|passed| (passed + BARRIER_MAX).saturating_duration_since(now));
        own.chain(barrier).chain(watcher.and_then(Watcher::next_deadline)).min()
    }

    /// Where to look now: what the watcher says, and what this thread set itself.
    fn due(&mut self, watcher: Option<&Watcher>) -> Dirty {
        let Due { mut dirty, news } = watcher.map(Watcher::due).unwrap_or_default();
        for news in news {
            self.hear(&news, &mut dirty);
        }
        let now = clock::now();
        let has_come = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if has_come(&mut self.again_at) {
            dirty.merge(self.again.take());
        }
        if has_come(&mut self.retry_at) {
            if lock(&self.state).held.is_some() {
                dirty.merge(Dirty::everything());
            }
            for path in self.scanner.problems().keys() {
                match path.split() {
                    Some((dir, name)) => dirty.insert(&dir, &name, Hint::LISTED),
                    None => dirty.insert_all(&RelPath::root(), All::default()),
                }
            }
            for dir in self.scanner.unlisted() {
                dirty.insert_all(dir, All { recursive: true, content: false });
            }
        }
        let unwatched = self.unwatched(watcher);
        let polled = !unwatched.is_empty();
        if has_come(&mut self.poll_at) {
            dirty.merge(unwatched);
        }
        if self.poll_at.is_none() && polled {
            self.poll_at = Some(now + POLL_EVERY);
        }
        dirty
    }

    /// All of what no event tells of.
    fn unwatched(&self, watcher: Option<&Watcher>) -> Dirty {
        let Some(watcher) = watcher.filter(|_| !self.broken) else { return Dirty::everything() };
        let mut dirty = Dirty::new();
        watcher.unwatched().iter().for_each(|d| dirty.insert_all(d, All { recursive: true, content: false }));
        dirty
    }

    fn hear(&mut self, news: &News, dirty: &mut Dirty) {
        match news {
            News::Overflow => {
                tracing::warn!(share = self.name, "the kernel's event queue was full; everything is looked at again");
            }
            News::RootGone(how) => {
                let path = self.watched.path().display();
                let notice = format!("{path} was {how}; nothing is deleted anywhere; put it back and restart the hub");
                (self.away, self.gone) = (Some(notice.clone()), true);
                self.notices.push(notice);
            }
            News::Unmounted(dir) => {
                self.notices.push(format!("something was unmounted from {dir}; nothing below is deleted"))
            }
            News::WatchesUsedUp { dir, hint } => {
                self.notices.push(format!("{dir} and what follows is looked at every second: {hint}"));
            }
            News::Broken(error) => {
                self.notices.push(format!("the watch broke, everything is looked at every second: {error}"));
                self.broken = true;
                dirty.merge(Dirty::everything());
            }
        }
        if let Some(notice) = self.notices.last().filter(|_| *news != News::Overflow) {
            tracing::warn!(share = self.name, "{notice}");
        }
        self.tell(None);
    }

    fn look(&mut self, dirty: &Dirty, watcher: Option<&Arc<Watcher>>, allow: bool) -> Result<(), ScanError> {
        let watcher = watcher.map(Arc::clone);
        let unsettled = move |path: &RelPath, asked| {
            watcher.as_ref().is_some_and(|w| match asked {
                Asked::Before => w.is_unsettled(path),
                Asked::AfterReading => w.is_unsettled_by_now(path),
            })
        };
        let begun = clock::now();
        let looked = match self.scanner.look(dirty, unsettled, allow) {
            Ok(looked) => looked,
            Err(ScanError::Stopped) => return Ok(()),
            Err(error) => {
                self.failed(dirty, &error);
                return Ok(());
            }
        };
        self.trouble = None;
        let now = clock::now();
        let listed = !self.scanner.unlisted().contains(&RelPath::root());
        let looked_at = !looked.held.as_ref().is_some_and(Held::is_everything);
        if is_everything(dirty) && looked_at && listed && !self.board.complete() {
            self.completed(begun)?;
        }
        if !looked.again.is_empty() {
            self.again.merge(looked.again);
            let took = now.saturating_duration_since(begun);
            self.again_at.get_or_insert(now + again_after(took, !self.barriers.is_empty()));
        }
        let was_held = lock(&self.state).held.clone();
        // A round over a part of the tree says nothing about what another part holds back.
        let held = looked.held.map(|held| self.with_cure(held));
        let held = held.or_else(|| was_held.clone().filter(|_| !is_everything(dirty)));
        if let Some(held) = held.as_ref().filter(|held| was_held.as_ref() != Some(held)) {
            tracing::warn!(share = self.name, entries = held.count, "{}", held.text());
        }
        if held.is_some() || !self.scanner.problems().is_empty() {
            self.retry_at.get_or_insert(now + RETRY_EVERY);
        }
        self.tell(Some(held));
        Ok(())
    }

    fn with_cure(&self, held: Held) -> Held {
        if !held.releasable {
            return held;
        }
        let right = if held.is_everything() { "if it is the right one" } else { "if that is right" };
        Held { why: format!("{}; {right}: lockstep allow-deletes {}", held.why, self.name), ..held }
    }

    /// The first full scan has ended: who stands at the head is owed the word that this is the whole of it.
    fn completed(&mut self, begun: Instant) -> Result<(), ScanError> {
        self.scanner.set_complete()?;
        self.wakers.wake();
        let (entries, head) = (self.board.len(), self.board.head());
        tracing::info!(share = self.name, entries, head, ms = begun.elapsed().as_millis(), "scanned");
        Ok(())
    }

    /// A look that could not be finished, most likely for want of space: what was published stays, and all of it is
    /// looked at again later.
    fn failed(&mut self, dirty: &Dirty, error: &ScanError) {
        tracing::error!(share = self.name, %error, "changes could not be noted; tried again every few seconds");
        self.trouble = Some(format!("changes are not going out, tried again every few seconds: {error}"));
        // With what is known of removals; what had gathered of the round is found again by looking everywhere.
        self.again.merge(dirty.clone());
        self.again.merge(Dirty::everything());
        self.again_at = Some(clock::now() + RETRY_EVERY);
        self.tell(None);
    }

    /// Notes whether the share's path still leads to it: no event tells when a directory above was renamed.
    fn look_at_place(&mut self) {
        if self.gone {
            return;
        }
        let path: PathBuf = self.watched.path().to_owned();
        let elsewhere = match (Dir::open_root(&path).and_then(|dir| dir.stat_self()), self.watched.stat_self()) {
            (Ok(now), Ok(held)) => now.id() != held.id(),
            // That it cannot be opened is for the scan to say.
            (Err(e), _) | (_, Err(e)) => e.is_missing(),
        };
        let away = elsewhere.then(|| format!("{} leads elsewhere or nowhere; put it back", path.display()));
        if self.away != away {
            self.away = away;
            self.tell(None);
        }
    }

    /// Why the board may not be what the directory holds, apart from deletions that are held.
    fn behind(&self) -> Option<String> {
        self.away.clone().or_else(|| self.trouble.clone()).or_else(|| {
            let mut unread = self.scanner.problems().iter().filter(|(_, concern)| concern.is_unread());
            let (path, concern) = unread.next()?;
            let more = match unread.count() {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            Some(format!("what changed there is not known: {path}: {concern}{more}"))
        })
    }

    /// Makes known what there is to say; `held: None` leaves that part as it is.
    fn tell(&self, held: Option<Option<Held>>) {
        let problems = self.scanner.problems();
        let away = self.away.iter().filter(|_| !self.gone);
        let notices = self.trouble.iter().chain(away).chain(self.notices.iter().rev());
        let mut told: Vec<String> = notices.take(PROBLEMS_TOLD).cloned().collect();
        told.extend(problems.iter().take(PROBLEMS_TOLD).map(|(path, why)| format!("{path}: {why}")));
        if problems.len() > PROBLEMS_TOLD {
            told.push(format!("and {} more, see the log", problems.len() - PROBLEMS_TOLD));
        }
        let mut state = lock(&self.state);
        (state.problems, state.behind) = (told, self.behind());
        if let Some(held) = held {
            state.held = held;
        }
    }

    fn answer_barriers(&mut self, watcher: Option<&Watcher>) {
        let (head, still, now) = (self.board.head(), self.again.is_empty(), clock::now());
        self.barriers.retain(|barrier| !barrier.answer.is_closed());
        if self.trouble.is_some() {
            return;
        }
        for mut barrier in std::mem::take(&mut self.barriers) {
            let passed = match (watcher, barrier.mark) {
                (Some(watcher), Some(mark)) => watcher.passed(mark),
                _ => true,
            };
            let since = passed.then(|| *barrier.passed.get_or_insert(now));
            if !since.is_some_and(|since| still || now.saturating_duration_since(since) >= BARRIER_MAX) {
                self.barriers.push(barrier);
            } else if barrier.answer.send(head).is_err() {
                tracing::debug!("who waited for a barrier is gone");
            }
        }
    }

    /// Forgets the oldest tombstones when there are too many; a client that was away for longer walks from zero.
    fn purge(&mut self) -> Result<(), ScanError> {
        let now = clock::now();
        if now < self.purge_at {
            return Ok(());
        }
        self.purge_at = now + PURGE_EVERY;
        let keep = TOMBSTONES_MIN.max(self.board.len() / 2);
        let up_to = self.board.read(|index| {
            let tombs: Vec<u64> = index.since(0).filter(|r| r.value.is_none()).map(|r| r.seq).collect();
            tombs.len().checked_sub(keep + 1).map(|last| tombs[last])
        });
        if let Some(up_to) = up_to {
            self.scanner.forget_tombstones(up_to)?;
        }
        Ok(())
    }
}

fn is_everything(dirty: &Dirty) -> bool {
    dirty.get(&RelPath::root()).and_then(|look| look.all).is_some_and(|all| all.recursive)
}

/// When to look again at what changed while a look took so long; at once if somebody waits for it.
fn again_after(took: Duration, hurried: bool) -> Duration {
    if hurried { AGAIN_AFTER } else { (took * AGAIN_PER_LOOK).clamp(AGAIN_AFTER, AGAIN_AFTER_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_changing_costs_a_bounded_share_of_the_thread_unless_somebody_waits() {
        let (small, large) = (Duration::from_micros(80), Duration::from_secs(2));
        assert_eq!(again_after(small, false), AGAIN_AFTER);
        assert_eq!(again_after(large, false), Duration::from_secs(8));
        assert_eq!(again_after(Duration::from_secs(3600), false), AGAIN_AFTER_MAX);
        assert_eq!(again_after(large, true), AGAIN_AFTER);
    }
}
