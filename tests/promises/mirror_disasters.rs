//! What goes wrong with whole directories: the source unmounted, emptied, replaced, unreadable in part; source and destination one
//! within the other; two mirrors onto one destination. Each is told by a message and an exit code of its own, nothing is deleted that
//! is to be protected, and what nothing protects does go.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::{Proc, Tree, could_not_run, lockstep, rsync, same_trees, scratch, until};

use super::deleting::without_override;
use super::mirror::{mirror, run};

const PATIENCE: Duration = Duration::from_secs(30);

/// All names below a directory, and what files hold.
fn everything(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            found.push((path.to_string_lossy().into_owned(), fs::read(&path).unwrap_or_default()));
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path);
            }
        }
    }
    found.sort();
    found
}

/// More entries than may go at once without a word, in directories.
fn many(dir: &Path, count: usize) {
    for n in 0..count {
        fs::create_dir_all(dir.join(format!("{}", n % 20))).unwrap();
        fs::write(dir.join(format!("{}/{n}", n % 20)), n.to_string()).unwrap();
    }
}

#[test]
fn m2_5_source_and_destination_within_each_other_are_refused_whatever_they_are_called() {
    let dir = scratch();
    Tree::at(&dir).file("src/a", "1").file("src/sub/b", "2").link("other", "src").link("src/up", "..");
    let at = |name: &str| dir.join(name);
    let before = everything(&dir);
    for (source, dest, why) in [
        ("src", "src", "is the source"),
        ("src", "other", "is the source"),
        ("other", "src", "is the source"),
        ("src/sub/..", "src", "is the source"),
        ("src", "src/up/src", "is the source"),
        ("src", "src/sub", "is inside the source"),
        ("other", "src/sub", "is inside the source"),
        ("src", "src/new", "is inside the source"),
        ("src/sub", "src", "contains the source"),
        ("src/sub", "other", "contains the source"),
    ] {
        for flags in [&["--allow-mass-delete"][..], &["--watch"], &["--dry-run"]] {
            let (code, _, stderr) = run(mirror(&at(source), &at(dest)).args(flags).args(["--log", "none"]));
            assert!(
                code == 3 && stderr.contains(why) && stderr.contains("nothing was done"),
                "{source} {dest} {flags:?}: {code} {stderr}"
            );
        }
    }
    assert_eq!(everything(&dir), before);
}

#[test]
fn two_mirrors_onto_one_destination_do_not_mix() {
    let dir = scratch();
    let (one, two, dest) = (dir.join("one"), dir.join("two"), dir.join("dst"));
    Tree::at(&one).file("a", "of one");
    Tree::at(&two).file("b", "of two");
    let mut first = Proc::start(mirror(&one, &dest).args(["--watch", "--log", "none"]));
    first.wait_for_line("watching", PATIENCE);
    symlink(&dest, dir.join("by-another-name")).unwrap();
    for name in ["dst", "by-another-name"] {
        let (code, _, stderr) = run(mirror(&two, &dir.join(name)).args(["--allow-mass-delete", "--log", "none"]));
        assert!(code == 3 && stderr.contains("another lockstep is writing to"), "{code} {stderr}");
    }
    assert!(dest.join("a").exists() && !dest.join("b").exists());
    fs::write(one.join("c"), "goes on").unwrap();
    until(PATIENCE, "the first to go on", || same_trees(&one, &dest).is_ok());
    // Once it has ended, however it did, the next may.
    first.kill9();
    let (code, _, stderr) = run(mirror(&two, &dest).args(["--log", "none"]));
    assert_eq!(code, 0, "{stderr}");
    assert!(!dest.join("a").exists() && dest.join("b").exists());
}

