//! Looking: what should be at a place, what is, and what that asks for.

use super::links::Meets;
use super::open::Opened;
use super::team::Job;
use super::{At, Pass, Why};
use crate::dirty;
use crate::engine::Action;
use crate::plan::{self, Meeting, Pair};
use crate::policy::Both;
use crate::problem::Problem;
use crate::source::{Look, Same, Source, Want, WantFile};
use std::sync::Arc;
use tree::at::is_temp_name;
use tree::{Kind, Name, RelPath, Stat};

impl<S: Source> Pass<'_, '_, S> {
    /// The root's own mode and time; what is in it is another matter.
    pub(super) fn compare_root(&mut self) {
        let root = RelPath::root();
        let dest = Arc::clone(&self.engine.dest);
        match (self.source.entry(&root), dest.stat_self()) {
            (Ok(Some(want @ Want::Dir(_))), Ok(found)) => {
                let want = self.as_kept(want, &found);
                match self.differs(&root, &want, &found, &dest, None) {
                    Ok(None) => self.keep(&root, &want, &found),
                    Ok(Some(_)) => self.finish_later(&root, Why::Differed),
                    Err(problem) => self.not_dressed(&root, problem),
                }
            }
            (Ok(_), Ok(_)) => {}
            (Err(problem), _) => self.fail(&root, problem),
            (_, Err(e)) => self.fail(&root, e.into()),
        }
    }

    /// One directory that was marked.
    pub(super) fn visit(&mut self, path: &RelPath, look: &dirty::Look) {
        if !self.is_way_to(path) {
            return;
        }
        let at = match self.open(path) {
            Ok(Opened::Dir(at)) => at,
            Ok(Opened::Blocked(at, name)) => return self.blocked(Job::Look(path.clone()), &at, &name),
            Err(problem) => return self.fail(path, problem),
        };
        if let Some(all) = look.all {
            self.list(&at, all.recursive);
            if all.recursive {
                self.found.covered.insert(path.clone());
            }
            return;
        }
        for name in look.names.keys() {
            if self.stopped() {
                return;
            }
            if self.compare(&at, name, false) {
                return;
            }
        }
    }

    /// Compares everything in a directory, and if `recursive`, everything below.
    pub(super) fn list(&mut self, at: &At, recursive: bool) {
        let wanted = match self.source.list(&at.path) {
            Ok(wanted) => wanted,
            Err(problem) => return self.source_unlisted(at, problem),
        };
        self.found.out.counts.dirs += 1;
        let found = match at.dir.list(&mut self.engine.list_buffer) {
            Ok(found) => found,
            Err(e) => return self.fail(&at.path, e.into()),
        };
        let Some(found) = self.bring_back(at, &wanted, found, recursive) else { return };
        if recursive {
            self.found.tally.dest_entries += found.len() as u64;
        }
        if at.path.is_root() {
            self.found.tally.source_empty = wanted.is_empty();
            self.found.tally.whole = recursive;
            self.groups.first_copy = found.is_empty();
            if recursive {
                self.engine.links.begin_walk();
            }
        }
        let content = self.is_content_named(&at.path);
        let mut otherwise = match self.otherwise(at, &wanted, &found) {
            Ok(otherwise) => otherwise,
            Err(e) => return self.fail(&at.path, e.into()),
        };
        let spoken_for = otherwise.extras();
        for pair in plan::join(wanted, found) {
            if self.stopped() {
                return;
            }
            match pair {
                Pair::New(name, want) => match otherwise.remove(&name) {
                    None => self.one(at, name, Some(want), None, recursive, content),
                    Some(stands) => self.stands_otherwise(at, name, want, stands, recursive, content),
                },
                Pair::Both(name, want, _) => match at.dir.look(&name) {
                    Ok(stat) => self.one(at, name, Some(want), stat, recursive, content),
                    Err(e) => self.fail_in(at, &name, e.into()),
                },
                Pair::Extra(entry) if spoken_for.contains(&entry.name) => {}
                Pair::Extra(entry) if is_temp_name(&entry.name) => self.sweep(at, &entry.name),
                Pair::Extra(entry) => match at.dir.look(&entry.name) {
                    Ok(stat) => self.one(at, entry.name, None, stat, recursive, content),
                    Err(e) => self.fail_in(at, &entry.name, e.into()),
                },
            }
        }
    }

    /// Whether events named the content of files in a directory, too many to say which.
    pub(super) fn is_content_named(&self, dir: &RelPath) -> bool {
        self.dirty.get(dir).and_then(|look| look.all).is_some_and(|all| all.content)
    }

