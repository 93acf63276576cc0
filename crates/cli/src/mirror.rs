//! `lockstep mirror`: one directory kept equal to another, once or live, with every result in the log.

mod choose;
mod diff;
mod keep;
mod modes;
mod output;
mod pair;
mod service;
mod socket;
mod standing;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use mirror::Mirror;

use crate::after::AfterArgs;
use crate::config::Entries;
use crate::exit::{Exit, Failure};
use crate::logging::LogArgs;
use crate::paths;

pub(crate) use socket::{Asked, ask_all};
pub(crate) use standing::{PairStatus, Process, Stand};

/// Several pairs, in the file that `--config` names.
pub(crate) const PAIRS: Entries =
    Entries { command: "mirror", key: "pair", shared: &["log", "log-level", "json", "data"] };
/// The longest name of a pair.
const NAME_BYTES_MAX: usize = 64;

/// Makes one directory equal to another and keeps it so
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub(crate) struct Args {
    /// Directory to mirror; it is only read
    #[arg(value_name = "SRC")]
    source: PathBuf,

    /// Directory to make equal to it; what is only here is deleted [default: SRC with the suffix -mirror, beside it]
    #[arg(value_name = "DST")]
    destination: Option<PathBuf>,

    /// Goes on: follows every change, and repairs the destination, until stopped
    #[arg(long)]
    watch: bool,

    /// Tells what would be done, and does nothing
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,

    /// Tells which names are only in SRC (>>), only in DST (<<) and in both (--); compares and changes nothing
    #[arg(long, conflicts_with_all = ["watch", "dry_run", "existing", "update", "backup_dir", "max_delete", "no_delete",
        "allow_mass_delete", "checksum", "ctime", "verify", "fsync", "bwlimit", "threads"])]
    diff: bool,

    #[command(flatten)]
    log: LogArgs,

    /// Writes one JSON object a line for each result and each summary
    #[arg(long)]
    json: bool,

    /// Deletes however much has to go, also when the source is empty
    #[arg(long, conflicts_with = "no_delete")]
    allow_mass_delete: bool,

    /// Compares contents also where size, time and mode are equal
    #[arg(long, visible_alias = "content", conflicts_with = "ctime")]
    checksum: bool,

    /// What log and status call this pair [default: the name of SRC]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,

    /// With --watch: directory of the socket at which `lockstep status --mirror` asks, for its owner alone
    /// [default: /var/lib/lockstep/mirror for root, else $XDG_STATE_HOME/lockstep/mirror]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    #[command(flatten)]
    choose: choose::Choose,

    #[command(flatten)]
    modes: modes::Modes,

    #[command(flatten)]
    keep: keep::KeepArgs,

    #[command(flatten)]
    after: AfterArgs,
}

impl Args {
    /// Where it goes.
    ///
    /// # Errors
    /// When none is given and the source is no directory, or has no place beside it.
    fn destination(&self) -> Result<PathBuf, mirror::MirrorError> {
        self.destination.clone().map_or_else(|| Mirror::default_dest(&self.source), Ok)
    }

    /// What log and status call it.
    fn name(&self) -> String {
        let given = || self.source.file_name().map(OsStr::to_owned);
        let full = || std::fs::canonicalize(&self.source).ok()?.file_name().map(OsStr::to_owned);
        self.name.clone().unwrap_or_else(|| {
            let name = given().or_else(full).unwrap_or_else(|| self.source.clone().into_os_string());
            tree::path::escape(name.as_encoded_bytes())
        })
    }
}

impl Args {
    /// What has to be there.
    pub(crate) fn reads(&self) -> Vec<PathBuf> {
        vec![self.source.clone()]
    }

    /// The directories that it writes.
    pub(crate) fn writes(&self) -> Vec<PathBuf> {
        let destination = self.destination().ok();
        let state = self.modes.state.as_deref().and_then(Path::parent).map(Path::to_owned);
        destination.into_iter().chain(state).chain(self.modes.backup_dir.clone()).chain(self.log.directory()).collect()
    }
}

/// Mirrors once, or until somebody asks to stop.
///
/// # Errors
/// When it cannot run: then nothing was touched.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    service::run(vec![args], None)
}

/// Mirrors each pair of the file that `--config` names; `again` reads it anew.
///
/// # Errors
/// When none of them can run: then nothing was touched.
pub(crate) fn run_pairs(all: Vec<Args>, again: service::Again) -> Result<Exit, Failure> {
    service::run(all, Some(again))
}

/// Where the sockets of running mirrors are.
///
/// # Errors
/// When the user has no home: `--data` must say where.
pub(crate) fn status_dir(data: Option<&Path>) -> Result<PathBuf, Failure> {
    data.map_or_else(|| paths::default_data("mirror"), |data| Ok(data.to_owned()))
}

fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| !c.is_control() && c != '[' && c != ']';
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(plain) {
        return Err(format!("a name has 1 to {NAME_BYTES_MAX} bytes, none of them a bracket or a control character"));
    }
    Ok(text.to_owned())
}
