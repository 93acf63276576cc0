//! `lockstep mirror`: what it may do, and how sure it makes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use support::{PATIENCE, Proc, Tree, assert_same_trees, lockstep, scratch, until};

use crate::mirror::{mirror, run};

const HOUR: Duration = Duration::from_secs(3_600);

fn records(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|e| format!("<{e}>"))
}

fn age(path: impl AsRef<Path>, from_now: i64) {
    let span = HOUR * u32::try_from(from_now.unsigned_abs()).unwrap();
    let time = if from_now < 0 { SystemTime::now() - span } else { SystemTime::now() + span };
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn m2_4_json_tells_each_path_once_and_the_summary_counts_them() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source)
        .file("new", "12345")
        .file("changed", "new")
        .file("same", "x")
        .file("sub/deep", "x")
        .link("l", "new");
    Tree::at(&dest).file("changed", "older").file("extra/1", "x").file("extra/2", "x");
    let (code, stdout, _) = run(mirror(&source, &dest).arg("--json"));
    assert_eq!(code, 0, "{stdout}");
    let records = records(&stdout);
    let of = |action: &str| -> Vec<&str> {
        records.iter().filter(|r| r["action"] == action).map(|r| r["path"].as_str().unwrap()).collect()
    };
    let mut copied = of("copied");
    copied.sort_unstable();
    assert_eq!(copied, ["l", "new", "same", "sub", "sub/deep"]);
    // The directory itself, whose time is not that of the source's, is an entry as well.
    assert!(of("updated").contains(&"changed"), "{:?}", of("updated"));
    assert_eq!(of("deleted"), ["extra/1", "extra/2", "extra"]);
    let last = records.last().unwrap();
    for (counter, expected) in [
        ("copied", 5),
        ("deleted", 3),
        ("failed", 0),
        ("directories", 2),
        ("files_copied", 3),
        ("files_updated", 1),
        ("files_deleted", 2),
        ("bytes", 5 + 1 + 1 + 3),
        ("left", 0),
    ] {
        assert_eq!(last[counter], expected, "{counter} in {last}");
    }
    assert!(last["action"] == "pass" && last["dry_run"] == false && last["held"].is_null());
}

#[test]
fn diff_tells_the_names_of_each_side_and_changes_nothing() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("both", "1").file("sub/a", "1").file("left", "1").file("newdir/x", "1").file("x.o", "");
    Tree::at(&dest).file("both", "differs").file("sub/b", "1").file("right/y", "1").file("z.o", "");
    let before = support::stat_differences(&dest, &dest).unwrap();
    let ctime = |path: &Path| fs::metadata(path).map(|m| (m.ctime(), m.ctime_nsec())).unwrap();
    let stamp = ctime(&dest);
    let (code, stdout, _) = run(mirror(&source, &dest).args(["--diff", "--exclude", "*.o"]));
    assert_eq!(code, 0, "names that differ are no failure");
    let mut lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.pop(), Some("only in the source 4, only in the destination 3, in both 2"));
    assert_eq!(
        lines,
        ["-- both", ">> left", ">> newdir", ">> newdir/x", "<< right", "<< right/y", "-- sub", ">> sub/a", "<< sub/b"]
    );
    let (_, stdout, _) = run(mirror(&source, &dest).args(["--diff", "--json", "--exclude", "*.o"]));
    let records = records(&stdout);
    assert_eq!(records[1]["action"], "only-source");
    assert_eq!((&records[1]["path"], &records[1]["kind"]), (&"left".into(), &"file".into()));
    let last = records.last().unwrap();
    assert_eq!((&last["only_source"], &last["only_destination"], &last["both"]), (&4.into(), &3.into(), &2.into()));
    assert_eq!((read(dest.join("both")), ctime(&dest)), ("differs".into(), stamp));
    assert_eq!(support::stat_differences(&dest, &dest).unwrap(), before);
    // A destination that is not there has nothing, and is not made.
    let (code, stdout, _) = run(mirror(&source, &dir.join("none")).arg("--diff"));
    assert!(code == 0 && stdout.contains(">> both") && !dir.join("none").exists(), "{stdout}");
    let (code, ..) = run(mirror(&source, &dest).args(["--diff", "--watch"]));
    assert_eq!(code, 2);
}

