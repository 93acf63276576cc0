//! `lockstep demo`: a real hub and three real agents on this machine, as processes of their own, in a scratch directory.
//!
//! Nothing here is special to the demo: the processes are this program with the flags that a person would give, and the
//! copies are compared by plain file calls.

mod cast;
mod compare;
mod sample;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use wire::answer::{Answer, ClientRow, Question};

use crate::clients;
use crate::exit::{Exit, Failure};
use crate::logging::say;
use crate::signals::{self, Signal, Stop};
use crate::table::{self, Cell, Column};
use crate::{answered, join, runtime};
use cast::Cast;

/// How many agents take part.
const AGENTS: u64 = 3;
/// Between two changes of the live demo.
const BEAT: Duration = Duration::from_secs(1);
/// Nothing in the demo takes this long, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks at the copies; the figures are no finer.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// The file that the live demo changes.
const BEAT_FILE: &str = "heartbeat.txt";

/// Runs a hub and three agents on this machine, live
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs a script (share, edit, kill an agent, edit, start it again) and ends with 0 if all copies are identical
    #[arg(long)]
    once: bool,
}

const COLUMNS: [Column; 7] = [
    Column { title: "CLIENT", key: "client", right: true },
    Column { title: "STATE", key: "state", right: false },
    Column { title: "VERSION", key: "cursor", right: true },
    Column { title: "FILES", key: "entries", right: true },
    clients::CPU,
    clients::MEMORY,
    Column { title: "LAST CHANGE ARRIVED IN", key: "arrived_ms", right: true },
];

/// Plays the script, or goes on until interrupted.
///
/// # Errors
/// When a part cannot be started, or a step does not come true.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let stop = signals::flag()?;
    let scratch = tempfile::Builder::new().prefix("lockstep-demo-").tempdir().context("no scratch directory")?;
    let files = sample::fill(&scratch.path().join("share")).context("cannot make the demo's files")?;
    let mut cast = Cast::start(scratch.path(), AGENTS)?;
    let ended = if args.once { script(&mut cast, stop, files) } else { live(&mut cast, stop) };
    cast.end();
    if ended.is_err() {
        let kept = scratch.keep();
        say(format_args!("the demo's files and logs are kept in {}", kept.display()));
    }
    ended
}

/// Share, edit, kill an agent, edit, start it again; the copies must be identical after each.
fn script(cast: &mut Cast, stop: &'static Stop, files: usize) -> Result<Exit, Failure> {
    let begun = Instant::now();
    cast.in_sync(stop)?;
    tell(format_args!(
        "shared      {files} files with {AGENTS} agents: in sync after {} ms",
        begun.elapsed().as_millis()
    ))?;
    identical(cast)?;

    let arrived = beat(cast, stop, "first")?;
    tell(format_args!("edited      one file: arrived in {} ms", list(&arrived)))?;
    sample::edit(&cast.share(), 1).context("cannot edit the demo's files")?;
    cast.in_sync(stop)?;
    identical(cast)?;
    tell(format_args!("edited      files added, changed, renamed, removed: all copies identical"))?;

    cast.kill_agent(2)?;
    tell(format_args!("killed      agent 2 (SIGKILL)"))?;
    sample::edit(&cast.share(), 2).context("cannot edit the demo's files")?;
    tell(format_args!("edited      again, without it"))?;
    cast.start_agent(2)?;
    cast.in_sync(stop)?;
    tell(format_args!("started     agent 2 again: in sync"))?;
    identical(cast)?;
    show(&mut io::stdout().lock(), &rows(cast)?, &arrived).map_err(Failure::output)?;
    tell(format_args!("identical   the share and all {AGENTS} copies: content, modes, times, links"))?;
    Ok(Exit::Done)
}

/// A change every second, and a table of how it arrives, until somebody interrupts.
fn live(cast: &mut Cast, stop: &'static Stop) -> Result<Exit, Failure> {
    cast.in_sync(stop)?;
    tell(format_args!("share   {}", cast.share().display()))?;
    for id in 1..=AGENTS {
        tell(format_args!("copy {id}  {}", cast.copy(id).display()))?;
    }
    tell(format_args!(
        "ask     lockstep clients --data {0}; lockstep why share --data {0}",
        cast.hub_data().display()
    ))?;
    tell(format_args!("Change anything in the share, or in a copy, and look at the others. Ctrl-C ends the demo.\n"))?;
    let redraw = io::stdout().is_terminal();
    let mut lines = 0;
    let mut beats = 0_u64;
    loop {
        beats += 1;
        let arrived = beat(cast, stop, &format!("beat {beats}"))?;
        let mut screen = Vec::new();
        show(&mut screen, &rows(cast)?, &arrived).map_err(Failure::output)?;
        let mut out = io::stdout().lock();
        if redraw && lines > 0 {
            write!(out, "\x1b[{lines}A\x1b[J").map_err(Failure::output)?;
        }
        lines = screen.iter().filter(|b| **b == b'\n').count();
        out.write_all(&screen).and_then(|()| out.flush()).map_err(Failure::output)?;
        drop(out);
        if stop.wait(BEAT) {
            return Ok(interrupted(stop));
        }
    }
}

