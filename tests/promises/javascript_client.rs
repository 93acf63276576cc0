//! The npm package `lockstep-client`, installed as it is published, on Node and in Chromium, against a real hub.

mod browser;
mod cable;
mod member;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::{
    Cluster, PATIENCE, Proc, Rng, for_each_seed, lapse, lockstep_at, node, node_with, pick, until, workspace,
};
use wire::link::JoinLink;

use crate::login::{link_in, state, stdout};
use crate::web::Web;
use cable::Cable;
use member::{House, Member};

/// A hub with HTTP on a port that stays the same when it starts again, and a place for clients.
fn hub(args: &[&str]) -> (Cluster, String, House) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let http = format!("127.0.0.1:{port}");
    let cluster = Cluster::start(|_| {}, &[&["--http", &http], args].concat());
    let house = House::at(cluster.path());
    (cluster, format!("http://{http}"), house)
}

fn active(cluster: &Cluster) -> Vec<u64> {
    let lines = stdout(cluster.run(&["clients", "list", "--json"]));
    lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap()).collect()
}

fn run(cluster: &Cluster, args: &[&str]) -> String {
    stdout(cluster.run(args))
}

/// What the hub has, by name: version and payload, as HTTP tells it; bytes as the driver shows them.
fn values_of(web: &Web) -> BTreeMap<String, (u64, Value)> {
    let page: Value = serde_json::from_slice(&web.get("/api/values?limit=1000").body).unwrap();
    let entry = |told: &Value| {
        let mut payload = told["value"].clone();
        if told["encoding"] == "base64" {
            let bytes = data_encoding::BASE64.decode(payload.as_str().unwrap().as_bytes()).unwrap();
            payload = json!({ "$hex": data_encoding::HEXLOWER.encode(&bytes) });
        }
        let version = told["version"].as_u64().unwrap_or_else(|| panic!("no version in {told}"));
        (told["name"].as_str().unwrap().to_owned(), (version, payload))
    };
    page["values"].as_array().unwrap_or_else(|| panic!("no values in {page}")).iter().map(entry).collect()
}

