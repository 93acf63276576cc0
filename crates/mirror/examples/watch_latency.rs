//! Prints what watching costs: from a file's close to the consumer awake with its name, the watching and listing
//! of a tree, and events a second while a consumer takes what is due.
//!
//! `cargo run --release -p lockstep-mirror --example watch_latency`

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mirror::watch::{Waker, Watcher, now};
use tree::{Dir, RelPath};

const CHANGES: usize = 1_000;
const DIRS: usize = 10_000;
const WRITES: usize = 100_000;

struct Consumer {
    watcher: Watcher,
    woken: Arc<(Mutex<bool>, Condvar)>,
}

impl Consumer {
    fn new(root: &Path) -> Result<Self, Box<dyn Error>> {
        let woken = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = Arc::clone(&woken);
        let waker: Waker = Arc::new(move || {
            *theirs.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            theirs.1.notify_one();
        });
        Ok(Self { watcher: Watcher::start(Dir::open_root(root)?, waker, None)?, woken })
    }

    /// Waits for the waker, or for what is held.
    fn wait(&self) {
        let most = self.watcher.next_deadline().unwrap_or(Duration::from_secs(1));
        let woken = self.woken.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut woken, _) =
            self.woken.1.wait_timeout_while(woken, most, |woken| !*woken).unwrap_or_else(PoisonError::into_inner);
        *woken = false;
    }

    /// Waits until something is due, and returns when it was known.
    fn due_at(&self) -> Duration {
        loop {
            if !self.watcher.due().dirty.is_empty() {
                return now();
            }
            self.wait();
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let out = &mut std::io::stdout();
    let top = tempfile::tempdir()?;
    latency(top.path(), out)?;
    tree(top.path(), out)?;
    flood(top.path(), out)
}

fn latency(top: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let root = top.join("latency");
    fs::create_dir(&root)?;
    // Many files in turn, ready to be overwritten, so that none is hot.
    let files: Vec<_> = (0..CHANGES).map(|i| root.join(format!("f{}", i % 500))).collect();
    for file in &files {
        fs::write(file, [b'x'; 1024])?;
    }
    let consumer = Consumer::new(&root)?;
    consumer.watcher.add_tree(&RelPath::root());
    let turn = Arc::new((Mutex::new(None::<Duration>), Condvar::new()));
    let writer_turn = Arc::clone(&turn);
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        for file in files {
            // The consumer sleeps by then.
            std::thread::sleep(Duration::from_millis(1));
            let mut file = fs::OpenOptions::new().write(true).open(file)?;
            file.write_all(&[b'y'; 1024])?;
            let mut closed = writer_turn.0.lock().unwrap_or_else(PoisonError::into_inner);
            *closed = Some(now());
            drop(file);
            while closed.is_some() {
                closed = writer_turn.1.wait(closed).unwrap_or_else(PoisonError::into_inner);
            }
        }
        Ok(())
    });
    let mut spans = Vec::with_capacity(CHANGES);
    for _ in 0..CHANGES {
        let due = consumer.due_at();
        let mut closed = turn.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.push(due.saturating_sub(closed.take().unwrap_or(due)));
        turn.1.notify_one();
    }
    writer.join().map_err(|_| "the writer panicked")??;
    spans.sort_unstable();
    let at = |per_mille: usize| spans[spans.len() * per_mille / 1000];
    writeln!(out, "close to due, {CHANGES} changes: p50 {:?}, p95 {:?}, p99 {:?}", at(500), at(950), at(990))?;
    Ok(())
}

fn tree(top: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let root = top.join("tree");
    for i in 0..DIRS {
        fs::create_dir_all(root.join(format!("{}/{}", i % 100, i)))?;
    }
    let consumer = Consumer::new(&root)?;
    let (start, before) = (Instant::now(), resident_kib());
    consumer.watcher.add_tree(&RelPath::root());
    let spent = start.elapsed();
    let grown = resident_kib().saturating_sub(before);
    writeln!(
        out,
        "watch and list {DIRS} directories: {spent:?}, {} unwatched, {grown} KiB more resident",
        consumer.watcher.unwatched().len()
    )?;
    Ok(())
}

fn flood(top: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let root = top.join("flood");
    fs::create_dir(&root)?;
    let consumer = Consumer::new(&root)?;
    let start = Instant::now();
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        for i in 0..WRITES {
            // Without truncation, which on ext4 waits for the disk at each close.
            let file = root.join(format!("f{}", i % 1000));
            fs::OpenOptions::new().write(true).create(true).truncate(false).open(file)?.write_all(b"x")?;
        }
        Ok(())
    });
    let (mut looks, mut overflows) = (0, 0);
    while !writer.is_finished() {
        let due = consumer.watcher.due();
        looks += due.dirty.len();
        overflows += due.news.len();
        consumer.wait();
    }
    writer.join().map_err(|_| "the writer panicked")??;
    let mark = consumer.watcher.barrier();
    let spent = start.elapsed();
    while !consumer.watcher.passed(mark) {
        looks += consumer.watcher.due().dirty.len();
        consumer.wait();
    }
    let rate = 1_000 * WRITES as u128 / spent.as_millis().max(1);
    writeln!(out, "flood of {WRITES} writes to 1000 files: {rate} writes a second, {looks} looks, {overflows} news")?;
    Ok(())
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
