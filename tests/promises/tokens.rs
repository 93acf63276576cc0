//! Tokens: what `lockstep token` makes lets a program in over HTTP, as whom and as long as it says, and nothing else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use support::{Cluster, PATIENCE, lockstep_at, until};

use crate::http::{active, hub};
use crate::web::{Reply, Web};

/// Runs `lockstep token` with these words on the hub's machine; what it printed.
#[track_caller]
fn token(cluster: &Cluster, words: &[&str]) -> String {
    let output = cluster.run(&[&["token"], words].concat());
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The same, of what is refused; what it said.
#[track_caller]
fn refused(cluster: &Cluster, code: i32, words: &[&str]) -> String {
    let output = cluster.run(&[&["token"], words].concat());
    assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_token_reads_everything_and_changes_values_only_where_it_may() {
    let (cluster, web, _) = hub(&[]);
    web.put("/api/values/x", &[("content-type", "text/plain")], b"one");
    let reader = web.bearer(&token(&cluster, &[]));
    for target in
        ["/api/values/x", "/api/values", "/api/status", "/api/clients", "/clients.csv", "/metrics", "/api/openapi.json"]
    {
        assert_eq!(reader.get(target).status, 200, "{target}");
    }
    for (method, body) in [("PUT", &b"two"[..]), ("DELETE", b"")] {
        let reply = reader.send(method, "/api/values/x", &[], body);
        assert_eq!((reply.status, reply.problem().as_str()), (403, "not_allowed"), "{method}");
    }
    assert_eq!(web.get("/api/values/x").text(), "one");
    // As the hub's own machine, and as a client.
    for (words, by) in [(&["--put"][..], 0), (&["--put", "--as", "7", "--name", "of seven"], 7)] {
        let writer = web.bearer(&token(&cluster, words));
        assert_eq!(writer.put("/api/values/x", &[], by.to_string().as_bytes()).status, 200);
        let values = reader.get("/api/values").json();
        assert_eq!(values["values"][0]["changed_by"], by, "{values}");
    }
    // It signs requests and is no login: nobody is among the active ones by it, but by a client's open stream.
    let mut stream = reader.events("/api/values", None);
    stream.until_current();
    assert!(active(&cluster).is_empty());
    let of_seven = token(&cluster, &["--as", "7"]);
    let mut stream_of_seven = web.bearer(&of_seven).events("/api/values", None);
    stream_of_seven.until_current();
    assert_eq!(active(&cluster), [(7, "http".to_owned())]);
    // Nor is it a unique ID.
    assert_eq!(web.user("7", &of_seven).get("/api/status").status, 401);
}

#[test]
fn whatever_is_no_good_token_is_refused_alike_and_a_good_one_outlives_a_killed_hub() {
    let (mut cluster, web, _) = hub(&[]);
    let good = token(&cluster, &["--name", "probe"]);
    let other = if good.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("{}{other}", &good[..good.len() - 1]);
    let never_made = wire::bearer::Bearer::fresh().unwrap().reveal();
    for wrong in [mistyped.as_str(), &never_made, "lst_", "x", "", "7"] {
        let reply = web.bearer(wrong).get("/api/status");
        assert_eq!((reply.status, reply.problem().as_str()), (401, "not_proven"), "{wrong}");
        let schemes = &reply.headers["www-authenticate"];
        assert!(schemes.starts_with("Basic ") && schemes.contains("Bearer "), "{schemes}");
        assert!(wrong.len() < 9 || !reply.text().contains(wrong));
    }
    // It is on disk before it is shown.
    cluster.kill_hub();
    cluster.start_hub();
    let web = web.again(&mut cluster);
    assert_eq!(web.bearer(&good).get("/api/status").status, 200);
    assert_eq!(web.bearer(&good.to_lowercase()).get("/api/status").status, 200);
}

#[test]
fn what_a_token_has_open_is_cut_when_it_is_revoked_or_expires_and_when_its_client_is_revoked() {
    let (cluster, web, _) = hub(&[]);
    let end = |made: &[&str], ends: &dyn Fn()| {
        let web = web.bearer(&token(&cluster, made));
        let mut stream = web.events("/api/values", None);
        stream.until_current();
        let since = web.get("/api/values").json()["next"].as_str().unwrap().to_owned();
        let polling = std::thread::spawn({
            let web = web.clone();
            move || web.get(&format!("/api/values?since={since}&wait=50"))
        });
        ends();
        assert!(stream.ends(Duration::from_secs(5)), "{made:?}");
        assert_eq!(web.get("/api/status").problem(), "not_proven", "{made:?}");
        assert_eq!(polling.join().unwrap().problem(), "not_proven", "{made:?}");
    };
    end(&["--name", "a"], &|| assert_eq!(token(&cluster, &["revoke", "a"]), ""));
    end(&["--name", "b", "--expires", "2s"], &|| {});
    end(&["--name", "c", "--as", "7"], &|| assert!(cluster.run(&["clients", "revoke", "7"]).status.success()));
    assert!(refused(&cluster, 3, &["--as", "7"]).contains("revoked"));
}

#[test]
fn tokens_are_listed_named_and_bounded() {
    let (cluster, web, _) = hub(&[]);
    let made: Value = serde_json::from_str(&token(&cluster, &["--json", "--put", "--as", "7"])).unwrap();
    assert_eq!(web.bearer(made["token"].as_str().unwrap()).get("/api/status").status, 200);
    token(&cluster, &["--expires", "1s", "--name", "short\u{202e}"]);
    let listed = || -> Vec<Value> {
        token(&cluster, &["list", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    until(PATIENCE, "the short one's end", || listed()[1]["good"] == false);
    let rows = listed();
    let row = |n: usize, key: &str| rows[n][key].clone();
    assert_eq!((row(0, "name"), row(0, "id"), row(0, "may_put")), ("token-1".into(), 7.into(), true.into()));
    let year_ms = row(0, "expires_at_ms").as_i64().unwrap() - row(0, "created_at_ms").as_i64().unwrap();
    assert_eq!(year_ms, 365 * 24 * 3600 * 1000);
    assert!(rows.iter().all(|row| row.get("token").is_none()));
    let shown = token(&cluster, &["list"]);
    assert!(shown.contains("read, put") && !shown.contains('\u{202e}'), "{shown}");
    // Every wrong wish has its answer, and makes nothing.
    for (words, code, hint) in [
        (&["--name", "token-1", "--as", "7"][..], 3, "name"),
        (&["--as", "8"], 3, "no client 8"),
        (&["--as", "0"], 2, "0"),
        (&["--expires", "0s"], 2, "1s"),
        (&["--expires", "36000d"], 2, "3653 days"),
        (&["--name", ""], 2, "empty"),
        (&["revoke", "none"], 3, "token list"),
    ] {
        let said = refused(&cluster, code, words);
        assert!(said.contains(hint), "{words:?}: {said}");
    }
    assert_eq!(listed().len(), 2);
}

#[test]
fn a_clients_machine_makes_tokens_of_that_client_and_sees_and_ends_no_others() {
    let mut cluster = Cluster::start(|share| std::fs::write(share.join("f"), "x").unwrap(), &["--http", "127.0.0.1:0"]);
    let web = Web::of(&mut cluster);
    let cluster = cluster.with_agents(1);
    let at_agent = |words: &[&str]| {
        let mut command = lockstep_at(cluster.agent_home(1));
        command.arg("token").args(words).arg("--data").arg(cluster.agent_home(1).join("agent"));
        command.output().unwrap()
    };
    token(&cluster, &["--name", "of the hub"]);
    let made = at_agent(&["--put"]);
    assert!(made.status.success(), "{made:?}");
    let web = web.bearer(String::from_utf8(made.stdout).unwrap().trim());
    assert_eq!(web.put("/api/values/x", &[], b"1").status, 201);
    let by = web.get("/api/values").json()["values"][0]["changed_by"].clone();
    let list = String::from_utf8(at_agent(&["list", "--json"]).stdout).unwrap();
    let row: Value = serde_json::from_str(&list).expect("one token, its own");
    assert!(row["id"] == by && by != 0, "{row}");
    for refused in [&["--as", "70"][..], &["revoke", "of the hub"]] {
        assert_eq!(at_agent(refused).status.code(), Some(3), "{refused:?}");
    }
    assert!(at_agent(&["revoke", row["name"].as_str().unwrap()]).status.success());
    assert_eq!(web.get("/api/status").status, 401);
}

/// A request whose head was taken, with the first byte of its body, and that waits for the rest.
struct Half<'a> {
    stream: TcpStream,
    rest: &'a [u8],
}

impl<'a> Half<'a> {
    #[track_caller]
    fn sent(web: &Web, head: &str, body: &'a str) -> Half<'a> {
        let mut stream = web.connect();
        let (signed, length) = (web.head_line(), body.len());
        let head = format!(
            "{head} HTTP/1.1\r\nhost: localhost\r\n{signed}content-type: application/json\r\ncontent-length: {length}\r\n\
             expect: 100-continue\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Said once the body is asked for: whoever sent the head was let in by then.
        let mut said = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        stream.read_exact(&mut said).unwrap();
        assert!(said.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&said));
        stream.write_all(&body.as_bytes()[..1]).unwrap();
        Half { stream, rest: &body.as_bytes()[1..] }
    }

    #[track_caller]
    fn answered(self) -> Reply {
        Reply::read(self.stream)
    }

    /// Sends the rest; the answer, if there is one.
    fn finished(mut self) -> Option<Reply> {
        self.stream.write_all(self.rest).ok();
        Reply::try_read(self.stream)
    }
}

#[test]
fn what_is_revoked_or_allowed_less_while_its_body_comes_does_nothing_with_it() {
    let (cluster, web, _) = hub(&[]);
    let changed = |words: &[&str]| assert!(cluster.run(words).status.success(), "{words:?}");
    let invite = r#"{"invite":{"uses":1,"expires_s":60}}"#;
    let (admin, put) = ("POST /api/admin", "PUT /api/values/x");
    let admins = |name: &str, of: &[&str]| {
        let words = [&["--admin", "--name", name], of].concat();
        web.bearer(&token(&cluster, &words))
    };
    // What goes on says that it does: the scene is right.
    let goes_on = Half::sent(&admins("good", &[]), admin, invite).finished().unwrap();
    assert_eq!(goes_on.status, 200, "{}", goes_on.text());
    changed(&["token", "revoke", "good"]);
    // Who is not let in any more is told so at once, and whatever else comes is for nothing.
    for told in [true, false] {
        let half = Half::sent(&admins("admin", &[]), admin, invite);
        changed(&["token", "revoke", "admin"]);
        let answer = if told { Some(half.answered()) } else { half.finished() };
        assert!(answer.is_some() || !told);
        assert!(answer.is_none_or(|answer| (answer.status, &*answer.problem()) == (401, "not_proven")));
    }
    // Who is allowed less meanwhile may what it may by then.
    changed(&["clients", "rights", "7", "--role", "admin"]);
    let half = Half::sent(&admins("of seven", &["--as", "7"]), admin, invite);
    changed(&["clients", "rights", "7", "--role", "observer"]);
    let answer = half.finished().unwrap();
    assert_eq!((answer.status, &*answer.problem()), (403, "not_allowed"));
    changed(&["clients", "rights", "7", "--role", "client"]);
    let half = Half::sent(&web, put, "12");
    changed(&["clients", "rights", "7", "--role", "observer"]);
    let answer = half.finished().unwrap();
    assert_eq!((answer.status, &*answer.problem()), (403, "not_allowed"));
    changed(&["clients", "rights", "7", "--role", "client"]);
    let half = Half::sent(&web, put, "12");
    changed(&["clients", "revoke", "7"]);
    assert_eq!(half.answered().problem(), "not_proven");
    let reader = web.bearer(&token(&cluster, &[]));
    assert_eq!(reader.get("/api/values/x").status, 404);
    let log = std::fs::read_to_string(cluster.hub_data().join("audit.jsonl")).unwrap();
    let invited =
        log.lines().filter(|line| line.contains(r#""event":"invited""#) && line.contains(r#""transport":"http""#));
    assert_eq!(invited.count(), 1, "{log}");
}
