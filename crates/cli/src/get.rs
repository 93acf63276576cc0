//! `lockstep get`: the newest value of one name, as its bytes.

use std::io::Write;

use serde_json::{Value, json};
use wire::message::{Stored, Version};

use crate::exit::{Exit, Failure};
use crate::reach::ReachArgs;
use crate::{answered, runtime};

/// Prints the newest value of a name
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The value's name
    name: String,

    /// Prints one JSON object with its version, its time and who put it
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: ReachArgs,
}

/// Prints the value: its bytes and nothing else, so that it can be piped.
///
/// # Errors
/// When the hub is not reached. A name without a value ends with exit code 1.
pub(crate) fn run(args: Args) -> Result<Exit, Failure> {
    let found = runtime::start()?.block_on(async {
        let mut client = args.reach.connect().await?;
        client.get(args.name.clone()).await.map_err(answered)
    })?;
    let Some((version, stored)) = found else {
        return Err(Failure::new(Exit::SomeFailed, anyhow::anyhow!("there is no value called {}", args.name)));
    };
    let mut out = std::io::stdout().lock();
    let written = if args.json {
        writeln!(out, "{}", object(args.name.as_bytes(), version, Some(&stored)))
    } else {
        out.write_all(&stored.content.bytes)
    };
    written.and_then(|()| out.flush()).map_err(Failure::output)?;
    Ok(Exit::Done)
}

/// A value as a JSON object; `stored: None` is a removed one. Bytes that are not UTF-8 stand in `base64`.
pub(crate) fn object(name: &[u8], version: Version, stored: Option<&Stored>) -> Value {
    let name = String::from_utf8_lossy(name);
    let version = format!("{:032x}.{:016x}.{}", version.epoch, version.run, version.seq);
    let Some(stored) = stored else {
        return json!({ "name": name, "version": version, "removed": true });
    };
    let mut object = json!({
        "name": name,
        "version": version,
        "content_type": stored.content.content_type,
        "changed_by": stored.by,
        "changed_at_ms": stored.at_ms,
        "size_bytes": stored.content.bytes.len(),
    });
    match std::str::from_utf8(&stored.content.bytes) {
        Ok(text) => object["value"] = text.into(),
        Err(_) => object["base64"] = data_encoding::BASE64.encode(&stored.content.bytes).into(),
    }
    object
}
