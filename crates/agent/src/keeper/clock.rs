//! What the clock and the watch of the copy ask a keeper for.

use super::place::LOOK_EVERY;
use super::{Concern, Work};
use crate::holding::now_ns;
use mirror::Dirty;
use mirror::dirty::{All, Hint};
use mirror::watch::{News, Watcher};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tree::RelPath;

/// After so long of changes that are not saved they are.
const SAVE_AFTER: Duration = Duration::from_millis(200);
/// Changes survive a power cut after so long, or so many bytes.
const SYNC_AFTER: Duration = Duration::from_secs(1);
const SYNC_BYTES: u64 = 64 * 1024 * 1024;
/// How often what cannot be watched is looked at.
pub(super) const POLL_EVERY: Duration = Duration::from_secs(60);

impl Work {
    /// Watches the copy, if it is where it was.
    pub(super) fn watch(&mut self) {
        self.look_at_place();
        if self.away {
            return;
        }
        let mailbox = Arc::clone(&self.mailbox);
        let started = self.engine.dest().walk(&RelPath::root()).map_err(|e| e.to_string()).and_then(|root| {
            Watcher::start_unhurried(root, Arc::new(move || mailbox.push_watch()), None).map_err(|e| e.to_string())
        });
        match started {
            Ok(watcher) => {
                watcher.add_tree(&RelPath::root());
                self.watcher = Some(watcher);
                self.concerns.clear(Concern::Watch);
            }
            Err(why) => self.fault(
                Concern::Watch,
                format!("the copy is not watched, so local changes are undone only within a minute: {why}"),
            ),
        }
    }

    /// Whether the path of the copy still leads to it. If not, this life ends with the turn of its loop.
    fn look_at_place(&mut self) {
        self.place_at = Instant::now() + LOOK_EVERY;
        self.away = self.away || self.holding.check_place().is_err();
    }

    pub(super) fn look_at_watch(&mut self) {
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
                    self.concerns.clear(Concern::Watches);
                    // From now on, or if it is gone, that is told.
                    self.watch();
                    self.local = Dirty::everything();
                    return;
                }
                News::Unmounted(path) => self.local.insert_all(&path, All { recursive: true, content: false }),
                News::WatchesUsedUp { hint, .. } => self.fault(Concern::Watches, hint),
            }
        }
    }

    /// What the clock asks for.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.holding.forget_problems();
            self.dirty.merge(self.again.take());
            self.settle_all();
        }
        if self.follow_at.is_some_and(|at| at <= now) {
            self.follow(true);
        }
        if self.place_at <= now {
            self.look_at_place();
        }
        if self.poll_at <= now {
            self.poll_at = now + POLL_EVERY;
            self.poll();
            self.settle_all();
        }
        if self.watcher.is_some() && self.holding.fresh_for(now_ns()) == Some(Duration::ZERO) {
            self.holding.confirm_fresh(now_ns());
            self.unsaved_since.get_or_insert(now);
        }
        if !self.saving && self.unsaved_since.is_some_and(|since| now.duration_since(since) >= SAVE_AFTER) {
            self.save();
        }
        let applied = self.holding.applied_seq();
        let due = now.duration_since(self.synced_at) >= SYNC_AFTER || self.bytes_since_sync >= SYNC_BYTES;
        if !self.durable.is_syncing() && due && applied > self.durable.seq() && self.gate.is_open() {
            self.durable.begin(applied);
            self.synced_at = now;
            self.bytes_since_sync = 0;
            if let Some(chores) = &self.chores {
                chores.sync();
            }
        }
    }

    /// Looks at what nothing tells of.
    fn poll(&mut self) {
        if self.concerns.has(Concern::Deletions) {
            // What the guard keeps is looked at by nothing else, and it may be few by now, or wanted again.
            self.dirty.merge(Dirty::everything());
        }
        let Some(watcher) = &self.watcher else {
            self.watch();
            self.local = Dirty::everything();
            return;
        };
        let unwatched = watcher.unwatched();
        for dir in &unwatched {
            self.local.insert_all(dir, All { recursive: true, content: false });
        }
        watcher.retry_unwatched();
        if unwatched.is_empty() {
            self.concerns.clear(Concern::Watches);
        }
    }

    pub(super) fn save(&mut self) {
        self.unsaved_since = None;
        self.saving = true;
        let unsaved = self.holding.replica_mut().take_unsaved();
        if let Some(chores) = &self.chores {
            chores.save(unsaved);
        }
        self.free_replaced();
    }

    pub(super) fn free_replaced(&mut self) {
        let replaced = std::mem::take(&mut self.replaced);
        if let Some(chores) = self.chores.as_ref().filter(|_| !replaced.is_empty()) {
            chores.free(replaced);
        }
    }

    /// How long nothing needs to be done unless something comes.
    pub(super) fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let save = (!self.saving).then_some(()).and(self.unsaved_since).map(|since| until(since + SAVE_AFTER));
        let sync =
            (!self.durable.is_syncing() && self.holding.applied_seq() > self.durable.seq() && self.gate.is_open())
                .then(|| until(self.synced_at + SYNC_AFTER));
        let watch = self.watcher.as_ref().and_then(Watcher::next_deadline);
        let fresh = self.watcher.as_ref().and_then(|_| self.holding.fresh_for(now_ns()));
        let at = [self.retry, Some(self.poll_at), Some(self.place_at), self.root.retry_at(), self.follow_at];
        [save, sync, watch, fresh].into_iter().chain(at.map(|at| at.map(until))).flatten().min()
    }
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
