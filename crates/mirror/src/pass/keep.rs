//! Owners, attributes and special files: what is compared and set beside content, mode and time, where it is asked for.

use super::{At, Pass};
use crate::engine::Action;
use crate::keep::give::{is_refusal, lack_all};
use crate::keep::{Kept, Lack, Reason, What, count};
use crate::problem::Problem;
use crate::source::{Source, Want, WantDir, WantNode};
use crate::switch::How;
use rustix::fd::AsFd;
use rustix::io::Errno;
use tree::at::{Grip, Node};
use tree::{Dir, Kind, Name, RelPath, Stat, fsx};

impl<S: Source> Pass<'_, '_, S> {
    /// What is to be set of an entry that both sides have and whose content is the same; `None` if nothing is.
    /// `name` is its name in `dir`; without one it is `dir` itself.
    pub(super) fn differs(
        &mut self,
        path: &RelPath,
        want: &Want,
        found: &Stat,
        dir: &Dir,
        name: Option<&Name>,
    ) -> Result<Option<Kept>, Problem> {
        let (mode, mtime_ns) = match want {
            Want::Dir(want) => (Some(want.mode), want.mtime_ns),
            Want::File(want) => (Some(want.mode), want.mtime_ns),
            Want::Node(want) => (Some(want.mode), want.mtime_ns),
            Want::Link(want) => (None, want.mtime_ns),
            Want::Unknown(_) => return Ok(None),
        };
        let keeping = &self.engine.scratch.keeping;
        let mut lacks = Vec::new();
        let mut kept = keeping.owner(want.found(), (found.uid, found.gid), &mut lacks);
        let mut differs = mtime_ns != found.mtime_ns
            || mode.is_some_and(|mode| kept.mode(mode) != kept.mode_of(found))
            || kept.is_foreign(found);
        if keeping.keep.has_attributes() && want.found().is_some() {
            let takes = |name: &[u8]| keeping.takes(name);
            let wanted = self.source.attributes(path, None, &takes)?;
            let now = match name {
                Some(name) => dir.attributes(name, &takes),
                None => Grip::Open(dir.as_fd()).attributes(&takes, dir.path()),
            };
            match now {
                Ok(now) if now == wanted => {}
                Ok(_) => (kept.attributes, differs) = (Some(wanted), true),
                Err(e) if e.errno == Errno::OPNOTSUPP => lack_all(&wanted, &e, &mut lacks),
                Err(e) if e.is_missing() => return Err(Problem::Moved(path.clone())),
                Err(e) => return Err(e.into()),
            }
        }
        self.lack_all(path, lacks);
        Ok(differs.then_some(kept))
    }

    /// What a destination that keeps coarser times makes of the time `wanted_ns`, if that is what was found there.
    pub(super) fn kept_ns(&self, wanted_ns: i64, found: &Stat) -> i64 {
        let crate::engine::Engine { grain, dest, temps, options, .. } = &*self.engine;
        // A dry run asks nothing that would have to be written.
        if options.dry_run { wanted_ns } else { grain.kept_ns(dest, temps, wanted_ns, found.mtime_ns) }
    }

    pub(super) fn as_kept(&self, want: Want, found: &Stat) -> Want {
        let kept_ns = want.mtime_ns().map(|ns| self.kept_ns(ns, found));
        match kept_ns {
            Some(ns) => want.at(ns),
            None => want,
        }
    }

    /// Counts what of an entry could not be kept.
    pub(super) fn lack(&mut self, path: &RelPath, lack: Lack) {
        count(&mut self.found.out.unkept, path, lack);
    }

    pub(super) fn lack_all(&mut self, path: &RelPath, lacks: Vec<Lack>) {
        lacks.into_iter().for_each(|lack| self.lack(path, lack));
    }

    /// Has what only needs owner, attributes, mode or time get them.
    pub(super) fn set_meta(&mut self, at: &At, name: Name, path: RelPath, want: Want, found: Stat, mut kept: Kept) {
        if self.engine.options.dry_run {
            return self.tell(Action::Updated, &path, want.kind(), 0);
        }
        if kept.attributes.is_some() {
            // Compared by name; set is only what belongs to exactly what was compared.
            kept.attributes = match self.wanted_attributes(&path, &want) {
                Ok(attributes) => attributes,
                Err(problem) => return self.not_dressed(&path, problem),
            };
        }
        self.switch_later(at, name, path, want, 0, How::Meta(found, kept));
    }

