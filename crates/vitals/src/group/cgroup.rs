//! The control group we run in: what it uses and what limits it, of v1, v2, or a mix of both. The machine's own figures are left
//! as they are; these stand beside them.

use std::path::{Path, PathBuf};

use super::{
    Group, Step,
    mounts::{Place, place},
    psi::{self, Pressure},
    read_optional, real, whole,
};
use crate::{
    fields::{Field, field},
    proc::{Buffer, KeptFile},
    schema::{Column, Kind, Metric, Missing, Unit, Value},
    stat::number,
};

/// Groups above ours that are looked at for limits.
const DEPTH_MAX: usize = 32;

/// Use and limits of our own group.
#[derive(Debug)]
pub(crate) struct Cgroup {
    procfs: PathBuf,
    membership: KeptFile,
    /// What `membership` said when the files were chosen.
    chosen_by: Vec<u8>,
    memory: Option<MemoryFiles>,
    cpu: Option<CpuFiles>,
    pressure: Vec<(KeptFile, [Pressure; 1])>,
    cpu_ns: Option<u64>,
    told: Told,
}

/// Where memory is told, in either version.
#[derive(Debug)]
struct MemoryFiles {
    v2: bool,
    /// Current use and limit of our group and those above, ours first.
    levels: Vec<(KeptFile, KeptFile)>,
    stat: KeptFile,
    events: KeptFile,
}

/// Where CPU is told.
#[derive(Debug)]
struct CpuFiles {
    v2: bool,
    /// The quota of our group and those above: one file in v2, quota and period in v1.
    quotas: Vec<(KeptFile, Option<KeptFile>)>,
    /// `cpu.stat`: throttling, and in v2 the use.
    stat: KeptFile,
    /// v1: `cpuacct.usage`.
    usage: Option<KeptFile>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    version: Option<&'static str>,
    memory_used: Result<u64, Missing>,
    memory_limit: Result<u64, Missing>,
    memory_limit_pct: Result<f64, Missing>,
    oom_kills: Result<u64, Missing>,
    cpu_pct: Result<f64, Missing>,
    cpu_seconds: Result<f64, Missing>,
    cpu_limit: Result<f64, Missing>,
    cpu_limit_pct: Result<f64, Missing>,
    throttled: Result<u64, Missing>,
    throttled_seconds: Result<f64, Missing>,
}

const UNKNOWN: Told = Told {
    version: None,
    memory_used: Err(Missing::NotTold),
    memory_limit: Err(Missing::NotTold),
    memory_limit_pct: Err(Missing::NotTold),
    oom_kills: Err(Missing::NotTold),
    cpu_pct: Err(Missing::NotTold),
    cpu_seconds: Err(Missing::NotTold),
    cpu_limit: Err(Missing::NotTold),
    cpu_limit_pct: Err(Missing::NotTold),
    throttled: Err(Missing::NotTold),
    throttled_seconds: Err(Missing::NotTold),
};

const BYTES: (Unit, Kind) = (Unit::Bytes, Kind::Gauge);
const COUNTER: (Unit, Kind) = (Unit::Number, Kind::Counter);
const SECONDS: (Unit, Kind) = (Unit::Seconds, Kind::Counter);
const PERCENT: (Unit, Kind) = (Unit::Percent, Kind::Rate);

