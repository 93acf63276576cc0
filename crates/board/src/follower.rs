//! The hub's side of one following client: from its cursor to the head, and on from there.
//!
//! A follower is a place on the board, not a queue. It is **live** at a seq and gets the newest entries above it in the
//! order of their seqs, or it is in a **walk** and gets those above its cursor in the order of their names.
//!
//! - A live follower with more than [`SHORT_WAY_ENTRIES_MAX`] entries before it walks instead. By seq, a name that
//!   changes all the time would flee before a client that is slower than the writes; a walk passes each name once.
//! - So does one that stayed behind for [`BEHIND_MOVES_MAX`] batches, by whatever little, and for the same reason.
//! - A walk fixes the head H that it begins with. It sends entries as they are, so also newer than H, and goes on live
//!   from H; what comes a second time is ignored by the client as not newer.
//! - Batches with nothing in them are sent only to say something: that nothing more is on the way to the head, where the
//!   client does not know it yet, be it at the head or with nothing but foreign seqs before it; once more when the board became
//!   complete; and when [`MARK_SEQS`] foreign seqs were passed, or the hub asked ([`Follower::mark`]).

use crate::index::{Board, Index, Name, Record};
use crate::mutant::{self, Mutant, small_in_tests};
use crate::pattern::Pattern;
use crate::version::{Cursor, Epoch, Resume, Run, Version, WalkMark};
use bytes::Bytes;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most entries between a follower and the head that are sent by seq.
pub const SHORT_WAY_ENTRIES_MAX: usize = small_in_tests(1024, 3);

/// The most entries between a group and the head for which a shared batch is made; beyond it each member walks. More
/// than the short way, because one large commit should still be encoded once for all who stood at the head before it.
pub const LIVE_WAY_ENTRIES_MAX: usize = small_in_tests(16 * 1024, 6);

/// A follower within so many seqs of the head is near it: one usual batch brings all that is missing, hot names included.
const NEAR_SEQS: u64 = small_in_tests(512, 1) as u64;

/// After how many batches in a row that did not bring it near the head a follower walks. A guess: enough for one large
/// commit to be shared to its end, and seldom enough that the walks of a hub under load cost little.
const BEHIND_MOVES_MAX: u32 = if cfg!(test) { 3 } else { 64 };

/// After how many seqs without a matching entry a follower's cursor is moved by an empty batch, unasked. A cursor that
/// lags costs its client a longer way, so at most the short way's number of entries is looked through in vain.
pub const MARK_SEQS: u64 = SHORT_WAY_ENTRIES_MAX as u64;

/// The most names looked at under one read lock.
const SCAN_NAMES_MAX: usize = small_in_tests(4096, 3);

/// What an entry counts for in a batch beside the bytes of its name and value.
const ENTRY_BYTES: usize = 16;

/// How much one batch may hold. At least one entry always goes, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most entries.
    pub entries: usize,
    /// The most bytes of names and values, and 16 an entry.
    pub bytes: usize,
}

/// The answer to a client that asks to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The board's epoch, as it is called for who follows this pattern.
    pub epoch: Epoch,
    /// The board's run, to which the client's cursor belongs from now on.
    pub run: Run,
    /// Nothing that the client holds counts any more; a walk from zero comes.
    pub reset: bool,
}

/// Entries for a client, and what they say about all those that are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The entries, their asides left out.
    pub records: Vec<Record>,
    /// How far the client has come with them.
    pub mark: Mark,
}

/// What a batch proves beyond its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// All of (from, to] that matches is in the batch.
    Live {
        /// The client's cursor before.
        from: u64,
        /// The client's cursor after.
        to: u64,
        /// The head in the view from which the batch was made, at least `to`. An entry of (from, to] that was replaced
        /// up to there is left out: the client comes to know a little of what is newer than its cursor.
        view: u64,
        /// `to` was the head, and the board complete, in the view from which the batch was made.
        current: bool,
    },
    /// What the client holds of every name up to `upto` is at least as new as `head`.
    Walk {
        /// The board's head when the walk began.
        head: u64,
        /// The last name passed.
        upto: Name,
        /// The walk is at its end: all names are passed, the cursor becomes `head`.
        last: bool,
        /// Of the range passed since the mark before, only what is in the batch exists: the client drops the rest.
        reset: bool,
    },
}

