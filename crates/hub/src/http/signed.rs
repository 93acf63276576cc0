//! How many connections each has that signs in: nobody takes so many that there are none left for the others.
//!
//! A connection that has signed in is no stranger any more, so it is not among those that make room. It counts here instead, as
//! its signer's, whatever it is doing: it waits for a change, reads a stream, sends a value byte by byte, or does nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wire::bearer::BearerHash;
use wire::id::ClientId;
use wire::message::{Code, Refusal};

/// Connections of one client, or of one token that is no client's.
pub(super) const CONNECTIONS_OF_ONE_MAX: usize = 64;
/// Who has as many tries again after this.
const AGAIN_MS: u64 = 1000;

/// Who signs in. All that a client's tokens sign in is the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signer {
    Client(ClientId),
    Token(BearerHash),
}

/// The connections of all who have signed in.
#[derive(Clone, Default)]
pub(crate) struct Signed(Arc<Mutex<BTreeMap<Signer, usize>>>);

/// One connection among them; given up when dropped.
pub(super) struct Place {
    signed: Signed,
    pub(super) signer: Signer,
}

impl Signed {
    /// A place for one more connection of `signer`.
    ///
    /// # Errors
    /// When it has too many.
    pub(super) fn enter(&self, signer: Signer) -> Result<Place, Refusal> {
        let mut connections = self.lock();
        let of_it = connections.entry(signer).or_default();
        if *of_it >= CONNECTIONS_OF_ONE_MAX {
            let who = match signer {
                Signer::Client(id) => format!("client {id}"),
                Signer::Token(_) => "this token".to_owned(),
            };
            let text = format!(
                "{who} is signed in on {CONNECTIONS_OF_ONE_MAX} connections, and may be on no more: close some"
            );
            return Err(Refusal { code: Code::Full, text, retry_ms: Some(AGAIN_MS) });
        }
        *of_it += 1;
        drop(connections);
        Ok(Place { signed: self.clone(), signer })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Signer, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.signed.lock();
        if let Some(of_it) = connections.get_mut(&self.signer) {
            *of_it -= 1;
            if *of_it == 0 {
                connections.remove(&self.signer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_who_signs_in_has_so_many_connections_and_takes_none_from_others() {
        let signed = Signed::default();
        let client = Signer::Client(ClientId::new(7).unwrap());
        let others = [Signer::Client(ClientId::new(8).unwrap()), Signer::Token(BearerHash([1; 32]))];
        let mut places: Vec<_> = (0..CONNECTIONS_OF_ONE_MAX).map(|_| signed.enter(client).unwrap()).collect();
        let Err(full) = signed.enter(client) else { panic!("one more than there are") };
        assert!(full.code == Code::Full && full.retry_ms.is_some() && full.text.contains("client 7"), "{full:?}");
        let beside = others.map(|other| signed.enter(other).unwrap());
        places.pop();
        places.push(signed.enter(client).unwrap());
        assert!(signed.enter(client).is_err());
        drop((places, beside));
        assert!(signed.lock().is_empty(), "who has none costs nothing");
    }
}
