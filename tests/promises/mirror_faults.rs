//! Every file call of a run fails once, in turn: nothing is lost or torn, it is told, and the next run mends it. The calls are
//! made to fail from outside, by strace, in the program as it is shipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::{PATIENCE, Proc, Rng, Scratch, Size, Tree, for_each_seed, lockstep, pick, same_trees, scratch, size};
use support::{strace, until};

/// The calls about files that a run makes.
const CALLS: &str = "openat,openat2,statx,getdents64,read,pread64,write,pwrite64,copy_file_range,ioctl,lseek,fchmod,\
    fchmodat,utimensat,renameat,renameat2,linkat,unlinkat,mkdirat,symlinkat,readlinkat,ftruncate,fsync,fdatasync,syncfs,\
    fallocate,flock,fstatfs,mknodat";

/// What has to stay after any failure: nothing of the destination but old content, or new.
struct Scene {
    dir: Scratch,
    /// Of each name, the contents it may have; `None` is none.
    may: BTreeMap<&'static str, Vec<Option<Vec<u8>>>>,
}

impl Scene {
    /// What is new, changed, the same, gone and of another kind. Large enough for several reads and writes.
    fn new() -> Self {
        let dir = scratch();
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let (old, new) = (vec![b'o'; 300_000], vec![b'n'; 400_000]);
        Tree::at(dir.join("src"))
            .file("same", "same")
            .mtime("same", 1_000_000_000_000_000_000)
            .file("changed", &new)
            .file("sub/changed", "new")
            .file("sub/new", &new)
            .file("new dir/deep/new", "new")
            .link("link", "new")
            .file("was a link", "new")
            .file("was a dir", "new")
            .file("was a file/in", "new")
            .mode("sub", 0o750);
        Tree::at(dir.join("dst"))
            .file("same", "same")
            .mtime("same", 1_000_000_000_000_000_000)
            .file("changed", &old)
            .file("sub/changed", "old")
            .file("sub/gone", "old")
            .file("gone dir/gone", "old")
            .link("link", "old")
            .link("was a link", "old")
            .file("was a dir/in", "old")
            .file("was a file", "old");
        let may = BTreeMap::from([
            ("same", vec![text("same")]),
            ("changed", vec![Some(old), Some(new.clone())]),
            ("sub/changed", vec![text("old"), text("new")]),
            ("sub/new", vec![None, Some(new)]),
            ("sub/gone", vec![text("old"), None]),
            ("new dir/deep/new", vec![None, text("new")]),
            ("gone dir/gone", vec![text("old"), None]),
            ("was a file", vec![text("old"), None]),
            ("was a file/in", vec![None, text("new")]),
            ("was a dir", vec![None, text("new")]),
            ("was a dir/in", vec![text("old"), None]),
            ("was a link", vec![None, text("new")]),
        ]);
        Self { dir, may }
    }

    fn command(&self, program: Command) -> Command {
        let mut command = strace();
        command.args(["-f", "-qq", "-o"]).arg(self.dir.join("trace"));
        command.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.arg("--").arg(program.get_program()).args(program.get_args());
        command
    }

    /// Our program, from the source to the destination.
    fn ours(&self, flags: &[&str]) -> Command {
        let mut program = lockstep();
        program.arg("mirror").arg(self.dir.join("src")).arg(self.dir.join("dst")).args(["--log", "none"]).args(flags);
        program
    }

