//! Keeps one share: a plain thread that owns the replica, the engine and the watch of the destination.
//!
//! One loop over a closed set of events: what the hub says, contents, the watch, the clock, the end. The live path is
//! short: a batch is taken, staged, switched and acknowledged in one turn of the loop; saving and syncing are another
//! thread's ([`crate::chores`]), and contents that did not come along are fetched by a task ([`crate::fetch`]).
//!
//! Nothing is deleted before the first `current` of an epoch. A directory that was not empty before the first join is
//! not touched before it is known what would become of it ([`NotEmpty`]).

mod gate;
mod report;

pub use gate::NotEmpty;

use crate::chores::Chores;
use crate::conn::Outbox;
use crate::convert::cursor_to_wire;
use crate::event::{Event, Events};
use crate::fetch::Fetch;
use crate::holding::{self, Holding, now_ns};
use crate::mailbox::{Letter, Mailbox, Said};
use board::{Durability, Replica, SqliteStore, Start};
use gate::Gate;
use mirror::dirty::{All, Hint};
use mirror::watch::{News, Watcher};
use mirror::{Action, Dirty, Engine, Options};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thiserror::Error;
use tree::{Dir, RelPath};
use wire::limits::SHARES_MAX;
use wire::message::{Number, ToHub};

/// After so long of changes that are not saved they are.
const SAVE_AFTER: Duration = Duration::from_millis(200);
/// Changes survive a power cut after so long, or so many bytes.
const SYNC_AFTER: Duration = Duration::from_secs(1);
const SYNC_BYTES: u64 = 64 * 1024 * 1024;
/// More batches are not taken while so many names wait for their content.
const WAITING_MAX: usize = 20_000;
/// What failed is tried again after this, then after twice as long each time.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often what cannot be watched is looked at.
const POLL_EVERY: Duration = Duration::from_secs(60);
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

const NOTE_ROOT: &str = "root";
const NOTE_BOOT: &str = "boot";
const NOTE_DURABLE: &str = "durable";

/// What a keeper needs to know.
#[derive(Clone, Debug)]
pub(crate) struct KeeperConfig {
    /// The share's name.
    pub(crate) share: String,
    /// Its number among the agent's shares; follows are numbered by it.
    pub(crate) index: u32,
    /// Where its copy is kept.
    pub(crate) directory: PathBuf,
    /// Where its replica is stored.
    pub(crate) store: PathBuf,
    /// A directory that is not empty and not this share's copy may become it.
    pub(crate) adopt: bool,
    /// Deletions that the guard would hold are done.
    pub(crate) allow_mass_delete: bool,
    /// The agent's own files and directories (device, inode).
    pub(crate) own: HashSet<(u64, u64)>,
    /// The boot of this machine.
    pub(crate) boot_id: String,
}

/// A keeper at work.
pub(crate) struct Keeper {
    pub(crate) share: String,
    pub(crate) index: u32,
    pub(crate) mailbox: Arc<Mailbox>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), KeeperError>>,
}

/// Which share a follow's number belongs to.
pub(crate) fn index_of(fid: Number) -> u32 {
    fid % FIDS
}

/// The distance between two follows of one share.
#[allow(clippy::cast_possible_truncation, reason = "a constant of 1024")]
const FIDS: u32 = SHARES_MAX as u32;

