//! What a keeper hears: contents and their ends, what became of saving and syncing, and what the hub says of its board.

use super::{Concern, GONE_RETRY, RETRY_FIRST, RETRY_MAX, Work, next_fid};
use crate::convert::cursor_to_wire;
use crate::event::Event;
use crate::mailbox::{Letter, Said};
use mirror::Dirty;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wire::message::ToHub;

impl Work {
    /// `false` ends the loop.
    pub(super) fn hear(&mut self, letter: Letter) -> bool {
        match letter {
            Letter::Stop => return false,
            // What follows every letter does it.
            Letter::Ran => {}
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
                // A newer entry is coming, or is here already: that is no failure that deserves ever longer patience.
                let soon = Instant::now() + GONE_RETRY;
                self.retry = Some(self.retry.map_or(soon, |at| at.min(soon)));
            }
            Letter::Unfit(content, why) => {
                for path in self.holding.refuse(content, &why, &mut self.again) {
                    (self.events)(Event::Problem { of: self.config.kept.clone(), path, text: why.clone() });
                }
                // What nobody waits for any more is not asked for any more.
                let (asks, unwanted) = self.holding.orders();
                self.fetch.want(asks);
                self.fetch.forget(unwanted);
                self.retry_soon();
            }
            Letter::Saved(failed) => {
                self.saving = false;
                match failed {
                    None => self.concerns.clear(Concern::Save),
                    Some((unsaved, why)) => {
                        self.holding.replica_mut().put_back(unsaved);
                        self.unsaved_since = Some(Instant::now());
                        let text = format!("what was received cannot be noted and may be looked at again: {why}");
                        self.fault(Concern::Save, text);
                    }
                }
            }
            Letter::Synced(done) => {
                if self.durable.end(done.is_ok()) {
                    self.note_durable();
                }
                match done {
                    Ok(()) => self.concerns.clear(Concern::Sync),
                    Err(why) => self.fault(Concern::Sync, format!("the file system could not be synced: {why}")),
                }
            }
            Letter::NotFollowing(why) => {
                self.fault(Concern::Hub, format!("the hub does not give it: {why}"));
            }
        }
        true
    }

    pub(super) fn hear_hub(&mut self, said: Said) {
        match said {
            Said::Following { fid, start } => {
                if fid != self.fid {
                    return;
                }
                match self.holding.replica_mut().begin(start) {
                    Ok(()) => {
                        if start.reset {
                            self.holding.allow_deletes(false);
                            self.durable.reset();
                            self.note_durable();
                        }
                        self.start = Some(start);
                        self.concerns.clear(Concern::Hub);
                        self.root.begin(start.reset);
                        self.unsaved_since.get_or_insert_with(Instant::now);
                    }
                    Err(why) => self.refollow(&why.to_string()),
                }
            }
            // What was on its way for a follow that is no more.
            Said::Batch(_) if self.start.is_none() => {}
            Said::Batch(came) => {
                let inline: u64 = came.inline.iter().map(|(_, bytes)| bytes.len() as u64).sum();
                let values = came.batch.records.iter().filter_map(|record| self.holding.content_of(record));
                let values: u64 = values.map(|bytes| bytes.len() as u64).sum();
                self.content_bytes.fetch_add(inline + values, Ordering::Relaxed);
                let was_complete = self.holding.replica().is_complete();
                match self.holding.take(&came.batch, came.inline, &mut self.dirty) {
                    Ok(()) => {
                        self.unsaved_since.get_or_insert_with(Instant::now);
                        if !was_complete && self.holding.replica().is_complete() {
                            self.completed();
                        }
                        if self.behind && self.holding.replica().is_current() {
                            self.behind = false;
                            self.look_at_all();
                        }
                        let current = came.root.filter(|_| self.holding.replica().is_current());
                        if current.is_some() {
                            self.concerns.clear(Concern::Nonsense);
                            self.follow_after = Duration::ZERO;
                        }
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

    pub(super) fn follow(&mut self, resume: bool) {
        self.follow_at = None;
        let Some(outbox) = &self.outbox else { return };
        self.start = None;
        self.fid = next_fid(self.fid, self.config.index);
        let cursor = if resume { self.holding.replica().cursor().map(cursor_to_wire) } else { None };
        outbox.send(ToHub::Follow {
            fid: self.fid,
            board: self.config.kept.board(),
            pattern: self.config.kept.pattern(),
            cursor,
        });
    }

    /// The hub said what does not fit; the way on is to ask anew, at first at once, then at growing distances.
    pub(super) fn refollow(&mut self, why: &str) {
        self.fault(Concern::Nonsense, format!("the hub said what does not fit ({why}), so it is asked anew"));
        self.unfollow();
        self.follow_at = Some(Instant::now() + self.follow_after);
        self.follow_after = (self.follow_after * 2).clamp(RETRY_FIRST, RETRY_MAX);
    }

    pub(super) fn unfollow(&mut self) {
        self.start = None;
        if let Some(outbox) = &self.outbox {
            outbox.forget_acks(self.fid);
            outbox.send(ToHub::Unfollow { fid: self.fid });
        }
    }
}
