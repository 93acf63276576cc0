//! One pair: opened, kept, and told of, in a thread of its own.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mirror::{Action, Event, Mirror, MirrorOptions, Outcome, Report, Runner, State, Stopper};

use super::output::{Output, Teller};
use super::standing::{Place, Stand};
use super::{Args, diff};
use crate::exit::{Exit, Failure};
use crate::signals::{Signal, Stop};

/// Older parts of the log, which lie beside it.
const LOG_PARTS: u32 = 4;
/// The pause before a pair that could not start is tried again; it doubles up to [`AGAIN_MAX`].
const AGAIN_FIRST: Duration = Duration::from_millis(250);
/// The longest such pause.
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How often a pair that waits looks whether it was asked to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// At an end in order the command of `--after` has this long, for what it runs for and what it is still to be told of.
const AFTER_AT_END: Duration = Duration::from_secs(5);

/// What a pair is, and how it is asked to end.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) args: Args,
    pub(super) stopper: Stopper,
    pub(super) place: Arc<Place>,
    pub(super) teller: Teller,
    /// A pair among others goes on trying where one alone would end.
    pub(super) patient: bool,
    /// Files that are our own wherever they lie (device, inode).
    pub(super) own: HashSet<(u64, u64)>,
    pub(super) signals: &'static Stop,
}

impl Pair {
    /// Asks for the end, as `signal` says.
    pub(super) fn end(&self, signal: Signal) {
        match signal {
            // A service that is told to end leaves both sides the same; a person does not wait for that.
            Signal::Terminate if self.args.watch => return self.stopper.drain(),
            Signal::Terminate | Signal::Interrupt => self.stopper.stop(),
        }
        if let Some(runner) = self.place.runner() {
            runner.killer().kill();
        }
    }

    /// Opens, checks and locks both directories.
    ///
    /// # Errors
    /// When they cannot be mirrored; nothing was touched.
    pub(super) fn open(&self) -> Result<Mirror, Failure> {
        let args = &self.args;
        let mut own = self.own.clone();
        own.extend(args.modes.state.as_deref().and_then(id_of));
        own.extend(args.log.place("mirror")?.as_deref().map(own_files).unwrap_or_default());
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
        let destination = args.destination().map_err(Failure::could_not_run)?;
        if let Some(command) = args.after.command(Vec::new())? {
            // Before anything is touched.
            command.command.check().map_err(Failure::could_not_run)?;
        }
        Mirror::open(&args.source, &destination, options).map_err(Failure::could_not_run)
    }

    /// Keeps the pair, until it is done or asked to end. `opened` is what was opened before.
    ///
    /// # Errors
    /// When it cannot run, and is not patient.
    pub(super) fn run(&self, mut opened: Option<Mirror>) -> Result<Exit, Failure> {
        let mut pause = AGAIN_FIRST;
        let mut told: Option<String> = None;
        loop {
            let began = Instant::now();
            let failure = match opened.take().map_or_else(|| self.open(), Ok).and_then(|mirror| self.keep(mirror)) {
                Err(failure) if self.patient && self.args.watch => failure,
                ended => return ended,
            };
            let why = failure.text();
            self.place.is_at(Stand::CannotStart, Some(why.clone()));
            // The others are not to wait for it.
            self.place.settle();
            if told.as_ref() != Some(&why) {
                self.refused(&failure);
                self.teller.told(&format!("{why}; it is tried again"));
                told = Some(why);
            }
            if began.elapsed() > AGAIN_MAX {
                pause = AGAIN_FIRST;
            }
            if !self.wait(pause) {
                return Err(failure);
            }
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }

    /// Whether to go on after `span`.
    fn wait(&self, span: Duration) -> bool {
        let until = Instant::now() + span;
        loop {
            self.place.beat();
            if self.stopper.is_draining() || self.stopper.flag().load(Ordering::Relaxed) {
                return false;
            }
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return true,
                left => std::thread::sleep(left.min(LOOK_EVERY)),
            }
        }
    }

