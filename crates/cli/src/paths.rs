//! Where files live when nobody says otherwise. Every path the program writes by default is made here.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Where data of all users lives; one directory for each part.
const SYSTEM_DATA: &str = "/var/lib/lockstep";
/// Where logs of a system-wide run live; one file for each command.
const SYSTEM_LOGS: &str = "/var/log/lockstep";

/// The default `--data` of a part (`hub` or `agent`): for root system-wide, else below the state directory of the user.
///
/// # Errors
/// When the user has no home: `--data` must say where.
pub(crate) fn default_data(part: &str) -> Result<PathBuf, Failure> {
    Here::now().data(part).ok_or_else(|| homeless("--data DIR"))
}

/// The default `--log` of a command.
///
/// # Errors
/// When the user has no home: `--log` must say where.
pub(crate) fn default_log(command: &str) -> Result<PathBuf, Failure> {
    Here::now().log(command).ok_or_else(|| homeless("--log FILE (or --log none)"))
}

/// What the defaults depend on.
struct Here {
    root: bool,
    xdg_state_home: Option<OsString>,
    home: Option<OsString>,
}

impl Here {
    fn now() -> Self {
        Self {
            root: rustix::process::geteuid().is_root(),
            xdg_state_home: env::var_os("XDG_STATE_HOME"),
            home: env::var_os("HOME"),
        }
    }

    fn data(&self, part: &str) -> Option<PathBuf> {
        if self.root { Some(Path::new(SYSTEM_DATA).join(part)) } else { Some(self.state()?.join(part)) }
    }

    fn log(&self, command: &str) -> Option<PathBuf> {
        let logs = if self.root { PathBuf::from(SYSTEM_LOGS) } else { self.state()?.join("log") };
        Some(logs.join(format!("{command}.log")))
    }

    /// The user's state directory for us. By the XDG rules a value that is not absolute counts as unset.
    fn state(&self) -> Option<PathBuf> {
        let absolute = |value: &Option<OsString>| value.as_ref().map(PathBuf::from).filter(|path| path.is_absolute());
        let state = absolute(&self.xdg_state_home).or_else(|| Some(absolute(&self.home)?.join(".local/state")))?;
        Some(state.join("lockstep"))
    }
}

fn homeless(flag: &str) -> Failure {
    Failure::could_not_run(anyhow::anyhow!(
        "neither XDG_STATE_HOME nor HOME names an absolute directory: say where with {flag}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(xdg_state_home: Option<&str>, home: Option<&str>) -> Here {
        Here { root: false, xdg_state_home: xdg_state_home.map(Into::into), home: home.map(Into::into) }
    }

    #[test]
    fn root_writes_system_wide() {
        let here = Here { root: true, ..user(Some("/x"), Some("/root")) };
        assert_eq!(here.data("hub"), Some("/var/lib/lockstep/hub".into()));
        assert_eq!(here.log("mirror"), Some("/var/log/lockstep/mirror.log".into()));
    }

    #[test]
    fn a_user_writes_below_the_state_directory() {
        let here = user(Some("/x"), Some("/home/u"));
        assert_eq!(here.data("agent"), Some("/x/lockstep/agent".into()));
        assert_eq!(here.log("hub"), Some("/x/lockstep/log/hub.log".into()));
        assert_eq!(user(None, Some("/home/u")).data("hub"), Some("/home/u/.local/state/lockstep/hub".into()));
    }

    #[test]
    fn a_relative_state_directory_counts_as_unset() {
        assert_eq!(
            user(Some("x"), Some("/home/u")).log("hub"),
            Some("/home/u/.local/state/lockstep/log/hub.log".into())
        );
        assert_eq!(user(Some(""), None).log("hub"), None);
    }
}
