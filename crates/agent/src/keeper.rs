//! Keeps one share, or some values as files: a plain thread that owns the replica, the engine and the watch of the
//! destination. Both are the same work; what a record means on the disk is the holding's to know, and of values nothing
//! is fetched and no root compared.
//!
//! One loop over a closed set of events: what the hub says, contents, the watch, the clock, the end. The live path is
//! short: a batch is taken, staged, switched and acknowledged in one turn of the loop; saving and syncing are another
//! thread's ([`crate::chores`]), and contents that did not come along are fetched by a task ([`crate::fetch`]).
//!
//! Nothing is deleted before the first `current` of an epoch. A directory that was not empty before the first join is
//! not touched before it is known what would become of it ([`NotEmpty`]).
//!
//! Where the copy is not where it was – its disk is not mounted, it was moved – nothing is put anywhere: a keeper waits for it
//! ([`away`]) and begins again once it is back ([`lives`]).
//!
//! What is received is noted a moment after it is in place. So after an end that was none in order, the copy may be newer
//! than what is noted, and nothing of it is undone or deleted before the hub has said what is newest ([`Work::behind`]).

mod away;
mod clock;
mod concern;
mod durable;
mod error;
mod gate;
mod hear;
mod lives;
mod place;
mod report;

pub use error::KeeperError;
pub use gate::NotEmpty;
pub(crate) use lives::MakeFetch;

use crate::chores::Chores;
use crate::conn::Outbox;
use crate::event::{Event, Events};
use crate::fetch::Fetch;
use crate::holding::{self, Edits, Holding};
use crate::kept::Kept;
use crate::mailbox::{Letter, Mailbox};
use crate::ran::LastRuns;
use board::{Replica, Start};
use concern::{Concern, Concerns};
use durable::Durable;
use gate::Gate;
use lives::{Ended, Setting};
use mirror::guard::Held;
use mirror::watch::Watcher;
use mirror::{Action, Dirty, Engine};
use place::Noted;
use rustix::fd::OwnedFd;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tree::RelPath;
use wire::limits::SHARES_MAX;
use wire::message::Number;

/// More batches are not taken while so many names wait for their content.
const WAITING_MAX: usize = if cfg!(test) { 200 } else { 20_000 };
/// What failed is tried again after this, then after twice as long each time.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A content that the hub no longer had is asked for again after this.
const GONE_RETRY: Duration = Duration::from_millis(250);
/// Replaced contents held until the next save.
const REPLACED_MAX: usize = 256;
/// At the end, saving is waited for so long.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

const NOTE_BOOT: &str = "boot";
/// It moves with the records: what a power cut takes of both is looked at again.
const NOTE_DURABLE: &str = "durable~";
/// Whether all that was put in place is noted: set at the end, taken away at the begin.
const NOTE_IN_ORDER: &str = "in order";

/// What a keeper needs to know.
#[derive(Clone, Debug)]
pub(crate) struct KeeperConfig {
    /// The share, or the values.
    pub(crate) kept: Kept,
    /// Its number among all that the agent keeps; follows are numbered by it.
    pub(crate) index: u32,
    /// Where its copy is kept.
    pub(crate) directory: PathBuf,
    /// Where its replica is stored.
    pub(crate) store: PathBuf,
    /// A directory that is not empty and not what is kept may become it.
    pub(crate) adopt: bool,
    /// Deletions that the guard would hold are done.
    pub(crate) allow_mass_delete: bool,
    /// What became of commands that are run after a change.
    pub(crate) runs: LastRuns,
    /// The agent's own files and directories (device, inode).
    pub(crate) own: HashSet<(u64, u64)>,
    /// The boot of this machine.
    pub(crate) boot_id: String,
}

/// A keeper at work.
pub(crate) struct Keeper {
    pub(crate) kept: Kept,
    pub(crate) index: u32,
    pub(crate) mailbox: Arc<Mailbox>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), KeeperError>>,
}

