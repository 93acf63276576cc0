//! What is mounted below the source, and goes away: nothing below it is touched.

use std::fs;
use std::time::Duration;

use mirror::dirty::Hint;
use mirror::guard::PinBroken;
use mirror::{Action, Choice, Dirty, MirrorError, MirrorOptions, Problem, Stopper};

use crate::away::{Mounted, told};
use crate::live::{equal, live_with, until};
use crate::scene::{Scene, open, rel, stamp};

/// What is told of a mount point that is gone.
const WORDS: &str = "was a mount point";

/// A file system mounted at `m`, or deeper, of the source, with something in it; `None` where this user may not.
fn mounted(scene: &Scene, at: &str) -> Option<Mounted> {
    fs::create_dir_all(scene.s(at)).unwrap();
    let mounted = Mounted::tmpfs(&scene.s(at), "1m")?;
    fs::create_dir(scene.s(at).join("in")).unwrap();
    fs::write(scene.s(at).join("f"), "v").unwrap();
    fs::write(scene.s(at).join("in/g"), "v").unwrap();
    fs::write(scene.s("beside"), "v").unwrap();
    Some(mounted)
}

fn one_file_system() -> MirrorOptions {
    MirrorOptions { choice: Choice { one_file_system: true, ..Choice::default() }, ..MirrorOptions::default() }
}

#[test]
fn m2_7_a_file_system_unmounted_below_the_source_deletes_nothing() {
    for lazily in [false, true] {
        let scene = Scene::new();
        let Some(there) = mounted(&scene, "m") else { return };
        live_with(&scene, MirrorOptions::default(), |seen| {
            until("the copy", || equal(&scene));
            there.unmount(lazily);
            until("a word about it", || told(seen, WORDS));
            fs::write(scene.s("after"), "v").unwrap();
            until("what is elsewhere to be followed", || scene.d("after").exists());
            assert_eq!(fs::read(scene.d("m/in/g")).unwrap(), b"v", "lazily: {lazily}");
            assert!(!told(seen, "deleted"), "lazily: {lazily}: {:?}", seen.lock().unwrap());
        });
    }
}

/// Else what is mounted there could not be unmounted.
#[test]
fn after_a_pass_no_directory_below_the_source_is_held() {
    let scene = Scene::new();
    fs::create_dir_all(scene.s("m/in")).unwrap();
    fs::write(scene.s("m/in/f"), "v").unwrap();
    let mut mirror = scene.open();
    mirror.once(&mut |_| {});
    fs::write(scene.s("m/in/new"), "v").unwrap();
    let mut dirty = Dirty::new();
    dirty.insert(&rel("m/in"), &tree::Name::new(*b"new").unwrap(), Hint { content: true, by_event: true });
    mirror.pass(&dirty, &mut |_| {});
    assert!(equal(&scene));
    let held = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    let below: Vec<_> = held.filter(|path| path.starts_with(scene.s("m"))).collect();
    assert!(below.is_empty(), "{below:?}");
}

/// No event tells that it goes.
#[test]
fn m2_7_a_mount_of_another_directory_that_is_gone_deletes_nothing_and_is_followed_once_it_is_back() {
    let scene = Scene::new();
    let disk = scene.scratch.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let Some(_disk) = Mounted::tmpfs(&disk, "1m") else { return };
    fs::write(disk.join("f"), "v").unwrap();
    fs::create_dir(scene.s("m")).unwrap();
    let there = Mounted::bind(&disk, &scene.s("m")).unwrap();
    let options = MirrorOptions { check_every: Some(Duration::from_millis(200)), ..MirrorOptions::default() };
    live_with(&scene, options, |seen| {
        until("the copy", || equal(&scene));
        there.unmount(true);
        until("a word about it", || told(seen, WORDS));
        assert!(scene.d("m/f").exists() && !told(seen, "deleted"));
        fs::write(disk.join("new"), "v").unwrap();
        let _again = Mounted::bind(&disk, &scene.s("m")).unwrap();
        until("it to be followed again", || equal(&scene));
    });
}