const FIELDS: &[Field<Told>] = &[
    field(
        ("cgroup_version", "cgroup"),
        (Unit::Word, Kind::Label),
        ("/proc/self/mountinfo", "v1, v2, or hybrid: which kind of control groups tells of memory and CPU"),
        |of: &Told| of.version.map_or(Value::Missing(Missing::NotTold), Value::Word),
    ),
    field(
        ("cgroup_mem_used_bytes", "cgroup memory"),
        BYTES,
        (
            "memory.current or memory.usage_in_bytes, less inactive_file of memory.stat",
            "memory of our own group, without cache that is to go first",
        ),
        |of: &Told| whole(of.memory_used),
    )
    .shown(),
    field(
        ("cgroup_mem_limit_bytes", "of"),
        BYTES,
        (
            "memory.max or memory.limit_in_bytes",
            "the tightest limit of our group and those above; none if it is not below the machine's memory",
        ),
        |of: &Told| whole(of.memory_limit),
    )
    .shown(),
    field(
        ("cgroup_mem_limit_pct", "cgroup memory of its limit"),
        (Unit::Percent, Kind::Gauge),
        ("the same files", "what the group with that limit uses of it, its cache included"),
        |of: &Told| real(of.memory_limit_pct),
    ),
    field(
        ("cgroup_oom_kills", "killed"),
        COUNTER,
        ("memory.events or memory.oom_control", "processes of our group killed for want of memory"),
        |of: &Told| whole(of.oom_kills),
    ),
    field(
        ("cgroup_cpu_pct", "cgroup cpu"),
        PERCENT,
        ("cpu.stat usage_usec or cpuacct.usage", "CPU time of our own group; 100 is one CPU"),
        |of: &Told| real(of.cpu_pct),
    )
    .shown(),
    field(
        ("cgroup_cpu_seconds", "cgroup cpu time"),
        SECONDS,
        ("cpu.stat usage_usec or cpuacct.usage", "CPU time of our own group since it was made"),
        |of: &Told| real(of.cpu_seconds),
    ),
    field(
        ("cgroup_cpu_limit_cpus", "cgroup cpus"),
        (Unit::Number, Kind::Gauge),
        (
            "cpu.max, or cpu.cfs_quota_us / cpu.cfs_period_us",
            "how many CPUs' time the tightest quota of our group and those above allows",
        ),
        |of: &Told| real(of.cpu_limit),
    ),
    field(
        ("cgroup_cpu_limit_pct", "cgroup cpu of its limit"),
        PERCENT,
        ("the same files", "CPU time of our own group in percent of that quota"),
        |of: &Told| real(of.cpu_limit_pct),
    ),
    field(
        ("cgroup_cpu_throttled", "throttled"),
        COUNTER,
        ("cpu.stat, nr_throttled", "how often our group was stopped because its quota was used up"),
        |of: &Told| whole(of.throttled),
    ),
    field(
        ("cgroup_cpu_throttled_seconds", "throttled for"),
        SECONDS,
        ("cpu.stat, throttled_usec or throttled_time", "how long our group was stopped for that"),
        |of: &Told| real(of.throttled_seconds),
    ),
];

/// What is shown of a group's own pressure; v2 alone has it.
const PRESSURE: [(&str, &str, &str); 3] = [
    ("cgroup_psi_cpu_some_pct", "cpu.pressure", "time in which some task of our group waited for a CPU"),
    ("cgroup_psi_memory_some_pct", "memory.pressure", "time in which some task of our group waited for memory"),
    ("cgroup_psi_io_some_pct", "io.pressure", "time in which some task of our group waited for a disk"),
];

impl Cgroup {
    pub(crate) fn of(procfs: &Path) -> Self {
        Self {
            procfs: procfs.to_owned(),
            membership: KeptFile::new(procfs.join("self/cgroup")),
            chosen_by: Vec::new(),
            memory: None,
            cpu: None,
            pressure: Vec::new(),
            cpu_ns: None,
            told: UNKNOWN,
        }
    }

    /// Chooses the files anew if we were moved to another group.
    fn follow(&mut self, buffer: &mut Buffer) -> Result<(), Missing> {
        let membership = read_optional(&mut self.membership, buffer)?;
        if membership == self.chosen_by {
            return Ok(());
        }
        self.chosen_by = membership.to_owned();
        self.cpu_ns = None;
        let mut mounts = KeptFile::new(self.procfs.join("self/mountinfo"));
        let mounts = read_optional(&mut mounts, buffer)?;
        let find = |controller| place(mounts, &self.chosen_by, controller);
        let unified = find(None);
        self.memory = find(Some("memory")).map(|at| MemoryFiles::of(&at, false));
        self.memory = self.memory.take().or_else(|| unified.as_ref().map(|at| MemoryFiles::of(at, true)));
        let (cpu, accounting) = (find(Some("cpu")), find(Some("cpuacct")));
        self.cpu = match (cpu, accounting, &unified) {
            (Some(cpu), accounting, _) => Some(CpuFiles::v1(&cpu, accounting.as_ref())),
            (None, _, Some(unified)) => Some(CpuFiles::v2(unified)),
            (None, _, None) => None,
        };
        let v1 = [self.memory.as_ref().map(|files| !files.v2), self.cpu.as_ref().map(|files| !files.v2)];
        self.told.version = match (v1.contains(&Some(true)), unified.is_some()) {
            (true, true) => Some("hybrid"),
            (true, false) => Some("v1"),
            (false, true) => Some("v2"),
            (false, false) => None,
        };
        let pressure = |at: &Place| {
            PRESSURE
                .map(|(_, name, _)| (KeptFile::new(at.own.join(name)), [Pressure::new(b"some")]))
                .into_iter()
                .collect()
        };
        self.pressure = unified.as_ref().map(pressure).unwrap_or_default();
        Ok(())
    }

