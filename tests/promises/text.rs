//! Lines of text: whoever has `nc`, or a program of ten lines, is a client like any other (M3.1 to M3.7).

mod abuse;
mod shell;
pub(crate) mod typist;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE, Rng, for_each_seed, pick, until};
use wire::id::ClientId;
use wire::message::{Batch, Content, ToClient, ToHub};
use wire::unique_id::UniqueId;

use crate::http::hub;
use crate::login::{hub_log, roster, state, stdout};
use crate::speaker::Speaker;
use typist::{Typist, address_of, text_hub};

/// What is no ID, and a word of the reason that is given.
const NO_IDS: [(&str, &str); 8] = [
    ("seven", "digits"),
    ("", "needed"),
    ("7.0", "point"),
    ("-7", "sign"),
    ("007", "zero"),
    ("7 8", "blank"),
    ("9007199254740992", "9007199254740991"),
    ("\u{7f}", "digits"),
];

fn active(cluster: &Cluster) -> Vec<u64> {
    roster(cluster).into_iter().filter(|(_, state)| state == "active").map(|(id, _)| id).collect()
}

#[test]
fn m3_2_m3_3_m3_4_asked_for_an_integer_given_a_unique_id_and_asked_for_it_ever_after() {
    let (cluster, address) = text_hub(&[]);
    for (text, reason) in NO_IDS {
        let mut typist = Typist::connect(&address);
        typist.expect("id?");
        // Three times, each with the reason, and asked again in between.
        for again in [true, true, false] {
            typist.type_line(text);
            let refused = typist.expect("refused bad_id");
            assert!(refused.contains(reason), "{text}: {refused}");
            if again {
                typist.expect("id?");
            }
        }
        assert!(typist.rest().is_empty(), "{text}");
    }
    let (typist, unique_id) = Typist::enrolled(&address, 7);
    assert!(unique_id.starts_with("ls-7-"), "{unique_id}");
    drop(typist);
    // Mistyped, another's, and not lost at all.
    let (_other, others) = Typist::enrolled(&address, 8);
    let mut typist = Typist::connect(&address);
    typist.type_line("7");
    typist.expect("id?");
    for wrong in [&unique_id[..unique_id.len() - 1], &others] {
        typist.expect("unique_id?");
        typist.type_line(wrong);
        typist.expect("refused not_proven");
    }
    typist.expect("unique_id?");
    typist.type_line("lost");
    typist.expect("refused not_proven");
    assert!(typist.rest().is_empty());
    // Well formed and wrong.
    let mut typist = Typist::connect(&address);
    typist.write(format!("7\n{}\n", UniqueId::fresh(ClientId::new(7).unwrap()).unwrap().reveal()).as_bytes());
    for word in ["id?", "unique_id?", "refused not_proven"] {
        typist.expect(word);
    }
    assert!(typist.rest().is_empty());
    drop(Typist::logged_in(&address, 7, &unique_id));
    // As it is typed on paper: small letters, blanks around it, and the line ends of Windows.
    let mut typist = Typist::connect(&address);
    typist.write(format!("7\r\n  {}  \r\n", unique_id.to_lowercase()).as_bytes());
    for word in ["id?", "unique_id?", "welcome 7"] {
        typist.expect(word);
    }
    assert!(!hub_log(&cluster).contains(&unique_id), "no secret is logged");
}

