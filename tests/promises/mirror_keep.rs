//! `lockstep mirror --archive` and its parts: what is kept beside content, mode, time and link targets. Checked by rsync and
//! by a plain walk, on the file systems this machine has.

mod live;
mod random;
mod refused;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::fs::FileType;
use support::archive::{self, ACL_ACCESS, acl, own, set_xattr};
use support::tool::root;
use support::{Scratch, Tree, lockstep, same_archives, scratch};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of the test's own in memory, where there is such a file system.
fn in_memory() -> Option<Scratch> {
    Path::new("/dev/shm").is_dir().then(|| support::scratch::scratch_in("/dev/shm"))
}

/// Every pair of file systems there is: a source and a destination that is not there yet.
fn pairs() -> Vec<(Scratch, Scratch)> {
    let mut pairs = vec![(scratch(), scratch())];
    if let (Some(a), Some(b), Some(c)) = (in_memory(), in_memory(), in_memory()) {
        pairs.extend([(a, scratch()), (scratch(), b), (c, in_memory().expect("as before"))]);
    }
    pairs
}

pub(crate) fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap_or(-1), text(&stdout), text(&stderr))
}

pub(crate) fn mirror(source: &Path, dest: &Path, flags: &[&str]) -> Command {
    let mut command = lockstep();
    command.arg("mirror").arg(source).arg(dest).args(flags);
    command
}

#[track_caller]
fn mirrored(source: &Path, dest: &Path, flags: &[&str]) -> String {
    let (code, stdout, stderr) = run(&mut mirror(source, dest, flags));
    assert_eq!(code, 0, "{stdout}{stderr}");
    stdout
}

#[track_caller]
fn assert_same_archives(source: &Path, dest: &Path) {
    if let Err(differences) = same_archives(source, dest) {
        panic!("{differences}");
    }
}

fn inode(path: PathBuf) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

/// Everything that changes when something is touched.
fn touched(dir: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    let mut seen = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        seen.push((path, meta.ino(), meta.ctime(), meta.ctime_nsec()));
    }
    seen.sort();
    seen
}

#[test]
fn m2_1_an_archive_is_the_same_on_every_file_system_and_nothing_of_it_is_touched_twice() {
    if !root() {
        return;
    }
    for (a, b) in pairs() {
        let (source, dest) = (a.join("src"), b.join("dst"));
        archive::fill(&source);
        mirrored(&source, &dest, &["-a"]);
        assert_same_archives(&source, &dest);
        let before = touched(&dest);
        let again = mirrored(&source, &dest, &["--archive"]);
        assert!(again.contains("copied 0, updated 0,"), "{again}");
        assert_eq!(before, touched(&dest), "not even metadata was touched");
    }
}

