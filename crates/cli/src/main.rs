//! The binary `lockstep`: it parses, runs one command, prints the error with its causes and chooses the exit code.
//!
//! Each command is one file with its `Args` and its `run`. Nothing here decides anything about data: that is the
//! work of the crates below. Only this file ends the process.

mod after;
mod allow_deletes;
mod args;
mod audit;
mod cert;
mod clients;
mod config;
mod demo;
mod exit;
mod follow;
mod get;
mod history;
mod hub;
mod invite;
mod join;
mod leave;
mod logging;
mod man;
mod mirror;
mod monitor;
mod notify;
mod paths;
mod plot;
mod put;
mod reach;
mod rights;
mod runtime;
mod service;
mod signals;
mod status;
mod table;
mod token;
mod top;
mod wait;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args as _, Parser, Subcommand};

use crate::config::Lines;
use crate::exit::{Exit, Failure};
use crate::reach::answered;

/// Keeps any number of machines on the latest data.
#[derive(Debug, Parser)]
#[command(
    name = "lockstep",
    version,
    propagate_version = true,
    about,
    max_term_width = 120,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    common: Common,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Reads flags from a TOML file with a table for each command; the command line and the environment win over it
    #[arg(long, global = true, value_name = "FILE", env = config::FILE_VARIABLE)]
    config: Option<PathBuf>,
}

/// All commands, each with the word it is called by and the file it is in.
macro_rules! commands {
    ($($word:literal => $variant:ident in $module:ident;)+) => {
        #[derive(Debug, Subcommand)]
        #[allow(clippy::large_enum_variant, reason = "one is made, once")]
        enum Command {
            $(#[command(name = $word)] $variant($module::Args),)+
        }

        impl Command {
            fn run(self) -> Result<Exit, Failure> {
                match self {
                    $(Self::$variant(args) => $module::run(args),)+
                }
            }

            /// The parser of the one command that is called by `word`.
            fn parser(word: &str) -> Option<clap::Command> {
                match word {
                    $($word => Some($module::Args::augment_args(clap::Command::new($word))),)+
                    _ => None,
                }
            }
        }

        #[cfg(test)]
        const WORDS: &[&str] = &[$($word),+];
    };
}

commands! {
    "demo" => Demo in demo;
    "monitor" => Monitor in monitor;
    "history" => History in history;
    "plot" => Plot in plot;
    "mirror" => Mirror in mirror;
    "hub" => Hub in hub;
    "join" => Join in join;
    "leave" => Leave in leave;
    "put" => Put in put;
    "get" => Get in get;
    "follow" => Follow in follow;
    "clients" => Clients in clients;
    "invite" => Invite in invite;
    "audit" => Audit in audit;
    "token" => Token in token;
    "status" => Status in status;
    "top" => Top in top;
    "cert" => Cert in cert;
    "man" => Man in man;
    "wait" => Wait in wait;
    "why" => Why in why;
    "allow-deletes" => AllowDeletes in allow_deletes;
    "service" => Service in service;
}

impl config::Parsed for Cli {
    const ENTRIES: Option<config::Entries> = Some(mirror::PAIRS);

    fn alone(word: &str) -> Option<clap::Command> {
        let command = Command::parser(word)?;
        let root = clap::Command::new("lockstep")
            .version(env!("CARGO_PKG_VERSION"))
            .propagate_version(true)
            .max_term_width(120);
        Some(Common::augment_args(root.disable_help_subcommand(true).subcommand_required(true)).subcommand(command))
    }
}

fn main() -> ExitCode {
    match config::parse::<Cli>(std::env::args_os()) {
        Ok(Lines::One(cli)) => finish(cli.command.run()),
        Ok(Lines::Each(all)) => finish(mirror::run_pairs(pairs(all), pairs_again)),
        Err(error) => exit::refuse(&error),
    }
}

/// The pairs of a mirror, which alone is called once for each entry of a file.
fn pairs(all: Vec<Cli>) -> Vec<mirror::Args> {
    all.into_iter().filter_map(|cli| if let Command::Mirror(args) = cli.command { Some(args) } else { None }).collect()
}

/// The same command line, completed from the file as it is now.
fn pairs_again() -> Result<Vec<mirror::Args>, String> {
    match config::parse::<Cli>(std::env::args_os()) {
        Ok(Lines::Each(all)) => Ok(pairs(all)),
        Ok(Lines::One(_)) => Err("there is no [[mirror.pair]] any more".into()),
        Err(error) => Err(error.render().to_string().trim_start_matches("error: ").trim_end().to_owned()),
    }
}

/// What the command `word` reads and writes, beyond its own, when it is given `args`.
///
/// # Errors
/// As the parser says, when it cannot be given these.
fn paths_of(word: &str, args: &[std::ffi::OsString]) -> Result<service::Paths, clap::Error> {
    let line = ["lockstep".into(), word.into()].into_iter().chain(args.iter().cloned());
    let all = match config::parse::<Cli>(line)? {
        Lines::One(cli) => vec![cli],
        Lines::Each(all) => all,
    };
    let mut paths = service::Paths::default();
    for cli in all {
        let (reads, writes) = match cli.command {
            Command::Hub(args) => (args.reads(), args.writes()),
            Command::Join(args) => (Vec::new(), args.writes()),
            Command::Mirror(args) => (args.reads(), args.writes()),
            Command::Monitor(args) => (Vec::new(), args.writes()),
            _ => (Vec::new(), Vec::new()),
        };
        paths.reads.extend(cli.common.config.into_iter().chain(reads));
        paths.writes.extend(writes);
    }
    Ok(paths)
}

/// The hub's arguments as they are now: those of this process, completed from the environment and the configuration file anew.
///
/// # Errors
/// As the parser says.
fn hub_args_again() -> Result<hub::Args, clap::Error> {
    match config::parse::<Cli>(std::env::args_os())? {
        Lines::One(Cli { command: Command::Hub(args), .. }) => Ok(args),
        _ => Err(clap::Error::new(clap::error::ErrorKind::InvalidSubcommand)),
    }
}

fn finish(result: Result<Exit, Failure>) -> ExitCode {
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => {
            failure.print();
            failure.exit
        }
    };
    exit.into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use config::Parsed as _;

    use super::*;

    #[test]
    fn a_command_alone_is_the_one_among_all() {
        let mut all = Cli::command();
        all.build();
        assert!(all.get_subcommands().map(clap::Command::get_name).eq(WORDS.iter().copied()));
        for word in WORDS {
            let mut alone = Cli::alone(word).unwrap();
            alone.build();
            let help = |all: &clap::Command| {
                let command = all.find_subcommand(word).unwrap();
                (command.clone().render_long_help().to_string(), command.clone().render_version())
            };
            assert_eq!(help(&alone), help(&all), "{word}");
        }
        assert!(Cli::alone("dmo").is_none() && Cli::alone("--help").is_none());
    }
}
