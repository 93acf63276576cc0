//! Whether what is to be a service would start: looked at before anything is written, since afterwards nobody watches.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::unit::What;
use crate::exit::Failure;

/// Directories that a service of the system has for itself alone, unless it keeps something there.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
/// Directories of people, which a monitor's service does not see.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

fn is_in(path: &Path, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// What a command reads and writes beyond what is its own.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// What has to be there: a share, a source, a certificate.
    pub(crate) reads: Vec<PathBuf>,
    /// Directories that it writes; what is missing is made.
    pub(crate) writes: Vec<PathBuf>,
}

impl Paths {
    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.reads.iter().chain(&self.writes)
    }

    /// Whether a service finds them.
    ///
    /// # Errors
    /// Which it would not, and what to do: 2, since the command line is wrong.
    pub(super) fn check(&self, what: What, user: bool) -> Result<(), Failure> {
        if let Some(path) = self.all().find(|path| !path.is_absolute()) {
            let path = path.display();
            return Err(Failure::usage(format!(
                "{path}: a service is started in no directory of yours; begin it with /"
            )));
        }
        let hidden = |path: &&PathBuf| is_in(path, &HOMES) || is_in(path, &TEMPORARY);
        match self.all().find(hidden) {
            Some(path) if what == What::Monitor && !user => {
                let path = path.display();
                let why = "the monitor's service sees nobody's home, and has a /tmp of its own; put it elsewhere";
                Err(Failure::usage(format!("{path}: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether some of it is where everybody's temporary files are.
    pub(super) fn are_temporary(&self) -> bool {
        self.all().any(|path| is_in(path, &TEMPORARY))
    }

    /// Whether what has to be there is there.
    ///
    /// # Errors
    /// What is not: 3, as the command itself would end.
    pub(super) fn are_there(&self) -> Result<(), Failure> {
        let missing = self.reads.iter().find_map(|path| Some((path, std::fs::metadata(path).err()?)));
        missing.map_or(Ok(()), |(path, error)| {
            let error = tree::fsx::Error::from_io("find", path, &error);
            Err(Failure::could_not_run(anyhow::Error::new(error).context("the service would not start")))
        })
    }
}

/// Whether there is such a user here; nobody to ask counts as yes.
///
/// # Errors
/// When there is not: systemd would say so at the start, and to nobody.
pub(super) fn user(name: &str) -> Result<(), Failure> {
    match Command::new("id").args(["-u", "--", name]).output() {
        Ok(output) if !output.status.success() => {
            Err(Failure::usage(format!("--as {name}: there is no such user on this machine; make it first")))
        }
        _ => Ok(()),
    }
}
