//! How a live mirror is asked to end, and what wakes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Pulse;

/// Ends a live mirror from another thread.
#[derive(Clone, Debug, Default)]
pub struct Stopper {
    flag: Arc<AtomicBool>,
    draining: Arc<AtomicBool>,
    followed: Arc<AtomicBool>,
    pulse: Pulse,
    pub(super) bell: Arc<Bell>,
}

/// Rung by whoever has something for the loop.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Stopper {
    /// Asks for the end at once: what is staged is still switched.
    pub fn stop(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// Asks for the end in order: what the kernel has reported by then is followed, and everything is compared once
    /// more. During the first pass, which may take hours, it is [`Stopper::stop`]. Whoever cannot wait calls that as well.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        if self.followed.load(Ordering::SeqCst) {
            self.bell.ring();
        } else {
            self.stop();
        }
    }

    /// The flag that [`Stopper::stop`] sets.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// What tells whether the mirror goes on.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Whether an end in order was asked for.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// From now on the mirror can end in order.
    pub(super) fn follows(&self) {
        self.followed.store(true, Ordering::SeqCst);
    }
}

impl Bell {
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(super) fn wait(&self, span: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, span, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}
