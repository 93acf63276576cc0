//! `lockstep history`: what `lockstep monitor --history` kept, back as lines.

mod lines;
pub(crate) mod moment;

use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use vitals::history::{Block, Column, History, Range, Rows, Schema, Skipped, Stepper};

use self::lines::{Lines, Row};
pub(crate) use self::moment::Moment;
use crate::args::parse_duration;
use crate::exit::{Exit, Failure};
use crate::logging::say;
use crate::monitor::FormatArg;
use crate::paths;

/// Tells what `monitor --history` kept
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the history [default: /var/lib/lockstep/history for root, else $XDG_STATE_HOME/lockstep/history]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,

    #[command(flatten)]
    span: Span,

    /// Means over steps of this length instead of every sample; a step in which nothing is known has no number
    #[arg(long, value_name = "TIME", value_parser = parse_step)]
    step: Option<Duration>,

    /// With --step: the least and the most in each step beside the mean
    #[arg(long, requires = "step")]
    min_max: bool,

    /// Only these, by the names that CSV has [default: all, or as text the main ones]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    columns: Vec<String>,

    /// How a line is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: FormatArg,
}

/// Which span of time is asked for.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Span {
    /// From then on: 2026-01-31T12:00:00Z, 2026-01-31, or -2h for two hours ago
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = moment::parse)]
    from: Option<Moment>,

    /// Until then, in the same forms
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = moment::parse)]
    to: Option<Moment>,
}

impl Span {
    /// The span as of `now`.
    ///
    /// # Errors
    /// When it ends before it begins.
    pub(crate) fn range(self, now: Timestamp) -> Result<Range, Failure> {
        let at = |moment: Option<Moment>, open| moment.map_or(open, |moment| moment.at(now).as_millisecond());
        let range = Range { from_ms: at(self.from, i64::MIN), to_ms: at(self.to, i64::MAX) };
        if range.from_ms > range.to_ms {
            return Err(Failure::usage("--from is later than --to"));
        }
        Ok(range)
    }
}

/// What text shows where nothing else is asked for.
const MAIN: [&str; 6] =
    ["cpu_busy_pct", "cpu_iowait_pct", "mem_used_pct", "mem_used_bytes", "swap_used_bytes", "load_1m"];

/// Tells the rows of the span, or its steps.
///
/// # Errors
/// When there is no history, it cannot be read, a column that is asked for is not in it, or stdout cannot be written.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let range = args.span.range(Timestamp::now())?;
    let dir = place(args.dir.as_deref())?;
    let history = History::open(&dir).map_err(Failure::could_not_run)?;
    let found = columns(&history, range);
    let text = matches!(args.format, FormatArg::Text);
    let columns = choose(&args.columns, found, text, &dir)?;
    let keys: Vec<&str> = columns.iter().map(|column| column.key.as_str()).collect();
    let mut rows = history.rows(range);
    let out = BufWriter::new(io::stdout().lock());
    let mut lines = Lines::new(args.format, &columns, args.step.is_some(), args.min_max, out);
    lines.header().map_err(Failure::output)?;
    match args.step {
        Some(step) => tell_steps(&mut rows, &keys, step, &mut lines)?,
        None => tell_rows(&mut rows, &keys, &mut lines)?,
    }
    lines.into_inner().flush().map_err(Failure::output)?;
    say_skipped(&dir, rows.skipped());
    Ok(Exit::Done)
}

/// The directory that is named, or the default one.
///
/// # Errors
/// When there is no default.
pub(crate) fn place(dir: Option<&Path>) -> Result<PathBuf, Failure> {
    match dir {
        Some(dir) => Ok(dir.to_owned()),
        None => paths::default_data("history"),
    }
}

/// Says what could not be read, if anything: it is missing in what was told.
pub(crate) fn say_skipped(dir: &Path, skipped: Skipped) {
    let Skipped { blocks, rows, single_rows, segments } = skipped;
    if skipped.is_nothing() {
        return;
    }
    say(format_args!(
        "damaged in {}, and skipped: {blocks} blocks (with {rows} samples, as far as they still say), {single_rows} single \
         samples, {segments} files whose columns are not known",
        dir.display()
    ));
}

/// The columns of all that lies in the span, each once, in the order they first came.
fn columns(history: &History, range: Range) -> Vec<Column> {
    let mut found: Vec<Column> = Vec::new();
    for schema in history.schemas(range) {
        for column in &schema.columns {
            if found.iter().all(|known| known.key != column.key) {
                found.push(column.clone());
            }
        }
    }
    found
}

