//! Writing no faster than the operator wants.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::live::Pulse;

/// The longest sleep at once, so that a stop is noticed.
const SLEEP: Duration = Duration::from_millis(50);
/// Bytes between two looks at the clock: what an eighth of a second allows, between these.
const PIECE_BYTES: std::ops::RangeInclusive<u64> = 4 * 1024..=8 << 20;

/// Holds writing back to a rate, that of all who have a clone of it together.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    bytes_per_s: NonZeroU64,
    /// When everything written so far is paid for.
    paid: Arc<Mutex<Instant>>,
    stop: Arc<AtomicBool>,
}

impl Pace {
    pub(super) fn new(bytes_per_s: NonZeroU64, stop: Arc<AtomicBool>) -> Self {
        Self { bytes_per_s, paid: Arc::new(Mutex::new(Instant::now())), stop }
    }

    /// How much to write before the next [`Pace::wait`].
    pub(super) fn piece(&self) -> u64 {
        (self.bytes_per_s.get() / 8).clamp(*PIECE_BYTES.start(), *PIECE_BYTES.end())
    }

    /// Waits as long as writing `bytes` should have taken. Returns whether to go on; what was not written while there
    /// was nothing to write is not caught up with.
    pub(super) fn wait(&self, bytes: u64, pulse: &Pulse) -> bool {
        let until = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            *paid = due(*paid, Instant::now(), bytes, self.bytes_per_s);
            *paid
        };
        while !self.stop.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(SLEEP));
            pulse.beat();
        }
        false
    }
}

/// When `bytes` are paid for, if everything before was paid for at `paid`.
fn due(paid: Instant, now: Instant, bytes: u64, bytes_per_s: NonZeroU64) -> Instant {
    let ns = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_s.get());
    paid.max(now) + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX).min(86_400_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_however_small_the_pieces_and_a_pause_is_not_caught_up() {
        let rate = NonZeroU64::new(1_000).unwrap();
        let start = Instant::now();
        let mut paid = start;
        for _ in 0..10 {
            paid = due(paid, start, 100, rate);
        }
        assert_eq!(paid, start + Duration::from_secs(1));
        let later = start + Duration::from_secs(9);
        assert_eq!(due(paid, later, 1_000, rate), later + Duration::from_secs(1));
    }

    #[test]
    fn what_several_write_is_paid_for_together() {
        let pace = Pace::new(NonZeroU64::new(1_000_000).unwrap(), Arc::default());
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| pace.clone().wait(20_000, &Pulse::default()));
            }
        });
        assert!(begun.elapsed() >= Duration::from_millis(80), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = Arc::new(AtomicBool::new(true));
        let pace = Pace::new(NonZeroU64::new(1).unwrap(), stop);
        assert!(!pace.wait(1 << 40, &Pulse::default()));
    }
}