#[test]
fn of_two_live_mirrors_with_one_destination_in_the_other_the_second_is_refused_unless_it_is_left_alone() {
    let dir = scratch();
    let (one, two, outer) = (dir.join("one"), dir.join("two"), dir.join("dst"));
    let inner = outer.join("x/inner");
    Tree::at(&one).file("a", "of one");
    Tree::at(&two).file("b", "of two");
    let live = |source: &Path, dest: &Path, flags: &[&str]| {
        let proc = Proc::start(mirror(source, dest).args(["--watch", "--log", "none"]).args(flags));
        proc.wait_for_line("watching", PATIENCE);
        proc
    };
    let refused = |source: &Path, dest: &Path, why: &str| {
        let (code, _, stderr) = run(mirror(source, dest).args(["--watch", "--log", "none"]));
        assert!(code == 3 && stderr.contains(why) && stderr.contains("nothing was done"), "{code} {stderr}");
    };
    fs::create_dir_all(outer.join("x")).unwrap();
    let mut first = live(&two, &inner, &[]);
    refused(&one, &outer, "has in it the destination of another live mirror");
    assert!(inner.join("b").exists() && !outer.join("a").exists());
    // A single run may have the same in its source, so it is only told.
    Tree::at(&one).file("x/inner/b", "of two");
    let (code, _, stderr) = run(mirror(&one, &outer).args(["--log", "none"]));
    assert!(code == 0 && stderr.contains("the destination of another live mirror"), "{code} {stderr}");
    first.kill9();
    // Once it has ended, however it did, the other may.
    let mut first = live(&one, &outer, &[]);
    refused(&two, &inner, "is in the destination of another live mirror");
    first.kill9();
    // What is excluded in the outer one is the inner one's own.
    Tree::at(&one).remove("x");
    let _outer = live(&one, &outer, &["--exclude", "/x"]);
    let _inner = live(&two, &inner, &[]);
    fs::write(one.join("c"), "goes on").unwrap();
    fs::write(two.join("d"), "goes on").unwrap();
    until(PATIENCE, "both to go on", || outer.join("c").exists() && same_trees(&two, &inner).is_ok());
}

#[test]
fn m2_3_what_cannot_be_read_is_not_taken_for_removed() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("open", "1").file("shut/file", "kept").file("shut/deep/file", "kept").file("secret", "old");
    assert_eq!(run(mirror(&source, &dest).args(["--log", "none"])).0, 0);
    Tree::at(&source).file("open", "changed").file("secret", "newer").file("shut/file", "newer");
    fs::write(dest.join("extra"), "x").unwrap();
    fs::write(dest.join("shut/extra"), "shielded").unwrap();
    let mode = |name: &str, bits| fs::set_permissions(source.join(name), fs::Permissions::from_mode(bits)).unwrap();
    mode("shut", 0o000);
    mode("secret", 0o000);
    without_override(|| {
        let (code, _, stderr) = run(mirror(&source, &dest).args(["--log", "none"]));
        assert!(code == 1 && stderr.contains("shut") && stderr.contains("secret"), "{code} {stderr}");
    });
    mode("shut", 0o755);
    mode("secret", 0o644);
    let read = |name: &str| fs::read_to_string(dest.join(name)).unwrap_or_default();
    assert_eq!(
        (read("shut/file"), read("shut/deep/file"), read("shut/extra")),
        ("kept".into(), "kept".into(), "shielded".into())
    );
    assert_eq!((read("secret"), read("open")), ("old".into(), "changed".into()), "the rest went on");
    assert!(!dest.join("extra").exists(), "what was listed as extra goes");
    // Once it can be read, all of it follows.
    assert_eq!(run(mirror(&source, &dest).args(["--log", "none"])).0, 0);
    same_trees(&source, &dest).unwrap();
    // The source itself.
    fs::set_permissions(&source, fs::Permissions::from_mode(0o000)).unwrap();
    let before = everything(&dest);
    without_override(|| {
        let (code, _, stderr) = run(mirror(&source, &dest).args(["--allow-mass-delete", "--log", "none"]));
        assert_eq!(code, 3, "{stderr}");
    });
    assert_eq!(everything(&dest), before);
    fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn m2_3_masses_that_are_found_missing_stay_all_else_is_done_and_few_extras_go() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    many(&source, 2_100);
    assert_eq!(run(mirror(&source, &dest).args(["--log", "none"])).0, 0);
    // Less than half: it goes without a word.
    for n in 0..9 {
        fs::remove_dir_all(source.join(n.to_string())).unwrap();
    }
    assert_eq!(run(mirror(&source, &dest).args(["--log", "none"])).0, 0);
    same_trees(&source, &dest).unwrap();
    many(&source, 2_100);
    assert_eq!(run(mirror(&source, &dest).args(["--log", "none"])).0, 0);
    // More than half, and more than a thousand.
    for n in 0..13 {
        fs::remove_dir_all(source.join(n.to_string())).unwrap();
    }
    Tree::at(&source).file("new", "comes").file("19/19", "changed");
    let (code, stdout, stderr) = run(mirror(&source, &dest).args(["--log", "none"]));
    assert!(code == 4 && stderr.contains("--allow-mass-delete"), "{code} {stdout} {stderr}");
    assert_eq!(fs::read_dir(dest.join("0")).unwrap().count(), 105, "nothing was deleted");
    assert_eq!(fs::read_to_string(dest.join("new")).unwrap(), "comes");
    assert_eq!(fs::read_to_string(dest.join("19/19")).unwrap(), "changed");
    // What goes while it is watched is a wish, however much.
    let (code, ..) = run(mirror(&source, &dest).args(["--allow-mass-delete", "--log", "none"]));
    assert_eq!(code, 0);
    many(&source, 2_100);
    let mut live = Proc::start(mirror(&source, &dest).args(["--watch", "--log", "none"]));
    live.wait_for_line("watching", PATIENCE);
    for entry in fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    until(PATIENCE, "rm -rf to be followed", || fs::read_dir(&dest).unwrap().count() == 0);
    live.terminate();
    assert!(live.wait_exit(PATIENCE).success());
}

