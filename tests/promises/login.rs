//! Who is let in: M3.2, M3.3, M3.4, and everything that can go wrong with them, over real connections.
//!
//! The login's states are exhausted in `wire`; here are real processes, real cuts, and what people are told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE, Proc, for_each_seed, lockstep_at, pick, until};
use wire::id::ClientId;
use wire::message::{Code, ToClient, ToHub};
use wire::unique_id::UniqueId;

use crate::speaker::{Asked, Speaker, prove, unique_id_in};

/// What is no ID, and a word of the reason that is given.
const NO_IDS: [(&str, &str); 11] = [
    ("seven", "digits"),
    ("", "needed"),
    ("7.0", "point"),
    ("1e3", "exponent"),
    ("+7", "sign"),
    ("-7", "sign"),
    ("0", "1"),
    ("007", "zero"),
    ("7 8", "blank"),
    ("9007199254740992", "9007199254740991"),
    ("1152921504606846976", "9007199254740991"),
];

pub(crate) fn empty_hub(args: &[&str]) -> Cluster {
    Cluster::start(|_| {}, args)
}

/// Runs a command that ends by itself; its exit code and what it said.
#[track_caller]
pub(crate) fn ended(command: &mut Command) -> (Option<i32>, String) {
    let mut proc = Proc::start(command);
    let status = proc.wait_exit(PATIENCE);
    until(PATIENCE, "its last words", || proc.output_is_over());
    (status.code(), proc.output().join("\n"))
}

pub(crate) fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The states of all clients, by id, as the hub tells them.
pub(crate) fn roster(cluster: &Cluster) -> Vec<(u64, String)> {
    let rows = stdout(cluster.run(&["clients", "list", "--all", "--json"]));
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        (row["id"].as_u64().unwrap(), row["state"].as_str().unwrap().to_lowercase())
    };
    rows.lines().map(row).collect()
}

pub(crate) fn state(cluster: &Cluster, id: u64) -> Option<String> {
    roster(cluster).into_iter().find(|(known, _)| *known == id).map(|(_, state)| state)
}

pub(crate) fn hub_log(cluster: &Cluster) -> String {
    fs::read_to_string(cluster.hub_home().join("log/hub.log")).unwrap()
}

pub(crate) fn join_at(home: impl AsRef<Path>, link: &str, copy: impl AsRef<Path>, id: &str) -> Command {
    let mut command = lockstep_at(home);
    command.arg("join").arg(link).arg(copy.as_ref()).args(["--id", id]);
    command
}

/// The join link in a line that `invite` or `reissue` printed.
pub(crate) fn link_in(line: &str) -> String {
    line.split_whitespace().last().unwrap().to_owned()
}

#[test]
fn m3_2_a_connecting_client_is_asked_for_an_id_which_must_be_an_integer() {
    let cluster = empty_hub(&[]);
    for (text, reason) in NO_IDS {
        let mut speaker = Speaker::greeted(&cluster.address());
        match speaker.claim(text, None) {
            Asked::Refused(refusal) => {
                assert_eq!(refusal.code, Code::BadId, "{text}");
                assert!(refusal.text.contains(reason), "{text}: {}", refusal.text);
            }
            other => panic!("{text}: {other:?}"),
        }
        // It is asked again, and may do better.
        assert_eq!(speaker.hear(), ToClient::AskId, "{text}");
    }
    assert!(roster(&cluster).is_empty());
    for id in [1, 9_007_199_254_740_991] {
        Speaker::logged_in(&cluster.address(), id, None);
        assert!(state(&cluster, id).is_some());
    }
}

#[test]
fn m3_2_who_gives_no_integer_three_times_is_cut() {
    let cluster = empty_hub(&[]);
    let mut speaker = Speaker::greeted(&cluster.address());
    for _ in 0..2 {
        assert!(matches!(speaker.claim("word", None), Asked::Refused(_)));
        assert_eq!(speaker.hear(), ToClient::AskId);
    }
    assert!(matches!(speaker.claim("word", None), Asked::Refused(_)));
    assert!(speaker.is_cut(PATIENCE));
}