#[test]
fn its_own_tests_pass() {
    let package = workspace().join("javascript");
    let tests = fs::read_dir(package.join("test")).unwrap().map(|entry| entry.unwrap().path());
    let tests: Vec<_> = tests.filter(|path| path.to_string_lossy().ends_with(".test.js")).collect();
    assert!(tests.len() >= 4, "{tests:?}");
    let size = pick("small", "soak");
    let output =
        node().arg("--test").args(tests).current_dir(package).env("LOCKSTEP_TEST_SIZE", size).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Types are written by hand: a compiler reads them with the sources, and with a program that uses all of it.
#[test]
fn its_types_are_what_it_has() {
    let mut compiler = node_with("typescript");
    let scratch = support::scratch();
    let dir = scratch.join("javascript");
    fs::create_dir(&dir).unwrap();
    for name in ["src", "test", "package.json", "tsconfig.json"] {
        let copied = Command::new("cp").arg("-r").arg(workspace().join("javascript").join(name)).arg(&dir).status();
        assert!(copied.unwrap().success());
    }
    std::os::unix::fs::symlink(support::node_packages(), dir.join("node_modules")).unwrap();
    compiler.arg("node_modules/typescript/bin/tsc").args(["-p", "."]).current_dir(&dir);
    let output = compiler.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // A type that the sources do not keep is found.
    let types = fs::read_to_string(dir.join("src/index.d.ts")).unwrap();
    fs::write(dir.join("src/index.d.ts"), types.replace("readonly conflated: number;", "readonly conflated: string;"))
        .unwrap();
    assert!(!compiler.output().unwrap().status.success());
}

#[test]
fn m3_3_4_the_first_login_keeps_the_unique_id_and_every_later_one_proves_it() {
    let (cluster, url, house) = hub(&[]);
    for (id, transport) in [(1, "websocket"), (2, "polling")] {
        let options = json!({ "options": { "transports": [transport], "name": "desk" } });
        let mut first = house.start(&url, id, options.clone());
        first.settle();
        assert!(house.key(id).starts_with(&format!("ls-{id}-")));
        assert_eq!(fs::metadata(house.key_file(id)).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(house.key_file(id).parent().unwrap()).unwrap().permissions().mode() & 0o7777, 0o700);
        until(PATIENCE, "it is on the list", || active(&cluster).contains(&id));
        first.end();
        until(PATIENCE, "it is off the list", || !active(&cluster).contains(&id));
        let key = house.key(id);
        let mut second = house.start(&url, id, options.clone());
        second.settle();
        assert_eq!(house.key(id), key);
        assert!(second.heard(0, "trouble").is_empty(), "{:?}", second.said());
        let here = second.ask(json!(["clients"])).unwrap();
        assert_eq!((&here[0]["id"], &here[0]["name"]), (&json!(id), &json!("desk")));
        second.end();
        // Another's: refused, with where it is kept, and not tried again.
        let kept = fs::read_to_string(house.key_file(id)).unwrap();
        fs::write(house.key_file(id), kept.replace(&key, &format!("ls-{id}-00000-00000-00000-00000-00000-00000")))
            .unwrap();
        let mut wrong = house.start(&url, id, options.clone());
        let refused = wrong.ask(json!(["current"])).unwrap_err();
        assert_eq!((&refused["name"], &refused["code"]), (&json!("NotProven"), &json!("not_proven")));
        assert!(refused["text"].as_str().unwrap().contains(house.key_file(id).to_str().unwrap()), "{refused}");
        assert_eq!(wrong.hear(0, "end")["error"], refused);
        assert_eq!(wrong.ask(json!(["put", "x", 1])).unwrap_err(), refused);
        assert!(!active(&cluster).contains(&id));
        wrong.end();
    }
}

#[test]
fn m3_3_a_unique_id_counts_only_once_it_is_kept_and_who_dies_in_between_gets_in_again() {
    let (cluster, url, house) = hub(&[]);
    // Not kept yet, however long that takes: the hub does not take it for confirmed.
    let early = |key: &str, id: u64| {
        let member = house.start(&url, id, json!({ "key": key }));
        member.hear(0, "saving");
        lapse(Duration::from_millis(300), "one that acknowledges too early is given the time to");
        let early = active(&cluster).contains(&id) || state(&cluster, id).unwrap() != "provisional";
        drop(member);
        early
    };
    assert!(!early("hangs", 1));
    assert!(early("lies", 2), "a keeper that is known to be wrong was not found");
    // Killed before it was kept: it is lost, and the hub gives another.
    house.start(&url, 3, json!({ "key": "dies before" })).proc.wait_exit(PATIENCE);
    assert!(!house.key_file(3).exists());
    house.member(&url, 3).end();
    // Killed after it was kept, before the hub heard of that: it is right all the same.
    house.start(&url, 4, json!({ "key": "dies after" })).proc.wait_exit(PATIENCE);
    let kept = house.key(4);
    assert_eq!(state(&cluster, 4).as_deref(), Some("provisional"));
    house.member(&url, 4).end();
    assert_eq!(house.key(4), kept);
    // A place that cannot be written: told before the hub issues anything.
    fs::write(house.dir().join("file"), "").unwrap();
    let nowhere = json!({ "options": { "keyFile": house.dir().join("file/5.json") } });
    let why = house.start(&url, 5, nowhere).ask(json!(["current"])).unwrap_err();
    assert_eq!(why["name"], "KeyError");
    assert_eq!(state(&cluster, 5), None);
}

#[test]
fn without_a_file_said_the_key_is_where_all_of_lockstep_keeps_its_state() {
    let (cluster, url, house) = hub(&[]);
    let script = "const { Client } = await import('lockstep-client'); const c = new Client(process.argv[1], 9); await c.current(); \
                  await c.put('here', 1); await c.close(); process.exitCode = 0;";
    let mut command = node();
    command.args(["--input-type=module", "-e", script, &url]).current_dir(house.dir());
    // As somebody who is not root, whoever runs the tests.
    command.args(["--"]).env("XDG_STATE_HOME", cluster.path()).env("NODE_OPTIONS", "--import=./not_root.mjs");
    fs::write(house.dir().join("not_root.mjs"), "process.geteuid = () => 1000;").unwrap();
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let port = url.rsplit(':').next().unwrap();
    assert!(cluster.path().join(format!("lockstep/client/localhost_{port}_9.json")).is_file());
    assert_eq!(run(&cluster, &["get", "here"]).trim(), "1");
}

#[test]
fn an_invite_lets_it_in_where_the_hub_wants_one() {
    let (cluster, url, house) = hub(&["--enrol", "invite"]);
    let refused = house.start(&url, 1, json!({})).ask(json!(["current"])).unwrap_err();
    assert_eq!(refused["name"], "NotProven", "one answer for the unknown and the known");
    let link = JoinLink::parse(&link_in(&run(&cluster, &["invite"]))).unwrap();
    let invite = link.invite().unwrap().reveal();
    house.start(&url, 1, json!({ "options": { "invite": invite } })).settle();
    let other = json!({ "options": { "invite": "0".repeat(26) } });
    let refused = house.start(&url, 2, other).ask(json!(["current"])).unwrap_err();
    assert!(["NotProven", "NotInvited"].contains(&refused["name"].as_str().unwrap()), "{refused}");
}

#[test]
fn m3_7_its_values_are_the_hubs_whatever_is_put_and_removed() {
    for_each_seed(&[1], |seed| {
        let (mut cluster, url, house) = hub(&[]);
        let mut rng = Rng::new(seed);
        let mut members: Vec<Member> = (1..=3).map(|id| house.member(&url, id)).collect();
        let only = json!({ "options": { "follow": ["n1*"], "transports": ["polling"] } });
        members.push(house.start(&url, 4, only));
        members[3].settle();
        for round in 0..pick(4, 40) {
            let mut asked = Vec::new();
            for n in 0..100 {
                let putter = rng.below(3);
                let name = format!("n{}", rng.below(40));
                let payload = match rng.below(5) {
                    0 => json!({ "k": [round, n, null, 2.5, "ä"] }),
                    1 => json!(format!("text {n}")),
                    2 => json!({ "$hex": data_encoding::HEXLOWER.encode(&rng.bytes(n % 7)) }),
                    3 => json!(null),
                    _ => json!(n),
                };
                let call = if rng.one_in(3) { json!(["remove", name]) } else { json!(["put", name, payload]) };
                asked.push((putter, members[putter].ask_later(call)));
            }
            for (putter, number) in asked {
                match members[putter].answer(number) {
                    Ok(version) => assert!(version.as_u64().unwrap() > 0),
                    Err(refused) => assert_eq!(refused["code"], "not_found", "{refused}"),
                }
            }
            if round % 4 == 3 {
                cluster.kill_hub();
                cluster.start_hub();
            }
            let web = Web::of(&mut cluster).user("1", &house.key(1));
            let expected = values_of(&web);
            for (n, member) in members.iter_mut().enumerate() {
                let mine: BTreeMap<_, _> =
                    expected.clone().into_iter().filter(|(name, _)| n < 3 || name.starts_with("n1")).collect();
                until(PATIENCE, &format!("client {} to hold what the hub has", n + 1), || member.view() == mine);
            }
        }
        // What callbacks were told of each name last is what is held.
        for mut member in members {
            let view = member.view();
            let mut told = BTreeMap::new();
            for line in member.said() {
                match line["event"].as_str() {
                    Some("change") => {
                        let value = &line["value"];
                        let told_now = (value["version"].as_u64().unwrap(), value["payload"].clone());
                        told.insert(value["name"].as_str().unwrap().to_owned(), told_now);
                    }
                    Some("gone") => drop(told.remove(line["name"].as_str().unwrap())),
                    _ => {}
                }
            }
            assert_eq!(told, view);
            member.end();
        }
    });
}

#[test]
fn m3_7_after_a_kill_and_after_a_cut_exactly_the_missed_newest_come() {
    let (mut cluster, url, house) = hub(&[]);
    for n in 0..20 {
        run(&cluster, &["put", &format!("kept/{n}"), "old"]);
    }
    let cable = Cable::to(url.trim_start_matches("http://"));
    let through = format!("http://{}", cable.address());
    let mut members = vec![
        house.member(&url, 1),
        house.start(&url, 2, json!({ "options": { "transports": ["polling"] } })),
        house.start(&through, 3, json!({ "options": { "follow": ["kept/*", "new"] } })),
    ];
    members.iter_mut().for_each(Member::settle);
    let missed = |cluster: &Cluster, value: &str| {
        for value in ["1", "2", value] {
            run(cluster, &["put", "kept/3", value]);
            run(cluster, &["put", "new", value]);
        }
        run(cluster, &["put", "kept/4", "old"]);
        run(cluster, &["put", "kept/4", "--remove"]);
    };
    let came = |member: &mut Member, mark: usize, value: &str| {
        member.settle();
        member.hear(mark, "current");
        let told: Vec<(String, String)> = member
            .heard(mark, "change")
            .iter()
            .map(|line| (line["value"]["name"].to_string(), line["value"]["payload"].to_string()))
            .collect();
        let told: BTreeMap<_, _> = told.iter().cloned().collect::<BTreeMap<_, _>>();
        let newest = format!("\"{value}\"");
        let expected = [("\"kept/3\"".to_owned(), newest.clone()), ("\"new\"".to_owned(), newest)];
        assert_eq!(told, BTreeMap::from(expected));
        assert_eq!(member.heard(mark, "change").len(), 2, "{:?}", member.heard(mark, "change"));
        assert!(member.heard(mark, "gone").iter().all(|line| line["name"] == "kept/4"));
        assert!(!member.view().contains_key("kept/4"));
    };
    let marks: Vec<usize> = members.iter().map(Member::mark).collect();
    cluster.kill_hub();
    for (member, mark) in members.iter().zip(&marks) {
        member.hear(*mark, "trouble");
    }
    // A hub without HTTP meanwhile: so what is put now is missed by all.
    let mut alone = lockstep_at(cluster.hub_home());
    alone.args(["hub", "--listen", "127.0.0.1:0", "--http", "none"]);
    let mut alone = Proc::start(&mut alone);
    alone.wait_for_line("address", PATIENCE);
    missed(&cluster, "newest");
    alone.terminate();
    alone.wait_exit(PATIENCE);
    cluster.start_hub();
    members.iter_mut().zip(&marks).for_each(|(member, mark)| came(member, *mark, "newest"));
    // The hub goes on; only one client's connections are cut, and it is kept out for a while.
    let mark = members[2].mark();
    cable.cut();
    members[2].hear(mark, "trouble");
    missed(&cluster, "newer still");
    cable.mend();
    came(&mut members[2], mark, "newer still");
    // What is asked while the connection is lost is done once there is one again, in its order.
    cable.cut();
    let asked: Vec<u64> = (0..20).map(|n| members[2].ask_later(json!(["put", "kept/asked", n]))).collect();
    members[2].ask(json!(["get", "new", { "timeoutMs": 50 }])).unwrap_err();
    cable.mend();
    let answers: Vec<_> = asked.into_iter().map(|number| members[2].answer(number)).collect();
    // Whether the first was under way when the cable was cut nobody knows.
    let versions: Vec<u64> = answers.iter().flatten().map(|version| version.as_u64().unwrap()).collect();
    assert!(versions.is_sorted(), "{answers:?}");
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(error["name"], "Unanswered");
    }
    members.into_iter().for_each(Member::end);
}

