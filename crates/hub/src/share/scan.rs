//! From the disk to the board: looks where it is told to and commits what differs from the index.
//!
//! It promises that nothing is put that was read while it changed, that nothing is removed because something could
//! not be read, and that a removal that only a listing found passes the guard. It never watches and never waits: when
//! to look is its caller's business.

use super::contents::Contents;
use super::facts::Facts;
use super::guard::{Held, Removals};
use super::roots::Roots;
use board::{Board, BoardError, Name as Key, Record, Write, Writer};
use bytes::Bytes;
use mirror::dirty::{Dirty, Hint};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tree::at::{Dir, ListBuffer, Stat, is_temp_name};
use tree::fsx;
use tree::hash::{Hashed, hash_file};
use tree::listing::{Found, Listing};
use tree::{ContentId, Entry, Kind, Name, RelPath, RootHash};
use wire::limits::INLINE_BYTES_MAX;

/// Entries of one commit: small enough that the first clients get something early, large enough to cost nothing.
const COMMIT_ENTRIES: usize = 512;
/// A file that changed under this many readings in a row is copied once, and the copy is published.
const READS_MAX: u32 = 8;

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
    /// What is ours and never an entry: the hub's data directory, its log.
    ours: Vec<(u64, u64)>,
    buffer: Vec<u8>,
    list: ListBuffer,
    round: BTreeMap<Key, Write>,
    removals: Removals,
    problems: BTreeMap<RelPath, String>,
    restless: BTreeMap<RelPath, u32>,
    again: Dirty,
    is_unsettled: Box<dyn FnMut(&RelPath) -> bool + Send>,
}

