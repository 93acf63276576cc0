//! What a hub and its agents cost that have nothing to do: wake-ups, CPU and memory.

use crate::files;
use crate::harness::{Group, Report, Series};
use crate::machine::{Waits, cpu_s};
use anyhow::Result;
use std::time::{Duration, Instant};
use support::{Cluster, Rng};

/// Files of the share.
const FILES: usize = 1_000;
/// Agents.
const AGENTS: usize = 3;
/// Looks at each process.
const ROUNDS: usize = 3;
/// How long one look takes.
const SPAN: Duration = Duration::from_secs(5);

pub(crate) fn run() -> Result<Report> {
    let mut filled = Ok(0);
    let mut cluster =
        Cluster::start(|share| filled = files::small_files(share, FILES, &mut Rng::new(12)), &[]).with_agents(AGENTS);
    filled?;
    let mut processes = vec![("hub".to_owned(), cluster.hub().pid())];
    processes.extend((1..=AGENTS).map(|n| (format!("agent {n}"), cluster.agent(n).pid())));
    let empty = |(name, _): &(String, _)| Series { name: name.clone(), figures: Vec::new() };
    let mut wakes: Vec<Series> = processes.iter().map(empty).collect();
    let mut cpu = wakes.clone();
    // What follows the first sync, such as the sync of the disk, is not idling.
    std::thread::sleep(SPAN);
    for _ in 0..ROUNDS {
        let look = || processes.iter().map(|(_, pid)| (Waits::of(*pid), cpu_s(*pid))).collect::<Vec<_>>();
        let (begun, before) = (Instant::now(), look());
        std::thread::sleep(SPAN);
        let (after, span_s) = (look(), begun.elapsed().as_secs_f64());
        for (n, ((wakes_before, cpu_before), (wakes_after, cpu_after))) in before.into_iter().zip(after).enumerate() {
            wakes[n].figures.push(wakes_after.since(&wakes_before) as f64 / span_s);
            cpu[n].figures.push((cpu_after - cpu_before) / span_s * 100.0);
        }
    }
    let mib = |bytes: Option<u64>| bytes.unwrap_or(0) as f64 / f64::from(1 << 20);
    let mut notes = vec![format!("the hub holds {:.1} MiB of memory", mib(cluster.hub().rss_bytes()))];
    for n in 1..=AGENTS {
        notes.push(format!("agent {n} holds {:.1} MiB of memory", mib(cluster.agent(n).rss_bytes())));
    }
    Ok(Report {
        bench: "idle",
        compares: format!("a hub with {FILES} shared files and {AGENTS} agents, all in sync, nothing changing"),
        groups: vec![
            Group { title: "waits that ended, all threads".into(), unit: "1/s", series: wakes },
            Group { title: "CPU".into(), unit: "%", series: cpu },
        ],
        notes,
    })
}