fn choose(asked: &[String], found: Vec<Column>, text: bool, dir: &Path) -> Result<Vec<Column>, Failure> {
    let position = |key: &str| found.iter().position(|column| column.key == key);
    if let Some(missing) = asked.iter().find(|key| position(key).is_none()) {
        let known: Vec<&str> = found.iter().map(|column| column.key.as_str()).collect();
        let (dir, known) = (dir.display(), known.join(", "));
        return Err(Failure::usage(format_args!("there is no {missing:?} in {dir} in this span; there is: {known}")));
    }
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let main = MAIN.iter().copied().filter(|key| position(key).is_some()).collect::<Vec<_>>();
    let keys = if asked.is_empty() && text && !main.is_empty() { main } else { asked };
    if keys.is_empty() {
        return Ok(found);
    }
    Ok(keys.into_iter().filter_map(|key| position(key).map(|at| found[at].clone())).collect())
}

/// Where each of the keys is in a schema.
fn positions(keys: &[&str], schema: &Schema) -> Vec<Option<usize>> {
    keys.iter().map(|key| schema.columns.iter().position(|column| column.key == *key)).collect()
}

fn values(block: &Block, row: usize, positions: &[Option<usize>]) -> impl Iterator<Item = Option<f64>> {
    positions.iter().map(move |at| at.and_then(|at| block.columns[at][row]))
}

fn tell_rows<W: io::Write>(rows: &mut Rows<'_>, keys: &[&str], lines: &mut Lines<'_, W>) -> Result<(), Failure> {
    let mut before: Option<(Option<String>, i64, i64)> = None;
    let mut cells = Vec::new();
    while let Some((schema, block)) = rows.next_block().map_err(Failure::could_not_run)? {
        let positions = positions(keys, &schema);
        for row in 0..block.rows() {
            let (wall_ms, boot_ms) = (block.wall_ms[row], block.boot_ms[row]);
            let same_boot = before.as_ref().filter(|(boot, ..)| *boot == schema.boot);
            let clock_set_ms = same_boot.and_then(|(_, wall, boot)| clock_set_ms((*wall, *boot), (wall_ms, boot_ms)));
            let started = before.is_some() && same_boot.is_none();
            cells.clear();
            cells.extend(values(&block, row, &positions));
            let row = Row { wall_ms, boot_ms, clock_set_ms, started, values: &cells };
            lines.row(&row).map_err(Failure::output)?;
            match &mut before {
                Some((boot, wall, since)) if *boot == schema.boot => (*wall, *since) = (wall_ms, boot_ms),
                _ => before = Some((schema.boot.clone(), wall_ms, boot_ms)),
            }
        }
    }
    Ok(())
}

/// How far the wall clock was set between two rows of one boot, if by more than it drifts.
fn clock_set_ms(older: (i64, i64), newer: (i64, i64)) -> Option<i64> {
    let set = newer.0.saturating_sub(older.0).saturating_sub(newer.1.saturating_sub(older.1));
    (set.saturating_abs() >= CLOCK_SET_MS).then_some(set)
}

/// Below it the wall clock was at most nudged.
const CLOCK_SET_MS: i64 = 1000;

fn tell_steps<W: io::Write>(
    rows: &mut Rows<'_>,
    keys: &[&str],
    step: Duration,
    lines: &mut Lines<'_, W>,
) -> Result<(), Failure> {
    let mut stepper = Stepper::new(i64::try_from(step.as_millis()).unwrap_or(i64::MAX), keys.len());
    while let Some((schema, block)) = rows.next_block().map_err(Failure::could_not_run)? {
        let positions = positions(keys, &schema);
        for row in 0..block.rows() {
            let told = stepper.push(block.wall_ms[row], values(&block, row, &positions), |step| lines.step(&step));
            told.map_err(Failure::output)?;
        }
    }
    stepper.finish(|step| lines.step(&step)).map_err(Failure::output)
}

fn parse_step(text: &str) -> Result<Duration, String> {
    let step = parse_duration(text)?;
    if step.is_zero() { Err("a step takes some time".into()) } else { Ok(step) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_was_nudged() {
        assert_eq!(clock_set_ms((0, 0), (1000, 1000)), None);
        assert_eq!(clock_set_ms((0, 0), (1999, 1000)), None);
        assert_eq!(clock_set_ms((0, 0), (3_601_000, 1000)), Some(3_600_000));
        assert_eq!(clock_set_ms((10_000, 0), (1000, 1000)), Some(-10_000));
        assert_eq!(clock_set_ms((i64::MIN, 0), (i64::MAX, 1)), Some(i64::MAX - 1));
    }

    #[test]
    fn a_span_must_not_end_before_it_begins() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let span = |from: &str, to: &str| Span { from: moment::parse(from).ok(), to: moment::parse(to).ok() };
        let range = span("-1h", "-1m").range(now).unwrap();
        assert_eq!((range.from_ms, range.to_ms), (1_699_996_400_000, 1_699_999_940_000));
        assert_eq!(span("-1m", "-1h").range(now).unwrap_err().exit, Exit::Usage);
        assert_eq!(Span { from: None, to: None }.range(now).unwrap(), Range::ALL);
    }
}
