//! M3.6: what the hub knows stands in files that pandas reads as they are.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE, lapse, lockstep_at, pick, python, until, workspace};

use crate::speaker::{Asked, Speaker, unique_id_in};

const TABLES: [&str; 3] = ["clients.csv", "server.csv", "values.csv"];

fn table(cluster: &Cluster, name: &str) -> String {
    fs::read_to_string(cluster.hub_data().join(name)).unwrap()
}

fn put(cluster: &Cluster, name: &str, value: &[u8]) {
    let mut command = lockstep_at(cluster.hub_home());
    // Behind the flags, as a name may look like one.
    command.args(["put", "--data"]).arg(cluster.hub_data()).args(["--", name, "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), value).unwrap();
    assert!(child.wait().unwrap().success());
}

/// What is put into values.csv, and what pandas has to make of it.
fn odd_values() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("number", b"42.5".to_vec()),
        ("text", b"plain".to_vec()),
        ("quotes", br#"a "quoted", and comma"#.to_vec()),
        ("lines", b"one\ntwo\r\nthree\rfour".to_vec()),
        ("unicode \u{e9}\u{1f600}", "h\u{e4}llo \u{1f600}".as_bytes().to_vec()),
        ("bytes", vec![0, 255, 1, 254, 10, 13, 34]),
        ("nul", b"a\0b".to_vec()),
        ("formula", b"=1+1".to_vec()),
        ("spaces", b"  both sides  ".to_vec()),
        ("empty", Vec::new()),
        ("looks like bytes", b"base64:AAAA".to_vec()),
        ("long", vec![b'x'; 200_000]),
        ("a,b\"c", b"odd name".to_vec()),
    ]
}

/// A hub with three agents, one of them away, one revoked client, one whose login was cut, and values of all kinds. pandas
/// reads the three tables as they are and computes with them; the script holds them against `clients list --json` and the
/// values that were put.
#[test]
fn m3_6_pandas_reads_the_tables_and_computes_with_them() {
    let python = python();
    let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &[]).with_agents(3);
    drop(Speaker::logged_in(&cluster.address(), 40, None));
    assert!(cluster.run(&["clients", "revoke", "40"]).status.success());
    assert!(matches!(Speaker::greeted(&cluster.address()).claim("41", None), Asked::Issued(_)));
    cluster.kill_agent(3);
    let mut expected = serde_json::Map::new();
    for (name, value) in odd_values() {
        put(&cluster, name, &value);
        expected.insert(name.to_owned(), value.iter().map(|byte| u64::from(*byte)).collect::<Vec<_>>().into());
    }
    // What pandas takes for missing, as a name and as a value, by its own account.
    let list = "from pandas._libs.parsers import STR_NA_VALUES; print('\\n'.join(filter(None, STR_NA_VALUES)))";
    let missing = Command::new(&python).args(["-c", list]).output().unwrap();
    let missing = String::from_utf8(missing.stdout).unwrap();
    assert!(missing.lines().count() > 10, "{missing}");
    for text in missing.lines() {
        put(&cluster, text, text.as_bytes());
        expected.insert(text.to_owned(), text.bytes().map(u64::from).collect::<Vec<_>>().into());
    }
    put(&cluster, "removed", b"x");
    assert!(cluster.run(&["put", "removed", "--remove"]).status.success());
    let rows = || {
        let rows = cluster.run(&["clients", "list", "--all", "--json"]).stdout;
        String::from_utf8(rows)
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect::<Vec<serde_json::Value>>()
    };
    // A second for the tables, as promised; then nothing moves any more.
    until(PATIENCE, "the killed one to leave", || rows()[2]["state"].as_str().unwrap().eq_ignore_ascii_case("away"));
    cluster.settle();
    lapse(Duration::from_secs(1), "the second that the tables are promised within");
    let scene =
        serde_json::json!({ "values": expected, "clients": rows(), "port": cluster.address().rsplit(':').next() });
    let scene_path = cluster.path().join("scene.json");
    fs::write(&scene_path, scene.to_string()).unwrap();
    let mut script = Command::new(&python);
    script.arg(workspace().join("tests/python/tables.py")).arg(cluster.hub_data()).arg(&scene_path);
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), table(&cluster, "clients.csv"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("5 clients"), "{output:?}");
}

