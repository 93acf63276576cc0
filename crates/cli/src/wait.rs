//! `lockstep wait`: returns when every machine has everything, or says who has not and why.

use std::io::Write;
use std::time::Duration;

use wire::answer::{Answer, Question, WaitAnswer};

use crate::args::parse_duration;
use crate::exit::{Exit, Failure};
use crate::logging::say;
use crate::reach::AskArgs;
use crate::runtime;

/// Waits until every machine that follows has everything that changed up to now
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A share or a value; by default every share
    #[arg(value_name = "SHARE|NAME")]
    target: Option<String>,

    /// Only this client; may be given several times
    #[arg(long, value_name = "ID")]
    client: Vec<u64>,

    /// How long at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,

    /// Prints one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: AskArgs,
}

/// Waits. Exit code 0 when all are there; 1 when some are not, or a share itself is not what its directory holds, each named
/// with the reason; 4 when all that is missing are deletions that a guard holds.
///
/// # Errors
/// When the hub is not reached, or there is no such share, value or client.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let timeout_ms = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    let question = Question::Wait { target: args.target, clients: args.client, timeout_ms };
    let answer = runtime::start()?.block_on(async { args.reach.connect().await?.ask(question).await })?;
    let Answer::Wait(wait) = answer else {
        return Err(Failure::something_else());
    };
    let mut out = std::io::stdout().lock();
    let written = if args.json {
        serde_json::to_writer(&mut out, &wait).map_err(std::io::Error::from).and_then(|()| writeln!(out))
    } else if wait.done {
        writeln!(out, "in sync: {}", wait.in_sync)
    } else {
        writeln!(out, "in sync: {}, not in sync: {}", wait.in_sync, wait.not_in_sync)
    };
    written.map_err(Failure::output)?;
    for behind in &wait.behind {
        let (what, why) = (tree::path::escape(behind.what.as_bytes()), tree::path::escape(behind.why.as_bytes()));
        say(format_args!("client {} ({}), {what}: {why}", behind.id, tree::path::escape(behind.name.as_bytes())));
    }
    for share in &wait.shares {
        say(format_args!(
            "share {}: {}",
            tree::path::escape(share.name.as_bytes()),
            tree::path::escape(share.why.as_bytes())
        ));
    }
    Ok(match wait {
        WaitAnswer { done: true, .. } => Exit::Done,
        WaitAnswer { behind, shares, .. } if behind.is_empty() && shares.iter().all(|share| share.held) => Exit::Guard,
        _ => Exit::SomeFailed,
    })
}