/// What a client knows of where it stands, by the last batch it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing since it began, or since its walk ended.
    Nothing,
    /// How far it has come, but not that this is all.
    Place,
    /// That it is current, when the board had become complete so often.
    Current(u64),
}

/// Where a follower stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At this seq; every follower of the same pattern there needs the same next batch.
    Live(u64),
    /// In a walk of its own, or about to begin one: no shared batch is for it.
    Walking,
}

/// The hub's side of one following client. Free of I/O; while it lives, no tombstone it may need is purged.
#[derive(Debug)]
pub struct Follower {
    board: Board,
    pattern: Pattern,
    start: Start,
    state: State,
    /// The state's own need of tombstones, as the writer sees it.
    pin: Arc<AtomicU64>,
    told: Told,
    /// The newest that the client knows of: up to it, what is older is no state that the board ever had, and not `current`.
    seen: u64,
    /// How many batches in a row left it far from the head.
    behind: u32,
}

#[derive(Debug)]
enum State {
    Live { from: u64 },
    Walk { from: u64, head: u64, after: Option<Name>, reset: bool },
}

impl Follower {
    /// Begins where `cursor` says, if it belongs to the board's history; otherwise with a walk from zero.
    ///
    /// A cursor that was given for another part of the pattern, or for the whole where this is a part, is of no use here.
    pub fn new(board: &Board, pattern: Pattern, cursor: Option<Cursor>) -> Follower {
        let plain = |cursor: Cursor| Cursor {
            version: Version { epoch: pattern.disguised(cursor.version.epoch), ..cursor.version },
            ..cursor
        };
        let cursor = cursor.map(plain);
        // The pin is set under the lock under which the horizon was looked at, else a purge could come in between.
        let view = board.view();
        let seen = cursor.as_ref().map_or(0, |cursor| cursor.seen);
        let resume = cursor.map_or(Resume::Reset, |cursor| view.lineage().resume(view.head(), &cursor));
        let reset = resume == Resume::Reset;
        let state = match resume {
            Resume::From(from) => State::toward_head(&view, from),
            Resume::Walk { from, mark: WalkMark { head, upto, reset } } => {
                State::Walk { from, head, after: Some(upto), reset }
            }
            Resume::Reset => State::Walk { from: 0, head: view.head(), after: None, reset: true },
        };
        let start = Start { epoch: pattern.disguised(view.lineage().epoch), run: view.lineage().run, reset };
        let pin = board.pin(state.pin());
        drop(view);
        let seen = if reset { 0 } else { seen };
        Follower { board: board.clone(), pattern, start, state, pin, told: Told::Nothing, seen, behind: 0 }
    }

    /// What the client is told before its first batch.
    pub fn start(&self) -> Start {
        self.start
    }

    /// The pattern that is followed.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Where the follower stands.
    pub fn position(&self) -> Position {
        match self.state {
            State::Live { from } if self.behind <= BEHIND_MOVES_MAX => Position::Live(from),
            State::Live { .. } => Position::Walking,
            State::Walk { .. } => Position::Walking,
        }
    }

    /// Whether the client waits for something that no shared batch brings: the first word on where it stands, that it is
    /// current, or the `current` of a board that became complete. [`Follower::next`] then gives it, if need be as an empty batch.
    pub fn owes(&self) -> bool {
        match self.state {
            State::Walk { .. } => true,
            State::Live { .. } if self.behind > BEHIND_MOVES_MAX => true,
            State::Live { from } => self.board.read(|index| self.owes_at(index, from)),
        }
    }

    /// The next batch, and the follower has moved behind it; `None` while there is nothing to say.
    pub fn next(&mut self, limits: Limits) -> Option<Batch> {
        self.step(limits, false)
    }

    /// The next batch as [`Follower::next`] gives it, but an empty one also for a single foreign seq: for someone who
    /// waits until this client has passed the head. `None` only at the head.
    pub fn mark(&mut self, limits: Limits) -> Option<Batch> {
        self.step(limits, true)
    }

