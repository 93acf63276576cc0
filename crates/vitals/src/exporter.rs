//! The machine's counters in the text format of Prometheus and OpenMetrics, under the names and types of node_exporter, so that
//! the dashboards and alerts people have keep working. Here is what is read and what it is called; who asks is not known.
//!
//! Each page is read anew, so that it is as old as the question. Counters of CPUs never fall where the kernel lets them fall a
//! little (iowait, steal): a fall would look like a restart and give a false rate.

mod families;
mod write;

use std::path::Path;

use self::families::{Family, Kind};
pub use self::write::Flavour;
use self::write::Page;
use crate::{
    clock::{Instants, nanoseconds_of},
    group::{pressure_total_us, read_optional},
    proc::{Buffer, KeptFile},
    rates::IDLE_RESET_SECONDS,
    sample::{CpuField, CpuTimes, Load, OneCpu, ticks_per_second},
    sampler::SampleError,
    schema::Missing,
    stat::{self, number},
};

/// A disk counts its sectors in these, whatever its own are.
const SECTOR_BYTES: u64 = 512;

/// Reads pages of one procfs. Files stay open between pages.
#[derive(Debug)]
pub struct Exporter {
    stat: KeptFile,
    meminfo: KeptFile,
    loadavg: KeptFile,
    diskstats: KeptFile,
    network: KeptFile,
    pressure: [KeptFile; 3],
    statm: KeptFile,
    buffer: Buffer,
    /// The highest that was told of each CPU.
    told: Vec<OneCpu>,
    cpus: Vec<OneCpu>,
}

impl Exporter {
    /// An exporter of the tree at `procfs`. Nothing is opened before the first page.
    pub fn new(procfs: &Path) -> Self {
        let file = |name| KeptFile::new(procfs.join(name));
        Self {
            stat: file("stat"),
            meminfo: file("meminfo"),
            loadavg: file("loadavg"),
            diskstats: file("diskstats"),
            network: file("net/dev"),
            pressure: [file("pressure/cpu"), file("pressure/memory"), file("pressure/io")],
            statm: KeptFile::new(Path::new("/proc/self/statm").to_owned()),
            buffer: Buffer::new(),
            told: Vec::new(),
            cpus: Vec::new(),
        }
    }

    /// Appends a page to `out`, as read at `now`. What this kernel or container does not tell is left out.
    ///
    /// # Errors
    /// When `stat` or `meminfo` cannot be read or is not what it should be. `out` is then of no use.
    pub fn page(&mut self, flavour: Flavour, now: &Instants, out: &mut Vec<u8>) -> Result<(), SampleError> {
        let mut page = Page::new(flavour, out);
        self.cpu(&mut page)?;
        self.memory(&mut page)?;
        let load = read_optional(&mut self.loadavg, &mut self.buffer).ok().and_then(Load::parse);
        if let Some(load) = load {
            let loads = [
                ("node_load1", load.one_minute),
                ("node_load5", load.five_minutes),
                ("node_load15", load.fifteen_minutes),
            ];
            for (name, load) in loads {
                page.one(&Family::gauge(name, "Load average, from /proc/loadavg."), load);
            }
        }
        self.pressure(&mut page);
        if let Ok(content) = read_optional(&mut self.diskstats, &mut self.buffer) {
            disks(&mut page, content);
        }
        if let Ok(content) = read_optional(&mut self.network, &mut self.buffer) {
            interfaces(&mut page, content);
        }
        let wall = Family::gauge("node_time_seconds", "Wall clock, seconds since the Unix epoch.");
        page.one(&wall, now.wall_ns as f64 / 1e9);
        uname(&mut page);
        self.own(&mut page);
        page.end();
        Ok(())
    }

    fn cpu(&mut self, page: &mut Page<'_>) -> Result<(), SampleError> {
        let content = self.stat.read(&mut self.buffer)?;
        stat::parse(content, &mut self.cpus)
            .map_err(|source| SampleError::Stat { path: self.stat.path().to_owned(), source })?;
        never_falling(&mut self.told, &self.cpus);
        let seconds =
            |times: &CpuTimes, field| times.ticks(field).map(|ticks| ticks as f64 / ticks_per_second() as f64);
        page.family(&families::CPU);
        for cpu in &self.told {
            for (mode, field) in families::MODES {
                if let Some(seconds) = seconds(&cpu.times, field) {
                    page.sample(&[("cpu", cpu.id.to_string().as_bytes()), ("mode", mode.as_bytes())], seconds);
                }
            }
        }
        page.family(&families::CPU_GUEST);
        for cpu in &self.told {
            for (mode, field) in [("user", CpuField::Guest), ("nice", CpuField::GuestNice)] {
                if let Some(seconds) = seconds(&cpu.times, field) {
                    page.sample(&[("cpu", cpu.id.to_string().as_bytes()), ("mode", mode.as_bytes())], seconds);
                }
            }
        }
        for (key, family) in families::STAT {
            let mut lines = content.split(|byte| *byte == b'\n');
            // Of the interrupts the first number is all of them.
            let word = lines.find_map(|line| line.strip_prefix(*key)?.split(|byte| *byte == b' ').next());
            if let Some(value) = word.and_then(number) {
                page.one(family, value as f64);
            }
        }
        Ok(())
    }

    /// Every field of meminfo, whatever this kernel has: `Active(anon)` becomes `Active_anon`, and what is in kB bytes.
    fn memory(&mut self, page: &mut Page<'_>) -> Result<(), SampleError> {
        let content = self.meminfo.read(&mut self.buffer)?;
        crate::meminfo::parse(content)
            .map_err(|source| SampleError::Meminfo { path: self.meminfo.path().to_owned(), source })?;
        let mut name = String::new();
        for line in content.split(|byte| *byte == b'\n') {
            let Some((key, value, in_bytes)) = meminfo_line(line) else { continue };
            name.clear();
            name.push_str("node_memory_");
            name.extend(key.chars().filter(|char| *char != ')').map(|char| if char == '(' { '_' } else { char }));
            name.push_str(if in_bytes { "_bytes" } else { "" });
            page.one(&Family { name: &name, kind: Kind::Gauge, help: "Field of /proc/meminfo." }, value as f64);
        }
        Ok(())
    }

