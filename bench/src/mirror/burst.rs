//! Many new files in one go, live: how long after the last of them is closed the copy has all of them.

use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{Proc, Rng, lockstep, stat_differences};

/// New files, and how many share a directory.
pub(super) const FILES: usize = 10_000;
const TOGETHER: usize = 100;
const FILE_BYTES: usize = 1024;
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks: a listing of all directories takes some of it.
const LOOK: Duration = Duration::from_millis(2);

/// Seconds from the last close.
pub(super) fn seconds(dir: &Path, seed: u64) -> Result<f64> {
    let (source, copy) = (dir.join("burst"), dir.join("burst-copy"));
    fs::create_dir(&source)?;
    let mut live = lockstep();
    let live = Proc::start(live.arg("mirror").arg(&source).arg(&copy).args(["--watch", "--log", "none"]));
    live.wait_for_line("watching", DEADLINE);
    let content = Rng::new(seed).bytes(FILE_BYTES + FILES);
    for n in 0..FILES {
        let parent = source.join(format!("d{:03}", n / TOGETHER));
        if n % TOGETHER == 0 {
            fs::create_dir(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(parent.join(format!("f{n:05}")), &content[n..n + FILE_BYTES])?;
    }
    let closed = Instant::now();
    while count(&copy) < FILES {
        if closed.elapsed() > DEADLINE {
            bail!("after {DEADLINE:?} the copy has {} of {FILES} files", count(&copy));
        }
        std::thread::sleep(LOOK);
    }
    let took = closed.elapsed().as_secs_f64();
    // Times of directories come last.
    while !stat_differences(&source, &copy).is_ok_and(|differences| differences.is_empty()) {
        if closed.elapsed() > DEADLINE {
            bail!("after {DEADLINE:?} the copy is not the same");
        }
        std::thread::sleep(LOOK);
    }
    drop(live);
    fs::remove_dir_all(&source)?;
    fs::remove_dir_all(&copy)?;
    Ok(took)
}

fn count(copy: &Path) -> usize {
    let dirs = fs::read_dir(copy).into_iter().flatten().flatten();
    let named = dirs.filter(|dir| !dir.file_name().to_string_lossy().starts_with('.'));
    named.map(|dir| fs::read_dir(dir.path()).map_or(0, |files| files.flatten().filter(is_whole).count())).sum()
}

/// Whether it has its name, not a temporary one.
fn is_whole(file: &fs::DirEntry) -> bool {
    !file.file_name().to_string_lossy().starts_with('.')
}
