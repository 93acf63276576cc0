//! Who reads a copy while it changes never finds a name missing nor two versions in one file (M2.7, M3.7).

#![allow(clippy::print_stdout, reason = "the test harness captures it and shows it when the test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Cluster, Proc, lockstep, pick, scratch};

/// Bytes of a file: more than one page and one read of a naive copier.
const FILE_BYTES: usize = 20_000;
/// A reader that saw so much wrong has seen enough.
const WRONG_MAX: usize = 100;
/// A number at the beginning of each line.
const LINE: usize = 20;
/// How long a file that is rewritten in place is empty, and then half.
const HALF_WRITTEN: Duration = Duration::from_micros(500);
/// What a writer leaves half for this long is taken for what it wanted to say, and is shown.
const WRITTEN_QUIET: Duration = Duration::from_millis(100);

/// How the files are changed, and what a reader must have seen of it, or it proves nothing.
#[derive(Clone, Copy)]
struct Story {
    files: usize,
    updates: usize,
    /// From the begin of an update to that of the next.
    pause: Duration,
    save: fn(&Path, &[u8], &mut dyn FnMut()),
    /// See [`Reading`].
    in_place: bool,
    /// Versions of each file that each reader saw.
    versions_min: usize,
    /// Reads of all readers.
    reads_min: usize,
}

/// Saved as most programs do, at most 500 times in a second: a reader that shares two cores with all others must get to
/// look at each version.
fn saved_beside() -> Story {
    Story {
        files: pick(60, 100),
        updates: pick(6_000, 10_000),
        pause: Duration::from_millis(2),
        save: |path, content, _| {
            let beside = path.with_extension("new");
            fs::write(&beside, content).unwrap();
            fs::rename(&beside, path).unwrap();
        },
        in_place: false,
        versions_min: 50,
        reads_min: pick(50_000, 100_000),
    }
}

/// Truncated and written in two parts, each file some 70 times in a second, so that each tenth look at one finds it empty
/// or half. What changes so often is thinned to two versions a second.
fn rewritten_in_place() -> Story {
    Story {
        files: 7,
        updates: pick(7_000, 40_000),
        pause: Duration::from_millis(2),
        save: |path, content, half| {
            let mut file = fs::File::create(path).unwrap();
            thread::sleep(HALF_WRITTEN);
            file.write_all(&content[..content.len() / 2]).unwrap();
            half();
            thread::sleep(HALF_WRITTEN);
            file.write_all(&content[content.len() / 2..]).unwrap();
        },
        in_place: true,
        versions_min: 10,
        reads_min: pick(20_000, 100_000),
    }
}

/// Version `version` of a file: the same line again and again; some are shorter.
pub(crate) fn content(version: usize) -> Vec<u8> {
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

/// The version whose first half this is; nothing at all may be that of any.
fn half_of(content: &[u8]) -> Option<usize> {
    let number = || std::str::from_utf8(content.get(..LINE)?).ok()?.trim_start_matches("version").trim().parse().ok();
    let half = |version: &usize| {
        let whole = self::content(*version);
        content == &whole[..whole.len() / 2]
    };
    if content.is_empty() { None } else { Some(number().filter(half).unwrap_or(NOBODYS)) }
}

fn name(file: usize) -> String {
    format!("d{}/file-{file}", file % 3)
}

/// What a reader saw.
#[derive(Default)]
struct Seen {
    reads: usize,
    versions: Vec<BTreeSet<usize>>,
    wrong: Vec<Wrong>,
}

/// Half of no version.
const NOBODYS: usize = usize::MAX;

/// What must not be, unless this version of this file was left half for so long that it was to be shown.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    file: usize,
    /// Whose half it is, or [`NOBODYS`]; none if it is empty, which may be anyone's.
    half_of: Option<usize>,
    why: String,
}

/// Where a file is in a copy, by its number.
pub(crate) type Called<'a> = &'a (dyn Fn(usize) -> String + Sync);

