//! Who is logged in now.
//!
//! One session an id: a second login with a valid proof takes over from the first, which is told so. A session leaves
//! only its own place (serial numbers), so one that dies late cannot take its successor off the list.

use crate::clock;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use wire::message::{Ack, Code, Refusal, Vitals};
use wire::secret::Token;

/// So many take-overs of one id within [`TAKEOVER_SPAN`] mean two machines use it.
const TAKEOVERS_SUSPICIOUS: usize = 3;
/// The span they are counted in.
const TAKEOVER_SPAN: Duration = Duration::from_secs(60);
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
    end: watch::Sender<Option<Refusal>>,
    last_seen_ms: AtomicI64,
    told: Mutex<Told>,
    attached: Arc<Semaphore>,
}

/// What a client said of itself.
#[derive(Default, Clone)]
pub(crate) struct Told {
    /// By board, of what it follows whole.
    pub(crate) follows: BTreeMap<String, Option<Ack>>,
    pub(crate) vitals: Option<Vitals>,
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

    pub(crate) fn follows(&self, board: &str) {
        lock(&self.told).follows.entry(board.to_owned()).or_insert(None);
    }

    pub(crate) fn follows_no_more(&self, board: &str) {
        lock(&self.told).follows.remove(board);
    }

    pub(crate) fn acked(&self, board: &str, ack: Ack) {
        lock(&self.told).follows.insert(board.to_owned(), Some(ack));
    }

    pub(crate) fn sampled(&self, vitals: Vitals) {
        lock(&self.told).vitals = Some(vitals);
    }
}

impl Presence {
    /// Enters a client; whoever held its id is told that it was taken over.
    pub(crate) fn enter(&self, arrival: Arrival) -> Arc<Session> {
        let session = Arc::new(Session {
            id: arrival.id,
            serial: self.serials.fetch_add(1, Ordering::Relaxed),
            token: arrival.token,
            name: arrival.name,
            address: arrival.address,
            transport: arrival.transport,
            end: watch::Sender::new(None),
            last_seen_ms: AtomicI64::new(clock::now_ms()),
            told: Mutex::default(),
            attached: Arc::new(Semaphore::new(ATTACHED_MAX)),
        });
        let before = lock(&self.sessions).insert(session.id, Arc::clone(&session));
        if let Some(before) = before {
            before.end(Refusal {
                code: Code::TakenOver,
                text: format!("id {} logged in again from {}; this session ends", session.id, session.address),
                retry_ms: None,
            });
            self.note_takeover(&before, &session);
        }
        session
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

    pub(crate) fn count(&self) -> usize {
        lock(&self.sessions).len()
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

    fn arrival(id: u64, address: &str) -> Arrival {
        Arrival { id, token: Token([7; 32]), name: "m".into(), address: address.into(), transport: "native" }
    }

    #[tokio::test]
    async fn a_second_login_takes_over_and_the_first_cannot_take_it_off_the_list() {
        let presence = Presence::default();
        let first = presence.enter(arrival(7, "a"));
        let second = presence.enter(arrival(7, "b"));
        assert_eq!(first.ended().await.code, Code::TakenOver);
        assert!(!presence.leave(&first));
        assert_eq!(presence.count(), 1);
        assert!(presence.leave(&second));
        assert_eq!(presence.count(), 0);
    }
}