#[test]
fn no_delete_makes_and_updates_and_deletes_nothing() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "new").file("full", "a file").file("empty", "a file");
    Tree::at(&dest).file("a", "older").file("extra", "x").file("full/of", "x").dir("empty");
    let (code, stdout, stderr) = run(mirror(&source, &dest).args(["--no-delete", "--json"]));
    assert_eq!(code, 1, "a directory in the way is told: {stderr}");
    assert!(stderr.contains("full") && stderr.contains("nothing is deleted"), "{stderr}");
    assert_eq!(
        (read(dest.join("a")), read(dest.join("extra")), read(dest.join("full/of"))),
        ("new".into(), "x".into(), "x".into())
    );
    let left = records(&stdout).into_iter().find(|r| r["action"] == "left").unwrap();
    assert_eq!((&left["path"], &left["why"]), (&"extra".into(), &"extra".into()));
    let (code, _, stderr) = run(mirror(&source, &dest).args(["--no-delete", "--allow-mass-delete"]));
    assert!(code == 2 && stderr.contains("--no-delete"), "{stderr}");
}

#[test]
fn existing_touches_only_what_both_sides_have() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("both", "new").file("new", "x").file("sub/both", "new").file("sub/new", "x").dir("kind");
    Tree::at(&dest).file("both", "older").file("extra", "x").file("sub/both", "older").file("kind", "a file");
    let (code, stdout, _) = run(mirror(&source, &dest).args(["--existing", "--dry-run"]));
    assert!(code == 0 && stdout.contains("would-update both") && stdout.contains("left new (missing)"), "{stdout}");
    assert_eq!(run(mirror(&source, &dest).arg("--existing")).0, 0);
    assert_eq!((read(dest.join("both")), read(dest.join("sub/both"))), ("new".into(), "new".into()));
    assert!(!dest.join("new").exists() && !dest.join("sub/new").exists() && dest.join("extra").exists());
    assert_eq!(read(dest.join("kind")), "a file");
    for with in ["--max-delete=1", "--delete-excluded", "--allow-mass-delete"] {
        let (code, _, stderr) = run(mirror(&source, &dest).args(["--existing", with]));
        assert!(code == 2 && stderr.contains("cannot be used with"), "{with}: {stderr}");
    }
}

#[test]
fn update_never_overwrites_what_is_newer_also_live() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("older here", "source").file("newer here", "source").link("link", "a");
    Tree::at(&dest).file("older here", "destination").file("newer here", "destination").file("link", "newer");
    age(dest.join("older here"), 1);
    age(dest.join("link"), 1);
    age(dest.join("newer here"), -1);
    let (code, stdout, _) = run(mirror(&source, &dest).args(["--update", "--json"]));
    assert_eq!(code, 0, "{stdout}");
    assert_eq!(read(dest.join("newer here")), "source");
    assert_eq!((read(dest.join("older here")), read(dest.join("link"))), ("destination".into(), "newer".into()));
    let left: Vec<Value> = records(&stdout).into_iter().filter(|r| r["action"] == "left").collect();
    assert!(left.len() == 2 && left.iter().all(|r| r["why"] == "newer"), "{left:?}");
    let live = Proc::start(mirror(&source, &dest).args(["--watch", "--update"]));
    live.wait_for_line("watching", PATIENCE);
    fs::write(dest.join("newer here"), "edited here").unwrap();
    fs::write(source.join("older here"), "again").unwrap();
    fs::write(source.join("marker"), "").unwrap();
    until(PATIENCE, "a later change to arrive", || dest.join("marker").exists());
    assert_eq!(
        (read(dest.join("older here")), read(dest.join("newer here"))),
        ("destination".into(), "edited here".into())
    );
}

#[test]
fn what_is_overwritten_or_deleted_is_in_the_backup_first() {
    let dir = scratch();
    let (source, dest, backup) = (dir.join("src"), dir.join("dst"), dir.join("backup"));
    Tree::at(&source).file("sub/a", "new").file("kind", "now a file").dir("file");
    Tree::at(&dest)
        .file("sub/a", "older")
        .file("extra/deep/b", "x")
        .link("dangling", "no")
        .file("kind/in", "y")
        .file("file", "z");
    let run_it = || run(mirror(&source, &dest).arg("--backup-dir").arg(&backup));
    assert_eq!(run_it().0, 0);
    assert_same_trees(&source, &dest);
    for (name, content) in [("sub/a", "older"), ("extra/deep/b", "x"), ("kind/in", "y"), ("file", "z")] {
        assert_eq!(read(backup.join(name)), content, "{name}");
    }
    assert_eq!(fs::read_link(backup.join("dangling")).unwrap(), Path::new("no"));
    for n in 1..3 {
        fs::write(source.join("sub/a"), format!("version {n}")).unwrap();
        assert_eq!(run_it().0, 0);
    }
    assert_eq!((read(backup.join("sub/a.~1~")), read(backup.join("sub/a.~2~"))), ("new".into(), "version 1".into()));
    // In the source it would be mirrored, and around it overwritten.
    for wrong in [source.join("b"), source.clone(), dest.clone(), dir.join(".")] {
        let (code, _, stderr) = run(mirror(&source, &dest).arg("--backup-dir").arg(&wrong));
        assert!(code == 3 && stderr.contains("backup directory") && !source.join("b").exists(), "{stderr}");
    }
}