/// Which of the keepers a follow's number belongs to.
pub(crate) fn index_of(fid: Number) -> u32 {
    fid % FIDS
}

/// The number of the follow after `fid`.
fn next_fid(fid: Number, index: u32) -> Number {
    index + FIDS * ((fid / FIDS + 1) % 1024)
}

/// The distance between two follows of one keeper.
#[allow(clippy::cast_possible_truncation, reason = "a constant of 1024")]
const FIDS: u32 = SHARES_MAX as u32;

impl Keeper {
    /// Starts keeping. `ended` is called when it ends by itself.
    ///
    /// # Errors
    /// When the destination cannot be made or written, or the replica cannot be read.
    pub(crate) fn start(
        config: KeeperConfig,
        fetch: MakeFetch,
        events: Events,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Keeper, KeeperError> {
        let (mailbox, stop) = (Mailbox::new(), Arc::<AtomicBool>::default());
        let (kept, index) = (config.kept.clone(), config.index);
        config.runs.heard_by(&kept, &mailbox);
        let setting = Setting::new(config, &mailbox, fetch, events, &stop)?;
        let first = setting.first()?;
        let thread = std::thread::Builder::new()
            .name(format!("keep {}", kept.name()).chars().take(15).collect())
            .spawn(move || {
                let done = setting.live(first);
                ended();
                done
            })
            .map_err(KeeperError::Thread)?;
        Ok(Keeper { kept, index, mailbox, stop, thread })
    }

    /// Has it end: what is staged is switched, the replica is saved. Waits for it.
    ///
    /// # Errors
    /// Why it had ended by itself.
    pub(crate) fn stop(self) -> Result<(), KeeperError> {
        self.stop.store(true, Ordering::Relaxed);
        self.mailbox.push(Letter::Stop);
        self.thread.join().unwrap_or(Err(KeeperError::Panicked))
    }
}

/// The thread's own.
struct Work {
    config: KeeperConfig,
    mailbox: Arc<Mailbox>,
    events: Events,
    engine: Engine,
    holding: Holding,
    watcher: Option<Watcher>,
    chores: Option<Chores>,
    fetch: Fetch,
    gate: Gate,
    /// The copy may be newer than the replica, until the hub has said `current`.
    behind: bool,
    /// It begins in a directory of which nothing is known: what it lacks is no local change.
    anew: bool,

    outbox: Option<Arc<Outbox>>,
    /// The follow under way; its answer is still to come while `start` is `None`.
    fid: Number,
    start: Option<Start>,

    /// Where to look because the hub said so.
    dirty: Dirty,
    /// Where to look because something changed here.
    local: Dirty,
    /// Where to look once more, later.
    again: Dirty,
    retry: Option<Instant>,
    retry_after: Duration,

    unsaved_since: Option<Instant>,
    saving: bool,
    durable: Durable,
    synced_at: Instant,
    bytes_since_sync: u64,
    poll_at: Instant,
    /// Where the copy is, and when that is looked at again.
    noted: Noted,
    place_at: Instant,
    /// The copy is not where it was: this life ends.
    away: bool,
    /// What was replaced since the last save, held: freeing it takes the disk longer than putting the new in place did.
    replaced: Vec<OwnedFd>,

    /// Bytes of contents received, by all ways.
    content_bytes: Arc<AtomicU64>,
    concerns: Concerns,
    /// Deletions that a guard holds.
    held_deletes: u64,
    /// Following anew, after what made no sense.
    follow_at: Option<Instant>,
    follow_after: Duration,
    root: report::RootCheck,
    told: report::Told,
}

/// Why entries are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Hub,
    Local,
}

