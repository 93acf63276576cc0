//! Live mirrors whose destinations lie in each other.

use std::fs;

use mirror::policy::Policy;
use mirror::{Mirror, MirrorError, MirrorOptions, Report, Stopper};

use crate::choosing::options;
use crate::live::live_with;
use crate::scene::Scene;

/// An outer mirror, and one the destination of which is `x/inner` in the outer one's.
fn nested() -> (Scene, Scene) {
    let (outer, inner) = (Scene::new(), Scene::new());
    for side in [outer.s("x/inner"), outer.d("x/inner")] {
        fs::create_dir_all(side).unwrap();
    }
    fs::write(inner.s("b"), "of the inner one").unwrap();
    fs::remove_dir(inner.d("")).unwrap();
    std::os::unix::fs::symlink(outer.d("x/inner"), inner.scratch.path().join("d")).unwrap();
    (outer, inner)
}

/// Starts a live mirror that ends at once, and gives what it noted.
fn start(scene: &Scene, options: MirrorOptions) -> Result<Vec<String>, MirrorError> {
    let mut mirror = Mirror::open(&scene.s(""), &fs::canonicalize(scene.d("")).unwrap(), options).unwrap();
    assert!(mirror.notes().is_empty(), "{:?}", mirror.notes());
    let (stopper, mut notes) = (Stopper::default(), Vec::new());
    stopper.stop();
    mirror.watch(stopper, &mut |report| {
        if let Report::Note(note) = report {
            notes.push(note);
        }
    })?;
    Ok(notes)
}

fn keeping_all() -> MirrorOptions {
    MirrorOptions { policy: Policy { delete: false, ..Policy::default() }, ..MirrorOptions::default() }
}

#[test]
fn patterns_of_the_outer_one_are_no_leave_for_what_they_do_not_name() {
    let refused = [
        MirrorOptions::default(),
        options(&["zzz"], false, false),
        options(&["/x/*"], false, false),
        options(&["/x/inner", "!/x"], false, false),
        options(&["/inner"], false, false),
        options(&["/x/inner"], true, false),
    ];
    let allowed = [
        (options(&["zzz", "/x/inner"], false, false), 0),
        (options(&["x/"], false, false), 0),
        (options(&["inner"], false, false), 0),
        (keeping_all(), 1),
    ];
    let cases =
        refused.into_iter().map(|of| (of, None)).chain(allowed.into_iter().map(|(of, notes)| (of, Some(notes))));
    for (of_outer, notes) in cases {
        let patterns = format!("{:?}", of_outer.choice);
        let (outer, inner) = nested();
        let check = |started: Result<Vec<String>, MirrorError>| match (started, notes) {
            (Ok(told), Some(notes)) => assert_eq!(told.len(), notes, "{patterns}: {told:?}"),
            (Err(MirrorError::Nested { .. }), None) => {}
            (started, _) => panic!("{patterns}: {started:?}"),
        };
        // That one deletes the directory itself.
        if !of_outer.choice.filter.delete_excluded {
            live_with(&outer, of_outer.clone(), |_| check(start(&inner, MirrorOptions::default())));
        }
        live_with(&inner, MirrorOptions::default(), |_| check(start(&outer, of_outer.clone())));
    }
}

#[test]
fn a_single_run_beside_a_live_mirror_is_told_once_and_goes_on() {
    let (outer, inner) = nested();
    live_with(&outer, keeping_all(), |_| {
        let mut single =
            Mirror::open(&inner.s(""), &fs::canonicalize(inner.d("")).unwrap(), MirrorOptions::default()).unwrap();
        for _ in 0..2 {
            assert!(single.once(&mut |_| {}).problems.is_empty());
            assert_eq!(single.notes().len(), 1, "{:?}", single.notes());
        }
    });
    assert!(outer.d("x/inner/b").exists());
}
