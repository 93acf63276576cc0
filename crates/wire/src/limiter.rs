//! How wrong answers are slowed down without locking anybody out.
//!
//! Nothing here ever refuses a right answer. After wrong answers for an id from an address, the next answer for that id
//! from that address is *held* before it is looked at, right or wrong alike, for at most [`HOLD_MAX`]: hanging up early
//! gains nothing, since what was not looked at was not tried. Other addresses notice nothing of it. Secrets of 130 bits
//! cannot be guessed at any rate; this keeps the log readable and the hub idle. New enrolments from one address are
//! limited outright, with the time after which it is worth trying again.

use crate::id::ClientId;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// The longest that an answer is held. Below [`crate::limits::LOGIN_MAX`], so that a held client is not a silent one.
pub const HOLD_MAX: Duration = Duration::from_secs(4);
/// The first wrong answer costs the next one this much; each further one doubles it.
const HOLD_FIRST: Duration = Duration::from_secs(1);
/// Wrong answers from one address, whatever the id, before all its answers are held.
const ADDRESS_FAILURES: u32 = 50;
/// Wrong answers are forgotten after this long without another.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Enrolments from one address in one go: a classroom behind one router.
const ENROL_BURST: f64 = 200.0;
/// Further enrolments from it, each second.
const ENROL_PER_SECOND: f64 = 5.0;
/// Of them, those that nobody invited, in one go: all machines of a site behind one router.
const UNINVITED_BURST: f64 = 10_000.0;
/// Further ones of these, each second: some thousands a day, so that no address fills the roster, nor the audit log.
const UNINVITED_PER_SECOND: f64 = 0.1;
/// Tokens that a client makes in one go.
const TOKEN_BURST: f64 = 10.0;
/// Further tokens of it, each second.
const TOKENS_PER_SECOND: f64 = 0.1;
/// Addresses (and pairs of address and id) remembered; past it the oldest half is forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// What it remembers of addresses, those of one [`network`] taken together. One for the whole hub.
#[derive(Clone, Debug, Default)]
pub struct Limiter {
    pairs: HashMap<(String, ClientId), Failures>,
    addresses: HashMap<String, Failures>,
    enrolments: HashMap<String, Purse>,
    uninvited: HashMap<String, Purse>,
    tokens: HashMap<String, Failures>,
    tokens_made: HashMap<ClientId, Purse>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Duration,
}

/// What may be done so often in one go, and then at a steady rate.
#[derive(Clone, Copy, Debug)]
struct Purse {
    left: f64,
    last: Duration,
}

/// Which addresses count as one: those of an IPv6 network of 64 bits, any of which a single machine can take by itself.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

impl Limiter {
    /// One that remembers nothing.
    pub fn new() -> Limiter {
        Limiter::default()
    }

    /// For how long an answer for `id` from `address` is held before it is looked at; at most [`HOLD_MAX`]. `now` is
    /// any clock that never goes back.
    pub fn hold(&self, address: &str, id: ClientId, now: Duration) -> Duration {
        let recent = |failures: &&Failures| now.saturating_sub(failures.last) < FORGET_AFTER;
        let address = known_as(address);
        let of_address = self.addresses.get(&address).filter(recent).map_or(0, |failures| failures.count);
        if of_address >= ADDRESS_FAILURES {
            return HOLD_MAX;
        }
        held_after(self.pairs.get(&(address, id)).filter(recent).map_or(0, |failures| failures.count))
    }

    /// An answer was wrong.
    pub fn failed(&mut self, address: &str, id: ClientId, now: Duration) {
        note(&mut self.pairs, (known_as(address), id), now);
        note(&mut self.addresses, known_as(address), now);
    }

    /// An answer was right: what went wrong for this id from this address is forgotten.
    pub fn proved(&mut self, address: &str, id: ClientId) {
        self.pairs.remove(&(known_as(address), id));
    }

    /// A token from `address` was refused: for how long that answer is held, at most [`HOLD_MAX`]. A token names no client, so it
    /// is known to be wrong before anything is held, and a right one never waits.
    pub fn token_refused(&mut self, address: &str, now: Duration) -> Duration {
        note(&mut self.tokens, known_as(address), now);
        let count = self.tokens.get(&known_as(address)).map_or(0, |failures| failures.count);
        held_after(count.saturating_sub(1))
    }

