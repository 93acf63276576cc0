//! What a hub takes before it says no, and what it counts.

use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::{Cluster, PATIENCE, curl, until, workspace};
use wire::message::{Ack, Code, Content, Refusal, ToClient, ToHub};

use crate::login::{empty_hub, stdout};
use crate::speaker::{Asked, Speaker};

/// What the hub says to a put: nothing, or why not.
fn put(speaker: &mut Speaker, name: &str, bytes: usize) -> Result<(), Refusal> {
    let value = Content { content_type: "text/plain".into(), bytes: vec![b'x'; bytes].into() };
    speaker.say(&ToHub::Put { req: 1, name: Bytes::copy_from_slice(name.as_bytes()), value: Some(value) });
    match speaker.hear() {
        ToClient::PutDone { .. } => Ok(()),
        ToClient::Failed { refusal, .. } => Err(refusal),
        other => panic!("{other:?}"),
    }
}

/// The samples of a metric, with their labels.
fn metric(cluster: &mut Cluster, name: &str) -> Vec<(String, f64)> {
    let line = cluster.hub().wait_for_line("http ", PATIENCE);
    let url = format!("{}metrics", line.split_whitespace().nth(1).unwrap());
    let token = stdout(cluster.run(&["token", "--json"]));
    let token: serde_json::Value = serde_json::from_str(&token).unwrap();
    let bearer = format!("authorization: Bearer {}", token["token"].as_str().unwrap());
    let page = stdout(curl().args(["-s", "-H", &bearer, &url]).output().unwrap());
    let samples = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let sample = |line: &str| {
        let (labels, value) = line.rsplit_once(' ').unwrap();
        (labels[name.len()..].to_owned(), value.parse().unwrap())
    };
    let samples: Vec<_> = samples.map(sample).collect();
    assert!(!samples.is_empty(), "no {name} in\n{page}");
    samples
}

fn of(samples: &[(String, f64)], label: &str) -> f64 {
    samples.iter().find(|(labels, _)| labels.contains(label)).map(|(_, value)| *value).unwrap()
}

#[test]
fn values_are_limited_in_number_in_size_and_in_all_and_what_is_refused_is_counted() {
    let limits = ["--max-values", "3", "--max-value-size", "1K", "--max-values-size", "2K", "--http", "127.0.0.1:0"];
    let mut cluster = empty_hub(&limits);
    let (mut speaker, _) = Speaker::logged_in(&cluster.address(), 1, None);
    put(&mut speaker, "a", 1024).unwrap();
    for (name, bytes, why) in [("b", 1025, "at most 1024 bytes"), ("b", 1024, "2 KiB")] {
        let refused = put(&mut speaker, name, bytes).unwrap_err();
        assert!(refused.code == Code::Limit && refused.text.contains(why), "{refused:?}");
    }
    put(&mut speaker, "b", 1).unwrap();
    put(&mut speaker, "c", 1).unwrap();
    let refused = put(&mut speaker, "d", 1).unwrap_err();
    assert!(refused.code == Code::Limit && refused.text.contains("already holds 3 values"), "{refused:?}");
    assert_eq!(of(&metric(&mut cluster, "lockstep_puts_refused_total"), ""), 3.0);
    assert_eq!(of(&metric(&mut cluster, "lockstep_limit"), "\"values\""), 3.0);
}

#[test]
fn so_many_clients_are_in_and_a_further_one_gets_in_once_one_has_left() {
    let mut cluster = empty_hub(&["--max-clients", "2", "--http", "127.0.0.1:0"]);
    let (first, key) = Speaker::logged_in(&cluster.address(), 1, None);
    let (_second, _) = Speaker::logged_in(&cluster.address(), 2, None);
    let third = || {
        let mut third = Speaker::greeted(&cluster.address());
        let Asked::Issued(_) = third.claim("auto", None) else { panic!("not issued") };
        third.say(&ToHub::Confirm);
        third
    };
    let refused = third().refused();
    assert!(refused.code == Code::Full && refused.retry_ms.is_some(), "{refused:?}");
    // Whoever is in may come back, as behind a cut connection.
    let (again, _) = Speaker::logged_in(&cluster.address(), 1, Some(&key));
    drop((first, again));
    let mut third = third();
    third.welcome();
    assert!(of(&metric(&mut cluster, "lockstep_refused_total"), "\"native\"") >= 1.0);
}

