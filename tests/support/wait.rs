//! Waiting for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// The pause between two looks. Short against what tests wait for, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold within the span; the message says `what` was waited for.
#[track_caller]
pub fn until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < within, "waited {within:?} in vain for {what}");
        thread::sleep(PAUSE);
    }
}

/// Lets time pass. Never in the hope that something has happened by then, which is [`until`]'s: `why` names the pace of a load,
/// the span that a promise speaks of, or the time that others are given to do what they must not.
pub fn lapse(span: Duration, why: &str) {
    assert!(!why.is_empty(), "time passes for a reason");
    thread::sleep(span);
}
