//! The audit log: who came in, who was turned away, and who changed what anybody may. JSON lines in the data directory.
//!
//! Two files, so that no flood of the one pushes out the other: [`FILE`] has what happened, [`REFUSED_FILE`] who was turned away.
//! Each is capped and moves its parts as every log does ([`vitals::log`]). What repeats itself within a while is one line at first and
//! another with the number of the rest; of what is refused so many lines a minute are written, and the others counted in one. So
//! whatever happens, it is on record that it did, how often, and from how many addresses. Of what a client, or a program with a token,
//! does by coming in, so many lines a minute are written as well, and the others of it counted: no client alone pushes out what others
//! did. What somebody is told to have done (`by`) always has its line: who may not administer does little of that.
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
use vitals::log::{Appended, CappedLog, LogError, LogOptions};
use wire::id::ClientId;
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
/// Lines within [`REPEATED_WITHIN`] of one client, or of one token, that comes in; the others are counted.
const LINES_OF_ONE_MAX: u32 = 20;
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
        let journal = |file, lines_max| {
            let options = LogOptions { private: true, ..LogOptions::default() };
            let log = CappedLog::open_with(&data_dir.join(file), options)?;
            Ok(Mutex::new(Journal::new(log, lines_max)))
        };
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
            Note::BadInvite { id, .. } => ("login", id.map(ClientId::get)),
            _ => ("login", None),
        };
        // Whoever came in without a place among the active ones is noted by the hour; the others by their login.
        if event == "proved" && (transport != "http" || !matches!(step.then, Then::In(_))) {
            return;
        }
        let outcome = refused.unwrap_or("ok");
        let detail = match note {
            Note::Proved { .. } => String::new(),
            // Known by when it was made: its line tells what for, and its code is in no log.
            Note::BadInvite { made_at_ms, .. } => format!("{note}; it was made at {}", clock::rfc3339(*made_at_ms)),
            note => note.to_string(),
        };
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
    /// Who came in since; it wrote a line each, so there are no more of them.
    own: HashMap<Comer, Own>,
}

/// A client that came in, or a token that was used.
type Comer = (Option<u64>, Option<String>);

/// What one of them did by coming in.
#[derive(Debug, Default)]
struct Own {
    lines: u32,
    /// What found no room, and what the first of that was.
    others: u64,
    others_since_ms: i64,
    event: &'static str,
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
            own: HashMap::new(),
        }
    }

    fn note(&mut self, entry: Entry, now: Instant, now_ms: i64) {
        // What every request of a program says is counted without a look at all the others.
        if let Some(repeat) = self.repeats.get_mut(&entry).filter(|repeat| !is_over(&entry, repeat, now)) {
            repeat.count += 1;
            return;
        }
        self.write_counts(now, now_ms, false);
        self.since.get_or_insert(now);
        if self.lines_max.is_none() && entry.by.is_none() {
            let own = self.own.entry((entry.id, entry.token.clone())).or_default();
            if own.lines >= LINES_OF_ONE_MAX {
                if own.others == 0 {
                    (own.others_since_ms, own.event) = (now_ms, entry.event);
                }
                own.others += 1;
                return;
            }
            own.lines += 1;
        }
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
        let over = |entry: &Entry, repeat: &Repeat| all || is_over(entry, repeat, now);
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
            for ((id, token), own) in std::mem::take(&mut self.own) {
                if own.others > 0 {
                    let (event, detail) = (own.event, "and others of it".to_owned());
                    let entry = Entry { event, id, token, transport: "any", outcome: "ok", detail, ..Entry::default() };
                    let (repeated, since) = (Some(own.others), Some(clock::rfc3339(own.others_since_ms)));
                    self.write(&Line { at: at.clone(), entry: &entry, repeated, since, addresses: None });
                }
            }
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

/// Whether it would be news again.
fn is_over(entry: &Entry, repeat: &Repeat, now: Instant) -> bool {
    let within = if entry.event == "proved" { PROVED_WITHIN } else { REPEATED_WITHIN };
    now.duration_since(repeat.first) >= within
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
    fn a_client_that_comes_in_from_everywhere_takes_so_many_lines_and_pushes_out_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, start) = (journal(dir.path(), None), Instant::now());
        let came = |id: u64, n: u64| Entry { event: "login", outcome: "ok", ..login(id, &format!("2001:db8::{n:x}")) };
        let flood = 50_000;
        for n in 0..flood {
            journal.note(came(7, n), start, 0);
        }
        // Others, and what an administrator did to it, are on record as ever.
        journal.note(came(8, 1), start, 0);
        let renamed = |n: u64| Entry { event: "changed", by: Some(0), detail: n.to_string(), ..came(7, 1) };
        (0..100).for_each(|n| journal.note(renamed(n), start, 0));
        journal.write_counts(start + REPEATED_WITHIN, 60_000, false);
        let told = lines(dir.path());
        let of = |event: &str, id: u64| told.iter().filter(|line| line["event"] == event && line["id"] == id).count();
        assert_eq!((of("login", 7), of("login", 8)), (LINES_OF_ONE_MAX as usize + 1, 1));
        assert_eq!(of("changed", 7), 100);
        let counted = told.iter().filter(|line| line["event"] == "login" && line["id"] == 7);
        assert_eq!(counted.map(|line| line["repeated"].as_u64().unwrap_or(1)).sum::<u64>(), flood);
        assert!(journal.own.is_empty() && told.iter().all(|line| line["outcome"] == "ok"));
        // The minute over, it has lines again.
        journal.note(came(7, flood), start + REPEATED_WITHIN, 60_000);
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
