//! A reader of the destination never finds a name missing, nor a mixture of two versions.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::scene::Scene;

const UPDATES: usize = 400;
/// Longer than one write of a plain copier.
const LEN: usize = 200_000;

#[derive(Debug, Default)]
struct Found {
    reads: u64,
    missing: u64,
    torn: u64,
}

/// Has `copy` bring each version over while a reader polls.
fn read_while(scene: &Scene, updates: usize, copy: impl Fn(&Path, &Path)) -> Found {
    let version = |n: usize| vec![b'a' + u8::try_from(n % 26).unwrap(); LEN];
    fs::write(scene.s("f"), version(0)).unwrap();
    fs::write(scene.d("f"), version(0)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut found = Found::default();
            while !stop.load(Ordering::Relaxed) {
                found.reads += 1;
                match fs::read(scene.d("f")) {
                    Ok(bytes) if bytes.len() == LEN && bytes.iter().all(|b| *b == bytes[0]) => {}
                    Ok(_) => found.torn += 1,
                    Err(_) => found.missing += 1,
                }
            }
            found
        });
        for n in 1..=updates {
            fs::write(scene.s("f"), version(n)).unwrap();
            copy(&scene.s("f"), &scene.d("f"));
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    })
}

#[test]
fn a_reader_never_finds_a_missing_or_a_torn_file() {
    let scene = Scene::new();
    let mirror = std::cell::RefCell::new(scene.open());
    let found = read_while(&scene, UPDATES, |_, _| {
        let outcome = mirror.borrow_mut().once(&mut |_| {});
        assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
    });
    assert!(found.reads > 100, "{found:?}");
    assert_eq!((found.missing, found.torn), (0, 0), "{found:?}");
    scene.assert_equal();
}

#[test]
fn a_copier_that_unlinks_first_is_caught() {
    let found = read_while(&Scene::new(), UPDATES * 3, |s, d| {
        fs::remove_file(d).unwrap();
        fs::copy(s, d).unwrap();
    });
    assert!(found.missing > 0, "the canary must be caught: {found:?}");
}

#[test]
fn a_copier_that_writes_in_place_is_caught() {
    let found = read_while(&Scene::new(), UPDATES, |s, d| {
        let bytes = fs::read(s).unwrap();
        let mut file = fs::File::create(d).unwrap();
        for part in bytes.chunks(4096) {
            file.write_all(part).unwrap();
        }
    });
    assert!(found.torn > 0, "the canary must be caught: {found:?}");
}

#[test]
fn a_source_that_changes_while_it_is_read_is_never_sent_torn() {
    let scene = Scene::new();
    fs::write(scene.s("f"), vec![b'a'; LEN]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u8;
            while !stop.load(Ordering::Relaxed) {
                n = n.wrapping_add(1);
                let temp = scene.scratch.path().join("new");
                fs::write(&temp, vec![b'a' + n % 26; LEN]).unwrap();
                fs::rename(&temp, scene.s("f")).unwrap();
            }
        });
        let mut mirror = scene.open();
        for _ in 0..200 {
            let outcome = mirror.once(&mut |_| {});
            assert!(outcome.problems.is_empty(), "a changing file is no failure: {:?}", outcome.problems);
            if let Ok(bytes) = fs::read(scene.d("f")) {
                assert!(bytes.len() == LEN && bytes.iter().all(|b| *b == bytes[0]), "torn");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    // The last two versions may bear one time, which nobody without memory could tell apart.
    crate::scene::stamp(&scene.s("f"), 0o600, 5);
    scene.run();
    scene.assert_equal();
}