impl Work {
    fn run(&mut self) -> Result<Ended, KeeperError> {
        self.watch();
        let known = !self.holding.replica().is_empty() || self.holding.replica().is_complete();
        if self.gate.is_open() && self.behind {
            let (kept, copy) = (&self.config.kept, self.config.directory.display());
            tracing::info!(
                "{kept}: it did not end in order, so {copy} is looked at once the hub has said what is newest"
            );
        } else if self.gate.is_open() && known {
            self.look_at_all();
        } else if self.watcher.is_some() {
            // Nothing was read back yet, so nothing is too young.
            self.holding.watched();
        }
        loop {
            let room = self.holding.waiting() < WAITING_MAX;
            let mail = self.mailbox.take(room, self.patience());
            for letter in mail.letters {
                if !self.hear(letter) {
                    self.end();
                    return Ok(Ended::Stopped);
                }
            }
            if self.away {
                self.end();
                return Ok(Ended::Away);
            }
            let mut live = false;
            for said in mail.said {
                live = true;
                self.hear_hub(said);
            }
            self.decide_gate()?;
            self.settle_all();
            if live {
                self.ack();
            }
            // The watch last: what it tells of is mostly our own work, and nobody waits for it.
            self.look_at_watch();
            self.settle_all();
            self.tick(Instant::now());
            self.check_root();
            self.ack();
        }
    }

    /// Looks at the whole copy, whose watch is trusted from then on.
    fn look_at_all(&mut self) {
        let looked_at = if std::mem::take(&mut self.anew) { &mut self.dirty } else { &mut self.local };
        looked_at.merge(Dirty::everything());
        self.settle_all();
        if self.watcher.is_some() {
            self.holding.watched();
        }
    }