#[test]
fn m3_4_who_is_taken_over_or_revoked_is_told_and_stays_away() {
    let (cluster, url, house) = hub(&[]);
    let first = house.member(&url, 1);
    let mut second = house.member(&url, 1);
    let end = first.hear(0, "end");
    assert_eq!((&end["error"]["name"], &end["error"]["code"]), (&json!("TakenOver"), &json!("taken_over")));
    lapse(Duration::from_secs(2), "the first would have come back by then, as after a lost connection");
    assert!(second.heard(0, "end").is_empty() && second.heard(0, "trouble").is_empty());
    second.ask(json!(["put", "mine", 1])).unwrap();
    run(&cluster, &["clients", "revoke", "1"]);
    assert_eq!(second.hear(0, "end")["error"]["name"], "Revoked");
    assert_eq!(second.ask(json!(["get", "mine"])).unwrap_err()["code"], "revoked");
    assert_eq!(house.start(&url, 1, json!({})).ask(json!(["current"])).unwrap_err()["name"], "NotProven");
    first.end();
    second.end();
}

#[test]
fn m3_7_a_slow_callback_gets_fewer_versions_ends_with_the_newest_and_holds_up_nobody() {
    let (_cluster, url, house) = hub(&[]);
    let puts = pick(3000, 20_000);
    let mut slow = house.start(&url, 1, json!({ "slowMs": 20 }));
    slow.settle();
    // So slow that the hub no longer waits for its word.
    let mut stuck = house.start(&url, 2, json!({ "slowMs": 1500 }));
    stuck.settle();
    let mut putter = house.member(&url, 3);
    let start = std::time::Instant::now();
    let before = (slow.proc.rss_bytes().unwrap(), stuck.proc.rss_bytes().unwrap());
    let filler = "x".repeat(1000);
    let last =
        (0..puts).map(|n| putter.ask_later(json!(["put", format!("hot/{}", n % 5), format!("{n} {filler}")]))).last();
    putter.answer(last.unwrap()).unwrap();
    putter.settle();
    let newest: Vec<(String, Value)> =
        (puts - 5..puts).map(|n| (format!("hot/{}", n % 5), json!(format!("{n} {filler}")))).collect();
    println!("{puts} puts took {:?}", start.elapsed());
    for member in [&slow, &stuck] {
        newest.iter().for_each(|(name, payload)| member.hear_value(0, name, payload));
        let told = member.heard(0, "change");
        assert!(told.len() < puts / 2, "nothing was left out: {} of {puts}", told.len());
        let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
        for line in &told {
            let version = line["value"]["version"].as_u64().unwrap();
            let before = versions.insert(line["value"]["name"].as_str().unwrap(), version);
            assert!(before.is_none_or(|before| before < version), "{line}");
        }
        assert!(member.heard(0, "trouble").is_empty(), "{:?}", member.heard(0, "trouble"));
    }
    // The hub itself left out what a callback that keeps its pace would not have had the time for.
    assert!(slow.ask(json!(["conflated"])).unwrap().as_u64().unwrap() > 0);
    for (member, before) in [(&slow, before.0), (&stuck, before.1)] {
        let grown = member.proc.rss_bytes().unwrap().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} B for {puts} puts");
    }
}

