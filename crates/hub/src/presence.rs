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
/// Questions of one session that wait for everybody, over all its connections: each is looked at again whenever anybody's standing
/// moves, and may name thousands.
const WAITS_MAX: usize = 16;
/// Who waits for too much asks again after this.
const WAIT_AGAIN_MS: u64 = 1000;

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
    /// Two machines seem to use this id: it was taken over once too often.
    pub(crate) doubled: bool,
    /// When it came in.
    pub(crate) began: Instant,
    end: watch::Sender<Option<Refusal>>,
    last_seen_ms: AtomicI64,
    /// Shared with whoever looks at it; changed in a copy where somebody does.
    told: Mutex<Arc<Told>>,
    attached: Arc<Semaphore>,
    waits: Arc<Semaphore>,
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

/// Something that a client follows, and how it stands there.
#[derive(Clone)]
pub(crate) struct Follow {
    pub(crate) board: String,
    fid: Number,
    pub(crate) pattern: Pattern,
    pub(crate) ack: Option<Ack>,
    /// When it began.
    pub(crate) since: Instant,
    /// Since when there have been problems.
    pub(crate) problems_since: Option<Instant>,
    /// Since when its root has not agreed.
    pub(crate) root_since: Option<Instant>,
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
    /// Whether it is here only by a stream it reads.
    pub(crate) fn is_guest(&self) -> bool {
        self.guest
    }

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

    /// How many further connections it has.
    pub(crate) fn attached(&self) -> usize {
        ATTACHED_MAX.saturating_sub(self.attached.available_permits())
    }

    /// A place for one more question that waits for everybody, until it is dropped.
    ///
    /// # Errors
    /// When it has too many.
    pub(crate) fn to_wait(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.waits).try_acquire_owned().map_err(|_| {
            let text = format!("id {} waits for {WAITS_MAX} things at once already: wait for fewer", self.id);
            Refusal { code: Code::Full, text, retry_ms: Some(WAIT_AGAIN_MS) }
        })
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

    pub(crate) fn told(&self) -> Arc<Told> {
        Arc::clone(&lock(&self.told))
    }

    pub(crate) fn follows(&self, board: &str, fid: Number, pattern: Pattern) {
        let (since, problems_since, root_since) = (clock::now(), None, None);
        let follow = Follow { board: board.to_owned(), fid, pattern, ack: None, since, problems_since, root_since };
        let mut told = lock(&self.told);
        let told = Arc::make_mut(&mut told);
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
        let told = Arc::make_mut(&mut told);
        if let Ok(at) = told.place(board, fid) {
            told.follows.remove(at);
        }
    }

    pub(crate) fn acked(&self, board: &str, ack: Ack) {
        let mut told = lock(&self.told);
        let told = Arc::make_mut(&mut told);
        if let Ok(at) = told.place(board, ack.fid) {
            let follow = &mut told.follows[at];
            let since = |is: bool, before: Option<Instant>| is.then(|| before.unwrap_or_else(clock::now));
            follow.problems_since = since(ack.problems > 0, follow.problems_since);
            follow.root_since = since(ack.root_agrees == Some(false), follow.root_since);
            follow.ack = Some(ack);
        }
    }