    fn pressure(&mut self, page: &mut Page<'_>) {
        for (file, lines) in self.pressure.iter_mut().zip(families::PRESSURE) {
            let Ok(content) = read_optional(file, &mut self.buffer) else { continue };
            for (line, family) in lines {
                if let Ok(total_us) = pressure_total_us(content, line) {
                    page.one(family, total_us as f64 / 1e6);
                }
            }
        }
    }

    /// What this program costs, under the names every client library of Prometheus uses.
    fn own(&mut self, page: &mut Page<'_>) {
        let cpu_ns = nanoseconds_of(rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime));
        page.one(&families::OWN_CPU, cpu_ns as f64 / 1e9);
        let rss = read_optional(&mut self.statm, &mut self.buffer)
            .and_then(|content| crate::group::rss_bytes(content).ok_or(Missing::Unreadable));
        if let Ok(bytes) = rss {
            page.one(&families::OWN_MEMORY, bytes as f64);
        }
        page.family(&families::BUILD);
        page.sample(&[("version", env!("CARGO_PKG_VERSION").as_bytes())], 1.0);
    }
}

/// Takes over what is new, but never a little less than was told before. An idle counter that fell by
/// [`IDLE_RESET_SECONDS`] or more was reset with its CPU, and all of that CPU begins anew. A CPU that is offline is left out.
fn never_falling(told: &mut Vec<OneCpu>, read: &[OneCpu]) {
    told.retain(|cpu| read.binary_search_by_key(&cpu.id, |other| other.id).is_ok());
    for cpu in read {
        match told.binary_search_by_key(&cpu.id, |other| other.id) {
            Err(at) => told.insert(at, *cpu),
            Ok(at) => {
                let idle = |times: &CpuTimes| times.ticks(CpuField::Idle).unwrap_or(0);
                let fell = idle(&told[at].times).saturating_sub(idle(&cpu.times));
                let same = told[at].times.present().len() == cpu.times.present().len();
                if fell >= IDLE_RESET_SECONDS * ticks_per_second() || !same {
                    told[at] = *cpu;
                } else {
                    told[at].times = told[at].times.highest(&cpu.times);
                }
            }
        }
    }
}

/// Key, value, and whether it is in bytes. `None` for what is no field, or has a key no name can be made of.
fn meminfo_line(line: &[u8]) -> Option<(&str, u64, bool)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let key = std::str::from_utf8(&line[..colon]).ok()?;
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '(' | ')');
    let mut words = line[colon + 1..].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let value = number(words.next()?)?;
    match words.next() {
        _ if key.is_empty() || !key.chars().all(plain) => None,
        None => Some((key, value, false)),
        Some(b"kB") => Some((key, value.checked_mul(1024)?, true)),
        Some(_) => None,
    }
}

/// What node_exporter leaves out by default: partitions, and what is memory or a file.
fn is_left_out(name: &[u8]) -> bool {
    let stem = name.trim_ascii_end();
    let digits = stem.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let stem = &stem[..stem.len() - digits];
    let nvme = || {
        let disk = stem.strip_prefix(b"nvme").and_then(|rest| rest.strip_suffix(b"p"));
        disk.is_some_and(|disk| disk.contains(&b'n') && disk.last().is_some_and(u8::is_ascii_digit))
    };
    let lettered = |prefix: &[u8]| {
        stem.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1 && rest.iter().all(u8::is_ascii_lowercase))
    };
    digits > 0
        && (matches!(stem, b"zram" | b"ram" | b"loop" | b"fd")
            || [&b"hd"[..], b"sd", b"vd", b"xvd"].iter().any(|prefix| lettered(prefix))
            || nvme())
}

fn disks(page: &mut Page<'_>, content: &[u8]) {
    for (at, scale, family) in families::DISK {
        page.family(family);
        for line in content.split(|byte| *byte == b'\n') {
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(2);
            let Some(name) = words.next().filter(|name| !is_left_out(name)) else { continue };
            if let Some(value) = words.nth(*at).and_then(number) {
                let value = match scale {
                    families::Scale::As => value as f64,
                    families::Scale::Sectors => (u128::from(value) * u128::from(SECTOR_BYTES)) as f64,
                    families::Scale::Milliseconds => value as f64 / 1000.0,
                };
                page.sample(&[("device", name)], value);
            }
        }
    }
}

fn interfaces(page: &mut Page<'_>, content: &[u8]) {
    for (at, family) in families::NETWORK {
        page.family(family);
        for line in content.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().rposition(|byte| *byte == b':') else { continue };
            let name = line[..colon].trim_ascii_start();
            let mut words = line[colon + 1..].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            if let Some(value) = words.nth(*at).and_then(number) {
                page.sample(&[("device", name)], value as f64);
            }
        }
    }
}

fn uname(page: &mut Page<'_>) {
    let uname = rustix::system::uname();
    page.family(&families::UNAME);
    let labels = [
        ("domainname", uname.domainname().to_bytes()),
        ("machine", uname.machine().to_bytes()),
        ("nodename", uname.nodename().to_bytes()),
        ("release", uname.release().to_bytes()),
        ("sysname", uname.sysname().to_bytes()),
        ("version", uname.version().to_bytes()),
    ];
    page.sample(&labels, 1.0);
}

#[cfg(test)]
mod tests;
