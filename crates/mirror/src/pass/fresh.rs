//! New directories: filled under a temporary name that nobody looks at, then renamed in with all they hold.
//!
//! Nothing in a hidden directory needs care: no lookups, no temporaries, no renames. One that turns out to be very
//! large is shown early, so that what was copied is not lost when the run is cut, and filled on like any other.

use super::{Action, At, Pass, Why};
use crate::plan;
use crate::problem::Problem;
use crate::source::{Look, Source, Want, WantDir, WantFile};
use crate::stage::{self, Failed, Place, Staged};
use crate::switch::{How, Step};
use std::sync::Arc;
use tree::at::is_temp_name;
use tree::{Dir, Kind, Name, RelPath, Stat};

/// A hidden directory with more entries than this is shown before it is full.
const HIDDEN_ENTRIES_MAX: u64 = 20_000;
/// A hidden directory with more bytes than this is shown before it is full.
const HIDDEN_BYTES_MAX: u64 = 1 << 30;

/// The new directory that is being filled.
struct Top {
    /// The directory it is in.
    at: At,
    name: Name,
    path: RelPath,
    want: WantDir,
    /// Its temporary name, while it has one.
    hidden: Option<Name>,
    /// What stands at its name.
    found: Option<Stat>,
    entries: u64,
    bytes: u64,
    /// It could not be shown, so there is nothing more to do.
    lost: bool,
}

impl<S: Source + ?Sized> Pass<'_, S> {
    /// Makes a directory that is not there, or takes the place of something else (`found`).
    pub(super) fn build(&mut self, at: &At, name: Name, path: RelPath, want: WantDir, found: Option<Stat>) {
        let wanted = match self.source.list(&path) {
            Ok(wanted) => wanted,
            Err(problem) => return self.unlisted(&path, problem),
        };
        self.out.counts.dirs += 1;
        if !self.make_writable(at) {
            return;
        }
        let (temp, dir) = match at.dir.make_temp_dir(&self.engine.temps) {
            Ok(made) => made,
            Err(e) => return self.fail(&path, e.into()),
        };
        self.covered.insert(path.clone());
        let dir = Arc::new(dir);
        let mut top = Top {
            at: at.clone(),
            name,
            path: path.clone(),
            want,
            hidden: Some(temp),
            found,
            entries: 0,
            bytes: 0,
            lost: false,
        };
        self.groups.hidden = Some((path.clone(), Arc::clone(&dir)));
        self.fill(&mut top, &At { path, dir: Arc::clone(&dir) }, wanted);
        self.groups.hidden = None;
        if top.lost {
            return;
        }
        // A directory cut short by a stop keeps what it has; it is looked at again.
        if self.out.stopped {
            self.look_again_below(&top.path);
        }
        if top.hidden.is_none() {
            return self.finish_later(&top.path, Why::Made);
        }
        if let Err(problem) = self.set_final(&dir, &top.path, &want) {
            self.not_dressed(&top.path, problem);
        }
        if let Some(step) = top.step() {
            if self.keeps_links() {
                self.groups.queued.push(top.path.clone());
            }
            self.switch_later(&step.0, step.1, step.2, step.3, 0, step.4);
        }
    }

    fn fill(&mut self, top: &mut Top, at: &At, wanted: Vec<(Name, Want)>) {
        for (name, want) in wanted {
            if top.lost || self.stopped() {
                return;
            }
            if self.source.is_unsettled(&at.path, &name) {
                continue;
            }
            let Some(path) = self.join(at, &name) else { continue };
            if is_temp_name(&name) {
                self.fail(&path, Problem::Reserved(path.clone()));
                continue;
            }
            top.entries += 1;
            if top.entries > HIDDEN_ENTRIES_MAX || top.bytes > HIDDEN_BYTES_MAX {
                self.show(top);
            }
            match want {
                Want::Unknown(problem) => self.fail(&path, problem),
                Want::Dir(want) => self.fill_dir(top, at, &name, path, want),
                Want::File(want) if top.hidden.is_some() => {
                    top.bytes += want.size_bytes;
                    self.fill_file(at, &name, &path, want);
                }
                Want::Link(_) if top.hidden.is_some() => self.fill_link(at, &name, &path, &want),
                Want::Node(_) if top.hidden.is_some() => self.fill_node(at, &name, &path, &want),
                Want::File(want) => self.put_file(at, name, path, want, None),
                Want::Link(_) => self.put_link(at, name, path, want, None),
                Want::Node(_) => self.put_node(at, name, path, want, None),
            }
        }
    }

    fn fill_dir(&mut self, top: &mut Top, at: &At, name: &Name, path: RelPath, want: WantDir) {
        let wanted = match self.source.list(&path) {
            Ok(wanted) => wanted,
            Err(problem) => return self.unlisted(&path, problem),
        };
        self.out.counts.dirs += 1;
        let dir = match at.dir.make_dir(name).and_then(|()| at.dir.open(name)) {
            Ok(dir) => Arc::new(dir),
            Err(e) => return self.fail(&path, e.into()),
        };
        self.fill(top, &At { path: path.clone(), dir: Arc::clone(&dir) }, wanted);
        if top.lost {
            return;
        }
        if top.hidden.is_none() {
            return self.finish_later(&path, Why::Made);
        }
        match self.set_final(&dir, &path, &want) {
            Ok(stat) => {
                self.tell(Action::Copied, &path, Some(Kind::Dir), 0);
                self.source.placed(&path, &Want::Dir(want), &stat);
            }
            Err(problem) => self.not_dressed(&path, problem),
        }
    }

    fn fill_file(&mut self, at: &At, name: &Name, path: &RelPath, mut want: WantFile) {
        if self.fill_link_to(at, name, path, &want) {
            return;
        }
        for _ in 0..super::READS_MAX {
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
                Err(failed) => return self.not_staged(path, failed),
            }
        }
        self.not_staged(path, Failed::Changed);
    }

    fn fill_link(&mut self, at: &At, name: &Name, path: &RelPath, want: &Want) {
        let Want::Link(link) = want else { return };
        if let Err(e) = at.dir.make_link(name, &link.target) {
            return self.fail(path, e.into());
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
    fn show(&mut self, top: &mut Top) {
        let Some((at, name, path, want, how)) = top.step() else { return };
        let step = Step { path, dir: at.dir, name, want, bytes: 0, how };
        match step.run(&self.engine.temps, self.engine.options.backup.as_deref()) {
            // It is told and placed when it is finished.
            Ok(done) => {
                self.groups.hidden = None;
                self.left_over(&top.at.path, done.left_over);
                self.finish_later(&top.at.path.clone(), Why::Touched);
            }
            Err(problem) => {
                top.lost = true;
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
        self.out.again.insert_all(path, crate::dirty::All { recursive: true, content: false });
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
                self.covered.insert(path.clone());
                match self.source.list(path) {
                    Ok(wanted) => {
                        self.out.counts.dirs += 1;
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
    /// The switch that gives it its name; at most once.
    fn step(&mut self) -> Option<(At, Name, RelPath, Want, How)> {
        let temp = self.hidden.take()?;
        let how = match self.found {
            Some(found) => How::Exchange(temp, found),
            None => How::Rename(temp),
        };
        let want = Want::Dir(self.want);
        Some((self.at.clone(), self.name.clone(), self.path.clone(), want, how))
    }
}