    /// Counts one enrolment from `address`; whether by an invite, which says itself how many come by it.
    ///
    /// # Errors
    /// When there were too many: how long until the next is allowed.
    pub fn enrol(&mut self, address: &str, invited: bool, now: Duration) -> Result<(), Duration> {
        spend(&mut self.enrolments, known_as(address), (ENROL_BURST, ENROL_PER_SECOND), now)?;
        if invited {
            return Ok(());
        }
        spend(&mut self.uninvited, known_as(address), (UNINVITED_BURST, UNINVITED_PER_SECOND), now)
    }

    /// Counts one token that a client makes.
    ///
    /// # Errors
    /// When there were too many: how long until the next is allowed.
    pub fn token_made(&mut self, id: ClientId, now: Duration) -> Result<(), Duration> {
        spend(&mut self.tokens_made, id, (TOKEN_BURST, TOKENS_PER_SECOND), now)
    }
}

/// Takes one of what `key` may have: so many in one go, and so many more each second.
fn spend<K: std::hash::Hash + Eq + Clone>(
    purses: &mut HashMap<K, Purse>,
    key: K,
    (burst, per_second): (f64, f64),
    now: Duration,
) -> Result<(), Duration> {
    if purses.len() >= REMEMBERED_MAX && !purses.contains_key(&key) {
        forget_oldest(purses, |purse| purse.last);
    }
    let purse = purses.entry(key).or_insert(Purse { left: burst, last: now });
    let earned = now.saturating_sub(purse.last).as_secs_f64() * per_second;
    *purse = Purse { left: (purse.left + earned).min(burst), last: purse.last.max(now) };
    if purse.left < 1.0 {
        return Err(Duration::from_secs_f64((1.0 - purse.left) / per_second));
    }
    purse.left -= 1.0;
    Ok(())
}

/// For how long an answer is held after so many wrong ones.
fn held_after(wrong: u32) -> Duration {
    match wrong {
        0 => Duration::ZERO,
        count => HOLD_FIRST.saturating_mul(1 << (count - 1).min(16)).min(HOLD_MAX),
    }
}

/// What an address is remembered by.
fn known_as(address: &str) -> String {
    address.parse().map_or_else(|_| address.to_owned(), |ip| network(ip).to_string())
}

fn note<K: std::hash::Hash + Eq + Clone>(failures: &mut HashMap<K, Failures>, key: K, now: Duration) {
    if failures.len() >= REMEMBERED_MAX && !failures.contains_key(&key) {
        forget_oldest(failures, |failures| failures.last);
    }
    let entry = failures.entry(key).or_insert(Failures { count: 0, last: now });
    if now.saturating_sub(entry.last) >= FORGET_AFTER {
        entry.count = 0;
    }
    *entry = Failures { count: entry.count.saturating_add(1), last: entry.last.max(now) };
}

