//! The client's side: what it holds of a board, and the cursor that it comes back with.
//!
//! - An entry not newer than what is held for its name is ignored; so a batch kept from a little earlier, and what a
//!   walk and the live way after it both bring, never take a name back. Tombstones above the cursor are remembered for it.
//! - After a reset everything held is **stale**: kept and shown, but of no seq, so that any entry replaces it. It is
//!   dropped as the walk's marks pass it unsent, what is left at the first `current`.

use crate::follower::{Batch, Mark, Start};
use crate::index::{NAME_BYTES_MAX, Name, Record};
use crate::mutant::{self, Mutant};
use crate::store::{Meta, Store, StoreError};
use crate::version::{Cursor, Version, WalkMark};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use thiserror::Error;

/// What a client holds of the names it follows. Free of I/O but for [`Replica::load`] and [`Replica::save`].
#[derive(Debug, Clone, Default)]
pub struct Replica {
    held: BTreeMap<Name, Held>,
    /// Removed names whose tombstone is above the cursor.
    removed: BTreeMap<Name, u64>,
    /// `None` before the first batch of a first or a reset start: there is then nothing to come back with.
    cursor: Option<Cursor>,
    /// How the present connection began.
    start: Option<Start>,
    /// Something held may be stale.
    resetting: bool,
    complete: bool,
    current: bool,
    notes: BTreeMap<String, Vec<u8>>,
    /// The names whose stored records are not as they are here.
    unsaved: BTreeSet<Name>,
}

/// What is held for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The seq of its last change; 0 while it is stale.
    pub seq: u64,
    /// Its value.
    pub value: Bytes,
    /// What the client notes beside it; kept through changes of the value.
    pub aside: Bytes,
}

/// What a batch changed for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The name.
    pub name: Name,
    /// What was held before.
    pub old: Option<Bytes>,
    /// What is held now.
    pub new: Option<Bytes>,
    /// Gone because a reset did not bring it back, not by a tombstone.
    pub dropped: bool,
}

/// Changes on their way to a store: records, names to forget, the cursor.
#[derive(Debug, Clone)]
pub struct Unsaved {
    records: Vec<Record>,
    forget: Vec<Name>,
    meta: Meta,
}

const CURSOR: &str = "cursor~";
const SEEN: &str = "seen~";
const WALK_HEAD: &str = "walk head~";
const WALK_UPTO: &str = "walk upto~";
const WALK_RESET: &str = "walk reset~";
const RESETTING: &str = "resetting";
const COMPLETE: &str = "complete";
const NOTE: &str = "note/";

impl Replica {
    /// A replica that holds nothing and has no cursor.
    pub fn new() -> Replica {
        Replica::default()
    }

    /// The replica as it was last saved in `store`; a new one, if it never was.
    ///
    /// # Errors
    /// When the store cannot be read, or what it holds is damaged.
    pub fn load(store: &mut dyn Store) -> Result<Replica, StoreError> {
        let mut replica = Replica::new();
        let meta = store.load(&mut |Record { name, seq, value, aside }| match value {
            Some(value) => drop(replica.held.insert(name, Held { seq, value, aside })),
            None => drop(replica.removed.insert(name, seq)),
        })?;
        replica.cursor = read_cursor(&meta)?;
        replica.resetting = meta.get_u64(RESETTING)?.unwrap_or(1) == 1;
        replica.complete = meta.get_u64(COMPLETE)? == Some(1);
        let note = |(key, value): (&str, &[u8])| Some((key.strip_prefix(NOTE)?.to_owned(), value.to_vec()));
        replica.notes = meta.iter().filter_map(note).collect();
        Ok(replica)
    }

