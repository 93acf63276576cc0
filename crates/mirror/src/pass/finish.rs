//! The end of a pass: deletions, if no guard holds them, and the modes and times of directories.

use super::open::{Opened, is_blocked};
use super::team::Job;
use super::{Action, At, Found, Pass, Why};
use crate::delete::{Care, Deep, Fate, count_in, count_tree, each_in_tree, remove_tree};
use crate::engine::Outcome;
use crate::guard::{self, Tally};
use crate::policy::Left;
use crate::problem::Problem;
use crate::source::{Source, Want, WantDir};
use crate::switch::How;
use std::sync::Arc;
use tree::{Dir, Kind, Name, RelPath, Stat};

/// Something that has to go.
#[derive(Debug)]
pub(super) struct Delete {
    dir: RelPath,
    name: Name,
    path: RelPath,
    /// What was looked at; nothing else is deleted.
    pub(super) found: Stat,
    /// The kernel reported its removal, so no guard holds it.
    reported: bool,
    /// What takes the place of a directory.
    instead: Option<Want>,
}

impl<S: Source> Pass<'_, '_, S> {
    pub(super) fn delete_later(&mut self, at: &At, name: Name, path: RelPath, found: Stat, instead: Option<Want>) {
        let reported = self.dirty.removed_by_event(&path);
        self.found.deletes.push(Delete { dir: at.path.clone(), name, path, found, reported, instead });
    }

    pub(super) fn finish(mut self) -> Outcome {
        self.switch_all();
        if !self.stopped() {
            self.delete_all();
            self.switch_all();
        }
        self.finish_dirs();
        self.note_entries();
        if self.found.out.stopped {
            // What was not reached is not known, so everything asked for is asked for again.
            self.found.out.again.merge(self.dirty.clone());
        }
        self.found.out
    }

    fn delete_all(&mut self) {
        if self.found.deletes.is_empty() {
            if self.found.tally.whole {
                self.engine.held = None;
            }
            return;
        }
        if self.found.out.problems.iter().any(|(_, problem)| problem.is_overlap()) {
            return;
        }
        if let Err(problem) = self.source.check_pin() {
            self.fail(&RelPath::root(), problem);
            return;
        }
        self.keep_pinned();
        let deletes = self.permitted();
        if self.engine.options.dry_run {
            deletes.iter().for_each(|delete| self.tell_delete(delete));
            return;
        }
        let (gone, replaced): (Vec<_>, Vec<_>) = deletes.into_iter().partition(|delete| delete.instead.is_none());
        let mut jobs: Vec<Vec<Delete>> = Vec::new();
        for delete in gone {
            // Removing names of one directory, threads would only wait for each other.
            let with = |first: &Delete| {
                first.dir == delete.dir && first.found.kind != Kind::Dir && delete.found.kind != Kind::Dir
            };
            match jobs.last_mut().filter(|job| job.first().is_some_and(with)) {
                Some(job) => job.push(delete),
                None => jobs.push(vec![delete]),
            }
        }
        self.do_all(jobs.into_iter().map(Job::Delete).collect());
        replaced.into_iter().for_each(|delete| self.delete_in_one(vec![delete]));
    }

    /// Counts what the destination has now: what was there, and what came and went since.
    fn note_entries(&mut self) {
        let Found { out, tally, .. } = &self.found;
        let before = if tally.whole { Some(tally.dest_entries) } else { self.engine.entries_known };
        if out.stopped || self.engine.options.dry_run {
            return;
        }
        let listed = if tally.whole { tally.deleted_below } else { 0 };
        let there = before.map(|before| before + listed + out.counts.copied);
        self.engine.entries_known = there.map(|there| there.saturating_sub(out.counts.deleted));
    }

    /// What may be gone only because a file system is away stays.
    fn keep_pinned(&mut self) {
        for delete in std::mem::take(&mut self.found.deletes) {
            match self.source.check_deletion(&delete.path) {
                Ok(()) => self.found.deletes.push(delete),
                Err(problem) => self.fail(&delete.path, problem),
            }
        }
    }

