//! What a program does that speaks HTTP and nothing of ours: values, by request, by waiting, and as a stream of events.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE, until};
use wire::unique_id::UniqueId;

use crate::speaker::Speaker;
use crate::web::Web;

/// A hub that serves HTTP, and one client of it.
pub(crate) fn hub(more: &[&str]) -> (Cluster, Web, UniqueId) {
    let args: Vec<&str> = ["--http", "127.0.0.1:0"].iter().chain(more).copied().collect();
    let mut cluster = Cluster::start(|share| std::fs::write(share.join("f"), "x").unwrap(), &args);
    let web = Web::of(&mut cluster);
    let (speaker, unique_id) = Speaker::logged_in(&cluster.address(), 7, None);
    drop(speaker);
    until(PATIENCE, "the client to leave", || active(&cluster).is_empty());
    let web = web.basic(&unique_id);
    (cluster, web, unique_id)
}

/// The active clients with their transports.
pub(crate) fn active(cluster: &Cluster) -> Vec<(u64, String)> {
    let rows = String::from_utf8(cluster.run(&["clients", "list", "--json"]).stdout).unwrap();
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        (row["id"].as_u64().unwrap(), row["transport"].as_str().unwrap().to_owned())
    };
    rows.lines().map(row).collect()
}

#[test]
fn m3_7_a_value_is_put_got_changed_and_removed_over_http() {
    let (mut cluster, web, _) = hub(&[]);
    let target = "/api/values/lab/%FF%20%2F?x=1";
    assert_eq!(web.get(target).problem(), "not_found");
    let put = web.put(target, &[("content-type", "application/geo+json")], b"{\"a\": 1}");
    assert_eq!(put.status, 201, "{put:?}");
    let etag = put.headers["etag"].clone();
    assert_eq!(etag, format!("\"{}\"", put.json()["version"].as_str().unwrap()));
    assert_eq!(put.json()["path"], "/api/values/lab/%FF%20/");
    let got = web.get(target);
    assert_eq!((got.status, got.text().as_str()), (200, "{\"a\": 1}"));
    assert_eq!((&got.headers["etag"], got.headers["content-type"].as_str()), (&etag, "application/geo+json"));
    // Nothing is sent twice.
    for tag in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let same = web.send("GET", target, &[("if-none-match", &tag)], b"");
        assert_eq!((same.status, same.body.len(), &same.headers["etag"]), (304, 0, &etag));
    }
    assert_eq!(web.send("GET", target, &[("if-none-match", "\"x\"")], b"").status, 200);
    // It is on disk before it was answered, and stays the same version.
    cluster.kill_hub();
    cluster.start_hub();
    let web = web.again(&mut cluster);
    assert_eq!(web.get(target).headers["etag"], etag);
    // Of two who saw one version, one changes it.
    let second = web.put(target, &[("if-match", &etag)], b"2");
    assert_eq!(second.status, 200, "{second:?}");
    assert_eq!(web.put(target, &[("if-match", &etag)], b"3").problem(), "changed");
    assert_eq!(web.put(target, &[("if-none-match", "*")], b"3").status, 412);
    assert_eq!(web.send("DELETE", target, &[("if-match", &etag)], b"").status, 412);
    assert_eq!(web.get(target).text(), "2");
    assert_eq!(web.send("DELETE", target, &[("if-match", &second.headers["etag"])], b"").status, 204);
    assert_eq!(web.send("DELETE", target, &[], b"").problem(), "not_found");
    assert_eq!(web.put(target, &[("if-match", "*")], b"3").status, 412);
    assert_eq!(web.put(target, &[("if-none-match", "*")], b"3").status, 201);
    assert_eq!(web.send("HEAD", target, &[], b"").status, 200);
    // The other transports see the same.
    let got = cluster.run(&["get", "lab/x"]);
    assert!(!got.status.success());
    assert!(web.put("/api/values/lab/x", &[], b"4").status == 201);
    assert_eq!(cluster.run(&["get", "lab/x"]).stdout, b"4");
}

