//! `lockstep leave`.

use std::fs;

use support::{PATIENCE, Proc, lockstep_at, until};

use super::all_of;
use crate::login::{empty_hub, ended, join_at, roster, stdout};

const TEMP: &str = ".lockstep-tmp-0123456789abcdef";

#[test]
fn a_machine_that_leaves_keeps_its_files_and_nothing_else_and_the_hub_knows_it_no_more() {
    for running in [true, false] {
        let mut cluster = empty_hub(&[]);
        fs::write(cluster.share().join("f"), "content").unwrap();
        let mut cluster = {
            cluster.start_agent(1);
            cluster.start_agent(2);
            cluster.settle();
            cluster
        };
        stdout(cluster.run(&["token", "--name", "of-1", "--as", "1"]));
        if !running {
            cluster.stop_agent(1);
        }
        // As a kill at the wrong moment leaves it.
        if !running {
            fs::write(cluster.copy(1).join(TEMP), "half").unwrap();
        }
        let home = cluster.agent_home(1);
        let told =
            stdout(lockstep_at(&home).args(["leave", "--json", "--data"]).arg(home.join("agent")).output().unwrap());
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&told["id"], &told["hub_told"], &told["stopped"]),
            (&1.into(), &true.into(), &running.into()),
            "{told}"
        );
        assert_eq!(told["swept"], u64::from(!running), "{told}");
        if running {
            assert_eq!(cluster.agent(1).wait_exit(PATIENCE).code(), Some(0));
        }
        assert_eq!(roster(&cluster), [(2, "active".to_owned())]);
        assert!(!stdout(cluster.run(&["token", "list"])).contains("of-1"));
        let kept = all_of(&cluster.copy(1));
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), [(cluster.copy(1).join("f"), b"content".to_vec())]);
        let data: Vec<_> = all_of(&home.join("agent")).into_keys().collect();
        assert_eq!(data, [home.join("agent/lock")], "no key, no memory");
        // There is nothing to leave any more, and it joins like a new machine.
        let (code, said) = ended(lockstep_at(&home).args(["leave", "--data"]).arg(home.join("agent")));
        assert!(code == Some(3) && said.contains("nothing to leave"), "{said}");
        let again = Proc::start(join_at(&home, &cluster.link(), cluster.copy(1), "1").arg("--adopt"));
        again.wait_for_line("in sync", PATIENCE);
    }
}

#[test]
fn where_the_hub_is_not_there_the_machine_leaves_all_the_same_and_says_what_was_not_done() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    cluster.stop_hub();
    let home = cluster.agent_home(1);
    let (code, said) = ended(lockstep_at(&home).args(["leave", "--data"]).arg(home.join("agent")));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the hub was not told") && said.contains("lockstep clients revoke 1"), "{said}");
    assert!(!home.join("agent/key.json").exists());
    assert_eq!(cluster.agent(1).wait_exit(PATIENCE).code(), Some(0));
    cluster.start_hub();
    until(PATIENCE, "the hub to know it still", || roster(&cluster) == [(1, "away".to_owned())]);
}

#[test]
fn a_machine_that_was_revoked_leaves_too() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    stdout(cluster.run(&["clients", "revoke", "1"]));
    cluster.agent(1).wait_exit(PATIENCE);
    let home = cluster.agent_home(1);
    let (code, said) = ended(lockstep_at(&home).args(["leave", "--data"]).arg(home.join("agent")));
    assert_eq!(code, Some(1), "{said}");
    assert!(!home.join("agent/key.json").exists());
    assert_eq!(roster(&cluster), [(1, "revoked".to_owned())], "that it was revoked is not forgotten");
}