#[test]
fn m3_3_a_login_cut_at_any_step_locks_nobody_out() {
    let (cluster, address) = text_hub(&[]);
    // Before anything, after the ID, and after what was issued.
    drop(Typist::connect(&address));
    let mut typist = Typist::connect(&address);
    typist.type_line("7");
    typist.expect("id?");
    typist.expect("issued");
    drop(typist);
    until(PATIENCE, "the cut login to be over", || hub_log(&cluster).contains("left without logging in"));
    assert_eq!(state(&cluster, 7).as_deref(), Some("provisional"));
    // It was never confirmed: its owner says so and is issued another.
    let mut typist = Typist::connect(&address);
    typist.write(b"7\nlost\n");
    for word in ["id?", "unique_id?"] {
        typist.expect(word);
    }
    let unique_id = typist.expect("issued");
    typist.type_line(&unique_id);
    typist.expect("welcome 7");
    drop(typist);
    drop(Typist::logged_in(&address, 7, &unique_id));
    // Confirmed by a command, which is done too; nothing is lost any more then.
    let mut typist = Typist::connect(&address);
    typist.write(b"9\nput nine 9\nquit\n");
    for word in ["id?", "issued", "welcome 9", "ok", "bye quit"] {
        typist.expect(word);
    }
    assert_eq!(stdout(cluster.run(&["get", "nine"])), "9");
    let mut typist = Typist::connect(&address);
    typist.write(b"9\nlost\n");
    for word in ["id?", "unique_id?", "refused not_proven"] {
        typist.expect(word);
    }
}

#[test]
fn m3_4_a_line_that_is_another_unique_id_does_not_confirm_what_was_issued() {
    let (cluster, address) = text_hub(&[]);
    let (_one, another) = Typist::enrolled(&address, 1);
    for another in [&another, &another.replace("ls-1-", "ls-2-")] {
        let mut typist = Typist::connect(&address);
        typist.write(format!("2\n{another}\nput x 1\n").as_bytes());
        typist.expect("id?");
        let issued = typist.read_line().unwrap();
        assert!(issued.starts_with("issued") || issued.starts_with("unique_id?"), "{issued}");
        typist.expect("refused not_proven");
    }
    assert_eq!(state(&cluster, 2).as_deref(), Some("provisional"));
    assert_ne!(cluster.run(&["get", "x"]).status.code(), Some(0));
}

#[test]
fn m3_3_where_an_invite_is_needed_it_is_typed_behind_the_id() {
    let (cluster, address) = text_hub(&["--enrol", "invite"]);
    let mut typist = Typist::connect(&address);
    typist.type_line("7");
    typist.expect("id?");
    typist.expect("unique_id?");
    let link = stdout(cluster.run(&["invite"]));
    let link = link.split_whitespace().last().unwrap();
    let mut typist = Typist::connect(&address);
    typist.write(format!("7 invite {link}\n\n").as_bytes());
    for word in ["id?", "issued ls-7-", "welcome 7"] {
        typist.expect(word);
    }
}

