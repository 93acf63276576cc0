//! Side by side with peers: every figure of the project that is a time or a ratio.
//!
//! Each program here is a subcommand over the one harness; all of them drive the release build as processes, check what
//! came out, and say how busy the machine was. Without a subcommand all run, one after the other.

mod fanout;
mod files;
mod floor;
mod follower;
mod harness;
mod idle;
mod live;
mod machine;
mod mirror;
mod monitor;
mod peers;
mod put;
mod relay;
mod share;
mod socketio;

use anyhow::{Context as _, Result};
use harness::Report;
use machine::Machine;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// Measures lockstep side by side with peers
#[derive(Debug, clap::Parser)]
struct Args {
    #[command(subcommand)]
    program: Option<Program>,

    /// Prints the results as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,

    /// Where a JSON file a program is written
    #[arg(long, value_name = "DIR", default_value = "target/bench", global = true)]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Subcommand)]
enum Program {
    /// From closing a changed file until the copy has it
    Live,
    /// Copying and keeping small and large files, by all who can
    Mirror,
    /// One value to many followers
    Fanout,
    /// Values put a second
    Put,
    /// The first sync of many small files, and a restart
    Share,
    /// What a hub and agents cost that have nothing to do
    Idle,
    /// Socket.IO clients: log-ins, memory, one value to many
    Socketio,
    /// What measuring a machine costs, a sample, a scrape and a process
    Monitor,
}

const ALL: [Program; 8] = [
    Program::Live,
    Program::Mirror,
    Program::Fanout,
    Program::Put,
    Program::Share,
    Program::Idle,
    Program::Socketio,
    Program::Monitor,
];

fn main() -> Result<()> {
    let args = <Args as clap::Parser>::parse();
    if std::env::var_os("LOCKSTEP_BIN").is_none() {
        return Err(with_the_release_build());
    }
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    for program in args.program.map_or(ALL.to_vec(), |one| vec![one]) {
        let machine = Machine::now();
        let report = program.run()?;
        let found = report.json(machine.json());
        let file = args.out.join(format!("{}.json", report.bench));
        let pretty = serde_json::to_string_pretty(&found)?;
        fs::write(&file, pretty).with_context(|| format!("cannot write {}", file.display()))?;
        let mut stdout = std::io::stdout().lock();
        if args.json {
            writeln!(stdout, "{found}")?;
        } else {
            writeln!(stdout, "{}\n  {}\n", report.text(), machine.line())?;
        }
    }
    Ok(())
}

impl Program {
    fn run(self) -> Result<Report> {
        match self {
            Program::Live => live::run(),
            Program::Mirror => mirror::run(),
            Program::Fanout => fanout::run(),
            Program::Put => put::run(),
            Program::Share => share::run(),
            Program::Idle => idle::run(),
            Program::Socketio => socketio::run(),
            Program::Monitor => monitor::run(),
        }
    }
}

/// Starts this program again, told where the release build is: beside it. Gives only the reason why it could not.
fn with_the_release_build() -> anyhow::Error {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error.into(),
    };
    let error =
        Command::new(&own).args(std::env::args_os().skip(1)).env("LOCKSTEP_BIN", own.with_file_name("lockstep")).exec();
    anyhow::Error::new(error).context(format!("cannot start {} again", own.display()))
}
