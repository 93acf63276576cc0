//! One share, or some values, as the agent holds them: what the hub says should be (the replica), what stands on the disk
//! (as it was read back), and what lies between the two: contents on their way, and problems.
//!
//! The replica is by the board's names, all else by paths; what one means to the other is [`view`]'s. It is the engine's source ([`source`]). It decides nothing about when to look; [`crate::keeper`] does.
//!
//! What comes from the hub is not trusted: a name that is no path, or an entry that could not stand on a disk, becomes
//! a problem of its own and touches nothing.

mod edits;
mod names;
mod root;
mod source;
mod view;

pub(crate) use edits::Edits;
pub(crate) use source::TOO_EARLY;
pub(crate) use view::View;

use crate::awaiting::Awaiting;
use crate::placed::Placed;
use board::{Batch, Change, Held, Replica, ReplicaError};
use bytes::Bytes;
use mirror::settle::LAST_RESORT;
use mirror::{Dirty, dirty};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;
use tree::{ContentId, Dir, RelPath, RootHash, Stat};

/// How many places of one content are remembered: enough to find it, few enough that a thousand empty files cost
/// nothing.
const PLACES_MAX: usize = 4;
/// By when a watch has told of every change: the longest that a change is held back while it settles, and as much again.
const CONFIRM_NS: i64 = 10_000_000_000;
const _: () = assert!(CONFIRM_NS.unsigned_abs() as u128 == 2 * LAST_RESORT.as_nanos());
/// What was read back within so long is confirmed at once.
const CONFIRM_GATHER_NS: i64 = 200_000_000;

/// A content that came from the hub, verified.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// All of it; what is counted against the limit of contents under way goes back when it is dropped.
    Bytes(Bytes, Option<tokio::sync::OwnedSemaphorePermit>),
    /// A file in the destination's file system that has no name yet.
    Unnamed(File),
    /// A file to copy from, where the file system has no files without a name.
    Copy(File, Stat),
}

/// A content to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its id.
    pub(crate) content: ContentId,
    /// Its length in bytes.
    pub(crate) size_bytes: u64,
    /// Where it is to stand: an older version there may hold most of it.
    pub(crate) path: RelPath,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Holding {
    view: View,
    replica: Replica,
    dest: Dir,
    dest_path: PathBuf,
    pin: mirror::guard::Pin,
    /// What is known of names that are no longer wanted and not gone yet.
    leaving: BTreeMap<board::Name, Placed>,
    /// Some of the names where a content stands.
    places: HashMap<ContentId, Vec<board::Name>>,
    awaiting: Awaiting,
    edits: edits::Edits,
    problems: BTreeMap<board::Name, String>,
    /// Of which the hub says that it does not know what stands there: nothing at or below them is touched.
    unknown: BTreeSet<board::Name>,
    /// Sum over what is known of wanted names; of no use while `sum_lost`.
    sum: RootHash,
    sum_lost: bool,
    /// Read back lately, so that a change right after may not show in the time stamps.
    fresh: VecDeque<(board::Name, i64)>,
    /// Until the first `current` nothing is deleted.
    may_delete: bool,
    deletes_put_off: bool,
    /// The lowest seq of a file that was put in place since it was last asked for.
    placed_low: Option<u64>,
    /// A racy identity counts for nothing: there was no watch to tell of a change since.
    distrust_racy: bool,
    hash_buffer: Vec<u8>,
}

