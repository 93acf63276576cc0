//! The audit log: everybody who came in or was turned away, and every change of what anybody may, is on record; no flood takes it
//! away, and no secret is in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use support::{Cluster, PATIENCE, until};
use wire::answer::Question;
use wire::id::ClientId;
use wire::link::JoinLink;
use wire::message::{Code, ToClient, ToHub};
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
    let taken_over = done.iter().find(|line| line["event"] == "taken_over").unwrap();
    assert_eq!(taken_over["detail"], "from 127.0.0.1", "without a port, so that what repeats itself is counted");
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
        ("token_revoked", Some(7), "local"),
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
    let invited: Vec<&Value> = done.iter().filter(|line| line["event"] == "invited").collect();
    let is = |n: usize, of: &str| invited[n]["by"] == 0 && invited[n]["detail"].as_str().unwrap().contains(of);
    assert!(invited.len() == 2 && is(0, "at the start") && is(1, "role observer"), "{invited:?}");
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

/// Who signs requests: once an hour by the name of its token; who enrols by one, as such. All of it for its owner alone.
#[test]
fn requests_that_are_signed_are_on_record_by_the_name_of_their_token_and_nobody_else_reads_that() {
    let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &["--http", "127.0.0.1:0"]);
    let web = Web::of(&mut cluster);
    let issued = web.post("/api/login", "{\"id\": 9}");
    let unique_id = UniqueId::parse(issued.json()["unique_id"].as_str().unwrap()).unwrap();
    let nine = web.basic(&unique_id);
    assert_eq!(nine.get("/api/status").status, 200);
    let on_record = |event: &str| -> Vec<Value> {
        lines(&cluster, "audit.jsonl").into_iter().filter(|line| line["event"] == event).collect()
    };
    assert!(on_record("proved").is_empty() && on_record("enrolled").len() == 1, "what was issued was confirmed by it");
    assert!(has(&on_record("enrolled"), "enrolled", Some(9), "http"));
    assert_eq!(nine.get("/api/status").status, 200);
    let of_nine = stdout(cluster.run(&["token", "--as", "9", "--name", "probe"]));
    let of_hub = stdout(cluster.run(&["token", "--admin", "--put", "--name", "ops"]));
    for token in [of_nine.trim(), of_hub.trim()] {
        (0..20).for_each(|_| assert_eq!(web.bearer(token).get("/api/values").status, 200));
    }
    assert_eq!(web.bearer(of_hub.trim()).put("/api/values/x", &[], b"1").status, 201);
    assert_eq!(web.bearer(of_hub.trim()).post("/api/admin", "\"status\"").status, 200);
    let by: Vec<(Value, Value)> =
        on_record("proved").iter().map(|line| (line["id"].clone(), line["token"].clone())).collect();
    assert_eq!(by, [(9.into(), Value::Null), (9.into(), "probe".into()), (Value::Null, "ops".into())]);
    // A listing of all that the hub keeps.
    let mut places = vec![cluster.hub_data()];
    let mut seen = 0;
    while let Some(place) = places.pop() {
        let meta = fs::symlink_metadata(&place).unwrap();
        let mode = meta.permissions().mode() & 0o777;
        if meta.is_dir() {
            places.extend(fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
        }
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", place.display());
        seen += usize::from(place.ends_with("spool") || place.ends_with("audit.jsonl"));
    }
    assert_eq!(seen, 2);
}

/// A client that makes and ends tokens takes its share of the log and no more; the hub's own machine is not held up.
#[test]
fn no_client_pushes_out_of_the_log_what_others_did() {
    let cluster = Cluster::start(|_| {}, &[]);
    stdout(cluster.run(&["token", "--name", "adm", "--admin"]));
    let (mut seven, _) = Speaker::logged_in(&cluster.address(), 7, None);
    let (mut eight, _) = Speaker::logged_in(&cluster.address(), 8, None);
    let ask = |speaker: &mut Speaker, question: Question| {
        speaker.say(&ToHub::Ask { req: 1, question });
        match speaker.hear() {
            ToClient::Answer { .. } => Ok(()),
            ToClient::Failed { refusal, .. } => Err(refusal),
            other => panic!("{other:?}"),
        }
    };
    let token = |name: &str| Question::Token {
        name: Some(name.to_owned()),
        id: None,
        may_put: false,
        expires_s: 60,
        administers: false,
    };
    let refused = (0..100).map(|n| n.to_string()).find_map(|name| {
        let made = ask(&mut seven, token(&name));
        made.and_then(|()| ask(&mut seven, Question::RevokeToken { name })).err()
    });
    let refused = refused.expect("a flood is refused");
    assert!(refused.code == Code::RateLimited && refused.retry_ms.is_some(), "{refused:?}");
    let of_seven = lines(&cluster, "audit.jsonl").iter().filter(|line| line["by"] == 7).count();
    assert!((2..60).contains(&of_seven), "{of_seven} lines");
    // Others are not held up, and a name that the hub's own has is free to them.
    assert_eq!(ask(&mut eight, token("adm")), Ok(()));
    assert_eq!(ask(&mut eight, token("adm")).unwrap_err().code, Code::NotAllowed);
    stdout(cluster.run(&["token", "revoke", "8/adm"]));
    stdout(cluster.run(&["token", "revoke", "adm"]));
    assert_eq!(stdout(cluster.run(&["token", "list", "--json"])), "");
    for n in 0..12 {
        stdout(cluster.run(&["token", "--name", &n.to_string()]));
        stdout(cluster.run(&["token", "revoke", &n.to_string()]));
    }
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
