//! A first copy and a pass without changes, of a real source tree, beside `rsync -a --delete` and `cp -a`.

use crate::harness::{Contender, Group, Report, interleave};
use crate::live::with_slash;
use crate::machine;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use support::{lockstep, same_trees, scratch, vendor_tree};

/// Rounds of each.
const ROUNDS: usize = 3;
/// Files of the tree at least: the sources of crates this workspace builds.
const FILES_MIN: usize = 3_000;

pub(crate) fn run() -> Result<Report> {
    let dir = scratch();
    let source = dir.join("src");
    let files = vendor_tree(&source, FILES_MIN);
    let copiers: Vec<(&str, Copier)> =
        [("lockstep mirror", ours as Copier), ("rsync -a --delete", rsync), ("cp -a", cp)]
            .into_iter()
            .filter(|(name, _)| machine::installed("rsync") || !name.starts_with("rsync"))
            .collect();

    let first = copiers.iter().map(|(name, copier)| {
        let (source, copy) = (&source, dir.join(name.replace(' ', "-")));
        Contender::new(*name, move |_| {
            if copy.exists() {
                fs::remove_dir_all(&copy)?;
            }
            let took = timed(&mut copier(source, &copy))?;
            same_trees(source, &copy).map_err(anyhow::Error::msg)?;
            Ok(took)
        })
    });
    let first = interleave(ROUNDS, first.collect())?;

    // `cp` has no pass without changes: it would copy everything again.
    let again = copiers.iter().filter(|(name, _)| !name.starts_with("cp")).map(|(name, copier)| {
        let (source, copy) = (&source, dir.join(name.replace(' ', "-")));
        Contender::new(*name, move |_| timed(&mut copier(source, &copy)))
    });
    let again = interleave(ROUNDS, again.collect())?;

    let mut notes = vec![format!("{files} files; caches warm; results compared after each first copy")];
    if machine::installed("strace") {
        for (name, copier) in &copiers {
            let copy = dir.join("counted");
            let counts = [syscalls(&mut copier(&source, &copy), &dir)?, syscalls(&mut copier(&source, &copy), &dir)?];
            let per_file = counts.map(|count| count as f64 / files as f64);
            let no_op =
                if name.starts_with("cp") { String::new() } else { format!(", {:.2} without changes", per_file[1]) };
            notes.push(format!("{name}: {:.2} system calls a file for the first copy{no_op}", per_file[0]));
            fs::remove_dir_all(&copy)?;
        }
    } else {
        notes.push("strace is not installed: system calls were not counted".into());
    }
    Ok(Report {
        bench: "mirror",
        compares: "a first copy of a source tree, and a pass that finds nothing to do".into(),
        groups: vec![
            Group { title: "first copy".into(), unit: "s", series: first },
            Group { title: "without changes".into(), unit: "s", series: again },
        ],
        notes,
    })
}

type Copier = fn(&Path, &Path) -> Command;

fn ours(source: &Path, copy: &Path) -> Command {
    let mut command = lockstep();
    command.arg("mirror").arg(source).arg(copy).args(["--log", "none"]);
    command
}

fn rsync(source: &Path, copy: &Path) -> Command {
    let mut command = Command::new("rsync");
    command.args(["-a", "--delete"]).arg(with_slash(source)).arg(copy);
    command
}

fn cp(source: &Path, copy: &Path) -> Command {
    let mut command = Command::new("cp");
    command.args(["-a", "-T"]).arg(source).arg(copy);
    command
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
fn syscalls(command: &mut Command, dir: &Path) -> Result<u64> {
    let table = dir.join("strace.txt");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(&table).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            strace.env(name, value);
        }
    }
    timed(&mut strace)?;
    let table = fs::read_to_string(&table).context("strace wrote no table")?;
    let total = table.lines().rev().find(|line| line.ends_with("total")).context("strace's table has no total")?;
    // % time, seconds, usecs/call, calls: from some version on without the third in the total.
    let numbers: Vec<&str> = total.split_whitespace().collect();
    let whole = |word: &&str| word.parse::<u64>().ok();
    let calls = numbers.iter().skip(2).filter_map(whole).max().context("strace's total has no calls")?;
    Ok(calls)
}
