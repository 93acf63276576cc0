//! Several threads do what one does: the same results, each told once, and nothing seen before it is whole.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use mirror::mirror::THREADS_MAX;
use mirror::{Action, Keep, MirrorOptions, Outcome};

use crate::scene::{Scene, look, stamp};

/// Directories of a tree, three levels deep, and files in each.
const DIRS: usize = 30;
const FILES: usize = 15;

fn with(threads: usize) -> MirrorOptions {
    MirrorOptions { threads: NonZeroUsize::new(threads), allow_mass_delete: true, ..MirrorOptions::default() }
}

fn fill(root: &Path) {
    for dir in 0..DIRS {
        let dir = root.join(format!("{}/{}/{dir}", dir % 2, dir % 7));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..FILES {
            let path = dir.join(file.to_string());
            fs::write(&path, format!("{file} of {}", dir.display())).unwrap();
            stamp(&path, 0o640, 1_000_000_007 * i64::try_from(file).unwrap());
        }
        stamp(&dir, 0o751, 77);
    }
}

/// Changes, adds, removes and turns into other kinds, all over the tree.
fn edit(root: &Path) {
    for dir in 0..DIRS {
        let dir = root.join(format!("{}/{}/{dir}", dir % 2, dir % 7));
        fs::write(dir.join("0"), "changed").unwrap();
        fs::remove_file(dir.join("1")).unwrap();
        fs::remove_file(dir.join("2")).unwrap();
        fs::create_dir_all(dir.join("2/in")).unwrap();
        fs::write(dir.join("2/in/a"), "a").unwrap();
        stamp(&dir.join("3"), 0o600, 5);
        fs::write(dir.join("new"), "new").unwrap();
    }
    fs::remove_dir_all(root.join("0/0")).unwrap();
    fs::write(root.join("0/0"), "a file now").unwrap();
}

fn told(scene: &Scene, threads: usize) -> (Outcome, BTreeMap<String, Action>) {
    let (outcome, told) = scene.told(with(threads));
    assert!(outcome.problems.is_empty(), "{threads} threads: {:?}", outcome.problems);
    let count = told.len();
    let by_path: BTreeMap<_, _> = told.into_iter().map(|(action, path)| (path, action)).collect();
    assert_eq!(by_path.len(), count, "{threads} threads: a path was told twice");
    (outcome, by_path)
}

#[test]
fn any_number_of_threads_tells_the_same_results_each_once() {
    let mut expected = Vec::new();
    for threads in [1, 2, 7] {
        let scene = Scene::new();
        fill(&scene.s(""));
        let mut seen = vec![told(&scene, threads)];
        scene.assert_equal();
        edit(&scene.s(""));
        seen.push(told(&scene, threads));
        scene.assert_equal();
        fs::write(scene.d("1/drift"), "").unwrap();
        fs::remove_dir_all(scene.s("1")).unwrap();
        seen.push(told(&scene, threads));
        scene.assert_equal();
        seen.push(told(&scene, threads));
        assert!(seen[3].0.is_quiet());
        let seen: Vec<_> = seen.into_iter().map(|(outcome, told)| (outcome.counts, told)).collect();
        if expected.is_empty() {
            expected = seen;
        } else {
            assert!(expected == seen, "{threads} threads");
        }
    }
}

#[test]
fn a_new_directory_filled_by_several_appears_whole() {
    for round in 0..5 {
        let scene = Scene::new();
        fs::create_dir(scene.s("x")).unwrap();
        fill(&scene.s("x"));
        let whole = look(&scene.s("x"));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let seen = scope.spawn(|| {
                while !scene.d("x").exists() && !done.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                look(&scene.d("x"))
            });
            let outcome = scene.told(with(4)).0;
            done.store(true, Ordering::Relaxed);
            assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
            assert!(seen.join().unwrap() == whole, "round {round}: it was seen before it was whole");
        });
    }
}

#[test]
fn a_directory_too_large_to_hide_is_shown_while_several_fill_it() {
    let scene = Scene::new();
    for dir in 0..30 {
        fs::create_dir_all(scene.s(&format!("x/{dir}/in"))).unwrap();
        for file in 0..800 {
            let dir = if file % 2 == 0 { format!("{dir}") } else { format!("{dir}/in") };
            fs::write(scene.s(&format!("x/{dir}/{file}")), "").unwrap();
        }
        stamp(&scene.s(&format!("x/{dir}")), 0o755, 5);
    }
    told(&scene, 4);
    scene.assert_equal();
}

