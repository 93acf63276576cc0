//! The board as readers see it: the newest entry of each name, by name and by seq.
//!
//! Invariant: both indexes hold the same entries, none above the head, each seq once. A commit is applied under one short
//! write lock, after its store has it; so no reader waits for a disk, and none sees half a commit.
//!
//! Cost, measured by `examples/measure.rs` at 100,000 entries: 439 bytes an entry whose name has 22 bytes and whose value
//! has 64, both included.

use crate::mutant::{self, Mutant};
use crate::pattern::Pattern;
use crate::store::StoreError;
use crate::version::{Lineage, Version};
use bytes::Bytes;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering as Memory};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

/// The longest name, in bytes: as long as the longest path that a Linux system call takes.
pub const NAME_BYTES_MAX: usize = 4096;

/// A name: up to [`NAME_BYTES_MAX`] opaque bytes, ordered as such. The empty one is a share's root directory.
pub type Name = Bytes;

/// The newest entry of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name.
    pub name: Name,
    /// The number its last change was given, from 1. (In a replica's store, 0: held, but of no valid version.)
    pub seq: u64,
    /// The value; `None` is a tombstone, that of a removed name.
    pub value: Option<Bytes>,
    /// What its holder notes beside it. Never sent, may be empty, changes without a new seq.
    pub aside: Bytes,
}

/// Called with the board's head after each commit, and after the board became complete.
pub type Wake = Arc<dyn Fn(u64) + Send + Sync>;

/// A board for readers: cheap to clone, shared by all.
#[derive(Clone)]
pub struct Board(Arc<Shared>);

/// One view of a board: head and records belong together.
pub struct Index {
    lineage: Lineage,
    head: u64,
    by_name: BTreeSet<Slot>,
    by_seq: BTreeMap<u64, Name>,
    tombstones: BTreeSet<u64>,
    /// How often the board became complete.
    completions: u64,
}

struct Shared {
    index: RwLock<Index>,
    /// For each follower the seq above which it still needs tombstones.
    pins: Mutex<Vec<Weak<AtomicU64>>>,
    wakes: Mutex<Vec<Wake>>,
}

impl Board {
    pub(crate) fn new(index: Index) -> Board {
        let (index, pins, wakes) = (RwLock::new(index), Mutex::default(), Mutex::default());
        Board(Arc::new(Shared { index, pins, wakes }))
    }

    /// The newest committed version.
    pub fn version(&self) -> Version {
        self.view().version()
    }

    /// The newest committed seq.
    pub fn head(&self) -> u64 {
        self.view().head
    }

    /// The newest entry of `name`, a tombstone included.
    pub fn get(&self, name: &[u8]) -> Option<Record> {
        self.view().get(name).cloned()
    }

    /// How many names have a value.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether no name has a value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives one view to `f`. Commits wait for it, so `f` is short and calls nothing of this board.
    pub fn read<R>(&self, f: impl FnOnce(&Index) -> R) -> R {
        f(&self.view())
    }

    /// Has `wake` called with the head after each commit, and when the board became complete, for as long as the board
    /// lives. It runs on the writer's thread, outside all locks.
    pub fn on_commit(&self, wake: Wake) {
        lock(&self.0.wakes).push(wake);
    }

    /// Whether the board holds all it should: clients of an incomplete one get no `current` and drop nothing.
    pub fn complete(&self) -> bool {
        self.view().complete()
    }

    /// Says whether the board holds all that it should. Followers at the head then owe their client a `current`.
    ///
    /// It is kept with the next commit or at the close; [`Writer::set_complete`](crate::Writer::set_complete) keeps it
    /// at once.
    pub fn set_complete(&self, complete: bool) {
        let head = {
            let mut index = self.change();
            index.completions += u64::from(complete && !index.lineage.complete);
            index.lineage.complete = complete;
            index.head
        };
        if complete {
            self.wake(head);
        }
    }

    pub(crate) fn view(&self) -> RwLockReadGuard<'_, Index> {
        // A panic cannot leave the index half changed: nothing in a change can fail.
        self.0.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, Index> {
        self.0.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self, head: u64) {
        let wakes = lock(&self.0.wakes).clone();
        for wake in wakes {
            wake(head);
        }
    }

    /// Registers someone who needs the tombstones above `seq`, until the pin is dropped.
    pub(crate) fn pin(&self, seq: u64) -> Arc<AtomicU64> {
        let pin = Arc::new(AtomicU64::new(seq));
        lock(&self.0.pins).push(Arc::downgrade(&pin));
        pin
    }

