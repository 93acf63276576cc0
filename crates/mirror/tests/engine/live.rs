//! The live mirror follows the source and repairs the destination.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mirror::{Action, Dirty, DiskSource, Engine, MirrorOptions, Options, Problem, Report, Source, Stopper, Writing};
use tree::{Dir, Name, RelPath};

use crate::scene::{Make, Scene, as_the_disk, look, rel, stamp};

/// Waits until `done`, or fails with what it waited for.
pub(crate) fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs `story` beside a live mirror, with what it noted.
pub(crate) fn live(scene: &Scene, story: impl FnOnce(&Mutex<Vec<String>>)) {
    live_with(scene, MirrorOptions::default(), story);
}

/// The same with `options`; with what it noted come the words of what failed, and `deleted` with what it deleted.
pub(crate) fn live_with(scene: &Scene, options: MirrorOptions, story: impl FnOnce(&Mutex<Vec<String>>)) {
    let notes = Mutex::new(Vec::new());
    let watching = AtomicBool::new(false);
    let stopper = Stopper::default();
    std::thread::scope(|scope| {
        let stop = stopper.clone();
        let (notes, watching) = (&notes, &watching);
        let mirror = scope.spawn(move || {
            let mut mirror = crate::scene::open(&scene.s(""), &scene.d(""), &options).unwrap();
            mirror
                .watch(stop, &mut |report| match report {
                    Report::Watching => watching.store(true, Ordering::SeqCst),
                    Report::Note(note) => notes.lock().unwrap().push(note),
                    Report::Event(event) if event.action == Action::Deleted => {
                        notes.lock().unwrap().push(format!("deleted {}", event.path));
                    }
                    Report::Event(event) => notes.lock().unwrap().extend(event.error.map(ToString::to_string)),
                    Report::Pass(_) | Report::Standing(_) => {}
                })
                .unwrap();
        });
        let ended = StopAtEnd(stopper);
        until("the first pass", || watching.load(Ordering::SeqCst));
        story(notes);
        drop(ended);
        mirror.join().unwrap();
    });
}

/// Ends a mirror however its story ends.
pub(crate) struct StopAtEnd(pub(crate) Stopper);
impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stop();
    }
}

pub(crate) fn equal(scene: &Scene) -> bool {
    std::panic::catch_unwind(|| look(&scene.s("")) == look(&scene.d(""))).unwrap_or(false)
}

#[test]
fn m2_7_changes_are_followed_as_they_happen() {
    let scene = Scene::new();
    fs::write(scene.s("a"), "one").unwrap();
    live(&scene, |_| {
        fs::write(scene.s("a"), "two").unwrap();
        until("an edit", || equal(&scene));
        for kind in Make::ALL {
            kind.at(&scene.s("x"));
            until("a new entry", || equal(&scene));
            fs::remove_dir_all(scene.s("x")).or_else(|_| fs::remove_file(scene.s("x"))).ok();
            until("its removal", || equal(&scene));
        }
        fs::create_dir_all(scene.s("deep/er/still")).unwrap();
        fs::write(scene.s("deep/er/still/f"), "f").unwrap();
        until("nested directories", || equal(&scene));
        fs::rename(scene.s("deep"), scene.s("moved")).unwrap();
        until("a rename", || equal(&scene));
        stamp(&scene.s("moved/er"), 0o711, 12);
        until("a mode and a time", || equal(&scene));
        for side in [scene.s("moved"), scene.d("moved")] {
            fs::write(side.join("came"), "").unwrap();
            fs::remove_file(side.join("came")).unwrap();
            until("the time of a directory in which a name came and went", || equal(&scene));
        }
        fs::remove_dir_all(scene.s("moved")).unwrap();
        fs::remove_file(scene.s("a")).unwrap();
        until("everything being removed", || equal(&scene));
    });
}

#[test]
fn a_file_rewritten_with_its_old_size_and_time_is_followed() {
    let scene = Scene::new();
    fs::write(scene.s("a"), "one").unwrap();
    stamp(&scene.s("a"), 0o644, 99);
    live(&scene, |_| {
        until("the copy", || equal(&scene));
        fs::write(scene.s("a"), "two").unwrap();
        stamp(&scene.s("a"), 0o644, 99);
        until("the other content", || fs::read(scene.d("a")).is_ok_and(|bytes| bytes == b"two"));
    });
}

