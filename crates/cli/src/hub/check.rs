//! `lockstep hub check`: what a start would find.

use std::io::{self, Write};
use std::net::SocketAddr;

use hub::check::{Finding, Verdict};
use serde_json::json;
use tokio::sync::watch;
use wire::answer::{Answer, Question};

use super::{Args, named};
use crate::exit::{Exit, Failure};
use crate::{answered, reach, runtime};

/// Tells what a start with these flags and this configuration would find, and starts nothing
///
/// Flags come before: lockstep hub --share site=/srv/site check. Ends with 3 when the hub would not start.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Looks and tells.
///
/// # Errors
/// When an address is none: that is wrong usage, as it would be at a start.
pub(super) fn check(check: &CheckArgs, args: &Args) -> Result<Exit, Failure> {
    let mut findings = Vec::new();
    let mut shares = Vec::new();
    for share in &args.share {
        match named(share) {
            Ok(share) => shares.push(share),
            Err(failure) => {
                findings.push(Finding { what: "share", verdict: Verdict::Bad, text: format!("{:#}", failure.error) })
            }
        }
    }
    let (_set, settings) = watch::channel(args.settings(shares)?);
    let config = args.config(settings)?;
    findings.extend(runtime::start()?.block_on(async {
        let held = addresses_held(args).await.unwrap_or_default();
        hub::check::check(&config, &held).await
    }));
    let bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    let mut out = io::stdout().lock();
    let written = findings.iter().try_for_each(|Finding { what, verdict, text }| {
        let verdict = match verdict {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Bad => "bad",
        };
        match check.json {
            true => writeln!(out, "{}", json!({ "what": what, "verdict": verdict, "text": text })),
            false => writeln!(out, "{verdict:5} {what:7} {text}"),
        }
    });
    written.and_then(|()| out.flush()).map_err(Failure::output)?;
    Ok(if bad { Exit::CouldNotRun } else { Exit::Done })
}

/// Where the hub listens that runs on the data directory now, if one does.
async fn addresses_held(args: &Args) -> Result<Vec<SocketAddr>, Failure> {
    let Some(mut client) = reach::served(&args.data()?).await? else { return Ok(Vec::new()) };
    let Answer::Status(status) = client.ask(Question::Status).await.map_err(answered)? else { return Ok(Vec::new()) };
    let address =
        |text: &String| text.split_once("://").map_or(text.as_str(), |(_, rest)| rest).trim_end_matches('/').parse();
    Ok(status.addresses.iter().filter_map(|text| address(text).ok()).collect())
}
