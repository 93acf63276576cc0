//! Who is there: many clients at once on one port (M3.1), and whoever is gone leaves the list (M3.5).

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Cluster, PATIENCE, Proc, lapse, pick, until};
use wire::message::{Code, ToClient, ToHub};

use crate::speaker::{Heard, Speaker};

/// A peer that says nothing for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(3);

fn active(cluster: &Cluster) -> Vec<u64> {
    let output = cluster.run(&["clients", "list", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(id).collect()
}

fn threads(proc: &Proc) -> usize {
    fs::read_dir(format!("/proc/{}/task", proc.pid().as_raw_nonzero())).unwrap().count()
}

/// Takes batches off the connection until `name` has `value`; pings meanwhile, as a client does.
fn hears(speaker: &mut Speaker, value: &str) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match speaker.listen(Duration::from_secs(4)) {
            Heard::Said(message) => {
                let ToClient::Batch(batch) = *message else { continue };
                let has = |bytes: &[u8]| {
                    wire::codec::decode_stored(bytes).is_ok_and(|stored| stored.content.bytes == value.as_bytes())
                };
                if batch.records.iter().any(|record| record.value.as_deref().is_some_and(has)) {
                    return true;
                }
            }
            Heard::Nothing => speaker.say(&ToHub::Ping { nonce: 1 }),
            Heard::Closed => return false,
        }
    }
    false
}

