//! With the programs that people have: `nc`, a shell, and a network whose cable can be pulled.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Cluster, PATIENCE, Proc, netcat, scratch, until, workspace};
use wire::limits::SILENCE_MAX;

use super::active;
use super::typist::text_hub;
use crate::login::stdout;

/// A person at `nc`.
struct Person {
    nc: Proc,
    keyboard: std::process::ChildStdin,
}

impl Person {
    fn at(address: &str) -> Self {
        let (host, port) = address.rsplit_once(':').unwrap();
        let mut nc = Proc::start_with_stdin(netcat().args([host, port]).stdin(Stdio::piped()));
        let keyboard = nc.take_stdin().unwrap();
        Self { nc, keyboard }
    }

    fn sees(&self, line: &str) -> String {
        self.nc.wait_for_line(line, PATIENCE)
    }

    fn types(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }
}

#[test]
fn m3_1_m3_2_m3_3_m3_4_m3_5_m3_7_a_person_with_nc_is_a_client_like_any_other() {
    let (cluster, address) = text_hub(&[]);
    let mut person = Person::at(&address);
    person.sees("id? an integer");
    person.types("seven");
    person.sees("refused bad_id");
    person.types("7");
    let unique_id = person.sees("issued ").split_whitespace().nth(1).unwrap().to_owned();
    person.sees("press Enter");
    person.types("");
    person.sees("welcome 7 ");
    person.types("help");
    person.sees("follow [PATTERN]");
    person.types("follow temp*");
    person.sees("ok all temp*");
    assert!(cluster.run(&["put", "temp/hall", "21.5"]).status.success());
    person.sees("temp/hall 21.5");
    person.types("put note \"two\\nlines\"");
    person.sees("ok ");
    until(PATIENCE, "the value", || cluster.run(&["get", "note"]).stdout == b"two\nlines");
    assert_eq!(active(&cluster), [7]);
    assert!(stdout(cluster.run(&["clients", "list"])).contains(" text "));
    // The terminal is closed, or its machine's nc is killed: gone at once.
    let start = Instant::now();
    person.nc.kill9();
    until(PATIENCE, "it to leave", || active(&cluster).is_empty());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let mut person = Person::at(&address);
    person.types("7");
    person.sees("unique_id?");
    person.types(&unique_id);
    person.sees("welcome 7 ");
    person.types("quit");
    person.sees("bye quit");
    drop(person.keyboard);
    person.nc.wait_exit(PATIENCE);
}

#[test]
fn m3_7_the_examples_for_the_shell_do_what_they_say() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut cluster = Cluster::start(|_| {}, &["--text", &format!("127.0.0.1:{port}")]);
    netcat();
    let home = scratch();
    let example = |name: &str, args: &[&str]| {
        let mut command = Command::new(workspace().join("examples/shell").join(name));
        command.args(["127.0.0.1", &port]).args(args).env("HOME", &*home);
        command
    };
    for value in ["the first login", "two words, known by now"] {
        let done = example("put.sh", &["7", "greeting", value]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(stdout(cluster.run(&["get", "greeting"])), value);
    }
    assert_eq!(example("put.sh", &["7", "greeting", "\"open"]).output().unwrap().status.code(), Some(1));
    let follow = Proc::start(&mut example("follow.sh", &["7", "g*"]));
    follow.wait_for_line("greeting two words, known by now", PATIENCE);
    assert!(cluster.run(&["put", "g2", "live"]).status.success());
    follow.wait_for_line("g2 live", PATIENCE);
    // It goes on after the hub was killed, with what it missed and nothing else.
    until(PATIENCE, "the cursor", || home.join(".lockstep-text-7.cursor").is_file());
    let mark = follow.mark();
    cluster.kill_hub();
    cluster.start_hub();
    assert!(cluster.run(&["put", "g2", "missed"]).status.success());
    follow.wait_for_line_after(mark, "g2 missed", PATIENCE);
    assert!(!follow.output()[mark..].iter().any(|line| line.starts_with("greeting")), "{:?}", follow.output());
}

/// Two machines of their own and a cable between them, as far as the kernel is concerned.
const MACHINES: &str = r#"
    ip link set lo up
    unshare -n sleep 1000 & far=$!
    until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
    ip link add near type veth peer name far netns $far
    ip addr add 10.9.8.1/24 dev near
    ip link set near up
    nsenter -t $far -n sh -c 'ip addr add 10.9.8.2/24 dev far; ip link set far up'
    "$LOCKSTEP" hub --listen 127.0.0.1:0 --text 10.9.8.1:7119 --text-insecure --enrol open & hub=$!
    until nsenter -t $far -n nc -z 10.9.8.1 7119; do sleep 0.1; done
    (printf '7\n\nfollow\n'; sleep 1000) | nsenter -t $far -n nc 10.9.8.1 7119 &
    read cut
    nsenter -t $far -n ip addr del 10.9.8.2/24 dev far
    echo pulled
    wait $hub
"#;

/// What a half-open connection really is: a machine that says nothing any more, with and without values on their way.
#[test]
fn m3_5_a_machine_that_vanished_leaves_the_list_within_15_s() {
    if !Command::new("unshare")
        .args(["-n", "ip", "link"])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        // Only root may make networks; that the probes are set so is tested by the hub itself.
        eprintln!("not run: no network of its own may be made here");
        return;
    }
    netcat();
    for value_on_its_way in [false, true] {
        let home = scratch();
        let mut machines = support::lockstep_at(&*home);
        let program = machines.get_program().to_owned();
        let environment: Vec<_> = machines.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        machines = Command::new("unshare");
        machines.args(["-n", "sh", "-e", "-c", MACHINES]).env("LOCKSTEP", program).stdin(Stdio::piped());
        for (name, value) in environment {
            match value {
                Some(value) => machines.env(name, value),
                None => machines.env_remove(name),
            };
        }
        let mut machines = Proc::start_with_stdin(&mut machines);
        machines.wait_for_line("current ", PATIENCE);
        let run = |args: &[&str]| {
            support::lockstep_at(&*home).args(args).arg("--data").arg(home.join("hub")).output().unwrap()
        };
        let here = || stdout(run(&["clients", "list", "--json"])).contains("\"text\"");
        assert!(here());
        writeln!(machines.take_stdin().unwrap(), "cut").unwrap();
        machines.wait_for_line("pulled", PATIENCE);
        let start = Instant::now();
        if value_on_its_way {
            assert!(run(&["put", "x", "1"]).status.success());
        }
        until(PATIENCE, "it to leave", || !here());
        assert!(start.elapsed() < SILENCE_MAX, "{:?}", start.elapsed());
    }
}
