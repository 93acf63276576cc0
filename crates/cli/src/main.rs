//! The binary `lockstep`: it parses, runs one command, prints the error with its causes and chooses the exit code.
//!
//! Each command is one file with its `Args` and its `run`. Nothing here decides anything about data: that is the
//! work of the crates below. Only this file ends the process.

mod args;
mod config;
mod exit;
mod hub;
mod logging;
mod mirror;
mod monitor;
mod paths;
mod runtime;
mod signals;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::{Exit, Failure};

/// Keeps any number of machines on the latest data.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, about, max_term_width = 120, disable_help_subcommand = true)]
struct Cli {
    /// Reads flags from a TOML file with a table for each command; the command line and the environment win over it
    #[arg(long, global = true, value_name = "FILE", env = "LOCKSTEP_CONFIG")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Monitor(monitor::Args),
    Mirror(mirror::Args),
    Hub(hub::Args),
}

fn main() -> ExitCode {
    match config::parse::<Cli>(std::env::args_os()) {
        Ok(cli) => finish(run(cli.command)),
        Err(error) => exit::refuse(&error),
    }
}

fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Monitor(args) => monitor::run(args),
        Command::Mirror(args) => mirror::run(args),
        Command::Hub(args) => hub::run(args),
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
