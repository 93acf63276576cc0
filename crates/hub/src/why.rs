//! `why`: one sentence of truth about a path, a value or a client, and what to do.
//!
//! It says only what the hub knows: what its index, its boards and the clients' own acknowledgements hold. What it cannot know,
//! such as which of many problems of a client are about one file, it says it does not.

use crate::access::Access;
use crate::answers::{self, refusal};
use crate::clock;
use crate::core::Hub;
use crate::share::{Held, Share};
use crate::standing::{self, Goal, Standing};
use bytes::Bytes;
use std::sync::Arc;
use tree::path::escape;
use wire::answer::{ClientState, WhyRow};
use wire::limits::BEHIND_MAX;
use wire::message::{Ack, Code, Refusal};

/// Why there is no such entry: it was, and was removed at the source.
const REMOVED: &str = "removed";
/// Why there is no such entry: it never was, as far as is known.
const UNKNOWN: &str = "unknown";

/// What is asked about.
enum Subject {
    Share(Arc<Share>),
    Entry(Arc<Share>, Bytes),
    Value(String, u64),
}

/// Answers why something is, or is not, everywhere, or at one client.
///
/// # Errors
/// When there is no such share, path, value or client, or it is not for whoever asks.
pub(crate) fn why(
    hub: &Hub,
    target: Option<&str>,
    client: Option<u64>,
    access: &Access,
) -> Result<Vec<WhyRow>, Refusal> {
    let one = client.map(|id| answers::client(hub, id, access)).transpose()?;
    let Some(target) = target else {
        let one = one.ok_or_else(|| refusal(Code::Protocol, "name a path, a value or a client".into()))?;
        return Ok(of_client(hub, &one, access));
    };
    let subject = resolve(hub, target, access)?;
    let named = one.is_some();
    let others = (!named).then(|| standing::everybody(hub, access));
    let clients = one.into_iter().chain(others.into_iter().flatten());
    let (mut rows, goal, newest, name) = match &subject {
        Subject::Share(share) => (of_share(share), Goal::head_of(share), share.board.head(), None),
        Subject::Entry(share, path) => {
            let (rows, newest) = of_entry(share, path);
            (rows, Goal::head_of(share), newest, Some(path))
        }
        Subject::Value(name, seq) => (Vec::new(), Goal::value(hub, name, *seq), *seq, None),
    };
    let what = match &subject {
        Subject::Entry(share, path) => format!("{}/{}", share.name, escape(path)),
        Subject::Share(_) | Subject::Value(..) => goal.what.clone(),
    };
    if rows.iter().any(|row| row.reason == UNKNOWN) {
        // Nobody has, or lacks, what there is not.
        return Ok(rows);
    }
    let removed = rows.iter().any(|row| row.reason == REMOVED);
    let mut have = 0;
    for standing in clients {
        let row = at_client(&standing, &goal, &what, newest, name, named);
        match row {
            Some(row) if row.has && !named => have += 1,
            Some(row) if rows.len() < BEHIND_MAX => rows.push(row),
            _ => {}
        }
    }
    if !named {
        let nobody = have == 0 && !rows.iter().any(|row| row.id.is_some());
        let (reason, text) = match have {
            0 if nobody => ("not_kept", format!("no client keeps {what}: there is nobody to have it")),
            1 if removed => ("in_sync", format!("1 client has removed {what} as well")),
            have if removed => ("in_sync", format!("{have} clients have removed {what} as well")),
            1 if goal.held => ("in_sync", format!("1 client has {what} as it last went out")),
            have if goal.held => ("in_sync", format!("{have} clients have {what} as it last went out")),
            1 => ("in_sync", format!("1 client has {what} as it is now")),
            have => ("in_sync", format!("{have} clients have {what} as it is now")),
        };
        rows.push(WhyRow { has: true, ..source(&what, reason, text) });
    }
    Ok(rows)
}

