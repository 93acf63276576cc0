//! A copy that is not where it was: nothing is put anywhere, and it is kept on once it is back.

use crate::event::Event;
use crate::keeper::KeeperError;
use crate::keeper::place::FileSystem;
use crate::testing::{Scene, dir, tree_of, until};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use wire::message::Ack;

/// A copy on a disk that can be mounted and not: its path is a link to the disk, or to an empty directory of another file
/// system, as a mount point is one.
struct Mounted {
    scene: Scene,
    disk: PathBuf,
    mount_point: tempfile::TempDir,
}

impl Mounted {
    /// In sync.
    fn new() -> Mounted {
        let scene = Scene::new();
        let disk = scene.scratch.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let mount_point = on_another_file_system(&disk);
        let mut mounted = Mounted { disk, mount_point, scene };
        mounted.mount();
        let scene = &mut mounted.scene;
        scene.put("d", dir());
        scene.put_file("a", b"one");
        scene.put_file("d/b", b"two");
        scene.start();
        follow(scene, true);
        scene.walk_all(true);
        scene.current();
        scene.wait_in_sync();
        mounted
    }

    fn mount(&self) {
        lead(&self.scene.copy, &self.disk);
    }

    fn unmount(&self) {
        lead(&self.scene.copy, self.mount_point.path());
    }

    /// Waits until it is told that the copy is not there, and looks whether nothing is put anywhere.
    fn is_away(&mut self) -> Ack {
        let ack = self.scene.wait_ack("it is told", |ack| ack.problems == 1);
        assert!(ack.first_problems[0].1.contains("kept again within seconds"), "{ack:?}");
        assert_eq!(tree_of(self.mount_point.path()).len(), 0);
        ack
    }
}

/// Has the path be a link to `to`, at no moment to nothing.
fn lead(path: &Path, to: &Path) {
    let new = path.with_extension("new");
    symlink(to, &new).unwrap();
    fs::rename(new, path).unwrap();
}

/// An empty directory on a file system of another kind than the one of `path`.
fn on_another_file_system(path: &Path) -> tempfile::TempDir {
    let kind = |path: &Path| FileSystem::of(&tree::Dir::open_root(path).unwrap()).unwrap();
    let near = |place: &Path| tempfile::tempdir_in(place).ok().filter(|found| kind(found.path()) != kind(path));
    near(Path::new("/dev/shm")).or_else(|| near(Path::new(env!("CARGO_MANIFEST_DIR")))).expect("two file systems")
}

/// What was told as undone.
fn undone(scene: &Scene) -> Vec<String> {
    let events = scene.events.lock().unwrap();
    let path = |event: &Event| match event {
        Event::Reverted { path, .. } => Some(path.to_string()),
        _ => None,
    };
    events.iter().filter_map(path).collect()
}

fn follow(scene: &mut Scene, reset: bool) {
    scene.connect();
    scene.following(reset);
}

/// Follows anew and gets `records` that it has not got yet.
fn followed_anew(scene: &mut Scene, records: Vec<board::Record>) {
    scene.followed();
    scene.following(false);
    scene.live(records, &[]);
}

#[test]
fn a_copy_whose_disk_is_not_mounted_at_the_start_is_not_filled_and_is_kept_on_once_it_is() {
    let mut mounted = Mounted::new();
    mounted.scene.stop();
    let (asked, head) = (mounted.scene.server.asked().len(), mounted.scene.head);
    mounted.unmount();
    mounted.scene.start();
    follow(&mut mounted.scene, false);
    let ack = mounted.is_away();
    assert!(ack.first_problems[0].1.contains("seems not to be mounted") && ack.applied.seq == head, "{ack:?}");
    // What comes meanwhile is put nowhere and not taken for applied; no other start forgets what was there.
    let change = mounted.scene.put_file("a", b"new");
    mounted.scene.live(vec![change], &[]);
    mounted.scene.stop();
    mounted.scene.start();
    follow(&mut mounted.scene, false);
    assert_eq!(mounted.is_away().applied.seq, head);
    mounted.mount();
    let change = crate::testing::record(b"a", mounted.scene.head, Some(&crate::testing::file(b"new")));
    followed_anew(&mut mounted.scene, vec![change]);
    mounted.scene.wait_in_sync();
    assert_eq!(mounted.scene.server.asked().len(), asked + 1, "only what is new is asked for");
    assert_eq!(tree_of(mounted.mount_point.path()).len(), 0);
}

