//! That a mirror goes on, as the moment of its last sign of life.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Beats each time the loop of a live mirror goes round, at least once in [`ROUND_MAX`](super::ROUND_MAX) while there is
/// nothing to do, and within a pass with each entry and each piece of a long content. One that has not beaten for long is
/// that of a mirror which hangs: its disk does not answer, or nobody reads what it reports.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<AtomicU64>);

impl Default for Pulse {
    /// One that beats for the first time.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(now_ms())))
    }
}

impl Pulse {
    /// It goes on.
    pub fn beat(&self) {
        self.0.store(now_ms(), Ordering::Relaxed);
    }

    /// How long ago it beat last, to a few milliseconds.
    pub fn age(&self) -> Duration {
        Duration::from_millis(now_ms().saturating_sub(self.0.load(Ordering::Relaxed)))
    }
}

/// The coarse clock costs a quarter of the exact one, and a pass asks for each entry.
fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let ms = now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000);
    u64::try_from(ms).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_age_is_that_of_the_last_beat() {
        let pulse = Pulse::default();
        pulse.0.store(now_ms() - 5_000, Ordering::Relaxed);
        let age = pulse.age();
        assert!((5_000..60_000).contains(&age.as_millis()), "{age:?}");
        pulse.clone().beat();
        assert!(pulse.age() < age);
    }
}
