//! When the next run begins. A command that changes the copy has its change undone, which is a change again: without a
//! pause the two would keep each other busy for ever. Time is an argument.

use std::time::{Duration, Instant};

/// A run that begins within this long after the end of another is one of a row.
const ROW: Duration = Duration::from_secs(2);
/// The pause before the third run of a row; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause: what changes is told a second later at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Keeps runs apart that would follow each other for ever.
#[derive(Debug, Default)]
pub(super) struct Pace {
    ended: Option<Instant>,
    /// What the next one of the row waits for; `None` where there is no row.
    pause: Option<Duration>,
}

impl Pace {
    /// When a run may begin that could begin now.
    pub(super) fn begin(&self, now: Instant) -> Instant {
        match (self.ended, self.pause) {
            (Some(ended), Some(pause)) if now < ended + ROW => now.max(ended + pause),
            _ => now,
        }
    }

    /// A run lasted from `began` to `ended`.
    pub(super) fn ended(&mut self, began: Instant, ended: Instant) {
        let in_row = self.ended.is_some_and(|before| began < before + ROW);
        self.pause = match self.pause {
            Some(pause) if in_row => Some((pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX)),
            _ => Some(Duration::ZERO),
        };
        self.ended = Some(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_row_wait_ever_longer_and_a_single_one_not_at_all() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let begin = pace.begin(now);
            waits.push((begin - now).as_millis());
            pace.ended(begin, begin);
            now = begin;
        }
        assert_eq!(waits, [0, 0, 50, 100, 200, 400, 800, 1000, 1000]);
        now += ROW;
        assert_eq!(pace.begin(now), now);
        pace.ended(now, now);
        assert_eq!(pace.begin(now), now, "the row is over");
    }
}
