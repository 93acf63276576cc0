//! `lockstep token`: what a program signs its requests over HTTP with.

use std::io::{self, Write};
use std::time::Duration;

use wire::answer::{Answer, Question, TokenRow};

use crate::args::parse_validity;
use crate::exit::{Exit, Failure};
use crate::reach::ReachArgs;
use crate::table::{self, Cell, Column};
use crate::{answered, clients, runtime};

/// Makes, lists and revokes tokens with which programs read from the hub over HTTP
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,

    #[command(flatten)]
    new: New,

    #[command(flatten)]
    reach: ReachArgs,
}

/// Makes one, and prints it this once
#[derive(Debug, clap::Args)]
struct New {
    /// What it is for; by default token-1 and so on
    #[arg(long)]
    name: Option<String>,

    /// Signs in as this client; by default as the hub's own machine, on a client's machine as that client
    #[arg(long = "as", value_name = "ID")]
    client: Option<u64>,

    /// It may also put and remove values
    #[arg(long)]
    put: bool,

    /// It may also administer: list, revoke, invite and the like, from anywhere, with --token-file
    #[arg(long)]
    admin: bool,

    /// For how long: 12h, 90d; at most 3653d
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = parse_validity)]
    expires: Duration,

    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Lists them, without their secrets
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Ends one at once; what it has open is cut
    Revoke {
        /// Its name; on the hub's machine ID/NAME for that of a client, where others have one of the same name
        name: String,
    },
}

const COLUMNS: [Column; 7] = [
    Column { title: "NAME", key: "name", right: false },
    Column { title: "AS", key: "id", right: true },
    Column { title: "MAY", key: "may_put", right: false },
    Column { title: "", key: "administers", right: false },
    Column { title: "CREATED", key: "created_at_ms", right: false },
    Column { title: "EXPIRES", key: "expires_at_ms", right: false },
    Column { title: "GOOD", key: "good", right: false },
];

/// Does one of the things above; without one, makes a token.
///
/// # Errors
/// When the hub is not reached, or does not allow it.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let New { name, client, put, admin, expires, json } = args.new;
    let question = match &args.what {
        None => Question::Token { name, id: client, may_put: put, expires_s: expires.as_secs(), administers: admin },
        Some(What::List { .. }) => Question::Tokens,
        Some(What::Revoke { name }) => Question::RevokeToken { name: name.clone() },
    };
    let answer =
        runtime::start()?.block_on(async { args.reach.connect().await?.ask(question).await.map_err(answered) })?;
    let mut out = io::stdout().lock();
    let written = match (args.what, answer) {
        (None, Answer::Token { token, row }) if json => {
            let mut line = serde_json::to_value(&row).unwrap_or_default();
            line["token"] = token.reveal().into();
            writeln!(out, "{line}")
        }
        (None, Answer::Token { token, .. }) => writeln!(out, "{}", token.reveal()),
        (Some(What::List { json }), Answer::Tokens(rows)) => {
            table::write(&mut out, &COLUMNS, &rows.iter().map(cells).collect::<Vec<_>>(), json)
        }
        (Some(What::Revoke { .. }), Answer::Done) => Ok(()),
        _ => {
            return Err(Failure::something_else());
        }
    };
    written.and_then(|()| out.flush()).map_err(Failure::output)?;
    Ok(Exit::Done)
}

fn powers(row: &TokenRow) -> &'static str {
    match (row.may_put, row.administers) {
        (false, false) => "read",
        (true, false) => "read, put",
        (false, true) => "read, administer",
        (true, true) => "read, put, administer",
    }
}

fn cells(row: &TokenRow) -> Vec<Cell> {
    let time = |ms| Cell::shown_as(clients::time(Some(ms)), ms);
    vec![
        Cell::new(row.name.clone()),
        Cell::shown_as(if row.id == 0 { "the hub".to_owned() } else { row.id.to_string() }, row.id),
        Cell::shown_as(powers(row).to_owned(), row.may_put),
        // People read it in the column before.
        Cell::shown_as("", row.administers),
        time(row.created_at_ms),
        time(row.expires_at_ms),
        Cell::shown_as(if row.good { "yes" } else { "no" }.to_owned(), row.good),
    ]
}
