//! `lockstep top`: this machine on a screen, live, and wound back as far as samples were kept.
//!
//! What is shown of a fleet, with a hub, will be a view of its own beside [`screen`]; the terminal and the keys are here.

mod keys;
mod screen;
mod state;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use vitals::history::History;
use vitals::{Instants, Metric, Probe, Ticker};

use self::keys::Wish;
use self::screen::Paint;
use self::state::State;
use crate::exit::{Exit, Failure};
use crate::monitor::scans::Scans;
use crate::monitor::{parse_interval, stopped};
use crate::signals::{self, Stop};

/// Shows this machine live: CPU and memory over time, cores, processes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Time from one sample to the next, at least 10ms: 500ms, 1s, 2m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Winds back into what `lockstep monitor --history DIR` kept there, with the arrow keys
    #[arg(long, value_name = "DIR")]
    history: Option<PathBuf>,

    /// Reads another procfs
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    procfs: PathBuf,
}

/// How soon a signal is seen.
const LOOK: Duration = Duration::from_millis(100);
/// How often all processes are looked at.
const SCAN: Duration = Duration::from_secs(2);

/// Shows until `q`, Ctrl-C or a signal. The terminal is as before when this returns, or panics.
///
/// # Errors
/// When this is no terminal, procfs cannot be read at the start, or there is no such history.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::usage("`lockstep top` needs a terminal; `lockstep monitor` prints the same as lines"));
    }
    if let Some(dir) = &args.history {
        History::open(dir).map_err(Failure::could_not_run)?;
    }
    let chosen = [Metric::Cpu, Metric::Cores, Metric::Memory, Metric::Load, Metric::Processes, Metric::Uptime];
    let mut probe = Probe::new(&args.procfs, chosen.into_iter().collect());
    // Before the screen is taken, so that an error is read on the usual one.
    probe.take(Instants::now()).map_err(Failure::could_not_run)?;
    let stop = signals::flag()?;
    signals::hear_hangups()?;
    let _scans = Scans::start(&args.procfs, SCAN, probe.scans())?;
    let colorless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let state = State::new(args.history);
    let mut terminal = ratatui::try_init().context("cannot take over the terminal")?;
    let shown = show(&mut terminal, state, &mut probe, (args.interval, &args.procfs), Paint::new(colorless), stop);
    // A terminal that went away cannot be restored, and nobody would see that.
    ratatui::try_restore().ok();
    shown
}

fn show(
    terminal: &mut DefaultTerminal,
    mut state: State,
    probe: &mut Probe,
    (interval, procfs): (Duration, &Path),
    paint: Paint,
    stop: &Stop,
) -> Result<Exit, Failure> {
    let mut ticker = Ticker::new(Instants::now().monotonic_ns, interval);
    let mut changed = true;
    loop {
        if stop.requested().is_some() {
            return Ok(stopped(stop));
        }
        if stop.take_hangup() {
            return Ok(Exit::Done);
        }
        if ticker.take(Instants::now().monotonic_ns).is_some() {
            match probe.take(Instants::now()) {
                Ok(frame) => state.take(frame),
                Err(error) => state.complain(format!("no sample of {}: {error}", procfs.display())),
            }
            changed = true;
        }
        if changed {
            terminal.draw(|frame| screen::draw(frame, &state, paint)).map_err(Failure::output)?;
            changed = false;
        }
        let wait = ticker.wait(Instants::now().monotonic_ns).min(LOOK);
        if event::poll(wait).map_err(Failure::output)? {
            match event::read().map_err(Failure::output)? {
                Event::Key(key) => match keys::wish(key) {
                    Some(Wish::Quit) => return Ok(Exit::Done),
                    Some(Wish::Interrupt) => return Ok(Exit::Interrupted),
                    Some(Wish::Go(go)) => state.go(go),
                    None => {}
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            changed = true;
        }
    }
}
