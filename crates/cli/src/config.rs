//! One configuration: flags, then the environment, then a TOML file, the first that speaks wins.
//!
//! - Environment: `LOCKSTEP_<COMMAND>_<FLAG>`, as in `LOCKSTEP_MONITOR_INTERVAL=2s`; a switch takes `true` or `false`;
//!   a flag that may be repeated takes one value.
//! - File (`--config FILE` or `LOCKSTEP_CONFIG`): a table for each command, a key for each flag, an array for one that
//!   may be repeated:
//!
//!   ```toml
//!   [monitor]
//!   interval = "2s"
//!   ```
//!
//! The values of a flag that takes `NAME=VALUE` can stand in a table of their own, `[hub.on]`, with `NAME = "VALUE"` each.
//!
//! A command that takes [`Entries`] is run once for each table of an array of them:
//!
//!   ```toml
//!   [mirror]
//!   watch = true
//!
//!   [[mirror.pair]]
//!   source = "/srv/site"
//!   destination = "/backup/site"
//!   exclude = ["*.tmp"]
//!   ```
//!
//! The command line is parsed once for each, with the keys of the entry before those of the command's own table. Only in an
//! entry have the arguments without a flag a key, which is their name.
//!
//! There is one mechanism and no list of settings: this file walks the commands the parser knows, gives each flag its
//! variable, and hands the values of the file to the parser as that flag's defaults. So a value is read and
//! checked by the same parser wherever it comes from, and a flag that is added later needs nothing here.

mod conflict;
mod entries;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use toml::{Table, Value};

use conflict::{Conflict, conflict};
pub(crate) use entries::Entries;

/// The largest configuration file that is read. A file beyond it is not one of ours.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The variable that names the file.
pub(crate) const FILE_VARIABLE: &str = "LOCKSTEP_CONFIG";
/// Flags that no table may carry: they choose the file, or end the program.
const NOT_SETTINGS: [&str; 3] = ["config", "help", "version"];

/// What a command line is parsed into.
pub(crate) trait Parsed: CommandFactory + FromArgMatches {
    /// The parser with nothing but the command called by `word`, if there is one: making all of them would cost a program
    /// that then runs for a year half a megabyte.
    fn alone(_word: &str) -> Option<Command> {
        None
    }

    /// Which command takes entries.
    const ENTRIES: Option<Entries> = None;
}

/// What a command line says, once or for each entry.
#[derive(Debug)]
pub(crate) enum Lines<C> {
    /// The command line, completed.
    One(C),
    /// The command line, completed by each entry of the file in turn; at least one.
    Each(Vec<C>),
}

/// Parses the command line of this process, completed from the environment and the configuration file.
///
/// # Errors
/// Wrong usage, wherever it was found, or a request for help or version, as the parser reports them.
pub(crate) fn parse<C: Parsed>(args: impl IntoIterator<Item = OsString>) -> Result<Lines<C>, clap::Error> {
    let args = asked_for_help(args.into_iter().collect());
    if let Some(command) = alone::<C>(&args) {
        let mut command = with_variables(command, &[]);
        let matches = command.try_get_matches_from_mut(args)?;
        return C::from_arg_matches(&matches).map_err(|error| error.format(&mut command)).map(Lines::One);
    }
    let mut command = complete::<C>();
    let Some(file) = file_named(&command, &args) else {
        let matches = command.try_get_matches_from_mut(args)?;
        return C::from_arg_matches(&matches).map_err(|error| error.format(&mut command)).map(Lines::One);
    };
    let at = format!("--config {}", file.display());
    let refuse = |at: &str, reason: String| usage(&command, format!("{at}: {reason}"));
    let mut table = read(&file).map_err(|reason| refuse(&at, reason))?;
    let entries = match C::ENTRIES {
        Some(entries) => entries.take(&mut table).map_err(|reason| refuse(&at, reason))?,
        None => Vec::new(),
    };
    let settled = with_defaults(command.clone(), &table, &[]).map_err(|reason| refuse(&at, reason))?;
    let mut each = Vec::new();
    for (n, (entry, kind)) in (1..).zip(entries.iter().zip(C::ENTRIES.iter().cycle())) {
        let at = format!("{at}: {} {n}", kind.place());
        let settled = kind.settle(&settled, entry).map_err(|reason| refuse(&at, reason))?;
        each.push((at, settled, entry));
    }
    if each.is_empty() || !C::ENTRIES.is_some_and(|entries| entries.are_meant(&command, &args)) {
        return finish(settled, args, &Source { at, file: &table, entry: None }).map(Lines::One);
    }
    let lines = each
        .into_iter()
        .map(|(at, command, entry)| finish(command, args.clone(), &Source { at, file: &table, entry: Some(entry) }));
    lines.collect::<Result<_, _>>().map(Lines::Each)
}

