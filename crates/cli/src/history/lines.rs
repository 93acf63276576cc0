//! The lines of `lockstep history`, in each format.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::Value;
use vitals::history::{Column, Step};

use crate::monitor::FormatArg;

/// One row to be told.
pub(super) struct Row<'a> {
    /// Both clocks.
    pub(super) wall_ms: i64,
    pub(super) boot_ms: i64,
    /// By how much the wall clock was set since the row before.
    pub(super) clock_set_ms: Option<i64>,
    /// The machine was started anew since the row before.
    pub(super) started: bool,
    /// A value for each column.
    pub(super) values: &'a [Option<f64>],
}

/// Writes lines of one format.
pub(super) struct Lines<'a, W> {
    format: FormatArg,
    columns: &'a [Column],
    steps: bool,
    min_max: bool,
    out: W,
    widths: Vec<usize>,
}

/// The room a number of text has at least; the longest usual one is `1023.9 MiB/s`.
const WIDTH_MIN: usize = 10;
/// The room a moment has: RFC 3339 with milliseconds.
const TIME_WIDTH: usize = 24;

impl<'a, W: Write> Lines<'a, W> {
    pub(super) fn new(format: FormatArg, columns: &'a [Column], steps: bool, min_max: bool, out: W) -> Self {
        let mut lines = Self { format, columns, steps, min_max, out, widths: Vec::new() };
        lines.widths = lines.keys().iter().map(|key| key.chars().count().max(WIDTH_MIN)).collect();
        lines
    }

    pub(super) fn into_inner(self) -> W {
        self.out
    }

    /// Writes what stands above all lines.
    pub(super) fn header(&mut self) -> io::Result<()> {
        let keys = self.keys();
        let first: &[&str] = match (self.format, self.steps) {
            (FormatArg::Json, _) => return Ok(()),
            (FormatArg::Text, false) => &["time"],
            (FormatArg::Text | FormatArg::Csv, true) => &["time", "samples"],
            (FormatArg::Csv, false) => &["time", "boottime_seconds", "clock_set_seconds"],
        };
        if matches!(self.format, FormatArg::Csv) {
            let all: Vec<String> =
                first.iter().map(|key| (*key).to_owned()).chain(keys.iter().map(|key| quoted(key))).collect();
            return writeln!(self.out, "{}", all.join(","));
        }
        let mut line = format!("{:<TIME_WIDTH$}", first[0]);
        for key in &first[1..] {
            line += &format!("  {key:>7}");
        }
        for (key, width) in keys.iter().zip(&self.widths) {
            line += &format!("  {:>width$}", shown_key(key));
        }
        writeln!(self.out, "{line}")
    }

    /// Writes a row.
    pub(super) fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        let set_seconds = row.clock_set_ms.map(|ms| ms as f64 / 1000.0);
        let boot_seconds = row.boot_ms as f64 / 1000.0;
        match self.format {
            FormatArg::Text => {
                let mut line = self.text(row.wall_ms, None, row.values);
                if let Some(seconds) = set_seconds {
                    line += &format!("  (the wall clock was set by {seconds:+.1} s)");
                }
                if row.started {
                    line += "  (the machine was started anew)";
                }
                writeln!(self.out, "{line}")
            }
            FormatArg::Csv => self.csv(row.wall_ms, &[Some(boot_seconds), set_seconds], row.values),
            FormatArg::Json => {
                let first =
                    [("boottime_seconds", Value::from(boot_seconds)), ("clock_set_seconds", Value::from(set_seconds))];
                self.json(row.wall_ms, first, row.values)
            }
        }
    }

    /// Writes a step.
    pub(super) fn step(&mut self, step: &Step) -> io::Result<()> {
        let each = step.mean.iter().zip(&step.min).zip(&step.max);
        let values: Vec<Option<f64>> = if self.min_max {
            each.flat_map(|((mean, min), max)| [*mean, *min, *max]).collect()
        } else {
            step.mean.clone()
        };
        match self.format {
            FormatArg::Text => {
                let line = self.text(step.begin_ms, Some(step.rows), &values);
                writeln!(self.out, "{line}")
            }
            FormatArg::Csv => self.csv(step.begin_ms, &[Some(step.rows as f64)], &values),
            FormatArg::Json => self.json(step.begin_ms, [("samples", Value::from(step.rows))], &values),
        }
    }

    /// The names of the values, in their order.
    fn keys(&self) -> Vec<String> {
        let parts: &[&str] = if self.steps && self.min_max { &["", "_min", "_max"] } else { &[""] };
        self.columns.iter().flat_map(|column| parts.iter().map(move |part| format!("{}{part}", column.key))).collect()
    }

    fn units(&self) -> impl Iterator<Item = &str> {
        let each = if self.steps && self.min_max { 3 } else { 1 };
        self.columns.iter().flat_map(move |column| std::iter::repeat_n(column.unit.as_str(), each))
    }

    fn text(&self, wall_ms: i64, samples: Option<u64>, values: &[Option<f64>]) -> String {
        let mut line = time(wall_ms);
        if let Some(samples) = samples {
            line += &format!("  {samples:>7}");
        }
        for ((value, unit), width) in values.iter().zip(self.units()).zip(&self.widths) {
            let shown = value.map_or_else(|| "-".into(), |value| vitals::text::shown(unit, value));
            line += &format!("  {shown:>width$}");
        }
        line
    }

    fn csv(&mut self, wall_ms: i64, first: &[Option<f64>], values: &[Option<f64>]) -> io::Result<()> {
        write!(self.out, "{}", time(wall_ms))?;
        for value in first.iter().chain(values) {
            match value {
                Some(value) => write!(self.out, ",{value}")?,
                None => write!(self.out, ",")?,
            }
        }
        writeln!(self.out)
    }

    fn json<const N: usize>(
        &mut self,
        wall_ms: i64,
        first: [(&str, Value); N],
        values: &[Option<f64>],
    ) -> io::Result<()> {
        // By hand, so that keys stand in the order of the columns.
        write!(self.out, "{{\"time\":\"{}\"", time(wall_ms))?;
        let values = self.keys().into_iter().zip(values).map(|(key, value)| (key, Value::from(*value)));
        for (key, value) in first.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(values) {
            write!(self.out, ",{}:{value}", Value::from(key))?;
        }
        writeln!(self.out, "}}")
    }
}

