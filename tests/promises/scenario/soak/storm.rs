//! Bad weather: what happens to a hub, its agents, and the cables of all, one thing after the other and for a while each.

use std::fs;
use std::time::{Duration, Instant};

use support::{Cable, Cluster, Rng, lapse, pick};

/// Files of the share at most.
const FILES: usize = 30;
/// A file's bytes at most. All of them fit on an agent's disk twice.
const FILE_BYTES: usize = 20_000;
/// Longer than the hub lets anybody be silent.
const LONG: Duration = Duration::from_secs(18);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    HubKilled,
    AgentKilled,
    HubStopped,
    AgentStopped,
    Cut,
    CutAll,
    Held,
    HubDiskFull,
    CopyDiskFull,
}

impl Fault {
    /// The first of them, after which a process is another one than before.
    const KILLS: usize = 2;
    const ALL: [Fault; 9] = [
        Fault::HubKilled,
        Fault::AgentKilled,
        Fault::HubStopped,
        Fault::AgentStopped,
        Fault::Cut,
        Fault::CutAll,
        Fault::Held,
        Fault::HubDiskFull,
        Fault::CopyDiskFull,
    ];
}

/// The agent whose copy is on a small disk.
pub(super) const CRAMPED: usize = 2;

/// The weather, and what it was so far.
pub(super) struct Storm {
    rng: Rng,
    began: Instant,
    pub(super) log: Vec<String>,
}

impl Storm {
    pub(super) fn new(seed: u64) -> Storm {
        Storm { rng: Rng::new(seed), began: Instant::now(), log: Vec::new() }
    }

    /// Until `span` is over, and each fault was there once. Without `kills`, all processes live through it.
    pub(super) fn rage(&mut self, cluster: &mut Cluster, cables: &[Cable], span: Duration, kills: bool) {
        let all = &Fault::ALL[if kills { 0 } else { Fault::KILLS }..];
        let (start, mut first) = (Instant::now(), self.shuffled(all));
        while let Some(fault) =
            first.pop().or_else(|| (start.elapsed() < span).then(|| *self.rng.choose(all).expect("there are some")))
        {
            self.edit(cluster);
            let span = match self.rng.below(pick(usize::MAX, 12)) {
                0 => LONG,
                _ => Duration::from_millis(self.rng.below(pick(400, 3000)) as u64),
            };
            self.happens(fault, cluster, cables, span);
            lapse(Duration::from_millis(self.rng.below(pick(150, 1000)) as u64), "some calm between two faults");
        }
    }

    fn shuffled(&mut self, of: &[Fault]) -> Vec<Fault> {
        let mut left = of.to_vec();
        (0..of.len()).map(|_| left.swap_remove(self.rng.below(left.len()))).collect()
    }

    fn happens(&mut self, fault: Fault, cluster: &mut Cluster, cables: &[Cable], span: Duration) {
        let (agent, cable) = (1 + self.rng.below(2), self.rng.below(cables.len()));
        self.log.push(format!("{:.3?} {fault:?} for {span:?}, agent {agent}, cable {cable}", self.began.elapsed()));
        let lasts = || lapse(span, "the fault lasts");
        match fault {
            Fault::HubKilled => {
                cluster.kill_hub();
                lasts();
                cluster.start_hub();
            }
            Fault::AgentKilled => {
                cluster.kill_agent(agent);
                lasts();
                cluster.start_agent(agent);
            }
            Fault::HubStopped => {
                cluster.hub().pause();
                lasts();
                cluster.hub().resume();
            }
            Fault::AgentStopped => {
                cluster.agent(agent).pause();
                lasts();
                cluster.agent(agent).resume();
            }
            Fault::Cut => {
                cables[cable].cut();
                lasts();
                cables[cable].mend();
            }
            Fault::CutAll => {
                cables.iter().for_each(Cable::cut);
                lasts();
                cables.iter().for_each(Cable::mend);
            }
            Fault::Held => {
                cables[cable].hold();
                lasts();
                cables[cable].release();
            }
            Fault::HubDiskFull => {
                cluster.disk(0).fill();
                lasts();
                cluster.disk(0).free();
            }
            Fault::CopyDiskFull => {
                cluster.disk(CRAMPED).fill();
                self.edit(cluster);
                lasts();
                cluster.disk(CRAMPED).free();
            }
        }
    }

    /// Changes the share: a few files, and what stands where.
    pub(super) fn edit(&mut self, cluster: &Cluster) {
        for _ in 0..=self.rng.below(3) {
            let dir = cluster.share().join(format!("d{}", self.rng.below(3)));
            let path = dir.join(format!("f{}", self.rng.below(FILES / 3)));
            fs::create_dir_all(&dir).expect("the share can be written");
            match self.rng.below(6) {
                // What is not there cannot be removed, and need not.
                0 => drop(fs::remove_file(&path)),
                1 => drop(fs::rename(&path, dir.join(format!("f{}", self.rng.below(FILES / 3))))),
                2 if self.rng.one_in(5) => drop(fs::remove_dir_all(&dir)),
                _ => {
                    let count = self.rng.below(FILE_BYTES);
                    fs::write(&path, self.rng.bytes(count)).expect("the share can be written");
                }
            }
        }
    }
}