    /// The lowest seq above which somebody still needs tombstones.
    pub(crate) fn lowest_pin(&self) -> u64 {
        let mut pins = lock(&self.0.pins);
        pins.retain(|pin| pin.strong_count() > 0);
        let seqs = pins.iter().filter_map(Weak::upgrade).map(|pin| pin.load(Memory::Acquire));
        if mutant::is(Mutant::PurgePastFollowers) { u64::MAX } else { seqs.min().unwrap_or(u64::MAX) }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl Index {
    /// The index of stored `records`.
    ///
    /// # Errors
    /// When a name or a seq occurs twice, a name is too long or a seq is 0: the store is damaged.
    pub(crate) fn load(lineage: Lineage, records: Vec<Record>) -> Result<Index, StoreError> {
        let count = records.len();
        let damaged = |what: &str| Err(StoreError::Other(format!("it is damaged: {what}; put back a copy of it")));
        if records.iter().any(|record| record.seq == 0 || record.name.len() > NAME_BYTES_MAX) {
            return damaged("a record has no seq or a name that is too long");
        }
        // Collecting sorts first and then packs the nodes full, which inserting one by one does not.
        let by_seq: BTreeMap<u64, Name> = records.iter().map(|record| (record.seq, record.name.clone())).collect();
        let dead = records.iter().filter(|record| record.value.is_none());
        let tombstones: BTreeSet<u64> = dead.map(|record| record.seq).collect();
        let by_name: BTreeSet<Slot> = records.into_iter().map(Slot).collect();
        if by_seq.len() != count || by_name.len() != count {
            return damaged("a name or a seq occurs twice");
        }
        let newest = by_seq.last_key_value().map_or(0, |(seq, _)| *seq);
        let head = newest.max(lineage.horizon);
        let completions = u64::from(lineage.complete);
        Ok(Index { lineage, head, by_name, by_seq, tombstones, completions })
    }

    /// The newest committed seq.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The newest committed version.
    pub fn version(&self) -> Version {
        Version { epoch: self.lineage.epoch, run: self.lineage.run, seq: self.head }
    }

    /// Whether the board holds all that it should.
    pub fn complete(&self) -> bool {
        self.lineage.complete
    }

    /// How many names have a value.
    pub fn len(&self) -> usize {
        self.by_name.len() - self.tombstones.len()
    }

    /// Whether no name has a value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest entry of `name`, a tombstone included.
    pub fn get(&self, name: &[u8]) -> Option<&Record> {
        self.by_name.get(name).map(|slot| &slot.0)
    }

    /// The names that have a value, in order, from `name` on.
    pub fn iter_from<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = &'a Record> + use<'a> {
        self.range((Bound::Included(name), Bound::Unbounded)).filter(|record| record.value.is_some())
    }

    /// The names that begin with `prefix` and have a value, in order.
    pub fn by_prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a Record> {
        self.iter_from(prefix).take_while(move |record| record.name.starts_with(prefix))
    }

    /// The newest entries above `seq` in the order of their seqs, tombstones included.
    pub fn since(&self, seq: u64) -> impl Iterator<Item = &Record> {
        let above = self.by_seq.range((Bound::Excluded(seq), Bound::Unbounded));
        above.filter_map(|(_, name)| self.get(name))
    }

    /// The entries that `pattern` may match after the name `after`, in order, tombstones included: a narrow superset, without
    /// any name that it was narrowed to leave out.
    pub(crate) fn walk<'a>(
        &'a self,
        pattern: &'a Pattern,
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a Record> + use<'a> {
        pattern.parts().flat_map(move |part| self.walk_part(part, after))
    }

    /// As [`Index::walk`], of what one pattern is written as.
    fn walk_part<'a>(&'a self, part: &'a [u8], after: Option<&'a [u8]>) -> impl Iterator<Item = &'a Record> + use<'a> {
        let (prefix, exact) = match part.strip_suffix(b"*") {
            Some(prefix) => (prefix, false),
            None => (part, true),
        };
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let end = if exact { Bound::Included(prefix) } else { Bound::Unbounded };
        // A mark of a peer may lie past the one exact name; a range must not end before it begins.
        let past = exact && after.is_some_and(|after| after >= prefix);
        let range = (!past).then(|| self.range((from, end)));
        range.into_iter().flatten().take_while(move |record| record.name.starts_with(prefix))
    }

    fn range<'a>(&'a self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> impl Iterator<Item = &'a Record> + use<'a> {
        self.by_name.range::<[u8], _>(range).map(|slot| &slot.0)
    }

    pub(crate) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    pub(crate) fn completions(&self) -> u64 {
        self.completions
    }

    pub(crate) fn set_horizon(&mut self, horizon: u64) {
        self.lineage.horizon = horizon;
    }

    /// The names of the tombstones up to `seq`.
    pub(crate) fn tombstones_upto(&self, seq: u64) -> Vec<Name> {
        self.tombstones.range(..=seq).filter_map(|seq| self.by_seq.get(seq)).cloned().collect()
    }

    /// Replaces the entries of these names and makes `head` the head.
    pub(crate) fn apply(&mut self, records: Vec<Record>, head: u64) {
        for record in records {
            if let Some(old) = self.by_name.get(&record.name[..])
                && old.0.seq != record.seq
            {
                let seq = old.0.seq;
                self.by_seq.remove(&seq);
                self.tombstones.remove(&seq);
            }
            if record.value.is_none() {
                self.tombstones.insert(record.seq);
            }
            self.by_seq.insert(record.seq, record.name.clone());
            self.by_name.replace(Slot(record));
        }
        self.head = head;
    }

    /// Takes these names out altogether.
    pub(crate) fn forget(&mut self, names: &[Name]) {
        for name in names {
            if let Some(Slot(record)) = self.by_name.take(&name[..]) {
                self.by_seq.remove(&record.seq);
                self.tombstones.remove(&record.seq);
            }
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Board");
        debug.field("version", &self.version()).field("names", &self.len()).field("complete", &self.complete());
        debug.finish_non_exhaustive()
    }
}

/// A record ordered and found by its name alone, so that the name is not kept twice.
struct Slot(Record);

impl Borrow<[u8]> for Slot {
    fn borrow(&self) -> &[u8] {
        &self.0.name
    }
}

impl Ord for Slot {
    fn cmp(&self, other: &Slot) -> Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Slot) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Slot) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Slot {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
