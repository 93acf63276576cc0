//! What strangers and broken peers can do to a hub: nothing that others notice, and nothing that is not in the log; and no
//! secret ever leaves its place.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE, Proc, Rng, for_each_seed, lapse, lockstep_at, pick, until};
use wire::answer::Question;
use wire::link::JoinLink;
use wire::message::{Code, Purpose, ToClient, ToHub};
use wire::unique_id::UniqueId;

use crate::speaker::{Asked, Heard, Speaker, hello, unique_id_in};

/// From the first byte to being logged in.
const LOGIN_MAX: Duration = Duration::from_secs(10);
/// What the hub may grow by for all the strangers there can be.
const RSS_GROWTH_MAX: u64 = 48 << 20;

fn log(cluster: &Cluster) -> String {
    String::from_utf8_lossy(&fs::read(cluster.hub_home().join("log/hub.log")).unwrap()).into_owned()
}

/// Whether the other side ends a plain connection within the span.
fn is_cut(stream: &mut TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A login takes this long while others misbehave.
fn login_takes(cluster: &Cluster, id: u64, unique_id: Option<&UniqueId>) -> Duration {
    let start = Instant::now();
    drop(Speaker::logged_in(&cluster.address(), id, unique_id));
    start.elapsed()
}

#[test]
fn garbage_instead_of_tls_is_cut_and_logged() {
    let mut cluster = Cluster::start(|_| {}, &[]);
    for_each_seed(&[1], |seed| {
        let mut rng = Rng::new(seed);
        let rss = cluster.hub().rss_bytes().unwrap();
        for round in 0..pick(40, 2000) {
            let mut garbage = match round % 4 {
                0 => b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n".to_vec(),
                // A TLS record of the largest length there is, and noise.
                1 => vec![0x16, 0x03, 0x01, 0xff, 0xff],
                // A frame of ours without TLS.
                2 => vec![0, 0, 0, 0x40],
                _ => Vec::new(),
            };
            let count = 1 + rng.below(50_000);
            garbage.extend(rng.bytes(count));
            let mut stream = TcpStream::connect(cluster.address()).unwrap();
            // The hub may well have hung up before the end.
            stream.write_all(&garbage).ok();
            stream.shutdown(Shutdown::Write).ok();
            assert!(is_cut(&mut stream, PATIENCE), "round {round}");
        }
        assert!(cluster.hub().rss_bytes().unwrap() < rss + RSS_GROWTH_MAX);
    });
    until(PATIENCE, "the log to tell", || log(&cluster).contains("no TLS handshake"));
    login_takes(&cluster, 1, None);
}

#[test]
fn garbage_half_frames_and_endless_lengths_inside_tls_are_cut() {
    let mut cluster = Cluster::start(|_| {}, &[]);
    let address = cluster.address();
    let rss = cluster.hub().rss_bytes().unwrap();
    // A gibibyte announced, before login and after: refused by that number alone, and told why.
    let announced: [u32; 3] = [1 << 30, u32::MAX, 4097];
    for length in announced {
        let mut speaker = Speaker::greeted(&address);
        speaker.write(&length.to_le_bytes()).unwrap();
        let refusal = speaker.refused();
        assert_eq!(refusal.code, Code::Protocol, "{length}: {refusal:?}");
        assert!(speaker.is_cut(PATIENCE));
    }
    let mut many: Vec<Speaker> = Vec::new();
    for id in 1..=10 {
        let (mut speaker, _) = Speaker::logged_in(&address, id, None);
        speaker.write(&(1_u32 << 30).to_le_bytes()).unwrap();
        many.push(speaker);
    }
    for speaker in &mut many {
        assert_eq!(speaker.refused().code, Code::Protocol);
        assert!(speaker.is_cut(PATIENCE));
    }
    // Announced and never sent; sent and no message; a message of nothing; bytes behind a message.
    for_each_seed(&[2], |seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..pick(40, 2000) {
            let count = 1 + rng.below(300);
            let body = rng.bytes(count);
            let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
            frame.extend(&body);
            let mut speaker = Speaker::greeted(&address);
            speaker.write(&frame).unwrap();
            // Noise may by chance say something: then it is out of place, or no ID, and the third of those is the last.
            for _ in 0..3 {
                if speaker.write(&frame).is_err() {
                    break;
                }
            }
            assert!(speaker.is_cut(LOGIN_MAX + PATIENCE), "{frame:?}");
        }
    });
    assert!(cluster.hub().rss_bytes().unwrap() < rss + RSS_GROWTH_MAX);
    let told = log(&cluster);
    assert!(told.contains("not logged in") && !told.contains("panicked"), "{told}");
    login_takes(&cluster, 99, None);
}

