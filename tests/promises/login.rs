//! Who is let in: M3.2, M3.3, M3.4, and everything that can go wrong with them, over real connections.
//!
//! The login's states are exhausted in `wire`; here are real processes, real cuts, and what people are told.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE, Proc, for_each_seed, lockstep_at, pick, scratch, until};
use wire::id::ClientId;
use wire::link::{Fingerprint, InviteCode, JoinLink};
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

fn empty_hub(args: &[&str]) -> Cluster {
    Cluster::start(|_| {}, args)
}

/// Runs a command that ends by itself; its exit code and what it said.
#[track_caller]
fn ended(command: &mut Command) -> (Option<i32>, String) {
    let mut proc = Proc::start(command);
    let status = proc.wait_exit(PATIENCE);
    until(PATIENCE, "its last words", || proc.output_is_over());
    (status.code(), proc.output().join("\n"))
}

fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The states of all clients, by id, as the hub tells them.
fn roster(cluster: &Cluster) -> Vec<(u64, String)> {
    let rows = stdout(cluster.run(&["clients", "list", "--all", "--json"]));
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        (row["id"].as_u64().unwrap(), row["state"].as_str().unwrap().to_lowercase())
    };
    rows.lines().map(row).collect()
}

fn state(cluster: &Cluster, id: u64) -> Option<String> {
    roster(cluster).into_iter().find(|(known, _)| *known == id).map(|(_, state)| state)
}

fn hub_log(cluster: &Cluster) -> String {
    fs::read_to_string(cluster.hub_home().join("log/hub.log")).unwrap()
}

fn join_at(home: impl AsRef<Path>, link: &str, copy: impl AsRef<Path>, id: &str) -> Command {
    let mut command = lockstep_at(home);
    command.arg("join").arg(link).arg(copy.as_ref()).args(["--id", id]);
    command
}