/// Reads all files of `copy` again and again until `stop`.
fn read_until(stop: &AtomicBool, files: usize, name: Called<'_>, copy: &Path) -> Seen {
    let mut seen = Seen { versions: vec![BTreeSet::new(); files], ..Seen::default() };
    while !stop.load(Ordering::Relaxed) && seen.wrong.len() < WRONG_MAX {
        for file in 0..files {
            seen.reads += 1;
            let content = fs::read(copy.join(name(file)));
            let version = match &content {
                Ok(content) => version_of(content),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err("missing".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            let mut wrong = |why, half_of| {
                let wrong = Wrong { file, half_of, why: format!("{}: {why}", name(file)) };
                // It stands until the next version comes, for thousands of reads.
                if seen.wrong.last() != Some(&wrong) {
                    seen.wrong.push(wrong);
                }
            };
            match version {
                Ok(version) => {
                    let newest = seen.versions[file].last().copied();
                    if newest.is_some_and(|newest| version < newest) {
                        wrong(format!("back from {newest:?} to {version}"), Some(NOBODYS));
                    }
                    seen.versions[file].insert(version);
                }
                Err(why) => wrong(why, half_of(content.as_deref().unwrap_or(b"none"))),
            }
        }
    }
    seen
}

/// When a copier is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Now {
    /// The file is half written.
    Half,
    /// The file is whole.
    Whole,
}

/// Makes all updates of `story` in `share`, calls `copy` in and after each, and has each of `copies` read meanwhile.
///
/// # Panics
/// When a reader saw a name missing, a mixture or an older version again; or too little to say.
fn readers_see_whole_files(story: Story, share: &Path, copies: &[PathBuf], mut copy: impl FnMut(usize, Now)) {
    let Story { files, updates, pause, save, in_place, versions_min, reads_min } = story;
    let reading = Reading { files, updates, pause, in_place, versions_min, reads_min };
    readers_see_whole_files_called(&name, reading, copies, |file, content| {
        save(&share.join(name(file)), content, &mut || copy(file, Now::Half));
        copy(file, Now::Whole);
    });
}

/// How often which files change, and what a reader must have seen of it; see [`Story`].
pub(crate) struct Reading {
    pub(crate) files: usize,
    pub(crate) updates: usize,
    pub(crate) pause: Duration,
    /// A change goes through the file itself: while it is not done, the file is empty or half.
    pub(crate) in_place: bool,
    pub(crate) versions_min: usize,
    pub(crate) reads_min: usize,
}

/// As above, for files that are changed by `change`, which gets a number and the new content.
///
/// # Panics
/// As above.
pub(crate) fn readers_see_whole_files_called(
    name: Called<'_>,
    reading: Reading,
    copies: &[PathBuf],
    mut change: impl FnMut(usize, &[u8]),
) {
    let Reading { files, updates, pause, in_place, versions_min, reads_min } = reading;
    // Changes, by file and version, that a starved machine had stand still in the middle.
    let mut stood_still: Vec<(usize, usize)> = Vec::new();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        let readers: Vec<_> =
            copies.iter().map(|copy| scope.spawn(move || read_until(stop, files, name, copy))).collect();
        let start = Instant::now();
        for update in 0..updates {
            let (file, version) = (update % files, update / files + 1);
            let began = Instant::now();
            change(file, &content(version));
            if in_place && began.elapsed() >= WRITTEN_QUIET {
                stood_still.push((file, version));
            }
            if readers.iter().all(thread::ScopedJoinHandle::is_finished) {
                break;
            }
            let due = pause * u32::try_from(update).unwrap();
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let start = Instant::now();
        let last = updates / files;
        let arrived = |copy: &PathBuf| {
            (0..files).all(|f| fs::read(copy.join(name(f))).is_ok_and(|c| version_of(&c).is_ok_and(|v| v >= last)))
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
            let excused = |wrong: &&Wrong| {
                let half = |of: &usize| wrong.half_of.is_none_or(|half_of| half_of == *of);
                stood_still.iter().any(|(file, version)| *file == wrong.file && half(version))
            };
            let wrong: Vec<_> = seen.wrong.iter().filter(|wrong| !excused(wrong)).collect();
            assert!(wrong.is_empty(), "a reader saw: {wrong:#?}; stood still half: {stood_still:?}");
            let fewest = seen.versions.iter().map(BTreeSet::len).min().unwrap();
            println!("{} reads, at least {fewest} versions of each file", seen.reads);
            assert!(fewest >= versions_min, "only {fewest} versions of a file were seen");
        }
        let reads: usize = seen.iter().map(|seen| seen.reads).sum();
        assert!(reads >= reads_min, "only {reads} reads");
        assert!(copies.iter().all(arrived), "not all has arrived");
    });
}