#[test]
fn what_is_changed_at_the_destination_is_repaired() {
    let scene = Scene::new();
    Make::FullDir.at(&scene.s("x"));
    live(&scene, |_| {
        until("the copy", || equal(&scene));
        fs::write(scene.d("x/a"), "meddled").unwrap();
        until("an edit to be reverted", || equal(&scene));
        fs::write(scene.d("x/in/extra"), "meddled").unwrap();
        fs::remove_file(scene.d("x/a")).unwrap();
        until("an addition and a removal to be reverted", || equal(&scene));
        // The repair may be faster than the removal.
        until("a tree to be removed", || fs::remove_dir_all(scene.d("x")).is_ok());
        until("a removed tree to be there again", || equal(&scene));
        fs::write(scene.d("x/a"), "b").unwrap();
        stamp(&scene.d("x/a"), 0o640, 1_234_567_890_123_456_789);
        until("an edit that hides itself to be reverted", || equal(&scene));
    });
}

#[test]
fn a_source_that_goes_away_deletes_nothing_and_is_followed_again() {
    let scene = Scene::new();
    Make::FullDir.at(&scene.s("x"));
    live(&scene, |notes| {
        until("the copy", || equal(&scene));
        let away = scene.scratch.path().join("away");
        fs::rename(scene.s(""), &away).unwrap();
        fs::create_dir(scene.s("")).unwrap();
        until("a word about it", || notes.lock().unwrap().iter().any(|note| note.contains("nothing is deleted")));
        assert!(scene.d("x/in/deep/b").exists());
        fs::remove_dir(scene.s("")).unwrap();
        fs::write(away.join("new"), "new").unwrap();
        fs::rename(&away, scene.s("")).unwrap();
        until("it to be followed again", || equal(&scene));
    });
}

#[test]
fn a_storm_of_changes_ends_equal() {
    let scene = Scene::new();
    live(&scene, |_| {
        for round in 0..40u32 {
            for n in 0..20u32 {
                let path = scene.s(&format!("d{}/f{n}", (round + n) % 5));
                match (round * 7 + n) % 4 {
                    0 | 1 => {
                        fs::create_dir_all(path.parent().unwrap()).unwrap();
                        fs::write(&path, format!("{round} {n}")).unwrap();
                    }
                    2 => drop(fs::remove_file(&path)),
                    _ => drop(fs::rename(&path, scene.s(&format!("moved{n}")))),
                }
            }
            if round % 9 == 0 {
                fs::remove_dir_all(scene.s("d1")).ok();
                fs::rename(scene.s("d2"), scene.s("d1")).ok();
            }
        }
        until("the storm to be over", || equal(&scene));
    });
}

/// Of a file that keeps changing.
const RESTLESS_BYTES: usize = 1 << 20;

/// As on a disk so slow that the file changes while it is copied, however busy this machine is.
fn slow() -> MirrorOptions {
    let writing = Writing { bytes_per_s: std::num::NonZeroU64::new(8 << 20), ..Writing::default() };
    MirrorOptions { writing, ..MirrorOptions::default() }
}

/// Writes to `path`, without a pause, while `story` goes on.
fn restless<T>(path: &Path, story: impl FnOnce() -> T) -> T {
    writing_on(path, |file, n| file.write_at(&n.to_le_bytes(), n % 1024).map(drop), story)
}

/// Does `write` to `path`, for one number after the other without a pause, while `story` goes on.
fn writing_on<T>(
    path: &Path,
    write: impl Fn(&fs::File, u64) -> std::io::Result<()> + Sync,
    story: impl FnOnce() -> T,
) -> T {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0u64.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                write(&file, n).unwrap();
            }
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(story));
        done.store(true, Ordering::SeqCst);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn is_unsettled(outcome: &mirror::Outcome, path: &str) -> bool {
    outcome.problems.iter().any(|(at, problem)| *at == rel(path) && matches!(problem, Problem::Unsettled(_)))
}

#[test]
fn a_file_that_keeps_changing_is_tried_again_and_in_the_end_has_failed() {
    for other_failure in [false, true] {
        let scene = Scene::new();
        fs::create_dir(scene.s("new")).unwrap();
        for file in ["db", "new/db"] {
            fs::write(scene.s(file), vec![1; RESTLESS_BYTES]).unwrap();
        }
        // Reserved, and so never copied.
        let reserved = ".lockstep-tmp-0123456789abcdef";
        if other_failure {
            fs::write(scene.s(reserved), "").unwrap();
        }
        let (outcome, told) = restless(&scene.s("db"), || restless(&scene.s("new/db"), || scene.told(slow())));
        let times = |action, path: &str| told.iter().filter(|told| **told == (action, path.into())).count();
        for file in ["db", "new/db"] {
            assert!(is_unsettled(&outcome, file) && !scene.d(file).exists(), "{:?}", outcome.problems);
            assert_eq!((times(Action::Unsettled, file), times(Action::Failed, file)), (3, 1), "{told:?}");
        }
        assert_eq!(times(Action::Failed, reserved), usize::from(other_failure), "told once, however often it is tried");
        assert_eq!(outcome.counts.failed, 2 + u64::from(other_failure));
        let problem = outcome.problems.iter().find(|(at, _)| *at == rel("db")).unwrap().1.to_string();
        assert!(problem.contains("db kept changing") && problem.contains("run this again"), "{problem}");
    }
}

