//! `lockstep why`: one sentence of truth about a path, a value or a client, and what to do.

use std::io::Write;
use std::path::Path;

use wire::answer::{Answer, Question};

use crate::exit::{Exit, Failure};
use crate::reach::AskArgs;
use crate::runtime;
use crate::table::escaped;

/// Says why a path or a value is not where it should be, or what a client lacks, and what to do about it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A share, SHARE/PATH, a path on the hub's machine (/srv/site/a, ./a), or a value
    #[arg(value_name = "PATH|NAME", required_unless_present = "client")]
    target: Option<String>,

    /// Only at this client; without PATH, all that it follows
    #[arg(long, value_name = "ID")]
    client: Option<u64>,

    /// One JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: AskArgs,
}

/// Prints a line for each that lacks something, or for what was asked about. Exit code 0 when all is where it should be, else 1.
///
/// # Errors
/// When the hub is not reached, or there is no such path, value or client.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let question = Question::Why { target: args.target.map(absolute), client: args.client };
    let answer = runtime::start()?.block_on(async { args.reach.connect().await?.ask(question).await })?;
    let Answer::Why(rows) = answer else {
        return Err(Failure::something_else());
    };
    let mut out = std::io::stdout().lock();
    let written = rows.iter().try_for_each(|row| match args.json {
        true => serde_json::to_writer(&mut out, row).map_err(std::io::Error::from).and_then(|()| writeln!(out)),
        false => writeln!(out, "{}", escaped(&row.text)),
    });
    written.and_then(|()| out.flush()).map_err(Failure::output)?;
    Ok(if rows.iter().all(|row| row.has) { Exit::Done } else { Exit::SomeFailed })
}

/// A path that is seen to be one, `./a` or `../a`, as the hub knows it: from the root on, and without `..` on the way.
fn absolute(target: String) -> String {
    if !target.starts_with("./") && !target.starts_with("../") {
        return target;
    }
    let path = Path::new(&target);
    let full = match (path.parent().map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => Ok(parent.join(name)),
        _ => std::path::absolute(path),
    };
    full.ok().and_then(|full| full.into_os_string().into_string().ok()).unwrap_or(target)
}
