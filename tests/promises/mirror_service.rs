//! `lockstep mirror --watch` as a service: several pairs in one process, a command after what was changed, a service manager
//! that is told the truth, and a status that is always answered.

mod after;
mod joined;
mod manager;
mod pairs;
mod status;
mod unit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::{Proc, Scratch, Tree, lockstep_at, scratch};

const PATIENCE: Duration = Duration::from_secs(30);

/// Directories of a test, and the program on a machine of its own.
struct Scene {
    dir: Scratch,
}

impl Scene {
    fn new() -> Self {
        let dir = scratch();
        Tree::at(dir.join("src")).file("a", "one").file("sub/b", "two");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A script that can be named in `--after`.
    fn script(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Something that cannot be mirrored, as it was not asked for.
    fn fifo(&self, name: &str) {
        let made = Command::new("mkfifo").arg(self.path(name)).status().unwrap();
        assert!(made.success());
    }

    fn lockstep(&self) -> Command {
        let mut command = lockstep_at(self.path("home"));
        command.current_dir(&*self.dir).env("LOCKSTEP_STATUS_DATA", self.path("home/mirror"));
        command
    }

    /// From `src` to `dst`, live.
    fn mirror(&self, flags: &[&str]) -> Command {
        let mut command = self.lockstep();
        command.arg("mirror").arg(self.path("src")).arg(self.path("dst")).arg("--watch").args(flags);
        command
    }

    /// The pairs of `text`, live, each beginning as written: `NAME` keeps `NAME` equal to `NAME-copy`.
    fn pairs(&self, names: &[&str], more: &str) -> Command {
        self.configure(names, more);
        let mut command = self.lockstep();
        command.args(["mirror", "--watch", "--config"]).arg(self.path("mirror.toml"));
        command
    }

    fn configure(&self, names: &[&str], more: &str) {
        let pair = |name: &&str| {
            let (source, destination) = (self.path(name), self.path(&format!("{name}-copy")));
            format!("[[mirror.pair]]\nname = \"{name}\"\nsource = {source:?}\ndestination = {destination:?}\n{more}\n")
        };
        self.write("mirror.toml", &names.iter().map(pair).collect::<String>());
    }

    /// `lockstep status --mirror`: its exit code, stdout and stderr.
    fn status(&self, flags: &[&str]) -> (i32, String, String) {
        super::mirror::run(self.lockstep().args(["status", "--mirror"]).args(flags))
    }

    /// Each pair as the status tells it to programs.
    fn states(&self) -> Vec<serde_json::Value> {
        let (_, stdout, _) = self.status(&["--json"]);
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Whether the process that wrote its id to this file is there.
fn is_alive(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).unwrap_or_default();
    if pid.trim().is_empty() {
        return false;
    }
    // One that was killed and not taken by whoever inherited it is dead as well.
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

fn terminate(mut running: Proc) -> i32 {
    running.signal(rustix::process::Signal::TERM);
    running.wait_exit(PATIENCE).code().unwrap_or(-1)
}
