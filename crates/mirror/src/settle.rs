//! When to look: a name is left alone until what happens to it has settled, and never longer than a ceiling.
//!
//! A [`Settle`] is fed with what was [`Seen`] of a name and hands out a [`Dirty`] of the names that may be looked
//! at now. It is a plain value: time is an argument, a span since some fixed start, and nothing sleeps.
//!
//! What it promises, for each name on its own:
//! - every pushed name comes out, at or after its last push, so its last state is always looked at;
//! - what is complete (closed, renamed in, attributes, a directory, a link) comes out at once;
//! - what is not complete comes out when it was quiet for the time of its kind, and at the latest
//!   [`CEILING`] after it was first seen;
//! - what changes many times a second is thinned to one look each [`GAP_MAX`]; the first look after such a quiet
//!   span is immediate.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use tree::{Name, RelPath};

use crate::dirty::{All, Dirty, Hint, below, rebase};

/// A created regular file waits this long for its close. A file that never gets one was linked in, whole.
pub const CREATED_QUIET: Duration = Duration::from_millis(20);
/// A file written and not closed is looked at after this long without another write.
pub const WRITTEN_QUIET: Duration = Duration::from_millis(100);
/// A removal waits this long for a creation under the same name: editors replace files so.
pub const REMOVED_QUIET: Duration = Duration::from_millis(5);
/// No name waits longer than this from its first event on.
pub const CEILING: Duration = Duration::from_secs(1);
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

/// How often a name is due. Counted in windows of a second, so that a burst shorter than that is never thinned.
#[derive(Clone, Copy, Debug)]
struct Pace {
    window: Duration,
    wanted: u32,
    gap: Duration,
    last_out: Option<Duration>,
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
        held.phase = phase;
        let ceiling = held.first + CEILING;
        let quiet = match phase {
            Phase::Settled => Duration::ZERO,
            Phase::Created => CREATED_QUIET,
            Phase::Written => WRITTEN_QUIET,
            Phase::Removed => REMOVED_QUIET,
        };
        held.due = (now + quiet).max(slot.pace.earliest()).min(ceiling);
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
            slot.pace.last_out = Some(now);
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
        let pace = Pace { window: now, wanted: 0, gap: Duration::ZERO, last_out: None };
        let slot = Slot { dir: dir.clone(), name: name.clone(), state: State::Paced { until: now }, pace };
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

impl Pace {
    /// Counts one more wish to be looked at.
    fn want(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.window).as_secs();
        if seconds == 0 {
            self.wanted = self.wanted.saturating_add(1);
            return;
        }
        if seconds == 1 && self.wanted >= HOT_PER_SECOND {
            self.gap = (self.gap * 2).clamp(GAP_FIRST, GAP_MAX);
        } else {
            let halvings = u32::try_from(seconds).unwrap_or(u32::MAX).min(8);
            self.gap /= 1 << halvings;
            if self.gap < GAP_FIRST {
                self.gap = Duration::ZERO;
            }
        }
        self.window = now;
        self.wanted = 1;
    }