/// As logs do. Nothing of what is there changes.
#[test]
fn a_file_that_never_stops_growing_is_copied_as_it_was_at_one_moment() {
    let scene = Scene::new();
    fs::create_dir(scene.s("new")).unwrap();
    let content: Vec<u8> = (0..RESTLESS_BYTES).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for file in ["log", "new/log"] {
        fs::write(scene.s(file), &content).unwrap();
    }
    fs::write(scene.d("log"), "an older one").unwrap();
    // Slowly enough for it not to outgrow the disk.
    let append = |file: &fs::File, n: u64| {
        std::thread::yield_now();
        file.write_at(&n.to_le_bytes(), RESTLESS_BYTES as u64 + 8 * n).map(drop)
    };
    let run = || scene.told(slow());
    let (outcome, told) = writing_on(&scene.s("log"), append, || writing_on(&scene.s("new/log"), append, run));
    assert!(outcome.problems.is_empty() && outcome.unsettled.is_empty(), "{:?}", outcome.problems);
    assert!(told.contains(&(Action::Updated, "log".into())), "{told:?}");
    for file in ["log", "new/log"] {
        let (whole, copied) = (fs::read(scene.s(file)).unwrap(), fs::read(scene.d(file)).unwrap());
        assert!(copied.len() >= content.len() && copied.len() < whole.len() && whole.starts_with(&copied), "{file}");
    }
    // Once it rests the rest follows.
    assert!(scene.run().problems.is_empty());
    scene.assert_equal();
}

/// One that is written to at both ends is no log.
#[test]
fn a_file_that_grows_and_changes_at_its_begin_is_not_taken_half_way() {
    let scene = Scene::new();
    fs::write(scene.s("db"), vec![1; RESTLESS_BYTES]).unwrap();
    let write = |file: &fs::File, n: u64| {
        file.write_at(&n.to_le_bytes(), 0)?;
        file.write_at(&n.to_le_bytes(), RESTLESS_BYTES as u64 + n % (1 << 24)).map(drop)
    };
    let (outcome, _) = writing_on(&scene.s("db"), write, || scene.told(slow()));
    assert!(is_unsettled(&outcome, "db") && !scene.d("db").exists(), "{:?}", outcome.problems);
}

#[test]
fn m2_7_a_file_that_keeps_changing_to_the_end_has_failed() {
    let scene = Scene::new();
    fs::write(scene.s("db"), vec![1; RESTLESS_BYTES]).unwrap();
    let stopper = Stopper::default();
    let failed = Mutex::new(Vec::new());
    let outcome = restless(&scene.s("db"), || {
        let mut mirror = crate::scene::open(&scene.s(""), &scene.d(""), &slow()).unwrap();
        let drain = stopper.clone();
        mirror
            .watch(stopper, &mut |report| match report {
                // In this very moment, that is in order as well.
                Report::Watching => drain.drain(),
                Report::Event(event) if event.action == Action::Failed => {
                    failed.lock().unwrap().push(event.path.to_string());
                }
                _ => {}
            })
            .unwrap()
    });
    assert!(is_unsettled(&outcome, "db"), "{:?}", outcome.problems);
    assert_eq!(*failed.lock().unwrap(), ["db"]);
}

/// A disk source some entries of which are in the middle of a change.
struct Unsettled<'a>(DiskSource, &'a [&'a str]);

impl Source for Unsettled<'_> {
    as_the_disk!(list rest);
    fn is_unsettled(&mut self, dir: &RelPath, name: &Name) -> bool {
        self.1.iter().any(|path| rel(path).split().is_some_and(|(d, n)| d == *dir && n == *name))
    }
}

/// Whoever says that a directory is unsettled brings back the directory alone, as after a change of its mode.
#[test]
fn m2_7_a_walk_goes_below_a_directory_that_is_unsettled() {
    let scene = Scene::new();
    for side in [scene.s("dir/below"), scene.d("dir/below"), scene.d("dir/extra")] {
        fs::create_dir_all(side).unwrap();
    }
    for file in ["dir/new", "dir/below/new", "held"] {
        fs::write(scene.s(file), "new").unwrap();
    }
    let disk = DiskSource::open(&scene.s(""), mirror::disk::DiskOptions::default()).unwrap();
    let mut engine = Engine::new(Dir::open_root(&scene.d("")).unwrap(), Options::default());
    let mut source = Unsettled(disk, &["dir", "dir/below", "held"]);
    let outcome = engine.reconcile(&mut source, &Dirty::everything(), &mut |_| {});
    assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
    assert!(scene.d("dir/new").exists() && scene.d("dir/below/new").exists() && !scene.d("dir/extra").exists());
    assert!(!scene.d("held").exists(), "what is unsettled is left alone");
}
