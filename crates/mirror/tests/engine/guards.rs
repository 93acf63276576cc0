//! What deletes, and what never does.

use std::fs;
use std::path::Path;

use mirror::guard::HeldWhy;
use mirror::{
    Action, DeleteLimit, Dirty, DiskSource, Engine, MirrorError, MirrorOptions, Options, Problem, Source, Want,
};
use tree::{Dir, Name, RelPath};

use crate::scene::{Make, Scene, as_the_disk, rel};

#[test]
fn m2_3_three_files_onto_ten_extra_ones_is_done() {
    let scene = Scene::new();
    for n in 0..3 {
        fs::write(scene.s(&format!("new{n}")), "new").unwrap();
    }
    for n in 0..10 {
        fs::write(scene.d(&format!("old{n}")), "old").unwrap();
    }
    let (outcome, _) = scene.told(MirrorOptions::default());
    assert_eq!((outcome.counts.copied, outcome.counts.deleted, outcome.held), (3, 10, None));
    scene.assert_equal();
}

#[test]
fn m2_3_an_emptied_source_deletes_nothing_unless_allowed() {
    let scene = Scene::new();
    Make::FullDir.at(&scene.d("x"));
    let (outcome, told) = scene.told(MirrorOptions::default());
    let held = outcome.held.expect("a guard");
    assert_eq!((held.why, held.deletes, outcome.counts.deleted), (HeldWhy::SourceEmpty, 6, 0));
    assert!(told.contains(&(Action::Held, "x".into())));
    assert!(scene.d("x/in/deep/b").exists());
    let allowed = scene.told(MirrorOptions { allow_mass_delete: true, ..MirrorOptions::default() }).0;
    assert_eq!((allowed.held, allowed.counts.deleted), (None, 6));
    scene.assert_equal();
}

#[test]
fn more_than_half_of_many_is_held_and_all_else_is_done() {
    let scene = Scene::new();
    fs::create_dir(scene.d("old")).unwrap();
    for n in 0..1_200 {
        fs::write(scene.d(&format!("old/{n}")), "").unwrap();
    }
    fs::write(scene.s("new"), "new").unwrap();
    let (outcome, _) = scene.told(MirrorOptions::default());
    let held = outcome.held.expect("a guard");
    assert_eq!((held.why, held.deletes), (HeldWhy::MoreThanHalf, 1_201));
    assert_eq!(fs::read(scene.d("new")).unwrap(), b"new");
    assert!(scene.d("old/7").exists());
}

#[test]
fn what_was_copied_and_deleted_since_is_in_the_number_of_all_entries() {
    let scene = Scene::new();
    for n in 0..1_500 {
        fs::write(scene.s(&format!("new{n}")), "").unwrap();
    }
    Make::FullDir.at(&scene.d("extra"));
    Make::FullDir.at(&scene.d("becomes"));
    fs::write(scene.s("becomes"), "a file").unwrap();
    let mut mirror = scene.open();
    let outcome = mirror.once(&mut |_| {});
    assert_eq!((outcome.counts.copied, outcome.counts.deleted), (1_500, 11));
    let mut some = Dirty::new();
    for n in 0..1_200 {
        fs::remove_file(scene.s(&format!("new{n}"))).unwrap();
        let name = Name::new(format!("new{n}").into_bytes()).unwrap();
        some.insert(&RelPath::root(), &name, mirror::dirty::Hint { content: true, by_event: true });
    }
    let held = mirror.pass(&some, &mut |_| {}).held.expect("a guard");
    assert_eq!((held.deletes, held.dest_entries), (1_200, 1_501));
}