    fn read_all(&mut self, step: &mut Step<'_>) -> Result<(), Missing> {
        self.follow(step.buffer)?;
        self.told = Told { version: self.told.version, ..UNKNOWN };
        if let Some(files) = &mut self.memory {
            files.read(step.buffer, step.newer.memory.total_bytes, &mut self.told);
        }
        if let Some(files) = &mut self.cpu {
            let usage_ns = files.read(step.buffer, &mut self.told);
            self.told.cpu_seconds = usage_ns.map(|ns| ns as f64 / 1e9);
            self.told.cpu_pct = usage_ns.and_then(|ns| step.rate(self.cpu_ns, ns)).map(|ns| ns / 1e7);
            self.told.cpu_limit_pct =
                self.told.cpu_limit.and_then(|cpus| self.told.cpu_pct.map(|percent| percent / cpus));
            self.cpu_ns = usage_ns.ok();
        }
        for (file, line) in &mut self.pressure {
            psi::read(file, line, step);
        }
        Ok(())
    }
}

impl MemoryFiles {
    fn of(at: &Place, v2: bool) -> Self {
        let names =
            if v2 { ("memory.current", "memory.max") } else { ("memory.usage_in_bytes", "memory.limit_in_bytes") };
        let level = |group: &Path| (KeptFile::new(group.join(names.0)), KeptFile::new(group.join(names.1)));
        Self {
            v2,
            levels: at.upwards().take(DEPTH_MAX).map(level).collect(),
            stat: KeptFile::new(at.own.join("memory.stat")),
            events: KeptFile::new(at.own.join(if v2 { "memory.events" } else { "memory.oom_control" })),
        }
    }

    fn read(&mut self, buffer: &mut Buffer, machine_bytes: u64, told: &mut Told) {
        told.memory_limit = Err(Missing::NoLimit);
        told.memory_limit_pct = Err(Missing::NoLimit);
        for (at, (current, limit)) in self.levels.iter_mut().enumerate() {
            let used = read_optional(current, buffer).and_then(whole_number);
            if at == 0 {
                told.memory_used = used;
            }
            // "max", and the huge number v1 says for none, are no limits; nor is what the machine does not have.
            let limit = read_optional(limit, buffer).and_then(whole_number);
            let Ok(limit) = limit else { continue };
            if limit < machine_bytes
                && told.memory_limit.is_ok_and(|tightest| limit < tightest) | told.memory_limit.is_err()
            {
                told.memory_limit = Ok(limit);
                told.memory_limit_pct = used.map(|used| used as f64 * 100.0 / limit.max(1) as f64);
            }
        }
        let key: &[u8] = if self.v2 { b"inactive_file" } else { b"total_inactive_file" };
        let cache = read_optional(&mut self.stat, buffer).and_then(|content| keyed(content, key));
        told.memory_used = told.memory_used.and_then(|used| Ok(used.saturating_sub(cache?)));
        told.oom_kills = read_optional(&mut self.events, buffer).and_then(|content| keyed(content, b"oom_kill"));
    }
}

impl CpuFiles {
    fn v1(at: &Place, accounting: Option<&Place>) -> Self {
        let quota = |group: &Path| {
            (KeptFile::new(group.join("cpu.cfs_quota_us")), Some(KeptFile::new(group.join("cpu.cfs_period_us"))))
        };
        Self {
            v2: false,
            quotas: at.upwards().take(DEPTH_MAX).map(quota).collect(),
            stat: KeptFile::new(at.own.join("cpu.stat")),
            usage: accounting.map(|at| KeptFile::new(at.own.join("cpuacct.usage"))),
        }
    }

