//! All pairs of one process: started, watched over, asked to end, and told of to whoever asks.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mirror::{Mirror, Stopper};
use tree::path::escape;

use super::output::{Lines, Teller, now};
use super::pair::Pair;
use super::socket::Served;
use super::standing::{Place, Process, Stand, summary};
use super::{Args, status_dir};
use crate::exit::{Exit, Failure};
use crate::logging;
use crate::notify::Notify;
use crate::signals::{self, Signal, Stop};

/// Reads the pairs anew; an error in one line where that cannot be.
pub(crate) type Again = fn() -> Result<Vec<Args>, String>;

/// The service manager is told how it goes at most this often.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Of the time that a service manager waits for a sign of life, the part after which a loop without one counts as stuck.
const WATCHDOG_PART: u32 = 2;
/// A loop that has nothing to do goes round once a second; no manager can ask for more often than this.
const ROUND_MAX: Duration = mirror::live::ROUND_MAX.saturating_mul(2);

/// What the one loop hears.
enum Heard {
    /// A pair has ended; its number.
    Ended(u64),
    /// The process was asked to end.
    Asked(Signal),
    /// The configuration is to be read again.
    Hangup,
}

/// A pair that runs.
struct Running {
    number: u64,
    pair: Pair,
    thread: JoinHandle<Result<Exit, Failure>>,
    /// It was asked to end as the configuration has it no longer, or has this in its place.
    gone: Option<Option<Args>>,
}

/// Mirrors all pairs. `again` is there where they are those of a file: then each line tells its pair, and none stops the
/// others.
///
/// # Errors
/// When the only one, or every one of them, cannot run: then nothing was touched.
pub(super) fn run(all: Vec<Args>, again: Option<Again>) -> Result<Exit, Failure> {
    check_names(&all).map_err(Failure::usage)?;
    let signals = signals::flag()?;
    let (heard, hears) = channel();
    let first = &all[0];
    let lines = Lines::new(logging::start("mirror", &first.log)?);
    let places: Arc<Mutex<Vec<Arc<Place>>>> = Arc::default();
    let mut service = Service {
        lines,
        json: first.json,
        again,
        signals,
        heard,
        running: Vec::new(),
        places,
        served: None,
        notify: Notify::from_environment(),
        own: HashSet::new(),
        number: 0,
        worst: Exit::Done,
        told_at: None,
        is_ready: false,
    };
    service.serve(&all)?;
    service.hear_signals(all.iter().any(|args| args.watch))?;
    service.start(all)?;
    service.go_on(&hears)
}

/// The name of a pair is what tells it from the others.
fn check_names(all: &[Args]) -> Result<(), String> {
    let mut names = HashSet::new();
    match all.iter().map(Args::name).find(|name| !names.insert(name.clone())) {
        Some(twice) => {
            Err(format!("two pairs are called {twice}; give one of them another name, as in name = \"second\""))
        }
        None => Ok(()),
    }
}

struct Service {
    lines: Arc<Lines>,
    json: bool,
    again: Option<Again>,
    signals: &'static Stop,
    heard: Sender<Heard>,
    running: Vec<Running>,
    places: Arc<Mutex<Vec<Arc<Place>>>>,
    served: Option<Served>,
    notify: Option<Notify>,
    own: HashSet<(u64, u64)>,
    number: u64,
    /// The worst of what has ended.
    worst: Exit,
    /// When the service manager was told last.
    told_at: Option<Instant>,
    is_ready: bool,
}

impl Service {
    /// Opens the socket for who asks how it goes. Where nobody said where, a mirror that works is worth more than one that
    /// can be asked.
    fn serve(&mut self, all: &[Args]) -> Result<(), Failure> {
        if !all.iter().any(|args| args.watch) {
            return Ok(());
        }
        let data = all[0].data.as_deref();
        let (places, started_at) = (Arc::clone(&self.places), now());
        let answer = move || Process {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_at: started_at.clone(),
            pairs: lock(&places).iter().map(|place| place.snapshot()).collect(),
        };
        let served = status_dir(data).and_then(|dir| Ok(Served::start(&dir, answer)?));
        match served {
            Ok(served) => {
                self.own.insert(served.id());
                self.served = Some(served);
            }
            Err(failure) if data.is_some() => return Err(failure),
            Err(failure) => {
                self.teller(None).told(&format!("lockstep status --mirror will not find this one: {}", failure.text()));
            }
        }
        Ok(())
    }

