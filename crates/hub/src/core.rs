//! The hub itself: everything its connections share, and nothing of any transport.

use crate::access::Access;
use crate::audit::Audit;
use crate::clock;
use crate::counts::Counts;
use crate::data::Data;
use crate::fanout::{Extras, Group};
use crate::fleet::Fleet;
use crate::http::Ground;
use crate::presence::Presence;
use crate::roster::{Looking, Registry};
use crate::share::Share;
use crate::strangers::Strangers;
use crate::wake::Wakers;
use board::{Board, Pattern};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use wire::id::ClientId;
use wire::limiter::Limiter;
use wire::link::Fingerprint;
use wire::login::{Now, Policy};
use wire::message::{Code, Refusal};
use wire::roster::Known;

/// Everything that connections share.
pub(crate) struct Hub {
    pub(crate) name: String,
    pub(crate) policy: Policy,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) data_dir: PathBuf,
    pub(crate) started: Instant,
    pub(crate) started_at_ms: i64,
    pub(crate) addresses: RwLock<Vec<String>>,
    pub(crate) advertise: RwLock<Option<(String, u16)>>,
    pub(crate) presence: Presence,
    pub(crate) strangers: Strangers,
    pub(crate) counts: Arc<Counts>,
    pub(crate) data: Data,
    pub(crate) fleet: Fleet,
    pub(crate) shares: BTreeMap<String, Arc<Share>>,
    pub(crate) registry: Registry,
    limiter: Mutex<Limiter>,
    groups: Mutex<Groups>,
    group_numbers: AtomicU32,
    /// Moves whenever somebody's standing does: an ack, a login, a leave.
    pub(crate) standing: watch::Sender<u64>,
    /// Rings when a table on disk is out of date.
    pub(crate) tables: Arc<Notify>,
    /// Who came in, who was turned away, and who changed what anybody may.
    pub(crate) audit: Audit,
    /// Moves when a client or a token was revoked, or rights were changed: whoever is served looks whether it still is let in.
    pub(crate) revoked: watch::Sender<()>,
    /// Set once, when the hub stops.
    pub(crate) stopping: watch::Sender<bool>,
}

/// By board and pattern.
type Groups = HashMap<(String, Pattern), Weak<Group>>;

/// What a [`Hub`] is made of.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) policy: Policy,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) data_dir: PathBuf,
    pub(crate) data: Data,
    pub(crate) shares: BTreeMap<String, Arc<Share>>,
    pub(crate) fleet: Fleet,
    pub(crate) registry: Registry,
    pub(crate) tables: Arc<Notify>,
    pub(crate) audit: Audit,
}

/// A board that can be followed: how it is called, who wakes, and what goes along.
pub(crate) struct Followable {
    pub(crate) board: Board,
    pub(crate) wakers: Arc<Wakers>,
    extras: Option<Arc<dyn Extras>>,
}

