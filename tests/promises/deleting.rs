//! What deletes, and what never does: only what somebody removed goes; what cannot be seen is not taken for removed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::Value;
use support::{Cluster, PATIENCE, Proc, Tree, lapse, lockstep_at, pick, same_trees, until};

/// More than the guard lets go without a question, in one go.
const MANY: usize = 1_200;

fn many(share: &Path) {
    let mut tree = Tree::at(share).every_kind();
    for n in 0..MANY {
        tree = tree.file(format!("many/{}/{n}", n % 30), n.to_string());
    }
}

/// Path, and inode number and change time of what is there.
type Print = BTreeMap<Vec<u8>, (u64, i64, i64)>;

/// Everything below `dir` that a change would change: names, times, inode numbers.
fn print_of(dir: &Path) -> Print {
    use std::os::unix::ffi::OsStrExt;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        found.insert(path.as_os_str().as_bytes().to_vec(), (meta.ino(), meta.ctime(), meta.ctime_nsec()));
        if meta.is_dir() {
            found.extend(print_of(&path));
        }
    }
    found
}

fn status(cluster: &Cluster) -> (String, Value) {
    let text = cluster.run(&["status"]);
    let json = cluster.run(&["status", "--json"]);
    assert!(text.status.success() && json.status.success(), "{}", String::from_utf8_lossy(&text.stderr));
    (String::from_utf8(text.stdout).unwrap(), serde_json::from_slice(&json.stdout).unwrap())
}

/// Waits until `status` says `what` of the share.
#[track_caller]
fn status_says(cluster: &Cluster, what: &str) {
    until(PATIENCE, &format!("status to say “{what}”\n{}", status(cluster).0), || {
        let (text, json) = status(cluster);
        let problems = json["shares"][0]["problems"].as_array().unwrap();
        text.contains(what) && problems.iter().any(|p| p.as_str().unwrap().contains(what))
    });
}

/// `wait` ends with `code` and says `what` of the share; nobody is told to be in sync with what the hub does not see.
#[track_caller]
fn wait_says(cluster: &Cluster, code: i32, what: &str) {
    let output = cluster.run(&["wait", "--timeout", "300ms", "--json"]);
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{told}{said}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["done"], &json["shares"][0]["name"]), (&false.into(), &"share".into()), "{json}");
    assert!(json["shares"][0]["why"].as_str().unwrap().contains(what) && said.contains(what), "{json}\n{said}");
}

/// Gives everybody time to do something wrong: several of the hub's and the agents' own rounds.
fn rounds_pass(cluster: &Cluster) {
    for _ in 0..3 {
        lapse(Duration::from_millis(400), "for a round in which something could go wrong");
        assert!(cluster.run(&["status"]).status.success());
    }
}

#[test]
fn m2_3_a_share_renamed_away_deletes_nothing_and_status_says_so() {
    let mut cluster = Cluster::start(many, &[]).with_agents(2);
    let (share, away) = (cluster.share(), cluster.path().join("away"));
    let before = [print_of(&cluster.copy(1)), print_of(&cluster.copy(2))];
    fs::rename(&share, &away).unwrap();
    status_says(&cluster, "was renamed");
    wait_says(&cluster, 1, "was renamed");
    rounds_pass(&cluster);
    assert_eq!(before, [print_of(&cluster.copy(1)), print_of(&cluster.copy(2))]);
    // Also not when the hub is started again and there is nothing at its place: it refuses.
    cluster.stop_hub();
    let output = cluster.hub_command().output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(before, [print_of(&cluster.copy(1)), print_of(&cluster.copy(2))]);
    // Put back, all goes on.
    fs::rename(&away, &share).unwrap();
    cluster.start_hub();
    Tree::at(&share).file("text", "again");
    cluster.assert_identical();
}