/// The join link in a line that `invite` or `reissue` printed.
fn link_in(line: &str) -> String {
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
    assert_eq!(code, Some(3), "{said}");
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

#[test]
fn who_may_enrol_open_by_default_where_only_this_machine_connects_else_by_invite() {
    let mut cluster = empty_hub(&[]);
    assert!(cluster.hub().wait_for_line("address", PATIENCE).contains("anybody may enrol"));
    let dir = scratch();
    let hub = Proc::start(lockstep_at(&*dir).args(["hub", "--listen", "0.0.0.0:0"]));
    assert!(hub.wait_for_line("address", PATIENCE).contains("enrolment by invite"));
}

#[test]
fn an_invite_lets_in_as_many_as_it_says_for_as_long_as_it_says() {
    let mut cluster = empty_hub(&["--enrol", "invite"]);
    let address = cluster.address();
    // Without one, and with one that nobody made.
    let mut stranger = Speaker::greeted(&address);
    assert!(matches!(stranger.claim("1", None), Asked::UniqueId), "the same question as for a known id");
    stranger.say(&ToHub::Lost);
    assert_eq!(stranger.refused().code, Code::NotProven);
    let made_up = InviteCode::from_random([7; 26]).reveal();
    for id in ["auto", "1"] {
        match Speaker::greeted(&address).claim(id, Some(&made_up)) {
            Asked::Refused(refusal) => assert_eq!(refusal.code, Code::NotInvited),
            Asked::UniqueId => assert_eq!(id, "1"),
            other => panic!("{other:?}"),
        }
    }
    // The first one is printed at the start.
    cluster.start_agent(1);
    cluster.settle();
    // Replayed: by another machine, with the same and with another id.
    for id in ["1", "2", "auto"] {
        let (code, said) = ended(&mut join_at(cluster.path().join("thief"), &cluster.link(), cluster.copy(9), id));
        assert_eq!(code, Some(3), "{id}: {said}");
        assert!(said.contains("invite"), "{id}: {said}");
    }
    // By its own machine it does no harm.
    cluster.stop_agent(1);
    cluster.start_agent(1);
    cluster.settle();
    // For two, and no more.
    let two = link_in(&stdout(cluster.run(&["invite", "--uses", "2"])));
    for n in [2, 3] {
        let agent = Proc::start(&mut join_at(cluster.agent_home(n), &two, cluster.copy(n), &n.to_string()));
        agent.wait_for_line("in sync", PATIENCE);
    }
    let (code, said) = ended(&mut join_at(cluster.agent_home(4), &two, cluster.copy(4), "4"));
    assert_eq!(code, Some(3), "{said}");
    // For a second, and no longer.
    let short = link_in(&stdout(cluster.run(&["invite", "--expires", "1s"])));
    std::thread::sleep(Duration::from_millis(1100));
    let (code, said) = ended(&mut join_at(cluster.agent_home(4), &short, cluster.copy(4), "4"));
    assert_eq!(code, Some(3), "{said}");
    // Spent is spent, also after the hub was killed; what is not is not.
    let one = link_in(&stdout(cluster.run(&["invite"])));
    cluster.kill_hub();
    cluster.start_hub();
    let (code, _) = ended(&mut join_at(cluster.agent_home(4), &two, cluster.copy(4), "4"));
    assert_eq!(code, Some(3));
    let agent = Proc::start(&mut join_at(cluster.agent_home(4), &one, cluster.copy(4), "4"));
    agent.wait_for_line("in sync", PATIENCE);
    assert_eq!(roster(&cluster).len(), 4);
}

#[test]
fn a_closed_hub_takes_nobody_new_and_lets_in_who_is_known() {
    let cluster = empty_hub(&[]).with_agents(1);
    let unique_id = unique_id_in(&cluster.agent_home(1).join("agent"));
    let mut closed = lockstep_at(cluster.hub_home());
    let mut cluster = cluster;
    cluster.stop_hub();
    let hub = Proc::start(closed.args(["hub", "--listen", &cluster.address(), "--enrol", "closed"]));
    assert!(hub.wait_for_line("address", PATIENCE).contains("nobody new may enrol"));
    assert!(!hub.output().join("\n").contains("lockstep join"), "there is nobody to give a link to");
    let mut new = Speaker::greeted(&cluster.address());
    assert!(matches!(new.claim("2", None), Asked::UniqueId));
    new.say(&ToHub::Lost);
    assert_eq!(new.refused().code, Code::NotProven);
    cluster.stop_agent(1);
    Speaker::logged_in(&cluster.address(), 1, Some(&unique_id));
}

#[test]
fn who_lost_its_unique_id_gets_a_new_one_by_reissue_and_the_old_one_is_worth_nothing() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    let old = unique_id_in(&cluster.agent_home(1).join("agent"));
    cluster.stop_agent(1);
    fs::remove_dir_all(cluster.agent_home(1)).unwrap();
    let (code, said) = ended(&mut cluster.join(1));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("clients reissue"), "{said}");
    let link = link_in(&stdout(cluster.run(&["clients", "reissue", "1"])));
    // Until the new one is there the old one stays right: a link that nobody uses locks nobody out.
    drop(Speaker::logged_in(&cluster.address(), 1, Some(&old)));
    let agent = Proc::start(join_at(cluster.agent_home(1), &link, cluster.copy(1), "1").arg("--adopt"));
    agent.wait_for_line("in sync", PATIENCE);
    let mut late = Speaker::greeted(&cluster.address());
    assert!(matches!(late.claim("1", None), Asked::UniqueId));
    late.say(&prove(&old));
    assert_eq!(late.refused().code, Code::NotProven);
    // The link is spent: nobody else becomes 1 with it.
    let (code, said) = ended(&mut join_at(cluster.path().join("thief"), &link, cluster.copy(9), "1"));
    assert_eq!(code, Some(3), "{said}");
    let (code, said) = ended(&mut cluster.ask(&["clients", "reissue", "99"]));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("99"), "{said}");
}

