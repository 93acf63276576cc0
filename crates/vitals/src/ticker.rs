//! When the next sample is due: absolute deadlines on the monotonic clock, so that an interval of 1 s stays 1 s however long
//! a sample takes. Time is passed in; nothing here waits.

use std::time::Duration;

/// Deadlines lie this far behind a multiple of [`PHASE_GRID_NS`]: away from the kernel's own timer ticks, whether they come
/// every 1, 4 or 10 ms, because in a tick the CPU counters are just being charged.
const PHASE_NS: u64 = 2_400_000;

/// The longest of the kernel's usual tick lengths; the others divide it.
pub const PHASE_GRID_NS: u64 = 10_000_000;

/// Deadlines at `start + n * interval`, each taken once or skipped.
#[derive(Debug, Clone)]
pub struct Ticker {
    interval_ns: u64,
    next_ns: u64,
}

/// A deadline that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// How many deadlines before it passed without being taken: the process was stopped, or a sample took too long.
    pub skipped: u64,
}

impl Ticker {
    /// The first deadline comes within [`PHASE_GRID_NS`] of `now_ns`, a reading of the monotonic clock. An interval of 0
    /// counts as 1 ns.
    pub fn new(now_ns: u64, interval: Duration) -> Self {
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let behind_ns = now_ns % PHASE_GRID_NS;
        let wait_ns = (PHASE_GRID_NS + PHASE_NS - behind_ns) % PHASE_GRID_NS;
        Self { interval_ns, next_ns: now_ns.saturating_add(wait_ns) }
    }

    /// How long from `now_ns` until the next deadline; zero if it has come.
    pub fn wait(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(self.next_ns.saturating_sub(now_ns))
    }

    /// Takes the newest deadline that has come by `now_ns`. Older ones are skipped, not made up for: samples in a bunch say
    /// nothing. `None` if none has come.
    pub fn take(&mut self, now_ns: u64) -> Option<Tick> {
        let late_ns = now_ns.checked_sub(self.next_ns)?;
        let skipped = late_ns / self.interval_ns;
        let behind_ns = late_ns % self.interval_ns;
        self.next_ns = (now_ns - behind_ns).saturating_add(self.interval_ns);
        Some(Tick { skipped })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn deadlines_do_not_drift_however_late_they_are_taken() {
        let mut ticker = Ticker::new(PHASE_NS, SECOND);
        assert_eq!(ticker.take(PHASE_NS), Some(Tick { skipped: 0 }), "the first comes at once on the grid");
        for tick in 1..1_000_000 {
            let due_ns = PHASE_NS + tick * 1_000_000_000;
            assert_eq!(ticker.take(due_ns - 1), None);
            assert_eq!(ticker.wait(due_ns - 1), Duration::from_nanos(1));
            let late_ns = (tick * 7_919) % 999_999_999;
            assert_eq!(ticker.take(due_ns + late_ns), Some(Tick { skipped: 0 }));
        }
    }

    #[test]
    fn missed_deadlines_are_skipped_not_bunched() {
        let mut ticker = Ticker::new(PHASE_NS, SECOND);
        ticker.take(PHASE_NS);
        let woken_ns = PHASE_NS + 5_300_000_000;
        assert_eq!(ticker.take(woken_ns), Some(Tick { skipped: 4 }));
        assert_eq!(ticker.take(woken_ns), None);
        assert_eq!(ticker.wait(woken_ns), Duration::from_millis(700));
    }

    proptest! {
        #[test]
        fn every_deadline_is_taken_or_counted_as_skipped(
            start in 0u64..1 << 50,
            interval_ns in 1u64..1 << 40,
            steps in prop::collection::vec(0u64..1 << 42, 1..50),
        ) {
            let mut ticker = Ticker::new(start, Duration::from_nanos(interval_ns));
            let first_ns = ticker.next_ns;
            prop_assert!(first_ns - start < PHASE_GRID_NS);
            prop_assert_eq!(first_ns % PHASE_GRID_NS, PHASE_NS);
            let (mut now, mut passed) = (start, 0);
            for step in steps {
                now += step;
                let come = now.checked_sub(first_ns).map_or(0, |late| late / interval_ns + 1);
                if let Some(tick) = ticker.take(now) {
                    passed += tick.skipped + 1;
                }
                prop_assert_eq!(passed, come);
                prop_assert!(ticker.wait(now) > Duration::ZERO);
            }
        }

        #[test]
        fn no_reading_of_the_clock_breaks_it(now in any::<u64>(), later in any::<u64>(), interval in any::<u64>()) {
            let mut ticker = Ticker::new(now, Duration::from_nanos(interval));
            ticker.take(later);
            ticker.wait(later);
        }
    }
}
