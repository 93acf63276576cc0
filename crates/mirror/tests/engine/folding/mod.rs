//! A destination whose disk takes names for one that differ in letter case, or in how an accent is written: no copy is lost to
//! it, and what has no place there is told.

mod disk;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mirror::{
    Action, Dirty, DiskSource, Engine, MirrorOptions, Options, Outcome, Policy, Problem, Report, Source, Standing,
    State, Stopper,
};
use tree::Dir;

use crate::choosing::options;
use crate::live::{StopAtEnd, equal, live_with, until};
use crate::scene::{Scene, as_the_disk, look, stamp};
use disk::{FoldingDisk, Manner};

/// The same letter in one piece, and in two.
const WHOLE: &str = "caf\u{e9}";
const PARTS: &str = "cafe\u{301}";
/// Who tries again for ever does so more often.
const REST: Duration = Duration::from_millis(500);

/// A scene whose destination is such a disk; `None` where none can be mounted.
fn folding(manner: Manner) -> Option<(Scene, FoldingDisk)> {
    let scene = Scene::new();
    let disk = FoldingDisk::at(&scene.d(""), manner)?;
    Some((scene, disk))
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    stamp(path, 0o644, 1_234_567_890_000_000_000);
}

/// The names in a directory, as they are spelt.
fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[track_caller]
fn is_clean(outcome: &Outcome) {
    assert!(outcome.problems.is_empty() && outcome.held.is_none(), "{:?}", outcome.problems);
}

fn collisions(outcome: &Outcome) -> Vec<String> {
    let collided = |problem: &Problem| matches!(problem, Problem::Collision { .. });
    assert!(outcome.problems.iter().all(|(_, problem)| collided(problem)), "{:?}", outcome.problems);
    outcome.problems.iter().map(|(path, _)| path.to_string()).collect()
}

#[test]
fn m2_1_a_name_of_which_only_the_spelling_changes_is_renamed_and_nothing_is_copied_or_deleted() {
    let Some((scene, _disk)) = folding(Manner::Folds) else { return };
    write(&scene.s("a.txt"), "one");
    write(&scene.s("dir/in/f"), "two");
    write(&scene.s(WHOLE), "three");
    write(&scene.s("stays"), "four");
    is_clean(&scene.run());
    fs::rename(scene.s("a.txt"), scene.s("A.txt")).unwrap();
    fs::rename(scene.s("dir"), scene.s("Dir")).unwrap();
    fs::rename(scene.s("Dir/in/f"), scene.s("Dir/in/F")).unwrap();
    fs::rename(scene.s(WHOLE), scene.s(PARTS)).unwrap();
    // A dry run tells it, and does nothing.
    let dry = MirrorOptions { dry_run: true, ..MirrorOptions::default() };
    let before = look(&scene.d(""));
    let (outcome, told) = scene.told(dry);
    for name in ["A.txt", "Dir", "Dir/in/F", PARTS] {
        assert!(told.contains(&(Action::Updated, name.into())), "{name}: {told:?}");
    }
    assert_eq!((outcome.counts.copied, outcome.counts.deleted), (0, 0), "{:?}", outcome.counts);
    assert_eq!(look(&scene.d("")), before);
    let outcome = scene.run();
    is_clean(&outcome);
    assert_eq!((outcome.counts.copied, outcome.counts.deleted), (0, 0), "{:?}", outcome.counts);
    scene.assert_equal();
    assert!(scene.run().is_quiet());
}

/// The next file of that spelling may have size and time of the one before.
#[test]
fn m2_1_a_file_that_took_another_ones_place_in_another_spelling_is_read() {
    let Some((scene, _disk)) = folding(Manner::Folds) else { return };
    write(&scene.s("name"), "one");
    is_clean(&scene.run());
    fs::remove_file(scene.s("name")).unwrap();
    write(&scene.s("Name"), "two");
    is_clean(&scene.run());
    scene.assert_equal();
}

