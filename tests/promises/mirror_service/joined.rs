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
