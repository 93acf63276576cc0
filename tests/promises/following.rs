//! `lockstep follow` outlives what it goes over: cut connections, restarted hubs and agents, its own standing still (M3.7).

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Cluster, PATIENCE, Proc, lapse, lockstep_at, pick, until};

use crate::speaker::Speaker;

/// What a follow told after its first `skip` lines: name and value of each change, in order. Every line is a whole object.
fn changes(follow: &Proc, skip: usize) -> Vec<(String, String)> {
    let told = follow.output().into_iter().filter(|line| !line.starts_with("lockstep: ")).skip(skip);
    let change = |line: String| {
        let change: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let text = |key: &str| change[key].as_str().unwrap_or_default().to_owned();
        (text("name"), text("value"))
    };
    told.map(change).collect()
}

/// How often a follow said that it connects again.
fn cuts(follow: &Proc) -> usize {
    follow.output().iter().filter(|line| line.contains("connecting again")).count()
}

fn put(cluster: &Cluster, name: &str, value: &str) {
    let output = cluster.run(&["put", name, value]);
    assert!(output.status.success(), "{output:?}");
}

/// Through the hub's socket, through an agent's, and logged in by itself.
fn followers(cluster: &Cluster) -> Vec<Proc> {
    let agent = cluster.agent_home(1);
    let own = cluster.path().join("own");
    fs::create_dir(&own).unwrap();
    let mut through_agent = lockstep_at(&agent);
    through_agent.args(["follow", "--json", "--data"]).arg(agent.join("agent"));
    let mut by_itself = lockstep_at(&own);
    by_itself.args(["follow", "--json", "--hub", &cluster.address(), "--id", "77", "--data"]).arg(own.join("key"));
    vec![
        Proc::start(&mut cluster.ask(&["follow", "--json"])),
        Proc::start(&mut through_agent),
        Proc::start(&mut by_itself),
    ]
}

#[test]
fn m3_7_a_follow_that_was_cut_goes_on_with_exactly_the_newest_it_missed() {
    let mut cluster = Cluster::start(|_| {}, &[]).with_agents(1);
    let names: Vec<String> = (0..20).map(|n| format!("name{n:02}")).collect();
    for name in &names {
        put(&cluster, name, "first");
    }
    let mut follows = followers(&cluster);
    for follow in &follows {
        until(PATIENCE, "all there is", || changes(follow, 0).len() == names.len());
    }
    // Cut while they stand still, so that what happens meanwhile is missed by all of them.
    follows.iter_mut().for_each(Proc::pause);
    cluster.kill_hub();
    cluster.start_hub();
    for n in 0..10 {
        put(&cluster, "name03", &format!("change {n}"));
    }
    put(&cluster, "fresh", "new");
    assert!(cluster.run(&["put", "name07", "--remove"]).status.success());
    follows.iter_mut().for_each(Proc::resume);
    let mut missed: Vec<(String, String)> =
        [("name03", "change 9"), ("fresh", "new"), ("name07", "")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    missed.sort();
    let told = |follow: &Proc| {
        let mut told = changes(follow, names.len());
        told.sort();
        told
    };
    for follow in &follows {
        until(PATIENCE, "what was missed", || told(follow).len() >= missed.len());
    }
    // And live again; whatever had been told twice would be there by now.
    put(&cluster, "last", "done");
    missed.push(("last".to_owned(), "done".to_owned()));
    missed.sort();
    for follow in &mut follows {
        until(PATIENCE, "a change after it", || told(follow).iter().any(|(name, _)| name == "last"));
        assert_eq!(told(follow), missed);
        assert_eq!(cuts(follow), 1, "{:?}", follow.output());
        follow.interrupt();
        assert_eq!(follow.wait_exit(PATIENCE).code(), Some(130));
    }
}

#[test]
fn m3_7_a_follow_waits_for_a_hub_that_stopped_and_ends_when_it_is_refused() {
    let mut cluster = Cluster::start(|_| {}, &[]).with_agents(1);
    put(&cluster, "x", "one");
    let mut follows = followers(&cluster);
    for follow in &follows {
        follow.wait_for_line("one", PATIENCE);
    }
    cluster.stop_hub();
    for follow in &follows {
        follow.wait_for_line("connecting again", PATIENCE);
    }
    cluster.start_hub();
    put(&cluster, "x", "two");
    for follow in &follows {
        follow.wait_for_line("two", PATIENCE);
    }
    assert!(cluster.run(&["clients", "revoke", "77"]).status.success());
    let mut by_itself = follows.pop().unwrap();
    assert_eq!(by_itself.wait_exit(PATIENCE).code(), Some(5));
    assert!(by_itself.output().iter().any(|line| line.contains("revoked")), "{:?}", by_itself.output());
}

/// What a client that logs in by itself hears is no sign of life of its own: it has to give one all the same.
#[test]
fn m3_5_a_follow_that_hears_something_all_the_time_is_not_cut() {
    let cluster = Cluster::start(|_| {}, &[]).with_agents(1);
    put(&cluster, "x", "first");
    let follows = followers(&cluster);
    for follow in &follows {
        follow.wait_for_line("first", PATIENCE);
    }
    let (mut speaker, _) = Speaker::logged_in(&cluster.address(), 9, None);
    let start = Instant::now();
    // Longer than the silence after which a client is cut.
    while start.elapsed() < Duration::from_secs(pick(18, 60)) {
        speaker.put("x", &format!("{:?}", start.elapsed())).unwrap();
        lapse(Duration::from_millis(100), "the load's pace: more often than signs of life are given");
    }
    speaker.put("x", "last").unwrap();
    for follow in &follows {
        follow.wait_for_line("last", PATIENCE);
        assert_eq!(cuts(follow), 0, "{:?}", follow.output());
    }
}

/// One that stands still for longer than a client may, while more is put than the kernel holds for it.
#[test]
fn m3_7_a_follow_that_stood_still_for_long_ends_with_the_newest() {
    let seconds = pick(0, 40);
    if seconds == 0 {
        // Cut in another way by the tests above.
        return;
    }
    let cluster = Cluster::start(|_| {}, &[]).with_agents(1);
    put(&cluster, "name0", "first");
    let mut follows = followers(&cluster);
    for follow in &mut follows {
        follow.wait_for_line("first", PATIENCE);
        follow.pause();
    }
    let (mut speaker, _) = Speaker::logged_in(&cluster.address(), 9, None);
    let (start, filler, mut newest) = (Instant::now(), "x".repeat(20_000), BTreeMap::new());
    for number in 0.. {
        let (name, value) = (format!("name{}", number % 20), format!("{number} {filler}"));
        speaker.put(&name, &value).unwrap();
        newest.insert(name, value);
        if start.elapsed() > Duration::from_secs(seconds) {
            break;
        }
    }
    for follow in &mut follows {
        follow.resume();
        until(PATIENCE, "the newest of each", || changes(follow, 0).into_iter().collect::<BTreeMap<_, _>>() == newest);
    }
    assert!(follows[1..].iter().all(|follow| cuts(follow) == 1), "those over the network had been cut");
}
