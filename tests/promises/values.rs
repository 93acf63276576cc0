//! Named values: what is put is on disk before it is acknowledged, and whoever follows ends with the newest (M3.7).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::{Cluster, PATIENCE, Proc, Rng, for_each_seed, lapse, lockstep_at, pick, until};
use wire::message::{Ack, ToClient, ToHub, Version};
use wire::unique_id::UniqueId;

use crate::speaker::{Heard, Speaker};

const VALUE_BYTES_MAX: usize = 256 * 1024;

fn empty_hub() -> Cluster {
    Cluster::start(|_| {}, &[])
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn put(cluster: &Cluster, name: &str, value: &str) {
    done(&cluster.run(&["put", name, value]));
}

fn get(cluster: &Cluster, name: &str) -> Vec<u8> {
    let output = cluster.run(&["get", name]);
    done(&output);
    output.stdout
}

fn get_json(cluster: &Cluster, name: &str) -> Value {
    let output = cluster.run(&["get", name, "--json"]);
    done(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a put of `bytes` from standard input; its exit code and what it said.
fn put_bytes(cluster: &Cluster, name: &str, bytes: &[u8]) -> (Option<i32>, String) {
    let mut command = cluster.ask(&["put", name, "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that refuses early does not read the rest.
    stdin.write_all(bytes).ok();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_value_comes_back_as_the_bytes_that_were_put_with_their_type_and_who_put_them() {
    let cluster = empty_hub().with_agents(1);
    put(&cluster, "greeting", "hällo\nworld");
    assert_eq!(get(&cluster, "greeting"), "hällo\nworld".as_bytes());
    let told = get_json(&cluster, "greeting");
    assert_eq!(told["content_type"], "text/plain; charset=utf-8");
    assert_eq!((&told["changed_by"], &told["size_bytes"]), (&0.into(), &12.into()));
    // Any bytes, none, a value that looks like a flag, an own type, and a put through an agent.
    let bytes: Vec<u8> = (0..=255).cycle().take(VALUE_BYTES_MAX).collect();
    assert_eq!(put_bytes(&cluster, "bytes", &bytes), (Some(0), String::new()));
    assert_eq!(get(&cluster, "bytes"), bytes);
    let told = get_json(&cluster, "bytes");
    assert!(
        told["content_type"] == "application/octet-stream" && told["base64"].is_string() && told["value"].is_null()
    );
    put(&cluster, "empty", "");
    assert_eq!(get(&cluster, "empty"), b"");
    put(&cluster, "minus", "-1");
    assert_eq!(get(&cluster, "minus"), b"-1");
    done(&cluster.run(&["put", "json", "{}", "--type", "application/json"]));
    assert_eq!(get_json(&cluster, "json")["content_type"], "application/json");
    let data = cluster.agent_home(1).join("agent");
    done(&lockstep_at(cluster.agent_home(1)).args(["put", "by", "me", "--data"]).arg(&data).output().unwrap());
    assert_eq!(get_json(&cluster, "by")["changed_by"], 1);
    // A newer one takes its place, with a higher version; a removed one is gone.
    put(&cluster, "greeting", "bye");
    assert_eq!(get(&cluster, "greeting"), b"bye");
    done(&cluster.run(&["put", "greeting", "--remove"]));
    let gone = cluster.run(&["get", "greeting"]);
    assert_eq!((gone.status.code(), &*gone.stdout), (Some(1), &b""[..]));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("greeting"));
}

#[test]
fn a_value_or_a_name_that_is_too_long_is_refused_and_changes_nothing() {
    let cluster = empty_hub();
    put(&cluster, "x", "one");
    let (code, said) = put_bytes(&cluster, "x", &vec![b'x'; VALUE_BYTES_MAX + 1]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("262144") && said.contains("file"), "{said}");
    assert_eq!(get(&cluster, "x"), b"one");
    let name = "n".repeat(256);
    put(&cluster, &name, "y");
    for name in ["n".repeat(257), String::new()] {
        let output = cluster.run(&["put", &name, "y"]);
        assert!(matches!(output.status.code(), Some(2 | 3)), "{output:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// What `follow --json` told so far: the newest value by name, and that no name's version ever went back.
fn told(follow: &Proc) -> BTreeMap<String, String> {
    let (mut newest, mut seqs) = (BTreeMap::new(), BTreeMap::new());
    for line in follow.output() {
        let Ok(change) = serde_json::from_str::<Value>(&line) else { continue };
        let name = change["name"].as_str().unwrap().to_owned();
        let version = change["version"].as_str().unwrap();
        let seq: u64 = version.rsplit('.').next().unwrap().parse().unwrap();
        let before = seqs.insert(name.clone(), seq);
        assert!(before.is_none_or(|before| before < seq), "{name} went back from {before:?} to {seq}");
        match change["value"].as_str() {
            Some(value) => newest.insert(name, value.to_owned()),
            None => newest.remove(&name),
        };
    }
    newest
}

#[test]
fn m3_7_whoever_follows_always_ends_with_the_newest_however_slow() {
    let cluster = empty_hub().with_agents(1);
    put(&cluster, "name0", "before");
    let agent_data = cluster.agent_home(1).join("agent");
    let at_hub = Proc::start(&mut cluster.ask(&["follow", "--json"]));
    let at_agent =
        Proc::start(lockstep_at(cluster.agent_home(1)).args(["follow", "*", "--json", "--data"]).arg(&agent_data));
    let mut stopped =
        Proc::start(lockstep_at(cluster.agent_home(1)).args(["follow", "--json", "--data"]).arg(&agent_data));
    let only_one = Proc::start(&mut cluster.ask(&["follow", "name1", "--json"]));
    for follow in [&at_hub, &at_agent, &stopped] {
        follow.wait_for_line("before", PATIENCE);
    }
    // One that stands still, and one that logs in and never reads.
    stopped.pause();
    let (mut deaf, _) = Speaker::logged_in(&cluster.address(), 50, None);
    deaf.say(&ToHub::Follow { fid: 1, board: "data".into(), pattern: "*".into(), cursor: None });
    // Fewer than take 15 s: a command that stands still for longer is cut, as every client is, and does not come back.
    let (writers, puts, filler) = (4, pick(300, 2_000), "x".repeat(2000));
    thread::scope(|scope| {
        for writer in 0..writers {
            let (address, filler) = (cluster.address(), &filler);
            scope.spawn(move || {
                let (mut speaker, _) = Speaker::logged_in(&address, 100 + writer, None);
                for number in 0..puts {
                    let name = format!("name{}", number % 20);
                    speaker.put(&name, &format!("{writer}:{number}:{filler}")).unwrap();
                }
                speaker.put(&format!("last{writer}"), "done").unwrap();
            });
        }
    });
    let mut expected = BTreeMap::new();
    for name in (0..20).map(|n| format!("name{n}")).chain((0..writers).map(|n| format!("last{n}"))) {
        expected.insert(name.clone(), String::from_utf8(get(&cluster, &name)).unwrap());
    }
    for follow in [&at_hub, &at_agent] {
        until(PATIENCE, "the newest of each", || told(follow) == expected);
    }
    stopped.resume();
    until(PATIENCE, "the newest of each, after standing still", || told(&stopped) == expected);
    let missed = 20 * 4 < told_count(&at_hub);
    assert!(
        missed && told_count(&stopped) <= told_count(&at_hub),
        "who stood still is not sent what was replaced since"
    );
    let one: BTreeMap<_, _> =
        expected.iter().filter(|(name, _)| *name == "name1").map(|(n, v)| (n.clone(), v.clone())).collect();
    until(PATIENCE, "the newest of one", || told(&only_one) == one);
    // The deaf one hears now: whatever it gets, the last of each name is the newest.
    let mut heard = BTreeMap::new();
    until(PATIENCE, "the newest of each, read late", || {
        while let Heard::Said(message) = deaf.listen(Duration::from_millis(50)) {
            let ToClient::Batch(batch) = *message else { continue };
            for record in batch.records {
                let stored = wire::codec::decode_stored(&record.value.unwrap()).unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                heard.insert(text(&record.name), text(&stored.content.bytes));
            }
        }
        heard == expected
    });
    // And an end to it: quiet success.
    drop(at_hub);
    stopped.interrupt();
    assert_eq!(stopped.wait_exit(PATIENCE).code(), Some(130));
}

fn told_count(follow: &Proc) -> usize {
    follow.output().len()
}

#[test]
fn m3_7_a_removed_value_is_told_and_a_pattern_hears_only_its_own() {
    let cluster = empty_hub();
    for (name, value) in [("a/1", "x"), ("a/2", "y"), ("b/1", "z")] {
        put(&cluster, name, value);
    }
    let follow = Proc::start(&mut cluster.ask(&["follow", "a/*"]));
    follow.wait_for_line("a/1 x", PATIENCE);
    follow.wait_for_line("a/2 y", PATIENCE);
    put(&cluster, "b/1", "w");
    done(&cluster.run(&["put", "a/1", "--remove"]));
    put(&cluster, "a/3", "\u{1b}[31mred\n");
    follow.wait_for_line("a/1 (removed)", PATIENCE);
    // What others put cannot move the cursor or change colours of a terminal.
    let red = follow.wait_for_line("a/3", PATIENCE);
    assert!(!red.contains('\u{1b}') && red.contains("red"), "{red:?}");
    assert!(!follow.output().join("\n").contains("b/1"));
}

/// What a client was told: of each name the last value that was acknowledged, and the last that was tried.
#[derive(Default)]
struct Told {
    acknowledged: BTreeMap<String, u64>,
    tried: BTreeMap<String, u64>,
    seq: u64,
}

impl Told {
    /// The first name whose value on the hub is older than what was acknowledged, or was never tried.
    fn lost(&self, speaker: &mut Speaker) -> Option<String> {
        self.acknowledged.iter().find_map(|(name, acknowledged)| {
            let tried = self.tried[name];
            let held = held(speaker, name);
            let fine = held.is_some_and(|held| (*acknowledged..=tried).contains(&held));
            (!fine).then(|| format!("{name}: {acknowledged} was acknowledged, {tried} tried, {held:?} is there"))
        })
    }
}

fn held(speaker: &mut Speaker, name: &str) -> Option<u64> {
    speaker.say(&ToHub::Get { req: 1, name: bytes::Bytes::copy_from_slice(name.as_bytes()) });
    let ToClient::Got { value, .. } = speaker.hear() else { panic!("no answer to a get") };
    let (_, stored) = value?;
    std::str::from_utf8(&stored.content.bytes).unwrap().parse().ok()
}

/// The hub is killed again and again while values are put and machines enrol; whatever was acknowledged is there.
#[test]
fn m3_7_an_acknowledged_put_and_a_confirmed_login_survive_a_killed_hub() {
    for_each_seed(&[1], |seed| {
        let mut rng = Rng::new(seed);
        let mut cluster = empty_hub();
        let (_, writer) = Speaker::logged_in(&cluster.address(), 1, None);
        let mut told = Told::default();
        let mut known: Vec<UniqueId> = vec![writer.clone()];
        let mut number = 0;
        for round in 0..pick(6, 200) {
            let (address, delay) = (cluster.address(), Duration::from_millis(rng.number() % 150));
            let ready = std::sync::Barrier::new(2);
            thread::scope(|scope| {
                let putting = scope.spawn(|| {
                    let (mut speaker, _) = Speaker::logged_in(&address, 1, Some(&writer));
                    ready.wait();
                    loop {
                        number += 1;
                        let name = format!("name{}", number % 7);
                        told.tried.insert(name.clone(), number);
                        match speaker.put(&name, &number.to_string()) {
                            Ok(seq) => {
                                assert!(seq > told.seq, "a version went back from {} to {seq}", told.seq);
                                told.seq = seq;
                                told.acknowledged.insert(name, number);
                            }
                            Err(_) => return,
                        }
                    }
                });
                ready.wait();
                known.push(Speaker::logged_in(&address, 2 + round, None).1);
                lapse(delay, "the hub is killed at any moment");
                cluster.kill_hub();
                putting.join().unwrap();
            });
            cluster.start_hub();
            for unique_id in [&known[rng.below(known.len())], known.last().unwrap(), &writer] {
                drop(Speaker::logged_in(&cluster.address(), unique_id.id().get(), Some(unique_id)));
            }
            let (mut speaker, _) = Speaker::logged_in(&cluster.address(), 1, Some(&writer));
            assert_eq!(told.lost(&mut speaker), None);
            if round == 0 {
                // A copy of the disk as it is now stands for a hub that acknowledges what it does not keep.
                cluster.stop_hub();
                fs::copy(cluster.hub_data().join("data.db"), cluster.path().join("older.db")).unwrap();
                cluster.start_hub();
            }
        }
        assert!(told.acknowledged.len() == 7 && number > 100, "{number} puts");
        cluster.stop_hub();
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(cluster.hub_data().join(format!("data.db{suffix}"))).ok();
        }
        fs::copy(cluster.path().join("older.db"), cluster.hub_data().join("data.db")).unwrap();
        cluster.start_hub();
        let (mut speaker, _) = Speaker::logged_in(&cluster.address(), 1, Some(&writer));
        assert!(told.lost(&mut speaker).is_some(), "a hub that lost values was not seen");
    });
}

#[test]
fn a_hub_that_stops_and_starts_keeps_values_and_versions() {
    let mut cluster = empty_hub();
    put(&cluster, "x", "one");
    let before = get_json(&cluster, "x");
    for kill in [false, true] {
        if kill {
            cluster.kill_hub();
        } else {
            cluster.stop_hub();
        }
        cluster.start_hub();
        assert_eq!(get(&cluster, "x"), b"one");
        let after = get_json(&cluster, "x");
        let epoch = |told: &Value| told["version"].as_str().unwrap().split('.').next().unwrap().to_owned();
        assert_eq!(epoch(&after), epoch(&before), "no history was lost");
        assert_eq!(after["changed_at_ms"], before["changed_at_ms"]);
    }
}

#[test]
fn wait_tells_who_is_not_there_and_why() {
    let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &[]).with_agents(2);
    done(&cluster.run(&["wait"]));
    done(&cluster.run(&["wait", "share", "--client", "1"]));
    for (args, word) in [(&["wait", "nothing"][..], "nothing"), (&["wait", "--client", "99"], "99")] {
        let output = cluster.run(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{args:?}: {output:?}");
    }
    cluster.agent(2).pause();
    fs::write(cluster.share().join("g"), "new").unwrap();
    done(&cluster.run(&["wait", "share", "--client", "1"]));
    assert_eq!(fs::read(cluster.copy(1).join("g")).unwrap(), b"new");
    let output = cluster.run(&["wait", "--timeout", "300ms", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}\n{}", cluster.scene());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["done"], &told["in_sync"]), (&false.into(), &1.into()));
    assert_eq!(told["behind"][0]["id"], 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("client 2"), "{output:?}");
    let status: Value = serde_json::from_slice(&cluster.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["shares"][0]["behind"][0]["id"], 2, "{status}");
    // It comes back by itself, and the same question gets the other answer.
    cluster.agent(2).resume();
    cluster.assert_identical();
    // Away is not in sync.
    cluster.kill_agent(2);
    let output = cluster.run(&["wait", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("away since"), "{output:?}");
}

/// A value is where it is followed once that was acknowledged.
#[test]
fn wait_also_waits_for_a_value() {
    let cluster = empty_hub();
    put(&cluster, "x", "one");
    done(&cluster.run(&["wait", "x"]));
    let (mut follower, _) = Speaker::logged_in(&cluster.address(), 5, None);
    follower.say(&ToHub::Follow { fid: 1, board: "data".into(), pattern: "*".into(), cursor: None });
    let ToClient::Following { epoch, run, .. } = follower.hear() else { panic!("it may follow") };
    put(&cluster, "x", "two");
    let told = cluster.run(&["wait", "x", "--timeout", "300ms"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&told.stderr).contains("client 5"), "{told:?}");
    let seq: u64 = get_json(&cluster, "x")["version"].as_str().unwrap().rsplit('.').next().unwrap().parse().unwrap();
    let applied = Ack::of(1, Version { epoch, run, seq }, true);
    follower.say(&ToHub::Ack(Ack { durable_seq: seq, entries: 1, ..applied }));
    done(&cluster.run(&["wait", "x", "--client", "5"]));
}

#[test]
fn the_clients_are_listed_shown_and_exported() {
    let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &[]).with_agents(2);
    cluster.kill_agent(2);
    let text = |args: &[&str]| {
        let output = cluster.run(args);
        done(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    until(PATIENCE, "the killed one to leave", || text(&["clients"]).lines().count() == 2);
    assert_eq!(text(&["clients"]), text(&["clients", "list"]));
    assert_eq!(text(&["clients", "list", "--all"]).lines().count(), 3);
    let rows: Vec<Value> =
        text(&["clients", "list", "--all", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rows[0]["shares"][0]["entries"], 2);
    let shown: Value = serde_json::from_str(&text(&["clients", "show", "1", "--json"])).unwrap();
    assert_eq!(shown["shares"][0]["name"], "share");
    assert!(text(&["clients", "show", "1"]).contains("2 entries"));
    let unknown = cluster.run(&["clients", "show", "99"]);
    assert_eq!(unknown.status.code(), Some(3));
    let exported = text(&["clients", "export", "--format", "csv"]);
    let table = fs::read_to_string(cluster.hub_data().join("clients.csv")).unwrap();
    assert_eq!(exported.lines().next(), table.lines().next());
    assert_eq!(exported.lines().count(), 3);
    assert_eq!(text(&["clients", "export", "--format", "json"]).lines().count(), 2);
}

/// The vitals of each machine are with the hub, and gone with the machine.
#[test]
fn m1_1_m1_2_the_vitals_of_each_machine_are_reported() {
    let cluster = empty_hub().with_agents(1);
    let shown =
        || -> Value { serde_json::from_slice(&cluster.run(&["clients", "show", "1", "--json"]).stdout).unwrap() };
    until(PATIENCE, "its vitals", || shown()["vitals"]["cpu_busy_pct"].is_number());
    let vitals = shown()["vitals"].clone();
    let (used, total) = (vitals["mem_used_bytes"].as_u64().unwrap(), vitals["mem_total_bytes"].as_u64().unwrap());
    let kernel = fs::read_to_string("/proc/meminfo").unwrap();
    let kib: u64 = kernel.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(used > 0 && used < total && total == kib * 1024, "{vitals}");
}
