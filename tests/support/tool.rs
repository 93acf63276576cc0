//! Programs of others that some tests need. A test whose tool is missing fails, and is named at the end of `make test`.

use std::collections::BTreeSet;
use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::program::workspace;

/// An rsync to check copies with.
///
/// # Panics
/// When it is not installed: the test could not run.
#[track_caller]
pub fn rsync() -> Command {
    if Command::new("rsync").arg("--version").stdout(Stdio::null()).status().is_err() {
        could_not_run("rsync");
    }
    Command::new("rsync")
}

/// Whether this is root. If not, the test is named at the end of `make test`; no package would help it, so it does not
/// fail.
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        note("root");
    }
    root
}

/// `command`, seeing at `place` an empty disk of so many bytes that nobody else sees.
///
/// # Panics
/// When there is no `unshare`, or the system lets nobody mount for himself: the test could not run.
#[track_caller]
pub fn on_small_disk(place: &Path, bytes: u64, command: &Command) -> Command {
    let namespace = ["--map-root-user", "--mount"];
    let ready = Command::new("unshare").args(namespace).arg("true").stderr(Stdio::null()).status();
    if !ready.is_ok_and(|status| status.success()) {
        could_not_run("unshare, and a system where it may mount");
    }
    let mut there = Command::new("unshare");
    there.args(namespace).args(["sh", "-c", "mount -t tmpfs -o size=$1 tmpfs \"$2\" && shift 2 && exec \"$@\"", "sh"]);
    there.arg(bytes.to_string()).arg(place);
    wrap(there, command)
}

/// `outer`, which runs `command`.
pub(crate) fn wrap(mut outer: Command, command: &Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// The netcat that people type at.
///
/// # Panics
/// When it is not installed: the test could not run.
#[track_caller]
pub fn netcat() -> Command {
    if Command::new("nc").arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        could_not_run("nc");
    }
    Command::new("nc")
}

/// A curl, as a stock client of HTTP.
///
/// # Panics
/// When it is not installed: the test could not run.
#[track_caller]
pub fn curl() -> Command {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        could_not_run("curl");
    }
    Command::new("curl")
}

/// An strace, to count system calls with.
///
/// # Panics
/// When it is not installed: the test could not run.
#[track_caller]
pub fn strace() -> Command {
    if Command::new("strace").arg("--version").stdout(Stdio::null()).status().is_err() {
        could_not_run("strace");
    }
    Command::new("strace")
}

/// The systemd-analyze that judges units, also where no systemd runs.
///
/// # Panics
/// When it is not installed: the test could not run.
#[track_caller]
pub fn systemd_analyze() -> Command {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        could_not_run("systemd-analyze");
    }
    let mut command = Command::new("systemd-analyze");
    command.env("SYSTEMD_PAGER", "").env("LC_ALL", "C");
    command
}

/// The Python with psutil and pandas: `LOCKSTEP_PYTHON`, else the one `make test` sets up in `target/venv`.
///
/// # Panics
/// When it is not there: the test could not run.
#[track_caller]
pub fn python() -> PathBuf {
    python_with(&["pandas", "psutil"])
}

/// As [`python`], with these packages.
///
/// # Panics
/// When they are not there: the test could not run.
#[track_caller]
pub fn python_with(packages: &[&str]) -> PathBuf {
    let python =
        env::var_os("LOCKSTEP_PYTHON").map_or_else(|| workspace().join("target/venv/bin/python"), PathBuf::from);
    let mut import = Command::new(&python);
    import.args(["-c", &format!("import {}", packages.join(", "))]);
    if !is_ready(&mut import) {
        could_not_run(&format!("Python with {}", packages.join(" and ")));
    }
    python
}

/// The Chromium that people have, driven by playwright-core on Node: the command that runs a program of Node.
///
/// # Panics
/// When one of them is not there: the test could not run.
#[track_caller]
pub fn chromium() -> Command {
    let chromium = env::var_os("LOCKSTEP_CHROMIUM").map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if !chromium.is_file() {
        could_not_run("chromium");
    }
    node_with("playwright-core")
}

/// Node, with socket.io-client where it looks for packages: what `make test` sets up in `target/node`, or `LOCKSTEP_NODE_PATH`.
///
/// # Panics
/// When it is not there: the test could not run.
#[track_caller]
pub fn node() -> Command {
    node_with("socket.io-client")
}

/// As [`node`], with this package.
///
/// # Panics
/// When it is not there: the test could not run.
#[track_caller]
pub fn node_with(package: &str) -> Command {
    let mut node = Command::new("node");
    node.env("NODE_PATH", node_packages());
    let load = format!("require('{package}')");
    if !is_ready(node.args(["-e", &load])) {
        could_not_run(&format!("Node with {package}"));
    }
    let mut command = Command::new("node");
    command.envs(node.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// Whether this command succeeds; asked until it does once, as tests start many programs.
fn is_ready(command: &mut Command) -> bool {
    static READY: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let asked = format!("{command:?}");
    if READY.lock().unwrap_or_else(PoisonError::into_inner).contains(&asked) {
        return true;
    }
    let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let ready = ended.is_ok_and(|status| status.success());
    if ready {
        READY.lock().unwrap_or_else(PoisonError::into_inner).insert(asked);
    }
    ready
}

/// Where Node's packages are.
pub fn node_packages() -> PathBuf {
    env::var_os("LOCKSTEP_NODE_PATH").map_or_else(|| workspace().join("target/node/node_modules"), PathBuf::from)
}

/// Notes the test that runs on this thread for the summary of `make test`, and fails it.
#[track_caller]
pub fn could_not_run(tool: &str) -> ! {
    note(tool);
    panic!("could not run: needs {tool}; make test says how to get it");
}

fn note(tool: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    if let Some(list) = env::var_os("LOCKSTEP_COULD_NOT_RUN")
        && let Ok(mut list) = OpenOptions::new().create(true).append(true).open(list)
    {
        writeln!(list, "{test} (needs {tool})").ok();
    }
}
