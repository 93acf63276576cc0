//! The package `lockstep` for Python: a mapping of the latest values, with threads and with asyncio, against a real hub.

mod driver;
mod package;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Cluster, PATIENCE, Proc, Rng, for_each_seed, lapse, lockstep_at, pick, until};
use wire::unique_id::UniqueId;

use crate::login::stdout;
use crate::web::Web;
use driver::{Driven, ROUTES, Way};

/// A hub with HTTP on a port that stays the same when it starts again.
fn hub() -> (Cluster, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let http = format!("127.0.0.1:{port}");
    (Cluster::start(|_| {}, &["--http", &http]), format!("http://{http}"))
}

/// Options with a key file in the cluster's scratch directory.
fn keyed(cluster: &Cluster, name: &str) -> Value {
    json!({ "key_file": cluster.path().join("keys").join(name) })
}

fn with(mut options: Value, more: Value) -> Value {
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    options
}

/// HTTP as the client whose key file this is.
fn web(cluster: &mut Cluster, key: &str) -> Web {
    let text = fs::read_to_string(cluster.path().join("keys").join(key)).unwrap();
    let key: Value = serde_json::from_str(&text).unwrap();
    Web::of(cluster).basic(&UniqueId::parse(key["unique_id"].as_str().unwrap()).unwrap())
}

fn roster(cluster: &Cluster) -> Vec<(u64, String)> {
    crate::login::roster(cluster)
}

fn is_active(cluster: &Cluster, id: u64) -> bool {
    roster(cluster).contains(&(id, "active".to_owned()))
}

/// What the hub has, as it says by request.
fn values(web: &Web) -> BTreeMap<String, Value> {
    let answer = web.get("/api/values?limit=1000").json();
    let entry = |value: &Value| (value["name"].as_str().unwrap().to_owned(), value["value"].clone());
    answer["values"].as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn m3_3_4_the_unique_id_is_kept_in_a_file_and_proves_the_id_ever_after() {
    let (cluster, url) = hub();
    for (route, id) in ROUTES.into_iter().zip(1..) {
        let options = keyed(&cluster, &format!("{id}.json"));
        let path = cluster.path().join("keys").join(format!("{id}.json"));
        let first = Driven::settled(route, &url, id, options.clone());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("ls-{id}-")), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        until(PATIENCE, "it is on the list", || is_active(&cluster, id));
        first.close();
        until(PATIENCE, "it is off the list", || !is_active(&cluster, id));
        // The same again, by the file alone.
        Driven::settled(route, &url, id, options.clone()).close();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        // Without it, with a mistyped one, and with another's.
        let refused = |options: Value| {
            let refused = Driven::start(route, &url, id, options);
            let failed = refused.hear(0, "failed");
            assert_eq!((&failed["error"], &failed["code"]), (&json!("NotProven"), &json!("not_proven")), "{failed}");
            assert_eq!(refused.hear(0, "end")["error"], "NotProven");
            refused.close();
        };
        refused(keyed(&cluster, "none.json"));
        let secret = text.split("-").nth(2).unwrap();
        for wrong in [text.replace(secret, "00000"), text.replace(&format!("ls-{id}-"), "ls-9999-")] {
            fs::write(cluster.path().join("keys/wrong.json"), wrong).unwrap();
            refused(keyed(&cluster, "wrong.json"));
        }
    }
}

/// The disk is full when the key comes: it is not confirmed, and the next login gets another.
#[test]
fn m3_3_a_unique_id_that_could_not_be_kept_is_not_confirmed_and_comes_anew() {
    let (cluster, url) = hub();
    for (route, id) in ROUTES.into_iter().zip(1..) {
        let options = keyed(&cluster, &format!("{id}.json"));
        let full = Driven::start(route, &url, id, with(options.clone(), json!({ "unsaved": true })));
        let failed = full.hear(0, "failed");
        assert_eq!(failed["error"], "KeyFileError", "{failed}");
        assert!(failed["text"].as_str().unwrap().contains("No space left"), "{failed}");
        full.close();
        assert_eq!(roster(&cluster)[usize::try_from(id).unwrap() - 1], (id, "provisional".to_owned()));
        Driven::settled(route, &url, id, options.clone()).close();
        Driven::settled(route, &url, id, options).close();
    }
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
    // A hub without HTTP meanwhile: so what is put now is missed by all.
    let mut alone = lockstep_at(cluster.hub_home());
    let mut alone = Proc::start(alone.args(["hub", "--listen", "127.0.0.1:0", "--http", "none"]));
    alone.wait_for_line("address", PATIENCE);
    let marks: Vec<usize> = clients.iter().map(Driven::mark).collect();
    let forgetful_mark = forgetful.mark();
    for value in ["1", "2", "newest"] {
        run(&cluster, &["put", "kept/3", value]);
        run(&cluster, &["put", "new", value]);
    }
    run(&cluster, &["put", "kept/4", "--remove"]);
    alone.terminate();
    alone.wait_exit(PATIENCE);
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
    for round in 0..pick(2, 20) {
        clients.iter().for_each(|client| drop(client.hear(0, "current")));
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
        assert_eq!(clients[0].hear(0, "in")["event"], "in");
        way.mend();
        let mut missed = missed();
        missed.iter_mut().filter(|(_, v)| !v.is_null()).for_each(|(_, v)| *v = json!(format!("newest {round}")));
        for ((client, mark), asked) in clients.iter().zip(marks).zip(asked) {
            until(PATIENCE, "what was missed", || told(client, mark) == missed);
            client.hear(mark, "current");
            assert_eq!(came(client, mark), [("gone".to_owned(), 1), ("value".to_owned(), 2)].into());
            assert_eq!(client.answer(asked)["result"]["payload"], json!(format!("newest {round}")));
        }
        putter.call(json!(["put", "kept/4", "old"]));
        clients.iter().for_each(|client| drop(client.hear_value(0, "kept/4", &json!("old"))));
    }
    let hub = values(&web(&mut cluster, "100"));
    for mut client in clients {
        let held: BTreeMap<String, Value> = serde_json::from_value(client.call(json!(["snapshot"]))).unwrap();
        assert_eq!(held, hub);
        client.close();
    }
}