#[test]
fn large_files_of_one_directory_are_copied_by_several() {
    for threads in [1, 3] {
        let scene = Scene::new();
        fs::create_dir(scene.s("new")).unwrap();
        for n in 0..6u8 {
            fs::write(scene.s(&format!("{n}")), vec![n; (4 << 20) + usize::from(n)]).unwrap();
            fs::write(scene.s(&format!("new/{n}")), vec![n; (4 << 20) + usize::from(n)]).unwrap();
            fs::write(scene.d(&format!("{n}")), vec![9; 5 << 20]).unwrap();
        }
        let counts = told(&scene, threads).0.counts;
        assert_eq!((counts.files_copied, counts.files_updated), (6, 6), "{threads} threads");
        scene.assert_equal();
    }
}

#[test]
fn one_that_is_stopped_leaves_nothing_half_done_and_the_next_goes_on() {
    for after in [1, 40, 400] {
        let scene = Scene::new();
        fs::create_dir(scene.s("x")).unwrap();
        fill(&scene.s("x"));
        fill(&scene.s(""));
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let mut mirror = crate::scene::open(&scene.s(""), &scene.d(""), &with(4)).unwrap();
        mirror.stop_on(std::sync::Arc::clone(&stop));
        let mut told = 0;
        let outcome = mirror.once(&mut |_| {
            told += 1;
            stop.store(told >= after, Ordering::Relaxed);
        });
        drop(mirror);
        assert!(outcome.stopped && !outcome.again.is_empty(), "after {after}");
        let source = look(&scene.s(""));
        for (path, seen) in look(&scene.d("")) {
            let name = String::from_utf8_lossy(&path).into_owned();
            assert!(!name.contains(".lockstep-tmp-"), "{name} was left");
            assert!(seen.0 == 'd' || source.get(&path) == Some(&seen), "{name} is torn");
        }
        self::told(&scene, 4);
        scene.assert_equal();
    }
}

#[test]
fn names_of_one_file_in_many_directories_become_one_file() {
    for threads in [1, 5] {
        let scene = Scene::new();
        fill(&scene.s("a"));
        fill(&scene.s("b"));
        for dir in 0..DIRS {
            let place = format!("{}/{}/{dir}", dir % 2, dir % 7);
            fs::hard_link(scene.s(&format!("a/{place}/0")), scene.s(&format!("b/{place}/link"))).unwrap();
            fs::hard_link(scene.s("a/0/0/0/5"), scene.s(&format!("b/{place}/five"))).unwrap();
        }
        let options = || MirrorOptions { keep: Keep::ARCHIVE, ..with(threads) };
        for edit in [false, true] {
            if edit {
                fs::write(scene.s("a/0/0/0/5"), "changed under all names").unwrap();
                fs::remove_file(scene.s("b/1/1/1/link")).unwrap();
                fs::hard_link(scene.s("a/0/0/0/5"), scene.s("b/1/1/1/link")).unwrap();
            }
            let outcome = scene.told(options()).0;
            assert!(outcome.problems.is_empty(), "{threads} threads: {:?}", outcome.problems);
            scene.assert_equal();
            assert!(groups(&scene.s("")) == groups(&scene.d("")), "{threads} threads, edited: {edit}");
        }
        assert!(scene.told(options()).0.is_quiet());
    }
}

/// Which names are one file.
fn groups(root: &Path) -> Vec<Vec<Vec<u8>>> {
    let mut groups: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    for path in look(root).into_keys() {
        let meta = fs::symlink_metadata(root.join(String::from_utf8(path.clone()).unwrap())).unwrap();
        if meta.is_file() {
            groups.entry(meta.ino()).or_default().push(path);
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort();
    groups
}

#[test]
fn a_directory_with_names_of_one_file_takes_the_place_of_a_name_of_another() {
    for threads in [1, 2, 5] {
        let scene = Scene::new();
        for dir in ["x", "x/in", "z"] {
            fs::create_dir(scene.s(dir)).unwrap();
        }
        fs::write(scene.s("x/one"), "1").unwrap();
        for name in ["x/two", "x/in/three", "z/four"] {
            fs::hard_link(scene.s("x/one"), scene.s(name)).unwrap();
        }
        fs::write(scene.d("x"), "2").unwrap();
        fs::hard_link(scene.d("x"), scene.d("z")).unwrap();
        let options = || MirrorOptions { keep: Keep::ARCHIVE, ..with(threads) };
        let outcome = scene.told(options()).0;
        assert!(outcome.problems.is_empty(), "{threads} threads: {:?}", outcome.problems);
        scene.assert_equal();
        assert_eq!(groups(&scene.s("")), groups(&scene.d("")), "{threads} threads");
        assert!(scene.told(options()).0.is_quiet());
    }
}

#[test]
fn no_more_threads_than_the_limit_are_used() {
    let scene = Scene::new();
    fill(&scene.s(""));
    told(&scene, THREADS_MAX.get() * 4);
    scene.assert_equal();
}
