//! Real input: the sources of our own dependencies shared to three agents, through everything that happens to machines.
//! After each of it an independent check says that all four trees are identical (M2.1, M2.3, M3.7).

#![allow(clippy::print_stdout, reason = "the test harness captures it and shows it when the test fails")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use support::{Cluster, Edit, Edits, PATIENCE, Size, for_each_seed, lapse, pick, scratch, size, until, vendor_tree};

use crate::shares::{content_bytes, tree_bytes};

const AGENTS: usize = 3;

/// The tree, with at least this many files in the small tier.
fn real_tree(files_min: usize) -> Cluster {
    Cluster::start(
        |share| {
            let files = vendor_tree(share.join("vendor"), files_min);
            println!("{files} files, {} bytes", tree_bytes(share));
            if size() == Size::Soak {
                assert!(files > 5_000, "all crates of the lock file are thousands of files, not {files}");
            }
        },
        &[],
    )
}

/// git in a repository that lies outside the share and has the share as its work tree.
struct Git<'a> {
    directory: PathBuf,
    share: &'a Path,
}

impl Git<'_> {
    #[track_caller]
    fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) {
        let mut git = Command::new("git");
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").current_dir(self.share);
        git.arg("--git-dir").arg(&self.directory).arg("--work-tree").arg(self.share);
        git.args(["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "gc.auto=0"]).args(args);
        let output = git.output().expect("git can be started");
        assert!(output.status.success(), "{git:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn m2_1_m3_7_a_real_tree_reaches_three_agents_and_stays_identical_through_edits_and_checkouts() {
    for_each_seed(&[], |seed| {
        let mut cluster = real_tree(1_500).with_agents(AGENTS);
        cluster.assert_identical();
        let share = cluster.share();

        let git = Git { directory: cluster.path().join("repository"), share: &share };
        git.run(["init", "--quiet"]);
        git.run(["add", "--all", "--force"]);
        git.run(["commit", "--quiet", "--message", "one"]);
        git.run(["tag", "one"]);

        Edits::new(&share, seed).run(1_000);
        cluster.assert_identical();

        git.run(["add", "--all", "--force"]);
        git.run(["commit", "--quiet", "--message", "two"]);
        git.run(["tag", "two"]);
        for revision in ["one", "two", "one"] {
            git.run(["checkout", "--quiet", "--force", revision]);
            cluster.assert_identical();
        }

        // An agent that is stopped for a while holds up nobody, and catches up.
        cluster.agent(2).pause();
        let mut edits = Edits::new(&share, seed.wrapping_add(1));
        for _ in 0..10 {
            edits.run(30);
            let others = ["wait", "share", "--client", "1", "--client", "3", "--timeout", "60s"];
            let wait = cluster.run(&others);
            assert!(wait.status.success(), "{}", String::from_utf8_lossy(&wait.stderr));
        }
        for n in [1, 3] {
            cluster.assert_copy_is_share(n);
        }
        let wait = cluster.run(&["wait", "share", "--timeout", "100ms"]);
        assert!(!wait.status.success(), "the stopped one does not count as in sync");
        if size() == Size::Soak {
            lapse(Duration::from_secs(20), "long enough to be cut and to come back");
        }
        cluster.agent(2).resume();
        cluster.assert_identical();
    });
}

#[test]
fn m2_2_m3_7_an_agent_killed_in_the_middle_of_a_transfer_goes_on_where_it_was() {
    let mut cluster = real_tree(1_500).with_agents(2);
    let total = tree_bytes(&cluster.share());
    let part = |bytes: u64| u128::from(bytes) * 100 / u128::from(total);
    // The moment is caught by looking; where the machine was too fast, another agent tries.
    let caught = (3..13).find_map(|n| {
        cluster.start_agent(n);
        let copy = cluster.copy(n);
        until(PATIENCE, "a part of the bytes to arrive", || part(tree_bytes(&copy)) >= 12);
        cluster.kill_agent(n);
        let there = tree_bytes(&copy);
        println!("agent {n} was killed with {} % of the bytes", part(there));
        (10..=90).contains(&part(there)).then_some((n, there))
    });
    let (n, there) = caught.expect("one of ten agents is caught in the middle");
    cluster.start_agent(n);
    cluster.assert_identical();
    let rest = content_bytes(&cluster, n);
    println!("{rest} bytes were sent to it afterwards, {there} of {total} had been there");
    // What stood under its name is not sent again; what was on its way in that moment may be.
    assert!(part(rest) <= 100 - part(there) + 2, "{rest} bytes were sent again, {there} of {total} had been there");
    assert!(part(rest) >= 5, "it was in the middle: {rest} of {total} were still to come");

    // And what costs nothing: all agents and the hub start again without a change.
    for n in [1, 2, n] {
        cluster.stop_agent(n);
    }
    cluster.stop_hub();
    cluster.start_hub();
    for n in [1, 2, n] {
        cluster.start_agent(n);
    }
    cluster.assert_identical();
    for n in [1, 2, n] {
        let cost = content_bytes(&cluster, n);
        assert!(cost * 100 < total, "agent {n} got {cost} bytes for a restart without changes, of {total}");
    }
}

#[test]
fn m2_3_m3_7_the_hub_killed_in_an_edit_storm_comes_back_and_nothing_is_missing_for_a_moment() {
    for_each_seed(&[], |seed| {
        let mut cluster = real_tree(800);
        let (share, stop) = (cluster.share(), AtomicBool::new(false));
        support::Tree::at(share.join("storm")).every_kind();
        cluster = cluster.with_agents(AGENTS);
        let kept = names_below(&share.join("vendor"));
        assert!(kept.len() > 800);
        let copies: Vec<PathBuf> = (1..=AGENTS).map(|n| cluster.copy(n)).collect();
        thread::scope(|scope| {
            let storm = scope.spawn(|| {
                let (mut edits, mut made) = (Edits::new(share.join("storm"), seed), 0);
                while !stop.load(Ordering::Relaxed) {
                    edits.run(5);
                    made += 5;
                    lapse(Duration::from_millis(5), "the pace of the edits");
                }
                made
            });
            // What nobody edits is there at every moment: also while the hub has not finished its scan.
            let watch = scope.spawn(|| {
                let mut looks = 0;
                while !stop.load(Ordering::Relaxed) {
                    for copy in &copies {
                        for name in &kept {
                            let there = copy.join("vendor").join(name).symlink_metadata();
                            assert!(there.is_ok(), "{} went: {there:?}", copy.join(name).display());
                        }
                    }
                    looks += 1;
                }
                looks
            });
            for _ in 0..pick(3, 20) {
                lapse(Duration::from_millis(700), "edits while the hub runs");
                cluster.kill_hub();
                lapse(Duration::from_millis(300), "edits while it does not");
                cluster.start_hub();
            }
            lapse(Duration::from_millis(700), "edits after it came back");
            stop.store(true, Ordering::Relaxed);
            let (made, looks) = (storm.join().unwrap(), watch.join().unwrap());
            println!("{made} edits, {looks} looks");
            assert!(looks > 3, "{looks} looks");
        });
        cluster.assert_identical();
    });
}

#[test]
fn m2_3_m3_7_a_hub_restored_from_an_older_copy_or_lost_altogether_deletes_nothing_and_all_is_in_step_again() {
    for_each_seed(&[], |seed| {
        let mut cluster = real_tree(800).with_agents(AGENTS);
        let (total, share) = (tree_bytes(&cluster.share()), cluster.share());
        let mut edits = Edits::new(share.join("vendor"), seed);
        // What happens while nobody watches is found by listing, and half of a tree gone would rightly be held.
        let mut unseen =
            Edits::new(share.join("vendor"), seed.wrapping_add(1)).without(Edit::RemoveAll).without(Edit::RenameDir);
        assert!(cluster.run(&["put", "color", "blue"]).status.success());
        cluster.stop_hub();
        let backup = scratch();
        copy_dir(&cluster.hub_data(), &backup.join("hub"));
        cluster.start_hub();
        cluster.settle();

        // Time goes on, then the machine is restored.
        edits.run(300);
        assert!(cluster.run(&["put", "color", "red"]).status.success());
        cluster.assert_identical();
        cluster.kill_hub();
        fs::remove_dir_all(cluster.hub_data()).unwrap();
        copy_dir(&backup.join("hub"), &cluster.hub_data());
        unseen.run(50);
        cluster.start_hub();
        cluster.assert_identical();
        let color = cluster.run(&["get", "color"]);
        assert_eq!(color.stdout, b"blue", "the hub's own values are as old as the copy");

        // Nothing is left of the hub but the share: its key, its roster and its boards are new ones.
        edits.run(50);
        cluster.assert_identical();
        cluster.kill_hub();
        fs::remove_dir_all(cluster.hub_data()).unwrap();
        cluster.start_hub();
        fs::write(share.join("meanwhile"), "small").unwrap();
        for n in 1..=AGENTS {
            cluster.kill_agent(n);
            fs::remove_dir_all(cluster.agent_home(n).join("agent")).unwrap();
            cluster.adopt_agent(n);
        }
        cluster.assert_identical();
        for n in 1..=AGENTS {
            let cost = content_bytes(&cluster, n);
            println!("agent {n} got {cost} bytes of {total} when it joined the new hub");
            assert!(cost * 100 < total, "agent {n} got {cost} bytes again, of {total}");
        }
        edits.run(50);
        cluster.assert_identical();
    });
}

/// The paths of all entries below `dir`, relative to it.
fn names_below(dir: &Path) -> Vec<PathBuf> {
    fn walk(dir: &Path, from: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            found.push(entry.path().strip_prefix(from).unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), from, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found
}

/// Copies a hub's data directory as a backup does: files and directories, with their modes.
fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, from.metadata().unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_dir(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
