//! A command that is run for what gathered, and is told it: for `--after`, what was changed, once both sides are the same
//! again; for a hub's `--on`, what happened.
//!
//! It promises: no shell; one run for what gathered since the one before began; never two at a time; a bounded time;
//! nothing of it left running when the run is over. It knows of no mirror and no hub: whoever keeps a directory tells it
//! of each change and whether both sides are the same.
//!
//! `pace` decides, `run` does it, [`Runs`] is the thread that waits; [`Runner`] is that for changed paths.

mod changes;
mod pace;
mod paths;
mod run;
mod runner;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tree::filter::Patterns;
use tree::path::escape;
use tree::{Kind, RelPath};

pub use changes::Runner;
pub use run::{End, Ran};
pub use runner::{Killer, Runs};

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Found as the shell finds it: by PATH, unless there is a slash in it.
    pub program: OsString,
    /// Its arguments, as they are.
    pub args: Vec<OsString>,
    /// What takes longer is ended.
    pub timeout: Duration,
    /// What its environment has beside ours.
    pub variables: Vec<(&'static str, OsString)>,
}

/// Which command, and after what.
#[derive(Clone, Debug)]
pub struct After {
    /// Which.
    pub command: Command,
    /// Changed paths it is about, in gitignore syntax; all of them if empty.
    pub matching: Patterns,
    /// How each path ends on its standard input.
    pub ends: Ends,
}

/// What one run is told, and what gathers for the next one meanwhile. Bounded by whoever makes it.
pub trait Batch: Send + 'static {
    /// All that gathered; what is left is empty.
    fn take(&mut self) -> Self;
    /// Whether there is nothing to tell.
    fn is_empty(&self) -> bool;
    /// How much there is to tell.
    fn len(&self) -> u64;
    /// What the command reads, a piece at a time.
    fn lines(&self) -> Box<dyn Iterator<Item = Vec<u8>> + '_>;
    /// What the environment of this run has beside that of all.
    fn variables(&self) -> Vec<(&'static str, OsString)> {
        Vec::new()
    }
}

/// How each path ends on the standard input of the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// With a newline, and escaped as in the log, so that no name can end a line.
    #[default]
    Newline,
    /// With a zero byte, which no name has, so that it stands as it is.
    Zero,
}

/// Why there can be no such command.
#[derive(Debug, thiserror::Error)]
pub enum AfterError {
    /// Nothing is called so.
    #[error("there is no program {0}; nothing was done")]
    Missing(String),
    /// No thread could be had for it.
    #[error("cannot start the thread that runs {program}: {error}")]
    Thread {
        /// Which program.
        program: String,
        /// What the system says.
        error: std::io::Error,
    },
}

impl Command {
    /// Looks for the program, so that a mistake in its name shows at once and not with the first change.
    ///
    /// # Errors
    /// When there is none that can be run.
    pub fn check(&self) -> Result<(), AfterError> {
        let places = std::env::var_os("PATH").unwrap_or_default();
        let found = match self.program.as_bytes().contains(&b'/') {
            true => is_program(Path::new(&self.program)),
            false => std::env::split_paths(&places).any(|place| is_program(&place.join(&self.program))),
        };
        if found { Ok(()) } else { Err(AfterError::Missing(self.shown())) }
    }

    /// The program's name, for a person.
    pub fn shown(&self) -> String {
        escape(self.program.as_bytes())
    }
}

impl After {
    /// Whether a change of `path` is one it is about: a pattern matches it, or a directory above it.
    pub fn is_about(&self, path: &RelPath, kind: Option<Kind>) -> bool {
        if self.matching.is_empty() {
            return true;
        }
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let above = slashes.map(|at| (&bytes[..at], true));
        let itself = (bytes, kind == Some(Kind::Dir));
        above.chain([itself]).any(|(path, is_dir)| self.matching.judge(path, is_dir) == Some(true))
    }
}

fn is_program(path: &Path) -> bool {
    let path: PathBuf = if path.as_os_str() == OsStr::new("") { return false } else { path.to_owned() };
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests;