#[test]
fn m3_6_a_change_is_in_the_tables_within_a_second() {
    let mut cluster = Cluster::start(|_| {}, &[]).with_agents(1);
    let second = Duration::from_secs(1);
    let soon = |cluster: &Cluster, what: &str, name: &str, is_there: &dyn Fn(&str) -> bool| {
        let start = Instant::now();
        until(PATIENCE, what, || is_there(&table(cluster, name)));
        assert!(start.elapsed() < second, "{what} took {:?}", start.elapsed());
    };
    let in_row = |table: &str, id: u64, word: &str| {
        table.lines().any(|line| line.starts_with(&format!("{id},")) && line.contains(word))
    };
    for n in 0..3 {
        let value = format!("value{n}");
        assert!(cluster.run(&["put", "x", &value]).status.success());
        soon(&cluster, "a put", "values.csv", &|table| table.contains(&value));
    }
    assert!(cluster.run(&["put", "x", "--remove"]).status.success());
    soon(&cluster, "a removed value", "values.csv", &|table| table.lines().count() == 1);
    // Nothing moves, so nothing else brings this one along.
    lapse(second, "for all that could still be on its way to the tables");
    let mut cut = Speaker::greeted(&cluster.address());
    assert!(matches!(cut.claim("8", None), Asked::Issued(_)));
    soon(&cluster, "an issued unique ID", "clients.csv", &|table| in_row(table, 8, "provisional"));
    let (speaker, _) = Speaker::logged_in(&cluster.address(), 9, None);
    soon(&cluster, "a login", "clients.csv", &|table| in_row(table, 9, "active"));
    soon(&cluster, "a login", "server.csv", &|table| table.lines().nth(1).is_some_and(|line| line.contains(",2,")));
    drop(speaker);
    soon(&cluster, "a leave", "clients.csv", &|table| in_row(table, 9, "away"));
    assert!(cluster.run(&["clients", "revoke", "9"]).status.success());
    soon(&cluster, "a revocation", "clients.csv", &|table| in_row(table, 9, "revoked"));
    cluster.agent(1).pause();
    fs::write(cluster.share().join("f"), "new").unwrap();
    soon(&cluster, "not being in sync", "clients.csv", &|table| in_row(table, 1, "false"));
    cluster.agent(1).resume();
    cluster.settle();
    soon(&cluster, "being in sync", "clients.csv", &|table| in_row(table, 1, "true"));
    cluster.stop_hub();
    let clients = table(&cluster, "clients.csv");
    assert!(!clients.contains("active") && in_row(&clients, 1, "away"), "{clients}");
    assert!(table(&cluster, "server.csv").lines().nth(1).unwrap().contains(",0,"));
}

/// Reads a table again and again until told to stop; what was wrong with it, and how many versions were seen.
fn watch_table(path: &Path, over: &AtomicBool) -> (Option<String>, usize) {
    let mut seen = BTreeSet::new();
    while !over.load(Ordering::Relaxed) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return (Some(error.to_string()), seen.len()),
        };
        let whole = text.starts_with("name,version") && text.ends_with('\n');
        let mut rounds = text.lines().skip(1).map(|line| line.rsplit(',').next().unwrap_or_default());
        let same = rounds.next().is_none_or(|first| rounds.all(|round| round == first));
        if !whole || !same {
            return (Some(format!("a mixture of {} bytes", text.len())), seen.len());
        }
        seen.insert(text);
    }
    (None, seen.len())
}

