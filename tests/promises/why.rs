//! `lockstep why`: one sentence of truth about a path, a value or a client, and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use support::{Cluster, PATIENCE, Proc, Tree, on_small_disk, until};

use crate::deleting::without_override;
use crate::login::{link_in, stdout};

/// The answer: exit code, rows, and the same for people.
fn why(cluster: &Cluster, args: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let json = cluster.run(&[&["why"], args, &["--json"]].concat());
    let rows = String::from_utf8(json.stdout).unwrap();
    let rows = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let people = cluster.run(&[&["why"], args].concat());
    (json.status.code(), rows, String::from_utf8(people.stdout).unwrap())
}

/// Waits until the answer has a row with this reason, and its text these words; gives the text.
#[track_caller]
fn says(cluster: &Cluster, args: &[&str], reason: &str, words: &[&str]) -> String {
    let mut last = String::new();
    let it = || {
        let (_, rows, _) = why(cluster, args);
        last = format!("{rows:#?}");
        let row = rows.iter().find(|row| row["reason"] == reason)?;
        let text = row["text"].as_str()?.to_owned();
        words.iter().all(|word| text.contains(word)).then_some(text)
    };
    let mut found = None;
    let mut it = it;
    let start = std::time::Instant::now();
    while found.is_none() && start.elapsed() < PATIENCE {
        found = it();
    }
    found.unwrap_or_else(|| panic!("{args:?} does not say {reason} with {words:?} but {last}"))
}

#[test]
fn what_is_where_it_should_be_is_said_to_be_there_and_who_is_away_is_told_with_what_to_do() {
    let mut cluster = Cluster::start(|share| drop(Tree::at(share).file("d/a", "one").file("b", "two")), &[]);
    cluster = cluster.with_agents(2);
    let path = cluster.share().join("d/a");
    for target in ["share", "share/d/a", "d/a", path.to_str().unwrap()] {
        let (code, rows, people) = why(&cluster, &[target]);
        assert!(code == Some(0) && rows.iter().all(|row| row["has"] == true), "{target}: {rows:?}");
        assert!(people.contains("2 clients have"), "{target}: {people}");
    }
    let (code, rows, _) = why(&cluster, &["--client", "1"]);
    assert!(code == Some(0) && rows[0]["reason"] == "in_sync" && rows[0]["what"] == "share", "{rows:?}");
    // Away: told of that one, with since when, and of no other.
    cluster.stop_agent(2);
    fs::write(cluster.share().join("b"), "three").unwrap();
    let text = says(&cluster, &["share/b"], "away", &["client 2", "away since", "catches up by itself"]);
    assert!(text.contains('Z'), "with the time: {text}");
    let (code, rows, _) = why(&cluster, &["share/b"]);
    assert!(code == Some(1) && !rows.iter().any(|row| row["id"] == 1), "{rows:?}");
    says(&cluster, &["--client", "2"], "away", &["client 2"]);
    // What is gone, was never, is nobody's.
    fs::remove_file(cluster.share().join("d/a")).unwrap();
    says(&cluster, &["share/d/a"], "removed", &["was removed at the source"]);
    says(&cluster, &["share/never"], "unknown", &["is not shared", "check the name"]);
    let (code, rows, _) = why(&cluster, &["share/never"]);
    assert!(code == Some(1) && rows.len() == 1 && rows[0]["has"] == false, "nobody has what there is not: {rows:?}");
    let (code, _, _) = why(&cluster, &["share/never", "--client", "9"]);
    assert_eq!(code, Some(3), "there is no such client");
    stdout(cluster.run(&["clients", "revoke", "1"]));
    says(&cluster, &["share/b", "--client", "1"], "revoked", &["never let in again"]);
}

#[test]
fn what_the_source_cannot_give_is_told_as_such() {
    let mut cluster = Cluster::start(|share| drop(Tree::at(share).file("shut/a", "one").file("b", "two")), &[]);
    cluster.stop_hub();
    without_override(|| cluster.start_hub());
    let cluster = cluster.with_agents(1);
    let shut = cluster.share().join("shut");
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o000)).unwrap();
    let words = ["keep what they have", "let the hub's user read it"];
    says(&cluster, &["share/shut"], "unreadable", &words);
    says(&cluster, &["share/shut/a"], "unreadable", &words);
    says(&cluster, &["share"], "unreadable", &["shut"]);
    let (_, rows, _) = why(&cluster, &["share/b"]);
    assert!(rows.iter().all(|row| row["has"] == true), "the others are as they should be: {rows:?}");
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o755)).unwrap();
    until(PATIENCE, "it to be well again", || why(&cluster, &["share/shut/a"]).0 == Some(0));
}

