//! Whether the root, and what is mounted below it, is still what it was when it was first seen.

use super::DiskSource;
use crate::guard::{Pin, PinBroken};
use crate::problem::Problem;
use std::sync::Arc;
use tree::{Dir, Name, RelPath, Stat, fsx};

impl DiskSource {
    /// Holds `dir` from now on, if it is the directory that was pinned, perhaps mounted anew.
    ///
    /// # Errors
    /// When it cannot be looked at; what was held stays.
    pub fn take_up(&mut self, dir: Dir) -> Result<bool, fsx::Error> {
        let now = Pin::new(dir.file_system_id()?, &dir.stat_self()?);
        if !self.pin.is_same_tree(&now) {
            return Ok(false);
        }
        if self.pin.root != now.root {
            // On another device no metadata is what it was.
            self.writes.clear();
        }
        self.pin.root = now.root;
        self.held.clear();
        self.root = Arc::new(dir);
        Ok(true)
    }

    /// Whether `path` still leads to this very directory.
    ///
    /// # Errors
    /// What it leads to instead.
    pub fn check_root(&self) -> Result<(), PinBroken> {
        let now = Dir::open_root(&self.path).and_then(|dir| Ok((dir.file_system_id()?, dir.stat_self()?))).ok();
        let (file_system, stat) = now.map_or((0, None), |(file_system, stat)| (file_system, Some(stat)));
        let shown = tree::path::escape(self.path.as_os_str().as_encoded_bytes());
        self.pin.check_root(file_system, stat.as_ref(), &shown)
    }

    /// The directory at `path`, opened from the root on. Each mount point on the way is checked on the descriptor through
    /// which what is below it is opened.
    ///
    /// # Errors
    /// When it cannot be opened, or something on the way, or itself, is not what was mounted there.
    pub(super) fn walk(&self, path: &RelPath) -> Result<Dir, Problem> {
        let mut at = RelPath::root();
        let mut held: Option<Dir> = None;
        for mount in self.pin.mounts_above(path) {
            let Some(way) = mount.below(&at) else { continue };
            let dir = held.as_ref().unwrap_or(&self.root).walk(&way)?;
            self.check_mount(&mount, &dir)?;
            (at, held) = (mount, Some(dir));
        }
        let way = path.below(&at).unwrap_or_default();
        match held {
            Some(dir) if way.is_root() => Ok(dir),
            held => Ok(held.as_ref().unwrap_or(&self.root).walk(&way)?),
        }
    }

    /// Whether `dir`, opened at `path`, is what was mounted there, if anything was.
    ///
    /// # Errors
    /// When it is not, or cannot be looked at.
    pub(super) fn check_mount(&self, path: &RelPath, dir: &Dir) -> Result<(), Problem> {
        match self.pin.mounts.get(path) {
            Some(pinned) if *pinned != dir.stat_self()?.id() => Err(self.pin.broken(path).into()),
            _ => Ok(()),
        }
    }

    /// Whether every mount point that `path` lies below, is, or holds is what it was: what is gone from the source with
    /// one that is not may be gone for that. One that was renamed, with the directory it is in, is found at its new path.
    ///
    /// # Errors
    /// Which of them is not.
    pub(super) fn check_mounts_of(&mut self, path: &RelPath) -> Result<(), PinBroken> {
        if self.pin.mounts.is_empty() {
            return Ok(());
        }
        let concerned = |mount: &&RelPath| mount.starts_with(path) || path.starts_with(mount);
        let concerned: Vec<RelPath> = self.pin.mounts.keys().filter(concerned).cloned().collect();
        for mount in concerned {
            if self.is_mounted(&mount) {
                continue;
            }
            let pinned = self.pin.mounts.get(&mount);
            let identity =
                self.memory.as_ref().and_then(|memory| memory.mounted(&mount)).filter(|mounted| mounted.id != 0);
            let is_same = |other: &RelPath, id: &(u64, u64)| match self.pin.is_away(&mount) {
                true => identity.is_some() && self.memory.as_ref().and_then(|memory| memory.mounted(other)) == identity,
                false => Some(id) == pinned,
            };
            let mut others = self.pin.mounts.iter().filter(|(other, id)| **other != mount && is_same(other, id));
            if !others.any(|(other, _)| self.is_mounted(other)) {
                return Err(self.pin.broken(&mount));
            }
            self.pin.mounts.remove(&mount);
            if let Some(memory) = &mut self.memory {
                memory.forget_mount(&mount);
            }
        }
        Ok(())
    }

    /// Takes what was mounted below at the last run for what has to be mounted there now. With `release` what is not is forgotten.
    pub(crate) fn recall_mounts(&mut self, release: bool) {
        let Some(memory) = &mut self.memory else { return };
        for (path, identity) in memory.mounts().clone() {
            let now = self.root.walk(&path).and_then(|dir| Ok((dir.mounted()?, dir.stat_self()?.id())));
            let now = now.ok().filter(|(mounted, _)| *mounted == Some(identity)).map(|(_, id)| id);
            match (now, release) {
                (None, true) => memory.forget_mount(&path),
                (now, _) => self.pin.recall(&path, now),
            }
        }
    }

    /// Has the next run know what is mounted at `name` of `dir`, `stat` being what it is.
    pub(super) fn remember_mount(&mut self, dir: &Dir, name: &Name, path: &RelPath, stat: &Stat) {
        let Some(memory) = &mut self.memory else { return };
        if memory.mounted(path).is_some() {
            return;
        }
        let mounted = dir.open(name).and_then(|dir| Ok((dir.stat_self()?.id(), dir.mounted()?)));
        match mounted {
            Ok((id, Some(identity))) if id == stat.id() => memory.remember_mount(path, identity),
            Ok(_) => {}
            // It cannot be listed either, which is told.
            Err(e) => tracing::debug!("{e}"),
        }
    }

    fn is_mounted(&self, mount: &RelPath) -> bool {
        self.walk(mount).is_ok()
    }
}
