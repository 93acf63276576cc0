//! Pressure stall information: `/proc/pressure/*`, and the same files of a control group.

use std::path::Path;

use super::{Group, Step, read_optional, real};
use crate::{
    proc::KeptFile,
    schema::{Column, Kind, Metric, Missing, Unit, Value},
    stat::number,
};

/// One line of a pressure file: a share of the time, from a counter of microseconds.
#[derive(Debug)]
pub(crate) struct Pressure {
    line: &'static [u8],
    older_us: Option<u64>,
    newer_us: Result<u64, Missing>,
    share_pct: Result<f64, Missing>,
}

impl Pressure {
    /// Of the line `some` or `full`.
    pub(crate) fn new(line: &'static [u8]) -> Self {
        Self { line, older_us: None, newer_us: Err(Missing::NotTold), share_pct: Err(Missing::NotTold) }
    }

    /// Takes the line out of the content; the caller computes with [`Pressure::settle`] after.
    fn take(&mut self, content: Result<&[u8], Missing>) {
        self.older_us = self.newer_us.ok();
        self.newer_us = content.and_then(|content| total_us(content, self.line));
    }

    fn settle(&mut self, step: &Step<'_>) {
        self.share_pct = self.newer_us.and_then(|newer| step.rate(self.older_us, newer)).map(|us| us / 10_000.0);
    }

    pub(crate) fn share_pct(&self) -> Value {
        // The two clocks are read one after the other, so a share of everything may come out a little above.
        real(self.share_pct.map(|share| share.min(100.0)))
    }

    fn seconds(&self) -> Value {
        real(self.newer_us.map(|us| us as f64 / 1e6))
    }
}

/// Reads a file of pressure into its lines.
pub(crate) fn read(file: &mut KeptFile, lines: &mut [Pressure], step: &mut Step<'_>) {
    let content = read_optional(file, step.buffer);
    lines.iter_mut().for_each(|line| line.take(content));
    lines.iter_mut().for_each(|line| line.settle(step));
}

/// `total=` of the line `some` or `full`, in microseconds.
pub(crate) fn total_us(content: &[u8], line: &[u8]) -> Result<u64, Missing> {
    let mut lines = content.split(|byte| *byte == b'\n');
    let rest = lines.find_map(|found| found.strip_prefix(line)?.strip_prefix(b" ")).ok_or(Missing::NotTold)?;
    let mut words = rest.split(|byte| *byte == b' ');
    words.find_map(|word| number(word.strip_prefix(b"total=")?)).ok_or(Missing::Unreadable)
}

#[derive(Debug)]
struct Resource {
    file: KeptFile,
    lines: Vec<Pressure>,
}

/// Pressure of the whole machine.
#[derive(Debug)]
pub(crate) struct Psi {
    resources: Vec<Resource>,
}

/// What is shown of each file. `full` of CPU says nothing for a whole machine.
const COLUMNS: [[&str; 5]; 5] = [
    ["psi_cpu_some_pct", "psi_cpu_some_seconds", "waits for cpu", "some", "time in which some task waited for a CPU"],
    [
        "psi_memory_some_pct",
        "psi_memory_some_seconds",
        "for memory",
        "some",
        "time in which some task waited for memory",
    ],
    [
        "psi_memory_full_pct",
        "psi_memory_full_seconds",
        "memory full",
        "full",
        "time in which all tasks waited for memory",
    ],
    ["psi_io_some_pct", "psi_io_some_seconds", "for disks", "some", "time in which some task waited for a disk"],
    ["psi_io_full_pct", "psi_io_full_seconds", "disks full", "full", "time in which all tasks waited for a disk"],
];

impl Psi {
    pub(crate) fn of(procfs: &Path) -> Self {
        let resource = |name, lines: &[&'static [u8]]| Resource {
            file: KeptFile::new(procfs.join("pressure").join(name)),
            lines: lines.iter().map(|line| Pressure::new(line)).collect(),
        };
        Self {
            resources: vec![
                resource("cpu", &[b"some"]),
                resource("memory", &[b"some", b"full"]),
                resource("io", &[b"some", b"full"]),
            ],
        }
    }

    fn lines(&self) -> impl Iterator<Item = &Pressure> {
        self.resources.iter().flat_map(|resource| &resource.lines)
    }
}

impl Group for Psi {
    fn read(&mut self, step: &mut Step<'_>) -> bool {
        for Resource { file, lines } in &mut self.resources {
            read(file, lines, step);
        }
        false
    }

    fn columns(&self, out: &mut Vec<Column>) {
        for [key, seconds_key, title, line, explanation] in COLUMNS {
            let column = Column {
                key: key.into(),
                title: title.into(),
                unit: Unit::Percent,
                kind: Kind::Rate,
                metric: Metric::Psi,
                source: "/proc/pressure/*, total= of its lines `some` and `full`",
                explanation,
                in_text: line == "some",
            };
            let kind = (Unit::Seconds, Kind::Counter);
            out.push(column.clone());
            out.push(Column { key: seconds_key.into(), unit: kind.0, kind: kind.1, in_text: false, ..column });
        }
    }

    fn values(&self, out: &mut Vec<Value>) {
        for line in self.lines() {
            out.extend([line.share_pct(), line.seconds()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_line_is_read_and_what_is_not_there_is_said() {
        let content = b"some avg10=1.48 avg60=18.56 avg300=14.63 total=3835928917\nfull avg10=0.00 total=7\n";
        assert_eq!(total_us(content, b"some"), Ok(3_835_928_917));
        assert_eq!(total_us(content, b"full"), Ok(7));
        assert_eq!(total_us(b"some total=1\n", b"full"), Err(Missing::NotTold));
        assert_eq!(total_us(b"some avg10=0.00\n", b"some"), Err(Missing::Unreadable));
        assert_eq!(total_us(b"some total=-1\n", b"some"), Err(Missing::Unreadable));
    }
}