    /// What the hub is shown at the next follow; `None` asks for everything.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor.clone()
    }

    /// The seq up to which everything was seen, 0 at first and after a reset.
    pub fn head(&self) -> u64 {
        self.cursor.as_ref().map_or(0, |cursor| cursor.version.seq)
    }

    /// Whether there was a `current` in this epoch since the last reset: what is absent here does not exist.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the last batch left this replica exactly at the board's state at [`Replica::head`]: it said `current`, and
    /// nothing newer is held. Then, and only then, a root may be compared.
    pub fn is_current(&self) -> bool {
        self.current
    }

    /// How many names have a value.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no name has a value.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What is held for `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Held> {
        self.held.get(name)
    }

    /// What is held, in the order of names, from `name` on.
    pub fn iter_from<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = (&'a Name, &'a Held)> + use<'a> {
        self.held.range::<[u8], _>((Bound::Included(name), Bound::Unbounded))
    }

    /// Notes `aside` beside a name's value. Whether there is such a value.
    pub fn set_aside(&mut self, name: &[u8], aside: Bytes) -> bool {
        let Some((name, _)) = self.held.get_key_value(name) else { return false };
        let name = name.clone();
        if let Some(held) = self.held.get_mut(&name)
            && held.aside != aside
        {
            held.aside = aside;
            self.unsaved.insert(name);
        }
        true
    }

    /// What was noted under `key` with the replica.
    pub fn note(&self, key: &str) -> Option<&[u8]> {
        self.notes.get(key).map(Vec::as_slice)
    }

    /// Notes a fact with the replica; the next save keeps it, on the disk unless its key ends with `~`: such a fact moves
    /// with the records, and a power cut may set it back together with them.
    pub fn set_note(&mut self, key: &str, value: Vec<u8>) {
        self.notes.insert(key.to_owned(), value);
    }

    /// Takes the hub's answer to a follow that showed [`Replica::cursor`].
    ///
    /// # Errors
    /// When the hub goes on where there is nothing to go on from. Nothing has changed; the connection is of no use.
    pub fn begin(&mut self, start: Start) -> Result<(), ReplicaError> {
        if start.reset {
            if !mutant::is(Mutant::ReplicaIgnoresReset) {
                for (name, held) in &mut self.held {
                    if held.seq != 0 {
                        held.seq = 0;
                        self.unsaved.insert(name.clone());
                    }
                }
                self.unsaved.extend(std::mem::take(&mut self.removed).into_keys());
            }
            self.cursor = None;
            self.resetting = true;
            self.complete = false;
        } else {
            let cursor = self.cursor.as_mut().ok_or(ReplicaError::NothingToResume)?;
            if cursor.version.epoch != start.epoch {
                return Err(ReplicaError::OtherEpoch);
            }
            // The hub found the cursor in its history, so it is as well one of the present run.
            cursor.version.run = start.run;
        }
        self.current = false;
        self.start = Some(start);
        Ok(())
    }

    /// Takes a batch and says what it changed, in the order of the batch, what was dropped last.
    ///
    /// # Errors
    /// When the batch does not follow on what was seen, or contradicts itself: a fault of the hub, or a batch of
    /// another connection. Nothing has changed; the way on is a new follow with [`Replica::cursor`].
    pub fn apply(&mut self, batch: &Batch) -> Result<Vec<Change>, ReplicaError> {
        let start = self.start.ok_or(ReplicaError::NotBegun)?;
        self.check(batch)?;
        let mut changes = Vec::new();
        let (before, passed) = (self.head(), self.passed().cloned());
        let mut seen = self.cursor.as_ref().map_or(0, |cursor| cursor.seen);
        for record in &batch.records {
            seen = seen.max(record.seq);
            changes.extend(self.take(record));
        }
        let version = |seq| Version { epoch: start.epoch, run: start.run, seq };
        match &batch.mark {
            Mark::Walk { head, upto, last, reset } => {
                if *reset {
                    self.drop_stale(passed.as_deref(), (!last).then_some(upto), &mut changes);
                }
                let seq = if *last { *head } else { self.head() };
                let mark = WalkMark { head: *head, upto: upto.clone(), reset: self.walks_from_zero() };
                let walk = (!last).then_some(mark);
                self.cursor = Some(Cursor { version: version(seq), seen: seen.max(*head), walk });
                self.current = false;
            }
            Mark::Live { to, view, current, .. } => {
                if !mutant::is(Mutant::ViewUnnoted) {
                    seen = seen.max(*view);
                }
                seen = seen.max(*to);
                self.cursor = Some(Cursor { version: version(*to), seen, walk: None });
                // Something newer than the batch is known: then this is no state that the board ever had.
                self.current = *current && seen == *to;
                if self.current {
                    self.drop_stale(None, None, &mut changes);
                    self.resetting = false;
                    self.complete = true;
                }
            }
        }
        if self.head() > before {
            self.forget_removed();
        }
        Ok(changes)
    }

    /// Takes what changed since the last time, and the cursor. It is to be written before anything taken later.
    pub fn take_unsaved(&mut self) -> Unsaved {
        let (mut records, mut forget) = (Vec::new(), Vec::new());
        for name in std::mem::take(&mut self.unsaved) {
            if let Some(Held { seq, value, aside }) = self.held.get(&name).cloned() {
                records.push(Record { name, seq, value: Some(value), aside });
            } else if let Some(&seq) = self.removed.get(&name) {
                records.push(Record { name, seq, value: None, aside: Bytes::new() });
            } else {
                forget.push(name);
            }
        }
        Unsaved { records, forget, meta: self.meta() }
    }

    /// Says that these changes were not written: the next save has them again.
    pub fn put_back(&mut self, unsaved: Unsaved) {
        self.unsaved.extend(unsaved.records.into_iter().map(|record| record.name));
        self.unsaved.extend(unsaved.forget);
    }

    /// Writes what changed since the last save, and the cursor, in one step.
    ///
    /// # Errors
    /// When the store fails; the next save tries it again.
    pub fn save(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        let unsaved = self.take_unsaved();
        let written = unsaved.write(store);
        if written.is_err() {
            self.put_back(unsaved);
        }
        written
    }

    fn check(&self, batch: &Batch) -> Result<(), ReplicaError> {
        let cursor = self.cursor.as_ref();
        let walk = cursor.and_then(|cursor| cursor.walk.as_ref());
        if let Some(record) = batch.records.iter().find(|record| record.name.len() > NAME_BYTES_MAX) {
            return Err(ReplicaError::NameTooLong { name_bytes: record.name.len() });
        }
        let sound = match &batch.mark {
            Mark::Live { from, to, view, current } => {
                let at = cursor.map(|cursor| cursor.version.seq);
                if walk.is_some() || at != Some(*from) {
                    return Err(ReplicaError::NotNext { at, from: *from });
                }
                let marked = from <= to && to <= view && (!current || to == view);
                marked && batch.records.iter().all(|record| record.seq > *from && record.seq <= *to)
            }
            Mark::Walk { head, upto, last, .. } => {
                let from = self.head();
                if walk.map_or(*head < from, |walk| walk.head != *head || walk.upto > *upto) {
                    return Err(ReplicaError::OtherWalk);
                }
                let passed = walk.map(|walk| &walk.upto);
                let inside = |name: &Name| passed.is_none_or(|passed| name > passed) && (*last || name <= upto);
                upto.len() <= NAME_BYTES_MAX
                    && batch.records.iter().all(|record| record.seq > from && inside(&record.name))
            }
        };
        if sound { Ok(()) } else { Err(ReplicaError::Contradictory) }
    }

    /// Takes one entry if it is newer than what is held.
    fn take(&mut self, record: &Record) -> Option<Change> {
        let held = self.held.get(&record.name);
        let known = held.map(|held| held.seq).or_else(|| self.removed.get(&record.name).copied());
        if known.is_some_and(|known| record.seq <= known) && !mutant::is(Mutant::ReplicaTakesOlder) {
            return None;
        }
        let name = record.name.clone();
        self.unsaved.insert(name.clone());
        let old = match &record.value {
            Some(value) => {
                self.removed.remove(&name);
                let aside = held.map(|held| held.aside.clone()).unwrap_or_default();
                self.held.insert(name.clone(), Held { seq: record.seq, value: value.clone(), aside })
            }
            None => {
                if !mutant::is(Mutant::ReplicaForgetsTombstones) {
                    self.removed.insert(name.clone(), record.seq);
                }
                self.held.remove(&name)
            }
        };
        let old = old.map(|held| held.value);
        if old.is_none() && record.value.is_none() {
            return None;
        }
        Some(Change { name, old, new: record.value.clone(), dropped: false })
    }

    /// Drops what is stale after `passed`, up to and including `upto` if there is one.
    fn drop_stale(&mut self, passed: Option<&[u8]>, upto: Option<&Name>, changes: &mut Vec<Change>) {
        if !self.resetting || mutant::is(Mutant::ReplicaKeepsUnsent) {
            return;
        }
        let from = passed.map_or(Bound::Unbounded, Bound::Excluded);
        let to = upto.map_or(Bound::Unbounded, |upto| Bound::Included(&upto[..]));
        if let (Bound::Excluded(from), Bound::Included(to)) = (from, to)
            && from >= to
        {
            return;
        }
        let range = self.held.range::<[u8], _>((from, to));
        let stale: Vec<Name> = range.filter(|(_, held)| held.seq == 0).map(|(name, _)| name.clone()).collect();
        for name in stale {
            let old = self.held.remove(&name).map(|held| held.value);
            self.unsaved.insert(name.clone());
            changes.push(Change { name, old, new: None, dropped: true });
        }
    }

    /// Tombstones at or below the cursor have done their part: no batch that follows on it can be older.
    fn forget_removed(&mut self) {
        let head = self.head();
        let unsaved = &mut self.unsaved;
        self.removed.retain(|name, seq| {
            let stays = *seq > head;
            if !stays {
                unsaved.insert(name.clone());
            }
            stays
        });
    }

    fn passed(&self) -> Option<&Name> {
        self.cursor.as_ref()?.walk.as_ref().map(|walk| &walk.upto)
    }

    /// Whether the walk under way was begun by a reset.
    fn walks_from_zero(&self) -> bool {
        match &self.cursor {
            None => true,
            Some(cursor) => cursor.walk.as_ref().is_some_and(|walk| walk.reset),
        }
    }

    fn meta(&self) -> Meta {
        let mut meta = Meta::default();
        if let Some(Cursor { version, seen, walk }) = &self.cursor {
            let mut bytes = version.epoch.to_le_bytes().to_vec();
            bytes.extend_from_slice(&version.run.to_le_bytes());
            bytes.extend_from_slice(&version.seq.to_le_bytes());
            meta.set(CURSOR, bytes);
            meta.set(SEEN, seen.to_le_bytes().to_vec());
            if let Some(WalkMark { head, upto, reset }) = walk {
                meta.set(WALK_HEAD, head.to_le_bytes().to_vec());
                meta.set(WALK_UPTO, upto.to_vec());
                meta.set(WALK_RESET, u64::from(*reset).to_le_bytes().to_vec());
            }
        }
        meta.set(RESETTING, u64::from(self.resetting).to_le_bytes().to_vec());
        meta.set(COMPLETE, u64::from(self.complete).to_le_bytes().to_vec());
        for (key, value) in &self.notes {
            meta.set(format!("{NOTE}{key}"), value.clone());
        }
        meta
    }
}

