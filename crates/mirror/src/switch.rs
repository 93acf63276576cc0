//! Switching: what was staged gets its name, at once, over exactly what was looked at.

use crate::backup::Backup;
use crate::delete::{Care, remove_tree};
use crate::problem::Problem;
use crate::source::Want;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;
use tree::at::TempNames;
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
    /// Only mode and time are set.
    Meta(Stat),
}

impl Step {
    /// Whether something stood there before.
    pub(crate) fn is_update(&self) -> bool {
        !matches!(self.how, How::Link(_) | How::Rename(_))
    }

    /// Switches, and reads back what stands there now; with it what was replaced, if it is held. After an error nothing
    /// of the new is left, and the old stands as it did.
    pub(crate) fn run(&self, temps: &TempNames, backup: Option<&Backup>) -> Result<(Stat, Option<OwnedFd>), Problem> {
        let done = self.switch(temps, backup);
        if done.is_err() {
            self.discard();
        }
        done
    }

    /// Removes what was staged for this step.
    pub(crate) fn discard(&self) {
        if let How::Rename(temp) | How::Over(temp, _) | How::Exchange(temp, _) = &self.how {
            drop_temp(&self.dir, temp, &self.path);
        }
    }

    fn switch(&self, temps: &TempNames, backup: Option<&Backup>) -> Result<(Stat, Option<OwnedFd>), Problem> {
        let Step { dir, name, .. } = self;
        let mut replaced = None;
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
                drop_temp(dir, temp, &self.path);
            }
            How::Meta(found) => self.set_meta(found)?,
        }
        Ok((dir.stat(name)?, replaced))
    }

    fn exchange(&self, temp: &Name, found: &Stat, temps: &TempNames) -> Result<(), Problem> {
        let Step { dir, name, .. } = self;
        match dir.exchange(temp, name) {
            Err(e) if matches!(e.errno, Errno::INVAL | Errno::NOSYS) => {}
            done => return Ok(done?),
        }
        // The file system cannot exchange, so the name is missing between these two renames.
        let aside = temps.next_name();
        dir.rename_no_replace(name, &aside)?;
        if dir.rename_no_replace(temp, name).is_err() {
            dir.rename_no_replace(&aside, name)?;
            let wanted = self.want.kind().unwrap_or(Kind::Special);
            return Err(Problem::Kinds { path: self.path.clone(), found: found.kind, wanted });
        }
        // The caller removes `temp`, where the old one would be after an exchange.
        Ok(dir.rename_no_replace(&aside, temp)?)
    }

    fn set_meta(&self, found: &Stat) -> Result<(), Problem> {
        let Step { dir, name, .. } = self;
        let mtime_ns = match &self.want {
            Want::File(want) => {
                if found.kept_mode() != want.mode {
                    match dir.set_mode_of(name, found, want.mode) {
                        Err(e) if e.errno == Errno::STALE => return Err(Problem::Moved(self.path.clone())),
                        done => done?,
                    }
                }
                want.mtime_ns
            }
            Want::Link { mtime_ns, .. } => *mtime_ns,
            // Directories get theirs at the very end of a pass.
            Want::Dir { .. } | Want::Unknown(_) => return Ok(()),
        };
        if found.mtime_ns != mtime_ns {
            let now = dir.stat(name)?;
            if now.id() != found.id() || now.size_bytes != found.size_bytes || now.mtime_ns != found.mtime_ns {
                return Err(Problem::Moved(self.path.clone()));
            }
            dir.set_times_of(name, mtime_ns)?;
        }
        Ok(())
    }

    /// [`Step::look_again`], and holds it.
    fn hold_again(&self, found: &Stat) -> Result<OwnedFd, Problem> {
        match self.dir.hold(&self.name) {
            Ok((held, now)) if found.is_unchanged(&now) => Ok(held),
            Err(e) if !e.is_missing() => Err(e.into()),
            _ => Err(Problem::Moved(self.path.clone())),
        }
    }

    /// Whether what stands there is still what was looked at.
    fn look_again(&self, found: &Stat) -> Result<(), Problem> {
        match self.dir.look(&self.name)? {
            Some(now) if found.is_unchanged(&now) => Ok(()),
            _ => Err(Problem::Moved(self.path.clone())),
        }
    }
}

/// Removes a temporary of any kind; a failure leaves it to the next sweep.
pub(crate) fn drop_temp(dir: &Dir, temp: &Name, path: &RelPath) {
    let mut care = Care { own: &HashSet::new(), leaves: &mut |_, _| Ok(false), backup: None, unread: false };
    if let Err(problem) = remove_tree(dir, temp, path, &mut care, &mut |_, _, _| {}) {
        tracing::debug!("{problem}");
    }
}
