//! One share as the agent holds it: what the hub says should be (the replica), what stands on the disk (as it was read
//! back), and what lies between the two: contents on their way, and problems.
//!
//! It is the [`Source`] of the engine. It decides nothing about when to look; [`crate::keeper`] does.
//!
//! What comes from the hub is not trusted: a name that is no path, or an entry that could not stand on a disk, becomes
//! a problem of its own and touches nothing.

use crate::placed::Placed;
use board::{Batch, Change, Replica, ReplicaError};
use bytes::Bytes;
use mirror::source::{Look, Same, Source, Supply, Want, WantFile};
use mirror::{Dirty, Problem, dirty, plan};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use tree::at::is_temp_name;
use tree::hash::Hashed;
use tree::{ContentId, Dir, Entry, Name, RelPath, RootHash, Stat, hash_file};

/// How many places of one content are remembered: enough to find it, few enough that a thousand empty files cost
/// nothing.
const PLACES_MAX: usize = 4;
/// By when a watch has told of every change: the longest that a change is held back while it settles, and as much again.
const CONFIRM_NS: i64 = 2_000_000_000;
/// What an ancestor is that no entry was sent for yet; its own entry is on its way.
const IMPLIED_DIR: Entry = Entry::Dir { mode: 0o755, mtime_ns: 0 };

/// A content that came from the hub, verified.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// All of it; what is counted against the limit of contents under way goes back when it is dropped.
    Bytes(Bytes, Option<tokio::sync::OwnedSemaphorePermit>),
    /// A file in the destination's file system that has no name yet.
    Unnamed(File),
    /// A file to copy from, where the file system has no files without a name.
    Copy(File, Stat),
}

/// A content to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its id.
    pub(crate) content: ContentId,
    /// Its length in bytes.
    pub(crate) size_bytes: u64,
    /// Where it is to stand: an older version there may hold most of it.
    pub(crate) path: RelPath,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    content: ContentId,
    seq: u64,
}

#[derive(Debug, Default)]
struct Awaited {
    names: Vec<board::Name>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Holding {
    replica: Replica,
    dest: Dir,
    dest_path: PathBuf,
    pin: mirror::guard::Pin,
    /// What is known of names that are no longer wanted and not gone yet.
    leaving: BTreeMap<board::Name, Placed>,
    /// Some of the names where a content stands.
    places: HashMap<ContentId, Vec<board::Name>>,
    waiting: HashMap<board::Name, Waiting>,
    awaited: HashMap<ContentId, Awaited>,
    inline: HashMap<ContentId, Bytes>,
    arrived: HashMap<ContentId, Arrived>,
    asks: Vec<Wanted>,
    unwanted: Vec<ContentId>,
    problems: BTreeMap<board::Name, String>,
    /// Sum over what is known of wanted names; of no use while `sum_lost`.
    sum: RootHash,
    sum_lost: bool,
    /// Read back lately, so that a change right after may not show in the time stamps.
    fresh: VecDeque<(board::Name, i64)>,
    /// Until the first `current` nothing is deleted.
    may_delete: bool,
    deletes_put_off: bool,
    /// A racy identity counts for nothing: there was no watch to tell of a change since.
    distrust_racy: bool,
    hash_buffer: Vec<u8>,
}

impl Holding {
    /// A share whose replica was loaded, and its destination.
    ///
    /// # Errors
    /// When the destination does not say what it is.
    pub(crate) fn new(replica: Replica, dest: Dir, dest_path: PathBuf) -> Result<Holding, tree::fsx::Error> {
        let pin = mirror::guard::Pin::new(dest.file_system_id()?, &dest.stat_self()?);
        let mut holding = Holding {
            replica,
            dest,
            dest_path,
            pin,
            leaving: BTreeMap::new(),
            places: HashMap::new(),
            waiting: HashMap::new(),
            awaited: HashMap::new(),
            inline: HashMap::new(),
            arrived: HashMap::new(),
            asks: Vec::new(),
            unwanted: Vec::new(),
            problems: BTreeMap::new(),
            sum: RootHash::default(),
            sum_lost: true,
            fresh: VecDeque::new(),
            may_delete: false,
            deletes_put_off: false,
            distrust_racy: true,
            hash_buffer: Vec::new(),
        };
        let mut known = Vec::new();
        let mut refused = Vec::new();
        for (name, held) in holding.replica.iter_from(b"") {
            known.extend(Placed::decode(&held.aside).and_then(|p| p.content()).map(|content| (content, name.clone())));
            refused.extend(holding.refuses(name, &held.value).map(|why| (name.clone(), why)));
        }
        for (content, name) in known {
            holding.remember_place(content, name);
        }
        holding.problems.extend(refused);
        Ok(holding)
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    pub(crate) fn replica_mut(&mut self) -> &mut Replica {
        &mut self.replica
    }

    /// Forgets what is known of the disk of every entry above `seq`: it may not have survived.
    pub(crate) fn distrust_above(&mut self, seq: u64) {
        let names: Vec<_> = self
            .replica
            .iter_from(b"")
            .filter(|(_, held)| held.seq > seq || held.seq == 0)
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.forget(&name);
        }
        self.sum_lost = true;
    }