#[test]
fn m2_1_what_an_archive_lost_at_the_destination_is_given_back() {
    if !root() {
        return;
    }
    for (a, b) in pairs() {
        let (source, dest) = (a.join("src"), b.join("dst"));
        archive::fill(&source);
        mirrored(&source, &dest, &["-a"]);
        let at = |name: &str| dest.join(name);
        own(&at("owned"), 0, 0).unwrap();
        own(&at("link"), 0, 0).unwrap();
        own(&dest, 0, 0).unwrap();
        own(&at("sub"), 5, 5).unwrap();
        fs::set_permissions(at("program"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(at("plain"), fs::Permissions::from_mode(0o6755)).unwrap();
        archive::remove_xattr(&at("sub/noted"), "user.note").unwrap();
        set_xattr(&at("sub/noted"), "user.empty", b"no more").unwrap();
        set_xattr(&at("plain"), "user.more", b"1").unwrap();
        set_xattr(&dest, "user.of-the-root", b"2").unwrap();
        set_xattr(&at("link"), "trusted.of-a-link", b"2").unwrap();
        set_xattr(&at("sub/deep"), "user.of-a-directory", b"2").unwrap();
        set_xattr(&at("listed"), ACL_ACCESS, &acl(1234, 0, 6, 4)).unwrap();
        set_xattr(&at("sub/hole"), ACL_ACCESS, &acl(1234, 6, 6, 0)).unwrap();
        archive::remove_xattr(&at("sub/deep"), archive::ACL_DEFAULT).unwrap();
        fs::remove_file(at("fifo")).unwrap();
        fs::write(at("fifo"), "a file").unwrap();
        fs::remove_file(at("null")).unwrap();
        archive::node(&at("null"), FileType::CharacterDevice, rustix::fs::makedev(1, 5)).unwrap();
        fs::remove_file(at("sub/socket")).unwrap();
        fs::create_dir_all(at("sub/socket/full")).unwrap();
        own(&at("sub/loop"), 3, 3).unwrap();
        mirrored(&source, &dest, &["-a"]);
        assert_same_archives(&source, &dest);
    }
}

#[test]
fn m2_1_what_changes_at_the_source_without_its_time_follows() {
    if !root() {
        return;
    }
    let (dir, at) = (scratch(), |dir: &Path, name: &str| dir.join(name));
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    archive::fill(&source);
    mirrored(&source, &dest, &["-a"]);
    own(&at(&source, "plain"), 8, 9).unwrap();
    own(&at(&source, "program"), 8, 9).unwrap();
    fs::set_permissions(at(&source, "program"), fs::Permissions::from_mode(0o4711)).unwrap();
    set_xattr(&at(&source, "plain"), "user.new", b"1").unwrap();
    archive::remove_xattr(&at(&source, "listed"), ACL_ACCESS).unwrap();
    set_xattr(&at(&source, "sub"), ACL_ACCESS, &acl(77, 7, 7, 0)).unwrap();
    own(&at(&source, "sub/deep/fourth"), 10, 11).unwrap();
    set_xattr(&at(&source, "another"), "user.of-all-names", b"1").unwrap();
    let program = inode(at(&dest, "program"));
    mirrored(&source, &dest, &["-a"]);
    assert_same_archives(&source, &dest);
    assert_ne!(program, inode(at(&dest, "program")), "set-id bits are given only to content that was just read");
}

#[test]
fn each_flag_keeps_its_own_and_nothing_else() {
    if !root() {
        return;
    }
    let dir = scratch();
    let source = dir.join("src");
    let tree = Tree::at(&source).file("f", "1").file("program", "2");
    set_xattr(&source.join("f"), "user.note", b"1").unwrap();
    set_xattr(&source.join("f"), ACL_ACCESS, &acl(1234, 6, 6, 0)).unwrap();
    own(&source.join("f"), 12, 34).unwrap();
    own(&source.join("program"), 12, 34).unwrap();
    fs::set_permissions(source.join("program"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::hard_link(source.join("f"), source.join("also")).unwrap();
    archive::sparse(&source.join("hole"), 4 << 20, &[]).unwrap();
    drop(tree);
    let kept = |flags: &[&str]| {
        let dest = dir.join("dst");
        fs::remove_dir_all(&dest).ok();
        mirrored(&source, &dest, flags);
        let (f, program) = (dest.join("f").metadata().unwrap(), dest.join("program").metadata().unwrap());
        let mut kept = Vec::new();
        let mut note = |what, is: bool| kept.extend(is.then_some(what));
        let mut buffer = [0; 100];
        note("owner", f.uid() == 12);
        note("group", f.gid() == 34);
        note("set-uid", program.mode() & 0o4000 != 0);
        note("set-gid", program.mode() & 0o2000 != 0);
        note("xattrs", rustix::fs::getxattr(dest.join("f"), "user.note", &mut buffer).is_ok());
        note("acls", rustix::fs::getxattr(dest.join("f"), ACL_ACCESS, &mut buffer).is_ok());
        note("hard-links", f.ino() == inode(dest.join("also")));
        note("sparse", dest.join("hole").metadata().unwrap().blocks() == 0);
        kept
    };
    assert_eq!(kept(&[]), [""; 0]);
    assert_eq!(kept(&["--owner"]), ["owner", "set-uid"]);
    assert_eq!(kept(&["--group"]), ["group"]);
    assert_eq!(kept(&["-og"]), ["owner", "group", "set-uid", "set-gid"]);
    for flag in ["xattrs", "acls", "hard-links", "sparse"] {
        assert_eq!(kept(&[&format!("--{flag}")]), [flag]);
    }
    assert_eq!(kept(&["-a"]).len(), 8);
}

#[test]
fn m2_1_a_fifo_at_the_source_hangs_nothing_and_is_kept_only_when_asked_for() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "1");
    for name in ["fifo", "b"] {
        archive::node(&source.join(name), FileType::Fifo, 0).unwrap();
    }
    Tree::at(&dest).file("b", "a file where the source has a fifo");
    for flags in [&[][..], &["--checksum"]] {
        let (code, _, stderr) = run(&mut mirror(&source, &dest, flags));
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("fifo is a fifo, socket or device") && stderr.contains("--specials"), "{stderr}");
        assert!(!dest.join("fifo").exists() && dest.join("a").exists() && dest.join("b").exists());
    }
    mirrored(&source, &dest, &["--specials", "--checksum"]);
    let kind = |name: &str| FileType::from_raw_mode(dest.join(name).symlink_metadata().unwrap().mode());
    assert_eq!((kind("fifo"), kind("b")), (FileType::Fifo, FileType::Fifo));
    // And it goes like anything else.
    fs::remove_file(source.join("fifo")).unwrap();
    mirrored(&source, &dest, &["--specials"]);
    assert!(dest.join("fifo").symlink_metadata().is_err());
}

/// Three names of one file in two directories, and a file of its own.
fn linked(source: &Path) {
    Tree::at(source).file("a", "linked").dir("d").file("single", "single");
    fs::hard_link(source.join("a"), source.join("b")).unwrap();
    fs::hard_link(source.join("a"), source.join("d/c")).unwrap();
}

#[test]
fn m2_1_hard_links_are_repaired_at_either_side() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    linked(&source);
    let same = || {
        mirrored(&source, &dest, &["--hard-links"]);
        assert_same_archives(&source, &dest);
        assert_eq!(inode(dest.join("a")), inode(dest.join("d/c")));
        let again = mirrored(&source, &dest, &["--hard-links"]);
        assert!(again.contains("copied 0, updated 0,"), "{again}");
    };
    same();
    // Another content through one name; the others get it with it, and stay one file.
    let before = inode(dest.join("a"));
    fs::write(source.join("d/c"), "another content").unwrap();
    same();
    assert_ne!(before, inode(dest.join("a")), "replaced, never written in place");
    // A name that is a copy of its own at the destination.
    for name in ["a", "b", "d/c"] {
        fs::rename(dest.join(name), dest.join("x")).unwrap();
        fs::copy(dest.join("x"), dest.join(name)).unwrap();
        fs::remove_file(dest.join("x")).unwrap();
        same();
    }
    // Two files of the source that are one at the destination.
    for (from, to) in [("single", "b"), ("a", "single")] {
        fs::remove_file(dest.join(to)).unwrap();
        fs::hard_link(dest.join(from), dest.join(to)).unwrap();
        same();
    }
    // A new name before the others, without any of the content being copied again.
    let before = inode(dest.join("a"));
    fs::hard_link(source.join("a"), source.join("0 first")).unwrap();
    fs::create_dir(source.join("0")).unwrap();
    fs::hard_link(source.join("a"), source.join("0/first")).unwrap();
    same();
    assert_eq!(before, inode(dest.join("0/first")));
    // A mode is one of all names.
    fs::set_permissions(source.join("b"), fs::Permissions::from_mode(0o600)).unwrap();
    same();
    // The link is broken at the source, with the old content and time.
    fs::rename(source.join("a"), source.join("x")).unwrap();
    fs::copy(source.join("x"), source.join("b.new")).unwrap();
    let time = source.join("x").metadata().unwrap().modified().unwrap();
    fs::File::open(source.join("b.new")).unwrap().set_modified(time).unwrap();
    fs::rename(source.join("b.new"), source.join("b")).unwrap();
    fs::rename(source.join("x"), source.join("a")).unwrap();
    same();
    assert_ne!(inode(dest.join("a")), inode(dest.join("b")));
}