#[test]
fn what_is_held_does_not_go_one_by_one_when_single_names_are_looked_at() {
    let scene = Scene::new();
    for n in 0..1_200 {
        fs::write(scene.d(&format!("old{n}")), "").unwrap();
    }
    fs::write(scene.s("new"), "new").unwrap();
    let mut mirror = scene.open();
    assert!(mirror.pass(&Dirty::everything(), &mut |_| {}).held.is_some());
    // As when somebody touches some of it.
    let mut some = Dirty::new();
    for n in 0..10 {
        let name = Name::new(format!("old{n}").into_bytes()).unwrap();
        some.insert(&RelPath::root(), &name, mirror::dirty::Hint { content: true, by_event: true });
    }
    let outcome = mirror.pass(&some, &mut |_| {});
    assert_eq!((outcome.held.map(|held| held.deletes), outcome.counts.deleted), (Some(1_200), 0));
    // What was reported as removed goes all the same, and once the source has it again, single names go again.
    some.insert_removed(&RelPath::root(), &Name::new(*b"old3").unwrap());
    assert_eq!(mirror.pass(&some, &mut |_| {}).counts.deleted, 1);
    for n in 20..1_200 {
        fs::write(scene.s(&format!("old{n}")), "").unwrap();
    }
    assert_eq!(mirror.pass(&Dirty::everything(), &mut |_| {}).counts.deleted, 19);
    fs::write(scene.d("extra"), "").unwrap();
    let mut extra = Dirty::new();
    extra.insert(
        &RelPath::root(),
        &Name::new(*b"extra").unwrap(),
        mirror::dirty::Hint { content: true, by_event: true },
    );
    let outcome = mirror.pass(&extra, &mut |_| {});
    assert_eq!((outcome.held, outcome.counts.deleted), (None, 1));
}

#[test]
fn a_directory_becoming_a_file_counts_what_is_in_it() {
    let scene = Scene::new();
    fs::create_dir(scene.d("x")).unwrap();
    for n in 0..1_200 {
        fs::write(scene.d(&format!("x/{n}")), "").unwrap();
    }
    fs::write(scene.s("x"), "now a file").unwrap();
    let outcome = scene.run();
    assert_eq!(outcome.held.map(|held| held.deletes), Some(1_200));
    assert!(scene.d("x/7").exists());
}

#[test]
fn removals_the_kernel_reported_are_followed_however_many() {
    let scene = Scene::new();
    fs::create_dir(scene.d("old")).unwrap();
    for n in 0..1_200 {
        fs::write(scene.d(&format!("old/{n}")), "").unwrap();
    }
    let mut dirty = Dirty::new();
    let name = Name::new(*b"old").unwrap();
    dirty.insert(&RelPath::root(), &name, mirror::dirty::Hint { content: false, by_event: true });
    dirty.insert_removed(&RelPath::root(), &name);
    let outcome = scene.open().pass(&dirty, &mut |_| {});
    assert_eq!((outcome.held, outcome.counts.deleted), (None, 1_201));
    assert!(!scene.d("old").exists());
}

/// A disk source that cannot read some directories, as without rights.
struct Unreadable<'a>(DiskSource, &'a [&'a str]);

impl Source for Unreadable<'_> {
    fn list(&mut self, dir: &RelPath) -> Result<Vec<(Name, Want)>, Problem> {
        if self.1.iter().any(|blind| rel(blind) == *dir) {
            return Err(Problem::Source(format!("cannot list {dir}")));
        }
        self.0.list(dir)
    }
    as_the_disk!(rest);
}

#[test]
fn an_unreadable_directory_shields_its_own_subtree_and_nothing_else() {
    let scene = Scene::new();
    Make::FullDir.at(&scene.s("blind"));
    Make::FullDir.at(&scene.d("blind"));
    fs::write(scene.d("blind/in/extra"), "kept").unwrap();
    fs::write(scene.d("extra"), "goes").unwrap();
    fs::write(scene.s("new"), "comes").unwrap();
    let disk = || DiskSource::open(&scene.s(""), mirror::disk::DiskOptions::default()).unwrap();
    let mut engine = Engine::new(Dir::open_root(&scene.d("")).unwrap(), Options::default());
    let outcome = engine.reconcile(&mut Unreadable(disk(), &["blind"]), &Dirty::everything(), &mut |_| {});
    assert_eq!(outcome.problems.len(), 1);
    assert!(scene.d("blind/in/extra").exists() && !scene.d("extra").exists() && scene.d("new").exists());
    // What failed is looked at again, and then nothing is missing.
    assert!(outcome.again.covers(&rel("blind"), &Name::new(*b"in").unwrap()));
    let outcome = engine.reconcile(&mut disk(), &outcome.again, &mut |_| {});
    assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
    scene.assert_equal();
}

