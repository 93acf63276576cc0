//! Flags that exclude each other, where one of them is set by the file.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Source, setting};

/// Two flags that exclude each other. The parser takes what is in the file for defaults, which exclude nothing.
pub(super) enum Conflict {
    /// The file sets both; in words.
    InFile(String),
    /// One of them was typed, so the other, of the file, does not count.
    Overruled { word: String, id: String },
}

/// The first pair of flags of the command that is called, one of them set by the file, that exclude each other.
pub(super) fn conflict(command: &Command, matches: &ArgMatches, source: &Source<'_>) -> Option<Conflict> {
    let (word, matches) = matches.subcommand()?;
    let command = command.find_subcommand(word)?;
    let is_on = |arg: &Arg| !matches!(arg.get_action(), ArgAction::SetTrue) || matches.get_flag(arg.get_id().as_str());
    let came_from = |arg: &Arg| matches.value_source(arg.get_id().as_str());
    let by_file = |arg: &&Arg| {
        let named = setting(arg).is_some_and(|flag| source.has(word, &flag));
        named && came_from(arg) == Some(ValueSource::DefaultValue) && is_on(arg)
    };
    let typed = |arg: &Arg| came_from(arg).is_some_and(|source| source != ValueSource::DefaultValue) && is_on(arg);
    let flags = || command.get_arguments().filter(|arg| setting(arg).is_some());
    let exclude = |a: &Arg, b: &Arg| {
        command.get_arg_conflicts_with(a).contains(&b) || command.get_arg_conflicts_with(b).contains(&a)
    };
    flags().filter(by_file).find_map(|arg| {
        if flags().any(|other| typed(other) && exclude(arg, other)) {
            return Some(Conflict::Overruled { word: word.to_owned(), id: arg.get_id().to_string() });
        }
        let other = flags().filter(by_file).find(|other| exclude(arg, other))?;
        let why = format!("{} cannot be used with {}", arg.get_long()?, other.get_long()?);
        Some(Conflict::InFile(why))
    })
}