/// `lockstep help hub check` is `lockstep hub check --help`, without a parser of its own.
fn asked_for_help(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|word| word == "help") {
        args.remove(1);
        args.push("--help".into());
    }
    args
}

/// Where values come from that nobody typed.
struct Source<'t> {
    /// How the place is told.
    at: String,
    /// The whole file.
    file: &'t Table,
    /// The entry that completes the command's own table.
    entry: Option<&'t Table>,
}

impl Source<'_> {
    /// Whether it says something of a flag of the command `word`.
    fn has(&self, word: &str, flag: &str) -> bool {
        let below = self.file.get(word).and_then(Value::as_table);
        below.into_iter().chain(self.entry).any(|table| table.contains_key(flag))
    }
}

/// Parses `args` by a command that was completed from `source`.
fn finish<C: Parsed>(command: Command, args: Vec<OsString>, source: &Source<'_>) -> Result<C, clap::Error> {
    let mut command = command;
    loop {
        let mut built = command.clone();
        let matches = built.try_get_matches_from_mut(&args).map_err(|error| blame(error, source, &built))?;
        match conflict(&built, &matches, source) {
            None => return C::from_arg_matches(&matches).map_err(|error| error.format(&mut built)),
            Some(Conflict::InFile(why)) => return Err(usage(&built, format!("{}: {why}", source.at))),
            Some(Conflict::Overruled { word, id }) => {
                command =
                    command.mut_subcommand(word, |sub| sub.mut_arg(id, |arg| arg.default_value(Resettable::Reset)));
            }
        }
    }
}

/// The whole parser, each flag with its variable.
pub(crate) fn complete<C: Parsed>() -> Command {
    with_variables(C::command(), &[])
}

/// The one command that is called, where its word comes first and no file is named, whose other tables are to be checked.
fn alone<C: Parsed>(args: &[OsString]) -> Option<Command> {
    let names_file = |arg: &OsString| arg.as_encoded_bytes().starts_with(b"--config");
    if std::env::var_os(FILE_VARIABLE).is_some() || args.iter().any(names_file) {
        return None;
    }
    C::alone(args.get(1)?.to_str()?)
}

/// Gives each flag of each command its environment variable.
fn with_variables(command: Command, above: &[&str]) -> Command {
    command.mut_subcommands(|sub| {
        let name = sub.get_name().to_owned();
        let mut path = above.to_vec();
        path.push(&name);
        let prefix = path.join("_");
        with_variables(sub, &path).mut_args(|arg| match setting(&arg) {
            Some(flag) if arg.get_env().is_none() => arg.env(variable(&prefix, &flag)),
            _ => arg,
        })
    })
}

fn variable(command: &str, flag: &str) -> String {
    format!("LOCKSTEP_{command}_{flag}").to_uppercase().replace('-', "_")
}

/// The name of the flag, if it is one that a file or a variable can set.
fn setting(arg: &Arg) -> Option<String> {
    arg.get_long().filter(|long| !NOT_SETTINGS.contains(long)).map(str::to_owned)
}

/// The file this command line or the environment names, looked for with all mistakes forgiven: the real parse, which
/// needs the file first, will report them.
fn file_named(command: &Command, args: &[OsString]) -> Option<PathBuf> {
    let matches = command.clone().ignore_errors(true).try_get_matches_from(args).ok()?;
    let mut deepest = &matches;
    while let Some((_, below)) = deepest.subcommand() {
        deepest = below;
    }
    let named = |matches: &clap::ArgMatches| matches.try_get_one::<PathBuf>("config").ok().flatten().cloned();
    named(deepest).or_else(|| named(&matches))
}

fn read(file: &Path) -> Result<Table, String> {
    let size = fs::metadata(file).map_err(|error| format!("cannot read it: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{size} bytes are too many for a configuration ({FILE_BYTES_MAX} at most)"));
    }
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read it: {error}"))?;
    text.parse::<Table>().map_err(|error| error.to_string())
}