#[test]
fn a_backup_on_another_file_system_is_a_copy_with_mode_and_time() {
    let (dir, memory) = (scratch(), Path::new("/dev/shm"));
    if !memory.is_dir() || fs::metadata(memory).unwrap().dev() == fs::metadata(dir.join("")).unwrap().dev() {
        support::could_not_run("a second file system in /dev/shm");
    }
    let backup = memory.join(format!("lockstep-test-{}", std::process::id()));
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "new");
    Tree::at(&dest).file("a", "older").mode("a", 0o640).mtime("a", 1_000_000_000).file("d/b", "x").link("l", "a");
    let (code, stdout, stderr) = run(mirror(&source, &dest).arg("--backup-dir").arg(&backup));
    let saved = fs::metadata(backup.join("a")).map(|m| (m.mode() & 0o777, m.mtime()));
    let contents = (read(backup.join("a")), read(backup.join("d/b")), fs::read_link(backup.join("l")));
    let left: Vec<_> = fs::read_dir(&backup).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    fs::remove_dir_all(&backup).unwrap();
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_eq!((saved.unwrap(), contents.0, contents.1), ((0o640, 1), "older".into(), "x".into()));
    assert_eq!(contents.2.unwrap(), Path::new("a"));
    assert_eq!(left.len(), 3, "no temporary stays: {left:?}");
    assert_same_trees(&source, &dest);
}

#[test]
fn m2_7_a_backup_in_the_destination_is_left_alone_also_live() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    let backup = dest.join("old");
    Tree::at(&source).file("a", "1").file("b", "1");
    assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
    let live = Proc::start(mirror(&source, &dest).arg("--watch").arg("--backup-dir").arg(&backup));
    live.wait_for_line("watching", PATIENCE);
    fs::write(source.join("a"), "2").unwrap();
    fs::remove_file(source.join("b")).unwrap();
    until(PATIENCE, "the old ones to be saved", || read(backup.join("a")) == "1" && read(backup.join("b")) == "1");
    until(PATIENCE, "the new one to arrive", || read(dest.join("a")) == "2" && !dest.join("b").exists());
    fs::write(backup.join("mine"), "x").unwrap();
    fs::write(source.join("marker"), "").unwrap();
    until(PATIENCE, "a later change to arrive", || dest.join("marker").exists());
    drop(live);
    let (code, stdout, _) = run(mirror(&source, &dest).arg("--backup-dir").arg(&backup));
    assert!(code == 0 && stdout.contains("deleted 0"), "{stdout}");
    assert_eq!((read(backup.join("a")), read(backup.join("mine"))), ("1".into(), "x".into()));
    // What cannot be saved is not lost either.
    fs::remove_dir_all(&backup).unwrap();
    fs::write(&backup, "a file").unwrap();
    let (code, _, stderr) = run(mirror(&source, &dest).arg("--backup-dir").arg(&backup));
    assert!(code == 3 && stderr.contains("not a directory"), "{stderr}");
}

#[test]
fn a_limit_of_deletions_holds_them_all_and_does_the_rest() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "1");
    Tree::at(&dest).file("x/1", "").file("x/2", "").file("x/3", "").file("y", "");
    for limit in ["4", "50%"] {
        fs::write(source.join("a"), limit).unwrap();
        let (code, stdout, stderr) = run(mirror(&source, &dest).args(["--max-delete", limit]));
        assert_eq!(code, 4, "{stdout}{stderr}");
        assert!(stderr.contains(&format!("--max-delete is {limit}")) && dest.join("x/1").exists(), "{stderr}");
        assert_eq!(read(dest.join("a")), limit, "all else is done");
    }
    assert_eq!(run(mirror(&source, &dest).args(["--max-delete", "5"])).0, 0);
    assert_same_trees(&source, &dest);
    assert_eq!(run(mirror(&source, &dest).args(["--max-delete", "ten"])).0, 2);
}

