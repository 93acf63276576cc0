//! What the threads of one pass share: the work that waits, and who is told of results.
//!
//! Work is handed on by the directory, and only while few of them wait: else a thread goes into a directory itself, so that
//! what waits and what is held open stays little, however large the tree is.

use crate::engine::Sink;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

/// Pieces of work that wait for each thread, so that one that is done finds more without a pause.
const WAITING_EACH: usize = 4;

/// See the module.
pub(super) struct Crew<'a, J> {
    /// How many work on this pass at most.
    pub(super) threads: usize,
    sink: Mutex<Sink<'a>>,
    state: Mutex<State<J>>,
    changed: Condvar,
    /// How much waits, to be read without the lock.
    waiting: AtomicUsize,
}

struct State<J> {
    jobs: VecDeque<J>,
    /// Who works, or waits for work.
    hands: usize,
    /// Who of them waits.
    idle: usize,
}

impl<'a, J> Crew<'a, J> {
    pub(super) fn new(threads: usize, sink: Sink<'a>) -> Self {
        Self {
            threads,
            sink: Mutex::new(sink),
            state: Mutex::new(State { jobs: VecDeque::new(), hands: 0, idle: 0 }),
            changed: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// The sink, if nobody else is telling it something right now.
    pub(super) fn try_sink(&self) -> Option<MutexGuard<'_, Sink<'a>>> {
        match self.sink.try_lock() {
            Ok(sink) => Some(sink),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The sink.
    pub(super) fn sink(&self) -> MutexGuard<'_, Sink<'a>> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether more work should wait for others.
    pub(super) fn is_hungry(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < self.threads * WAITING_EACH
    }

    /// Adds work for whoever is free.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = J>) {
        let mut state = self.state();
        state.jobs.extend(jobs);
        self.waiting.store(state.jobs.len(), Ordering::Relaxed);
        if state.idle > 0 {
            self.changed.notify_one();
        }
    }

    /// Takes part until nothing waits and everybody waits. What waits is taken oldest first: it lies nearest to the root, so
    /// most is below it.
    pub(super) fn work(&self, mut each: impl FnMut(J)) {
        let _part = Part::of(self);
        while let Some(job) = self.next() {
            each(job);
        }
    }

    fn next(&self) -> Option<J> {
        let mut state = self.state();
        state.idle += 1;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.idle -= 1;
                self.waiting.store(state.jobs.len(), Ordering::Relaxed);
                if !state.jobs.is_empty() && state.idle > 0 {
                    self.changed.notify_one();
                }
                return Some(job);
            }
            if state.idle == state.hands {
                self.changed.notify_all();
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who takes part, for as long as it does; also one that panics is waited for no longer.
struct Part<'c, 'a, J>(&'c Crew<'a, J>);

impl<'c, 'a, J> Part<'c, 'a, J> {
    fn of(crew: &'c Crew<'a, J>) -> Self {
        crew.state().hands += 1;
        Part(crew)
    }
}

impl<J> Drop for Part<'_, '_, J> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.hands -= 1;
        if std::thread::panicking() {
            self.0.changed.notify_all();
        } else {
            // It was counted as waiting when it was told that there is no more.
            state.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Event;
    use std::collections::BTreeSet;

    /// Takes a tree of numbers apart: each job below the limit makes two more.
    fn numbers(threads: usize, limit: u64) -> Vec<u64> {
        let done = Mutex::new(Vec::new());
        let mut sink = |_: &Event<'_>| {};
        let crew = Crew::new(threads, &mut sink);
        crew.push([1u64]);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    crew.work(|n| {
                        done.lock().unwrap().push(n);
                        crew.push([2 * n, 2 * n + 1].into_iter().filter(|n| *n < limit));
                    });
                });
            }
        });
        done.into_inner().unwrap()
    }

    #[test]
    fn every_piece_is_done_once_and_nobody_leaves_before_all_is_done() {
        for threads in [1, 2, 7] {
            let done = numbers(threads, 10_000);
            assert_eq!(done.len(), 9_999, "{threads} threads");
            assert_eq!(done.into_iter().collect::<BTreeSet<_>>().len(), 9_999);
        }
    }

    #[test]
    fn one_that_panics_does_not_hold_up_the_others() {
        let mut sink = |_: &Event<'_>| {};
        let crew: Crew<'_, u32> = Crew::new(2, &mut sink);
        crew.push([1, 2, 3]);
        let ended = std::thread::scope(|scope| {
            let one = scope.spawn(|| crew.work(|_| panic!("on purpose")));
            one.join().unwrap_err();
            crew.work(|_| {});
            crew.state().jobs.len()
        });
        assert_eq!(ended, 0);
    }
}
