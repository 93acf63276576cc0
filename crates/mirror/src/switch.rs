//! Switching: what was staged gets its name, at once, over exactly what was looked at.

use crate::backup::Backup;
use crate::delete::{Care, remove_tree};
use crate::keep::{Kept, Lack};
use crate::problem::Problem;
use crate::source::Want;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use tree::at::{Grip, TempNames};
use tree::{Dir, Kind, Name, RelPath, Stat};

/// What is replaced and not larger is held for its freeing later; more would keep the disk full for a while.
const HELD_BYTES_MAX: u64 = 1 << 20;

/// One name's switch.
#[derive(Debug)]
pub(crate) struct Step {
    /// Which entry.
    pub(crate) path: RelPath,
    /// The directory it is in, held.
    pub(crate) dir: Arc<Dir>,
    /// Its name there.
    pub(crate) name: Name,
    /// What stands there afterwards.
    pub(crate) want: Want,
    /// Bytes of content.
    pub(crate) bytes: u64,
    /// How it is done.
    pub(crate) how: How,
}

/// How a name is switched.
#[derive(Debug)]
pub(crate) enum How {
    /// A file without a name gets one that is free.
    Link(File),
    /// A temporary gets a name that is free.
    Rename(Name),
    /// A temporary that is no directory is renamed over what was found, which is none either.
    Over(Name, Stat),
    /// A temporary takes the place of what was found, one of them a directory; the old one is then deleted.
    Exchange(Name, Stat),
    /// Only owner, attributes, mode and time are set.
    Meta(Stat, Kept),
}

/// What came of a switch.
#[derive(Debug)]
pub(crate) struct Switched {
    /// What stands there now.
    pub(crate) stat: Stat,
    /// What was replaced, if it is held.
    pub(crate) replaced: Option<OwnedFd>,
    /// What could not be kept.
    pub(crate) lacks: Vec<Lack>,
    /// Why what was replaced is still there, under a temporary name.
    pub(crate) left_over: Option<Problem>,
    /// Nothing had to be changed, or nothing could be.
    pub(crate) same: bool,
}

impl Step {
    /// Whether something stood there before.
    pub(crate) fn is_update(&self) -> bool {
        !matches!(self.how, How::Link(_) | How::Rename(_))
    }

    /// Switches, and reads back what stands there now. After an error nothing of the new is left, and the old stands as it
    /// did; but a directory that has to be removed first may be gone in part.
    pub(crate) fn run(&self, temps: &TempNames, backup: Option<&Backup>) -> Result<Switched, Problem> {
        let done = self.switch(temps, backup);
        if done.is_err() {
            self.discard();
        }
        done
    }

    /// The temporary name of what was staged for this step.
    pub(crate) fn temp(&self) -> Option<&Name> {
        match &self.how {
            How::Rename(temp) | How::Over(temp, _) | How::Exchange(temp, _) => Some(temp),
            How::Link(_) | How::Meta(..) => None,
        }
    }

    /// Removes what was staged for this step.
    pub(crate) fn discard(&self) {
        if let Some(temp) = self.temp() {
            drop_temp(&self.dir, temp, &self.path);
        }
    }

    fn switch(&self, temps: &TempNames, backup: Option<&Backup>) -> Result<Switched, Problem> {
        let Step { dir, name, .. } = self;
        let mut replaced = None;
        let mut lacks = Vec::new();
        let mut left_over = None;
        let mut same = false;
        match &self.how {
            How::Link(file) => match dir.link_in(file, name) {
                Err(e) if e.errno == Errno::EXIST => return Err(Problem::Moved(self.path.clone())),
                done => done?,
            },
            How::Rename(temp) => match dir.rename_no_replace(temp, name) {
                Err(e) if e.errno == Errno::EXIST => return Err(Problem::Moved(self.path.clone())),
                done => done?,
            },
            How::Over(temp, found) => {
                let held = self.hold_again(found)?;
                // RACE: between this look and the rename somebody may put another file there; it is lost, as it
                // would be a moment later, when the repair of the destination removes it.
                let saved = backup.map(|backup| backup.save(dir, name, &self.path, found)).transpose()?;
                if let Err(e) = dir.rename(temp, name) {
                    saved.into_iter().for_each(crate::backup::Saved::undo);
                    return Err(e.into());
                }
                // Freeing a content may wait for the disk: what is small can be freed later.
                replaced = (found.size_bytes <= HELD_BYTES_MAX).then_some(held);
            }
            How::Exchange(temp, found) => {
                self.look_again(found)?;
                if let Some(backup) = backup {
                    backup.save_tree(dir, name, &self.path)?;
                }
                self.exchange(temp, found, temps)?;
                left_over = remove_temp(dir, temp, &self.path).err();
            }
            How::Meta(found, kept) => same = !self.set_meta(found, kept, &mut lacks)?,
        }
        Ok(Switched { stat: dir.stat(name)?, replaced, lacks, left_over, same })
    }