    /// From here on a watch tells of changes, so identities are trusted however young they are.
    pub(crate) fn watched(&mut self) {
        self.distrust_racy = false;
    }

    /// From here on what is not wanted is deleted, or no longer.
    pub(crate) fn allow_deletes(&mut self, allow: bool) {
        self.may_delete = allow;
    }

    /// Whether something was not deleted because it was too early; asked once.
    pub(crate) fn take_put_off(&mut self) -> bool {
        std::mem::take(&mut self.deletes_put_off)
    }

    /// Takes a batch, and marks in `dirty` where to look for it.
    ///
    /// # Errors
    /// When it does not follow on what was seen. Nothing has changed.
    pub(crate) fn take(
        &mut self,
        batch: &Batch,
        inline: Vec<(ContentId, Bytes)>,
        dirty: &mut Dirty,
    ) -> Result<(), ReplicaError> {
        // What is known of a name goes from the replica with its value, so it is looked up before.
        let mut going: HashMap<board::Name, Option<Placed>> = HashMap::new();
        for record in batch.records.iter().filter(|record| record.value.is_none()) {
            going.insert(record.name.clone(), self.known(&record.name));
        }
        let changes = self.replica.apply(batch)?;
        // Not verified here: the engine gives a name to nothing that has not the hash that is wanted.
        self.inline.extend(inline);
        for change in changes {
            self.take_change(&change, going.remove(&change.name).flatten(), dirty);
        }
        Ok(())
    }

    fn take_change(&mut self, change: &Change, known: Option<Placed>, dirty: &mut Dirty) {
        let Change { name, old, new, dropped } = change;
        self.stop_waiting(name);
        self.problems.remove(name);
        match new {
            None => {
                if *dropped {
                    self.sum_lost = true;
                } else if let Some(placed) = known {
                    self.sum_remove(name, &placed);
                    self.leaving.insert(name.clone(), placed);
                }
            }
            Some(value) => {
                if let Some(why) = self.refuses(name, value) {
                    self.problems.insert(name.clone(), why);
                    return;
                }
                if old.is_none()
                    && let Some(placed) = self.leaving.remove(name)
                {
                    self.note(name, &placed);
                }
            }
        }
        let Ok(path) = RelPath::new(&name[..]) else { return };
        match path.split() {
            None => dirty.insert_root_entry(),
            Some((dir, name)) => {
                dirty.insert(&dir, &name, dirty::Hint { content: false, by_event: true });
                if new.is_none() && !dropped {
                    dirty.insert_removed(&dir, &name);
                }
            }
        }
    }

    /// Why an entry of the hub's cannot be: a fault there, told and left alone.
    fn refuses(&self, name: &board::Name, value: &Bytes) -> Option<String> {
        let path = match RelPath::new(&name[..]) {
            Ok(path) => path,
            Err(why) => return Some(format!("the hub sent a name that is no path ({why}); it was left out")),
        };
        if path.components().any(|part| Name::new(part).is_ok_and(|name| is_temp_name(&name))) {
            return Some("the hub sent a name that is reserved for temporaries; it was left out".into());
        }
        match Entry::decode(value) {
            Err(why) => Some(format!("the hub sent {why}; it was left out")),
            Ok(entry) if path.is_root() && !matches!(entry, Entry::Dir { .. }) => {
                Some("the hub says that the share itself is no directory; that was left out".into())
            }
            Ok(_) => None,
        }
    }

