//! Where the lines of `lockstep monitor` go: stdout and the log file, which hold the very same ones.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vitals::log::{Appended, LogOptions, SEGMENT_BYTES_MAX, SEGMENTS_MAX};
use vitals::{CappedLog, Format, Frame, Schema};

use super::keeping::Keeping;
use crate::args::{parse_duration, parse_size};
use crate::exit::Failure;
use crate::logging::{LogArgs, say};

/// A log that was moved away is noticed within this. Looking is two system calls, as many as a sample reads files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The smallest part of a log. It holds a hundred lines of most machines.
const PART_BYTES_MIN: u64 = 64 << 10;

/// The most parts of a log, so that moving them on stays quick.
const PARTS_MAX: u32 = 100;

/// How large and how old the log gets.
#[derive(Debug, clap::Args)]
pub(super) struct LogLimits {
    /// The most bytes the log has, all its parts together [default: 32MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    log_max_size: Option<u64>,

    /// Begins a new part of the log when it is this old: 1h, 1d
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    log_max_age: Option<Duration>,

    /// How many parts the log has: LOG, LOG.1, LOG.2, ...; the oldest is dropped for a new one
    #[arg(long, value_name = "N", default_value_t = SEGMENTS_MAX, value_parser = clap::value_parser!(u32).range(1..=100))]
    log_parts: u32,
}

impl LogLimits {
    fn part_bytes_max(&self) -> Result<u64, Failure> {
        let Some(bytes) = self.log_max_size else { return Ok(SEGMENT_BYTES_MAX) };
        let part_bytes = bytes / u64::from(self.log_parts.clamp(1, PARTS_MAX));
        if part_bytes < PART_BYTES_MIN {
            return Err(Failure::usage(format!(
                "--log-max-size {bytes} is less than {} KiB for each of {} parts; allow more, or fewer parts with --log-parts",
                PART_BYTES_MIN >> 10,
                self.log_parts
            )));
        }
        Ok(part_bytes)
    }
}

/// Where lines go, and the room they are made in.
pub(super) struct Output<'a> {
    format: Format,
    line: Vec<u8>,
    stdout: Option<io::StdoutLock<'a>>,
    /// What the log is opened with at the first line, when its columns are known.
    log_to_open: Option<(PathBuf, LogOptions)>,
    log: Option<CappedLog>,
    history: Option<Keeping>,
    /// The columns of the last line.
    schema: Option<Arc<Schema>>,
}

impl Output<'_> {
    /// Prepares the log, which is opened and named in the first line on stderr when there is a first line for it. With `quiet`
    /// nothing goes to stdout.
    ///
    /// The program's own messages do not go into this log: its lines are the samples, in their format.
    ///
    /// # Errors
    /// When there is no place for the log, or its limits are wrong.
    pub(super) fn prepare(
        log: &LogArgs,
        limits: &LogLimits,
        history: Option<Keeping>,
        format: Format,
        quiet: bool,
    ) -> Result<Self, Failure> {
        let log_to_open = log_to_open(log, limits, format)?;
        let stdout = (!quiet).then(|| io::stdout().lock());
        Ok(Self { format, line: Vec::new(), stdout, log_to_open, log: None, history, schema: None })
    }

    /// Writes the line of `frame`: first to the log and the history, so that they are complete when whoever reads stdout goes away.
    ///
    /// # Errors
    /// When stdout cannot be written, or the log or the history not be opened. That an open one cannot be written is said, and the sampling
    /// goes on.
    pub(super) fn line(&mut self, frame: &Frame) -> Result<(), Failure> {
        self.line.clear();
        self.format.line(&mut self.line, frame);
        let columns_new = self.schema.as_ref().is_none_or(|schema| !Arc::ptr_eq(schema, &frame.schema));
        if let Some((path, options)) = self.log_to_open.take() {
            self.log = Some(open_log(&path, LogOptions { header: self.format.header(&frame.schema), ..options })?);
        }
        if columns_new {
            if let Some(log) = &mut self.log {
                log.set_header(self.format.header(&frame.schema));
            }
            self.schema = Some(Arc::clone(&frame.schema));
        }
        if let Some(log) = &mut self.log {
            // A full disk does not stop the sampling. Both ends of it are said once.
            match log.append_line_at(&self.line, &frame.taken) {
                Ok(Appended::Written | Appended::StillLost) => {}
                Ok(Appended::Resumed { lines_lost }) => {
                    say(format_args!("the log is written again; {lines_lost} lines are missing in it"));
                }
                Err(error) => say(format_args!("{:#}; sampling goes on", anyhow::Error::new(error))),
            }
        }
        if let Some(history) = &mut self.history {
            history.record(frame)?;
        }
        let Some(stdout) = &mut self.stdout else { return Ok(()) };
        if let Some(header) = columns_new.then(|| self.format.header(&frame.schema)).flatten() {
            self.line.splice(0..0, header.bytes().chain([b'\n']));
        }
        self.line.push(b'\n');
        stdout.write_all(&self.line).and_then(|()| stdout.flush()).map_err(Failure::output)
    }

    /// Opens the log anew, as somebody moved it away and said so.
    pub(super) fn reopen(&mut self) {
        let Some(log) = &mut self.log else { return };
        match log.reopen() {
            Ok(()) => say(format_args!("log: {} opened again", log.path().display())),
            Err(error) => say(format_args!("{:#}; sampling goes on", anyhow::Error::new(error))),
        }
    }
}

/// `None` after `--log none`.
fn log_to_open(args: &LogArgs, limits: &LogLimits, format: Format) -> Result<Option<(PathBuf, LogOptions)>, Failure> {
    let segment_bytes_max = limits.part_bytes_max()?;
    let Some(path) = args.place("monitor")? else {
        say(format_args!("log: none"));
        return Ok(None);
    };
    let continues: fn(&[u8]) -> bool = match format {
        Format::Text => |line| Format::Text.continues(line),
        Format::Csv => |line| Format::Csv.continues(line),
        Format::Json => |line| Format::Json.continues(line),
    };
    let options = LogOptions {
        header: None,
        continues,
        segment_bytes_max,
        segments_max: limits.log_parts,
        age_max: limits.log_max_age,
        private: false,
        look_every: LOOK_EVERY,
    };
    Ok(Some((path, options)))
}

fn open_log(path: &Path, options: LogOptions) -> Result<CappedLog, Failure> {
    let log = CappedLog::open_with(path, options).map_err(Failure::could_not_run)?;
    say(format_args!("log: {}", log.path().display()));
    if log.mended_bytes() > 0 {
        say(format_args!("removed an unfinished last line of {} bytes from the log", log.mended_bytes()));
    }
    Ok(log)
}

fn parse_age(text: &str) -> Result<Duration, String> {
    let age = parse_duration(text)?;
    if age < Duration::from_secs(60) { Err("a part lasts at least a minute".into()) } else { Ok(age) }
}