#[test]
fn m2_1_of_two_names_that_fall_together_one_is_whole_and_the_other_is_told() {
    // In directories that are there, in one that is made, and in one that is found.
    let Some((scene, _disk)) = folding(Manner::Folds) else { return };
    fs::create_dir(scene.d("there")).unwrap();
    for dir in ["", "there", "made/deep"] {
        let at = |name: &str| scene.s(dir).join(name);
        write(&at("a"), "small");
        write(&at("A"), "LARGE");
        write(&at("d/small"), "of d");
        write(&at("D/large"), "of D");
        write(&at(WHOLE), "whole");
        write(&at(PARTS), "parts");
        std::os::unix::fs::symlink("small", at("l")).unwrap();
        std::os::unix::fs::symlink("large", at("L")).unwrap();
        write(&at("beside"), "beside");
    }
    let mut before = None;
    for run in 0..3 {
        let outcome = scene.run();
        let told = collisions(&outcome);
        assert_eq!(told.len(), 12, "run {run}: {told:?}");
        let advised = |problem: &Problem| problem.to_string().ends_with("give one of them another name at the source");
        assert!(outcome.problems.iter().all(|(_, problem)| advised(problem)), "{:?}", outcome.problems);
        for dir in ["", "there", "made/deep"] {
            let there = names(&scene.d(dir));
            let own = there.iter().filter(|name| !["there", "made"].contains(&name.as_str()));
            assert_eq!(own.count(), 5, "run {run}: {there:?}");
        }
        // What is there is what bears that very name at the source.
        let (source, dest) = (look(&scene.s("")), look(&scene.d("")));
        for (path, seen) in dest.iter().filter(|(_, (kind, ..))| *kind != 'd') {
            assert_eq!(source.get(path), Some(seen), "run {run}: {}", String::from_utf8_lossy(path));
        }
        // And stays it.
        assert_eq!(before.get_or_insert_with(|| dest.clone()), &dest, "run {run}");
    }
    // Once one of them goes, the other comes.
    let there = names(&scene.d(""));
    for name in ["a", "A", "l", "L", WHOLE, PARTS, "d", "D"].into_iter().filter(|name| there.contains(*name)) {
        let gone = scene.s(name);
        if gone.is_dir() && !gone.is_symlink() { fs::remove_dir_all(gone) } else { fs::remove_file(gone) }.unwrap();
    }
    let told = collisions(&scene.run());
    assert_eq!(told.len(), 8, "{told:?}");
    for name in names(&scene.s("")) {
        assert!(names(&scene.d("")).contains(&name), "{name}");
    }
    assert_eq!(fs::read(scene.d("beside")).unwrap(), b"beside");
}

#[test]
fn m2_3_what_is_extra_goes_and_what_is_left_out_stays_however_it_is_spelt() {
    let Some((scene, _disk)) = folding(Manner::Folds) else { return };
    write(&scene.s("Kept"), "of the source");
    write(&scene.s("other"), "x");
    write(&scene.d("kept"), "left alone");
    write(&scene.d("extra"), "x");
    let outcome = scene.told(options(&["kept"], false, false)).0;
    assert_eq!(collisions(&outcome), ["Kept"]);
    assert!(outcome.problems[0].1.to_string().contains("or that one at the destination"), "{:?}", outcome.problems);
    assert_eq!(fs::read(scene.d("kept")).unwrap(), b"left alone");
    assert_eq!(names(&scene.d("")), BTreeSet::from(["kept".into(), "other".into()]));
}

/// Where the destination's disk fails, or the mirror is killed, when a directory has lost the one spelling and not got the other yet.
#[test]
fn m2_3_what_was_between_two_spellings_gets_its_name_back_with_all_that_is_left_alone_in_it() {
    let keeping = MirrorOptions { policy: Policy { delete: false, ..Policy::default() }, ..MirrorOptions::default() };
    for options in [options(&["/Dir/mine"], false, false), options(&["mine"], false, false), keeping] {
        let Some((scene, disk)) = folding(Manner::Folds) else { return };
        write(&scene.s("dir/f"), "one");
        write(&scene.s("stays"), "two");
        is_clean(&scene.run());
        write(&scene.d("dir/mine"), "only here");
        fs::rename(scene.s("dir"), scene.s("Dir")).unwrap();
        let begun = |outcome: &Outcome| assert!(!outcome.problems.is_empty() && outcome.counts.copied == 0);
        disk.fails(true);
        begun(&scene.told(options.clone()).0);
        assert_eq!(names(&scene.d("")), BTreeSet::from([".lockstep-respelt-dir".into(), "stays".into()]));
        // The next one has no more luck, and one that does nothing tells of nothing that is deleted.
        begun(&scene.told(options.clone()).0);
        assert_eq!(scene.told(MirrorOptions { dry_run: true, ..options.clone() }).0.counts.deleted, 0);
        disk.fails(false);
        // Something else has that name by now.
        fs::create_dir(scene.d("DIR")).unwrap();
        let problems = scene.told(options.clone()).0.problems;
        let left = problems.iter().all(|(_, problem)| matches!(problem, Problem::Respelt { .. }));
        assert!(left && !problems.is_empty(), "{problems:?}");
        assert_eq!(fs::read(scene.d(".lockstep-respelt-dir/mine")).unwrap(), b"only here");
        fs::remove_dir_all(scene.d("Dir")).unwrap();
        let outcome = scene.told(options.clone()).0;
        is_clean(&outcome);
        assert_eq!((outcome.counts.copied, outcome.counts.deleted), (0, 0), "{:?}", outcome.counts);
        assert_eq!(fs::read(scene.d("Dir/mine")).unwrap(), b"only here");
        assert_eq!(names(&scene.d("")), BTreeSet::from(["Dir".into(), "stays".into()]));
    }
}