    /// Compares one name. Whether all of its directory was compared for that.
    pub(super) fn compare(&mut self, at: &At, name: &Name, recursive: bool) -> bool {
        let Some(path) = self.join(at, name) else { return false };
        if is_temp_name(name) {
            // Ours, and gone by itself, unless the source has it.
            if let Ok(Some(_)) = self.source.entry(&path) {
                self.fail(&path, Problem::Reserved(path.clone()));
            }
            return false;
        }
        if self.is_between(at, name) {
            self.switch_all();
            self.list(at, false);
            return true;
        }
        match (self.source.entry(&path), at.dir.look(name)) {
            (Ok(want), Ok(Some(found))) if self.folds(at, name) => {
                return self.compare_folded(at, name, want, found, recursive);
            }
            (Ok(want), Ok(found)) => {
                let content = self.is_content_named(&at.path);
                self.one(at, name.clone(), want, found, recursive, content);
            }
            (Err(problem), _) => self.fail(&path, problem),
            (_, Err(e)) => self.fail(&path, e.into()),
        }
        false
    }

    /// Acts on one name: what should be there and what is.
    pub(super) fn one(
        &mut self,
        at: &At,
        name: Name,
        want: Option<Want>,
        found: Option<Stat>,
        recursive: bool,
        content: bool,
    ) {
        let Some(path) = self.join(at, &name) else { return };
        let unsettled = self.source.is_unsettled(&at.path, &name);
        let both_dirs = matches!(&want, Some(Want::Dir(_))) && found.is_some_and(|found| found.kind == Kind::Dir);
        if unsettled && !(recursive && both_dirs) {
            self.found.out.unsettled.insert(path);
            return;
        }
        if self.is_left_alone(&path) {
            if want.is_some() {
                self.fail(&path, Problem::Protected(path.clone()));
            }
            return;
        }
        if found.is_some_and(|found| self.engine.options.own.contains(&found.id())) {
            return;
        }
        if found.is_some_and(|found| found.kind == Kind::Dir && self.source.roots().contains(&found.id())) {
            return self.fail(&path, Problem::Overlap { path: path.clone(), what: "the source" });
        }
        if self.is_left_to_one(want.as_ref(), found.as_ref()) {
            self.found.linked.insert(path);
            return;
        }
        let want = match (want, &found) {
            (Some(want), Some(found)) => Some(self.as_kept(want, found)),
            (want, _) => want,
        };
        self.note_links(&path, want.as_ref(), found.as_ref());
        match (want, found) {
            (None, None) => {}
            (Some(Want::Unknown(problem)), _) => self.fail(&path, problem),
            (Some(_), _) if is_temp_name(&name) => self.fail(&path, Problem::Reserved(path.clone())),
            (None, Some(found)) => self.extra(at, name, path, found),
            (Some(want), None) => self.new_entry(at, name, path, want),
            // A directory's own mode and time come back by themselves; nobody but this walk knows of what is in it.
            (Some(_), Some(_)) if unsettled => self.hand_on(Job::Walk(path)),
            (Some(want), Some(found)) => self.meet(at, name, path, want, found, recursive, content),
        }
    }

    pub(super) fn new_entry(&mut self, at: &At, name: Name, path: RelPath, want: Want) {
        if let Some(left) = self.engine.options.policy.new_entry() {
            return self.tell(Action::Left(left), &path, want.kind(), 0);
        }
        if self.engine.options.dry_run {
            return self.tell_new(&path, &want, Action::Copied);
        }
        match want {
            Want::Dir(want) => self.hand_on(Job::Build { at: at.clone(), name, path, want, found: None }),
            Want::File(want) => self.put(at, name, path, want, None),
            Want::Link(_) => self.put_link(at, name, path, want, None),
            Want::Node(_) => self.put_node(at, name, path, want, None),
            Want::Unknown(problem) => self.fail(&path, problem),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "both sides of one name, and how far to look")]
    pub(super) fn meet(
        &mut self,
        at: &At,
        name: Name,
        path: RelPath,
        want: Want,
        found: Stat,
        recursive: bool,
        content: bool,
    ) {
        let policy = self.engine.options.policy;
        let (Some(kind), Some(age_ns)) = (want.kind(), policy.age_ns(&want)) else { return };
        match policy.both(kind, age_ns, found.kind, found.mtime_ns) {
            Both::Compare => {}
            Both::Leave(left) => return self.tell(Action::Left(left), &path, Some(kind), 0),
            Both::InTheWay => return self.fail(&path, Problem::InTheWay(path.clone())),
        }
        let meeting = plan::meet(kind, found.kind);
        if kind != found.kind && self.source.chooses() {
            match self.source.leaves(&path, found.kind) {
                Ok(false) => {}
                Ok(true) => return self.fail(&path, Problem::Protected(path.clone())),
                Err(problem) => return self.fail(&path, problem),
            }
        }
        match (meeting, want) {
            (Meeting::Dirs, want @ Want::Dir(_)) => {
                if recursive {
                    self.hand_on(Job::Walk(path.clone()));
                }
                match self.differs(&path, &want, &found, &at.dir, Some(&name)) {
                    Ok(None) => self.keep(&path, &want, &found),
                    Ok(Some(_)) => self.finish_later(&path, Why::Differed),
                    Err(problem) => self.not_dressed(&path, problem),
                }
            }
            (Meeting::Files, Want::File(want)) => self.meet_file(at, name, path, want, found, content),
            (Meeting::Links, Want::Link(want)) => self.meet_link(at, name, path, Want::Link(want), found),
            (Meeting::Nodes, Want::Node(want)) => self.meet_node(at, name, path, want, found),
            (Meeting::Over, Want::File(want)) => self.put_file(at, name, path, want, Some(found)),
            (Meeting::Over, want @ Want::Link(_)) => self.put_link(at, name, path, want, Some(found)),
            (Meeting::Over, want @ Want::Node(_)) => self.put_node(at, name, path, want, Some(found)),
            (Meeting::IntoDir, Want::Dir(want)) => {
                if self.engine.options.dry_run {
                    return self.tell_new(&path, &Want::Dir(want), Action::Updated);
                }
                self.hand_on(Job::Build { at: at.clone(), name, path, want, found: Some(found) });
            }
            (Meeting::FromDir, want) => self.delete_later(at, name, path, found, Some(want)),
            _ => {}
        }
    }

