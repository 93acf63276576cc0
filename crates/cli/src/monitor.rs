//! `lockstep monitor`: what was chosen of the machine, every interval, to stdout and to the log file.
//!
//! The log holds the very lines of stdout, so that it can be read like them; what goes wrong is said on stderr.

pub(crate) mod choice;
mod keeping;
mod output;
mod resident;
pub(crate) mod scans;
mod serve;

use std::mem;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vitals::{Format, Instants, Metric, Probe, Ticker};

use self::choice::Choice;
use self::keeping::{HistoryArgs, Keeping};
use self::output::{LogLimits, Output};
use self::scans::Scans;
use crate::args::parse_duration;
use crate::exit::{Exit, Failure};
use crate::logging::{LogArgs, say};
use crate::notify;
use crate::signals::{self, Signal, Stop};

/// The shortest interval: one of the ticks the kernel counts CPU time in. Below it a share says nothing at all; below ten of
/// them it is mostly rounding.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The longest interval. A longer one is most likely a mistake, and would say nothing for days.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// After so many lines all was done once that is done for each.
const LINES_FIRST: u64 = 2;

/// Measures CPU, memory and more of this machine, and logs them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Time from one sample to the next, at least 10ms: 500ms, 1s, 2m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Ends after N lines; without it, runs until stopped
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// What is measured: cpu, cores, memory, load, psi, disk, network, processes, cgroup, uptime, self, with commas between;
    /// `all`; or `help`, which explains each number in one line
    #[arg(long, value_name = "LIST", default_value = "cpu,memory", value_parser = Choice::parse)]
    metrics: Choice,

    /// How a line is written, on stdout and in the log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: FormatArg,

    /// Writes to the log alone, not to stdout
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    log: LogArgs,

    #[command(flatten)]
    limits: LogLimits,

    #[command(flatten)]
    history: HistoryArgs,

    /// Serves the machine's counters to Prometheus, under node_exporter's names, at http://ADDR/metrics. A port alone is for
    /// this machine alone
    #[arg(long, value_name = "ADDR", value_parser = serve::parse_address)]
    prometheus: Option<SocketAddr>,

    /// Time from one look at all processes to the next, where they are measured
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_process_interval)]
    process_interval: Duration,

    /// Reads another procfs; given several times, one sample of each without waiting, and ends
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    procfs: Vec<PathBuf>,
}

impl Args {
    /// The directories that it writes beyond its own.
    pub(crate) fn writes(&self) -> Vec<PathBuf> {
        self.history.directory().into_iter().chain(self.log.directory()).collect()
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum FormatArg {
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
    let first = args.procfs.first().map_or(Path::new("/proc"), PathBuf::as_path);
    let metrics = match args.metrics {
        Choice::Of(metrics) => metrics,
        Choice::Help => return choice::explain(first),
    };
    let format = Format::from(args.format);
    let stop = signals::flag()?;
    signals::hear_hangups()?;
    let mut probe = Probe::new(first, metrics);
    let mut out = Output::prepare(&args.log, &args.limits, Keeping::prepare(&args.history)?, format, args.quiet)?;
    if let Some(address) = args.prometheus {
        serve::start(address, first)?;
    }
    let lines_max = args.count.unwrap_or(u64::MAX);
    if let [_] = args.procfs.as_slice() {
        let scans = metrics.has(Metric::Processes).then(|| Scans::start(first, args.process_interval, probe.scans()));
        let _scans = scans.transpose()?;
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
    let mut pulse = notify::Pulse::from_environment();
    let (mut lines, mut missed) = (0, 0_u64);
    while lines < lines_max {
        pulse.beat();
        if stop.take_hangup() {
            out.reopen();
        }
        let now = Instants::now();
        if ticker.take(now.monotonic_ns).is_none() {
            if stop.wait_or_hangup(ticker.wait(now.monotonic_ns).min(pulse.sleep_max())) {
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
                if lines == 1 {
                    notify::tell(notify::READY);
                }
                if lines == LINES_FIRST {
                    resident::give_back();
                }
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

/// How a command ends that was asked to stop: a person interrupts, the system ends a service in order.
pub(crate) fn stopped(stop: &Stop) -> Exit {
    match stop.requested() {
        Some(Signal::Interrupt) => Exit::Interrupted,
        Some(Signal::Terminate) | None => Exit::Done,
    }
}

pub(crate) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < INTERVAL_MIN {
        return Err(format!("the shortest interval is {INTERVAL_MIN:?}: the kernel counts CPU time in ticks of 10ms"));
    }
    if interval > INTERVAL_MAX {
        return Err(format!("the longest interval is {} hours", INTERVAL_MAX.as_secs() / 3600));
    }
    Ok(interval)
}

fn parse_process_interval(text: &str) -> Result<Duration, String> {
    match parse_interval(text)? {
        interval if interval < Duration::from_secs(1) => Err("a look at all processes takes too long for that".into()),
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_lies_between_10_ms_and_a_day() {
        for (text, interval) in [
            ("10ms", INTERVAL_MIN),
            ("1s", Duration::from_secs(1)),
            ("2m", Duration::from_secs(120)),
            ("24h", INTERVAL_MAX),
        ] {
            assert_eq!(parse_interval(text), Ok(interval));
        }
        for text in ["9ms", "0s", "25h", "1", "x", ""] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
        assert!(parse_process_interval("1s").is_ok() && parse_process_interval("999ms").is_err());
    }
}
