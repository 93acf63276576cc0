//! One machine, one login: take-overs, clones, commands beside an agent, and what is in the way at a start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use support::{PATIENCE, Proc, lockstep_at, pick, scratch, until};

use crate::login::{empty_hub, ended, hub_log, join_at, link_in, roster, state, stdout};
use crate::speaker::{Heard, Speaker, unique_id_in};

#[test]
fn a_second_login_with_the_right_proof_takes_over_and_the_first_is_told() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    let unique_id = unique_id_in(&cluster.agent_home(1).join("agent"));
    let (mut second, _) = Speaker::logged_in(&cluster.address(), 1, Some(&unique_id));
    assert_eq!(cluster.agent(1).wait_exit(PATIENCE).code(), Some(5));
    let said = cluster.agent(1).output().join("\n");
    assert!(said.contains("logged in again from 127.0.0.1"), "{said}");
    // It does not come back by itself: the second one keeps its place.
    assert!(matches!(second.listen(Duration::from_secs(1)), Heard::Nothing));
    assert_eq!(state(&cluster, 1).as_deref(), Some("active"));
    assert!(hub_log(&cluster).contains("taken over"));
}

#[test]
fn three_take_overs_in_a_minute_are_told_as_two_machines_with_both_addresses() {
    let cluster = empty_hub(&[]);
    let (first, unique_id) = Speaker::logged_in(&cluster.address(), 7, None);
    let mut sessions = vec![first];
    for _ in 0..3 {
        assert!(!hub_log(&cluster).contains("two machines"));
        sessions.push(Speaker::logged_in(&cluster.address(), 7, Some(&unique_id)).0);
    }
    until(PATIENCE, "the log to tell of two machines", || hub_log(&cluster).contains("id 7 is used by two machines"));
    let log = hub_log(&cluster);
    let line = log.lines().find(|line| line.contains("two machines")).unwrap();
    for session in &sessions[2..] {
        assert!(line.contains(&session.local_address()), "{line}");
    }
}

#[test]
fn a_cloned_data_directory_is_not_used_and_says_what_to_do() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    let (home, clone) = (cluster.agent_home(1), cluster.path().join("clone"));
    let copied = Command::new("cp").arg("-a").arg(&home).arg(&clone).status().unwrap();
    assert!(copied.success());
    let mut join = lockstep_at(&clone);
    let (code, said) = ended(join.arg("join"));
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("client 1") && said.contains("--id auto"), "{said}");
    let (code, said) = ended(&mut join_at(&clone, &cluster.link(), cluster.copy(2), "1"));
    assert_eq!(code, Some(5), "{said}");
    assert!(cluster.agent(1).is_running() && !hub_log(&cluster).contains("taken over"));
    // With an id of its own it is a machine like any other.
    let agent = Proc::start(&mut join_at(&clone, &cluster.link(), cluster.copy(2), "auto"));
    agent.wait_for_line("as client 2", PATIENCE);
    agent.wait_for_line("in sync", PATIENCE);
    assert!(cluster.agent(1).is_running() && !hub_log(&cluster).contains("taken over"));
    // Moved, it is what it was.
    cluster.stop_agent(1);
    let moved = cluster.path().join("moved");
    fs::rename(&home, &moved).unwrap();
    let mut join = lockstep_at(&moved);
    Proc::start(join.arg("join")).wait_for_line("as client 1", PATIENCE);
}

#[test]
fn a_command_beside_a_running_agent_goes_through_it_and_disturbs_nothing() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    stdout(cluster.run(&["put", "x", "one"]));
    let (data, link) = (cluster.agent_home(1).join("agent"), cluster.link());
    let before = fs::read(data.join("key.json")).unwrap();
    let get = |args: &[&str]| lockstep_at(cluster.agent_home(1)).args(["get", "x"]).args(args).output().unwrap();
    for _ in 0..pick(5, 100) {
        assert_eq!(stdout(get(&["--data", data.to_str().unwrap()])), "one");
    }
    // Also when it is told to log in by itself: as the agent's id it would take over, as another it would need a place.
    assert_eq!(stdout(get(&["--hub", &link, "--id", "1", "--data", data.to_str().unwrap()])), "one");
    let other = get(&["--hub", &link, "--id", "2", "--data", data.to_str().unwrap()]);
    assert_eq!(other.status.code(), Some(3), "{}", String::from_utf8_lossy(&other.stdout));
    assert!(String::from_utf8_lossy(&other.stderr).contains("--data"), "{}", String::from_utf8_lossy(&other.stderr));
    assert_eq!(fs::read(data.join("key.json")).unwrap(), before, "the agent's key is the agent's");
    assert_eq!(roster(&cluster), [(1, "active".into())]);
    assert!(cluster.agent(1).is_running());
    let (hub, agent) = (hub_log(&cluster), fs::read_to_string(cluster.agent_home(1).join("log/join.log")).unwrap());
    assert!(!hub.contains("taken over") && hub.matches("logged in").count() == 1, "{hub}");
    assert!(!agent.contains("no hub"), "{agent}");
}