    /// The hub gave this client a shared batch with this mark, which [`live_batch`] made for the follower's pattern, with what it
    /// tells.
    ///
    /// Not for a follower elsewhere than where the batch begins: the call is then without effect.
    pub fn advance_live(&mut self, mark: &Mark, told: Told) {
        if let (State::Live { from: at }, Mark::Live { from, to, view, .. }) = (&self.state, mark)
            && at == from
            && to >= from
        {
            self.gave_live(*to, *view, told);
            self.moved(*to, self.board.head());
            self.pin.store(self.state.pin(), Ordering::Release);
        }
    }

    fn gave_live(&mut self, to: u64, view: u64, told: Told) {
        self.state = State::Live { from: to };
        self.seen = self.seen.max(view);
        // A kept batch may be from before a view of which the client was given a part.
        self.told = if self.seen == to { told } else { Told::Place };
    }

    fn step(&mut self, limits: Limits, asked: bool) -> Option<Batch> {
        // The board is complete for the range of a mark only if it was so in all views that the range was read from.
        let mut complete = true;
        loop {
            let board = self.board.clone();
            let view = board.view();
            complete &= view.complete() || mutant::is(Mutant::DropsWhileIncomplete);
            if let State::Live { from } = self.state {
                self.state = if self.behind > BEHIND_MOVES_MAX {
                    State::Walk { from, head: view.head(), after: None, reset: false }
                } else {
                    State::toward_head(&view, from)
                };
            }
            let step = match &mut self.state {
                State::Live { from } => {
                    let from = *from;
                    let must = asked && view.head() > from || self.owes_at(&view, from);
                    let batch = live(&view, &self.pattern, from, limits, must);
                    ControlFlow::Break(batch.map(|(batch, told)| {
                        if let Mark::Live { to, view: of, .. } = batch.mark {
                            self.gave_live(to, of, told);
                            self.moved(to, view.head());
                        }
                        batch
                    }))
                }
                State::Walk { from, head, after, reset } => {
                    let passed = pass(&view, &self.pattern, *from, after.as_deref(), (*head, *reset), limits);
                    if let Some(upto) = passed.upto {
                        *after = Some(upto);
                    }
                    if passed.records.is_empty() && !passed.last {
                        ControlFlow::Continue(())
                    } else {
                        let (head, last) = (*head, passed.last);
                        let upto = after.clone().unwrap_or_default();
                        let mark = Mark::Walk { head, upto, last, reset: *reset && complete };
                        self.seen = passed.records.iter().map(|record| record.seq).fold(self.seen.max(head), u64::max);
                        if last {
                            let from = if mutant::is(Mutant::WalkEndsAtPresentHead) { view.head() } else { head };
                            self.state = State::Live { from };
                            self.told = Told::Nothing;
                            self.behind = 0;
                        }
                        ControlFlow::Break(Some(Batch { records: passed.records, mark }))
                    }
                }
            };
            self.pin.store(self.state.pin(), Ordering::Release);
            if let ControlFlow::Break(batch) = step {
                return batch;
            }
        }
    }

    fn moved(&mut self, to: u64, head: u64) {
        let near = head.saturating_sub(to) <= NEAR_SEQS;
        self.behind = if near { 0 } else { self.behind.saturating_add(1) };
    }

    fn owes_at(&self, index: &Index, from: u64) -> bool {
        let owes = match self.told {
            Told::Nothing => true,
            Told::Place => index.complete(),
            Told::Current(completions) => index.complete() && completions != index.completions(),
        };
        // Wherever it is: with nothing but foreign seqs before it no other batch comes.
        owes && (from == index.head() || !mutant::is(Mutant::CurrentOnlyAtTheHead))
    }
}

impl State {
    /// From a seq that was seen: by seq if the way is short, else by name.
    fn toward_head(index: &Index, from: u64) -> State {
        match index.since(from).nth(SHORT_WAY_ENTRIES_MAX) {
            None => State::Live { from },
            Some(_) => State::Walk { from, head: index.head(), after: None, reset: false },
        }
    }

    /// The seq above which tombstones are needed from here.
    fn pin(&self) -> u64 {
        match self {
            State::Live { from } | State::Walk { from, reset: false, .. } => *from,
            State::Walk { head, reset: true, .. } => *head,
        }
    }
}

