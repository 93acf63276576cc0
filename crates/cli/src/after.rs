//! The flags of a command that is run after what was changed, and what is told of it. Shared by all commands that keep
//! directories.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use mirror::After;
use mirror::after::{Command, Ends, Ran};
use serde_json::{Value, json};
use tree::filter::Patterns;

use crate::args::parse_duration;
use crate::exit::Failure;

const HEADING: &str = "After a change";
/// A command without any time would be killed before it has begun.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// What to run when both sides are the same again.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct AfterArgs {
    /// Runs CMD each time both sides are the same again, with the changed paths on its standard input, one a line. Its words
    /// are split at blanks, quotes keep blanks in; there is no shell
    #[arg(long, value_name = "CMD", value_parser = OsStringValueParser::new().try_map(|text| Words::parse(&text)))]
    after: Option<Words>,

    /// Runs it only for changed paths that a pattern in gitignore syntax matches; may be given several times
    #[arg(long, value_name = "GLOB")]
    after_match: Vec<OsString>,

    /// Ends each path with a zero byte, unescaped, instead of a newline
    #[arg(long)]
    after_null: bool,

    /// Ends a run that takes longer, with all it started
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = timeout)]
    after_timeout: Duration,
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    program: OsString,
    args: Vec<OsString>,
}

impl AfterArgs {
    /// The command, if one is named; `variables` are what it is told in its environment.
    ///
    /// # Errors
    /// When something is said of a command that is not named, or the patterns are too many.
    pub(crate) fn command(&self, variables: Vec<(&'static str, OsString)>) -> Result<Option<After>, Failure> {
        let Some(words) = &self.after else {
            if self.after_match.is_empty() && !self.after_null {
                return Ok(None);
            }
            return Err(Failure::usage(
                "--after-match and --after-null say something of a command: name it with --after CMD",
            ));
        };
        Ok(Some(After {
            command: words.command(self.after_timeout, variables),
            matching: Patterns::new(self.after_match.iter().map(|glob| glob.as_bytes())).map_err(Failure::usage)?,
            ends: if self.after_null { Ends::Zero } else { Ends::Newline },
        }))
    }

    /// What takes longer is ended.
    pub(crate) fn timeout(&self) -> Duration {
        self.after_timeout
    }
}

impl Words {
    /// Words as they are typed.
    ///
    /// # Errors
    /// When a quote is not closed, or there is no program among them.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, String> {
        let words = shlex::bytes::split(text.as_bytes()).ok_or("a quote is not closed, or it ends with a backslash")?;
        let mut words = words.into_iter().map(OsString::from_vec);
        let program = words.next().filter(|program| !program.is_empty()).ok_or("which program?")?;
        Ok(Self { program, args: words.collect() })
    }

    /// The command they name.
    pub(crate) fn command(&self, timeout: Duration, variables: Vec<(&'static str, OsString)>) -> Command {
        Command { program: self.program.clone(), args: self.args.clone(), timeout, variables }
    }
}

/// One run, for a person.
pub(crate) fn line(ran: &Ran) -> String {
    let said = ran.said.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
    let paths = if ran.told == 1 { "1 path".to_owned() } else { format!("{} paths", ran.told) };
    format!("{} after {:.3} s, {paths}{said}", ran.end, ran.took.as_secs_f64())
}

/// One run, for machines; `time` is when it ended.
pub(crate) fn record(ran: &Ran, time: &str) -> Value {
    let ms = u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX);
    json!({
        "time": time, "action": "after", "end": ran.end.word(), "code": ran.end.code(), "ms": ms, "paths": ran.told,
        "said": ran.said,
    })
}

/// A span that a command may take.
///
/// # Errors
/// When it is none, or so short that nothing could run.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        span if span < TIMEOUT_MIN => Err("at least 100ms".into()),
        span => Ok(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        after: AfterArgs,
    }

    fn after(args: &[&str]) -> AfterArgs {
        Line::try_parse_from([&["x"], args].concat()).unwrap().after
    }

    #[test]
    fn words_are_split_at_blanks_and_nothing_is_expanded() {
        let Words { program, args } = Words::parse(r#"/bin/x  -a 'b c' "d $HOME" e\ f *.g; >h"#.as_ref()).unwrap();
        assert_eq!(program, "/bin/x");
        assert_eq!(args, ["-a", "b c", "d $HOME", "e f", "*.g;", ">h"]);
        for wrong in ["", "  ", "'", "a \\", "'' b"] {
            assert!(Words::parse(wrong.as_ref()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_said_of_no_command_is_wrong_usage() {
        let command = |args: &[&str]| after(args).command(Vec::new());
        assert!(command(&[]).unwrap().is_none());
        assert!(command(&["--after-match", "*.conf"]).is_err() && command(&["--after-null"]).is_err());
        let made = command(&["--after", "a b", "--after-null", "--after-timeout", "2s"]).unwrap().unwrap();
        assert_eq!((made.ends, made.command.timeout), (Ends::Zero, Duration::from_secs(2)));
        assert_eq!((made.command.program, made.command.args), ("a".into(), vec!["b".into()]));
        assert!(timeout("0s").is_err());
    }
}
