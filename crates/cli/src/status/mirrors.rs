//! `lockstep status --mirror`: the pairs of all mirrors that run, as they say themselves.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::logging::say;
use crate::mirror::{Asked, PairStatus, Process, Stand, ask_all, status_dir};
use crate::table::{count, escaped};

/// A loop that was silent for longer than this is told of: one with nothing to do goes round once a second.
const SILENT_MS: u64 = 5_000;

/// Prints how each pair stands. A mirror that does not answer is named, and keeps nobody waiting.
///
/// # Errors
/// When none runs, or nobody can read what is printed.
pub(super) fn run(data: Option<&Path>, json: bool) -> Result<Exit, Failure> {
    let dir = status_dir(data)?;
    let asked = ask_all(&dir)?;
    if asked.is_empty() {
        return Err(Failure::could_not_run(anyhow::anyhow!(
            "no mirror runs (looked in {}); lockstep mirror --watch is one, and with --data DIR it is found there",
            dir.display()
        )));
    }
    let mut out = io::stdout().lock();
    let mut exit = Exit::Done;
    for asked in &asked {
        match asked {
            Asked::Answered(process) if json => records(&mut out, process),
            Asked::Answered(process) => print(&mut out, process),
            Asked::Silent(why) => {
                say(format_args!("{why}"));
                exit = Exit::SomeFailed;
                Ok(())
            }
        }
        .map_err(Failure::output)?;
    }
    Ok(exit)
}

fn records(out: &mut impl Write, process: &Process) -> io::Result<()> {
    process.pairs.iter().try_for_each(|pair| {
        let mut record = json!(pair);
        if let Some(record) = record.as_object_mut() {
            record.insert("process".into(), process.pid.into());
            record.insert("version".into(), Value::String(process.version.clone()));
            record.insert("started_at".into(), Value::String(process.started_at.clone()));
        }
        writeln!(out, "{record}")
    })
}

fn print(out: &mut impl Write, process: &Process) -> io::Result<()> {
    let Process { version, pid, started_at, pairs } = process;
    writeln!(out, "mirror   process {pid} (lockstep {}), since {}", escaped(version), escaped(started_at))?;
    pairs.iter().try_for_each(|pair| print_pair(out, pair))
}

fn print_pair(out: &mut impl Write, pair: &PairStatus) -> io::Result<()> {
    let mut row = |title: &str, text: String| writeln!(out, "{title:<8} {}", escaped(&text));
    row("pair", format!("{}: {} -> {}", pair.name, pair.source, pair.destination))?;
    row("", state(pair))?;
    if pair.silent_ms > SILENT_MS && pair.state != Stand::Ended {
        row("", format!("its loop gives no sign of life for {} s: a disk may not answer", pair.silent_ms / 1_000))?;
    }
    let PairStatus { copied, updated, deleted, bytes, passes, walks, .. } = pair;
    row(
        "",
        format!(
            "copied {copied}, updated {updated}, deleted {deleted} ({bytes} bytes) in {passes} passes, {walks} of all"
        ),
    )?;
    if let Some(change) = &pair.last_change {
        row("", format!("last change: {} {} at {}", change.action, entry(&change.path), change.time))?;
    }
    if pair.polled > 0 {
        row("", format!("{} directories have no watch and are polled", pair.polled))?;
    }
    for named in &pair.named {
        row("", format!("problem: {}: {}", entry(&named.path), named.error))?;
    }
    let unnamed = pair.problems.saturating_sub(pair.named.len() as u64);
    if unnamed > 0 {
        row("", format!("and {}", count(unnamed, "problem more", "problems more")))?;
    }
    let Some(after) = &pair.after else { return Ok(()) };
    let now = if after.running { ", runs now" } else { "" };
    let waiting = if after.waiting > 0 { format!(", {} paths wait for it", after.waiting) } else { String::new() };
    row("", format!("after: {}: {} runs, {} failed{now}{waiting}", after.program, after.runs, after.failed))?;
    if let Some(last) = &after.last {
        let code = last.code.map(|code| format!(" with {code}")).unwrap_or_default();
        let said = last.said.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
        let text = format!("last {}{code} at {} after {} ms, {} paths{said}", last.end, last.time, last.ms, last.paths);
        row("", text)?;
    }
    Ok(())
}

/// The directory itself has no name in it.
fn entry(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

fn state(pair: &PairStatus) -> String {
    let count = match (pair.looked_at, pair.entries) {
        (Some(looked_at), _) => format!(", {looked_at} entries so far"),
        (None, Some(entries)) => format!(", {}", count(entries, "entry", "entries")),
        (None, None) => String::new(),
    };
    let held = pair.held.map(|held| format!(", {held} deletions")).unwrap_or_default();
    let why = pair.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}{count}{held} since {}{why}", pair.state.words(), pair.since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::PairStatus;

    #[test]
    fn a_pair_is_told_with_all_that_is_wrong_and_nothing_of_it_can_write_to_the_terminal() {
        let text = r#"{"name": "a", "source": "/s", "destination": "/d\u001b[0m", "state": "away", "since": "t",
            "why": "the source was unmounted", "silent_ms": 9000, "entries": 7, "problems": 3,
            "named": [{"path": "x", "error": "no right"}, {"path": "", "error": "gone"}], "held": 2, "last_change": null,
            "after": {"program": "p", "runs": 2, "failed": 1, "waiting": 4, "last":
              {"time": "t", "end": "exited", "code": 3, "ms": 12, "paths": 5, "said": "no"}}, "unknown": 1}"#;
        let pair: PairStatus = serde_json::from_str(text).unwrap();
        let mut out = Vec::new();
        print_pair(&mut out, &pair).unwrap();
        let out = String::from_utf8(out).unwrap();
        for told in [
            "pair     a: /s -> /d\\u{1b}[0m\n",
            "away, 7 entries, 2 deletions since t: the source was unmounted",
            "no sign of life for 9 s",
            "problem: x: no right",
            "problem: .: gone",
            "and 1 problem more",
            "after: p: 2 runs, 1 failed, 4 paths wait for it",
            "last exited with 3 at t after 12 ms, 5 paths: no",
        ] {
            assert!(out.contains(told), "{told:?} is missing in:\n{out}");
        }
    }
}
