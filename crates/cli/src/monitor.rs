//! `lockstep monitor`: CPU and memory of the machine, every interval, to stdout and to the log file.
//!
//! The log holds the very lines of stdout, so that it can be read like them; what goes wrong is said on stderr.

use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vitals::log::{Appended, LogOptions};
use vitals::{CappedLog, Format, Frame, Instants, MetricSet, Probe, Schema, Ticker};

use crate::args::parse_duration;
use crate::exit::{Exit, Failure};
use crate::logging::LogArgs;
use crate::signals::{self, Signal, Stop};

/// The shortest interval: ten of the ticks the kernel counts CPU time in. Below it a share is mostly rounding.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest interval. A longer one is most likely a mistake, and would say nothing for days.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Measures CPU and memory of this machine, and logs them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Time from one sample to the next, at least 100ms: 500ms, 1s, 2m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Ends after N lines; without it, runs until stopped
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// How a line is written, on stdout and in the log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: FormatArg,

    #[command(flatten)]
    log: LogArgs,

    /// Reads another procfs; given several times, one sample of each without waiting, and ends
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    procfs: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FormatArg {
    /// For people
    Text,
    /// For spreadsheets and pandas, with a header
    Csv,
    /// One object a line
    Json,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Csv => Self::Csv,
            FormatArg::Json => Self::Json,
        }
    }
}

/// Samples until the count is reached, the trees are used up, or somebody asks to stop.
///
/// # Errors
/// When procfs cannot be read at the start, the log not be opened, or stdout not be written.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let format = Format::from(args.format);
    let stop = signals::flag()?;
    let first = args.procfs.first().map_or(Path::new("/proc"), PathBuf::as_path);
    let mut probe = Probe::new(first, MetricSet::default());
    let log = open_log(&args.log, format, probe.schema())?;
    let mut out = Output { format, line: Vec::new(), stdout: io::stdout().lock(), log, schema: None };
    let lines_max = args.count.unwrap_or(u64::MAX);
    if let [_] = args.procfs.as_slice() {
        follow(&mut probe, first, args.interval, lines_max, stop, &mut out)
    } else {
        replay(&mut probe, &args.procfs, lines_max, stop, &mut out)
    }
}

/// Samples one procfs again and again.
///
/// Only the first sample must succeed. Later a tree may be away for a while (lxcfs restarting, a captured tree being
/// exchanged): that is said once, and the interval to the next sample that succeeds is simply longer.
fn follow(
    probe: &mut Probe,
    procfs: &Path,
    interval: Duration,
    lines_max: u64,
    stop: &Stop,
    out: &mut Output<'_>,
) -> Result<Exit, Failure> {
    let mut ticker = Ticker::new(Instants::now().monotonic_ns, interval);
    let (mut lines, mut missed) = (0, 0_u64);
    while lines < lines_max {
        let now = Instants::now();
        if ticker.take(now.monotonic_ns).is_none() {
            if stop.wait(ticker.wait(now.monotonic_ns)) {
                return Ok(stopped(stop));
            }
            continue;
        }
        match probe.take(now) {
            Ok(frame) => {
                if mem::take(&mut missed) > 0 {
                    say(format_args!("{} can be read again", procfs.display()));
                }
                out.line(frame)?;
                lines += 1;
            }
            Err(error) if lines == 0 => return Err(Failure::could_not_run(error)),
            Err(error) => {
                missed += 1;
                if missed == 1 {
                    say(format_args!("no sample: {:#}", anyhow::Error::new(error)));
                }
            }
        }
        // A busy sampler must still hear that it is to stop.
        if stop.requested().is_some() {
            return Ok(stopped(stop));
        }
    }
    Ok(Exit::Done)
}

/// Samples each of several captured trees once, each with the one before as its baseline.
fn replay(
    probe: &mut Probe,
    trees: &[PathBuf],
    lines_max: u64,
    stop: &Stop,
    out: &mut Output<'_>,
) -> Result<Exit, Failure> {
    for (tree, _) in trees.iter().zip(0..lines_max) {
        probe.turn_to(tree);
        out.line(probe.take(Instants::now()).map_err(Failure::could_not_run)?)?;
        if stop.requested().is_some() {
            return Ok(stopped(stop));
        }
    }
    Ok(Exit::Done)
}

