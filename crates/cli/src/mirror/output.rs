//! Results on their way to the log, stdout and stderr. One log for all pairs; each line tells its pair.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use mirror::after::Ran;
use mirror::{Action, Event, Outcome};
use serde_json::{Value, json};
use tree::path::escape;

use super::keep;
use crate::after;
use crate::exit::{Exit, Failure};
use crate::logging::{Log, say};

/// Entries of one pass that were right already and are logged one by one; the summary counts them all. A tree of
/// a million files would else push everything else out of the log.
const SKIPS_LOGGED_MAX: u64 = 1_000;

/// The log and stdout, for all pairs.
#[derive(Debug)]
pub(super) struct Lines {
    log: Log,
    stdout: Mutex<Stdout>,
}

#[derive(Debug)]
struct Stdout {
    to: io::BufWriter<io::Stdout>,
    /// Nothing is written any more.
    failed: Option<io::Error>,
}

impl Lines {
    pub(super) fn new(log: Log) -> Arc<Self> {
        let stdout = Stdout { to: io::BufWriter::new(io::stdout()), failed: None };
        Arc::new(Self { log, stdout: Mutex::new(stdout) })
    }

    /// Opens the log anew, for who moved it away.
    pub(super) fn reopen_log(&self) {
        if let Err(error) = self.log.reopen() {
            say(format_args!("log: {error}"));
        }
    }

    fn log(&self, line: &str) {
        if let Err(error) = self.log.append_line(line.as_bytes()) {
            say(format_args!("log: {error}"));
        }
    }

    fn write(&self, write: impl FnOnce(&mut io::BufWriter<io::Stdout>) -> io::Result<()>) {
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        if stdout.failed.is_none() {
            stdout.failed = write(&mut stdout.to).err();
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When stdout could not be written at any time: all is done, and not all of it was told.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        self.write(io::Write::flush);
        let failed = self.stdout.lock().unwrap_or_else(PoisonError::into_inner).failed.take();
        failed.map_or(Ok(()), |error| {
            let Failure { exit, error } = Failure::output(error);
            Err(Failure { exit: if exit == Exit::Done { exit } else { Exit::SomeFailed }, error })
        })
    }
}

/// Tells of one pair.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    lines: Arc<Lines>,
    json: bool,
    /// What each line begins with, where there are several pairs.
    pair: Option<Arc<str>>,
}

impl Teller {
    pub(super) fn new(lines: &Arc<Lines>, json: bool, pair: Option<&str>) -> Self {
        Self { lines: Arc::clone(lines), json, pair: pair.map(Arc::from) }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Something that is also for a person.
    pub(super) fn told(&self, text: &str) {
        self.warn(text);
        self.note("note", text);
    }

    pub(super) fn note(&self, action: &str, text: &str) {
        if self.json {
            self.both(json!({ "time": now(), "action": action, "text": text }));
        } else {
            self.log(&format!("{action} {text}"));
            self.print(&format!("{action}: {text}"));
        }
        self.flush();
    }

    /// One run of the command of `--after`.
    pub(super) fn after(&self, ran: &Ran) {
        let line = after::line(ran);
        if self.json {
            self.both(after::record(ran, &now()));
        } else {
            self.log(&format!("after {line}"));
            self.print(&format!("after: {line}"));
        }
        if !ran.end.is_good() {
            self.warn(&format!("--after: {line}"));
        }
        self.flush();
    }

    /// A line for a person, on stderr alone.
    pub(super) fn warn(&self, text: &str) {
        match &self.pair {
            Some(pair) => say(format_args!("[{pair}] {text}")),
            None => say(format_args!("{text}")),
        }
    }

    /// A record, to stdout and to the log.
    pub(super) fn both(&self, record: Value) {
        let line = self.with_pair(record).to_string();
        self.lines.log(&line);
        self.lines.write(|out| writeln!(out, "{line}"));
    }

    /// A record, to stdout alone.
    pub(super) fn show(&self, record: Value) {
        let record = self.with_pair(record);
        self.lines.write(|out| writeln!(out, "{record}"));
    }

    fn with_pair(&self, mut record: Value) -> Value {
        if let (Some(pair), Some(record)) = (&self.pair, record.as_object_mut()) {
            record.insert("pair".into(), Value::String(pair.to_string()));
        }
        record
    }

    /// A line of text, to the log.
    pub(super) fn log(&self, text: &str) {
        self.lines.log(&match &self.pair {
            Some(pair) => format!("{} [{pair}] {text}", now()),
            None => format!("{} {text}", now()),
        });
    }

    /// A line of text, to stdout.
    pub(super) fn print(&self, text: &str) {
        self.lines.write(|out| match &self.pair {
            Some(pair) => writeln!(out, "[{pair}] {text}"),
            None => writeln!(out, "{text}"),
        });
    }

    pub(super) fn flush(&self) {
        self.lines.write(io::Write::flush);
    }
}

/// Results of one pair.
pub(super) struct Output {
    teller: Teller,
    dry_run: bool,
    destination: PathBuf,
    skips: u64,
    said: keep::Said,
}

impl Output {
    pub(super) fn new(teller: Teller, dry_run: bool, destination: &Path) -> Self {
        let said = keep::Said::default();
        Self { teller, dry_run, destination: destination.to_owned(), skips: 0, said }
    }