impl Hub {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            name: parts.name,
            policy: parts.policy,
            fingerprint: parts.fingerprint,
            data_dir: parts.data_dir,
            started: clock::now(),
            started_at_ms: clock::now_ms(),
            addresses: RwLock::default(),
            advertise: RwLock::default(),
            presence: Presence::default(),
            strangers: Strangers::default(),
            counts: Arc::default(),
            data: parts.data,
            fleet: parts.fleet,
            shares: parts.shares,
            registry: parts.registry,
            limiter: Mutex::new(Limiter::new()),
            groups: Mutex::default(),
            group_numbers: AtomicU32::new(1),
            standing: watch::Sender::new(0),
            tables: parts.tables,
            audit: parts.audit,
            revoked: watch::Sender::new(()),
            stopping: watch::Sender::new(false),
        }
    }

    /// What a listener of HTTP needs of it.
    pub(crate) fn ground(&self) -> Ground {
        let (strangers, counts) = (self.strangers.clone(), Arc::clone(&self.counts));
        Ground { strangers, counts, stopping: self.stopping.subscribe() }
    }

    /// The time of a login's step.
    pub(crate) fn now(&self) -> Now {
        Now { clock: clock::now().duration_since(self.started), wall_ms: clock::now_ms() }
    }

    /// What is left of a time of [`Hub::now`]'s clock.
    pub(crate) fn until(&self, at: Duration) -> Duration {
        at.saturating_sub(clock::now().duration_since(self.started))
    }

    /// Who is known, to be looked at.
    pub(crate) fn roster(&self) -> Looking<'_> {
        self.registry.look()
    }

    pub(crate) fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a client may, as of now.
    pub(crate) fn access_of(&self, id: ClientId) -> Access {
        let roster = self.roster();
        let known = roster.client(id).filter(|client| client.known != Known::Revoked);
        known.map_or_else(|| Access::nothing(id), |client| Access::of(id, &client.rights))
    }

    /// The board called `name`, as clients call it, and what of `pattern` whoever asks may follow: the only way to one.
    ///
    /// # Errors
    /// When it may follow nothing of it, or there is no such board.
    pub(crate) fn to_follow(
        &self,
        name: &str,
        pattern: Pattern,
        access: &Access,
    ) -> Result<(Followable, Pattern), Refusal> {
        let pattern = access.to_follow(name, pattern)?;
        let what = self.followable(name).ok_or_else(|| {
            let known: Vec<&str> = self.shares.keys().map(String::as_str).filter(|share| access.joins(share)).collect();
            let text = format!("this hub has no {name}; it shares: {}", known.join(", "));
            Refusal { code: Code::NotFound, text, retry_ms: None }
        })?;
        Ok((what, pattern))
    }

    fn followable(&self, name: &str) -> Option<Followable> {
        match name {
            "data" => {
                Some(Followable { board: self.data.board.clone(), wakers: Arc::clone(&self.data.wakers), extras: None })
            }
            "fleet" => Some(Followable {
                board: self.fleet.board.clone(),
                wakers: Arc::clone(&self.fleet.wakers),
                extras: None,
            }),
            _ => {
                let share = self.shares.get(name.strip_prefix("share/")?)?;
                let extras: Arc<dyn Extras> = Arc::clone(share) as Arc<dyn Extras>;
                Some(Followable { board: share.board.clone(), wakers: Arc::clone(&share.wakers), extras: Some(extras) })
            }
        }
    }

    /// The group of all who follow `pattern` of a board.
    pub(crate) fn group(&self, name: &str, what: &Followable, pattern: &Pattern) -> Arc<Group> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, group| group.strong_count() > 0);
        let key = (name.to_owned(), pattern.clone());
        if let Some(group) = groups.get(&key).and_then(Weak::upgrade) {
            return group;
        }
        let number = self.group_numbers.fetch_add(1, Ordering::Relaxed);
        let group = Arc::new(Group::new(number, what.board.clone(), pattern.clone(), what.extras.clone()));
        groups.insert(key, Arc::downgrade(&group));
        group
    }

    /// Somebody's standing moved: who waits looks again.
    pub(crate) fn moved(&self) {
        self.standing.send_modify(|n| *n = n.wrapping_add(1));
    }
}

/// Hubs for tests of what needs one.
#[cfg(test)]
pub(crate) mod testing {
    use super::{Audit, Hub, Parts};
    use crate::data::{Data, DataThread};
    use crate::fleet::Fleet;
    use crate::roster::Registry;
    use board::{MemoryStore, OpenOptions, Writer};
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;
    use tokio::sync::Notify;
    use wire::link::Fingerprint;
    use wire::login::{Enrol, Policy};

    /// An open one without shares and listeners, its values in memory.
    pub(crate) fn hub(name: &str, data_dir: &Path, registry: Registry, tables: Arc<Notify>) -> (Arc<Hub>, DataThread) {
        let options = OpenOptions { durable: false, boot_id: String::new(), entropy: Box::new(|| 7) };
        let (data, thread) = Data::start(Writer::open(Box::new(MemoryStore), options).unwrap());
        let hub = Hub::new(Parts {
            name: name.to_owned(),
            policy: Policy::new("hub", "test", Enrol::Open),
            fingerprint: Fingerprint::of(b"key"),
            data_dir: data_dir.to_owned(),
            data,
            shares: BTreeMap::new(),
            fleet: Fleet::new().unwrap(),
            registry,
            tables,
            audit: Audit::open(data_dir).unwrap(),
        });
        (Arc::new(hub), thread)
    }
}
