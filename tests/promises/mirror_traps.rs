//! The traps of mirroring that docs/mirror.md lists and that are proved nowhere else: each an edit of one side, which a single
//! run must mend, and a live one as well.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::FileType;
use support::{PATIENCE, Proc, Tree, archive, assert_same_trees, pick, rsync, same_trees, scratch, until};

use crate::mirror::{mirror, run};

const DAY_NS: u64 = 86_400_000_000_000;
/// In 2001, and not a whole second.
const THEN_NS: u64 = 1_000_000_000_123_000_000;

/// What each trap is set in.
fn fill(dir: &Path) {
    Tree::at(dir)
        .file("file", "one")
        .mtime("file", THEN_NS)
        .file("dir/in/deep", "deep")
        .file("other/x", "x")
        .link("to-dir", "dir")
        .link("to-other", "other")
        .link("dangling", "no/where")
        .link("to-file", "file");
}

/// Sets a trap at the source, then at the destination: one run makes both the same, and so does one that watches.
#[track_caller]
fn is_mended(what: &str, edit: impl Fn(&Path)) {
    for side in ["src", "dst"] {
        let dir = scratch();
        let (source, dest) = (dir.join("src"), dir.join("dst"));
        let synced = || {
            let (code, stdout, stderr) = run(&mut mirror(&source, &dest));
            assert_eq!(code, 0, "{what} at {side}: {stdout}{stderr}");
        };
        fill(&source);
        synced();
        edit(&dir.join(side));
        assert!(same_trees(&source, &dest).is_err(), "{what} at {side}: the trap is set");
        synced();
        assert_same_trees(&source, &dest);
        // Again, live: from the beginning, so that the edit is one.
        for tree in [&source, &dest] {
            fs::remove_dir_all(tree).unwrap();
        }
        fill(&source);
        let mut live = Proc::start(mirror(&source, &dest).arg("--watch"));
        live.wait_for_line("watching", PATIENCE);
        // At once, for it repairs faster than an edit of many steps is done.
        live.pause();
        edit(&dir.join(side));
        fs::write(source.join("marker"), what).unwrap();
        live.resume();
        until(PATIENCE, &format!("{what} at {side} to be mended live"), || same_trees(&source, &dest).is_ok());
    }
}

/// Other content of the same size.
fn rewrite(dir: &Path, mtime_ns: u64) {
    Tree::at(dir).file("file", "two").mtime("file", mtime_ns);
}

#[test]
fn m2_1_same_size_and_a_millisecond_later() {
    is_mended("a millisecond later", |dir| rewrite(dir, THEN_NS + 1_000_000));
}

#[test]
fn m2_1_same_size_and_a_second_older() {
    is_mended("a second older", |dir| rewrite(dir, THEN_NS - 1_000_000_000));
}

#[test]
fn m2_1_same_size_and_a_day_older() {
    is_mended("a day older", |dir| rewrite(dir, THEN_NS - DAY_NS));
}

#[test]
fn m2_1_only_the_mode_of_a_file_or_a_directory() {
    is_mended("a mode", |dir| {
        fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o751)).unwrap();
        fs::set_permissions(dir.join("dir/in"), fs::Permissions::from_mode(0o700)).unwrap();
    });
}

#[test]
fn m2_1_only_the_time_of_a_file_a_directory_or_a_link() {
    is_mended("a time", |dir| {
        let tree = Tree::at(dir).mtime("file", THEN_NS + 1).mtime("dir", THEN_NS);
        drop(tree);
        let time = rustix::fs::Timespec { tv_sec: 1, tv_nsec: 2 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let no_follow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, dir.join("to-dir"), &times, no_follow).unwrap();
    });
}

#[test]
fn m2_1_links_new_retargeted_and_removed() {
    is_mended("links", |dir| {
        let tree =
            Tree::at(dir).link("new-to-dir", "dir/in").link("new-dangling", "nowhere at all").link("loop", "loop");
        let tree = tree.remove("to-dir").link("to-dir", "other").remove("dangling").link("dangling", "/nowhere");
        drop(tree.remove("to-other").remove("to-file"));
    });
}

#[test]
fn m2_1_what_a_removed_or_retargeted_link_led_to_stays() {
    let dir = scratch();
    let (source, dest, outside) = (dir.join("src"), dir.join("dst"), dir.join("outside"));
    Tree::at(&outside).file("precious", "1").file("sub/precious", "2");
    for n in ["goes", "becomes a directory", "becomes a file", "is retargeted"] {
        drop(Tree::at(&source).link(n, &outside));
    }
    let live = Proc::start(mirror(&source, &dest).arg("--watch"));
    live.wait_for_line("watching", PATIENCE);
    assert_same_trees(&source, &dest);
    let tree = Tree::at(&source).remove("goes").remove("becomes a directory").file("becomes a directory/precious", "3");
    drop(
        tree.remove("becomes a file").file("becomes a file", "4").remove("is retargeted").link("is retargeted", "goes"),
    );
    until(PATIENCE, "the links to be replaced", || same_trees(&source, &dest).is_ok());
    drop(live);
    // And where only the destination has one.
    drop(Tree::at(&dest).link("extra", &outside).remove("becomes a directory").link("becomes a directory", &outside));
    assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
    assert_same_trees(&source, &dest);
    let read = |name: &str| fs::read(outside.join(name)).unwrap();
    assert_eq!((read("precious"), read("sub/precious")), (b"1".to_vec(), b"2".to_vec()));
    assert_eq!(fs::read_dir(outside).unwrap().count(), 2);
}