impl Unsaved {
    /// Whether no record is among them; the cursor always is.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.forget.is_empty()
    }

    /// Writes the changes in one step.
    ///
    /// # Errors
    /// When the store fails; [`Replica::put_back`] then keeps them for the next save.
    pub fn write(&self, store: &mut dyn Store) -> Result<(), StoreError> {
        store.commit(&self.records, &self.forget, Some(&self.meta))
    }
}

fn read_cursor(meta: &Meta) -> Result<Option<Cursor>, StoreError> {
    let Some(bytes) = meta.get(CURSOR) else { return Ok(None) };
    let damaged = || StoreError::meta(CURSOR);
    let (epoch, rest) = bytes.split_first_chunk::<16>().ok_or_else(damaged)?;
    let (run, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let seq = u64::from_le_bytes(rest.try_into().map_err(|_| damaged())?);
    let version = Version { epoch: u128::from_le_bytes(*epoch), run: u64::from_le_bytes(*run), seq };
    let seen = meta.get_u64(SEEN)?.ok_or_else(damaged)?;
    let walk = match (meta.get_u64(WALK_HEAD)?, meta.get(WALK_UPTO), meta.get_u64(WALK_RESET)?) {
        (Some(head), Some(upto), Some(reset)) => {
            Some(WalkMark { head, upto: Bytes::copy_from_slice(upto), reset: reset == 1 })
        }
        (None, None, None) => None,
        _ => return Err(damaged()),
    };
    Ok(Some(Cursor { version, seen, walk }))
}

/// Why a batch or an answer of the hub was refused. All mean: cut the connection and follow anew.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplicaError {
    /// A batch came before the hub said how it starts.
    #[error("the hub sent entries before it said where it begins")]
    NotBegun,
    /// The hub wants to go on, but this replica has no cursor.
    #[error("the hub goes on from a cursor, but none was shown to it")]
    NothingToResume,
    /// The hub wants to go on in another epoch than the cursor's.
    #[error("the hub goes on in another epoch than that of the cursor it was shown")]
    OtherEpoch,
    /// The batch does not begin where this replica is.
    #[error("the hub sent what follows on {from}, but {at:?} is where this replica stands")]
    NotNext {
        /// The replica's cursor.
        at: Option<u64>,
        /// Where the batch begins.
        from: u64,
    },
    /// The mark does not belong to the walk under way.
    #[error("the hub sent a mark of another walk than the one under way")]
    OtherWalk,
    /// An entry lies outside of what the batch's mark says.
    #[error("the hub sent entries that contradict the mark they came with")]
    Contradictory,
    /// A name is longer than names may be.
    #[error("the hub sent a name of {name_bytes} bytes, more than the {NAME_BYTES_MAX} that are allowed")]
    NameTooLong {
        /// Its length in bytes.
        name_bytes: usize,
    },
}
