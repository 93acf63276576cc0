//! Directories that are new to the watch: each is watched first and listed then, a few at a time.

use std::time::Duration;

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::inotify::{self, WatchFlags};
use rustix::io::Errno;
use tree::at::is_temp_name;
use tree::{Dir, Kind, Name, RelPath};

use super::super::limits::watches_hint;
use super::super::nodes::{NodeId, ROOT};
use super::super::{News, now};
use super::Drainer;
use crate::dirty::All;
use crate::settle::Seen;

/// Most directories watched and listed between two looks at the queue.
const GROW_DIRS: usize = 64;
/// Longest time spent on them.
const GROW_TIME: Duration = Duration::from_millis(1);
/// What is asked of the kernel. Without opens, accesses and closes after reading, which say nothing new.
const MASK: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::EXCL_UNLINK);

/// A directory to watch and list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grow {
    pub(super) id: NodeId,
    pub(super) why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Asked for by the owner, who looks at all of it afterwards.
    Asked,
    /// New to the watch: all that stands there becomes due.
    New,
    /// Is it still the directory behind its watch? If not it is new.
    Probe,
    /// Its path changed with all below it: are they all the directories behind their watches? What is not is new.
    Moved,
    /// Another path turned out to lead to its watch.
    Contested,
}

impl Drainer {
    /// Has a directory watched and listed.
    pub(super) fn grow(&mut self, parent: NodeId, name: &Name, why: Why) {
        let id = self.nodes.add(parent, name);
        self.growth.push_back(Grow { id, why });
    }

    /// Watches and lists some of what waits for it.
    pub(super) fn grow_some(&mut self) {
        if self.growth.is_empty() {
            return;
        }
        let until = now() + GROW_TIME;
        for _ in 0..GROW_DIRS {
            let Some(grow) = self.growth.pop_front() else { break };
            if self.nodes.is_known(grow.id) {
                self.grew = true;
                self.watch_then_list(grow);
            }
            if now() >= until {
                break;
            }
        }
    }

    /// Watches a directory, then lists it: what is made in it from the watch on is reported, and what was made
    /// before is in the listing.
    fn watch_then_list(&mut self, Grow { id, why }: Grow) {
        let Some(path) = self.path(id) else {
            // Too deep for a path of ours; whoever lists its parent says so.
            self.remove(id);
            return;
        };
        let dir = match self.root.walk(&path) {
            Ok(dir) => dir,
            Err(e) if matches!(e.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE) => {
                if id != ROOT {
                    self.remove(id);
                }
                return;
            }
            Err(_) => return self.cannot_watch(id, &path, why),
        };
        #[cfg(test)]
        let early = self.shared.hooks.lists_first().then(|| {
            let listed = dir.list(&mut self.list_buffer);
            self.shared.hooks.between_watch_and_list();
            listed
        });
        let watch = match self.add_watch(&dir) {
            Ok(watch) => watch,
            Err(Errno::NOSPC) => {
                self.tell_used_up(&path);
                return self.cannot_watch(id, &path, why);
            }
            Err(_) => return self.cannot_watch(id, &path, why),
        };
        if let Some(rebuild) = &mut self.rebuild {
            rebuild.strays.remove(&watch);
        }
        let mut why = why;
        match self.nodes.by_watch(watch) {
            Some(other) if other == id => {
                if why == Why::Probe {
                    return;
                }
            }
            // Two paths lead to one directory, as with a bind mount, and a directory has one watch.
            Some(other) if why == Why::Contested || self.nodes.is_below(id, other) => {
                return self.cannot_watch(id, &path, why);
            }
            other => {
                if let Some(old) = self.nodes.watch(id) {
                    self.nodes.set_watch(id, None);
                    let _ = inotify::remove_watch(&self.inotify, old);
                    self.remove_below(id);
                }
                if let Some(other) = other {
                    self.remove_below(other);
                    self.growth.push_back(Grow { id: other, why: Why::Contested });
                }
                self.nodes.set_watch(id, Some(watch));
                if why == Why::Moved {
                    why = Why::New;
                }
            }
        }
        self.unwatched_changed |= self.unwatched.remove(&id);
        #[cfg(test)]
        self.shared.hooks.between_watch_and_list();
        let listed = dir.list(&mut self.list_buffer);
        #[cfg(test)]
        let listed = early.unwrap_or(listed);
        let Ok(entries) = listed else { return self.cannot_watch(id, &path, why) };
        let mut files = Vec::new();
        let mut dirs = Vec::new();
        for entry in entries {
            if is_temp_name(&entry.name) || self.shared.ignore.as_ref().is_some_and(|ignore| ignore(&path, &entry.name))
            {
                continue;
            }
            match entry.kind.or_else(|| dir.stat(&entry.name).ok().map(|stat| stat.kind)) {
                Some(Kind::Dir) => dirs.push(entry.name),
                Some(Kind::File) => files.push(entry.name),
                _ => {}
            }
        }
        let gone: Vec<NodeId> = self
            .nodes
            .children(id)
            .filter(|(_, name)| dirs.binary_search(name).is_err())
            .map(|(child, _)| child)
            .collect();
        for child in gone {
            self.remove(child);
        }
        for name in &dirs {
            let below = match why {
                Why::Asked => Why::Asked,
                Why::Moved if self.nodes.child(id, name).is_some() => Why::Moved,
                _ => Why::New,
            };
            self.grow(id, name, below);
        }
        if matches!(why, Why::Asked | Why::Moved) {
            return;
        }
        let mut state = self.shared.lock();
        let now = now();
        state.settle.push_all(&path, All::default());
        for name in &files {
            state.push(&path, name, Seen::Found, now);
        }
    }

    fn add_watch(&self, dir: &Dir) -> Result<i32, Errno> {
        let watch = add_watch(&self.inotify, dir)?;
        #[cfg(test)]
        if self.nodes.by_watch(watch).is_none() && self.nodes.watched() >= self.shared.hooks.watches_max() {
            let _ = inotify::remove_watch(&self.inotify, watch);
            return Err(Errno::NOSPC);
        }
        Ok(watch)
    }

    /// Leaves a directory to be polled. It becomes due if it is new.
    fn cannot_watch(&mut self, id: NodeId, path: &RelPath, why: Why) {
        self.remove_below(id);
        self.unwatched_changed |= self.unwatched.insert(id);
        if why != Why::Asked {
            self.shared.lock().settle.push_all(path, All { recursive: true, content: false });
        }
    }

    fn tell_used_up(&mut self, dir: &RelPath) {
        if !std::mem::replace(&mut self.used_up_told, true) {
            let news = News::WatchesUsedUp { dir: dir.clone(), hint: watches_hint() };
            self.shared.lock().tell(news);
        }
    }
}

/// Watches a held directory: by its descriptor, so that no path is looked up again. The dot behind it is what
/// lets `DONT_FOLLOW` stay: the last component is no link.
pub(super) fn add_watch(inotify: &OwnedFd, dir: &Dir) -> Result<i32, Errno> {
    inotify::add_watch(inotify, format!("/proc/self/fd/{}/.", dir.as_fd().as_raw_fd()), MASK)
}
