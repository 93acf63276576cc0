//! The hub, in this process: started, stopped, and killed as far as its disk can tell.

use agent::client::{Client, Target};
use hub::{Config, Enrol, Error, HttpConfig, Limits, Settings, Up};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{oneshot, watch};
use wire::answer::{Answer, Question};
use wire::link::{InviteCode, JoinLink};

/// A hub with its data and its share.
pub(crate) struct House {
    pub(crate) place: PathBuf,
    /// Native, HTTP and text; the same at each start.
    addresses: [SocketAddr; 3],
    runs: Option<Runs>,
    clock: Clock,
}

struct Runs {
    up: Up,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), Error>>,
}

/// How far the hub's clocks are ahead.
#[derive(Default)]
struct Clock {
    passed_ms: i64,
    wrong_ms: i64,
}

impl House {
    pub(crate) fn build(place: &Path) -> House {
        fs::create_dir_all(place.join("share")).unwrap();
        // Where other machines could come from, it speaks HTTPS, with a certificate of its own.
        let addresses = ["127.0.0.1:0", "0.0.0.0:0", "127.0.0.1:0"].map(|address| address.parse().unwrap());
        let mut house = House { place: place.to_owned(), addresses, runs: None, clock: Clock::default() };
        house.start();
        house
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.place.join("hub")
    }

    pub(crate) fn share(&self) -> PathBuf {
        self.place.join("share")
    }

    pub(crate) fn up(&self) -> &Up {
        &self.runs.as_ref().expect("it runs").up
    }

    pub(crate) fn http(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.addresses[1].port()))
    }

    pub(crate) fn text(&self) -> SocketAddr {
        self.addresses[2]
    }

    pub(crate) fn start(&mut self) {
        let limits = Limits { puts_per_s: 1_000_000, ..Limits::default() };
        let shares = vec![("share".to_owned(), self.share())];
        let settings = Settings { enrol: Some(Enrol::Invite), limits, shares, ..Settings::default() };
        let [listen, http, text] = self.addresses;
        let data = self.data();
        let (up, is_up) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let (_settings, settings) = watch::channel(settings);
            let config = Config {
                data,
                listen,
                http: Some(HttpConfig { address: http, plain: false, handout: false }),
                text: Some(text),
                advertise: None,
                settings,
                name: Some("year".into()),
                ours: Vec::new(),
                // Its starts are not counted; what is on record of invites is what somebody asked for.
                first_invite: false,
            };
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(hub::run(config, move |told| drop(up.send(told)), async { drop(stopped.await) }))
        });
        let Ok(up) = is_up.recv() else { panic!("it does not start: {:?}", thread.join()) };
        let port = |url: &String| url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
        self.addresses[0] = up.address;
        self.addresses[1].set_port(up.http.as_ref().map(port).unwrap());
        self.addresses[2] = up.text.unwrap();
        self.runs = Some(Runs { up, stop, thread });
    }

    pub(crate) fn stop(&mut self) {
        let Runs { stop, thread, .. } = self.runs.take().expect("it runs");
        stop.send(()).unwrap();
        thread.join().expect("it does not panic").unwrap();
    }

    pub(crate) fn reboot(&mut self) {
        self.stop();
        self.start();
    }

    /// What its disk holds at this moment is what it finds at its next start. Nothing is being written just now.
    pub(crate) fn die(&mut self) {
        let kept = self.place.join("killed");
        let copied = Command::new("cp").arg("-a").arg(self.data()).arg(&kept).status().unwrap();
        assert!(copied.success());
        self.stop();
        fs::remove_dir_all(self.data()).unwrap();
        fs::rename(kept, self.data()).unwrap();
        self.start();
    }

    /// Both clocks go on.
    pub(crate) fn pass(&mut self, span: Duration) {
        self.clock.passed_ms += i64::try_from(span.as_millis()).unwrap();
        hub::clock::pass(span);
    }

    /// The wall clock is wrong by so much.
    pub(crate) fn set_wrong_ms(&mut self, by_ms: i64) {
        self.clock.wrong_ms = by_ms;
        hub::clock::set_wall_ahead(by_ms);
    }

    /// The hub's wall clock.
    pub(crate) fn now_ms(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        i64::try_from(now.as_millis()).unwrap() + self.clock.passed_ms + self.clock.wrong_ms
    }

    /// A client on the hub's own machine.
    pub(crate) async fn admin(&self) -> Client {
        Client::connect(Target::Socket(self.data().join(hub::SOCKET_NAME)), "year").await.unwrap()
    }

    pub(crate) async fn ask(&self, question: Question) -> Answer {
        self.admin().await.ask(question).await.unwrap()
    }

    /// The code in the link that answers.
    pub(crate) async fn invite(&self, question: Question) -> InviteCode {
        let Answer::Link { link } = self.ask(question).await else { panic!("no link") };
        JoinLink::parse(link.reveal()).unwrap().invite().unwrap().clone()
    }
}
