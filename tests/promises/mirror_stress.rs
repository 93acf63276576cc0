//! `lockstep mirror --watch` under what developers do to a directory: clones and checkouts of a repository, builds, directories
//! that come and go, and more changes than the kernel has room to report. After each quiet moment both sides are the same.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{
    Edits, Proc, Rng, Scratch, Tree, for_each_seed, lapse, lockstep, pick, same_trees, scratch, vendor_tree,
};

use super::mirror::{mirror, run as run_command};

const PATIENCE: Duration = Duration::from_secs(120);
/// The note of a live mirror that lost events.
const OVERFLOW: &str = "changed faster than the kernel could report";

/// A live mirror of `src` to `dst` in a place of its own. No deletion is allowed beforehand: whatever goes was reported.
struct Live {
    dir: Scratch,
    source: PathBuf,
    dest: PathBuf,
    running: Proc,
}

impl Live {
    fn start() -> Live {
        let dir = scratch();
        let (source, dest) = (dir.join("src"), dir.join("dst"));
        Tree::at(&source).every_kind();
        let running = {
            // Nothing is compared whole because time has come.
            let mut mirror = mirror(&source, &dest);
            mirror.args(["--watch", "--interval", "1d", "--data"]).arg(dir.join("data"));
            Proc::start(mirror.arg("--log").arg(dir.join("log")))
        };
        running.wait_for_line("watching", PATIENCE);
        Live { dir, source, dest, running }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Waits until both sides are the same.
    #[track_caller]
    fn settle(&self, after: &str) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(differences) = same_trees(&self.source, &self.dest) {
            let tail: Vec<_> = self.log().lines().rev().take(40).map(str::to_owned).collect();
            assert!(Instant::now() < deadline, "after {after}: {differences}\nthe log, last first: {tail:#?}");
            lapse(Duration::from_millis(50), "a comparison costs more than the mirror does");
        }
    }