#[test]
fn m3_2_the_command_line_refuses_what_is_no_integer_with_the_reason() {
    let cluster = empty_hub(&[]);
    for (text, reason) in NO_IDS {
        let (code, said) = ended(&mut join_at(cluster.agent_home(1), &cluster.link(), cluster.copy(1), text));
        assert_eq!(code, Some(2), "{text:?}: {said}");
        assert!(said.contains(reason), "{text:?}: {said}");
        let mut get = lockstep_at(cluster.agent_home(1));
        let (code, said) = ended(get.args(["get", "x", "--hub", &cluster.link(), "--id", text]));
        assert_eq!(code, Some(2), "{text:?}: {said}");
        assert!(said.contains(reason), "{text:?}: {said}");
    }
    assert!(roster(&cluster).is_empty() && !cluster.copy(1).exists());
}

#[test]
fn m3_2_without_an_id_and_without_a_terminal_join_exits_2_and_says_how() {
    let cluster = empty_hub(&[]);
    let mut command = lockstep_at(cluster.agent_home(1));
    let (code, said) = ended(command.arg("join").arg(cluster.link()).arg(cluster.copy(1)));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--id N") && said.contains("--id auto"), "{said}");
    assert!(roster(&cluster).is_empty());
}

#[test]
fn m3_2_auto_takes_the_next_free_id() {
    let mut cluster = empty_hub(&[]);
    cluster.start_agent(1);
    cluster.settle();
    let agent = Proc::start(&mut join_at(cluster.agent_home(2), &cluster.link(), cluster.copy(2), "auto"));
    agent.wait_for_line("as client 2", PATIENCE);
    agent.wait_for_line("in sync", PATIENCE);
}

#[test]
fn m3_3_a_new_id_gets_a_unique_id_of_its_own_once() {
    let mut cluster = empty_hub(&[]).with_agents(2);
    let keys = [1, 2].map(|n| unique_id_in(&cluster.agent_home(n).join("agent")));
    assert!(keys[0] != keys[1] && keys[0].id().get() == 1 && keys[1].id().get() == 2);
    for n in [1, 2] {
        let data = cluster.agent_home(n).join("agent");
        assert_eq!(fs::metadata(data.join("key.json")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    }
    // It stays the same for ever, and no later login needs a link or an id.
    cluster.stop_agent(1);
    let mut later = lockstep_at(cluster.agent_home(1));
    let agent = Proc::start(later.arg("join"));
    agent.wait_for_line("in sync", PATIENCE);
    assert!(keys[0] == unique_id_in(&cluster.agent_home(1).join("agent")));
    drop(agent);
    // Another hub's client of the same id has another one.
    let other = empty_hub(&[]).with_agents(1);
    assert!(keys[0] != unique_id_in(&other.agent_home(1).join("agent")));
}

#[test]
fn m3_4_a_known_id_proves_itself_at_every_later_login() {
    let mut cluster = empty_hub(&[]);
    let address = cluster.address();
    let (speaker, right) = Speaker::logged_in(&address, 7, None);
    let (_eight, others) = Speaker::logged_in(&address, 8, None);
    drop(speaker);
    let wrong = UniqueId::fresh(ClientId::new(7).unwrap()).unwrap();
    // Nothing, a wrong one, and that of an id that nobody has: one answer.
    let mut answers = Vec::new();
    let tries = [("7", ToHub::Lost), ("7", prove(&wrong)), ("8", ToHub::Lost)];
    for (id, answer) in tries {
        let mut stranger = Speaker::greeted(&address);
        assert!(matches!(stranger.claim(id, None), Asked::UniqueId));
        stranger.say(&answer);
        answers.push(stranger.refused());
        assert!(stranger.is_cut(PATIENCE));
    }
    assert!(answers.iter().all(|a| *a == answers[0] && a.code == Code::NotProven), "{answers:?}");
    // Another's, and one mistyped: told as what they are, and asked again.
    let mut typo = right.reveal();
    let last = if typo.pop() == Some('0') { '1' } else { '0' };
    typo.push(last);
    for mistaken in [others.reveal(), typo, "x".to_owned()] {
        let mut stranger = Speaker::greeted(&address);
        assert!(matches!(stranger.claim("7", None), Asked::UniqueId));
        stranger.say(&ToHub::UniqueId { unique_id: mistaken.as_str().into() });
        let told = stranger.refused();
        assert_eq!(told.code, Code::NotProven, "{told:?}");
        assert!(mistaken.len() < 9 || !told.text.contains(&mistaken[..9]), "{told:?}");
        assert_eq!(stranger.hear(), ToClient::AskUniqueId);
    }
    // Whatever went wrong: who is right is let in, here and after the hub was killed.
    Speaker::logged_in(&address, 7, Some(&right));
    cluster.kill_hub();
    cluster.start_hub();
    Speaker::logged_in(&address, 7, Some(&right));
    assert!(matches!(Speaker::greeted(&address).claim("8", None), Asked::UniqueId));
}

#[test]
fn m3_4_a_second_agent_with_a_known_id_is_refused_and_the_first_notices_nothing() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    let (code, said) = ended(&mut join_at(cluster.agent_home(2), &cluster.link(), cluster.copy(2), "1"));
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("not let in") && said.contains("reissue"), "{said}");
    assert!(!cluster.copy(2).exists());
    assert!(cluster.agent(1).is_running());
    assert!(!hub_log(&cluster).contains("taken over"));
    assert_eq!(state(&cluster, 1).as_deref(), Some("active"));
}

