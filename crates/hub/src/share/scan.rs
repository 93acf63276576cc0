//! From the disk to the board: looks where it is told to and commits what differs from the index.
//!
//! It promises that nothing is put that was read while it changed, that nothing is removed because something could
//! not be read, and that a removal that only a listing found passes the guard. What is there and cannot be read keeps
//! what the index knows of it; where that is nothing, it is told as [`Entry::Unknown`], so that nobody takes it for
//! removed. It never watches and never waits: when to look is its caller's business.

mod moved;
mod pins;
mod round;
mod unread;

pub(crate) use unread::Concern;

use super::contents::Contents;
use super::facts::Facts;
use super::guard::{Held, Removals};
use super::roots::Roots;
use board::{Board, BoardError, Name as Key, Record, Write, Writer};
use mirror::dirty::{Dirty, Hint};
use moved::Dirs;
use pins::{dir_facts, identity};
use round::{content_of, entry_of, is_dir};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use tree::at::{Dir, ListBuffer, Stat, is_temp_name};
use tree::fsx;
use tree::listing::{Found, Listing};
use tree::{ContentId, Entry, Kind, Name, RelPath, RootHash};
use unread::is_no_directory;

/// The one who writes a share's board.
pub(crate) struct Scanner {
    root: Dir,
    path: PathBuf,
    writer: Writer,
    board: Board,
    contents: Arc<Contents>,
    roots: Arc<Roots>,
    counts: Arc<Counts>,
    root_hash: RootHash,
    /// What is ours and never an entry: the hub's data directory, its log. A log that was begun anew is a new file.
    our_paths: Vec<PathBuf>,
    /// The same, by device and inode, whatever became of its name.
    ours: BTreeSet<(u64, u64)>,
    /// Where in the share something of ours was found: nothing below is looked at, whatever an event names.
    ours_at: BTreeSet<RelPath>,
    buffer: Vec<u8>,
    list: ListBuffer,
    round: BTreeMap<Key, Write>,
    removals: Removals,
    problems: BTreeMap<RelPath, Concern>,
    /// Directories that could not be opened or listed: nothing is known of what changed in them.
    unlisted: BTreeSet<RelPath>,
    /// Until the share is complete: what was seen and could not be put, as it is being written or changed under our eyes.
    passed_over: BTreeSet<RelPath>,
    /// The round holds a directory that became something else; it goes out whole, since nobody can stand in between.
    uncut: bool,
    /// How often in a row a file changed while it was read, and since when.
    restless: BTreeMap<RelPath, (u32, Instant)>,
    dirs: Dirs,
    /// Directories that a look found under a new name, and the one that the index has.
    moved: BTreeMap<RelPath, RelPath>,
    /// Of the places to look at, those that a look has taken in already with all that is below.
    taken_in: BTreeSet<RelPath>,
    again: Dirty,
    ended: Arc<AtomicBool>,
    is_unsettled: IsUnsettled,
}

/// What is counted of a share while it is scanned.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) bytes: AtomicU64,
    pub(crate) looked_at: AtomicU64,
    /// Files that were read to be hashed.
    pub(crate) read: AtomicU64,
}

/// When it is asked whether a name is unsettled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Before it is looked at: what is known already will do.
    Before,
    /// Once its content was read: everything that was reported by then counts.
    AfterReading,
}

type IsUnsettled = Box<dyn FnMut(&RelPath, Asked) -> bool + Send>;

/// What a round of looking came to.
pub(crate) struct Looked {
    /// To be looked at again: it changed while it was read, or its removal is held.
    pub(crate) again: Dirty,
    /// What is held, and why.
    pub(crate) held: Option<Held>,
}