#[test]
fn m2_3_a_share_replaced_by_an_empty_directory_deletes_nothing_and_status_says_so() {
    let mut cluster = Cluster::start(many, &[]).with_agents(2);
    let (share, away) = (cluster.share(), cluster.path().join("away"));
    let before = [print_of(&cluster.copy(1)), print_of(&cluster.copy(2))];
    fs::rename(&share, &away).unwrap();
    fs::create_dir(&share).unwrap();
    status_says(&cluster, "was renamed");
    wait_says(&cluster, 1, "was renamed");
    rounds_pass(&cluster);
    assert_eq!(before, [print_of(&cluster.copy(1)), print_of(&cluster.copy(2))]);
    // A restart finds it so, as when a disk was not mounted at boot.
    cluster.stop_hub();
    cluster.start_hub();
    status_says(&cluster, "not the directory that was shared before: it is another one, and is empty");
    // Else it is said first who is away.
    until(PATIENCE, "both to be back", || status(&cluster).1["shares"][0]["in_sync"] == 2);
    wait_says(&cluster, 4, "nothing goes out");
    rounds_pass(&cluster);
    assert_eq!(before, [print_of(&cluster.copy(1)), print_of(&cluster.copy(2))]);
    // The right one again: nobody noticed anything.
    cluster.stop_hub();
    fs::remove_dir(&share).unwrap();
    fs::rename(&away, &share).unwrap();
    cluster.start_hub();
    cluster.assert_identical();
}