#[test]
fn m3_4_a_second_login_takes_over_and_the_first_is_told_and_stays_away() {
    let (cluster, url) = hub();
    let rounds = (0..pick(2, 20)).flat_map(|_| ROUTES.into_iter().zip(1..));
    for (route, id) in rounds {
        let options = keyed(&cluster, &id.to_string());
        let mut first = Driven::settled(route, &url, id, options.clone());
        let mut second = Driven::settled(route, &url, id, options);
        assert_eq!(first.hear(0, "end")["error"], "TakenOver");
        assert_eq!(first.call_in_vain(json!(["put", "mine", 1]))["error"], "TakenOver");
        assert_eq!(first.call_in_vain(json!(["wait_current"]))["error"], "TakenOver");
        lapse(Duration::from_secs(1), "had the first come back, it would have taken over in turn");
        second.call(json!(["put", "mine", 2]));
        assert!(second.heard(0, "end").is_empty() && is_active(&cluster, id));
        // What it knew last stays readable.
        assert_eq!(first.call(json!(["ended"]))["error"], "TakenOver");
        assert_eq!(first.call(json!(["current"])), false);
        assert!(first.call(json!(["snapshot"])).is_object());
        first.close();
        second.close();
    }
}

#[test]
fn m3_4_who_is_revoked_is_told_within_a_second_and_let_in_no_more() {
    let (cluster, url) = hub();
    for (route, id) in ROUTES.into_iter().zip(1..) {
        let options = keyed(&cluster, &id.to_string());
        let client = Driven::settled(route, &url, id, options.clone());
        let start = Instant::now();
        drop(stdout(cluster.run(&["clients", "revoke", &id.to_string()])));
        assert_eq!(client.hear(0, "end")["error"], "Revoked");
        assert!(start.elapsed() < Duration::from_millis(1500), "after {:?}", start.elapsed());
        client.close();
        let again = Driven::start(route, &url, id, options);
        assert_eq!(again.hear(0, "failed")["error"], "NotProven");
        again.close();
    }
}

#[test]
fn m3_5_comings_and_goings_are_told_and_a_killed_one_leaves() {
    let (cluster, url) = hub();
    for (route, id) in ROUTES.into_iter().zip(1..) {
        let mut watcher = Driven::settled(route, &url, id, keyed(&cluster, &id.to_string()));
        let is = |watcher: &Driven, mark: usize, id: u64, here: bool| {
            watcher.wait(&format!("{id} here: {here}"), mark, |line| {
                line["event"] == "client" && line["peer"]["id"] == id && line["here"] == here
            });
        };
        is(&watcher, 0, id, true);
        let mut other = Driven::settled(route, &url, 50 + id, with(keyed(&cluster, "other"), json!({ "name": "lab" })));
        fs::remove_file(cluster.path().join("keys/other")).unwrap();
        is(&watcher, 0, 50 + id, true);
        let here = watcher.call(json!(["clients"]));
        let named = |peer: &Value| peer["id"] == 50 + id && peer["name"] == "lab" && peer["transport"] == "socketio";
        assert!(here.as_array().unwrap().iter().any(named), "{here}");
        let mark = watcher.mark();
        other.proc.kill9();
        is(&watcher, mark, 50 + id, false);
        watcher.close();
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
        println!("{route:?}: told {heard} of {puts}; the hub left out {}", slow.call(json!(["conflated"])));
        putter.close();
        slow.close();
        thread::yield_now();
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

#[test]
fn over_https_it_trusts_the_hubs_certificate_and_no_other() {
    let mut cluster = Cluster::start(|_| {}, &["--http", "0.0.0.0:0"]);
    let line = cluster.hub().wait_for_line("http     https", PATIENCE);
    let port = line.trim_end().trim_end_matches('/').rsplit(':').next().unwrap();
    let (url, ca, other) =
        (format!("https://127.0.0.1:{port}"), cluster.path().join("ca.pem"), cluster.path().join("other.pem"));
    fs::write(&ca, stdout(cluster.run(&["cert"]))).unwrap();
    fs::write(&other, rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem()).unwrap();
    for (route, id) in ROUTES.into_iter().zip(1..) {
        let options = keyed(&cluster, &id.to_string());
        let mut client = Driven::settled(route, &url, id, with(options.clone(), json!({ "ca": ca })));
        client.call(json!(["put", "x", id]));
        client.hear_value(0, "x", &json!(id));
        client.close();
        for untrusted in [json!({ "ca": other, "timeout": 1 }), json!({ "timeout": 1 })] {
            let refused = Driven::start(route, &url, id, with(options.clone(), untrusted));
            let failed = refused.hear(0, "failed");
            assert_eq!(failed["error"], "TimedOut", "{failed}");
            let told = failed["text"].as_str().unwrap().to_lowercase();
            // python-socketio does not say why where it begins by WebSocket.
            assert!(told.contains("certificate") || route.transports == ["websocket"], "{failed}");
            refused.close();
        }
    }
}
