//! Who it is: keys that are kept, invites, and which hub is trusted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use support::{Cluster, PATIENCE, lapse, node, until};
use wire::link::JoinLink;

use super::member::House;
use super::{active, hub, run};
use crate::login::{link_in, state};

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
    // As it is printed, and the code alone.
    let line = run(&cluster, &["invite", "--uses", "2"]);
    let code = JoinLink::parse(&link_in(&line)).unwrap().invite().unwrap().reveal();
    for (id, invite) in [(1, line), (3, code)] {
        house.start(&url, id, json!({ "options": { "invite": invite } })).settle();
    }
    // Lost with its file: reissued, it gets another.
    let lost = fs::read_to_string(house.key_file(1)).unwrap();
    fs::remove_file(house.key_file(1)).unwrap();
    let refused = house.start(&url, 1, json!({})).ask(json!(["current"])).unwrap_err();
    assert_eq!(refused["name"], "NotProven");
    let line = run(&cluster, &["clients", "reissue", "1"]);
    house.start(&url, 1, json!({ "options": { "invite": line } })).settle();
    assert_ne!(fs::read_to_string(house.key_file(1)).unwrap(), lost);
    let other = json!({ "options": { "invite": "0".repeat(26) } });
    let refused = house.start(&url, 2, other).ask(json!(["current"])).unwrap_err();
    assert!(["NotProven", "NotInvited"].contains(&refused["name"].as_str().unwrap()), "{refused}");
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
