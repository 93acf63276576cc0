//! Putting: what is wanted is staged, waits, and is switched in portions.

use super::team::{Job, LARGE_BYTES};
use super::{At, Pass, READS_MAX, REPLACED_MAX, Why};
use crate::engine::{Action, Engine};
use crate::source::{Source, Supply, Want, WantFile};
use crate::stage::{self, Failed, Place, Staged};
use crate::switch::{How, Step};
use std::sync::Arc;
use tree::{Kind, Name, RelPath, Stat};

impl<S: Source> Pass<'_, '_, S> {
    /// [`Pass::put_file`], by whoever is free first if it is large.
    pub(super) fn put(&mut self, at: &At, name: Name, path: RelPath, want: WantFile, found: Option<Stat>) {
        if want.size_bytes < LARGE_BYTES || self.is_for_one(Some(&Want::File(want)), found.as_ref()) {
            return self.put_file(at, name, path, want, found);
        }
        self.hand_on(Job::Put { at: at.clone(), name, path, want, found });
    }

    /// Stages a file and has it wait for its switch.
    pub(super) fn put_file(&mut self, at: &At, name: Name, path: RelPath, mut want: WantFile, found: Option<Stat>) {
        if self.put_link_to(at, &name, &path, &want, found) {
            return;
        }
        if self.engine.options.dry_run {
            let action = if found.is_some() { Action::Updated } else { Action::Copied };
            return self.tell(action, &path, Some(Kind::File), want.size_bytes);
        }
        if !self.make_writable(at) {
            return;
        }
        for read in 1..=READS_MAX {
            self.engine.scratch.takes_grown = read == READS_MAX;
            let place = if found.is_some() { Place::Over } else { Place::New };
            let supply = self.source.content(&path, &want);
            let Engine { temps, scratch, .. } = &mut *self.engine;
            match stage::stage(&at.dir, &name, &want, supply, place, temps, scratch) {
                Ok(staged) if self.is_unsettled_by_now(&path, &want) => {
                    stage::discard(&at.dir, &name, &staged);
                    return self.tell(Action::Unsettled, &path, Some(Kind::File), 0);
                }
                Ok(staged) => {
                    let how = match (staged, found) {
                        (Staged::Unnamed(file), _) => How::Link(file),
                        (Staged::Temp(temp), None) => How::Rename(temp),
                        (Staged::Temp(temp), Some(found)) => How::Over(temp, found),
                        (Staged::There(_), _) => return,
                    };
                    let lacks = std::mem::take(&mut self.engine.scratch.lacks);
                    self.lack_all(&path, lacks);
                    let bytes = want.size_bytes;
                    return self.switch_later(at, name, path, Want::File(want), bytes, how);
                }
                Err(Failed::Changed) => match self.source.entry(&path) {
                    Ok(Some(Want::File(now))) => want = now,
                    Ok(_) => return self.look_again(&path),
                    Err(problem) => return self.fail(&path, problem),
                },
                Err(failed) => return self.not_staged(&path, failed),
            }
        }
        self.not_staged(&path, Failed::Changed);
    }

    /// Whether a file was changed while it was staged, under whichever name.
    pub(super) fn is_unsettled_by_now(&mut self, path: &RelPath, want: &WantFile) -> bool {
        self.source.is_unsettled_by_now(path) || self.is_elsewhere_unsettled(path, want)
    }

    pub(super) fn not_staged(&mut self, path: &RelPath, failed: Failed) {
        match failed {
            Failed::Not(Supply::Pending) => {
                self.tell(Action::Waiting, path, Some(Kind::File), 0);
                self.found.out.waiting.push(path.clone());
            }
            Failed::Not(Supply::Gone) | Failed::Stopped => self.look_again(path),
            Failed::Not(Supply::Unsettled) | Failed::Changed => {
                self.tell(Action::Unsettled, path, Some(Kind::File), 0);
                self.look_again(path);
            }
            failed => self.fail(path, failed.into_problem(path)),
        }
    }

    pub(super) fn put_link(&mut self, at: &At, name: Name, path: RelPath, want: Want, found: Option<Stat>) {
        let Want::Link(link) = &want else { return };
        if self.engine.options.dry_run {
            let action = if found.is_some() { Action::Updated } else { Action::Copied };
            return self.tell(action, &path, Some(Kind::Link), 0);
        }
        if !self.make_writable(at) {
            return;
        }
        let temp = match at.dir.make_temp_link(&self.engine.temps, &link.target) {
            Ok(temp) => temp,
            Err(e) => return self.fail(&path, e.into()),
        };
        if let Err(problem) = self.dress(&at.dir, &temp, &path, &want) {
            crate::switch::drop_temp(&at.dir, &temp, &path);
            return self.not_dressed(&path, problem);
        }
        let how = match found {
            Some(found) => How::Over(temp, found),
            None => How::Rename(temp),
        };
        self.switch_later(at, name, path, want, 0, how);
    }

    pub(super) fn switch_later(&mut self, at: &At, name: Name, path: RelPath, want: Want, bytes: u64, how: How) {
        self.found.steps.push(Step { path, dir: Arc::clone(&at.dir), name, want, bytes, how });
        if self.found.steps.len() >= (self.engine.options.portion / self.crew.threads).max(1) {
            self.switch_all();
        }
    }

    /// Switches everything that was staged.
    pub(super) fn switch_all(&mut self) {
        // Nothing but the switches in this loop, so that what belongs together appears together.
        let steps = std::mem::take(&mut self.found.steps);
        self.groups.queued.clear();
        let backup = self.engine.options.backup.as_deref();
        let temps = &*self.engine.temps;
        let done = self.in_parts(&steps, |step| step.run(temps, backup));
        for (step, done) in steps.into_iter().zip(done) {
            match done {
                Ok(done) => {
                    self.left_over(&step.path.parent().unwrap_or_default(), done.left_over);
                    let held = self.found.out.replaced.len() < REPLACED_MAX / self.crew.threads;
                    self.found.out.replaced.extend(done.replaced.filter(|_| held));
                    self.lack_all(&step.path, done.lacks);
                    self.link_switched(&step, &done.stat);
                    if done.same {
                        self.keep(&step.path, &step.want, &done.stat);
                    } else {
                        self.switched(&step, &done.stat);
                    }
                }
                Err(problem) => {
                    self.link_not_switched(&step.want, &step.path);
                    if let Want::Dir(_) = step.want {
                        self.source.removed(&step.path);
                    }
                    let problem = self.not_switched(&step, problem);
                    self.fail(&step.path, problem);
                }
            }
        }
    }

    pub(super) fn switched(&mut self, step: &Step, stat: &Stat) {
        let action = if step.is_update() { Action::Updated } else { Action::Copied };
        self.tell(action, &step.path, step.want.kind(), step.bytes);
        self.source.placed(&step.path, &step.want, stat);
        if !matches!(step.how, How::Meta(..))
            && let Some(parent) = step.path.parent()
        {
            self.finish_later(&parent, Why::Touched);
        }
    }
}
