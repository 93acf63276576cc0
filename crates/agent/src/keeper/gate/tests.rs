//! What becomes of a directory that is there already.

use super::*;
use crate::testing::{Scene, dir, tree_of};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A share of four entries, not followed yet.
fn share() -> Scene {
    let mut scene = Scene::new();
    scene.put_file("a", b"one");
    scene.put_file("b", b"two");
    scene.put("d", dir());
    scene.put_file("d/c", b"three");
    scene
}

fn follow(scene: &mut Scene) {
    scene.start();
    scene.connect();
    scene.following(true);
    scene.walk_all(true);
    scene.current();
}

/// Makes the copy what the share is, by another keeper that is then forgotten.
fn made_by_another(scene: &mut Scene) {
    follow(scene);
    scene.wait_in_sync();
    scene.stop();
    fs::remove_file(scene.scratch.path().join("replica.sqlite")).unwrap();
}

fn not_empty(scene: &mut Scene) -> NotEmpty {
    match scene.end() {
        KeeperError::NotEmpty(found) => *found,
        other => panic!("{other}"),
    }
}

#[test]
fn a_directory_that_holds_something_else_is_counted_and_not_touched() {
    let mut scene = share();
    made_by_another(&mut scene);
    fs::write(scene.copy.join("b"), "edited").unwrap();
    fs::create_dir_all(scene.copy.join("mine/deep")).unwrap();
    fs::write(scene.copy.join("mine/deep/x"), "x").unwrap();
    let (before, root) = (tree_of(&scene.copy), fs::metadata(&scene.copy).unwrap());
    follow(&mut scene);
    let found = not_empty(&mut scene);
    // `a`, `d` and `d/c` stay, `b` is changed, `mine`, `mine/deep` and `mine/deep/x` go.
    assert_eq!((found.same, found.changed, found.deleted), (3, 1, 3), "{found}");
    assert!(found.to_string().contains("--adopt") && found.sample.contains(&"mine/deep/x".to_owned()), "{found}");
    assert_eq!(tree_of(&scene.copy), before);
    let now = fs::metadata(&scene.copy).unwrap();
    assert_eq!((now.mtime_nsec(), now.ctime_nsec(), now.mode()), (root.mtime_nsec(), root.ctime_nsec(), root.mode()));
    assert!(scene.server.asked().len() <= 1, "contents were asked for");
}

#[test]
fn a_directory_that_is_identical_already_is_not_taken_over_unasked_either() {
    let mut scene = share();
    made_by_another(&mut scene);
    let before = tree_of(&scene.copy);
    follow(&mut scene);
    let found = not_empty(&mut scene);
    assert_eq!((found.same, found.changed, found.deleted), (4, 0, 0), "{found}");
    assert_eq!(tree_of(&scene.copy), before);
}

#[test]
fn m2_2_adopt_takes_over_without_a_transfer_of_what_is_there() {
    let mut scene = share();
    made_by_another(&mut scene);
    fs::write(scene.copy.join("b"), "edited").unwrap();
    fs::write(scene.copy.join("extra"), "x").unwrap();
    let wants = |scene: &Scene| [&b"one"[..], b"two", b"three"].map(|content| scene.server.wants_of(content));
    let before = wants(&scene);
    scene.adopt = true;
    follow(&mut scene);
    scene.wait_in_sync();
    assert_eq!(wants(&scene), [before[0], before[1] + 1, before[2]]);
    // From here on it is this share's copy.
    scene.stop();
    scene.adopt = false;
    scene.start();
    scene.connect();
    scene.following(false);
    scene.current();
    scene.wait_in_sync();
}

#[test]
fn a_copy_that_was_killed_in_its_first_moments_is_still_a_copy() {
    let mut scene = share();
    scene.start();
    // What is on disk now is all that a kill leaves.
    let store = scene.scratch.path().join("replica.sqlite");
    let left = scene.scratch.path().join("left.sqlite");
    fs::copy(&store, &left).unwrap();
    let wal = scene.scratch.path().join("replica.sqlite-wal");
    if wal.exists() {
        fs::copy(wal, scene.scratch.path().join("left.sqlite-wal")).unwrap();
    }
    scene.stop();
    fs::rename(&left, &store).unwrap();
    let wal = scene.scratch.path().join("left.sqlite-wal");
    if wal.exists() {
        fs::rename(wal, scene.scratch.path().join("replica.sqlite-wal")).unwrap();
    }
    fs::write(scene.copy.join("a"), "half").unwrap();
    follow(&mut scene);
    scene.wait_in_sync();
}

#[test]
fn another_directory_in_the_place_of_the_copy_is_not_its_copy() {
    let mut scene = share();
    follow(&mut scene);
    scene.wait_in_sync();
    scene.stop();
    fs::rename(&scene.copy, scene.scratch.path().join("aside")).unwrap();
    fs::create_dir(&scene.copy).unwrap();
    fs::write(scene.copy.join("precious"), "mine").unwrap();
    scene.start();
    scene.connect();
    scene.following(false);
    scene.current();
    let found = not_empty(&mut scene);
    assert_eq!((found.deleted, found.elsewhere), (1, false));
    assert_eq!(scene.read("precious"), "mine");
}

#[test]
fn a_directory_that_was_made_in_the_place_of_a_deleted_copy_is_not_its_copy() {
    let mut scene = share();
    follow(&mut scene);
    scene.wait_in_sync();
    scene.stop();
    // It may well get the inode of the deleted one.
    fs::remove_dir_all(&scene.copy).unwrap();
    fs::create_dir(&scene.copy).unwrap();
    fs::write(scene.copy.join("precious"), "mine").unwrap();
    scene.start();
    scene.connect();
    scene.following(false);
    scene.current();
    assert_eq!(not_empty(&mut scene).deleted, 1);
    assert_eq!(scene.read("precious"), "mine");
}

#[test]
fn an_empty_directory_and_one_with_nothing_but_leftovers_of_ours_become_the_copy() {
    let mut scene = share();
    fs::create_dir(&scene.copy).unwrap();
    fs::write(scene.copy.join(".lockstep-tmp-0123456789abcdef"), "left over").unwrap();
    follow(&mut scene);
    scene.wait_in_sync();
}

#[test]
fn two_keepers_do_not_keep_one_directory() {
    let mut scene = share();
    scene.start();
    let first = scene.keeper.take();
    // Another agent has a memory of its own.
    scene.store = scene.scratch.path().join("another.sqlite");
    let told = scene.try_start().unwrap_err();
    assert!(matches!(told, KeeperError::InUse { .. }), "{told}");
    scene.keeper = first;
}
