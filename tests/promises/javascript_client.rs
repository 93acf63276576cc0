//! The npm package `lockstep-client`, installed as it is published, on Node and in Chromium, against a real hub.

mod browser;
mod login;
mod member;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    Cable, Cluster, PATIENCE, Proc, Rng, for_each_seed, lapse, lockstep_at, node, node_with, pick, workspace,
};

use crate::login::stdout;
use crate::web::Web;
pub(crate) use browser::free_port;
pub(crate) use member::{House, Member};

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

/// Bytes as the driver shows them.
fn hex(bytes: &[u8]) -> Value {
    json!({ "$hex": data_encoding::HEXLOWER.encode(bytes) })
}

/// What the hub has, by name: version and payload, as HTTP tells it.
fn values_of(web: &Web) -> BTreeMap<String, (u64, Value)> {
    let page: Value = serde_json::from_slice(&web.get("/api/values?limit=1000").body).unwrap();
    let entry = |told: &Value| {
        let text = told["value"].as_str().unwrap_or_default();
        let payload = match (told["content_type"].as_str().unwrap(), told["encoding"].as_str().unwrap()) {
            // A list shows bytes as a text where they are one.
            ("application/octet-stream", "text") => hex(text.as_bytes()),
            ("application/octet-stream", _) => hex(&data_encoding::BASE64.decode(text.as_bytes()).unwrap()),
            _ => told["value"].clone(),
        };
        // What stands behind the dash is the hub's history.
        let version = told["version"].as_str().unwrap().split('-').next().unwrap();
        let version = version.parse().unwrap_or_else(|error| panic!("{error}: {told}"));
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
                    2 => hex(&rng.bytes(n % 7)),
                    3 => json!(null),
                    _ => json!(n),
                };
                let removes = rng.one_in(3);
                let call = if removes { json!(["remove", name]) } else { json!(["put", name, payload]) };
                asked.push((putter, removes, members[putter].ask_later(call)));
            }
            for (putter, removes, number) in asked {
                match members[putter].answer(number) {
                    // As long as nobody put anything, a name is missing as of version 0.
                    Ok(version) => assert!(version.as_u64().unwrap() > 0 || removes, "a put is version {version}"),
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
                member.settle();
                let start = Instant::now();
                while start.elapsed() < PATIENCE && member.view() != mine {
                    lapse(Duration::from_millis(20), "between two looks");
                }
                assert_eq!(member.view(), mine, "client {}", n + 1);
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
        // And nothing else was sent: one login, from the cursors.
        let sent = member.ask(json!(["sent"])).unwrap();
        assert_eq!((&sent["reset"], &sent["value"], &sent["welcome"]), (&json!(0), &json!(2), &json!(1)), "{sent}");
        assert!(sent["gone"].as_u64().unwrap() <= 1, "{sent}");
    };
    let marks: Vec<usize> = members.iter().map(Member::mark).collect();
    members.iter_mut().for_each(|member| drop(member.ask(json!(["sent"])).unwrap()));
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
    let (mut quick, mut putter) = (house.member(&url, 4), house.member(&url, 3));
    let start = Instant::now();
    let before = (slow.proc.rss_bytes().unwrap(), stuck.proc.rss_bytes().unwrap());
    let filler = "x".repeat(1000);
    let last =
        (0..puts).map(|n| putter.ask_later(json!(["put", format!("hot/{}", n % 5), format!("{n} {filler}")]))).last();
    putter.answer(last.unwrap()).unwrap();
    putter.settle();
    quick.settle();
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
    // The hub itself sent less to whom it waits for.
    let sent = [&mut quick, &mut slow].map(|member| member.ask(json!(["sent"])).unwrap()["value"].as_u64().unwrap());
    println!("the hub sent {} values to the quick and {} to the slow", sent[0], sent[1]);
    assert!(sent[1] < sent[0] / 4, "{sent:?}");
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
