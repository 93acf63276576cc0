//! The one way of logging: `tracing`, to the command's log file, with warnings and errors to stderr as well.
//!
//! The first line on stderr names the file. `LOCKSTEP_LOG` sets what goes into it (`debug`, `hub=trace,info`; default
//! `info`). Nothing else in this program writes to stderr but the final error.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Context as _;
use jiff::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use vitals::log::{Appended, CappedLog, LogError};

use crate::exit::Failure;
use crate::paths;

/// The variable that says how much is logged.
const LEVEL_VARIABLE: &str = "LOCKSTEP_LOG";
/// The value of `--log` that turns the log file off.
const NO_FILE: &str = "none";

/// The flag every command has that runs on or changes something.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct LogArgs {
    /// Log file, or `none` [default: /var/log/lockstep/COMMAND.log for root, else
    /// $XDG_STATE_HOME/lockstep/log/COMMAND.log]
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,

    /// How much is logged: info, debug or trace, or by part, as in hub=debug,info [default: LOCKSTEP_LOG, else info]
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(crate) log_level: Option<String>,
}

/// One that is understood.
fn level(text: &str) -> Result<String, String> {
    let understood = text.parse::<Targets>().map(|_| text.to_owned());
    understood.map_err(|error| format!("{error} (try info, debug or trace)"))
}

impl LogArgs {
    /// Where the log of `command` is to be; `None` after `--log none`.
    ///
    /// # Errors
    /// When there is no default place for it; says which flag helps.
    pub(crate) fn place(&self, command: &str) -> Result<Option<PathBuf>, Failure> {
        match &self.log {
            Some(path) if path.as_os_str() == NO_FILE => Ok(None),
            Some(path) => Ok(Some(path.clone())),
            None => paths::default_log(command).map(Some),
        }
    }
}

impl LogArgs {
    /// The directory of the log, where one is named.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        let path = self.log.as_deref().filter(|path| path.as_os_str() != NO_FILE)?;
        Some(path.parent().unwrap_or(Path::new("/")).to_owned())
    }
}

/// The log file of this run, shared by all who write to it. A clone writes to the same file.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    file: Option<Arc<Mutex<CappedLog>>>,
}

impl Log {
    /// Writes one line of a record of its own (a result); the newline is added. Without a file nothing
    /// happens.
    ///
    /// # Errors
    /// When the file cannot be written and could be before; while it stays so, lines are counted and not told again.
    pub(crate) fn append_line(&self, line: &[u8]) -> Result<(), LogError> {
        let Some(file) = &self.file else { return Ok(()) };
        let appended = file.lock().unwrap_or_else(PoisonError::into_inner).append_line(line)?;
        if let Appended::Resumed { lines_lost } = appended {
            say(format_args!("log: written again; {lines_lost} lines are missing"));
        }
        Ok(())
    }

    /// Opens the file anew, for who moved it away.
    ///
    /// # Errors
    /// When it cannot be opened; then the one before stays in use.
    pub(crate) fn reopen(&self) -> Result<(), LogError> {
        let Some(file) = &self.file else { return Ok(()) };
        file.lock().unwrap_or_else(PoisonError::into_inner).reopen()
    }
}

/// Opens the log file of `command`, names it on stderr, and sends the program's own messages there.
///
/// # Errors
/// When the file cannot be opened, or there is no default place for it; says which flag helps.
pub(crate) fn start(command: &str, args: &LogArgs) -> Result<Log, Failure> {
    let log = open(command, args)?;
    let (filter, handle) = reload::Layer::new(filter(args.log_level.as_deref())?);
    let to_file = fmt::layer().with_timer(Clock).with_ansi(false).with_writer(Lines(log.clone())).with_filter(filter);
    let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
    SET_LEVEL.get_or_init(|| Box::new(set));
    // A second call in one process finds a subscriber already set; the first one's file stays in use.
    tracing_subscriber::registry().with(to_file).with(to_stderr()).try_init().ok();
    Ok(log)
}

/// Changes how much the running command logs.
static SET_LEVEL: OnceLock<Box<SetLevel>> = OnceLock::new();

