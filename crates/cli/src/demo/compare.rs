//! Whether two directories are the same, by plain file calls and none of our own code.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What differs, one line a place: kinds, contents, modes, times to the nanosecond, link targets, what is missing or extra.
pub(super) fn differences(a: &Path, b: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    compare(a, b, &mut found)?;
    Ok(found)
}

fn compare(a: &Path, b: &Path, found: &mut Vec<String>) -> io::Result<()> {
    let (in_a, in_b) = (a.symlink_metadata(), b.symlink_metadata());
    let place = || tree::path::escape(b.as_os_str().as_encoded_bytes());
    let (in_a, in_b) = match (in_a, in_b) {
        (Ok(in_a), Ok(in_b)) => (in_a, in_b),
        (Ok(_), Err(e)) if e.kind() == io::ErrorKind::NotFound => {
            found.push(format!("{} is missing", place()));
            return Ok(());
        }
        (Err(e), Ok(_)) if e.kind() == io::ErrorKind::NotFound => {
            found.push(format!("{} is extra", place()));
            return Ok(());
        }
        (Err(e), _) | (_, Err(e)) => return Err(e),
    };
    if in_a.file_type() != in_b.file_type() {
        found.push(format!("{} is of another kind", place()));
        return Ok(());
    }
    if in_a.mode() != in_b.mode() {
        found.push(format!("{} has mode {:o} instead of {:o}", place(), in_b.mode(), in_a.mode()));
    }
    if (in_a.mtime(), in_a.mtime_nsec()) != (in_b.mtime(), in_b.mtime_nsec()) {
        found.push(format!("{} has another time", place()));
    }
    if in_a.is_dir() {
        let mut names = BTreeSet::new();
        for dir in [a, b] {
            for entry in fs::read_dir(dir)? {
                names.insert(entry?.file_name());
            }
        }
        for name in names {
            compare(&a.join(&name), &b.join(&name), found)?;
        }
    } else if in_a.is_symlink() {
        if fs::read_link(a)? != fs::read_link(b)? {
            found.push(format!("{} points elsewhere", place()));
        }
    } else if in_a.len() != in_b.len() || fs::read(a)? != fs::read(b)? {
        found.push(format!("{} has another content", place()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_planted_difference_is_seen() {
        type Plant = (&'static str, fn(&Path));
        let plant: [Plant; 5] = [
            ("another content", |b| fs::write(b.join("run.sh"), "#!/bin/sh\necho lockstap\n").unwrap()),
            ("is missing", |b| fs::remove_dir(b.join("empty")).unwrap()),
            ("is extra", |b| fs::write(b.join("more"), "").unwrap()),
            ("points elsewhere", |b| {
                fs::remove_file(b.join("newest")).unwrap();
                std::os::unix::fs::symlink("elsewhere", b.join("newest")).unwrap();
            }),
            ("another time", |b| {
                let file = fs::File::options().write(true).open(b.join("large.bin")).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            }),
        ];
        for (expected, plant) in plant {
            let scratch = tempfile::tempdir().unwrap();
            let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
            super::super::sample::fill(&a).unwrap();
            copy(&a, &b);
            assert_eq!(differences(&a, &b).unwrap(), Vec::<String>::new());
            plant(&b);
            let found = differences(&a, &b).unwrap();
            assert!(found.iter().any(|line| line.contains(expected)), "{expected}: {found:?}");
        }
    }

    /// `cp -a`, which every machine has.
    fn copy(a: &Path, b: &Path) {
        let copied = std::process::Command::new("cp").arg("-a").arg(a).arg(b).status().unwrap();
        assert!(copied.success());
    }
}