    /// What is wrong at the destination.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, may) in &self.may {
            let path = self.dir.join("dst").join(name);
            // What a link leads to is not what the name has.
            let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
            let found = is_file.then(|| fs::read(&path).expect("it can be read"));
            if !may.contains(&found) {
                wrong.push(format!("{name} has {:?} bytes, neither old nor new", found.map(|content| content.len())));
            }
        }
        match fs::read_link(self.dir.join("dst/link")) {
            Ok(target) if target == Path::new("old") || target == Path::new("new") => {}
            other => wrong.push(format!("link is {other:?}")),
        }
        wrong
    }

    /// Runs with one call failing, and then without.
    fn after(&self, inject: &str, flags: &[&str]) -> Result<i32, String> {
        let source_before = fs::read(self.dir.join("src/changed")).unwrap();
        let mut command = strace_with(self.command(self.ours(flags)), inject);
        let Output { status, stdout, stderr } = command.output().expect("strace starts");
        let said = [stdout, stderr.clone()].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let code = status.code().unwrap_or(-1);
        let mut wrong = self.wrong();
        if fs::read(self.dir.join("src/changed")).unwrap() != source_before {
            wrong.push("the source was written to".into());
        }
        // Zero is said only of what is done: a call whose failure does not matter.
        if code == 0
            && let Err(differences) = same_trees(self.dir.join("src"), self.dir.join("dst"))
        {
            wrong.push(format!("it was told as done: {differences}"));
        }
        // Each thread has its own n-th call: where that of the main thread is the message itself, the code alone tells.
        let trace = fs::read_to_string(self.dir.join("trace")).unwrap_or_default();
        let silenced = trace.lines().any(|line| line.contains("write(2, ") && line.ends_with("(INJECTED)"));
        // 127 is the loader's: the program never began.
        if !matches!(code, 0 | 1 | 3 | 127) || (code != 0 && stderr.len() < 20 && !silenced) {
            wrong.push(format!("it ended with {code}"));
        }
        if let Err(differences) = self.heal() {
            wrong.push(differences);
        }
        if wrong.is_empty() { Ok(code) } else { Err(format!("{inject} {flags:?}:\n{}\n{said}", wrong.join("\n"))) }
    }

    /// The next run, undisturbed.
    fn heal(&self) -> Result<(), String> {
        let output = self.ours(&[]).output().expect("the program starts");
        if output.status.code() != Some(0) {
            return Err(format!("the next run: {}", String::from_utf8_lossy(&output.stderr)));
        }
        same_trees(self.dir.join("src"), self.dir.join("dst"))
            .map_err(|differences| format!("the next run: {differences}"))
    }

    /// Which calls a run makes about what is in the scene: name and number, as strace counts them.
    fn points(&self, flags: &[&str]) -> Vec<(String, u32)> {
        let mut command = strace_with(self.command(self.ours(flags)), &format!("trace={CALLS}"));
        let output = command.output().expect("strace starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (mut counted, mut points) = (BTreeMap::<_, u32>::new(), BTreeSet::new());
        let mut begun = false;
        for line in fs::read_to_string(self.dir.join("trace")).unwrap().lines() {
            let Some((process, rest)) = line.split_once(' ') else { continue };
            let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
            if call.starts_with(['<', '+', '-']) {
                continue;
            }
            // What comes before is the loader's and the runtime's.
            begun |= arguments.contains("/src");
            let count = counted.entry((process.to_owned(), call.to_owned())).or_default();
            *count += 1;
            if begun {
                points.insert((call.to_owned(), *count));
            }
        }
        points.into_iter().collect()
    }
}

/// With this before the command that it traces.
fn strace_with(command: Command, expression: &str) -> Command {
    let mut with = Command::new(command.get_program());
    with.args(["-e", expression]).args(command.get_args());
    with.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    with
}

const FLAGS: [&[&str]; 3] = [&[], &["--archive", "--fsync"], &["--backup-dir", "../backup"]];
const ERRNOS: [&str; 5] = ["EIO", "ENOSPC", "EACCES", "EINTR", "EDQUOT"];

#[test]
fn whatever_call_fails_nothing_is_lost_it_is_told_and_the_next_run_mends_it() {
    for_each_seed(&[1], |seed| {
        let mut rng = Rng::new(seed);
        let (mut failures, mut runs, mut told) = (Vec::new(), 0, 0);
        for flags in FLAGS {
            let backup = |scene: &Scene| -> Vec<String> {
                let place = scene.dir.join("backup").to_string_lossy().into_owned();
                flags.iter().map(|flag| if *flag == "../backup" { place.clone() } else { (*flag).to_owned() }).collect()
            };
            let first = Scene::new();
            let asked = backup(&first);
            let points = first.points(&asked.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(points.len() > 60, "{points:?}");
            for (call, number) in points {
                // All errors of all calls in a soak run, else an eighth of the calls with one error each.
                let errnos: Vec<&str> = match size() {
                    Size::Soak => ERRNOS.to_vec(),
                    Size::Small if rng.one_in(8) => vec![*rng.choose(&ERRNOS).unwrap()],
                    Size::Small => continue,
                };
                for errno in errnos {
                    let scene = Scene::new();
                    let asked = backup(&scene);
                    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
                    runs += 1;
                    match scene.after(&format!("inject={call}:error={errno}:when={number}"), &asked) {
                        Ok(code) => told += u32::from(code != 0),
                        Err(failure) => failures.push(failure),
                    }
                }
            }
        }
        assert!(failures.is_empty(), "{} of {runs}:\n{}", failures.len(), failures.join("\n---\n"));
        assert!(told * 4 > runs, "of {runs} failures only {told} were told: they did not reach it");
    });
}

/// Not once but each time: a disk that is full or broken for good.
#[test]
fn a_call_that_always_fails_loses_nothing_either() {
    for call in ["linkat", "renameat", "renameat2", "unlinkat", "mkdirat", "fchmod", "utimensat", "getdents64"] {
        for errno in pick(&["ENOSPC"][..], &ERRNOS[..3]) {
            let inject = format!("inject={call}:error={errno}:when=1+");
            assert_ne!(Scene::new().after(&inject, &[]).unwrap(), 0, "{inject}");
        }
    }
}

/// A read that ends early, and a write that takes nothing, as often as they come in a run.
#[test]
fn a_read_or_write_of_nothing_is_no_end_of_a_file() {
    let mut told = 0;
    for (call, number) in Scene::new().points(&[]) {
        if matches!(call.as_str(), "read" | "pread64" | "write" | "pwrite64" | "copy_file_range") {
            let scene = Scene::new();
            let inject = format!("inject={call}:retval=0:when={number}");
            told += u32::from(scene.after(&inject, &[]).unwrap() != 0);
        }
    }
    assert!(told > 0, "none of them reached it");
}

/// A real one: the limit of a process lets a write through in part, and then none.
#[test]
fn a_short_write_leaves_the_old_content_and_is_told() {
    let scene = Scene::new();
    let ours = scene.ours(&[]);
    let mut command = Command::new("sh");
    // 200 blocks of 512 bytes; the signal that comes with the limit is not wanted.
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$@\"", "sh"])
        .arg(ours.get_program())
        .args(ours.get_args());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("changed") && said.contains("sub/new"), "{said}");
    assert_eq!(scene.wrong(), Vec::<String>::new());
    assert_eq!(fs::read(scene.dir.join("dst/changed")).unwrap().len(), 300_000, "the old content");
    assert_eq!(fs::read(scene.dir.join("dst/sub/changed")).unwrap(), b"new", "all else is done");
    scene.heal().unwrap();
}