/// Each question that waits for everybody looks at all clients, and there may be thousands of both.
#[test]
fn many_that_wait_hold_no_copies_of_the_roster_and_keep_nobody_waiting() {
    const CLIENTS: u64 = 4000;
    let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &[]);
    let inventory = cluster.path().join("inventory.csv");
    let rows: String = (1..=CLIENTS).map(|id| format!("{id},shelf-{id}\n")).collect();
    fs::write(&inventory, format!("id,tags\n{rows}")).unwrap();
    assert!(cluster.run(&["clients", "import", inventory.to_str().unwrap()]).status.success());
    // Somebody whom everybody waits for; its own questions come over as many connections as it likes.
    let mut lagging = Speaker::greeted(&cluster.address());
    let Asked::Issued(_) = lagging.claim("7", None) else { panic!("not issued") };
    lagging.say(&ToHub::Confirm);
    let token = lagging.welcome().token;
    lagging.say(&ToHub::Follow { fid: 1, board: "share/share".into(), pattern: "*".into(), cursor: None });
    assert!(matches!(lagging.hear(), ToClient::Following { .. }));
    let ids: Vec<u64> = (1..=CLIENTS).collect();
    let wait = |clients: &[u64]| {
        let (target, timeout_ms) = (None, 3_600_000);
        ToHub::Ask { req: 1, question: Question::Wait { target, clients: clients.to_vec(), timeout_ms } }
    };
    let rss = cluster.hub().rss_bytes().unwrap();
    let mut others: Vec<Speaker> = Vec::new();
    let mut full = 0;
    for _ in 0..4 {
        let mut speaker = Speaker::connect(&cluster.address());
        speaker.say(&hello(Purpose::Relay { token }));
        assert!(matches!(speaker.hear(), ToClient::Hello { .. }));
        assert_eq!(speaker.hear(), ToClient::Attached);
        for n in 0..20 {
            speaker.say(&wait(if n % 2 == 0 { &[] } else { &ids }));
        }
        others.push(speaker);
    }
    // Of 80 it may ask 16 at once; the others are told.
    until(PATIENCE, "64 to be told that they are too many", || {
        lagging.say(&ToHub::Ping { nonce: 1 });
        for speaker in &mut others {
            while let Heard::Said(said) = speaker.listen(Duration::from_millis(1)) {
                let ToClient::Failed { refusal, .. } = *said else { panic!("{said:?}") };
                assert!(refusal.code == Code::Full && refusal.retry_ms.is_some(), "{refusal:?}");
                full += 1;
            }
        }
        full >= 64
    });
    assert_eq!(full, 64);
    let grown = cluster.hub().rss_bytes().unwrap().saturating_sub(rss);
    assert!(grown < 16 << 20, "{grown} bytes for {CLIENTS} clients");
    login_takes(&cluster, 5000, None);
    assert!(cluster.run(&["wait", "--client", "1", "--timeout", "10ms"]).status.code() == Some(1));
    cluster.stop_hub();
}

