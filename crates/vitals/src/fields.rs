//! The one table of what is shown of the machine: key, title, unit, value. Text, CSV and JSON are all written from it, in
//! its order, so that a field is added in one place.

use crate::{
    csv, json,
    rates::{CpuRates, Rates},
    sample::{BootId, CpuField, Sample, ticks_per_second},
    text,
};

/// What one line is written from.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The sample itself.
    pub sample: &'a Sample,
    /// What was derived from it and the one before.
    pub rates: &'a Rates,
}

/// One thing that is shown.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The name for machines, with its unit: a CSV column, a JSON key. Never renamed, never given another meaning.
    pub key: &'static str,
    /// The name for people.
    pub title: &'static str,
    /// What it is measured in, and so how people read it.
    pub unit: Unit,
    /// Whether a line of text has room for it.
    pub in_text: bool,
    /// Takes it out of a row.
    pub value: fn(&Row<'_>) -> Value,
}

/// What a field is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A moment: RFC 3339, UTC, milliseconds.
    Time,
    /// Percent, 0 to 100.
    Percent,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// A plain number.
    Number,
    /// A word of a fixed set, or an id.
    Word,
}

/// One value, as it is; how it is written is each format's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Not known. Never written as 0.
    Missing,
    /// Nanoseconds since the Unix epoch.
    Time(i64),
    /// A whole number.
    Whole(u64),
    /// A number; never infinite or NaN.
    Real(f64),
    /// A word of ours: ASCII, nothing to escape.
    Word(&'static str),
    /// Which boot.
    Boot(BootId),
}

/// All fields, in the order they are written.
pub const FIELDS: &[Field] = &[
    shown("time", "", Unit::Time, |row| Value::Time(row.sample.taken.wall_ns)),
    shown("cpu_busy_pct", "cpu", Unit::Percent, |row| real(cpu(row).map(|cpu| cpu.busy_pct))),
    shown("cpu_user_pct", "user", Unit::Percent, |row| share(row, CpuField::User)),
    kept("cpu_nice_pct", "nice", Unit::Percent, |row| share(row, CpuField::Nice)),
    shown("cpu_system_pct", "system", Unit::Percent, |row| share(row, CpuField::System)),
    kept("cpu_idle_pct", "idle", Unit::Percent, |row| share(row, CpuField::Idle)),
    shown("cpu_iowait_pct", "iowait", Unit::Percent, |row| share(row, CpuField::Iowait)),
    kept("cpu_irq_pct", "irq", Unit::Percent, |row| share(row, CpuField::Irq)),
    kept("cpu_softirq_pct", "softirq", Unit::Percent, |row| share(row, CpuField::Softirq)),
    shown("cpu_steal_pct", "steal", Unit::Percent, |row| share(row, CpuField::Steal)),
    kept("cpu_null_reason", "no cpu rate", Unit::Word, |row| {
        row.rates.cpu.err().map_or(Value::Missing, |reason| Value::Word(reason.key()))
    }),
    kept("cpu_clamped_fields", "clamped", Unit::Number, |row| whole(cpu(row).map(|cpu| u64::from(cpu.clamped_fields)))),
    kept("cpus_online", "cpus", Unit::Number, |row| {
        // A tree with no line for each CPU does not say how many there are.
        whole(u64::try_from(row.sample.cpus.len()).ok().filter(|count| *count > 0))
    }),
    shown("mem_used_pct", "memory", Unit::Percent, |row| real(row.rates.memory.used_pct())),
    shown("mem_used_bytes", "used", Unit::Bytes, |row| whole(row.rates.memory.used_bytes)),
    shown("mem_available_bytes", "available", Unit::Bytes, |row| whole(row.rates.memory.available_bytes)),
    shown("mem_total_bytes", "total", Unit::Bytes, |row| Value::Whole(row.rates.memory.total_bytes)),
    kept("mem_free_bytes", "free", Unit::Bytes, |row| whole(row.rates.memory.free_bytes)),
    kept("mem_buffers_bytes", "buffers", Unit::Bytes, |row| whole(row.sample.memory.buffers_bytes)),
    kept("mem_cached_bytes", "cached", Unit::Bytes, |row| whole(row.rates.memory.cached_bytes)),
    kept("mem_shared_bytes", "shared", Unit::Bytes, |row| whole(row.sample.memory.shmem_bytes)),
    kept("mem_used_htop_bytes", "used (htop)", Unit::Bytes, |row| whole(row.rates.memory.used_htop_bytes)),
    kept("swap_total_bytes", "swap total", Unit::Bytes, |row| whole(row.rates.memory.swap_total_bytes)),
    shown("swap_used_bytes", "swap used", Unit::Bytes, |row| whole(row.rates.memory.swap_used_bytes)),
    shown("load_1m", "load", Unit::Number, |row| real(row.sample.load.map(|load| load.one_minute))),
    kept("load_5m", "load 5m", Unit::Number, |row| real(row.sample.load.map(|load| load.five_minutes))),
    kept("load_15m", "load 15m", Unit::Number, |row| real(row.sample.load.map(|load| load.fifteen_minutes))),
    // What follows are the raw counters and clocks: with them a reader can compute any other convention over any span.
    kept("cpu_user_seconds", "user", Unit::Seconds, |row| seconds(row, CpuField::User)),
    kept("cpu_nice_seconds", "nice", Unit::Seconds, |row| seconds(row, CpuField::Nice)),
    kept("cpu_system_seconds", "system", Unit::Seconds, |row| seconds(row, CpuField::System)),
    kept("cpu_idle_seconds", "idle", Unit::Seconds, |row| seconds(row, CpuField::Idle)),
    kept("cpu_iowait_seconds", "iowait", Unit::Seconds, |row| seconds(row, CpuField::Iowait)),
    kept("cpu_irq_seconds", "irq", Unit::Seconds, |row| seconds(row, CpuField::Irq)),
    kept("cpu_softirq_seconds", "softirq", Unit::Seconds, |row| seconds(row, CpuField::Softirq)),
    kept("cpu_steal_seconds", "steal", Unit::Seconds, |row| seconds(row, CpuField::Steal)),
    kept("cpu_guest_seconds", "guest", Unit::Seconds, |row| seconds(row, CpuField::Guest)),
    kept("cpu_guest_nice_seconds", "guest nice", Unit::Seconds, |row| seconds(row, CpuField::GuestNice)),
    kept("monotonic_seconds", "monotonic", Unit::Seconds, |row| nanoseconds(row.sample.taken.monotonic_ns)),
    kept("boottime_seconds", "boottime", Unit::Seconds, |row| nanoseconds(row.sample.taken.boottime_ns)),
    kept("boot_id", "boot", Unit::Word, |row| row.sample.boot_id.map_or(Value::Missing, Value::Boot)),
];

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: [`crate::text`].
    #[default]
    Text,
    /// For spreadsheets and pandas: [`crate::csv`].
    Csv,
    /// One object a line: [`crate::json`].
    Json,
}

