//! Connections that have not logged in, whatever they speak: one bound for all of a hub's doors.
//!
//! When too many wait, the one that has waited longest, of the address that has most waiting, is cut; where too many wait
//! from one address, the one of that address: so whoever logs in at once always gets in.

use crate::limits::Live;
use rustix::process::{Resource, getrlimit};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use wire::limiter::network;

/// Connections that have not logged in.
#[derive(Clone, Default)]
pub(crate) struct Strangers(Arc<Mutex<Waiting>>, Arc<Live>);

#[derive(Default)]
struct Waiting {
    /// By order of arrival, each with the network it comes from.
    places: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
    by_address: HashMap<IpAddr, usize>,
    arrivals: u64,
    cut: u64,
}

/// One connection's place among the strangers; given up when dropped.
pub(crate) struct Place {
    strangers: Arc<Mutex<Waiting>>,
    number: u64,
    evict: Arc<Notify>,
}

impl Strangers {
    /// None yet, held to these limits.
    pub(crate) fn new(limits: Arc<Live>) -> Strangers {
        Strangers(Arc::default(), limits)
    }

    /// How many there are, and how many were cut to make room.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (waiting.places.len() as u64, waiting.cut)
    }

    /// A place for a connection from `address`, if need be in the place of another.
    pub(crate) fn enter(&self, address: IpAddr) -> Place {
        let address = network(address);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = self.1.get();
        let all = at_most(limits.strangers, getrlimit(Resource::Nofile).current);
        let most = if waiting.places.len() as u64 >= all {
            waiting.by_address.iter().max_by_key(|(_, count)| **count).map(|(address, _)| *address)
        } else {
            let of_address = waiting.by_address.get(&address).copied().unwrap_or(0) as u64;
            (of_address >= limits.strangers_of_address).then_some(address)
        };
        if most.is_some() {
            let oldest = waiting.places.iter().find(|(_, (from, _))| Some(*from) == most).map(|(number, _)| *number);
            if let Some(number) = oldest {
                waiting.leave(number, true);
            }
        }
        waiting.arrivals += 1;
        let (number, evict) = (waiting.arrivals, Arc::new(Notify::new()));
        waiting.places.insert(number, (address, Arc::clone(&evict)));
        *waiting.by_address.entry(address).or_default() += 1;
        drop(waiting);
        Place { strangers: Arc::clone(&self.0), number, evict }
    }
}

/// How many there are at most, where so many files may be open: a quarter of them, so that those who have logged in always have some.
fn at_most(set: u64, files: Option<u64>) -> u64 {
    set.min(files.unwrap_or(u64::MAX) / 4).max(1)
}

impl Waiting {
    fn leave(&mut self, number: u64, evict: bool) {
        let Some((address, notify)) = self.places.remove(&number) else { return };
        if evict {
            self.cut += 1;
            notify.notify_one();
        }
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Place {
    /// Resolves when another took this place: the connection is to be cut.
    pub(crate) fn evicted(&self) -> impl Future<Output = ()> + Send + use<> {
        let evict = Arc::clone(&self.evict);
        async move { evict.notified().await }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).leave(self.number, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use std::time::Duration;

    const STRANGERS_MAX: usize = 64;

    fn strangers(of_address: u64) -> Strangers {
        let limits = Limits { strangers: STRANGERS_MAX as u64, strangers_of_address: of_address, ..Limits::default() };
        Strangers::new(Arc::new(Live::new(limits)))
    }

    #[test]
    fn a_quarter_of_the_files_that_may_be_open_is_all_that_strangers_have() {
        for (set, files, most) in
            [(1024, None, 1024), (1024, Some(65_536), 1024), (1024, Some(1200), 300), (9, Some(0), 1)]
        {
            assert_eq!(at_most(set, files), most, "{set} of {files:?}");
        }
    }

    #[tokio::test]
    async fn who_waits_longest_at_the_busiest_address_makes_room() {
        let strangers = strangers(1000);
        let (crowd, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let quiet = strangers.enter(other);
        let mut places: Vec<Place> = (1..STRANGERS_MAX).map(|_| strangers.enter(crowd)).collect();
        let newest = strangers.enter(other);
        tokio::time::timeout(Duration::from_secs(5), places[0].evicted()).await.unwrap();
        for waiting in [&quiet, &newest, &places[1]] {
            assert!(tokio::time::timeout(Duration::from_millis(5), waiting.evicted()).await.is_err());
        }
        places.clear();
        drop((quiet, newest));
        let waiting = strangers.0.lock().unwrap();
        assert!(waiting.places.is_empty() && waiting.by_address.is_empty());
    }

    #[tokio::test]
    async fn the_addresses_of_one_ipv6_network_are_one_crowd() {
        let strangers = strangers(1000);
        let from = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        let quiet: Vec<Place> = (1..3).map(|host| strangers.enter(from(host, 1))).collect();
        let crowd = u16::try_from(STRANGERS_MAX).unwrap() - 2;
        let places: Vec<Place> = (0..crowd).map(|host| strangers.enter(from(9, host))).collect();
        let newest = strangers.enter(from(3, 1));
        tokio::time::timeout(Duration::from_secs(5), places[0].evicted()).await.unwrap();
        for waiting in quiet.iter().chain([&newest]) {
            assert!(tokio::time::timeout(Duration::from_millis(5), waiting.evicted()).await.is_err());
        }
    }

    #[tokio::test]
    async fn one_address_has_so_many_places_and_a_further_one_costs_another_nothing() {
        let strangers = strangers(3);
        let (crowd, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let quiet = strangers.enter(other);
        let places: Vec<Place> = (0..3).map(|_| strangers.enter(crowd)).collect();
        let newest = strangers.enter(crowd);
        tokio::time::timeout(Duration::from_secs(5), places[0].evicted()).await.unwrap();
        for waiting in [&quiet, &newest, &places[1], &places[2]] {
            assert!(tokio::time::timeout(Duration::from_millis(5), waiting.evicted()).await.is_err());
        }
    }
}