/// Takes the filter in the place of the one before; says why where it cannot.
type SetLevel = dyn Fn(Targets) -> Result<(), String> + Send + Sync;

/// From now on logs as much as `level` says, or as it would without one.
///
/// # Errors
/// When the level is not understood; then nothing changes.
pub(crate) fn set_level(level: Option<&str>) -> Result<(), Failure> {
    let filter = filter(level)?;
    let set = SET_LEVEL.get().map_or(Ok(()), |set| set(filter));
    set.map_err(|why| Failure::could_not_run(anyhow::anyhow!("the log's level cannot be changed: {why}")))
}

fn open(command: &str, args: &LogArgs) -> Result<Log, Failure> {
    let Some(path) = args.place(command)? else {
        say(format_args!("log: none"));
        return Ok(Log { file: None });
    };
    let file = CappedLog::open(&path)
        .with_context(|| format!("cannot log to {} (choose another with --log FILE, or --log none)", path.display()))?;
    say(format_args!("log: {}", shown(&path).display()));
    Ok(Log { file: Some(Arc::new(Mutex::new(file))) })
}

/// Says one line on stderr, in one write, so that no other process' line comes between. Unlike `eprintln!` it does not panic
/// when stderr is closed: then there is nobody to tell.
pub(crate) fn say(words: std::fmt::Arguments<'_>) {
    io::stderr().write_all(format!("{words}\n").as_bytes()).ok();
}

/// A path that means the same wherever it is read.
fn shown(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Warnings and errors for the person at the terminal, without time and origin.
fn to_stderr<S>() -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let plain = fmt::layer().without_time().with_target(false).with_ansi(false);
    plain.with_writer(io::stderr).with_filter(LevelFilter::WARN)
}

fn filter(level: Option<&str>) -> Result<Targets, Failure> {
    if let Some(level) = level {
        return level.parse::<Targets>().map_err(|error| Failure::usage(format!("--log-level {level}: {error}")));
    }
    match std::env::var(LEVEL_VARIABLE) {
        Ok(text) if !text.is_empty() => text
            .parse::<Targets>()
            .map_err(|error| Failure::usage(format!("{LEVEL_VARIABLE}={text}: {error} (try info, debug or trace)"))),
        _ => Ok(Targets::new().with_default(LevelFilter::INFO)),
    }
}

/// Time stamps as everywhere in our files: UTC, RFC 3339, to the millisecond.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:.3}", Timestamp::now())
    }
}

/// Hands each formatted event, complete, to the log file.
struct Lines(Log);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { log: &self.0, bytes: Vec::new() }
    }
}

/// One event on its way to the file. It is written when dropped, so that two threads never mix their lines.
struct Line<'a> {
    log: &'a Log,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        if line.is_empty() {
            return;
        }
        if let Err(error) = self.log.append_line(line) {
            // The log's disk is full or gone. That is told once, where someone may look.
            say(format_args!("log: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn opened(path: impl Into<PathBuf>) -> Result<Log, Failure> {
        open("mirror", &LogArgs { log: Some(path.into()), log_level: None })
    }

    #[test]
    fn none_turns_the_file_off() {
        let log = opened("none").unwrap();
        assert!(log.file.is_none());
        log.append_line(b"into nothing").unwrap();
    }

    #[test]
    fn the_directory_is_made_and_lines_are_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/x.log");
        for line in ["one", "two"] {
            opened(&path).unwrap().append_line(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_log_that_cannot_be_opened_names_the_flag() {
        let dir = tempfile::tempdir().unwrap();
        let refused = opened(dir.path()).unwrap_err();
        assert!(refused.error.to_string().contains("--log none"), "{:#}", refused.error);
    }

    #[test]
    fn one_event_is_one_line_that_cannot_be_forged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let lines = Lines(opened(&path).unwrap());
        let layer = fmt::layer().with_timer(Clock).with_ansi(false).with_writer(lines);
        let subscriber = tracing_subscriber::registry().with(layer);
        let name = "a\nb\u{1b}[31m";
        tracing::subscriber::with_default(subscriber, || tracing::info!(path = %name, "wrote"));
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("wrote") && text.contains("INFO") && text.contains('Z'), "{text}");
    }
}
