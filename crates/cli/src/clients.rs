//! `lockstep clients`: who is known to the hub, who is there, and what each holds.

mod import;

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::Value;
use wire::answer::{Answer, ClientChange, ClientRow, ClientShare, Question};
use wire::rights::RightsChange;

use crate::exit::{Exit, Failure};
use crate::reach::AskArgs;
use crate::rights::{self, RightsArgs};
use crate::table::{self, Cell, Column};
use crate::{invite, runtime};

/// Lists and shows the hub's clients, and administers them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,

    #[command(flatten)]
    reach: AskArgs,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Lists the active ones
    List {
        /// Also those that are away, provisional or revoked
        #[arg(long)]
        all: bool,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Shows one client and what it holds of each share, and of values as files
    Show {
        /// Its ID
        #[arg(id = "client", value_name = "ID")]
        id: u64,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Cuts a client off at once and never lets it in again; for the hub's own machine and admins
    Revoke {
        /// Its ID
        #[arg(id = "client", value_name = "ID")]
        id: u64,
    },
    /// Prints a one-off join line with which a known client gets a new unique ID; for the hub's own machine and admins
    Reissue {
        /// Its ID
        #[arg(id = "client", value_name = "ID")]
        id: u64,
        /// Prints one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Gives a client a name that stays, whatever its machine is called; '' ends that
    Rename {
        /// Its ID
        #[arg(id = "client", value_name = "ID")]
        id: u64,
        /// What it is to be called
        name: String,
    },
    /// Shows a client's tags, adds some (+a) and takes some away (-b)
    Tag {
        /// Its ID
        #[arg(id = "client", value_name = "ID")]
        id: u64,
        /// +TAG or -TAG
        #[arg(id = "change", value_name = "+TAG|-TAG", allow_hyphen_values = true)]
        changes: Vec<String>,
    },
    /// Shows what a client may, or changes what the flags name
    Rights {
        /// Its ID
        #[arg(id = "client", value_name = "ID")]
        id: u64,
        #[command(flatten)]
        rights: RightsArgs,
        /// Prints one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Takes over names, tags and rights from an inventory: CSV or JSON, all of it or nothing
    Import {
        /// A table with the columns id, name, tags, role, read, put, shares, clients, or one JSON object a line; - for standard input
        file: PathBuf,
        /// Only says what would be done
        #[arg(long)]
        dry_run: bool,
        /// Prints one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Writes the whole roster
    Export {
        /// As what
        #[arg(long, value_name = "FORMAT", default_value = "csv")]
        format: ExportFormat,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ExportFormat {
    /// As the hub's clients.csv
    Csv,
    /// One object a line
    Json,
}

/// Of [`vitals()`].
pub(crate) const CPU: Column = Column { title: "CPU", key: "cpu_busy_pct", right: true };
/// Of [`vitals()`].
pub(crate) const MEMORY: Column = Column { title: "MEMORY", key: "mem_used_bytes", right: true };

const COLUMNS: [Column; 14] = [
    Column { title: "ID", key: "id", right: true },
    Column { title: "NAME", key: "name", right: false },
    Column { title: "STATE", key: "state", right: false },
    Column { title: "ADDRESS", key: "address", right: false },
    Column { title: "TRANSPORT", key: "transport", right: false },
    Column { title: "SHARES", key: "shares", right: false },
    Column { title: "VALUES", key: "values", right: false },
    Column { title: "IN SYNC", key: "in_sync", right: false },
    CPU,
    MEMORY,
    Column { title: "LAST SEEN", key: "last_seen_ms", right: false },
    Column { title: "VERSION", key: "version", right: false },
    Column { title: "ROLE", key: "role", right: false },
    Column { title: "TAGS", key: "tags", right: false },
];

/// Does one of the things above; without one, lists the active clients.
///
/// # Errors
/// When the hub is not reached, or there is no such client.
pub(crate) fn run(mut args: Args) -> Result<Exit, Failure> {
    let mut what = args.what.take().unwrap_or(What::List { all: false, json: false });
    if let What::Tag { changes, .. } = &mut what {
        // What takes words with a hyphen takes flags behind them as well; no tag begins with one.
        let flags = changes.iter().position(|word| word.starts_with("--")).map(|at| changes.split_off(at));
        args.reach.update(flags.unwrap_or_default())?;
    }
    let runtime = runtime::start()?;
    let mut client = runtime.block_on(args.reach.connect())?;
    let mut ask = |question| runtime.block_on(client.ask(question));
    let rows = match what {
        What::List { all, .. } => list(&mut ask, all)?,
        What::Export { .. } => list(&mut ask, true)?,
        What::Show { id, .. } => rows(ask(Question::Client { id })?)?,
        What::Revoke { id } => {
            ask(Question::Revoke { id })?;
            return Ok(Exit::Done);
        }
        What::Reissue { id, json } => return invite::print_link(&ask(Question::Reissue { id })?, None, json),
        What::Rename { id, ref name } => {
            let change = ClientChange { name: Some(name.clone()), ..ClientChange::default() };
            rows(ask(Question::Administer { id, change })?)?;
            return Ok(Exit::Done);
        }
        What::Tag { id, ref changes } => {
            let change = tags(changes)?;
            let question =
                if changes.is_empty() { Question::Client { id } } else { Question::Administer { id, change } };
            rows(ask(question)?)?
        }
        What::Rights { id, ref rights, .. } => {
            let rights = RightsChange::from(rights.clone());
            let change = ClientChange { rights, ..ClientChange::default() };
            let question =
                if change.rights.is_empty() { Question::Client { id } } else { Question::Administer { id, change } };
            rows(ask(question)?)?
        }
        What::Import { file, dry_run, json } => return import::run(&file, dry_run, json, &mut ask),
    };
    let mut out = io::stdout().lock();
    let written = match what {
        What::List { json: true, .. } | What::Show { json: true, .. } | What::Export { format: ExportFormat::Json } => {
            rows.iter().try_for_each(|row| {
                serde_json::to_writer(&mut out, row).map_err(io::Error::from).and_then(|()| writeln!(out))
            })
        }
        What::Rights { json, .. } => rows.iter().try_for_each(|row| show_rights(&mut out, row, json)),
        What::Tag { .. } => rows.iter().flat_map(|row| &row.tags).try_for_each(|tag| writeln!(out, "{tag}")),
        What::Show { .. } => rows.iter().try_for_each(|row| show(&mut out, row)),
        What::Export { format: ExportFormat::Csv } => hub::write_clients(&mut out, rows).map_err(io::Error::from),
        _ => table::write(&mut out, &COLUMNS, &rows.iter().map(cells).collect::<Vec<_>>(), false),
    };
    written.and_then(|()| out.flush()).map_err(Failure::output)?;
    Ok(Exit::Done)
}

/// The whole list, which comes in parts.
fn list(ask: &mut impl FnMut(Question) -> Result<Answer, Failure>, all: bool) -> Result<Vec<ClientRow>, Failure> {
    let mut listed: Vec<ClientRow> = Vec::new();
    loop {
        let after = listed.last().map_or(0, |row| row.id);
        let part = rows(ask(Question::Clients { all, after })?)?;
        if part.is_empty() {
            return Ok(listed);
        }
        listed.extend(part);
    }
}

fn rows(answer: Answer) -> Result<Vec<ClientRow>, Failure> {
    match answer {
        Answer::Clients(rows) => Ok(rows),
        _ => Err(Failure::something_else()),
    }
}

fn cells(row: &ClientRow) -> Vec<Cell> {
    let [cpu, memory] = vitals(row);
    let names = |held: &[ClientShare]| held.iter().map(|h| h.name.as_str()).collect::<Vec<_>>().join(" ");
    vec![
        Cell::new(row.id),
        Cell::new(row.name.clone()),
        Cell::new(row.state.as_str()),
        Cell::new(row.address.clone()),
        Cell::new(row.transport.clone()),
        Cell::new(names(&row.shares)),
        Cell::new(names(&row.values)),
        Cell::new(if row.in_sync { "yes" } else { "no" }),
        cpu,
        memory,
        Cell::shown_as(time(row.last_seen_ms), row.last_seen_ms),
        Cell::new(row.version.clone()),
        Cell::new(row.rights.as_ref().map_or("", |rights| rights.role.as_str())),
        Cell::new(row.tags.join(" ")),
    ]
}

/// `+a` adds a tag, `-b` takes one away.
fn tags(changes: &[String]) -> Result<ClientChange, Failure> {
    let mut change = ClientChange::default();
    for text in changes {
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(tag), _) => change.tags_add.push(tag.to_owned()),
            (_, Some(tag)) => change.tags_remove.push(tag.to_owned()),
            _ => return Err(Failure::usage(format!("{text}: +{text} adds a tag, -{text} takes it away"))),
        }
    }
    Ok(change)
}

fn show_rights(out: &mut impl Write, row: &ClientRow, json: bool) -> io::Result<()> {
    let Some(rights) = &row.rights else { return Ok(()) };
    if json {
        let mut object = serde_json::to_value(rights).unwrap_or_default();
        object["id"] = row.id.into();
        return writeln!(out, "{object}");
    }
    rights::lines(rights).iter().try_for_each(|(name, text)| writeln!(out, "{name:<6} {text}"))
}

fn show(out: &mut impl Write, row: &ClientRow) -> io::Result<()> {
    table::write(out, &COLUMNS, &[cells(row)], false)?;
    if let Some(rights) = row.rights.as_ref().filter(|rights| !rights.are_plain()) {
        let lines = rights::lines(rights).map(|(name, text)| format!("{name} {text}"));
        writeln!(out, "rights: {}", lines.join("; "))?;
    }
    let shares = row.shares.iter().map(|share| ("share", share));
    for (kind, share) in shares.chain(row.values.iter().map(|values| ("values", values))) {
        writeln!(
            out,
            "{kind} {}: version {} of {} ({} on disk for good), {}, {} on their way, {}, {} content bytes received",
            tree::path::escape(share.name.as_bytes()),
            share.applied_seq,
            share.head,
            share.durable_seq,
            table::count(share.entries, "entry", "entries"),
            share.waiting,
            table::count(share.problems.into(), "problem", "problems"),
            share.content_bytes
        )?;
        for problem in &share.first_problems {
            writeln!(out, "  problem: {}", tree::path::escape(problem.as_bytes()))?;
        }
        if share.held_deletes > 0 {
            writeln!(out, "  {} deletions are held there", share.held_deletes)?;
        }
        if let Some(ran) = &share.after {
            writeln!(out, "  after: {}", crate::status::ran(ran, "paths"))?;
        }
    }
    Ok(())
}

/// A time of day as people read it; empty where there is none.
pub(crate) fn time(ms: Option<i64>) -> String {
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).map(|t| format!("{t:.3}")).unwrap_or_default()
}

/// CPU and memory; empty where they are not known.
pub(crate) fn vitals(row: &ClientRow) -> [Cell; 2] {
    let vitals = row.vitals.as_ref();
    let cpu = vitals.and_then(|v| v.cpu_busy_pct);
    let memory = vitals.and_then(|v| v.mem_used_bytes);
    [
        cpu.map_or(Cell::new(Value::Null), |pct| Cell::shown_as(format!("{pct:.1}%"), pct)),
        memory.map_or(Cell::new(Value::Null), |bytes| Cell::shown_as(format!("{} MiB", bytes >> 20), bytes)),
    ]
}