#[test]
fn a_revoked_client_is_cut_off_within_a_second_and_never_let_in_again() {
    let mut cluster = empty_hub(&[]).with_agents(2);
    let revoked = unique_id_in(&cluster.agent_home(1).join("agent"));
    let (mut speaker, third) = Speaker::logged_in(&cluster.address(), 3, None);
    let start = Instant::now();
    stdout(cluster.run(&["clients", "revoke", "3"]));
    assert_eq!(speaker.refused().code, Code::Revoked);
    assert!(
        speaker.is_cut(Duration::from_secs(1)) && start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    // An agent ends, says why, and touches nothing any more.
    stdout(cluster.run(&["clients", "revoke", "1"]));
    let start = Instant::now();
    assert_eq!(cluster.agent(1).wait_exit(PATIENCE).code(), Some(3));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(cluster.agent(1).output().join("\n").contains("revoked"));
    assert_eq!(roster(&cluster), [(1, "revoked".into()), (2, "active".into()), (3, "revoked".into())]);
    for unique_id in [&revoked, &third] {
        let mut again = Speaker::greeted(&cluster.address());
        assert!(matches!(again.claim(&unique_id.id().to_string(), None), Asked::UniqueId));
        again.say(&prove(unique_id));
        assert_eq!(again.refused().code, Code::NotProven);
    }
    cluster.kill_hub();
    cluster.start_hub();
    let mut again = Speaker::greeted(&cluster.address());
    assert!(matches!(again.claim("1", None), Asked::UniqueId));
    again.say(&prove(&revoked));
    assert_eq!(again.refused().code, Code::NotProven);
}

#[test]
fn only_the_hubs_own_machine_invites_revokes_and_reissues() {
    let cluster = empty_hub(&[]).with_agents(1);
    for args in [&["invite"][..], &["clients", "revoke", "1"], &["clients", "reissue", "1"]] {
        let mut command = lockstep_at(cluster.agent_home(1));
        let (code, said) = ended(command.args(args).arg("--data").arg(cluster.agent_home(1).join("agent")));
        assert_eq!(code, Some(3), "{args:?}: {said}");
        assert!(said.contains("hub's own machine"), "{args:?}: {said}");
    }
    assert_eq!(state(&cluster, 1).as_deref(), Some("active"));
}

#[test]
fn a_hub_with_another_key_than_the_links_is_told_nothing() {
    let cluster = empty_hub(&[]);
    let link = JoinLink::parse(&cluster.link()).unwrap();
    let other = JoinLink::new(link.host(), link.port(), Fingerprint::of(b"another key"), None).unwrap().reveal();
    let (code, said) = ended(&mut join_at(cluster.agent_home(1), &other, cluster.copy(1), "1"));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("another key"), "{said}");
    assert!(roster(&cluster).is_empty() && !cluster.copy(1).exists());
    // Known from an earlier login: the same.
    let cluster = empty_hub(&[]).with_agents(1);
    let port = cluster.address();
    let mut cluster = cluster;
    cluster.stop_agent(1);
    cluster.stop_hub();
    let dir = scratch();
    let impostor = Proc::start(lockstep_at(&*dir).args(["hub", "--listen", &port]));
    impostor.wait_for_line("address", PATIENCE);
    let mut later = lockstep_at(cluster.agent_home(1));
    let (code, said) = ended(later.arg("join"));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("another key"), "{said}");
    let log = fs::read_to_string(dir.join("log/hub.log")).unwrap();
    assert!(!log.contains("id 1"), "{log}");
}

#[test]
fn a_link_that_was_cut_short_is_told_as_such() {
    let cluster = empty_hub(&[]);
    let link = cluster.link();
    let (code, said) = ended(&mut join_at(cluster.agent_home(1), &link[..link.len() - 3], cluster.copy(1), "1"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("cut short"), "{said}");
}

#[test]
fn a_link_may_come_from_standard_input() {
    let cluster = empty_hub(&[]);
    let mut command = join_at(cluster.agent_home(1), "-", cluster.copy(1), "1");
    let mut agent = Proc::start_with_stdin(command.stdin(Stdio::piped()));
    let mut stdin = agent.take_stdin().unwrap();
    std::io::Write::write_all(&mut stdin, format!("{}\n", cluster.link()).as_bytes()).unwrap();
    drop(stdin);
    agent.wait_for_line("in sync", PATIENCE);
}

/// On loopback an address will do; elsewhere somebody has to compare the key, and without a terminal nobody can.
#[test]
fn a_hub_elsewhere_that_was_never_met_is_not_trusted_without_a_terminal() {
    let mut cluster = empty_hub(&[]);
    let (address, copy) = (cluster.address(), cluster.copy(1));
    let agent = Proc::start(&mut join_at(cluster.agent_home(1), &address, &copy, "1"));
    agent.wait_for_line("in sync", PATIENCE);
    drop(agent);
    let Some(elsewhere) = address_of_this_machine() else {
        eprintln!("this machine has no address but loopback: half of this test has nothing to run on");
        return;
    };
    cluster.stop_hub();
    let dir = scratch();
    let hub = Proc::start(lockstep_at(&*dir).args(["hub", "--listen", &format!("{elsewhere}:0"), "--enrol", "open"]));
    let line = hub.wait_for_line("address", PATIENCE);
    let address = line.split_whitespace().nth(1).unwrap();
    let (code, said) = ended(&mut join_at(dir.join("a"), address, dir.join("copy"), "1"));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("fingerprint") && said.contains("join link"), "{said}");
    let log = fs::read_to_string(dir.join("log/hub.log")).unwrap();
    assert!(!log.contains("logged in as") && !log.contains("id 1"), "{log}");
    // The link settles it.
    let link = hub.wait_for_line("lockstep join", PATIENCE);
    let agent = Proc::start(lockstep_at(dir.join("a")).args(["join", &link_in(&link), "--id", "1"]));
    agent.wait_for_line("logged in", PATIENCE);
}

