//! Further connections of clients that are logged in: bulk connections, and those of commands that an agent relays.
//!
//! Each client has a bound of its own ([`Session::attach`]), and its first is always to be had: an agent needs it for
//! contents. All others together have a quarter of the files that may be open, so that no clients, however many of theirs
//! there are, keep out those who want to log in.

use crate::presence::Session;
use rustix::process::{Resource, getrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::OwnedSemaphorePermit;

/// How many there are of all clients, beyond the first of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Further(Arc<AtomicU64>);

/// One connection's place; given up when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _own: OwnedSemaphorePermit,
    shared: Option<Further>,
}

/// Whose bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// The client's own.
    OfClient,
    /// That of all clients together.
    OfAll,
}

impl Further {
    /// A place for a further connection of `session`.
    ///
    /// # Errors
    /// When it, or all together, have too many.
    pub(crate) fn enter(&self, session: &Session) -> Result<Seat, TooMany> {
        self.enter_where(session, getrlimit(Resource::Nofile).current)
    }

    /// The same where so many files may be open.
    fn enter_where(&self, session: &Session, files: Option<u64>) -> Result<Seat, TooMany> {
        let own = session.attach().ok_or(TooMany::OfClient)?;
        if session.attached() == 1 {
            return Ok(Seat { _own: own, shared: None });
        }
        let most = files.unwrap_or(u64::MAX) / 4;
        let more = |count: u64| (count < most).then_some(count + 1);
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(Seat { _own: own, shared: Some(self.clone()) }),
            Err(_) => Err(TooMany::OfAll),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::presence::{Arrival, Presence};
    use wire::secret::Token;

    #[test]
    fn all_clients_together_have_a_quarter_of_the_open_files_and_each_its_first_connection() {
        let (presence, further, files) = (Presence::default(), Further::default(), Some(16));
        let session = |id: u8| {
            let (name, address, access) = (String::new(), String::new(), Access::everything());
            let (id, token) = (u64::from(id), Token([id; 32]));
            presence.enter(Arrival { id, token, name, address, transport: "native", access })
        };
        let (greedy, modest) = (session(1), session(2));
        let mut seats: Vec<Seat> = (0..5).map(|_| further.enter_where(&greedy, files).unwrap()).collect();
        assert_eq!(further.enter_where(&greedy, files).unwrap_err(), TooMany::OfAll);
        // Whoever comes later has its first all the same, and no second one before there is room.
        let first = further.enter_where(&modest, files).unwrap();
        assert_eq!(further.enter_where(&modest, files).unwrap_err(), TooMany::OfAll);
        drop(seats.pop());
        let second = further.enter_where(&modest, files).unwrap();
        assert_eq!(further.enter_where(&greedy, files).unwrap_err(), TooMany::OfAll);
        drop((seats, first, second));
        assert_eq!((further.0.load(Ordering::Acquire), greedy.attached(), modest.attached()), (0, 0, 0));
        // Where files are no matter, each client has what it may.
        let mut own = Vec::new();
        let refused = loop {
            match further.enter_where(&greedy, None) {
                Ok(seat) => own.push(seat),
                Err(refused) => break refused,
            }
        };
        assert_eq!((refused, own.len()), (TooMany::OfClient, greedy.attached()));
    }
}