/// Makes the values of `table` the defaults of the flags they name. All tables are checked, not only that of the
/// command that runs, so that a mistake shows at once and not on the day the other command is needed.
fn with_defaults(mut command: Command, table: &Table, path: &[&str]) -> Result<Command, String> {
    for (key, value) in table {
        let here = |name: &str| path.iter().copied().chain([name]).collect::<Vec<_>>().join(".");
        let is_command = command.get_subcommands().any(|sub| sub.get_name() == key);
        match value {
            Value::Table(below) if is_command => {
                let deeper: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
                let sub = command.find_subcommand(key).expect("it was just seen among the subcommands").clone();
                let sub = with_defaults(sub, below, &deeper)?;
                command = command.mut_subcommand(key, |_| sub);
            }
            _ => {
                let arg = command.get_arguments().find(|arg| !path.is_empty() && setting(arg).as_deref() == Some(key));
                let Some(arg) = arg else {
                    let mut known: Vec<String> =
                        command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
                    if path.is_empty() {
                        return Err(unknown("there is no command for the table", known, key, key));
                    }
                    known.extend(command.get_arguments().filter_map(setting));
                    return Err(unknown("unknown key", known, key, &here(key)));
                };
                let id = arg.get_id().clone();
                let values = values(arg, value).map_err(|reason| format!("{}: {reason}", here(key)))?;
                command = command.mut_arg(id, |arg| arg.required(false).default_values(values));
            }
        }
    }
    Ok(command)
}

/// The values of one key, as they would have been typed.
fn values(arg: &Arg, value: &Value) -> Result<Vec<String>, String> {
    match (arg.get_action(), value) {
        (ArgAction::SetTrue | ArgAction::SetFalse, Value::Boolean(on)) => Ok(vec![on.to_string()]),
        (ArgAction::SetTrue | ArgAction::SetFalse, _) => Err("a switch is true or false".into()),
        (ArgAction::Append, Value::Array(all)) => all.iter().map(typed).collect(),
        // `[hub.on]`, and below it `away = "…"`, is `on = ["away=…"]`.
        (ArgAction::Append, Value::Table(all)) => {
            all.iter().map(|(key, one)| Ok(format!("{key}={}", typed(one)?))).collect()
        }
        (_, Value::Array(_)) => Err("this flag takes one value, not an array".into()),
        (_, one) => Ok(vec![typed(one)?]),
    }
}

fn typed(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(on) => Ok(on.to_string()),
        Value::Datetime(time) => Ok(time.to_string()),
        Value::Array(_) | Value::Table(_) => Err("a value is a string, a number, true or false".into()),
    }
}

fn unknown(what: &str, known: Vec<String>, key: &str, whole: &str) -> String {
    match known.iter().min_by_key(|name| distance(name, key)) {
        Some(near) if distance(near, key) <= key.len().div_ceil(2) => format!("{what} {whole}; did you mean {near}?"),
        _ => format!("{what} {whole}; known here: {}", known.join(", ")),
    }
}

/// Edits (insert, remove, replace a letter) that lead from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn usage(command: &Command, message: String) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{message}\n")).with_cmd(command)
}

/// A value of the file that its flag refuses: the parser names the flag, this adds where the value stands.
fn blame(error: clap::Error, source: &Source<'_>, command: &Command) -> clap::Error {
    let from_file = match (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue)) {
        (Some(arg), Some(value)) => {
            let mut tables = source.entry.into_iter().chain([source.file]);
            tables.any(|table| holds(table, &arg.to_string(), &value.to_string()))
        }
        _ => false,
    };
    if !from_file {
        return error;
    }
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ").trim_end();
    usage(command, format!("{}: {text}", source.at))
}