    pub(super) fn event(&mut self, event: &Event<'_>) {
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
            self.teller.warn(error);
        }
        if self.teller.json {
            let kind = event.kind.map(|kind| kind.to_string());
            let path = escape(path.as_bytes());
            let why = left(*action);
            self.teller.both(json!({
                "time": now(), "action": word, "path": path, "kind": kind, "bytes": bytes, "error": error, "why": why
            }));
            return;
        }
        let tail = error.as_deref().or(left(*action)).map(|tail| format!(": {tail}")).unwrap_or_default();
        self.teller.log(&format!("{word} {path} {bytes} bytes{tail}"));
        if self.dry_run && *action != Action::Skipped {
            let why = left(*action).map(|why| format!(" ({why})")).unwrap_or_default();
            self.teller.print(&format!("{word} {path}{why}"));
        }
    }

    pub(super) fn pass(&mut self, outcome: &Outcome) {
        self.skips = 0;
        let counts = &outcome.counts;
        if self.teller.json {
            self.teller.both(json!({
                "time": now(), "action": "pass", "dry_run": self.dry_run, "copied": counts.copied,
                "updated": counts.updated, "skipped": counts.skipped, "deleted": counts.deleted,
                "failed": counts.failed, "bytes": counts.bytes, "left": counts.left,
                "directories": counts.dirs, "files_copied": counts.files_copied,
                "files_updated": counts.files_updated, "files_deleted": counts.files_deleted,
                "held": outcome.held.map(|held| held.deletes), "unkept": keep::record(&outcome.unkept),
            }));
        } else {
            let left = if counts.left > 0 { format!(", {} left alone", counts.left) } else { String::new() };
            let text = format!(
                "copied {}, updated {}, skipped {}, deleted {}, failed {} ({} bytes){left}",
                counts.copied, counts.updated, counts.skipped, counts.deleted, counts.failed, counts.bytes
            );
            self.teller.log(&format!("pass {text}"));
            let destination = escape(self.destination.as_os_str().as_encoded_bytes());
            self.teller.print(&format!("{destination}: {}{text}", if self.dry_run { "would have " } else { "" }));
        }
        if let Some(held) = &outcome.held {
            self.teller.warn(&held.to_string());
            self.teller.log(&format!("guard {held}"));
        }
        for line in self.said.lines(&outcome.unkept) {
            self.teller.warn(&line);
            if !self.teller.json {
                self.teller.log(&format!("unkept {line}"));
            }
        }
        self.teller.flush();
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
}

/// Why something that differs was left as it was.
fn left(action: Action) -> Option<&'static str> {
    match action {
        Action::Left(why) => Some(why.word()),
        _ => None,
    }
}

/// Now, as all our files have it.
pub(super) fn now() -> String {
    format!("{:.3}", Timestamp::now())
}