#[test]
fn m2_7_live_what_was_between_two_spellings_when_the_disk_failed_gets_its_name() {
    let Some((scene, disk)) = folding(Manner::Folds) else { return };
    write(&scene.s("dir/f"), "one");
    is_clean(&scene.run());
    write(&scene.d("dir/mine"), "only here");
    live_with(&scene, options(&["mine"], false, false), |seen| {
        disk.fails(true);
        fs::rename(scene.s("dir"), scene.s("Dir")).unwrap();
        until("a word about it", || {
            seen.lock().unwrap().iter().any(|note| note.contains("could not get that name back"))
        });
        disk.fails(false);
        until("its name", || names(&scene.d("")) == BTreeSet::from(["Dir".into()]));
        write(&scene.s("Dir/f"), "changed");
        until("a change in it", || fs::read(scene.d("Dir/f")).is_ok_and(|now| now == b"changed"));
        assert_eq!(fs::read(scene.d("Dir/mine")).unwrap(), b"only here");
    });
}

/// A source that cannot say yet what is deleted, as that of an agent before it knows the whole list.
struct TooEarly(DiskSource);

impl Source for TooEarly {
    as_the_disk!(list rest);
    fn check_pin(&mut self) -> Result<(), Problem> {
        Err(Problem::SourceUnknown)
    }
}

/// It may be that the source has both.
#[test]
fn nothing_is_renamed_before_it_is_known_what_is_deleted() {
    let Some((scene, _disk)) = folding(Manner::Folds) else { return };
    write(&scene.s("Name"), "of the source");
    write(&scene.d("name"), "not known yet");
    let source = DiskSource::open(&scene.s(""), mirror::disk::DiskOptions::default()).unwrap();
    let mut engine = Engine::new(Dir::open_root(&scene.d("")).unwrap(), Options::default());
    engine.reconcile(&mut TooEarly(source), &Dirty::everything(), &mut |_| {});
    assert_eq!(fs::read(scene.d("name")).unwrap(), b"not known yet");
    assert_eq!(names(&scene.d("")), BTreeSet::from(["name".into()]));
    is_clean(&scene.run());
    scene.assert_equal();
}

#[test]
fn m2_1_a_single_directory_in_which_names_fall_together_is_one() {
    let Some((scene, _disk)) = folding(Manner::FoldsIn("here")) else { return };
    write(&scene.s("a"), "1");
    write(&scene.s("A"), "2");
    write(&scene.s("here/a"), "3");
    write(&scene.s("here/in/b"), "4");
    // A directory is what it is when it is made.
    fs::create_dir(scene.d("here")).unwrap();
    is_clean(&scene.run());
    scene.assert_equal();
    fs::rename(scene.s("here/a"), scene.s("here/A")).unwrap();
    fs::rename(scene.s("here/in"), scene.s("here/In")).unwrap();
    is_clean(&scene.run());
    scene.assert_equal();
    live_with(&scene, MirrorOptions::default(), |seen| {
        fs::rename(scene.s("here/A"), scene.s("here/a")).unwrap();
        fs::rename(scene.s("here/In/b"), scene.s("here/In/B")).unwrap();
        fs::rename(scene.s("A"), scene.s("b")).unwrap();
        until("all names", || equal(&scene));
        assert!(!seen.lock().unwrap().iter().any(|note| note.contains("deleted here")), "{:?}", seen.lock().unwrap());
    });
}