/// Where few files may be open, the connections that clients have beside their own leave some to those who are to log in.
#[test]
fn further_connections_of_all_clients_are_a_quarter_of_the_open_files_and_each_has_its_first() {
    const FILES: usize = 240;
    let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &[]);
    cluster.stop_hub();
    let usual = cluster.hub_command();
    let mut few = Command::new("sh");
    few.args(["-c", &format!("ulimit -n {FILES}; exec \"$@\""), "sh"]).arg(usual.get_program()).args(usual.get_args());
    let hub = Proc::start(few.envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?)))));
    hub.wait_for_line("address", PATIENCE);
    let enter = |id: u64| {
        let mut speaker = Speaker::greeted(&cluster.address());
        let Asked::Issued(_) = speaker.claim(&id.to_string(), None) else { panic!("not issued") };
        speaker.say(&ToHub::Confirm);
        let token = speaker.welcome().token;
        (speaker, token)
    };
    let attach = |token| {
        let mut speaker = Speaker::connect(&cluster.address());
        speaker.say(&hello(Purpose::Relay { token }));
        assert!(matches!(speaker.hear(), ToClient::Hello { .. }));
        match speaker.hear() {
            ToClient::Attached => Ok(speaker),
            ToClient::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    };
    let (mut here, mut beside) = (Vec::new(), Vec::new());
    // Each greedy one takes what it gets; the later ones get their first, and no more.
    for id in 1..=4 {
        let (mut speaker, token) = enter(id);
        let refused = loop {
            speaker.say(&ToHub::Ping { nonce: 1 });
            match attach(token) {
                Ok(attached) => beside.push(attached),
                Err(refusal) => break refusal,
            }
        };
        assert!(refused.code == Code::Limit && refused.retry_ms.is_some(), "{refused:?}");
        here.push(speaker);
    }
    assert_eq!(beside.len(), FILES / 4 + here.len());
    // Who comes now logs in as ever.
    enter(5);
    drop(beside);
}

