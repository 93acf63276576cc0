//! Versions, cursors, and which of them belong to a board's history.
//!
//! Each start of the hub is a **run** with a random id, and lists the last seq it found of the run before. So two boards
//! that grew from the same stored state can be told apart: after an older copy of a store was put back, a cursor from the
//! lost future names a run that is not listed, or a seq above what was found of its run. The **epoch** is new when
//! history was lost outright; nothing of an older epoch is valid.

use crate::index::{NAME_BYTES_MAX, Name};
use crate::mutant::{self, Mutant, small_in_tests};
use crate::store::{Meta, StoreError};

/// How many runs a board lists. A client that was away for longer walks from zero.
pub const RUNS_MAX: usize = small_in_tests(1024, 4);

/// A random number for one unbroken history of a board.
pub type Epoch = u128;

/// A random number for one start of the hub.
pub type Run = u64;

/// One state of a board: all that was committed up to `seq`, in that run of that epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    /// The history.
    pub epoch: Epoch,
    /// The start of the hub within it.
    pub run: Run,
    /// The last seq that belongs to this state; 0 before the first commit.
    pub seq: u64,
}

/// What a client has seen of the names that it follows. It belongs to one pattern: who follows another begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Everything up to this version has been seen.
    pub version: Version,
    /// The newest state of the board that the client knows anything of, at least `version.seq`: a walk sends entries newer
    /// than the head it began with, and a batch made from a newer view leaves out what was replaced by then. By this seq
    /// a hub tells whether what the client holds belongs to its history.
    pub seen: u64,
    /// How far a walk by name had come, if one was under way.
    pub walk: Option<WalkMark>,
}

/// A place in a walk by name: what is held of every name up to and including `upto` is at least as new as `head`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkMark {
    /// The board's head when the walk began; the cursor's seq once it has ended.
    pub head: u64,
    /// The last name passed.
    pub upto: Name,
    /// Whether the walk began from zero. Names above `upto` then need no tombstones, as nothing held there counts.
    pub reset: bool,
}

/// A board's history as it is kept with its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lineage {
    pub(crate) epoch: Epoch,
    /// Each earlier run of the epoch with the last seq found of it, oldest first.
    pub(crate) ended: Vec<(Run, u64)>,
    /// The run that is going on.
    pub(crate) run: Run,
    /// Tombstones up to this seq may be gone.
    pub(crate) horizon: u64,
    /// The boot of the machine in which the run began.
    pub(crate) boot_id: String,
    /// Whether the run ended by a close.
    pub(crate) clean: bool,
    /// Whether the board was complete in this epoch.
    pub(crate) complete: bool,
}

/// How a client goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resume {
    /// It has seen everything up to this seq.
    From(u64),
    /// It is in the middle of a walk.
    Walk { from: u64, mark: WalkMark },
    /// Nothing that it holds counts.
    Reset,
}

const EPOCH: &str = "epoch";
const RUNS_ENDED: &str = "runs ended";
const RUN: &str = "run";
const HORIZON: &str = "horizon";
const BOOT: &str = "boot";
const CLEAN: &str = "clean";
const COMPLETE: &str = "complete";
const RUN_BYTES: usize = 16;

impl Lineage {
    /// Says how the holder of `cursor` goes on, on a board of this lineage whose head is `head`.
    pub(crate) fn resume(&self, head: u64, cursor: &Cursor) -> Resume {
        let Version { epoch, run, seq } = cursor.version;
        let mut newest = cursor.seen.max(seq);
        if let Some(mark) = &cursor.walk {
            newest = newest.max(mark.head);
        }
        if mutant::is(Mutant::SeenIgnored) {
            newest = seq;
        }
        if epoch != self.epoch || self.last_of(run, head).is_none_or(|last| newest > last) {
            return Resume::Reset;
        }
        let horizon = if mutant::is(Mutant::HorizonIgnored) { 0 } else { self.horizon };
        match &cursor.walk {
            None if seq >= horizon => Resume::From(seq),
            // Names up to the mark are as new as the walk's head, names above it are sent without tombstones.
            Some(mark) if mark.reset && mark.head >= horizon && sound(mark, 0) => {
                Resume::Walk { from: 0, mark: mark.clone() }
            }
            Some(mark) if !mark.reset && seq >= horizon && sound(mark, seq) => {
                Resume::Walk { from: seq, mark: mark.clone() }
            }
            None | Some(_) => Resume::Reset,
        }
    }