#[test]
fn m2_1_a_disk_with_a_spelling_of_its_own_has_the_content_and_comes_to_rest() {
    let Some((scene, _disk)) = folding(Manner::Lowers) else { return };
    write(&scene.s("README"), "one");
    write(&scene.s("Dir/File"), "two");
    is_clean(&scene.run());
    let mut mirror = scene.open();
    is_clean(&mirror.once(&mut |_| {}));
    let outcome = mirror.once(&mut |_| {});
    assert!(outcome.is_quiet(), "{:?}", outcome.counts);
    drop(mirror);
    write(&scene.s("Dir/File"), "changed");
    is_clean(&scene.run());
    assert_eq!(fs::read(scene.d("dir/file")).unwrap(), b"changed");
    assert_eq!(names(&scene.d("")), BTreeSet::from(["readme".into(), "dir".into()]));
    // And live, also after a change.
    resting(&scene, || {
        write(&scene.s("Dir/File"), "once more");
        write(&scene.s("Dir/New"), "new");
        until("the changes", || {
            fs::read(scene.d("dir/file")).is_ok_and(|now| now == b"once more") && scene.d("dir/new").exists()
        });
    });
}

/// Runs `story` beside a live mirror, which comes to rest after it, with both sides the same as far as it knows.
fn resting(scene: &Scene, story: impl FnOnce()) {
    let seen = Mutex::new(Standing::default());
    let stopper = Stopper::default();
    std::thread::scope(|scope| {
        let (seen, stop) = (&seen, stopper.clone());
        let live = scope.spawn(move || {
            let mut mirror = crate::scene::open(&scene.s(""), &scene.d(""), &MirrorOptions::default()).unwrap();
            let report = &mut |report: Report<'_>| match report {
                Report::Standing(now) => *seen.lock().unwrap() = now.clone(),
                Report::Event(event) => assert_eq!(event.error.map(ToString::to_string), None),
                _ => {}
            };
            mirror.watch(stop, report).unwrap();
        });
        let ended = StopAtEnd(stopper);
        until("the first pass", || seen.lock().unwrap().state == State::InStep);
        story();
        let last = Cell::new((0, Instant::now()));
        until("it to come to rest", || {
            let now = seen.lock().unwrap().clone();
            if now.passes != last.get().0 {
                last.set((now.passes, Instant::now()));
            }
            last.get().1.elapsed() > REST && now.state == State::InStep
        });
        drop(ended);
        live.join().unwrap();
    });
}

#[test]
fn m2_7_live_renames_of_spelling_alone_are_followed_and_no_copy_is_deleted() {
    let Some((scene, _disk)) = folding(Manner::Folds) else { return };
    write(&scene.s("a.txt"), "one");
    write(&scene.s("dir/f"), "two");
    write(&scene.s("2024/caf\u{e9}"), "three");
    live_with(&scene, MirrorOptions::default(), |seen| {
        until("the copy", || equal(&scene));
        let pairs = [("a.txt", "A.txt"), ("dir", "DIR"), ("2024/caf\u{e9}", "2024/cafe\u{301}"), ("DIR/f", "DIR/F")];
        for (from, to) in pairs {
            fs::rename(scene.s(from), scene.s(to)).unwrap();
            until(to, || equal(&scene));
        }
        // And what is in there is followed on.
        write(&scene.s("DIR/F"), "changed");
        write(&scene.s("DIR/new"), "new");
        until("later changes", || equal(&scene));
        // A spelling that another one changed is given back.
        fs::rename(scene.d("A.txt"), scene.d("b")).unwrap();
        fs::rename(scene.d("b"), scene.d("a.txt")).unwrap();
        until("the spelling to be repaired", || equal(&scene));
        let said = seen.lock().unwrap();
        assert!(!said.iter().any(|note| note.starts_with("deleted") && note != "deleted b"), "{said:?}");
    });
}

