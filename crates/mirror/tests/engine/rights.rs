//! Rights: directories that keep their owner out, files shared under other names.

use std::fs;
use std::os::unix::fs::MetadataExt;

use mirror::MirrorOptions;

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

/// The directory differs itself, and is known to before anybody has worked in it.
#[test]
fn a_read_only_directory_that_differs_is_worked_in_by_any_number_of_threads() {
    for threads in [1, 2, 5] {
        let scene = Scene::new();
        for side in ["s", "d"] {
            let root = scene.scratch.path().join(side);
            for dir in ["x", "y/in"] {
                fs::create_dir_all(root.join(dir)).unwrap();
                fs::write(root.join(dir).join("f"), side).unwrap();
                fs::write(root.join(dir).join(side), "").unwrap();
                stamp(&root.join(dir), 0o555, if side == "s" { 5 } else { 6 });
            }
        }
        if rustix::process::geteuid().is_root() {
            let done =
                std::process::Command::new("chown").arg("-hR").arg("65534:65534").arg(scene.scratch.path()).status();
            assert!(done.unwrap().success());
        }
        let options = || MirrorOptions { threads: std::num::NonZeroUsize::new(threads), ..MirrorOptions::default() };
        let worked = std::thread::scope(|scope| {
            let worked = scope.spawn(|| {
                as_nobody(std::panic::AssertUnwindSafe(|| {
                    let outcome = scene.told(options()).0;
                    assert!(outcome.problems.is_empty(), "{threads} threads: {:?}", outcome.problems);
                    scene.assert_equal();
                    assert!(scene.told(options()).0.is_quiet());
                }));
            });
            worked.join()
        });
        for dir in ["s/x", "s/y/in", "d/x", "d/y/in"] {
            stamp(&scene.scratch.path().join(dir), 0o755, 5);
        }
        worked.unwrap();
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
