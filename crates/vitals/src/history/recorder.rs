//! Puts frames into a history: which of their columns are kept, and what happens when there are new ones.

use std::{path::Path, sync::Arc};

use super::{
    error::HistoryError,
    schema::{Column, Schema},
    writer::{Appended, Options, Writer},
};
use crate::{
    sample::BootId,
    schema::{self, Frame, Kind, Metric},
};

/// Writes frames into a history.
///
/// Kept are amounts and rates. Counters are not, as their rates are; nor clocks, which every row has; nor words, and with them
/// processes, whose numbers say nothing without a name. Why a number is missing is told by the log alone.
#[derive(Debug)]
pub struct Recorder {
    writer: Writer,
    schema: Arc<schema::Schema>,
    /// Where in a frame the kept columns are.
    positions: Vec<usize>,
}

impl Recorder {
    /// Opens the history in the directory `path` for frames of this schema, taken in this boot of the machine.
    ///
    /// # Errors
    /// As [`Writer::open`].
    pub fn open(
        path: &Path,
        schema: &Arc<schema::Schema>,
        boot: Option<BootId>,
        options: Options,
    ) -> Result<Self, HistoryError> {
        let (positions, columns) = kept(schema);
        let kept = Schema { columns, boot: boot.map(|boot| boot.as_str().to_owned()) };
        Ok(Self { writer: Writer::open(path, kept, options)?, schema: Arc::clone(schema), positions })
    }

    /// Appends a frame. One with another schema begins a new segment.
    ///
    /// # Errors
    /// As [`Writer::append`] and [`Writer::turn_to`].
    pub fn record(&mut self, frame: &Frame) -> Result<Appended, HistoryError> {
        if !Arc::ptr_eq(&frame.schema, &self.schema) {
            let (positions, columns) = kept(&frame.schema);
            if frame.schema != self.schema {
                self.writer.turn_to(columns)?;
            }
            (self.positions, self.schema) = (positions, Arc::clone(&frame.schema));
        }
        let wall_ms = frame.taken.wall_ns.div_euclid(NS_PER_MS);
        let boot_ms = i64::try_from(frame.taken.boottime_ns).unwrap_or(i64::MAX) / NS_PER_MS;
        let value = |at: &usize| frame.values.get(*at).and_then(schema::Value::number);
        self.writer.append(wall_ms, boot_ms, self.positions.iter().map(value))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.writer.path()
    }

    /// How many numbers a row has.
    pub fn columns(&self) -> usize {
        self.positions.len()
    }
}

const NS_PER_MS: i64 = 1_000_000;

fn kept(schema: &schema::Schema) -> (Vec<usize>, Vec<Column>) {
    let kept = schema.columns().iter().enumerate().filter(|(_, column)| {
        matches!(column.kind, Kind::Gauge | Kind::Rate) && !matches!(column.metric, Metric::Clock | Metric::Processes)
    });
    kept.map(|(at, column)| {
        let unit = column.unit.name().to_owned();
        (at, Column { key: column.key.clone().into_owned(), unit })
    })
    .unzip()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{History, Range},
        *,
    };
    use crate::{Instants, MetricSet, Probe, schema::Unit};

    #[test]
    fn amounts_and_rates_are_kept_with_their_units_and_new_columns_begin_a_segment() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = Probe::new(Path::new("/proc"), [Metric::Memory].into_iter().collect());
        let mut recorder = Recorder::open(dir.path(), probe.schema(), None, Options::default()).unwrap();
        let total = probe.take(Instants::now()).unwrap().get("mem_total_bytes").unwrap().number();
        assert_eq!(recorder.record(probe.take(Instants::now()).unwrap()).unwrap(), Appended::Written);
        let mut more = Probe::new(Path::new("/proc"), MetricSet::default());
        recorder.record(more.take(Instants::now()).unwrap()).unwrap();
        let history = History::open(dir.path()).unwrap();
        let schemas = history.schemas(Range::ALL);
        assert_eq!(schemas.len(), 2);
        for column in schemas.iter().flat_map(|schema| &schema.columns) {
            assert!(!column.key.ends_with("_seconds") && column.unit != Unit::Word.name(), "{column:?}");
        }
        let mut rows = history.rows(Range::ALL);
        while let Some((schema, block)) = rows.next_block().unwrap() {
            let at = schema.columns.iter().position(|column| column.key == "mem_total_bytes").unwrap();
            assert_eq!((schema.columns[at].unit.as_str(), block.columns[at][0]), ("bytes", total));
        }
    }
}