#[test]
fn m3_4_a_login_cut_at_every_step_locks_nobody_out_and_gives_nobody_anothers_id() {
    let cluster = empty_hub(&[]);
    let address = cluster.address();
    let claim = |id: &str| ToHub::Id { id: id.to_owned(), invite: None, name: "m".to_owned() };
    // Cut before an ID was said: nothing has happened.
    drop(Speaker::connect(&address));
    let mut half = Speaker::connect(&address);
    half.write(&[9, 0]).unwrap();
    drop(half);
    drop(Speaker::greeted(&address));
    assert!(roster(&cluster).is_empty());
    // Cut once it was said, the answer read or not: the id is taken, and asked for its unique ID from then on.
    let mut cut = Speaker::greeted(&address);
    cut.say(&claim("1"));
    drop(cut);
    until(PATIENCE, "the id to be taken", || state(&cluster, 1).is_some());
    let mut cut = Speaker::greeted(&address);
    let Asked::Issued(never_confirmed) = cut.claim("2", None) else { panic!("2 is new") };
    drop(cut);
    assert_eq!(state(&cluster, 2).as_deref(), Some("provisional"));
    for id in ["1", "2"] {
        assert!(matches!(Speaker::greeted(&address).claim(id, None), Asked::UniqueId), "{id}");
    }
    // The one it was issued to has it: in, though its confirmation never came.
    drop(Speaker::logged_in(&address, 2, Some(&never_confirmed)));
    // The one whose reply was lost says so, is issued another one, is cut again, says so again.
    let mut replaced = None;
    for _ in 0..3 {
        let mut lost = Speaker::greeted(&address);
        assert!(matches!(lost.claim("1", None), Asked::UniqueId));
        lost.say(&ToHub::Lost);
        let ToClient::Issued { unique_id } = lost.hear() else { panic!("from where it began, it may be lost") };
        replaced = replaced.or(UniqueId::parse(unique_id.reveal()).ok());
    }
    let mut last = Speaker::greeted(&address);
    assert!(matches!(last.claim("1", None), Asked::UniqueId));
    last.say(&ToHub::Lost);
    let ToClient::Issued { unique_id } = last.hear() else { panic!("it may be lost") };
    let unique_id = UniqueId::parse(unique_id.reveal()).unwrap();
    // Cut after confirming, before the answer: it counts.
    last.say(&ToHub::Confirm);
    drop(last);
    until(PATIENCE, "the confirmation", || state(&cluster, 1).is_some_and(|state| state != "provisional"));
    for wrong in [ToHub::Lost, prove(&replaced.unwrap())] {
        let mut late = Speaker::greeted(&address);
        assert!(matches!(late.claim("1", None), Asked::UniqueId));
        late.say(&wrong);
        assert_eq!(late.refused().code, Code::NotProven);
    }
    Speaker::logged_in(&address, 1, Some(&unique_id));
}

