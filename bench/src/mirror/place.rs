//! A file system for one round, with nothing behind it.
//!
//! How fast an ext4 creates and deletes depends on what was done to it before, so figures of rounds on one that was used
//! are those of its history. Where this is root and may mount, each round has a new one, journaled, in a file.

use anyhow::{Context as _, Result, ensure};
use rustix::fs::Advice;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// As large as it may grow; the file has holes where nothing is.
const IMAGE_BYTES: u64 = 64 << 30;

/// See the module. What is in it is gone with it.
pub(super) struct Place {
    dir: PathBuf,
    /// The file that holds it, if it is mounted.
    image: Option<PathBuf>,
}

impl Place {
    /// A new one in `scratch`, for so many entries.
    pub(super) fn fresh(scratch: &Path, entries: usize) -> Result<Self> {
        let (dir, image) = (scratch.join("place"), scratch.join("image"));
        fs::create_dir(&dir)?;
        let mut place = Self { dir, image: None };
        if rustix::process::geteuid().is_root() && make(&image, entries).is_ok() {
            place.image = Some(image);
            if place.mount().is_err() {
                place.image = None;
            }
        }
        Ok(place)
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Has what was written so far reach the disk, so that nobody pays for what another one wrote.
    pub(super) fn settle(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.dir)?)?)
    }

    /// Whether it is a file system of its own.
    pub(super) fn is_fresh(&self) -> bool {
        self.image.is_some()
    }

    /// Has all of it come from the disk again. Only where it is a file system of its own: nobody else's caches are touched.
    pub(super) fn forget(&self) -> Result<()> {
        let image = self.image.as_ref().context("it is no file system of its own")?;
        self.unmount()?;
        let file = File::open(image)?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        self.mount()
    }

    fn mount(&self) -> Result<()> {
        let image = self.image.as_ref().context("there is no image")?;
        quietly(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&self.dir))
    }

    fn unmount(&self) -> Result<()> {
        quietly(Command::new("umount").arg(&self.dir))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut done = Ok(());
        if let Some(image) = &self.image {
            done = self.unmount().and_then(|()| Ok(fs::remove_file(image)?));
        }
        if let Err(error) = done.and_then(|()| Ok(fs::remove_dir_all(&self.dir)?)) {
            eprintln!("{} is left: {error}", self.dir.display());
        }
    }
}

fn make(image: &Path, entries: usize) -> Result<()> {
    File::create(image)?.set_len(IMAGE_BYTES)?;
    let mut mkfs = Command::new("mkfs.ext4");
    // Tables that are written later, in the background, would be written while something is measured.
    mkfs.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-N"]).arg(entries.to_string()).arg(image);
    quietly(&mut mkfs)
}

fn quietly(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