    /// The time before which it is not to be looked at again.
    fn earliest(&self) -> Duration {
        self.last_out.map_or(Duration::ZERO, |out| out + self.gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn ms(n: u32) -> Duration {
        SECOND + MS * n
    }

    fn name(s: &str) -> Name {
        Name::new(s.as_bytes()).unwrap()
    }

    fn push(settle: &mut Settle, seen: Seen, at: u32) {
        settle.push(&RelPath::root(), &name("f"), seen, ms(at));
    }

    /// Drives time in steps of a millisecond and returns when `f` came out.
    fn out(settle: &mut Settle, from: u32, to: u32) -> Vec<u32> {
        (from..to).filter(|at| settle.due(ms(*at)).covers(&RelPath::root(), &name("f"))).collect()
    }

    #[test]
    fn what_is_complete_comes_out_at_once() {
        use Seen::*;
        for seen in [Closed, MovedIn, MovedAway, Attributes, MadeDir, Complete] {
            let mut settle = Settle::new();
            push(&mut settle, seen, 7);
            assert_eq!(settle.next_deadline(), Some(ms(7)));
            assert_eq!(out(&mut settle, 7, 50), [7], "{seen:?}");
            assert!(settle.is_empty());
        }
    }

    #[test]
    fn each_kind_waits_for_its_own_quiet() {
        for (seen, quiet) in [(Seen::Created, 20), (Seen::Found, 20), (Seen::Written, 100), (Seen::Removed, 5)] {
            let mut settle = Settle::new();
            push(&mut settle, seen, 0);
            assert!(settle.is_unsettled(&RelPath::new(*b"f").unwrap()));
            assert_eq!(out(&mut settle, 0, 300), [quiet], "{seen:?}");
        }
    }

    #[test]
    fn a_close_ends_every_wait() {
        for before in [Seen::Created, Seen::Written, Seen::Removed] {
            let mut settle = Settle::new();
            push(&mut settle, before, 0);
            push(&mut settle, Seen::Closed, 3);
            assert_eq!(out(&mut settle, 3, 300), [3], "{before:?}");
        }
    }

    #[test]
    fn a_file_removed_and_created_is_one_replacement() {
        let mut settle = Settle::new();
        push(&mut settle, Seen::Removed, 0);
        push(&mut settle, Seen::Created, 1);
        push(&mut settle, Seen::Written, 2);
        assert_eq!(out(&mut settle, 0, 10), []);
        push(&mut settle, Seen::Closed, 10);
        let due = settle.due(ms(10));
        assert!(due.hint(&RelPath::root(), &name("f")).content);
        assert!(due.removed_by_event(&RelPath::new(*b"f").unwrap()));
    }

    #[test]
    fn mode_and_times_set_before_the_close_do_not_cut_the_wait_short() {
        let mut settle = Settle::new();
        push(&mut settle, Seen::Created, 0);
        push(&mut settle, Seen::Written, 1);
        push(&mut settle, Seen::Attributes, 2);
        assert_eq!(out(&mut settle, 2, 90), []);
        assert_eq!(out(&mut settle, 90, 300), [101]);
    }

    #[test]
    fn a_writer_that_never_pauses_is_looked_at_each_second() {
        let mut settle = Settle::new();
        let mut seen = Vec::new();
        for at in 0..3500 {
            if at % 10 == 0 && at < 2900 {
                push(&mut settle, Seen::Written, at);
            }
            seen.extend(out(&mut settle, at, at + 1));
        }
        assert_eq!(seen, [1000, 2010, 2990], "two ceilings, then the quiet time after the last write at 2890");
    }

    #[test]
    fn what_changes_many_times_a_second_is_thinned_and_its_last_state_goes_out() {
        let mut settle = Settle::new();
        let mut seen = Vec::new();
        for at in 0..20_000 {
            if at % 5 == 0 && at < 15_003 {
                push(&mut settle, Seen::Closed, at);
            }
            seen.extend(out(&mut settle, at, at + 1));
        }
        assert_eq!(seen.iter().filter(|at| **at < 1000).count(), 200, "a burst is not thinned");
        let late = seen.iter().filter(|at| (10_000..15_000).contains(*at)).count();
        assert!((9..=12).contains(&late), "{late} looks in five seconds");
        let last = *seen.last().unwrap();
        assert!((15_000..=15_500).contains(&last), "the last state came out at {last}");
        push(&mut settle, Seen::Closed, 19_990);
        assert_eq!(out(&mut settle, 19_990, 20_500), [19_990], "the first close after quiet is immediate");
    }

    #[test]
    fn a_pace_is_forgotten() {
        let mut settle = Settle::new();
        for i in 0..PACED_MAX + 10 {
            settle.push(&RelPath::root(), &name(&i.to_string()), Seen::Closed, ms(0));
        }
        let _all = settle.due(ms(0));
        assert_eq!(settle.index[&RelPath::root()].len(), PACED_MAX);
        let _none = settle.due(ms(3000));
        assert!(settle.index.is_empty() && settle.free.len() == settle.slots.len());
    }

    #[test]
    fn too_many_held_names_come_early_and_none_is_lost() {
        let mut settle = Settle::new();
        let dir = RelPath::new(*b"d").unwrap();
        for i in 0..HELD_MAX + 10 {
            settle.push(&dir, &name(&i.to_string()), Seen::Created, ms(0));
        }
        assert_eq!(settle.len(), HELD_MAX);
        assert!(settle.due(ms(0)).covers(&dir, &name(&(HELD_MAX + 5).to_string())));
        assert!(settle.due(ms(20)).covers(&dir, &name("5")));
    }

    #[test]
    fn a_mark_is_passed_when_all_before_it_came_out() {
        let mut settle = Settle::new();
        let other = |settle: &mut Settle| settle.push(&RelPath::root(), &name("g"), Seen::Written, ms(0));
        push(&mut settle, Seen::Created, 0);
        let mark = settle.mark();
        other(&mut settle);
        assert!(!settle.passed(mark));
        let _first = settle.due(ms(20));
        assert!(settle.passed(mark) && !settle.passed(settle.mark()));
        settle.push_all(&RelPath::root(), All::default());
        let mark = settle.mark();
        assert_eq!(settle.next_deadline(), Some(Duration::ZERO));
        let _rest = settle.due(ms(100));
        assert!(settle.passed(mark));
    }

    #[test]
    fn a_rename_takes_what_is_held_along() {
        let mut settle = Settle::new();
        let [a, ab, b] = ["a", "a/b", "z"].map(|p| RelPath::new(p.as_bytes()).unwrap());
        settle.push(&a, &name("f"), Seen::Written, ms(0));
        settle.push(&ab, &name("g"), Seen::Created, ms(0));
        settle.push(&b, &name("f"), Seen::Closed, ms(0));
        settle.rename(&a, &b);
        let due = settle.due(ms(200));
        assert!(settle.is_empty());
        let dirs: Vec<_> = due.iter().map(|(dir, _)| dir.to_string()).collect();
        assert_eq!(dirs, ["z", "z/b"]);
    }

    fn any_seen() -> impl Strategy<Value = Seen> {
        use Seen::*;
        prop::sample::select(vec![
            Closed, MovedIn, MovedAway, Attributes, MadeDir, Complete, Created, Found, Written, Removed,
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// The promise of the module against its simplest reading: for each name, the time of the first push
        /// since it last came out, and whether the last push is still to be followed by a look.
        #[test]
        fn every_push_is_followed_by_a_look_within_the_ceiling(
            pushes in prop::collection::vec((0..3usize, 0..2usize, any_seen(), 0..300u32, any::<bool>()), 1..200),
        ) {
            let dirs = ["", "a"].map(|p| RelPath::new(p.as_bytes()).unwrap());
            let names = ["f", "g", "h"].map(name);
            let mut settle = Settle::new();
            // The first push not looked at yet, whether it names content, whether it removes.
            let mut model: HashMap<(usize, usize), (Duration, bool, bool)> = HashMap::new();
            let mut now = ms(0);
            let look = |settle: &mut Settle, model: &mut HashMap<(usize, usize), (Duration, bool, bool)>, now| {
                let due = settle.due(now);
                for (n, name) in names.iter().enumerate() {
                    for (d, dir) in dirs.iter().enumerate() {
                        let path = dir.join(name).unwrap();
                        let came = due.covers(dir, name);
                        if came {
                            let held = model.remove(&(n, d));
                            prop_assert!(held.is_some(), "{path} came out and was not pushed");
                            let (_, content, removed) = held.unwrap();
                            prop_assert_eq!(due.hint(dir, name).content, content);
                            prop_assert_eq!(due.removed_by_event(&path), removed);
                        }
                        prop_assert_eq!(settle.is_unsettled(&path), model.contains_key(&(n, d)));
                    }
                }
                for (first, ..) in model.values() {
                    prop_assert!(now < *first + CEILING, "held past its ceiling");
                }
                prop_assert_eq!(settle.len(), model.len());
                Ok(())
            };
            for (n, d, seen, wait, looks) in pushes {
                let then = now + MS * wait;
                // A consumer that comes when it is told to, and sometimes in between.
                while let Some(at) = settle.next_deadline().filter(|at| *at <= then) {
                    now = now.max(at);
                    look(&mut settle, &mut model, now)?;
                }
                now = then;
                settle.push(&dirs[d], &names[n], seen, now);
                let held = model.entry((n, d)).or_insert((now, false, false));
                held.1 |= seen.names_content();
                held.2 |= matches!(seen, Seen::Removed | Seen::MovedAway);
                if looks {
                    look(&mut settle, &mut model, now)?;
                }
            }
            while let Some(at) = settle.next_deadline() {
                now = now.max(at);
                look(&mut settle, &mut model, now)?;
            }
            prop_assert!(model.is_empty(), "never came out: {model:?}");
        }
    }
}
