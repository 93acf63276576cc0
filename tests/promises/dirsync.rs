//! `lockstep.sync` of the package for Python: the real dirsync beside it, call by call.

use std::env;
use std::path::Path;
use std::process::Command;

use support::{Tree, binary, for_each_seed, pick, python_with, scratch, workspace};

use crate::mirror::run;

/// A Python that finds our package as it lies in the repository, and our program where people would have it.
fn python() -> Command {
    let mut paths = vec![binary().parent().expect("it is in a directory").to_owned()];
    paths.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut command = Command::new(python_with(&["dirsync"]));
    command.env("PATH", env::join_paths(paths).unwrap()).env("PYTHONPATH", workspace().join("python/src"));
    // dirsync's own text has escapes that Python warns of.
    command.args(["-W", "ignore"]).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn beside(scratch: &Path, seed: u64, rounds: u32, more: &[&str]) -> (i32, String, String) {
    let mut command = python();
    command.arg(workspace().join("tests/python/dirsync_beside.py")).arg(scratch);
    run(command.args([seed.to_string(), rounds.to_string()]).args(more))
}

#[test]
fn every_call_and_every_command_line_does_what_dirsync_does() {
    for_each_seed(&[1], |seed| {
        let (code, stdout, stderr) = beside(&scratch(), seed, pick(1, 20), &[]);
        assert!(code == 0 && stdout.contains("calls compared"), "{stdout}{stderr}");
    });
}

#[test]
fn what_does_something_else_than_dirsync_is_found() {
    let (code, stdout, stderr) = beside(&scratch(), 1, 1, &["broken"]);
    assert!(code == 1 && stderr.contains("AssertionError: sync"), "{stdout}{stderr}");
}

/// Where dirsync makes an empty directory of a link, writes through one, or puts a file into a directory of its name.
#[test]
fn links_and_kinds_that_changed_are_ours_and_what_is_in_the_way_is_told() {
    let dir = scratch();
    // From 2096: a kind that changed counts as newer or older, too.
    Tree::at(dir.join("src")).file("kind", "a file").mtime("kind", 4_000_000_000_000_000_000);
    Tree::at(dir.join("src")).file("sub/x", "1").link("to-sub", "sub").link("dangling", "no");
    Tree::at(dir.join("dst")).file("kind/in", "x").file("sub", "a file").mtime("sub", 1).link("gone", "nowhere");
    let sync = |options: &str| {
        let call = format!("import lockstep; print(sorted(lockstep.sync('src', 'dst', 'sync'{options})))");
        run(python().args(["-c", &call]).current_dir(&*dir))
    };
    let (code, stdout, stderr) = sync("");
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("dst/kind: ") && stdout.contains("there were errors in 1 entries."), "{stdout}");
    assert!(stdout.ends_with("['dst/dangling', 'dst/sub/x', 'dst/to-sub']\n"), "{stdout}");
    assert!(dir.join("dst/kind/in").exists(), "nothing is deleted without purge");
    let (code, stdout, stderr) = sync(", purge=True");
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.ends_with("['dst/gone', 'dst/kind', 'dst/kind/in']\n"), "{stdout}");
    support::assert_same_trees(dir.join("src"), dir.join("dst"));
}

/// Through the whole program: a guard of ours, and an expression that only Python has.
#[test]
fn what_is_refused_says_why_and_what_to_do() {
    let dir = scratch();
    Tree::at(dir.join("src"));
    std::fs::create_dir_all(dir.join("src")).unwrap();
    Tree::at(dir.join("dst")).file("precious", "x");
    let call = "import lockstep\n\
        try: lockstep.sync('src', 'dst', 'sync', purge=True)\n\
        except lockstep.NotMirrored as e: print(e.code, e)\n\
        try: lockstep.sync('src', 'dst', 'sync', only=['(?=a)'])\n\
        except ValueError as e: print(e)\n\
        try: lockstep.sync('src', 'src/in', 'sync', create=True)\n\
        except ValueError as e: print(e)\n";
    let (code, stdout, stderr) = run(python().args(["-c", call]).current_dir(&*dir));
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("4 the source is empty") && stdout.contains("allow_mass_delete=True"), "{stdout}");
    assert!(stdout.contains("look-ahead") && dir.join("dst/precious").exists(), "{stdout}");
    assert!(stdout.contains("nothing was done") && !dir.join("src/in").exists(), "{stdout}");
}