#[test]
fn m2_7_a_mount_point_in_a_directory_that_was_renamed_is_known_at_its_new_place() {
    let scene = Scene::new();
    let Some(mut there) = mounted(&scene, "p/m") else { return };
    live_with(&scene, MirrorOptions::default(), |seen| {
        until("the copy", || equal(&scene));
        fs::rename(scene.s("p"), scene.s("q")).unwrap();
        until("the new name alone", || equal(&scene));
        there.is_at(scene.s("q/m"));
        there.unmount(false);
        until("a word about it", || told(seen, WORDS));
        assert!(scene.d("q/m/in/g").exists());
        // Another directory, or none, is no wish of the user's either.
        fs::remove_dir(scene.s("q/m")).unwrap();
        fs::write(scene.s("after"), "v").unwrap();
        until("what is elsewhere to be followed", || scene.d("after").exists());
        assert!(scene.d("q/m/in/g").exists());
    });
}

/// Within one pass, nobody has seen it at its new name.
#[test]
fn a_mount_point_renamed_and_unmounted_at_once_keeps_its_copy() {
    let scene = Scene::new();
    let Some(mut there) = mounted(&scene, "p/m") else { return };
    let mut mirror = scene.open();
    mirror.once(&mut |_| {});
    assert!(equal(&scene));
    fs::rename(scene.s("p"), scene.s("q")).unwrap();
    there.is_at(scene.s("q/m"));
    there.unmount(true);
    let outcome = mirror.once(&mut |_| {});
    assert!(outcome.problems.iter().any(|(_, p)| matches!(p, Problem::Pin(_))), "{:?}", outcome.problems);
    assert!(scene.d("p/m/f").exists() && scene.d("q/m").exists());
    assert_eq!(outcome.counts.deleted, 0);
}

#[test]
fn with_one_file_system_what_only_the_copy_has_at_a_mount_point_stays_when_it_is_unmounted() {
    let scene = Scene::new();
    let Some(there) = mounted(&scene, "m") else { return };
    fs::create_dir(scene.d("m")).unwrap();
    fs::write(scene.d("m/own"), "v").unwrap();
    live_with(&scene, one_file_system(), |seen| {
        until("the copy", || scene.d("beside").exists());
        there.unmount(true);
        until("a word about it", || told(seen, WORDS));
        fs::write(scene.s("after"), "v").unwrap();
        until("what is elsewhere to be followed", || scene.d("after").exists());
        assert!(scene.d("m/own").exists());
    });
}

/// In the middle of one run: once the mount point was listed, and before what is in it is.
#[test]
fn with_one_file_system_an_unmount_in_the_middle_of_a_run_touches_nothing_below() {
    let scene = Scene::new();
    let Some(there) = mounted(&scene, "m") else { return };
    fs::create_dir(scene.d("m")).unwrap();
    fs::write(scene.d("m/own"), "v").unwrap();
    for side in [scene.s("a"), scene.d("a")] {
        fs::write(&side, "v").unwrap();
        stamp(&side, 0o644, 5);
    }
    let one = std::num::NonZeroUsize::MIN;
    let options = MirrorOptions { threads: Some(one), ..one_file_system() };
    let mut mirror = crate::scene::open(&scene.s(""), &scene.d(""), &options).unwrap();
    let mut there = Some(there);
    let outcome = mirror.pass(&Dirty::everything(), &mut |event| {
        if event.action == Action::Skipped && *event.path == rel("a") {
            drop(there.take());
        }
    });
    assert!(there.is_none());
    assert!(scene.d("m/own").exists(), "{:?}", outcome.problems);
}

/// A run that leaves for the next what it knows.
fn run_with_state(scene: &Scene, allow_mass_delete: bool) -> (Vec<Problem>, u64) {
    let state = Some(scene.scratch.path().join("state"));
    let options = MirrorOptions { state, allow_mass_delete, ..MirrorOptions::default() };
    let outcome = scene.told(options).0;
    (outcome.problems.into_iter().map(|(_, problem)| problem).collect(), outcome.counts.deleted)
}

