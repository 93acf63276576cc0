//! Socket.IO clients of a hub, and of plain fan-outs on the npm server and on python-socketio: log-ins, memory, one value to many.
//!
//! The clients are the same for all, small ones over WebSocket. A hub does more for them: it has them prove who they are, puts each value
//! on disk, keeps order and a cursor for each, and asks for acknowledgements.

use crate::follower::VALUE_BYTES;
use crate::harness::{Contender, Group, Report, interleave};
use crate::machine::cpu_s;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use support::crowd::Putter;
use support::{Cluster, Crowd, PATIENCE, Proc, node, python_with, workspace};

/// Clients of one server.
const SIZES: [u64; 2] = [100, 1000];
/// Times that [`LOG_INS`] log in.
const LOG_IN_ROUNDS: usize = 3;
/// Log-ins of a round.
const LOG_INS: u64 = 1000;
/// Log-ins at a time.
const AT_ONCE: usize = 64;
/// Single puts, each to all.
const SINGLES: usize = 40;
/// Bursts of [`BURST`] puts of as many names.
const BURSTS: usize = 3;
/// Puts of a burst.
const BURST: usize = 100;
/// Whatever takes longer fails the run.
const DEADLINE: Duration = Duration::from_secs(120);
/// The id of who puts.
const PUTTER: u64 = 1_000_000;

/// Who is measured.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Hub,
    Node,
    Python,
}

const KINDS: [Kind; 3] = [Kind::Hub, Kind::Node, Kind::Python];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Hub => "hub, durable",
            Kind::Node => "socket.io on Node",
            Kind::Python => "python-socketio on aiohttp",
        }
    }
}

/// A server that is up.
enum Server {
    Hub(Box<Cluster>),
    Peer(Proc),
}

impl Server {
    fn start(kind: Kind) -> Result<(Server, SocketAddr)> {
        let mut command = match kind {
            Kind::Hub => {
                let mut cluster = Cluster::start(|_| {}, &["--enrol", "open", "--http", "127.0.0.1:0"]);
                let line = cluster.hub().wait_for_line("http     http://", PATIENCE);
                let address = line.trim_end_matches('/').rsplit('/').next().unwrap_or_default().parse();
                return Ok((Server::Hub(Box::new(cluster)), address.with_context(|| line.clone())?));
            }
            Kind::Node => node(),
            Kind::Python => Command::new(python_with(&["aiohttp", "socketio"])),
        };
        let script = if matches!(kind, Kind::Node) { "socketio_server.js" } else { "socketio_server.py" };
        let proc = Proc::start(command.arg(workspace().join("bench/peers").join(script)));
        let line = proc.wait_for_line("listening on ", PATIENCE);
        let address = line.rsplit(' ').next().unwrap_or_default().parse();
        Ok((Server::Peer(proc), address.with_context(|| line.clone())?))
    }

    fn proc(&mut self) -> &Proc {
        match self {
            Server::Hub(cluster) => cluster.hub(),
            Server::Peer(proc) => proc,
        }
    }

    fn rss_kib(&mut self) -> f64 {
        self.proc().rss_bytes().unwrap_or(0) as f64 / 1024.0
    }
}

pub(crate) fn run() -> Result<Report> {
    let (mut groups, mut notes) = log_ins()?;
    for clients in SIZES {
        let (mut found, mut more) = puts(clients)?;
        groups.append(&mut found);
        notes.append(&mut more);
    }
    Ok(Report {
        bench: "socketio",
        compares: "Socket.IO clients over WebSocket: a hub, and plain fan-outs that keep, prove and pace nothing"
            .into(),
        groups,
        notes,
    })
}

