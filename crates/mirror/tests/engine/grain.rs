//! A destination that keeps coarser times than the source: what is equal, as far as it can be, is not touched again. And times
//! that nobody can tell from each other.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mirror::{Keep, MirrorOptions, Report, Standing, State, Stopper};

use crate::away::Mounted;
use crate::live::{StopAtEnd, until};
use crate::scene::{Scene, stamp};

/// Who tries again for ever does so more often.
const REST: Duration = Duration::from_millis(500);
const NS: i64 = 1_234_567_890_123_456_789;

/// A source with an entry of each kind, and a destination with whole seconds; `None` where that cannot be made here.
fn coarse(scene: &Scene) -> Option<Mounted> {
    let disk = Mounted::coarse(&scene.scratch.path().join("image"), &scene.d(""))?;
    fs::remove_dir(scene.d("lost+found")).unwrap();
    fs::create_dir_all(scene.s("dir/in")).unwrap();
    symlink("dir", scene.s("link")).unwrap();
    for file in ["a", "dir/b", "dir/in/c"] {
        fs::write(scene.s(file), file).unwrap();
    }
    for path in ["a", "dir/b", "dir/in/c", "link", "dir/in", "dir", ""] {
        let mode = if path.contains("dir") || path.is_empty() { 0o755 } else { 0o644 };
        stamp(&scene.s(path), mode, NS);
    }
    Some(disk)
}

#[test]
fn a_destination_with_whole_seconds_is_equal_after_one_run_and_what_differs_is_found() {
    for keep in [Keep::NOTHING, Keep::ARCHIVE] {
        let scene = Scene::new();
        let Some(_disk) = coarse(&scene) else { return };
        let options = || MirrorOptions { keep, ..MirrorOptions::default() };
        let (first, _) = scene.told(options());
        assert_eq!((first.counts.copied, first.problems.len()), (6, 0), "{:?}", first.problems);
        let (second, told) = scene.told(options());
        assert!(second.is_quiet() && second.counts.skipped == 7, "{told:?}");
        // A second later, and one that has another size in the same second.
        fs::write(scene.s("a"), "A").unwrap();
        stamp(&scene.s("a"), 0o644, NS + 1_000_000_000);
        fs::write(scene.s("dir/b"), "longer").unwrap();
        stamp(&scene.s("dir/b"), 0o644, NS + 1);
        stamp(&scene.s("dir"), 0o755, NS);
        let (third, told) = scene.told(options());
        assert_eq!(third.counts.files_updated, 2, "{told:?}");
        assert_eq!(
            (fs::read(scene.d("a")).unwrap(), fs::read(scene.d("dir/b")).unwrap()),
            (b"A".into(), b"longer".into())
        );
        assert!(scene.told(options()).0.is_quiet());
    }
}

/// 2050, and nearly all that nanoseconds can count to; small inodes end in 2038.
const LATE_NS: [i64; 2] = [2_524_608_000_123_456_789, 9_000_000_000_000_000_000];

#[test]
fn what_is_of_a_year_that_the_destination_has_not_is_equal_after_one_run_and_what_differs_is_found() {
    for keep in [Keep::NOTHING, Keep::ARCHIVE] {
        let scene = Scene::new();
        let Some(_disk) = coarse(&scene) else { return };
        for (n, path) in ["a", "dir/b", "link", "dir"].into_iter().enumerate() {
            stamp(&scene.s(path), if path == "dir" { 0o755 } else { 0o644 }, LATE_NS[n % 2]);
        }
        let options = || MirrorOptions { keep, ..MirrorOptions::default() };
        assert!(scene.told(options()).0.problems.is_empty());
        let (second, told) = scene.told(options());
        assert!(second.is_quiet() && second.counts.skipped == 7, "{told:?}");
        // Another year that is not there either, and the same size.
        fs::write(scene.s("a"), "A").unwrap();
        stamp(&scene.s("a"), 0o644, LATE_NS[1]);
        let (third, told) = scene.told(options());
        assert_eq!(third.counts.files_updated, 1, "{told:?}");
        assert_eq!(fs::read(scene.d("a")).unwrap(), b"A");
        assert!(scene.told(options()).0.is_quiet());
    }
}

#[test]
fn m2_7_a_destination_with_whole_seconds_comes_to_rest() {
    comes_to_rest(&[]);
}

#[test]
fn m2_7_a_destination_that_ends_before_the_times_of_the_source_comes_to_rest() {
    comes_to_rest(&["a", "link", "dir"]);
}

fn comes_to_rest(late: &[&str]) {
    let scene = Scene::new();
    let Some(_disk) = coarse(&scene) else { return };
    for path in late {
        stamp(&scene.s(path), if *path == "dir" { 0o755 } else { 0o644 }, LATE_NS[0]);
    }
    let seen = Mutex::new(Standing::default());
    let stopper = Stopper::default();
    std::thread::scope(|scope| {
        let (seen, stop, scene) = (&seen, stopper.clone(), &scene);
        let live = scope.spawn(move || {
            let mut mirror = crate::scene::open(&scene.s(""), &scene.d(""), &MirrorOptions::default()).unwrap();
            let report = &mut |report: Report<'_>| {
                if let Report::Standing(now) = report {
                    *seen.lock().unwrap() = now.clone();
                }
            };
            mirror.watch(stop, report).unwrap();
        });
        let ended = StopAtEnd(stopper);
        until("the copy", || seen.lock().unwrap().state == State::InStep);
        fs::write(scene.s("dir/b"), "changed").unwrap();
        until("a change", || fs::read(scene.d("dir/b")).is_ok_and(|now| now == b"changed"));
        let last = Cell::new((0, Instant::now()));
        until("it to come to rest", || {
            let passes = seen.lock().unwrap().passes;
            if passes != last.get().0 {
                last.set((passes, Instant::now()));
            }
            last.get().1.elapsed() > REST
        });
        drop(ended);
        live.join().unwrap();
    });
}

/// Beyond what nanoseconds can count to.
#[test]
fn m2_1_a_file_from_after_2262_that_changes_nothing_but_its_content_is_copied() {
    let scene = Scene::new();
    let write = |content: &str, s: i64| {
        fs::write(scene.s("a"), content).unwrap();
        let time = rustix::fs::Timespec { tv_sec: s, tv_nsec: 5 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::utimensat(rustix::fs::CWD, scene.s("a"), &times, flags).unwrap();
        fs::metadata(scene.s("a")).unwrap().mtime() == s
    };
    let (in_2300, in_2400) = (10_413_792_000, 13_569_465_600);
    if !write("one", in_2300) {
        return eprintln!("not run: the disk here knows of no such times");
    }
    for (content, s) in [("one", in_2300), ("two", in_2300), ("six", in_2400), ("ten", 9_223_372_037)] {
        assert!(write(content, s));
        assert!(scene.run().problems.is_empty());
        assert_eq!(fs::read_to_string(scene.d("a")).unwrap(), content);
        let (again, told) = scene.told(MirrorOptions::default());
        assert!(again.is_quiet(), "{told:?}");
    }
}
