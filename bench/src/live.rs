//! From closing a changed 1 KiB file until the copies have the new content.
//!
//! Seen from outside: a thread opens and reads the copies in a loop, so it takes a CPU of its own while it waits. Each
//! change goes to another of [`FILES`] files, so that none changes so often that it is thinned.

use crate::harness::{Contender, Group, Report, Series, interleave};
use crate::{floor, machine};
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Cluster, Proc, Rng, Tree, lockstep, scratch};

/// Changes for each contender.
const CHANGES: usize = 200;
/// Changes for those that take tenths of a second or seconds.
const CHANGES_OF_THE_SLOW: usize = 20;
/// Files that change in turn.
const FILES: usize = 100;
/// Bytes of each.
const FILE_BYTES: usize = 1024;
/// A change that takes longer fails the run.
const DEADLINE: Duration = Duration::from_secs(60);
/// The pause before each change is up to this, so that changes do not fall into step with anything.
const PAUSE_MS_MAX: usize = 8;
/// Between two passes of the rsync loop, as people write it who cannot wait.
const RSYNC_PAUSE: Duration = Duration::from_millis(10);

/// A source and the copies that follow it.
struct Route {
    source: PathBuf,
    copies: Vec<PathBuf>,
    rng: Rng,
}

pub(crate) fn run() -> Result<Report> {
    let mut notes = Vec::new();
    let dir = scratch();
    let at = |name: &str| dir.join(name);

    let bare = Route::new(&at("bare"), &[at("bare-copy")], 1)?;
    copy_all(&bare)?;
    floor::start(&bare.source, &bare.copies[0])?;

    let mirrored = Route::new(&at("src"), &[at("dst")], 2)?;
    let mirror = Proc::start(lockstep().arg("mirror").arg(at("src")).arg(at("dst")).args(["--watch", "--log", "none"]));
    mirror.wait_for_line("watching", DEADLINE);

    let one = Cluster::start(|share| fill(share, 3), &[]).with_agents(1);
    let to_one = Route { source: one.share(), copies: vec![one.copy(1)], rng: Rng::new(3) };
    let three = Cluster::start(|share| fill(share, 4), &[]).with_agents(3);
    let to_three = Route { source: three.share(), copies: (1..=3).map(|n| three.copy(n)).collect(), rng: Rng::new(4) };

    let quick = interleave(
        CHANGES,
        vec![
            bare.contender("bare inotify, copy, rename"),
            mirrored.contender("mirror --watch"),
            to_one.contender("hub -> 1 agent"),
            to_three.contender("hub -> 3 agents, the last"),
        ],
    )?;
    drop((one, three));
    let mut groups = vec![group("the close of a changed 1 KiB file to the copy", quick)];

    let slow = slow_peers(&dir, &mut notes)?;
    if !slow.is_empty() {
        groups.push(group("the same for peers", slow));
    }
    drop(mirror);
    Ok(Report {
        bench: "live",
        compares: format!(
            "{CHANGES} changes each, one after the other, contenders in turn; the bare loop is the floor"
        ),
        groups,
        notes,
    })
}

/// Peers that need a CPU of their own all the time, or seconds: after the others, against the mirror again.
fn slow_peers(dir: &Path, notes: &mut Vec<String>) -> Result<Vec<Series>> {
    let at = |name: &str| dir.join(name);
    let mut contenders = Vec::new();
    let again = Route { source: at("src"), copies: vec![at("dst")], rng: Rng::new(5) };
    contenders.push(again.contender("mirror --watch"));
    let stop = Arc::new(AtomicBool::new(false));
    let mut looping = None;
    if machine::installed("rsync") {
        let route = Route::new(&at("rsync"), &[at("rsync-copy")], 6)?;
        copy_all(&route)?;
        looping = Some(rsync_loop(&route, &stop));
        contenders.push(route.contender("rsync -a in a loop"));
    } else {
        notes.push("rsync is not installed: its loop was not measured".into());
    }
    let mut lsyncd = None;
    if machine::installed("lsyncd") {
        let route = Route::new(&at("lsyncd"), &[at("lsyncd-copy")], 7)?;
        copy_all(&route)?;
        lsyncd = Some(start_lsyncd(&route)?);
        contenders.push(route.contender("lsyncd, delay 0"));
    } else {
        notes.push("lsyncd is not installed: not measured".into());
    }
    if contenders.len() == 1 {
        return Ok(Vec::new());
    }
    let series = interleave(CHANGES_OF_THE_SLOW, contenders);
    stop.store(true, Ordering::Relaxed);
    if let Some(looping) = looping {
        looping.join().ok().context("the rsync loop panicked")??;
    }
    if let Some(mut lsyncd) = lsyncd {
        lsyncd.kill()?;
        lsyncd.wait()?;
    }
    series
}