    fn meet_file(&mut self, at: &At, name: Name, path: RelPath, want: WantFile, found: Stat, content: bool) {
        let named = self.dirty.get(&at.path).and_then(|look| look.names.get(&name)).is_some_and(|hint| hint.content);
        let look = if content || named || self.is_read(&path) { Look::Content } else { Look::Stat };
        let look = match self.meet_links(&path, &want, &found, look) {
            Meets::Compare(look) => look,
            Meets::Other => return self.put_file(at, name, path, want, Some(found)),
            Meets::Done => return,
        };
        let same = match self.source.same(&path, &want, &found, &at.dir, &name, look) {
            Ok(same) => same,
            Err(problem) => return self.fail(&path, problem),
        };
        let wanted = Want::File(want);
        let differs = match same {
            Same::Different => None,
            _ => match self.differs(&path, &wanted, &found, &at.dir, Some(&name)) {
                Ok(None) => {
                    self.lead(&path, &want, found.id(), look);
                    return self.keep(&path, &wanted, &found);
                }
                Ok(differs) => differs,
                Err(problem) => return self.not_dressed(&path, problem),
            },
        };
        match differs {
            // Another name of the same inode may lie outside: it gets a new one instead of a new mode. And rights are
            // given only to content that was just read.
            Some(kept) if found.nlink == 1 && !kept.gives_rights(want.mode) => {
                self.lead(&path, &want, found.id(), look);
                self.set_meta(at, name, path, wanted, found, kept);
            }
            _ => {
                self.is_wrong(&want, &found);
                self.put(at, name, path, want, Some(found));
            }
        }
    }

    /// Two links of one name.
    fn meet_link(&mut self, at: &At, name: Name, path: RelPath, want: Want, found: Stat) {
        let Want::Link(link) = &want else { return };
        match at.dir.read_link(&name) {
            Ok(now) if now == link.target => match self.differs(&path, &want, &found, &at.dir, Some(&name)) {
                Ok(None) => self.keep(&path, &want, &found),
                Ok(Some(kept)) => self.set_meta(at, name, path, want, found, kept),
                Err(problem) => self.not_dressed(&path, problem),
            },
            Ok(_) => self.put_link(at, name, path, want, Some(found)),
            Err(e) => self.fail(&path, e.into()),
        }
    }

    /// What the destination has too much, unless it is to stay.
    fn extra(&mut self, at: &At, name: Name, path: RelPath, found: Stat) {
        match self.source.leaves(&path, found.kind) {
            Ok(false) => {}
            Ok(true) => return,
            Err(problem) => return self.fail(&path, problem),
        }
        match self.engine.options.policy.extra() {
            Some(left) => self.tell(Action::Left(left), &path, Some(found.kind), 0),
            None => self.delete_later(at, name, path, found, None),
        }
    }

    /// Whether `path` is where backups are, or in there: none of a mirror's business.
    pub(super) fn is_left_alone(&self, path: &RelPath) -> bool {
        self.engine.options.left_alone.as_ref().is_some_and(|backup| path.starts_with(backup))
    }

    /// The source could not list a directory the destination has.
    pub(super) fn source_unlisted(&mut self, at: &At, problem: Problem) {
        let (Some((parent, name)), Ok(now)) = (at.path.split(), self.source.entry(&at.path)) else {
            return self.fail(&at.path, problem);
        };
        // It vanished meanwhile, or is no directory any more: that is no error, and its parent's business.
        if matches!(now, Some(Want::Dir(_) | Want::Unknown(_))) {
            return self.fail(&at.path, problem);
        }
        match self.open(&parent) {
            Ok(Opened::Dir(parent)) => drop(self.compare(&parent, &name, false)),
            Ok(Opened::Blocked(..)) => self.look_again(&at.path),
            Err(problem) => self.fail(&parent, problem),
        }
    }
}
