//! Whoever swaps a directory for a link meanwhile sends nothing outside, and gets nothing from there.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mirror::{Keep, MirrorOptions};

use crate::live::live;
use crate::scene::{Scene, look, stamp};

/// Rounds under one set of flips; each flips some dozen times.
fn rounds() -> u32 {
    if std::env::var("LOCKSTEP_TEST_SIZE").is_ok_and(|size| size == "soak") { 5_000 } else { 150 }
}

/// Swaps `d/x` with a link to the outside as fast as it can, while `work` runs.
fn flipping(scene: &Scene, work: impl Fn(u32) -> bool) -> u32 {
    flipping_at(scene, scene.d("x"), work)
}

/// The same with another directory than `d/x`.
fn flipping_at(scene: &Scene, dir: PathBuf, work: impl Fn(u32) -> bool) -> u32 {
    let link = scene.scratch.path().join("flip");
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
        let deadline = Instant::now() + Duration::from_secs(if rounds() > 150 { 300 } else { 20 });
        let mut round = 0;
        while round < rounds() && Instant::now() < deadline && work(round) {
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

/// Every inode below `dir`, and when it or its metadata changed last: setting the same again shows as well.
fn touched(dir: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    let mut seen = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen.push((path, meta.ino(), meta.ctime(), meta.ctime_nsec()));
    }
    seen.sort();
    seen
}

/// Owner (as root), attributes, hard links and special files change from round to round.
fn change_all_that_is_kept(scene: &Scene, round: u32) {
    for (n, path) in ["x", "x/f0", "x/f1", "x/sub", "x/sub/f0"].into_iter().enumerate() {
        let path = scene.s(path);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&path, "user.round", &round.to_le_bytes(), flags).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(round), Some(u32::try_from(n).unwrap())).unwrap();
        }
    }
    for (from, to) in [("x/f2", "x/linked"), ("x/f3", "x/sub/linked"), ("x/f3", "linked")] {
        fs::remove_file(scene.s(to)).ok();
        fs::hard_link(scene.s(from), scene.s(to)).unwrap();
    }
    if round.is_multiple_of(2) {
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        fs::remove_file(scene.s("x/fifo")).ok();
        rustix::fs::mknodat(rustix::fs::CWD, scene.s("x/fifo"), kind, mode, 0).unwrap();
    }
}

#[test]
fn an_archive_gives_nothing_to_what_a_flipped_link_leads_to() {
    let scene = Scene::new();
    prepare(&scene);
    let outside = scene.scratch.path().join("outside");
    let before = touched(&outside);
    let flips = flipping(&scene, |round| {
        change(&scene, round);
        change_all_that_is_kept(&scene, round);
        let options = MirrorOptions { keep: Keep::ARCHIVE, ..MirrorOptions::default() };
        crate::scene::open(&scene.s(""), &scene.d(""), &options).unwrap().once(&mut |_| {});
        let flip = scene.scratch.path().join("flip");
        if !flip.is_symlink() && !scene.d("x").is_symlink() {
            fs::remove_dir_all(&flip).ok();
            symlink(&outside, &flip).ok();
        }
        true
    });
    assert!(flips > 100, "the flipper got {flips} flips in");
    assert_eq!(before, touched(&outside));
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
    let (before, untouched) = (look(&outside), touched(&outside));
    flipping(&scene, |round| {
        change(&scene, round);
        naive(&scene.s(""), &scene.d(""));
        look(&outside) == before
    });
    assert_ne!(before, look(&outside), "the canary must be caught");
    assert_ne!(untouched, touched(&outside), "by what changed last, too");
}

/// Has the outside hold a secret under every name that the source has, and more.
fn with_secrets(scene: &Scene) -> PathBuf {
    prepare(scene);
    let outside = scene.scratch.path().join("outside");
    fs::create_dir_all(outside.join("sub/deep")).unwrap();
    fs::create_dir_all(scene.s("x/sub/deep")).unwrap();
    for dir in ["", "sub", "sub/deep"] {
        for n in 0..8 {
            fs::write(outside.join(dir).join(format!("f{n}")), "secret").unwrap();
            fs::write(outside.join(dir).join(format!("only here {n}")), "secret").unwrap();
            fs::write(scene.s("x").join(dir).join(format!("f{n}")), "open").unwrap();
        }
    }
    outside
}

