//! A shared directory and its copies: what arrives, how exactly, and what it costs (M2.1 to M2.7 and M3.7 over a hub).

#![allow(clippy::print_stdout, reason = "the test harness captures it and shows it when the test fails")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::Value;
use support::{Cluster, Edit, Edits, PATIENCE, Rng, Tree, for_each_seed, pick, same_trees, until};

/// What `clients show` says of client `id`'s copy of the share.
///
/// # Panics
/// When it says nothing.
#[track_caller]
pub(crate) fn copy_of(cluster: &Cluster, id: usize) -> Value {
    let output = cluster.run(&["clients", "show", &id.to_string(), "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let client: Value = serde_json::from_slice(&output.stdout).unwrap();
    client["shares"][0].clone()
}

/// Bytes of content that client `id` received since its agent started.
#[track_caller]
pub(crate) fn content_bytes(cluster: &Cluster, id: usize) -> u64 {
    copy_of(cluster, id)["content_bytes"].as_u64().unwrap()
}

/// Bytes in all regular files below `dir`; what goes away while it is counted does not count.
pub(crate) fn tree_bytes(dir: &Path) -> u64 {
    let Ok(listing) = fs::read_dir(dir) else { return 0 };
    let bytes = listing.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => tree_bytes(&entry.path()),
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    });
    bytes.sum()
}

/// Rewrites a file in place with as many other bytes, and gives it its old mtime back.
fn rewrite_with_same_stat(path: &Path, fill: u8) {
    let before = path.metadata().unwrap();
    fs::write(path, vec![fill; usize::try_from(before.len()).unwrap()]).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    let after = path.metadata().unwrap();
    let stat = |meta: &fs::Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino());
    assert_eq!(stat(&before), stat(&after), "the scene: nothing that stat tells changed but ctime");
}

