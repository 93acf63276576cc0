//! The rest of what the hub answers over HTTP: who may come in, what it tells of itself, and what it does not put up with.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Cluster, PATIENCE, curl, pick, python_with, until, workspace};
use wire::unique_id::UniqueId;

use crate::http::hub;
use crate::login::stdout;
use crate::speaker::Speaker;
use crate::web::Web;

#[test]
fn an_invite_is_taken_over_http_as_it_was_printed() {
    let mut cluster = Cluster::start(|_| {}, &["--http", "127.0.0.1:0", "--enrol", "invite"]);
    let web = Web::of(&mut cluster);
    let printed = stdout(cluster.run(&["invite", "--uses", "2"]));
    let link = printed.split_ascii_whitespace().last().unwrap();
    for (id, invite) in [(8, &*printed), (9, link)] {
        let login =
            |invite: &str| web.post("/api/login", &serde_json::json!({ "id": id, "invite": invite }).to_string());
        assert_eq!(login("").problem(), "unique_id?");
        assert_eq!(login(&link[..link.len() - 1]).problem(), "unique_id?");
        assert_eq!(login(invite).status, 201, "{invite}");
    }
    // Spent: its holder is told so, of an id that is known as of one that is not.
    for id in [8, 77] {
        let reply = web.post("/api/login", &serde_json::json!({ "id": id, "invite": link }).to_string());
        assert_eq!((reply.status, reply.problem().as_str()), (403, "not_invited"), "{id}");
        assert!(reply.json()["detail"].as_str().unwrap().contains("this invite is spent"), "{reply:?}");
    }
    let record = std::fs::read_to_string(cluster.hub_data().join("audit-refused.jsonl")).unwrap();
    assert!(record.lines().any(|line| line.contains("its invite is spent") && line.contains("http")), "{record}");
}

#[test]
fn m3_2_m3_3_m3_4_an_id_is_asked_for_issued_its_unique_id_and_proves_it_ever_after() {
    let (cluster, known, _) = hub(&[]);
    let web = known.nobody();
    for id in ["\"7\"", "\"seven\"", "7.5", "7.0", "-7", "0", "1e3", "true", "null", "9007199254740992"] {
        let reply = web.post("/api/login", &format!("{{\"id\": {id}}}"));
        assert_eq!((reply.status, reply.problem().as_str()), (400, "bad_id"), "{id}");
        assert!(reply.json()["detail"].as_str().unwrap().contains("ID"), "{id}");
    }
    for body in ["", "{}", "[]", "7", "{\"id\": 9, \"x\": 1}", "{\"id\": 9, \"name\": \"a\\u0007\"}"] {
        assert!(matches!(web.post("/api/login", body).status, 400), "{body}");
    }
    let form = web.send("POST", "/api/login", &[("content-type", "text/plain")], b"{\"id\": 9}");
    assert_eq!(form.status, 415, "no page of elsewhere can enrol anybody");
    // New: issued, and provisional until a request proves it.
    let issued = web.post("/api/login", "{\"id\": 9, \"name\": \"desk\"}");
    assert_eq!(issued.status, 201, "{issued:?}");
    let first = issued.json()["unique_id"].as_str().unwrap().to_owned();
    assert_eq!(web.post("/api/login", "{\"id\": 9}").problem(), "unique_id?");
    // The answer was lost: said so from where it began, another is issued, and the lost one is nothing any more.
    let again = web.post("/api/login", "{\"id\": 9, \"lost\": true}");
    let second = again.json()["unique_id"].as_str().unwrap().to_owned();
    assert!(again.status == 201 && first != second);
    let state = || known.get("/api/clients?all=true").json()["clients"][1]["state"].clone();
    assert_eq!(state(), "provisional");
    assert_eq!(web.user("9", &second).get("/api/status").status, 200);
    assert_eq!(state(), "away");
    assert_eq!(web.post("/api/login", "{\"id\": 9, \"lost\": true}").problem(), "not_proven");
    // Known: asked for it at every login, wrong ones refused, one answer for all of them.
    assert_eq!(web.post("/api/login", &format!("{{\"id\": 9, \"unique_id\": \"{second}\"}}")).status, 200);
    let wrong = UniqueId::fresh(wire::id::ClientId::new(9).unwrap()).unwrap().reveal();
    for wrong in [first.as_str(), wrong.as_str(), "x", ""] {
        let reply = web.post("/api/login", &format!("{{\"id\": 9, \"unique_id\": \"{wrong}\"}}"));
        assert_eq!((reply.status, reply.problem().as_str()), (401, "not_proven"));
        assert!(wrong.len() < 9 || !reply.text().contains(wrong));
    }
    assert_eq!(web.user("9", &wrong).get("/api/status").problem(), "not_proven");
    assert_eq!(web.user("10", &wrong).get("/api/status").problem(), "not_proven");
    // By the native transport it is the same client.
    let unique_id = UniqueId::parse(&second).unwrap();
    Speaker::logged_in(&cluster.address(), 9, Some(&unique_id));
    assert_eq!(web.user("9", &second).get("/api/clients?all=true").json()["clients"][1]["name"], "speaker");
}