fn fill(story: Story, share: &Path) {
    for file in 0..story.files {
        let path = share.join(name(file));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content(0)).unwrap();
    }
}

fn readers_of_agents_see_whole_files(story: Story) {
    let cluster = Cluster::start(|share| fill(story, share), &[]).with_agents(2);
    readers_see_whole_files(story, &cluster.share(), &[cluster.copy(1), cluster.copy(2)], |_, _| {});
    cluster.assert_identical();
}

#[test]
fn m2_7_m3_7_readers_of_a_copy_never_miss_a_name_nor_see_two_versions_in_one_file() {
    readers_of_agents_see_whole_files(saved_beside());
}

#[test]
fn m2_7_m3_7_readers_of_a_copy_never_see_what_a_writer_in_place_leaves_half() {
    readers_of_agents_see_whole_files(rewritten_in_place());
}

fn readers_of_a_mirror_see_whole_files(story: Story) {
    let dir = scratch();
    let (source, copy) = (dir.join("source"), dir.join("copy"));
    fill(story, &source);
    let mirror = Proc::start(lockstep().arg("mirror").arg(&source).arg(&copy).args(["--watch", "--log", "none"]));
    mirror.wait_for_line("watching", Duration::from_secs(20));
    readers_see_whole_files(story, &source, std::slice::from_ref(&copy), |_, _| {});
}

#[test]
fn m2_7_readers_of_a_mirror_never_miss_a_name_nor_see_two_versions_in_one_file() {
    readers_of_a_mirror_see_whole_files(Story { versions_min: 30, ..saved_beside() });
}

#[test]
fn m2_7_readers_of_a_mirror_never_see_what_a_writer_in_place_leaves_half() {
    readers_of_a_mirror_see_whole_files(rewritten_in_place());
}

/// The same readers fail on a copier of the kind that must not be, called when `now` is.
fn readers_find_out(story: Story, now: Now, copy_file: fn(&Path, &Path) -> io::Result<()>) {
    let dir = scratch();
    let (share, copy) = (dir.join("share"), dir.join("copy"));
    fill(story, &share);
    fill(story, &copy);
    let copier = |file: usize, when: Now| {
        if when == now {
            copy_file(&share.join(name(file)), &copy.join(name(file))).unwrap();
        }
    };
    let seen = panic::catch_unwind(AssertUnwindSafe(|| {
        readers_see_whole_files(story, &share, std::slice::from_ref(&copy), copier);
    }));
    let why = seen.expect_err("the readers saw nothing wrong");
    let why = why.downcast_ref::<String>().expect("it says why");
    assert!(why.contains("a reader saw"), "it failed of something else: {why}");
}

#[test]
fn the_readers_find_out_a_copier_that_unlinks_first() {
    readers_find_out(saved_beside(), Now::Whole, |from, to| {
        let content = fs::read(from)?;
        fs::remove_file(to)?;
        fs::write(to, content)
    });
}

#[test]
fn the_readers_find_out_a_copier_that_writes_in_place() {
    readers_find_out(saved_beside(), Now::Whole, |from, to| fs::copy(from, to).map(drop));
}

#[test]
fn the_readers_find_out_a_copier_that_does_not_wait_for_the_close() {
    readers_find_out(rewritten_in_place(), Now::Half, |from, to| {
        let beside = to.with_extension("new");
        fs::copy(from, &beside)?;
        fs::rename(beside, to)
    });
}
