//! `lockstep allow-deletes`: what the guard holds back was meant; let it go, once.

use wire::answer::Question;

use crate::exit::{Exit, Failure};
use crate::reach::AskArgs;
use crate::runtime;

/// Lets the deletions go on that the guard holds back for a share, once; on the hub's own machine
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The share
    name: String,

    #[command(flatten)]
    reach: AskArgs,
}

/// Lets them go and returns when they are on the board.
///
/// # Errors
/// When the hub of this machine does not run or has no such share.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let question = Question::AllowDeletes { share: args.name };
    runtime::start()?.block_on(async { args.reach.connect().await?.ask(question).await })?;
    Ok(Exit::Done)
}