/// The address that packets to the outside would come from; nothing is sent.
fn address_of_this_machine() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

#[test]
fn a_second_login_with_the_right_proof_takes_over_and_the_first_is_told() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    let unique_id = unique_id_in(&cluster.agent_home(1).join("agent"));
    let (mut second, _) = Speaker::logged_in(&cluster.address(), 1, Some(&unique_id));
    assert_eq!(cluster.agent(1).wait_exit(PATIENCE).code(), Some(3));
    let said = cluster.agent(1).output().join("\n");
    assert!(said.contains("logged in again from 127.0.0.1"), "{said}");
    // It does not come back by itself: the second one keeps its place.
    assert!(matches!(second.listen(Duration::from_secs(1)), crate::speaker::Heard::Nothing));
    assert_eq!(state(&cluster, 1).as_deref(), Some("active"));
    assert!(hub_log(&cluster).contains("taken over"));
}

#[test]
fn three_take_overs_in_a_minute_are_told_as_two_machines_with_both_addresses() {
    let cluster = empty_hub(&[]);
    let (first, unique_id) = Speaker::logged_in(&cluster.address(), 7, None);
    let mut sessions = vec![first];
    for _ in 0..3 {
        assert!(!hub_log(&cluster).contains("two machines"));
        sessions.push(Speaker::logged_in(&cluster.address(), 7, Some(&unique_id)).0);
    }
    until(PATIENCE, "the log to tell of two machines", || hub_log(&cluster).contains("id 7 is used by two machines"));
    let log = hub_log(&cluster);
    let line = log.lines().find(|line| line.contains("two machines")).unwrap();
    for session in &sessions[2..] {
        assert!(line.contains(&session.local_address()), "{line}");
    }
}

#[test]
fn a_cloned_data_directory_is_not_used_and_says_what_to_do() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    let (home, clone) = (cluster.agent_home(1), cluster.path().join("clone"));
    let copied = Command::new("cp").arg("-a").arg(&home).arg(&clone).status().unwrap();
    assert!(copied.success());
    let mut join = lockstep_at(&clone);
    let (code, said) = ended(join.arg("join"));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("client 1") && said.contains("--id auto"), "{said}");
    let (code, said) = ended(&mut join_at(&clone, &cluster.link(), cluster.copy(2), "1"));
    assert_eq!(code, Some(3), "{said}");
    assert!(cluster.agent(1).is_running() && !hub_log(&cluster).contains("taken over"));
    // With an id of its own it is a machine like any other.
    let agent = Proc::start(&mut join_at(&clone, &cluster.link(), cluster.copy(2), "auto"));
    agent.wait_for_line("as client 2", PATIENCE);
    agent.wait_for_line("in sync", PATIENCE);
    assert!(cluster.agent(1).is_running() && !hub_log(&cluster).contains("taken over"));
    // Moved, it is what it was.
    cluster.stop_agent(1);
    let moved = cluster.path().join("moved");
    fs::rename(&home, &moved).unwrap();
    let mut join = lockstep_at(&moved);
    Proc::start(join.arg("join")).wait_for_line("as client 1", PATIENCE);
}

