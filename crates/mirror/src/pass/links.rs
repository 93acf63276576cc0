//! Hard links: the names of one file at the source become the names of one file at the destination.
//!
//! Of each file with several names one is the leader, in a pass: the first that the destination has as it should be, else
//! one that is copied. The others are linked to it, each as any new version: under a temporary name, then renamed in.
//! A name that meets no leader is put off while others of it are still to come, so that no content is copied twice.

use super::open::Opened;
use super::{At, Pass};
use crate::dirty::All;
use crate::engine::Action;
use crate::keep::give::is_refusal;
use crate::keep::{Reason, What};
use crate::links::Id;
use crate::problem::Problem;
use crate::source::{Look, Same, Source, Want, WantFile};
use crate::switch::{How, Step};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tree::{Dir, Kind, Name, RelPath, Stat};

/// What one pass knows of files with several names.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By the source's file.
    leaders: HashMap<Id, Leader>,
    /// Which of the source's files a file of the destination stands for.
    claims: HashMap<Id, Id>,
    /// Files of the destination that are not what they should be, whichever name leads to them.
    wrong: HashSet<Id>,
    /// Files of the source the content of which an event named.
    by_content: HashSet<Id>,
    /// Names that were met, and how many of each of the source's files.
    met: HashSet<RelPath>,
    met_of: HashMap<Id, u32>,
    /// Other names of what was met, not met themselves yet.
    siblings: BTreeSet<RelPath>,
    /// Of these, those that were looked at.
    looked: HashSet<RelPath>,
    /// Names that wait for a leader, or have to be looked at once more for a new one.
    put_off: BTreeSet<RelPath>,
    /// Names that were looked at once more, which happens once.
    again: HashSet<RelPath>,
    /// What was left to one thread is its turn.
    walked: bool,
    /// Nothing is put off any more.
    last: bool,
    /// The destination was empty, so no name in it can lead.
    pub(super) first_copy: bool,
    /// The hidden directory that is being filled.
    pub(super) hidden: Option<(RelPath, Arc<Dir>)>,
    /// Hidden directories that wait for their switch.
    pub(super) queued: Vec<RelPath>,
    /// Names the content of which was named under another one.
    reads: HashSet<RelPath>,
    /// Files of the source with several names that were met.
    touched: HashSet<Id>,
}

#[derive(Clone, Debug)]
struct Leader {
    path: RelPath,
    /// `None` while it waits for its switch, and in a dry run.
    id: Option<Id>,
    /// Its content was read.
    read: bool,
}

/// What is to be done with a file that both sides have.
pub(super) enum Meets {
    /// Compare it.
    Compare(Look),
    /// It is another file than it should be, so it is put there anew.
    Other,
    /// Nothing: it is done, or left alone for now.
    Done,
}

impl<S: Source> Pass<'_, '_, S> {
    pub(super) fn keeps_links(&self) -> bool {
        self.engine.options.keep.has(What::HardLinks)
    }

    /// The source's file, if it has several names and they are kept.
    fn linked(&self, want: &WantFile) -> Option<Stat> {
        want.found.filter(|found| found.nlink > 1 && self.keeps_links())
    }

    /// What events named brings up all names that are, or were, the same file: it may have been changed under this name
    /// and the name be gone by now.
    pub(super) fn bring_siblings_of_named(&mut self) {
        if !self.keeps_links() {
            return;
        }
        let dirty = self.dirty;
        for (dir, look) in dirty.iter() {
            for (name, hint) in &look.names {
                let Ok(path) = dir.join(name) else { continue };
                let links = &self.engine.links;
                let of_source = links.source.of(&path).map(|id| links.source.others(id, &path));
                let of_dest = links.dest.of(&path).map(|id| links.dest.others(id, &path));
                for other in of_source.into_iter().chain(of_dest).flatten() {
                    if hint.content {
                        self.groups.reads.insert(other.clone());
                    }
                    self.groups.siblings.insert(other);
                }
            }
        }
    }

    /// Whether the content of `path` was named under another name of its file.
    pub(super) fn is_read(&self, path: &RelPath) -> bool {
        self.groups.reads.contains(path)
    }

    /// Whether an entry is a name of a file with several, on either side, and is dealt with by one thread, alone: which leads,
    /// and which are linked to it, is one decision about all of them.
    pub(super) fn is_for_one(&self, want: Option<&Want>, found: Option<&Stat>) -> bool {
        if self.crew.threads == 1 || !self.keeps_links() {
            return false;
        }
        let source = matches!(want, Some(Want::File(want)) if want.found.is_some_and(|found| found.nlink > 1));
        source || found.is_some_and(|found| found.kind == Kind::File && found.nlink > 1)
    }

