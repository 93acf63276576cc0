//! Ten minutes of bad weather over all transports at once: the hub and agents are killed and stopped, cables cut and held, disks
//! full, while every client puts and the share changes. In the end everybody is in sync, no acknowledged put is lost, no name
//! went back for anybody, and nobody holds more memory, descriptors or threads than before.
//!
//! [`life`] judges, from what each client put and was told; [`member`] is a client that comes back by itself; [`storm`] is the weather.
//! Small, the same takes seconds: each fault comes once before any comes twice.

mod canary;
mod life;
mod member;
mod storm;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Cable, Cluster, Library, PATIENCE, Proc, SmallDisk, for_each_seed, lapse, pick, same_trees, until};

use super::program::{Session, Transport};
use super::{http, native, socketio, text};
use crate::javascript_client::free_port;
use crate::speaker::Speaker;
use crate::web::Web;
use life::{Board, judge};
use member::{Member, Weather, live};
use storm::{CRAMPED, Storm};

/// The ids of the members begin above it; those of the agents are below.
const MEMBERS: u64 = 10;
/// Who only looks what there is.
const READER: u64 = 90;
/// Room for the hub's stores, and for what they write before it is in its place.
const HUB_DISK: u64 = 48 << 20;
/// Room for a copy of the share and for what is about to be in its place.
const COPY_DISK: u64 = 4 << 20;

/// How long it rages: while processes are killed, until all is warm, and then until it is measured again.
fn spans() -> [Duration; 3] {
    pick([2, 1, 2], [240, 90, 270]).map(Duration::from_secs)
}

struct Scene {
    cluster: Cluster,
    reader: Web,
    /// Those of the agents, then one of each member.
    cables: Vec<Cable>,
}

impl Scene {
    fn new() -> Scene {
        let [http, text] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
        let disks = BTreeMap::from([(0, SmallDisk::of(HUB_DISK)), (CRAMPED, SmallDisk::of(COPY_DISK))]);
        let fill = |share: &Path| std::fs::write(share.join("first"), "x").unwrap();
        let mut cluster = Cluster::start_on(disks, fill, &["--http", &http, "--text", &text]);
        let native = cluster.address();
        let targets = [&native, &native, &native, &http, &http, &text, &http, &http];
        let cables: Vec<Cable> = targets.map(|target| Cable::to(target)).into();
        for n in 1..=2 {
            cluster.lead(n, cables[n - 1].address().to_string());
        }
        let mut cluster = cluster.with_agents(2);
        let (_, unique_id) = Speaker::logged_in(&native, READER, None);
        let reader = Web::of(&mut cluster).basic(&unique_id);
        Scene { cluster, reader, cables }
    }

    fn transports(&self) -> Vec<Box<dyn Transport>> {
        let at = |n: usize| self.cables[1 + n].address().to_string();
        let socketio = |library, at| socketio::SocketIo { library, url: format!("http://{at}"), browser: None };
        let http = |at, polls| http::Http { web: self.reader.nobody().at(at), polls };
        vec![
            Box::new(native::Native { address: at(1) }),
            Box::new(socketio(Library::Python, at(2))),
            Box::new(socketio(Library::Node, at(3))),
            Box::new(text::Text { address: at(4) }),
            Box::new(http(at(5), false)),
            Box::new(http(at(6), true)),
        ]
    }

    /// What the hub has.
    fn board(&self) -> Board {
        let page = self.reader.get("/api/values?limit=1000").json();
        assert_eq!(page["current"], true, "it is all of it");
        let entry = |value: &Value| {
            let text = |key: &str| value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned();
            let version = text("version").split('-').next().and_then(|version| version.parse().ok()).unwrap();
            (text("name"), (version, text("value")))
        };
        page["values"].as_array().unwrap().iter().map(entry).collect()
    }

    /// Waits until every member and every agent has everything.
    fn settle(&self, members: &[Member]) {
        let (start, within) = (Instant::now(), PATIENCE * 2);
        self.cluster.settle();
        loop {
            let board = self.board();
            let lags: Vec<String> = members
                .iter()
                .filter(|member| {
                    let life = member.life();
                    life.waits || !life.is_current || life.held != board
                })
                .map(Member::does)
                .collect();
            if lags.is_empty() {
                return;
            }
            if start.elapsed() > within {
                let lives: Vec<_> = members.iter().map(Member::life).collect();
                let wrong = judge(lives.iter().map(|life| &**life), &board);
                panic!("not in sync after {within:?}: {lags:#?}\n{wrong:#?}");
            }
            lapse(Duration::from_millis(20), "between two looks, of which the last is at the deadline above");
        }
    }