#[test]
fn m3_5_who_comes_and_goes_is_told_live() {
    let (mut cluster, url, house) = hub(&[]);
    let mut watcher = house.member(&url, 1);
    watcher.ask(json!(["watch"])).unwrap();
    let is = |watcher: &Member, mark: usize, id: u64, here: bool| {
        watcher.wait(&format!("client {id} here: {here}"), mark, |line| {
            line["event"] == "client" && line["peer"]["id"] == id && line["here"] == here
        });
    };
    is(&watcher, 0, 1, true);
    let mut other = house.member(&url, 2);
    is(&watcher, 0, 2, true);
    let mark = watcher.mark();
    other.proc.kill9();
    is(&watcher, mark, 2, false);
    // What changed while the hub was away is told as well.
    let mark = watcher.mark();
    let third = house.member(&url, 3);
    is(&watcher, mark, 3, true);
    cluster.kill_hub();
    drop(third);
    cluster.start_hub();
    is(&watcher, mark, 3, false);
    watcher.end();
}

#[test]
fn m3_7_what_is_followed_can_change() {
    let (cluster, url, house) = hub(&[]);
    for name in ["a/1", "a/2", "b/1", "c"] {
        run(&cluster, &["put", name, "old"]);
    }
    let mut member = house.start(&url, 1, json!({ "options": { "follow": ["a/*"] } }));
    member.settle();
    let names = |member: &mut Member| member.view().into_keys().collect::<Vec<_>>();
    assert_eq!(names(&mut member), ["a/1", "a/2"]);
    member.ask(json!(["follow", "c"])).unwrap();
    member.settle();
    assert_eq!(names(&mut member), ["a/1", "a/2", "c"]);
    member.ask(json!(["follow", "*"])).unwrap();
    member.settle();
    assert_eq!(names(&mut member), ["a/1", "a/2", "b/1", "c"]);
    member.ask(json!(["unfollow", "*"])).unwrap();
    assert_eq!(names(&mut member), ["a/1", "a/2", "c"]);
    run(&cluster, &["put", "b/1", "new"]);
    run(&cluster, &["put", "c", "new"]);
    member.hear_value(0, "c", &json!("new"));
    member.settle();
    assert_eq!(names(&mut member), ["a/1", "a/2", "c"]);
    let got = member.ask(json!(["get", "b/1"])).unwrap();
    assert_eq!((&got["payload"], &got["by"]), (&json!("new"), &json!(0)));
    assert_eq!(member.ask(json!(["get", "none"])).unwrap(), Value::Null);
    let refused = member.ask(json!(["follow", "x".repeat(9000)])).unwrap_err();
    assert_eq!(refused["name"], "LimitExceeded");
    let refused = member.ask(json!(["put", "large", "x".repeat(300 << 10)])).unwrap_err();
    assert_eq!((&refused["name"], &refused["code"]), (&json!("LimitExceeded"), &json!("limit")));
    member.end();
}

