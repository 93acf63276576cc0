//! What is left out is never touched, and all else is the same, whatever both trees were before.

use std::collections::BTreeSet;
use std::path::Path;

use mirror::{Choice, MirrorOptions, Problem};
use proptest::prelude::*;
use tree::filter::{Filter, Patterns};

use crate::props::{any_root, make};
use crate::scene::{Scene, Seen, look, stamp};

/// Patterns simple enough that the model below needs none of the code under test.
const PATTERNS: [&str; 3] = ["a", "b/", "c"];

pub(crate) fn options(patterns: &[&str], delete_excluded: bool, dry_run: bool) -> MirrorOptions {
    let patterns = Patterns::new(patterns.iter().map(|pattern| pattern.as_bytes())).unwrap();
    let filter = Filter { patterns, delete_excluded, ..Filter::default() };
    let choice = Choice { filter, ..Choice::default() };
    MirrorOptions { choice, dry_run, allow_mass_delete: true, ..MirrorOptions::default() }
}

/// `path`, and each directory it is in.
fn line(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
    ends.map(move |end| &path[..end]).filter(|path| !path.is_empty())
}

fn is_excluded(patterns: &[&str], path: &[u8], seen: &Seen) -> bool {
    line(path).any(|above| {
        let name = above.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let is_dir = seen[above].0 == 'd';
        patterns.iter().any(|pattern| match pattern.strip_suffix('/') {
            Some(dir) => is_dir && dir.as_bytes() == name,
            None => pattern.as_bytes() == name,
        })
    })
}

