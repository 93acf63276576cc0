//! The demo's processes: started as a person would, ended with the demo.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rustix::process::{Pid, Signal};

use super::{patience, text};
use crate::exit::Failure;
use crate::signals::Stop;

/// How long a process may take to end by itself.
const END_MAX: Duration = Duration::from_secs(5);

/// A hub, its agents, and where everything is.
pub(super) struct Cast {
    scratch: PathBuf,
    program: PathBuf,
    link: String,
    hub: Child,
    agents: Vec<Option<Child>>,
}

impl Cast {
    /// Starts the hub, then the agents.
    pub(super) fn start(scratch: &Path, agents: u64) -> Result<Self, Failure> {
        let program = std::env::current_exe().context("this program does not know its own file")?;
        let said = scratch.join("hub.out");
        let mut command = Command::new(&program);
        command.arg("hub").arg("--share").arg([b"share=".as_slice(), bytes(&scratch.join("share"))].concat().to_os());
        command
            .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--enrol", "open", "--data"])
            .arg(text(&scratch.join("hub")));
        let hub = spawn(command, scratch, "hub")?;
        let mut cast = Self { scratch: scratch.to_owned(), program, link: String::new(), hub, agents: Vec::new() };
        let begun = Instant::now();
        cast.link = loop {
            let said = fs::read_to_string(&said).unwrap_or_default();
            let line = said.lines().find(|line| line.contains("lockstep join"));
            if let Some(link) = line.and_then(|line| line.split_whitespace().last()).filter(|_| said.ends_with('\n')) {
                break link.to_owned();
            }
            cast.all_run()?;
            if begun.elapsed() > super::PATIENCE {
                return Err(Failure::could_not_run(anyhow!("the hub does not come up")));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        for id in 1..=agents {
            cast.agents.push(None);
            cast.start_agent(id)?;
        }
        Ok(cast)
    }

    pub(super) fn share(&self) -> PathBuf {
        self.scratch.join("share")
    }

    pub(super) fn copy(&self, id: u64) -> PathBuf {
        self.scratch.join(format!("copy{id}"))
    }

    pub(super) fn hub_data(&self) -> PathBuf {
        self.scratch.join("hub")
    }

    /// Starts an agent; it has joined before, or joins now.
    pub(super) fn start_agent(&mut self, id: u64) -> Result<(), Failure> {
        let name = format!("agent{id}");
        let mut command = Command::new(&self.program);
        command.arg("join").arg(&self.link).arg(text(&self.copy(id)));
        command.args(["--id", &id.to_string(), "--data"]).arg(text(&self.scratch.join(&name)));
        let agent = spawn(command, &self.scratch, &name)?;
        *self.place(id)? = Some(agent);
        Ok(())
    }

    /// Kills an agent, as a power switch would.
    pub(super) fn kill_agent(&mut self, id: u64) -> Result<(), Failure> {
        if let Some(mut agent) = self.place(id)?.take() {
            agent.kill().and_then(|()| agent.wait()).context("an agent cannot be killed")?;
        }
        Ok(())
    }

    /// Waits, by `lockstep wait`, until every agent has everything.
    pub(super) fn in_sync(&mut self, stop: &Stop) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let mut command = Command::new(&self.program);
            command.args(["wait", "share", "--timeout", "1s", "--data"]).arg(text(&self.hub_data()));
            for id in 1..=self.agents.len() {
                command.args(["--client", &id.to_string()]);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
            if command.status().context("lockstep wait cannot be run")?.success() {
                return Ok(());
            }
            patience(self, stop, begun, "the agents to be in sync")?;
            // Before the first login a client is not known, which is an answer at once.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// That none of the processes has ended by itself.
    pub(super) fn all_run(&mut self) -> Result<(), Failure> {
        let hub = [("hub".to_owned(), Some(&mut self.hub))].into_iter();
        let agents = self.agents.iter_mut().enumerate().map(|(i, agent)| (format!("agent{}", i + 1), agent.as_mut()));
        for (name, process) in hub.chain(agents) {
            let Some(process) = process else { continue };
            if let Some(status) = process.try_wait().with_context(|| format!("cannot ask after {name}"))? {
                let said = fs::read_to_string(self.scratch.join(format!("{name}.err"))).unwrap_or_default();
                let said = tree::path::escape(said.lines().last().unwrap_or_default().as_bytes());
                return Err(Failure::could_not_run(anyhow!("the {name} process has ended ({status}): {said}")));
            }
        }
        Ok(())
    }

    /// Ends everybody in order: agents first, so that none of them looks for a hub.
    pub(super) fn end(&mut self) {
        for agent in self.agents.iter_mut().filter_map(Option::take) {
            end(agent);
        }
        ask_to_end(&self.hub);
    }

    fn place(&mut self, id: u64) -> Result<&mut Option<Child>, Failure> {
        let index = usize::try_from(id - 1).map_err(anyhow::Error::from)?;
        self.agents.get_mut(index).ok_or_else(|| Failure::could_not_run(anyhow!("there is no agent {id}")))
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        self.end();
        let begun = Instant::now();
        while begun.elapsed() < END_MAX {
            if !matches!(self.hub.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        tell_if(self.hub.kill().and_then(|()| self.hub.wait().map(|_| ())));
    }
}

/// A process in a group of its own, so that Ctrl-C reaches the demo alone, which then ends the others in order.
fn spawn(mut command: Command, scratch: &Path, name: &str) -> Result<Child, Failure> {
    let file = |end: &str| File::create(scratch.join(format!("{name}.{end}")));
    let (out, err) = (file("out").context("cannot write")?, file("err").context("cannot write")?);
    command.arg("--log").arg(text(&scratch.join(format!("{name}.log"))));
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    Ok(command.spawn().with_context(|| format!("the {name} process cannot be started"))?)
}

fn ask_to_end(process: &Child) {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    // One that has ended by itself is not there to be asked.
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process(pid, Signal::TERM)
    {
        tracing::debug!(%error, "a process had ended");
    }
}

fn end(mut process: Child) {
    ask_to_end(&process);
    let begun = Instant::now();
    while begun.elapsed() < END_MAX {
        if !matches!(process.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    tell_if(process.kill().and_then(|()| process.wait().map(|_| ())));
}

fn tell_if(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a process could not be killed");
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

trait ToOs {
    fn to_os(self) -> std::ffi::OsString;
}

impl ToOs for Vec<u8> {
    fn to_os(self) -> std::ffi::OsString {
        std::os::unix::ffi::OsStringExt::from_vec(self)
    }
}
