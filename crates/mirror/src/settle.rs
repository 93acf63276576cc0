//! When to look: a name is left alone until what happens to it has settled, and never longer than a ceiling.
//!
//! A [`Settle`] is fed with what was [`Seen`] of a name and hands out a [`Dirty`] of the names that may be looked
//! at now. It is a plain value: time is an argument, a span since some fixed start, and nothing sleeps.
//!
//! What it promises, for each name on its own:
//! - every pushed name comes out, at or after its last push, so its last state is always looked at;
//! - what is complete (closed, renamed in, attributes, a directory, a link) comes out at once;
//! - what is not complete comes out when it was quiet for the time of its kind, and at the latest
//!   [`CEILING`] after it last was complete, or was first seen. So a file that is rewritten in place many times a
//!   second comes out after one of its closes, and not in the moment in which it is empty;
//! - what is begun anew each time before anybody came to look comes out [`LAST_RESORT`] after it was first seen;
//! - what changes many times a second is thinned to one look each [`GAP_MAX`]; the first look after such a quiet
//!   span is immediate.

mod pace;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use tree::{Name, RelPath};

use crate::dirty::{All, Dirty, Hint, below, rebase};
use pace::Pace;

/// A created regular file waits this long for its close. A file that never gets one was linked in, whole.
pub const CREATED_QUIET: Duration = Duration::from_millis(20);
/// A file written and not closed is looked at after this long without another write.
pub const WRITTEN_QUIET: Duration = Duration::from_millis(100);
/// A removal waits this long for a creation under the same name: editors replace files so.
pub const REMOVED_QUIET: Duration = Duration::from_millis(5);
/// What is not complete waits no longer than this since it last was, or was first seen.
pub const CEILING: Duration = Duration::from_secs(1);
/// No name waits longer than this from its first event on. What gets here is written anew within microseconds of each
/// close, so no look will ever find it whole; whoever looks has to find out.
pub const LAST_RESORT: Duration = Duration::from_secs(5);
/// The widest gap between two looks at a name that keeps changing.
pub const GAP_MAX: Duration = Duration::from_millis(500);
/// The first gap given to a name that was due [`HOT_PER_SECOND`] times in a second.
pub const GAP_FIRST: Duration = Duration::from_millis(32);
/// From this many times in a second on a name is thinned.
pub const HOT_PER_SECOND: u32 = 10;
/// Most names held back at a time. What comes on top is looked at early, with its whole directory: too early is
/// safe, as the next event brings the name back.
pub const HELD_MAX: usize = 65_536;
/// Most names whose pace is remembered after they came out.
pub const PACED_MAX: usize = 16_384;

const SECOND: Duration = Duration::from_secs(1);

/// What was seen of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// Closed after writing.
    Closed,
    /// Renamed to this name; file, link or directory.
    MovedIn,
    /// Renamed away from this name, and the new name is known.
    MovedAway,
    /// Mode, owner, times or link count changed.
    Attributes,
    /// A directory was made.
    MadeDir,
    /// Created, and complete from the start: a link, or a file with other links.
    Complete,
    /// A regular file was created, or something whose kind is not known.
    Created,
    /// A regular file was found in the listing of a directory that is new to the watch.
    Found,
    /// Written and not closed yet.
    Written,
    /// Removed, or renamed to where nobody looks.
    Removed,
}

/// A point in the sequence of pushes. See [`Settle::passed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// The names held back, and the pace of those that were looked at lately. See the module.
#[derive(Debug, Default)]
pub struct Settle {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: BTreeMap<RelPath, HashMap<Name, u32>>,
    /// When to see after which slot. An item is stale unless its time is its slot's `queued`.
    queue: BinaryHeap<Reverse<(Duration, u32)>>,
    /// Slots that only remember a pace, in the order in which they may be forgotten.
    paced: VecDeque<(Duration, u32)>,
    held: usize,
    /// What needs no waiting and has no single name.
    wide: Dirty,
    pushes: u64,
    wide_first: Option<u64>,
}

#[derive(Debug)]
struct Slot {
    dir: RelPath,
    name: Name,
    state: State,
    pace: Pace,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In no directory; on the free list.
    Free,
    /// Looked at; only the pace is remembered, until this time.
    Paced {
        until: Duration,
    },
    Held(Held),
}

#[derive(Clone, Copy, Debug)]
struct Held {
    phase: Phase,
    /// When it may be looked at.
    due: Duration,
    /// The time of its item in the queue that counts.
    queued: Duration,
    /// When it stopped being complete; of no meaning while it is.
    begun: Duration,
    /// When the first push since the last look came, and which one it was.
    first: Duration,
    first_push: u64,
    content: bool,
    removed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Settled,
    Created,
    Written,
    Removed,
}

