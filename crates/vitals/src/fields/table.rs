//! The table of what is shown of CPU, memory and load, and the clocks of every line. Text, CSV, JSON and the history are all
//! written from it, in its order, so that a field is added in one place.

use super::{Field, Reading, field};
use crate::{
    rates::{CpuRates, NoRate},
    sample::{CpuField, ticks_per_second},
    schema::{Kind, Metric, Missing, Unit, Value},
};

const PERCENT: (Unit, Kind) = (Unit::Percent, Kind::Rate);
const BYTES: (Unit, Kind) = (Unit::Bytes, Kind::Gauge);
const NUMBER: (Unit, Kind) = (Unit::Number, Kind::Gauge);
const SECONDS: (Unit, Kind) = (Unit::Seconds, Kind::Counter);
const WORD: (Unit, Kind) = (Unit::Word, Kind::Label);

const STAT: &str = "/proc/stat, line `cpu`";
const MEMINFO: &str = "/proc/meminfo";

/// All of them with what they are chosen by, in the order they are written.
pub(crate) const FIELDS: &[(&[Metric], Field<Reading>)] = &[
    (
        &[Metric::Clock],
        field(
            ("time", ""),
            (Unit::Time, Kind::Gauge),
            ("clock_gettime(CLOCK_REALTIME)", "when the sample was taken, by the wall clock"),
            |of: &Reading| Value::Time(of.sample.taken.wall_ns),
        )
        .shown(),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_busy_pct", "cpu"),
            PERCENT,
            (STAT, "all CPU time of the interval but idle and iowait; time stolen by a hypervisor is busy"),
            |of: &Reading| cpu(of, |cpu| Some(cpu.busy_pct)),
        )
        .shown(),
    ),
    (
        &[Metric::Cpu],
        field(("cpu_user_pct", "user"), PERCENT, (STAT, "time in programs, guests included"), |of: &Reading| {
            cpu(of, |cpu| cpu.share_pct(CpuField::User))
        })
        .shown(),
    ),
    (
        &[Metric::Cpu],
        field(("cpu_nice_pct", "nice"), PERCENT, (STAT, "time in programs with lowered priority"), |of: &Reading| {
            cpu(of, |cpu| cpu.share_pct(CpuField::Nice))
        }),
    ),
    (
        &[Metric::Cpu],
        field(("cpu_system_pct", "system"), PERCENT, (STAT, "time in the kernel"), |of: &Reading| {
            cpu(of, |cpu| cpu.share_pct(CpuField::System))
        })
        .shown(),
    ),
    (
        &[Metric::Cpu],
        field(("cpu_idle_pct", "idle"), PERCENT, (STAT, "time with nothing to do"), |of: &Reading| {
            cpu(of, |cpu| cpu.share_pct(CpuField::Idle))
        }),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_iowait_pct", "iowait"),
            PERCENT,
            (STAT, "time with nothing to do while a disk was waited for; idle, not busy"),
            |of: &Reading| cpu(of, |cpu| cpu.share_pct(CpuField::Iowait)),
        )
        .shown(),
    ),
    (
        &[Metric::Cpu],
        field(("cpu_irq_pct", "irq"), PERCENT, (STAT, "time answering devices"), |of: &Reading| {
            cpu(of, |cpu| cpu.share_pct(CpuField::Irq))
        }),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_softirq_pct", "softirq"),
            PERCENT,
            (STAT, "time in the kernel's deferred work, mostly network"),
            |of: &Reading| cpu(of, |cpu| cpu.share_pct(CpuField::Softirq)),
        ),
    ),
    (
        &[Metric::Cpu],
        field(("cpu_steal_pct", "steal"), PERCENT, (STAT, "time the hypervisor gave to others"), |of: &Reading| {
            cpu(of, |cpu| cpu.share_pct(CpuField::Steal))
        })
        .shown(),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_null_reason", "no cpu rate"),
            WORD,
            ("this program", "why the cpu_*_pct are unknown; empty when they are known"),
            |of: &Reading| of.rates.cpu.err().map_or(Value::Nothing, |why| Value::Word(why.key())),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_clamped_fields", "clamped"),
            NUMBER,
            (STAT, "how many of the counters fell a little in the interval and were taken as unchanged"),
            |of: &Reading| cpu_whole(of, |cpu| u64::from(cpu.clamped_fields)),
        ),
    ),
    (
        &[Metric::Cpu],
        field(("cpus_online", "cpus"), NUMBER, ("/proc/stat, lines `cpuN`", "how many CPUs are online"), cpus_online),
    ),
    (
        &[Metric::Memory],
        field(
            ("mem_used_pct", "memory"),
            (Unit::Percent, Kind::Gauge),
            (MEMINFO, "used in percent of total"),
            |of: &Reading| Value::real(of.rates.memory.used_pct(), Missing::NotTold),
        )
        .shown(),
    ),
    (
        &[Metric::Memory],
        field(
            ("mem_used_bytes", "used"),
            BYTES,
            ("/proc/meminfo, MemTotal - MemAvailable", "total less available, as free and psutil 7.1 say"),
            |of: &Reading| Value::whole(of.rates.memory.used_bytes, Missing::NotTold),
        )
        .shown(),
    ),
    (
        &[Metric::Memory],
        field(
            ("mem_available_bytes", "available"),
            BYTES,
            (
                "/proc/meminfo, MemAvailable",
                "what new work could have without swapping; where it is not told, what is free",
            ),
            |of: &Reading| Value::whole(of.rates.memory.available_bytes, Missing::NotTold),
        )
        .shown(),
    ),
    (
        &[Metric::Memory],
        field(
            ("mem_total_bytes", "total"),
            BYTES,
            ("/proc/meminfo, MemTotal", "what the kernel can use"),
            |of: &Reading| Value::Whole(of.rates.memory.total_bytes),
        )
        .shown(),
    ),
    (
        &[Metric::Memory],
        field(
            ("mem_free_bytes", "free"),
            BYTES,
            ("/proc/meminfo, MemFree", "used for nothing at all"),
            |of: &Reading| Value::whole(of.rates.memory.free_bytes, Missing::NotTold),
        ),
    ),
    (
        &[Metric::Memory],
        field(
            ("mem_buffers_bytes", "buffers"),
            BYTES,
            ("/proc/meminfo, Buffers", "cache of block devices"),
            |of: &Reading| Value::whole(of.sample.memory.buffers_bytes, Missing::NotTold),
        ),
    ),
    (
        &[Metric::Memory],
        field(
            ("mem_cached_bytes", "cached"),
            BYTES,
            (
                "/proc/meminfo, Cached + SReclaimable",
                "cache of files, and kernel objects that can be given back, as free and psutil count",
            ),
            |of: &Reading| Value::whole(of.rates.memory.cached_bytes, Missing::NotTold),
        ),
    ),
    (
        &[Metric::Memory],
        field(
            ("mem_shared_bytes", "shared"),
            BYTES,
            ("/proc/meminfo, Shmem", "shared memory and tmpfs"),
            |of: &Reading| Value::whole(of.sample.memory.shmem_bytes, Missing::NotTold),
        ),
    ),
    (
        &[Metric::Memory],
        field(
            ("mem_used_htop_bytes", "used (htop)"),
            BYTES,
            (
                "/proc/meminfo, MemTotal - MemFree - Buffers - Cached - SReclaimable",
                "what htop and tools before 2023 call used",
            ),
            |of: &Reading| Value::whole(of.rates.memory.used_htop_bytes, Missing::NotTold),
        ),
    ),
    (
        &[Metric::Memory],
        field(
            ("swap_total_bytes", "swap total"),
            BYTES,
            ("/proc/meminfo, SwapTotal", "size of swap"),
            |of: &Reading| Value::whole(of.rates.memory.swap_total_bytes, Missing::NotTold),
        ),
    ),
    (
        &[Metric::Memory],
        field(
            ("swap_used_bytes", "swap used"),
            BYTES,
            ("/proc/meminfo, SwapTotal - SwapFree", "swap in use"),
            |of: &Reading| Value::whole(of.rates.memory.swap_used_bytes, Missing::NotTold),
        )
        .shown(),
    ),
    (
        &[Metric::Cpu, Metric::Load],
        field(
            ("load_1m", "load"),
            NUMBER,
            (
                "/proc/loadavg, read every 5 s as the kernel computes it",
                "tasks running or waiting for a disk, averaged over 1 min",
            ),
            |of: &Reading| Value::real(of.sample.load.map(|load| load.one_minute), Missing::NotTold),
        )
        .shown(),
    ),
    (
        &[Metric::Cpu, Metric::Load],
        field(
            ("load_5m", "load 5m"),
            NUMBER,
            (
                "/proc/loadavg, read every 5 s as the kernel computes it",
                "tasks running or waiting for a disk, averaged over 5 min",
            ),
            |of: &Reading| Value::real(of.sample.load.map(|load| load.five_minutes), Missing::NotTold),
        ),
    ),
    (
        &[Metric::Cpu, Metric::Load],
        field(
            ("load_15m", "load 15m"),
            NUMBER,
            (
                "/proc/loadavg, read every 5 s as the kernel computes it",
                "tasks running or waiting for a disk, averaged over 15 min",
            ),
            |of: &Reading| Value::real(of.sample.load.map(|load| load.fifteen_minutes), Missing::NotTold),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_user_seconds", "user"),
            SECONDS,
            (STAT, "since the machine started: time in programs, guests included"),
            |of: &Reading| seconds(of, CpuField::User),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_nice_seconds", "nice"),
            SECONDS,
            (STAT, "since the machine started: time in programs with lowered priority"),
            |of: &Reading| seconds(of, CpuField::Nice),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_system_seconds", "system"),
            SECONDS,
            (STAT, "since the machine started: time in the kernel"),
            |of: &Reading| seconds(of, CpuField::System),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_idle_seconds", "idle"),
            SECONDS,
            (STAT, "since the machine started: time with nothing to do"),
            |of: &Reading| seconds(of, CpuField::Idle),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_iowait_seconds", "iowait"),
            SECONDS,
            (STAT, "since the machine started: time with nothing to do while a disk was waited for; idle, not busy"),
            |of: &Reading| seconds(of, CpuField::Iowait),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_irq_seconds", "irq"),
            SECONDS,
            (STAT, "since the machine started: time answering devices"),
            |of: &Reading| seconds(of, CpuField::Irq),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_softirq_seconds", "softirq"),
            SECONDS,
            (STAT, "since the machine started: time in the kernel's deferred work, mostly network"),
            |of: &Reading| seconds(of, CpuField::Softirq),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_steal_seconds", "steal"),
            SECONDS,
            (STAT, "since the machine started: time the hypervisor gave to others"),
            |of: &Reading| seconds(of, CpuField::Steal),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_guest_seconds", "guest"),
            SECONDS,
            (STAT, "since the machine started: guests' part of user"),
            |of: &Reading| seconds(of, CpuField::Guest),
        ),
    ),
    (
        &[Metric::Cpu],
        field(
            ("cpu_guest_nice_seconds", "guest nice"),
            SECONDS,
            (STAT, "since the machine started: guests' part of nice"),
            |of: &Reading| seconds(of, CpuField::GuestNice),
        ),
    ),
    (
        &[Metric::Clock],
        field(
            ("monotonic_seconds", "monotonic"),
            SECONDS,
            ("clock_gettime(CLOCK_MONOTONIC)", "time the machine ran, without time suspended"),
            |of: &Reading| nanoseconds(of.sample.taken.monotonic_ns),
        ),
    ),
    (
        &[Metric::Clock],
        field(
            ("boottime_seconds", "boottime"),
            SECONDS,
            ("clock_gettime(CLOCK_BOOTTIME)", "time since the machine started, with time suspended"),
            |of: &Reading| nanoseconds(of.sample.taken.boottime_ns),
        ),
    ),
    (
        &[Metric::Clock],
        field(
            ("boot_id", "boot"),
            WORD,
            ("/proc/sys/kernel/random/boot_id", "which boot of the machine the counters are of"),
            |of: &Reading| of.sample.boot_id.map_or(Value::Missing(Missing::NotTold), Value::Boot),
        ),
    ),
];

fn cpu(of: &Reading, part: fn(&CpuRates) -> Option<f64>) -> Value {
    match &of.rates.cpu {
        Ok(cpu) => Value::real(part(cpu), Missing::NotTold),
        Err(why) => Value::Missing(Missing::NoRate(*why)),
    }
}

fn cpu_whole(of: &Reading, part: fn(&CpuRates) -> u64) -> Value {
    of.rates.cpu.as_ref().map_or_else(|why: &NoRate| Value::Missing((*why).into()), |cpu| Value::Whole(part(cpu)))
}

fn cpus_online(of: &Reading) -> Value {
    // A tree with no line for each CPU does not say how many there are.
    Value::whole(u64::try_from(of.sample.cpus.len()).ok().filter(|count| *count > 0), Missing::NotTold)
}

fn seconds(of: &Reading, field: CpuField) -> Value {
    let seconds = of.sample.cpu.ticks(field).map(|ticks| ticks as f64 / ticks_per_second() as f64);
    Value::real(seconds, Missing::NotTold)
}

fn nanoseconds(ns: u64) -> Value {
    Value::Real(ns as f64 / 1e9)
}