    /// Deletes what is in one directory.
    pub(super) fn delete_in_one(&mut self, deletes: Vec<Delete>) {
        let mut held: Option<At> = None;
        for delete in deletes {
            if self.stopped() {
                return;
            }
            let at = match held.take() {
                Some(at) => at,
                None => match self.open(&delete.dir) {
                    Ok(Opened::Dir(at)) => at,
                    Ok(Opened::Blocked(..)) => continue,
                    Err(problem) => {
                        self.fail(&delete.path, problem);
                        continue;
                    }
                },
            };
            if self.make_writable(&at) {
                self.delete(&at, delete);
            }
            held = Some(at);
        }
    }

    /// What may be deleted now; the rest is told as held.
    fn permitted(&mut self) -> Vec<Delete> {
        let mut deletes = std::mem::take(&mut self.found.deletes);
        deletes.sort_by(|a, b| a.path.cmp(&b.path));
        if self.engine.options.allow_mass_delete || deletes.iter().all(|d| d.reported) {
            return deletes;
        }
        let dest = Arc::clone(&self.engine.dest);
        let (apart, chooses) = (self.source.roots(), self.source.chooses());
        let Self { engine, source, found: Found { tally, .. }, .. } = self;
        let mut leaves = |path: &RelPath, kind| source.leaves(path, kind);
        let mut care = Care::new(&engine.options.own, &apart, chooses, &mut leaves, None);
        let mut there = tally.dest_entries;
        let (mut gone, mut reported) = (0, 0);
        for delete in &deletes {
            let mut entries = 1;
            // A directory that becomes something else is replaced itself, but what is in it goes.
            if delete.found.kind == Kind::Dir
                && let Ok(dir) = dest.walk(&delete.dir)
            {
                entries = count_tree(&dir, &delete.name, &delete.path, &mut care).saturating_sub(1);
                entries += u64::from(delete.instead.is_none());
                there += entries.saturating_sub(1);
            }
            if delete.reported {
                reported += entries;
            } else {
                gone += entries;
            }
        }
        // A share of everything can only be told by counting everything.
        let limit = engine.options.delete_limit;
        let count = gone > guard::DELETES_FREE || limit.is_some();
        let dest_entries = match engine.entries_known {
            _ if tally.whole => there,
            Some(known) => known,
            None if count => count_in(&dest, &RelPath::root(), &mut care),
            None => gone + reported,
        };
        let source_empty = tally.source_empty;
        let held = guard::hold(&Tally { source_empty, dest_entries, limit, deletes: gone });
        // What is held does not go little by little because single names of it are looked at.
        let before = self.engine.held.filter(|_| gone > 0 && !self.found.tally.whole);
        let held = held.or(before);
        if self.found.tally.whole || held.is_some() {
            self.engine.held = held;
        }
        match held {
            None => deletes,
            Some(held) => {
                self.found.out.held = Some(held);
                let (reported, kept): (Vec<_>, Vec<_>) = deletes.into_iter().partition(|delete| delete.reported);
                for delete in kept {
                    self.tell(Action::Held, &delete.path, Some(delete.found.kind), 0);
                }
                reported
            }
        }
    }

    /// What a dry run would delete, entry by entry, as a real one tells it.
    fn tell_delete(&mut self, delete: &Delete) {
        let Delete { dir, name, path, found, instead, .. } = delete;
        let mut gone = Vec::new();
        let fate = match self.engine.dest.walk(dir) {
            Ok(dir) => self.each_below(&dir, name, path, found.kind, &mut gone),
            Err(_) => Ok((Fate::Gone, Deep::default())),
        };
        let (fate, deep) = match fate {
            Ok(known) => known,
            Err(problem) => return self.fail(path, problem),
        };
        if fate == Fate::Gone || instead.is_none() {
            self.count_deep(deep);
        }
        match instead {
            None => gone.into_iter().for_each(|(path, kind, fate)| self.tell_fate(&path, kind, fate)),
            Some(_) if fate != Fate::Gone => self.fail(path, Problem::Protected(path.clone())),
            Some(want) => {
                for (gone, kind, fate) in gone {
                    if gone == *path {
                        self.tell(Action::Updated, path, want.kind(), 0);
                    } else {
                        self.tell_fate(&gone, kind, fate);
                    }
                }
            }
        }
    }

