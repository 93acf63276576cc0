//! What it costs to measure a machine: CPU a sample, resident memory, CPU a scrape and a process, beside a C program and peers.
//!
//! CPU is that of the whole process by its own clock, to the nanosecond, between two moments of its steady state, so that
//! starting costs nothing. A sample is CPU, memory and one line in a log; peers that measure more by default say so.

mod peers;

use std::cell::RefCell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use support::{PATIENCE, Proc, lockstep, scratch};

use self::peers::{Loop, Peers, Scraped};
use crate::harness::{Contender, Group, Report, Series, interleave};

/// How long one look at a contender takes, for each interval it samples at, and how many looks there are.
const FAST: Pace = Pace { interval: Duration::from_millis(10), samples: 300, rounds: 7 };
const SLOW: Pace = Pace { interval: Duration::from_secs(1), samples: 8, rounds: 3 };
/// Scrapes of one look; further apart than a page is held for.
const SCRAPES: u32 = 25;
const BETWEEN_SCRAPES: Duration = Duration::from_millis(120);
/// Processes that sleep, beside those of the machine, and looks at all of them.
const SLEEPERS: usize = 300;
const SCANS: u32 = 4;
const ROUNDS: usize = 3;

#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: Duration,
    samples: u32,
    rounds: usize,
}

/// Of each contender: all its resident memory, and what of it is its own.
type Memory = [Vec<Series>; 2];

pub(crate) fn run() -> Result<Report> {
    let dir = scratch();
    let (peers, mut notes) = Peers::found(&dir)?;
    let memory = RefCell::default();
    let fast = samples(&dir, &peers, FAST, &RefCell::default())?;
    let slow = samples(&dir, &peers, SLOW, &memory)?;
    let scrapes = scrapes(&peers, &memory)?;
    let scans = scans(&peers, &mut notes)?;
    notes.push("aims: at 100 Hz at most 1.3× the C program; at most 6 MiB resident; at most 10 µs a process".into());
    let [resident, own] = memory.into_inner();
    Ok(Report {
        bench: "monitor",
        compares: "measuring CPU and memory and logging a line; a scrape; a look at all processes".into(),
        groups: vec![
            Group { title: "CPU a sample at 100 Hz".into(), unit: "µs", series: fast },
            Group { title: "CPU a sample at 1 Hz".into(), unit: "µs", series: slow },
            Group { title: "CPU a scrape".into(), unit: "µs", series: scrapes },
            Group { title: "a look at all processes, CPU a process".into(), unit: "µs", series: scans },
            Group { title: "resident memory, with the files it shares".into(), unit: "MiB", series: resident },
            Group { title: "resident memory of its own".into(), unit: "MiB", series: own },
        ],
        notes,
    })
}

/// Microseconds of CPU for each sample.
fn samples(dir: &Path, peers: &Peers, pace: Pace, memory: &RefCell<Memory>) -> Result<Vec<Series>> {
    let contender = |contender: &Loop| {
        let (contender, log) = (contender.clone(), dir.join(format!("{}.log", contender.name.replace(' ', "-"))));
        Contender::new(contender.name, move |_| {
            fs::remove_file(&log).or_else(|error| if log.exists() { Err(error) } else { Ok(()) })?;
            let process = Proc::start(&mut (contender.command)(&log));
            let lines = || if contender.on_stdout { process.mark() } else { lines(&log) };
            // Past the first samples, whose files are opened and whose pages are touched for the first time.
            let settled =
                || if contender.lines { lines() > 2 } else { peers.cpu_us(&process).is_ok_and(|us| us > 0.0) };
            support::until(PATIENCE, "a few samples", settled);
            std::thread::sleep(pace.interval * 2);
            let (begun, before, lines_before) = (Instant::now(), peers.cpu_us(&process)?, lines());
            std::thread::sleep(pace.interval * pace.samples);
            let (after, lines_after, span) = (peers.cpu_us(&process)?, lines(), begun.elapsed());
            remember(memory, contender.name, &process)?;
            let due = span.as_secs_f64() / pace.interval.as_secs_f64();
            let taken = if contender.lines { (lines_after - lines_before) as f64 } else { due };
            ensure!((taken - due).abs() <= 1.0 + due / 5.0, "{taken} samples where {due:.1} were due");
            Ok((after - before) / taken)
        })
    };
    interleave(pace.rounds, peers.loops(pace.interval).iter().map(contender).collect())
}

