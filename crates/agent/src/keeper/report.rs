//! What a keeper says to the hub and to people: acknowledgements, roots, progress.

use super::{Concern, Work};
use crate::convert::version_to_wire;
use crate::event::{Event, Events};
use crate::kept::Kept;
use board::Version;
use mirror::Dirty;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wire::limits::{PROBLEM_TEXT_BYTES_MAX, PROBLEMS_MAX};
use wire::message::Ack;

/// What people are told then.
const ROOT_DIFFERS: &str = "the copy is not what the hub says it has, though all was applied and everything was asked for \
                            again; it is tried again every minute. If it stays so, restart the hub, which reads its \
                            share anew";
/// A root that still differs after everything was done is looked into again after this long.
const ROOT_RETRY: Duration = Duration::from_secs(60);

/// Where the comparison of roots stands.
#[derive(Debug, Default)]
pub(super) struct RootCheck {
    /// The hub's, where the replica stands exactly there.
    current: Option<[u8; 32]>,
    /// Whether `current` was compared.
    compared: bool,
    agrees: Option<bool>,
    repair: Repair,
    retry_at: Option<Instant>,
}

/// What was done about a root that differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Repair {
    #[default]
    None,
    /// Everything was looked at again.
    Walked,
    /// Everything was asked for again.
    Refollowed,
}

impl RootCheck {
    pub(super) fn set_current(&mut self, current: Option<[u8; 32]>) {
        self.current = current;
        self.compared = false;
    }

    /// A follow begins; after a reset, in a history of which nothing was compared yet.
    pub(super) fn begin(&mut self, reset: bool) {
        self.set_current(None);
        if reset {
            self.agrees = None;
        }
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }
}

/// What was told last, so that nothing is told twice.
#[derive(Debug)]
pub(super) struct Told {
    ack: Option<Ack>,
    progress_at: Instant,
    in_sync: bool,
    /// Something was applied or undone, and not told as settled yet.
    pub(super) changed: bool,
}

impl Told {
    pub(super) fn new(now: Instant) -> Told {
        Told { ack: None, progress_at: now, in_sync: false, changed: false }
    }

    /// A new session knows of nothing.
    pub(super) fn forget(&mut self) {
        self.ack = None;
    }

    pub(super) fn progress(&mut self, now: Instant, waiting: usize, event: impl FnOnce() -> Event, events: &Events) {
        if waiting > 0 && now.duration_since(self.progress_at) >= super::PROGRESS_EVERY {
            self.progress_at = now;
            events(event());
        }
    }
}

impl Work {
    /// Acknowledges what has been applied, if that is not what was acknowledged last.
    pub(super) fn ack(&mut self) {
        let (Some(outbox), Some(start)) = (&self.outbox, self.start) else { return };
        if !self.gate.is_open() {
            return;
        }
        let ack = Ack {
            fid: self.fid,
            applied: version_to_wire(Version { epoch: start.epoch, run: start.run, seq: self.holding.applied_seq() }),
            complete: self.holding.replica().is_complete(),
            durable_seq: self.durable.seq(),
            waiting: u32::try_from(self.holding.waiting()).unwrap_or(u32::MAX),
            problems: self.problems(),
            first_problems: self.first_problems(),
            root_agrees: self.root.agrees,
            entries: self.holding.replica().len() as u64,
            content_bytes: self.content_bytes.load(Ordering::Relaxed),
            held_deletes: self.held_deletes,
            after: self.config.runs.last(&self.config.kept).map(Box::new),
        };
        if self.told.ack.as_ref() != Some(&ack) {
            self.told.ack = Some(ack.clone());
            outbox.ack(ack);
        }
    }

    fn problems(&self) -> u32 {
        let count = self.holding.problems().len() + self.concerns.len();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn first_problems(&self) -> Vec<(bytes::Bytes, String)> {
        let root = bytes::Bytes::new;
        let whole = self.concerns.texts().map(|text| (root(), cut(text)));
        let single = self.holding.problems().map(|(name, text)| (name, cut(text)));
        whole.chain(single).take(PROBLEMS_MAX).collect()
    }

    /// Compares the root with the hub's, where both are of the same state.
    pub(super) fn check_root(&mut self) {
        let now = Instant::now();
        if self.root.retry_at.is_some_and(|at| at <= now) {
            self.root.retry_at = None;
            self.root.repair = Repair::None;
            self.root.compared = false;
        }
        let settled = self.gate.is_open()
            && self.holding.waiting() == 0
            && self.dirty.is_empty()
            && (self.again.is_empty() || self.holding.problems().len() > 0);
        let Some(current) = self.root.current.filter(|_| settled && !self.root.compared) else {
            // A local change that was undone changes nothing of what was compared.
            if settled && self.root.compared && self.told.in_sync {
                self.tell_settled();
            }
            return;
        };
        self.root.compared = true;
        if matches!(self.config.kept, Kept::Values(_)) {
            // A hub gives no root of values: what is in place was verified by its own hash, and the marks say that it is all.
            return self.in_sync();
        }
        let ours = self.holding.root().to_bytes();
        let agrees = ours == current;
        self.root.agrees = Some(agrees);
        if agrees {
            self.root.repair = Repair::None;
            self.root.retry_at = None;
            self.concerns.clear(Concern::Root);
            self.in_sync();
            return;
        }
        self.told.in_sync = false;
        match self.root.repair {
            Repair::None => {
                tracing::error!(
                    share = self.config.kept.name(),
                    "the copy differs though all was applied; it is looked at again"
                );
                self.root.repair = Repair::Walked;
                self.holding.distrust_root();
                self.dirty.merge(Dirty::everything());
                self.settle_all();
                self.root.compared = false;
                // Once more, and deeper only if that did not help.
                self.check_root();
            }
            Repair::Walked => {
                self.root.repair = Repair::Refollowed;
                self.unfollow();
                self.follow(false);
            }
            Repair::Refollowed => {
                // Not put off by whatever comes meanwhile.
                self.root.retry_at.get_or_insert(now + ROOT_RETRY);
                self.fault(Concern::Root, ROOT_DIFFERS.into());
            }
        }
    }

    fn in_sync(&mut self) {
        let in_sync = self.problems() == 0;
        if in_sync && !self.told.in_sync {
            (self.events)(Event::InSync {
                of: self.config.kept.clone(),
                entries: self.holding.replica().len() as u64,
                content_bytes: self.content_bytes.load(Ordering::Relaxed),
            });
        }
        self.told.in_sync = in_sync;
        self.tell_settled();
    }

    fn tell_settled(&mut self) {
        if self.problems() == 0 && self.local.is_empty() && std::mem::take(&mut self.told.changed) {
            (self.events)(Event::Settled { of: self.config.kept.clone() });
        }
    }
}

/// At most what a problem's text may be, at a boundary of characters.
pub(super) fn cut(text: &str) -> String {
    let mut end = text.len().min(PROBLEM_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
