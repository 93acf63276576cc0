//! A live mirror whose directories go away, come back or run full, and its end in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use mirror::{MirrorOptions, Report, Standing, State, Stopper};

use crate::live::{equal, live, until};
use crate::scene::{Make, Scene, look};

/// A mounted directory, until it is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this user may not mount.
    pub(crate) fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        Self::with(&["-t", "tmpfs", "-o", &format!("size={size}"), "lockstep-test"], at)
    }

    pub(crate) fn bind(from: &Path, at: &Path) -> Option<Self> {
        Self::with(&["--bind", from.to_str().unwrap()], at)
    }

    /// A file system in the file `image` that keeps times of whole seconds; `None` as well where there is no tool to make it.
    pub(crate) fn coarse(image: &Path, at: &Path) -> Option<Self> {
        fs::File::create(image).unwrap().set_len(8 << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-I", "128", "-O", "^has_journal"]).arg(image).output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("not run: there is no mkfs.ext4");
            return None;
        }
        Self::with(&["-o", "loop", image.to_str().unwrap()], at)
    }

    pub(crate) fn with(args: &[&str], at: &Path) -> Option<Self> {
        let done = Command::new("mount").args(args).arg(at).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("not run: mounting needs root");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// It is at `at` by now, for a directory above it was renamed.
    pub(crate) fn is_at(&mut self, at: PathBuf) {
        self.0 = at;
    }

    /// Unmounts it, as a person would: while somebody holds a directory of it that has to be tried again, or be lazy.
    pub(crate) fn unmount(self, lazily: bool) {
        let done = || {
            let mut umount = Command::new("umount");
            umount.args(lazily.then_some("-l")).arg(&self.0).stderr(Stdio::null());
            umount.status().unwrap().success()
        };
        until("it to be unmounted", done);
        std::mem::forget(self);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Who holds a directory of it keeps it busy; its path is free at once nevertheless.
        assert!(Command::new("umount").arg("-l").arg(&self.0).status().unwrap().success());
    }
}

pub(crate) fn told(notes: &Mutex<Vec<String>>, words: &str) -> bool {
    notes.lock().unwrap().iter().any(|note| note.contains(words))
}

/// Mounts a disk at `root`, takes it away, puts another there, and then the first one again.
fn away_and_back(scene: &Scene, root: &Path) {
    let disk = scene.scratch.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let Some(_disk) = Mounted::tmpfs(&disk, "1m") else { return };
    let there = Mounted::bind(&disk, root).unwrap();
    Make::FullDir.at(&scene.s("x"));
    live(scene, |notes| {
        until("the copy", || equal(scene));
        let before = (look(&scene.s("")), look(&scene.d("")));
        drop(there);
        until("a word about it", || told(notes, "nothing is deleted"));
        let other = Mounted::tmpfs(root, "1m").unwrap();
        until("a word about the other one", || told(notes, "is another directory than the"));
        assert!(fs::read_dir(root).unwrap().next().is_none(), "the other disk is not written to");
        drop(other);
        let _there = Mounted::bind(&disk, root).unwrap();
        assert_eq!((look(&scene.s("")), look(&scene.d(""))), before, "nothing was deleted");
        fs::write(scene.s("new"), "new").unwrap();
        until("it to be followed again", || equal(scene) && told(notes, "there again"));
        fs::write(scene.s("newer"), "newer").unwrap();
        until("later changes to be followed", || equal(scene));
    });
}

#[test]
fn m2_7_a_source_that_is_unmounted_deletes_nothing_and_is_followed_once_mounted_again() {
    let scene = Scene::new();
    away_and_back(&scene, &scene.s(""));
}

#[test]
fn m2_7_a_destination_that_is_unmounted_is_followed_once_mounted_again_and_its_mount_point_is_not_filled() {
    let scene = Scene::new();
    away_and_back(&scene, &scene.d(""));
    assert!(fs::read_dir(scene.d("")).unwrap().next().is_none(), "what is below the mount stays empty");
}

