//! New directories: filled under a temporary name that nobody looks at, then renamed in with all they hold.
//!
//! Nothing in a hidden directory needs care: no lookups, no temporaries, no renames. One that turns out to be very
//! large is shown early, so that what was copied is not lost when the run is cut, and filled on like any other.

use super::team::{Job, LARGE_BYTES};
use super::{Action, At, Pass, Why};
use crate::plan;
use crate::problem::Problem;
use crate::source::{Look, Source, Want, WantDir, WantFile};
use crate::stage::{self, Failed, Place, Staged};
use crate::switch::{How, Step};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tree::at::is_temp_name;
use tree::{Dir, Kind, Name, RelPath, Stat};

/// A hidden directory with more entries than this is shown before it is full.
const HIDDEN_ENTRIES_MAX: u64 = 20_000;
/// A hidden directory with more bytes than this is shown before it is full.
const HIDDEN_BYTES_MAX: u64 = 1 << 30;

/// The new directory that is being filled, with all that is below it.
struct Top {
    /// The directory it is in.
    at: At,
    name: Name,
    path: RelPath,
    want: WantDir,
    /// Its temporary name, while it has one. Who writes something under its final name in there holds this for reading: it
    /// is not shown meanwhile.
    hidden: RwLock<Option<Name>>,
    /// What stands at its name.
    found: Option<Stat>,
    entries: AtomicU64,
    bytes: AtomicU64,
    /// It could not be shown, so there is nothing more to do.
    lost: AtomicBool,
}

/// That directory, or one in it. Whoever ends the last of what is in it finishes it.
pub(super) struct Filling {
    top: Arc<Top>,
    /// The one it is in; `None` for the top itself.
    above: Option<Arc<Filling>>,
    at: At,
    want: WantDir,
    /// What is still to be done of it: its own entries, and each directory in it.
    open: AtomicUsize,
}

impl<S: Source> Pass<'_, '_, S> {
    /// Makes a directory that is not there, or takes the place of something else (`found`).
    pub(super) fn build(&mut self, at: &At, name: Name, path: RelPath, want: WantDir, found: Option<Stat>) {
        let wanted = match self.source.list(&path) {
            Ok(wanted) => wanted,
            Err(problem) => return self.unlisted(&path, problem),
        };
        self.found.out.counts.dirs += 1;
        if !self.make_writable(at) {
            return;
        }
        let (temp, dir) = match at.dir.make_temp_dir(&self.engine.temps) {
            Ok(made) => made,
            Err(e) => return self.fail(&path, e.into()),
        };
        self.found.covered.insert(path.clone());
        let dir = Arc::new(dir);
        let top = Top {
            at: at.clone(),
            name,
            path: path.clone(),
            want,
            hidden: RwLock::new(Some(temp)),
            found,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        };
        if self.crew.threads == 1 {
            self.groups.hidden = Some((path.clone(), Arc::clone(&dir)));
        }
        self.fill_all(Arc::new(top), None, At { path, dir }, want, wanted);
    }

    /// Makes a directory in a new one.
    pub(super) fn fill_dir(&mut self, above: &Arc<Filling>, name: &Name, path: RelPath, want: WantDir) {
        let top = Arc::clone(&above.top);
        if top.is_lost() || self.stopped() {
            return self.filled(above);
        }
        if !top.is_hidden() {
            // It is seen by now, so this one is hidden for itself.
            self.build(&above.at, name.clone(), path, want, None);
            return self.filled(above);
        }
        let wanted = match self.source.list(&path) {
            Ok(wanted) => wanted,
            Err(problem) => {
                self.unlisted(&path, problem);
                return self.filled(above);
            }
        };
        self.found.out.counts.dirs += 1;
        match above.at.dir.make_dir(name).and_then(|()| above.at.dir.open(name)) {
            Ok(dir) => self.fill_all(top, Some(Arc::clone(above)), At { path, dir: Arc::new(dir) }, want, wanted),
            Err(e) => {
                let problem = self.not_made(&above.at.dir, name, &path, e);
                self.fail(&path, problem);
                self.filled(above);
            }
        }
    }

    fn fill_all(
        &mut self,
        top: Arc<Top>,
        above: Option<Arc<Filling>>,
        at: At,
        want: WantDir,
        wanted: Vec<(Name, Want)>,
    ) {
        let filling = Arc::new(Filling { top, above, at, want, open: AtomicUsize::new(1) });
        self.fill(&filling, wanted);
        self.filled(&filling);
    }