#[test]
fn m2_1_file_directory_and_link_become_each_other() {
    is_mended("kinds", |dir| {
        let tree =
            Tree::at(dir).remove("file").file("file/now a/directory", "1").remove("dir").file("dir", "now a file");
        let tree = tree.remove("other").link("other", "dir").remove("to-dir").file("to-dir/was/link", "2");
        drop(tree.remove("to-file").file("to-file", "3").remove("dangling").dir("dangling"));
    });
}

#[test]
fn m2_1_names_that_break_lines_and_are_no_text() {
    is_mended("names", |dir| {
        let longest = "n".repeat(255);
        for name in ["a\nb", "\n", "-rf", " ", "\u{1b}[31mred", "tab\t", "*", "back\\slash", "\u{202e}fdp", &longest] {
            drop(Tree::at(dir).file(name, name).file(format!("in {}/x", &name[..name.len().min(200)]), "x"));
        }
        let raw = [&b"\xff\xfe"[..], b"caf\xe9", b"\x80\n"];
        for name in raw.map(OsStr::from_bytes) {
            drop(Tree::at(dir).file(name, "raw").dir("raw"));
            drop(Tree::at(dir.join("raw")).link(name, name));
        }
    });
}

#[test]
fn m2_1_an_update_is_a_new_inode_and_who_has_the_old_one_keeps_it() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "old content");
    assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
    let before = fs::metadata(dest.join("a")).unwrap().ino();
    let mut reader = fs::File::open(dest.join("a")).unwrap();
    fs::hard_link(dest.join("a"), dir.join("another name")).unwrap();
    fs::write(source.join("a"), "new").unwrap();
    assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!(
        (read.as_str(), fs::read_to_string(dir.join("another name")).unwrap().as_str()),
        ("old content", "old content")
    );
    assert_ne!(before, fs::metadata(dest.join("a")).unwrap().ino());
    assert_same_trees(&source, &dest);
}

/// How much a process wrote so far, wherever it is.
fn written(proc: &Proc) -> u64 {
    let told = fs::read_to_string(format!("/proc/{}/io", proc.pid().as_raw_nonzero())).unwrap_or_default();
    told.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(0)
}

/// Where it is new, where it was, in a directory that is new, and where it takes a directory's place.
#[test]
fn m2_1_killed_half_way_through_a_large_file_nothing_is_torn_and_the_next_run_repairs() {
    let size = pick(24_usize << 20, 2 << 30);
    for place in ["file", "new", "new dir/large", "dir"] {
        let dir = scratch();
        let (source, dest) = (dir.join("src"), dir.join("dst"));
        fill(&source);
        assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
        // Older than what is there, so that nothing of time hides what is half done.
        if place == "dir" {
            drop(Tree::at(&source).remove("dir"));
        }
        drop(Tree::at(&source).file(place, ""));
        let mut large = fs::File::create(source.join(place)).unwrap();
        for n in 0..size >> 20 {
            large.write_all(&[u8::try_from(n % 251).unwrap(); 1 << 20]).unwrap();
        }
        drop(Tree::at(&source).mtime(place, THEN_NS - DAY_NS));
        let mut slow = Proc::start(mirror(&source, &dest).args(["--bwlimit", pick("8M", "400M")]));
        until(PATIENCE, "some of it to be written", || written(&slow) > size as u64 / 8);
        assert!(slow.is_running(), "some of it is still to come");
        slow.kill9();
        let there = |name: &str| fs::read(dest.join(name)).ok();
        match place {
            "file" => assert_eq!(there("file").unwrap(), b"one"),
            "dir" => assert_eq!(there("dir/in/deep").unwrap(), b"deep"),
            new => assert_eq!(there(new), None),
        }
        assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
        assert_same_trees(&source, &dest);
    }
}

/// A fifo that is there first, one that replaces a file, and one that a file replaces, while it watches.
#[test]
fn m2_7_a_fifo_hangs_nothing_also_live() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    fill(&source);
    archive::node(&source.join("pipe"), FileType::Fifo, 0).unwrap();
    let live = Proc::start(mirror(&source, &dest).args(["--watch", "--specials"]));
    live.wait_for_line("watching", PATIENCE);
    drop(Tree::at(&source).remove("file").remove("pipe").file("pipe", "a file"));
    archive::node(&source.join("file"), FileType::Fifo, 0).unwrap();
    archive::node(&source.join("dir/in/another"), FileType::Fifo, 0).unwrap();
    fs::write(source.join("marker"), "").unwrap();
    let is_fifo =
        |name: &str| dest.join(name).symlink_metadata().is_ok_and(|meta| meta.mode() & 0o170_000 == 0o010_000);
    until(PATIENCE, "all to arrive", || {
        is_fifo("file")
            && is_fifo("dir/in/another")
            && fs::read(dest.join("pipe")).is_ok_and(|found| found == b"a file")
    });
}

/// The same traps catch those who fall into them.
#[test]
fn copiers_that_fall_into_a_trap_are_caught() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    fill(&source);
    assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
    let newer_only = || {
        let from = source.join("");
        assert!(rsync().args(["-a", "--update", "--delete"]).arg(from).arg(&dest).status().unwrap().success());
    };
    newer_only();
    assert_same_trees(&source, &dest);
    rewrite(&source, THEN_NS - DAY_NS);
    newer_only();
    assert!(same_trees(&source, &dest).is_err(), "what is older");
    assert_eq!(run(&mut mirror(&source, &dest)).0, 0);
    fs::set_permissions(source.join("file"), fs::Permissions::from_mode(0o751)).unwrap();
    let from = source.join("");
    assert!(rsync().args(["-rlt", "--delete"]).arg(from).arg(&dest).status().unwrap().success());
    assert!(same_trees(&source, &dest).is_err(), "a mode");
}
