//! Administering over HTTP: what a token that says so does from anywhere is what the hub's own machine does through its socket, and
//! nobody else does any of it.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Cluster, PATIENCE, Proc, Scratch, lockstep_at, scratch, until};
use wire::bearer::Bearer;
use wire::link::JoinLink;
use wire::unique_id::UniqueId;

use crate::http::hub;
use crate::login::{link_in, stdout};
use crate::speaker::{Asked, Speaker};
use crate::web::Web;

/// A machine that is no client of any hub, and has a token.
struct Elsewhere {
    home: Scratch,
    hub: String,
}

impl Elsewhere {
    fn new(hub: &str, credentials: &str) -> Elsewhere {
        let home = scratch();
        fs::write(home.join("token"), credentials).unwrap();
        Elsewhere { home, hub: hub.to_owned() }
    }

    fn of(web: &Web, token: &str) -> Elsewhere {
        Elsewhere::new(&format!("http://{}", web.address), token)
    }

    fn ask(&self, args: &[&str]) -> Command {
        let mut command = lockstep_at(&self.home);
        command.args(args).args(["--hub", &self.hub, "--token-file"]).arg(self.home.join("token"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.ask(args).output().unwrap()
    }

    /// What it says on being refused.
    #[track_caller]
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn token(cluster: &Cluster, words: &[&str]) -> String {
    stdout(cluster.run(&[&["token"], words].concat())).trim().to_owned()
}

/// A client of that id, enrolled; it has left.
fn enrolled(cluster: &Cluster, id: u64) -> UniqueId {
    let (speaker, unique_id) = Speaker::logged_in(&cluster.address(), id, None);
    drop(speaker);
    unique_id
}

/// The roster as it is, without what moves by itself.
fn roster(cluster: &Cluster) -> Vec<Value> {
    let lines = stdout(cluster.run(&["clients", "list", "--all", "--json"]));
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        ["last_seen_ms", "last_login_ms", "address", "state", "transport"]
            .iter()
            .for_each(|key| row[key] = Value::Null);
        row
    };
    lines.lines().map(row).collect()
}

/// What was put on record of that event.
fn on_record(cluster: &Cluster, file: &str, event: &str) -> Vec<Value> {
    let text = fs::read_to_string(cluster.hub_data().join(file)).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

/// Every question there is, as JSON, of which each would be answered or done for an administrator of [`scene`].
fn questions() -> Vec<Value> {
    vec![
        json!("status"),
        json!("install"),
        json!({"clients": {"all": true}}),
        json!({"client": {"id": 7}}),
        json!({"wait": {"target": "share", "timeout_ms": 1}}),
        json!({"why": {"target": "share"}}),
        json!({"invite": {"uses": 1, "expires_s": 60}}),
        json!({"administer": {"id": 7, "change": {"name": "changed", "tags_add": ["t"]}}}),
        json!({"import": {"rows": [{"id": 77, "change": {"name": "new"}}]}}),
        json!({"reissue": {"id": 8}}),
        json!({"revoke": {"id": 8}}),
        json!({"allow_deletes": {"share": "share"}}),
    ]
}

/// The questions that no token may ask, whoever signs in by it.
fn never() -> Vec<Value> {
    vec![
        json!({"token": {"name": "more", "expires_s": 60, "administers": true}}),
        json!("tokens"),
        json!({"revoke_token": {"name": "probe"}}),
        json!("backup"),
        json!("leave"),
    ]
}

#[test]
fn each_command_over_http_says_and_does_what_it_does_on_the_hubs_machine() {
    let (cluster, web, _) = hub(&[]);
    let cluster = cluster.with_agents(1);
    enrolled(&cluster, 8);
    let admin = Elsewhere::of(&web, &token(&cluster, &["--admin", "--name", "ops"]));
    let inventory = admin.home.join("inventory.csv");
    fs::write(&inventory, "id,name,tags\n90,printer,lab\n").unwrap();
    let file = inventory.to_str().unwrap();
    // What only tells: the same bytes, but for the moment.
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["clients", "list"],
        &["clients", "export"],
        &["clients", "rights", "7"],
        &["clients", "rights", "7", "--json"],
        &["clients", "tag", "7"],
        &["clients", "import", file, "--dry-run"],
        &["why", "share"],
        &["why", "share", "--client", "1", "--json"],
        &["wait", "share", "--json"],
        &["wait", "share", "--client", "8", "--timeout", "100ms"],
        &["clients", "show", "999"],
        &["why", "no such"],
        &["allow-deletes", "no such"],
    ] {
        let same = || {
            let (here, there) = (cluster.run(args), admin.run(args));
            (here.status.code(), &here.stdout, &here.stderr) == (there.status.code(), &there.stdout, &there.stderr)
        };
        until(PATIENCE, &format!("{args:?} to say the same at one moment: {:?}", admin.run(args)), same);
    }
    let rows = stdout(admin.run(&["clients", "list", "--all", "--json"]));
    assert_eq!(rows.lines().count(), 3, "{rows}");
    // What changes something, seen on the hub's machine.
    stdout(admin.run(&["clients", "rename", "7", "the desk"]));
    assert_eq!(stdout(admin.run(&["clients", "tag", "7", "+lab"])), "lab\n");
    let rights = stdout(admin.run(&["clients", "rights", "7", "--put", "lab/*", "--json"]));
    assert_eq!(rights, stdout(cluster.run(&["clients", "rights", "7", "--json"])));
    stdout(admin.run(&["clients", "import", file]));
    let of = |id: u64| roster(&cluster).into_iter().find(|row| row["id"] == id).unwrap();
    assert_eq!(
        (&of(7)["name"], &of(7)["tags"], &of(7)["rights"]["put"]),
        (&json!("the desk"), &json!(["lab"]), &json!(["lab/*"]))
    );
    assert_eq!(of(90)["name"], "printer");
    let link = link_in(&stdout(admin.run(&["invite", "--ids", "60", "--role", "observer"])));
    let mut invited = Speaker::greeted(&cluster.address());
    let code = JoinLink::parse(&link).unwrap().invite().unwrap().reveal();
    assert!(matches!(invited.claim("60", Some(&code)), Asked::Issued(_)));
    assert_eq!(of(60)["rights"]["role"], "observer");
    assert!(stdout(admin.run(&["invite", "--install"])).starts_with("echo lsj1."));
    assert!(stdout(admin.run(&["clients", "reissue", "8"])).starts_with("lockstep join lsj1."));
    stdout(admin.run(&["allow-deletes", "share"]));
    stdout(admin.run(&["clients", "revoke", "8"]));
    assert!(stdout(cluster.run(&["clients", "show", "8"])).contains("revoked"));
    // On record by the token's name.
    for event in ["changed", "imported", "invited", "reissued", "revoked"] {
        let lines = on_record(&cluster, "audit.jsonl", event);
        let by_it =
            lines.iter().filter(|line| line["token"] == "ops" && line["transport"] == "http" && line["by"] == 0);
        assert!(by_it.count() >= 1, "{event}: {lines:#?}");
        assert!(lines.iter().all(|line| line["address"] == "127.0.0.1"), "{lines:#?}");
    }
    let told = stdout(cluster.run(&["audit", "--event", "revoked"]));
    assert!(told.contains("with the token ops"), "{told}");
    // The token in the environment is as good, and one in the file goes first.
    let mut asked = lockstep_at(&admin.home);
    let by_variable = asked.args(["status", "--hub", &admin.hub]).env("LOCKSTEP_TOKEN", token(&cluster, &["--admin"]));
    stdout(by_variable.output().unwrap());
    stdout(admin.ask(&["status"]).env("LOCKSTEP_TOKEN", "no token").output().unwrap());
}

#[test]
fn nobody_but_who_has_an_admins_token_does_any_of_it() {
    let (cluster, web, seven) = hub(&[]);
    for id in [8, 9, 51] {
        enrolled(&cluster, id);
    }
    let fifty = enrolled(&cluster, 50);
    stdout(cluster.run(&["clients", "rights", "50", "--role", "admin"]));
    stdout(cluster.run(&["clients", "rights", "9", "--role", "observer"]));
    stdout(cluster.run(&["clients", "rights", "51", "--role", "admin"]));
    let demoted = token(&cluster, &["--admin", "--as", "51"]);
    stdout(cluster.run(&["clients", "rights", "51", "--role", "client"]));
    let expired = token(&cluster, &["--admin", "--expires", "1s"]);
    let revoked = token(&cluster, &["--admin", "--name", "gone"]);
    stdout(cluster.run(&["token", "revoke", "gone"]));
    let never_made = Bearer::fresh().unwrap().reveal();
    until(PATIENCE, "a token to expire", || web.bearer(&expired).get("/api/status").status == 401);
    let good = token(&cluster, &["--admin"]);
    let lesser = [
        ("a token that reads", web.bearer(&token(&cluster, &[])), 403),
        ("a token that puts", web.bearer(&token(&cluster, &["--put"])), 403),
        ("a client's", web.bearer(&token(&cluster, &["--as", "7", "--put"])), 403),
        ("an observer's", web.bearer(&token(&cluster, &["--as", "9"])), 403),
        ("an admin's that does not administer", web.bearer(&token(&cluster, &["--as", "50", "--put"])), 403),
        ("one of who is no admin any more", web.bearer(&demoted), 403),
        ("an expired one", web.bearer(&expired), 401),
        ("a revoked one", web.bearer(&revoked), 401),
        ("one that was never made", web.bearer(&never_made), 401),
        ("a mistyped one", web.bearer(&good[..good.len() - 1]), 401),
        ("a unique ID", web.basic(&seven), 401),
        ("an admin's unique ID", web.basic(&fifty), 401),
        ("nothing", web.nobody(), 401),
    ];
    let (before, tokens) = (roster(&cluster), stdout(cluster.run(&["token", "list"])));
    let invites = || on_record(&cluster, "audit.jsonl", "invited").len();
    let invited = invites();
    // Each is told later and later, so all at once.
    std::thread::scope(|scope| {
        for question in questions().into_iter().chain(never()) {
            for (who, web, status) in &lesser {
                let question = question.clone();
                scope.spawn(move || {
                    let reply = web.post("/api/admin", &question.to_string());
                    let code = if *status == 403 { "not_allowed" } else { "not_proven" };
                    assert_eq!((reply.status, reply.problem().as_str()), (*status, code), "{who}: {question}");
                });
            }
        }
    });
    assert_eq!(
        (roster(&cluster), stdout(cluster.run(&["token", "list"])), invites()),
        (before.clone(), tokens.clone(), invited)
    );
    // Of each lesser token it is on record that it tried, and by which name; and of who had none, how it was signed. The audit log
    // counts what repeats itself.
    let tried = on_record(&cluster, "audit-refused.jsonl", "administer");
    let (with_none, tried): (Vec<_>, Vec<_>) = tried.into_iter().partition(|line| line["token"].is_null());
    let signed: BTreeSet<&str> = with_none.iter().map(|line| line["detail"].as_str().unwrap()).collect();
    assert_eq!(signed, BTreeSet::from(["not signed", "signed with an id"]));
    assert!(with_none.iter().all(|line| line["outcome"] == "not_proven" && line["id"].is_null()), "{with_none:?}");
    let tried: BTreeSet<String> = tried
        .iter()
        .map(|line| {
            assert_eq!((&line["outcome"], &line["transport"]), (&json!("not_allowed"), &json!("http")), "{line}");
            line["token"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(tried.len(), 6, "{tried:?}");
    assert!(!on_record(&cluster, "audit-refused.jsonl", "token").is_empty());
    // What a client may not be given: a token that administers for it.
    for words in [&["--admin", "--as", "7"][..], &["--admin", "--as", "9"], &["--admin", "--as", "51"]] {
        let output = cluster.run(&[&["token"], words].concat());
        assert!(
            output.status.code() == Some(3) && String::from_utf8_lossy(&output.stderr).contains("no admin"),
            "{output:?}"
        );
    }
    // The same questions by one who may: so what was looked at above would have been seen.
    let admin = web.bearer(&good);
    for question in never() {
        let reply = admin.post("/api/admin", &question.to_string());
        assert_eq!((reply.status, reply.problem().as_str()), (403, "not_allowed"), "{question}");
    }
    assert_eq!((&roster(&cluster), &stdout(cluster.run(&["token", "list"]))), (&before, &tokens));
    for question in questions() {
        let reply = admin.post("/api/admin", &question.to_string());
        assert_eq!(reply.status, 200, "{question}: {}", reply.text());
        assert_eq!(reply.headers["cache-control"], "no-store");
    }
    assert!(roster(&cluster) != before && invites() == invited + 1);
    // And none of them is missing here.
    let document = admin.get("/api/openapi.json").json();
    let named = document["components"]["schemas"]["Question"]["oneOf"].as_array().unwrap().iter().map(|one| {
        one["const"].as_str().map_or_else(|| one["required"][0].as_str().unwrap().to_owned(), str::to_owned)
    });
    let name = |question: &Value| match question {
        Value::String(name) => name.clone(),
        other => other.as_object().unwrap().keys().next().unwrap().clone(),
    };
    assert_eq!(named.collect::<BTreeSet<_>>(), questions().iter().map(name).collect());
}

#[test]
fn an_admins_own_token_administers_as_that_admin_and_ends_with_its_role() {
    let (cluster, web, _) = hub(&[]);
    enrolled(&cluster, 50);
    stdout(cluster.run(&["clients", "rights", "50", "--role", "admin"]));
    let admin = Elsewhere::of(&web, &token(&cluster, &["--admin", "--as", "50", "--name", "of fifty"]));
    stdout(admin.run(&["clients", "rename", "7", "desk"]));
    let changed = on_record(&cluster, "audit.jsonl", "changed");
    let last = changed.last().unwrap();
    assert_eq!((&last["by"], &last["id"], &last["token"]), (&json!(50), &json!(7), &json!("of fifty")), "{last}");
    let listed = stdout(cluster.run(&["token", "list"]));
    assert!(listed.lines().any(|line| line.contains("of fifty") && line.contains("administer")), "{listed}");
    // A wait that is under way ends with it.
    let mut waiting = Proc::start(&mut admin.ask(&["wait", "share", "--client", "7", "--timeout", "600s"]));
    until(PATIENCE, "the wait to be asked", || {
        web.get("/metrics").text().contains("lockstep_connections{transport=\"http\"} 2")
    });
    stdout(cluster.run(&["clients", "rights", "50", "--role", "client"]));
    assert_eq!(waiting.wait_exit(PATIENCE).code(), Some(3));
    assert!(admin.refused(&["status"]).contains("no admin any more"));
    stdout(cluster.run(&["clients", "revoke", "50"]));
    assert!(admin.refused(&["status"]).contains("no token that is good"));
}

#[test]
fn whoever_tries_many_tokens_is_told_ever_later_and_a_right_one_never_waits() {
    let (cluster, web, _) = hub(&[]);
    let admin = web.bearer(&token(&cluster, &["--admin"]));
    let wrong = || web.bearer(&Bearer::fresh().unwrap().reveal());
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(wrong().post("/api/admin", "\"status\"").status, 401);
    }
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    // Held for four seconds by now, the refusals; and meanwhile, from the same address, who may.
    let held = wrong().ask("POST", "/api/admin", &[("content-type", "application/json")], b"\"status\"");
    for _ in 0..3 {
        assert_eq!(admin.post("/api/admin", "\"status\"").status, 200);
    }
    held.set_nonblocking(true).unwrap();
    let early = std::io::Read::read(&mut &held, &mut [0]);
    assert!(early.is_err(), "a wrong one was told before three right ones were: {early:?}");
    held.set_nonblocking(false).unwrap();
    assert_eq!(crate::web::Reply::read(held).status, 401);
}

#[test]
fn what_is_no_question_is_refused_with_the_reason_and_does_nothing() {
    let (cluster, web, _) = hub(&[]);
    let admin = web.bearer(&token(&cluster, &["--admin"]));
    let before = roster(&cluster);
    let long = "x".repeat(2000);
    for body in [
        String::new(),
        "{}".to_owned(),
        "[]".to_owned(),
        "\"x\"".to_owned(),
        "{\"status\": {}, \"tokens\": {}}".to_owned(),
        json!({"revoke": {"id": "7"}}).to_string(),
        json!({"revoke": {"id": 7, "force": true}}).to_string(),
        json!({"administer": {"id": 7, "change": {"rihgts": {}}}}).to_string(),
        json!({"administer": {"id": 7, "change": {"name": long}}}).to_string(),
        json!({"invite": {"uses": 1, "expires_s": 60, "ids": {"first": 9, "last": 8}}}).to_string(),
        json!({"invite": {"uses": 0, "expires_s": 60}}).to_string(),
        json!({"invite": {"uses": 1, "expires_s": 0}}).to_string(),
        json!({"invite": {"uses": 1, "expires_s": 366 * 86_400 + 1}}).to_string(),
        json!({"wait": {"timeout_ms": 1, "clients": vec![1; 5000]}}).to_string(),
    ] {
        let reply = admin.post("/api/admin", &body);
        assert_eq!((reply.status, reply.problem().as_str()), (400, "bad_request"), "{body:.80}: {}", reply.text());
    }
    for (id, status) in [(0, 400), (9_007_199_254_740_992_u64, 400), (999, 404)] {
        assert_eq!(admin.post("/api/admin", &json!({"revoke": {"id": id}}).to_string()).status, status, "{id}");
    }
    let form = admin.send("POST", "/api/admin", &[("content-type", "text/plain")], b"\"status\"");
    assert_eq!(form.status, 415);
    let large = admin.send("POST", "/api/admin", &[("content-type", "application/json")], &vec![b' '; (4 << 20) + 1]);
    assert_eq!((large.status, large.problem().as_str()), (413, "limit"));
    assert_eq!(admin.get("/api/admin").status, 405);
    assert_eq!(roster(&cluster), before);
}

#[test]
fn the_token_is_told_to_no_hub_but_one_that_is_trusted() {
    let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &["--http", "0.0.0.0:0"]);
    let line = cluster.hub().wait_for_line("http     https", PATIENCE);
    let port = line.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    let (token, ca) = (token(&cluster, &["--admin"]), stdout(cluster.run(&["cert"])));
    let url = format!("https://localhost:{port}");
    let trusting = Elsewhere::new(&url, &format!("{token}\n{ca}"));
    assert_eq!(stdout(trusting.run(&["status"])), stdout(cluster.run(&["status"])));
    // Refused by those who know no authority, or another: and the hub has heard of no token, right or wrong.
    let (other, _) = crate::http_tls::pair();
    let wrong = Bearer::fresh().unwrap().reveal();
    for (credentials, why) in [(wrong.clone(), "lockstep cert"), (format!("{wrong}\n{other}"), "lockstep cert")] {
        let told = Elsewhere::new(&url, &credentials).refused(&["status"]);
        assert!(told.contains(why) && told.contains("was not told") && !told.contains(&wrong), "{told}");
    }
    assert!(
        !cluster.hub_data().join("audit-refused.jsonl").exists()
            || on_record(&cluster, "audit-refused.jsonl", "token").is_empty()
    );
    Elsewhere::new(&url, &format!("{wrong}\n{ca}")).refused(&["status"]);
    assert_eq!(on_record(&cluster, "audit-refused.jsonl", "token").len(), 1, "this is where it would be seen");
    // In the clear to nobody but this machine; and what is no token is not even tried.
    for (hub, credentials, why) in [
        ("http://hub.example:7118", token.clone(), "for everybody to read"),
        ("ftp://hub.example", token.clone(), "no address"),
        ("hub.example", "no token".to_owned(), "is no token"),
        ("hub.example", format!("{token}\nand more"), "no certificates"),
    ] {
        let output = Elsewhere::new(hub, &credentials).run(&["status"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && told.contains(why) && !told.contains(&token), "{hub}: {told}");
    }
    // As whom has to be said.
    let output = lockstep_at(&trusting.home).args(["status", "--hub", &url]).output().unwrap();
    assert!(output.status.code() == Some(2), "{output:?}");
    fs::remove_file(trusting.home.join("token")).unwrap();
    assert!(trusting.refused(&["status"]).contains("/token: "));
}
