//! The audit log: who came in, who was turned away, and who changed what anybody may. JSON lines in the data directory.
//!
//! Two files, so that no flood of the one pushes out the other: [`FILE`] has what happened, [`REFUSED_FILE`] who was turned away.
//! Each is capped and moves its parts as every log does ([`vitals::log`]). What repeats itself within a while is one line at first and
//! another with the number of the rest; of what is refused so many lines a minute are written, and the others counted in one. So
//! whatever happens, it is on record that it did, how often, and from how many addresses.
//!
//! No secret is in it: a line is made of ids, addresses, the words of the login's notes, and what an administrator asked for.

mod read;

pub use read::{AuditError, AuditLine, AuditRead, read};

use crate::clock;
use crate::core::Hub;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use vitals::log::{Appended, CappedLog, LogError};
use wire::login::{Note, Step, Then};
use wire::message::ToClient;

/// What happened.
pub(crate) const FILE: &str = "audit.jsonl";
/// Who was turned away.
pub(crate) const REFUSED_FILE: &str = "audit-refused.jsonl";
/// What can have happened.
pub const EVENTS: [&str; 14] = [
    "invited",
    "issued",
    "enrolled",
    "login",
    "taken_over",
    "proved",
    "changed",
    "imported",
    "reissued",
    "revoked",
    "left",
    "token",
    "token_revoked",
    "administer",
];
/// What repeats itself within so long is counted.
const REPEATED_WITHIN: Duration = Duration::from_secs(60);
/// A program may prove itself with every request.
const PROVED_WITHIN: Duration = Duration::from_secs(3600);
/// Different lines that are remembered, to count their repetitions.
const REMEMBERED_MAX: usize = 4096;
/// Lines of what is refused within [`REPEATED_WITHIN`]; the others are counted.
const REFUSED_LINES_MAX: u32 = 100;
/// Addresses that are told apart among the others.
const ADDRESSES_MAX: usize = 4096;
/// How often it is looked whether a count is to be written.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Entry {
    pub(crate) event: &'static str,
    /// To whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
    /// Who did it; 0 for the hub's own machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<u64>,
    /// By the token of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// From where, without a port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) address: String,
    /// `native`, `text`, `http`, `socketio`, or `local`.
    pub(crate) transport: &'static str,
    /// `ok`, or the code of the refusal.
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    #[serde(flatten)]
    entry: &'a Entry,
    /// How often beyond the line before it; since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeated: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<usize>,
}

/// The log.
#[derive(Debug)]
pub(crate) struct Audit {
    happened: Mutex<Journal>,
    refused: Mutex<Journal>,
}

impl Audit {
    /// Opens the log in a data directory.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub(crate) fn open(data_dir: &Path) -> Result<Audit, LogError> {
        let journal = |file, lines_max| Ok(Mutex::new(Journal::new(CappedLog::open(&data_dir.join(file))?, lines_max)));
        Ok(Audit { happened: journal(FILE, None)?, refused: journal(REFUSED_FILE, Some(REFUSED_LINES_MAX))? })
    }

    /// Something happened.
    pub(crate) fn note(&self, entry: Entry) {
        debug_assert!(EVENTS.contains(&entry.event), "{} is not among those that are told", entry.event);
        let journal = if entry.outcome == "ok" { &self.happened } else { &self.refused };
        lock(journal).note(entry, clock::now(), clock::now_ms());
    }

    /// A step of a login.
    pub(crate) fn login(&self, address: IpAddr, transport: &'static str, step: &Step) {
        let Some(note) = &step.note else { return };
        let refused = step.say.iter().find_map(|said| match said {
            ToClient::Refused(refusal) => Some(refusal.code.as_str()),
            _ => None,
        });
        let (event, id) = match note {
            Note::Issued { id, .. } => ("issued", Some(id.get())),
            Note::Confirmed { id } => ("enrolled", Some(id.get())),
            Note::Proved { id } => ("proved", Some(id.get())),
            Note::NotProven { id, .. } => ("login", Some(id.get())),
            _ => ("login", None),
        };
        // Whoever came in without a place among the active ones is noted by the hour; the others by their login.
        if event == "proved" && (transport != "http" || !matches!(step.then, Then::In(_))) {
            return;
        }
        let outcome = refused.unwrap_or("ok");
        let detail = if event == "proved" { String::new() } else { note.to_string() };
        self.note(Entry { event, id, address: address.to_string(), transport, outcome, detail, ..Entry::default() });
    }

    /// Writes what was counted: all of it at the end.
    pub(crate) fn write_counts(&self, all: bool) {
        for journal in [&self.happened, &self.refused] {
            lock(journal).write_counts(clock::now(), clock::now_ms(), all);
        }
    }
}

