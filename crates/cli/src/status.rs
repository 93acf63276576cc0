//! `lockstep status`: the hub at a glance, and who is in sync, who is not, and why; with `--mirror`, the mirrors that run.

mod mirrors;

use std::io::{self, Write};

use tree::path::escape;
use wire::answer::{Answer, Behind, Question, Status};
use wire::ran::Ran;

use crate::clients::time;
use crate::exit::{Exit, Failure};
use crate::reach::AskArgs;
use crate::runtime;
use crate::table::count;

/// Shows the hub, its shares, and who is in sync, who is not, and why
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Prints one JSON object; with --mirror, one for each pair
    #[arg(long)]
    json: bool,

    /// Shows the pairs of the `lockstep mirror --watch` that run on this machine as this user instead
    #[arg(long, conflicts_with_all = ["hub", "id", "token_file"])]
    mirror: bool,

    #[command(flatten)]
    reach: AskArgs,
}

/// Prints the status.
///
/// # Errors
/// When the hub is not reached, or no mirror runs.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    if args.mirror {
        return mirrors::run(args.reach.reach.data.as_deref(), args.json);
    }
    let answer = runtime::start()?.block_on(async { args.reach.connect().await?.ask(Question::Status).await })?;
    let Answer::Status(status) = answer else {
        return Err(Failure::something_else());
    };
    let mut out = io::stdout().lock();
    let written = if args.json {
        serde_json::to_writer(&mut out, &status).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        print(&mut out, &status)
    };
    written.map_err(Failure::output)?;
    Ok(Exit::Done)
}

fn print(out: &mut impl Write, status: &Status) -> io::Result<()> {
    writeln!(out, "hub      {} (lockstep {})", escape(status.hub.as_bytes()), status.version)?;
    writeln!(out, "address  {}", status.addresses.join(" "))?;
    writeln!(out, "clients  {} active", status.clients_active)?;
    let kept = match (status.values_in_sync, status.values_not_in_sync) {
        (0, 0) => String::new(),
        (in_sync, not_in_sync) => format!("; as files: {in_sync} in sync, {not_in_sync} not"),
    };
    writeln!(out, "values   {}{kept}", status.values)?;
    tell_behind(out, &status.values_behind)?;
    for share in &status.shares {
        let (state, with) = match (share.is_held_whole(), share.info.complete) {
            (true, _) => (", held", " with what last went out"),
            (false, true) => ("", ""),
            (false, false) => (", scanning", ""),
        };
        writeln!(
            out,
            "share    {}: {}, {} bytes, version {}{state}; {} in sync{with}, {} not",
            escape(share.info.name.as_bytes()),
            count(share.info.entries, "entry", "entries"),
            share.info.bytes,
            share.head,
            share.in_sync,
            share.not_in_sync
        )?;
        tell_behind(out, &share.behind)?;
        for problem in &share.problems {
            writeln!(out, "         problem: {}", escape(problem.as_bytes()))?;
        }
        if share.held_deletes > 0 {
            writeln!(out, "         {} held", count(share.held_deletes, "deletion is", "deletions are"))?;
        }
    }
    for after in &status.after {
        let (name, what) = (escape(after.name.as_bytes()), escape(after.what.as_bytes()));
        writeln!(out, "after    client {} ({name}), {what}: {}", after.id, ran(&after.ran, "paths"))?;
    }
    for on in &status.on {
        let now = if on.running { ", runs now" } else { "" };
        let waiting = if on.waiting > 0 { format!(", {} events wait for it", on.waiting) } else { String::new() };
        writeln!(out, "on       {}: {}: {} runs, {} failed{now}{waiting}", on.event, on.program, on.runs, on.failed)?;
        if let Some(last) = &on.last {
            writeln!(out, "         {}", ran(last, "events"))?;
        }
    }
    Ok(())
}

/// The last run of a command, for a person.
pub(crate) fn ran(ran: &Ran, told: &str) -> String {
    let code = ran.code.map(|code| format!(" with {code}")).unwrap_or_default();
    let said = ran.said.as_deref().map(|said| format!(": {}", escape(said.as_bytes()))).unwrap_or_default();
    let (end, at) = (escape(ran.end.as_bytes()), time(Some(ran.at_ms)));
    format!("last {end}{code} at {at} after {} ms, {} {told}{said}", ran.ms, ran.told)
}

fn tell_behind(out: &mut impl Write, behind: &[Behind]) -> io::Result<()> {
    behind.iter().try_for_each(|behind| {
        let (name, why) = (escape(behind.name.as_bytes()), escape(behind.why.as_bytes()));
        writeln!(out, "         client {} ({name}): {why}", behind.id)
    })
}