#[test]
fn m2_3_a_share_that_points_to_another_directory_sends_nothing_of_it_until_that_is_allowed() {
    let mut cluster = Cluster::start(|share| drop(Tree::at(share).file("text", "right").file("other", "1")), &[]);
    cluster = cluster.with_agents(1);
    let before = print_of(&cluster.copy(1));
    cluster.stop_hub();
    let (share, away) = (cluster.share(), cluster.path().join("away"));
    fs::rename(&share, &away).unwrap();
    // The same names, and other contents: an overwrite as much as a deletion.
    Tree::at(&share).file("text", "wrong").file("new", "2");
    cluster.start_hub();
    status_says(
        &cluster,
        "it is another one, and holds 2 entries; if it is the right one: lockstep allow-deletes share",
    );
    until(PATIENCE, "the agent to be back", || status(&cluster).1["shares"][0]["in_sync"] == 1);
    wait_says(&cluster, 4, "nothing goes out");
    // What happens in it now goes nowhere either.
    fs::write(share.join("text"), "worse").unwrap();
    rounds_pass(&cluster);
    assert_eq!(before, print_of(&cluster.copy(1)));
    let why = |target: &str| {
        let output = cluster.run(&["why", target]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(why("share").contains("nothing goes out") && why("share/new").contains("is not shared: nothing goes out"));
    assert!(why("share/text").contains("may be another one by now"), "{}", why("share/text"));
    let log = fs::read_to_string(cluster.hub_home().join("log/hub.log")).unwrap();
    assert!(log.contains("nothing goes out"), "{log}");
    let allowed = cluster.run(&["allow-deletes", "share"]);
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
    cluster.assert_identical();
    // From here on it is the shared one, also after a restart.
    cluster.stop_hub();
    fs::write(share.join("text"), "changed").unwrap();
    cluster.start_hub();
    cluster.assert_identical();
}

#[test]
fn m2_3_allow_deletes_makes_an_emptied_share_empty_everywhere() {
    let mut cluster = Cluster::start(many, &[]).with_agents(1);
    let before = print_of(&cluster.copy(1));
    cluster.stop_hub();
    fs::remove_dir_all(cluster.share()).unwrap();
    fs::create_dir(cluster.share()).unwrap();
    cluster.start_hub();
    status_says(&cluster, "lockstep allow-deletes");
    assert_eq!(before, print_of(&cluster.copy(1)));
    let allowed = cluster.run(&["allow-deletes", "share"]);
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
    cluster.assert_identical();
    assert_eq!(fs::read_dir(cluster.copy(1)).unwrap().count(), 0);
}

#[test]
fn m2_3_what_goes_in_masses_while_nobody_looked_is_held_and_the_rest_is_done() {
    let mut cluster = Cluster::start(many, &[]).with_agents(1);
    cluster.stop_hub();
    fs::remove_dir_all(cluster.share().join("many")).unwrap();
    Tree::at(cluster.share()).file("text", "changed meanwhile");
    cluster.start_hub();
    status_says(&cluster, "nobody saw them go");
    until(PATIENCE, "the change to arrive", || {
        fs::read(cluster.copy(1).join("text")).is_ok_and(|text| text == b"changed meanwhile")
    });
    assert_eq!(fs::read_dir(cluster.copy(1).join("many")).unwrap().count(), 30);
    wait_says(&cluster, 4, "lockstep allow-deletes");
    let allowed = cluster.run(&["allow-deletes", "share"]);
    assert!(allowed.status.success(), "{}", String::from_utf8_lossy(&allowed.stderr));
    cluster.assert_identical();
}

#[test]
fn m2_3_what_becomes_unreadable_is_not_taken_for_removed_and_status_says_so() {
    let mut cluster = Cluster::start(many, &[]).with_agents(2);
    // For root every directory is readable. So the hub runs without that right, and owner or not, the mode counts.
    cluster.stop_hub();
    without_override(|| cluster.start_hub());
    cluster.assert_identical();
    let before = [print_of(&cluster.copy(1).join("many")), print_of(&cluster.copy(2).join("many"))];
    let close = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();

    // A directory in it: it shields what is below, and the rest goes on. The hub starts again and sees it so for the first time.
    let shut = cluster.share().join("many/7");
    close(&shut);
    status_says(&cluster, "many/7");
    Tree::at(cluster.share()).remove("run.sh").file("text", "goes on");
    let goes_on = |cluster: &Cluster, n: usize, text: &str| {
        fs::read(cluster.copy(n).join("text")).is_ok_and(|got| got == text.as_bytes())
            && !cluster.copy(n).join("run.sh").exists()
    };
    until(PATIENCE, "the rest to go on", || (1..=2).all(|n| goes_on(&cluster, n, "goes on")));
    cluster.stop_hub();
    without_override(|| cluster.start_hub());
    status_says(&cluster, "many/7");
    Tree::at(cluster.share()).file("text", "goes on still");
    until(PATIENCE, "the rest to go on", || (1..=2).all(|n| goes_on(&cluster, n, "goes on still")));
    for n in 1..=2 {
        assert_eq!(fs::read_dir(cluster.copy(n).join("many/7")).map_or(0, Iterator::count), MANY / 30, "copy {n}");
    }
    open(&shut);
    cluster.assert_identical();

    // The share itself.
    let mode = fs::metadata(cluster.share()).unwrap().permissions();
    close(&cluster.share());
    status_says(&cluster, "cannot open");
    wait_says(&cluster, 1, "cannot open");
    rounds_pass(&cluster);
    fs::set_permissions(cluster.share(), mode).unwrap();
    cluster.assert_identical();
    let names = |prints: &[Print; 2]| {
        prints.iter().flat_map(|p| p.iter().map(|(name, (ino, ..))| (name.clone(), *ino))).collect::<Vec<_>>()
    };
    let after = [print_of(&cluster.copy(1).join("many")), print_of(&cluster.copy(2).join("many"))];
    assert_eq!(names(&before), names(&after), "no entry went, not even to come back");
}

#[test]
fn m2_3_what_a_hub_without_its_index_cannot_read_stays_at_every_agent_and_is_told() {
    let mut cluster = Cluster::start(many, &[]).with_agents(2);
    cluster.stop_hub();
    let indexes = fs::read_dir(cluster.hub_data()).unwrap().map(|entry| entry.unwrap().path());
    let lost = indexes.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("share-")));
    assert!(lost.map(|path| fs::remove_file(path).unwrap()).count() > 0);
    let (shut, unread) = (cluster.share().join("many/7"), cluster.share().join("run.sh"));
    let modes = [&shut, &unread].map(|path| fs::metadata(path).unwrap().permissions());
    for path in [&shut, &unread] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    // What is really gone goes, so the walk that finds it would find the others as well.
    fs::remove_dir_all(cluster.share().join("many/8")).unwrap();
    let before = [1, 2].map(|n| (print_of(&cluster.copy(n).join("many/7")), fs::read(cluster.copy(n).join("run.sh"))));
    without_override(|| cluster.start_hub());
    until(PATIENCE, "what is gone to go", || (1..=2).all(|n| !cluster.copy(n).join("many/8").exists()));
    status_says(&cluster, "many/7");
    rounds_pass(&cluster);
    for n in 1..=2 {
        let (prints, text) = &before[n - 1];
        assert_eq!(prints, &print_of(&cluster.copy(n).join("many/7")), "copy {n}");
        assert_eq!(text.as_ref().unwrap(), &fs::read(cluster.copy(n).join("run.sh")).unwrap(), "copy {n}");
        let shown = cluster.run(&["clients", "show", &n.to_string()]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("many/7") && shown.contains("run.sh"), "{shown}");
    }
    let waited = cluster.run(&["wait", "--timeout", "1s"]);
    assert_eq!(waited.status.code(), Some(1), "{}", String::from_utf8_lossy(&waited.stderr));
    [&shut, &unread].into_iter().zip(modes).for_each(|(path, mode)| fs::set_permissions(path, mode).unwrap());
    cluster.assert_identical();
}

