//! `lockstep mirror`: one directory kept equal to another, once or live, with every result in the log.

mod choose;
mod diff;
mod keep;
mod modes;

use std::collections::HashSet;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use mirror::{Action, Event, Mirror, MirrorOptions, Outcome, Report, Stopper};
use serde_json::{Value, json};
use tree::path::escape;

use crate::exit::{Exit, Failure};
use crate::logging::{self, Log, LogArgs};
use crate::notify;
use crate::signals::{self, Signal};

/// Entries of one pass that were right already and are logged one by one; the summary counts them all. A tree of
/// a million files would else push everything else out of the log.
const SKIPS_LOGGED_MAX: u64 = 1_000;
/// Older parts of the log, which lie beside it.
const LOG_PARTS: u32 = 4;

/// Makes one directory equal to another and keeps it so
#[derive(Debug, clap::Args)]
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

    #[command(flatten)]
    choose: choose::Choose,

    #[command(flatten)]
    modes: modes::Modes,

    #[command(flatten)]
    keep: keep::KeepArgs,
}

impl Args {
    /// The directories that it writes.
    pub(crate) fn writes(&self) -> Vec<PathBuf> {
        let destination = self.destination.clone().or_else(|| Mirror::default_dest(&self.source).ok());
        let state = self.modes.state.as_deref().and_then(Path::parent).map(Path::to_owned);
        destination.into_iter().chain(state).chain(self.modes.backup_dir.clone()).chain(self.log.directory()).collect()
    }
}

/// Mirrors once, or until somebody asks to stop.
///
/// # Errors
/// When it cannot run: then nothing was touched.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let signals = signals::flag()?;
    let log = logging::start("mirror", &args.log)?;
    let refused = |error: mirror::MirrorError| {
        tracing::debug!("refused: {error}");
        log.append_line(format!("{:.3} refused {error}", Timestamp::now()).as_bytes()).ok();
        Failure::could_not_run(error)
    };
    let destination = match &args.destination {
        Some(destination) => destination.clone(),
        None => Mirror::default_dest(&args.source).map_err(refused)?,
    };
    let mut own = args.log.place("mirror")?.as_deref().map(own_files).unwrap_or_default();
    own.extend(args.modes.state.as_deref().and_then(id_of));
    let options = MirrorOptions {
        dry_run: args.dry_run || args.diff,
        allow_mass_delete: args.allow_mass_delete,
        checksum: args.checksum,
        ctime: args.modes.ctime,
        choice: args.choose.choice()?,
        policy: args.modes.policy(),
        delete_limit: args.modes.max_delete,
        backup_dir: args.modes.backup_dir.clone(),
        writing: args.modes.writing(),
        check_every: args.modes.interval,
        state: args.modes.state.clone(),
        own,
        keep: args.keep.keep(),
        threads: args.modes.threads,
    };
    let mut mirror = Mirror::open(&args.source, &destination, options).map_err(refused)?;
    if args.diff {
        return diff::run(&mut mirror, args.json, &log);
    }
    let stopper = Stopper::default();
    mirror.stop_on(stopper.flag());
    let asked = stopper.clone();
    let waiting = std::thread::Builder::new().name("stop".into()).spawn(move || {
        // A service that is told to end leaves both sides the same; a person does not wait for that.
        match signals.wait_until_asked() {
            Signal::Terminate => asked.drain(),
            Signal::Interrupt => asked.stop(),
        }
    });
    waiting.map_err(|e| Failure::could_not_run(anyhow::Error::new(e).context("cannot start a thread")))?;

    let mut out = Output::new(&args, &log, &destination);
    let known = mirror.notes().len();
    mirror.notes().iter().for_each(|note| out.told(note));
    let outcome = if args.watch {
        mirror.watch(stopper, &mut |report| out.report(&report)).map_err(refused)?
    } else {
        let outcome = mirror.once(&mut |event| out.event(event));
        mirror.notes()[known..].iter().for_each(|note| out.told(note));
        out.pass(&outcome);
        outcome
    };
    out.finish()?;
    Ok(match signals.requested() {
        // A service that was told to end has done all it was asked for.
        Some(Signal::Terminate) if args.watch => exit_of(&outcome),
        Some(_) => Exit::Interrupted,
        None => exit_of(&outcome),
    })
}

fn exit_of(outcome: &Outcome) -> Exit {
    if outcome.held.is_some() {
        Exit::Guard
    } else if outcome.problems.is_empty() {
        Exit::Done
    } else {
        Exit::SomeFailed
    }
}

/// The log and its older parts, should they lie in one of the two directories.
fn own_files(log: &Path) -> HashSet<(u64, u64)> {
    let parts = (1..LOG_PARTS).map(|n| {
        let mut name = log.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    });
    let files = std::iter::once(log.to_owned()).chain(parts);
    files.filter_map(|path| id_of(&path)).collect()
}

/// Device and inode of what stands there, if anything does.
fn id_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Results on their way to the log, stdout and stderr.
struct Output<'a> {
    log: &'a Log,
    json: bool,
    dry_run: bool,
    destination: &'a Path,
    stdout: io::BufWriter<io::Stdout>,
    failed: Option<io::Error>,
    skips: u64,
    said: keep::Said,
}