/// How fast they get in, and what memory each costs that then does nothing.
fn log_ins() -> Result<(Vec<Group>, Vec<String>)> {
    let kib = RefCell::new(KINDS.map(|_| Vec::new()));
    let contenders = KINDS.iter().enumerate().map(|(nth, kind)| {
        let kib = &kib;
        Contender::new(kind.name(), move |_| {
            let (mut server, address) = Server::start(*kind)?;
            let before = server.rss_kib();
            let mut crowd = Crowd::new(address);
            let begun = Instant::now();
            crowd.enter(1..1 + LOG_INS, AT_ONCE, DEADLINE)?;
            let took = begun.elapsed();
            kib.borrow_mut()[nth].push((server.rss_kib() - before) / LOG_INS as f64);
            Ok(LOG_INS as f64 / took.as_secs_f64())
        })
    });
    let series = interleave(LOG_IN_ROUNDS, contenders.collect())?;
    let memory = series.iter().zip(kib.into_inner()).map(|(series, figures)| {
        let mut memory = series.clone();
        memory.figures = figures;
        memory
    });
    let memory = memory.collect();
    let groups = vec![
        Group { title: format!("{LOG_INS} log in, {AT_ONCE} at a time, each for the first time"), unit: "1/s", series },
        Group { title: format!("memory of the server for each of {LOG_INS}"), unit: "KiB", series: memory },
    ];
    Ok((groups, Vec::new()))
}

/// A server, its clients, and one that puts.
struct Side {
    server: Server,
    crowd: Crowd,
    putter: Putter,
    burst_cpu_s: f64,
}

fn puts(clients: u64) -> Result<(Vec<Group>, Vec<String>)> {
    let sides: Vec<RefCell<Side>> = KINDS
        .iter()
        .map(|kind| {
            let (server, address) = Server::start(*kind)?;
            let mut crowd = Crowd::new(address);
            crowd.enter(1..1 + clients, AT_ONCE, DEADLINE)?;
            let putter = crowd.putter(PUTTER)?;
            Ok(RefCell::new(Side { server, crowd, putter, burst_cpu_s: 0.0 }))
        })
        .collect::<Result<_>>()?;
    let each = |work: fn(&mut Side, usize, u64) -> Result<f64>| {
        KINDS.iter().zip(&sides).map(move |(kind, side)| {
            Contender::new(kind.name(), move |round| work(&mut side.borrow_mut(), round, clients))
        })
    };
    let singles = interleave(SINGLES, each(single).collect())?;
    let bursts = interleave(BURSTS, each(burst).collect())?;
    let deliveries = clients as f64 * (BURST * BURSTS) as f64;
    let mut notes = Vec::new();
    for (kind, side) in KINDS.iter().zip(&sides) {
        let mut side = side.borrow_mut();
        let (cpu_us, mib) = (side.burst_cpu_s / deliveries * 1e6, side.server.rss_kib() / 1024.0);
        notes.push(format!(
            "{clients} clients, {}: {cpu_us:.1} µs of CPU a delivery in bursts, {mib:.0} MiB",
            kind.name()
        ));
    }
    let groups = vec![
        Group { title: format!("one put to {clients} clients, until all have it"), unit: "ms", series: singles },
        Group { title: format!("bursts of {BURST} puts to {clients} clients"), unit: "deliveries/s", series: bursts },
    ];
    Ok((groups, notes))
}

/// Milliseconds from a put until all have it.
fn single(side: &mut Side, round: usize, clients: u64) -> Result<f64> {
    let begun = Instant::now();
    deliver(side, &[value(format!("single-{round}"))], clients)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// Deliveries a second of a burst.
fn burst(side: &mut Side, round: usize, clients: u64) -> Result<f64> {
    let values: Vec<_> = (0..BURST).map(|n| value(format!("burst-{round}-{n}"))).collect();
    let pid = side.server.proc().pid();
    let (begun, before) = (Instant::now(), cpu_s(pid));
    deliver(side, &values, clients)?;
    let took = begun.elapsed().as_secs_f64();
    side.burst_cpu_s += cpu_s(pid) - before;
    Ok(clients as f64 * BURST as f64 / took)
}

fn value(name: String) -> (String, Value) {
    (name, json!("x".repeat(VALUE_BYTES)))
}

/// Puts, and waits until every client has every value: once each, or this does not end well.
fn deliver(side: &mut Side, values: &[(String, Value)], clients: u64) -> Result<()> {
    let goal = side.crowd.values() + clients * values.len() as u64;
    side.crowd.run(side.putter.put_all(values))?;
    side.crowd.wait(DEADLINE, || side.crowd.values() >= goal)?;
    anyhow::ensure!(side.crowd.values() == goal, "{} values were heard and not {goal}", side.crowd.values());
    Ok(())
}
