//! Where each pair stands: written by its loop, read by `lockstep status --mirror` and the service manager.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mirror::after::Ran;
use mirror::{Action, Counts, Event, Pulse, Runner, Standing, State};
use serde::{Deserialize, Serialize};
use tree::path::escape;

use super::output::now;

/// One process that mirrors, as it answers who asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The release.
    pub(crate) version: String,
    /// Its process id.
    pub(crate) pid: u32,
    /// When it was started.
    pub(crate) started_at: String,
    /// What it mirrors.
    pub(crate) pairs: Vec<PairStatus>,
}

/// One pair.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PairStatus {
    /// What log and status call it.
    pub(crate) name: String,
    /// The source, as given; escaped, as all paths here.
    pub(crate) source: String,
    /// The destination, as given or by default.
    pub(crate) destination: String,
    /// What it is at.
    pub(crate) state: Stand,
    /// Since when.
    pub(crate) since: String,
    /// Why it is away, or cannot start.
    pub(crate) why: Option<String>,
    /// How long ago its loop last gave a sign of life.
    pub(crate) silent_ms: u64,
    /// Entries of the source looked at, while the first pass goes on.
    pub(crate) looked_at: Option<u64>,
    /// Entries of the destination, once the first pass is over.
    pub(crate) entries: Option<u64>,
    /// Entries copied since it began.
    pub(crate) copied: u64,
    /// Entries updated since it began.
    pub(crate) updated: u64,
    /// Entries deleted since it began.
    pub(crate) deleted: u64,
    /// Bytes written since it began.
    pub(crate) bytes: u64,
    /// Passes since it began.
    pub(crate) passes: u64,
    /// Passes among them that compared everything.
    pub(crate) walks: u64,
    /// How often the kernel lost events.
    pub(crate) overflows: u64,
    /// Watched directories.
    pub(crate) watches: u64,
    /// Directories that are polled, as they have no watch.
    pub(crate) polled: u64,
    /// The last change that was applied.
    pub(crate) last_change: Option<Change>,
    /// Entries that fail at present.
    pub(crate) problems: u64,
    /// The first of them.
    pub(crate) named: Vec<Named>,
    /// Deletions that a guard holds back.
    pub(crate) held: Option<u64>,
    /// The command of `--after`, if there is one.
    pub(crate) after: Option<AfterStatus>,
}

/// What a pair is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stand {
    /// Nothing was looked at yet.
    #[default]
    Starting,
    /// It could not be opened, and is tried again.
    CannotStart,
    /// The first pass is not over.
    FirstPass,
    /// Both sides are the same, and changes are followed.
    Watching,
    /// Changes are on their way.
    Behind,
    /// Some entries fail; all else is the same.
    Problems,
    /// Some entries fail because the destination's disk is full.
    WaitingForSpace,
    /// A guard holds deletions back; all else is the same.
    Guard,
    /// A side is away; nothing is copied or deleted.
    Away,
    /// It is over.
    Ended,
}

impl Stand {
    /// For a person.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::CannotStart => "cannot start",
            Self::FirstPass => "first pass",
            Self::Watching => "watching, both sides are the same",
            Self::Behind => "behind",
            Self::Problems => "watching, some entries fail",
            Self::WaitingForSpace => "waiting for space",
            Self::Guard => "watching, deletions are held back",
            Self::Away => "away",
            Self::Ended => "ended",
        }
    }

    fn of(standing: &Standing) -> Self {
        match standing.state {
            State::Scanning => Self::FirstPass,
            State::Lost => Self::Away,
            State::Behind => Self::Behind,
            State::Held => Self::Guard,
            State::Problems if standing.lacks_room => Self::WaitingForSpace,
            State::Problems => Self::Problems,
            State::InStep => Self::Watching,
        }
    }
}

/// A change that was applied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Change {
    /// When.
    pub(crate) time: String,
    /// `copied`, `updated` or `deleted`.
    pub(crate) action: String,
    /// Which entry.
    pub(crate) path: String,
}

