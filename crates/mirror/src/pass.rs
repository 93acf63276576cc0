//! One pass of the engine: walk and compare, in the order of the paths.
//!
//! What it finds becomes staged [`Step`]s, which are switched in portions, and deletions and directories, which
//! [`finish`] does at the end. New directories are [`fresh`]'s.

mod finish;
mod fresh;
mod keep;
mod links;

use crate::dirty::{self, Dirty, Hint};
use crate::engine::{Action, Engine, Event, Outcome};
use crate::plan::{self, Meeting, Pair};
use crate::problem::Problem;
use crate::source::{Look, Same, Source, Supply, Want, WantFile};
use crate::stage::{self, Failed, Place, Staged};
use crate::switch::{How, Step};
use finish::Delete;
use links::{Groups, Meets};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tree::at::{is_temp_name, set_mode};
use tree::{Dir, Kind, Name, RelPath, Stat};

/// How often a file that changes while it is read is read again in one pass.
const READS_MAX: usize = 3;

/// Replaced contents that are held for their freeing later.
const REPLACED_MAX: usize = 64;

/// A directory of the destination, held, and its path.
#[derive(Clone, Debug)]
struct At {
    path: RelPath,
    dir: Arc<Dir>,
}

/// Why a directory's own mode and times are set at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// We changed what is in it.
    Touched,
    /// They were not what they should be.
    Differed,
    /// It is new.
    Made,
}

pub(crate) struct Pass<'a, S: ?Sized> {
    engine: &'a mut Engine,
    source: &'a mut S,
    dirty: &'a Dirty,
    sink: &'a mut dyn FnMut(&Event<'_>),
    out: Outcome,
    steps: Vec<Step>,
    deletes: Vec<Delete>,
    /// Directories whose mode and times are set last.
    finals: BTreeMap<RelPath, Why>,
    /// Directories this pass has dealt with, with all that is below them.
    covered: BTreeSet<RelPath>,
    tally: Tally,
    groups: Groups,
}

/// What was counted on the way.
#[derive(Debug, Default)]
struct Tally {
    source_empty: bool,
    /// All of the destination was walked.
    whole: bool,
    dest_entries: u64,
}

