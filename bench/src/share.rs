//! The first sync of many small files from a hub to an agent, a restart without changes, and the bytes on the wire.

use crate::harness::{Contender, Group, Report, Series, interleave};
use crate::live::with_slash;
use crate::mirror::timed;
use crate::{files, machine, relay};
use anyhow::{Result, ensure};
use std::cell::RefCell;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Cluster, Proc, Rng, same_trees};

/// Files of the tree.
const FILES: usize = 10_000;
/// Rounds of each.
const ROUNDS: usize = 3;
/// Whatever takes longer fails the run.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) fn run() -> Result<Report> {
    let mut tree_bytes = Ok(0);
    let fill = |share: &std::path::Path| tree_bytes = files::small_files(share, FILES, &mut Rng::new(11));
    let cluster = Cluster::start(fill, &[]);
    let tree_bytes = tree_bytes?;
    let source = cluster.share();
    // The first scan is over: what is measured is the way to the agent.
    let begun = Instant::now();
    while !cluster.run(&["wait", "share", "--timeout", "10s"]).status.success() {
        ensure!(begun.elapsed() < DEADLINE, "the hub did not get its share scanned");
    }
    let scanned_s = begun.elapsed().as_secs_f64();
    let cluster = RefCell::new(cluster);
    let copy = |name: &str| source.with_file_name(name);

    let restarts = RefCell::new(Vec::new());
    let mut contenders = vec![Contender::new("cp -a", |_| {
        let copy = copy("cp-copy");
        remove(&copy)?;
        let took = timed(Command::new("cp").args(["-a", "-T"]).arg(&source).arg(&copy))?;
        Ok(FILES as f64 / took)
    })];
    if machine::installed("rsync") {
        contenders.push(Contender::new("rsync -a", |_| {
            let copy = copy("rsync-copy");
            remove(&copy)?;
            let took = timed(Command::new("rsync").arg("-a").arg(with_slash(&source)).arg(&copy))?;
            Ok(FILES as f64 / took)
        }));
    }
    contenders.push(Contender::new("hub -> 1 agent", |round| {
        let cluster = &mut *cluster.borrow_mut();
        let n = round + 1;
        let begun = Instant::now();
        cluster.start_agent(n);
        cluster.settle();
        let took = begun.elapsed();
        same_trees(cluster.share(), cluster.copy(n)).map_err(anyhow::Error::msg)?;
        cluster.stop_agent(n);
        let begun = Instant::now();
        cluster.start_agent(n);
        cluster.settle();
        restarts.borrow_mut().push(begun.elapsed().as_secs_f64());
        cluster.stop_agent(n);
        remove(&cluster.copy(n))?;
        Ok(FILES as f64 / took.as_secs_f64())
    }));
    let first = interleave(ROUNDS, contenders)?;
    let restarts = Series { name: "agent stopped and started".into(), figures: restarts.take() };

    let mut cluster = cluster.into_inner();
    let (received, again) = wire_bytes(&mut cluster)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let notes = vec![
        format!(
            "{FILES} files of {:.1} MiB in all; the hub's first scan took {scanned_s:.2} s; results compared",
            mib(tree_bytes)
        ),
        format!(
            "on the wire, both ways, with TLS: {:.1} MiB for the first sync ({:.0} % of the tree), {:.3} MiB for a restart ({:.2} %)",
            mib(received),
            100.0 * received as f64 / tree_bytes as f64,
            mib(again),
            100.0 * again as f64 / tree_bytes as f64
        ),
    ];
    Ok(Report {
        bench: "share",
        compares: "the first sync of small files to an agent that just starts, against local copies".into(),
        groups: vec![
            Group { title: "first sync".into(), unit: "files/s", series: first },
            Group { title: "until in sync after a restart without changes".into(), unit: "s", series: vec![restarts] },
        ],
        notes,
    })
}

/// Bytes on the wire for a first sync and for a restart without changes, by an agent that comes through a relay.
fn wire_bytes(cluster: &mut Cluster) -> Result<(u64, u64)> {
    let (address, passed) = relay::start(cluster.address())?;
    let n = ROUNDS + 1;
    let mut counts = Vec::new();
    for _ in 0..2 {
        let before = passed.bytes();
        let mut join = support::lockstep_at(cluster.agent_home(n));
        join.arg("join").arg(address.to_string()).arg(cluster.copy(n)).args(["--id", &n.to_string()]);
        let mut agent = Proc::start(&mut join);
        let begun = Instant::now();
        while !cluster.run(&["wait", "share", "--timeout", "10s", "--client", &n.to_string()]).status.success() {
            ensure!(begun.elapsed() < DEADLINE, "the agent behind the relay did not get in sync");
        }
        counts.push(passed.bytes() - before);
        agent.terminate();
        agent.wait_exit(DEADLINE);
    }
    Ok((counts[0], counts[1]))
}

fn remove(dir: &std::path::Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}
