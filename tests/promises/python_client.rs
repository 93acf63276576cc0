//! The package `lockstep` for Python: a mapping of the latest values, with threads and with asyncio, against a real hub.

mod driver;
mod latest;
mod package;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Cluster, PATIENCE, lapse, pick, until};

use crate::login::stdout;
use driver::{Driven, ROUTES};

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

fn roster(cluster: &Cluster) -> Vec<(u64, String)> {
    crate::login::roster(cluster)
}

fn is_active(cluster: &Cluster, id: u64) -> bool {
    roster(cluster).contains(&(id, "active".to_owned()))
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
fn m3_3_where_it_takes_an_invite_the_printed_line_lets_in_and_a_reissue_gives_a_new_unique_id() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = Cluster::start(|_| {}, &["--http", &format!("127.0.0.1:{port}"), "--enrol", "invite"]);
    let url = format!("http://127.0.0.1:{port}");
    for (route, id) in ROUTES.into_iter().zip(1..) {
        let options = keyed(&cluster, &id.to_string());
        let stranger = Driven::start(route, &url, id, options.clone());
        assert_eq!(stranger.hear(0, "failed")["error"], "NotProven");
        stranger.close();
        let invite = json!({ "invite": stdout(cluster.run(&["invite"])) });
        Driven::settled(route, &url, id, with(options.clone(), invite.clone())).close();
        // From then on without it, and with it, which is spent.
        Driven::settled(route, &url, id, options.clone()).close();
        Driven::settled(route, &url, id, with(options.clone(), invite)).close();
        // The key is lost.
        let key = cluster.path().join("keys").join(id.to_string());
        let before = fs::read_to_string(&key).unwrap();
        fs::remove_file(&key).unwrap();
        let reissued = json!({ "invite": stdout(cluster.run(&["clients", "reissue", &id.to_string()])) });
        Driven::settled(route, &url, id, with(options.clone(), reissued)).close();
        Driven::settled(route, &url, id, options).close();
        assert_ne!(fs::read_to_string(&key).unwrap(), before);
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
fn over_https_it_trusts_the_hubs_certificate_and_no_other() {
    let mut cluster = Cluster::start(|_| {}, &["--http", "0.0.0.0:0", "--enrol", "open"]);
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
