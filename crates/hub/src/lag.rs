//! For how long somebody has lacked the newest: when which version of a board came to be.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Versions that came within so short a time count as one, of the first's moment.
const STEP: Duration = Duration::from_millis(50);
/// Moments remembered: some minutes of a board that changes all the time, and years of one that seldom does. Whoever lacks
/// something older lacks it for at least as long as the oldest is ago.
const REMEMBERED: usize = 4096;

/// The moments at which a board's head moved.
#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<VecDeque<(u64, Instant)>>);

impl Heads {
    /// The head is `head` now.
    pub(crate) fn note(&self, head: u64, now: Instant) {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.back().is_some_and(|(_, at)| now.saturating_duration_since(*at) < STEP) {
            return;
        }
        if heads.len() >= REMEMBERED {
            heads.pop_front();
        }
        heads.push_back((head, now));
    }

    /// For how long there has been something newer than `seq` on a board the head of which is `head`; nothing, where there
    /// is none, or it was there before this hub started.
    pub(crate) fn lag(&self, seq: u64, head: u64, now: Instant) -> Duration {
        if seq >= head {
            return Duration::ZERO;
        }
        let heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = heads.partition_point(|(noted, _)| *noted <= seq);
        // Behind the last moment: what came within a step of it.
        let since = heads.get(newer).or_else(|| heads.back());
        since.map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_the_age_of_the_first_version_that_is_lacked() {
        let (heads, start) = (Heads::default(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        assert_eq!(heads.lag(0, 5, at(0)), Duration::ZERO, "of before the start");
        heads.note(10, at(1));
        heads.note(20, at(2));
        heads.note(21, at(2) + STEP / 2);
        let lag = |seq, now| heads.lag(seq, 21, at(now));
        assert_eq!(lag(21, 9), Duration::ZERO);
        assert_eq!(lag(20, 9), Duration::from_secs(7));
        assert_eq!(lag(15, 9), Duration::from_secs(7));
        assert_eq!(lag(10, 9), Duration::from_secs(7));
        assert_eq!(lag(9, 9), Duration::from_secs(8));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (heads, start) = (Heads::default(), Instant::now());
        (1..10_000_u64).for_each(|n| heads.note(n, start + Duration::from_secs(n)));
        assert_eq!(heads.0.lock().unwrap().len(), REMEMBERED);
        let oldest = Duration::from_secs(REMEMBERED as u64 - 1);
        assert_eq!(heads.lag(1, 9_999, start + Duration::from_secs(9_999)), oldest);
    }
}