#[test]
fn only_health_and_the_page_are_open_and_every_answer_is_guarded() {
    let (_cluster, web, _) = hub(&[]);
    let nobody = web.nobody();
    for open in ["/healthz", "/readyz", "/"] {
        until(PATIENCE, "the share to be complete", || nobody.get(open).status == 200);
    }
    for closed in [
        "/api/status",
        "/api/clients",
        "/api/shares",
        "/api/values",
        "/api/values/x",
        "/api/openapi.json",
        "/clients.csv",
        "/server.csv",
        "/values.csv",
        "/vitals.csv",
        "/metrics",
    ] {
        let reply = nobody.get(closed);
        assert_eq!((reply.status, reply.problem().as_str()), (401, "not_proven"), "{closed}");
        assert!(reply.headers["www-authenticate"].starts_with("Basic"), "{closed}");
    }
    assert_eq!(nobody.put("/api/values/x", &[], b"x").status, 401);
    assert_eq!(nobody.send("DELETE", "/api/values/x", &[], b"").status, 401);
    // HTML that somebody put is shown by no browser as a page of the hub's that does anything.
    web.put("/api/values/page", &[("content-type", "text/html")], b"<script>alert(1)</script>");
    for reply in [web.get("/api/values/page"), nobody.get("/"), nobody.get("/none"), web.get("/clients.csv")] {
        let policy = &reply.headers["content-security-policy"];
        assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(reply.headers["x-content-type-options"], "nosniff");
        assert!(!reply.headers.contains_key("access-control-allow-origin"));
    }
    assert!(!nobody.get("/").text().contains("<script"));
    // Another name that was made to point here is no name of this machine.
    for host in ["evil.example", "evil.example:7118", "localhost.evil.example"] {
        let reply = web.send("GET", "/api/status", &[("host", host)], b"");
        assert_eq!((reply.status, reply.problem().as_str()), (421, "bad_host"), "{host}");
        assert_eq!(web.send("GET", "/healthz", &[("host", host)], b"").status, 421);
    }
    assert_eq!(web.send("GET", "/api/status", &[("host", "localhost:1")], b"").status, 200);
    let preflight = [("origin", "https://evil.example"), ("access-control-request-method", "PUT")];
    let reply = nobody.send("OPTIONS", "/api/values/x", &preflight, b"");
    assert!(!reply.headers.contains_key("access-control-allow-origin"), "{reply:?}");
}

#[test]
fn who_says_nothing_or_only_a_little_is_cut_and_keeps_nobody_out() {
    // As many descriptors as the system lets this process and its hub have: the usual 1,024 are fewer than the crowd.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let (mut cluster, web, _) = hub(&[]);
    let rss = cluster.hub().rss_bytes().unwrap();
    // More than may wait; the newest of them get in, and so does whoever signs in.
    let silent: Vec<_> = (0..pick(1200, 4000)).map(|_| web.connect()).collect();
    assert_eq!(web.get("/api/status").status, 200);
    assert!(cluster.hub().rss_bytes().unwrap() < rss + (64 << 20));
    let mut drip = web.connect();
    drip.write_all(b"GET /api/status HTTP/1.1\r\nhost: localhost\r\nx: ").unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    drip.read_to_end(&mut rest).ok();
    assert!(begun.elapsed() < Duration::from_secs(20), "a head that never ends is waited for too long");
    let cut = silent.iter().filter(|stream| {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut byte = [0];
        matches!((&**stream).read(&mut byte), Ok(0)) || stream.shutdown(Shutdown::Both).is_err()
    });
    assert_eq!(cut.count(), silent.len());
}

