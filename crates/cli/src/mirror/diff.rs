//! `lockstep mirror --diff`: which names each side has.

use mirror::{Mirror, Named, Side};
use serde_json::json;
use tree::path::escape;

use super::output::{Teller, now};
use crate::exit::Exit;

/// Prints each name, in the order of the paths, and how many there are.
pub(super) fn run(mirror: &mut Mirror, teller: &Teller) -> Exit {
    let json = teller.is_json();
    let mut counts = [0_u64; 3];
    let problems = mirror.diff(&mut |named: &Named<'_>| {
        let (slot, sign, word) = match named.side {
            Side::Source => (0, ">>", "only-source"),
            Side::Destination => (1, "<<", "only-destination"),
            Side::Both => (2, "--", "both"),
        };
        counts[slot] += 1;
        let path = named.path;
        if json {
            let kind = named.kind.map(|kind| kind.to_string());
            teller.show(json!({ "time": now(), "action": word, "path": escape(path.as_bytes()), "kind": kind }));
        } else {
            teller.print(&format!("{sign} {path}"));
        }
    });
    let [source, destination, both] = counts;
    let failures = problems.len();
    for (path, problem) in &problems {
        teller.warn(&problem.to_string());
        teller.log(&format!("failed {path}: {problem}"));
        if json {
            let (path, error) = (escape(path.as_bytes()), problem.to_string());
            teller.show(json!({ "time": now(), "action": "failed", "path": path, "error": error }));
        }
    }
    let text = format!("only in the source {source}, only in the destination {destination}, in both {both}");
    if json {
        teller.show(json!({
            "time": now(), "action": "diff", "only_source": source, "only_destination": destination,
            "both": both, "failed": failures,
        }));
    } else {
        teller.print(&text);
    }
    teller.log(&format!("diff {text}, failed {failures}"));
    if problems.is_empty() { Exit::Done } else { Exit::SomeFailed }
}
