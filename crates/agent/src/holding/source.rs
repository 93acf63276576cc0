//! What the engine asks of a [`Holding`]: what should stand where, whether what was found is that, and its content.

use super::Holding;
use crate::holding::{Arrived, now_ns};
use crate::placed::Placed;
use bytes::Bytes;
use mirror::source::{Look, Same, Source, Supply, Want, WantFile, WantLink};
use mirror::{Problem, plan};
use std::collections::HashSet;
use std::fs::File;
use tree::hash::Hashed;
use tree::{ContentId, Dir, Entry, Name, RelPath, Stat, hash_file};

/// What an ancestor is that no entry was sent for yet; its own entry is on its way.
const IMPLIED_DIR: Entry = Entry::Dir { mode: 0o755, mtime_ns: 0 };

/// What [`Source::check_pin`] says before the first `current`; never shown to anybody.
pub(crate) const TOO_EARLY: &str = "the hub has not said yet that its list is complete";

impl Source for Holding {
    fn list(&mut self, dir: &RelPath) -> Result<Vec<(Name, Want)>, Problem> {
        if self.unknown_above(dir).is_some() {
            return Err(Problem::SourceUnknown);
        }
        if !self.view.is_tree() {
            return Ok(self.list_flat(dir));
        }
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
        if self.unknown_above(path).is_some() {
            return Err(Problem::SourceUnknown);
        }
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
        let known = self.known(path.as_bytes());
        let stood = known.as_ref().and_then(Placed::content).is_some_and(|content| Some(content) == want.content);
        let same = self.compare(known, path, want, found, (dest, name), look)?;
        if stood && same != Same::Same {
            self.edits.changed(path.as_bytes());
        }
        Ok(same)
    }

    fn content(&mut self, path: &RelPath, want: &WantFile) -> Supply {
        let Some(content) = want.content else {
            return Supply::Problem(Problem::Source("the hub sent a file without a content".into()));
        };
        match self.awaiting.take(content) {
            Some(Arrived::Bytes(bytes, _)) => return Supply::Bytes(bytes),
            Some(Arrived::Unnamed(file)) => return Supply::Staged(file),
            Some(Arrived::Copy(file, before)) => return Supply::File { file, before },
            None => {}
        }
        if want.size_bytes == 0 {
            return Supply::Bytes(Bytes::new());
        }
        if let Some(bytes) = self.held(path.as_bytes()).and_then(|held| self.view.content(&held.value)) {
            return Supply::Bytes(bytes);
        }
        if let Some(supply) = self.local(content) {
            return supply;
        }
        if self.known(path.as_bytes()).is_some_and(|placed| placed.content() == Some(content)) {
            // It stood here, and is gone.
            self.edits.changed(path.as_bytes());
        }
        let seq = self.held(path.as_bytes()).map_or(0, |held| held.seq);
        self.awaiting.wait_for(path, seq, content, want.size_bytes);
        Supply::Pending
    }

    fn check_pin(&mut self) -> Result<(), Problem> {
        if !self.may_delete {
            self.deletes_put_off = true;
            return Err(Problem::Source(TOO_EARLY.into()));
        }
        self.check_place()
    }

    fn kept(&mut self, path: &RelPath, want: &Want, stat: &Stat) {
        self.read_back(path, want, stat);
    }

    fn placed(&mut self, path: &RelPath, want: &Want, stat: &Stat) {
        if let (Want::File(_), Some(seq)) = (want, self.held(path.as_bytes()).map(|held| held.seq)) {
            self.placed_low = Some(self.placed_low.map_or(seq, |low| low.min(seq)));
        }
        self.read_back(path, want, stat);
    }

