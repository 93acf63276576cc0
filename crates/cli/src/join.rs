//! `lockstep join`: keeps directories of this machine identical to a hub's shares, and its values as files, live.

mod after;
mod undone;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::key::{Found, KeyFile, Machine};
use agent::{Event, KeeperError, Kept, Trust};
use anyhow::Context as _;
use wire::id::ClientId;
use wire::link::JoinLink;
use wire::message::{Code, Refusal};

use self::after::Hands;
use self::undone::Undone;
use crate::after::AfterArgs;
use crate::exit::{Exit, Failure};
use crate::logging::{self, LogArgs, say};
use crate::signals::{self, Signal};
use crate::table::count;
use crate::{notify, paths, reach, runtime};

/// What `--id` says to get the next free ID.
const AUTO: &str = "auto";

/// A service that is not let in asks again after this, and after what systemd waits. Less than the time after which systemd takes it for dead.
const ASK_AGAIN: Duration = Duration::from_secs(45);

/// Joins a hub and keeps a directory identical to its share, or the newest values as files, live
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The hub's join link or address; - reads it from standard input; not needed where this machine has joined before
    #[arg(value_name = "LINK|ADDR|-")]
    hub: Option<String>,

    /// Where the share is kept; by default ./SHARE
    #[arg(value_name = "DIR", conflicts_with = "share")]
    directory: Option<PathBuf>,

    /// The ID of this machine, an integer, or auto for the next free one; asked for on a terminal
    #[arg(long, value_name = "N|auto", allow_negative_numbers = true)]
    id: Option<String>,

    /// Keeps this share, in ./NAME or in DIR; may be given several times
    #[arg(long, value_name = "NAME[=DIR]")]
    share: Vec<PathBuf>,

    /// Keeps each value as a file in DIR, or those that PATTERN names (a name, or its beginning and *); may be given several
    /// times
    #[arg(long, value_name = "[PATTERN=]DIR")]
    values: Vec<PathBuf>,

    /// Where this machine keeps its key and what it holds
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Makes a directory that holds something else into the share, or that of the values: what differs is changed, what is
    /// extra is deleted
    #[arg(long)]
    adopt: bool,

    /// Deletes however much has to go, also when most of what is kept here is not in the share any more
    #[arg(long)]
    allow_mass_delete: bool,

    #[command(flatten)]
    after: AfterArgs,

    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    /// The directories that it writes beyond its own: those named here, else those it remembers.
    pub(crate) fn writes(&self) -> Vec<PathBuf> {
        let data = self.data.clone().or_else(|| paths::default_data("agent").ok());
        let remembered = data.and_then(|data| agent::state::recall(&data).ok()).unwrap_or_default();
        let named = self.share.iter().chain(&self.values).map(|kept| cut(kept));
        let named: Vec<PathBuf> = named.map(|(one, other)| other.unwrap_or(one).to_owned()).collect();
        let named = named.into_iter().chain(self.directory.clone());
        let remembered = remembered.shares.into_iter().chain(remembered.values).map(|(_, directory)| directory);
        named.chain(remembered).chain(self.data.clone()).chain(self.log.directory()).collect()
    }
}