#[test]
fn m3_1_many_clients_at_once_on_one_port_without_a_thread_each() {
    let mut cluster = Cluster::start(|_| {}, &[]);
    let (count, address) = (pick(150, 1000), cluster.address());
    let (before, rss_before) = (threads(cluster.hub()), cluster.hub().rss_bytes().unwrap());
    // One address enrols some hundreds at once and then a few a second: who is in says so meanwhile.
    let (speakers, left) = (Mutex::new(Vec::<Speaker>::new()), AtomicU64::new(count));
    thread::scope(|scope| {
        for lane in 0..10 {
            let (speakers, left, address) = (&speakers, &left, &address);
            scope.spawn(move || {
                for id in (1..=count).filter(|id| id % 10 == lane) {
                    let speaker = enrolled(address, id);
                    speakers.lock().unwrap().push(speaker);
                    left.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
        let (mut told, start) = (Instant::now(), Instant::now());
        while left.load(Ordering::Relaxed) > 0 && start.elapsed() < Duration::from_secs(count) {
            lapse(Duration::from_millis(50), "between two looks");
            if told.elapsed() > Duration::from_secs(4) {
                told = Instant::now();
                speakers.lock().unwrap().iter_mut().for_each(|speaker| speaker.say(&ToHub::Ping { nonce: 1 }));
            }
        }
    });
    let mut speakers = speakers.into_inner().unwrap();
    for speaker in &mut speakers {
        speaker.say(&ToHub::Follow { fid: 1, board: "data".into(), pattern: "*".into(), cursor: None });
    }
    // All are there, each hears each change, and each is heard.
    assert_eq!(active(&cluster), (1..=count).collect::<Vec<_>>());
    for value in ["one", "two"] {
        assert!(cluster.run(&["put", "x", value]).status.success());
        for speaker in &mut speakers {
            assert!(hears(speaker, value));
        }
    }
    let (first, others) = speakers.split_first_mut().unwrap();
    put_from(first, "from a client");
    for speaker in others {
        assert!(hears(speaker, "from a client"));
    }
    // The runtime may start a few threads for the disk; none is anybody's own.
    let after = threads(cluster.hub());
    assert!(after < before + 40, "{before} threads became {after} with {count} clients");
    let each = (cluster.hub().rss_bytes().unwrap().saturating_sub(rss_before)) / count;
    assert!(each < 256 << 10, "{each} bytes a client");
    // And all are gone as fast.
    drop(speakers);
    until(PATIENCE, "all to leave", || active(&cluster).is_empty());
}

fn put_from(speaker: &mut Speaker, value: &str) {
    let content = wire::message::Content {
        content_type: "text/plain".to_owned(),
        bytes: bytes::Bytes::copy_from_slice(value.as_bytes()),
    };
    speaker.say(&ToHub::Put { req: 7, name: "y".into(), value: Some(content) });
}

/// Enrols, waiting as long as it is told to where there were too many from this address.
fn enrolled(address: &str, id: u64) -> Speaker {
    loop {
        let mut speaker = Speaker::greeted(address);
        match speaker.claim(&id.to_string(), None) {
            crate::speaker::Asked::Issued(_) => {
                speaker.say(&ToHub::Confirm);
                speaker.welcome();
                return speaker;
            }
            crate::speaker::Asked::Refused(refusal) if refusal.code == Code::RateLimited => {
                lapse(Duration::from_millis(refusal.retry_ms.unwrap()), "as long as the hub asks for");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn m3_1_real_agents_at_once_all_hold_the_share() {
    let fill = |share: &std::path::Path| {
        for n in 0..50 {
            fs::write(share.join(format!("file{n}")), vec![b'x'; n * 100]).unwrap();
        }
    };
    let cluster = Cluster::start(fill, &[]).with_agents(pick(8, 40));
    fs::write(cluster.share().join("new"), "new").unwrap();
    cluster.assert_identical();
}

#[test]
fn m3_5_a_killed_client_leaves_the_list_at_once() {
    let mut cluster = Cluster::start(|_| {}, &[]).with_agents(3);
    assert_eq!(active(&cluster), [1, 2, 3]);
    let start = Instant::now();
    cluster.kill_agent(2);
    until(PATIENCE, "the killed one to leave", || active(&cluster) == [1, 3]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // The table says so too, and it comes back as it was.
    let table = cluster.hub_data().join("clients.csv");
    until(Duration::from_secs(2), "the table", || row(&fs::read_to_string(&table).unwrap(), 2).contains("away"));
    cluster.start_agent(2);
    cluster.assert_identical();
    assert_eq!(active(&cluster), [1, 2, 3]);
}

fn row(table: &str, id: u64) -> String {
    table.lines().find(|line| line.starts_with(&format!("{id},"))).unwrap_or_default().to_owned()
}

#[test]
fn m3_5_one_that_stands_still_leaves_the_list_within_15_s_and_comes_back() {
    let mut cluster = Cluster::start(|_| {}, &[]).with_agents(2);
    let silent_since = Instant::now();
    let wall = std::time::SystemTime::now();
    cluster.agent(1).pause();
    // Meanwhile nobody waits for it.
    let (mut other, _) = Speaker::logged_in(&cluster.address(), 9, None);
    for n in 0..20 {
        let start = Instant::now();
        other.put("x", &n.to_string()).unwrap();
        fs::write(cluster.share().join("f"), n.to_string()).unwrap();
        until(PATIENCE, "the change", || {
            fs::read(cluster.copy(2).join("f")).is_ok_and(|f| f == n.to_string().as_bytes())
        });
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    drop(other);
    until(SILENCE_MAX + SLACK, "the silent one to leave", || active(&cluster) == [2]);
    assert!(silent_since.elapsed() < SILENCE_MAX + SLACK);
    // It was last seen when it last said something, which is not when it was missed.
    let shown = cluster.run(&["clients", "show", "1", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let seen_ms = shown["last_seen_ms"].as_u64().unwrap();
    let stopped_ms = u64::try_from(wall.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap();
    assert!(seen_ms < stopped_ms + 3000, "last seen {} ms after it stood still", seen_ms - stopped_ms);
    cluster.agent(1).resume();
    cluster.assert_identical();
    assert_eq!(active(&cluster), [1, 2]);
    assert!(cluster.agent(1).is_running());
    let log = fs::read_to_string(cluster.hub_home().join("log/hub.log")).unwrap();
    assert!(log.contains("no sign of life") && !log.contains("taken over"), "{log}");
}

/// A logged-in connection that says nothing is told why it is cut; one that only pings stays for ever.
#[test]
fn m3_5_whoever_says_anything_stays_and_whoever_says_nothing_is_cut() {
    let cluster = Cluster::start(|_| {}, &[]);
    let (mut silent, _) = Speaker::logged_in(&cluster.address(), 1, None);
    let (mut alive, _) = Speaker::logged_in(&cluster.address(), 2, None);
    let start = Instant::now();
    while start.elapsed() < SILENCE_MAX + SLACK {
        alive.say(&ToHub::Ping { nonce: 5 });
        assert_eq!(alive.hear(), ToClient::Pong { nonce: 5 });
        match silent.listen(Duration::from_secs(1)) {
            Heard::Said(message) => {
                assert!(matches!(*message, ToClient::Bye(refusal) if refusal.code == Code::TimedOut));
                assert!(start.elapsed() > SILENCE_MAX - SLACK, "{:?}", start.elapsed());
                assert!(silent.is_cut(SLACK));
                assert_eq!(active(&cluster), [2]);
                return;
            }
            Heard::Nothing => {}
            Heard::Closed => panic!("cut without a word"),
        }
    }
    panic!("still there after {:?}", start.elapsed());
}

#[test]
fn m3_5_an_agent_notices_a_hub_that_is_gone_and_comes_back_by_itself() {
    let mut cluster = Cluster::start(|_| {}, &[]).with_agents(2);
    for kill in [true, false] {
        if kill {
            cluster.kill_hub();
        } else {
            cluster.stop_hub();
        }
        let log = |n: usize| fs::read_to_string(cluster.agent_home(n).join("log/join.log")).unwrap();
        let marks = [log(1).len(), log(2).len()];
        until(PATIENCE, "the agents to notice", || (1..=2).all(|n| log(n).contains("no hub")));
        fs::write(cluster.share().join("while-away"), if kill { "killed" } else { "stopped" }).unwrap();
        cluster.start_hub();
        cluster.assert_identical();
        let log = |n: usize| fs::read_to_string(cluster.agent_home(n).join("log/join.log")).unwrap();
        assert!((1..=2).all(|n| log(n)[marks[n - 1].min(log(n).len())..].contains("logged in") || log(n).contains("logged in")));
        assert_eq!(active(&cluster), [1, 2]);
    }
}
