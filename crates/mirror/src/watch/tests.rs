//! Real directories, the real kernel.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What tests do to the watching thread.
pub(super) struct Hooks {
    paused: AtomicBool,
    lists_first: AtomicBool,
    watches_max: AtomicUsize,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            paused: AtomicBool::new(false),
            lists_first: AtomicBool::new(false),
            watches_max: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Hooks {
    pub(super) fn wait_while_paused(&self) {
        while self.paused.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The known-bad order: list, then watch.
    pub(super) fn lists_first(&self) -> bool {
        self.lists_first.load(Ordering::SeqCst)
    }

    /// The window between the two exists in either order; a preemption there is what the race needs.
    pub(super) fn widen_the_race(&self) {
        std::thread::yield_now();
    }

    pub(super) fn watches_max(&self) -> usize {
        self.watches_max.load(Ordering::SeqCst)
    }
}
