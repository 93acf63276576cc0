//! Stock Socket.IO clients take part as they are: python-socketio and socket.io-client, over WebSocket and long polling.

mod abuse;
mod conformance;
mod crowd;
mod differential;
mod door;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Cluster, Library, PATIENCE, Proc, Stock, lockstep_at, node, pick, python_with, until, workspace};

const WEBSOCKET: &[&str] = &["websocket"];
const POLLING: &[&str] = &["polling"];
const BOTH: &[&str] = &["polling", "websocket"];

/// Each library over each transport, as stock clients choose them.
const ROUTES: &[(Library, &[&str])] =
    &[(Library::Python, BOTH), (Library::Python, POLLING), (Library::Node, WEBSOCKET), (Library::Node, POLLING)];

/// A hub with HTTP on a port that stays the same when it starts again.
fn hub() -> (Cluster, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let http = format!("127.0.0.1:{port}");
    (Cluster::start(|_| {}, &["--http", &http]), format!("http://{http}"))
}

fn run(cluster: &Cluster, args: &[&str]) -> Vec<u8> {
    let output = cluster.run(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Changes some of `kept/` and `new` by a hub without HTTP, while the hub is down: all who speak HTTP miss it.
#[track_caller]
pub(crate) fn change_unheard(cluster: &Cluster) {
    let mut alone = lockstep_at(cluster.hub_home());
    let mut alone = Proc::start(alone.args(["hub", "--listen", "127.0.0.1:0", "--http", "none"]));
    alone.wait_for_line("address", PATIENCE);
    for value in ["1", "2", "newest"] {
        run(cluster, &["put", "kept/3", value]);
        run(cluster, &["put", "new", value]);
    }
    run(cluster, &["put", "kept/4", "--remove"]);
    alone.terminate();
    alone.wait_exit(PATIENCE);
}

fn active(cluster: &Cluster) -> Vec<u64> {
    let lines = String::from_utf8(run(cluster, &["clients", "list", "--json"])).unwrap();
    lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap()).collect()
}

/// Logs in for the first time, by being asked; the unique ID.
fn enrol(client: &mut Stock, id: u64) -> String {
    client.hear(0, "id?");
    client.emit(json!(["id", id]));
    let unique_id = client.hear(0, "unique_id").as_str().unwrap().to_owned();
    assert_eq!(client.hear(0, "welcome")["id"], id);
    unique_id
}

/// A client that is in, enrolled and at the head.
fn enrolled(library: Library, url: &str, transports: &[&str], id: u64) -> (Stock, String) {
    let client = Stock::start(library, url, transports, Some(json!({ "id": id, "resume": true })));
    let unique_id = client.hear(0, "unique_id").as_str().unwrap().to_owned();
    client.settle(0);
    (client, unique_id)
}

#[test]
fn m3_3_4_a_new_id_gets_a_unique_id_and_every_later_login_is_asked_for_it() {
    let (cluster, url) = hub();
    for (n, (library, transports)) in ROUTES.iter().enumerate() {
        let id = n as u64 + 1;
        let mut first = Stock::start(*library, &url, transports, None);
        let unique_id = enrol(&mut first, id);
        assert!(unique_id.starts_with(&format!("ls-{id}-")), "{unique_id}");
        until(PATIENCE, "it is on the list", || active(&cluster).contains(&id));
        drop(first);
        until(PATIENCE, "it is off the list", || !active(&cluster).contains(&id));

        let mut second = Stock::start(*library, &url, transports, None);
        second.hear(0, "id?");
        second.emit(json!(["id", id]));
        second.hear(0, "unique_id?");
        // Mistyped: told, and asked again.
        let mark = second.mark();
        second.emit(json!(["unique_id", &unique_id[..unique_id.len() - 1]]));
        assert_eq!(second.hear(mark, "refused")["code"], "not_proven");
        second.hear(mark, "unique_id?");
        second.emit(json!(["unique_id", unique_id]));
        assert_eq!(second.hear(0, "welcome")["id"], id);
        drop(second);

        // Another's, well formed: refused, by the last word after which stock clients stay away.
        let other = format!("ls-{id}-00000-00000-00000-00000-00000-00000");
        for wrong in [unique_id.replace("ls-", "ls-9"), other] {
            let refused = Stock::start(*library, &url, transports, Some(json!({ "id": id, "unique_id": wrong })));
            assert_eq!(refused.hear(0, "refused")["code"], "not_proven");
            assert_eq!(refused.heard(0, "welcome"), Vec::<Value>::new());
        }
        // All at once, with auth.
        let auth = json!({ "id": id, "unique_id": unique_id });
        let third = Stock::start(*library, &url, transports, Some(auth));
        assert_eq!(third.hear(0, "welcome")["id"], id);
        assert!(third.heard(0, "id?").is_empty() && third.heard(0, "unique_id?").is_empty());
    }
}

#[test]
fn m3_2_what_is_no_json_integer_is_refused_with_the_reason_and_asked_again_three_times() {
    let (_cluster, url) = hub();
    let mut client = Stock::start(Library::Node, &url, BOTH, None);
    client.hear(0, "id?");
    for (bad, reason) in [(json!("7"), "without quotes"), (json!(7.5), "integer"), (json!(true), "a JSON number")] {
        let mark = client.mark();
        client.emit(json!(["id", bad]));
        let refused = client.hear(mark, "refused");
        assert_eq!(refused["code"], "bad_id");
        assert!(refused["text"].as_str().unwrap().contains(reason), "{refused}");
    }
    assert_eq!(client.hear(0, "disconnect"), "io server disconnect");
    assert_eq!(client.heard(0, "id?").len(), 3);

    let auth = json!({ "id": "7" });
    let mut wrong = Stock::start(Library::Python, &url, WEBSOCKET, Some(auth));
    assert_eq!(wrong.hear(0, "refused")["code"], "bad_id");
    wrong.hear(0, "id?");
    wrong.emit(json!(["id", { "id": 7, "name": "lab" }]));
    wrong.hear(0, "welcome");
}

#[test]
fn m3_4_a_login_that_is_cut_at_any_step_is_asked_again_and_nobody_else_gets_the_id() {
    let (_cluster, url) = hub();
    for (n, (library, transports)) in ROUTES.iter().enumerate() {
        let id = n as u64 + 1;
        // Cut before the answer, and after it.
        let cut = Stock::start(*library, &url, transports, None);
        cut.hear(0, "id?");
        drop(cut);
        let mut first = Stock::start(*library, &url, transports, None);
        let unique_id = enrol(&mut first, id);
        drop(first);
        // Cut while it is asked for its unique ID.
        let mut asked = Stock::start(*library, &url, transports, None);
        asked.hear(0, "id?");
        asked.emit(json!(["id", id]));
        asked.hear(0, "unique_id?");
        drop(asked);
        let mut again = Stock::start(*library, &url, transports, None);
        again.hear(0, "id?");
        again.emit(json!(["id", id]));
        again.hear(0, "unique_id?");
        again.emit(json!(["unique_id", unique_id]));
        again.hear(0, "welcome");
    }
    // Issued, and not acknowledged: the same client may say that it is lost.
    let mut silent = Stock::start(Library::SilentNode, &url, WEBSOCKET, None);
    silent.hear(0, "id?");
    silent.emit(json!(["id", 50]));
    let lost = silent.hear(0, "unique_id");
    drop(silent);
    let mut again = Stock::start(Library::Node, &url, WEBSOCKET, None);
    again.hear(0, "id?");
    again.emit(json!(["id", 50]));
    again.hear(0, "unique_id?");
    again.emit(json!(["lost"]));
    assert_ne!(again.hear(0, "unique_id"), lost);
    again.hear(0, "welcome");
    // One whose handlers call nothing back says it instead.
    let mut says = Stock::start(Library::SilentNode, &url, WEBSOCKET, None);
    says.hear(0, "id?");
    says.emit(json!(["id", 51]));
    let unique_id = says.hear(0, "unique_id");
    says.emit(json!(["unique_id", unique_id]));
    says.hear(0, "welcome");
}

#[test]
fn m3_7_what_one_puts_everybody_gets_whatever_they_speak() {
    let (mut cluster, url) = hub();
    cluster.start_agent(100);
    cluster.settle();
    let mut follow = lockstep_at(cluster.agent_home(100));
    follow.args(["follow", "*", "--json", "--data"]).arg(cluster.agent_home(100).join("agent"));
    let native = Proc::start(&mut follow);
    run(&cluster, &["put", "before", "old"]);
    let mut clients: Vec<Stock> =
        ROUTES.iter().zip(1..).map(|((library, transports), id)| enrolled(*library, &url, transports, id).0).collect();
    for client in &clients {
        client.hear_value(0, "before", &json!("old"));
        assert!(!client.heard(0, "reset").is_empty());
    }
    let payloads = [json!({"k": [1, 2.5, "ä", null]}), json!("text"), json!(7), json!({"$hex": "00ff80"}), json!("")];
    for putter in 0..clients.len() {
        for (n, payload) in payloads.iter().enumerate() {
            let name = format!("from-{putter}/{n}");
            let done = clients[putter].ask(json!(["put", name, payload]));
            assert_eq!(done["ok"], true, "{done}");
            for client in &clients {
                let value = client.hear_value(0, &name, payload);
                assert_eq!((&value["version"], &value["by"]), (&done["version"], &json!(putter + 1)));
            }
            native.wait_for_line(&name, PATIENCE);
            let got = clients[(putter + 1) % ROUTES.len()].ask(json!(["get", name]));
            assert_eq!(got["value"]["payload"], *payload);
        }
        let mark = clients[putter].mark();
        assert_eq!(clients[putter].ask(json!(["remove", format!("from-{putter}/0")]))["ok"], true);
        clients[putter].hear(mark, "gone");
    }
    // And back: from a native client.
    let mut put = lockstep_at(cluster.agent_home(100));
    put.args(["put", "back", "native", "--data"]).arg(cluster.agent_home(100).join("agent"));
    assert!(put.status().unwrap().success());
    for client in &clients {
        client.hear_value(0, "back", &json!("native"));
    }
    // What is wrong is said.
    for (event, code) in [
        (json!(["put", "", 1]), "limit"),
        (json!(["put", "x"]), "protocol"),
        (json!(["put", 7, 7]), "protocol"),
        (json!(["put", "x", "y", "\u{7}"]), "limit"),
        (json!(["nonsense"]), "protocol"),
    ] {
        let failed = clients[0].ask(event);
        assert_eq!((&failed["ok"], &failed["code"]), (&json!(false), &json!(code)), "{failed}");
    }
}

#[test]
fn m3_5_who_is_here_is_told_live_and_who_is_killed_or_silent_leaves() {
    let (cluster, url) = hub();
    let (mut watcher, _) = enrolled(Library::Python, &url, WEBSOCKET, 1);
    let here = watcher.ask(json!(["clients"]));
    assert_eq!(here["clients"][0]["id"], 1);
    let is = |watcher: &Stock, mark: usize, id: u64, active: bool| {
        watcher.wait(&format!("client {id} active: {active}"), mark, |line| {
            line["event"] == "client" && line["args"][0]["id"] == id && line["args"][0]["active"] == active
        });
    };
    for (n, (library, transports)) in ROUTES.iter().enumerate() {
        let id = n as u64 + 10;
        let (mut other, _) = enrolled(*library, &url, transports, id);
        is(&watcher, 0, id, true);
        let mark = watcher.mark();
        other.proc.kill9();
        is(&watcher, mark, id, false);
        assert!(!active(&cluster).contains(&id));
    }
    // Silent: the process stands still, its connection stays open.
    let (mut stopped, _) = enrolled(Library::Node, &url, WEBSOCKET, 20);
    let (mark, start) = (watcher.mark(), Instant::now());
    stopped.proc.pause();
    is(&watcher, mark, 20, false);
    assert!(start.elapsed() < Duration::from_secs(18), "after {:?}", start.elapsed());
    // And comes back by itself once it runs again.
    let mark = watcher.mark();
    stopped.proc.resume();
    is(&watcher, mark, 20, true);
}

#[test]
fn m3_4_a_second_login_takes_over_and_the_first_is_told_and_stays_away() {
    let (cluster, url) = hub();
    for (n, (library, transports)) in ROUTES.iter().enumerate() {
        let id = n as u64 + 1;
        let (first, unique_id) = enrolled(*library, &url, transports, id);
        let auth = json!({ "id": id, "unique_id": unique_id });
        let mut second = Stock::start(*library, &url, transports, Some(auth));
        second.hear(0, "welcome");
        assert_eq!(first.hear(0, "bye")["code"], "taken_over");
        first.hear(0, "disconnect");
        assert_eq!(second.ask(json!(["put", "mine", id]))["ok"], true);
        thread::sleep(Duration::from_secs(1));
        // Had it come back, it would have taken over in turn.
        assert!(second.heard(0, "bye").is_empty() && first.heard(0, "welcome").len() == 1);
        assert!(active(&cluster).contains(&id));
    }
}

#[test]
fn m3_4_who_is_revoked_is_told_and_disconnected_within_a_second() {
    let (cluster, url) = hub();
    for (n, (library, transports)) in ROUTES.iter().enumerate() {
        let id = n as u64 + 1;
        let (client, unique_id) = enrolled(*library, &url, transports, id);
        let start = Instant::now();
        run(&cluster, &["clients", "revoke", &id.to_string()]);
        assert_eq!(client.hear(0, "bye")["code"], "revoked");
        client.hear(0, "disconnect");
        assert!(start.elapsed() < Duration::from_millis(1500), "after {:?}", start.elapsed());
        let again = Stock::start(*library, &url, transports, Some(json!({ "id": id, "unique_id": unique_id })));
        assert_eq!(again.hear(0, "refused")["code"], "not_proven");
    }
}

#[test]
fn m3_7_after_a_cut_exactly_the_missed_newest_come() {
    let (mut cluster, url) = hub();
    for n in 0..20 {
        run(&cluster, &["put", &format!("kept/{n}"), "old"]);
    }
    let clients: Vec<Stock> =
        ROUTES.iter().zip(1..).map(|((library, transports), id)| enrolled(*library, &url, transports, id).0).collect();
    let marks: Vec<usize> = clients.iter().map(Stock::mark).collect();
    cluster.kill_hub();
    clients.iter().zip(&marks).for_each(|(client, mark)| drop(client.hear(*mark, "disconnect")));
    change_unheard(&cluster);
    cluster.start_hub();
    for (client, mark) in clients.iter().zip(marks) {
        client.settle(mark);
        assert!(client.heard(mark, "reset").is_empty());
        let values: BTreeMap<String, String> = client
            .heard(mark, "value")
            .iter()
            .map(|args| (args[0]["name"].to_string(), args[0]["payload"].to_string()))
            .collect();
        let missed = [("\"kept/3\"", "\"newest\""), ("\"new\"", "\"newest\"")];
        assert_eq!(values, BTreeMap::from(missed.map(|(name, value)| (name.to_owned(), value.to_owned()))));
        assert_eq!(client.heard(mark, "value").len(), 2);
        let gone: Vec<Value> = client.heard(mark, "gone");
        assert_eq!((gone.len(), &gone[0][0]["name"]), (1, &json!("kept/4")));
    }
}

#[test]
fn m3_7_a_client_that_does_not_read_is_not_cut_and_ends_with_the_newest() {
    let (_cluster, url) = hub();
    let puts = pick(4000, 20_000);
    let routes = [
        (Library::Python, WEBSOCKET),
        (Library::Python, POLLING),
        (Library::Node, WEBSOCKET),
        (Library::SilentNode, WEBSOCKET),
        (Library::SilentNode, POLLING),
    ];
    for (id, (library, transports)) in (1..).zip(routes) {
        let mut slow = match library {
            Library::SilentNode => {
                let mut silent = Stock::start(library, &url, transports, None);
                silent.hear(0, "id?");
                silent.emit(json!(["id", id]));
                let unique_id = silent.hear(0, "unique_id");
                silent.emit(json!(["unique_id", unique_id]));
                silent
            }
            _ => Stock::start(library, &url, transports, Some(json!({ "id": id }))),
        };
        slow.settle(0);
        let (mut putter, _) = enrolled(Library::Node, &url, WEBSOCKET, 100 + id);
        let mark = slow.mark();
        slow.stand_still();
        let filler = "x".repeat(1000);
        let mut last = 0;
        for n in 0..puts {
            last = putter.ask_later(json!(["put", format!("hot/{}", n % 10), format!("{n} {filler}")]));
        }
        assert_eq!(putter.answer(last)["ok"], true);
        slow.go_on();
        for n in puts - 10..puts {
            slow.hear_value(mark, &format!("hot/{}", n % 10), &json!(format!("{n} {filler}")));
        }
        assert!(slow.heard(mark, "disconnect").is_empty(), "it was cut");
        let heard = slow.heard(mark, "value");
        assert!(heard.len() < puts, "nothing was left out: {} of {puts}", heard.len());
        // Told at the end of a batch, which comes after its values.
        support::until(PATIENCE, "how many were left out", || {
            let ends = [slow.heard(mark, "cursor"), slow.heard(mark, "current")].concat();
            ends.iter().map(|end| end[0]["conflated"].as_u64().unwrap()).sum::<u64>() > 0
        });
        // In order, and none twice.
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        for args in &heard {
            let version = args[0]["version"].as_u64().unwrap();
            let before = newest.insert(args[0]["name"].to_string(), version);
            assert!(before.is_none_or(|before| before < version), "{args}");
        }
        drop(putter);
        slow.proc.terminate();
    }
}

#[test]
fn a_hub_that_stops_is_come_back_to() {
    let (mut cluster, url) = hub();
    let clients: Vec<Stock> =
        ROUTES.iter().zip(1..).map(|((library, transports), id)| enrolled(*library, &url, transports, id).0).collect();
    let marks: Vec<usize> = clients.iter().map(Stock::mark).collect();
    let start = Instant::now();
    cluster.stop_hub();
    assert!(start.elapsed() < Duration::from_secs(5), "stopping took {:?}", start.elapsed());
    cluster.start_hub();
    for (client, mark) in clients.iter().zip(marks) {
        client.hear(mark, "disconnect");
        client.hear(mark, "welcome");
        client.settle(mark);
    }
}

#[test]
fn the_examples_keep_their_unique_id_and_put_and_get() {
    let (cluster, url) = hub();
    let examples = [
        (Command::new(python_with(&["socketio"])), "examples/python/bare.py"),
        (node(), "examples/javascript/bare.js"),
    ];
    for ((mut command, example), id) in examples.into_iter().zip(1..) {
        let (program, args) = (workspace().join(example), [url.clone(), id.to_string()]);
        command.arg(program).args(args).current_dir(cluster.path());
        // The second time it is asked for what it kept.
        for round in ["first", "second"] {
            let mut proc = Proc::start_with_stdin(command.stdin(Stdio::piped()));
            let mut stdin = proc.take_stdin().unwrap();
            until(PATIENCE, "it is in", || active(&cluster).contains(&id));
            writeln!(stdin, "from-{id} {round}").unwrap();
            proc.wait_for_line(&format!("from-{id} = {round}"), PATIENCE);
            proc.wait_for_line("put:", PATIENCE);
            drop(stdin);
            assert!(proc.wait_exit(PATIENCE).success());
            until(PATIENCE, "it is out", || !active(&cluster).contains(&id));
        }
    }
}

#[test]
fn who_is_here_when_the_hub_stops_is_told_when_to_come_back() {
    let (mut cluster, url) = hub();
    let here: Vec<Stock> =
        ROUTES.iter().zip(1..).map(|((library, transports), id)| enrolled(*library, &url, transports, id).0).collect();
    cluster.hub().terminate();
    for client in &here {
        let bye = client.hear(0, "bye");
        assert!(bye["code"] == "stopping" && bye["retry_ms"].as_u64().is_some_and(|ms| ms <= 1000), "{bye}");
    }
}
