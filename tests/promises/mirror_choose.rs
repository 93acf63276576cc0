//! `lockstep mirror`: which files it is about.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use support::{PATIENCE, Proc, Rng, Tree, assert_same_trees, lockstep, python_with, scratch, until, workspace};

use crate::mirror::{mirror, run};

/// What a directory holds, `/` behind the directories.
fn names(dir: &Path) -> BTreeSet<String> {
    fn walk(top: &Path, dir: &Path, into: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() {
                into.insert(format!("{name}/"));
                walk(top, &path, into);
            } else {
                into.insert(name);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(dir, dir, &mut found);
    found
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let (code, stdout, stderr) = run(command);
    assert_eq!(code, 0, "{command:?}\n{stdout}{stderr}");
    stdout
}

#[test]
fn m2_1_what_is_excluded_is_neither_copied_nor_deleted_and_all_else_is_the_same() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source)
        .file("main.c", "1")
        .file("main.o", "2")
        .file("keep.o", "3")
        .file("build/out", "4")
        .file("docs/a/draft", "5")
        .file("docs/final", "6");
    Tree::at(&dest)
        .file("main.o", "of the destination")
        .file("build/mine", "x")
        .file("extra.c", "goes")
        .file("old.o", "stays");
    let flags = ["--exclude", "*.o", "--include", "keep.o", "--exclude", "/build/", "--exclude", "docs/**/draft"];
    succeeds(mirror(&source, &dest).args(flags));
    let expected = ["main.c", "main.o", "keep.o", "old.o", "build/", "build/mine", "docs/", "docs/a/", "docs/final"];
    assert_eq!(names(&dest), set(&expected));
    assert_eq!(fs::read_to_string(dest.join("main.o")).unwrap(), "of the destination");
    // And gone when that is asked for.
    succeeds(mirror(&source, &dest).args(flags).arg("--delete-excluded"));
    assert_eq!(names(&dest), set(&["main.c", "keep.o", "docs/", "docs/a/", "docs/final"]));
}

#[test]
fn the_last_of_excludes_includes_and_files_of_patterns_decides() {
    let dir = scratch();
    let (source, list) = (dir.join("src"), dir.join("list"));
    Tree::at(&source).file("a.log", "").file("b.log", "").file("c.txt", "");
    fs::write(&list, "# of a file\n*.log\n!b.log\n").unwrap();
    let list = list.to_str().unwrap();
    for (flags, expected) in [
        (vec!["--exclude-from", list], vec!["b.log", "c.txt"]),
        (vec!["--exclude-from", list, "--exclude", "b.*"], vec!["c.txt"]),
        (vec!["--exclude", "b.*", "--exclude-from", list], vec!["b.log", "c.txt"]),
        (vec!["--exclude", "*", "--include", "c.*"], vec!["c.txt"]),
        (vec!["--include", "c.*", "--exclude", "*"], vec![]),
    ] {
        let dest = dir.join("dst");
        Tree::at(&dest);
        fs::remove_dir_all(&dest).unwrap();
        succeeds(mirror(&source, &dest).args(&flags));
        assert_eq!(names(&dest), set(&expected), "{flags:?}");
    }
    let (code, _, stderr) = run(mirror(&source, &dir.join("no")).args(["--exclude-from", "/no/such/list"]));
    assert!(code == 3 && stderr.contains("/no/such/list") && !dir.join("no").exists(), "{code} {stderr}");
}

#[test]
fn a_directory_stays_for_what_is_left_alone_in_it_and_that_is_told() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "1");
    Tree::at(&dest).file("gone/deep/keep.o", "x").file("gone/deep/x.c", "x").file("gone/other", "x").dir("empty");
    let dry = succeeds(mirror(&source, &dest).args(["--exclude", "*.o", "--dry-run"]));
    assert!(dry.contains("left gone/deep (holds-excluded)") && dry.contains("would-delete gone/deep/x.c"), "{dry}");
    let stdout = succeeds(mirror(&source, &dest).args(["--exclude", "*.o", "--json"]));
    assert_eq!(names(&dest), set(&["a", "gone/", "gone/deep/", "gone/deep/keep.o"]));
    let left: Vec<serde_json::Value> = stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|record| record["action"] == "left")
        .collect();
    let paths: Vec<&str> = left.iter().map(|record| record["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["gone/deep", "gone"]);
    assert!(left.iter().all(|record| record["why"] == "holds-excluded"), "{left:?}");
    // A file that wants the place of such a directory does not get it.
    fs::write(source.join("gone"), "a file").unwrap();
    let (code, _, stderr) = run(mirror(&source, &dest).args(["--exclude", "*.o"]));
    assert!(code == 1 && stderr.contains("gone") && stderr.contains("left alone"), "{code} {stderr}");
    assert!(dest.join("gone/deep/keep.o").exists());
}

#[test]
fn names_that_are_not_utf_8_are_chosen_by_their_bytes() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    let latin = |s: &'static [u8]| OsStr::from_bytes(s);
    Tree::at(&source)
        .file(latin(b"caf\xe9"), "")
        .file(latin(b"th\xe9"), "")
        .file(latin(b"new\nline"), "")
        .file("x", "");
    succeeds(mirror(&source, &dest).arg("--exclude").arg(latin(b"caf\xe9")).args(["--exclude", "new?line"]));
    let left: BTreeSet<_> = fs::read_dir(&dest).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [latin(b"th\xe9").to_owned(), "x".into()].into());
}