    fn wanted_attributes(&mut self, path: &RelPath, want: &Want) -> Result<Option<tree::at::Attributes>, Problem> {
        let keeping = &self.engine.scratch.keeping;
        match want.found() {
            Some(found) if keeping.keep.has_attributes() => {
                self.source.attributes(path, Some(found), &|name| keeping.takes(name)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Gives what was just made under `name`, and is no file, its owner, attributes, mode and time.
    pub(super) fn dress(&mut self, dir: &Dir, name: &Name, path: &RelPath, want: &Want) -> Result<(), Problem> {
        let (mode, mtime_ns) = match want {
            Want::Link(want) => (None, want.mtime_ns),
            Want::Node(want) => (Some(want.mode), want.mtime_ns),
            Want::Dir(_) | Want::File(_) | Want::Unknown(_) => return Ok(()),
        };
        if self.engine.options.keep.is_nothing() || want.found().is_none() {
            return Ok(dir.set_times_of(name, mtime_ns)?);
        }
        let attributes = self.wanted_attributes(path, want)?;
        let (held, now) = dir.hold(name)?;
        let (grip, full) = (Grip::Bare(held.as_fd()), dir.path_of(name));
        let mut lacks = Vec::new();
        let mut kept = self.engine.scratch.keeping.owner(want.found(), (now.uid, now.gid), &mut lacks);
        kept.attributes = attributes;
        kept.give(grip, &full, &mut lacks)?;
        if let Some(mode) = mode {
            grip.set_mode(kept.mode(mode), &full)?;
        }
        grip.set_times(mtime_ns, &full)?;
        self.lack_all(path, lacks);
        Ok(())
    }

    /// The source's metadata changed while it was copied, or could not be had.
    pub(super) fn not_dressed(&mut self, path: &RelPath, problem: Problem) {
        match problem {
            Problem::Unsettled(_) => self.look_again(path),
            Problem::Fs(e) if e.is_missing() => self.look_again(path),
            problem => self.fail(path, problem),
        }
    }

    /// Gives a directory its owner, attributes, mode and time; whether anything had to be changed, and what it is then.
    pub(super) fn set_dir(
        &mut self,
        dir: &Dir,
        path: &RelPath,
        want: &WantDir,
        new: bool,
    ) -> Result<(Stat, bool), Problem> {
        let full = dir.path();
        let grip = Grip::Open(dir.as_fd());
        if new && (self.engine.options.keep.is_nothing() || want.found.is_none()) {
            grip.set_mode(want.mode, full)?;
            grip.set_times(want.mtime_ns, full)?;
            return Ok((dir.stat_self()?, true));
        }
        let mut found = dir.stat_self()?;
        let mut lacks = Vec::new();
        let keeping = &self.engine.scratch.keeping;
        let mut kept = keeping.owner(want.found.as_ref(), (found.uid, found.gid), &mut lacks);
        if !new {
            // What this user may never do was counted when it was compared.
            lacks.clear();
        }
        kept.attributes = self.wanted_attributes(path, &Want::Dir(*want))?;
        let mut changed = kept.give(grip, full, &mut lacks)?;
        if changed {
            found = dir.stat_self()?;
        }
        let mtime_ns = self.kept_ns(want.mtime_ns, &found);
        // Set-id bits that are not kept are not ours to give or to take.
        let other_mode = kept.mode_of(&found) != kept.mode(want.mode);
        if other_mode {
            grip.set_mode(kept.mode(want.mode), full)?;
        }
        if found.mtime_ns != mtime_ns {
            grip.set_times(mtime_ns, full)?;
        }
        if other_mode || found.mtime_ns != mtime_ns {
            changed = true;
            found = dir.stat_self()?;
        }
        self.lack_all(path, lacks);
        Ok((found, changed))
    }

    /// Two special files of one name.
    pub(super) fn meet_node(&mut self, at: &At, name: Name, path: RelPath, want: WantNode, found: Stat) {
        match at.dir.node(&name) {
            Ok(Some(now)) if now == want.node => {
                let want = Want::Node(want);
                match self.differs(&path, &want, &found, &at.dir, Some(&name)) {
                    Ok(None) => self.keep(&path, &want, &found),
                    Ok(Some(kept)) if found.nlink == 1 => self.set_meta(at, name, path, want, found, kept),
                    Ok(Some(_)) => self.put_node(at, name, path, want, Some(found)),
                    Err(problem) => self.not_dressed(&path, problem),
                }
            }
            Ok(_) => self.put_node(at, name, path, Want::Node(want), Some(found)),
            Err(e) => self.fail(&path, e.into()),
        }
    }

    /// Makes a special file under a temporary name and has it wait for its switch.
    pub(super) fn put_node(&mut self, at: &At, name: Name, path: RelPath, want: Want, found: Option<Stat>) {
        let Want::Node(WantNode { node, .. }) = want else { return };
        if self.lacks_right_to(&path, node) {
            return;
        }
        if self.engine.options.dry_run {
            let action = if found.is_some() { Action::Updated } else { Action::Copied };
            return self.tell(action, &path, Some(Kind::Special), 0);
        }
        if !self.make_writable(at) {
            return;
        }
        let temp = match at.dir.make_temp_node(&self.engine.temps, node) {
            Ok(temp) => temp,
            Err(e) => return self.node_not_made(&path, node, e),
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

    /// The same in a directory that nobody sees yet.
    pub(super) fn fill_node(&mut self, at: &At, name: &Name, path: &RelPath, want: &Want) {
        let Want::Node(WantNode { node, .. }) = *want else { return };
        if self.lacks_right_to(path, node) {
            return;
        }
        if let Err(e) = at.dir.make_node(name, node) {
            return match self.not_made(&at.dir, name, path, e) {
                Problem::Fs(e) => self.node_not_made(path, node, e),
                problem => self.fail(path, problem),
            };
        }
        let dressed = self.dress(&at.dir, name, path, want);
        match dressed.and_then(|()| Ok(at.dir.stat(name)?)) {
            Ok(stat) => {
                self.tell(Action::Copied, path, Some(Kind::Special), 0);
                self.source.placed(path, want, &stat);
            }
            Err(problem) => {
                crate::switch::drop_temp(&at.dir, name, path);
                self.not_dressed(path, problem);
            }
        }
    }

    /// Whether this user may not make it, which is counted. A device with the number 0 is a mark, which all may make.
    pub(super) fn lacks_right_to(&mut self, path: &RelPath, node: Node) -> bool {
        let lacks = node.is_device() && node != Node::Char(0) && !self.engine.scratch.keeping.may_make_devices();
        if lacks {
            self.lack(path, (What::Devices, Reason::NoRight));
        }
        lacks
    }

    fn node_not_made(&mut self, path: &RelPath, node: Node, error: fsx::Error) {
        let what = if node.is_device() { What::Devices } else { What::Specials };
        if is_refusal(error.errno) && error.errno != Errno::ACCESS {
            return self.lack(path, (what, Reason::Refused(error)));
        }
        self.fail(path, error.into());
    }
}