    /// The end: nothing failed on the way, and nothing was compared whole but where the kernel had lost events.
    fn end(mut self, overflows: bool) {
        let log = self.log();
        assert_eq!(log.contains(OVERFLOW), overflows, "{log}");
        let (code, status, stderr) =
            run_command(lockstep().args(["status", "--mirror", "--json", "--data"]).arg(self.dir.join("data")));
        assert_eq!(code, 0, "{stderr}");
        let status: Value = serde_json::from_str(&status).unwrap();
        let count = |what: &str| status[what].as_u64().unwrap_or_else(|| panic!("no {what} in {status}"));
        assert_eq!(count("overflows") > 0, overflows, "{status}");
        // The first pass, and at most one for each time that events were lost.
        assert!((1..=1 + count("overflows")).contains(&count("walks")), "{status}");
        self.running.terminate();
        let status = self.running.wait_exit(PATIENCE);
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

#[track_caller]
fn run(program: &str, dir: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) {
    let mut command = Command::new(program);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").env_remove("CARGO_TARGET_DIR");
    let output = command.args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn git(dir: &Path, args: &[&str]) {
    let who = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "advice.detachedHead=false"];
    run("git", dir, who.iter().chain(args));
}

#[test]
fn m2_7_a_repository_that_is_cloned_and_checked_out_back_and_forth_is_followed() {
    for_each_seed(&[], |seed| {
        let live = Live::start();
        let origin = live.dir.join("origin");
        fs::create_dir(&origin).unwrap();
        vendor_tree(origin.join("vendor"), pick(800, 5_000));
        git(&origin, &["init", "--quiet"]);
        git(&origin, &["add", "--all", "--force"]);
        git(&origin, &["commit", "--quiet", "--message", "one"]);
        git(&origin, &["tag", "one"]);
        Edits::new(origin.join("vendor"), seed).run(pick(300, 3_000));
        git(&origin, &["add", "--all", "--force"]);
        git(&origin, &["commit", "--quiet", "--message", "two"]);
        git(&origin, &["tag", "two"]);

        git(&live.source, &["clone", "--quiet", "--no-local", &origin.to_string_lossy(), "clone"]);
        live.settle("a clone");
        let clone = live.source.join("clone");
        for round in 0..pick(3, 20) {
            // Not every one is waited for: the next begins while the last is followed.
            for revision in ["one", "two", "one"] {
                git(&clone, &["checkout", "--quiet", "--force", revision]);
            }
            live.settle(&format!("round {round} of checkouts, seed {seed}"));
        }
        git(&clone, &["clean", "--quiet", "-ffdx"]);
        fs::remove_dir_all(&clone).unwrap();
        live.settle("rm -rf of the clone");
        live.end(false);
    });
}

#[test]
fn m2_7_a_build_inside_the_source_is_followed() {
    let live = Live::start();
    let package = live.source.join("package");
    let manifest = "[package]\nname = \"built\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n";
    let tree = Tree::at(&package).file("Cargo.toml", manifest);
    let parts = pick(5, 60);
    let mut main = String::new();
    for n in 0..parts {
        fs::create_dir_all(package.join("src")).unwrap();
        fs::write(package.join(format!("src/part{n}.rs")), format!("pub fn give() -> usize {{ {n} }}\n")).unwrap();
        main += &format!("mod part{n};\n");
    }
    main += "fn main() { println!(\"{}\", part0::give()); }\n";
    tree.file("src/main.rs", main);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = |args: &[&str]| run(&cargo.to_string_lossy(), &package, args);
    for round in 0..pick(3, 20) {
        build(&["build", "--offline", "--quiet"]);
        fs::write(package.join("src/part0.rs"), format!("pub fn give() -> usize {{ {round} + 1000 }}\n")).unwrap();
        live.settle("a build");
    }
    assert!(package.join("target/debug/built").exists() && live.dest.join("package/target/debug/built").exists());
    build(&["clean", "--offline", "--quiet"]);
    live.settle("cargo clean");
    live.end(false);
}

#[test]
fn m2_7_directories_that_come_and_go_under_the_feet_of_the_mirror_are_followed() {
    for_each_seed(&[31], |seed| {
        let live = Live::start();
        for round in 0..pick(5, 60) {
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                // Some make deep paths and put a file at the end of each, one removes and renames what is there.
                let makers: Vec<_> = (0..3)
                    .map(|maker| {
                        let (source, seed) = (&live.source, seed * 1000 + round * 10 + maker);
                        scope.spawn(move || {
                            let mut rng = Rng::new(seed);
                            for _ in 0..pick(300, 2_000) {
                                let parts = (0..1 + rng.below(6)).map(|_| format!("d{}", rng.below(3)));
                                let path = source.join("race").join(parts.collect::<PathBuf>());
                                if fs::create_dir_all(&path).is_ok() {
                                    // Its directory may be gone by now.
                                    fs::write(path.join(format!("f{}", rng.below(4))), rng.bytes(20)).ok();
                                }
                            }
                        })
                    })
                    .collect();
                let (source, over) = (&live.source, &over);
                scope.spawn(move || {
                    let mut rng = Rng::new(seed + round);
                    while !over.load(Ordering::Relaxed) {
                        let mut dir = source.join("race");
                        (0..rng.below(3)).for_each(|_| dir.push(format!("d{}", rng.below(3))));
                        match rng.below(3) {
                            0 => fs::rename(&dir, source.join(format!("race{}", rng.below(3)))).ok(),
                            1 => fs::rename(source.join(format!("race{}", rng.below(3))), &dir).ok(),
                            _ => fs::remove_dir_all(&dir).ok(),
                        };
                    }
                });
                makers.into_iter().for_each(|maker| maker.join().unwrap());
                over.store(true, Ordering::Relaxed);
            });
            live.settle(&format!("round {round}, seed {seed}"));
        }
        live.end(false);
    });
}

#[test]
fn m2_7_what_changed_while_the_kernel_lost_events_is_found() {
    for_each_seed(&[41], |seed| {
        let mut live = Live::start();
        let queue: usize =
            fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        assert!(queue <= 1 << 20, "a queue of {queue} events takes too long to fill");
        live.running.pause();
        // More events than the queue has room for, of names that go again, around edits of every kind.
        let flood = |name: &str| {
            for n in 0..=queue / 2 {
                let file = live.source.join(format!("{name}{}", n % 2));
                fs::write(&file, b"").unwrap();
                fs::remove_file(&file).unwrap();
            }
        };
        flood("before");
        Edits::new(&live.source, seed).run(pick(2_000, 100_000));
        fs::remove_dir_all(live.source.join("dir")).ok();
        flood("after");
        live.running.resume();
        live.settle(&format!("a flood, seed {seed}"));
        // It follows on as before.
        Edits::new(&live.source, seed + 1).run(pick(500, 5_000));
        live.settle(&format!("edits after a flood, seed {seed}"));
        live.end(true);
    });
}
