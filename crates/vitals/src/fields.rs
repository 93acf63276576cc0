//! How a number becomes a column: its key, title, unit, source and meaning, and the function that takes it out, all in one
//! place, so that nothing is shown that is not explained.

mod table;

use crate::{
    rates::Rates,
    sample::Sample,
    schema::{Column, Kind, Metric, MetricSet, Unit, Value},
};

use self::table::FIELDS;

/// What the fields are taken from.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The newest sample.
    pub sample: Sample,
    /// What was derived from it and the one before.
    pub rates: Rates,
}

/// One thing that is shown of a `T`.
pub(crate) struct Field<T> {
    /// As in [`Column`]; in a table of devices what follows the device's name.
    pub key: &'static str,
    /// As in [`Column`].
    pub title: &'static str,
    /// As in [`Column`].
    pub unit: Unit,
    /// As in [`Column`].
    pub kind: Kind,
    /// As in [`Column`].
    pub in_text: bool,
    /// As in [`Column`].
    pub source: &'static str,
    /// As in [`Column`].
    pub explanation: &'static str,
    /// Takes it out.
    pub value: fn(&T) -> Value,
}

impl<T> std::fmt::Debug for Field<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key)
    }
}

impl<T> Field<T> {
    pub(crate) fn column(&self, metric: Metric) -> Column {
        Column {
            key: self.key.into(),
            title: self.title.into(),
            unit: self.unit,
            kind: self.kind,
            metric,
            source: self.source,
            explanation: self.explanation,
            in_text: self.in_text,
        }
    }

    pub(crate) const fn shown(mut self) -> Self {
        self.in_text = true;
        self
    }
}

/// A field that is not in lines of text.
pub(crate) const fn field<T>(
    (key, title): (&'static str, &'static str),
    (unit, kind): (Unit, Kind),
    (source, explanation): (&'static str, &'static str),
    value: fn(&T) -> Value,
) -> Field<T> {
    Field { key, title, unit, kind, in_text: false, source, explanation, value }
}

/// The fields that `metrics` choose, in the order they are written.
pub(crate) fn chosen(metrics: MetricSet) -> impl Iterator<Item = (Metric, &'static Field<Reading>)> {
    FIELDS.iter().filter_map(move |(by, field)| Some((*by.iter().find(|metric| metrics.has(**metric))?, field)))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        clock::Instants,
        sample::{BootId, CpuTimes, Load, Memory, OneCpu},
        schema::{Frame, Schema},
    };

    /// Two samples with a number in every field, and the figures of the second.
    pub(crate) fn full_reading() -> Reading {
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
        Reading { sample: newer, rates }
    }

    /// A first sample of a kernel that prints as little as it can.
    pub(crate) fn bare_reading() -> Reading {
        let memory = Memory { total_bytes: 1024, ..Memory::default() };
        let sample = Sample { cpu: CpuTimes::new(&[1, 2, 3, 4]).unwrap(), memory, ..Sample::default() };
        let rates = Rates::first(&sample);
        Reading { sample, rates }
    }

    /// The reading in the columns of CPU and memory.
    fn frame(reading: &Reading) -> Frame {
        let metrics = MetricSet::default();
        let schema = Schema::new(chosen(metrics).map(|(metric, field)| field.column(metric)).collect());
        let values = chosen(metrics).map(|(_, field)| (field.value)(reading)).collect();
        Frame { taken: reading.sample.taken, schema: Arc::new(schema), values }
    }

    pub(crate) fn full() -> Frame {
        frame(&full_reading())
    }

    pub(crate) fn bare() -> Frame {
        frame(&bare_reading())
    }

    #[test]
    fn keys_are_unique_and_name_their_unit() {
        for (at, (_, field)) in FIELDS.iter().enumerate() {
            assert!(FIELDS[..at].iter().all(|(_, other)| other.key != field.key), "{} is there twice", field.key);
            assert!(field.key.ends_with(field.unit.suffix()), "{}", field.key);
            assert!(!field.source.is_empty() && !field.explanation.is_empty(), "{} is explained", field.key);
        }
    }

    #[test]
    fn a_full_sample_has_every_value_but_the_reason_and_a_bare_one_never_says_zero() {
        for (column, value) in full().cells() {
            assert_eq!(value == Value::Nothing, column.key == "cpu_null_reason", "{}", column.key);
            assert_eq!(value.missing(), None, "{}", column.key);
        }
        let known = ["time", "cpu_null_reason", "mem_total_bytes", "monotonic_seconds", "boottime_seconds"];
        let counters = ["cpu_user_seconds", "cpu_nice_seconds", "cpu_system_seconds", "cpu_idle_seconds"];
        for (column, value) in bare().cells() {
            let key = &*column.key;
            assert_eq!(value.missing().is_none(), known.contains(&key) || counters.contains(&key), "{key}");
        }
    }
}
