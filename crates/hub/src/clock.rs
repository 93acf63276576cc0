//! The hub's clocks, in one place so that tests can take their place.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall clock in milliseconds since the Unix epoch; for people, never for deciding.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A moment of [`now`]'s clock in milliseconds since the Unix epoch, for people.
pub(crate) fn ms_of(at: Instant) -> i64 {
    let ago = now().saturating_duration_since(at).as_millis();
    now_ms().saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
}

/// The clock that stamps files, in nanoseconds since the Unix epoch; to be compared with their times and nothing else.
pub(crate) fn file_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Monotonic clock, for deciding.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// RFC 3339 in UTC with milliseconds: what pandas reads as a time.
pub(crate) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |t| format!("{t:.3}"))
}
