//! A directory that was renamed, and what is below it.

use super::{Scene, fs};
use mirror::dirty::{All, Dirty, Hint};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tree::{Name, RelPath};

fn path(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

/// A share with `d/f` and `d/e/g`, which nobody has touched for long enough to be taken at their word.
fn scene() -> Scene {
    let mut scene = Scene::new();
    fs::create_dir_all(scene.share().join("d/e")).unwrap();
    fs::write(scene.share().join("d/f"), "one").unwrap();
    fs::write(scene.share().join("d/e/g"), "two").unwrap();
    scene.look();
    scene
}

/// Waits until the last change of `d/e/g` is as old as has to be.
fn grow_old(scene: &Scene) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let changed = fs::metadata(scene.share().join("d/e/g")).unwrap();
    let old_ms = u128::try_from(changed.ctime() * 1000 + changed.ctime_nsec() / 1_000_000).unwrap() + 2_010;
    while SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() < old_ms {
        assert!(Instant::now() < deadline, "the clock stands still");
        std::thread::yield_now();
    }
}

/// What the watcher makes of `mv d n`; `named` is a file in it whose content an event named before. How many were read.
fn renamed(scene: &mut Scene, named: Option<&str>) -> u64 {
    fs::rename(scene.share().join("d"), scene.share().join("n")).unwrap();
    let before = scene.counts.read.load(Ordering::Relaxed);
    let mut dirty = Dirty::new();
    for name in ["d", "n"] {
        dirty.insert(&RelPath::root(), &Name::new(name.as_bytes()).unwrap(), Hint { content: true, by_event: true });
    }
    dirty.insert_removed(&RelPath::root(), &Name::new(*b"d").unwrap());
    dirty.insert_all(&path("n"), All { recursive: true, content: true });
    if let Some(named) = named {
        dirty.insert(&path("n"), &Name::new(named.as_bytes()).unwrap(), Hint { content: true, by_event: true });
    }
    scene.scanner.look(&dirty, |_, _| false, false).unwrap();
    scene.assert_same();
    scene.counts.read.load(Ordering::Relaxed) - before
}

#[test]
fn what_is_in_a_renamed_directory_is_not_read_again() {
    let mut scene = scene();
    grow_old(&scene);
    assert_eq!(renamed(&mut scene, None), 0);
    // And back, by what the index learnt of the first move.
    fs::rename(scene.share().join("n"), scene.share().join("d")).unwrap();
    let mut scene = scene.restarted();
    scene.look();
    scene.assert_same();
    assert_eq!(scene.counts.read.load(Ordering::Relaxed), 0);
}

#[test]
fn what_may_have_changed_in_a_renamed_directory_is_read() {
    // Changed a moment ago, so that an event may have named it under the old name.
    assert_eq!(renamed(&mut scene(), None), 2);
    let mut scene = scene();
    grow_old(&scene);
    // Another content under the old size and time: its change time tells.
    let (file, modified) = (scene.share().join("d/f"), fs::metadata(scene.share().join("d/f")).unwrap().modified());
    fs::write(&file, "ONE").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified.unwrap()).unwrap();
    assert_eq!(renamed(&mut scene, None), 1);
}

#[test]
fn what_an_event_named_in_a_renamed_directory_is_read_though_all_its_times_are_equal() {
    let mut scene = scene();
    grow_old(&scene);
    assert_eq!(renamed(&mut scene, Some("f")), 1);
}