    fn fill(&mut self, filling: &Arc<Filling>, wanted: Vec<(Name, Want)>) {
        let Filling { top, at, .. } = &**filling;
        for (name, want) in wanted {
            if top.is_lost() || self.stopped() {
                return;
            }
            let Some(path) = self.join(at, &name) else { continue };
            if self.source.is_unsettled(&at.path, &name) {
                self.found.out.unsettled.insert(path);
                continue;
            }
            if is_temp_name(&name) {
                self.fail(&path, Problem::Reserved(path.clone()));
                continue;
            }
            if top.add(&want) && top.is_hidden() {
                self.show(top);
            }
            // Others could not be linked to it in here, so it waits also if it would be its turn.
            if self.is_for_one(Some(&want), None) {
                self.found.linked.insert(path);
                continue;
            }
            match want {
                Want::Unknown(problem) => self.fail(&path, problem),
                Want::Dir(want) => {
                    filling.open.fetch_add(1, Ordering::Relaxed);
                    self.hand_on(Job::Fill { above: Arc::clone(filling), name, path, want });
                }
                Want::File(want) if want.size_bytes >= LARGE_BYTES => {
                    filling.open.fetch_add(1, Ordering::Relaxed);
                    self.hand_on(Job::PutIn { above: Arc::clone(filling), name, path, want });
                }
                want => self.fill_one(top, at, name, path, want),
            }
        }
    }

    /// Puts a large file into a new directory.
    pub(super) fn fill_large(&mut self, above: &Arc<Filling>, name: Name, path: RelPath, want: WantFile) {
        if !self.stopped() {
            self.fill_one(&above.top, &above.at, name, path, Want::File(want));
        }
        self.filled(above);
    }

    /// Puts anything but a directory into a new one.
    fn fill_one(&mut self, top: &Top, at: &At, name: Name, path: RelPath, want: Want) {
        let hidden = top.hidden();
        if top.is_lost() {
            return;
        }
        if hidden.is_some() {
            return match want {
                Want::File(want) => self.fill_file(at, &name, &path, want),
                Want::Link(_) => self.fill_link(at, &name, &path, &want),
                Want::Node(_) => self.fill_node(at, &name, &path, &want),
                Want::Dir(_) | Want::Unknown(_) => {}
            };
        }
        drop(hidden);
        match want {
            Want::File(want) => self.put_file(at, name, path, want, None),
            Want::Link(_) => self.put_link(at, name, path, want, None),
            Want::Node(_) => self.put_node(at, name, path, want, None),
            Want::Dir(_) | Want::Unknown(_) => {}
        }
    }

    /// Something in a new directory is done; if it was the last, the directory is, and perhaps the one above.
    fn filled(&mut self, filling: &Arc<Filling>) {
        let mut done = Some(filling);
        while let Some(filling) = done.filter(|filling| filling.open.fetch_sub(1, Ordering::AcqRel) == 1) {
            match &filling.above {
                Some(_) => self.finish_inner(filling),
                None => self.finish_top(filling),
            }
            done = filling.above.as_ref();
        }
    }

    fn finish_inner(&mut self, filling: &Filling) {
        let Filling { top, at, want, .. } = filling;
        if top.is_lost() {
            return;
        }
        if !top.is_hidden() {
            return self.finish_later(&at.path, Why::Made);
        }
        match self.set_final(&at.dir, &at.path, want) {
            Ok(stat) => {
                self.tell(Action::Copied, &at.path, Some(Kind::Dir), 0);
                self.source.placed(&at.path, &Want::Dir(*want), &stat);
            }
            Err(problem) => self.not_dressed(&at.path, problem),
        }
    }

    fn finish_top(&mut self, filling: &Filling) {
        let Filling { top, at, want, .. } = filling;
        self.groups.hidden = None;
        if top.is_lost() {
            return;
        }
        // A directory cut short by a stop keeps what it has; it is looked at again.
        if self.stopped() {
            self.look_again_below(&top.path);
        }
        let Some((at_above, name, path, wanted, how)) = top.step(&mut top.hidden_mut()) else {
            return self.finish_later(&top.path, Why::Made);
        };
        if let Err(problem) = self.set_final(&at.dir, &top.path, want) {
            self.not_dressed(&top.path, problem);
        }
        if self.keeps_links() {
            self.groups.queued.push(top.path.clone());
        }
        self.switch_later(&at_above, name, path, wanted, 0, how);
    }

    fn fill_file(&mut self, at: &At, name: &Name, path: &RelPath, mut want: WantFile) {
        if self.fill_link_to(at, name, path, &want) {
            return;
        }
        for read in 1..=super::READS_MAX {
            self.engine.scratch.takes_grown = read == super::READS_MAX;
            let supply = self.source.content(path, &want);
            let crate::engine::Engine { temps, scratch, .. } = &mut *self.engine;
            match stage::stage(&at.dir, name, &want, supply, Place::Hidden, temps, scratch) {
                Ok(staged) if self.is_unsettled_by_now(path, &want) => {
                    stage::discard(&at.dir, name, &staged);
                    return self.tell(Action::Unsettled, path, Some(Kind::File), 0);
                }
                Ok(Staged::There(stat)) => {
                    let lacks = std::mem::take(&mut self.engine.scratch.lacks);
                    self.lack_all(path, lacks);
                    self.lead(path, &want, stat.id(), Look::Content);
                    self.tell(Action::Copied, path, Some(Kind::File), want.size_bytes);
                    return self.source.placed(path, &Want::File(want), &stat);
                }
                Ok(_) => return,
                Err(Failed::Changed) => match self.source.entry(path) {
                    Ok(Some(Want::File(now))) => want = now,
                    Ok(_) => return self.look_again(path),
                    Err(problem) => return self.fail(path, problem),
                },
                Err(Failed::Fs(e)) => {
                    let problem = self.not_made(&at.dir, name, path, e);
                    return self.fail(path, problem);
                }
                Err(failed) => return self.not_staged(path, failed),
            }
        }
        self.not_staged(path, Failed::Changed);
    }

