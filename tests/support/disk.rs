//! A small disk that stays while those who use it come and go, and that can be filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tool::wrap;
use crate::{PATIENCE, Proc, Scratch, on_small_disk, scratch};

/// A disk of so many bytes, and the process that holds it.
#[derive(Debug)]
pub struct SmallDisk {
    place: Scratch,
    holder: Proc,
}

impl SmallDisk {
    /// An empty disk.
    ///
    /// # Panics
    /// As [`on_small_disk`].
    #[track_caller]
    pub fn of(bytes: u64) -> SmallDisk {
        let place = scratch();
        let mut stay = Command::new("sh");
        stay.args(["-c", "echo ready; exec sleep infinity"]);
        let holder = Proc::start(&mut on_small_disk(&place, bytes, &stay));
        holder.wait_for_line("ready", PATIENCE);
        SmallDisk { place, holder }
    }

    /// Where everybody finds it.
    pub fn path(&self) -> PathBuf {
        let seen = self.place.strip_prefix("/").expect("a scratch directory has a whole path");
        PathBuf::from(format!("/proc/{}/root", self.holder.pid().as_raw_nonzero())).join(seen)
    }

    /// The same, for those who are inside.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// `command`, with this disk at its place. What it is is told by no other way: it is one process, with the id it starts with.
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--user", "--mount", "--preserve-credentials", "--target"]);
        inside.arg(self.holder.pid().as_raw_nonzero().to_string());
        wrap(inside, command)
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Takes all the room that is left.
    ///
    /// # Panics
    /// When there is more than so small a disk can have.
    pub fn fill(&self) {
        fill(&self.filler());
    }

    /// Gives it back.
    pub fn free(&self) {
        // There is none where there was no room for its name.
        fs::remove_file(self.filler()).ok();
    }
}

/// Makes a file of all the room that is left on a small disk.
///
/// # Panics
/// When there is more than so small a disk can have.
pub fn fill(file: &Path) {
    // Where there is no room for its name, there is none.
    let Ok(mut filler) = File::create(file) else { return };
    let mut piece = 1 << 20;
    // In ever smaller pieces, down to a byte.
    while piece > 0 {
        match filler.write(&vec![0; piece]) {
            Ok(written) if written > 0 => {}
            _ => piece /= 2,
        }
        assert!(filler.metadata().is_ok_and(|filler| filler.len() < 1 << 30), "that is no small disk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_freed() {
        let disk = SmallDisk::of(1 << 20);
        fs::write(disk.path().join("a"), "one").unwrap();
        disk.fill();
        assert!(fs::write(disk.path().join("b"), [0; 4096]).is_err());
        disk.free();
        fs::write(disk.path().join("b"), [0; 4096]).unwrap();
        let inside = disk.inside(Command::new("cat").arg(disk.place().join("a"))).output().unwrap();
        assert_eq!(inside.stdout, b"one", "{inside:?}");
    }
}