/// A destination with names of a file and a directory outside of it, equal but for content or metadata; `copy` makes it
/// the same as the source. Gives everything that changed outside.
fn written_outside(copy: impl Fn(&Path, &Path)) -> Vec<&'static str> {
    let dir = scratch();
    let (source, dest, out) = (dir.join("src"), dir.join("dst"), dir.join("out"));
    linked(&source);
    Tree::at(&out).file("precious", "linked").link("to-precious", "precious");
    Tree::at(&dest);
    symlink(&out, dest.join("d")).unwrap();
    for name in ["a", "single"] {
        fs::hard_link(out.join("precious"), dest.join(name)).unwrap();
    }
    set_xattr(&source.join("a"), "user.note", b"1").unwrap();
    fs::set_permissions(source.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    let time = source.join("a").metadata().unwrap().modified().unwrap();
    fs::File::open(out.join("precious")).unwrap().set_modified(time).unwrap();
    if root() {
        own(&source.join("a"), 12, 34).unwrap();
        own(&source.join("d"), 12, 34).unwrap();
    }
    let look = || {
        let meta = out.join("precious").metadata().unwrap();
        let noted = rustix::fs::getxattr(out.join("precious"), "user.note", &mut [0; 10]).is_ok();
        let names = fs::read_dir(&out).unwrap().count();
        (fs::read(out.join("precious")).unwrap(), meta.mode(), meta.uid(), meta.mtime_nsec(), noted, names)
    };
    let before = look();
    copy(&source, &dest);
    let after = look();
    let mut changed = Vec::new();
    let mut note = |what, is: bool| changed.extend(is.then_some(what));
    note("content", before.0 != after.0);
    note("mode", before.1 != after.1);
    note("owner", before.2 != after.2);
    note("time", before.3 != after.3);
    note("attributes", before.4 != after.4);
    note("names", before.5 != after.5);
    changed
}

