//! A first copy, passes that find nothing, little or much to do, large files, a burst of new files live; memory and system calls.
//!
//! Each round has a file system of its own ([`place`]), on which the source is made anew and every contender has a copy. A
//! case is done by all of them in turn, then its results are compared with the source, then the source is changed for the
//! next one. What was written before goes to the disk before the clock starts.

mod burst;
mod copiers;
mod place;

use crate::harness::{Group, Report, Series};
use crate::machine;
use crate::peers::built;
use anyhow::{Context as _, Result, bail, ensure};
use copiers::{Copier, FLOOR, OURS, OURS_ALONE, RCP, RSYNC, Then, XCP, walk_floor};
use place::Place;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Rng, pick, scratch, vendor_tree};

/// Small files, and how many share a directory; of each directory one file changes, and ten are deleted.
const TOGETHER: usize = 100;
const DELETED: usize = TOGETHER / 10;
/// Bytes of each.
const SMALL_BYTES: std::ops::RangeInclusive<usize> = 1_024..=8_192;
/// Files of the tree in which system calls are counted: the sources of crates this workspace builds.
const COUNTED_FILES_MIN: usize = 1_500;

/// How large all of it is.
struct Sizes {
    rounds: usize,
    small: usize,
    large: usize,
    large_bytes: usize,
}

pub(crate) fn run() -> Result<Report> {
    let sizes = pick(
        Sizes { rounds: 3, small: 20_000, large: 4, large_bytes: 128 << 20 },
        Sizes { rounds: 5, small: 100_000, large: 8, large_bytes: 256 << 20 },
    );
    let dir = scratch();
    let mut notes = Vec::new();
    let copiers = Copier::all(&dir, &mut notes)?;
    let mut cases = Cases::default();
    let mut fresh = true;
    for round in 0..sizes.rounds {
        let place = Place::fresh(&dir, sizes.small * (copiers.len() + 2) + 50_000)?;
        fresh &= place.is_fresh();
        let turns: Vec<&Copier> = (0..copiers.len()).map(|n| &copiers[(n + round) % copiers.len()]).collect();
        cases.small_files(&dir, &place, &turns, &sizes, round)?;
        cases.large_files(&place, &turns, &sizes)?;
        cases.add("10,000 new files, live, after the last close", OURS, burst::seconds(&place.join(""), round as u64)?);
    }
    notes.push(match fresh {
        true => "each round on a new journaled ext4 in a file; results compared with the source after each case".into(),
        false => {
            "no file system could be made, so all rounds are on the scratch directory: its past is in the figures; \
                  results compared with the source after each case"
                .into()
        }
    });
    let mut groups = cases.groups();
    notes.extend(aims(&groups));
    groups.push(Group {
        title: format!("most memory resident in a first copy of {} files", sizes.small),
        unit: "MiB",
        series: memory(&dir, &copiers, sizes.small)?,
    });
    if machine::installed("strace") {
        notes.extend(calls(&dir, &copiers)?);
    } else {
        notes.push("strace is not installed: system calls were not counted".into());
    }
    Ok(Report {
        bench: "mirror",
        compares: format!(
            "{} files of 1 to 8 KiB in directories of {TOGETHER}, and {} of {} MiB",
            sizes.small,
            sizes.large,
            sizes.large_bytes >> 20
        ),
        groups,
        notes,
    })
}

/// The figures of each case, in the order in which they came about.
#[derive(Default)]
struct Cases(Vec<Group>);

