//! The three clocks a sample is stamped with. Their only reader is [`Instants::now`]; all else takes time as an argument.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// One moment on three clocks, each in nanoseconds.
///
/// `wall_ns` counts from the Unix epoch and jumps when the clock is set; `monotonic_ns` never jumps and stands still while
/// the machine is suspended; `boottime_ns` is the monotonic clock that goes on counting then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Instants {
    /// Wall clock, nanoseconds since the Unix epoch, UTC.
    pub wall_ns: i64,
    /// Monotonic clock, without time spent suspended.
    pub monotonic_ns: u64,
    /// Monotonic clock, with time spent suspended.
    pub boottime_ns: u64,
}

impl Instants {
    /// Reads the three clocks. They are answered without a system call on any usual kernel.
    pub fn now() -> Self {
        let wall = clock_gettime(ClockId::Realtime);
        Self {
            wall_ns: wall.tv_sec.saturating_mul(NS_PER_S).saturating_add(i64::from(nanoseconds(wall))),
            monotonic_ns: nanoseconds_of(clock_gettime(ClockId::Monotonic)),
            boottime_ns: nanoseconds_of(clock_gettime(ClockId::Boottime)),
        }
    }

    /// How far the suspended time grew from `older` to this moment, in nanoseconds; 0 if it shrank.
    pub fn suspended_since_ns(&self, older: &Self) -> u64 {
        let slept = |at: &Self| at.boottime_ns.saturating_sub(at.monotonic_ns);
        slept(self).saturating_sub(slept(older))
    }
}

const NS_PER_S: i64 = 1_000_000_000;

/// A clock that counts from the start of the machine, so it is never negative.
pub(crate) fn nanoseconds_of(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(NS_PER_S.unsigned_abs()).saturating_add(u64::from(nanoseconds(time)))
}

/// The part below a second; the kernel keeps it in 0..10^9.
fn nanoseconds(time: Timespec) -> u32 {
    u32::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_move_forwards_and_boottime_is_not_behind() {
        let first = Instants::now();
        let second = Instants::now();
        assert!(second.monotonic_ns >= first.monotonic_ns);
        // The two clocks are read one after the other, so only the order of the reads can be relied on.
        assert!(first.boottime_ns >= first.monotonic_ns);
        assert!(first.wall_ns > 1_500_000_000 * NS_PER_S, "the wall clock is after 2017");
    }

    #[test]
    fn suspended_time_is_the_growth_of_the_gap_between_the_clocks() {
        let at = |monotonic_ns, boottime_ns| Instants { wall_ns: 0, monotonic_ns, boottime_ns };
        assert_eq!(at(20, 520).suspended_since_ns(&at(10, 110)), 400);
        assert_eq!(at(20, 120).suspended_since_ns(&at(10, 110)), 0);
        assert_eq!(at(20, 100).suspended_since_ns(&at(10, 110)), 0);
    }
}
