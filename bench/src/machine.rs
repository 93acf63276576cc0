//! Where it ran, and how busy that was: a figure without it says little.

use rustix::process::Pid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

/// CPU time of the machine since boot, in clock ticks.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    busy: u64,
    all: u64,
}

/// The machine at the start of a run.
#[derive(Debug)]
pub(crate) struct Machine {
    load_before: String,
    cpu_before: Option<Cpu>,
}

impl Machine {
    pub(crate) fn now() -> Self {
        Self { load_before: load(), cpu_before: cpu() }
    }

    /// In one line, at the end of the run.
    pub(crate) fn line(&self) -> String {
        let described = self.json();
        let word = |key: &str| described[key].as_str().unwrap_or("?").to_owned();
        format!(
            "{}; {} × {}, Linux {}; load {} before, {} after; CPU {} % busy during the run (this run included)",
            word("date"),
            described["cpus"],
            word("cpu"),
            word("kernel"),
            word("load_before"),
            word("load_after"),
            described["cpu_busy_pct"]
        )
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        let busy = self.cpu_before.zip(cpu()).map(|(before, now)| {
            let all = now.all.saturating_sub(before.all).max(1);
            (100 * now.busy.saturating_sub(before.busy) / all).min(100)
        });
        let model = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_owned()));
        json!({
            "date": jiff::Timestamp::now().strftime("%F %H:%M UTC").to_string(),
            "cpu": model,
            "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "kernel": read("/proc/sys/kernel/osrelease").trim(),
            "load_before": self.load_before,
            "load_after": load(),
            "cpu_busy_pct": busy,
        })
    }
}

/// CPU time that a process used so far, in seconds; 0 when it is gone.
pub(crate) fn cpu_s(pid: Pid) -> f64 {
    let stat = read(&format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // The name in parentheses may hold anything; what follows it begins with the third column.
    let columns = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let tick = |column: usize| columns.split(' ').nth(column - 3).and_then(|c| c.parse::<u64>().ok()).unwrap_or(0);
    (tick(14) + tick(15)) as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// How often each thread of a process gave up the CPU by itself so far: each is a wake-up to come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(BTreeMap<String, u64>);

impl Waits {
    pub(crate) fn of(pid: Pid) -> Waits {
        let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
        let of_task = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            Some((task.file_name().to_string_lossy().into_owned(), count.trim().parse().ok()?))
        };
        Waits(tasks.into_iter().flatten().flatten().filter_map(of_task).collect())
    }

    /// Those since `before`; of a thread that has ended meanwhile nothing is known.
    pub(crate) fn since(&self, before: &Waits) -> u64 {
        let grown = |(task, count): (&String, &u64)| count.saturating_sub(before.0.get(task).copied().unwrap_or(0));
        self.0.iter().map(grown).sum()
    }
}

/// The program `name`, if it is installed.
pub(crate) fn installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn load() -> String {
    read("/proc/loadavg").split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn cpu() -> Option<Cpu> {
    let stat = read("/proc/stat");
    let columns = stat.lines().next()?.split_whitespace().skip(1).take(8);
    let ticks: Vec<u64> = columns.filter_map(|column| column.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    let all = ticks.iter().sum::<u64>();
    Some(Cpu { busy: all - idle, all })
}

/// The text of a kernel file; empty where there is none.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_used_some_cpu_and_waited() {
        let me = rustix::process::getpid();
        let begun = std::time::Instant::now();
        while cpu_s(me) == 0.0 && begun.elapsed().as_secs() < 10 {
            std::hint::black_box(load());
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(cpu_s(me) > 0.0 && Waits::of(me).since(&Waits::default()) > 0);
        assert!(installed("sh") && !installed("no-such-program"));
    }
}
