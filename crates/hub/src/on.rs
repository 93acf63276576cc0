//! Commands that the hub runs when something happens: `--on EVENT=CMD`.
//!
//! It promises: what happens is told to the command of that event, if there is one, and to nobody else; one run at a time for
//! each event, with all that happened since the one before began; no shell, a bounded time, and nothing a client says is an
//! argument, a variable or the end of a line ([`happened`]). Who tells of something never waits for a command: it is noted,
//! and a thread of the command's own runs it ([`mirror::after`]).
//!
//! [`watch`] finds out what nobody tells: who stays away or behind, and where deletions are held.

mod happened;
mod watch;

pub(crate) use happened::Happened;
pub(crate) use watch::keep;

use crate::clock;
use crate::presence::Session;
use happened::Happenings;
use mirror::after::{AfterError, Command, Ran, Runs};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wire::answer::OnStatus;

/// What runs, and what is still to be told, has this long at the end, and when another command takes its place.
const AT_END: Duration = Duration::from_secs(5);

/// What a command can be run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnEvent {
    /// A client left the list of active ones and did not come back in time.
    Away,
    /// A client that is here has lacked something for too long.
    Behind,
    /// One id is used by two machines.
    DoubleId,
    /// A guard holds deletions back, at a share or on a client.
    Guard,
}

impl OnEvent {
    /// All of them.
    pub const ALL: [OnEvent; 4] = [OnEvent::Away, OnEvent::Behind, OnEvent::DoubleId, OnEvent::Guard];

    /// Its one word.
    pub fn as_str(self) -> &'static str {
        match self {
            OnEvent::Away => "away",
            OnEvent::Behind => "behind",
            OnEvent::DoubleId => "double-id",
            OnEvent::Guard => "guard",
        }
    }
}

/// Which command is run for what.
pub type OnCommands = BTreeMap<OnEvent, Command>;

/// All commands, and what became of them.
#[derive(Default)]
pub(crate) struct On {
    hands: Mutex<BTreeMap<OnEvent, Hand>>,
    ledgers: [Arc<Mutex<Ledger>>; OnEvent::ALL.len()],
    /// Who left, and is away once it has been for long enough.
    departed: Mutex<HashMap<u64, Departed>>,
}

struct Hand {
    /// As it was set, without what every command of a hub is told.
    command: Command,
    runs: Runs<Happenings>,
}

/// What became of the runs of one event.
#[derive(Clone, Debug, Default)]
struct Ledger {
    runs: u64,
    failed: u64,
    last: Option<wire::ran::Ran>,
}

/// A client that left the list of active ones.
struct Departed {
    at: Instant,
    happened: Happened,
}

/// Runs of one event, for metrics: how many, and how many of them failed.
pub(crate) type Counted = (OnEvent, u64, u64);

impl On {
    /// These are the commands from now on. One that stays as it was goes on; one that is replaced or not there any more is
    /// ended, with a little time for what is still to be told.
    ///
    /// # Errors
    /// When there is no such program, or no thread: all are as they were then.
    pub(crate) fn set(&self, commands: &OnCommands, hub: &str) -> Result<(), AfterError> {
        commands.values().try_for_each(Command::check)?;
        let ended = {
            let mut hands = self.hands();
            let begun: Vec<(OnEvent, Hand)> = commands
                .iter()
                .filter(|(event, command)| hands.get(event).is_none_or(|hand| hand.command != **command))
                .map(|(event, command)| Ok((*event, self.start(*event, command, hub)?)))
                .collect::<Result<_, AfterError>>()?;
            let gone: Vec<OnEvent> = hands.keys().filter(|event| !commands.contains_key(event)).copied().collect();
            let mut ended: Vec<_> = gone.into_iter().filter_map(|event| Some((event, hands.remove(&event)?))).collect();
            ended.extend(begun.into_iter().filter_map(|(event, hand)| Some((event, hands.insert(event, hand)?))));
            ended
        };
        finish(&ended);
        Ok(())
    }

