//! What a line is made of: columns that say what they mean, and for each sample one value in each.
//!
//! A [`Schema`] is made once and shared; a [`Frame`] is one sample in its columns, filled again and again in the same room.
//! Columns are only ever added while a program runs: a disk that went away keeps its columns, which are then missing with a
//! reason. So a reader of two frames with the same schema compares like with like.

use std::{borrow::Cow, sync::Arc};

use crate::{clock::Instants, rates::NoRate, sample::BootId};

/// One thing that can be chosen to be measured, with all its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Time, clocks and boot: in every line.
    Clock,
    /// CPU of the whole machine, and load.
    Cpu,
    /// Each CPU by its own number.
    Cores,
    /// Memory and swap.
    Memory,
    /// Load averages.
    Load,
    /// Pressure stall information: time lost waiting for CPU, memory and disks.
    Psi,
    /// Reads and writes of each disk.
    Disk,
    /// Traffic of each network interface.
    Network,
    /// The processes that use most CPU and most memory.
    Processes,
    /// Use and limits of the control group we run in.
    Cgroup,
    /// Time since the machine started.
    Uptime,
    /// What measuring itself costs.
    Own,
}

impl Metric {
    /// All that can be chosen, in the order of their columns.
    pub const CHOICES: [Self; 11] = [
        Self::Cpu,
        Self::Cores,
        Self::Memory,
        Self::Load,
        Self::Psi,
        Self::Disk,
        Self::Network,
        Self::Processes,
        Self::Cgroup,
        Self::Uptime,
        Self::Own,
    ];

    /// The word it is chosen by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Cpu => "cpu",
            Self::Cores => "cores",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::Psi => "psi",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Processes => "processes",
            Self::Cgroup => "cgroup",
            Self::Uptime => "uptime",
            Self::Own => "self",
        }
    }
}

/// Which metrics are measured. [`Metric::Clock`] always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricSet(u32);

impl MetricSet {
    /// Everything there is.
    pub fn all() -> Self {
        Metric::CHOICES.into_iter().collect()
    }

    /// Whether `metric` is measured.
    pub fn has(self, metric: Metric) -> bool {
        metric == Metric::Clock || self.0 & Self::bit(metric) != 0
    }

    fn bit(metric: Metric) -> u32 {
        1 << metric as u32
    }
}

impl Default for MetricSet {
    /// CPU and memory.
    fn default() -> Self {
        [Metric::Cpu, Metric::Memory].into_iter().collect()
    }
}

impl FromIterator<Metric> for MetricSet {
    fn from_iter<I: IntoIterator<Item = Metric>>(metrics: I) -> Self {
        Self(metrics.into_iter().fold(0, |set, metric| set | Self::bit(metric)))
    }
}

/// What a column is measured in, and so how people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A moment: RFC 3339, UTC, milliseconds.
    Time,
    /// Percent; 100 is all of it. Of a process: 100 is one CPU.
    Percent,
    /// Bytes.
    Bytes,
    /// Bytes in a second.
    BytesPerSecond,
    /// How often in a second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// A plain number.
    Number,
    /// A word, a name or an id.
    Word,
}

impl Unit {
    /// Its name in listings and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Percent => "percent",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes/s",
            Self::PerSecond => "1/s",
            Self::Seconds => "seconds",
            Self::Number => "number",
            Self::Word => "word",
        }
    }

    /// How the key of a column with this unit ends.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Percent => "_pct",
            Self::Bytes => "_bytes",
            Self::BytesPerSecond => "_bytes_per_s",
            Self::PerSecond => "_per_s",
            Self::Seconds => "_seconds",
            Self::Time | Self::Number | Self::Word => "",
        }
    }
}

/// How values of a column move, and so what may be computed of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An amount at the moment of the sample.
    Gauge,
    /// Derived from this sample and the one before, over the time between them.
    Rate,
    /// Only grows, until it starts anew: subtract two.
    Counter,
    /// No number.
    Label,
}

impl Kind {
    /// Its name in listings and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Rate => "rate",
            Self::Counter => "counter",
            Self::Label => "label",
        }
    }
}

/// What one place of a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name for machines, with its unit: a CSV column, a JSON key. Never renamed, never given another meaning. ASCII
    /// letters, digits and `_`, but where a device's own name stands in it, which has none but printable characters.
    pub key: Cow<'static, str>,
    /// The name for people.
    pub title: Cow<'static, str>,
    /// What it is measured in.
    pub unit: Unit,
    /// How it moves.
    pub kind: Kind,
    /// What it is chosen with.
    pub metric: Metric,
    /// Where the number comes from: a file and what stands in it.
    pub source: &'static str,
    /// What the number says, in one line.
    pub explanation: &'static str,
    /// Whether a line of text has room for it.
    pub in_text: bool,
}

/// The columns of a line, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    columns: Vec<Column>,
}

impl Schema {
    /// A schema of these columns. No two have the same key.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns }
    }

    /// The columns, in the order of a frame's values.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Where the column with this key is.
    pub fn position(&self, key: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.key == key)
    }
}

/// One sample in columns: as many values as its schema has columns.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// When it was taken.
    pub taken: Instants,
    /// What the values mean. The same `Arc` as in the frame before, unless columns were added.
    pub schema: Arc<Schema>,
    /// A value for each column.
    pub values: Vec<Value>,
}

