//! `lockstep put`: a named value for everybody; on the hub's disk before the command ends.

use std::io::Read;

use anyhow::Context as _;
use bytes::Bytes;
use wire::limits::VALUE_BYTES_MAX;
use wire::message::Content;

use crate::exit::{Exit, Failure};
use crate::reach::ReachArgs;
use crate::{answered, runtime};

/// The content type of a value that is text.
const TEXT: &str = "text/plain; charset=utf-8";
/// And of one that is not.
const BYTES: &str = "application/octet-stream";

/// Puts a named value: every machine that follows the name has it at once
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The value's name
    name: String,

    /// The value; - reads it from standard input, as bytes
    #[arg(required_unless_present = "remove", conflicts_with = "remove", allow_hyphen_values = true)]
    value: Option<String>,

    /// Removes the value instead
    #[arg(long)]
    remove: bool,

    /// Its content type; by default text or bytes, as it is
    #[arg(long = "type", value_name = "TYPE")]
    content_type: Option<String>,

    #[command(flatten)]
    reach: ReachArgs,
}

/// Puts the value and returns once it is on the hub's disk.
///
/// # Errors
/// When the hub is not reached or refuses; nothing was changed then.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let bytes = match args.value.as_deref() {
        None => None,
        Some("-") => {
            let mut bytes = Vec::new();
            // One more than allowed, so that what is too long is told and not cut.
            let limit = u64::try_from(VALUE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
            std::io::stdin().take(limit).read_to_end(&mut bytes).context("cannot read standard input")?;
            Some(Bytes::from(bytes))
        }
        Some(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
    };
    if bytes.as_ref().is_some_and(|bytes| bytes.len() > VALUE_BYTES_MAX) {
        return Err(Failure::usage(format!("a value has at most {VALUE_BYTES_MAX} bytes: share a file instead")));
    }
    let value = bytes.map(|bytes| {
        let guessed = if std::str::from_utf8(&bytes).is_ok() { TEXT } else { BYTES };
        Content { content_type: args.content_type.unwrap_or_else(|| guessed.to_owned()), bytes }
    });
    runtime::start()?.block_on(async {
        let mut client = args.reach.connect().await?;
        client.put(args.name, value).await.map_err(answered)?;
        Ok(Exit::Done)
    })
}