impl Settle {
    /// Nothing held.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of what was seen of `name` in `dir` at `now`. Times may not run backwards.
    pub fn push(&mut self, dir: &RelPath, name: &Name, seen: Seen, now: Duration) {
        self.pushes += 1;
        let content = seen.names_content();
        let removed = matches!(seen, Seen::Removed | Seen::MovedAway);
        let Some(id) = self.slot(dir, name, now) else {
            self.widen(dir, name, content, removed);
            return;
        };
        let slot = &mut self.slots[id as usize];
        let fresh = !matches!(slot.state, State::Held(_));
        let mut held = match slot.state {
            State::Held(held) => held,
            _ => Held {
                phase: Phase::Settled,
                due: now,
                queued: Duration::MAX,
                begun: now,
                first: now,
                first_push: self.pushes,
                content: false,
                removed: false,
            },
        };
        held.content |= content;
        held.removed |= removed;
        let Some(phase) = next_phase(if fresh { None } else { Some(held.phase) }, seen) else {
            // It says nothing new about when; a fresh slot always has a phase.
            slot.state = State::Held(held);
            return;
        };
        // A settled name that is still waiting for its pace wants no second place in the count.
        if fresh || phase != held.phase || phase == Phase::Settled {
            slot.pace.want(now);
        }
        if held.phase == Phase::Settled {
            held.begun = now;
        }
        held.phase = phase;
        let quiet = match phase {
            Phase::Settled => Duration::ZERO,
            Phase::Created => CREATED_QUIET,
            Phase::Written => WRITTEN_QUIET,
            Phase::Removed => REMOVED_QUIET,
        };
        held.due = (now + quiet).max(slot.pace.earliest());
        // What is complete waits for its pace alone, which is shorter.
        if phase != Phase::Settled {
            held.due = held.due.min(held.begun + CEILING).min(held.first + LAST_RESORT);
        }
        if held.due < held.queued {
            held.queued = held.due;
            self.queue.push(Reverse((held.due, id)));
        }
        slot.state = State::Held(held);
        self.held += usize::from(fresh);
    }

    /// Takes note that all of `dir` is to be listed, at once.
    pub fn push_all(&mut self, dir: &RelPath, all: All) {
        self.pushes += 1;
        self.wide_first.get_or_insert(self.pushes);
        self.wide.insert_all(dir, all);
    }

    /// Takes note that the mode or times of the root directory changed.
    pub fn push_root_entry(&mut self) {
        self.pushes += 1;
        self.wide_first.get_or_insert(self.pushes);
        self.wide.insert_root_entry();
    }

    /// Takes note that events were lost: everything is to be walked, and what is missing may have been removed
    /// by the user.
    pub fn push_lost(&mut self) {
        self.push_all(&RelPath::root(), All { recursive: true, content: false });
        self.push_root_entry();
        self.wide.insert_removed_everywhere();
    }

    /// Hands out what may be looked at now.
    ///
    /// Names not in it and held (see [`Settle::is_unsettled`]) are to be left alone by a listing.
    pub fn due(&mut self, now: Duration) -> Dirty {
        self.wide_first = None;
        let mut dirty = self.wide.take();
        while let Some(&Reverse((at, id))) = self.queue.peek() {
            if at > now {
                break;
            }
            self.queue.pop();
            let slot = &mut self.slots[id as usize];
            let State::Held(held) = &mut slot.state else { continue };
            if held.queued != at {
                continue;
            }
            if held.due > now {
                // It was pushed again since; its place in the queue moves back only now.
                held.queued = held.due;
                self.queue.push(Reverse((held.due, id)));
                continue;
            }
            dirty.insert(&slot.dir, &slot.name, Hint { content: held.content, by_event: true });
            if held.removed {
                dirty.insert_removed(&slot.dir, &slot.name);
            }
            slot.pace.came_out(now);
            let until = now + SECOND + SECOND;
            slot.state = State::Paced { until };
            self.paced.push_back((until, id));
            self.held -= 1;
        }
        self.forget_paces(now);
        dirty
    }

