//! `lockstep join --after`: the command that is run once what the hub changed here is in place. It is named on this machine
//! alone; a hub has no way to say one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agent::{Event, Kept, LastRuns};
use mirror::after::AfterError;
use mirror::{After, Runner};

use crate::after::{self, AfterArgs};
use crate::exit::Failure;

/// At the end it has this long for what it runs for, and for what it is still to be told of.
const AT_END: Duration = Duration::from_secs(5);

/// One runner for each share and each pattern of values.
pub(super) struct Hands {
    command: Option<After>,
    runs: LastRuns,
    runners: Mutex<HashMap<Kept, Runner>>,
}

impl Hands {
    /// # Errors
    /// When there is no such program.
    pub(super) fn new(args: &AfterArgs) -> Result<Self, Failure> {
        let command = args.command(Vec::new())?;
        if let Some(command) = &command {
            command.command.check().map_err(Failure::could_not_run)?;
        }
        Ok(Self { command, runs: LastRuns::default(), runners: Mutex::default() })
    }

    /// What became of the last runs.
    pub(super) fn runs(&self) -> LastRuns {
        self.runs.clone()
    }

    /// Hears of everything that happens.
    pub(super) fn hear(&self, event: &Event) {
        match event {
            Event::Applied { of, path, .. } | Event::Reverted { of, path } => {
                self.with(of, |runner| runner.changed(path, None));
            }
            Event::Settled { of } => self.with(of, |runner| runner.same(true)),
            _ => {}
        }
    }

    /// Has it told of what is left, as far as there is time.
    pub(super) fn finish(&self) {
        for (of, runner) in self.runners.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            let untold = runner.finish(AT_END);
            if untold > 0 {
                tracing::warn!("{of}: --after was not run for {untold} changed paths, as the agent ended");
            }
        }
    }

    fn with(&self, of: &Kept, tell: impl FnOnce(&Runner)) {
        let Some(command) = &self.command else { return };
        let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let runner = match runners.entry(of.clone()) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => match start(command, of, &self.runs) {
                Ok(runner) => place.insert(runner),
                Err(error) => return tracing::error!("{of}: --after: {error}"),
            },
        };
        tell(runner);
    }
}

fn start(command: &After, of: &Kept, runs: &LastRuns) -> Result<Runner, AfterError> {
    let variable = match of {
        Kept::Share(_) => "LOCKSTEP_SHARE",
        Kept::Values(_) => "LOCKSTEP_VALUES",
    };
    let mut command = command.clone();
    command.command.variables = vec![(variable, of.name().into())];
    let (of, runs) = (of.clone(), runs.clone());
    Runner::start(command, move |ran| {
        runs.note(&of, ran);
        let line = after::line(ran);
        if ran.end.is_good() {
            tracing::info!("{of}: after: {line}");
        } else {
            tracing::warn!("{of}: --after: {line}");
        }
    })
}