#[test]
fn over_https_it_trusts_the_hubs_authority_and_no_other() {
    let mut cluster = Cluster::start(|_| {}, &["--http", "0.0.0.0:0", "--enrol", "open"]);
    let house = House::at(cluster.path());
    let line = cluster.hub().wait_for_line("http     https", PATIENCE);
    let port = line.trim_end().trim_end_matches('/').rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}");
    let ca = cluster.path().join("ca.pem");
    fs::write(&ca, run(&cluster, &["cert"])).unwrap();
    let other = cluster.path().join("other.pem");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(&other, made.cert.pem()).unwrap();
    for (id, transport) in [(1, "websocket"), (2, "polling")] {
        let options = |ca: Option<&str>| {
            let mut options = json!({ "transports": [transport] });
            if let Some(ca) = ca {
                options["ca"] = json!(ca);
            }
            json!({ "options": options })
        };
        for wrong in [None, other.to_str()] {
            let mut stranger = house.start(&url, id, options(wrong));
            let late = stranger.ask(json!(["current", { "timeoutMs": 1500 }])).unwrap_err();
            assert_eq!(late["name"], "TimedOut");
            assert!(late["text"].as_str().unwrap().contains("certificate"), "{late}");
            assert!(!house.key_file(id).exists());
        }
        // By its path, and as it is.
        let pem = fs::read_to_string(&ca).unwrap();
        for right in [ca.to_str(), Some(pem.as_str())] {
            let mut member = house.start(&url, id, options(right));
            member.settle();
            member.ask(json!(["put", "safe", transport])).unwrap();
            member.end();
        }
    }
    // The unique ID is not shown on the way.
    let mut command = node();
    let script = "import { Client } from 'lockstep-client'; new Client('http://hub.example:7118', 7);";
    command.args(["--input-type=module", "-e", script]).current_dir(house.dir());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("plain: true"), "{said}");
}
