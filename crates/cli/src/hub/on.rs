//! The flags of the commands that a hub runs when something happens.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use hub::{OnCommands, OnEvent};

use crate::after::{self, Words};
use crate::exit::Failure;

/// What to run when something happens
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct OnArgs {
    /// Runs CMD when EVENT happens: away (a client left and did not come back), behind (one that is here has lacked something
    /// for too long), double-id (one id is used by two machines), guard (deletions are held); may be given once for each.
    /// What happened is on its standard input, one JSON object a line. Its words are split at blanks, quotes keep blanks in;
    /// there is no shell
    #[arg(long, value_name = "EVENT=CMD", value_parser = OsStringValueParser::new().try_map(|text| one(&text)))]
    on: Vec<One>,

    /// Ends a run of --on that takes longer, with all it started
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = after::timeout)]
    on_timeout: Duration,
}

/// A command, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct One {
    event: OnEvent,
    words: Words,
}

impl OnArgs {
    /// The command of each event that has one.
    ///
    /// # Errors
    /// When an event has two.
    pub(super) fn commands(&self) -> Result<OnCommands, Failure> {
        let mut commands = BTreeMap::new();
        for One { event, words } in &self.on {
            if commands.insert(*event, words.command(self.on_timeout, Vec::new())).is_some() {
                let event = event.as_str();
                return Err(Failure::usage(format!("--on {event}: one command for each event; {event} has two")));
            }
        }
        Ok(commands)
    }

    /// Whether the commands can be run.
    ///
    /// # Errors
    /// When an event has two, or there is no such program.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.commands()?.values().try_for_each(|command| command.check()).map_err(Failure::could_not_run)
    }
}

fn one(text: &OsStr) -> Result<One, String> {
    let known = || OnEvent::ALL.map(OnEvent::as_str).join(", ");
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=');
    let at = at.ok_or_else(|| format!("EVENT=CMD, where EVENT is one of {}", known()))?;
    let event = OnEvent::ALL.into_iter().find(|event| event.as_str().as_bytes() == &bytes[..at]);
    let event = event.ok_or_else(|| {
        format!("{} is no event; those there are: {}", String::from_utf8_lossy(&bytes[..at]), known())
    })?;
    Ok(One { event, words: Words::parse(OsStr::from_bytes(&bytes[at + 1..]))? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        on: OnArgs,
    }

    fn commands(args: &[&str]) -> Result<OnCommands, String> {
        let line = Line::try_parse_from([&["x"], args].concat()).map_err(|error| error.to_string())?;
        line.on.commands().map_err(|failure| format!("{:#}", failure.error))
    }

    #[test]
    fn each_event_has_one_command_and_its_words_are_not_looked_into() {
        let all =
            commands(&["--on", "away=page --to 'on call' a=b", "--on", "double-id=/bin/x", "--on-timeout=2s"]).unwrap();
        let away = &all[&OnEvent::Away];
        assert_eq!(away.args, ["--to", "on call", "a=b"].map(std::ffi::OsString::from));
        assert_eq!((&away.program, away.timeout), (&"page".into(), Duration::from_secs(2)));
        assert_eq!(all.keys().map(|event| event.as_str()).collect::<Vec<_>>(), ["away", "double-id"]);
        assert!(commands(&[]).unwrap().is_empty());
        for (wrong, why) in [
            (&["--on", "page"][..], "EVENT=CMD"),
            (&["--on", "gone=page"], "those there are: away, behind, double-id, guard"),
            (&["--on", "away="], "which program?"),
            (&["--on", "away=a", "--on", "away=b"], "away has two"),
            (&["--on", "away=a", "--on-timeout", "0s"], "at least 100ms"),
        ] {
            let told = commands(wrong).unwrap_err();
            assert!(told.contains(why), "{wrong:?}: {told}");
        }
    }
}
