//! The command of `--after`: run once both sides are the same again.

use std::time::Duration;

use tree::{Kind, RelPath};

use super::paths::Paths;
use super::{After, AfterError, Killer, Ran, Runs};

/// Runs one command again and again, as [`After`] says, in a thread of its own.
#[derive(Debug)]
pub struct Runner {
    after: After,
    runs: Runs<Paths>,
}

impl Runner {
    /// Starts the thread; `tell` hears of each run when it is over, from that thread.
    ///
    /// # Errors
    /// When there is no such program, or no thread.
    pub fn start(after: After, tell: impl FnMut(&Ran) + Send + 'static) -> Result<Self, AfterError> {
        let runs = Runs::start(after.command.clone(), Paths::new(after.ends), tell)?;
        Ok(Self { after, runs })
    }

    /// `path` was changed. Until [`Runner::same`] says otherwise, the sides are not the same.
    pub fn changed(&self, path: &RelPath, kind: Option<Kind>) {
        let is_about = self.after.is_about(path, kind);
        self.runs.gather(false, |paths| {
            if is_about {
                paths.insert(path);
            }
        });
    }

    /// Whether both sides are the same now.
    pub fn same(&self, same: bool) {
        self.runs.gather(same, |_| {});
    }

    /// How many changed paths no run was told of yet.
    pub fn waiting(&self) -> u64 {
        self.runs.waiting()
    }

    /// Whether it runs at this moment.
    pub fn is_running(&self) -> bool {
        self.runs.is_running()
    }

    /// What ends a run from elsewhere.
    pub fn killer(&self) -> Killer {
        self.runs.killer()
    }

    /// Ends it: what runs, and what may run as both sides are the same, has `within` for it, then it is killed with all
    /// that it started. Returns how many changed paths no run was told of.
    pub fn finish(&self, within: Duration) -> u64 {
        self.runs.finish(within)
    }
}