/// Runs the agent until a signal ends it.
///
/// # Errors
/// When it cannot start (3), a directory holds something else (4), or it may not go on: refused, taken over, revoked (5).
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let stop = signals::flag()?;
    let data = args.data.clone().map_or_else(|| paths::default_data("agent"), Ok)?;
    let hands = Arc::new(Hands::new(&args.after)?);
    let (addresses, trust, invite) = hub(args.hub.as_deref())?;
    let who = who(args.id.as_deref(), &data)?;
    let log_path = args.log.place("join")?;
    logging::start("join", &args.log)?;
    let config = agent::Config {
        data_dir: data,
        addresses,
        trust,
        invite,
        id: who,
        name: machine_name(),
        software: software(),
        shares: args.share.iter().map(|share| named(share)).collect::<Result<_, Failure>>()?,
        values: args.values.iter().map(|values| patterned(values)).collect::<Result<_, Failure>>()?,
        directory: args.directory,
        adopt: args.adopt,
        allow_mass_delete: args.allow_mass_delete,
        runs: hands.runs(),
        procfs: "/proc".into(),
        own: log_path
            .iter()
            .filter_map(|path| path.metadata().ok())
            .map(|m| (m.dev(), m.ino()))
            .collect::<HashSet<_>>(),
    };
    let (hears, undone) = (Arc::clone(&hands), Undone::default());
    let tell = move |event: Event| {
        hears.hear(&event);
        tell(event, &undone);
    };
    let ended = runtime::run(async {
        let asked = async {
            signals::asked(stop).await;
            notify::tell(notify::STOPPING);
        };
        tokio::select! {
            ended = agent::run(config, tell, asked) => ended,
            never = notify::keep_alive() => match never {},
        }
    })?;
    hands.finish();
    match ended {
        Ok(summary) => {
            let (shares, values) = (summary.shares.join(" "), summary.values.join(" "));
            tracing::info!(id = summary.id, shares, values, "stopped");
            Ok(match stop.requested() {
                Some(Signal::Interrupt) => Exit::Interrupted,
                _ => Exit::Done,
            })
        }
        Err(error) => {
            // For the log: on stderr it is the last line.
            tracing::info!(error = %error, "ended");
            if notify::keeps_what_is_said() && may_be_let_in(&error) {
                say(format_args!(
                    "lockstep: {error}; asked again in {} s, as the hub may know it again",
                    ASK_AGAIN.as_secs()
                ));
                stop.wait(ASK_AGAIN);
                return Err(Failure::could_not_run(error));
            }
            Err(Failure::new(exit_of(&error), error))
        }
    }
}

/// Whether the hub may let this client in another time without anybody doing anything here: it was started from an older backup,
/// or nobody may enrol for the moment. Nobody watches a service, so it asks again.
fn may_be_let_in(error: &agent::Error) -> bool {
    matches!(error, agent::Error::Refused(Refusal { code: Code::NotProven | Code::NotInvited, retry_ms: None, .. }))
}

/// An ID as it is typed.
///
/// # Errors
/// When it is none: exit code 2, with the reason.
pub(crate) fn id(text: &str) -> Result<ClientId, Failure> {
    ClientId::parse(text).map_err(|why| Failure::usage(format!("--id {text}: {why}")))
}

/// Program and version, as peers are told.
pub(crate) fn software() -> String {
    format!("lockstep {}", env!("CARGO_PKG_VERSION"))
}

/// What people call this machine.
pub(crate) fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

type Way = (Vec<String>, Trust, Option<wire::link::InviteCode>);

/// Where the hub is, and why it is the right one. A link pins its key; an address is asked about.
pub(crate) fn hub(text: Option<&str>) -> Result<Way, Failure> {
    let mut read = String::new();
    let text = match text {
        Some("-") => {
            let limit = u64::try_from(wire::link::LINK_BYTES_MAX).unwrap_or(u64::MAX) + 1;
            std::io::stdin()
                .take(limit)
                .read_to_string(&mut read)
                .context("cannot read the link from standard input")?;
            Some(read.trim())
        }
        other => other,
    };
    match text {
        None => Ok((Vec::new(), Trust::Ask(reach::ask()), None)),
        Some(text) if JoinLink::looks_like(text) => {
            let link = JoinLink::parse(text).map_err(|why| Failure::usage(format!("the join link: {why}")))?;
            Ok((vec![link.address()], Trust::Known(link.fingerprint()), link.invite().cloned()))
        }
        Some(address) => Ok((vec![agent::dial::with_port(address)], Trust::Ask(reach::ask()), None)),
    }
}

/// Who this machine is to be: as typed, as its key says, or as a person answers.
fn who(given: Option<&str>, data: &Path) -> Result<agent::Id, Failure> {
    match given {
        Some(AUTO) => return Ok(agent::Id::Auto),
        Some(text) => return id(text).map(agent::Id::This),
        None => {}
    }
    // A key that cannot be used is told about by the agent, with what to do.
    let knows = !matches!(KeyFile::new(data, Machine::this()).read(), Ok(Found::Nothing));
    if knows {
        return Ok(agent::Id::Remembered);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("which ID is this machine to have? --id N, an integer, or --id auto"));
    }
    let mut answer = String::new();
    let mut stderr = std::io::stderr();
    stderr
        .write_all(b"ID of this machine (an integer, or auto): ")
        .and_then(|()| stderr.flush())
        .context("cannot ask")?;
    std::io::stdin().read_line(&mut answer).context("cannot read the ID")?;
    match answer.trim() {
        AUTO => Ok(agent::Id::Auto),
        text => id(text).map(agent::Id::This),
    }
}