#[test]
fn m2_7_a_destination_that_is_renamed_away_and_back_is_followed_again() {
    let scene = Scene::new();
    Make::FullDir.at(&scene.s("x"));
    live(&scene, |notes| {
        until("the copy", || equal(&scene));
        let away = scene.scratch.path().join("away");
        fs::rename(scene.d(""), &away).unwrap();
        until("a word about it", || told(notes, "nothing is deleted"));
        let note = notes.lock().unwrap().join("\n");
        assert_eq!(note.matches("nothing is deleted").count(), 1, "{note}");
        assert_eq!(note.matches("nothing is copied").count(), 1, "{note}");
        fs::write(scene.s("new"), "new").unwrap();
        fs::remove_file(away.join("x/a")).unwrap();
        fs::rename(&away, scene.d("")).unwrap();
        until("it to be followed again", || equal(&scene));
    });
}

#[test]
fn m2_7_a_destination_that_was_deleted_is_made_anew() {
    let scene = Scene::new();
    Make::FullDir.at(&scene.s("x"));
    live(&scene, |notes| {
        until("the copy", || equal(&scene));
        // Before it is known to be away, each file would be put back faster than all of them can be removed.
        let away = scene.scratch.path().join("away");
        fs::rename(scene.d(""), &away).unwrap();
        until("a word about it", || told(notes, "nothing is deleted"));
        fs::remove_dir_all(&away).unwrap();
        until("it to be there again", || equal(&scene));
        fs::write(scene.s("new"), "new").unwrap();
        until("later changes to be followed", || equal(&scene));
    });
}

/// Runs `story` with what is told of failures and with where the mirror stands.
fn standing(scene: &Scene, story: impl FnOnce(&Mutex<(Vec<String>, Standing)>, &Stopper)) {
    let seen = Mutex::new((Vec::new(), Standing::default()));
    let stopper = Stopper::default();
    std::thread::scope(|scope| {
        let seen = &seen;
        let stop = stopper.clone();
        let mirror = scope.spawn(move || {
            let mut mirror = crate::scene::open(&scene.s(""), &scene.d(""), &MirrorOptions::default()).unwrap();
            let report = &mut |report: Report<'_>| match report {
                Report::Event(event) => seen.lock().unwrap().0.extend(event.error.map(ToString::to_string)),
                Report::Standing(now) => seen.lock().unwrap().1 = now.clone(),
                Report::Pass(_) | Report::Watching | Report::Note(_) => {}
            };
            mirror.watch(stop, report).unwrap();
        });
        let ended = crate::live::StopAtEnd(stopper.clone());
        until("the first pass", || seen.lock().unwrap().1.state == State::InStep);
        story(seen, &stopper);
        if stopper.is_draining() {
            mirror.join().unwrap();
        }
        drop(ended);
    });
}

#[test]
fn m2_7_on_a_full_disk_the_old_file_stays_it_is_told_once_and_room_brings_the_new_one() {
    let scene = Scene::new();
    let Some(_disk) = Mounted::tmpfs(&scene.d(""), "1m") else { return };
    fs::write(scene.s("a"), vec![1; 300_000]).unwrap();
    standing(&scene, |seen, _| {
        until("the copy", || equal(&scene));
        fs::write(scene.s("a"), vec![2; 900_000]).unwrap();
        until("a word about it", || seen.lock().unwrap().0.iter().any(|error| error.contains("free some space")));
        until("the state to tell", || seen.lock().unwrap().1.state == State::Problems);
        let passes = seen.lock().unwrap().1.passes;
        until("more tries", || seen.lock().unwrap().1.passes > passes + 3);
        assert_eq!(seen.lock().unwrap().0.len(), 1, "told once: {:?}", seen.lock().unwrap().0);
        assert_eq!(fs::read(scene.d("a")).unwrap(), vec![1; 300_000]);
        let done = Command::new("mount").args(["-o", "remount,size=4m"]).arg(scene.d("")).status().unwrap();
        assert!(done.success());
        until("the new one", || equal(&scene) && seen.lock().unwrap().1.state == State::InStep);
    });
}

#[test]
fn m2_7_the_end_in_order_comes_after_all_that_was_changed_before_it() {
    for round in 0..20u32 {
        let scene = Scene::new();
        standing(&scene, |_, stopper| {
            for n in 0..50u32 {
                fs::create_dir_all(scene.s(&format!("d{}", n % 5))).unwrap();
                fs::write(scene.s(&format!("d{}/f{n}", n % 5)), round.to_string()).unwrap();
            }
            stopper.drain();
        });
        scene.assert_equal();
    }
}