    pub(crate) fn sampled(&self, vitals: Vitals, now: Instant) -> Sampled {
        let mut told = lock(&self.told);
        let told = Arc::make_mut(&mut told);
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

    /// All that is followed.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Follow> {
        self.follows.iter()
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

    /// How it stands with what `meant` says of a board; of several follows, by the one that is least far.
    pub(crate) fn follow(&self, board: &str, meant: impl Fn(&Pattern) -> bool) -> Option<&Follow> {
        self.counted(board, meant).min_by_key(|follow| follow.ack.as_ref().map(|ack| ack.applied.seq))
    }

    /// What was acknowledged there.
    pub(crate) fn ack(&self, board: &str, meant: impl Fn(&Pattern) -> bool) -> Option<&Ack> {
        self.follow(board, meant)?.ack.as_ref()
    }

    /// Whether nothing was followed and nothing reported: so a command that comes and goes.
    pub(crate) fn is_nothing(&self) -> bool {
        self.follows.is_empty() && self.vitals.is_none()
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
        let doubled = took_over.is_some() && self.is_doubled(arrival.id);
        let session = self.session(arrival, false, took_over, doubled);
        let before = sessions.insert(session.id, Arc::clone(&session));
        drop(sessions);
        if let Some(before) = before {
            before.end(Refusal {
                code: Code::TakenOver,
                text: format!("id {} logged in again from {}; this session ends", session.id, session.address),
                retry_ms: None,
            });
            if !before.guest {
                log_takeover(&before, &session);
            }
        }
        session
    }

    /// Enters a client that only reads a stream, where it has no other session.
    ///
    /// # Errors
    /// With the session that it has.
    pub(crate) fn enter_as_guest(&self, arrival: Arrival) -> Result<Arc<Session>, Arc<Session>> {
        let session = self.session(arrival, true, None, false);
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

    fn session(&self, arrival: Arrival, guest: bool, took_over: Option<String>, doubled: bool) -> Arc<Session> {
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
            doubled,
            began: clock::now(),
            end: watch::Sender::new(None),
            last_seen_ms: AtomicI64::new(clock::now_ms()),
            told: Mutex::default(),
            attached: Arc::new(Semaphore::new(ATTACHED_MAX)),
            waits: Arc::new(Semaphore::new(WAITS_MAX)),
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

    /// An id is taken over; whether that is so often that two machines must use it. Then it is counted from the beginning.
    fn is_doubled(&self, id: u64) -> bool {
        let now = clock::now();
        let mut takeovers = lock(&self.takeovers);
        let seen = takeovers.entry(id).or_default();
        seen.push_back(now);
        while seen.front().is_some_and(|at| now.duration_since(*at) > TAKEOVER_SPAN) {
            seen.pop_front();
        }
        let doubled = seen.len() >= TAKEOVERS_SUSPICIOUS;
        if doubled {
            seen.clear();
        }
        takeovers.retain(|_, seen| !seen.is_empty());
        doubled
    }
}

/// Says so when one id goes back and forth between two machines.
fn log_takeover(before: &Session, after: &Session) {
    if after.doubled {
        tracing::error!(
            id = after.id,
            first = %before.address,
            second = %after.address,
            "id {} is used by two machines: {} and {}; give one of them an id of its own (lockstep join --id auto)",
            after.id, before.address, after.address
        );
    } else {
        tracing::warn!(id = after.id, from = %before.address, to = %after.address, "taken over");
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
        assert_eq!(second.took_over.as_deref(), Some("a"));
        assert_eq!(first.ended().await.code, Code::TakenOver);
        assert!(!presence.leave(&first));
        assert_eq!(presence.count(&Access::everything()), 1);
        assert!(presence.leave(&second));
        assert_eq!(presence.count(&Access::everything()), 0);
    }

    #[test]
    fn the_third_take_over_of_a_minute_means_two_machines_and_it_is_counted_anew() {
        let presence = Presence::default();
        let doubled = |n: u64| presence.enter(arrival(7, &n.to_string())).doubled;
        assert_eq!((0..8).map(doubled).collect::<Vec<_>>(), [false, false, false, true, false, false, true, false]);
        assert!(!presence.enter(arrival(8, "elsewhere")).doubled);
    }

    #[test]
    fn how_long_there_have_been_problems_is_not_moved_by_further_acknowledgements() {
        let session = Presence::default().enter(arrival(7, "a"));
        session.follows("share/s", 1, Pattern::all());
        let since = |problems| {
            session.acked("share/s", Ack { problems, root_agrees: Some(problems == 0), ..ack(1, 9) });
            let told = session.told();
            let follow = told.follow("share/s", |_| true).unwrap();
            assert_eq!(follow.problems_since.is_some(), follow.root_since.is_some());
            follow.problems_since
        };
        let first = since(1);
        assert!(first.is_some() && since(2) == first && since(0).is_none() && since(1) >= first);
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