    /// Whether it waits, and its turn has not come yet.
    pub(super) fn is_left_to_one(&self, want: Option<&Want>, found: Option<&Stat>) -> bool {
        !self.groups.walked && self.is_for_one(want, found)
    }

    /// Notes what a name is on both sides, and brings up the other names of both.
    pub(super) fn note_links(&mut self, path: &RelPath, want: Option<&Want>, found: Option<&Stat>) {
        if !self.keeps_links() {
            return;
        }
        let source = match want {
            Some(Want::File(want)) => want.found.filter(|source| source.nlink > 1),
            _ => None,
        };
        let found = found.filter(|found| found.kind == Kind::File && found.nlink > 1);
        let links = &mut self.engine.links;
        for (names, stat) in [(&mut links.source, source.as_ref()), (&mut links.dest, found)] {
            match stat {
                Some(stat) => names.add(stat.id(), stat.nlink, path),
                None => names.remove(path),
            }
        }
        if self.found.tally.whole {
            // A walk of everything meets them all by itself.
            return;
        }
        let of_source = source.map(|source| links.source.others(source.id(), path));
        let of_dest = found.map(|found| links.dest.others(found.id(), path));
        let others = of_source.into_iter().chain(of_dest).flatten();
        self.groups.siblings.extend(others.filter(|other| !self.groups.met.contains(other)));
        self.groups.touched.extend(source.map(|source| source.id()));
    }

    /// Counts a name of the source that is about to be put or compared.
    fn meet_name(&mut self, path: &RelPath, want: &WantFile, found: Option<&Stat>) {
        let Some(source) = want.found.filter(|_| self.keeps_links()) else { return };
        let shared = found.is_some_and(|found| found.kind == Kind::File && found.nlink > 1);
        if (source.nlink > 1 || shared) && self.groups.met.insert(path.clone()) {
            *self.groups.met_of.entry(source.id()).or_default() += 1;
        }
    }

    /// What the other names say of a file that both sides have.
    pub(super) fn meet_links(&mut self, path: &RelPath, want: &WantFile, found: &Stat, look: Look) -> Meets {
        self.meet_name(path, want, Some(found));
        let Some(source) = want.found.filter(|_| self.keeps_links()) else { return Meets::Compare(look) };
        let mut other = false;
        if found.nlink > 1 {
            // One file at the destination cannot be two of the source's.
            other = *self.groups.claims.entry(found.id()).or_insert(source.id()) != source.id();
        }
        if source.nlink <= 1 {
            return if other { Meets::Other } else { Meets::Compare(look) };
        }
        if self.is_elsewhere_unsettled(path, want) {
            return Meets::Done;
        }
        if look == Look::Content {
            self.groups.by_content.insert(source.id());
        }
        let look = if self.groups.by_content.contains(&source.id()) { Look::Content } else { look };
        if other || self.groups.wrong.contains(&found.id()) {
            return Meets::Other;
        }
        match self.groups.leaders.get(&source.id()) {
            None => Meets::Compare(look),
            Some(Leader { id, .. }) if *id != Some(found.id()) => Meets::Other,
            Some(Leader { read: false, .. }) if look == Look::Content => Meets::Compare(look),
            Some(_) => {
                self.keep(path, &Want::File(*want), found);
                Meets::Done
            }
        }
    }

    /// What stands at `path` is as it should be, so the others can be linked to it.
    pub(super) fn lead(&mut self, path: &RelPath, want: &WantFile, id: Id, look: Look) {
        if let Some(source) = self.linked(want) {
            let leader = Leader { path: path.clone(), id: Some(id), read: look == Look::Content };
            self.groups.leaders.insert(source.id(), leader);
        }
    }

    /// What stands at a name, and whatever other names it has, is not as it should be.
    pub(super) fn is_wrong(&mut self, want: &WantFile, found: &Stat) {
        if let Some(source) = self.linked(want) {
            self.groups.wrong.insert(found.id());
            if self.groups.leaders.get(&source.id()).is_some_and(|leader| leader.id == Some(found.id())) {
                self.groups.leaders.remove(&source.id());
            }
        }
    }