    /// Looks wherever something is to be looked at.
    fn settle_all(&mut self) {
        if !self.gate.is_open() {
            self.holding.drop_inline();
            return;
        }
        // A content that got a place in one round is there for those who wait for it in the next.
        while !self.dirty.is_empty() || !(self.local.is_empty() || self.behind) {
            if !self.dirty.is_empty() {
                let dirty = self.dirty.take();
                self.round(dirty, Cause::Hub);
            }
            if !self.local.is_empty() && !self.behind {
                let local = self.local.take();
                self.round(local, Cause::Local);
            }
            if self.engine.stop_flag().load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn round(&mut self, dirty: Dirty, cause: Cause) {
        let Work { engine, holding, events, config, bytes_since_sync, told: report::Told { changed, .. }, .. } = self;
        let of = &config.kept;
        let mut told = HashSet::new();
        // What is done for the hub may undo a local change that waited for its content; what a look here found is known only
        // once the round is over.
        let mut undoing = if cause == Cause::Hub { holding.take_edits() } else { Edits::default() };
        let mut found = Vec::new();
        let outcome = engine.reconcile(holding, &dirty, &mut |event| match (event.action, cause) {
            (Action::Copied | Action::Updated | Action::Deleted, cause) => {
                *bytes_since_sync += event.bytes;
                *changed = true;
                let (action, path) = (event.action, event.path.clone());
                match cause {
                    Cause::Local => found.push((path, action, event.bytes)),
                    Cause::Hub if action != Action::Deleted && undoing.was_undone(&path, action) => {
                        events(Event::Reverted { of: of.clone(), path });
                    }
                    Cause::Hub => events(Event::Applied { of: of.clone(), path, action, bytes: event.bytes }),
                }
            }
            (Action::Failed, _) => {
                let text = event.error.map(ToString::to_string).unwrap_or_default();
                if text != holding::TOO_EARLY && told.insert(event.path.clone()) {
                    events(Event::Problem { of: of.clone(), path: event.path.clone(), text });
                }
            }
            (Action::Skipped | Action::Left(_) | Action::Held | Action::Waiting | Action::Unsettled, _) => {}
        });
        for (path, action, bytes) in found {
            let of = of.clone();
            events(match holding.edits().was_undone(&path, action) {
                true => Event::Reverted { of, path },
                false => Event::Applied { of, path, action, bytes },
            });
        }
        holding.put_back_edits(undoing);
        holding.end_edits();
        let put_off = self.holding.take_put_off();
        for (path, problem) in &outcome.problems {
            let text = problem.to_string();
            if text != holding::TOO_EARLY {
                self.holding.fail(path, text);
            }
        }
        if outcome.held.is_some() || dirty_is_whole(&dirty) {
            self.hold(outcome.held);
        }
        // Deletions put off come back with the walk that follows the first `current`.
        if !(put_off && outcome.problems.len() == 1) {
            self.again.merge(outcome.again);
        }
        self.replaced.extend(outcome.replaced);
        if self.replaced.len() >= REPLACED_MAX {
            self.free_replaced();
        }
        let (asks, unwanted) = self.holding.after_round(&mut self.dirty);
        self.fetch.want(asks);
        self.fetch.forget(unwanted);
        self.unsaved_since.get_or_insert_with(Instant::now);
        if let Some(low) = self.holding.take_placed_low() {
            self.durable.placed(low);
        }
        if self.again.is_empty() {
            self.retry = None;
            // While something waits, it may be what failed: only what is in place has cured it.
            if self.holding.waiting() == 0 {
                self.retry_after = RETRY_FIRST;
            }
        } else {
            self.retry_soon();
        }
        self.told.progress(
            Instant::now(),
            self.holding.waiting(),
            || Event::Progress {
                of: self.config.kept.clone(),
                entries: self.holding.replica().len() as u64,
                waiting: self.holding.waiting() as u64,
                content_bytes: self.content_bytes.load(Ordering::Relaxed),
            },
            &self.events,
        );
    }

    fn hold(&mut self, held: Option<Held>) {
        self.held_deletes = held.as_ref().map_or(0, |held| held.deletes);
        let Some(Held { deletes, dest_entries, .. }) = held else {
            return self.concerns.clear(Concern::Deletions);
        };
        self.fault(
            Concern::Deletions,
            format!(
                "{deletes} of the {dest_entries} entries here are not {} any more, which is more than is \
                 deleted unasked, so they stay. If they are to go: stop this agent and start it once with \
                 'lockstep join --allow-mass-delete'",
                match self.config.kept {
                    Kept::Share(_) => "in the share",
                    Kept::Values(_) => "values of the hub",
                }
            ),
        );
    }

    fn retry_soon(&mut self) {
        if self.retry.is_none() {
            self.retry = Some(Instant::now() + self.retry_after);
            self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
        }
    }

    /// Saves all there is, and says so.
    fn end(&mut self) {
        let until = Instant::now() + END_PATIENCE;
        while self.saving && Instant::now() < until {
            for letter in self.mailbox.take(false, Some(until.saturating_duration_since(Instant::now()))).letters {
                self.hear(letter);
            }
        }
        // What an earlier save could not write is in this one.
        if !self.saving && !self.behind {
            self.holding.replica_mut().set_note(NOTE_IN_ORDER, b"1".to_vec());
        }
        let unsaved = self.holding.replica_mut().take_unsaved();
        if let Some(chores) = self.chores.take() {
            chores.save(unsaved);
        }
    }

    fn note_durable(&mut self) {
        let seq = self.durable.seq();
        self.holding.replica_mut().set_note(NOTE_DURABLE, seq.to_le_bytes().to_vec());
        self.unsaved_since.get_or_insert_with(Instant::now);
    }

    /// Something that concerns all that is kept; told once, counted until it is over.
    fn fault(&mut self, concern: Concern, text: String) {
        if self.concerns.raise(concern, text.clone()) {
            self.tell_problem(text);
        }
    }

    fn tell_problem(&self, text: String) {
        (self.events)(Event::Problem { of: self.config.kept.clone(), path: RelPath::root(), text });
    }
}

/// Up to where what `replica` holds survives a power cut.
fn note_durable_of(replica: &Replica) -> u64 {
    note_u64(replica, NOTE_DURABLE)
}

fn note_u64(replica: &Replica, key: &str) -> u64 {
    replica.note(key).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn dirty_is_whole(dirty: &Dirty) -> bool {
    dirty.get(&RelPath::root()).and_then(|look| look.all).is_some_and(|all| all.recursive)
}

#[cfg(test)]
mod away_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod values_tests;