    /// A content came: where it is waited for is to be looked at. `false` when nobody waits any more.
    pub(crate) fn arrive(&mut self, content: ContentId, arrived: Arrived, dirty: &mut Dirty) -> bool {
        if !self.mark_waiting(content, dirty) {
            return false;
        }
        self.arrived.insert(content, arrived);
        true
    }

    /// Marks where `content` is waited for.
    fn mark_waiting(&self, content: ContentId, dirty: &mut Dirty) -> bool {
        let Some(awaited) = self.awaited.get(&content) else { return false };
        for (dir, name) in awaited.names.iter().filter_map(|name| RelPath::new(&name[..]).ok()?.split()) {
            dirty.insert(&dir, &name, dirty::Hint { content: false, by_event: true });
        }
        true
    }

    /// The hub cannot give a content (now): whoever still waits is marked in `later`, and asks again then.
    pub(crate) fn gone(&mut self, content: ContentId, later: &mut Dirty) {
        self.mark_waiting(content, later);
        self.awaited.remove(&content);
    }

    /// After a round: what is to be fetched, what nobody needs any more, and in `dirty` where to look once more because
    /// a content that was waited for has got a place by now.
    pub(crate) fn after_round(&mut self, dirty: &mut Dirty) -> (Vec<Wanted>, Vec<ContentId>) {
        for content in std::mem::take(&mut self.arrived).into_keys() {
            if self.places.contains_key(&content) {
                self.mark_waiting(content, dirty);
            } else {
                // It was here and was not used: a problem kept it out, and the retry asks again.
                self.awaited.remove(&content);
            }
        }
        self.inline.clear();
        (std::mem::take(&mut self.asks), std::mem::take(&mut self.unwanted))
    }

    /// How many names wait for their content.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Up to which seq everything is in place, or is a problem.
    pub(crate) fn applied_seq(&self) -> u64 {
        let lowest = self.waiting.values().map(|waiting| waiting.seq).min();
        lowest.map_or(self.replica.head(), |seq| self.replica.head().min(seq.saturating_sub(1)))
    }

    pub(crate) fn problems(&self) -> &BTreeMap<board::Name, String> {
        &self.problems
    }

    pub(crate) fn fail(&mut self, path: &RelPath, why: String) {
        let name = board::Name::copy_from_slice(path.as_bytes());
        self.stop_waiting(&name);
        self.problems.insert(name, why);
    }

    /// Before everything that failed is tried again: what fails again is told again. What the hub said wrongly stays.
    pub(crate) fn forget_problems(&mut self) {
        let problems = std::mem::take(&mut self.problems);
        for (name, why) in problems {
            let refused = self.replica.get(&name).is_some_and(|held| self.refuses(&name, &held.value).is_some());
            if refused {
                self.problems.insert(name, why);
            }
        }
    }

    /// The root over what was read back, problems counted as if they were done.
    pub(crate) fn root(&mut self) -> RootHash {
        if self.sum_lost {
            self.sum = RootHash::default();
            for (name, held) in self.replica.iter_from(b"") {
                if let (Some(placed), Ok(path)) = (Placed::decode(&held.aside), RelPath::new(&name[..])) {
                    self.sum.add(&path, &placed.entry.to_bytes());
                }
            }
            self.sum_lost = false;
        }
        let mut root = self.sum;
        for name in self.problems.keys() {
            let (Some(held), Ok(path)) = (self.replica.get(name), RelPath::new(&name[..])) else { continue };
            if let Some(placed) = Placed::decode(&held.aside) {
                root.remove(&path, &placed.entry.to_bytes());
            }
            root.add(&path, &held.value);
        }
        root
    }

    /// Has the next [`Holding::root`] begin from nothing.
    pub(crate) fn distrust_root(&mut self) {
        self.sum_lost = true;
    }