/// What stands somewhere, and how it is made.
type Making = (&'static str, fn(Tree) -> Tree);

#[test]
fn m2_1_m3_7_every_kind_of_entry_arrives_identical_and_the_roots_agree() {
    let cluster = Cluster::start(|share| drop(Tree::at(share).every_kind()), &[]).with_agents(3);
    cluster.assert_identical();
    for id in 1..=3 {
        let copy = copy_of(&cluster, id);
        assert_eq!(copy["root_agrees"], Value::Bool(true), "{copy}");
        assert_eq!((copy["problems"].as_u64(), copy["waiting"].as_u64()), (Some(0), Some(0)), "{copy}");
    }
}

#[test]
fn m2_7_each_kind_of_edit_arrives_live_at_every_agent() {
    let cluster = Cluster::start(|share| drop(Tree::at(share).every_kind().file("gone", "soon")), &[]).with_agents(2);
    let share = || Tree::at(cluster.share());
    let odd = OsStr::from_bytes(b"new-\xff\xfe-\xc3\x28");
    let steps: [(&str, &dyn Fn()); 12] = [
        ("a new file", &|| drop(share().file("new", "one"))),
        ("a rewritten file", &|| drop(share().file("new", "two, longer"))),
        ("a mode", &|| drop(share().mode("new", 0o600))),
        ("a time", &|| drop(share().mtime("new", 1_234_567_890_123_456_789))),
        ("a removed file", &|| fs::remove_file(cluster.share().join("gone")).unwrap()),
        ("a renamed directory", &|| fs::rename(cluster.share().join("d"), cluster.share().join("ü/d2")).unwrap()),
        ("an empty directory", &|| drop(share().dir("hollow"))),
        ("a name that is not UTF-8", &|| drop(share().file(odd, "x"))),
        ("a link", &|| drop(share().link("to-new", "new"))),
        ("another target", &|| drop(share().remove("to-new").link("to-new", "else/where"))),
        ("a mode of the root", &|| fs::set_permissions(cluster.share(), fs::Permissions::from_mode(0o750)).unwrap()),
        ("a tree that comes at once", &|| drop(share().file("deep/er/and/deeper/f", "1").file("deep/g", "2"))),
    ];
    for (what, step) in steps {
        step();
        cluster.settle();
        for n in 1..=2 {
            if let Err(difference) = same_trees(cluster.share(), cluster.copy(n)) {
                panic!("after {what}, copy {n}: {difference}\n{}", cluster.scene());
            }
        }
    }
}

#[test]
fn m2_1_every_kind_becomes_every_kind() {
    let kinds: [Making; 7] = [
        ("nothing", |tree| tree),
        ("a file", |tree| tree.file("x", "content")),
        ("an empty file", |tree| tree.file("x", "")),
        ("an executable", |tree| tree.file("x", "run").mode("x", 0o755)),
        ("an empty directory", |tree| tree.dir("x")),
        ("a full directory", |tree| tree.file("x/a", "1").file("x/sub/b", "2").link("x/l", "a")),
        ("a link", |tree| tree.link("x", "away")),
    ];
    let fill = |share: &Path, from: bool| {
        for (a, (_, before)) in kinds.iter().enumerate() {
            for (b, (_, after)) in kinds.iter().enumerate() {
                let place = share.join(format!("{a}-{b}"));
                let tree = Tree::at(&place);
                if from {
                    before(tree);
                } else {
                    let there = place.join("x").symlink_metadata().is_ok();
                    after(if there { tree.remove("x") } else { tree });
                }
            }
        }
    };
    let mut cluster = Cluster::start(|share| fill(share, true), &[]).with_agents(2);
    // One of the agents is away meanwhile and finds it all in a walk.
    cluster.stop_agent(2);
    fill(&cluster.share(), false);
    cluster.assert_identical();
    cluster.start_agent(2);
    cluster.assert_identical();
}

#[test]
fn m2_2_m3_7_what_an_agent_holds_is_not_sent_again_when_it_or_the_hub_starts_again() {
    let bytes = Rng::new(5).bytes(3 << 20);
    let fill = |share: &Path| drop(Tree::at(share).every_kind().file("large", &bytes));
    let mut cluster = Cluster::start(fill, &[]).with_agents(1);
    let tree = tree_bytes(&cluster.share());
    assert!(content_bytes(&cluster, 1) * 10 > tree * 9, "the first time it all travels");
    cluster.stop_agent(1);
    cluster.start_agent(1);
    cluster.assert_identical();
    assert_eq!(content_bytes(&cluster, 1), 0, "the agent started again");
    cluster.kill_agent(1);
    cluster.start_agent(1);
    cluster.assert_identical();
    assert_eq!(content_bytes(&cluster, 1), 0, "the agent was killed and started again");
    cluster.kill_hub();
    cluster.start_hub();
    cluster.assert_identical();
    assert_eq!(content_bytes(&cluster, 1), 0, "the hub was killed and started again");
}

#[test]
fn m3_7_what_moves_or_is_copied_in_the_share_is_taken_from_the_copy_itself() {
    let mut rng = Rng::new(1);
    let bytes = rng.bytes(3 << 20);
    let cluster =
        Cluster::start(|share| drop(Tree::at(share).file("d/large", &bytes).file("d/small", "s")), &[]).with_agents(1);
    let before = content_bytes(&cluster, 1);
    fs::rename(cluster.share().join("d"), cluster.share().join("e")).unwrap();
    fs::copy(cluster.share().join("e/large"), cluster.share().join("copy")).unwrap();
    cluster.assert_identical();
    let cost = content_bytes(&cluster, 1) - before;
    assert!(cost < 1024, "{cost} bytes travelled");
}

#[test]
fn m3_7_of_a_large_file_only_the_chunks_that_are_missing_travel() {
    let mut rng = Rng::new(7);
    let mut bytes = rng.bytes(20 << 20);
    let cluster = Cluster::start(|share| drop(Tree::at(share).file("large", &bytes)), &[]).with_agents(2);
    cluster.assert_identical();
    for (what, at) in [("the middle", 10 << 20), ("the beginning", 3), ("the end", (20 << 20) - 5)] {
        let before = content_bytes(&cluster, 1);
        bytes.insert(at, 0x55);
        fs::write(cluster.share().join("new"), &bytes).unwrap();
        fs::rename(cluster.share().join("new"), cluster.share().join("large")).unwrap();
        cluster.assert_identical();
        let cost = content_bytes(&cluster, 1) - before;
        println!("one byte inserted at {what} of 20 MiB: {cost} bytes travelled");
        assert!(cost < 1 << 20, "one byte inserted at {what} of 20 MiB: {cost} bytes travelled");
    }
}

#[test]
fn m2_7_other_content_under_the_same_stat_is_at_every_agent_before_wait_returns() {
    let fill = |share: &Path| {
        for n in 0..10 {
            fs::write(share.join(format!("small-{n}")), [0; 100]).unwrap();
        }
        fs::write(share.join("large"), vec![0; 3 << 20]).unwrap();
    };
    let cluster = Cluster::start(fill, &[]).with_agents(3);
    for round in 1..=pick(20_u8, 200) {
        // One of them alone, then all at once: a live batch and more than one.
        let names: Vec<String> = match round % 4 {
            0 => (0..10).map(|n| format!("small-{n}")).chain(["large".to_owned()]).collect(),
            1 => vec!["large".to_owned()],
            n => vec![format!("small-{n}")],
        };
        for name in &names {
            rewrite_with_same_stat(&cluster.share().join(name), round);
        }
        let wait = cluster.run(&["wait", "share", "--timeout", "60s"]);
        assert!(wait.status.success(), "{}\n{}", String::from_utf8_lossy(&wait.stderr), cluster.scene());
        // At once, without another look: this is what `wait` promises.
        for name in &names {
            for n in 1..=3 {
                let content = fs::read(cluster.copy(n).join(name)).unwrap();
                assert!(content.iter().all(|b| *b == round), "{name} of copy {n} in round {round}");
            }
        }
    }
    cluster.assert_identical();
}

#[test]
fn m2_3_m2_7_what_is_edited_at_an_agent_is_put_right() {
    let cluster = Cluster::start(|share| drop(Tree::at(share).every_kind()), &[]).with_agents(2);
    let copy = Tree::at(cluster.copy(1));
    let root = cluster.copy(1);
    // What needs two steps is made beside and put there in one, or the agent would be quicker.
    let beside = Tree::at(cluster.path().join("beside")).file("is/a/directory", "now");
    let meddling: [(&str, &dyn Fn()); 8] = [
        ("a rewritten file", &|| drop(copy.clone().file("text", "mine"))),
        ("an extra file", &|| drop(copy.clone().file("extra/deep/file", "mine"))),
        ("a removed file", &|| fs::remove_file(root.join("run.sh")).unwrap()),
        ("a removed tree", &|| fs::rename(root.join("d"), cluster.path().join("beside/d")).unwrap()),
        ("a mode", &|| drop(copy.clone().mode("private", 0o666))),
        ("a time", &|| drop(copy.clone().mtime("old", 77))),
        ("another kind", &|| {
            renameat_with(CWD, beside.path(), CWD, root.join("text"), RenameFlags::EXCHANGE).unwrap();
        }),
        ("another target", &|| {
            let link = Tree::at(cluster.path()).link("link", "/etc").path().join("link");
            fs::rename(link, root.join("to-dir")).unwrap();
        }),
    ];
    for (what, meddle) in meddling {
        meddle();
        let put_right = || same_trees(cluster.share(), cluster.copy(1)).is_ok();
        until(PATIENCE, &format!("{what} at the agent to be put right\n{}", cluster.scene()), put_right);
    }
    // Content under the same stat, too: the watch tells of it.
    rewrite_with_same_stat(&root.join("large"), 9);
    until(PATIENCE, "the content to be put right", || same_trees(cluster.share(), cluster.copy(1)).is_ok());
    cluster.assert_identical();
    assert_eq!(copy_of(&cluster, 1)["root_agrees"], Value::Bool(true));
}

#[test]
fn m2_3_what_was_edited_while_the_agent_was_away_is_put_right_when_it_comes_back() {
    let mut cluster = Cluster::start(|share| drop(Tree::at(share).every_kind()), &[]).with_agents(2);
    cluster.kill_agent(1);
    let time = SystemTime::now() - Duration::from_secs(3600);
    let copy = Tree::at(cluster.copy(1)).file("text", "mine").file("extra", "mine").remove("d").mode("private", 0o666);
    fs::File::open(copy.path().join("odd")).unwrap().set_modified(time).unwrap();
    Tree::at(cluster.share()).file("text", "theirs").remove("run.sh");
    cluster.start_agent(1);
    cluster.assert_identical();
}

#[test]
fn m2_1_m3_7_random_edits_at_both_ends_leave_the_share_as_it_is_and_the_copies_like_it() {
    for_each_seed(&[1], |seed| {
        let cluster = Cluster::start(|share| drop(Tree::at(share).every_kind()), &[]).with_agents(2);
        let mut edits = Edits::new(cluster.share(), seed);
        let mut meddler = Edits::new(cluster.copy(1), seed.wrapping_add(1)).without(Edit::RemoveAll);
        for _ in 0..pick(4, 40) {
            edits.run(50);
            meddler.run(10);
        }
        cluster.settle();
        // What was meddled with last is put right a moment after `wait` was told that all had been applied.
        until(PATIENCE, "the copies to be like the share", || {
            (1..=2).all(|n| support::stat_differences(cluster.share(), cluster.copy(n)).is_ok_and(|d| d.is_empty()))
        });
        until(PATIENCE, "their content, too", || (1..=2).all(|n| same_trees(cluster.share(), cluster.copy(n)).is_ok()));
        cluster.assert_identical();
    });
}