    fn fill_link(&mut self, at: &At, name: &Name, path: &RelPath, want: &Want) {
        let Want::Link(link) = want else { return };
        if let Err(e) = at.dir.make_link(name, &link.target) {
            let problem = self.not_made(&at.dir, name, path, e);
            return self.fail(path, problem);
        }
        let dressed = self.dress(&at.dir, name, path, want);
        match dressed.and_then(|()| Ok(at.dir.stat(name)?)) {
            Ok(stat) => {
                self.tell(Action::Copied, path, Some(Kind::Link), 0);
                self.source.placed(path, want, &stat);
            }
            Err(problem) => self.not_dressed(path, problem),
        }
    }

    /// Gives a directory its name before it is full.
    fn show(&mut self, top: &Top) {
        // Whoever writes in it has ended what it is at, and does not begin anew before this is dropped.
        let mut hidden = top.hidden_mut();
        let Some((at, name, path, want, how)) = top.step(&mut hidden) else { return };
        let step = Step { path, dir: at.dir, name, want, bytes: 0, how };
        match step.run(&self.engine.temps, self.engine.options.backup.as_deref()) {
            // It is told and placed when it is finished.
            Ok(done) => {
                self.groups.hidden = None;
                self.left_over(&top.at.path, done.left_over);
                self.finish_later(&top.at.path.clone(), Why::Touched);
            }
            Err(problem) => {
                top.lost.store(true, Ordering::Relaxed);
                self.source.removed(&top.path);
                self.fail(&top.path, problem);
            }
        }
    }

    /// The source could not list a directory the destination does not have: it is not made.
    fn unlisted(&mut self, path: &RelPath, problem: Problem) {
        match self.source.entry(path) {
            // It vanished meanwhile, or became something else.
            Ok(None) => {}
            Ok(Some(Want::File(_) | Want::Link(_) | Want::Node(_))) => self.look_again(path),
            _ => self.fail(path, problem),
        }
    }

    /// [`Pass::set_dir`] of one that nobody sees yet, and on the disk where that is asked for.
    fn set_final(&mut self, dir: &Dir, path: &RelPath, want: &WantDir) -> Result<Stat, Problem> {
        let (stat, _) = self.set_dir(dir, path, want, true)?;
        self.engine.sync_dir(dir)?;
        Ok(stat)
    }

    fn look_again_below(&mut self, path: &RelPath) {
        self.found.out.again.insert_all(path, crate::dirty::All { recursive: true, content: false });
    }

    /// Tells what a dry run would make; `action` is that of the entry itself.
    pub(super) fn tell_new(&mut self, path: &RelPath, want: &Want, action: Action) {
        match want {
            Want::Unknown(problem) => self.fail(path, problem.clone()),
            Want::File(want) => self.tell(action, path, Some(Kind::File), want.size_bytes),
            Want::Link(_) => self.tell(action, path, Some(Kind::Link), 0),
            Want::Node(want) if self.lacks_right_to(path, want.node) => {}
            Want::Node(_) => self.tell(action, path, Some(Kind::Special), 0),
            Want::Dir(_) => {
                self.tell(action, path, Some(Kind::Dir), 0);
                self.found.covered.insert(path.clone());
                match self.source.list(path) {
                    Ok(wanted) => {
                        self.found.out.counts.dirs += 1;
                        for pair in plan::join(wanted, Vec::new()) {
                            let plan::Pair::New(name, want) = pair else { continue };
                            match path.join(&name) {
                                Ok(path) => self.tell_new(&path, &want, Action::Copied),
                                Err(e) => self.fail(path, Problem::Path(path.clone(), e)),
                            }
                        }
                    }
                    Err(problem) => self.unlisted(path, problem),
                }
            }
        }
    }
}

impl Top {
    /// Counts an entry; whether there are too many now for a directory that nobody sees.
    fn add(&self, want: &Want) -> bool {
        let bytes = match want {
            Want::File(want) => want.size_bytes,
            _ => 0,
        };
        let entries = self.entries.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        entries >= HIDDEN_ENTRIES_MAX || before > HIDDEN_BYTES_MAX
    }

    fn hidden(&self) -> RwLockReadGuard<'_, Option<Name>> {
        self.hidden.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn hidden_mut(&self) -> RwLockWriteGuard<'_, Option<Name>> {
        self.hidden.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_hidden(&self) -> bool {
        self.hidden().is_some()
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// The switch that gives it its name; at most once.
    fn step(&self, hidden: &mut Option<Name>) -> Option<(At, Name, RelPath, Want, How)> {
        let temp = hidden.take()?;
        let how = match self.found {
            Some(found) => How::Exchange(temp, found),
            None => How::Rename(temp),
        };
        let want = Want::Dir(self.want);
        Some((self.at.clone(), self.name.clone(), self.path.clone(), want, how))
    }
}