#[test]
fn m3_6_a_reader_sees_each_table_whole_and_never_missing() {
    let cluster = Cluster::start(|_| {}, &[]);
    let (mut speaker, _) = Speaker::logged_in(&cluster.address(), 1, None);
    for name in 0..50 {
        speaker.put(&format!("name{name}"), "0").unwrap();
    }
    let path = cluster.hub_data().join("values.csv");
    until(PATIENCE, "the table", || fs::read_to_string(&path).is_ok_and(|text| text.lines().count() == 51));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&path).expect("the table is never missing");
                assert!(text.starts_with("name,version") && text.ends_with('\n'), "torn: {text}");
                assert_eq!(text.lines().count(), 51, "{text}");
                seen += 1;
            }
            seen
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(pick(3, 60)) {
            for name in 0..50 {
                speaker.put(&format!("name{name}"), &format!("{:?}", start.elapsed())).unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
        let reads = reader.join().unwrap();
        assert!(reads > 500, "{reads} reads prove little");
    });
    // The same eyes see a writer that writes in place.
    let (dir, over) = (support::scratch(), AtomicBool::new(false));
    let torn = dir.join("torn.csv");
    let rows = |round: usize| format!("name,version\n{}", format!("x,{round}\n").repeat(20_000));
    fs::write(&torn, rows(0)).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| watch_table(&torn, &over));
        let start = Instant::now();
        for round in 1.. {
            fs::write(&torn, rows(round)).unwrap();
            if reader.is_finished() || start.elapsed() > PATIENCE {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap().0.is_some(), "a table written in place was not seen");
    });
}

/// Vitals come every second; the tables are written only when something in them changed.
#[test]
fn m3_6_many_changes_are_one_write_and_no_change_is_none() {
    let cluster = Cluster::start(|_| {}, &[]).with_agents(2);
    let inode =
        |name: &str| fs::metadata(cluster.hub_data().join(name)).map(|m| (m.ino(), m.mtime(), m.mtime_nsec())).unwrap();
    let in_sync = || table(&cluster, "clients.csv").lines().filter(|line| line.contains(",true,")).count();
    until(PATIENCE, "both to be in sync", || in_sync() == 2);
    lapse(Duration::from_secs(1), "for the last write that was due");
    let before = TABLES.map(inode);
    lapse(Duration::from_secs(3), "for some vitals, which are to change nothing");
    assert_eq!(TABLES.map(inode), before, "nothing changed but vitals");
    let (mut speaker, _) = Speaker::logged_in(&cluster.address(), 9, None);
    let (start, mut writes, mut puts, mut last) = (Instant::now(), 0, 0, inode("values.csv"));
    while start.elapsed() < Duration::from_secs(2) {
        speaker.put("x", &puts.to_string()).unwrap();
        puts += 1;
        let now = inode("values.csv");
        writes += usize::from(now != last);
        last = now;
    }
    assert!(puts > 20 && (1..=10).contains(&writes), "{puts} puts made {writes} writes");
}

#[test]
fn m3_6_no_secret_is_in_a_table_and_nobody_else_reads_them() {
    let mut cluster = Cluster::start(|_| {}, &["--enrol", "invite"]);
    cluster.start_agent(1);
    cluster.settle();
    let unique_id = unique_id_in(&cluster.agent_home(1).join("agent")).reveal();
    let invite = wire::link::JoinLink::parse(&cluster.link()).unwrap().invite().unwrap().reveal();
    let secrets = [unique_id, invite];
    let holds_one =
        |text: &str| secrets.iter().any(|secret| text.contains(&secret[secret.len() - 24..secret.len() - 4]));
    assert!(holds_one(&format!("x,{},y", secrets[0])), "the check sees what it is to see");
    let paths: Vec<PathBuf> = TABLES.iter().map(|name| cluster.hub_data().join(name)).collect();
    for path in &paths {
        assert!(!holds_one(&fs::read_to_string(path).unwrap()), "{}", path.display());
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o077, 0, "{}", path.display());
    }
    let exported = lockstep_at(cluster.hub_home())
        .args(["clients", "export", "--format", "json", "--data"])
        .arg(cluster.hub_data())
        .output();
    assert!(!holds_one(&String::from_utf8(exported.unwrap().stdout).unwrap()));
}
