//! Random edits of both sides, of everything that `--archive` keeps: afterwards both are the same.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::FileType;
use support::archive::{self, ACL_ACCESS, ACL_DEFAULT, acl, own, set_xattr};
use support::tool::root;
use support::{Edit, Edits, Proc, Rng, Scratch, for_each_seed, pick, same_archives, scratch};

use super::{PATIENCE, mirror, run};

/// Edits of what [`Edits`] does not know.
struct Keeps {
    root: PathBuf,
    rng: Rng,
    /// What its names begin with, and how many it gave.
    tag: String,
    made: u32,
}

impl Keeps {
    /// All entries but the root; sorted, so that a seed means the same wherever the tree is the same.
    fn entries(&self) -> Vec<PathBuf> {
        let mut entries = Vec::new();
        let mut todo = vec![self.root.clone()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                // What is put into a temporary that is about to go is nobody's edit.
                if entry.file_name().as_encoded_bytes().starts_with(b".lockstep-tmp-") {
                    continue;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    todo.push(entry.path());
                }
                entries.push(entry.path());
            }
        }
        entries.sort();
        entries
    }

    fn new_place(&mut self, entries: &[PathBuf]) -> PathBuf {
        self.made += 1;
        let dirs: Vec<_> = entries.iter().filter(|path| path.is_dir() && !path.is_symlink()).collect();
        let dir = self.rng.choose(&dirs).map_or(&self.root, |dir| dir);
        dir.join(format!("{}{}", self.tag, self.made))
    }

    /// One edit. What it was, or that it found nothing to work on.
    fn step(&mut self) -> io::Result<String> {
        let entries = self.entries();
        let Some(path) = self.rng.choose(&entries).cloned() else { return Ok("nothing there".into()) };
        let meta = path.symlink_metadata()?;
        let id = u32::try_from(self.rng.below(5)).expect("it is small");
        let value = self.rng.below(30);
        let value = self.rng.bytes(value);
        let place = self.new_place(&entries);
        match self.rng.below(12) {
            0 => own(&path, id, 3 - id.min(3))?,
            1 if !meta.is_symlink() => set_xattr(&path, &format!("user.{id}"), &value)?,
            2 => set_xattr(&path, &format!("trusted.{id}"), &value)?,
            3 if !meta.is_symlink() => archive::remove_xattr(&path, &format!("user.{id}"))?,
            4 if !meta.is_symlink() => set_xattr(&path, ACL_ACCESS, &acl(id, 4, 6, 4))?,
            5 if meta.is_dir() => set_xattr(&path, ACL_DEFAULT, &acl(id, 5, 7, 5))?,
            6 if meta.is_dir() => archive::remove_xattr(&path, ACL_DEFAULT)?,
            7 | 8 if meta.is_file() => fs::hard_link(&path, &place)?,
            9 if meta.is_file() => {
                let mode = if self.rng.one_in(2) { 0o6755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            10 => match self.rng.below(3) {
                0 => archive::node(&place, FileType::Fifo, 0)?,
                1 => archive::node(&place, FileType::Socket, 0)?,
                _ => archive::node(&place, FileType::CharacterDevice, rustix::fs::makedev(1, 3 + id % 3))?,
            },
            11 if meta.is_file() && meta.nlink() > 1 && self.rng.one_in(2) => {
                fs::copy(&path, &place)?;
                fs::rename(&place, &path)?;
            }
            11 => archive::sparse(&place, 1 << 20, &[(u64::from(id) << 17, &value)])?,
            _ => return Ok(format!("not with {path:?}")),
        }
        Ok(format!("{path:?} or {place:?}"))
    }

    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            // An edit may meet what the mirror just moved.
            self.step().ok();
        }
    }
}

/// Both kinds of edits of a directory. Without those that only who watches can see: a one-shot run has no memory. And where
/// it is watched, without renamed directories: what is kept of an entry is asked here, not whether it is found.
fn edits(root: &Path, seed: u64, watched: bool) -> (Edits, Keeps) {
    let edits = Edits::new(root, seed).without(if watched { Edit::RenameDir } else { Edit::SameStat });
    (edits, Keeps { root: root.to_owned(), rng: Rng::new(seed ^ 0x5eed), tag: format!("k{seed}-"), made: 0 })
}

fn places() -> [Scratch; 2] {
    [scratch(), support::scratch::scratch_in("/dev/shm")]
}

#[test]
fn m2_1_after_random_edits_of_both_sides_an_archive_is_the_same() {
    if !root() {
        return;
    }
    for_each_seed(pick(&[11, 12][..], &[11, 12, 13, 14, 15, 16, 17, 18][..]), |seed| {
        for dir in places() {
            let (source, dest) = (dir.join("src"), dir.join("dst"));
            archive::fill(&source);
            for round in 0..pick(4, 30) {
                let (mut plain, mut keeps) = edits(&source, seed + round, false);
                for _ in 0..10 {
                    plain.run(4);
                    keeps.steps(6);
                }
                if dest.exists() {
                    let (mut plain, mut keeps) = edits(&dest, seed + round + 1_000, false);
                    plain.run(15);
                    keeps.steps(25);
                }
                let (code, stdout, stderr) = run(&mut mirror(&source, &dest, &["-a", "--allow-mass-delete"]));
                assert_eq!(code, 0, "round {round}: {stdout}{stderr}");
                if let Err(differences) = same_archives(&source, &dest) {
                    panic!("round {round}: {differences}");
                }
                let (_, stdout, _) = run(&mut mirror(&source, &dest, &["-a"]));
                assert!(stdout.contains("copied 0, updated 0,"), "round {round}: {stdout}");
            }
        }
    });
}

#[test]
fn m2_7_under_random_edits_of_both_sides_an_archive_becomes_the_same() {
    if !root() {
        return;
    }
    for_each_seed(pick(&[21][..], &[21, 22, 23, 24, 25, 26][..]), |seed| {
        for dir in places() {
            let (source, dest) = (dir.join("src"), dir.join("dst"));
            archive::fill(&source);
            let log = dir.join("log");
            let mut command = mirror(&source, &dest, &["-a", "--watch", "--allow-mass-delete"]);
            let running = Proc::start(command.arg("--log").arg(&log));
            running.wait_for_line("watching", PATIENCE);
            for round in 0..pick(6, 60) {
                let (mut plain, mut keeps) = edits(&source, seed + round, true);
                let (_, mut local) = edits(&dest, seed + round + 1_000, true);
                for _ in 0..10 {
                    plain.run(4);
                    keeps.steps(6);
                    local.steps(2);
                }
                let deadline = Instant::now() + PATIENCE;
                while let Err(differences) = same_archives(&source, &dest) {
                    let log = || fs::read_to_string(&log).unwrap_or_default();
                    assert!(Instant::now() < deadline, "round {round}: {differences}\n{}", log());
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
            }
        }
    });
}
