//! `lockstep mirror`: the rows M2.1 to M2.7, against the built program and an independent check.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use support::{Proc, Tree, assert_same_trees, lockstep, same_trees, scratch, until};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap_or(-1), text(&stdout), text(&stderr))
}

pub(crate) fn mirror(source: &Path, dest: &Path) -> Command {
    let mut command = lockstep();
    command.arg("mirror").arg(source).arg(dest);
    command
}

#[test]
fn m2_1_after_a_sync_source_and_destination_are_the_same() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source)
        .file("a", "one")
        .dir("empty")
        .file("sub/deep/b", "two")
        .link("to-a", "a")
        .link("broken", "no/where");
    let (code, stdout, stderr) = run(&mut mirror(&source, &dest));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_same_trees(&source, &dest);
    // And again after changes of every kind.
    fs::remove_file(source.join("a")).unwrap();
    fs::create_dir(source.join("a")).unwrap();
    fs::remove_dir(source.join("empty")).unwrap();
    fs::write(source.join("empty"), "now a file").unwrap();
    assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
    assert_same_trees(&source, &dest);
}

#[test]
fn m2_2_a_file_already_copied_is_skipped() {
    let dir = scratch();
    let (source, dest, log) = (dir.join("src"), dir.join("dst"), dir.join("log"));
    Tree::at(&source).file("a", "one").file("sub/b", "two");
    run(&mut mirror(&source, &dest));
    let changed = || {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(dest.join("sub/b")).unwrap();
        (meta.ino(), meta.ctime(), meta.ctime_nsec())
    };
    let before = changed();
    let (code, stdout, _) = run(mirror(&source, &dest).arg("--log").arg(&log));
    assert_eq!((code, changed()), (0, before), "not even its metadata was touched");
    assert!(stdout.contains("copied 0, updated 0, skipped 4, deleted 0, failed 0"), "{stdout}");
    assert!(fs::read_to_string(&log).unwrap().contains("skipped sub/b"));
}

#[test]
fn m2_3_what_is_extra_is_deleted() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "one");
    Tree::at(&dest).file("extra", "x").file("tree/of/extras", "x").link("dangling", "x");
    let (code, stdout, _) = run(&mut mirror(&source, &dest));
    assert_eq!(code, 0, "{stdout}");
    assert_same_trees(&source, &dest);
}

#[test]
fn m2_3_an_emptied_source_deletes_nothing_unless_told_to() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source);
    fs::create_dir_all(&source).unwrap();
    Tree::at(&dest).file("precious", "x");
    let (code, _, stderr) = run(&mut mirror(&source, &dest));
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("--allow-mass-delete") && dest.join("precious").exists());
    assert_eq!(run(mirror(&source, &dest).arg("--allow-mass-delete")).0, 0);
    assert!(!dest.join("precious").exists());
}

#[test]
fn m2_4_every_result_is_logged() {
    let dir = scratch();
    let (source, dest, log) = (dir.join("src"), dir.join("dst"), dir.join("log"));
    Tree::at(&source).file("new", "12345").file("changed", "new").file(".lockstep-tmp-0123456789abcdef", "x");
    Tree::at(&dest).file("changed", "older").file("extra", "x");
    let (code, _, stderr) = run(mirror(&source, &dest).arg("--log").arg(&log));
    assert_eq!(code, 1, "one entry failed");
    assert!(stderr.contains(".lockstep-tmp-0123456789abcdef") && stderr.lines().next().unwrap().contains("log"));
    let text = fs::read_to_string(&log).unwrap();
    for line in ["copied new 5 bytes", "updated changed 3 bytes", "deleted extra 0 bytes", "failed .lockstep-tmp-"] {
        assert!(text.contains(line), "{line:?} is missing in:\n{text}");
    }
    assert!(text.lines().all(|line| line.starts_with("20")), "each line begins with its time:\n{text}");
    // A pass without changes is told as well, and JSON is one object a line.
    fs::remove_file(source.join(".lockstep-tmp-0123456789abcdef")).unwrap();
    let (code, stdout, _) = run(mirror(&source, &dest).arg("--json").arg("--log").arg(&log));
    assert_eq!(code, 0);
    let last: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["action"], &last["copied"], &last["failed"]), (&"pass".into(), &0.into(), &0.into()));
    assert!(fs::read_to_string(&log).unwrap().lines().last().unwrap().contains("\"action\":\"pass\""));
}

#[test]
fn m2_5_an_invalid_source_is_refused_and_nothing_is_done() {
    let dir = scratch();
    Tree::at(dir.join("dst")).file("kept", "x");
    fs::write(dir.join("file"), "").unwrap();
    for bad in ["missing", "file"] {
        let (code, _, stderr) = run(&mut mirror(&dir.join(bad), &dir.join("dst")));
        assert_eq!(code, 3, "{stderr}");
        assert!(stderr.contains("nothing was done") && stderr.contains(bad), "{stderr}");
        let (code, ..) = run(lockstep().arg("mirror").arg(dir.join(bad)));
        assert_eq!(code, 3);
        assert!(!dir.join(format!("{bad}-mirror")).exists());
    }
    assert!(dir.join("dst/kept").exists());
    let (code, _, stderr) = run(&mut mirror(&dir.join("dst"), &dir.join("dst")));
    assert_eq!(code, 3, "{stderr}");
}

#[test]
fn m2_6_without_a_destination_one_beside_the_source_is_made_and_filled() {
    let dir = scratch();
    let source = dir.join("src");
    Tree::at(&source).file("a", "one").dir("empty");
    // However the source is written, the name is that of the directory.
    for shown in [source.join(""), source.join("empty/..")] {
        assert_eq!(run(lockstep().arg("mirror").arg(shown)).0, 0);
        assert_same_trees(&source, dir.join("src-mirror"));
    }
}

#[test]
fn m2_7_changes_are_followed_in_real_time_and_drift_is_repaired() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "one");
    let live = Proc::start(mirror(&source, &dest).arg("--watch"));
    live.wait_for_line("watching", PATIENCE);
    assert_same_trees(&source, &dest);
    let same = || same_trees(&source, &dest).is_ok();
    fs::write(source.join("a"), "two").unwrap();
    until(PATIENCE, "an edit to arrive", same);
    Tree::at(source.join("new")).file("deep/er/b", "b").link("l", "deep");
    until(PATIENCE, "a new tree to arrive", same);
    fs::rename(source.join("new"), source.join("renamed")).unwrap();
    until(PATIENCE, "a rename to arrive", same);
    fs::write(dest.join("a"), "meddled with").unwrap();
    fs::remove_dir_all(dest.join("renamed")).unwrap();
    until(PATIENCE, "the destination to be repaired", same);
    fs::remove_dir_all(source.join("renamed")).unwrap();
    until(PATIENCE, "a removal to arrive", same);
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "one").file("sub/b", "two");
    let (code, stdout, stderr) = run(mirror(&source, &dest).arg("--dry-run"));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("would-copy sub/b") && !dest.exists(), "{stdout}");
}