/// An entry that fails.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Named {
    /// Which.
    pub(crate) path: String,
    /// Why, and what to do.
    pub(crate) error: String,
}

/// The command of `--after`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AfterStatus {
    /// Its program.
    pub(crate) program: String,
    /// Whether it runs now.
    pub(crate) running: bool,
    /// Changed paths that it was not told of yet.
    pub(crate) waiting: u64,
    /// How often it was run.
    pub(crate) runs: u64,
    /// How many of these did not end with 0.
    pub(crate) failed: u64,
    /// The last run.
    pub(crate) last: Option<LastRun>,
}

/// One run of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LastRun {
    /// When it ended.
    pub(crate) time: String,
    /// How: `exited`, `signaled`, `timed-out`, `stopped`, `not-started`.
    pub(crate) end: String,
    /// Its exit code, if it has one.
    pub(crate) code: Option<i32>,
    /// How long it took.
    pub(crate) ms: u64,
    /// How many changed paths it was told.
    pub(crate) paths: u64,
    /// The last line of its standard error.
    pub(crate) said: Option<String>,
}

/// The place where one pair says how it stands.
#[derive(Debug, Default)]
pub(super) struct Place {
    status: Mutex<PairStatus>,
    /// Entries looked at in the first pass.
    looked_at: AtomicU64,
    pulse: Pulse,
    /// Its first pass is over, or will not be soon.
    settled: AtomicBool,
    runner: Mutex<Option<Arc<Runner>>>,
}

impl Place {
    pub(super) fn new(name: &str, source: &Path, destination: &Path, pulse: &Pulse) -> Arc<Self> {
        let (source, destination) = (shown(source), shown(destination));
        let status = PairStatus { name: name.to_owned(), source, destination, since: now(), ..PairStatus::default() };
        Arc::new(Self { status: Mutex::new(status), pulse: pulse.clone(), ..Self::default() })
    }

    /// Where it goes, once that is known for sure.
    pub(super) fn goes_to(&self, destination: &Path) {
        self.lock().destination = shown(destination);
    }

    /// The status as of now.
    pub(super) fn snapshot(&self) -> PairStatus {
        let mut status = self.lock().clone();
        status.silent_ms = u64::try_from(self.pulse.age().as_millis()).unwrap_or(u64::MAX);
        if status.state == Stand::FirstPass {
            status.looked_at = Some(self.looked_at.load(Ordering::Relaxed));
        }
        if let (Some(after), Some(runner)) = (&mut status.after, self.runner()) {
            (after.running, after.waiting) = (runner.is_running(), runner.waiting());
        }
        status
    }

    /// What it is at.
    pub(super) fn state(&self) -> Stand {
        self.lock().state
    }

    /// Whether a sign of life is no older than `most`; one that is over gives none.
    pub(super) fn is_alive(&self, most: Duration) -> bool {
        self.pulse.age() <= most || self.state() == Stand::Ended
    }

    /// A sign of life where no live mirror gives one.
    pub(super) fn beat(&self) {
        self.pulse.beat();
    }

    /// Whether its first pass is over, or nobody should wait for it.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    pub(super) fn runner(&self) -> Option<Arc<Runner>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has a command that is run after changes, from now on or no longer.
    pub(super) fn set_runner(&self, runner: Option<(Arc<Runner>, String)>) {
        let (runner, program) = runner.unzip();
        if let Some(program) = program {
            self.lock().after.get_or_insert_default().program = program;
        }
        *self.runner.lock().unwrap_or_else(PoisonError::into_inner) = runner;
    }

    pub(super) fn is_at(&self, state: Stand, why: Option<String>) {
        enter(&mut self.lock(), state, why);
    }

