//! Names that the destination's disk takes for one, and the source does not: see [`crate::fold`].
//!
//! A name that only the source has may be one that stands there, spelt otherwise. If the source has that one, too, it is a
//! collision: told, and neither is touched. Else only its spelling changed, and it is renamed.

use super::{At, Pass};
use crate::dirty;
use crate::engine::Action;
use crate::fold::{self, is_spelt};
use crate::problem::Problem;
use crate::source::{Source, Want};
use crate::switch::{How, Step};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tree::at::{DirEntry, ListBuffer, is_temp_name};
use tree::{Dir, Name, RelPath, Stat, fsx};

/// What names of one directory that only the source has stand there as.
#[derive(Default)]
pub(super) struct Otherwise(BTreeMap<Name, As>);

/// How something stands there that is wanted under another name.
pub(super) enum As {
    /// Under a name that the source does not have.
    Free(Name),
    /// Under a name that the source has, or by which another name of the source stands there.
    Taken(Name),
}

impl Otherwise {
    pub(super) fn remove(&mut self, name: &Name) -> Option<As> {
        if self.0.is_empty() { None } else { self.0.remove(name) }
    }

    /// Names that only the destination has, and that are not extra for all that.
    pub(super) fn extras(&self) -> BTreeSet<Name> {
        let extra = |stands: &As| match stands {
            As::Free(name) => Some(name.clone()),
            As::Taken(_) => None,
        };
        self.0.values().filter_map(extra).collect()
    }
}

impl<S: Source> Pass<'_, '_, S> {
    /// Which names of a directory that only the source has stand there all the same.
    pub(super) fn otherwise(
        &mut self,
        at: &At,
        wanted: &[(Name, Want)],
        found: &[DirEntry],
    ) -> Result<Otherwise, fsx::Error> {
        let mut asked = fold::alike(wanted, found);
        if self.engine.folding.folds(&at.path) {
            asked.extend(wanted.iter().map(|(name, _)| name).filter(|name| !is_spelt(found, name)).cloned());
        }
        let mut names: BTreeMap<Name, As> = BTreeMap::new();
        for name in asked {
            let Some(stat) = at.dir.look(&name)? else { continue };
            let Some(stands) = entry_of(&at.dir, found, &name, &stat)? else { continue };
            self.engine.folding.learn(&at.path);
            let wanted = wanted.binary_search_by(|(known, _)| known.cmp(&stands)).is_ok();
            let before = names.iter().find_map(|(before, known)| {
                matches!(known, As::Free(known) if *known == stands).then(|| before.clone())
            });
            let stands = match before {
                Some(before) => As::Taken(before),
                None if wanted => As::Taken(stands),
                None => As::Free(stands),
            };
            names.insert(name, stands);
        }
        Ok(Otherwise(names))
    }

    /// Deals with a name that stands there spelt otherwise.
    pub(super) fn stands_otherwise(
        &mut self,
        at: &At,
        name: Name,
        want: Want,
        stands: As,
        recursive: bool,
        content: bool,
    ) {
        let Some(path) = self.join(at, &name) else { return };
        if self.source.is_unsettled(&at.path, &name) {
            self.found.out.unsettled.insert(path);
            return;
        }
        match (want, stands) {
            (Want::Unknown(problem), _) => self.fail(&path, problem),
            (_, As::Taken(other)) => {
                let problem = self.collision(&path, &other);
                self.fail(&path, problem);
            }
            (want, As::Free(other)) => {
                if let Some((found, new)) = self.respell(at, &name, &path, &want, &other) {
                    // Another file of its size and time may have had that spelling before, so it is read.
                    self.one(at, name, Some(want), found, recursive || new, content || new);
                }
            }
        }
    }

    /// Gives what stands there as `other` the name that the source has for it. What is to be compared then, and whether the name is
    /// new to it.
    fn respell(
        &mut self,
        at: &At,
        name: &Name,
        path: &RelPath,
        want: &Want,
        other: &Name,
    ) -> Option<(Option<Stat>, bool)> {
        if let Some(left) = self.engine.options.policy.new_entry() {
            self.tell(Action::Left(left), path, want.kind(), 0);
            return None;
        }
        match self.try_respell(at, name, path, other) {
            Ok(new) => match at.dir.look(name) {
                Ok(found) => return Some((found, new)),
                Err(e) => self.fail(path, e.into()),
            },
            Err(problem) => self.fail(path, problem),
        }
        None
    }