#[test]
fn m3_5_m3_6_whoever_is_here_is_listed_and_whoever_left_is_not() {
    let (mut cluster, address) = text_hub(&[]);
    let (mut one, unique_one) = Typist::enrolled(&address, 1);
    let (mut two, _) = Typist::enrolled(&address, 2);
    let (native, _) = Speaker::logged_in(&cluster.address(), 3, None);
    let listed = one.ask("clients");
    let begins: Vec<String> = listed.iter().map(|l| l.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(begins, ["client 1 text", "client 2 text", "client 3 native", "ok 3"], "{listed:?}");
    assert_eq!(active(&cluster), [1, 2, 3]);
    let table = cluster.hub_data().join("clients.csv");
    let rows = || fs::read_to_string(&table).unwrap().lines().filter(|row| row.contains(",text,")).count();
    until(PATIENCE, "the table", || rows() == 2);
    // In order, by a closed connection, and after everything that was asked for.
    two.type_line("quit");
    assert_eq!(two.rest(), ["bye quit"]);
    drop(native);
    until(PATIENCE, "both to leave", || active(&cluster) == [1]);
    // Taken over: told so, and the newer one is in.
    let newer = Typist::logged_in(&address, 1, &unique_one);
    assert!(one.expect("bye taken_over").contains("logged in again"));
    assert!(one.rest().is_empty());
    assert_eq!(active(&cluster), [1]);
    // Revoked: cut within a second.
    let start = Instant::now();
    assert!(cluster.run(&["clients", "revoke", "1"]).status.success());
    assert_eq!(newer.rest(), ["bye revoked id 1 was revoked"]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(active(&cluster).is_empty());
    // The hub stops: whoever is in and whoever is not yet is told.
    let (four, _) = Typist::enrolled(&address, 4);
    let mut stranger = Typist::connect(&address);
    stranger.expect("id?");
    cluster.stop_hub();
    assert!(four.rest()[0].starts_with("bye stopping "));
    assert!(stranger.rest()[0].starts_with("refused stopping "));
}

#[test]
fn m3_7_what_one_puts_all_others_have_whatever_they_speak() {
    let (cluster, address) = text_hub(&[]);
    let (mut typist, _) = Typist::enrolled(&address, 1);
    let (mut other, _) = Typist::enrolled(&address, 2);
    assert_eq!(other.follow("t*").0, [""; 0]);
    let (mut native, _) = Speaker::logged_in(&cluster.address(), 3, None);
    native.say(&ToHub::Follow { fid: 1, board: "data".into(), pattern: "*".into(), cursor: None });
    let version: u64 = typist.ask("put temp 21.5 °C")[0].strip_prefix("ok ").unwrap().parse().unwrap();
    assert_eq!(other.values().0, ["temp 21.5 °C"]);
    let heard = |native: &mut Speaker, value: &str| loop {
        if let ToClient::Batch(Batch { records, .. }) = native.hear()
            && records
                .iter()
                .any(|r| r.value.as_ref().is_some_and(|v| v.windows(value.len()).any(|w| w == value.as_bytes())))
        {
            return;
        }
    };
    heard(&mut native, "21.5 °C");
    assert_eq!(stdout(cluster.run(&["get", "temp"])), "21.5 °C");
    assert!(cluster.run(&["put", "temp", "from the command line"]).status.success());
    assert_eq!(other.values().0, ["temp from the command line"]);
    let content = Content { content_type: "text/plain".into(), bytes: "from an agent".into() };
    native.say(&ToHub::Put { req: 1, name: "t/native".into(), value: Some(content) });
    assert_eq!(other.values().0, ["t/native from an agent"]);
    let got = typist.ask("get temp");
    assert_eq!(got.len(), 2);
    assert!(
        got[0].starts_with("value ") && got[0].ends_with(" temp from the command line") && got[1] == "ok",
        "{got:?}"
    );
    assert!(got[0].split(' ').nth(1).unwrap().parse::<u64>().unwrap() > version);
    assert_eq!(typist.ask("remove temp").len(), 1);
    assert_eq!(other.values().0, ["gone temp"]);
    assert!(typist.ask("get temp")[0].starts_with("error not_found"));
    // Not what was not asked for, and no more of what is not wanted any longer.
    typist.ask("put u 1");
    assert_eq!(other.ask("unfollow t*"), ["ok"]);
    typist.ask("put t/native again");
    assert_eq!(other.ask("unfollow t*")[0].split(' ').take(2).collect::<Vec<_>>(), ["error", "not_found"]);
}

#[test]
fn m3_7_a_cut_follower_goes_on_with_exactly_what_it_missed_also_after_the_hub_was_killed() {
    let (mut cluster, address) = text_hub(&[]);
    let (mut typist, unique_id) = Typist::enrolled(&address, 1);
    for n in 0..5 {
        typist.ask(&format!("put a{n} old"));
    }
    let (values, _) = typist.follow("");
    assert_eq!(values.len(), 5);
    typist.type_line("unfollow");
    typist.expect("ok");
    let (_, cursor) = typist.follow("a*");
    drop(typist);
    for value in ["1", "2", "3"] {
        assert!(cluster.run(&["put", "a1", value]).status.success());
    }
    assert!(cluster.run(&["put", "b", "of no interest"]).status.success());
    assert!(cluster.run(&["put", "a2", "--remove"]).status.success());
    for kill in [false, true] {
        let mut address = address.clone();
        if kill {
            cluster.kill_hub();
            cluster.start_hub();
            address = address_of(&mut cluster);
        }
        let mut typist = Typist::logged_in(&address, 1, &unique_id);
        typist.type_line(&format!("follow a* since {cursor}"));
        assert_eq!(typist.expect("ok"), "since a*");
        assert_eq!(typist.values().0, ["a1 3", "gone a2"]);
        // With another pattern it would hide what was never seen.
        assert!(typist.ask(&format!("follow since {cursor}"))[0].contains("another pattern"));
    }
    // A cursor that means nothing here is no resume: everything comes, and it is said.
    let (cluster, address) = text_hub(&[]);
    cluster.run(&["put", "a1", "elsewhere"]);
    let (mut typist, _) = Typist::enrolled(&address, 1);
    typist.type_line(&format!("follow a* since {cursor}"));
    assert_eq!(typist.expect("ok"), "all a*");
    assert_eq!(typist.values().0, ["a1 elsewhere"]);
}

#[test]
fn m3_7_any_bytes_are_put_and_come_back_as_they_were() {
    let (cluster, address) = text_hub(&[]);
    let (mut typist, _) = Typist::enrolled(&address, 1);
    let (mut other, _) = Typist::enrolled(&address, 2);
    other.follow("");
    for_each_seed(&[1], |seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..pick(60, 2000) {
            let mut bytes = |max: usize| {
                let count = 1 + rng.below(max);
                let clean = rng.one_in(2);
                let bytes = rng.bytes(count);
                bytes.into_iter().map(|b| if clean { b' ' + b % 90 } else { b }).collect::<Vec<u8>>()
            };
            let (name, value) = (bytes(12), bytes(300));
            let quoted = |bytes: &[u8]| bytes.iter().map(|b| format!("\\x{b:02x}")).collect::<String>();
            assert!(typist.ask(&format!("put \"{}\" \"{}\"", quoted(&name), quoted(&value)))[0].starts_with("ok "));
            // As the hub writes it, so it may be typed: the same value under the same name.
            let (values, _) = other.values();
            assert_eq!(values.len(), 1);
            assert!(typist.ask(&format!("put {}", values[0]))[0].starts_with("ok "), "{}", values[0]);
            assert_eq!(other.values().0, values);
            if let Ok(text) = String::from_utf8(name)
                && !text.contains('\0')
                && !text.starts_with('-')
            {
                assert_eq!(cluster.run(&["get", &text]).stdout, value, "{}", values[0]);
            }
        }
    });
}

#[test]
fn m3_7_one_that_stops_reading_disturbs_nobody_and_has_the_newest_when_it_reads_again() {
    let (mut cluster, address) = text_hub(&[]);
    let (mut stuck, _) = Typist::enrolled(&address, 1);
    stuck.follow("");
    let (mut other, _) = Typist::enrolled(&address, 2);
    let (names, size) = (20, 20_000);
    let value = |round: usize| format!("{round} {}", "x".repeat(size));
    let before = cluster.hub().rss_bytes().unwrap();
    let start = Instant::now();
    let mut rounds = 0;
    // For as long as a stuck one may be so, or the system cuts it.
    while start.elapsed() < Duration::from_secs(8) {
        for name in 0..names {
            let put = Instant::now();
            assert!(other.ask(&format!("put n{name} {}", value(rounds)))[0].starts_with("ok "));
            assert!(put.elapsed() < Duration::from_secs(2), "{:?}", put.elapsed());
        }
        rounds += 1;
    }
    let grown = cluster.hub().rss_bytes().unwrap().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more for one that does not read");
    let mut newest = BTreeMap::new();
    let mut read = 0;
    let last = value(rounds - 1);
    while newest.values().filter(|value| **value == last).count() < names {
        let line = stuck.read_line().expect("it is not cut");
        if let ["value", _, name, value] = line.splitn(4, ' ').collect::<Vec<_>>().as_slice() {
            newest.insert((*name).to_owned(), (*value).to_owned());
            read += 1;
        }
    }
    assert!(rounds < 10 || read < rounds * names, "{read} of {rounds} times {names} were read: none was skipped");
}

#[test]
fn m3_5_one_that_never_reads_again_is_cut_and_goes_on_with_its_cursor() {
    let (cluster, address) = text_hub(&[]);
    let (mut stuck, unique_id) = Typist::enrolled(&address, 1);
    let (_, cursor) = stuck.follow("");
    let (mut other, _) = Typist::enrolled(&address, 2);
    let value = "x".repeat(100_000);
    // Until nothing is taken any more, and for the longest time that may last.
    let start = Instant::now();
    while active(&cluster) == [1, 2] {
        assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
        assert!(other.ask(&format!("put big {value}"))[0].starts_with("ok "));
    }
    assert_eq!(active(&cluster), [2]);
    assert!(start.elapsed() > Duration::from_secs(10), "{:?} is too soon for one that is merely slow", start.elapsed());
    other.ask("put big newest");
    let mut again = Typist::logged_in(&address, 1, &unique_id);
    again.type_line(&format!("follow since {cursor}"));
    assert_eq!(again.expect("ok"), "since *");
    assert_eq!(again.values().0, ["big newest"]);
}

#[test]
fn m3_1_hundreds_of_them_at_once_each_hear_each_change() {
    let count = pick(100, 500);
    let (cluster, address) = text_hub(&[]);
    let mut typists: Vec<Typist> = (1..=count)
        .map(|id| {
            loop {
                let mut typist = Typist::connect(&address);
                typist.expect("id?");
                typist.write(format!("{id}\n\n").as_bytes());
                // Not too many new ones a second from one address.
                match typist.read_line().expect("an answer") {
                    issued if issued.starts_with("issued ") => {
                        typist.expect("welcome");
                        typist.follow("x");
                        break typist;
                    }
                    refused => assert!(refused.starts_with("refused rate_limited "), "{refused}"),
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        })
        .collect();
    assert_eq!(active(&cluster).len(), count);
    for value in ["one", "two"] {
        assert!(cluster.run(&["put", "x", value]).status.success());
        for typist in &mut typists {
            assert_eq!(typist.values().0, [format!("x {value}")]);
        }
    }
    drop(typists);
    until(PATIENCE, "all to leave", || active(&cluster).is_empty());
}

#[test]
fn connections_of_text_are_counted_in_the_metrics_like_those_of_the_others() {
    let (mut cluster, web, _) = hub(&["--text", "127.0.0.1:0"]);
    let address = address_of(&mut cluster);
    let metric = |name: &str| {
        let page = web.get("/metrics").text();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name}{{transport=\"text\"}} ")));
        line.unwrap_or_else(|| panic!("no {name}: {page}")).parse::<u64>().unwrap()
    };
    assert_eq!((metric("lockstep_clients_active"), metric("lockstep_connections")), (0, 0));
    let (mut typist, _) = Typist::enrolled(&address, 8);
    let stranger = Typist::connect(&address);
    until(PATIENCE, "both to be counted", || metric("lockstep_connections") == 2);
    assert_eq!(metric("lockstep_clients_active"), 1);
    let (sent, received) = (metric("lockstep_sent_bytes_total"), metric("lockstep_received_bytes_total"));
    assert!(typist.ask(&format!("put x {}", "y".repeat(1000))).last().unwrap().starts_with("ok"));
    assert!(typist.ask("get x").last().unwrap().starts_with("ok"));
    assert!(metric("lockstep_received_bytes_total") > received + 1000);
    assert!(metric("lockstep_sent_bytes_total") > sent + 1000);
    drop((typist, stranger));
    until(PATIENCE, "both to be gone", || {
        metric("lockstep_connections") == 0 && metric("lockstep_clients_active") == 0
    });
    assert_eq!(metric("lockstep_connections_accepted_total"), 2);
}

#[test]
fn who_is_here_when_the_hub_stops_is_told_when_to_connect_again() {
    let (mut cluster, address) = text_hub(&[]);
    let (typist, _) = Typist::enrolled(&address, 1);
    cluster.hub().terminate();
    let rest = typist.rest().join("\n");
    assert!(rest.contains("bye stopping the hub is stopping: connect again in 0.0 s"), "{rest}");
}
