//! Who is logged in now.
//!
//! One session an id: a second login with a valid proof takes over from the first, which is told so. A session leaves
//! only its own place (serial numbers), so one that dies late cannot take its successor off the list.

use crate::access::Access;
use crate::clock;
use board::Pattern;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use wire::limits::KEPT_VALUES_MAX;
use wire::message::{Ack, Code, Number, Refusal, Vitals};
use wire::secret::Token;

/// So many take-overs of one id within [`TAKEOVER_SPAN`] mean two machines use it.
const TAKEOVERS_SUSPICIOUS: usize = 3;
/// The span they are counted in.
const TAKEOVER_SPAN: Duration = Duration::from_secs(60);
/// Vitals that a session may report in one go, as those that a stopped machine has waiting when it goes on.
const VITALS_BURST: u32 = 8;
/// Beyond it, one in so much time; what comes faster is dropped. Agents report one a second.
const VITALS_EVERY_MIN: Duration = Duration::from_millis(250);
/// Further connections of one session, for contents and for commands.
const ATTACHED_MAX: usize = 64;

/// A client that is logged in.
pub(crate) struct Session {
    pub(crate) id: u64,
    serial: u64,
    pub(crate) token: Token,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) transport: &'static str,
    /// What it may, as of its login; where that is changed, the session ends.
    pub(crate) access: Access,
    /// Here only by a stream it reads: it makes room for a login.
    guest: bool,
    /// Where the one was that this one took over from.
    pub(crate) took_over: Option<String>,
    end: watch::Sender<Option<Refusal>>,
    last_seen_ms: AtomicI64,
    told: Mutex<Told>,
    attached: Arc<Semaphore>,
}

/// What a client said of itself.
#[derive(Default, Clone)]
pub(crate) struct Told {
    /// Sorted by board and number. A vector, since most sessions have one or two: each of a map's nodes has room for eleven.
    follows: Vec<Follow>,
    pub(crate) vitals: Option<Vitals>,
    /// Where a steady stream of vitals would stand now; see [`VITALS_BURST`].
    vitals_due: Option<Instant>,
}

#[derive(Clone)]
struct Follow {
    board: String,
    fid: Number,
    pattern: Pattern,
    ack: Option<Ack>,
}

/// What became of vitals that a session reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampled {
    /// The first of this session, which also say that all it follows from the beginning was said.
    First,
    /// Taken.
    Taken,
    /// Too many: dropped.
    TooMany,
}

/// All sessions.
#[derive(Default)]
pub(crate) struct Presence {
    sessions: Mutex<HashMap<u64, Arc<Session>>>,
    takeovers: Mutex<HashMap<u64, VecDeque<Instant>>>,
    serials: AtomicU64,
}

/// What a login needs to be entered.
pub(crate) struct Arrival {
    pub(crate) id: u64,
    pub(crate) token: Token,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) transport: &'static str,
    pub(crate) access: Access,
}

impl Session {
    /// Notes a sign of life.
    pub(crate) fn seen(&self) {
        self.last_seen_ms.store(clock::now_ms(), Ordering::Relaxed);
    }

    /// The last sign of life, milliseconds since the Unix epoch.
    pub(crate) fn last_seen_ms(&self) -> i64 {
        self.last_seen_ms.load(Ordering::Relaxed)
    }