#[test]
fn an_unreadable_root_touches_nothing() {
    let scene = Scene::new();
    Make::FullDir.at(&scene.d("x"));
    let disk = DiskSource::open(&scene.s(""), mirror::disk::DiskOptions::default()).unwrap();
    let options = Options { allow_mass_delete: true, ..Options::default() };
    let mut engine = Engine::new(Dir::open_root(&scene.d("")).unwrap(), options);
    let outcome = engine.reconcile(&mut Unreadable(disk, &[""]), &Dirty::everything(), &mut |_| {});
    assert_eq!((outcome.problems.len(), outcome.counts.deleted), (1, 0));
    assert!(scene.d("x/in/deep/b").exists());
}

#[test]
fn a_source_that_was_renamed_away_deletes_nothing() {
    let scene = Scene::new();
    fs::write(scene.s("a"), "a").unwrap();
    let mut mirror = Mirror(&scene).open();
    mirror.once(&mut |_| {});
    fs::rename(scene.s(""), scene.scratch.path().join("elsewhere")).unwrap();
    fs::create_dir(scene.s("")).unwrap();
    fs::remove_file(scene.scratch.path().join("elsewhere/a")).unwrap();
    fs::write(scene.scratch.path().join("elsewhere/b"), "b").unwrap();
    let outcome = mirror.once(&mut |_| {});
    assert!(outcome.problems.iter().any(|(_, p)| matches!(p, Problem::Pin(_))), "{:?}", outcome.problems);
    assert!(scene.d("a").exists());
}

struct Mirror<'a>(&'a Scene);
impl Mirror<'_> {
    fn open(&self) -> mirror::Mirror {
        mirror::Mirror::open(
            &self.0.s(""),
            &self.0.d(""),
            MirrorOptions { allow_mass_delete: true, ..Default::default() },
        )
        .unwrap()
    }
}

#[test]
fn m2_5_an_invalid_source_touches_nothing() {
    let scene = Scene::new();
    fs::write(scene.s("file"), "").unwrap();
    fs::write(scene.d("kept"), "").unwrap();
    let open = |s: &Path, d: &Path| mirror::Mirror::open(s, d, MirrorOptions::default());
    for bad in ["missing", "file"] {
        let new = scene.scratch.path().join("new");
        let error = open(&scene.s(bad), &new).unwrap_err();
        assert!(matches!(error, MirrorError::Source { .. }), "{error}");
        assert!(error.to_string().contains("nothing was done"));
        assert!(!new.exists() && scene.d("kept").exists());
        assert!(mirror::Mirror::default_dest(&scene.s(bad)).is_err() || bad == "file");
    }
}

#[test]
fn one_directory_or_one_inside_the_other_is_refused_by_inode() {
    let scene = Scene::new();
    fs::create_dir(scene.s("in")).unwrap();
    std::os::unix::fs::symlink(scene.s(""), scene.scratch.path().join("alias")).unwrap();
    let alias = scene.scratch.path().join("alias");
    for (s, d) in [
        (scene.s(""), scene.s("")),
        (scene.s(""), alias.clone()),
        (alias.clone(), scene.s("in")),
        (scene.s("in"), alias.clone()),
        (scene.s(""), alias.join("new")),
    ] {
        let error = mirror::Mirror::open(&s, &d, MirrorOptions::default()).unwrap_err();
        assert!(matches!(error, MirrorError::Overlap { .. }), "{s:?} {d:?}: {error}");
    }
    assert!(!scene.s("new").exists());
}

#[test]
fn a_destination_has_one_writer_and_its_left_overs_are_swept() {
    let scene = Scene::new();
    fs::write(scene.s("a"), "a").unwrap();
    fs::write(scene.d(".lockstep-tmp-0123456789abcdef"), "left over").unwrap();
    fs::create_dir(scene.d(".lockstep-tmp-0123456789abcde0")).unwrap();
    fs::write(scene.d(".lockstep-tmp-0123456789abcde0/x"), "left over").unwrap();
    let held = scene.open();
    let error = mirror::Mirror::open(&scene.s(""), &scene.d(""), MirrorOptions::default()).unwrap_err();
    assert!(matches!(error, MirrorError::Busy(_)), "{error}");
    drop(held);
    scene.run();
    scene.assert_equal();
}