    fn keep(&self, mut mirror: Mirror) -> Result<Exit, Failure> {
        let Self { args, place, teller, .. } = self;
        if args.diff {
            return Ok(diff::run(&mut mirror, teller));
        }
        mirror.stop_on(self.stopper.flag());
        let destination = args.destination().map_err(Failure::could_not_run)?;
        let runner = self.runner(&destination)?;
        place.goes_to(&destination);
        let mut out = Output::new(teller.clone(), args.dry_run, &destination);
        let known = mirror.notes().len();
        mirror.notes().iter().for_each(|note| teller.told(note));
        let outcome = if args.watch {
            let watched = mirror.watch(self.stopper.clone(), &mut |report| {
                self.report(&report, &mut out, runner.as_deref());
            });
            watched.map_err(Failure::could_not_run)?
        } else {
            let outcome = mirror.once(&mut |event| {
                place.beat();
                self.event(event, &mut out, runner.as_deref());
            });
            mirror.notes()[known..].iter().for_each(|note| teller.told(note));
            out.pass(&outcome);
            outcome
        };
        let after = runner.map_or(Exit::Done, |runner| self.end_runner(&runner, &outcome));
        place.set_runner(None);
        let asked = self.signals.requested();
        Ok(match asked {
            // A service that was told to end has done all it was asked for.
            Some(Signal::Terminate) if args.watch => exit_of(&outcome),
            Some(_) => Exit::Interrupted,
            None => exit_of(&outcome).or_worse(after),
        })
    }

    fn report(&self, report: &Report<'_>, out: &mut Output, runner: Option<&Runner>) {
        match report {
            Report::Event(event) => self.event(event, out, runner),
            Report::Pass(outcome) => {
                out.pass(outcome);
                self.place.pass(&outcome.counts);
            }
            Report::Standing(standing) => {
                self.place.stands(standing);
                if let Some(runner) = runner {
                    runner.same(standing.state == State::InStep);
                }
            }
            Report::Watching => {
                self.teller.note("watching", "following changes");
                self.place.settle();
            }
            Report::Note(text) => self.teller.told(text),
        }
    }

    fn event(&self, event: &Event<'_>, out: &mut Output, runner: Option<&Runner>) {
        out.event(event);
        self.place.event(event);
        if let (Some(runner), Action::Copied | Action::Updated | Action::Deleted) = (runner, event.action) {
            runner.changed(event.path, event.kind);
        }
    }

    /// What runs the command of `--after`, if there is one.
    fn runner(&self, destination: &Path) -> Result<Option<Arc<Runner>>, Failure> {
        let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into_os_string();
        let variables = vec![("LOCKSTEP_SOURCE", full(&self.args.source)), ("LOCKSTEP_DESTINATION", full(destination))];
        let Some(command) = self.args.after.command(variables)? else { return Ok(None) };
        if self.args.dry_run {
            self.teller.told("--after: in a dry run nothing is run");
            return Ok(None);
        }
        let program = command.command.shown();
        let (teller, place) = (self.teller.clone(), Arc::clone(&self.place));
        let runner = Runner::start(command, move |ran| {
            place.ran(ran);
            teller.after(ran);
        });
        let runner = Arc::new(runner.map_err(Failure::could_not_run)?);
        self.place.set_runner(Some((Arc::clone(&runner), program)));
        Ok(Some(runner))
    }

    /// Has the command told of what is left, where there is time for that. Worse than done where it failed after a single
    /// run.
    fn end_runner(&self, runner: &Runner, outcome: &Outcome) -> Exit {
        let same = exit_of(outcome) == Exit::Done && !outcome.stopped;
        let within = match self.args.watch {
            true if self.stopper.flag().load(Ordering::Relaxed) => Duration::ZERO,
            true => AFTER_AT_END,
            false => {
                runner.same(same);
                self.args.after.timeout() + AFTER_AT_END
            }
        };
        let untold = runner.finish(within);
        if untold > 0 {
            let why = if same { "there was no more time" } else { "the two sides are not the same" };
            self.teller.told(&format!("--after: not run for {untold} changed paths, as {why}"));
        }
        let last = self.place.snapshot().after.and_then(|after| after.last);
        let failed = !self.args.watch && last.is_some_and(|last| last.code != Some(0));
        if failed { Exit::SomeFailed } else { Exit::Done }
    }

    /// Logs why nothing was done.
    pub(super) fn refused(&self, failure: &Failure) {
        self.teller.log(&format!("refused {}", failure.text()));
    }
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