    fn v2(at: &Place) -> Self {
        Self {
            v2: true,
            quotas: at.upwards().take(DEPTH_MAX).map(|group| (KeptFile::new(group.join("cpu.max")), None)).collect(),
            stat: KeptFile::new(at.own.join("cpu.stat")),
            usage: None,
        }
    }

    /// Returns the CPU time used, in nanoseconds.
    fn read(&mut self, buffer: &mut Buffer, told: &mut Told) -> Result<u64, Missing> {
        told.cpu_limit = Err(Missing::NoLimit);
        for (quota, period) in &mut self.quotas {
            let cpus = match period {
                None => read_optional(quota, buffer).and_then(cpus_of_max),
                Some(period) => {
                    // -1, which is no number here, is no quota.
                    let quota = read_optional(quota, buffer).and_then(whole_number);
                    let period = read_optional(period, buffer).and_then(whole_number);
                    quota.and_then(|quota| cpus_of(quota, period?))
                }
            };
            if let Ok(cpus) = cpus {
                told.cpu_limit = Ok(told.cpu_limit.map_or(cpus, |tightest| tightest.min(cpus)));
            }
        }
        let stat = read_optional(&mut self.stat, buffer);
        told.throttled = stat.and_then(|content| keyed(content, b"nr_throttled"));
        told.throttled_seconds = if self.v2 {
            stat.and_then(|content| keyed(content, b"throttled_usec")).map(|us| us as f64 / 1e6)
        } else {
            stat.and_then(|content| keyed(content, b"throttled_time")).map(|ns| ns as f64 / 1e9)
        };
        let used_us = stat.and_then(|content| keyed(content, b"usage_usec"));
        match &mut self.usage {
            Some(usage) => read_optional(usage, buffer).and_then(whole_number),
            None => used_us.map(|us| us.saturating_mul(1000)),
        }
    }
}

impl Group for Cgroup {
    fn read(&mut self, step: &mut Step<'_>) -> bool {
        if let Err(why) = self.read_all(step) {
            self.told = UNKNOWN;
            self.chosen_by.clear();
            self.told.memory_used = Err(why);
            self.told.cpu_pct = Err(why);
        }
        false
    }

    fn columns(&self, out: &mut Vec<Column>) {
        out.extend(FIELDS.iter().map(|field| field.column(Metric::Cgroup)));
        out.extend(PRESSURE.map(|(key, source, explanation)| Column {
            key: key.into(),
            title: key.into(),
            unit: Unit::Percent,
            kind: Kind::Rate,
            metric: Metric::Cgroup,
            source,
            explanation,
            in_text: false,
        }));
    }

    fn values(&self, out: &mut Vec<Value>) {
        out.extend(FIELDS.iter().map(|field| (field.value)(&self.told)));
        for at in 0..PRESSURE.len() {
            out.push(self.pressure.get(at).map_or(Value::Missing(Missing::NotTold), |(_, [line])| line.share_pct()));
        }
    }
}

fn whole_number(content: &[u8]) -> Result<u64, Missing> {
    number(content.trim_ascii()).ok_or(Missing::Unreadable)
}

/// The number behind a key: `nr_throttled 5`.
fn keyed(content: &[u8], key: &[u8]) -> Result<u64, Missing> {
    let mut lines = content.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(b" ")).ok_or(Missing::NotTold)?;
    whole_number(value)
}

/// `QUOTA PERIOD` of cpu.max; `max` is no quota.
fn cpus_of_max(content: &[u8]) -> Result<f64, Missing> {
    let mut words = content.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut next = || words.next().and_then(number).ok_or(Missing::NoLimit);
    cpus_of(next()?, next()?)
}

fn cpus_of(quota: u64, period: u64) -> Result<f64, Missing> {
    if period == 0 || quota == 0 {
        return Err(Missing::NoLimit);
    }
    Ok(quota as f64 / period as f64)
}

#[cfg(test)]
mod tests;