#[track_caller]
fn is_clean((problems, deleted): &(Vec<Problem>, u64), expected: u64) {
    assert!(problems.is_empty() && *deleted == expected, "{problems:?} {deleted}");
}

#[track_caller]
fn is_remembered((problems, deleted): &(Vec<Problem>, u64)) {
    let remembered = |problem: &Problem| matches!(problem, Problem::Pin(PinBroken::Remembered(_)));
    assert!(!problems.is_empty() && problems.iter().all(remembered) && *deleted == 0, "{problems:?} {deleted}");
}

#[test]
fn m2_3_what_was_unmounted_between_two_runs_with_a_state_deletes_nothing() {
    for at in ["m", "p/m"] {
        let scene = Scene::new();
        let Some(there) = mounted(&scene, at) else { return };
        is_clean(&run_with_state(&scene, false), 0);
        assert!(equal(&scene));
        there.unmount(false);
        fs::write(scene.s("after"), "v").unwrap();
        is_remembered(&run_with_state(&scene, false));
        assert!(scene.d(at).join("in/g").exists() && scene.d("after").exists(), "{at}");
        // Something else that is mounted there is not it.
        let other = Mounted::bind(&scene.s(""), &scene.s(at)).unwrap();
        is_remembered(&run_with_state(&scene, false));
        other.unmount(true);
        // Nor is it known by another run in between, or without its mount point and what that was in.
        fs::remove_dir_all(scene.s(at.split('/').next().unwrap())).unwrap();
        is_remembered(&run_with_state(&scene, false));
        assert!(scene.d(at).join("in/g").exists(), "{at}");
        // Mounted again it is followed: of a file system in memory no number lasts.
        let Some(_again) = mounted(&scene, at) else { return };
        fs::remove_file(scene.s(at).join("f")).unwrap();
        is_clean(&run_with_state(&scene, false), 1);
        assert!(equal(&scene));
    }
}

#[test]
fn m2_3_the_copy_of_what_was_unmounted_goes_where_that_is_allowed_and_is_asked_for_no_more() {
    let scene = Scene::new();
    let Some(there) = mounted(&scene, "m") else { return };
    is_clean(&run_with_state(&scene, false), 0);
    there.unmount(false);
    is_remembered(&run_with_state(&scene, false));
    is_clean(&run_with_state(&scene, true), 3);
    is_clean(&run_with_state(&scene, false), 0);
    assert!(equal(&scene));
}

/// A disk that has a number of its own is known by it wherever it is mounted.
#[test]
fn a_disk_that_is_mounted_elsewhere_at_the_next_run_is_known_there() {
    let scene = Scene::new();
    let image = scene.scratch.path().join("image");
    fs::create_dir(scene.s("m")).unwrap();
    let Some(there) = Mounted::coarse(&image, &scene.s("m")) else { return };
    fs::write(scene.s("m/f"), "v").unwrap();
    is_clean(&run_with_state(&scene, false), 0);
    there.unmount(false);
    fs::rename(scene.s("m"), scene.s("n")).unwrap();
    is_remembered(&run_with_state(&scene, false));
    let there = Mounted::with(&["-o", "loop", image.to_str().unwrap()], &scene.s("n")).unwrap();
    // The file, the directory of the disk itself, and its mount point.
    is_clean(&run_with_state(&scene, false), 3);
    assert!(equal(&scene));
    drop(there);
    is_remembered(&run_with_state(&scene, false));
}

/// What the tests above look at tells of a mirror that knows nothing of the last run.
#[test]
fn a_run_without_a_state_knows_of_no_mount_points_before_it() {
    let scene = Scene::new();
    let Some(there) = mounted(&scene, "m") else { return };
    assert!(scene.run().problems.is_empty());
    there.unmount(false);
    assert_eq!((scene.run().counts.deleted, scene.d("m/f").exists()), (3, false));
}