/// git is the oracle: what it would add is what is mirrored.
#[test]
fn what_gitignore_files_exclude_is_what_git_excludes() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source)
        .file(".gitignore", "*.o\n/target/\n!keep.o\nlogs/*\n!logs/README\n\\#odd\n")
        .file("main.c", "")
        .file("main.o", "")
        .file("keep.o", "")
        .file("#odd", "")
        .file("target/debug/x", "")
        .file("sub/target/y", "")
        .file("logs/1", "")
        .file("logs/README", "")
        .file("sub/.gitignore", "!main.o\n/local\n")
        .file("sub/main.o", "")
        .file("sub/local", "")
        .file("sub/deep/local", "")
        .file("target/.gitignore", "!debug\n");
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(&source)
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "-q"]);
    let wanted: BTreeSet<String> =
        git(&["ls-files", "-o", "-z", "--exclude-standard"]).split_terminator('\0').map(str::to_owned).collect();
    succeeds(mirror(&source, &dest).args(["--gitignore", "--exclude", ".git"]));
    let files: BTreeSet<String> = names(&dest).into_iter().filter(|name| !name.ends_with('/')).collect();
    assert_eq!(files, wanted);
    assert!(files.contains("sub/main.o") && !files.contains("main.o"));
}

#[test]
fn m2_7_a_gitignore_that_changes_has_its_directory_judged_again() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("sub/.gitignore", "*.o\n").file("sub/a.o", "1").file("sub/deep/b.o", "2").file("c.o", "3");
    let live = Proc::start(mirror(&source, &dest).args(["--watch", "--gitignore"]));
    live.wait_for_line("watching", PATIENCE);
    assert_eq!(names(&dest), set(&["c.o", "sub/", "sub/.gitignore", "sub/deep/"]));
    fs::write(source.join("sub/.gitignore"), "a.*\n").unwrap();
    until(PATIENCE, "what is no longer excluded to arrive", || dest.join("sub/deep/b.o").exists());
    // What is excluded by now is left as it is, also when it changes or goes at the source.
    fs::write(source.join("sub/.gitignore"), "*.o\n").unwrap();
    until(PATIENCE, "the rules to arrive", || fs::read(dest.join("sub/.gitignore")).is_ok_and(|c| c == b"*.o\n"));
    fs::write(source.join("sub/deep/b.o"), "changed").unwrap();
    fs::remove_file(source.join("sub/a.o")).unwrap();
    fs::write(source.join("marker"), "").unwrap();
    until(PATIENCE, "a later change to arrive", || dest.join("marker").exists());
    assert_eq!(fs::read_to_string(dest.join("sub/deep/b.o")).unwrap(), "2");
    // And what is excluded is not repaired at the destination either.
    fs::write(dest.join("sub/deep/b.o"), "mine").unwrap();
    fs::write(dest.join("c.o"), "meddled with").unwrap();
    until(PATIENCE, "the repair of what is mirrored", || fs::read_to_string(dest.join("c.o")).is_ok_and(|c| c == "3"));
    assert_eq!(fs::read_to_string(dest.join("sub/deep/b.o")).unwrap(), "mine");
}

#[test]
fn sizes_choose_files_and_leave_the_others_alone() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("small", [0; 10]).file("fits", [0; 1024]).file("large", [0; 1025]).dir("d");
    Tree::at(&dest).file("large", "older").file("gone-large", [0; 4096]);
    succeeds(mirror(&source, &dest).args(["--max-size", "1K", "--min-size", "11"]));
    assert_eq!(names(&dest), set(&["fits", "large", "d/"]));
    assert_eq!(fs::read_to_string(dest.join("large")).unwrap(), "older");
}

#[test]
fn another_file_system_is_not_looked_into_and_not_emptied_at_the_destination() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).file("a", "1").dir("mnt");
    Tree::at(&dest).file("mnt/kept", "x").file("extra", "x");
    // Mounted in a namespace of its own, so that nothing outside sees it.
    let script = r#"mount -t tmpfs none "$1/mnt" && echo inside > "$1/mnt/inside" && exec "$3" mirror "$1" "$2" --one-file-system --log none"#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh"]);
    let program = lockstep().get_program().to_owned();
    let output = match command.arg(&source).arg(&dest).arg(program).output() {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("unshare:") => output,
        _ => support::could_not_run("unshare (user namespaces)"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(&dest), set(&["a", "mnt/", "mnt/kept"]));
}