impl Format {
    /// The line that stands above all others, without its newline; only CSV has one.
    pub fn header(self) -> Option<String> {
        (self == Self::Csv).then(csv::header)
    }

    /// Appends the line of `row` to `out`, without a newline.
    pub fn line(self, out: &mut Vec<u8>, row: &Row<'_>) {
        match self {
            Self::Text => text::line(out, row),
            Self::Csv => csv::line(out, row),
            Self::Json => json::line(out, row),
        }
    }

    /// Whether a file that begins with `first_line` can be continued in this format.
    pub fn continues(self, first_line: &[u8]) -> bool {
        match self {
            Self::Text => first_line.first().is_some_and(u8::is_ascii_digit) && !first_line.contains(&b','),
            Self::Csv => first_line == csv::header().as_bytes(),
            Self::Json => first_line.first() == Some(&b'{'),
        }
    }
}

const fn shown(key: &'static str, title: &'static str, unit: Unit, value: fn(&Row<'_>) -> Value) -> Field {
    Field { key, title, unit, in_text: true, value }
}

const fn kept(key: &'static str, title: &'static str, unit: Unit, value: fn(&Row<'_>) -> Value) -> Field {
    Field { key, title, unit, in_text: false, value }
}

fn cpu(row: &Row<'_>) -> Option<CpuRates> {
    row.rates.cpu.ok()
}

fn share(row: &Row<'_>, field: CpuField) -> Value {
    real(cpu(row).and_then(|cpu| cpu.share_pct(field)))
}

fn seconds(row: &Row<'_>, field: CpuField) -> Value {
    real(row.sample.cpu.ticks(field).map(|ticks| ticks as f64 / ticks_per_second() as f64))
}

fn nanoseconds(ns: u64) -> Value {
    Value::Real(ns as f64 / 1e9)
}

fn real(value: Option<f64>) -> Value {
    value.map_or(Value::Missing, Value::Real)
}

fn whole(value: Option<u64>) -> Value {
    value.map_or(Value::Missing, Value::Whole)
}

/// Appends formatted words to a line.
pub(crate) fn put(out: &mut Vec<u8>, words: std::fmt::Arguments<'_>) {
    std::io::Write::write_fmt(out, words).expect("a Vec takes every byte");
}

/// Appends a moment in RFC 3339, UTC, with milliseconds.
pub(crate) fn put_time(out: &mut Vec<u8>, wall_ns: i64) {
    let time = jiff::Timestamp::from_nanosecond(i128::from(wall_ns))
        .expect("64 bits of nanoseconds are the years 1677 to 2262");
    put(out, format_args!("{time:.3}"));
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        clock::Instants,
        sample::{CpuTimes, Load, Memory, OneCpu},
    };

    /// Two samples with a number in every field, and the figures of the second.
    pub(crate) fn full() -> (Sample, Rates) {
        let cpu = |columns: &[u64]| CpuTimes::new(columns).unwrap();
        let older = Sample { cpu: cpu(&[0; 10]), ..Sample::default() };
        let older = Sample { cpus: vec![OneCpu { id: 0, times: older.cpu }], ..older };
        let times = cpu(&[10, 5, 10, 60, 5, 1, 2, 7, 3, 1]);
        let newer = Sample {
            taken: Instants {
                wall_ns: 1_700_000_000_123_456_789,
                monotonic_ns: 1_500_000_000,
                boottime_ns: 1_750_000_000,
            },
            boot_id: BootId::parse(b"49c14376-1a7d-47d9-8ce7-4aa5f5f6774f"),
            cpu: times,
            cpus: vec![OneCpu { id: 0, times }],
            memory: Memory {
                total_bytes: 8 << 30,
                free_bytes: Some(1 << 30),
                available_bytes: Some(6 << 30),
                buffers_bytes: Some(64 << 20),
                cached_bytes: Some(4 << 30),
                sreclaimable_bytes: Some(256 << 20),
                shmem_bytes: Some(1 << 20),
                swap_total_bytes: Some(2 << 30),
                swap_free_bytes: Some((2 << 30) - 1536),
            },
            load: Some(Load { one_minute: 0.5, five_minutes: 1.25, fifteen_minutes: 10.0 }),
        };
        let rates = Rates::between(&older, &newer);
        (newer, rates)
    }

    /// A first sample of a kernel that prints as little as it can.
    pub(crate) fn bare() -> (Sample, Rates) {
        let memory = Memory { total_bytes: 1024, ..Memory::default() };
        let sample = Sample { cpu: CpuTimes::new(&[1, 2, 3, 4]).unwrap(), memory, ..Sample::default() };
        let rates = Rates::first(&sample);
        (sample, rates)
    }

    #[test]
    fn keys_are_unique_and_name_their_unit() {
        for (at, field) in FIELDS.iter().enumerate() {
            assert!(FIELDS[..at].iter().all(|other| other.key != field.key), "{} is there twice", field.key);
            let suffix = match field.unit {
                Unit::Percent => "_pct",
                Unit::Bytes => "_bytes",
                Unit::Seconds => "_seconds",
                Unit::Time | Unit::Number | Unit::Word => "",
            };
            assert!(field.key.ends_with(suffix), "{}", field.key);
        }
    }

    #[test]
    fn a_full_sample_has_every_value_but_the_reason_and_a_bare_one_never_says_zero() {
        let (sample, rates) = full();
        for field in FIELDS {
            let missing = (field.value)(&Row { sample: &sample, rates: &rates }) == Value::Missing;
            assert_eq!(missing, field.key == "cpu_null_reason", "{}", field.key);
        }
        let (sample, rates) = bare();
        let known = ["time", "cpu_null_reason", "mem_total_bytes", "monotonic_seconds", "boottime_seconds"];
        let counters = ["cpu_user_seconds", "cpu_nice_seconds", "cpu_system_seconds", "cpu_idle_seconds"];
        for field in FIELDS {
            let missing = (field.value)(&Row { sample: &sample, rates: &rates }) == Value::Missing;
            assert_eq!(!missing, known.contains(&field.key) || counters.contains(&field.key), "{}", field.key);
        }
    }

    #[test]
    fn a_format_continues_its_own_files_and_no_other() {
        let (sample, rates) = full();
        let row = Row { sample: &sample, rates: &rates };
        let formats = [Format::Text, Format::Csv, Format::Json];
        for writer in formats {
            let mut first = writer.header().map(String::into_bytes).unwrap_or_default();
            if first.is_empty() {
                writer.line(&mut first, &row);
            }
            for reader in formats {
                assert_eq!(reader.continues(&first), reader == writer, "{reader:?} after {writer:?}");
            }
        }
    }
}