#[test]
fn what_is_too_much_is_refused_before_it_is_read() {
    let (mut cluster, web, _) = hub(&[]);
    let value = vec![b'x'; 256 * 1024];
    assert_eq!(web.put("/api/values/most", &[], &value).status, 201);
    assert_eq!(web.get("/api/values/most").body, value);
    let more = vec![b'x'; 256 * 1024 + 1];
    assert_eq!(web.put("/api/values/more", &[], &more).problem(), "limit");
    // Said at the head, though nothing of it came; and of one whose length nobody told, once it is too long.
    let authorization = web.head_line();
    let head = format!("PUT /api/values/more HTTP/1.1\r\nhost: {}\r\n{authorization}", web.address);
    assert_eq!(web.raw(format!("{head}content-length: 1000000000000\r\n\r\n").as_bytes()).status, 413);
    let chunk = format!("{:x}\r\n{}\r\n", 65536, "x".repeat(65536));
    let one_too_many = format!("{head}transfer-encoding: chunked\r\n\r\n{}1\r\nx", chunk.repeat(4));
    assert_eq!(web.raw(one_too_many.as_bytes()).problem(), "limit");
    let rss = cluster.hub().rss_bytes().unwrap();
    let mut endless = web.connect();
    endless.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    while endless.write_all(chunk.as_bytes()).is_ok() {}
    assert!(cluster.hub().rss_bytes().unwrap() < rss + (16 << 20));
    assert_eq!(web.get("/api/values/more").status, 404);
    // Names, types and heads have their limits too.
    let name = |bytes: usize| format!("/api/values/{}", "n".repeat(bytes));
    assert_eq!(web.put(&name(256), &[], b"x").status, 201);
    assert_eq!(web.put(&name(257), &[], b"x").status, 414);
    assert_eq!(web.put("/api/values/t", &[("content-type", &"t".repeat(128))], b"x").status, 400);
    assert_eq!(web.put("/api/values/t", &[("content-type", "t\u{e4}")], b"x").status, 400);
    assert_eq!(web.put("/api/values/%zz", &[], b"x").problem(), "bad_request");
    let long = web.send("GET", "/api/status", &[("x", &"x".repeat(64 * 1024))], b"");
    assert!(matches!(long.status, 431 | 400), "{long:?}");
    assert_eq!(web.send("POST", "/api/values/t", &[], b"x").problem(), "bad_method");
}