fn group(title: &str, series: Vec<Series>) -> Group {
    Group { title: title.into(), unit: "ms", series }
}

impl Route {
    /// A new source with all files, and empty directories for the copies.
    fn new(source: &Path, copies: &[PathBuf], seed: u64) -> Result<Self> {
        fill(source, seed);
        for copy in copies {
            fs::create_dir(copy).with_context(|| format!("cannot make {}", copy.display()))?;
        }
        Ok(Self { source: source.to_owned(), copies: copies.to_vec(), rng: Rng::new(seed) })
    }

    fn contender<'a>(mut self, name: &str) -> Contender<'a> {
        Contender::new(name, move |round| self.change(round))
    }

    /// One change; the milliseconds from the close until the last copy was read with it.
    fn change(&mut self, round: usize) -> Result<f64> {
        std::thread::sleep(Duration::from_millis(self.rng.below(PAUSE_MS_MAX) as u64 + 1));
        let name = name(round % FILES);
        let content = self.rng.bytes(FILE_BYTES);
        let copies: Vec<PathBuf> = self.copies.iter().map(|copy| copy.join(&name)).collect();
        let expected = content.clone();
        let reader = std::thread::spawn(move || see(&copies, &expected));
        let mut file = File::create(self.source.join(&name)).with_context(|| format!("cannot change {name}"))?;
        file.write_all(&content)?;
        let closed = Instant::now();
        drop(file);
        let seen = reader.join().ok().context("the reader panicked")??;
        Ok(seen.duration_since(closed).as_secs_f64() * 1e3)
    }
}

/// When the last of `copies` was read with `expected`.
fn see(copies: &[PathBuf], expected: &[u8]) -> Result<Instant> {
    let begun = Instant::now();
    let mut content = Vec::with_capacity(expected.len());
    for copy in copies {
        loop {
            content.clear();
            // A copier that removes the name for a moment is not judged here.
            if let Ok(mut file) = File::open(copy) {
                file.read_to_end(&mut content)?;
            }
            if content == expected {
                break;
            }
            if begun.elapsed() > DEADLINE {
                bail!("{} did not get its new content within {DEADLINE:?}", copy.display());
            }
        }
    }
    Ok(Instant::now())
}

fn fill(dir: &Path, seed: u64) {
    let mut rng = Rng::new(seed ^ 0xff);
    let _tree = (0..FILES).fold(Tree::at(dir), |tree, n| tree.file(name(n), rng.bytes(FILE_BYTES)));
}

fn name(n: usize) -> String {
    format!("file-{n:03}")
}

fn copy_all(route: &Route) -> Result<()> {
    for n in 0..FILES {
        for copy in &route.copies {
            fs::copy(route.source.join(name(n)), copy.join(name(n)))?;
        }
    }
    Ok(())
}

fn rsync_loop(route: &Route, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<Result<()>> {
    let (source, copy, stop) = (route.source.clone(), route.copies[0].clone(), Arc::clone(stop));
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            // By default it compares times to the second, and would miss a change that keeps the size.
            let flags = ["-a", "--delete", "--modify-window=-1"];
            let status = Command::new("rsync").args(flags).arg(with_slash(&source)).arg(&copy).status()?;
            // A file that changed while it was read is code 24 and comes with the next pass.
            if !status.success() && status.code() != Some(24) {
                bail!("rsync: {status}");
            }
            std::thread::sleep(RSYNC_PAUSE);
        }
        Ok(())
    })
}

fn start_lsyncd(route: &Route) -> Result<Child> {
    let mut command = Command::new("lsyncd");
    command.args(["-nodaemon", "-delay", "0", "-rsync"]).arg(&route.source).arg(&route.copies[0]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start lsyncd")
}

/// A directory as rsync takes it to mean its content.
pub(crate) fn with_slash(dir: &Path) -> PathBuf {
    dir.join("")
}