/// RFC 3339, UTC, with milliseconds. A clock set beyond all calendars is shown as their end.
fn time(wall_ms: i64) -> String {
    let end = if wall_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    format!("{:.3}", Timestamp::from_millisecond(wall_ms).unwrap_or(end))
}

/// A device can be called anything: what could steer a terminal is shown as an escape.
fn shown_key(key: &str) -> String {
    crate::table::escaped(key)
}

/// A key for CSV: quoted where it has to be.
fn quoted(key: &str) -> String {
    let key = shown_key(key);
    if key.contains([',', '"', ' ']) { format!("\"{}\"", key.replace('"', "\"\"")) } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let column = |key: &str, unit: &str| Column { key: key.into(), unit: unit.into() };
        vec![column("cpu_busy_pct", "percent"), column("disk_a\x1b[31m,\"\n_bytes", "bytes")]
    }

    fn told(format: FormatArg, values: &[Option<f64>]) -> String {
        let columns = columns();
        let mut lines = Lines::new(format, &columns, false, false, Vec::new());
        lines.header().unwrap();
        let row =
            |clock_set_ms| Row { wall_ms: 1_700_000_000_123, boot_ms: 1500, clock_set_ms, started: false, values };
        lines.row(&row(None)).unwrap();
        lines.row(&row(Some(-3_600_000))).unwrap();
        String::from_utf8(lines.into_inner()).unwrap()
    }

    #[test]
    fn each_format_tells_both_clocks_what_is_known_and_no_control_character() {
        let values = [Some(12.5), None];
        let text = told(FormatArg::Text, &values);
        assert!(text.contains("12.5%") && text.contains("(the wall clock was set by -3600.0 s)"), "{text}");
        let csv = told(FormatArg::Csv, &values);
        assert!(csv.ends_with("\n2023-11-14T22:13:20.123Z,1.5,-3600,12.5,\n"), "{csv}");
        for told in [text, csv] {
            assert_eq!(told.lines().count(), 3);
            assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{told:?}");
        }
        let json = told(FormatArg::Json, &values);
        let second: Value = serde_json::from_str(json.lines().nth(1).unwrap()).unwrap();
        assert_eq!(second["cpu_busy_pct"], 12.5);
        assert_eq!(second["clock_set_seconds"], -3600.0);
        assert!(second["disk_a\x1b[31m,\"\n_bytes"].is_null());
    }

    #[test]
    fn a_moment_beyond_all_calendars_is_their_end() {
        assert_eq!(time(i64::MAX), format!("{:.3}", Timestamp::MAX));
        assert_eq!(time(i64::MIN), format!("{:.3}", Timestamp::MIN));
    }
}