impl Cases {
    fn add(&mut self, title: &str, name: &str, figure: f64) {
        let group = match self.0.iter_mut().position(|group| group.title == title) {
            Some(at) => &mut self.0[at],
            None => {
                self.0.push(Group { title: title.into(), unit: "s", series: Vec::new() });
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        match group.series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.figures.push(figure),
            None => group.series.push(Series { name: name.into(), figures: vec![figure] }),
        }
    }

    /// Ourselves first in each: the others are measured by that.
    fn groups(mut self) -> Vec<Group> {
        for group in &mut self.0 {
            group.series.sort_by_key(|series| (series.name != OURS, series.name != OURS_ALONE));
        }
        self.0
    }

    /// Has all who can do a case do it, and compares.
    fn case(&mut self, title: &str, place: &Place, turns: &[&Copier], then: Then, source: &Path) -> Result<()> {
        for copier in turns.iter().filter(|copier| copier.can(then)) {
            let copy = place.join(&copier.slug());
            place.settle()?;
            let took = timed(&mut copier.command(source, &copy)).with_context(|| title.to_owned())?;
            self.add(title, copier.name, took);
        }
        for copier in turns.iter().filter(|copier| copier.can(then)) {
            copier.check(source, &place.join(&copier.slug()), title != NOTHING).with_context(|| title.to_owned())?;
        }
        Ok(())
    }

    fn small_files(&mut self, dir: &Path, place: &Place, turns: &[&Copier], sizes: &Sizes, round: usize) -> Result<()> {
        let source = place.join("source");
        small_files(&source, sizes.small)?;
        self.case("first copy of small files", place, turns, Then::Nothing, &source)?;
        self.case(NOTHING, place, turns, Then::Changes, &source)?;
        let copy = place.join(&turns.iter().find(|copier| copier.name == OURS).context("we take part")?.slug());
        for (name, threads) in [("C floor, only the walk", copiers::threads()), ("C floor, only the walk, 1 thread", 1)]
        {
            self.add(NOTHING, name, timed(&mut walk_floor(dir, &source, &copy, threads))?);
        }
        if place.is_fresh() {
            for copier in turns.iter().filter(|copier| copier.can(Then::Deletions)) {
                place.settle()?;
                place.forget()?;
                let took = timed(&mut copier.command(&source, &place.join(&copier.slug())))?;
                self.add("nothing changed, nothing cached", copier.name, took);
            }
        }
        each_directory(&source, |n, file| if n == 7 { change(file, round) } else { Ok(()) })?;
        self.case("1 % changed", place, turns, Then::Changes, &source)?;
        each_directory(&source, |n, file| if n < DELETED { Ok(fs::remove_file(file)?) } else { Ok(()) })?;
        self.case("10 % deleted", place, turns, Then::Deletions, &source)?;
        fs::remove_dir_all(&source)?;
        fs::create_dir(&source)?;
        fs::write(source.join("one"), "so that it is not empty")?;
        for copier in turns.iter().filter(|copier| [OURS, FLOOR, RSYNC].contains(&copier.name)) {
            let mut command = copier.command(&source, &place.join(&copier.slug()));
            if copier.name == OURS {
                command.arg("--allow-mass-delete");
            }
            place.settle()?;
            self.add("all deleted", copier.name, timed(&mut command)?);
            copier.check(&source, &place.join(&copier.slug()), true)?;
        }
        for copier in turns {
            fs::remove_dir_all(place.join(&copier.slug()))?;
        }
        Ok(fs::remove_dir_all(&source)?)
    }

    fn large_files(&mut self, place: &Place, turns: &[&Copier], sizes: &Sizes) -> Result<()> {
        let source = place.join("large");
        fs::create_dir(&source)?;
        let content = Rng::new(9).bytes(1 << 20);
        for n in 0..sizes.large {
            let file = File::create(source.join(n.to_string()))?;
            for at in (0..sizes.large_bytes).step_by(content.len()) {
                file.write_all_at(&content, at as u64)?;
            }
        }
        for copier in turns {
            let copy = place.join(&format!("large-{}", copier.slug()));
            place.settle()?;
            self.add("first copy of large files", copier.name, timed(&mut copier.command(&source, &copy))?);
            copier.check(&source, &copy, true)?;
            fs::remove_dir_all(&copy)?;
        }
        Ok(fs::remove_dir_all(&source)?)
    }
}

const NOTHING: &str = "nothing changed";

fn small_files(source: &Path, count: usize) -> Result<()> {
    let mut rng = Rng::new(4);
    let content = rng.bytes(64 << 10);
    for n in 0..count {
        let parent = source.join(format!("d{:04}", n / TOGETHER));
        if n % TOGETHER == 0 {
            fs::create_dir_all(&parent)?;
        }
        let length = SMALL_BYTES.start() + rng.below(SMALL_BYTES.end() - SMALL_BYTES.start() + 1);
        let from = rng.below(content.len() - length);
        fs::write(parent.join(format!("f{:03}", n % TOGETHER)), &content[from..from + length])?;
    }
    Ok(())
}

/// Calls `each` with the files of each directory, and the number of each in there.
fn each_directory(source: &Path, mut each: impl FnMut(usize, &Path) -> Result<()>) -> Result<()> {
    for dir in fs::read_dir(source)? {
        let mut files: Vec<PathBuf> = fs::read_dir(dir?.path())?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
        files.sort();
        for (n, file) in files.iter().enumerate() {
            each(n, file)?;
        }
    }
    Ok(())
}

/// Other content, and by another second: rsync and others see no less.
fn change(file: &Path, round: usize) -> Result<()> {
    let opened = OpenOptions::new().write(true).open(file)?;
    opened.write_all_at(format!("changed in round {round}").as_bytes(), 0)?;
    Ok(opened.set_modified(std::time::SystemTime::now() + Duration::from_secs(5))?)
}

/// What the project aims at, each with what was found.
fn aims(groups: &[Group]) -> Vec<String> {
    let series = |title: &str, name: &str| {
        groups.iter().find(|group| group.title == title)?.series.iter().find(|series| series.name == name)
    };
    let aim = |(title, other, most): (&str, &str, f64)| {
        let ratio = series(title, OURS)?.ratio_to(series(title, other)?);
        let met = if ratio <= most { "met" } else { "missed" };
        Some(format!("aim: {title} at most {most:.2} × {other}: {ratio:.2}, {met}"))
    };
    let ratios = [
        (NOTHING, RSYNC, 0.4),
        (NOTHING, "C floor, only the walk", 1.5),
        ("nothing changed, nothing cached", RSYNC, 0.5),
        ("1 % changed", RSYNC, 0.5),
        ("10 % deleted", RSYNC, 0.5),
        ("10 % deleted", FLOOR, 1.3),
        ("all deleted", RSYNC, 0.5),
        ("all deleted", FLOOR, 1.3),
        ("first copy of small files", RSYNC, 0.55),
        ("first copy of small files", FLOOR, 1.3),
        ("first copy of large files", XCP, 1.1),
        ("first copy of large files", RCP, 1.1),
    ];
    ratios.into_iter().filter_map(aim).collect()
}

/// The most memory each had resident, in a first copy.
fn memory(dir: &Path, copiers: &[Copier], count: usize) -> Result<Vec<Series>> {
    let place = Place::fresh(dir, count * (copiers.len() + 1) + 50_000)?;
    let (peak, found, source) = (built("peak", dir)?, dir.join("peak.txt"), place.join("source"));
    small_files(&source, count)?;
    let mut all = Vec::new();
    for copier in copiers {
        let command = copier.command(&source, &place.join(&copier.slug()));
        timed(&mut behind(&[peak.as_os_str(), found.as_os_str()], &command))?;
        let kib: f64 = fs::read_to_string(&found)?.trim().parse().context("no number from peak")?;
        all.push(Series { name: copier.name.into(), figures: vec![kib / 1024.0] });
    }
    Ok(all)
}

/// How many system calls each makes an entry, all its processes and threads together.
fn calls(dir: &Path, copiers: &[Copier]) -> Result<Vec<String>> {
    let source = dir.join("counted");
    let files = vendor_tree(&source, COUNTED_FILES_MIN);
    let mut notes = Vec::new();
    for copier in copiers {
        let copy = dir.join("counted-copy");
        let count = || Ok::<_, anyhow::Error>(syscalls(&copier.command(&source, &copy), dir)? as f64 / files as f64);
        let first = count()?;
        let then = if copier.can(Then::Changes) { format!(", {:.2} without changes", count()?) } else { String::new() };
        notes.push(format!("{}: {first:.1} system calls a file for the first copy{then}", copier.name));
        fs::remove_dir_all(&copy)?;
    }
    Ok(notes)
}

/// `command`, started by another one.
fn behind(by: &[&std::ffi::OsStr], command: &Command) -> Command {
    let mut outer = Command::new(by[0]);
    outer.args(&by[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Seconds until it ended well.
pub(crate) fn timed(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// System calls of `command` and its children.
fn syscalls(command: &Command, dir: &Path) -> Result<u64> {
    let table = dir.join("strace.txt");
    let flags = ["strace", "-f", "-c", "-o"].map(std::ffi::OsStr::new);
    timed(&mut behind(&[&flags[..], &[table.as_os_str()]].concat(), command))?;
    let table = fs::read_to_string(&table).context("strace wrote no table")?;
    let total = table.lines().rev().find(|line| line.ends_with("total")).context("strace's table has no total")?;
    // % time, seconds, usecs/call, calls: from some version on without the third in the total.
    let numbers: Vec<&str> = total.split_whitespace().collect();
    let whole = |word: &&str| word.parse::<u64>().ok();
    let calls = numbers.iter().skip(2).filter_map(whole).max().context("strace's total has no calls")?;
    ensure!(calls > 0, "strace counted nothing");
    Ok(calls)
}
