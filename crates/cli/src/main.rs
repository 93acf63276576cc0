//! The binary `lockstep`. All of it is in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep_cli::main()
}