/// Changes one file and waits until every copy has it; in milliseconds for each, by reading the copies.
fn beat(cast: &mut Cast, stop: &Stop, text: &str) -> Result<Vec<f64>, Failure> {
    let text = format!("{text} at {}\n", jiff::Timestamp::now());
    // As a person's editor saves: written and closed.
    fs::write(cast.share().join(BEAT_FILE), &text).context("cannot edit the demo's files")?;
    let closed = Instant::now();
    let mut arrived = vec![None; usize::try_from(AGENTS).unwrap_or_default()];
    while arrived.contains(&None) {
        for (id, arrived) in (1..=AGENTS).zip(&mut arrived) {
            let there =
                arrived.is_none() && fs::read(cast.copy(id).join(BEAT_FILE)).is_ok_and(|got| got == text.as_bytes());
            if there {
                *arrived = Some(closed.elapsed().as_secs_f64() * 1000.0);
            }
        }
        patience(cast, stop, closed, "a change to arrive")?;
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(arrived.into_iter().flatten().collect())
}

fn identical(cast: &Cast) -> Result<(), Failure> {
    for id in 1..=AGENTS {
        let differences = compare::differences(&cast.share(), &cast.copy(id)).context("cannot compare the copies")?;
        if !differences.is_empty() {
            for difference in differences.iter().take(10) {
                say(format_args!("copy {id}: {difference}"));
            }
            let error = anyhow::anyhow!("copy {id} differs from the share in {} places", differences.len());
            return Err(Failure::new(Exit::SomeFailed, error));
        }
    }
    Ok(())
}

fn rows(cast: &Cast) -> Result<Vec<ClientRow>, Failure> {
    runtime::start()?.block_on(async {
        let target = agent::client::Target::Socket(agent::state::socket_path(&cast.hub_data()));
        let mut client = agent::client::Client::connect(target, &join::software()).await.map_err(answered)?;
        match client.ask(Question::Clients { all: true, after: 0 }).await.map_err(answered)? {
            Answer::Clients(rows) => Ok(rows),
            _ => Err(Failure::something_else()),
        }
    })
}

fn show(out: &mut impl Write, rows: &[ClientRow], arrived: &[f64]) -> io::Result<()> {
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .zip(arrived)
        .map(|(row, ms)| {
            let share = row.shares.first();
            let [cpu, memory] = clients::vitals(row);
            vec![
                Cell::new(row.id),
                Cell::new(row.state.as_str()),
                Cell::new(share.map(|s| s.applied_seq)),
                Cell::new(share.map(|s| s.entries)),
                cpu,
                memory,
                Cell::shown_as(format!("{ms:.1} ms"), *ms),
            ]
        })
        .collect();
    table::write(out, &COLUMNS, &cells, false)
}

fn list(arrived: &[f64]) -> String {
    let each: Vec<String> = arrived.iter().map(|ms| format!("{ms:.1}")).collect();
    each.join(", ")
}

fn tell(words: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    writeln!(io::stdout(), "{words}").map_err(Failure::output)
}

fn interrupted(stop: &Stop) -> Exit {
    match stop.requested() {
        Some(Signal::Terminate) => Exit::Done,
        _ => Exit::Interrupted,
    }
}

/// Ends a step that takes too long, that somebody interrupted, or whose processes have gone.
fn patience(cast: &mut Cast, stop: &Stop, since: Instant, what: &str) -> Result<(), Failure> {
    if stop.requested().is_some() {
        return Err(Failure::new(interrupted(stop), anyhow::anyhow!("interrupted while waiting for {what}")));
    }
    cast.all_run()?;
    if since.elapsed() > PATIENCE {
        return Err(Failure::new(Exit::SomeFailed, anyhow::anyhow!("waited in vain for {what}")));
    }
    Ok(())
}

/// A path as the demo's processes are given it.
fn text(path: &Path) -> &std::ffi::OsStr {
    path.as_os_str()
}
