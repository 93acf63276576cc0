//! Which files a mirror is about: the flags, and the rules they make.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{ArgMatches, FromArgMatches};
use mirror::Choice;
use tree::filter::{Expressions, Filter, FilterError, PATTERN_BYTES_MAX, Patterns};

use crate::args::parse_size;
use crate::exit::Failure;

const CHOOSING: &str = "Choosing (what is left out is left alone at the destination)";

/// What to mirror.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct Choose {
    #[command(flatten)]
    rules: Rules,

    /// Leaves out what the .gitignore files in SRC exclude
    #[arg(long, help_heading = CHOOSING)]
    gitignore: bool,

    /// Does not look into what is mounted below SRC
    #[arg(long, help_heading = CHOOSING)]
    one_file_system: bool,

    /// Leaves out files larger than SIZE: 10M, 1.5GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = CHOOSING)]
    max_size: Option<u64>,

    /// Leaves out files smaller than SIZE
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = CHOOSING)]
    min_size: Option<u64>,

    /// Deletes at the destination what --exclude, --exclude-from and --gitignore leave out
    #[arg(long, help_heading = CHOOSING)]
    delete_excluded: bool,

    /// Takes only paths that a regular expression matches from their start; all else counts as deleted
    #[arg(long, value_name = "REGEX", help_heading = CHOOSING)]
    only_regex: Vec<String>,

    /// Paths that a regular expression matches from their start count as deleted
    #[arg(long, value_name = "REGEX", help_heading = CHOOSING)]
    exclude_regex: Vec<String>,

    /// Takes paths that --exclude-regex or --ignore-regex leave out, also below directories left out
    #[arg(long, value_name = "REGEX", help_heading = CHOOSING)]
    include_regex: Vec<String>,

    /// Leaves out paths that a regular expression matches from their start, on both sides
    #[arg(long, value_name = "REGEX", help_heading = CHOOSING)]
    ignore_regex: Vec<String>,
}

/// Patterns in the order they were given, of which the last that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Exclude(OsString),
    Include(OsString),
    From(PathBuf),
}

/// What the parser knows of [`Rules`]. A configuration file has no order among keys: there it is this one.
#[derive(Debug, clap::Args)]
struct Given {
    /// Leaves out what the patterns in FILE match, one a line, in gitignore syntax
    #[arg(long, value_name = "FILE", help_heading = CHOOSING)]
    exclude_from: Vec<PathBuf>,

    /// Leaves out what a pattern matches, in gitignore syntax: *.o, /build/, notes/**/draft
    #[arg(long, value_name = "PATTERN", help_heading = CHOOSING)]
    exclude: Vec<OsString>,

    /// Takes what a pattern matches, though an earlier one leaves it out; the last that matches decides
    #[arg(long, value_name = "PATTERN", help_heading = CHOOSING)]
    include: Vec<OsString>,
}

impl Choose {
    /// The rules these flags make.
    ///
    /// # Errors
    /// When an expression or a file of patterns cannot be used.
    pub(super) fn choice(&self) -> Result<Choice, Failure> {
        let expressions =
            Expressions::new(&self.only_regex, &self.include_regex, &self.exclude_regex, &self.ignore_regex)
                .map_err(|error| Failure::usage(hint(&error)))?;
        let (least, most) = (self.min_size.unwrap_or(0), self.max_size.unwrap_or(u64::MAX));
        if least > most {
            return Err(Failure::usage(format!("no file is both {least} bytes or more and {most} or less")));
        }
        let patterns = self.rules.patterns()?;
        Ok(Choice {
            filter: Filter { patterns, expressions, delete_excluded: self.delete_excluded },
            gitignore: self.gitignore,
            one_file_system: self.one_file_system,
            size_bytes: least..=most,
        })
    }
}

impl Rules {
    fn patterns(&self) -> Result<Patterns, Failure> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for rule in &self.0 {
            match rule {
                Rule::Exclude(pattern) => lines.push(pattern.as_bytes().to_vec()),
                Rule::Include(pattern) => lines.push([b"!", pattern.as_bytes()].concat()),
                Rule::From(file) => lines.extend(read(file)?.split(|b| *b == b'\n').map(without_return)),
            }
        }
        Patterns::new(lines.iter().map(Vec::as_slice)).map_err(Failure::usage)
    }
}

impl FromArgMatches for Rules {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = Given::from_arg_matches(matches)?;
        let mut rules: Vec<(usize, Rule)> = Vec::new();
        let mut add = |id: &str, values: Vec<Rule>| {
            let places = matches.indices_of(id).into_iter().flatten();
            // Whatever has no place comes last, in the order it has here.
            rules.extend(places.chain(std::iter::repeat(usize::MAX)).zip(values));
        };
        add("exclude_from", given.exclude_from.into_iter().map(Rule::From).collect());
        add("exclude", given.exclude.into_iter().map(Rule::Exclude).collect());
        add("include", given.include.into_iter().map(Rule::Include).collect());
        rules.sort_by_key(|(place, _)| *place);
        Ok(Self(rules.into_iter().map(|(_, rule)| rule).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Rules {
    fn augment_args(command: clap::Command) -> clap::Command {
        Given::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Given::augment_args_for_update(command)
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let shown = || format!("cannot read the patterns in {}; nothing was done", file.display());
    let mut content = Vec::new();
    File::open(file)
        .and_then(|open| open.take(PATTERN_BYTES_MAX as u64 + 1).read_to_end(&mut content))
        .with_context(shown)
        .map_err(Failure::could_not_run)?;
    if content.len() > PATTERN_BYTES_MAX {
        return Err(Failure::could_not_run(anyhow::anyhow!("{}: {}", shown(), FilterError::TooLarge)));
    }
    if content.starts_with("\u{feff}".as_bytes()) {
        content.drain(..3);
    }
    Ok(content)
}

fn without_return(line: &[u8]) -> Vec<u8> {
    OsStr::from_bytes(line.strip_suffix(b"\r").unwrap_or(line)).as_bytes().to_vec()
}

/// What Python knows and this syntax does not is the one mistake that needs a word more.
fn hint(error: &FilterError) -> String {
    let text = error.to_string();
    let beyond = ["backreferences", "look-around"].iter().any(|word| text.contains(word));
    if beyond {
        format!("{text}; say it with --only-regex, --exclude-regex and --include-regex together")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        choose: Choose,
    }

    fn rules(args: &[&str]) -> Vec<Rule> {
        Line::try_parse_from([&["x"], args].concat()).unwrap().choose.rules.0
    }

    #[test]
    fn rules_keep_the_order_of_the_command_line() {
        let all = ["--include", "a", "--exclude", "b", "--exclude-from=c", "--include", "d", "--exclude", "e"];
        let expected = [
            Rule::Include("a".into()),
            Rule::Exclude("b".into()),
            Rule::From("c".into()),
            Rule::Include("d".into()),
            Rule::Exclude("e".into()),
        ];
        assert_eq!(rules(&all), expected);
        assert_eq!(rules(&[]), []);
    }

    #[test]
    fn sizes_that_no_file_has_and_expressions_that_are_none_are_wrong_usage() {
        let failed = |args: &[&str]| {
            Line::try_parse_from([&["x"], args].concat()).unwrap().choose.choice().unwrap_err().error.to_string()
        };
        assert!(failed(&["--min-size", "2K", "--max-size", "1K"]).contains("2048"));
        assert!(failed(&["--only-regex", "a("]).contains("a("));
        assert!(failed(&["--only-regex", r"(a)\1"]).contains("together"));
        assert!(failed(&["--exclude-from", "/no/such/file"]).contains("/no/such/file"));
    }
}
