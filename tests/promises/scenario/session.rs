//! Taking part together: what one puts, and what becomes of the others and of it when somebody ends.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::{Cluster, lapse};

use super::Record;
use super::program::{Say, Session, Told};
use crate::socketio::change_unheard;

/// Revoked ones are cut within a second; with what a busy machine adds.
const REVOKED_MAX: Duration = Duration::from_secs(2);

/// Values of a tenth of a megabyte that fill what the system holds for a connection.
const FILLING: usize = 150;

fn run(cluster: &Cluster, args: &[&str]) {
    let output = cluster.run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Each puts in turn, and all have it.
pub(super) fn puts(sessions: &mut [Session<'_>], record: &Record) {
    for putter in 0..sessions.len() {
        let transport = sessions[putter].transport.name();
        let name = format!("from/{transport}");
        record.step(transport, "put", || {
            for value in ["first", "newest"] {
                let marks: Vec<usize> = sessions.iter_mut().map(|session| session.program.mark()).collect();
                sessions[putter].program.say(Say::Put(&name, value));
                sessions[putter].program.hear(marks[putter], &Told::Done);
                for (session, mark) in sessions.iter_mut().zip(marks) {
                    session.program.hear_value(mark, &name, value);
                }
            }
        });
    }
}

/// What `session` was told since `mark` is exactly this, and nothing else was to be told anew.
#[track_caller]
fn missed(session: &mut Session<'_>, mark: usize, expected: &[(&str, Option<&str>)]) {
    let owned = |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(str::to_owned));
    let expected: BTreeSet<_> = expected.iter().map(owned).collect();
    assert!(!session.program.told()[mark..].contains(&Told::Reset), "{} begins anew", session.transport.name());
    let mut changes = session.program.changes(mark);
    // Somebody may log in meanwhile, and put.
    changes.retain(|(name, _)| !name.starts_with("mine/"));
    assert_eq!(changes, expected, "{}", session.transport.name());
}

/// Waits until all have `name` and know that there is nothing newer.
#[track_caller]
fn all_have(sessions: &mut [Session<'_>], name: &str, value: &str) {
    for session in sessions {
        let mark = session.program.hear_value(0, name, value);
        session.program.settle(mark);
    }
}

/// The hub is killed, and started again after what nobody could hear: all come back and get exactly that.
pub(super) fn hub_killed(cluster: &mut Cluster, sessions: &mut [Session<'_>], record: &Record) {
    for n in 1..=5 {
        run(cluster, &["put", &format!("kept/{n}"), "old"]);
    }
    all_have(sessions, "kept/5", "old");
    let marks: Vec<usize> = sessions.iter_mut().map(|session| session.program.mark()).collect();
    cluster.kill_hub();
    let marks: Vec<usize> =
        sessions.iter_mut().zip(marks).map(|(session, mark)| session.program.hear(mark, &Told::Cut)).collect();
    change_unheard(cluster);
    cluster.start_hub();
    for (session, mark) in sessions.iter_mut().zip(marks) {
        let mut since = 0;
        let name = session.transport.name();
        record.step(name, "hub killed", || {
            since = session.back(mark);
            session.is_listed(cluster, true);
        });
        record.step(name, "resume", || resumed(session, since));
    }
}

/// It has exactly what it missed, each name once and its newest.
pub(super) fn resumed(session: &mut Session<'_>, mark: usize) {
    missed(session, mark, &[("kept/3", Some("newest")), ("kept/4", None), ("new", Some("newest"))]);
}

/// All stand still, and what is put waits for them: they leave the list, each in its time, and go on with the newest.
pub(super) fn silence(cluster: &Cluster, sessions: &mut [Session<'_>], record: &Record) {
    let mut marks = Vec::new();
    for session in sessions.iter_mut() {
        marks.push(session.program.mark());
        session.program.stand_still();
    }
    let start = Instant::now();
    let mut here: Vec<usize> = (0..sessions.len()).collect();
    for n in 0.. {
        if here.is_empty() {
            break;
        }
        run(cluster, &["put", "big", &format!("{n}-{}", "x".repeat(100_000))]);
        let active = crate::http::active(cluster);
        here.retain(|n| active.iter().any(|(id, _)| *id == sessions[*n].id));
        for n in &here {
            let transport = sessions[*n].transport;
            assert!(start.elapsed() < transport.silence(), "{} is still told as active", transport.name());
        }
        // More than the system holds for one at once, then what shows that it is not taken.
        lapse(Duration::from_millis(if n < FILLING { 5 } else { 250 }), "the pace of the puts");
    }
    // One that nobody can have heard.
    run(cluster, &["put", "big", "newest"]);
    for (session, mark) in sessions.iter_mut().zip(marks) {
        record.step(session.transport.name(), "silence", || {
            session.program.go_on();
            let mark = session.program.hear(mark, &Told::Cut);
            let mark = session.back(mark);
            missed(session, mark, &[("big", Some("newest"))]);
            session.is_listed(cluster, true);
        });
    }
}

/// A second program with the right proof is in, and the first is told and stays away.
pub(super) fn taken_over(cluster: &Cluster, session: &mut Session<'_>) {
    let cursor = session.program.cursor();
    let newer = session.transport.connect(cursor.as_deref());
    let mut first = std::mem::replace(&mut session.program, newer);
    let mark = first.mark();
    session.program.hear(0, &Told::Id);
    assert_eq!(session.program.ask(Say::Id(&session.id.to_string())), Told::UniqueId);
    assert_eq!(session.program.ask(Say::UniqueId(&session.unique_id)), Told::Welcome);
    session.program.say(Say::Follow);
    let gone = first.hear(mark, &Told::Bye("taken_over".to_owned()));
    first.hear(gone, &Told::Cut);
    // Had it come back, it would have taken over in turn, or been asked.
    let name = format!("taken/{}", session.id);
    session.program.say(Say::Put(&name, "over"));
    session.program.hear_value(0, &name, "over");
    session.program.settle(0);
    let told = session.program.told();
    assert!(!told.iter().any(|told| matches!(told, Told::Bye(_) | Told::Cut)), "{told:?}");
    assert!(!first.told()[gone..].contains(&Told::Id), "{:?}", first.told());
    session.is_listed(cluster, true);
}

/// Killed, it is off the list at once, and comes back as it was with what it missed.
pub(super) fn killed(cluster: &Cluster, session: &mut Session<'_>) {
    let name = format!("killed/{}", session.id);
    run(cluster, &["put", &name, "before"]);
    let mark = session.program.hear_value(0, &name, "before");
    session.program.settle(mark);
    session.program.kill();
    session.is_listed(cluster, false);
    for value in ["1", "2", "newest"] {
        run(cluster, &["put", &name, value]);
    }
    let mark = session.back(0);
    missed(session, mark, &[(&name, Some("newest"))]);
    session.is_listed(cluster, true);
}

/// Revoked, it is cut within a second, and its unique ID is good for nothing any more.
pub(super) fn revoked(cluster: &Cluster, session: &mut Session<'_>, record: &Record) {
    let (mark, start) = (session.program.mark(), Instant::now());
    run(cluster, &["clients", "revoke", &session.id.to_string()]);
    session.program.hear(mark, &Told::Cut);
    assert!(start.elapsed() < REVOKED_MAX, "after {:?}", start.elapsed());
    session.is_listed(cluster, false);
    record.step(session.transport.name(), "goodbye", || {
        session.program.hear(mark, &Told::Bye("revoked".to_owned()));
    });
    let mut again = session.transport.connect(None);
    again.hear(0, &Told::Id);
    assert_eq!(again.ask(Say::Id(&session.id.to_string())), Told::UniqueId);
    assert_eq!(again.refused(Say::UniqueId(&session.unique_id)).0, "not_proven");
}
