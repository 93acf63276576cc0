//! An array of tables below a command's own: the command is run once for each.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use toml::{Table, Value};

use super::{setting, unknown, values};

/// Which command takes entries, and where they stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    /// The word the command is called by.
    pub(crate) command: &'static str,
    /// The key of the array in the command's table.
    pub(crate) key: &'static str,
    /// Flags that are the same for all, so that no entry may carry them.
    pub(crate) shared: &'static [&'static str],
}

impl Entries {
    /// Takes the entries out of the table of their command.
    pub(super) fn take(self, file: &mut Table) -> Result<Vec<Table>, String> {
        let place = self.place();
        let taken = file.get_mut(self.command).and_then(Value::as_table_mut).and_then(|table| table.remove(self.key));
        let wrong = || format!("{place}: write [[{place}]], with two brackets, above each");
        let one = |one| if let Value::Table(one) = one { Ok(one) } else { Err(wrong()) };
        match taken {
            None => Ok(Vec::new()),
            Some(Value::Array(all)) => all.into_iter().map(one).collect(),
            Some(_) => Err(wrong()),
        }
    }

    /// The key as a whole.
    pub(super) fn place(self) -> String {
        format!("{}.{}", self.command, self.key)
    }

    /// Makes the values of `entry` the defaults of the command's flags, and of its arguments without a flag.
    pub(super) fn settle(self, root: &Command, entry: &Table) -> Result<Command, String> {
        if let Some(flag) = self.shared.iter().find(|flag| entry.contains_key(**flag)) {
            return Err(format!("{flag} is the same for all of them; write it below [{}]", self.command));
        }
        let mut command = root.find_subcommand(self.command).expect("a command that takes entries exists").clone();
        for (key, value) in entry {
            let Some(arg) = command.get_arguments().find(|arg| named(arg).as_deref() == Some(key)) else {
                let known = command.get_arguments().filter_map(named).filter(|key| !self.shared.contains(&&**key));
                return Err(unknown("unknown key", known.collect(), key, key));
            };
            let id = arg.get_id().clone();
            let values = values(arg, value).map_err(|reason| format!("{key}: {reason}"))?;
            command = command.mut_arg(id, |arg| arg.required(false).default_values(values));
        }
        let missing = command.get_arguments().find(|arg| arg.is_required_set()).and_then(named);
        match missing {
            Some(missing) => Err(format!("{missing} is missing")),
            None => Ok(root.clone().mut_subcommand(self.command, |_| command)),
        }
    }

    /// Whether their command is called, and without an argument that says what it is about.
    pub(super) fn are_meant(self, root: &Command, args: &[OsString]) -> bool {
        let matches = root.clone().ignore_errors(true).try_get_matches_from(args).ok();
        let Some((word, matches)) = matches.as_ref().and_then(ArgMatches::subcommand) else { return false };
        let typed = |arg: &Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        let command = root.find_subcommand(word);
        word == self.command && !command.is_some_and(|command| command.get_positionals().any(typed))
    }
}

/// What an argument is called in an entry.
fn named(arg: &Arg) -> Option<String> {
    if arg.is_positional() { Some(arg.get_id().to_string()) } else { setting(arg) }
}