    fn try_respell(&mut self, at: &At, name: &Name, path: &RelPath, other: &Name) -> Result<bool, Problem> {
        let other_path = at.path.join(other).map_err(|e| Problem::Path(at.path.clone(), e))?;
        let Some(found) = at.dir.look(other)? else { return Err(Problem::Moved(path.clone())) };
        let stays = self.source.leaves(&other_path, found.kind)?
            || self.is_left_alone(&other_path)
            || self.engine.options.own.contains(&found.id());
        if stays || is_temp_name(name) {
            return Err(self.collision(path, other));
        }
        // To the other name it is a deletion.
        self.source.check_pin().and_then(|()| self.source.check_deletion(&other_path))?;
        // What must not be touched is told by who compares it.
        let is_source = self.source.roots().contains(&found.id());
        if is_source || self.engine.folding.respells() {
            return Ok(false);
        }
        if self.engine.options.dry_run {
            self.found.respelt.insert(path.clone());
            return Ok(true);
        }
        self.let_in(at)?;
        if !self.rename(at, other, name, path)? {
            self.engine.folding.has_respelt();
        }
        self.source.removed(&other_path);
        self.found.respelt.insert(path.clone());
        // All that is in it is looked at now.
        self.found.covered.insert(path.clone());
        Ok(true)
    }

    /// Renames in two steps, for to these disks a name is there already that differs in spelling alone. Whether the new
    /// spelling came out.
    ///
    /// RACE: Between the steps it stands under a name that tells the one it had. Whoever is killed right there leaves it to the next
    /// pass, which gives that back: see [`Pass::bring_back`].
    fn rename(&mut self, at: &At, from: &Name, to: &Name, path: &RelPath) -> Result<bool, Problem> {
        let Some(between) = fold::between(from) else { return Err(self.collision(path, from)) };
        match at.dir.rename_no_replace(from, &between) {
            Err(e) if e.is_missing() => return Err(Problem::Moved(path.clone())),
            Err(e) if e.errno == Errno::EXIST => return Err(not_back(at, &between, from, &e)),
            done => done?,
        }
        if let Err(e) = at.dir.rename_no_replace(&between, to) {
            return Err(match at.dir.rename_no_replace(&between, from) {
                Ok(()) => e.into(),
                Err(why) => not_back(at, &between, from, &why),
            });
        }
        Ok(is_spelt(&at.dir.list(&mut self.engine.list_buffer)?, to))
    }

    /// Gives back their names to what in a directory was to get another spelling when somebody was killed, or the disk failed. What is
    /// in the directory then; nothing where the disk fails again, which is told: there is a copy of what the source has under another name.
    pub(super) fn bring_back(
        &mut self,
        at: &At,
        wanted: &[(Name, Want)],
        mut found: Vec<DirEntry>,
        recursive: bool,
    ) -> Option<Vec<DirEntry>> {
        let is_wanted = |name: &Name| wanted.binary_search_by(|(known, _)| known.cmp(name)).is_ok();
        let before = |entry: &DirEntry| fold::before(&entry.name).filter(|_| !is_wanted(&entry.name));
        if !found.iter().any(|entry| before(entry).is_some()) {
            return Some(found);
        }
        if !self.engine.options.dry_run {
            for entry in &found {
                if let Some(name) = before(entry)
                    && !self.bring_one_back(at, &entry.name, &name, recursive)
                {
                    return None;
                }
            }
            found = match at.dir.list(&mut self.engine.list_buffer) {
                Ok(found) => found,
                Err(e) => {
                    self.fail(&at.path, e.into());
                    return None;
                }
            };
        }
        // What did not get its name back is nobody's extra.
        found.retain(|entry| before(entry).is_none());
        Some(found)
    }

    /// Whether the directory may go on being compared.
    fn bring_one_back(&mut self, at: &At, between: &Name, name: &Name, recursive: bool) -> bool {
        let Some(path) = self.join(at, name) else { return false };
        match self.let_in(at).and_then(|()| at.dir.rename_no_replace(between, name)) {
            Ok(()) if recursive => {}
            // What happened in it meanwhile may be known by neither name.
            Ok(()) => self.found.out.again.insert_all(&path, dirty::All { recursive: true, content: false }),
            Err(e) if e.is_missing() => {}
            Err(e) => {
                self.fail(&path, not_back(at, between, name, &e));
                return e.errno == Errno::EXIST;
            }
        }
        true
    }

    /// Whether what bears that name, or did, has one in between: see [`Pass::bring_back`].
    pub(super) fn is_between(&mut self, at: &At, name: &Name) -> bool {
        let stands = |name: &Name| matches!(at.dir.look(name), Ok(Some(_)));
        if self.engine.options.dry_run {
            return false;
        }
        if fold::before(name).is_some() {
            let path = self.join(at, name);
            return stands(name) && path.is_some_and(|path| matches!(self.source.entry(&path), Ok(None)));
        }
        // In whatever spelling it has it.
        let folds = self.engine.folding.folds(&at.path);
        folds && !stands(name) && fold::between(name).is_some_and(|between| stands(&between))
    }

    /// [`Pass::compare`] in a directory where names fall together: what `name` leads to may have another one. Whether all of the
    /// directory was compared instead.
    pub(super) fn compare_folded(
        &mut self,
        at: &At,
        name: &Name,
        want: Option<Want>,
        found: Stat,
        recursive: bool,
    ) -> bool {
        match at.dir.list(&mut self.engine.list_buffer) {
            Ok(names) if want.is_some() && is_spelt(&names, name) => {
                let content = self.is_content_named(&at.path);
                self.one(at, name.clone(), want, Some(found), recursive, content);
                return false;
            }
            Ok(_) => {
                // What waits for its switch would be met as missing once more.
                self.switch_all();
                self.list(at, false);
            }
            Err(e) => self.fail(&at.path, e.into()),
        }
        true
    }