    fn hear_signals(&self, watch: bool) -> Result<(), Failure> {
        let (signals, heard) = (self.signals, self.heard.clone());
        // Where a person started it, the end of his terminal is its end.
        if (self.again.is_some() || self.notify.is_some()) && watch {
            signals::hear_hangups()?;
        }
        let listen = move || {
            loop {
                let asked = signals.wait_or_hangup(Duration::from_hours(1));
                let told = match (asked, signals.requested()) {
                    (true, Some(signal)) => heard.send(Heard::Asked(signal)),
                    _ if signals.take_hangup() => heard.send(Heard::Hangup),
                    _ => Ok(()),
                };
                if asked || told.is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("stop".into()).spawn(listen).context("cannot start a thread")?;
        Ok(())
    }

    /// Opens all, and starts those that could be opened; the others are tried again.
    fn start(&mut self, all: Vec<Args>) -> Result<(), Failure> {
        let opened: Vec<(Pair, Result<Mirror, Failure>)> = all
            .into_iter()
            .map(|args| {
                let pair = self.pair(args);
                let opened = pair.open();
                (pair, opened)
            })
            .collect();
        let patient = |pair: &Pair| pair.patient && pair.args.watch;
        if !opened.iter().any(|(_, opened)| opened.is_ok()) {
            let mut failures = opened.into_iter().filter_map(|(pair, opened)| Some((pair, opened.err()?)));
            let (pair, first) = failures.next().context("there is no pair")?;
            pair.refused(&first);
            for (pair, failure) in failures {
                pair.refused(&failure);
                pair.teller.warn(&failure.text());
            }
            return Err(first);
        }
        for (pair, opened) in opened {
            match opened {
                Ok(mirror) => self.spawn(pair, Some(mirror))?,
                Err(_) if patient(&pair) => self.spawn(pair, None)?,
                Err(failure) => {
                    pair.refused(&failure);
                    pair.teller.warn(&failure.text());
                    self.worst = self.worst.or_worse(failure.exit);
                }
            }
        }
        Ok(())
    }

    fn pair(&self, args: Args) -> Pair {
        let stopper = Stopper::default();
        let name = args.name();
        // Until the source can be found the default is a guess.
        let destination = args.destination().unwrap_or_else(|_| {
            let mut beside = args.source.clone().into_os_string();
            beside.push(mirror::mirror::DEFAULT_SUFFIX);
            beside.into()
        });
        let place = Place::new(&name, &args.source, &destination, stopper.pulse());
        let teller = self.teller(self.again.map(|_| name.as_str()));
        let patient = self.again.is_some();
        Pair { args, stopper, place, teller, patient, own: self.own.clone(), signals: self.signals }
    }

    fn teller(&self, pair: Option<&str>) -> Teller {
        Teller::new(&self.lines, self.json, pair)
    }

    fn spawn(&mut self, pair: Pair, opened: Option<Mirror>) -> Result<(), Failure> {
        self.number += 1;
        let number = self.number;
        lock(&self.places).push(Arc::clone(&pair.place));
        let (theirs, tell) = (pair.clone(), Told { place: Arc::clone(&pair.place), heard: self.heard.clone(), number });
        let work = move || {
            let ended = theirs.run(opened);
            drop(tell);
            ended
        };
        let thread = std::thread::Builder::new().name("pair".into()).spawn(work).context("cannot start a thread")?;
        self.running.push(Running { number, pair, thread, gone: None });
        Ok(())
    }

    /// The one loop: until all pairs have ended.
    fn go_on(mut self, hears: &Receiver<Heard>) -> Result<Exit, Failure> {
        let alone = self.again.is_none();
        let mut failure = None;
        while !self.running.is_empty() {
            self.tell_manager();
            match hears.recv_timeout(self.pause()) {
                Ok(Heard::Asked(signal)) => {
                    if let Some(notify) = &mut self.notify {
                        notify.stopping();
                        notify.status("ending: what was changed is followed");
                    }
                    self.running.iter().for_each(|running| running.pair.end(signal));
                }
                Ok(Heard::Hangup) => self.reload(),
                Ok(Heard::Ended(number)) => {
                    if let Err(error) = self.ended(number) {
                        failure = failure.or(Some(error));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("this loop holds a sender itself"),
            }
        }
        drop(self.served);
        match failure {
            Some(failure) if alone => return Err(failure),
            _ => self.lines.finish()?,
        }
        Ok(self.worst)
    }

    fn pause(&self) -> Duration {
        let watchdog = self.notify.as_ref().map(|notify| notify.watchdog());
        match watchdog {
            None => Duration::from_hours(1),
            Some(None) => TELL_EVERY,
            Some(Some(watchdog)) => (watchdog / (2 * WATCHDOG_PART)).clamp(Duration::from_millis(50), TELL_EVERY),
        }
    }

    /// Tells the service manager how it goes, and that it goes on, if that is true of every pair.
    fn tell_manager(&mut self) {
        let Some(notify) = &mut self.notify else { return };
        let places = lock(&self.places).clone();
        if !self.is_ready && places.iter().all(|place| place.is_settled()) {
            self.is_ready = true;
            notify.ready();
        }
        if let Some(watchdog) = notify.watchdog()
            && places.iter().all(|place| place.is_alive((watchdog / WATCHDOG_PART).max(ROUND_MAX)))
        {
            notify.alive();
        }
        let now = Instant::now();
        if self.signals.requested().is_none() && self.told_at.is_none_or(|told_at| now >= told_at + TELL_EVERY) {
            self.told_at = Some(now);
            notify.status(&summary(&places));
        }
    }

    /// Takes what a pair that has ended leaves, and starts what comes in its place.
    ///
    /// # Errors
    /// When it could not run.
    fn ended(&mut self, number: u64) -> Result<(), Failure> {
        let Some(at) = self.running.iter().position(|running| running.number == number) else { return Ok(()) };
        let Running { pair, thread, gone, .. } = self.running.remove(at);
        let result = thread.join().unwrap_or_else(|_| {
            Err(Failure::could_not_run(anyhow::anyhow!("its thread failed; please report what stands above")))
        });
        if let Some(next) = gone {
            lock(&self.places).retain(|place| !Arc::ptr_eq(place, &pair.place));
            pair.teller.note("note", "ended, as the configuration has it");
            return match next {
                Some(args) if self.signals.requested().is_none() => self.spawn(self.pair(args), None),
                _ => Ok(()),
            };
        }
        match result {
            Ok(exit) => self.worst = self.worst.or_worse(exit),
            Err(failure) => {
                self.worst = self.worst.or_worse(failure.exit);
                pair.refused(&failure);
                if self.again.is_some() {
                    pair.teller.warn(&failure.text());
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Opens the log anew, and reads the configuration again, where there is one: what is as it was goes on undisturbed.
    fn reload(&mut self) {
        let teller = self.teller(None);
        self.lines.reopen_log();
        if let Some(notify) = &self.notify {
            notify.reloading();
        }
        let read = self.again.map(|again| again().and_then(|all| check_names(&all).map(|()| all)));
        match read {
            None => {}
            Some(Ok(all)) => self.change_to(all, &teller),
            Some(Err(why)) => teller.told(&format!("the configuration stays as it was: {}", escape(why.as_bytes()))),
        }
        if let Some(notify) = &self.notify {
            notify.ready();
        }
    }

    fn change_to(&mut self, all: Vec<Args>, teller: &Teller) {
        let mut new: Vec<Args> = Vec::new();
        let mut kept = HashSet::new();
        for args in all {
            let same_name = |running: &&mut Running| running.pair.args.name() == args.name();
            match self.running.iter_mut().find(same_name) {
                Some(running) if running.gone.is_none() && running.pair.args == args => {
                    kept.insert(running.number);
                }
                Some(running) => {
                    kept.insert(running.number);
                    running.gone = Some(Some(args));
                    running.pair.end(Signal::Terminate);
                }
                None => new.push(args),
            }
        }
        for running in self.running.iter_mut().filter(|running| !kept.contains(&running.number)) {
            running.gone = Some(None);
            running.pair.end(Signal::Terminate);
        }
        let gone = self.running.iter().filter(|running| running.gone.is_some()).count();
        let text = format!("read the configuration: {} new pairs, {gone} changed or gone", new.len());
        teller.note("note", &text);
        for args in new {
            let pair = self.pair(args);
            let (name, ended) = (pair.args.name(), |place: &Place| place.state() == Stand::Ended);
            lock(&self.places).retain(|place| !(ended(place) && place.snapshot().name == name));
            if let Err(failure) = self.spawn(pair, None) {
                teller.told(&failure.text());
            }
        }
    }
}

/// Says that a pair has ended, however it does.
struct Told {
    place: Arc<Place>,
    heard: Sender<Heard>,
    number: u64,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.place.settle();
        self.place.is_at(Stand::Ended, None);
        // Nobody listens any more once all has ended.
        self.heard.send(Heard::Ended(self.number)).ok();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
