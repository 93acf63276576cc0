//! What is held and what callbacks are told is what the hub has, whatever happens in between.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use support::{Cluster, PATIENCE, Rng, for_each_seed, pick, until};
use wire::unique_id::UniqueId;

use super::driver::{Driven, ROUTES, Way};
use super::{hub, keyed, with};
use crate::login::stdout;
use crate::socketio::change_unheard;
use crate::web::Web;

/// HTTP as the client whose key file this is.
fn web(cluster: &mut Cluster, key: &str) -> Web {
    let text = fs::read_to_string(cluster.path().join("keys").join(key)).unwrap();
    let key: Value = serde_json::from_str(&text).unwrap();
    Web::of(cluster).basic(&UniqueId::parse(key["unique_id"].as_str().unwrap()).unwrap())
}

/// What the hub has, as it says by request.
fn values(web: &Web) -> BTreeMap<String, Value> {
    let answer = web.get("/api/values?limit=1000").json();
    let entry = |value: &Value| (value["name"].as_str().unwrap().to_owned(), value["value"].clone());
    answer["values"].as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn m3_7_the_mapping_is_what_the_hub_has_after_whatever_was_put_and_removed() {
    for_each_seed(&[1], |seed| {
        let (mut cluster, url) = hub();
        let mut rng = Rng::new(seed);
        let mut clients: Vec<Driven> = ROUTES
            .into_iter()
            .zip(1..)
            .map(|(route, id)| Driven::settled(route, &url, id, keyed(&cluster, &id.to_string())))
            .collect();
        let mut asked = Vec::new();
        for n in 0..pick(400, 20_000) {
            let client = rng.below(clients.len());
            let name = format!("n/{}", rng.below(30));
            let call = match rng.below(6) {
                0 => json!(["remove", name]),
                1 => json!(["put", name, { "$hex": format!("{n:08x}ff") }]),
                2 => json!(["put", name, { "k": [n, 0.5, null, "ä"] }]),
                3 => json!(["put", name, "x".repeat(rng.below(3000))]),
                _ => json!(["put", name, n]),
            };
            asked.push((client, clients[client].call_later(call)));
        }
        for (client, number) in asked {
            let answer = clients[client].answer(number);
            assert!(answer["result"].is_u64(), "{answer}");
        }
        let mut last = 0;
        for client in &mut clients {
            last = client.call(json!(["put", "last", "end"])).as_u64().unwrap();
        }
        let web = web(&mut cluster, "1");
        let hub = values(&web);
        assert!(hub.len() > 10, "{hub:?}");
        let hex = |value: &Value| match value["$hex"].as_str() {
            Some(hex) => {
                let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
                json!(data_encoding::BASE64.encode(&bytes))
            }
            None => value.clone(),
        };
        for client in &mut clients {
            until(PATIENCE, "the last", || client.call(json!(["held", "last"]))["version"] == last);
            let held = client.call(json!(["snapshot"]));
            let held: BTreeMap<String, Value> =
                held.as_object().unwrap().iter().map(|(name, value)| (name.clone(), hex(value))).collect();
            assert_eq!(held, hub);
            // And what callbacks were told comes to the same: nothing twice, nothing back, each name's newest last.
            client.wait("the last to be told", 0, |line| line["value"]["version"] == last);
            let (mut told, mut versions) = (BTreeMap::new(), BTreeMap::new());
            for line in client.said() {
                if line["event"] == "gone" {
                    told.remove(line["name"].as_str().unwrap());
                } else if line["event"] == "change" {
                    let name = line["value"]["name"].as_str().unwrap().to_owned();
                    let version = line["value"]["version"].as_u64().unwrap();
                    assert!(versions.insert(name.clone(), version).is_none_or(|before| before < version), "{line}");
                    told.insert(name, hex(&line["value"]["payload"]));
                }
            }
            assert_eq!(told, hub);
        }
        clients.into_iter().for_each(Driven::close);
    });
}

/// What callbacks were told from `mark` on: names with their payload, null where they are gone.
fn told(client: &Driven, mark: usize) -> BTreeMap<String, Value> {
    let said = client.said().into_iter().skip(mark);
    said.filter_map(|line| match line["event"].as_str()? {
        "change" => Some((line["value"]["name"].as_str()?.to_owned(), line["value"]["payload"].clone())),
        "gone" => Some((line["name"].as_str()?.to_owned(), Value::Null)),
        _ => None,
    })
    .collect()
}

/// What came over the network from `mark` on, whether it was news or not.
fn came(client: &Driven, mark: usize) -> BTreeMap<String, usize> {
    let mut came = BTreeMap::new();
    for line in client.heard(mark, "wire") {
        *came.entry(line["what"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    came
}

fn missed() -> BTreeMap<String, Value> {
    let missed = [("kept/3", json!("newest")), ("new", json!("newest")), ("kept/4", Value::Null)];
    missed.map(|(name, value)| (name.to_owned(), value)).into()
}

#[test]
fn m3_7_after_a_kill_of_the_hub_exactly_the_missed_newest_come() {
    let (mut cluster, url) = hub();
    let run = |cluster: &Cluster, args: &[&str]| drop(stdout(cluster.run(args)));
    for n in 0..20 {
        run(&cluster, &["put", &format!("kept/{n}"), "old"]);
    }
    // Also those who follow by patterns, each with a cursor of its own.
    let follows = [json!(["*"]), json!(["*"]), json!(["kept/*", "new"]), json!(["new", "kept/*"])];
    let clients: Vec<Driven> = ROUTES
        .into_iter()
        .zip(1..)
        .zip(follows)
        .map(|((route, id), follow)| {
            let options = with(keyed(&cluster, &id.to_string()), json!({ "follow": follow }));
            let client = Driven::settled(route, &url, id, options);
            assert_eq!(client.hear(0, "in")["values"].as_object().unwrap().len(), 20);
            client.hear(0, "current");
            client
        })
        .collect();
    // One that keeps no cursors: it ends with the same, but not with exactly that.
    let forgetful = with(keyed(&cluster, "9"), json!({ "forgetful": true }));
    let forgetful = Driven::settled(ROUTES[1], &url, 9, forgetful);
    cluster.kill_hub();
    change_unheard(&cluster);
    let marks: Vec<usize> = clients.iter().map(Driven::mark).collect();
    let forgetful_mark = forgetful.mark();
    cluster.start_hub();
    for (client, mark) in clients.into_iter().zip(marks) {
        until(PATIENCE, "what was missed", || told(&client, mark) == missed());
        client.hear(mark, "current");
        let changes = client.heard(mark, "change").len() + client.heard(mark, "gone").len();
        assert_eq!(changes, 3, "none is told twice");
        assert_eq!(came(&client, mark), [("gone".to_owned(), 1), ("value".to_owned(), 2)].into());
        client.close();
    }
    until(PATIENCE, "what was missed", || told(&forgetful, forgetful_mark) == missed());
    let came = came(&forgetful, forgetful_mark);
    assert!(came["reset"] == 1 && came["value"] >= 20, "{came:?}");
}

#[test]
fn m3_7_after_a_cut_exactly_the_missed_newest_come_and_calls_meanwhile_wait() {
    let (mut cluster, url) = hub();
    let way = Way::to(url.trim_start_matches("http://"));
    let mut putter = Driven::settled(ROUTES[0], &url, 100, keyed(&cluster, "100"));
    for n in 0..20 {
        putter.call(json!(["put", format!("kept/{n}"), "old"]));
    }
    let mut clients: Vec<Driven> = ROUTES
        .into_iter()
        .zip(1..)
        .map(|(route, id)| Driven::settled(route, &way.url, id, keyed(&cluster, &id.to_string())))
        .collect();
    clients.iter().for_each(|client| drop(client.hear(0, "current")));
    for round in 0..pick(2, 20) {
        way.cut();
        for client in &mut clients {
            until(PATIENCE, "it to notice", || client.call(json!(["connected"])) == false);
        }
        let marks: Vec<usize> = clients.iter().map(Driven::mark).collect();
        for value in ["1".to_owned(), format!("newest {round}")] {
            putter.call(json!(["put", "kept/3", value]));
            putter.call(json!(["put", "new", value]));
        }
        putter.call(json!(["remove", "kept/4"]));
        // Asked without a connection: done once there is one.
        let asked: Vec<u64> = clients.iter_mut().map(|client| client.call_later(json!(["fetch", "new"]))).collect();
        way.mend();
        let mut missed = missed();
        missed.iter_mut().filter(|(_, v)| !v.is_null()).for_each(|(_, v)| *v = json!(format!("newest {round}")));
        for ((client, mark), asked) in clients.iter().zip(marks).zip(asked) {
            until(PATIENCE, "what was missed", || told(client, mark) == missed);
            client.hear(mark, "current");
            assert_eq!(came(client, mark), [("gone".to_owned(), 1), ("value".to_owned(), 2)].into());
            assert_eq!(client.answer(asked)["result"]["payload"], json!(format!("newest {round}")));
        }
        let marks: Vec<usize> = clients.iter().map(Driven::mark).collect();
        putter.call(json!(["put", "kept/4", "old"]));
        clients.iter().zip(marks).for_each(|(client, mark)| drop(client.hear_value(mark, "kept/4", &json!("old"))));
    }
    let hub = values(&web(&mut cluster, "100"));
    for mut client in clients {
        let held: BTreeMap<String, Value> = serde_json::from_value(client.call(json!(["snapshot"]))).unwrap();
        assert_eq!(held, hub);
        client.close();
    }
}

#[test]
fn m3_7_a_slow_callback_is_told_less_and_ends_with_the_newest() {
    let (cluster, url) = hub();
    let puts = pick(3000, 30_000);
    for (route, id) in ROUTES.into_iter().zip(1..) {
        let options = with(keyed(&cluster, &id.to_string()), json!({ "slow": 0.3 }));
        let mut slow = Driven::settled(route, &url, id, options);
        let mut putter = Driven::settled(ROUTES[1], &url, 100 + id, keyed(&cluster, &format!("{}", 100 + id)));
        let mut last = 0;
        for n in 0..puts {
            last = putter.call_later(json!(["put", format!("hot/{}", n % 5), n]));
        }
        putter.answer(last);
        // While a callback stands still, the mapping goes on, and calls are answered.
        let newest = |n: usize| (format!("hot/{n}"), json!(puts - 5 + n));
        let start = Instant::now();
        until(PATIENCE, "the newest in the mapping", || {
            let held = slow.call(json!(["snapshot"]));
            (0..5).all(|n| held[&newest(n).0] == newest(n).1)
        });
        slow.call(json!(["put", "own", 1]));
        println!("{route:?}: the mapping was there {:?} after the last put", start.elapsed());
        for (name, value) in (0..5).map(newest) {
            slow.hear_value(0, &name, &value);
        }
        let heard = slow.heard(0, "change").len();
        assert!(heard < puts / 10, "{heard} of {puts} were told");
        // As a batch is acknowledged once callbacks are through with it, the hub waited, and sent less.
        let left_out = slow.call(json!(["conflated"])).as_u64().unwrap();
        println!("{route:?}: told {heard} of {puts}; the hub left out {left_out}");
        assert!(left_out > 0);
        putter.close();
        slow.close();
    }
}

#[test]
fn follows_come_and_go_and_what_is_wrong_is_said() {
    let (cluster, url) = hub();
    for (route, id) in ROUTES.into_iter().zip(1..) {
        let options = with(keyed(&cluster, &id.to_string()), json!({ "follow": ["a/*"] }));
        let mut client = Driven::settled(route, &url, id, options);
        for name in ["a/1", "b/1", "c"] {
            client.call(json!(["put", name, "x"]));
        }
        client.hear_value(0, "a/1", &json!("x"));
        assert_eq!(client.call(json!(["snapshot"])), json!({ "a/1": "x" }));
        assert_eq!(client.call(json!(["fetch", "c"]))["payload"], "x");
        assert_eq!(client.call(json!(["fetch", "none"])), Value::Null);
        client.call(json!(["follow", "c"]));
        client.call(json!(["follow", "b/*"]));
        client.call(json!(["wait_current"]));
        assert_eq!(client.call(json!(["snapshot"])), json!({ "a/1": "x", "b/1": "x", "c": "x" }));
        client.call(json!(["unfollow", "b/*"]));
        let version = client.call(json!(["put", "b/1", "y"]));
        assert!(version.is_u64());
        assert_eq!(client.call(json!(["snapshot"])), json!({ "a/1": "x", "c": "x" }));
        for (call, error, code) in [
            (json!(["put", "", 1]), "LimitExceeded", json!("limit")),
            (json!(["put", "x", "y".repeat(300 * 1024)]), "LimitExceeded", json!("limit")),
            (json!(["put", 7, 7]), "Refused", json!("protocol")),
            (json!(["wait", 0.01]), "TimedOut", Value::Null),
        ] {
            let failed = client.call_in_vain(call);
            assert_eq!((&failed["error"], &failed["code"]), (&json!(error), &code), "{failed}");
        }
        // As large as it may be.
        client.call(json!(["put", "x", "y".repeat(256 * 1024)]));
        // What is not there is removed already.
        assert!(client.call(json!(["remove", "none"])).is_u64());
        for name in ["a/1", "b/1", "c", "x"] {
            client.call(json!(["remove", name]));
        }
        client.close();
    }
}