    /// Ends the session; its connections tell the client why.
    pub(crate) fn end(&self, why: Refusal) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(why);
            }
            first
        });
    }

    /// A place for a further connection of this session, until it is dropped; `None` when it has too many.
    pub(crate) fn attach(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.attached).try_acquire_owned().ok()
    }

    /// Whether it was ended.
    fn is_over(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Resolves when the session is ended.
    pub(crate) async fn ended(&self) -> Refusal {
        let mut end = self.end.subscribe();
        loop {
            if let Some(why) = end.borrow_and_update().clone() {
                return why;
            }
            if end.changed().await.is_err() {
                return Refusal { code: Code::Stopping, text: "the hub is stopping".into(), retry_ms: Some(0) };
            }
        }
    }

    pub(crate) fn told(&self) -> Told {
        lock(&self.told).clone()
    }

    pub(crate) fn follows(&self, board: &str, fid: Number, pattern: Pattern) {
        let follow = Follow { board: board.to_owned(), fid, pattern, ack: None };
        let mut told = lock(&self.told);
        match told.place(board, fid) {
            Ok(at) => told.follows[at] = follow,
            Err(at) => {
                told.follows.reserve_exact(1);
                told.follows.insert(at, follow);
            }
        }
    }

    pub(crate) fn follows_no_more(&self, board: &str, fid: Number) {
        let mut told = lock(&self.told);
        if let Ok(at) = told.place(board, fid) {
            told.follows.remove(at);
        }
    }

    pub(crate) fn acked(&self, board: &str, ack: Ack) {
        let mut told = lock(&self.told);
        if let Ok(at) = told.place(board, ack.fid) {
            told.follows[at].ack = Some(ack);
        }
    }

    pub(crate) fn sampled(&self, vitals: Vitals, now: Instant) -> Sampled {
        let mut told = lock(&self.told);
        let due = told.vitals_due.map_or(now, |due| due.max(now));
        if due.duration_since(now) >= VITALS_EVERY_MIN * VITALS_BURST {
            return Sampled::TooMany;
        }
        told.vitals_due = Some(due + VITALS_EVERY_MIN);
        if told.vitals.replace(vitals).is_none() { Sampled::First } else { Sampled::Taken }
    }
}

impl Told {
    /// Where a follow stands, or would stand.
    fn place(&self, board: &str, fid: Number) -> Result<usize, usize> {
        self.follows.binary_search_by(|follow| (follow.board.as_str(), follow.fid).cmp(&(board, fid)))
    }

    fn of(&self, board: &str) -> impl Iterator<Item = &Follow> {
        self.follows.iter().filter(move |follow| follow.board == board)
    }

    /// Whether what `meant` says of a board is followed.
    pub(crate) fn follows(&self, board: &str, meant: impl Fn(&Pattern) -> bool) -> bool {
        self.counted(board, meant).next().is_some()
    }

    /// The shares that are followed whole.
    pub(crate) fn shares(&self) -> impl Iterator<Item = String> {
        self.follows.iter().filter_map(|follow| follow.board.strip_prefix("share/").map(str::to_owned))
    }

    /// The patterns of the values that an agent keeps as files, as far as they are one line of text; nothing of others.
    pub(crate) fn kept_values(&self) -> impl Iterator<Item = String> {
        let follows = self.vitals.iter().flat_map(|_| self.of("data"));
        let text = |follow: &Follow| str::from_utf8(follow.pattern.as_bytes()).ok().map(str::to_owned);
        let one_line = |text: &String| !text.contains(char::is_control);
        follows.filter_map(text).filter(one_line).take(KEPT_VALUES_MAX)
    }

    /// What was acknowledged of what `meant` says of a board; of several follows, by the one that is least far.
    pub(crate) fn ack(&self, board: &str, meant: impl Fn(&Pattern) -> bool) -> Option<&Ack> {
        let follows = self.counted(board, meant).map(|follow| follow.ack.as_ref());
        follows.min_by_key(|ack| ack.map(|ack| ack.applied.seq))?
    }

    /// The follows that somebody waits for: of a part of a board only those of agents, which keep it, and of others that
    /// acknowledge. A command that shows some values has nothing to prove.
    fn counted(&self, board: &str, meant: impl Fn(&Pattern) -> bool) -> impl Iterator<Item = &Follow> {
        let keeps = |follow: &Follow| follow.ack.is_some() || self.vitals.is_some() || follow.pattern == Pattern::all();
        self.of(board).filter(move |follow| keeps(follow) && meant(&follow.pattern))
    }
}

impl Presence {
    /// Enters a client; whoever held its id is told that it was taken over.
    pub(crate) fn enter(&self, arrival: Arrival) -> Arc<Session> {
        let mut sessions = lock(&self.sessions);
        let took_over = sessions.get(&arrival.id).filter(|before| !before.guest).map(|before| before.address.clone());
        let session = self.session(arrival, false, took_over);
        let before = sessions.insert(session.id, Arc::clone(&session));
        drop(sessions);
        if let Some(before) = before {
            before.end(Refusal {
                code: Code::TakenOver,
                text: format!("id {} logged in again from {}; this session ends", session.id, session.address),
                retry_ms: None,
            });
            if !before.guest {
                self.note_takeover(&before, &session);
            }
        }
        session
    }

