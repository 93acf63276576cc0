//! One scenario, written once, through every transport: whatever a program speaks, it logs in, is told and leaves by the same rules.
//!
//! [`program`] is all the scenario knows of a program; [`native`], [`socketio`], [`text`] and [`http`] translate; [`login`] and
//! [`session`] are the steps. A step that a transport does not have stands in [`OMITTED`] with the reason; every other one was
//! done when the test is over, or it fails.

mod canary;
mod http;
mod login;
mod native;
mod poll;
mod program;
mod session;
mod soak;
mod socketio;
mod text;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use support::{Cluster, Library};

use crate::javascript_client::{House, free_port};
use crate::web::Web;
use program::{Session, Transport};
use socketio::{Browser, SocketIo};

/// Who answers no ping is off the list after so long, with what a busy machine adds.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Who is not pinged, and takes nothing of what waits for it; with what the system holds for it first.
const STUCK_MAX: Duration = Duration::from_secs(45);

/// What is done with each transport.
const STEPS: [&str; 16] = [
    "first login",
    "second login",
    "wrong unique ID",
    "no integer",
    "cut before the id",
    "cut after the id",
    "cut after the unique ID",
    "cut after confirming",
    "put",
    "hub killed",
    "resume",
    "take-over",
    "silence",
    "killed",
    "revoke",
    // Who is revoked is told so.
    "goodbye",
];

/// What a transport does not have, and why.
const OMITTED: [(&str, &str, &str); 2] = [
    ("http", "take-over", "each request proves itself, and a second stream of a client stands beside the first"),
    ("http", "goodbye", "a stream of events ends; what is asked next is told why"),
];

/// What was done, by transport and step.
#[derive(Default)]
struct Record(Mutex<BTreeSet<(&'static str, &'static str)>>);

impl Record {
    /// Does a step, if the transport has it; one that fails is named.
    fn step(&self, transport: &'static str, step: &'static str, does: impl FnOnce()) {
        if OMITTED.iter().any(|(name, omitted, _)| (*name, *omitted) == (transport, step)) {
            return;
        }
        if let Err(failed) = catch_unwind(AssertUnwindSafe(does)) {
            eprintln!("--- failed: {step}, of {transport}");
            resume_unwind(failed);
        }
        self.0.lock().unwrap().insert((transport, step));
    }
}

/// A hub that every transport reaches, at addresses that stay the same when it starts again.
struct Scene {
    cluster: Cluster,
    http: String,
    text: String,
    /// Where pages are served.
    pages: u16,
}

impl Scene {
    fn new() -> Scene {
        let [http, text] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let pages = free_port();
        let origin = format!("http://127.0.0.1:{pages}");
        let cluster = Cluster::start(|_| {}, &["--http", &http, "--text", &text, "--cors", &origin]);
        Scene { cluster, http, text, pages }
    }

    fn transports(&mut self) -> [Box<dyn Transport>; 6] {
        let browser = Arc::new(Browser::at(House::at(self.cluster.path()), self.pages));
        let url = format!("http://{}", self.http);
        let socketio = |library, browser| Box::new(SocketIo { library, url: url.clone(), browser });
        [
            Box::new(native::Native { address: self.cluster.address() }),
            socketio(Library::Python, None),
            socketio(Library::Node, None),
            socketio(Library::Chromium, Some(browser)),
            Box::new(text::Text { address: self.text.clone() }),
            Box::new(http::Http { web: Web::of(&mut self.cluster), polls: false }),
        ]
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.cluster.scene());
        }
    }
}

#[test]
fn m3_1_to_m3_7_one_scenario_through_every_transport() {
    let mut scene = Scene::new();
    let transports = scene.transports();
    let (record, cluster) = (Record::default(), &mut scene.cluster);
    let mut sessions: Vec<Session> =
        transports.iter().zip(1..).map(|(transport, id)| Session::enrolled(&**transport, id)).collect();
    session::puts(&mut sessions, &record);
    session::hub_killed(cluster, &mut sessions, &record);
    let (cluster, record) = (&*cluster, &record);
    // While those stand still, others log in, each with ids of its own.
    thread::scope(|scope| {
        for (transport, n) in transports.iter().zip(1..) {
            let logs_in = move || login::steps(cluster, &**transport, 100 * n, record);
            thread::Builder::new().name(transport.name().to_owned()).spawn_scoped(scope, logs_in).unwrap();
        }
        session::silence(cluster, &mut sessions, record);
    });
    for session in &mut sessions {
        let name = session.transport.name();
        record.step(name, "take-over", || session::taken_over(cluster, session));
        record.step(name, "killed", || session::killed(cluster, session));
        record.step(name, "revoke", || session::revoked(cluster, session, record));
    }
    // Each was done with each, but for what is omitted.
    let names = ["native", "python", "node", "chromium", "text", "http"];
    assert_eq!(transports.each_ref().map(|transport| transport.name()), names);
    let mut expected: BTreeSet<_> = names.iter().flat_map(|name| STEPS.map(|step| (*name, step))).collect();
    for (transport, step, _) in OMITTED {
        assert!(expected.remove(&(transport, step)), "{transport} has no {step}");
    }
    assert_eq!(*record.0.lock().unwrap(), expected);
}
