//! `lockstep follow`: the newest values of a pattern, then each change as it comes.

use std::io::Write;

use agent::client::{Follow, Update};
use wire::codec::decode_stored;

use crate::exit::{Exit, Failure};
use crate::logging::say;
use crate::reach::{Patience, ReachArgs};
use crate::signals::{self, Signal};
use crate::{answered, get, runtime};

/// A pattern to be followed, as a person types it.
///
/// # Errors
/// Where a `*` is that would stand for itself.
pub(crate) fn pattern(text: &str) -> Result<String, String> {
    if wire::rights::stars_at_the_end_alone(text) {
        Ok(text.to_owned())
    } else {
        Err("a pattern is a name, or the beginning of names with one * behind it, as price/*".into())
    }
}

/// Prints the newest values, then every change as it comes, until interrupted
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A name, or the beginning of names with * behind it
    #[arg(default_value = "*", value_parser = pattern)]
    pattern: String,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: ReachArgs,
}

/// Follows until a signal. A hub that goes away is waited for.
///
/// # Errors
/// When the hub is not reached at first, or refuses.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let stop = signals::flag()?;
    let stopped = signals::asked(stop);
    let follow = async {
        let client = args.reach.connect().await?;
        let pattern = args.pattern.clone().into_bytes();
        let mut follow = client.follow("data", pattern).await.map_err(answered)?;
        let mut patience = Patience::new();
        loop {
            let (name, version, value) = match follow.next().await {
                Ok(Update::Changed { name, version, value }) => (name, version, value),
                Ok(Update::Current { .. }) => continue,
                Err(error) if error.is_passing() => {
                    say(format_args!("lockstep: {error}; connecting again, to go on with what is newest then"));
                    go_on(&mut follow, &args.reach, &mut patience).await?;
                    continue;
                }
                Err(error) => return Err(answered(error)),
            };
            let stored = value.as_deref().map(decode_stored).transpose().map_err(Failure::could_not_run)?;
            let mut out = std::io::stdout().lock();
            let written = if args.json {
                writeln!(out, "{}", get::object(&name, version, stored.as_ref()))
            } else {
                let name = tree::path::escape(&name);
                match &stored {
                    Some(stored) => writeln!(out, "{name} {}", tree::path::escape(&stored.content.bytes)),
                    None => writeln!(out, "{name} (removed)"),
                }
            };
            written.and_then(|()| out.flush()).map_err(Failure::output)?;
        }
    };
    let runtime = runtime::start()?;
    runtime.block_on(async {
        tokio::select! {
            result = follow => result,
            () = stopped => Ok(match stop.requested() {
                Some(Signal::Terminate) => Exit::Done,
                _ => Exit::Interrupted,
            }),
        }
    })
}

/// Connects until the follow goes on, or is refused.
async fn go_on(follow: &mut Follow, reach: &ReachArgs, patience: &mut Patience) -> Result<(), Failure> {
    loop {
        let client = reach.connect_again(patience).await?;
        match follow.resume(client).await {
            Err(error) if error.is_passing() => {}
            done => return done.map_err(answered),
        }
    }
}
