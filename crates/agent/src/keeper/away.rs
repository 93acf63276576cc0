//! A keeper while its copy is not where it was: its disk is not mounted, or the directory was moved or deleted.
//!
//! Nothing is put anywhere and nothing of the replica moves. It goes on following, so that the hub can tell who lacks what
//! and why; what it is sent meanwhile it is sent again, once the copy is back.

use super::lives::{Phase, Setting};
use super::place::{self, LOOK_EVERY, Noted, Since, Verdict};
use super::{Work, next_fid, note_durable_of};
use crate::conn::Outbox;
use crate::convert::{cursor_to_wire, version_to_wire};
use crate::event::Event;
use crate::kept::Kept;
use crate::mailbox::{Letter, Said};
use board::{Cursor, Replica, Start, Version};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tree::RelPath;
use tree::path::escape;
use wire::message::{Ack, Number, ToHub};

/// See the module.
pub(super) struct Away {
    noted: Option<Noted>,
    since: Since,
    why: String,
    /// What the replica holds, as far as it is told.
    cursor: Option<Cursor>,
    applied_seq: u64,
    durable_seq: u64,
    complete: bool,
    entries: u64,
    content_bytes: u64,
    outbox: Option<Arc<Outbox>>,
    /// The follow under way; its answer is still to come while `start` is `None`.
    fid: Number,
    start: Option<Start>,
    told: Option<Ack>,
}

impl Away {
    /// What the agent found when it started.
    pub(super) fn from_start(replica: &Replica, noted: Option<Noted>, setting: &Setting) -> Away {
        let why = format!(
            "the disk of {} seems not to be mounted: what is there now is empty, and is not what the copy was on. Nothing is \
             put there. Mount it, and {} kept again within seconds; if the copy is to begin anew there: \
             stop this agent and start it once with 'lockstep join --adopt'",
            directory(setting),
            kept_is(&setting.config.kept),
        );
        Away {
            noted,
            since: Since::Start { adopt: false },
            why,
            cursor: replica.cursor(),
            applied_seq: replica.head(),
            durable_seq: note_durable_of(replica),
            complete: replica.is_complete(),
            entries: replica.len() as u64,
            content_bytes: 0,
            outbox: None,
            fid: setting.config.index,
            start: None,
            told: None,
        }
    }

    /// What is left of a life whose copy is not where it was any more; all that was applied is noted.
    pub(super) fn after(work: Work, setting: &Setting) -> Away {
        let deleted = work.engine.dest().stat_self().is_ok_and(|stat| stat.nlink == 0);
        let why = format!(
            "{} is not the directory it was (unmounted, renamed or replaced), so nothing is put or deleted there. Put it \
             back, and {} kept again within seconds; if what is there now is to become the copy: start this agent anew",
            directory(setting),
            kept_is(&setting.config.kept),
        );
        let replica = work.holding.replica();
        Away {
            noted: Some(work.noted.clone()),
            since: Since::Gone { deleted },
            why,
            cursor: replica.cursor(),
            applied_seq: work.holding.applied_seq(),
            durable_seq: work.durable.seq(),
            complete: replica.is_complete(),
            entries: replica.len() as u64,
            content_bytes: work.content_bytes.load(Ordering::Relaxed),
            outbox: work.outbox.clone(),
            fid: work.fid,
            start: None,
            told: None,
        }
        // What is left of the life ends here: its lock, its watch, and its saving, which is waited for.
    }