    /// Puts a file by linking it to its leader, or puts it off. `false`: it is to be copied, and leads.
    pub(super) fn put_link_to(
        &mut self,
        at: &At,
        name: &Name,
        path: &RelPath,
        want: &WantFile,
        found: Option<Stat>,
    ) -> bool {
        self.meet_name(path, want, found.as_ref());
        let Some(source) = self.linked(want) else { return false };
        if self.is_elsewhere_unsettled(path, want) {
            return true;
        }
        if self.groups.leaders.contains_key(&source.id()) {
            match self.link_to_leader(at, name, path, want, found, source.id()) {
                Some(true) => return true,
                Some(false) => return false,
                None => drop(self.groups.leaders.remove(&source.id())),
            }
        } else if self.is_put_off(&source, path) {
            return true;
        }
        // Names that were right by the old leader are to be linked to this one.
        let others = self.engine.links.source.others(source.id(), path);
        for other in others.into_iter().filter(|other| self.groups.met.contains(other)) {
            if self.groups.again.insert(other.clone()) {
                self.groups.put_off.insert(other);
            }
        }
        self.groups.leaders.insert(source.id(), Leader { path: path.clone(), id: None, read: true });
        false
    }

    /// `None`: the leader is gone. `Some(false)`: it cannot be linked here, so it gets a copy of its own.
    fn link_to_leader(
        &mut self,
        at: &At,
        name: &Name,
        path: &RelPath,
        want: &WantFile,
        found: Option<Stat>,
        source: Id,
    ) -> Option<bool> {
        if self.engine.options.dry_run {
            let action = if found.is_some() { Action::Updated } else { Action::Copied };
            self.tell(action, path, Some(Kind::File), 0);
            return Some(true);
        }
        if !self.make_writable(at) {
            return Some(true);
        }
        let held = self.hold_leader(source)?;
        // The switches before may have taken a name from what was found, which shows in its ctime.
        let found = match found.map(|found| (found, at.dir.look(name))) {
            None => None,
            Some((found, Ok(Some(now)))) if found.is_still(&now) => Some(now),
            Some((_, Err(e))) => {
                self.fail(path, e.into());
                return Some(true);
            }
            Some(_) => {
                self.fail(path, Problem::Moved(path.clone()));
                return Some(true);
            }
        };
        let temp = self.engine.temps.next_name();
        match at.dir.link_in(&held, &temp) {
            Ok(()) => {}
            Err(e) if e.errno == Errno::MLINK => return None,
            Err(e) if is_refusal(e.errno) || e.errno == Errno::XDEV => {
                self.lack(path, (What::HardLinks, Reason::Refused(e)));
                // A copy of its own that is right already stays.
                let same = found.filter(|found| found.kind == Kind::File).is_some_and(|found| {
                    let same = self.source.same(path, want, &found, &at.dir, name, Look::Stat);
                    matches!(same, Ok(Same::Same)).then(|| self.keep(path, &Want::File(*want), &found)).is_some()
                });
                return Some(same);
            }
            Err(e) => {
                self.fail(path, e.into());
                return Some(true);
            }
        }
        let how = found.map_or_else(|| How::Rename(temp.clone()), |found| How::Over(temp.clone(), found));
        self.switch_later(at, name.clone(), path.clone(), Want::File(*want), 0, how);
        Some(true)
    }

    /// The same in a directory that nobody sees yet.
    pub(super) fn fill_link_to(&mut self, at: &At, name: &Name, path: &RelPath, want: &WantFile) -> bool {
        self.note_links(path, Some(&Want::File(*want)), None);
        self.meet_name(path, want, None);
        let Some(source) = self.linked(want) else { return false };
        if self.is_elsewhere_unsettled(path, want) {
            return true;
        }
        if !self.groups.leaders.contains_key(&source.id()) {
            return self.is_put_off(&source, path);
        }
        let Some(held) = self.hold_leader(source.id()) else {
            self.groups.leaders.remove(&source.id());
            return false;
        };
        match at.dir.link_in(&held, name).and_then(|()| at.dir.stat(name)) {
            Ok(stat) => {
                self.engine.links.dest.add(stat.id(), stat.nlink, path);
                self.tell(Action::Copied, path, Some(Kind::File), 0);
                self.source.placed(path, &Want::File(*want), &stat);
                true
            }
            Err(e) if e.errno == Errno::MLINK => {
                self.groups.leaders.remove(&source.id());
                false
            }
            Err(e) if is_refusal(e.errno) || e.errno == Errno::XDEV => {
                self.lack(path, (What::HardLinks, Reason::Refused(e)));
                false
            }
            Err(e) => {
                let problem = self.not_made(&at.dir, name, path, e);
                self.fail(path, problem);
                true
            }
        }
    }