/// Whatever its connections do: each is one of its own, and those of the others and of this machine are left.
#[test]
fn who_has_signed_in_takes_so_many_connections_and_leaves_the_rest_to_others() {
    const OF_ONE_MAX: usize = 64;
    let (cluster, web, _) = hub(&[]);
    let (speaker, other) = Speaker::logged_in(&cluster.address(), 8, None);
    drop(speaker);
    let other = web.basic(&other);
    let token = cluster.run(&["token"]);
    let reader = web.bearer(String::from_utf8(token.stdout).unwrap().trim());
    let since = other.get("/api/values").json()["next"].as_str().unwrap().to_owned();
    let head = |line: &str, more: &str| {
        let mut stream = web.connect();
        let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{}{more}\r\n", web.head_line());
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    // A value that stops before its end: whether it was asked for is known at once.
    let sending: Vec<_> = (0..OF_ONE_MAX + 16)
        .map(|_| {
            let mut stream = head("PUT /api/values/x", "content-length: 2\r\nexpect: 100-continue\r\n");
            let mut status = [0; b"HTTP/1.1 100".len()];
            stream.read_exact(&mut status).unwrap();
            stream.write_all(b"1").ok();
            (stream, status == *b"HTTP/1.1 100")
        })
        .collect();
    assert!(sending.iter().take(OF_ONE_MAX).all(|(_, taken)| *taken), "as many as it may have");
    assert!(sending.iter().skip(OF_ONE_MAX).all(|(_, taken)| !taken), "and no more");
    let refused = || {
        let reply = web.get("/api/status");
        let full = reply.status == 503 && reply.problem() == "full" && reply.headers["retry-after"] == "1";
        assert!(full || reply.status == 200, "{reply:?}");
        full
    };
    let go_on = |mut held: Vec<TcpStream>, more: &dyn Fn() -> TcpStream| {
        until(PATIENCE, "one more to be refused", || {
            let full = refused();
            if !full {
                // One that had just ended counted when these were opened.
                held.push(more());
            }
            full
        });
        for signed in [&other, &reader] {
            assert_eq!(signed.get("/api/status").status, 200);
        }
        assert!(cluster.run(&["clients", "list"]).status.success());
        drop(held);
        until(PATIENCE, "it to be let in again", || !refused());
    };
    go_on(sending.into_iter().map(|(stream, _)| stream).collect(), &|| unreachable!("all were taken"));
    let waits = || head(&format!("GET /api/values?since={since}&wait=60"), "");
    let rests = || head("GET /api/status", "");
    for open in [&waits as &dyn Fn() -> TcpStream, &rests] {
        go_on((0..OF_ONE_MAX + 16).map(|_| open()).collect(), open);
    }
}

#[test]
fn m3_6_pandas_reads_the_tables_by_their_address_and_a_parser_the_metrics() {
    let python = python_with(&["pandas", "prometheus_client"]);
    let (cluster, web, unique_id) = hub(&[]);
    let mut cluster = cluster.with_agents(2);
    web.put("/api/values/a", &[("content-type", "text/plain")], b"42.5");
    web.put("/api/values/b", &[], b"\xff\x00");
    for table in ["clients.csv", "server.csv", "values.csv"] {
        let file = cluster.hub_data().join(table);
        until(PATIENCE, "file and answer to be the same", || {
            let reply = web.get(&format!("/{table}"));
            assert_eq!(reply.headers["content-type"], "text/csv; charset=utf-8");
            fs::read(&file).is_ok_and(|bytes| bytes == reply.body)
        });
        let tag = web.get(&format!("/{table}")).headers["etag"].clone();
        assert_eq!(web.send("GET", &format!("/{table}"), &[("if-none-match", &tag)], b"").status, 304);
    }
    until(PATIENCE, "both machines to report", || web.get("/vitals.csv").text().lines().count() == 3);
    cluster.stop_agent(2);
    until(PATIENCE, "one to be away", || web.get("/clients.csv").text().matches("away").count() == 2);
    web.nobody().get("/metrics");
    let output = Command::new(python)
        .arg(workspace().join("tests/python/http_tables.py"))
        .args([&format!("http://{}", web.address), "7", &unique_id.reveal()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_document_says_what_is_answered() {
    let python = python_with(&["schemathesis"]);
    let (mut cluster, web, unique_id) = hub(&[]);
    for n in 0..3 {
        web.put(&format!("/api/values/v{n}"), &[("content-type", "application/json")], b"[1]");
    }
    let schemathesis = python.with_file_name("schemathesis");
    let made = cluster.run(&["token", "--admin"]);
    let bearer = format!("Authorization: Bearer {}", String::from_utf8_lossy(&made.stdout).trim());
    let user = format!("7:{}", unique_id.reveal());
    // Who may not administer is told so ever later, so that is asked by who may; and all else by a client.
    for signed in [&["--exclude-path", "/api/admin", "--auth", &user], &["--include-path", "/api/admin", "-H", &bearer]]
    {
        let mut document = Command::new(&schemathesis);
        document
            .arg("--config-file")
            .arg(workspace().join("tests/python/schemathesis.toml"))
            .args(["run", &format!("http://{}/api/openapi.json", web.address)])
            .args(signed)
            .args(["--max-examples", pick("10", "200"), "--seed", "7", "--no-color"])
            .current_dir(cluster.path());
        let output = document.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(cluster.hub().is_running() && web.get("/healthz").status == 200);
        let tested = said.lines().find_map(|line| line.trim().strip_suffix(" passed")?.parse::<u32>().ok());
        assert!(said.contains("passed") || tested.is_some_and(|count| count > 10), "{said}");
    }
}

#[test]
fn m3_1_a_shell_script_with_curl_takes_part_as_it_is() {
    drop(curl());
    let (cluster, web, _) = hub(&[]);
    let run = || {
        let mut script = Command::new("sh");
        script.arg(workspace().join("examples/shell/http.sh")).arg("12").current_dir(cluster.path());
        script.env("HUB", format!("http://{}", web.address)).env("SECONDS_TO_FOLLOW", "1").env("no_proxy", "*");
        script.output().unwrap()
    };
    // The first time it gets its unique ID, the second time it has it.
    for _ in 0..2 {
        let output = run();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.starts_with("two\n") && said.contains("\"value\":\"two\""), "{said}");
    }
    assert_eq!(web.get("/api/values/demo/12").text(), "two");
    assert!(web.get("/api/clients?all=true").text().contains("\"id\":12"));
}
