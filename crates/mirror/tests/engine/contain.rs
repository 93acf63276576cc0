//! Whoever swaps a directory for a link meanwhile sends nothing outside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::scene::{Scene, look, stamp};

/// Swaps `d/x` with a link to the outside as fast as it can, while `work` runs.
fn flipping(scene: &Scene, work: impl Fn(u32) -> bool) -> u32 {
    let (dir, link) = (scene.d("x"), scene.scratch.path().join("flip"));
    symlink(scene.scratch.path().join("outside"), &link).unwrap();
    let (stop, flips) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stop.load(Ordering::Relaxed) {
                if renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).is_ok() {
                    flips.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut round = 0;
        while round < 150 && Instant::now() < deadline && work(round) {
            round += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    flips.into_inner()
}

fn prepare(scene: &Scene) {
    let outside = scene.scratch.path().join("outside");
    for root in [scene.s("x"), scene.d("x"), outside] {
        fs::create_dir_all(root.join("sub")).unwrap();
        for n in 0..8 {
            fs::write(root.join(format!("f{n}")), root.as_os_str().as_encoded_bytes()).unwrap();
            fs::write(root.join(format!("sub/f{n}")), "same").unwrap();
        }
    }
    for n in 0..8 {
        fs::write(scene.scratch.path().join(format!("outside/extra{n}")), "outside").unwrap();
        fs::write(scene.d(&format!("x/extra{n}")), "extra").unwrap();
    }
    stamp(&scene.scratch.path().join("outside"), 0o751, 5);
}

fn change(scene: &Scene, round: u32) {
    for n in 0..4 {
        fs::write(scene.s(&format!("x/f{n}")), format!("round {round}")).unwrap();
        fs::write(scene.s(&format!("x/sub/f{n}")), format!("round {round}")).unwrap();
    }
    fs::remove_file(scene.s("x/new")).ok();
    fs::remove_dir(scene.s("x/new")).ok();
    if round.is_multiple_of(2) {
        fs::write(scene.s("x/new"), "new").unwrap()
    } else {
        fs::create_dir(scene.s("x/new")).unwrap()
    }
    stamp(&scene.s("x"), if round.is_multiple_of(3) { 0o700 } else { 0o755 }, i64::from(round));
}

#[test]
fn a_directory_flipped_to_a_link_during_a_pass_changes_nothing_outside() {
    let scene = Scene::new();
    prepare(&scene);
    let before = look(&scene.scratch.path().join("outside"));
    let mut flips = 0;
    flips += flipping(&scene, |round| {
        change(&scene, round);
        scene.open().once(&mut |_| {});
        // The engine repairs the link away, too; the flipper gets a directory and a link again.
        let flip = scene.scratch.path().join("flip");
        if !flip.is_symlink() && !scene.d("x").is_symlink() {
            fs::remove_dir_all(&flip).ok();
            symlink(scene.scratch.path().join("outside"), &flip).ok();
        }
        true
    });
    assert!(flips > 100, "the flipper got {flips} flips in");
    assert_eq!(before, look(&scene.scratch.path().join("outside")));
}

/// A mirror that trusts paths: the test above must catch it.
fn naive(s: &Path, d: &Path) {
    for entry in fs::read_dir(s).into_iter().flatten().flatten() {
        let to = d.join(entry.file_name());
        if entry.path().is_dir() {
            naive(&entry.path(), &to)
        } else {
            fs::copy(entry.path(), &to).map(drop).unwrap_or(())
        }
    }
    for entry in fs::read_dir(d).into_iter().flatten().flatten() {
        if s.join(entry.file_name()).symlink_metadata().is_err() {
            fs::remove_file(entry.path()).ok();
        }
    }
}

#[test]
fn a_mirror_that_trusts_paths_is_caught_by_the_same_flips() {
    let scene = Scene::new();
    prepare(&scene);
    let outside = scene.scratch.path().join("outside");
    let before = look(&outside);
    flipping(&scene, |round| {
        change(&scene, round);
        naive(&scene.s(""), &scene.d(""));
        look(&outside) == before
    });
    assert_ne!(before, look(&outside), "the canary must be caught");
}

#[test]
fn a_link_at_the_destination_is_replaced_and_never_followed() {
    let scene = Scene::new();
    let outside = scene.scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "outside").unwrap();
    let before = look(&outside);
    fs::create_dir(scene.s("x")).unwrap();
    fs::write(scene.s("x/f"), "inside").unwrap();
    fs::write(scene.s("y"), "inside").unwrap();
    symlink(&outside, scene.d("x")).unwrap();
    symlink(outside.join("f"), scene.d("y")).unwrap();
    symlink(&outside, scene.d("extra")).unwrap();
    let outcome = scene.run();
    assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
    scene.assert_equal();
    assert_eq!(before, look(&outside));
}