    /// The time at or before which [`Settle::due`] should be called next; `None` while nothing is held.
    ///
    /// It may be earlier than needed, never later.
    pub fn next_deadline(&self) -> Option<Duration> {
        if !self.wide.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.held == 0 {
            return None;
        }
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether `path` is held back: it is to be left alone, and comes out of [`Settle::due`] by itself.
    pub fn is_unsettled(&self, path: &RelPath) -> bool {
        let Some((dir, name)) = path.split() else { return false };
        self.index.get(&dir).and_then(|names| names.get(&name)).is_some_and(|id| self.held(*id).is_some())
    }

    /// The names directly in `dir` that are held back, in no order. What a listing of `dir` asks once.
    pub fn unsettled_in(&self, dir: &RelPath) -> Vec<Name> {
        let Some(names) = self.index.get(dir) else { return Vec::new() };
        names.iter().filter(|(_, id)| self.held(**id).is_some()).map(|(name, _)| name.clone()).collect()
    }

    /// Whether `name` in `dir` was created, and is held because it may still be written.
    pub fn awaits_close(&self, dir: &RelPath, name: &Name) -> bool {
        let id = self.index.get(dir).and_then(|names| names.get(name));
        id.and_then(|id| self.held(*id)).is_some_and(|held| held.phase == Phase::Created)
    }

    /// The point behind everything pushed so far.
    pub fn mark(&self) -> Mark {
        Mark(self.pushes)
    }

    /// Whether everything pushed before `mark` was handed out.
    pub fn passed(&self, mark: Mark) -> bool {
        self.wide_first.is_none_or(|first| first > mark.0)
            && self.slots.iter().all(|slot| match slot.state {
                State::Held(held) => held.first_push > mark.0,
                _ => true,
            })
    }

    /// Gives what is held in or below the directory `old` the place it has after a rename to `new`.
    pub fn rename(&mut self, old: &RelPath, new: &RelPath) {
        self.wide.rename(old, new);
        let dirs: Vec<RelPath> = below(&self.index, old).collect();
        for dir in dirs {
            let Some(target) = rebase(&dir, old, new) else { continue };
            let Some(names) = self.index.remove(&dir) else { continue };
            for (name, id) in names {
                let there = self.index.entry(target.clone()).or_default();
                // What is known of the new place already stays there; the moved one comes out under its old
                // path, where nothing is found, so put the hint to the new one through the directory.
                if let Some(other) = there.get(&name).copied() {
                    let content = self.held(id).is_some_and(|held| held.content);
                    let slot = &mut self.slots[other as usize];
                    if let State::Held(held) = &mut slot.state {
                        held.content |= content;
                    } else if content {
                        self.wide_first.get_or_insert(self.pushes);
                        self.wide.insert(&target, &name, Hint { content, by_event: true });
                    }
                    self.release(id);
                } else {
                    there.insert(name, id);
                    self.slots[id as usize].dir = target.clone();
                }
            }
        }
    }

    /// How many names are held back.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether nothing is held back or waiting to be handed out.
    pub fn is_empty(&self) -> bool {
        self.held == 0 && self.wide.is_empty()
    }

    fn held(&self, id: u32) -> Option<&Held> {
        match &self.slots[id as usize].state {
            State::Held(held) => Some(held),
            _ => None,
        }
    }

    /// The slot of a name, a new one if there is room.
    fn slot(&mut self, dir: &RelPath, name: &Name, now: Duration) -> Option<u32> {
        if let Some(id) = self.index.get(dir).and_then(|names| names.get(name)) {
            return Some(*id);
        }
        if self.held >= HELD_MAX {
            return None;
        }
        let (state, pace) = (State::Paced { until: now }, Pace::new(now));
        let slot = Slot { dir: dir.clone(), name: name.clone(), state, pace };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                let id = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(slot);
                id
            }
        };
        self.index.entry(dir.clone()).or_default().insert(name.clone(), id);
        Some(id)
    }

    fn widen(&mut self, dir: &RelPath, name: &Name, content: bool, removed: bool) {
        self.wide_first.get_or_insert(self.pushes);
        self.wide.insert(dir, name, Hint { content, by_event: true });
        if removed {
            self.wide.insert_removed(dir, name);
        }
    }

    fn forget_paces(&mut self, now: Duration) {
        while let Some(&(until, id)) = self.paced.front() {
            if until > now && self.paced.len() <= PACED_MAX {
                break;
            }
            self.paced.pop_front();
            // A name that was held again since has a later item.
            if matches!(self.slots[id as usize].state, State::Paced { until: at } if at == until) {
                let Slot { dir, name, .. } = &self.slots[id as usize];
                if let Some(names) = self.index.get_mut(dir) {
                    names.remove(name);
                    if names.is_empty() {
                        self.index.remove(dir);
                    }
                }
                self.release(id);
            }
        }
    }

    /// Frees a slot that is no longer in the index.
    fn release(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        if matches!(slot.state, State::Held(_)) {
            self.held -= 1;
        }
        slot.state = State::Free;
        self.free.push(id);
    }
}

impl Seen {
    /// Whether the content behind the name may be another one now, even under an equal stat.
    fn names_content(self) -> bool {
        match self {
            Seen::Closed | Seen::MovedIn | Seen::Complete | Seen::Created | Seen::Found | Seen::Written => true,
            Seen::MovedAway | Seen::Attributes | Seen::MadeDir | Seen::Removed => false,
        }
    }
}

/// The phase after `seen`; `None` if it changes nothing about when to look. `held` is `None` for a name not held.
fn next_phase(held: Option<Phase>, seen: Seen) -> Option<Phase> {
    match (seen, held) {
        // A file that is being written gets its mode and times before its close.
        (Seen::Attributes, Some(_)) => None,
        // An unlinked file that is still open can be written; the name is gone all the same.
        (Seen::Written, Some(Phase::Removed)) => None,
        // The listing of a new directory and the events since its watch overlap: the event knows more.
        (Seen::Found, Some(_)) => None,
        (Seen::Created | Seen::Found, _) => Some(Phase::Created),
        (Seen::Written, _) => Some(Phase::Written),
        (Seen::Removed, _) => Some(Phase::Removed),
        (Seen::Closed | Seen::MovedIn | Seen::MovedAway | Seen::Attributes | Seen::MadeDir | Seen::Complete, _) => {
            Some(Phase::Settled)
        }
    }
}

#[cfg(test)]
mod tests;
