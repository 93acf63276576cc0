//! The hub itself: everything its connections share, and nothing of any transport.

use crate::access::Access;
use crate::audit::Audit;
use crate::begun::Begun;
use crate::clock;
use crate::counts::Counts;
use crate::data::Data;
use crate::fanout::{Extras, Group};
use crate::farewell::Farewell;
use crate::fleet::Fleet;
use crate::further::Further;
use crate::handout::Offer;
use crate::http::Ground;
use crate::limits::Live;
use crate::on::On;
use crate::presence::Presence;
use crate::roster::{Looking, Registry};
use crate::shares::Shares;
use crate::strangers::Strangers;
use crate::wake::Wakers;
use board::{Board, Pattern};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use wire::id::ClientId;
use wire::limiter::Limiter;
use wire::link::Fingerprint;
use wire::login::{Enrol, Now, Policy};
use wire::message::{Code, Refusal};
use wire::roster::Known;

/// Everything that connections share.
pub(crate) struct Hub {
    pub(crate) name: String,
    policy: RwLock<Arc<Policy>>,
    pub(crate) limits: Arc<Live>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) data_dir: PathBuf,
    pub(crate) started: Instant,
    pub(crate) started_at_ms: i64,
    pub(crate) addresses: RwLock<Vec<String>>,
    pub(crate) advertise: RwLock<Option<(String, u16)>>,
    pub(crate) presence: Presence,
    pub(crate) strangers: Strangers,
    pub(crate) further: Further,
    pub(crate) counts: Arc<Counts>,
    pub(crate) data: Data,
    pub(crate) fleet: Fleet,
    pub(crate) shares: Shares,
    pub(crate) registry: Registry,
    limiter: Mutex<Limiter>,
    groups: Mutex<Groups>,
    group_numbers: AtomicU32,
    /// Changes that are finished whether who asked for them waits for that or not.
    pub(crate) begun: Begun,
    /// Moves whenever somebody's standing does: an ack, a login, a leave.
    pub(crate) standing: watch::Sender<u64>,
    /// Rings when a table on disk is out of date.
    pub(crate) tables: Arc<Notify>,
    /// Who came in, who was turned away, and who changed what anybody may.
    pub(crate) audit: Audit,
    /// The program that machines without one may fetch; else why there is none.
    pub(crate) offer: Result<Offer, Refusal>,
    /// Commands that are run when something happens.
    pub(crate) on: On,
    /// Moves when a client or a token was revoked, rights were changed, or a share went: whoever is served looks whether it still is
    /// let in, and whether what it follows is still there.
    pub(crate) revoked: watch::Sender<()>,
    /// When those who are here are to come back, once the hub stops.
    pub(crate) farewell: Farewell,
    /// Set once, when the hub stops.
    pub(crate) stopping: watch::Sender<bool>,
}

/// Who found the hub full tries again after this.
const FULL_AGAIN_MS: u64 = 10_000;

/// By the board's name, which board that is now, and the pattern.
type Groups = HashMap<(String, BoardId, Pattern), Weak<Group>>;

/// Tells boards apart that came to one name, as a share does that was taken away and came back. Good as long as somebody has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BoardId(usize);

/// What a [`Hub`] is made of.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) policy: Policy,
    pub(crate) limits: Arc<Live>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) data_dir: PathBuf,
    pub(crate) data: Data,
    pub(crate) shares: Shares,
    pub(crate) fleet: Fleet,
    pub(crate) registry: Registry,
    pub(crate) tables: Arc<Notify>,
    pub(crate) audit: Audit,
    pub(crate) offer: Result<Offer, Refusal>,
}

/// A board that can be followed: how it is called, who wakes, and what goes along.
pub(crate) struct Followable {
    pub(crate) board: Board,
    pub(crate) wakers: Arc<Wakers>,
    extras: Option<Arc<dyn Extras>>,
}

impl Followable {
    pub(crate) fn id(&self) -> BoardId {
        BoardId(Arc::as_ptr(&self.wakers).addr())
    }
}

