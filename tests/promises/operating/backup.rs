//! `lockstep hub backup` and `lockstep hub restore`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::Value;
use support::{Cluster, PATIENCE, Proc, lockstep_at, pick, until};

use super::all_of;
use crate::login::{ended, stdout};

/// A hub with a share and values, agent 1 with the share, and agent 2 with the values as files.
struct Scene {
    cluster: Cluster,
    values: Proc,
}

impl Scene {
    fn start() -> Self {
        let fill = |share: &Path| {
            fs::create_dir(share.join("d")).unwrap();
            (0..pick(20, 2000)).for_each(|n| fs::write(share.join(format!("d/{n}")), n.to_string()).unwrap());
        };
        let cluster = Cluster::start(fill, &[]).with_agents(1);
        let mut join = lockstep_at(cluster.path().join("values-home"));
        join.args(["join", &cluster.link(), "--id", "2", "--values"]).arg(cluster.path().join("values"));
        let values = Proc::start(&mut join);
        values.wait_for_line("in sync", PATIENCE);
        Scene { cluster, values }
    }

    fn put(&self, args: &[&str]) {
        stdout(self.cluster.run(&[&["put"], args].concat()));
    }

    fn backup_file(&self) -> PathBuf {
        self.cluster.path().join("backup")
    }

    fn backup(&self) -> Value {
        let file = self.backup_file();
        let told = stdout(self.cluster.run(&["hub", "backup", file.to_str().unwrap(), "--json"]));
        serde_json::from_str(&told).unwrap()
    }

    fn restore(&self, args: &[&str]) -> (Option<i32>, String) {
        let file = self.backup_file();
        ended(&mut self.cluster.ask(&[&["hub", "restore", file.to_str().unwrap()], args].concat()))
    }

    /// Waits until the values that agent 2 keeps as files are these.
    #[track_caller]
    fn assert_values(&self, wanted: &[(&str, &str)]) {
        let held = || -> Vec<(String, String)> {
            let files = all_of(&self.cluster.path().join("values"));
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            files.iter().map(|(path, value)| (name(path), String::from_utf8(value.clone()).unwrap())).collect()
        };
        let same = || held().iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(wanted.iter().copied());
        let what = format!("the values as files to be {wanted:?}\n{}", self.values.output().join("\n"));
        until(PATIENCE, &what, same);
    }
}

#[test]
fn a_backup_taken_from_a_running_hub_is_put_back_and_all_clients_end_equal_to_the_hub() {
    for kill in [false, true] {
        let mut scene = Scene::start();
        scene.put(&["a", "1"]);
        scene.put(&["b", "1"]);
        scene.assert_values(&[("a", "1"), ("b", "1")]);
        let told = scene.backup();
        assert_eq!(told["running"], true, "{told}");
        assert_eq!(fs::metadata(scene.backup_file()).unwrap().permissions().mode() & 0o777, 0o600);
        scene.put(&["a", "2"]);
        scene.put(&["b", "--remove"]);
        scene.put(&["c", "2"]);
        fs::write(scene.cluster.share().join("d/new"), "new").unwrap();
        fs::remove_file(scene.cluster.share().join("d/0")).unwrap();
        scene.assert_values(&[("a", "2"), ("c", "2")]);
        scene.cluster.assert_identical();
        let share = all_of(&scene.cluster.share());
        // Not while it runs, and not over what is there.
        let (code, said) = scene.restore(&["--replace"]);
        assert!(code == Some(3) && said.contains("in use"), "{said}");
        if kill {
            scene.cluster.kill_hub()
        } else {
            scene.cluster.stop_hub()
        }
        let before = all_of(&scene.cluster.hub_data());
        let (code, said) = scene.restore(&[]);
        assert!(code == Some(3) && said.contains("--replace"), "{said}");
        assert_eq!(all_of(&scene.cluster.hub_data()), before);
        let (code, said) = scene.restore(&["--replace"]);
        assert_eq!(code, Some(0), "{said}");
        scene.cluster.start_hub();
        scene.assert_values(&[("a", "1"), ("b", "1")]);
        scene.cluster.assert_identical();
        // The share is what its directory holds, not what the backup knew of it, and nobody deleted anything.
        assert_eq!(all_of(&scene.cluster.share()), share);
        // And it goes on from there.
        scene.put(&["c", "3"]);
        fs::write(scene.cluster.share().join("d/newer"), "newer").unwrap();
        scene.assert_values(&[("a", "1"), ("b", "1"), ("c", "3")]);
        scene.cluster.assert_identical();
    }
}

