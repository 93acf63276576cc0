//! The frame of the command line: version, help, exit codes, settings, logs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use support::{binary, lockstep, scratch};

/// The id of a user without any right, to be when these tests run as root.
const NOBODY: u32 = 65_534;

#[test]
fn the_version_is_printed_on_stdout() {
    let output = lockstep().arg("--version").output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("lockstep {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_is_given_however_it_is_asked_for_and_each_command_tells_the_version() {
    let said = |args: &[&str]| {
        let output = lockstep().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (asked, same) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "mirror"], &["mirror", "--help"]),
        (&["help", "hub", "check"], &["hub", "check", "--help"]),
    ] {
        assert_eq!(said(asked), said(same));
    }
    for args in [&["hub", "--version"][..], &["clients", "list", "--version"]] {
        assert!(said(args).trim_end().ends_with(env!("CARGO_PKG_VERSION")), "{args:?}");
    }
    assert_eq!(lockstep().args(["help", "frobnicate"]).output().unwrap().status.code(), Some(2));
}

/// Whoever finds it out: the parser, this machine or the hub.
#[test]
fn what_has_no_meaning_exits_with_2_and_changes_nothing() {
    let cluster = crate::login::empty_hub(&[]);
    let long = "x".repeat(5000);
    for args in [
        &["invite", "--expires", "0s"][..],
        &["invite", "--read", "a*b"],
        &["invite", "--tag", "a b"],
        &["token", "--expires", "0s"],
        &["put", "", "value"],
        &["put", &long, "value"],
        &["get", ""],
        &["follow", "a*b"],
    ] {
        let output = cluster.run(args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(output.stdout.is_empty() && !told.is_empty(), "{args:?}: {told}");
    }
    // A client that there is not is another matter.
    assert_eq!(cluster.run(&["clients", "tag", "1", "+a"]).status.code(), Some(3));
    let taken = ["--share", "a=/tmp", "--share", "a=/usr"];
    for shares in [&["--share", "a b=/tmp"][..], &taken] {
        let mut command = support::lockstep_at(cluster.path().join("other"));
        command.args(["hub", "--listen", "127.0.0.1:0", "--http", "none"]).args(shares);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{shares:?}: {told}");
    }
}

#[test]
fn what_does_not_exist_exits_with_2_and_says_so_on_stderr() {
    for args in [&["frobnicate"][..], &["--frobnicate"], &["monitor", "--frobnicate"], &[]] {
        let output = lockstep().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let dir = scratch();
    let file = dir.join("lockstep.toml");
    fs::write(&file, "[monitor]\ncount = 1\nformat = \"csv\"\nlog = \"none\"\n").unwrap();
    let first = |command: &mut Command| {
        let output = command.env_remove("LOCKSTEP_MONITOR_LOG").env("LOCKSTEP_CONFIG", &file).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.starts_with("log: none"), "{stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    let by_file = first(lockstep().arg("monitor"));
    assert!(by_file.lines().count() == 2 && by_file.lines().next().unwrap().contains(','), "{by_file}");
    let by_environment = first(lockstep().arg("monitor").env("LOCKSTEP_MONITOR_FORMAT", "json"));
    assert!(by_environment.starts_with('{'), "{by_environment}");
    let args = ["monitor", "--format", "text"];
    let by_command_line = first(lockstep().args(args).env("LOCKSTEP_MONITOR_FORMAT", "json"));
    assert!(!by_command_line.starts_with('{') && by_command_line.contains("cpu"), "{by_command_line}");
}

#[test]
fn a_wrong_key_in_the_file_is_wrong_usage_whichever_command_runs() {
    let dir = scratch();
    let file = dir.join("lockstep.toml");
    fs::write(&file, "[mirror]\nwach = true\n").unwrap();
    let output = lockstep().args(["monitor", "--count", "1", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("mirror.wach") && told.contains("did you mean watch?"), "{told}");
}

#[test]
fn a_reader_that_went_away_is_quiet_success() {
    let mut child = lockstep()
        .args(["monitor", "--interval", "100ms", "--log", "none"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "log: none\n");
}

#[test]
fn a_log_that_cannot_be_written_is_told_with_its_path() {
    let dir = scratch();
    fs::write(dir.join("file"), "").unwrap();
    let output = lockstep().args(["monitor", "--count", "1", "--log"]).arg(dir.join("file/x.log")).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("file"), "{output:?}");
}

#[test]
fn a_user_logs_below_the_state_directory_and_the_first_line_names_the_log() {
    let dir = scratch();
    let (program, state) = (dir.join("lockstep"), dir.join("state"));
    fs::copy(binary(), &program).unwrap();
    fs::create_dir(&state).unwrap();
    for (path, mode) in [(&*dir, 0o755), (&program, 0o755), (&state, 0o777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new(&program);
    command.args(["monitor", "--count", "1"]).env_clear().env("XDG_STATE_HOME", &state).current_dir(&*dir);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let (stderr, log) = (String::from_utf8_lossy(&output.stderr), state.join("lockstep/log/monitor.log"));
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.lines().next(), Some(&*format!("log: {}", log.display())));
    assert_eq!(fs::read(log).unwrap(), output.stdout);
}