/// Runs `start` in a thread whose children have no right to pass over modes, also as root.
pub(crate) fn without_override(start: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let started = scope.spawn(|| {
            for right in [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH] {
                // Who is not root has no such right to lose.
                remove_capability_from_bounding_set(right).ok();
            }
            start();
        });
        started.join().unwrap();
    });
}

#[test]
fn m2_3_rm_rf_of_all_in_the_share_is_followed_while_the_hub_watches() {
    let cluster = Cluster::start(many, &[]).with_agents(pick(2, 3));
    // As `rm -rf SHARE/*` does: far more than the guard would let go, had nobody seen it.
    for entry in fs::read_dir(cluster.share()).unwrap() {
        let path = entry.unwrap().path();
        let gone = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        gone.unwrap();
    }
    cluster.assert_identical();
    assert_eq!(fs::read_dir(cluster.copy(1)).unwrap().count(), 0);
    assert_eq!(status(&cluster).1["shares"][0]["held_deletes"], Value::from(0));
}

#[test]
fn m2_3_three_files_replace_ten_extra_ones_that_were_adopted() {
    let mut cluster = Cluster::start(|share| drop(Tree::at(share).file("a", "1").file("b", "2").file("c", "3")), &[]);
    let extras = (0..10).fold(Tree::at(cluster.copy(1)), |tree, n| tree.file(format!("extra-{n}"), "x"));
    assert_eq!(fs::read_dir(extras.path()).unwrap().count(), 10);
    cluster.adopt_agent(1);
    cluster.assert_identical();
}

#[test]
fn m2_5_no_copy_of_a_share_is_kept_within_it_nor_around_it() {
    let mut cluster = Cluster::start(|share| drop(Tree::at(share).every_kind()), &[]);
    let (share, before) = (cluster.share(), print_of(&cluster.share()));
    for directory in [share.join("copy"), share.join("deep/er/copy"), share.clone(), share.parent().unwrap().to_owned()]
    {
        let mut join = lockstep_at(cluster.agent_home(2));
        join.args(["join", &cluster.link(), "--id", "2", "--adopt"]).arg(&directory);
        let mut join = Proc::start(&mut join);
        let code = join.wait_exit(PATIENCE).code();
        let said = join.output().join("\n");
        assert!(code == Some(2) && said.contains("Nothing was touched"), "{}: {code:?} {said}", directory.display());
        assert_eq!(before, print_of(&share), "{}", directory.display());
    }
    // Beside it there is nothing to say.
    cluster.start_agent(2);
    cluster.assert_identical();
}

#[test]
fn m2_5_join_into_a_home_directory_stops_with_4_a_count_and_nothing_touched() {
    let mut cluster = Cluster::start(|share| drop(Tree::at(share).every_kind()), &[]).with_agents(1);
    let home = cluster.copy(2);
    Tree::at(&home).file("thesis.tex", "years").file(".ssh/id", "key").mode(".ssh", 0o700).file("text", "hello\n");
    Tree::at(&home).file("letters/one", "1").file("letters/two", "2").link("latest", "letters/two").dir("hollow");
    let before = print_of(&home);
    let mut join = Proc::start(&mut cluster.join(2));
    let code = join.wait_exit(PATIENCE).code();
    let said = join.output().join("\n");
    assert_eq!(code, Some(4), "{said}");
    assert_eq!(before, print_of(&home), "{said}");
    // 8 entries of the home are not in the share: they would go; `text` is the same but for its time.
    assert!(said.contains("8 deleted") && said.contains("--adopt") && said.contains("1 would be changed"), "{said}");
    // Said and wanted, it is done.
    cluster.adopt_agent(2);
    cluster.assert_identical();
    // From now on it is this share's copy, and a later join needs no flag.
    cluster.stop_agent(2);
    cluster.start_agent(2);
    cluster.assert_identical();
    assert!(same_trees(cluster.share(), cluster.copy(1)).is_ok());
}
