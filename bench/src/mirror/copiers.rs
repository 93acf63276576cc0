//! Who mirrors: ourselves, peers that are here, and the C program that makes the same safe calls and nothing else.

use crate::live::with_slash;
use crate::peers::{built, find};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{lockstep, stat_differences};

/// One that can make a directory what another one is.
pub(super) struct Copier {
    pub(super) name: &'static str,
    program: PathBuf,
    command: fn(&Path, &Path, &Path) -> Command,
    /// What it makes equal.
    makes: Makes,
    /// What it can do after a first copy.
    then: Then,
}

/// What is compared with the source after it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Makes {
    /// Names, content, modes and times.
    Everything,
    /// Names and content, times of files perhaps.
    Content,
}

/// How far it is a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Then {
    /// It copies everything again.
    Nothing,
    /// It copies what changed.
    Changes,
    /// And deletes what is extra.
    Deletions,
}

/// The name of ourselves, and of those that the aims name.
pub(super) const OURS: &str = "lockstep mirror";
pub(super) const OURS_ALONE: &str = "lockstep mirror --threads 1";
pub(super) const RSYNC: &str = "rsync -a --delete";
pub(super) const FLOOR: &str = "C floor";
pub(super) const XCP: &str = "xcp";
pub(super) const RCP: &str = "rcp";

impl Copier {
    /// All that are here, ourselves first; `notes` gets who is not.
    pub(super) fn all(dir: &Path, notes: &mut Vec<String>) -> Result<Vec<Self>> {
        let own = lockstep().get_program().into();
        let ours = |name, command| Self {
            name,
            program: PathBuf::clone(&own),
            command,
            makes: Makes::Everything,
            then: Then::Deletions,
        };
        let floor = Self {
            name: FLOOR,
            program: built("mirror_floor", dir)?,
            command: sync_floor,
            makes: Makes::Everything,
            then: Then::Deletions,
        };
        let mut all = vec![ours(OURS, mirror), ours(OURS_ALONE, mirror_alone), floor];
        for (name, program, command, makes, then) in peers() {
            match find(program) {
                Some(program) => all.push(Self { name, program, command, makes, then }),
                None => notes.push(format!("{program} is not here and was left out")),
            }
        }
        Ok(all)
    }

    pub(super) fn command(&self, source: &Path, copy: &Path) -> Command {
        (self.command)(&self.program, source, copy)
    }

    /// Whether it can do what is asked after a first copy.
    pub(super) fn can(&self, then: Then) -> bool {
        self.then >= then
    }

    /// The name of its directory.
    pub(super) fn slug(&self) -> String {
        self.name.replace(' ', "-")
    }

    /// Whether the copy is what the source is; contents are read unless nothing had to be done.
    pub(super) fn check(&self, source: &Path, copy: &Path, contents: bool) -> Result<()> {
        if self.makes == Makes::Everything {
            let differences = stat_differences(source, copy)?;
            let first = differences.first();
            ensure!(first.is_none(), "{}: {} differences, {first:?} the first", self.name, differences.len());
        }
        if contents {
            let differ = Command::new("diff").args(["-r", "-q"]).arg(source).arg(copy).output()?;
            ensure!(differ.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&differ.stdout));
        }
        Ok(())
    }
}

type Peer = (&'static str, &'static str, fn(&Path, &Path, &Path) -> Command, Makes, Then);

fn peers() -> [Peer; 7] {
    [
        (RSYNC, "rsync", rsync, Makes::Everything, Then::Deletions),
        ("cp -a, then cp -a -u", "cp", cp, Makes::Everything, Then::Changes),
        ("rclone sync", "rclone", rclone, Makes::Content, Then::Deletions),
        ("dirsync --sync --purge", "dirsync", dirsync, Makes::Content, Then::Deletions),
        ("unison -force", "unison", unison, Makes::Content, Then::Deletions),
        (XCP, "xcp", xcp, Makes::Content, Then::Nothing),
        (RCP, "rcp", rcp, Makes::Content, Then::Changes),
    ]
}

/// As many threads as we have by default.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8))
}

fn mirror(program: &Path, source: &Path, copy: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("mirror").arg(source).arg(copy).args(["--log", "none"]);
    command
}

fn mirror_alone(program: &Path, source: &Path, copy: &Path) -> Command {
    let mut command = mirror(program, source, copy);
    command.args(["--threads", "1"]);
    command
}

fn sync_floor(program: &Path, source: &Path, copy: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("sync").arg(source).arg(copy).arg(threads().to_string());
    command
}

/// The bare walk of both trees by the same C program.
pub(super) fn walk_floor(dir: &Path, source: &Path, copy: &Path, threads: usize) -> Command {
    let mut command = Command::new(dir.join("mirror_floor"));
    command.arg("walk").arg(source).arg(copy).arg(threads.to_string());
    command
}

fn rsync(program: &Path, source: &Path, copy: &Path) -> Command {
    let mut command = Command::new(program);
    // By default it compares times to the second, and leaves what differs by less.
    command.args(["-a", "--delete", "--modify-window=-1"]).arg(with_slash(source)).arg(copy);
    command
}

fn cp(program: &Path, source: &Path, copy: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-a", "-T"]).args(copy.exists().then_some("-u")).arg(source).arg(copy);
    command
}

fn rclone(program: &Path, source: &Path, copy: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["sync", "--links", "--config", "/dev/null"]).arg(source).arg(copy);
    command
}

fn dirsync(program: &Path, source: &Path, copy: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(source).arg(copy).args(["--sync", "--purge", "--create"]);
    // It writes a file of settings into the home directory.
    command.env("HOME", copy.parent().unwrap_or(copy));
    command
}

fn unison(program: &Path, source: &Path, copy: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-batch", "-silent", "-times", "-perms", "-1", "-confirmbigdel=false"]);
    command.arg("-force").arg(source).arg(source).arg(copy);
    command.env("UNISON", copy.with_extension("unison"));
    command
}

fn xcp(program: &Path, source: &Path, copy: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-r", "-T", "--no-progress"]).arg(source).arg(copy);
    command
}

fn rcp(program: &Path, source: &Path, copy: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--preserve", "--overwrite", "--quiet"]).arg(source).arg(copy);
    command
}