fn forget_oldest<K: std::hash::Hash + Eq + Clone, V>(map: &mut HashMap<K, V>, last: impl Fn(&V) -> Duration) {
    let mut keys: Vec<(Duration, K)> = map.iter().map(|(key, value)| (last(value), key.clone())).collect();
    keys.sort_by_key(|(last, _)| *last);
    for (_, key) in keys.drain(..keys.len() / 2) {
        map.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn id(id: u64) -> ClientId {
        ClientId::new(id).unwrap()
    }

    #[test]
    fn wrong_answers_slow_down_their_own_address_and_id_only() {
        let mut limiter = Limiter::new();
        let mut holds = Vec::new();
        for at in 0..5 {
            holds.push(limiter.hold("a", id(7), s(at)));
            limiter.failed("a", id(7), s(at));
        }
        assert_eq!(holds, [s(0), s(1), s(2), HOLD_MAX, HOLD_MAX]);
        assert_eq!(limiter.hold("b", id(7), s(5)), s(0), "strangers do not slow the client down");
        assert_eq!(limiter.hold("a", id(8), s(5)), s(0));
        assert_eq!(limiter.hold("a", id(7), s(4) + FORGET_AFTER), s(0));
        limiter.proved("a", id(7));
        assert_eq!(limiter.hold("a", id(7), s(5)), s(0));
    }

    #[test]
    fn refused_tokens_are_answered_ever_later_and_hold_no_login() {
        let mut limiter = Limiter::new();
        let holds: Vec<_> = (0..5).map(|at| limiter.token_refused("a", s(at))).collect();
        assert_eq!(holds, [s(0), s(1), s(2), HOLD_MAX, HOLD_MAX]);
        assert_eq!(limiter.token_refused("b", s(5)), s(0));
        assert_eq!(limiter.hold("a", id(7), s(5)), s(0));
        assert_eq!(limiter.token_refused("a", s(5) + FORGET_AFTER), s(0));
    }

    #[test]
    fn an_address_that_tries_many_ids_is_held_for_all() {
        let mut limiter = Limiter::new();
        for at in 1..=u64::from(ADDRESS_FAILURES) {
            assert_eq!(limiter.hold("a", id(at), s(1)), s(0));
            limiter.failed("a", id(at), s(1));
        }
        assert_eq!(limiter.hold("a", id(1000), s(1)), HOLD_MAX);
        assert_eq!(limiter.hold("b", id(1000), s(1)), s(0));
    }

    #[test]
    fn enrolments_from_one_address_are_limited_and_come_back() {
        let mut limiter = Limiter::new();
        while limiter.enrol("a", false, s(0)).is_ok() {}
        let wait = limiter.enrol("a", true, s(0)).unwrap_err();
        assert!(wait <= s(1) && limiter.enrol("a", true, wait + Duration::from_millis(1)).is_ok());
        assert!(limiter.enrol("b", false, s(0)).is_ok());
    }

    #[test]
    fn who_enrols_for_ever_without_an_invite_is_let_in_ever_more_slowly_and_holds_up_nobody_who_has_one() {
        let (mut limiter, mut came, day) = (Limiter::new(), 0_u32, s(24 * 3600));
        // As fast as it may, for two days.
        let mut now = s(0);
        while now < 2 * day {
            match limiter.enrol("a", false, now) {
                Ok(()) => came += 1,
                Err(wait) => now += wait + Duration::from_millis(1),
            }
        }
        let most = UNINVITED_BURST + 2.0 * day.as_secs_f64() * UNINVITED_PER_SECOND;
        assert!((most - 10.0..=most + 1.0).contains(&f64::from(came)), "{came} of {most}");
        now += s(60);
        for _ in 0..100 {
            assert!(limiter.enrol("a", true, now).is_ok());
        }
        assert!(limiter.enrol("b", false, now).is_ok());
    }

    #[test]
    fn tokens_of_one_client_are_limited_and_come_back() {
        let mut limiter = Limiter::new();
        let mut made = 0;
        while limiter.token_made(id(7), s(0)).is_ok() {
            made += 1;
        }
        assert_eq!(f64::from(made), TOKEN_BURST);
        let wait = limiter.token_made(id(7), s(0)).unwrap_err();
        assert!(wait <= s(10) && limiter.token_made(id(7), wait + Duration::from_millis(1)).is_ok());
        assert!(limiter.token_made(id(7), wait + Duration::from_millis(2)).is_err());
        assert!(limiter.token_made(id(8), s(0)).is_ok());
    }

    #[test]
    fn a_machine_does_not_become_another_by_another_address_of_its_network() {
        let one = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(one("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(one("2001:db8:1:2::9"), "2001:db8:1:2::");
        assert_ne!(one("2001:db8:1:3::9"), "2001:db8:1:2::");
        assert_eq!(one("192.0.2.7"), "192.0.2.7");
        assert_eq!(one("::ffff:192.0.2.7"), "192.0.2.7");
        let mut limiter = Limiter::new();
        limiter.failed("2001:db8::1", id(7), s(0));
        assert_eq!(limiter.hold("2001:db8::2", id(7), s(0)), HOLD_FIRST);
        assert_eq!(limiter.hold("2001:db8:0:1::2", id(7), s(0)), s(0));
    }

    #[test]
    fn memory_is_limited_whatever_comes() {
        let mut limiter = Limiter::new();
        for at in 0..3 * REMEMBERED_MAX {
            limiter.failed(&at.to_string(), id(1), Duration::from_millis(at as u64));
            let _held = limiter.token_refused(&at.to_string(), Duration::from_millis(at as u64));
            let _allowed = limiter.enrol(&at.to_string(), false, Duration::from_millis(at as u64));
            let _allowed = limiter.token_made(id(at as u64 + 1), Duration::from_millis(at as u64));
        }
        for len in [limiter.pairs.len(), limiter.addresses.len(), limiter.enrolments.len(), limiter.tokens.len()] {
            assert!(len <= REMEMBERED_MAX, "{len}");
        }
        assert!(limiter.tokens_made.len() <= REMEMBERED_MAX && limiter.uninvited.len() <= REMEMBERED_MAX);
    }
}