    fn exchange(&self, temp: &Name, found: &Stat, temps: &TempNames) -> Result<(), Problem> {
        let Step { dir, name, .. } = self;
        match dir.exchange(temp, name) {
            Err(e) if matches!(e.errno, Errno::INVAL | Errno::NOSYS) => {}
            Err(e) if e.errno == Errno::XDEV && found.kind == Kind::Dir => return self.remove_first(temp),
            done => return Ok(done?),
        }
        // The file system cannot exchange, so the name is missing between these two renames.
        let aside = temps.next_name();
        match dir.rename_no_replace(name, &aside) {
            Err(e) if e.errno == Errno::XDEV && found.kind == Kind::Dir => return self.remove_first(temp),
            done => done?,
        }
        if dir.rename_no_replace(temp, name).is_err() {
            dir.rename_no_replace(&aside, name)?;
            let wanted = self.want.kind().unwrap_or(Kind::Special);
            return Err(Problem::Kinds { path: self.path.clone(), found: found.kind, wanted });
        }
        // The caller removes `temp`, where the old one would be after an exchange.
        Ok(dir.rename_no_replace(&aside, temp)?)
    }

    /// An overlay renames no directory that is, or has parts, in a lower layer. So it is emptied and removed where it stands, and its name
    /// is missing until the new one has it.
    fn remove_first(&self, temp: &Name) -> Result<(), Problem> {
        let Step { dir, name, path, .. } = self;
        remove_all(dir, name, path)?;
        match dir.rename_no_replace(temp, name) {
            Err(e) if e.errno == Errno::EXIST => Err(Problem::Moved(path.clone())),
            done => Ok(done?),
        }
    }

    /// Sets what differs, through a descriptor of exactly what was found; whether anything did.
    fn set_meta(&self, found: &Stat, kept: &Kept, lacks: &mut Vec<Lack>) -> Result<bool, Problem> {
        let Step { dir, name, .. } = self;
        let (mode, mtime_ns) = match &self.want {
            Want::File(want) => (Some(want.mode), want.mtime_ns),
            Want::Node(want) => (Some(want.mode), want.mtime_ns),
            Want::Link(want) => (None, want.mtime_ns),
            // Directories get theirs at the very end of a pass.
            Want::Dir(_) | Want::Unknown(_) => return Ok(false),
        };
        let path = dir.path_of(name);
        let held = self.hold_again(found)?;
        let grip = Grip::Bare(held.as_fd());
        let mut kept = kept.clone();
        let mut changed = kept.give(grip, &path, lacks)?;
        // An owner takes set-id bits away, an ACL changes the group's.
        let now = if changed { grip.stat(&path)? } else { *found };
        if let Some(mode) = mode.map(|mode| kept.mode(mode))
            && kept.mode_of(&now) != mode
        {
            grip.set_mode(mode, &path)?;
            changed = true;
        }
        if now.mtime_ns != mtime_ns {
            grip.set_times(mtime_ns, &path)?;
            changed = true;
        }
        Ok(changed)
    }

    /// [`Step::look_again`], and holds it.
    fn hold_again(&self, found: &Stat) -> Result<OwnedFd, Problem> {
        match self.dir.hold(&self.name) {
            Ok((held, now)) if found.is_still(&now) => Ok(held),
            Err(e) if !e.is_missing() => Err(e.into()),
            _ => Err(Problem::Moved(self.path.clone())),
        }
    }

    /// Whether what stands there is still what was looked at.
    fn look_again(&self, found: &Stat) -> Result<(), Problem> {
        match self.dir.look(&self.name)? {
            Some(now) if found.is_still(&now) => Ok(()),
            _ => Err(Problem::Moved(self.path.clone())),
        }
    }
}

/// Removes a temporary of any kind.
pub(crate) fn remove_temp(dir: &Dir, temp: &Name, path: &RelPath) -> Result<(), Problem> {
    match remove_all(dir, temp, path) {
        Ok(()) => Ok(()),
        Err(problem) => {
            let at = tree::path::escape(dir.path_of(temp).as_os_str().as_bytes());
            Err(Problem::LeftOver { at, why: problem.to_string() })
        }
    }
}

/// Removes what nothing in it is to stay of.
fn remove_all(dir: &Dir, name: &Name, path: &RelPath) -> Result<(), Problem> {
    let (own, mut leaves) = (HashSet::new(), |_: &RelPath, _| Ok(false));
    let mut care = Care::new(&own, &[], false, &mut leaves, None);
    remove_tree(dir, name, path, &mut care, &mut |_, _, _| {}).map(drop)
}

/// [`remove_temp`] after a failure that is told anyway: what stays is left to the next sweep.
pub(crate) fn drop_temp(dir: &Dir, temp: &Name, path: &RelPath) {
    if let Err(problem) = remove_temp(dir, temp, path) {
        tracing::debug!("{problem}");
    }
}
