//! Logging in, by one program at a time.

use support::{Cluster, PATIENCE, until};
use wire::id::ClientId;
use wire::unique_id::UniqueId;

use super::Record;
use super::program::{Program, Say, Session, Told, Transport};
use crate::login::state;

/// What is no ID, as JSON, and a word of the reason that is given. The third answer would be the last.
const NO_IDS: [(&str, &str); 2] = [("\"7\"", "integer"), ("7.5", "point")];

/// All of them, with ids from `base` on.
pub(super) fn steps(cluster: &Cluster, transport: &dyn Transport, base: u64, record: &Record) {
    let step = |step, does: &mut dyn FnMut()| record.step(transport.name(), step, does);
    let mut one = None;
    step("first login", &mut || one = Some(first(cluster, transport, base)));
    step("second login", &mut || one = Some(second(cluster, one.take().expect("it was the first step"))));
    step("wrong unique ID", &mut || wrong(cluster, one.as_mut().expect("it was the first step")));
    drop(one);
    step("no integer", &mut || no_integer(cluster, transport, base + 1));
    step("cut before the id", &mut || cut_before_id(cluster, transport, base + 2));
    step("cut after the id", &mut || cut_after_id(cluster, transport, base + 3));
    step("cut after the unique ID", &mut || cut_after_unique_id(cluster, transport, base + 4));
    step("cut after confirming", &mut || cut_after_confirming(cluster, transport, base + 5));
}

/// A program that is asked for its id.
#[track_caller]
fn asked(transport: &dyn Transport) -> Box<dyn Program> {
    let mut program = transport.connect(None);
    program.hear(0, &Told::Id);
    program
}

/// A program that says an id that is taken, and is asked for its unique ID.
#[track_caller]
fn claims(transport: &dyn Transport, id: u64) -> Box<dyn Program> {
    let mut program = asked(transport);
    assert_eq!(program.ask(Say::Id(&id.to_string())), Told::UniqueId, "{id} is taken");
    program
}

/// A program that is issued a unique ID.
#[track_caller]
fn issued(transport: &dyn Transport, id: u64) -> (Box<dyn Program>, String) {
    let mut program = asked(transport);
    match program.ask(Say::Id(&id.to_string())) {
        Told::Issued(unique_id) => (program, unique_id),
        other => panic!("{id} is new: {other:?}"),
    }
}

/// Whoever has this is let in with it.
#[track_caller]
fn let_in(transport: &dyn Transport, id: u64, unique_id: &str) -> Box<dyn Program> {
    let mut program = claims(transport, id);
    assert_eq!(program.ask(Say::UniqueId(unique_id)), Told::Welcome);
    program
}

#[track_caller]
fn refuses(transport: &dyn Transport, id: u64, proof: Say<'_>) {
    let mut program = claims(transport, id);
    assert_eq!(program.refused(proof).0, "not_proven");
    assert!(!program.told().contains(&Told::Welcome));
}

fn another(id: u64) -> String {
    UniqueId::fresh(ClientId::new(id).unwrap()).unwrap().reveal()
}

pub(super) fn first<'a>(cluster: &Cluster, transport: &'a dyn Transport, id: u64) -> Session<'a> {
    let session = Session::enrolled(transport, id);
    let unique_id = UniqueId::parse(&session.unique_id).unwrap();
    assert_eq!(unique_id.id().get(), id);
    session.is_listed(cluster, true);
    session
}

/// It is asked for its unique ID, and let in with it.
pub(super) fn second<'a>(cluster: &Cluster, first: Session<'a>) -> Session<'a> {
    let Session { transport, program, id, unique_id } = first;
    drop(program);
    until(PATIENCE, "it to leave", || state(cluster, id).as_deref() == Some("away"));
    let program = let_in(transport, id, &unique_id);
    let mut second = Session { transport, program, id, unique_id };
    second.program.say(Say::Follow);
    second.program.settle(0);
    second.is_listed(cluster, true);
    second
}

/// Whoever has not the right one stays out, and the one who has it notices nothing.
pub(super) fn wrong(cluster: &Cluster, owner: &mut Session<'_>) {
    let mark = owner.program.mark();
    refuses(owner.transport, owner.id, Say::UniqueId(&another(owner.id)));
    owner.program.say(Say::Put(&format!("mine/{}", owner.id), "still"));
    owner.program.hear(mark, &Told::Done);
    let told = &owner.program.told()[mark..];
    assert!(!told.iter().any(|told| matches!(told, Told::Bye(_) | Told::Cut)), "{told:?}");
    assert_eq!(state(cluster, owner.id).as_deref(), Some("active"));
}

pub(super) fn no_integer(cluster: &Cluster, transport: &dyn Transport, id: u64) {
    let mut program = asked(transport);
    for (bad, reason) in NO_IDS {
        let (code, text) = program.refused(Say::Id(bad));
        assert_eq!(code, "bad_id", "{bad}");
        assert!(text.contains(reason), "{bad}: {text}");
    }
    assert_eq!(state(cluster, id), None);
    // It may do better.
    assert!(matches!(program.ask(Say::Id(&id.to_string())), Told::Issued(_)));
}

/// Nothing has happened yet.
fn cut_before_id(cluster: &Cluster, transport: &dyn Transport, id: u64) {
    drop(asked(transport));
    drop(first(cluster, transport, id));
}

/// The answer was not read: the id is taken, and its owner says that the unique ID was lost.
fn cut_after_id(cluster: &Cluster, transport: &dyn Transport, id: u64) {
    let mut cut = asked(transport);
    cut.say(Say::Id(&id.to_string()));
    until(PATIENCE, "the id to be taken", || state(cluster, id).is_some());
    drop(cut);
    assert_eq!(state(cluster, id).as_deref(), Some("provisional"));
    let mut owner = claims(transport, id);
    let Told::Issued(unique_id) = owner.ask(Say::Lost) else { panic!("it may be lost") };
    assert!(UniqueId::parse(&unique_id).unwrap().id().get() == id);
    assert_eq!(owner.ask(Say::Confirm), Told::Welcome);
}

/// The answer was read, and not confirmed: its owner has it, also where somebody guesses meanwhile.
fn cut_after_unique_id(cluster: &Cluster, transport: &dyn Transport, id: u64) {
    let (cut, unique_id) = issued(transport, id);
    drop(cut);
    assert_eq!(state(cluster, id).as_deref(), Some("provisional"));
    refuses(transport, id, Say::UniqueId(&another(id)));
    let_in(transport, id, &unique_id);
}

/// It counts, whether the welcome was read or not.
fn cut_after_confirming(cluster: &Cluster, transport: &dyn Transport, id: u64) {
    let (mut cut, unique_id) = issued(transport, id);
    cut.say(Say::Confirm);
    until(PATIENCE, "it to be confirmed", || state(cluster, id).is_some_and(|state| state != "provisional"));
    drop(cut);
    refuses(transport, id, Say::Lost);
    let_in(transport, id, &unique_id);
}