#[test]
fn a_copy_that_is_unmounted_while_it_is_kept_is_told_and_kept_on_once_it_is_back() {
    let mut mounted = Mounted::new();
    let (asked, head) = (mounted.scene.server.asked().len(), mounted.scene.head);
    mounted.unmount();
    mounted.scene.followed();
    mounted.scene.following(false);
    let ack = mounted.is_away();
    assert!(ack.first_problems[0].1.contains("not the directory it was") && ack.applied.seq == head, "{ack:?}");
    let gone = mounted.scene.remove("a");
    mounted.scene.live(vec![gone.clone()], &[]);
    // A new session is told the same.
    mounted.scene.lose();
    follow(&mut mounted.scene, false);
    assert_eq!(mounted.is_away().applied.seq, head);
    assert!(mounted.disk.join("a").exists(), "nothing is done where the copy is not");
    mounted.mount();
    followed_anew(&mut mounted.scene, vec![gone]);
    mounted.scene.wait_in_sync();
    assert_eq!(mounted.scene.server.asked().len(), asked);
}

#[test]
fn a_mount_point_that_holds_something_is_told_as_that_and_forgets_nothing() {
    let mut mounted = Mounted::new();
    mounted.scene.stop();
    fs::write(mounted.mount_point.path().join("stray"), "x").unwrap();
    mounted.unmount();
    mounted.scene.start();
    follow(&mut mounted.scene, false);
    mounted.scene.current();
    let KeeperError::NotEmpty(found) = mounted.scene.end() else { panic!("it was taken for the copy") };
    assert!(found.elsewhere && found.to_string().contains("perhaps its disk is not mounted"), "{found}");
    assert_eq!(tree_of(mounted.mount_point.path()).len(), 1);
    mounted.mount();
    mounted.scene.start();
    follow(&mut mounted.scene, false);
    mounted.scene.current();
    mounted.scene.wait_in_sync();
}

#[test]
fn somebody_can_say_that_the_copy_begins_anew_elsewhere() {
    let mut mounted = Mounted::new();
    mounted.scene.stop();
    mounted.unmount();
    mounted.scene.adopt = true;
    mounted.scene.events.lock().unwrap().clear();
    mounted.scene.start();
    follow(&mut mounted.scene, false);
    mounted.scene.current();
    mounted.scene.wait_in_sync();
    assert_eq!(undone(&mounted.scene), [""; 0], "nobody changed anything there");
    assert_eq!(tree_of(mounted.mount_point.path()).len(), 3);
    // That was for once: while it is kept, it is not said of whatever stands there next.
    lead(&mounted.scene.copy, &mounted.disk.parent().unwrap().join("nowhere"));
    mounted.scene.followed();
    mounted.scene.following(false);
    mounted.scene.wait_ack("it is told", |ack| ack.problems == 1);
    mounted.scene.stop();
    // From here on it is the copy.
    mounted.unmount();
    mounted.scene.adopt = false;
    mounted.scene.start();
    follow(&mut mounted.scene, false);
    mounted.scene.current();
    mounted.scene.wait_in_sync();
}

#[test]
fn a_copy_that_is_deleted_while_it_is_kept_is_made_anew() {
    let mut scene = Scene::in_sync(&[("a", b"one")]);
    fs::remove_dir_all(&scene.copy).unwrap();
    until("it is made anew", || scene.copy.is_dir());
    // Told as away in between, and then taken up.
    scene.followed();
    scene.followed();
    scene.following(false);
    scene.current();
    scene.wait_in_sync();
    assert_eq!(undone(&scene), [""; 0], "a copy that begins anew is told as that");
}

#[test]
fn a_copy_that_is_moved_away_is_told_and_nothing_is_touched_in_what_stands_there_instead() {
    let mut scene = Scene::in_sync(&[("a", b"one"), ("b", b"two")]);
    let aside = scene.scratch.path().join("aside");
    fs::rename(&scene.copy, &aside).unwrap();
    fs::create_dir(&scene.copy).unwrap();
    scene.followed();
    scene.following(false);
    let told = |ack: &Ack| ack.problems == 1 && ack.first_problems[0].1.contains("not the directory it was");
    scene.wait_ack("it is told", told);
    let gone = scene.remove("a");
    scene.live(vec![gone.clone()], &[]);
    assert!(aside.join("a").exists() && tree_of(&scene.copy).is_empty());
    fs::remove_dir(&scene.copy).unwrap();
    fs::rename(&aside, &scene.copy).unwrap();
    followed_anew(&mut scene, vec![gone]);
    scene.wait_in_sync();
}
