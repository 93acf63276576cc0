//! A program that is told something else than what it was told stands for a transport, or a hub, that does it wrong: the step
//! that is about it fails, and says so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use support::Cluster;

use super::native::Native;
use super::program::{Program, Say, Session, Told, Transport};
use super::text::Text;
use super::{Record, Scene, login, session};

type Bend = fn(Told) -> Option<Told>;

/// A transport whose programs hear something else, and neither stand still nor die when they are to.
struct Bent<'a>(&'a dyn Transport, Bend);

impl Transport for Bent<'_> {
    fn name(&self) -> &'static str {
        "bent"
    }

    fn connect(&self, cursor: Option<&str>) -> Box<dyn Program> {
        Box::new(Liar { straight: self.0.connect(cursor), bend: self.1, heard: 0, told: Vec::new() })
    }

    fn silence(&self) -> Duration {
        self.0.silence()
    }
}

struct Liar {
    straight: Box<dyn Program>,
    bend: Bend,
    heard: usize,
    told: Vec<Told>,
}

impl Program for Liar {
    fn say(&mut self, what: Say<'_>) {
        self.straight.say(what);
    }

    fn told(&mut self) -> &[Told] {
        let new = self.straight.told()[self.heard..].to_vec();
        self.heard += new.len();
        self.told.extend(new.into_iter().filter_map(self.bend));
        &self.told
    }

    fn stand_still(&mut self) {}

    fn go_on(&mut self) {}

    fn kill(&mut self) {}

    /// Short, as it waits for what does not come.
    fn patience(&self) -> Duration {
        Duration::from_secs(3)
    }
}

/// A step with two that are in.
type Does = fn(&mut Cluster, &mut [Session<'_>]);

const PUTS: Does = |_, sessions| session::puts(sessions, &Record::default());
const HUB_KILLED: Does = |cluster, sessions| session::hub_killed(cluster, sessions, &Record::default());
const TAKEN_OVER: Does = |cluster, sessions| session::taken_over(cluster, &mut sessions[1]);
const KILLED: Does = |cluster, sessions| session::killed(cluster, &mut sessions[1]);
const REVOKED: Does = |cluster, sessions| session::revoked(cluster, &mut sessions[1], &Record::default());
const WRONG: Does = |cluster, sessions| login::wrong(cluster, &mut sessions[1]);
const NO_INTEGER: Does = |cluster, sessions| login::no_integer(cluster, sessions[1].transport, sessions[1].id + 100);
const SECOND: Does = |cluster, sessions| {
    let first = login::first(cluster, sessions[1].transport, sessions[1].id + 100);
    drop(login::second(cluster, first));
};
const SILENCE: Does = |cluster, sessions| session::silence(cluster, &mut sessions[1..], &Record::default());

/// Does a step with the programs of two transports; why it failed, if it did.
fn why_failed(does: Does, scene: &mut Scene, transports: [&dyn Transport; 2], id: u64) -> Option<String> {
    let mut sessions = [Session::enrolled(transports[0], id), Session::enrolled(transports[1], id + 1)];
    let outcome = catch_unwind(AssertUnwindSafe(|| does(&mut scene.cluster, &mut sessions)));
    outcome.err().map(|panic| panic.downcast_ref::<String>().expect("it panicked with a text").clone())
}

#[test]
fn canary_a_transport_that_does_it_wrong_fails_the_scenario() {
    let as_it_is: Bend = Some;
    let anybody: Bend = |told| Some(if told.is_refused("not_proven") { Told::Welcome } else { told });
    let anything: Bend =
        |told| Some(if told.is_refused("bad_id") { Told::Issued("ls-7-any".to_owned()) } else { told });
    let never_asks: Bend = |told| Some(if told == Told::UniqueId { Told::Welcome } else { told });
    let forgets: Bend = |told| (!told.is_value("from/text")).then_some(told);
    let keeps: Bend = |told| (!matches!(told, Told::Gone(_))).then_some(told);
    let old: Bend =
        |told| Some(if told.is_value("kept/3") { Told::Value("kept/3".into(), "old".into()) } else { told });
    let anew: Bend = |told| Some(if told.is_value("new") { Told::Reset } else { told });
    let silently: Bend = |told| (!matches!(told, Told::Bye(_))).then_some(told);
    let stays: Bend = |told| (told != Told::Cut).then_some(told);
    for (what, bend, does, said) in [
        ("lives on when it is killed", as_it_is, KILLED, "to be listed: false"),
        ("lets anybody in", anybody, WRONG, "was not refused: Welcome"),
        ("takes anything for an integer", anything, NO_INTEGER, "was not refused: Issued"),
        ("asks nobody for its unique ID", never_asks, SECOND, "is taken"),
        ("forgets a put", forgets, PUTS, "was not told Value(\"from/text\""),
        ("forgets what is gone", keeps, HUB_KILLED, "kept/4"),
        ("gives old values", old, HUB_KILLED, "kept/3"),
        ("begins anew where it was to go on", anew, HUB_KILLED, "bent begins anew"),
        ("does not tell the one that is taken over from", silently, TAKEN_OVER, "was not told Bye(\"taken_over\")"),
        ("does not cut who is revoked", stays, REVOKED, "was not told Cut"),
    ] {
        let mut scene = Scene::new();
        let text = Text { address: scene.text.clone() };
        assert_eq!(why_failed(does, &mut scene, [&text, &text], 1), None, "{what}: the step itself");
        let failed = why_failed(does, &mut scene, [&text, &Bent(&text, bend)], 11);
        let failed = failed.unwrap_or_else(|| panic!("{what}: it was not seen"));
        assert!(failed.contains(said), "{what}: {failed}");
    }
}

#[test]
fn canary_a_program_that_goes_on_does_not_pass_for_one_that_stands_still() {
    let mut scene = Scene::new();
    let native = Native { address: scene.cluster.address() };
    let failed = why_failed(SILENCE, &mut scene, [&native, &Bent(&native, Some)], 1);
    assert!(failed.is_some_and(|failed| failed.contains("bent is still told as active")));
}