    /// What was read back more than [`CONFIRM_NS`] ago has not changed since: a watch would have told by now.
    pub(crate) fn confirm_fresh(&mut self, now_ns: i64) {
        while self.fresh.front().is_some_and(|(_, at_ns)| now_ns.saturating_sub(*at_ns) > CONFIRM_NS) {
            let Some((name, _)) = self.fresh.pop_front() else { return };
            let Some(mut placed) = self.known(&name) else { continue };
            if placed.is_racy() {
                placed.confirm(now_ns);
                self.replica.set_aside(&name, placed.encode().into());
            }
        }
    }

    /// Whether something read back lately is not confirmed yet.
    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    fn known(&self, name: &[u8]) -> Option<Placed> {
        match self.replica.get(name) {
            Some(held) => Placed::decode(&held.aside),
            None => self.leaving.get(name).cloned(),
        }
    }

    /// Notes what was read back at a name.
    fn note(&mut self, name: &board::Name, placed: &Placed) {
        match self.known(name) {
            Some(before) if before == *placed => return,
            Some(before) => {
                self.sum_remove(name, &before);
                if before.content() != placed.content()
                    && let Some(content) = before.content()
                {
                    self.forget_place(content, name);
                }
            }
            None => {}
        }
        if !self.replica.set_aside(name, placed.encode().into()) {
            return;
        }
        if let Ok(path) = RelPath::new(&name[..]) {
            self.sum.add(&path, &placed.entry.to_bytes());
        }
        if let Some(content) = placed.content() {
            self.remember_place(content, name.clone());
            if placed.is_racy() {
                self.fresh.push_back((name.clone(), now_ns()));
            }
        }
    }

    /// Nothing is known of a name any more.
    fn forget(&mut self, name: &board::Name) {
        let Some(placed) = self.known(name) else { return };
        if let Some(content) = placed.content() {
            self.forget_place(content, name);
        }
        if self.replica.set_aside(name, Bytes::new()) {
            self.sum_remove(name, &placed);
        }
        self.leaving.remove(name);
    }

    fn sum_remove(&mut self, name: &[u8], placed: &Placed) {
        if let Ok(path) = RelPath::new(name) {
            self.sum.remove(&path, &placed.entry.to_bytes());
        }
    }

    fn remember_place(&mut self, content: ContentId, name: board::Name) {
        let places = self.places.entry(content).or_default();
        if places.len() < PLACES_MAX && !places.contains(&name) {
            places.push(name);
        }
    }

    fn forget_place(&mut self, content: ContentId, name: &board::Name) {
        if let Some(places) = self.places.get_mut(&content) {
            places.retain(|place| place != name);
            if places.is_empty() {
                self.places.remove(&content);
            }
        }
    }

    fn wait_for(&mut self, path: &RelPath, content: ContentId, size_bytes: u64) {
        let name = board::Name::copy_from_slice(path.as_bytes());
        let seq = self.replica.get(&name).map_or(0, |held| held.seq);
        if self.waiting.get(&name).is_some_and(|waiting| waiting.content != content) {
            self.stop_waiting(&name);
        }
        self.waiting.insert(name.clone(), Waiting { content, seq });
        let awaited = self.awaited.entry(content).or_insert_with(|| {
            self.asks.push(Wanted { content, size_bytes, path: path.clone() });
            Awaited::default()
        });
        if !awaited.names.contains(&name) {
            awaited.names.push(name);
        }
    }

    fn stop_waiting(&mut self, name: &board::Name) {
        let Some(Waiting { content, .. }) = self.waiting.remove(name) else { return };
        if let Some(awaited) = self.awaited.get_mut(&content) {
            awaited.names.retain(|waiting| waiting != name);
            if awaited.names.is_empty() {
                self.awaited.remove(&content);
                self.unwanted.push(content);
            }
        }
    }

    /// Something in the destination that already has the content.
    fn local(&mut self, content: ContentId) -> Option<Supply> {
        let places = self.places.get(&content)?.clone();
        for name in places {
            if let Some((file, before)) = self.open_place(&name, content) {
                return Some(Supply::File { file, before });
            }
            self.forget_place(content, &name);
        }
        None
    }