/// Messages at the wrong time end a login, and open nothing.
#[test]
fn m3_4_no_order_of_messages_gets_in_without_proof() {
    let cluster = empty_hub(&[]);
    let address = cluster.address();
    drop(Speaker::logged_in(&address, 7, None));
    let get = || ToHub::Get { req: 1, name: "x".into() };
    let follow = || ToHub::Follow { fid: 1, board: "data".into(), pattern: "*".into(), cursor: None };
    for early in [ToHub::Confirm, ToHub::Lost, get(), follow(), ToHub::Ping { nonce: 1 }] {
        let mut speaker = Speaker::connect(&address);
        speaker.say(&early);
        assert_eq!(speaker.refused().code, Code::Protocol, "{early:?}");
        let mut speaker = Speaker::greeted(&address);
        speaker.say(&early);
        assert_eq!(speaker.refused().code, Code::Protocol, "{early:?}");
        let mut speaker = Speaker::greeted(&address);
        assert!(matches!(speaker.claim("7", None), Asked::UniqueId));
        if early == ToHub::Lost {
            continue;
        }
        speaker.say(&early);
        assert_eq!(speaker.refused().code, Code::Protocol, "{early:?}");
        assert!(speaker.is_cut(PATIENCE));
    }
    // A session's token cannot be made up.
    for purpose in ["bulk", "relay"] {
        let token = wire::secret::Token([0; 32]);
        let purpose = match purpose {
            "bulk" => wire::message::Purpose::Bulk { token },
            _ => wire::message::Purpose::Relay { token },
        };
        let mut speaker = Speaker::connect(&address);
        speaker.say(&crate::speaker::hello(purpose));
        assert!(matches!(speaker.hear(), ToClient::Hello { .. }));
        assert_eq!(speaker.refused().code, Code::NotProven);
    }
}

#[test]
fn m3_4_another_protocol_version_is_told_what_to_install() {
    let cluster = empty_hub(&[]);
    let mut speaker = Speaker::connect(&cluster.address());
    let purpose = wire::message::Purpose::Login;
    speaker.say(&ToHub::Hello { versions: (900, 901), software: "lockstep 900".to_owned(), purpose });
    let refusal = speaker.refused();
    assert!(refusal.code == Code::Version && refusal.text.contains("install"), "{refusal:?}");
}

/// A real agent, killed at any moment of its first login, always comes in the next time.
#[test]
fn m3_4_an_agent_killed_anywhere_in_its_login_comes_in_with_the_same_id() {
    let mut cluster = empty_hub(&[]);
    for_each_seed(&[1], |seed| {
        let mut rng = support::Rng::new(seed);
        for n in 1..=pick(8, 200) {
            let agent = Proc::start(&mut cluster.join(n));
            let patience = Duration::from_micros(rng.number() % 60_000);
            let start = Instant::now();
            while start.elapsed() < patience && !cluster.agent_home(n).join("agent/key.json").exists() {
                std::thread::yield_now();
            }
            drop(agent);
            let mut agent = Proc::start(&mut cluster.join(n));
            agent.wait_for_line("in sync", PATIENCE);
            agent.terminate();
            agent.wait_exit(PATIENCE);
        }
    });
    cluster.stop_hub();
}