/// What is wrong with `after`, if anything is. `refused`: what could not take its place for what is left alone there.
fn wrong(
    patterns: &[&str],
    delete_excluded: bool,
    (source, before, after): (&Seen, &Seen, &Seen),
    refused: &[Vec<u8>],
) -> Option<String> {
    let under_refused = |path: &[u8]| line(path).any(|above| refused.iter().any(|refused| refused == above));
    let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let chosen = |path: &[u8]| source.contains_key(path) && !is_excluded(patterns, path, source);
    let stays = |path: &[u8]| !delete_excluded && before.contains_key(path) && is_excluded(patterns, path, before);
    for path in before.keys().filter(|path| stays(path)) {
        if after.get(path) != before.get(path) {
            return Some(format!("{} was left out, and touched", shown(path)));
        }
    }
    for path in source.keys().filter(|path| chosen(path) && !under_refused(path)) {
        if after.get(path) != source.get(path) {
            return Some(format!("{} is not what it is at the source", shown(path)));
        }
    }
    let holds: BTreeSet<&[u8]> = before.keys().filter(|path| stays(path)).flat_map(|path| line(path)).collect();
    let extra = after.keys().find(|path| {
        !path.is_empty() && !chosen(path) && !stays(path) && !holds.contains(&path[..]) && !under_refused(path)
    });
    extra.map(|path| format!("{} should have gone", shown(path)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn m2_1_what_is_left_out_is_untouched_and_all_else_is_the_same(
        source in any_root(),
        dest in any_root(),
        patterns in prop::sample::subsequence(PATTERNS.to_vec(), 1..=3),
        delete_excluded in any::<bool>(),
    ) {
        let scene = Scene::new();
        make(&scene.s(""), &source);
        make(&scene.d(""), &dest);
        let (source, before) = (look(&scene.s("")), look(&scene.d("")));

        // A dry run tells the same and does none of it.
        let (dry, mut dry_told) = scene.told(options(&patterns, delete_excluded, true));
        prop_assert_eq!(&before, &look(&scene.d("")));
        let (outcome, mut told) = scene.told(options(&patterns, delete_excluded, false));
        let sort = |told: &mut Vec<(mirror::Action, String)>| {
            told.retain(|(action, _)| *action != mirror::Action::Skipped);
            told.sort_by_key(|(action, path)| (path.clone(), format!("{action:?}")));
        };
        sort(&mut dry_told);
        sort(&mut told);
        prop_assert_eq!(dry.problems.len(), outcome.problems.len());
        if outcome.problems.is_empty() {
            // A directory whose content changed gets its time back, which only a real run has to tell.
            prop_assert_eq!(&dry_told, &told);
        }

        let refused: Vec<Vec<u8>> = outcome.problems.iter().map(|(path, _)| path.as_bytes().to_vec()).collect();
        prop_assert!(outcome.problems.iter().all(|(_, p)| matches!(p, Problem::Protected(_))), "{:?}", outcome.problems);
        prop_assert!(!delete_excluded || refused.is_empty(), "{:?}", outcome.problems);
        let after = look(&scene.d(""));
        prop_assert_eq!(wrong(&patterns, delete_excluded, (&source, &before, &after), &refused), None);

        // And there is nothing left to do.
        let (again, told) = scene.told(options(&patterns, delete_excluded, false));
        let counts = again.counts;
        prop_assert_eq!(counts.copied + counts.updated + counts.deleted, 0, "{:?}", told);
    }
}

/// Another content of the same size under the same time.
fn edit_unseen(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    stamp(path, 0o644, 5);
}

#[test]
fn a_state_goes_on_knowing_what_a_run_leaves_out() {
    let scene = Scene::new();
    let state = scene.scratch.path().join("state");
    let run = |patterns: &[&str]| {
        let outcome = scene.told(MirrorOptions { state: Some(state.clone()), ..options(patterns, false, false) }).0;
        assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
        (outcome, std::fs::metadata(&state).unwrap().len())
    };
    std::fs::create_dir(scene.s("b")).unwrap();
    for file in ["f", "b/g", "b/h"] {
        edit_unseen(&scene.s(file), "one");
    }
    let (_, all) = run(&[]);
    edit_unseen(&scene.s("b/g"), "two");
    let (_, without) = run(&["b/"]);
    assert_eq!(without, all, "what is left out is remembered");
    let (outcome, _) = run(&[]);
    assert_eq!(outcome.counts.files_updated, 1);
    scene.assert_equal();
    // What is deleted is forgotten, also by a run that leaves something out.
    std::fs::remove_file(scene.s("f")).unwrap();
    let (outcome, fewer) = run(&["b/"]);
    assert_eq!((outcome.counts.deleted, all - fewer), (1, 32));
}

#[test]
fn what_a_state_does_not_know_is_read_before_it_is_taken_for_the_same() {
    let scene = Scene::new();
    let state = scene.scratch.path().join("state");
    let run = || scene.told(MirrorOptions { state: Some(state.clone()), ..MirrorOptions::default() }).0.counts;
    for (side, text) in [(scene.s("f"), "one"), (scene.d("f"), "two"), (scene.s("same"), "x"), (scene.d("same"), "x")] {
        edit_unseen(&side, text);
    }
    assert_eq!(scene.run().counts.files_updated, 0, "without a state nothing tells them apart");
    assert_eq!((run().files_updated, run().files_updated), (1, 0));
    scene.assert_equal();
}

/// The known-bad one: a mirror that knows nothing of what is left out.
#[test]
fn the_model_sees_a_mirror_that_touches_what_is_left_out() {
    for (at_source, at_dest) in [(None, Some("a")), (Some("a"), None), (Some("a"), Some("a")), (None, Some("x/a"))] {
        let scene = Scene::new();
        std::fs::create_dir(scene.d("x")).unwrap();
        std::fs::write(scene.s("other"), "").unwrap();
        at_source.into_iter().for_each(|name| std::fs::write(scene.s(name), "of the source").unwrap());
        at_dest.into_iter().for_each(|name| std::fs::write(scene.d(name), "x").unwrap());
        let (source, before) = (look(&scene.s("")), look(&scene.d("")));
        scene.told(options(&[], false, false));
        let after = look(&scene.d(""));
        assert!(wrong(&["a"], false, (&source, &before, &after), &[]).is_some(), "{at_source:?} {at_dest:?}");
    }
}