/// Where lines go, and the room they are made in.
struct Output<'a> {
    format: Format,
    line: Vec<u8>,
    stdout: io::StdoutLock<'a>,
    log: Option<CappedLog>,
    /// The columns of the last line on stdout.
    schema: Option<Arc<Schema>>,
}

impl Output<'_> {
    /// Writes the line of `frame`: first to the log, so that it is complete when whoever reads stdout goes away.
    fn line(&mut self, frame: &Frame) -> Result<(), Failure> {
        self.line.clear();
        self.format.line(&mut self.line, frame);
        let columns_new = self.schema.as_ref().is_none_or(|schema| !Arc::ptr_eq(schema, &frame.schema));
        if columns_new {
            if let (Some(log), Some(_)) = (&mut self.log, &self.schema) {
                log.set_header(self.format.header(&frame.schema));
            }
            self.schema = Some(Arc::clone(&frame.schema));
        }
        if let Some(log) = &mut self.log {
            // A full disk does not stop the sampling. Both ends of it are said once.
            match log.append_line(&self.line) {
                Ok(Appended::Written | Appended::StillLost) => {}
                Ok(Appended::Resumed { lines_lost }) => {
                    say(format_args!("the log is written again; {lines_lost} lines are missing in it"));
                }
                Err(error) => say(format_args!("{:#}; sampling goes on", anyhow::Error::new(error))),
            }
        }
        if let Some(header) = columns_new.then(|| self.format.header(&frame.schema)).flatten() {
            self.line.splice(0..0, header.bytes().chain([b'\n']));
        }
        self.line.push(b'\n');
        self.stdout.write_all(&self.line).and_then(|()| self.stdout.flush()).map_err(Failure::output)
    }
}

/// Opens the log and names it in the first line on stderr. `None` after `--log none`.
///
/// The program's own messages do not go into this log: its lines are the samples, in their format.
fn open_log(args: &LogArgs, format: Format, schema: &Schema) -> Result<Option<CappedLog>, Failure> {
    let Some(path) = args.place("monitor")? else {
        say(format_args!("log: none"));
        return Ok(None);
    };
    let continues: fn(&[u8]) -> bool = match format {
        Format::Text => |line| Format::Text.continues(line),
        Format::Csv => |line| Format::Csv.continues(line),
        Format::Json => |line| Format::Json.continues(line),
    };
    let options = LogOptions { header: format.header(schema), continues, ..LogOptions::default() };
    let log = CappedLog::open_with(&path, options).map_err(Failure::could_not_run)?;
    say(format_args!("log: {}", log.path().display()));
    if log.mended_bytes() > 0 {
        say(format_args!("removed an unfinished last line of {} bytes from the log", log.mended_bytes()));
    }
    Ok(Some(log))
}

/// Says something that is no result. A closed stderr leaves nobody to be told.
fn say(words: std::fmt::Arguments<'_>) {
    writeln!(io::stderr(), "{words}").ok();
}

/// How a command ends that was asked to stop: a person interrupts, the system ends a service in order.
fn stopped(stop: &Stop) -> Exit {
    match stop.requested() {
        Some(Signal::Interrupt) => Exit::Interrupted,
        Some(Signal::Terminate) | None => Exit::Done,
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < INTERVAL_MIN {
        return Err(format!("the shortest interval is {INTERVAL_MIN:?}: the kernel counts CPU time in ticks of 10ms"));
    }
    if interval > INTERVAL_MAX {
        return Err(format!("the longest interval is {} hours", INTERVAL_MAX.as_secs() / 3600));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_lies_between_100_ms_and_a_day() {
        for (text, interval) in [
            ("100ms", INTERVAL_MIN),
            ("1s", Duration::from_secs(1)),
            ("2m", Duration::from_secs(120)),
            ("24h", INTERVAL_MAX),
        ] {
            assert_eq!(parse_interval(text), Ok(interval));
        }
        for text in ["99ms", "0s", "25h", "1", "x", ""] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }
}
