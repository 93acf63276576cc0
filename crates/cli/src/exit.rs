//! How a command ends: the one table from kind to exit code, and the error every command returns.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::logging::say;

/// Why the process ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All that was asked is done.
    Done = 0,
    /// It finished, but some entries failed; each was named on stderr and in the log.
    SomeFailed = 1,
    /// The command line, the environment or the configuration file is wrong.
    Usage = 2,
    /// It could not run, and nothing was touched.
    CouldNotRun = 3,
    /// A guard stopped deletions; all else is done.
    Guard = 4,
    /// The hub does not let this client in, or not any more; no other try helps before somebody has done something.
    Refused = 5,
    /// A person or the system asked it to stop.
    Interrupted = 130,
}

impl Exit {
    /// The one of two that says more: of several things that were done it is the worst that counts.
    pub(crate) fn or_worse(self, other: Self) -> Self {
        let weight = |exit: Self| match exit {
            Self::Done => 0,
            Self::SomeFailed => 1,
            Self::Guard => 2,
            Self::Usage => 3,
            Self::CouldNotRun => 4,
            Self::Refused => 5,
            Self::Interrupted => 6,
        };
        if weight(other) > weight(self) { other } else { self }
    }
}

impl Exit {
    /// All of them, in words for a person.
    pub(crate) const ALL: [(Exit, &str); 7] = [
        (Exit::Done, "All that was asked is done."),
        (Exit::SomeFailed, "It finished, but some entries failed; each was named on stderr and in the log."),
        (Exit::Usage, "The command line, the environment or the configuration file is wrong."),
        (Exit::CouldNotRun, "It could not run, and nothing was touched."),
        (Exit::Guard, "A guard stopped deletions; all else is done."),
        (
            Exit::Refused,
            "The hub does not let this client in, or not any more; no other try helps before somebody has done something.",
        ),
        (Exit::Interrupted, "It was interrupted."),
    ];

    /// What the shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that ends the command, with the code it ends with.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the shell is told.
    pub(crate) exit: Exit,
    /// What a person is told, with its causes. Not shown when `exit` is [`Exit::Done`].
    pub(crate) error: anyhow::Error,
}

impl Failure {
    /// An error with a code of its own.
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// The person asked for something that has no meaning: exit code 2.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, anyhow::anyhow!("{message}"))
    }

    /// The command could not run, and nothing was touched: exit code 3.
    pub(crate) fn could_not_run(error: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::CouldNotRun, error)
    }

    /// The hub answered what is no answer to the question: exit code 3.
    pub(crate) fn something_else() -> Self {
        Self::could_not_run(anyhow::anyhow!("the hub answered something else; is it another release?"))
    }

    /// Writing results to stdout failed. A reader that went away (`| head`) has what it wanted: quiet success.
    pub(crate) fn output(error: io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { Exit::Done } else { Exit::CouldNotRun };
        Self::new(exit, anyhow::Error::new(error).context("cannot write to standard output"))
    }

    /// What failed, then each cause once, in one line.
    pub(crate) fn text(&self) -> String {
        one_line(&self.error)
    }

    /// Tells the person, on stderr.
    pub(crate) fn print(&self) {
        if self.exit != Exit::Done {
            say(format_args!("lockstep: {}", self.text()));
        }
    }
}

impl From<anyhow::Error> for Failure {
    /// An error nobody classified could not run.
    fn from(error: anyhow::Error) -> Self {
        Self::could_not_run(error)
    }
}

/// Prints what the argument parser has to say and gives the code: help and version are results, all else is usage.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
    // A closed stdout under `--help` is no reason to complain, and a closed stderr leaves nobody to complain to.
    error.print().ok();
    exit.into()
}

/// The error and its causes, outermost first. A cause whose text its parent already carries is not repeated.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let codes = Exit::ALL.map(|(exit, _)| exit.code());
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 130]);
    }

    /// The document says what the program does.
    #[test]
    fn the_codes_are_those_of_the_document() {
        let document = include_str!("../../../docs/command-line.md");
        let table = document.split("## Exit codes").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
        let row = |line: &str| line.strip_prefix("| ")?.split(" |").next()?.parse().ok();
        let told: Vec<u8> = table.lines().filter_map(row).collect();
        assert_eq!(told, Exit::ALL.map(|(exit, _)| exit.code()));
    }

    #[test]
    fn of_several_ends_the_worst_counts() {
        let order = [
            Exit::Done,
            Exit::SomeFailed,
            Exit::Guard,
            Exit::Usage,
            Exit::CouldNotRun,
            Exit::Refused,
            Exit::Interrupted,
        ];
        for (n, exit) in order.into_iter().enumerate() {
            assert!(order[..n].iter().all(|other| exit.or_worse(*other) == exit && other.or_worse(exit) == exit));
        }
    }

    #[test]
    fn each_cause_is_told_once() {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such file");
        let nested =
            Err::<(), _>(missing()).context("cannot open a: no such file").context("cannot start").unwrap_err();
        assert_eq!(one_line(&nested), "cannot start: cannot open a: no such file");
    }

    #[test]
    fn a_closed_stdout_is_quiet_success_and_a_full_disk_is_not() {
        assert_eq!(Failure::output(io::ErrorKind::BrokenPipe.into()).exit, Exit::Done);
        assert_eq!(Failure::output(io::ErrorKind::StorageFull.into()).exit, Exit::CouldNotRun);
    }
}