    fn open_place(&self, name: &board::Name, content: ContentId) -> Option<(File, Stat)> {
        let placed = self.known(name).filter(|placed| placed.content() == Some(content))?;
        let (dir, name) = RelPath::new(&name[..]).ok()?.split()?;
        let (file, stat) = self.dest.walk(&dir).ok()?.open_file(&name).ok()?;
        placed.is(&stat).then_some((file, stat))
    }

    /// What should stand at a name. An entry implies that its ancestors are directories.
    fn wanted(&self, path: &RelPath) -> Result<Option<Entry>, Problem> {
        let held = self.replica.get(path.as_bytes());
        let entry = held.and_then(|held| Entry::decode(&held.value).ok());
        if matches!(entry, Some(Entry::Dir { .. })) {
            return Ok(entry);
        }
        if !path.is_root() && self.has_children(path) {
            return Ok(Some(IMPLIED_DIR));
        }
        if held.is_some() && entry.is_none() {
            return Err(Problem::Source("the hub sent an entry of an unknown form".into()));
        }
        Ok(entry)
    }

    fn has_children(&self, path: &RelPath) -> bool {
        let below = [path.as_bytes(), b"/"].concat();
        self.replica
            .iter_from(&below)
            .next()
            .is_some_and(|(name, _)| name.starts_with(&below) && RelPath::new(&name[..]).is_ok())
    }

    /// Turns what was read back into what is noted.
    fn read_back(&mut self, path: &RelPath, want: &Want, stat: &Stat) {
        let name = board::Name::copy_from_slice(path.as_bytes());
        self.problems.remove(&name);
        self.stop_waiting(&name);
        let known = self.known(&name);
        if known.is_some_and(|placed| placed.is(stat) && is_wanted(&placed.entry, want)) {
            return;
        }
        let entry = match want {
            Want::Dir { .. } => Entry::Dir { mode: stat.kept_mode(), mtime_ns: stat.mtime_ns },
            Want::Link { target, .. } => Entry::Link { mtime_ns: stat.mtime_ns, target: target.clone() },
            Want::File(WantFile { content: Some(content), .. }) => Entry::File {
                mode: stat.kept_mode(),
                mtime_ns: stat.mtime_ns,
                size_bytes: stat.size_bytes,
                content: *content,
            },
            Want::File(_) | Want::Unknown(_) => return,
        };
        self.note(&name, &Placed::new(entry, stat, now_ns()));
    }
}

impl Source for Holding {
    fn list(&mut self, dir: &RelPath) -> Result<Vec<(Name, Want)>, Problem> {
        let prefix = if dir.is_root() { Vec::new() } else { [dir.as_bytes(), b"/"].concat() };
        let mut children: Vec<(Name, Want)> = Vec::new();
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let mut from = prefix.clone();
        // By jumps: what is below a child lies between `child/` and `child0`, the byte after the slash.
        while let Some((name, _)) = self.replica.iter_from(&from).next() {
            let Some(rest) = name.strip_prefix(&prefix[..]) else { break };
            let part = rest.split(|b| *b == b'/').next().unwrap_or_default();
            from =
                if part.len() == rest.len() { [&name[..], b"\0"].concat() } else { [&prefix[..], part, b"0"].concat() };
            if part.is_empty() || !seen.insert(part.to_vec()) {
                continue;
            }
            let Ok(child) = Name::new(part) else { continue };
            let path = dir.join(&child).map_err(|e| Problem::Path(dir.clone(), e))?;
            match self.wanted(&path) {
                Ok(Some(entry)) => children.push((child, Want::from(&entry))),
                Ok(None) => {}
                Err(problem) => children.push((child, Want::Unknown(problem))),
            }
        }
        children.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(children)
    }

    fn entry(&mut self, path: &RelPath) -> Result<Option<Want>, Problem> {
        Ok(self.wanted(path)?.as_ref().map(Want::from))
    }