#[test]
fn expressions_are_dirsyncs_and_a_directory_comes_with_what_is_wanted_in_it() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source)
        .file("a.py", "")
        .file("b.txt", "")
        .file("sub/c.py", "")
        .file("sub/d.txt", "")
        .file("texts/e.txt", "");
    Tree::at(&dest).file("b.txt", "goes").file("texts/old", "goes");
    succeeds(mirror(&source, &dest).args(["--only-regex", r".*\.py$"]));
    assert_eq!(names(&dest), set(&["a.py", "sub/", "sub/c.py"]));
    // Live, the directory goes with the last of it.
    let live = Proc::start(mirror(&source, &dest).args(["--watch", "--only-regex", r".*\.py$"]));
    live.wait_for_line("watching", PATIENCE);
    fs::remove_file(source.join("sub/c.py")).unwrap();
    until(PATIENCE, "the directory to go", || !dest.join("sub").exists());
    fs::write(source.join("texts/deep.py"), "").unwrap();
    until(PATIENCE, "a directory to come with what is wanted in it", || dest.join("texts/deep.py").exists());
    assert_eq!(names(&dest), set(&["a.py", "texts/", "texts/deep.py"]));
    let (code, _, stderr) = run(mirror(&source, &dest).args(["--only-regex", "("]));
    assert!(code == 2 && stderr.contains('('), "{code} {stderr}");
}

/// Fills `top` with directories that are always the same and files that are random.
fn random_tree(top: &Path, random: &mut Rng) {
    let parts = ["a", "b", "d"];
    for (x, y, z) in parts.iter().flat_map(|x| parts.iter().flat_map(move |y| parts.map(|z| (x, y, z)))) {
        fs::create_dir_all(top.join(x).join(y).join(z)).unwrap();
    }
    for _ in 0..30 {
        let depth = 1 + random.below(3);
        let dir: Vec<&str> = (0..depth).map(|_| parts[random.below(3)]).collect();
        let leaf = ["c.x", "c", "b.x", "A"][random.below(4)];
        fs::write(top.join(dir.join("/")).join(leaf), dir.join("-")).unwrap();
    }
}

/// The real dirsync beside ours, where both are meant to choose the same files. Only files: dirsync also makes directories
/// that are excluded when one of that name is somewhere else. And where a directory is excluded and something in it is not,
/// only into an empty target: there it deletes the directory first and then misses what was in it.
#[test]
fn expressions_choose_the_files_that_dirsync_chooses() {
    let dir = scratch();
    let python = python_with(&["dirsync"]);
    let lists: [(bool, &[(&str, &str)]); 9] = [
        (true, &[]),
        (true, &[("exclude", "a")]),
        (true, &[("ignore", "b")]),
        (true, &[("ignore", "a/b"), ("exclude", r".*/c$")]),
        (false, &[("exclude", "a$")]),
        (false, &[("exclude", "a"), ("include", "a/b")]),
        (false, &[("only", r".*\.x$")]),
        (false, &[("only", "a|b"), ("exclude", "b/"), ("include", r"b/.*c\.x")]),
        (false, &[("only", "(?i)A"), ("exclude", r".*/c\.x"), ("ignore", "a/d/A")]),
    ];
    support::for_each_seed(&[1, 2], |seed| {
        let mut random = Rng::new(seed);
        for (n, (into_a_full_target, filters)) in lists.iter().enumerate() {
            let at = |name: &str| dir.join(format!("{seed}-{n}-{name}"));
            let (source, ours, theirs) = (at("src"), at("ours"), at("theirs"));
            random_tree(&source, &mut random);
            Tree::at(&ours);
            if *into_a_full_target {
                random_tree(&ours, &mut random);
            }
            // dirsync compares no contents, so what both have is the same from the start.
            for name in names(&ours).intersection(&names(&source)).filter(|name| !name.ends_with('/')) {
                fs::copy(source.join(name), ours.join(name)).unwrap();
            }
            assert!(Command::new("cp").arg("-a").arg(&ours).arg(&theirs).status().unwrap().success());
            let mut command = mirror(&source, &ours);
            command.args(["--log", "none"]);
            command.args(filters.iter().map(|(list, pattern)| format!("--{list}-regex={pattern}")));
            succeeds(&mut command);
            let mut command = Command::new(&python);
            command.arg(workspace().join("tests/python/dirsync_sync.py")).arg(&source).arg(&theirs);
            command.args(filters.iter().map(|(list, pattern)| format!("{list}={pattern}")));
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let files = |dir| names(dir).into_iter().filter(|name| !name.ends_with('/')).collect::<BTreeSet<_>>();
            assert_eq!(files(&ours), files(&theirs), "with {filters:?}; source {:#?}", files(&source));
        }
    });
}

#[test]
fn without_filters_everything_is_the_same() {
    let dir = scratch();
    let (source, dest) = (dir.join("src"), dir.join("dst"));
    Tree::at(&source).every_kind();
    succeeds(mirror(&source, &dest).args(["--exclude", "matches nothing here", "--gitignore"]));
    assert_same_trees(&source, &dest);
}
