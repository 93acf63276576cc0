//! The audit log: everybody who came in or was turned away, and every change of what anybody may, is on record; no flood takes it
//! away, and no secret is in it.

use std::fs;

use serde_json::Value;
use support::{Cluster, PATIENCE, until};
use wire::id::ClientId;
use wire::link::JoinLink;
use wire::message::{Code, ToHub};
use wire::unique_id::UniqueId;

use crate::login::{link_in, stdout};
use crate::speaker::{Asked, Speaker, prove};
use crate::text::typist::{Typist, address_of};
use crate::web::Web;

/// The lines of a file of the log, and of its older parts.
fn lines(cluster: &Cluster, file: &str) -> Vec<Value> {
    let mut lines = Vec::new();
    for part in ["", ".1", ".2", ".3"] {
        let text = fs::read_to_string(cluster.hub_data().join(format!("{file}{part}"))).unwrap_or_default();
        lines.extend(text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")));
    }
    lines
}

fn has(lines: &[Value], event: &str, id: Option<u64>, transport: &str) -> bool {
    let is = |line: &&Value| line["event"] == event && line["transport"] == transport && line["id"].as_u64() == id;
    lines.iter().any(|line| is(&line))
}

#[test]
fn every_login_failure_and_change_is_on_record_and_no_secret_is() {
    let args = ["--enrol", "invite", "--http", "127.0.0.1:0", "--text", "127.0.0.1:0"];
    let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &args);
    let (web, text) = (Web::of(&mut cluster), address_of(&mut cluster));
    let link = link_in(&stdout(cluster.run(&["invite", "--uses", "2", "--role", "observer", "--tag", "lab"])));
    let code = JoinLink::parse(&link).unwrap().invite().unwrap().reveal();
    let mut first = Speaker::greeted(&cluster.address());
    let Asked::Issued(unique_id) = first.claim("7", Some(&code)) else { panic!("not issued") };
    first.say(&ToHub::Confirm);
    first.welcome();
    // Taken over, by another transport.
    let typist = Typist::logged_in(&text, 7, &unique_id.reveal());
    assert_eq!(first.refused().code, Code::TakenOver);
    drop(typist);
    assert_eq!(web.basic(&unique_id).get("/api/status").status, 200);
    // Wrong, unknown, no id, no token.
    let wrong = UniqueId::fresh(ClientId::new(7).unwrap()).unwrap();
    let mut liar = Speaker::greeted(&cluster.address());
    assert!(matches!(liar.claim("7", None), Asked::UniqueId));
    liar.say(&prove(&wrong));
    assert_eq!(liar.refused().code, Code::NotProven);
    assert!(matches!(Speaker::greeted(&cluster.address()).claim("seven", None), Asked::Refused(_)));
    assert_eq!(web.bearer("lst_no").get("/api/status").status, 401);
    let mut uninvited = Speaker::greeted(&cluster.address());
    assert!(matches!(uninvited.claim("auto", None), Asked::Refused(_)));
    // What an administrator does.
    stdout(cluster.run(&["clients", "rename", "7", "desk"]));
    stdout(cluster.run(&["clients", "rights", "7", "--put", "lab/*"]));
    stdout(cluster.run(&["clients", "tag", "7", "+x", "-lab"]));
    let reissue = stdout(cluster.run(&["clients", "reissue", "7"]));
    let token = stdout(cluster.run(&["token", "--as", "7", "--name", "probe"]));
    stdout(cluster.run(&["token", "revoke", "probe"]));
    let inventory = cluster.path().join("inventory.csv");
    fs::write(&inventory, "id,tags\n9,printer\n").unwrap();
    stdout(cluster.run(&["clients", "import", inventory.to_str().unwrap()]));
    stdout(cluster.run(&["clients", "revoke", "7"]));
    // On disk at once: also a hub that is killed has it.
    cluster.kill_hub();
    let (done, refused) = (lines(&cluster, "audit.jsonl"), lines(&cluster, "audit-refused.jsonl"));
    for (event, id, transport) in [
        ("invited", None, "local"),
        ("issued", Some(7), "native"),
        ("enrolled", Some(7), "native"),
        ("login", Some(7), "native"),
        ("login", Some(7), "text"),
        ("taken_over", Some(7), "text"),
        ("proved", Some(7), "http"),
        ("changed", Some(7), "local"),
        ("reissued", Some(7), "local"),
        ("token", Some(7), "local"),
        ("token_revoked", None, "local"),
        ("imported", Some(9), "local"),
        ("revoked", Some(7), "local"),
    ] {
        assert!(has(&done, event, id, transport), "{event} {id:?} {transport}: {done:#?}");
    }
    for (event, id, transport, outcome) in [
        ("login", Some(7), "native", "not_proven"),
        ("login", None, "native", "bad_id"),
        ("login", None, "native", "not_invited"),
        ("token", None, "http", "not_proven"),
    ] {
        let is = |line: &&Value| line["outcome"] == outcome && has(&[(*line).clone()], event, id, transport);
        assert!(refused.iter().any(|line| is(&line)), "{event} {id:?} {transport} {outcome}: {refused:#?}");
    }
    assert!(done.iter().all(|line| line["outcome"] == "ok") && refused.iter().all(|line| line["outcome"] != "ok"));
    let came = done.iter().find(|line| line["event"] == "login").unwrap();
    assert_eq!(came["address"], "127.0.0.1", "without a port, which is another each time");
    let invited = done.iter().find(|line| line["event"] == "invited").unwrap();
    assert!(invited["by"] == 0 && invited["detail"].as_str().unwrap().contains("role observer"), "{invited}");
    for line in done.iter().chain(&refused) {
        let at = line["at"].as_str().expect("a time");
        assert!(at.len() == 24 && at.starts_with("20") && at.ends_with('Z'), "{at}");
    }
    // No secret, right or wrong.
    let whole: String = ["audit.jsonl", "audit-refused.jsonl"]
        .map(|file| fs::read_to_string(cluster.hub_data().join(file)).unwrap())
        .concat();
    let reissue = link_in(&reissue);
    let again = JoinLink::parse(&reissue).unwrap().invite().unwrap().reveal();
    for secret in [&unique_id.reveal(), &wrong.reveal(), &code, &link, &again, &reissue, token.trim()] {
        assert!(!whole.contains(secret) && !whole.contains(&secret[..secret.len().min(16)]), "{secret} is in the log");
    }
    assert!(whole.contains("127.0.0.1"), "what is looked for is looked for where there is something");
}

