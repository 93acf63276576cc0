//! From the disk to the board: looks where it is told to and commits what differs from the index.
//!
//! It promises that nothing is put that was read while it changed, that nothing is removed because something could
//! not be read, and that a removal that only a listing found passes the guard. What is there and cannot be read keeps
//! what the index knows of it; where that is nothing, it is told as [`Entry::Unknown`], so that nobody takes it for
//! removed. It never watches and never waits: when to look is its caller's business.

use super::contents::Contents;
use super::facts::Facts;
use super::guard::{Held, Removals};
use super::roots::Roots;
use crate::clock;
use board::{Board, BoardError, Name as Key, Record, Write, Writer};
use bytes::Bytes;
use mirror::dirty::{Dirty, Hint};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tree::at::{Dir, ListBuffer, Stat, is_temp_name};
use tree::fsx;
use tree::hash::{Hashed, hash_file};
use tree::listing::{Found, Listing};
use tree::{ContentId, Entry, Kind, Name, RelPath, RootHash};
use wire::limits::INLINE_BYTES_MAX;

/// Entries of one commit: small enough that the first clients get something early, large enough to cost nothing.
const COMMIT_ENTRIES: usize = 512;
/// A file that changed under this many readings in a row, and for so long, is copied once, and the copy is published. One
/// that is rewritten in place many times a second has been read between two writes by then.
const READS_MAX: u32 = 8;
const RESTLESS_MIN: Duration = Duration::from_secs(5);

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
    problems: BTreeMap<RelPath, String>,
    /// Directories that could not be opened or listed: nothing is known of what changed in them.
    unlisted: BTreeSet<RelPath>,
    /// Until the share is complete: what was seen and could not be put, as it is being written or changed under our eyes.
    passed_over: BTreeSet<RelPath>,
    /// The round holds a directory that became something else; it goes out whole, since nobody can stand in between.
    uncut: bool,
    /// How often in a row a file changed while it was read, and since when.
    restless: BTreeMap<RelPath, (u32, Instant)>,
    again: Dirty,
    ended: Arc<AtomicBool>,
    is_unsettled: IsUnsettled,
}