    fn same(
        &mut self,
        path: &RelPath,
        want: &WantFile,
        found: &Stat,
        dest: &Dir,
        name: &Name,
        look: Look,
    ) -> Result<Same, Problem> {
        let trusted =
            |placed: &Placed| placed.is(found) && !((look == Look::Content || self.distrust_racy) && placed.is_racy());
        let known = self.known(path.as_bytes()).filter(trusted).and_then(|placed| placed.content());
        let content = match known {
            Some(content) => content,
            None if found.size_bytes != want.size_bytes => return Ok(Same::Different),
            None => {
                let taken_ns = now_ns();
                let (mut file, before) = dest.open_file(name)?;
                match hash_file(&mut file, &before, 0, &mut self.hash_buffer, &dest.path_of(name))? {
                    // Somebody is writing it: whatever it becomes, it is not what is wanted.
                    Hashed::Changed => return Ok(Same::Different),
                    Hashed::Stable(stable) => {
                        let placed = Placed::file(stable.content, &stable.stat, taken_ns);
                        self.note(&board::Name::copy_from_slice(path.as_bytes()), &placed);
                        stable.content
                    }
                }
            }
        };
        if Some(content) != want.content {
            return Ok(Same::Different);
        }
        Ok(plan::meta_same(want.mode, want.mtime_ns, found))
    }

    fn content(&mut self, path: &RelPath, want: &WantFile) -> Supply {
        let Some(content) = want.content else {
            return Supply::Problem(Problem::Source("the hub sent a file without a content".into()));
        };
        if let Some(bytes) = self.inline.get(&content) {
            return Supply::Bytes(bytes.clone());
        }
        match self.arrived.remove(&content) {
            Some(Arrived::Bytes(bytes, permit)) => {
                let supply = Supply::Bytes(bytes.clone());
                // Other names may wait for the same.
                self.arrived.insert(content, Arrived::Bytes(bytes, permit));
                return supply;
            }
            Some(Arrived::Unnamed(file)) => return Supply::Staged(file),
            Some(Arrived::Copy(file, before)) => return Supply::File { file, before },
            None => {}
        }
        if want.size_bytes == 0 {
            return Supply::Bytes(Bytes::new());
        }
        if let Some(supply) = self.local(content) {
            return supply;
        }
        self.wait_for(path, content, want.size_bytes);
        Supply::Pending
    }

    fn check_pin(&mut self) -> Result<(), Problem> {
        if !self.may_delete {
            self.deletes_put_off = true;
            return Err(Problem::Source(TOO_EARLY.into()));
        }
        let now = Dir::open_root(&self.dest_path).and_then(|dir| Ok((dir.file_system_id()?, dir.stat_self()?)));
        let (file_system, stat) = match &now {
            Ok((file_system, stat)) => (*file_system, Some(stat)),
            Err(_) => (0, None),
        };
        Ok(self.pin.check_root(
            file_system,
            stat,
            &tree::path::escape(self.dest_path.as_os_str().as_encoded_bytes()),
        )?)
    }

    fn kept(&mut self, path: &RelPath, want: &Want, stat: &Stat) {
        self.read_back(path, want, stat);
    }

    fn placed(&mut self, path: &RelPath, want: &Want, stat: &Stat) {
        self.read_back(path, want, stat);
    }

    fn removed(&mut self, path: &RelPath) {
        let name = board::Name::copy_from_slice(path.as_bytes());
        let below = [path.as_bytes(), b"/"].concat();
        let mut gone: Vec<board::Name> = vec![name.clone()];
        gone.extend(self.replica.iter_from(&below).take_while(|(n, _)| n.starts_with(&below)).map(|(n, _)| n.clone()));
        let from = board::Name::from(below.clone());
        gone.extend(self.leaving.range(from..).take_while(|(n, _)| n.starts_with(&below)).map(|(n, _)| n.clone()));
        for name in gone {
            self.forget(&name);
        }
        if self.replica.get(&name).is_none() {
            self.problems.remove(&name);
        }
    }
}

/// What [`Source::check_pin`] says before the first `current`; never shown to anybody.
pub(crate) const TOO_EARLY: &str = "the hub has not said yet that its list is complete";

fn is_wanted(entry: &Entry, want: &Want) -> bool {
    match (entry, want) {
        (Entry::Dir { .. }, Want::Dir { .. }) => true,
        (Entry::File { content, .. }, Want::File(want)) => Some(*content) == want.content,
        (Entry::Link { target, .. }, Want::Link { target: wanted, .. }) => target == wanted,
        _ => false,
    }
}

/// Now, by the clock that stamps files.
pub(crate) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}
