//! How often a name comes out: what changes many times a second is thinned.

use std::time::Duration;

use super::{GAP_FIRST, GAP_MAX, HOT_PER_SECOND};

/// How often a name is due. Counted in windows of a second, so that a burst shorter than that is never thinned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    window: Duration,
    wanted: u32,
    gap: Duration,
    last_out: Option<Duration>,
}

impl Pace {
    /// Of a name that is new at `now`.
    pub(super) fn new(now: Duration) -> Self {
        Self { window: now, wanted: 0, gap: Duration::ZERO, last_out: None }
    }

    /// Counts one more wish to be looked at.
    pub(super) fn want(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.window).as_secs();
        if seconds == 0 {
            self.wanted = self.wanted.saturating_add(1);
            return;
        }
        if seconds == 1 && self.wanted >= HOT_PER_SECOND {
            self.gap = (self.gap * 2).clamp(GAP_FIRST, GAP_MAX);
        } else {
            let halvings = u32::try_from(seconds).unwrap_or(u32::MAX).min(8);
            self.gap /= 1 << halvings;
            if self.gap < GAP_FIRST {
                self.gap = Duration::ZERO;
            }
        }
        self.window = now;
        self.wanted = 1;
    }

    /// It comes out at `now`.
    pub(super) fn came_out(&mut self, now: Duration) {
        self.last_out = Some(now);
    }

    /// The time before which it is not to be looked at again.
    pub(super) fn earliest(&self) -> Duration {
        self.last_out.map_or(Duration::ZERO, |out| out + self.gap)
    }
}
