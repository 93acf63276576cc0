//! How fast one client may put: whoever is faster is slowed down to its pace, and nobody else is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// As many puts as in this span may come at once.
const BURST: Duration = Duration::from_secs(1);
/// A put that would wait for longer is refused: then its client sends many side by side.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(5);
/// Clients remembered before those are looked for that owe nothing.
const REMEMBERED: usize = 1024;

/// The moment by which each client's puts are due, those of the hub's own machine excepted.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<HashMap<u64, Instant>>);

impl Pace {
    /// How long the next put of `client` has to wait, where so many in a second are its pace.
    ///
    /// # Errors
    /// The time after which it is worth another try; it counts for nothing then.
    pub(super) fn next(&self, client: u64, per_s: u64, now: Instant) -> Result<Duration, Duration> {
        if client == 0 {
            return Ok(Duration::ZERO);
        }
        let every = Duration::from_secs(1) / u32::try_from(per_s.max(1)).unwrap_or(u32::MAX);
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= REMEMBERED {
            clients.retain(|_, due| *due > now);
        }
        let due = clients.get(&client).map_or(now, |due| (*due).max(now));
        let wait = due.saturating_duration_since(now).saturating_sub(BURST.saturating_sub(every));
        if wait > WAIT_MAX {
            return Err(wait.saturating_sub(WAIT_MAX) + BURST);
        }
        clients.insert(client, due + every);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_burst_then_its_pace_and_others_are_not_touched() {
        let (pace, start) = (Pace::default(), Instant::now());
        let waits: Vec<Duration> = (0..30).map(|_| pace.next(7, 10, start).unwrap()).collect();
        assert!(waits[..10].iter().all(Duration::is_zero), "{waits:?}");
        assert_eq!(waits[10], Duration::from_millis(100));
        assert_eq!(waits[29], Duration::from_millis(2000));
        assert_eq!(pace.next(8, 10, start), Ok(Duration::ZERO));
        assert!((0..1000).all(|_| pace.next(0, 10, start) == Ok(Duration::ZERO)), "the hub's own machine");
        // Once it has been quiet for as long as it owes, it is as at the start.
        assert_eq!(pace.next(7, 10, start + Duration::from_secs(3)), Ok(Duration::ZERO));
    }

    #[test]
    fn who_sends_more_side_by_side_than_can_wait_is_refused_and_told_when() {
        let (pace, now) = (Pace::default(), Instant::now());
        let taken = (0..1000).filter(|_| pace.next(7, 10, now).is_ok()).count();
        assert_eq!(taken, 10 + 50, "the burst, and what may wait");
        assert!(pace.next(7, 10, now).unwrap_err() > Duration::ZERO);
        assert!(pace.next(7, 10, now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn clients_that_owe_nothing_are_forgotten() {
        let (pace, start) = (Pace::default(), Instant::now());
        assert!((1..=10_000_u64).all(|n| pace.next(n, 10, start + Duration::from_secs(n)).is_ok()));
        assert!(pace.0.lock().unwrap().len() <= REMEMBERED);
    }
}