impl Hub {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            name: parts.name,
            policy: RwLock::new(Arc::new(parts.policy)),
            strangers: Strangers::new(Arc::clone(&parts.limits)),
            further: Further::default(),
            limits: parts.limits,
            fingerprint: parts.fingerprint,
            data_dir: parts.data_dir,
            started: clock::now(),
            started_at_ms: clock::now_ms(),
            addresses: RwLock::default(),
            advertise: RwLock::default(),
            presence: Presence::default(),
            counts: Arc::default(),
            data: parts.data,
            fleet: parts.fleet,
            shares: parts.shares,
            registry: parts.registry,
            limiter: Mutex::new(Limiter::new()),
            groups: Mutex::default(),
            group_numbers: AtomicU32::new(1),
            begun: Begun::default(),
            standing: watch::Sender::new(0),
            tables: parts.tables,
            audit: parts.audit,
            offer: parts.offer,
            on: On::default(),
            revoked: watch::Sender::new(()),
            farewell: Farewell::default(),
            stopping: watch::Sender::new(false),
        }
    }

    /// What a listener of HTTP needs of it.
    pub(crate) fn ground(&self) -> Ground {
        let (strangers, counts) = (self.strangers.clone(), Arc::clone(&self.counts));
        Ground { strangers, counts, signed: Default::default(), stopping: self.stopping.subscribe() }
    }

    /// What is said and allowed at the door, as it is now.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who may enrol from now on; whether that is a change. Logins that are under way are held to it as well.
    pub(crate) fn set_enrol(&self, enrol: Enrol) -> bool {
        let mut policy = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        let changed = policy.enrol != enrol;
        if changed {
            *policy = Arc::new(Policy { enrol, ..Policy::clone(&policy) });
        }
        changed
    }

    /// Whether nobody but who is here already can log in.
    pub(crate) fn is_full(&self, id: ClientId) -> Option<Refusal> {
        let most = self.limits.get().clients;
        if (self.presence.count(&Access::everything()) as u64) < most || self.presence.get(id.get()).is_some() {
            return None;
        }
        let text = format!("this hub is full: {most} clients are logged in (--max-clients); try again later");
        Some(Refusal { code: Code::Full, text, retry_ms: Some(FULL_AGAIN_MS) })
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
            let text = format!("this hub has no {name}; it shares: {}", self.shares.known(access));
            Refusal { code: Code::NotFound, text, retry_ms: None }
        })?;
        Ok((what, pattern))
    }

    /// Whether there is a board of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.followable(name).is_some()
    }

    /// Whether a board is still the one that it was.
    pub(crate) fn is_still(&self, name: &str, id: BoardId) -> bool {
        self.followable(name).is_some_and(|now| now.id() == id)
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
                let extras: Arc<dyn Extras> = Arc::clone(&share) as Arc<dyn Extras>;
                Some(Followable { board: share.board.clone(), wakers: Arc::clone(&share.wakers), extras: Some(extras) })
            }
        }
    }

    /// The group of all who follow `pattern` of a board.
    pub(crate) fn group(&self, name: &str, what: &Followable, pattern: &Pattern) -> Arc<Group> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, group| group.strong_count() > 0);
        let key = (name.to_owned(), what.id(), pattern.clone());
        if let Some(group) = groups.get(&key).and_then(Weak::upgrade) {
            return group;
        }
        let number = self.group_numbers.fetch_add(1, Ordering::Relaxed);
        let group = Arc::new(Group::new(
            number,
            what.board.clone(),
            pattern.clone(),
            what.extras.clone(),
            Arc::clone(&self.counts),
        ));
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
    use crate::shares::Shares;
    use board::{MemoryStore, OpenOptions, Writer};
    use std::path::Path;
    use std::sync::Arc;
    use tokio::sync::Notify;
    use wire::link::Fingerprint;
    use wire::login::{Enrol, Policy};

    /// As [`hub`], with a new roster in `dir`; and what has to be kept as long as it is used.
    pub(crate) fn opened(dir: &Path) -> (Arc<Hub>, impl Sized) {
        let tables = Arc::new(Notify::new());
        let (registry, roster) = Registry::start(&dir.join("roster.db"), Arc::clone(&tables)).unwrap();
        let (hub, data) = hub("hub", dir, registry, tables);
        (hub, (data, roster))
    }

    /// An open one without shares and listeners, its values in memory.
    pub(crate) fn hub(name: &str, data_dir: &Path, registry: Registry, tables: Arc<Notify>) -> (Arc<Hub>, DataThread) {
        let options = OpenOptions { durable: false, boot_id: String::new(), entropy: Box::new(|| 7) };
        let (data, thread) = Data::start(Writer::open(Box::new(MemoryStore), options).unwrap(), Arc::default());
        let hub = Hub::new(Parts {
            name: name.to_owned(),
            policy: Policy::new("hub", "test", Enrol::Open),
            limits: Arc::default(),
            fingerprint: Fingerprint::of(b"key"),
            data_dir: data_dir.to_owned(),
            data,
            shares: Shares::default(),
            fleet: Fleet::new().unwrap(),
            registry,
            tables,
            audit: Audit::open(data_dir).unwrap(),
            offer: Err(crate::handout::not_offered("there is no program here")),
        });
        (Arc::new(hub), thread)
    }
}