    /// What the hub and the agents hold, by name.
    fn usage(&mut self) -> Vec<(String, Usage)> {
        let hub = ("the hub".to_owned(), Usage::of(self.cluster.hub()));
        let agents = (1..=2).map(|n| (format!("agent {n}"), Usage::of(self.cluster.agent(n))));
        std::iter::once(hub).chain(agents.collect::<Vec<_>>()).collect()
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Usage {
    rss_bytes: u64,
    descriptors: usize,
    threads: usize,
}

impl Usage {
    /// Memory that is not given back at once, as a share of what there was, and what more: buffers of the largest messages, and
    /// pages of the stores.
    const RSS_SLACK: (u64, u64) = (4, 4 << 20);
    /// What happens to be open or at work when it is looked.
    const DESCRIPTORS_SLACK: usize = 2;
    const THREADS_SLACK: usize = 2;

    fn of(proc: &Proc) -> Usage {
        Usage {
            rss_bytes: proc.own_rss_bytes().expect("it runs"),
            descriptors: proc.open_files().expect("it runs"),
            threads: proc.threads().expect("it runs"),
        }
    }

    fn is_back(self, before: Usage) -> bool {
        let (part, more) = Usage::RSS_SLACK;
        self.rss_bytes <= before.rss_bytes + before.rss_bytes / part + more
            && self.descriptors <= before.descriptors + Usage::DESCRIPTORS_SLACK
            && self.threads <= before.threads + Usage::THREADS_SLACK
    }
}

/// What is told of a run that fails.
struct Told<'a> {
    seed: u64,
    members: &'a [Member],
    scene: Scene,
    storm: Storm,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the weather, of seed {}\n{}", self.seed, self.storm.log.join("\n"));
            for member in self.members {
                let life = member.life();
                let last = &life.puts[life.puts.len().saturating_sub(5)..];
                let last: Vec<String> = last.iter().map(|put| format!("{put:?}").chars().take(120).collect()).collect();
                eprintln!("--- {}, cut {} times; its last puts: {last:#?}", member.does(), life.cuts);
            }
            eprintln!("{}", self.scene.cluster.scene());
        }
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures of a soak; the test harness shows them when asked to")]
fn m3_1_to_m3_7_whatever_happens_to_hub_agents_cables_and_disks_all_end_in_sync_and_nothing_acknowledged_is_lost() {
    for_each_seed(pick(&[], &[1]), |seed| {
        let scene = Scene::new();
        let transports = scene.transports();
        let named = transports.iter().zip(MEMBERS..);
        let members: Vec<Member> = named.map(|(transport, id)| Member::new(transport.name(), id)).collect();
        let mut told = Told { seed, members: &members, scene, storm: Storm::new(seed) };
        let weather = Weather::default();
        thread::scope(|scope| {
            let _over = Over(&weather);
            for ((member, transport), n) in members.iter().zip(&transports).zip(0..) {
                let weather = &weather;
                let begins = move || {
                    let session = Session::enrolled(&**transport, MEMBERS + n);
                    live(member, session, weather, seed.wrapping_mul(31).wrapping_add(n), pick(PACE_SMALL, PACE));
                };
                thread::Builder::new().name(member.name.to_owned()).spawn_scoped(scope, begins).unwrap();
            }
            until(PATIENCE, "every member to put", || members.iter().all(|member| member.life().puts.len() > 2));
            let Told { scene, storm, .. } = &mut told;
            let [kills, warms, goes_on] = spans();
            storm.rage(&mut scene.cluster, &scene.cables, kills, true);
            storm.rage(&mut scene.cluster, &scene.cables, warms, false);
            weather.calm.store(true, Ordering::Release);
            scene.settle(&members);
            let before = scene.usage();
            weather.calm.store(false, Ordering::Release);
            storm.rage(&mut scene.cluster, &scene.cables, goes_on, false);
            weather.calm.store(true, Ordering::Release);
            scene.settle(&members);
            let mut after = scene.usage();
            until(PATIENCE, &format!("what is held to be given back: {before:#?}"), || {
                after = scene.usage();
                before.iter().zip(&after).all(|((_, before), (_, after))| after.is_back(*before))
            });
            for ((name, before), (_, after)) in before.iter().zip(&after) {
                println!("{name}: before {before:?}, after {after:?}");
            }
        });
        let scene = &told.scene;
        let lives: Vec<_> = members.iter().map(Member::life).collect();
        for (member, life) in members.iter().zip(&lives) {
            let done = life.puts.iter().filter(|put| matches!(put.answer, life::Answer::Done(_))).count();
            let (put, cuts, told) = (life.puts.len(), life.cuts, life.values_told);
            println!("{}: {put} puts, {done} acknowledged, {cuts} cuts, told {told} values", member.name);
            assert!(done > 0, "{} took part", member.name);
        }
        let wrong = judge(lives.iter().map(|life| &**life), &scene.board());
        drop(lives);
        assert!(wrong.is_empty(), "{wrong:#?}");
        for n in 1..=2 {
            // As it is, where everybody sees it.
            let copy = scene.cluster.path().join(format!("seen{n}"));
            let seen = Command::new("cp").arg("-a").arg(scene.cluster.copy(n)).arg(&copy).status().unwrap();
            assert!(seen.success());
            if let Err(difference) = same_trees(scene.cluster.share(), copy) {
                panic!("copy {n} differs:\n{difference}");
            }
        }
    });
}

/// The mean span between two puts of a member.
const PACE: Duration = Duration::from_millis(400);
const PACE_SMALL: Duration = Duration::from_millis(60);

/// Ends what runs, also when something failed.
struct Over<'a>(&'a Weather);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}