#[test]
fn a_command_beside_a_running_agent_goes_through_it_and_disturbs_nothing() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    stdout(cluster.run(&["put", "x", "one"]));
    let (data, link) = (cluster.agent_home(1).join("agent"), cluster.link());
    let before = fs::read(data.join("key.json")).unwrap();
    let get = |args: &[&str]| lockstep_at(cluster.agent_home(1)).args(["get", "x"]).args(args).output().unwrap();
    for _ in 0..pick(5, 100) {
        assert_eq!(stdout(get(&["--data", data.to_str().unwrap()])), "one");
    }
    // Also when it is told to log in by itself: as the agent's id it would take over, as another it would need a place.
    assert_eq!(stdout(get(&["--hub", &link, "--id", "1", "--data", data.to_str().unwrap()])), "one");
    let other = get(&["--hub", &link, "--id", "2", "--data", data.to_str().unwrap()]);
    assert_eq!(other.status.code(), Some(3), "{}", String::from_utf8_lossy(&other.stdout));
    assert!(String::from_utf8_lossy(&other.stderr).contains("--data"), "{}", String::from_utf8_lossy(&other.stderr));
    assert_eq!(fs::read(data.join("key.json")).unwrap(), before, "the agent's key is the agent's");
    assert_eq!(roster(&cluster), [(1, "active".into())]);
    assert!(cluster.agent(1).is_running());
    let (hub, agent) = (hub_log(&cluster), fs::read_to_string(cluster.agent_home(1).join("log/join.log")).unwrap());
    assert!(!hub.contains("taken over") && hub.matches("logged in").count() == 1, "{hub}");
    assert!(!agent.contains("no hub"), "{agent}");
}

#[test]
fn a_command_with_a_place_of_its_own_logs_in_by_itself() {
    let cluster = empty_hub(&[]);
    let home = cluster.path().join("tool");
    for (args, printed) in [(&["put", "x", "one"][..], ""), (&["get", "x"], "one")] {
        let mut command = lockstep_at(&home);
        command.args(args).args(["--hub", &cluster.link(), "--id", "5", "--data"]).arg(home.join("agent"));
        assert_eq!(stdout(command.output().unwrap()), printed);
    }
    assert_eq!(fs::metadata(home.join("agent/key.json")).unwrap().permissions().mode() & 0o777, 0o600);
    until(PATIENCE, "the command to leave", || state(&cluster, 5).as_deref() == Some("away"));
}

#[test]
fn a_second_agent_or_hub_on_one_data_directory_is_kept_out() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    let (code, said) = ended(&mut cluster.join(1));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("already running") && said.contains("--data"), "{said}");
    let (code, said) = ended(lockstep_at(cluster.hub_home()).args(["hub", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("--data"), "{said}");
    assert!(cluster.agent(1).is_running() && cluster.hub().is_running());
    cluster.settle();
}

#[test]
fn a_taken_port_says_so_and_what_to_do_and_port_0_prints_the_chosen_one() {
    let cluster = empty_hub(&[]);
    let dir = scratch();
    let (code, said) = ended(lockstep_at(&*dir).args(["hub", "--listen", &cluster.address()]));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&cluster.address()) && said.contains("--listen"), "{said}");
    let port: u16 = cluster.address().rsplit(':').next().unwrap().parse().unwrap();
    assert!(port > 0);
    assert!(cluster.link().contains(&format!(".{port}.")), "the link names the port that was chosen");
}

#[test]
fn of_several_shares_one_has_to_be_named_and_the_list_is_told() {
    let dir = scratch();
    for name in ["apples", "pears"] {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("f"), name).unwrap();
    }
    let mut command = lockstep_at(dir.join("hub-home"));
    command
        .args(["hub", "--listen", "127.0.0.1:0", "--share"])
        .arg(dir.join("apples"))
        .arg("--share")
        .arg(dir.join("pears"));
    let hub = Proc::start(&mut command);
    let link = link_in(&hub.wait_for_line("lockstep join", PATIENCE));
    let mut none = lockstep_at(dir.join("a"));
    let (code, said) = ended(none.args(["join", &link, "--id", "1"]).current_dir(&*dir));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("apples, pears"), "{said}");
    let mut wrong = lockstep_at(dir.join("a"));
    let (code, said) = ended(wrong.args(["join", &link, "--id", "1", "--share", "plums"]).current_dir(&*dir));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("apples, pears"), "{said}");
    // Both, one of them under its own name in the working directory.
    let home = dir.join("a");
    let work = dir.join("work");
    fs::create_dir(&work).unwrap();
    let mut both = lockstep_at(&home);
    both.args(["join", &link, "--id", "1", "--share", "apples", "--share"]);
    both.arg(format!("pears={}", dir.join("kept").display())).current_dir(&work);
    let agent = Proc::start(&mut both);
    agent.wait_for_line("apples: in sync", PATIENCE);
    agent.wait_for_line("pears: in sync", PATIENCE);
    assert_eq!(fs::read(work.join("apples/f")).unwrap(), b"apples");
    assert_eq!(fs::read(dir.join("kept/f")).unwrap(), b"pears");
}