#[test]
fn a_client_that_puts_faster_than_it_may_is_slowed_down_and_nobody_else() {
    let cluster = empty_hub(&["--max-puts", "20"]);
    let (mut fast, _) = Speaker::logged_in(&cluster.address(), 1, None);
    let (mut slow, _) = Speaker::logged_in(&cluster.address(), 2, None);
    let begun = Instant::now();
    (0..30).for_each(|_| put(&mut fast, "x", 1).unwrap());
    // Twenty at once, and then one in fifty milliseconds.
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    fast.say(&ToHub::Put { req: 7, name: "y".into(), value: None });
    put(&mut slow, "x", 1).unwrap();
    stdout(cluster.run(&["put", "x", "by the hub's own machine"]));
}

#[test]
fn one_address_has_so_many_places_before_the_login_and_whoever_logs_in_at_once_gets_in() {
    let mut cluster = empty_hub(&["--max-strangers-per-address", "5", "--http", "127.0.0.1:0"]);
    let waiting: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(cluster.address()).unwrap()).collect();
    let (mut speaker, _) = Speaker::logged_in(&cluster.address(), 1, None);
    put(&mut speaker, "x", 1).unwrap();
    until(PATIENCE, "those who waited longest to be cut", || {
        of(&metric(&mut cluster, "lockstep_strangers_cut_total"), "") >= 15.0
    });
    assert!(of(&metric(&mut cluster, "lockstep_strangers"), "") <= 6.0);
    drop(waiting);
}

#[test]
fn how_far_behind_somebody_is_and_what_was_skipped_is_counted_for_each_transport() {
    let mut cluster = empty_hub(&["--http", "127.0.0.1:0"]);
    let (mut behind, _) = Speaker::logged_in(&cluster.address(), 1, None);
    behind.say(&ToHub::Follow { fid: 1, board: "data".into(), pattern: "*".into(), cursor: None });
    let (mut putting, _) = Speaker::logged_in(&cluster.address(), 2, None);
    (0..10).for_each(|n| put(&mut putting, &format!("n{n}"), 1).unwrap());
    // It acknowledges the first of what it was sent, and nothing after it.
    let version = loop {
        match behind.hear() {
            ToClient::Following { epoch, run, .. } => break wire::message::Version { epoch, run, seq: 1 },
            _ => continue,
        }
    };
    behind.say(&ToHub::Ack(Ack { entries: 1, ..Ack::of(1, version, true) }));
    until(PATIENCE, "the lag to be told", || {
        of(&metric(&mut cluster, "lockstep_clients_lag_versions"), "\"native\"") == 9.0
    });
    assert!(of(&metric(&mut cluster, "lockstep_clients_lag_seconds"), "\"native\"") > 0.0);
    for metric_name in ["lockstep_conflated_total", "lockstep_refused_total", "lockstep_clients_active"] {
        let samples = metric(&mut cluster, metric_name);
        for transport in ["native", "http", "socketio", "text"] {
            of(&samples, &format!("\"{transport}\""));
        }
    }
}

#[test]
fn the_table_of_limits_is_the_help() {
    let help = stdout(support::lockstep().args(["hub", "--help"]).output().unwrap());
    let table = fs::read_to_string(workspace().join("docs/operating.md")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `--max-")).collect();
    assert_eq!(rows.len(), help.matches("--max-").count(), "{rows:#?}");
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let flag = cells[1].trim_matches('`').split(' ').next().unwrap();
        let told = help.split(&format!("{flag} ")).nth(1).and_then(|rest| rest.split("[default: ").nth(1)).unwrap();
        assert_eq!(told.split(']').next().unwrap(), cells[2].trim_matches('`'), "{flag}");
    }
}