/// What is counted of a share while it is scanned.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) bytes: AtomicU64,
    pub(crate) looked_at: AtomicU64,
}

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
        ours: Vec<(u64, u64)>,
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
            ours,
            buffer: Vec::new(),
            list: ListBuffer::default(),
            round: BTreeMap::new(),
            removals: Removals::default(),
            problems: BTreeMap::new(),
            restless: BTreeMap::new(),
            again: Dirty::new(),
            is_unsettled: Box::new(|_| false),
        }
    }

    /// Looks at every place of `dirty` and commits what differs. Names for which `is_unsettled` says so are left alone:
    /// their own event brings them back.
    pub(crate) fn look(
        &mut self,
        dirty: &Dirty,
        is_unsettled: impl FnMut(&RelPath) -> bool + Send + 'static,
        allow_deletes: bool,
    ) -> Result<Looked, ScanError> {
        self.is_unsettled = Box::new(is_unsettled);
        self.removals.accept_root(allow_deletes);
        for (dir, look) in dirty.iter() {
            let recursive = look.all.is_some_and(|all| all.recursive);
            match self.root.walk(dir) {
                Ok(held) => {
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
                Err(e) if e.is_missing() || e.errno == rustix::io::Errno::NOTDIR => {
                    if let Some((parent, name)) = dir.split()
                        && let Ok(held) = self.root.walk(&parent)
                    {
                        let stat = held.look(&name);
                        self.look_at(&held, &parent, &name, stat, Hint::LISTED, dirty)?;
                    }
                }
                Err(e) => self.problem(dir, &e),
            }
        }
        if dirty.root_entry() {
            let root = self.root.walk(&RelPath::root())?;
            self.look_at_dir_itself(&root, &RelPath::root())?;
        }
        let held = self.settle_removals(allow_deletes)?;
        self.commit()?;
        Ok(Looked { again: self.again.take(), held })
    }

    /// Names that could not be read or shared, and why.
    pub(crate) fn problems(&self) -> &BTreeMap<RelPath, String> {
        &self.problems
    }

    /// The index holds all there is: clients may be told so.
    pub(crate) fn set_complete(&mut self) -> Result<(), ScanError> {
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

    fn look_at_all(&mut self, held: &Dir, dir: &RelPath, dirty: &Dirty, recursive: bool) -> Result<(), ScanError> {
        let listing = match Listing::read(held, &mut self.list) {
            Ok(listing) => listing,
            Err(e) => {
                self.problem(dir, &e);
                return Ok(());
            }
        };
        self.problems.remove(dir);
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
            Err(e) if e.is_missing() || e.errno == rustix::io::Errno::NOTDIR => {
                self.again.insert(dir, name, Hint::LISTED);
                Ok(())
            }
            Err(e) => {
                self.problem(&path, &e);
                Ok(())
            }
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
        if (self.is_unsettled)(&path) {
            return Ok(Next::Known);
        }
        let stat = match stat {
            Ok(Some(stat)) if self.ours.contains(&stat.id()) => {
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
                return Ok(Next::Known);
            }
        };
        let record = self.known(&path);
        let was_dir = record.as_ref().and_then(entry_of).is_some_and(|e| e.kind() == Kind::Dir);
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
            self.gone_below(&path, true);
        }
        let facts = Facts::of(&stat);
        if stat.kind == Kind::Dir && was_dir && self.lost_its_mount(record.as_ref(), &stat) {
            self.problems
                .insert(path.clone(), "something was mounted here and is no more; nothing below is deleted".into());
            self.removals.shield(path);
            return Ok(Next::Known);
        }
        // Another directory under the name of the one before has nothing to do with what the index says is below. Inode
        // numbers are used again, so a reported removal counts as well.
        let held_facts = record.as_ref().and_then(|r| Facts::from_bytes(&r.aside));
        let same_dir = was_dir && held_facts.is_none_or(|f| f.same_place(&facts)) && !dirty.removed_by_event(&path);
        self.put(path, &entry, facts, record)?;
        if stat.kind == Kind::Dir && !same_dir {
            // New to the index: all of it is.
            self.descend(held, dir, name, dirty)?;
            return Ok(Next::Done);
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
        let (stable, restless) = match hashed {
            Ok(Hashed::Stable(stable)) => (stable, false),
            Ok(Hashed::Changed) => {
                let reads = self.restless.entry(path.clone()).or_default();
                *reads += 1;
                self.again.insert(dir, name, Hint { content: true, ..hint });
                if *reads < READS_MAX {
                    return Ok(Next::Known);
                }
                match self.contents.spool(&mut file, &before, &full) {
                    Ok(Some(copy)) => (copy, true),
                    Ok(None) => return Ok(Next::Known),
                    Err(e) => return self.failed(dir, name, path, &e),
                }
            }
            Err(e) => return self.failed(dir, name, path, &e),
        };
        self.restless.remove(path);
        let record = self.known(path);
        if record.as_ref().and_then(entry_of).is_some_and(|e| e.kind() == Kind::Dir) {
            self.gone_below(path, true);
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
        let facts = if dir.is_root() { self.root_facts(&stat)? } else { Facts::of(&stat) };
        if dir.is_root() {
            // The pin: while it differs the index keeps the old one, so that a restart does not forget it.
            let pinned = record.as_ref().and_then(|r| Facts::from_bytes(&r.aside));
            if pinned.is_some_and(|p| !p.same_place(&facts)) && !self.removals.root_is_accepted() {
                self.removals.hold_all("the shared directory is not the one that was shared before");
                return Ok(());
            }
        } else if record.is_none() {
            // Not an entry yet: its parent's listing will say what it is.
            return Ok(());
        }
        let entry = Entry::Dir { mode: stat.kept_mode(), mtime_ns: stat.mtime_ns };
        self.put(dir.clone(), &entry, facts, record)
    }

    /// The root is pinned by its file system's own id, which stays when devices are numbered anew at a boot.
    fn root_facts(&self, stat: &Stat) -> Result<Facts, ScanError> {
        Ok(Facts::of(&Stat { dev: self.root.file_system_id()?, ..*stat }))
    }

    /// Whether something was mounted on this directory that is not mounted now.
    fn lost_its_mount(&self, record: Option<&Record>, now: &Stat) -> bool {
        let was = record.and_then(|r| Facts::from_bytes(&r.aside)).map(|f| f.dev());
        let Ok(root) = self.root.stat_self() else { return false };
        was.is_some_and(|was| was != now.dev) && now.dev == root.dev && !self.removals.root_is_accepted()
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
        self.problems.remove(&path);
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
        if self.round.len() >= COMMIT_ENTRIES { self.commit() } else { Ok(()) }
    }

    /// Marks an entry, and all below it, for removal.
    fn gone(&mut self, path: &RelPath, by_event: bool) {
        self.problems.remove(path);
        self.restless.remove(path);
        if self.known(path).is_some_and(|r| r.value.is_some()) {
            self.removals.add(path.clone(), by_event);
        }
        self.gone_below(path, by_event);
    }

    fn gone_below(&mut self, path: &RelPath, by_event: bool) {
        let mut prefix = path.as_bytes().to_vec();
        if !path.is_root() {
            prefix.push(b'/');
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
        if e.is_missing() || matches!(e.errno, rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) {
            // It changed its kind or went between two looks; nothing is known of it now.
            self.again.insert(dir, name, Hint::LISTED);
        } else {
            self.problem(path, e);
        }
        Ok(Next::Known)
    }

    fn problem(&mut self, path: &RelPath, e: &fsx::Error) {
        tracing::warn!(%path, error = %e, "not shared");
        self.problems.insert(path.clone(), e.to_string());
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

fn entry_of(record: &Record) -> Option<Entry> {
    Entry::decode(record.value.as_ref()?).ok()
}

fn content_of(value: &[u8]) -> Option<([u8; 32], u64)> {
    Entry::decode(value).ok()?.content().map(|(id, size)| (id.0, size))
}
