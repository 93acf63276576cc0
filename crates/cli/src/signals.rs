//! Being asked to stop: SIGINT and SIGTERM, as a state a loop can look at and wait on.
//!
//! The first signal asks, and the command ends in order. A second SIGINT ends the process at once, for a person who
//! does not want to wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};

use crate::exit::Failure;

/// Which signal asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// A person at the terminal (Ctrl-C).
    Interrupt,
    /// The system, or a service manager.
    Terminate,
}

/// Whether this process was asked to stop.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    asked: Mutex<Option<Signal>>,
    changed: Condvar,
    /// A SIGHUP came and was not taken yet, where those are heard.
    hung_up: AtomicBool,
}

impl Stop {
    /// The signal that asked first, if any did.
    pub(crate) fn requested(&self) -> Option<Signal> {
        *self.lock()
    }

    /// Waits for `span`, or until asked to stop. True: stop.
    pub(crate) fn wait(&self, span: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), span, |asked| asked.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }

    /// As [`Stop::wait`], but returns at a SIGHUP as well, which [`Stop::take_hangup`] tells.
    pub(crate) fn wait_or_hangup(&self, span: Duration) -> bool {
        let quiet = |asked: &mut Option<Signal>| asked.is_none() && !self.hung_up.load(Ordering::Acquire);
        let waited = self.changed.wait_timeout_while(self.lock(), span, quiet);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }

    /// Whether a SIGHUP came since the last call.
    pub(crate) fn take_hangup(&self) -> bool {
        self.hung_up.load(Ordering::Relaxed) && self.hung_up.swap(false, Ordering::AcqRel)
    }

    fn hang_up(&self) {
        let _asked = self.lock();
        self.hung_up.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits until asked to stop.
    pub(crate) fn wait_until_asked(&self) -> Signal {
        let mut asked = self.lock();
        loop {
            if let Some(signal) = *asked {
                return signal;
            }
            asked = self.changed.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ask(&self, signal: Signal) {
        self.lock().get_or_insert(signal);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Signal>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of this process; the first call starts listening for signals.
///
/// # Errors
/// When the system refuses the handlers or the thread that listens.
pub(crate) fn flag() -> Result<&'static Stop, Failure> {
    static STOP: Stop = Stop { asked: Mutex::new(None), changed: Condvar::new(), hung_up: AtomicBool::new(false) };
    static LISTENING: Mutex<bool> = Mutex::new(false);
    let mut listening = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
    if !*listening {
        listen(&STOP).context("cannot listen for SIGINT and SIGTERM")?;
        *listening = true;
    }
    Ok(&STOP)
}

/// What more signals are listened for with.
static LISTENER: OnceLock<Handle> = OnceLock::new();

fn listen(stop: &'static Stop) -> anyhow::Result<()> {
    // The order matters: handlers run in the order they were registered, so the first signal finds `again` still
    // false and only then sets it, and a second SIGINT finds it true and does what SIGINT does by default.
    let again = Arc::new(AtomicBool::new(false));
    flag::register_conditional_default(SIGINT, Arc::clone(&again))?;
    flag::register(SIGINT, Arc::clone(&again))?;
    flag::register(SIGTERM, again)?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    LISTENER.get_or_init(|| signals.handle());
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in &mut signals {
            match signal {
                SIGINT => stop.ask(Signal::Interrupt),
                SIGHUP => stop.hang_up(),
                _ => stop.ask(Signal::Terminate),
            }
        }
    })?;
    Ok(())
}

/// From now on a SIGHUP does not end the process but is told by [`Stop::take_hangup`]. To be called after [`flag()`].
///
/// # Errors
/// When the system refuses the handler.
pub(crate) fn hear_hangups() -> Result<(), Failure> {
    let handle = LISTENER.get().context("signals are not listened for yet")?;
    handle.add_signal(SIGHUP).context("cannot listen for SIGHUP")?;
    Ok(())
}

/// Resolves when a signal came: for commands that wait for many things at once.
pub(crate) fn asked(stop: &'static Stop) -> impl Future<Output = ()> + Send {
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread of its own, which nobody waits for: the runtime's would keep the program from ending.
    thread::spawn(move || tell.send(stop.wait_until_asked()).ok());
    async {
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Rings `bell` at each SIGHUP, which from then on does not end the process.
///
/// # Errors
/// When the system refuses the handler or the thread that listens.
pub(crate) fn on_hangup(bell: &Arc<tokio::sync::Notify>) -> Result<(), Failure> {
    let bell = Arc::clone(bell);
    let mut hangups = Signals::new([SIGHUP]).context("cannot listen for SIGHUP")?;
    let ring = move || hangups.forever().for_each(|_| bell.notify_one());
    thread::Builder::new().name("hangups".into()).spawn(ring).context("cannot listen for SIGHUP")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_asked_yet() {
        let stop = Stop::default();
        assert_eq!(stop.requested(), None);
        assert!(!stop.wait(Duration::from_millis(1)));
    }

    #[test]
    fn a_hangup_ends_one_wait_and_asks_nothing() {
        let stop = Stop::default();
        stop.hang_up();
        assert!(!stop.wait_or_hangup(Duration::from_hours(1)));
        assert!(stop.take_hangup() && !stop.take_hangup());
        assert!(!stop.wait_or_hangup(Duration::from_millis(1)));
    }

    #[test]
    fn the_first_signal_is_kept_and_ends_every_wait() {
        let stop = Stop::default();
        thread::scope(|scope| {
            let long = scope.spawn(|| stop.wait(Duration::from_hours(1)));
            let forever = scope.spawn(|| stop.wait_until_asked());
            stop.ask(Signal::Terminate);
            stop.ask(Signal::Interrupt);
            assert!(long.join().unwrap());
            assert_eq!(forever.join().unwrap(), Signal::Terminate);
        });
        assert_eq!(stop.requested(), Some(Signal::Terminate));
    }
}