impl Frame {
    /// The value of the column with this key; `None` if there is no such column.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.schema.position(key).and_then(|at| self.values.get(at).copied())
    }

    /// Each column with its value.
    pub fn cells(&self) -> impl Iterator<Item = (&Column, Value)> {
        self.schema.columns.iter().zip(self.values.iter().copied())
    }
}

/// One value, as it is; how it is written is each format's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Not known, and why. Never written as 0.
    Missing(Missing),
    /// There is nothing to say, and nothing is wrong: the reason of a number that is known.
    Nothing,
    /// Nanoseconds since the Unix epoch.
    Time(i64),
    /// A whole number.
    Whole(u64),
    /// A number; never infinite or NaN.
    Real(f64),
    /// A word of ours: ASCII letters, digits and `_`, nothing to escape.
    Word(&'static str),
    /// Which boot.
    Boot(BootId),
    /// A name somebody else chose: any bytes.
    Name(Name),
}

impl Value {
    /// The number, if it is one; a moment is seconds since the Unix epoch.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(whole) => Some(*whole as f64),
            Self::Real(real) => Some(*real),
            Self::Time(wall_ns) => Some(*wall_ns as f64 / 1e9),
            Self::Missing(_) | Self::Nothing | Self::Word(_) | Self::Boot(_) | Self::Name(_) => None,
        }
    }

    /// Why it is not known; `None` if it is.
    pub fn missing(&self) -> Option<Missing> {
        if let Self::Missing(why) = self { Some(*why) } else { None }
    }

    pub(crate) fn whole(value: Option<u64>, or: Missing) -> Self {
        value.map_or(Self::Missing(or), Self::Whole)
    }

    pub(crate) fn real(value: Option<f64>, or: Missing) -> Self {
        value.map_or(Self::Missing(or), Self::Real)
    }
}

/// Why a value is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// There is no sound baseline to compute a rate from.
    NoRate(NoRate),
    /// This kernel does not tell it, or not in this container.
    NotTold,
    /// What tells it cannot be read, or says something else than it should.
    Unreadable,
    /// The CPU, disk or interface is not there now.
    Absent,
    /// It is measured less often than the others, and was not measured yet.
    NotYet,
    /// The machine has less of them than the line has room for.
    NoSuch,
    /// There is no limit.
    NoLimit,
}

impl Missing {
    /// The word for machines; part of the schema of CSV and JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::NoRate(why) => why.key(),
            Self::NotTold => "not_told",
            Self::Unreadable => "unreadable",
            Self::Absent => "absent",
            Self::NotYet => "not_yet",
            Self::NoSuch => "no_such",
            Self::NoLimit => "no_limit",
        }
    }
}

impl From<NoRate> for Missing {
    fn from(why: NoRate) -> Self {
        Self::NoRate(why)
    }
}

/// How long a [`Name`] can be; the kernel's names of processes have 15 bytes, those of its own threads a few more.
pub const NAME_BYTES_MAX: usize = 39;

/// A short name of bytes that somebody else chose; what is longer is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    length: u8,
    bytes: [u8; NAME_BYTES_MAX],
}

impl Name {
    /// The first [`NAME_BYTES_MAX`] bytes of `name`.
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; NAME_BYTES_MAX];
        let length = name.len().min(NAME_BYTES_MAX);
        bytes[..length].copy_from_slice(&name[..length]);
        Self { length: u8::try_from(length).unwrap_or(0), bytes }
    }

    /// The bytes as they were.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_set_has_what_was_chosen_and_the_clock_always() {
        let set: MetricSet = [Metric::Psi, Metric::Own].into_iter().collect();
        for metric in Metric::CHOICES {
            assert_eq!(set.has(metric), matches!(metric, Metric::Psi | Metric::Own), "{metric:?}");
            assert!(MetricSet::all().has(metric));
        }
        assert!(set.has(Metric::Clock) && MetricSet::default().has(Metric::Memory));
    }

    #[test]
    fn a_name_keeps_any_bytes_and_is_cut_at_its_limit() {
        assert_eq!(Name::new(b"a\n\xff\0b").as_bytes(), b"a\n\xff\0b");
        assert_eq!(Name::new(&[b'x'; NAME_BYTES_MAX]).as_bytes().len(), NAME_BYTES_MAX);
        assert_eq!(Name::new(&[b'x'; NAME_BYTES_MAX + 1]).as_bytes().len(), NAME_BYTES_MAX);
    }

    #[test]
    fn the_document_tells_each_reason_and_no_other() {
        use NoRate::*;
        let no_rates = [
            FirstSample,
            BootChanged,
            Suspended,
            CpusChanged,
            TotalNotLarger,
            IdleFell,
            CounterFell,
            Appeared,
            NoTimePassed,
        ];
        let others = [
            Missing::NotTold,
            Missing::Unreadable,
            Missing::Absent,
            Missing::NotYet,
            Missing::NoSuch,
            Missing::NoLimit,
        ];
        let keys: BTreeSet<&str> = no_rates.map(Missing::from).iter().chain(&others).map(|why| why.key()).collect();
        let document = include_str!("../../../docs/monitor.md");
        let told = document.split("| reason | means |").nth(1).unwrap().split("\n\n").next().unwrap();
        let told: BTreeSet<&str> = told.lines().filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(told, keys);
    }
}
