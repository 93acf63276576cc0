//! Who may enrol, with what, and whom a machine trusts: modes, invites, reissues, revocations, links and keys.

use std::fs;
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{PATIENCE, Proc, lapse, lockstep_at, scratch};
use wire::link::{Fingerprint, InviteCode, JoinLink};
use wire::message::{Code, ToHub};

use crate::login::{empty_hub, ended, join_at, link_in, roster, state, stdout};
use crate::speaker::{Asked, Speaker, prove, unique_id_in};

#[test]
fn who_may_enrol_open_by_default_where_only_this_machine_connects_else_by_invite() {
    let mut cluster = empty_hub(&[]);
    assert!(cluster.hub().wait_for_line("address", PATIENCE).contains("anybody may enrol"));
    let dir = scratch();
    // Over whichever transport.
    for args in [
        &["--listen", "0.0.0.0:0"][..],
        &["--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"],
        &["--listen", "127.0.0.1:0", "--text", "0.0.0.0:0", "--text-insecure"],
    ] {
        let looked = stdout(lockstep_at(&*dir).arg("hub").args(args).arg("check").output().unwrap());
        assert!(looked.contains("enrolment by invite"), "{args:?}: {looked}");
        let hub = Proc::start(lockstep_at(&*dir).arg("hub").args(args));
        assert!(hub.wait_for_line("address", PATIENCE).contains("enrolment by invite"), "{args:?}");
    }
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
        assert_eq!(code, Some(5), "{id}: {said}");
        assert!(said.contains("this invite is spent") && said.contains("lockstep invite"), "{id}: {said}");
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
    assert_eq!(code, Some(5), "{said}");
    // For a second, and no longer.
    let short = link_in(&stdout(cluster.run(&["invite", "--expires", "1s"])));
    lapse(Duration::from_millis(1100), "the invite is good for a second");
    for id in ["4", "auto"] {
        let (code, said) = ended(&mut join_at(cluster.agent_home(4), &short, cluster.copy(4), id));
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains("this invite has expired") && said.contains("lockstep invite"), "{said}");
    }
    // Each is on record, with when the invite was made and without its code.
    let record = fs::read_to_string(cluster.hub_data().join("audit-refused.jsonl")).unwrap();
    for what in ["its invite is spent", "its invite has expired"] {
        let line = record.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {record}"));
        assert!(line.contains("not_invited") && line.contains("it was made at 20"), "{line}");
    }
    for link in [&two, &short] {
        let code = JoinLink::parse(link).unwrap().invite().unwrap().reveal();
        assert!(!record.contains(&*code), "a code is on record");
    }
    // None is made that lets nobody in.
    for args in [&["--expires", "0s"][..], &["--expires", "900ms"], &["--expires", "367d"], &["--uses", "0"]] {
        let (code, said) = ended(&mut cluster.ask(&[&["invite"], args].concat()));
        assert_eq!(code, Some(2), "{args:?}: {said}");
    }
    // Spent is spent, also after the hub was killed; what is not is not.
    let one = link_in(&stdout(cluster.run(&["invite"])));
    cluster.kill_hub();
    cluster.start_hub();
    let (code, _) = ended(&mut join_at(cluster.agent_home(4), &two, cluster.copy(4), "4"));
    assert_eq!(code, Some(5));
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
    assert_eq!(code, Some(5), "{said}");
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
    assert_eq!(code, Some(5), "{said}");
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
    assert_eq!(cluster.agent(1).wait_exit(PATIENCE).code(), Some(5));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let said = cluster.agent(1).output().join("\n");
    assert!(said.contains("revoked") && said.contains("lockstep leave"), "{said}");
    // A service that starts it again is told the same, and what to do.
    let (code, said) = ended(&mut cluster.join(1));
    assert!(code == Some(5) && said.contains("revoked"), "{code:?}: {said}");
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
