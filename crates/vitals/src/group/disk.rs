//! Disks: `/proc/diskstats`.

use std::path::Path;

use super::devices::{DeviceField, Devices, Family, rate};
use crate::{
    fields::field,
    proc::KeptFile,
    schema::{Kind, Metric, Missing, Unit, Value},
    stat::number,
};

/// Reads and writes of each disk.
pub(crate) type Disk = Devices<5>;

/// A disk counts its sectors in these, whatever its own are.
const SECTOR_BYTES: f64 = 512.0;

impl Disk {
    pub(crate) fn of(procfs: &Path) -> Self {
        Self::new(&DISKS, KeptFile::new(procfs.join("diskstats")))
    }
}

static DISKS: Family<5> =
    Family { metric: Metric::Disk, prefix: "disk", devices_max: 64, line, left_out, made_of_others, fields: FIELDS };

type Rates = [Result<f64, Missing>; 5];

const BYTES: (Unit, Kind) = (Unit::BytesPerSecond, Kind::Rate);
const TIMES: (Unit, Kind) = (Unit::PerSecond, Kind::Rate);
const DISKSTATS: &str = "/proc/diskstats";

const FIELDS: &[DeviceField<5>] = &[
    field(("read_bytes_per_s", "read"), BYTES, ("/proc/diskstats, sectors read * 512", "bytes read"), |of: &Rates| {
        bytes(rate::<0, 5>(of))
    })
    .shown(),
    field(
        ("write_bytes_per_s", "written"),
        BYTES,
        ("/proc/diskstats, sectors written * 512", "bytes written"),
        |of: &Rates| bytes(rate::<1, 5>(of)),
    )
    .shown(),
    field(("reads_per_s", "reads"), TIMES, (DISKSTATS, "reads completed"), rate::<2, 5>),
    field(("writes_per_s", "writes"), TIMES, (DISKSTATS, "writes completed"), rate::<3, 5>),
    field(
        ("busy_seconds_per_s", "busy"),
        TIMES,
        (DISKSTATS, "share of the time with something under way; of all disks the sum, so it can pass 1"),
        |of: &Rates| match rate::<4, 5>(of) {
            Value::Real(milliseconds) => Value::Real(milliseconds / 1000.0),
            other => other,
        },
    ),
];

fn bytes(sectors: Value) -> Value {
    if let Value::Real(sectors) = sectors { Value::Real(sectors * SECTOR_BYTES) } else { sectors }
}

/// Major, minor, name; reads, merged, sectors, ms; writes, merged, sectors, ms; under way, busy ms.
fn line(line: &[u8]) -> Option<(&[u8], [u64; 5])> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(2);
    let name = words.next()?;
    let mut counters = [0; 10];
    for counter in &mut counters {
        *counter = number(words.next()?)?;
    }
    let [reads, _, read_sectors, _, writes, _, write_sectors, _, _, busy_ms] = counters;
    Some((name, [read_sectors, write_sectors, reads, writes, busy_ms]))
}

/// Partitions, which follow their disk, and what is memory or a file.
fn left_out(name: &[u8], before: Option<&[u8]>) -> bool {
    let numbered = |prefix: &[u8]| name.strip_prefix(prefix).is_some_and(|rest| rest.iter().all(u8::is_ascii_digit));
    numbered(b"loop") || numbered(b"ram") || before.is_some_and(|before| disk_of(name) == Some(before))
}

/// What a partition of this name is a partition of, if there is such a disk: `sda` for `sda1`, `nvme0n1` for `nvme0n1p1`.
fn disk_of(name: &[u8]) -> Option<&[u8]> {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let stem = &name[..name.len() - digits];
    match stem.strip_suffix(b"p") {
        _ if digits == 0 => None,
        Some(disk) if disk.last().is_some_and(u8::is_ascii_digit) => Some(disk),
        _ => Some(stem),
    }
}

/// Volumes and arrays: each of their bytes is one of a disk as well.
fn made_of_others(name: &[u8]) -> bool {
    [&b"dm-"[..], b"md", b"zram", b"sr", b"fd"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_files_and_memory_are_left_out_and_disks_are_not() {
        let names: [&[u8]; 16] = [
            b"loop0",
            b"ram1",
            b"sda",
            b"sda1",
            b"sda2",
            b"sda10",
            b"sdb",
            b"nvme0n1",
            b"nvme0n1p1",
            b"nvme0n1p2",
            b"nvme1n1",
            b"vda",
            b"vda1",
            b"dm-0",
            b"xvda1",
            b"xvda2",
        ];
        let mut before = None;
        let mut kept = Vec::new();
        for name in names {
            if !left_out(name, before) {
                kept.push(std::str::from_utf8(name).unwrap());
                before = Some(name);
            }
        }
        // On some clouds disks are called as partitions of one that is not there.
        assert_eq!(kept, ["sda", "sdb", "nvme0n1", "nvme1n1", "vda", "dm-0", "xvda1", "xvda2"]);
        assert!(made_of_others(b"dm-0") && !made_of_others(b"sda"));
    }

    #[test]
    fn a_line_is_read_whether_the_kernel_prints_14_or_20_columns() {
        let old: &[u8] = b"   8       0 sda 1 2 3 4 5 6 7 8 9 10 11";
        let new: &[u8] = b"   8       0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17";
        assert_eq!(line(old), Some((&b"sda"[..], [3, 7, 1, 5, 10])));
        assert_eq!(line(old), line(new));
        for bad in ["", "8 0", "8 0 sda 1 2 3", "8 0 sda 1 2 x 4 5 6 7 8 9 10"] {
            assert_eq!(line(bad.as_bytes()), None, "{bad}");
        }
    }
}