    /// Whether a name without a leader waits for the others.
    fn is_put_off(&mut self, source: &Stat, path: &RelPath) -> bool {
        if self.groups.last {
            return false;
        }
        let more_to_come = if self.found.tally.whole {
            let met = self.groups.met_of.get(&source.id()).copied().unwrap_or_default();
            !self.groups.first_copy && met < source.nlink
        } else {
            let others = self.engine.links.source.others(source.id(), path);
            others.iter().any(|other| !self.groups.met.contains(other))
        };
        if more_to_come {
            self.groups.put_off.insert(path.clone());
        }
        more_to_come
    }

    /// Whether the file is being changed under another of its names. That one may be gone once it has settled, so this one
    /// is looked at again by itself.
    pub(super) fn is_elsewhere_unsettled(&mut self, path: &RelPath, want: &WantFile) -> bool {
        let Some(source) = self.linked(want) else { return false };
        let others = self.engine.links.source.others(source.id(), path);
        let unsettled =
            others.iter().filter_map(RelPath::split).any(|(dir, name)| self.source.is_unsettled(&dir, &name));
        if unsettled {
            self.look_again(path);
        }
        unsettled
    }

    /// Holds the file others are to be linked to.
    fn hold_leader(&mut self, source: Id) -> Option<OwnedFd> {
        let leader = self.groups.leaders.get(&source)?.clone();
        if leader.id.is_none() || self.groups.queued.iter().any(|top| leader.path.starts_with(top)) {
            self.switch_all();
        }
        let leader = self.groups.leaders.get(&source)?;
        let (dir, name) = leader.path.split()?;
        let dir = match &self.groups.hidden {
            Some((top, hidden)) if dir.starts_with(top) => {
                let below = &dir.as_bytes()[top.as_bytes().len()..];
                hidden.walk(&RelPath::new(below.strip_prefix(b"/").unwrap_or(below)).ok()?).ok()?
            }
            _ => self.engine.dest.walk(&dir).ok()?,
        };
        let (held, stat) = dir.hold(&name).ok()?;
        (Some(stat.id()) == leader.id && stat.kind == Kind::File).then_some(held)
    }

    /// A file has its name.
    pub(super) fn link_switched(&mut self, step: &Step, stat: &Stat) {
        let Want::File(want) = &step.want else { return };
        let Some(source) = self.linked(want) else { return };
        self.engine.links.dest.add(stat.id(), stat.nlink, &step.path);
        if let Some(leader) = self.groups.leaders.get_mut(&source.id())
            && leader.path == step.path
        {
            leader.id = Some(stat.id());
        }
    }

    /// A file did not get it.
    pub(super) fn link_not_switched(&mut self, want: &Want, path: &RelPath) {
        if let Want::File(want) = want
            && let Some(source) = self.linked(want)
            && self.groups.leaders.get(&source.id()).is_some_and(|leader| leader.path == *path)
        {
            self.groups.leaders.remove(&source.id());
        }
    }

    /// Looks at the names that others brought up, and at those that were put off.
    pub(super) fn finish_links(&mut self) {
        if !self.keeps_links() {
            return;
        }
        self.groups.walked = true;
        if !self.found.linked.is_empty() {
            // The directories they are in may wait for their switch.
            self.switch_all();
        }
        while !self.stopped() {
            if let Some(path) = self.found.linked.pop_first() {
                self.look_at(&path);
            } else if let Some(path) = self.groups.siblings.pop_first() {
                // Names that are gone at the source bring each other up, so each is looked at once.
                if self.groups.looked.insert(path.clone()) && !self.groups.met.contains(&path) {
                    self.look_at(&path);
                }
            } else if let Some(path) = self.groups.put_off.pop_first() {
                if !self.groups.last {
                    // What waits for its switch has to be there to be found.
                    self.switch_all();
                    self.groups.last = true;
                }
                self.look_at(&path);
            } else {
                break;
            }
        }
        if self.found.out.stopped {
            return;
        }
        if self.found.tally.whole {
            self.engine.links.end_walk();
        } else if self.groups.touched.iter().any(|id| self.engine.links.is_wanting(*id)) {
            // A name that was never linked before is not known, so it has to be found.
            self.found.out.again.insert_all(&RelPath::root(), All { recursive: true, content: false });
        }
    }

    fn look_at(&mut self, path: &RelPath) {
        let Some((parent, name)) = path.split() else { return };
        if !self.is_way_to(&parent) {
            return;
        }
        match self.open(&parent) {
            Ok(Opened::Dir(at)) => drop(self.compare(&at, &name, false)),
            Ok(Opened::Blocked(..)) => {}
            Err(problem) => self.fail(path, problem),
        }
        if self.do_put_off() {
            self.switch_all();
        }
    }
}
