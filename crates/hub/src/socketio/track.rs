//! What the hub knows of one Engine.IO session beside its packets: on which connections it comes, and whether it has logged in.
//!
//! A session over WebSocket is one connection. One over long polling is many requests, each perhaps on another connection, and an
//! upgrade moves it. So every request is noted here, by the session's id, which is a secret between the hub and that client.

use crate::http::{Peer, Signer};
use crate::limits::Live;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use wire::id::ClientId;
use wire::message::Refusal;

/// Sessions that have not logged in, from everybody. Each costs some 30 KiB.
const STRANGERS_MAX: usize = 8192;
/// Connections remembered of one session; browsers keep up to six to a server.
const PEERS_MAX: usize = 8;

/// All sessions.
#[derive(Default)]
pub(super) struct Tracks {
    /// Of them: those from one address, other than this machine's own: a classroom behind one router, and its neighbours.
    limits: Arc<Live>,
    by_sid: Mutex<HashMap<String, Weak<Track>>>,
    strangers: Mutex<Strangers>,
}

#[derive(Default)]
struct Strangers {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One session; the engine keeps it, among the extensions of its first request, for as long as the session lives.
pub(super) struct Track {
    tracks: Arc<Tracks>,
    pub(super) address: SocketAddr,
    sid: OnceLock<String>,
    peers: Mutex<Vec<Peer>>,
    polls: AtomicU64,
    cut: AtomicBool,
    upgraded: AtomicBool,
    stranger: AtomicBool,
    /// Who has logged in.
    signer: OnceLock<Signer>,
}

/// How far a client has come, as far as its transport shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Progress {
    /// Bytes that the kernel took, on all its connections.
    pub(super) written_bytes: u64,
    /// Polls begun. What one brings was read when the next begins.
    pub(super) polls: u64,
}

impl Tracks {
    /// None yet, held to these limits.
    pub(super) fn new(limits: Arc<Live>) -> Arc<Tracks> {
        Arc::new(Tracks { limits, ..Tracks::default() })
    }

    /// A new session, on the connection of `peer`; `None` when too many wait to log in.
    pub(super) fn begin(tracks: &Arc<Tracks>, peer: Peer) -> Option<Arc<Track>> {
        let address = peer.address;
        let mut strangers = lock(&tracks.strangers);
        let place = place(address.ip());
        let of_address = strangers.by_address.get(&place).copied().unwrap_or(0);
        let full = of_address as u64 >= tracks.limits.get().strangers_of_address && !place.is_loopback();
        if strangers.all >= STRANGERS_MAX || full {
            return None;
        }
        strangers.all += 1;
        strangers.by_address.insert(place, of_address + 1);
        drop(strangers);
        Some(Arc::new(Track {
            tracks: Arc::clone(tracks),
            address,
            sid: OnceLock::new(),
            peers: Mutex::new(vec![peer]),
            polls: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            stranger: AtomicBool::new(true),
            signer: OnceLock::new(),
        }))
    }

    /// The session of this id, where it is here and further requests of it may come.
    pub(super) fn find(&self, sid: &str) -> Option<Arc<Track>> {
        lock(&self.by_sid).get(sid).and_then(Weak::upgrade)
    }
}

impl Track {
    /// Notes under which id its further requests come.
    pub(super) fn named(self: &Arc<Self>, sid: &str) {
        if self.sid.set(sid.to_owned()).is_ok() {
            lock(&self.tracks.by_sid).insert(sid.to_owned(), Arc::downgrade(self));
        }
    }

    /// Notes a further request; `false` when the session was cut, and the request is to be turned away.
    ///
    /// # Errors
    /// When its client has too many connections for this one.
    pub(super) fn request(&self, peer: &Peer, poll: bool, upgrade: bool) -> Result<bool, Refusal> {
        if upgrade {
            self.upgraded.store(true, Ordering::Release);
        }
        if poll {
            self.polls.fetch_add(1, Ordering::Relaxed);
        }
        let mut peers = lock(&self.peers);
        if !peers.iter().any(|known| known.line.same(&peer.line)) {
            if peers.len() >= PEERS_MAX {
                peers.remove(0);
            }
            peers.push(peer.clone());
        }
        drop(peers);
        // Looked at after it was noted: so it is either seen here, or noted by then for `logged_in`.
        if let Some(signer) = self.signer.get() {
            peer.signed_in(*signer)?;
        }
        Ok(!self.cut.load(Ordering::Acquire))
    }

    /// `client` has logged in: neither it nor its connections count as strangers any longer.
    pub(super) fn logged_in(&self, client: ClientId) {
        self.no_stranger();
        let signer = *self.signer.get_or_init(|| Signer::Client(client));
        for peer in lock(&self.peers).iter() {
            if let Err(full) = peer.signed_in(signer) {
                tracing::debug!(address = %peer.address, "still counts as a stranger's: {}", full.text);
            }
        }
    }

    fn no_stranger(&self) {
        if self.stranger.swap(false, Ordering::AcqRel) {
            let mut strangers = lock(&self.tracks.strangers);
            strangers.all -= 1;
            let place = place(self.address.ip());
            if let Some(count) = strangers.by_address.get_mut(&place) {
                *count -= 1;
                if *count == 0 {
                    strangers.by_address.remove(&place);
                }
            }
        }
    }