/// Why a share cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error(transparent)]
    Board(#[from] BoardError),
    #[error(transparent)]
    Disk(#[from] fsx::Error),
    #[error("the hub is stopping")]
    Stopped,
}

impl Scanner {
    /// Takes over a board that was just opened: sums up its root and its contents.
    pub(crate) fn new(
        root: Dir,
        path: &Path,
        writer: Writer,
        contents: Arc<Contents>,
        roots: Arc<Roots>,
        counts: Arc<Counts>,
        our_paths: Vec<PathBuf>,
    ) -> Self {
        let board = writer.board();
        let (mut root_hash, mut dirs) = (RootHash::default(), Dirs::default());
        let mut bytes = 0;
        board.read(|index| {
            for record in index.iter_from(b"") {
                let Some(value) = &record.value else { continue };
                let Ok(path) = RelPath::new(record.name.to_vec()) else { continue };
                root_hash.add(&path, value);
                dirs.note(record);
                if let Some((content, size)) = content_of(value) {
                    contents.add(&record.name, &content);
                    bytes += size;
                }
            }
        });
        roots.note(board.head(), root_hash);
        counts.bytes.store(bytes, Ordering::Relaxed);
        Self {
            root,
            path: path.to_owned(),
            writer,
            board,
            contents,
            roots,
            counts,
            root_hash,
            our_paths,
            ours: BTreeSet::new(),
            ours_at: BTreeSet::new(),
            buffer: Vec::new(),
            list: ListBuffer::default(),
            round: BTreeMap::new(),
            removals: Removals::default(),
            problems: BTreeMap::new(),
            unlisted: BTreeSet::new(),
            passed_over: BTreeSet::new(),
            uncut: false,
            restless: BTreeMap::new(),
            dirs,
            moved: BTreeMap::new(),
            taken_in: BTreeSet::new(),
            again: Dirty::new(),
            ended: Arc::default(),
            is_unsettled: Box::new(|_, _| false),
        }
    }

    /// Once `ended` is set every look ends early, with [`ScanError::Stopped`]: a first scan may take hours.
    pub(crate) fn ended_by(self, ended: Arc<AtomicBool>) -> Self {
        Self { ended, ..self }
    }

    /// Looks at every place of `dirty` and commits what differs. Names for which `is_unsettled` says so are left alone:
    /// their own event brings them back.
    pub(crate) fn look(
        &mut self,
        dirty: &Dirty,
        is_unsettled: impl FnMut(&RelPath, Asked) -> bool + Send + 'static,
        allow_deletes: bool,
    ) -> Result<Looked, ScanError> {
        self.is_unsettled = Box::new(is_unsettled);
        // What a look before could not finish is found again by this one.
        (self.round, self.removals, self.uncut) = (BTreeMap::new(), Removals::default(), false);
        self.passed_over.clear();
        self.moved.clear();
        self.taken_in.clear();
        self.removals.accept_root(allow_deletes);
        if let Some(why) = self.another_root() {
            return Ok(Looked { again: Dirty::new(), held: Some(Held::everything(why)) });
        }
        self.ours.extend(self.our_paths.iter().filter_map(|path| identity(path)));
        for (dir, look) in dirty.iter() {
            let recursive = look.all.is_some_and(|all| all.recursive);
            if self.is_ours(dir) || self.taken_in.contains(dir) {
                continue;
            }
            if let Some((parent, name)) = self.unknown_above(dir).and_then(|unknown| unknown.split()) {
                // Nothing below is told of before it is known itself.
                self.look_at_name(&parent, &name, dirty)?;
                continue;
            }
            self.shield_mounts_above(dir);
            match self.root.walk(dir) {
                Ok(held) if held.stat_self().is_ok_and(|stat| self.ours.contains(&stat.id())) => {}
                Ok(held) => {
                    self.shield_mount(dir, &held);
                    if look.all.is_some() {
                        self.look_at_all(&held, dir, dirty, recursive)?;
                    } else {
                        for (name, hint) in &look.names {
                            let stat = held.look(name);
                            self.look_at(&held, dir, name, stat, *hint, dirty)?;
                        }
                    }
                    self.look_at_dir_itself(&held, dir)?;
                }
                // The directory itself is gone, or is none any more: that is for its parent to say.
                Err(e) if is_no_directory(&e) => {
                    self.unlisted.remove(dir);
                    if let Some((parent, name)) = dir.split() {
                        self.look_at_name(&parent, &name, dirty)?;
                    }
                }
                Err(e) => self.not_reached(dir, &e),
            }
        }
        if dirty.root_entry() {
            match self.root.walk(&RelPath::root()) {
                Ok(root) => self.look_at_dir_itself(&root, &RelPath::root())?,
                Err(e) => self.not_reached(&RelPath::root(), &e),
            }
        }
        let held = self.settle_removals(allow_deletes)?;
        self.commit()?;
        Ok(Looked { again: self.again.take(), held })
    }

    /// Names that could not be read or shared, and why.
    pub(crate) fn problems(&self) -> &BTreeMap<RelPath, Concern> {
        &self.problems
    }

    /// Directories that could not be listed: to be looked at again with all that is below them.
    pub(crate) fn unlisted(&self) -> &BTreeSet<RelPath> {
        &self.unlisted
    }

    /// The index holds all there is: clients may be told so. What is there and is not known yet is told as that, or they
    /// would take it for removed.
    pub(crate) fn set_complete(&mut self) -> Result<(), ScanError> {
        for path in std::mem::take(&mut self.passed_over) {
            self.put_unknown(&path)?;
        }
        self.commit()?;
        Ok(self.writer.set_complete(true)?)
    }

    /// Forgets the tombstones up to a seq.
    pub(crate) fn forget_tombstones(&mut self, up_to: u64) -> Result<(), ScanError> {
        Ok(self.writer.forget_tombstones(up_to)?)
    }

    /// Copies the index into the file `to`, as [`Writer::copy_to`] does.
    pub(crate) fn copy_to(&mut self, to: &Path) -> Result<(), BoardError> {
        self.writer.copy_to(to)
    }

    /// Closes the index cleanly.
    pub(crate) fn close(self) -> Result<(), BoardError> {
        self.writer.close()
    }

    fn look_at_name(&mut self, dir: &RelPath, name: &Name, dirty: &Dirty) -> Result<(), ScanError> {
        if let Ok(held) = self.root.walk(dir) {
            let stat = held.look(name);
            self.look_at(&held, dir, name, stat, Hint::LISTED, dirty)?;
        }
        Ok(())
    }

    fn look_at_all(&mut self, held: &Dir, dir: &RelPath, dirty: &Dirty, recursive: bool) -> Result<(), ScanError> {
        match Listing::read(held, &mut self.list) {
            Ok(listing) => self.compare(held, dir, listing, dirty, recursive),
            Err(e) => self.not_listed(dir, &e),
        }
    }

    /// Compares a listing with what the index has in that directory.
    fn compare(
        &mut self,
        held: &Dir,
        dir: &RelPath,
        listing: Listing,
        dirty: &Dirty,
        recursive: bool,
    ) -> Result<(), ScanError> {
        if self.unlisted.remove(dir) {
            self.problems.remove(dir);
        }
        let known = self.children(dir);
        let mut subdirs = Vec::new();
        let mut found = listing.0.into_iter().peekable();
        let mut known = known.into_iter().peekable();
        // A merge join of two sorted lists: what only the index has is gone from the disk.
        loop {
            let take_found = match (found.peek(), known.peek()) {
                (None, None) => break,
                (Some((name, _)), Some(gone)) if name > gone => false,
                (Some(_), _) => true,
                (None, Some(_)) => false,
            };
            if take_found {
                let Some((name, what)) = found.next() else { break };
                known.next_if(|k| *k == name);
                let is_dir = what.kind() == Some(Kind::Dir);
                let stat = match what {
                    Found::Known(stat) => Ok(Some(stat)),
                    Found::Unreadable(e) => Err(e),
                };
                let hint = dirty.hint(dir, &name);
                if self.look_at(held, dir, &name, stat, hint, dirty)? == Next::Known && is_dir && recursive {
                    subdirs.push(name);
                }
            } else if let Some(name) = known.next() {
                self.look_at(held, dir, &name, Ok(None), dirty.hint(dir, &name), dirty)?;
            }
        }
        for name in subdirs {
            self.descend(held, dir, &name, dirty)?;
        }
        Ok(())
    }

    /// Looks at everything below a directory.
    fn descend(&mut self, held: &Dir, dir: &RelPath, name: &Name, dirty: &Dirty) -> Result<(), ScanError> {
        let Ok(path) = dir.join(name) else { return Ok(()) };
        match held.open(name) {
            Ok(below) => self.look_at_all(&below, &path, dirty, true),
            Err(e) if is_no_directory(&e) => {
                self.again.insert(dir, name, Hint::LISTED);
                Ok(())
            }
            Err(e) => self.not_listed(&path, &e),
        }
    }

    /// Takes in a directory that is new to the index. It is not told of before what is in it is known.
    fn take_in(
        &mut self,
        held: &Dir,
        (dir, name): (&RelPath, &Name),
        path: &RelPath,
        (entry, facts, record): (Entry, Facts, Option<Record>),
        dirty: &Dirty,
    ) -> Result<(), ScanError> {
        match held.open(name).and_then(|below| Ok((Listing::read(&below, &mut self.list)?, below))) {
            Ok((listing, below)) => {
                if dirty.get(path).is_some() {
                    self.taken_in.insert(path.clone());
                }
                self.note_move(path, &facts);
                self.put(path.clone(), &entry, facts, record)?;
                self.compare(&below, path, listing, dirty, true)
            }
            Err(e) if is_no_directory(&e) => {
                self.again.insert(dir, name, Hint::LISTED);
                self.pass_over(path);
                Ok(())
            }
            Err(e) => self.not_listed(path, &e),
        }
    }

    /// Compares one name with the index.
    fn look_at(
        &mut self,
        held: &Dir,
        dir: &RelPath,
        name: &Name,
        stat: Result<Option<Stat>, fsx::Error>,
        hint: Hint,
        dirty: &Dirty,
    ) -> Result<Next, ScanError> {
        if self.ended.load(Ordering::Acquire) {
            return Err(ScanError::Stopped);
        }
        self.counts.looked_at.fetch_add(1, Ordering::Relaxed);
        let path = match dir.join(name) {
            Ok(path) => path,
            Err(why) => {
                let why = format!("{name}: {why}; it is not shared");
                self.problems.insert(dir.clone(), Concern::LeftOut(why));
                return Ok(Next::Known);
            }
        };
        if is_temp_name(name) {
            let why = "a name of lockstep's own temporary files; it is not shared, rename it";
            self.problems.insert(path, Concern::LeftOut(why.into()));
            return Ok(Next::Known);
        }
        if (self.is_unsettled)(&path, Asked::Before) {
            if !matches!(stat, Ok(None)) {
                self.pass_over(&path);
            }
            // What was handed out and is held back again still stands before whoever waits for what happened until now.
            if hint.by_event {
                self.again.insert(dir, name, hint);
            }
            return Ok(Next::Known);
        }
        self.ours_at.remove(&path);
        let stat = match stat {
            Ok(Some(stat)) if self.ours.contains(&stat.id()) => {
                self.gone(&path, true);
                self.ours_at.insert(path.clone());
                self.problems.insert(path, Concern::LeftOut("the hub's own data; it is not shared".into()));
                return Ok(Next::Ours);
            }
            Ok(Some(stat)) => stat,
            Ok(None) => {
                self.gone(&path, dirty.removed_by_event(&path));
                return Ok(Next::Known);
            }
            Err(e) => {
                self.problem(&path, &e);
                self.put_unknown(&path)?;
                return Ok(Next::Known);
            }
        };
        let record = self.known(&path);
        let was_dir = is_dir(record.as_ref());
        let entry = match stat.kind {
            Kind::Special => {
                self.gone(&path, true);
                let why = "a fifo, socket or device; only files, directories and links are shared";
                self.problems.insert(path, Concern::LeftOut(why.into()));
                return Ok(Next::Known);
            }
            Kind::Dir => Entry::Dir { mode: stat.kept_mode(), mtime_ns: stat.mtime_ns },
            Kind::Link => match held.read_link(name) {
                Ok(target) => Entry::Link { mtime_ns: stat.mtime_ns, target },
                Err(e) => return self.failed(dir, name, &path, &e),
            },
            Kind::File => {
                let facts = Facts::of(&stat);
                let unread = record.as_ref().filter(|r| !hint.content && Facts::from_bytes(&r.aside) == Some(facts));
                let known = unread.and_then(|r| content_of(r.value.as_ref()?));
                match known.or_else(|| self.content_before_move((dir, name), &facts, dirty)) {
                    Some((content, size_bytes)) => Entry::File {
                        mode: stat.kept_mode(),
                        mtime_ns: stat.mtime_ns,
                        size_bytes,
                        content: ContentId(content),
                    },
                    None => return self.read(held, dir, name, &path, hint),
                }
            }
        };
        if was_dir && stat.kind != Kind::Dir {
            self.became_something_else(&path);
        }
        let facts = if stat.kind == Kind::Dir && stat.mount_point {
            match held.open(name).and_then(|mounted| dir_facts(&mounted, &stat)) {
                Ok(facts) => facts,
                Err(e) => return self.failed(dir, name, &path, &e),
            }
        } else {
            Facts::of(&stat)
        };
        if stat.kind == Kind::Dir && was_dir && self.mount_differs(record.as_ref(), &facts) {
            self.shield(path);
            return Ok(Next::Known);
        }
        // Another directory under the name of the one before has nothing to do with what the index says is below. Inode
        // numbers are used again, so a reported removal counts as well.
        let held_facts = record.as_ref().and_then(|r| Facts::from_bytes(&r.aside));
        let same_dir = was_dir && held_facts.is_none_or(|f| f.same_place(&facts)) && !dirty.removed_by_event(&path);
        let has_new_rights = record.as_ref().and_then(entry_of).is_some_and(|e| e.mode() != entry.mode());
        if stat.kind == Kind::Dir && !same_dir {
            // New to the index: all of it is.
            self.take_in(held, (dir, name), &path, (entry, facts, record), dirty)?;
            return Ok(Next::Done);
        }
        self.put(path.clone(), &entry, facts, record)?;
        if stat.kind == Kind::Dir && has_new_rights {
            // Perhaps it cannot be read any more, or can again; nothing else would tell.
            match held.open(name) {
                Ok(below) => self.look_at_all(&below, &path, dirty, false)?,
                Err(e) if is_no_directory(&e) => self.again.insert(dir, name, Hint::LISTED),
                Err(e) => self.not_listed(&path, &e)?,
            }
        }
        Ok(Next::Known)
    }
}

/// Whether a directory that was looked at still has to be gone into.
#[derive(PartialEq, Eq)]
enum Next {
    /// As its caller thinks right.
    Known,
    /// It was new, and all below it has been looked at.
    Done,
    /// Not to be gone into.
    Ours,
}
