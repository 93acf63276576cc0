//! `lockstep audit`: the hub's audit log, for people.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use hub::AuditLine;
use jiff::Timestamp;

use crate::exit::{Exit, Failure};
use crate::history::moment::{self, Moment};
use crate::paths;
use crate::table::{self, Cell, Column};

/// Shows who came in to the hub, who was turned away, and who changed what anybody may
///
/// Reads the hub's data directory, with the older parts of the log, whether the hub runs or not; only the hub's user and root
/// can. What repeated itself within a minute is one line with how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The hub's data directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Only from then on: 2026-01-31T12:00:00Z, 2026-01-31, or so long ago, -2h
    #[arg(long, value_name = "TIME", value_parser = moment::parse, allow_hyphen_values = true)]
    since: Option<Moment>,

    /// Only what this client did, or what was done to it; 0 for the hub's own machine
    #[arg(long, value_name = "ID")]
    client: Option<u64>,

    /// Only this; may be given several times
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(hub::AUDIT_EVENTS))]
    event: Vec<String>,

    /// One JSON object a line, as they stand in the log
    #[arg(long)]
    json: bool,
}

const COLUMNS: [Column; 9] = [
    Column { title: "AT", key: "at", right: false },
    Column { title: "EVENT", key: "event", right: false },
    Column { title: "ID", key: "id", right: true },
    Column { title: "BY", key: "by", right: true },
    Column { title: "ADDRESS", key: "address", right: false },
    Column { title: "TRANSPORT", key: "transport", right: false },
    Column { title: "OUTCOME", key: "outcome", right: false },
    Column { title: "TIMES", key: "repeated", right: true },
    Column { title: "DETAIL", key: "detail", right: false },
];

/// Prints the log.
///
/// # Errors
/// When there is none in the data directory, or it cannot be read.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let data = args.data.clone().map_or_else(|| paths::default_data("hub"), Ok)?;
    let since = args.since.map(|since| since.at(Timestamp::now()));
    let read = hub::read_audit(&data, |line| args.wants(line, since)).map_err(Failure::could_not_run)?;
    if read.files == 0 {
        let none =
            anyhow::anyhow!("no hub has an audit log in {}; name its data directory: --data DIR", data.display());
        return Err(Failure::could_not_run(none));
    }
    let mut out = io::stdout().lock();
    let written = match args.json {
        true => read.lines.iter().try_for_each(|line| writeln!(out, "{}", line.json)),
        false => table::write(&mut out, &COLUMNS, &read.lines.iter().map(cells).collect::<Vec<_>>(), false),
    };
    written.and_then(|()| out.flush()).map_err(Failure::output)?;
    if read.unread > 0 {
        let mut stderr = io::stderr().lock();
        let told = writeln!(
            stderr,
            "{} lines of the log could not be read: torn by a crash, or none of the hub's",
            read.unread
        );
        told.map_err(Failure::output)?;
    }
    Ok(Exit::Done)
}

impl Args {
    fn wants(&self, line: &AuditLine, since: Option<Timestamp>) -> bool {
        let of = |id: Option<u64>| self.client.is_some() && id == self.client;
        let late = |since: Timestamp| line.at.parse::<Timestamp>().is_ok_and(|at| at >= since);
        (self.client.is_none() || of(line.id) || of(line.by))
            && (self.event.is_empty() || self.event.contains(&line.event))
            && since.is_none_or(late)
    }
}

fn cells(line: &AuditLine) -> Vec<Cell> {
    let by = match line.by {
        Some(0) => Cell::shown_as("hub", 0),
        by => Cell::new(by),
    };
    // What was counted came as often as the line before it says, and so many times more.
    let times = line.repeated.map_or_else(|| Cell::shown_as("", 0), Cell::new);
    let from = line.addresses.map(|addresses| format!("from {addresses} addresses")).unwrap_or_default();
    let since = line.since.as_deref().map(|since| format!("since {since}")).unwrap_or_default();
    let token = line.token.as_ref().map(|token| format!("with the token {token}")).unwrap_or_default();
    let detail: Vec<&str> =
        [&line.detail, &token, &from, &since].into_iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    vec![
        Cell::new(line.at.as_str()),
        Cell::new(line.event.as_str()),
        Cell::new(line.id),
        by,
        Cell::new(line.address.as_str()),
        Cell::new(line.transport.as_str()),
        Cell::new(line.outcome.as_str()),
        times,
        Cell::new(detail.join(", ")),
    ]
}
