//! When the hub stops: who is told to come back when, so that not all of them come at once.
//!
//! Each is given a moment of its own, at random, in a span that is the longer the more are here: whoever starts the hub
//! anew then has them back at [`LOGINS_PER_S`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wire::message::{Code, Refusal};

/// Logins that a hub takes in without keeping anybody waiting: a fraction of what one processor does (a login over TLS costs
/// it well below a millisecond), as whoever comes back wants to know what it missed as well.
pub(crate) const LOGINS_PER_S: u64 = 500;
/// However many there are, nobody is away for longer.
pub(crate) const SPAN_MAX: Duration = Duration::from_secs(120);

/// The span over which those who were here come back.
#[derive(Debug, Default)]
pub(crate) struct Farewell {
    span_ms: AtomicU64,
}

impl Farewell {
    /// The hub is about to stop, with so many clients: to be called before anybody is told.
    pub(crate) fn begin(&self, clients: usize) -> Duration {
        let span = span(clients);
        self.span_ms.store(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
        span
    }

    /// What one of them is told; another moment at each call.
    pub(crate) fn refusal(&self) -> Refusal {
        let random = getrandom::u64().unwrap_or_default();
        let retry_ms = moment(self.span_ms.load(Ordering::Acquire), random);
        let text = format!("the hub is stopping: connect again in {}.{} s", retry_ms / 1000, retry_ms % 1000 / 100);
        Refusal { code: Code::Stopping, text, retry_ms: Some(retry_ms) }
    }
}

fn span(clients: usize) -> Duration {
    let clients = u64::try_from(clients).unwrap_or(u64::MAX);
    Duration::from_millis(clients.saturating_mul(1000) / LOGINS_PER_S).min(SPAN_MAX)
}

/// A moment in the span, as `random` has it.
fn moment(span_ms: u64, random: u64) -> u64 {
    let scaled = (u128::from(random) * u128::from(span_ms.saturating_add(1))) >> 64;
    u64::try_from(scaled).unwrap_or(span_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many come back in the busiest second.
    fn busiest(moments_ms: &[u64]) -> u64 {
        let mut seconds = std::collections::BTreeMap::<u64, u64>::new();
        moments_ms.iter().for_each(|ms| *seconds.entry(ms / 1000).or_default() += 1);
        seconds.into_values().max().unwrap_or(0)
    }

    #[test]
    fn ten_thousand_come_back_over_twenty_seconds_and_in_no_second_many_more_than_in_another() {
        let farewell = Farewell::default();
        assert_eq!(farewell.begin(10_000), Duration::from_secs(20));
        let moments: Vec<u64> = (0..10_000).map(|_| farewell.refusal().retry_ms.unwrap()).collect();
        assert!(moments.iter().all(|ms| *ms <= 20_000));
        // Seven standard deviations of what is expected in a second.
        let most = LOGINS_PER_S + 7 * LOGINS_PER_S.isqrt();
        assert!(busiest(&moments) <= most, "{}", busiest(&moments));
        // The canary: all told the same.
        assert!(busiest(&vec![0; 10_000]) > most);
    }

    #[test]
    fn few_are_back_at_once_and_no_crowd_is_away_for_longer_than_the_longest() {
        assert_eq!(span(0), Duration::ZERO);
        assert_eq!(span(10), Duration::from_millis(20));
        assert_eq!(span(60_000), SPAN_MAX);
        assert_eq!(span(usize::MAX), SPAN_MAX);
        assert_eq!((moment(0, u64::MAX), moment(9, u64::MAX), moment(9, 0)), (0, 9, 0));
    }
}