/// What is counted of a share while it is scanned.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) bytes: AtomicU64,
    pub(crate) looked_at: AtomicU64,
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
    /// Deletions that are held, and why.
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
        let mut root_hash = RootHash::default();
        let mut bytes = 0;
        board.read(|index| {
            for record in index.iter_from(b"") {
                let Some(value) = &record.value else { continue };
                let Ok(path) = RelPath::new(record.name.to_vec()) else { continue };
                root_hash.add(&path, value);
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
        self.removals.accept_root(allow_deletes);
        self.ours.extend(self.our_paths.iter().filter_map(|path| identity(path)));
        for (dir, look) in dirty.iter() {
            let recursive = look.all.is_some_and(|all| all.recursive);
            if self.is_ours(dir) {
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
    pub(crate) fn problems(&self) -> &BTreeMap<RelPath, String> {
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
                self.problems.insert(dir.clone(), format!("{name}: {why}; it is not shared"));
                return Ok(Next::Known);
            }
        };
        if is_temp_name(name) {
            self.problems.insert(path, "a name of lockstep's own temporary files; it is not shared, rename it".into());
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
                self.problems.insert(path, "the hub's own data; it is not shared".into());
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
                self.problems
                    .insert(path, "a fifo, socket or device; only files, directories and links are shared".into());
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
                match unread.and_then(|r| content_of(r.value.as_ref()?)) {
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

    /// Reads and hashes a file: stat, read, stat.
    fn read(&mut self, held: &Dir, dir: &RelPath, name: &Name, path: &RelPath, hint: Hint) -> Result<Next, ScanError> {
        let (mut file, before) = match held.open_file(name) {
            Ok(opened) => opened,
            Err(e) => return self.failed(dir, name, path, &e),
        };
        let full = held.path_of(name);
        let hashed = hash_file(&mut file, &before, INLINE_BYTES_MAX as u64, &mut self.buffer, &full);
        // Being written again: what was read is what a writer left for a moment, such as nothing after a truncation.
        let hashed = match hashed {
            Ok(Hashed::Stable(_)) if (self.is_unsettled)(path, Asked::AfterReading) => Ok(Hashed::Changed),
            other => other,
        };
        let (stable, restless) = match hashed {
            Ok(Hashed::Stable(stable)) => (stable, false),
            Ok(Hashed::Changed) => {
                let now = clock::now();
                let (reads, since) = self.restless.entry(path.clone()).or_insert((0, now));
                *reads += 1;
                self.again.insert(dir, name, Hint { content: true, ..hint });
                if *reads < READS_MAX || now.saturating_duration_since(*since) < RESTLESS_MIN {
                    self.pass_over(path);
                    return Ok(Next::Known);
                }
                match self.contents.spool(&mut file, &before, &full) {
                    Ok(Some(copy)) => (copy, true),
                    Ok(None) => {
                        let why = "changes all the time and is too large to be copied; tried again";
                        self.problems.insert(path.clone(), why.into());
                        self.put_unknown(path)?;
                        return Ok(Next::Known);
                    }
                    Err(e) => return self.failed(dir, name, path, &e),
                }
            }
            Err(e) => return self.failed(dir, name, path, &e),
        };
        self.restless.remove(path);
        let record = self.known(path);
        if is_dir(record.as_ref()) {
            self.became_something_else(path);
        }
        let entry = Entry::File {
            mode: stable.stat.kept_mode(),
            mtime_ns: stable.stat.mtime_ns,
            size_bytes: stable.stat.size_bytes,
            content: stable.content,
        };
        if let Some(bytes) = stable.bytes {
            self.contents.keep(stable.content.0, bytes.into());
        }
        // A spooled copy is not what the disk holds: without facts it is read again next time.
        let facts = if restless { None } else { Some(Facts::of(&stable.stat)) };
        self.put_with(path.clone(), &entry, facts, record)?;
        Ok(Next::Known)
    }

    /// A directory's own mode and times change with what is in it, and no event names it for that.
    fn look_at_dir_itself(&mut self, held: &Dir, dir: &RelPath) -> Result<(), ScanError> {
        let stat = held.stat_self()?;
        let record = self.known(dir);
        let facts = if dir.is_root() { root_facts(held, &stat)? } else { dir_facts(held, &stat)? };
        // The pins: while they differ the index keeps the old ones, so that neither the next look nor a restart forgets.
        if dir.is_root() {
            if self.root_differs(&facts) {
                return Ok(());
            }
        } else if !is_dir(record.as_ref()) || self.mount_differs(record.as_ref(), &facts) {
            // Not an entry yet: its parent's listing will say what it is.
            return Ok(());
        }
        let entry = Entry::Dir { mode: stat.kept_mode(), mtime_ns: stat.mtime_ns };
        self.put(dir.clone(), &entry, facts, record)
    }

    /// Whether the share's root is another directory than the one that the index was made from.
    fn root_differs(&self, now: &Facts) -> bool {
        let pinned = self.known(&RelPath::root()).and_then(|r| Facts::from_bytes(&r.aside));
        pinned.is_some_and(|pinned| !pinned.same_place(now)) && !self.removals.root_is_accepted()
    }

    /// Whether something else is mounted on this directory than the index says, or nothing any more.
    fn mount_differs(&self, record: Option<&Record>, now: &Facts) -> bool {
        let was = record.and_then(|r| Facts::from_bytes(&r.aside));
        was.is_some_and(|was| was.mount_point() != now.mount_point() || was.mount_point() && !was.same_place(now))
            && !self.removals.root_is_accepted()
    }

    /// Shields what lies below `dir` if something else is mounted on it than the index says.
    fn shield_mount(&mut self, dir: &RelPath, held: &Dir) {
        let now = held.stat_self().and_then(|stat| dir_facts(held, &stat));
        if !dir.is_root() && now.is_ok_and(|now| self.mount_differs(self.known(dir).as_ref(), &now)) {
            self.shield(dir.clone());
        }
    }

    /// The same for the mount points that `dir` lies in: an event below them is looked at without them.
    fn shield_mounts_above(&mut self, dir: &RelPath) {
        let mut above = dir.parent();
        while let Some(at) = above.filter(|at| !at.is_root()) {
            let pinned = self.known(&at).and_then(|r| Facts::from_bytes(&r.aside)).is_some_and(|f| f.mount_point());
            if pinned {
                match self.root.walk(&at) {
                    Ok(held) => self.shield_mount(&at, &held),
                    Err(_) => self.shield(at.clone()),
                }
            }
            above = at.parent();
        }
    }

    fn shield(&mut self, path: RelPath) {
        let why = "what is mounted here is not what was; nothing below is deleted";
        self.problems.insert(path.clone(), why.into());
        self.removals.shield(path);
    }

    /// Whether `dir` is something of ours, or lies in it.
    fn is_ours(&self, dir: &RelPath) -> bool {
        self.ours_at.iter().any(|ours| dir.starts_with(ours))
    }

    fn put(&mut self, path: RelPath, entry: &Entry, facts: Facts, record: Option<Record>) -> Result<(), ScanError> {
        self.put_with(path, entry, Some(facts), record)
    }

    fn put_with(
        &mut self,
        path: RelPath,
        entry: &Entry,
        facts: Option<Facts>,
        record: Option<Record>,
    ) -> Result<(), ScanError> {
        let name = Key::copy_from_slice(path.as_bytes());
        let aside = Bytes::from(facts.map(Facts::to_bytes).unwrap_or_default());
        let value = Bytes::from(entry.to_bytes());
        self.removals.keep(&path);
        self.passed_over.remove(&path);
        if !self.unlisted.contains(&path) {
            self.problems.remove(&path);
        }
        match record {
            Some(r) if r.value.as_ref() == Some(&value) => {
                if r.aside != aside {
                    self.round.insert(name.clone(), Write::Aside { name, aside });
                }
            }
            _ => {
                self.round.insert(name.clone(), Write::Put { name, value, aside });
            }
        }
        if self.round.len() >= COMMIT_ENTRIES && !self.uncut { self.commit() } else { Ok(()) }
    }

    /// Tells that something stands at `path` of which nothing is known, unless the index knows it from before.
    fn put_unknown(&mut self, path: &RelPath) -> Result<(), ScanError> {
        if path.is_root() || self.known(path).is_some() || self.unknown_above(path).is_some() {
            return Ok(());
        }
        let name = Key::copy_from_slice(path.as_bytes());
        let value = Bytes::from(Entry::Unknown.to_bytes());
        self.round.insert(name.clone(), Write::Put { name, value, aside: Bytes::new() });
        if self.round.len() >= COMMIT_ENTRIES && !self.uncut { self.commit() } else { Ok(()) }
    }

    /// Something is there that cannot be put now. Should the first scan end before it can be, that is told.
    fn pass_over(&mut self, path: &RelPath) {
        if !self.board.complete() {
            self.passed_over.insert(path.clone());
        }
    }

    /// What is told as unknown and `path` is or lies below.
    fn unknown_above(&self, path: &RelPath) -> Option<RelPath> {
        std::iter::successors(Some(path.clone()), RelPath::parent)
            .find(|path| self.known(path).as_ref().and_then(entry_of) == Some(Entry::Unknown))
    }

    /// Marks an entry, and all below it, for removal.
    fn gone(&mut self, path: &RelPath, by_event: bool) {
        self.problems.remove(path);
        self.restless.remove(path);
        self.unlisted.remove(path);
        if let Some(record) = self.known(path) {
            self.removals.add(path.clone(), by_event);
            // What was mounted went away with the directory that it was mounted on, as a stick's does.
            let mounted = Facts::from_bytes(&record.aside).is_some_and(|facts| facts.mount_point());
            if mounted && !self.removals.root_is_accepted() {
                self.removals.shield(path.clone());
            }
        }
        self.gone_below(path, by_event);
    }

    /// A directory is a file or a link now: what was in it goes in the same commit.
    fn became_something_else(&mut self, path: &RelPath) {
        self.uncut = true;
        self.gone_below(path, true);
    }

    fn gone_below(&mut self, path: &RelPath, by_event: bool) {
        let mut prefix = path.as_bytes().to_vec();
        if !path.is_root() {
            prefix.push(b'/');
        }
        self.passed_over.retain(|passed| passed == path || !passed.starts_with(path));
        // What could not be read there is no problem any more.
        let end: Vec<u8> = [path.as_bytes(), b"0"].concat();
        let bounds = (Bound::Included(&prefix[..]), Bound::Excluded(&end[..]));
        if !path.is_root() && !self.problems.is_empty() {
            let gone: Vec<RelPath> = self.problems.range::<[u8], _>(bounds).map(|(path, _)| path.clone()).collect();
            for path in gone {
                self.problems.remove(&path);
                self.unlisted.remove(&path);
            }
        }
        let below: Vec<Key> = self.board.read(|index| {
            let names = index.iter_from(&prefix).take_while(|r| r.name.starts_with(&prefix));
            names.filter(|r| !r.name.is_empty()).map(|r| r.name.clone()).collect()
        });
        for name in below {
            if let Ok(path) = RelPath::new(name.to_vec()) {
                self.removals.add(path, by_event);
            }
        }
    }

    /// Lets the removals pass that may, and holds the others.
    fn settle_removals(&mut self, allow: bool) -> Result<Option<Held>, ScanError> {
        // Also in a round that did not come by the root itself.
        let root = self.root.stat_self().and_then(|stat| root_facts(&self.root, &stat));
        if !root.is_ok_and(|now| !self.root_differs(&now)) {
            self.removals.hold_all("the shared directory is not the one that was shared before");
        }
        if self.removals.is_empty() {
            return Ok(self.removals.held_without_any());
        }
        let here = Dir::open_root(&self.path).and_then(|now| now.stat_self()).map(|s| s.id());
        let in_place = here.is_ok_and(|id| self.root.stat_self().is_ok_and(|root| root.id() == id));
        let (go, held) = self.removals.decide(self.board.len(), in_place, allow, &self.path);
        for path in go {
            let name = Key::copy_from_slice(path.as_bytes());
            // Put in the same round: it is back already.
            if !matches!(self.round.get(&name), Some(Write::Put { .. })) {
                self.round.insert(name.clone(), Write::Remove { name });
            }
        }
        Ok(held)
    }

    /// Commits what has gathered; puts and removals of one round go out together, so a client finds what moved.
    fn commit(&mut self) -> Result<(), ScanError> {
        if self.round.is_empty() {
            return Ok(());
        }
        let writes: Vec<Write> = std::mem::take(&mut self.round).into_values().collect();
        let mut head = self.writer.next_seq() - 1;
        let mut root = self.root_hash;
        let mut changes = Vec::with_capacity(writes.len());
        for write in &writes {
            let (name, new) = match write {
                Write::Put { name, value, .. } => (name, Some(value.clone())),
                Write::Remove { name } => (name, None),
                Write::Aside { .. } => continue,
            };
            let old = self.board.get(name).and_then(|r| r.value);
            if old.is_none() && new.is_none() {
                continue;
            }
            head += 1;
            let Ok(path) = RelPath::new(name.to_vec()) else { continue };
            if let Some(old) = &old {
                root.remove(&path, old);
            }
            if let Some(new) = &new {
                root.add(&path, new);
            }
            let content = |value: &Option<Bytes>| value.as_ref().and_then(|value| content_of(value));
            changes.push((name.clone(), content(&old), content(&new)));
        }
        // Before the head is seen, so that whoever sees it finds its root, and its contents.
        if !changes.is_empty() {
            self.roots.note(head, root);
        }
        for (name, _, new) in &changes {
            if let Some((content, _)) = new {
                self.contents.add(name, content);
            }
        }
        self.writer.commit(writes)?;
        // And after it, what is no more: had the commit failed, all would be as before.
        self.root_hash = root;
        let mut bytes = self.counts.bytes.load(Ordering::Relaxed);
        for (name, old, new) in &changes {
            bytes = bytes.saturating_sub(old.map_or(0, |o| o.1)) + new.map_or(0, |n| n.1);
            if let Some((content, _)) = old.filter(|old| new.is_none_or(|new| new.0 != old.0)) {
                self.contents.remove(name, &content);
            }
        }
        self.counts.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// What the index says, or is about to say.
    fn known(&self, path: &RelPath) -> Option<Record> {
        self.board.get(path.as_bytes()).filter(|r| r.value.is_some())
    }

    /// The names that the index has directly in `dir`, sorted.
    fn children(&self, dir: &RelPath) -> Vec<Name> {
        let mut prefix = dir.as_bytes().to_vec();
        if !dir.is_root() {
            prefix.push(b'/');
        }
        self.board.read(|index| {
            let mut names = Vec::new();
            let mut from = prefix.clone();
            'seek: loop {
                for record in index.iter_from(&from) {
                    let Some(rest) = record.name.strip_prefix(&*prefix) else { break 'seek };
                    if rest.is_empty() {
                        continue;
                    }
                    match rest.iter().position(|b| *b == b'/') {
                        None => names.extend(Name::new(rest).ok()),
                        // Inside a child: jump behind all of it ('0' follows '/').
                        Some(slash) => {
                            from = [&prefix, &rest[..slash], b"0"].concat();
                            continue 'seek;
                        }
                    }
                }
                break;
            }
            names
        })
    }

    fn failed(&mut self, dir: &RelPath, name: &Name, path: &RelPath, e: &fsx::Error) -> Result<Next, ScanError> {
        if is_no_directory(e) {
            // It changed its kind or went between two looks; nothing is known of it now.
            self.again.insert(dir, name, Hint::LISTED);
            self.pass_over(path);
        } else {
            self.problem(path, e);
            self.put_unknown(path)?;
        }
        Ok(Next::Known)
    }

    fn problem(&mut self, path: &RelPath, e: &fsx::Error) {
        let why = e.to_string();
        // It is tried again and again; once is enough for the log.
        if self.problems.get(path) != Some(&why) {
            tracing::warn!(%path, error = %e, "not shared");
        }
        self.problems.insert(path.clone(), why);
    }

    /// A directory that could not be opened or listed: what is in it stays as it is known.
    fn not_listed(&mut self, dir: &RelPath, e: &fsx::Error) -> Result<(), ScanError> {
        self.not_reached(dir, e);
        if !dir.is_root() && !self.board.complete() && is_dir(self.known(dir).as_ref()) {
            // What the index has of it may be a part, or older than what clients hold, so it is no longer told.
            self.became_something_else(dir);
            let name = Key::copy_from_slice(dir.as_bytes());
            let value = Bytes::from(Entry::Unknown.to_bytes());
            self.round.insert(name.clone(), Write::Put { name, value, aside: Bytes::new() });
            return Ok(());
        }
        self.put_unknown(dir)
    }

    /// A directory that could not be got at, perhaps because of one above it.
    fn not_reached(&mut self, dir: &RelPath, e: &fsx::Error) {
        self.problem(dir, e);
        self.unlisted.insert(dir.clone());
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

/// Whether something else stands there, or nothing.
fn is_no_directory(e: &fsx::Error) -> bool {
    e.is_missing() || matches!(e.errno, rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR)
}

/// The root is pinned by its file system's own id, which stays when devices are numbered anew at a boot.
fn root_facts(root: &Dir, stat: &Stat) -> Result<Facts, fsx::Error> {
    Ok(Facts::of(&Stat { dev: root.file_system_id()?, ..*stat }))
}

/// A directory's facts; where something is mounted it is pinned as the root is.
fn dir_facts(dir: &Dir, stat: &Stat) -> Result<Facts, fsx::Error> {
    if stat.mount_point { root_facts(dir, stat) } else { Ok(Facts::of(stat)) }
}

/// Device and inode, by which our own files are known under whatever name.
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn is_dir(record: Option<&Record>) -> bool {
    record.and_then(entry_of).is_some_and(|entry| entry.kind() == Some(Kind::Dir))
}

fn entry_of(record: &Record) -> Option<Entry> {
    Entry::decode(record.value.as_ref()?).ok()
}

fn content_of(value: &[u8]) -> Option<([u8; 32], u64)> {
    Entry::decode(value).ok()?.content().map(|(id, size)| (id.0, size))
}