/// Whether something of the outside came to the destination: a content, or a name.
fn leaked(scene: &Scene) -> Option<PathBuf> {
    look(&scene.d("")).into_iter().find_map(|(path, (kind, .., content))| {
        let path = String::from_utf8_lossy(&path).into_owned();
        ((kind == 'f' && content == b"secret") || path.contains("only here")).then(|| path.into())
    })
}

/// Has the next pass read everything again.
fn empty_dest(scene: &Scene) {
    fs::remove_dir_all(scene.d("")).unwrap();
    fs::create_dir(scene.d("")).unwrap();
}

/// Swaps a directory of the source, at the top or further down, while passes run, with and without `--archive`.
#[test]
fn a_directory_of_the_source_flipped_to_a_link_gives_nothing_of_the_outside_away() {
    for (place, keep) in [("x", Keep::NOTHING), ("x/sub", Keep::NOTHING), ("x/sub/deep", Keep::ARCHIVE)] {
        let scene = Scene::new();
        let outside = with_secrets(&scene);
        let before = touched(&outside);
        let flips = flipping_at(&scene, scene.s(place), |round| {
            // Into an empty directory, and into one whose contents are compared.
            if round.is_multiple_of(3) {
                empty_dest(&scene);
            }
            let options = MirrorOptions { keep, checksum: true, allow_mass_delete: true, ..MirrorOptions::default() };
            crate::scene::open(&scene.s(""), &scene.d(""), &options).unwrap().once(&mut |_| {});
            assert_eq!(leaked(&scene), None, "{place}, round {round}");
            true
        });
        assert!(flips > 100, "the flipper got {flips} flips in");
        assert_eq!(before, touched(&outside));
    }
}

/// Live, at either side: what was swapped is reported, and looked at while it is swapped again.
#[test]
fn m2_7_live_a_directory_flipped_to_a_link_gives_and_takes_nothing() {
    for place in ["s/x", "s/x/sub", "d/x", "d/x/sub"] {
        let scene = Scene::new();
        let outside = with_secrets(&scene);
        let before = touched(&outside);
        let (dir, link) = (scene.scratch.path().join(place), scene.scratch.path().join("flip"));
        symlink(&outside, &link).unwrap();
        let mut flips = 0;
        live(&scene, |_| {
            let deadline = Instant::now() + Duration::from_secs(if rounds() > 150 { 300 } else { 10 });
            while flips < 4 * rounds() && Instant::now() < deadline {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                flips += u32::from(renameat_with(CWD, &dir, CWD, &link, RenameFlags::EXCHANGE).is_ok());
                // The mirror made a directory of the link.
                if !link.is_symlink() && !dir.is_symlink() {
                    fs::remove_dir_all(&link).ok();
                    symlink(&outside, &link).ok();
                }
                if flips.is_multiple_of(16) {
                    fs::write(scene.s("y"), flips.to_le_bytes()).unwrap();
                    std::thread::yield_now();
                }
            }
        });
        assert!(flips > rounds(), "{place}: {flips} flips");
        assert_eq!((leaked(&scene), before), (None, touched(&outside)), "{place}");
    }
}

#[test]
fn a_mirror_that_trusts_paths_is_caught_giving_secrets_away() {
    let scene = Scene::new();
    with_secrets(&scene);
    let caught = AtomicBool::new(false);
    flipping_at(&scene, scene.s("x"), |_| {
        empty_dest(&scene);
        fs::create_dir_all(scene.d("x/sub/deep")).unwrap();
        naive(&scene.s(""), &scene.d(""));
        caught.store(leaked(&scene).is_some(), Ordering::Relaxed);
        !caught.load(Ordering::Relaxed)
    });
    assert!(caught.into_inner(), "the canary must be caught");
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