impl<'a, S: Source + ?Sized> Pass<'a, S> {
    pub(crate) fn new(
        engine: &'a mut Engine,
        source: &'a mut S,
        dirty: &'a Dirty,
        sink: &'a mut dyn FnMut(&Event<'_>),
    ) -> Self {
        Self {
            engine,
            source,
            dirty,
            sink,
            out: Outcome::default(),
            steps: Vec::new(),
            deletes: Vec::new(),
            finals: BTreeMap::new(),
            covered: BTreeSet::new(),
            tally: Tally::default(),
            groups: Groups::default(),
        }
    }

    pub(crate) fn run(mut self) -> Outcome {
        let dirty = self.dirty;
        if dirty.root_entry() {
            self.compare_root();
        }
        self.bring_siblings_of_named();
        for (path, look) in dirty.iter() {
            if self.stopped() {
                break;
            }
            if !self.is_covered(path) {
                self.visit(path, look);
            }
        }
        self.finish_links();
        self.finish()
    }

    /// The root's own mode and time; what is in it is another matter.
    fn compare_root(&mut self) {
        let root = RelPath::root();
        let dest = Arc::clone(&self.engine.dest);
        match (self.source.entry(&root), dest.stat_self()) {
            (Ok(Some(want @ Want::Dir(_))), Ok(found)) => match self.differs(&root, &want, &found, &dest, None) {
                Ok(None) => self.keep(&root, &want, &found),
                Ok(Some(_)) => self.finish_later(&root, Why::Differed),
                Err(problem) => self.not_dressed(&root, problem),
            },
            (Ok(_), Ok(_)) => {}
            (Err(problem), _) => self.fail(&root, problem),
            (_, Err(e)) => self.fail(&root, e.into()),
        }
    }

    /// One directory that was marked.
    fn visit(&mut self, path: &RelPath, look: &dirty::Look) {
        let at = match self.open(path) {
            Ok(Opened::Dir(at)) => at,
            // An entry implies that its ancestors are directories: the first that is none is looked at instead.
            Ok(Opened::Blocked(at, name)) => return self.compare(&at, &name, true),
            Err(problem) => return self.fail(path, problem),
        };
        if let Some(all) = look.all {
            self.list(&at, all.recursive);
            if all.recursive {
                self.covered.insert(path.clone());
            }
            return;
        }
        for name in look.names.keys() {
            if self.stopped() {
                return;
            }
            self.compare(&at, name, false);
        }
    }

    /// Compares everything in a directory, and if `recursive`, everything below.
    fn list(&mut self, at: &At, recursive: bool) {
        let wanted = match self.source.list(&at.path) {
            Ok(wanted) => wanted,
            Err(problem) => return self.source_unlisted(at, problem),
        };
        let found = match at.dir.list(&mut self.engine.list_buffer) {
            Ok(found) => found,
            Err(e) => return self.fail(&at.path, e.into()),
        };
        if recursive {
            self.tally.dest_entries += found.len() as u64;
        }
        if at.path.is_root() {
            self.tally.source_empty = wanted.is_empty();
            self.tally.whole = recursive;
            self.groups.first_copy = found.is_empty();
            if recursive {
                self.engine.links.begin_walk();
            }
        }
        let content = self.dirty.get(&at.path).and_then(|look| look.all).is_some_and(|all| all.content);
        for pair in plan::join(wanted, found) {
            if self.stopped() {
                return;
            }
            match pair {
                Pair::New(name, want) => self.one(at, name, Some(want), None, recursive, content),
                Pair::Both(name, want, _) => match at.dir.look(&name) {
                    Ok(stat) => self.one(at, name, Some(want), stat, recursive, content),
                    Err(e) => self.fail_in(at, &name, e.into()),
                },
                Pair::Extra(entry) if is_temp_name(&entry.name) => self.sweep(at, &entry.name),
                Pair::Extra(entry) => match at.dir.look(&entry.name) {
                    Ok(stat) => self.one(at, entry.name, None, stat, recursive, content),
                    Err(e) => self.fail_in(at, &entry.name, e.into()),
                },
            }
        }
    }

    /// Compares one name.
    fn compare(&mut self, at: &At, name: &Name, recursive: bool) {
        if is_temp_name(name) {
            return;
        }
        let Some(path) = self.join(at, name) else { return };
        match (self.source.entry(&path), at.dir.look(name)) {
            (Ok(want), Ok(found)) => self.one(at, name.clone(), want, found, recursive, false),
            (Err(problem), _) => self.fail(&path, problem),
            (_, Err(e)) => self.fail(&path, e.into()),
        }
    }

    /// Acts on one name: what should be there and what is.
    fn one(&mut self, at: &At, name: Name, want: Option<Want>, found: Option<Stat>, recursive: bool, content: bool) {
        let Some(path) = self.join(at, &name) else { return };
        if self.source.is_unsettled(&at.path, &name) {
            return;
        }
        if found.is_some_and(|found| self.engine.options.own.contains(&found.id())) {
            return;
        }
        self.note_links(&path, want.as_ref(), found.as_ref());
        match (want, found) {
            (None, None) => {}
            (Some(Want::Unknown(problem)), _) => self.fail(&path, problem),
            (Some(_), _) if is_temp_name(&name) => self.fail(&path, Problem::Reserved(path.clone())),
            (None, Some(found)) => self.extra(at, name, path, found),
            (Some(want), None) => self.new_entry(at, name, path, want),
            (Some(want), Some(found)) => self.meet(at, name, path, want, found, recursive, content),
        }
    }

    fn new_entry(&mut self, at: &At, name: Name, path: RelPath, want: Want) {
        if self.engine.options.dry_run {
            return self.tell_new(&path, &want, Action::Copied);
        }
        match want {
            Want::Dir(want) => self.build(at, name, path, want, None),
            Want::File(want) => self.put_file(at, name, path, want, None),
            Want::Link(_) => self.put_link(at, name, path, want, None),
            Want::Node(_) => self.put_node(at, name, path, want, None),
            Want::Unknown(problem) => self.fail(&path, problem),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "both sides of one name, and how far to look")]
    fn meet(&mut self, at: &At, name: Name, path: RelPath, want: Want, found: Stat, recursive: bool, content: bool) {
        let Some(kind) = want.kind() else { return };
        match (plan::meet(kind, found.kind), want) {
            (Meeting::Dirs, want @ Want::Dir(_)) => {
                if recursive {
                    self.descend(at, &name, &path);
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
                self.build(at, name, path, want, Some(found));
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
                self.put_file(at, name, path, want, Some(found));
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

    /// Goes into a directory that both sides have.
    fn descend(&mut self, at: &At, name: &Name, path: &RelPath) {
        match at.dir.open_forced(name) {
            Ok((dir, forced)) => {
                if forced {
                    self.finish_later(path, Why::Touched);
                }
                self.list(&At { path: path.clone(), dir: Arc::new(dir) }, true);
            }
            Err(e) => self.fail(path, e.into()),
        }
    }

    /// Stages a file and has it wait for its switch.
    fn put_file(&mut self, at: &At, name: Name, path: RelPath, mut want: WantFile, found: Option<Stat>) {
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
        for _ in 0..READS_MAX {
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
    fn is_unsettled_by_now(&mut self, path: &RelPath, want: &WantFile) -> bool {
        self.source.is_unsettled_by_now(path) || self.is_elsewhere_unsettled(path, want)
    }

    fn not_staged(&mut self, path: &RelPath, failed: Failed) {
        match failed {
            Failed::Not(Supply::Pending) => {
                self.tell(Action::Waiting, path, Some(Kind::File), 0);
                self.out.waiting.push(path.clone());
            }
            Failed::Not(Supply::Gone) => self.look_again(path),
            Failed::Not(Supply::Unsettled) | Failed::Changed => {
                self.tell(Action::Unsettled, path, Some(Kind::File), 0);
                self.look_again(path);
            }
            failed => self.fail(path, failed.into_problem(path)),
        }
    }

    fn put_link(&mut self, at: &At, name: Name, path: RelPath, want: Want, found: Option<Stat>) {
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

    /// What the destination has too much.
    fn extra(&mut self, at: &At, name: Name, path: RelPath, found: Stat) {
        self.delete_later(at, name, path, found, None);
    }

    fn switch_later(&mut self, at: &At, name: Name, path: RelPath, want: Want, bytes: u64, how: How) {
        self.steps.push(Step { path, dir: Arc::clone(&at.dir), name, want, bytes, how });
        if self.steps.len() >= self.engine.options.portion {
            self.switch_all();
        }
    }

    /// Switches everything that was staged.
    fn switch_all(&mut self) {
        // Nothing but the switches in this loop, so that what belongs together appears together.
        let steps = std::mem::take(&mut self.steps);
        self.groups.queued.clear();
        let done: Vec<_> = steps.iter().map(|step| step.run(&self.engine.temps)).collect();
        for (step, done) in steps.into_iter().zip(done) {
            match done {
                Ok(done) => {
                    self.out.replaced.extend(done.replaced.filter(|_| self.out.replaced.len() < REPLACED_MAX));
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
                    self.fail(&step.path, problem);
                }
            }
        }
    }

    fn switched(&mut self, step: &Step, stat: &Stat) {
        let action = if step.is_update() { Action::Updated } else { Action::Copied };
        self.tell(action, &step.path, step.want.kind(), step.bytes);
        self.source.placed(&step.path, &step.want, stat);
        if !matches!(step.how, How::Meta(..))
            && let Some(parent) = step.path.parent()
        {
            self.finish_later(&parent, Why::Touched);
        }
    }

    /// Has a directory's mode and times set at the end.
    fn finish_later(&mut self, path: &RelPath, why: Why) {
        let held = self.finals.entry(path.clone()).or_insert(why);
        *held = why.max(*held);
    }

    /// Gives us the right to change what is in a directory; its wanted mode comes back at the end.
    fn make_writable(&mut self, at: &At) -> bool {
        if self.finals.contains_key(&at.path) {
            return true;
        }
        let done = at.dir.stat_self().and_then(|stat| {
            if stat.mode & 0o300 == 0o300 {
                return Ok(());
            }
            set_mode(&*at.dir, stat.mode | 0o700, at.dir.path())
        });
        match done {
            Ok(()) => self.finish_later(&at.path, Why::Touched),
            Err(e) => self.fail(&at.path, e.into()),
        }
        self.finals.contains_key(&at.path)
    }

    /// A temporary that is nobody's any more.
    fn sweep(&mut self, at: &At, name: &Name) {
        let Engine { options, temps, .. } = &*self.engine;
        // One of ours is left over if somebody put something into a directory in the moment in which it was replaced.
        let in_use = temps.is_ours(name) && self.steps.iter().any(|step| step.temp() == Some(name));
        if options.sweep && !options.dry_run && !in_use && self.make_writable(at) {
            crate::switch::drop_temp(&at.dir, name, &at.path);
        }
    }

    /// The source could not list a directory the destination has.
    fn source_unlisted(&mut self, at: &At, problem: Problem) {
        let (Some((parent, name)), Ok(now)) = (at.path.split(), self.source.entry(&at.path)) else {
            return self.fail(&at.path, problem);
        };
        // It vanished meanwhile, or is no directory any more: that is no error, and its parent's business.
        if matches!(now, Some(Want::Dir(_) | Want::Unknown(_))) {
            return self.fail(&at.path, problem);
        }
        match self.open(&parent) {
            Ok(Opened::Dir(parent)) => self.compare(&parent, &name, false),
            Ok(Opened::Blocked(..)) => self.look_again(&at.path),
            Err(problem) => self.fail(&parent, problem),
        }
    }

    /// Holds the directory at `path`, or the last one before what is in the way.
    fn open(&mut self, path: &RelPath) -> Result<Opened, Problem> {
        match self.engine.dest.walk(path) {
            Ok(dir) => return Ok(Opened::Dir(At { path: path.clone(), dir: Arc::new(dir) })),
            Err(e) if is_blocked(e.errno) || e.errno == Errno::ACCESS => {}
            Err(e) => return Err(e.into()),
        }
        let mut at = At { path: RelPath::root(), dir: Arc::clone(&self.engine.dest) };
        for component in path.components() {
            let name = Name::new(component).map_err(|e| Problem::Path(at.path.clone(), e))?;
            match at.dir.open_forced(&name) {
                Ok((dir, forced)) => {
                    let path = at.path.join(&name).map_err(|e| Problem::Path(at.path.clone(), e))?;
                    if forced {
                        self.finish_later(&path, Why::Touched);
                    }
                    at = At { path, dir: Arc::new(dir) };
                }
                Err(e) if is_blocked(e.errno) => return Ok(Opened::Blocked(at, name)),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Opened::Dir(at))
    }

    fn join(&mut self, at: &At, name: &Name) -> Option<RelPath> {
        at.path.join(name).map_err(|e| self.fail(&at.path, Problem::Path(at.path.clone(), e))).ok()
    }

    /// Whether `path` was dealt with as part of a directory above it.
    fn is_covered(&self, path: &RelPath) -> bool {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if self.covered.contains(&path) {
                return true;
            }
            at = path.parent();
        }
        false
    }

    fn stopped(&mut self) -> bool {
        self.out.stopped |= self.engine.is_stopped();
        self.out.stopped
    }

    fn keep(&mut self, path: &RelPath, want: &Want, found: &Stat) {
        self.source.kept(path, want, found);
        self.tell(Action::Skipped, path, want.kind(), 0);
    }

    fn look_again(&mut self, path: &RelPath) {
        match path.split() {
            Some((dir, name)) => self.out.again.insert(&dir, &name, Hint { content: true, by_event: false }),
            None => self.out.again.insert_root_entry(),
        }
        if self.dirty.removed_by_event(path)
            && let Some((dir, name)) = path.split()
        {
            self.out.again.insert_removed(&dir, &name);
        }
    }

    fn fail_in(&mut self, at: &At, name: &Name, problem: Problem) {
        if let Some(path) = self.join(at, name) {
            self.fail(&path, problem);
        }
    }

    /// Tells a problem, counts it, and has it looked at again.
    fn fail(&mut self, path: &RelPath, problem: Problem) {
        self.look_again(path);
        if let Ok(Some(Want::Dir(_))) = self.source.entry(path) {
            // What is in it was not looked at, either.
            self.out.again.insert_all(path, dirty::All { recursive: true, content: false });
        }
        self.out.counts.failed += 1;
        (self.sink)(&Event { action: Action::Failed, path, kind: None, bytes: 0, error: Some(&problem) });
        self.out.problems.push((path.clone(), problem));
    }

    fn tell(&mut self, action: Action, path: &RelPath, kind: Option<Kind>, bytes: u64) {
        let counts = &mut self.out.counts;
        counts.bytes += bytes;
        match action {
            Action::Copied => counts.copied += 1,
            Action::Updated => counts.updated += 1,
            Action::Skipped => counts.skipped += 1,
            Action::Deleted => counts.deleted += 1,
            Action::Failed | Action::Held | Action::Waiting | Action::Unsettled => {}
        }
        (self.sink)(&Event { action, path, kind, bytes, error: None });
    }
}

/// What [`Pass::open`] found.
enum Opened {
    /// The directory.
    Dir(At),
    /// A directory above it, and the name in there that is missing or no directory.
    Blocked(At, Name),
}

/// Whether an error says that there is no such directory.
fn is_blocked(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}