/// Whether some key of `table` is the flag `arg` (shown as `--flag <VALUE>`) with this value.
fn holds(table: &Table, arg: &str, value: &str) -> bool {
    let flag = arg.trim_start_matches("--").split([' ', '=']).next().unwrap_or_default();
    table.iter().any(|(key, found)| match found {
        Value::Table(all) if key == flag => {
            all.iter().any(|(key, one)| typed(one).is_ok_and(|one| format!("{key}={one}") == value))
        }
        Value::Table(below) => holds(below, arg, value),
        Value::Array(all) => key == flag && all.iter().any(|one| typed(one).as_deref() == Ok(value)),
        one => key == flag && typed(one).as_deref() == Ok(value),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::{Parser, Subcommand};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[arg(long, global = true)]
        config: Option<PathBuf>,
        #[command(subcommand)]
        command: Sub,
    }

    impl Parsed for Cli {
        const ENTRIES: Option<Entries> = Some(Entries { command: "watch", key: "one", shared: &["id"] });
    }

    fn one(lines: Result<Lines<Cli>, clap::Error>) -> Result<Cli, clap::Error> {
        lines.map(|lines| if let Lines::One(cli) = lines { cli } else { panic!("several: {lines:?}") })
    }

    fn each(text: &str, args: &[&str]) -> Result<Vec<Sub>, String> {
        let file = file(text);
        let all = ["lockstep", "--config"].map(OsString::from).into_iter().chain([file.path().into()]);
        match parse::<Cli>(all.chain(args.iter().map(Into::into))).map_err(|error| error.render().to_string())? {
            Lines::Each(all) => Ok(all.into_iter().map(|cli| cli.command).collect()),
            Lines::One(cli) => panic!("one: {cli:?}"),
        }
    }

    #[derive(Debug, Subcommand, PartialEq)]
    enum Sub {
        Watch {
            dir: PathBuf,
            #[arg(long, default_value = "1s", value_parser = crate::args::parse_duration)]
            interval: std::time::Duration,
            #[arg(long)]
            share: Vec<String>,
            #[arg(long, conflicts_with = "share")]
            dry_run: bool,
            #[arg(long)]
            id: Option<u64>,
        },
        People {
            #[command(subcommand)]
            what: People,
        },
    }

    #[derive(Debug, Subcommand, PartialEq)]
    enum People {
        List {
            #[arg(long)]
            all: bool,
        },
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn run(text: &str, args: &[&str]) -> Result<Sub, String> {
        let file = file(text);
        let mut all: Vec<OsString> = ["lockstep", "--config"].map(Into::into).into();
        all.push(file.path().into());
        all.extend(args.iter().map(Into::into));
        let cli = one(parse::<Cli>(all)).map_err(|error| error.render().to_string())?;
        assert_eq!(cli.config.as_deref(), Some(file.path()));
        Ok(cli.command)
    }

    fn watch(seconds: u64, share: &[&str], dry_run: bool, id: Option<u64>) -> Sub {
        let share = share.iter().map(|name| (*name).to_owned()).collect();
        Sub::Watch { dir: "d".into(), interval: std::time::Duration::from_secs(seconds), share, dry_run, id }
    }

    #[test]
    fn the_file_speaks_where_the_command_line_is_silent() {
        let text = "[watch]\ninterval = \"2s\"\nshare = [\"a\", \"b\"]\nid = 7\n";
        assert_eq!(run(text, &["watch", "d"]).unwrap(), watch(2, &["a", "b"], false, Some(7)));
    }

    #[test]
    fn values_with_names_can_stand_in_a_table() {
        let text = "[watch.share]\na = \"/x\"\nb = 2\n";
        assert_eq!(run(text, &["watch", "d"]).unwrap(), watch(1, &["a=/x", "b=2"], false, None));
        assert_eq!(run(text, &["watch", "d", "--share", "c"]).unwrap(), watch(1, &["c"], false, None));
        assert!(run("[watch.id]\na = 1\n", &["watch", "d"]).unwrap_err().contains("a value is a string"));
        assert!(run("[watch.share.a]\nb = 1\n", &["watch", "d"]).unwrap_err().contains("a value is a string"));
    }

    #[test]
    fn the_command_line_wins_and_replaces_a_whole_list() {
        let text = "[watch]\ninterval = \"2s\"\nshare = [\"a\", \"b\"]\n";
        let args = ["watch", "d", "--interval", "3s", "--share", "c"];
        assert_eq!(run(text, &args).unwrap(), watch(3, &["c"], false, None));
    }

    #[test]
    fn of_flags_that_exclude_each_other_what_is_typed_counts_and_a_file_cannot_have_both() {
        let text = "[watch]\nshare = [\"a\"]\n";
        assert_eq!(run(text, &["watch", "d", "--dry-run"]).unwrap(), watch(1, &[], true, None));
        let refused = run(&format!("{text}dry-run = true\n"), &["watch", "d"]).unwrap_err();
        assert!(refused.contains("dry-run cannot be used with share"), "{refused}");
        let off = run(&format!("{text}dry-run = false\n"), &["watch", "d"]).unwrap();
        assert_eq!(off, watch(1, &["a"], false, None));
    }

    #[test]
    fn each_entry_is_the_command_line_once_more() {
        let text = "[watch]\nid = 7\ninterval = \"2s\"\n[[watch.one]]\ndir = \"d\"\ninterval = \"3s\"\n\
                    [[watch.one]]\ndir = \"d\"\nshare = [\"a\"]\n";
        let all = each(text, &["watch"]).unwrap();
        assert_eq!(all, [watch(3, &[], false, Some(7)), watch(2, &["a"], false, Some(7))]);
        let all = each(text, &["watch", "--interval", "5s", "--share", "b"]).unwrap();
        assert_eq!(all, [watch(5, &["b"], false, Some(7)), watch(5, &["b"], false, Some(7))], "what is typed wins");
        let typed = run(text, &["watch", "d"]).unwrap();
        assert_eq!(typed, watch(2, &[], false, Some(7)), "who says what it is about means no entry");
    }

    #[test]
    fn a_mistake_in_an_entry_names_the_entry_and_the_key() {
        let entry =
            |text: &str| each(&format!("[[watch.one]]\ndir = \"d\"\n[[watch.one]]\n{text}"), &["watch"]).unwrap_err();
        assert!(
            entry("dir = \"d\"\nshaer = [\"a\"]\n").contains("watch.one 2: unknown key shaer; did you mean share?")
        );
        assert!(entry("share = [\"a\"]\n").contains("watch.one 2: dir is missing"));
        assert!(entry("dir = \"d\"\nid = 7\n").contains("watch.one 2: id is the same for all"));
        let wrong = entry("dir = \"d\"\ninterval = \"soon\"\n");
        assert!(wrong.contains("watch.one 2: ") && wrong.contains("--interval"), "{wrong}");
        assert!(run("[watch.one]\ndir = \"d\"\n", &["watch", "d"]).unwrap_err().contains("[[watch.one]]"));
        let other = run("[[watch.one]]\ndri = \"d\"\n", &["people", "list"]).unwrap_err();
        assert!(other.contains("unknown key dri"), "also when another command runs: {other}");
    }

    #[test]
    fn the_file_is_found_behind_the_command_too() {
        let file = file("[watch]\nid = 9\n");
        let args = ["lockstep", "watch", "d", "--config"].map(OsString::from).into_iter().chain([file.path().into()]);
        assert_eq!(one(parse::<Cli>(args)).unwrap().command, watch(1, &[], false, Some(9)));
    }

    #[test]
    fn a_command_below_a_command_has_a_table_below_a_table() {
        assert_eq!(
            run("[people.list]\nall = true\n", &["people", "list"]).unwrap(),
            Sub::People { what: People::List { all: true } }
        );
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let refused = run("[watch]\nintervall = \"2s\"\n", &["watch", "d"]).unwrap_err();
        assert!(refused.contains("unknown key watch.intervall; did you mean interval?"), "{refused}");
        let refused = run("[wach]\n", &["watch", "d"]).unwrap_err();
        assert!(refused.contains("no command for the table wach; did you mean watch?"), "{refused}");
        assert!(run("interval = \"2s\"\n", &["watch", "d"]).is_err(), "a key without a table belongs to no command");
        assert!(run("[watch]\nconfig = \"x\"\n", &["watch", "d"]).is_err(), "a file cannot name another");
    }

    #[test]
    fn a_mistake_in_the_table_of_another_command_shows_at_once() {
        assert!(run("[people.list]\nal = true\n", &["watch", "d"]).is_err());
    }

    #[test]
    fn a_wrong_value_says_that_it_stands_in_the_file() {
        let refused = run("[watch]\ninterval = \"soon\"\n", &["watch", "d"]).unwrap_err();
        assert!(refused.contains("--config") && refused.contains("--interval"), "{refused}");
        let refused = run("[watch]\ndry-run = 1\n", &["watch", "d"]).unwrap_err();
        assert!(refused.contains("watch.dry-run: a switch is true or false"), "{refused}");
        assert!(run("[watch]\nid = [1, 2]\n", &["watch", "d"]).unwrap_err().contains("one value"));
    }

    #[test]
    fn a_file_that_is_missing_or_not_toml_is_wrong_usage() {
        assert!(run("[watch\n", &["watch", "d"]).unwrap_err().contains("--config"));
        let args = ["lockstep", "--config", "/nowhere/at/all", "watch", "d"].map(OsString::from);
        assert!(parse::<Cli>(args).unwrap_err().to_string().contains("/nowhere/at/all"));
    }

    #[test]
    fn each_flag_has_a_variable_named_after_command_and_flag() {
        let command = with_variables(Cli::command(), &[]);
        let env = |sub: &Command, id: &str| {
            let arg = sub.get_arguments().find(|arg| arg.get_id() == id).expect("a known flag");
            arg.get_env().map(|name| name.to_owned())
        };
        let watch = command.find_subcommand("watch").unwrap();
        assert_eq!(env(watch, "dry_run"), Some("LOCKSTEP_WATCH_DRY_RUN".into()));
        assert_eq!(env(watch, "dir"), None, "a place on the command line is not a flag");
        let list = command.find_subcommand("people").and_then(|people| people.find_subcommand("list")).unwrap();
        assert_eq!(env(list, "all"), Some("LOCKSTEP_PEOPLE_LIST_ALL".into()));
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("interval", "interval"), 0);
        assert_eq!(distance("interval", "intervall"), 1);
        assert_eq!(distance("log", "data"), 4);
    }
}