#[test]
fn m3_7_a_list_a_long_poll_and_a_stream_give_the_same_by_one_cursor() {
    let (_cluster, web, _) = hub(&[]);
    for n in 0..30 {
        web.put(&format!("/api/values/a/{n:02}"), &[("content-type", "application/json")], format!("{n}").as_bytes());
    }
    web.put("/api/values/b", &[], b"\xff\x00");
    // In pages, each name once.
    let (mut names, mut since) = (Vec::new(), String::new());
    loop {
        let page = web.get(&format!("/api/values?prefix=a%2F&limit=7&since={since}")).json();
        let values = page["values"].as_array().unwrap();
        assert!(values.len() <= 7);
        names.extend(values.iter().map(|value| value["name"].as_str().unwrap().to_owned()));
        assert!(values.iter().all(|value| value["encoding"] == "json" && value["value"].is_u64()));
        since = page["next"].as_str().unwrap().to_owned();
        if page["current"] == true {
            break;
        }
    }
    assert_eq!(names, (0..30).map(|n| format!("a/{n:02}")).collect::<Vec<_>>());
    // What is waited for comes when it is put; what is not, does not.
    let begun = Instant::now();
    let idle = web.get(&format!("/api/values?prefix=a%2F&wait=1&since={since}")).json();
    assert!(idle["values"].as_array().unwrap().is_empty() && begun.elapsed() >= Duration::from_secs(1));
    let poll = {
        let (web, target) = (web.clone(), format!("/api/values?prefix=a%2F&wait=60&since={since}"));
        std::thread::spawn(move || web.get(&target).json())
    };
    web.put("/api/values/c", &[], b"another");
    web.send("DELETE", "/api/values/a/03", &[], b"");
    let told = poll.join().unwrap();
    assert_eq!(told["values"][0]["name"], "a/03");
    assert_eq!(told["values"][0]["gone"], true);
    assert_eq!((&told["current"], &told["reset"]), (&true.into(), &false.into()));
    let since = told["next"].as_str().unwrap();
    // The stream goes on where the poll ended, and the other way round.
    let target = format!("/api/values?prefix=a%2F&since={since}");
    let mut events = web.events(&target, None);
    web.put("/api/values/a/04", &[("content-type", "text/plain")], b"four\nlines");
    let event = events.wait_for(|event| event.kind == "value");
    assert_eq!(event.data["value"], "four\nlines");
    assert_eq!((&event.data["encoding"], &event.data["changed_by"]), (&"text".into(), &7.into()));
    web.put("/api/values/a/05", &[], b"\xff");
    let page = web.get(&format!("/api/values?prefix=a%2F&since={}", event.id)).json();
    assert_eq!(page["values"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(page["values"][0]["value"], "/w==");
    // The header of a browser that comes back wins over the address it came to.
    let (missed, _) = web.events(&target, Some(&event.id)).until_current();
    assert_eq!(missed.iter().map(|event| event.data["path"].clone()).collect::<Vec<_>>(), ["/api/values/a/05"]);
    // What is no cursor is told; one of another prefix begins anew, and says so.
    assert_eq!(web.get("/api/values?since=nonsense").problem(), "bad_cursor");
    for bad in ["wait=61", "wait=-1", "wait=x", "limit=1001", "prefix=%zz", "wait=1&wait=2"] {
        assert_eq!(web.get(&format!("/api/values?{bad}")).status, 400, "{bad}");
    }
    let (all, _) = web.events("/api/values", Some(&event.id)).until_current();
    assert_eq!((all[0].kind.as_str(), all.len()), ("reset", 1 + 29 + 2));
}

/// Cut after each single event, with changes in between: what comes back is exactly what is the newest of what was missed.
#[test]
fn m3_7_a_stream_that_is_cut_anywhere_resumes_with_exactly_the_newest_of_what_it_missed() {
    let (mut cluster, mut web, _) = hub(&[]);
    let mut held = std::collections::BTreeMap::new();
    let mut last: Option<String> = None;
    for round in 0..24 {
        for n in 0..=round % 5 {
            let name = format!("/api/values/n{}", (round * 7 + n * 3) % 11);
            if (round + n) % 4 == 3 {
                web.send("DELETE", &name, &[], b"");
            } else {
                web.put(&name, &[("content-type", "text/plain")], format!("{round}.{n}").as_bytes());
            }
        }
        if round == 12 {
            cluster.kill_hub();
            cluster.start_hub();
            web = web.again(&mut cluster);
        }
        let mut events = web.events("/api/values", last.as_deref());
        for _ in 0..=round % 3 {
            let event = events.next().unwrap();
            let name = event.data["name"].as_str().map(str::to_owned);
            match event.kind.as_str() {
                "reset" => held.clear(),
                "value" => drop(held.insert(name.unwrap(), event.data["value"].clone())),
                "gone" => drop(held.remove(&name.unwrap())),
                _ => {}
            }
            last = Some(event.id);
            if event.kind == "current" {
                break;
            }
        }
    }
    let (missed, id) = web.events("/api/values", last.as_deref()).until_current();
    for event in missed {
        assert_ne!(event.kind, "reset", "nothing was lost, so nothing begins anew");
        let name = event.data["name"].as_str().unwrap().to_owned();
        match event.kind.as_str() {
            "value" => drop(held.insert(name, event.data["value"].clone())),
            _ => drop(held.remove(&name)),
        }
    }
    let page = web.get("/api/values").json();
    let all = page["values"].as_array().unwrap().iter();
    let all: std::collections::BTreeMap<String, serde_json::Value> =
        all.map(|v| (v["name"].as_str().unwrap().to_owned(), v["value"].clone())).collect();
    assert_eq!(held, all);
    // Nothing was missed: nothing comes but that.
    assert!(web.events("/api/values", Some(&id)).until_current().0.is_empty());
}

/// Somebody who does not read while a value changes a thousand times: the hub stays small, the others notice nothing, and
/// once it reads, it gets the newest soon and never all of them.
#[test]
fn m3_7_a_reader_that_stands_still_gets_the_newest_and_nothing_piles_up() {
    let (mut cluster, web, _) = hub(&[]);
    let mut slow = web.events("/api/values", None);
    slow.until_current();
    let mut quick = web.events("/api/values", None);
    quick.until_current();
    let before = cluster.hub().rss_bytes().unwrap();
    let filler = "x".repeat(60_000);
    let puts = 400;
    for n in 0..puts {
        let body = format!("{{\"n\": {n}, \"filler\": \"{filler}\"}}");
        assert!(web.put("/api/values/hot", &[("content-type", "application/json")], body.as_bytes()).status < 300);
        let event = quick.wait_for(|event| event.kind == "value");
        assert_eq!(event.data["value"]["n"], n, "who reads gets each");
    }
    let grown = cluster.hub().rss_bytes().unwrap().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes for 24 MB that were not read");
    let mut seen = Vec::new();
    while seen.last() != Some(&(puts - 1)) {
        seen.push(slow.wait_for(|event| event.kind == "value").data["value"]["n"].as_u64().unwrap());
    }
    assert!(seen.len() < 150 && seen.is_sorted(), "{} of {puts} values came: {seen:?}", seen.len());
}

#[test]
fn m3_5_an_open_stream_is_a_sign_of_life_and_its_end_is_noticed() {
    let (cluster, web, unique_id) = hub(&[]);
    let mut events = web.events("/api/values", None);
    events.until_current();
    assert_eq!(active(&cluster), [(7, "http".to_owned())]);
    // A single request is none, and a second stream is the same client.
    assert_eq!(web.get("/api/status").json()["clients_active"], 1);
    let mut second = web.events("/api/values", None);
    second.until_current();
    drop(events);
    until(PATIENCE, "the first to be noticed gone", || web.get("/api/status").json()["clients_active"] == 1);
    web.put("/api/values/still", &[], b"here");
    second.wait_for(|event| event.kind == "value");
    assert_eq!(active(&cluster), [(7, "http".to_owned())]);
    // A login of the same client takes the place, and disturbs no stream; when it leaves, the stream still is there.
    let (speaker, _) = Speaker::logged_in(&cluster.address(), 7, Some(&unique_id));
    assert_eq!(active(&cluster), [(7, "native".to_owned())]);
    web.put("/api/values/still", &[], b"there");
    second.wait_for(|event| event.kind == "value");
    drop(speaker);
    until(PATIENCE, "the stream to be what is left", || active(&cluster) == [(7, "http".to_owned())]);
    drop(second);
    until(PATIENCE, "the list to be empty", || active(&cluster).is_empty());
    // Revoked: cut within a second, and not let in again.
    let mut last = web.events("/api/values", None);
    last.until_current();
    assert!(cluster.run(&["clients", "revoke", "7"]).status.success());
    assert!(last.ends(Duration::from_secs(2)));
    assert_eq!(web.get("/api/status").problem(), "not_proven");
}

#[test]
fn m3_5_a_reader_that_takes_nothing_leaves_the_list_of_active_clients() {
    let (cluster, web, _) = hub(&[]);
    let mut stuck = web.events("/api/values", None);
    stuck.until_current();
    let (filler, begun) = (vec![b'x'; 200_000], Instant::now());
    // What the kernel takes for it is not taken by it.
    while !active(&cluster).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(45), "a stuck reader is still told as active");
        assert!(web.put("/api/values/big", &[], &filler).status < 300);
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut rest = Vec::new();
    stuck.into_inner().read_to_end(&mut rest).ok();
}
