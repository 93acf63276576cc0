//! The hub's clocks, in one place so that tests can take their place: [`pass`] and [`set_wall_ahead`] move them for the whole process.
//! Nothing in a hub does.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// How far the clocks are ahead of the system's: all of them, and the wall clock beyond that.
static AHEAD_MS: AtomicU64 = AtomicU64::new(0);
static WALL_AHEAD_MS: AtomicI64 = AtomicI64::new(0);
/// Rings when time was made to pass.
static PASSED: Notify = Notify::const_new();

/// Wall clock in milliseconds since the Unix epoch; for people, never for deciding.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let passed_ms = i64::try_from(AHEAD_MS.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
    now_ms.saturating_add(passed_ms).saturating_add(WALL_AHEAD_MS.load(Ordering::Relaxed))
}

/// A moment of [`now`]'s clock in milliseconds since the Unix epoch, for people.
pub(crate) fn ms_of(at: Instant) -> i64 {
    let ago = now().saturating_duration_since(at).as_millis();
    now_ms().saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
}

/// The clock that stamps files, in nanoseconds since the Unix epoch; to be compared with their times and nothing else. It is the
/// system's, whatever tests do.
pub(crate) fn file_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Monotonic clock, for deciding.
pub(crate) fn now() -> Instant {
    Instant::now() + Duration::from_millis(AHEAD_MS.load(Ordering::Relaxed))
}

/// Waits by that clock: for what is done by the hour or the day, whatever a connection does.
pub(crate) async fn sleep(span: Duration) {
    let until = now().checked_add(span);
    loop {
        let passed = PASSED.notified();
        tokio::pin!(passed);
        // From here on no passing is missed.
        passed.as_mut().enable();
        let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(now()));
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = passed => {}
        }
    }
}

/// RFC 3339 in UTC with milliseconds: what pandas reads as a time.
pub(crate) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |t| format!("{t:.3}"))
}

/// For tests alone: time passes for all hubs of this process, by both clocks, at once. Connections notice nothing of it.
pub fn pass(span: Duration) {
    AHEAD_MS.fetch_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    PASSED.notify_waiters();
}

/// For tests alone: the wall clock of this process's hubs is wrong by so much from now on, as before a machine has heard the right
/// time, or after somebody set it.
pub fn set_wall_ahead(by_ms: i64) {
    WALL_AHEAD_MS.store(by_ms, Ordering::Relaxed);
    PASSED.notify_waiters();
}
