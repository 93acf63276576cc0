//! `lockstep cert`: what browsers and other HTTP clients are to trust, on the hub's own machine.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};

use crate::exit::{Exit, Failure};
use crate::paths;

/// Prints the certificate that HTTP clients of this machine's hub are to trust, in PEM
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The hub's data directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Prints it.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let data = args.data.map_or_else(|| paths::default_data("hub"), Ok)?;
    let path = data.join(hub::CA_NAME);
    let pem = match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::could_not_run(anyhow!(
                "there is no {}: the hub makes it once it serves HTTPS with a certificate of its own (lockstep hub --http ADDR, on an address that others reach)",
                path.display()
            )));
        }
        read => read.with_context(|| format!("cannot read {}", path.display())).map_err(Failure::could_not_run)?,
    };
    std::io::stdout().lock().write_all(&pem).map_err(Failure::output)?;
    Ok(Exit::Done)
}