/// `lockstep audit`: what it prints, by what it was asked, with or without a hub, and what is torn or hostile in it.
#[test]
fn the_log_is_shown_to_people_with_its_older_parts_and_without_a_hub() {
    let mut cluster = Cluster::start(|_| {}, &[]);
    let name = "a\u{2028}b \u{202e}";
    drop(Speaker::logged_in(&cluster.address(), 7, None));
    drop(Speaker::logged_in(&cluster.address(), 8, None));
    stdout(cluster.run(&["clients", "rename", "7", name]));
    stdout(cluster.run(&["clients", "revoke", "8"]));
    let json = |cluster: &Cluster, args: &[&str]| -> Vec<Value> {
        let lines = stdout(cluster.run(&[&["audit", "--json"], args].concat()));
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = json(&cluster, &[]);
    assert_eq!(all, lines(&cluster, "audit.jsonl"), "as they stand there, in their order");
    assert!(Speaker::greeted(&cluster.address()).claim("seven", None).is_refused());
    cluster.stop_hub();
    // Older parts, and what a crash tore.
    let file = cluster.hub_data().join("audit.jsonl");
    fs::rename(&file, cluster.hub_data().join("audit.jsonl.2")).unwrap();
    let (whole, torn) = (&all[0], "{\"at\":\"2026-01-01T00:00:00.000Z\",\"ev");
    fs::write(&file, format!("{}\n{torn}", whole.to_string().replace("issued", "left").replace("20", "19"))).unwrap();
    let output = cluster.run(&["audit"]);
    let (people, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && said.contains("1 lines of the log could not be read"), "{said}");
    assert_eq!(
        people.lines().count(),
        1 + all.len() + 1 + 1,
        "a heading, all of before, the refusal, the new one: {people}"
    );
    assert!(people.lines().nth(1).unwrap().starts_with("19"), "by time, the oldest first: {people}");
    assert!(people.contains("bad_id") && people.contains("hub"), "{people}");
    assert!(!people.contains('\u{202e}') && !people.contains('\u{2028}'), "names are escaped: {people:?}");
    let only = |args: &[&str]| json(&cluster, args).len();
    let with = |is: &dyn Fn(&Value) -> bool| json(&cluster, &[]).iter().filter(|line| is(line)).count();
    let eight = with(&|line| line["id"] == 8 || line["by"] == 8);
    assert!(eight > 2 && only(&["--client", "8"]) == eight);
    assert_eq!(only(&["--client", "0"]), 2, "what the hub's own machine did");
    assert_eq!(
        (only(&["--client", "8", "--event", "revoked"]), only(&["--event", "revoked", "--event", "changed"])),
        (1, 2)
    );
    assert_eq!((only(&["--since", "-1d"]), only(&["--since", "2100-01-01T00:00:00Z"])), (all.len() + 1, 0));
    assert_eq!(cluster.run(&["audit", "--event", "logn"]).status.code(), Some(2));
    let nowhere = cluster.path().join("nowhere");
    let output = support::lockstep_at(&nowhere).args(["audit", "--data"]).arg(&nowhere).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(3) && said.contains("nowhere"), "{said}");
}

/// A flood takes a line and a count; what happened before it is where it was.
#[test]
fn a_flood_of_failures_is_counted_and_pushes_nothing_out() {
    let flood = support::pick(600, 20_000);
    let mut cluster = Cluster::start(|_| {}, &["--http", "127.0.0.1:0"]);
    let web = Web::of(&mut cluster);
    drop(Speaker::logged_in(&cluster.address(), 7, None));
    until(PATIENCE, "the login on record", || has(&lines(&cluster, "audit.jsonl"), "login", Some(7), "native"));
    let before = lines(&cluster, "audit.jsonl");
    let liar = web.bearer("lst_no");
    for _ in 0..flood {
        assert_eq!(liar.get("/api/status").status, 401);
    }
    // It ends in order, so what was counted is written.
    cluster.stop_hub();
    assert_eq!(lines(&cluster, "audit.jsonl")[..before.len()], before[..]);
    let refused = lines(&cluster, "audit-refused.jsonl");
    // A first line and a count for each minute of it.
    assert!(refused.len() < 40, "{} lines for {flood} failures", refused.len());
    let counted: u64 = refused.iter().map(|line| line["repeated"].as_u64().unwrap_or(1)).sum();
    assert_eq!(counted, flood, "{refused:#?}");
}
