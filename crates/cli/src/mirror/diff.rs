//! `lockstep mirror --diff`: which names each side has.

use std::io::{self, Write};

use mirror::{Mirror, Named, Side};
use serde_json::json;
use tree::path::escape;

use crate::exit::{Exit, Failure};
use crate::logging::Log;

/// Prints each name, in the order of the paths, and how many there are.
///
/// # Errors
/// When nobody can read the report.
pub(super) fn run(mirror: &mut Mirror, json: bool, log: &Log) -> Result<Exit, Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut failed: Option<io::Error> = None;
    let mut counts = [0_u64; 3];
    let mut print = |line: String| {
        if failed.is_none() {
            failed = writeln!(out, "{line}").err();
        }
    };
    let problems = mirror.diff(&mut |named: &Named<'_>| {
        let (slot, sign, word) = match named.side {
            Side::Source => (0, ">>", "only-source"),
            Side::Destination => (1, "<<", "only-destination"),
            Side::Both => (2, "--", "both"),
        };
        counts[slot] += 1;
        let path = named.path;
        print(if json {
            let kind = named.kind.map(|kind| kind.to_string());
            json!({ "time": super::now(), "action": word, "path": escape(path.as_bytes()), "kind": kind }).to_string()
        } else {
            format!("{sign} {path}")
        });
    });
    let [source, destination, both] = counts;
    let failures = problems.len();
    for (path, problem) in &problems {
        eprintln!("{problem}");
        log_line(log, &format!("{} failed {path}: {problem}", super::now()));
        if json {
            let (path, error) = (escape(path.as_bytes()), problem.to_string());
            print(json!({ "time": super::now(), "action": "failed", "path": path, "error": error }).to_string());
        }
    }
    let text = format!("only in the source {source}, only in the destination {destination}, in both {both}");
    print(if json {
        json!({
            "time": super::now(), "action": "diff", "only_source": source, "only_destination": destination,
            "both": both, "failed": failures,
        })
        .to_string()
    } else {
        text.clone()
    });
    log_line(log, &format!("{} diff {text}, failed {failures}", super::now()));
    match failed.or(out.flush().err()) {
        Some(error) => Err(Failure::output(error)),
        None if problems.is_empty() => Ok(Exit::Done),
        None => Ok(Exit::SomeFailed),
    }
}

fn log_line(log: &Log, line: &str) {
    if let Err(error) = log.append_line(line.as_bytes()) {
        eprintln!("log: {error}");
    }
}