    /// One result.
    pub(super) fn event(&self, event: &Event<'_>) {
        self.looked_at.fetch_add(1, Ordering::Relaxed);
        let action = match event.action {
            Action::Copied => "copied",
            Action::Updated => "updated",
            Action::Deleted => "deleted",
            _ => return,
        };
        let path = if event.path.is_root() { ".".to_owned() } else { escape(event.path.as_bytes()) };
        self.lock().last_change = Some(Change { time: now(), action: action.into(), path });
    }

    /// A pass is over.
    pub(super) fn pass(&self, counts: &Counts) {
        let mut status = self.lock();
        status.entries = Some(match status.entries {
            Some(before) => (before + counts.copied).saturating_sub(counts.deleted),
            // The first pass has met all of them, and the root, which is none.
            None => (counts.skipped + counts.updated + counts.left + counts.copied).saturating_sub(1),
        });
        status.copied += counts.copied;
        status.updated += counts.updated;
        status.deleted += counts.deleted;
        status.bytes += counts.bytes;
    }

    /// Where a live mirror stands.
    pub(super) fn stands(&self, standing: &Standing) {
        let mut status = self.lock();
        let status = &mut *status;
        enter(status, Stand::of(standing), standing.lost.clone());
        (status.passes, status.walks) = (standing.passes, standing.walks);
        (status.overflows, status.watches) = (standing.overflows, standing.watches);
        (status.polled, status.problems) = (standing.polled, standing.problems);
        status.held = standing.held.map(|held| held.deletes);
        let named = |(path, error): &(tree::RelPath, String)| Named {
            path: escape(path.as_bytes()),
            error: escape(error.as_bytes()),
        };
        status.named = standing.named.iter().map(named).collect();
    }

    /// A run of the command is over.
    pub(super) fn ran(&self, ran: &Ran) {
        let mut status = self.lock();
        let after = status.after.get_or_insert_default();
        after.runs += 1;
        after.failed += u64::from(!ran.end.is_good());
        after.last = Some(LastRun {
            time: now(),
            end: ran.end.word().into(),
            code: ran.end.code(),
            ms: u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX),
            paths: ran.told,
            said: ran.said.clone(),
        });
    }

    fn lock(&self) -> MutexGuard<'_, PairStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As it is wherever it is read.
fn shown(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    escape(path.as_os_str().as_encoded_bytes())
}

fn enter(status: &mut PairStatus, state: Stand, why: Option<String>) {
    if status.state != state {
        (status.state, status.since) = (state, now());
    }
    status.why = why;
}

/// All pairs in one line, for a service manager.
pub(super) fn summary(places: &[Arc<Place>]) -> String {
    let states: Vec<PairStatus> = places.iter().map(|place| place.snapshot()).collect();
    if let [one] = &states[..] {
        let looked_at = one.looked_at.map(|n| format!(", {n} entries so far")).unwrap_or_default();
        return format!("{}{looked_at}", one.state.words());
    }
    let same = states.iter().filter(|status| status.state == Stand::Watching).count();
    let mut line = format!("{} pairs, {same} the same", states.len());
    for status in states.iter().filter(|status| status.state != Stand::Watching) {
        line.push_str(&format!("; {}: {}", status.name, status.state.words()));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_alone_is_told_without_its_name_and_several_by_what_is_not_the_same() {
        let place = |name: &str| Place::new(name, Path::new("/s"), Path::new("/d"), &Pulse::default());
        let (one, other) = (place("one"), place("other"));
        one.stands(&Standing { state: State::InStep, ..Standing::default() });
        assert_eq!(summary(&[Arc::clone(&one)]), "watching, both sides are the same");
        other.stands(&Standing { state: State::Lost, lost: Some("gone".into()), ..Standing::default() });
        assert_eq!(summary(&[one, Arc::clone(&other)]), "2 pairs, 1 the same; other: away");
        assert_eq!(other.snapshot().why.as_deref(), Some("gone"));
        other.stands(&Standing { state: State::Problems, lacks_room: true, ..Standing::default() });
        assert_eq!((other.state(), other.snapshot().why), (Stand::WaitingForSpace, None));
    }
}
