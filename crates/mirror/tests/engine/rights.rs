//! Rights: directories that keep their owner out, files shared under other names.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::scene::{Make, Scene, stamp};

/// As another user if we are root: for root no right is missing.
fn as_nobody(run: impl FnOnce() + std::panic::UnwindSafe) {
    if !rustix::process::geteuid().is_root() {
        return run();
    }
    // Only this thread changes: the raw calls are a thread's own, and it ends with the test.
    let nobody = rustix::fs::Uid::from_raw(65_534);
    rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
    run();
}

#[test]
fn read_only_directories_at_the_destination_are_worked_in_and_keep_their_mode() {
    let scene = Scene::new();
    for side in ["s", "d"] {
        let root = scene.scratch.path().join(side);
        Make::FullDir.at(&root.join("x"));
        fs::write(root.join("x/in/f"), side).unwrap();
        fs::write(root.join("x/in").join(side), "").unwrap();
        stamp(&root.join("x/in"), if side == "s" { 0o555 } else { 0o000 }, 5);
        stamp(&root.join("x"), 0o500, 5);
    }
    if rustix::process::geteuid().is_root() {
        std::process::Command::new("chown").arg("-hR").arg("65534:65534").arg(scene.scratch.path()).status().unwrap();
    }
    std::thread::scope(|scope| {
        let worked = scope.spawn(|| {
            as_nobody(std::panic::AssertUnwindSafe(|| {
                let outcome = scene.run();
                assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
                scene.assert_equal();
                assert!(scene.run().is_quiet());
            }));
        });
        worked.join().unwrap();
    });
    for side in ["s", "d"] {
        let root = scene.scratch.path().join(side);
        stamp(&root.join("x"), 0o755, 5);
        stamp(&root.join("x/in"), 0o755, 5);
    }
}

#[test]
fn a_file_with_another_name_outside_is_never_changed_through_it() {
    let scene = Scene::new();
    let outside = scene.scratch.path().join("outside");
    fs::write(&outside, "same").unwrap();
    stamp(&outside, 0o600, 5);
    fs::hard_link(&outside, scene.d("a")).unwrap();
    fs::write(scene.s("a"), "same").unwrap();
    stamp(&scene.s("a"), 0o644, 5);
    scene.run();
    scene.assert_equal();
    assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_mode_alone_is_set_without_copying() {
    let scene = Scene::new();
    for (path, mode) in [(scene.s("a"), 0o640), (scene.d("a"), 0o000)] {
        fs::write(&path, "same").unwrap();
        stamp(&path, mode, 5);
    }
    let before = fs::metadata(scene.d("a")).unwrap().ino();
    let outcome = scene.run();
    assert_eq!((outcome.counts.updated, outcome.counts.bytes), (2, 0), "the file, and the root's time");
    assert_eq!(fs::metadata(scene.d("a")).unwrap().ino(), before);
    scene.assert_equal();
}