    fn last_of(&self, run: Run, head: u64) -> Option<u64> {
        if run == self.run || mutant::is(Mutant::NoRunList) {
            return Some(head);
        }
        self.ended.iter().rev().find(|(ended, _)| *ended == run).map(|(_, last)| *last)
    }

    /// The lineage of a new run on a store in which `last` is the newest seq.
    ///
    /// The epoch stays only if `keep` says so and there is one. A new epoch lists no runs, and begins above all
    /// tombstones: nobody has a cursor that could need them.
    pub(crate) fn next(
        before: Option<Lineage>,
        keep: bool,
        last: u64,
        boot_id: String,
        entropy: &mut dyn FnMut() -> u64,
    ) -> Lineage {
        let run = entropy();
        match before {
            Some(mut lineage) if keep => {
                lineage.ended.push((lineage.run, last));
                let surplus = lineage.ended.len().saturating_sub(RUNS_MAX - 1);
                lineage.ended.drain(..surplus);
                Lineage { run, boot_id, clean: false, ..lineage }
            }
            _ => {
                let epoch = (u128::from(entropy()) << 64) | u128::from(entropy());
                Lineage { epoch, ended: Vec::new(), run, horizon: last, boot_id, clean: false, complete: false }
            }
        }
    }

    /// Reads the lineage that [`Lineage::write`] left; `None` in a store that never had one.
    pub(crate) fn read(meta: &Meta) -> Result<Option<Lineage>, StoreError> {
        if meta.get(EPOCH).is_none() {
            return Ok(None);
        }
        let runs = meta.get(RUNS_ENDED).unwrap_or_default();
        if !runs.len().is_multiple_of(RUN_BYTES) {
            return Err(StoreError::meta(RUNS_ENDED));
        }
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).map_err(|_| StoreError::meta(RUNS_ENDED));
        let mut ended = Vec::with_capacity(runs.len() / RUN_BYTES);
        for pair in runs.chunks_exact(RUN_BYTES) {
            ended.push((number(&pair[..8])?, number(&pair[8..])?));
        }
        let boot_id = String::from_utf8_lossy(meta.get(BOOT).unwrap_or_default()).into_owned();
        Ok(Some(Lineage {
            epoch: meta.get_u128(EPOCH)?.ok_or_else(|| StoreError::meta(EPOCH))?,
            ended,
            run: meta.get_u64(RUN)?.ok_or_else(|| StoreError::meta(RUN))?,
            horizon: meta.get_u64(HORIZON)?.ok_or_else(|| StoreError::meta(HORIZON))?,
            boot_id,
            clean: meta.get_u64(CLEAN)? == Some(1),
            complete: meta.get_u64(COMPLETE)? == Some(1),
        }))
    }

    /// Puts the lineage among the facts kept with the records.
    pub(crate) fn write(&self, meta: &mut Meta) {
        let mut runs = Vec::with_capacity(self.ended.len() * RUN_BYTES);
        for (run, last) in &self.ended {
            runs.extend_from_slice(&run.to_le_bytes());
            runs.extend_from_slice(&last.to_le_bytes());
        }
        meta.set(EPOCH, self.epoch.to_le_bytes().to_vec());
        meta.set(RUNS_ENDED, runs);
        meta.set(RUN, self.run.to_le_bytes().to_vec());
        meta.set(HORIZON, self.horizon.to_le_bytes().to_vec());
        meta.set(BOOT, self.boot_id.clone().into_bytes());
        meta.set(CLEAN, u64::from(self.clean).to_le_bytes().to_vec());
        meta.set(COMPLETE, u64::from(self.complete).to_le_bytes().to_vec());
    }
}

/// Whether a peer's mark can have come from a walk that began at `from`.
fn sound(mark: &WalkMark, from: u64) -> bool {
    mark.head >= from && mark.upto.len() <= NAME_BYTES_MAX
}