    fn start(&self, event: OnEvent, command: &Command, hub: &str) -> Result<Hand, AfterError> {
        let ledger = Arc::clone(&self.ledgers[event as usize]);
        let mut told = command.clone();
        told.variables.push(("LOCKSTEP_EVENT", event.as_str().into()));
        told.variables.push(("LOCKSTEP_HUB", OsString::from(hub)));
        let program = command.shown();
        let runs = Runs::start(told, Happenings::default(), move |ran| {
            note(&ledger, ran);
            let said = ran.last_words().map(|said| format!(": {said}")).unwrap_or_default();
            let line =
                format!("{program}: {} after {:.3} s, {} events{said}", ran.end, ran.took.as_secs_f64(), ran.told);
            match ran.end.is_good() {
                true => tracing::info!("on {}: {line}", event.as_str()),
                false => tracing::warn!("--on {}: {line}", event.as_str()),
            }
        })?;
        Ok(Hand { command: command.clone(), runs })
    }

    /// Whether there is a command for this.
    pub(crate) fn wants(&self, event: OnEvent) -> bool {
        self.hands().contains_key(&event)
    }

    /// Something happened. Returns at once.
    pub(crate) fn tell(&self, happened: Happened) {
        if let Some(hand) = self.hands().get(&happened.event) {
            tracing::debug!(event = happened.event.as_str(), id = happened.id, "its command is told");
            hand.runs.gather(true, |happenings| happenings.insert(happened));
        }
    }

    /// A client left the list of active ones, `stopping` as the hub ends. A command that came for an answer is nobody who
    /// could be missed.
    pub(crate) fn left(&self, session: &Session, why: &str, stopping: bool) {
        let came_by = session.transport == "native" && session.told().is_nothing();
        if stopping || came_by || session.is_guest() || !self.wants(OnEvent::Away) {
            return;
        }
        let happened = Happened {
            id: Some(session.id),
            name: session.name.clone(),
            address: session.address.clone(),
            transport: session.transport,
            since_ms: Some(session.last_seen_ms()),
            ..Happened::new(OnEvent::Away, why)
        };
        let departed = Departed { at: clock::now(), happened };
        self.departed().insert(session.id, departed);
    }

    /// Those who left `after` ago or earlier, each once.
    fn long_gone(&self, after: Duration, now: Instant) -> Vec<Happened> {
        let is_due = |_: &u64, departed: &mut Departed| now.saturating_duration_since(departed.at) >= after;
        let due: Vec<_> = self.departed().extract_if(is_due).collect();
        due.into_iter().map(|(_, departed)| departed.happened).collect()
    }

    /// All commands, for people.
    pub(crate) fn status(&self) -> Vec<OnStatus> {
        let of = |(event, hand): (&OnEvent, &Hand)| {
            let Ledger { runs, failed, last } = lock(&self.ledgers[*event as usize]).clone();
            OnStatus {
                event: event.as_str().to_owned(),
                program: hand.command.shown(),
                running: hand.runs.is_running(),
                waiting: hand.runs.waiting(),
                runs,
                failed,
                last,
            }
        };
        self.hands().iter().map(of).collect()
    }

    /// How often each was run.
    pub(crate) fn counts(&self) -> [Counted; OnEvent::ALL.len()] {
        OnEvent::ALL.map(|event| {
            let ledger = lock(&self.ledgers[event as usize]);
            (event, ledger.runs, ledger.failed)
        })
    }

    /// Ends all of it.
    pub(crate) fn finish(&self) {
        let hands = std::mem::take(&mut *self.hands());
        finish(&hands.into_iter().collect::<Vec<_>>());
    }

    fn hands(&self) -> MutexGuard<'_, BTreeMap<OnEvent, Hand>> {
        lock(&self.hands)
    }

    fn departed(&self) -> MutexGuard<'_, HashMap<u64, Departed>> {
        lock(&self.departed)
    }
}

fn note(ledger: &Mutex<Ledger>, ran: &Ran) {
    let mut ledger = lock(ledger);
    ledger.runs += 1;
    ledger.failed += u64::from(!ran.end.is_good());
    let (word, code, said) = (ran.end.word(), ran.end.code(), ran.last_words());
    ledger.last = Some(wire::ran::Ran::new(clock::now_ms(), word, code, ran.took, ran.told, said));
}

/// Ends them, all in the same time.
fn finish(hands: &[(OnEvent, Hand)]) {
    let finish = |event: OnEvent, hand: &Hand| {
        let untold = hand.runs.finish(AT_END);
        if untold > 0 {
            tracing::warn!("--on {}: it was not run for {untold} events, as it ends", event.as_str());
        }
    };
    std::thread::scope(|scope| {
        for (event, hand) in hands {
            scope.spawn(move || finish(*event, hand));
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
