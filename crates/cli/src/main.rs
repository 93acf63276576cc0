//! The binary `lockstep`: it parses, runs one command, prints the error with its causes and chooses the exit code.
//!
//! Each command is one file with its `Args` and its `run`. Nothing here decides anything about data: that is the
//! work of the crates below. Only this file ends the process.

mod allow_deletes;
mod args;
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
mod logging;
mod mirror;
mod monitor;
mod paths;
mod put;
mod reach;
mod runtime;
mod signals;
mod status;
mod table;
mod token;
mod wait;

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
    Demo(demo::Args),
    Monitor(monitor::Args),
    History(history::Args),
    Mirror(mirror::Args),
    Hub(hub::Args),
    Join(join::Args),
    Put(put::Args),
    Get(get::Args),
    Follow(follow::Args),
    Clients(clients::Args),
    Invite(invite::Args),
    Token(token::Args),
    Status(status::Args),
    Cert(cert::Args),
    Wait(wait::Args),
    AllowDeletes(allow_deletes::Args),
}

fn main() -> ExitCode {
    match config::parse::<Cli>(std::env::args_os()) {
        Ok(cli) => finish(run(cli.command)),
        Err(error) => exit::refuse(&error),
    }
}

fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Monitor(args) => monitor::run(args),
        Command::History(args) => history::run(args),
        Command::Mirror(args) => mirror::run(args),
        Command::Hub(args) => hub::run(args),
        Command::Join(args) => join::run(args),
        Command::Put(args) => put::run(args),
        Command::Get(args) => get::run(args),
        Command::Follow(args) => follow::run(args),
        Command::Clients(args) => clients::run(args),
        Command::Invite(args) => invite::run(args),
        Command::Token(args) => token::run(args),
        Command::Status(args) => status::run(args),
        Command::Cert(args) => cert::run(args),
        Command::Wait(args) => wait::run(args),
        Command::AllowDeletes(args) => allow_deletes::run(args),
    }
}

/// A question that came to nothing: what the hub refuses is said as it says it.
fn answered(error: agent::client::ClientError) -> Failure {
    Failure::could_not_run(error)
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