impl Keeper {
    /// Starts keeping a share. `ended` is called when it ends by itself.
    ///
    /// # Errors
    /// When the destination cannot be made or written, or the replica cannot be read.
    pub(crate) fn start(
        config: KeeperConfig,
        fetch: impl FnOnce(&Arc<Mailbox>, Dir) -> std::io::Result<Fetch>,
        events: Events,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Keeper, KeeperError> {
        let mailbox = Mailbox::new();
        let (share, index) = (config.share.clone(), config.index);
        let mut work = Work::open(config, &mailbox, fetch, events)?;
        let stop = work.engine.stop_flag();
        let thread = std::thread::Builder::new()
            .name(format!("keep {share}").chars().take(15).collect())
            .spawn(move || {
                let done = work.run();
                ended();
                done
            })
            .map_err(KeeperError::Thread)?;
        Ok(Keeper { share, index, mailbox, stop, thread })
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
    /// Seq up to which all survives a power cut.
    durable_seq: u64,
    syncing: bool,
    synced_at: Instant,
    bytes_since_sync: u64,
    poll_at: Instant,

    /// Bytes of contents received, by all ways.
    content_bytes: Arc<AtomicU64>,
    held: Option<String>,
    faults: Vec<String>,
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
    fn open(
        config: KeeperConfig,
        mailbox: &Arc<Mailbox>,
        fetch: impl FnOnce(&Arc<Mailbox>, Dir) -> std::io::Result<Fetch>,
        events: Events,
    ) -> Result<Work, KeeperError> {
        let directory = &config.directory;
        std::fs::create_dir_all(directory)
            .map_err(|e| KeeperError::Disk(tree::fsx::Error::from_io("create the directory", directory, &e)))?;
        // Later the path is compared with what is held: a working directory that changes must not matter.
        let directory = std::path::absolute(directory)
            .map_err(|e| KeeperError::Disk(tree::fsx::Error::from_io("open", directory, &e)))?;
        let dest = Dir::open_root(&directory)?;
        if !dest.try_lock()? {
            return Err(KeeperError::InUse { directory });
        }
        let held = dest.walk(&RelPath::root())?;
        let mut store = SqliteStore::open(&config.store, Durability::Process)?;
        let replica = Replica::load(&mut store)?;
        let durable_seq = note_u64(&replica, NOTE_DURABLE);
        let other_boot = replica.note(NOTE_BOOT).is_some_and(|boot| boot != config.boot_id.as_bytes());
        let complete = replica.is_complete();
        let mut holding = Holding::new(replica, dest.walk(&RelPath::root())?, directory.clone())?;
        if other_boot {
            // Whether the machine went down in order is not known, so what was not synced is read again.
            holding.distrust_above(durable_seq);
        }
        holding.allow_deletes(complete);
        let options = Options {
            allow_mass_delete: config.allow_mass_delete,
            sweep: true,
            own: config.own.clone(),
            ..Options::default()
        };
        let fetch = fetch(mailbox, dest.walk(&RelPath::root())?).map_err(KeeperError::Thread)?;
        let content_bytes = fetch.content_bytes();
        let chores =
            Chores::start(store, dest.walk(&RelPath::root())?, Arc::clone(mailbox)).map_err(KeeperError::Thread)?;
        let now = Instant::now();
        let mut work = Work {
            engine: Engine::new(dest, options),
            holding,
            watcher: None,
            chores: Some(chores),
            fetch,
            gate: Gate::Open,
            outbox: None,
            fid: config.index,
            start: None,
            dirty: Dirty::new(),
            local: Dirty::new(),
            again: Dirty::new(),
            retry: None,
            retry_after: RETRY_FIRST,
            unsaved_since: None,
            saving: false,
            durable_seq,
            syncing: false,
            synced_at: now,
            bytes_since_sync: 0,
            poll_at: now + POLL_EVERY,
            content_bytes,
            held: None,
            faults: Vec::new(),
            root: report::RootCheck::default(),
            told: report::Told::new(now),
            mailbox: Arc::clone(mailbox),
            events,
            config: KeeperConfig { directory, ..config },
        };
        work.gate = work.first_gate(&held)?;
        work.note_boot();
        Ok(work)
    }

    fn run(&mut self) -> Result<(), KeeperError> {
        self.watch();
        if self.gate.is_open() && !self.holding.replica().is_empty() {
            self.local = Dirty::everything();
            self.settle_all();
            if self.watcher.is_some() {
                self.holding.watched();
            }
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
                    return Ok(());
                }
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

    fn watch(&mut self) {
        let mailbox = Arc::clone(&self.mailbox);
        let started = self.engine.dest().walk(&RelPath::root()).map_err(|e| e.to_string()).and_then(|root| {
            Watcher::start(root, Arc::new(move || mailbox.push_watch()), None).map_err(|e| e.to_string())
        });
        match started {
            Ok(watcher) => {
                watcher.add_tree(&RelPath::root());
                self.watcher = Some(watcher);
            }
            Err(why) => self.fault(format!("the copy is not watched, so local changes are undone later: {why}")),
        }
    }

    /// `false` ends the loop.
    fn hear(&mut self, letter: Letter) -> bool {
        match letter {
            Letter::Stop => return false,
            Letter::Connected(outbox) => {
                self.outbox = Some(outbox);
                self.told.forget();
                self.follow(true);
            }
            Letter::Lost => {
                self.outbox = None;
                self.start = None;
            }
            Letter::Content(content, arrived) => {
                self.holding.arrive(content, arrived, &mut self.dirty);
            }
            Letter::Gone(content) => {
                self.holding.gone(content, &mut self.again);
                self.retry_soon();
            }
            Letter::Saved(failed) => {
                self.saving = false;
                if let Some((unsaved, why)) = failed {
                    self.holding.replica_mut().put_back(unsaved);
                    self.unsaved_since = Some(Instant::now());
                    self.fault(format!("what was received cannot be noted and may be looked at again: {why}"));
                }
            }
            Letter::Synced(done) => {
                self.syncing = false;
                match done {
                    Ok(seq) => {
                        self.durable_seq = seq;
                        self.holding.replica_mut().set_note(NOTE_DURABLE, seq.to_le_bytes().to_vec());
                        self.unsaved_since.get_or_insert_with(Instant::now);
                    }
                    Err(why) => self.fault(format!("the file system could not be synced: {why}")),
                }
            }
            Letter::NotFollowing(why) => self.fault(format!("the hub does not give this share: {why}")),
        }
        true
    }

    fn hear_hub(&mut self, said: Said) {
        match said {
            Said::Following { fid, start } => {
                if fid != self.fid {
                    return;
                }
                match self.holding.replica_mut().begin(start) {
                    Ok(()) => {
                        if start.reset {
                            self.holding.allow_deletes(false);
                            self.durable_seq = 0;
                        }
                        self.start = Some(start);
                        self.root.forget_current();
                        self.unsaved_since.get_or_insert_with(Instant::now);
                    }
                    Err(why) => self.refollow(&why.to_string()),
                }
            }
            // What was on its way for a follow that is no more.
            Said::Batch(_) if self.start.is_none() => {}
            Said::Batch(came) => {
                let inline: u64 = came.inline.iter().map(|(_, bytes)| bytes.len() as u64).sum();
                self.content_bytes.fetch_add(inline, Ordering::Relaxed);
                let was_complete = self.holding.replica().is_complete();
                match self.holding.take(&came.batch, came.inline, &mut self.dirty) {
                    Ok(()) => {
                        self.unsaved_since.get_or_insert_with(Instant::now);
                        if !was_complete && self.holding.replica().is_complete() {
                            self.completed();
                        }
                        let current = came.root.filter(|_| self.holding.replica().is_current());
                        self.root.set_current(current);
                    }
                    Err(why) => self.refollow(&why.to_string()),
                }
            }
        }
    }

    /// The hub's list is complete for the first time: what is not in it goes.
    fn completed(&mut self) {
        self.holding.allow_deletes(true);
        self.dirty.merge(Dirty::everything());
    }

    fn follow(&mut self, resume: bool) {
        let Some(outbox) = &self.outbox else { return };
        self.start = None;
        self.fid = self.config.index + FIDS * ((self.fid / FIDS + 1) % 1024);
        let cursor = if resume { self.holding.replica().cursor().map(cursor_to_wire) } else { None };
        outbox.send(ToHub::Follow {
            fid: self.fid,
            board: format!("share/{}", self.config.share),
            pattern: bytes::Bytes::from_static(b"*"),
            cursor,
        });
    }

    /// The hub said what does not fit; the way on is to ask anew.
    fn refollow(&mut self, why: &str) {
        tracing::error!(share = %self.config.share, "{why}; following anew");
        self.unfollow();
        self.follow(true);
    }

    fn unfollow(&mut self) {
        if let Some(outbox) = &self.outbox {
            outbox.forget_acks(self.fid);
            outbox.send(ToHub::Unfollow { fid: self.fid });
        }
    }

    /// Looks wherever something is to be looked at.
    fn settle_all(&mut self) {
        if !self.gate.is_open() {
            return;
        }
        // A content that got a place in one round is there for those who wait for it in the next.
        while !self.dirty.is_empty() || !self.local.is_empty() {
            if !self.dirty.is_empty() {
                let dirty = self.dirty.take();
                self.round(dirty, Cause::Hub);
            }
            if !self.local.is_empty() {
                let local = self.local.take();
                self.round(local, Cause::Local);
            }
            if self.engine.stop_flag().load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn round(&mut self, dirty: Dirty, cause: Cause) {
        let Work { engine, holding, events, config, bytes_since_sync, .. } = self;
        let share = &config.share;
        let mut told = HashSet::new();
        let outcome = engine.reconcile(holding, &dirty, &mut |event| match (event.action, cause) {
            (Action::Copied | Action::Updated | Action::Deleted, cause) => {
                *bytes_since_sync += event.bytes;
                let path = event.path.clone();
                events(match cause {
                    Cause::Hub => {
                        Event::Applied { share: share.clone(), path, action: event.action, bytes: event.bytes }
                    }
                    Cause::Local => Event::Reverted { share: share.clone(), path },
                });
            }
            (Action::Failed, _) => {
                let text = event.error.map(ToString::to_string).unwrap_or_default();
                if text != holding::TOO_EARLY && told.insert(event.path.clone()) {
                    events(Event::Problem { share: share.clone(), path: event.path.clone(), text });
                }
            }
            (Action::Skipped | Action::Held | Action::Waiting | Action::Unsettled, _) => {}
        });
        let put_off = self.holding.take_put_off();
        for (path, problem) in &outcome.problems {
            let text = problem.to_string();
            if text != holding::TOO_EARLY {
                self.holding.fail(path, text);
            }
        }
        if outcome.held.is_some() || dirty_is_whole(&dirty) {
            self.hold(outcome.held.map(|held| held.to_string()));
        }
        // Deletions put off come back with the walk that follows the first `current`.
        if !(put_off && outcome.problems.len() == 1) {
            self.again.merge(outcome.again);
        }
        let (asks, unwanted) = self.holding.after_round(&mut self.dirty);
        self.fetch.want(asks);
        self.fetch.forget(unwanted);
        self.unsaved_since.get_or_insert_with(Instant::now);
        if self.again.is_empty() {
            self.retry = None;
            self.retry_after = RETRY_FIRST;
        } else {
            self.retry_soon();
        }
        self.told.progress(
            Instant::now(),
            self.holding.waiting(),
            || Event::Progress {
                share: self.config.share.clone(),
                entries: self.holding.replica().len() as u64,
                waiting: self.holding.waiting() as u64,
                content_bytes: self.content_bytes.load(Ordering::Relaxed),
            },
            &self.events,
        );
    }

    fn hold(&mut self, held: Option<String>) {
        if held != self.held
            && let Some(text) = &held
        {
            self.tell_problem(text.clone());
        }
        self.held = held;
    }

    fn retry_soon(&mut self) {
        if self.retry.is_none() {
            self.retry = Some(Instant::now() + self.retry_after);
            self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
        }
    }

    fn look_at_watch(&mut self) {
        let Some(watcher) = &self.watcher else { return };
        let due = watcher.due();
        // What was removed here was not removed by the hub: only the places count.
        let local = places_of(&due.dirty);
        self.local.merge(local);
        for news in due.news {
            match news {
                News::Overflow => {}
                News::RootGone(_) | News::Broken(_) => {
                    self.watcher = None;
                    self.fault(format!(
                        "the directory {} is not what it was: it was moved, deleted or unmounted; put it back and start \
                         the agent again",
                        tree::path::escape(self.config.directory.as_os_str().as_encoded_bytes())
                    ));
                    return;
                }
                News::Unmounted(path) => self.local.insert_all(&path, All { recursive: true, content: false }),
                News::WatchesUsedUp { hint, .. } => self.fault(hint),
            }
        }
    }

    /// What the clock asks for.
    fn tick(&mut self, now: Instant) {
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.holding.forget_problems();
            self.dirty.merge(self.again.take());
            self.settle_all();
        }
        if self.poll_at <= now {
            self.poll_at = now + POLL_EVERY;
            match &self.watcher {
                None => self.local = Dirty::everything(),
                Some(watcher) => {
                    for dir in watcher.unwatched() {
                        self.local.insert_all(&dir, All { recursive: true, content: false });
                    }
                    watcher.retry_unwatched();
                }
            }
            self.settle_all();
        }
        if !self.saving && self.unsaved_since.is_some_and(|since| now.duration_since(since) >= SAVE_AFTER) {
            self.save();
        }
        let applied = self.holding.applied_seq();
        let due = now.duration_since(self.synced_at) >= SYNC_AFTER || self.bytes_since_sync >= SYNC_BYTES;
        if !self.syncing && due && applied > self.durable_seq && self.gate.is_open() {
            self.syncing = true;
            self.synced_at = now;
            self.bytes_since_sync = 0;
            if let Some(chores) = &self.chores {
                chores.sync(applied);
            }
        }
    }

    fn save(&mut self) {
        if self.watcher.is_some() {
            self.holding.confirm_fresh(now_ns());
        }
        self.unsaved_since = self.holding.has_fresh().then(Instant::now);
        self.saving = true;
        let unsaved = self.holding.replica_mut().take_unsaved();
        if let Some(chores) = &self.chores {
            chores.save(unsaved);
        }
    }

    /// How long nothing needs to be done unless something comes.
    fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let save = (!self.saving).then_some(()).and(self.unsaved_since).map(|since| until(since + SAVE_AFTER));
        let sync = (!self.syncing && self.holding.applied_seq() > self.durable_seq && self.gate.is_open())
            .then(|| until(self.synced_at + SYNC_AFTER));
        let watch = self.watcher.as_ref().and_then(Watcher::next_deadline);
        [save, sync, watch, self.retry.map(until), Some(until(self.poll_at)), self.root.retry_at().map(until)]
            .into_iter()
            .flatten()
            .min()
    }

    fn end(&mut self) {
        let unsaved = self.holding.replica_mut().take_unsaved();
        if let Some(chores) = self.chores.take() {
            chores.save(unsaved);
        }
    }

    fn note_boot(&mut self) {
        let boot = self.config.boot_id.clone().into_bytes();
        self.holding.replica_mut().set_note(NOTE_BOOT, boot);
        self.unsaved_since.get_or_insert_with(Instant::now);
    }

    /// Something that concerns the whole share.
    fn fault(&mut self, text: String) {
        if !self.faults.contains(&text) {
            self.faults.push(text.clone());
        }
        self.tell_problem(text);
    }

    fn tell_problem(&self, text: String) {
        (self.events)(Event::Problem { share: self.config.share.clone(), path: RelPath::root(), text });
    }
}

fn note_u64(replica: &Replica, key: &str) -> u64 {
    replica.note(key).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn dirty_is_whole(dirty: &Dirty) -> bool {
    dirty.get(&RelPath::root()).and_then(|look| look.all).is_some_and(|all| all.recursive)
}

/// The places of `dirty` without what it says of removals.
fn places_of(dirty: &Dirty) -> Dirty {
    let mut places = Dirty::new();
    for (dir, look) in dirty.iter() {
        if let Some(all) = look.all {
            places.insert_all(dir, all);
        }
        for (name, hint) in &look.names {
            places.insert(dir, name, Hint { content: hint.content, by_event: false });
        }
    }
    if dirty.root_entry() {
        places.insert_root_entry();
    }
    places
}

/// Why a share is not kept.
#[derive(Debug, Error)]
pub enum KeeperError {
    /// The directory is not empty and is not this share's copy. Nothing was touched.
    #[error(transparent)]
    NotEmpty(Box<NotEmpty>),
    /// Another process keeps it.
    #[error("{} is already kept by another agent or mirror; stop that one or take another directory", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The destination cannot be used.
    #[error(transparent)]
    Disk(#[from] tree::fsx::Error),
    /// What was stored of the share cannot be read.
    #[error("what is stored of the share cannot be used: {0}; move that file away to have it fetched anew")]
    Store(Box<board::StoreError>),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A fault of the program.
    #[error("the keeper of the share failed by a fault of its own; the log says more")]
    Panicked,
}

impl From<board::StoreError> for KeeperError {
    fn from(error: board::StoreError) -> KeeperError {
        KeeperError::Store(Box::new(error))
    }
}