#[test]
fn a_hub_put_back_where_its_share_is_another_directory_says_so_and_nobody_is_told_to_wait_for_a_scan() {
    let mut scene = Scene::start();
    scene.backup();
    scene.cluster.stop_hub();
    let share = scene.cluster.share();
    fs::rename(&share, scene.cluster.path().join("away")).unwrap();
    fs::create_dir(&share).unwrap();
    fs::write(share.join("other"), "other").unwrap();
    assert_eq!(scene.restore(&["--replace"]).0, Some(0));
    scene.cluster.start_hub();
    let of = |args: &[&str]| {
        let output = scene.cluster.run(args);
        let told = [&output.stdout[..], &output.stderr].concat();
        (output.status.code(), String::from_utf8(told).unwrap())
    };
    let (mut code, mut told) = (None, String::new());
    let wait = ["wait", "share", "--client", "1", "--timeout", "300ms"];
    until(PATIENCE, "the agent to be back, and the wait to end with 4", || {
        (code, told) = of(&wait);
        code == Some(4)
    });
    assert!(told.contains("nothing goes out: ") && told.contains("it is another one, and holds 1 entry"), "{told}");
    let all = [told, of(&["status"]).1, of(&["why", "share"]).1, of(&["why", "share", "--client", "1"]).1];
    for told in &all {
        assert!(!told.contains("scanning") && !told.contains("as it is now"), "{told}");
    }
    let [_, status, why, one] = all;
    assert!(status.contains(", held; 1 in sync with what last went out, 0 not"), "{status}");
    assert!(why.contains("1 client has share as it last went out") && why.contains("nothing goes out"), "{why}");
    assert!(one.contains("the newest that went out"), "{one}");
    stdout(scene.cluster.run(&["allow-deletes", "share"]));
    scene.cluster.assert_identical();
    let status = of(&["status"]).1;
    assert!(!status.contains("held") && status.contains("; 1 in sync, 0 not"), "{status}");
}

#[test]
fn what_was_acknowledged_before_a_backup_began_is_in_it_whatever_is_put_meanwhile() {
    let scene = Scene::start();
    let (acknowledged, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let before = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let next = acknowledged.load(Ordering::Relaxed) + 1;
                scene.put(&["n", &next.to_string()]);
                acknowledged.store(next, Ordering::Release);
            }
        });
        let mut before = 0;
        for n in 1..=pick(3, 20) {
            until(PATIENCE, "puts", || acknowledged.load(Ordering::Acquire) >= n * 3);
            before = acknowledged.load(Ordering::Acquire);
            scene.backup();
        }
        over.store(true, Ordering::Relaxed);
        before
    });
    let data = scene.cluster.path().join("other");
    let mut restore = lockstep_at(scene.cluster.path().join("other-home"));
    let (code, said) = ended(restore.args(["hub", "restore"]).arg(scene.backup_file()).arg("--data").arg(&data));
    assert_eq!(code, Some(0), "{said}");
    let other = Proc::start(
        lockstep_at(scene.cluster.path().join("other-home"))
            .args(["hub", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data),
    );
    other.wait_for_line("address", PATIENCE);
    let mut get = lockstep_at(scene.cluster.path().join("other-home"));
    let got = stdout(get.args(["get", "n", "--data"]).arg(&data).output().unwrap());
    assert!(got.trim().parse::<u64>().unwrap() >= before, "{got} is in the backup, {before} was acknowledged before");
}

#[test]
fn a_hub_that_does_not_run_is_backed_up_as_well_and_comes_back_elsewhere_with_its_key_and_its_clients() {
    let mut scene = Scene::start();
    scene.put(&["a", "1"]);
    let key = fs::read(scene.cluster.hub_data().join("hub.key.der")).unwrap();
    scene.cluster.stop_hub();
    assert_eq!(scene.backup()["running"], false);
    fs::remove_dir_all(scene.cluster.hub_data()).unwrap();
    let (code, said) = scene.restore(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read(scene.cluster.hub_data().join("hub.key.der")).unwrap(), key);
    scene.cluster.start_hub();
    scene.assert_values(&[("a", "1")]);
    scene.cluster.assert_identical();
}

#[test]
fn a_backup_that_was_changed_or_cut_is_refused_and_nothing_is_touched() {
    let mut scene = Scene::start();
    scene.backup();
    scene.cluster.stop_hub();
    let (file, data) = (scene.backup_file(), scene.cluster.hub_data());
    let (whole, before) = (fs::read(&file).unwrap(), all_of(&data));
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for (bytes, what) in [(&changed[..], "changed"), (&whole[..whole.len() - 1], "cut"), (b"", "empty")] {
        fs::write(&file, bytes).unwrap();
        let (code, said) = scene.restore(&["--replace"]);
        assert!(code == Some(3) && said.contains("no whole backup"), "{what}: {said}");
        assert_eq!(all_of(&data), before, "{what}");
    }
    // The canary: it is not refused for anything else.
    fs::write(&file, &whole).unwrap();
    assert_eq!(scene.restore(&["--replace"]).0, Some(0));
}

#[test]
fn a_backup_that_cannot_be_written_leaves_the_one_before_and_no_copies() {
    let scene = Scene::start();
    scene.backup();
    let (file, whole) = (scene.backup_file(), fs::read(scene.backup_file()).unwrap());
    let missing = scene.cluster.path().join("missing/backup");
    let (code, said) = ended(&mut scene.cluster.ask(&["hub", "backup", missing.to_str().unwrap()]));
    assert!(code == Some(3) && said.contains("missing"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), whole);
    let left = fs::read_dir(scene.cluster.hub_data()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("backup-")).collect();
    assert!(left.is_empty(), "{left:?}");
    let nothing = scene.cluster.path().join("nothing");
    let mut backup = lockstep_at(scene.cluster.path().join("other-home"));
    let (code, said) = ended(backup.args(["hub", "backup"]).arg(&file).arg("--data").arg(&nothing));
    assert!(code == Some(3) && said.contains("nothing to back up") && !nothing.exists(), "{said}");
}