#[test]
fn a_command_with_a_place_of_its_own_logs_in_by_itself() {
    let cluster = empty_hub(&[]);
    let home = cluster.path().join("tool");
    for (args, printed) in [(&["put", "x", "one"][..], ""), (&["get", "x"], "one")] {
        let mut command = lockstep_at(&home);
        command.args(args).args(["--hub", &cluster.link(), "--id", "5", "--data"]).arg(home.join("agent"));
        assert_eq!(stdout(command.output().unwrap()), printed);
    }
    assert_eq!(fs::metadata(home.join("agent/key.json")).unwrap().permissions().mode() & 0o777, 0o600);
    until(PATIENCE, "the command to leave", || state(&cluster, 5).as_deref() == Some("away"));
}

/// They share a login, so they take turns and do not take over from each other.
#[test]
fn commands_at_once_from_one_place_take_turns() {
    let cluster = empty_hub(&[]);
    let (home, link) = (cluster.path().join("tool"), cluster.link());
    let puts: Vec<Proc> = (0..6)
        .map(|n| {
            let mut command = lockstep_at(&home);
            command.args(["put", &format!("name{n}"), "x", "--hub", &link, "--id", "5", "--data"]);
            Proc::start(command.arg(home.join("agent")))
        })
        .collect();
    for mut put in puts {
        let status = put.wait_exit(PATIENCE);
        assert!(status.success(), "{status}: {:?}", put.output());
    }
    assert!(!hub_log(&cluster).contains("taken over"), "{}", hub_log(&cluster));
    let status: serde_json::Value = serde_json::from_str(&stdout(cluster.run(&["status", "--json"]))).unwrap();
    assert_eq!(status["values"], 6);
}

#[test]
fn a_second_agent_or_hub_on_one_data_directory_is_kept_out() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    let (code, said) = ended(&mut cluster.join(1));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("already running") && said.contains("--data"), "{said}");
    let (code, said) = ended(lockstep_at(cluster.hub_home()).args(["hub", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("--data"), "{said}");
    assert!(cluster.agent(1).is_running() && cluster.hub().is_running());
    cluster.settle();
}

#[test]
fn a_taken_port_says_so_and_what_to_do_and_port_0_prints_the_chosen_one() {
    let cluster = empty_hub(&[]);
    let dir = scratch();
    let (code, said) = ended(lockstep_at(&*dir).args(["hub", "--listen", &cluster.address()]));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&cluster.address()) && said.contains("--listen"), "{said}");
    let port: u16 = cluster.address().rsplit(':').next().unwrap().parse().unwrap();
    assert!(port > 0);
    assert!(cluster.link().contains(&format!(".{port}.")), "the link names the port that was chosen");
}

#[test]
fn of_several_shares_one_has_to_be_named_and_the_list_is_told() {
    let dir = scratch();
    for name in ["apples", "pears"] {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("f"), name).unwrap();
    }
    let mut command = lockstep_at(dir.join("hub-home"));
    command
        .args(["hub", "--listen", "127.0.0.1:0", "--share"])
        .arg(dir.join("apples"))
        .arg("--share")
        .arg(dir.join("pears"));
    let hub = Proc::start(&mut command);
    let link = link_in(&hub.wait_for_line("lockstep join", PATIENCE));
    let mut none = lockstep_at(dir.join("a"));
    let (code, said) = ended(none.args(["join", &link, "--id", "1"]).current_dir(&*dir));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("apples, pears"), "{said}");
    let mut wrong = lockstep_at(dir.join("a"));
    let (code, said) = ended(wrong.args(["join", &link, "--id", "1", "--share", "plums"]).current_dir(&*dir));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("apples, pears"), "{said}");
    // Both, one of them under its own name in the working directory.
    let home = dir.join("a");
    let work = dir.join("work");
    fs::create_dir(&work).unwrap();
    let mut both = lockstep_at(&home);
    both.args(["join", &link, "--id", "1", "--share", "apples", "--share"]);
    both.arg(format!("pears={}", dir.join("kept").display())).current_dir(&work);
    let agent = Proc::start(&mut both);
    agent.wait_for_line("apples: in sync", PATIENCE);
    agent.wait_for_line("pears: in sync", PATIENCE);
    assert_eq!(fs::read(work.join("apples/f")).unwrap(), b"apples");
    assert_eq!(fs::read(dir.join("kept/f")).unwrap(), b"pears");
}