    /// Enters a client that only reads a stream, where it has no other session.
    ///
    /// # Errors
    /// With the session that it has.
    pub(crate) fn enter_as_guest(&self, arrival: Arrival) -> Result<Arc<Session>, Arc<Session>> {
        let session = self.session(arrival, true, None);
        let mut sessions = lock(&self.sessions);
        match sessions.get(&session.id) {
            // One that is over leaves in a moment, and only its own place.
            Some(present) if !present.is_over() => Err(Arc::clone(present)),
            _ => {
                sessions.insert(session.id, Arc::clone(&session));
                Ok(session)
            }
        }
    }

    fn session(&self, arrival: Arrival, guest: bool, took_over: Option<String>) -> Arc<Session> {
        Arc::new(Session {
            id: arrival.id,
            serial: self.serials.fetch_add(1, Ordering::Relaxed),
            token: arrival.token,
            name: arrival.name,
            address: arrival.address,
            transport: arrival.transport,
            access: arrival.access,
            guest,
            took_over,
            end: watch::Sender::new(None),
            last_seen_ms: AtomicI64::new(clock::now_ms()),
            told: Mutex::default(),
            attached: Arc::new(Semaphore::new(ATTACHED_MAX)),
        })
    }

    /// Takes a session off the list, unless another has taken its place; says whether it was on it.
    pub(crate) fn leave(&self, session: &Session) -> bool {
        let mut sessions = lock(&self.sessions);
        let mine = sessions.get(&session.id).is_some_and(|s| s.serial == session.serial);
        if mine {
            sessions.remove(&session.id);
        }
        mine
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Session>> {
        lock(&self.sessions).get(&id).cloned()
    }

    pub(crate) fn by_token(&self, token: &Token) -> Option<Arc<Session>> {
        use subtle::ConstantTimeEq;
        lock(&self.sessions).values().find(|s| bool::from(s.token.0.ct_eq(&token.0))).cloned()
    }

    /// How many are here of those that whoever asks may know of.
    pub(crate) fn count(&self, to: &Access) -> usize {
        lock(&self.sessions).keys().filter(|id| to.sees(**id)).count()
    }

    /// Says so when one id goes back and forth between two machines.
    fn note_takeover(&self, before: &Session, after: &Session) {
        let now = clock::now();
        let mut takeovers = lock(&self.takeovers);
        let seen = takeovers.entry(after.id).or_default();
        seen.push_back(now);
        while seen.front().is_some_and(|at| now.duration_since(*at) > TAKEOVER_SPAN) {
            seen.pop_front();
        }
        if seen.len() >= TAKEOVERS_SUSPICIOUS {
            tracing::error!(
                id = after.id,
                first = %before.address,
                second = %after.address,
                "id {} is used by two machines: {} and {}; give one of them an id of its own (lockstep join --id auto)",
                after.id, before.address, after.address
            );
            seen.clear();
        } else {
            tracing::warn!(id = after.id, from = %before.address, to = %after.address, "taken over");
        }
        takeovers.retain(|_, seen| !seen.is_empty());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::Version;

    fn arrival(id: u64, address: &str) -> Arrival {
        let (name, address, access) = ("m".into(), address.into(), Access::everything());
        Arrival { id, token: Token([7; 32]), name, address, transport: "native", access }
    }

    #[tokio::test]
    async fn a_second_login_takes_over_and_the_first_cannot_take_it_off_the_list() {
        let presence = Presence::default();
        let first = presence.enter(arrival(7, "a"));
        let second = presence.enter(arrival(7, "b"));
        assert_eq!(first.ended().await.code, Code::TakenOver);
        assert!(!presence.leave(&first));
        assert_eq!(presence.count(&Access::everything()), 1);
        assert!(presence.leave(&second));
        assert_eq!(presence.count(&Access::everything()), 0);
    }

    fn ack(fid: Number, seq: u64) -> Ack {
        Ack::of(fid, Version { epoch: 1, run: 1, seq }, true)
    }

    #[test]
    fn the_end_of_one_of_two_follows_of_a_board_leaves_the_other_its_standing() {
        let session = Presence::default().enter(arrival(7, "a"));
        let all = |pattern: &Pattern| *pattern == Pattern::all();
        let standing = || session.told().ack("share/s", all).map(|ack| ack.applied.seq);
        session.follows("share/s", 1, Pattern::all());
        session.acked("share/s", ack(1, 9));
        session.follows("share/s", 2, Pattern::all());
        assert_eq!(standing(), None, "the second has not told yet what it holds");
        session.acked("share/s", ack(2, 5));
        assert_eq!(standing(), Some(5), "a client has what the least of its follows has");
        session.follows_no_more("share/s", 2);
        assert!(session.told().follows("share/s", all));
        assert_eq!(standing(), Some(9));
        session.follows_no_more("share/s", 1);
        assert!(!session.told().follows("share/s", all));
        session.acked("share/s", ack(1, 10));
        assert!(!session.told().follows("share/s", all), "a late acknowledgement follows nothing");
    }

    #[test]
    fn who_follows_some_values_counts_once_it_acknowledges_or_is_an_agent() {
        let session = Presence::default().enter(arrival(7, "a"));
        let pattern = |text: &str| Pattern::parse(text).unwrap();
        let holds = |name: &'static str| move |pattern: &Pattern| pattern.matches(name.as_bytes());
        session.follows("data", 1, pattern("price*"));
        session.follows("data", 2, pattern("x"));
        assert!(!session.told().follows("data", holds("price/a")), "a command");
        session.acked("data", ack(1, 9));
        assert!(session.told().follows("data", holds("price/a")) && !session.told().follows("data", holds("x")));
        assert_eq!(session.told().ack("data", holds("price/a")).unwrap().applied.seq, 9);
        assert!(session.told().ack("data", holds("y")).is_none());
        assert_eq!(session.told().kept_values().count(), 0);
        session.sampled(Vitals::default(), Instant::now());
        assert!(session.told().follows("data", holds("x")), "an agent");
        session.follows("data", 3, pattern("two\nlines*"));
        assert_eq!(session.told().kept_values().collect::<Vec<_>>(), ["price*", "x"]);
        (10..100).for_each(|fid| session.follows("data", fid, pattern(&format!("{fid}*"))));
        assert_eq!(session.told().kept_values().count(), KEPT_VALUES_MAX);
    }

    #[test]
    fn vitals_beyond_the_limit_are_dropped_and_those_of_an_agent_never() {
        let session = Presence::default().enter(arrival(7, "a"));
        let start = Instant::now();
        let at = |ms: u64| session.sampled(Vitals::default(), start + Duration::from_millis(ms));
        assert_eq!(at(0), Sampled::First);
        let burst = (0..1000).filter(|_| at(0) != Sampled::TooMany).count();
        assert_eq!(burst, VITALS_BURST as usize - 1);
        let taken = (0..10_000).filter(|n| at(1 + n) != Sampled::TooMany).count();
        assert_eq!(taken, 10_000 / 250, "of one each millisecond");
        assert!((0..100).all(|n| at(20_000 + 1000 * n) == Sampled::Taken));
    }

    #[tokio::test]
    async fn a_guest_comes_in_only_where_nobody_is_and_makes_room_without_a_word_of_two_machines() {
        let presence = Presence::default();
        let guest = presence.enter_as_guest(arrival(7, "a")).ok().unwrap();
        assert!(presence.enter_as_guest(arrival(7, "b")).is_err_and(|present| present.serial == guest.serial));
        let client = presence.enter(arrival(7, "c"));
        assert_eq!(guest.ended().await.code, Code::TakenOver);
        assert!(lock(&presence.takeovers).is_empty() && !presence.leave(&guest));
        assert!(presence.enter_as_guest(arrival(7, "a")).is_err_and(|present| present.serial == client.serial));
        // A session that has ended, and is still on its way out, keeps no guest from its place.
        client.end(Refusal { code: Code::TimedOut, text: String::new(), retry_ms: None });
        let guest = presence.enter_as_guest(arrival(7, "a")).ok().unwrap();
        assert!(!presence.leave(&client) && presence.leave(&guest));
    }
}