    /// Cuts all its connections: stock clients take that for a lost connection, and come back.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        lock(&self.peers).iter().for_each(|peer| peer.line.cut());
    }

    /// Whether it has asked to go on by WebSocket: then its polls end by and by.
    pub(super) fn is_websocket(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Reads nothing more of it until it is called with `false`.
    pub(super) fn hold(&self, hold: bool) {
        lock(&self.peers).iter().for_each(|peer| peer.line.hold(hold));
    }

    pub(super) fn progress(&self) -> Progress {
        let written_bytes = lock(&self.peers).iter().map(|peer| peer.line.written_bytes()).sum();
        Progress { written_bytes, polls: self.polls.load(Ordering::Relaxed) }
    }

    /// Bytes that came from it; as long as it lives they become more, if only by answers to pings.
    pub(super) fn heard_bytes(&self) -> u64 {
        lock(&self.peers).iter().map(|peer| peer.line.read_bytes()).sum()
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        self.no_stranger();
        if let Some(sid) = self.sid.get() {
            lock(&self.tracks.by_sid).remove(sid);
        }
    }
}

/// What counts as one address: of IPv6 a whole network, as anybody has as many addresses in theirs as they like.
fn place(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if !v6.is_loopback() => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn at(address: &str) -> Peer {
        Peer::at(SocketAddr::new(address.parse().unwrap(), 1), None)
    }

    #[test]
    fn strangers_of_one_network_are_bounded_until_they_log_in_or_leave() {
        let limits = Limits { strangers_of_address: 100, ..Limits::default() };
        let tracks = Tracks::new(Arc::new(Live::new(limits)));
        let begin = |address: &str| Tracks::begin(&tracks, at(address));
        let mut crowd: Vec<_> = (0..100).map(|n| begin(&format!("2001:db8::{n:x}")).unwrap()).collect();
        assert!(begin("2001:db8::ffff:1").is_none());
        let other = begin("2001:db8:0:1::1").unwrap();
        crowd[0].logged_in(ClientId::new(7).unwrap());
        crowd[0].logged_in(ClientId::new(7).unwrap());
        let next = begin("2001:db8::ffff:2").unwrap();
        assert!(begin("2001:db8::ffff:3").is_none());
        crowd.pop();
        drop((begin("2001:db8::ffff:4").unwrap(), next, other));
        crowd.clear();
        let strangers = lock(&tracks.strangers);
        assert!(strangers.all == 0 && strangers.by_address.is_empty());
    }

    #[test]
    fn this_machine_is_bounded_only_by_what_all_may_have() {
        let tracks = Arc::new(Tracks::default());
        let begin = || Tracks::begin(&tracks, at("127.0.0.1"));
        let all: Vec<_> = (0..STRANGERS_MAX).map(|_| begin().unwrap()).collect();
        assert!(begin().is_none());
        drop(all);
        assert!(begin().is_some());
    }

    #[test]
    fn a_cut_session_takes_no_further_request_and_one_that_is_gone_is_not_found() {
        let tracks = Arc::new(Tracks::default());
        let track = Tracks::begin(&tracks, at("10.0.0.1")).unwrap();
        track.named("abc");
        assert!(tracks.find("abc").unwrap().request(&at("10.0.0.1"), true, false).unwrap());
        track.cut();
        assert!(!tracks.find("abc").unwrap().request(&at("10.0.0.1"), true, false).unwrap());
        assert_eq!(track.progress().polls, 2);
        drop(track);
        assert!(tracks.find("abc").is_none());
    }

    /// Else pollers that are in would be cut once many others come to log in.
    #[test]
    fn the_connections_of_who_logged_in_count_no_longer_as_strangers_the_later_ones_neither() {
        let (tracks, strangers) = (Arc::new(Tracks::default()), crate::strangers::Strangers::default());
        let address = SocketAddr::new("10.0.0.1".parse().unwrap(), 1);
        let connect = || Peer::at(address, Some(strangers.enter(address.ip())));
        let (first, second, third) = (connect(), connect(), connect());
        let left = Tracks::begin(&tracks, connect()).unwrap();
        let track = Tracks::begin(&tracks, first.clone()).unwrap();
        assert!(track.request(&second, true, false).unwrap());
        assert!([&first, &second, &third].into_iter().all(Peer::is_stranger));
        track.logged_in(ClientId::new(7).unwrap());
        assert!(!first.is_stranger() && !second.is_stranger() && third.is_stranger());
        assert!(track.request(&third, true, false).unwrap());
        assert!(!third.is_stranger());
        // Who leaves without logging in has not proved anything.
        let fourth = connect();
        assert!(left.request(&fourth, true, false).unwrap());
        drop(left);
        assert!(fourth.is_stranger());
    }

    #[test]
    fn a_session_has_no_more_connections_than_its_client_may_sign_in_on() {
        let (tracks, first) = (Arc::new(Tracks::default()), at("10.0.0.1"));
        let track = Tracks::begin(&tracks, first.clone()).unwrap();
        track.logged_in(ClientId::new(7).unwrap());
        let mut more: Vec<_> = (1..200).map(|_| first.beside()).collect();
        let full = more.iter().position(|peer| track.request(peer, true, false).is_err());
        assert_eq!(full, Some(63));
        more.truncate(10);
        assert_eq!(track.request(&first.beside(), true, false).ok(), Some(true));
    }
}