impl<'a> Output<'a> {
    fn new(args: &Args, log: &'a Log, destination: &'a Path) -> Self {
        let stdout = io::BufWriter::new(io::stdout());
        let said = keep::Said::default();
        Self { log, json: args.json, dry_run: args.dry_run, destination, stdout, failed: None, skips: 0, said }
    }

    fn report(&mut self, report: &Report<'_>) {
        match report {
            Report::Event(event) => self.event(event),
            Report::Pass(outcome) => self.pass(outcome),
            Report::Standing(_) => {}
            Report::Watching => {
                notify::tell(notify::READY);
                self.note("watching", "following changes");
            }
            Report::Note(text) => self.told(text),
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        let Event { action, path, bytes, error, .. } = event;
        if matches!(action, Action::Skipped | Action::Left(_)) {
            self.skips += 1;
            if self.skips > SKIPS_LOGGED_MAX {
                return;
            }
        }
        let word = self.word(*action);
        let error = error.map(ToString::to_string);
        if let Some(error) = &error {
            eprintln!("{error}");
        }
        let record = self.json.then(|| {
            let kind = event.kind.map(|kind| kind.to_string());
            let path = escape(path.as_bytes());
            let why = left(*action);
            json!({
                "time": now(), "action": word, "path": path, "kind": kind, "bytes": bytes, "error": error, "why": why
            })
        });
        match record {
            Some(record) => self.both(&record),
            None => {
                let tail = error.as_deref().or(left(*action)).map(|tail| format!(": {tail}")).unwrap_or_default();
                self.log_line(&format!("{} {word} {path} {bytes} bytes{tail}", now()));
                if self.dry_run && *action != Action::Skipped {
                    let why = left(*action).map(|why| format!(" ({why})")).unwrap_or_default();
                    self.print(&format!("{word} {path}{why}"));
                }
            }
        }
    }

    fn pass(&mut self, outcome: &Outcome) {
        self.skips = 0;
        let counts = &outcome.counts;
        if self.json {
            let record = json!({
                "time": now(), "action": "pass", "dry_run": self.dry_run, "copied": counts.copied,
                "updated": counts.updated, "skipped": counts.skipped, "deleted": counts.deleted,
                "failed": counts.failed, "bytes": counts.bytes, "left": counts.left,
                "directories": counts.dirs, "files_copied": counts.files_copied,
                "files_updated": counts.files_updated, "files_deleted": counts.files_deleted,
                "held": outcome.held.map(|held| held.deletes), "unkept": keep::record(&outcome.unkept),
            });
            self.both(&record);
        } else {
            let left = if counts.left > 0 { format!(", {} left alone", counts.left) } else { String::new() };
            let text = format!(
                "copied {}, updated {}, skipped {}, deleted {}, failed {} ({} bytes){left}",
                counts.copied, counts.updated, counts.skipped, counts.deleted, counts.failed, counts.bytes
            );
            self.log_line(&format!("{} pass {text}", now()));
            let destination = escape(self.destination.as_os_str().as_encoded_bytes());
            self.print(&format!("{destination}: {}{text}", if self.dry_run { "would have " } else { "" }));
        }
        if let Some(held) = &outcome.held {
            eprintln!("{held}");
            self.log_line(&format!("{} guard {held}", now()));
        }
        for line in self.said.lines(&outcome.unkept) {
            eprintln!("{line}");
            if !self.json {
                self.log_line(&format!("{} unkept {line}", now()));
            }
        }
        self.flush();
    }

    /// Something for a person as well.
    fn told(&mut self, text: &str) {
        eprintln!("{text}");
        self.note("note", text);
    }

    fn note(&mut self, action: &str, text: &str) {
        if self.json {
            self.both(&json!({ "time": now(), "action": action, "text": text }));
        } else {
            self.log_line(&format!("{} {action} {text}", now()));
            self.print(&format!("{action}: {text}"));
        }
        self.flush();
    }

    fn word(&self, action: Action) -> &'static str {
        match (action, self.dry_run) {
            (Action::Copied, false) => "copied",
            (Action::Updated, false) => "updated",
            (Action::Deleted, false) => "deleted",
            (Action::Copied, true) => "would-copy",
            (Action::Updated, true) => "would-update",
            (Action::Deleted, true) => "would-delete",
            (Action::Skipped, _) => "skipped",
            (Action::Left(_), _) => "left",
            (Action::Held, _) => "held",
            (Action::Waiting, _) => "waiting",
            (Action::Unsettled, _) => "unsettled",
            (Action::Failed, _) => "failed",
        }
    }

    fn both(&mut self, record: &Value) {
        let line = record.to_string();
        self.log_line(&line);
        self.print(&line);
    }

    fn log_line(&self, line: &str) {
        if let Err(error) = self.log.append_line(line.as_bytes()) {
            eprintln!("log: {error}");
        }
    }

    fn print(&mut self, line: &str) {
        if self.failed.is_none() {
            self.failed = writeln!(self.stdout, "{line}").err();
        }
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.stdout.flush().err();
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.flush();
        self.failed.map_or(Ok(()), |error| Err(Failure::output(error)))
    }
}

/// Why something that differs was left as it is.
fn left(action: Action) -> Option<&'static str> {
    match action {
        Action::Left(why) => Some(why.word()),
        _ => None,
    }
}

fn now() -> String {
    format!("{:.3}", Timestamp::now())
}