/// The share, the path in one, or the value that is meant: `SHARE`, `SHARE/PATH`, a path on the hub's own machine, a value's name,
/// or, where there is one share, a path in it.
fn resolve(hub: &Hub, target: &str, access: &Access) -> Result<Subject, Refusal> {
    let shares = || hub.shares.values().filter(|share| access.joins(&share.name));
    let entry = |share: &Arc<Share>, path: &str| match path.trim_matches('/') {
        "" => Subject::Share(Arc::clone(share)),
        path => Subject::Entry(Arc::clone(share), Bytes::copy_from_slice(path.as_bytes())),
    };
    if target.starts_with('/') {
        let asked = std::path::Path::new(target);
        let inside = shares().filter_map(|share| {
            // By the path it is shared by, or by where that leads.
            let leads_to = || std::fs::canonicalize(&share.directory).ok();
            let of = |directory: &std::path::Path| Some(asked.strip_prefix(directory).ok()?.to_str()?.to_owned());
            let path = of(&share.directory).or_else(|| of(&leads_to()?))?;
            Some((path.len(), share, path))
        });
        if let Some((_, share, path)) = inside.min_by_key(|(length, ..)| *length) {
            return Ok(entry(&share, &path));
        }
    }
    let (first, rest) = target.split_once('/').unwrap_or((target, ""));
    if let Some(share) = shares().find(|share| share.name == first) {
        return Ok(entry(&share, rest));
    }
    if access.reads(target.as_bytes())
        && let Some(record) = hub.data.board.get(target.as_bytes())
    {
        return Ok(Subject::Value(target.to_owned(), record.seq));
    }
    let mut all = shares();
    match (all.next(), all.next()) {
        (Some(share), None) => Ok(entry(&share, target)),
        _ => {
            let known = hub.shares.known(access);
            let text = format!(
                "nothing is called {target}: name a value, a path on the hub's machine, or SHARE/PATH; it shares: {known}"
            );
            Err(refusal(Code::NotFound, text))
        }
    }
}

/// What keeps a share itself from being what its directory holds.
fn of_share(share: &Share) -> Vec<WhyRow> {
    let state = share.state();
    let row = |reason: &str, text: String| source(&share.name, reason, text);
    let mut rows = Vec::new();
    if let Some(held) = &state.held {
        let text = if held.is_everything() {
            format!("{}: {}; clients keep what they have", share.name, held.text())
        } else {
            format!(
                "{}: {} deletions are held: {}; nothing of it is lost; if they are meant: lockstep allow-deletes {}",
                share.name, held.count, held.why, share.name
            )
        };
        rows.push(row("guarded", text));
    }
    for problem in &state.problems {
        let text = format!("{}: {problem}; clients keep what they have of it; {}", share.name, cure_at_source(problem));
        rows.push(row("unreadable", text));
    }
    if state.held.is_none()
        && rows.is_empty()
        && let Some(behind) = share.behind()
    {
        rows.push(row("scanning", format!("{}: {behind}; wait, or look into the hub's log", share.name)));
    }
    rows
}

/// What there is to say of one path at its source, and its newest version.
fn of_entry(share: &Share, path: &[u8]) -> (Vec<WhyRow>, u64) {
    let what = format!("{}/{}", share.name, escape(path));
    let (state, record) = (share.state(), share.board.get(path));
    let newest = record.as_ref().map_or(share.board.head(), |record| record.seq);
    let row = |reason: &str, text: String| vec![source(&what, reason, text)];
    // A problem with the path, or with a directory above it.
    let shown = escape(path);
    let about = |problem: &&String| {
        problem
            .split_once(": ")
            .is_some_and(|(at, _)| at == shown || shown.strip_prefix(at).is_some_and(|rest| rest.starts_with('/')))
    };
    if let Some(problem) = state.problems.iter().find(about) {
        let text = format!(
            "{what} is not as the source has it: {problem}; clients keep what they have of it; {}",
            cure_at_source(problem)
        );
        return (row("unreadable", text), newest);
    }
    let rows = match record {
        Some(record) if record.value.is_some() => {
            let text = format!("{what} is at version {}; that is the newest the hub has seen", record.seq);
            let mut rows = row("newest", text);
            rows[0].has = true;
            if let Some(held) = &state.held {
                let text = if held.is_everything() {
                    format!("{what} may be another one by now: {}; clients keep what they have", held.text())
                } else {
                    format!(
                        "{what} may be among {} deletions that are held: {}; if they are meant: lockstep allow-deletes {}",
                        held.count, held.why, share.name
                    )
                };
                rows.extend(row("guarded", text));
            }
            rows
        }
        Some(record) => {
            let mut rows = row(REMOVED, format!("{what} was removed at the source, as of version {}", record.seq));
            rows[0].has = true;
            rows
        }
        None if state.held.as_ref().is_some_and(Held::is_everything) => {
            let why = state.held.as_ref().map(Held::text).unwrap_or_default();
            row("guarded", format!("{what} is not shared: {why}"))
        }
        None => {
            let text = format!(
                "{what} is not shared: {} has no such entry, or it is one that never is (a temporary name, or a file of \
                 Lockstep's own); check the name",
                share.directory.display()
            );
            row(UNKNOWN, text)
        }
    };
    // What is wrong with other paths is no matter of this one.
    let behind = share.behind().filter(|_| state.held.is_none() && state.problems.is_empty());
    match behind {
        Some(behind) => {
            let text = format!("{what}: {behind}; what is told of it may be old, wait or look into the hub's log");
            (rows.into_iter().chain(row("scanning", text)).collect(), newest)
        }
        None => (rows, newest),
    }
}