#[test]
fn a_login_that_takes_too_long_is_told_and_cut() {
    let cluster = Cluster::start(|_| {}, &[]);
    let start = Instant::now();
    let mut plain = TcpStream::connect(cluster.address()).unwrap();
    let mut greeted = Speaker::greeted(&cluster.address());
    // Half a frame, and a byte now and then: as good as nothing.
    let mut slow = Speaker::greeted(&cluster.address());
    slow.write(&[200, 0, 0, 0]).unwrap();
    // The handshake's time is the login's as well.
    let late = TcpStream::connect(cluster.address()).unwrap();
    lapse(LOGIN_MAX / 2, "a slow handshake");
    let mut late = Speaker::over(late);
    late.say(&hello(Purpose::Login));
    while start.elapsed() < LOGIN_MAX - Duration::from_secs(1) {
        slow.write(&[0]).unwrap();
        lapse(Duration::from_millis(500), "a byte now and then");
    }
    assert_eq!(greeted.refused().code, Code::TimedOut);
    assert!(start.elapsed() > LOGIN_MAX - Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(late.is_cut(LOGIN_MAX / 4), "the handshake got a time of its own: {:?}", start.elapsed());
    assert!(greeted.is_cut(PATIENCE) && slow.is_cut(PATIENCE) && is_cut(&mut plain, PATIENCE));
    assert!(start.elapsed() < LOGIN_MAX + Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(log(&cluster).contains("no login in time"));
}

#[test]
fn three_hundred_that_never_log_in_cost_little_and_slow_nobody_down() {
    let mut cluster = Cluster::start(|_| {}, &[]).with_agents(1);
    let address = cluster.address();
    let (_, known) = Speaker::logged_in(&address, 500, None);
    let rss = cluster.hub().rss_bytes().unwrap();
    // Half of them say nothing at all; half are greeted and stay at the question.
    let mut silent: Vec<TcpStream> = Vec::new();
    let mut greeted: Vec<Speaker> = Vec::new();
    let mut slowest = Duration::ZERO;
    for n in 0..150_u64 {
        silent.push(TcpStream::connect(&address).unwrap());
        greeted.push(Speaker::greeted(&address));
        if n % 10 == 9 {
            slowest = slowest.max(login_takes(&cluster, 500, Some(&known)));
            slowest = slowest.max(login_takes(&cluster, 1000 + n, None));
        }
    }
    assert!(slowest < Duration::from_secs(2), "a login took {slowest:?}");
    let start = Instant::now();
    assert!(cluster.run(&["put", "x", "y"]).status.success());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let grown = cluster.hub().rss_bytes().unwrap().saturating_sub(rss);
    assert!(grown < RSS_GROWTH_MAX, "300 strangers cost {grown} bytes");
    // Who is in stays in, and within the time of a login all others are gone, each with a line in the log.
    fs::write(cluster.share().join("f"), "new").unwrap();
    cluster.assert_identical();
    until(LOGIN_MAX + PATIENCE, "all to be cut", || cluster.hub().open_files().unwrap() < 60);
    let each = |why: &str| log(&cluster).matches(why).count() >= 150;
    until(PATIENCE, "a line for each", || each("no login in time") && each("no TLS handshake in time"));
    assert!(cluster.agent(1).is_running());
    drop((silent, greeted));
}

/// Wrong answers slow down their own address and id; a right one is never refused because of them.
#[test]
fn guessing_is_slowed_down_and_locks_nobody_out() {
    let cluster = Cluster::start(|_| {}, &[]);
    let (_, right) = Speaker::logged_in(&cluster.address(), 7, None);
    let start = Instant::now();
    for _ in 0..3 {
        let wrong = UniqueId::fresh(right.id()).unwrap();
        let mut guess = Speaker::greeted(&cluster.address());
        assert!(matches!(guess.claim("7", None), Asked::UniqueId));
        guess.say(&crate::speaker::prove(&wrong));
        assert_eq!(guess.refused().code, Code::NotProven);
    }
    // 0 s, 1 s, 2 s.
    assert!(start.elapsed() > Duration::from_millis(2900), "{:?}", start.elapsed());
    let other = login_takes(&cluster, 8, None);
    assert!(other < Duration::from_secs(1), "another id waits {other:?}");
    assert!(login_takes(&cluster, 7, Some(&right)) < Duration::from_secs(6));
    assert!(login_takes(&cluster, 7, Some(&right)) < Duration::from_secs(1), "a right answer forgives");
    assert!(log(&cluster).contains("id 7 was not proven"));
}

/// Someone logged in who breaks the protocol ends alone, and is told.
#[test]
fn what_does_not_belong_in_a_session_ends_that_session_alone() {
    let cluster = Cluster::start(|_| {}, &[]);
    let (mut other, _) = Speaker::logged_in(&cluster.address(), 1, None);
    let (mut misplaced, unique_id) = Speaker::logged_in(&cluster.address(), 2, None);
    misplaced.say(&ToHub::Want { share: "share".into(), contents: Vec::new() });
    // Told with a goodbye, or cut; not served.
    assert!(misplaced.is_cut(PATIENCE));
    let (mut again, _) = Speaker::logged_in(&cluster.address(), 2, Some(&unique_id));
    for _ in 0..200 {
        again.say(&ToHub::Follow { fid: 1, board: "share/none".into(), pattern: "*".into(), cursor: None });
    }
    let answered = (0..200).filter(|_| matches!(again.listen(PATIENCE), Heard::Said(_))).count();
    assert_eq!(answered, 200, "each is answered");
    other.put("x", "y").unwrap();
}

/// What is looked for, and where it may be: the unique IDs and invites that were issued.
struct Hunt {
    secrets: BTreeMap<String, String>,
}

impl Hunt {
    /// Whose secret is in `text`: the whole of it, or its random part in any case.
    fn found_in(&self, text: &[u8]) -> Option<&str> {
        let text = String::from_utf8_lossy(text).to_uppercase();
        let holds = |secret: &str| {
            let bare: String = secret.chars().filter(|c| *c != '-').collect();
            let core = &bare[bare.len() - 20..bare.len() - 6];
            let squeezed: String = text.chars().filter(|c| *c != '-').collect();
            squeezed.contains(&core.to_uppercase())
        };
        self.secrets.iter().find(|(_, secret)| holds(secret)).map(|(whose, _)| &**whose)
    }

    /// Every file below `dir`, except those where a secret belongs.
    fn in_files(&self, dir: &Path) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                found.extend(self.in_files(&path));
            } else if kind.is_file() && entry.file_name() != "key.json" {
                let whose = fs::read(&path).ok().and_then(|bytes| self.found_in(&bytes).map(str::to_owned));
                found.extend(whose.map(|whose| (path, whose)));
            }
        }
        found
    }
}

