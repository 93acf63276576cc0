//! A hub and its agents: real processes, each as on a machine of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::{Proc, Scratch, SmallDisk, assert_same_trees, lockstep_at, scratch};

/// How long anything may take that takes milliseconds: for machines that are busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A hub with one share, and agents that keep it.
pub struct Cluster {
    scratch: Scratch,
    port: u16,
    hub: Option<Proc>,
    agents: Vec<Option<Proc>>,
    hub_args: Vec<String>,
    /// The hub's, by 0, and those of agents.
    disks: BTreeMap<usize, SmallDisk>,
    /// The addresses at which agents find the hub, where that is not its own.
    ways: BTreeMap<usize, String>,
}

impl Cluster {
    /// Starts a hub that shares the directory `share` below its scratch directory under the name `share`. `fill` fills it
    /// before the hub starts; `hub_args` are further flags.
    ///
    /// # Panics
    /// When the hub does not come up.
    #[track_caller]
    pub fn start(fill: impl FnOnce(&Path), hub_args: &[&str]) -> Self {
        Self::start_on(BTreeMap::new(), fill, hub_args)
    }

    /// As [`Cluster::start`]; by 0 the disk that holds the hub's data, by an agent's number the one that holds its copy.
    ///
    /// # Panics
    /// When the hub does not come up.
    #[track_caller]
    pub fn start_on(disks: BTreeMap<usize, SmallDisk>, fill: impl FnOnce(&Path), hub_args: &[&str]) -> Self {
        let scratch = scratch();
        let share = scratch.join("share");
        fs::create_dir(&share).expect("a scratch directory is new");
        fill(&share);
        let hub_args = hub_args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut cluster =
            Self { scratch, port: 0, hub: None, agents: Vec::new(), hub_args, disks, ways: BTreeMap::new() };
        cluster.start_hub();
        cluster
    }

    /// The scratch directory of everything.
    pub fn path(&self) -> &Path {
        self.scratch.as_ref()
    }

    /// The shared directory.
    pub fn share(&self) -> PathBuf {
        self.path().join("share")
    }

    /// The hub's home; its data is in `hub` below it, its log in `log/hub.log`.
    pub fn hub_home(&self) -> PathBuf {
        self.path().join("hub-home")
    }

    /// The hub's data directory.
    pub fn hub_data(&self) -> PathBuf {
        self.disks.get(&0).map_or_else(|| self.hub_home().join("hub"), |disk| disk.path().join("hub"))
    }

    /// The same, as the hub's own machine sees it.
    fn hub_data_there(&self) -> PathBuf {
        self.disks.get(&0).map_or_else(|| self.hub_data(), |disk| disk.place().join("hub"))
    }

    /// The disk of agent `n`, or by 0 the hub's.
    ///
    /// # Panics
    /// When it has none of its own.
    pub fn disk(&self, n: usize) -> &SmallDisk {
        &self.disks[&n]
    }

    /// `command` on the machine of agent `n`, or by 0 the hub's.
    fn at(&self, n: usize, command: Command) -> Command {
        match self.disks.get(&n) {
            Some(disk) => disk.inside(&command),
            None => command,
        }
    }

    /// The address at which agent `n` finds the hub from its next start on, instead of the hub's own.
    pub fn lead(&mut self, n: usize, address: String) {
        self.ways.insert(n, address);
    }

    /// The home of agent `n`; its data is in `agent` below it, its log in `log/join.log`.
    pub fn agent_home(&self, n: usize) -> PathBuf {
        self.path().join(format!("agent{n}-home"))
    }

    /// The copy that agent `n` keeps.
    pub fn copy(&self, n: usize) -> PathBuf {
        self.disks.get(&n).map_or_else(|| self.path().join(format!("copy{n}")), |disk| disk.path().join("copy"))
    }

    /// Where the hub listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The hub's process.
    ///
    /// # Panics
    /// When it was ended.
    #[track_caller]
    pub fn hub(&mut self) -> &mut Proc {
        self.hub.as_mut().expect("the hub runs")
    }

    /// Agent `n`'s process, from 1.
    ///
    /// # Panics
    /// When it was ended.
    #[track_caller]
    pub fn agent(&mut self, n: usize) -> &mut Proc {
        self.agents[n - 1].as_mut().expect("the agent runs")
    }