#[test]
fn m2_7_live_a_name_that_falls_together_with_another_is_a_problem_and_touches_nothing_of_it() {
    let Some((scene, _disk)) = folding(Manner::Folds) else { return };
    write(&scene.s("a"), "first");
    write(&scene.s("d/f"), "first");
    let seen = Mutex::new((Standing::default(), Vec::new()));
    let stopper = Stopper::default();
    std::thread::scope(|scope| {
        let (seen, stop, scene) = (&seen, stopper.clone(), &scene);
        let live = scope.spawn(move || {
            let mut mirror = scene.open();
            let report = &mut |report: Report<'_>| match report {
                Report::Standing(now) => seen.lock().unwrap().0 = now.clone(),
                Report::Event(event) if event.action != Action::Skipped => {
                    seen.lock().unwrap().1.push(format!("{:?} {}", event.action, event.path));
                }
                _ => {}
            };
            mirror.watch(stop, report).unwrap();
        });
        let ended = StopAtEnd(stopper);
        until("the copy", || seen.lock().unwrap().0.state == State::InStep);
        write(&scene.s("A"), "second");
        write(&scene.s("D/f"), "second");
        until("both to be told", || {
            let (now, _) = seen.lock().unwrap().clone();
            now.state == State::Problems
                && ["A", "D"].iter().all(|name| now.named.iter().any(|(at, _)| at.to_string() == *name))
        });
        // What is in the one that has no place is not put into the other.
        write(&scene.s("D/f"), "third");
        write(&scene.s("D/g"), "third");
        stamp(&scene.s("D"), 0o700, 7);
        write(&scene.s("marker"), "m");
        until("the marker", || scene.d("marker").exists());
        let read = |name: &str| fs::read_to_string(scene.d(name)).unwrap();
        assert_eq!((read("a"), read("d/f")), ("first".into(), "first".into()));
        assert_eq!(names(&scene.d("d")), BTreeSet::from(["f".into()]));
        assert_eq!(look(&scene.d("d"))[&b""[..]], look(&scene.s("d"))[&b""[..]]);
        assert_eq!(seen.lock().unwrap().0.state, State::Problems);
        // The older ones go, and the others have their place.
        fs::remove_file(scene.s("a")).unwrap();
        fs::remove_dir_all(scene.s("d")).unwrap();
        until("the others to come", || equal(scene));
        until("it to be in step", || seen.lock().unwrap().0.state == State::InStep);
        drop(ended);
        live.join().unwrap();
    });
}

/// To such a source a name that is gone is there as long as another spelling of it is.
#[test]
fn m2_7_live_a_source_of_that_kind_has_no_name_but_those_that_it_lists() {
    for both in [false, true] {
        let scene = Scene::new();
        let Some(_source) = FoldingDisk::at(&scene.s(""), Manner::Folds) else { return };
        let _dest = both.then(|| FoldingDisk::at(&scene.d(""), Manner::Folds).unwrap());
        write(&scene.s("a.txt"), "one");
        write(&scene.s("dir/f"), "two");
        live_with(&scene, MirrorOptions::default(), |_| {
            until("the copy", || equal(&scene));
            for (from, to) in [("a.txt", "A.txt"), ("dir", "DIR"), ("DIR/f", "DIR/F")] {
                // That disk has another name at once only by way of a third.
                fs::rename(scene.s(from), scene.s("third")).unwrap();
                fs::rename(scene.s("third"), scene.s(to)).unwrap();
                until(to, || equal(&scene));
            }
        });
    }
}

/// A mirror that knows of no spellings, as most do.
fn naive(s: &Path, d: &Path) {
    for entry in fs::read_dir(s).unwrap() {
        let entry = entry.unwrap();
        fs::write(d.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
    }
    for name in names(d).difference(&names(s)) {
        fs::remove_file(d.join(name)).unwrap();
    }
}

#[test]
fn a_mirror_that_knows_of_no_spellings_is_caught_losing_the_copy_and_mixing_up_two() {
    let Some((scene, _disk)) = folding(Manner::Folds) else { return };
    write(&scene.s("a.txt"), "one");
    naive(&scene.s(""), &scene.d(""));
    fs::rename(scene.s("a.txt"), scene.s("A.txt")).unwrap();
    naive(&scene.s(""), &scene.d(""));
    assert!(!scene.d("a.txt").exists() && !scene.d("A.txt").exists(), "the copy is lost");
    write(&scene.s("a.txt"), "two");
    naive(&scene.s(""), &scene.d(""));
    let (source, dest) = (look(&scene.s("")), look(&scene.d("")));
    assert!(dest.iter().any(|(path, seen)| source.get(path) != Some(seen)), "one has the content of the other");
}