/// A day in the life of a hub with everything that goes wrong, logged as finely as can be; afterwards no unique ID and no
/// invite is anywhere but in the key file it belongs to.
#[test]
fn no_unique_id_and_no_invite_is_in_any_log_table_output_or_command_line() {
    let mut cluster = Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), &["--enrol", "invite"]);
    // As finely as can be: the hub again, and agents, with everything logged.
    cluster.stop_hub();
    let share = format!("share={}", cluster.share().display());
    let mut command = lockstep_at(cluster.hub_home());
    command.args(["hub", "--share", &share, "--listen", &cluster.address(), "--enrol", "invite"]);
    command.args(["--http", "127.0.0.1:0"]);
    let hub = Proc::start(command.env("LOCKSTEP_LOG", "trace"));
    let first = hub.wait_for_line("lockstep join", PATIENCE).split_whitespace().last().unwrap().to_owned();
    let mut secrets = BTreeMap::new();
    let mut outputs: Vec<(String, Vec<u8>)> = Vec::new();
    let invite = |link: &str| JoinLink::parse(link).unwrap().invite().unwrap().reveal();
    secrets.insert("the first invite".to_owned(), invite(&first));
    let ask = |args: &[&str]| cluster.ask(args).env("LOCKSTEP_LOG", "trace").output().unwrap();
    let link_by =
        |args: &[&str]| String::from_utf8(ask(args).stdout).unwrap().split_whitespace().last().unwrap().to_owned();
    let second = link_by(&["invite", "--uses", "2"]);
    secrets.insert("the second invite".to_owned(), invite(&second));
    secrets.insert("a token".to_owned(), link_by(&["token", "--name", "probe"]));
    // The link comes through standard input, so that no command line has it.
    let join = |n: usize, link: &str| {
        let mut command = lockstep_at(cluster.agent_home(n));
        command.args(["join", "-"]).arg(cluster.copy(n)).args(["--id", &n.to_string()]).env("LOCKSTEP_LOG", "trace");
        let mut agent = Proc::start_with_stdin(command.stdin(std::process::Stdio::piped()));
        agent.take_stdin().unwrap().write_all(link.as_bytes()).unwrap();
        agent
    };
    let agents = [join(1, &first), join(2, &second)];
    for (n, agent) in (1..).zip(&agents) {
        agent.wait_for_line("in sync", PATIENCE);
        let unique_id = unique_id_in(&cluster.agent_home(n).join("agent"));
        secrets.insert(format!("the unique ID of {n}"), unique_id.reveal());
    }
    // Wrong, mistyped, replayed, taken over, reissued, revoked.
    let right = unique_id_in(&cluster.agent_home(2).join("agent"));
    let wrong = UniqueId::fresh(right.id()).unwrap();
    secrets.insert("a wrong unique ID".to_owned(), wrong.reveal());
    let mistyped = wrong.reveal().replace('-', "").to_lowercase();
    for text in [wrong.reveal(), format!("{mistyped}0")] {
        let mut speaker = Speaker::greeted(&cluster.address());
        assert!(matches!(speaker.claim("2", Some(&invite(&first))), Asked::UniqueId));
        speaker.say(&ToHub::UniqueId { unique_id: text.as_str().into() });
        outputs.push(("a refusal".to_owned(), format!("{:?}", speaker.refused()).into_bytes()));
    }
    let mut replay = join(3, &first);
    assert_eq!(replay.wait_exit(PATIENCE).code(), Some(5));
    let (mut speaker, _) = Speaker::logged_in(&cluster.address(), 2, Some(&right));
    speaker.write(b"\xff\xff\xff\xff").unwrap();
    let reissued = link_by(&["clients", "reissue", "2"]);
    secrets.insert("a reissue".to_owned(), invite(&reissued));
    // Over HTTP, with a token in a file: of an administrator, of somebody else, and one that is none.
    let url = hub.wait_for_line("http     http", PATIENCE).split_whitespace().nth(1).unwrap().to_owned();
    let elsewhere = support::scratch();
    let over_http = |token: &str, args: &[&str]| {
        let file = elsewhere.join("token");
        fs::write(&file, token).unwrap();
        let mut command = lockstep_at(&elsewhere);
        command.args(args).args(["--hub", &url, "--token-file"]).arg(file).env("LOCKSTEP_LOG", "trace");
        command
    };
    let admins = link_by(&["token", "--name", "ops", "--admin"]);
    secrets.insert("an administrator's token".to_owned(), admins.clone());
    let none = wire::bearer::Bearer::fresh().unwrap().reveal();
    secrets.insert("no token".to_owned(), none.clone());
    for (token, code) in [(&admins, 0), (&secrets["a token"], 3), (&none, 3)] {
        let output = over_http(token, &["clients", "tag", "1", "+x"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        outputs.push(("over HTTP".to_owned(), [output.stdout, output.stderr].concat()));
    }
    fs::write(cluster.share().join("new"), "x").unwrap();
    let waits = Proc::start(&mut over_http(&admins, &["wait", "share", "--client", "2", "--timeout", "600s"]));
    for file in ["cmdline", "environ"] {
        let path = format!("/proc/{}/{file}", waits.pid().as_raw_nonzero());
        outputs.push((path.clone(), fs::read(path).unwrap()));
    }
    drop(waits);
    // A link that was mistyped is refused without being repeated.
    let cut_short = &second[..second.len() - 2];
    let mut bad = join(4, cut_short);
    assert_eq!(bad.wait_exit(PATIENCE).code(), Some(2));
    for args in [
        &["clients", "list", "--all"][..],
        &["clients", "list", "--all", "--json"],
        &["clients", "show", "2"],
        &["clients", "show", "1", "--json"],
        &["clients", "export", "--format", "csv"],
        &["token", "list"],
        &["token", "revoke", "probe"],
        &["status"],
        &["status", "--json"],
        &["put", "x", "y"],
        &["get", "x", "--json"],
        &["wait", "--timeout", "1s"],
        &["clients", "revoke", "2"],
        &["clients", "show", "2", "--json"],
    ] {
        let output = ask(args);
        outputs.push((format!("{args:?}"), [output.stdout, output.stderr].concat()));
    }
    for (n, agent) in (1..).zip(agents.iter().chain([&replay, &bad])) {
        outputs.push((format!("agent {n}"), agent.output().join("\n").into_bytes()));
    }
    // What the hub printed: its own first invite is there, once, in the join line.
    let printed: Vec<String> = hub.output().into_iter().filter(|line| !line.starts_with("join ")).collect();
    outputs.push(("the hub".to_owned(), printed.join("\n").into_bytes()));
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            if let Ok(bytes) = fs::read(entry.path().join(file)) {
                outputs.push((format!("{}/{file}", entry.path().display()), bytes));
            }
        }
    }
    let hunt = Hunt { secrets };
    // The hunt finds what is there: in a key file, in a log, in lower case, without its dashes.
    assert!(hunt.found_in(&fs::read(cluster.agent_home(1).join("agent/key.json")).unwrap()).is_some());
    let planted = cluster.path().join("planted.log");
    fs::write(&planted, format!("id=1 {mistyped} said")).unwrap();
    assert_eq!(hunt.in_files(cluster.path()), [(planted.clone(), "a wrong unique ID".to_owned())]);
    fs::remove_file(planted).unwrap();
    for (what, said) in &outputs {
        assert_eq!(hunt.found_in(said), None, "{what}");
    }
    // Again when all have ended and have written all they have.
    drop(agents);
    let mut hub = hub;
    hub.terminate();
    hub.wait_exit(PATIENCE);
    assert_eq!(hunt.in_files(cluster.path()), []);
    let told = log(&cluster);
    for word in
        ["was not proven", "taken over", "revoked", "logged in", "an invite was made", "to administer was refused"]
    {
        assert!(told.contains(word), "the log says nothing of “{word}”: {told}");
    }
}