fn source(what: &str, reason: &str, text: String) -> WhyRow {
    WhyRow {
        what: what.to_owned(),
        id: None,
        name: String::new(),
        has: false,
        reason: reason.to_owned(),
        text,
        since_ms: None,
    }
}

/// What one client has of something; `None` for one that is not to have it, unless it was asked for by its id.
fn at_client(
    standing: &Standing,
    goal: &Goal,
    what: &str,
    newest: u64,
    path: Option<&Bytes>,
    named: bool,
) -> Option<WhyRow> {
    let who = who(standing);
    let row = |has: bool, reason: &str, text: String| {
        Some(WhyRow {
            what: what.to_owned(),
            id: Some(standing.id()),
            name: standing.client.name.clone(),
            has,
            reason: reason.to_owned(),
            text: format!("{who} {text}"),
            since_ms: None,
        })
    };
    let since = |row: Option<WhyRow>, since_ms: Option<i64>| row.map(|row| WhyRow { since_ms, ..row });
    let id = standing.id();
    if !standing.follows(goal) {
        if !named {
            return None;
        }
        return match standing.state() {
            ClientState::Revoked => {
                row(false, "revoked", "was revoked and is never let in again; give that machine another id".into())
            }
            ClientState::Expected => {
                row(false, "expected", "never came; give its machine a join link: lockstep invite".into())
            }
            _ if !standing.may_have(goal) => {
                let cure = format!("an administrator can change that: lockstep clients rights {id}");
                row(false, "not_allowed", format!("may not have {what}; {cure}"))
            }
            _ => row(false, "not_following", format!("does not follow {what}; there: lockstep join --share NAME=DIR")),
        };
    }
    if standing.session.is_none() {
        let (behind, since_ms) = standing.behind(goal).map(|behind| (behind.why, behind.since_ms)).unwrap_or_default();
        let text = format!(
            "is {behind}; it keeps what it had and catches up by itself: see that its machine and `lockstep join` run"
        );
        return since(row(false, "away", text), since_ms);
    }
    let ack = standing.ack(goal);
    let applied = ack.map_or(0, |ack| ack.applied.seq);
    let out = if goal.held { "newest that went out" } else { "newest" };
    match path {
        None => match standing.behind(goal) {
            None => row(true, "in_sync", format!("has {what} at version {newest}, the {out}")),
            Some(behind) => {
                let problems = ack.is_some_and(|ack| ack.problems > 0);
                let (reason, cure) = if problems {
                    ("problem", format!("the old content is intact; {}", cure_at_client(&behind.why)))
                } else {
                    ("behind", "it is on its way".to_owned())
                };
                let text = format!("has version {applied} of {newest} of {what}: {}; {cure}", behind.why);
                since(row(false, reason, text), behind.since_ms)
            }
        },
        Some(path) => match of_path(ack, path, newest, what) {
            None => row(true, "in_sync", format!("has {what} as of version {newest}, the {out}")),
            Some((reason, text, cure)) => {
                // What is lacked of this path, and not of all else.
                let newest =
                    goal.lacked_since(newest.saturating_sub(1)).filter(|_| reason == "behind" && ack.is_some());
                let lacked = newest.or_else(|| standing.lack(goal)?.since).map(clock::ms_of);
                let told = lacked.map_or_else(String::new, |at| format!(", since {}", clock::rfc3339(at)));
                since(row(false, reason, format!("{text}{told}; {cure}")), lacked)
            }
        },
    }
}

/// Why a client that is here does not have one path as it is now: in a word, in a sentence, and what to do.
fn of_path(ack: Option<&Ack>, path: &Bytes, newest: u64, what: &str) -> Option<(&'static str, String, &'static str)> {
    let Some(ack) = ack else {
        return Some(("behind", format!("has just come in and has not told yet what it holds of {what}"), "ask again"));
    };
    if let Some((_, text)) = ack.first_problems.iter().find(|(name, _)| name == path) {
        let told = format!("cannot apply {what}: {text}; the old content is intact");
        return Some(("problem", told, cure_at_client(text)));
    }
    if ack.applied.seq < newest {
        let waiting = match ack.waiting {
            0 => String::new(),
            waiting => format!(", {waiting} contents on their way"),
        };
        let text = format!("has version {} of {newest} of {what}{waiting}", ack.applied.seq);
        return Some(("behind", text, "it is on its way"));
    }
    if ack.problems as usize > ack.first_problems.len() {
        let told = ack.first_problems.len();
        let text = format!("has {} problems, of which it told {told}", ack.problems);
        return Some(("problem", text, "whether this is among the others only its log says (lockstep join there)"));
    }
    None
}