/// Writes counts in time, until the hub stops.
pub(crate) async fn keep(hub: Arc<Hub>) {
    let mut stopping = hub.stopping.subscribe();
    loop {
        tokio::select! {
            () = clock::sleep(LOOK_EVERY) => hub.audit.write_counts(false),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// One of the two files.
#[derive(Debug)]
struct Journal {
    log: CappedLog,
    lines_max: Option<u32>,
    repeats: HashMap<Entry, Repeat>,
    /// Lines written since, and what found no room among them.
    since: Option<Instant>,
    lines: u32,
    others: u64,
    others_since_ms: i64,
    addresses: HashSet<String>,
}

#[derive(Debug)]
struct Repeat {
    first: Instant,
    first_ms: i64,
    count: u64,
}

impl Journal {
    fn new(log: CappedLog, lines_max: Option<u32>) -> Journal {
        Journal {
            log,
            lines_max,
            repeats: HashMap::new(),
            since: None,
            lines: 0,
            others: 0,
            others_since_ms: 0,
            addresses: HashSet::new(),
        }
    }

    fn note(&mut self, entry: Entry, now: Instant, now_ms: i64) {
        self.write_counts(now, now_ms, false);
        if let Some(repeat) = self.repeats.get_mut(&entry) {
            repeat.count += 1;
            return;
        }
        self.since.get_or_insert(now);
        let full = self.lines_max.is_some_and(|max| self.lines >= max) || self.repeats.len() >= REMEMBERED_MAX;
        if full && self.lines_max.is_some() {
            if self.others == 0 {
                self.others_since_ms = now_ms;
            }
            self.others += 1;
            if self.addresses.len() < ADDRESSES_MAX {
                self.addresses.insert(entry.address);
            }
            return;
        }
        self.lines += 1;
        self.write(&Line { at: clock::rfc3339(now_ms), entry: &entry, repeated: None, since: None, addresses: None });
        if !full {
            self.repeats.insert(entry, Repeat { first: now, first_ms: now_ms, count: 0 });
        }
    }

    fn write_counts(&mut self, now: Instant, now_ms: i64, all: bool) {
        let over = |entry: &Entry, repeat: &Repeat| {
            let within = if entry.event == "proved" { PROVED_WITHIN } else { REPEATED_WITHIN };
            all || now.duration_since(repeat.first) >= within
        };
        let done: Vec<Entry> =
            self.repeats.iter().filter(|(entry, repeat)| over(entry, repeat)).map(|(entry, _)| entry.clone()).collect();
        let at = clock::rfc3339(now_ms);
        for entry in done {
            let Some(Repeat { first_ms, count, .. }) = self.repeats.remove(&entry) else { continue };
            if count > 0 {
                let since = Some(clock::rfc3339(first_ms));
                self.write(&Line { at: at.clone(), entry: &entry, repeated: Some(count), since, addresses: None });
            }
        }
        if all || self.since.is_some_and(|since| now.duration_since(since) >= REPEATED_WITHIN) {
            (self.since, self.lines) = (None, 0);
            if self.others > 0 {
                let entry = Entry { event: "login", transport: "any", outcome: "others", ..Entry::default() };
                let (count, addresses) = (std::mem::take(&mut self.others), std::mem::take(&mut self.addresses).len());
                let since = Some(clock::rfc3339(self.others_since_ms));
                self.write(&Line { at, entry: &entry, repeated: Some(count), since, addresses: Some(addresses) });
            }
        }
    }

    fn write(&mut self, line: &Line<'_>) {
        let json = match serde_json::to_vec(line) {
            Ok(json) => json,
            Err(error) => return tracing::error!(%error, "a line of the audit log could not be made"),
        };
        match self.log.append_line(&json) {
            Ok(Appended::Written | Appended::StillLost) => {}
            Ok(Appended::Resumed { lines_lost }) => {
                tracing::error!(lines_lost, "the audit log is written again; lines are missing");
            }
            Err(error) => tracing::error!(%error, "the audit log is not written"),
        }
    }
}

fn lock(journal: &Mutex<Journal>) -> std::sync::MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(dir: &Path, lines_max: Option<u32>) -> Journal {
        Journal::new(CappedLog::open(&dir.join(FILE)).unwrap(), lines_max)
    }

    fn lines(dir: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(dir.join(FILE)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn login(id: u64, address: &str) -> Entry {
        let (address, outcome) = (address.to_owned(), "not_proven");
        Entry { event: "login", id: Some(id), address, transport: "native", outcome, ..Entry::default() }
    }

    #[test]
    fn what_repeats_itself_is_a_line_and_a_count() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, start) = (journal(dir.path(), None), Instant::now());
        let at = |s: u64| (start + Duration::from_secs(s), i64::try_from(s * 1000).unwrap());
        for s in 0..30 {
            journal.note(login(7, "a"), at(s).0, at(s).1);
        }
        journal.note(login(8, "a"), at(30).0, at(30).1);
        assert_eq!(lines(dir.path()).len(), 2, "the first of each");
        journal.write_counts(at(61).0, at(61).1, false);
        let told = lines(dir.path());
        assert_eq!((told.len(), &told[2]["repeated"], &told[2]["id"]), (3, &29.into(), &7.into()));
        assert_eq!(told[2]["since"], "1970-01-01T00:00:00.000Z");
        journal.note(login(7, "a"), at(62).0, at(62).1);
        assert_eq!(lines(dir.path()).len(), 4, "it is news again");
    }

    #[test]
    fn a_flood_of_refusals_takes_so_many_lines_and_is_counted_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, start) = (journal(dir.path(), Some(REFUSED_LINES_MAX)), Instant::now());
        let flood = 50_000;
        for n in 0..flood {
            journal.note(login(n, &format!("10.0.0.{}", n % 200)), start, 0);
        }
        journal.write_counts(start, 0, true);
        let told = lines(dir.path());
        assert_eq!(told.len(), REFUSED_LINES_MAX as usize + 1);
        let counted: u64 = told.iter().map(|line| line["repeated"].as_u64().unwrap_or(1)).sum();
        assert_eq!(counted, flood);
        let last = &told[told.len() - 1];
        assert_eq!((&last["outcome"], &last["addresses"]), (&"others".into(), &200.into()));
        assert!(journal.repeats.is_empty() && journal.addresses.is_empty());
        // The minute over, there are lines again.
        journal.note(login(1, "b"), start + REPEATED_WITHIN, 0);
        assert_eq!(lines(dir.path()).len(), told.len() + 1);
    }

    #[test]
    fn more_than_can_be_remembered_is_written_where_nothing_may_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, start) = (journal(dir.path(), None), Instant::now());
        for n in 0..REMEMBERED_MAX as u64 + 10 {
            journal.note(login(n, "a"), start, 0);
        }
        assert_eq!((lines(dir.path()).len(), journal.repeats.len()), (REMEMBERED_MAX + 10, REMEMBERED_MAX));
    }
}