#[test]
fn verified_and_synced_copies_are_the_same_in_new_and_in_old_directories() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).every_kind();
    Tree::at(&dest).file("large", "older").dir("deep");
    let (code, stdout, stderr) = run(mirror(&source, &dest).args(["--verify", "--fsync"]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert_same_trees(&source, &dest);
}

#[test]
fn a_rate_is_kept_and_a_stop_does_not_wait_for_it() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("small/1", [1; 100_000]).file("small/2", [2; 100_000]).file("large", vec![3; 300_000]);
    let begin = Instant::now();
    assert_eq!(run(mirror(&source, &dest).args(["--bwlimit", "500K/s"])).0, 0);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(950), "500,000 bytes in {took:?}");
    assert_same_trees(&source, &dest);
    fs::write(source.join("slow"), vec![4; 1 << 20]).unwrap();
    let mut slow = Proc::start(mirror(&source, &dest).args(["--bwlimit", "1K"]));
    slow.wait_for_line("log", PATIENCE);
    slow.interrupt();
    assert_eq!(slow.wait_exit(PATIENCE).code(), Some(130));
    assert!(!dest.join("slow").exists(), "never torn");
}

#[test]
fn ctime_copies_again_what_changed_after_the_time_of_the_copy() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "1").mtime("a", 1_000_000_000_000_000_000);
    assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
    let (_, stdout, _) = run(&mut mirror(&source, &dest));
    assert!(stdout.contains("updated 0"), "{stdout}");
    // Its times were set after it was written, so by dirsync's rule it is newer than its copy, each time.
    for _ in 0..2 {
        let (code, stdout, _) = run(mirror(&source, &dest).args(["--ctime", "--json"]));
        assert!(code == 0 && records(&stdout).last().unwrap()["files_updated"] == 1, "{stdout}");
    }
}

#[test]
fn content_is_another_word_for_checksum() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "one").mtime("a", 1_000_000_000_000_000_000);
    Tree::at(&dest).file("a", "two").mtime("a", 1_000_000_000_000_000_000);
    assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
    assert_eq!(read(dest.join("a")), "two", "size and time are the same");
    assert_eq!(run(mirror(&source, &dest).arg("--content")).0, 0);
    assert_eq!(read(dest.join("a")), "one");
}

#[test]
fn m2_7_with_an_interval_everything_is_compared_again() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "1");
    let live = Proc::start(mirror(&source, &dest).args(["--watch", "--interval", "1s", "--json"]));
    live.wait_for_line("watching", PATIENCE);
    let passes = || live.output().iter().filter(|line| line.contains("\"action\":\"pass\"")).count();
    until(PATIENCE, "two more passes without any change", || passes() >= 3);
    let (code, _, stderr) = run(lockstep().args(["mirror", "x", "--interval", "1s"]));
    assert!(code == 2 && stderr.contains("--watch"), "{stderr}");
}

/// All others miss it: nothing but inode and ctime tells that the content is another one.
#[test]
fn m2_1_a_change_that_leaves_size_and_time_is_found_by_the_next_run_with_a_state() {
    let dir = scratch();
    let (source, dest, state) = (dir.join("src"), dir.join("dst"), dir.join("state"));
    let time = 1_000_000_000_000_000_000;
    Tree::at(&source).file("a", "one").mtime("a", time).file("sub/b", "one").mtime("sub/b", time);
    let with_state = || run(mirror(&source, &dest).arg("--state").arg(&state));
    assert_eq!(with_state().0, 0);
    // In place, and by another file renamed over it; at the source and at the destination.
    Tree::at(&source).file("a", "two").mtime("a", time).file("new", "two").mtime("new", time);
    fs::rename(source.join("new"), source.join("sub/b")).unwrap();
    let (_, stdout, _) = run(mirror(&source, &dest).arg("--json"));
    assert_eq!(records(&stdout).last().unwrap()["files_updated"], 0, "without a state nothing is seen: {stdout}");
    assert_eq!((read(dest.join("a")), read(dest.join("sub/b"))), ("one".into(), "one".into()));
    assert_eq!(with_state().0, 0);
    assert_same_trees(&source, &dest);
    Tree::at(&dest).file("a", "bad").mtime("a", time);
    assert_eq!(with_state().0, 0);
    assert_eq!(read(dest.join("a")), "two");
    // Nothing is read or touched where nothing changed.
    let stamp = || fs::metadata(dest.join("a")).map(|m| (m.ino(), m.ctime(), m.ctime_nsec())).unwrap();
    let before = stamp();
    let (code, stdout, _) = with_state();
    assert!(code == 0 && stdout.contains("copied 0, updated 0"), "{stdout}");
    assert_eq!(stamp(), before);
}