    /// Waits until the copy is there again, or may begin anew, and takes it up; `None` when somebody has it end.
    pub(super) fn wait(mut self, setting: &Setting) -> Option<Box<Work>> {
        self.tell(setting, self.why.clone());
        self.unfollow();
        self.follow(setting);
        let mut look_at = Instant::now() + LOOK_EVERY;
        while !setting.stop.load(Ordering::Relaxed) {
            let mail = setting.mailbox.take(true, Some(look_at.saturating_duration_since(Instant::now())));
            for letter in mail.letters {
                match letter {
                    Letter::Stop => return None,
                    Letter::Connected(outbox) => {
                        self.outbox = Some(outbox);
                        self.follow(setting);
                    }
                    Letter::Lost => (self.outbox, self.start) = (None, None),
                    // What belongs to the life before.
                    Letter::Ran
                    | Letter::Content(..)
                    | Letter::Gone(_)
                    | Letter::Unfit(..)
                    | Letter::Saved(_)
                    | Letter::Synced(_)
                    | Letter::NotFollowing(_) => {}
                }
            }
            for said in mail.said {
                match said {
                    Said::Following { fid, start } if fid == self.fid => self.start = Some(start),
                    Said::Following { .. } | Said::Batch(_) => {}
                }
            }
            if look_at <= Instant::now() {
                look_at = Instant::now() + LOOK_EVERY;
                if let Some(work) = self.take_up(setting) {
                    return Some(work);
                }
            }
            self.ack(setting);
        }
        None
    }

    /// The next life, if the copy is there.
    fn take_up(&mut self, setting: &Setting) -> Option<Box<Work>> {
        // That it cannot be looked at is no news: it is not there.
        let found = place::look(&setting.config, &setting.config.directory).ok()?.0;
        if place::judge(self.noted.as_ref(), &found, self.since) == Verdict::Away {
            return None;
        }
        match setting.open(self.since) {
            Ok(Phase::Here(mut work)) => {
                tracing::info!("{}: {} is there again, and kept on", setting.config.kept, directory(setting));
                self.unfollow();
                work.content_bytes.fetch_add(self.content_bytes, Ordering::Relaxed);
                (work.outbox, work.fid) = (self.outbox.take(), self.fid);
                work.follow(true);
                Some(work)
            }
            Ok(Phase::Away(_)) => None,
            Err(error) => {
                let why = format!("{} is there again and cannot be kept: {error}", directory(setting));
                if self.why != why {
                    self.why.clone_from(&why);
                    self.tell(setting, why);
                }
                None
            }
        }
    }

    fn follow(&mut self, setting: &Setting) {
        self.start = None;
        self.told = None;
        let Some(outbox) = &self.outbox else { return };
        self.fid = next_fid(self.fid, setting.config.index);
        outbox.send(ToHub::Follow {
            fid: self.fid,
            board: setting.config.kept.board(),
            pattern: setting.config.kept.pattern(),
            cursor: self.cursor.clone().map(cursor_to_wire),
        });
    }

    fn unfollow(&mut self) {
        self.start = None;
        if let Some(outbox) = &self.outbox {
            outbox.forget_acks(self.fid);
            outbox.send(ToHub::Unfollow { fid: self.fid });
        }
    }

    /// Says that this is not done, and why.
    fn ack(&mut self, setting: &Setting) {
        let (Some(outbox), Some(start)) = (&self.outbox, self.start) else { return };
        // Of another history than the hub's, nothing counts.
        let of = |known: u64| if start.reset { 0 } else { known };
        let ack = Ack {
            applied: version_to_wire(Version { epoch: start.epoch, run: start.run, seq: of(self.applied_seq) }),
            durable_seq: of(self.durable_seq),
            complete: self.complete && !start.reset,
            problems: 1,
            first_problems: vec![(bytes::Bytes::new(), super::report::cut(&self.why))],
            entries: self.entries,
            content_bytes: self.content_bytes,
            after: setting.config.runs.last(&setting.config.kept).map(Box::new),
            ..Ack::of(self.fid, version_to_wire(Version { epoch: start.epoch, run: start.run, seq: 0 }), false)
        };
        if self.told.as_ref() != Some(&ack) {
            self.told = Some(ack.clone());
            outbox.ack(ack);
        }
    }

    fn tell(&self, setting: &Setting, text: String) {
        (setting.events)(Event::Problem { of: setting.config.kept.clone(), path: RelPath::root(), text });
    }
}

fn directory(setting: &Setting) -> String {
    escape(setting.config.directory.as_os_str().as_encoded_bytes())
}

fn kept_is(kept: &Kept) -> &'static str {
    match kept {
        Kept::Share(_) => "the share is",
        Kept::Values(_) => "the values are",
    }
}