/// `NAME=DIR`, or a share that is kept under its own name.
fn named(share: &Path) -> Result<(String, Option<PathBuf>), Failure> {
    let (name, directory) = cut(share);
    let name =
        name.to_str().ok_or_else(|| Failure::usage(format!("--share {}: not the name of a share", share.display())))?;
    Ok((name.to_owned(), directory.map(Path::to_owned)))
}

/// `PATTERN=DIR`, or the directory of all values.
fn patterned(values: &Path) -> Result<(String, PathBuf), Failure> {
    let (pattern, directory) = match cut(values) {
        (pattern, Some(directory)) => (pattern, directory),
        (directory, None) => (Path::new("*"), directory),
    };
    let wrong = |why: &str| Failure::usage(format!("--values {}: {why}", values.display()));
    if directory.as_os_str().is_empty() {
        return Err(wrong("which directory?"));
    }
    let pattern = pattern.to_str().ok_or_else(|| wrong("a pattern is text in UTF-8"))?;
    let pattern = crate::follow::pattern(pattern).map_err(|why| wrong(&why))?;
    Ok((pattern, directory.to_owned()))
}

/// Cut at the first `=`.
fn cut(text: &Path) -> (&Path, Option<&Path>) {
    let bytes = text.as_os_str().as_bytes();
    let part = |bytes| Path::new(OsStr::from_bytes(bytes));
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) => (part(&bytes[..at]), Some(part(&bytes[at + 1..]))),
        None => (text, None),
    }
}

/// Logs at a level, with the share or the values it is about under a key of their own.
macro_rules! log {
    ($level:ident, $of:ident, $($rest:tt)*) => {
        match &$of {
            Kept::Share(share) => tracing::$level!(share, $($rest)*),
            Kept::Values(values) => tracing::$level!(values, $($rest)*),
        }
    };
}

/// What happens, for the log; what a person has to know, on stderr.
fn tell(event: Event, undone: &Undone) {
    match event {
        Event::Connected { address } => tracing::info!(address, "connected"),
        Event::LoggedIn { id, issued, hub } => {
            notify::tell(notify::READY);
            tracing::info!(id, issued, hub, "logged in");
            say(format_args!("logged in to {} as client {id}", tree::path::escape(hub.as_bytes())));
        }
        Event::Progress { of, entries, waiting, content_bytes } => {
            log!(debug, of, entries, waiting, content_bytes, "on its way");
        }
        Event::Applied { of, path, action, bytes } => log!(info, of, %path, ?action, bytes, "applied"),
        Event::Reverted { of, path } if undone.is_named(&of, Instant::now()) => {
            log!(warn, of, %path, "a local change was undone");
        }
        Event::Reverted { of, path } => log!(info, of, %path, "a local change was undone"),
        Event::Problem { of, path, text } => log!(warn, of, %path, "{text}"),
        Event::InSync { of, entries, content_bytes } => {
            log!(info, of, entries, content_bytes, "in sync");
            let name = tree::path::escape(of.name().as_bytes());
            match of {
                Kept::Share(_) => say(format_args!("{name}: in sync, {}", count(entries, "entry", "entries"))),
                Kept::Values(_) => say(format_args!("values {name}: in sync, {}", count(entries, "file", "files"))),
            }
        }
        Event::Settled { of } => {
            if let Some(others) = undone.settled(&of) {
                let more = if others == 1 {
                    "1 more local change was undone".to_owned()
                } else {
                    format!("{others} more local changes were undone")
                };
                log!(warn, of, others, "{more}; the log names what");
            }
            log!(debug, of, "settled");
        }
        Event::Disconnected { why, retry_in } => {
            // It runs, and looks for its hub: nobody who waits for it at the start of a machine is to wait for another machine.
            notify::tell(notify::READY);
            tracing::warn!(retry_in_ms = retry_in.as_millis(), "no hub: {why}; trying again");
        }
    }
}

fn exit_of(error: &agent::Error) -> Exit {
    match error {
        agent::Error::NoId
        | agent::Error::NoHub
        | agent::Error::WhichShare { .. }
        | agent::Error::Pattern { .. }
        | agent::Error::TooManyPatterns
        | agent::Error::Overlap { .. }
        | agent::Error::OtherKey { .. }
        | agent::Error::Nested { .. } => Exit::Usage,
        _ if error.is_for_good() => Exit::Refused,
        agent::Error::NotKept { source: KeeperError::NotEmpty(_), .. } => Exit::Guard,
        _ => Exit::CouldNotRun,
    }
}