#[test]
fn m2_7_a_source_that_is_replaced_while_watched_deletes_nothing_until_it_is_back() {
    let dir = scratch();
    let (source, dest, log) = (dir.join("src"), dir.join("dst"), dir.join("log"));
    Tree::at(&source).file("a", "1").file("sub/b", "2");
    let live = Proc::start(mirror(&source, &dest).args(["--watch", "--allow-mass-delete", "--log"]).arg(&log));
    live.wait_for_line("watching", PATIENCE);
    let before = everything(&dest);
    let logged = |what: &str| fs::read_to_string(&log).unwrap().contains(what);
    fs::rename(&source, dir.join("aside")).unwrap();
    fs::create_dir(&source).unwrap();
    until(PATIENCE, "it to be told", || logged("nothing is deleted, and it is followed again once it is back"));
    fs::write(source.join("stranger"), "of another directory").unwrap();
    until(PATIENCE, "the other directory to be told", || logged("another directory"));
    assert_eq!(everything(&dest), before);
    fs::remove_dir_all(&source).unwrap();
    fs::rename(dir.join("aside"), &source).unwrap();
    fs::write(source.join("c"), "3").unwrap();
    until(PATIENCE, "it to be followed again", || same_trees(&source, &dest).is_ok());
}

/// The story of a source on a file system of its own, told by a shell in a namespace where it may mount. `$1` is the source, `$2` the
/// destination, `$3` the log, `$4` the program.
const UNMOUNTED: &str = r#"
await() { n=0; until eval "$1"; do n=$((n + 1)); [ $n -lt 600 ] || { echo "never: $1"; cat "$log"; exit 9; }; sleep 0.05; done; }
source=$1 dest=$2 log=$3 program=$4
mount -t tmpfs none "$source"
mkdir "$source/sub"; echo one > "$source/sub/a"
"$program" mirror "$source" "$dest" --watch --allow-mass-delete --log "$log" & pid=$!
await '[ -e "$dest/sub/a" ]'
umount -l "$source"
await 'grep -q "nothing is deleted" "$log"'
[ -e "$dest/sub/a" ] || exit 10
kill $pid; wait $pid || :
[ -e "$dest/sub/a" ] || exit 11
# Whoever runs it now finds an empty mount point.
code=0; "$program" mirror "$source" "$dest" --log none || code=$?
[ $code = 4 ] && [ -e "$dest/sub/a" ] || exit 12
mount -t tmpfs none "$source"
echo two > "$source/b"; mkdir "$source/sub"; echo one > "$source/sub/a"
"$program" mirror "$source" "$dest" --log none
[ "$(cat "$dest/b")" = two ] || exit 13
"#;

#[test]
fn m2_3_a_source_that_is_unmounted_deletes_nothing_live_or_later() {
    let dir = scratch();
    let source = dir.join("src");
    fs::create_dir(&source).unwrap();
    let namespace = ["--map-root-user", "--mount"];
    let ready = Command::new("unshare").args(namespace).arg("true").output();
    if !ready.is_ok_and(|output| output.status.success()) {
        could_not_run("unshare, and a system where it may mount");
    }
    let mut story = Command::new("unshare");
    story.args(namespace).args(["sh", "-ec", UNMOUNTED, "sh"]).arg(&source).arg(dir.join("dst")).arg(dir.join("log"));
    let output = story
        .arg(lockstep().get_program())
        .envs(lockstep().get_envs().filter_map(|(k, v)| Some((k, v?))))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
}

/// What these tests look at tells a copier that guards nothing from one that does.
#[test]
fn a_copier_without_guards_is_caught() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    many(&source, 1_200);
    let copier = |source: &Path| {
        let mut command = rsync();
        command.args(["-a", "--delete"]).arg(source.join("")).arg(dest.join(""));
        assert!(command.status().unwrap().success());
    };
    copier(&source);
    let before = everything(&dest);
    fs::rename(&source, dir.join("aside")).unwrap();
    fs::create_dir(&source).unwrap();
    copier(&source);
    assert_ne!(everything(&dest), before);
}
