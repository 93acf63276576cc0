//! What a session is told and may: its shares, its vitals, its bulk connections.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Cluster, PATIENCE, until};
use wire::message::{Code, Purpose, ToClient, ToHub, Vitals};

use crate::speaker::{Asked, Heard, Speaker, hello};

fn follow(fid: u32, board: &str) -> ToHub {
    ToHub::Follow { fid, board: board.into(), pattern: "*".into(), cursor: None }
}

/// The shares that a client keeps, as `clients list` tells them.
fn shares(cluster: &Cluster, id: u64) -> Vec<String> {
    let output = cluster.run(&["clients", "show", &id.to_string(), "--json"]);
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    row["shares"].as_array().unwrap().iter().map(|share| share["name"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the hub has handled all that was said.
fn handled(speaker: &mut Speaker) {
    speaker.say(&ToHub::Ping { nonce: 4711 });
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Heard::Said(message) = speaker.listen(PATIENCE)
            && *message == (ToClient::Pong { nonce: 4711 })
        {
            return;
        }
    }
    panic!("no pong");
}

/// A session that has just come back still keeps what it kept, until it has said all that it follows.
#[test]
fn a_client_of_two_shares_never_looks_as_if_it_had_one() {
    let other = support::scratch();
    fs::write(other.join("g"), "y").unwrap();
    let share = format!("two={}", other.display());
    let cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &["--share", &share]);
    let keeps = |names: &[&str]| until(PATIENCE, "the shares", || shares(&cluster, 9) == names);
    let (mut speaker, unique_id) = Speaker::logged_in(&cluster.address(), 9, None);
    speaker.say(&follow(1, "share/share"));
    speaker.say(&follow(2, "share/two"));
    speaker.say(&ToHub::Vitals(Vitals::default()));
    keeps(&["share", "two"]);
    drop(speaker);
    let (mut speaker, _) = Speaker::logged_in(&cluster.address(), 9, Some(&unique_id));
    speaker.say(&follow(1, "share/share"));
    handled(&mut speaker);
    assert_eq!(shares(&cluster, 9), ["share", "two"], "it is only about to follow the second");
    let waited = cluster.run(&["wait", "two", "--timeout", "100ms"]);
    assert!(!waited.status.success(), "{waited:?}");
    // Now it has said all, and the second was not among it.
    speaker.say(&ToHub::Vitals(Vitals::default()));
    handled(&mut speaker);
    keeps(&["share"]);
    // One of two follows of a board ends: the other still counts.
    speaker.say(&follow(3, "share/share"));
    speaker.say(&ToHub::Unfollow { fid: 3 });
    handled(&mut speaker);
    assert_eq!(shares(&cluster, 9), ["share"]);
    speaker.say(&follow(4, "share/two"));
    handled(&mut speaker);
    keeps(&["share", "two"]);
}

#[test]
fn vitals_as_fast_as_they_can_be_sent_are_cut_to_a_few_a_second() {
    let cluster = Cluster::start(|_| {}, &[]);
    let (mut watcher, _) = Speaker::logged_in(&cluster.address(), 8, None);
    watcher.say(&ToHub::Follow { fid: 1, board: "fleet".into(), pattern: "vitals/9".into(), cursor: None });
    let (mut hostile, _) = Speaker::logged_in(&cluster.address(), 9, None);
    let start = Instant::now();
    for number in 0..20_000 {
        hostile.say(&ToHub::Vitals(Vitals { at_ms: number, ..Vitals::default() }));
    }
    handled(&mut hostile);
    let seconds = start.elapsed().as_secs() + 1;
    let mut seqs = Vec::new();
    while let Heard::Said(message) = watcher.listen(Duration::from_millis(300)) {
        let ToClient::Batch(batch) = *message else { continue };
        seqs.extend(batch.records.iter().map(|record| record.seq));
    }
    // The board's numbers count what was put, also what its followers were spared.
    let (first, last) = (*seqs.first().expect("some are heard"), *seqs.last().unwrap());
    assert!(last - first <= 8 + 4 * (seconds + 1), "{} of 20,000 in {seconds} s", last - first);
}

/// A bulk connection that asks for what there is not is told so.
#[test]
fn a_bulk_connection_that_names_an_unknown_share_is_told_what_there_is() {
    let cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &[]);
    let mut session = Speaker::greeted(&cluster.address());
    let Asked::Issued(_) = session.claim("9", None) else { panic!("not issued") };
    session.say(&ToHub::Confirm);
    let token = session.welcome().token;
    for (said, code, word) in [
        (ToHub::Want { share: "nope".into(), contents: vec![[0; 32]] }, Code::NotFound, "hub shares: share"),
        (ToHub::Ping { nonce: 1 }, Code::Protocol, "bulk"),
    ] {
        let mut bulk = Speaker::connect(&cluster.address());
        bulk.say(&hello(Purpose::Bulk { token }));
        assert!(matches!(bulk.hear(), ToClient::Hello { .. }));
        assert_eq!(bulk.hear(), ToClient::Attached);
        bulk.say(&said);
        let refusal = bulk.refused();
        assert!(refusal.code == code && refusal.text.contains(word), "{refusal:?}");
        assert!(bulk.is_cut(PATIENCE));
    }
    // The session that they belong to goes on.
    handled(&mut session);
}