#[test]
fn a_source_name_of_our_temporaries_and_a_fifo_are_problems() {
    let scene = Scene::new();
    fs::write(scene.s(".lockstep-tmp-0123456789abcdef"), "").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scene.s("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    fs::write(scene.s("a"), "a").unwrap();
    let outcome = scene.run();
    assert_eq!(outcome.problems.len(), 2, "{:?}", outcome.problems);
    assert!(scene.d("a").exists() && !scene.d("fifo").exists());
}

/// Makes so many directories in each other, and in every thirtieth a file and an empty directory that keeps its owner out.
fn make_deep(top: &std::path::Path, name: &str, levels: usize) {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let (flags, mode) = (OFlags::RDONLY | OFlags::DIRECTORY, Mode::from_raw_mode(0o755));
    let mut at = openat(CWD, top, flags, mode).unwrap();
    for level in 0..levels {
        if level % 30 == 29 {
            drop(openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).unwrap());
            mkdirat(&at, "shut", Mode::from_raw_mode(0o000)).unwrap();
        }
        mkdirat(&at, name, mode).unwrap();
        at = openat(&at, name, flags, mode).unwrap();
    }
}

#[test]
fn m2_3_what_is_extra_goes_however_deep_it_is() {
    let long = "n".repeat(255);
    for (name, levels) in [("d", 700), (long.as_str(), 30)] {
        let scene = Scene::new();
        fs::write(scene.s("becomes a file"), "v").unwrap();
        for extra in ["extra", "becomes a file"] {
            fs::create_dir(scene.d(extra)).unwrap();
            make_deep(&scene.d(extra), name, levels);
        }
        let outcome = scene.told(MirrorOptions { allow_mass_delete: true, ..MirrorOptions::default() }).0;
        assert!(outcome.problems.is_empty(), "{levels}: {:?}", outcome.problems);
        scene.assert_equal();
    }
}

#[test]
fn m2_3_what_is_too_deep_to_be_named_is_counted_before_it_goes_and_when_it_went() {
    const LEVELS: usize = 700;
    // Every thirtieth has a file and a directory beside the one that goes deeper.
    let (there, files) = (1 + LEVELS + LEVELS / 30 * 2, LEVELS / 30);
    for extra in ["extra", "becomes a file"] {
        let scene = Scene::new();
        fs::write(scene.s("becomes a file"), "v").unwrap();
        fs::create_dir(scene.d(extra)).unwrap();
        make_deep(&scene.d(extra), "d", LEVELS);
        let gone = (there - usize::from(extra != "extra")) as u64;
        let limited =
            |most| MirrorOptions { delete_limit: Some(DeleteLimit::Entries(most)), ..MirrorOptions::default() };
        let held = scene.told(limited(gone - 1)).0.held.unwrap();
        assert_eq!(held.deletes, gone, "{extra}");
        assert!(scene.d(extra).join("d/d/d").exists());
        for dry_run in [true, false] {
            let (outcome, _) = scene.told(MirrorOptions { dry_run, ..limited(gone) });
            assert!(outcome.held.is_none() && outcome.problems.is_empty(), "{:?}", outcome.problems);
            assert_eq!(
                (outcome.counts.deleted, outcome.counts.files_deleted),
                (gone, files as u64),
                "{extra} {dry_run}"
            );
        }
        scene.assert_equal();
    }
}

#[test]
fn what_is_too_deep_to_be_judged_or_saved_stays_and_is_told() {
    let scene = Scene::new();
    fs::create_dir(scene.d("extra")).unwrap();
    make_deep(&scene.d("extra"), "d", 300);
    let saving = MirrorOptions { backup_dir: Some(scene.scratch.path().join("kept")), ..MirrorOptions::default() };
    for options in [crate::choosing::options(&["file"], false, false), saving, MirrorOptions::default()] {
        let told = scene.told(MirrorOptions { allow_mass_delete: true, ..options.clone() }).0.problems;
        let careful = options.backup_dir.is_some() || !options.choice.is_everything();
        let too_deep = told.iter().all(|(_, problem)| matches!(problem, Problem::TooDeep(_)));
        assert!(told.len() == usize::from(careful) && too_deep, "{told:?}");
        assert_eq!(scene.d("extra").exists(), careful);
    }
}