    fn removed(&mut self, path: &RelPath) {
        let name = board::Name::copy_from_slice(path.as_bytes());
        let below = [path.as_bytes(), b"/"].concat();
        let mut gone: Vec<board::Name> = vec![name.clone()];
        if self.view.is_tree() {
            let held = self.replica.iter_from(&below).take_while(|(n, _)| n.starts_with(&below));
            gone.extend(held.map(|(n, _)| n.clone()));
            let from = board::Name::from(below.clone());
            gone.extend(self.leaving.range(from..).take_while(|(n, _)| n.starts_with(&below)).map(|(n, _)| n.clone()));
        }
        for name in gone {
            if self.leaving.contains_key(&name) {
                self.edits.left(&name);
            }
            self.forget(&name);
        }
        if self.held(&name).is_none() {
            self.problems.remove(&name);
        }
    }
}

impl Holding {
    /// Whether what was found is what is wanted; a content that is not known is read.
    fn compare(
        &mut self,
        known: Option<Placed>,
        path: &RelPath,
        want: &WantFile,
        found: &Stat,
        (dest, name): (&Dir, &Name),
        look: Look,
    ) -> Result<Same, Problem> {
        let trusted =
            |placed: &Placed| placed.is(found) && !((look == Look::Content || self.distrust_racy) && placed.is_racy());
        let content = match known.filter(trusted).and_then(|placed| placed.content()) {
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

    /// Whether the path of the copy still leads to it.
    ///
    /// # Errors
    /// When it leads elsewhere or nowhere.
    pub(crate) fn check_place(&self) -> Result<(), Problem> {
        let now = Dir::open_root(&self.dest_path).and_then(|dir| Ok((dir.file_system_id()?, dir.stat_self()?)));
        let (file_system, stat) = match &now {
            Ok((file_system, stat)) => (*file_system, Some(stat)),
            Err(_) => (0, None),
        };
        let path = tree::path::escape(self.dest_path.as_os_str().as_encoded_bytes());
        Ok(self.pin.check_root(file_system, stat, &path)?)
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
        let held = self.held(path.as_bytes());
        let entry = held.and_then(|held| self.view.entry(&held.value));
        if matches!(entry, Some(Entry::Dir { .. } | Entry::Unknown)) {
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

    /// Everything that should stand in the root, where nothing stands below: of any other directory, nothing.
    fn list_flat(&self, dir: &RelPath) -> Vec<(Name, Want)> {
        if !dir.is_root() {
            return Vec::new();
        }
        let left_out = || Problem::Source("the hub sent what is no value".into());
        let want = |value| self.view.entry(value).map_or_else(|| Want::Unknown(left_out()), |entry| Want::from(&entry));
        let held = self.replica.iter_from(b"");
        let named = |name| Name::new(&self.view.key(name)[..]).ok();
        let mut children: Vec<(Name, Want)> =
            held.filter_map(|(name, held)| Some((named(name)?, want(&held.value)))).collect();
        // Escaped, the names are in another order.
        children.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        children
    }

    fn has_children(&self, path: &RelPath) -> bool {
        if !self.view.is_tree() {
            return false;
        }
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
        self.awaiting.stop_waiting(&name);
        if let Some(placed) = self.known(&name).filter(|placed| is_wanted(&placed.entry, want)) {
            if placed.is(stat) {
                return;
            }
            self.edits.changed(&name);
        }
        let entry = match want {
            Want::Dir(_) => Entry::Dir { mode: stat.kept_mode(), mtime_ns: stat.mtime_ns },
            Want::Link(WantLink { target, .. }) => Entry::Link { mtime_ns: stat.mtime_ns, target: target.clone() },
            Want::File(WantFile { content: Some(content), .. }) => Entry::File {
                mode: stat.kept_mode(),
                mtime_ns: stat.mtime_ns,
                size_bytes: stat.size_bytes,
                content: *content,
            },
            Want::File(_) | Want::Node(_) | Want::Unknown(_) => return,
        };
        self.note(&name, &Placed::new(entry, stat, now_ns()));
    }
}

fn is_wanted(entry: &Entry, want: &Want) -> bool {
    match (entry, want) {
        (Entry::Dir { .. }, Want::Dir(_)) => true,
        (Entry::File { content, .. }, Want::File(want)) => Some(*content) == want.content,
        (Entry::Link { target, .. }, Want::Link(WantLink { target: wanted, .. })) => target == wanted,
        _ => false,
    }
}