    /// Counts what went with the rest and has no path that could be told.
    fn count_deep(&mut self, deep: Deep) {
        self.found.out.counts.deleted += deep.entries;
        self.found.out.counts.files_deleted += deep.files;
        self.found.tally.deleted_below += deep.entries;
    }

    fn tell_fate(&mut self, path: &RelPath, kind: Kind, fate: Fate) {
        let action = if fate == Fate::Gone { Action::Deleted } else { Action::Left(Left::HoldsExcluded) };
        self.tell(action, path, Some(kind), 0);
    }

    /// What would become of everything at `name` of `dir`, without touching it, and what of that has no path to be told by.
    ///
    /// # Errors
    /// When something is mounted in it.
    fn each_below(
        &mut self,
        dir: &Dir,
        name: &Name,
        path: &RelPath,
        kind: Kind,
        told: &mut Vec<(RelPath, Kind, Fate)>,
    ) -> Result<(Fate, Deep), Problem> {
        let (apart, chooses) = (self.source.roots(), self.source.chooses());
        let Self { engine, source, .. } = self;
        let mut leaves = |path: &RelPath, kind| source.leaves(path, kind);
        let mut care = Care::new(&engine.options.own, &apart, chooses, &mut leaves, None);
        let each = &mut |path: &RelPath, kind, fate| told.push((path.clone(), kind, fate));
        let fate = each_in_tree(dir, name, path, kind, &mut care, each);
        if let Some(mount) = care.mount {
            return Err(Problem::MountPoint(mount));
        }
        // What could not be looked into may hold what is to stay.
        Ok(if care.unread && chooses { (Fate::Holds, Deep::default()) } else { (fate, care.deep) })
    }

    fn delete(&mut self, at: &At, delete: Delete) {
        let Delete { name, path, found, instead, .. } = delete;
        match at.dir.look(&name) {
            Ok(Some(now)) if found.is_still(&now) => {}
            Ok(None) if instead.is_none() => return,
            Ok(_) => return self.fail(&path, Problem::Moved(path.clone())),
            Err(e) => return self.fail(&path, e.into()),
        }
        if let Some(want) = instead {
            return self.replace_dir(at, name, path, want, found);
        }
        let mut told = Vec::new();
        let (apart, chooses) = (self.source.roots(), self.source.chooses());
        let Self { engine, source, .. } = self;
        let mut leaves = |path: &RelPath, kind| source.leaves(path, kind);
        let backup = engine.options.backup.as_deref();
        let mut care = Care::new(&engine.options.own, &apart, chooses, &mut leaves, backup);
        let each = &mut |path: &RelPath, kind, fate| told.push((path.clone(), kind, fate));
        let done = remove_tree(&at.dir, &name, &path, &mut care, each);
        let deep = care.deep;
        self.count_deep(deep);
        for (gone, kind, fate) in told {
            self.tell_fate(&gone, kind, fate);
            if fate == Fate::Gone {
                self.found.tally.deleted_below += u64::from(gone != path);
                self.source.removed(&gone);
            }
        }
        if let Err(problem) = done {
            self.fail(&path, problem);
        }
    }

