//! Who reads a copy while it changes never finds a name missing nor two versions in one file (M2.7, M3.7).

#![allow(clippy::print_stdout, reason = "the test harness captures it and shows it when the test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Cluster, pick, scratch};

/// Versions of a file that a reader must have seen, or it proves nothing.
const VERSIONS_SEEN_MIN: usize = 50;
/// Bytes of a file: more than one page and one read of a naive copier.
const FILE_BYTES: usize = 20_000;
/// A number at the beginning of each line.
const LINE: usize = 20;

fn files() -> usize {
    pick(60, 100)
}

fn updates() -> usize {
    pick(6_000, 10_000)
}

fn reads_min() -> usize {
    pick(50_000, 100_000)
}

/// Version `version` of a file: the same line again and again; some are shorter.
fn content(version: usize) -> Vec<u8> {
    let lines = FILE_BYTES / LINE - version % 7;
    format!("version {version:>11}\n").repeat(lines).into_bytes()
}

/// The version that a content is of.
///
/// Errors: it is none, or of two.
fn version_of(content: &[u8]) -> Result<usize, String> {
    let first = content.get(..LINE).ok_or_else(|| format!("cut: {} bytes", content.len()))?;
    let text = std::str::from_utf8(first).map_err(|e| e.to_string())?;
    let version: usize = text.trim_start_matches("version").trim().parse().map_err(|_| format!("torn: {text:?}"))?;
    if content == self::content(version) {
        return Ok(version);
    }
    Err(format!("a mixture: {} bytes that begin with version {version}", content.len()))
}

fn name(file: usize) -> String {
    format!("d{}/file-{file}", file % 3)
}

/// What a reader saw.
#[derive(Default)]
struct Seen {
    reads: usize,
    versions: Vec<BTreeSet<usize>>,
    wrong: Vec<String>,
}

/// Reads all files of `copy` again and again until `stop`.
fn read_until(stop: &AtomicBool, copy: &Path) -> Seen {
    let mut seen = Seen { versions: vec![BTreeSet::new(); files()], ..Seen::default() };
    while !stop.load(Ordering::Relaxed) && seen.wrong.len() < 10 {
        for file in 0..files() {
            seen.reads += 1;
            let version = match fs::read(copy.join(name(file))) {
                Ok(content) => version_of(&content),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err("missing".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            match version {
                Ok(version) => {
                    let newest = seen.versions[file].last().copied();
                    if newest.is_some_and(|newest| version < newest) {
                        seen.wrong.push(format!("{}: back from {newest:?} to {version}", name(file)));
                    }
                    seen.versions[file].insert(version);
                }
                Err(why) => seen.wrong.push(format!("{}: {why}", name(file))),
            }
        }
    }
    seen
}

/// Makes all updates in `share`, calls `copy` after each, and has each of `copies` read meanwhile.
///
/// # Panics
/// When a reader saw a name missing, a mixture or an older version again; or too little to say.
fn readers_see_whole_files(share: &Path, copies: &[PathBuf], mut copy: impl FnMut(usize)) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        let readers: Vec<_> = copies.iter().map(|copy| scope.spawn(|| read_until(stop, copy))).collect();
        let mut made = 0;
        let start = Instant::now();
        for update in 0..updates() {
            let (file, version) = (update % files(), update / files() + 1);
            let path = share.join(name(file));
            // Saved as most programs do. What is rewritten in place again and again is torn where it stands, too: it is
            // published with whatever it holds once it was not closed for as long as the hub waits.
            let beside = path.with_extension("new");
            fs::write(&beside, content(version)).unwrap();
            fs::rename(&beside, &path).unwrap();
            copy(file);
            made += 1;
            if readers.iter().all(thread::ScopedJoinHandle::is_finished) {
                break;
            }
            // At most 500 in a second: a reader that shares two cores with all others must get to look at each version.
            let due = Duration::from_millis(2 * made);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let start = Instant::now();
        let last = updates() / files();
        let arrived = |copy: &PathBuf| {
            (0..files()).all(|f| fs::read(copy.join(name(f))).is_ok_and(|c| version_of(&c) == Ok(last)))
        };
        let reading = || readers.iter().any(|reader| !reader.is_finished());
        while reading() && !copies.iter().all(arrived) && start.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(20));
        }
        // A slow machine has not read enough yet; the rest is read of what stands.
        thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        let seen: Vec<Seen> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        for seen in &seen {
            assert!(seen.wrong.is_empty(), "a reader saw: {:#?}", seen.wrong);
            let fewest = seen.versions.iter().map(BTreeSet::len).min().unwrap();
            println!("{} reads, at least {fewest} versions of each file", seen.reads);
            assert!(fewest >= VERSIONS_SEEN_MIN, "only {fewest} versions of a file were seen");
        }
        let reads: usize = seen.iter().map(|seen| seen.reads).sum();
        assert!(reads >= reads_min(), "only {reads} reads");
        assert!(copies.iter().all(arrived), "not all has arrived");
    });
}

fn fill(share: &Path) {
    for file in 0..files() {
        let path = share.join(name(file));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content(0)).unwrap();
    }
}

#[test]
fn m2_7_m3_7_readers_of_a_copy_never_miss_a_name_nor_see_two_versions_in_one_file() {
    let cluster = Cluster::start(fill, &[]).with_agents(2);
    readers_see_whole_files(&cluster.share(), &[cluster.copy(1), cluster.copy(2)], |_| {});
    cluster.assert_identical();
}

/// The same readers fail on a copier of the kind that must not be.
fn readers_find_out(copy_file: fn(&Path, &Path) -> io::Result<()>) {
    let dir = scratch();
    let (share, copy) = (dir.join("share"), dir.join("copy"));
    fill(&share);
    fill(&copy);
    let copier = |file: usize| copy_file(&share.join(name(file)), &copy.join(name(file))).unwrap();
    let seen = panic::catch_unwind(AssertUnwindSafe(|| {
        readers_see_whole_files(&share, std::slice::from_ref(&copy), copier);
    }));
    let why = seen.expect_err("the readers saw nothing wrong");
    let why = why.downcast_ref::<String>().expect("it says why");
    assert!(why.contains("a reader saw"), "it failed of something else: {why}");
}

#[test]
fn the_readers_find_out_a_copier_that_unlinks_first() {
    readers_find_out(|from, to| {
        let content = fs::read(from)?;
        fs::remove_file(to)?;
        fs::write(to, content)
    });
}

#[test]
fn the_readers_find_out_a_copier_that_writes_in_place() {
    readers_find_out(|from, to| fs::copy(from, to).map(drop));
}