/// A disk that says it wrote and did not is found by reading back, and by nothing else: without, the check sees it.
#[test]
fn a_write_that_lies_is_found_by_verify() {
    let lie = |flags: &[&str]| {
        let scene = Scene::new();
        // One file only, so that its content is the first that is written.
        for side in ["src", "dst"] {
            fs::remove_dir_all(scene.dir.join(side)).unwrap();
        }
        drop(Tree::at(scene.dir.join("src")).file("changed", "new"));
        drop(Tree::at(scene.dir.join("dst")).file("changed", "old one"));
        let points = scene.points(&[flags, &["--dry-run"]].concat());
        // Where a dry run writes first, which is to the terminal, a real one writes content.
        let first = points.iter().filter(|(call, _)| call == "write").map(|(_, number)| number).min().unwrap();
        let inject = format!("inject=write:retval=3:when={first}");
        let output = strace_with(scene.command(scene.ours(flags)), &inject).output().unwrap();
        (output.status.code(), fs::read(scene.dir.join("dst/changed")).unwrap())
    };
    assert_eq!(lie(&["--verify"]), (Some(1), b"old one".to_vec()));
    assert_eq!(lie(&[]), (Some(0), Vec::new()), "the canary: three bytes that nobody wrote");
}

/// Live, what failed is tried again without anybody asking.
#[test]
fn m2_7_what_failed_while_watching_is_mended_by_itself() {
    // A source that cannot be listed when it begins ends it: that is the first of them.
    for (call, first) in
        [("linkat", 1), ("renameat", 1), ("fchmod", 1), ("unlinkat", 1), ("openat2", 1), ("getdents64", 5)]
    {
        let scene = Scene::new();
        let mut command = strace();
        let ours = scene.ours(&["--watch"]);
        // As a grandchild, so that it is the program that is ended, and the tracer with it.
        command.args(["-D", "-f", "-qq", "-o"]).arg(scene.dir.join("trace"));
        command.args(["-e", &format!("inject={call}:error=EIO:when={first}..{}", first + 2), "--"]);
        command.arg(ours.get_program()).args(ours.get_args());
        let live = Proc::start(&mut command);
        until(PATIENCE, &format!("what {call} failed at to be mended"), || {
            same_trees(scene.dir.join("src"), scene.dir.join("dst")).is_ok()
        });
        drop(live);
    }
}

/// Copiers that write in place do lose content, and the check says so.
#[test]
fn copiers_that_write_in_place_are_caught_by_the_same_failures() {
    let scene = Scene::new();
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=never", "--remove-destination"]);
    copy.arg(scene.dir.join("src/changed")).arg(scene.dir.join("dst/changed"));
    let inject = "inject=copy_file_range,write:error=ENOSPC:when=1";
    assert!(!strace_with(scene.command(copy), inject).status().unwrap().success());
    assert!(!scene.wrong().is_empty(), "cp");
    let scene = Scene::new();
    let mut copy = Command::new("dd");
    copy.arg(format!("if={}", scene.dir.join("src/changed").display()));
    copy.arg(format!("of={}", scene.dir.join("dst/changed").display())).args(["bs=100000", "status=none"]);
    assert!(!strace_with(scene.command(copy), "inject=write:error=EIO:when=2").status().unwrap().success());
    assert!(!scene.wrong().is_empty(), "dd");
}
