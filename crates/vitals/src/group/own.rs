//! What measuring costs: the CPU time and memory of the process that does it.

use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use super::{Group, Step, read_optional, real, whole};
use crate::{
    clock::nanoseconds_of,
    fields::{Field, field},
    proc::KeptFile,
    rates::NoRate,
    schema::{Column, Kind, Metric, Missing, Unit, Value},
    stat::number,
};

/// This process, whatever tree is measured.
#[derive(Debug)]
pub(crate) struct Own {
    statm: KeptFile,
    cpu_ns: Option<u64>,
    told: Told,
}

#[derive(Debug)]
struct Told {
    cpu_pct: Result<f64, Missing>,
    cpu_seconds: f64,
    rss_bytes: Result<u64, Missing>,
    sample_seconds: Result<f64, Missing>,
}

const FIELDS: &[Field<Told>] = &[
    field(
        ("self_cpu_pct", "own cpu"),
        (Unit::Percent, Kind::Rate),
        ("clock_gettime(CLOCK_PROCESS_CPUTIME_ID)", "CPU time of this program; 100 is one CPU"),
        |of: &Told| real(of.cpu_pct),
    )
    .shown(),
    field(
        ("self_cpu_seconds", "own cpu time"),
        (Unit::Seconds, Kind::Counter),
        ("clock_gettime(CLOCK_PROCESS_CPUTIME_ID)", "CPU time of this program since it started"),
        |of: &Told| Value::Real(of.cpu_seconds),
    ),
    field(
        ("self_rss_bytes", "own memory"),
        (Unit::Bytes, Kind::Gauge),
        ("/proc/self/statm", "memory this program holds resident"),
        |of: &Told| whole(of.rss_bytes),
    )
    .shown(),
    field(
        ("self_sample_seconds", "a sample took"),
        (Unit::Seconds, Kind::Gauge),
        ("clock_gettime(CLOCK_MONOTONIC)", "how long the sample before this one took, reading and deriving"),
        |of: &Told| real(of.sample_seconds),
    ),
];

impl Own {
    pub(crate) fn new() -> Self {
        let none = Err(Missing::NoRate(NoRate::FirstSample));
        Self {
            statm: KeptFile::new(Path::new("/proc/self/statm").to_owned()),
            cpu_ns: None,
            told: Told { cpu_pct: none, cpu_seconds: 0.0, rss_bytes: Err(Missing::NotTold), sample_seconds: none },
        }
    }
}

impl Group for Own {
    fn read(&mut self, step: &mut Step<'_>) -> bool {
        let cpu_ns = nanoseconds_of(clock_gettime(ClockId::ProcessCPUTime));
        self.told.cpu_pct = step.rate(self.cpu_ns.replace(cpu_ns), cpu_ns).map(|ns| ns / 1e7);
        self.told.cpu_seconds = cpu_ns as f64 / 1e9;
        self.told.sample_seconds = step.cost_ns.map(|ns| ns as f64 / 1e9).ok_or(NoRate::FirstSample.into());
        self.told.rss_bytes = read_optional(&mut self.statm, step.buffer)
            .and_then(|content| rss_bytes(content).ok_or(Missing::Unreadable));
        false
    }

    fn columns(&self, out: &mut Vec<Column>) {
        out.extend(FIELDS.iter().map(|field| field.column(Metric::Own)));
    }

    fn values(&self, out: &mut Vec<Value>) {
        out.extend(FIELDS.iter().map(|field| (field.value)(&self.told)));
    }
}

/// The second word of `statm`, which is pages.
pub(crate) fn rss_bytes(content: &[u8]) -> Option<u64> {
    let pages = number(content.split(|byte| *byte == b' ').nth(1)?)?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}