    /// Starts the hub: on a free port first, on the same one ever after.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start_hub(&mut self) {
        let hub = Proc::start(&mut self.hub_command());
        let line = hub.wait_for_line("address", PATIENCE);
        let port = line.split_whitespace().nth(1).and_then(|a| a.rsplit(':').next()).and_then(|p| p.parse().ok());
        self.port = port.unwrap_or_else(|| panic!("no port in {line:?}"));
        self.hub = Some(hub);
    }

    /// The further flags with which the hub starts the next time.
    pub fn set_hub_args(&mut self, args: &[&str]) {
        self.hub_args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// The command that starts the hub.
    pub fn hub_command(&self) -> Command {
        let mut command = lockstep_at(self.hub_home());
        command.env("LOCKSTEP_HUB_DATA", self.hub_data_there());
        let share = format!("share={}", self.share().display());
        command.args(["hub", "--share", &share, "--listen", &self.address()]).args(&self.hub_args);
        self.at(0, command)
    }

    /// The link that the hub printed at its last start.
    ///
    /// # Panics
    /// When it printed none.
    #[track_caller]
    pub fn link(&self) -> String {
        let hub = self.hub.as_ref().expect("the hub runs");
        let line = hub.wait_for_line("lockstep join", PATIENCE);
        line.split_whitespace().last().expect("the line has words").to_owned()
    }

    /// Kills the hub as a power switch would.
    pub fn kill_hub(&mut self) {
        if let Some(mut hub) = self.hub.take() {
            hub.kill9();
            hub.wait_exit(PATIENCE);
        }
    }

    /// Ends the hub in order.
    pub fn stop_hub(&mut self) {
        if let Some(mut hub) = self.hub.take() {
            hub.terminate();
            hub.wait_exit(PATIENCE);
        }
    }

    /// The command that joins as agent `n`, with the hub's link.
    pub fn join(&self, n: usize) -> Command {
        let mut command = lockstep_at(self.agent_home(n));
        let copy = self.disks.get(&n).map_or_else(|| self.copy(n), |disk| disk.place().join("copy"));
        // An address is enough on one machine; the first time, its key is kept.
        let link = self.ways.get(&n).cloned().unwrap_or_else(|| self.link());
        command.arg("join").arg(link).arg(copy).args(["--id", &n.to_string()]);
        self.at(n, command)
    }

    /// Starts agent `n`, from 1, with its number as its id.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start_agent(&mut self, n: usize) {
        self.put_agent(n, Proc::start(&mut self.join(n)));
    }

    /// As [`Cluster::start_agent`], and what stands where the copy is to be may go.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn adopt_agent(&mut self, n: usize) {
        self.put_agent(n, Proc::start(self.join(n).arg("--adopt")));
    }

    fn put_agent(&mut self, n: usize, agent: Proc) {
        if self.agents.len() < n {
            self.agents.resize_with(n, || None);
        }
        self.agents[n - 1] = Some(agent);
    }

    /// Starts agents 1 to `count` and waits until all are in sync.
    ///
    /// # Panics
    /// When they do not get there.
    #[track_caller]
    pub fn with_agents(mut self, count: usize) -> Self {
        for n in 1..=count {
            self.start_agent(n);
        }
        self.settle();
        self
    }

    /// Kills agent `n`.
    pub fn kill_agent(&mut self, n: usize) {
        if let Some(mut agent) = self.agents[n - 1].take() {
            agent.kill9();
            agent.wait_exit(PATIENCE);
        }
    }

    /// Ends agent `n` in order.
    pub fn stop_agent(&mut self, n: usize) {
        if let Some(mut agent) = self.agents[n - 1].take() {
            agent.terminate();
            agent.wait_exit(PATIENCE);
        }
    }

    /// A command that asks the hub: `["status"]`, `["clients", "list"]`.
    pub fn ask(&self, args: &[&str]) -> Command {
        let mut command = lockstep_at(self.hub_home());
        command.args(args).arg("--data").arg(self.hub_data_there());
        self.at(0, command)
    }

    /// Runs such a command.
    ///
    /// # Panics
    /// When it cannot be run.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.ask(args).output().expect("the program can be run")
    }

    /// Waits, by `lockstep wait`, until every running agent has everything; each is named, so one that has not begun to
    /// follow counts as behind.
    ///
    /// # Panics
    /// With everything that was said, when they do not get there.
    #[track_caller]
    pub fn settle(&self) {
        let running = self.agents.iter().enumerate().filter(|(_, agent)| agent.is_some()).map(|(n, _)| n + 1);
        let named: Vec<String> = running.flat_map(|n| ["--client".to_owned(), n.to_string()]).collect();
        let start = std::time::Instant::now();
        loop {
            // A client that never logged in yet is not known, which is an answer at once.
            let mut wait = self.ask(&["wait", "share", "--timeout", "10s"]);
            let output = wait.args(&named).output().expect("the program can be run");
            if output.status.success() {
                return;
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(start.elapsed() < PATIENCE * 2, "not in sync: {said}\n{}", self.scene());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// [`Cluster::settle`], then compares every running agent's copy with the share by means that are not ours.
    ///
    /// # Panics
    /// When they are not the same, with the difference and what everybody said.
    #[track_caller]
    pub fn assert_identical(&self) {
        self.settle();
        for n in (1..=self.agents.len()).filter(|n| self.agents[n - 1].is_some()) {
            if let Err(difference) = crate::same_trees(self.share(), self.copy(n)) {
                panic!("copy {n} differs:\n{difference}\n{}", self.scene());
            }
        }
    }

    /// As [`Cluster::assert_identical`] for one copy, whether its agent runs or not.
    #[track_caller]
    pub fn assert_copy_is_share(&self, n: usize) {
        assert_same_trees(self.share(), self.copy(n));
    }

    /// What everybody said and logged, for a failure's message.
    pub fn scene(&self) -> String {
        let mut scene = String::new();
        let mut add = |title: String, lines: String| {
            let tail: Vec<&str> = lines.lines().rev().take(40).collect();
            scene.push_str(&format!("--- {title}\n"));
            tail.iter().rev().for_each(|line| scene.push_str(&format!("{line}\n")));
        };
        if let Some(hub) = &self.hub {
            add("the hub said".into(), hub.output().join("\n"));
        }
        add("the hub's log".into(), fs::read_to_string(self.hub_home().join("log/hub.log")).unwrap_or_default());
        for (index, agent) in self.agents.iter().enumerate() {
            if let Some(agent) = agent {
                add(format!("agent {} said", index + 1), agent.output().join("\n"));
            }
            let log = self.agent_home(index + 1).join("log/join.log");
            add(format!("agent {}'s log", index + 1), fs::read_to_string(log).unwrap_or_default());
        }
        scene
    }
}