impl Holding {
    /// What `view` says of a replica that was loaded, and its destination.
    ///
    /// # Errors
    /// When the destination does not say what it is.
    pub(crate) fn new(
        view: View,
        replica: Replica,
        dest: Dir,
        dest_path: PathBuf,
    ) -> Result<Holding, tree::fsx::Error> {
        let pin = mirror::guard::Pin::new(dest.file_system_id()?, &dest.stat_self()?);
        let mut holding = Holding {
            view,
            replica,
            dest,
            dest_path,
            pin,
            leaving: BTreeMap::new(),
            places: HashMap::new(),
            awaiting: Awaiting::default(),
            edits: edits::Edits::default(),
            problems: BTreeMap::new(),
            unknown: BTreeSet::new(),
            sum: RootHash::default(),
            sum_lost: true,
            fresh: VecDeque::new(),
            may_delete: false,
            deletes_put_off: false,
            placed_low: None,
            distrust_racy: true,
            hash_buffer: Vec::new(),
        };
        let mut known = Vec::new();
        let mut refused = Vec::new();
        let mut unknown = BTreeSet::new();
        for (name, held) in holding.replica.iter_from(b"") {
            holding.view.note(name);
            let key = holding.view.key(name);
            if holding.view.is_unknown(&held.value) {
                unknown.insert(key.clone());
            }
            known.extend(Placed::decode(&held.aside).and_then(|p| p.content()).map(|content| (content, key.clone())));
            refused.extend(holding.view.refuses(name, &held.value).map(|why| (key, why)));
        }
        for (content, key) in known {
            holding.remember_place(content, key);
        }
        holding.problems.extend(refused);
        holding.unknown = unknown;
        Ok(holding)
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    pub(crate) fn replica_mut(&mut self) -> &mut Replica {
        &mut self.replica
    }

    /// The content that a record brings with it, of values.
    pub(crate) fn content_of(&self, record: &board::Record) -> Option<Bytes> {
        self.view.content(record.value.as_ref()?)
    }

    /// Forgets what is known of the disk of every entry above `seq`: it may not have survived.
    pub(crate) fn distrust_above(&mut self, seq: u64) {
        let names: Vec<_> = self
            .replica
            .iter_from(b"")
            .filter(|(_, held)| held.seq > seq || held.seq == 0)
            .map(|(name, _)| self.view.key(name))
            .collect();
        for name in names {
            self.forget(&name);
        }
        self.sum_lost = true;
    }

    /// Forgets what is known of the disk altogether: the copy begins anew, in another directory.
    pub(crate) fn distrust_all(&mut self) {
        self.distrust_above(0);
    }

    /// From here on a watch tells of changes, so identities are trusted however young they are.
    pub(crate) fn watched(&mut self) {
        self.distrust_racy = false;
    }

    /// From here on what is not wanted is deleted, or no longer.
    pub(crate) fn allow_deletes(&mut self, allow: bool) {
        self.may_delete = allow;
    }

    /// Whether something was not deleted because it was too early; asked once.
    pub(crate) fn take_put_off(&mut self) -> bool {
        std::mem::take(&mut self.deletes_put_off)
    }

    /// Takes a batch, and marks in `dirty` where to look for it.
    ///
    /// # Errors
    /// When it does not follow on what was seen. Nothing has changed.
    pub(crate) fn take(
        &mut self,
        batch: &Batch,
        inline: Vec<(ContentId, Bytes)>,
        dirty: &mut Dirty,
    ) -> Result<(), ReplicaError> {
        // What is known of a name goes from the replica with its value, so it is looked up before.
        let mut going: HashMap<board::Name, Option<Placed>> = HashMap::new();
        for record in batch.records.iter().filter(|record| record.value.is_none()) {
            going.insert(record.name.clone(), self.known(&self.view.key(&record.name)));
        }
        let changes = self.replica.apply(batch)?;
        // Not verified here: the engine gives a name to nothing that has not the hash that is wanted.
        self.awaiting.take_inline(inline);
        for change in changes {
            self.take_change(&change, going.remove(&change.name).flatten(), dirty);
        }
        Ok(())
    }

    fn take_change(&mut self, change: &Change, known: Option<Placed>, dirty: &mut Dirty) {
        let Change { name, old, new, dropped } = change;
        let key = &self.view.key(name);
        self.awaiting.stop_waiting(key);
        self.edits.forget(key);
        self.problems.remove(key);
        let mut became_known = false;
        if new.as_ref().is_some_and(|value| self.view.is_unknown(value)) {
            self.unknown.insert(key.clone());
        } else {
            became_known = self.unknown.remove(key);
        }
        match new {
            None => {
                self.view.forget(name);
                if *dropped {
                    self.sum_lost = true;
                } else if let Some(placed) = known {
                    self.sum_remove(key, &placed);
                    self.leaving.insert(key.clone(), placed);
                }
            }
            Some(value) => {
                self.view.note(name);
                if let Some(why) = self.view.refuses(name, value) {
                    self.problems.insert(key.clone(), why);
                    return;
                }
                if old.is_none()
                    && let Some(placed) = self.leaving.remove(key)
                {
                    self.note(key, &placed);
                }
            }
        }
        let Ok(path) = RelPath::new(&key[..]) else { return };
        if became_known && new.is_some() {
            // Whatever happened below it meanwhile was left alone.
            dirty.insert_all(&path, dirty::All { recursive: true, content: false });
        }
        match path.split() {
            None => dirty.insert_root_entry(),
            Some((dir, name)) => {
                dirty.insert(&dir, &name, dirty::Hint { content: false, by_event: true });
                if new.is_none() && !dropped {
                    dirty.insert_removed(&dir, &name);
                    self.mark_left_over(dir, dirty);
                }
            }
        }
    }

    /// A directory whose removal came in an earlier batch than that of what was in it stood only for that: marks it, and
    /// those above of which that is true.
    fn mark_left_over(&self, mut path: RelPath, dirty: &mut Dirty) {
        while self.held(path.as_bytes()).is_none()
            && let Some((dir, name)) = path.split()
        {
            dirty.insert(&dir, &name, dirty::Hint { content: false, by_event: true });
            dirty.insert_removed(&dir, &name);
            path = dir;
        }
    }

    /// A content came: where it is waited for is to be looked at. `false` when nobody waits any more.
    pub(crate) fn arrive(&mut self, content: ContentId, arrived: Arrived, dirty: &mut Dirty) -> bool {
        self.mark_waiting(content, dirty);
        self.awaiting.arrive(content, arrived)
    }

    /// Marks where `content` is waited for.
    fn mark_waiting(&self, content: ContentId, dirty: &mut Dirty) {
        for (dir, name) in
            self.awaiting.names_of(content).iter().filter_map(|name| RelPath::new(&name[..]).ok()?.split())
        {
            dirty.insert(&dir, &name, dirty::Hint { content: false, by_event: true });
        }
    }

    /// The hub cannot give a content (now): whoever still waits is marked in `later`, and asks again then.
    pub(crate) fn gone(&mut self, content: ContentId, later: &mut Dirty) {
        self.mark_waiting(content, later);
        self.awaiting.ended(content);
    }

    /// A content came to nothing: that is a problem of each name that waits, and they are marked in `later`. The paths.
    pub(crate) fn refuse(&mut self, content: ContentId, why: &str, later: &mut Dirty) -> Vec<RelPath> {
        self.mark_waiting(content, later);
        let paths: Vec<RelPath> =
            self.awaiting.names_of(content).iter().filter_map(|name| RelPath::new(&name[..]).ok()).collect();
        for path in &paths {
            self.fail(path, why.to_owned());
        }
        paths
    }

    /// After a round: what is to be fetched, what nobody needs any more, and in `dirty` where to look once more because
    /// a content that was waited for has got a place by now.
    pub(crate) fn after_round(&mut self, dirty: &mut Dirty) -> (Vec<Wanted>, Vec<ContentId>) {
        let came = self.awaiting.end_round();
        let orders = self.orders();
        for content in came {
            // Who still waits takes it from its place now, or asks again: then it was here and a problem kept it out.
            self.mark_waiting(content, dirty);
            self.awaiting.ended(content);
        }
        orders
    }

    /// What is to be fetched, and what nobody needs any more; each told once.
    pub(crate) fn orders(&mut self) -> (Vec<Wanted>, Vec<ContentId>) {
        self.awaiting.take_orders()
    }

    /// What came along with entries is not needed now; what of it is needed later is fetched.
    pub(crate) fn drop_inline(&mut self) {
        self.awaiting.drop_inline();
    }

    /// How many names wait for their content.
    pub(crate) fn waiting(&self) -> usize {
        self.awaiting.len()
    }

    /// Up to which seq everything is in place, or is a problem.
    pub(crate) fn applied_seq(&self) -> u64 {
        let head = self.replica.head();
        self.awaiting.lowest_seq().map_or(head, |seq| head.min(seq.saturating_sub(1)))
    }

    /// The lowest seq of a file that was put in place since this was last asked: it may not survive a power cut yet.
    pub(crate) fn take_placed_low(&mut self) -> Option<u64> {
        self.placed_low.take()
    }

    /// What could not be done, by the board's names where there are such.
    pub(crate) fn problems(&self) -> impl ExactSizeIterator<Item = (board::Name, &String)> {
        self.problems.iter().map(|(key, why)| (self.view.name(key).unwrap_or_else(|| key.clone()), why))
    }

    pub(crate) fn fail(&mut self, path: &RelPath, why: String) {
        let name = board::Name::copy_from_slice(path.as_bytes());
        self.awaiting.stop_waiting(&name);
        // All that is below what the hub does not know is one problem: it ends when that is known.
        let name = self.unknown_above(path).map_or(name, |above| board::Name::copy_from_slice(above.as_bytes()));
        self.problems.insert(name, why);
    }

    /// What the hub does not know and `path` is or lies below.
    fn unknown_above(&self, path: &RelPath) -> Option<RelPath> {
        if self.unknown.is_empty() {
            return None;
        }
        std::iter::successors(Some(path.clone()), RelPath::parent).find(|path| self.unknown.contains(path.as_bytes()))
    }

    /// Before everything that failed is tried again: what fails again is told again. What the hub said wrongly stays.
    pub(crate) fn forget_problems(&mut self) {
        let problems = std::mem::take(&mut self.problems);
        for (key, why) in problems {
            let name = self.view.name(&key).unwrap_or_else(|| key.clone());
            let refused = self.replica.get(&name).is_some_and(|held| self.view.refuses(&name, &held.value).is_some());
            if refused {
                self.problems.insert(key, why);
            }
        }
    }

    /// What was read back more than [`CONFIRM_NS`] ago has not changed since: a watch would have told by now.
    pub(crate) fn confirm_fresh(&mut self, now_ns: i64) {
        while self.fresh.front().is_some_and(|(_, at_ns)| now_ns.saturating_sub(*at_ns) > CONFIRM_NS) {
            let Some((name, _)) = self.fresh.pop_front() else { return };
            let Some(mut placed) = self.known(&name) else { continue };
            if placed.is_racy() {
                placed.confirm(now_ns);
                self.set_aside(&name, placed.encode().into());
            }
        }
    }

    /// How long until [`Holding::confirm_fresh`] has something to confirm; `None` where nothing is to be.
    pub(crate) fn fresh_for(&self, now_ns: i64) -> Option<Duration> {
        let (_, at_ns) = self.fresh.front()?;
        let wait_ns = CONFIRM_NS + CONFIRM_GATHER_NS;
        let left_ns = at_ns.saturating_add(wait_ns).saturating_sub(now_ns);
        Some(Duration::from_nanos(left_ns.clamp(0, wait_ns).unsigned_abs()))
    }

    /// What should stand at a path.
    fn held(&self, path: &[u8]) -> Option<&Held> {
        self.view.held(&self.replica, path)
    }

    /// Notes `aside` beside what should stand at a path. Whether there is such.
    fn set_aside(&mut self, path: &[u8], aside: Bytes) -> bool {
        self.view.set_aside(&mut self.replica, path, aside)
    }

    fn known(&self, path: &[u8]) -> Option<Placed> {
        match self.held(path) {
            Some(held) => Placed::decode(&held.aside),
            None => self.leaving.get(path).cloned(),
        }
    }

    /// Notes what was read back at a name.
    fn note(&mut self, name: &board::Name, placed: &Placed) {
        // Of what is leaving nothing new is worth knowing.
        if self.held(name).is_none() {
            return;
        }
        match self.known(name) {
            Some(before) if before == *placed => return,
            Some(before) => {
                self.sum_remove(name, &before);
                if before.content() != placed.content()
                    && let Some(content) = before.content()
                {
                    self.forget_place(content, name);
                }
            }
            None => {}
        }
        if !self.set_aside(name, placed.encode().into()) {
            return;
        }
        if let Ok(path) = RelPath::new(&name[..]) {
            self.sum.add(&path, &placed.entry.to_bytes());
        }
        if let Some(content) = placed.content() {
            self.remember_place(content, name.clone());
            if placed.is_racy() {
                self.fresh.push_back((name.clone(), now_ns()));
            }
        }
    }

    /// Nothing is known of a name any more.
    fn forget(&mut self, name: &board::Name) {
        let Some(placed) = self.known(name) else { return };
        if let Some(content) = placed.content() {
            self.forget_place(content, name);
        }
        if self.set_aside(name, Bytes::new()) {
            self.sum_remove(name, &placed);
        }
        self.leaving.remove(name);
    }

    fn sum_remove(&mut self, name: &[u8], placed: &Placed) {
        if let Ok(path) = RelPath::new(name) {
            self.sum.remove(&path, &placed.entry.to_bytes());
        }
    }

    fn remember_place(&mut self, content: ContentId, name: board::Name) {
        let places = self.places.entry(content).or_default();
        if places.len() < PLACES_MAX && !places.contains(&name) {
            places.push(name);
        }
    }

    fn forget_place(&mut self, content: ContentId, name: &board::Name) {
        if let Some(places) = self.places.get_mut(&content) {
            places.retain(|place| place != name);
            if places.is_empty() {
                self.places.remove(&content);
            }
        }
    }
}

/// Now, by the clock that stamps files.
pub(crate) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}