    /// Puts a file or a link where a directory stands: staged like any new one, then exchanged with it.
    fn replace_dir(&mut self, at: &At, name: Name, path: RelPath, want: Want, found: Stat) {
        if found.mount_point {
            return self.fail(&path, Problem::MountPoint(path.clone()));
        }
        let mut gone = Vec::new();
        let deep = match self.each_below(&at.dir, &name, &path, Kind::Dir, &mut gone) {
            Ok((Fate::Gone, deep)) => deep,
            Ok(_) => return self.fail(&path, Problem::Protected(path.clone())),
            Err(problem) => return self.fail(&path, problem),
        };
        let before = self.found.steps.len();
        let portion = std::mem::replace(&mut self.engine.options.portion, usize::MAX);
        match want {
            Want::File(want) => self.put_file(at, name, path, want, Some(found)),
            Want::Link(_) => self.put_link(at, name, path, want, Some(found)),
            Want::Node(_) => self.put_node(at, name, path, want, Some(found)),
            Want::Dir(_) | Want::Unknown(_) => {}
        }
        self.engine.options.portion = portion;
        let mut replaced = None;
        for step in self.found.steps.iter_mut().skip(before) {
            if let How::Over(temp, found) = &step.how {
                step.how = How::Exchange(temp.clone(), *found);
                replaced = Some(step.path.clone());
            }
        }
        if let Some(path) = replaced {
            self.source.removed(&path);
            let failed = self.found.out.problems.len();
            self.switch_all();
            if self.found.out.problems.len() == failed {
                // What was in it went with it.
                self.count_deep(deep);
                gone.retain(|(gone, ..)| *gone != path);
                self.found.tally.deleted_below += gone.len() as u64;
                gone.into_iter().for_each(|(gone, kind, fate)| self.tell_fate(&gone, kind, fate));
            }
        }
    }

    /// Children before parents: setting what is below would change the times above.
    fn finish_dirs(&mut self) {
        if self.engine.options.dry_run {
            for (path, why) in std::mem::take(&mut self.found.finals) {
                if why == Why::Differed {
                    self.tell(Action::Updated, &path, Some(Kind::Dir), 0);
                }
            }
            return;
        }
        while let Some((path, why)) = self.found.finals.pop_last() {
            match self.source.entry(&path) {
                Ok(Some(Want::Dir(want))) => {
                    if let Err(problem) = self.finish_dir(&path, &want, why) {
                        self.not_dressed(&path, problem);
                    }
                }
                // Nothing in it is wanted any more, so neither is it.
                Ok(None) if self.source.chooses() => self.look_again(&path),
                // It is gone or something else by now, which is dirty for itself.
                Ok(_) => {}
                Err(problem) => self.fail(&path, problem),
            }
        }
        self.finish_named_dirs();
    }

    /// A name that came and went changed its directory's time, which no event tells, and nothing was done there.
    fn finish_named_dirs(&mut self) {
        let dirty = self.dirty;
        for (path, look) in dirty.iter() {
            if look.names.values().any(|hint| hint.by_event)
                && let Ok(Some(Want::Dir(want))) = self.source.entry(path)
                && self.is_way_to(path)
                && let Err(problem) = self.finish_dir(path, &want, Why::Touched)
            {
                self.not_dressed(path, problem);
            }
        }
    }

    fn finish_dir(&mut self, path: &RelPath, want: &WantDir, why: Why) -> Result<(), Problem> {
        let dir = match self.engine.dest.walk(path) {
            Ok(dir) => dir,
            Err(e) if is_blocked(e.errno) => return Ok(()),
            Err(e) => match path.split() {
                Some((parent, name)) => self.engine.dest.walk(&parent)?.open_forced(&name)?.0,
                None => return Err(e.into()),
            },
        };
        let (stat, changed) = self.set_dir(&dir, path, want, why == Why::Made)?;
        let want = Want::Dir(*want);
        if !changed && why != Why::Made {
            self.source.kept(path, &want, &stat);
            return Ok(());
        }
        self.engine.sync_dir(&dir)?;
        match why {
            Why::Touched => {}
            Why::Differed => self.tell(Action::Updated, path, Some(Kind::Dir), 0),
            Why::Made => self.tell(Action::Copied, path, Some(Kind::Dir), 0),
        }
        self.source.placed(path, &want, &stat);
        Ok(())
    }
}