    /// Whether names fall together in a directory in which `name` stands.
    pub(super) fn folds(&self, at: &At, name: &Name) -> bool {
        self.engine.folding.find_out(&at.dir, &at.path, name).unwrap_or_else(|e| {
            // Whoever takes care for nothing only works more.
            tracing::debug!("{e}");
            true
        })
    }

    /// Whether `path` leads to what stands there by this very name, and not to another directory that the disk takes it for. What
    /// it is instead is dealt with.
    pub(super) fn is_way_to(&mut self, path: &RelPath) -> bool {
        // Where this is known of every name on the way, nothing is asked of the disk.
        let mut on_the_way = std::iter::successors(path.split(), |(above, _)| above.split());
        if on_the_way.all(|(above, name)| self.engine.folding.is_apart(&above, &name)) {
            return true;
        }
        let mut at = At { path: RelPath::root(), dir: Arc::clone(&self.engine.dest) };
        for component in path.components() {
            let Ok(name) = Name::new(component) else { return true };
            let apart = self.engine.folding.is_apart(&at.path, &name);
            if !apart && at.dir.look(&name).is_ok_and(|found| found.is_some()) && self.folds(&at, &name) {
                let as_such = |at: &At| at.dir.list(&mut ListBuffer::default()).map(|names| is_spelt(&names, &name));
                if as_such(&at).is_ok_and(|spelt| !spelt) && !self.engine.folding.respells() {
                    let told = self.join(&at, &name).is_some_and(|path| self.has_collided(&path));
                    if !told {
                        self.compare(&at, &name, true);
                    }
                    if told || !as_such(&at).is_ok_and(|spelt| spelt) {
                        return false;
                    }
                }
            }
            let Some(path) = self.join(&at, &name) else { return true };
            // What cannot be opened is told by who needs it.
            let Ok(dir) = at.dir.open(&name) else { return true };
            at = At { path, dir: Arc::new(dir) };
        }
        true
    }

    fn has_collided(&self, path: &RelPath) -> bool {
        self.found.out.problems.iter().any(|(at, problem)| at == path && matches!(problem, Problem::Collision { .. }))
    }

    /// What to tell of a name that could not be made: something stands there, perhaps spelt otherwise.
    pub(super) fn not_made(&mut self, dir: &Dir, name: &Name, path: &RelPath, error: fsx::Error) -> Problem {
        if error.errno == Errno::EXIST
            && let Ok(Some(other)) = stands_as(dir, name)
        {
            return self.collision(path, &other);
        }
        error.into()
    }

    /// What to tell of a switch that found something at a name that was free.
    pub(super) fn not_switched(&mut self, step: &Step, problem: Problem) -> Problem {
        if let (Problem::Moved(_), How::Link(_) | How::Rename(_)) = (&problem, &step.how)
            && let Ok(Some(other)) = stands_as(&step.dir, &step.name)
        {
            return self.collision(&step.path, &other);
        }
        problem
    }

    fn collision(&mut self, path: &RelPath, other: &Name) -> Problem {
        let dir = path.parent().unwrap_or_default();
        self.engine.folding.learn(&dir);
        let is_wanted = dir.join(other).is_ok_and(|other| !matches!(self.source.entry(&other), Ok(None)));
        Problem::Collision { path: path.clone(), other: other.clone(), is_wanted }
    }
}

/// What to tell of something that has the name in between.
fn not_back(at: &At, between: &Name, name: &Name, error: &fsx::Error) -> Problem {
    let why = match error.errno {
        Errno::EXIST => "something else has it by now: move what you need out of there, and remove it".to_owned(),
        _ => format!("{error}; the next pass tries again"),
    };
    let at = tree::path::escape(at.dir.path_of(between).as_os_str().as_encoded_bytes());
    Problem::Respelt { at, name: name.clone(), why }
}

/// Under which of `names` that stands there which `name` leads to, and which is `stat`. Where it has several, the one that
/// differs in case alone.
fn entry_of(dir: &Dir, names: &[DirEntry], name: &Name, stat: &Stat) -> Result<Option<Name>, fsx::Error> {
    let (near, far): (Vec<_>, Vec<_>) = names.iter().partition(|entry| fold::is_other_case(&entry.name, name));
    for DirEntry { name, .. } in near.into_iter().chain(far) {
        if dir.look(name)?.is_some_and(|now| now.id() == stat.id()) {
            return Ok(Some(name.clone()));
        }
    }
    Ok(None)
}

/// The name by which something stands there that `name` leads to, if that is another one.
fn stands_as(dir: &Dir, name: &Name) -> Result<Option<Name>, fsx::Error> {
    let names = dir.list(&mut ListBuffer::default())?;
    match dir.look(name)? {
        Some(stat) if !is_spelt(&names, name) => entry_of(dir, &names, name, &stat),
        _ => Ok(None),
    }
}