#[test]
fn m2_1_another_name_outside_is_never_written_through() {
    let changed = written_outside(|source, dest| {
        mirrored(source, dest, &["-a"]);
        assert_same_archives(source, dest);
    });
    assert_eq!(changed, [""; 0]);
}

#[test]
fn a_copy_that_writes_in_place_is_caught_by_the_same_names() {
    let changed = written_outside(|source, dest| {
        let flags = ["-aHAX", "--delete", "--inplace", "--modify-window=-1"];
        let copied = support::rsync().args(flags).arg(source.join("")).arg(dest.join("")).status().unwrap();
        assert!(copied.success());
    });
    assert!(changed.contains(&"content") || changed.contains(&"mode"), "the canary must be caught: {changed:?}");
}

#[test]
fn m2_1_many_extra_names_of_one_file_all_go_in_one_run() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("kept", "1");
    Tree::at(&dest).file("x0", "extra");
    for n in 1..50 {
        fs::hard_link(dest.join("x0"), dest.join(format!("x{n}"))).unwrap();
    }
    let told = mirrored(&source, &dest, &[]);
    assert!(told.contains("deleted 50, failed 0"), "{told}");
}

#[test]
fn a_dry_run_of_an_archive_tells_what_a_real_one_does() {
    if !root() {
        return;
    }
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    archive::fill(&source);
    mirrored(&source, &dest, &["-a"]);
    own(&dest.join("owned"), 0, 0).unwrap();
    set_xattr(&dest.join("sub"), "user.more", b"1").unwrap();
    fs::write(source.join("one"), "again").unwrap();
    fs::remove_file(dest.join("null")).unwrap();
    let before = touched(&dest);
    let dry = mirrored(&source, &dest, &["-a", "--dry-run"]);
    assert_eq!(before, touched(&dest));
    for line in ["owned", "sub", "one", "another", "sub/third", "sub/deep/fourth"] {
        assert!(dry.contains(&format!("would-update {line}\n")), "{line} is missing in:\n{dry}");
    }
    assert!(dry.contains("would-copy null\n"), "{dry}");
    let log = dir.join("log");
    let wet = mirrored(&source, &dest, &["-a", "--log", log.to_str().unwrap()]);
    let counts = |text: &str| text[text.find("copied").unwrap()..text.find(", skipped").unwrap()].to_owned();
    assert_eq!(counts(&dry), counts(&wet), "{dry}{}", fs::read_to_string(&log).unwrap());
}