#[test]
fn what_a_guard_holds_is_told_with_what_lets_it_go() {
    let mut cluster = Cluster::start(|share| drop(Tree::at(share).file("a", "one")), &[]).with_agents(1);
    cluster.stop_hub();
    fs::remove_file(cluster.share().join("a")).unwrap();
    cluster.start_hub();
    says(&cluster, &["share"], "guarded", &["held", "lockstep allow-deletes share", "nothing of it is lost"]);
    says(&cluster, &["share/a"], "guarded", &["allow-deletes share"]);
    stdout(cluster.run(&["allow-deletes", "share"]));
    says(&cluster, &["share/a"], "removed", &[]);
}

#[test]
fn a_client_whose_disk_is_full_is_told_with_what_to_do() {
    let cluster = Cluster::start(|share| drop(Tree::at(share).file("big", "small yet").file("b", "two")), &[]);
    let copy = cluster.copy(1);
    fs::create_dir(&copy).unwrap();
    let agent = Proc::start(&mut on_small_disk(&copy, 512 << 10, &cluster.join(1)));
    agent.wait_for_line("in sync", PATIENCE);
    fs::write(cluster.share().join("big"), vec![7; 2 << 20]).unwrap();
    let words = ["client 1", "cannot apply share/big", "old content is intact", "since 20", "free some space"];
    says(&cluster, &["share/big"], "problem", &words);
    let (code, rows, _) = why(&cluster, &["share/big"]);
    assert!(code == Some(1) && rows.iter().any(|row| row["id"] == 1 && row["since_ms"].is_i64()), "{rows:?}");
    assert!(rows.iter().all(|row| row["has"] == false || row["since_ms"].is_null()), "{rows:?}");
    says(&cluster, &["--client", "1"], "problem", &["free some space"]);
    // What is no matter of that is not.
    until(PATIENCE, "the other to be told as there", || why(&cluster, &["share/b", "--client", "1"]).0 == Some(0));
    fs::write(cluster.share().join("big"), "small again").unwrap();
    until(PATIENCE, "it to be well again", || why(&cluster, &["share/big"]).0 == Some(0));
}

#[test]
fn values_and_rights_are_told_and_nobody_asks_beyond_its_own() {
    let cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &["--enrol", "invite"]);
    stdout(cluster.run(&["put", "color", "red"]));
    let (code, rows, _) = why(&cluster, &["color"]);
    assert!(code == Some(0) && rows[0]["what"] == "color", "{rows:?}");
    assert!(rows[0]["reason"] == "not_kept" && rows[0]["text"].as_str().unwrap().contains("no client keeps color"));
    let link = link_in(&stdout(cluster.run(&["invite", "--share", "", "--clients", "itself"])));
    let values = cluster.path().join("values");
    let mut join = support::lockstep_at(cluster.agent_home(1));
    let agent = Proc::start(join.args(["join", &link, "--id", "1", "--values"]).arg(&values));
    agent.wait_for_line("logged in", PATIENCE);
    says(&cluster, &["share", "--client", "1"], "not_allowed", &["may not have share", "clients rights 1"]);
    until(PATIENCE, "the value to be there", || why(&cluster, &["color", "--client", "1"]).0 == Some(0));
    // As that client: no other, and no share that it may not have.
    let at_agent = |args: &[&str]| {
        let mut command = support::lockstep_at(cluster.agent_home(1));
        command.arg("why").args(args).arg("--data").arg(cluster.agent_home(1).join("agent"));
        command.output().unwrap()
    };
    assert!(at_agent(&["color"]).status.success());
    for args in [&["share"][..], &["share/f"], &["--client", "2"]] {
        assert_eq!(at_agent(args).status.code(), Some(3), "{args:?}");
    }
}

#[test]
fn a_share_given_by_a_relative_path_or_through_a_link_is_known_by_the_path_a_person_has_before_them() {
    let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &[]);
    cluster.stop_hub();
    let real = cluster.path().join("real");
    Tree::at(&real).file("d/a", "one");
    std::os::unix::fs::symlink("real", cluster.path().join("linked")).unwrap();
    let mut command = cluster.hub_command();
    command.args(["--share", "relative=./real", "--share", "through=linked"]).current_dir(cluster.path());
    let hub = Proc::start(&mut command);
    hub.wait_for_line("join ", PATIENCE);
    for (target, share) in [("real/d/a", "relative"), ("linked/d/a", "through")] {
        let target = cluster.path().join(target);
        let (code, rows, _) = why(&cluster, &[target.to_str().unwrap()]);
        assert!(code == Some(0) && rows[0]["what"] == format!("{share}/d/a"), "{target:?}: {rows:?}");
    }
    let mut here = cluster.ask(&["why", "./a", "--json"]);
    let output = here.current_dir(real.join("d")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("\"relative/d/a\""), "{text}");
}
