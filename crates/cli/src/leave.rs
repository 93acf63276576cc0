//! `lockstep leave`: this machine leaves its hub for good, and keeps its files.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::logging::{self, LogArgs, say};
use crate::{join, paths, runtime};

/// Leaves the hub for good: stops the agent, has the hub forget this machine, forgets the key; the files stay
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the agent keeps its key and state
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Prints one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    log: LogArgs,
}

/// Leaves. What was not done, such as telling a hub that is not there, is said, and the exit code is 1 then.
///
/// # Errors
/// When there is nothing to leave, or the agent does not end.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let data = args.data.map_or_else(|| paths::default_data("agent"), Ok)?;
    logging::start("leave", &args.log)?;
    let left = runtime::start()?.block_on(agent::leave(&data, &join::machine_name(), &join::software()));
    let left = left.map_err(Failure::could_not_run)?;
    let kept: Vec<String> = left.kept.iter().map(|kept| kept.display().to_string()).collect();
    tracing::info!(id = left.id, hub_told = left.hub_told, kept = kept.join(" "), swept = left.swept, "left for good");
    for not_done in &left.not_done {
        tracing::warn!("not done: {not_done}");
    }
    let mut out = io::stdout().lock();
    let written = if args.json {
        let told = json!({
            "id": left.id,
            "stopped": left.stopped,
            "hub_told": left.hub_told,
            "kept": kept,
            "swept": left.swept,
            "not_done": left.not_done,
        });
        writeln!(out, "{told}")
    } else {
        let who = left.id.map_or_else(|| "nobody".to_owned(), |id| format!("client {id}"));
        let lines = kept.iter().try_for_each(|kept| writeln!(out, "kept     {kept}"));
        writeln!(out, "left     as {who}; the key is forgotten").and(lines)
    };
    written.and_then(|()| out.flush()).map_err(Failure::output)?;
    if left.not_done.is_empty() {
        return Ok(Exit::Done);
    }
    say(format_args!("lockstep: left, but {} of it was not done; see above", left.not_done.len()));
    Ok(Exit::SomeFailed)
}