#[test]
fn a_state_that_can_be_nowhere_is_told_before_anything_is_done() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "one");
    fs::write(dir.join("notes"), "mine").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for (state, why) in [
        ("none/state", "does not exist"),
        ("src", "it is a directory"),
        ("notes", "it holds something else"),
        ("link", "it is a symbolic link"),
        ("pipe", "it is no regular file"),
    ] {
        let (code, _, stderr) = run(mirror(&source, &dest).arg("--state").arg(dir.join(state)));
        assert!(code == 3 && stderr.contains(why) && stderr.contains("the state cannot be kept in"), "{stderr}");
        assert!(!dest.exists(), "nothing was done");
    }
    assert_eq!(fs::read(dir.join("notes")).unwrap(), b"mine");
}

#[test]
fn a_state_that_is_torn_or_of_another_pair_is_told_and_replaced() {
    let dir = scratch();
    let (source, dest, state) = (dir.join("src"), dir.join("dst"), dir.join("state"));
    Tree::at(&source).file("a", "1");
    let with_state = |source: &Path| run(mirror(source, &dest).arg("--state").arg(&state));
    assert_eq!(with_state(&source).0, 0);
    let whole = fs::read(&state).unwrap();
    fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    let (code, _, stderr) = with_state(&source);
    assert!(code == 0 && stderr.contains("torn"), "{stderr}");
    assert_eq!(fs::read(&state).unwrap().len(), whole.len());
    let (_, _, stderr) = with_state(&source);
    assert!(!stderr.contains("state in"), "{stderr}");
    Tree::at(dir.join("other")).file("a", "1");
    // Another source may be one that is not mounted: its copy stays, until somebody says otherwise. Not so on a disk that is another one
    // at each start: tmpfs, ramfs, overlay.
    let kind = rustix::fs::statfs(&*dir).unwrap().f_type;
    if ![0x0102_1994, 0x8584_58f6, 0x794c_7630].contains(&kind) {
        let (code, _, stderr) = with_state(&dir.join("other"));
        assert!(code == 3 && stderr.contains("perhaps its disk is not mounted"), "{stderr}");
        assert_same_trees(&source, &dest);
    }
    let said = ["--allow-mass-delete", "--state"];
    let (code, _, stderr) = run(mirror(&dir.join("other"), &dest).args(said).arg(&state));
    assert!(code == 0 && stderr.contains("another source"), "{stderr}");
    assert_same_trees(dir.join("other"), &dest);
    let (code, _, stderr) = run(mirror(&source, &dir.join("dst 2")).arg("--state").arg(&state));
    assert!(code == 0 && stderr.contains("another pair"), "{stderr}");
    // A dry run leaves no state.
    assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
    assert_eq!(run(mirror(&source, &dest).args(["--dry-run", "--state"]).arg(dir.join("dry"))).0, 0);
    assert!(!dir.join("dry").exists());
    // In the destination it is ours, and stays.
    let inside = dest.join("state");
    for _ in 0..2 {
        assert_eq!(run(mirror(&source, &dest).arg("--state").arg(&inside)).0, 0);
        assert!(inside.exists());
    }
}

/// As dirsync's `ctime` does: what replaced the source with an older file is newer than its copy.
#[test]
fn with_ctime_an_older_file_that_came_later_is_no_older_one() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&dest).file("replaced", "newer").file("kept", "newer");
    age(dest.join("replaced"), -1);
    Tree::at(&source).file("replaced", "an older one, put back").file("kept", "older");
    for name in ["replaced", "kept"] {
        age(source.join(name), -2);
    }
    assert_eq!(run(mirror(&source, &dest).arg("--update")).0, 0);
    assert_eq!(read(dest.join("replaced")), "newer");
    age(dest.join("kept"), 1);
    assert_eq!(run(mirror(&source, &dest).args(["--update", "--ctime"])).0, 0);
    assert_eq!(
        (read(dest.join("replaced")), read(dest.join("kept"))),
        ("an older one, put back".into(), "newer".into())
    );
}