/// All that a client follows.
fn of_client(hub: &Hub, standing: &Standing, access: &Access) -> Vec<WhyRow> {
    let shares = hub.shares.values().filter(|share| access.joins(&share.name)).map(|share| Goal::head_of(&share));
    let goals = shares.chain([Goal::values(hub)]).filter(|goal| standing.follows(goal));
    let rows: Vec<WhyRow> =
        goals.filter_map(|goal| at_client(standing, &goal, &goal.what, goal.seq, None, true)).collect();
    if !rows.is_empty() {
        return rows;
    }
    let who = who(standing);
    let (has, reason, text) = match standing.state() {
        ClientState::Revoked => {
            (false, "revoked", "was revoked and is never let in again; give that machine another id")
        }
        ClientState::Expected => (false, "expected", "never came; give its machine a join link: lockstep invite"),
        ClientState::Provisional => {
            (false, "provisional", "was issued its unique ID and has not confirmed it; start it again there")
        }
        ClientState::Away => (false, "away", "is away, and kept no share and no values when it was last here"),
        ClientState::Active => {
            (true, "in_sync", "is here, and keeps no share and no values: there is nothing it lacks")
        }
    };
    let (id, name) = (Some(standing.id()), standing.client.name.clone());
    vec![WhyRow {
        what: String::new(),
        id,
        name,
        has,
        reason: reason.into(),
        text: format!("{who} {text}"),
        since_ms: None,
    }]
}

fn who(standing: &Standing) -> String {
    match standing.client.name.as_str() {
        "" => format!("client {}", standing.id()),
        name => format!("client {} ({})", standing.id(), escape(name.as_bytes())),
    }
}

/// What a person can do about what a client could not apply; by the words of the system, which are the same everywhere.
fn cure_at_client(problem: &str) -> &'static str {
    let is = |words: &[&str]| words.iter().any(|word| problem.to_ascii_lowercase().contains(word));
    if is(&["no space left", "disk full", "quota"]) {
        "free some space on that machine; it tries again by itself"
    } else if is(&["permission denied", "not permitted"]) {
        "give the user that runs `lockstep join` there the right to write it; it tries again by itself"
    } else if is(&["read-only"]) {
        "make the file system there writable; it tries again by itself"
    } else if is(&["name too long"]) {
        "shorten the name at the source: the file system there does not take it"
    } else {
        "the log of `lockstep join` there says more; it tries again by itself"
    }
}

/// The same, for what the hub could not read.
fn cure_at_source(problem: &str) -> &'static str {
    if problem.to_ascii_lowercase().contains("permission denied") {
        "let the hub's user read it; it looks again by itself"
    } else {
        "the hub's log says more"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::message::Version;

    fn ack(seq: u64, problems: u32, named: &[(&'static str, &str)]) -> Ack {
        let named = named.iter().map(|(name, text)| (Bytes::from_static(name.as_bytes()), (*text).to_owned()));
        let applied = Ack::of(0, Version { epoch: 1, run: 1, seq }, true);
        Ack { problems, first_problems: named.collect(), ..applied }
    }

    #[test]
    fn one_path_is_judged_by_its_own_version_and_its_own_problem() {
        let path = Bytes::from_static(b"a");
        let of = |ack: &Ack, newest| of_path(Some(ack), &path, newest, "s/a");
        assert_eq!(of(&ack(812, 0, &[]), 800), None, "what came later is none of its business");
        assert_eq!(of(&ack(812, 1, &[("b", "x")]), 800), None, "nor is another's problem");
        let (reason, text, _) = of(&ack(812, 0, &[]), 840).unwrap();
        assert!(reason == "behind" && text.contains("version 812 of 840"), "{text}");
        let (reason, text, cure) = of(&ack(812, 1, &[("a", "No space left on device")]), 800).unwrap();
        assert!(reason == "problem" && cure.contains("free some space") && text.contains("intact"), "{text}; {cure}");
        // What cannot be known is not told as if it were.
        let (reason, text, cure) = of(&ack(812, 9, &[("b", "x")]), 800).unwrap();
        assert!(reason == "problem" && cure.contains("only its log says"), "{text}; {cure}");
        assert_eq!(of_path(None, &path, 1, "s/a").unwrap().0, "behind");
    }
}