/// The batch that every follower of `pattern` that stands at `from` needs next, made once for all of them.
///
/// `None` when there is nothing for them: at the head, when less than [`MARK_SEQS`] seqs were passed without a match, or
/// when the way is longer than [`LIVE_WAY_ENTRIES_MAX`] entries; then [`Follower::next`] of each goes by name. Valid for
/// followers that live: for them the tombstones above `from` are kept. With it what it tells them of where they stand.
pub fn live_batch(board: &Board, pattern: &Pattern, from: u64, limits: Limits) -> Option<(Batch, Told)> {
    let view = board.view();
    if from >= view.head() || from < view.lineage().horizon || view.since(from).nth(LIVE_WAY_ENTRIES_MAX).is_some() {
        return None;
    }
    live(&view, pattern, from, limits, false)
}

/// The batch after `from` by seq. With `must` also an empty one that moves nothing far.
fn live(index: &Index, pattern: &Pattern, from: u64, limits: Limits, must: bool) -> Option<(Batch, Told)> {
    let head = index.head();
    let mut fill = Fill::new(limits);
    let mut to = head;
    if pattern.is_exact() {
        // One look instead of all entries of the way; it is the newest of its name, so nothing else can match.
        if let Some(record) = index.get(pattern.prefix()).filter(|record| record.seq > from) {
            fill.add(record);
        }
    } else {
        let mut passed = from;
        for record in index.since(from) {
            if pattern.matches(&record.name) && !fill.add(record) {
                to = passed;
                break;
            }
            passed = record.seq;
        }
    }
    let complete = index.complete() || mutant::is(Mutant::CurrentWhileIncomplete);
    let current = to == head && complete;
    let says = !fill.records.is_empty() || must || to - from >= MARK_SEQS;
    let told = if current { Told::Current(index.completions()) } else { Told::Place };
    says.then_some((Batch { records: fill.records, mark: Mark::Live { from, to, view: head, current } }, told))
}

/// One stretch of a walk.
struct Passed {
    records: Vec<Record>,
    /// The last name looked at, if any was.
    upto: Option<Name>,
    /// There is no name after it.
    last: bool,
}

/// Walks on from `after` with the entries above `from`.
///
/// A walk from zero needs no tombstones, since what is not sent is dropped; but those above the walk's head are sent all
/// the same. Else the client would know of a removal newer than all it was sent, and neither it nor a hub that lost that
/// removal could tell.
fn pass(
    index: &Index,
    pattern: &Pattern,
    from: u64,
    after: Option<&[u8]>,
    (head, reset): (u64, bool),
    limits: Limits,
) -> Passed {
    let mut fill = Fill::new(limits);
    let mut upto = None;
    for (looked, record) in index.walk(pattern, after).enumerate() {
        let needed = record.value.is_some() || !reset || record.seq > head && !mutant::is(Mutant::WalkHidesRemovals);
        let wanted = record.seq > from && needed && pattern.matches(&record.name);
        if looked == SCAN_NAMES_MAX || wanted && !fill.add(record) {
            return Passed { records: fill.records, upto, last: false };
        }
        upto = Some(record.name.clone());
    }
    Passed { records: fill.records, upto, last: true }
}

/// Entries up to a limit.
struct Fill {
    limits: Limits,
    bytes: usize,
    records: Vec<Record>,
}

impl Fill {
    fn new(limits: Limits) -> Fill {
        Fill { limits, bytes: 0, records: Vec::new() }
    }

    /// Whether the entry found room. The first always does.
    fn add(&mut self, record: &Record) -> bool {
        let bytes = self.bytes + record.name.len() + record.value.as_ref().map_or(0, Bytes::len) + ENTRY_BYTES;
        let fits = self.records.len() < self.limits.entries && bytes <= self.limits.bytes;
        if !fits && !self.records.is_empty() {
            return false;
        }
        self.bytes = bytes;
        if record.value.is_some() || !mutant::is(Mutant::FollowerForgetsTombstones) {
            self.records.push(Record { aside: Bytes::new(), ..record.clone() });
        }
        true
    }
}
