//! Real commands: what they are told, what they leave, and how they end.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn after(script: &str) -> After {
    After {
        command: Command {
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            timeout: PATIENCE,
            variables: Vec::new(),
        },
        matching: Patterns::default(),
        ends: Ends::Newline,
    }
}

fn start(after: After) -> (Runner, Receiver<Ran>) {
    let (tell, told) = channel();
    let runner = Runner::start(after, move |ran| tell.send(ran.clone()).unwrap_or(())).unwrap();
    (runner, told)
}

fn change(runner: &Runner, paths: &[&str]) {
    for path in paths {
        runner.changed(&RelPath::new(path.as_bytes()).unwrap(), Some(Kind::File));
    }
    runner.same(true);
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::yield_now();
    }
}

fn is_alive(pid: &Path) -> bool {
    let pid = fs::read_to_string(pid).unwrap_or_default();
    if pid.trim().is_empty() {
        return false;
    }
    // One that was killed and not taken by whoever inherited it is dead as well.
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_run_is_told_what_changed_and_its_result_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let (runner, ran) = start(after(&format!("cat > {}; echo first >&2; echo why >&2; exit 7", told.display())));
    change(&runner, &["b", "a", "b"]);
    let first = ran.recv_timeout(PATIENCE).unwrap();
    assert_eq!((first.told, first.end, first.said.as_deref()), (2, End::Exited(7), Some("why")));
    assert_eq!(fs::read_to_string(&told).unwrap(), "a\nb\n");
    change(&runner, &[]);
    assert_eq!(runner.finish(PATIENCE), 0);
    assert!(ran.try_recv().is_err(), "nothing changed, nothing ran");
}

#[test]
fn nothing_runs_while_the_sides_differ_and_never_two_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (go, log) = (dir.path().join("go"), dir.path().join("log"));
    let script = "echo begin >> $1; cat >> $1; while [ ! -e $2 ]; do sleep 0.01; done; echo end >> $1";
    let mut command = after(script);
    command.command.args.extend(["sh".into(), log.clone().into(), go.clone().into()]);
    let (runner, ran) = start(command);
    runner.changed(&RelPath::new(&b"x"[..]).unwrap(), None);
    assert!(!runner.is_running() && runner.waiting() == 1);
    change(&runner, &["a"]);
    until("the command to have read", || fs::read_to_string(&log).is_ok_and(|log| log.ends_with("a\nx\n")));
    change(&runner, &["b"]);
    change(&runner, &["c"]);
    assert!(runner.is_running() && runner.waiting() == 2);
    fs::write(go, "").unwrap();
    assert_eq!(ran.recv_timeout(PATIENCE).unwrap().told, 2);
    assert_eq!(ran.recv_timeout(PATIENCE).unwrap().told, 2);
    assert_eq!(fs::read_to_string(log).unwrap(), "begin\na\nx\nend\nbegin\nb\nc\nend\n");
}

#[test]
fn what_takes_too_long_is_ended_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let (pid, deaf) = (dir.path().join("pid"), dir.path().join("deaf"));
    // Neither reads, one hears no SIGTERM.
    let script = format!(
        "sh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 1; done' & trap '' TERM; echo $$ > {}; wait; wait",
        deaf.display(),
        pid.display()
    );
    let mut command = after(&script);
    command.command.timeout = Duration::from_millis(300);
    let (runner, ran) = start(command);
    change(&runner, &["a"]);
    assert_eq!(ran.recv_timeout(PATIENCE).unwrap().end, End::TimedOut);
    assert!(pid.exists() && deaf.exists() && !is_alive(&pid));
    until("the one that hears nothing to be gone", || !is_alive(&deaf));
}

#[test]
fn what_a_command_leaves_running_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let (runner, ran) = start(after(&format!("sleep 1000 & echo $! > {}", pid.display())));
    change(&runner, &["a"]);
    assert_eq!(ran.recv_timeout(PATIENCE).unwrap().end, End::Exited(0));
    until("what it left to be gone", || !is_alive(&pid));
}

/// The tests above would see a survivor: of a command that is killed by itself, and not with its group, there is one.
#[test]
fn canary_a_kill_of_the_command_alone_leaves_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let child = dir.path().join("child");
    let script = format!("sh -c 'echo $$ > {}; exec sleep 1000' & wait", child.display());
    let mut command = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
    until("its child to run", || is_alive(&child));
    command.kill().unwrap();
    command.wait().unwrap();
    assert!(is_alive(&child));
    let pid = fs::read_to_string(&child).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

#[test]
fn an_end_lets_what_can_run_run_and_kills_it_when_time_is_up() {
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let (runner, ran) = start(after(&format!("cat > {}", told.display())));
    change(&runner, &["last"]);
    assert_eq!(runner.finish(PATIENCE), 0);
    assert!(ran.try_recv().unwrap().end.is_good() && fs::read_to_string(&told).unwrap() == "last\n");

    let (runner, ran) = start(after("exec sleep 1000"));
    change(&runner, &["a"]);
    until("the command to run", || runner.is_running());
    runner.changed(&RelPath::new(&b"b"[..]).unwrap(), None);
    assert_eq!(runner.finish(Duration::ZERO), 1, "b was told to nobody");
    assert_eq!(ran.try_recv().unwrap().end, End::Stopped);
}

#[test]
fn a_command_that_reads_nothing_of_much_does_not_hang() {
    let (runner, ran) = start(after("exit 0"));
    let paths: Vec<String> = (0..20_000).map(|n| format!("{n:0200}")).collect();
    change(&runner, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    let first = ran.recv_timeout(PATIENCE).unwrap();
    assert_eq!((first.told, first.end), (20_000, End::Exited(0)));
}

#[test]
fn patterns_are_about_paths_and_all_that_is_below_them() {
    let lines: [&[u8]; 3] = [b"*.conf", b"sites/", b"!secret.conf"];
    let after = After { matching: Patterns::new(lines).unwrap(), ..after("") };
    let about = |path: &str, kind| after.is_about(&RelPath::new(path.as_bytes()).unwrap(), Some(kind));
    assert!(about("a/b.conf", Kind::File) && about("sites/x/y", Kind::File) && about("sites", Kind::Dir));
    assert!(!about("a/b.txt", Kind::File) && !about("sites", Kind::File) && !about("secret.conf", Kind::File));
    let (runner, ran) = start(After {
        command: Command { args: vec!["-c".into(), "exit 1".into()], ..after.command.clone() },
        ..after.clone()
    });
    change(&runner, &["a.txt"]);
    assert_eq!((runner.finish(PATIENCE), ran.try_recv().is_err()), (0, true));
}

#[test]
fn a_program_that_is_not_there_is_told_before_anything_runs() {
    for missing in ["no-such-program", "/no/such/program", "", "/etc/passwd"] {
        let command = Command { program: missing.into(), ..after("").command };
        assert!(command.check().unwrap_err().to_string().contains(missing));
    }
    after("").command.check().unwrap();
}
