//! `lockstep join --after`: the same command, on a machine that keeps a hub's share and values.

use support::{Cluster, Tree, until};

use super::*;

#[test]
fn a_joined_machine_runs_its_own_command_after_what_the_hub_changed_and_after_what_it_undid() {
    let mut cluster = Cluster::start(|share| drop(Tree::at(share).file("a", "one").file("sub/b", "two")), &[]);
    let scene = Scene::new();
    let script = scene
        .script("command", &format!("cd {}; cat >> \"told-$LOCKSTEP_SHARE$LOCKSTEP_VALUES\"", scene.dir.display()));
    let mut join = cluster.join(1);
    let values = scene.path("values");
    join.args(["--after", &script]).arg("--values").arg(format!("*={}", values.display()));
    let mut agent = Proc::start(&mut join);
    let told = |name: &str, path: &str| scene.text(name).lines().filter(|line| *line == path).count();
    let share = "told-share";
    until(PATIENCE, "the first copy to be told", || told(share, "a") == 1 && told(share, "sub/b") == 1);
    fs::write(cluster.share().join("a"), "changed").unwrap();
    until(PATIENCE, "a change to be told", || told(share, "a") == 2);
    // It is there when it is told.
    assert_eq!(fs::read_to_string(cluster.copy(1).join("a")).unwrap(), "changed");
    fs::write(cluster.copy(1).join("a"), "meddled with").unwrap();
    until(PATIENCE, "what was undone to be told", || told(share, "a") == 3);
    assert_eq!(fs::read_to_string(cluster.copy(1).join("a")).unwrap(), "changed");
    fs::remove_file(cluster.share().join("sub/b")).unwrap();
    until(PATIENCE, "a removal to be told", || told(share, "sub/b") == 2);
    assert!(cluster.run(&["put", "price", "42"]).status.success());
    until(PATIENCE, "a value to be told", || told("told-*", "price") == 1);
    assert_eq!(fs::read_to_string(values.join("price")).unwrap(), "42");
    agent.terminate();
    assert_eq!(agent.wait_exit(PATIENCE).code(), Some(0));
    cluster.stop_hub();
}

/// What became of it is known at the hub, and on the machine itself; to others not.
#[test]
fn what_a_command_last_did_on_a_machine_is_told_by_the_hub() {
    let mut cluster = Cluster::start(|share| drop(Tree::at(share).file("a", "one")), &[]);
    let scene = Scene::new();
    let verdict = scene.path("verdict");
    let script = scene.script("command", &format!("cat > /dev/null; . {}", verdict.display()));
    fs::write(&verdict, "echo no such service >&2; exit 5").unwrap();
    let mut join = cluster.join(1);
    let mut agent = Proc::start(join.args(["--after", &script]));
    cluster.start_agent(2);
    let ask = |cluster: &Cluster, home: PathBuf, data: &str, args: &[&str]| {
        let output = lockstep_at(&home).args(args).arg("--data").arg(home.join(data)).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}\n{}", cluster.scene());
        String::from_utf8(output.stdout).unwrap()
    };
    let json = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    let at_hub = |cluster: &Cluster, args: &[&str]| ask(cluster, cluster.hub_home(), "hub", args);
    let at = |cluster: &Cluster, n: usize| json(ask(cluster, cluster.agent_home(n), "agent", &["status", "--json"]));
    until(PATIENCE, "the failure to be told", || {
        let status = json(at_hub(&cluster, &["status", "--json"]));
        let after = &status["after"][0];
        after["id"] == 1 && after["what"] == "share" && after["ran"]["code"] == 5
    });
    let people = at_hub(&cluster, &["status"]);
    assert!(people.contains("share: last exited with 5 at 20") && people.contains("no such service"), "{people}");
    let shown = at_hub(&cluster, &["clients", "show", "1"]);
    assert!(shown.contains("after: last exited with 5"), "{shown}");
    cluster.agent(2).wait_for_line("in sync", PATIENCE);
    assert_eq!(at(&cluster, 1)["after"][0]["ran"]["said"], "no such service");
    assert!(at(&cluster, 2)["after"].as_array().unwrap().is_empty(), "it is no matter of another's");
    let row = ask(&cluster, cluster.agent_home(2), "agent", &["clients", "show", "1", "--json"]);
    assert!(json(row)["shares"][0]["after"].is_null());
    // Once it is well the hub has nothing to tell, and the machine itself tells of that run.
    fs::write(&verdict, "exit 0").unwrap();
    fs::write(cluster.share().join("a"), "two").unwrap();
    until(PATIENCE, "the good run", || at(&cluster, 1)["after"][0]["ran"]["code"] == 0);
    assert!(json(at_hub(&cluster, &["status", "--json"]))["after"].as_array().unwrap().is_empty());
    let row = json(at_hub(&cluster, &["clients", "show", "1", "--json"]));
    assert_eq!((&row["shares"][0]["after"]["end"], &row["shares"][0]["after"]["told"]), (&"exited".into(), &1.into()));
    agent.terminate();
    agent.wait_exit(PATIENCE);
    cluster.stop_hub();
}