fn lines(log: &Path) -> usize {
    fs::read(log).map_or(0, |log| log.iter().filter(|byte| **byte == b'\n').count())
}

/// Microseconds of CPU for each scrape.
fn scrapes(peers: &Peers, memory: &RefCell<Memory>) -> Result<Vec<Series>> {
    let contender = |scraped: &Scraped| {
        let scraped = scraped.clone();
        Contender::new(scraped.name, move |_| {
            let process = Proc::start(&mut (scraped.command)());
            let address = (scraped.address)(&process);
            support::until(PATIENCE, "a page", || scrape(address).is_ok());
            let before = peers.cpu_us(&process)?;
            for _ in 0..SCRAPES {
                std::thread::sleep(BETWEEN_SCRAPES);
                let page = scrape(address)?;
                ensure!(page.contains("\nnode_memory_MemAvailable_bytes "), "no page: {page}");
            }
            let after = peers.cpu_us(&process)?;
            remember(memory, scraped.name, &process)?;
            Ok((after - before) / f64::from(SCRAPES))
        })
    };
    interleave(ROUNDS, peers.scraped().iter().map(contender).collect())
}

fn scrape(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page).context("the page was cut")?;
    Ok(page)
}

/// Microseconds of CPU for each process looked at.
fn scans(peers: &Peers, notes: &mut Vec<String>) -> Result<Vec<Series>> {
    let script = format!("for n in $(seq {SLEEPERS}); do sleep 100000 & done; echo all; wait");
    let sleepers = Proc::start(Command::new("sh").args(["-c", &script]));
    sleepers.wait_for_line("all", PATIENCE);
    let ours = |_| {
        let mut command = lockstep();
        // Between two samples there is nothing but scans.
        command.args(["monitor", "--metrics", "processes", "--interval", "24h", "--process-interval", "1s"]);
        let process = Proc::start(command.args(["--log", "none"]));
        process.wait_for_line("processes", PATIENCE);
        std::thread::sleep(Duration::from_millis(1500));
        let before = peers.cpu_us(&process)?;
        std::thread::sleep(Duration::from_secs(1) * SCANS);
        Ok((peers.cpu_us(&process)? - before) / f64::from(SCANS) / processes()? as f64)
    };
    let mut contenders = Vec::new();
    let others = [("C program", Some(peers.scan_floor())), ("psutil", peers.psutil_scan())];
    for (name, command) in others {
        let Some(mut command) = command else { continue };
        command.arg(SCANS.to_string());
        contenders.push(Contender::new(name, move |_| {
            let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
            let said = String::from_utf8_lossy(&output.stdout).trim().parse();
            said.with_context(|| format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
        }));
    }
    contenders.insert(1, Contender::new("lockstep", ours));
    let series = interleave(ROUNDS, contenders)?;
    notes.push(format!("{} processes looked at", processes()?));
    Ok(series)
}

fn processes() -> Result<usize> {
    let entries = fs::read_dir("/proc").context("cannot list /proc")?.flatten();
    Ok(entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).count())
}

fn remember(memory: &RefCell<Memory>, name: &str, process: &Proc) -> Result<()> {
    let (Some(all), Some(own)) = (process.rss_bytes(), process.own_rss_bytes()) else {
        bail!("{name} ended: {}", process.output().join("\n"))
    };
    let mut memory = memory.borrow_mut();
    for (series, bytes) in memory.iter_mut().zip([all, own]) {
        let at = series.iter().position(|series| series.name == name).unwrap_or_else(|| {
            series.push(Series { name: name.to_owned(), figures: Vec::new() });
            series.len() - 1
        });
        series[at].figures.push(bytes as f64 / f64::from(1 << 20));
    }
    Ok(())
}
