//! What a hub takes before it says no: set at its start, and anew while it runs. The protocol's own limits, which both sides
//! check, are in [`wire::limits`].

use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use wire::limits::{STRANGERS_MAX, VALUE_BYTES_MAX};

/// So many clients are known for each that may be here at once.
const KNOWN_PER_CLIENT: u64 = 10;

/// Limits that are the administrator's to choose; [`Limits::default`] says each one's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients logged in at once. A further one is refused, and may try again later; whoever is in stays.
    pub clients: u64,
    /// Names on the board `data`.
    pub values: u64,
    /// Bytes of all names and values, as they stand on the board.
    pub values_bytes: u64,
    /// Bytes of one value, at most [`VALUE_BYTES_MAX`].
    pub value_bytes: u64,
    /// Puts and removals of one client in a second, and as many at once before it is slowed down to that.
    pub puts_per_s: u64,
    /// Connections that have not logged in, of all addresses.
    pub strangers: u64,
    /// Of them, and of Socket.IO sessions that have not logged in, from one address or IPv6 network.
    pub strangers_of_address: u64,
    /// Who is back within so long after it left the list of active clients was never away, for `--on away`.
    pub away_after: Duration,
    /// Who is here and has lacked something for so long is behind, for `--on behind`.
    pub behind_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            clients: 20_000,
            values: 100_000,
            values_bytes: 256 << 20,
            value_bytes: VALUE_BYTES_MAX as u64,
            puts_per_s: 5_000,
            strangers: STRANGERS_MAX as u64,
            strangers_of_address: STRANGERS_MAX as u64,
            away_after: Duration::from_secs(5),
            behind_after: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// How many clients are kept on the roster: those who are away or expected are more than those who are here.
    pub(crate) fn known(&self) -> usize {
        usize::try_from(self.clients.saturating_mul(KNOWN_PER_CLIENT)).unwrap_or(usize::MAX)
    }
}

/// The limits as they are now.
#[derive(Debug, Default)]
pub(crate) struct Live(RwLock<Limits>);

impl Live {
    pub(crate) fn new(limits: Limits) -> Live {
        Live(RwLock::new(limits))
    }

    pub(crate) fn get(&self) -> Limits {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds from the next thing on that it limits; what is there by now stays.
    pub(crate) fn set(&self, limits: Limits) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }
}