/// Two directories, one in the other by what is mounted, are refused before anything is touched.
#[test]
fn one_directory_inside_the_other_by_a_mount_is_refused() {
    let scene = Scene::new();
    let at = |name: &str| scene.scratch.path().join(name);
    for dir in ["data/www/sub", "src", "elsewhere"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    fs::write(at("data/www/sub/f"), "v").unwrap();
    let Some(_src) = Mounted::bind(&at("data/www"), &at("src")) else { return };
    for (source, dest) in [
        ("src", "data"),
        ("data", "src"),
        ("src", "data/www"),
        ("src/sub", "data"),
        ("data", "src/sub"),
        ("data", "src/new"),
    ] {
        let error = open(&at(source), &at(dest), &MirrorOptions::default()).unwrap_err();
        assert!(matches!(error, MirrorError::Overlap { .. }), "{source} {dest}: {error}");
    }
    for backup in ["data/www/backup", "data"] {
        let options = MirrorOptions { backup_dir: Some(at(backup)), ..MirrorOptions::default() };
        let error = open(&at("src"), &at("elsewhere"), &options).unwrap_err();
        assert!(matches!(error, MirrorError::Backup { .. }), "{backup}: {error}");
    }
    assert!(at("data/www/sub/f").exists() && !at("data/www/backup").exists() && !at("src/new").exists());
}

/// What is mounted below one of them afterwards, or is only a part of it, is met on the walk.
#[test]
fn a_part_of_one_directory_met_in_the_other_is_touched_by_nothing() {
    for live in [false, true] {
        let scene = Scene::new();
        for dir in ["m", "deep/part"] {
            fs::create_dir_all(scene.s(dir)).unwrap();
        }
        fs::create_dir_all(scene.d("deep/er/part")).unwrap();
        fs::write(scene.d("deep/er/part/f"), "v").unwrap();
        let (from, there) = if live { ("deep/er/part", scene.s("m")) } else { ("deep", scene.s("m")) };
        let Some(_part) = Mounted::bind(&scene.d(from), &there) else { return };
        fs::write(scene.d("extra"), "v").unwrap();
        let mut mirror = scene.open();
        let outcome = match live {
            true => mirror.watch(Stopper::default(), &mut |_| {}).unwrap(),
            false => mirror.once(&mut |_| {}),
        };
        assert!(outcome.problems.iter().any(|(_, problem)| problem.is_overlap()), "{:?}", outcome.problems);
        assert_eq!(fs::read(scene.d("deep/er/part/f")).unwrap(), b"v");
        assert!(scene.d("extra").exists() || live);
    }
}

#[test]
fn the_destination_met_in_the_source_by_a_later_mount_is_no_source() {
    let scene = Scene::new();
    fs::create_dir(scene.s("m")).unwrap();
    fs::write(scene.d("extra"), "v").unwrap();
    let mut mirror = scene.open();
    let Some(_part) = Mounted::bind(&scene.d(""), &scene.s("m")) else { return };
    let outcome = mirror.once(&mut |_| {});
    assert!(outcome.problems.iter().any(|(_, problem)| problem.is_overlap()), "{:?}", outcome.problems);
    assert!(scene.d("extra").exists() && !scene.d("m").exists());
}

#[test]
fn the_source_met_in_the_destination_by_a_later_mount_is_touched_by_nothing() {
    let scene = Scene::new();
    fs::write(scene.s("f"), "v").unwrap();
    for dir in ["extra", "both"] {
        fs::create_dir_all(scene.d(dir).join("in")).unwrap();
    }
    fs::create_dir_all(scene.s("both/in")).unwrap();
    for at in ["extra/in", "both/in"] {
        let mut mirror = scene.open();
        let Some(_part) = Mounted::bind(&scene.s(""), &scene.d(at)) else { return };
        let outcome = mirror.once(&mut |_| {});
        assert!(outcome.problems.iter().any(|(_, problem)| problem.is_overlap()), "{at}: {:?}", outcome.problems);
        assert!(scene.s("f").exists() && scene.d(at).join("f").exists(), "{at}");
    }
}

/// A directory of the destination that has to go, or to become a file, with something mounted in it.
#[test]
fn what_is_mounted_in_a_directory_that_has_to_go_is_named_and_stays() {
    for (becomes_file, dry_run) in [(true, false), (true, true), (false, false), (false, true)] {
        let scene = Scene::new();
        fs::create_dir_all(scene.d("p/deep/m")).unwrap();
        fs::write(scene.d("p/beside"), "v").unwrap();
        let Some(there) = Mounted::tmpfs(&scene.d("p/deep/m"), "1m") else { return };
        fs::write(scene.d("p/deep/m/f"), "v").unwrap();
        fs::write(scene.s("other"), "v").unwrap();
        if becomes_file {
            fs::write(scene.s("p"), "file").unwrap();
        }
        let options = MirrorOptions { dry_run, ..MirrorOptions::default() };
        for _ in 0..2 {
            let (outcome, _) = scene.told(options.clone());
            let problems: Vec<String> = outcome.problems.iter().map(|(_, problem)| problem.to_string()).collect();
            assert!(problems.len() == 1 && problems[0].starts_with("p/deep/m is a mount point"), "{problems:?}");
            assert!(scene.d("p/deep/m/f").exists());
            assert!(!becomes_file || scene.d("p/beside").exists());
            let names = fs::read_dir(scene.d("")).unwrap().count();
            assert_eq!(names, 1 + usize::from(!dry_run), "nothing is left over");
        }
        there.unmount(false);
        assert!(dry_run || scene.run().problems.is_empty() && equal(&scene));
    }
}

/// An overlay with something in its lower layer; `None` where this user may not mount.
fn overlay(scene: &Scene, fill: impl FnOnce(&std::path::Path)) -> Option<(Mounted, Mounted)> {
    let at = |name: &str| scene.scratch.path().join(name);
    fs::create_dir(at("layers")).unwrap();
    // Of a file system of its own, for an overlay is no layer of another one.
    let layers = Mounted::tmpfs(&at("layers"), "8m")?;
    for layer in ["lower", "upper", "work"] {
        fs::create_dir(at("layers").join(layer)).unwrap();
    }
    fill(&at("layers/lower"));
    let [lower, upper, work] = ["lower", "upper", "work"].map(|layer| at("layers").join(layer).display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=off");
    let merged = Mounted::with(&["-t", "overlay", "-o", &options, "lockstep-test"], &scene.d(""))?;
    Some((merged, layers))
}

#[test]
fn m2_1_a_directory_of_a_lower_layer_becomes_a_file_or_a_link_or_goes() {
    for backup in [false, true] {
        let scene = Scene::new();
        let made = overlay(&scene, |lower| {
            for dir in ["file", "link", "gone", "stays"] {
                fs::create_dir_all(lower.join(dir).join("in")).unwrap();
                fs::write(lower.join(dir).join("in/f"), "of the lower layer").unwrap();
            }
            fs::write(lower.join("dir"), "a file").unwrap();
        });
        let Some((_merged, _layers)) = made else { return };
        fs::write(scene.s("file"), "new").unwrap();
        std::os::unix::fs::symlink("file", scene.s("link")).unwrap();
        fs::create_dir_all(scene.s("dir/in")).unwrap();
        fs::create_dir_all(scene.s("stays/in")).unwrap();
        let kept = scene.scratch.path().join("kept");
        let options = MirrorOptions { backup_dir: backup.then(|| kept.clone()), ..MirrorOptions::default() };
        let (outcome, told) = scene.told(options);
        assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
        scene.assert_equal();
        assert!(
            told.contains(&(Action::Updated, "file".into())) && told.contains(&(Action::Deleted, "file/in/f".into()))
        );
        assert!(!backup || fs::read(kept.join("file/in/f")).unwrap() == b"of the lower layer");
        assert!(scene.run().is_quiet());
    }
}
